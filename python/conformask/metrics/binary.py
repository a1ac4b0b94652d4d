"""How evenly binary masks cover the objects of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._arrays import check_binary_index, mask_array
from conformask._exact import check_alpha, exact_mean, share_of
from conformask._images import Layout, not_empty, walk

__all__ = ["coverage_gap"]

_BINARY_MASKS = Layout(
    "masks", (), "masks", lambda value, name, _: mask_array(value, name, "masks (n, H, W)")
)


def coverage_gap(
    y_true: Any,
    masks: Any,
    alpha: float,
    *,
    ignore_index: int | tuple[int, ...] | None = 255,
    average: bool = True,
) -> float | NDArray[np.float64]:
    r"""The mean distance of the images' coverage from its target.

    .. math:: \frac{1}{n} \sum_i \Big| \frac{|M_i \cap Y_i|}{|Y_i|} - (1 - \alpha) \Big|

    Masks that cover more than needed count as well as those that cover less. A small gap alone is not enough: look at
    coverage and size, too.

    Parameters
    ----------
    y_true : bool or integer array (n, H, W) or (n, D, H, W), or a list of arrays, one per image
        The objects: true or 1, false or 0 for the background.
    masks : bool array (n, H, W) or (n, D, H, W), or a list of arrays, one per image
        The masks.
    alpha : float in (0, 1)
        The risk level.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which do not count.
    average : bool, default=True
        Whether to return the mean over the images that have an object, or the array of all.

    Returns
    -------
    float, or float64 array (n,) with NaN for images without an object
        In [0, 1]. NaN if no image counts.

    Raises
    ------
    TypeError, ValueError
        If types, shapes, labels or alpha do not fit.

    See Also
    --------
    conformask.BinaryRiskCalibrator.evaluate : Computes this and other measures for a calibrator.

    References
    ----------
    "Enhancing Image-Conditional Coverage in Segmentation: Adaptive Thresholding via Differentiable Miscoverage Loss",
    under review in 2026.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[[1, 1, 1, 1, 0]], [[1, 1, 0, 0, 0]]])
    >>> masks = np.array([[[1, 1, 1, 0, 0]], [[1, 1, 1, 0, 0]]], bool)
    >>> cm.metrics.coverage_gap(y, masks, alpha=0.1).__round__(3)
    0.125
    """
    target, index = 1 - float(check_alpha(alpha)), check_binary_index(ignore_index)
    gaps = []
    for batch, labels, first in not_empty(walk(masks, y_true, _BINARY_MASKS, label_name="y_true"), "masks"):
        for i, (mask, image) in enumerate(zip(batch, labels, strict=True)):
            known = np.isin(image, [0, 1, *([] if index is None else [index])])
            if not known.all():
                raise ValueError(
                    f"y_true holds label {image[~known][0]} in image {first + i}, which is neither 0 nor 1 nor the "
                    f"ignore index ({index})"
                )
            inside = image == 1
            gaps.append(abs(share_of((mask & inside).sum(), inside.sum()) - target))
    if not gaps:
        raise ValueError("masks is empty: it holds no image")
    found = np.array(gaps, np.float64)
    return exact_mean(found) if average else found
