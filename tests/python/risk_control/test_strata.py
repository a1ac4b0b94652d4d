"""Lambdas of strata: each stratum's risk is controlled on its own images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import conformask as cm

Calibrator = cm.ConformalRiskCalibrator
HOSPITALS = np.array(["north", "south", "east"])


def images(seed: int, n: int) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.str_]]:
    """Scores, labels and hospitals, each of which the model serves differently."""
    rng = np.random.default_rng(seed)
    strata = HOSPITALS[rng.integers(0, 3, n)]
    sharp = np.select([strata == "north", strata == "south"], [0.3, 0.8], 1.5)
    X = np.stack([rng.dirichlet(np.full(3, a), size=(5, 6)).transpose(2, 0, 1) for a in sharp]).astype(
        np.float32
    )
    y = (X.cumsum(axis=1) < rng.random((n, 1, 5, 6))).sum(axis=1).clip(max=2)
    y[:, 0, 0] = 255
    return X, y, strata


def test_each_stratum_gets_the_lambda_of_its_images() -> None:
    X, y, strata = images(0, 90)
    found = Calibrator(alpha=0.1).fit(X, y, strata=strata)
    assert found.strata_ == ["east", "north", "south"]
    for name, lam, risk, corrected in zip(
        found.strata_, found.lambda_hat_, found.risk_, found.corrected_risk_, strict=True
    ):
        own = strata == name
        alone = Calibrator(alpha=0.1).fit(X[own], y[own])
        assert (alone.lambda_hat_, alone.risk_, alone.corrected_risk_) == (lam, risk, corrected)
        assert (found.predict(X[own], strata=strata[own]) == alone.predict(X[own])).all()
    lambdas = dict(zip(found.strata_, found.lambda_hat_, strict=True))
    assert (found.predict_lambdas(X, strata=strata) == [lambdas[name] for name in strata]).all()
    assert len(set(found.lambda_hat_)) == 3
    assert (found.set_size(X, strata=strata) == found.predict(X, strata=strata).sum(axis=1)).all()
    assert found.varisco(X, strata=strata).max() <= 1
    assert found.n_images_ == 90


def test_in_parts_in_any_order_it_is_one_fit() -> None:
    X, y, strata = images(1, 60)
    whole = Calibrator(alpha=0.1).fit(X, y, strata=strata)
    back = np.arange(60)[::-1]
    first = Calibrator(alpha=0.1).partial_fit(X[back[:20]], y[back[:20]], strata=strata[back[:20]])
    second = Calibrator(alpha=0.1).partial_fit(X[back[20:]], y[back[20:]], strata=strata[back[20:]])
    first.merge(second)
    assert first.strata_ == whole.strata_
    assert (first.lambda_hat_ == whole.lambda_hat_).all()
    stream = whole.predict(iter(X), strata=list(strata))
    assert (np.stack(list(stream)) == whole.predict(X, strata=strata)).all()
    assert (
        Calibrator(alpha=0.1).fit(list(X), list(y), strata=list(strata)).lambda_hat_ == whole.lambda_hat_
    ).all()


def test_profiles_that_are_chosen_keep_their_strata() -> None:
    X, y, strata = images(13, 40)
    profiles = Calibrator(alpha=0.3).fit(X, y, strata=strata).profiles_
    halves = profiles[20:].merge(profiles[np.arange(20)])
    assert halves._strata == [*strata[20:], *strata[:20]]
    assert profiles[strata == "east"]._strata == ["east"] * int((strata == "east").sum())


def test_numbers_are_names_too_and_groups_count_once_in_each() -> None:
    X, y, strata = images(2, 120)
    numbers = np.array([list(HOSPITALS).index(name) for name in strata])
    groups = np.arange(120) // 2
    found = Calibrator(alpha=0.1).fit(X, y, strata=numbers, groups=groups)
    assert found.strata_ == [0, 1, 2]
    own = numbers == 1
    assert found.lambda_hat_[1] == Calibrator(alpha=0.1).fit(X[own], y[own], groups=groups[own]).lambda_hat_
    with pytest.warns(UserWarning, match="calibration was by groups"):
        found.evaluate(X, y, strata=numbers)


def test_recalibration_and_methods_are_those_of_each_stratum() -> None:
    X, y, strata = images(3, 150)
    found = Calibrator(alpha=0.1).fit(X, y, strata=strata).recalibrate(method=cm.RCPS(0.2), alpha=0.25)
    own = strata == "east"
    alone = Calibrator(alpha=0.25, method=cm.RCPS(0.2)).fit(X[own], y[own])
    assert found.lambda_hat_[0] == alone.lambda_hat_
    report = found.evaluate(X, y, strata=strata, alphas=[0.2, 0.3])
    assert [each.parts[0].lambda_hat for each in report.sweep] == [
        alone.recalibrate(alpha=alpha).lambda_hat_ for alpha in (0.2, 0.3)
    ]


def test_losses_that_rise_with_lambda_are_tested_in_each_stratum() -> None:
    X, y, strata = images(10, 240)
    method = cm.LTT(0.2, np.linspace(0, 1, 21))
    asked = {"loss": cm.PrecisionLoss([0, 1]), "alpha": 0.6, "method": method}
    found = Calibrator(**asked).fit(X[:120], y[:120], strata=strata[:120])
    for name, lam in zip(found.strata_, found.lambda_hat_, strict=True):
        own = strata[:120] == name
        assert Calibrator(**asked).fit(X[:120][own], y[:120][own]).lambda_hat_ == lam
    assert len(set(found.lambda_hat_)) > 1
    report = found.evaluate(X[120:], y[120:], strata=strata[120:])
    for part in report.parts:
        own = strata[120:] == part.name
        alone = Calibrator(**asked).fit(
            X[:120][strata[:120] == part.name], y[:120][strata[:120] == part.name]
        )
        assert part.risk == pytest.approx(alone.evaluate(X[120:][own], y[120:][own]).empirical_risk)


def test_losses_that_rise_with_lambda_have_no_full_sets() -> None:
    X, y, _ = images(11, 142)
    strata = np.array(["many"] * 122 + ["few"] * 20)
    asked: dict[str, Any] = {
        "loss": cm.PrecisionLoss([0, 1]),
        "alpha": 0.6,
        "method": cm.LTT(0.1, np.linspace(0, 1, 21)),
    }
    few = cm.LTT(0.1, np.linspace(0, 1, 21)).n_needed(0.6)
    assert few <= 20
    with pytest.raises(
        cm.InfeasibleRiskError, match=r"alpha=0.02 is kept by no lambda for 2 strata of 2: few .*no lambda"
    ):
        Calibrator(**{**asked, "alpha": 0.02}).fit(X, y, strata=strata)
    with pytest.raises(cm.InfeasibleRiskError) as raised:
        Calibrator(**{**asked, "alpha": 0.02}).fit(X, y, strata=strata)
    assert "on_rare" not in str(raised.value)
    with pytest.raises(ValueError, match=r"on_unseen='full' takes full sets, but the loss PrecisionLoss"):
        Calibrator(**asked, on_unseen="full").fit(X, y, strata=strata)


def test_tests_that_do_not_pass_are_no_lack_of_images() -> None:
    X, y, strata = images(12, 240)
    method = cm.LTT(0.1, [0.3, 0.2])
    with pytest.warns(
        cm.InfeasibleRiskWarning,
        match=r"too few calibration images or no lambda that passes: .* \(no lambda passes\)",
    ):
        found = Calibrator(alpha=0.1, method=method, on_infeasible="full").fit(X, y, strata=strata)
    assert set(found.rare_.values()) == {None}
    assert found.evaluate(X, y, strata=strata).parts[0].is_rare
    assert "240 of" not in str(found.evaluate(X, y, strata=strata))


def test_the_report_tells_each_stratum() -> None:
    X, y, strata = images(4, 200)
    found = Calibrator(alpha=0.1).fit(X[:100], y[:100], strata=strata[:100])
    report = found.evaluate(X[100:], y[100:], strata=strata[100:])
    assert [part.name for part in report.parts] == ["east", "north", "south"]
    masks = found.predict(X[100:], strata=strata[100:])
    for part in report.parts:
        own = strata[100:] == part.name
        assert part.risk == pytest.approx(cm.metrics.empirical_risk(y[100:][own], masks[own]))
        assert part.interval[0] < part.risk < part.interval[1]
        assert part.n_images == own.sum()
        assert part.n_calibration == (strata[:100] == part.name).sum()
    assert report.empirical_risk == pytest.approx(cm.metrics.empirical_risk(y[100:], masks))
    assert "Risk of each stratum, which alpha limits" in str(report)
    assert found.score(X[100:], y[100:], strata=strata[100:]) == 1 - report.empirical_risk


def test_rare_strata_get_full_sets_or_a_lambda_together_or_are_refused() -> None:
    X, y, strata = images(5, 80)
    strata = strata.astype("<U9")
    strata[:5], strata[5:11] = "lake", "hill"
    with pytest.warns(
        cm.InfeasibleRiskWarning,
        match=r"2 strata of 5 have .*hill \(6 of 9\), lake \(5 of 9\)",
    ):
        full = Calibrator(alpha=0.1).fit(X, y, strata=strata)
    assert full.rare_ == {"hill": 9, "lake": 9}
    assert full.predict(X[:11], strata=strata[:11]).all()
    with pytest.warns(cm.InfeasibleRiskWarning, match="share one lambda"):
        pooled = Calibrator(alpha=0.1, on_rare="pooled").fit(X, y, strata=strata)
    alone = Calibrator(alpha=0.1).fit(X[:11], y[:11])
    assert [pooled.lambda_hat_[pooled.strata_.index(name)] for name in ("hill", "lake")] == [
        alone.lambda_hat_
    ] * 2
    with pytest.raises(cm.InfeasibleRiskError, match=r"hill \(6 of 9\), lake \(5 of 9\)"):
        Calibrator(alpha=0.1, on_rare="raise").fit(X, y, strata=strata)


def test_unseen_strata_are_refused_or_get_full_sets() -> None:
    X, y, strata = images(6, 60)
    found = Calibrator(alpha=0.1).fit(X, y, strata=strata)
    with pytest.raises(
        ValueError, match=r"strata has 'west', which no calibration image belongs to.*on_unseen='full'"
    ):
        found.predict(X[:2], strata=["east", "west"])
    masks = found.set_params(on_unseen="full").predict(X[:2], strata=["east", "west"])
    assert masks[1].all()
    assert not masks[0].all()


@pytest.mark.parametrize(
    ("strata", "words"),
    [
        (["a"] * 11, "strata must hold an int or string for each of 12 images"),
        (["a"] * 11 + [1], "strata must hold an int or string"),
        ([1.5] * 12, "strata must hold an int or string"),
        ("abcdefghijkl", "strata must hold an int or string"),
        ({"a": 1}, "strata must be a sequence"),
    ],
)
def test_strata_that_are_none(strata: Any, words: str) -> None:
    X, y, _ = images(7, 12)
    with pytest.raises((ValueError, TypeError), match=words):
        Calibrator(alpha=0.1).fit(X, y, strata=strata)
    found = Calibrator(alpha=0.5).fit(X, y, strata=["a"] * 12)
    with pytest.raises((ValueError, TypeError), match=words):
        found.predict(X, strata=strata)


def test_what_is_missing_or_does_not_go_together() -> None:
    X, y, strata = images(8, 30)
    found = Calibrator(alpha=0.3).fit(X, y, strata=strata)
    with pytest.raises(ValueError, match="strata have lambdas of their own: give the stratum of each image"):
        found.predict(X)
    with pytest.raises(ValueError, match=r"strata= was given, but calibration had none"):
        Calibrator(alpha=0.3).fit(X, y).predict(X, strata=strata)
    with pytest.raises(ValueError, match=r"conditional='class' and strata= cannot be combined"):
        Calibrator(alpha=0.3, conditional="class").fit(X, y, strata=strata)
    with pytest.raises(ValueError, match=r"strata= and sample_weight= above 1 cannot be combined"):
        Calibrator(alpha=0.3).fit(X, y, strata=strata, sample_weight=[2.0] * 30)
    with pytest.raises(ValueError, match=r"strata needs profile='exact'"):
        Calibrator(alpha=0.3, profile="binned").fit(X, y, strata=strata)
    with pytest.raises(ValueError, match=r"strata must be given for all images or for none"):
        Calibrator(alpha=0.3).partial_fit(X, y, strata=strata).partial_fit(X[:3] * 1, y[:3])
    with pytest.raises(ValueError, match=r"strata has 30 entries, but X has 29 images"):
        list(found.predict(iter(X[:29]), strata=list(strata)))
    with pytest.raises(ValueError, match=r"strata has 29 entries, but X has more images"):
        list(found.predict(iter(X), strata=list(strata[:29])))


def test_files_hold_the_strata(tmp_path: Path) -> None:
    X, y, strata = images(9, 60)
    for names in (strata, np.array([list(HOSPITALS).index(name) for name in strata])):
        found = Calibrator(alpha=0.1).fit(X, y, strata=names)
        found.save(tmp_path / "one.json", profiles=True)
        same = Calibrator.load(tmp_path / "one.json")
        assert same.strata_ == found.strata_
        assert (same.predict(X, strata=names) == found.predict(X, strata=names)).all()
        assert (same.recalibrate(alpha=0.2).lambda_hat_ == found.recalibrate(alpha=0.2).lambda_hat_).all()
        more = same.partial_fit(*images(99, 1)[:2], strata=names[:1])
        assert more.n_images_ == 61


# Guarantees, by simulation: seeds fixed beforehand


def test_each_stratum_keeps_its_risk() -> None:
    """Strata whose losses follow known laws: 2,000 calibrations of 45 images, and the true risk of each."""
    rng = np.random.default_rng(20261128)
    repetitions, n, alpha, n_pixels = 2000, 45, 0.2, 20
    shapes = {"easy": 1.0, "hard": 4.0}
    risks: dict[str, list[float]] = {name: [] for name in shapes}
    pooled: list[float] = []
    for _ in range(repetitions):
        strata = np.where(rng.random(n) < 0.4, "hard", "easy")
        X, y = maps_of(rng.random((n, n_pixels)), np.array([shapes[name] for name in strata]))
        found = Calibrator(cm.LAC(include_top1=False), alpha=alpha).fit(X, y, strata=strata)
        for name, lam in zip(found.strata_, found.lambda_hat_, strict=True):
            risks[str(name)].append(1 - float(lam) ** (1 / shapes[str(name)]))
        pooled.append(1 - found.profiles_.lambda_hat("miscoverage", alpha) ** (1 / shapes["hard"]))
    for name in shapes:
        mean, error = np.mean(risks[name]), np.std(risks[name]) / math.sqrt(len(risks[name]))
        assert mean <= alpha + 3 * error
        assert mean >= alpha - 0.06  # and no smaller than n allows
    # One lambda for all is better for one stratum and worse for the other.
    assert abs(np.mean(pooled) - alpha) > 0.05


def maps_of(
    draws: NDArray[np.float64], shapes: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Images whose critical values V of LAC have P(V <= v) = v^(1 / shape)."""
    values = draws ** shapes[:, np.newaxis]
    X = np.stack([1 - values, values], axis=1)[:, :, np.newaxis]
    return X, np.zeros((len(draws), 1, draws.shape[1]), np.int64)
