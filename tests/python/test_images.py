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


class Proxy:
    """Only what nibabel's proxies have: a shape, slices, and all of it by `__array__`, which nobody shall ask for."""

    def __init__(self, array: NDArray) -> None:
        self._array, self.shape, self.largest = array, array.shape, 0

    def __getitem__(self, index: Any) -> NDArray:
        found = self._array[index]
        self.largest = max(self.largest, found.size)
        return found.copy()

    def __array__(self, dtype: object = None, copy: object = None) -> NDArray:
        raise MemoryError("all at once")


P, FOREGROUND = RNG.random((30, 6, 5)), RNG.random((30, 6, 5)) < 0.4
PROBABILITIES = np.exp(FLAT) / np.exp(FLAT).sum(axis=1, keepdims=True)
SEGMENTED = FLAT.argmax(axis=1)
DRAWN = np.exp(SAMPLES.reshape(12, 2, K, 6, 5))
DRAWN /= DRAWN.sum(axis=2, keepdims=True)
OF_DRAWN = DRAWN[:, 0].argmax(axis=1)

# Each with its maps and labels; all take them as `wrap` makes them.
READERS: dict[str, tuple[Callable[..., Any], NDArray, NDArray]] = {
    "risk control": (lambda X, y: calibrator().fit(X, y).lambda_hat_, FLAT, Y),
    "bins": (lambda X, y: calibrator(profile="binned").fit(X, y).lambda_hat_, FLAT, Y),
    "partial_fit": (lambda X, y: calibrator().partial_fit(X, y).lambda_hat_, FLAT, Y),
    "evaluate": (lambda X, y: FITTED.evaluate(X, y).empirical_risk, FLAT, Y),
    "losses": (lambda X, y: FITTED.losses(X, y).tolist(), FLAT, Y),
    "profile": (lambda X, y: cm.profile(X, y, inputs="logits").losses("miscoverage", 0.5).tolist(), FLAT, Y),
    "scaling": (lambda X, y: cm.TemperatureScaler().fit(X, y).temperature_, FLAT, Y),
    "consign": (lambda X, y: CONSIGN.fit(X, y).lambda_hat_, DRAWN, OF_DRAWN),
    "binary masks": (lambda X, y: cm.BinaryRiskCalibrator().fit(X, y).threshold_, P, FOREGROUND),
    "masks of classes": (
        lambda X, y: cm.BinaryRiskCalibrator().fit(X, y, classes=1).threshold_,
        PROBABILITIES,
        Y,
    ),
    "thresholds": (lambda X, y: cm.COATCalibrator(alpha=0.3).fit(X, y).correction_, P, FOREGROUND),
    "margins": (lambda X, y: cm.MarginCalibrator(alpha=0.3).fit(X, y, classes=1).margin_, SEGMENTED, Y),
    "risk of masks": (lambda X, y: cm.metrics.empirical_risk(y, X), FLAT > 0, Y),
    "calibration error": (
        lambda X, y: cm.metrics.expected_calibration_error(y, X, inputs="logits"),
        FLAT,
        Y,
    ),
    "mean IoU": (lambda X, y: cm.metrics.mean_iou(y, X), PROBABILITIES, Y),
    "accuracy": (lambda X, y: cm.metrics.label_accuracy(y, X), SEGMENTED, Y),
}


@pytest.mark.parametrize("name", READERS)
def test_all_that_read_images_read_stores_one_by_one(name: str) -> None:
    use, X, y = READERS[name]
    expected, n_pixels = use(X, y), y[0].size
    images, labels = Proxy(X), Proxy(y)
    assert use(images, labels) == expected
    at_once = 16 if name == "bins" else 1
    assert images.largest <= at_once * X[0].size
    assert labels.largest <= at_once * n_pixels
    for one in (X, list(X)):  # labels alone in a store
        assert use(one, Proxy(y)) == expected
    assert use(Proxy(X), y) == expected
    assert use([Proxy(image) for image in X], [Proxy(image) for image in y]) == expected


def test_all_that_predict_read_stores_one_by_one() -> None:
    scaler = cm.TemperatureScaler().fit(FLAT, Y)
    masks = cm.BinaryRiskCalibrator().fit(P, FOREGROUND)
    margins = cm.MarginCalibrator(alpha=0.3).fit(SEGMENTED, Y, classes=1)
    for use, X in (
        (FITTED.predict, FLAT),
        (FITTED.set_size, FLAT),
        (FITTED.varisco, FLAT),
        (FITTED.predict_lambdas, FLAT),
        (scaler.transform, FLAT),
        (masks.predict, P),
        (masks.predict_thresholds, P),
        (margins.predict, SEGMENTED),
    ):
        store = Proxy(X)
        found, expected = use(store), use(X)
        assert store.largest == X[0].size
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(np.asarray(one), np.asarray(other))


