"""The report on the coverage of sets of segmentations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from conformask._intervals import Finding, conclusion, mean_interval, mean_intervals
from conformask._units import unit_means
from conformask.report import ClassCoverage, CoverageReport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.consign._images import Problems
    from conformask.consign._settings import Settings
    from conformask.consign._solution import Found, Solution

__all__ = ["coverage_report"]

_PROMISE = (
    "The guarantee holds on average over calibration sets, and counts those on which the calibrator abstains as "
    "covered: where many abstain, the coverage of the others may be lower."
)


def _left_open(coverage: float, bound: float) -> str:
    return (
        f"The search left open whether the coverage reaches 1 - alpha: {coverage:.4f} is shown, {bound:.4f} is "
        "possible. A larger node_budget decides more images."
    )


def coverage_report(
    found: Found, problems: Problems, settings: Settings, solution: Solution, class_names: list[str]
) -> CoverageReport:
    """The report of images whose lambdas were searched for, with bounds where the search is undecided."""
    lam, alpha, groups = solution.controlled, float(settings.alpha), problems.groups()
    contained = np.array(found.lambdas) <= lam
    certified = contained | (np.array(found.lower_bounds) > lam)
    units, delta = "images" if groups is None else "groups", getattr(settings.method, "delta", None)
    least = unit_means(contained.astype(np.float64), groups)
    most = unit_means((contained | ~certified).astype(np.float64), groups)
    low, high = mean_interval(least, units), mean_interval(most, units)
    coverage, bound = low.mean, high.mean
    finding = Finding(
        what="coverage",
        beyond="below",
        within="above",
        level="1 - alpha",
        excess=1 - alpha - bound,
        margin=high.high - bound,
        margin_ahead=bound - low.low,
        deviation=float(most.std(ddof=1)) if len(most) > 1 else math.nan,
        units=units,
        n_calibration=solution.units.n,
        of_calibration=solution.counted,
        promise=_PROMISE,
        delta=None if delta is None else float(delta),
    )
    totals = problems.totals()
    return CoverageReport(
        coverage=coverage,
        coverage_bound=bound,
        interval=(low.low, high.high),
        interval_method=low.method,
        verdict=_left_open(coverage, bound) if coverage < 1 - alpha <= bound else conclusion(finding),
        n_images=len(contained),
        n_skipped=problems.n_skipped,
        n_groups=None if groups is None else len(set(groups)),
        n_calibration=solution.units.n,
        calibrated_on=solution.counted,
        alpha=alpha,
        method=str(settings.method),
        min_accuracy=float(settings.min_accuracy),
        n_components=settings.n_components,
        lambda_hat=lam,
        classes=_classes(contained, totals, groups, class_names),
        contained=contained,
        certified=certified,
    )


def _classes(
    contained: NDArray[np.bool_], totals: NDArray[np.int64], groups: list[int | str] | None, names: list[str]
) -> tuple[ClassCoverage, ...]:
    """For each class, the coverage of the images that hold it."""
    holds = totals > 0
    coverages = mean_intervals(unit_means(np.where(holds, contained[:, np.newaxis], np.nan), groups), "")
    n_images, n_pixels = holds.sum(axis=0).tolist(), totals.sum(axis=0).tolist()
    return tuple(
        ClassCoverage(label, name, coverage.mean, coverage.ends, n_images[label], n_pixels[label])
        for label, (name, coverage) in enumerate(zip(names, coverages, strict=True))
    )
