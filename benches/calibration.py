"""Compares the time of measures of calibration with a maximum over the maps, NumPy, torchmetrics and netcal.

Rounds are interleaved; ratios of medians are printed. Libraries that are not installed are left out.

    python benches/calibration.py --images 64 --repeats 7
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

import conformask as cm

K, SIZE, BLOCK, N_BINS = 19, (256, 512), 16, 15


def problem(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, probabilities and labels of blocks that a model mostly sees."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K, (n, SIZE[0] // BLOCK, SIZE[1] // BLOCK)).repeat(BLOCK, 1).repeat(BLOCK, 2)
    logits = rng.normal(size=(n, K, *SIZE)).astype(np.float32)
    seen = np.take_along_axis(logits, labels[:, None], axis=1)
    np.put_along_axis(logits, labels[:, None], seen + 5, axis=1)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits, odds / odds.sum(axis=1, keepdims=True), labels.astype(np.uint8)


def in_numpy(x: np.ndarray, y: np.ndarray) -> float:
    confidence, right = x.max(axis=1).ravel(), (x.argmax(axis=1) == y).ravel()
    place = np.clip(np.ceil(confidence * np.float32(N_BINS)).astype(int) - 1, 0, N_BINS - 1)
    hits, sums = (np.bincount(place, weights, N_BINS) for weights in (right, confidence))
    return float(abs(hits - sums).sum() / len(place))


def in_torchmetrics(x: np.ndarray, y: np.ndarray) -> float:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    given = torch.from_numpy(x), torch.from_numpy(y.astype(np.int64))
    return float(multiclass_calibration_error(*given, num_classes=K, n_bins=N_BINS, norm="l1"))


def in_netcal(x: np.ndarray, y: np.ndarray) -> float:
    from netcal.metrics import ECE

    return float(ECE(N_BINS).measure(np.moveaxis(x, 1, -1).reshape(-1, K), y.ravel()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    logits, x, y = problem(options.images)
    ece = lambda: cm.metrics.expected_calibration_error(y, x, N_BINS, per_image=False)  # noqa: E731
    calls: dict[str, Callable[[], object]] = {
        "np.max": lambda: np.max(x),
        "report": lambda: cm.metrics.calibration_report(y, x),
        "report of logits": lambda: cm.metrics.calibration_report(y, logits, inputs="logits"),
        "ECE": ece,
        "ECE in NumPy": lambda: in_numpy(x, y),
    }
    print(f"ECE {ece():.9f}, in NumPy {in_numpy(x, y):.9f}")
    for name, call in (("torchmetrics", in_torchmetrics), ("netcal", in_netcal)):
        try:
            print(f"ECE of {name} {call(x, y):.9f}")
        except ImportError as error:
            print(f"{name} is left out: {error}")
        else:
            calls[f"ECE of {name}"] = lambda call=call: call(x, y)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"{options.images} images of {SIZE[0]} x {SIZE[1]}, K = {K}, {cm.get_num_threads()} threads")
    for name, median in medians.items():
        print(
            f"  {name:20} {median / medians['np.max']:8.2f} of np.max {median / medians['ECE']:8.2f} of ECE"
        )


if __name__ == "__main__":
    main()
