"""Selective scaling: known answers, a twin, its selector, bases of every kind, files, workers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

import conformask as cm
import scaling_twin as twin

LOGITS, Y = twin.problem()
QUICK: dict[str, Any] = {"n_pixels": 300, "hidden": (4,)}


def told_apart(k: int, accuracies: dict[int, float], n: int = 9) -> tuple[NDArray, NDArray]:
    """Logits of confidence 0.9 whose most probable class says how often it is right."""
    gap = math.log(0.9 * (k - 1) / 0.1)
    logits, y = np.zeros((n, k, len(accuracies), 100)), np.zeros((n, len(accuracies), 100), int)
    for row, (label, accuracy) in enumerate(accuracies.items()):
        logits[:, label, row] = gap
        y[:, row] = np.where(np.arange(100) < 100 * accuracy, label, (label + 1) % k)
    return logits, y


def calibration_error(p: NDArray, y: NDArray) -> float:
    """Of all pixels, in 15 bins that are closed on the right."""
    confidence, right = p.max(axis=1).ravel(), (p.argmax(axis=1) == y).ravel()
    bins = np.ceil(confidence * 15 - 1e-6)
    return float(sum(abs((right - confidence)[bins == b].sum()) for b in np.unique(bins)) / len(right))


# Known answers


@pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning")  # one class is said everywhere
@pytest.mark.parametrize(("k", "smoothed"), [(2, 0.18), (10, 0.10)])
@pytest.mark.parametrize("hidden", [(), (8,)])
def test_a_perfect_selector_can_make_calibration_worse(
    k: int, smoothed: float, hidden: tuple[int, ...]
) -> None:
    """Of five pixels one is wrong, and the selector knows it. Infinite T1 is not better than none: "auto" knows it."""
    logits, y = told_apart(k, dict.fromkeys(range(0, 1), 1.0) | {1: 0.0})
    logits, y = (
        np.concatenate([logits[:, :, :1]] * 4 + [logits[:, :, 1:]], axis=2),
        np.concatenate([y[:, :1]] * 4 + [y[:, 1:]], axis=1),
    )
    given = {"features": "probs", "hidden": hidden, "T2": 1.0}
    flat = cm.SelectiveScaler(T1=1e10, **given).fit(logits, y)
    assert (flat.selector_recall_, flat.selector_precision_) == (1, 1)
    assert calibration_error(special.softmax(logits, axis=1), y) == pytest.approx(0.1, abs=1e-6)
    assert calibration_error(flat.transform(logits), y) == pytest.approx(smoothed, abs=1e-6)
    auto = cm.SelectiveScaler(objective="ece_image", **given).fit(logits, y)
    error = calibration_error(auto.transform(logits), y)
    assert error <= min(0.1, smoothed) + 1e-6
    if k == 2:
        assert auto.T1_ == 1


def test_the_best_temperature_of_a_grid() -> None:
    """Of the pixels that are taken for wrong, whose logits differ by log 9, six of ten are right: T1* = 5.41902."""
    logits, y = told_apart(2, {0: 0.9, 1: 0.6})
    scaler = cm.SelectiveScaler(features="probs", hidden=(), threshold=0.7, T2=1.0).fit(logits, y)
    assert scaler.T1_ == 5
    p = scaler.transform(logits)
    assert twin.log_loss(p[:, :, 1:], y[:, 1:]) == pytest.approx(0.67315, abs=5e-6)
    ten = cm.SelectiveScaler(features="probs", hidden=(), threshold=0.7, T1=10, T2=1.0).fit(logits, y)
    assert twin.log_loss(ten.transform(logits)[:, :, 1:], y[:, 1:]) == pytest.approx(0.67720, abs=5e-6)
    best = cm.SelectiveScaler(features="probs", hidden=(), threshold=0.7, T1=5.41902, T2=1.0).fit(logits, y)
    assert best.nll_ < min(scaler.nll_, ten.nll_)
    assert scaler.selector_recall_ == pytest.approx(0.8)
    assert scaler.selector_precision_ == pytest.approx(0.4)


def test_sure_pixels_are_sharpened() -> None:
    logits, y = told_apart(2, {0: 1.0, 1: 0.6})
    with pytest.warns(
        UserWarning, match=r"^T2_ = 0.5: the end .* Use base='temperature', .*give T2 yourself"
    ):
        scaler = cm.SelectiveScaler(features="probs", hidden=(), threshold=0.8).fit(logits, y)
    assert (scaler.T1_, scaler.T2_) == (5, 0.5)
    told = scaler.set_params(T1=5, T2=0.5).fit(logits, y)  # of what is given nothing is told
    assert (told.T1_, told.T2_) == (5, 0.5)


# Probabilities


def twin_of(scaler: Any, u: NDArray, shares: NDArray) -> NDArray:
    """By what the selector says."""
    if scaler.blend:
        low, high = (special.softmax(u / T, axis=1) for T in (scaler.T2_, scaler.T1_))
        return shares[:, None] * low + (1 - shares[:, None]) * high
    return twin.tempered(u, np.where(shares < scaler.threshold, 1 / scaler.T1_, 1 / scaler.T2_))


def shares_of(scaler: Any, logits: NDArray) -> NDArray:
    """What the selector says of pixels, layer by layer."""
    p = special.softmax(logits.astype(np.float64), axis=1)
    if scaler.features == "probs":
        values = np.log(np.moveaxis(p, 1, 0).clip(1e-12))
    else:
        values = np.stack([twin.features(image) for image in p], axis=1)
    arrays = scaler._current()[1].arrays
    n_layers = len(arrays) // 2
    for i in range(n_layers):
        values = np.tensordot(arrays[f"weights_{i}"], values, 1)
        values += arrays[f"bias_{i}"].reshape(-1, *[1] * (values.ndim - 1))
        values = np.maximum(values, 0) if i < n_layers - 1 else values
    return special.expit(values[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("features", "hidden", "blend"),
    [("shape", (4,), False), ("shape", (), True), ("probs", (4, 3), True), ("probs", (), False)],
)
def test_probabilities_are_those_of_the_twin(
    dtype: type, features: str, hidden: tuple[int, ...], blend: bool
) -> None:
    logits = LOGITS.astype(dtype)
    scaler = cm.SelectiveScaler(features=features, hidden=hidden, blend=blend, n_pixels=300).fit(logits, Y)
    shares = shares_of(scaler, logits)
    found, expected = scaler.transform(logits), twin_of(scaler, logits.astype(np.float64), shares)
    clear = abs(shares - scaler.threshold) > 1e-4
    assert twin.close(np.moveaxis(found, 1, -1)[clear], np.moveaxis(expected, 1, -1)[clear], 1e-4)
    assert (found.argmax(axis=1) == logits.argmax(axis=1)).all()
    assert scaler.nll_ <= scaler.nll_before_ + 1e-12


@pytest.mark.parametrize("T1", [1e2, 1e4, 1e10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_temperature_changes_the_most_probable_class(T1: float, dtype: type) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4, 19, 50, 50)).astype(dtype)
    y = (logits / 3 + rng.gumbel(size=logits.shape)).argmax(axis=1)
    for base in (None, "temperature"):
        scaler = cm.SelectiveScaler(T1=T1, base=base, threshold=0.9, **QUICK).fit(logits, y)
        found = scaler.transform(logits)
        assert (found.max(axis=1) < 1 / 19 + 0.01).mean() > 0.1  # it acts
        assert (found.argmax(axis=1) == logits.argmax(axis=1)).all()


def test_volumes_and_lists_give_the_bits_of_arrays() -> None:
    scaler = cm.SelectiveScaler(**QUICK).fit(LOGITS, Y)
    known = scaler.transform(LOGITS)
    assert all((a == b).all() for a, b in zip(scaler.transform(list(LOGITS)), known, strict=True))
    assert (scaler.transform(LOGITS[3:5]) == known[3:5]).all()
    volumes = cm.SelectiveScaler(**QUICK).fit(LOGITS.reshape(12, 4, 2, 12, 31), Y.reshape(12, 2, 12, 31))
    assert volumes.transform(LOGITS.reshape(12, 4, 2, 12, 31)).shape == (12, 4, 2, 12, 31)
    known = scaler.transform(LOGITS)
    for n_threads in (1, 3):
        cm.set_num_threads(n_threads)
        again = cm.SelectiveScaler(**QUICK).fit(LOGITS, Y)
        assert (again.transform(LOGITS) == known).all()
    cm.set_num_threads(None)


# The selector


def test_the_selector_finds_wrong_pixels_of_new_images() -> None:
    logits, y = twin.problem(40, 3)
    scaler = cm.SelectiveScaler(hidden=(8,)).fit(logits[:30], y[:30])
    flagged, labelled = shares_of(scaler, logits[30:]) < 0.5, y[30:] != 255
    wrong = (logits[30:].argmax(axis=1) != y[30:]) & labelled
    assert scaler.selector_recall_ == pytest.approx(flagged[wrong].mean(), abs=0.05)
    assert scaler.selector_precision_ == pytest.approx(wrong[flagged & labelled].mean(), abs=0.05)
    assert scaler.selector_precision_ > wrong.sum() / labelled.sum() + 0.1


def test_the_selector_is_judged_on_images_that_did_not_train_it() -> None:
    """Whether a pixel is right is a coin's: a large selector learns its own pixels by heart, and no others."""
    right = np.random.default_rng(0).random(Y.shape) < 0.5
    y = np.where(right, LOGITS.argmax(axis=1), (LOGITS.argmax(axis=1) + 1) % 4)
    with pytest.warns(UserWarning, match=r"^T1_ = 10000: the end .* almost the same probability for all"):
        scaler = cm.SelectiveScaler(hidden=(64,), n_pixels=20).fit(LOGITS, y)
    assert scaler.selector_recall_ < 0.75
    assert scaler.selector_precision_ < 0.75


@pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning")  # all are wrong
@pytest.mark.parametrize("right", [True, False])
def test_nothing_to_tell_apart(right: bool) -> None:
    y = np.where(Y == 255, 255, (LOGITS.argmax(axis=1) + (not right)) % 4)
    with pytest.warns(UserWarning, match=f"^{'T2_ = 0.5' if right else 'T1_ = 10000'}: the end of what"):
        scaler = cm.SelectiveScaler(**QUICK).fit(LOGITS, y)
    assert np.isfinite(scaler.transform(LOGITS)).all()
    assert math.isnan(scaler.selector_recall_ if right else 0) == right
    assert ((1, 0.5) if right else (1e4, 1)) == (scaler.T1_, scaler.T2_)


# Bases


BASES: dict[str, Any] = {
    "temperature": cm.TemperatureScaler(),
    "vector": cm.VectorScaler(),
    "dirichlet": cm.DirichletScaler(),
    "meta": cm.MetaCal(high=50.0),
    "local": cm.LocalTemperatureScaler(),
    "selective": cm.SelectiveScaler(blend=True, **QUICK),
}


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("features", ["shape", "probs"])
def test_it_stands_on_any_scaler(name: str, features: str, tmp_path: Path) -> None:
    base = type(BASES[name])(**BASES[name].get_params(deep=False)).fit(LOGITS, Y)
    scaler = cm.SelectiveScaler(base=base, features=features, **QUICK).fit(LOGITS, Y)
    u = np.log(base.transform(LOGITS))
    expected, shares = twin_of(scaler, u, shares_of(scaler, LOGITS)), shares_of(scaler, LOGITS)
    clear = abs(shares - 0.5) > 1e-4
    found = scaler.transform(LOGITS)
    assert twin.close(np.moveaxis(found, 1, -1)[clear], np.moveaxis(expected, 1, -1)[clear], 1e-6)
    base.save(tmp_path / "base.json")
    loaded = cm.SelectiveScaler(base=type(base).load(tmp_path / "base.json"), features=features, **QUICK)
    assert (loaded.fit(LOGITS, Y).transform(LOGITS) == found).all()
    scaler.save(tmp_path / "one.json")
    again = cm.SelectiveScaler.load(tmp_path / "one.json")
    assert (again.transform(LOGITS) == found).all()
    assert (again.T1_, again.T2_, again.nll_) == (scaler.T1_, scaler.T2_, scaler.nll_)
    # The loss that the choice goes by is that of the probabilities.
    every = cm.SelectiveScaler(base=base, features=features, hidden=(4,), n_pixels=2**40, T1=2.0, T2=0.9)
    with pytest.warns(cm.DuplicateImagesWarning):
        every.fit(np.concatenate([LOGITS[:1]] * 3), np.concatenate([Y[:1]] * 3))
    assert every.nll_ == pytest.approx(twin.log_loss(every.transform(LOGITS[:1]), Y[:1]), rel=1e-6)


