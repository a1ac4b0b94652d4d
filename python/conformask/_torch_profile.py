"""Profiles of tensors, computed on their device: only the values of mispredicted pixels leave it.

These are the kernels of the Rust core in PyTorch's operations, class by class. Besides the maps they need memory for a
few planes (H, W), however many classes there are.

For probabilities all bits agree with the core, except for bfloat16. A softmax differs by some units in the last place
from device to device, and lambda-hat is a critical value: a label whose critical value equals lambda-hat at calibration
must not fall out of the sets on another device. So the critical values here are the largest that any device may find:
probabilities count as smaller by the slack of ``_torch_softmax``, and classes that may come before a label count as
before it. Sets take the smallest critical values (``_torch_sets``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from conformask import _core
from conformask._arrays import ignored_labels
from conformask._tensors import is_coarse
from conformask._torch_labels import labels_beside
from conformask._torch_softmax import odds_of, slack, widened
from conformask.scores import APS, LAC, RAPS, ConformityScore, lambda_max, rank_penalties

__all__ = ["profile_tensor"]

_BANDS = 8  # parts into which an image is cut, so that intermediate tensors are small
ROUNDING = 4 * float(np.finfo(np.float64).eps)  # error of the sum of a mass and a rank's penalty


@dataclass(frozen=True)
class _Task:
    """How to profile each image."""

    score: LAC | APS | RAPS
    inputs: str
    ignore_index: int | tuple[int, ...] | None
    activation: bool
    n_classes: int


@dataclass(frozen=True)
class _Found:
    """The profile of one image."""

    totals: NDArray[np.uint64]  # (K,)
    values: NDArray[np.floating[Any]]  # one stored value per pixel that is not covered from the start
    labels: NDArray[np.uint16]
    cells: NDArray[np.uint64] | None  # activations


@torch.no_grad()
def profile_tensor(
    X: Tensor,
    y: Any,
    score: LAC | APS | RAPS,
    inputs: str,
    ignore_index: int | tuple[int, ...] | None,
    activation: bool,
    first_image: int,
) -> _core.ExactProfile:
    """Like ``_core.ExactProfile.build`` for arrays; activations only for LAC."""
    task, labels = (
        _Task(score, inputs, ignore_index, activation, X.shape[1]),
        labels_beside(X, y, first_image),
    )
    images = [
        _profile_image(image, label, task, first_image + i)
        for i, (image, label) in enumerate(zip(X, labels, strict=True))
    ]
    return _core.ExactProfile.from_arrays(
        score._kernel(),
        np.stack([image.totals for image in images]),
        np.array([len(image.values) for image in images], np.uint64),
        np.concatenate([image.values for image in images]),
        np.concatenate([image.labels for image in images]),
        np.stack([image.cells for image in images if image.cells is not None]) if activation else None,
    )


def bands_of(planes: Tensor, labels: Tensor, n_bands: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """An image in about `n_bands` parts, as views in the order of its pixels, with the index of each first pixel."""

    def cut(planes: Tensor, labels: Tensor, first: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        if labels.numel() <= most or labels.ndim == 0:
            yield planes, labels, first
        elif len(labels) == 1:
            yield from cut(planes[:, 0], labels[0], first)
        else:
            per_row = labels[0].numel()
            step = max(1, most // per_row)
            for row in range(0, len(labels), step):
                yield from cut(planes[:, row : row + step], labels[row : row + step], first + row * per_row)

    most = -(-labels.numel() // n_bands)
    return cut(planes, labels, 0)


def _profile_image(planes: Tensor, labels: Tensor, task: _Task, image: int) -> _Found:
    """The profile of an image, part by part to save memory."""
    bands = [
        _profile_band(part, labels_of, task, image, first, labels.shape)
        for part, labels_of, first in bands_of(planes, labels, _BANDS)
    ]
    cells = [band.cells for band in bands if band.cells is not None]
    return _Found(
        totals=np.sum([band.totals for band in bands], axis=0, dtype=np.uint64),
        values=np.concatenate([band.values for band in bands]),
        labels=np.concatenate([band.labels for band in bands]),
        cells=np.sum(cells, axis=0, dtype=np.uint64) if cells else None,
    )


def _profile_band(
    planes: Tensor, labels: Tensor, task: _Task, image: int, first_pixel: int, shape: torch.Size
) -> _Found:
    y, valid = check_labels(labels, task.ignore_index, task.n_classes, image)
    totals = torch.bincount(y[valid], minlength=task.n_classes)

    largest, top = (found.reshape(-1) for found in planes.max(dim=0))
    check_scores(planes, largest, valid, task.inputs, image, first_pixel, shape)
    top1_is_in = not isinstance(task.score, LAC) or task.score.include_top1
    missed = valid & (top != y) if top1_is_in else valid
    margin = slack(planes.dtype, task.inputs, task.n_classes)
    if margin and top1_is_in:  # if another device may rank another class first, no class is certain to be in
        missed = missed | (valid & _has_rival(planes, largest, task.inputs, margin))

    # From here on only the pixels that count are used. If the model is good, there are few.
    at = (valid if task.activation else missed).nonzero().squeeze(1)
    own = planes.gather(0, y.reshape(1, *planes.shape[1:])).reshape(-1)[at]
    y, missed = y[at], missed[at]
    odds = _Odds(planes, at, largest[at], task.inputs)
    if isinstance(task.score, LAC):
        cells = _count_cells(odds, task.n_classes, top1_is_in) if task.activation else None
        stored = odds.share(odds.odds(own)) * (1 - margin)
        missed = missed & (stored < 1)
    else:
        cells = None
        stored = torch.where(missed, _raps(odds, own, y, task, margin), 0.0)
        missed = missed & (stored > 0)
    return _Found(
        _to_numpy(totals).astype(np.uint64),
        _to_numpy(stored[missed]),
        _to_numpy(y[missed]).astype(np.uint16),
        None if cells is None else _to_numpy(cells).astype(np.uint64),
    )


def _has_rival(planes: Tensor, largest: Tensor, inputs: str, margin: float) -> Tensor:
    """Where another class may be first on another device: it is hardly less probable, or equal in bfloat16."""
    largest = widened(largest)
    least = largest - margin if inputs == "logits" else largest * (1 - margin)
    close, equal = (torch.zeros_like(largest, dtype=torch.int32) for _ in range(2))
    for plane in planes:
        given = plane.reshape(-1).to(largest.dtype)
        close += given >= least
        equal += given == largest
    return close > (1 if inputs == "probabilities" else equal)


class _Odds:
    """Probabilities of some pixels, one class at a time: the softmax of logits, or scores divided by their sum."""

    def __init__(self, planes: Tensor, at: Tensor, largest: Tensor, inputs: str) -> None:
        self.planes, self.at, self.inputs = planes, at, inputs
        self.largest = widened(largest)
        self.total: Tensor | None = None
        if inputs != "probabilities":
            total = torch.zeros_like(self.largest, dtype=torch.float64)
            for k in range(len(planes)):
                total += odds_of(widened(self.given(k)), self.largest, inputs)
            self.total = total

    def given(self, k: int) -> Tensor:
        """The model's numbers for a class."""
        return self.planes[k].reshape(-1)[self.at]

    def odds(self, given: Tensor) -> Tensor:
        """Numbers that the probabilities are proportional to."""
        given = widened(given)
        return given if self.total is None else odds_of(given, self.largest, self.inputs)

    def share(self, odds: Tensor) -> Tensor:
        """The probabilities that belong to odds."""
        return odds if self.total is None else (odds / self.total).to(odds.dtype)

    def of_class(self, k: int) -> Tensor:
        """The probability of a class at each of the pixels."""
        return self.share(self.odds(self.given(k)))

    def of_top(self) -> Tensor:
        """The largest probability of each pixel."""
        return self.share(self.odds(self.largest))


