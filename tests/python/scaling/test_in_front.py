"""Scalers in front of a score: the same as their probabilities as an array, files, copies, images that are shared."""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

import conformask as cm
from conformask._transforms import Transformer, load_transformer

N, K, SHAPE = 24, 4, (12, 15)


def problem(seed: int, n: int = N) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, K, *SHAPE)).astype(np.float32)
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    y[rng.random(y.shape) < 0.1] = 255
    return 3 * logits, y


OTHERS, TRAINING, NEW = problem(0), problem(1), problem(2)
SCALERS = [cm.TemperatureScaler, cm.VectorScaler, cm.DirichletScaler]


def in_front(scaler: Any, **parameters: Any) -> cm.ConformalRiskCalibrator:
    return cm.ConformalRiskCalibrator(transform=scaler, inputs="logits", **parameters)


def ours(X: NDArray) -> NDArray:
    """A score of a user."""
    return 1 - X.astype(np.float64)


@pytest.mark.parametrize("kind", SCALERS)
@pytest.mark.parametrize("score", ["lac", "aps", cm.SACP(window=3), ours])
def test_sets_are_those_of_the_array_of_probabilities(kind: type, score: Any) -> None:
    scaler = kind().fit(*TRAINING)
    given = in_front(scaler, conformity_score=score).fit(*OTHERS)
    made = cm.ConformalRiskCalibrator(score).fit(scaler.transform(OTHERS[0]), OTHERS[1])
    p = scaler.transform(NEW[0])
    assert given.lambda_hat_ == made.lambda_hat_
    assert (given.predict(NEW[0]) == made.predict(p)).all()
    assert (given.set_size(NEW[0]) == made.set_size(p)).all()
    assert (given.varisco(NEW[0]) == made.varisco(p)).all()
    report = given.evaluate(*NEW)
    assert (report.losses == made.evaluate(p, NEW[1]).losses).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_in_front_of_other_floats(dtype: type) -> None:
    scaler = cm.TemperatureScaler().fit(*TRAINING)
    X, y = OTHERS[0].astype(dtype), OTHERS[1]
    made = cm.ConformalRiskCalibrator().fit(scaler.transform(X), y)
    assert in_front(scaler).fit(X, y).lambda_hat_ == made.lambda_hat_


def test_in_front_of_bins_lists_and_profiles() -> None:
    scaler = cm.TemperatureScaler().fit(*TRAINING)
    exact = in_front(scaler).fit(*OTHERS)
    assert in_front(scaler).fit(list(OTHERS[0]), list(OTHERS[1])).lambda_hat_ == exact.lambda_hat_
    assert in_front(scaler, profile="binned").fit(*OTHERS).lambda_hat_ >= exact.lambda_hat_
    profiles = cm.profile(*OTHERS, inputs="logits", transform=scaler)
    assert profiles.lambda_hat("miscoverage", 0.1) == exact.lambda_hat_
    assert exact.recalibrate(alpha=0.3).predict(NEW[0]).any()


def test_in_front_on_a_cluster() -> None:
    dask_array = pytest.importorskip("dask.array")
    from conformask.integrations import dask as on_dask

    calibrator = in_front(cm.DirichletScaler().fit(*TRAINING))
    blocks = dask_array.from_array(OTHERS[0], chunks=(7, -1, -1, -1)), dask_array.from_array(OTHERS[1])
    assert on_dask.fit(clone(calibrator), *blocks).lambda_hat_ == calibrator.fit(*OTHERS).lambda_hat_


