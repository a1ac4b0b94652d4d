"""Metrics of multi-labeled masks: risk, coverage and the sizes of sets, as means over images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conformask import _core
from conformask._arrays import check_ignore_index, check_masks, is_void
from conformask._bands import MOST_NUMBERS, bands
from conformask._exact import covered_share, exact_mean, per_pixel, share_of
from conformask._images import MASKS, in_memory, not_empty, walk
from conformask.losses import CountedLoss, LossLike, as_loss, loss_values

__all__ = [
    "SizeStratifiedCoverage",
    "activation_ratio",
    "class_set_sizes",
    "empirical_risk",
    "marginal_coverage",
    "size_stratified_coverage",
]


def empirical_risk(
    y_true: Any,
    masks: Any,
    loss: LossLike = "miscoverage",
    *,
    ignore_index: int | tuple[int, ...] | None = 255,
    average: bool = True,
) -> float | NDArray[np.float64]:
    r"""The mean loss of the images, :math:`\frac{1}{n} \sum_i L_i`.

    Parameters
    ----------
    y_true : integer array (n, H, W) or (n, D, H, W), or a list of arrays, one per image
        Labels.
    masks : bool array (n, K, H, W) or (n, K, D, H, W), or a list of arrays, one per image
        Multi-labeled masks.
    loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function, default="miscoverage"
        The loss.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which do not count.
    average : bool, default=True
        Whether to return the mean over the images on which the loss is defined, or the array of all.

    Returns
    -------
    float, or float64 array (n,) with NaN where the loss is undefined
        In [0, 1]. NaN if no image counts.

    Raises
    ------
    TypeError, ValueError
        If types, shapes or labels do not fit.

    See Also
    --------
    conformask.kernels.losses : Computes the losses from scores and lambda, without masks.
    conformask.ConformalRiskCalibrator.evaluate : Reports risk, sizes and coverage of a calibrator.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[[0, 1]], [[1, 1]]])
    >>> masks = np.array([[[[1, 0]], [[0, 0]]], [[[0, 0]], [[1, 1]]]], bool)
    >>> cm.metrics.empirical_risk(y, masks)
    0.25
    >>> cm.metrics.empirical_risk(y, masks, "binary")
    0.5
    """
    loss = as_loss(loss)
    if isinstance(loss, CountedLoss):
        values = _counted_losses(y_true, masks, ignore_index, loss)
        return exact_mean(values) if average else values
    return _over_images(
        y_true, masks, ignore_index, average, lambda missed, totals, _: loss_values(loss, missed, totals)
    )


def activation_ratio(
    y_true: Any, masks: Any, *, ignore_index: int | tuple[int, ...] | None = 255, average: bool = True
) -> float | NDArray[np.float64]:
    r"""The mean set size on the labelled pixels of an image, averaged over images.

    .. math:: \frac{1}{n} \sum_i \frac{1}{|V_i|} \sum_{p \in V_i} |C_\lambda(p)|

    Parameters
    ----------
    y_true, masks, ignore_index, average
        As for :func:`empirical_risk`.

    Returns
    -------
    float, or float64 array (n,) with NaN for images without labelled pixels
        In [0, K].

    Raises
    ------
    TypeError, ValueError
        If types, shapes or labels do not fit.

    See Also
    --------
    class_set_sizes : Computes the mean set size for each class.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145, eq. 17.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> masks = np.array([[[[1, 1]], [[1, 0]]]], bool)
    >>> cm.metrics.activation_ratio(np.array([[[0, 0]]]), masks)
    1.5
    """
    return _over_images(
        y_true, masks, ignore_index, average, lambda _, totals, sizes: per_pixel(sizes.sum(axis=1), totals)
    )


def marginal_coverage(
    y_true: Any, masks: Any, *, ignore_index: int | tuple[int, ...] | None = 255, average: bool = True
) -> float | NDArray[np.float64]:
    r"""The share of labelled pixels whose set holds their label, averaged over images.

    ``average=False`` gives the coverage of each image.

    .. math:: \frac{1}{n} \sum_i \frac{1}{|V_i|} \sum_{p \in V_i} 1[y_p \in C_\lambda(p)]

    Parameters
    ----------
    y_true, masks, ignore_index, average
        As for :func:`empirical_risk`.

    Returns
    -------
    float, or float64 array (n,) with NaN for images without labelled pixels
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        If types, shapes or labels do not fit.

    See Also
    --------
    size_stratified_coverage : Computes coverage by set size.
    empirical_risk : Is, with the default loss, one minus the marginal coverage.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> masks = np.array([[[[1, 1]], [[1, 0]]]], bool)
    >>> cm.metrics.marginal_coverage(np.array([[[0, 1]]]), masks)
    0.5
    """
    return _over_images(
        y_true, masks, ignore_index, average, lambda missed, totals, _: covered_share(missed, totals)
    )


class SizeStratifiedCoverage(NamedTuple):
    """Coverage by set size.

    Attributes
    ----------
    sizes : int64 array (S,)
        The set sizes that occur, ascending.
    coverages : float64 array (S,)
        Among the labelled pixels with a set of that size, the share whose set holds their label.
    n_pixels : int64 array (S,)
        Number of labelled pixels with a set of that size.

    See Also
    --------
    size_stratified_coverage : Returns this object.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> found = cm.metrics.size_stratified_coverage(np.array([[[0, 0]]]), np.ones((1, 2, 1, 2), bool))
    >>> int(found.n_pixels[found.sizes == 2][0])
    2
    """

    sizes: NDArray[np.int64]
    coverages: NDArray[np.float64]
    n_pixels: NDArray[np.int64]


def size_stratified_coverage(
    y_true: Any, masks: Any, *, ignore_index: int | tuple[int, ...] | None = 255
) -> SizeStratifiedCoverage:
    """Coverage by set size, over the labelled pixels of all images.

    If sets adapt to the difficulty of a pixel, the coverage is the same for all sizes. The smallest coverage is the
    size-stratified coverage metric.

    Parameters
    ----------
    y_true, masks, ignore_index
        As for :func:`empirical_risk`.

    Returns
    -------
    SizeStratifiedCoverage
        ``sizes``, ``coverages``, ``n_pixels``.

    Raises
    ------
    TypeError, ValueError
        If types, shapes or labels do not fit.

    See Also
    --------
    marginal_coverage : Computes coverage over all set sizes.

    References
    ----------
    Angelopoulos, Bates, Malik, Jordan, "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR 2021,
    arXiv:2009.14193.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> masks = np.array([[[[1, 1, 0]], [[0, 1, 1]]]], bool)  # sets {0}, {0, 1} and {1}
    >>> found = cm.metrics.size_stratified_coverage(np.array([[[1, 1, 1]]]), masks)
    >>> found.sizes.tolist(), found.coverages.tolist(), found.n_pixels.tolist()
    ([1, 2], [0.5, 1.0], [2, 1])
    """
    covered, pixels = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for sizes, labels, mask in _labelled(y_true, masks, ignore_index):
        hits = mask[labels, np.arange(len(labels))]
        length = max(len(pixels), len(mask) + 1)
        covered = np.pad(covered, (0, length - len(covered))) + np.bincount(sizes[hits], minlength=length)
        pixels = np.pad(pixels, (0, length - len(pixels))) + np.bincount(sizes, minlength=length)
    found = np.flatnonzero(pixels)
    return SizeStratifiedCoverage(found, covered[found] / pixels[found], pixels[found])


def class_set_sizes(
    y_true: Any, masks: Any, *, ignore_index: int | tuple[int, ...] | None = 255, average: bool = True
) -> NDArray[np.float64]:
    """Mean set size on the pixels of each class.

    Parameters
    ----------
    y_true, masks, ignore_index
        As for :func:`empirical_risk`; all masks have the same K.
    average : bool, default=True
        Whether to return the means over the images that have the class, or the array of all.

    Returns
    -------
    float64 array (K,), or (n, K)
        NaN if no image holds the class (with ``average=False``: if the image does not).

    Raises
    ------
    TypeError, ValueError
        If types, shapes or labels do not fit.

    See Also
    --------
    activation_ratio : Computes the mean over the pixels of all classes.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> masks = np.array([[[[1, 1, 0]], [[0, 1, 1]]]], bool)  # sets {0}, {0, 1} and {1}
    >>> cm.metrics.class_set_sizes(np.array([[[0, 1, 1]]]), masks)
    array([1. , 1.5])
    """
    values = _of_images(y_true, masks, ignore_index, lambda _, totals, sizes: share_of(sizes, totals))
    return np.array([exact_mean(column) for column in values.T]) if average else values


_Metric = Callable[[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]], NDArray[np.float64]]


def _over_images(
    y_true: Any, masks: Any, ignore_index: int | tuple[int, ...] | None, average: bool, metric: _Metric
) -> float | NDArray[np.float64]:
    values = _of_images(y_true, masks, ignore_index, metric)
    return exact_mean(values) if average else values


def _of_images(
    y_true: Any, masks: Any, ignore_index: int | tuple[int, ...] | None, metric: _Metric
) -> NDArray[np.float64]:
    """A metric of missed and labelled pixels and of set sizes, by class, image by image."""
    index = check_ignore_index(ignore_index)
    return np.concatenate(
        [
            metric(*_core.mask_coverage(batch, labels, index, first))
            for batch, labels, first in _mask_batches(y_true, masks)
        ]
    )


def _counted_losses(
    y_true: Any, masks: Any, ignore_index: int | tuple[int, ...] | None, loss: CountedLoss
) -> NDArray[np.float64]:
    """A loss that also depends on the superfluous classes of sets, image by image."""
    index, found = check_ignore_index(ignore_index), []
    for batch, labels, first in _mask_batches(y_true, masks):
        missed, totals, _ = _core.mask_coverage(batch, labels, index, first)
        valid = ~is_void(labels, index)
        axes = tuple(range(1, labels.ndim))
        held = [(batch[:, k] & valid).sum(axis=axes, dtype=np.uint64) for k in range(batch.shape[1])]
        found.append(loss_values(loss, missed, totals, np.stack(held, axis=1)))
    return np.concatenate(found)


def _labelled(
    y_true: Any, masks: Any, ignore_index: int | tuple[int, ...] | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.integer[Any]], NDArray[np.bool_]]]:
    """The set sizes, labels and masks (K, pixels) of the labelled pixels, band by band of each image."""
    index = check_ignore_index(ignore_index)
    for batch, labels, first in _mask_batches(y_true, masks):
        own = np.empty(labels.shape, labels.dtype)  # a copy that no other thread writes to
        for band in bands(labels.shape, MOST_NUMBERS):
            own[band] = labels[band]
        _core.mask_coverage(batch, own, index, first)  # refuses wrong ones
        for mask, image in zip(batch, own, strict=True):
            for band in bands(image.shape, MOST_NUMBERS // len(mask)):
                label = image[band]
                valid = ~is_void(label, index)
                mask_of_valid = mask[(slice(None), *band)][:, valid]
                yield mask_of_valid.sum(axis=0), label[valid].astype(np.intp), mask_of_valid


def _mask_batches(
    y_true: Any, masks: Any
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.integer[Any]], int]]:
    batches = walk(masks, y_true, MASKS, label_name="y_true")
    for batch, labels, first in not_empty(batches, "masks"):
        check_masks(batch, where="" if in_memory(masks) else f" in image {first}")
        yield batch, labels, first