def _raps(odds: _Odds, own: Tensor, y: Tensor, task: _Task, margin: float) -> Tensor:
    """The critical values of labels: the mass before each, and the penalty of its rank (src/score/aps.rs, raps.rs).

    With a margin they are the largest of any device: all classes that may come before the label are counted. `own` is
    the model's number for the label.
    """
    own_odds = odds.odds(own)
    least = odds.share(own_odds) * (1 - margin)
    # Floats below `tiny` lose digits, and some devices treat them as 0.
    least = least - torch.finfo(least.dtype).tiny if margin else least
    ties_are_known = not (margin and odds.inputs == "probabilities")
    mass = torch.zeros_like(least, dtype=torch.float64)
    count = torch.zeros_like(y)
    for k in range(task.n_classes):
        given = odds.given(k)
        of_class = odds.odds(given)
        p = odds.share(of_class)
        tie = given == own if ties_are_known else y == k
        if odds.inputs == "logits":
            tie = tie | ((of_class == 0) & (own_odds == 0))
        before = torch.where(tie, k < y, p >= least)
        count += before
        # A multiple of 2^-53, so that sums are exact.
        mass += torch.where(before, grain(p), 0.0)
    critical = penalised(mass, count, task.score, task.n_classes)
    if margin:  # the sum is rounded, too
        critical = (critical * (1 + ROUNDING) + margin).clamp_(max=lambda_max(task.score, task.n_classes))
    return critical


