"""How many images weighted ones are worth: against fractions, at the ends of floats, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import conformask as cm
from conformask.metrics import effective_sample_size
from problems import wide

WEIGHTS = st.lists(st.one_of(st.floats(0, 1e308), st.floats(0, 1), st.just(0.0)), min_size=1, max_size=40)


def test_known_numbers() -> None:
    assert effective_sample_size([1, 1, 2]) == 16 / 6
    assert effective_sample_size(np.full(7, 0.1)) == 7
    assert effective_sample_size([5]) == effective_sample_size([0, 0, 5]) == 1
    assert effective_sample_size([0, 0]) == 0


@given(WEIGHTS)
def test_it_is_correctly_rounded(weights: list[float]) -> None:
    total, squares = sum(map(Fraction, weights)), sum(Fraction(weight) ** 2 for weight in weights)
    assert effective_sample_size(weights) == (float(total**2 / squares) if squares else 0)


@pytest.mark.parametrize("factor", [2.0**-1073, 1e-200, 3e-7, 1e200, 2.0**1022])
def test_a_common_factor_changes_nothing(factor: float) -> None:
    """Where squares of floats would be 0 or infinite, too."""
    weights = np.array([1.0, 1.0, 2.0])
    assert effective_sample_size(weights * factor) == pytest.approx(16 / 6, rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8])
def test_any_numbers(dtype: type) -> None:
    assert effective_sample_size(np.array([1, 1, 2], dtype)) == 16 / 6


def test_what_is_no_weight_is_refused() -> None:
    for bad, text in [(-0.5, "-0.5"), (np.inf, "inf"), (np.nan, "nan")]:
        with pytest.raises(ValueError, match=f"at least 0, got {text} for image 1"):
            effective_sample_size([1.0, bad, -1.0])
    with pytest.raises(ValueError, match="weights are empty"):
        effective_sample_size([])
    with pytest.raises(ValueError, match=r"one axis, got shape \(1, 2\)"):
        effective_sample_size([[1.0, 2.0]])
    for strange in (["1", "2"], [True, False], [None, 1.0], "12", (w for w in (1.0,))):
        with pytest.raises(TypeError, match="weights must be numbers"):
            effective_sample_size(strange)
    with pytest.raises(TypeError, match="must be a sequence, got a set"):
        effective_sample_size({1.0, 2.0})


def test_calibrators_tell_the_same_number() -> None:
    problem = wide(n=60)
    weights = np.random.default_rng(0).random(60)
    fitted = cm.ConformalRiskCalibrator(alpha=0.3).fit(problem.X, problem.y, sample_weight=weights)
    assert fitted.n_eff_ == effective_sample_size(weights)
