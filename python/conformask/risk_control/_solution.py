"""What calibration by risk control asks and finds: parameters, lambda-hat, risks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._arrays import INPUTS, check_ignore_index
from conformask._calibrator import Parameter, State, number, one_of, own_model, warn_skipped
from conformask._documents import finite_or_text
from conformask._exact import check_alpha
from conformask._image_models import Offsets
from conformask._text import lambda_text, plural
from conformask._transforms import (
    Inputs,
    ScoreTransform,
    checked_inputs,
    transform_from_json,
    transform_of,
    transform_to_json,
)
from conformask._units import OnEmpty, Units
from conformask._warnings import warn_caller
from conformask.control import (
    LTT,
    Method,
    as_method,
    check_by_budget,
    method_from_document,
    method_to_document,
)
from conformask.exceptions import InfeasibleRiskError, InfeasibleRiskWarning
from conformask.losses import Loss, as_loss, loss_from_json, loss_to_json
from conformask.profiles import Profiles, ScoreProfiles
from conformask.profiles.binned import check_collect
from conformask.risk_control._adaptive import check_adaptive
from conformask.scores import ConformityScore, as_score, lambda_max, score_from_json, score_to_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes

__all__ = [
    "PARAMETERS",
    "WITHOUT_PROFILES",
    "Configuration",
    "Solution",
    "profiles_of",
    "solution_from_json",
    "solve",
    "warn",
]

PARAMETERS: Mapping[str, Parameter] = {
    "conformity_score": Parameter(
        as_score,
        stale="images",
        to_json=lambda score: json.loads(score_to_json(as_score(score))),
        from_json=lambda found: score_from_json(json.dumps(found)),
    ),
    "loss": Parameter(
        as_loss,
        stale="result",
        to_json=lambda loss: json.loads(loss_to_json(as_loss(loss))),
        from_json=lambda found: loss_from_json(json.dumps(found)),
    ),
    "alpha": number("alpha", check_alpha, stale="result"),
    "method": Parameter(
        as_method,
        stale="result",
        to_json=lambda method: method_to_document(as_method(method)),
        from_json=method_from_document,
    ),
    "inputs": one_of("inputs", *INPUTS),
    "transform": Parameter(
        transform_of,
        stale="images",
        to_json=transform_to_json,
        from_json=transform_from_json,
        since=3,
    ),
    "adaptive": own_model("a model of your own (adaptive=)", check_adaptive, since=4),
    "ignore_index": Parameter(check_ignore_index),
    "profile": one_of("profile", "exact", "binned"),
    "collect": Parameter(
        check_collect,
        to_json=lambda losses: [json.loads(loss_to_json(loss)) for loss in check_collect(losses)],
        from_json=lambda found: tuple(loss_from_json(json.dumps(loss)) for loss in found),
        since=2,
    ),
    "on_empty": one_of("on_empty", "skip", "raise", "zero_loss", stale="result"),
    "on_infeasible": one_of("on_infeasible", "raise", "full", stale="result"),
    "volumes": one_of("volumes", True, False, "auto", since=2),
    "progress": one_of("progress", True, False, "auto"),
}


@dataclass(frozen=True)
class Configuration:
    """The parameters, resolved."""

    conformity_score: ConformityScore
    loss: Loss
    alpha: Fraction
    method: Method
    inputs: str
    transform: ScoreTransform | None
    adaptive: Any
    ignore_index: int | None
    profile: str
    collect: tuple[Loss, ...]
    on_empty: OnEmpty
    on_infeasible: str
    volumes: Volumes
    progress: bool | str

    def __post_init__(self) -> None:
        self.method.check_loss(self.loss)
        if not self.loss._is_monotone and self.on_infeasible != "raise":
            raise ValueError(
                f"on_infeasible={self.on_infeasible!r} takes full sets, but the loss {self.loss} may rise with lambda, "
                "and be large for these: say 'raise'"
            )
        if self.adaptive is not None:
            check_by_budget(self.method, "adaptive= gives each image its own")
        if self.profile == "binned":
            check_collect([self.loss, *self.collect])
            if self.method.needs_single_images:
                raise ValueError(f"{self.method!r} needs the losses of single images: say profile='exact'")
            if self.adaptive is not None:
                raise ValueError("adaptive= needs the losses of single images: say profile='exact'")
        checked_inputs(self.inputs, self.transform)

    @property
    def given(self) -> Inputs:
        """What makes probabilities of what the model gives."""
        return checked_inputs(self.inputs, self.transform)

    def units(self, profiles: Profiles) -> Units:
        """Who counts; refuses profiles by another score."""
        known = profiles.conformity_score
        if known != self.conformity_score:
            raise ValueError(
                f"conformity_score is {self.conformity_score}, but the images were calibrated with {known}: fit again"
            )
        return profiles._units(self.loss, self.on_empty)

    def check_units(self, profiles: Profiles) -> None:
        """Refuses images that the method cannot count."""
        self.method.check_units(self.units(profiles))

    def is_feasible(self, profiles: Profiles) -> bool:
        """Whether some lambda controls the risk."""
        return self.method.is_feasible(profiles, self.loss, self.alpha, self.units(profiles))

    @property
    def grid(self) -> NDArray[np.float64] | None:
        """The lambdas at which classes are counted, ascending; None where the loss asks for no counts."""
        if self.loss._is_monotone or not isinstance(self.method, LTT):
            return None
        return np.array(sorted(self.method.grid))

    def collected(self) -> list[Loss] | None:
        """The losses that bins collect; None where profiles are exact."""
        return [self.loss, *self.collect] if self.profile == "binned" else None


@dataclass(frozen=True)
class Solution:
    """What calibration found."""

    lambda_hat: float
    risk: float
    corrected_risk: float
    n_images: int
    n_skipped: int
    n_classes: int
    configuration: Configuration  # it was found for
    n_eff: float
    correction: float | None = None  # of the lambdas that images have of their own; lambda_hat is then NaN
    grouped: bool | None = None  # whether groups of several images counted once; None: a file does not tell

    @property
    def counted(self) -> str:
        """What calibrated: "100 images"."""
        return plural(self.n_images, "group" if self.grouped else "image")

    @property
    def headline(self) -> dict[str, str]:
        """What its repr shows."""
        if self.correction is not None:
            return {"correction_": f"{self.correction:.6g}"}
        return {"lambda_hat_": lambda_text(self.lambda_hat)}

    def to_json(self) -> dict[str, Any]:
        """What a file holds of it."""
        return {name: finite_or_text(getattr(self, name)) for name in _RESULTS}

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for people."""
        skipped = f" ({self.n_skipped} skipped)" if self.n_skipped else ""
        asked = self.configuration
        return [
            ("conformity_score", f"{asked.conformity_score}"),
            ("loss", f"{asked.loss}"),
            ("alpha", f"{float(asked.alpha):g}"),
            ("method", f"{asked.method!r}"),
            *self.headline.items(),
            ("risk_", f"{self.risk:.4f}"),
            ("corrected_risk_", f"{self.corrected_risk:.4f}"),
            *self._confident_rows(),
            ("n_images_", f"{self.n_images}{' groups' if self.grouped else ''}{skipped}"),
            ("n_classes_", f"{self.n_classes}"),
        ]

    @property
    def risk_bound(self) -> float | None:
        """An upper confidence limit of the risk at lambda-hat; None by methods that give none."""
        return None if self.confidence is None else self.corrected_risk

    @property
    def confidence(self) -> float | None:
        """With what probability over calibration images the promise holds; None if it is about their average."""
        return self.configuration.method.confidence

    def _confident_rows(self) -> list[tuple[str, str]]:
        if self.confidence is None:
            return []
        return [("risk_bound_", f"{self.risk_bound:.4f}"), ("confidence_", f"{self.confidence:g}")]


