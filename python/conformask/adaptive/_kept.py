"""What is kept of images: the probabilities of the pixels that the risk looks at, and what counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._agreement import warn_of_masks
from conformask._units import (
    KnownUnits,
    OnEmpty,
    check_groups,
    check_sample_weight,
    count_twice,
    joined_units,
    known_units,
)
from conformask.profiles.repeats import warn_of_repeats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.adaptive._settings import Configuration

__all__ = ["Kept"]


@dataclass(frozen=True, eq=False)
class Kept:
    """The probabilities of pixels of many images, and the threshold of each image before it is corrected."""

    core: _core.BinaryValues
    offsets: NDArray[np.float64]
    groups: list[int | str] | None
    sample_weight: list[float] | None
    configuration: Any  # with which they were read
    predictor: Any = None  # the model that gave the thresholds
    features: NDArray[np.float64] | None = None  # (n, F), if thresholds are computed anew for each new image
    trained_on: NDArray[np.uint64] | None = None  # hashes of the images on which `predictor` was trained

    @classmethod
    def of(
        cls,
        parts: list[_core.BinaryValues],
        groups: Any,
        sample_weight: Any,
        configuration: Configuration,
    ) -> Kept:
        """The images of some batches, all with the threshold 0."""
        core = parts[0] if len(parts) == 1 else _core.BinaryValues.concatenate(parts)
        names = check_groups(groups, len(core))
        weights = check_sample_weight(sample_weight, names, len(core), largest=1)
        return cls(core, np.zeros(len(core)), names, weights, configuration)

    def __len__(self) -> int:
        return len(self.core)

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = self.side, *self.core.to_arrays()
        others = (self.groups, self.sample_weight, self.configuration, self.predictor)
        return _rebuilt, (arrays, self.offsets, *others, self.features, self.trained_on)

    def merge(self, other: Kept) -> Kept:
        """The images of both; refuses images that count in another way."""
        groups, weights = joined_units([(each.groups, each.sample_weight) for each in (self, other)])
        return replace(
            self,
            core=_core.BinaryValues.concatenate([self.core, other.core]),
            offsets=np.concatenate([self.offsets, other.offsets]),
            features=_joined_features(self.features, other.features),
            groups=groups,
            sample_weight=weights,
        )

    def take(self, indices: Sequence[int]) -> Kept:
        """Some images."""
        return replace(
            self,
            core=self.core.take(list(indices)),
            offsets=self.offsets[list(indices)],
            features=None if self.features is None else self.features[list(indices)],
            groups=None if self.groups is None else [self.groups[i] for i in indices],
            sample_weight=None if self.sample_weight is None else [self.sample_weight[i] for i in indices],
        )

    # Units that count

    @property
    def side(self) -> str:
        """The kind of pixels that are kept: "foreground" or "background"."""
        side: str = self.configuration.side
        return side

    def pixels(self) -> NDArray[np.uint64]:
        """The number of pixels of each image (n,) that count in the risk."""
        return self.core.totals()[:, int(self.side == "foreground")]

    def units(self, on_empty: OnEmpty) -> KnownUnits:
        """The units that count."""
        is_empty = self.pixels() == 0
        if on_empty == "raise" and is_empty.any():
            raise ValueError(
                f"image {int(is_empty.argmax())} has no pixel of the {self.side}: its rate is undefined"
            )
        counted = ~is_empty if on_empty == "skip" else np.ones(len(self), bool)
        known = known_units(counted, self.groups, self.sample_weight)
        return replace(known, without=f"a pixel of the {self.side}")

    # What they lose

    def correction(self, budget: Fraction, units: KnownUnits) -> float | None:
        """The smallest t at which the losses sum to at most the budget; None if the budget is negative."""
        shares = units.shares or [Fraction(int(counts)) for counts in units.counted]
        return self.core.correction(self.offsets, shares, budget)

    def losses(self, t: float) -> NDArray[np.float64]:
        """The loss of each image (n,) at t; NaN where it is undefined."""
        return self.core.losses(self.offsets, t)

    # Wrong data

    def warn_of_labels(self) -> None:
        """Warns if labels hardly belong to probabilities."""
        warn_of_masks(self.core.totals()[:, :2], self.core.said(), "P", self.configuration.half)

    def warn_of_repeats(self, n_before: int = 0) -> None:
        """Warns of images that come twice; with `n_before`, of later images that are among the first so many."""
        hashes = self.core.hashes()
        if n_before:
            found = _core.repeats_between(hashes[:n_before], hashes[n_before:])
            pairs = [(first, n_before + again) for first, again in found]
        else:
            pairs = _core.repeats_within(hashes)
        counted = [pair for pair in pairs if count_twice(self.groups, self.sample_weight, *pair)]
        warn_of_repeats(counted, len(self))


def _joined_features(
    one: NDArray[np.float64] | None, other: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    if one is None or other is None:
        return None
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            f"the images have {one.shape[1]} and {other.shape[1]} features: one embedding must give them"
        )
    return np.concatenate([one, other])


def _rebuilt(arrays: tuple[Any, ...], *others: Any) -> Kept:
    return Kept(_core.BinaryValues.from_arrays(*arrays), *others)
