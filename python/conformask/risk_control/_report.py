"""The report on risk, set sizes and classes, from the counts of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from conformask._backend import Counts
from conformask._exact import covered_share, exact_means, per_pixel, share_of
from conformask._intervals import Interval, conclusion, mean_intervals, of_full_sets, risk_finding
from conformask._units import check_groups, counted_images, unit_means
from conformask.losses import Loss, WorstClassLoss, loss_values
from conformask.report import ClassRisk, RiskReport
from conformask.risk_control._part_risks import part_risks, verdict_of_parts
from conformask.risk_control._solution import Configuration, Solution

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["image_losses", "risk_report"]


def image_losses(counts: Sequence[Counts], configuration: Configuration) -> NDArray[np.float64]:
    """The losses (n,) of images whose counts came in parts; NaN where they do not count."""
    missed, totals, _, *held = (np.concatenate(parts) for parts in zip(*counts, strict=True))
    losses = loss_values(_controlled(configuration), missed, totals, *held)
    losses[np.isnan(losses) & counted_images(losses, configuration.on_empty)] = 0.0
    return losses


def _controlled(configuration: Configuration) -> Loss:
    """The loss that is controlled."""
    return WorstClassLoss(configuration.loss) if configuration.controls_worst_class else configuration.loss


def risk_report(
    counts: Sequence[Counts],
    configuration: Configuration,
    solution: Solution,
    groups: Sequence[int | str] | None,
    class_names: list[str],
    strata: Sequence[int | str] | None = None,
) -> RiskReport:
    """The report of images whose counts came in parts."""
    missed, totals, sizes, *_ = (np.concatenate(parts) for parts in zip(*counts, strict=True))
    losses = image_losses(counts, configuration)
    activation_ratios, coverages = per_pixel(sizes.sum(axis=1), totals), covered_share(missed, totals)
    names, is_defined = check_groups(groups, len(losses)), ~np.isnan(losses)
    units = "images" if names is None else "groups"
    miss_rates, set_sizes = share_of(missed, totals), share_of(sizes, totals)
    values = unit_means(np.column_stack([losses, miss_rates]), names)
    interval, *of_classes = mean_intervals(values, units)
    means = exact_means(
        unit_means(np.column_stack([activation_ratios, coverages, set_sizes]), names)
    ).tolist()
    alpha = float(configuration.alpha)
    infeasible = solution.corrected_risk > alpha
    # If the largest loss of all classes is controlled, the classes share one lambda and one promise.
    has_parts = bool(solution.parts) and math.isnan(solution.lambda_hat)
    if infeasible:  # nothing is missed, whatever the images are
        interval, *of_classes = (of_full_sets(each.mean) for each in [interval, *of_classes])
    parts = (
        part_risks(
            missed,
            totals,
            losses,
            configuration,
            solution,
            groups=names,
            strata=strata,
            class_names=class_names,
        )
        if has_parts
        else []
    )
    finding = risk_finding(
        interval,
        values[:, 0],
        units,
        alpha=alpha,
        method=configuration.method,
        n_calibration=solution.n_eff,
        of_calibration=solution.counted,
    )
    said = [] if has_parts and not configuration.controls_worst_class else [conclusion(finding)]
    said += verdict_of_parts(parts, configuration, solution) if has_parts else []
    return RiskReport(
        empirical_risk=interval.mean,
        interval=interval.ends,
        interval_method=interval.method,
        verdict=_verdict(said, solution, means[0], infeasible),
        infeasible=infeasible,
        activation_ratio=means[0],
        coverage=means[1],
        n_images=int(is_defined.sum()),
        n_skipped=int((~is_defined).sum()),
        n_groups=None if names is None else len(set(compress(names, is_defined))),
        n_calibration=solution.n_images,
        calibrated_on=_calibrated_on(solution),
        alpha=alpha,
        method=str(configuration.method),
        conformity_score=str(configuration.conformity_score),
        lambda_hat=solution.lambda_hat,
        by=solution.by if has_parts else None,
        parts=tuple(risk for risk, _ in parts),
        part_alpha=float(configuration.alpha_of_parts(solution.n_classes)) if has_parts else None,
        loss=str(_controlled(configuration)),
        classes=_classes(class_names, of_classes, means[2:], totals),
        losses=losses,
        activation_ratios=activation_ratios,
        coverages=coverages,
        risk_bound=solution.risk_bound,
        confidence=solution.confidence,
    )


def _calibrated_on(solution: Solution) -> str:
    """The calibration images, in words."""
    as_good_as = f" (as good as {solution.n_eff:.4g} by their weights)" if solution.is_weighted else ""
    return f"{solution.counted}{as_good_as}"


def _verdict(said: list[str], solution: Solution, set_size: float, infeasible: bool) -> str:
    """Sentences on the risk and alpha, and on sets that are of no use or hold only one class."""
    if infeasible:
        return (
            f"alpha needs more than the {solution.counted} of calibration, so every set holds all classes. The result "
            "says nothing about the model."
        )
    n_classes = solution.n_classes
    if solution.lambda_hat == 0 and solution.configuration.loss._is_monotone:
        said.append("Lambda-hat is 0: the sets cannot be smaller, and alpha would allow more misses.")
    if set_size - 1 > (n_classes - 1) / 2:
        said.append(
            f"The sets tell little: they hold {set_size:.3g} of {n_classes} classes on average. Check that scores and "
            "labels number the classes alike, and that the scores are what `inputs` says."
        )
    return " ".join(said)


def _classes(
    names: list[str], miss_rates: list[Interval], set_sizes: list[float], totals: NDArray[np.uint64]
) -> tuple[ClassRisk, ...]:
    """The results of each class: rates and sizes are over the images that hold it."""
    n_images, n_pixels = (totals > 0).sum(axis=0).tolist(), totals.sum(axis=0).tolist()
    found = zip(names, miss_rates, set_sizes, n_images, n_pixels, strict=True)
    return tuple(
        ClassRisk(label, name, rate.mean, rate.ends, *others)
        for label, (name, rate, *others) in enumerate(found)
    )
