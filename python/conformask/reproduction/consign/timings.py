"""How long calibration and sampling take, as in CONSIGN's Table 2. Times are measured, and no test asserts them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import conformask as cm
from conformask.reproduction.consign.samples import moving_edges

__all__ = ["Timing", "machine", "time_methods"]

_REPEATS = 3


@dataclass(frozen=True)
class Timing:
    """The time of one method for one number of samples.

    Attributes
    ----------
    method : str
        Its name.
    n_samples : int
        Samples of the model for each image.
    offline : float
        Seconds for the calibration on all images.
    online : float
        Seconds for a new image: its set, and the label maps that are drawn from it.

    See Also
    --------
    time_methods : Measures it.
    """

    method: str
    n_samples: int
    offline: float
    online: float


def time_methods(
    n_samples: Sequence[int] = (5, 10, 20), *, n_images: int = 60, size: int = 64, n_draws: int = 100
) -> list[Timing]:
    """Time CONSIGN and pixel-wise RAPS on simulated images, for growing numbers of samples: the best of three times.

    Parameters
    ----------
    n_samples : sequence of int, default=(5, 10, 20)
        Samples of the model for each image.
    n_images : int, default=60
        Number of calibration images; a sixth as many new images are added.
    size : int, default=64
        Height and width in pixels.
    n_draws : int, default=100
        Label maps that are drawn for each new image.

    Returns
    -------
    list of Timing

    See Also
    --------
    machine : The machine on which they were measured.

    Examples
    --------
    >>> from conformask.reproduction.consign.timings import time_methods
    >>> [(each.method, each.n_samples) for each in time_methods([4], n_images=20, size=12)]
    [('CONSIGN, k = 2', 4), ('CONSIGN, k = 5', 4), ('RAPS', 4)]
    """
    found = []
    for s in n_samples:
        X, y = moving_edges(n_images + n_images // 6, n_samples=s, size=size)
        makers: dict[str, Any] = {f"CONSIGN, k = {k}": partial(_consign, k, n_draws) for k in (2, 5)}
        makers["RAPS"] = partial(_raps, n_draws)
        for method, run in makers.items():
            times = [run(X[:n_images], y[:n_images], X[n_images:]) for _ in range(_REPEATS)]
            offline, online = (min(column) for column in zip(*times, strict=True))
            found.append(Timing(method, s, offline, online / (len(X) - n_images)))
    return found


def _consign(k: int, n_draws: int, X: Any, y: Any, new: Any) -> tuple[float, float]:
    """Seconds of calibration, and of new images."""
    start = time.perf_counter()
    calibrator = cm.ConsignCalibrator(k, progress=False).fit(X, y)
    middle = time.perf_counter()
    for each in calibrator.predict(new):
        each.sample(n_draws, 0)
    return middle - start, time.perf_counter() - middle


def _raps(n_draws: int, X: Any, y: Any, new: Any) -> tuple[float, float]:
    start = time.perf_counter()
    calibrator = cm.ConformalRiskCalibrator(cm.RAPS(), loss=cm.LabelAccuracyLoss(0.9), progress=False)
    calibrator.fit(X.mean(axis=1), y)
    middle = time.perf_counter()
    cm.kernels.sample_masks(calibrator.predict(new.mean(axis=1)), n_draws, 0)
    return middle - start, time.perf_counter() - middle


def machine() -> str:
    """The processor, the cores and the threads."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name}, {os.cpu_count()} logical cores, {cm.get_num_threads()} threads"
