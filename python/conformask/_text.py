"""Values in messages."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["lambda_text", "plural", "shown"]

_MOST_CHARACTERS = 60


def plural(n: int, noun: str) -> str:
    """A number of things: 1 image, 2 images, 2 classes, 2 entries, 2 strata."""
    if n != 1 and noun.endswith("um"):
        noun = noun.removesuffix("um") + "a"
    elif n != 1:
        noun = noun.removesuffix("y") + ("ies" if noun.endswith("y") else "es" if noun.endswith("s") else "s")
    return f"{n} {noun}"


def shown(value: Any) -> str:
    """A value as it is printed; a long one without its middle."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        text = hex(value) if isinstance(value, int) else f"a {type(value).__name__}"
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[:24]}...{text[-8:]} ({len(text)} characters)"


def lambda_text(lam: float) -> str:
    """Lambda with six digits, or its distance from 1 if they would read 1; NaN means that images have their own."""
    if math.isnan(lam):
        return "of their own"
    return f"1 - {1 - lam:.1e}" if lam < 1 and f"{lam:.6g}" == "1" else f"{lam:.6g}"
