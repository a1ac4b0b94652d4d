"""How far means over images scatter: confidence intervals, and what may be concluded from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import special

from conformask._exact import exact_means

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["LEVEL", "Finding", "Interval", "conclusion", "mean_interval", "mean_intervals"]

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean, its confidence interval, and how that was found."""

    mean: float
    low: float
    high: float
    method: str

    @property
    def ends(self) -> tuple[float, float]:
        """Both limits."""
        return self.low, self.high


def mean_interval(values: NDArray[np.float64], units: str) -> Interval:
    """A two-sided interval for the mean of what is not NaN of numbers in [0, 1], which `units` gave independently.

    Of numbers that are 0 or 1 the exact binomial one (Clopper, Pearson 1934); else Student's, cut to [0, 1]; of fewer
    than two, where neither holds, all of [0, 1]; of none, NaN.
    """
    [interval] = mean_intervals(values[:, np.newaxis], units)
    return interval


def mean_intervals(values: NDArray[np.float64], units: str) -> list[Interval]:
    """Those of each of K columns (n, K)."""
    known, mean = ~np.isnan(values), exact_means(values)
    n, is_binary = known.sum(axis=0), _is_binary(values)
    # Class by class in memory: the sum of a column must not depend on what is beside it.
    squares = np.ascontiguousarray(np.where(known, (values - mean) ** 2, 0.0).T).sum(axis=1)
    half = half_width(np.sqrt(squares / np.maximum(n - 1, 1)), n, n - 1)
    limits = np.where(n > 1, [mean - half, mean + half], [[0.0], [1.0]]).clip(0.0, 1.0)
    if is_binary.any():
        k, tail = np.where(is_binary, mean * n, 0).round(), (1 - LEVEL) / 2
        least = np.where(k > 0, special.betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
        most = np.where(k < n, special.betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
        limits = np.where(is_binary, [least, most], limits)
    limits[:, n == 0] = np.nan
    found = zip(mean.tolist(), *limits.tolist(), n.tolist(), is_binary.tolist(), strict=True)
    return [
        Interval(mean, low, high, _method(is_binary, n, units)) for mean, low, high, n, is_binary in found
    ]


def _method(is_binary: bool, n: int, units: str) -> str:
    kind = "Clopper-Pearson" if is_binary else "Student's t" if n > 1 else ""
    return f"{kind} over {n} {units}" if kind else f"unknown from {n} {units}"


def _is_binary(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether what is not NaN is 0 or 1, and something is."""
    is_binary: NDArray[np.bool_] = ((values == 0) | (values == 1) | np.isnan(values)).all(axis=0)
    return is_binary & ~np.isnan(values).all(axis=0)


def half_width(deviation: ArrayLike, n: ArrayLike, freedom: ArrayLike) -> Any:
    """Half of Student's interval of a mean of n numbers with a standard deviation."""
    quantile = special.stdtrit(np.maximum(freedom, 1), (1 + LEVEL) / 2)
    return quantile * deviation / np.sqrt(np.maximum(n, 1))


class Finding(NamedTuple):
    """A mean over test units beside the level that calibration promised. Beyond means worse."""

    what: str  # "risk"
    beyond: str  # "above"
    level: str  # "alpha"
    excess: float  # of the mean over the level
    margin: float  # by which the interval reaches back towards the level
    margin_ahead: float  # and beyond
    deviation: float  # of one unit
    n_test: int
    n_calibration: int
    units: str
    delta: float | None  # of methods that promise with confidence


def conclusion(found: Finding) -> str:
    """Whether a mean is beyond its level by more than scatter explains, in words."""
    what, beyond, level, percent = found.what, found.beyond, found.level, f"{LEVEL * 100:g} %"
    if math.isnan(found.excess):
        return f"The {what} is unknown: no image counts."
    if found.excess <= 0:
        if found.excess + found.margin_ahead <= 0:
            return f"The {what} keeps {level}, and so does its whole {percent} interval."
        return f"The {what} keeps {level} on these images. Its {percent} interval reaches beyond."
    if found.excess <= found.margin:
        return (
            f"The {what} is {beyond} {level}, but not by more than these {found.units} scatter: "
            f"its {percent} interval holds {level}."
        )
    unlike = (
        f"These {found.units} are probably not exchangeable with the calibration {found.units} (another source, "
        "another time, related images on both sides?), and without that nothing is promised."
    )
    if found.delta is not None:
        return (
            f"The {what} is {beyond} {level} by more than these {found.units} scatter. Of all calibrations at most "
            f"{found.delta * 100:g} % may be so. {unlike}"
        )
    of_calibration = 0.0
    if found.n_calibration and found.n_test > 1:
        of_calibration = float(half_width(found.deviation, found.n_calibration, found.n_test - 1))
    if found.excess <= math.hypot(found.margin, of_calibration):
        return (
            f"The {what} is {beyond} {level} by more than these {found.units} scatter, but by no more than "
            f"calibrations with {found.n_calibration} {found.units} do: {level} is kept in the mean over calibrations, "
            "and about half of them lie beyond. More calibration images bring them closer."
        )
    return f"The {what} is {beyond} {level} by more than scatter explains. {unlike}"
