"""The scaler that another one builds on: which values are allowed, how it is fitted, and how it is saved."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sklearn.base import clone

from conformask._calibrator import State
from conformask._exact import number_to_json
from conformask._transforms import kind_of, transform_from_json
from conformask.scaling._scaler import Scaler
from conformask.scaling.dirichlet import DirichletScaler
from conformask.scaling.temperature import TemperatureScaler
from conformask.scaling.vector import VectorScaler

if TYPE_CHECKING:
    from conformask.scaling._pixels import PixelSample

__all__ = [
    "Base",
    "base_document",
    "base_from_document",
    "check_base",
    "fitted_base",
    "keeps_prediction",
    "knows_classes",
    "looks_around",
]

_NAMES: dict[str, type[Scaler]] = {
    "temperature": TemperatureScaler,
    "vector": VectorScaler,
    "dirichlet": DirichletScaler,
}

_COMMON = ("inputs", "ignore_index", "n_pixels", "random_state")


@dataclass(frozen=True)
class Base:
    """A scaler to build on; equal to another with the same parameters and results."""

    scaler: Scaler = field(compare=False)
    text: str

    def __repr__(self) -> str:
        return repr(self.scaler)


def check_base(base: Any) -> Base | str | None:
    """Refuses values that are not a scaler, the name of one, or None."""
    if isinstance(base, Scaler):
        return Base(base, json.dumps(base_document(base), default=number_to_json))
    if base is None or (isinstance(base, str) and base in _NAMES):
        return base
    raise ValueError(f"base must be None, a scaler or one of {list(_NAMES)}, got {base!r}")


def looks_around(base: Base | str | None) -> bool:
    """Whether a base needs the surroundings of pixels."""
    return isinstance(base, Base) and base.scaler._looks_around(base.scaler._configuration())


def knows_classes(base: Base | str | None) -> bool:
    """Whether a base finds numbers for each class in this fit. A base that was fitted before does not."""
    if base is None:
        return False
    scaler = _NAMES[base]() if isinstance(base, str) else base.scaler
    return scaler._known is None and scaler._knows_classes(scaler._configuration())


def keeps_prediction(base: Base | str | None) -> bool:
    """Whether the most probable class of each pixel is that of the logits."""
    if base is None:
        return True
    return (_NAMES[base]() if isinstance(base, str) else base.scaler)._keeps_prediction


def fitted_base(base: Base | str | None, kept: PixelSample, configuration: Any) -> Scaler | None:
    """A copy of the base, fitted to the drawn pixels unless it has been fitted before."""
    if base is None:
        return None
    common = {name: getattr(configuration, name) for name in _COMMON}
    scaler: Scaler = _NAMES[base](**common) if isinstance(base, str) else base.scaler
    if scaler.inputs != configuration.inputs:
        raise ValueError(f"base takes inputs={scaler.inputs!r}, but inputs is {configuration.inputs!r}")
    if scaler._known is None:
        scaler = clone(scaler)
        solution = scaler._solve(kept, scaler._configuration())
        scaler._update(lambda _: State(None, solution))
        return scaler
    solution = scaler._current()[1]
    if solution.n_classes != kept.n_classes:
        raise ValueError(f"base was fitted with K = {solution.n_classes} classes, X has K = {kept.n_classes}")
    scaler = copy.copy(scaler)
    scaler._update(lambda _: State(None, solution))
    return scaler


def base_document(base: Any) -> Any:
    """The content for a file of a base, fitted or not."""
    if not isinstance(base, Scaler):
        return base
    if base._known is not None:
        return base._transform().to_json()
    kind, version = base._FORMAT
    parameters = {name: each.written(getattr(base, name)) for name, each in base._PARAMETERS.items()}
    return {"kind": kind, "format_version": version, "parameters": parameters}


def base_from_document(document: Any) -> Any:
    """The base in a file."""
    if not isinstance(document, dict):
        return document
    if "results" in document:
        return transform_from_json(document)
    kind = kind_of(document)
    if document["format_version"] != kind._FORMAT[1]:
        raise ValueError(f"its base has version {document['format_version']!r}")
    parameters = {name: each.read(document["parameters"][name]) for name, each in kind._PARAMETERS.items()}
    return kind(**parameters)
