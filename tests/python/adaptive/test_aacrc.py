"""AA-CRC: the regression beside scikit-learn's and beside all bins, what it promises by simulation, what it refuses."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import QuantileRegressor

import conformask as cm
from conformask.adaptive import _quantiles
from conformask.adaptive._quantiles import N_BINS, Linear, Standard, regress


def scenes(n: int = 40, seed: int = 0, side: int = 8) -> tuple[NDArray, NDArray]:
    """Some images are easy, some hard, and P tells which."""
    rng = np.random.default_rng(seed)
    a = rng.choice([0.5, 1, 4], (n, 1, 1))
    P = rng.beta(a, 1, (n, side, side)).astype(np.float32)
    y = (rng.random(P.shape) < 0.7).astype(np.uint8)
    y[rng.random(P.shape) < 0.1] = 255
    return P, y


def binned(P: NDArray, n_bins: int = N_BINS) -> NDArray:
    """Probabilities cut down to the beginnings of bins."""
    return np.minimum(np.floor(P.astype(np.float64) * n_bins), n_bins - 1) / n_bins


def problem(seed: int, n: int = 30, n_bins: int = N_BINS) -> tuple[NDArray, NDArray, NDArray]:
    """Features (n, 3), probabilities of the foreground (n, 40), and their histograms."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3)) * [1, 10, 0.1]
    p = rng.beta(np.exp(features[:, :1]), 1.0, (n, 40))
    histograms = np.stack([np.bincount((row * n_bins).astype(int), minlength=n_bins) / 40 for row in p])
    return features, p, histograms


def objective(theta: NDArray, design: NDArray, v: NDArray, alpha: float, penalty: float) -> float:
    """By definition: v are probabilities (n, m) of the foreground."""
    u = design @ theta
    return float(
        np.mean(np.maximum(u[:, None] - v, 0).mean(axis=1) - alpha * u) + penalty * np.abs(theta[1:]).sum()
    )


# The regression


