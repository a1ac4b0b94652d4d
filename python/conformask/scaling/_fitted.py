"""The results of a scaler, and the checks of results from a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from conformask._documents import finite_or_text
from conformask.scaling._likelihood import Likelihood, Penalty, minimise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.scaling._pixels import PixelSample

__all__ = [
    "Fitted",
    "Shapes",
    "Told",
    "at_least_0",
    "fitted",
    "is_flag",
    "is_positive",
    "is_share",
    "read_fitted",
]

# The rounding error of a loss.
_LEAST_LOSS = -1e-9
# The shapes of weight and bias.
Shapes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
# Further results of a kind of scaler, each with a function that says whether a value is valid.
Told: TypeAlias = Mapping[str, Callable[[Any], bool]]


def is_flag(value: Any) -> bool:
    """True or False."""
    return type(value) is bool


def is_positive(value: Any) -> bool:
    """Above 0, and finite."""
    return type(value) is float and 0 < value < math.inf


def at_least_0(value: Any) -> bool:
    """At least 0; it may be infinite."""
    return type(value) is float and value >= 0


def is_share(value: Any) -> bool:
    """From 0 to 1, up to the rounding of a sum; NaN is the share of an empty set."""
    return type(value) is float and (math.isnan(value) or 0 <= value <= 1 + 1e-9)


@dataclass(frozen=True, eq=False)
class Fitted:
    """The fitted map: softmax of ``W u + b``."""

    weight: NDArray[np.float64]  # 1, K or K * K numbers
    bias: NDArray[np.float64]  # K numbers, or none
    nll: float
    nll_before: float
    n_images: int
    n_skipped: int
    n_classes: int
    configuration: Any  # for which it was found
    more: Mapping[str, Any] = field(default_factory=dict)  # further results of a kind of scaler
    hashes: frozenset[int] = frozenset()  # hashes of the labels of its images

    @property
    def headline(self) -> dict[str, str]:
        """What its repr shows."""
        learnt = {f"{name}_": f"{self.more[name]:.4g}" for name in _SHOWN if name in self.more}
        return learnt | {"nll_": f"{self.nll:.4g}"}

    def rows(self) -> list[tuple[str, str]]:
        """Names and values to display."""
        more = [
            (f"{name}_", str(value) if is_flag(value) else f"{value:.6g}")
            for name, value in self.more.items()
        ]
        skipped = f" ({self.n_skipped} skipped)" if self.n_skipped else ""
        return [
            *more,
            ("nll_", f"{self.nll:.6g} (before: {self.nll_before:.6g})"),
            ("n_images_", f"{self.n_images}{skipped}"),
            ("n_classes_", f"{self.n_classes}"),
        ]

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        more = {name: finite_or_text(value) for name, value in self.more.items()}
        hashes = [f"{each:016x}" for each in sorted(self.hashes)]
        return {
            "weight": self.weight.tolist(),
            "bias": self.bias.tolist(),
            **numbers,
            "more": more,
            "images": hashes,
        }


_SHOWN = ("temperature", "T1", "T2")  # results that distinguish two scalers of a kind
_NUMBERS = ("nll", "nll_before", "n_images", "n_skipped", "n_classes")


def fitted(
    kept: PixelSample,
    likelihood: Likelihood,
    identity: NDArray[np.float64],
    penalty: Penalty,
    configuration: Any,
) -> Fitted:
    """The map with the least penalised loss; the identity has no penalty."""
    parameters = minimise(likelihood, identity, penalty)
    weight, bias = np.split(parameters, [len(identity) - kept.n_classes])
    return Fitted(
        weight=weight,
        bias=bias - bias.mean(),  # softmax does not depend on the mean
        nll=likelihood.gradient(parameters)[0],
        nll_before=likelihood.before(identity),
        n_images=len(kept.images),
        n_skipped=kept.n_skipped,
        n_classes=kept.n_classes,
        configuration=configuration,
    )


def read_fitted(
    results: dict[str, Any], shapes: Callable[[int], Shapes], told: Told, configuration: Any
) -> Fitted:
    """The results from a file; refuses results that no fit gives."""
    for name, least in {"n_images": 1, "n_skipped": 0, "n_classes": 2}.items():
        if type(results[name]) is not int or results[name] < least:
            raise ValueError(f"{name} is {results[name]!r}")
    for name in ("nll", "nll_before"):
        if type(results[name]) is not float or not _LEAST_LOSS <= results[name] < math.inf:
            raise ValueError(f"{name} is {results[name]!r}")
    weight, bias = (np.array(results[name], np.float64) for name in ("weight", "bias"))
    for name, array, shape in zip(
        ("weight", "bias"), (weight, bias), shapes(results["n_classes"]), strict=True
    ):
        if array.shape != (math.prod(shape),) or not np.isfinite(array).all():
            raise ValueError(f"{name} does not hold {math.prod(shape)} finite numbers")
    more = {name: _number(value) for name, value in results["more"].items()}
    if more.keys() != told.keys():
        raise ValueError(f"it tells {sorted(more)} besides, not {sorted(told)}")
    for name, fits in told.items():
        if not fits(more[name]):
            raise ValueError(f"{name} is {more[name]!r}")
    hashes = frozenset(int(each, 16) for each in results["images"])
    if len(hashes) > results["n_images"]:
        raise ValueError(f"it knows {len(hashes)} images of {results['n_images']}")
    numbers = {name: results[name] for name in _NUMBERS}
    return Fitted(weight, bias, **numbers, configuration=configuration, more=more, hashes=hashes)


def _number(value: Any) -> bool | float:
    return value if type(value) is bool else float(value)
