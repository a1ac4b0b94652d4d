"""The report on margins around masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from conformask._exact import exact_mean, share_of
from conformask._intervals import Finding, conclusion, mean_interval, of_full_sets, risk_finding
from conformask._units import unit_means
from conformask.margins._distances import grown, shrunk
from conformask.margins.report import MarginReport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.margins._kept import Kept
    from conformask.margins._masks import Case
    from conformask.margins._solution import Solution

__all__ = ["margin_report", "pixel_counts"]

# The counts of an image: its pixels, and those in its masks.
_COUNTS = ("foreground", "background", "predicted", "outer", "inner", "held", "false", "band")


def pixel_counts(case: Case, solution: Solution) -> list[int]:
    """Numbers of labelled pixels, as named by `_COUNTS`; for a side without a margin, those of the mask itself."""
    metric = solution.configuration.metric
    outer_margin, inner_margin = solution.margin("outer"), solution.margin("inner")
    outer = case.mask if outer_margin is None else grown(case.mask, outer_margin, metric, case.spacing)
    inner = case.mask if inner_margin is None else shrunk(case.mask, inner_margin, metric, case.spacing)
    known = case.foreground | case.background
    parts = (
        *(case.foreground, case.background, case.mask & known, outer & known, inner & known),
        *(outer & case.foreground, inner & case.background, outer & ~inner & known),
    )
    return [int(np.count_nonzero(part)) for part in parts]


def margin_report(
    kept: Kept, counts: Sequence[Sequence[int]], solution: Solution, groups: Sequence[int | str] | None
) -> MarginReport:
    """The report, from the margins that images need and from their pixel counts."""
    configuration = solution.configuration
    number = dict(zip(_COUNTS, np.array(counts, np.float64).T, strict=True))
    defined = kept.units(configuration.on_empty).counted
    fails = np.where(defined[:, np.newaxis], kept.fails(solution.margins), np.nan)
    losses = fails.max(axis=1)
    units = "images" if groups is None else "groups"
    alpha, nothing = float(configuration.alpha), np.full(len(losses), math.nan)
    of_units = unit_means(losses, groups)
    interval = mean_interval(of_units, units)
    if solution.infeasible and len(configuration.sides) == 1:  # full sets do not depend on chance
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

    def of(side: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values if side in configuration.sides else nothing

    def column(side: str, table: NDArray[np.float64]) -> NDArray[np.float64]:
        sides = configuration.sides
        return table[:, sides.index(side)] if side in sides else nothing

    def mean(values: NDArray[np.float64]) -> float:
        return exact_mean(unit_means(values, groups))

    def margin(side: str) -> float:
        found = solution.margin(side)
        return math.nan if found is None else found

    coverages = of("outer", share_of(number["held"], number["foreground"]))
    false_rates = of("inner", share_of(number["false"], number["background"]))
    bands = share_of(number["band"], number["foreground"] + number["background"])
    return MarginReport(
        side=configuration.side,
        empirical_risk=interval.mean,
        interval=interval.ends,
        interval_method=interval.method,
        verdict=_verdict(finding, solution),
        infeasible=solution.infeasible,
        outer_risk=mean(column("outer", fails)),
        inner_risk=mean(column("inner", fails)),
        outer_margin=margin("outer"),
        inner_margin=margin("inner"),
        unit=configuration.unit,
        coverage=mean(coverages),
        false_positive_rate=mean(false_rates),
        outer_size=mean(of("outer", share_of(number["outer"], number["predicted"]))),
        inner_size=mean(of("inner", share_of(number["inner"], number["predicted"]))),
        band=mean(bands),
        min_coverage=float(configuration.min_coverage),
        max_background=float(configuration.max_background),
        n_images=int(defined.sum()),
        n_skipped=int((~defined).sum()),
        n_groups=None if groups is None else len(set(compress(groups, defined))),
        n_calibration=solution.n_images,
        calibrated_on=solution.counted,
        alpha=alpha,
        method=str(configuration.method),
        losses=losses,
        outer_scores=column("outer", kept.scores),
        inner_scores=column("inner", kept.scores),
        coverages=coverages,
        false_positive_rates=false_rates,
        bands=bands,
    )


def _verdict(finding: Finding, solution: Solution) -> str:
    """A sentence on the risk and alpha."""
    if solution.infeasible:
        return (
            f"There is no finite margin that keeps alpha with the {solution.counted} of calibration, so outer masks "
            "are full, or inner ones empty. The result says nothing about the model."
        )
    return conclusion(finding)
