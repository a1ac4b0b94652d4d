"""The search of the CONSIGN paper: gradient descent from random points, for lambdas on a grid. It needs PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from conformask._random import check_key
from conformask.consign._images import VOID, Problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.consign._settings import Settings
    from conformask.consign.reference import ReferenceSearch

__all__ = ["solve"]

# The most memory for the scores of several points.
_CHUNK_BYTES = 2**27


def solve(
    problems: Sequence[Problem | None],
    is_enough: Callable[[list[float]], bool],
    search: ReferenceSearch,
    settings: Settings,
) -> list[float]:
    """The lambda at which each image is done: NaN if enough others were done before, infinite beyond `lambda_max`.

    A problem of None is an image that is done from the beginning. `is_enough` gets the lambdas found so far, NaN for an
    image that is not done.
    """
    torch, seed = _torch(), check_key(settings.random_state)
    lambdas = [0.0 if problem is None else math.nan for problem in problems]
    searchers = [
        None if problem is None else _Image(torch, problem, search, settings) for problem in problems
    ]
    n_grid = max(0, math.floor((settings.lambda_max - search.first) / search.step + 1e-9) + 1)
    disable = None if settings.progress == "auto" else not settings.progress
    with tqdm(total=len(problems), unit="image", disable=disable) as bar:
        for place in range(n_grid):
            lam = search.first + place * search.step
            for index, image in enumerate(searchers):
                if image is None or not math.isnan(lambdas[index]):
                    continue
                if image.succeeds(lam, np.random.default_rng([seed, index, place])):
                    lambdas[index] = lam
            bar.update(sum(not math.isnan(lam) for lam in lambdas) - bar.n)
            if is_enough(lambdas):
                return lambdas
    return [math.inf if math.isnan(lam) else lam for lam in lambdas]


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "search='reference' needs PyTorch: pip install conformask[torch], or search='certified'"
        ) from error
    return torch


class _Image:
    """The search for one image, at one lambda after another."""

    def __init__(
        self,
        torch: Any,
        problem: Problem,
        search: ReferenceSearch,
        settings: Settings,
    ) -> None:
        found, valid = problem.decomposition, problem.labels != VOID
        mean = found.mean.reshape(len(found.mean), -1)
        self.mean64 = mean[:, valid]
        self.components64 = found.components.reshape(len(found.centre), *mean.shape)[:, :, valid]
        self.centre, self.half, self.labels = found.centre, found.half, problem.labels[valid]
        self.torch, self.search = torch, search
        self.min_accuracy, self.strict = settings.least_accuracy, settings.strict
        present, self.groups = np.unique(self.labels, return_inverse=True)
        if settings.pixelwise:
            present, self.groups = present[:1], np.zeros_like(self.groups)
        self.sizes = np.bincount(self.groups, minlength=len(present))
        self.mean = torch.as_tensor(self.mean64, dtype=torch.float32)
        self.components = torch.as_tensor(self.components64, dtype=torch.float32)
        self.index = torch.as_tensor(self.labels, dtype=torch.int64)
        self.group_index = torch.as_tensor(self.groups, dtype=torch.int64)

    def succeeds(self, lam: float, rng: np.random.Generator) -> bool:
        from scipy.stats import qmc

        torch, search, centre, half = self.torch, self.search, self.centre, self.half
        if len(centre) == 0:
            return self.is_accurate(centre)
        # The box is in float64. A point that float32 has rounded out of it is clipped before it counts.
        low, high = centre - lam * half, centre + lam * half
        points = low + (high - low) * qmc.LatinHypercube(len(low), rng=rng).random(search.n_points)
        starts = torch.as_tensor(points, dtype=torch.float32)
        with torch.no_grad():
            losses = torch.cat([self.loss(part) for part in starts.split(self.chunk())])
        best = losses.argsort()[: search.n_starts]
        ends = self.descend(starts[best], low, high)
        return any(self.is_accurate(np.clip(end, low, high)) for end in ends.double().numpy())

    def chunk(self) -> int:
        return max(1, _CHUNK_BYTES // (4 * self.mean64.size))

    def loss(self, c: Any) -> Any:
        """One minus the smooth accuracy of points (n, k)."""
        torch, search = self.torch, self.search
        scores = self.mean + torch.einsum("nk,klp->nlp", c, self.components)
        mass = torch.softmax(scores / search.temperature, dim=1)
        right = mass.gather(1, self.index.expand(len(c), 1, -1))[:, 0]
        n_groups = len(self.sizes)
        sums = torch.zeros(len(c), n_groups).index_add(1, self.group_index, right)
        sizes = torch.as_tensor(self.sizes, dtype=torch.float32)
        return 1 - ((sums + search.smoothing) / (sizes + search.smoothing)).mean(dim=1)

    def descend(self, starts: Any, low: NDArray[np.float64], high: NDArray[np.float64]) -> Any:
        """The points at which Adam ends. The runs are independent of each other, and only share a loop."""
        torch, search = self.torch, self.search
        low, high = (torch.as_tensor(corner, dtype=torch.float32) for corner in (low, high))
        c = starts.clone().requires_grad_()
        adam = torch.optim.Adam([c], lr=search.learning_rate, betas=(0.9, 0.999))
        best = torch.full((len(c),), math.inf)
        stale = torch.zeros(len(c), dtype=torch.int64)
        running = torch.ones(len(c), dtype=torch.bool)
        for _ in range(search.n_epochs):
            adam.zero_grad()
            losses = self.loss(c)
            losses.sum().backward()
            with torch.no_grad():
                improved = losses < best
                best = torch.where(improved, losses, best)
                stale = torch.where(improved, 0, stale + 1)
                running &= (losses >= 1 - float(self.min_accuracy)) & (stale < search.patience)
                if not running.any():
                    break
                before = c.clone()
                adam.step()
                c.clamp_(low, high)
                c[~running] = before[~running]
        return c.detach()

    def is_accurate(self, c: NDArray[np.float64]) -> bool:
        """Whether the argmax at coefficients is accurate enough, exactly."""
        scores = self.mean64.copy()
        for weight, component in zip(c, self.components64, strict=True):
            scores += weight * component
        right = scores.argmax(axis=0) == self.labels
        counts = np.bincount(self.groups[right], minlength=len(self.sizes))
        shares = [Fraction(int(a), int(b)) for a, b in zip(counts, self.sizes, strict=True)]
        accuracy = sum(shares, Fraction()) / len(shares)
        return accuracy > self.min_accuracy if self.strict else accuracy >= self.min_accuracy
