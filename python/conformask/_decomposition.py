"""Samples of one image as a mean and a few components: what CONSIGN's sets are made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from conformask.kernels import truncated_svd

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Decomposition", "decompose"]

# Components whose share of the largest singular value is no more are noise.
_RELATIVE_RANK = 1e-6
# Relative differences that are not more than so many roundings of float64 are none.
_ROUNDINGS = 4


class Decomposition(NamedTuple):
    """Samples as a mean and components; `centre` and `half` are the box of coefficients at lambda = 1."""

    mean: NDArray[np.float64]  # (K, H, W)
    components: NDArray[np.float64]  # (k, K, H, W)
    singular_values: NDArray[np.float64]  # (k,)
    centre: NDArray[np.float64]  # (k,)
    half: NDArray[np.float64]  # (k,)

    def flat(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean (K, pixels) and components (k, K, pixels)."""
        mean = self.mean.reshape(len(self.mean), -1)
        return mean, self.components.reshape(len(self.components), *mean.shape)

    def asked(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """What a search needs besides labels."""
        return *self.flat(), self.centre, self.half


def decompose(
    samples: NDArray[np.floating[Any]], n_components: int, level: float, weight: str, index: int
) -> Decomposition:
    """Mean, components and box of (S, K, H, W)."""
    n_samples, shape = len(samples), samples.shape[1:]
    flat = np.array(samples, np.float64, order="C").reshape(n_samples, -1)
    if not np.isfinite(flat).all():
        sample, place = np.argwhere(~np.isfinite(flat))[0]
        label, pixel = divmod(int(place), math.prod(shape[1:]))
        raise ValueError(
            f"X is not finite in image {index}: sample {sample}, class {label} is {flat[sample, place]} "
            f"at pixel {pixel}"
        )
    # Differences from the first sample are exact where samples are equal, so that their mean is, too.
    first = flat[0].copy()
    flat -= first
    shift = flat.mean(axis=0)
    flat -= shift
    mean = first + shift
    eps = np.finfo(np.float64).eps
    # What varies by roundings alone does not vary; and the size of a masked class, -1e30, makes nothing else noise.
    still = np.maximum(flat.max(axis=0), -flat.min(axis=0)) <= _ROUNDINGS * eps * np.abs(mean)
    flat[:, still] = 0.0
    k = min(n_components, n_samples - 1, flat.shape[1])
    U, s, Vt = (
        truncated_svd(flat.T, k)
        if k
        else (np.zeros((flat.shape[1], 0)), np.zeros(0), np.zeros((0, n_samples)))
    )
    noise = eps * math.sqrt(n_samples) * float(np.linalg.norm(mean[~still]))
    kept = s > max(_RELATIVE_RANK * s.max(initial=0.0), noise)
    U, s, Vt = np.array(U[:, kept].T, order="C"), s[kept], Vt[kept]
    U[:, still] = 0.0  # what does not vary is in no component, not even by rounding
    coefficients = s[:, np.newaxis] * Vt
    a, b = np.quantile(coefficients, [level, 1 - level], axis=1)
    scale = {"sigma": s, "relative": s / s.max(initial=0.0) if len(s) else s, "none": np.ones(len(s))}[weight]
    return Decomposition(mean.reshape(shape), U.reshape(len(s), *shape), s, (a + b) / 2, scale * (b - a) / 2)
