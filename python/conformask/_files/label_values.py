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


def check_label_values(values: Sequence[int] | None, ignored: Sequence[int]) -> tuple[int, ...] | None:
    """The numbers that stand for class 0, 1, and so on: different ones; none of these indices is an ignored label."""
    if values is None:
        return None
    found = listed(values, "label_values")
    if not found or not all(
        isinstance(each, int | np.integer) and not isinstance(each, bool) for each in found
    ):
        raise ValueError(f"label_values must be whole numbers, of class 0, 1, ..., got {shown(values)}")
    if len(set(found)) < len(found):
        raise ValueError(f"label_values must differ, got {shown(values)}")
    for label in ignored:
        if 0 <= label < len(found):
            raise ValueError(
                f"ignore_index {label} would be class {label} when label_values are read: void pixels need a number "
                f"in the files that is {len(found)} or more, such as 255 (in Python also pairs of maps and labels - 1, "
                "with ignore_index=-1)"
            )
    return tuple(map(int, found))


def as_indices(
    labels: NDArray[np.integer[Any]],
    values: tuple[int, ...],
    ignored: Sequence[int],
    file: Path,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.integer[Any]]:
    """The places of labels among `values`; ignored ones stay what they are, if they are none of these.

    Where pixels hold no data their number says nothing: they are 0 here, for the caller to make void.

    Raises
    ------
    ValueError
        If there are others.
    """
    seen = np.ones(labels.shape, bool) if valid is None else valid
    found, places = np.unique(labels[seen], return_inverse=True)
    indices = np.empty(len(found), np.int64)
    for i, label in enumerate(found.tolist()):
        if label not in values and label not in ignored:
            raise ValueError(
                f"{file} holds the label {label}, which is none of label_values ({', '.join(map(str, values))})"
            )
        indices[i] = values.index(label) if label in values else label
    fits = np.result_type(*(np.min_scalar_type(int(each)) for each in indices)) if len(indices) else np.uint8
    whole = np.zeros(labels.shape, fits)
    whole[seen] = indices.astype(fits)[places]
    return whole
