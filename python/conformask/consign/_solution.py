"""What calibration finds: image by image, lambda-hat, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._documents import finite_or_text
from conformask._exact import check_alpha
from conformask.consign._images import Kind
from conformask.control import CRC
from conformask.exceptions import InfeasibleRiskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Found", "Solution", "order"]

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
    n_skipped: int
    kind: Kind
    asked: dict[str, Any]  # the parameters that it answers
    failure: dict[str, Any] | None = None

    @classmethod
    def of(cls, found: Found, n_skipped: int, kind: Kind, asked: dict[str, Any]) -> Solution:
        """The order statistic of what was found."""
        lambdas = np.array(found.lambdas, np.float64)
        lambda_hat = _order_statistic(lambdas, check_alpha(asked["alpha"]))
        is_found = math.isfinite(lambda_hat)
        return cls(
            lambda_hat if is_found else None,
            lambdas,
            np.array(found.lower_bounds, np.float64),
            np.array(found.statuses, np.str_),
            n_skipped,
            kind,
            asked,
            None if is_found else _failure(found, n_skipped, asked),
        )

    def error(self) -> InfeasibleRiskError:
        """A new one each time: an exception that is kept keeps what it passed through."""
        assert self.failure is not None
        return InfeasibleRiskError(**self.failure)

    def to_json(self) -> dict[str, Any]:
        """What a file holds of it."""
        return {
            "lambda_hat": self.lambda_hat,
            "image_lambdas": [finite_or_text(value) for value in self.lambdas],
            "image_lower_bounds": [finite_or_text(value) for value in self.lower_bounds],
            "image_status": self.statuses.tolist(),
            "n_skipped": self.n_skipped,
            "n_classes": self.kind.n_classes,
            "n_axes": self.kind.n_axes,
        }

    @classmethod
    def from_json(cls, results: dict[str, Any], asked: dict[str, Any]) -> Solution:
        """Results of a file; refuses what no calibration gives."""
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
        lambda_hat = float(results["lambda_hat"])
        if lambda_hat != _order_statistic(lambdas, check_alpha(asked["alpha"])) or not math.isfinite(
            lambda_hat
        ):
            raise ValueError(f"lambda_hat is {results['lambda_hat']!r}, not that of the images")
        kind = Kind(results["n_classes"], results["n_axes"])
        return cls(lambda_hat, lambdas, lower_bounds, statuses, results["n_skipped"], kind, asked)


def order(n: int, alpha: Fraction) -> int:
    """Which smallest lambda of n is lambda-hat; more than n if none is."""
    return math.ceil((n + 1) * (1 - alpha))


def _order_statistic(lambdas: NDArray[np.float64], alpha: Fraction) -> float:
    k = order(len(lambdas), alpha)
    if k > len(lambdas):
        return math.inf
    return float(np.sort(np.where(np.isnan(lambdas), math.inf, lambdas))[k - 1])


def _failure(found: Found, n_skipped: int, asked: dict[str, Any]) -> dict[str, Any]:
    """What an InfeasibleRiskError says."""
    n, alpha = len(found.lambdas), check_alpha(asked["alpha"])
    n_needed, k = CRC().n_needed(alpha), order(len(found.lambdas), alpha)
    left_out = f" ({n_skipped} images without a labelled pixel are left out)" if n_skipped else ""
    no_lambda = f"no lambda controls the risk at alpha={asked['alpha']} with {n} calibration images{left_out}"
    failure = {"n_images": n, "alpha": asked["alpha"], "n_needed": n_needed, "n_skipped": n_skipped}
    if k > n:
        reason = f"{no_lambda}: at least {n_needed} are needed. Add images"
        return {**failure, "reason": reason}
    n_infeasible = found.statuses.count("infeasible")
    n_open = sum(math.isinf(lam) for lam in found.lambdas) - n_infeasible
    what = f"be as accurate for any lambda up to {float(asked['lambda_max']):g}"
    clauses = [
        *([f"{n_infeasible} images cannot {what}"] if n_infeasible else []),
        *([f"{n_open} {'more ' if n_infeasible else ''}were not shown to {what}"] if n_open else []),
    ]
    feasible = _round_down(sorted(found.achieved)[n - k], bool(asked["strict"]))
    # A level that is read off these labels keeps no promise on them.
    seen = (
        f" min_accuracy={feasible:g} would have been feasible here: use it on new calibration images only."
        if feasible
        else ""
    )
    all_fail = " If that is a surprise: X must be (n, S, K, H, W)." if n_infeasible == n else ""
    return {
        **failure,
        "reason": f"{no_lambda} and min_accuracy={asked['min_accuracy']}: {', '.join(clauses)}, and at most {n - k} "
        f"may. Take more samples, more components or a larger lambda_max, or fix a lower min_accuracy beforehand and "
        f"calibrate on new images.{seen}{all_fail}",
        "n_infeasible": n_infeasible,
        "feasible_min_accuracy": feasible or None,
    }


def _round_down(accuracy: Fraction, strict: bool) -> float:
    """To four decimals; strictly below if the accuracy must be exceeded."""
    units = math.floor(accuracy * 10_000)
    return (units - (strict and accuracy * 10_000 == units)) / 10_000
