"""Compares binary masks with NumPy (and MAPIE, if it and torch are installed), on one machine, in one run.

Every repeat runs every contestant of a table once, in turn; medians are shown. Work that reads maps is compared with
`np.max(P)` of the same memory, on one thread like NumPy, and with two threads that take the maximum of one half each.
Training, and finding a threshold for each new image, are measured in seconds and milliseconds.

    python benches/adaptive.py --images 64 --threads 2 --repeats 7
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit

import conformask as cm

sys.path.insert(0, str(Path(__file__).parent))
from side_by_side import AtMost, Contestant, Key, cpu_model, holds, milliseconds, race, show

try:
    import torch
    from mapie.risk_control.adaptive_conformal_risk_control import ConditionalExpectedRiskController
except ImportError:
    torch = None

ALPHA, VOID = 0.1, 255
READ, BOTH = "np.max(P)", "np.max(P), two threads"
NUMPY_THRESHOLD, NUMPY_MASKS = "exact threshold in NumPy", "masks in NumPy, P >= t"
NUMPY_BY_MASS = "CRA's masks in NumPy"

# The limits: at most so many times the time of another contestant, seconds, milliseconds for an image.
BOUNDS = {"fit": [(1.5, READ)], "predict": [(2.0, NUMPY_MASKS)]}
TRAINING_SECONDS, PER_IMAGE_MS = 10, 50
BESIDE = {"fit": NUMPY_THRESHOLD, "CRA predict": NUMPY_BY_MASS}


class Maps(NamedTuple):
    P: NDArray[np.float32]
    y: NDArray[np.uint8]


def maps(n: int, side: int, foreground: float, seed: int = 0) -> Maps:
    """Objects with smooth borders on a share of the pixels. The model is sure on some images, and unsure on others."""
    rng = np.random.default_rng(seed)
    P, y = np.empty((n, side, side), np.float32), np.empty((n, side, side), np.uint8)
    for image, labels in zip(P, y, strict=True):
        field = gaussian_filter(rng.standard_normal((side, side), np.float32), side / 16)
        field = (field - np.quantile(field, 1 - foreground)) / field.std()
        labels[...] = field > 0
        labels[rng.random(labels.shape, np.float32) < 0.05] = VOID
        noise = rng.standard_normal(field.shape, np.float32)
        image[...] = expit(rng.uniform(1, 5) * (field + 0.5 * noise))
    return Maps(P, y)


# Reading maps


def numpy_threshold(P: NDArray[Any], y: NDArray[Any]) -> float:
    """The threshold of plain conformal risk control, exact up to rounding."""
    is_object = y == 1
    sizes = is_object.sum(axis=(1, 2), keepdims=True)
    weights = np.broadcast_to(1 / sizes, y.shape)[is_object]
    values = P[is_object]
    order = np.argsort(values)
    budget = ALPHA * (len(P) + 1) - 1
    return float(values[order[np.searchsorted(np.cumsum(weights[order]), budget, side="right")]])


def numpy_masks_by_mass(P: NDArray[Any], threshold: float) -> NDArray[np.bool_]:
    """The masks of CRA: a pixel is out if all pixels that are at most as probable have too small a share of the sum."""
    masks = np.empty(P.shape, bool)
    for p, mask in zip(P, masks, strict=True):
        rising = np.sort(p, axis=None)
        mass = np.cumsum(rising, dtype=np.float64)
        first = np.searchsorted(mass, threshold * mass[-1])
        np.greater_equal(p, rising[first], out=mask)
    return masks


def reading(name: str, work: Maps, pool: ThreadPoolExecutor) -> Iterator[Contestant]:
    P, y = work
    half = len(P) // 2
    one, by_mass = cm.BinaryRiskCalibrator(ALPHA).fit(P, y), cm.CRACalibrator(ALPHA).fit(P, y)
    t, mass = np.float32(one.threshold_), float(by_mass.threshold_)
    assert abs(numpy_threshold(P, y) - one.threshold_) < 1e-6
    assert np.array_equal(one.predict(P[:4]), P[:4] >= t)
    # Sums in another order may move a pixel at the edge to the other side.
    assert np.mean(by_mass.predict(P[:4]) != numpy_masks_by_mass(P[:4], mass)) < 1e-4
    calls: dict[str, Callable[[], object]] = {
        READ: lambda: np.max(P),
        BOTH: lambda: list(pool.map(np.max, (P[:half], P[half:]))),
        NUMPY_THRESHOLD: lambda: numpy_threshold(P, y),
        NUMPY_MASKS: lambda: t <= P,
        NUMPY_BY_MASS: lambda: numpy_masks_by_mass(P, mass),
        "fit": lambda: cm.BinaryRiskCalibrator(ALPHA).fit(P, y),
        "predict": lambda: one.predict(P),
        "evaluate": lambda: one.evaluate(P, y),
        "recalibrate(alpha=.2)": lambda: one.recalibrate(alpha=0.2),
        "CRA fit": lambda: cm.CRACalibrator(ALPHA).fit(P, y),
        "CRA predict": lambda: by_mass.predict(P),
        "CRA evaluate": lambda: by_mass.evaluate(P, y),
    }
    for each, call in calls.items():
        bounds = tuple(AtMost(times, Key(name, of)) for times, of in BOUNDS.get(each, ()))
        yield Contestant(Key(name, each), call, bounds)


def reading_lines(images: int, repeats: int) -> Iterator[str]:
    with ThreadPoolExecutor(2) as pool:
        for foreground in (0.05, 0.5):
            name = f"{foreground:.0%} foreground"
            contestants = [*reading(name, maps(images, 512, foreground), pool)]
            seconds = race(contestants, repeats)
            medians = {key: statistics.median(times) for key, times in seconds.items()}
            yield f"{images} maps of 512 x 512 float32, {name}; median ms, times {READ}, times {BOTH}"
            for contestant in contestants:
                key, own = contestant.key, medians[contestant.key]
                ratios = [own / medians[Key(name, read)] for read in (READ, BOTH)]
                notes = [bound.verdict(key, medians) for bound in contestant.bounds]
                if key.name in BESIDE:
                    beside = BESIDE[key.name]
                    notes.append(f"{medians[Key(name, beside)] / own:.1f}x as fast as {beside}")
                figures = f"{milliseconds(own):>9} {ratios[0]:7.2f} {ratios[1]:7.2f}"
                yield f"  {key.name:26} {figures}  {'; '.join(notes)}".rstrip()
            yield ""


# Training, and finding thresholds anew


def seconds_of(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Medians; a first round is for warming up."""
    found = race([Contestant(Key("", name), call) for name, call in calls.items()], repeats)
    return {key.name: statistics.median(times) for key, times in found.items()}


