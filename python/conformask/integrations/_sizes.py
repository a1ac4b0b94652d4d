"""Maps at the size of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from conformask._torch_softmax import widened

__all__ = ["resized"]


def resized(maps: Tensor, size: Any, name: str = "size") -> Tensor:
    """Maps (B, K, ...) interpolated linearly to a size, in float32 or wider; as they are if they have it already."""
    if size is None or tuple(maps.shape[2:]) == (tuple(size) if isinstance(size, Sequence) else size):
        return maps
    n_axes = maps.ndim - 2
    if not isinstance(size, Sequence) or len(size) != n_axes:
        raise ValueError(f"{name} must have {n_axes} numbers for {tuple(maps.shape)}, got {size!r}")
    mode = "bilinear" if n_axes == 2 else "trilinear"
    return functional.interpolate(widened(maps), tuple(size), mode=mode, align_corners=False)
