"""Kernels, tensors and the module agree on saturated logits, or differ to the larger set.

Logits far below the largest have probability 0, and classes of probability 0 are equal: they rank by their number.
Close ones may rank otherwise on another device. A twin says which sets are possible.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import conformask as cm
from conformask._torch_profile import profile_tensor
from conformask._torch_sets import masks_of
from conformask.integrations.torch import ConformalModule
from conformask.scores import as_score

PIXEL_SCORES = [
    cm.LAC(),
    cm.LAC(include_top1=False),
    cm.APS(),
    cm.RAPS(0.1, k_reg=1),
    cm.RAPS(),
    cm.RAPS(1000.0, k_reg=2),
]
SCORES = [
    *PIXEL_SCORES,
    *(
        cm.SACP(base, weight=0.4, window=3, include_top1=include_top1, mode=mode)
        for base in (cm.LAC(), cm.LAC(include_top1=False), cm.APS(), cm.RAPS(0.1, k_reg=1))
        for mode in ("label_scores", "probabilities")
        for include_top1 in (True, False)
    ),
]
DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
TAIL = {np.float32: -87.0, np.float64: -708.0}
LEVELS = [
    0,
    0,
    -1e-3,
    -0.7,
    -5,
    -40,
    -84,
    -86.5,
    -87,
    -87.25,
    -88,
    -90,
    -95,
    -104,
    -120,
    -700,
    -708,
    -709,
    -745,
]
UNITS = [0, 0, 0, 1, -1, 3, 40, -40, 200]


def saturated(seed: int, dtype: torch.dtype, inputs: str, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps (n, K, 3, 2) of few numbers and their neighbours, and labels."""
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(2, 7))
    shape = (n, n_classes, 3, 2)
    levels = [rng.choice(LEVELS, size=int(rng.integers(2, 6))) for _ in range(n)]
    X = np.stack([rng.choice(few, size=shape[1:]) for few in levels]) + rng.choice(
        [0.0, 0.0, 7.5, -60.0], size=(n, 1, 3, 2)
    )
    if inputs == "scores":
        X = np.where(X < -600, 0.0, np.exp(np.clip(X, -104, 88)))
        X *= 1.0 if dtype == torch.float16 else rng.choice([1.0, 3e38 / max(1.0, X.max())])
    maps = torch.from_numpy(X).clamp(max=torch.finfo(dtype).max).to(dtype)
    if inputs == "scores":
        maps[:, 0] += (maps == 0).all(dim=1)
    if dtype in (torch.float32, torch.float64):
        unit = torch.finfo(dtype).eps * torch.from_numpy(rng.choice(UNITS, size=shape))
        maps = (maps * (1 + unit.to(dtype))).clamp(max=torch.finfo(dtype).max)
    return maps, torch.from_numpy(rng.integers(0, n_classes, size=(n, 3, 2)))


def as_array(maps: torch.Tensor) -> np.ndarray:
    return (maps.float() if maps.dtype == torch.bfloat16 else maps).numpy()


def torch_scores(maps: torch.Tensor, y: torch.Tensor, score: Any, inputs: str) -> np.ndarray:
    """The critical values of the labels of images of one pixel, as they are found where tensors lie."""
    _, lengths, values, *_ = profile_tensor(maps, y, score, inputs, None, False, 0).to_arrays()
    found = np.zeros(len(lengths))
    found[lengths > 0] = 1.0 - values.astype(float) if isinstance(score, cm.LAC) else values
    return found