@pytest.mark.parametrize("penalty", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("alpha", [0.1, 0.35])
def test_it_is_quantile_regression(alpha: float, penalty: float) -> None:
    """scikit-learn's, with a row for each pixel."""
    features, p, histograms = problem(1)
    v = binned(p)
    found = Linear.fit(features, histograms, alpha, penalty)
    design = found.standard.design(features)
    judge = QuantileRegressor(quantile=alpha, alpha=penalty).fit(
        np.repeat(design[:, 1:], 40, axis=0), v.ravel()
    )
    known = np.concatenate([[judge.intercept_], judge.coef_])
    values = [objective(theta, design, v, alpha, penalty) for theta in (found.theta, known)]
    assert values[0] == pytest.approx(values[1], abs=1e-9)
    # A least value of a convex function: nothing near is less.
    rng = np.random.default_rng(0)
    for step in rng.normal(size=(20, 4)) * 1e-3:
        assert objective(found.theta + step, design, v, alpha, penalty) >= values[0] - 1e-12
    if penalty == 1:
        assert np.allclose(found.theta[1:], 0, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_bins_that_are_left_out_change_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The solution from a poor start is that of all bins."""
    features, p, histograms = problem(seed)
    design = Standard.of(features, np.ones(30)).design(features)
    right = 0.2 * design.sum(axis=0)
    looked_at: list[int] = []
    whole = _quantiles._restricted

    def restricted(*given: Any) -> NDArray | None:
        looked_at.append(int((given[5] - given[4]).sum()))
        return whole(*given)

    monkeypatch.setattr(_quantiles, "_restricted", restricted)
    start = None if seed < 3 else np.random.default_rng(seed).random(30)
    found = regress(design, histograms, right, 0.3, start)
    n_looked_at, everything = looked_at[-1], 30 * N_BINS
    ends = np.zeros(30, int), np.full(30, N_BINS)
    known = whole(design, histograms, right, 0.3, *ends)
    assert found is not None
    assert known is not None
    v = binned(p)
    values = [objective(theta, design, v, 0.2, 0.01) for theta in (found, known)]
    assert values[0] == pytest.approx(values[1], abs=1e-9)
    assert n_looked_at < everything / 4 or start is not None


def test_features_that_are_the_same_everywhere_tell_nothing() -> None:
    features, _, histograms = problem(2)
    features[:, 1] = 7
    found = Linear.fit(features, histograms, 0.2, 0.0)
    assert found.theta[2] == 0
    moved = features.copy()
    moved[:, 1] = 9
    assert (found.predict(features) == found.predict(moved)).all()
    again = Linear.from_json(json.loads(json.dumps(found.to_json())), 3)
    assert (again.predict(features) == found.predict(features)).all()


# One new image at a time


def constant(P: NDArray, images: Any) -> NDArray:
    return np.ones((len(P), 1))


@pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning")  # labels are random here
def test_without_features_it_is_the_threshold_of_crc() -> None:
    P, y = scenes(37, seed=3)
    fitted = cm.AACRCCalibrator(0.13, guarantee="per_test", embedding=constant, scale="probability").fit(P, y)
    one = cm.BinaryRiskCalibrator(0.13).fit(binned(P), y)
    thresholds = fitted.predict_thresholds(P[:3])
    assert thresholds == pytest.approx(np.full(3, one.threshold_), abs=1e-9)
    assert fitted.risk_ == pytest.approx(one.risk_, abs=1e-12)
    assert fitted.corrected_risk_ == pytest.approx((37 * fitted.risk_ + 1) / 38, abs=1e-12)
    assert (fitted.predict(P[:3]) == one.predict(binned(P[:3]))).all()
    assert fitted.correction_ == 0


def test_the_new_image_takes_part_with_the_worst_loss() -> None:
    """The objective by definition, minimised by scikit-learn beside a pixel of weight 1 - alpha that draws it down."""
    P, y = scenes(31, seed=4)
    alpha, penalty, n = 0.15, 0.02, 30
    rng = np.random.default_rng(0)
    z = rng.normal(size=(31, 2))
    calibrator = cm.AACRCCalibrator(
        alpha,
        guarantee="per_test",
        embedding=lambda P, images: np.array(images),
        penalty=penalty,
        scale="probability",
    ).fit(P[:n], y[:n], images=z[:n])
    found = calibrator.predict_thresholds(P[n:], images=z[n:])[0]
    mean, scale = z.mean(axis=0), z.std(axis=0)
    design = (z - mean) / scale
    rows, v, weights = [], [], []
    for row, p, labels in zip(design, binned(P[:n]), y[:n], strict=False):
        of_object = p[labels == 1]
        rows += [row] * len(of_object)
        v += of_object.tolist()
        weights += [1 / len(of_object)] * len(of_object)
    # A pixel far below: its part of the loss is (1 - alpha) (u - p) for every u.
    judge = QuantileRegressor(quantile=alpha, alpha=penalty).fit(
        np.array([*rows, design[n]]), np.array([*v, -10.0]), sample_weight=np.array([*weights, 1.0])
    )
    known = judge.predict(design[n:])[0]
    assert found == pytest.approx(np.ceil(np.clip(known, 0, 1) * N_BINS - 1e-6) / N_BINS, abs=1e-9)


def test_a_new_image_unlike_all_others_gets_a_full_mask() -> None:
    P, y = scenes(30, seed=5)
    group = np.array([0.0] * 29 + [1.0])[:, None]
    fitted = cm.AACRCCalibrator(
        0.2, guarantee="per_test", embedding=lambda P, images: np.array(images), penalty=0.0
    ).fit(P[:29], y[:29], images=group[:29])
    assert fitted.predict_thresholds(P[29:], images=group[29:]) == [0.0]
    assert fitted.predict(P[29:], images=group[29:]).all()
    assert fitted.predict_thresholds(P[28:29], images=group[28:29])[0] > 0


# Promises, by simulation


def noise_of(p: NDArray) -> float:
    """The same number for the same image."""
    return float(np.random.default_rng(int(1e6 * p.astype(np.float64).sum())).normal())


EMBEDDINGS = {
    "own": None,
    "mean": lambda P, images: P.reshape(len(P), -1).mean(axis=1, dtype=np.float64)[:, None],
    "noise": lambda P, images: np.array([[noise_of(p)] for p in P]),
    "contrary": lambda P, images: -P.reshape(len(P), -1).astype(np.float64)[:, :1],
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", EMBEDDINGS)
@pytest.mark.parametrize("guarantee", ["global", "per_test"])
def test_the_mean_risk_of_a_new_image_is_at_most_alpha(guarantee: str, name: str, ties: bool) -> None:
    """2,000 new images, 5 for each of 400 calibrations, of different difficulty."""
    rng = np.random.default_rng(31)
    n, alpha = {"global": 38, "per_test": 39}[guarantee], 0.1
    losses = np.empty(400)
    for i in range(len(losses)):
        a = rng.choice([0.5, 1, 4], n + 5)[:, None, None]
        P = rng.beta(a, 1, (n + 5, 1, 24))
        P = ((P * 16).round() / 16 if ties else P).astype(np.float16 if ties else np.float32)
        y = np.arange(24)[None, None] < 12 * np.ones((n + 5, 1, 1))
        calibrator = cm.AACRCCalibrator(alpha, guarantee=guarantee, embedding=EMBEDDINGS[name])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # rounded images may come twice
            mask = calibrator.fit(P[:n], y[:n]).predict(P[n:])
        losses[i] = 1 - mask[y[n:]].mean()
    error = losses.std() / np.sqrt(len(losses))
    assert losses.mean() <= alpha + 2 * error
    # The worst loss of a new image costs as many images as there are coefficients; nine features of 39 are too many.
    is_free = guarantee == "per_test" and name == "own"
    assert losses.mean() >= (0 if is_free else alpha - 1 / 20 - (1 / 24 if ties else 0) - 3 * error)


def test_each_group_of_a_feature_is_served() -> None:
    """Without penalty the promise holds for images weighted by features: here for easy and for hard ones alone."""
    rng = np.random.default_rng(32)
    n, alpha = 40, 0.2
    losses: dict[int, list[float]] = {0: [], 1: []}
    of_crc: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(400):
        group = rng.integers(0, 2, n + 1)
        P = rng.beta(np.where(group, 0.5, 4)[:, None, None], 1, (n + 1, 1, 12)).astype(np.float32)
        y = np.ones(P.shape, bool)
        calibrator = cm.AACRCCalibrator(
            alpha, guarantee="per_test", penalty=0.0, embedding=lambda P, images: np.array(images)[:, None]
        ).fit(P[:n], y[:n], images=group[:n])
        mask = calibrator.predict(P[n:], images=group[n:])
        losses[int(group[n])].append(1 - mask.mean())
        of_crc[int(group[n])].append(
            1 - cm.BinaryRiskCalibrator(alpha).fit(P[:n], y[:n]).predict(P[n:]).mean()
        )
    for found in losses.values():
        error = np.std(found) / np.sqrt(len(found))
        assert np.mean(found) <= alpha + 2 * error
        assert np.mean(found) >= alpha - 0.1
    assert np.mean(of_crc[1]) > alpha + 0.1  # one threshold for all does not do that


# What a calibrator is


def test_images_are_added_and_merged() -> None:
    P, y = scenes(36, seed=6)
    new = lambda: cm.AACRCCalibrator(0.2, guarantee="per_test")  # noqa: E731
    whole = new().fit(P[:30], y[:30])
    added = new().partial_fit(P[:11], y[:11]).partial_fit(P[11:30], y[11:30])
    merged = new().partial_fit(P[:11], y[:11]).merge(new().partial_fit(P[11:30], y[11:30]))
    listed = new().fit(list(P[:30]), list(y[:30]))
    known = whole.predict_thresholds(P[30:])
    for other in (added, merged, listed, pickle.loads(pickle.dumps(whole))):
        assert (other.predict_thresholds(P[30:]) == known).all()
        assert (other.risk_, other.n_images_) == (whole.risk_, 30)
    assert whole.predict_thresholds(P[33:34]) == known[3:4]  # alone as among others
    assert len(set(known)) > 1
    again = new().fit(P[:30], y[:30]).recalibrate(alpha=0.4)
    fresh = cm.AACRCCalibrator(0.4, guarantee="per_test").fit(P[:30], y[:30])
    assert (again.predict_thresholds(P[30:]) == fresh.predict_thresholds(P[30:])).all()
    with pytest.raises(ValueError, match="guarantee differs: 'global' here, 'per_test' there"):
        cm.AACRCCalibrator(0.2).fit(P[:30], y[:30]).merge(whole)


def test_groups_count_once_and_weights_as_much_as_they_say() -> None:
    P, y = scenes(24, seed=7)
    parameters: dict[str, Any] = {"guarantee": "per_test", "embedding": constant, "scale": "probability"}
    groups = np.repeat(np.arange(8), 3)
    grouped = cm.AACRCCalibrator(0.2, **parameters).fit(P, y, groups=groups)
    one = cm.BinaryRiskCalibrator(0.2).fit(binned(P), y, groups=groups)
    assert grouped.n_images_ == 8
    assert grouped.predict_thresholds(P[:1]) == pytest.approx([one.threshold_], abs=1e-9)
    weights = np.tile([1.0, 0.25], 12)
    weighted = cm.AACRCCalibrator(0.2, **parameters).fit(P, y, sample_weight=weights)
    one = cm.BinaryRiskCalibrator(0.2).fit(binned(P), y, sample_weight=weights)
    assert weighted.predict_thresholds(P[:1]) == pytest.approx([one.threshold_], abs=1e-9)


@pytest.mark.parametrize("share", [0.75, 0.95])
def test_many_images_without_an_object_that_count(share: float) -> None:
    """Then hardly any pixel has to be held: thresholds rise as that of CRC does, and do not fall."""
    P, y = scenes(41, seed=13)
    y[: int(share * 40)] = 0
    one = cm.BinaryRiskCalibrator(0.2, on_empty="zero_loss").fit(P[:40], y[:40])
    calibrator = cm.AACRCCalibrator(
        0.2, guarantee="per_test", on_empty="zero_loss", embedding=constant, scale="probability"
    ).fit(P[:40], y[:40])
    assert calibrator.predict_thresholds(P[40:]) == pytest.approx(
        [min(one.threshold_, 1023 / 1024)], abs=2 / 1024
    )
    own = cm.AACRCCalibrator(0.2, guarantee="per_test", on_empty="zero_loss", penalty=0.1).fit(P[:40], y[:40])
    assert own.predict_thresholds(P[40:])[0] > 0.3
    assert own.corrected_risk_ <= 0.2


def test_no_image_that_counts() -> None:
    P, y = scenes(20, seed=14)
    calibrator = cm.AACRCCalibrator(0.2, guarantee="per_test")
    with pytest.raises(
        cm.InfeasibleRiskError, match="20 images without a pixel of the foreground are left out"
    ):
        calibrator.fit(P, np.zeros_like(y))
    calibrator.partial_fit(*scenes(20, seed=15))  # what was collected is kept
    with pytest.warns(cm.DroppedImagesWarning, match="20 of 40 images have no pixel of the foreground"):
        assert calibrator.n_images_ == 20
    with pytest.warns(UserWarning, match="all masks hold every pixel|have no pixel of the foreground"):
        full = cm.AACRCCalibrator(0.2, guarantee="per_test", on_infeasible="full").fit(P, np.zeros_like(y))
    assert full.predict(P).all()
    assert (full.predict_thresholds(P) == 0).all()


def test_images_without_an_object() -> None:
    P, y = scenes(24, seed=8)
    y[[2, 5]] = 0
    with pytest.warns(UserWarning, match="2 of 24 images have no pixel of the foreground"):
        skipped = cm.AACRCCalibrator(0.2, guarantee="per_test").fit(P, y)
    assert (skipped.n_images_, skipped.n_skipped_) == (22, 2)
    others = [i for i in range(24) if i not in (2, 5)]
    known = cm.AACRCCalibrator(0.2, guarantee="per_test").fit(P[others], y[others])
    assert (skipped.predict_thresholds(P) == known.predict_thresholds(P)).all()
    counted = cm.AACRCCalibrator(0.2, guarantee="per_test", on_empty="zero_loss").fit(P, y)
    assert counted.n_images_ == 24
    assert counted.predict_thresholds(P).mean() > known.predict_thresholds(P).mean()


@pytest.mark.parametrize("guarantee", ["global", "per_test"])
def test_files(guarantee: str, tmp_path: Path) -> None:
    P, y = scenes(40, seed=9)
    fitted = cm.AACRCCalibrator(0.2, guarantee=guarantee).fit(P[:30], y[:30])
    fitted.save(tmp_path / "c.json")
    again = cm.AACRCCalibrator.load(tmp_path / "c.json")
    assert (again.predict_thresholds(P) == fitted.predict_thresholds(P)).all()
    assert again.risk_ == fitted.risk_
    document = json.loads((tmp_path / "c.json").read_text())
    model = document["results"]["predictor"]
    for name in model:
        for value in (["x"], [], None, [1e400], [[0.0]]):
            (tmp_path / "bad.json").write_text(
                json.dumps(document | {"results": document["results"] | {"predictor": model | {name: value}}})
            )
            with pytest.raises(ValueError, match=r"bad\.json"):
                cm.AACRCCalibrator.load(tmp_path / "bad.json")
    own = cm.AACRCCalibrator(0.2, guarantee=guarantee, embedding=constant).fit(P[:30], y[:30])
    with pytest.raises(TypeError, match="an embedding of your own cannot be saved: function"):
        own.save(tmp_path / "own.json")


def test_too_few_images() -> None:
    P, y = scenes(8, seed=10)
    calibrator = cm.AACRCCalibrator(0.1, guarantee="per_test")
    with pytest.raises(cm.InfeasibleRiskError, match="at least 9"):
        calibrator.fit(P, y)
    assert calibrator.recalibrate(alpha=0.2).n_images_ == 8
    with pytest.warns(cm.InfeasibleRiskWarning, match="all masks hold every pixel"):
        full = cm.AACRCCalibrator(0.1, guarantee="per_test", on_infeasible="full").fit(P, y)
    assert full.predict(P).all()
    with pytest.raises(cm.InfeasibleRiskError, match="Give at least 18 images in all"):
        cm.AACRCCalibrator(0.1).fit(P, y)


@pytest.mark.parametrize("guarantee", ["global", "per_test"])
def test_what_is_no_embedding(guarantee: str) -> None:
    P, y = scenes(30, seed=11)

    def fit(embedding: Any, images: Any = None) -> None:
        cm.AACRCCalibrator(0.2, guarantee=guarantee, embedding=embedding).fit(P, y, images=images)

    with pytest.raises(ValueError, match=r"array of floats of shape \(30, F\), got float64 of shape \(30,\)"):
        fit(lambda P, images: np.zeros(len(P)))
    with pytest.raises(ValueError, match="finite numbers, but does not for image 4"):
        fit(lambda P, images: np.where(np.arange(len(P)) == 4, np.nan, 0)[:, None])
    with pytest.raises(ValueError, match="got <U1"):
        fit(lambda P, images: np.full((len(P), 2), "a"))
    with pytest.raises(ValueError, match="images has 29 images, P has more"):
        fit(lambda P, images: np.array(images)[:, None], images=range(29))
    with pytest.raises(ValueError, match="P has 30 images, images has more"):
        fit(lambda P, images: np.array(images)[:, None], images=range(31))
    with pytest.raises(TypeError, match="embedding must be None or a function"):
        fit(3)
    with pytest.raises(ValueError, match="depends on the other images of the array"):
        fit(lambda P, images: np.arange(float(len(P)))[::-1, None])
    flat = lambda P, images: P.reshape(len(P), -1)[:, :3].astype(float)  # noqa: E731
    fitted = cm.AACRCCalibrator(0.2, guarantee=guarantee, embedding=flat).fit(P, y)
    with pytest.raises(ValueError, match="embedding gives 1 features, but gave 3 in calibration"):
        fitted.predict(P[:, :1, :1])


def test_a_confidence_is_not_one_of_each_new_image() -> None:
    P, y = scenes(30, seed=12)
    with pytest.raises(ValueError, match="take method='crc', or guarantee='global'"):
        cm.AACRCCalibrator(0.2, guarantee="per_test", method=cm.RCPS(0.1)).fit(P, y)
