"""Metrics of label maps: twins in NumPy and in fractions, scikit-learn and SciPy as judges, worked examples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

import conformask as cm
import ctrl_c
from conformask import metrics

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


# Twins


def distinct(samples: NDArray) -> tuple[int, int, int]:
    drawn = list(Counter(np.ascontiguousarray(map_).tobytes() for map_ in samples).values())
    return len(drawn), drawn.count(1), drawn.count(2)


def correlation(samples: NDArray, varying_only: bool = False) -> float:
    flat = samples.reshape(len(samples), -1).astype(np.longdouble)
    if varying_only:
        flat = flat[:, (flat != flat[0]).any(axis=0)]
    centred = flat - flat.mean(axis=1, keepdims=True) if flat.size else flat
    norms = np.sqrt((centred**2).sum(axis=1))
    pairs = combinations(range(len(flat)), 2)
    values = [
        (centred[i] * centred[j]).sum() / (norms[i] * norms[j]) if norms[i] and norms[j] else 0
        for i, j in pairs
    ]
    return float(np.mean(values, dtype=np.longdouble))


def agreement(samples: NDArray) -> Fraction:
    flat = samples.reshape(len(samples), -1)
    pairs = list(combinations(flat, 2))
    return Fraction(sum(int((a == b).sum()) for a, b in pairs), len(pairs) * flat.shape[1])


def accuracy(y: NDArray, prediction: NDArray, ignore: int | None, kind: str = "label") -> Fraction | None:
    valid = np.ones(y.shape, bool) if ignore is None else y != ignore
    labels = np.unique(y[valid]).tolist()
    if not labels:
        return None
    if kind == "pixel":
        return Fraction(int((y == prediction)[valid].sum()), int(valid.sum()))
    recalls = [
        Fraction(int((prediction[y == label] == label).sum()), int((y == label).sum())) for label in labels
    ]
    return sum(recalls) / len(recalls)


def sample_coverage(y: list, samples: list, least: Fraction, ignore: int | None, kind: str) -> list[float]:
    found = []
    for labels, maps in zip(y, samples, strict=True):
        accuracies = [accuracy(labels, map_, ignore, kind) for map_ in maps]
        reached = [a is not None and a >= least - Fraction(1, 10**12) for a in accuracies]
        found.append(math.nan if accuracies[0] is None else float(any(reached)))
    return found


# Chao


def drawn(times: list[int]) -> NDArray[np.uint8]:
    """Different label maps, each so many times, in any order; most pixels never vary."""
    maps = np.full((len(times), 12, 9), 3, np.uint8)
    maps[:, 5, 2] = np.arange(len(times)) % 5
    maps[:, 11, 8] = np.arange(len(times)) // 5
    return np.random.default_rng(0).permutation(np.repeat(maps, times, axis=0))


@pytest.mark.parametrize(
    ("times", "counts", "corrected", "classic"),
    [
        ([1, 1, 1, 1, 2, 3, 7], (7, 4, 1), 10.0, 15.0),
        ([1, 1, 1, 1, 5], (5, 4, 0), 11.0, 11.0),
        ([9], (1, 0, 0), 1.0, 1.0),
        ([1], (1, 1, 0), 1.0, 1.0),
        ([2, 2], (2, 0, 2), 2.0, 2.0),
        ([1] * 10, (10, 10, 0), 55.0, 55.0),
        ([1, 2, 2], (3, 1, 2), 3.0, 3.25),
    ],
)
@pytest.mark.filterwarnings("ignore:all .* samples differ")
def test_chao_by_hand(
    times: list[int], counts: tuple[int, int, int], corrected: float, classic: float
) -> None:
    samples = drawn(times)
    assert cm.kernels.distinct_counts(samples) == counts == distinct(samples)
    assert metrics.chao1(samples) == corrected
    assert metrics.chao1(samples, bias_corrected=False) == classic


@pytest.mark.parametrize("m", [2, 10, 1000])
def test_chao_saturates_where_all_samples_differ(m: int) -> None:
    samples = np.arange(m).reshape(m, 1, 1)
    for bias_corrected in (True, False):
        with pytest.warns(UserWarning, match=f"all {m} samples differ: .* is the largest"):
            assert metrics.chao1(samples, bias_corrected=bias_corrected) == m * (m + 1) / 2


@pytest.mark.parametrize(("n_species", "m"), [(20, 30), (20, 100), (100, 60)])
def test_chao_of_a_uniform_population(n_species: int, m: int) -> None:
    """Counts follow the multinomial; the estimate is nearly unbiased, and its classic form biased upwards."""
    rng = np.random.default_rng(n_species * m)
    repeats = 3000
    draws = rng.integers(0, n_species, (repeats, m))
    counts = np.array([cm.kernels.distinct_counts(row.reshape(m, 1, 1)) for row in draws])
    p = 1 / n_species
    expected = [n_species * math.comb(m, k) * p**k * (1 - p) ** (m - k) for k in range(3)]
    for values, mean in zip(counts.T, (n_species - expected[0], *expected[1:]), strict=True):
        error = values.std() / math.sqrt(repeats)
        assert abs(values.mean() - mean) < 4 * error + 1e-12
    estimates = np.array([metrics.chao1(row.reshape(m, 1, 1)) for row in draws])
    bias = estimates.mean() - n_species
    # The expectation of the corrected form is off by n (1 - p)^m times what f_2 > 0 leaves out: small here.
    assert abs(bias) < 4 * estimates.std() / math.sqrt(repeats) + 0.02 * n_species
    classic = np.array([metrics.chao1(row.reshape(m, 1, 1), bias_corrected=False) for row in draws])
    assert (classic >= estimates).all()


@st.composite
def stacks(draw: st.DrawFn, min_maps: int = 1) -> NDArray:
    """Label maps of few pixels and labels, so that many are equal; in any type and layout."""
    m = draw(st.integers(min_maps, 12))
    size = draw(st.sampled_from([(1, 1), (1, 2), (2, 3), (5, 9), (40, 30), (2, 3, 2)]))
    dtype = np.dtype(draw(st.sampled_from(INTEGERS)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_labels = draw(st.sampled_from([1, 2, 3, 100]))
    low = draw(st.sampled_from([0, np.iinfo(dtype).min, np.iinfo(dtype).max - 99]))
    labels = rng.integers(0, n_labels, (m, *size))
    if draw(st.booleans()):
        labels = labels[rng.integers(0, m, m)]  # repeated maps
    if draw(st.booleans()):
        labels = np.where(rng.random(size) < 0.8, labels[0], labels)  # pixels that never vary
    if draw(st.booleans()):
        labels[rng.integers(m)] = 0  # a map that is the same everywhere
    samples = (labels.astype(object) + int(low)).astype(dtype)
    layout = draw(st.sampled_from(["C", "F", "maps last", "backwards", "other byte order", "parts"]))
    if layout == "F":
        return np.asfortranarray(samples)
    if layout == "maps last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(samples, 0, -1)), -1, 0)
    if layout == "backwards":
        return np.ascontiguousarray(samples[:, ::-1])[:, ::-1]
    if layout == "other byte order":
        return samples.astype(dtype.newbyteorder())
    if layout == "parts":
        return np.repeat(samples, 2, axis=-1)[..., ::2]
    return samples


@given(stacks())
def test_distinct_counts_are_those_of_the_twin(samples: NDArray) -> None:
    assert cm.kernels.distinct_counts(samples) == distinct(samples)


def test_one_pixel_of_many_differs() -> None:
    samples = np.zeros((400, 37, 41), np.uint8)
    rows, columns = np.divmod(np.random.default_rng(0).permutation(37 * 41)[:399], 41)
    samples[np.arange(1, 400), rows, columns] = 1
    assert cm.kernels.distinct_counts(samples) == (400, 400, 0)
    assert cm.kernels.distinct_counts(np.concatenate([samples, samples])) == (400, 0, 400)


# Correlation and agreement


def test_leaving_out_constant_pixels_changes_the_correlation() -> None:
    samples = np.array([[[1, 1, 1, 0]], [[1, 1, 0, 1]]])
    assert metrics.pairwise_correlation(samples) == pytest.approx(-1 / 3, rel=1e-15)
    assert metrics.pairwise_correlation(samples, varying_only=True) == -1.0
    assert np.corrcoef(samples[:, 0])[0, 1] == pytest.approx(-1 / 3)
    assert metrics.pairwise_agreement(samples) == 0.5


@given(stacks(min_maps=2), st.booleans())
def test_correlation_is_that_of_the_twin(samples: NDArray, varying_only: bool) -> None:
    low = int(samples.min())
    # The twin's floats hold small numbers only.
    shifted = np.array([[int(label) - low for label in map_.ravel()] for map_ in samples])
    found = metrics.pairwise_correlation(samples, varying_only)
    assert found == pytest.approx(correlation(shifted, varying_only), abs=3e-15)
    assert -1 / (len(samples) - 1) - 1e-14 <= found <= 1


@given(stacks(min_maps=2))
def test_agreement_is_that_of_the_twin(samples: NDArray) -> None:
    found = metrics.pairwise_agreement(samples)
    assert found == float(agreement(samples))
    # Whatever the labels are called.
    names = {label: name for name, label in enumerate(reversed(np.unique(samples).tolist()))}
    renamed = np.vectorize(names.get)(samples.astype(object)).astype(np.int64) * 10_007
    assert metrics.pairwise_agreement(renamed) == found


def test_correlation_of_many_samples() -> None:
    """Sums over ten thousand maps of rare labels lose nothing."""
    rng = np.random.default_rng(1)
    base = np.where(rng.random((60, 50)) < 0.01, 18, 0)
    samples = np.where(rng.random((10_000, 60, 50)) < 0.002, 17, base).astype(np.uint8)
    wide = samples.reshape(10_000, -1).astype(np.longdouble)
    wide -= wide.mean(axis=1, keepdims=True)
    wide /= np.sqrt((wide**2).sum(axis=1, keepdims=True))
    expected = ((wide.sum(axis=0) ** 2).sum() - 10_000) / (10_000 * 9_999)
    assert metrics.pairwise_correlation(samples) == pytest.approx(float(expected), rel=1e-14)


def test_equal_and_opposite_maps() -> None:
    one = np.random.default_rng(0).integers(0, 5, (1, 30, 40))
    assert metrics.pairwise_correlation(np.repeat(one, 7, axis=0)) == pytest.approx(1, rel=1e-15)
    assert metrics.pairwise_correlation(np.repeat(one, 7, axis=0), varying_only=True) == 0
    assert metrics.pairwise_agreement(np.repeat(one, 7, axis=0)) == 1
    assert metrics.pairwise_correlation(np.concatenate([one, 4 - one])) == pytest.approx(-1, rel=1e-15)
    assert metrics.pairwise_correlation(np.zeros((3, 4, 5), int)) == 0
    assert metrics.pairwise_agreement(np.zeros((3, 4, 5), int)) == 1


def test_labels_far_apart() -> None:
    samples = np.array([[[0, 2**50]], [[2**50, 0]]])
    assert metrics.pairwise_correlation(samples) == -1
    assert metrics.pairwise_correlation(samples - 2**62) == -1
    assert metrics.pairwise_correlation(samples[[0, 0]]) == pytest.approx(1, rel=1e-15)
    with pytest.raises(ValueError, match=r"labels of samples span 1125899906842624.*over 9 pixels"):
        metrics.pairwise_correlation(np.array([[[0] * 8 + [2**50]], [[2**50] + [0] * 8]]))
    assert metrics.pairwise_agreement(samples) == 0


@pytest.mark.usefixtures("threads")
def test_threads_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    samples = np.where(rng.random((300, 70, 60)) < 0.01, 1, rng.integers(0, 19, (70, 60)))[
        rng.integers(0, 300, 600)
    ]
    y = rng.integers(0, 19, (70, 60))
    results = []
    for n_threads in (1, 2, 3):
        cm.set_num_threads(n_threads)
        results.append(
            (
                cm.kernels.distinct_counts(samples),
                metrics.pairwise_correlation(samples),
                metrics.pairwise_correlation(samples, True),
                metrics.pairwise_agreement(samples),
                cm.kernels.label_hits(y, samples)[2].tolist(),
            )
        )
    assert results[0] == results[1] == results[2]


# Accuracy


@st.composite
def images(draw: st.DrawFn) -> tuple[list[NDArray], list[NDArray], int | None]:
    n = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y_type, type_ = draw(st.sampled_from(INTEGERS)), draw(st.sampled_from(INTEGERS))
    pool = np.array(draw(st.sampled_from([[0, 1], [0, 1, 2, 3], [3, 100, 7], [0, 127]])))
    ignore = draw(st.sampled_from([None, 0, 100, 127, -1]))
    y, samples = [], []
    for _ in range(n):
        size = tuple(rng.integers(1, 7, 2))
        labels = rng.choice(pool, size)
        if draw(st.booleans()):
            labels[...] = labels.flat[0]
        maps = np.where(rng.random((draw(st.integers(1, 4)), *size)) < 0.6, labels, rng.choice(pool, size))
        y.append(labels.astype(y_type))
        samples.append(maps.astype(type_))
    return y, samples, ignore


@given(images(), st.integers(1, 24), st.integers(1, 24), st.sampled_from(["label", "pixel"]))
def test_sample_coverage_is_that_of_the_twin(problem: tuple, a: int, b: int, kind: str) -> None:
    y, samples, ignore = problem
    least = Fraction(min(a, b), max(a, b))
    expected = sample_coverage(y, samples, least, ignore, kind)
    for beta in (least, float(least)):
        found = metrics.sample_coverage(y, samples, beta, ignore_index=ignore, accuracy=kind, average=False)
        assert np.array_equal(found, expected, equal_nan=True)
    mean = metrics.sample_coverage(iter(y), iter(samples), least, ignore_index=ignore, accuracy=kind)
    defined = [value for value in expected if not math.isnan(value)]
    assert mean == sum(defined) / len(defined) if defined else math.isnan(mean)


@given(images())
def test_label_accuracy_is_that_of_the_twin(problem: tuple) -> None:
    y, samples, ignore = problem
    predictions = [maps[0] for maps in samples]
    found = metrics.label_accuracy(y, predictions, ignore_index=ignore, average=False)
    for labels, prediction, value in zip(y, predictions, found, strict=True):
        expected = accuracy(labels, prediction, ignore)
        assert math.isnan(value) if expected is None else value == float(expected)
    mean = metrics.label_accuracy(y, predictions, ignore_index=ignore)
    assert mean == pytest.approx(np.nanmean(found)) if not np.isnan(found).all() else math.isnan(mean)


def test_scikit_learn_agrees() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 6, (5, 20, 30))
    prediction = np.where(rng.random(y.shape) < 0.7, y, rng.integers(0, 6, y.shape))
    found = metrics.label_accuracy(y, prediction, average=False)
    for labels, other, value in zip(y, prediction, found, strict=True):
        assert value == pytest.approx(balanced_accuracy_score(labels.ravel(), other.ravel()), rel=1e-14)


def test_the_boundary_is_exact() -> None:
    """5 of 6 and 2 of 3 right: accuracy 3/4; and thirds, which no float is."""
    y = np.array([[[0] * 6 + [1] * 3]])
    prediction = np.array([[[0] * 5 + [1] + [1, 1, 0]]])
    covered = lambda beta, **how: metrics.sample_coverage(y, prediction[:, np.newaxis], beta, **how)  # noqa: E731
    assert covered(0.75) == 1
    assert covered(Fraction(3, 4) + Fraction(1, 10**12)) == 1
    assert covered(Fraction(3, 4) + Fraction(2, 10**12)) == 0
    assert covered(7 / 9, accuracy="pixel") == covered(0.7777777777777778, accuracy="pixel") == 1
    assert covered(0.7777777778, accuracy="pixel") == 0
    assert metrics.label_accuracy(y, prediction) == 0.75
    assert metrics.sample_coverage(y, y[:, np.newaxis], 1.0) == 1
    assert metrics.sample_coverage(y, y[:, np.newaxis], 1) == 1


def test_coverage_grows_with_samples_and_falls_with_the_accuracy() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 4, (12, 8, 8))
    samples = np.where(rng.random((12, 9, 8, 8)) < 0.7, y[:, np.newaxis], rng.integers(0, 4, (12, 9, 8, 8)))
    by_count = [metrics.sample_coverage(y, samples[:, :m], 0.8) for m in range(1, 10)]
    by_accuracy = [metrics.sample_coverage(y, samples, beta) for beta in (0.5, 0.7, 0.8, 0.9, 1.0)]
    assert by_count == sorted(by_count)
    assert by_count[0] < by_count[-1]
    assert by_accuracy == sorted(by_accuracy, reverse=True)


def test_what_lies_under_void_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    y = np.where(rng.random((3, 9, 9)) < 0.3, 255, rng.integers(0, 3, (3, 9, 9)))
    samples = rng.integers(0, 3, (3, 4, 9, 9))
    other = np.where(y[:, np.newaxis] == 255, 255, samples)
    for least in (0.3, 0.35, 0.4):
        found = metrics.sample_coverage(y, samples, least, average=False)
        assert np.array_equal(found, metrics.sample_coverage(y, other, least, average=False))
    assert metrics.label_accuracy(y, samples[:, 0]) == metrics.label_accuracy(y, other[:, 0])


@pytest.mark.filterwarnings("ignore:all .* samples differ")
def test_volumes() -> None:
    rng = np.random.default_rng(6)
    y, samples = rng.integers(0, 3, (2, 3, 4, 5)), rng.integers(0, 3, (2, 6, 3, 4, 5))
    flat = y.reshape(2, 12, 5), samples.reshape(2, 6, 12, 5)
    assert metrics.sample_coverage(y, samples, 0.4) == metrics.sample_coverage(*flat, 0.4)
    assert metrics.label_accuracy(y, samples[:, 0]) == metrics.label_accuracy(flat[0], flat[1][:, 0])
    assert metrics.pairwise_correlation(samples[0]) == metrics.pairwise_correlation(flat[1][0])
    assert metrics.pairwise_agreement(samples[0]) == metrics.pairwise_agreement(flat[1][0])
    assert metrics.chao1(samples[0]) == metrics.chao1(flat[1][0])


def test_all_void_images_do_not_count() -> None:
    y = np.array([[[255, 255]], [[0, 1]]])
    assert metrics.label_accuracy(y, np.zeros((2, 1, 2), int)) == 0.5
    assert metrics.sample_coverage(y, np.zeros((2, 1, 1, 2), int), 0.5) == 1
    assert math.isnan(metrics.label_accuracy(y[:1], y[:1]))
    assert math.isnan(metrics.sample_coverage(y[:1], y[:1, np.newaxis], 0.5))


@pytest.mark.parametrize("y_type", INTEGERS)
@pytest.mark.parametrize("type_", INTEGERS)
def test_hits_of_any_types(y_type: str, type_: str) -> None:
    """A label counts as the number that it is, whatever the type: 255 is not -1."""
    ends = lambda dtype: [np.iinfo(dtype).min, 0, 1, 100, np.iinfo(dtype).max]  # noqa: E731
    y = np.array([ends(y_type) * 5], y_type)
    maps = np.repeat(np.array(ends(type_), type_), 5)[np.newaxis, np.newaxis]
    labels, totals, hits = cm.kernels.label_hits(y, maps, None)
    assert labels.dtype == y_type
    assert labels.tolist() == sorted({int(label) for label in ends(y_type)})
    for label, total, hit in zip(labels.tolist(), totals.tolist(), hits[0].tolist(), strict=True):
        places = [int(value) == label for value in y[0]]
        assert total == sum(places)
        assert hit == sum(p and int(other) == label for p, other in zip(places, maps[0, 0], strict=True))


# Bad input

MAPS = np.zeros((2, 3, 4, 5), int)
Y = np.zeros((2, 4, 5), int)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: metrics.chao1(np.full((3, 4, 5), 0.5)), TypeError, "samples must hold integer labels"),
        (lambda: metrics.chao1(np.zeros((4, 5), int)), ValueError, r"samples must have shape \(m, H, W\)"),
        (lambda: metrics.chao1(np.zeros((0, 4, 5), int)), ValueError, r"samples.*not be empty.*\(0, 4, 5\)"),
        (lambda: metrics.chao1(np.zeros((3, 0, 5), int)), ValueError, r"samples.*not be empty"),
        (lambda: metrics.chao1(np.ma.zeros((3, 4, 5), int)), TypeError, "samples is a masked array"),
        (lambda: metrics.pairwise_correlation(MAPS[0, :1]), ValueError, "at least two label maps, got 1"),
        (lambda: metrics.pairwise_agreement(MAPS[0, :1]), ValueError, "at least two label maps, got 1"),
        (lambda: metrics.pairwise_agreement(MAPS[0, 0]), ValueError, r"samples must have.*got \(4, 5\)"),
        (
            lambda: metrics.label_accuracy(Y, MAPS),
            ValueError,
            r"y_true must have shape.* to match prediction .*got \(2, 4, 5\)",
        ),
        (
            lambda: metrics.label_accuracy(Y, Y[:1]),
            ValueError,
            r"y_true must have shape \(1, 4, 5\) to match prediction.*got \(2, 4, 5\)",
        ),
        (lambda: metrics.label_accuracy(Y, Y + 0.5), TypeError, "prediction must hold integer labels"),
        (lambda: metrics.label_accuracy(Y + 0.5, Y), TypeError, "y_true must hold integer labels"),
        (
            lambda: metrics.label_accuracy(iter([Y[0]]), list(Y)),
            ValueError,
            "number of images: y_true has 1 image, prediction has more",
        ),
        (
            lambda: metrics.label_accuracy(iter(Y), [Y[0]]),
            ValueError,
            "number of images: prediction has 1 image, y_true has more",
        ),
        (lambda: metrics.label_accuracy([], []), ValueError, "prediction is empty: it holds no image"),
        (
            lambda: metrics.label_accuracy(Y, 3),
            TypeError,
            "prediction must be an array, a list of images or an iterable.*int",
        ),
        (
            lambda: metrics.label_accuracy(3, [Y]),
            TypeError,
            "y_true must hold one label map for each image of prediction, got int",
        ),
        (
            lambda: metrics.label_accuracy(list(Y), [Y[0], Y[1].T]),
            ValueError,
            r"y_true must have shape \(5, 4\) to match prediction .*in image 1, got \(4, 5\)",
        ),
        (lambda: metrics.label_accuracy(Y, Y, ignore_index=1.5), TypeError, "ignore_index must be an int"),
        (lambda: metrics.sample_coverage(Y, Y, 0.5), ValueError, r"samples must have shape \(n, m, H, W\)"),
        (lambda: metrics.sample_coverage(Y, MAPS[:, :0], 0.5), ValueError, "samples must .* not be empty"),
        (
            lambda: metrics.sample_coverage(Y, MAPS[..., 0], 0.5),
            ValueError,
            r"samples must .*got \(2, 3, 4\)",
        ),
        (
            lambda: metrics.sample_coverage(list(Y), [MAPS[0], MAPS[0, :, :2]], 0.5),
            ValueError,
            r"y_true must have shape \(2, 5\) to match samples \(3, 2, 5\) in image 1, got \(4, 5\)",
        ),
        (lambda: metrics.sample_coverage(Y, MAPS, 0), ValueError, r"min_accuracy must be in \(0, 1\], got 0"),
        (lambda: metrics.sample_coverage(Y, MAPS, 1.01), ValueError, r"min_accuracy must be in \(0, 1\]"),
        (lambda: metrics.sample_coverage(Y, MAPS, math.nan), ValueError, "min_accuracy must be finite"),
        (lambda: metrics.sample_coverage(Y, MAPS, "x"), TypeError, "min_accuracy must be a number, got 'x'"),
        (
            lambda: metrics.sample_coverage(Y, MAPS, 0.5, accuracy="mean"),
            ValueError,
            "accuracy must be 'label'",
        ),
        (lambda: cm.kernels.label_hits(Y, MAPS), ValueError, r"predictions must have shape \(m, 2, 4, 5\)"),
        (lambda: cm.kernels.label_hits(Y[0, 0], MAPS), ValueError, r"y must have shape \(H, W\)"),
        (lambda: cm.kernels.label_hits(Y[0], MAPS[0, :0]), ValueError, r"predictions must .*not be empty"),
    ],
)
def test_bad_input(call: Callable[[], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


# Ctrl-C

_SAMPLES = """
samples = np.broadcast_to(np.arange(1024, dtype=np.uint8), (1_000_000, 1024, 1024))  # 1 TB, of which 1 KB exists
cm.metrics.chao1(samples[:2, :9, :9])
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "work",
    [
        "cm.metrics.chao1(samples)",
        "cm.metrics.pairwise_correlation(samples, varying_only=True)",
        "cm.metrics.pairwise_agreement(samples)",
        "cm.metrics.sample_coverage(samples[:1], samples[np.newaxis], 0.5)",
    ],
    ids=["chao1", "correlation", "agreement", "coverage"],
)
def test_ctrl_c_stops_long_work(work: str) -> None:
    ctrl_c.stops(work, before=_SAMPLES)
