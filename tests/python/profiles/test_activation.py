"""Activation ratios from profiles: a bracket that holds the truth, without the maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from problems import wide

PROBLEM = wide(n=12, size=(20, 30))
LAMBDAS = [0.0, 0.2, 0.5, 0.75, 0.9, 0.97, 0.999, 1.0]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("include_top1", [True, False])
def test_the_bracket_holds_what_the_masks_show(include_top1: bool, dtype: str) -> None:
    score, X = cm.LAC(include_top1=include_top1), PROBLEM.X.astype(dtype)
    profiles = cm.profile(X, PROBLEM.y, score, activation=True)
    for lam in LAMBDAS:
        truth = cm.metrics.activation_ratio(PROBLEM.y, cm.kernels.threshold(X, lam, score))
        lower, upper = profiles.activation(lam)
        assert lower <= truth <= upper
        assert upper - lower < 0.1
    assert profiles.activation(1.0) == (profiles.n_classes, profiles.n_classes)


def test_splits_merges_and_files_keep_the_counts(tmp_path: Path) -> None:
    profiles = cm.profile(PROBLEM.X, PROBLEM.y, activation=True)
    again = profiles[:5].merge(profiles[5:])
    again.save(tmp_path / "p.npz")
    assert [cm.ScoreProfiles.load(tmp_path / "p.npz").activation(lam) for lam in LAMBDAS] == [
        profiles.activation(lam) for lam in LAMBDAS
    ]
    part = cm.profile(PROBLEM.X[:5], PROBLEM.y[:5], activation=True)
    assert profiles[:5].activation(0.9) == part.activation(0.9)


def test_void_pixels_do_not_count() -> None:
    junk = PROBLEM.X.copy()
    junk[np.broadcast_to((PROBLEM.y == 255)[:, None], junk.shape)] = np.nan
    for lam in LAMBDAS:
        assert cm.profile(junk, PROBLEM.y, activation=True).activation(lam) == cm.profile(
            PROBLEM.X, PROBLEM.y, activation=True
        ).activation(lam)


def test_counts_of_huge_images() -> None:
    """More labels in an image than 32 bits count."""
    X = np.broadcast_to(np.float32(1 / 200), (1, 200, 4750, 4750))
    y = np.broadcast_to(np.uint8(0), (1, 4750, 4750))
    assert cm.profile(X, y, activation=True).activation(1.0) == (200, 200)


def test_what_was_not_counted_is_not_guessed() -> None:
    plain, counted = (cm.profile(PROBLEM.X, PROBLEM.y, activation=activation) for activation in (False, True))
    with pytest.raises(ValueError, match="activation=True"):
        plain.activation(0.5)
    for first, second in [(plain, counted), (counted, plain)]:
        with pytest.raises(ValueError, match="one of the profiles only"):
            first.merge(second)
    assert len(plain[:0].merge(counted)) == len(counted)
