"""What all methods of risk control have in common."""
# ruff: noqa: D102  # methods are documented where Method declares them

from __future__ import annotations

import bisect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from conformask._exact import as_fraction, as_plain, check_alpha
from conformask._text import shown
from conformask._warnings import warn_caller
from conformask.control.hb import images_of_no_loss
from conformask.exceptions import InfeasibleRiskError

if TYPE_CHECKING:
    from conformask._units import Units
    from conformask.losses import Loss
    from conformask.profiles import Profiles

__all__ = ["Method", "WithConfidence", "check_by_budget", "smallest_level"]

_N_LEVELS = 6 * 900  # levels of three digits, from 1e-6 to 0.999


class Method(ABC):
    """What the methods have in common: a search for lambda-hat, and a limit that they keep at or below alpha.

    Most methods set a budget: lambda-hat is the smallest lambda whose summed loss is within the budget. Methods that
    look at the losses of single images, or only at the lambdas of a grid, have a search of their own.
    """

    @property
    def by_budget(self) -> bool:
        """Whether lambda-hat is the smallest lambda whose summed loss is within the budget."""
        return True

    @property
    def needs_single_images(self) -> bool:
        """Whether the method needs the losses of single images, which binned profiles do not hold."""
        return False

    @property
    def confidence(self) -> float | None:
        """The probability over calibration images that the guarantee holds; None if it holds on average."""
        return None

    @abstractmethod
    def budget(self, units: Units, alpha: Fraction) -> Fraction:
        """The largest sum of losses that is allowed, exact or a little below; negative with too few images.

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
            If the method cannot count such units, or has no budget.
        """

    @abstractmethod
    def risk_bound(self, risk: float, units: Units) -> float:
        """The number that the method compares with alpha: the smallest alpha whose budget holds the summed loss.

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

    def divided(self, k: int) -> Method:
        """The method for each of k guarantees, so that all hold together with this confidence (Bonferroni).

        Parameters
        ----------
        k : int
            The number of guarantees.

        Returns
        -------
        Method
            The method itself, if it has no confidence.
        """
        return self

    def check_units(self, units: Units) -> None:  # noqa: B027  # CRC counts all
        """Refuses images that the method cannot count.

        Parameters
        ----------
        units : Units
            Who counts.
        """

    def check_loss(self, loss: Loss) -> None:
        """Refuses a loss that the method cannot control: one that may rise with lambda, except with LTT.

        Parameters
        ----------
        loss : MiscoverageLoss or another loss
            The loss.
        """
        if not loss._is_monotone:
            raise ValueError(
                f"{self!r} needs a loss that does not rise with lambda, which {loss} may: take LTT(delta, grid)"
            )

    def lambda_hat(self, profiles: Profiles, loss: Loss, alpha: Fraction, units: Units) -> float | None:
        """The lambda that controls the risk.

        Parameters
        ----------
        profiles : ScoreProfiles or BinnedProfiles
            The profiles of the calibration images.
        loss : MiscoverageLoss or another loss
            The loss.
        alpha : Fraction in (0, 1)
            The risk level.
        units : Units
            Who counts.

        Returns
        -------
        float or None
            None if no lambda controls it.
        """
        return profiles._lambda_hat(loss, self.budget(units, alpha), units)

    def limit(self, profiles: Profiles, loss: Loss, lam: float, units: Units, risk: float) -> float:
        """The number that the method compares with alpha at a lambda.

        Parameters
        ----------
        profiles, loss, units
            As for :meth:`lambda_hat`.
        lam : float
            Lambda.
        risk : float
            The mean loss there; NaN where no image counts.

        Returns
        -------
        float in [0, 1]
        """
        return self.risk_bound(0.0 if math.isnan(risk) else risk, units)

    def kept(self, profiles: Profiles, loss: Loss, lam: float, units: Units, risk: float) -> float:
        """The smallest alpha at which calibration reaches a lambda.

        Parameters
        ----------
        profiles, loss, lam, units, risk
            As for :meth:`limit`.

        Returns
        -------
        float in [0, 1]
            1 if there is none.
        """
        return self.limit(profiles, loss, lam, units, risk)

    def is_feasible(self, profiles: Profiles, loss: Loss, alpha: Fraction, units: Units) -> bool:
        """Whether some lambda controls the risk.

        Parameters
        ----------
        profiles, loss, alpha, units
            As for :meth:`lambda_hat`.

        Returns
        -------
        bool
        """
        return self.budget(units, alpha) >= 0

    def infeasible(self, units: Units, alpha: Fraction) -> InfeasibleRiskError:
        """The error to raise if no lambda controls the risk.

        Parameters
        ----------
        units : Units
            Who counts.
        alpha : Fraction in (0, 1)
            The risk level.

        Returns
        -------
        InfeasibleRiskError
        """
        size = units.n if units.total == units.n else float(units.total)
        return InfeasibleRiskError(
            size,
            float(alpha),
            self.n_needed(alpha),
            units.name,
            units.n_skipped,
            without=units.without,
            smallest_alpha=self._smallest_alpha(units, float(alpha)),
        )

    def _smallest_alpha(self, units: Units, above: float) -> float | None:
        """The smallest level for which there are enough units, rounded up to three digits; None if there is none."""
        if units.new != 1:  # what is needed depends on the weight of the new image
            return None
        return smallest_level(above, lambda alpha: self.n_needed(as_fraction(alpha, "alpha")) <= units.total)


@dataclass(frozen=True)
class WithConfidence(Method):
    """A guarantee that holds with probability ``1 - delta`` over calibration images that are drawn independently."""

    delta: float

    def __post_init__(self) -> None:
        delta = as_fraction(self.delta, "delta")
        if not 0 < delta < 1:
            raise ValueError(f"delta must be in (0, 1), got {shown(self.delta)}")
        object.__setattr__(self, "delta", as_plain(self.delta, "delta"))
        if delta > Fraction(1, 2):
            warn_caller(
                f"delta={shown(self.delta)} is the probability that the guarantee fails, not the "
                f"confidence, which is {float(1 - delta):g}: did you "
                f"mean delta={float(1 - delta):g}?",
                UserWarning,
            )

    @property
    def confidence(self) -> float:
        return float(1 - self._delta())

    def n_needed(self, alpha: Fraction) -> int:
        return images_of_no_loss(check_alpha(alpha), self._delta())

    def divided(self, k: int) -> Method:
        share: Any = self._delta() / k
        return replace(self, delta=share)

    def check_units(self, units: Units) -> None:
        if units.total != units.n or units.new != 1:
            raise ValueError(f"{self!r} cannot take sample_weight: every image must count alike. Use CRC()")

    def _delta(self) -> Fraction:
        return as_fraction(self.delta, "delta")


def smallest_level(above: float, is_reached: Callable[[float], bool]) -> float | None:
    """The smallest level of three digits above another that is reached, where larger ones are too; None if none is."""

    def level(place: int) -> float:
        power, digits = divmod(place, 900)
        return float(f"{100 + digits}e{power - 8}")

    def is_enough(place: int) -> bool:
        return level(place) > above and is_reached(level(place))

    place = bisect.bisect_left(range(_N_LEVELS), True, key=is_enough)
    return level(place) if place < _N_LEVELS else None


def check_by_budget(method: Method, what: str) -> None:
    """Refuses methods that need a grid of lambdas, where there are no lambdas; `what` tells why."""
    if not method.by_budget:
        raise ValueError(
            f"method={method!r} looks at lambdas of a grid, but {what}: take CRC(), PAC(delta) or RCPS(delta)"
        )
