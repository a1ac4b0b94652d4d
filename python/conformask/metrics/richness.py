"""The number of label maps in a set: exact for pixel-wise sets, estimated from samples for others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._arrays import label_array
from conformask._bands import MOST_NUMBERS, bands
from conformask._images import MASKS, not_empty, walk
from conformask._warnings import warn_caller
from conformask.kernels import distinct_counts

__all__ = ["chao1", "chao1_of_counts", "log10_of_product", "log10_volume"]


def log10_volume(masks: Any, *, average: bool = True) -> float | NDArray[np.float64]:
    r"""Logarithm of the number of label maps that masks hold, :math:`\sum_p \log_{10} |C(p)|` over all pixels.

    Parameters
    ----------
    masks : bool array (n, K, H, W) or (n, K, D, H, W), or a list of arrays, one per image
        Multi-labeled masks.
    average : bool, default=True
        Whether to return the mean over images, or the array of all.

    Returns
    -------
    float, or float64 array (n,)
        0 for single label maps; minus infinity if a pixel has an empty set.

    Raises
    ------
    TypeError, ValueError
        If types or shapes do not fit.

    See Also
    --------
    chao1 : Estimates the number for sets of which only samples are known.
    conformask.kernels.sample_masks : Draws label maps of the sets.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> masks = np.ones((1, 10, 3, 5), bool)
    >>> cm.metrics.log10_volume(masks)
    15.0
    """
    values = []
    for batch, _, index in not_empty(walk(masks, None, MASKS, labelled=False, at_once=1), "masks"):
        if batch.ndim not in (4, 5) or not batch.size:
            raise ValueError(
                f"masks must hold (K, H, W) or (K, D, H, W) in image {index} and not be empty, got {batch.shape[1:]}"
            )
        n_classes, *space = batch.shape[1:]
        n_pixels = np.zeros(n_classes + 1, np.int64)
        for band in bands(tuple(space), MOST_NUMBERS // n_classes):
            sizes = batch[(0, slice(None), *band)].sum(axis=0)
            n_pixels += np.bincount(sizes.ravel(), minlength=n_classes + 1)
        values.append(log10_of_product(n_pixels))
    return math.fsum(values) / len(values) if average else np.array(values)


def chao1(samples: Any, bias_corrected: bool = True) -> float:
    r"""Chao's estimate of the number of label maps in a set, from samples of the set.

    With :math:`S` different label maps among the samples, :math:`f_1` of them drawn once and :math:`f_2` twice,

    .. math:: S + \frac{f_1 (f_1 - 1)}{2 (f_2 + 1)} \quad \text{(bias-corrected)}, \\
        S + \frac{f_1^2}{2 f_2} \quad \text{(classic, the same as bias-corrected if } f_2 = 0).

    The bias-corrected form is a lower bound in expectation; the classic one need not be. Neither can exceed
    :math:`m (m + 1) / 2`. They reach it if all m samples are different: the set is then too large for an estimate from
    so few samples.

    Parameters
    ----------
    samples : integer array (m, H, W) or (m, D, H, W)
        Label maps that were drawn for one image. Label maps of several images, (n, m, H, W), would be taken for
        volumes. Two maps are the same if all their pixels are equal.
    bias_corrected : bool, default=True
        Whether to return the bias-corrected form, or the classic one.

    Returns
    -------
    float
        The estimate, at least 1.

    Raises
    ------
    TypeError, ValueError
        If `samples` does not hold integers, has another number of axes, or is empty.

    Warns
    -----
    UserWarning
        If all samples differ: the estimate then has its largest value.

    See Also
    --------
    log10_volume : Counts the label maps of pixel-wise sets exactly.
    conformask.ConsignSet.log10_volume_upper : Bounds the number for a set of whole segmentations.
    conformask.kernels.distinct_counts : Computes the counts behind the estimate.

    References
    ----------
    Chao, "Nonparametric estimation of the number of classes in a population", Scandinavian Journal of Statistics 11(4),
    265-270, 1984. Viti, Karabelas, Holler, "CONSIGN", ICLR 2026, arXiv:2505.14113.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> samples = np.array([0, 1, 2, 3, 4, 4, 5, 5, 5, 6, 6, 6]).reshape(12, 1, 1)
    >>> cm.metrics.chao1(samples), cm.metrics.chao1(samples, bias_corrected=False)
    (10.0, 15.0)
    """
    samples = label_array(samples, "samples")
    counts, m = distinct_counts(samples), len(samples)
    if counts[0] == m > 1:
        warn_caller(
            f"all {m} samples differ: Chao's estimate is the largest that so many can give, m (m + 1) / 2. It says no "
            "more than that the set is large; draw more, or look at its volume (log10_volume, log10_volume_upper)",
            UserWarning,
        )
    return chao1_of_counts(*counts, bias_corrected)


def chao1_of_counts(observed: int, once: int, twice: int, bias_corrected: bool = True) -> float:
    """Chao's estimate of the numbers of label maps that were drawn at all, once, and twice."""
    if bias_corrected or twice == 0:
        return observed + once * (once - 1) / (2 * (twice + 1))
    return observed + once**2 / (2 * twice)


def log10_of_product(n_pixels: NDArray[np.integer[Any]]) -> float:
    """The product of all pixels' set sizes, of which ``n_pixels[size]`` are equal: few logarithms, in no order."""
    if n_pixels[0]:
        return -math.inf
    return math.fsum(n * math.log10(size) for size, n in enumerate(n_pixels.tolist()) if n)
