"""Whether labels and scores belong together at all, from counts that a pass over the images gives anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from conformask._warnings import warn_caller
from conformask.exceptions import SuspiciousLabelsWarning
from conformask.scores import APS, LAC, RAPS, SACP, ConformityScore

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Start", "holds_top1", "look_unrelated", "warn_of_sets", "warn_of_starts", "warn_of_unrelated"]

# Labelled pixels of each class (K,), those that no set holds at lambda = 0, and the number of images with any.
Start: TypeAlias = "tuple[NDArray[np.uint64], NDArray[np.uint64], int]"

# Fewer say too little: pixels of an image are alike, and so are small images.
_LEAST_IMAGES, _LEAST_PIXELS = 5, 2000
# Of the way from guessing to being always right, on the mean over the classes.
_MOST_GAINED = 0.25
# Smaller sets are empty at many pixels; larger shares of the classes hold most labels by chance.
_SMALLEST, _LARGEST_SHARE = 0.5, 0.5


def holds_top1(score: ConformityScore) -> bool:
    """Whether the most probable class of a pixel is in its set at every lambda."""
    if isinstance(score, LAC | SACP):
        return score.include_top1
    return isinstance(score, APS | RAPS)


def look_unrelated(
    totals: NDArray[np.uint64], held: NDArray[np.uint64], n_images: int, size: float = 1.0
) -> bool:
    """Whether sets, or most probable classes, that hold so many labelled pixels (K,) may be those of other images.

    The most frequent classes, as many as the mean `size` of the sets, taken at every pixel, would hold as many. And of
    the mean class they hold hardly more than by chance: without that, models of rare classes would be suspected, whose
    few false alarms outnumber what they find.
    """
    n_pixels, there = int(totals.sum()), totals > 0
    n_classes = int(there.sum())
    if n_images < _LEAST_IMAGES or n_pixels < _LEAST_PIXELS or n_classes < 2:
        return False
    if not _SMALLEST <= size <= max(1.0, _LARGEST_SHARE * n_classes):
        return False
    if float(held.sum()) > n_pixels * _share_of_guess(totals, size):
        return False
    found, guessed = float(np.mean(held[there] / totals[there])), size / n_classes
    return found - guessed <= _MOST_GAINED * (1 - guessed)


def _share_of_guess(totals: NDArray[np.uint64], size: float) -> float:
    """The share of pixels whose label is among the most frequent classes, of which there may be a fraction."""
    shares = np.sort(totals / totals.sum())[::-1]
    whole = int(size)
    return float(shares[:whole].sum() + (size - whole) * (shares[whole] if whole < len(shares) else 0.0))


def warn_of_unrelated(
    totals: NDArray[np.uint64], held: NDArray[np.uint64], n_images: int, size: float | None = None
) -> None:
    """Warns if `look_unrelated`: most probable classes, or sets if their mean size is given."""
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
        f"{what} at {int(held.sum()) / n_pixels:.1%} of {n_pixels} labelled pixels; {guess} at {guessed:.1%}. Labels "
        "and scores hardly belong together, or the model has learnt nothing: check that labels are not shifted by one "
        "(do they start at 1, or was one removed?), that the channels of X are in the order of the classes, that no "
        "axes are swapped or flipped (H, W, D), and that X and y hold the same images in the same order",
        SuspiciousLabelsWarning,
    )


def warn_of_starts(starts: Sequence[Start], score: ConformityScore) -> None:
    """The same of profiles: what no set holds at lambda = 0 is mispredicted, if the score holds the first class."""
    if not holds_top1(score):
        return
    totals: NDArray[np.uint64] = np.array([totals for totals, *_ in starts], np.uint64).sum(axis=0)
    missed: NDArray[np.uint64] = np.array([missed for _, missed, _ in starts], np.uint64).sum(axis=0)
    warn_of_unrelated(totals, totals - missed, sum(n_images for *_, n_images in starts))


def warn_of_sets(totals: NDArray[np.uint64], missed: NDArray[np.uint64], sizes: NDArray[np.uint64]) -> None:
    """The same of labelled pixels (n, K), of those that sets miss, and of the summed sizes of these sets."""
    sums, n_images = totals.sum(axis=0), int((totals.sum(axis=1) > 0).sum())
    size = int(sizes.sum()) / max(1, int(sums.sum()))
    warn_of_unrelated(sums, sums - missed.sum(axis=0), n_images, size)
