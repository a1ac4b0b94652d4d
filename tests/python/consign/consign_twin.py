"""The slow twin of CONSIGN: every definition as it is written, in NumPy and exact fractions. Nothing is shared with the
package."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

VOID = 255


# Problems


def fields(
    rng: np.random.Generator,
    n: int,
    size: int = 8,
    n_classes: int = 2,
    n_samples: int = 6,
    *,
    strength: float = 1.0,
    noise: float = 0.2,
    modes: int = 4,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Samples (n, S, K, H, W) and labels (n, H, W), exchangeable with one another: a base field and random modes,
    smooth in space; the labels are the argmax of one more draw."""
    wave = np.exp(-((np.arange(size)[:, None] - np.arange(size)) ** 2) / (2 * (size / 4) ** 2))
    wave /= np.linalg.norm(wave, axis=1, keepdims=True)

    def smooth(*shape: int) -> NDArray[np.float64]:
        return wave @ rng.standard_normal((*shape, n_classes, size, size)) @ wave.T

    base, patterns = 1.5 * smooth(n, 1), smooth(n, modes)
    weights = strength * rng.standard_normal((n, n_samples + 1, modes))
    draws = base + np.einsum("nsm,nmkhw->nskhw", weights, patterns) + noise * smooth(n, n_samples + 1)
    probabilities = np.exp(draws - draws.max(axis=2, keepdims=True))
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    return probabilities[:, :-1], draws[:, -1].argmax(axis=1)


# Sets


EPS = float(np.finfo(np.float64).eps)


class Decomposition(NamedTuple):
    mean: NDArray[np.float64]  # (K, pixels)
    components: NDArray[np.float64]  # (k, K, pixels)
    centre: NDArray[np.float64]
    half: NDArray[np.float64]


class Centred(NamedTuple):
    """Samples less their mean, to the bit."""

    mean: NDArray[np.float64]  # (entries,)
    still: NDArray[np.bool_]  # (entries,), what varies by at most four roundings
    differences: NDArray[np.float64]  # (S, entries), 0 where still

    @property
    def noise(self) -> float:
        """Singular values of what rounding makes of equal samples."""
        return EPS * np.sqrt(len(self.differences)) * float(np.linalg.norm(self.mean[~self.still]))


def centred(samples: NDArray) -> Centred:
    """Of samples (S, K, ...): sums of differences from the first sample, one sample after the other."""
    flat = samples.reshape(len(samples), -1).astype(np.float64)
    shift = np.zeros(flat.shape[1])
    for sample in flat:
        shift += sample - flat[0]
    shift /= len(flat)
    mean, differences = flat[0] + shift, flat - flat[0] - shift
    still = np.abs(differences).max(axis=0) <= 4 * EPS * np.abs(mean)
    return Centred(mean, still, np.where(still, 0.0, differences))


def least_value(c: Centred, values: NDArray) -> float:
    """Components whose singular value is no more than this are none."""
    return max(1e-6 * values.max(initial=0.0), c.noise)


