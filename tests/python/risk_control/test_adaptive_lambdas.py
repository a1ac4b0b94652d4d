"""Lambdas of images of their own: corrections by an exhaustive twin, sets by definition, the promise by simulation."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone

import conformask as cm
from conformask import kernels
from conformask.losses import as_loss

LOSSES: dict[str, Any] = {
    "miscoverage": cm.MiscoverageLoss(),
    "weighted": cm.MiscoverageLoss("balanced"),
    "binary": cm.BinaryLoss(0.8),
    "accuracy": cm.LabelAccuracyLoss(0.8),
    "negative": cm.FalseNegativeLoss([1, 2]),
}


def scenes(n: int = 24, seed: int = 0, dtype: str = "float32", n_classes: int = 4) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    X = rng.dirichlet(np.ones(n_classes), (n, 6, 7)) ** rng.choice([0.5, 2], (n, 1, 1, 1))
    X = np.moveaxis(X / X.sum(axis=-1, keepdims=True), -1, 1).astype(dtype)
    y = (rng.random((n, 1, 6, 7)) > X.astype(float).cumsum(axis=1)[:, :-1]).sum(axis=1)
    y[rng.random(y.shape) < 0.1] = 255
    return X, y


def by_certainty(X: NDArray, images: Any = None) -> NDArray:
    """A model that is trained already."""
    return 1 - np.asarray(X).max(axis=1).reshape(len(X), -1).mean(axis=1, dtype=np.float64)


def critical_values(X: NDArray, score: Any) -> NDArray[np.float64]:
    """The lambda at which each class enters, class by class."""
    of = [kernels.true_label_scores(X, np.full((len(X), *X.shape[2:]), k), score) for k in range(X.shape[1])]
    return np.stack(of, axis=1)


def twin(s: NDArray, y: NDArray, offsets: NDArray, loss: Any, budget: Fraction, largest: float) -> float:
    """The smallest of all candidates whose summed loss fits; `s` are the critical values of the labels (n, H, W)."""
    loss, n_classes = as_loss(loss), 4
    totals = np.stack([(y == k).sum(axis=(1, 2)) for k in range(n_classes)], axis=1).astype(np.uint64)
    enters = np.where(s > 0, s - offsets[:, None, None], -np.inf)
    for t in np.unique(np.append(enters[(y != 255) & (s > 0)], -largest)):
        missed = np.stack([((y == k) & (enters > t)).sum(axis=(1, 2)) for k in range(n_classes)], axis=1)
        losses = loss._values(missed.astype(np.uint64), totals) if hasattr(loss, "_values") else None
        losses = (
            loss._kernel(n_classes).values(missed.astype(np.uint64), totals) if losses is None else losses
        )
        if sum(map(Fraction, np.nan_to_num(losses).tolist()), Fraction()) <= budget + Fraction(1, 10**12):
            return float(t)
    raise AssertionError("at the largest candidate nothing is missed")


@pytest.mark.parametrize("score", [cm.LAC(), cm.LAC(include_top1=False), cm.APS(), cm.RAPS()], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_corrections_are_those_of_the_twin(name: str, score: Any) -> None:
    X, y = scenes()
    fitted = cm.ConformalRiskCalibrator(score, loss=LOSSES[name], alpha=0.2, adaptive=by_certainty).fit(X, y)
    s = np.nan_to_num(kernels.true_label_scores(X, y, score))
    largest = cm.scores.lambda_max(score, 4)
    t = twin(s, y, by_certainty(X), LOSSES[name], Fraction(2, 10) * 25 - 1, largest)
    assert fitted.correction_ == t
    lambdas = fitted.predict_lambdas(X)
    assert np.allclose(lambdas, np.clip(by_certainty(X) + t, 0, largest), atol=1e-14)
    masks, enters = fitted.predict(X), critical_values(X, score)
    known = (enters == 0) | (enters - by_certainty(X)[:, None, None, None] <= t)
    assert (masks == known).all()
    assert (masks == (enters <= lambdas[:, None, None, None])).all()
    assert (fitted.set_size(X) == masks.sum(axis=1)).all()
    assert (fitted.varisco(X) == np.float32(masks.sum(axis=1)) / np.float32(4)).all()
    assert fitted.corrected_risk_ <= 0.2
    assert fitted.corrected_risk_ > 0.2 - 2 / 25 or name in ("binary", "accuracy", "weighted")


def test_a_model_that_says_the_same_of_all_images_changes_nothing() -> None:
    X, y = scenes(dtype="float64")
    one = cm.ConformalRiskCalibrator(alpha=0.2).fit(X, y)
    # Dyadic: differences are exact.
    fitted = cm.ConformalRiskCalibrator(alpha=0.2, adaptive=lambda X, images: np.full(len(X), 0.25)).fit(X, y)
    assert fitted.predict_lambdas(X) == pytest.approx(np.full(24, one.lambda_hat_), abs=1e-15)
    assert (fitted.predict(X) == one.predict(X)).all()
    assert fitted.risk_ == one.risk_
    assert (one.predict_lambdas(X) == one.lambda_hat_).all()


def test_reports() -> None:
    X, y = scenes(60, seed=1)
    fitted = cm.ConformalRiskCalibrator(alpha=0.2, adaptive=by_certainty).fit(X[:40], y[:40])
    report = fitted.evaluate(X[40:], y[40:], alphas=[0.1, 0.3])
    masks = fitted.predict(X[40:])
    covered = np.take_along_axis(masks, np.where(y[40:] == 255, 0, y[40:])[:, None], axis=1)[:, 0]
    is_valid = y[40:] != 255
    losses = 1 - (covered & is_valid).sum(axis=(1, 2)) / is_valid.sum(axis=(1, 2))
    assert np.allclose(report.losses, losses, atol=1e-15)
    assert np.isnan(report.lambda_hat)
    assert [each.empirical_risk for each in report.sweep] == sorted(
        each.empirical_risk for each in report.sweep
    )
    stricter = fitted.recalibrate(alpha=0.1).evaluate(X[40:], y[40:])
    assert report.sweep[0].empirical_risk == stricter.empirical_risk
    assert "one for each image" in str(report)
    assert fitted.score(X[40:], y[40:]) == 1 - report.empirical_risk


def test_images_are_added_listed_and_handed_on() -> None:
    X, y = scenes(30, seed=2)
    photographs = np.linspace(0, 0.5, 30)

    def seen(X: NDArray, images: Any) -> NDArray:
        assert len(images) == len(X)
        return np.asarray(images)

    new = lambda: cm.ConformalRiskCalibrator(alpha=0.2, adaptive=seen)  # noqa: E731
    whole = new().fit(X, y, images=photographs)
    listed = new().fit(list(X), list(y), images=iter(photographs))
    paired = new().fit(zip(X, y, strict=True), images=list(photographs))
    added = new().partial_fit(X[:9], y[:9], images=photographs[:9])
    added.merge(new().partial_fit(X[9:], y[9:], images=photographs[9:]))
    known = whole.predict(X, images=photographs)
    for each in (
        listed,
        paired,
        added,
        pickle.loads(pickle.dumps(cm.ConformalRiskCalibrator(alpha=0.2, adaptive=by_certainty).fit(X, y))),
    ):
        if each.adaptive is seen:
            assert each.correction_ == whole.correction_
            assert (np.stack(each.predict(list(X), images=list(photographs))) == known).all()
        else:
            assert each.predict(X).shape == X.shape
    assert (whole.profiles_[[7, 2]]._offsets.values == photographs[[7, 2]]).all()
    assert clone(whole).adaptive is seen
    for call in (whole.predict, whole.set_size, whole.varisco, whole.predict_lambdas):
        with pytest.raises(ValueError, match="images has 29 images, X has more"):
            call(X, images=photographs[:29])
        with pytest.raises(ValueError, match="X has 30 images, images has more"):
            call(X, images=np.zeros(31))
    maps = whole.predict((x for x in X), images=np.zeros(31))
    with pytest.raises(ValueError, match="X has 30 images, images has more"):
        list(maps)


def test_groups_and_weights() -> None:
    X, y = scenes(24, seed=3)
    groups = np.repeat(np.arange(8), 3)
    for loss in ("miscoverage", cm.BinaryLoss(0.7)):
        fitted = cm.ConformalRiskCalibrator(loss=loss, alpha=0.25, adaptive=by_certainty).fit(
            X, y, groups=groups
        )
        assert fitted.n_images_ == 8
        assert fitted.corrected_risk_ <= 0.25
        # One float less is too little.
        below = np.nextafter(fitted.correction_, -np.inf)
        enters = np.nan_to_num(kernels.true_label_scores(X, y))
        is_missed = (enters > 0) & (enters - by_certainty(X)[:, None, None] > below) & (y != 255)
        each = is_missed.sum(axis=(1, 2)) / (y != 255).sum(axis=(1, 2))
        if loss != "miscoverage":
            each = (each > 0.3 + 1e-9).astype(float)
        mean = np.mean([each[groups == g].mean() for g in range(8)])
        assert (8 * mean + 1) / 9 > 0.25
    weighted = cm.ConformalRiskCalibrator(alpha=0.25, adaptive=by_certainty).fit(
        X, y, sample_weight=np.full(24, 0.5)
    )
    assert weighted.n_eff_ == 24


def test_the_risk_of_a_new_image_is_kept_with_any_model() -> None:
    """1,500 calibrations each, of images of different difficulty."""
    models = {
        "good": by_certainty,
        "contrary": lambda X, images: 1 - by_certainty(X),
        "noise": lambda X, images: np.array(
            [np.random.default_rng(int(1e6 * x[0].astype(float).sum())).random() for x in X]
        ),
    }
    for name, model in models.items():
        rng = np.random.default_rng(4)
        losses = np.empty(1500)
        for i in range(len(losses)):
            power = rng.choice([0.3, 3], (20, 1, 1, 1))
            X = rng.dirichlet(np.ones(3), (20, 3, 4)) ** power
            X = np.moveaxis(X / X.sum(axis=-1, keepdims=True), -1, 1).astype(np.float32)
            y = rng.integers(0, 3, (20, 3, 4))
            y = np.where(rng.random(y.shape) < 0.6, X.argmax(axis=1), y)
            fitted = cm.ConformalRiskCalibrator(alpha=0.15, adaptive=model).fit(X[:19], y[:19])
            losses[i] = 1 - np.take_along_axis(fitted.predict(X[19:]), y[19:, None], axis=1).mean()
        error = losses.std() / np.sqrt(len(losses))
        assert losses.mean() <= 0.15 + 2 * error, name
        assert losses.mean() >= 0.15 - 1 / 20 - 1 / 12 - 3 * error, name


def test_what_does_not_fit(tmp_path: Path) -> None:
    X, y = scenes(30, seed=5)

    def fit(model: Any, **parameters: Any) -> Any:
        return cm.ConformalRiskCalibrator(alpha=0.2, adaptive=model, **parameters).fit(X, y)

    with pytest.raises(ValueError, match=r"adaptive must give a lambda for each of 30 images.*\(30, 1\)"):
        fit(lambda X, images: np.zeros((30, 1)))
    with pytest.raises(ValueError, match=r"adaptive must give lambdas in \[0, 1\], got nan for image 3"):
        fit(lambda X, images: np.where(np.arange(30) == 3, np.nan, 0.5))
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.5 for image 0"):
        fit(lambda X, images: np.full(30, 1.5))
    with pytest.raises(TypeError, match="adaptive must be None, a function"):
        fit(3)
    with pytest.raises(ValueError, match="pass profile='exact'"):
        fit(by_certainty, profile="binned")
    with pytest.raises(TypeError, match="has no image-adaptive lambdas: take one that a kernel sums"):
        fit(by_certainty, loss=lambda coverage: (1 - coverage) ** 2)
    with pytest.raises(ValueError, match="depends on the other images of the array"):
        fit(lambda X, images: by_certainty(X) / by_certainty(X).max())
    with pytest.raises(ValueError, match="images= are for the model of adaptive=, which is None"):
        cm.ConformalRiskCalibrator(alpha=0.2).fit(X, y, images=X)
    with pytest.raises(ValueError, match="images= are for the model of adaptive=, which is None"):
        cm.ConformalRiskCalibrator(alpha=0.2).fit(X, y).predict(X, images=X)
    fitted = fit(by_certainty)
    with pytest.raises(AttributeError, match=r"predict_lambdas\(X\) gives them"):
        fitted.lambda_hat_  # noqa: B018
    with pytest.raises(AttributeError, match="needs adaptive="):
        cm.ConformalRiskCalibrator(alpha=0.2).fit(X, y).correction_  # noqa: B018
    with pytest.raises(ValueError, match="the risk is no function of one"):
        fitted.risk_curve()
    with pytest.raises(TypeError, match="cannot be saved"):
        fitted.save(tmp_path / "c.json")
    with pytest.raises(ValueError, match="adaptive differs"):
        fitted.merge(cm.ConformalRiskCalibrator(alpha=0.2).fit(*scenes(10, seed=6)))
    fitted.set_params(adaptive=lambda X, images: by_certainty(X))
    with pytest.raises(ValueError, match="fit again"):
        fitted.predict(X)
    others = scenes(10, seed=6)
    with pytest.raises(ValueError, match=r"adaptive is .*: fit again"):
        fitted.partial_fit(*others)
    few = cm.ConformalRiskCalibrator(alpha=0.01, adaptive=by_certainty)
    with pytest.raises(cm.InfeasibleRiskError, match="at least 99"):
        few.fit(X, y)
    with pytest.warns(cm.InfeasibleRiskWarning):
        full = few.set_params(on_infeasible="full").fit(X, y)
    assert full.predict(X).all()
