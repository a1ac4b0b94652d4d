"""The solution of the calibration of binary masks: the correction of thresholds, and risks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._calibrator import warn_skipped
from conformask._documents import finite_or_text
from conformask._foreground import check_foreground_classes
from conformask._kept_images import solution_rows
from conformask._text import plural
from conformask._warnings import warn_caller
from conformask.adaptive._predictors import LightPredictor
from conformask.exceptions import InfeasibleRiskWarning

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._units import KnownUnits
    from conformask.adaptive._kept import Kept
    from conformask.adaptive._predictors import FeatureModel
    from conformask.adaptive._settings import Configuration

__all__ = ["Solution", "solution_at", "solution_from_json", "solve", "warn"]

# The correction at which every mask for a foreground risk is full, and every mask for a background risk is empty.
_LARGEST = 1.0


@dataclass(frozen=True)
class Solution:
    """What calibration found."""

    correction: float
    risk: float
    corrected_risk: float
    n_images: int
    n_skipped: int
    n_eff: float
    grouped: bool  # whether groups of several images counted once
    infeasible: bool  # whether there were too few images
    configuration: Configuration  # for which it was found
    predictor: Any = None  # of thresholds, which are then corrected

    @property
    def counted(self) -> str:
        """The number of calibration units, as text: "100 images"."""
        return plural(self.n_images, "group" if self.grouped else "image")

    def cutoffs(self, offsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """The smallest probability in the mask of images with given thresholds, both (n,)."""
        found = _core.binary_cutoffs(self.configuration.side, offsets, self.correction)
        return self.configuration.numbers.cutoffs(found)

    @property
    def threshold(self) -> np.float64:
        """The threshold that all images share. It is exact: comparing it with narrower floats loses no bits."""
        found: np.float64 = self.cutoffs(np.zeros(1))[0]
        return found

    @property
    def headline(self) -> dict[str, str]:
        """What its repr shows."""
        if not self.configuration.corrects:
            return {"risk_": f"{self.risk:.4f}"}
        if self.configuration.is_adaptive:
            return {"correction_": f"{self.correction:.6g}"}
        return {"threshold_": f"{self.threshold:.6g}"}

    def rows(self) -> list[tuple[str, str]]:
        """Names and values to display."""
        return solution_rows(self, self.headline.items())

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        found: dict[str, Any] = {name: finite_or_text(getattr(self, name)) for name in _RESULTS}
        classes = self.configuration.classes
        found["classes"] = None if classes is None else list(classes)
        found["n_classes"] = self.configuration.n_classes
        if self.configuration.is_adaptive:
            found["predictor"] = self.predictor.to_json()
        return found


def _light(model: FeatureModel, configuration: Any) -> LightPredictor:
    return LightPredictor(model, configuration.scale)


_RESULTS = ("correction", "risk", "corrected_risk", "n_images", "n_skipped", "n_eff", "grouped", "infeasible")


def solve(kept: Kept, configuration: Configuration) -> Solution:
    """The smallest correction that controls the risk."""
    units = kept.units(configuration.on_empty)
    t = kept.correction(configuration.method.budget(units, configuration.alpha), units)
    return solution_at(t, kept, units, configuration)


def solution_at(t: float | None, kept: Kept, units: KnownUnits, configuration: Configuration) -> Solution:
    """The solution for a correction t of the kept thresholds; t is None if there are too few images."""
    alpha, bound, infeasible = configuration.alpha, float(configuration.alpha), t is None
    if t is None:
        if configuration.on_infeasible != "full":
            raise configuration.method.infeasible(units, alpha)
        t, bound = _LARGEST, math.inf
    risk = units.mean(kept.losses(t))
    corrected = configuration.method.risk_bound(0.0 if math.isnan(risk) else risk, units)
    # The exact number is at most alpha, which was decided exactly; rounding must not lift it above.
    return Solution(
        correction=t,
        risk=risk,
        corrected_risk=min(corrected, bound),
        n_images=units.n,
        n_skipped=units.n_skipped,
        n_eff=units.n_eff,
        grouped=units.joins_images,
        infeasible=infeasible,
        configuration=configuration,
        predictor=kept.predictor,
    )


def warn(kept: Kept, solution: Solution) -> None:
    """Warns of what the user of a solution must know."""
    configuration = solution.configuration
    units = kept.units(configuration.on_empty)
    if solution.infeasible:
        error = configuration.method.infeasible(units, configuration.alpha)
        all_of = "all masks hold every pixel" if configuration.risk == "fnr" else "all masks are empty"
        warn_caller(f"{error.finding}: {all_of}", InfeasibleRiskWarning)
    kept.warn_of_labels()
    words = f"{{}} have no pixel of the {configuration.side}"
    warn_skipped(solution.n_skipped, len(kept), units, words)


def solution_from_json(
    document: dict[str, Any],
    configuration: Configuration,
    model_from_json: Callable[[Any], FeatureModel] | None = None,
) -> Solution:
    """Results of a file; refuses what no calibration gives, and a model that `model_from_json` refuses."""
    results = document["results"]
    models = set() if model_from_json is None else {"predictor"}
    if set(results) != {*_RESULTS, "classes", "n_classes"} | models:
        raise ValueError(f"the results are {sorted(results)}")
    for name in ("n_images", "n_skipped"):
        if type(results[name]) is not int or results[name] < 0:
            raise ValueError(f"{name} is {results[name]!r}")
    for name in ("grouped", "infeasible"):
        if type(results[name]) is not bool:
            raise ValueError(f"{name} is {results[name]!r}")
    numbers = {name: float(results[name]) for name in ("correction", "risk", "corrected_risk", "n_eff")}
    if not -1 <= numbers["correction"] <= 1:
        raise ValueError(f"correction is {results['correction']!r}")
    if not 0 <= numbers["n_eff"] <= results["n_images"] * (1 + 1e-9):
        raise ValueError(f"n_eff is {results['n_eff']!r}")
    for name in ("risk", "corrected_risk"):  # NaN, the risk of no image, passes both tests
        if numbers[name] < 0 or numbers[name] > 1:
            raise ValueError(f"{name} is {results[name]!r}")
    classes = check_foreground_classes(results["classes"], configuration.ignore_index)
    n_classes = results["n_classes"]
    is_told = classes is not None and type(n_classes) is int and classes[-1] < n_classes
    if not is_told and (classes is not None or n_classes is not None):
        raise ValueError(f"n_classes is {n_classes!r}")
    return Solution(
        **numbers,
        n_images=results["n_images"],
        n_skipped=results["n_skipped"],
        grouped=results["grouped"],
        infeasible=results["infeasible"],
        configuration=replace(configuration, classes=classes, n_classes=n_classes),
        predictor=None
        if model_from_json is None
        else _light(model_from_json(results["predictor"]), configuration),
    )
