"""Logits and unnormalised scores: the kernels make probabilities of them as they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

import conformask as cm
import twin
from conformask import _core
from problems import wide

Calibrator = cm.ConformalRiskCalibrator
PROBLEM = wide(size=(9, 70))
LOGITS = np.log(PROBLEM.X.astype(np.float64)) + np.random.default_rng(1).normal(size=(40, 1, 9, 70)) * 30


def exact(logits: NDArray) -> NDArray[np.float64]:
    return softmax(logits.astype(np.float64), axis=1)


def scores_of(X: NDArray, inputs: str) -> NDArray[np.float64]:
    """One minus the probability that the kernels see, of all labels."""
    score = cm.LAC(include_top1=False)
    labels = [np.full((len(X), *X.shape[2:]), k) for k in range(X.shape[1])]
    return np.stack([cm.kernels.true_label_scores(X, y, score, None, inputs=inputs) for y in labels], axis=1)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_softmax_is_within_a_millionth(dtype: str) -> None:
    logits = LOGITS.astype(dtype)
    tolerance = 1e-15 if dtype == "float64" else 5e-7
    assert np.abs(1 - scores_of(logits, "logits") - exact(logits)).max() < tolerance


def test_softmax_of_many_classes() -> None:
    """Where a plain float32 sum would lose all but the first term."""
    logits = np.full((1, 150, 1, 40), -16.7, np.float32)
    logits[0, 0] = 0
    logits[..., 20:] = np.random.default_rng(0).normal(size=(150, 1, 20)) * 5
    assert np.abs(1 - scores_of(logits, "logits") - exact(logits)).max() < 5e-7


@pytest.mark.parametrize(
    ("dtype", "tail"), [("float32", _core.SOFTMAX_TAIL_SINGLE), ("float64", _core.SOFTMAX_TAIL_DOUBLE)]
)
def test_beyond_the_tail_ranks_go_by_class(dtype: str, tail: float) -> None:
    """A logit at the tail has a probability; those below it have none, and the lowest class comes first."""
    logits = np.array([0, tail - 8, tail - 3, tail, tail - 1], dtype).reshape(1, 5, 1, 1)
    criticals = [
        cm.kernels.true_label_scores(logits, np.full((1, 1, 1), k), cm.RAPS(1, 1), inputs="logits").item()
        for k in range(5)
    ]
    assert np.round(criticals).tolist() == [0, 3, 4, 2, 5]


@pytest.mark.parametrize("score", [cm.LAC(), cm.APS(), cm.RAPS(), cm.SACP(), cm.SACP(cm.LAC())], ids=str)
@pytest.mark.parametrize("inputs", ["logits", "scores"])
def test_all_that_a_calibrator_does(inputs: str, score: object) -> None:
    """In float64, as from the probabilities but for rounding."""
    X = LOGITS if inputs == "logits" else PROBLEM.X * np.float64(7)
    P = exact(LOGITS) if inputs == "logits" else X / X.sum(axis=1, keepdims=True)
    fitted = Calibrator(score, inputs=inputs, alpha=0.1).fit(X, PROBLEM.y)
    expected = Calibrator(score, alpha=0.1).fit(P, PROBLEM.y)
    assert fitted.lambda_hat_ == pytest.approx(expected.lambda_hat_, abs=1e-12)
    same = np.mean(fitted.predict(X) == expected.predict(P))
    assert same > 0.9999
    assert np.mean(fitted.set_size(X) == expected.set_size(P)) > 0.999
    report = fitted.evaluate(X, PROBLEM.y)
    assert report.empirical_risk == fitted.risk_ == pytest.approx(expected.risk_, abs=1e-3)
    assert np.array_equal(
        cm.kernels.threshold(X, fitted.lambda_hat_, score, inputs=inputs), fitted.predict(X)
    )


@pytest.mark.parametrize("inputs", ["logits", "scores"])
def test_layouts_lists_and_threads_change_nothing(inputs: str) -> None:
    X = (LOGITS if inputs == "logits" else 3 * PROBLEM.X).astype(np.float32)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(X, 1, -1)), -1, 1)
    expected = Calibrator(inputs=inputs).fit(X, PROBLEM.y)
    masks = expected.predict(X)
    for other in (last, np.repeat(X, 2, axis=3)[..., ::2], list(X)):
        fitted = Calibrator(inputs=inputs).fit(other, PROBLEM.y)
        assert fitted.lambda_hat_ == expected.lambda_hat_
        assert np.array_equal(np.stack(list(fitted.predict(other))), masks)
    try:
        cm.set_num_threads(1)
        assert Calibrator(inputs=inputs).fit(X, PROBLEM.y).lambda_hat_ == expected.lambda_hat_
    finally:
        cm.set_num_threads(None)


def test_logits_of_any_size() -> None:
    X = np.zeros((20, 3, 2, 2), np.float32)
    X[:, 0], X[:, 1] = 1e30, -3e38
    y = np.zeros((20, 2, 2), int)
    assert Calibrator(inputs="logits").fit(X, y).set_size(X).max() == 1
    assert Calibrator(inputs="logits").fit(X, y + 1).lambda_hat_ == 1.0


def test_scores_of_any_size() -> None:
    y = np.zeros((20, 1, 1), int)
    for dtype, scale in [("float32", 1e-40), ("float32", 1e38), ("float64", 1e-310), ("float64", 5e307)]:
        X = np.broadcast_to(
            np.array([1, 3], dtype).reshape(1, 2, 1, 1) * np.array(scale, dtype), (20, 2, 1, 1)
        )
        found = cm.kernels.true_label_scores(X, y, cm.LAC(include_top1=False), inputs="scores")
        assert found == pytest.approx(0.75, abs=1e-4)
        Calibrator(inputs="scores").fit(X, y)


def test_the_largest_floats_are_logits() -> None:
    X = np.zeros((20, 2, 1, 1), np.float32)
    X[:, 0], X[:, 1] = 3e38, -3e38
    for profile in ("exact", "binned"):
        assert (
            Calibrator(inputs="logits", profile=profile).fit(X, np.ones((20, 1, 1), int)).lambda_hat_ == 1.0
        )
    assert cm.kernels.threshold(X, 1.0, inputs="logits").all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("score", ["lac", "aps", cm.RAPS(0.1, 1), "sacp"])
def test_minus_infinity_masks_a_class(dtype: str, score: Any) -> None:
    """Its probability is 0 exactly, as that of a logit that is far below: everything has the same bits."""
    X, y = LOGITS.astype(dtype), PROBLEM.y
    masked = np.random.default_rng(3).random(X.shape) < 0.4
    masked[:, 1] &= masked[:, 0]  # one of them is finite
    masked[:, 0] &= ~masked[:, 1]
    finite, infinite = (np.where(masked, np.array(value, dtype), X) for value in (-6e4, -np.inf))
    fitted, expected = (
        Calibrator(score, inputs="logits", alpha=0.3).fit(maps, y) for maps in (infinite, finite)
    )
    assert fitted.lambda_hat_ == expected.lambda_hat_
    assert np.array_equal(fitted.predict(infinite), fitted.predict(finite))
    assert np.array_equal(fitted.set_size(infinite), fitted.set_size(finite))
    assert fitted.evaluate(infinite, y).empirical_risk == fitted.evaluate(finite, y).empirical_risk
    p = 1 - scores_of(infinite, "logits")
    assert (p[masked] == 0).all()
    assert (p[~masked & (X.max(axis=1, keepdims=True) - 5 < X)] > 0).all()


def test_scalers_take_masked_classes_of_new_images() -> None:
    masked = np.where(np.arange(LOGITS.shape[1])[:, None, None] == 2, -np.inf, LOGITS)
    for scaler in (cm.TemperatureScaler(), cm.VectorScaler()):
        p = scaler.fit(LOGITS, PROBLEM.y).transform(masked)
        assert (p[:, 2] == 0).all()
        assert np.allclose(p.sum(axis=1), 1)
        assert np.array_equal(p, scaler.transform(np.where(np.isinf(masked), -1e9, masked)))
    with pytest.raises(ValueError, match=r"class 2 is -inf .* nor by scalers that mix"):
        cm.DirichletScaler(inputs="logits").fit(LOGITS, PROBLEM.y).transform(masked)


@pytest.mark.parametrize("bad", [np.nan, np.inf, "no class"])
def test_what_is_no_logit_is_named(bad: Any) -> None:
    X = LOGITS.astype(np.float32)
    X[7, 0, 1, 5] = -np.inf  # which is no fault
    X[7, 2, 1, 5] = bad if bad != "no class" else 0
    named = f"class 2 is {str(bad).replace('nan', 'NaN')}"
    if bad == "no class":
        X[7, :, 1, 5], named = -np.inf, "class 0 is -inf"
    y = PROBLEM.y.copy()
    y[7, 1, 5] = 0
    for call in (
        lambda: Calibrator(inputs="logits").fit(X, y),
        lambda: Calibrator("sacp", inputs="logits").fit(X, y),
        lambda: Calibrator(inputs="logits").fit(LOGITS, y).predict(X),
    ):
        says = rf"X is not finite in image 7: {named} at pixel \(1, 5\)"
        with pytest.raises(ValueError, match=says):
            call()
    y[7, 1, 5] = 255  # nobody looks at void pixels
    Calibrator(inputs="logits").fit(X, y)


def test_what_is_no_score_is_named() -> None:
    X = PROBLEM.X.copy()
    y = PROBLEM.y.copy()
    y[3, 0, 4] = 1
    X[3, :, 0, 4] = 0
    with pytest.raises(ValueError, match=r"the scores of image 3 sum to 0 at pixel \(0, 4\)"):
        Calibrator(inputs="scores").fit(X, y)
    X[3, :, 0, 4] = [0.5, -0.5, 1, 1]
    with pytest.raises(ValueError, match=r"negative probability in image 3: class 1 is -0\.5"):
        Calibrator(inputs="scores").fit(X, y)


def test_a_score_of_ones_own_gets_what_the_model_gave() -> None:
    def complement(X: NDArray) -> NDArray:
        return 1 - exact(X)

    own = Calibrator(complement, inputs="logits").fit(LOGITS, PROBLEM.y)
    ours = Calibrator(cm.LAC(include_top1=False), inputs="logits").fit(LOGITS, PROBLEM.y)
    assert own.lambda_hat_ == pytest.approx(ours.lambda_hat_, abs=1e-14)


def test_files_keep_what_the_inputs_are(tmp_path: Path) -> None:
    fitted = Calibrator("aps", inputs="logits").fit(LOGITS, PROBLEM.y)
    fitted.save(tmp_path / "c.json", profiles=True)
    again = Calibrator.load(tmp_path / "c.json")
    assert again.inputs == "logits"
    assert again.lambda_hat_ == fitted.lambda_hat_
    assert np.array_equal(again.predict(LOGITS), fitted.predict(LOGITS))
    assert twin.top1(LOGITS).any()