def test_labels_of_stores_are_named_by_their_image() -> None:
    y = Y.astype(float)
    y[21, 2, 3] = 0.5
    with pytest.raises(TypeError, match=r"and 0\.5 in image 21 at pixel \(2, 3\)"):
        calibrator().fit(Proxy(FLAT), Proxy(y))
    with pytest.raises(ValueError, match="X has 30 images, y has 29"):
        calibrator().fit(FLAT, Proxy(Y[1:]))
    with pytest.raises(ValueError, match="X has 30 images, y has 29"):
        calibrator().fit(list(FLAT), Proxy(Y[1:]))


def test_arrays_of_zarr(tmp_path: Any) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(tmp_path / "maps.zarr"), mode="w")
    for name, array in (("X", FLAT), ("y", Y)):
        group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=(1, *array.shape[1:]))[...] = (
            array
        )
    assert calibrator().fit(group["X"], group["y"]).lambda_hat_ == FITTED.lambda_hat_
    assert np.array_equal(FITTED.predict(group["X"]), FITTED.predict(FLAT))
    with pytest.raises(
        TypeError, match=r"X must be an array, got Group that holds '.', '.': .* such as X\['.'\]"
    ):
        calibrator().fit(group, group["y"])


def test_arrays_of_xarray() -> None:
    xarray = pytest.importorskip("xarray")
    X = xarray.DataArray(FLAT, dims=("time", "class", "y", "x"))
    y = xarray.DataArray(Y, dims=("time", "y", "x"))
    assert calibrator().fit(X, y).lambda_hat_ == FITTED.lambda_hat_
    assert calibrator().fit(X.chunk({"time": 4}), y).lambda_hat_ == FITTED.lambda_hat_
    assert np.array_equal(FITTED.predict(X), FITTED.predict(FLAT))
    assert cm.metrics.empirical_risk(y, FITTED.predict(X)) == FITTED.risk_
    with pytest.raises(
        TypeError, match=r"got Dataset that holds 'maps': pass what it holds, such as X\['maps'\]"
    ):
        calibrator().fit(xarray.Dataset({"maps": X}), y)


def test_proxies_of_nibabel(tmp_path: Any) -> None:
    nibabel = pytest.importorskip("nibabel")
    for name, array in (("X", FLAT), ("y", Y.astype(np.int16))):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    X, y = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in "Xy")
    assert calibrator().fit(X.dataobj, y.dataobj).lambda_hat_ == FITTED.lambda_hat_
    assert calibrator().fit(X.dataobj, y.get_fdata()).lambda_hat_ == FITTED.lambda_hat_  # float64
    assert np.array_equal(FITTED.predict(X.dataobj), FITTED.predict(FLAT))
    volumes = list(map(nibabel.load, [tmp_path / "y.nii.gz"]))  # a file each: (D, H, W)
    maps = np.moveaxis(FLAT, 1, 0)
    one = calibrator(alpha=0.6, volumes=True).fit([maps], [volume.dataobj for volume in volumes])
    assert one.lambda_hat_ == calibrator(alpha=0.6).fit(maps[None], Y[None]).lambda_hat_


def test_arrays_of_dask() -> None:
    array = pytest.importorskip("dask.array")
    X, y = array.from_array(FLAT, chunks=(4, -1, -1, -1)), array.from_array(Y, chunks=(7, -1, -1))
    assert calibrator().fit(X, y).lambda_hat_ == FITTED.lambda_hat_
    assert np.array_equal(FITTED.predict(X), FITTED.predict(FLAT))
    some = X[array.from_array(np.arange(30) < 20, chunks=4)]
    with pytest.raises(ValueError, match=r"how many images it has: call X\.compute_chunk_sizes\(\)"):
        FITTED.predict(some)
    assert len(FITTED.predict(some.compute_chunk_sizes())) == 20


def test_files_of_several_arrays(tmp_path: Any) -> None:
    np.savez(tmp_path / "maps.npz", probabilities=FLAT, labels=Y)
    with np.load(tmp_path / "maps.npz") as file:
        says = r"must be an array, got NpzFile that holds 'probabilities', 'labels': .* such as {}\['probabilities'\]"
        for use, name in (
            (lambda: calibrator().fit(file), "X"),
            (lambda: calibrator().fit(file, Y), "X"),
            (lambda: calibrator().fit(FLAT, file), "y"),
            (lambda: calibrator().fit(list(FLAT), file), "y"),
            (lambda: FITTED.predict(file), "X"),
            (lambda: FITTED.evaluate(file, Y), "X"),
            (lambda: cm.TemperatureScaler().fit(file, Y), "X"),
            (lambda: cm.BinaryRiskCalibrator().fit(file, FOREGROUND), "P"),
            (lambda: cm.metrics.empirical_risk(Y, file), "masks"),
            (lambda: cm.metrics.empirical_risk(file, FLAT > 0), "y_true"),
            (lambda: cm.kernels.set_size(file, 0.5), "X"),
        ):
            with pytest.raises(TypeError, match=rf"^{name} " + says.format(name)):
                use()
        assert calibrator().fit(file["probabilities"], file["labels"]).lambda_hat_ == FITTED.lambda_hat_
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "maps.h5", "w") as group:
        group["maps"] = FLAT
        with pytest.raises(TypeError, match=r"got File that holds 'maps'"):
            calibrator().fit(group, Y)
