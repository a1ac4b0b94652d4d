"""One threshold for all images: against the twin in fractions, closed forms, and by simulation. Seeds are fixed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

import adaptive_twin as twin
import conformask as cm
from conformask import _core

SIDES = {"fnr": "foreground", "fpr": "background"}


def problem(
    n: int = 30, seed: int = 0, dtype: str = "float32", ties: bool = False, shape: tuple[int, ...] = (7, 9)
) -> tuple[NDArray, NDArray]:
    """Probabilities and masks; some void, some images without a foreground, zeros and ones among them."""
    rng = np.random.default_rng(seed)
    P = rng.beta(0.6, 0.9, (n, *shape))
    if ties:
        P = (P * 8).round() / 8
    P = P.astype(dtype)
    y = (rng.random(P.shape) < P).astype(np.uint8)
    y[rng.random(P.shape) < 0.1] = 255
    y[:: n // 3, ...][y[:: n // 3, ...] == 1] = 0
    return P, y


def budget(n: int, alpha: str) -> Fraction:
    return Fraction(alpha) * (n + 1) - 1


def quiet(calibrator: Any, *data: Any, **more: Any) -> Any:
    with pytest.warns(cm.DroppedImagesWarning):
        return calibrator.fit(*data, **more)


# By definition


def test_by_hand() -> None:
    values = [[0.9, 0.2], [0.8], [0.7, 0.6, 0.5], [0.95]]
    P = [np.array([row]) for row in values]
    calibrator = cm.BinaryRiskCalibrator(alpha=0.4).fit(P, [np.ones(p.shape, bool) for p in P])
    assert calibrator.threshold_ == 0.6
    assert calibrator.risk_ == pytest.approx((1 / 2 + 1 / 3) / 4)
    with pytest.raises(cm.InfeasibleRiskError, match="needs at least 9 calibration images, there are 4"):
        calibrator.recalibrate(alpha=0.1)


@pytest.mark.parametrize("risk", SIDES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("on_empty", ["skip", "zero_loss"])
def test_thresholds_and_masks_are_those_of_the_twin(risk: str, dtype: str, ties: bool, on_empty: str) -> None:
    P, y = problem(dtype=dtype, ties=ties)
    if risk == "fpr":
        y = np.where(y == 255, 255, 1 - y).astype(np.uint8)
        P = 1 - P
    pixels = twin.pixels_of(P, y, SIDES[risk])
    n_defined = sum(map(bool, pixels))
    assert n_defined < len(P)
    n = n_defined if on_empty == "skip" else len(P)
    calibrator = cm.BinaryRiskCalibrator(0.15, risk=risk, on_empty=on_empty)
    calibrator = quiet(calibrator, P, y) if on_empty == "skip" else calibrator.fit(P, y)
    t = twin.correction(pixels, [0.0] * len(P), budget(n, "0.15"), side=SIDES[risk])
    assert t is not None
    if risk == "fnr":
        assert calibrator.threshold_ == -t
    else:
        assert calibrator.threshold_ == np.nextafter(t, 2)
    known = np.stack([twin.is_in(p, 0.0, t, SIDES[risk]) for p in P])
    assert (calibrator.predict(P) == known).all()
    assert (known == (P.astype(np.float64) >= calibrator.threshold_)).all()
    losses = [twin.loss(row, 0.0, t, SIDES[risk]) for row in pixels if row]
    assert calibrator.risk_ == pytest.approx(float(sum(losses) / n), abs=1e-15)
    assert calibrator.corrected_risk_ == pytest.approx(float((sum(losses) + 1) / (n + 1)), abs=1e-15)
    assert (calibrator.n_images_, calibrator.n_skipped_) == (n, len(P) - n)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 16), max_size=6), min_size=1, max_size=8),
    st.data(),
    st.sampled_from(["foreground", "background"]),
)
def test_corrections_of_any_offsets_are_those_of_the_twin(
    images: list[list[int]], data: st.DataObject, side: str
) -> None:
    """With ties, images without pixels, probabilities of 0 and 1, shares and budgets of any size."""
    offsets = [data.draw(st.integers(0, 16)) / 16 for _ in images]
    shares = [Fraction(data.draw(st.integers(0, 3)), 3) for _ in images]
    allowed = Fraction(data.draw(st.integers(-1, 40)), 12)
    values = [[p / 16 for p in row] for row in images]
    core = _core.BinaryValues.concatenate(
        [
            _core.BinaryValues.build(
                np.array([[[*row, 0.5]]]),
                np.array([[[int(side == "foreground")] * len(row) + [7]]]),
                side,
                7,
                0,
            )
            for row in values
        ]
    )
    found = core.correction(np.array(offsets), shares, allowed)
    assert found == twin.correction(values, offsets, allowed, shares, side)
    if found is None:
        return
    known = [
        float(twin.loss(row, o, found, side)) if row else np.nan
        for row, o in zip(values, offsets, strict=True)
    ]
    assert np.allclose(core.losses(np.array(offsets), found), known, rtol=0, atol=1e-15, equal_nan=True)
    cutoffs = _core.binary_cutoffs(side, np.array(offsets), found)
    everything = np.arange(17) / 16
    for offset, cutoff in zip(offsets, cutoffs, strict=True):
        assert ((everything >= cutoff) == twin.is_in(everything, offset, found, side)).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_corrections_of_floats_that_differ_in_the_last_bit(dtype: str) -> None:
    """0.5 - 0.4 and 0.4 - 0.3 are not the same float: prediction goes by the very difference of calibration."""
    rng = np.random.default_rng(3)
    images = [(rng.integers(0, 11, 8) / 10).astype(dtype) for _ in range(12)]
    offsets = rng.integers(0, 11, 12) / 10
    ones = np.ones((1, 1, 8), np.uint8)
    core = _core.BinaryValues.concatenate(
        [_core.BinaryValues.build(p[None, None], ones, "foreground", None, 0) for p in images]
    )
    values = [p.astype(np.float64).tolist() for p in images]
    for alpha in range(1, 12):
        t = core.correction(offsets, [Fraction(1)] * 12, Fraction(alpha))
        assert t == twin.correction(values, offsets.tolist(), Fraction(alpha))
        cutoffs = _core.binary_cutoffs("foreground", offsets, t)
        held = [(np.float64(p) >= c).mean() for p, c in zip(images, cutoffs, strict=True)]
        assert np.allclose(1 - np.array(held), core.losses(offsets, t), rtol=0, atol=1e-15)
        assert sum(Fraction(round(8 * (1 - share)), 8) for share in held) <= alpha


@pytest.mark.parametrize("side", ["foreground", "background"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("alpha", ["0.001", "0.1", "0.6", "0.999"])
def test_of_many_values_the_next_candidate_breaks_the_bound(side: str, dtype: str, alpha: str) -> None:
    """So many that a sample narrows the search: the sum fits at t, and not at the next value below, exactly."""
    rng = np.random.default_rng(4)
    n, shape = 24, (200, 160)
    P = rng.beta(rng.choice([0.5, 1, 3], (n, 1, 1)), 1, (n, *shape)).astype(dtype)
    y = rng.random(P.shape) < rng.uniform(0.5, 1, (n, 1, 1))
    y = y if side == "foreground" else ~y
    core = _core.BinaryValues.build(P, y.view(np.uint8), side, None, 0)
    offsets, shares = rng.random(n), [Fraction(int(k), 3) for k in rng.integers(1, 4, n)]
    allowed = Fraction(alpha) * sum(shares)
    t = core.correction(offsets, shares, allowed)
    assert t is not None
    sign = 1 if side == "foreground" else -1
    right = y if side == "foreground" else ~y
    criticals = [
        np.where((p == 1) if side == "foreground" else (p == 0), -1, sign * (o - p.astype(np.float64)))[m]
        for p, o, m in zip(P, offsets, right, strict=True)
    ]

    def summed(t: float) -> Fraction:
        wrong = [Fraction(int((c > t).sum()), c.size) for c in criticals]
        return sum((share * each for share, each in zip(shares, wrong, strict=True)), Fraction())

    assert summed(t) <= allowed
    below = max(c[c < t].max(initial=-1) for c in criticals)
    assert t in np.concatenate(criticals)
    assert summed(float(below)) > allowed


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_pixel_is_right_from_its_own_t_on(dtype: str) -> None:
    """Which ``p >= offset - t`` would not say: a difference of differences is rounded twice."""
    rng = np.random.default_rng(5)
    offsets, p = rng.random(4000) ** 2, (rng.random(4000) ** 3).astype(dtype).astype(np.float64)
    t = offsets - p
    cutoffs = np.array(
        [_core.binary_cutoffs("foreground", offsets[i : i + 1], t[i])[0] for i in range(len(t))]
    )
    assert (cutoffs <= p).all()
    assert dtype == "float16" or (offsets - t > p).any()
    earlier = [
        _core.binary_cutoffs("foreground", offsets[i : i + 1], np.nextafter(t[i], -1))[0]
        for i in range(len(t))
    ]
    assert (np.array(earlier) > p).all()


def test_the_correction_of_the_methods_example() -> None:
    """Dyadic numbers in place of 0.1: differences are exact."""
    offsets = np.array([5, 6, 4]) / 16
    values = [[9, 5.5, 4, 2], [8, 7], [9, 5, 3.5, 3, 1]]
    ones = np.ones((1, 1, 1), np.uint8)
    core = _core.BinaryValues.concatenate(
        [
            _core.BinaryValues.build(
                np.array([[row]]) / 16, np.repeat(ones, len(row), -1), "foreground", None, 0
            )
            for row in values
        ]
    )
    ones = [Fraction(1)] * 3

    def at(alpha: str) -> float | None:
        return core.correction(offsets, ones, budget(3, alpha))

    assert (at("0.45"), at("0.25"), at("0.2")) == (1 / 16, 3 / 16, None)


# Closed forms


@pytest.mark.parametrize("a", [1, 4])
def test_one_group_of_known_distribution(a: int) -> None:
    """p ~ Beta(a, 1) on the foreground: the false negative rate at tau is tau^a."""
    rng = np.random.default_rng(11)
    P = rng.beta(a, 1, (99, 200, 200)).astype(np.float32)
    calibrator = cm.BinaryRiskCalibrator(alpha=0.1).fit(P, np.ones(P.shape, bool))
    rate = (100 * 0.1 - 1) / 99
    error = np.sqrt(rate * (1 - rate) / P.size) / (a * rate ** (1 - 1 / a))
    assert abs(calibrator.threshold_ - rate ** (1 / a)) < 5 * error


def test_two_groups_of_known_distribution() -> None:
    """The population's threshold of a in {1, 4} at alpha = 0.1 is 0.198449, its coverage gap 0.098449."""
    rng = np.random.default_rng(12)
    P = np.concatenate([rng.beta(a, 1, (100, 100, 100)) for a in (1, 4)]).astype(np.float32)
    y = np.ones(P.shape, bool)
    calibrator = cm.BinaryRiskCalibrator(alpha=Fraction(1, 201) + Fraction(200, 201) * Fraction(1, 10)).fit(
        P, y
    )
    assert abs(calibrator.threshold_ - 0.198449) < 2e-3
    report = cm.BinaryRiskCalibrator(alpha=0.1).fit(P, y).evaluate(P, y)
    assert abs(report.coverage_gap - 0.098449) < 6e-3
    assert abs(report.exceedance - 0.5) < 1e-12


