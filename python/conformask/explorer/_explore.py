"""The function that opens an explorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from conformask.explorer._view import Explorer

__all__ = ["explore"]


def explore(
    calibrator: Any,
    X: Any,
    images: Any = None,
    y: Any = None,
    *,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
) -> Explorer:
    r"""Look at the sets of images in Jupyter, and change the level with sliders.

    The slider of alpha sets the lambda that calibration finds at that level, as ``recalibrate(alpha=)`` does. The
    slider of lambda sets any lambda, and moves alpha to the smallest level that this lambda keeps (rounded up to the
    step of its slider). This is the number that the method compares with alpha, with :class:`~conformask.CRC`
    :math:`(n \hat R(\lambda) + 1) / (n + 1)` for the mean loss :math:`\hat R` of n calibration images; a method that
    tests one lambda after the other compares the largest of these numbers. Maps show the
    image, its labels, the most probable class, the sizes of the sets, where one class may be and what the sets miss.
    Two plots below show how often each size occurs, and the risk curve of calibration. The set of the pixel under the
    pointer is listed; a click keeps this pixel, another click releases it. Without ipyevents, two sliders choose the
    pixel.

    The explorer is for inspection only. The guarantee is about a level that was fixed before looking at these images
    and at the labels of the calibration images. There is no guarantee on these images for a level that was chosen here:
    calibrate and test at that level on other images.

    Parameters
    ----------
    calibrator : fitted ConformalRiskCalibrator
        The calibrator in its present state; it is not changed. With ``conditional="class"`` the slider of lambda moves
        the lambda of the chosen class, and the slider of alpha moves those of all classes.
    X : array (n, K, H, W) or (n, K, D, H, W), a list of (K, H, W), a store, or another sequence
        As for ``predict``. One image is read at a time, when it is chosen, and kept while it is shown. Without `y`, the
        members of a sequence may be ``(scores, labels)`` pairs, as those of a
        :class:`~conformask.datasets.PairedFolder`.
    images : sequence of n arrays (H, W) or (H, W, 3), or (D, H, W) or (D, H, W, 3), or None
        The images below the maps, uint8 or floating in [0, 1].
    y : sequence of n integer arrays (H, W) or (D, H, W), or None
        Labels, `ignore_index` of the calibrator at void pixels.
    class_names : sequence of K strings, or None
        The names of the classes.
    palette : array-like (K, 3), or None
        The colours of the classes, uint8 or floating in [0, 1].

    Returns
    -------
    Explorer
        A widget. Its controls are widgets too, whose ``value`` can be set by code: `image`, `depth` (the slice of a
        volume), `alpha`, `lam`, `label` (whose places are shown), `row`, `column`, and the button `as_calibrated`.
        ``lambda_`` is the lambda that is shown, or those of classes (K,); `sets`, `sizes` and `missed` are arrays of
        the image that is shown; `pixel_set` names the classes at the pixel; `numbers` are what is written, as text,
        and `pictures` what is drawn, as PNG, both by name.

    Raises
    ------
    ImportError
        If ipywidgets or Matplotlib is missing: ``pip install "conformask[explore]"``.
    TypeError
        If the calibrator is of another family, for which there are other plots (the message names them); if X cannot be
        indexed by the number of an image.
    ValueError
        If lambdas are not shared by all images (`adaptive`, strata, weights above 1); if the profiles were not saved;
        if images, labels and scores do not fit.
    sklearn.exceptions.NotFittedError
        If the calibrator has seen no images.

    See Also
    --------
    conformask.plotting.plot_varisco, conformask.plotting.plot_risk_curve : Draw such maps and curves as figures.
    ConformalRiskCalibrator.recalibrate : Sets another level, once it is chosen.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145. For the
    levels: Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.full(3, 0.5), size=(60, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (X.cumsum(axis=1) < rng.random((60, 1, 8, 8))).sum(axis=1)  # labels drawn from the probabilities
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(X[:40], y[:40])
    >>> explorer = cm.explore(calibrator, X[40:], y=y[40:])  # as the last line of a cell, it is shown
    >>> explorer.alpha.value = 0.2
    >>> explorer.lambda_ == calibrator.recalibrate(alpha=0.2).lambda_hat_
    True
    """
    try:
        from conformask.explorer._view import Explorer
    except ImportError as error:
        raise ImportError(
            'explore needs ipywidgets and Matplotlib: pip install "conformask[explore]"'
        ) from error
    return Explorer(calibrator, X, images, y, class_names=class_names, palette=palette)
