"""Parameters of several values: mappings are honoured or refused, sets are refused, never their keys taken."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import conformask as cm
from problems import wide

GOOD = wide(n=12, n_classes=3, size=(4, 5))


def test_class_weights_of_a_mapping_are_its_values() -> None:
    by_class = {2: 10.0, 0: 5.0, np.int64(1): 1.0}
    loss = cm.MiscoverageLoss(class_weights=by_class)
    assert loss == cm.MiscoverageLoss(class_weights=[5.0, 1.0, 10.0])
    fit = cm.ConformalRiskCalibrator(loss=loss, alpha=0.2).fit(GOOD.X, GOOD.y)
    same = cm.ConformalRiskCalibrator(loss=cm.MiscoverageLoss([5.0, 1.0, 10.0]), alpha=0.2)
    assert fit.lambda_hat_ == same.fit(GOOD.X, GOOD.y).lambda_hat_


@pytest.mark.parametrize(
    ("weights", "error", "says"),
    [
        ({0: 5.0, 2: 10.0}, ValueError, r"class_weights must have a value .* class 1 is missing"),
        ({1: 5.0, 2: 10.0}, ValueError, "class 0 is missing"),
        ({"road": 5.0}, TypeError, "class_weights must have class indices"),
        ({True: 5.0, 0: 1.0}, TypeError, "class indices"),
        ({5.0, 1.0, 10.0}, TypeError, "class_weights must be a sequence, got a set"),
        ({}, ValueError, "class_weights must be at least 0, and one above it"),
    ],
)
def test_class_weights_that_are_none(weights: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        cm.MiscoverageLoss(class_weights=weights)  # type: ignore[arg-type]


def test_a_mapping_for_too_few_classes_is_refused_with_the_data() -> None:
    calibrator = cm.ConformalRiskCalibrator(loss=cm.MiscoverageLoss({0: 1.0, 1: 2.0}))
    with pytest.raises(ValueError, match="class_weights has 2 entries, but there are K = 3"):
        calibrator.fit(GOOD.X, GOOD.y)


TAKERS: dict[str, Callable[[object], object]] = {
    "classes": lambda values: cm.MiscoverageLoss(classes=values),  # type: ignore[arg-type]
    "classes of false negatives": lambda values: cm.FalseNegativeLoss(values),  # type: ignore[arg-type]
    "collect": lambda values: cm.profile(GOOD.X, GOOD.y, collect=values),  # type: ignore[call-overload]
    "collect of a calibrator": lambda values: cm.ConformalRiskCalibrator(
        profile="binned",
        collect=values,  # type: ignore[arg-type]
    ).fit(GOOD.X, GOOD.y),
    "groups": lambda values: cm.profile(GOOD.X, GOOD.y, groups=values),  # type: ignore[call-overload]
    "sample_weight": lambda values: cm.profile(GOOD.X, GOOD.y, sample_weight=values),  # type: ignore[call-overload]
    "X": lambda values: cm.ConformalRiskCalibrator().fit(values),
    "X of predict": lambda values: cm.ConformalRiskCalibrator().fit(GOOD.X, GOOD.y).predict(values),
    "y": lambda values: cm.ConformalRiskCalibrator().fit(list(GOOD.X), values),
}


@pytest.mark.parametrize("values", [{0: 1, 1: 2}, {0, 1}, frozenset({1}), {0: 1}.keys()], ids=str)
@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS.keys())
def test_mappings_and_sets_are_refused(take: Callable[[object], object], values: object) -> None:
    with pytest.raises(
        TypeError,
        match=r"must (be a sequence|be an array|hold one label map).*got (a )?(dict|set|frozenset|dict_keys)",
    ):
        take(values)


def test_names_and_colours_of_a_mapping_go_by_class() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    from conformask import plotting

    mask = np.ones((2, 3, 3), bool)
    axes = plotting.plot_mask_panels(
        mask, class_names={1: "sea", 0: "land"}, palette={1: (0, 0, 9), 0: (9, 0, 0)}
    )  # type: ignore[arg-type,dict-item]
    assert [ax.get_title() for ax in axes] == ["land", "sea"]
    with pytest.raises(TypeError, match="class_names must be a sequence, got a set"):
        plotting.plot_masks(mask, class_names={"land", "sea"})  # type: ignore[arg-type]


MASKED = np.ma.masked_array(GOOD.y[0], GOOD.y[0] == 0)


@pytest.mark.parametrize(
    "hand_over",
    [
        lambda: cm.ConformalRiskCalibrator().fit(GOOD.X[:2], [MASKED, GOOD.y[1]]),
        lambda: cm.ConformalRiskCalibrator().fit(GOOD.X[:2], (GOOD.y[1], MASKED)),
        lambda: cm.ConformalRiskCalibrator().fit(GOOD.X[:2], iter([GOOD.y[1], MASKED])),
        lambda: cm.ConformalRiskCalibrator().fit(list(GOOD.X[:2]), [GOOD.y[1], MASKED]),
        lambda: cm.ConformalRiskCalibrator().fit(iter([(GOOD.X[0], MASKED)])),
        lambda: cm.ConformalRiskCalibrator().fit([(np.ma.masked_array(GOOD.X[0]), GOOD.y[0])]),
        lambda: cm.kernels.true_label_scores(GOOD.X[:2], [GOOD.y[1], MASKED]),  # type: ignore[list-item]
        lambda: cm.kernels.threshold([np.ma.masked_array(GOOD.X[0]), GOOD.X[1]], 0.5),
        lambda: cm.metrics.empirical_risk([MASKED], GOOD.X[:1] > 0.3),
        lambda: cm.metrics.empirical_risk(GOOD.y[:1], [np.ma.masked_array(GOOD.X[0] > 0.3)]),
        lambda: cm.metrics.log10_volume([np.ma.masked_array(GOOD.X[0] > 0)]),
        lambda: cm.metrics.chao1([MASKED, GOOD.y[1]]),
        lambda: cm.kernels.truncated_svd([np.ma.masked_array([1.0, 2.0]), np.ones(2)], 1),
    ],
)
def test_masked_arrays_in_sequences_are_refused(hand_over: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="is a masked array, whose mask would be lost"):
        hand_over()
