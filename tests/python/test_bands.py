"""Large images are worked on in bands: each pixel is in one, no band is too large, and no number depends on them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import conformask as cm
from conformask._bands import bands


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 100))
def test_each_entry_is_in_one_band(shape: list[int], most: int) -> None:
    times = np.zeros(shape, int)
    for band in bands(tuple(shape), most):
        assert 0 < times[band].size <= max(most, 1)
        times[band] += 1
    assert (times == 1).all()


def test_few_bands() -> None:
    assert len(list(bands((7, 10), 70))) == 1
    assert len(list(bands((7, 10), 69))) == 2
    assert len(list(bands((7, 10), 9))) == 14
    assert list(bands((0, 3), 5)) == []


@pytest.mark.parametrize("shape", [(7, 11), (2, 7, 11)])
@pytest.mark.parametrize("most", [1, 20, 100])
def test_no_number_depends_on_bands(
    shape: tuple[int, ...], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(most)
    masks, y = rng.random((3, 4, *shape)) < 0.7, rng.choice([0, 1, 2, 3, 255], (3, *shape))
    masks[:, 0] |= ~masks.any(axis=1)
    X = rng.normal(0, 1, (3, 5, 4, *shape)) + rng.normal(0, 1, (3, 1, 4, *shape))

    def numbers() -> tuple[object, ...]:
        found = cm.metrics.size_stratified_coverage(y, masks)
        volumes = cm.metrics.log10_volume(masks, average=False)
        accuracies = cm.ConsignCalibrator(alpha=0.3).accuracy_range(X)
        return *(part.tolist() for part in found), volumes.tolist(), accuracies

    known = numbers()
    for module in ("metrics.coverage", "metrics.richness", "consign._agreement"):
        monkeypatch.setattr(f"conformask.{module}.MOST_NUMBERS", most)
    assert numbers() == known
