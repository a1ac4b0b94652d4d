"""Bets against a hypothesis, under which the wealth is a martingale or a supermartingale. It starts at 1, in logs.

Bets are immutable: another number gives another bet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from scipy import special

from conformask._documents import finite_or_text

__all__ = ["Adaptive", "Bet", "Fixed", "Jumper", "Power"]


class Bet(Protocol):
    """A bet in progress."""

    @property
    def log_wealth(self) -> float:
        """The logarithm of the wealth."""

    def after(self, value: float) -> Bet:
        """The bet after one more number: a p-value, or a loss."""

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""


# Rates that suit an hour of video, and a few images.
_RATES = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Jumper:
    r"""The mean of simple jumpers, by their rates J: each bets :math:`1 + \epsilon (p - 1/2)`.

    Its wealth lies in shares on the slopes -1, 0 and 1, and before each bet the part J of it is spread evenly. Slopes
    integrate to 1 over (0, 1), so that the wealth is a martingale for independent uniform p-values.
    """

    logs: tuple[float, ...] = (0.0,) * len(_RATES)
    shares: tuple[tuple[float, float, float], ...] = ((1 / 3, 1 / 3, 1 / 3),) * len(_RATES)  # down, flat, up

    @property
    def log_wealth(self) -> float:
        most = max(self.logs)
        return most + math.log(math.fsum(math.exp(log - most) for log in self.logs) / len(self.logs))

    def after(self, value: float) -> Jumper:
        logs, shares, off = [], [], value - 0.5
        for rate, log, (down, flat, up) in zip(_RATES, self.logs, self.shares, strict=True):
            kept, spread = 1 - rate, rate / 3
            down, flat, up = (
                (kept * down + spread) * (1 - off),
                kept * flat + spread,
                (kept * up + spread) * (1 + off),
            )
            total = down + flat + up
            logs.append(log + math.log(total))
            shares.append((down / total, flat / total, up / total))
        return Jumper(tuple(logs), tuple(shares))

    def to_json(self) -> dict[str, Any]:
        return {"logs": list(self.logs), "shares": [list(share) for share in self.shares]}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Jumper:
        """The bet in a file; refuses shares that are no wealth."""
        logs = tuple(map(_number, found["logs"]))
        shares = tuple((_number(down), _number(flat), _number(up)) for down, flat, up in found["shares"])
        if not len(logs) == len(shares) == len(_RATES):
            raise ValueError("the bet has other rates")
        for share in shares:
            if min(share) < 0 or abs(math.fsum(share) - 1) > 1e-9:
                raise ValueError(f"the shares of a bet are {share}")
        return cls(logs, shares)


@dataclass(frozen=True)
class Power:
    r"""The mixture of power martingales, :math:`\int_0^1 \prod_i \epsilon p_i^{\epsilon - 1} d\epsilon`.

    With n p-values and :math:`a = -\sum \ln p_i` it is :math:`e^a a^{-n-1} \gamma(n + 1, a)`, by the lower incomplete
    gamma function.
    """

    n: int = 0
    log_sum: float = 0.0  # the sum of the logarithms of p-values, at most 0

    @property
    def log_wealth(self) -> float:
        s, a = self.n + 1, -self.log_sum
        if a >= s:  # here the regularised function is about a half or more
            log_gamma = float(special.gammaln(s)) + math.log(float(special.gammainc(s, a)))
            return a - s * math.log(a) + log_gamma
        # The function may be too small for a float. So sum the series a^k / (s (s + 1) ... (s + k)), whose terms fall.
        term = total = 1 / s
        k = 0
        while term > 1e-17 * total:
            k += 1
            term *= a / (s + k)
            total += term
        return math.log(total)

    def after(self, value: float) -> Power:
        return Power(self.n + 1, self.log_sum + math.log(value))

    def to_json(self) -> dict[str, Any]:
        return {"n": self.n, "log_sum": self.log_sum}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Power:
        """The bet in a file; refuses an invalid sum."""
        n, log_sum = found["n"], _number(found["log_sum"])
        if type(n) is not int or n < 0 or log_sum > 0 or (n == 0 and log_sum):
            raise ValueError(f"the sum of a bet is {log_sum!r} after {n!r} p-values")
        return cls(n, log_sum)


@dataclass(frozen=True)
class Fixed:
    r"""A bet with a fixed stake :math:`\nu` on losses above alpha: wealth grows by :math:`1 + \nu (L - \alpha)`."""

    alpha: float
    part: float
    n: int = 0
    log_wealth: float = 0.0

    def after(self, value: float) -> Fixed:
        grown = self.log_wealth + _log_growth(self.part, value, self.alpha)
        return Fixed(self.alpha, self.part, self.n + 1, grown)

    def to_json(self) -> dict[str, Any]:
        return {"n": self.n, "log_wealth": finite_or_text(self.log_wealth)}

    @classmethod
    def from_json(cls, found: dict[str, Any], alpha: float, part: float) -> Fixed:
        """The bet in a file."""
        return cls(alpha, part, found["n"], _wealth(found["log_wealth"]))


# The number of losses that the adaptive bet remembers, and the largest share of the possible stake that it bets.
_MEMORY = 100
_BOLDNESS = 0.5


@dataclass(frozen=True)
class Adaptive:
    r"""A bet whose stake follows the past losses: it is about the stake with the fastest growth of wealth.

    .. math:: \nu = \min \Big( \frac{(\hat\mu - \alpha)_+}{\hat\sigma^2 + (\hat\mu - \alpha)^2},
        \frac{1}{2 \alpha} \Big)

    Mean and variance are those of the earlier losses, of which old ones count less. At first they are alpha and
    :math:`\alpha (1 - \alpha)`.
    """

    alpha: float
    n: int
    mean: float
    variance: float
    log_wealth: float = 0.0

    @classmethod
    def start(cls, alpha: float) -> Adaptive:
        """The bet before any loss."""
        return cls(alpha, 0, alpha, alpha * (1 - alpha))

    @property
    def part(self) -> float:
        """The stake for the next loss. It depends only on earlier losses."""
        excess = self.mean - self.alpha
        if excess <= 0:
            return 0.0
        return min(excess / (self.variance + excess**2), _BOLDNESS / self.alpha)

    def after(self, value: float) -> Adaptive:
        weight = 1 / min(self.n + 2, _MEMORY)
        off = value - self.mean
        return Adaptive(
            self.alpha,
            self.n + 1,
            self.mean + weight * off,
            (1 - weight) * (self.variance + weight * off**2),
            self.log_wealth + _log_growth(self.part, value, self.alpha),
        )

    def to_json(self) -> dict[str, Any]:
        values = {"n": self.n, "mean": self.mean, "variance": self.variance}
        return {**values, "log_wealth": finite_or_text(self.log_wealth)}

    @classmethod
    def from_json(cls, found: dict[str, Any], alpha: float) -> Adaptive:
        """The bet in a file; refuses states that no losses lead to."""
        n, mean, variance = found["n"], _number(found["mean"]), _number(found["variance"])
        if type(n) is not int or n < 0 or not (0 <= mean <= 1 and 0 <= variance <= 1):
            raise ValueError(f"a bet has mean {mean!r} and variance {variance!r} after {n!r} losses")
        return cls(alpha, n, mean, variance, _wealth(found["log_wealth"]))


def _log_growth(part: float, loss: float, alpha: float) -> float:
    # With rounding, slightly more than the whole wealth may be lost.
    growth = part * (loss - alpha)
    return math.log1p(growth) if growth > -1 else -math.inf


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"a bet holds {value!r}")
    return float(value)


def _wealth(value: Any) -> float:
    """A logarithm, or that of 0, as a file holds it."""
    return -math.inf if value == "-inf" else _number(value)