def test_it_is_family_1_with_two_classes() -> None:
    P, y = problem(dtype="float64", seed=5)
    P = np.where(P < 1, P, 0.5)
    calibrator = quiet(cm.BinaryRiskCalibrator(alpha=0.2), P, y)
    X = np.stack([1 - P, P], axis=1)
    other = quiet(
        cm.ConformalRiskCalibrator(cm.LAC(include_top1=False), loss=cm.FalseNegativeLoss([1]), alpha=0.2),
        X,
        y,
    )
    assert other.lambda_hat_ == 1 - calibrator.threshold_
    assert other.risk_ == calibrator.risk_


# Promises, by simulation


@pytest.mark.parametrize("risk", SIDES)
@pytest.mark.parametrize("ties", [False, True])
def test_the_risk_of_a_new_image_is_at_most_alpha(risk: str, ties: bool) -> None:
    """2,000 calibrations of 19 images of very different difficulty: the mean risk of the 20th."""
    rng = np.random.default_rng(21)
    alpha, losses = 0.1, np.empty(2000)
    for i in range(len(losses)):
        a = rng.choice([0.5, 1, 4], 20)[:, None, None]
        P = rng.beta(a, 1, (20, 1, 12))
        P = ((P * 16).round() / 16 if ties else P).astype(np.float16 if ties else np.float32)
        y = np.ones(P.shape, bool)
        if risk == "fpr":
            P, y = 1 - P, ~y
        fitted = cm.BinaryRiskCalibrator(alpha, risk=risk).fit(P[:19], y[:19])
        mask = fitted.predict(P[19:])
        losses[i] = mask.mean() if risk == "fpr" else 1 - mask.mean()
    error = losses.std() / np.sqrt(len(losses))
    assert losses.mean() <= alpha + 2 * error
    if not ties:
        assert losses.mean() >= alpha - 1 / 20 - 2 * error  # it is not much too careful


