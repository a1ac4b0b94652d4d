"""Local temperatures against SciPy, known answers and a twin: theta, errors, probabilities, files, workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, special

import conformask as cm
import scaling_twin as twin

LOGITS, Y = twin.problem()
ALL = 2**40


def seen(logits: NDArray) -> NDArray:
    """What the temperature of a pixel follows from, (6, n, ...)."""
    h, margin, *_, agreement, distance, mean = np.stack(
        [twin.features(p) for p in special.softmax(logits.astype(np.float64), axis=1)], axis=1
    )
    k = np.log(logits.shape[1])
    return np.stack([np.ones(h.shape), h / k, margin, agreement, distance, mean / k])


def temperatures(theta: NDArray, logits: NDArray) -> NDArray:
    return np.exp(np.tensordot(theta, seen(logits), 1))


def local_problem(theta: NDArray, n: int = 30, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Labels of the law that logits have at the temperatures of theta."""
    logits, _ = twin.problem(n, seed)
    z = logits / temperatures(theta, logits)[:, None]
    y = (z + np.random.default_rng(seed + 1).gumbel(size=z.shape)).argmax(axis=1)
    y[np.random.default_rng(seed + 2).random(y.shape) < 0.1] = 255
    return logits, y


def test_theta_is_that_of_scipy() -> None:
    scaler = cm.LocalTemperatureScaler(ridge=0.05, n_pixels=ALL).fit(LOGITS, Y)
    labelled = Y != 255
    phi, z, labels = seen(LOGITS)[:, labelled], np.moveaxis(LOGITS, 1, -1)[labelled], Y[labelled]

    def value(theta: NDArray) -> float:
        u = z * np.exp(-theta @ phi)[:, None]
        losses = special.logsumexp(u, axis=1) - u[np.arange(len(u)), labels]
        return float(losses.mean() + 0.05 / 12 * (theta[1:] ** 2).sum())

    found = optimize.minimize(value, np.zeros(6), method="BFGS", options={"gtol": 1e-7})
    assert scaler.theta_ == pytest.approx(found.x, abs=2e-3)
    assert value(scaler.theta_) <= found.fun + 1e-8
    assert scaler.nll_ == pytest.approx(found.fun - 0.05 / 12 * (found.x[1:] ** 2).sum(), abs=1e-5)


def test_the_law_of_the_labels_is_found() -> None:
    truth = np.array([0.4, -0.5, 0.3, -0.4, 0.5, 0.6])
    scaler = cm.LocalTemperatureScaler(ridge=0, n_pixels=ALL).fit(*local_problem(truth, 60))
    assert (abs(scaler.theta_ - truth) < 4 * scaler.standard_errors_).all()
    logits, y = local_problem(truth, 20, 9)
    one = cm.TemperatureScaler().fit(*local_problem(truth, 60))
    local, same = (twin.log_loss(each.transform(logits), y) for each in (scaler, one))
    ideal = twin.log_loss(twin.tempered(logits, 1 / temperatures(truth, logits)), y)
    assert ideal <= local < same
    assert local - ideal < 0.1 * (same - ideal)


def test_standard_errors_are_those_of_images() -> None:
    found, said = [], []
    for seed in range(25):
        logits, y = twin.problem(10, seed, shape=(16, 16), scale=1.0)
        logits *= np.exp(np.random.default_rng(seed).normal(0, 0.2, (10, 1, 1, 1)))
        scaler = cm.LocalTemperatureScaler(ridge=10).fit(logits, y)
        found.append(scaler.theta_[0])
        said.append(scaler.standard_errors_[0])
    assert np.mean(said) == pytest.approx(np.std(found), rel=0.35)


def test_standard_errors_of_few_images() -> None:
    """Twice the images: half the variance, but for n / (n - 1)."""
    once = cm.LocalTemperatureScaler(ridge=0, n_pixels=ALL).fit(LOGITS, Y)
    again = np.concatenate([LOGITS, LOGITS + 1.0]), np.concatenate([Y, Y])  # which means the same
    twice = cm.LocalTemperatureScaler(ridge=0, n_pixels=ALL).fit(*again)
    share = np.sqrt((24 / 23) / (12 / 11) / 2)
    assert twice.standard_errors_ == pytest.approx(share * once.standard_errors_, rel=1e-3)


