"""Conformal p-values of a sequence: where each number ranks among all up to it."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Seen", "tie_breaks"]


class Seen:
    """Numbers in the order in which they came, and sorted.

    It is immutable: adding a number gives another object, which shares the memory of this one. Only the newest object
    grows in place. Adding to any other, such as a copy, or the state before an interrupted update, copies the memory.
    """

    __slots__ = ("_arrived", "_n", "_sorted")

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._arrived = array("d", values)
        self._sorted, self._n = array("d", sorted(self._arrived)), len(self._arrived)

    def __len__(self) -> int:
        return self._n

    def rank(self, value: float, u: float) -> tuple[float, Seen]:
        """The smoothed p-value of the next number, with u in (0, 1] to break ties, and the numbers including it."""
        seen = self if len(self._arrived) == len(self._sorted) == self._n else Seen(self._arrived[: self._n])
        below, above = bisect_left(seen._sorted, value), bisect_right(seen._sorted, value)
        n = seen._n + 1
        p = ((n - 1 - above) + u * (above - below + 1)) / n
        seen._arrived.append(value)
        insort(seen._sorted, value)
        fresh = Seen()
        fresh._arrived, fresh._sorted, fresh._n = seen._arrived, seen._sorted, n
        return p, fresh

    def to_numpy(self) -> NDArray[np.float64]:
        """The numbers in the order in which they came."""
        return np.array(self._arrived[: self._n], np.float64)


def tie_breaks(key: int, first: int, n: int) -> NDArray[np.float64]:
    """The uniform numbers in (0, 1] at the places first, first + 1, ... of the sequence of a key.

    Number i comes from the upper 53 of the first 64 bits of ``numpy.random.Philox(key=key, counter=i)``. So it does not
    depend on how many numbers are asked for at once.
    """
    # A block of the generator has four numbers, and each place uses a block of its own.
    bits = np.random.Philox(key=key, counter=first).random_raw(4 * n)[::4]
    return np.asarray((bits >> np.uint64(11)) + np.uint64(1), np.float64) * 2.0**-53