_RESULTS = (
    *("lambda_hat", "risk", "corrected_risk"),
    *("n_images", "n_skipped", "n_classes", "n_eff", "grouped"),
)


WITHOUT_PROFILES = (
    "this calibrator was saved without its profiles: fit again, or load a file that was saved with "
    "profiles=True"
)


def profiles_of(state: State[Profiles, Solution]) -> Profiles:
    """What was kept of the images."""
    if state.kept is None:
        raise ValueError(WITHOUT_PROFILES)
    return state.kept


@dataclass(frozen=True)
class Level:
    """The smallest lambda that controls one loss of some images, and what is known of it."""

    lambda_hat: float
    risk: float
    corrected_risk: float
    units: Units


def level_of(
    profiles: Profiles, loss: Loss, method: Method, configuration: Configuration, on_infeasible: str
) -> Level:
    """The smallest lambda at which a method controls a loss."""
    alpha, largest = configuration.alpha, lambda_max(configuration.conformity_score, profiles.n_classes)
    units, bound = profiles._units(loss, configuration.on_empty), float(alpha)
    try:
        lam = profiles._controlled(loss, alpha, method, units)
    except InfeasibleRiskError:
        if on_infeasible != "full":
            raise
        lam, bound = largest, math.inf
    risk = profiles._risk(loss, lam, units)
    # What was decided exactly is at most alpha: rounding must not lift it above.
    return Level(lam, risk, min(method.limit(profiles, loss, lam, units), bound), units)


