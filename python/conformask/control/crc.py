"""Conformal risk control: in expectation."""
# ruff: noqa: D102  # methods are documented where Method declares them

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from conformask._exact import check_alpha
from conformask.control.base import Method

if TYPE_CHECKING:
    from conformask._units import Units

__all__ = ["CRC"]


@dataclass(frozen=True)
class CRC(Method):
    r"""Conformal risk control: the expected loss of a new image is at most alpha.

    .. math:: \hat\lambda = \inf \Big\{ \lambda : \frac{\sum_i L_i(\lambda) + B}{n + 1} \le \alpha \Big\}, \quad B = 1

    The expectation is over the calibration images too: the risk may be above alpha after one calibration and below it
    after another. There is no ``risk_bound_``, and ``confidence_`` is None. The method needs exchangeable images
    (groups). Alpha, loss and score must be fixed before looking at the labels, and the loss must not rise with lambda.
    With n images, groups or summed weights the losses may sum to ``alpha * (n + 1) - 1``: n must be at least
    ``ceil(1 / alpha) - 1``.

    See Also
    --------
    PAC, RCPS : With confidence ``1 - delta`` the risk given the calibration images is at most alpha.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814,
    theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(50, 16, 16)).transpose(0, 3, 1, 2)
    >>> y = (X.cumsum(axis=1) < rng.random((50, 1, 16, 16))).sum(axis=1)  # labels drawn from the probabilities
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.1, method=cm.CRC()).fit(X, y)
    >>> (50 * calibrator.risk_ + 1) / 51 <= 0.1  # the losses, and 1 for the new image
    True
    """

    def __str__(self) -> str:
        return "conformal risk control"

    def budget(self, units: Units, alpha: Fraction) -> Fraction:
        new = _of_new_image(units)
        return alpha * (units.total + new) - new

    def risk_bound(self, risk: float, units: Units) -> float:
        total, new = float(units.total), float(_of_new_image(units))
        return (total * risk + new) / (total + new)

    def n_needed(self, alpha: Fraction) -> int:
        return math.ceil(1 / check_alpha(alpha)) - 1


def _of_new_image(units: Units) -> Fraction:
    """The weight of a new image."""
    if units.new is None:
        raise ValueError(
            "weights above 1 are relative to that of a new image, which must be known: give predict(sample_weight=), "
            "or lambda_hat(test_weight=) of profiles"
        )
    return units.new
