"""Any layout, byte order and type gives the same answer, and what can be read in place is not copied."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
import twin
from conformask import _core
from conformask._arrays import score_array
from problems import wide

PROBLEM = wide(size=(9, 8))
IMAGES = PROBLEM.images()
EXPECTED = twin.lambda_hat(IMAGES, twin.miscoverage(), 0.1)
MASKS = twin.masks(PROBLEM.X, EXPECTED)


def check(X: np.ndarray, y: np.ndarray, **parameters: object) -> None:
    fitted = cm.ConformalRiskCalibrator(alpha=0.1, **parameters).fit(X, y)
    assert fitted.lambda_hat_ == EXPECTED
    assert np.array_equal(fitted.predict(X), MASKS)
    assert np.array_equal(fitted.set_size(X), MASKS.sum(axis=1))
    report = fitted.evaluate(X, y)
    losses = cm.metrics.empirical_risk(y, MASKS, ignore_index=fitted.ignore_index, average=False)
    assert np.array_equal(report.losses, losses)
    assert report.empirical_risk == pytest.approx(
        float(twin.risk(IMAGES, twin.miscoverage(), EXPECTED)), rel=1e-15
    )


# Layouts: each function lays the same values out in another way.


def channel_last(a: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def every_other(a: np.ndarray) -> np.ndarray:
    room = np.full([2 * length for length in a.shape], 7, a.dtype)
    room[(slice(None, None, 2),) * a.ndim] = a
    return room[(slice(None, None, 2),) * a.ndim]


def backwards(a: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.flip(a))[(slice(None, None, -1),) * a.ndim]


def cropped(a: np.ndarray) -> np.ndarray:
    room = np.full((*a.shape[:-2], a.shape[-2] + 3, a.shape[-1] + 5), 7, a.dtype)
    room[..., 2:-1, 1:-4] = a
    return room[..., 2:-1, 1:-4]


def read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


def in_a_structure(a: np.ndarray) -> np.ndarray:
    """A field that starts at byte 1 of each 1 + itemsize bytes."""
    room = np.zeros(a.shape, [("flag", np.int8), ("value", a.dtype)])
    room["value"] = a
    return room["value"]


def at_an_odd_byte(a: np.ndarray) -> np.ndarray:
    room = np.zeros(a.nbytes + 1, np.uint8)
    view = room[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


class Matrix(np.ndarray):
    """A subclass, as libraries make them."""


IN_PLACE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "channel last": channel_last,
    "every other element": every_other,
    "backwards": backwards,
    "cropped": cropped,
    "transposed image": lambda a: np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2),
    "read-only": read_only,
    "subclass": lambda a: a.view(Matrix),
}
COPIED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "field of a structure": in_a_structure,
    "odd byte": at_an_odd_byte,
}


@pytest.mark.parametrize("layout", [*IN_PLACE, *COPIED])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_layouts_of_scores(layout: str, dtype: str) -> None:
    """The values are float16 in every type, so that one answer is right for all."""
    X = PROBLEM.X.astype(np.float16)
    images = twin.critical_values(X, PROBLEM.y)
    lam = twin.lambda_hat(images, twin.miscoverage(), 0.1)
    laid_out = {**IN_PLACE, **COPIED}[layout](X.astype(dtype))
    fitted = cm.ConformalRiskCalibrator(alpha=0.1).fit(laid_out, PROBLEM.y)
    assert fitted.lambda_hat_ == lam
    assert np.array_equal(fitted.predict(laid_out), twin.masks(X, lam))
    assert np.array_equal(fitted.set_size(laid_out), twin.masks(X, lam).sum(axis=1))
    risk = fitted.evaluate(laid_out, PROBLEM.y).empirical_risk
    assert risk == fitted.risk_ == pytest.approx(float(twin.risk(images, twin.miscoverage(), lam)), rel=1e-15)


@pytest.mark.parametrize("layout", [*IN_PLACE, *COPIED])
@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_layouts_of_labels(layout: str, dtype: str) -> None:
    check(PROBLEM.X, {**IN_PLACE, **COPIED}[layout](PROBLEM.y.astype(dtype)))


def test_layouts_are_what_they_say() -> None:
    for name, layout in {**IN_PLACE, **COPIED}.items():
        laid_out = layout(PROBLEM.X)
        assert np.array_equal(laid_out, PROBLEM.X), name
        assert laid_out.flags.c_contiguous == (
            name in ("C", "read-only", "subclass", "big-endian", "odd byte")
        ), name
    assert not in_a_structure(PROBLEM.X).flags.aligned
    assert not at_an_odd_byte(PROBLEM.X).flags.aligned
    assert min(backwards(PROBLEM.X).strides) < 0


@pytest.mark.filterwarnings("ignore::conformask.DuplicateImagesWarning")  # axis 0: one image many times
@pytest.mark.parametrize("axis", [0, 2, 3])
def test_broadcast_arrays(axis: int) -> None:
    """Strides of 0: the same image, row or column many times."""
    X = np.broadcast_to(np.take(PROBLEM.X, [1], axis), PROBLEM.X.shape)
    y = np.broadcast_to(np.take(PROBLEM.y, [1], axis - (axis > 1)), PROBLEM.y.shape)
    assert 0 in X.strides
    assert 0 in y.strides
    fitted = cm.ConformalRiskCalibrator(alpha=0.2).fit(X, y)
    copied = cm.ConformalRiskCalibrator(alpha=0.2).fit(X.copy(), y.copy())
    assert (
        fitted.lambda_hat_
        == copied.lambda_hat_
        == twin.lambda_hat(twin.critical_values(X, y), twin.miscoverage(), 0.2)
    )
    assert np.array_equal(fitted.predict(X), copied.predict(X.copy()))


def test_one_uniform_distribution_for_all_pixels() -> None:
    """All strides are 0."""
    X = np.broadcast_to(np.float32(0.25), (9, 4, 3, 5))
    assert cm.profile(X, np.ones((9, 3, 5), int)).lambda_hat("miscoverage", 0.1) == 0.75


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_memory_maps(mode: str, tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", PROBLEM.X)
    np.save(tmp_path / "y.npy", PROBLEM.y)
    X, y = (np.load(tmp_path / name, mmap_mode=mode) for name in ("X.npy", "y.npy"))
    assert isinstance(X, np.memmap)
    assert _core.data_pointer(score_array(X)) == X.__array_interface__["data"][0]
    check(X, y)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("layout", IN_PLACE)
def test_zero_copies(layout: str, dtype: str) -> None:
    X = IN_PLACE[layout](PROBLEM.X.astype(dtype))
    assert _core.data_pointer(score_array(X)) == X.__array_interface__["data"][0]


@pytest.mark.parametrize("layout", COPIED)
def test_copies_only_where_it_must(layout: str) -> None:
    X = COPIED[layout](PROBLEM.X)
    assert _core.data_pointer(score_array(X)) != X.__array_interface__["data"][0]


class Tensor:
    """Whatever becomes an array by itself."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self.array


