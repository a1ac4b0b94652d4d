"""Calibrators of margins around masks under calls in any order."""

from __future__ import annotations

from typing import Any

import numpy as np

import conformask as cm
from machines import Machine, Pool, Variant, run


def pool() -> Pool:
    """Predicted disks and true ones; one truth is empty, one full, one prediction is empty, one image void."""
    rng = np.random.default_rng(18)
    rows, columns = np.mgrid[:7, :6]
    far = np.hypot(rows - rng.uniform(2, 5, (14, 1, 1)), columns - 3)
    radii = rng.uniform(1.5, 3, (14, 1, 1))
    masks = (far < radii + rng.normal(0, 1, radii.shape)).astype(np.uint8)
    y = (far < radii).astype(np.uint8)
    y[rng.random(y.shape) < 0.05] = 255
    y[0], y[1], masks[2], y[3] = 0, 1, 0, 255
    return Pool(masks, y, void=3)


CHANGES = {
    "alpha": (0.2, 0.3, 0.5, 0.75),
    "on_empty": ("skip", "raise", "zero_loss"),
    "on_infeasible": ("raise", "full"),
    "method": ("crc", cm.PAC(0.3), cm.RCPS(0.3)),
}


def variant(units: str | None = None, told: dict[str, Any] | None = None, **parameters: Any) -> Variant:
    """A calibrator of these parameters."""
    side = parameters.get("side", "outer")
    margins = {"outer": ("margin_", "outer_margin_"), "inner": ("margin_", "inner_margin_")}
    learned = margins.get(side, ("outer_margin_", "inner_margin_"))
    return Variant(
        cm.MarginCalibrator,
        {"alpha": 0.5, "progress": False, **parameters},
        units,
        CHANGES,
        {"metric": "chessboard", "min_coverage": 0.6, "max_background": 0.3},
        (*learned, "scores_", "risk_", "corrected_risk_", "n_images_", "n_skipped_", "n_eff_", "classes_"),
        not_saved=("scores_",),
        told=told or {},
        uses=("predict", "evaluate", "predict_distance", "recalibrate"),
        other_units=("groups", "sample_weight"),
        told_otherwise=[{"classes": [0]}],
    )


class Margins(Machine):
    """Outer and inner margins, of images, groups and weights."""

    VARIANTS = {  # noqa: RUF012
        "outer": variant(),
        "inner": variant(side="inner", max_background=0.1),
        "both": variant(side="both", min_coverage=0.9),
        "groups": variant("groups", metric="cityblock"),
        "weights": variant("sample_weight", min_coverage=0.8),
        "of a class": variant(told={"classes": [1]}),
    }
    POOL = pool()


def test_any_calls_of_margins() -> None:
    run(Margins)