def _corrected(risk: float, units: Units, method: Method, bound: float) -> float:
    """What is compared with alpha; as was decided exactly at most `bound`, above which rounding must not lift it."""
    return min(method.risk_bound(0.0 if math.isnan(risk) else risk, units), bound)


def solve(profiles: Profiles, configuration: Configuration) -> Solution:
    """The smallest lambda that controls the risk."""
    units, correction = configuration.units(profiles), None
    if configuration.adaptive is None:
        found = level_of(
            profiles, configuration.loss, configuration.method, configuration, configuration.on_infeasible
        )
    else:
        found, correction = _shifted(profiles, configuration, units)
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
    )


def _shifted(profiles: Profiles, configuration: Configuration, units: Units) -> tuple[Level, float]:
    """Of images that have lambdas of their own: the risk, and the smallest number that corrects them."""
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
    """Exact profiles of images that have lambdas of their own, and these."""
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


def warn(profiles: Profiles, solution: Solution) -> None:
    """Says of a solution what its user must know."""
    configuration = solution.configuration
    units = configuration.units(profiles)
    if not configuration.is_feasible(profiles):
        error = configuration.method.infeasible(units, configuration.alpha)
        warn_caller(f"{error.finding}: all sets hold every class", InfeasibleRiskWarning)
    words = "the loss is undefined on {} (no labelled pixel that counts)"
    warn_skipped(solution.n_skipped, len(profiles), units, words)


def solution_from_json(document: dict[str, Any], configuration: Configuration) -> Solution:
    """Results of a file; refuses what no calibration gives."""
    results = dict(document["results"])
    if document["format_version"] == 1:
        results["corrected_risk"] = results["risk_bound"]
    for name, least in {"n_images": 0, "n_skipped": 0, "n_classes": 2}.items():
        if type(results[name]) is not int or results[name] < least:
            raise ValueError(f"{name} is {results[name]!r}")
    n_eff: Any = results.get("n_eff", results["n_images"])
    grouped = results.get("grouped")
    if grouped is not None and type(grouped) is not bool:
        raise ValueError(f"grouped is {grouped!r}")
    solution = Solution(
        lambda_hat=float(results["lambda_hat"]),
        risk=float(results["risk"]),
        corrected_risk=float(results["corrected_risk"]),
        n_images=results["n_images"],
        n_skipped=results["n_skipped"],
        n_classes=results["n_classes"],
        configuration=configuration,
        n_eff=float(n_eff),
        grouped=grouped,
    )
    if not 0 <= solution.n_eff <= solution.n_images * (1 + 1e-9):
        raise ValueError(f"n_eff is {n_eff!r}")
    if not 0 <= solution.lambda_hat <= lambda_max(configuration.conformity_score, solution.n_classes):
        raise ValueError(f"lambda_hat is {solution.lambda_hat!r}")
    for name in ("risk", "corrected_risk"):  # NaN, the risk of no image, is not beyond either
        if getattr(solution, name) < 0 or getattr(solution, name) > 1:
            raise ValueError(f"{name} is {getattr(solution, name)!r}")
    return solution
