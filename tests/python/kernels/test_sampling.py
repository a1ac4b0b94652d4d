"""Label maps drawn from pixel-wise sets, and the measures of such sets, against NumPy and SciPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import conformask as cm
from problems import wide

PROBLEM = wide(n=3, size=(9, 7))
MASKS = cm.kernels.threshold(PROBLEM.X, 0.8)


def drawn(masks: NDArray[np.bool_], m: int, key: int) -> NDArray:
    """The twin: NumPy's own Philox, one number for each pixel of each sample."""
    n, _, *size = masks.shape
    random = np.random.Philox(key=key).random_raw(n * m * int(np.prod(size))).reshape(n, m, -1)
    flat = masks.reshape(n, masks.shape[1], -1)
    out = np.empty(random.shape, int)
    for i, s, p in np.ndindex(*random.shape):
        members = np.flatnonzero(flat[i, :, p])
        out[i, s, p] = members[(int(random[i, s, p]) * len(members)) >> 64]
    return out.reshape(n, m, *size)


@pytest.mark.parametrize("key", [0, 1, 12345, 2**64, 2**128 - 1])
def test_samples_are_those_of_numpys_philox(key: int) -> None:
    found = cm.kernels.sample_masks(MASKS, 5, random_state=key)
    assert found.dtype == np.uint8
    assert np.array_equal(found, drawn(MASKS, 5, key))


def test_samples_do_not_depend_on_threads_and_layout() -> None:
    expected = cm.kernels.sample_masks(MASKS, 11, random_state=3)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(MASKS, 1, -1)), -1, 1)
    try:
        for n_threads in (1, 2, 3):
            cm.set_num_threads(n_threads)
            assert np.array_equal(cm.kernels.sample_masks(last, 11, random_state=3), expected)
    finally:
        cm.set_num_threads(None)
    assert np.array_equal(cm.kernels.sample_masks(MASKS[:1], 11, random_state=3), expected[:1])


def test_samples_are_uniform_and_independent() -> None:
    masks = np.ones((1, 3, 1, 2), bool)
    samples = cm.kernels.sample_masks(masks, 30_000, random_state=1)[0, :, 0]
    joint = np.bincount(samples[:, 0] * 3 + samples[:, 1], minlength=9)
    assert stats.chisquare(joint).pvalue > 0.01
    assert stats.chisquare(np.bincount(samples[:, 0])).pvalue > 0.01


def test_volumes_and_many_classes() -> None:
    masks = np.random.default_rng(0).random((2, 300, 2, 3, 4)) < 0.05
    masks[:, 299] = True
    found = cm.kernels.sample_masks(masks, 4, random_state=9)
    assert (found.dtype, found.shape) == (np.uint16, (2, 4, 2, 3, 4))
    assert np.array_equal(found, drawn(masks, 4, 9))


def test_random_states() -> None:
    draw = cm.kernels.sample_masks
    assert not np.array_equal(draw(MASKS, 3), draw(MASKS, 3))
    for make in (np.random.default_rng, np.random.RandomState):
        state = make(0)
        first, second = draw(MASKS, 3, state), draw(MASKS, 3, state)
        assert np.array_equal(first, draw(MASKS, 3, make(0)))
        assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((MASKS, 0), ValueError, "n_samples must be at least 1, got 0"),
        ((MASKS, 1.5), TypeError, r"n_samples must be an int, got 1\.5"),
        ((MASKS, 1, -1), ValueError, "random_state must be at least 0"),
        ((MASKS, 1, 2**128), ValueError, r"below 2\*\*128"),
        ((MASKS, 1, "x"), TypeError, "random_state must be an int, a generator or None, got 'x'"),
        ((MASKS.astype(int), 1), TypeError, "masks must be boolean"),
        ((MASKS[0, 0], 1), ValueError, r"masks must be \(n, K, H, W\)"),
        (
            (MASKS & (np.arange(63).reshape(9, 7) != 17), 1),
            ValueError,
            r"empty set in image 0 at pixel \(2, 3\)",
        ),
    ],
)
def test_bad_input(arguments: tuple, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        cm.kernels.sample_masks(*arguments)


# Measures


def test_volume_counts_the_label_maps() -> None:
    masks = MASKS[:, :, :2, :3]
    for mask, volume in zip(masks, cm.metrics.log10_volume(masks, average=False), strict=True):
        count = 1
        for size in mask.sum(axis=0).ravel().tolist():
            count *= size
        assert 10**volume == pytest.approx(count, rel=1e-12)
    assert cm.metrics.log10_volume(list(masks)) == pytest.approx(
        np.mean(cm.metrics.log10_volume(masks, average=False))
    )
    assert cm.metrics.log10_volume(np.zeros((1, 3, 2, 2), bool)) == -np.inf
    assert cm.metrics.log10_volume(np.ones((1, 2, 100, 100, 100), bool)) == pytest.approx(1e6 * np.log10(2))
    with pytest.raises(ValueError, match="masks is empty"):
        cm.metrics.log10_volume([])


@pytest.mark.parametrize("as_list", [False, True])
def test_coverage_by_set_size(as_list: bool) -> None:
    y, masks = (list(PROBLEM.y), list(MASKS)) if as_list else (PROBLEM.y, MASKS)
    found = cm.metrics.size_stratified_coverage(y, masks)
    expected: dict[int, list[bool]] = {}
    for labels, mask in zip(PROBLEM.y, MASKS, strict=True):
        for place in np.argwhere(labels != 255):
            column = mask[(slice(None), *place)]
            expected.setdefault(int(column.sum()), []).append(bool(column[labels[tuple(place)]]))
    assert found.sizes.tolist() == sorted(expected)
    assert found.n_pixels.tolist() == [len(expected[size]) for size in sorted(expected)]
    assert found.coverages.tolist() == [np.mean(expected[size]) for size in sorted(expected)]
    overall = (found.coverages * found.n_pixels).sum() / found.n_pixels.sum()
    valid = [(labels != 255).sum() for labels in PROBLEM.y]
    coverage = cm.metrics.marginal_coverage(PROBLEM.y, MASKS, average=False)
    assert overall == pytest.approx((coverage * valid).sum() / sum(valid))


def test_set_sizes_by_class() -> None:
    y = PROBLEM.y.copy()
    y[0][y[0] == 2] = 1
    y[y == 3] = 255
    found = cm.metrics.class_set_sizes(y, MASKS, average=False)
    for labels, mask, row in zip(y, MASKS, found, strict=True):
        sizes = mask.sum(axis=0)
        for k in range(4):
            assert (
                np.isnan(row[k])
                if not (labels == k).any()
                else row[k] == pytest.approx(sizes[labels == k].mean())
            )
    means = cm.metrics.class_set_sizes(y, MASKS)
    assert np.isnan(means[3])
    assert means[2] == pytest.approx(found[1:, 2].mean())


@pytest.mark.parametrize("metric", [cm.metrics.size_stratified_coverage, cm.metrics.class_set_sizes])
def test_bad_labels_of_measures(metric: Callable) -> None:
    with pytest.raises(ValueError, match="y_true holds label 9 in image 1"):
        metric(np.where(np.arange(3)[:, None, None] == 1, 9, PROBLEM.y), MASKS)
    with pytest.raises(ValueError, match="y_true must have shape"):
        metric(PROBLEM.y[:2], MASKS)
