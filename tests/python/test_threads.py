"""Threads, forks, Ctrl-C: the kernels are good neighbours in a Python process."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
import ctrl_c
from conformask.threads import warn_of_environment
from problems import wide

PROBLEM = wide(n=16, size=(50, 60))


def python(code: str, *arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


# Processes


def predict(calibrator: cm.ConformalRiskCalibrator) -> bytes:
    return calibrator.predict(PROBLEM.X).tobytes()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_processes_made_after_use(method: str) -> None:
    """As the workers of a data loader are. A pool of threads does not survive a fork: each process needs its own."""
    calibrator = cm.ConformalRiskCalibrator().fit(PROBLEM.X, PROBLEM.y)
    expected = predict(calibrator)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(4 if method == "fork" else 2, mp_context=context) as workers:
        results = [workers.submit(predict, calibrator) for _ in range(8)]
        assert all(result.result(timeout=50) == expected for result in results)
    assert predict(calibrator) == expected  # the parent's pool is as it was


_FORK_WHILE_BUSY = """
import os, sys, threading
import numpy as np
import conformask as cm

X = np.full((64, 4, 128, 128), np.float32(0.25))
y = np.ones((64, 128, 128), np.uint8)
stop = threading.Event()
cm.profile(X[:1], y[:1])

def busy():
    while not stop.is_set():
        cm.profile(X, y)

