"""Parts of a large image. Ctrl-C cannot interrupt a call of NumPy, so no call should take long."""

from __future__ import annotations

import math
from collections.abc import Iterator

__all__ = ["MOST_NUMBERS", "bands"]

# Numbers that one call looks at: the slowest call, an argmax over classes, then takes 10 ms.
MOST_NUMBERS = 2**20


def bands(shape: tuple[int, ...], most: int) -> Iterator[tuple[int | slice, ...]]:
    """Indices of parts of an array, each of at most `most` entries (at least one entry)."""
    length, *others = shape
    n_others = math.prod(others)
    if others and n_others > most:
        for place in range(length):
            for band in bands(tuple(others), most):
                yield place, *band
        return
    step = max(1, most // max(1, n_others))
    for first in range(0, length, step):
        yield (slice(first, first + step),)
