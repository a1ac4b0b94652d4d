"""CONSIGN's calibrator under calls in any order. It keeps nothing of images: none can join them."""

from __future__ import annotations

from typing import Any

import numpy as np

import conformask as cm
from consign_twin import fields
from machines import Machine, Pool, Variant, run


def pool() -> Pool:
    """Three samples of each image; one image is void, one is hard to reach."""
    X, y = fields(np.random.default_rng(22), 14, 5, 2, 3, noise=0.05, modes=2)
    y[0], y[1] = 255, 1 - y[1]
    return Pool(X.astype(np.float32), y.astype(np.uint8))


def variant(units: str | None = None, **parameters: Any) -> Variant:
    """A calibrator of these parameters."""
    bounds = ("image_lambdas_", "image_lower_bounds_", "image_status_")
    return Variant(
        cm.ConsignCalibrator,
        {"n_components": 1, "alpha": 0.5, "min_accuracy": 0.8, "progress": False, **parameters},
        units,
        foreign={
            **{"n_components": 3, "alpha": 0.3, "method": cm.PAC(0.2), "min_accuracy": 0.7, "strict": True},
            **{"weight": "none", "lambda_max": 50.0, "node_budget": 9, "on_empty": "raise"},
        },
        learned=("lambda_hat_", *bounds, "n_images_", "n_skipped_", "n_classes_"),
        uses=("sample", "evaluate"),
        level="lambda_hat_",
        adds=False,
    )


class Consign(Machine):
    """Sets of segmentations, of images and of groups."""

    VARIANTS = {  # noqa: RUF012
        "images": variant(),
        "groups": variant("groups"),
        "given the images": variant(method=cm.PAC(0.4)),
        "pixels": variant(accuracy="pixel", weight="relative", on_empty="zero_loss"),
        "two components": variant(n_components=2, quantile_level=0.1),
    }
    POOL = pool()

    def ask(self, of: Any, name: str, *given: Any, **more: Any) -> Any:
        """Of sets, their draws."""
        if name == "sample":
            return [each.sample(3, random_state=0) for each in of.predict(*given, **more)]
        return super().ask(of, name, *given, **more)


def test_any_calls_of_consign() -> None:
    run(Consign)
