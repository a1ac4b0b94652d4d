"""What can be seen of pixels, and a temperature for each: kernels against twins, bits, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

import conformask as cm
import scaling_twin as twin
from conformask import _core
from conformask.scaling._features import as_image, pixel_features

LOGITS, Y = twin.problem(3)
IDENTITY = _core.ScalerMap.affine(np.ones(1), np.empty(0), False, False)


def transformed(map_: _core.ScalerMap, logits: NDArray) -> NDArray:
    out = np.empty(logits.shape, np.float64 if logits.dtype == np.float64 else np.float32)
    _core.probabilities(logits, map_, out, 0)
    return out


# Features


@pytest.mark.parametrize(
    ("k", "shape"),
    [
        (2, (24, 31)),
        (3, (1, 40)),
        (5, (40, 1)),
        (11, (3, 2)),
        (4, (3, 9, 20)),
        (3, (200, 300)),
        (11, (24, 31)),
    ],
)
def test_features_are_those_of_the_twin(k: int, shape: tuple[int, ...]) -> None:
    """Also of images of several bands, and of planes of volumes."""
    logits, _ = twin.problem(2, k, k, shape)
    found = pixel_features(logits, "logits", 0, around=True)
    for image, planes in zip(special.softmax(logits, axis=1), found, strict=True):
        assert twin.close(planes, twin.features(image), 2e-6)
    alone = pixel_features(logits, "logits", 0, around=False)
    assert (alone == found[:, :7]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_of_any_array(dtype: type) -> None:
    p = special.softmax(LOGITS, axis=1).astype(dtype)
    known = pixel_features(p, "probabilities", 0, around=True)
    expected = np.stack([twin.features(image) for image in p.astype(np.float64)])
    assert twin.close(known, expected, 1e-5)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(p, 1, -1)), -1, 1)
    for other in (last, np.repeat(p, 2, axis=3)[..., ::2]):
        assert (pixel_features(other, "probabilities", 0, around=True) == known).all()


def test_what_is_certain_has_no_entropy() -> None:
    p = np.zeros((1, 3, 4, 4))
    p[:, 1] = 1
    found = pixel_features(p, "probabilities", 0, around=True)[0]
    assert (found[:, 2, 2] == [0, 1, 1, 0, 0, 0, 0, 1, 1, 0]).all()


def test_a_batch_and_drawn_pixels_have_the_bits_of_images() -> None:
    logits = LOGITS.astype(np.float32)
    together = pixel_features(logits, "logits", 0, around=True)
    drawn = _core.draw_pixels(logits, Y, 255, 50, 0, 0)
    for i, (values, labels, _, _, positions) in enumerate(drawn):
        assert (pixel_features(logits[i : i + 1], "logits", i, around=True)[0] == together[i]).all()
        alone = pixel_features(as_image(values), "logits", 0, around=False)[0, :, 0]
        assert (alone == together[i, :7].reshape(7, -1)[:, positions]).all()
        assert (Y[i].reshape(-1)[positions] == labels).all()
        assert (values == logits[i].reshape(4, -1)[:, positions].T).all()


def test_features_of_what_is_no_probability_are_refused() -> None:
    bad = LOGITS.copy()
    bad[1, 2, 5, 7] = math.nan
    with pytest.raises(ValueError, match=r"not finite in image 8: class 2 is NaN at pixel \(5, 7\)"):
        pixel_features(bad, "logits", 7, around=True)
    negative = special.softmax(LOGITS, axis=1)
    negative[0, :2, 3, 4] += [0.7, -0.7]
    with pytest.raises(ValueError, match="image 0"):
        pixel_features(negative, "probabilities", 0, around=False)
    with pytest.raises(ValueError, match="out must have shape"):
        _core.pixel_features(LOGITS, "logits", np.empty((3, 7, 24, 30), np.float32), 0)
    with pytest.raises(ValueError, match="a plane for each feature"):
        _core.pixel_features(LOGITS, "logits", np.empty((3, 8, 24, 31), np.float32), 0)


# Temperatures


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(24, 31), (3, 8, 31)])
def test_tempered_probabilities_are_those_of_the_twin(dtype: type, shape: tuple[int, ...]) -> None:
    logits = LOGITS.reshape(3, 4, *shape).astype(dtype)
    rng = np.random.default_rng(0)
    factors = rng.choice([0, 1e-10, 0.01, 0.5, 1, 3], (3, *shape)).astype(np.float32)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    found = transformed(_core.ScalerMap.tempered(IDENTITY, factors), logits)
    assert twin.close(found, twin.tempered(logits.astype(np.float64), factors), tolerance)

    weight, bias = rng.normal(1, 0.2, 4), rng.normal(0, 1, 4)
    affine = _core.ScalerMap.affine(weight, bias, False, False)
    axes = (4, *[1] * len(shape))
    moved = logits.astype(np.float64) * weight.reshape(axes) + bias.reshape(axes)
    found = transformed(_core.ScalerMap.tempered(affine, factors), logits)
    assert twin.close(found, twin.tempered(moved, factors), tolerance)
    twice = _core.ScalerMap.tempered(_core.ScalerMap.tempered(affine, factors), factors)
    assert twin.close(
        transformed(twice, logits), twin.tempered(moved, factors.astype(np.float64) ** 2), tolerance
    )

    shares = rng.random((3, *shape)).astype(np.float32)
    found = transformed(_core.ScalerMap.blended(affine, (2.0, 0.1), shares), logits)
    share = shares[:, None].astype(np.float64)
    blend = share * special.softmax(2 * moved, axis=1) + (1 - share) * special.softmax(0.1 * moved, axis=1)
    assert twin.close(found, blend, tolerance)
    onto = _core.ScalerMap.tempered(_core.ScalerMap.blended(affine, (2.0, 0.1), shares), factors)
    assert twin.close(transformed(onto, logits), twin.tempered(np.log(blend), factors), 10 * tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [0, 1e-10, 1e-4, 1e-2, 1])
def test_no_temperature_changes_the_most_probable_class(dtype: type, factor: float) -> None:
    """Where float32 rounds the probabilities to equal ones, the order says which is the largest."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1, (2, 19, 60, 60)).astype(dtype)
    logits[0, 5:9, :30] = 4 + rng.integers(0, 2, (4, 30, 60))  # several are the largest
    expected = logits.argmax(axis=1)
    factors = np.full((2, 60, 60), factor, np.float32)
    found = transformed(_core.ScalerMap.tempered(IDENTITY, factors), logits)
    assert (found.argmax(axis=1) == expected).all()
    assert twin.close(found, twin.tempered(logits, factors), 1e-6)
    blended = transformed(_core.ScalerMap.blended(IDENTITY, (1.0, factor), factors), logits)
    assert (blended.argmax(axis=1) == expected).all()

    # Probabilities that differ by less than their logarithms can tell.
    close = np.full((1, 3, 1, 64), 1 / 3, dtype)
    close[0, 1] += np.spacing(close[0, 1]) * rng.integers(0, 2, (1, 64))
    of_probabilities = _core.ScalerMap.affine(np.ones(1), np.empty(0), False, True)
    found = transformed(
        _core.ScalerMap.tempered(of_probabilities, factors[:1, :1].repeat(2, 2)[..., :64]), close
    )
    assert (found.argmax(axis=1) == close.argmax(axis=1)).all()


