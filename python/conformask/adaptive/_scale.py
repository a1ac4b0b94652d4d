"""The scale on which thresholds are trained and corrected."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["SCALES", "Scale"]


class Scale(ABC):
    """A non-decreasing map of probabilities to numbers in [0, 1]."""

    @abstractmethod
    def of_thresholds(self, thresholds: Array) -> Array:
        """Thresholds (n,) of probability as numbers of the scale."""

    @abstractmethod
    def of_values(self, core: _core.BinaryValues) -> _core.BinaryValues:
        """The kept values of images, with numbers of the scale instead of probabilities below 1."""

    @abstractmethod
    def cutoffs(self, cutoffs: Array) -> Array:
        """The smallest probabilities (n,) whose numbers are at or above cutoffs; 1 if only probability 1 is."""


class _Probability(Scale):
    """Probabilities themselves."""

    def of_thresholds(self, thresholds: Array) -> Array:
        return thresholds

    def of_values(self, core: _core.BinaryValues) -> _core.BinaryValues:
        return core

    def cutoffs(self, cutoffs: Array) -> Array:
        return cutoffs


_BITS = 16  # the scale ends at odds of 2^16 and 2^-16
_ENDS = 2.0**-_BITS, 1 - 2.0**-_BITS
_BELOW_1 = np.nextafter(np.float32(1), np.float32(0))


class _LogOdds(Scale):
    """Logarithms of odds, from 2^-16 to 2^16.

    The logarithms of p and of 1 - p are interpolated linearly between powers of two. So no library's rounded logarithm
    is needed, and the scale never falls.
    """

    def numbers(self, p: NDArray[Any]) -> NDArray[np.float32]:
        """The numbers of probabilities, all below 1."""
        q = np.clip(p.astype(np.float64), *_ENDS)
        found: NDArray[np.float32] = ((_log2(q) - _log2(1 - q)) / (2 * _BITS) + 0.5).astype(np.float32)
        return np.clip(found, 0, _BELOW_1, out=found)

    def of_thresholds(self, thresholds: Array) -> Array:
        found: Array = self.numbers(thresholds).astype(np.float64)
        return np.where(thresholds >= 1, 1.0, found)

    def of_values(self, core: _core.BinaryValues) -> _core.BinaryValues:
        totals, said, lengths, values = core.to_arrays()
        return _core.BinaryValues.from_arrays("foreground", totals, said, lengths, self.numbers(values))

    def cutoffs(self, cutoffs: Array) -> Array:
        # Non-negative floats are ordered like their bits, so a bisection on bits finds the smallest float exactly.
        low, high = np.zeros(len(cutoffs), np.int64), np.full(len(cutoffs), _bits(np.ones(1))[0])
        while (low < high).any():
            middle = (low + high) // 2
            is_in = self.numbers(middle.view(np.float64)) >= cutoffs
            low, high = np.where(is_in | (low == high), low, middle + 1), np.where(is_in, middle, high)
        return high.view(np.float64)


def _bits(p: Array) -> NDArray[np.int64]:
    return np.ascontiguousarray(p).view(np.int64)


def _log2(p: Array) -> Array:
    """The binary logarithm, interpolated between powers of two, read from a float's exponent and mantissa."""
    found: Array = _bits(p).astype(np.float64) * 2.0**-52 - 1023
    return found


SCALES: dict[str, Scale] = {"log_odds": _LogOdds(), "probability": _Probability()}
