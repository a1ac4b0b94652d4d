"""What is kept of images: the margins that each of them needs, and what counts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
from conformask.margins._distances import inner_need, outer_need
from conformask.profiles.repeats import warn_of_repeats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.margins._masks import Case
    from conformask.margins._settings import Configuration

__all__ = ["Kept", "needs"]

# Two images may well agree by chance in fewer wrong pixels.
_FEWEST_COMPARED = 8


def needs(case: Case, configuration: Configuration) -> list[float]:
    """The margins that an image needs, one for each side; NaN where the side has no pixel."""
    found = []
    for side, share in zip(configuration.sides, configuration.shares, strict=True):
        need, target = (outer_need, case.foreground) if side == "outer" else (inner_need, case.background)
        found.append(need(case.mask, target, share, configuration.metric, case.spacing))
    return found


def _refuse_one_hot(case: Case) -> None:
    """Refuses one-hot masks of several classes, which would be taken for the slices of a volume."""
    pair = (case.mask, case.foreground)
    if case.mask.ndim == 3 and len(case.mask) > 1 and all((each.sum(axis=0) == 1).all() for each in pair):
        raise ValueError(
            "masks and y (n, D, H, W) have exactly one slice in the mask at each pixel, like classes (n, "
            "K, H, W): pass masks[:, k] of one class, or masks.argmax(axis=1) and classes=. If they are "
            "volumes, pass "
            "volumes=True"
        )


@dataclass(frozen=True, eq=False)
class Kept:
    """The margins that images need, for at least one image."""

    scores: NDArray[np.float64]  # (n, sides)
    hashes: NDArray[np.uint64]  # (n,) hashes of the masks; 0 if these may agree by chance
    totals: NDArray[np.uint64]  # (n, 2) pixels of background and foreground
    said: NDArray[np.uint64]  # (n, 2) those in the mask
    n_void: int  # void pixels of all images
    groups: list[int | str] | None
    sample_weight: list[float] | None
    configuration: Configuration  # with which they were read

    @classmethod
    def of(cls, cases: Iterable[Case], groups: Any, sample_weight: Any, configuration: Configuration) -> Kept:
        """What is kept of images."""
        scores: list[list[float]] = []
        hashes, totals, said, n_void = [], [], [], 0
        for case in cases:
            if not scores and configuration.volumes == "auto":
                _refuse_one_hot(case)
            scores.append(needs(case, configuration))
            hashes.append(_hash(case))
            sides = (case.background, case.foreground)
            totals.append([np.count_nonzero(side) for side in sides])
            said.append([np.count_nonzero(side & case.mask) for side in sides])
            n_void += case.n_void
        names = check_groups(groups, len(scores))
        weights = check_sample_weight(sample_weight, names, len(scores), largest=1)
        found = np.array(scores, np.float64), np.array(hashes, np.uint64)
        pixels = np.array(totals, np.uint64), np.array(said, np.uint64)
        return cls(*found, *pixels, n_void, names, weights, configuration)

    def __len__(self) -> int:
        return len(self.scores)

    def merge(self, other: Kept) -> Kept:
        """The images of both; refuses images that count in another way."""
        groups, weights = joined_units([(each.groups, each.sample_weight) for each in (self, other)])
        return replace(
            self,
            scores=np.concatenate([self.scores, other.scores]),
            hashes=np.concatenate([self.hashes, other.hashes]),
            totals=np.concatenate([self.totals, other.totals]),
            said=np.concatenate([self.said, other.said]),
            n_void=self.n_void + other.n_void,
            groups=groups,
            sample_weight=weights,
        )

    @property
    def n_foreground(self) -> int:
        """Number of foreground pixels in all images."""
        return int(self.totals[:, 1].sum())

    # Units that count

    def units(self, on_empty: OnEmpty) -> KnownUnits:
        """The units that count: images on which the loss is defined, or all, by `on_empty`."""
        is_empty: NDArray[np.bool_] = np.asarray(np.isnan(self.scores).any(axis=1))
        if on_empty == "raise" and is_empty.any():
            raise ValueError(
                f"image {int(is_empty.argmax())} has no pixel of {self.configuration.lacks}: its loss is undefined"
            )
        counted = ~is_empty if on_empty == "skip" else np.ones(len(self), bool)
        known = known_units(counted, self.groups, self.sample_weight)
        return replace(known, without=f"a pixel of {self.configuration.lacks}")

    def fails(self, margins: tuple[float, ...]) -> NDArray[np.bool_]:
        """Which margins are too narrow for which images (n, sides). Where the loss is undefined, none is."""
        return self.scores > np.array(margins)

    # Wrong data

    def warn_of_labels(self) -> None:
        """Warns if labels hardly belong to masks."""
        warn_of_masks(self.totals, self.said, "masks", "masks")

    def warn_of_repeats(self, n_before: int = 0) -> None:
        """Warns of images that come twice; with `n_before`, of later images that are among the first so many."""
        (compared,) = np.nonzero(self.hashes)
        before = compared < n_before
        if n_before:
            found = _core.repeats_between(self.hashes[compared[before]], self.hashes[compared[~before]])
            firsts, laters = compared[before], compared[~before]
        else:
            found = _core.repeats_within(self.hashes[compared])
            firsts = laters = compared
        pairs = [(int(firsts[first]), int(laters[again])) for first, again in found]
        counted = [pair for pair in pairs if count_twice(self.groups, self.sample_weight, *pair)]
        warn_of_repeats(counted, len(self), alike="masks and labels")


def _hash(case: Case) -> int:
    """A hash of an image's masks; 0 if hardly a pixel is wrong, because such images of a good model may be alike."""
    wrong = (case.mask & case.background) | (~case.mask & case.foreground)
    if np.count_nonzero(wrong) < _FEWEST_COMPARED:
        return 0
    digest = hashlib.blake2b(repr((case.mask.shape, case.spacing.tolist())).encode(), digest_size=8)
    for each in (case.mask, case.foreground, case.background):
        digest.update(np.packbits(each).tobytes())
    return int.from_bytes(digest.digest(), "little")
