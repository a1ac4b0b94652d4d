"""NIfTI images of several numbers a voxel: score maps, with the classes on the last axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._files.nifti import _damages, _nibabel, _open

__all__ = ["read_scores"]


def read_scores(path: Path) -> NDArray[Any]:
    """The score maps of a file, (K, z, y, x), of an image (x, y, z, K) or (x, y, z, 1, K).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or has other axes.
    ImportError
        If nibabel is missing.
    """
    image = _open(path)
    try:
        values: NDArray[Any] = np.asanyarray(image.dataobj).T
    except _damages(_nibabel()) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if values.ndim == 5 and values.shape[1] == 1:  # vectors: the axis of time comes before theirs
        values = values[:, 0]
    if values.ndim != 4:
        raise ValueError(
            f"{path} must hold score maps (x, y, z, K), the classes on the last axis, got shape {image.shape}"
        )
    return values
