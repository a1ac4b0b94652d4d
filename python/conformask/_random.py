"""Random states as keys of counter-based random numbers."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from conformask._text import shown

__all__ = ["RandomState", "as_generator", "check_key"]

RandomState: TypeAlias = int | np.random.Generator | np.random.RandomState | None

_KEYS = 2**128


def check_key(random_state: object) -> int:
    """A key below 2^128: the int itself, or one that the generator draws."""
    if random_state is None:
        random_state = np.random.default_rng()
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**63, dtype=np.uint64))
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer):
        raise TypeError(f"random_state must be an int, a generator or None, got {shown(random_state)}")
    if not 0 <= random_state < _KEYS:
        raise ValueError(f"random_state must be at least 0 and below 2**128, got {shown(random_state)}")
    return int(random_state)


def as_generator(random_state: RandomState) -> np.random.Generator:
    """The generator itself, or one that follows from the state."""
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    return np.random.default_rng(random_state)
