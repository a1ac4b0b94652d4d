"""The accuracy of label maps: of a model, and of samples of a set of segmentations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask import _core
from conformask._arrays import check_ignore_index
from conformask._exact import check_share, exact_mean, tolerated
from conformask._images import LABEL_MAPS, SAMPLED_MAPS, Layout, not_empty, walk
from conformask.kernels import label_hits

__all__ = ["label_accuracy", "sample_coverage"]


def label_accuracy(
    y_true: Any, prediction: Any, *, ignore_index: int | tuple[int, ...] | None = 255, average: bool = True
) -> float | NDArray[np.float64]:
    r"""The mean recall of the labels :math:`\Lambda` that occur in an image, averaged over images.

    .. math:: \frac{1}{|\Lambda|} \sum_{l \in \Lambda} \frac{|\{p : y_p = l, \hat y_p = l\}|}{|\{p : y_p = l\}|}

    Parameters
    ----------
    y_true : integer array (n, H, W) or (n, D, H, W), or an iterable of arrays, one per image
        Labels: any integers.
    prediction : integer array (n, H, W) or (n, D, H, W), or an iterable of arrays, one per image
        Predicted labels, of any integer type.
    ignore_index : int, tuple of ints or None, default=255
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

    See Also
    --------
    sample_coverage : Counts the images with a sample that is accurate enough.
    conformask.LabelAccuracyLoss : Is the loss that demands this accuracy of a set.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN", ICLR 2026, arXiv:2505.14113.

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
    ignore_index: int | tuple[int, ...] | None = 255,
    accuracy: str = "label",
    average: bool = True,
) -> float | NDArray[np.float64]:
    r"""The share of images that have a sample that is accurate enough.

    .. math:: \frac{1}{n} \sum_i 1\Big[\max_{j \le m} \mathrm{acc}(\hat y_{ij}; y_i) \ge \beta\Big]

    This estimates the coverage of a set from random samples; it grows with the number of samples. The set itself may
    cover an image that none of its samples covers.

    Parameters
    ----------
    y_true : integer array (n, H, W) or (n, D, H, W), or an iterable of arrays, one per image
        Labels: any integers.
    samples : integer array (n, m, H, W) or (n, m, D, H, W), or an iterable of arrays (m, H, W) or (m, D, H, W)
        Label maps of each image, of any integer type.
    min_accuracy : float or fractions.Fraction in (0, 1]
        The accuracy :math:`\beta` that a sample must reach, taken as the decimal that prints.
    ignore_index : int, tuple of ints or None, default=255
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

    See Also
    --------
    label_accuracy : Computes the accuracy of one label map for each image.
    conformask.ConsignCalibrator.evaluate : Computes the coverage of the sets themselves, certified by search.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN", ICLR 2026, arXiv:2505.14113.

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


def _label_hits(
    y_true: Any, maps: Any, ignore_index: int | tuple[int, ...] | None, layout: Layout
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint64]]]:
    """For each image: the numbers of pixels (L,) of its labels, and how many of them each map gets right (m, L).

    A prediction is one map, without the axis m.
    """
    batches = walk(maps, y_true, layout, label_name="y_true", at_once=1)
    for found, labels, _ in not_empty(batches, layout.name):
        if found.ndim - len(layout.axes) not in (3, 4) or not found.size:
            raise ValueError(
                f"{layout.name} must have shape {layout.shapes('n')} and not be empty, got {found.shape}"
            )
        yield label_hits(labels[0], found[0] if layout.axes else found, ignore_index)[1:]
