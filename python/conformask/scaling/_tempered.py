"""The common part of scalers whose temperature differs from pixel to pixel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformask import _core
from conformask._documents import finite_or_text
from conformask.scaling._features import as_image, pixel_features
from conformask.scaling._fitted import Fitted, Shapes
from conformask.scaling._scaler import Scaler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.scaling._pixels import Pixels, PixelSample

__all__ = ["Tempered", "TemperedScaler", "identity_map", "tempered_solution", "two_parts"]


@dataclass(frozen=True, eq=False)
class Tempered(Fitted):
    """The results that give a pixel its temperature."""

    arrays: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        arrays = {name: _listed(array) for name, array in self.arrays.items()}
        return {**super().to_json(), "arrays": arrays}


def _listed(array: NDArray[np.float64]) -> list[Any]:
    rows: list[Any] = array.tolist()
    return rows if np.isfinite(array).all() else [finite_or_text(each) for each in rows]


def tempered_solution(
    kept: PixelSample, configuration: Any, nll: float, nll_before: float, **found: Any
) -> Tempered:
    """A solution that builds on the logits themselves."""
    return Tempered(
        weight=np.ones(1),
        bias=np.empty(0),
        nll=nll,
        nll_before=nll_before,
        n_images=len(kept.images),
        n_skipped=kept.n_skipped,
        n_classes=kept.n_classes,
        configuration=configuration,
        **found,
    )


def identity_map(configuration: Any) -> _core.ScalerMap:
    """The map that changes nothing."""
    return _core.ScalerMap.affine(np.ones(1), np.empty(0), False, configuration.inputs == "probabilities")


def two_parts(pixels: Pixels, share: float, seed: int, who: str) -> NDArray[np.bool_]:
    """Which pixels are in the first of two parts; all pixels of an image (group) are in the same part."""
    n = len(pixels.ends)
    if n < 2:
        raise ValueError(f"{who} needs at least 2 images (groups) with labelled pixels, got {n}")
    first = np.zeros(n, bool)
    first[np.random.default_rng(seed).permutation(n)[: min(n - 1, max(1, round(share * n)))]] = True
    return first[pixels.units()]


class TemperedScaler(Scaler):
    """A scaler that gives each pixel a temperature."""

    _INFINITE: ClassVar[frozenset[str]] = frozenset()  # names of arrays that may be infinite, at least 0

    @classmethod
    def _shapes(cls, configuration: Any, n_classes: int) -> Mapping[str, tuple[int, ...]]:
        """The names of `Tempered.arrays`, and their shapes."""
        return {}

    @classmethod
    def _map_shapes(cls, n_classes: int, configuration: Any) -> Shapes:
        return (1,), (0,)

    @classmethod
    def _check(cls, found: Fitted) -> None:
        if found.weight.tolist() != [1]:
            raise ValueError(f"the weight is {found.weight[0]}, not 1")

    def _base(
        self, configuration: Any, fitted: Tempered, scores: NDArray[Any], first: int
    ) -> _core.ScalerMap:
        """The map whose logits are tempered."""
        return identity_map(configuration)

    @abstractmethod
    def _factors(
        self, configuration: Any, fitted: Tempered, features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """One over the temperatures of pixels, by their features (F, ...)."""

    def _seen(self, configuration: Any, image: NDArray[Any], index: int) -> NDArray[np.float32]:
        """The features (1, F, ...) of an image (1, K, ...)."""
        around = self._looks_around(configuration)
        return pixel_features(image, configuration.inputs, index, around=around)

    def _kernel(self, configuration: Any, fitted: Any, scores: NDArray[Any], first: int) -> _core.ScalerMap:
        factors = np.empty((len(scores), *scores.shape[2:]), np.float32)
        for i in range(len(scores)):  # one by one: features of many take memory
            seen = self._seen(configuration, scores[i : i + 1], first + i)
            factors[i] = self._factors(configuration, fitted, seen[0])
        return _core.ScalerMap.tempered(self._base(configuration, fitted, scores, first), factors)

    def _array(self, name: str) -> NDArray[np.float64]:
        solution = self._current()[1]
        assert isinstance(solution, Tempered)
        array: NDArray[np.float64] = solution.arrays[name].copy()
        return array

    def _drawn_features(self, kept: PixelSample, configuration: Any) -> NDArray[np.float32]:
        """Features (F, N) of the pixels that were drawn."""
        if self._looks_around(configuration):
            return kept.features()
        found: NDArray[np.float32] = self._seen(configuration, as_image(kept.values()), 0)[0, :, 0]
        return found

    def _logits(self, kept: PixelSample, configuration: Any, fitted: Any) -> NDArray[np.float64]:
        logits = kept.pixels(configuration.inputs, centred=True).features
        return logits * self._factors(configuration, fitted, self._drawn_features(kept, configuration))

    @classmethod
    def _solution_from_json(cls, document: dict[str, Any], configuration: Any) -> Tempered:
        known = super()._solution_from_json(document, configuration)
        found = document["results"]["arrays"]
        arrays = {name: np.array(array, np.float64) for name, array in found.items()}
        shapes = dict(cls._shapes(configuration, known.n_classes))
        if {name: array.shape for name, array in arrays.items()} != shapes:
            raise ValueError(f"its arrays are not {sorted(shapes)}, or of other shapes")
        for name, array in arrays.items():
            if not (array >= 0 if name in cls._INFINITE else np.isfinite(array)).all():
                raise ValueError(f"{name} holds a number that it cannot")
        return Tempered(**{each.name: getattr(known, each.name) for each in fields(known)}, arrays=arrays)
