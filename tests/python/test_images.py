"""The walk over images: what a caller hands over is read as it is meant, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import conformask as cm
from problems import wide

K = 3
RNG = np.random.default_rng(12)
FLAT = RNG.normal(0, 2, (30, K, 6, 5)).astype(np.float32)
Y = np.where(RNG.random((30, 6, 5)) < 0.8, FLAT.argmax(axis=1), RNG.integers(0, K, (30, 6, 5)))
BATCHES = [
    (FLAT[i : i + K], Y[i : i + K]) for i in range(0, 30, K)
]  # of B = K images: (K, K, H, W) and (K, H, W)


def calibrator(**parameters: Any) -> cm.ConformalRiskCalibrator:
    return cm.ConformalRiskCalibrator(inputs="logits", **parameters)


class Loader:
    """What PyTorch's loaders say of themselves."""

    def __init__(self, items: list, batch_size: int | None = None, batch_sampler: object = None) -> None:
        self.items, self.batch_size, self.batch_sampler = items, batch_size, batch_sampler

    def __iter__(self) -> Iterator:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


FITTED = calibrator().fit(FLAT, Y)
MAPS = [scores for scores, _ in BATCHES]
CONSIGN = cm.ConsignCalibrator(1, min_accuracy=0.1, alpha=0.5)
SAMPLES = RNG.random((4, K, 2, K, 6, 5))  # 4 batches of K images with 2 samples


@pytest.mark.parametrize(
    "work",
    [
        lambda items: calibrator().fit(items(BATCHES)),
        lambda items: calibrator().partial_fit(items(BATCHES)),
        lambda items: cm.profile(items(BATCHES), inputs="logits"),
        lambda items: FITTED.evaluate(items(BATCHES)),
        lambda items: FITTED.score(items(BATCHES)),
        lambda items: list(FITTED.predict(items(MAPS))),
        lambda items: list(FITTED.set_size(items(MAPS))),
        lambda items: list(FITTED.varisco(items(MAPS))),
        lambda items: calibrator().fit(items(MAPS), [labels for _, labels in BATCHES]),
        lambda items: cm.metrics.empirical_risk(
            [labels for _, labels in BATCHES], items([maps > 0 for maps in MAPS])
        ),
        lambda items: cm.metrics.log10_volume(items([maps > 0 for maps in MAPS])),
        lambda items: CONSIGN.fit(items([(batch, batch[:, 0].argmax(axis=1)) for batch in SAMPLES])),
    ],
)
def test_batches_are_never_taken_for_volumes(work: Callable[[Callable], object]) -> None:
    for container in (list, iter):
        with pytest.raises(ValueError, match=r"may be a volume .* or a batch .* volumes=True"):
            work(container)
    for loader in ({"batch_size": K}, {"batch_sampler": [[0, 1, 2]]}):
        with pytest.raises(TypeError, match=r"(X|masks) yields batches.* batch_size=None"):
            work(lambda items, loader=loader: Loader(items, **loader))


def test_batches_one_by_one_are_right() -> None:
    by_batch = calibrator()
    for scores, labels in BATCHES:
        by_batch.partial_fit(scores, labels)
    assert by_batch.lambda_hat_ == FITTED.lambda_hat_
    single = Loader(list(zip(FLAT, Y, strict=True)))
    assert calibrator().fit(single).lambda_hat_ == FITTED.lambda_hat_


def test_volumes_that_may_be_batches_are_taken_when_they_are_said_to_be() -> None:
    """K slices of K classes."""
    volumes = FLAT.reshape(10, K, K, 6, 5), np.stack([labels for _, labels in BATCHES])
    expected = calibrator().fit(*volumes)  # of an array the number of axes tells
    by_image = calibrator(volumes=True).fit(list(volumes[0]), list(volumes[1]))
    assert by_image.lambda_hat_ == expected.lambda_hat_
    assert np.array_equal(np.stack(by_image.predict(list(volumes[0]))), expected.predict(volumes[0]))
    assert by_image.evaluate(list(volumes[0]), list(volumes[1])).empirical_risk == expected.risk_
    assert by_image.recalibrate(alpha=0.2).get_params()["volumes"] is True


