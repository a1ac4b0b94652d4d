"""Prediction sets of tensors, on the device where they lie: what the kernels give, in PyTorch's operations.

Of logits and scores the sets hold what the kernels' hold, and what is within the difference of two softmaxes of it: see
``_torch_profile``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from conformask import _core
from conformask.integrations._torch_profile import (
    bands_of,
    check_labels,
    check_scores,
    grain,
    labels_beside,
    slack,
)
from conformask.scores import APS, LAC, RAPS, SACP, CallableScore, ConformityScore, lambda_max

__all__ = ["check_maps", "check_score", "coverage", "masks_of", "prediction_sets", "to_probabilities"]

_BANDS = 16  # parts of an image, all classes of which are looked at at once


def check_score(score: ConformityScore) -> None:
    """Refuses a function, which knows only arrays."""
    base = score.base if isinstance(score, SACP) else score
    if isinstance(base, CallableScore):
        raise TypeError(
            f"the conformity score {base} is a function of arrays: on a device LAC, APS, RAPS and SACP of them work"
        )


def prediction_sets(
    probabilities: Tensor, score: ConformityScore, lam: float, inputs: str = "probabilities"
) -> Tensor:
    """Which classes (dimension 1) each pixel's set holds at lambda, or hardly above, where they come from a softmax."""
    check_score(score)
    if isinstance(score, SACP) and score.mode == "probabilities":
        base = LAC(score.include_top1) if isinstance(score.base, LAC) else score.base
        return prediction_sets(_blended(probabilities, score), base, lam, inputs)
    if lam >= lambda_max(score, probabilities.shape[1]):
        return torch.ones_like(probabilities, dtype=torch.bool)
    # The kernels' means over windows are float32 ones.
    margin = slack(probabilities.dtype, "blended" if isinstance(score, SACP) else inputs)
    if isinstance(score, LAC):
        smallest = _core.smallest_probability(lam, probabilities.dtype == torch.float64)
        sets = probabilities >= smallest * (1 - margin)
    else:
        sets = _critical_values(probabilities, score) <= lam + margin
    if not isinstance(score, LAC | SACP) or score.include_top1:
        largest, first = probabilities.max(dim=1, keepdim=True)
        sets = sets.scatter(1, first, True)
        if margin:
            sets = sets | ((probabilities < largest) & (probabilities >= largest * (1 - margin)))
    return sets


def check_maps(scores: Tensor, inputs: str, first_image: int = 0) -> None:
    """Refuses maps (B, K, ...) that the kernels would refuse, at all pixels."""
    for i, planes in enumerate(scores):
        largest = planes.amax(dim=0).reshape(-1)
        check_scores(planes, largest, torch.ones_like(largest, dtype=torch.bool), inputs, first_image + i)


@torch.no_grad()
def masks_of(X: Tensor, score: ConformityScore, lam: float, inputs: str, first_image: int) -> Tensor:
    """What ``kernels.threshold`` makes of arrays."""
    check_maps(X, inputs, first_image)
    return prediction_sets(to_probabilities(X, inputs), score, lam, inputs)


@torch.no_grad()
def coverage(
    X: Tensor,
    y: Any,
    lam: float,
    score: ConformityScore,
    inputs: str,
    ignore_index: int | None,
    first_image: int,
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """What ``_core.coverage`` counts of arrays: pixels missed and labelled (n, K), and labels in their sets (n,)."""
    n_classes = X.shape[1]
    n_bands = 1 if isinstance(score, SACP) else _BANDS  # windows cross the borders of parts
    counts = []
    for i, (image, labels) in enumerate(zip(X, labels_beside(X, y), strict=True)):
        parts = []
        for planes, part, first in bands_of(image, labels, n_bands):
            targets, valid = check_labels(part, ignore_index, n_classes, first_image + i)
            check_scores(planes, planes.amax(dim=0).reshape(-1), valid, inputs, first_image + i, first)
            sets = prediction_sets(to_probabilities(planes[None], inputs), score, lam, inputs)[0]
            missed = valid & ~sets.gather(0, targets.reshape(1, *part.shape)).reshape(-1)
            parts.append(
                (
                    torch.bincount(targets[missed], minlength=n_classes),
                    torch.bincount(targets[valid], minlength=n_classes),
                    sets.sum(dim=0).reshape(-1)[valid].sum(),
                )
            )
        counts.append([torch.stack(each).sum(dim=0) for each in zip(*parts, strict=True)])
    missed_of, labelled, sizes = (
        torch.stack(parts).cpu().numpy().astype(np.uint64) for parts in zip(*counts, strict=True)
    )
    return missed_of, labelled, sizes


def to_probabilities(scores: Tensor, inputs: str) -> Tensor:
    """Probabilities (B, K, ...) in float32 or wider, of what the numbers are."""
    scores = scores if scores.element_size() > 2 else scores.float()
    if inputs == "logits":
        return scores.softmax(dim=1)
    return scores / scores.sum(dim=1, keepdim=True) if inputs == "scores" else scores


def _critical_values(probabilities: Tensor, score: ConformityScore) -> Tensor:
    """The lambda at which each class enters, float64, but for a top-1 that is always in."""
    if isinstance(score, SACP):
        return _blended(_critical_values(probabilities, score.base), score)
    if isinstance(score, LAC):
        return 1.0 - probabilities.double()
    assert isinstance(score, APS | RAPS)
    n_classes = probabilities.shape[1]
    ranked, order = probabilities.sort(dim=1, descending=True, stable=True)
    mass = grain(ranked)
    mass = (mass.cumsum(dim=1) - mass).clamp(max=1.0)  # of the classes before
    if isinstance(score, RAPS):
        k_reg = max(1, n_classes // 2) if score.k_reg is None else score.k_reg
        ranks = torch.arange(1, n_classes + 1, device=ranked.device, dtype=torch.float64)
        excess = (ranks - k_reg).clamp(min=0).reshape(-1, *[1] * (ranked.ndim - 2))
        mass = (mass + score.penalty * excess).clamp(max=lambda_max(score, n_classes))
    return torch.empty_like(mass).scatter(1, order, mass)


def _blended(values: Tensor, score: SACP) -> Tensor:
    """With their mean in the window (of the slice), borders mirrored, the border pixel first."""
    shape = values.shape
    flat = values.reshape(-1, 1, *shape[-2:])
    for dim in (-2, -1):
        flat = flat.index_select(dim, _mirrored(shape[dim], score.window // 2, flat.device))
    mean = functional.avg_pool2d(flat, score.window, stride=1).reshape(shape)
    return (1 - score.weight) * values + score.weight * mean


def _mirrored(length: int, margin: int, device: torch.device) -> Tensor:
    places = torch.arange(-margin, length + margin, device=device) % (2 * length)
    return torch.where(places < length, places, 2 * length - 1 - places)
