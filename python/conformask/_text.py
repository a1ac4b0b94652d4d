"""Values in messages."""

from __future__ import annotations

from typing import Any

__all__ = ["how_many", "lambda_text", "shown"]

_MOST_CHARACTERS = 60


def shown(value: Any) -> str:
    """A value as it is printed; a long one without its middle."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        text = hex(value) if isinstance(value, int) else f"a {type(value).__name__}"
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[:24]}...{text[-8:]} ({len(text)} characters)"


def how_many(n: int, things: str) -> str:
    """A count with its noun, which is given in the plural."""
    return f"{n:,} {things.removesuffix('s') if n == 1 else things}"


def lambda_text(lam: float) -> str:
    """Lambda with six digits, or its distance from 1 where they would read 1."""
    return f"1 - {1 - lam:.1e}" if lam < 1 and f"{lam:.6g}" == "1" else f"{lam:.6g}"
