"""Ctrl-C: every kernel, metric and method that may run long hears it after 0.2 s of work at most."""

# ruff: noqa: B008  # defaults hold what work is done on, made before it begins

from __future__ import annotations

import gc
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import pytest

import conformask as cm
from conformask.consign.sets import ConsignSet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no CPU time of another process is known")

_RNG = np.random.default_rng(0)

# Seconds of CPU time, of all threads: what a busy machine does meanwhile does not count.
BEFORE = (0.15, 0.4)  # until the signal: work has parts, and each must hear it
# Two threads may work for 0.2 s each, and for 0.05 s until somebody looks at signals. They stop in 0.1 s, so that this
# limit leaves room for slow machines; on one that is busy the best of some attempts counts.
MOST = 0.3
ATTEMPTS = 4


# A timer of CPU time is late where threads work for moments only. So another process sends the signal, and tells the
# CPU time at that moment. It goes on: an exception may be lost where it is raised in a callback.
_SENDER = """
import os, signal, sys, time
pid = int(sys.argv[1])
clock = ~pid << 3 | 2  # as clock_getcpuclockid
print("ready", flush=True)
at = float(sys.stdin.readline())  # told when it is awaited: starting a process may take that long
while time.clock_gettime(clock) < at:
    time.sleep(0.002)
print(time.clock_gettime(clock), flush=True)
os.kill(pid, signal.SIGUSR1)
while True:
    at += 1
    while time.clock_gettime(clock) < at:
        time.sleep(0.002)
    os.kill(pid, signal.SIGUSR1)
"""


class Stop(KeyboardInterrupt):
    """What the signal raises, as Ctrl-C does."""


@contextmanager
def two_threads() -> Iterator[None]:
    cm.set_num_threads(2)
    try:
        yield
    finally:
        cm.set_num_threads(None)


def cpu_time_after_a_stop(work: Callable[[], object], before: float) -> float:
    """Seconds of CPU time from a signal, which comes after so many others, until the exception is there."""

    def stop(*_: object) -> None:
        raise Stop

    gc.disable()  # there are tools that have callbacks of it, in which an exception is lost
    known = signal.signal(signal.SIGUSR1, stop)
    try:
        command = [sys.executable, "-S", "-c", _SENDER, str(os.getpid())]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, **pipes, text=True) as sender:
            assert sender.stdin is not None
            assert sender.stdout is not None
            try:
                assert sender.stdout.readline() == "ready\n"
                print(time.process_time() + before, file=sender.stdin, flush=True)
                work()
                # Here, where an exception that comes with it is caught.
                signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            except Stop:
                signal.signal(signal.SIGUSR1, signal.SIG_IGN)
                end = time.process_time()
                # What was told before the signal is there already. An exception without it is none of this sender's.
                is_told, _, _ = select.select([sender.stdout], [], [], 1)
                return end - float(sender.stdout.readline()) if is_told else math.inf
            finally:
                sender.kill()
    finally:
        signal.signal(signal.SIGUSR1, known)
        gc.enable()
    # It ended before the signal came: the work is too short, or the machine too busy for the sender.
    return math.inf


def stops(work: Callable[[], object]) -> bool:
    """Whether work on two threads ends soon after a stop, whenever it comes."""
    with two_threads():
        # Work that ends before the signal on a fast machine gets an earlier one.
        return all(
            any(cpu_time_after_a_stop(work, before / 2**i) < MOST for i in range(ATTEMPTS))
            for before in BEFORE
        )


def many(image: np.ndarray, n: int = 10**4) -> np.ndarray:
    """The same image again and again, in the memory of one."""
    return np.broadcast_to(image, (n, *image.shape))


@cache
def scores(n_classes: int = 40, side: int = 64) -> np.ndarray:
    scores = _RNG.random((n_classes, side, side), dtype=np.float32) ** 4
    return scores / scores.sum(axis=0)


@cache
def labels(n_classes: int = 40, side: int = 64) -> np.ndarray:
    return _RNG.integers(0, n_classes, (side, side))


@cache
def masks(n_classes: int = 40, side: int = 64) -> np.ndarray:
    return _RNG.random((n_classes, side, side)) < 0.5


