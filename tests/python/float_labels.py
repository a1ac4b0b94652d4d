"""Labels as floats, as many programs write them: what every reader of labels takes, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

__all__ = ["DTYPES", "LARGE", "WRONG", "refusal", "with_one"]

DTYPES = ("float16", "float32", "float64", ">f8")
LARGE = 2.0**40  # no class, but a whole number, which may mark void pixels

# Floats that are no labels. The last ones are whole numbers, of which no integer is large enough.
WRONG = (1.5, -0.5, np.nan, np.inf, -np.inf, 2.0**63, -1e30)


def refusal(bad: float, *place: int, between: str = "") -> str:
    """The end of the message that refuses one at a pixel, as a regular expression; at any, if none is named."""
    found = "NaN" if np.isnan(bad) else re.escape(f"{bad:g}")
    pixel = ", ".join(map(str, place)) or r"[\d, ]+"
    return rf"and {found}{between}.* at pixel \({pixel}\)"


def with_one(labels: NDArray[np.integer], bad: float, *place: int) -> NDArray[np.floating]:
    """Labels as floats, with another number at one place."""
    found = labels.astype(np.float64)
    found[place] = bad
    return found