def test_every_kernel_takes_a_temperature_for_each_pixel() -> None:
    factors = np.random.default_rng(0).uniform(0, 2, Y.shape).astype(np.float32)
    map_ = _core.ScalerMap.tempered(IDENTITY, factors)
    logits = LOGITS.astype(np.float32)
    p, score, lam = transformed(map_, logits), cm.LAC()._kernel(), 0.6
    for kernel, shape, dtype in (
        (_core.threshold, logits.shape, np.uint8),
        (_core.set_size, Y.shape, np.uint16),
    ):
        of_map, of_p = np.empty(shape, dtype), np.empty(shape, dtype)
        kernel(logits, lam, score, map_, of_map, 0)
        kernel(p, lam, score, "probabilities", of_p, 0)
        assert (of_map == of_p).all()
    values = [np.empty(Y.shape), np.empty(Y.shape)]
    _core.true_label_scores(logits, Y, score, map_, 255, values[0], 0)
    _core.true_label_scores(p, Y, score, "probabilities", 255, values[1], 0)
    assert np.array_equal(*values, equal_nan=True)


def test_threads_and_batches_change_no_bit() -> None:
    logits, _ = twin.problem(2, shape=(200, 200))
    factors = np.random.default_rng(0).uniform(0, 2, (2, 200, 200)).astype(np.float32)

    def found(at: slice) -> tuple[NDArray, NDArray]:
        map_ = _core.ScalerMap.tempered(IDENTITY, factors[at])
        return transformed(map_, logits[at]), pixel_features(logits[at], "logits", 0, around=True)

    known = found(slice(None))
    for n_threads in (1, 2, 5):
        cm.set_num_threads(n_threads)
        assert all((a == b).all() for a, b in zip(found(slice(None)), known, strict=True))
        for i in range(2):
            for a, b in zip(found(slice(i, i + 1)), known, strict=True):
                assert (a == b[i : i + 1]).all()
    cm.set_num_threads(None)


def test_temperatures_of_other_images_are_refused() -> None:
    for shape in [(3, 24, 30), (2, 24, 31), (3, 1, 24, 31), (3, 31, 24)]:
        map_ = _core.ScalerMap.tempered(IDENTITY, np.ones(shape, np.float32))
        with pytest.raises(ValueError, match="made for another shape"):
            transformed(map_, LOGITS)


def test_losses_of_pixels_have_the_slopes_of_differences() -> None:
    rng = np.random.default_rng(0)
    logits, labels, factors = rng.normal(0, 3, (5, 9000)), rng.integers(0, 5, 9000), rng.uniform(0, 3, 9000)

    def losses(s: NDArray) -> NDArray:
        z = s * logits
        return special.logsumexp(z, axis=0) - z[labels, np.arange(9000)]

    found = _core.tempered_losses(logits, labels.astype(np.uint16), factors)
    step = 1e-4
    up, at, down = (losses(factors + shift) for shift in (step, 0, -step))
    assert twin.close(found[:, 0], at, 1e-12)
    assert twin.close(found[:, 1], (up - down) / (2 * step), 1e-5)
    assert twin.close(found[:, 2], (up - 2 * at + down) / step**2, 1e-4)
    with pytest.raises(ValueError, match="do not fit"):
        _core.tempered_losses(logits, labels.astype(np.uint16), factors[1:])
