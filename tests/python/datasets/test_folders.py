"""Score maps and labels of folders: every kind of file, one image at a time, and errors that name the file."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
from PIL import Image

import conformask as cm
from conformask._files import geotiff
from conformask.datasets import MapFolder, PairedFolder

K, SIZE, N = 3, (6, 8), 12
RASTER = {"driver": "GTiff", "transform": rasterio.Affine(2, 0, 500000, 0, -2, 4000000), "crs": "EPSG:32633"}


def save_raster(file: Path, bands: np.ndarray, nodata: float | None = None) -> None:
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    with rasterio.open(file, "w", **RASTER, **shape, dtype=bands.dtype.name, nodata=nodata) as raster:
        raster.write(bands)


def save_nifti(file: Path, values: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0])), file)


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.dirichlet(np.ones(K), size=(N, *SIZE)).transpose(0, 3, 1, 2).astype(np.float32)
    y = rng.integers(0, K, (N, *SIZE)).astype(np.uint8)
    y[:, 0, :3] = 255
    return X, y


@pytest.fixture
def root(tmp_path: Path, images: tuple[np.ndarray, np.ndarray]) -> Path:
    """A folder with `maps` and `labels`."""
    for folder in ("maps", "labels"):
        (tmp_path / folder).mkdir()
    for i, (scores, labels) in enumerate(zip(*images, strict=True)):
        np.save(tmp_path / "maps" / f"image_{i:02}.npy", scores)
        Image.fromarray(labels).save(tmp_path / "labels" / f"image_{i:02}.png")
    return tmp_path


def paired(root: Path, **options: Any) -> PairedFolder:
    return PairedFolder(root / "maps", root / "labels", **options)


def test_pairs_by_name(root: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    (root / "maps" / "readme.txt").write_text("of no use")
    (root / "maps" / ".hidden.npy").write_text("of no use")
    (root / "maps" / "folder.npy").mkdir()
    (root / "maps" / "folder.npy").rmdir()
    folder = paired(root)
    assert len(folder) == N
    assert folder.names == folder.maps.names == [f"image_{i:02}" for i in range(N)]
    assert (folder.groups, repr(folder), repr(folder.maps)) == (
        None,
        "PairedFolder(12 images)",
        "MapFolder(12 images)",
    )
    for (scores, labels), maps, X, y in zip(folder, folder.maps, *images, strict=True):
        assert scores.dtype == np.float32
        for found, expected in ((scores, X), (maps, X), (labels, y)):
            assert (found == expected).all()
    assert isinstance(folder[0][0], np.memmap), "it stays in the file until it is read"
    with pytest.raises(TypeError, match="cannot be searched"):
        images[0][0] in folder  # noqa: B015


def test_a_folder_is_its_arrays(root: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = images
    folder = paired(root)
    by_files = cm.ConformalRiskCalibrator(alpha=0.3).fit(folder[:6])
    by_arrays = cm.ConformalRiskCalibrator(alpha=0.3).fit(X[:6], y[:6])
    assert by_files.lambda_hat_ == by_arrays.lambda_hat_
    here, there = by_files.evaluate(folder[6:]), by_arrays.evaluate(X[6:], y[6:])
    assert here.to_dict() == there.to_dict()
    listed, streamed = by_files.predict(folder[6:].maps), by_files.predict(iter(folder[6:].maps))
    assert isinstance(listed, list)
    for mask, again, expected in zip(listed, streamed, by_arrays.predict(X[6:]), strict=True):
        assert (mask == expected).all()
        assert (again == expected).all()


def test_only_what_is_asked_for_is_read(root: Path) -> None:
    for file in sorted((root / "maps").iterdir())[1:]:
        file.write_text("damaged")
    folder = paired(root)
    assert folder[0][0].shape == (K, *SIZE)
    images = iter(folder)
    next(images)
    with pytest.raises(ValueError, match=r"image_01\.npy cannot be read"):
        next(images)
    with pytest.raises(ValueError, match=r"image_11\.npy cannot be read"):
        folder[-1]


def test_parts(root: Path) -> None:
    groups = {f"image_{i:02}": f"g{i // 2}" for i in range(N)}
    folder = paired(root, groups=groups)
    assert folder[2:5].names == folder[[2, 3, 4]].names == ["image_02", "image_03", "image_04"]
    assert folder[np.arange(N) % 6 == 1].names == ["image_01", "image_07"]
    assert folder[2:5].groups == ["g1", "g1", "g2"]
    assert (folder[::-1][0][1] == folder[-1][1]).all()
    assert (folder.maps[3:][0] == folder[3][0]).all()
    assert len(folder[:0]) == 0
    with pytest.raises(IndexError):
        folder[N]


# --- kinds of files ---------------------------------------------------------------------------

MAPS: dict[str, Callable[[Path, np.ndarray], None]] = {
    ".npy": lambda file, X: np.save(file, X),
    ".npz, one": lambda file, X: np.savez(file, whatever=X),
    ".npz, named": lambda file, X: np.savez_compressed(file, probabilities=X, labels=np.zeros(3)),
    ".tif": save_raster,
    ".tiff": save_raster,
    ".TIF": save_raster,
    ".NPY": lambda file, X: file.write_bytes(_npy(X)),
}
LABELS: dict[str, Callable[[Path, np.ndarray], None]] = {
    ".npy": lambda file, y: np.save(file, y.astype(np.int64)),
    ".npz, one": lambda file, y: np.savez(file, whatever=y),
    ".npz, named": lambda file, y: np.savez(file, mask=y, probabilities=np.zeros((2, 3))),
    ".tif": lambda file, y: save_raster(file, y[np.newaxis]),
    ".png, I;16": lambda file, y: Image.fromarray(y.astype(np.uint16)).save(file),
    ".png, P": lambda file, y: _palette(y).save(file),
    ".png, RGB": lambda file, y: Image.fromarray(np.stack([y] * 3, axis=-1)).save(file),
}


def _npy(X: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, X)
    return stream.getvalue()


def _palette(y: np.ndarray) -> Image.Image:
    made = Image.new("P", y.shape[::-1])
    made.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    made.putdata(y.ravel().tolist())
    return made


@pytest.mark.parametrize("kind", MAPS)
def test_kinds_of_maps(root: Path, images: tuple[np.ndarray, np.ndarray], kind: str) -> None:
    (root / "maps" / "image_03.npy").unlink()
    MAPS[kind](root / "maps" / f"image_03{kind.partition(',')[0]}", images[0][3])
    scores, labels = paired(root)[3]
    assert scores.dtype == np.float32
    assert (scores == images[0][3]).all()
    assert (labels == images[1][3]).all()


@pytest.mark.parametrize("kind", LABELS)
def test_kinds_of_labels(root: Path, images: tuple[np.ndarray, np.ndarray], kind: str) -> None:
    (root / "labels" / "image_03.png").unlink()
    LABELS[kind](root / "labels" / f"image_03{kind.partition(',')[0]}", images[1][3])
    labels = paired(root)[3][1]
    assert np.issubdtype(labels.dtype, np.integer)
    assert (labels == images[1][3]).all()


def test_black_and_white_is_0_and_1(root: Path) -> None:
    white = np.arange(48).reshape(SIZE) % 3 == 0
    Image.fromarray(255 * white.astype(np.uint8)).convert("1").save(root / "labels" / "image_00.png")
    assert (paired(root)[0][1] == white).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_is_read_as_it_lies(root: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.dirichlet(np.ones(K), size=(4, 5, 6)).astype(np.float32)  # (x, y, z, K)
    y = rng.integers(0, K, (4, 5, 6)).astype(np.uint8)
    for folder in ("maps", "labels"):
        for file in (root / folder).iterdir():
            file.unlink()
    save_nifti(root / "maps" / f"case.1{suffix}", X)
    save_nifti(root / "labels" / f"case.1{suffix}", y)
    folder = paired(root)
    assert folder.names == ["case.1"]
    scores, labels = folder[0]
    assert scores.shape == (K, 6, 5, 4)
    assert (scores == X.transpose(3, 2, 1, 0)).all()
    assert (labels == y.T).all()
    save_nifti(root / "maps" / f"case.1{suffix}", X[:, :, :, np.newaxis])  # a vector of each voxel
    assert (folder[0][0] == scores).all()
    save_nifti(root / "maps" / f"case.1{suffix}", X[..., 0])
    with pytest.raises(
        ValueError, match=r"case\.1.* must hold score maps \(x, y, z, K\).* got shape \(4, 5, 6\)"
    ):
        folder[0]


def test_volumes_as_long_as_there_are_classes(root: Path) -> None:
    """A file is one image: (K, D, H, W) with D = K is no batch."""
    rng = np.random.default_rng(1)
    for file in (*(root / "maps").iterdir(), *(root / "labels").iterdir()):
        file.unlink()
    for i in range(10):
        np.save(root / "maps" / f"{i}.npy", rng.dirichlet(np.ones(K), size=(K, 4, 5)).transpose(3, 0, 1, 2))
        np.save(root / "labels" / f"{i}.npy", rng.integers(0, K, (K, 4, 5)))
    calibrator = cm.ConformalRiskCalibrator(volumes=True).fit(paired(root))
    assert calibrator.n_images_ == 10


def test_integers_become_floats(root: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = images
    counts = np.rint(200 * X).astype(np.uint8)
    for i, each in enumerate(counts):
        np.save(root / "maps" / f"image_{i:02}.npy", each)
    by_files = cm.ConformalRiskCalibrator(alpha=0.2, inputs="scores").fit(paired(root))
    by_arrays = cm.ConformalRiskCalibrator(alpha=0.2, inputs="scores").fit(counts.astype(np.float32), y)
    assert by_files.lambda_hat_ == by_arrays.lambda_hat_


def test_classes_on_the_last_axis(root: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    for i, each in enumerate(images[0]):
        np.save(root / "maps" / f"image_{i:02}.npy", each.transpose(1, 2, 0))
    assert (paired(root, class_axis=-1)[2][0] == images[0][2]).all()
    with pytest.raises(
        ValueError, match=r"shape \(6, 8\), but its maps .* \(6, 8, 3\); .* pass class_axis=-1"
    ):
        paired(root)[2]


def test_keys(root: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    (root / "maps" / "image_00.npy").unlink()
    file = root / "maps" / "image_00.npz"
    np.savez(file, logits=-images[0][0], softmax=images[0][0])
    with pytest.raises(
        ValueError,
        match=r"image_00\.npz .* holds 2 arrays that may be meant: choose one, key= one of \['softmax', 'logits'\]",
    ):
        paired(root)[0]
    assert (paired(root, key="logits")[0][0] == -images[0][0]).all()
    with pytest.raises(ValueError, match=r"it holds no array 'probs' of key=, but \['logits', 'softmax'\]"):
        paired(root, key="probs")[0]
    (root / "labels" / "image_00.png").unlink()
    np.savez(root / "labels" / "image_00.npz", first=images[1][0], second=1 - images[1][0])
    assert (paired(root, key="logits", label_key="first")[0][1] == images[1][0]).all()


def test_endings(root: Path) -> None:
    for file in (root / "maps").iterdir():
        file.rename(file.with_name(f"{file.stem}_softmax.npy"))
    for file in (root / "labels").iterdir():
        Image.open(file).save(file.with_name(f"{file.stem}_color.png"))
        file.rename(file.with_name(f"{file.stem}_ids.png"))
    with pytest.raises(
        FileNotFoundError, match=r"no file image_00 in .*labels, .* is image_00_color\.png meant"
    ):
        paired(root, ending="_softmax")
    with pytest.raises(FileNotFoundError, match=r"no \.npy, .* or \.tiff file named \*_logits in .*maps"):
        paired(root, ending="_logits")
    folder = paired(root, ending="_softmax", label_ending="_ids")
    assert folder.names == [f"image_{i:02}" for i in range(N)]


def test_names(root: Path) -> None:
    folder = paired(root, names=["image_07", "image_01"])
    assert folder.names == ["image_07", "image_01"]
    assert (folder[1][0] == paired(root)[1][0]).all()
    with pytest.raises(FileNotFoundError, match="no score maps of 'image_77' in"):
        paired(root, names=["image_77"])
    with pytest.raises(ValueError, match="'image_01' comes twice"):
        paired(root, names=["image_01", "image_01"])
    with pytest.raises(ValueError, match="at least one, got none"):
        paired(root, names=[])
    with pytest.raises(TypeError, match="names must be a sequence"):
        MapFolder(root / "maps", names="image_01")


def test_groups(root: Path, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("".join(f"image_{i:02}, p{i % 4}\n" for i in range(N)) + "\nanother,p9\n")
    assert paired(root, groups=table).groups == [f"p{i % 4}" for i in range(N)]
    with pytest.raises(FileNotFoundError, match="no file"):
        paired(root, groups=tmp_path / "nowhere.csv")
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"groups\.csv is no CSV in UTF-8"):
        paired(root, groups=table)
    with pytest.raises(ValueError, match="got none for 'image_00'"):
        paired(root, groups={"image_01": "a"})


# --- rasters without data in places ---------------------------------------------------------------


def test_no_data_is_void(root: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = images[0][0].copy(), images[1][0]
    X[:, 2:4] = -9999
    X[0, 5, 0] = -9999  # in one band alone: not nodata, and no probability
    save_raster(root / "maps" / "image_00.tif", X, nodata=-9999)
    (root / "maps" / "image_00.npy").unlink()
    folder = paired(root)
    scores, labels = folder[0]
    assert np.allclose(scores[:, 2:4], 1 / K)
    assert (labels[2:4] == 255).all()
    assert (labels[[0, 1, 4, 5]] == y[[0, 1, 4, 5]]).all()
    assert scores[0, 5, 0] == -9999
    found, valid = folder.maps.read(0)
    assert (found == scores).all()
    assert valid is not None
    assert (valid.all(axis=1) == [True, True, False, False, True, True]).all()
    assert folder.maps.read(1)[1] is None
    assert (paired(root, ignore_index=-1)[0][1][2:4] == -1).all()
    with pytest.raises(
        ValueError, match=r"image_00\.tif has pixels without data, which need an ignore_index"
    ):
        paired(root, ignore_index=None)[0]


def test_no_data_in_labels(root: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    y = np.where(images[1][0] == 255, 0, images[1][0])
    y[1] = 77
    save_raster(root / "labels" / "image_00.tif", y[np.newaxis], nodata=77)
    (root / "labels" / "image_00.png").unlink()
    labels = paired(root)[0][1]
    assert (labels[1] == 255).all()
    assert (labels[2:] == y[2:]).all()


@pytest.mark.parametrize("nodata", [0, 2])
def test_a_class_that_means_no_data_is_told_once(
    nodata: int, root: Path, images: tuple[np.ndarray, np.ndarray]
) -> None:
    """Writers set nodata = 0 unasked, and class 0 would be void without a word."""
    for i in (0, 1):
        save_raster(root / "labels" / f"image_{i:02}.tif", images[1][i][np.newaxis], nodata=nodata)
        (root / "labels" / f"image_{i:02}.png").unlink()
    folder = paired(root)
    says = rf"image_00\.tif says that {nodata} means no data: pixels of class {nodata} are void.*-unsetnodata"
    with pytest.warns(UserWarning, match=says) as told:
        labels = [truth for _, truth in folder]
    assert len(told) == 1
    for found, y in zip(labels[:2], images[1], strict=False):
        assert (found == np.where(y == nodata, 255, y)).all()
    folder[:2][1]  # a part says it no more


def test_no_data_that_is_no_class_is_not_told(root: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    """A number beyond the classes, one that no pixel has, or what the caller calls void."""
    y = np.where(images[1][0] == 255, 1, images[1][0])
    (root / "labels" / "image_00.png").unlink()
    for labels, nodata, options in (
        (np.where(y == 0, 3, y), 3, {}),
        (np.where(y == 0, 1, y), 0, {}),
        (y, 0, {"ignore_index": 0}),
    ):
        save_raster(root / "labels" / "image_00.tif", labels[np.newaxis].astype(np.uint8), nodata=nodata)
        paired(root, **options)[0]
    with rasterio.open(root / "labels" / "image_00.tif", "r+") as raster:
        raster.nodata = None
    assert (paired(root)[0][1] == y).all()
    with rasterio.open(root / "labels" / "image_00.tif", "r+") as raster:
        raster.write_mask(y != 0)  # said on purpose, not by a number
    assert (paired(root)[0][1] == np.where(y == 0, 255, y)).all()


def test_nan_is_no_data(root: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    X = images[0][0].copy()
    X[:, 0] = np.nan
    save_raster(root / "maps" / "image_00.tif", X, nodata=np.nan)
    (root / "maps" / "image_00.npy").unlink()
    scores, labels = paired(root)[0]
    assert np.allclose(scores[:, 0], 1 / K)
    assert (labels[0] == 255).all()


@pytest.mark.parametrize("value", [np.nan, -1.0])
def test_padding_of_arrays_is_no_data(
    value: float, root: Path, images: tuple[np.ndarray, np.ndarray]
) -> None:
    """Of .npy as of GeoTIFF: void in calibration, full sets in prediction, alike for scores that look around."""
    X, y = images[0].copy(), images[1]
    valid = np.ones(y.shape, bool)
    valid[:, :, 5:] = False
    X[np.broadcast_to(~valid[:, None], X.shape)] = value
    for i in range(N):
        np.save(root / "maps" / f"image_{i:02}.npy", X[i])
    folder = paired(root, nodata=value)
    for part, places in ((folder, [*range(N)]), (folder[3:], [*range(3, N)]), (folder[[2]], [2])):
        for i, place in enumerate(places):
            scores, labels = part[i]
            assert (scores == part.maps[i]).all()
            assert (scores[:, ~valid[place]] == np.float32(1 / K)).all()
            assert (scores[:, valid[place]] == images[0][place][:, valid[place]]).all()
            assert (labels == np.where(valid[place], y[place], 255)).all()
            assert (part.maps.read(i)[1] == valid[place]).all()
    calibrator = cm.ConformalRiskCalibrator("sacp", alpha=0.3)
    by_files = calibrator.fit(folder).lambda_hat_
    assert calibrator.fit(X, y, valid=valid).lambda_hat_ == by_files
    (only,) = calibrator.predict([folder.maps[0]], valid=[folder.maps.read(0)[1]])
    assert (only == calibrator.predict(X[:1], valid=valid[:1])[0]).all()


def test_padding_of_logits_is_the_same_in_files_and_arrays(root: Path, images: Any) -> None:
    """A scaler with a bias makes other probabilities of other equal numbers."""
    X, y = np.log(images[0]), images[1]
    scaler = cm.VectorScaler(random_state=0).fit(X, y)
    valid = np.random.default_rng(0).random(y.shape) < 0.7
    X = np.where(valid[:, None], X, np.float32(np.nan))
    for i in range(N):
        np.save(root / "maps" / f"image_{i:02}.npy", X[i])
    calibrator = cm.ConformalRiskCalibrator("sacp", alpha=0.3, inputs="logits", transform=scaler)
    by_files = calibrator.fit(paired(root, nodata=np.nan)).lambda_hat_
    assert calibrator.fit(X, y, valid=valid).lambda_hat_ == by_files


def test_a_number_is_no_data_where_all_classes_have_it(root: Path, images: Any) -> None:
    X = images[0][0].copy()
    X[0, 1], X[1, 1] = 0, X[0, 1] + X[1, 1]
    np.save(root / "maps" / "image_00.npy", X)
    folder = paired(root, nodata=0)
    assert folder.maps.read(0)[1] is None
    assert (folder[0][1] == images[1][0]).all()


def test_nodata_beside_that_of_a_raster(root: Path, images: Any) -> None:
    X = images[0][0].copy()
    X[:, 2], X[:, 3] = -9999, np.nan
    save_raster(root / "maps" / "image_00.tif", X, nodata=-9999)
    (root / "maps" / "image_00.npy").unlink()
    valid = paired(root, nodata=np.nan).maps.read(0)[1]
    assert (valid.all(axis=1) == [True, True, False, False, True, True]).all()
    with pytest.raises(TypeError, match="nodata must be a number or None, got 'nan'"):
        paired(root, nodata="nan")


# --- nonsense -------------------------------------------------------------------------------------

WRONG_MAPS: dict[str, tuple[np.ndarray, str]] = {
    "one class": (np.ones((1, *SIZE)), r"of K > 1 classes, got shape \(1, 6, 8\); of the probability p"),
    "no class": (np.ones(SIZE), r"got shape \(6, 8\); of the probability p of one class of two write"),
    "a batch": (np.ones((1, K, *SIZE)), r"got shape \(1, 3, 6, 8\); write it without the axis of length 1"),
    "nothing": (np.ones((K, 0, 8)), r"got shape \(3, 0, 8\)"),
    "labels": (
        np.ones((K, *SIZE), np.int64),
        "must hold floating score maps, got int64; they look like labels: are",
    ),
    "labels of an image": (np.ones(SIZE, np.int64), "they look like labels: are both folders swapped"),
    "text": (np.full((K, *SIZE), "a"), "must hold floating score maps, got <U1"),
    "complex": (np.ones((K, *SIZE), complex), "must hold floating score maps, got complex128"),
}
WRONG_LABELS: dict[str, tuple[np.ndarray, str]] = {
    "floats": (
        np.full(SIZE, 0.5),
        r"must hold integer labels, got dtype float64, and 0\.5 at pixel \(0, 0\)",
    ),
    "maps": (np.ones((K, *SIZE)), r"they look like score maps: are both folders swapped\?"),
    "a row": (np.ones(48, int), r"got int64 of shape \(48,\)"),
    "swapped": (np.ones((8, 6), int), r"has shape \(8, 6\), .* are height and width swapped\?"),
    "a channel": (np.ones((1, *SIZE), int), r"has shape \(1, 6, 8\), .* without the axis of length 1"),
    "other size": (np.ones((5, 8), int), r"has shape \(5, 8\), but its maps in .*image_00\.npy \(3, 6, 8\)$"),
}


@pytest.mark.parametrize("void", [255, None, (7, 255)])
def test_numbers_that_stand_for_classes(root: Path, void: Any) -> None:
    """Labels are places among them; ignored ones stay, unless they stand for a class themselves."""
    file, plain = root / "labels" / "image_00.png", paired(root)[0][1]
    numbers = np.array([200, 9, 130], np.uint8)
    grey = numbers[np.minimum(plain, 2)]
    grey[0] = 255
    Image.fromarray(grey).save(file)
    expected = np.minimum(plain, 2)
    expected[0] = 255
    folder = PairedFolder(
        root / "maps",
        root / "labels",
        ignore_index=255 if void is None else void,
        label_values=numbers.tolist(),
    )
    for found in (folder[0][1], folder[:2][0][1]):
        assert found.dtype == np.uint8
        assert (found == expected).all()
    if void is None:
        folder = PairedFolder(root / "maps", root / "labels", ignore_index=None, label_values=[200, 9, 130])
        with pytest.raises(
            ValueError, match=r"image_00\.png holds the label 255, which is none of label_values \(200"
        ):
            folder[0]
    grey[grey == 130] = 9
    Image.fromarray(grey).save(file)
    as_class = PairedFolder(root / "maps", root / "labels", label_values=[200, 9, 255])
    assert (as_class[0][1][0] == 2).all()
    too_many = PairedFolder(root / "maps", root / "labels", label_values=[200, 9, 255, 130])
    with pytest.raises(
        ValueError, match=r"label_values are 4 numbers, but the maps in .*image_00\.npy have 3 cl"
    ):
        too_many[0]


@pytest.mark.parametrize(
    ("values", "says"), [([], "whole"), ([0, 0], "differ"), ([0, 1.5], "whole"), ([True], "whole")]
)
def test_numbers_that_stand_for_no_classes(root: Path, values: list[Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"label_values must .*{says}"):
        PairedFolder(root / "maps", root / "labels", label_values=values)


@pytest.mark.parametrize("name", WRONG_MAPS)
def test_what_are_no_maps(root: Path, name: str) -> None:
    values, says = WRONG_MAPS[name]
    np.save(root / "maps" / "image_00.npy", values)
    with pytest.raises(ValueError, match=rf"image_00\.npy .*{says}"):
        paired(root)[0]


@pytest.mark.parametrize("name", WRONG_LABELS)
def test_what_are_no_labels(root: Path, name: str) -> None:
    values, says = WRONG_LABELS[name]
    (root / "labels" / "image_00.png").unlink()
    np.save(root / "labels" / "image_00.npy", values)
    with pytest.raises(ValueError, match=rf"image_00\.npy .*{says}"):
        paired(root)[0]


def test_colours_are_no_labels(root: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[0, 0, 0] = 9
    Image.fromarray(colours).save(root / "labels" / "image_00.png")
    with pytest.raises(
        ValueError, match=r"image_00\.png cannot be read: a mask must be grey, not of several"
    ):
        paired(root)[0]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".nii", ".nii.gz", ".tif"])
@pytest.mark.parametrize("content", [b"", b"some text\n" * 9, b"PK\x03\x04 and so on", b"\x93NUMPY\x01"])
def test_damaged_files(root: Path, suffix: str, content: bytes) -> None:
    for folder, read in (("maps", lambda: paired(root)[0]), ("labels", lambda: paired(root)[0])):
        for file in (root / folder).glob("image_00*"):
            file.rename(root / file.name)
        file = root / folder / f"image_00{suffix}"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(file.name)):
            read()
        file.unlink()
        for kept in root.glob("image_00*"):
            kept.rename(root / folder / kept.name)


def test_no_pickles(root: Path) -> None:
    objects = np.array([{"no": "pickles"}], object)
    np.save(root / "maps" / "image_00.npy", objects, allow_pickle=True)
    with pytest.raises(ValueError, match=r"image_00\.npy cannot be read as NumPy's without pickles"):
        paired(root)[0]
    (root / "maps" / "image_00.npy").unlink()
    np.savez(root / "maps" / "image_00.npz", probabilities=objects)
    with pytest.raises(ValueError, match=r"image_00\.npz cannot be read as NumPy's without pickles"):
        paired(root)[0]


def test_several_bands_are_no_labels(root: Path) -> None:
    (root / "labels" / "image_00.png").unlink()
    save_raster(root / "labels" / "image_00.tif", np.zeros((2, *SIZE), np.uint8))
    with pytest.raises(ValueError, match=r"image_00\.tif must hold labels in one band, got 2"):
        paired(root)[0]


def test_bands_of_labels_are_counted_before_they_are_read(root: Path) -> None:
    """A damaged header may say that there are many, which takes minutes to read."""
    file = root / "labels" / "image_00.tif"
    (root / "labels" / "image_00.png").unlink()
    save_raster(file, np.ones((5, *SIZE), np.uint8))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"image_00\.tif must hold labels in one band, got 5"):
        paired(root)[0]


def test_missing_folders_and_partners(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        PairedFolder(root / "nowhere", root / "labels")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        PairedFolder(root / "maps", root / "nowhere")
    (root / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no \.npy, .*\.tiff file in .*empty"):
        MapFolder(root / "empty")
    with pytest.raises(FileNotFoundError, match=r"no \.png, .*\.tiff file in .*empty"):
        PairedFolder(root / "maps", root / "empty")
    (root / "empty" / "city").mkdir()
    with pytest.raises(FileNotFoundError, match=r"in .*empty; the folders in it are not looked at$"):
        MapFolder(root / "empty")
    (root / "labels" / "image_05.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no file image_05 in .*labels, which would belong to .*image_05\.npy$"
    ):
        paired(root)
    np.save(root / "maps" / "image_05.npz", 0)
    (root / "maps" / "image_05.npz.npy").rename(root / "maps" / "image_05.npz")
    with pytest.raises(ValueError, match=r"image_05\.npy and image_05\.npz have the same name"):
        paired(root)


def test_labels_too_many_are_told(root: Path) -> None:
    for name in ("image_00", "image_01"):
        (root / "maps" / f"{name}.npy").unlink()
    with pytest.warns(UserWarning, match=r"2 label maps of .* without score maps left out, .* image_00\.png"):
        assert len(paired(root)) == N - 2
    assert len(paired(root, names=["image_05"])) == 1, "no word where names were given"


@pytest.mark.parametrize(
    ("library", "suffix", "extra"),
    [("rasterio", ".tif", "geo"), ("nibabel", ".nii.gz", "nnunet"), ("PIL", ".png", "plot")],
)
def test_libraries_that_are_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch, library: str, suffix: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    (root / "labels" / "image_00.png").unlink()
    (root / "labels" / f"image_00{suffix}").write_bytes(b"")
    with pytest.raises(ImportError, match=rf"conformask\[{extra}\]"):
        paired(root)[0]


def test_a_wrong_ignore_index(root: Path) -> None:
    with pytest.raises(TypeError, match="ignore_index must be an int or None"):
        paired(root, ignore_index="void")


@pytest.mark.parametrize("n_bands", [3, 4, 5])
@pytest.mark.parametrize("photometric", [None, "rgb", "minisblack"])
def test_bands_of_bytes_are_classes_not_colours(
    tmp_path: Path, n_bands: int, photometric: str | None
) -> None:
    """GDAL takes the fourth of four bands of bytes for alpha: a score of 0 there is no missing data."""
    values = np.random.default_rng(0).integers(0, 3, size=(n_bands, 5, 6)).astype(np.uint8)
    profile = {"driver": "GTiff", "count": n_bands, "height": 5, "width": 6, "dtype": "uint8"}
    if photometric is not None:
        profile["photometric"] = photometric
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
            file.write(values)
    bands, has_data, _ = geotiff.read_bands(tmp_path / "a.tif")
    np.testing.assert_array_equal(bands, values)
    assert has_data.all()
    geotiff.write_like(tmp_path / "b.tif", values, tmp_path / "a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(tmp_path / "b.tif") as file:
            assert {each.name for each in file.colorinterp} <= {"gray", "undefined"}
            assert (file.dataset_mask() > 0).all()


def test_pixels_without_data_are_no_class_of_label_values(root: Path, images: Any) -> None:
    _, y = images
    for file in (root / "labels").iterdir():
        file.unlink()
    grey = np.array([0, 100, 255], np.uint8)[y % K]
    grey[:, 2] = 7
    for i, labels in enumerate(grey):
        save_raster(root / "labels" / f"image_{i:02}.tif", labels[np.newaxis], nodata=7)
    for scores, labels in paired(root, label_values=(0, 100, 255)):
        assert scores.shape[1:] == labels.shape
        assert (labels[2] == 255).all()
        assert (np.delete(labels, 2, axis=0) < K).all()


def test_nodata_that_stands_for_a_class_is_told(root: Path) -> None:
    for file in (root / "labels").iterdir():
        file.unlink()
    for i in range(N):
        labels = np.where(np.arange(SIZE[0])[:, np.newaxis] < 2, 255, 0) * np.ones(SIZE)
        save_raster(root / "labels" / f"image_{i:02}.tif", labels[np.newaxis].astype(np.uint8), nodata=255)
    with pytest.warns(UserWarning, match="255 means no data: pixels of class 1 are void"):
        labels = paired(root, label_values=(0, 255))[0][1]
    assert (labels[:2] == 255).all()
    assert (labels[2:] == 0).all()


def test_classes_that_begin_at_1(root: Path) -> None:
    """0 is void in the files, as in ADE20K's."""
    expected = [labels for _, labels in paired(root)]
    for file, labels in zip(paired(root).label_files, expected, strict=True):
        Image.fromarray(np.where(labels == 255, 0, labels + 1).astype(np.uint8)).save(file)
    assert any((labels == 255).any() for labels in expected)
    classes = range(1, K + 1)
    for found in (
        paired(root, label_values=classes, void_values=0),
        paired(root, label_values=classes, void_values=[0, 7]),
    ):
        np.testing.assert_array_equal([labels for _, labels in found], expected)
    with pytest.raises(
        ValueError, match=r"holds the label 0, which is none of label_values .* pass void_values 0"
    ):
        paired(root, label_values=classes)[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"void_values": 0}, "void_values are read with label_values"),
        (
            {"label_values": [1, 2], "void_values": [2]},
            "void_values holds 2, which label_values gives to class 1",
        ),
        ({"label_values": [1, 2], "void_values": 0.5}, "void_values must be"),
        ({"label_values": [1, 2], "void_values": [0, 0]}, "void_values must differ"),
        ({"label_values": [1, 2], "void_values": 0, "ignore_index": None}, "pass ignore_index, such as 255"),
    ],
)
def test_numbers_that_cannot_be_void(root: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        paired(root, **options)


def test_void_that_label_values_make_a_class(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"ignore_index 0 would be class 0 .* pass void_values 0, and as ignore_index"
    ):
        paired(root, label_values=(1, 2, 3), ignore_index=0)
