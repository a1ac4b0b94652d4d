"""Files of arrays (npz) that are looked at before they are read: names, dtypes and shapes first, then the numbers."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["Archive", "write_arrays"]

_SUFFIX = ".npy"
_PART = 1 << 18  # bytes that are compressed at once, in 10 ms


class _Header(NamedTuple):
    """The header of a member, on its array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_bytes(self) -> int:
        """The number of bytes of the array."""
        n = self.dtype.itemsize
        for length in self.shape:
            n *= length
        return n


class Archive:
    """The arrays of a file. No number is read before its member was described by :meth:`check`."""

    def __init__(self, file: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(file)
        names = [info.filename.removesuffix(_SUFFIX) for info in self._zip.infolist()]
        if len(set(names)) < len(names):
            raise ValueError("it has two arrays of one name")
        self._headers = {name: self._header(name) for name in names}
        self._checked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._headers

    def shape(self, name: str, n_axes: int) -> tuple[int, ...]:
        """The shape of an array, which has so many axes."""
        shape = self._known(name).shape
        if len(shape) != n_axes:
            raise ValueError(f"{name} has shape {shape}")
        return shape

    def check(self, name: str, dtypes: DTypeLike | Iterable[DTypeLike], shape: tuple[int, ...]) -> None:
        """Refuses an array of another kind or shape than it must have."""
        header = self._known(name)
        kinds = [dtypes] if isinstance(dtypes, type) else list(dtypes)  # type: ignore[arg-type]
        native = header.dtype.newbyteorder("=")
        fits = any(native.kind == "U" if kind is np.str_ else native == np.dtype(kind) for kind in kinds)
        if not fits or header.shape != shape:
            wanted = " or ".join("text" if kind is np.str_ else str(np.dtype(kind)) for kind in kinds)
            raise ValueError(
                f"{name} is an array of {header.dtype} {header.shape}, but must be {wanted} {shape}"
            )
        self._checked.add(name)

    def is_text(self, name: str) -> bool:
        """Whether an array is one text."""
        header = self._known(name)
        return header.dtype.kind == "U" and not header.shape

    def text(self, name: str, most_bytes: int = 1 << 26) -> str:
        """A text of limited length."""
        self.check(name, np.str_, ())
        n_bytes = self._known(name).n_bytes
        if n_bytes > most_bytes:
            raise ValueError(f"{name} has {n_bytes} bytes")
        return str(self._read(name))

    def whole(self, name: str, least: int, largest: int) -> int:
        """A whole number in a range."""
        self.check(name, (np.int64, np.uint64), ())
        number = int(self._read(name))
        if not least <= number <= largest:
            raise ValueError(f"{name} is {number}")
        return number

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays; refuses a file that holds others than were checked."""
        unknown = sorted(self._headers.keys() - self._checked)
        if unknown:
            raise ValueError(f"it holds {unknown[0]!r}, which profiles do not have")
        return {name: self._read(name) for name in self._headers}

    def _known(self, name: str) -> _Header:
        if name not in self._headers:
            raise ValueError(f"it lacks {name}")
        return self._headers[name]

    def _header(self, name: str) -> _Header:
        info = self._zip.getinfo(name + _SUFFIX)
        with self._zip.open(info) as member:
            header = _header_of(member)
            n_bytes = member.tell() + header.n_bytes
        if header.dtype.hasobject or n_bytes != info.file_size:
            raise ValueError(f"{name} is no array of {header.dtype} {header.shape}")
        return header

    def _read(self, name: str) -> NDArray[Any]:
        with self._zip.open(name + _SUFFIX) as member:
            array: NDArray[Any] = npy.read_array(member, allow_pickle=False)
        return array.astype(array.dtype.newbyteorder("="), copy=False)


class _InParts:
    """Writes to a member in parts: Ctrl-C cannot interrupt zlib, and NumPy gives it 16 MiB at once."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member = member

    def write(self, data: bytes) -> None:
        """Writes all of it."""
        for first in range(0, len(data), _PART):
            self._member.write(data[first : first + _PART])


def write_arrays(file: BinaryIO, arrays: Mapping[str, ArrayLike]) -> None:
    """Writes what :class:`Archive` reads, as ``np.savez_compressed``."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(name + _SUFFIX, "w", force_zip64=True) as member:
                npy.write_array(_InParts(member), np.asanyarray(array), allow_pickle=False)


def _header_of(member: IO[bytes]) -> _Header:
    version = npy.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of npy is not known")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(member)
    return _Header(shape, dtype)
