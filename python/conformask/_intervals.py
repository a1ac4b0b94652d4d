"""How far means over images scatter: confidence intervals, and what may be concluded from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from conformask._exact import exact_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEVEL", "Finding", "Interval", "conclusion", "mean_interval"]

LEVEL = 0.95


class Interval(NamedTuple):
    """A confidence interval of a mean, and how it was found."""

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
    than two, where neither holds, all of [0, 1].
    """
    values = values[~np.isnan(values)]
    n, tail = len(values), (1 - LEVEL) / 2
    if n and np.isin(values, (0.0, 1.0)).all():
        k = int(values.sum())
        low = special.betaincinv(k, n - k + 1, tail) if k else 0.0
        high = special.betaincinv(k + 1, n - k, 1 - tail) if k < n else 1.0
        return Interval(float(low), float(high), f"Clopper-Pearson over {n} {units}")
    if n < 2:
        return Interval(0.0, 1.0, f"unknown from {n} {units}")
    mean, half = exact_mean(values), half_width(float(values.std(ddof=1)), n, n - 1)
    return Interval(max(mean - half, 0.0), min(mean + half, 1.0), f"Student's t over {n} {units}")


def half_width(deviation: float, n: int, freedom: int) -> float:
    """Half of Student's interval of a mean of n numbers with a standard deviation."""
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * deviation / math.sqrt(n)


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
        of_calibration = half_width(found.deviation, found.n_calibration, found.n_test - 1)
    if found.excess <= math.hypot(found.margin, of_calibration):
        return (
            f"The {what} is {beyond} {level} by more than these {found.units} scatter, but by no more than "
            f"calibrations with {found.n_calibration} {found.units} do: {level} is kept in the mean over calibrations, "
            "and about half of them lie beyond. More calibration images bring them closer."
        )
    return f"The {what} is {beyond} {level} by more than scatter explains. {unlike}"
