"""Calibration by risk control: the smallest lambda, or one for each class, stratum or image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformask import _core
from conformask._agreement import warn_of_start
from conformask._calibrator import warn_skipped
from conformask._image_models import Offsets
from conformask._text import plural
from conformask._units import Units
from conformask._warnings import warn_caller
from conformask.control import Method
from conformask.exceptions import InfeasibleRiskError, InfeasibleRiskWarning
from conformask.losses import Loss, WorstClassLoss
from conformask.profiles import Profiles, ScoreProfiles
from conformask.risk_control._solution import MOST_NAMED, Configuration, Part, Solution
from conformask.scores import lambda_max

__all__ = ["check", "is_same", "solve", "warn"]


@dataclass(frozen=True)
class Level:
    """The smallest lambda that controls a loss on some images, with its risks."""

    lambda_hat: float
    risk: float
    corrected_risk: float
    units: Units


def level_of(profiles: Profiles, loss: Loss, configuration: Configuration, on_infeasible: str) -> Level:
    """The smallest lambda at which the method controls a loss."""
    alpha, method = configuration.alpha, configuration.method
    largest = lambda_max(configuration.conformity_score, profiles.n_classes)
    units, bound = profiles._units(loss, configuration.on_empty), float(alpha)
    try:
        lam = profiles._controlled(loss, alpha, method, units)
    except InfeasibleRiskError:
        if on_infeasible != "full":
            raise
        lam, bound = largest, math.inf
    # The exact number is at most alpha, which was decided exactly; rounding must not lift it above.
    risk = profiles._risk(loss, lam, units)
    limit = min(method.limit(profiles, loss, lam, units, risk), bound)
    return Level(lam, risk, limit, units)


def _corrected(risk: float, units: Units, method: Method, bound: float) -> float:
    """The number that is compared with alpha. Exactly it is at most `bound`, and rounding must not lift it above."""
    return min(method.risk_bound(0.0 if math.isnan(risk) else risk, units), bound)


def solve(profiles: Profiles, configuration: Configuration) -> Solution:
    """The smallest lambda that controls the risk: one for all, or one for each class, stratum or image."""
    units, correction = configuration.units(profiles), None
    configuration.method.check_units(units)
    by = _kind_of_parts(profiles, configuration, units)
    parts: tuple[Part, ...] = ()
    if by == "stratum":
        found = Level(math.nan, math.nan, math.nan, units)
        parts = _by_stratum(profiles, configuration)
    elif by == "class":
        found, parts = _by_class(profiles, configuration, units)
    elif configuration.adaptive is not None:
        found, correction = _shifted(profiles, configuration, units)
    elif units.new is None:
        found = Level(math.nan, math.nan, math.nan, units)
    else:
        found = level_of(profiles, configuration.loss, configuration, configuration.on_infeasible)
    return Solution(
        lambda_hat=found.lambda_hat,
        risk=found.risk,
        corrected_risk=found.corrected_risk,
        n_images=units.n,
        n_skipped=units.n_skipped,
        n_classes=profiles.n_classes,
        configuration=configuration,
        n_eff=units.n_eff,
        correction=correction,
        grouped=units.joins_images,
        by=by,
        parts=parts,
        needs_weights=units.new is None,
    )


def _kind_of_parts(profiles: Profiles, configuration: Configuration, units: Units) -> str | None:
    """Whether classes or strata have their own lambdas; refuses combinations that are not supported."""
    with_strata = isinstance(profiles, ScoreProfiles) and profiles._strata is not None
    asked = {
        "conditional='class'": configuration.conditional is not None,
        "strata=": with_strata,
        "adaptive=": configuration.adaptive is not None,
        "sample_weight= above 1": units.new is None,
    }
    if len(given := [name for name, is_given in asked.items() if is_given]) > 1:
        raise ValueError(f"{' and '.join(given)} cannot be combined")
    return "stratum" if with_strata else configuration.conditional


def _shifted(profiles: Profiles, configuration: Configuration, units: Units) -> tuple[Level, float]:
    """For images with their own lambdas: the risk, and the smallest correction of the lambdas that controls it."""
    known, offsets = _with_offsets(profiles, configuration)
    largest, bound = (
        lambda_max(configuration.conformity_score, profiles.n_classes),
        float(configuration.alpha),
    )
    try:
        correction = _correction(known, configuration, units)
    except InfeasibleRiskError:
        if configuration.on_infeasible != "full":
            raise
        correction, bound = largest, math.inf
    lambdas = _core.corrected_lambdas(offsets.values, correction, largest)
    risk = known._risk_at(configuration.loss, lambdas, units)
    return Level(math.nan, risk, _corrected(risk, units, configuration.method, bound), units), correction


def _with_offsets(profiles: Profiles, configuration: Configuration) -> tuple[ScoreProfiles, Offsets]:
    """Exact profiles of images with their own lambdas, and these lambdas."""
    offsets = profiles._offsets if isinstance(profiles, ScoreProfiles) else None
    if (
        not isinstance(profiles, ScoreProfiles)
        or offsets is None
        or not offsets.is_of(configuration.adaptive)
    ):
        raise ValueError("the images were calibrated with another model (adaptive=): fit again")
    return profiles, offsets


def _correction(profiles: ScoreProfiles, configuration: Configuration, units: Units) -> float:
    """The smallest number that controls the risk when all lambdas rise by it."""
    method, alpha = configuration.method, configuration.alpha
    method.check_loss(configuration.loss)
    found = profiles._correction(configuration.loss, method.budget(units, alpha), units)
    if found is None:
        raise method.infeasible(units, alpha)
    return found


def _by_class(
    profiles: Profiles, configuration: Configuration, units: Units
) -> tuple[Level, tuple[Part, ...]]:
    """A lambda for each class, controlled on the images that hold it."""
    assert isinstance(profiles, ScoreProfiles)
    n_classes, largest = profiles.n_classes, configuration.simultaneous == "max"
    # An image without some class is not refused.
    asked = replace(configuration, on_empty="skip")
    classes = [[label] for label in range(n_classes)]
    if largest:
        whole = level_of(
            profiles, WorstClassLoss(configuration.loss), configuration, configuration.on_infeasible
        )
        of_classes = profiles._of_classes(classes)
        return whole, tuple(_at(own, label, whole.lambda_hat, asked) for label, own in enumerate(of_classes))
    if configuration.simultaneous == "bonferroni":
        asked = _one_of(n_classes, asked)
    found = [_level_or_need(own, asked) for own in profiles._of_classes(classes)]

    def of(labels: list[int]) -> ScoreProfiles:
        return next(profiles._of_classes([labels]))

    parts = _with_rare(range(n_classes), found, of, n_classes, asked)
    return Level(math.nan, math.nan, math.nan, units), parts


def _by_stratum(profiles: Profiles, configuration: Configuration) -> tuple[Part, ...]:
    """A lambda for each stratum, controlled on its images."""
    assert isinstance(profiles, ScoreProfiles)
    assert profiles._strata is not None
    places: dict[int | str, list[int]] = {}
    for place, name in enumerate(profiles._strata):
        places.setdefault(name, []).append(place)
    names = sorted(places)

    def of(some: list[int]) -> ScoreProfiles:
        return profiles[np.array(sorted(place for i in some for place in places[names[i]]))]

    found = [_level_or_need(of([i]), configuration) for i in range(len(names))]
    return _with_rare(names, found, of, profiles.n_classes, configuration)


def _one_of(k: int, configuration: Configuration) -> Configuration:
    """The level and method for each of k classes so that all promises hold together, by Bonferroni."""
    # The expected largest loss is at most the sum of the expected losses.
    alpha, method = configuration.alpha_of_parts(k), configuration.method.divided(k)
    return replace(configuration, alpha=alpha, method=method)


def _level_or_need(profiles: ScoreProfiles, configuration: Configuration) -> Level | InfeasibleRiskError:
    """A level, or the error that says why there is none."""
    try:
        return level_of(profiles, configuration.loss, configuration, "raise")
    except InfeasibleRiskError as error:
        return error.with_traceback(None)  # a traceback would keep the profiles in memory


def _with_rare(
    names: Sequence[int | str],
    found: Sequence[Level | InfeasibleRiskError],
    of: Callable[[list[int]], ScoreProfiles],
    n_classes: int,
    configuration: Configuration,
) -> tuple[Part, ...]:
    """All parts; rare ones are treated as `on_rare` says. `of` returns the joined profiles of some parts."""
    rare = [i for i, level in enumerate(found) if isinstance(level, InfeasibleRiskError)]
    noun = "class" if configuration.conditional == "class" else "stratum"
    is_pooling, is_monotone = configuration.on_rare == "pooled", configuration.loss._is_monotone
    shared = math.nan
    if rare:
        pooled = _level_or_need(of(rare), configuration) if is_pooling else None
        largest = lambda_max(configuration.conformity_score, n_classes)
        shared = pooled.lambda_hat if isinstance(pooled, Level) else largest if is_monotone else math.nan
    is_raising = configuration.on_rare == "raise" or (
        len(rare) == len(found) and configuration.on_infeasible == "raise"
    )
    # Full sets do not help if their loss may be large.
    if rare and (is_raising or math.isnan(shared)):
        raise _rare_error([(names[i], found[i]) for i in rare], noun, len(found), configuration)
    return tuple(
        _at(of([i]), name, shared, configuration, level)
        if isinstance(level, InfeasibleRiskError)
        else Part(name, level.lambda_hat, level.risk, level.corrected_risk, level.units.n)
        for i, (name, level) in enumerate(zip(names, found, strict=True))
    )


def _at(
    profiles: ScoreProfiles,
    name: int | str,
    lam: float,
    configuration: Configuration,
    rare: InfeasibleRiskError | None = None,
) -> Part:
    """A part with a lambda that was not found by its own images alone; `rare` is why it has none of its own."""
    units = profiles._units(configuration.loss, configuration.on_empty)
    risk = profiles._risk(configuration.loss, lam, units)
    limit = configuration.method.limit(profiles, configuration.loss, lam, units, risk)
    n_needed = None if rare is None or rare.n_images >= rare.n_needed else rare.n_needed
    return Part(name, lam, risk, limit, units.n, rare is not None, n_needed)


def _told(name: int | str, error: InfeasibleRiskError) -> str:
    is_few = error.n_images < error.n_needed
    return f"{name} ({f'{error.n_images:g} of {error.n_needed}' if is_few else 'no lambda passes'})"


def _rare_error(
    rare: list[tuple[int | str, Any]], noun: str, n_parts: int, configuration: Configuration
) -> InfeasibleRiskError:
    """Which parts have too few images, and how many they would need."""
    named = ", ".join(_told(name, error) for name, error in rare[:MOST_NAMED])
    named += f" and {len(rare) - MOST_NAMED} more" if len(rare) > MOST_NAMED else ""
    first: InfeasibleRiskError = max((error for _, error in rare), key=lambda error: error.n_images)
    who = f"{plural(len(rare), noun)} of {n_parts}"
    what = "calibration images whose weights sum to" if first._by_weight else first.unit
    are_few = all(error.n_images < error.n_needed for _, error in rare)
    needs = f"needs more {what}" if are_few else "is kept by no lambda"
    # If no part has enough images, the caller must ask for full sets for all.
    way_out = (
        f", or choose for a rare {noun} on_rare='full' (full sets) or 'pooled' (one lambda for all of these, "
        "which promises nothing for each)"
        if configuration.on_rare == "raise"
        else ", or accept full sets with on_infeasible='full'"
    )
    added = "groups" if first.unit.startswith("groups") else "images"
    reason = (
        f"alpha={float(configuration.alpha)} {needs} for {who}: {named}. Add {added}, take a larger alpha"
        f"{way_out if configuration.loss._is_monotone else ''}"
    )
    # The smallest level was that of one part.
    return first._but(alpha=float(configuration.alpha), reason=reason, smallest_alpha=None)


def check(profiles: Profiles, configuration: Configuration) -> None:
    """Refuses images that do not suit the method or the parameters, however many there are."""
    units = configuration.units(profiles)
    _kind_of_parts(profiles, configuration, units)
    configuration.method.check_units(units)


def is_same(one: Solution, other: Solution) -> bool:
    """Whether two solutions of the same images agree."""

    def found(each: Solution) -> list[Any]:
        lambdas = [each.lambda_hat, *each.lambdas.tolist()]
        names = [part.name for part in each.parts]
        return [*map(repr, lambdas), names, each.by, each.n_images, each.n_classes, each.needs_weights]

    return found(one) == found(other)


def warn(profiles: Profiles, solution: Solution) -> None:
    """Warns of what the user of a solution must know."""
    configuration = solution.configuration
    units = configuration.units(profiles)
    if solution.rare:
        warn_caller(solution.rare_text, InfeasibleRiskWarning)
    elif not solution.parts and not solution.needs_weights and not configuration.is_feasible(profiles):
        error = configuration.method.infeasible(units, configuration.alpha)
        warn_caller(f"{error.finding}: all sets hold every class", InfeasibleRiskWarning)
    warn_of_start(profiles._start(), configuration.conformity_score)
    words = "the loss is undefined on {} (no labelled pixel that counts)"
    warn_skipped(solution.n_skipped, len(profiles), units, words)
