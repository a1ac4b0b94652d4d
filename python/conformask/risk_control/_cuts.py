"""The lambdas of images: one for all, or lambdas by class, by stratum, by weight or by a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._arrays import score_array
from conformask._image_models import Images, ended
from conformask._text import plural, shown
from conformask._units import check_groups, check_sample_weight
from conformask._warnings import warn_caller
from conformask.control import CRC
from conformask.exceptions import InfeasibleRiskError, InfeasibleRiskWarning
from conformask.profiles import Profiles
from conformask.risk_control._adaptive import offsets_of, refuse_images
from conformask.risk_control._solution import WITHOUT_PROFILES, Configuration, Solution
from conformask.scores import lambda_max

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Cuts"]


class Cuts:
    """The lambdas of images that come in order, by one or several solutions."""

    def __init__(
        self,
        asked: Sequence[tuple[Configuration, Solution]],
        n: int | None,
        *,
        images: Any = None,
        strata: Any = None,
        sample_weight: Any = None,
        profiles: Profiles | None = None,
    ) -> None:
        self._asked = list(asked)
        self.configuration, first = self._asked[0]
        refuse_images(images, self.configuration.adaptive)
        self._images = Images(images, "X")
        self.strata = _known_strata(strata, n, first, self.configuration)
        self._weights = _known_weights(sample_weight, n, first, self.configuration, profiles)
        self._of_weights = [_OfWeights(each, profiles) for each, _ in self._asked] if self._weights else []
        self._largest = lambda_max(self.configuration.conformity_score, first.n_classes)
        self._n_seen, self._n_full = 0, 0

    def lambdas(self, maps: Any, first: int) -> list[NDArray[np.float64]]:
        """The lambdas (n,) of the next images, the first of which is number `first`; (n, K) if they differ by class."""
        n, solutions = len(maps), [solution for _, solution in self._asked]
        self._n_seen = first + n
        if self._weights is not None:
            weights = _some(self._weights, first, n, "sample_weight")
            found = [each.lambdas(weights) for each in self._of_weights]
            self._n_full += int(np.isinf(found[0]).sum())
            return found
        if self.configuration.adaptive is not None:
            offsets = offsets_of(self.configuration.adaptive, maps, self._images, first, self._largest)
            return [_shifted(offsets, solution, self._largest) for solution in solutions]
        if solutions[0].by == "stratum":
            assert self.strata is not None
            names = _some(self.strata, first, n, "strata")
            return [_of_strata(names, solution, self._largest) for solution in solutions]
        if solutions[0].by == "class":
            return [np.tile(solution.lambdas, (n, 1)) for solution in solutions]
        return [np.full(n, solution.lambda_hat) for solution in solutions]

    def of(self, maps: Any, first: int) -> tuple[Any, list[Any]]:
        """The maps, and the lambdas as kernels take them, by each solution."""
        if self._differ_by_image:
            # Lambdas that differ by image are compared on the CPU.
            found = [_core.Lambdas.per_image(lambdas) for lambdas in self.lambdas(maps, first)]
            return score_array(maps, ""), found
        by_class = self._asked[0][1].by == "class"
        return maps, [
            tuple(solution.lambdas.tolist()) if by_class else solution.lambda_hat
            for _, solution in self._asked
        ]

    @property
    def _differ_by_image(self) -> bool:
        of_stratum = self._asked[0][1].by == "stratum"
        return self._weights is not None or of_stratum or self.configuration.adaptive is not None

    def check_end(self) -> None:
        """Refuses arguments that are left over after the last map; warns of full sets because of large weights."""
        self._images.check_end()
        for name, values in {"strata": self.strata, "sample_weight": self._weights}.items():
            if values is not None and len(values) > self._n_seen:
                raise ValueError(
                    f"{name} has {len(values)} entries, but X has {plural(self._n_seen, 'image')}"
                )
        if self._n_full:
            warn_caller(
                f"{self._n_full} of {plural(self._n_seen, 'image')} have too large weights compared with "
                f"the calibration images: their sets hold every class",
                InfeasibleRiskWarning,
            )

    def all_used_by(self, found: Any) -> Any:
        """Returns `found` after :meth:`check_end`, which runs at the end of a generator."""
        return ended(found, self.check_end)


class _OfWeights:
    """The lambda of an image by its weight: the heavier it is, the less the calibration losses may sum to."""

    def __init__(self, configuration: Configuration, profiles: Profiles | None) -> None:
        if profiles is None:
            raise ValueError(WITHOUT_PROFILES)
        self._configuration, self._profiles = configuration, profiles
        self._units = configuration.units(profiles)
        self._known: dict[float, float] = {}

    def lambdas(self, weights: Sequence[float]) -> NDArray[np.float64]:
        """The lambdas of images; infinite where no lambda keeps alpha."""
        for weight in weights:
            if weight not in self._known:
                self._known[weight] = self._found(weight)
        return np.array([self._known[weight] for weight in weights])

    def _found(self, weight: float) -> float:
        asked = self._configuration
        try:
            units = self._units.beside(weight, "sample_weight")
            return self._profiles._controlled(asked.loss, asked.alpha, asked.method, units)
        except InfeasibleRiskError:
            return np.inf


def _known_strata(
    strata: Any, n: int | None, solution: Solution, configuration: Configuration
) -> list[int | str] | None:
    """The stratum of each new image; refuses strata that calibration did not have."""
    if solution.by != "stratum":
        if strata is not None:
            raise ValueError("strata= was given, but calibration had none: fit(X, y, strata=)")
        return None
    if strata is None:
        raise ValueError("strata have lambdas of their own: give the stratum of each image, strata=")
    known, names = {part.name for part in solution.parts}, check_groups(strata, n, "strata")
    assert names is not None
    unseen = list(dict.fromkeys(name for name in names if name not in known))
    if unseen and configuration.on_unseen == "raise":
        raise ValueError(
            f"strata has {shown(unseen[0])}, which no calibration image belongs to: calibrate with images of it, "
            "or pass on_unseen='full' for full sets"
        )
    return names


def _known_weights(
    sample_weight: Any,
    n: int | None,
    solution: Solution,
    configuration: Configuration,
    profiles: Profiles | None,
) -> list[float] | None:
    """The weight of each new image."""
    if sample_weight is None:
        if solution.needs_weights:
            raise ValueError(
                "weights above 1 are relative to that of a new image: give the weight of each, sample_weight="
            )
        return None
    if solution.by is not None or configuration.adaptive is not None:
        raise ValueError(
            "sample_weight= of new images needs one lambda for all: no conditional=, strata= or adaptive="
        )
    if not isinstance(configuration.method, CRC):
        raise ValueError(f"{configuration.method!r} takes no sample_weight of new images: use CRC()")
    if profiles is not None and getattr(profiles, "_sample_weight", None) is None:
        raise ValueError(
            "sample_weight= was given, but calibration had none: fit(X, y, sample_weight=), if only with ones"
        )
    known = sample_weight if n is not None or hasattr(sample_weight, "__len__") else list(sample_weight)
    return check_sample_weight(known, None, len(known) if n is None else n)


def _some(values: Sequence[Any], first: int, n: int, name: str) -> Sequence[Any]:
    """The values of n images, from number `first` on."""
    if len(values) < first + n:
        raise ValueError(f"{name} has {len(values)} entries, but X has more images")
    return values[first : first + n]


def _of_strata(names: Sequence[int | str], solution: Solution, largest: float) -> NDArray[np.float64]:
    known = {part.name: part.lambda_hat for part in solution.parts}
    return np.array([known.get(name, largest) for name in names])


def _shifted(offsets: NDArray[np.float64], solution: Solution, largest: float) -> NDArray[np.float64]:
    assert solution.correction is not None
    return _core.corrected_lambdas(offsets, solution.correction, largest)