def test_tensors_are_arrays() -> None:
    check(Tensor(PROBLEM.X), Tensor(PROBLEM.y))
    assert _core.data_pointer(score_array(Tensor(PROBLEM.X))) == PROBLEM.X.__array_interface__["data"][0]


# Labels


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("ignore", [-1, -100, 255, 4, 2**31, 2**63 - 1, -(2**63)])
def test_labels_of_any_integer_type(dtype: str, ignore: int) -> None:
    """An ignore index that the type cannot hold is of no use, but no error."""
    info = np.iinfo(dtype)
    void = PROBLEM.y == 255
    if info.min <= ignore <= info.max:
        check(
            PROBLEM.X, np.where(void, np.array(ignore, dtype), PROBLEM.y.astype(dtype)), ignore_index=ignore
        )
    else:
        y = np.where(void, 0, PROBLEM.y).astype(dtype)
        fitted = cm.ConformalRiskCalibrator(alpha=0.1, ignore_index=ignore).fit(PROBLEM.X, y)
        assert fitted.lambda_hat_ == twin.lambda_hat(
            twin.critical_values(PROBLEM.X, y), twin.miscoverage(), 0.1
        )


def test_a_wrapped_ignore_index_is_no_ignore_index() -> None:
    """-1 is not 255 in uint8, nor is 255 -1 in int8."""
    y = PROBLEM.y.astype(np.uint8)
    with pytest.raises(ValueError, match="label 255"):
        cm.ConformalRiskCalibrator(ignore_index=-1).fit(PROBLEM.X, y)
    with pytest.raises(ValueError, match="label -1 "):
        cm.ConformalRiskCalibrator(ignore_index=255).fit(PROBLEM.X, y.view(np.int8))
    y = PROBLEM.y.astype(np.uint64)
    y[y == 255] = 2**64 - 1
    with pytest.raises(ValueError, match=str(2**64 - 1)):
        cm.ConformalRiskCalibrator(ignore_index=-1).fit(PROBLEM.X, y)


