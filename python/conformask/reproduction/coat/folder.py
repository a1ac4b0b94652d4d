"""Probabilities and masks that somebody keeps in a folder, a file for each image."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._text import plural
from conformask._warnings import warn_caller
from conformask.reproduction.coat.maps import BinaryMaps

__all__ = ["read_folder"]

_NUMPY, _PICTURES = (".npy", ".npz"), (".png",)
_PHOTOGRAPHS = (*_PICTURES, ".jpg", ".jpeg")
_WHITE = {"L": 255, "I;16": 65535, "I": 65535}  # of Pillow's modes of grey: what stands for probability 1
_VOID = 255


def read_folder(folder: str | Path, *, images: bool = False) -> BinaryMaps:
    """Read one's own probabilities and masks.

    The folder holds ``probabilities`` and ``masks``, with a file for each image; files of one name, but for the suffix,
    belong together::

        DIR/probabilities/0001.npy   float (H, W) in [0, 1]; or .npz with one array; or .png, grey of 8 or 16 bits
        DIR/masks/0001.png           grey, palette or black and white; or .npy, .npz: bool or integer (H, W)
        DIR/images/0001.jpg          (or .png, .npy, .npz: if a model of thresholds looks at photographs)
        DIR/groups.csv               (two columns without a head: name without suffix, group such as a patient)

    Masks hold 0 and 255 for background and foreground; or, if any mask of the folder holds a 1, 0 and 1, and 255 where
    nobody knows. White of a picture of probabilities is 1. NumPy files are read without pickles.

    Parameters
    ----------
    folder : path
        DIR.
    images : bool, default=False
        Whether to read the photographs too: uint8 (H, W) or (H, W, 3) of a picture.

    Returns
    -------
    BinaryMaps
        In the order of the names. Images may differ in size.

    Raises
    ------
    FileNotFoundError
        If a folder, or the file that belongs to another, is missing.
    ValueError
        If a file cannot be read, or holds something else.
    ImportError
        If there are pictures, and Pillow is missing.

    Warns
    -----
    UserWarning
        If there are masks without probabilities: they are left out.

    See Also
    --------
    compare_adaptive : Compares methods on them.
    conformask.datasets.load_predictions : Reads predictions that are in one file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from conformask.reproduction.coat import read_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, values in {"probabilities": np.full((2, 3), 0.5), "masks": np.ones((2, 3), bool)}.items():
    ...         (Path(folder) / name).mkdir()
    ...         np.save(Path(folder) / name / "0001.npy", values)
    ...     len(read_folder(folder))
    1
    """
    root = Path(folder)
    maps = _files(root / "probabilities", (*_NUMPY, *_PICTURES))
    if not maps:
        raise FileNotFoundError(f"no .npy, .npz or .png in {root / 'probabilities'}")
    truth = _files(root / "masks", (*_NUMPY, *_PICTURES))
    others = [name for name in truth if name not in maps]
    if others:
        warn_caller(
            f"{plural(len(others), 'mask')} of {root / 'masks'} without probabilities left out, the first of them "
            f"{others[0]}",
            UserWarning,
        )
    probabilities = [_probabilities(file) for file in maps.values()]
    masks = _masks([_partner(truth, file, root / "masks") for file in maps.values()])
    for file, one, other in zip(maps.values(), probabilities, masks, strict=True):
        if one.shape != other.shape:
            raise ValueError(f"{file} has shape {one.shape}, its mask {other.shape}")
    photographs = None
    if images:
        pictures = _files(root / "images", (*_NUMPY, *_PHOTOGRAPHS))
        photographs = [_photograph(_partner(pictures, file, root / "images")) for file in maps.values()]
    return BinaryMaps(
        root.resolve().name, probabilities, masks, _groups(root / "groups.csv", maps), photographs
    )


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder, by their names without suffix, in order."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in suffixes or file.name.startswith("."):
            continue
        if file.stem in found:
            raise ValueError(f"{found[file.stem]} and {file.name} have one name: keep one of them")
        found[file.stem] = file
    return found


def _partner(files: dict[str, Path], of: Path, folder: Path) -> Path:
    """The file that belongs to one of probabilities."""
    if of.stem not in files:
        raise FileNotFoundError(f"no file {of.stem} in {folder}, which would belong to {of}")
    return files[of.stem]


def _read(file: Path, picture: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    """The array of a file, that of a picture by Pillow."""
    if file.suffix.lower() not in _NUMPY:
        return _read_picture(file, picture)
    try:
        with file.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            if len(loaded.files) != 1:
                raise ValueError(f"it holds {len(loaded.files)} arrays, not one: {loaded.files}")
            array: NDArray[Any] = loaded[loaded.files[0]]
            return array
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} cannot be read as NumPy's without pickles: {error}") from error


def _read_picture(file: Path, picture: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ImportError(f'{file} needs Pillow: pip install "conformask[plot]"') from error
    try:
        with Image.open(file) as opened:
            return picture(opened)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow calls a broken PNG a syntax error
        raise ValueError(f"{file} cannot be read: {error}") from error


def _probabilities(file: Path) -> NDArray[Any]:
    array = _read(file, _share_of_white)
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        raise ValueError(f"{file} must be floating (H, W), got {array.dtype} of shape {array.shape}")
    if not ((array >= 0) & (array <= 1)).all():
        raise ValueError(
            f"{file} must hold probabilities in [0, 1], got numbers from {array.min():g} to {array.max():g}"
        )
    return array


def _share_of_white(picture: Any) -> NDArray[np.float32]:
    white = _WHITE.get(picture.mode)
    if white is None:
        raise ValueError(f"probabilities must be grey of 8 or 16 bits, not of mode {picture.mode}")
    return np.asarray(np.asarray(picture) / np.float32(white), np.float32)


def _masks(files: list[Path]) -> list[NDArray[Any]]:
    """Booleans, or 0, 1 and 255 where nobody knows."""
    found = [_mask(file) for file in files]
    whole = [mask for mask in found if mask.dtype != bool]
    if any((mask == 1).any() for mask in whole):
        n_void = sum(bool((mask == _VOID).any() and not (mask == 1).any()) for mask in whole)
        if n_void:
            warn_caller(
                f"{plural(n_void, 'mask')} hold{'s' if n_void == 1 else ''} 255, but no 1, and others a 1: 255 is void "
                "in all of them. If it is the foreground there, write all masks alike",
                UserWarning,
            )
        return found
    return [mask if mask.dtype == bool else mask == _VOID for mask in found]


def _mask(file: Path) -> NDArray[Any]:
    array = _read(file, _levels)
    if array.ndim != 2 or array.dtype.kind not in "biu":
        raise ValueError(
            f"{file} must be boolean or integer (H, W), got {array.dtype} of shape {array.shape}"
        )
    if array.dtype == bool:
        return array
    known = np.isin(array, [0, 1, _VOID])
    if not known.all():
        raise ValueError(f"{file} must hold 0 and 255, or 0, 1 and 255 (void), got {array[~known][0]}")
    return array.astype(np.uint8)


def _levels(picture: Any) -> NDArray[Any]:
    """The numbers of a picture: of colours that are greys, one of the three."""
    if picture.mode == "1":
        return np.asarray(picture.convert("L")) > 0
    array = np.asarray(picture)
    if array.ndim == 3 and picture.mode in ("RGB", "RGBA"):
        red, green, blue = (array[..., i] for i in range(3))
        if not ((red == green) & (green == blue)).all():
            raise ValueError("a mask must be grey, not of several colours")
        return red
    return array


def _photograph(file: Path) -> NDArray[Any]:
    return _read(file, lambda picture: np.asarray(picture if picture.mode == "L" else picture.convert("RGB")))


def _groups(file: Path, maps: dict[str, Path]) -> list[str] | None:
    """The group of each image, where a file tells them."""
    if not file.is_file():
        return None
    found: dict[str, str] = {}
    with file.open(newline="", encoding="utf-8-sig") as stream:
        for row in csv.reader(stream):
            if not row:
                continue
            if len(row) != 2:
                raise ValueError(f"{file} must have two columns, name and group, got {row}")
            name, group = (cell.strip() for cell in row)
            if found.setdefault(name, group) != group:
                raise ValueError(f"{file} gives {name} two groups, {found[name]} and {group}")
    missing = [name for name in maps if name not in found]
    if missing:
        raise ValueError(f"{file} has no group for {missing[0]}")
    return [found[name] for name in maps]
