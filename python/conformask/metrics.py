"""Metrics of multi-labeled masks, in scikit-learn's argument order: all are means over images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask import _core
from conformask._arrays import check_ignore_index, check_labels, is_array, label_array, mask_array
from conformask.losses import LossLike, as_loss, loss_values

__all__ = ["activation_ratio", "empirical_risk", "marginal_coverage"]


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


def per_pixel(sums: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Sums (n,) per labelled pixel; NaN where there is none."""
    valid = totals.sum(axis=1).astype(np.float64)
    shares = np.full(len(valid), np.nan)
    np.divide(sums, valid, out=shares, where=valid > 0)
    return shares


def covered_share(missed: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Share of labelled pixels that are covered, (n,); NaN where there is none."""
    return per_pixel((totals - missed).sum(axis=1), totals)


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


def _mask_batches(
    y_true: Any, masks: Any
) -> Iterable[tuple[NDArray[np.bool_], NDArray[np.integer[Any]], int]]:
    if is_array(masks):
        batches = [(mask_array(masks), label_array(y_true, "y_true"), 0)]
    else:
        images, labels = list(masks), list(y_true)
        if not images:
            raise ValueError("masks is empty: it holds no image")
        if len(images) != len(labels):
            raise ValueError(f"masks has {len(images)} images, y_true has {len(labels)}")
        batches = [
            (mask_array(mask)[np.newaxis], label_array(label, "y_true")[np.newaxis], index)
            for index, (mask, label) in enumerate(zip(images, labels, strict=True))
        ]
    for batch, label, first in batches:
        where = "" if is_array(masks) else f" in image {first}"
        if batch.ndim not in (4, 5) or batch.shape[1] < 2:
            raise ValueError(
                f"masks must be (n, K, H, W) or (n, K, D, H, W) with K >= 2, got {batch.shape}{where}"
            )
        check_labels(batch, label, where, names=("masks", "y_true"))
    return batches
