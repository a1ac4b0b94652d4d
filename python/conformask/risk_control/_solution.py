"""Parameters and solution of calibration by risk control: lambda-hat and risks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._arrays import INPUTS, check_ignore_index
from conformask._calibrator import Parameter, State, number, one_of, own_model
from conformask._documents import finite_or_text
from conformask._exact import check_alpha
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
from conformask.control import LTT, Method, check_by_budget, method_parameter
from conformask.losses import Loss, check_of_any_class, loss_from_json, loss_parameter, loss_to_json
from conformask.profiles import Profiles
from conformask.profiles.binned import check_collect
from conformask.risk_control._adaptive import check_adaptive
from conformask.scores import ConformityScore, lambda_max, score_parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes

__all__ = [
    "MOST_NAMED",
    "PARAMETERS",
    "WITHOUT_PROFILES",
    "Configuration",
    "Part",
    "Solution",
    "profiles_of",
    "solution_from_json",
]

PARAMETERS: Mapping[str, Parameter] = {
    "conformity_score": score_parameter(stale="images"),
    "loss": loss_parameter(stale="result"),
    "alpha": number("alpha", check_alpha, stale="result"),
    "method": method_parameter(),
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
    "conditional": one_of("conditional", None, "class", stale="result", since=5),
    "simultaneous": one_of("simultaneous", False, "bonferroni", "max", stale="result", since=5),
    "on_rare": one_of("on_rare", "full", "pooled", "raise", stale="result", since=5),
    "on_unseen": one_of("on_unseen", "raise", "full", since=5),
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
    ignore_index: int | tuple[int, ...] | None
    profile: str
    collect: tuple[Loss, ...]
    conditional: str | None
    simultaneous: bool | str
    on_rare: str
    on_unseen: str
    on_empty: OnEmpty
    on_infeasible: str
    volumes: Volumes
    progress: bool | str

    def __post_init__(self) -> None:
        if self.conditional is not None:
            check_of_any_class(self.loss, f"conditional={self.conditional!r}")
            if self.on_empty == "zero_loss" and self.simultaneous != "max":
                raise ValueError(
                    "on_empty='zero_loss' would count images without a class as if nothing of it was missed: "
                    "conditional='class' promises for images that hold it, pass on_empty='skip'"
                )
        self.method.check_loss(self.loss)
        if self.conditional is None and self.simultaneous:
            raise ValueError(
                "simultaneous= is for classes that have lambdas of their own: conditional='class'"
            )
        if self.conditional is not None:
            if self.adaptive is not None:
                raise ValueError("conditional='class' and adaptive= cannot be combined")
            if self.profile == "binned":
                raise ValueError(
                    "conditional='class' needs the losses of single images: pass profile='exact'"
                )
        if not self.loss._is_monotone and self.on_infeasible != "raise":
            raise ValueError(
                f"on_infeasible={self.on_infeasible!r} takes full sets, but the loss {self.loss} may rise with lambda, "
                "and be large for these: pass on_infeasible='raise'"
            )
        if not self.loss._is_monotone and self.on_unseen != "raise":
            raise ValueError(
                f"on_unseen={self.on_unseen!r} takes full sets, but the loss {self.loss} may rise with lambda, and be "
                "large for these: pass on_unseen='raise'"
            )
        if self.adaptive is not None:
            check_by_budget(self.method, "adaptive= gives each image its own")
        if self.profile == "binned":
            check_collect([self.loss, *self.collect])
            if self.method.needs_single_images:
                raise ValueError(f"{self.method!r} needs the losses of single images: pass profile='exact'")
            if self.adaptive is not None:
                raise ValueError("adaptive= needs the losses of single images: pass profile='exact'")
        checked_inputs(self.inputs, self.transform)

    @property
    def controls_worst_class(self) -> bool:
        """Whether alpha limits the largest loss among an image's classes, which the sum of their risks bounds, too."""
        by_sum = self.simultaneous == "bonferroni" and self.method.confidence is None
        return self.simultaneous == "max" or by_sum

    def alpha_of_parts(self, n_classes: int) -> Fraction:
        """The level that each class or stratum keeps."""
        return self.alpha / n_classes if self.controls_worst_class else self.alpha

    @property
    def given(self) -> Inputs:
        """How probabilities are made of the model's numbers."""
        return checked_inputs(self.inputs, self.transform)

    def units(self, profiles: Profiles) -> Units:
        """The units that count; refuses profiles by another score."""
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
        """The lambdas at which classes are counted, ascending; None if the loss needs no counts."""
        if self.loss._is_monotone or not isinstance(self.method, LTT):
            return None
        return np.array(sorted(self.method.grid))

    def collected(self) -> list[Loss] | None:
        """The losses that bins collect; None if profiles are exact."""
        return [self.loss, *self.collect] if self.profile == "binned" else None


