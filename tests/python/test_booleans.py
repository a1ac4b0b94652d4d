"""Booleans whose true byte is not 1 mean what other booleans mean, wherever booleans are read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import conformask as cm

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from conformask import plotting  # noqa: E402  (after the backend)

RNG = np.random.default_rng(20)
P = RNG.random((40, 1, 6, 7)).astype(np.float32)
X = np.concatenate([1 - P, P], axis=1)
LABELS = RNG.random((40, 6, 7)) < P[:, 0] * 0.8
MASKS = cm.kernels.threshold(X, 0.6)


def odd(array: NDArray[np.bool_], byte: int) -> NDArray[np.bool_]:
    """The same booleans, true being another byte."""
    return (array.view(np.uint8) * np.uint8(byte)).view(bool)


def fitted(y: NDArray) -> cm.ConformalRiskCalibrator:
    return cm.ConformalRiskCalibrator(alpha=0.1).fit(X, y)


def strided(array: NDArray) -> NDArray:
    return np.repeat(array, 2, axis=-1)[..., ::2]


READERS: dict[str, Callable[[NDArray, NDArray], object]] = {
    "fit": lambda y, _: fitted(y).lambda_hat_,
    "fit, strided": lambda y, _: fitted(strided(y)).lambda_hat_,
    "fit, a list": lambda y, _: cm.ConformalRiskCalibrator().fit(list(X), list(y)).lambda_hat_,
    "evaluate": lambda y, _: fitted(LABELS).evaluate(X, y).empirical_risk,
    "losses": lambda y, _: cm.kernels.losses(X, y, 0.4).tolist(),
    "true_label_scores": lambda y, _: cm.kernels.true_label_scores(X, y).tolist(),
    "consign": lambda y, _: (
        cm.ConsignCalibrator(1, min_accuracy=0.2, alpha=0.3)
        .fit(np.stack([X[:9], X[9:18]], axis=1), y[:9])
        .image_lambdas_.tolist()
    ),
    "label_accuracy": lambda y, _: cm.metrics.label_accuracy(y, LABELS.astype(int), average=False).tolist(),
    "prediction": lambda y, _: cm.metrics.label_accuracy(LABELS.astype(int), y, average=False).tolist(),
    "empirical_risk": lambda y, masks: cm.metrics.empirical_risk(y, masks),
    "activation_ratio": lambda y, masks: cm.metrics.activation_ratio(y, list(masks)),
    "size_stratified": lambda y, masks: cm.metrics.size_stratified_coverage(y, masks).n_pixels.tolist(),
    "class_set_sizes": lambda y, masks: cm.metrics.class_set_sizes(y, masks).tolist(),
    "log10_volume": lambda _, masks: cm.metrics.log10_volume(masks),
    "sample_masks": lambda _, masks: cm.kernels.sample_masks(masks, 3, random_state=1).tolist(),
    "plot_masks": lambda y, masks: (
        plotting.plot_masks(masks[0], labels=y[0], ignore_index=255).get_images()[0].get_array().tolist()
    ),
    "chosen profiles": lambda y, _: len(cm.profile(X, LABELS)[y[:, 0, 0]]),
}


@pytest.mark.parametrize("byte", [2, 255])
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_any_true_byte_is_true(reader: Callable[[NDArray, NDArray], object], byte: int) -> None:
    y, masks = odd(LABELS, byte), odd(MASKS, byte)
    assert y.view(np.uint8).max() == masks.view(np.uint8).max() == byte
    assert reader(y, masks) == reader(LABELS, MASKS)


def test_the_callers_array_stays_as_it_is() -> None:
    y = odd(LABELS, 255)
    before = y.view(np.uint8).copy()
    fitted(y)
    assert np.array_equal(y.view(np.uint8), before)


def test_a_mask_of_pillow_is_read_as_labels() -> None:
    image = pytest.importorskip("PIL.Image")
    y = np.stack([np.asarray(image.fromarray(label.astype(np.uint8) * 255).convert("1")) for label in LABELS])
    assert fitted(y).lambda_hat_ == fitted(LABELS.astype(np.int64)).lambda_hat_ > 0
