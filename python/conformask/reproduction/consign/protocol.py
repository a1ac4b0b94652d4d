"""The protocol: random splits, one calibration of each method, one set of draws for all metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import conformask as cm
from conformask._images import track
from conformask.metrics.richness import chao1_of_counts
from conformask.reproduction.consign._methods import Consign, Images, Indices, Method, PixelWise
from conformask.reproduction.consign.outcomes import Comparison, Outcome, mean_and_sd

__all__ = ["compare"]

DRAWS = (1, 2, 5, 10, 20, 50, 100)


def compare(
    samples: Any,
    labels: Any,
    *,
    alpha: float = 0.1,
    min_accuracy: float = 0.9,
    n_components: int | Sequence[int] = (2, 5),
    baselines: Mapping[str, Any] | None = None,
    n_samples: Sequence[int] = DRAWS,
    n_splits: int = 5,
    n_calibration: int | None = None,
    ignore_index: int | None = 255,
    random_state: int = 0,
    progress: bool | str = "auto",
) -> Comparison:
    """Calibrate CONSIGN and pixel-wise sets on random splits, and draw label maps of their sets.

    Images without labelled pixels are left out before the split.

    Parameters
    ----------
    samples : array (n, S, K, H, W), or sequence of arrays (S, K, H, W)
        Probabilities: S samples of one model for each image. Images are taken one at a time, for each method and split.
    labels : integer array (n, H, W), or sequence of arrays (H, W)
        Labels.
    alpha, min_accuracy : float
        The risk level and the label-wise accuracy of all methods.
    n_components : int or sequence of int, default=(2, 5)
        One :class:`~conformask.ConsignCalibrator` each.
    baselines : dict of str to conformity score, or None
        Scores of pixel-wise sets of the mean over the samples, by name; None for ``{"RAPS": RAPS(), "SACP": SACP()}``.
    n_samples : sequence of int, ascending
        Numbers of draws m. The last number of label maps is drawn for each image; the first m of them serve each m.
    n_splits : int, default=5
        How many random splits.
    n_calibration : int or None, default=None
        How many images calibrate; None for half of them.
    ignore_index : int or None, default=255
        The label of void pixels.
    random_state : int >= 0, default=0
        Splits and draws follow from it; see the notes.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over methods and splits.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        If the arguments do not fit. A split on which no lambda controls the risk is an outcome, not an error.

    See Also
    --------
    conformask.ConsignCalibrator : The sets of whole segmentations.
    conformask.RAPS, conformask.SACP : The scores of the pixel-wise sets.

    Notes
    -----
    Split s is ``default_rng(SeedSequence(random_state, spawn_key=(s,))).permutation`` of the images with labelled
    pixels, of which the first calibrate. The key of the draws of image i is the little-endian number of
    ``SeedSequence(random_state, spawn_key=(s, i)).generate_state(2, np.uint64)``, the same for every method: the random
    numbers do not depend on anything that calibration computed.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN", ICLR 2026, arXiv:2505.14113.

    Examples
    --------
    >>> from conformask.reproduction.consign import compare, moving_edges
    >>> samples, labels = moving_edges(60, random_state=0)
    >>> found = compare(samples, labels, n_components=(2,), n_samples=(1, 10, 50), n_splits=2)
    >>> found.methods, found.violations()
    (['CONSIGN, k = 2', 'RAPS', 'SACP'], [])
    >>> [float(found.curve(method, "chao1")[0][-1]) for method in found.methods]
    [7.0, 1275.0, 1275.0]
    """
    ms = tuple(n_samples)
    if not ms or list(ms) != sorted(set(ms)) or ms[0] < 1:
        raise ValueError(f"n_samples must be ascending and at least 1, got {list(n_samples)}")
    if n_splits < 1:
        raise ValueError(f"n_splits must be at least 1, got {n_splits}")
    if len(samples) != len(labels):
        raise ValueError(f"samples has {len(samples)} images, labels has {len(labels)}")
    images = Images(samples, labels, ignore_index)
    n_calibration = len(images) // 2 if n_calibration is None else n_calibration
    if not 1 <= n_calibration < len(images):
        raise ValueError(f"n_calibration must be in [1, {len(images) - 1}], got {n_calibration}")
    scores = {"RAPS": cm.RAPS(), "SACP": cm.SACP()} if baselines is None else baselines
    methods: dict[str, Method] = {
        f"CONSIGN, k = {k}": Consign(images, k, alpha, min_accuracy)
        for k in np.atleast_1d(n_components).tolist()
    }
    methods |= {name: PixelWise(images, score, alpha, min_accuracy) for name, score in scores.items()}
    jobs = [(name, split) for name in methods for split in range(n_splits)]
    outcomes = []
    for name, split in track(jobs, progress, len(jobs), "split"):
        order = np.random.default_rng(_seed(random_state, split)).permutation(len(images))
        calibration, test = np.sort(order[:n_calibration]), np.sort(order[n_calibration:])
        keys = [_key(random_state, split, int(images.places[i])) for i in test]
        outcomes.append(
            _outcome(name, split, methods[name], images, calibration, test, keys, ms, min_accuracy)
        )
    return Comparison(float(alpha), float(min_accuracy), ms, tuple(outcomes))


def _outcome(
    name: str,
    split: int,
    method: Method,
    images: Images,
    calibration: Indices,
    test: Indices,
    keys: Sequence[int],
    ms: tuple[int, ...],
    min_accuracy: float,
) -> Outcome:
    try:
        lambda_hat = method.calibrate(calibration)
    except cm.InfeasibleRiskError as error:
        return Outcome(name, split, len(calibration), len(test), None, str(error), statuses=method.statuses())
    coverage, coverage_bound = method.coverage(test)
    volumes, curves = [], []
    for i, key in zip(test, keys, strict=True):
        maps, volume = method.draw(int(i), ms[-1], key)
        volumes.append(volume)
        curves.append(list(_metrics(images.label(i), maps, ms, min_accuracy, images.ignore_index)))
    chao, *others = np.moveaxis(np.array(curves), (1, 2), (2, 0))  # each (images, m)
    covered, correlation, varying = (
        tuple(mean_and_sd(column)[0] for column in values.T) for values in others
    )
    return Outcome(
        name,
        split,
        len(calibration),
        len(test),
        lambda_hat,
        coverage=coverage,
        coverage_bound=coverage_bound,
        log10_volume=math.fsum(volumes) / len(volumes),
        statuses=method.statuses(),
        chao1=tuple(np.median(chao, axis=0).tolist()),
        sample_coverage=covered,
        correlation=correlation,
        varying_correlation=varying,
    )


def _metrics(
    label: ArrayLike,
    maps: NDArray[np.integer[Any]],
    ms: tuple[int, ...],
    min_accuracy: float,
    ignore_index: int | None,
) -> Iterator[tuple[float, float, float, float]]:
    """The values of :data:`_CURVES` on the first m draws of one image, for each m; NaN where undefined."""
    covered = 0.0
    for before, m in pairwise((0, *ms)):
        first = maps[:m]
        # An image that is covered stays covered, so only the new draws are compared.
        new = cm.metrics.sample_coverage([label], [maps[before:m]], min_accuracy, ignore_index=ignore_index)
        covered = max(covered, float(new))
        varying = bool((first != first[0]).any())
        yield (
            chao1_of_counts(*cm.kernels.distinct_counts(first)),
            covered,
            cm.metrics.pairwise_correlation(first) if m > 1 else math.nan,
            cm.metrics.pairwise_correlation(first, varying_only=True) if varying else math.nan,
        )


def _seed(random_state: int, *which: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(random_state, spawn_key=which)


def _key(random_state: int, split: int, place: int) -> int:
    """The key of the draws of an image."""
    low, high = _seed(random_state, split, place).generate_state(2, np.uint64).tolist()
    return int(low + (high << 64))
