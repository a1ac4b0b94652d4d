"""What a calibrator of family 1 found, as attributes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from conformask._calibrator import Calibrator
from conformask._exact import check_alpha
from conformask.control import LTT
from conformask.profiles import Profiles
from conformask.risk_control._solution import Configuration, Solution, profiles_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from conformask._units import Units

__all__ = ["Results"]


class Results(Calibrator[Configuration, Profiles, Solution]):
    """A calibrator that controls the risk: what it found."""

    alpha: float

    @property
    def lambda_hat_(self) -> float:
        """The calibrated lambda."""
        solution = self._current()[1]
        if solution.correction is not None:
            raise AttributeError(
                "images have lambdas of their own (adaptive=): predict_lambdas(X) gives them, and correction_ is what "
                "is added to those of the model"
            )
        return solution.lambda_hat

    @property
    def correction_(self) -> float:
        """With `adaptive`: what is added to the lambdas that the model gives to images."""
        found = self._current()[1].correction
        if found is None:
            raise AttributeError("all images have one lambda, lambda_hat_: a correction needs adaptive=")
        return found

    @property
    def risk_(self) -> float:
        """The empirical risk at ``lambda_hat_``."""
        return self._current()[1].risk

    @property
    def corrected_risk_(self) -> float:
        """``(n * risk_ + 1) / (n + 1)``, or by PAC, RCPS and LTT an upper confidence limit; at most alpha."""
        return self._current()[1].corrected_risk

    @property
    def risk_bound_(self) -> float:
        """By PAC, RCPS and LTT: the upper confidence limit of the risk at ``lambda_hat_``, at most alpha."""
        bound = self._current()[1].risk_bound
        if bound is None:
            raise AttributeError(
                f"{self.method!r} bounds no risk given the calibration images, only its average over them: "
                "method=PAC(delta) or RCPS(delta) does; corrected_risk_ is what is compared with alpha"
            )
        return bound

    @property
    def confidence_(self) -> float | None:
        """By PAC, RCPS and LTT: ``1 - delta``, with which alpha holds given the calibration images; None by CRC."""
        return self._current()[1].confidence

    @property
    def valid_lambdas_(self) -> NDArray[np.float64]:
        """By LTT: the lambdas that keep the risk at or below alpha, all at once with its confidence (m,)."""
        configuration = self._current()[0]
        method, profiles = configuration.method, self.profiles_
        if not isinstance(method, LTT):
            raise AttributeError(
                f"{method!r} tests no grid of lambdas: method=LTT(delta, grid) has valid_lambdas_"
            )
        return method.valid_lambdas(
            profiles, configuration.loss, configuration.alpha, configuration.units(profiles)
        )

    @property
    def n_images_(self) -> int:
        """Number of images (or groups) that count."""
        units = self._units()
        return self._current()[1].n_images if units is None else units.n

    @property
    def n_skipped_(self) -> int:
        """Number of images left out because the loss is undefined on them."""
        units = self._units()
        return self._current()[1].n_skipped if units is None else units.n_skipped

    @property
    def n_eff_(self) -> float:
        r"""The effective number of images, :math:`(\sum_i w_i)^2 / \sum_i w_i^2`; without weights that of images."""
        return self._configuration().units(self.profiles_).n_eff

    @property
    def n_classes_(self) -> int:
        """K."""
        state = self._fitted()
        return self._current()[1].n_classes if state.kept is None else state.kept.n_classes

    @property
    def profiles_(self) -> Profiles:
        """What was kept of the images."""
        return profiles_of(self._fitted())

    def risk_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The empirical risk on the calibration images as a function of lambda.

        Returns
        -------
        lambdas : float64 array (m,)
            Ascending, from 0 to ``lambda_max``; ``lambda_hat_`` is among them, and about 1000 of the jumps.
        risks : float64 array (m,)
            The risk at each lambda, exactly (binned profiles: from above).
        """
        configuration, state = self._settled()
        assert state.solution is not None
        if state.solution.correction is not None:
            raise ValueError("images have lambdas of their own (adaptive=): the risk is no function of one")
        return profiles_of(state).risk_curve(
            configuration.loss, at=state.solution.lambda_hat, on_empty=configuration.on_empty
        )

    def risk_limit(self, alpha: float | None = None) -> float:
        r"""The largest empirical risk at which alpha is kept: by CRC :math:`\alpha - (1 - \alpha) / n`.

        Parameters
        ----------
        alpha : float in (0, 1) or None, default=None
            The risk level; None is that of the calibrator.

        Returns
        -------
        float
            n counts images (groups); with weights it is their sum. Negative if n is too small, minus infinity if it is
            0.

        Raises
        ------
        ValueError
            If the profiles are not there because they were not saved, or if the method goes by no mean
            (``RCPS(delta, bound="wsr")``).
        """
        level = check_alpha(self.alpha if alpha is None else alpha)
        configuration = self._configuration()
        units = configuration.units(self.profiles_)
        return float(configuration.method.budget(units, level) / units.total) if units.total else -math.inf

    def _units(self) -> Units | None:
        """Who counts; None if the profiles were not saved."""
        configuration, state = self._configuration(), self._fitted()
        if state.solution is not None:
            self._check_images(state.solution.configuration, configuration)
        return None if state.kept is None else configuration.units(state.kept)
