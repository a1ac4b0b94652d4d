"""Metrics, in scikit-learn's argument order.

Those of multi-labeled masks are means over images. Those of samples speak of label maps that were drawn from a set of
whole segmentations, or that a model gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conformask import _core
from conformask._arrays import check_ignore_index, label_array
from conformask._exact import check_share, share_of, tolerated
from conformask._images import LABEL_MAPS, MASKS, SAMPLED_MAPS, Batch, Layout, in_memory, walk
from conformask.kernels import distinct_counts, label_hits
from conformask.losses import LossLike, as_loss, loss_values

__all__ = [
    "activation_ratio",
    "chao1",
    "class_set_sizes",
    "empirical_risk",
    "label_accuracy",
    "log10_volume",
    "marginal_coverage",
    "pairwise_agreement",
    "pairwise_correlation",
    "sample_coverage",
    "size_stratified_coverage",
]


def empirical_risk(
    y_true: Any,
    masks: Any,
    loss: LossLike = "miscoverage",
    *,
    ignore_index: int | None = 255,
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
    ignore_index : int or None, default=255
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
    return _over_images(
        y_true, masks, ignore_index, average, lambda missed, totals, _: loss_values(loss, missed, totals)
    )


def activation_ratio(
    y_true: Any, masks: Any, *, ignore_index: int | None = 255, average: bool = True
) -> float | NDArray[np.float64]:
    r"""The mean over images of the mean set size on the image's labelled pixels (COSE, eq. 17).

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

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> masks = np.array([[[[1, 1]], [[1, 0]]]], bool)
    >>> cm.metrics.activation_ratio(np.array([[[0, 0]]]), masks)
    1.5
    """
    return _over_images(
        y_true, masks, ignore_index, average, lambda _, totals, sizes: per_pixel(sizes, totals)
    )


def marginal_coverage(
    y_true: Any, masks: Any, *, ignore_index: int | None = 255, average: bool = True
) -> float | NDArray[np.float64]:
    r"""The mean over images of the share of labelled pixels whose set holds their label.

    ``average=False`` gives the image-wise coverages.

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
        Share of the labelled pixels with a set of that size whose set holds their label.
    n_pixels : int64 array (S,)
        Number of those pixels.
    """

    sizes: NDArray[np.int64]
    coverages: NDArray[np.float64]
    n_pixels: NDArray[np.int64]


def size_stratified_coverage(
    y_true: Any, masks: Any, *, ignore_index: int | None = 255
) -> SizeStratifiedCoverage:
    """Coverage by set size, over the labelled pixels of all images.

    Sets that adapt to the difficulty of a pixel cover alike whatever their size; the smallest coverage is the
    size-stratified coverage metric.

    Parameters
    ----------
    y_true : integer array (n, H, W) or (n, D, H, W), or a list of arrays, one per image
        Labels.
    masks : bool array (n, K, H, W) or (n, K, D, H, W), or a list of arrays, one per image
        Multi-labeled masks.
    ignore_index : int or None, default=255
        The label of void pixels, which do not count.

    Returns
    -------
    SizeStratifiedCoverage
        ``sizes``, ``coverages``, ``n_pixels``.

    Raises
    ------
    TypeError, ValueError
        If types, shapes or labels do not fit.

    References
    ----------
    Angelopoulos, Bates, Malik, Jordan, "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR 2021.

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
    y_true: Any, masks: Any, *, ignore_index: int | None = 255, average: bool = True
) -> NDArray[np.float64]:
    """Mean set size on the pixels of each class.

    Parameters
    ----------
    y_true : integer array (n, H, W) or (n, D, H, W), or a list of arrays, one per image
        Labels.
    masks : bool array (n, K, H, W) or (n, K, D, H, W), or a list of arrays, one per image
        Multi-labeled masks, of one K.
    ignore_index : int or None, default=255
        The label of void pixels, which do not count.
    average : bool, default=True
        Whether to return the means over the images that have the class, or the array of all.

    Returns
    -------
    float64 array (K,), or (n, K)
        NaN where no image (or the image) has the class.

    Raises
    ------
    TypeError, ValueError
        If types, shapes or labels do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> masks = np.array([[[[1, 1, 0]], [[0, 1, 1]]]], bool)  # sets {0}, {0, 1} and {1}
    >>> cm.metrics.class_set_sizes(np.array([[[0, 1, 1]]]), masks)
    array([1. , 1.5])
    """
    rows = []
    for sizes, labels, mask in _labelled(y_true, masks, ignore_index):
        counts = np.bincount(labels, minlength=len(mask))
        rows.append(share_of(np.bincount(labels, sizes, len(mask)), counts))
    values = np.stack(rows)
    return np.array([exact_mean(column) for column in values.T]) if average else values


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
        0 for single label maps; minus infinity where a set is empty.

    Raises
    ------
    TypeError, ValueError
        If types or shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> masks = np.ones((1, 10, 3, 5), bool)
    >>> cm.metrics.log10_volume(masks)
    15.0
    """
    values = []
    for batch, _, index in _some(walk(masks, None, MASKS, labelled=False, at_once=1), "masks"):
        if batch.ndim not in (4, 5) or not batch.size:
            raise ValueError(
                f"masks must hold (K, H, W) or (K, D, H, W) in image {index} and not be empty, got {batch.shape[1:]}"
            )
        values.append(log10_of_product(np.bincount(batch[0].sum(axis=0).ravel())))
    return math.fsum(values) / len(values) if average else np.array(values)


def chao1(samples: Any, bias_corrected: bool = True) -> float:
    r"""Chao's estimate of how many label maps a set holds, from samples of it.

    With :math:`S` different label maps among the samples, :math:`f_1` of them drawn once and :math:`f_2` twice,

    .. math:: S + \frac{f_1 (f_1 - 1)}{2 (f_2 + 1)} \quad \text{(bias-corrected)}, \qquad
              S + \frac{f_1^2}{2 f_2} \quad \text{(classic, the same as bias-corrected if } f_2 = 0).

    The bias-corrected form is a lower bound in expectation; the classic one need not be. Neither can exceed
    :math:`m (m + 1) / 2`, which they reach where all m samples are different: then the set is too large for so few
    samples, and such sets cannot be told apart.
    :func:`log10_volume` counts the label maps of pixel-wise sets exactly.

    Parameters
    ----------
    samples : integer array (m, H, W) or (m, D, H, W)
        Label maps drawn for one image: those of several, (n, m, H, W), would be taken for volumes. They are the same if
        all pixels are.
    bias_corrected : bool, default=True
        Which of the two.

    Returns
    -------
    float
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If `samples` does not hold integers, has another rank, or is empty.

    References
    ----------
    Chao, "Nonparametric estimation of the number of classes in a population", Scandinavian Journal of Statistics 11,
    1984. Viti, Karabelas, Holler, "CONSIGN: Conformal Segmentation Informed by Spatial Groupings via Decomposition",
    ICLR 2026.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> samples = np.array([0, 1, 2, 3, 4, 4, 5, 5, 5, 6, 6, 6]).reshape(12, 1, 1)
    >>> cm.metrics.chao1(samples), cm.metrics.chao1(samples, bias_corrected=False)
    (10.0, 15.0)
    """
    observed, once, twice = distinct_counts(samples)
    if bias_corrected or twice == 0:
        return observed + once * (once - 1) / (2 * (twice + 1))
    return observed + once**2 / (2 * twice)


def label_accuracy(
    y_true: Any, prediction: Any, *, ignore_index: int | None = 255, average: bool = True
) -> float | NDArray[np.float64]:
    r"""The mean over images of the mean recall of the labels :math:`\Lambda` that an image has.

    .. math:: \frac{1}{|\Lambda|} \sum_{l \in \Lambda} \frac{|\{p : y_p = l, \hat y_p = l\}|}{|\{p : y_p = l\}|}

    Parameters
    ----------
    y_true : integer array (n, H, W) or (n, D, H, W), or an iterable of arrays, one per image
        Labels: any integers.
    prediction : integer array (n, H, W) or (n, D, H, W), or an iterable of arrays, one per image
        Predicted labels, of any integer type.
    ignore_index : int or None, default=255
        The label of void pixels in `y_true`, which do not count.
    average : bool, default=True
        Whether to return the mean over the images with labelled pixels, or the array of all.

    Returns
    -------
    float, or float64 array (n,) with NaN for images without labelled pixels
        In [0, 1]; the correctly rounded accuracy of each image.

    Raises
    ------
    TypeError, ValueError
        If types or shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[[0, 0, 0, 1]], [[5, 5, 255, 255]]])
    >>> cm.metrics.label_accuracy(y, np.array([[[0, 0, 1, 1]], [[5, 5, 5, 5]]]), average=False)
    array([0.83333333, 1.        ])
    """
    index = check_ignore_index(ignore_index)
    values = []
    for totals, hits in _label_hits(y_true, prediction, index, LABEL_MAPS):
        shares = [Fraction(hit, total) for hit, total in zip(hits[0].tolist(), totals.tolist(), strict=True)]
        values.append(float(sum(shares, Fraction(0)) / len(shares)) if shares else math.nan)
    found = np.array(values)
    return exact_mean(found) if average else found


def sample_coverage(
    y_true: Any,
    samples: Any,
    min_accuracy: float,
    *,
    ignore_index: int | None = 255,
    accuracy: str = "label",
    average: bool = True,
) -> float | NDArray[np.float64]:
    r"""The share of images some sample of which is accurate enough.

    .. math:: \frac{1}{n} \sum_i 1\Big[\max_{j \le m} \mathrm{acc}(\hat y_{ij}; y_i) \ge \beta\Big]

    What random samples of a set show of its coverage; more samples show more. The set itself may cover an image that
    none of them does.

    Parameters
    ----------
    y_true : integer array (n, H, W) or (n, D, H, W), or an iterable of arrays, one per image
        Labels: any integers.
    samples : integer array (n, m, H, W) or (n, m, D, H, W), or an iterable of arrays (m, H, W) or (m, D, H, W)
        Label maps of each image, of any integer type.
    min_accuracy : float or fractions.Fraction in (0, 1]
        The accuracy :math:`\beta` that a sample must reach, as the decimal that it prints as.
    ignore_index : int or None, default=255
        The label of void pixels in `y_true`, which do not count.
    accuracy : {"label", "pixel"}, default="label"
        The mean recall of the labels that the image has, as :func:`label_accuracy`, or the share of labelled pixels
        that are right.
    average : bool, default=True
        Whether to return the share among the images with labelled pixels, or the array of all.

    Returns
    -------
    float, or float64 array (n,) of 0, 1 and, for images without labelled pixels, NaN
        Accuracies are compared as fractions, without rounding; one that is below `min_accuracy` by 1e-12 or less
        reaches it.

    Raises
    ------
    TypeError, ValueError
        If types or shapes do not fit, or a parameter is out of range.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN: Conformal Segmentation Informed by Spatial Groupings via Decomposition",
    ICLR 2026.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[[0, 0, 1, 1]], [[2, 2, 2, 2]]])
    >>> samples = np.array([[[[0, 0, 0, 0]], [[0, 0, 0, 1]]], [[[2, 1, 1, 1]], [[1, 1, 1, 1]]]])
    >>> cm.metrics.sample_coverage(y, samples, 0.75)
    0.5
    """
    index = check_ignore_index(ignore_index)
    least = check_share(min_accuracy, "min_accuracy")
    if accuracy not in ("label", "pixel"):
        raise ValueError(f"accuracy must be 'label' or 'pixel', got {accuracy!r}")
    most_missed = 1 - tolerated(least)
    values = []
    for totals, hits in _label_hits(y_true, samples, index, SAMPLED_MAPS):
        n_labels = len(totals)
        if not n_labels:
            values.append(math.nan)
            continue
        too_low = (
            _core.Loss.per_class([Fraction(1)] * n_labels, most_missed)
            if accuracy == "label"
            else _core.Loss.pooled([True] * n_labels, most_missed)
        )
        of_each = np.broadcast_to(totals, hits.shape)
        values.append(float((too_low.values(of_each - hits, of_each) == 0).any()))
    found = np.array(values)
    return exact_mean(found) if average else found


def pairwise_correlation(samples: Any, varying_only: bool = False) -> float:
    r"""The mean Pearson correlation of all pairs of label maps, their labels taken as numbers.

    With :math:`v_i` the labels of map :math:`i` less their mean, divided by their norm,

    .. math:: \frac{1}{m (m - 1)} \sum_{i \ne j} v_i \cdot v_j
              = \frac{\lVert \sum_i v_i \rVert^2 - \sum_i \lVert v_i \rVert^2}{m (m - 1)},

    one pass over the maps instead of one for each pair. The correlation with a map whose labels are all the same is not
    defined and counts as 0, as in CONSIGN's experiments, whose mean also has the maps' correlations with themselves.

    Pearson's correlation depends on how labels are numbered and on the pixels that never vary: leaving these out
    changes it. :func:`pairwise_agreement` does not depend on numbers.

    Parameters
    ----------
    samples : integer array (m, H, W) or (m, D, H, W), m >= 2
        Label maps of one image, as for :func:`chao1`.
    varying_only : bool, default=False
        Whether only the pixels count at which not all maps agree.

    Returns
    -------
    float
        In [-1 / (m - 1), 1], to some rounding errors: sums of labels and squares are exact. With `varying_only`, 0
        for maps that are all the same.

    Raises
    ------
    TypeError, ValueError
        If `samples` does not hold integers, has another rank, holds less than two maps, or labels so far apart that
        their span times the number of pixels exceeds 2^53.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> samples = np.array([[[1, 1, 1, 0]], [[1, 1, 0, 1]]])
    >>> cm.metrics.pairwise_correlation(samples)
    -0.33333333
    >>> cm.metrics.pairwise_correlation(samples, varying_only=True)
    -1.0
    """
    return _core.pairwise_correlation(_pairs_of_maps(samples), bool(varying_only))


def pairwise_agreement(samples: Any) -> float:
    r"""The mean over all pairs of label maps of the share of pixels with the same label.

    .. math:: \frac{1}{m (m - 1)} \sum_{i \ne j} \frac{|\{p : \hat y_{ip} = \hat y_{jp}\}|}{P}

    Unlike :func:`pairwise_correlation` it does not depend on how labels are numbered.

    Parameters
    ----------
    samples : integer array (m, H, W) or (m, D, H, W), m >= 2
        Label maps of one image, of P pixels, as for :func:`chao1`.

    Returns
    -------
    float
        In [0, 1], correctly rounded.

    Raises
    ------
    TypeError, ValueError
        If `samples` does not hold integers, has another rank, or holds less than two maps.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> cm.metrics.pairwise_agreement(np.array([[[1, 1, 1, 0]], [[1, 1, 0, 1]]]))
    0.5
    """
    maps = _pairs_of_maps(samples)
    return _core.agreeing_pixels(maps) / ((len(maps) - 1) * maps.size)


def per_pixel(sums: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Sums (n,) per labelled pixel; NaN where there is none."""
    return share_of(sums, totals.sum(axis=1))


