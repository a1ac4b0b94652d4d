"""What CONSIGN makes of an image's samples, against the twin: exact rules to the bit, the rest to some roundings."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import consign_twin as twin
import ctrl_c
from conformask._core import ConsignDecomposition

KINDS = ["random", "few values", "low rank", "equal", "twice", "roundings", "masked", "huge", "tiny"]
WEIGHTS = ["sigma", "relative", "none"]


def draw(kind: str, S: int, K: int, pixels: int, dtype: str, seed: int) -> NDArray:
    """Samples (S, K, 1, pixels)."""
    rng = np.random.default_rng(seed)
    shape = (S, K, 1, pixels)
    X = rng.random(shape)
    match kind:
        case "few values":
            X = rng.integers(0, 3, shape) / 4
        case "low rank":
            X = X[:1] + np.tensordot(rng.standard_normal((S, 2)), rng.random((2, *shape[1:])), 1)
        case "equal":
            X = np.repeat(X[:1], S, axis=0)
        case "twice":
            X = X[np.arange(S) // 2]
        case "roundings":  # of the same numbers; some of them move
            units = rng.integers(-6, 7, shape) * (rng.random((1, *shape[1:])) < 0.7)
            X = X[:1] * (1 + units * float(np.finfo(dtype).eps))
        case "masked":
            X[:, 0] = -6e4 if dtype == "float16" else -1e30
        case "huge" | "tiny" if dtype == "float64":
            X *= 1e120 if kind == "huge" else 1e-120
    return X.astype(dtype)


def check(X: NDArray, k: int, level: float, weight: str) -> ConsignDecomposition:
    """Compares with the twin, as far as the twin knows."""
    found = ConsignDecomposition.of_samples(X, k, level, weight, 0)
    c = twin.centred(X)
    assert np.array_equal(found.mean.ravel(), c.mean)

    values = np.linalg.svd(c.differences, compute_uv=False)
    largest = values.max(initial=0.0)
    least, rounding = twin.least_value(c, values), 1e-13 * largest
    n, possible = len(found.singular_values), values[: min(k, len(X) - 1)]
    assert (possible > least + rounding).sum() <= n <= (possible > max(least - rounding, 0)).sum()
    expected = values[:n]
    assert found.components.shape == (n, *X.shape[1:])
    assert np.allclose(found.singular_values, expected, rtol=0, atol=rounding)
    assert (np.diff(found.singular_values) <= 0).all()

    U = found.components.reshape(n, len(c.mean))
    assert (U[:, c.still] == 0).all()
    assert np.allclose(U @ U.T, np.eye(n), rtol=0, atol=1e-13)
    # The largest entry, the first of several, is positive.
    assert (U[np.arange(n), np.abs(U).argmax(axis=1)] > 0).all()
    # They are singular vectors, for which a share of the largest value is lost where one is small.
    unit = c.differences / (largest or 1.0)
    q = U @ unit.T
    assert np.allclose(q @ unit, (expected[:, None] / (largest or 1.0)) ** 2 * U, rtol=0, atol=1e-12)

    centre, half = twin.box(q * (largest or 1.0), found.singular_values, level, weight)
    scale = {"sigma": found.singular_values, "relative": 1.0, "none": 1.0}[weight]
    assert np.allclose(found.centre, centre, rtol=0, atol=10 * rounding)
    assert (np.abs(found.half - half) <= 10 * rounding * scale).all()
    return found


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    S=st.integers(1, 9),
    K=st.integers(2, 4),
    pixels=st.sampled_from([1, 2, 3, 17, 300]),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    k=st.integers(1, 10),
    level=st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.49]),
    weight=st.sampled_from(WEIGHTS),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_samples(
    kind: str, S: int, K: int, pixels: int, dtype: str, k: int, level: float, weight: str, seed: int
) -> None:
    check(draw(kind, S, K, pixels, dtype, seed), k, level, weight)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_more_entries_than_a_task(kind: str, dtype: str) -> None:
    """Several blocks and tasks, and the last of each short."""
    check(draw(kind, 5, 3, 3 * 4096 + 300 + 7, dtype, 1), 3, 0.05, "sigma")


def test_two_samples_have_one_component() -> None:
    X = np.array([[[[0.75, 0.5]], [[0.25, 0.5]]], [[[0.25, 0.5]], [[0.75, 0.5]]]])
    found = check(X, 5, 0.0, "none")
    assert np.allclose(found.components, [[[[0.5**0.5, 0]], [[-(0.5**0.5), 0]]]], rtol=0, atol=1e-15)
    assert np.allclose(found.singular_values, 0.5)
    assert np.allclose(found.half, 0.25 * 2**0.5)


@pytest.mark.parametrize("share", [0.5e-6, 1e-6 * (1 - 1e-8), 1e-6 * (1 + 1e-8), 2e-6])
@pytest.mark.parametrize("pixels", [1, 4, 2000])
def test_components_below_a_millionth_are_noise(share: float, pixels: int) -> None:
    X = np.zeros((4, 2, 1, pixels))
    X[:2, 0, 0, 0], X[2:, 0, 0, 0] = 0.5, -0.5
    X[::2, 1, 0, -1], X[1::2, 1, 0, -1] = share / 2, -share / 2
    assert len(check(X, 3, 0.05, "sigma").components) == 1 + (share > 1e-6)


@pytest.mark.parametrize("units", [4, 5])
def test_four_roundings_are_none(units: int) -> None:
    """Of a mean of 1, twice."""
    X = np.ones((2, 2, 1, 4))
    X[0, 1, 0, 2] -= units * twin.EPS
    X[1, 1, 0, 2] += units * twin.EPS
    assert len(check(X, 1, 0.05, "sigma").components) == (units > 4)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_number_that_is_not_finite_is_named(value: float, dtype: str) -> None:
    X = draw("random", 3, 4, 12_000, dtype, 0)
    X[1, 2, 0, 11_000] = X[1, 3, 0, 5] = X[2, 0, 0, 0] = value
    words = f"image 7: sample 1, class 2 is {'NaN' if np.isnan(value) else value} at pixel (0, 11000)"
    with pytest.raises(ValueError, match=re.escape(words)):
        ConsignDecomposition.of_samples(X, 2, 0.05, "sigma", 7)


_SAMPLES = """
from conformask._core import ConsignDecomposition

def decompose(X):
    return ConsignDecomposition.of_samples(X, 5, 0.05, "sigma", 0)

one = np.random.default_rng(0).random((200, 1, 1, 1), np.float32)
X = np.broadcast_to(one, (200, 10, 1000, 1000))  # 8 GB, if one number of each sample were not all of it
known = decompose(X[..., :1, :9]).half
"""


@pytest.mark.timeout(60)
def test_ctrl_c_stops_it() -> None:
    ctrl_c.stops(
        "decompose(X)", before=_SAMPLES, after="assert (decompose(X[..., :1, :9]).half == known).all()"
    )
