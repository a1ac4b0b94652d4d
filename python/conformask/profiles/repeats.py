"""Images that come twice. They would count twice, and the guarantee, which is for different images, would not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conformask._text import plural
from conformask._warnings import warn_caller
from conformask.exceptions import DuplicateImagesWarning

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["warn_of_repeats"]

_MOST_NAMED = 3


_OF_SETS = "the guarantee, which is for different images, does not hold"


def warn_of_repeats(
    pairs: Sequence[tuple[int, int]],
    n_images: int,
    *,
    named: bool = True,
    harm: str = _OF_SETS,
    alike: str = "labels and scores",
) -> None:
    """Warns of images that came before, if there are any.

    Parameters
    ----------
    pairs : sequence of pairs of ints
        An image, and its repeat.
    n_images : int
        The number of images.
    named : bool, default=True
        Whether the numbers in `pairs` are those of the images.
    harm : str
        What comes of it.
    alike : str
        What is the same.
    """
    if not pairs:
        return
    if named:
        said = ", ".join(f"{first} and {again}" for first, again in pairs[:_MOST_NAMED])
        n_more = len(pairs) - _MOST_NAMED
        more = f" (and {plural(n_more, 'more pair')})" if n_more > 0 else ""
        which = f"images {said}{more} of {n_images} are the same"
    else:
        which = f"{len(pairs)} of {plural(n_images, 'image')} came before"
    warn_caller(
        f"{which}: they have identical {alike}. They count twice, and {harm}. Give every image once; several "
        "epochs of a data loader and overlapping parts of workers repeat images",
        DuplicateImagesWarning,
    )
