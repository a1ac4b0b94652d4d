"""What the counts of images say of risk, sizes and classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._backend import Counts
from conformask._exact import covered_share, exact_mean, per_pixel, share_of
from conformask._intervals import Finding, conclusion, mean_interval, means_with_intervals
from conformask._units import check_groups, counted_images, unit_means
from conformask.losses import loss_values
from conformask.report import ClassRisk, RiskReport
from conformask.risk_control._solution import Configuration, Solution

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["risk_report"]

_FULL = "The calibration images are too few for alpha: all sets are full, and miss nothing."


def risk_report(
    counts: Sequence[Counts],
    configuration: Configuration,
    solution: Solution,
    groups: Any,
    class_names: list[str],
) -> RiskReport:
    """The report of images whose counts came in parts."""
    missed, totals, sizes = (np.concatenate(parts) for parts in zip(*counts, strict=True))
    losses = loss_values(configuration.loss, missed, totals)
    losses[np.isnan(losses) & counted_images(losses, configuration.on_empty)] = 0.0
    activation_ratios, coverages = per_pixel(sizes.sum(axis=1), totals), covered_share(missed, totals)
    names, is_defined = check_groups(groups, len(losses)), ~np.isnan(losses)
    units = "images" if names is None else "groups"
    values = unit_means(losses, names)
    interval, known = mean_interval(values, units), values[~np.isnan(values)]
    risk = interval.mean
    alpha = float(configuration.alpha)
    finding = Finding(
        what="risk",
        beyond="above",
        level="alpha",
        excess=risk - alpha,
        margin=risk - interval.low,
        margin_ahead=interval.high - risk,
        deviation=float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        n_test=len(known),
        n_calibration=solution.n_images,
        units=units,
        delta=getattr(configuration.method, "delta", None),
    )
    infeasible = solution.corrected_risk > alpha
    return RiskReport(
        empirical_risk=risk,
        interval=interval.ends,
        interval_method=interval.method,
        verdict=_FULL if infeasible else conclusion(finding),
        infeasible=infeasible,
        activation_ratio=exact_mean(unit_means(activation_ratios, names)),
        coverage=exact_mean(unit_means(coverages, names)),
        n_images=int(is_defined.sum()),
        n_skipped=int((~is_defined).sum()),
        n_groups=None if names is None else len(set(compress(names, is_defined))),
        n_calibration=solution.n_images,
        alpha=alpha,
        method=str(configuration.method),
        lambda_hat=solution.lambda_hat,
        loss=str(configuration.loss),
        classes=_classes(missed, totals, sizes, names, class_names),
        losses=losses,
        activation_ratios=activation_ratios,
        coverages=coverages,
    )


def _classes(
    missed: NDArray[np.uint64],
    totals: NDArray[np.uint64],
    sizes: NDArray[np.uint64],
    groups: list[int | str] | None,
    names: list[str],
) -> tuple[ClassRisk, ...]:
    """How each class fares: shares and sizes are those of the images that hold it."""
    miss_rates = means_with_intervals(unit_means(share_of(missed, totals), groups)).tolist()
    set_sizes = unit_means(share_of(sizes, totals), groups)
    n_images, n_pixels = (totals > 0).sum(axis=0).tolist(), totals.sum(axis=0).tolist()
    return tuple(
        ClassRisk(
            label, name, rate, (low, high), exact_mean(set_sizes[:, label]), n_images[label], n_pixels[label]
        )
        for label, (name, (rate, low, high)) in enumerate(zip(names, miss_rates, strict=True))
    )
