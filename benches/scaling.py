"""Compares the fits of scalers with fiducio and probmetrics, if they are installed, on one machine, in one run.

All are fitted to the same pixels, 4096 of each map, which are drawn before. Ours are also fitted to the maps, from
which they draw as many themselves. Every repeat runs every contestant once, in turn. Medians and their ratios are
shown.

    python benches/scaling.py --images 64 --threads 2 --repeats 3
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import conformask as cm

sys.path.insert(0, str(Path(__file__).parent))
from scaling_peers import fiducio, fiducio_map, probmetrics, probmetrics_map, torch

K, SHAPE, N_PIXELS = 19, (256, 512), 4096


# Ours, a peer's, and how many times as fast ours must be.
BOUNDS = [
    ("TemperatureScaler", "fiducio TS", 30),
    ("TemperatureScaler", "probmetrics TS", 10),
    ("VectorScaler", "probmetrics SVS", 20),
    ("StructuredScaler", "probmetrics SVS", 20),
]


class Contestant(NamedTuple):
    name: str
    fit: Callable[[], object]


def maps(n: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Logits that are overconfident, and favour some classes."""
    rng = np.random.default_rng(0)
    logits = np.empty((n, K, *SHAPE), np.float32)
    y = np.empty((n, *SHAPE), np.uint8)
    for image, labels in zip(logits, y, strict=True):
        rng.standard_normal(out=image, dtype=np.float32)
        image *= 3
        noise = -np.log(rng.standard_exponential(image.shape, dtype=np.float32).clip(1e-30))
        shift = rng.normal(0, 0.3, (K, 1, 1)) + np.linspace(-1, 1, K)[:, np.newaxis, np.newaxis]
        labels[...] = (image / 1.6 + shift + noise).argmax(axis=0)
    return logits, y


def pixels_of(logits: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """As many pixels as ours draw, (N, K), and labels."""
    rng = np.random.default_rng(1)
    found = []
    for image in logits.reshape(len(logits), K, -1):
        at = rng.choice(image.shape[1], N_PIXELS, replace=False)
        found.append((image[:, at].T, at))
    labels = [image.ravel()[at] for image, (_, at) in zip(y, found, strict=True)]
    return np.concatenate([values for values, _ in found]), np.concatenate(labels).astype(np.int64)


def contestants(n: int) -> Iterator[Contestant]:
    logits, y = maps(n)
    pixels = pixels_of(logits, y)
    drawn = np.ascontiguousarray(np.moveaxis(pixels[0].reshape(n, 1, N_PIXELS, K), -1, 1))
    labels = pixels[1].reshape(n, 1, N_PIXELS)
    for name, scaler in (
        ("TemperatureScaler", cm.TemperatureScaler(n_pixels=N_PIXELS, progress=False)),
        ("VectorScaler", cm.VectorScaler(n_pixels=N_PIXELS, progress=False)),
        ("StructuredScaler", cm.StructuredScaler(n_pixels=N_PIXELS, progress=False)),
    ):
        yield Contestant(name, lambda scaler=scaler: scaler.fit(drawn, labels))
        yield Contestant(f"{name}, of maps", lambda scaler=scaler: scaler.fit(logits, y))
    peers = [(fiducio, "fiducio TS", fiducio_map("TS"))]
    peers += [(probmetrics, f"probmetrics {name}", probmetrics_map(name)) for name in ("TS", "SVS")]
    for package, name, fit in peers:
        if package is not None:
            yield Contestant(name, lambda fit=fit: fit(*pixels))


def race(n: int, repeats: int) -> dict[str, float]:
    """Median seconds; the first round is for warming up, on few pixels if possible."""
    for each in contestants(2):
        timed(each)
    entries = list(contestants(n))
    rounds = [[timed(each) for each in entries] for _ in range(repeats)]
    return {
        each.name: statistics.median(times)
        for each, times in zip(entries, zip(*rounds, strict=True), strict=True)
    }


def timed(contestant: Contestant) -> float:
    start = time.perf_counter()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        contestant.fit()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Fitting scalers, beside peers.")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="threads of conformask and of torch")
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    cm.set_num_threads(chosen.threads)
    if torch is not None:
        torch.set_num_threads(chosen.threads)
    height, width = SHAPE
    print(f"{chosen.images} images of {K} x {height} x {width} float32, {N_PIXELS} pixels of each")
    medians = race(chosen.images, chosen.repeats)
    for name, seconds in medians.items():
        print(f"{name:26} {seconds:8.2f} s")
    for own, peer, times in BOUNDS:
        if peer in medians:
            ratio = medians[peer] / medians[own]
            verdict = "holds" if ratio >= times else "DOES NOT HOLD"
            print(f"{own} >= {times}x faster than {peer}: {ratio:.1f}x, {verdict}")
    print(f"load average of the last minute: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