@dataclass(frozen=True)
class Part:
    """The solution for one class, or for the images of one stratum."""

    name: int | str
    lambda_hat: float
    risk: float  # NaN if there were no calibration images
    corrected_risk: float
    n_images: int
    is_rare: bool = False  # whether no lambda of its own keeps alpha; `on_rare` says what to do then
    n_needed: int | None = (
        None  # so many where its images are too few; None where they are not, and no test passes
    )

    def told(self, name: str) -> str:
        """The name of a rare part, with the reason."""
        why = "no lambda passes" if self.n_needed is None else f"{self.n_images} of {self.n_needed}"
        return f"{name} ({why})"


@dataclass(frozen=True)
class Solution:
    """What calibration found."""

    lambda_hat: float
    risk: float
    corrected_risk: float
    n_images: int
    n_skipped: int
    n_classes: int
    configuration: Configuration  # for which it was found
    n_eff: float
    correction: float | None = None  # of the lambdas that images have of their own; lambda_hat is then NaN
    grouped: bool | None = None  # whether groups of several images counted once; None: a file does not tell
    by: str | None = None  # "class" or "stratum", if these have lambdas of their own: lambda_hat is NaN then
    parts: tuple[Part, ...] = ()  # of each of them
    needs_weights: bool = False  # whether new images have lambdas of their own, by their weights

    @cached_property
    def lambdas(self) -> NDArray[np.float64]:
        """The lambdas of the parts."""
        return np.array([part.lambda_hat for part in self.parts])

    @property
    def is_weighted(self) -> bool:
        """Whether images counted differently."""
        return self.needs_weights or self.n_eff < self.n_images * (1 - 1e-9)

    @property
    def rare(self) -> list[Part]:
        """The parts without a lambda of their own that keeps alpha."""
        return [part for part in self.parts if part.is_rare]

    @property
    def rare_text(self) -> str:
        """A sentence on which parts are rare, and what is done with them."""
        return self.rare_text_of({part.name: str(part.name) for part in self.rare})

    def rare_text_of(self, names: Mapping[int | str, str]) -> str:
        """The same with given names of the parts."""
        noun, rare = _NOUNS[self.by], self.rare
        named = ", ".join(part.told(names[part.name]) for part in rare[:MOST_NAMED])
        more = f" and {len(rare) - MOST_NAMED} more" if len(rare) > MOST_NAMED else ""
        have = "has" if len(rare) == 1 else "have"
        units = "groups" if self.grouped else "images"
        tests = " or no lambda that passes" if any(part.n_needed is None for part in rare) else ""
        who = f"{plural(len(rare), noun)} of {len(self.parts)}"
        head = f"{who} {have} too few calibration {units}{tests}: {named}{more}"
        if self.configuration.on_rare == "pooled" and rare[0].lambda_hat < self.largest:
            return (
                f"{head}. They share one lambda (on_rare='pooled'), which promises nothing for each by itself"
            )
        pooled = " Together they have too few, too." if self.configuration.on_rare == "pooled" else ""
        it = "it is" if len(rare) == 1 else "they are"
        full = f"{it} in every set" if self.by == "class" else "all sets of these images are full"
        return f"{head}.{pooled} For the promise to hold, {full}"

    @property
    def largest(self) -> float:
        """The lambda of full sets."""
        return lambda_max(self.configuration.conformity_score, self.n_classes)

    @property
    def counted(self) -> str:
        """The number of calibration units, as text: "100 images"."""
        return plural(self.n_images, "group" if self.grouped else "image")

    @property
    def headline(self) -> dict[str, str]:
        """What its repr shows."""
        if self.correction is not None:
            return {"correction_": f"{self.correction:.6g}"}
        if self.parts:
            ends = " to ".join(dict.fromkeys(lambda_text(end(self.lambdas)) for end in (np.min, np.max)))
            return {"lambda_hat_": f"{ends} ({plural(len(self.parts), _NOUNS[self.by])})"}
        return {"lambda_hat_": lambda_text(self.lambda_hat)}

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""

        def texts(values: dict[str, Any]) -> dict[str, Any]:
            return {
                name: finite_or_text(value) if isinstance(value, float) else value
                for name, value in values.items()
            }

        found = texts({name: getattr(self, name) for name in _RESULTS})
        parts = [texts(asdict(part)) for part in self.parts]
        return {**found, "by": self.by, "parts": parts, "needs_weights": self.needs_weights}

    def rows(self) -> list[tuple[str, str]]:
        """Names and values to display."""
        skipped = f" ({self.n_skipped} skipped)" if self.n_skipped else ""
        asked = self.configuration
        return [
            ("conformity_score", f"{asked.conformity_score}"),
            ("loss", f"{asked.loss}"),
            ("alpha", f"{float(asked.alpha):g}"),
            ("method", f"{asked.method!r}"),
            *self.headline.items(),
            *([] if math.isnan(self.corrected_risk) else [("risk_", f"{self.risk:.4f}")]),
            *([] if math.isnan(self.corrected_risk) else [("corrected_risk_", f"{self.corrected_risk:.4f}")]),
            *self._confident_rows(),
            ("n_images_", f"{self.n_images}{' groups' if self.grouped else ''}{skipped}"),
            ("n_classes_", f"{self.n_classes}"),
            *([("rare", ", ".join(str(part.name) for part in self.rare))] if self.rare else []),
        ]

    @property
    def risk_bound(self) -> float | None:
        """An upper confidence limit of the risk at lambda-hat; None for methods without one."""
        return None if self.confidence is None or math.isnan(self.corrected_risk) else self.corrected_risk

    @property
    def confidence(self) -> float | None:
        """The probability over calibration images with which the promise holds; None if it is about their average."""
        return self.configuration.method.confidence

    def _confident_rows(self) -> list[tuple[str, str]]:
        if self.confidence is None:
            return []
        return [("risk_bound_", f"{self.risk_bound:.4f}"), ("confidence_", f"{self.confidence:g}")]