def test_rcps_keeps_its_confidence() -> None:
    rng = np.random.default_rng(22)
    true_risk = [
        cm.BinaryRiskCalibrator(0.2, method=cm.RCPS(0.1))
        .fit(rng.beta(1, 1, (60, 1, 8)), np.ones((60, 1, 8), bool))
        .threshold_  # of p ~ U(0, 1) the risk at tau is tau
        for _ in range(500)
    ]
    assert np.mean(np.array(true_risk) > 0.2) <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / 500)


# Images in any form


def forms() -> dict[str, Callable[[NDArray, NDArray], tuple[Any, Any]]]:
    return {
        "list": lambda P, y: (list(P), list(y)),
        "pairs": lambda P, y: (zip(P, y, strict=True), None),
        "bool": lambda P, y: (P, y == 1),
        "int64": lambda P, y: (P, y.astype(np.int64)),
        "strided": lambda P, y: (P.transpose(0, 2, 1).copy().transpose(0, 2, 1), y[:, :, ::-1][:, :, ::-1]),
        "big-endian": lambda P, y: (P.astype(">f4"), y),
    }


@pytest.mark.parametrize("form", forms())
def test_images_in_any_form(form: str) -> None:
    P, y = problem(seed=6)
    y[y == 255] = 0
    known = quiet(cm.BinaryRiskCalibrator(0.2), P, y)
    fitted = quiet(cm.BinaryRiskCalibrator(0.2), *forms()[form](P, y))
    assert fitted.threshold_ == known.threshold_
    maps, labels = forms()[form](P, y)
    if labels is not None:
        assert np.array_equal(np.stack(list(fitted.predict(maps))), known.predict(P))
        assert np.array_equal(fitted.predict_thresholds(maps), [known.threshold_] * len(P))
        assert fitted.evaluate(maps, labels).to_dict() == known.evaluate(P, y).to_dict()


