"""Lambdas of images and of classes, as the kernels take them."""

from __future__ import annotations

import numpy as np
import pytest

import conformask as cm
from conformask import _core
from problems import wide

PROBLEM = wide(size=(9, 70))
X, Y = PROBLEM.X, PROBLEM.y
RNG = np.random.default_rng(0)
SCORES = {
    "lac": _core.Score.lac(True),
    "lac without top1": _core.Score.lac(False),
    "raps": _core.Score.raps(0.05, None),
    "sacp": _core.Score.sacp(_core.Score.lac(True), 0.3, 3, True, False),
}


def masks(lam: float | _core.Lambdas, score: _core.Score, X: np.ndarray = X) -> np.ndarray:
    out = np.empty(X.shape, bool)
    _core.threshold(X, lam, score, "probabilities", out.view(np.uint8), 0)
    sizes = np.empty((len(X), *X.shape[2:]), np.uint16)
    _core.set_size(X, lam, score, "probabilities", sizes, 0)
    assert np.array_equal(sizes, out.sum(axis=1))
    return out


@pytest.mark.parametrize("name", SCORES)
def test_each_image_has_its_own(name: str) -> None:
    lambdas = RNG.random(len(X))
    lambdas[:2] = 0, np.inf
    expected = [masks(lam, SCORES[name], image[None])[0] for lam, image in zip(lambdas, X, strict=True)]
    assert np.array_equal(masks(_core.Lambdas.per_image(lambdas), SCORES[name]), expected)


@pytest.mark.parametrize("name", SCORES)
def test_each_class_has_its_own(name: str) -> None:
    lambdas = RNG.random(X.shape[1])
    lambdas[:2] = 0, np.inf
    expected = np.stack([masks(lam, SCORES[name])[:, k] for k, lam in enumerate(lambdas)], axis=1)
    found = masks(_core.Lambdas.per_class(lambdas), SCORES[name])
    assert np.array_equal(found, expected)
    of_masks = _core.mask_coverage(found, Y, 255, 0)
    of_maps = _core.coverage(X, Y, [_core.Lambdas.per_class(lambdas)], SCORES[name], "probabilities", 255, 0)[
        0
    ]
    for counts, others in zip(of_maps, of_masks, strict=True):
        assert np.array_equal(counts, others)


@pytest.mark.parametrize("name", ["lac", "lac without top1"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_classes_that_are_equal_have_their_own(name: str, dtype: type) -> None:
    """Of equals of the most probable class the lowest alone is in for being it; the others by their own lambdas."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        n_classes = int(rng.integers(2, 7))
        ties = rng.integers(0, 5, (3, n_classes, 5, 7)).astype(float)
        ties[:, 0] += ties.sum(axis=1) == 0
        ties = (ties / ties.sum(axis=1, keepdims=True)).astype(dtype)
        lambdas = rng.choice([0, 0.25, 0.5, 0.6, 0.75, 0.9, 1.0, 1.5], n_classes)
        expected = 1.0 - ties.astype(float) <= lambdas[:, np.newaxis, np.newaxis]
        if name == "lac":
            np.put_along_axis(expected, ties.argmax(axis=1)[:, np.newaxis], values=True, axis=1)
        assert np.array_equal(masks(_core.Lambdas.per_class(lambdas), SCORES[name], ties), expected)


def test_what_is_no_lambda() -> None:
    lac = SCORES["lac"]
    with pytest.raises(ValueError, match="lam must be at least 0, got NaN"):
        masks(np.nan, lac)
    with pytest.raises(ValueError, match="lam must be at least 0, got -1 for class 0"):
        masks(_core.Lambdas.per_class(np.full(X.shape[1], -1.0)), lac)
    with pytest.raises(ValueError, match=f"lam has 1 entry, but X has {len(X)} images"):
        masks(_core.Lambdas.per_image(np.ones(1)), lac)
    with pytest.raises(TypeError):
        masks("1", lac)  # type: ignore[arg-type]
    assert np.array_equal(masks(0.5, lac), cm.kernels.threshold(X, 0.5))
