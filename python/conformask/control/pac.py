"""Probably approximately correct (PAC) control of losses that are 0 or 1."""
# ruff: noqa: D102  # methods are documented where Method declares them

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from conformask.control.base import WithConfidence
from conformask.control.hb import binomial_limit, last_binomial

if TYPE_CHECKING:
    from conformask._units import Units
    from conformask.losses import Loss

__all__ = ["PAC"]


@dataclass(frozen=True)
class PAC(WithConfidence):
    r"""PAC control of losses that are 0 or 1: with confidence ``1 - delta``, a share alpha of new images at most has 1.

    With probability at least :math:`1 - \delta` over the calibration images, a new image has loss 1 with probability
    at most alpha, *given* these images. Of n images at most m may have loss 1,

    .. math:: m = \max \{ m : P(\mathrm{Bin}(n, \alpha) \le m) \le \delta \},

    Lambda-hat is thus the k-th smallest critical value of an image, k = n - m, whose coverage has the distribution
    :math:`\mathrm{Beta}(k, n + 1 - k)`. The index is exact: alpha and delta are taken as the decimals that print.

    The images must be independent draws from one distribution (exchangeable is not enough). The model must not have
    used them: not for training, model selection, early stopping or temperature scaling. Levels, loss, score and n must
    be fixed beforehand.

    Parameters
    ----------
    delta : float in (0, 1)
        The probability that the guarantee fails: the confidence is ``1 - delta``. At least
        ``log(delta) / log(1 - alpha)`` images are needed.

    See Also
    --------
    RCPS : For losses in [0, 1].
    CRC : For the expected loss on average over calibration images; it needs fewer of them.

    Notes
    -----
    It takes :class:`~conformask.BinaryLoss` and :class:`~conformask.LabelAccuracyLoss`. Weights are refused, and so are
    groups of several images, whose mean loss may be neither 0 nor 1.

    References
    ----------
    Vovk, "Conditional Validity of Inductive Conformal Predictors", ACML 2012, arXiv:1209.2673, proposition 2b. Clopper,
    Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial", Biometrika 26(4), 1934,
    doi:10.1093/biomet/26.4.404.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(100, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (X.cumsum(axis=1) < rng.random((100, 1, 8, 8))).sum(axis=1)  # labels drawn from the probabilities
    >>> marginal = cm.ConformalRiskCalibrator(loss=cm.BinaryLoss(0.9), alpha=0.1).fit(X, y)
    >>> confident = marginal.recalibrate(method=cm.PAC(delta=0.1))
    >>> round(100 * marginal.risk_), round(100 * confident.risk_)  # images of loss 1
    (9, 5)
    >>> cm.PAC(delta=0.1).n_needed(0.1)
    22
    """

    def __str__(self) -> str:
        return f"PAC with confidence {self.confidence:g}"

    def check_loss(self, loss: Loss) -> None:
        super().check_loss(loss)
        if not loss._is_indicator:
            raise ValueError(
                f"{self!r} needs a loss that is 0 or 1, BinaryLoss or LabelAccuracyLoss, got {loss}; use RCPS"
            )

    def budget(self, units: Units, alpha: Fraction) -> Fraction:
        self.check_units(units)
        return Fraction(last_binomial(units.n, alpha, self._delta()))

    def check_units(self, units: Units) -> None:
        super().check_units(units)
        if not units.whole:
            raise ValueError(
                f"{self!r} needs losses of 0 or 1, but a group of several images has their mean: give one image of "
                "each group, or use RCPS"
            )

    def risk_bound(self, risk: float, units: Units) -> float:
        return binomial_limit(round(risk * units.n), units.n, float(self._delta()))
