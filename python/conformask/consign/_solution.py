"""The results of calibration: the lambda of each image, and lambda-hat, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._documents import finite_or_text
from conformask._text import lambda_text, plural
from conformask._units import KnownUnits, check_groups
from conformask.consign._images import Kind, units_of
from conformask.exceptions import InfeasibleRiskError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from conformask.consign._images import Problems
    from conformask.consign._settings import Settings

__all__ = ["Found", "Solution", "least_controlled"]

_STATUSES = ("exact", "upper_bound", "infeasible", "not_needed")


class Found:
    """What searches found, image by image."""

    def __init__(self) -> None:
        self.lambdas: list[float] = []
        self.lower_bounds: list[float] = []
        self.statuses: list[str] = []
        self.achieved: list[Fraction] = []

    def add(self, search: _core.ConsignSearch, places: Iterable[int | None]) -> None:
        """Images of a search; None is an image without labelled pixels that counts."""
        uppers, lowers, statuses = search.brackets()
        for place in places:
            if place is None:
                self.lambdas.append(0.0)
                self.lower_bounds.append(0.0)
                self.statuses.append("exact")
                self.achieved.append(Fraction(1))
                continue
            is_needed = statuses[place] != "not_needed"
            self.lambdas.append(float(uppers[place]) if is_needed else math.nan)
            self.lower_bounds.append(float(lowers[place]))
            self.statuses.append(statuses[place])
            self.achieved.append(search.achieved(place))


@dataclass(frozen=True, eq=False)
class Solution:
    """What calibration found; without `lambda_hat`, why it found none."""

    lambda_hat: float | None
    lambdas: NDArray[np.float64]
    lower_bounds: NDArray[np.float64]
    statuses: NDArray[np.str_]
    kind: Kind
    units: KnownUnits
    groups: list[int | str] | None  # of the images that count
    configuration: Settings  # for which it was found
    failure: dict[str, Any] | None = None

    @classmethod
    def of(cls, found: Found, problems: Problems, settings: Settings) -> Solution:
        """The solution from the lambdas of images: an order statistic."""
        lambdas, units = np.array(found.lambdas, np.float64), problems.units()
        lambda_hat = least_controlled(lambdas, units, settings.budget(units))
        is_found = math.isfinite(lambda_hat)
        return cls(
            lambda_hat if is_found else None,
            lambdas,
            np.array(found.lower_bounds, np.float64),
            np.array(found.statuses, np.str_),
            problems.kind,
            units,
            problems.groups(),
            settings,
            None if is_found else _failure(found, units, settings),
        )

    @property
    def controlled(self) -> float:
        """Lambda-hat, or an error that says why there is none."""
        if self.failure is not None:
            # A new exception each time: a stored one would keep its traceback, with all that this refers to.
            raise InfeasibleRiskError(**self.failure)
        assert self.lambda_hat is not None
        return self.lambda_hat

    @property
    def headline(self) -> dict[str, str]:
        """What its repr shows."""
        return {"lambda_hat_": "none" if self.lambda_hat is None else lambda_text(self.lambda_hat)}

    @property
    def grouped(self) -> bool:
        """Whether groups of several images counted once each."""
        return self.units.joins_images

    @property
    def counted(self) -> str:
        """The number of calibration units, as text: "100 images"."""
        return plural(self.units.n, "group" if self.grouped else "image")

    def rows(self) -> list[tuple[str, str]]:
        """Names and values to display."""
        skipped = f" ({self.units.n_skipped} skipped)" if self.units.n_skipped else ""
        names, counts = np.unique(self.statuses, return_counts=True)
        statuses = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))
        return [
            ("alpha", f"{float(self.configuration.alpha):g}"),
            ("method", f"{self.configuration.method!r}"),
            ("min_accuracy", f"{float(self.configuration.min_accuracy):g}"),
            ("lambda_hat_", "none: it abstains" if self.lambda_hat is None else f"{self.lambda_hat:.6g}"),
            ("n_images_", f"{self.units.n}{skipped}"),
            ("image_status_", statuses),
            ("n_classes_", f"{self.kind.n_classes}"),
        ]

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        return {
            "lambda_hat": self.controlled,
            "image_lambdas": [finite_or_text(value) for value in self.lambdas],
            "image_lower_bounds": [finite_or_text(value) for value in self.lower_bounds],
            "image_status": self.statuses.tolist(),
            "groups": self.groups,
            "n_skipped": self.units.n_skipped,
            "n_classes": self.kind.n_classes,
            "n_axes": self.kind.n_axes,
            "n_samples": None if self.kind.n_samples is None else list(self.kind.n_samples),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], settings: Settings) -> Solution:
        """Results from a file; refuses results that no calibration gives."""
        results = document["results"]
        lambdas, lower_bounds = (
            np.array([float(value) for value in results[name]])
            for name in ("image_lambdas", "image_lower_bounds")
        )
        statuses, n = np.array(results["image_status"], dtype=np.str_), len(lambdas)
        if not len(lower_bounds) == len(statuses) == n or not set(statuses) <= set(_STATUSES):
            raise ValueError("the results of the images do not fit each other")
        if (lambdas < 0).any() or not (lower_bounds >= 0).all() or (lambdas < lower_bounds).any():
            raise ValueError("image_lambdas and image_lower_bounds do not fit each other")
        ranges = {"n_skipped": (0, math.inf), "n_classes": (2, math.inf), "n_axes": (2, 3)}
        for name, (least, largest) in ranges.items():
            if type(results[name]) is not int or not least <= results[name] <= largest:
                raise ValueError(f"{name} is {results[name]!r}")
        groups, n_samples = None, None
        if document["format_version"] > 1:
            groups, n_samples = check_groups(results["groups"], n), results["n_samples"]
        if n_samples is not None and not all(type(each) is int and each > 0 for each in n_samples):
            raise ValueError(f"n_samples is {n_samples!r}")
        units = units_of(n, groups, results["n_skipped"])
        lambda_hat = float(results["lambda_hat"])
        known = least_controlled(lambdas, units, settings.budget(units))
        if lambda_hat != known or not math.isfinite(lambda_hat):
            raise ValueError(f"lambda_hat is {results['lambda_hat']!r}, not that of the images")
        kind = Kind(results["n_classes"], results["n_axes"], None if n_samples is None else tuple(n_samples))
        return cls(lambda_hat, lambdas, lower_bounds, statuses, kind, units, groups, settings)


def least_controlled(lambdas: ArrayLike, units: KnownUnits, budget: Fraction) -> float:
    """The smallest lambda beyond which no more images lie than the budget allows; infinite if none is.

    The lambda of an image is NaN where it is not known, and counts as infinite.
    """
    largest = np.finfo(np.float64).max
    finite = np.nan_to_num(np.asarray(lambdas, np.float64), nan=largest, posinf=largest)
    shares = np.ones(len(finite)) if units.shares is None else units.shares
    found = _core.weighted_quantile(finite, shares, budget, 0.0)
    return math.inf if found is None or found == largest else found


def _failure(found: Found, units: KnownUnits, settings: Settings) -> dict[str, Any]:
    """The reason for an InfeasibleRiskError."""
    alpha, n, n_needed = float(settings.alpha), units.n, settings.method.n_needed(settings.alpha)
    left_out = f" ({units.n_skipped} images without a labelled pixel are left out)" if units.n_skipped else ""
    no_lambda = f"no lambda controls the risk at alpha={alpha} with {n} {units.name}{left_out}"
    failure = {
        "n_images": n,
        "alpha": alpha,
        "n_needed": n_needed,
        "unit": units.name,
        "n_skipped": units.n_skipped,
    }
    budget = settings.budget(units)
    if budget < 0:
        what = "images" if units.shares is None else "groups"
        reason = f"{no_lambda}: at least {n_needed} are needed. Add {what}, or take a larger alpha"
        return {**failure, "reason": reason}
    n_infeasible = found.statuses.count("infeasible")
    n_open = sum(math.isinf(lam) for lam in found.lambdas) - n_infeasible
    what = f"reach min_accuracy for any lambda up to {settings.lambda_max:g}"
    clauses = [
        *([f"{_images(n_infeasible, 'does', 'do')} not {what}"] if n_infeasible else []),
        *([f"{_images(n_open, 'was', 'were')} not shown to {what}"] if n_open else []),
    ]
    n_allowed = math.floor(budget)
    allowed = (
        f"at most {_images(n_allowed, 'is', 'are', 'such ')} allowed" if n_allowed else "none is allowed"
    )
    if units.shares is not None:
        allowed = f"at most {float(budget):.3g} groups may be missed in all, each by the share of its images"
    feasible = _round_down(_feasible_accuracy(found, units, budget), settings.strict)
    # A level that is chosen by these labels has no guarantee.
    seen = (
        f" min_accuracy={feasible:g} would have been feasible here: use it on new calibration images only."
        if feasible
        else ""
    )
    all_fail = (
        " If that is a surprise: X must be (n, S, K, H, W)." if n_infeasible == len(found.lambdas) else ""
    )
    return {
        **failure,
        "reason": f"{no_lambda} and min_accuracy={float(settings.min_accuracy)}: {'; '.join([*clauses, allowed])}. "
        "Take more samples, more components or a larger lambda_max, or fix a lower min_accuracy beforehand and "
        "calibrate on new images: accuracy_range tells from samples alone, without labels, what they can reach."
        f"{seen}{all_fail}",
        "n_infeasible": n_infeasible,
        "feasible_min_accuracy": feasible or None,
    }


def _images(n: int, verb: str, verb_of_many: str, which: str = "") -> str:
    return f"{plural(n, f'{which}image')} {verb if n == 1 else verb_of_many}"


def _feasible_accuracy(found: Found, units: KnownUnits, budget: Fraction) -> Fraction:
    """The largest accuracy at which the number of missed images is within the budget."""
    missed = Fraction(0)
    shares = units.shares or [Fraction(1)] * len(found.achieved)
    for accuracy, share in sorted(zip(found.achieved, shares, strict=True)):
        missed += share
        if missed > budget:
            return accuracy
    raise AssertionError("the budget is less than all images")


def _round_down(accuracy: Fraction, strict: bool) -> float:
    """The accuracy, rounded down to four decimals; strictly below it if it must be exceeded."""
    units = math.floor(accuracy * 10_000)
    return (units - (strict and accuracy * 10_000 == units)) / 10_000