def test_volumes_and_images_of_different_sizes() -> None:
    P, y = problem(seed=6, shape=(3, 4, 5))
    flat = quiet(cm.BinaryRiskCalibrator(0.2), P.reshape(len(P), 12, 5), y.reshape(len(P), 12, 5))
    assert quiet(cm.BinaryRiskCalibrator(0.2), P, y).threshold_ == flat.threshold_
    assert flat.predict(P).shape == P.shape
    sizes = [p.ravel()[: 20 + i].reshape(1, -1) for i, p in enumerate(P)]
    labels = [m.ravel()[: 20 + i].reshape(1, -1) for i, m in enumerate(y)]
    mixed = quiet(cm.BinaryRiskCalibrator(0.2), sizes, labels)
    pixels = [p[m == 1].astype(np.float64).tolist() for p, m in zip(sizes, labels, strict=True)]
    n = sum(map(bool, pixels))
    t = twin.correction(pixels, [0.0] * len(P), budget(n, "0.2"))
    assert mixed.threshold_ == -t
    assert [m.shape for m in mixed.predict(iter(sizes))] == [p.shape for p in sizes]


def test_workers_give_what_one_gives() -> None:
    P, y = problem(seed=7, n=40)
    known = quiet(cm.BinaryRiskCalibrator(0.2), P, y)
    first = cm.BinaryRiskCalibrator(0.2).partial_fit(P[:10], y[:10]).partial_fit(P[10:15], y[10:15])
    second = cm.BinaryRiskCalibrator(0.2).partial_fit(P[15:], y[15:])
    for sent in (second, pickle.loads(pickle.dumps(second))):
        merged = pickle.loads(pickle.dumps(first)).merge(sent)
        with pytest.warns(cm.DroppedImagesWarning):
            assert merged.threshold_ == known.threshold_
        assert (merged.risk_, merged.n_images_) == (known.risk_, known.n_images_)
    for n_threads in (1, 2, 3):
        cm.set_num_threads(n_threads)
        assert quiet(cm.BinaryRiskCalibrator(0.2), P, y).threshold_ == known.threshold_
    cm.set_num_threads(None)


