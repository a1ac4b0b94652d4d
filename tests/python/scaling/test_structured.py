"""Structured scaling: against SciPy on the same pixels, known parameters, a twin, and predictions that stay."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, special

import conformask as cm
from conformask import _core

K, SHAPE = 4, (24, 30)
KINDS = ["vector", "matrix"]
DECISIONS = ["free", "argmax", "order"]
KEEPERS = ["argmax", "order"]


def labels_of(logits: NDArray, rng: np.random.Generator) -> NDArray:
    """Labels that are as likely as softmax says."""
    return (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def problem(
    n: int = 10, seed: int = 0, k: int = K, shape: tuple[int, ...] = SHAPE
) -> tuple[NDArray, NDArray]:
    """Logits that are too sure, and say one class too often; some void."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, k, *shape))
    y = labels_of(logits, rng)
    y[rng.random(y.shape) < 0.1] = 255
    shift = np.linspace(-1, 1, k).reshape(k, 1, 1)
    return 2 * logits + shift, y


LOGITS, Y = problem()
FITTED = {
    (kind, decision): cm.StructuredScaler(kind, decision=decision).fit(LOGITS, Y)
    for kind in KINDS
    for decision in DECISIONS
}


def flat(logits: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Logarithms of the softmax of all labelled pixels (N, K), and their labels."""
    pixels = special.log_softmax(np.moveaxis(logits, 1, -1).astype(np.float64), axis=-1)
    return pixels[y != 255], y[y != 255]


def log_loss(z: NDArray, labels: NDArray) -> float:
    return float((special.logsumexp(z, axis=1) - z[np.arange(len(labels)), labels]).mean())


def first_of(values: NDArray) -> int:
    """The lowest class of the largest."""
    return int(np.flatnonzero(values == values.max())[0])


def mapped(u: NDArray, weight: NDArray, bias: NDArray, decision: str) -> NDArray:
    """New logits of a pixel: slow, as it is written."""
    if decision == "free":
        return (weight * u if weight.ndim == 1 else weight @ u) + bias
    top = first_of(u)
    z = np.zeros(len(u))
    if decision == "argmax":
        for j in set(range(len(u))) - {top}:
            z[j] = -bias[top, j] - sum(weight[top, j, other] * (u[top] - u[other]) for other in range(len(u)))
        return z
    ranks = sorted(range(len(u)), key=lambda class_: (-u[class_], class_))
    gaps = np.array([u[high] - u[low] for high, low in pairwise(ranks)])
    for r in range(1, len(u)):
        z[ranks[r]] = z[ranks[r - 1]] - weight[top, r - 1] @ gaps - bias[top, r - 1]
    return z


def twin(scaler: Any, logits: NDArray) -> NDArray:
    pixels = np.moveaxis(special.log_softmax(logits.astype(np.float64), axis=1), 1, -1)
    z = np.apply_along_axis(mapped, -1, pixels, scaler.weight_, scaler.bias_, scaler.decision)
    return np.moveaxis(special.softmax(z, axis=-1), -1, 1)


# Parameters


@pytest.mark.parametrize("kind", KINDS)
def test_free_maps_are_those_of_scipy(kind: str) -> None:
    logits, y = problem(5, k=3, shape=(20, 20))
    scaler = cm.StructuredScaler(
        kind, intercept=0.3, diagonal=0.7, off_diagonal=0.2, n_eff=50.0, n_pixels=2**40
    ).fit(logits, y)
    pixels, labels = flat(logits, y)
    k, size = 3, 3 if kind == "vector" else 9
    t = scaler.temperature_
    s = optimize.minimize_scalar(
        lambda s: log_loss(s * pixels, labels), bounds=(1e-2, 10), method="bounded", options={"xatol": 1e-12}
    )
    assert 1 / t == pytest.approx(s.x, rel=1e-6)

    def value(parameters: NDArray) -> float:
        v, b = np.split(parameters, [size])
        matrix = np.diag(v) if kind == "vector" else v.reshape(k, k)
        off = matrix - np.diag(np.diag(matrix))
        penalty = 0.3 * k * (b**2).sum() + 0.7 * k * (np.diag(matrix) ** 2).sum()
        penalty += 0.2 * k * (k - 1) * (off**2).sum()
        return log_loss(pixels / t @ (np.eye(k) + matrix).T + b, labels) + penalty / 50

    expected = optimize.minimize(value, np.zeros(size + k), method="BFGS", options={"gtol": 1e-9})
    v, b = np.split(expected.x, [size])
    whole = 1 + v if kind == "vector" else np.eye(k) + v.reshape(k, k)
    assert scaler.weight_ * t == pytest.approx(whole, abs=2e-5)
    assert scaler.bias_ == pytest.approx(b - b.mean(), abs=2e-5)
    assert scaler.n_eff_ == 50


@pytest.mark.parametrize("decision", KEEPERS)
@pytest.mark.parametrize("kind", KINDS)
def test_maps_that_keep_are_those_of_scipy(kind: str, decision: str) -> None:
    """First the map of all pixels, which SciPy finds from the twin's logits; from there each expert's, where no slope
    is left but what points out of the bounds: of a convex problem it is the minimum."""
    logits, y = problem(3, k=3, shape=(8, 8))
    scaler = cm.StructuredScaler(
        kind, decision=decision, intercept=0.05, diagonal=0.1, off_diagonal=0.2, n_eff=30.0, n_pixels=2**40
    ).fit(logits, y)
    pixels, labels = flat(logits, y)
    top, k, w = pixels.argmax(axis=1), 3, 3 - (decision == "order")
    diagonal = np.append(np.eye(w) > 0, np.ones(w, bool))  # with the shifts, which are an expert's own too
    ridge = np.where(diagonal, 0.1 * k, 0.2 * k * (k - 1)) / 30
    ridge[-w:] = 0.05 * k / 30

    def value(parameters: NDArray, centre: NDArray, chosen: NDArray) -> float:
        matrix, shift = parameters[:-w].reshape(w, w), parameters[-w:]
        experts = np.broadcast_to(matrix, (k, w, w)), np.broadcast_to(shift, (k, w))
        z = np.array([mapped(u, *experts, decision) for u in pixels[chosen] / scaler.temperature_])
        return log_loss(z, labels[chosen]) * chosen.mean() + float(ridge @ (parameters - centre) ** 2)

    identity = np.append(np.eye(w), np.zeros(w))
    pooled = optimize.minimize(
        lambda parameters: value(parameters, identity, top >= 0),
        identity,
        method="L-BFGS-B",
        bounds=[(0, None)] * len(identity),
        options={"ftol": 1e-14, "gtol": 1e-8, "maxfun": 10**5},
    ).x
    for expert in range(k):
        found = np.append(scaler.weight_[expert] * scaler.temperature_, scaler.bias_[expert])
        own = np.zeros((w, w), bool)
        if decision == "argmax":
            own[expert], own[:, expert] = True, True
        silent = np.append(own, own.all(axis=1))
        assert (found[silent] == 0).all()
        free = (diagonal if kind == "vector" else True) & ~silent
        assert found[~free & ~silent] == pytest.approx(pooled[~free & ~silent], abs=1e-4)
        found[~free] = pooled[~free]
        slopes = optimize.approx_fprime(found, lambda p: value(p, pooled, top == expert), 1e-7)  # noqa: B023
        at_bound = found < 1e-9
        assert slopes[free & ~at_bound] == pytest.approx(0, abs=2e-6)
        assert (slopes[free & at_bound] > -2e-6).all()


@pytest.mark.parametrize("decision", DECISIONS)
def test_parameters_from_which_labels_were_drawn_are_found(decision: str) -> None:
    rng = np.random.default_rng(1)
    given = rng.normal(0, 2, (30, 3, 30, 30))
    if decision == "free":
        weight, bias = np.array([[0.6, 0.1, 0], [0, 0.5, 0], [-0.1, 0, 0.8]]), np.array([0.3, -0.5, 0.2])
    elif decision == "argmax":
        weight = rng.uniform(0, 0.3, (3, 3, 3)) + 0.5 * np.eye(3)
        bias = rng.uniform(0.1, 0.6, (3, 3))
    else:
        weight = rng.uniform(0, 0.3, (3, 2, 2)) + 0.5 * np.eye(2)
        bias = rng.uniform(0.1, 0.6, (3, 2))
    pixels = np.moveaxis(special.log_softmax(given, axis=1), 1, -1)
    z = np.moveaxis(np.apply_along_axis(mapped, -1, pixels, weight, bias, decision), -1, 1)
    scaler = cm.StructuredScaler("matrix", decision=decision, n_eff=1e12, n_pixels=2**40).fit(
        given, labels_of(z, rng)
    )
    if decision == "free":  # of a matrix softmax sees differences of rows
        assert scaler.weight_ - scaler.weight_[0] == pytest.approx(weight - weight[0], abs=0.04)
    elif decision == "argmax":
        for expert in range(3):
            others = np.delete(np.arange(3), expert)
            found = scaler.weight_[expert][np.ix_(others, others)]
            assert found == pytest.approx(weight[expert][np.ix_(others, others)], abs=0.12)
            assert scaler.bias_[expert, others] == pytest.approx(bias[expert, others], abs=0.2)
    else:
        assert scaler.weight_ == pytest.approx(weight, abs=0.12)
        assert scaler.bias_ == pytest.approx(bias, abs=0.2)


def test_much_penalty_leaves_the_temperature_alone() -> None:
    alone = cm.TemperatureScaler().fit(LOGITS, Y)
    for kind in KINDS:
        for decision in DECISIONS:
            scaler = cm.StructuredScaler(kind, decision=decision, n_eff=1e-9).fit(LOGITS, Y)
            assert scaler.temperature_ == pytest.approx(alone.temperature_, rel=1e-9)
            assert scaler.nll_ == pytest.approx(alone.nll_, abs=1e-7)
            assert scaler.transform(LOGITS) == pytest.approx(alone.transform(LOGITS), abs=1e-6)


@pytest.mark.parametrize(("kind", "decision"), FITTED)
def test_the_loss_is_never_above_that_of_the_temperature(kind: str, decision: str) -> None:
    temperature = cm.TemperatureScaler().fit(LOGITS, Y)
    scaler = FITTED[kind, decision]
    assert scaler.nll_ < temperature.nll_ < scaler.nll_before_
    assert scaler.nll_before_ == pytest.approx(temperature.nll_before_, rel=1e-14)
    pixels, labels = flat(LOGITS, Y)
    z = np.array([mapped(u, scaler.weight_, scaler.bias_, decision) for u in pixels[::7]])
    assert scaler.nll_ == pytest.approx(log_loss(z, labels[::7]), rel=0.1)


# Effective numbers


def twin_number(logits: NDArray, y: NDArray, temperature: float, groups: NDArray) -> float:
    """From the definition, with differences for derivatives, pixel by pixel."""
    k = logits.shape[1]
    names = np.unique(groups)
    pixels = [flat(logits[groups == name], y[groups == name]) for name in names]
    total = sum(len(labels) for _, labels in pixels)
    scores, hessian = [], np.zeros((2 * k, 2 * k))
    for u, labels in pixels:
        p = special.softmax(u / temperature, axis=1)
        r = p - np.eye(k)[labels]
        scores.append(np.append((r * u).sum(axis=0), r.sum(axis=0)) / total)
        for pixel, share in zip(u, p, strict=True):
            bent = np.diag(share) - np.outer(share, share)
            jacobian = np.hstack([np.diag(pixel), np.eye(k)])
            hessian += jacobian.T @ bent @ jacobian / total
    apart = np.array(scores) - np.mean(scores, axis=0)
    scatter = apart.T @ apart * len(names) / (len(names) - 1)
    inverse = np.linalg.pinv(hessian, rcond=1e-9, hermitian=True)
    return float(np.clip(np.trace(inverse @ hessian) / np.trace(inverse @ scatter), len(names), total))


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_effective_numbers_are_those_of_the_twin(spread: float) -> None:
    rng = np.random.default_rng(0)
    logits, y = problem(9, shape=(15, 15))
    logits += rng.normal(0, spread, (9, K, 1, 1))  # images differ
    groups = np.repeat(np.arange(6), [1, 2, 1, 2, 2, 1])
    for given in (None, groups):
        scaler = cm.StructuredScaler(n_pixels=2**40).fit(logits, y, groups=given)
        expected = twin_number(logits, y, scaler.temperature_, np.arange(9) if given is None else groups)
        assert scaler.n_eff_ == pytest.approx(expected, rel=1e-6)


def test_effective_numbers_say_how_much_images_differ() -> None:
    rng = np.random.default_rng(5)
    logits, y = problem(60)
    alike = cm.StructuredScaler(n_pixels=2**40).fit(logits, y)
    n_pixels = int((y != 255).sum())
    assert alike.n_eff_ == pytest.approx(n_pixels, rel=0.25)
    shifted = logits + rng.normal(0, 1, (60, K, 1, 1))
    apart = cm.StructuredScaler(n_pixels=2**40).fit(shifted, y)
    assert 60 <= apart.n_eff_ < 0.2 * n_pixels
    one = cm.StructuredScaler().fit(logits[:1], y[:1])
    assert one.n_eff_ == 1
    same = np.repeat(logits[:5], 2, axis=0), np.repeat(y[:5], 2, axis=0)
    with pytest.warns(cm.DuplicateImagesWarning):
        grouped = cm.StructuredScaler().fit(*same, groups=np.arange(10) // 2)
    with pytest.warns(cm.DuplicateImagesWarning):
        alone = cm.StructuredScaler().fit(*same)
    assert grouped.n_eff_ < 1.01 * alone.n_eff_


def test_hessians_are_those_of_differences() -> None:
    rng = np.random.default_rng(0)
    n, ends = 3000, np.array([7, 7, 1500, 3000], np.uintp)
    features, labels = rng.normal(0, 2, (K, n)), rng.integers(0, K, n).astype(np.uint16)
    weights = rng.random(n)
    weights[::5] = 0
    given = features, labels, weights, ends
    w, b = rng.normal(0, 0.5, (2, K))
    found = _core.log_loss_hessians(*given, w, b)
    assert found.shape == (4, 2 * K, 2 * K)
    for j, step in enumerate(np.eye(2 * K)):
        product = _core.log_loss_hessian_products(*given, w, b, *np.split(step, 2))
        assert found[:, j] == pytest.approx(product, rel=1e-10, abs=1e-10)
    with pytest.raises(ValueError, match="K biases"):
        _core.log_loss_hessians(*given, w, b[:0])
    with pytest.raises(ValueError, match="K weights and K biases"):
        _core.log_loss_hessians(*given, np.eye(K).ravel(), b)


def test_many_pixels_are_fitted_as_few_are() -> None:
    """Of more pixels a part is fitted first."""
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (2, 3, 270, 260))
    y = labels_of(logits * np.array([1, 0.7, 0.5]).reshape(3, 1, 1), rng)
    scaler = cm.StructuredScaler(n_eff=1e5, n_pixels=2**40).fit(logits, y)
    pixels, labels = flat(logits, y)

    v, b = scaler.weight_ * scaler.temperature_ - 1, scaler.bias_
    u = pixels / scaler.temperature_
    r = (special.softmax((1 + v) * u + b, axis=1) - np.eye(3)[labels]) / len(labels)
    slopes = np.append((r * u).sum(axis=0), r.sum(axis=0)) + 2 * 0.1 * 3 / 1e5 * np.append(v, b)
    assert slopes == pytest.approx(0, abs=1e-8)  # of a convex loss: nothing is better
    assert abs(v).max() > 0.2


# Probabilities


@pytest.mark.parametrize(("kind", "decision"), FITTED)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_are_those_of_the_twin(kind: str, decision: str, dtype: type) -> None:
    logits = LOGITS[:3].astype(dtype)
    scaler = FITTED[kind, decision]
    found = scaler.transform(logits)
    assert found.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert found == pytest.approx(twin(scaler, logits), abs=1e-12 if dtype == np.float64 else 3e-5)
    views = np.moveaxis(np.ascontiguousarray(np.moveaxis(logits, 1, -1)), -1, 1)
    assert (scaler.transform(views) == found).all()


@pytest.mark.parametrize(("kind", "decision"), FITTED)
def test_single_precision_fits_what_double_does(kind: str, decision: str) -> None:
    single = cm.StructuredScaler(kind, decision=decision).fit(LOGITS.astype(np.float32), Y)
    double = FITTED[kind, decision]
    assert single.n_eff_ == pytest.approx(double.n_eff_, rel=1e-4)
    assert single.weight_ == pytest.approx(double.weight_, abs=1e-4)
    assert single.bias_ == pytest.approx(double.bias_, abs=1e-4)


@pytest.mark.parametrize(("kind", "decision"), FITTED)
def test_a_constant_that_is_added_changes_nothing(kind: str, decision: str) -> None:
    constant = np.random.default_rng(0).normal(0, 30, (10, 1, *SHAPE))
    scaler = FITTED[kind, decision]
    shifted = cm.StructuredScaler(kind, decision=decision).fit(LOGITS + constant, Y)
    assert shifted.nll_ == pytest.approx(scaler.nll_, rel=1e-9)
    assert shifted.transform(LOGITS + constant) == pytest.approx(scaler.transform(LOGITS), abs=1e-6)


def tied(dtype: type) -> NDArray:
    """Logits many of which are equal, next to each other, or far apart."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(-2, 3, (4, K, *SHAPE)).astype(dtype)
    coarse[1] = coarse[0]
    at = rng.random(coarse[1].shape) < 0.5
    coarse[1][at] = np.nextafter(coarse[1][at], dtype(9))
    coarse[2] *= dtype(1e4)
    coarse[3] = rng.normal(0, 1e-3, coarse[3].shape)
    return coarse


def follows(found: NDArray, given: NDArray) -> bool:
    """Whether no class that was before another is behind it."""
    order = np.argsort(-given, axis=1, kind="stable")
    falling = np.take_along_axis(found, order, axis=1)
    return bool((falling[:, 1:] <= falling[:, :-1]).all())


@pytest.mark.parametrize("decision", KEEPERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_prediction_stays(kind: str, decision: str, dtype: type) -> None:
    scaler = FITTED[kind, decision]
    for logits in (LOGITS.astype(dtype), tied(dtype)):
        found = scaler.transform(logits)
        assert (found.argmax(axis=1) == logits.argmax(axis=1)).all()
        assert found.sum(axis=1) == pytest.approx(1, abs=1e-5)
        if decision == "order":
            assert follows(found, logits)
    probabilities = special.softmax(tied(np.float64), axis=1).astype(dtype)
    of_probabilities = cm.StructuredScaler(kind, decision=decision, inputs="probabilities")
    of_probabilities.fit(special.softmax(LOGITS, axis=1).astype(dtype), Y)
    found = of_probabilities.transform(probabilities)
    assert (found.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert decision == "argmax" or follows(found, probabilities)


@pytest.mark.parametrize("keeps_order", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_prediction_stays_whatever_the_map(keeps_order: bool, dtype: type) -> None:
    """Maps that make margins 0, tiny, or huge."""
    rng = np.random.default_rng(0)
    width = K - keeps_order
    for factor, zeros in [(1e-9, 0.5), (1e-4, 0.9), (1.0, 0.5), (1e6, 0.2), (1e30, 0.0), (0.0, 0.0)]:
        numbers = (
            factor * rng.random(K * width * (width + 1)) * (rng.random(K * width * (width + 1)) >= zeros)
        )
        weight, bias = np.split(numbers, [K * width**2])
        map_ = _core.ScalerMap.ordered(weight, bias, keeps_order, False)
        for logits in (LOGITS[:4].astype(dtype), tied(dtype)):
            found = np.empty_like(logits)
            _core.probabilities(logits, map_, found, 0)
            assert (found.argmax(axis=1) == logits.argmax(axis=1)).all()
            assert not keeps_order or follows(found, logits)


def test_free_maps_may_change_the_prediction() -> None:
    assert (FITTED["vector", "free"].transform(LOGITS).argmax(axis=1) != LOGITS.argmax(axis=1)).any()


@pytest.mark.parametrize(("kind", "decision"), FITTED)
def test_probabilities_stand_for_their_logarithms(kind: str, decision: str) -> None:
    probabilities = special.softmax(LOGITS, axis=1)
    scaler = cm.StructuredScaler(kind, decision=decision, inputs="probabilities").fit(probabilities, Y)
    assert scaler.nll_ == pytest.approx(FITTED[kind, decision].nll_, rel=1e-6)
    assert scaler.transform(probabilities) == pytest.approx(
        FITTED[kind, decision].transform(LOGITS), abs=1e-5
    )
    probabilities[0, 0, 0, 1] += 0.1
    with pytest.raises(ValueError, match=r"image 0 .*pixel \(0, 1\)|pixel \(0, 1\)"):
        scaler.transform(probabilities)


@pytest.mark.parametrize(("kind", "decision"), FITTED)
def test_classes_that_no_pixel_has_stay_finite(kind: str, decision: str) -> None:
    logits = LOGITS.copy()
    logits[:, 3] -= 60  # nobody's prediction either
    y = np.where(Y == 3, 1, Y)
    with pytest.warns(UserWarning, match="none of the drawn pixels is labelled with class 3: "):
        scaler = cm.StructuredScaler(kind, decision=decision).fit(logits, y)
    assert np.isfinite(scaler.weight_).all()
    assert np.isfinite(scaler.bias_).all()
    assert np.isfinite(scaler.transform(logits)).all()
    assert scaler.nll_ <= scaler.nll_before_
    if decision == "order":  # an expert without pixels is the map of all, which others stay near
        assert scaler.weight_[3] == pytest.approx(scaler.weight_[:3].mean(axis=0), abs=0.5)


@pytest.mark.parametrize("decision", DECISIONS)
def test_two_classes(decision: str) -> None:
    logits, y = problem(4, k=2)
    for kind in KINDS:
        scaler = cm.StructuredScaler(kind, decision=decision).fit(logits, y)
        assert scaler.transform(logits) == pytest.approx(twin(scaler, logits), abs=1e-12)


@pytest.mark.parametrize(("kind", "decision"), FITTED)
def test_in_front_of_a_calibrator(kind: str, decision: str) -> None:
    scaler = FITTED[kind, decision]
    map_ = scaler._transform().kernel(LOGITS[:2], 0)
    found = np.empty(LOGITS[:2].shape[:1] + SHAPE)
    _core.true_label_scores(LOGITS[:2], Y[:2], cm.LAC()._kernel(), map_, 255, found, 0)
    expected = np.empty_like(found)
    _core.true_label_scores(
        scaler.transform(LOGITS[:2]), Y[:2], cm.LAC()._kernel(), "probabilities", 255, expected, 0
    )
    np.testing.assert_array_equal(found, expected)


def test_threads_change_no_bit() -> None:
    found = []
    for n_threads in (1, 3):
        cm.set_num_threads(n_threads)
        scalers = [cm.StructuredScaler("matrix", decision=each, n_pixels=200) for each in DECISIONS]
        found.append([each.fit(LOGITS, Y).transform(LOGITS[:2]) for each in scalers])
    cm.set_num_threads(None)
    assert all((a == b).all() for a, b in zip(*found, strict=True))


# Workers, files, bad input


@pytest.mark.parametrize("decision", DECISIONS)
def test_any_split_over_workers_gives_the_bits_of_one(decision: str) -> None:
    whole, first, second = (cm.StructuredScaler(decision=decision, n_pixels=200) for _ in range(3))
    whole.fit(LOGITS, Y)
    first.partial_fit(LOGITS[7:], Y[7:])
    second.partial_fit(LOGITS[:7], Y[:7])
    joined = first.merge(second)
    assert joined.nll_ == whole.nll_
    assert (joined.transform(LOGITS) == whole.transform(LOGITS)).all()


@pytest.mark.parametrize(("kind", "decision"), FITTED)
def test_files(kind: str, decision: str, tmp_path: Path) -> None:
    path = tmp_path / "scaler.json"
    scaler = FITTED[kind, decision]
    scaler.save(path)
    loaded = cm.StructuredScaler.load(path)
    assert loaded.get_params() == scaler.get_params()
    assert (loaded.n_eff_, loaded.temperature_) == (scaler.n_eff_, scaler.temperature_)
    assert (loaded.transform(LOGITS) == scaler.transform(LOGITS)).all()
    text = path.read_text()
    for damaged in (
        text.replace(f'"kind": "{kind}"', '"kind": "round"'),
        text.replace(
            f'"decision": "{decision}"', f'"decision": "{"free" if decision != "free" else "order"}"'
        ),
    ):
        assert damaged != text
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"scaler\.json"):
            cm.StructuredScaler.load(path)


def test_negative_numbers_in_a_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scaler.json"
    scaler = FITTED["vector", "argmax"]
    scaler.save(path)
    number = repr(float(scaler.bias_.max()))
    path.write_text(path.read_text().replace(number, f"-{number}"))
    with pytest.raises(ValueError, match="a number of an expert is negative"):
        cm.StructuredScaler.load(path)


def test_bad_input_is_refused() -> None:
    for name, value in {"kind": "scalar", "decision": 3, "intercept": -1.0, "n_eff": 0}.items():
        with pytest.raises((TypeError, ValueError), match=name):
            cm.StructuredScaler(**{name: value}).fit(LOGITS, Y)
    with pytest.raises(ValueError, match="K = 3 classes, but the scaler was fitted with K = 4"):
        FITTED["vector", "argmax"].transform(LOGITS[:, :3])
    for bad in (math.nan, math.inf, -math.inf):
        logits = LOGITS.copy()
        logits[1, 0, 2, 3] = bad
        for decision in DECISIONS:
            if bad == -math.inf and decision == "free":  # a masked class
                assert FITTED["vector", decision].transform(logits)[1, 0, 2, 3] == 0
                continue
            with pytest.raises(ValueError, match=r"not finite in image 1: class 0 is .* at pixel \(2, 3\)"):
                FITTED["vector", decision].transform(logits)
    with pytest.raises(ValueError, match="no negative number"):
        _core.ScalerMap.ordered(np.full(8, -1.0), np.zeros(4), False, False)


def test_images_that_do_not_differ_count_by_their_pixels() -> None:
    same = np.broadcast_to(LOGITS[:1], (5, *LOGITS.shape[1:])), np.broadcast_to(Y[:1], (5, *Y.shape[1:]))
    with pytest.warns(cm.DuplicateImagesWarning):
        scaler = cm.StructuredScaler(n_pixels=50).fit(*same)
    assert scaler.n_eff_ == 5 * 50


def test_a_decision_is_no_kind() -> None:
    for decision in ("free", "argmax", "order"):
        with pytest.raises(
            ValueError, match=f"kind must be one of .*, got '{decision}': pass decision='{decision}'"
        ):
            cm.StructuredScaler(decision).fit(LOGITS, Y)
    with pytest.raises(ValueError, match=r"kind must be one of .*, got 'tensor'$"):
        cm.StructuredScaler("tensor").fit(LOGITS, Y)
