"""Where the masks of new images go: arrays of their own, or one of the caller's; a byte a class, or a bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._images import count, is_whole
from conformask.kernels.maps import packed_masks, packed_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MaskBuffer"]


class MaskBuffer:
    """What `out` and `packed` say of the masks of X."""

    def __init__(self, X: Any, out: Any, packed: Any) -> None:
        if packed not in (True, False):
            raise ValueError(f"packed must be True or False, got {packed!r}")
        self.packed = bool(packed)
        self._n = count(X)
        if out is not None:
            self._check(X, out)
        self._out: NDArray[Any] | None = out

    def _check(self, X: Any, out: Any) -> None:
        dtype = np.dtype(np.uint8 if self.packed else np.bool_)
        if not is_whole(X):
            raise TypeError(
                "out goes with an array X: each image of a list or an iterable has masks of its own"
            )
        if not isinstance(out, np.ndarray) or out.dtype != dtype:
            kind = f"an array of {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
            raise TypeError(f"out must be an array of {dtype}, got {kind}")
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise ValueError("out must be C-contiguous and writeable")

    def part(self, shape: tuple[int, ...], first: int) -> NDArray[Any] | None:
        """Where masks of maps of a shape go, of which the first has a number; None if they make room themselves."""
        if self._out is None:
            return None
        expected = (self._n, *(packed_shape(shape) if self.packed else shape)[1:])
        if self._out.shape != expected:
            raise ValueError(f"out must have shape {expected}, got {self._out.shape}")
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

    @property
    def whole(self) -> NDArray[Any] | None:
        """The caller's array."""
        return self._out