class Same(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def module_of(score: Any, inputs: str, n_classes: int, lam: float) -> ConformalModule:
    calibrator = cm.ConformalRiskCalibrator(score, inputs=inputs, on_infeasible="full")
    calibrator.fit(np.ones((30, n_classes, 1, 1), np.float32) / n_classes, np.zeros((30, 1, 1), int))
    module = ConformalModule(Same(), calibrator)
    module.lambda_hat = lam
    return module


# The twin: the smallest critical values that any device may find


def odds_of(X: np.ndarray, inputs: str) -> np.ndarray:
    """In float64, of differences in the type that kernels compute in."""
    X = X.astype(np.float64 if X.dtype == np.float64 else np.float32)
    largest = X.max(axis=1, keepdims=True)
    if inputs == "scores":
        return X.astype(float) / largest
    x = X - largest
    return np.where(x < TAIL[x.dtype.type], 0.0, np.exp(x.astype(float)))


def blended(values: np.ndarray, score: cm.SACP) -> np.ndarray:
    half = score.window // 2
    wide = np.pad(values, [(0, 0), (0, 0), (half, half), (half, half)], mode="symmetric")
    mean = np.lib.stride_tricks.sliding_window_view(wide, (score.window, score.window), (2, 3)).mean((-2, -1))
    return (1 - score.weight) * values + score.weight * mean


def least_critical(p: np.ndarray, equal: Any, score: Any, margin: float, tiny: float) -> np.ndarray:
    if isinstance(score, cm.LAC):
        return 1.0 - p
    n_classes = p.shape[1]
    penalty, k_reg = (score.penalty, score.k_reg) if isinstance(score, cm.RAPS) else (0.0, 1)
    k_reg = max(1, n_classes // 2) if k_reg is None else k_reg
    found = np.zeros(p.shape)
    for k in range(n_classes):
        mass, rank = np.zeros(p[:, 0].shape), np.ones(p[:, 0].shape)
        for j in range(n_classes):
            before = np.where(equal(j, k), j < k, p[:, j] > p[:, k] * (1 + margin) + tiny)
            mass += np.where(before, p[:, j], 0.0)
            rank += before
        found[:, k] = np.minimum(mass, 1.0) + penalty * np.maximum(rank - k_reg, 0)
    return found


def possible_sets(X: np.ndarray, inputs: str, score: Any, lam: float) -> np.ndarray:
    """Classes whose critical value is at most lambda or hardly above, or that may be the first of the pixel."""
    kind = np.finfo(np.float64 if X.dtype == np.float64 else np.float32)
    margin, tiny = 2 * (64 + X.shape[1]) * float(kind.eps), 4 * float(kind.tiny)
    odds = odds_of(X, inputs)
    p = odds / odds.sum(axis=1, keepdims=True)

    def equal(j: int, k: int) -> np.ndarray:
        in_tail = (odds[:, j] == 0) & (odds[:, k] == 0) & (inputs == "logits")
        # Where a third class is as close, the sets may be larger still.
        close = (p <= p[:, k, None] * (1 + margin) + tiny) & (p[:, k, None] <= p * (1 + margin) + tiny)
        return ((X[:, j] == X[:, k]) & ~(close & (X[:, k, None] != X)).any(axis=1)) | in_tail

    first = p >= p.max(axis=1, keepdims=True) * (1 - margin)
    includes_first = not isinstance(score, cm.LAC) or score.include_top1
    base = score
    if isinstance(score, cm.SACP):
        base, includes_first = score.base, score.include_top1
        margin += 2 * (64 + score.window) * float(kind.eps)
        if score.mode == "probabilities":
            p = blended(p, score)
            first = p >= p.max(axis=1, keepdims=True) * (1 - margin)
            includes_first = includes_first or not isinstance(base, cm.LAC)

            def equal(j: int, k: int) -> np.ndarray:
                return (p[:, j] == 0) & (p[:, k] == 0)

    critical = least_critical(p, equal, base, margin, tiny)
    if isinstance(score, cm.SACP) and score.mode == "label_scores":
        critical = blended(critical, score)
    return (critical * (1 - margin) - margin <= lam) | (first & includes_first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs", ["logits", "scores"])
@pytest.mark.parametrize("score", SCORES, ids=str)
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_module_holds_the_sets_of_the_kernels(score: Any, inputs: str, dtype: str, seed: int) -> None:
    maps, y = saturated(seed, DTYPES[dtype], inputs, n=6)
    X = as_array(maps)
    critical = cm.kernels.true_label_scores(X, y, score, inputs=inputs).ravel()[::3]
    module = module_of(score, inputs, X.shape[1], 0.0)
    for lam in {0.0, 0.5, 0.999, *critical.tolist(), *np.nextafter(critical, 0).tolist()}:
        module.lambda_hat = lam
        found, expected = module(maps).masks.numpy(), cm.kernels.threshold(X, lam, score, inputs=inputs)
        assert not (expected & ~found).any(), lam  # never a smaller set
        more = found & ~expected
        assert not (more & ~possible_sets(X, inputs, score, lam)).any(), lam  # larger only where that may be


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs", ["logits", "scores"])
@pytest.mark.parametrize("score", SCORES, ids=str)
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_risk_at_lambda_hat_is_that_of_the_kernels(
    score: Any, inputs: str, dtype: str, seed: int
) -> None:
    """Calibrated on arrays, or where the tensors lie."""
    maps, y = saturated(seed, DTYPES[dtype], inputs, n=12)
    X = as_array(maps)
    calibrator = cm.ConformalRiskCalibrator(score, inputs=inputs, alpha=0.3).fit(X, y.numpy())
    report = calibrator.evaluate(X, y.numpy())
    there = cm.ConformalRiskCalibrator(score, inputs=inputs, alpha=0.3).fit(maps, y)
    assert there.lambda_hat_ >= calibrator.lambda_hat_
    assert there.evaluate(X, y.numpy()).empirical_risk <= report.empirical_risk
    for fitted in (calibrator, there):
        missed = ~ConformalModule(Same(), fitted)(maps).masks.gather(1, y[:, None])
        assert float(missed.double().mean()) <= report.empirical_risk + 1e-12
        assert fitted.evaluate(maps, y).empirical_risk <= report.empirical_risk


@pytest.mark.parametrize("inputs", ["logits", "scores"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("score", PIXEL_SCORES, ids=str)
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1))
def test_critical_values_are_never_below_those_of_the_kernels(
    score: Any, dtype: str, inputs: str, seed: int
) -> None:
    maps, y = saturated(seed, DTYPES[dtype], inputs, n=8)
    pixels, labels = maps.movedim(1, -1).reshape(-1, maps.shape[1], 1, 1), y.reshape(-1, 1, 1)
    found = torch_scores(pixels, labels, score, inputs)
    expected = cm.kernels.true_label_scores(as_array(pixels), labels, score, inputs=inputs).ravel()
    assert (found >= expected).all()


def test_classes_of_no_probability_rank_by_their_number() -> None:
    """Floats beyond the kernels' exponential are 0, on any device: by the logits, class 3 would be the second."""
    logits = torch.tensor([0.0, -95.0, -90.0, -88.0]).reshape(1, 4, 1, 1).expand(40, -1, 1, 1).contiguous()
    y = torch.ones(40, 1, 1, dtype=torch.long)
    calibrator = cm.ConformalRiskCalibrator(cm.RAPS(0.1, k_reg=1), inputs="logits").fit(logits, y)
    assert calibrator.evaluate(logits, y).empirical_risk == 0.0
    output = ConformalModule(Same(), calibrator)(logits)
    assert output.masks[:, 1].all()
    assert torch.equal(output.probabilities[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.0, 0.0]))


# Probabilities


def probabilities(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Float32 maps of many ties and near ones: numbers of 7 bits, which all types hold, and some that round to them."""
    rng = np.random.default_rng(seed)
    n_classes = int(rng.integers(2, 7))
    counts = rng.multinomial(128, rng.dirichlet(np.full(n_classes, 0.7), size=(6, 3, 2)))
    exact = np.ascontiguousarray(np.moveaxis(counts, -1, 1), np.float32) / 128
    noise = exact * rng.uniform(-(2.0**-9), 2.0**-9, exact.shape)
    noise -= noise.mean(axis=1, keepdims=True) * (exact > 0)
    near = (exact + noise).astype(np.float32)
    near = np.where(torch.from_numpy(near).bfloat16().float().numpy() == exact, near, exact)
    fits = abs(near.sum(axis=1, keepdims=True, dtype=float) - 1) < 9e-4
    return exact, np.where(fits, near, exact)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("score", SCORES, ids=str)
@settings(max_examples=2)
@given(seed=st.integers(0, 2**32 - 1))
def test_sets_of_probabilities_hold_those_of_the_kernels(score: Any, dtype: str, seed: int) -> None:
    """Of the same numbers; in bfloat16 of all numbers that round to them."""
    exact, near = probabilities(seed)
    maps = torch.from_numpy(exact).to(DTYPES[dtype])
    assert np.array_equal(maps.float().numpy(), exact)
    for X in (exact, near) if dtype == "bfloat16" else (exact,):
        y = np.random.default_rng(seed).integers(0, X.shape[1], (6, 3, 2))
        critical = cm.kernels.true_label_scores(X, y, score).ravel()[::3]
        for lam in {0.0, 0.5, 0.999, *critical.tolist(), *np.nextafter(critical, 0).tolist()}:
            found = masks_of(maps, as_score(score), lam, "probabilities", 0).numpy()
            expected = cm.kernels.threshold(X, lam, score)
            assert not (expected & ~found).any(), lam
            if dtype != "bfloat16" and not isinstance(score, cm.SACP):
                assert np.array_equal(found, expected), lam


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("score", PIXEL_SCORES, ids=str)
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_critical_values_of_probabilities_are_never_below(score: Any, dtype: str, seed: int) -> None:
    exact, near = probabilities(seed)
    for X in (exact, near) if dtype == "bfloat16" else (exact,):
        pixels = np.moveaxis(X, 1, -1).reshape(-1, X.shape[1], 1, 1)
        y = np.random.default_rng(seed).integers(0, X.shape[1], (len(pixels), 1, 1))
        maps, labels = torch.from_numpy(pixels).to(DTYPES[dtype]), torch.from_numpy(y)
        found = torch_scores(maps, labels, score, "probabilities")
        expected = cm.kernels.true_label_scores(pixels, y, score).ravel()
        assert (found >= expected).all()
        if dtype != "bfloat16":
            assert np.array_equal(found, expected)
