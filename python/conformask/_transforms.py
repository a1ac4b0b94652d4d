"""Fitted scalers, which may stand between the numbers of a model and a score."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from conformask._documents import reading
from conformask._tensors import is_coarse
from conformask._text import plural, shown
from conformask._warnings import warn_caller
from conformask.exceptions import SharedImagesWarning

if TYPE_CHECKING:
    from typing import Self

    from conformask import _core

__all__ = [
    "Inputs",
    "ScoreTransform",
    "Transformer",
    "checked_inputs",
    "kind_of",
    "load_transformer",
    "name_of",
    "refuse_coarse",
    "seen_by_scores",
    "transform_from_json",
    "transform_of",
    "transform_to_json",
    "warn_of_shared",
]


class ScoreTransform(ABC):
    """A fitted map from a model's numbers to probabilities. It is immutable.

    Two are equal if they make the same probabilities.
    """

    inputs: str  # what it takes: "logits" or "probabilities"

    @abstractmethod
    def kernel(self, maps: Any, first: int) -> _core.ScalerMap:
        """The map that kernels take instead of `inputs`, for maps (n, K, ...), the first of which is number `first`."""

    @abstractmethod
    def probabilities(self, maps: Any, first: int) -> Any:
        """The array of probabilities."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The transform as a document."""

    @abstractmethod
    def hashes(
        self, maps: Any, labels: Any, ignore_index: int | tuple[int, ...] | None, first: int
    ) -> Iterable[int]:
        """Hashes of images, by their labels; 0 for images that look like many others."""

    @property
    @abstractmethod
    def known(self) -> frozenset[int]:
        """The hashes of the images that it was fitted to."""


Inputs: TypeAlias = "str | ScoreTransform"


class Transformer(ABC):
    """An estimator whose fit makes a transform. Files name the package's own classes by their class names."""

    _KINDS: ClassVar[dict[str, type[Transformer]]] = {}

    inputs: str

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        # Only the package's classes with their own files: a user's class must not replace one of the same name.
        is_ours = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
        if is_ours and "_FORMAT" in vars(cls):
            Transformer._KINDS[cls.__name__] = cls

    @classmethod
    @abstractmethod
    def load(cls, path: str | Path) -> Self:
        """The object that was saved."""

    @abstractmethod
    def _transform(self) -> ScoreTransform:
        """The fitted map."""

    @classmethod
    @abstractmethod
    def _from_document(cls, document: dict[str, Any]) -> Transformer:
        """The object in a document."""


def seen_by_scores(inputs: Inputs, maps: Any, first: int) -> Any:
    """Maps (n, K, ...) as a score sees them: a scaler's probabilities, or the maps as they were given."""
    return inputs.probabilities(maps, first) if isinstance(inputs, ScoreTransform) else maps


def transform_of(scaler: object) -> ScoreTransform | None:
    """The transform of a fitted scaler; None stays None."""
    if scaler is None:
        return None
    if isinstance(scaler, ScoreTransform):
        return scaler
    if isinstance(scaler, Transformer):
        return scaler._transform()
    raise TypeError(
        f"transform must be a fitted scaler such as TemperatureScaler, or None, got {_other(scaler)}"
    )


def _other(scaler: object) -> str:
    """A description of an object that is no fitted scaler, with advice, for a message."""
    if isinstance(scaler, type):
        name = scaler.__name__
        return f"the class {name}: make an object and fit it, {name}().fit(X, y)"
    if isinstance(scaler, str | os.PathLike):
        return f"{shown(scaler)}: load it first by the class that saved it, as by TemperatureScaler.load"
    name = type(scaler).__name__
    if hasattr(scaler, "transform"):
        return (
            f"{name}: apply it first, and give what its transform returns as X, with inputs='probabilities'"
        )
    return name


def transform_to_json(scaler: object) -> dict[str, Any] | None:
    """What a file holds of a fitted scaler."""
    transform = transform_of(scaler)
    return None if transform is None else transform.to_json()


def transform_from_json(document: Any) -> Transformer | None:
    """The scaler that a file holds inside."""
    return None if document is None else kind_of(document)._from_document(document)


def kind_of(document: dict[str, Any]) -> Any:
    """The class of the scaler of a document."""
    kind = Transformer._KINDS.get(document["kind"])
    if kind is None:
        raise ValueError(f"it holds {document['kind']!r}, which is no scaler")
    return kind


def load_transformer(path: str | Path) -> Transformer:
    """The scaler in a file, of whatever kind."""
    with reading(path):
        kind = str(json.loads(Path(path).read_bytes())["format"]).rpartition(".")[2]
    if kind not in Transformer._KINDS:
        raise ValueError(f"{path} holds {kind}, which is no scaler")
    return Transformer._KINDS[kind].load(path)


def name_of(inputs: Inputs) -> str:
    """What the numbers of a model are."""
    return inputs if isinstance(inputs, str) else inputs.inputs


def checked_inputs(inputs: str, transform: ScoreTransform | None) -> Inputs:
    """How probabilities are made: the name of the numbers, as kernels take it, or a transform of such numbers."""
    if transform is None:
        return inputs
    if transform.inputs != inputs:
        raise ValueError(
            f"inputs={inputs!r}, but the scaler of transform= takes {transform.inputs}: pass "
            f"inputs={transform.inputs!r}"
        )
    return transform


def refuse_coarse(maps: Any, inputs: str) -> None:
    """Refuses to scale probabilities in bfloat16: their sums are too far from 1."""
    if inputs == "probabilities" and is_coarse(maps):
        raise TypeError(
            "X holds probabilities in bfloat16, whose sums are off by up to a hundredth: pass logits, with "
            "inputs='logits', or probabilities of a softmax in float32, softmax(logits.float())"
        )


def warn_of_shared(n_shared: int, n_images: int) -> None:
    """Warns that some calibration images were also used to fit the transform."""
    if n_shared:
        are = "has" if n_shared == 1 else "have"
        warn_caller(
            f"{n_shared} of {plural(n_images, 'image')} {are} the labels of images that the scaler was fitted to. Its "
            "probabilities are better on those than on new images, so that the risk of new images may be above alpha: "
            "fit the scaler and the calibrator on different images",
            SharedImagesWarning,
        )
