"""The last numbers of a sequence that grows."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Recent"]


class Recent:
    """The last numbers of a sequence, at most `most` of them; None keeps all.

    It is immutable: adding a number gives another object, which shares the memory of this one. Only the newest object
    grows in place. Adding to any other, such as a copy, or the state before a failed update, copies the memory.
    """

    __slots__ = ("_most", "_stop", "_values")

    def __init__(self, most: int | None, values: Iterable[float] = ()) -> None:
        self._most, self._values = most, array("d", values)
        self._stop = len(self._values)

    def __len__(self) -> int:
        return self._stop if self._most is None else min(self._stop, self._most)

    def __getitem__(self, index: int) -> float:
        """The number at an index; index 0 is the oldest."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._values[self._stop - len(self) + index]

    def add(self, value: float) -> Recent:
        """The same with a number at the end."""
        values = self._values
        # Old numbers are dropped when they are as many as those kept. So the mean cost of adding one is constant.
        is_full = self._most is not None and self._stop >= 2 * self._most
        if len(values) != self._stop or is_full:
            values = self._kept()
        values.append(value)
        fresh = Recent(self._most)
        fresh._values, fresh._stop = values, len(values)
        return fresh

    def at_most(self, most: int | None) -> Recent:
        """The same with another limit."""
        return self if most == self._most else Recent(most, self._kept())

    def to_numpy(self) -> NDArray[np.float64]:
        """The numbers, oldest first."""
        return np.array(self._kept(), np.float64)

    def _kept(self) -> array[float]:
        return self._values[self._stop - len(self) : self._stop]
