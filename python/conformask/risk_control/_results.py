"""The results of a calibrator of family 1, as attributes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._calibrator import Calibrator
from conformask._exact import check_alpha
from conformask.control import LTT
from conformask.profiles import Profiles
from conformask.risk_control._solution import Configuration, Solution, profiles_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._units import Units

__all__ = ["Results"]


class Results(Calibrator[Configuration, Profiles, Solution]):
    """A calibrator that controls the risk: what it found."""

    alpha: float

    @property
    def lambda_hat_(self) -> Any:
        """The calibrated lambda, or one for each class (K,) or stratum (S,), if these have lambdas of their own."""
        solution = self._current()[1]
        if solution.parts:
            return solution.lambdas.copy()
        if solution.needs_weights:
            raise AttributeError(
                "images have lambdas of their own, by their weights: predict_lambdas(X, sample_weight=) gives them"
            )
        if solution.correction is not None:
            raise AttributeError(
                "images have lambdas of their own (adaptive=): predict_lambdas(X) gives them, and correction_ is what "
                "is added to those of the model"
            )
        return solution.lambda_hat

    @property
    def correction_(self) -> float:
        """With `adaptive`: the number that is added to the lambdas that the model gives."""
        found = self._current()[1].correction
        if found is None:
            raise AttributeError("all images have one lambda, lambda_hat_: a correction needs adaptive=")
        return found

    def _lambda_for_modules(self) -> float | tuple[float, ...]:
        """Lambda-hat, or the lambdas of classes, for modules that know only the scores of images."""
        solution = self._current()[1]
        if solution.by == "stratum" or solution.needs_weights:
            what = "strata" if solution.by == "stratum" else "weights"
            raise TypeError(
                f"the {what} of images are not known here: give the output of the model to the "
                f"calibrator's predict"
            )
        return tuple(solution.lambdas.tolist()) if solution.parts else self.lambda_hat_

    @property
    def strata_(self) -> list[int | str]:
        """The strata, in the order of ``lambda_hat_``."""
        solution = self._current()[1]
        if solution.by != "stratum":
            raise AttributeError("there are no strata: fit(X, y, strata=) takes them")
        return [part.name for part in solution.parts]

    @property
    def rare_(self) -> dict[int | str, int | None]:
        """The classes (strata) that have too few calibration images, and how many they need.

        With LTT also those that have enough images, but no lambda that passes: for these the number is None.
        """
        return {part.name: part.n_needed for part in self._current()[1].rare}

    @property
    def risk_(self) -> Any:
        """The empirical risk at ``lambda_hat_``; of each class or stratum, if these have lambdas of their own."""
        return self._of_parts("risk")

    @property
    def corrected_risk_(self) -> Any:
        """``(n * risk_ + 1) / (n + 1)``, or with PAC, RCPS and LTT an upper confidence limit; at most alpha."""
        return self._of_parts("corrected_risk")

    def _of_parts(self, name: str) -> Any:
        """A number that calibration found, or one for each part if there is none for all."""
        solution = self._current()[1]
        if solution.parts and math.isnan(solution.lambda_hat):
            return np.array([getattr(part, name) for part in solution.parts])
        if solution.needs_weights:
            raise AttributeError(
                "images have lambdas of their own, by their weights: evaluate tells their risk"
            )
        return getattr(solution, name)

    @property
    def risk_bound_(self) -> Any:
        """With PAC, RCPS and LTT: the upper confidence limit of the risk at ``lambda_hat_``, at most alpha."""
        if self.confidence_ is None:
            raise AttributeError(
                f"{self.method!r} bounds no risk given the calibration images, only its average over them: "
                "method=PAC(delta) or RCPS(delta) does; corrected_risk_ is what is compared with alpha"
            )
        return self._of_parts("corrected_risk")

    @property
    def confidence_(self) -> float | None:
        """With PAC, RCPS and LTT: ``1 - delta``, the confidence that the risk is at most alpha; None with CRC."""
        return self._current()[1].confidence

    @property
    def valid_lambdas_(self) -> NDArray[np.float64]:
        """With LTT: the lambdas (m,) that keep the risk at or below alpha, all together with its confidence."""
        configuration = self._current()[0]
        method, profiles = configuration.method, self.profiles_
        if not isinstance(method, LTT):
            raise AttributeError(
                f"{method!r} tests no grid of lambdas: method=LTT(delta, grid) has valid_lambdas_"
            )
        if self._current()[1].by is not None:
            raise AttributeError("classes or strata have valid lambdas of their own")
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
        r"""The effective number of images, :math:`(\sum_i w_i)^2 / \sum_i w_i^2`; without weights ``n_images_``."""
        units = self._units()
        return (self._configuration().units(self.profiles_) if units is None else units).n_eff

    @property
    def n_classes_(self) -> int:
        """The number of classes K."""
        state = self._fitted()
        return self._current()[1].n_classes if state.kept is None else state.kept.n_classes

    @property
    def profiles_(self) -> Profiles:
        """The profiles of the calibration images: their critical values, or the bins of these."""
        return profiles_of(self._fitted())

    def risk_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The empirical risk on the calibration images as a function of lambda.

        Returns
        -------
        lambdas : float64 array (m,)
            Ascending, from 0 to ``lambda_max``; ``lambda_hat_`` is among them, and about 1000 of the jumps.
        risks : float64 array (m,)
            The risk at each lambda. It is exact; with binned profiles it is an upper bound.
        """
        configuration, state = self._settled()
        assert state.solution is not None
        if state.solution.correction is not None:
            raise ValueError("images have lambdas of their own (adaptive=): the risk is no function of one")
        if math.isnan(state.solution.lambda_hat):
            raise ValueError(
                "classes, strata or images have lambdas of their own: the risk is no function of one. profiles_ gives "
                "risk curves of all images"
            )
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
            Here n is the number of images (groups), or the sum of the weights. The limit is negative if n is too small,
            and minus infinity if n is 0.

        Raises
        ------
        ValueError
            If there are no profiles because they were not saved, if classes or strata have lambdas of their own, or
            if the method does not depend on the mean loss alone (``RCPS(delta, bound="wsr")``).
        """
        level = check_alpha(self.alpha if alpha is None else alpha)
        configuration, profiles, units = self._configuration(), self.profiles_, self._units()
        assert units is not None, "profiles are there"
        if configuration.conditional is not None or getattr(profiles, "_strata", None) is not None:
            raise ValueError("classes or strata have lambdas of their own: there is no one limit")
        return float(configuration.method.budget(units, level) / units.total) if units.total else -math.inf

    def _units(self) -> Units | None:
        """The units that count; None if the profiles were not saved."""
        configuration, state = self._configuration(), self._fitted()
        self._check_images(state.read_with, configuration)
        return None if state.kept is None else configuration.units(state.kept)
