"""The solution of the calibration of margins: the margins, and risks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._calibrator import warn_skipped
from conformask._documents import finite_or_text
from conformask._foreground import check_foreground_classes
from conformask._kept_images import solution_rows
from conformask._text import plural
from conformask._warnings import warn_caller
from conformask.exceptions import InfeasibleRiskError, InfeasibleRiskWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from conformask._units import KnownUnits
    from conformask.margins._kept import Kept
    from conformask.margins._settings import Configuration

__all__ = ["Solution", "smallest_margin", "solution_from_json", "solve", "warn"]

_RESULTS = ("risk", "corrected_risk", "n_images", "n_skipped", "n_eff", "grouped", "infeasible")


@dataclass(frozen=True)
class Solution:
    """What calibration found."""

    margins: tuple[float, ...]  # one for each side
    risk: float
    corrected_risk: float
    n_images: int
    n_skipped: int
    n_eff: float
    grouped: bool  # whether groups of several images counted once
    infeasible: bool  # whether no finite margin keeps alpha
    configuration: Configuration  # for which it was found

    @property
    def counted(self) -> str:
        """The number of calibration units, as text: "100 images"."""
        return plural(self.n_images, "group" if self.grouped else "image")

    def margin(self, side: str) -> float | None:
        """The margin of a side; None if it was not asked for."""
        sides = self.configuration.sides
        return self.margins[sides.index(side)] if side in sides else None

    @property
    def headline(self) -> dict[str, str]:
        """What its repr shows."""
        sides = self.configuration.sides
        names = ("margin_",) if len(sides) == 1 else tuple(f"{side}_margin_" for side in sides)
        return {name: f"{margin:.6g}" for name, margin in zip(names, self.margins, strict=True)}

    def rows(self) -> list[tuple[str, str]]:
        """Names and values to display."""
        unit = self.configuration.unit
        return solution_rows(self, ((name, f"{text} {unit}") for name, text in self.headline.items()))

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        found: dict[str, Any] = {}
        for side in ("outer", "inner"):
            margin = self.margin(side)
            found[f"{side}_margin"] = None if margin is None else finite_or_text(margin)
        found |= {name: finite_or_text(getattr(self, name)) for name in _RESULTS}
        classes = self.configuration.classes
        found["classes"] = None if classes is None else list(classes)
        found["is_spaced"] = self.configuration.is_spaced
        return found


def smallest_margin(
    scores: NDArray[np.float64], shares: Sequence[Fraction], budget: Fraction
) -> float | None:
    """The smallest m >= 0 at which the shares of the scores above m sum to at most the budget.

    It is None if the budget is negative. NaN counts as not above any m.
    """
    if budget < 0:
        return None
    total = Fraction(0)
    known = np.nan_to_num(scores, nan=0.0, posinf=math.inf)
    for i in np.argsort(-known, kind="stable").tolist():
        total += shares[i]
        if total > budget:
            return float(known[i])
    return 0.0


def solve(kept: Kept, configuration: Configuration) -> Solution:
    """The smallest margins that control the risk."""
    units = kept.units(configuration.on_empty)
    shares = units.shares or [Fraction(int(counts)) for counts in units.counted]
    alpha, method = configuration.alpha_of_each, configuration.method_of_each
    budget = method.budget(units, alpha)
    found = [smallest_margin(column, shares, budget) for column in kept.scores.T]
    margins = tuple(math.inf if each is None else each for each in found)
    infeasible = any(map(math.isinf, margins))
    if infeasible and configuration.on_infeasible != "full":
        raise why_not(kept, units, configuration)
    fails = kept.fails(margins)
    losses = np.asarray(fails.any(axis=1), np.float64)
    risks = [units.mean(column.astype(np.float64)) for column in fails.T]
    corrected = math.fsum(method.risk_bound(0.0 if math.isnan(risk) else risk, units) for risk in risks)
    # The exact number is at most alpha, which was decided exactly; rounding must not lift it above.
    bound = 1.0 if None in found else float(configuration.alpha)
    return Solution(
        margins=margins,
        risk=units.mean(losses),
        corrected_risk=min(corrected, bound),
        n_images=units.n,
        n_skipped=units.n_skipped,
        n_eff=units.n_eff,
        grouped=units.joins_images,
        infeasible=infeasible,
        configuration=configuration,
    )


def why_not(kept: Kept, units: KnownUnits, configuration: Configuration) -> InfeasibleRiskError:
    """The error if there is no finite margin: too few images, or masks from which no margin reaches the truth."""
    alpha = configuration.alpha_of_each
    method = configuration.method_of_each
    error = method.infeasible(units, alpha)
    n_beyond, reason = 0, ""
    if method.budget(units, alpha) >= 0:
        beyond = np.isinf(kept.scores).any(axis=1) & units.counted
        n_beyond = int(beyond.sum())
        reason = (
            f"alpha={float(configuration.alpha):g} has no finite margin: of {plural(len(kept), 'image')} {n_beyond} "
            f"need an infinite one, image {int(beyond.argmax())} first. There the predicted mask is empty beside an "
            "object, or full beside a background. Take a larger alpha, or accept full sets with on_infeasible='full'"
        )
    # The smallest level was that of each side.
    return error._but(
        alpha=float(configuration.alpha), reason=reason, n_infeasible=n_beyond, smallest_alpha=None
    )


def warn(kept: Kept, solution: Solution) -> None:
    """Warns of what the user of a solution must know."""
    configuration = solution.configuration
    units = kept.units(configuration.on_empty)
    if solution.infeasible:
        error = why_not(kept, units, configuration)
        finding = error.reason.partition(". ")[0] or error.finding
        what = {"outer": "outer masks hold every pixel", "inner": "inner masks are empty"}
        full = (what[s] for s, m in zip(configuration.sides, solution.margins, strict=True) if math.isinf(m))
        warn_caller(f"{finding}: {', and '.join(full)}", InfeasibleRiskWarning)
    kept.warn_of_labels()
    words = f"{{}} have no pixel of {configuration.lacks}"
    warn_skipped(solution.n_skipped, len(kept), units, words)


def solution_from_json(document: dict[str, Any], configuration: Configuration) -> Solution:
    """Results from a file; refuses results that no calibration gives."""
    results = document["results"]
    if set(results) != {*_RESULTS, "outer_margin", "inner_margin", "classes", "is_spaced"}:
        raise ValueError(f"the results are {sorted(results)}")
    for name in ("n_images", "n_skipped"):
        if type(results[name]) is not int or results[name] < 0:
            raise ValueError(f"{name} is {results[name]!r}")
    for name in ("grouped", "infeasible", "is_spaced"):
        if type(results[name]) is not bool:
            raise ValueError(f"{name} is {results[name]!r}")
    numbers = {name: float(results[name]) for name in ("risk", "corrected_risk", "n_eff")}
    if not 0 <= numbers["n_eff"] <= results["n_images"] * (1 + 1e-9):
        raise ValueError(f"n_eff is {results['n_eff']!r}")
    for name in ("risk", "corrected_risk"):  # NaN, the risk of no image, passes both tests
        if numbers[name] < 0 or numbers[name] > 1:
            raise ValueError(f"{name} is {results[name]!r}")
    margins = []
    for side in ("outer", "inner"):
        margin = results[f"{side}_margin"]
        if (margin is None) != (side not in configuration.sides) or (
            margin is not None and not float(margin) >= 0
        ):
            raise ValueError(f"{side}_margin is {margin!r}")
        if margin is not None:
            margins.append(float(margin))
    if any(map(math.isinf, margins)) != results["infeasible"]:
        raise ValueError(f"infeasible is {results['infeasible']!r}, and margins are {margins}")
    classes = check_foreground_classes(results["classes"], configuration.ignore_index)
    return Solution(
        margins=tuple(margins),
        **numbers,
        n_images=results["n_images"],
        n_skipped=results["n_skipped"],
        grouped=results["grouped"],
        infeasible=results["infeasible"],
        configuration=replace(configuration, classes=classes, is_spaced=results["is_spaced"]),
    )
