"""Labels of one image as integers, however a file holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._arrays import label_array

__all__ = ["SWAPPED", "integer_labels"]

SWAPPED = "; they look like {}: are both folders swapped?"


def integer_labels(file: Path, values: NDArray[Any], *, may_be_maps: bool = True) -> NDArray[np.integer[Any]]:
    """The labels (H, W) or (D, H, W) of a file as integers; floats may be whole numbers, as some tools write them.

    Parameters
    ----------
    file : Path
        What errors name.
    values : ndarray
        What the file holds.
    may_be_maps : bool
        Whether floats of three axes are taken for score maps (K, H, W), and refused.

    Raises
    ------
    ValueError
        If they are no labels.
    """
    is_float = values.dtype.kind == "f"
    looks_like_maps = is_float and may_be_maps and values.ndim > 2
    if values.dtype.kind not in "biuf" or values.ndim not in (2, 3) or looks_like_maps:
        hint = SWAPPED.format("score maps") if looks_like_maps else ""
        raise ValueError(
            f"{file} must hold integer labels (H, W) or (D, H, W), got {values.dtype} of shape {values.shape}{hint}"
        )
    try:
        return label_array(values, str(file), first=None)
    except TypeError as error:
        raise ValueError(str(error)) from error
