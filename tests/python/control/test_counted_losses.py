"""Losses that may rise with lambda: counted beside a slow twin, controlled by Learn then Test alone."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from fractions import Fraction
from math import ceil, e, exp, log, sqrt
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import conformask as cm
from conformask.losses import Loss
from problems import Problem, wide

PROBLEM = wide(n=60, size=(6, 7))
ASCENDING = [0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1.0]

Set = set[tuple[int, int]]


def share_held(covered: NDArray, totals: NDArray, held: NDArray) -> NDArray:
    """Of the sets of labelled pixels how much they hold, to K."""
    return held.sum(axis=1) / (totals.sum(axis=1) * totals.shape[1])


LOSSES: dict[str, Loss] = {
    "precision of one": cm.PrecisionLoss([1]),
    "precision of two": cm.PrecisionLoss([3, 0]),
    "jaccard of one": cm.JaccardLoss([2]),
    "jaccard of all": cm.JaccardLoss([0, 1, 2, 3]),
    "own": cm.CountsLoss(share_held),
}


# The twin: sets of (pixel, class)


def pairs(mask: NDArray, label: NDArray) -> tuple[Set, Set]:
    """What the sets of labelled pixels hold, and what they should."""
    pixels = [at for at in np.ndindex(label.shape) if label[at] != 255]
    held = {(at, k) for at in pixels for k in range(len(mask)) if mask[(k, *at)]}
    return held, {(at, int(label[at])) for at in pixels}


def loss_of(name: str, mask: NDArray, label: NDArray) -> Fraction | None:
    held, truth = pairs(mask, label)
    if not truth:
        return None
    if name == "own":
        return Fraction(len(held), len(truth) * len(mask))
    loss = LOSSES[name]
    assert isinstance(loss, cm.PrecisionLoss | cm.JaccardLoss)
    if isinstance(loss, cm.PrecisionLoss):
        chosen = {pair for pair in held if pair[1] in loss.classes}
        return Fraction(len(chosen - truth), len(chosen)) if chosen else Fraction(0)
    found = []
    for k in loss.classes:
        own, true = ({pair for pair in each if pair[1] == k} for each in (held, truth))
        if own | true:
            found.append(1 - Fraction(len(own & true), len(own | true)))
    return sum(found, Fraction()) / len(found) if found else Fraction(0)


def losses_of(name: str, problem: Problem, lam: float, score: object = "lac") -> list[Fraction | None]:
    masks = cm.kernels.threshold(problem.X, lam, score)
    return [loss_of(name, mask, label) for mask, label in zip(masks, problem.y, strict=True)]


SCORES = {
    "lac": cm.LAC(),
    "lac without the first": cm.LAC(include_top1=False),
    "aps": cm.APS(),
    "raps": cm.RAPS(0.1, 2),
    "sacp": cm.SACP(),
    "sacp of lac": cm.SACP(cm.LAC(), include_top1=False),
    "own": lambda X: np.sqrt(1 - np.asarray(X, np.float64).clip(max=1)),
}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_counts_are_those_of_the_masks(score: str, dtype: str) -> None:
    y = PROBLEM.y.copy()
    y[3] = 255
    X = PROBLEM.X.astype(dtype)
    profiles = cm.profile(X, y, SCORES[score], grid=ASCENDING)
    held, valid = profiles._core.held(), (y != 255)[:, np.newaxis]
    for place, lam in enumerate(ASCENDING):
        masks = cm.kernels.threshold(X, lam, SCORES[score])
        assert held[..., place].tolist() == (masks & valid).sum(axis=(2, 3)).tolist()
    assert np.isnan(profiles.losses(cm.PrecisionLoss([0]), ASCENDING)[3]).all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_the_twin(name: str) -> None:
    loss = LOSSES[name]
    profiles = cm.profile(PROBLEM.X, PROBLEM.y, grid=ASCENDING)
    table = profiles.losses(loss, [0.9, 0.2, 0.5])
    for column, lam in zip(table.T, [0.9, 0.2, 0.5], strict=True):
        expected = [float(value) for value in losses_of(name, PROBLEM, lam) if value is not None]
        assert column.tolist() == pytest.approx(expected, abs=1e-15)
        assert cm.kernels.losses(PROBLEM.X, PROBLEM.y, lam, loss=loss).tolist() == column.tolist()
        masks = cm.kernels.threshold(PROBLEM.X, lam)
        found = cm.metrics.empirical_risk(PROBLEM.y, masks, loss, average=False)
        assert found.tolist() == column.tolist()
        assert profiles.risk(loss, lam) == pytest.approx(float(np.mean(expected)), abs=1e-15)
    lambdas, risks = profiles.risk_curve(loss)
    assert lambdas.tolist() == ASCENDING
    assert risks.tolist() == [profiles.risk(loss, lam) for lam in ASCENDING]


def p_value(total: Fraction, n: int, alpha: float) -> float:
    a = min(float(total / n), alpha)
    h = (a * log(a / alpha) if a else 0) + ((1 - a) * log((1 - a) / (1 - alpha)) if a < 1 else 0)
    return min(exp(-n * h), e * stats.binom.cdf(ceil(total), n, alpha))


@pytest.mark.parametrize("correction", ["fixed_sequence", "bonferroni"])
@pytest.mark.parametrize("name", LOSSES)
def test_valid_lambdas_are_those_of_the_twin(name: str, correction: str) -> None:
    loss, n, delta = LOSSES[name], len(PROBLEM.X), 0.1
    sums = [sum(losses_of(name, PROBLEM, lam), Fraction()) for lam in ASCENDING]
    alpha = float(sorted(sums)[4] / n) + (0.22 if correction == "bonferroni" else 0.1)
    level = delta / (len(ASCENDING) if correction == "bonferroni" else 1)
    passed = [p_value(total, n, alpha) <= level for total in sums]
    if correction == "fixed_sequence":
        passed = np.logical_and.accumulate(passed).tolist()
    expected = [lam for lam, passes in zip(ASCENDING, passed, strict=True) if passes]
    calibrator = cm.ConformalRiskCalibrator(
        loss=loss, alpha=alpha, method=cm.LTT(delta, ASCENDING, correction)
    )
    if not expected:
        assert correction == "fixed_sequence"
        with pytest.raises(cm.InfeasibleRiskError, match="first that is tested, 0, does not pass"):
            calibrator.fit(PROBLEM.X, PROBLEM.y)
        return
    calibrator.fit(PROBLEM.X, PROBLEM.y)
    assert calibrator.valid_lambdas_.tolist() == expected
    assert calibrator.lambda_hat_ == expected[-1]
    assert calibrator.risk_ < calibrator.risk_bound_ <= alpha


def test_a_fixed_sequence_stops_at_a_gap() -> None:
    """Of a loss that is large at lambdas in the middle alone."""

    def in_the_middle(covered: NDArray, totals: NDArray, held: NDArray) -> NDArray:
        share = share_held(covered, totals, held)
        return ((share > 0.3) & (share < 0.6)).astype(float)

    loss, grids = cm.CountsLoss(in_the_middle), (ASCENDING, ASCENDING[::-1])
    risks = [cm.profile(PROBLEM.X, PROBLEM.y, grid=ASCENDING).risk(loss, lam) for lam in ASCENDING]
    assert risks[0] == risks[-1] == 0
    assert max(risks) > 0.9
    for grid in grids:
        sums = [sum(losses_of_own(in_the_middle, lam)) for lam in grid]
        passed = [p_value(Fraction(total), len(PROBLEM.X), 0.2) for total in sums]
        calibrator = cm.ConformalRiskCalibrator(loss=loss, alpha=0.2, method=cm.LTT(0.1, grid))
        sequence = calibrator.fit(PROBLEM.X, PROBLEM.y).valid_lambdas_.tolist()
        first_above = next(i for i, p in enumerate(passed) if p > 0.1)
        assert first_above > 0
        assert sequence == grid[:first_above]
        each = calibrator.recalibrate(method=cm.LTT(0.1, grid, "bonferroni"))
        expected = [lam for lam, p in zip(grid, passed, strict=True) if p <= 0.01]
        assert each.valid_lambdas_.tolist() == expected
        assert {0.0, 1.0} <= set(expected)
        assert len(expected) < len(grid)


def losses_of_own(function: Callable[..., NDArray], lam: float) -> list[int]:
    """Of a loss that is 0 or 1, from the masks."""
    masks, valid = cm.kernels.threshold(PROBLEM.X, lam), (PROBLEM.y != 255)[:, np.newaxis]
    truth = np.stack([PROBLEM.y == k for k in range(4)], axis=1)
    counts = [each.sum(axis=(2, 3)) for each in (masks & truth, truth, masks & valid)]
    return [int(loss) for loss in function(*counts)]


def test_sums_are_decided_exactly() -> None:
    """Three images of loss 1/3 have the sum of 1, which 3 floats do not."""
    X = np.tile(np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])[np.newaxis, :, np.newaxis], (60, 1, 1, 1))
    y = np.zeros((60, 1, 3), int)
    y[:30, 0, 0] = 1  # 30 images with a false positive among 3
    y[:, 0, 1:] = 0
    loss = cm.PrecisionLoss([0])
    profiles = cm.profile(X, y, grid=[0.0])
    sums = profiles.losses(loss, 0.0).sum()
    assert sums == pytest.approx(10)
    assert Fraction(1 / 3) * 30 != 10
    units = profiles._units(loss, "skip")
    for budget, fits in [(Fraction(10), True), (10 - Fraction(1, 10**20), False)]:
        assert profiles._passed(loss, np.array([0.0]), budget, units).tolist() == [fits]


# Calibrators


LTT = cm.LTT(0.2, ASCENDING)


def fitted(loss: Loss | None = None, alpha: float = 0.6, **others: object) -> cm.ConformalRiskCalibrator:
    calibrator = cm.ConformalRiskCalibrator(
        loss=loss or cm.PrecisionLoss([1]), alpha=alpha, method=LTT, **others
    )
    return calibrator.fit(PROBLEM.X[:40], PROBLEM.y[:40])


def test_recalibration_needs_the_same_grid() -> None:
    calibrator = fitted()
    again = calibrator.recalibrate(alpha=0.7)
    assert again.lambda_hat_ >= calibrator.lambda_hat_
    assert again.recalibrate(alpha=0.6).valid_lambdas_.tolist() == calibrator.valid_lambdas_.tolist()
    turned = calibrator.recalibrate(method=cm.LTT(0.2, ASCENDING[::-1], "bonferroni"))
    assert set(turned.valid_lambdas_) <= set(ASCENDING)
    part = calibrator.recalibrate(method=cm.LTT(0.3, ASCENDING[:3]))
    assert part.lambda_hat_ in ASCENDING[:3]
    with pytest.raises(ValueError, match=r"counted at 10 lambdas from 0 to 1, and 0.3 is none.*fit again"):
        calibrator.recalibrate(method=cm.LTT(0.2, [0.0, 0.3]))
    other = calibrator.recalibrate(loss=cm.JaccardLoss([0, 1, 2, 3]), alpha=0.9)
    assert other.risk_bound_ <= 0.9
    marginal = calibrator.recalibrate(loss="miscoverage", method="crc", alpha=0.2)
    plain = cm.ConformalRiskCalibrator(alpha=0.2).fit(PROBLEM.X[:40], PROBLEM.y[:40])
    assert marginal.lambda_hat_ == plain.lambda_hat_
    with pytest.raises(ValueError, match=r"not known how many pixels hold each class.*fit with method=LTT"):
        plain.recalibrate(loss=cm.PrecisionLoss([1]), method=LTT)


def test_evaluation_is_that_of_the_masks() -> None:
    calibrator = fitted()
    X, y = PROBLEM.X[40:], PROBLEM.y[40:]
    report = calibrator.evaluate(X, y, alphas=[0.7, 0.65])
    expected = cm.metrics.empirical_risk(y, calibrator.predict(X), calibrator.loss)
    assert report.empirical_risk == expected
    for each, alpha in zip(report.sweep, [0.7, 0.65], strict=True):
        again = calibrator.recalibrate(alpha=alpha)
        assert each.empirical_risk == cm.metrics.empirical_risk(y, again.predict(X), calibrator.loss)
    assert calibrator.score(X, y) == 1 - expected


def test_batches_workers_and_files(tmp_path: Path) -> None:
    whole = fitted()
    X, y = PROBLEM.X[:40], PROBLEM.y[:40]
    parts = cm.ConformalRiskCalibrator(loss=cm.PrecisionLoss([1]), alpha=0.6, method=LTT)
    parts.partial_fit(X[:10], y[:10]).partial_fit(list(X[10:25]), list(y[10:25]))
    other = cm.ConformalRiskCalibrator(loss=cm.PrecisionLoss([1]), alpha=0.6, method=LTT)
    parts.merge(other.partial_fit(X[25:], y[25:]))
    assert parts.valid_lambdas_.tolist() == whole.valid_lambdas_.tolist()
    assert parts.risk_ == whole.risk_
    parts.save(tmp_path / "c.json", profiles=True)
    loaded = cm.ConformalRiskCalibrator.load(tmp_path / "c.json")
    assert loaded.loss == cm.PrecisionLoss([1])
    assert loaded.recalibrate(alpha=0.7).lambda_hat_ == whole.recalibrate(alpha=0.7).lambda_hat_
    for profiles in (whole.profiles_, loaded.profiles_[5:20]):
        again = pickle.loads(pickle.dumps(profiles))
        assert (
            again.losses(cm.PrecisionLoss([1]), ASCENDING).tolist()
            == profiles.losses(cm.PrecisionLoss([1]), ASCENDING).tolist()
        )
    own = fitted(cm.CountsLoss(share_held), 0.9)
    with pytest.raises(TypeError, match="only built-in losses can be saved"):
        own.save(tmp_path / "own.json")


def test_groups_and_images_without_labels() -> None:
    y = PROBLEM.y.copy()
    y[2:5] = 255
    groups = np.arange(60) // 2
    calibrator = cm.ConformalRiskCalibrator(loss=cm.PrecisionLoss([1]), alpha=0.7, method=LTT)
    with pytest.warns(cm.DroppedImagesWarning, match="3 of 60 images"):
        calibrator.fit(PROBLEM.X, y, groups=groups)
    assert calibrator.n_images_ == 29  # images 2 and 3 were a group
    losses = calibrator.profiles_.losses(cm.PrecisionLoss([1]), calibrator.lambda_hat_)
    means = [np.nanmean(losses[groups == group]) for group in range(30) if group != 1]
    assert calibrator.risk_ == pytest.approx(np.mean(means), abs=1e-12)


CHANGES: dict[str, tuple[Callable[[dict], object], str]] = {
    "no counts": (lambda a: a.pop("held"), "lacks held"),
    "no grid": (lambda a: a.pop("grid"), "'held', which profiles do not have"),
    "of another K": (lambda a: a.update(held=a["held"][:, :3]), "held is an array of"),
    "of another grid": (lambda a: a.update(grid=a["grid"][:-1]), "held is an array of"),
    "a grid that descends": (lambda a: a.update(grid=a["grid"][::-1]), "counted are none"),
    "a grid beyond": (lambda a: a.update(grid=a["grid"] * 2), "counted are none"),
    "a grid of NaN": (lambda a: a.update(grid=a["grid"] * np.nan), "counted are none"),
    "more than there are": (lambda a: a["held"].__setitem__((0, 0), 10**6), "not those of the labelled"),
    "fewer than covered": (lambda a: a["held"].__setitem__((0, 0), 0), "not those of the labelled"),
    "falling": (lambda a: a.update(held=a["held"][..., ::-1]), "not those of the labelled"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_damaged_files(change: str, tmp_path: Path) -> None:
    profiles = cm.profile(PROBLEM.X[:5], PROBLEM.y[:5], grid=ASCENDING)
    profiles.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as file:
        arrays = dict(file)
    damage, message = CHANGES[change]
    damage(arrays)
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        cm.ScoreProfiles.load(tmp_path / "bad.npz")


# What is refused


def test_profiles_of_different_grids_do_not_merge() -> None:
    plain, counted, other = (
        cm.profile(PROBLEM.X[i : i + 5], PROBLEM.y[i : i + 5], grid=grid)
        for i, grid in [(0, None), (5, ASCENDING), (10, ASCENDING[:4])]
    )
    for first, second in [(plain, counted), (counted, plain), (counted, other)]:
        with pytest.raises(
            ValueError, match="counted at other lambdas in one of the profiles, or in one only"
        ):
            first.merge(second)
    assert plain[:0].merge(counted).risk(cm.PrecisionLoss([1]), 0.5) == counted.risk(
        cm.PrecisionLoss([1]), 0.5
    )
    assert counted.merge(plain[:0]).risk(cm.PrecisionLoss([1]), 0.5) == counted.risk(
        cm.PrecisionLoss([1]), 0.5
    )


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_other_methods_refuse_them_and_name_ltt(loss: Loss) -> None:
    for method in (cm.CRC(), cm.PAC(0.1), cm.RCPS(0.1), cm.RCPS(0.1, "wsr")):
        calibrator = cm.ConformalRiskCalibrator(loss=loss, method=method)
        with pytest.raises(
            ValueError, match=r"needs a loss that does not rise with lambda.*take LTT\(delta, grid\)"
        ):
            calibrator.fit(PROBLEM.X, PROBLEM.y)
        counted = cm.profile(PROBLEM.X, PROBLEM.y, grid=ASCENDING)
        with pytest.raises(ValueError, match=r"take LTT\(delta, grid\)"):
            counted.lambda_hat(loss, 0.5, method=method)


def test_what_is_refused() -> None:
    loss = cm.PrecisionLoss([1])
    calibrator = cm.ConformalRiskCalibrator(loss=loss, method=LTT)
    for changes, message in [
        ({"on_infeasible": "full"}, "takes full sets, but the loss .* may rise with lambda"),
        ({"profile": "binned"}, "bins cannot hold the loss .* may rise with lambda"),
        ({"loss": cm.PrecisionLoss([4])}, "names class 4, but there are K = 4"),
        ({"loss": cm.JaccardLoss([7])}, "names class 7, but there are K = 4"),
        ({"method": cm.LTT(0.1, [0.0, 1.5])}, r"grid must lie in \[0, 1\].*got 1.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            cm.ConformalRiskCalibrator(**(calibrator.get_params() | changes)).fit(PROBLEM.X, PROBLEM.y)
    for kind in (cm.PrecisionLoss, cm.JaccardLoss):
        for classes in ([], [1, 1], [-1]):
            with pytest.raises(ValueError, match="classes must be distinct class indices"):
                kind(classes)
        with pytest.raises(TypeError, match="class indices"):
            kind([0.5])
    with pytest.raises(TypeError, match="must be a function of three arrays"):
        cm.CountsLoss(3)
    bad = {
        lambda covered, totals, held: totals: r"must return an array of floats, one for each of 60 images",
        lambda covered, totals, held: np.full(len(totals), 1.5): r"must lie in \[0, 1\], got 1.5",
        lambda covered, totals, held: np.full(len(totals), np.nan): r"must lie in \[0, 1\], got nan",
    }
    for function, message in bad.items():
        with pytest.raises((TypeError, ValueError), match=message):
            cm.ConformalRiskCalibrator(loss=cm.CountsLoss(function), method=LTT).fit(PROBLEM.X, PROBLEM.y)
    for grid, message in [
        ([], "at least one lambda"),
        ([-0.1], "at least 0"),
        (["0.1", None], "must be a number"),
        ([2.0], r"grid must lie in \[0, 1\]"),
        (0.5, "must be a sequence"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            cm.profile(PROBLEM.X, PROBLEM.y, grid=grid)
    with pytest.raises(ValueError, match="grid needs profile='exact'"):
        cm.profile(PROBLEM.X, PROBLEM.y, grid=[0.5], collect=["miscoverage"])


# The promise: images of one pixel, whose label is drawn, so that the risk is known


REPETITIONS, N = 2_000, 60
P_OF_PIXELS = np.linspace(0.95, 0.05, 19)  # of class 1, each as often as the others
TRUE = P_OF_PIXELS**2  # how often it is the label then


def precision_risk(lam: float) -> float:
    """How often a pixel holds class 1 and has another label."""
    return float((1 - TRUE[lam >= 1 - P_OF_PIXELS]).sum()) / len(TRUE)


@pytest.mark.parametrize("correction", ["fixed_sequence", "bonferroni"])
def test_the_precision_of_new_images_is_kept_with_confidence(correction: str) -> None:
    rng, delta, grid = np.random.default_rng(7), 0.2, np.linspace(0.125, 0.925, 9)
    risks = {lam: precision_risk(lam) for lam in grid.tolist()}
    alpha = round(risks[grid.tolist()[5]], 3) - 0.001  # a little more than it is most easily found valid
    assert sum(risk > alpha for risk in risks.values()) == 4
    kinds = rng.integers(0, 19, REPETITIONS * N)
    y = (rng.random(len(kinds)) < TRUE[kinds]).astype(int).reshape(-1, 1, 1)
    X = np.stack([1 - P_OF_PIXELS, P_OF_PIXELS])[:, kinds].T.reshape(-1, 2, 1, 1)
    profiles = cm.profile(X, y, cm.LAC(include_top1=False), grid=grid)
    method, loss, found = cm.LTT(delta, grid, correction), cm.PrecisionLoss([1]), []
    for i in range(REPETITIONS):
        try:
            lam = profiles[i * N : (i + 1) * N].lambda_hat(loss, alpha, method=method)
        except cm.InfeasibleRiskError:
            found.append(0.0)
        else:
            found.append(risks[lam])
    exceeded = float((np.array(found) > alpha).mean())
    assert exceeded <= delta + 3 * sqrt(delta * (1 - delta) / REPETITIONS)
    assert exceeded > 0
