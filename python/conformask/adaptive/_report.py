"""The report on binary masks, from the counts of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from conformask._exact import exact_mean, share_of
from conformask._intervals import Finding, conclusion, mean_interval, of_full_sets, risk_finding
from conformask._units import counted_images, unit_means
from conformask.adaptive.report import BinaryReport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.adaptive._solution import Solution

__all__ = ["binary_report", "tail_mean"]

_WORST = 0.1  # the share of the images in the tail


def binary_report(
    counts: NDArray[np.uint64],
    thresholds: NDArray[np.float64],
    solution: Solution,
    groups: Sequence[int | str] | None,
) -> BinaryReport:
    """The report from counts (n, 4): background and foreground pixels, and the pixels of each that are in the mask."""
    configuration = solution.configuration
    background, foreground, held_outside, held_inside = counts.T
    coverages, false_rates = share_of(held_inside, foreground), share_of(held_outside, background)
    missed = share_of(foreground - held_inside, foreground)  # 1 minus the coverage, rounded only once
    risks = missed if configuration.risk == "fnr" else false_rates.copy()
    risks[np.isnan(risks) & counted_images(risks, configuration.on_empty)] = 0.0
    sizes = share_of(held_outside + held_inside, background + foreground)
    units, is_defined = "images" if groups is None else "groups", ~np.isnan(risks)
    alpha = float(configuration.alpha)
    of_units = unit_means(risks, groups)
    interval = mean_interval(of_units, units)
    if solution.infeasible:  # full masks do not depend on chance
        interval = of_full_sets(interval.mean)
    finding = risk_finding(
        interval,
        of_units,
        units,
        alpha=alpha,
        method=configuration.method,
        n_calibration=solution.n_eff,
        of_calibration=solution.counted,
    )

    def mean(values: NDArray[np.float64]) -> float:
        return exact_mean(unit_means(values, groups))

    return BinaryReport(
        risk=configuration.risk,
        empirical_risk=interval.mean,
        interval=interval.ends,
        interval_method=interval.method,
        verdict=_verdict(finding, solution),
        infeasible=solution.infeasible,
        coverage=mean(coverages),
        coverage_gap=mean(abs(risks - alpha)),
        exceedance=mean(np.where(is_defined, risks > alpha, np.nan)),
        tail_risk=tail_mean(risks[is_defined]),
        false_positive_rate=mean(false_rates),
        size=mean(sizes),
        n_images=int(is_defined.sum()),
        n_skipped=int((~is_defined).sum()),
        n_groups=None if groups is None else len(set(compress(groups, is_defined))),
        n_calibration=solution.n_images,
        calibrated_on=solution.counted,
        alpha=alpha,
        method=str(configuration.method),
        risks=risks,
        coverages=coverages,
        false_positive_rates=false_rates,
        sizes=sizes,
        thresholds=thresholds,
    )


def tail_mean(values: NDArray[np.float64]) -> float:
    """The mean of the largest tenth of the numbers, at least of one; NaN without numbers."""
    n = math.ceil(_WORST * len(values) - 1e-9)
    return exact_mean(np.sort(values)[len(values) - n :])


def _verdict(finding: Finding, solution: Solution) -> str:
    """A sentence on the risk and alpha."""
    if solution.infeasible:
        masks = (
            "every mask holds all pixels" if solution.configuration.risk == "fnr" else "every mask is empty"
        )
        return (
            f"alpha needs more than the {solution.counted} of calibration, so {masks}. The result says nothing about "
            "the model."
        )
    return conclusion(finding)
