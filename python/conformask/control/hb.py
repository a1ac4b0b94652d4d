"""Bounds that depend on the sum of losses: Hoeffding, Bentkus, and the exact binomial law behind them."""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

from scipy import special

__all__ = ["as_decimal", "binomial_limit", "hb_budget", "hb_limit", "images_of_no_loss", "last_binomial"]

# Decimals have 50 digits: the sum of a million of them is right to more than 30.
_PRECISE = Context(prec=50, Emax=MAX_EMAX, Emin=MIN_EMIN)
_NEAR = Decimal("1e-30")
_GRID = 2**40


@lru_cache(maxsize=1024)  # a call takes some milliseconds, and is repeated for splits, levels and classes
def hb_budget(n: int, alpha: Fraction, delta: Fraction) -> Fraction:
    """The largest sum of n losses whose Hoeffding-Bentkus p-value is at most delta; negative if there is none."""
    if n < images_of_no_loss(alpha, delta):
        return Fraction(-1)
    # It is enough that one of the two p-values is small.
    bentkus = last_binomial(n, alpha, delta, times_e=True)
    return max(Fraction(bentkus), _last_hoeffding(n, alpha, delta))


def hb_limit(risk: float, n: int, delta: float) -> float:
    """The smallest alpha at which a mean of n losses has a Hoeffding-Bentkus p-value of at most delta."""
    if not n:
        return 1.0
    # A sum that exceeds a whole number by rounding only counts as this number.
    bentkus = binomial_limit(math.ceil(risk * n * (1 - 1e-12)), n, delta / math.e)
    return min(bentkus, _hoeffding_limit(risk, n, delta))


def images_of_no_loss(alpha: Fraction, delta: Fraction) -> int:
    """How many losses of 0 are enough evidence: the smallest n with ``(1 - alpha)^n <= delta``."""
    covered = 1 - alpha
    with localcontext(_PRECISE):
        quotient = as_decimal(delta).ln() / as_decimal(covered).ln()
        nearest = int(quotient.to_integral_value())
        if abs(quotient - nearest) > _NEAR:
            return math.ceil(quotient)
    return nearest if covered**nearest <= delta else nearest + 1


def as_decimal(number: Fraction) -> Decimal:
    """A fraction as a decimal, in the precision of the context."""
    return Decimal(number.numerator) / Decimal(number.denominator)


@lru_cache(maxsize=1024)
def last_binomial(n: int, p: Fraction, limit: Fraction, times_e: bool = False) -> int:
    """The largest m with ``P(Bin(n, p) <= m) <= limit``, or e times as much; -1 if there is none."""
    with localcontext(_PRECISE):
        odds, level, below = as_decimal(p / (1 - p)), as_decimal(limit), Decimal(0)
        term = (n * as_decimal(1 - p).ln() + int(times_e)).exp()
        for m in range(n + 1):
            below += term
            if below > level * (1 + _NEAR):
                return m - 1
            # Only equal numbers are this close. With the factor e, which is irrational, they never are.
            if below > level * (1 - _NEAR) and not (not times_e and _binomial(n, p, m) <= limit):
                return m - 1
            term *= odds * (n - m) / (m + 1)
    return n


def _binomial(n: int, p: Fraction, m: int) -> Fraction:
    """``P(Bin(n, p) <= m)``, exactly."""
    hit, whole = p.numerator, p.denominator
    ways = sum(math.comb(n, i) * hit**i * (whole - hit) ** (n - i) for i in range(m + 1))
    return Fraction(ways, whole**n)


def _last_hoeffding(n: int, p: Fraction, limit: Fraction) -> Fraction:
    """The largest s with ``exp(-n h(s / n, p)) <= limit``, rounded down to the grid. The caller knows that 0 is one."""
    mean = n * p
    with localcontext(_PRECISE):
        needed = n * _NEAR - as_decimal(limit).ln()

        def passes(s: Fraction) -> bool:
            hit, miss = as_decimal(s), as_decimal(n - s)
            return hit * (hit / as_decimal(mean)).ln() + miss * (miss / as_decimal(n - mean)).ln() >= needed

        low, high = 0, math.floor(mean * _GRID) + 1  # sums above the mean are no evidence
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if passes(Fraction(middle, _GRID)) else (low, middle)
    return Fraction(low, _GRID)


def binomial_limit(m: int, n: int, delta: float) -> float:
    """The p at which ``P(Bin(n, p) <= m) = delta``."""
    return 1.0 if m >= n else float(special.betainccinv(m + 1, n - m, delta))


def _hoeffding_limit(risk: float, n: int, delta: float) -> float:
    """The p above `risk` at which ``exp(-n h(risk, p)) = delta``."""
    low, high = risk, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        evidence = n * (special.rel_entr(risk, middle) + special.rel_entr(1 - risk, 1 - middle))
        low, high = (low, middle) if evidence >= -math.log(delta) else (middle, high)
    return high
