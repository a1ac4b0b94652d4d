"""The number of images from which on a control method allows a mean loss. Floats find it, exact numbers decide."""

from __future__ import annotations

import math
from decimal import Context, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from conformask._units import Units
from conformask.control import CRC, PAC, RCPS, Method
from conformask.control.hb import as_decimal

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MOST_IMAGES", "allowed_risk", "images_allowing"]

MOST_IMAGES = 10**7  # nobody labels more, and up to there floats are exact enough for binomial probabilities
_NEAR = 1e-6  # relative distance to the limit below which floats are not trusted
_RUNS = 4096  # runs that are computed together
_PRECISE = Context(prec=50)


def allowed_risk(method: Method, n: int, alpha: Fraction) -> Fraction:
    """The largest mean loss that n > 0 images may have; negative if n is too small."""
    return method.budget(Units(Fraction(n), n, 0), alpha) / n


def images_allowing(method: Method, alpha: Fraction, risk: Fraction) -> int:
    """The smallest n such that all numbers of images from n on allow the mean loss `risk`, at least 0 and below alpha.

    A binomial law allows a whole number of losses. So the allowed mean loss goes up and down as n grows, and some
    smaller numbers of images may allow `risk`, too. More than MOST_IMAGES are refused, except for CRC.
    """
    if not risk:
        return method.n_needed(alpha)
    if isinstance(method, CRC):
        return math.ceil((1 - alpha) / (alpha - risk))
    if isinstance(method, PAC):
        n = _last_refused(method, alpha, risk, float(method.delta), MOST_IMAGES + 1) + 1
    elif isinstance(method, RCPS) and method.bound == "hb":
        enough = min(_images_of_hoeffding(method, alpha, risk), MOST_IMAGES + 1)
        # Bentkus' bound may allow it before Hoeffding's does.
        n = _last_refused(method, alpha, risk, float(method.delta) / math.e, enough) + 1
    else:
        raise ValueError(
            f"expected_risk is answered for CRC, PAC and RCPS(bound='hb'): leave it out for {method!r}"
        )
    if n > MOST_IMAGES:
        raise ValueError(
            f"expected_risk must be further below alpha={float(alpha):g}: {float(risk):g} needs more than "
            f"{MOST_IMAGES:,} images"
        )
    while allowed_risk(method, n, alpha) < risk:
        n += 1
    return n


def _last_refused(method: Method, alpha: Fraction, risk: Fraction, limit: float, end: int) -> int:
    """The largest n below `end` with ``P(Bin(n, alpha) <= ceil(n risk)) > limit``: the method refuses the risk there.

    All n with the same ``j = ceil(n risk)`` form a run. The probability falls along a run, so the first n of the run
    are refused, or none.
    """
    end = min(end, _surely_allowed(alpha, risk, limit, end))
    last = math.ceil(risk * (end - 1))
    for top in range(last, 0, -_RUNS):
        runs = range(top, max(top - _RUNS, 0), -1)
        starts = np.array([math.floor((j - 1) / risk) + 1 for j in runs])
        refused = _probabilities(starts, np.array(runs), alpha) > limit * (1 - _NEAR)
        for place in np.flatnonzero(refused):
            start, stop = int(starts[place]), min(math.floor(runs[place] / risk), end - 1)
            if _is_refused(method, start, alpha, risk, limit):
                return _last_of_run(method, start, stop, alpha, risk, limit)
    return 0  # no n is refused


def _last_of_run(method: Method, low: int, high: int, alpha: Fraction, risk: Fraction, limit: float) -> int:
    """The largest refused n from `low`, which is refused, to `high`."""
    while low < high:
        middle = (low + high + 1) // 2
        if _is_refused(method, middle, alpha, risk, limit):
            low = middle
        else:
            high = middle - 1
    return low


def _is_refused(method: Method, n: int, alpha: Fraction, risk: Fraction, limit: float) -> bool:
    found = float(_probabilities(np.array([n]), np.array([math.ceil(n * risk)]), alpha)[0])
    if abs(found / limit - 1) > _NEAR:
        return found > limit
    return allowed_risk(method, n, alpha) < risk


def _probabilities(n: NDArray[np.int64], m: NDArray[np.int64], p: Fraction) -> NDArray[np.float64]:
    """``P(Bin(n, p) <= m)`` for each n and m."""
    found = np.ones(len(n))
    inside = m < n
    found[inside] = special.betainc(n[inside] - m[inside], m[inside] + 1.0, float(1 - p))
    return found


def _surely_allowed(alpha: Fraction, risk: Fraction, limit: float, end: int) -> int:
    """A number of images, at most `end`, from which on ``P(Bin(n, alpha) <= ceil(n risk)) <= limit``.

    It follows from the bound of Zubkov and Serov (2013, doi:10.1137/S0040585X97986138) for m = ceil(n risk), which is
    Phi(sgn(x - alpha) sqrt(2 n h(x, alpha))) with x = (m + 1) / n. At x = risk + 2 / n, which is at least as large, the
    bound falls as n grows.
    """
    p, r = float(alpha), float(risk)

    def is_sure(n: int) -> bool:
        x = r + 2 / n
        if x >= 1:
            return False
        # h is 0 at x = p, where rounding may make it negative.
        h = special.rel_entr(x, p) + special.rel_entr(1 - x, 1 - p)
        return bool(special.ndtr(math.copysign(math.sqrt(max(0.0, 2 * n * h)), x - p)) <= limit * (1 - _NEAR))

    low, high = 1, end
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_sure(middle) else (middle + 1, high)
    return high


def _images_of_hoeffding(method: RCPS, alpha: Fraction, risk: Fraction) -> int:
    """The smallest n with ``exp(-n h(risk, alpha)) <= delta``."""
    with localcontext(_PRECISE):
        r, p = as_decimal(risk), as_decimal(alpha)
        h = r * (r / p).ln() + (1 - r) * ((1 - r) / (1 - p)).ln()
        return math.ceil(-as_decimal(Fraction(str(method.delta))).ln() / h)
