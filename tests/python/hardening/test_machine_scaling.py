"""Scalers under calls in any order: pixels are drawn once, and the map is that of one fit to all images."""

from __future__ import annotations

from typing import Any

import numpy as np

import conformask as cm
from machines import Machine, Pool, Variant, run
from problems import labels, probabilities


def pool() -> Pool:
    """Logits that are too sure; one image is void."""
    rng = np.random.default_rng(19)
    X = probabilities(rng, (12, 3, 5, 6), None, "float32")
    y = labels(rng, X, 0.7, 0.1)
    y[0] = 255
    return Pool(np.log(X) * np.float32(2), y)


POOL = pool()
NUMBERS = ("nll_", "nll_before_", "n_images_", "n_skipped_", "n_classes_")


CHANGES: dict[type, dict[str, tuple[Any, ...]]] = {
    cm.VectorScaler: {"ridge": (0.01, 0.5), "center": (True, False)},
    cm.DirichletScaler: {"ridge": (0.01, 0.5), "off_diagonal": (0.01, 2.0), "intercept": (0.1, 0.0)},
    cm.LocalTemperatureScaler: {"ridge": (0.001, 0.5)},
    cm.MetaCal: {"mode": ("miscoverage", "accuracy"), "alpha": (0.05, 0.4), "high": ("uniform", 10.0)},
    cm.StructuredScaler: {
        "kind": ("vector", "matrix"),
        "decision": ("free", "argmax", "order"),
        "n_eff": ("auto", 7.5),
        "diagonal": (0.1, 0.0),
    },
    cm.SelectiveScaler: {
        "T1": ("auto", 3.0),
        "T2": ("auto", 0.75),
        "threshold": (0.5, 0.9),
        "blend": (True, False),
        "objective": ("nll", "ece_image"),
        "hidden": ((2,), ()),
    },
}


def variant(kind: type, learned: tuple[str, ...], units: str | None = None, **parameters: Any) -> Variant:
    """A scaler of these parameters."""
    foreign = {"ignore_index": 254, "n_pixels": 3, "random_state": 5, "inputs": "probabilities"}
    if kind is cm.SelectiveScaler:
        foreign |= {"features": "probs" if "features" not in parameters else "shape", "base": "dirichlet"}
    return Variant(
        kind,
        {"progress": False, **parameters},
        units,
        CHANGES.get(kind, {}),
        foreign,
        (*learned, *NUMBERS),
        uses=("transform",),
        level="nll_",
        class_axis=1,
    )


MAP = ("weight_", "bias_")
LOCAL = ("theta_", "standard_errors_", "temperature_", "unbounded_")
CHOSEN = ("threshold_", "temperature_", "unbounded_", "above_")
SELECTED = ("T1_", "T2_", "selector_recall_", "selector_precision_")
TEMPERATURE = ("temperature_", "standard_error_", "unbounded_")


class Scalers(Machine):
    """One temperature for all pixels, or one of each; or numbers for each class."""

    VARIANTS = {  # noqa: RUF012
        "temperature": variant(cm.TemperatureScaler, TEMPERATURE),
        "of few pixels": variant(cm.TemperatureScaler, TEMPERATURE, n_pixels=7, random_state=3),
        "of groups": variant(cm.TemperatureScaler, TEMPERATURE, "groups"),
        "vector": variant(cm.VectorScaler, MAP, ridge=0.5),
        "matrix": variant(cm.DirichletScaler, MAP, ridge=0.5),
        "matrix of groups": variant(cm.DirichletScaler, MAP, "groups", n_pixels=9),
        "by surroundings": variant(cm.LocalTemperatureScaler, LOCAL, n_pixels=9),
    }
    POOL = POOL


class ScalersOfTwoSteps(Machine):
    """Those that first find a temperature, a threshold or a selector."""

    VARIANTS = {  # noqa: RUF012
        "by entropy": variant(cm.MetaCal, CHOSEN, alpha=0.4),
        "by entropy, of groups": variant(cm.MetaCal, CHOSEN, "groups", mode="accuracy", alpha=0.4, high=10.0),
        "structured": variant(cm.StructuredScaler, (*TEMPERATURE[:1], "n_eff_", *MAP)),
        "structured, of groups": variant(cm.StructuredScaler, ("n_eff_", *MAP), "groups", decision="order"),
        "selective": variant(cm.SelectiveScaler, SELECTED, hidden=(2,), n_pixels=20),
        "selective, of groups": variant(cm.SelectiveScaler, SELECTED, "groups", hidden=(), features="probs"),
        "selective, on another": variant(
            cm.SelectiveScaler, SELECTED, hidden=(), features="probs", base="temperature"
        ),
    }
    POOL = POOL


def test_any_calls_of_scalers() -> None:
    run(Scalers)


def test_any_calls_of_scalers_of_two_steps() -> None:
    run(ScalersOfTwoSteps)
