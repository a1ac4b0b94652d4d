"""Stored predictions of a model."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Predictions", "load_predictions"]


@dataclass(frozen=True)
class Predictions:
    """Softmax scores of some model beside the true labels.

    Attributes
    ----------
    probs : ndarray of float16, float32 or float64, shape (n, K, H, W)
        Class probabilities, in the dtype in which they were stored.
    labels : ndarray of int, shape (n, H, W)
        True class of each pixel, or the ignore index.
    images : ndarray of uint8, shape (n, H, W) or (n, H, W, 3), or None
        The images, for overlays.
    group : ndarray of int, shape (n,), or None
        Images of one group (a patient, a video) belong together.

    See Also
    --------
    load_predictions : Reads them.
    """

    probs: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]
    images: NDArray[np.uint8] | None = None
    group: NDArray[np.integer[Any]] | None = None


def load_predictions(path: str | Path) -> Predictions:
    """Read the predictions of a model from a folder of NumPy files.

    Parameters
    ----------
    path : str or Path
        Folder with ``predictions.npz``, which holds ``probs``, floating (n, K, H, W), and
        ``labels``, integer (n, H, W), and may hold ``group``, integer (n,). If ``images.npz``
        lies beside it, its ``images``, uint8 (n, H, W) or (n, H, W, 3), are read too.

    Returns
    -------
    Predictions
        The arrays, in the dtypes in which they were stored.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no ``predictions.npz`` in it.
    ValueError
        If a file is damaged, an array is missing, or shapes or dtypes do not fit together.

    See Also
    --------
    conformask.ConformalRiskCalibrator : Calibrates on them.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from conformask.datasets import load_predictions
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     probs, labels = np.full((2, 3, 4, 4), 1 / 3), np.zeros((2, 4, 4), np.uint8)
    ...     np.savez(Path(folder) / "predictions.npz", probs=probs, labels=labels)
    ...     load_predictions(folder).probs.shape
    (2, 3, 4, 4)
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    file = folder / "predictions.npz"
    if not file.is_file():
        raise FileNotFoundError(f"no predictions.npz in {folder}")
    arrays = _read_npz(file)
    for name in ("probs", "labels"):
        if name not in arrays:
            raise ValueError(f"{file} has no array '{name}', only {sorted(arrays)}")
    probs, labels, group = arrays["probs"], arrays["labels"], arrays.get("group")
    if probs.ndim != 4 or not np.issubdtype(probs.dtype, np.floating):
        raise ValueError(f"probs must be floating (n, K, H, W), got {probs.dtype} {probs.shape}")
    n, _, height, width = probs.shape
    _check_member("labels", labels, [(n, height, width)], np.integer)
    if group is not None:
        _check_member("group", group, [(n,)], np.integer)
    images = _read_npz(folder / "images.npz").get("images") if (folder / "images.npz").is_file() else None
    if images is not None:
        _check_member("images", images, [(n, height, width), (n, height, width, 3)], np.uint8)
    return Predictions(probs, labels, images, group)


def _read_npz(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds one unnamed array")
            # Text such as file names is of no use here and is left unread.
            return {name: archive[name] for name in ("probs", "labels", "group", "images") if name in archive}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} is not a readable NumPy archive without pickles: {error}") from error


def _check_member(name: str, array: NDArray[Any], shapes: list[tuple[int, ...]], kind: type[Any]) -> None:
    if array.shape not in shapes or not np.issubdtype(array.dtype, kind):
        expected = " or ".join(map(str, shapes))
        raise ValueError(
            f"{name} must be {kind.__name__} of shape {expected}, got {array.dtype} of shape {array.shape}"
        )
