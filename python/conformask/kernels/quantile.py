"""The kernel behind every lambda-hat."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from conformask import _core
from conformask._exact import as_fraction
from conformask._text import shown

__all__ = ["lambda_hat"]


def lambda_hat(
    values: ArrayLike, weights: ArrayLike | None, budget: float, *, least: float = 0.0
) -> float | None:
    r"""The weighted quantile behind every lambda-hat, exact and without a sort.

    .. math:: \inf \Big\{ t \ge t_0 : \sum_i w_i \, 1[v_i > t] \le b \Big\}

    Conformal risk control takes critical values :math:`v`, the contribution of each to the summed loss as :math:`w`,
    and the budget :math:`b = \alpha (n + 1) - 1`.

    Parameters
    ----------
    values : array (m,), finite and >= least
        The values, taken as float64.
    weights : array (m,), finite and >= 0, or None
        The weights of the values, exactly the given float64 numbers; None: all are 1.
    budget : float or fractions.Fraction
        The budget, taken as the decimal that prints.
    least : float, default=0.0
        The smallest quantile :math:`t_0`: use -1 for a correction of thresholds, which may be negative.

    Returns
    -------
    float or None
        The quantile: `least` or one of `values`. None if the budget is negative.

    Raises
    ------
    ValueError
        If the arrays differ in length, or hold NaN, infinite or negative numbers (values: less than `least`).

    See Also
    --------
    conformask.ScoreProfiles.lambda_hat : Computes lambda-hat of images, for any loss.
    conformask.CRC : Defines the budget.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> import conformask as cm
    >>> critical_values = [0.1, 0.2, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0, 2.0]
    >>> cm.kernels.lambda_hat(critical_values, None, 0.2 * (9 + 1) - 1)
    1.0
    >>> cm.kernels.lambda_hat([-0.5, -0.25, 0.75], None, 1, least=-1.0)
    -0.25
    """
    if not np.isfinite(least):
        raise ValueError(f"least must be finite, got {shown(least)}")
    flat = np.ascontiguousarray(values, np.float64)
    ones = np.ones(flat.shape) if weights is None else np.ascontiguousarray(weights, np.float64)
    if flat.ndim != 1 or ones.ndim != 1:
        raise ValueError(f"values and weights must have one axis, got shapes {flat.shape} and {ones.shape}")
    return _core.weighted_quantile(flat, ones, as_fraction(budget, "budget"), float(least))
