"""Single measures of probabilities: of their calibration and of their accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conformask._exact import exact_mean
from conformask._images import Volumes
from conformask.metrics._counted import Asked, Counted, count, iou_of
from conformask.metrics._evaluation import (
    BRIER,
    NLL,
    curve_of,
    image_eces,
    image_means,
    pooled_ece,
    pooled_mean,
)
from conformask.metrics.reliability import ReliabilityCurve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "brier_score",
    "expected_calibration_error",
    "mean_iou",
    "negative_log_likelihood",
    "reliability_curve",
]


def expected_calibration_error(
    y: Any,
    X: Any = None,
    n_bins: int = 15,
    per_image: bool = True,
    average: bool = True,
    *,
    inputs: str = "probabilities",
    transform: Any = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    volumes: Volumes = "auto",
) -> float | NDArray[np.float64]:
    r"""The expected calibration error: the distance of accuracy and confidence, averaged over bins of confidence.

    .. math:: \mathrm{ECE} = \sum_{b=1}^{M} \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|

    Bins are :math:`(0, 1/M], \ldots, (1 - 1/M, 1]`; the first holds 0, too. The mean of the errors of images and the
    error of all their pixels together answer different questions, and do not estimate each other. If images have few
    pixels in each bin, the error of an image is large by chance alone.

    Parameters
    ----------
    y, X
        Labels and maps, as for :func:`calibration_report`.
    n_bins : int from 1 to 1000, default=15
        The number of bins M, of equal width.
    per_image : bool, default=True
        Whether each image has bins of its own (True), or the pixels of all images share the bins.
    average : bool, default=True
        Whether to return the mean over the images with labelled pixels, or the array of all.
    inputs, transform, ignore_index, volumes
        As for :class:`CalibrationAccumulator`.

    Returns
    -------
    float, or float64 array (n,) with NaN for images without labelled pixels
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        If the input is not as described; the message names argument, image and value.

    Warns
    -----
    DroppedImagesWarning
        If images have no labelled pixel and do not count; with ``average=False`` they are NaN.

    See Also
    --------
    calibration_report : Adds an interval, and estimates without the bias of chance.
    reliability_curve : Returns the bins.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.

    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053, whose main measure is that of images.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.full((2, 2, 1, 10), 0.1)
    >>> X[:, 0] = 0.9
    >>> y = np.array([[[0] * 10], [[0] * 8 + [1] * 2]])  # right 10 times of 10, and 8 of 10
    >>> round(cm.metrics.expected_calibration_error(y, X), 6)
    0.1
    >>> round(cm.metrics.expected_calibration_error(y, X, per_image=False), 6)
    0.0
    """
    counted = count(y, X, Asked(n_bins, inputs, transform, ignore_index, volumes=volumes, losses=False))
    return _measure(counted, image_eces(counted), pooled_ece(counted), per_image, average)


def negative_log_likelihood(
    y: Any,
    X: Any = None,
    *,
    per_image: bool = False,
    average: bool = True,
    inputs: str = "probabilities",
    transform: Any = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    volumes: Volumes = "auto",
) -> float | NDArray[np.float64]:
    r"""Mean over labelled pixels of :math:`-\ln p_y`, the log loss; probabilities are clipped at 1e-12.

    Parameters
    ----------
    y, X
        Labels and maps, as for :func:`calibration_report`.
    per_image : bool, default=False
        Whether all images count alike, by the means of their pixels, or all pixels.
    average, inputs, transform, ignore_index, volumes
        As for :func:`expected_calibration_error`.

    Returns
    -------
    float, or float64 array (n,) with NaN for images without labelled pixels
        In [0, 27.7].

    Raises
    ------
    TypeError, ValueError
        If the input is not as described; the message names argument, image and value.

    Warns
    -----
    DroppedImagesWarning
        If images have no labelled pixel and do not count; with ``average=False`` they are NaN.

    See Also
    --------
    brier_score : Computes the squared error.
    sklearn.metrics.log_loss : Computes the log loss of samples in rows.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.7, 0.2, 0.1]).reshape(1, 3, 1, 1)
    >>> round(cm.metrics.negative_log_likelihood(np.array([[[0]]]), X), 5)
    0.35667
    """
    counted = count(y, X, Asked(1, inputs, transform, ignore_index, volumes=volumes))
    return _measure(counted, image_means(counted, NLL), pooled_mean(counted, NLL), per_image, average)


def brier_score(
    y: Any,
    X: Any = None,
    *,
    per_image: bool = False,
    average: bool = True,
    inputs: str = "probabilities",
    transform: Any = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    volumes: Volumes = "auto",
) -> float | NDArray[np.float64]:
    r"""Mean over labelled pixels of :math:`\sum_k (p_k - 1[y = k])^2`.

    Parameters
    ----------
    y, X
        Labels and maps, as for :func:`calibration_report`.
    per_image : bool, default=False
        Whether all images count alike, by the means of their pixels, or all pixels.
    average, inputs, transform, ignore_index, volumes
        As for :func:`expected_calibration_error`.

    Returns
    -------
    float, or float64 array (n,) with NaN for images without labelled pixels
        In [0, 2].

    Raises
    ------
    TypeError, ValueError
        If the input is not as described; the message names argument, image and value.

    Warns
    -----
    DroppedImagesWarning
        If images have no labelled pixel and do not count; with ``average=False`` they are NaN.

    See Also
    --------
    negative_log_likelihood : Computes the log loss.

    References
    ----------
    Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review 1950,
    doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.7, 0.2, 0.1]).reshape(1, 3, 1, 1)
    >>> round(cm.metrics.brier_score(np.array([[[0]]]), X), 6)
    0.14
    """
    counted = count(y, X, Asked(1, inputs, transform, ignore_index, volumes=volumes))
    return _measure(counted, image_means(counted, BRIER), pooled_mean(counted, BRIER), per_image, average)


def mean_iou(
    y: Any,
    X: Any = None,
    *,
    per_image: bool = False,
    average: bool = True,
    inputs: str = "probabilities",
    transform: Any = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    volumes: Volumes = "auto",
) -> float | NDArray[np.float64]:
    r"""Mean over classes of the intersection over union.

    .. math:: \frac{\mathrm{TP}}{\mathrm{TP} + \mathrm{FP} + \mathrm{FN}}

    The prediction of a pixel is its most probable class, of equal ones the lowest. Classes that neither occur nor are
    predicted are left out. By default pixels of all images are counted together, as MMSegmentation does.

    Parameters
    ----------
    y, X
        Labels and maps, as for :func:`calibration_report`.
    per_image : bool, default=False
        Whether each image has a mean IoU of its own, or all pixels are counted together.
    average, inputs, transform, ignore_index, volumes
        As for :func:`expected_calibration_error`.

    Returns
    -------
    float, or float64 array (n,) with NaN for images without labelled pixels
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        If the input is not as described; the message names argument, image and value.

    Warns
    -----
    DroppedImagesWarning
        If images have no labelled pixel and do not count; with ``average=False`` they are NaN.

    See Also
    --------
    label_accuracy : Computes the mean recall of the labels of label maps.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([[0.9, 0.9, 0.2, 0.2], [0.1, 0.1, 0.8, 0.8]]).reshape(1, 2, 1, 4)
    >>> round(cm.metrics.mean_iou(np.array([[[0, 0, 0, 1]]]), X), 6)
    0.583333
    """
    counted = count(y, X, Asked(1, inputs, transform, ignore_index, volumes=volumes, losses=False))
    confusion = counted.confusion
    together = iou_of(confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal())
    return _measure(counted, counted.ious, float(together), per_image, average)


def reliability_curve(
    y: Any,
    X: Any = None,
    n_bins: int = 15,
    *,
    inputs: str = "probabilities",
    transform: Any = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    groups: ArrayLike | None = None,
    volumes: Volumes = "auto",
) -> ReliabilityCurve:
    """The accuracy of the pixels of all images as a function of their confidence, in bins.

    Parameters
    ----------
    y, X
        Labels and maps, as for :func:`calibration_report`.
    n_bins : int from 1 to 1000, default=15
        Number of bins of equal width.
    inputs, transform, ignore_index, volumes
        As for :class:`CalibrationAccumulator`.
    groups : sequence of n ints or strings, or None
        The group of each image. Intervals are then computed over groups.

    Returns
    -------
    ReliabilityCurve

    Raises
    ------
    TypeError, ValueError
        If the input is not as described; the message names argument, image and value.

    Warns
    -----
    DroppedImagesWarning
        If images have no labelled pixel and do not count.

    See Also
    --------
    conformask.plotting.plot_reliability : Draws the curve.
    expected_calibration_error : Computes the mean distance of the curve from the diagonal.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([[0.9, 0.9, 0.4, 0.4], [0.1, 0.1, 0.6, 0.6]]).reshape(1, 2, 1, 4)
    >>> curve = cm.metrics.reliability_curve(np.array([[[0, 0, 0, 1]]]), X, n_bins=2)
    >>> curve.accuracy.tolist()
    [nan, 0.75]
    """
    asked = Asked(n_bins, inputs, transform, ignore_index, volumes=volumes, losses=False)
    counted = count(y, X, asked, groups)
    counted.warn_of_void()
    return curve_of(counted)


def _measure(
    counted: Counted, of_images: NDArray[np.float64], together: float, per_image: bool, average: bool
) -> float | NDArray[np.float64]:
    """What was asked for."""
    if not average:
        if not per_image:
            raise ValueError("average=False gives the values of images: pass per_image=True")
        return of_images
    counted.warn_of_void()
    return exact_mean(of_images) if per_image else together
