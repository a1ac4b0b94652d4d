"""One class, or some, against the rest: the same as on probabilities and masks that one makes oneself."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import conformask as cm

KINDS: dict[str, Any] = {
    "fnr": cm.BinaryRiskCalibrator(0.2),
    "fpr": cm.BinaryRiskCalibrator(0.2, risk="fpr"),
    "cra": cm.CRACalibrator(0.2),
    "at": cm.ATCalibrator(0.2),
    "coat": cm.COATCalibrator(0.2),
    "aacrc": cm.AACRCCalibrator(0.2, guarantee="per_test"),
}


def scenes(n: int = 30, seed: int = 0, shape: tuple[int, ...] = (9, 8)) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    X = rng.dirichlet([0.5, 1, 1, 0.7], (n, *shape)).astype(np.float32)
    y = (rng.random((n, *shape, 1)) > X.cumsum(axis=-1)[..., :-1]).sum(axis=-1).astype(np.int16)
    y[rng.random(y.shape) < 0.1] = -1
    return np.moveaxis(X, -1, 1), y


def fresh(name: str, **parameters: Any) -> Any:
    return KINDS[name].__class__(**{**KINDS[name].get_params(), "ignore_index": -1, **parameters})


def against(X: NDArray, y: NDArray, classes: list[int]) -> tuple[NDArray, NDArray]:
    P = X[:, classes].astype(np.float64).sum(axis=1) if len(classes) > 1 else X[:, classes[0]]
    return P, np.where(y == -1, -1, np.isin(y, classes)).astype(np.int16)


@pytest.mark.parametrize("classes", [[2], [1, 3]])
@pytest.mark.parametrize("name", KINDS)
def test_it_is_one_class_against_the_rest(name: str, classes: list[int]) -> None:
    X, y = scenes()
    P, masks = against(X, y, classes)
    told = classes[0] if len(classes) == 1 else classes[::-1]
    found = fresh(name).fit(X[:24], y[:24], classes=told)
    known = fresh(name).fit(P[:24], masks[:24])
    assert found.classes_ == tuple(classes)
    assert known.classes_ is None
    assert (found.predict(X) == known.predict(P)).all()
    assert (found.predict_thresholds(X) == known.predict_thresholds(P)).all()
    assert found.risk_ == known.risk_
    reports = [
        each.evaluate(*given) for each, given in ((found, (X[24:], y[24:])), (known, (P[24:], masks[24:])))
    ]
    assert (reports[0].risks == reports[1].risks).all()
    listed = fresh(name).fit(list(X[:24]), list(y[:24]), classes=classes)
    assert (np.stack(listed.predict(list(X))) == known.predict(P)).all()


@pytest.mark.parametrize("name", KINDS)
def test_it_is_remembered(name: str, tmp_path: Path) -> None:
    X, y = scenes()
    found = fresh(name).fit(X[:24], y[:24], classes=2)
    found.save(tmp_path / "c.json")
    others = [
        fresh(name).load(tmp_path / "c.json"),
        pickle.loads(pickle.dumps(found)),
        found.recalibrate(alpha=0.2),
    ]
    for other in others:
        assert other.classes_ == (2,)
        assert (other.predict(X) == found.predict(X)).all()
    found.set_params(on_empty="zero_loss")  # found again, of what was kept
    assert found.classes_ == (2,)
    assert found.predict(X).shape == (30, 9, 8)
    assert "class 2" in found._repr_html_()
    document = json.loads((tmp_path / "c.json").read_text())
    for bad in ([], ["x"], [-1], [1, 1], "x"):
        document["results"]["classes"] = bad
        (tmp_path / "bad.json").write_text(json.dumps(document))
        with pytest.raises(ValueError, match=r"bad\.json"):
            fresh(name).load(tmp_path / "bad.json")


def test_images_are_added() -> None:
    X, y = scenes()
    found = fresh("fnr").partial_fit(X[:9], y[:9], classes=2).partial_fit(X[9:20], y[9:20])
    found.merge(fresh("fnr").partial_fit(X[20:24], y[20:24], classes=2))
    assert (found.predict(X) == fresh("fnr").fit(X[:24], y[:24], classes=2).predict(X)).all()
    with pytest.raises(ValueError, match="classes was 2 before, and is 1 now"):
        found.partial_fit(X[24:], y[24:], classes=1)
    with pytest.raises(ValueError, match="classes differ: 2 here, 1 there"):
        found.merge(fresh("fnr").fit(X[24:], y[24:], classes=1))
    with pytest.raises(ValueError, match="classes differ: 2 here, None there"):
        found.merge(fresh("fnr").fit(*against(X[24:], y[24:], [2])))
    assert found.fit(X[:24], y[:24], classes=1).classes_ == (1,)  # fit forgets


def test_volumes_and_floats_of_any_width() -> None:
    X, y = scenes(shape=(3, 4, 5))
    for dtype in (np.float16, np.float64):
        P, masks = against(X.astype(dtype), y, [1])
        found = fresh("fnr").fit(X.astype(dtype), y, classes=1)
        assert found.threshold_ == fresh("fnr").fit(P, masks).threshold_


def test_a_model_of_ones_own_sees_the_foreground() -> None:
    X, y = scenes()
    P, masks = against(X, y, [1])

    class Model:
        def fit(self, P: NDArray, y: NDArray, alpha: float, images: Any) -> None:
            self.seen = np.asarray(P), np.asarray(y)

        def predict(self, P: NDArray, images: Any) -> NDArray:
            return np.asarray(P).reshape(len(P), -1).mean(axis=1, dtype=np.float64)

    whole = fresh("at", predictor=Model()).fit(X, y, classes=1)
    listed = fresh("at", predictor=Model()).fit(list(X), list(y), classes=1)
    known = fresh("at", predictor=Model(), ignore_index=255).fit(
        P, np.where(masks == -1, 255, masks).astype(np.uint8)
    )
    for each in (whole, listed):
        assert (each.predictor_.seen[0] == known.predictor_.seen[0]).all()
        assert set(np.unique(each.predictor_.seen[1])) == {-1, 0, 1}
        assert (each.predict(X) == known.predict(P)).all()
    trained = fresh("at", predictor=lambda P, images: Model().predict(P, images)).fit(X, y, classes=1)
    assert trained.predict(X).shape == y.shape


def test_what_does_not_fit() -> None:
    X, y = scenes()

    def fit(classes: Any, X: Any = X, y: Any = y, **parameters: Any) -> None:
        fresh("fnr", **parameters).fit(X, y, classes=classes)

    with pytest.raises(ValueError, match="classes must be below K = 4, got 4"):
        fit([1, 4])
    with pytest.raises(ValueError, match="classes are all 4: there is no background"):
        fit(range(4))
    with pytest.raises(ValueError, match="classes must be at least 0, got -2"):
        fit(-2)
    with pytest.raises(TypeError, match="classes must hold ints, got True"):
        fit([True])
    with pytest.raises(TypeError, match="classes must be a class, several, or None, got 'lesion'"):
        fit("lesion")
    with pytest.raises(ValueError, match="classes is empty"):
        fit([])
    with pytest.raises(ValueError, match="names a class twice"):
        fit([1, 1])
    with pytest.raises(ValueError, match="class 3 is in ignore_index"):
        fit(3, ignore_index=3)
    bad = y.copy()
    bad[4, 2, 1] = 7
    with pytest.raises(
        ValueError, match=r"classes below K = 4, or ignore_index=-1, got 7 in image 4 at pixel \(2, 1\)"
    ):
        fit(1, y=bad)
    with pytest.raises(ValueError, match=r"got 7 in image 4 at pixel \(2, 1\)"):
        fit(1, X=list(X), y=list(bad))
    with pytest.raises(ValueError, match=r"P must have shape \(n, K, H, W\)"):
        fit(1, X=X[:, 0], y=y)
    with pytest.raises(ValueError, match=r"for class 1: probabilities are in \[0, 1\].*softmax\(P, axis=1\)"):
        fit(1, X=X * 8 - 4)
    with pytest.raises(ValueError, match=r"the numbers of the classes 1, 2 sum to .* sum to 1 at most"):
        fit([1, 2], X=X * 1.5)
    with pytest.raises(ValueError, match="ignore_index=0 is one of the K = 4 classes"):
        fit(1, ignore_index=0)
    with pytest.raises(ValueError, match="K = 3 classes in image 1, but K = 4"):
        fit(1, X=[X[0], X[1, :3]], y=list(y[:2]))
    with pytest.raises(TypeError, match="classes must be a class"):
        fit({1: 2})
    found = fresh("fnr").fit(X, y, classes=1)
    with pytest.raises(ValueError, match="P has K = 3 classes in image 0, but K = 4 in calibration"):
        found.predict(X[:, :3])
    with pytest.raises(ValueError, match="K = 3 classes in image 0, but K = 4"):
        found.partial_fit(X[:, :3], np.minimum(y, 2))
    with pytest.raises(ValueError, match="K differs: 4 here, 3 there"):
        found.merge(fresh("fnr").fit(X[:, :3], np.minimum(y, 2), classes=1))
    with pytest.raises(ValueError, match="class 1 is in ignore_index"):
        fresh("fnr").fit(X, y, classes=1).set_params(ignore_index=1).predict(X)
    with pytest.raises(ValueError, match=r"P must have shape \(n, K, H, W\)"):
        found.predict(X[:, 1])
    with pytest.raises(ValueError, match="P has K = 1 classes in image 0, but K = 4 in calibration"):
        found.predict(X[:, :1])