def penalised(mass: Tensor, count: Tensor, score: ConformityScore, n_classes: int) -> Tensor:
    """Critical values from the mass, which is overwritten, and the number of classes before the label."""
    mass, penalties = mass.clamp_(max=1.0), rank_penalties(score, n_classes)
    if not any(penalties):
        return mass
    by_rank = torch.tensor(penalties, dtype=torch.float64, device=mass.device)
    return mass.add_(by_rank[count]).clamp_(max=lambda_max(score, n_classes))


def grain(p: Tensor) -> Tensor:
    """The nearest multiple of 2^-53: sums of such numbers up to 1 are exact, hence the same in any order."""
    p = p.double()
    return torch.where(p < 0.5, (p + 0.5) - 0.5, p)


def _count_cells(odds: _Odds, n_classes: int, top1_is_in: bool) -> Tensor:
    """Counts of all labels by LAC's critical value; the first count is of those always in (src/score/activation.rs)."""
    device = odds.largest.device
    counts = torch.zeros(_core.ACTIVATION_CELLS + 1, dtype=torch.int64, device=device)
    for k in range(n_classes):
        counts += torch.bincount(_places(odds.of_class(k)), minlength=len(counts))
    if top1_is_in:
        counts -= torch.bincount(_places(odds.of_top()), minlength=len(counts))
        counts[0] += len(odds.at)
    return counts


def _places(p: Tensor) -> Tensor:
    one = np.float64(1.0).view(np.int64).item()
    keys = one - (p.double().clamp(max=1.0) + 0.0).view(torch.int64)
    cells = (keys >> _core.ACTIVATION_CELL_BITS).clamp_(max=_core.ACTIVATION_CELLS - 1)
    return torch.where(p < 1, cells + 1, 0)


