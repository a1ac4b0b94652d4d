"""Compares the truncated SVD with NumPy's, on one machine, in one run.

Every repeat runs every contestant once, in turn, so that all run under the same conditions; the table shows medians.
NumPy gives all singular vectors, conformask the first k. The first round is for warming up.

    python benches/svd.py --threads 2 --repeats 15
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import conformask as cm

NUMPY = "numpy.linalg.svd"
OURS = "truncated_svd"
REST = 0.2  # seconds: OpenBLAS's threads spin for a while after their work, and slow down the next contestant


class Case(NamedTuple):
    """A matrix, the number of singular vectors, and how many times as fast as NumPy ours must be."""

    shape: tuple[int, int]
    k: int
    at_least: float


CASES = [Case((65_536, 50), 10, 8.0), Case((524_288, 6), 3, 4.0)]


def contestants(A: NDArray[np.float64], k: int) -> dict[str, Callable[[], object]]:
    columns, single = np.asfortranarray(A), np.asfortranarray(A, dtype=np.float32)
    return {
        NUMPY: lambda: np.linalg.svd(A, full_matrices=False),
        OURS: lambda: cm.kernels.truncated_svd(A, k),
        f"{OURS}, column by column": lambda: cm.kernels.truncated_svd(columns, k),
        f"{OURS}, float32, column by column": lambda: cm.kernels.truncated_svd(single, k),
    }


def medians(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats + 1):
        for name, run in work.items():
            time.sleep(REST)
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    cm.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    with threadpool_limits(options.threads):
        for case in CASES:
            found = medians(contestants(rng.normal(size=case.shape), case.k), options.repeats)
            print(f"\n{case.shape[0]} x {case.shape[1]}, k = {case.k}, {options.threads} threads")
            for name, seconds in found.items():
                print(f"  {name:<44} {1e3 * seconds:8.1f} ms   {found[NUMPY] / seconds:5.1f}x")
            holds = found[NUMPY] / found[OURS] >= case.at_least
            print(f"  at least {case.at_least:g}x NumPy: {'holds' if holds else 'FAILS'}")


if __name__ == "__main__":
    main()
