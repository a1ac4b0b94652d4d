"""The temperature with the highest likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

from conformask import _core
from conformask._warnings import warn_caller
from conformask.scaling._likelihood import standard_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.scaling._pixels import Pixels

__all__ = ["MOST", "Temperature", "best_temperature", "tempered_losses", "warn_unbounded"]

# Temperatures are searched between the inverse of this and this.
MOST = 1e3
# The relative accuracy of the temperature for fewer pixels.
_NEAR = 0.005
# Newton's method is used if its first step is relatively smaller than this.
_STEP = 0.2


class _Losses:
    """Mean log losses of ``softmax(s u)`` and their first two derivatives by s, image (group) by image."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self._holds_pixels = np.diff(pixels.ends, prepend=0) > 0
        self._known: dict[float, NDArray[np.float64]] = {}

    def of_units(self, factor: float) -> NDArray[np.float64]:
        """The contribution of each image (group), (n, 3)."""
        if factor not in self._known:
            pixels = self.pixels
            sums = _core.tempered_sums(pixels.features, pixels.labels, pixels.weights, pixels.ends, factor)
            self._known[factor] = sums[self._holds_pixels]
        return self._known[factor]

    def at(self, factor: float) -> tuple[float, float, float]:
        """The sums over all."""
        loss, slope, bend = self.of_units(float(factor)).sum(axis=0).tolist()
        return loss, slope, bend


@dataclass(frozen=True, eq=False)
class Temperature:
    """The temperature that was found."""

    inverse: float
    unbounded: bool  # whether the likelihood still rises at the end of the range
    _losses: _Losses

    @property
    def loss(self) -> float:
        """The loss with the temperature."""
        return self._losses.at(self.inverse)[0]

    @property
    def before(self) -> float:
        """The loss at 1."""
        pixels = self._losses.pixels
        return pixels.own_loss() if pixels.is_centred else self._losses.at(1.0)[0]

    @property
    def standard_error(self) -> float:
        """The standard error of the temperature, from the variation of the slopes between images (groups)."""
        bend = self._losses.at(self.inverse)[2]
        if bend <= 0 or self.unbounded:
            return math.inf
        slopes = self._losses.of_units(self.inverse)[:, 1]
        return float(standard_errors(slopes[np.newaxis], np.array([[bend]]))[0]) / self.inverse**2


def tempered_losses(pixels: Pixels, factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log loss of ``softmax(s u)`` of each pixel and its first two derivatives by s, (N, 3)."""
    return _core.tempered_losses(pixels.features, pixels.labels, np.ascontiguousarray(factors, np.float64))


def warn_unbounded(temperature: float, which: str = "") -> None:
    """Warns that a temperature is at the end of its range, and says what that means."""
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
    """The best temperature for pixels, to the relative accuracy `tolerance`. The mean loss is convex in its inverse."""
    losses = _Losses(pixels)
    at = losses.at

    def slope(exponent: float) -> float:
        return at(math.exp(exponent))[1]

    fewer = pixels.fewer
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
                return Temperature(float(newton.root), False, losses)
    ends = -math.log(MOST), math.log(MOST)
    first, last = slope(ends[0]), slope(ends[1])
    if first < 0 < last:
        root = optimize.toms748(slope, *ends, xtol=tolerance, rtol=tolerance)
        return Temperature(math.exp(root), False, losses)
    if first == last == 0:  # all logits of a pixel are equal
        return Temperature(1.0, False, losses)
    return Temperature(math.exp(ends[0 if first >= 0 else 1]), True, losses)