def test_groups_and_weights_by_definition() -> None:
    P, y = problem(seed=8)
    groups = [i // 4 for i in range(len(P))]
    pixels = twin.pixels_of(P, y)
    sizes = {g: sum(bool(row) and h == g for row, h in zip(pixels, groups, strict=True)) for g in set(groups)}
    shares = [Fraction(bool(row), sizes[g]) for row, g in zip(pixels, groups, strict=True)]
    grouped = quiet(cm.BinaryRiskCalibrator(0.3), P, y, groups=groups)
    t = twin.correction(pixels, [0.0] * len(P), budget(len(sizes), "0.3"), shares)
    assert (grouped.threshold_, grouped.n_images_) == (-t, len(sizes))
    weights = [(i % 5) / 4 for i in range(len(P))]
    weighted = quiet(cm.BinaryRiskCalibrator(0.3), P, y, sample_weight=weights)
    shares = [Fraction(weight) * bool(row) for weight, row in zip(weights, pixels, strict=True)]
    t = twin.correction(pixels, [0.0] * len(P), Fraction(3, 10) * (sum(shares) + 1) - 1, shares)
    assert weighted.threshold_ == -t


def test_what_lies_under_void_changes_nothing() -> None:
    P, y = problem(seed=9)
    known = quiet(cm.BinaryRiskCalibrator(0.2), P, y)
    other = np.where(y == 255, 1 - P, P)
    fitted = quiet(cm.BinaryRiskCalibrator(0.2), other, y)
    assert fitted.threshold_ == known.threshold_
    assert fitted.evaluate(other, y).to_dict() == known.evaluate(P, y).to_dict()


def test_images_that_come_twice() -> None:
    P, y = problem(n=12, seed=10)
    P, y = np.concatenate([P, P[5:6]]), np.concatenate([y, y[5:6]])
    with pytest.warns(cm.DuplicateImagesWarning, match="images 5 and 12 of 13 are the same"):
        quiet(cm.BinaryRiskCalibrator(0.2), P, y)
    first = cm.BinaryRiskCalibrator(0.2).partial_fit(P[:12], y[:12])
    with pytest.warns(cm.DuplicateImagesWarning, match="images 5 and 12 of 13 are the same"):
        first.partial_fit(P[12:], y[12:])


# The report


def test_the_report_by_definition() -> None:
    P, y = problem(seed=13, n=60)
    fitted = quiet(cm.BinaryRiskCalibrator(0.2), P[:30], y[:30])
    report = fitted.evaluate(P[30:], y[30:])
    masks = fitted.predict(P[30:])
    rates, false_rates, sizes = [], [], []
    for mask, labels in zip(masks, y[30:], strict=True):
        rates.append(1 - mask[labels == 1].mean() if (labels == 1).any() else np.nan)
        false_rates.append(mask[labels == 0].mean())
        sizes.append(mask[labels != 255].mean())
    rates = np.array(rates)
    known = rates[~np.isnan(rates)]
    assert np.allclose(report.risks, rates, equal_nan=True)
    assert report.empirical_risk == pytest.approx(known.mean())
    assert report.coverage == pytest.approx(1 - known.mean())
    assert report.coverage_gap == pytest.approx(abs(known - 0.2).mean())
    assert report.exceedance == pytest.approx((known > 0.2).mean())
    assert report.tail_risk == pytest.approx(np.sort(known)[-3:].mean())
    assert report.false_positive_rate == pytest.approx(np.mean(false_rates))
    assert report.size == pytest.approx(np.mean(sizes))
    assert (report.n_images, report.n_skipped) == (len(known), 30 - len(known))
    assert report.interval[0] < report.empirical_risk < report.interval[1]
    assert fitted.score(P[30:], y[30:]) == pytest.approx(1 - known.mean())
    assert (report.thresholds == fitted.threshold_).all()


def test_the_report_of_full_masks() -> None:
    P, y = problem(seed=14, n=12)
    calibrator = cm.BinaryRiskCalibrator(0.01, on_infeasible="full")
    with pytest.warns(cm.InfeasibleRiskWarning, match="all masks hold every pixel"):
        quiet(calibrator, P, y)
    assert calibrator.predict(P).all()
    assert calibrator.evaluate(P, y).infeasible
    inner = cm.BinaryRiskCalibrator(0.01, risk="fpr", on_infeasible="full")
    with pytest.warns(cm.InfeasibleRiskWarning, match="all masks are empty"):
        inner.fit(P, y)
    assert not inner.predict(P).any()
    assert inner.threshold_ > 1


# Bad input

P, Y = problem(seed=15)
Y[Y == 255] = 0


def with_value(value: float) -> NDArray:
    bad = P.copy()
    bad[7, 2, 3] = value
    return bad


BAD: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "above 1": (with_value(1.5), Y, ValueError, r"P holds 1\.5 in image 7 at pixel \(2, 3\).*expit"),
    "below 0": (with_value(-0.5), Y, ValueError, r"P holds -0\.5 in image 7.*expit"),
    "NaN": (
        with_value(np.nan),
        Y,
        ValueError,
        r"P holds NaN in image 7 at pixel \(2, 3\): .* \[0, 1\]; where P has no data",
    ),
    "infinity": (with_value(np.inf), Y, ValueError, r"P holds inf in image 7"),
    "bytes": ((P * 255).astype(np.uint8), Y, TypeError, r"P must be float16, float32 or float64, got uint8"),
    "K classes": (np.stack([1 - P, P], 1), Y, ValueError, r"y must have shape .* P\[:, 1\]$"),
    "one image": (
        P[0],
        Y[0],
        ValueError,
        r"P must have shape \(n, H, W\) .* got \(7, 9\); one image is P\[None\]",
    ),
    "other sizes": (P[:, :5], Y, ValueError, r"y must have shape \(30, 5, 9\) to match P"),
    "masks of 0 and 255": (P, Y * 255, ValueError, r"y holds no pixel labelled 1, .* pass y == 255$"),
    "labels of classes": (P, Y * 2, ValueError, r"y holds label 2 in image \d+, outside \[0, 2\)"),
    "float masks": (P, Y - 0.5, TypeError, r"y must hold integer labels.*-?0\.5.* at pixel \(0, 0\)"),
    "no masks": (P, None, TypeError, r"y is missing"),
    "no pixels": (P[:, :0], Y[:, :0], ValueError, r"P .*empty"),
    "a path": ("maps.npy", Y, TypeError, r"P must be an array"),
    "object arrays": (P.astype(object), Y, TypeError, r"P is an object array"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images(name: str) -> None:
    maps, labels, error, says = BAD[name]
    calibrator = quiet(cm.BinaryRiskCalibrator(0.2), P, Y)
    known = calibrator.threshold_
    for use in (calibrator.fit, calibrator.partial_fit, calibrator.evaluate):
        if (name, use) != ("masks of 0 and 255", calibrator.partial_fit):  # a part may well have no object
            with pytest.raises(error, match=says):
                use(maps, labels)
    assert calibrator.threshold_ == known


@pytest.mark.parametrize("name", ["above 1", "NaN", "bytes", "one image"])
def test_bad_images_at_prediction(name: str) -> None:
    maps, _, error, says = BAD[name]
    calibrator = quiet(cm.BinaryRiskCalibrator(0.2), P, Y)
    with pytest.raises(error, match=says):
        calibrator.predict(maps)


@pytest.mark.parametrize("nothing", [(P[:0], Y[:0]), ([], []), (iter([]), None)])
def test_no_image_changes_nothing(nothing: tuple) -> None:
    calibrator = quiet(cm.BinaryRiskCalibrator(0.2), P, Y)
    before = calibrator.threshold_
    with pytest.raises(ValueError, match="P is empty: it holds no image"):
        calibrator.fit(*nothing)
    assert calibrator.partial_fit(*nothing).threshold_ == before
    with pytest.raises(NotFittedError):
        cm.BinaryRiskCalibrator(0.2).partial_fit(*nothing).predict(P)
    with pytest.raises(ValueError, match="P is empty"):
        list(calibrator.predict(nothing[0]))


def test_merges_that_do_not_fit() -> None:
    calibrator = quiet(cm.BinaryRiskCalibrator(0.2), P, Y)
    for other, error, says in [
        (calibrator, ValueError, "itself"),
        (cm.ConformalRiskCalibrator(), TypeError, "must be a BinaryRiskCalibrator"),
        (
            cm.BinaryRiskCalibrator(0.2, risk="fpr").fit(P, Y),
            ValueError,
            "risk differs: 'fnr' here, 'fpr' there",
        ),
        (quiet(cm.BinaryRiskCalibrator(0.2, ignore_index=7), P, Y), ValueError, "ignore_index differs"),
        (
            quiet(cm.BinaryRiskCalibrator(0.2), P, Y, groups=range(30)),
            ValueError,
            "groups must be given for all",
        ),
    ]:
        with pytest.raises(error, match=says):
            calibrator.merge(other)


def test_a_merge_asks_how_images_were_read_not_what_was_set_since() -> None:
    read_otherwise = quiet(cm.BinaryRiskCalibrator(0.2, ignore_index=7), P, Y).set_params(ignore_index=255)
    with pytest.raises(ValueError, match="ignore_index differs: 255 here, 7 there"):
        quiet(cm.BinaryRiskCalibrator(0.2), P, Y).merge(read_otherwise)


def test_empty_images_by_policy() -> None:
    with pytest.raises(ValueError, match="image 0 has no pixel of the foreground: its rate is undefined"):
        cm.BinaryRiskCalibrator(0.2, on_empty="raise").fit(P, Y)
    skipped, counted = (
        quiet(cm.BinaryRiskCalibrator(0.2), P, Y),
        cm.BinaryRiskCalibrator(0.2, on_empty="zero_loss"),
    )
    assert skipped.n_skipped_ == 3
    assert counted.fit(P, Y).n_images_ == 30
    assert counted.threshold_ > skipped.threshold_


def test_files_hold_the_result(tmp_path: Path) -> None:
    fitted = quiet(cm.BinaryRiskCalibrator(0.2, risk="fnr"), P, Y)
    fitted.save(tmp_path / "one.json")
    loaded = cm.BinaryRiskCalibrator.load(tmp_path / "one.json")
    assert loaded.threshold_ == fitted.threshold_
    assert np.array_equal(loaded.predict(P), fitted.predict(P))
    with pytest.raises(ValueError, match="nothing was kept of the images"):
        loaded.recalibrate(alpha=0.3)


def test_arrays_that_are_no_values_are_refused() -> None:
    core = _core.BinaryValues.build(P, Y, "foreground", None, 0)
    totals, said, lengths, values = core.to_arrays()
    again = _core.BinaryValues.from_arrays("foreground", totals, said, lengths, values)
    assert (again.hashes() == core.hashes()).all()
    assert (again.said() == core.said()).all()
    for bad in [
        ("foreground", totals[:-1], said, lengths, values),
        ("foreground", totals, said[:-1], lengths, values),
        ("foreground", totals, said + totals[:, :2].max(), lengths, values),
        ("foreground", totals, said, lengths, values[:-1]),
        ("foreground", totals, said, lengths, values + 1),
        ("foreground", totals * 0, said, lengths, values),
        ("apples", totals, said, lengths, values),
    ]:
        with pytest.raises(ValueError, match=r"not a profile|unknown side"):
            _core.BinaryValues.from_arrays(*bad)


def test_bins_of_two_classes_give_nearly_the_same_threshold() -> None:
    """What the docstring says of images that are too many to keep."""
    rng = np.random.default_rng(41)
    P = rng.beta(rng.choice([0.2, 2.0], (60, 1, 1)), 0.8, (60, 16, 16)).astype(np.float32)
    y = (rng.random(P.shape) < P).astype(np.uint8)
    exact = cm.BinaryRiskCalibrator(0.1).fit(P, y)
    score, loss = cm.LAC(include_top1=False), cm.FalseNegativeLoss([1])
    kept = cm.ConformalRiskCalibrator(score, loss=loss, alpha=0.1).fit(np.stack([1 - P, P], axis=1), y)
    assert 1 - kept.lambda_hat_ == pytest.approx(exact.threshold_, abs=1e-15)
    binned = cm.ConformalRiskCalibrator(score, loss=loss, alpha=0.1, profile="binned")
    threshold = 1 - binned.fit(np.stack([1 - P, P], axis=1), y).lambda_hat_
    assert exact.threshold_ * (1 - 2e-3) < threshold <= exact.threshold_
