"""Prediction sets of tensors, computed on their device: the results of the kernels, in PyTorch's operations.

For logits and scores, the sets hold every class that is in the set on any other device: critical values are the
smallest that any device may find (``_torch_softmax``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from conformask import _core
from conformask._torch_labels import labels_beside
from conformask._torch_profile import (
    ROUNDING,
    bands_of,
    check_labels,
    check_scores,
    grain,
    penalised,
)
from conformask._torch_softmax import Shares, shares_of
from conformask.scores import APS, LAC, RAPS, SACP, CallableScore, ConformityScore, lambda_max

__all__ = ["check_maps", "check_score", "coverage", "masks_of", "prediction_sets"]

Lambda: TypeAlias = "float | tuple[float, ...]"  # one for all, or one for each class

_BANDS = 16  # parts into which an image is cut; all classes of a part are in memory together
_ULPS = 64  # covers the means of blended values, besides their sums


def check_score(score: ConformityScore) -> None:
    """Refuses a function, which takes only arrays."""
    base = score.base if isinstance(score, SACP) else score
    if isinstance(base, CallableScore):
        raise TypeError(
            f"the conformity score {base} is a function of arrays: on a device LAC, APS, RAPS and SACP of them work"
        )


def prediction_sets(shares: Shares, score: ConformityScore, lam: Lambda) -> Tensor:
    """Which classes (dimension 1) each pixel's set holds at lambda, or at those of classes, on any device."""
    check_score(score)
    largest = lambda_max(score, shares.p.shape[1])
    if not isinstance(lam, tuple):
        everywhere = torch.ones_like(shares.p, dtype=torch.bool)
        return everywhere if lam >= largest else _sets(shares, score, lam)
    return _sets(shares, score, lam) | _beside([each >= largest for each in lam], shares.p, torch.bool)


def _sets(shares: Shares, score: ConformityScore, lam: Lambda) -> Tensor:
    """The same, before classes that are in all sets are added."""
    if isinstance(score, SACP):
        # The kernels' means are those of float32 sums, down the columns and along the rows of a window.
        rounding = (_ULPS + score.window) * torch.finfo(shares.dtype).eps
        if score.mode == "probabilities":
            p, margin = _blended(shares.p.double(), score), shares.margin + rounding
            base = LAC(score.include_top1) if isinstance(score.base, LAC) else score.base
            return prediction_sets(Shares(p, shares.dtype, margin, None), base, lam)
        criticals = _blended(_critical_values(shares, score.base), score)
        sets = criticals <= _limits(lam, shares.margin + rounding, rounding, criticals)
        return shares.add_first(sets) if score.include_top1 else sets
    if isinstance(score, LAC):
        smallest = [
            _core.smallest_probability(each, shares.p.dtype == torch.float64) * (1 - shares.margin)
            for each in (lam if isinstance(lam, tuple) else (lam,))
        ]
        sets = shares.p >= _beside(smallest, shares.p, shares.p.dtype)
        return shares.add_first(sets) if score.include_top1 else sets
    criticals = _critical_values(shares, score)
    return criticals <= _limits(lam, shares.margin, ROUNDING, criticals)


def _limits(lam: Lambda, margin: float, rounding: float, criticals: Tensor) -> Any:
    """Lambda, raised to the largest critical value that another device may find to be at most lambda.

    A critical value may be smaller there by a margin, and by a share of itself.
    """
    lambdas = lam if isinstance(lam, tuple) else (lam,)
    if margin:
        lambdas = tuple(math.nextafter((each + margin) / (1 - rounding), math.inf) for each in lambdas)
    return _beside(lambdas, criticals, torch.float64)


def _beside(values: Sequence[Any], maps: Tensor, dtype: torch.dtype) -> Any:
    """One number, or one for each class, in a shape that broadcasts with maps (B, K, ...)."""
    if len(values) == 1:
        return values[0]
    return torch.tensor(values, dtype=dtype, device=maps.device).reshape(-1, *[1] * (maps.ndim - 2))


def check_maps(scores: Tensor, inputs: str, first_image: int = 0, name: str = "X") -> None:
    """Refuses maps (B, K, ...) that the kernels would refuse, at all pixels."""
    for i, planes in enumerate(scores):
        largest = planes.amax(dim=0).reshape(-1)
        everywhere = torch.ones_like(largest, dtype=torch.bool)
        check_scores(planes, largest, everywhere, inputs, first_image + i, name=name)


@torch.no_grad()
def masks_of(X: Tensor, score: ConformityScore, lam: Lambda, inputs: str, first_image: int) -> Tensor:
    """Like ``kernels.threshold`` for arrays."""
    check_maps(X, inputs, first_image)
    return prediction_sets(shares_of(X, inputs), score, lam)


