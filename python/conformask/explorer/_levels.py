"""The levels of a calibrator: the lambda for an alpha, the risk at a lambda, and the alpha that a lambda keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._exact import check_alpha
from conformask.adaptive._calibrator import BinaryCalibrator
from conformask.consign import ConsignCalibrator
from conformask.control import Method
from conformask.losses import Loss, WorstClassLoss
from conformask.margins import MarginCalibrator
from conformask.online import OnlineRiskController
from conformask.profiles import Profiles, ScoreProfiles
from conformask.risk_control import ConformalRiskCalibrator
from conformask.risk_control._solution import Configuration, Solution, profiles_of
from conformask.risk_control._solve import solve
from conformask.scores import lambda_max

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._units import Units

__all__ = ["Curve", "Levels"]

_MOST_ALPHA = (
    0.5  # of the slider, unless the calibrator has a larger one: nobody wants every second pixel missed
)

# Calibrators of other families, and the plots that show their results.
_INSTEAD: list[tuple[type, str]] = [
    (
        ConsignCalibrator,
        "its sets hold whole segmentations, not classes of a pixel: draw them by plotting.plot_samples and "
        "plotting.plot_components",
    ),
    (
        BinaryCalibrator,
        "its masks are binary: draw one by plotting.plot_binary(calibrator.predict(P)[i], y[i]), all by "
        "plotting.plot_coverage_histogram(calibrator.evaluate(P, y))",
    ),
    (MarginCalibrator, "it widens masks by a margin: draw that by plotting.plot_margins"),
    (OnlineRiskController, "its lambda changes from image to image: draw that by plotting.plot_online"),
    (Profiles, "profiles have no level: pass the calibrator that they come from"),
]


@dataclass(frozen=True)
class Curve:
    """The risk of calibration images for each lambda, as :func:`~conformask.plotting.plot_risk_curve` takes it."""

    alpha: float
    method: Method
    lambda_hat_: float
    risk_: float
    profiles: Profiles
    loss: Loss
    units: Units
    on_empty: Any

    @property
    def n_images_(self) -> int:
        return self.units.n

    def risk_limit(self, alpha: float | None = None) -> float:
        level = check_alpha(self.alpha if alpha is None else alpha)
        return (
            float(self.method.budget(self.units, level) / self.units.total) if self.units.total else -math.inf
        )

    def risk_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.profiles.risk_curve(self.loss, at=self.lambda_hat_, on_empty=self.on_empty)

    def _units(self) -> Units:
        return self.units


@dataclass(frozen=True)
class _Controlled:
    """The data behind one lambda: profiles, the loss that is controlled and how, and the meaning of alpha there."""

    profiles: Profiles
    loss: Loss
    method: Method
    units: Units
    on_empty: Any
    shares: int  # the number of classes among which alpha is divided


class Levels:
    """A fitted calibrator in its present state. Later changes of it have no effect here, and it is not changed.

    With ``conditional="class"`` there are K lambdas, and methods about a lambda take the class that it belongs to.
    """

    def __init__(self, calibrator: object) -> None:
        for kind, words in _INSTEAD:
            if isinstance(calibrator, kind):
                raise TypeError(f"explore does not show a {type(calibrator).__name__}: {words}")
        if not isinstance(calibrator, ConformalRiskCalibrator):
            raise TypeError(
                f"calibrator must be a fitted ConformalRiskCalibrator, got {type(calibrator).__name__}"
            )
        configuration, state = calibrator._settled()
        assert state.solution is not None
        _check(configuration, state.solution)
        self.configuration: Configuration = configuration
        self.solution: Solution = state.solution
        self.profiles = profiles_of(state)
        self.n_classes = state.solution.n_classes
        self.largest = lambda_max(configuration.conformity_score, self.n_classes)
        self.by_class = state.solution.by == "class" and configuration.simultaneous != "max"
        self._known: dict[int | None, _Controlled] = {}
        self.alpha = float(configuration.alpha)
        self.ends = self._ends()

    @property
    def lambdas(self) -> NDArray[np.float64]:
        """The calibrated lambdas: one, or one for each class."""
        return self._lambdas_of(self.solution)

    def _lambdas_of(self, solution: Solution) -> NDArray[np.float64]:
        return solution.lambdas.copy() if self.by_class else np.array([solution.lambda_hat])

    def lambdas_at(self, alpha: float) -> NDArray[np.float64]:
        """The lambdas that calibration finds at a level, like ``recalibrate(alpha=alpha)``.

        Raises
        ------
        InfeasibleRiskError
            If there are too few images.
        """
        asked = replace(self.configuration, alpha=check_alpha(alpha), on_infeasible="raise")
        return self._lambdas_of(solve(self.profiles, asked))

    def snapped(self, lam: float) -> float:
        """The lambda nearest to `lam` at which the risk is known: losses that may rise are only known on a grid."""
        grid = self.configuration.grid
        lam = min(max(lam, 0.0), self.largest)
        return lam if grid is None else float(grid[np.abs(grid - lam).argmin()])

    def risk(self, lam: float, label: int | None = None) -> float:
        """The mean loss of the calibration images; NaN if none counts."""
        of = self._of(label)
        return of.profiles._risk(of.loss, lam, of.units)

    def kept(self, lam: float, label: int | None = None) -> float:
        """The smallest alpha that a lambda keeps."""
        of, risk = self._of(label), self.risk(lam, label)
        return min(1.0, of.shares * of.method.kept(of.profiles, of.loss, lam, of.units, risk))

    def curve(self, label: int | None = None) -> Curve:
        """The risk for each lambda, and where calibration cut it."""
        of = self._of(label)
        lam = float(self.lambdas[label or 0])
        alpha = float(self.configuration.alpha / of.shares)
        return Curve(
            alpha, of.method, lam, self.risk(lam, label), of.profiles, of.loss, of.units, of.on_empty
        )

    def n_images(self, label: int | None = None) -> int:
        """How many images (groups) count."""
        return self._of(label).units.n

    def _of(self, label: int | None) -> _Controlled:
        """The data behind the lambda of a class; for None, behind the one lambda that all share."""
        if label not in self._known:
            self._known[label] = self._controlled(label)
        return self._known[label]

    def _controlled(self, label: int | None) -> _Controlled:
        asked, loss, profiles, on_empty = (
            self.configuration,
            self.configuration.loss,
            self.profiles,
            self.configuration.on_empty,
        )
        if label is None:
            loss = WorstClassLoss(loss) if asked.simultaneous == "max" else loss
            return _Controlled(profiles, loss, asked.method, profiles._units(loss, on_empty), on_empty, 1)
        assert isinstance(profiles, ScoreProfiles)
        own = next(profiles._of_classes([[label]]))
        method, shares = asked.method, 1
        if asked.simultaneous == "bonferroni":
            method = method.divided(self.n_classes)
            shares = round(asked.alpha / asked.alpha_of_parts(self.n_classes))
        return _Controlled(own, loss, method, own._units(loss, "skip"), "skip", shares)

    # The ends of the slider of alpha

    def _ends(self) -> tuple[float, float, float]:
        """The least alpha that some lambda keeps, the largest that makes a difference, and the step of the slider."""
        labels: Sequence[int | None] = range(self.n_classes) if self.by_class else [None]
        step = 0.001 if self._reaches(Fraction(1, 1000), labels) is False else 0.0001
        least = self._least(labels, step)
        most = max(
            self.kept(0.0 if self.configuration.loss._is_monotone else self.snapped(0), k) for k in labels
        )
        most = min(_MOST_ALPHA, math.ceil(most / step) * step)
        most = round(max(most, self.alpha, least + step), 4)
        return min(least, self.alpha), most, step

    def _least(self, labels: Sequence[int | None], step: float) -> float:
        """The smallest multiple of a step that some lambda keeps; 1 - step if none is."""
        n = round(1 / step)
        low, high = 0, n - 1  # a level that is not reached, and one that is
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._reaches(Fraction(middle, n), labels) else (middle, high)
        return round(high * step, 4)

    def _reaches(self, alpha: Fraction, labels: Sequence[int | None]) -> bool:
        """Whether some lambda keeps alpha, at least for one class."""
        each = (self._of(label) for label in labels)
        return any(of.method.is_feasible(of.profiles, of.loss, alpha / of.shares, of.units) for of in each)


def _check(configuration: Configuration, solution: Solution) -> None:
    """Refuses calibrators without a lambda that can be moved."""
    draw = "draw its sets by plotting.plot_varisco(sizes[i], n_classes=K), with sizes ="
    if configuration.adaptive is not None:
        raise ValueError(
            "explore moves a lambda that all images share, but adaptive= gives each its own: explore a calibrator "
            f"without adaptive=, or {draw} calibrator.set_size(X)"
        )
    if solution.by == "stratum":
        raise ValueError(
            "explore moves a lambda that all images share, but strata have lambdas of their own: fit a calibrator to "
            f"the images of one stratum and explore that, or {draw} calibrator.set_size(X, strata=strata)"
        )
    if solution.needs_weights:
        raise ValueError(
            "explore moves a lambda that all images share, but weights above 1 give each its own: explore a calibrator "
            f"without sample_weight=, or {draw} calibrator.set_size(X, sample_weight=weights)"
        )