thread = threading.Thread(target=busy)
thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        ok = cm.profile(X[:9], y[:9]).lambda_hat("miscoverage", 0.1) == 0.75
        os._exit(0 if ok else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
stop.set()
thread.join()
print("done")
"""


@pytest.mark.timeout(60)
def test_a_fork_while_another_thread_calibrates() -> None:
    assert python(_FORK_WHILE_BUSY) == "done"


_FORK_AT_FIRST_USE = """
import builtins, os, signal, threading, time
import numpy as np
import conformask as cm

X, y = np.full((9, 2, 4, 4), 0.5), np.ones((9, 4, 4), int)
importing, original = threading.Event(), builtins.__import__

def slow_import(*arguments, **options):
    importing.set()
    time.sleep(0.3)
    return original(*arguments, **options)

builtins.__import__ = slow_import
thread = threading.Thread(target=cm.profile, args=(X, y))
thread.start()
importing.wait(1.0)
builtins.__import__ = original
child = os.fork()
if child == 0:
    signal.alarm(5)
    cm.profile(X, y)
    os._exit(0)
print(os.waitpid(child, 0)[1])
thread.join()
"""


@pytest.mark.timeout(60)
def test_a_fork_during_the_first_use() -> None:
    """What is set up at the first use must not be under way in a thread that the child does not have. An import there
    would let the other thread run: it is slowed down here, so that the fork always falls into it."""
    assert python(_FORK_AT_FIRST_USE) == "0"


# Threads


def test_many_python_threads_at_once() -> None:
    calibrator = cm.ConformalRiskCalibrator().fit(PROBLEM.X, PROBLEM.y)
    expected = predict(calibrator)
    with ThreadPoolExecutor(8) as threads:
        assert all(result == expected for result in threads.map(predict, [calibrator] * 32))


def test_other_threads_run_during_a_fit() -> None:
    """The kernels release the GIL: a thread that ticks every millisecond goes on ticking."""
    X = np.broadcast_to(np.float32(0.125), (40, 8, 512, 512))
    y = np.broadcast_to(np.uint8(1), (40, 512, 512))
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        start = time.perf_counter()
        cm.profile(X, y)
        end = time.perf_counter()
    finally:
        stop.set()
        thread.join()
    during = [t for t in ticks if start < t < end]
    assert end - start > 0.05  # long enough to tell
    assert len(during) > 10


_POOL = """
import sys, time
from pathlib import Path
import numpy as np
import conformask as cm

def is_ours(task):
    try:
        return (task / "comm").read_text().startswith("conformask-")
    except OSError:  # it ended since it was listed
        return False

def threads():
    return sum(map(is_ours, Path("/proc/self/task").iterdir()))

X, y = np.full((9, 2, 4, 4), 0.5), np.ones((9, 4, 4), int)
print(threads(), end=" ")
for n in [None, *map(int, sys.argv[1:])]:
    if n:
        cm.set_num_threads(n)
    cm.profile(X, y)
    # Threads name themselves once they run, and end once they have seen that they should.
    patience = time.monotonic() + 5
    while threads() != cm.get_num_threads() and time.monotonic() < patience:
        time.sleep(0.01)
    print(f"{cm.get_num_threads()}:{threads()}", end=" ")
"""

linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="thread names are read from /proc")


@linux
def test_the_pool_is_ours_and_as_large_as_it_says() -> None:
    """No thread at import; then as many as get_num_threads says, named after us."""
    available = len(os.sched_getaffinity(0))
    none, default, *others = python(_POOL, "3", "1", "5", CONFORMASK_NUM_THREADS="").split()
    assert none == "0"
    n_default, n_threads = map(int, default.split(":"))
    assert n_default == n_threads <= available
    assert others == ["3:3", "1:1", "5:5"]


@linux
def test_the_environment_sets_the_number_of_threads() -> None:
    assert python(_POOL, CONFORMASK_NUM_THREADS="3") == "0 3:3"
    assert python(_POOL, "2", CONFORMASK_NUM_THREADS="3") == "0 3:3 2:2"
    assert python(_POOL, RAYON_NUM_THREADS="7", CONFORMASK_NUM_THREADS="2") == "0 2:2"


@pytest.mark.parametrize("nonsense", ["", "0", "-1", "many", " ", "1.5", "1000000", str(2**70), "9" * 5000])
def test_nonsense_in_the_environment_is_no_setting(nonsense: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFORMASK_NUM_THREADS", "3")
    assert cm.get_num_threads() == 3
    monkeypatch.delenv("CONFORMASK_NUM_THREADS")
    default = cm.get_num_threads()
    monkeypatch.setenv("CONFORMASK_NUM_THREADS", nonsense)
    assert cm.get_num_threads() == default


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.5", "1000000", "9" * 5000, "\u0663"])
def test_nonsense_in_the_environment_is_warned_of(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFORMASK_NUM_THREADS", text)
    says = r"^CONFORMASK_NUM_THREADS must be at least 1 and at most \d+, 4 times the processors, got '"
    with pytest.warns(RuntimeWarning, match=says) as caught:
        warn_of_environment()
    assert len(str(caught[0].message)) < 250
    for setting in ("", " ", "1", " 2 ", "+1"):
        monkeypatch.setenv("CONFORMASK_NUM_THREADS", setting)
        warn_of_environment()


def test_that_warning_comes_once() -> None:
    code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import numpy as np
    import conformask as cm
    for _ in range(3):
        cm.profile(np.full((9, 2, 4, 4), 0.5), np.zeros((9, 4, 4), int))
print(sum("CONFORMASK_NUM_THREADS" in str(warning.message) for warning in caught))
"""
    assert python(code, CONFORMASK_NUM_THREADS="abc") == "1"


@pytest.mark.usefixtures("threads")
def test_threads_that_no_machine_has_are_refused() -> None:
    most = 4 * len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4 * (os.cpu_count() or 1)
    before = cm.get_num_threads()
    for n_threads in (most + 1, 10**6, 2**70, 10**5000, 0, -1, -(2**70)):
        with pytest.raises(
            ValueError, match=r"n_threads must be at least 1 and at most \d+, 4 times the processors"
        ):
            cm.set_num_threads(n_threads)
    assert cm.get_num_threads() == before
    cm.set_num_threads(4)  # which is always possible
    assert cm.get_num_threads() == 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is set by sched_setaffinity")
def test_affinity_is_respected() -> None:
    code = """
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
import conformask as cm
print(cm.get_num_threads())
"""
    assert python(code, CONFORMASK_NUM_THREADS="") == "1"


_IN_A_CONTAINER = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
import numpy as np

def fitted(seed):
    import conformask as cm
    X = np.random.default_rng(seed).dirichlet(np.ones(3), (20, 16, 16)).transpose(0, 3, 1, 2)
    return cm.get_num_threads(), cm.ConformalRiskCalibrator().fit(X, X.argmin(1)).lambda_hat_

if __name__ == "__main__":
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    with ProcessPoolExecutor(8, mp_context=multiprocessing.get_context("spawn")) as workers:
        found = [*workers.map(fitted, [0] * 8)]
    print(len(set(found)), found[0][0])
"""


@pytest.mark.timeout(120)
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is set by sched_setaffinity")
def test_workers_in_a_container_with_little(tmp_path: Path) -> None:
    """One processor for eight processes, and an image that sets the threads of other programs: nothing hangs."""
    script = tmp_path / "workers.py"
    script.write_text(_IN_A_CONTAINER)
    environment = {**os.environ, "RAYON_NUM_THREADS": "64", "CONFORMASK_NUM_THREADS": ""}
    run = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["1", "1"]


@pytest.mark.usefixtures("threads")
def test_the_default_comes_back() -> None:
    default = cm.get_num_threads()
    cm.set_num_threads(default + 3)
    assert cm.get_num_threads() == default + 3
    cm.set_num_threads(None)
    assert cm.get_num_threads() == default


# OpenBLAS

_SHARED = """
import ctypes, os, sys, threading
from pathlib import Path
import numpy as np

library = ctypes.CDLL(sys.argv[1])  # before conformask, as another package that is linked to it would
library.openblas_set_num_threads(3)
numbers = [library.openblas_get_num_threads()]
import conformask as cm
numbers.append(library.openblas_get_num_threads())
A = np.random.default_rng(0).standard_normal((400, 60))
for k in (60, 5):
    cm.kernels.truncated_svd(A, k)
    numbers.append(library.openblas_get_num_threads())
samples = np.random.default_rng(0).random((20, 4, 3, 5, 6))
cm.ConsignCalibrator(2, alpha=0.3).fit(samples, samples.mean(axis=1).argmax(axis=1))
numbers.append(library.openblas_get_num_threads())
workers = [threading.Thread(target=lambda: [cm.kernels.truncated_svd(A, 60) for _ in range(20)]) for _ in range(6)]
for each in workers:
    each.start()
child = os.fork()  # while they are at it
if child == 0:
    cm.kernels.truncated_svd(A, 60)
    os._exit(library.openblas_get_num_threads())
numbers.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for each in workers:
    each.join()
numbers.append(library.openblas_get_num_threads())
library.openblas_set_num_threads(2)
cm.kernels.truncated_svd(A, 60)
numbers.append(library.openblas_get_num_threads())
print(*numbers)
"""


@pytest.fixture
def our_openblas() -> str:
    """The library that the kernels are linked to; skips where it lies in them."""
    found = {
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "libopenblas" in line and "/numpy" not in line and "/scipy" not in line
    }
    if len(found) != 1:
        pytest.skip("the kernels share no OpenBLAS with anyone")
    return found.pop()


@linux
@pytest.mark.timeout(60)
def test_others_keep_the_threads_of_a_shared_openblas(our_openblas: str) -> None:
    assert python(_SHARED, our_openblas) == "3 3 3 3 3 3 3 2"


# Most of the time of a worker goes to setting numbers of threads: eight threads end and begin.
_FORKED = """
import ctypes, os, sys, threading
import numpy as np
import conformask as cm

ctypes.CDLL(sys.argv[1]).openblas_set_num_threads(8)
A = np.random.default_rng(0).standard_normal((400, 60))
done = threading.Event()

def work():
    while not done.is_set():
        cm.kernels.truncated_svd(A, 60)

workers = [threading.Thread(target=work) for _ in range(8)]
for each in workers:
    each.start()
for _ in range(300):
    child = os.fork()
    if child == 0:
        cm.kernels.truncated_svd(A, 60)
        os._exit(0)
    os.waitpid(child, 0)
done.set()
for each in workers:
    each.join()
print("all came back")
"""


@linux
@pytest.mark.timeout(120)
def test_children_that_are_forked_while_threads_are_set_can_set_theirs(our_openblas: str) -> None:
    assert python(_FORKED, our_openblas) == "all came back"


# Ctrl-C

_FITTED = """
K, n, side = 32, 3000, 1024
X = np.broadcast_to(np.float32(1 / K), (n, K, side, side))  # 400 GB, of which 4 bytes exist
y = np.broadcast_to(np.uint8(0), (n, side, side))
cm.profile(X[:1, :, :9, :9], y[:1, :9, :9])
calibrator = cm.ConformalRiskCalibrator(progress=False).fit(X[:9, :, :9, :9], y[:9, :9, :9])
"""
_AS_IT_WAS = """
assert len(calibrator.profiles_) == 9
# The pool still works.
assert cm.profile(X[:9, :, :9, :9], y[:9, :9, :9]).lambda_hat("miscoverage", 0.1) == 0
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "work",
    [
        "calibrator.fit(X, y)",
        "calibrator.fit((image, labels) for image, labels in zip(X, y))",
        "calibrator.set_size(X[:300])",
    ],
    ids=["array", "generator", "predict"],
)
def test_ctrl_c_stops_long_work(work: str) -> None:
    ctrl_c.stops(work, before=_FITTED, after=_AS_IT_WAS, seconds=1.0)


# Imports

HEAVY = ["torch", "matplotlib", "tensorflow", "jax", "pandas", "mmseg"]
# scikit-learn imports pandas by itself, where that is installed.
_IMPORTED = (
    "import sys, sklearn.base; known = {{*sys.modules}}; import conformask{also}; "
    "print([name for name in {heavy} if name in {{*sys.modules}} - known])"
)


def test_import_brings_nothing_heavy() -> None:
    assert python(_IMPORTED.format(also="", heavy=HEAVY)) == "[]"


def test_the_check_of_imports_can_fail() -> None:
    assert python(_IMPORTED.format(also=", matplotlib", heavy=HEAVY)) == "['matplotlib']"