def training_lines(images: int, repeats: int) -> Iterator[str]:
    P, y = maps(images, 256, 0.2, seed=1)
    kinds = (cm.ATCalibrator, cm.COATCalibrator, cm.AACRCCalibrator)
    medians = seconds_of({kind.__name__: lambda kind=kind: kind(ALPHA).fit(P, y) for kind in kinds}, repeats)
    yield f"fit of {images} images of 256 x 256, half of which train:"
    for name, seconds in medians.items():
        yield f"  {name:16} {seconds:7.2f} s   <= {TRAINING_SECONDS} s: {holds(seconds <= TRAINING_SECONDS)}"
    yield ""


def per_image_lines(images: int, repeats: int) -> Iterator[str]:
    n_new = 20
    calls: dict[str, Callable[[], object]] = {}
    for foreground in (0.05, 0.2):
        P, y = maps(images + n_new, 128, foreground, seed=2)
        fitted = cm.AACRCCalibrator(ALPHA, guarantee="per_test", progress=False).fit(P[:images], y[:images])
        name = f"{foreground:.0%} foreground"
        calls[name] = lambda fitted=fitted, new=P[images:]: fitted.predict_thresholds(new)
    yield f"AACRCCalibrator(guarantee='per_test'), nine features, {images} calibration images of 128 x 128:"
    for name, seconds in seconds_of(calls, repeats).items():
        ms = 1e3 * seconds / n_new
        yield f"  {name:15} {ms:6.1f} ms a new image   <= {PER_IMAGE_MS} ms: {holds(ms <= PER_IMAGE_MS)}"
    yield ""