def box(
    q: NDArray, values: NDArray, level: float, weight: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middle and half sides of the box at lambda = 1, of the samples' coefficients (k, S)."""
    a, b = np.quantile(q, level, axis=1), np.quantile(q, 1 - level, axis=1)
    scale = {"sigma": values, "relative": values / values.max(initial=0.0), "none": np.ones(len(values))}
    return (a + b) / 2, scale[weight] * (b - a) / 2


def decompose(samples: NDArray, k: int, level: float = 0.05, weight: str = "sigma") -> Decomposition:
    """Of samples (S, K, ...); the signs of components are any."""
    S, K = samples.shape[:2]
    c = centred(samples)
    U, s, Vt = np.linalg.svd(c.differences.T, full_matrices=False)
    kept = [i for i in range(min(k, S - 1, len(s))) if s[i] > least_value(c, s)]
    return Decomposition(
        c.mean.reshape(K, -1),
        U[:, kept].T.reshape(len(kept), K, -1),
        *box(s[kept, None] * Vt[kept], s[kept], level, weight),
    )


def segmentation(d: Decomposition, z: NDArray) -> NDArray[np.int64]:
    c = d.centre + d.half * np.asarray(z, float)
    scores = d.mean.copy()
    for weight, component in zip(c, d.components, strict=True):
        scores = scores + weight * component
    return scores.argmax(axis=0)


def accuracy(labels: NDArray, truth: NDArray, *, pixelwise: bool = False, void: int = VOID) -> Fraction:
    """The mean over the labels of the truth of the share of their pixels that are right."""
    labels, truth = np.ravel(labels), np.ravel(truth)
    labels, truth = labels[truth != void], truth[truth != void]
    if pixelwise:
        return Fraction(int((labels == truth).sum()), len(truth))
    present = np.unique(truth)
    shares = [Fraction(int((labels[truth == l] == l).sum()), int((truth == l).sum())) for l in present]
    return sum(shares, Fraction()) / len(present)


# Searches


def leads(d: Decomposition, truth: NDArray) -> list[list[tuple[float, NDArray[np.float64]]]]:
    """Of each labelled pixel, its leads over its competitors at z = 0, and their gradients."""
    truth, K = np.ravel(truth), len(d.mean)
    found = []
    for p, y in enumerate(truth):
        if y == VOID:
            continue
        rows = []
        for l in range(K):
            if l != y:
                u = d.components[:, y, p] - d.components[:, l, p]
                rows.append((d.mean[y, p] - d.mean[l, p] + float(u @ d.centre), u * d.half))
        found.append(rows)
    return found


def weights(truth: NDArray) -> list[Fraction]:
    truth = np.ravel(truth)
    truth = truth[truth != VOID]
    present, counts = np.unique(truth, return_counts=True)
    n = dict(zip(present.tolist(), counts.tolist(), strict=True))
    return [Fraction(1, len(present) * n[int(y)]) for y in truth]


def closed_accuracy(rows: list, w: list[Fraction], z: NDArray, tolerance: float = 1e-9) -> Fraction:
    """The accuracy at z where near-ties count as right."""
    right = (all(d + g @ z >= -tolerance for d, g in pixel) for pixel in rows)
    return sum((weight for ok, weight in zip(right, w, strict=True) if ok), Fraction())


def enumerate_vertices(d: Decomposition, truth: NDArray, beta: Fraction) -> float:
    """lambda* with two components, from all vertices of the arrangement of the pixels' lines and the diagonals: the
    distance to 0 has its minimum over a cell in one of them. Infinite if no cell is accurate enough."""
    rows, w = leads(d, truth), weights(truth)
    lines = [(lead, g) for pixel in rows for lead, g in pixel if np.linalg.norm(g) > 1e-12]
    lines += [(0.0, np.array([1.0, 1.0])), (0.0, np.array([1.0, -1.0]))]
    points = [np.zeros(2)]
    for (d1, g1), (d2, g2) in itertools.combinations(lines, 2):
        A = np.array([g1, g2])
        if abs(np.linalg.det(A)) > 1e-12 * np.linalg.norm(g1) * np.linalg.norm(g2):
            points.append(np.linalg.solve(A, [-d1, -d2]))
    Z = np.array(points)
    counts = np.zeros(len(Z))
    for pixel, weight in zip(rows, w, strict=True):
        ok = np.ones(len(Z), bool)
        for lead, g in pixel:
            ok &= lead + Z @ g >= -1e-9 * (1 + np.abs(Z).max(axis=1) * np.abs(g).max())
        counts += float(weight) * ok
    accurate = counts >= float(beta) - 1e-12
    return float(np.abs(Z[accurate]).max(axis=1).min()) if accurate.any() else np.inf


def sweep(d: Decomposition, truth: NDArray, beta: Fraction, direction: NDArray) -> float:
    """The smallest t >= 0 at which `t * direction` is accurate enough: of all crossings, by definition."""
    rows, w = leads(d, truth), weights(truth)
    crossings = [-lead / (g @ direction) for pixel in rows for lead, g in pixel if abs(g @ direction) > 1e-15]
    for t in sorted([0.0, *(t for t in crossings if t > 0)]):
        if closed_accuracy(rows, w, t * direction) >= beta:
            return t
    return np.inf


def branch_and_bound(
    d: Decomposition, truth: NDArray, beta: Fraction, limit: float, tolerance: float = 1e-3
) -> tuple[float, float]:
    """A bracket of lambda* in |z| <= limit: boxes, the nearest first, halved where they are longest."""
    rows, w = leads(d, truth), weights(truth)
    k = len(d.centre)
    boxes = [(0.0, 0, np.full(k, -limit), np.full(k, limit))]
    best, number = np.inf, 0
    while boxes:
        boxes.sort(key=lambda box: box[:2])
        distance, _, low, high = boxes.pop(0)
        if distance >= best * (1 - tolerance):
            return distance, best
        centre, radius = (low + high) / 2, (high - low) / 2
        possible = Fraction()
        for pixel, weight in zip(rows, w, strict=True):
            if all(lead + g @ centre + abs(g) @ radius >= 0 for lead, g in pixel):
                possible += weight
        if possible < beta:
            continue
        for z in (centre, np.clip(0, low, high)):
            if np.abs(z).max() < best and accuracy(segmentation(d, z), truth) >= beta:
                best = float(np.abs(z).max())
        axis = int(np.argmax(radius))
        for part in (0, 1):
            lows, highs = low.copy(), high.copy()
            (lows if part else highs)[axis] = centre[axis]
            number += 1
            boxes.append((float(np.abs(np.clip(0, lows, highs)).max()), number, lows, highs))
    return best, best
