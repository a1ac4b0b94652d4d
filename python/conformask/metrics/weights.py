"""How many images of equal weight weighted images are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from conformask._exact import effective_size
from conformask._sequences import check_ordered
from conformask._tensors import to_array
from conformask._text import shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["effective_sample_size"]


def effective_sample_size(weights: ArrayLike) -> float:
    r"""The number of images of equal weight whose mean is as precise as that of these weighted images.

    .. math:: n_\text{eff} = \frac{\big( \sum_i w_i \big)^2}{\sum_i w_i^2}

    For uncorrelated losses with equal variance, the variance of the weighted mean is this variance divided by
    :math:`n_\text{eff}`. It is n if all weights are equal, and near 1 if one image outweighs all others. Images of
    weight 0 do not count. Under covariate shift look at it before you calibrate: if it is small, few images represent
    all new ones. It tells how much a weighted mean varies, and guarantees nothing.

    Parameters
    ----------
    weights : array (n,) of finite numbers of at least 0
        The weights, in any unit: a factor common to all changes nothing.

    Returns
    -------
    float in [1, n]
        Correctly rounded, also for huge and tiny weights. 0 if all weights are 0.

    Raises
    ------
    TypeError
        If the weights are not numbers.
    ValueError
        If a weight is negative, infinite or NaN, if there is none, or if they have more than one axis.

    See Also
    --------
    conformask.ConformalRiskCalibrator.fit : Takes weights (``sample_weight``); its ``n_eff_`` is this number.
    required_images : Computes how many images of equal weight a level needs.

    References
    ----------
    Kish, "Survey Sampling", Wiley 1965, section 11.7. Tibshirani, Barber, Candès, Ramdas, "Conformal Prediction Under
    Covariate Shift", NeurIPS 2019, arXiv:1904.06019.

    Examples
    --------
    >>> from conformask.metrics import effective_sample_size
    >>> effective_sample_size([1, 1, 2])
    2.6666666666666665
    """
    check_ordered(weights, "weights")
    array = np.asarray(to_array(weights, "weights"))
    if array.dtype.kind not in "iuf":
        raise TypeError(f"weights must be numbers, got {shown(weights)}")
    if array.ndim != 1:
        raise ValueError(f"weights must have one axis, got shape {array.shape}")
    if not array.size:
        raise ValueError("weights are empty: there is no image")
    bad = ~((array >= 0) & np.isfinite(array))
    if bad.any():
        index = int(bad.argmax())
        raise ValueError(f"weights must be finite and at least 0, got {array[index]} for image {index}")
    return effective_size(array.astype(np.float64).tolist())
