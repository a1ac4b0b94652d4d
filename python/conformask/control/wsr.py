r"""The betting bound of Waudby-Smith and Ramdas: a capital that grows where losses are below alpha.

A bettor bets against a risk of alpha or more: a share nu_i of the capital goes on the loss of image i being below
alpha. If the risk were alpha or more, no bet could win on average, and by Ville's inequality the capital would ever
reach ``1 / delta`` with probability at most delta. The share nu_i depends on the earlier images alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["log_capitals", "rejected", "wsr_images_needed", "wsr_lambdas", "wsr_limit", "wsr_limit_of_all"]

# The lambdas that are tried: so many in each halving of the distance to the largest lambda, for so many halvings.
_FINE, _N_FINE = 512, 12
_COARSE, _N_COARSE = 16, 28

# Capitals are floats: the logarithm of one must exceed its goal by the largest rounding error.
_ROUNDING = 1e-9

_MOST_KNOWN = 1 << 20  # images for which the capital of losses of 0 is computed


def wsr_lambdas(lambda_max: float) -> NDArray[np.float64]:
    """The lambdas that are tried, from the largest down to 0. They do not depend on the data."""
    return lambda_max * (1 - _distances())


@cache
def _distances() -> NDArray[np.float64]:
    fine = 2.0 ** -np.arange(1, _N_FINE + 1)[:, np.newaxis] * (1 + np.arange(_FINE) / _FINE)
    coarse = 2.0 ** -np.arange(_N_FINE + 1, _N_FINE + _N_COARSE + 1)[:, np.newaxis] * (
        1 + np.arange(_COARSE) / _COARSE
    )
    found = np.unique(np.concatenate([[0.0, 1.0], fine.ravel(), coarse.ravel()]))
    found.flags.writeable = False
    return found


def log_capitals(losses: NDArray[np.float64], alpha: float, delta: float) -> NDArray[np.float64]:
    r"""The logarithm of the largest capital on the way.

    With the predictable estimates of Bates et al. 2021, section 3.1.3, of mean and variance,

    .. math:: \hat\mu_i = \frac{1/2 + \sum_{j \le i} L_j}{1 + i}, \quad
        \hat\sigma_i^2 = \frac{1/4 + \sum_{j \le i} (L_j - \hat\mu_j)^2}{1 + i}, \quad
        \nu_i = \min \Big( 1, \sqrt{\frac{2 \ln(1 / \delta)}{n \hat\sigma_{i-1}^2}} \Big),

    the capital is :math:`\prod_{j \le i} (1 - \nu_j (L_j - \alpha))`, which stays above 0 since
    :math:`\nu_j \le 1` and :math:`\alpha > 0`.

    Parameters
    ----------
    losses : float64 array (..., n)
        Losses in [0, 1] of n images, in the order in which they came.
    alpha : float in (0, 1)
        The risk level of the hypothesis that is tested.
    delta : float in (0, 1)
        One over the capital that is needed.

    Returns
    -------
    float64 array (...)
        At least 0, the capital at the start.
    """
    growth = np.log1p(_stakes(losses, delta) * (alpha - losses))
    capitals = np.cumsum(growth, axis=-1)
    return np.asarray(capitals.max(axis=-1, initial=0.0))


def _stakes(losses: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """The share nu of the capital that is staked on each image, (..., n)."""
    n = losses.shape[-1]
    i = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(losses, axis=-1)) / (1 + i)
    spread = np.cumsum((losses - means) ** 2, axis=-1)
    before = np.full_like(spread, 0.25)  # the value for the first image, before which nothing is known
    before[..., 1:] += spread[..., :-1]
    variances = before / i
    return np.asarray(np.minimum(1.0, np.sqrt(2 * -math.log(delta) / (n * variances))))


def is_enough(log_capital: NDArray[np.float64] | float, delta: float) -> NDArray[np.bool_]:
    """Whether a capital reaches 1 / delta."""
    return np.asarray(log_capital) >= -math.log(delta) + _ROUNDING


def rejected(
    blocks: Iterator[NDArray[np.float64]], alpha: float, delta: float
) -> Iterator[NDArray[np.bool_]]:
    """Whether a risk above alpha is rejected (m,) at each of m lambdas, from their losses (m, n), block by block."""
    for losses in blocks:
        are_new = _are_new(losses)
        found = is_enough(log_capitals(losses[are_new], alpha, delta), delta)
        yield found[np.cumsum(are_new) - 1]


def wsr_limit(losses: NDArray[np.float64], delta: float) -> float:
    """The upper confidence limit from losses (n,): the smallest alpha such that a risk above it is rejected."""
    if not len(losses):
        return 1.0
    stakes, low, high = _stakes(losses, delta), 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        capital = np.cumsum(np.log1p(stakes * (middle - losses))).max(initial=0.0)
        low, high = (low, middle) if is_enough(capital, delta) else (middle, high)
    return high


def wsr_limit_of_all(blocks: Iterator[NDArray[np.float64]], delta: float) -> float:
    """The smallest alpha at which a risk above it is rejected for all losses (m, n), which come block by block."""
    level = 0.0
    for losses in blocks:
        doubtful = losses[_are_new(losses)]
        while len(doubtful) and level < 1:
            if level > 0:  # losses that are rejected at a level are rejected at a higher one
                doubtful = doubtful[~is_enough(log_capitals(doubtful, level, delta), delta)]
            if len(doubtful):  # losses rise as lambda falls: the last ones mostly have the largest limit
                level = max(level, wsr_limit(doubtful[-1], delta))
                doubtful = doubtful[:-1]
        if level >= 1:
            break
    return level


def _are_new(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of the losses (m, n) at m lambdas differ from the row before: equal rows have equal answers."""
    are_new = np.ones(len(losses), bool)
    are_new[1:] = (losses[1:] != losses[:-1]).any(axis=1)
    return are_new


@cache
def wsr_images_needed(alpha: Fraction, delta: Fraction) -> int:
    """The smallest number of losses of 0 (those of full sets) whose capital reaches 1 / delta.

    Above a million it is the lower bound ``log(1 / delta) / log(1 + alpha)``.
    """
    level, doubt = float(alpha), float(delta)

    def suffices(n: int) -> bool:
        return bool(is_enough(log_capitals(np.zeros(n), level, doubt), doubt))

    # No stake is above 1, so that no factor is above 1 + alpha.
    low = max(0, math.floor(-math.log(doubt) / math.log1p(level) * (1 - 1e-9)) - 1)
    high = low + 1
    while high <= _MOST_KNOWN and not suffices(high):
        low, high = high, 2 * high
    if high > _MOST_KNOWN:
        return low + 1
    while high - low > 1:  # with more images the capital of no loss is larger
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high