def test_flat_images_and_volumes_by_their_axes() -> None:
    four = np.repeat(FLAT[:, :, None], 4, axis=2), np.repeat(Y[:, None], 4, axis=1)  # D = 4, not K
    assert calibrator().fit(list(four[0]), list(four[1])).n_images_ == 30
    with pytest.raises(ValueError, match=r"must have shape \(K, H, W\); image 0 has \(3, 4, 6, 5\)"):
        calibrator(volumes=False).fit(list(four[0]), list(four[1]))
    with pytest.raises(ValueError, match=r"must have shape \(K, D, H, W\); image 0 has \(3, 6, 5\)"):
        calibrator(volumes=True).fit(list(FLAT), list(Y))
    with pytest.raises(ValueError, match="volumes must be one of"):
        calibrator(volumes="maybe").fit(FLAT, Y)
    with pytest.raises(ValueError, match="volumes must be True, False or 'auto'"):
        cm.profile(FLAT, Y, volumes="maybe")  # type: ignore[call-overload]


class Store:
    """A dataset that can be sliced, and does not like to be read at once."""

    def __init__(self, array: NDArray) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype
        self.largest = 0

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> NDArray:
        found = self._array[index]
        self.largest = max(self.largest, len(found))
        return found.copy()

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray:
        raise MemoryError("a store is read by slices")


def test_stores_are_read_image_by_image() -> None:
    X, y = Store(FLAT), Store(Y)
    fitted = calibrator().fit(X, y)
    assert fitted.lambda_hat_ == FITTED.lambda_hat_
    assert np.array_equal(fitted.predict(X), FITTED.predict(FLAT))
    assert np.array_equal(fitted.set_size(X), FITTED.set_size(FLAT))
    assert np.array_equal(fitted.varisco(X, "max"), FITTED.varisco(FLAT, "max"))
    assert fitted.evaluate(X, Y).empirical_risk == FITTED.evaluate(FLAT, Y).empirical_risk
    assert X.largest == y.largest == 1
    binned = calibrator(profile="binned").fit(X, Y)
    assert binned.lambda_hat_ == calibrator(profile="binned").fit(FLAT, Y).lambda_hat_
    assert X.largest == 16  # bins take some images at once
    masks = Store(FITTED.predict(FLAT))
    assert cm.metrics.empirical_risk(Y, masks) == FITTED.risk_
    samples = RNG.random((6, 3, K, 4, 5))
    labels = samples[:, 0].argmax(axis=1)
    consign = cm.ConsignCalibrator(1, min_accuracy=0.1, alpha=0.5)
    assert consign.fit(Store(samples), labels).lambda_hat_ == consign.fit(samples, labels).lambda_hat_
    assert len(consign.predict(Store(samples))) == 6


def test_what_stores_hold_is_checked_like_arrays() -> None:
    with pytest.raises(ValueError, match=r"X must have shape \(n, K, H, W\) or .*got \(30, 6, 5\)"):
        calibrator().fit(Store(Y.astype(np.float32)), Y)
    with pytest.raises(ValueError, match="X has 30 images, y has 29"):
        calibrator().fit(Store(FLAT), Y[:-1])
    with pytest.raises(ValueError, match="y holds label 9 in image 4"):
        calibrator().fit(Store(FLAT), np.where(np.arange(30)[:, None, None] == 4, 9, Y))
    with pytest.raises(TypeError, match="y is missing"):
        calibrator().fit(Store(FLAT))
    with pytest.raises(ValueError, match="masks has 30 images, y_true has 29"):
        cm.metrics.empirical_risk(Y[:-1], Store(FLAT > 0))
    with pytest.raises(ValueError, match="X is empty"):
        calibrator().fit(Store(FLAT[:0]), Y[:0])


def test_files_of_h5py(tmp_path: Any) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["X"], file["y"] = FLAT, Y.astype(np.uint8)
        assert calibrator().fit(file["X"], file["y"]).lambda_hat_ == FITTED.lambda_hat_
        assert np.array_equal(FITTED.predict(file["X"]), FITTED.predict(FLAT))


def test_the_container_decides_what_comes_back() -> None:
    good = wide(n=4, n_classes=3, size=(4, 5))
    fitted = cm.ConformalRiskCalibrator(alpha=0.3).fit(good.X, good.y)
    assert isinstance(fitted.predict(good.X), np.ndarray)
    assert isinstance(fitted.predict(list(good.X)), list)
    assert isinstance(fitted.predict(tuple(good.X)), list)
    assert isinstance(fitted.predict(iter(good.X)), Iterator)
