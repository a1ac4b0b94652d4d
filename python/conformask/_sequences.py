"""Parameters that hold several values. Containers without the caller's order are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np

from conformask._text import plural, shown

__all__ = ["check_class_names", "check_ordered", "has_order", "listed", "listed_by_class"]


def has_order(values: object) -> bool:
    """Whether a loop over `values` gives what the caller meant: not for a set, nor for a mapping, which gives keys."""
    return not isinstance(values, Mapping | Set)


def check_ordered(values: object, name: str) -> None:
    """Refuses a mapping, whose values would be lost, and a set, which has no order."""
    if not has_order(values):
        raise TypeError(f"{name} must be a sequence, got a {type(values).__name__}: pass a list")


def listed(values: Any, name: str) -> list[Any]:
    """The values of a sequence or another iterable that has an order."""
    check_ordered(values, name)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence, got {shown(values)}")
    return list(values)


def listed_by_class(values: Any, name: str) -> list[Any]:
    """One value for each class: a sequence, or a mapping from all classes, as scikit-learn takes class weights."""
    if not isinstance(values, Mapping):
        return listed(values, name)
    if any(isinstance(label, bool) or not isinstance(label, int | np.integer) for label in values):
        raise TypeError(f"{name} must have class indices (ints) as keys, got {shown(values)}")
    missing = sorted(set(range(len(values))) - {int(label) for label in values})
    if missing:
        raise ValueError(
            f"{name} must have a value for every class from 0 to K - 1, but class {missing[0]} is missing: "
            f"{shown(values)}"
        )
    return [values[label] for label in sorted(values)]


def check_class_names(class_names: Any, n_classes: int) -> list[str]:
    """A name for each class; the labels where none are given."""
    if class_names is None:
        return [str(label) for label in range(n_classes)]
    if isinstance(class_names, str | bytes):
        raise TypeError(f"class_names must be a list of names, not one string, got {shown(class_names)}")
    names = listed(class_names, "class_names")
    wanted = f"class_names must hold a string for each of K = {n_classes} classes"
    if len(names) != n_classes:
        raise ValueError(f"{wanted}, got {plural(len(names), 'name')}")
    for place, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"{wanted}, got {shown(name)} for class {place}")
        if name in names[:place]:
            raise ValueError(
                f"class_names must differ, but classes {names.index(name)} and {place} are both {shown(name)}"
            )
    return [str(name) for name in names]
