"""Which units count, and how much: images, groups of images, weights. Control methods need to know no more of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from conformask._exact import as_fraction, effective_size, exact_mean, exact_means, exact_sum
from conformask._sequences import check_ordered
from conformask._text import plural, shown
from conformask._warnings import warn_caller

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray


__all__ = [
    "KnownUnits",
    "OnEmpty",
    "Units",
    "check_groups",
    "check_on_empty",
    "check_sample_weight",
    "count_twice",
    "counted_images",
    "joined_names",
    "joined_units",
    "known_units",
    "unit_means",
    "warn_of_groups",
]

OnEmpty = Literal["skip", "raise", "zero_loss"]

T = TypeVar("T")

GROUPS = "groups of calibration images"
WEIGHTS = "summed weight of calibration images"


@dataclass(frozen=True)
class Units:
    """The units whose losses are averaged: images, or groups of images."""

    total: Fraction
    n: int
    n_skipped: int
    name: str = "calibration images"
    n_eff: float = math.nan  # effective number of images
    without: str = "a labelled pixel that counts"  # what the images lack that are left out
    new: Fraction | None = Fraction(1)  # how much a new image counts; None: the caller must say so

    def __post_init__(self) -> None:
        if math.isnan(self.n_eff):
            object.__setattr__(self, "n_eff", float(self.n))

    def beside(self, weight: object, name: str) -> Self:
        """The same units, with the weight of a new image."""
        new = as_fraction(weight, name)
        if new < 0:
            raise ValueError(f"{name} must be at least 0 and finite, got {shown(weight)}")
        return replace(self, new=new)

    @property
    def whole(self) -> bool:
        """Whether each unit is one image, which counts once."""
        return True

    @property
    def grouped(self) -> bool:
        """Whether units are groups of images."""
        return self.name == GROUPS

    @property
    def joins_images(self) -> bool:
        """Whether there are groups of several images."""
        return self.grouped and not self.whole


@dataclass(frozen=True)
class KnownUnits(Units):
    """Units of images that are known one by one, and how much each image counts."""

    counted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    shares: list[Fraction] | None = None  # how much each image counts; None: 1 each
    groups: Sequence[int | str] | None = None  # the group of each image

    @property
    def whole(self) -> bool:
        return self.shares is None or all(share in (0, 1) for share in self.shares)

    def mean(self, losses: NDArray[np.float64]) -> float:
        """The mean loss, from exact sums; undefined losses that count are 0."""
        losses = np.nan_to_num(losses, nan=0.0)
        if self.shares is None:
            return exact_mean(losses[self.counted])
        return float(exact_sum(losses, self.shares) / self.total) if self.total else math.nan

    def of_units(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """The losses (m, L) of units, from those of images (n, L). The loss of a group is the mean over its images.

        Units are in the order of the images; a group has the place of its first image that counts. Undefined losses
        that count are 0.
        """
        counted = np.nan_to_num(losses[self.counted], nan=0.0)
        if self.groups is None:
            return counted
        names = [name for name, counts in zip(self.groups, self.counted, strict=True) if counts]
        places = {name: place for place, name in enumerate(dict.fromkeys(names))}
        of_images = np.array([places[name] for name in names], np.intp)
        order = np.argsort(of_images, kind="stable")
        starts = np.searchsorted(of_images[order], np.arange(len(places)))
        sums = np.add.reduceat(counted[order], starts, axis=0) if len(places) else counted
        sizes = np.bincount(of_images, minlength=len(places))[:, np.newaxis]
        return np.minimum(sums / sizes, 1.0)

    def means(self, n: int, sums: Callable[[Fraction], NDArray[np.float64]]) -> NDArray[np.float64]:
        """The means of n kinds of losses, given their sums over a total, with the same bits as :meth:`mean`."""
        if not self.total:
            return np.full(n, math.nan)
        return sums(Fraction(1)) / self.n if self.shares is None else sums(self.total)


def known_units(
    counted: NDArray[np.bool_],
    groups: Sequence[int | str] | None,
    sample_weight: Sequence[float] | None,
) -> KnownUnits:
    """The units of images that are known one by one: single images, groups, or weighted images."""
    n, n_skipped = int(counted.sum()), int((~counted).sum())
    if groups is not None:
        sizes: dict[int | str, int] = {}
        for group, counts in zip(groups, counted, strict=True):
            if counts:
                sizes[group] = sizes.get(group, 0) + 1
        shares = [
            Fraction(int(counts), sizes.get(group, 1)) for group, counts in zip(groups, counted, strict=True)
        ]
        total, name = Fraction(len(sizes)), GROUPS
        return KnownUnits(total, len(sizes), n_skipped, name, counted=counted, shares=shares, groups=groups)
    if sample_weight is not None:
        shares = [
            as_fraction(weight, "sample_weight") * int(counts)
            for weight, counts in zip(sample_weight, counted, strict=True)
        ]
        total = sum(shares, Fraction())
        n_eff = effective_size(
            [float(weight) for weight, counts in zip(sample_weight, counted, strict=True) if counts]
        )
        # Without a known weight, a new image counts as much as the largest possible weight.
        new = Fraction(1) if max(sample_weight, default=0) <= 1 else None
        return KnownUnits(total, n, n_skipped, WEIGHTS, n_eff, new=new, counted=counted, shares=shares)
    return KnownUnits(Fraction(n), n, n_skipped, counted=counted)


def joined_units(
    parts: Sequence[tuple[list[int | str] | None, list[float] | None]],
) -> tuple[list[int | str] | None, list[float] | None]:
    """Groups and weights of the images of several parts, in order; refuses those that count in different ways."""
    all_groups, all_weights = zip(*parts, strict=True)
    if len({each is None for each in all_weights}) > 1:
        raise ValueError("sample_weight must be given for all images or for none")
    return joined_names(all_groups, "groups"), _concatenated(all_weights)


def joined_names(parts: Sequence[list[int | str] | None], name: str) -> list[int | str] | None:
    """The groups of all images of several parts, in order; refuses ints beside strings, and parts without groups."""
    if len({each is None for each in parts}) > 1:
        raise ValueError(f"{name} must be given for all images or for none")
    found = _concatenated(parts)
    if found is not None and len({type(each) for each in found}) > 1:
        raise ValueError(f"{name} must all be ints or all be strings")
    return found


def _concatenated(parts: Sequence[list[T] | None]) -> list[T] | None:
    """All parts as one list; None if there are none (all parts are None, or none is)."""
    return None if parts[0] is None else [each for part in parts if part is not None for each in part]


def count_twice(
    groups: Sequence[int | str] | None, sample_weight: Sequence[float] | None, first: int, again: int
) -> bool:
    """Whether two images that are the same count as two."""
    if groups is not None:  # a group counts once, whatever it holds
        return groups[first] != groups[again]
    return sample_weight is None or all(sample_weight[i] > 0 for i in (first, again))


def check_on_empty(on_empty: object) -> None:
    """Refuses an unknown policy."""
    if on_empty not in ("skip", "raise", "zero_loss"):
        raise ValueError(f"on_empty must be 'skip', 'raise' or 'zero_loss', got {on_empty!r}")


def counted_images(losses: NDArray[np.float64], on_empty: OnEmpty) -> NDArray[np.bool_]:
    """Which images count, by `on_empty`, where the loss may be undefined (NaN)."""
    undefined = np.isnan(losses)
    if on_empty == "raise" and undefined.any():
        index = int(undefined.argmax())
        raise ValueError(f"the loss is undefined on image {index}: it has no labelled pixel that counts")
    check_on_empty(on_empty)
    return ~undefined if on_empty == "skip" else np.ones(len(losses), bool)


def unit_means(values: NDArray[np.float64], groups: Sequence[int | str] | None) -> NDArray[np.float64]:
    """The value of each unit, along the first axis: an image's own, or the mean of what is not NaN in a group."""
    if groups is None:
        return values
    members: dict[int | str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    rows = values.reshape(len(values), -1)
    means = [exact_means(rows[own]) for own in members.values()]
    return np.array(means).reshape(len(members), *values.shape[1:])


def check_groups(groups: Any, n: int | None, name: str = "groups") -> list[int | str] | None:
    """The group of each of n images, as ints or as strings; n is None if it is not known yet.

    An iterable is read here, once. Later checks get the list.
    """
    if groups is None:
        return None
    check_ordered(groups, name)
    # Strings are kept out of NumPy arrays, which take "a" and "a\0" for the same.
    values = groups.tolist() if hasattr(groups, "tolist") else groups
    if isinstance(values, str | bytes) or not np.iterable(values):
        raise ValueError(f"{name} must hold an int or string for {_each_of(n)}, got {shown(values)}")
    values = list(values)
    if n is None or len(values) == n:
        if all(isinstance(value, str) for value in values):
            return [str(value) for value in values]
        if all(_is_whole(value) for value in values):
            return [int(value) for value in values]
    kinds = Counter("string" if isinstance(value, str) else type(value).__name__ for value in values)
    got = " and ".join(plural(many, kind) for kind, many in kinds.items()) or "none"
    large = [value for value in values if _is_int(value) and not _is_whole(value)]
    booleans = ": name the two kinds, or give .astype(int)" if "bool" in kinds else ""
    beyond = f", of which {shown(large[0])} does not fit int64" if large else ""
    raise ValueError(f"{name} must hold an int or string for {_each_of(n)}, got {got}{beyond}{booleans}")


def warn_of_groups(grouped: bool | None, groups: Sequence[int | str] | None) -> None:
    """Warns if calibration counted groups of several images and evaluation counts images, or the reverse.

    `grouped` says whether calibration counted such groups; None if it is not known.
    """
    several = groups is not None and len(set(groups)) < len(groups)
    if grouped and groups is None:
        said, asked, what = "by groups", "images", "Give groups= here too"
    elif grouped is False and several:
        said, asked, what = "by images", "groups", "Leave out groups=, or calibrate with them"
    else:
        return
    warn_caller(
        f"calibration was {said}, but evaluation counts {asked}: its risk is not the one that the guarantee is about. "
        f"{what}",
        UserWarning,
    )


def _each_of(n: int | None) -> str:
    return "each image" if n is None else "the image" if n == 1 else f"each of {n} images"


def _is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return _is_int(value) and -(2**63) <= value < 2**63  # type: ignore[operator]


def check_sample_weight(
    sample_weight: Any, groups: Any, n: int, largest: float = math.inf
) -> list[float] | None:
    """How much each of n images counts, as floats."""
    if sample_weight is None:
        return None
    if groups is not None:
        raise ValueError("groups and sample_weight cannot be combined")
    check_ordered(sample_weight, "sample_weight")
    try:
        array = np.asarray(sample_weight, np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"sample_weight must hold a number for {_each_of(n)}, got {shown(sample_weight)}"
        ) from None
    if array.shape != (n,):
        raise ValueError(f"sample_weight must hold a number for {_each_of(n)}, got shape {array.shape}")
    bad = ~((array >= 0) & (array <= largest) & (array < math.inf))
    if bad.any():
        index = int(bad.argmax())
        must = "at least 0 and finite" if largest == math.inf else f"in [0, {largest:g}]"
        raise ValueError(f"sample_weight must be {must}, got {array[index]} for image {index}")
    values: list[float] = array.tolist()
    return values
