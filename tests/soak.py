"""Thousands of fits and predictions in one process, after which memory, open files and threads are what they were.

A round does all that is cheap, and now and then what is not: files, CONSIGN, threads, forks. Resident memory is read
as it goes; after a warm-up a line is fitted to it, whose rise over the run must stay within a tolerance.

    python tests/soak.py --rounds 3300   # 12,000 fits, and 10,000 times predict
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

import conformask as cm

__all__ = ["Growth", "Job", "growth", "jobs", "main", "soak"]

MIB = 1 << 20
WARM_UP = 0.3  # the share of samples that no line is fitted to: pools, caches and the heap reach their size
TOLERANCE = 6 * MIB  # the heap breathes by half of that, whatever is done
SAMPLES = 120


@dataclass(frozen=True)
class Job:
    """Something to do in every so many-th round."""

    work: Callable[[], object]
    every: int = 1


@dataclass(frozen=True)
class Growth:
    """What a number was after the warm-up and at the end, and how much a line through all between rises."""

    start: float
    end: float
    rise: float


class Boom(Exception):
    """What a generator of the caller's raises."""


def growth(samples: NDArray[np.float64]) -> Growth:
    """Of numbers that were read in equal distances: medians of a tenth at both ends, and the line of Theil and Sen."""
    warm = samples[int(WARM_UP * len(samples)) :]
    few = max(1, len(warm) // 10)
    first, second = np.triu_indices(len(warm), 1)
    slopes = (warm[second] - warm[first]) / (second - first)
    rise = float(np.median(slopes)) * (len(warm) - 1) if len(slopes) else 0.0
    return Growth(float(np.median(warm[:few])), float(np.median(warm[-few:])), rise)


def jobs(folder: Path) -> dict[str, Job]:
    """All that is done."""
    rng = np.random.default_rng(0)
    X = rng.dirichlet(np.ones(3), size=(24, 16, 16)).transpose(0, 3, 1, 2).astype(np.float32)
    y = (X.cumsum(axis=1) < rng.random((24, 1, 16, 16))).sum(axis=1)
    logits, P, masks = np.log(X) * 2, np.ascontiguousarray(X[:, 1]), (y == 1).astype(np.uint8)
    groups = [f"patient {i // 2}" for i in range(24)]
    samples, truths = rng.normal(size=(6, 4, 2, 6, 6)), rng.integers(0, 2, (6, 6, 6))
    samples[:, :, 1] += 3 * truths[:, None]
    level = {"alpha": 0.3, "progress": False}
    known = cm.ConformalRiskCalibrator(**level).fit(X, y)
    binned = cm.ConformalRiskCalibrator(profile="binned", **level).fit(X, y)
    binary = cm.COATCalibrator(**level).fit(P, masks)
    margins = cm.MarginCalibrator(**level, min_coverage=0.5, on_infeasible="full").fit(P > 0.5, masks)
    scaler = cm.TemperatureScaler(progress=False).fit(logits, y)
    controller = cm.OnlineRiskController(history=100)

    def broken() -> Iterator[tuple[Any, Any]]:
        yield from zip(X[:5], y[:5], strict=True)
        raise Boom

    def refused() -> None:
        """Errors in the middle of a fit, each with its traceback."""
        calibrator = cm.ConformalRiskCalibrator(**level).fit(X[:8], y[:8])
        bad = X[:4].copy()
        bad[3, 0, 2, 2] = np.nan
        for call in (
            lambda: calibrator.fit(broken()),
            lambda: calibrator.partial_fit(bad, y[:4]),
            lambda: calibrator.fit(X, y + 7),
            lambda: calibrator.predict(bad),
            lambda: cm.ConformalRiskCalibrator(alpha=0.001, progress=False).fit(X, y),
            lambda: cm.ConformalRiskCalibrator.load(folder / "nothing.json"),
        ):
            with suppress(Boom, ValueError, FileNotFoundError):
                call()

    def abandoned() -> None:
        """Generators of which only the first image is asked for."""
        begun = [
            known.predict(iter(X)),
            known.set_size(image for image in X),
            binary.predict(iter(P)),
            scaler.transform(iter(logits)),
            margins.predict(iter(P > 0.5)),
        ]
        for made in begun:
            next(made)
        begun[0].close()  # the others are only forgotten

    def files() -> None:
        for calibrator, more in (
            (known, {"profiles": True}),
            (binned, {"profiles": True}),
            (binary, {}),
            (scaler, {}),
        ):
            path = folder / f"{type(calibrator).__name__}.json"
            calibrator.save(path, **more)
            type(calibrator).load(path)

    def threads() -> None:
        """Threads that come and go, each with work for the pool."""
        workers = [threading.Thread(target=known.predict, args=(X[i : i + 6],)) for i in range(0, 24, 6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def pools() -> None:
        """Pools of threads that are made anew."""
        n = cm.get_num_threads()
        for other in (1, n + 1, n):
            cm.set_num_threads(other)
            known.set_size(X)

    def forks() -> None:
        """A child that works and goes."""
        child = os.fork()
        if not child:
            status = 1
            with suppress(BaseException):
                status = int(cm.ConformalRiskCalibrator(**level).fit(X, y).lambda_hat_ != known.lambda_hat_)
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def stream() -> None:
        controller.update(X[:2], y[:2])
        controller.predict(X[:1])

    found = {
        "fit, exact": Job(lambda: cm.ConformalRiskCalibrator(**level).fit(X, y)),
        "fit, groups": Job(lambda: cm.ConformalRiskCalibrator("aps", **level).fit(X, y, groups=groups)),
        "fit, binned": Job(lambda: cm.ConformalRiskCalibrator(profile="binned", **level).fit(X, y), 4),
        "predict": Job(lambda: known.predict(X)),
        "predict, list": Job(lambda: known.predict(list(X[:4]))),
        "set_size": Job(lambda: known.set_size(X)),
        "varisco": Job(lambda: known.varisco(X)),
        "evaluate": Job(lambda: known.evaluate(X, y), 4),
        "recalibrate": Job(lambda: binned.recalibrate(alpha=0.2)),
        "profile": Job(lambda: cm.profile(X, y, cm.SACP(window=3)).lambda_hat("binary", 0.3)),
        "fit, scaler": Job(lambda: cm.TemperatureScaler(progress=False).fit(logits, y), 4),
        "transform": Job(lambda: scaler.transform(logits)),
        "fit, one threshold": Job(lambda: cm.BinaryRiskCalibrator(**level).fit(P, masks)),
        "fit, thresholds of images": Job(lambda: cm.COATCalibrator(**level).fit(P, masks), 20),
        "predict, thresholds": Job(lambda: binary.predict(P)),
        "fit and predict, margins": Job(lambda: margins.fit(P > 0.5, masks).predict(P[:2] > 0.5), 10),
        "stream": Job(stream),
        "errors": Job(refused, 4),
        "abandoned generators": Job(abandoned, 4),
        "save and load": Job(files, 10),
        "CONSIGN": Job(
            lambda: cm.ConsignCalibrator(2, alpha=0.3, min_accuracy=0.7, progress=False).fit(samples, truths),
            50,
        ),
        "threads": Job(threads, 20),
        "pools": Job(pools, 50),
    }
    return found | ({"forks": Job(forks, 50)} if hasattr(os, "fork") else {})


def resident(process: psutil.Process) -> int:
    """Resident memory, without what the heap only keeps for later."""
    gc.collect()
    with suppress(OSError, AttributeError):  # other systems have another C library
        ctypes.CDLL(None).malloc_trim(0)
    return int(process.memory_info().rss)


def soak(
    work: Mapping[str, Job], rounds: int, *, seconds: float = float("inf")
) -> tuple[dict[str, Growth], dict[str, int]]:
    """What grew, and how often each job was done. It ends after so many rounds, or seconds."""
    process, counts = psutil.Process(), dict.fromkeys(work, 0)
    samples: list[tuple[int, int, int]] = []
    every, end = max(1, rounds // SAMPLES), time.monotonic() + seconds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(rounds):
            for name, job in work.items():
                if i % job.every == 0:
                    job.work()
                    counts[name] += 1
            if i % every == every - 1:
                samples.append((resident(process), process.num_fds(), process.num_threads()))
            if time.monotonic() > end:
                break
    if len(samples) < 10:
        raise ValueError(f"{len(samples)} samples tell nothing: more rounds or seconds")
    columns = np.array(samples, float).T
    names = ("resident memory", "open files", "threads")
    return {name: growth(column) for name, column in zip(names, columns, strict=True)}, counts


def verdicts(found: Mapping[str, Growth]) -> dict[str, bool]:
    """Whether each of them stayed: memory within the tolerance, files and threads as they were."""
    memory = found["resident memory"]
    stays = {"resident memory": max(memory.rise, memory.end - memory.start) <= TOLERANCE}
    return stays | {name: found[name].end <= found[name].start for name in ("open files", "threads")}


def main(arguments: list[str] | None = None) -> int:
    """Prints a table; 1 if anything grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3300, help="how often all is done (default: 3300)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="when to end all the same")
    asked = parser.parse_args(arguments)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="conformask-soak-") as folder:
        found, counts = soak(jobs(Path(folder)), asked.rounds, seconds=asked.seconds)
    n_fits = sum(n for name, n in counts.items() if "fit" in name)
    n_predicted = sum(n for name, n in counts.items() if "predict" in name)
    print(
        f"{max(counts.values())} rounds, {time.monotonic() - start:.0f} s: {n_fits} fits, {n_predicted} predictions"
    )
    for name, n in counts.items():
        print(f"  {name:<28}{n:>8}")
    stays = verdicts(found)
    print(f"{'':<20}{'after warm-up':>16}{'end':>12}{'fitted rise':>14}")
    for name, each in found.items():
        unit, scale = (" MiB", MIB) if name == "resident memory" else ("", 1)
        values = "".join(
            f"{value / scale:>{width}.2f}"
            for value, width in ((each.start, 16), (each.end, 12), (each.rise, 14))
        )
        print(f"{name:<20}{values}{unit}  {'flat' if stays[name] else 'GROWS'}")
    return int(not all(stays.values()))


if __name__ == "__main__":
    sys.exit(main())