def calibrator(**parameters: Any) -> cm.ConformalRiskCalibrator:
    fitted = cm.ConformalRiskCalibrator("aps", alpha=0.5, **parameters)
    return fitted.fit(scores()[np.newaxis], labels()[np.newaxis])


def scaler(kind: type, **parameters: Any) -> Any:
    return kind(inputs="probabilities", n_pixels=100, **parameters).fit(
        many(scores(10), 5), many(labels(10), 5)
    )


@cache
def images(n: int = 3000) -> np.ndarray:
    """Label maps that are all different."""
    return _RNG.integers(0, 5, (n, 200, 200), dtype=np.uint8)


@cache
def profiles() -> cm.ScoreProfiles:
    """Of 30 images with a million critical values in all."""
    X = np.stack([scores(10, 200)] * 30)
    return cm.profile(X, _RNG.integers(0, 10, (30, 200, 200)), activation=True)


@cache
def joined(n: int = 10**5) -> cm.ScoreProfiles:
    """Of many images, most of which are the same."""
    return profiles()[np.arange(n) % 30]


@cache
def samples(n_labels: int = 6, side: int = 400) -> np.ndarray:
    """Segmentations of one model, whose differences are random."""
    base = _RNG.random((1, n_labels, side, side), dtype=np.float32)
    return base + _RNG.random((4, n_labels, side, side), dtype=np.float32)


@cache
def consign() -> cm.ConsignCalibrator:
    X, y = samples(3, 24), _RNG.integers(0, 3, (24, 24))
    return cm.ConsignCalibrator(3, alpha=0.5, min_accuracy=0.34).fit(many(X, 3), many(y, 3))


@cache
def large_set() -> ConsignSet:
    return next(iter(consign().predict(many(samples(3), 1))))


