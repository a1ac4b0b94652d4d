"""Risk-controlling sets: losses in [0, 1], with confidence."""
# ruff: noqa: D102  # methods are documented where Method declares them

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from conformask._exact import check_alpha
from conformask.control.base import WithConfidence
from conformask.control.hb import hb_budget, hb_limit
from conformask.control.wsr import rejected, wsr_images_needed, wsr_lambdas, wsr_limit, wsr_limit_of_all
from conformask.scores import lambda_max

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._units import Units
    from conformask.losses import Loss
    from conformask.profiles import Profiles

__all__ = ["RCPS"]


@dataclass(frozen=True)
class RCPS(WithConfidence):
    r"""Risk-controlling prediction sets: with confidence ``1 - delta``, the expected loss is at most alpha.

    With probability at least :math:`1 - \delta` over the calibration images, the expected loss of a new image, *given*
    these images, is at most alpha. With ``bound="hb"`` the mean loss :math:`\hat R` of n images is small enough if the
    Hoeffding-Bentkus p-value of a risk above alpha is at most :math:`\delta`:

    .. math:: \min \big( e^{-n h(\min(\hat R, \alpha), \alpha)},
        e \, P(\mathrm{Bin}(n, \alpha) \le \lceil n \hat R \rceil) \big) \le \delta, \\
        h(a, b) = a \ln \frac ab + (1 - a) \ln \frac{1 - a}{1 - b}.

    With ``bound="wsr"`` it is small enough if a bet against a risk of alpha or more has turned a capital of 1 into
    :math:`1 / \delta` after some image i. With :math:`\hat\mu_i = (1/2 + \sum_{j \le i} L_j) / (1 + i)` and
    :math:`\hat\sigma_i^2 = (1/4 + \sum_{j \le i} (L_j - \hat\mu_j)^2) / (1 + i)`,

    .. math:: \max_i \prod_{j \le i} \big( 1 - \nu_j (L_j - \alpha) \big) \ge \frac 1 \delta, \\
        \nu_j = \min \Big( 1, \sqrt{\frac{2 \ln(1 / \delta)}{n \hat\sigma_{j-1}^2}} \Big).

    This bound gives smaller sets if losses vary little from image to image. It depends on the order in which the images
    were given (:meth:`~conformask.ConformalRiskCalibrator.merge` puts those of the other calibrator last; a group
    counts at its first image). Another order gives another lambda-hat, which is just as valid. The order must be fixed
    before looking at the labels.

    The images (groups) must be independent draws from one distribution (exchangeable is not enough). The model must not
    have used them: not for training, model selection, early stopping or temperature scaling. Levels, loss, bound, score
    and n must be fixed beforehand.

    Parameters
    ----------
    delta : float in (0, 1)
        The probability that the guarantee fails: the confidence is ``1 - delta``. At least
        ``log(delta) / log(1 - alpha)`` images are needed, with "wsr" some more (``n_needed(alpha)`` gives the number).
    bound : {"hb", "wsr"}, default="hb"
        The Hoeffding-Bentkus bound, or the betting bound of Waudby-Smith and Ramdas.

    See Also
    --------
    PAC : For losses that are 0 or 1; it is exact and gives smaller sets.
    CRC : For the expected loss on average over calibration images; it needs fewer of them.

    Notes
    -----
    With "hb" the summed loss is compared exactly with the largest sum that passes. For Bentkus this is a whole number,
    for Hoeffding the root of the equation, rounded down to a multiple of :math:`2^{-40}`. With "wsr" the lambdas that
    are tried are fixed: 512 for each halving of the distance to the largest, which is tried first. Lambda-hat is the
    last one before the first that does not pass. "wsr" needs exact profiles. Sample weights are refused.

    The guarantee is that the risk is at most alpha. ``risk_bound_`` is the smallest alpha at which lambda-hat passes:
    the upper confidence limit for a lambda that was fixed beforehand.

    References
    ----------
    Bates, Angelopoulos, Lei, Malik, Jordan, "Distribution-Free, Risk-Controlling Prediction Sets", Journal of the ACM
    68(6), 2021, doi:10.1145/3478535. Bentkus, "On Hoeffding's Inequalities", Annals of Probability 32(2), 2004,
    doi:10.1214/009117904000000360. Waudby-Smith, Ramdas, "Estimating Means of Bounded Random Variables by Betting",
    Journal of the Royal Statistical Society B 86(1), 2024, arXiv:2010.09686.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(100, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (X.cumsum(axis=1) < rng.random((100, 1, 8, 8))).sum(axis=1)  # labels drawn from the probabilities
    >>> marginal = cm.ConformalRiskCalibrator(alpha=0.1).fit(X, y)
    >>> confident = marginal.recalibrate(method=cm.RCPS(delta=0.1))
    >>> confident.risk_ < marginal.risk_ and confident.risk_bound_ <= 0.1
    True
    >>> betting = marginal.recalibrate(method=cm.RCPS(delta=0.1, bound="wsr"))
    >>> betting.lambda_hat_ < confident.lambda_hat_
    True
    """

    bound: str = "hb"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.bound, str) or self.bound not in _BOUNDS:
            raise ValueError(
                f"bound must be 'hb' (Hoeffding-Bentkus) or 'wsr' (Waudby-Smith and Ramdas), got {self.bound!r}"
            )

    def __str__(self) -> str:
        return f"RCPS ({_BOUNDS[self.bound]}) with confidence {self.confidence:g}"

    @property
    def by_budget(self) -> bool:
        return self.bound == "hb"

    @property
    def needs_single_images(self) -> bool:
        return self.bound == "wsr"

    def n_needed(self, alpha: Fraction) -> int:
        level = check_alpha(alpha)
        return super().n_needed(level) if self.by_budget else wsr_images_needed(level, self._delta())

    def budget(self, units: Units, alpha: Fraction) -> Fraction:
        if not self.by_budget:
            raise ValueError(
                f"{self!r} goes by the losses of single images, in their order: not by their sum"
            )
        self.check_units(units)
        return hb_budget(units.n, alpha, self._delta())

    def risk_bound(self, risk: float, units: Units) -> float:
        if not self.by_budget:
            raise ValueError(
                f"{self!r} goes by the losses of single images, in their order: not by their mean"
            )
        return hb_limit(risk, units.n, float(self._delta()))

    def lambda_hat(self, profiles: Profiles, loss: Loss, alpha: Fraction, units: Units) -> float | None:
        if self.by_budget:
            return super().lambda_hat(profiles, loss, alpha, units)
        self.check_units(units)
        if units.n < self.n_needed(alpha):
            return None
        # The capital is no monotone function of lambda: it may be enough at a lambda, and not enough at a larger one.
        # A bisection, or a walk over some of the jumps of these images, might step over lambdas that are not rejected,
        # and stop at one that is rejected by chance; nothing would bound the probability of that. Here the lambdas are
        # fixed, and are tried from the largest down to the first that is not rejected. Among those whose risk is above
        # alpha, the largest is tried first, whatever the images are. So lambda-hat can be among them only if this one
        # test errs, which has probability delta at most.
        lambdas = wsr_lambdas(lambda_max(profiles.conformity_score, profiles.n_classes))
        blocks = self._losses(profiles, loss, lambdas, units)
        passed = 0
        for is_rejected in rejected(blocks, float(alpha), float(self._delta())):
            if not is_rejected.all():
                passed += int(is_rejected.argmin())
                break
            passed += len(is_rejected)
        return float(lambdas[passed - 1]) if passed else None

    def limit(self, profiles: Profiles, loss: Loss, lam: float, units: Units, risk: float) -> float:
        if self.by_budget:
            return super().limit(profiles, loss, lam, units, risk)
        [losses] = next(self._losses(profiles, loss, np.array([lam]), units))
        return wsr_limit(losses, float(self._delta()))

    def kept(self, profiles: Profiles, loss: Loss, lam: float, units: Units, risk: float) -> float:
        if self.by_budget:
            return super().kept(profiles, loss, lam, units, risk)
        lambdas = wsr_lambdas(lambda_max(profiles.conformity_score, profiles.n_classes))
        n_tested = int((lambdas > lam).sum()) + 1  # lambda-hat is one of the lambdas that are tried
        return wsr_limit_of_all(self._losses(profiles, loss, lambdas[:n_tested], units), float(self._delta()))

    def is_feasible(self, profiles: Profiles, loss: Loss, alpha: Fraction, units: Units) -> bool:
        if self.by_budget:
            return super().is_feasible(profiles, loss, alpha, units)
        return units.n >= self.n_needed(alpha)  # full sets have no loss

    def _losses(
        self, profiles: Profiles, loss: Loss, lambdas: NDArray[np.float64], units: Units
    ) -> Iterator[NDArray[np.float64]]:
        """The losses (m, n) of units at lambdas that do not ascend, in blocks of lambdas."""
        at_once = max(_BLOCK, _MOST_NUMBERS // max(1, len(profiles)))
        for first in range(0, len(lambdas), at_once):
            some = np.ascontiguousarray(lambdas[first : first + at_once][::-1])
            losses = profiles._unit_losses(loss, some, units)[:, ::-1].T
            for start in range(0, len(losses), _BLOCK):
                yield np.ascontiguousarray(losses[start : start + _BLOCK])


_BOUNDS = {"hb": "Hoeffding-Bentkus", "wsr": "betting by Waudby-Smith and Ramdas"}

_MOST_NUMBERS = 1 << 22  # losses that are computed at once
_BLOCK = 128  # lambdas that are tried together