def test_files_hold_the_scaler(tmp_path: Path) -> None:
    fitted = in_front(cm.VectorScaler().fit(*TRAINING)).fit(*OTHERS)
    fitted.save(tmp_path / "calibrator.json", profiles=True)
    loaded = cm.ConformalRiskCalibrator.load(tmp_path / "calibrator.json")
    assert (loaded.predict(NEW[0]) == fitted.predict(NEW[0])).all()
    assert loaded.recalibrate(alpha=0.2).lambda_hat_ == fitted.recalibrate(alpha=0.2).lambda_hat_
    with pytest.warns(cm.SharedImagesWarning, match=f"{N} of {N} images"):
        loaded.fit(*TRAINING)
    document = json.loads((tmp_path / "calibrator.json").read_text())
    document["parameters"]["transform"]["kind"] = "Apples"
    (tmp_path / "other.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="'Apples', which is no scaler"):
        cm.ConformalRiskCalibrator.load(tmp_path / "other.json")


def test_files_of_before_have_no_scaler(tmp_path: Path) -> None:
    cm.ConformalRiskCalibrator(inputs="logits").fit(*OTHERS).save(tmp_path / "calibrator.json")
    document = json.loads((tmp_path / "calibrator.json").read_text())
    del document["parameters"]["transform"]
    document["format_version"] = 2
    (tmp_path / "calibrator.json").write_text(json.dumps(document))
    assert cm.ConformalRiskCalibrator.load(tmp_path / "calibrator.json").transform is None


def test_copies_keep_it_fitted() -> None:
    fitted = in_front(cm.TemperatureScaler().fit(*TRAINING)).fit(*OTHERS)
    assert clone(fitted).fit(*OTHERS).lambda_hat_ == fitted.lambda_hat_


def test_another_fit_of_the_scaler_is_noticed() -> None:
    scaler = cm.TemperatureScaler().fit(*TRAINING)
    fitted = in_front(scaler).fit(*OTHERS)
    scaler.fit(*TRAINING)
    assert fitted.predict(NEW[0]).any(), "the same map"
    scaler.fit(TRAINING[0] * 2, TRAINING[1])
    with pytest.raises(ValueError, match=r"transform is .* fit again"):
        fitted.predict(NEW[0])


@pytest.mark.parametrize("profile", ["exact", "binned"])
def test_images_of_another_scaler_do_not_join(profile: str) -> None:
    """Also before anything was asked: critical values are those of the scaler with which images were read."""
    (X, y), new = OTHERS, NEW
    one, other = (
        cm.TemperatureScaler().fit(*TRAINING),
        cm.TemperatureScaler().fit(TRAINING[0] / 2, TRAINING[1]),
    )
    calibrator = in_front(one, profile=profile).partial_fit(X, y)
    for stranger in (other, None):
        calibrator.set_params(transform=stranger)
        for ask in (
            lambda: calibrator.lambda_hat_,
            lambda: calibrator.n_images_,
            lambda: calibrator.predict(X),
            lambda: calibrator.partial_fit(*new),
            lambda: calibrator.recalibrate(alpha=0.2),
            lambda: calibrator.risk_limit(),
        ):
            with pytest.raises(
                ValueError, match=r"transform is .*, but the images were calibrated with .*: fit again"
            ):
                ask()
        with pytest.raises(ValueError, match="transform differs: "):
            in_front(stranger, profile=profile).merge(calibrator)
    calibrator.set_params(transform=one).merge(in_front(one, profile=profile).partial_fit(*new))
    together = np.concatenate([X, new[0]]), np.concatenate([y, new[1]])
    assert calibrator.lambda_hat_ == in_front(one, profile=profile).fit(*together).lambda_hat_


def test_what_cannot_stand_in_front() -> None:
    with pytest.raises(TypeError, match="transform must be a fitted scaler such as TemperatureScaler"):
        in_front("temperature").fit(*OTHERS)
    for wrong, says in {
        "scaler.json": "got 'scaler.json': load it first .* as by TemperatureScaler.load",
        cm.TemperatureScaler: r"got the class TemperatureScaler: .* fit it, TemperatureScaler\(\)\.fit\(X, y\)",
        cm.EnsembleAverager(): "got EnsembleAverager: apply it first, .* with inputs='probabilities'",
        3: "got int$",
    }.items():
        with pytest.raises(TypeError, match=says):
            in_front(wrong).fit(*OTHERS)
    with pytest.raises(ValueError, match="TemperatureScaler has seen no images yet"):
        in_front(cm.TemperatureScaler()).fit(*OTHERS)
    scaler = cm.TemperatureScaler().fit(*TRAINING)
    with pytest.raises(ValueError, match=r"inputs='probabilities', but the scaler .* takes logits"):
        cm.ConformalRiskCalibrator(transform=scaler).fit(*OTHERS)
    with pytest.raises(ValueError, match="X has K = 3 classes, but the scaler was fitted with K = 4"):
        in_front(scaler).fit(OTHERS[0][:, :3], OTHERS[1] % 3)
    bad = OTHERS[0].copy()
    bad[3, 2, 1, 5] = np.nan
    with pytest.raises(ValueError, match=r"image 3.*\(1, 5\)"):
        in_front(scaler).fit(bad, OTHERS[1])


@pytest.mark.parametrize(
    ("scaler", "fit_looks", "use_looks"),
    [
        (cm.TemperatureScaler(), False, False),
        (cm.VectorScaler(), False, False),
        (cm.DirichletScaler(), False, False),
        (cm.StructuredScaler(), False, False),
        (cm.StructuredScaler(decision="argmax"), False, False),
        (cm.StructuredScaler(decision="order"), False, False),
        (cm.MetaCal(), False, True),
        (cm.SelectiveScaler(hidden=(), features="probs"), False, True),
        (cm.SelectiveScaler(hidden=()), True, True),
        (cm.LocalTemperatureScaler(), True, True),
    ],
)
def test_what_looks_at_void_pixels(scaler: Any, fit_looks: bool, use_looks: bool) -> None:
    """As the README says it."""

    def refused(looks: bool) -> Any:
        return pytest.raises(ValueError, match="is NaN at pixel") if looks else nullcontext()

    scaler.set_params(n_pixels=100).fit(*TRAINING)
    logits, y = OTHERS[0].copy(), OTHERS[1].copy()
    logits[3, 2, 1, 5], y[3, 1, 5] = np.nan, 255
    with refused(fit_looks):
        clone(scaler).fit(logits, y)
    with refused(use_looks):
        in_front(scaler).fit(logits, y)
    with refused(use_looks):
        cm.metrics.expected_calibration_error(y, logits, inputs="logits", transform=scaler)
    with refused(True):
        make_pipeline(FrozenEstimator(scaler), cm.ConformalRiskCalibrator()).fit(logits, y)


def test_images_of_the_scaler_are_noticed() -> None:
    scaler = cm.TemperatureScaler().fit(*TRAINING)
    with pytest.warns(cm.SharedImagesWarning, match=f"^{N} of {N} images have the labels"):
        in_front(scaler).fit(*TRAINING)
    some = [np.concatenate([a[:23], b[:1]]) for a, b in zip(OTHERS, TRAINING, strict=True)]
    with pytest.warns(cm.SharedImagesWarning, match=f"^1 of {N} images has the labels"):
        in_front(scaler, profile="binned").fit(*some)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_front(scaler).fit(*OTHERS)


def test_images_of_one_label_are_not_compared() -> None:
    X, y = TRAINING[0], np.zeros_like(TRAINING[1])
    scaler = cm.TemperatureScaler().fit(X, np.concatenate([y[:-1], TRAINING[1][-1:]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_front(scaler, alpha=0.5).fit(OTHERS[0], y)


def test_a_pipeline_warns_of_the_same_images() -> None:
    with pytest.warns(cm.SharedImagesWarning, match="fitted to"):
        make_pipeline(cm.TemperatureScaler(), cm.ConformalRiskCalibrator()).fit(*OTHERS)
    scaler = cm.TemperatureScaler().fit(*TRAINING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = make_pipeline(FrozenEstimator(scaler), cm.ConformalRiskCalibrator()).fit(*OTHERS)
    assert (pipeline.predict(NEW[0]) == in_front(scaler).fit(*OTHERS).predict(NEW[0])).all()


def test_images_of_a_base_are_noticed(tmp_path: Path) -> None:
    base = cm.TemperatureScaler().fit(*TRAINING)
    scaler = cm.SelectiveScaler(base=base, features="probs", hidden=()).fit(*NEW)
    scaler.save(tmp_path / "scaler.json")
    for known in (scaler, cm.SelectiveScaler.load(tmp_path / "scaler.json")):
        for images in (TRAINING, NEW):
            with pytest.warns(cm.SharedImagesWarning, match=f"^{N} of {N} images"):
                in_front(known).fit(*images)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            in_front(known).fit(*OTHERS)


def test_a_class_of_the_same_name_takes_nobodys_place(tmp_path: Path) -> None:
    """Not even one with files of its own."""
    logits, y = problem(0)
    cm.TemperatureScaler().fit(logits, y).save(tmp_path / "scaler.json")
    kinds = [
        type("TemperatureScaler", (cm.TemperatureScaler,), {"__module__": "users", "_FORMAT": ("Mine", 1)}),
        type("Scaler", (cm.VectorScaler,), {"__module__": "users"}),
    ]
    found = load_transformer(tmp_path / "scaler.json")
    assert type(found) is cm.TemperatureScaler
    assert not set(kinds) & set(Transformer._KINDS.values())
    assert "Scaler" not in Transformer._KINDS