def covered_share(missed: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Share of labelled pixels that are covered, (n,); NaN where there is none."""
    return per_pixel((totals - missed).sum(axis=1), totals)


def log10_of_product(n_pixels: NDArray[np.integer[Any]]) -> float:
    """The product of all pixels' set sizes, of which ``n_pixels[size]`` are equal: few logarithms, in no order."""
    if n_pixels[0]:
        return -math.inf
    return math.fsum(n * math.log10(size) for size, n in enumerate(n_pixels.tolist()) if n)


def exact_mean(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN, from the correctly rounded sum: the same for any order."""
    defined = values[~np.isnan(values)]
    return math.fsum(defined.tolist()) / len(defined) if len(defined) else math.nan


def _over_images(
    y_true: Any,
    masks: Any,
    ignore_index: int | None,
    average: bool,
    metric: Callable[[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]], NDArray[np.float64]],
) -> float | NDArray[np.float64]:
    index = check_ignore_index(ignore_index)
    values: NDArray[np.float64] = np.concatenate(
        [
            metric(*_core.mask_coverage(batch, labels, index, first))
            for batch, labels, first in _mask_batches(y_true, masks)
        ]
    )
    return exact_mean(values) if average else values


def _labelled(
    y_true: Any, masks: Any, ignore_index: int | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.integer[Any]], NDArray[np.bool_]]]:
    """The set sizes, labels and masks (K, pixels) of the labelled pixels, image by image."""
    index = check_ignore_index(ignore_index)
    for batch, labels, first in _mask_batches(y_true, masks):
        _core.mask_coverage(batch, labels, index, first)  # refuses labels that are none
        for mask, label in zip(batch, labels, strict=True):
            valid = np.ones(label.shape, bool) if index is None else label != index
            mask_of_valid = mask[:, valid]
            yield mask_of_valid.sum(axis=0), label[valid].astype(np.intp), mask_of_valid


def _mask_batches(
    y_true: Any, masks: Any
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.integer[Any]], int]]:
    batches = walk(masks, y_true, MASKS, label_name="y_true")
    for batch, labels, first in _some(batches, "masks"):
        if batch.ndim not in (4, 5) or batch.shape[1] < 2:
            where = "" if in_memory(masks) else f" in image {first}"
            raise ValueError(
                f"masks must be (n, K, H, W) or (n, K, D, H, W) with K >= 2, got {batch.shape}{where}"
            )
        yield batch, labels, first


def _some(batches: Iterator[Batch], name: str) -> Iterator[Batch]:
    """The batches, of which there must be one."""
    first = next(batches, None)
    if first is None:
        raise ValueError(f"{name} is empty: it holds no image")
    yield first
    yield from batches


def _pairs_of_maps(samples: Any) -> NDArray[np.integer[Any]]:
    maps = label_array(samples, "samples")
    if maps.ndim not in (3, 4) or not maps.size:
        raise ValueError(
            f"samples must have shape (m, H, W) or (m, D, H, W) and not be empty, got {maps.shape}"
        )
    if len(maps) < 2:
        raise ValueError("samples must hold at least two label maps, got 1")
    return maps


def _label_hits(
    y_true: Any, maps: Any, ignore_index: int | None, layout: Layout
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
    """Image by image, the numbers of pixels (L,) of its labels and how many of them each of its maps has right (m, L).

    A prediction is one map, so that it has no axis m.
    """
    batches = walk(maps, y_true, layout, label_name="y_true", at_once=1)
    for found, labels, _ in _some(batches, layout.name):
        if found.ndim - len(layout.axes) not in (3, 4) or not found.size:
            raise ValueError(
                f"{layout.name} must have shape {layout.shapes('n')} and not be empty, got {found.shape}"
            )
        yield label_hits(labels[0], found[0] if layout.axes else found, ignore_index)[1:]
