"""CONSIGN beside pixel-wise sets: the same guarantee, the same images, one set of draws for all metrics.

Viti, Karabelas, Holler, "CONSIGN: Conformal Segmentation Informed by Spatial Groupings via Decomposition", ICLR 2026,
compare their sets of whole segmentations with RAPS and SACP on the mean softmax: all promise that with probability
``1 - alpha`` the set holds a segmentation of label-wise accuracy ``min_accuracy`` or more. Here one draw of label maps
of each image serves all metrics, correlations leave out the maps' own, and coverage is that of the sets themselves, not
of samples: CONSIGN's certified by search, that of pixel-wise sets exact.
"""

from __future__ import annotations

import math
import statistics
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

import conformask as cm
from conformask._arrays import label_array
from conformask._exact import check_alpha
from conformask._images import track

__all__ = ["Comparison", "Outcome", "compare", "moving_edges", "stored_samples"]

_DRAWS = (1, 2, 5, 10, 20, 50, 100)
_CURVES = ("chao1", "sample_coverage", "correlation", "varying_correlation")
_Indices: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method gave on one split.

    Attributes
    ----------
    method : str
        Its name.
    split : int
        The split, from 0.
    n_calibration, n_test : int
        Images that calibrate and that test.
    lambda_hat : float or None
        The calibrated lambda; None if there is none: the method abstains, and what follows is NaN or empty.
    reason : str
        Why it abstains.
    coverage, coverage_bound : float
        Share of the test images whose set holds a segmentation that is accurate enough: it is at least the one and at
        most the other. They are the same but where a search of CONSIGN was left undecided.
    log10_volume : float
        Logarithm of the number of label maps that a set can draw, mean over test images: exact for pixel-wise sets
        (:func:`~conformask.metrics.log10_volume`), an upper bound for CONSIGN
        (:meth:`~conformask.ConsignSet.log10_volume_upper`).
    statuses : dict of str to float
        Shares of the calibration images by how their search ended (``ConsignCalibrator.image_status_``); empty for
        pixel-wise sets.
    chao1 : tuple of float
        Chao's estimate, bias-corrected, of the first m draws, for each m: the median over test images. An estimate
        cannot exceed ``m (m + 1) / 2``, and images with large sets stand at that ceiling however large they are. A mean
        would mix them in; the median does not feel them until they are half of the images.
    sample_coverage : tuple of float
        Share of the test images one of whose first m draws is accurate enough.
    correlation, varying_correlation : tuple of float
        Mean pairwise correlation of the first m draws, over all pixels and over those at which not all of them agree,
        mean over test images; images without such pixels are left out of the second. NaN for ``m = 1``.

    Examples
    --------
    >>> from conformask.reproduction.consign import Outcome
    >>> Outcome("RAPS", 0, 40, 20, lambda_hat=None, reason="too few images").abstained
    True
    """

    method: str
    split: int
    n_calibration: int
    n_test: int
    lambda_hat: float | None
    reason: str = ""
    coverage: float = math.nan
    coverage_bound: float = math.nan
    log10_volume: float = math.nan
    statuses: Mapping[str, float] = field(default_factory=dict)
    chao1: tuple[float, ...] = ()
    sample_coverage: tuple[float, ...] = ()
    correlation: tuple[float, ...] = ()
    varying_correlation: tuple[float, ...] = ()

    @property
    def abstained(self) -> bool:
        """Whether no lambda controls the risk."""
        return self.lambda_hat is None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What all methods gave on all splits. It prints as a table, in Markdown.

    Attributes
    ----------
    alpha, min_accuracy : float
        What was asked of all methods.
    n_samples : tuple of int
        The numbers of draws m of the curves.
    outcomes : tuple of Outcome
        Method by method, split by split.

    Examples
    --------
    See :func:`compare`.
    """

    alpha: float
    min_accuracy: float
    n_samples: tuple[int, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def methods(self) -> list[str]:
        """The methods, in order."""
        return list(dict.fromkeys(outcome.method for outcome in self.outcomes))

    def of(self, method: str) -> list[Outcome]:
        """The outcomes of a method.

        Parameters
        ----------
        method : str
            One of :attr:`methods`.

        Returns
        -------
        list of Outcome
            One for each split.

        Raises
        ------
        ValueError
            If there is no such method.
        """
        found = [outcome for outcome in self.outcomes if outcome.method == method]
        if not found:
            raise ValueError(f"method must be one of {self.methods}, got {method!r}")
        return found

    def curve(self, method: str, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A metric against the number of draws.

        Parameters
        ----------
        method : str
            One of :attr:`methods`.
        metric : {"chao1", "sample_coverage", "correlation", "varying_correlation"}
            As in :class:`Outcome`.

        Returns
        -------
        mean, sd : float64 arrays, one value for each of `n_samples`
            Over the splits on which the method does not abstain and the metric is defined; NaN if there is none, the
            standard deviation also if there is only one.

        Raises
        ------
        ValueError
            If there is no such method or metric.
        """
        if metric not in _CURVES:
            raise ValueError(f"metric must be one of {list(_CURVES)}, got {metric!r}")
        rows = [getattr(outcome, metric) for outcome in self.of(method) if not outcome.abstained]
        columns = [_mean_and_sd(row[i] for row in rows) for i in range(len(self.n_samples))]
        mean, sd = zip(*columns, strict=True)
        return np.array(mean), np.array(sd)

    def violations(self) -> list[str]:
        """Say which methods cover less than they must.

        With the images given, splits are random, and the guarantee speaks of them: the mean coverage of a method over
        its splits has an expectation of at least ``1 - alpha``, where abstaining counts as covering. It must not fall
        below by more than three standard errors. Those follow from the law of a split: how many of m test images
        are among the k smallest of n others is beta-binomial.

        Returns
        -------
        list of str
            One sentence each; empty if all holds.
        """
        found = []
        for method in self.methods:
            outcomes = self.of(method)
            covered = [1.0 if outcome.abstained else outcome.coverage for outcome in outcomes]
            mean, least = statistics.fmean(covered), 1 - float(self.alpha) - 3 * self._error(method)
            if mean < least:
                found.append(f"{method}: the mean coverage is {mean:.4f}, below {least:.4f}")
        return found

    def __str__(self) -> str:
        first = self.outcomes[0]
        m = self.n_samples[-1]
        header = [
            *(
                "method",
                "lambda-hat",
                "coverage",
                f"SEC({m})",
                f"Chao({m})",
                "corr.",
                "corr. var.",
                "log10 vol.",
            ),
            *("abstained", "calibration images"),
        ]
        rows = [header, *(self._row(method) for method in self.methods)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = [
            "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
            for row in rows
        ]
        lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
        n_splits = len(self.of(first.method))
        head = (
            f"alpha = {self.alpha:g}, min_accuracy = {self.min_accuracy:g}; {n_splits} splits into "
            f"{first.n_calibration} calibration and {first.n_test} test images; mean (sd)"
        )
        legend = (
            "coverage: share of test images whose set holds a segmentation that is accurate enough. "
            f"SEC({m}): of those one of whose {m} draws is. Chao({m}): how many segmentations the draws let expect, at "
            f"most {m * (m + 1) // 2}. corr.: correlation of pairs of draws, over all pixels and over those that vary. "
            "log10 vol.: of the number of segmentations. calibration images: how the search of each ended."
        )
        return "\n\n".join([head, "\n".join(lines), *self._reasons(), legend, self._verdict()])

    def _reasons(self) -> list[str]:
        """Why methods abstain, once each."""
        reasons = {outcome.method: outcome.reason for outcome in reversed(self.outcomes) if outcome.abstained}
        return [f"{method} abstains: {reason}" for method, reason in reversed(reasons.items())]

    def _verdict(self) -> str:
        below = self.violations()
        if below:
            return "; ".join(below)
        errors = sorted({f"{self._error(method):.3f}" for method in self.methods})
        return (
            f"The promise of {1 - self.alpha:g} is one of expectation. No mean coverage is below it by more than three "
            f"of its standard errors ({' to '.join(errors)})."
        )

    def _error(self, method: str) -> float:
        """The standard error of the mean coverage."""
        variances = [_variance(outcome, check_alpha(self.alpha)) for outcome in self.of(method)]
        return math.sqrt(math.fsum(variances)) / len(variances)

    def _repr_markdown_(self) -> str:
        return str(self)

    def _row(self, method: str) -> list[str]:
        outcomes = self.of(method)
        kept = [outcome for outcome in outcomes if not outcome.abstained]
        statuses: Counter[str] = Counter()
        for outcome in outcomes:
            statuses.update(outcome.statuses)
        low, high = (_spread([getattr(o, name) for o in kept]) for name in ("coverage", "coverage_bound"))
        return [
            method,
            _spread([float(o.lambda_hat) for o in kept if o.lambda_hat is not None], "#.3g"),
            low if low == high else f"{low} to {high}",
            _spread([o.sample_coverage[-1] for o in kept]),
            _spread([o.chao1[-1] for o in kept], ".4g"),
            _spread([o.correlation[-1] for o in kept]),
            _spread([o.varying_correlation[-1] for o in kept]),
            ("at most " if statuses and kept else "") + _spread([o.log10_volume for o in kept], ".1f"),
            f"{len(outcomes) - len(kept)} of {len(outcomes)}",
            ", ".join(f"{share / len(outcomes):.0%} {name}" for name, share in statuses.items()) or "-",
        ]


def compare(
    samples: Any,
    labels: Any,
    *,
    alpha: float = 0.1,
    min_accuracy: float = 0.9,
    n_components: int | Sequence[int] = (2, 5),
    baselines: Mapping[str, Any] | None = None,
    n_samples: Sequence[int] = _DRAWS,
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
        Numbers of draws m. As many as the last are drawn of each image; the first m of them serve the others.
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
        If the arguments do not fit. A split on which no lambda controls the risk is no error, but an outcome.

    Notes
    -----
    Split s is ``default_rng(SeedSequence(random_state, spawn_key=(s,))).permutation`` of the images with labelled
    pixels, of which the first calibrate. The key of the draws of image i is the little-endian number of
    ``SeedSequence(random_state, spawn_key=(s, i)).generate_state(2, np.uint64)``, whatever the method: nothing that
    calibration saw of the image goes into its draws.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN: Conformal Segmentation Informed by Spatial Groupings via Decomposition", ICLR
    2026.

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
    images = _Images(samples, labels, ignore_index)
    n_calibration = len(images) // 2 if n_calibration is None else n_calibration
    if not 1 <= n_calibration < len(images):
        raise ValueError(f"n_calibration must be in [1, {len(images) - 1}], got {n_calibration}")
    scores = {"RAPS": cm.RAPS(), "SACP": cm.SACP()} if baselines is None else baselines
    methods: dict[str, _Method] = {
        f"CONSIGN, k = {k}": _Consign(images, k, alpha, min_accuracy)
        for k in np.atleast_1d(n_components).tolist()
    }
    methods |= {name: _PixelWise(images, score, alpha, min_accuracy) for name, score in scores.items()}
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


def moving_edges(
    n_images: int, *, n_samples: int = 6, size: int = 16, random_state: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Make samples of images whose one doubt is where an object begins.

    The edge of an image is at a random place, and its samples and its truth scatter around that place alike. So truth
    and samples are exchangeable, and neighbouring pixels change together.

    Parameters
    ----------
    n_images : int
        How many images.
    n_samples : int, default=6
        Samples of each.
    size : int, default=16
        Height and width in pixels.
    random_state : int, default=0
        The seed.

    Returns
    -------
    samples : float32 array (n_images, n_samples, 2, size, size)
        Probabilities.
    labels : uint8 array (n_images, size, size)
        Labels.

    Examples
    --------
    >>> from conformask.reproduction.consign import moving_edges
    >>> samples, labels = moving_edges(3)
    >>> samples.shape, labels.shape
    ((3, 6, 2, 16, 16), (3, 16, 16))
    """
    rng = np.random.default_rng(random_state)
    edges = rng.normal(0, 0.3, (n_images, n_samples + 1, 1, 1)) + rng.normal(0, 0.3, (n_images, 1, 1, 1))
    fields = 4 * (np.linspace(-1, 1, size) - edges) * np.ones((size, 1))
    share = 1 / (1 + np.exp(-2 * fields[:, :n_samples]))
    return np.stack([1 - share, share], axis=2).astype(np.float32), (fields[:, -1] > 0).astype(np.uint8)


def stored_samples(folder: str | Path | None) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Read dropout samples of a small network on real ultrasound images (usgra-seg).

    Parameters
    ----------
    folder : path or None
        The folder that holds ``usgra-seg/samples.npz``.

    Returns
    -------
    samples : float array (n, S, 3, H, W)
        Probabilities.
    labels : integer array (n, H, W)
        Labels: background, nerve, vessel.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged.

    Examples
    --------
    >>> from conformask.reproduction.consign import stored_samples
    >>> samples, labels = stored_samples("data")  # doctest: +SKIP
    >>> samples.shape  # doctest: +SKIP
    (40, 8, 3, 128, 128)
    """
    if folder is None:
        raise FileNotFoundError("no folder was given that holds usgra-seg")
    file = Path(folder) / "usgra-seg" / "samples.npz"
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        with file.open("rb") as stream:  # np.load leaves a damaged archive open
            arrays = np.load(stream)
            return arrays["samples"], arrays["labels"]
    except (LookupError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} is damaged, or holds no samples and labels: {error}") from error


# Inside


class _Images:
    """Labelled images, one at a time."""

    def __init__(self, samples: Any, labels: Any, ignore_index: int | None) -> None:
        self.samples, self.labels, self.ignore_index = samples, labels, ignore_index
        # Where each image that has labelled pixels is among all.
        self.places: _Indices = np.array(
            [
                i
                for i, label in enumerate(labels)
                if ignore_index is None or (label_array(label, "labels") != ignore_index).any()
            ],
            np.intp,
        )

    def __len__(self) -> int:
        return len(self.places)

    def label(self, i: int) -> Any:
        return self.labels[self.places[i]]

    def sample(self, i: int) -> Any:
        return self.samples[self.places[i]]

    def mean(self, i: int) -> NDArray[np.float64]:
        """The mean softmax."""
        mean: NDArray[np.float64] = np.asarray(self.sample(i)).mean(axis=0, dtype=np.float64)
        return mean

    def pairs(self, chosen: _Indices) -> Iterator[tuple[Any, Any]]:
        return ((self.sample(i), self.label(i)) for i in chosen)


class _Method(Protocol):
    """A way to make sets, and label maps of them."""

    def calibrate(self, chosen: _Indices) -> float:
        """Lambda-hat."""

    def statuses(self) -> dict[str, float]:
        """Shares of the calibration images, also of those on which calibration failed."""

    def coverage(self, chosen: _Indices) -> tuple[float, float]:
        """Least and largest."""

    def draw(self, i: int, m: int, key: int) -> tuple[NDArray[np.integer[Any]], float]:
        """Label maps (m, H, W), and the logarithm of how many there are."""


class _Consign:
    def __init__(self, images: _Images, k: int, alpha: float, min_accuracy: float) -> None:
        self.images = images
        self.calibrator = cm.ConsignCalibrator(
            k, alpha=alpha, min_accuracy=min_accuracy, ignore_index=images.ignore_index, progress=False
        )

    def calibrate(self, chosen: _Indices) -> float:
        return self.calibrator.fit(self.images.pairs(chosen)).lambda_hat_

    def statuses(self) -> dict[str, float]:
        found = Counter(self.calibrator.image_status_.tolist())
        return {name: count / found.total() for name, count in sorted(found.items())}

    def coverage(self, chosen: _Indices) -> tuple[float, float]:
        report = self.calibrator.evaluate(self.images.pairs(chosen))
        return report.coverage, report.coverage_bound

    def draw(self, i: int, m: int, key: int) -> tuple[NDArray[np.integer[Any]], float]:
        [found] = self.calibrator.predict([self.images.sample(i)])
        return found.sample(m, key), found.log10_volume_upper()


class _PixelWise:
    """Sets of the mean softmax. The profiles of all images answer every split, with the bits of a calibrator."""

    def __init__(self, images: _Images, score: Any, alpha: float, min_accuracy: float) -> None:
        self.images, self.score, self.alpha = images, score, alpha
        self.loss = cm.LabelAccuracyLoss(min_accuracy)
        self.profiles = cm.profile(
            ((images.mean(i), images.label(i)) for i in range(len(images))),
            conformity_score=score,
            ignore_index=images.ignore_index,
            progress=False,
        )
        self.lam = math.nan

    def calibrate(self, chosen: _Indices) -> float:
        self.lam = self.profiles[chosen].lambda_hat(self.loss, self.alpha)
        return self.lam

    def statuses(self) -> dict[str, float]:
        return {}

    def coverage(self, chosen: _Indices) -> tuple[float, float]:
        covered = 1 - self.profiles[chosen].risk(self.loss, self.lam)
        return covered, covered

    def draw(self, i: int, m: int, key: int) -> tuple[NDArray[np.integer[Any]], float]:
        masks = cm.kernels.threshold(self.images.mean(i)[np.newaxis], self.lam, self.score)
        return cm.kernels.sample_masks(masks, m, key)[0], float(cm.metrics.log10_volume(masks))


def _outcome(
    name: str,
    split: int,
    method: _Method,
    images: _Images,
    calibration: _Indices,
    test: _Indices,
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
        tuple(_mean_and_sd(column)[0] for column in values.T) for values in others
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
        # What is covered stays covered: only the draws that are new are looked at.
        new = cm.metrics.sample_coverage([label], [maps[before:m]], min_accuracy, ignore_index=ignore_index)
        covered = max(covered, float(new))
        varying = bool((first != first[0]).any())
        yield (
            cm.metrics.chao1(first),
            covered,
            cm.metrics.pairwise_correlation(first) if m > 1 else math.nan,
            cm.metrics.pairwise_correlation(first, varying_only=True) if varying else math.nan,
        )


def _mean_and_sd(values: Iterable[float]) -> tuple[float, float]:
    """Of what is defined; the standard deviation of samples, NaN for less than two."""
    defined = [float(value) for value in values if not math.isnan(value)]
    return (
        math.fsum(defined) / len(defined) if defined else math.nan,
        statistics.stdev(defined) if len(defined) > 1 else math.nan,
    )


def _seed(random_state: int, *which: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(random_state, spawn_key=which)


def _key(random_state: int, split: int, place: int) -> int:
    """The key of the draws of an image."""
    low, high = _seed(random_state, split, place).generate_state(2, np.uint64).tolist()
    return int(low + (high << 64))


def _variance(outcome: Outcome, alpha: Fraction) -> float:
    """That of the coverage of a split, by the beta-binomial law."""
    n, m = outcome.n_calibration, outcome.n_test
    p = math.ceil((n + 1) * (1 - alpha)) / (n + 1)
    return p * (1 - p) * (n + 1 + m) / (m * (n + 2))


def _spread(values: Iterable[float], spec: str = ".3f") -> str:
    """Mean (sd), as text."""
    mean, sd = _mean_and_sd(values)
    if math.isnan(mean):
        return "-"
    return f"{mean:{spec}}" + ("" if math.isnan(sd) else f" ({sd:{spec}})")
