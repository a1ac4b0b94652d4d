"""Parts of a large image. One call of NumPy does not hear Ctrl-C, so that none should work for long."""

from __future__ import annotations

import math
from collections.abc import Iterator

__all__ = ["MOST_NUMBERS", "bands"]

# Of one call: 10 ms of the slowest one, an argmax over classes.
MOST_NUMBERS = 2**20


def bands(shape: tuple[int, ...], most: int) -> Iterator[tuple[int | slice, ...]]:
    """Indices of parts of an array, each of at most so many entries, or of one."""
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
