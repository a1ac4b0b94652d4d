"""Kernels over label maps: drawn from masks, counted, compared with the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask import _core
from conformask._arrays import check_ignore_index, check_masks, label_array, mask_array
from conformask._random import RandomState, check_key
from conformask._text import shown

__all__ = ["distinct_counts", "label_hits", "sample_masks"]


def sample_masks(
    masks: ArrayLike, n_samples: int, random_state: RandomState = None
) -> NDArray[np.unsignedinteger]:
    """Label maps drawn from multi-labeled masks: at each pixel one class of its set, uniformly and independently.

    Such samples compare pixel-wise sets with sets of whole segmentations.

    Parameters
    ----------
    masks : bool array (n, K, H, W) or (n, K, D, H, W)
        Multi-labeled masks without an empty set, as ``predict`` gives them.
    n_samples : int >= 1
        Number of label maps m of each image.
    random_state : int >= 0, numpy.random.Generator, numpy.random.RandomState or None, default=None
        The key of the random numbers: the same int gives the same samples, for any number of threads. None draws one.

    Returns
    -------
    array (n, m, H, W) or (n, m, D, H, W), uint8, or uint16 if K > 256
        Element t, in row-major order, takes the class at place ``floor(r_t * size / 2**64)`` of its set, where ``r_t``
        is the t-th number of ``numpy.random.Philox(key=random_state)``.

    Raises
    ------
    TypeError, ValueError
        If masks are not boolean, a set is empty, or a parameter is out of range.

    See Also
    --------
    conformask.ConsignSet.sample : Draws label maps of a set of whole segmentations.
    conformask.metrics.log10_volume : Computes how many label maps the masks hold.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> masks = np.array([[[[1, 1, 0]], [[0, 1, 1]]]], bool)  # sets {0}, {0, 1} and {1}
    >>> samples = cm.kernels.sample_masks(masks, 1000, random_state=0)
    >>> samples[0, :, 0, 0].max(), samples[0, :, 0, 2].min()
    (np.uint8(0), np.uint8(1))
    >>> 0.45 < samples[0, :, 0, 1].mean() < 0.55
    np.True_
    """
    sets = mask_array(masks)
    if isinstance(n_samples, bool) or not isinstance(n_samples, int | np.integer):
        raise TypeError(f"n_samples must be an int, got {shown(n_samples)}")
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {shown(n_samples)}")
    key = check_key(random_state)
    check_masks(sets)
    dtype = np.uint8 if sets.shape[1] <= 256 else np.uint16
    out: NDArray[np.unsignedinteger] = np.empty((len(sets), n_samples, *sets.shape[2:]), dtype)
    _core.sample_masks(sets, key, out)
    return out


def distinct_counts(samples: Any) -> tuple[int, int, int]:
    """The number of different label maps, and how many of them occur just once and just twice.

    Maps with equal hashes are compared pixel by pixel, so that the counts are exact. Pixels at which all maps agree
    make no difference.

    Parameters
    ----------
    samples : integer array (m, H, W) or (m, D, H, W), any strides
        Label maps of one image.

    Returns
    -------
    (int, int, int)
        The number of different label maps, of those that occur once, and of those that occur twice.

    Raises
    ------
    TypeError, ValueError
        If `samples` does not hold integers, has another number of axes, or is empty.

    See Also
    --------
    conformask.metrics.chao1 : Estimates the size of a set from these counts.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> samples = np.array([[[0, 0]], [[0, 1]], [[1, 1]], [[0, 1]], [[0, 0]], [[0, 0]]])
    >>> cm.kernels.distinct_counts(samples)
    (3, 1, 1)
    """
    return _core.distinct_counts(label_array(samples, "samples"))


def label_hits(
    y: ArrayLike, predictions: ArrayLike, ignore_index: int | tuple[int, ...] | None = 255
) -> tuple[NDArray[np.integer[Any]], NDArray[np.uint64], NDArray[np.uint64]]:
    """The number of correct pixels of each label of an image, for each of several label maps.

    Parameters
    ----------
    y : integer array (H, W) or (D, H, W)
        The labels of one image: any integers.
    predictions : integer array (m, H, W) or (m, D, H, W), of any integer type
        Label maps of the same image.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which do not count.

    Returns
    -------
    labels : array (L,), of the type of `y`
        The labels that occur, ascending, without the ignore index.
    totals : uint64 array (L,)
        Number of pixels of each.
    hits : uint64 array (m, L)
        Number of these pixels at which the label map is correct.

    Raises
    ------
    TypeError, ValueError
        If an array does not hold integers, is empty, or shapes do not fit.

    See Also
    --------
    conformask.metrics.label_accuracy : Computes the mean share of correct pixels.
    conformask.metrics.sample_coverage : Counts the images that have a map that is accurate enough.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[3, 3, 7, 255]])
    >>> labels, totals, hits = cm.kernels.label_hits(y, np.array([[[3, 7, 7, 7]], [[0, 3, 3, 3]]]))
    >>> labels.tolist(), totals.tolist(), hits.tolist()
    ([3, 7], [2, 1], [[1, 1], [1, 0]])
    """
    truth, maps = label_array(y), label_array(predictions, "predictions")
    index = check_ignore_index(ignore_index)
    if truth.ndim not in (2, 3) or not truth.size:
        raise ValueError(f"y must have shape (H, W) or (D, H, W) and not be empty, got {truth.shape}")
    if maps.shape[1:] != truth.shape:
        expected = ", ".join(["m", *map(str, truth.shape)])
        raise ValueError(f"predictions must have shape ({expected}) to match y, got {maps.shape}")
    labels, totals, hits = _core.label_hits(truth, maps, index)
    return np.array(labels, truth.dtype), totals, hits
