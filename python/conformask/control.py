"""How the risk is controlled: what the losses of the calibration images may sum to."""
# ruff: noqa: D102  # methods are documented where Method declares them

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from scipy import special

from conformask._exact import as_fraction, as_plain, check_alpha, number_from_json
from conformask._text import shown
from conformask.exceptions import InfeasibleRiskError

if TYPE_CHECKING:
    from conformask._units import Units
    from conformask.losses import Loss

__all__ = ["CRC", "PAC", "RCPS", "Method", "as_method", "method_from_document", "method_to_document"]


def __dir__() -> list[str]:
    return sorted(__all__)


class Method(ABC):
    """What the methods have in common: lambda-hat is the smallest lambda whose summed loss is within their budget."""

    @abstractmethod
    def budget(self, units: Units, alpha: Fraction) -> Fraction:
        """What the losses may sum to, exactly or a little less; negative if there are too few images.

        Parameters
        ----------
        units : Units
            Who counts: images, groups or weights.
        alpha : Fraction in (0, 1)
            The risk level.

        Returns
        -------
        Fraction

        Raises
        ------
        ValueError
            If the method cannot count so.
        """

    @abstractmethod
    def risk_bound(self, risk: float, units: Units) -> float:
        """What the method compares with alpha: the smallest alpha whose budget holds the summed loss.

        Parameters
        ----------
        risk : float in [0, 1]
            The mean loss.
        units : Units
            Who counts.

        Returns
        -------
        float in [0, 1]
        """

    @abstractmethod
    def n_needed(self, alpha: Fraction) -> int:
        """The smallest number of images (groups; summed weights) with which alpha can be met.

        Parameters
        ----------
        alpha : float or Fraction in (0, 1)
            The risk level.

        Returns
        -------
        int
        """

    def infeasible(self, units: Units, alpha: Fraction) -> InfeasibleRiskError:
        """What to say if no lambda controls the risk."""
        size = units.n if units.total == units.n else float(units.total)
        return InfeasibleRiskError(
            size, float(alpha), self.n_needed(alpha), units.name, units.n_skipped, without=units.without
        )

    def check_loss(self, loss: Loss) -> None:  # noqa: B027  # most promise something for every loss
        """Refuses a loss for which the method promises nothing.

        Parameters
        ----------
        loss : MiscoverageLoss or another loss
            The loss.
        """


