"""What a calibrator's parameters ask for, checked."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._arrays import check_ignore_index
from conformask._exact import as_fraction, as_plain, check_alpha, check_share, tolerated
from conformask._random import check_key
from conformask.consign.reference import ReferenceSearch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Settings"]

_MAX_COMPONENTS = 64


@dataclass(frozen=True)
class Settings:
    """What is asked of images."""

    n_components: int
    quantile_level: float
    weight: str
    min_accuracy: Fraction
    strict: bool
    pixelwise: bool
    lambda_max: float
    node_budget: int
    ignore_index: int | None

    @classmethod
    def of(cls, parameters: dict[str, Any]) -> Settings:
        """Those of a calibrator, by name; refuses what makes no sense."""
        for name, largest in {"n_components": _MAX_COMPONENTS, "node_budget": 2**40}.items():
            value = parameters[name]
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"{name} must be an int, got {value!r}")
            if not 1 <= value <= largest:
                raise ValueError(f"{name} must be in [1, {largest}], got {value}")
        alpha, beta = (
            check_alpha(parameters["alpha"]),
            check_share(parameters["min_accuracy"], "min_accuracy"),
        )
        allowed = {
            "weight": ("sigma", "relative", "none"),
            "strict": (True, False),
            "accuracy": ("label", "pixel"),
            "on_empty": ("skip", "raise", "zero_loss"),
            "volumes": (True, False, "auto"),
            "progress": (True, False, "auto"),
        }
        for name, values in allowed.items():
            if parameters[name] not in values:
                raise ValueError(f"{name} must be one of {list(values)}, got {parameters[name]!r}")
        if beta == 1 and parameters["strict"]:
            raise ValueError("no accuracy exceeds min_accuracy=1: say strict=False, or take less")
        lambda_max, level = parameters["lambda_max"], parameters["quantile_level"]
        if not as_plain(lambda_max, "lambda_max") > 0 or float(lambda_max) == 0:
            raise ValueError(f"lambda_max must be above 0, got {lambda_max!r}")
        exact_level = alpha / 2 if level is None else as_fraction(level, "quantile_level")
        if not 0 <= exact_level < 0.5:
            raise ValueError(f"quantile_level must be in [0, 0.5), got {level!r}")
        search = parameters["search"]
        if not isinstance(search, ReferenceSearch) and search not in ("certified", "reference"):
            raise ValueError(f"search must be 'certified', 'reference' or a ReferenceSearch, got {search!r}")
        if not isinstance(parameters["random_state"], np.random.Generator | np.random.RandomState | None):
            check_key(parameters["random_state"])
        return cls(
            n_components=int(parameters["n_components"]),
            quantile_level=float(exact_level),
            weight=parameters["weight"],
            min_accuracy=beta,
            strict=bool(parameters["strict"]),
            pixelwise=parameters["accuracy"] == "pixel",
            lambda_max=float(lambda_max),
            node_budget=int(parameters["node_budget"]),
            ignore_index=check_ignore_index(parameters["ignore_index"]),
        )

    @property
    def least_accuracy(self) -> Fraction:
        """What must be reached, or exceeded."""
        return self.min_accuracy if self.strict else tolerated(self.min_accuracy)

    def search(self) -> _core.ConsignSearch:
        """A search of no images."""
        return _core.ConsignSearch(
            self.least_accuracy, self.strict, self.pixelwise, self.lambda_max, self.node_budget
        )

    def decompose(self, samples: NDArray[np.floating[Any]], index: int) -> _core.ConsignDecomposition:
        """Samples of an image as a mean and components."""
        return _core.ConsignDecomposition.of_samples(
            samples, self.n_components, self.quantile_level, self.weight, index
        )
