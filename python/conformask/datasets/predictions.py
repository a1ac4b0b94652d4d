"""Stored predictions of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._files.arrays import DAMAGES, open_arrays, read_member

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
        The images, for overlays in plots.
    group : ndarray of int, shape (n,), or None
        The group of each image, such as its patient or video.

    See Also
    --------
    load_predictions : Reads predictions from files.
    """

    probs: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]
    images: NDArray[np.uint8] | None = None
    group: NDArray[np.integer[Any]] | None = None


def load_predictions(path: str | Path | Sequence[str | Path]) -> Predictions:
    """Read the predictions of a model from NumPy files.

    Parameters
    ----------
    path : path, or sequence of paths
        A folder with ``predictions.npz`` and optionally ``images.npz``; an ``.npz`` file; or several files. The array
        of an ``.npy`` file has the name of the file. Arrays are found by their names: ``probs``, floating (n, K, H, W);
        ``labels``, integer (n, H, W); and optionally ``images``, uint8 (n, H, W) or (n, H, W, 3), and ``group``,
        integer (n,). If no array has the name ``probs``, the only array that fits is taken; the same holds for
        ``labels``.

    Returns
    -------
    Predictions
        The arrays, in the dtypes in which they were stored; those of ``.npy`` files are memory-mapped.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder, or no ``predictions.npz`` in it.
    ValueError
        If a file is damaged, an array is missing, several arrays could be meant, or shapes or dtypes do not fit
        together.

    See Also
    --------
    conformask.ConformalRiskCalibrator : Calibrates on predictions.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from conformask.datasets import load_predictions
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     softmax, truth = np.full((2, 3, 4, 4), 1 / 3), np.zeros((2, 4, 4), np.uint8)
    ...     np.savez(Path(folder) / "mine.npz", softmax=softmax, truth=truth)
    ...     load_predictions(Path(folder) / "mine.npz").probs.shape
    (2, 3, 4, 4)
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(each) for each in path]
    arrays: dict[str, NDArray[Any]] = {}
    for file in (file for each in paths for file in _files(each)):
        arrays |= _read(file)
    where = ", ".join(map(str, paths))
    known = {name: arrays[name] for name in ("probs", "labels", "group", "images") if name in arrays}
    others = {name: array for name, array in arrays.items() if name not in known}
    if "probs" not in known:
        known["probs"] = _only("probs", "floating (n, K, H, W)", others, where, _holds_scores)
    probs = known["probs"]
    if not _holds_scores(probs):
        raise ValueError(f"probs must be floating (n, K, H, W), got {probs.dtype} {probs.shape}")
    n, _, height, width = probs.shape
    if "labels" not in known:
        shape = (n, height, width)
        known["labels"] = _only(
            "labels",
            f"integer {shape}",
            others,
            where,
            lambda array: array.shape == shape and np.issubdtype(array.dtype, np.integer),
        )
    _check_member("labels", known["labels"], [(n, height, width)], np.integer)
    if "group" in known:
        _check_member("group", known["group"], [(n,)], np.integer)
    if "images" in known:
        _check_member("images", known["images"], [(n, height, width), (n, height, width, 3)], np.uint8)
    return Predictions(**known)


def _holds_scores(array: NDArray[Any]) -> bool:
    return array.ndim == 4 and bool(np.issubdtype(array.dtype, np.floating))


def _only(
    role: str,
    words: str,
    arrays: dict[str, NDArray[Any]],
    where: str,
    fits: Callable[[NDArray[Any]], bool],
) -> NDArray[Any]:
    """The array that fits; fails unless there is exactly one."""
    names = [name for name, array in arrays.items() if fits(array)]
    if len(names) == 1:
        return arrays[names[0]]
    shown = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items()) or "none"
    what = (
        f"more than one that is {words}: name one of {names} {role}"
        if names
        else f"no array '{role}', {words}"
    )
    raise ValueError(f"{where} has {what}; arrays that could not be assigned: {shown}")


def _files(path: Path) -> list[Path]:
    """The files at a path: the path itself, or the files of a folder."""
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"no file or folder {path}")
        return [path]
    if not (path / "predictions.npz").is_file():
        raise FileNotFoundError(f"no predictions.npz in {path}")
    return [path / name for name in ("predictions.npz", "images.npz") if (path / name).is_file()]


def _read(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file, by name, except arrays of text such as file names."""
    try:
        if file.suffix == ".npy":
            return {file.stem: np.lib.format.open_memmap(file, mode="r")}
        with file.open("rb") as stream:
            archive = open_arrays(stream)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds one unnamed array")
            known = [name for name in ("probs", "labels", "group", "images") if name in archive]
            found = {name: read_member(archive, name) for name in known}
            if {"probs", "labels"} <= found.keys():
                return found
            others = {name: _numbers(archive, name) for name in archive.files if name not in found}
            return found | {name: array for name, array in others.items() if array is not None}
    except DAMAGES as error:
        kind = "file" if file.suffix == ".npy" else "archive"
        raise ValueError(f"{file} is not a readable NumPy {kind} without pickles: {error}") from error


def _numbers(archive: Any, name: str) -> NDArray[Any] | None:
    """A member that holds numbers; None if it holds objects, or is no array."""
    if name + ".npy" not in archive.zip.namelist():
        return None
    try:
        array = read_member(archive, name)
    except ValueError as error:
        if "allow_pickle" in str(error):
            return None
        raise
    return array if array.dtype.kind in "biuf" else None


def _check_member(name: str, array: NDArray[Any], shapes: list[tuple[int, ...]], kind: type[Any]) -> None:
    if array.shape not in shapes or not np.issubdtype(array.dtype, kind):
        expected = " or ".join(map(str, shapes))
        raise ValueError(
            f"{name} must be {kind.__name__} of shape {expected}, got {array.dtype} of shape {array.shape}"
        )
