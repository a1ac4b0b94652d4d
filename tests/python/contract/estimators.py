"""The estimators, and what the contract needs to know of each. A new one joins by one line in ESTIMATORS."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
import consign_twin
from problems import wide


@dataclass(frozen=True)
class Case:
    """An estimator and images to calibrate it on."""

    kind: type
    parameters: Mapping[str, Any]  # with which it can be fitted, quickly
    other: Mapping[str, Any]  # another value for every parameter
    bad: Mapping[str, list[Any]]  # values that every parameter refuses
    stale: Mapping[str, list[str]]  # what becomes of results when it is set after calibration
    learned: Mapping[str, type]
    methods: tuple[str, ...]
    data: Callable[[], tuple[NDArray, NDArray]]
    predicted: Callable[[Any, NDArray], NDArray]  # what it predicts, as arrays that compare
    saved: Mapping[str, Any] = field(default_factory=dict)  # where `other` fits no file, or not together
    level: str = "lambda_hat_"  # the number that controls the risk, if it predicts sets
    result: str = "lambda_hat"  # what a file calls it
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what values of a parameter need
    parts: int = 1  # in how many equal parts images are divided, of which one calibrates

    def new(self, **parameters: Any) -> Any:
        return self.kind(**{**self.parameters, **parameters})

    def fitted(self, **parameters: Any) -> Any:
        return self.new(**parameters).fit(*self.data())

    def found(self, estimator: Any, *leave_out: str) -> dict[str, str]:
        """All that was learned, as text: NaN is equal to NaN there."""
        values = {name: getattr(estimator, name) for name in self.learned if name not in leave_out}
        return {
            name: repr(value.tolist() if isinstance(value, np.ndarray) else value)
            for name, value in values.items()
        }


def _scenes() -> tuple[NDArray, NDArray]:
    problem = wide()
    return problem.X, problem.y


def _samples() -> tuple[NDArray, NDArray]:
    return consign_twin.fields(np.random.default_rng(5), 12, 8, 2, noise=0.05, modes=2)


def _sets(calibrator: Any, X: NDArray) -> NDArray:
    return np.stack([each.sample(2, random_state=0) for each in calibrator.predict(X)])


_LEVELS = [0, 1, 1.5, "x", True, None, math.nan]
_COMMON = {
    "ignore_index": [1.5, 2**70],
    "on_empty": ["ignore"],
    "volumes": ["maybe"],
    "progress": ["maybe"],
}


def _logits() -> tuple[NDArray, NDArray]:
    X, y = _scenes()
    return np.log(X.clip(1e-6)) * np.linspace(0.5, 3, X.shape[1], dtype=X.dtype)[:, np.newaxis, np.newaxis], y


def _scaler(
    kind: type,
    other: dict[str, Any],
    bad: dict[str, list[Any]],
    learned: dict[str, type],
    of_images: tuple[str, ...] = (),
) -> Case:
    """A map from logits to probabilities; `other` and `bad` are of the parameters that others have not."""
    common = {
        "inputs": "probabilities",
        "ignore_index": -1,
        "n_pixels": 7,
        "random_state": 3,
        "volumes": False,
        "progress": False,
    }
    numbers = {"nll_": float, "nll_before_": float, "n_images_": int, "n_skipped_": int, "n_classes_": int}
    return Case(
        kind,
        parameters={},
        other={**other, **common},
        bad={
            **bad,
            "inputs": ["apples"],
            "n_pixels": [0, 1.5, True],
            "random_state": [-1, "abc"],
            **{name: _COMMON[name] for name in ("ignore_index", "volumes", "progress")},
        },
        stale={
            "images": [*of_images, "inputs", "ignore_index", "n_pixels", "random_state"],
            "result": [name for name in other if name not in of_images],
            "nothing": ["volumes", "progress"],
        },
        learned={**learned, **numbers},
        methods=("fit", "partial_fit", "merge", "transform", "fit_transform", "save", "load"),
        data=_logits,
        predicted=lambda scaler, X: scaler.transform(X),
        saved={"inputs": "logits"},  # what the images are
    )


def _transform() -> Any:
    """A scaler that was fitted, as it is: no estimator whose parameters would be those of the calibrator, too."""
    return cm.TemperatureScaler(inputs="probabilities").fit(*_scenes())._transform()


def _lambdas(X: NDArray, images: Any = None) -> NDArray:
    """The same lambda for all images."""
    return np.full(len(X), 0.5)


_PENALTY = [-1, "x", math.nan]


def _objects() -> tuple[NDArray, NDArray]:
    """Probabilities of an object, and where it is."""
    rng = np.random.default_rng(7)
    P = rng.beta(0.7, 1.0, (32, 9, 8)).astype(np.float32)
    return P, (rng.random(P.shape) < P).astype(np.uint8)


ESTIMATORS = [
    Case(
        cm.ConformalRiskCalibrator,
        parameters={},
        other={
            "conformity_score": cm.LAC(include_top1=False),
            "loss": cm.MiscoverageLoss("balanced"),
            "alpha": 0.25,
            "method": cm.RCPS(0.25),
            "inputs": "scores",
            "transform": _transform(),
            "adaptive": _lambdas,
            "ignore_index": -1,
            "profile": "binned",
            "collect": ("binary",),
            "conditional": "class",
            "simultaneous": "max",
            "on_rare": "pooled",
            "on_unseen": "full",
            "on_empty": "zero_loss",
            "on_infeasible": "full",
            "volumes": False,
            "progress": False,
        },
        bad={
            "conformity_score": ["apples", 3],
            "loss": ["apples", 3],
            "alpha": _LEVELS,
            "method": ["apples", 3],
            "inputs": ["apples"],
            "transform": ["apples", 3],
            "adaptive": ["apples", 3, dict],
            "profile": ["apples"],
            "collect": ["apples", [3]],
            "conditional": ["apples", True],
            "simultaneous": ["apples", True, None],
            "on_rare": ["apples", None],
            "on_unseen": ["apples"],
            "on_infeasible": ["apples"],
            **_COMMON,
        },
        stale={
            "images": ["conformity_score", "transform", "adaptive"],
            "result": [
                *("loss", "alpha", "method", "conditional", "simultaneous", "on_rare"),
                *("on_empty", "on_infeasible"),
            ],
            "nothing": [
                *("inputs", "ignore_index", "profile", "collect", "on_unseen", "volumes", "progress"),
            ],
        },
        learned={
            "lambda_hat_": float,
            "risk_": float,
            "corrected_risk_": float,
            "profiles_": cm.ScoreProfiles,
            "n_images_": int,
            "n_eff_": float,
            "n_skipped_": int,
            "n_classes_": int,
        },
        methods=(
            *("fit", "partial_fit", "merge", "recalibrate", "predict", "set_size", "varisco", "evaluate"),
            *("score", "losses", "risk_curve", "risk_limit", "predict_lambdas", "save", "load"),
        ),
        data=_scenes,
        predicted=lambda calibrator, X: calibrator.predict(X),
        # No scores; no file, no bins; no bins, no weights of classes.
        saved={"transform": None, "adaptive": None, "conditional": None, "simultaneous": False},
        beside={"simultaneous": {"conditional": "class"}},
    ),
    Case(
        cm.ConsignCalibrator,
        parameters={"n_components": 2, "alpha": 0.3, "min_accuracy": 0.8},
        other={
            "n_components": 1,
            "alpha": 0.25,
            "method": cm.PAC(0.25),
            "min_accuracy": Fraction(3, 4),
            "weight": "relative",
            "search": cm.consign.ReferenceSearch(),
            "lambda_max": 100.0,
            "quantile_level": 0.1,
            "strict": True,
            "accuracy": "pixel",
            "ignore_index": -1,
            "on_empty": "zero_loss",
            "node_budget": 500,
            "random_state": 3,
            "volumes": False,
            "progress": False,
        },
        bad={
            "n_components": [0, 65, 2.5, True],
            "alpha": _LEVELS,
            "method": ["apples", 3],
            "min_accuracy": [0, -0.1, 1.1, "x"],
            "weight": ["sum"],
            "search": ["fast", 3],
            "lambda_max": [0, -1, math.inf, math.nan, 10**400, Fraction(1, 10**400)],
            "quantile_level": [0.5, -0.1, "x"],
            "strict": ["yes"],
            "accuracy": ["labels"],
            "node_budget": [0, 1.5],
            "random_state": [-1, np.int64(-1), "abc"],
            **_COMMON,
        },
        stale={
            "images": [
                *("n_components", "alpha", "method", "min_accuracy", "weight", "search", "lambda_max"),
                *("quantile_level", "strict", "accuracy", "on_empty", "node_budget"),
            ],
            "result": [],
            "nothing": ["ignore_index", "random_state", "volumes", "progress"],
        },
        learned={
            "lambda_hat_": float,
            "image_lambdas_": np.ndarray,
            "image_lower_bounds_": np.ndarray,
            "image_status_": np.ndarray,
            "n_images_": int,
            "n_skipped_": int,
            "n_classes_": int,
        },
        methods=("fit", "predict", "evaluate", "score", "save", "load"),
        data=_samples,
        predicted=_sets,
        saved={"search": "certified"},  # the reference search needs PyTorch to fit
    ),
    _scaler(
        cm.TemperatureScaler,
        other={},
        bad={},
        learned={"temperature_": float, "standard_error_": float, "unbounded_": bool},
    ),
    _scaler(
        cm.VectorScaler,
        other={"center": False, "ridge": 0.5},
        bad={"center": ["yes"], "ridge": _PENALTY},
        learned={"weight_": np.ndarray, "bias_": np.ndarray},
    ),
    _scaler(
        cm.DirichletScaler,
        other={"off_diagonal": 0.5, "intercept": 0.5, "ridge": 0.5},
        bad={"off_diagonal": _PENALTY, "intercept": _PENALTY, "ridge": _PENALTY},
        learned={"weight_": np.ndarray, "bias_": np.ndarray},
    ),
    _scaler(
        cm.MetaCal,
        other={"mode": "accuracy", "alpha": 0.25, "high": 10.0},
        bad={"mode": ["both"], "alpha": _LEVELS, "high": ["high", 0.5, -1, True, math.nan]},
        learned={"threshold_": float, "temperature_": float, "unbounded_": bool, "above_": float},
    ),
    _scaler(
        cm.LocalTemperatureScaler,
        other={"ridge": 0.5},
        bad={"ridge": _PENALTY},
        learned={
            "theta_": np.ndarray,
            "standard_errors_": np.ndarray,
            "feature_names_": tuple,
            "temperature_": float,
            "unbounded_": bool,
        },
    ),
    _scaler(
        cm.SelectiveScaler,
        other={
            "features": "probs",
            "hidden": (),
            "T1": 3.0,
            "T2": 0.75,
            "threshold": 0.75,
            "base": "temperature",
            "blend": True,
            "objective": "ece_image",
        },
        bad={
            "features": ["colours"],
            "hidden": ["abc", (0,), (1.5,), 3],
            "T1": ["high", 0, -1, True, math.nan],
            "T2": ["low", 0, True],
            "threshold": [-0.1, 1.5, "x"],
            "base": ["isotonic", 3],
            "blend": ["yes"],
            "objective": ["loss"],
        },
        learned={"T1_": float, "T2_": float, "selector_recall_": float, "selector_precision_": float},
        of_images=("features", "base"),
    ),
    _scaler(
        cm.StructuredScaler,
        other={
            "kind": "matrix",
            "decision": "order",
            "intercept": 0.5,
            "diagonal": 0.5,
            "off_diagonal": 0.5,
            "n_eff": 7.5,
        },
        bad={
            "kind": ["scalar"],
            "decision": ["none"],
            "intercept": _PENALTY,
            "diagonal": _PENALTY,
            "off_diagonal": _PENALTY,
            "n_eff": [0, -1, "x", math.nan, None],
        },
        learned={
            "temperature_": float,
            "unbounded_": bool,
            "n_eff_": float,
            "weight_": np.ndarray,
            "bias_": np.ndarray,
        },
    ),
]


def _of_masks(
    kind: type,
    learned: dict[str, type],
    level: str,
    other: dict[str, Any],
    bad: dict[str, list[Any]],
    of_images: tuple[str, ...] = (),
    saved: dict[str, Any] | None = None,
) -> Case:
    """A calibrator of binary masks; `other` and `bad` are of the parameters that not all have."""
    common = {
        "method": cm.RCPS(0.25),
        "ignore_index": -1,
        "on_empty": "zero_loss",
        "on_infeasible": "full",
        "volumes": False,
        "progress": False,
    }
    numbers = {
        "risk_": float,
        "corrected_risk_": float,
        "n_images_": int,
        "n_skipped_": int,
        "n_eff_": float,
    }
    return Case(
        kind,
        parameters={},
        other={"alpha": 0.25, **other, **common},
        bad={
            "alpha": _LEVELS,
            **bad,
            "method": ["apples", 3, cm.PAC(0.1)],
            "on_infeasible": ["apples"],
            **_COMMON,
        },
        stale={
            "images": [*of_images],
            "result": [*({"alpha"} - {*of_images}), "method", "on_empty", "on_infeasible"],
            "nothing": ["ignore_index", "volumes", "progress"],
        },
        learned=numbers | learned,
        methods=(
            *("fit", "partial_fit", "merge", "recalibrate", "predict", "predict_thresholds", "evaluate"),
            *("score", "save", "load"),
        ),
        data=_objects,
        predicted=lambda calibrator, P: calibrator.predict(P),
        saved=saved or {},
        level=level,
        result="correction",
        parts=2 if "train_fraction" in other else 1,
    )


def _halves(P: NDArray, images: Any = None) -> NDArray:
    """The same threshold for all images."""
    return np.full(len(P), 0.5)


def _mean(P: NDArray, images: Any = None) -> NDArray:
    """One feature."""
    return P.reshape(len(P), -1).mean(axis=1)[:, np.newaxis]


ESTIMATORS += [
    _of_masks(
        cm.BinaryRiskCalibrator,
        {"threshold_": np.float64},
        "threshold_",
        {"risk": "fpr"},
        {"risk": ["apples"]},
        of_images=("risk",),
    ),
    _of_masks(cm.CRACalibrator, {"threshold_": np.float64, "mass_": float}, "threshold_", {}, {}),
]
for kind, more, scale, bad, saved in (
    (
        cm.ATCalibrator,
        {"predictor": _halves},
        "probability",
        {"predictor": [3, "apples", dict]},
        {"predictor": None},
    ),
    (
        cm.COATCalibrator,
        {"predictor": _halves, "temperature": 0.2},
        "log_odds",
        {"predictor": [3, "apples", dict], "temperature": [0, -1, "x", math.nan]},
        {"predictor": None},
    ),
    (
        cm.AACRCCalibrator,
        {"guarantee": "per_test", "embedding": _mean, "penalty": 0.2},
        "probability",
        {"guarantee": ["apples"], "embedding": [3, "apples", dict], "penalty": _PENALTY},
        {"guarantee": "global", "embedding": None},
    ),
):
    ESTIMATORS.append(
        _of_masks(
            kind,
            {"correction_": float, "predictor_": cm.adaptive.LightPredictor},
            "correction_",
            {**more, "train_fraction": 0.25, "scale": scale, "random_state": 3},
            {
                **bad,
                "train_fraction": [0, 1, -0.5, "x", math.nan],
                "scale": ["apples"],
                "random_state": [-1, 1.5, None, True],
            },
            of_images=("alpha", *more, "train_fraction", "scale", "random_state"),
            saved=saved,
        )
    )


def _hard_masks() -> tuple[NDArray, NDArray]:
    """Predicted masks and true ones, a pixel or two apart."""
    rng = np.random.default_rng(8)
    rows, columns = np.mgrid[:13, :11]
    far = np.hypot(rows - rng.uniform(5, 8, (32, 1, 1)), columns - 5)
    radii = rng.uniform(2.5, 4, (32, 1, 1))
    masks = far + rng.normal(0, 0.5, far.shape) < radii + rng.normal(0, 0.7, radii.shape)
    return masks, (far < radii).astype(np.uint8)


ESTIMATORS.append(
    Case(
        cm.MarginCalibrator,
        parameters={},
        other={
            "alpha": 0.25,
            "side": "both",
            "min_coverage": Fraction(3, 4),
            "max_background": 0.1,
            "metric": "cityblock",
            "method": cm.PAC(0.25),
            "ignore_index": -1,
            "on_empty": "zero_loss",
            "on_infeasible": "full",
            "volumes": False,
            "progress": False,
        },
        bad={
            "alpha": _LEVELS,
            "side": ["left"],
            "min_coverage": [0, -0.1, 1.1, "x", True],
            "max_background": [1, -0.1, "x", math.nan],
            "metric": ["manhattan", 3],
            "method": ["apples", 3],
            "on_infeasible": ["apples"],
            **_COMMON,
        },
        stale={
            "images": ["side", "min_coverage", "max_background", "metric"],
            "result": ["alpha", "method", "on_empty", "on_infeasible"],
            "nothing": ["ignore_index", "volumes", "progress"],
        },
        learned={
            "margin_": float,
            "scores_": np.ndarray,
            "risk_": float,
            "corrected_risk_": float,
            "n_images_": int,
            "n_skipped_": int,
            "n_eff_": float,
        },
        methods=(
            *("fit", "partial_fit", "merge", "recalibrate", "predict", "predict_distance", "evaluate"),
            *("score", "save", "load"),
        ),
        data=_hard_masks,
        predicted=lambda calibrator, masks: calibrator.predict(masks),
        level="margin_",
        result="outer_margin",
    )
)

# Those that predict sets at a level.
PREDICTORS = [case for case in ESTIMATORS if "predict" in case.methods]


def quiet_fit(estimator: Any, X: Any, y: Any) -> Any:
    """Fitted, whatever it has to say of the images."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return estimator.fit(X, y)
