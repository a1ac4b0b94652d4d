"""Calibrators of channels that may overlap under calls in any order: each channel is what one fit of it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import rule

import conformask as cm
from machines import SLOTS, Machine, Pool, Variant, asked, quietly, run


def pool() -> Pool:
    """Sigmoids of two channels, with ties and without; some images have no object in one, one is void."""
    rng = np.random.default_rng(23)
    P = rng.beta(0.7, 1.0, (14, 2, 3, 4)).astype(np.float32)
    P[7:] = np.round(P[7:] * 4) / 4
    y = (rng.random(P.shape) < P).astype(np.uint8)
    y[rng.random(P.shape) < 0.05] = 255
    y[0], y[1, 0], y[2, 1] = 255, 0, 1
    return Pool(P, y)


NUMBERS = ("risk_", "corrected_risk_", "n_images_", "n_channels_")


def variant(calibrator: Any, units: str | None = None, **parameters: Any) -> Variant:
    """A calibrator of each channel."""
    return Variant(
        cm.adaptive.ChannelwiseCalibrator,
        {"calibrator": calibrator.set_params(progress=False), **parameters},
        units,
        learned=("threshold_", *NUMBERS),
        uses=("predict", "evaluate", "predict_thresholds"),
        class_axis=1,
        other_units=("groups", "sample_weight"),
    )


class Channels(Machine):
    """Calibrators of several kinds."""

    VARIANTS = {  # noqa: RUF012
        "misses": variant(cm.BinaryRiskCalibrator(alpha=0.5)),
        "false alarms": variant(cm.BinaryRiskCalibrator(alpha=0.5, risk="fpr"), names=["core", "whole"]),
        "groups": variant(cm.BinaryRiskCalibrator(alpha=0.5, on_infeasible="full"), "groups"),
        "weights": variant(cm.BinaryRiskCalibrator(alpha=0.3, on_empty="zero_loss"), "sample_weight"),
        "mass": variant(cm.CRACalibrator(alpha=0.5)),
    }
    POOL = pool()

    def given(self, indices: Sequence[int], way: str = "array") -> tuple[tuple[Any, ...], dict[str, Any]]:
        return super().given(indices, "list" if way == "pairs" else way)

    def settings_of(self, estimator: Any) -> tuple[tuple[str, str], ...]:
        return ()

    @rule(slot=SLOTS, into=SLOTS, alpha=st.sampled_from([0.2, 0.3, 0.5, 0.75]))
    def recalibrate_channels(self, slot: int, into: int, alpha: float) -> None:
        """What is fitted to channels has the new alpha, too."""
        known, estimator = self.known[slot], self.calibrators[slot]
        if known is None or not known.is_kept:
            self.refused(slot, lambda: estimator.recalibrate(alpha=alpha))
            return
        template = estimator.calibrator.__class__(**{**estimator.calibrator.get_params(), "alpha": alpha})
        would = self.fresh(known, {**estimator.get_params(deep=False), "calibrator": template})
        expected = asked(lambda: would.threshold_)
        found = asked(lambda: estimator.recalibrate(alpha=alpha).threshold_)
        assert found == expected
        if "Error: " not in found:
            with quietly():
                self.calibrators[into] = estimator.recalibrate(alpha=alpha)
            self.known[into] = known
            self.check(into)
        self.check(slot)


def test_any_calls_of_channels() -> None:
    run(Channels)
