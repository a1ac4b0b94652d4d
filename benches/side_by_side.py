"""Compares conformask with NumPy (and MAPIE) on one machine, in one run.

Every repeat runs every contestant once, in turn, so that all run under the same conditions; the table shows medians.
Ratios are to `np.max(X)` over the same memory, the cost of reading the maps once. The first round is for warming up.

    python benches/side_by_side.py --images 64 --threads 2 --repeats 7 --markdown
"""

from __future__ import annotations

import argparse
import importlib.metadata
import multiprocessing
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import ndimage

import conformask as cm

try:
    import torch
except ImportError:  # NumPy takes its place
    torch = None

VOID = 255
AGREEMENT = 0.85  # share of labelled pixels whose label is the argmax
VOID_SHARE = 0.05
MIB = 2**20

READ = "np.max(X)"
READ_BY_TWO = "np.max of halves, two threads"
PREDICT_INTO = "predict(out=)"
EXACT_NUMPY = "exact NumPy lambda-hat"
NUMPY_MASKS = "NumPy masks X >= 1 - lam"
FIT_BY_CLASS, PREDICT_BY_CLASS = "fit by class", "predict by class"

Scores: TypeAlias = NDArray[np.floating[Any]]
Labels: TypeAlias = NDArray[np.int64]


# Data


@dataclass(frozen=True)
class Workload:
    """Maps, labels, and the level at which they are calibrated."""

    name: str
    X: Scores
    y: Labels
    alpha: float


def softmax_maps(rng: np.random.Generator, shape: tuple[int, ...], dtype: DTypeLike) -> Scores:
    """Probabilities of confident pixels and of doubtful ones."""
    X = np.empty(shape, dtype)
    for image in X:
        rng.standard_exponential(out=image, dtype=X.dtype)
        np.square(image, out=image)
        image /= image.sum(axis=0)
    return X


def labels_for(rng: np.random.Generator, X: Scores, agreement: float) -> Labels:
    """Labels that are the argmax on a share of the pixels, another class elsewhere, and void here and there."""
    n_classes, size = X.shape[1], X.shape[2:]
    y = np.empty((len(X), *size), np.int64)
    for image, labels in zip(X, y, strict=True):
        shift = rng.integers(1, n_classes, size) * (rng.random(size) >= agreement)
        labels[...] = (image.argmax(axis=0) + shift) % n_classes
        labels[rng.random(size) < VOID_SHARE] = VOID
    return y


def workload(
    name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32, alpha: float = 0.1
) -> Workload:
    rng = np.random.default_rng(0)
    X = softmax_maps(rng, shape, dtype)
    return Workload(name, X, labels_for(rng, X, AGREEMENT), alpha)


def channel_last(X: Scores) -> Scores:
    """The same maps as a view of memory in which a pixel's classes are neighbours."""
    memory = np.empty((len(X), *X.shape[2:], X.shape[1]), X.dtype)
    for image, target in zip(X, memory, strict=True):
        target[...] = np.moveaxis(image, 0, -1)
    return np.moveaxis(memory, -1, 1)


# Limits


class Key(NamedTuple):
    workload: str
    name: str


Medians: TypeAlias = dict[Key, float]


@dataclass(frozen=True)
class AtMost:
    """A limit: at most so many times the time of another contestant."""

    times: float
    of: Key

    def verdict(self, own: Key, medians: Medians) -> str:
        ratio = medians[own] / medians[self.of]
        place = "" if own.workload == self.of.workload else f" of {self.of.workload}"
        return f"<= {self.times:g}x {self.of.name}{place}: {ratio:.2f}x, {holds(ratio <= self.times)}"


@dataclass(frozen=True)
class Faster:
    """A limit: at least so many times as fast as another contestant."""

    times: float
    of: Key

    def verdict(self, own: Key, medians: Medians) -> str:
        ratio = medians[self.of] / medians[own]
        return f">= {self.times:g}x faster than {self.of.name}: {ratio:.1f}x, {holds(ratio >= self.times)}"


def holds(truth: bool) -> str:
    return "holds" if truth else "DOES NOT HOLD"


@dataclass(frozen=True)
class Contestant:
    key: Key
    call: Callable[[], object]
    bounds: tuple[AtMost | Faster, ...] = ()


# Contestants


