"""Calibrators of multi-labeled masks under calls in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from machines import Machine, Pool, Variant, run
from problems import labels, probabilities


def pool() -> Pool:
    """Images with ties and without; two are void, one lacks classes."""
    rng = np.random.default_rng(17)
    shape = (3, 3, 4)
    X = np.concatenate(
        [probabilities(rng, (8, *shape), None, "float32"), probabilities(rng, (8, *shape), 4, "float32")]
    )
    y = labels(rng, X, 0.7, 0.1)
    y[0] = y[9] = 255
    y[1] = np.where(y[1] == 2, 0, y[1])
    return Pool(X, y)


def lambdas(X: NDArray, images: Any = None) -> NDArray:
    """A lambda of each image."""
    return 0.3 + 0.4 * X[:, 0, 0, 0].astype(float)


ALPHAS = (0.2, 0.3, 0.5, 0.75)
CHANGES = {
    "alpha": ALPHAS,
    "on_empty": ("skip", "raise", "zero_loss"),
    "on_infeasible": ("raise", "full"),
    "loss": ("miscoverage", "binary", cm.FalseNegativeLoss([1, 2]), cm.MiscoverageLoss("balanced")),
    "method": ("crc", cm.RCPS(0.3), cm.RCPS(0.3, bound="wsr"), cm.PAC(0.3)),
}
LEARNED = (
    *("lambda_hat_", "risk_", "corrected_risk_", "n_images_", "n_eff_", "n_skipped_", "n_classes_"),
    *("rare_", "confidence_"),
)
USES = ("predict", "evaluate", "set_size", "recalibrate", "risk_curve", "varisco")
FOREIGN = {"conformity_score": "raps"}


def variant(units: str | None = None, *, leave_out: tuple[str, ...] = (), **parameters: Any) -> Variant:
    """A calibrator of these parameters."""
    changes = {name: values for name, values in CHANGES.items() if name not in leave_out}
    return Variant(
        cm.ConformalRiskCalibrator,
        {"alpha": 0.5, "progress": False, **parameters},
        units,
        changes,
        FOREIGN,
        LEARNED,
        not_saved=("n_eff_",),
        keeps=True,
        uses=USES,
        saves="adaptive" not in parameters,
        level="n_eff_" if units == "ratios" else "corrected_risk_",
        class_axis=1,
        other_units=("groups", "sample_weight"),
    )


VARIANTS = {
    "exact": variant(),
    "aps": variant(conformity_score="aps"),
    "raps": variant(conformity_score=cm.RAPS(0.1, 1), profile="exact"),
    "sacp": variant(conformity_score=cm.SACP(window=3)),
    "groups": variant("groups"),
    "weights": variant("sample_weight"),
    "strata": variant("strata", leave_out=("method",)),
    "pooled strata": variant("strata", leave_out=("method",), on_rare="pooled"),
    "classes": variant(conditional="class", loss="miscoverage", leave_out=("loss", "method", "on_empty")),
    "classes together": variant(
        conditional="class",
        simultaneous="bonferroni",
        leave_out=("loss", "method", "on_empty"),
        on_rare="pooled",
    ),
    "worst class": variant(conditional="class", simultaneous="max", leave_out=("loss", "method")),
    "classes of groups": variant("groups", conditional="class", leave_out=("loss", "method", "on_empty")),
    "binned": variant(profile="binned", collect=CHANGES["loss"], leave_out=("method",)),
    "binned aps": variant(profile="binned", conformity_score="aps", leave_out=("method", "loss")),
    "adaptive": variant(adaptive=lambdas, leave_out=("method",)),
}


class RiskControl(Machine):
    """One lambda, or one a class, a stratum or an image."""

    VARIANTS = VARIANTS
    POOL = pool()


def test_any_calls_of_risk_control() -> None:
    run(RiskControl)
