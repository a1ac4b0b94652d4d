"""The temperature of the highest likelihood."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import optimize

from conformask.scaling._likelihood import Likelihood

__all__ = ["Temperature", "best_temperature"]

# Temperatures are looked for between its inverse and it.
_MOST = 1e3
# What is no change of a loss.
_FLAT = 1e-12
# How far, as a logarithm, that of fewer pixels may be off.
_NEAR = 0.05


class Temperature(NamedTuple):
    """What was found."""

    inverse: float
    unbounded: bool  # whether the likelihood still rises at the end of the range
    loss: float
    before: float  # the loss at 1


def best_temperature(likelihood: Likelihood, tolerance: float = 1e-12) -> Temperature:
    """That of a likelihood of one weight, whose loss is convex in it; its logarithm is as exact as `tolerance`."""

    @cache
    def at(exponent: float) -> tuple[float, float]:
        loss, slopes = likelihood.gradient(np.array([math.exp(exponent)]))
        return loss, float(slopes[0])

    def falls_then_rises(ends: tuple[float, float]) -> bool:
        return at(ends[0])[1] < 0 < at(ends[1])[1]

    ends = -math.log(_MOST), math.log(_MOST)
    fewer = likelihood.thinned()
    if fewer is not None:
        near = math.log(best_temperature(fewer, _NEAR / 10).inverse)
        nearer = max(ends[0], near - _NEAR), min(ends[1], near + _NEAR)
        if falls_then_rises(nearer):
            ends = nearer
    unbounded, exponent = False, 0.0
    if falls_then_rises(ends):
        found = optimize.toms748(lambda exponent: at(exponent)[1], *ends, xtol=tolerance, rtol=1e-12)
        exponent = float(found)
    elif min(at(end)[0] for end in ends) < at(0.0)[0] * (1 - _FLAT):  # else all logits of a pixel are equal
        unbounded, exponent = True, min(ends, key=lambda end: at(end)[0])
    return Temperature(math.exp(exponent), unbounded, at(exponent)[0], at(0.0)[0])