@torch.no_grad()
def coverage(
    X: Tensor,
    y: Any,
    lams: Sequence[Lambda],
    score: ConformityScore,
    inputs: str,
    ignore_index: int | tuple[int, ...] | None,
    first_image: int,
) -> list[tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]]:
    """Like ``_core.coverage`` for arrays."""
    n_classes = X.shape[1]
    n_bands = 1 if isinstance(score, SACP) else _BANDS  # windows would cross the borders of parts
    counts = []
    for i, (image, labels) in enumerate(zip(X, labels_beside(X, y, first_image), strict=True)):
        parts = []
        for planes, part, first in bands_of(image, labels, n_bands):
            targets, valid = check_labels(part, ignore_index, n_classes, first_image + i)
            largest = planes.amax(dim=0).reshape(-1)
            check_scores(planes, largest, valid, inputs, first_image + i, first, labels.shape)
            shares = shares_of(planes[None], inputs)
            parts.append(
                torch.stack([_counts(prediction_sets(shares, score, lam)[0], targets, valid) for lam in lams])
            )
        counts.append(torch.stack(parts).sum(dim=0))
    found = torch.stack(counts).cpu().numpy().astype(np.uint64)  # (n, lambdas, 3, K)
    return [(at[:, 0], at[:, 1], at[:, 2]) for at in found.swapaxes(0, 1)]


def _counts(sets: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Missed pixels, labelled pixels, and summed set sizes of the latter, of each class: (3, K)."""
    missed = valid & ~sets.gather(0, targets.reshape(1, *sets.shape[1:])).reshape(-1)
    n_classes, of_valid = len(sets), targets[valid]
    sizes = torch.zeros(n_classes, dtype=torch.int64, device=sets.device)
    return torch.stack(
        [
            torch.bincount(targets[missed], minlength=n_classes),
            torch.bincount(of_valid, minlength=n_classes),
            sizes.scatter_add_(0, of_valid, sets.sum(dim=0).reshape(-1)[valid]),
        ]
    )


def _critical_values(shares: Shares, score: ConformityScore) -> Tensor:
    """The lambda at which each class enters, float64, without the rule that the top-1 is always in.

    With a margin, those of APS and RAPS are the smallest of any device: only classes that surely come before count.
    """
    if isinstance(score, SACP):
        return _blended(_critical_values(shares, score.base), score)
    if isinstance(score, LAC):
        return 1.0 - shares.p.double()
    assert isinstance(score, APS | RAPS)
    n_classes = shares.p.shape[1]
    ranked, order = shares.p.sort(dim=1, descending=True, stable=True)
    grains = grain(ranked)
    count = torch.arange(n_classes, device=ranked.device).reshape(-1, *[1] * (ranked.ndim - 2))
    criticals = penalised(grains.cumsum(dim=1).sub_(grains), count, score, n_classes)
    if shares.margin:
        close = ranked[:, :-1] <= (ranked[:, 1:] * (1 + shares.margin)).add_(shares.tiny)
        unsure = close.logical_and_(ranked[:, :-1] > 0).any(dim=1)
        # An exported module cannot choose pixels by their numbers: it treats all of them as unsure.
        exported = torch.compiler.is_compiling()

        def pixels(values: Tensor) -> Tensor:  # (N, K)
            values = values.movedim(1, -1)
            return values.reshape(-1, n_classes) if exported else values[unsure]

        keys = None if shares.given is None else pixels(shares.given).gather(1, pixels(order))
        least = _least_critical_values(pixels(ranked), keys, shares, score)
        last = criticals.movedim(1, -1)
        if exported:
            criticals = least.reshape(last.shape).movedim(-1, 1)
        else:
            last[unsure] = least
    return torch.empty_like(criticals).scatter_(1, order, criticals)


def _least_critical_values(p: Tensor, keys: Tensor | None, shares: Shares, score: APS | RAPS) -> Tensor:
    """The smallest critical values of pixels (N, K) whose classes are ranked.

    Only classes count that surely come before a class, or are surely equal to it and have a lower index.
    """
    same = p[:, 1:] == 0 if keys is None else (p[:, 1:] == 0) | (keys[:, 1:] == keys[:, :-1])
    equal = same & (p[:, 1:] == p[:, :-1])
    position = torch.arange(p.shape[1], device=p.device)
    first = torch.where(functional.pad(~equal, (1, 0), value=True), position, 0).cummax(dim=1).values
    n_equal = position - first
    sure = torch.searchsorted(-p, -(p * (1 + shares.margin) + shares.tiny)).minimum(first)
    grains = grain(p)
    mass = (grains.cumsum(dim=1) - grains).gather(1, sure) + n_equal * grains
    return penalised(mass, sure + n_equal, score, p.shape[1])


def _blended(values: Tensor, score: SACP) -> Tensor:
    """The blend of values and their mean in the window (of the slice). Borders are mirrored, the border pixel first."""
    shape = values.shape
    flat = values.reshape(-1, 1, *shape[-2:])
    for dim in (-2, -1):
        flat = flat.index_select(dim, _mirrored(shape[dim], score.window // 2, flat.device))
    mean = functional.avg_pool2d(flat, score.window, stride=1).reshape(shape)
    return (1 - score.weight) * values + score.weight * mean


def _mirrored(length: int, margin: int, device: torch.device) -> Tensor:
    places = torch.arange(-margin, length + margin, device=device) % (2 * length)
    return torch.where(places < length, places, 2 * length - 1 - places)