# MAPIE


def mapie_lines(repeats: int) -> Iterator[str]:
    """MAPIE's AA-CRC, on few and small images, because its tables of losses are 100 times as large as the maps."""
    if torch is None:
        yield "MAPIE's AA-CRC is left out: it needs mapie and torch."
        return
    n, n_new, side, steps = 30, 4, 32, 60
    P, y = maps(n + n_new, side, 0.3, seed=3)
    y = (y == 1).astype(np.uint8)  # it knows no void

    def numbers(some: Any, _: Any = None) -> NDArray[np.float64]:
        rows = np.reshape(some, (-1, side * side)).astype(np.float64)
        return np.column_stack([rows.mean(axis=1), rows.std(axis=1)])

    mean, scale = numbers(P[:n]).mean(axis=0), numbers(P[:n]).std(axis=0)
    controller = ConditionalExpectedRiskController(
        lambda some, t=None: some if t is None else some >= np.reshape(t, (-1, 1, 1)),
        lambda some: (numbers(some) - mean) / scale,
        ALPHA,
        "recall",
        learning_rate=1e-2,
    )
    torch.manual_seed(0)  # it starts at a random image, and shuffles
    np.random.seed(0)  # noqa: NPY002  # from NumPy's own state
    controller.conformalize(P[:n], y[:n], n_epochs=100)
    ours = cm.AACRCCalibrator(
        ALPHA, guarantee="per_test", penalty=0.0, embedding=numbers, scale="probability", progress=False
    )
    ours.fit(P[:n], y[:n])
    calls: dict[str, Callable[[], object]] = {
        "theirs": lambda: controller.predict(P[n:], n_epochs=steps),
        "ours": lambda: ours.predict_thresholds(P[n:]),
    }
    medians = seconds_of(calls, repeats)
    apart = abs(ours.predict_thresholds(P[n:]) - controller.best_predict_params_.clip(0, 1)).max()
    theirs, own = (1e3 * medians[name] / n_new for name in ("theirs", "ours"))
    yield f"MAPIE {importlib.metadata.version('mapie')}, AA-CRC by {steps} steps of Adam a new image, two features,"
    yield f"SMALL: {n} calibration images of {side} x {side} (its default, 2 steps of 1e-4, does not converge):"
    yield f"  theirs {theirs:.1f} ms a new image, ours {own:.1f} ms: {theirs / own:.1f}x; thresholds {apart:.3f} apart"
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Binary masks beside NumPy and MAPIE.")
    parser.add_argument("--images", type=int, default=64, help="maps of 512 x 512, at least 10")
    parser.add_argument("--training-images", type=int, default=400, help="of 256 x 256, at least 20")
    parser.add_argument("--calibration-images", type=int, default=200, help="of 128 x 128, at least 10")
    parser.add_argument("--threads", type=int, default=2, help="threads of conformask and of torch")
    parser.add_argument("--repeats", type=int, default=7, help="repeats that count; one more warms up")
    chosen = parser.parse_args()
    cm.set_num_threads(chosen.threads)
    warnings.filterwarnings(
        "ignore", "these images seem to be those of calibration"
    )  # they are: only time counts
    print(f"{cpu_model()}, {os.cpu_count()} cores; conformask {cm.__version__} uses {chosen.threads} threads")
    print(
        f"medians of {chosen.repeats} interleaved repeats, of training and of new images {min(chosen.repeats, 3)}\n"
    )
    few = min(chosen.repeats, 3)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if torch is not None:
            torch.set_num_threads(chosen.threads)
        show(reading_lines(chosen.images, chosen.repeats))
        show(training_lines(chosen.training_images, few))
        show(per_image_lines(chosen.calibration_images, few))
        show(mapie_lines(few))
    print(f"{time.perf_counter() - start:.0f} s; load average of the last minute: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
