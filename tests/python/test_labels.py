"""Labels as other programs write them: whole numbers in floats, several marks of void pixels, an axis too many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conformask as cm
from float_labels import DTYPES, LARGE, WRONG, refusal, with_one

RNG = np.random.default_rng(3)
N, K = 12, 3
X = RNG.dirichlet(np.ones(K), size=(N, 5, 4)).transpose(0, 3, 1, 2)
Y = np.where(RNG.random((N, 5, 4)) < 0.6, X.argmax(axis=1), RNG.integers(0, K, (N, 5, 4)))
MARKED = np.where(
    RNG.random(Y.shape) < 0.2, RNG.choice([254, 255, -1], Y.shape), Y
)  # three marks of void pixels
ONE_MARK = np.where((MARKED < 0) | (MARKED > 250), 255, MARKED)
MARKS = (254, 255, -1)
P, FOREGROUND = X[:, 1], np.where(MARKED == 1, 1, np.where(ONE_MARK == 255, MARKED, 0))
SAMPLES = np.stack([X, np.roll(X, 1, axis=2)], axis=1)
MASKS = P > 0.4

# What families make of labels: of maps of several classes, of masks, of samples. Each gives numbers.
Use = Callable[..., Any]


def risk_control(y: Any, **options: Any) -> Any:
    found = cm.ConformalRiskCalibrator(alpha=0.3, **options).fit(X, y)
    return found.lambda_hat_, found.risk_, found.evaluate(X, y).empirical_risk


def profiles(y: Any, **options: Any) -> Any:
    return cm.profile(X, y, **options).losses("miscoverage", 0.5).tolist()


def scaling(y: Any, **options: Any) -> Any:
    return cm.TemperatureScaler(inputs="probabilities", **options).fit(X, y).temperature_


def metrics(y: Any, **options: Any) -> Any:
    masks = X > 0.2
    calibration = cm.metrics.expected_calibration_error(y, X, **options)
    return (
        cm.metrics.empirical_risk(y, masks, **options),
        cm.metrics.marginal_coverage(y, masks, **options),
        cm.metrics.empirical_risk(y, masks, loss=cm.PrecisionLoss([1, 2]), **options),
        cm.metrics.mean_iou(y, X, **options),
        cm.metrics.label_accuracy(y, X.argmax(axis=1), **options),
        calibration,
    )


def consign(y: Any, **options: Any) -> Any:
    return cm.ConsignCalibrator(1, alpha=0.3, min_accuracy=0.2, **options).fit(SAMPLES, y).lambda_hat_


def masks_of_classes(y: Any, **options: Any) -> Any:
    return cm.BinaryRiskCalibrator(alpha=0.3, **options).fit(X, y, classes=[1, 2]).threshold_


def margins_of_classes(y: Any, **options: Any) -> Any:
    found = cm.MarginCalibrator(alpha=0.3, **options).fit(X.argmax(axis=1), y, classes=1)
    return found.margin_


def binary(y: Any, **options: Any) -> Any:
    return cm.BinaryRiskCalibrator(alpha=0.3, **options).fit(P, y).threshold_


def margins(y: Any, **options: Any) -> Any:
    found = cm.MarginCalibrator(alpha=0.3, **options).fit(MASKS, y)
    return found.margin_


OF_CLASSES = [risk_control, profiles, scaling, metrics, consign, masks_of_classes, margins_of_classes]
OF_MASKS = [binary, margins]


@pytest.mark.parametrize("use", OF_CLASSES, ids=lambda use: use.__name__)
def test_several_ignore_labels_are_as_one(use: Use) -> None:
    expected = use(ONE_MARK, ignore_index=255)
    for several in (MARKS, list(MARKS), {*MARKS}, np.array(MARKS)):
        assert use(MARKED, ignore_index=several) == expected
    assert use(ONE_MARK, ignore_index=(255,)) == expected
    for missing in MARKS if use is not margins_of_classes else (-1,):  # which do not know K
        with pytest.raises(ValueError, match=rf"{missing}\b"):
            use(MARKED, ignore_index=tuple(mark for mark in MARKS if mark != missing))
    with pytest.raises(
        ValueError, match=r"ignore_index=2 is one of the K = 3 classes|is in ignore_index|=2 "
    ):
        use(MARKED, ignore_index=(2, *MARKS))


@pytest.mark.parametrize("use", OF_MASKS, ids=lambda use: use.__name__)
def test_several_ignore_labels_of_masks(use: Use) -> None:
    one = np.where((FOREGROUND < 0) | (FOREGROUND > 250), 255, FOREGROUND)
    assert use(FOREGROUND, ignore_index=MARKS) == use(one, ignore_index=255)
    with pytest.raises(ValueError, match="ignore_index=1 is"):
        use(FOREGROUND, ignore_index=(1, 255))


def test_several_ignore_labels_are_kept_in_files(tmp_path: Path) -> None:
    fitted = cm.ConformalRiskCalibrator(alpha=0.3, ignore_index=[255, -1, 254]).fit(X, MARKED)
    fitted.save(tmp_path / "calibrator.json")
    again = cm.ConformalRiskCalibrator.load(tmp_path / "calibrator.json")
    assert again.evaluate(X, MARKED).empirical_risk == fitted.evaluate(X, MARKED).empirical_risk
    other = cm.ConformalRiskCalibrator(alpha=0.3, ignore_index=MARKS).fit(
        X[::-1] ** 2 / (X[::-1] ** 2).sum(1)[:, None], MARKED
    )
    assert fitted.merge(other).n_images_ == 2 * N
    with pytest.raises(ValueError, match="ignore_index differs"):
        fitted.merge(cm.ConformalRiskCalibrator(alpha=0.3).fit(X, ONE_MARK))


def test_ignore_labels_that_are_none() -> None:
    for bad, error in (
        ((), ValueError),
        ((255, 1.5), TypeError),
        ((True, 255), TypeError),
        ("ab", TypeError),
    ):
        with pytest.raises(error, match="ignore_index"):
            cm.ConformalRiskCalibrator(ignore_index=bad).fit(X, ONE_MARK)


@pytest.mark.parametrize("use", [*OF_CLASSES, *OF_MASKS], ids=lambda use: use.__name__)
def test_whole_numbered_floats_are_labels(use: Use) -> None:
    """As nnU-Net and nibabel give them."""
    y = FOREGROUND if use in OF_MASKS else MARKED
    expected = use(y, ignore_index=MARKS)
    for dtype in DTYPES:
        assert use(y.astype(dtype), ignore_index=MARKS) == expected
        assert use(list(y.astype(dtype)), ignore_index=MARKS) == expected


@pytest.mark.parametrize("bad", WRONG)
@pytest.mark.parametrize("use", [*OF_CLASSES, *OF_MASKS], ids=lambda use: use.__name__)
def test_other_floats_are_refused_with_image_pixel_and_value(use: Use, bad: float) -> None:
    y = with_one(FOREGROUND if use in OF_MASKS else MARKED, bad, 7, 3, 2)
    for labels in (y, list(y)):
        with pytest.raises(
            TypeError, match=rf"must hold integer labels.*float64, {refusal(bad, 3, 2)}"
        ) as caught:
            use(labels, ignore_index=MARKS)
        assert "image 7" in str(caught.value)


def test_floats_of_another_rank_are_named_too() -> None:
    y = np.repeat(Y[:, None], 2, axis=1).astype(float)
    y[4, 1, 0, 3] = 0.25
    with pytest.raises(TypeError, match=r"0\.25 in image 4 at pixel \(1, 0, 3\)"):
        cm.ConformalRiskCalibrator().fit(np.repeat(X[:, :, None], 2, axis=2), y)


def test_large_whole_numbers_are_labels() -> None:
    y = np.where(ONE_MARK == 255, LARGE, ONE_MARK)
    assert risk_control(y, ignore_index=int(LARGE)) == risk_control(ONE_MARK)


def test_a_class_that_shall_not_count() -> None:
    for ignore_index in (1, (255, 0)):
        with pytest.raises(
            ValueError, match=r"shall not count, name the other classes: loss=MiscoverageLoss\(classes="
        ):
            cm.ConformalRiskCalibrator(ignore_index=ignore_index).fit(X, Y)
    others = cm.ConformalRiskCalibrator(alpha=0.3, loss=cm.MiscoverageLoss(classes=[1, 2])).fit(X, Y)
    without = cm.ConformalRiskCalibrator(alpha=0.3).fit(X, np.where(Y == 0, 255, Y))
    assert others.lambda_hat_ == without.lambda_hat_


@pytest.mark.parametrize(
    "use", [risk_control, scaling, metrics, consign, masks_of_classes], ids=lambda use: use.__name__
)
def test_labels_with_an_axis_of_length_1(use: Use) -> None:
    with pytest.raises(ValueError, match=r"pass (y|y_true)\[:, 0\], without the axis of length 1"):
        use(Y[:, None])
    with pytest.raises(ValueError, match=r"without the axis of length 1"):
        use(list(Y[:, None]))
