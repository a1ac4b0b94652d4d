"""NumPy's files, without pickles: .npy, which can be mapped, and members of .npz."""

from __future__ import annotations

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

# The errors of reading a file that is damaged or was not written by NumPy, such as encrypted or rarely packed archives.
DAMAGES = (
    *(ValueError, OSError, OverflowError, EOFError, KeyError, SyntaxError, tokenize.TokenError),
    *(NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error),
)

__all__ = ["DAMAGES", "SUFFIXES", "only_member", "open_arrays", "read_array", "read_member"]

SUFFIXES = (".npy", ".npz")


def only_member(names: list[str]) -> str:
    """The member of an archive that holds one array."""
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} arrays, not one: {names}")
    return names[0]


def open_arrays(stream: BinaryIO) -> NDArray[Any] | NpzFile:
    """The result of ``np.load``: an array, checked to be as long as its header says, or an archive."""
    if stream.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
        n_bytes = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        _check_header(stream, n_bytes)
    stream.seek(0)
    loaded: NDArray[Any] | NpzFile = np.load(stream, allow_pickle=False)
    return loaded


def read_member(archive: NpzFile, name: str) -> NDArray[Any]:
    """An array of an archive, checked to be as long as its header says."""
    file = archive.zip
    if file is None or name + ".npy" not in file.namelist():
        raise ValueError(f"{name} is no array")
    info = file.getinfo(name + ".npy")
    with file.open(info) as member:
        _check_header(member, info.file_size)
    return np.asanyarray(archive[name])


def _check_header(stream: IO[bytes], n_bytes: int) -> None:
    """Refuses a header that promises more numbers than the file holds: NumPy would allocate them first."""
    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of npy is not known")
    shape, _, dtype = read(stream)
    if stream.tell() + math.prod(shape) * dtype.itemsize > n_bytes and not dtype.hasobject:
        raise ValueError(f"an array of {dtype} {shape} is more than its {n_bytes} bytes")


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
            loaded = open_arrays(stream)
            return loaded if isinstance(loaded, np.ndarray) else read_member(loaded, member(loaded.files))
    except DAMAGES as error:
        raise ValueError(f"{file} cannot be read as NumPy's without pickles: {error}") from error
