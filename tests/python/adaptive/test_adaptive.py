"""Thresholds of images: corrections by the twin, closed forms, promises by simulation with bad models; fixed seeds."""

from __future__ import annotations

import math
import pickle
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, special

import adaptive_twin as twin
import conformask as cm
from conformask import _core
from conformask._image_models import are_same
from conformask.adaptive._network import _backward, _n_weights, train
from conformask.adaptive._report import binary_report
from conformask.adaptive._training import own_thresholds, soft_rate_loss, squared_error

TRAINED = [cm.ATCalibrator, cm.COATCalibrator]


def two_groups(n: int, seed: int, side: int = 100) -> tuple[NDArray, NDArray, NDArray]:
    """p ~ Beta(a, 1) on the foreground, a in {1, 4} by turns: the false negative rate at tau is tau^a."""
    rng = np.random.default_rng(seed)
    a = np.tile([1, 4], n // 2)
    P = rng.beta(a[:, None, None], 1, (n, side, side)).astype(np.float32)
    return P, np.ones(P.shape, bool), a


def scenes(n: int = 40, seed: int = 0, shape: tuple[int, int] = (9, 11)) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    P = rng.beta(rng.choice([0.4, 2.0], (n, 1, 1)), 1.5, (n, *shape)).astype(np.float32)
    y = (rng.random(P.shape) < P).astype(np.uint8)
    y[rng.random(P.shape) < 0.1] = 255
    return P, y


def by_mean(P: NDArray, images: Any = None) -> NDArray:
    """A model that is trained already."""
    return P.reshape(len(P), -1).mean(axis=1, dtype=np.float64)


# The correction


def test_masks_are_those_of_the_twin() -> None:
    P, y = scenes()
    fitted = cm.ATCalibrator(0.15, predictor=by_mean, scale="probability").fit(P[:30], y[:30])
    offsets = by_mean(P)
    t = twin.correction(twin.pixels_of(P[:30], y[:30]), offsets[:30], Fraction(15, 100) * 31 - 1)
    assert t is not None
    assert (fitted.correction_, fitted.n_images_) == (t, 30)
    known = np.stack([twin.is_in(p, offset, t) for p, offset in zip(P, offsets, strict=True)])
    assert (fitted.predict(P) == known).all()
    thresholds = fitted.predict_thresholds(P)
    assert (known == (thresholds[:, None, None] <= P)).all()
    assert np.allclose(thresholds, np.clip(offsets - t, 0, 1), atol=1e-15)
    losses = [twin.loss(row, o, t) for row, o in zip(twin.pixels_of(P, y), offsets, strict=True)]
    assert fitted.risk_ == pytest.approx(float(sum(losses[:30]) / 30), abs=1e-15)
    report = fitted.evaluate(P[30:], y[30:])
    assert np.allclose(report.risks, np.array(losses[30:], float), atol=1e-15)
    assert (report.thresholds == thresholds[30:]).all()


def test_a_perfect_model_of_two_groups() -> None:
    """Of a in {1, 4} with 50 and 49 images the oracle needs t' = 0.0107310: FNR (0.089269, 0.092583)."""
    P, y, a = two_groups(100, 1, side=200)
    oracle = {1: 0.1, 4: 0.1**0.25}
    P, y, a = P[:99], y[:99], a[:99]
    fitted = cm.COATCalibrator(0.1, predictor=lambda P, images: np.array([oracle[i] for i in images])).fit(
        P, y, images=a.tolist()
    )
    assert abs(fitted.correction_ - 0.0107310) < 2e-3
    report = fitted.evaluate(P, y, images=a)
    assert abs(report.risks[a == 1].mean() - 0.089269) < 2e-3
    assert abs(report.risks[a == 4].mean() - 0.092583) < 2e-3


# Training


def test_own_thresholds_by_definition() -> None:
    P = np.array([[[0.9, 0.55, 0.4, 0.2]], [[1.0, 1.0, 0.3, 0.3]], [[0.5, 0.5, 0.5, 0.5]]])
    core = _core.BinaryValues.build(P, np.ones(P.shape, np.uint8), "foreground", None, 0)
    assert own_thresholds(core, Fraction(1, 4)).tolist() == [0.4, 0.3, 0.5]
    assert own_thresholds(core, Fraction(1, 2)).tolist() == [0.55, 1.0, 0.5]
    rng = np.random.default_rng(2)
    P = rng.random((20, 1, 37))
    core = _core.BinaryValues.build(P, np.ones(P.shape, np.uint8), "foreground", None, 0)
    for alpha in (0.1, 0.2, 1 / 37, 0.99):
        m = [math.ceil((1 - Fraction(repr(alpha))) * 37)] * 20
        known = [np.sort(p.ravel())[37 - k] for p, k in zip(P, m, strict=True)]
        assert own_thresholds(core, Fraction(repr(alpha))).tolist() == known


def test_smooth_rates_by_hand_and_against_differences() -> None:
    """METHODS of COAT: p on Y {.9, .6, .45, .2}, tau = .5, T = .05 give .53797."""
    sharp = np.zeros((1, 2000))
    for p in (0.9, 0.6, 0.45, 0.2):  # in the middles of bins
        sharp[0, int(p * 2000)] += 0.25
    middles = (np.arange(2000) + 0.5) / 2000
    rate, slope = _core.smooth_rates(sharp, np.array([0.5]), 0.05)[0]
    assert rate == pytest.approx(0.53797, abs=2e-3)
    s = special.expit((middles - 0.5) / 0.05)
    assert rate == pytest.approx(float(sharp[0] @ s), rel=1e-14)
    assert slope == pytest.approx(-float(sharp[0] @ (s * (1 - s))) / 0.05, rel=1e-12)
    rng = np.random.default_rng(3)
    histograms = rng.dirichlet(np.full(64, 0.1), 30)
    u = rng.random(30)
    for temperature in (0.01, 0.05, 1.0):
        found = _core.smooth_rates(histograms, u, temperature)
        for i in range(30):
            step = temperature * 1e-4
            high, low = (
                _core.smooth_rates(histograms[i : i + 1], u[i : i + 1] + s, temperature)[0, 0]
                for s in (step, -step)
            )
            assert found[i, 1] == pytest.approx((high - low) / (2 * step), abs=1e-6 / temperature)
    far = _core.smooth_rates(histograms[:1], np.array([1e6]), 1e-3)
    assert far.tolist() == [[0.0, 0.0]]


def test_histograms_by_numpy() -> None:
    P, y = scenes(seed=4)
    P[P > 0.95] = 1  # which are not kept
    core = _core.BinaryValues.build(P, y, "foreground", 255, 0)
    for row, p, labels in zip(core.histograms(128), P, y, strict=True):
        known = np.histogram(p[labels == 1], bins=128, range=(0, 1))[0]
        assert np.allclose(row * (labels == 1).sum(), known)


def test_descriptions_by_numpy() -> None:
    rng = np.random.default_rng(5)
    P = rng.beta(0.3, 2, (6, 40, 50))
    found = _core.binary_descriptions(P, 0)
    for row, p in zip(found, P.reshape(6, -1), strict=True):
        falling = np.sort(p)[::-1]
        mass = np.cumsum(falling) / falling.sum()
        at = falling[np.searchsorted(mass, [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99])]
        assert np.allclose(row[:7], special.logit(at), atol=0.01)
        assert row[7] == pytest.approx((special.entr(p) + special.entr(1 - p)).mean(), rel=1e-3)
        assert row[8] == pytest.approx(np.log1p(p.sum()), rel=1e-4)
    assert (
        _core.binary_descriptions(P.astype(np.float32), 0)
        == _core.binary_descriptions(P.astype(np.float32).astype(np.float64), 0)
    ).all()
    for constant in (0.0, 1.0):
        assert np.isfinite(_core.binary_descriptions(np.full((1, 2, 2), constant), 0)).all()


def test_the_gradient_of_the_network_against_differences() -> None:
    rng = np.random.default_rng(6)
    z, targets = rng.normal(size=(12, 4)), rng.random(12)
    loss = squared_error(targets)
    weights = rng.normal(0, 0.5, _n_weights(4))

    def value(weights: NDArray) -> tuple[float, NDArray]:
        return _backward(weights, z, lambda u: loss(u, np.arange(12)))

    assert optimize.check_grad(lambda w: value(w)[0], lambda w: value(w)[1], weights) < 1e-6


@pytest.mark.parametrize("alpha", [0.1, 0.2])
def test_trained_thresholds_of_two_groups_are_the_closed_forms(alpha: float) -> None:
    """AT finds alpha^(1 / a); COAT the root of a smooth rate: for alpha = .1, T = .05 (.092729, .540467)."""
    P, y, a = two_groups(120, 7)
    descriptions = _core.binary_descriptions(P, 0)
    core = _core.BinaryValues.build(P, y.view(np.uint8), "foreground", None, 0)
    exact = Fraction(repr(alpha))
    at = train(descriptions, squared_error(own_thresholds(core, exact)), 0.3, 1e-6, 0).predict(descriptions)
    assert np.allclose(at, alpha ** (1 / a), atol=0.02)
    coat = train(descriptions, soft_rate_loss(core.histograms(1024), exact, 0.05), 0.3, 1e-7, 0)

    def root(a: int) -> float:
        p = (np.arange(200_000) + 0.5) / 200_000
        density = a * p ** (a - 1) / 200_000
        return optimize.brentq(lambda u: density @ special.expit((p - u) / 0.05) - (1 - alpha), 0, 1)

    known = np.array([root(int(each)) for each in a])
    if alpha == 0.1:
        assert np.allclose([known[0], known[1]], [0.092729, 0.540467], atol=1e-5)
    assert np.allclose(coat.predict(descriptions), known, atol=0.02)


@pytest.mark.parametrize("kind", TRAINED)
def test_they_close_the_coverage_gap(kind: type) -> None:
    """One threshold for both groups has a gap of .098449 at alpha = .1."""
    P, y, _ = two_groups(160, 8, side=40)
    fitted = kind(0.1).fit(P[:100], y[:100])
    one = cm.BinaryRiskCalibrator(0.1).fit(P[:100], y[:100])
    assert fitted.n_images_ == 50
    assert one.evaluate(P[100:], y[100:]).coverage_gap > 0.08
    assert fitted.evaluate(P[100:], y[100:]).coverage_gap < 0.02


# Promises, by simulation


def noise_of(p: NDArray) -> float:
    """The same number for the same image."""
    return float(np.random.default_rng(int(1e6 * p.astype(np.float64).sum())).random())


MODELS = {
    "bad": lambda P, images: np.array([noise_of(p) for p in P]),
    "contrary": lambda P, images: 1 - by_mean(P),
    "constant": lambda P, images: np.ones(len(P)),
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", ["bad", "contrary", "constant", "AT", "COAT", "CRA"])
def test_the_risk_of_a_new_image_is_at_most_alpha(name: str, ties: bool) -> None:
    """2,000 calibrations of images of different difficulty (500 of those that train): the mean risk of a new one."""
    rng = np.random.default_rng(31)
    n = {"AT": 40, "COAT": 40}.get(name, 19)
    losses = np.empty(500 if n > 19 else 2000)
    alpha = 0.1
    for i in range(len(losses)):
        a = rng.choice([0.5, 1, 4], n + 1)[:, None, None]
        P = rng.beta(a, 1, (n + 1, 1, 24))
        P = ((P * 16).round() / 16 if ties else P).astype(np.float16 if ties else np.float32)
        y = np.arange(24)[None, None] < 12 * np.ones((n + 1, 1, 1))
        calibrator = {
            "AT": cm.ATCalibrator(alpha),
            "COAT": cm.COATCalibrator(alpha),
            "CRA": cm.CRACalibrator(alpha),
        }.get(name) or cm.ATCalibrator(alpha, predictor=MODELS[name])
        mask = calibrator.fit(P[:n], y[:n]).predict(P[n:])
        losses[i] = 1 - mask[y[n:]].mean()
    error = losses.std() / np.sqrt(len(losses))
    assert losses.mean() <= alpha + 2 * error
    assert losses.mean() >= alpha - 1 / 20 - (1 / 24 if ties else 0) - 3 * error


# CRA


def shares(P: NDArray) -> NDArray:
    """Of each pixel the summed probability of those that are at most as probable, by definition."""
    out = np.empty(P.shape)
    for row, p in zip(out, P.astype(np.float64), strict=True):
        values, at, counts = np.unique(p, return_inverse=True, return_counts=True)
        sums = np.cumsum(values * counts)
        row[...] = (sums / sums[-1] if sums[-1] else 0 * sums)[at].reshape(p.shape)
    return out


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_mass_shares_by_definition(dtype: str) -> None:
    rng = np.random.default_rng(9)
    P = rng.beta(0.5, 1, (5, 6, 7))
    P[1] = (P[1] * 4).round() / 4
    P[2], P[3] = 0, 0.5
    P = P.astype(dtype)
    found = np.empty(P.shape)
    _core.mass_shares(P, found, 0)
    assert np.allclose(found, shares(P), rtol=1e-13, atol=0)
    assert (found[2] == 0).all()
    assert (found[3] == 1).all()


def test_cra_is_one_threshold_of_mass_shares() -> None:
    P, y = scenes(seed=10)
    fitted = cm.CRACalibrator(0.2).fit(P[:30], y[:30])
    V = np.empty(P.shape)
    _core.mass_shares(P, V, 0)
    one = cm.BinaryRiskCalibrator(0.2).fit(V[:30], y[:30])
    assert (fitted.threshold_, fitted.mass_) == (one.threshold_, 1 - one.threshold_)
    masks = fitted.predict(P)
    assert (masks == one.predict(V)).all()
    assert (masks == (fitted.predict_thresholds(P)[:, None, None] <= P)).all()
    for mask, p in zip(
        masks, P.astype(np.float64), strict=True
    ):  # the most probable pixels, as many as make up the mass
        inside, outside = p[mask], p[~mask]
        assert inside.min() > outside.max()
        assert p[p > inside.min()].sum() / p.sum() <= fitted.mass_ + 1e-12
    report = fitted.evaluate(P[30:], y[30:])
    assert (report.thresholds == fitted.predict_thresholds(P[30:])).all()


def test_cra_of_an_image_without_probability() -> None:
    P, y = scenes(seed=11, n=20)
    P[3] = 0
    fitted = cm.CRACalibrator(0.3).fit(P, y)
    assert not fitted.predict(P[3:4]).any()
    assert fitted.predict_thresholds(P[3:4]) == [2.0]
    assert fitted.evaluate(P, y).risks[3] == 1


# Splits


def test_parts_of_the_images() -> None:
    P, y = scenes(n=30, seed=12)
    seen: list[int] = []

    class Model:
        def fit(self, P: NDArray, y: NDArray, alpha: float, images: Any) -> None:
            self.images, self.alpha = list(images), alpha

        def predict(self, P: NDArray, images: Any) -> NDArray:
            seen.extend(images)
            return np.full(len(P), 0.4)

    model = Model()
    fitted = cm.ATCalibrator(0.25, predictor=model, train_fraction=0.3, random_state=5)
    fitted.fit(P, y, images=list(range(30)))
    trained_on = fitted.predictor_.images
    assert not hasattr(model, "images")  # a copy is trained
    assert fitted.predictor_.alpha == 0.25
    assert (len(trained_on), fitted.n_images_) == (9, 21)
    assert sorted([*trained_on, *set(seen)]) == list(range(30))  # one of them is looked at alone, too
    groups = [i // 3 for i in range(30)]
    seen.clear()
    grouped = cm.ATCalibrator(0.25, predictor=model, random_state=5).fit(
        list(P), list(y), images=list(range(30)), groups=groups
    )
    assert grouped.n_images_ == 5
    assert {i // 3 for i in grouped.predictor_.images}.isdisjoint(i // 3 for i in seen)
    with pytest.raises(TypeError, match=r"needs P, y and images as arrays or lists.*: P is zip"):
        fitted.fit(zip(P, y, strict=True), images=range(30))


def test_a_model_that_looks_at_other_images_is_refused() -> None:
    P, y = scenes(n=30, seed=12)

    def share(P: NDArray, images: Any) -> NDArray:
        means = by_mean(P)
        return means / means.max()

    with pytest.raises(ValueError, match=r"what it says of image 0 depends on the other images of the array"):
        cm.ATCalibrator(0.2, predictor=share).fit(P, y)
    listed = cm.ATCalibrator(0.2, predictor=share).fit(list(P), list(y))  # one at a time: nobody can tell
    with pytest.raises(ValueError, match=r"depends on the other images of the array"):
        listed.predict(P)


def test_workers_with_equal_models_are_merged() -> None:
    P, y = scenes(n=60, seed=14)
    trained = cm.ATCalibrator(0.2).fit(P[:30], y[:30]).predictor_
    workers = [
        cm.ATCalibrator(0.2, predictor=pickle.loads(pickle.dumps(trained)).predict).fit(P[some], y[some])
        for some in (slice(30, 45), slice(45, 60))
    ]
    merged = workers[0].merge(workers[1])
    assert merged.n_images_ == 30
    whole = cm.ATCalibrator(0.2, predictor=trained.predict).fit(P[30:], y[30:])
    assert merged.correction_ == whole.correction_


def test_functions_of_python_itself_are_compared() -> None:
    """They have a `__self__`, but are no methods."""
    P, y = scenes(n=30, seed=14)
    fitted = cm.ATCalibrator(0.2, predictor=by_mean).fit(P, y)
    for other in (max, P.mean):
        fitted.predictor = other
        with pytest.raises(ValueError, match="fit again"):
            fitted.predict(P)
    assert not are_same(max, min)
    assert are_same(max, max)


def test_images_of_calibration_are_told() -> None:
    P, y = scenes(n=30, seed=15)
    for calibrator in (cm.BinaryRiskCalibrator(0.2), cm.CRACalibrator(0.2)):
        calibrator.fit(P[:20], y[:20])
        with pytest.warns(UserWarning, match="these images seem to be those of calibration"):
            calibrator.evaluate(P[:20], y[:20])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            calibrator.evaluate(P[10:], y[10:])


@pytest.mark.parametrize("kind", TRAINED)
def test_the_light_model_by_any_form_of_images(kind: type) -> None:
    P, y = scenes(n=30, seed=13)
    known = kind(0.2).fit(P, y)
    for data in [
        (list(P), list(y)),
        (zip(P, y, strict=True), None),
        (P.astype(np.float64), y.astype(np.int64)),
    ]:
        again = kind(0.2).fit(*data)
        assert (again.correction_, again.predictor_.to_json()) == (
            known.correction_,
            known.predictor_.to_json(),
        )
    other = kind(0.2, random_state=1).fit(P, y)
    assert other.correction_ != known.correction_
    assert np.array_equal(known.predictor_.predict(P), known.predictor_.predict(P))


def test_more_images_correct_the_same_model() -> None:
    P, y = scenes(n=60, seed=14)
    fitted = cm.COATCalibrator(0.2).fit(P[:30], y[:30])
    model = fitted.predictor_
    fitted.partial_fit(P[30:], y[30:])
    assert fitted.predictor_ is model
    assert fitted.n_images_ == 15 + 30
    again = cm.COATCalibrator(0.2).fit(P[:30], y[:30])
    worker = cm.COATCalibrator(0.2, predictor=model).partial_fit(P[30:], y[30:])
    assert worker.n_images_ == 30
    assert again.merge(worker).correction_ == fitted.correction_
    other = cm.COATCalibrator(0.2, predictor=by_mean).partial_fit(P[30:], y[30:])
    with pytest.raises(ValueError, match="the models of thresholds differ"):
        again.merge(other)
    with pytest.raises(ValueError, match="call fit first: it trains"):
        cm.COATCalibrator(0.2).partial_fit(P, y)
    looser = fitted.recalibrate(alpha=0.4)
    assert looser.predictor_ is model
    assert looser.correction_ < fitted.correction_


# Bad input

P, Y = scenes(n=30, seed=15)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda P: np.full(len(P), np.nan), r"thresholds in \[0, 1\], got nan for image 0"),
        (lambda P: np.linspace(0, 1.1, len(P)), r"thresholds in \[0, 1\], got 1\.\d+ for image \d+"),
        (lambda P: np.full((len(P), 1), 0.5), r"shape \(30,\), got float64 of shape \(30, 1\)"),
        (lambda P: np.full(3, 0.5), r"for each of 30 images.*got float64 of shape \(3,\)"),
        (lambda P: ["a"] * len(P), r"an array of floats"),
        (lambda P: 0.5, r"got float64 of shape \(\)"),
    ],
)
def test_models_that_give_no_thresholds(answer: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        cm.ATCalibrator(0.2, predictor=lambda P, images: answer(P)).fit(P, Y)


def test_photographs_must_fit() -> None:
    new = lambda: cm.ATCalibrator(0.2, predictor=by_mean)  # noqa: E731
    for images in (range(29), iter(range(29))):
        with pytest.raises(ValueError, match="images has 29 images, P has more"):
            new().fit(P, Y, images=images)
    for images in (range(31), iter(range(31))):
        with pytest.raises(ValueError, match="P has 30 images, images has more"):
            new().fit(list(P), list(Y), images=images)


def test_too_few_images_for_the_parts() -> None:
    with pytest.raises(
        cm.InfeasibleRiskError, match=r"alpha=0\.05 needs at least 19 .*Give at least 38 images"
    ):
        cm.ATCalibrator(0.05).fit(P, Y)
    with pytest.raises(
        cm.InfeasibleRiskError,
        match=r"Give at least 95 images in all, give a smaller train_fraction, take a larger alpha \(0\.\d+ or more\)",
    ):
        cm.COATCalibrator(0.05, train_fraction=0.8).fit(P, Y)
    with pytest.raises(ValueError, match=r"1 image with a foreground cannot train thresholds: of 3 images 1"):
        cm.ATCalibrator(0.5).fit(P[:3], Y[:3])
    full = cm.ATCalibrator(0.05, on_infeasible="full")
    with pytest.warns(cm.InfeasibleRiskWarning):
        assert full.fit(P, Y).predict(P).all()


def test_files(tmp_path: Any) -> None:
    fitted = cm.COATCalibrator(0.2).fit(P, Y)
    fitted.save(tmp_path / "one.json")
    loaded = cm.COATCalibrator.load(tmp_path / "one.json")
    assert (loaded.predict_thresholds(P) == fitted.predict_thresholds(P)).all()
    with pytest.raises(TypeError, match="a predictor of your own cannot be saved"):
        cm.COATCalibrator(0.2, predictor=by_mean).fit(P, Y).save(tmp_path / "two.json")
    assert not (tmp_path / "two.json").exists()


# What must hold together


def test_what_is_stale_does_not_depend_on_what_was_asked() -> None:
    c = cm.BinaryRiskCalibrator(0.2).fit(P, Y)
    c.set_params(risk="fpr")
    for ask in (lambda: c.recalibrate(alpha=0.3), lambda: c.partial_fit(P, Y), lambda: c.threshold_):
        with pytest.raises(
            ValueError, match="risk is 'fpr', but the images were calibrated with 'fnr': fit again"
        ):
            ask()
    collected = cm.BinaryRiskCalibrator(0.2).partial_fit(P, Y).set_params(risk="fpr")
    with pytest.raises(ValueError, match="fit again"):
        _ = collected.threshold_
    more, other = scenes(n=20, seed=16)
    trained = cm.COATCalibrator(0.2).fit(P, Y).partial_fit(more, other).set_params(temperature=0.9)
    with pytest.raises(ValueError, match=r"temperature is 0\.9, but the images were calibrated with 0\.05"):
        _ = trained.correction_


def test_images_that_trained_must_not_correct() -> None:
    fitted = cm.ATCalibrator(0.3).fit(P, Y)
    with pytest.warns(cm.DuplicateImagesWarning) as warned:
        fitted.partial_fit(P, Y)
    assert any("15 images of these trained the thresholds" in str(each.message) for each in warned)


def test_an_image_gets_the_same_threshold_alone_and_among_others() -> None:
    many, labels = scenes(n=300, seed=17)
    fitted = cm.COATCalibrator(0.2).fit(many[:60], labels[:60])
    assert fitted.predict_thresholds(many).tolist() == fitted.predict_thresholds(list(many)).tolist()


def test_the_parts_of_a_model_of_ones_own_are_checked() -> None:
    class Model:
        def fit(self, P: NDArray, y: NDArray, alpha: float, images: Any) -> None: ...

        def predict(self, P: NDArray, images: Any) -> NDArray:
            return np.full(len(P), 0.5)

    class Foreign:
        def fit(self, X: NDArray, y: NDArray) -> None: ...

        def predict(self, X: NDArray) -> NDArray: ...

    new = lambda: cm.ATCalibrator(0.3, predictor=Model())  # noqa: E731
    assert new().fit(P, Y).correction_ <= 1
    for i in (0, 7, 16, 25):  # whichever part it is in
        bad = P.copy()
        bad[i, 2, 3] = np.nan
        with pytest.raises(ValueError, match=rf"P holds NaN in image {i} at"):
            new().fit(bad, Y)
    with pytest.raises(ValueError, match="P has 30 images, y has 31"):
        new().fit(P, np.concatenate([Y, Y[:1]]))
    with pytest.raises(ValueError, match="P has 30 images, images has 31"):
        new().fit(P, Y, images=range(31))
    with pytest.raises(TypeError, match="y is list_iterator"):
        new().fit(P, iter(list(Y)))
    with pytest.raises(TypeError, match=r"predictor\.fit must take"):
        cm.ATCalibrator(0.3, predictor=Foreign()).fit(P, Y)
    with pytest.raises(TypeError, match="predictor must be None"):
        cm.ATCalibrator(0.3, predictor=Model).fit(P, Y)
    with pytest.raises(ValueError, match="P has 30 images, images has more"):
        cm.ATCalibrator(0.3, predictor=by_mean).fit(P, Y).predict(P, images=range(40))


def test_narrow_probabilities_beside_a_threshold() -> None:
    wide, labels = scenes(n=30, seed=18)
    fitted = cm.BinaryRiskCalibrator(0.2).fit(wide.astype(np.float64) ** 1.1, labels)
    for dtype in ("float16", "float32"):
        narrow = wide.astype(dtype)
        assert ((narrow >= fitted.threshold_) == fitted.predict(narrow)).all()


def test_rates_at_alpha_are_not_above_it() -> None:
    """Of 10 pixels 3 are missed: one less 0.7 would be more than 0.3 in floats."""
    solution = cm.BinaryRiskCalibrator(0.3).fit(P, Y)._current()[1]
    report = binary_report(np.array([[5, 10, 1, 7]] * 4, np.uint64), np.full(4, 0.5), solution, None)
    assert (report.empirical_risk, report.exceedance, report.coverage_gap) == (0.3, 0, 0)


def test_too_few_images_at_a_third() -> None:
    calibrator = cm.BinaryRiskCalibrator(1 / 3, on_infeasible="full")
    with pytest.warns(cm.InfeasibleRiskWarning):
        calibrator.fit(P[:1], Y[:1])
    assert calibrator.evaluate(P, Y).infeasible
