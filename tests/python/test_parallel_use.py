"""Eight threads at once use the whole package: every result has the bits that one thread gets.

The compiled module tells free-threaded interpreters that it needs no GIL. Where there is one, kernels release it: these
tests make threads meet there as often as they can, by a short interval of switching.
"""

from __future__ import annotations

import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import conformask as cm
from problems import wide

N_THREADS = 8
PROBLEM = wide(n=64, n_classes=4, size=(12, 15))
NEW = wide(n=8, n_classes=4, size=(12, 15), seed=1).X
Calibrator = cm.ConformalRiskCalibrator


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)
    cm.set_num_threads(None)


def at_once(work: Callable[[int], Any], n: int = N_THREADS) -> list[Any]:
    """What so many threads return, which all begin at the same moment."""
    start = threading.Barrier(n, timeout=60)

    def run(i: int) -> Any:
        start.wait()
        return work(i)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))


def bits(calibrator: Any) -> tuple[Any, ...]:
    """What a calibrator tells, in bytes."""
    others = [calibrator.recalibrate(alpha=alpha) for alpha in (0.05, 0.2, 0.4)]
    numbers = [each for found in (calibrator, *others) for each in (found.lambda_hat_, found.risk_)]
    return (
        np.array(numbers).tobytes(),
        calibrator.predict(NEW).tobytes(),
        calibrator.set_size(NEW).tobytes(),
        calibrator.varisco(NEW).tobytes(),
    )


FITS: dict[str, Callable[[], Any]] = {
    "exact": lambda: Calibrator(progress=False),
    "binned": lambda: Calibrator(profile="binned", progress=False),
    "aps": lambda: Calibrator("aps", alpha=0.2, progress=False),
    "sacp": lambda: Calibrator("sacp", alpha=0.2, progress=False),
    "by class": lambda: Calibrator(conditional="class", on_rare="full", progress=False),
}


@pytest.mark.parametrize("name", FITS)
def test_calibrators_of_their_own(name: str) -> None:
    """Fitted at once and image by image, merged, predicted with."""
    make = FITS[name]

    def tell(calibrator: Any) -> tuple[Any, ...]:
        return (
            np.asarray(calibrator.lambda_hat_).tobytes(),
            calibrator.predict(NEW).tobytes(),
            calibrator.set_size(NEW).tobytes(),
        )

    expected = tell(make().fit(PROBLEM.X, PROBLEM.y))

    def work(i: int) -> tuple[Any, ...]:
        if i % 2:
            return tell(make().fit(PROBLEM.X, PROBLEM.y))
        whole = make()
        for start in range(0, 64, 16):
            first, second = slice(start, start + 8), slice(start + 8, start + 16)
            whole.merge(make().partial_fit(PROBLEM.X[first], PROBLEM.y[first]))
            whole.partial_fit(PROBLEM.X[second], PROBLEM.y[second])
        return tell(whole)

    for _ in range(3):
        assert set(at_once(work)) == {expected}


@pytest.mark.parametrize("profile", ["exact", "binned"])
def test_a_calibrator_that_all_share(profile: str) -> None:
    """Each thread adds its images, directly or as a part that it merges, while all predict and set threads."""

    def new() -> Calibrator:
        return Calibrator(profile=profile, progress=False)

    expected = bits(new().fit(PROBLEM.X, PROBLEM.y))
    for _ in range(10):
        # Half of the images are there from the start, so that there is a lambda-hat at every moment.
        shared = new().fit(PROBLEM.X[:32], PROBLEM.y[:32])

        def work(i: int, shared: Calibrator = shared) -> None:
            parts = [slice(j, j + 1) for j in range(32 + 4 * i, 36 + 4 * i)]
            merged = [new().partial_fit(PROBLEM.X[part], PROBLEM.y[part]) for part in parts[:2]]
            for other, part in zip(merged, parts[2:], strict=True):
                shared.merge(other)
                shared.partial_fit(PROBLEM.X[part], PROBLEM.y[part])
            cm.set_num_threads(1 + i % 3)
            sets = shared.predict(NEW)
            assert sets.any(axis=1).all()
            assert shared.recalibrate(alpha=0.3).lambda_hat_ <= shared.recalibrate(alpha=0.05).lambda_hat_

        at_once(work)
        assert shared.n_images_ == 64
        assert bits(shared) == expected


def test_predictions_of_one_calibrator_while_threads_are_set() -> None:
    calibrator = Calibrator(progress=False).fit(PROBLEM.X, PROBLEM.y)
    expected = bits(calibrator)

    def work(i: int) -> set[tuple[Any, ...]]:
        found = set()
        for times in range(5):
            cm.set_num_threads(1 + (i + times) % 4)
            found.add(bits(calibrator))
        return found

    assert at_once(work) == [{expected}] * N_THREADS


def test_other_families_at_once() -> None:
    """CONSIGN with its LAPACK, a scaler, binary masks and margins: whoever comes in between changes no bit."""
    samples = np.random.default_rng(3).random((16, 4, 3, 6, 7))
    labels = samples.mean(axis=1).argmax(axis=1)
    logits = np.log(PROBLEM.X.astype(np.float64) + 1e-6)
    masks = np.where(PROBLEM.y == 255, 255, PROBLEM.y == 1).astype(np.uint8)

    def consign() -> bytes:
        found = cm.ConsignCalibrator(2, alpha=0.3, progress=False).fit(samples, labels)
        return np.append(found.image_lambdas_, found.lambda_hat_).tobytes()

    def scaler() -> bytes:
        return cm.TemperatureScaler(progress=False).fit(logits, PROBLEM.y).transform(logits[:4]).tobytes()

    def binary() -> bytes:
        found = cm.BinaryRiskCalibrator(alpha=0.2, progress=False).fit(PROBLEM.X[:, 1], masks)
        return found.predict(NEW[:, 1]).tobytes()

    def svd() -> bytes:
        return b"".join(each.tobytes() for each in cm.kernels.truncated_svd(logits.reshape(64, -1).T, 5))

    works = (consign, scaler, binary, svd)
    expected = [work() for work in works]
    for turn in range(2):
        found = at_once(lambda i, turn=turn: works[(i + turn) % 4]())  # type: ignore[misc]
        assert found == [expected[(i + turn) % 4] for i in range(N_THREADS)]


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="there is a GIL anyway")
def test_the_module_needs_no_gil() -> None:
    """A free-threaded interpreter does without, also after the import."""
    assert not sys._is_gil_enabled()  # type: ignore[attr-defined]