def svd_input(*shape: int) -> np.ndarray:
    return np.broadcast_to(_RNG.random((1, 50, shape[-1])), (shape[0] // 50, 50, shape[-1])).reshape(shape)


WORK: dict[str, Callable[[], Callable[[], object]]] = {
    "kernels.distinct_counts": lambda: lambda s=many(images(1)[0], 10**5): cm.kernels.distinct_counts(s),
    "kernels.label_hits": lambda: lambda s=many(images(1)[0], 10**5): cm.kernels.label_hits(s[0], s),
    "kernels.lambda_hat": lambda: lambda v=_RNG.random(2 * 10**6): cm.kernels.lambda_hat(v, v, 1e5),
    "kernels.losses": lambda: lambda: cm.kernels.losses(many(scores()), many(labels()), 0.5),
    "kernels.sample_masks": lambda: lambda m=many(masks(), 100): cm.kernels.sample_masks(m, 300, 0),
    "kernels.set_size": lambda: lambda: cm.kernels.set_size(many(scores()), 0.5, "aps"),
    "kernels.threshold": lambda: lambda: cm.kernels.threshold(many(scores(), 2000), 0.5, "aps"),
    "kernels.threshold, many classes": lambda: (
        lambda: cm.kernels.threshold(many(scores(1000), 40), 0.5, "aps")
    ),
    "kernels.threshold, a wide window": lambda: (
        lambda: cm.kernels.threshold(many(scores(20, 256), 40), 0.5, cm.SACP(cm.LAC(), window=1023))
    ),
    "kernels.threshold, many tiny images": lambda: (
        lambda: cm.kernels.threshold(many(scores(2, 1), 3 * 10**6), 0.5)
    ),
    "kernels.true_label_scores": lambda: (
        lambda: cm.kernels.true_label_scores(many(scores(), 4000), many(labels(), 4000), cm.SACP(cm.APS()))
    ),
    "kernels.truncated_svd": lambda: lambda a=svd_input(10**6, 60): cm.kernels.truncated_svd(a, 60),
    "kernels.truncated_svd, wide blocks": lambda: (
        lambda a=_RNG.random((3000, 3000)): cm.kernels.truncated_svd(a, 1)
    ),
    "metrics.activation_ratio": lambda: lambda: cm.metrics.activation_ratio(many(labels()), many(masks())),
    "metrics.chao1": lambda: lambda s=many(images(1)[0], 10**5): cm.metrics.chao1(s),
    "metrics.class_set_sizes": lambda: lambda: cm.metrics.class_set_sizes(many(labels()), many(masks())),
    "metrics.empirical_risk": lambda: lambda: cm.metrics.empirical_risk(many(labels()), many(masks())),
    "metrics.label_accuracy": lambda: (
        lambda: cm.metrics.label_accuracy(many(labels(), 10**5), many(labels(), 10**5))
    ),
    "metrics.log10_volume": lambda: lambda: cm.metrics.log10_volume(many(masks())),
    "metrics.log10_volume, one image": (
        lambda: lambda m=many(masks(), 10**4).transpose(1, 0, 2, 3): cm.metrics.log10_volume(m[np.newaxis])
    ),
    "metrics.marginal_coverage": lambda: lambda: cm.metrics.marginal_coverage(many(labels()), many(masks())),
    "metrics.pairwise_agreement": lambda: (
        lambda s=many(images(1)[0], 10**5): cm.metrics.pairwise_agreement(s)
    ),
    "metrics.pairwise_correlation": lambda: (
        lambda s=many(images(1)[0], 10**5): cm.metrics.pairwise_correlation(s)
    ),
    "metrics.sample_coverage": lambda: (
        lambda: cm.metrics.sample_coverage(many(labels()), many(many(labels(), 20)), 0.5)
    ),
    "metrics.size_stratified_coverage": lambda: (
        lambda: cm.metrics.size_stratified_coverage(many(labels()), many(masks()))
    ),
    "metrics.size_stratified_coverage, one image": (
        lambda: (
            lambda m=many(masks(), 4000).transpose(1, 0, 2, 3), y=many(labels(), 4000): (
                cm.metrics.size_stratified_coverage(y[np.newaxis], m[np.newaxis])
            )
        )
    ),
    "ConformalRiskCalibrator.fit": lambda: (
        lambda: cm.ConformalRiskCalibrator("aps").fit(many(scores()), many(labels()))
    ),
    "ConformalRiskCalibrator.partial_fit": lambda: (
        lambda: calibrator().partial_fit(many(scores()), many(labels()))
    ),
    "ConformalRiskCalibrator.predict": lambda: lambda c=calibrator(): c.predict(many(scores(), 2000)),
    "ConformalRiskCalibrator.set_size": lambda: lambda c=calibrator(): c.set_size(many(scores())),
    "ConformalRiskCalibrator.varisco": lambda: lambda c=calibrator(): c.varisco(many(scores())),
    "ConformalRiskCalibrator.evaluate": lambda: (
        lambda c=calibrator(): c.evaluate(many(scores()), many(labels()))
    ),
    "ConformalRiskCalibrator.score": lambda: lambda c=calibrator(): c.score(many(scores()), many(labels())),
    "ScoreProfiles.activation": lambda: lambda p=joined(3 * 10**6): p.activation(0.5),
    "ScoreProfiles.lambda_hat": lambda: (
        lambda p=joined(): p.lambda_hat(
            cm.MiscoverageLoss(class_weights=[0.1 * k for k in range(1, 11)]), 0.5
        )
    ),
    "ScoreProfiles.lambda_hat, binary": lambda: lambda p=joined(): p.lambda_hat("binary", 0.5),
    "ScoreProfiles.lambda_hat, the worst class": lambda: (
        lambda p=joined(2000): p.lambda_hat(cm.WorstClassLoss(), 0.5)
    ),
    "ScoreProfiles.lambda_hat, by betting": lambda: (
        lambda p=joined(10**4): p.lambda_hat("miscoverage", 0.5, method=cm.RCPS(0.1, bound="wsr"))
    ),
    "ScoreProfiles.lambda_hat, each class": lambda: (
        lambda p=joined(2000): cm.ConformalRiskCalibrator(conditional="class")._fit_profiles(p)
    ),
    "ConformalRiskCalibrator.predict, by class": lambda: (
        lambda c=calibrator(conditional="class", on_infeasible="full"): c.predict(many(scores(), 2000))
    ),
    "ScoreProfiles.losses": lambda: (
        lambda p=joined(200), lam=np.linspace(0, 1, 10**5): p.losses(
            cm.MiscoverageLoss(class_weights="balanced"), lam
        )
    ),
    "ScoreProfiles.merge": lambda: lambda p=joined(10**6), q=joined(10**6)[:]: p.merge(q),
    "ScoreProfiles.risk": lambda: lambda p=joined(): p.risk("miscoverage", 0.5),
    "ScoreProfiles.risk_curve": lambda: lambda p=joined(2000): p.risk_curve("miscoverage", n_points=10**4),
    "ScoreProfiles.save": lambda: lambda p=joined(500): p.save(BytesIO()),
    "BinnedProfiles.from images": lambda: (
        lambda: cm.profile(
            many(scores(2, 100), 20000), many(labels(2, 100), 20000), collect=["miscoverage", "binary"]
        )
    ),
    "ConsignCalibrator.accuracy_range, one image": (
        lambda: (
            lambda X=np.broadcast_to(samples()[:1], (1, 100, *samples().shape[1:])): (
                cm.ConsignCalibrator().accuracy_range(X)
            )
        )
    ),
    "ConsignCalibrator.accuracy_range": lambda: (
        lambda: cm.ConsignCalibrator().accuracy_range(many(samples(3, 24)))
    ),
    "ConsignCalibrator.fit": lambda: (
        lambda: cm.ConsignCalibrator(3, min_accuracy=0.9).fit(many(samples(), 1), many(labels(6, 400), 1))
    ),
    "ConsignCalibrator.predict": lambda: lambda c=consign(): list(c.predict(many(samples(3, 400), 1000))),
    "ConsignCalibrator.evaluate": lambda: (
        lambda c=consign(): c.evaluate(many(samples(3, 400), 1000), many(labels(3, 400), 1000))
    ),
    "ConsignSet.sample": lambda: lambda s=large_set(): s.sample(3000, random_state=0),
    "ConsignSet.log10_volume_upper": lambda: (
        lambda c=consign(): [s.log10_volume_upper() for s in c.predict(many(samples(3, 400), 1000))]
    ),
    "ConsignSet.contains": lambda: lambda s=large_set(): [s.contains(labels(3, 400)) for _ in range(1000)],
    "metrics.calibration_report": lambda: (
        lambda: cm.metrics.calibration_report(many(labels()), many(scores()))
    ),
    "metrics.calibration_report, with objects": lambda: (
        lambda: cm.metrics.calibration_report(many(labels()), many(scores()), object_classes=[1, 2])
    ),
    "TemperatureScaler.fit": lambda: (
        lambda: cm.TemperatureScaler(inputs="probabilities", n_pixels=16).fit(many(scores()), many(labels()))
    ),
    "TemperatureScaler.fit, many pixels": lambda: (
        lambda: cm.TemperatureScaler(inputs="probabilities").fit(many(scores(), 100), many(labels(), 100))
    ),
    "VectorScaler.fit": lambda: (
        lambda: cm.VectorScaler(inputs="probabilities").fit(many(scores(), 100), many(labels(), 100))
    ),
    "TemperatureScaler.transform": lambda: (
        lambda c=scaler(cm.TemperatureScaler): c.transform(many(scores(10), 5000))
    ),
    "StructuredScaler.transform": lambda: (
        lambda c=scaler(cm.StructuredScaler, decision="order"): c.transform(many(scores(10), 5000))
    ),
    "LocalTemperatureScaler.transform": lambda: (
        lambda c=scaler(cm.LocalTemperatureScaler): c.transform(many(scores(10), 5000))
    ),
    "datasets.make_scenes": lambda: lambda: cm.datasets.make_scenes(10**5),
}

CHEAP = {
    "metrics.SizeStratifiedCoverage": "a named tuple",
    "metrics.CalibrationAccumulator": "counts as metrics.calibration_report",
    "metrics.CalibrationReport": "a dataclass",
    "metrics.ClassCalibration": "a dataclass",
    "metrics.RegionCalibration": "a dataclass",
    "metrics.ReliabilityCurve": "a dataclass",
    "metrics.coverage_gap": "image by image, in NumPy",
    "metrics.brier_score": "counts as metrics.calibration_report",
    "metrics.expected_calibration_error": "counts as metrics.calibration_report",
    "metrics.mean_iou": "counts as metrics.calibration_report",
    "metrics.negative_log_likelihood": "counts as metrics.calibration_report",
    "metrics.reliability_curve": "counts as metrics.calibration_report",
    "TemperatureScaler.fit_transform": "fits and transforms",
    "TemperatureScaler.score": "negative_log_likelihood, which counts as calibration_report",
    "TemperatureScaler.merge": "joins drawn pixels",
    "TemperatureScaler.partial_fit": "draws pixels as TemperatureScaler.fit",
    "TemperatureScaler.save": "a JSON file",
    "TemperatureScaler.load": "a JSON file",
    "metrics.effective_sample_size": "a few operations a weight, in Python",
    "metrics.required_images": "a loop in Python, over what SciPy computes in a few milliseconds",
    "metrics.GroupRisks": "a dataclass",
    "metrics.leave_one_group_out": "ScoreProfiles.lambda_hat and risk, group by group",
    "ConformalRiskCalibrator.losses": "counts as ConformalRiskCalibrator.evaluate",
    "ConformalRiskCalibrator.merge": "joins profiles, as ScoreProfiles.merge",
    "ConformalRiskCalibrator.recalibrate": "ScoreProfiles.lambda_hat",
    "ConformalRiskCalibrator.risk_curve": "ScoreProfiles.risk_curve",
    "ConformalRiskCalibrator.risk_limit": "a few numbers",
    "ConformalRiskCalibrator.predict_lambdas": "a few numbers, beside what a model of the caller's takes",
    "ConformalRiskCalibrator.save": "writes what ScoreProfiles.save writes",
    "ConformalRiskCalibrator.load": "reads what ScoreProfiles.load reads",
    "ScoreProfiles.load": "reads in parts of 256 KiB, and makes profiles as `from_arrays` below",
    "ConsignCalibrator.save": "a JSON file",
    "ConsignCalibrator.load": "a JSON file",
    "ConsignCalibrator.score": "ConsignCalibrator.evaluate",
    "ConsignSet.segmentation": "one label map of one image",
}

_OF_SKLEARN = {"get_params", "set_params", "get_metadata_routing"}


def _methods(kind: type) -> set[str]:
    names = {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}
    names = {name for name in names if not (name.startswith("set_") and name.endswith("_request"))}
    return {f"{kind.__name__}.{name}" for name in names - _OF_SKLEARN}


def test_the_table_is_complete() -> None:
    public = {f"kernels.{name}" for name in cm.kernels.__all__}
    public |= {f"metrics.{name}" for name in cm.metrics.__all__}
    kinds = (cm.ConformalRiskCalibrator, cm.ScoreProfiles, cm.ConsignCalibrator, cm.ConsignSet)
    kinds += (cm.TemperatureScaler,)
    public |= set().union(*map(_methods, kinds))
    assert public <= WORK.keys() | CHEAP.keys()
    assert not WORK.keys() & CHEAP.keys()


@pytest.mark.parametrize("name", WORK)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_work_stops(name: str) -> None:
    assert stops(WORK[name]())


def on_two_threads(seconds: float) -> Callable[[], None]:
    """Work like that of the kernels, whose threads look every so many seconds whether they are stopped."""

    def work() -> None:
        is_stopped = threading.Event()

        def loop() -> None:
            while not is_stopped.is_set():
                end = time.thread_time() + seconds
                while time.thread_time() < end:
                    pass

        threads = [threading.Thread(target=loop) for _ in range(2)]
        try:
            for thread in threads:
                thread.start()
            while True:
                time.sleep(0.02)
        finally:
            is_stopped.set()
            for thread in threads:
                if thread.ident is not None:  # a stop may come before the second is started
                    thread.join()

    return work


def test_a_late_look_is_seen() -> None:
    assert not stops(on_two_threads(0.6))
    assert stops(on_two_threads(0.02))