def test_no_more_images_than_parameters_tell_no_errors(tmp_path: Path) -> None:
    few = cm.LocalTemperatureScaler().fit(LOGITS[:6], Y[:6])
    assert np.isinf(few.standard_errors_).all()
    few.save(tmp_path / "few.json")
    loaded = cm.LocalTemperatureScaler.load(tmp_path / "few.json")
    assert np.isinf(loaded.standard_errors_).all()
    assert np.isfinite(cm.LocalTemperatureScaler().fit(LOGITS[:7], Y[:7]).standard_errors_).all()


@pytest.mark.parametrize("scale", [0.2, 1.0, 10.0])
def test_the_loss_is_at_most_that_of_one_temperature(scale: float) -> None:
    local = cm.LocalTemperatureScaler().fit(scale * LOGITS, Y)
    one = cm.TemperatureScaler().fit(scale * LOGITS, Y)
    assert local.nll_ <= one.nll_ + 1e-12
    assert local.nll_ <= local.nll_before_
    assert local.temperature_ == pytest.approx(one.temperature_, rel=1e-9)
    firm = cm.LocalTemperatureScaler(ridge=1e9).fit(scale * LOGITS, Y)
    assert firm.nll_ == pytest.approx(one.nll_, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(24, 31), (3, 8, 31)])
def test_probabilities_are_those_of_the_twin(dtype: type, shape: tuple[int, ...]) -> None:
    logits, y = LOGITS.reshape(12, 4, *shape).astype(dtype), Y.reshape(12, *shape)
    scaler = cm.LocalTemperatureScaler(n_pixels=200).fit(logits, y)
    found = scaler.transform(logits)
    expected = twin.tempered(logits.astype(np.float64), 1 / temperatures(scaler.theta_, logits))
    assert twin.close(found, expected, 2e-5)
    assert (found.argmax(axis=1) == logits.argmax(axis=1)).all()
    assert scaler.feature_names_[0] == "constant"
    assert len(scaler.feature_names_) == 6


@pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning")  # all are wrong
@pytest.mark.parametrize("right", [True, False])
def test_temperatures_that_have_no_end(right: bool) -> None:
    """All pixels are right, or all are wrong."""
    y = np.where(Y == 255, 255, (LOGITS.argmax(axis=1) + (not right)) % 4)
    with pytest.warns(UserWarning, match=f"likelihood still rises at T = {0.001 if right else 1000}"):
        scaler = cm.LocalTemperatureScaler().fit(LOGITS, y)
    assert np.isfinite(scaler.theta_).all()
    assert np.isfinite(scaler.transform(LOGITS)).all()
    assert scaler.nll_ <= scaler.nll_before_


def test_workers_and_files(tmp_path: Path) -> None:
    whole = cm.LocalTemperatureScaler(n_pixels=200).fit(LOGITS, Y)
    first = cm.LocalTemperatureScaler(n_pixels=200).partial_fit(LOGITS[7:], Y[7:])
    second = cm.LocalTemperatureScaler(n_pixels=200).partial_fit(list(LOGITS[:7]), list(Y[:7]))
    known = whole.transform(LOGITS)
    assert (first.merge(second).theta_ == whole.theta_).all()
    assert all((a == b).all() for a, b in zip(whole.transform(list(LOGITS)), known, strict=True))
    whole.save(tmp_path / "one.json")
    loaded = cm.LocalTemperatureScaler.load(tmp_path / "one.json")
    assert (loaded.transform(LOGITS) == known).all()
    assert (loaded.standard_errors_ == whole.standard_errors_).all()
    text = (tmp_path / "one.json").read_text().replace('"theta": [', '"theta": [1.0,')
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(ValueError, match=r"is damaged .* of other shapes"):
        cm.LocalTemperatureScaler.load(tmp_path / "one.json")


def test_surroundings_must_be_finite() -> None:
    """Also where labels are void: windows reach there."""
    bad = LOGITS.copy()
    bad[3, 2, 5, 7] = np.nan
    with pytest.raises(ValueError, match=r"not finite in image 3: class 2 is NaN at pixel \(5, 7\)"):
        cm.LocalTemperatureScaler().fit(bad, np.where(np.isnan(bad).any(axis=1), 255, Y))
