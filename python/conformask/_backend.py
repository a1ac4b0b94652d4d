"""Chooses where to compute: in the Rust core for arrays, in PyTorch for tensors that stay on their device.

Maps come as ``_images.walk`` gives them: arrays, or tensors of floats that NumPy cannot look at (``lives_elsewhere``).
Among these, bfloat16 in memory is read by its bits, and maps that the code for tensors does not support are copied to
the CPU. PyTorch is imported only when a tensor comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from conformask import _core
from conformask._arrays import label_array
from conformask._tensors import is_brain_float, is_tensor
from conformask._transforms import Inputs
from conformask.kernels.maps import Lambda, of_kernels, packed_masks, sets_at, sizes_at
from conformask.scores import APS, LAC, RAPS, ConformityScore, function_of, scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Counts", "coverage", "masks", "profile", "set_sizes"]

# For each image and class: missed pixels, labelled pixels, and the summed sizes of the labelled pixels' sets. For some
# losses also the number of labelled pixels whose set holds the class.
Counts: TypeAlias = "tuple[NDArray[np.uint64], ...]"


def profile(
    maps: Any,
    labels: Any,
    score: ConformityScore,
    inputs: Inputs,
    ignore_index: int | tuple[int, ...] | None,
    activation: bool,
    first: int,
    grid: NDArray[np.float64] | None = None,
) -> _core.ExactProfile:
    """Profiles of images (n, K, ...), the first of which is number `first`; with class counts at a grid, if any."""
    by_planes = isinstance(score, LAC) or (isinstance(score, APS | RAPS) and not activation)
    if by_planes and grid is None and _stays(maps, inputs):
        from conformask._torch_profile import profile_tensor

        found: _core.ExactProfile
        found = profile_tensor(maps, labels, score, inputs, ignore_index, activation, first)
        return found
    array, kernel, numbers = scored(score, maps, inputs, first)
    return _core.ExactProfile.build(
        array, label_array(labels), kernel, numbers, ignore_index, activation, first, grid
    )


def masks(
    maps: Any,
    lam: Lambda,
    score: ConformityScore,
    inputs: Inputs,
    first: int,
    out: NDArray[Any] | None = None,
    packed: bool = False,
) -> NDArray[Any]:
    """Which classes the sets hold at lambda: bool (n, K, ...), or packed as bits; in `out`, if that is given."""
    if _stays(maps, inputs) and _knows_tensors(score):
        from conformask._torch_sets import masks_of

        found: NDArray[Any] = masks_of(maps, score, lam, inputs, first).cpu().numpy()
        found = packed_masks(found) if packed else found
        if out is None:
            return found
        out[...] = found
        return out
    return sets_at(lam, scored(score, maps, inputs, first), first, out, packed)


def set_sizes(
    maps: Any, lam: Lambda, score: ConformityScore, inputs: Inputs, first: int
) -> NDArray[np.uint16]:
    """How many classes the sets (n, ...) hold at lambda."""
    if _stays(maps, inputs) and _knows_tensors(score):
        from conformask._torch_sets import masks_of

        found: NDArray[np.int64] = masks_of(maps, score, lam, inputs, first).sum(dim=1).cpu().numpy()
        return found.astype(np.uint16)
    return sizes_at(lam, scored(score, maps, inputs, first), first)


def coverage(
    maps: Any,
    labels: Any,
    lams: Sequence[Lambda],
    score: ConformityScore,
    inputs: Inputs,
    ignore_index: int | tuple[int, ...] | None,
    first: int,
) -> list[Counts]:
    """For each lambda, arrays (n, K): missed and labelled pixels of a class, and the summed set sizes of the latter."""
    if _stays(maps, inputs) and _knows_tensors(score):
        from conformask._torch_sets import coverage

        counts: list[Counts] = coverage(maps, labels, lams, score, inputs, ignore_index, first)
        return counts
    array, kernel, numbers = scored(score, maps, inputs, first)
    lambdas = [of_kernels(lam) for lam in lams]
    return [*_core.coverage(array, label_array(labels), lambdas, kernel, numbers, ignore_index, first)]


def _stays(maps: Any, inputs: Inputs) -> bool:
    """Whether maps are tensors that are worked on where they are.

    Tensors for a scaler are not. Nor are those of wrong shapes, which the kernels refuse, and those on Apple's devices,
    which have no float64.
    """
    return (
        is_tensor(maps)
        and not is_brain_float(maps)
        and isinstance(inputs, str)
        and maps.ndim in (4, 5)
        and 0 not in maps.shape
        and maps.shape[1] > 1
        and maps.device.type != "mps"
    )


def _knows_tensors(score: ConformityScore) -> bool:
    return function_of(score) is None
