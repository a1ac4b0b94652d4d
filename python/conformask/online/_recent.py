"""The last numbers of a sequence that grows."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Recent"]


class Recent:
    """The last numbers of a sequence, at most so many; None: all.

    It does not change: adding a number gives another, which shares the memory of this one. Only the newest may grow in
    place. From any other, such as that of a copy, or of an update that failed, adding begins with a copy.
    """

    __slots__ = ("_most", "_stop", "_values")

    def __init__(self, most: int | None, values: Iterable[float] = ()) -> None:
        self._most, self._values = most, array("d", values)
        self._stop = len(self._values)

    def __len__(self) -> int:
        return self._stop if self._most is None else min(self._stop, self._most)

    def __getitem__(self, index: int) -> float:
        """The number at a place from 0, the oldest."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._values[self._stop - len(self) + index]

    def add(self, value: float) -> Recent:
        """The same with a number at the end."""
        values = self._values
        # What is too old goes when it is as much as the rest: a number costs the same on average, however many stay.
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
