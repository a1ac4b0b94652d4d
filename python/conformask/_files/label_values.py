"""Labels whose files hold other numbers than the indices of classes, such as grey levels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._sequences import listed
from conformask._text import shown

__all__ = ["as_indices", "check_label_values"]


def check_label_values(values: Sequence[int] | None) -> tuple[int, ...] | None:
    """The numbers that stand for class 0, 1, and so on: different ones."""
    if values is None:
        return None
    found = listed(values, "label_values")
    if not found or not all(
        isinstance(each, int | np.integer) and not isinstance(each, bool) for each in found
    ):
        raise ValueError(f"label_values must be whole numbers, of class 0, 1, ..., got {shown(values)}")
    if len(set(found)) < len(found):
        raise ValueError(f"label_values must differ, got {shown(values)}")
    return tuple(map(int, found))


def as_indices(
    labels: NDArray[np.integer[Any]], values: tuple[int, ...], ignored: Sequence[int], file: Path
) -> NDArray[np.integer[Any]]:
    """The places of labels among `values`; ignored ones stay what they are, if they are none of these.

    Raises
    ------
    ValueError
        If there are others.
    """
    found, places = np.unique(labels, return_inverse=True)
    indices = np.empty(len(found), np.int64)
    for i, label in enumerate(found.tolist()):
        if label not in values and label not in ignored:
            raise ValueError(
                f"{file} holds the label {label}, which is none of label_values ({', '.join(map(str, values))})"
            )
        indices[i] = values.index(label) if label in values else label
    fits = np.result_type(*(np.min_scalar_type(int(each)) for each in indices)) if len(indices) else np.uint8
    return indices.astype(fits)[places].reshape(labels.shape)
