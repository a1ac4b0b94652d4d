"""How much means over images vary: confidence intervals, and what may be concluded from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import special

from conformask._exact import exact_means
from conformask._text import plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.control import Method

__all__ = [
    "LEVEL",
    "Finding",
    "Interval",
    "conclusion",
    "mean_interval",
    "mean_intervals",
    "of_full_sets",
    "risk_finding",
]

LEVEL = 0.95
_TWO_SIDED = float(special.ndtri((1 + LEVEL) / 2))


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
    """A two-sided interval for the mean of independent numbers in [0, 1], one for each unit; NaN is left out.

    Add one number, 1 for the upper limit and 0 for the lower one, and take weights from Dirichlet(1, ..., 1). The
    quantiles of the weighted mean are limits whose coverage is conjectured to hold for every distribution on [0, 1]
    (Gaffke 2005; Learned-Miller, Thomas 2019, arXiv:1905.06208). Here the quantiles are those of the beta distribution
    with the mean and the variance of that weighted mean. For numbers that are 0 or 1, the weighted mean has exactly
    this distribution, and the interval is that of Clopper and Pearson (1934). Without numbers both limits are NaN.
    """
    [interval] = mean_intervals(values[:, np.newaxis], units)
    return interval


def mean_intervals(values: NDArray[np.float64], units: str, level: float = LEVEL) -> list[Interval]:
    """The intervals for each of K columns (n, K)."""
    known, mean = ~np.isnan(values), exact_means(values)
    n, is_binary = known.sum(axis=0), _is_binary(values)
    # Each column is contiguous, so that its sum does not depend on the other columns.
    squares = np.ascontiguousarray(np.where(known, (values - mean) ** 2, 0.0).T).sum(axis=1)
    low, high = _limits(mean, squares, n, level)
    found = zip(*(each.tolist() for each in (mean, low, high, n, is_binary)), strict=True)
    return [
        Interval(
            mean,
            low,
            high,
            f"{'Clopper-Pearson' if exact else 'beta'} over {plural(n, units.removesuffix('s'))}",
        )
        for mean, low, high, n, exact in found
    ]


def _limits(
    mean: NDArray[np.float64], squares: NDArray[np.float64], n: NDArray[np.int64], level: float
) -> NDArray[np.float64]:
    """Both limits (2, K) for n numbers of known mean and sum of squared deviations; the added number is 0, or 1."""
    extreme = np.array([[0.0], [1.0]])
    middle = (mean * n + extreme) / (n + 1)
    variance = (squares + n * (mean - middle) ** 2 + (extreme - middle) ** 2) / ((n + 1) * (n + 2))
    is_known = variance > 0  # else all numbers are the extreme, or floats cannot tell them from it
    size = np.divide(middle * (1 - middle), variance, out=np.ones_like(middle), where=is_known) - 1
    a, b = (np.where(is_known, share * size, 1.0) for share in (middle, 1 - middle))
    limit = special.betaincinv(a, b, (1 - level) / 2 + level * extreme)
    return np.where(np.isnan(mean), np.nan, np.where(is_known & np.isfinite(limit), limit, extreme))


def _is_binary(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each column holds only 0, 1 and NaN, and not only NaN."""
    is_binary: NDArray[np.bool_] = ((values == 0) | (values == 1) | np.isnan(values)).all(axis=0)
    return is_binary & ~np.isnan(values).all(axis=0)


def of_full_sets(mean: float) -> Interval:
    """The interval for sets that hold every class: their risk does not depend on chance."""
    return Interval(mean, mean, mean, "the sets hold every class")


class Finding(NamedTuple):
    """A mean over test units, compared with the level that calibration promised. "Beyond" means worse."""

    what: str  # "risk"
    beyond: str  # "above"
    within: str  # "below"
    level: str  # "alpha"
    excess: float  # how far the mean is beyond the level
    margin: float  # how far the interval reaches from the mean towards the better side
    margin_ahead: float  # how far it reaches towards the worse side
    deviation: float  # standard deviation of one unit
    units: str
    n_calibration: float  # effective number of units
    of_calibration: str  # "100 images"
    promise: str  # what the guarantee averages over
    delta: float | None = None  # of methods that promise with confidence
    two_sided: float = _TWO_SIDED  # so many deviations of a mean are explained by chance


_PROMISE = (
    "The guarantee holds on average over calibration sets, and up to about half of them give a risk slightly above "
    "alpha."
)


def risk_finding(
    interval: Interval,
    of_units: NDArray[np.float64],
    units: str,
    *,
    alpha: float,
    method: Method,
    n_calibration: float,
    of_calibration: str,
    level: float = LEVEL,
) -> Finding:
    """The mean risk of units (NaN where undefined), compared with the alpha that a control method keeps."""
    known = of_units[~np.isnan(of_units)]
    delta = getattr(method, "delta", None)
    return Finding(
        what="risk",
        beyond="above",
        within="below",
        level="alpha",
        excess=interval.mean - alpha,
        margin=interval.mean - interval.low,
        margin_ahead=interval.high - interval.mean,
        deviation=float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        units=units,
        n_calibration=n_calibration,
        of_calibration=of_calibration,
        promise=_PROMISE,
        delta=None if delta is None else float(delta),
        two_sided=float(special.ndtri(0.5 + level / 2)),
    )


def conclusion(found: Finding) -> str:
    """Whether a mean is beyond its level by more than chance explains, in words."""
    what, beyond, level, percent = found.what, found.beyond, found.level, f"{LEVEL * 100:g} %"
    if math.isnan(found.excess):
        return f"The {what} is unknown: no test image has a labelled pixel that counts."
    if found.excess <= 0:
        if found.excess + found.margin_ahead <= 0:
            return f"The {what} and its whole {percent} interval are at or {found.within} {level}."
        return (
            f"The {what} on these images is at or {found.within} {level}, but its {percent} interval extends "
            f"{beyond} {level}."
        )
    if found.excess <= found.margin:
        return (
            f"The {what} on these images is {beyond} {level}, but its {percent} interval contains {level}: chance "
            f"variation between the {found.units} can explain it."
        )
    head = f"The {what} and its whole {percent} interval are {beyond} {level}."
    unlike = (
        "These images are probably not like the calibration images (another source, another time); if so, the "
        "guarantee does not apply."
    )
    if found.delta is not None:
        often = f"at most {100 * found.delta:g} % of calibration sets"
        return f"{head} Where the assumptions of the method hold, this happens for {often}. {unlike}"
    # How much the expected loss varies between calibrations, if their images vary as these do.
    scatter = (
        found.two_sided * found.deviation / math.sqrt(found.n_calibration) if found.n_calibration else 0.0
    )
    if found.excess <= math.hypot(found.margin, scatter):
        return (
            f"{head} The choice of the {found.of_calibration} of calibration can explain it. {found.promise} More "
            "calibration images bring it closer."
        )
    return f"{head} Chance does not explain it. {unlike}"
