"""Checks whether labels and scores belong together at all, by counts that are known after any pass over the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from conformask._warnings import warn_caller
from conformask.exceptions import SuspiciousLabelsWarning
from conformask.scores import APS, LAC, RAPS, SACP, ConformityScore

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FirstImages",
    "Start",
    "holds_top1",
    "joined",
    "look_unrelated",
    "warn_of_masks",
    "warn_of_sets",
    "warn_of_start",
    "warn_of_unrelated",
]

# Labelled pixels of each class (K,), those of them that no set holds at lambda = 0, and the number of images with
# labelled pixels.
Start: TypeAlias = "tuple[NDArray[np.uint64], NDArray[np.uint64], int]"

# With fewer images or pixels nothing can be concluded: the pixels of an image are alike.
_LEAST_IMAGES, _LEAST_PIXELS = 5, 2000
# A stream needs more images, because neighbours in time are alike. Waiting does no harm: wrong labels stay wrong.
_LEAST_OF_STREAM = 10
# How far, from guessing (0) to being always right (1), the mean over the classes may be and still be suspicious.
_MOST_GAINED = 0.25
# Sets that are smaller on average are empty at many pixels; sets that hold more of the classes hold most labels by
# chance.
_SMALLEST, _LARGEST_SHARE = 0.5, 0.5
# For two classes: the largest suspicious ratio of the odds that a pixel is in the mask, in the object and outside it.
_MOST_ODDS = 3
# Nothing can be concluded from masks that hold, or leave out, far fewer pixels than the rarer class has. Nor from masks
# that hold most of that class because they are large, unless the odds clearly point to the opposite class.
_LEAST_SHARE, _MOST_FOUND, _OPPOSITE_ODDS = 0.25, 0.5, 0.25

_ARE_UNRELATED = "Labels and scores hardly belong together, or the model has learnt nothing"
_SAME_PLACES = (
    "that no axes are swapped or flipped (H, W, D), and that {} and y hold the same images in the same order"
)


def holds_top1(score: ConformityScore) -> bool:
    """Whether the most probable class of a pixel is in its set at every lambda."""
    if isinstance(score, LAC | SACP):
        return score.include_top1
    return isinstance(score, APS | RAPS)


def look_unrelated(
    totals: NDArray[np.uint64], held: NDArray[np.uint64], n_images: int, size: float = 1.0
) -> bool:
    """Whether sets, or most probable classes, that hold so many labelled pixels (K,) may belong to other images.

    Two conditions must hold. First, a guess that takes the most frequent classes at every pixel, as many as the mean
    `size` of the sets, would hold as many labels. Second, averaged over the classes, the sets hold hardly more of a
    class than by chance. Without the second, models of rare classes would be suspected, whose few false alarms
    outnumber what they find.
    """
    n_pixels, there = int(totals.sum()), totals > 0
    n_classes = int(there.sum())
    if n_images < _LEAST_IMAGES or n_pixels < _LEAST_PIXELS or n_classes < 2:
        return False
    if not _can_tell(size, n_classes):
        return False
    if float(held.sum()) > n_pixels * _share_of_guess(totals, size):
        return False
    if n_classes == 2 and size == 1 and not _have_odds(totals[there], held[there], _MOST_ODDS):
        return False
    found, guessed = float(np.mean(held[there] / totals[there])), size / n_classes
    return found - guessed <= _MOST_GAINED * (1 - guessed)


def _can_tell(size: float, n_classes: int) -> bool:
    """Whether sets of this mean size, out of so many classes that occur, are neither empty nor full too often."""
    return _SMALLEST <= size <= max(1.0, _LARGEST_SHARE * n_classes)


def _have_odds(totals: NDArray[np.uint64], held: NDArray[np.uint64], most: float) -> bool:
    """Whether the odds of predicting one of two classes are at most `most` times as large where it is as elsewhere."""
    # This odds ratio does not depend on how rare a class is nor, for logistic scores, on where they are cut.
    (right, other_right), (wrong, other_wrong) = held.tolist(), (totals - held).tolist()
    return bool(right * other_right <= most * wrong * other_wrong)


def _share_of_guess(totals: NDArray[np.uint64], size: float) -> float:
    """The share of pixels whose label is among the `size` most frequent classes; a fraction takes part of the last."""
    shares = np.sort(totals / totals.sum())[::-1]
    whole = int(size)
    return float(shares[:whole].sum() + (size - whole) * (shares[whole] if whole < len(shares) else 0.0))


def warn_of_unrelated(
    totals: NDArray[np.uint64], held: NDArray[np.uint64], n_images: int, size: float | None = None
) -> None:
    """Warns if `look_unrelated` holds for the most probable classes, or for sets if their mean size is given."""
    if not look_unrelated(totals, held, n_images, 1.0 if size is None else size):
        return
    n_pixels, most = int(totals.sum()), int(totals.argmax())
    if size is None:
        what, guess = "the most probable class is the label", f"always guessing class {most} would be right"
    else:
        what = f"sets of {size:.3g} classes on average hold the label"
        guess = "the most frequent classes, as many everywhere, would hold it"
    guessed = _share_of_guess(totals, 1.0 if size is None else size)
    warn_caller(
        f"{what} at {int(held.sum()) / n_pixels:.1%} of {n_pixels} labelled pixels; {guess} at {guessed:.1%}. "
        f"{_ARE_UNRELATED}: check that labels are not shifted by one (do they start at 1, or was one removed?), that "
        f"the channels of X are in the order of the classes, {_SAME_PLACES.format('X')}",
        SuspiciousLabelsWarning,
    )


def joined(starts: Iterable[Start | None]) -> Start | None:
    """The counts at lambda = 0 of the images of several parts; None if no part has them."""
    known = [start for start in starts if start is not None]
    if not known:
        return None
    totals, missed = (np.array(each, np.uint64).sum(axis=0) for each in list(zip(*known, strict=True))[:2])
    return totals, missed, sum(n_images for *_, n_images in known)


def warn_of_start(start: Start | None, score: ConformityScore) -> None:
    """The same for profiles: if sets always hold the top class, pixels missed at lambda = 0 are mispredicted."""
    if start is not None and holds_top1(score):
        totals, missed, n_images = start
        warn_of_unrelated(totals, totals - missed, n_images)


def warn_of_masks(totals: NDArray[np.uint64], said: NDArray[np.uint64], name: str, what: str) -> None:
    """The same for masks of one class: labelled pixels (n, 2) of background and foreground, and those in the mask.

    The masks may be cut anywhere, and objects may be rare. `what` is what errors call the masks, and `name` the
    argument that they were made from.
    """
    n_images = int((totals > 0).all(axis=1).sum())
    (n_background, n_foreground), (false, found) = totals.sum(axis=0).tolist(), said.sum(axis=0).tolist()
    sums = np.array([n_background, n_foreground], np.uint64)
    held = np.array([n_background - false, found], np.uint64)
    rarer = int(sums.argmin())
    n_rarer, n_said = int(sums[rarer]), int(held[rarer]) + int(sums[1 - rarer] - held[1 - rarer])
    if min(n_said, int(sums.sum()) - n_said) < _LEAST_SHARE * n_rarer:
        return
    if int(held[rarer]) > _MOST_FOUND * n_rarer and not _have_odds(sums, held, _OPPOSITE_ODDS):
        return
    if look_unrelated(sums, held, n_images):
        warn_caller(
            f"{what} hold {found / n_foreground:.1%} of {n_foreground} foreground pixels, and "
            f"{false / n_background:.1%} of {n_background} background pixels. {_ARE_UNRELATED}: check that {name} and "
            "y have the same class as foreground, and not its opposite (classes=, the order of channels), "
            f"{_SAME_PLACES.format(name)}",
            SuspiciousLabelsWarning,
        )


def warn_of_sets(totals: NDArray[np.uint64], missed: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> None:
    """The same for sets: labelled pixels (n, K), those that the sets miss, and the summed sizes of the sets."""
    sums, n_images = totals.sum(axis=0), int((totals.sum(axis=1) > 0).sum())
    size = int(sizes.sum()) / max(1, int(sums.sum()))
    warn_of_unrelated(sums, sums - missed.sum(axis=0), n_images, size)


@dataclass(frozen=True)
class FirstImages:
    """The first images of a stream whose sets say anything. When they are enough, they are judged, once."""

    totals: NDArray[np.uint64] | None = None  # labelled pixels of each class (K,)
    missed: NDArray[np.uint64] | None = None  # labelled pixels of each class that the sets miss (K,)
    size: int = 0  # summed sizes of all sets
    n_images: int = 0
    is_over: bool = False  # whether they were judged

    def and_then(
        self, totals: NDArray[np.uint64], missed: NDArray[np.uint64], sizes: NDArray[np.uint64]
    ) -> FirstImages:
        """The same with more images, whose counts are (n, K); warns like `warn_of_sets`."""
        if self.is_over:
            return self
        n_pixels, n_classes = totals.sum(axis=1), totals.shape[1]
        means = sizes.sum(axis=1) / np.maximum(n_pixels, 1)
        tells = np.array([_can_tell(mean, n_classes) for mean in means.tolist()], bool) & (n_pixels > 0)
        if not tells.any():
            return self
        sums = [each[tells].sum(axis=0) for each in (totals, missed)]
        if self.totals is not None and self.missed is not None:
            sums = [self.totals + sums[0], self.missed + sums[1]]
        size, n_images = self.size + int(sizes[tells].sum()), self.n_images + int(tells.sum())
        labelled = int(sums[0].sum())
        is_over = (
            n_images >= _LEAST_OF_STREAM
            and labelled >= _LEAST_PIXELS
            and int(np.count_nonzero(sums[0])) > 1
            and _can_tell(size / labelled, int(np.count_nonzero(sums[0])))
        )
        if is_over:
            warn_of_unrelated(sums[0], sums[0] - sums[1], n_images, size / labelled)
        return replace(
            self, totals=sums[0], missed=sums[1], size=size, n_images=n_images, is_over=bool(is_over)
        )
