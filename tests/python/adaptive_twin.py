"""Family 4 as it is written: slow, in exact fractions, float64 differences as the definition says."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def critical(offset: float, p: float, side: str = "foreground") -> float:
    """The t from which on a pixel is right; -1 if it always is."""
    if side == "foreground":
        return -1.0 if p >= 1 else float(np.float64(offset) - np.float64(p))
    return -1.0 if p <= 0 else float(np.float64(p) - np.float64(offset))


def loss(pixels: Sequence[float], offset: float, t: float, side: str = "foreground") -> Fraction:
    """The share of pixels that are wrong at t."""
    return Fraction(sum(critical(offset, p, side) > t for p in pixels), len(pixels))


def correction(
    images: Sequence[Sequence[float]],
    offsets: Sequence[float],
    budget: Fraction,
    shares: Sequence[Fraction] | None = None,
    side: str = "foreground",
) -> float | None:
    """The smallest t of all candidates whose summed loss is within the budget."""
    if budget < 0:
        return None
    shares = [Fraction(1)] * len(images) if shares is None else shares
    found = zip(images, offsets, strict=True)
    candidates = {-1.0, *(critical(offset, p, side) for pixels, offset in found for p in pixels)}
    for t in sorted(candidates):
        losses = (
            share * loss(pixels, offset, t, side)
            for share, pixels, offset in zip(shares, images, offsets, strict=True)
            if len(pixels)
        )
        if sum(losses, Fraction()) <= budget:
            return t
    raise AssertionError("at the largest candidate nothing is wrong")


def is_in(P: NDArray, offset: float, t: float, side: str = "foreground") -> NDArray[np.bool_]:
    """The mask of an image."""
    p = P.astype(np.float64)
    return (p >= 1) | (offset - p <= t) if side == "foreground" else (p > 0) & (p - offset > t)


def pixels_of(P: NDArray, y: NDArray, side: str = "foreground") -> list[list[float]]:
    """The probabilities of the pixels that count, image by image."""
    code = int(side == "foreground")
    return [p.astype(np.float64)[labels == code].tolist() for p, labels in zip(P, y, strict=True)]
