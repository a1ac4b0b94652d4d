"""The temperature of the highest likelihood."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import optimize

from conformask import _core
from conformask._warnings import warn_caller
from conformask.scaling._likelihood import standard_errors, thinned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.scaling._pixels import Pixels

__all__ = ["MOST", "Temperature", "best_temperature", "tempered_losses", "warn_unbounded"]

# Temperatures are looked for between its inverse and it.
MOST = 1e3
# How exact, as a share of it, that of fewer pixels is.
_NEAR = 0.005
# Newton's method is for a first step that is smaller, as a share.
_STEP = 0.2


class Temperature(NamedTuple):
    """What was found."""

    inverse: float
    unbounded: bool  # whether the likelihood still rises at the end of the range
    loss: float
    before: float  # the loss at 1
    standard_error: float  # of the temperature, by how much the slopes of images (groups) differ


def tempered_losses(pixels: Pixels, factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log loss of ``softmax(s u)`` of each pixel and its first two derivatives by s, (N, 3)."""
    return _core.tempered_losses(pixels.features, pixels.labels, np.ascontiguousarray(factors, np.float64))


def warn_unbounded(temperature: float, which: str = "") -> None:
    """Says that a temperature is at the end of its range, and what that means."""
    why = (
        "every drawn pixel that it was fitted to is right, or logits are very small; probabilities will be 0 and 1. "
        "Use more images"
        if temperature < 1
        else "labels have no larger logits than other classes; check that X and y belong together, and use more images"
    )
    warn_caller(
        f"the likelihood still rises at T = {temperature:.6g}, the end of the range, for the temperature{which}: {why}",
        UserWarning,
    )


def best_temperature(pixels: Pixels, tolerance: float = 1e-10) -> Temperature:
    """That of pixels, whose mean loss is convex in its inverse; that is as exact as `tolerance`, as a share of it."""
    holds_pixels = np.diff(pixels.ends, prepend=0) > 0
    starts = np.append(0, pixels.ends[:-1]).astype(np.intp)[holds_pixels]

    @cache
    def of_units(factor: float) -> NDArray[np.float64]:
        losses = tempered_losses(pixels, np.full(len(pixels.labels), factor))
        losses *= pixels.weights[:, np.newaxis]
        return np.add.reduceat(losses, starts, axis=0)

    def at(factor: float) -> tuple[float, float, float]:
        loss, slope, bend = of_units(float(factor)).sum(axis=0).tolist()
        return loss, slope, bend

    def slope(exponent: float) -> float:
        return at(math.exp(exponent))[1]

    def told(inverse: float, unbounded: bool = False) -> Temperature:
        loss, _, bend = at(inverse)
        slopes = of_units(inverse)[:, 1]
        error = math.inf
        if bend > 0 and not unbounded:
            error = float(standard_errors(slopes[np.newaxis], np.array([[bend]]))[0]) / inverse**2
        return Temperature(inverse, unbounded, loss, at(1.0)[0], error)

    fewer = thinned(pixels)
    if fewer is not None:
        near = best_temperature(fewer, _NEAR).inverse
        _, slope_there, bend_there = at(near)
        if abs(slope_there) < _STEP * bend_there * near:
            newton = optimize.root_scalar(
                lambda factor: at(factor)[1],
                x0=near,
                fprime=lambda factor: at(factor)[2],
                method="newton",
                xtol=math.sqrt(tolerance) * near,  # a step squares the error
            )
            if newton.converged and 1 / MOST < newton.root < MOST:
                return told(float(newton.root))
    ends = -math.log(MOST), math.log(MOST)
    first, last = slope(ends[0]), slope(ends[1])
    if first < 0 < last:
        return told(math.exp(optimize.toms748(slope, *ends, xtol=tolerance, rtol=tolerance)))
    if first == last == 0:  # all logits of a pixel are equal
        return told(1.0)
    return told(math.exp(ends[0 if first >= 0 else 1]), unbounded=True)
