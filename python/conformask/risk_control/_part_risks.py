"""The risks of classes or strata that have their own lambdas, on labelled images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from conformask._intervals import LEVEL, Finding, conclusion, mean_intervals, of_full_sets, risk_finding
from conformask._text import plural
from conformask._units import unit_means
from conformask.losses import losses_by_class
from conformask.report import PartRisk
from conformask.risk_control._solution import Configuration, Solution

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["part_risks", "verdict_of_parts"]

_MOST_NAMED = 5


def part_risks(
    missed: NDArray[np.uint64],
    totals: NDArray[np.uint64],
    losses: NDArray[np.float64],
    configuration: Configuration,
    solution: Solution,
    *,
    groups: Sequence[int | str] | None,
    strata: Sequence[int | str] | None,
    class_names: Sequence[str],
) -> list[tuple[PartRisk, Finding]]:
    """The risk of each part, and its comparison with alpha; `losses` (n,) are those of the images."""
    if solution.by == "class":
        columns = list(losses_by_class(configuration.loss, missed, totals))
        names = list(class_names)
    else:
        assert strata is not None
        of_image = np.array(strata, dtype=object)
        columns = [np.where(of_image == part.name, losses, np.nan) for part in solution.parts]
        names = [str(part.name) for part in solution.parts]
    values, units = unit_means(np.column_stack(columns), groups), "images" if groups is None else "groups"
    # A statement on one of many intervals must hold for all of them together (Bonferroni).
    together, alpha = 1 - (1 - LEVEL) / len(names), float(configuration.alpha_of_parts(solution.n_classes))
    intervals = zip(mean_intervals(values, units), mean_intervals(values, units, together), strict=True)
    found = []
    for name, part, of_units, (interval, joint) in zip(
        names, solution.parts, values.T, intervals, strict=True
    ):
        is_full = part.is_rare and part.lambda_hat >= solution.largest
        if is_full:
            interval = joint = of_full_sets(interval.mean)  # full sets do not depend on chance
        risk = PartRisk(
            name,
            interval.mean,
            interval.ends,
            int((~np.isnan(of_units)).sum()),
            part.lambda_hat,
            part.n_images,
            part.n_needed,
            part.is_rare,
        )
        finding = risk_finding(
            joint,
            of_units,
            units,
            alpha=alpha,
            method=configuration.method,
            n_calibration=part.n_images,
            of_calibration=plural(part.n_images, "group" if solution.grouped else "image"),
            level=together,
        )
        found.append((risk, finding))
    return found


def verdict_of_parts(
    found: Sequence[tuple[PartRisk, Finding]], configuration: Configuration, solution: Solution
) -> Iterator[str]:
    """Sentences on the risks of parts and alpha."""
    noun, many = ("class", "classes") if solution.by == "class" else ("stratum", "strata")
    alpha, percent = float(configuration.alpha_of_parts(solution.n_classes)), f"{LEVEL * 100:g} %"
    level = f"alpha / K = {alpha:.3g}" if configuration.controls_worst_class else "alpha"
    above = [(risk, finding) for risk, finding in found if risk.interval[0] > alpha]
    surely = [(risk, finding) for risk, finding in above if finding.excess > finding.margin]
    unknown = sum(math.isnan(risk.risk) for risk, _ in found)
    if unknown == len(found):
        yield f"The risks of the {many} are unknown: no test image has a labelled pixel that counts."
    elif not above:
        yield f"No {noun} has a risk whose whole {percent} interval is above {level}."
    else:
        names = ", ".join(risk.name for risk, _ in above[:_MOST_NAMED])
        more = f" and {len(above) - _MOST_NAMED} more" if len(above) > _MOST_NAMED else ""
        chance = "" if surely else " Of many intervals about one in twenty misses by chance."
        yield (
            f"The whole {percent} interval of the risk is above {level} for {len(above)} of {len(found)} {many}: "
            f"{names}{more}.{chance}"
        )
    if 0 < unknown < len(found):
        yield f"No test image tells of {unknown} of {len(found)} {many}."
    if surely:
        worst, finding = max(surely, key=lambda each: each[1].excess - each[1].margin)
        yield f"Of {worst.name}, by an interval that holds for all {len(found)} at once: {conclusion(finding)}"
    if (confidence := configuration.method.confidence) is not None:
        holds = (
            "All of these promises hold at once"
            if configuration.simultaneous
            else "Each promise holds by itself"
        )
        yield f"{holds}, with confidence {confidence:g} over calibration sets."
    if solution.rare:
        shown = {part.name: risk.name for part, (risk, _) in zip(solution.parts, found, strict=True)}
        yield f"{solution.rare_text_of(shown)}."
