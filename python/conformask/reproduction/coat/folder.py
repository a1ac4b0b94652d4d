"""Probabilities and masks in a user's folder, a file for each image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._files import arrays, pictures
from conformask._files.folders import files_of, partner, read_groups, split_name
from conformask._files.maps import PHOTOGRAPHS, read_photograph
from conformask._text import plural
from conformask._warnings import warn_caller
from conformask.reproduction._own import origin_of
from conformask.reproduction.coat.maps import BinaryMaps

__all__ = ["read_folder"]

_SUFFIXES = (*arrays.SUFFIXES, *pictures.SUFFIXES)
_WHITE = {"L": 255, "I;16": 65535, "I": 65535}  # the number that means probability 1, for Pillow's grey modes
_VOID = 255


def read_folder(folder: str | Path, *, images: bool = False) -> BinaryMaps:
    """Read your own probabilities and masks.

    The folder holds ``probabilities`` and ``masks``, with a file for each image. Files whose names differ only in the
    suffix belong together::

        DIR/probabilities/0001.npy   float (H, W) in [0, 1]; or .npz with one array; or .png, grey of 8 or 16 bits
        DIR/masks/0001.png           grey, palette or black and white; or .npy, .npz: bool or integer (H, W)
        DIR/images/0001.jpg          (or .png, .npy, .npz: if a model of thresholds looks at photographs)
        DIR/groups.csv               (two columns without a header: name without suffix, group such as a patient)

    Masks hold 0 for the background and 255 for the foreground. If any mask of the folder holds a 1, then 0 is the
    background, 1 the foreground, and 255 void in all of them. In a picture of probabilities, white means 1. NumPy files
    are read without pickles.

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
        If a folder is missing, or the file that belongs to another one.
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
    maps = files_of(root / "probabilities", _SUFFIXES)
    if not maps:
        raise FileNotFoundError(f"no .npy, .npz or .png in {root / 'probabilities'}")
    truth = files_of(root / "masks", _SUFFIXES)
    others = [name for name in truth if name not in maps]
    if others:
        warn_caller(
            f"{plural(len(others), 'mask')} of {root / 'masks'} without probabilities left out, the first of them "
            f"{others[0]}",
            UserWarning,
        )
    probabilities = [_probabilities(file) for file in maps.values()]
    masks = _masks([partner(truth, name, file, root / "masks") for name, file in maps.items()])
    for file, one, other in zip(maps.values(), probabilities, masks, strict=True):
        if one.shape != other.shape:
            raise ValueError(f"{file} has shape {one.shape}, its mask {other.shape}")
    photographs = None
    if images:
        seen = files_of(root / "images", PHOTOGRAPHS)
        photographs = [
            read_photograph(partner(seen, name, file, root / "images")) for name, file in maps.items()
        ]
    table = root / "groups.csv"
    groups = read_groups(table, maps) if table.is_file() else None
    return BinaryMaps(root.resolve().name, probabilities, masks, groups, photographs, origin_of(root))


def _read(file: Path, picture: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    """The array in a file; `picture` makes it from Pillow's image if the file is a picture."""
    is_array = split_name(file)[1] in arrays.SUFFIXES
    return arrays.read_array(file) if is_array else pictures.read_picture(file, picture)


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
    """Booleans; or the numbers 0, 1 and 255, which is void."""
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
    array = _read(file, pictures.indices)
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