def test_boolean_labels() -> None:
    X = np.full((9, 2, 1, 4), 0.5)
    y = np.array([[[False, True, True, True]]] * 9)
    assert cm.profile(X, y).lambda_hat("miscoverage", 0.1) == 0.5
    assert cm.profile(X, ~y).lambda_hat("miscoverage", 0.4) == 0.0  # 1 of 4 is missed


def test_without_an_ignore_index_every_label_counts() -> None:
    y = np.where(PROBLEM.y == 255, 0, PROBLEM.y)
    fitted = cm.ConformalRiskCalibrator(alpha=0.1, ignore_index=None).fit(PROBLEM.X, y)
    expected = twin.lambda_hat(twin.critical_values(PROBLEM.X, y, ignore=None), twin.miscoverage(), 0.1)
    assert fitted.lambda_hat_ == expected
    with pytest.raises(ValueError, match=r"label 255 in image \d+.*None"):
        cm.ConformalRiskCalibrator(ignore_index=None).fit(PROBLEM.X, PROBLEM.y)


def test_the_ignore_index_wins_over_a_later_class() -> None:
    """300 classes: 255 is one of them, and an ignore index too only if someone says so."""
    X = np.broadcast_to(np.float64(1 / 300), (9, 300, 1, 2))
    y = np.full((9, 1, 2), 255)
    with pytest.raises(ValueError, match=r"ignore_index=255 is one of the K = 300 classes"):
        cm.profile(X, y)
    assert cm.profile(X, y, ignore_index=None).lambda_hat("miscoverage", 0.1) == 1.0 - 1 / 300


# Memory

_PEAK = """
import resource, sys
import numpy as np
import conformask as cm

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

n, K, H, W = 24, 16, 360, 360
wrong = int(sys.argv[1])  # mispredicted rows of each image
X = np.full((n, K, H, W), np.float32(0.5 / (K - 1)))
X[:, 0] = 0.5
if sys.argv[2] == "channel-last":
    X = np.moveaxis(np.ascontiguousarray(np.moveaxis(X, 1, -1)), -1, 1)
y = np.zeros((n, H, W), np.uint8)
y[:, :wrong] = 1
cm.profile(X[:1, :, :8, :8], y[:1, :8, :8])  # threads and their stacks
before = peak()
calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(X, y)
print(X.nbytes, n * wrong * W, peak() - before)
"""


@pytest.mark.parametrize("layout", ["channel-first", "channel-last"])
@pytest.mark.parametrize("wrong_rows", [0, 120])
def test_memory_of_a_fit(layout: str, wrong_rows: int) -> None:
    """199 MB of maps are read where they lie; what grows is 8 bytes per mispredicted pixel, and what tiles need."""
    run = subprocess.run(
        [sys.executable, "-c", _PEAK, str(wrong_rows), layout],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    n_bytes, n_wrong, growth = map(int, run.stdout.split())
    assert n_bytes > 190e6
    assert growth <= 8 * n_wrong + 8e6