@dataclass(frozen=True)
class CRC(Method):
    r"""Conformal risk control: the expected loss of a new image is at most alpha.

    .. math:: \hat\lambda = \inf \Big\{ \lambda : \frac{\sum_i L_i(\lambda) + B}{n + 1} \le \alpha \Big\}, \quad B = 1

    The expectation is over the calibration images too: one calibration may have more risk than alpha, another less. It
    needs exchangeable images (groups), and alpha, loss and score that were fixed before looking at the labels. With n
    images, groups or summed weights the losses may sum to ``alpha * (n + 1) - 1``: n must be at least
    ``ceil(1 / alpha) - 1``.

    See Also
    --------
    PAC, RCPS : With a confidence: alpha holds given the calibration images.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814,
    theorem 1.
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
    """How much a new image counts."""
    if units.new is None:
        raise ValueError(
            "weights above 1 are relative to that of a new image, which must be known: give predict(sample_weight=), "
            "or lambda_hat(test_weight=) of profiles"
        )
    return units.new


@dataclass(frozen=True)
class _WithConfidence(Method):
    """A bound that holds with probability ``1 - delta`` over calibration images, which are drawn independently."""

    delta: float

    def __post_init__(self) -> None:
        delta = as_fraction(self.delta, "delta")
        if not 0 < delta < 1:
            raise ValueError(f"delta must be in (0, 1), got {shown(self.delta)}")
        object.__setattr__(self, "delta", as_plain(self.delta, "delta"))

    def n_needed(self, alpha: Fraction) -> int:
        # n losses of 0 must be evidence enough: (1 - alpha)^n <= delta.
        covered, delta = 1 - check_alpha(alpha), self._delta()
        with localcontext(_PRECISE):
            quotient = _decimal(delta).ln() / _decimal(covered).ln()
            nearest = int(quotient.to_integral_value())
            if abs(quotient - nearest) > _NEAR:
                return math.ceil(quotient)
        return nearest if covered**nearest <= delta else nearest + 1

    def _delta(self) -> Fraction:
        return as_fraction(self.delta, "delta")

    def _count(self, units: Units) -> int:
        """The number of units, all of which count once."""
        if units.total != units.n or units.new != 1:
            raise ValueError(f"{self!r} cannot take sample_weight: every image must count alike. Use CRC()")
        return units.n


@dataclass(frozen=True)
class PAC(_WithConfidence):
    r"""Losses that are 0 or 1: with confidence ``1 - delta``, at most the share alpha of new images has loss 1.

    With probability at least :math:`1 - \delta` over the calibration images, a new image has loss 1 with probability
    at most alpha, *given* these images. Of n images at most m may have loss 1,

    .. math:: m = \max \{ m : P(\mathrm{Bin}(n, \alpha) \le m) \le \delta \},

    which says that the k-th smallest critical value of an image is taken, k = n - m, whose coverage has the law
    :math:`\mathrm{Beta}(k, n + 1 - k)`. The index is exact: alpha and delta mean the decimals that they print as.

    It needs images that are independent draws from one law (exchangeable is not enough), of which the model saw none:
    not in training, nor in a choice, an early stop or a temperature. Levels, loss, score and n are fixed beforehand.

    Parameters
    ----------
    delta : float in (0, 1)
        How likely the calibration images may mislead: the confidence is ``1 - delta``. At least
        ``log(delta) / log(1 - alpha)`` images are needed.

    See Also
    --------
    RCPS : For losses in [0, 1].
    CRC : For the expected loss, also over calibration images; needs fewer of them.

    Notes
    -----
    For :class:`~conformask.BinaryLoss` and :class:`~conformask.LabelAccuracyLoss`. Groups of several images have mean
    losses that are neither 0 nor 1, and are refused, as are weights.

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
    >>> y = rng.integers(0, 4, (100, 8, 8))
    >>> marginal = cm.ConformalRiskCalibrator(loss=cm.BinaryLoss(0.9), alpha=0.1).fit(X, y)
    >>> confident = marginal.recalibrate(method=cm.PAC(delta=0.1))
    >>> round(100 * marginal.risk_), round(100 * confident.risk_)  # images of loss 1
    (9, 5)
    >>> cm.PAC(delta=0.1).n_needed(0.1)
    22
    """

    def __str__(self) -> str:
        return f"PAC with confidence {float(1 - self._delta()):g}"

    def check_loss(self, loss: Loss) -> None:
        if not loss._is_indicator:
            raise ValueError(
                f"{self!r} needs a loss that is 0 or 1, BinaryLoss or LabelAccuracyLoss, got {loss}; use RCPS"
            )

    def budget(self, units: Units, alpha: Fraction) -> Fraction:
        n = self._count(units)
        if not units.whole:
            raise ValueError(
                f"{self!r} needs losses of 0 or 1, but a group of several images has their mean: give one image of "
                "each group, or use RCPS"
            )
        return Fraction(_last_binomial(n, alpha, self._delta()))

    def risk_bound(self, risk: float, units: Units) -> float:
        return _clopper_pearson(round(risk * units.n), units.n, float(self._delta()))


@dataclass(frozen=True)
class RCPS(_WithConfidence):
    r"""Risk-controlling sets: with confidence ``1 - delta``, the mean loss of new images is at most alpha.

    With probability at least :math:`1 - \delta` over the calibration images, the expected loss of a new image, *given*
    these images, is at most alpha. The mean loss :math:`\hat R` of n images is small enough where the Hoeffding-Bentkus
    p-value of a risk above alpha is at most :math:`\delta`:

    .. math:: \min \big( e^{-n h(\min(\hat R, \alpha), \alpha)},
        e \, P(\mathrm{Bin}(n, \alpha) \le \lceil n \hat R \rceil) \big) \le \delta, \quad
        h(a, b) = a \ln \frac ab + (1 - a) \ln \frac{1 - a}{1 - b}.

    It needs images (groups) that are independent draws from one law (exchangeable is not enough), of which the model
    saw none: not in training, nor in a choice, an early stop or a temperature. Levels, loss, score and n are fixed
    beforehand.

    Parameters
    ----------
    delta : float in (0, 1)
        How likely the calibration images may mislead: the confidence is ``1 - delta``. At least
        ``log(delta) / log(1 - alpha)`` images are needed.
    bound : {"hb"}, default="hb"
        Hoeffding-Bentkus, the only one.

    See Also
    --------
    PAC : For losses that are 0 or 1, where it is exact and takes smaller sets.
    CRC : For the expected loss, also over calibration images; needs fewer of them.

    Notes
    -----
    The summed loss is compared exactly with the largest that passes: by Bentkus a whole number, by Hoeffding the root
    of the equation, rounded down to a multiple of :math:`2^{-40}`. Sample weights are refused.

    References
    ----------
    Bates, Angelopoulos, Lei, Malik, Jordan, "Distribution-Free, Risk-Controlling Prediction Sets", Journal of the ACM
    68(6), 2021, doi:10.1145/3478535. Bentkus, "On Hoeffding's Inequalities", Annals of Probability 32(2), 2004,
    doi:10.1214/009117904000000360.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(100, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = rng.integers(0, 4, (100, 8, 8))
    >>> marginal = cm.ConformalRiskCalibrator(alpha=0.1).fit(X, y)
    >>> confident = marginal.recalibrate(method=cm.RCPS(delta=0.1))
    >>> confident.risk_ < marginal.risk_ and confident.corrected_risk_ <= 0.1
    True
    """

    bound: str = "hb"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bound != "hb":
            raise ValueError(f"bound must be 'hb' (Hoeffding-Bentkus), got {self.bound!r}")

    def __str__(self) -> str:
        return f"RCPS (Hoeffding-Bentkus) with confidence {float(1 - self._delta()):g}"

    def budget(self, units: Units, alpha: Fraction) -> Fraction:
        n = self._count(units)
        if n < self.n_needed(alpha):
            return Fraction(-1)
        # One of the two p-values must be small enough.
        bentkus = _last_binomial(n, alpha, self._delta(), times_e=True)
        return max(Fraction(bentkus), _last_hoeffding(n, alpha, self._delta()))

    def risk_bound(self, risk: float, units: Units) -> float:
        delta = float(self._delta())
        # A sum of floats that is a whole number but for rounding is taken for it.
        bentkus = _clopper_pearson(math.ceil(risk * units.n * (1 - 1e-12)), units.n, delta / math.e)
        return min(bentkus, _hoeffding_limit(risk, units.n, delta))


# Decimals of 50 digits: what a million of them sum up to is right to more than 30.
_PRECISE = Context(prec=50, Emax=MAX_EMAX, Emin=MIN_EMIN)
_NEAR = Decimal("1e-30")
_GRID = 2**40


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)


def _last_binomial(n: int, p: Fraction, limit: Fraction, times_e: bool = False) -> int:
    """The largest m with ``P(Bin(n, p) <= m) <= limit``, or e times as much; -1 if there is none."""
    with localcontext(_PRECISE):
        odds, level, below = _decimal(p / (1 - p)), _decimal(limit), Decimal(0)
        term = (n * _decimal(1 - p).ln() + int(times_e)).exp()
        for m in range(n + 1):
            below += term
            if below > level * (1 + _NEAR):
                return m - 1
            # So close are only equals. No rational number is e times another: there this is never reached.
            if below > level * (1 - _NEAR) and not (not times_e and _binomial(n, p, m) <= limit):
                return m - 1
            term *= odds * (n - m) / (m + 1)
    return n


def _binomial(n: int, p: Fraction, m: int) -> Fraction:
    """``P(Bin(n, p) <= m)``, exactly."""
    hit, whole = p.numerator, p.denominator
    ways = sum(math.comb(n, i) * hit**i * (whole - hit) ** (n - i) for i in range(m + 1))
    return Fraction(ways, whole**n)


def _last_hoeffding(n: int, p: Fraction, limit: Fraction) -> Fraction:
    """The largest s with ``exp(-n h(s / n, p)) <= limit``, rounded down to the grid, where 0 is known to be one."""
    mean = n * p
    with localcontext(_PRECISE):
        needed = n * _NEAR - _decimal(limit).ln()

        def passes(s: Fraction) -> bool:
            hit, miss = _decimal(s), _decimal(n - s)
            return hit * (hit / _decimal(mean)).ln() + miss * (miss / _decimal(n - mean)).ln() >= needed

        low, high = 0, math.floor(mean * _GRID) + 1  # above the mean there is no evidence
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if passes(Fraction(middle, _GRID)) else (low, middle)
    return Fraction(low, _GRID)


def _clopper_pearson(m: int, n: int, delta: float) -> float:
    """The p at which ``P(Bin(n, p) <= m) = delta``."""
    return 1.0 if m >= n else float(special.betainccinv(m + 1, n - m, delta))


def _hoeffding_limit(risk: float, n: int, delta: float) -> float:
    """The p above `risk` at which ``exp(-n h(risk, p)) = delta``."""
    low, high = risk, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        evidence = n * (special.rel_entr(risk, middle) + special.rel_entr(1 - risk, 1 - middle))
        low, high = (low, middle) if evidence >= -math.log(delta) else (middle, high)
    return high


_BY_NAME: dict[str, type[Method]] = {"crc": CRC, "pac": PAC, "rcps": RCPS}


def as_method(method: object) -> Method:
    """The method of a name, or the method itself."""
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method.lower() == "crc":
        return CRC()
    raise ValueError(f"method must be 'crc', CRC(), PAC(delta) or RCPS(delta), got {method!r}")


def method_to_document(method: Method) -> dict[str, Any]:
    """A method for a JSON file."""
    for name, kind in _BY_NAME.items():
        if type(method) is kind:
            return {"name": name, **asdict(method)}  # type: ignore[call-overload]  # methods are dataclasses
    raise TypeError(f"only built-in methods can be saved, got {method!r}")


def method_from_document(document: dict[str, Any]) -> Method:
    """The inverse of :func:`method_to_document`."""
    if not isinstance(document, dict) or document.get("name") not in _BY_NAME:
        raise ValueError(f"method is {document!r}")
    fields = {name: number_from_json(value) for name, value in document.items() if name != "name"}
    return _BY_NAME[document["name"]](**fields)
