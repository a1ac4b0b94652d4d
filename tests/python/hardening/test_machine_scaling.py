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


NUMBERS = ("nll_", "nll_before_", "n_images_", "n_skipped_", "n_classes_")


def variant(kind: type, learned: tuple[str, ...], units: str | None = None, **parameters: Any) -> Variant:
    """A scaler of these parameters."""
    changes = {"ridge": (0.01, 0.5)} if kind is cm.VectorScaler else {}
    return Variant(
        kind,
        {"progress": False, **parameters},
        units,
        changes,
        {"ignore_index": 254, "n_pixels": 3, "random_state": 5, "inputs": "probabilities"},
        (*learned, *NUMBERS),
        uses=("transform",),
        level="nll_",
    )


TEMPERATURE = ("temperature_", "standard_error_", "unbounded_")


class Scalers(Machine):
    """One temperature, or numbers for each class."""

    VARIANTS = {  # noqa: RUF012
        "temperature": variant(cm.TemperatureScaler, TEMPERATURE),
        "of few pixels": variant(cm.TemperatureScaler, TEMPERATURE, n_pixels=7, random_state=3),
        "of groups": variant(cm.TemperatureScaler, TEMPERATURE, "groups"),
        "vector": variant(cm.VectorScaler, ("weight_", "bias_"), ridge=0.5),
        "by surroundings": variant(cm.LocalTemperatureScaler, ("theta_", "temperature_"), n_pixels=9),
    }
    POOL = pool()


def test_any_calls_of_scalers() -> None:
    run(Scalers)
