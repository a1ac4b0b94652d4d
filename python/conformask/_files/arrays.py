"""NumPy's files, without pickles: .npy, which can be mapped, and members of .npz."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What reading a damaged file raises, or one that NumPy did not write: of archives also encryption and rare compression.
DAMAGES = (
    *(ValueError, OSError, EOFError, KeyError, SyntaxError, tokenize.TokenError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error),
)

__all__ = ["SUFFIXES", "only_member", "read_array"]

SUFFIXES = (".npy", ".npz")


def only_member(names: list[str]) -> str:
    """The member of an archive that holds one array."""
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} arrays, not one: {names}")
    return names[0]


def read_array(
    file: Path, member: Callable[[list[str]], str] = only_member, *, mapped: bool = False
) -> NDArray[Any]:
    """The array of a file.

    Parameters
    ----------
    file : Path
        ``.npy`` or ``.npz``.
    member : callable
        Chooses among the names of an archive.
    mapped : bool
        Whether the array of an ``.npy`` file stays there until it is read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds objects, which only pickles could bring back.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        if mapped and file.suffix.lower() == ".npy":
            return np.lib.format.open_memmap(file, mode="r")
        with file.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            return np.asanyarray(loaded if isinstance(loaded, np.ndarray) else loaded[member(loaded.files)])
    except DAMAGES as error:
        raise ValueError(f"{file} cannot be read as NumPy's without pickles: {error}") from error
