"""Memory that cannot be had is a MemoryError, and the interpreter lives on.

The limit is that of the address space: pages that nobody touches count, so that a test needs next to no memory.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

_WORK = {
    "ScoreProfiles.losses": "profiles[np.zeros(1000, int)].losses('miscoverage', np.linspace(0, 1, 2 * 10**6))",
    "ScoreProfiles.losses of a function": (
        "profiles[np.zeros(1000, int)].losses(lambda c: 1 - c, np.linspace(0, 1, 2 * 10**6))"
    ),
    "ScoreProfiles.save": "profiles[np.zeros(10**5, int)].save(io.BytesIO())",
    "fit": "cm.ConformalRiskCalibrator().fit(many(pixel), many(label))",
    "partial_fit": "calibrator.partial_fit(many(pixel), many(label))",
    "evaluate": "calibrator.evaluate(many(pixel), many(label))",
    "predict": "calibrator.predict(many(pixel, 10**10))",
    "set_size": "calibrator.set_size(many(pixel, 10**10))",
    "kernels.losses": "cm.kernels.losses(many(pixel), many(label), 0.5)",
    "kernels.true_label_scores": "cm.kernels.true_label_scores(many(pixel), many(label))",
    "kernels.threshold": "cm.kernels.threshold(many(pixel, 10**10), 0.5)",
    "kernels.threshold, a wide window": (
        "cm.kernels.threshold(many(wide, 1), 0.5, cm.SACP(cm.LAC(), window=1023))"
    ),
    "kernels.set_size": "cm.kernels.set_size(many(pixel, 10**10), 0.5)",
    "kernels.lambda_hat": "cm.kernels.lambda_hat(many(0.5), None, 1)",
    "kernels.lambda_hat, the copies": "core.weighted_quantile(many(0.5), many(0.5), Fraction(1), 0.0)",
    "kernels.sample_masks": "cm.kernels.sample_masks(many(pixel > 0), 100)",
    "kernels.distinct_counts": "cm.kernels.distinct_counts(many(label))",
    "kernels.label_hits": "cm.kernels.label_hits(label, many(label))",
    "kernels.truncated_svd, square": "cm.kernels.truncated_svd(np.broadcast_to(row(20000), (20000, 20000)), 3)",
    "kernels.truncated_svd, tall": "cm.kernels.truncated_svd(np.broadcast_to(row(1), (14 * 10**7, 1)), 1)",
    "metrics.empirical_risk": "cm.metrics.empirical_risk(many(label), many(pixel > 0))",
    "metrics.pairwise_agreement": "cm.metrics.pairwise_agreement(many(label))",
    "metrics.pairwise_correlation": "cm.metrics.pairwise_correlation(many(label))",
    "ConsignCalibrator.fit": (
        "cm.ConsignCalibrator(1, min_accuracy=0.5).fit("
        "[np.broadcast_to(pixel, (4, 2, 8000, 8000))], [np.broadcast_to(label, (8000, 8000))])"
    ),
}

_PROGRAM = """
import io, resource, sys, warnings
from fractions import Fraction
import numpy as np
import conformask as cm
from conformask import _core as core

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
row = lambda n: rng.random((1, n))
pixel, label = np.array([0.25, 0.75]).reshape(2, 1, 1), np.zeros((1, 1), np.int64)
wide = np.broadcast_to(np.float32(0.125), (8, 1100, 40000))

def many(one, n=3 * 10**8):
    return np.broadcast_to(one, (n, *np.shape(one)))

scores = rng.random((1, 2, 100, 100)) + 0.01
scores /= scores.sum(axis=1, keepdims=True)
labels = rng.integers(0, 2, (1, 100, 100))
calibrator = cm.ConformalRiskCalibrator(alpha=0.5).fit(scores, labels)
profiles = calibrator.profiles_
expected = calibrator.lambda_hat_, calibrator.predict(scores).tobytes()
WORK = {work!r}

with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
limit = used + 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name, work in WORK.items():
    print(name, end=": ", flush=True)
    try:
        eval(work)
    except MemoryError:
        pass
    else:
        print("enough memory")
        continue
    again = cm.ConformalRiskCalibrator(alpha=0.5).fit(scores, labels)
    assert (again.lambda_hat_, again.predict(scores).tobytes()) == expected
    assert calibrator.n_images_ == 1
    print("MemoryError", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the address space so")
@pytest.mark.timeout(120)
def test_memory_that_cannot_be_had_is_an_error() -> None:
    program = _PROGRAM.replace("{work!r}", repr(_WORK))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expected = "".join(f"{name}: MemoryError\n" for name in _WORK)
    assert (run.returncode, run.stdout) == (0, expected), run.stderr


_ENOUGH = """
masks = np.broadcast_to(True, (1, 400, 700, 700))
found = cm.kernels.sample_masks(masks, 1, random_state=0)
key = cm.kernels.sample_masks(masks[:, :, :1, :100], 1, random_state=0)
assert (found[:, :, 0, :100] == key[:, :, 0]).all() and len(np.unique(found)) == 400
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the address space so")
def test_samples_need_no_memory_for_all_sets_at_once() -> None:
    """The members of these sets are 392 MB."""
    program = _PROGRAM.replace("{work!r}", "{}").replace("2**30", "2**28") + _ENOUGH
    subprocess.run([sys.executable, "-c", program], check=True)
