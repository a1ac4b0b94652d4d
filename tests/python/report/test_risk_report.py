"""Reports: classes, intervals, levels and words against the twin, SciPy and simulation."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import clone

import conformask as cm
from conformask._intervals import mean_interval, mean_intervals
from problems import Problem, problems, wide

pytestmark = [
    pytest.mark.filterwarnings("ignore::conformask.exceptions.DroppedImagesWarning"),
    pytest.mark.filterwarnings("ignore::conformask.exceptions.InfeasibleRiskWarning"),
    pytest.mark.filterwarnings("ignore:calibration was by images, but evaluation counts groups"),
]

Calibrator = cm.ConformalRiskCalibrator
PROBLEM = wide()
LARGE = wide(n=200, size=(24, 32))


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


def gaffke_like(values: NDArray[np.float64]) -> tuple[float, float]:
    """The slow twin: moments of the mean under weights of Dirichlet(1, ..., 1), from SciPy's distribution."""

    def upper(x: NDArray[np.float64]) -> float:
        points = np.append(x, 1.0)
        weights = stats.dirichlet(np.ones(len(points)))
        mean, variance = points @ weights.mean(), points @ weights.cov() @ points
        a, b = np.array([mean, 1 - mean]) * (mean * (1 - mean) / variance - 1)
        return float(stats.beta(a, b).ppf(0.975))

    return 1 - upper(1 - values), upper(values)


def test_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 17, 40):
        values = rng.beta(1, 9, n)
        found = mean_interval(np.append(values, np.nan), "images")
        assert found.ends == pytest.approx(gaffke_like(values), rel=1e-9)
        assert found.method == f"beta over {n} image{'s' if n > 1 else ''}"
    for k in (0, 1, 7, 19, 20):
        zeros_and_ones = np.arange(20) < k
        exact = stats.binomtest(k, 20).proportion_ci(0.95, "exact")
        found = mean_interval(zeros_and_ones.astype(float), "groups")
        assert found.ends == pytest.approx((exact.low, exact.high), rel=1e-9, abs=1e-15)
        assert found.method == "Clopper-Pearson over 20 groups"
    assert np.isnan(mean_interval(np.array([]), "images").ends).all()


def test_what_random_weights_say_is_close() -> None:
    """The quantiles of the random mean itself, of which the beta distribution has the first two moments."""
    rng = np.random.default_rng(0)
    values = rng.beta(0.5, 3, 20)
    weights = rng.dirichlet(np.ones(21), 200_000)
    expected = np.quantile(weights @ np.append(values, 0), 0.025), np.quantile(weights @ [*values, 1], 0.975)
    assert mean_interval(values, "").ends == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 20, 100])
@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng, size: rng.binomial(1, 0.1, size).astype(float), 0.1),
        (lambda rng, size: rng.beta(2, 18, size), 0.1),
        (lambda rng, size: rng.beta(0.1, 0.9, size), 0.1),
        (lambda rng, size: rng.beta(0.01, 0.99, size), 0.01),
        (lambda rng, size: np.where(rng.random(size) < 0.1, 0.999, 0.001), 0.1008),
        (lambda rng, size: np.where(rng.random(size) < 0.05, 0.3, 0.0), 0.015),
        (lambda rng, size: rng.choice([0.3, 0.7], size), 0.5),
        (lambda rng, size: rng.random(size), 0.5),
    ],
)
def test_intervals_hold_the_mean_as_often_as_they_say(
    draw: Callable[[np.random.Generator, tuple[int, int]], NDArray], mean: float, n: int
) -> None:
    values = draw(np.random.default_rng(1), (n, 4000))
    hits = [each.low <= mean + 1e-12 and mean - 1e-12 <= each.high for each in mean_intervals(values, "")]
    assert np.mean(hits) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_numbers_next_to_0_and_1_have_limits() -> None:
    rng = np.random.default_rng(0)
    for values in (10.0 ** rng.uniform(-300, 0, (3, 500)), np.full((3, 1), 5e-324), np.zeros((3, 1))):
        for each in (values, 1 - values, 1 - 1e-13 * values):
            for found in mean_intervals(each, ""):
                assert 0 <= found.low <= found.mean <= found.high <= 1


def test_intervals_close_in_on_the_mean() -> None:
    rng = np.random.default_rng(0)
    values = rng.beta(2, 18, 10_000)
    found = mean_interval(values, "")
    normal = 2 * 1.96 * values.std() / math.sqrt(len(values))
    assert 1 <= (found.high - found.low) / normal < 1.1


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
    assert _verdict(rng, 0.01, 1000) == "The risk and its whole 95 % interval are at or below alpha."
    assert "is at or below alpha, but its 95 % interval extends above alpha" in _verdict(rng, 0.09, 100)
    assert "is above alpha, but its 95 % interval contains alpha: chance" in _verdict(rng, 0.12, 100)
    for risk in (0.12, 0.13):
        assert "The choice of the 100 images of calibration can explain it" in _verdict(rng, risk, 2000)
    assert "Chance does not explain it. These images are probably not like" in _verdict(rng, 0.2, 2000)
    for delta in (0.05, Fraction(1, 20)):
        assert "at most 5 % of calibration sets" in _verdict(rng, 0.2, 2000, method=cm.PAC(delta))
    X = np.full((20, 2, 2, 2), 0.5)
    fitted = Calibrator(alpha=0.2).fit(
        PROBLEM.X[:, :2] / PROBLEM.X[:, :2].sum(1, keepdims=True), PROBLEM.y * 0
    )
    report = fitted.evaluate(X, np.full((20, 2, 2), 255))
    assert "unknown: no test image has a labelled pixel that counts" in report.verdict
    assert "pixels" not in str(report).split("\n\n", 1)[1], "no table of classes that are not there"


