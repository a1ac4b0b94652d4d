"""Parameters that hold several values: in the order that the caller means, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np

__all__ = ["check_ordered", "listed", "listed_by_class"]


def check_ordered(values: object, name: str) -> None:
    """Refuses what has no order of its own: a set, and a mapping, of which a loop sees the keys."""
    if isinstance(values, Mapping):
        raise TypeError(f"{name} must be a sequence, got a mapping, whose values would be lost: {values!r}")
    if isinstance(values, Set):
        raise TypeError(f"{name} must be a sequence, got a set, which has no order: {values!r}; pass a list")


def listed(values: Any, name: str) -> list[Any]:
    """The values of a sequence or another iterable that has an order."""
    check_ordered(values, name)
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence, got {values!r}")
    return list(values)


def listed_by_class(values: Any, name: str) -> list[Any]:
    """One value for each class: a sequence, or a mapping from all classes, as scikit-learn takes class weights."""
    if not isinstance(values, Mapping):
        return listed(values, name)
    if any(isinstance(label, bool) or not isinstance(label, int | np.integer) for label in values):
        raise TypeError(f"{name} must have class indices (ints) as keys, got {values!r}")
    missing = sorted(set(range(len(values))) - {int(label) for label in values})
    if missing:
        raise ValueError(
            f"{name} must have a value for every class from 0 to K - 1, but class {missing[0]} is missing: {values!r}"
        )
    return [values[label] for label in sorted(values)]