def check_labels(
    labels: Tensor, ignore_index: int | tuple[int, ...] | None, n_classes: int, image: int
) -> tuple[Tensor, Tensor]:
    """Labels of the pixels of an image, 0 where void, and the mask of the pixels that are not void."""
    given = labels.reshape(-1).long()
    valid = torch.ones_like(given, dtype=torch.bool)
    for index in ignored_labels(ignore_index):
        if 0 <= index < n_classes:
            raise ValueError(
                f"ignore_index={index} is one of the K = {n_classes} classes; choose an index outside "
                f"[0, {n_classes}){_core.OTHERS_HINT}"
            )
        valid &= given != index
    y = given.where(valid, 0)  # a copy: another thread may write to `given`
    bad = (y < 0) | (y >= n_classes)  # such an index would end the process on a GPU
    if bad.any():
        label = int(y[bad][0])
        is_void = f"if it marks void pixels, pass ignore_index={label}"
        hint = f"; {is_void}" if label < 0 or label == 255 else ""
        if label == n_classes:
            hint = f"; if the labels start at 1, pass y - 1; {is_void}"
        raise ValueError(
            f"y holds label {label} in image {image}, outside [0, {n_classes}) and not the ignore index "
            f"({', '.join(map(str, ignored_labels(ignore_index))) or None}){hint}"
        )
    return y, valid


def check_scores(
    planes: Tensor,
    largest: Tensor,
    valid: Tensor,
    inputs: str,
    image: int,
    first_pixel: int = 0,
    shape: torch.Size | None = None,
    name: str = "X",
) -> None:
    """Refuses what the kernels refuse, at labelled pixels of a part of an image; `shape` is that of the whole image."""
    smallest = planes.amin(dim=0).reshape(-1)

    def refuse(bad: Tensor, words: str) -> None:
        bad = bad & valid
        if bad.any():
            pixel = int(bad.nonzero()[0])
            at = np.unravel_index(first_pixel + pixel, planes.shape[1:] if shape is None else shape)
            place = f"({', '.join(map(str, at))})"
            raise ValueError(words.format(image=image, pixel=place, **_value_at(planes, pixel, inputs)))

    # A logit of minus infinity masks its class, where another is finite.
    is_masked = smallest == -math.inf if inputs == "logits" else torch.zeros_like(valid)
    refuse(
        ~(largest.isfinite() & (smallest.isfinite() | is_masked)),
        f"{name} is not finite in image {{image}}: class {{k}} is {{value}} at pixel {{pixel}}{{hint}}",
    )
    if inputs == "logits":
        return
    refuse(
        smallest < 0,
        f"{name} holds a negative probability in image {{image}}: class {{k}} is {{value}} at pixel {{pixel}}; "
        "if these are logits, pass inputs='logits'",
    )
    if inputs == "scores":
        refuse(
            largest == 0,
            "X: the scores of image {image} sum to 0 at pixel {pixel}: they cannot be normalised; "
            "give at least one class a score above 0",
        )
        return
    tolerance = _core.SUM_TOLERANCE_BFLOAT16 if is_coarse(planes) else _core.SUM_TOLERANCE
    total = torch.zeros_like(largest, dtype=torch.float64)
    for plane in planes:
        total += plane.reshape(-1)
    refuse(
        (total - 1).abs() > tolerance + _core.SUM_SLACK,
        f"X: the probabilities of image {{image}} sum to {{total}} at pixel {{pixel}}, not to 1 within {tolerance}; "
        "pass softmax probabilities over the class axis (axis 1), or pass inputs='logits' or 'scores'",
    )


def _value_at(planes: Tensor, pixel: int, inputs: str) -> dict[str, Any]:
    """The number to show: the first that is not finite, which of logits masks a class only last, or the smallest."""
    column = [float(plane.reshape(-1)[pixel]) for plane in planes]
    wrong = [k for k, value in enumerate(column) if not math.isfinite(value)]
    if inputs == "logits":
        wrong.sort(key=lambda k: column[k] == -math.inf)
    k = wrong[0] if wrong else min(range(len(column)), key=column.__getitem__)
    value = "NaN" if math.isnan(column[k]) else f"{column[k]:.6g}"  # as the kernels write it
    hint = _core.MASKED_HINT if column[k] == -math.inf else _core.MISSING_HINT if value == "NaN" else ""
    return {"k": k, "value": value, "total": f"{sum(column):.6g}", "hint": hint}


def _to_numpy(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