def test_weights_that_tell_little_are_believed_little() -> None:
    """Ten images of weight 1 among many of next to none: calibrations scatter as those with ten images."""
    rng = np.random.default_rng(3)
    p = rng.random((400, 1, 1, 1)) * np.ones((1, 1, 2, 2))
    X, y = whole = np.concatenate([p, 1 - p], axis=1), np.zeros((400, 2, 2), int)
    weights = np.where(np.arange(400) < 20, 1.0, 0.001)
    calibrator = Calibrator(cm.LAC(include_top1=False), alpha=0.2, loss="binary")
    weighted = clone(calibrator).fit(X, y, sample_weight=weights)
    report = weighted.evaluate(X[100:], y[100:])
    assert report.calibrated_on == f"400 images (as good as {weighted.n_eff_:.4g} by their weights)"
    assert 20 < weighted.n_eff_ < 21
    p = np.where(np.arange(4000) < 1040, 0.0, 1.0).reshape(4000, 1, 1, 1)
    X, y = np.concatenate([p, 1 - p], axis=1), np.zeros((4000, 1, 1), int)
    assert "The choice of the 400 images" in weighted.evaluate(X, y).verdict
    assert "Chance does not explain it" in calibrator.fit(*whole).evaluate(X, y).verdict


def test_the_verdict_goes_by_the_ends_of_the_interval() -> None:
    """They are not as far from the risk as one another."""
    rng = np.random.default_rng(4)
    fitted = Calibrator(alpha=0.1).fit(LARGE.X[:100], LARGE.y[:100])
    seen = []
    for share in np.linspace(0, 0.2, 41):
        y = np.where((rng.random(LARGE.y.shape) < share) & (LARGE.y != 255), 0, LARGE.y)
        report = fitted.evaluate(LARGE.X[100:], y[100:])
        (low, high), risk = report.interval, report.empirical_risk
        seen.append(
            "whole 95 % interval are at or below alpha" in report.verdict
            if high <= 0.1
            else "interval extends above alpha" in report.verdict
            if risk <= 0.1
            else "interval contains alpha" in report.verdict
            if low <= 0.1
            else "whole 95 % interval are above alpha" in report.verdict
        )
        assert low <= risk <= high
    assert all(seen)


@pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning")  # they are wrong
def test_the_verdict_names_sets_that_tell_little() -> None:
    X, y = LARGE.X, (LARGE.y + 1) % LARGE.X.shape[1]  # as if classes were numbered otherwise
    fitted = Calibrator(alpha=0.02).fit(X[:100], y[:100])
    report = fitted.evaluate(X[100:], y[100:])
    assert f"The sets tell little: they hold {report.activation_ratio:.3g} of 4 classes" in report.verdict
    easy = Calibrator(alpha=0.9).fit(LARGE.X[:100], LARGE.y[:100]).evaluate(X[100:], LARGE.y[100:])
    assert "Lambda-hat is 0: the sets cannot be smaller" in easy.verdict


def test_full_sets_are_not_praised() -> None:
    """They miss nothing, whatever the model is: no interval says more."""
    full = Calibrator(alpha=0.001, on_infeasible="full").fit(LARGE.X[:100], LARGE.y[:100])
    report = full.evaluate(LARGE.X[100:], LARGE.y[100:])
    assert (report.interval, report.interval_method) == ((0, 0), "the sets hold every class")
    assert {row.miss_rate_interval for row in report.classes if row.n_images} == {(0, 0)}
    assert report.verdict == (
        "alpha needs more than the 100 images of calibration, so every set holds all classes. The result says nothing "
        "about the model."
    )


def test_images_of_calibration_are_recognised() -> None:
    X, y = LARGE.X, LARGE.y
    fitted = Calibrator(alpha=0.1).fit(X[:100], y[:100])
    order = np.random.default_rng(0).permutation(100)
    pairs = np.arange(100) // 2
    grouped = Calibrator(alpha=0.1).fit(X[:100], y[:100], groups=pairs)
    for each, options in ((fitted, {}), (grouped, {"groups": pairs[order]})):
        with pytest.warns(UserWarning, match="these images seem to be those of calibration"):
            each.evaluate(X[order], y[order], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.evaluate(X[100:], y[100:])
        Calibrator(alpha=0.1).fit(X[:9], y[:9]).evaluate(X[:9], y[:9])  # few may be an accident
        tiny = Calibrator(alpha=0.1).fit(X[:100, :, :2, :2], y[:100, :2, :2])  # whose shares are few
        tiny.evaluate(X[:100, :, :2, :2], y[:100, :2, :2])


def test_who_calibrated_is_known_from_files(tmp_path: Path) -> None:
    groups = np.arange(len(LARGE.X)) // 2
    grouped = Calibrator(alpha=0.2).fit(LARGE.X, LARGE.y, groups=groups)
    grouped.save(tmp_path / "grouped.json")
    loaded = Calibrator.load(tmp_path / "grouped.json")
    report = loaded.evaluate(LARGE.X, LARGE.y, groups=groups)
    assert report.calibrated_on == f"{len(LARGE.X) // 2} groups"
    with pytest.warns(UserWarning, match="calibration was by groups, but evaluation counts images"):
        ungrouped = loaded.evaluate(LARGE.X, LARGE.y)
    assert f"calibrated on     {len(LARGE.X) // 2} groups" in str(ungrouped)


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
