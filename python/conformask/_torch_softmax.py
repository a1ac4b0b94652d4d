"""Probabilities of tensors as the kernels define them, and how far those of another device may be from them.

Of logits, ``p_k = e^(x_k - m) / sum_j e^(x_j - m)`` with the largest logit ``m``; the exponential of what is below
``TAIL`` is 0, as in the kernels (src/num/exp.rs), so that such classes are equal and rank by their number. The
difference of two floats is the same on every device; exponential, sum and quotient are not: they differ by some units
in the last place. `slack` bounds that. Where it lies between two classes, neither is surely before the other. Classes
are equal for sure where their numbers are, or their probabilities are 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from conformask import _core

__all__ = ["Shares", "odds_of", "shares_of", "slack", "to_probabilities", "widened"]

TAIL = {torch.float32: _core.SOFTMAX_TAIL_SINGLE, torch.float64: _core.SOFTMAX_TAIL_DOUBLE}

_ULPS = 64  # for the exponentials, the quotient and the kernels; sums of K numbers may be off by K units


def widened(given: Tensor) -> Tensor:
    """In the type that probabilities are computed in: float32 of half precision, without loss."""
    return given if given.element_size() > 2 else given.float()


def slack(dtype: torch.dtype, inputs: str, n_classes: int) -> float:
    """The share of a probability, or of a mass of 1, by which the same input may differ on another device.

    Of logits and scores `dtype` is what they are computed in: 64 + K units in the last place of float32, or of float64.
    That holds for the same numbers on two devices. It does not hold for what a model makes of an image in two
    precisions: those are other numbers.

    Probabilities are taken as they are, so that they differ nowhere: 0. Only bfloat16 stands for all numbers that round
    to it, for there a softmax keeps two or three digits: one unit in its last place, 2^-7.
    """
    if inputs == "probabilities":
        return float(torch.finfo(dtype).eps) if dtype == torch.bfloat16 else 0.0
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    return float((_ULPS + n_classes) * torch.finfo(kind).eps)


def odds_of(given: Tensor, largest: Tensor, inputs: str) -> Tensor:
    """What probabilities are proportional to: at most 1, and 1 for the largest number of the pixel."""
    if inputs == "logits":
        x = given - largest
        in_tail = x < TAIL[x.dtype]
        return x.exp_().masked_fill_(in_tail, 0.0)
    return given / largest


def to_probabilities(scores: Tensor, inputs: str) -> Tensor:
    """Probabilities (B, K, ...) in float32 or wider, of what the numbers are."""
    scores = widened(scores)
    if inputs == "probabilities":
        return scores
    if inputs == "logits":  # fused, the tail is too small for the sum
        tail, p = TAIL[scores.dtype], scores.softmax(dim=1)
        # An exported module looks at no number.
        if not torch.compiler.is_compiling() and p.numel() and p.amin() >= 2 * math.exp(tail):
            return p
        return p.masked_fill_(scores - scores.amax(dim=1, keepdim=True) < tail, 0.0)
    largest = scores.amax(dim=1, keepdim=True)
    odds = odds_of(scores, largest, inputs)
    return odds.div_(odds.sum(dim=1, keepdim=True))


@dataclass(frozen=True)
class Shares:
    """Probabilities (B, K, ...) of all classes, and what is sure of their ranks on every device."""

    p: Tensor
    dtype: torch.dtype  # that the kernels compute in
    margin: float  # see `slack`
    given: (
        Tensor | None
    )  # ranks classes, and they are equal where it is; None: where p is close, ranks are not known

    @property
    def tiny(self) -> float:
        """Below that, floats lose digits, and some devices take them for 0."""
        return float(torch.finfo(self.dtype).tiny)

    def add_first(self, sets: Tensor) -> Tensor:
        """Sets and the most probable class of each pixel, the lowest of equals; and all that may be it elsewhere."""
        order = self.p if self.given is None else self.given
        largest, best = order.max(dim=1, keepdim=True)
        sets = sets.scatter_(1, best, True)
        if not self.margin:
            return sets
        close = self.p >= self.p.gather(1, best) * (1 - self.margin)
        return sets.logical_or_(close if self.given is None else close.logical_and_(order < largest))


def shares_of(scores: Tensor, inputs: str) -> Shares:
    """What `to_probabilities` gives, and how sure that is."""
    p, margin = to_probabilities(scores, inputs), slack(scores.dtype, inputs, scores.shape[1])
    ranks_are_known = not (margin and inputs == "probabilities")
    return Shares(p, p.dtype, margin, widened(scores) if ranks_are_known else None)
