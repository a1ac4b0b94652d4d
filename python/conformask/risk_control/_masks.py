"""Where the masks of new images are written: new arrays, or an array or store of the caller; as bytes or bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._images import count, is_store, is_whole
from conformask.kernels.maps import packed_masks, packed_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MaskBuffer"]


class MaskBuffer:
    """The destination of the masks of X, by `out` and `packed`."""

    def __init__(self, X: Any, out: Any, packed: Any) -> None:
        if packed not in (True, False):
            raise ValueError(f"packed must be True or False, got {packed!r}")
        self.packed = bool(packed)
        self._n = count(X)
        if out is not None:
            self._check(X, out)
        self._store: Any = out if is_store(out) else None
        self._out: NDArray[Any] | None = None if is_store(out) else out

    def _check(self, X: Any, out: Any) -> None:
        dtype = np.dtype(np.uint8 if self.packed else np.bool_)
        if not is_whole(X):
            raise TypeError(
                "out goes with an array X: each image of a list or an iterable has masks of its own"
            )
        can_be_written = isinstance(out, np.ndarray) or (is_store(out) and hasattr(out, "__setitem__"))
        if not can_be_written or getattr(out, "dtype", None) != dtype:
            kind = f"an array of {out.dtype}" if can_be_written else type(out).__name__
            raise TypeError(
                f"out must be an array of {dtype}, or a store of it that takes slices (of zarr or h5py), got {kind}"
            )
        if is_store(out):
            return
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise ValueError("out must be C-contiguous and writeable")

    def part(self, shape: tuple[int, ...], first: int) -> NDArray[Any] | None:
        """The part of the destination for maps of a shape, of which the first is number `first`; None: a new array."""
        if self.whole is None:
            return None
        expected = (self._n, *(packed_shape(shape) if self.packed else shape)[1:])
        if tuple(self.whole.shape) != expected:
            raise ValueError(f"out must have shape {expected}, got {tuple(self.whole.shape)}")
        if self._out is None:
            return None
        part: NDArray[Any] = self._out[first : first + shape[0]]
        return part

    def fill(self, masks: NDArray[Any], n_classes: int, void: NDArray[np.bool_]) -> None:
        """Makes sets full where void (n, ...)."""
        if self.packed:
            full = packed_masks(np.ones((1, n_classes), np.bool_))[0]
            np.bitwise_or(
                masks, full[(slice(None), *[np.newaxis] * (void.ndim - 1))] * void[:, np.newaxis], out=masks
            )
        else:
            masks |= void[:, np.newaxis]

    def store(self, masks: NDArray[Any], first: int) -> None:
        """Writes masks to the caller's store, if there is one."""
        if self._store is not None:
            self._store[first : first + len(masks)] = masks

    @property
    def whole(self) -> Any:
        """The caller's array or store."""
        return self._out if self._store is None else self._store

    @property
    def at_once(self) -> int | None:
        """How many images of an array are processed at once: one if masks go to a store, else None for all."""
        return None if self._store is None else 1