def test_a_base_that_was_not_fitted_is_fitted_to_the_same_images() -> None:
    fitted = cm.TemperatureScaler(n_pixels=300).fit(LOGITS, Y)
    known = cm.SelectiveScaler(base=fitted, **QUICK).fit(LOGITS, Y).transform(LOGITS)
    for base in ("temperature", cm.TemperatureScaler(n_pixels=300)):
        scaler = cm.SelectiveScaler(base=base, **QUICK).fit(LOGITS, Y)
        assert (scaler.transform(LOGITS) == known).all()
        assert scaler.base is base
    assert not hasattr(base, "_state")
    two = [cm.SelectiveScaler(base=cm.LocalTemperatureScaler(), **QUICK) for _ in range(2)]
    whole = cm.SelectiveScaler(base=cm.LocalTemperatureScaler(), **QUICK).fit(LOGITS, Y)
    joined = two[0].partial_fit(LOGITS[:5], Y[:5]).merge(two[1].partial_fit(LOGITS[5:], Y[5:]))
    assert (joined.transform(LOGITS) == whole.transform(LOGITS)).all()


def test_bases_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="base takes inputs='probabilities', but inputs is 'logits'"):
        cm.SelectiveScaler(base=cm.TemperatureScaler(inputs="probabilities"), **QUICK).fit(LOGITS, Y)
    three = cm.TemperatureScaler().fit(LOGITS[:, :3], np.where(Y == 3, 255, Y))
    with pytest.raises(ValueError, match="base was fitted with K = 3 classes, X has K = 4"):
        cm.SelectiveScaler(base=three, **QUICK).fit(LOGITS, Y)
    scaler = cm.SelectiveScaler(**QUICK).fit(LOGITS, Y).set_params(base=three)
    with pytest.raises(ValueError, match=r"base is .* but the images were calibrated with None: fit again"):
        scaler.transform(LOGITS)


def test_one_image_is_too_few() -> None:
    with pytest.raises(ValueError, match=r"SelectiveScaler needs at least 2 images \(groups\)"):
        cm.SelectiveScaler().fit(LOGITS[:1], Y[:1])


def test_files_that_are_damaged_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    cm.SelectiveScaler(base="vector", **QUICK).fit(LOGITS, Y).save(path)
    text = path.read_text()
    for old, new in {
        '"bias_0": [': '"bias_0": [1.0,',
        '"kind": "VectorScaler"': '"kind": "Path"',
        '"weights_1"': '"other"',
    }.items():
        path.write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=r"one\.json is damaged"):
            cm.SelectiveScaler.load(path)
