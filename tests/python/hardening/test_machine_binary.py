"""Calibrators of binary masks under calls in any order: one threshold for all images, or one of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from machines import Known, Machine, Pool, Variant, quietly, run


def pool() -> Pool:
    """Probabilities with ties and without; one image has no object, one no background, one is void."""
    rng = np.random.default_rng(20)
    P = rng.beta(0.7, 1.0, (16, 4, 5)).astype(np.float32)
    P[8:] = np.round(P[8:] * 4) / 4
    y = (rng.random(P.shape) < P).astype(np.uint8)
    y[rng.random(P.shape) < 0.05] = 255
    y[0], y[1], y[2] = 0, 1, 255
    return Pool(P, y, void=2)


def thresholds(P: NDArray, images: Any = None) -> NDArray:
    """A threshold of each image, trained elsewhere."""
    return 0.2 + 0.5 * P[:, 0, 0].astype(float)


CHANGES = {
    "on_empty": ("skip", "raise", "zero_loss"),
    "on_infeasible": ("raise", "full"),
    "method": ("crc", cm.RCPS(0.3)),
}
ALPHAS = (0.2, 0.3, 0.5, 0.75)
NUMBERS = ("risk_", "corrected_risk_", "n_images_", "n_skipped_", "n_eff_", "classes_")
USES = ("predict", "evaluate", "predict_thresholds", "recalibrate")


def variant(kind: type, level: tuple[str, ...], units: str | None = None, **parameters: Any) -> Variant:
    """A calibrator of these parameters, whose images all correct."""
    return Variant(
        kind,
        {"alpha": 0.5, "progress": False, **parameters},
        units,
        {"alpha": ALPHAS, **CHANGES},
        {"risk": "fnr" if parameters.get("risk") == "fpr" else "fpr"}
        if kind is cm.BinaryRiskCalibrator
        else {},
        (*level, *NUMBERS),
        uses=USES,
        told={},
        other_units=("groups", "sample_weight"),
    )


class OneThreshold(Machine):
    """The same for all images."""

    VARIANTS = {  # noqa: RUF012
        "misses": variant(cm.BinaryRiskCalibrator, ("threshold_",)),
        "false alarms": variant(cm.BinaryRiskCalibrator, ("threshold_",), risk="fpr"),
        "groups": variant(cm.BinaryRiskCalibrator, ("threshold_",), "groups"),
        "weights": variant(cm.BinaryRiskCalibrator, ("threshold_",), "sample_weight"),
        "mass": variant(cm.CRACalibrator, ("threshold_", "mass_")),
    }
    POOL = pool()


def adaptive(kind: type, units: str | None = None, **parameters: Any) -> Variant:
    """A calibrator whose images have thresholds of their own. Its alpha trained them: it may not change."""
    found = variant(kind, ("correction_",), units, **parameters)
    scale = "log_odds" if kind is cm.COATCalibrator else "probability"
    foreign = {"alpha": 0.3, "scale": scale, "random_state": 5}
    trains = not {"predictor", "guarantee"} & {*parameters}
    return replace(
        found,
        changes=CHANGES,
        foreign=foreign,
        saves="predictor" not in parameters,
        may_differ=() if trains else ("alpha", "random_state"),
    )


class ThresholdOfEach(Machine):
    """Thresholds that a model gives, corrected by all images but those that trained it."""

    VARIANTS = {  # noqa: RUF012
        "at": adaptive(cm.ATCalibrator),
        "coat": adaptive(cm.COATCalibrator),
        "aacrc": adaptive(cm.AACRCCalibrator),
        "groups": adaptive(cm.ATCalibrator, "groups"),
        "weights": adaptive(cm.ATCalibrator, "sample_weight"),
        "a function": adaptive(cm.ATCalibrator, predictor=thresholds),
        "for each test image": adaptive(cm.AACRCCalibrator, guarantee="per_test"),
    }
    POOL = pool()

    @property
    def trains(self) -> bool:
        return "predictor" not in self.variant.parameters and "guarantee" not in self.variant.parameters

    @property
    def can_begin(self) -> bool:
        return not self.trains

    def fresh(self, known: Known, parameters: Any) -> Any:
        """The model is that of the images of the last fit; all others join at once."""
        if not self.trains:
            return super().fresh(known, parameters)
        assert known.trained_on is not None
        first, rest = known.trained_on, known.images[len(known.trained_on) :]
        estimator = super().fresh(
            replace(known, images=first, trained_on=None), {**parameters, **self.lenient()}
        )
        positional, more = self.given(rest)
        with quietly():
            if rest:
                estimator.partial_fit(*positional, **more)
        return estimator.set_params(**parameters)

    def is_well(self, known: Known, estimator: Any) -> bool:
        """Not if ``fit`` is to refuse an image without a foreground that trains: the correction never sees it."""
        is_fit = self.trains and known.images == known.trained_on
        without = {i for i, labels in enumerate(self.POOL.labels) if not (labels == 1).any()}
        is_refused = is_fit and estimator.on_empty == "raise" and not without.isdisjoint(known.images)
        return not is_refused and super().is_well(known, estimator)

    def reasons(self, ours: Known, theirs: Known) -> list[str]:
        differ = ["the models of thresholds differ"] if ours.trained_on != theirs.trained_on else []
        return super().reasons(ours, theirs) + (differ if self.trains else [])

    def merged(self, ours: Known, theirs: Known) -> Known:
        """Those of the other that corrected the model, of which the parted ones are the first."""
        if not self.trains:
            return super().merged(ours, theirs)
        if not ours.images:
            return theirs
        assert theirs.trained_on is not None
        corrected = [theirs.trained_on[i] for i in self.others(theirs.trained_on)]
        return replace(ours, images=(*ours.images, *corrected, *theirs.images[len(theirs.trained_on) :]))

    def others(self, images: tuple[int, ...]) -> list[int]:
        """The images that do not train, by their places."""
        names = list(range(len(images)))
        if self.variant.units == "groups":
            names = self.POOL.units("groups", images)["groups"]
        units = list(dict.fromkeys(names))
        order = np.random.default_rng(0).permutation(len(units))
        chosen = {units[i] for i in order[: len(units) // 2]}
        return [i for i, name in enumerate(names) if name not in chosen]


def test_any_calls_of_one_threshold() -> None:
    run(OneThreshold)


def test_any_calls_of_thresholds_of_images() -> None:
    run(ThresholdOfEach)
