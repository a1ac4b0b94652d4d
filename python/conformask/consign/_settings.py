"""The parameters of a calibrator of CONSIGN, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._arrays import check_ignore_index
from conformask._calibrator import Parameter, number, one_of, whole
from conformask._exact import as_fraction, as_plain, check_alpha, check_share, number_from_json, tolerated
from conformask._images import Volumes
from conformask._random import RandomState, check_key
from conformask._text import shown
from conformask.consign.reference import ReferenceSearch
from conformask.control import Method, check_by_budget, method_parameter
from conformask.losses import LabelAccuracyLoss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._units import OnEmpty, Units

__all__ = ["PARAMETERS", "Settings"]

# The loss is 0 or 1 for any required accuracy: an image is covered, or missed.
_LOSS = LabelAccuracyLoss(1.0)


def _lambda_max(value: Any) -> float:
    if not as_plain(value, "lambda_max") > 0 or float(value) == 0:
        raise ValueError(f"lambda_max must be above 0, got {shown(value)}")
    return float(value)


def _quantile_level(value: Any) -> Fraction | None:
    level = None if value is None else as_fraction(value, "quantile_level")
    if level is not None and not 0 <= level < 0.5:
        raise ValueError(f"quantile_level must be in [0, 0.5), got {shown(value)}")
    return level


def _search(value: Any) -> ReferenceSearch | str:
    if not isinstance(value, ReferenceSearch) and value not in ("certified", "reference"):
        raise ValueError(f"search must be 'certified', 'reference' or a ReferenceSearch, got {value!r}")
    return ReferenceSearch() if value == "reference" else value


def _random_state(value: Any) -> RandomState:
    if not isinstance(value, np.random.Generator | np.random.RandomState | None):
        check_key(value)
    state: RandomState = value
    return state


def _random_state_to_json(value: Any) -> int | None:
    if not isinstance(value, int | np.integer | None):
        raise TypeError(f"random_state can be saved as an int or None, got {value!r}")
    return None if value is None else int(value)


# The images are not kept: a change of the search needs them again.
PARAMETERS: Mapping[str, Parameter] = {
    "n_components": whole("n_components", 1, 64, stale="images"),
    "alpha": number("alpha", check_alpha, stale="images"),
    "method": method_parameter(stale="images", since=3),
    "min_accuracy": number("min_accuracy", lambda value: check_share(value, "min_accuracy"), stale="images"),
    "weight": one_of("weight", "sigma", "relative", "none", stale="images"),
    "search": Parameter(
        _search,
        stale="images",
        to_json=lambda value: asdict(value) if isinstance(value, ReferenceSearch) else value,
        from_json=lambda found: ReferenceSearch(**found) if isinstance(found, dict) else found,
    ),
    "lambda_max": number("lambda_max", _lambda_max, stale="images"),
    "quantile_level": Parameter(
        _quantile_level,
        stale="images",
        to_json=lambda value: None if value is None else as_plain(value, "quantile_level"),
        from_json=number_from_json,
    ),
    "strict": one_of("strict", True, False, stale="images"),
    "accuracy": one_of("accuracy", "label", "pixel", stale="images"),
    "ignore_index": Parameter(check_ignore_index),
    "on_empty": one_of("on_empty", "skip", "raise", "zero_loss", stale="images"),
    "node_budget": whole("node_budget", 1, 2**40, stale="images"),
    "random_state": Parameter(_random_state, to_json=_random_state_to_json),
    "volumes": one_of("volumes", True, False, "auto", since=2),
    "progress": one_of("progress", True, False, "auto"),
}


@dataclass(frozen=True)
class Settings:
    """The parameters, resolved."""

    n_components: int
    alpha: Fraction
    method: Method
    min_accuracy: Fraction
    weight: str
    search: ReferenceSearch | str  # "certified"
    lambda_max: float
    quantile_level: Fraction | None
    strict: bool
    accuracy: str
    ignore_index: int | tuple[int, ...] | None
    on_empty: OnEmpty
    node_budget: int
    random_state: RandomState
    volumes: Volumes
    progress: bool | str

    def __post_init__(self) -> None:
        if self.min_accuracy == 1 and self.strict:
            raise ValueError(
                "no accuracy exceeds min_accuracy=1: pass strict=False, or a smaller min_accuracy"
            )
        check_by_budget(self.method, "the lambdas of CONSIGN's boxes are found by a search")
        self.method.check_loss(_LOSS)

    def budget(self, units: Units) -> Fraction:
        """The number of images that may be missed (or of groups, which count by the share of their images)."""
        self.method.check_units(units)
        return self.method.budget(units, self.alpha)

    @property
    def pixelwise(self) -> bool:
        """Whether accuracy is the share of correct pixels."""
        return self.accuracy == "pixel"

    @property
    def least_accuracy(self) -> Fraction:
        """The accuracy that must be reached, or exceeded."""
        return self.min_accuracy if self.strict else tolerated(self.min_accuracy)

    def new_search(self) -> _core.ConsignSearch:
        """A search without images yet."""
        return _core.ConsignSearch(
            self.least_accuracy, self.strict, self.pixelwise, self.lambda_max, self.node_budget
        )

    def decompose(self, samples: NDArray[np.floating[Any]], index: int) -> _core.ConsignDecomposition:
        """Samples of an image as a mean and components."""
        level = self.alpha / 2 if self.quantile_level is None else self.quantile_level
        return _core.ConsignDecomposition.of_samples(
            samples, self.n_components, float(level), self.weight, index
        )
