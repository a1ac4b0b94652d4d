"""Probabilities of tensors as the kernels define them, and how far those of another device may be from them.

For logits, ``p_k = e^(x_k - m) / sum_j e^(x_j - m)`` with the largest logit ``m``. The exponential of a difference
below ``TAIL`` is 0, as in the kernels (src/num/exp.rs), so that such classes are equal and rank by their index. The
difference of two floats is the same on every device; exponential, sum and quotient are not: they differ by some units
in the last place. `slack` bounds this error. Two classes that are closer than that may rank in either order. Classes
are surely equal if their numbers are equal, or if their probabilities are 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from conformask import _core

__all__ = ["Shares", "odds_of", "shares_of", "slack", "to_probabilities", "widened"]

TAIL = {torch.float32: _core.SOFTMAX_TAIL_SINGLE, torch.float64: _core.SOFTMAX_TAIL_DOUBLE}

_ULPS = 64  # covers exponentials, quotient and kernels; sums of K numbers may be off by another K units


def widened(given: Tensor) -> Tensor:
    """The numbers in the type in which probabilities are computed: half precision becomes float32, without loss."""
    return given if given.element_size() > 2 else given.float()


def slack(dtype: torch.dtype, inputs: str, n_classes: int) -> float:
    """The relative error of a probability, or the error of a mass of 1, between two devices for the same input.

    For logits and scores, it is 64 + K units in the last place of the type of computation: float64 if `dtype` is, else
    float32. This holds for the same numbers on two devices. It does not hold for a model's outputs for one image in two
    precisions: those are different numbers.

    Probabilities are taken as they are, and so are the same everywhere: the error is 0. The exception is bfloat16, in
    which a softmax keeps two or three digits. There a number stands for all numbers that round to it: the error is one
    unit in the last place, 2^-7.
    """
    if inputs == "probabilities":
        return float(torch.finfo(dtype).eps) if dtype == torch.bfloat16 else 0.0
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    return float((_ULPS + n_classes) * torch.finfo(kind).eps)


def odds_of(given: Tensor, largest: Tensor, inputs: str) -> Tensor:
    """Numbers that the probabilities are proportional to: at most 1, and 1 for the largest number of the pixel."""
    if inputs == "logits":
        x = given - largest
        in_tail = x < TAIL[x.dtype]
        return x.exp_().masked_fill_(in_tail, 0.0)
    return given / largest


def to_probabilities(scores: Tensor, inputs: str) -> Tensor:
    """Probabilities (B, K, ...) in float32 or wider, of numbers that are what `inputs` says."""
    scores = widened(scores)
    if inputs == "probabilities":
        return scores
    if inputs == "logits":  # PyTorch's own softmax will do: the tail is too small to change the sum
        tail, p = TAIL[scores.dtype], scores.softmax(dim=1)
        # An exported module cannot branch on numbers.
        if not torch.compiler.is_compiling() and p.numel() and p.amin() >= 2 * math.exp(tail):
            return p
        return p.masked_fill_(scores - scores.amax(dim=1, keepdim=True) < tail, 0.0)
    largest = scores.amax(dim=1, keepdim=True)
    odds = odds_of(scores, largest, inputs)
    return odds.div_(odds.sum(dim=1, keepdim=True))


@dataclass(frozen=True)
class Shares:
    """Probabilities (B, K, ...) of all classes, and what is known about their ranks on other devices."""

    p: Tensor
    dtype: torch.dtype  # that the kernels compute in
    margin: float  # see `slack`
    given: (
        Tensor | None
    )  # ranks classes, and they are equal where it is; None: where p is close, ranks are not known

    @property
    def tiny(self) -> float:
        """The smallest normal number: floats below it lose digits, and some devices treat them as 0."""
        return float(torch.finfo(self.dtype).tiny)

    def add_first(self, sets: Tensor) -> Tensor:
        """Adds the most probable class (the lowest of equals) to sets, and all classes that may be it elsewhere."""
        order = self.p if self.given is None else self.given
        largest, best = order.max(dim=1, keepdim=True)
        sets = sets.scatter_(1, best, True)
        if not self.margin:
            return sets
        close = self.p >= self.p.gather(1, best) * (1 - self.margin)
        return sets.logical_or_(close if self.given is None else close.logical_and_(order < largest))


def shares_of(scores: Tensor, inputs: str) -> Shares:
    """The result of `to_probabilities`, with its margin of error."""
    p, margin = to_probabilities(scores, inputs), slack(scores.dtype, inputs, scores.shape[1])
    ranks_are_known = not (margin and inputs == "probabilities")
    return Shares(p, p.dtype, margin, widened(scores) if ranks_are_known else None)