MOST_NAMED = 10
_NOUNS: dict[str | None, str] = {"class": "class", "stratum": "stratum"}

_RESULTS = (
    *("lambda_hat", "risk", "corrected_risk"),
    *("n_images", "n_skipped", "n_classes", "n_eff", "grouped"),
)


WITHOUT_PROFILES = (
    "this calibrator has no profiles: fit again, or load a file that was saved with profiles=True, with the .npz "
    "file beside it"
)


def profiles_of(state: State[Profiles, Solution]) -> Profiles:
    """The profiles that were kept of the images."""
    if state.kept is None:
        raise ValueError(WITHOUT_PROFILES)
    return state.kept


def solution_from_json(document: dict[str, Any], configuration: Configuration) -> Solution:
    """Results from a file; refuses results that no calibration gives."""
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
    by, needs_weights = results.get("by"), results.get("needs_weights", False)
    is_known = (
        by == "stratum" if configuration.conditional is None and by else by == configuration.conditional
    )
    if not is_known or type(needs_weights) is not bool or (needs_weights and by):
        raise ValueError(f"by is {by!r}, needs_weights {needs_weights!r}")
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
        by=by,
        parts=_parts_from_json(results.get("parts", []), by, results["n_classes"]),
        needs_weights=needs_weights,
    )
    if not 0 <= solution.n_eff <= solution.n_images * (1 + 1e-9):
        raise ValueError(f"n_eff is {n_eff!r}")
    largest = lambda_max(configuration.conformity_score, solution.n_classes)
    has_one = not needs_weights and (by is None or configuration.simultaneous == "max")
    lambdas = ([solution.lambda_hat] if has_one else []) + [part.lambda_hat for part in solution.parts]
    for lam in lambdas:
        if not 0 <= lam <= largest:
            raise ValueError(f"lambda_hat is {lam!r}")
    for each in (solution, *solution.parts):
        for name in ("risk", "corrected_risk"):  # NaN, the risk of no image, passes both tests
            if getattr(each, name) < 0 or getattr(each, name) > 1:
                raise ValueError(f"{name} is {getattr(each, name)!r}")
    return solution


def _parts_from_json(found: Any, by: str | None, n_classes: int) -> tuple[Part, ...]:
    """The classes or strata in a file."""
    parts = []
    for each in found:
        name, n_images, n_needed = each["name"], each["n_images"], each["n_needed"]
        kinds = (int,) if by == "class" else (int, str)
        if type(name) not in kinds or type(n_images) is not int or n_images < 0:
            raise ValueError(f"one of the parts is {each!r}")
        if n_needed is not None and (type(n_needed) is not int or n_needed < 0):
            raise ValueError(f"n_needed is {n_needed!r}")
        lam, risk, corrected_risk = (float(each[key]) for key in ("lambda_hat", "risk", "corrected_risk"))
        if type(each["is_rare"]) is not bool:
            raise ValueError(f"is_rare is {each['is_rare']!r}")
        parts.append(Part(name, lam, risk, corrected_risk, n_images, each["is_rare"], n_needed))
    names = [part.name for part in parts]
    expected = {"class": list(range(n_classes)), None: []}.get(by, sorted(set(names)))
    if names != expected or (by == "stratum" and not names):
        raise ValueError(f"the parts are {names!r}")
    return tuple(parts)