def level(n: int, share: float) -> float:
    """The alpha at which n images keep about a given share of their loss at lambda = 0."""
    return round((1 + share * (1 - AGREEMENT) * n) / (n + 1), 4)


def lambda_hats(profiles: cm.ScoreProfiles, halves: Sequence[NDArray[np.intp]]) -> list[float]:
    """Five levels on each of the splits."""
    shares = (0.1, 0.3, 0.5, 0.7, 0.9)
    found = []
    for half in halves:
        split = profiles[half]
        found += [split.lambda_hat("miscoverage", level(len(half), share)) for share in shares]
    return found


def ours(work: Workload) -> Iterator[Contestant]:
    """Everything a user calls, and the pass over the memory that it is compared with."""
    X, y, n = work.X, work.y, len(work.X)
    fitted = cm.ConformalRiskCalibrator(alpha=work.alpha).fit(X, y)
    by_class = cm.ConformalRiskCalibrator(alpha=work.alpha, conditional="class").fit(X, y)
    rng = np.random.default_rng(1)
    halves = [rng.permutation(n)[: n // 2] for _ in range(10)]
    buffer = np.zeros(X.shape, bool)
    calls: dict[str, Callable[[], object]] = {
        READ: lambda: np.max(X),
        READ_BY_TWO: lambda: [*TWO_THREADS.map(np.max, (X[: n // 2], X[n // 2 :]))],
        "fit": lambda: cm.ConformalRiskCalibrator(alpha=work.alpha).fit(X, y),
        "predict": lambda: fitted.predict(X),
        PREDICT_INTO: lambda: fitted.predict(X, out=buffer),
        "predict(packed=True)": lambda: fitted.predict(X, packed=True),
        "set_size": lambda: fitted.set_size(X),
        "varisco": lambda: fitted.varisco(X),
        "evaluate": lambda: fitted.evaluate(X, y),
        "recalibrate(alpha)": lambda: fitted.recalibrate(alpha=level(n, 0.4)),
        "recalibrate(loss=BinaryLoss(.9))": lambda: fitted.recalibrate(loss=cm.BinaryLoss(0.9)),
        FIT_BY_CLASS: lambda: by_class.fit(X, y),
        PREDICT_BY_CLASS: lambda: by_class.predict(X),
        "50 lambda-hats of random halves": lambda: lambda_hats(fitted.profiles_, halves),
    }
    bounds = bounds_of(work.name)
    for name, call in calls.items():
        yield Contestant(Key(work.name, name), call, bounds.get(name, ()))


MAIN = "float32"
TWO_THREADS = ThreadPoolExecutor(2)
# The time that two threads need to read X once is a lower bound for any work.
OF_TWO = {"fit": 1.4, "set_size": 1.2, PREDICT_INTO: 1.6}
MULTIPLES = {"fit": 2.0, "predict": 2.5, "set_size": 2.0, "varisco": 2.0}
RELATIVE_TO_MAIN = {"float16": 1.0, "channel-last": 2.0}


def bounds_of(work: str) -> dict[str, tuple[AtMost | Faster, ...]]:
    if work in RELATIVE_TO_MAIN:
        return {name: (AtMost(RELATIVE_TO_MAIN[work], Key(MAIN, name)),) for name in MULTIPLES}
    bounds: dict[str, tuple[AtMost | Faster, ...]] = {
        name: (AtMost(times, Key(work, READ)),) for name, times in MULTIPLES.items()
    }
    bounds[FIT_BY_CLASS] = (AtMost(1.5, Key(work, "fit")),)
    bounds[PREDICT_BY_CLASS] = (AtMost(1.3, Key(work, "predict")),)
    if work == MAIN:
        for name, times in OF_TWO.items():
            bounds[name] = (*bounds.get(name, ()), AtMost(times, Key(work, READ_BY_TWO)))
        bounds["fit"] += (Faster(40, Key(work, EXACT_NUMPY)),)
        bounds["predict"] += (Faster(10, Key(work, NUMPY_MASKS)),)
    return bounds


def numpy_lambda_hat(X: Scores, y: Labels, alpha: float) -> float:
    """Lambda-hat for the miscoverage loss, exact up to rounding."""
    valid = y != VOID
    labels = np.where(valid, y, 0)
    scores = 1 - np.take_along_axis(X, labels[:, np.newaxis], axis=1)[:, 0].astype(np.float64)
    scores[labels == X.argmax(axis=1)] = 0  # the most probable class is always in the set
    weights = np.broadcast_to(1 / valid.sum(axis=(1, 2), keepdims=True), y.shape)
    scores, weights = scores[valid], weights[valid]
    descending = np.argsort(-scores)
    # The loss at any lambda just below each score, the largest first.
    losses = np.cumsum(weights[descending])
    budget = alpha * (len(X) + 1) - 1
    first_too_many = np.searchsorted(losses, budget, side="right")
    return float(scores[descending[first_too_many]])


def numpy_masks(X: Scores, lam: float) -> NDArray[np.bool_]:
    masks = 1 - lam <= X
    np.put_along_axis(masks, X.argmax(axis=1)[:, np.newaxis], True, axis=1)
    return masks


def numpy_contestants(work: Workload) -> Iterator[Contestant]:
    """What one would write without conformask; first checks that it gives the same results."""
    fitted = cm.ConformalRiskCalibrator(alpha=work.alpha).fit(work.X, work.y)
    lam = fitted.lambda_hat_
    theirs = numpy_lambda_hat(work.X, work.y, work.alpha)
    assert abs(theirs - lam) <= 1e-12, (theirs, lam)
    # Scores that equal lambda may fall to either side by rounding.
    assert np.mean(numpy_masks(work.X[:4], lam) != fitted.predict(work.X[:4])) < 1e-6
    calls: dict[str, Callable[[], object]] = {
        EXACT_NUMPY: lambda: numpy_lambda_hat(work.X, work.y, work.alpha),
        NUMPY_MASKS: lambda: numpy_masks(work.X, lam),
    }
    for name, call in calls.items():
        yield Contestant(Key(work.name, name), call)


# Scores, logits and bins

SCORES: dict[str, tuple[cm.LAC | cm.APS | cm.RAPS | cm.SACP, float]] = {
    "fit with APS": (cm.APS(), 3),
    "fit with RAPS": (cm.RAPS(), 3),
    "fit with SACP(LAC())": (cm.SACP(cm.LAC()), 4),
    "fit with SACP(APS())": (cm.SACP(cm.APS()), 20),
}
SORTED_APS = "sorted APS lambda-hat"
FILTERED_SACP = "SciPy SACP lambda-hat"


def fit(score: Any, work: Workload, **parameters: Any) -> cm.ConformalRiskCalibrator:
    return cm.ConformalRiskCalibrator(score, alpha=work.alpha, **parameters).fit(work.X, work.y)


def scores_and_inputs(work: Workload) -> Iterator[Contestant]:
    """Every other score, logits, and bins."""
    logits = Workload(work.name, np.log(work.X + np.float32(1e-9)), work.y, work.alpha)
    read = Key(work.name, READ)
    yield Contestant(read, lambda: np.max(work.X))
    yield Contestant(Key(work.name, "fit"), lambda: fit("lac", work))
    for name, (score, times) in SCORES.items():
        yield Contestant(Key(work.name, name), lambda score=score: fit(score, work), (AtMost(times, read),))
    from_logits: tuple[AtMost | Faster, ...] = (AtMost(4, read),)
    if torch is not None:
        maps = torch.from_numpy(logits.X)
        softmax = Workload(work.name, logits.X, work.y, work.alpha)

        def theirs() -> object:
            return fit(
                "lac", Workload(softmax.name, torch.softmax(maps, 1).numpy(), softmax.y, softmax.alpha)
            )

        key = Key(work.name, "fit of torch.softmax(logits)")
        yield Contestant(key, theirs)
        from_logits += (Faster(4, key),)
    yield Contestant(
        Key(work.name, "fit on logits"), lambda: fit("lac", logits, inputs="logits"), from_logits
    )
    bins = AtMost(1, Key(work.name, "fit"))
    yield Contestant(
        Key(work.name, "fit with profile='binned'"), lambda: fit("lac", work, profile="binned"), (bins,)
    )


RANKINGS: dict[str, cm.APS | cm.RAPS] = {"APS": cm.APS(), "RAPS": cm.RAPS()}
MANY = "K = 150"
RANKED = {
    "predict": (5.0, 8.0),
    "set_size": (3.0, 6.0),
    "evaluate": (6.0, 10.0),
}  # times, of few classes and of many


def rankings(work: Workload) -> Iterator[Contestant]:
    """The sets of scores that rank labels by their probabilities, at one lambda."""
    read = Key(work.name, READ)
    yield Contestant(read, lambda: np.max(work.X))
    for score_name, score in RANKINGS.items():
        fitted = fit(score, work)
        calls: dict[str, Callable[[], object]] = {
            "predict": lambda fitted=fitted: fitted.predict(work.X),
            "set_size": lambda fitted=fitted: fitted.set_size(work.X),
            "evaluate": lambda fitted=fitted: fitted.evaluate(work.X, work.y),
        }
        for name, call in calls.items():
            times = RANKED[name][work.name.startswith(MANY)]
            yield Contestant(Key(work.name, f"{name} with {score_name}"), call, (AtMost(times, read),))


def race_of_rankings(images: int, repeats: int) -> list[list[str]]:
    """Street scenes, and scenes of many classes."""
    few = max(8, images // 4)
    rows = list(time_rows([*rankings(workload("rankings", (images, 19, 256, 512)))], repeats))
    many = workload(f"{MANY}, {few} x 256 x 256", (few, 150, 256, 256), alpha=level(few, 0.6))
    return rows + list(time_rows([*rankings(many)], repeats))


def weighted_lambda_hat(scores: Scores, work: Workload) -> float:
    """Lambda-hat for the miscoverage loss from the scores of the true labels, (n, H, W)."""
    valid = work.y != VOID
    weights = np.broadcast_to(1 / valid.sum(axis=(1, 2), keepdims=True), work.y.shape)[valid]
    descending = np.argsort(-scores[valid])
    losses = np.cumsum(weights[descending])
    budget = work.alpha * (len(work.X) + 1) - 1
    return float(scores[valid][descending[np.searchsorted(losses, budget, side="right")]])


def sorted_aps(work: Workload) -> float:
    """Sort the classes of every pixel, cumulate, and look up the true label: in torch if installed, else in NumPy."""
    labels = np.where(work.y == VOID, 0, work.y)[:, np.newaxis]
    if torch is None:
        order = np.argsort(-work.X, axis=1, kind="stable")
        ranked = np.take_along_axis(work.X, order, axis=1)
        before = ranked.cumsum(axis=1) - ranked
        rank = (order == labels).argmax(axis=1)[:, np.newaxis]
        return weighted_lambda_hat(np.take_along_axis(before, rank, axis=1)[:, 0].astype(np.float64), work)
    ranked, order = torch.sort(torch.from_numpy(work.X), dim=1, descending=True, stable=True)
    before = ranked.cumsum(1) - ranked
    rank = (order == torch.from_numpy(labels)).to(torch.uint8).argmax(1, keepdim=True)
    return weighted_lambda_hat(before.gather(1, rank)[:, 0].double().numpy(), work)


def filtered_sacp(work: Workload) -> float:
    """SACP over LAC: SciPy's filter class by class, then the true label's scores."""
    scores = 1 - work.X
    means = np.stack(
        [[ndimage.uniform_filter(plane, 7, mode="reflect") for plane in image] for image in scores]
    )
    blended = np.float32(0.7) * scores + np.float32(0.3) * means
    np.put_along_axis(blended, work.X.argmax(axis=1)[:, np.newaxis], 0, axis=1)
    labels = np.where(work.y == VOID, 0, work.y)[:, np.newaxis]
    return weighted_lambda_hat(np.take_along_axis(blended, labels, axis=1)[:, 0].astype(np.float64), work)


def slow_ways(work: Workload) -> Iterator[Contestant]:
    """What one would write without conformask, on few images; first checks that it gives nearly the same results."""
    yield Contestant(Key(work.name, READ), lambda: np.max(work.X))
    for ours, theirs, call, times in [
        ("fit with APS", SORTED_APS, sorted_aps, 50),
        ("fit with SACP(LAC())", FILTERED_SACP, filtered_sacp, 10),
    ]:
        score, _ = SCORES[ours]
        found, reference = fit(score, work).lambda_hat_, call(work)
        assert abs(found - reference) <= 1e-5, (ours, found, reference)
        yield Contestant(Key(work.name, theirs), lambda call=call: call(work))
        bound = Faster(times, Key(work.name, theirs))
        yield Contestant(Key(work.name, ours), lambda score=score: fit(score, work), (bound,))


def race_of_scores(images: int, repeats: int) -> list[list[str]]:
    shape = (19, 256, 512)
    rows = list(time_rows([*scores_and_inputs(workload("scores", (images, *shape)))], repeats))
    few = max(10, images // 6)
    work = workload(f"scores, {few} images", (few, *shape), alpha=level(few, 0.5))
    return rows + list(time_rows([*slow_ways(work)], min(repeats, 3)))


def make_block(seed: int, images: int) -> tuple[Scores, Labels]:
    """Logits and labels, made by the worker that uses them."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((images, 19, 256, 512), np.float32)
    logits *= 3
    return logits, rng.integers(0, 19, (images, 256, 512))


def dask_lines(images: int) -> Iterator[str]:
    """APS from logits: two workers of one thread, and one process of one thread."""
    try:
        import dask
        from dask.distributed import Client, LocalCluster

        from conformask.integrations import dask as on_dask
    except ImportError:
        yield "Dask is not installed."
        return
    calibrator = cm.ConformalRiskCalibrator(cm.APS(), alpha=0.2, inputs="logits", profile="binned")
    blocks = [dask.delayed(make_block)(seed, 4) for seed in range(images // 4)]
    seconds: dict[int, float] = {}
    os.environ["CONFORMASK_NUM_THREADS"] = "1"
    for workers in (1, 2):
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster),
        ):
            on_dask.fit(calibrator, blocks[:2])  # code and caches
            start = time.perf_counter()
            on_dask.fit(calibrator, blocks)
            seconds[workers] = time.perf_counter() - start
    ratio = seconds[1] / seconds[2]
    yield f"Dask, APS from logits, blocks of 4 images made in single-threaded workers, {4 * len(blocks)} images:"
    yield (
        f"  one worker {seconds[1]:.2f} s, two workers {seconds[2]:.2f} s: >= 1.5x faster: {ratio:.2f}x, "
        f"{holds(ratio >= 1.5)}"
    )


# Measuring


def race(contestants: Sequence[Contestant], repeats: int) -> dict[Key, list[float]]:
    """Seconds of each contestant in each repeat."""
    seconds: dict[Key, list[float]] = {contestant.key: [] for contestant in contestants}
    for repeat in range(repeats + 1):
        for contestant in contestants:
            start = time.perf_counter()
            result = contestant.call()
            elapsed = time.perf_counter() - start
            del result  # so that the next one gets its memory back while it is warm
            if repeat:
                seconds[contestant.key].append(elapsed)
    return seconds


def time_rows(contestants: Sequence[Contestant], repeats: int) -> Iterator[list[str]]:
    seconds = race(contestants, repeats)
    medians = {key: statistics.median(times) for key, times in seconds.items()}
    for contestant in contestants:
        key = contestant.key
        ratio = medians[key] / medians[Key(key.workload, READ)]
        verdicts = "; ".join(bound.verdict(key, medians) for bound in contestant.bounds)
        yield [
            key.workload,
            key.name,
            milliseconds(medians[key]),
            milliseconds(min(seconds[key])),
            f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.4f}",
            verdicts,
        ]


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f}" if seconds >= 0.01 else f"{1e3 * seconds:.3f}"


def race_of_one_size(images: int, repeats: int) -> list[list[str]]:
    """The main workload, its other layouts, and NumPy, together, because they are compared with each other."""
    main = workload(MAIN, (images, 19, 256, 512))
    half = Workload("float16", main.X.astype(np.float16), main.y, main.alpha)
    last = Workload("channel-last", channel_last(main.X), main.y, main.alpha)
    contestants = [*ours(main), *numpy_contestants(main), *ours(half), *ours(last)]
    return list(time_rows(contestants, repeats))


def race_of(
    name: str, shape: tuple[int, ...], dtype: DTypeLike, alpha: float, repeats: int
) -> list[list[str]]:
    return list(time_rows([*ours(workload(name, shape, dtype, alpha))], repeats))


# Memory


class Growth(NamedTuple):
    """How far the peak of resident memory rose, and for how many mispredicted pixels."""

    n_bytes: int
    n_pixels: int


def resident(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def growth_by_fit(images: int, agreement: float, threads: int) -> Growth:
    """Growth of the peak by one fit. It must be called in a new process."""
    cm.set_num_threads(threads)
    warnings.simplefilter("ignore", cm.SuspiciousLabelsWarning)
    rng = np.random.default_rng(2)
    X = softmax_maps(rng, (images, 19, 256, 512), np.float32)
    y = labels_for(rng, X, agreement)
    n_pixels = sum(
        np.count_nonzero((labels != VOID) & (labels != image.argmax(axis=0)))
        for image, labels in zip(X, y, strict=True)
    )
    cm.ConformalRiskCalibrator(alpha=0.1).fit(X[:, :, :8, :8], y[:, :8, :8])  # code and threads
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
    before = resident("VmRSS")
    fitted = cm.ConformalRiskCalibrator(alpha=0.1).fit(X, y)
    growth = resident("VmHWM") - before
    assert fitted.n_images_ == images
    return Growth(growth, int(n_pixels))


def memory_lines(images: int, threads: int) -> Iterator[str]:
    """Two fits of the same maps that differ in the number of mispredicted pixels: a slope and a constant."""
    yield f"Peak memory of fit, {images} images ({images * 19 * 256 * 512 * 4 / MIB:,.0f} MiB of maps):"
    growths = []
    for agreement in (AGREEMENT, 0.0):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            growth = process.submit(growth_by_fit, images, agreement, threads).result()
        growths.append(growth)
        per_pixel = growth.n_bytes / growth.n_pixels
        yield (
            f"  {agreement:4.0%} agreement: +{growth.n_bytes / MIB:.1f} MiB for {growth.n_pixels:,} mispredicted "
            f"pixels ({per_pixel:.2f} bytes each, all told)"
        )
    few, many = growths
    slope = (many.n_bytes - few.n_bytes) / (many.n_pixels - few.n_pixels)
    constant = few.n_bytes - slope * few.n_pixels
    yield (
        f"  <= 8 bytes per mispredicted pixel + constant: {slope:.2f} bytes + {constant / MIB:.1f} MiB, "
        f"{holds(slope <= 8)}"
    )


# Peers


def mapie_lines(images: int) -> Iterator[str]:
    """MAPIE on crops, because it holds every map at every threshold in memory; the rest is extrapolated."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from mapie.risk_control import SemanticSegmentationController
    except ImportError:
        yield "MAPIE is not installed."
        return
    crop = workload("MAPIE", (10, 19, 32, 64))
    one_hot = np.stack([crop.y == k for k in range(crop.X.shape[1])], axis=1).astype(int)

    def theirs() -> object:
        controller = SemanticSegmentationController(
            predict_function=lambda X: X, risk="recall", method="crc", target_level=1 - crop.alpha
        )
        return controller.calibrate(crop.X, one_hot)

    contestants = [
        Contestant(Key("MAPIE", "theirs"), theirs),
        Contestant(
            Key("MAPIE", "ours"), lambda: cm.ConformalRiskCalibrator(alpha=crop.alpha).fit(crop.X, crop.y)
        ),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds = {key.name: statistics.median(times) for key, times in race(contestants, 3).items()}
    scale = images * 256 * 512 / crop.y.size
    version = importlib.metadata.version("mapie")
    yield f"MAPIE {version}, SemanticSegmentationController at its 100 thresholds, on 10 crops of 19 x 32 x 64:"
    yield f"  measured: {milliseconds(seconds['theirs'])} ms; our fit: {milliseconds(seconds['ours'])} ms"
    yield (
        f"  EXTRAPOLATED in proportion to the pixels (x {scale:,.0f}) to {images} images of 256 x 512: "
        f"{seconds['theirs'] * scale:,.0f} s"
    )


# Many small images

SMALL, MOST_MICROSECONDS = 200_000, 2.0


def small_image_lines(repeats: int) -> Iterator[str]:
    """The cost of each of many small images beyond that of its pixels: the same number of pixels in few images."""
    work = workload("small", (SMALL, 4, 8, 8))
    n_large = SMALL // 4000
    X = work.X.reshape(n_large, 4000, 4, 64).transpose(0, 2, 1, 3).reshape(n_large, 4, 400, 640)
    large = Workload("large", np.ascontiguousarray(X), work.y.reshape(n_large, 400, 640), work.alpha)
    fitted = fit("lac", large)
    calls: dict[str, Callable[[Workload], object]] = {
        "fit": lambda work: fit("lac", work),
        "predict": lambda work: fitted.predict(work.X),
        "set_size": lambda work: fitted.set_size(work.X),
        "evaluate": lambda work: fitted.evaluate(work.X, work.y),
    }
    yield f"{SMALL:,} images of 4 x 8 x 8, beyond the time of as many pixels in {n_large} images:"
    for name, call in calls.items():
        contestants = [
            Contestant(Key(each.name, name), lambda call=call, each=each: call(each))
            for each in (work, large)
        ]
        seconds = {
            key.workload: statistics.median(times) for key, times in race(contestants, repeats).items()
        }
        over = 1e6 * (seconds["small"] - seconds["large"]) / SMALL
        yield (
            f"  {name}: {over:.2f} microseconds an image; <= {MOST_MICROSECONDS:g}: "
            f"{holds(over <= MOST_MICROSECONDS)}"
        )


# The report

HEADER = ["maps", "what", "median ms", "fastest ms", "x np.max", "must hold"]
NUMERIC = range(2, 5)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if column in NUMERIC else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def markdown(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    header, *body = rows
    rule = ["--:" if column in NUMERIC else ":--" for column in range(len(header))]
    for row in (header, rule, *body):
        yield "| " + " | ".join(row) + " |"


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def machine_lines(images: int, repeats: int) -> Iterator[str]:
    yield f"{cpu_model()}, {os.cpu_count()} cores; conformask uses {cm.get_num_threads()} threads, NumPy one"
    if torch is not None:
        torch.set_num_threads(cm.get_num_threads())
    theirs = "no torch: NumPy sorts" if torch is None else f"torch {torch.__version__} on as many threads"
    yield f"Python {platform.python_version()}, numpy {np.__version__}, {theirs}, conformask {cm.__version__}"
    yield (
        f"{images} images of 19 x 256 x 512 unless stated, int64 labels, {AGREEMENT:.0%} agree with the argmax, "
        f"{VOID_SHARE:.0%} void; medians of {repeats} interleaved repeats"
    )


def show(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="conformask beside NumPy and its peers.")
    parser.add_argument("--images", type=int, default=64, help="images of the main workload, at least 16")
    parser.add_argument("--threads", type=int, default=2, help="threads that conformask uses")
    parser.add_argument("--repeats", type=int, default=7, help="repeats that count; one more warms up")
    parser.add_argument("--quick", action="store_true", help="at most 16 images and 3 repeats")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown too")
    parser.add_argument("--peers", action="store_true", help="measure MAPIE too, on crops")
    chosen = parser.parse_args()
    if chosen.images < 16 or chosen.threads < 1 or chosen.repeats < 1:
        parser.error("at least 16 images, 1 thread and 1 repeat are needed")
    if chosen.quick:
        chosen.images, chosen.repeats = 16, min(chosen.repeats, 3)
    return chosen


def main() -> None:
    chosen = arguments()
    images, repeats = chosen.images, chosen.repeats
    cm.set_num_threads(chosen.threads)
    # Timed work fits and evaluates on the same images, and labels are made up: warnings of that are not shown.
    warnings.filterwarnings("ignore", message="these images seem to be those of calibration")
    warnings.simplefilter("ignore", cm.SuspiciousLabelsWarning)
    show(machine_lines(images, repeats))
    print()
    few, half = max(6, images // 8), images // 2
    rows = [HEADER, *race_of_one_size(images, repeats)]
    rows += race_of(f"float64, {half} images", (half, 19, 256, 512), np.float64, level(half, 0.6), repeats)
    rows += race_of_scores(images, repeats)
    rows += race_of_rankings(images, repeats)
    rows += race_of(f"K = 150, {few} x 512 x 683", (few, 150, 512, 683), np.float32, level(few, 0.6), repeats)
    print(f"load average of the last minute: {os.getloadavg()[0]:.1f} (about 1 to 2 is our own)\n")
    show(aligned(rows))
    if chosen.markdown:
        print()
        show(markdown(rows))
    print()
    show(small_image_lines(min(repeats, 3)))
    show(memory_lines(min(images, 32), chosen.threads))
    print()
    show(dask_lines(images))
    if chosen.peers:
        print()
        show(mapie_lines(images))


if __name__ == "__main__":
    main()
