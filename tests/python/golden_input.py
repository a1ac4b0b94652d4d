"""Input whose bits are the same on every machine and with every NumPy.

It is made of integers of a fixed Philox stream by sums, products, divisions and roundings alone.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Numbers:
    """Random integers that belong to a name."""

    def __init__(self, name: str) -> None:
        self._bits = np.random.Philox(key=zlib.crc32(name.encode()))

    def integers(self, shape: tuple[int, ...], high: int) -> NDArray[np.int64]:
        """From 0 to high - 1."""
        raw = self._bits.random_raw(math.prod(shape)) % np.uint64(high)
        return raw.astype(np.int64).reshape(shape)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.integers((1,), len(choices))[0])]


def maps(numbers: Numbers, shape: tuple[int, ...], inputs: str, dtype: str, coarse: bool) -> NDArray:
    """Probabilities, logits or scores (n, K, ...). In coarse ones many values are equal.

    Logits of a pixel lie less than 60 apart.
    """
    if inputs == "logits":
        raw = numbers.integers(shape, 9) - 4 if coarse else numbers.integers(shape, 2001) - 1000
        return (raw if coarse else raw * raw * raw / 2**25).astype(dtype)
    raw = numbers.integers(shape, 4 if coarse else 1001)
    raw = raw if coarse else raw * raw * raw
    raw[:, 0] += raw.sum(axis=1) == 0
    divisor = raw.sum(axis=1, keepdims=True) if inputs == "probabilities" else 2**16
    return (raw / divisor).astype(dtype)


def labels(numbers: Numbers, X: NDArray, void: int = 255) -> NDArray[np.integer]:
    """The argmax at every other pixel, else any class; one of 10 is void, and so is all of image 3."""
    y = X.astype(np.float64).argmax(axis=1)
    y = np.where(numbers.integers(y.shape, 2) < 1, y, numbers.integers(y.shape, X.shape[1]))
    y = np.where(numbers.integers(y.shape, 10) < 1, void, y)
    y[3:4] = void
    return y.astype(numbers.pick(["int16", "int32", "int64"] if void < 0 else ["uint8", "int32", "uint64"]))


LAYOUTS: dict[str, Callable[[NDArray], NDArray]] = {
    "C": lambda X: X,
    "channels last": lambda X: np.moveaxis(np.ascontiguousarray(np.moveaxis(X, 1, -1)), -1, 1),
    "strided": lambda X: np.repeat(X[::-1, ..., ::-1], 2, axis=-1)[::-1, ..., ::-2],
}
DTYPES, INPUTS = ("float16", "float32", "float64"), ("probabilities", "logits", "scores")
SIZES = ((9, 7), (2, 5, 6), (21, 65), (1, 200))
CLASSES = (2, 3, 5, 11)


def problem(
    numbers: Numbers,
    n: int = 30,
    *,
    inputs: str = "probabilities",
    dtype: str | None = None,
    size: tuple[int, ...] | None = None,
    n_classes: int | None = None,
) -> tuple[NDArray, NDArray]:
    """Maps and labels; what is not given is drawn."""
    shape = (n, n_classes or numbers.pick(CLASSES), *(size or numbers.pick(SIZES)))
    X = maps(numbers, shape, inputs, dtype or numbers.pick(DTYPES), numbers.pick((True, False)))
    return LAYOUTS[numbers.pick(tuple(LAYOUTS))](X), labels(numbers, X)


def masks(numbers: Numbers, n: int, n_classes: int, size: tuple[int, ...], empty: bool = False) -> NDArray:
    sets = numbers.integers((n, n_classes, *size), 5) < 2
    sets[:, 1] |= ~sets.any(axis=1) & (not empty)
    return sets


def fields(
    numbers: Numbers,
    n: int,
    dtype: str,
    n_samples: int = 6,
    n_classes: int = 3,
    size: int = 8,
    modes: int = 4,
) -> tuple[NDArray, NDArray]:
    """Samples (n, S, K, H, W) and labels (n, H, W): a field and random modes, all smooth, and one more draw."""
    knots, cells = 4, size - 1
    weights = np.zeros((size, knots), np.int64)  # linear interpolation between knots
    for i in range(size):
        knot, rest = divmod(i * (knots - 1), cells)
        weights[i, knot] = cells - rest
        weights[i, min(knot + 1, knots - 1)] += rest

    def smooth(*shape: int) -> NDArray[np.int64]:
        return weights @ (numbers.integers((*shape, n_classes, knots, knots), 2001) - 1000) @ weights.T

    base, patterns, noise = smooth(n, 1), smooth(n, modes), smooth(n, n_samples + 1)
    amounts = numbers.integers((n, n_samples + 1, modes), 201) - 100
    draws = 200 * base + np.einsum("nsm,nmkhw->nskhw", amounts, patterns) + 4 * noise
    y = draws[:, -1].argmax(axis=1)
    return (draws[:, :-1] / 2**21).astype(dtype), np.where(numbers.integers(y.shape, 20) < 1, 255, y)
