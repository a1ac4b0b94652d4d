"""Lambdas of classes: each class's risk is controlled on the images that hold it, or the largest of all."""

from __future__ import annotations

import json
import math
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import conformask as cm
from conformask.losses import losses_by_class
from contract.estimators import quiet_fit

Calibrator = cm.ConformalRiskCalibrator


def images(
    seed: int,
    n: int,
    n_classes: int = 4,
    shape: tuple[int, int] = (6, 7),
    absent: float = 0.3,
    dtype: Any = np.float32,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Scores and labels: of each image some classes are absent, and some pixels void."""
    rng = np.random.default_rng(seed)
    X = rng.dirichlet(np.full(n_classes, 0.4), size=(n, *shape)).transpose(0, 3, 1, 2)
    y = (X.cumsum(axis=1) < rng.random((n, 1, *shape))).sum(axis=1).clip(max=n_classes - 1)
    for i in range(n):
        for label in range(1, n_classes):
            if rng.random() < absent:
                y[i][y[i] == label] = 0
    y[rng.random(y.shape) < 0.05] = 255
    return np.ascontiguousarray(X.astype(dtype)), y


def only(y: NDArray[np.int64], label: int) -> NDArray[np.int64]:
    """The same labels as if only the pixels of one class were labelled."""
    return np.where(y == label, y, 255)


SCORES = {
    "lac": cm.LAC(),
    "lac without top-1": cm.LAC(include_top1=False),
    "aps": cm.APS(),
    "sacp": cm.SACP(),
}
LOSSES = {
    "miscoverage": cm.MiscoverageLoss(),
    "binary": cm.BinaryLoss(0.7),
    "squared": lambda coverage: (1 - coverage) ** 2,
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_each_class_gets_the_lambda_of_its_own_pixels(score: Any, loss: Any) -> None:
    X, y = images(0, 40)
    found = Calibrator(score, loss=loss, alpha=0.2, conditional="class").fit(X, y)
    assert found.lambda_hat_.shape == (4,)
    for label in range(4):
        alone = quiet_fit(Calibrator(score, loss=loss, alpha=0.2), X, only(y, label))
        assert alone.lambda_hat_ == found.lambda_hat_[label]
        assert alone.risk_ == found.risk_[label]
        assert alone.corrected_risk_ == found.corrected_risk_[label] <= 0.2


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_a_class_is_in_a_set_up_to_its_own_lambda(score: Any) -> None:
    X, y = images(1, 30)
    found = Calibrator(score, alpha=0.15, conditional="class").fit(X, y)
    masks = found.predict(X)
    for label, lam in enumerate(found.lambda_hat_):
        assert (masks[:, label] == cm.kernels.threshold(X, lam, score)[:, label]).all()
    assert (found.set_size(X) == masks.sum(axis=1)).all()
    assert (found.predict_lambdas(X) == found.lambda_hat_).all()
    # The risk of the calibration images is that of their masks.
    missed = np.array([((y == k) & ~masks[:, k]).sum(axis=(1, 2)) for k in range(4)])
    totals = np.array([(y == k).sum(axis=(1, 2)) for k in range(4)])
    shares = np.divide(missed, totals, out=np.full(missed.shape, np.nan), where=totals > 0)
    assert found.risk_ == pytest.approx(np.nanmean(shares, axis=1), abs=1e-15)


def test_lists_generators_and_parts_are_one_fit() -> None:
    X, y = images(2, 24)
    new = lambda: Calibrator(alpha=0.2, conditional="class")  # noqa: E731
    whole = new().fit(X, y)
    of_list = new().fit(list(X), list(y))
    in_parts = new().partial_fit(X[:9], y[:9]).merge(new().partial_fit(X[9:], y[9:]))
    for each in (of_list, in_parts):
        assert (each.lambda_hat_ == whole.lambda_hat_).all()
        assert (each.risk_ == whole.risk_).all()
    assert (np.stack(list(whole.predict(iter(X)))) == whole.predict(X)).all()
    assert [len(mask) for mask in whole.predict([X[0], X[1][:, :3]])] == [4, 4]


def test_images_that_lack_a_class_are_not_refused() -> None:
    X, y = images(23, 30)
    asked = Calibrator(alpha=0.2, conditional="class", on_empty="raise").fit(X, y)
    assert (asked.lambda_hat_ == Calibrator(alpha=0.2, conditional="class").fit(X, y).lambda_hat_).all()
    y[3] = 255
    with pytest.raises(ValueError, match="undefined on image 3"):
        asked.fit(X, y)


def test_groups_of_images_count_once_where_they_hold_the_class() -> None:
    X, y = images(3, 40)
    groups = np.arange(40) // 2
    found = Calibrator(alpha=0.25, conditional="class").fit(X, y, groups=groups)
    for label in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cm.DroppedImagesWarning)
            alone = Calibrator(alpha=0.25).fit(X, only(y, label), groups=groups)
        assert alone.lambda_hat_ == found.lambda_hat_[label]


# Rare classes


def rare_images() -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Class 3 is in four images, class 2 in none."""
    X, y = images(4, 30, absent=0)
    y[y == 2] = 0
    y[4:][y[4:] == 3] = 1
    return X, y


def test_rare_classes_are_in_every_set_by_default() -> None:
    X, y = rare_images()
    words = r"2 classes of 4 have .*: 2 \(0 of 9\), 3 \(4 of 9\)\. For .* every set"
    with pytest.warns(cm.InfeasibleRiskWarning, match=words):
        found = Calibrator(alpha=0.1, conditional="class").fit(X, y)
    assert found.rare_ == {2: 9, 3: 9}
    assert list(found.lambda_hat_[2:]) == [1, 1]
    assert (found.lambda_hat_[:2] < 1).all()
    assert found.predict(X)[:, 2:].all()
    assert np.isnan(found.risk_[2])
    assert found.risk_[3] == 0
    report = found.evaluate(X, y)
    assert "2 (0 of 9), 3 (4 of 9)" in report.verdict
    assert [part.n_needed for part in report.parts] == [None, None, 9, 9]
    assert [part.n_calibration for part in report.parts] == [30, 30, 0, 4]
    assert "4 of 9: rare" in str(report)


def test_a_pool_that_is_too_small_is_full() -> None:
    X, y = rare_images()
    words = r"2 classes of 4 have .*\. Together they have too few, too\. For the promise to hold, they are in every set"
    with pytest.warns(cm.InfeasibleRiskWarning, match=words):
        found = Calibrator(alpha=0.1, conditional="class", on_rare="pooled").fit(X, y)
    assert list(found.lambda_hat_[2:]) == [1, 1]


def test_the_pool_is_controlled_for_the_pixels_of_all_rare_classes() -> None:
    X, y = images(5, 30, absent=0)
    y[8:][y[8:] == 2] = 0  # in eight images
    y[:22][y[:22] == 3] = 0  # in eight others
    with pytest.warns(
        cm.InfeasibleRiskWarning, match=r"2 classes of 4 .* They share one lambda \(on_rare='pooled'\)"
    ):
        found = Calibrator(alpha=0.1, conditional="class", on_rare="pooled").fit(X, y)
    pool = quiet_fit(Calibrator(alpha=0.1), X, np.where(y >= 2, y, 255))
    assert found.lambda_hat_[2] == found.lambda_hat_[3] == pool.lambda_hat_ < 1


def test_rare_classes_may_be_refused() -> None:
    X, y = rare_images()
    with pytest.raises(
        cm.InfeasibleRiskError, match=r"for 2 classes of 4: 2 \(0 of 9\), 3 \(4 of 9\).*on_rare="
    ):
        Calibrator(alpha=0.1, conditional="class", on_rare="raise").fit(X, y)
    # The images are kept: another level is another question.
    X, y = images(4, 30, absent=0)
    calibrator = Calibrator(alpha=0.02, conditional="class", on_rare="raise")
    with pytest.raises(cm.InfeasibleRiskError):
        calibrator.fit(X, y)
    assert calibrator.recalibrate(alpha=0.2).lambda_hat_.max() < 1


def test_where_all_classes_are_rare_nothing_is_quiet() -> None:
    X, y = images(6, 5)
    with pytest.raises(cm.InfeasibleRiskError, match="for 4 classes of 4"):
        Calibrator(alpha=0.1, conditional="class").fit(X, y)
    with pytest.warns(cm.InfeasibleRiskWarning):
        full = Calibrator(alpha=0.1, conditional="class", on_infeasible="full").fit(X, y)
    assert full.predict(X).all()


# All at once


def worst_twin(masks: NDArray[np.bool_], y: NDArray[np.int64]) -> list[Fraction]:
    """Of each image the largest miss rate of a class."""
    found = []
    for mask, labels in zip(masks, y, strict=True):
        rates = [
            Fraction(int(((labels == k) & ~mask[k]).sum()), int((labels == k).sum()))
            for k in range(len(mask))
            if (labels == k).any()
        ]
        found.append(max(rates))
    return found


@given(
    seed=st.integers(0, 10**6), n=st.integers(9, 24), alpha=st.sampled_from([0.1, 0.125, 0.2, 0.25, 0.3, 0.5])
)
@settings(max_examples=40, deadline=None)
def test_the_largest_loss_is_controlled_exactly(seed: int, n: int, alpha: float) -> None:
    X, y = images(seed, n, shape=(3, 4), dtype=np.float64)
    X = np.round(X * 8) / 8  # ties, and budgets that are met exactly
    X[:, -1] = 1 - X[:, :-1].sum(axis=1)
    X, y = X[(y < 255).any(axis=(1, 2))], y[(y < 255).any(axis=(1, 2))]
    X = X.clip(0)
    X /= X.sum(axis=1, keepdims=True)
    level = Fraction(str(alpha))
    budget = level * (len(X) + 1) - 1
    if budget < 0:
        return
    lam = Calibrator(loss=cm.WorstClassLoss(), alpha=alpha).fit(X, y).lambda_hat_
    assert sum(worst_twin(cm.kernels.threshold(X, lam), y)) <= budget
    if lam > 0:
        below = np.nextafter(lam, 0)
        assert sum(worst_twin(cm.kernels.threshold(X, below), y)) > budget


def test_sums_of_shares_are_those_of_fractions() -> None:
    """Ten losses of 1 / 10 are 1, though their floats are more."""
    values = np.full((19, 1, 10), 0.25)
    values[:10, 0, 0] = 0.75
    X = np.stack([1 - values[:, 0], values[:, 0]], axis=1)[:, :, np.newaxis]
    y = np.zeros((19, 1, 10), int)
    found = Calibrator(cm.LAC(include_top1=False), loss=cm.WorstClassLoss(), alpha=0.1).fit(X, y)
    assert found.lambda_hat_ == 0.25


@given(where=st.integers(0, 300), off=st.sampled_from([-1, 0, 1, 2]), n=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_the_search_steps_over_no_float(where: int, off: int, n: int) -> None:
    """Losses that end at a float just beside one of those that are asked first."""
    from conformask.losses.misses import ImageLoss, _bits, _float

    step = -(-_bits(1.0) // 256)
    limit = _float(min(max(0, where * step + off), _bits(1.0)))

    class Ending(ImageLoss):
        def _kernel(self, n_classes: int) -> Any:
            raise NotImplementedError

        def _of_profile(self, profile: Any, lambdas: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.tile((lambdas < limit).astype(float), (n, 1))

    assert Ending()._lambda_hat([None] * n, Fraction(1, 2), None, 1.0) == limit  # type: ignore[arg-type]


def test_max_is_one_lambda_by_the_largest_loss() -> None:
    X, y = images(7, 60)
    found = Calibrator(alpha=0.2, conditional="class", simultaneous="max").fit(X, y)
    worst = Calibrator(alpha=0.2, loss=cm.WorstClassLoss()).fit(X, y)
    assert (found.lambda_hat_ == worst.lambda_hat_).all()
    assert found.lambda_hat_.shape == (4,)
    assert found.risk_ == worst.risk_
    assert (found.predict(X) == worst.predict(X)).all()
    assert found.evaluate(X[:50], y[:50]).empirical_risk == worst.evaluate(X[:50], y[:50]).empirical_risk


def test_the_largest_loss_of_indicators() -> None:
    X, y = images(8, 60)
    loss = cm.WorstClassLoss(cm.BinaryLoss(0.8))
    pac = Calibrator(loss=loss, alpha=0.3, method=cm.PAC(0.1)).fit(X, y)
    covered = [max(rates) <= Fraction(1, 5) for rates in _rates(pac.predict(X), y)]
    assert pac.risk_ == pytest.approx(1 - np.mean(covered))
    assert pac.risk_ > 0


def _rates(masks: NDArray[np.bool_], y: NDArray[np.int64]) -> list[list[Fraction]]:
    return [
        [
            Fraction(int(((labels == k) & ~mask[k]).sum()), int((labels == k).sum()))
            for k in range(len(mask))
            if (labels == k).any()
        ]
        for mask, labels in zip(masks, y, strict=True)
    ]


def test_the_largest_loss_promises_nothing_for_a_class() -> None:
    X, y = images(19, 60)
    found = Calibrator(alpha=0.2, conditional="class", simultaneous="max").fit(X[:30], y[:30])
    report = found.evaluate(X[30:], y[30:])
    assert (report.by, report.parts) == (None, ())
    assert report.loss.startswith("WorstClassLoss")
    assert "not each class" in str(report)
    losses = found.losses(X[30:], y[30:])
    assert losses.mean() == pytest.approx(report.empirical_risk)
    assert losses.tolist() == [float(worst) for worst in worst_twin(found.predict(X[30:]), y[30:])]


def test_bonferroni_reports_the_largest_loss_and_the_level_of_each() -> None:
    X, y = images(20, 200, absent=0.1)
    found = Calibrator(alpha=0.3, conditional="class", simultaneous="bonferroni").fit(X[:100], y[:100])
    report = found.evaluate(X[100:], y[100:])
    assert report.loss.startswith("WorstClassLoss")
    worst = worst_twin(found.predict(X[100:]), y[100:])
    assert report.empirical_risk == pytest.approx(float(sum(worst)) / 100)
    assert report.part_alpha == 0.075
    assert "which alpha / K = 0.075 limits" in str(report)
    assert "is above alpha / K = 0.075" in report.verdict
    confident = found.recalibrate(method=cm.RCPS(0.2)).evaluate(X[100:], y[100:])
    assert confident.part_alpha == 0.3
    assert "All of these promises hold at once, with confidence 0.8" in confident.verdict


def test_test_images_without_a_class_tell_nothing_of_it() -> None:
    X, y = images(21, 60)
    found = Calibrator(alpha=0.3, conditional="class").fit(X[:40], y[:40])
    without = np.where(y[40:] == 2, 255, y[40:])
    assert "No test image tells of 1 of 4 classes." in found.evaluate(X[40:], without).verdict
    report = found.evaluate(X[40:], np.full_like(y[40:], 255))
    assert "The risks of the classes are unknown" in report.verdict
    assert "above alpha" not in report.verdict


def test_the_largest_loss_may_count_images_without_labels() -> None:
    X, y = images(22, 40)
    y[:4] = 255
    asked = {"conditional": "class", "simultaneous": "max", "on_empty": "zero_loss"}
    found = Calibrator(alpha=0.3, **asked).fit(X, y)
    assert found.n_images_ == 40
    worst = Calibrator(alpha=0.3, loss=cm.WorstClassLoss(), on_empty="zero_loss").fit(X, y)
    assert (found.lambda_hat_ == worst.lambda_hat_).all()


def test_rare_classes_keep_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors that tell of them hold no traceback, whose frames would hold the profiles."""
    from conformask.risk_control import _solve

    seen: list[Any] = []
    known = _solve._with_rare
    monkeypatch.setattr(
        _solve, "_with_rare", lambda names, found, *a: seen.extend(found) or known(names, found, *a)
    )
    X, y = rare_images()
    with pytest.warns(cm.InfeasibleRiskWarning):
        Calibrator(alpha=0.1, conditional="class").fit(X, y)
    errors = [each for each in seen if isinstance(each, cm.InfeasibleRiskError)]
    assert len(errors) == 2
    assert all(each.__traceback__ is None for each in errors)


def test_many_intervals_are_no_verdict() -> None:
    """Of 40 classes of exchangeable images some intervals lie above alpha: chance explains that."""
    rng = np.random.default_rng(3)
    n_beyond = n_verdicts = n_sure = 0
    for _ in range(12):
        values = rng.random((120, 40, 3))
        X, y = maps_of(values, np.ones((120, 40), bool))
        calibrator = Calibrator(cm.LAC(include_top1=False), alpha=0.3, conditional="class").fit(
            X[:60], y[:60]
        )
        report = calibrator.evaluate(X[60:], y[60:])
        n_beyond += sum(part.interval[0] > 0.3 for part in report.parts)
        n_verdicts += "Chance does not explain it" in report.verdict
        n_sure += "an interval that holds for all 40 at once" in report.verdict
        if "is above alpha for" in report.verdict and "holds for all 40 at once" not in report.verdict:
            assert "Of many intervals about one in twenty misses by chance." in report.verdict
    assert n_beyond > 0
    assert n_verdicts == n_sure == 0


def test_bonferroni_divides_the_level_or_the_doubt() -> None:
    X, y = images(9, 200, absent=0.1)
    shared = Calibrator(alpha=0.2, conditional="class", simultaneous="bonferroni").fit(X, y)
    alone = Calibrator(alpha=Fraction(1, 20), conditional="class").fit(X, y)
    assert (shared.lambda_hat_ == alone.lambda_hat_).all()
    confident = Calibrator(
        alpha=0.2, conditional="class", simultaneous="bonferroni", method=cm.RCPS(0.2)
    ).fit(X, y)
    one = Calibrator(alpha=0.2, conditional="class", method=cm.RCPS(0.05)).fit(X, y)
    assert (confident.lambda_hat_ == one.lambda_hat_).all()
    assert str(confident.evaluate(X[:100], y[:100]).method) == "RCPS (Hoeffding-Bentkus) with confidence 0.8"


# Guarantees, by simulation: classes of known laws, seeds fixed beforehand


def test_each_class_keeps_its_risk_and_all_together_theirs() -> None:
    """Three classes, some of which are absent. Means over 2,000 calibrations of 40 images and a new one."""
    rng = np.random.default_rng(20261128)
    repetitions, n, alpha, n_pixels = 2000, 40, 0.2, 6
    plain, largest = np.full((repetitions, 3), np.nan), np.full((repetitions, 2), np.nan)
    for repetition in range(repetitions):
        has = rng.random((n + 1, 3)) < [0.9, 0.7, 0.6]
        hard = rng.beta(1, [4, 2, 1], (n + 1, 3))  # how hard the class is in the image
        values = rng.random((n + 1, 3, n_pixels)) ** (1 / (0.2 + 3 * hard[:, :, np.newaxis]))
        X, y = maps_of(values, has)
        calibrator = Calibrator(alpha=alpha, conditional="class").fit(X[:n], y[:n])
        by_class = losses_of(calibrator.predict(X[n:]), y[n:])
        plain[repetition] = by_class[0]
        for i, how in enumerate(("bonferroni", "max")):
            level = 0.6 if how == "bonferroni" else alpha  # 0.6 / 3 needs as many images
            calibrator.set_params(simultaneous=how, alpha=level)
            worst = np.nanmax(losses_of(calibrator.predict(X[n:]), y[n:])[0]) if has[n].any() else np.nan
            largest[repetition, i] = worst
    for risks in plain.T:
        known = risks[~np.isnan(risks)]
        assert known.mean() <= alpha + 3 * known.std() / math.sqrt(len(known))
    for risks, level in zip(largest.T, (0.6, alpha), strict=True):
        known = risks[~np.isnan(risks)]
        assert known.mean() <= level + 3 * known.std() / math.sqrt(len(known))
    # One lambda for all pixels does not keep it for the hardest class.
    assert np.nanmean(plain[:, 2]) > 0.15


def maps_of(values: NDArray[np.float64], has: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Images whose pixels of class k have given critical values by LAC without its top-1; of classes that are there."""
    n, n_classes, n_pixels = values.shape
    X = np.zeros((n, n_classes, n_classes, n_pixels), np.float32)
    y = np.full((n, n_classes, n_pixels), 255)
    for k in range(n_classes):
        X[:, k, k] = 1 - values[:, k]
        X[:, (k + 1) % n_classes, k] = values[:, k]
        y[:, k] = np.where(has[:, k, np.newaxis], k, 255)
    y[~has.any(axis=1), 0, 0] = 0  # never without a label
    return X, y


def losses_of(masks: NDArray[np.bool_], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """The miss rates (n, K) of classes; NaN where absent."""
    n_classes = masks.shape[1]
    missed = np.array([((y == k) & ~masks[:, k]).sum(axis=(1, 2)) for k in range(n_classes)], np.uint64).T
    totals = np.array([(y == k).sum(axis=(1, 2)) for k in range(n_classes)], np.uint64).T
    return np.column_stack(list(losses_by_class(cm.MiscoverageLoss(), missed.copy(), totals.copy())))


def test_confidence_holds_for_each_class_and_for_all() -> None:
    """How often the true risk of a class exceeds alpha, in 2,000 calibrations; by Bonferroni that of any class."""
    rng = np.random.default_rng(20261129)
    repetitions, n, alpha, delta, n_pixels = 2000, 60, 0.2, 0.2, 1
    shapes = np.array([0.5, 1.0, 3.0])  # a critical value of class k is at most v with probability v^shape
    exceeds = np.zeros((2, repetitions, 3), bool)
    for repetition in range(repetitions):
        values = rng.random((n, 3, n_pixels)) ** (1 / shapes[:, np.newaxis])
        X, y = maps_of(values, rng.random((n, 3)) < [1.0, 0.9, 0.8])
        calibrator = Calibrator(
            cm.LAC(include_top1=False), loss="binary", alpha=alpha, conditional="class", method=cm.PAC(delta)
        ).fit(X, y)
        for i, simultaneous in enumerate((False, "bonferroni")):
            lambdas = calibrator.set_params(simultaneous=simultaneous).lambda_hat_
            exceeds[i, repetition] = 1 - lambdas**shapes > alpha + 1e-6
    error = math.sqrt(delta * (1 - delta) / repetitions)
    assert (exceeds[0].mean(axis=0) <= delta + 3 * error).all()
    assert exceeds[1].any(axis=1).mean() <= delta + 3 * error
    assert exceeds[0].any(axis=1).mean() > exceeds[1].any(axis=1).mean()


# What is refused


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"loss": cm.FalseNegativeLoss([1])}, r"conditional='class' needs the loss of one class at a time"),
        ({"loss": cm.MiscoverageLoss("balanced")}, r"conditional='class' needs the loss of one class"),
        ({"loss": cm.LabelAccuracyLoss(0.9)}, r"conditional='class' needs the loss of one class"),
        ({"loss": cm.PrecisionLoss([1])}, r"conditional='class' needs the loss of one class at a time"),
        ({"on_empty": "zero_loss"}, r"on_empty='zero_loss' would count images without a class"),
        ({"profile": "binned"}, r"conditional='class' needs .* profile='exact'"),
        ({"adaptive": lambda X, images: np.zeros(len(X))}, r"conditional='class' and adaptive= cannot"),
    ],
)
def test_what_does_not_go_together(parameters: dict[str, Any], words: str) -> None:
    X, y = images(10, 20)
    with pytest.raises(ValueError, match=words):
        Calibrator(alpha=0.2, conditional="class", **parameters).fit(X, y)


def test_simultaneous_needs_classes() -> None:
    X, y = images(10, 20)
    with pytest.raises(ValueError, match=r"simultaneous= is for classes .* conditional='class'"):
        Calibrator(alpha=0.2, simultaneous="max").fit(X, y)


def test_there_is_no_risk_curve_of_one_lambda() -> None:
    X, y = images(11, 20)
    found = Calibrator(alpha=0.2, conditional="class").fit(X, y)
    with pytest.raises(ValueError, match="the risk is no function of one"):
        found.risk_curve()
    with pytest.raises(ValueError, match="there is no one limit"):
        found.risk_limit()
    with pytest.raises(AttributeError, match="there are no strata"):
        found.strata_  # noqa: B018


# Looks and files


def test_it_shows_its_lambdas() -> None:
    X, y = images(12, 30)
    found = Calibrator(alpha=0.2, conditional="class").fit(X, y)
    assert "(4 classes)" in repr(found)
    assert "lambda_hat_" in found._repr_html_()
    report = found.evaluate(X, y)
    assert "Risk of each class, which alpha limits" in str(report)
    assert report.by == "class"
    assert len(report.parts) == 4
    assert [part.risk for part in report.parts] == pytest.approx(found.risk_)
    assert "No class has a risk whose whole 95 % interval is above alpha." in report.verdict


def test_classes_above_alpha_are_named() -> None:
    X, y = images(13, 200)
    found = Calibrator(alpha=0.1, conditional="class").fit(X[:100], y[:100])
    swapped = X[100:][:, [0, 1, 3, 2]]
    report = found.evaluate(swapped, y[100:], class_names=["sky", "road", "car", "bus"])
    assert "above alpha for 2 of 4 classes: car, bus." in report.verdict
    assert "Chance does not explain it" in report.verdict
    assert [part.name for part in report.parts] == ["sky", "road", "car", "bus"]


@pytest.mark.parametrize("simultaneous", [False, "bonferroni", "max"])
def test_files_hold_all_of_it(tmp_path: Path, simultaneous: bool | str) -> None:
    X, y = images(14, 60)
    y[y == 3] = 0
    parameters: dict[str, Any] = {"conditional": "class", "simultaneous": simultaneous, "alpha": 0.4}
    if simultaneous == "max":
        found = Calibrator(**parameters).fit(X, y)
    else:
        with pytest.warns(cm.InfeasibleRiskWarning):
            found = Calibrator(**parameters).fit(X, y)
    for profiles in (False, True):
        found.save(tmp_path / "one.json", profiles=profiles)
        same = Calibrator.load(tmp_path / "one.json")
        assert (same.lambda_hat_ == found.lambda_hat_).all()
        assert np.array_equal(same.risk_, found.risk_, equal_nan=True)
        assert same.rare_ == found.rare_
        assert (same.predict(X) == found.predict(X)).all()
        assert str(same.evaluate(X, y)) == str(found.evaluate(X, y))


def test_files_from_before_have_one_lambda(tmp_path: Path) -> None:
    X, y = images(15, 30)
    found = Calibrator(alpha=0.2).fit(X, y)
    found.save(tmp_path / "one.json")
    text = (tmp_path / "one.json").read_text()
    document = json.loads(text)
    document["format_version"] = 4
    for name in ("conditional", "simultaneous", "on_rare", "on_unseen"):
        del document["parameters"][name]
    for name in ("by", "parts", "needs_weights"):
        del document["results"][name]
    (tmp_path / "one.json").write_text(json.dumps(document))
    assert Calibrator.load(tmp_path / "one.json").lambda_hat_ == found.lambda_hat_


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("by",), "planet"),
        (("parts", 0, "name"), 1),
        (("parts", 0, "lambda_hat"), 1.5),
        (("parts", 0, "lambda_hat"), "nan"),
        (("parts", 0, "risk"), -0.1),
        (("parts", 0, "n_images"), -1),
        (("parts", 0, "n_needed"), 1.5),
        (("parts", 0, "is_rare"), 1),
        (("parts",), []),
        (("needs_weights",), 1),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, place: tuple[Any, ...], value: Any) -> None:
    X, y = images(16, 30)
    Calibrator(alpha=0.2, conditional="class").fit(X, y).save(tmp_path / "one.json")
    document = json.loads((tmp_path / "one.json").read_text())
    inside = document["results"]
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    (tmp_path / "one.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"one\.json"):
        Calibrator.load(tmp_path / "one.json")


def test_worst_class_losses_are_saved(tmp_path: Path) -> None:
    X, y = images(17, 30)
    found = Calibrator(alpha=0.3, loss=cm.WorstClassLoss(cm.BinaryLoss(Fraction(2, 3)))).fit(X, y)
    found.save(tmp_path / "one.json", profiles=True)
    same = Calibrator.load(tmp_path / "one.json")
    assert same.loss == found.loss
    assert same.lambda_hat_ == found.lambda_hat_
    with pytest.raises(ValueError, match=r"WorstClassLoss needs the loss of one class"):
        cm.WorstClassLoss(cm.FalseNegativeLoss([1]))
    with pytest.raises(ValueError, match=r"bins cannot hold the loss WorstClassLoss"):
        Calibrator(loss=cm.WorstClassLoss(), profile="binned").fit(X, y)


def test_a_curve_of_the_largest_loss() -> None:
    X, y = images(18, 30)
    profiles = cm.profile(X, y)
    lambdas, risks = profiles.risk_curve(cm.WorstClassLoss())
    for i in (0, len(lambdas) // 3, len(lambdas) // 2):
        twin = worst_twin(cm.kernels.threshold(X, lambdas[i]), y)
        assert risks[i] == pytest.approx(float(sum(twin)) / len(twin))
    assert cm.metrics.empirical_risk(y, cm.kernels.threshold(X, 0.5), cm.WorstClassLoss()) == pytest.approx(
        float(sum(worst_twin(cm.kernels.threshold(X, 0.5), y))) / len(y)
    )
