"""Parameters as the decimals that people write; shares, and means that are correctly rounded."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from numbers import Rational, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._text import shown

__all__ = [
    "as_fraction",
    "as_plain",
    "check_alpha",
    "check_lambda",
    "check_share",
    "covered_share",
    "effective_size",
    "exact_mean",
    "exact_means",
    "exact_sum",
    "number_from_json",
    "number_to_json",
    "per_pixel",
    "share_of",
    "tolerated",
]

_MOST_DIGITS = 1000
_FRACTION = re.compile(rf"-?\d{{1,{_MOST_DIGITS}}}(/0*[1-9]\d{{0,{_MOST_DIGITS - 1}}})?", re.ASCII)

_SMALLEST_EXPONENT = 1074  # floats are whole multiples of 2^-1074

# An accuracy that is below the minimum by no more than this counts as reaching it.
_TOLERANCE = Fraction(1, 10**12)


def as_fraction(value: object, name: str) -> Fraction:
    """The number that the shortest decimal of `value` means: 0.7 is 7/10, not the float64 next to it."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real | np.floating):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    if isinstance(value, Rational):
        return Fraction(value)
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {shown(value)}")
    return Fraction(str(value))


def as_plain(value: object, name: str) -> float | Fraction:
    """A number as Python's own float of the same decimal; a fraction stays what it is."""
    fraction = as_fraction(value, name)
    if isinstance(value, Fraction):
        return value
    try:
        return float(fraction)
    except OverflowError:
        raise ValueError(f"{name} is too large for a float: {value!r}") from None


def share_of(parts: ArrayLike, wholes: ArrayLike) -> NDArray[np.float64]:
    """Parts of wholes as float64, NaN of nothing."""
    numerators, denominators = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    shares = np.full(np.broadcast_shapes(numerators.shape, denominators.shape), np.nan)
    np.divide(numerators, denominators, out=shares, where=denominators > 0)
    return shares


def per_pixel(sums: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Sums (n,) per labelled pixel; NaN for an image without one."""
    return share_of(sums, totals.sum(axis=1))


def covered_share(missed: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Share of labelled pixels that are covered, (n,); NaN for an image without one."""
    return per_pixel((totals - missed).sum(axis=1), totals)


def exact_mean(values: NDArray[np.float64]) -> float:
    """The mean of what is not NaN, from the correctly rounded sum: the same for any order."""
    defined = values[~np.isnan(values)]
    return math.fsum(defined.tolist()) / len(defined) if len(defined) else math.nan


def exact_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of what is not NaN in each of K columns (n, K), as :func:`exact_mean`."""
    known = ~np.isnan(values)
    sums = [math.fsum(column) for column in np.where(known, values, 0.0).T.tolist()]
    return share_of(sums, known.sum(axis=0))


def exact_sum(losses: NDArray[np.float64], shares: Sequence[Fraction] | None) -> Fraction:
    """``sum(share * loss)``, exactly; a share of 1 each by default."""
    # There are few different shares. For each of them, floats are summed exactly, as multiples of the smallest float.
    sums: dict[Fraction, int] = {}
    for share, loss in zip(
        [Fraction(1)] * len(losses) if shares is None else shares, losses.tolist(), strict=True
    ):
        numerator, denominator = loss.as_integer_ratio()
        whole = numerator << _SMALLEST_EXPONENT + 1 - denominator.bit_length()
        sums[share] = sums.get(share, 0) + whole
    total = sum((share * whole for share, whole in sums.items()), Fraction())
    return Fraction(total, 2**_SMALLEST_EXPONENT)


def effective_size(weights: Sequence[float]) -> float:
    """``(sum w)^2 / sum w^2`` of finite weights of at least 0, correctly rounded; 0 where all are 0."""
    ratios = [weight.as_integer_ratio() for weight in weights]
    most = max((denominator.bit_length() for _, denominator in ratios), default=1)
    # As whole multiples of one power of two: nothing overflows, and small weights lose nothing beside large ones.
    wholes = [numerator << most - denominator.bit_length() for numerator, denominator in ratios]
    squares = sum(whole * whole for whole in wholes)
    return sum(wholes) ** 2 / squares if squares else 0.0


def number_to_json(number: object) -> dict[str, str]:
    """A fraction as JSON, which has no fractions."""
    if not isinstance(number, Fraction):
        raise TypeError(f"{number!r} cannot be saved")
    text = str(number)
    if not _FRACTION.fullmatch(text):
        raise ValueError(
            f"a fraction of {len(text)} digits cannot be saved: at most {_MOST_DIGITS} above and below"
        )
    return {"fraction": text}


def number_from_json(value: Any) -> Any:
    """The inverse of :func:`number_to_json`; anything else as it is."""
    if not (isinstance(value, dict) and value.keys() == {"fraction"}):
        return value
    text = value["fraction"]
    # Fraction would take other texts too: 1e-30000000 is short, but means a huge number of digits.
    if not isinstance(text, str) or not _FRACTION.fullmatch(text):
        raise ValueError(f"{str(text)[:40]!r} is no fraction such as 9/10")
    return Fraction(text)


def tolerated(min_accuracy: Fraction) -> Fraction:
    """What an accuracy must be to reach a minimum: 5 of 6 reach 0.8333333333333334."""
    return max(min_accuracy - _TOLERANCE, Fraction(0))


def check_alpha(alpha: object) -> Fraction:
    """`alpha` as a fraction in (0, 1)."""
    if isinstance(alpha, list | tuple | set | range | np.ndarray) and np.ndim(list(alpha)) == 1:
        raise TypeError(
            f"alpha must be a number, got {shown(alpha)}: calibrate at one level; recalibrate(alpha=...) then takes "
            "another without the maps, and evaluate(alphas=[...]) of ConformalRiskCalibrator reports on several"
        )
    fraction = as_fraction(alpha, "alpha")
    if not 0 < fraction < 1:
        raise ValueError(f"alpha must be in (0, 1), got {shown(alpha)}")
    return fraction


def check_share(share: object, name: str) -> Fraction:
    """`share` as a fraction in (0, 1]."""
    fraction = as_fraction(share, name)
    if not 0 < fraction <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {shown(share)}")
    return fraction


def check_lambda(lam: object) -> float:
    """`lam` as a float, at least 0."""
    try:
        value = float(lam)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"lam must be a number, got {shown(lam)}") from None
    except OverflowError:
        value = math.inf if lam > 0 else -math.inf  # type: ignore[operator]
    if not value >= 0:
        raise ValueError(f"lam must be at least 0, got {shown(lam)}")
    return value
