"""Learn then Test: which lambdas of a fixed grid are shown to keep the risk at or below alpha."""
# ruff: noqa: D102  # methods are documented where Method declares them

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from conformask._exact import as_fraction, check_alpha
from conformask._sequences import listed
from conformask._text import plural, shown
from conformask.control.base import WithConfidence
from conformask.control.hb import hb_budget, hb_limit, images_of_no_loss
from conformask.exceptions import InfeasibleRiskError
from conformask.scores import lambda_max

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._units import Units
    from conformask.losses import Loss
    from conformask.profiles import Profiles

__all__ = ["LTT"]


@dataclass(frozen=True, repr=False)
class LTT(WithConfidence):
    r"""Learn then Test: with confidence ``1 - delta``, all lambdas of a grid that pass have a risk of at most alpha.

    It is for losses in [0, 1] that may rise with lambda as well as fall (precision, the Jaccard index), which
    :class:`~conformask.CRC` and :class:`~conformask.RCPS` refuse. At each lambda of the grid the hypothesis that the
    risk is above alpha is tested by the Hoeffding-Bentkus p-value of the mean loss :math:`\hat R` of n images,

    .. math:: p = \min \big( e^{-n h(\min(\hat R, \alpha), \alpha)},
        e \, P(\mathrm{Bin}(n, \alpha) \le \lceil n \hat R \rceil) \big), \\
        h(a, b) = a \ln \frac ab + (1 - a) \ln \frac{1 - a}{1 - b}.

    With probability at least :math:`1 - \delta` over the calibration images, no lambda passes whose expected loss on a
    new image, *given* these images, is above alpha. Lambda-hat is the last one that passes, in the order of the grid.
    Any other of ``valid_lambdas_`` may be taken instead, by any rule: the guarantee is about all of them at once
    (:func:`conformask.kernels.threshold` makes sets at any lambda).

    The images (groups) must be independent draws from one distribution (exchangeable is not enough). The model must not
    have used them: not for training, model selection, early stopping or temperature scaling. Levels, loss, score, n,
    the grid and its order must be fixed before looking at the labels of these images.

    Parameters
    ----------
    delta : float in (0, 1)
        The probability that the guarantee fails: the confidence is ``1 - delta``.
    grid : sequence of floats in [0, lambda_max], ascending or descending, none twice
        The lambdas that are tested, the one that is expected to be safest first: the largest for a loss that falls with
        lambda (miscoverage), the smallest for one that rises (precision).
    correction : {"fixed_sequence", "bonferroni"}, default="fixed_sequence"
        The correction for multiple tests. "fixed_sequence" tests at level delta in the order of the grid, and stops at
        the first lambda that does not pass: a fine grid costs nothing, but if the first lambda does not pass, none
        does. "bonferroni" tests each of m lambdas at level ``delta / m``.

    See Also
    --------
    RCPS : For losses that do not rise with lambda; it needs no grid.
    PrecisionLoss, JaccardLoss, CountsLoss : Losses that need not fall.

    Notes
    -----
    At least ``log(delta) / log(1 - alpha)`` images are needed, or with Bonferroni ``log(delta / m) / log(1 - alpha)``.
    Summed losses are compared exactly with the largest sum that passes. Sample weights are refused. ``risk_bound_`` is
    the smallest alpha at which lambda-hat passes its own test; with Bonferroni it is a confidence limit of the risk at
    lambda-hat too, as it holds for all lambdas of the grid at once.

    References
    ----------
    Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test: Calibrating Predictive Algorithms to Achieve Risk
    Control", 2021, arXiv:2110.01052. Bentkus, "On Hoeffding's Inequalities", Annals of Probability 32(2), 2004,
    doi:10.1214/009117904000000360.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(100, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (X.cumsum(axis=1) < rng.random((100, 1, 8, 8))).sum(axis=1)
    >>> method = cm.LTT(delta=0.1, grid=np.linspace(1, 0, 101))
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.2, method=method).fit(X, y)
    >>> calibrator.lambda_hat_ == calibrator.valid_lambdas_[-1] and calibrator.risk_bound_ <= 0.2
    True
    """

    grid: Sequence[float]
    correction: str = "fixed_sequence"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "grid", _checked_grid(self.grid))
        if not isinstance(self.correction, str) or self.correction not in ("fixed_sequence", "bonferroni"):
            raise ValueError(f"correction must be 'fixed_sequence' or 'bonferroni', got {self.correction!r}")

    def __repr__(self) -> str:
        shown_grid = f"{self.grid}" if len(self.grid) <= 6 else f"<{len(self.grid)} from {self._ends}>"
        return f"LTT(delta={self.delta!r}, grid={shown_grid}, correction={self.correction!r})"

    def __str__(self) -> str:
        by = "a fixed sequence" if self.correction == "fixed_sequence" else "Bonferroni"
        return (
            f"Learn then Test ({by}, {plural(len(self.grid), 'lambda')}) with confidence {self.confidence:g}"
        )

    @property
    def _ends(self) -> str:
        return f"{self.grid[0]:g} to {self.grid[-1]:g}"

    @property
    def by_budget(self) -> bool:
        return False

    @property
    def level(self) -> Fraction:
        """The level of each test."""
        return self._delta() / (len(self.grid) if self.correction == "bonferroni" else 1)

    def check_loss(self, loss: Loss) -> None:
        return  # any loss in [0, 1] is allowed

    def n_needed(self, alpha: Fraction) -> int:
        return images_of_no_loss(check_alpha(alpha), self.level)

    def budget(self, units: Units, alpha: Fraction) -> Fraction:
        self.check_units(units)
        return hb_budget(units.n, alpha, self.level)

    def risk_bound(self, risk: float, units: Units) -> float:
        return hb_limit(risk, units.n, float(self.level))

    def valid_lambdas(
        self, profiles: Profiles, loss: Loss, alpha: Fraction, units: Units
    ) -> NDArray[np.float64]:
        """The lambdas that pass, in the order of the grid.

        Parameters
        ----------
        profiles, loss, alpha, units
            As for :meth:`lambda_hat`.

        Returns
        -------
        float64 array (m,)
        """
        largest = lambda_max(profiles.conformity_score, profiles.n_classes)
        beyond = [lam for lam in self.grid if lam > largest]
        if beyond:
            raise ValueError(
                f"grid must lie in [0, {largest:g}], where {profiles.conformity_score} has its critical values, got "
                f"{beyond[0]:g}"
            )
        lambdas, budget = np.array(self.grid), self.budget(units, alpha)
        passed = profiles._passed(loss, lambdas, budget, units)
        if self.correction == "fixed_sequence" and not passed.all():
            passed[int(passed.argmin()) :] = False
        return np.asarray(lambdas[passed])

    def lambda_hat(self, profiles: Profiles, loss: Loss, alpha: Fraction, units: Units) -> float | None:
        valid = self.valid_lambdas(profiles, loss, alpha, units)
        return float(valid[-1]) if len(valid) else None

    def kept(self, profiles: Profiles, loss: Loss, lam: float, units: Units, risk: float) -> float:
        if self.correction == "bonferroni" or lam not in self.grid:
            return super().kept(profiles, loss, lam, units, risk)
        # A lambda is tested only if all before it have passed, and the confidence limit rises with the risk.
        before = (profiles._risk(loss, each, units) for each in self.grid[: self.grid.index(lam)])
        return super().kept(profiles, loss, lam, units, max([risk, *before]))

    def is_feasible(self, profiles: Profiles, loss: Loss, alpha: Fraction, units: Units) -> bool:
        return self.lambda_hat(profiles, loss, alpha, units) is not None

    def infeasible(self, units: Units, alpha: Fraction) -> InfeasibleRiskError:
        if units.n < (n_needed := self.n_needed(alpha)):
            few = super().infeasible(units, alpha)
            return few._but(reason=f"{few.finding}. Add images, or {few.way_out}")
        tested = (
            f"the first that is tested, {self.grid[0]:g}, does not pass. A grid begins with the lambda that is "
            "expected to be safest"
            if self.correction == "fixed_sequence"
            else f"none of the {len(self.grid)}, from {self._ends}, passes its test at level {float(self.level):.3g}"
        )
        reason = (
            f"no lambda of the grid is shown to keep the risk at or below alpha={float(alpha):g} with confidence "
            f"{self.confidence:g}: {tested}. Add images, or take a larger alpha; choose another grid for new "
            "calibration images only"
        )
        return InfeasibleRiskError(
            units.n, float(alpha), n_needed, units.name, units.n_skipped, reason, without=units.without
        )


def _checked_grid(grid: object) -> tuple[float, ...]:
    """A grid as floats; refuses values that give no order of testing."""
    values = grid.tolist() if isinstance(grid, np.ndarray) else listed(grid, "grid")
    if not isinstance(values, list) or any(isinstance(value, list) for value in values):
        raise ValueError(f"grid must be a sequence of lambdas, got an array of shape {np.shape(values)}")
    lambdas = [float(as_fraction(value, "each lambda of grid")) for value in values]
    if not lambdas:
        raise ValueError("grid must hold at least one lambda")
    if min(lambdas) < 0:
        raise ValueError(f"grid must hold lambdas of at least 0, got {shown(min(lambdas))}")
    if len(set(lambdas)) < len(lambdas):
        twice = next(lam for lam in lambdas if lambdas.count(lam) > 1)
        raise ValueError(f"grid must hold each lambda once, got {shown(twice)} several times")
    if lambdas not in (sorted(lambdas), sorted(lambdas, reverse=True)):
        raise ValueError(
            "grid must be in order, ascending or descending, with the lambda first that is expected to be safest, got "
            f"{shown(lambdas)}"
        )
    return tuple(lambda_ + 0.0 for lambda_ in lambdas)  # + 0.0 turns -0 into 0
