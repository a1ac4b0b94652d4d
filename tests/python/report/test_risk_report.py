"""Reports: classes, intervals, levels and words against the twin, SciPy and simulation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

import conformask as cm
from conformask._intervals import mean_interval
from problems import Problem, problems, wide

pytestmark = [
    pytest.mark.filterwarnings("ignore::conformask.exceptions.DroppedImagesWarning"),
    pytest.mark.filterwarnings("ignore::conformask.exceptions.InfeasibleRiskWarning"),
    pytest.mark.filterwarnings("ignore:calibration was by images, but evaluation counts groups"),
]

Calibrator = cm.ConformalRiskCalibrator
PROBLEM = wide()


# Classes


@settings(max_examples=40)
@given(problem=problems(min_images=9), data=st.data())
def test_classes_against_the_twin(problem: Problem, data: st.DataObject) -> None:
    fitted = Calibrator(alpha=0.3, on_infeasible="full").fit(problem.X, problem.y)
    names = data.draw(st.lists(st.integers(0, 2), min_size=len(problem.X), max_size=len(problem.X)))
    for groups in (None, names):
        report, masks = fitted.evaluate(problem.X, problem.y, groups=groups), fitted.predict(problem.X)
        for row in report.classes:
            shares: dict[int, list[float]] = {}
            sizes: dict[int, list[float]] = {}
            for i, (mask, labels) in enumerate(zip(masks, problem.y, strict=True)):
                of_class = labels == row.label
                if of_class.any():
                    unit = i if groups is None else groups[i]
                    shares.setdefault(unit, []).append(1 - mask[row.label][of_class].mean())
                    sizes.setdefault(unit, []).append(mask.sum(axis=0)[of_class].mean())
            assert row.n_pixels == (problem.y == row.label).sum()
            assert row.n_images == sum(map(len, shares.values()))
            if not shares:
                assert math.isnan(row.miss_rate)
                assert math.isnan(row.set_size)
                continue
            assert row.miss_rate == pytest.approx(np.mean([np.mean(each) for each in shares.values()]))
            assert row.set_size == pytest.approx(np.mean([np.mean(each) for each in sizes.values()]))
            assert row.miss_rate_interval[0] <= row.miss_rate <= row.miss_rate_interval[1]


def test_a_miss_rate_is_the_risk_of_its_class() -> None:
    fitted = Calibrator(alpha=0.2).fit(PROBLEM.X, PROBLEM.y)
    report = fitted.evaluate(PROBLEM.X, PROBLEM.y)
    masks = fitted.predict(PROBLEM.X)
    for row in report.classes:
        loss = cm.FalseNegativeLoss(classes=[row.label])
        assert row.miss_rate == cm.metrics.empirical_risk(PROBLEM.y, masks, loss)
    assert [row.set_size for row in report.classes] == cm.metrics.class_set_sizes(PROBLEM.y, masks).tolist()


def test_the_worst_classes_come_first_and_absent_ones_are_left_out() -> None:
    X, y = PROBLEM.X, np.where(PROBLEM.y == 2, 255, PROBLEM.y)
    report = Calibrator(alpha=0.2).fit(X, y).evaluate(X, y, class_names=["sky", "road", "van", "car"])
    shown = [line.split()[0] for line in str(report).split("\n\n")[2].splitlines()[2:]]
    rows = sorted((row for row in report.classes if row.n_images), key=lambda row: -row.miss_rate)
    assert shown == [row.name for row in rows]
    assert "van" not in shown
    assert report.to_dict()["classes"][2]["miss_rate"] is None


# Intervals


def test_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    values = rng.beta(1, 9, 40)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(np.append(values, np.nan), "images")
    assert found.ends == pytest.approx((max(expected.low, 0), expected.high), rel=1e-12)
    assert found.method == "Student's t over 40 images"
    for k in (0, 1, 7, 19, 20):
        zeros_and_ones = np.arange(20) < k
        exact = stats.binomtest(k, 20).proportion_ci(0.95, "exact")
        found = mean_interval(zeros_and_ones.astype(float), "groups")
        assert found.ends == pytest.approx((exact.low, exact.high), rel=1e-9, abs=1e-15)
        assert found.method == "Clopper-Pearson over 20 groups"
    assert mean_interval(np.array([0.4, np.nan]), "images") == (0.4, 0.0, 1.0, "unknown from 1 images")
    assert np.isnan(mean_interval(np.array([]), "images").ends).all()


@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng: rng.binomial(1, 0.1, 50).astype(float), 0.1),
        (lambda rng: rng.beta(2, 18, 50), 0.1),
        # Of groups: five images that are nearly alike in each of thirty.
        (lambda rng: rng.beta(2, 18, 30), 0.1),
    ],
)
def test_intervals_hold_the_mean_as_often_as_they_say(
    draw: Callable[[np.random.Generator], NDArray], mean: float
) -> None:
    rng = np.random.default_rng(1)
    hits = [low <= mean <= high for _, low, high, _ in (mean_interval(draw(rng), "") for _ in range(2000))]
    # The skew of losses costs Student's interval a little: 2 % here, besides four standard errors.
    assert np.mean(hits) > 0.93 - 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_groups_widen_the_interval() -> None:
    """Images of one group are alike: as single ones they would tell too much."""
    X, y = (np.repeat(array, 4, axis=0) for array in (PROBLEM.X, PROBLEM.y))
    fitted = Calibrator(alpha=0.2).fit(PROBLEM.X, PROBLEM.y)
    single, once = fitted.evaluate(X, y), fitted.evaluate(PROBLEM.X, PROBLEM.y)
    grouped = fitted.evaluate(X, y, groups=np.repeat(np.arange(len(PROBLEM.X)), 4))
    assert grouped.interval == pytest.approx(once.interval)
    assert single.interval[1] - single.interval[0] < 0.6 * (once.interval[1] - once.interval[0])
    assert f"over {len(PROBLEM.X)} groups" in grouped.interval_method


# Words


def _verdict(
    rng: np.random.Generator, risk: float, n: int, n_calibration: int = 100, method: Any = "crc"
) -> str:
    """Of a calibrator at alpha 0.1 that meets n images whose loss is 1 with the probability `risk`."""
    X = np.tile(np.array([0.9, 0.1])[None, :, None, None], (n_calibration, 1, 1, 10))
    calibrator = Calibrator(cm.LAC(include_top1=False), alpha=0.1, method=method, loss="binary")
    X[:, 1] = np.linspace(0.01, 0.3, n_calibration)[:, None, None]
    X[:, 0] = 1 - X[:, 1]
    calibrator.fit(X, np.zeros((n_calibration, 1, 10), int))
    wrong = (np.arange(n) < round(risk * n)).astype(int)
    rng.shuffle(wrong)
    p = np.where(wrong, 0.2, 0.999)[:, None, None, None]
    test = np.concatenate([p, 1 - p], axis=1) * np.ones((1, 1, 1, 10))
    report = calibrator.evaluate(test, np.zeros((n, 1, 10), int))
    assert report.empirical_risk == pytest.approx(risk)
    return report.verdict


def test_the_verdict_tells_scatter_from_violation() -> None:
    rng = np.random.default_rng(2)
    assert "keeps alpha, and so does its whole 95 % interval" in _verdict(rng, 0.01, 1000)
    assert "keeps alpha on these images. Its 95 % interval reaches beyond" in _verdict(rng, 0.09, 100)
    assert "not by more than these images scatter" in _verdict(rng, 0.12, 100)
    assert "by no more than calibrations with 100 images do" in _verdict(rng, 0.13, 2000)
    assert "by more than scatter explains. These images are probably not exch" in _verdict(rng, 0.2, 2000)
    confident = _verdict(rng, 0.2, 2000, method=cm.PAC(0.05))
    assert "at most 5 % may be so" in confident
    X = np.full((20, 2, 2, 2), 0.5)
    fitted = Calibrator(alpha=0.2).fit(
        PROBLEM.X[:, :2] / PROBLEM.X[:, :2].sum(1, keepdims=True), PROBLEM.y * 0
    )
    assert "unknown: no image counts" in fitted.evaluate(X, np.full((20, 2, 2), 255)).verdict


# Levels


@pytest.mark.parametrize("loss", ["miscoverage", "binary"])
def test_levels_are_those_of_calibrators_of_their_own(loss: str) -> None:
    X, y = PROBLEM.X, PROBLEM.y
    alphas = [0.3, 0.05, 0.1]
    groups = np.arange(len(X)) // 2
    fitted = Calibrator(alpha=0.2, loss=loss).fit(X, y)
    report = fitted.evaluate(X, y, alphas=iter(alphas), groups=groups)
    assert report.to_json() == json.dumps(
        fitted.evaluate(X, y, groups=groups).to_dict() | {"sweep": report.to_dict()["sweep"]}, indent=2
    )
    for alpha, found in zip(alphas, report.sweep, strict=True):
        expected = Calibrator(alpha=alpha, loss=loss).fit(X, y).evaluate(X, y, groups=groups)
        assert found.to_dict() == expected.to_dict()
    assert [f"{alpha:g}" in str(report).split("\n\n")[3] for alpha in alphas] == [True] * 3


def test_levels_come_in_one_pass() -> None:
    fitted = Calibrator(alpha=0.2).fit(PROBLEM.X, PROBLEM.y)
    images = zip(PROBLEM.X, PROBLEM.y, strict=True)  # can be walked once
    report = fitted.evaluate(images, alphas=[0.1, 0.3])
    assert [each.alpha for each in report.sweep] == [0.1, 0.3]
    assert next(images, None) is None


def test_levels_that_cannot_be() -> None:
    fitted = Calibrator(alpha=0.2).fit(PROBLEM.X, PROBLEM.y)
    images = zip(PROBLEM.X, PROBLEM.y, strict=True)
    with pytest.raises(cm.InfeasibleRiskError, match=r"alpha=0\.001"):
        fitted.evaluate(images, alphas=[0.1, 0.001])
    assert next(images, None) is not None  # said before the pass
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\), got 1.5"):
        fitted.evaluate(PROBLEM.X, PROBLEM.y, alphas=[1.5])
    with pytest.raises(TypeError, match=r"alphas must be a sequence, got 0\.1"):
        fitted.evaluate(PROBLEM.X, PROBLEM.y, alphas=0.1)


# Groups that are left out


def test_leave_one_group_out_against_calibrators() -> None:
    X, y = PROBLEM.X, PROBLEM.y
    names = np.array(["a", "b", "c"])[np.arange(len(X)) % 3]
    found = cm.metrics.leave_one_group_out(cm.profile(X, y), names, alpha=0.2, loss="binary")
    for i, name in enumerate(found.groups):
        own = names == name
        fitted = Calibrator(alpha=0.2, loss="binary").fit(X[~own], y[~own])
        assert found.lambda_hats[i] == fitted.lambda_hat_
        assert found.risks[i] == fitted.evaluate(X[own], y[own]).empirical_risk
        assert found.n_images[i] == own.sum()
    assert f"{np.mean(found.risks):.4f}" in found._repr_html_()


def test_leave_one_group_out_takes_the_groups_of_profiles() -> None:
    groups = np.arange(len(PROBLEM.X)) % 3
    with pytest.raises(cm.InfeasibleRiskError, match="leave_one_group_out") as caught:
        Calibrator(alpha=0.2).fit(PROBLEM.X, PROBLEM.y, groups=groups)
    assert caught.value.n_images == 3
    calibrator = Calibrator(alpha=0.5).fit(PROBLEM.X, PROBLEM.y, groups=groups)
    found = cm.metrics.leave_one_group_out(calibrator.profiles_, alpha=0.2)
    given = cm.metrics.leave_one_group_out(cm.profile(PROBLEM.X, PROBLEM.y), groups, alpha=0.2)
    assert str(found) == str(given)
    assert found.groups == (0, 1, 2)


def test_leave_one_group_out_refuses() -> None:
    profiles = cm.profile(PROBLEM.X, PROBLEM.y)
    leave = cm.metrics.leave_one_group_out
    with pytest.raises(ValueError, match="groups must be given"):
        leave(profiles)
    with pytest.raises(ValueError, match="at least two different ones, got \\[1\\]"):
        leave(profiles, [1] * len(profiles))
    binned = Calibrator(profile="binned").fit(PROBLEM.X, PROBLEM.y).profiles_
    with pytest.raises(TypeError, match=r"profiles must be ScoreProfiles.*BinnedProfiles"):
        leave(binned, np.arange(len(profiles)))
