"""Masks in any form, spacings, several workers, files; and what input that does not fit is told."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import conformask as cm
from test_margins import problem

MASKS, Y = problem(n=30, seed=20)
MASKS.flags.writeable = Y.flags.writeable = False
KNOWN = cm.MarginCalibrator(0.2).fit(MASKS, Y)
SPACED = cm.MarginCalibrator(0.2).fit(MASKS, Y, spacing=(0.5, 2))
VOLUMES, OF_VOLUMES = problem(n=12, seed=21, shape=(4, 6, 5))


# Images in any form

FORMS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "list": lambda: (list(MASKS), list(Y)),
    "tuple of nested lists": lambda: (tuple(m.astype(int).tolist() for m in MASKS), Y.tolist()),
    "pairs": lambda: (zip(MASKS, Y, strict=True), None),
    "generators": lambda: (iter(MASKS), iter(Y)),
    "whole numbers": lambda: (MASKS.astype(np.int64), Y.astype(np.int32)),
    "big-endian": lambda: (MASKS.astype(">i2"), Y.astype(">u2")),
    "strided": lambda: (np.repeat(MASKS, 2, axis=2)[:, :, ::2], Y[:, ::-1][:, ::-1]),
    "Fortran order": lambda: (np.asfortranarray(MASKS), np.asfortranarray(Y)),
    "true is 255": lambda: ((MASKS.view(np.uint8) * np.uint8(255)).view(bool), Y),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_in_any_form(form: str) -> None:
    fitted = cm.MarginCalibrator(0.2).fit(*FORMS[form]())
    assert fitted.scores_.tolist() == KNOWN.scores_.tolist()
    masks, y = FORMS[form]()
    if y is not None:
        found = fitted.predict(masks)
        assert np.array_equal(np.stack(list(found)), KNOWN.predict(MASKS))
        masks, y = FORMS[form]()
        assert fitted.evaluate(masks, y).to_dict() == KNOWN.evaluate(MASKS, Y).to_dict()
    both = cm.MarginCalibrator(0.2, side="both").fit(*FORMS[form]())
    if y is None:
        return
    masks, _ = FORMS[form]()
    found = both.predict(masks)
    if not isinstance(found, cm.Margins):
        assert not isinstance(masks, list | tuple) or isinstance(found, list)
        found = cm.Margins(*map(np.stack, zip(*found, strict=True)))
    assert np.array_equal(found.outer, both.predict(MASKS).outer)
    assert np.array_equal(found.inner, both.predict(MASKS).inner)


def test_images_of_different_sizes_and_volumes() -> None:
    masks, y = [], []
    for i in range(30):
        masks.append(MASKS[i, : 8 + i % 4, : 7 + i % 6].copy())
        y.append(Y[i, : 8 + i % 4, : 7 + i % 6].copy())
        masks[-1][3, 3], y[-1][3, 3] = True, 1
    mixed = cm.MarginCalibrator(0.2).fit(masks, y)
    alone = [cm.MarginCalibrator(0.5).fit([m], [t]).scores_[0] for m, t in zip(masks, y, strict=True)]
    assert mixed.scores_.tolist() == alone
    assert [m.shape for m in mixed.predict(iter(masks))] == [m.shape for m in masks]
    volumes = cm.MarginCalibrator(0.2).fit(VOLUMES, OF_VOLUMES)
    listed = cm.MarginCalibrator(0.2, volumes=True).fit(list(VOLUMES), list(OF_VOLUMES))
    assert volumes.scores_.tolist() == listed.scores_.tolist()
    assert volumes.predict(VOLUMES).shape == VOLUMES.shape
    with pytest.raises(
        ValueError, match=r"each image of masks must have shape \(H, W\); image 0 has \(4, 6, 5\)"
    ):
        cm.MarginCalibrator(volumes=False).fit(list(VOLUMES), list(OF_VOLUMES))


class Store:
    """What is read by slices, as h5py's datasets are."""

    def __init__(self, array: NDArray) -> None:
        self._array, self.shape = array, array.shape

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, some: Any) -> NDArray:
        return self._array[some]


def test_stores_are_read_image_by_image() -> None:
    both = cm.MarginCalibrator(0.2, side="both").fit(Store(MASKS), Store(Y), spacing=[(0.5, 2)] * 30)
    assert both.scores_[:, 0].tolist() == SPACED.scores_.tolist()
    found = both.predict(Store(MASKS), spacing=(0.5, 2))
    assert isinstance(found, cm.Margins)
    assert np.array_equal(found.outer, both.predict(MASKS, spacing=(0.5, 2)).outer)


def test_classes_of_label_maps() -> None:
    rng = np.random.default_rng(22)
    labels = np.where(
        Y == 255, 255, np.where(Y == 1, rng.choice([2, 5], Y.shape), rng.choice([0, 1], Y.shape))
    )
    maps = np.where(MASKS, rng.choice([2, 5], Y.shape), rng.choice([0, 1], Y.shape))
    fitted = cm.MarginCalibrator(0.2).fit(maps, labels, classes=[5, 2])
    assert fitted.scores_.tolist() == KNOWN.scores_.tolist()
    assert fitted.classes_ == (2, 5)
    assert "class 2, 5" in fitted._repr_html_()
    assert np.array_equal(fitted.predict(maps), KNOWN.predict(MASKS))
    moved = np.where(labels == 255, 0, labels + 1), maps + 1
    zero = cm.MarginCalibrator(0.2, ignore_index=0).fit(moved[1], moved[0], classes=[3, 6])
    assert zero.scores_.tolist() == fitted.scores_.tolist()
    for index in (0, 1):
        with pytest.raises(
            ValueError, match=f"ignore_index={index} is the label of the background or the object"
        ):
            cm.MarginCalibrator(0.2, ignore_index=index).fit(MASKS, Y)
    parts = cm.MarginCalibrator(0.2).partial_fit(maps[:10], labels[:10], classes=(2, 5))
    parts.partial_fit(maps[10:], labels[10:])
    assert parts.margin_ == fitted.margin_
    with pytest.raises(ValueError, match="classes was 2, 5 before, and is 2 now"):
        parts.partial_fit(maps, labels, classes=2)
    for wrong, says in [
        (lambda: fitted.predict(maps - 1), r"masks must hold classes, .* got -1 in image 0 at pixel"),
        (lambda: fitted.evaluate(maps, labels.astype(int) - 1), "y must hold classes, .* got -1 in image 0"),
        (
            lambda: fitted.predict(np.where(maps == 5, 255, maps)),
            "masks holds 255, which is in ignore_index, in image",
        ),
        (lambda: cm.MarginCalibrator().fit(maps, labels, classes=255), "class 255 is in ignore_index"),
        (lambda: cm.MarginCalibrator().fit(maps, labels), r"masks must hold 0 and 1, got \d in .* classes="),
    ]:
        with pytest.raises(ValueError, match=says):
            wrong()


# Spacing


@pytest.mark.parametrize(
    "spacing",
    [
        [0.5, 2],
        np.array([0.5, 2], np.float32),
        [(0.5, 2.0)] * 30,
        np.full((30, 2), [0.5, 2]),
        np.full((30, 2), [0.5, 2]).tolist(),
    ],
)
def test_spacing_once_or_image_by_image(spacing: Any) -> None:
    fitted = cm.MarginCalibrator(0.2).fit(MASKS, Y, spacing=spacing)
    assert fitted.scores_.tolist() == SPACED.scores_.tolist()
    assert np.array_equal(fitted.predict(MASKS, spacing=spacing), SPACED.predict(MASKS, spacing=(0.5, 2)))
    rows = iter([(0.5, 2)] * 30)
    found = fitted.predict(iter(MASKS), spacing=rows)
    assert np.array_equal(np.stack(list(found)), SPACED.predict(MASKS, spacing=(0.5, 2)))
    report = fitted.evaluate(list(MASKS), list(Y), spacing=iter([(0.5, 2)] * 30))
    assert report.outer_scores.tolist() == SPACED.scores_.tolist()
    assert report.unit == "units of spacing"
    assert fitted.score(MASKS, Y, spacing=(0.5, 2)) == 1 - report.empirical_risk


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "chessboard"])
def test_margins_scale_with_spacing(metric: str) -> None:
    known = cm.MarginCalibrator(0.2, metric=metric).fit(MASKS, Y)
    twice = cm.MarginCalibrator(0.2, metric=metric).fit(MASKS, Y, spacing=2)
    assert twice.margin_ == 2 * known.margin_
    assert np.array_equal(twice.predict(MASKS, spacing=2), known.predict(MASKS))


def test_scanners_with_pixels_of_their_own() -> None:
    """Each image as if alone with its spacing; the margin reaches as many millimetres in both."""
    rows = [(0.5, 0.5) if i % 2 else (3.0, 1.0) for i in range(30)]
    fitted = cm.MarginCalibrator(0.2).fit(MASKS, Y, spacing=rows)
    alone = [
        cm.MarginCalibrator(0.5).fit(MASKS[i : i + 1], Y[i : i + 1], spacing=rows[i]).margin_
        for i in range(30)
    ]
    assert fitted.scores_.tolist() == alone
    each = [fitted.predict(MASKS[i : i + 1], spacing=rows[i])[0] for i in range(30)]
    assert np.array_equal(fitted.predict(MASKS, spacing=rows), each)


def test_slices_far_apart_are_not_reached() -> None:
    mask, y = np.zeros((1, 3, 7, 7), bool), np.zeros((1, 3, 7, 7), bool)
    mask[0, 1, 3, 3], y[0, 1, 2:5, 2:5] = True, True
    fitted = cm.MarginCalibrator(0.5).fit(mask, y, spacing=(5, 1, 1))
    assert fitted.margin_ == math.sqrt(2)
    assert np.array_equal(fitted.predict(mask, spacing=(5, 1, 1)), y)
    assert fitted.predict(mask, spacing=(1, 1, 1)).sum() == 9 + 2 * 5


SPACINGS: list[tuple[Any, type[Exception], str]] = [
    (
        (1, 1, 1),
        ValueError,
        r"each of the 2 axes \(H, W\) of an image, got 3 numbers; one volume is masks\[None\]",
    ),
    ((1.0,), ValueError, "got 1 number$"),
    ((0.5, 0), ValueError, "spacing must be above 0 and finite, got 0"),
    ((0.5, -1), ValueError, "got -1"),
    (math.nan, ValueError, "got nan"),
    ((0.5, math.inf), ValueError, "got inf"),
    ("0.5", TypeError, "spacing must be a number, one for each axis, .* got '0.5'"),
    ({0.5: 1}, TypeError, "spacing must be a number, one for each axis"),
    (True, TypeError, "spacing must be a number"),
    ([(0.5, 2)] * 29, ValueError, "spacing has 29 images, masks has more"),
    ([(0.5, 2)] * 31, ValueError, "masks has 30 images, spacing has more"),
    ([], ValueError, "spacing has 0 images"),
    ([(0.5, 2)] * 29 + [(1, 2, 3)], ValueError, "of an image for image 29, got 3 numbers"),
    ([(0.5, 2)] * 3 + [(1, -2)], ValueError, "spacing must be above 0 and finite for image 3, got -2"),
    ([(0.5, 2)] * 3 + [(1, "x")], TypeError, "spacing must hold numbers for image 3, got 'x'"),
    ([(0.5, 2)] * 3 + [None], TypeError, "spacing must be a number for each axis for image 3, got None"),
]


@pytest.mark.parametrize(("spacing", "error", "says"), SPACINGS)
def test_spacings_that_do_not_fit(spacing: Any, error: type[Exception], says: str) -> None:
    fresh = cm.MarginCalibrator(0.2)
    for call in (
        lambda: fresh.fit(MASKS, Y, spacing=spacing),
        lambda: SPACED.predict(MASKS, spacing=spacing),
        lambda: list(SPACED.predict(iter(MASKS), spacing=spacing)),
        lambda: SPACED.predict_distance(list(MASKS), spacing=spacing),
        lambda: SPACED.evaluate(MASKS, Y, spacing=spacing),
    ):
        with pytest.raises(error, match=says):
            call()
    assert not fresh.__sklearn_is_fitted__()


def test_margins_have_one_unit() -> None:
    for call, says in [
        (lambda: KNOWN.predict(MASKS, spacing=1), "spacing is given, but calibration was without"),
        (lambda: KNOWN.evaluate(MASKS, Y, spacing=1), "spacing is given, but calibration was without"),
        (lambda: SPACED.predict(MASKS), "spacing must be given: it was in calibration"),
        (lambda: SPACED.evaluate(MASKS, Y), "spacing must be given: it was in calibration"),
        (lambda: pickled(SPACED).partial_fit(MASKS, Y), "before came with spacing, these without"),
        (lambda: pickled(KNOWN).merge(SPACED), "before came without spacing, these with: margins have one"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
    for metric in ("cityblock", "chessboard"):
        with pytest.raises(
            ValueError, match=r"same along all axes .* \[0\.5, 2\.0\]: take metric='euclidean'"
        ):
            cm.MarginCalibrator(0.2, metric=metric).fit(MASKS, Y, spacing=(0.5, 2))


def pickled(fitted: cm.MarginCalibrator) -> cm.MarginCalibrator:
    return pickle.loads(pickle.dumps(fitted))


# What is no mask

BAD: list[tuple[Callable[[], tuple[Any, Any]], type[Exception], str]] = [
    (lambda: (MASKS * 0.7, Y), TypeError, r"masks must be boolean or integer, .* pass masks >= 0\.5"),
    (
        lambda: (list(MASKS * 1.0), Y),
        TypeError,
        "masks must be boolean or integer in image 0, got dtype float64",
    ),
    (lambda: (MASKS, Y * 0.5), TypeError, "y must hold integer labels, got dtype float64"),
    (lambda: (MASKS * np.uint8(255), Y), ValueError, "masks must hold 0 and 1, got 255 .* pass masks > 0$"),
    (
        lambda: (MASKS, np.where(Y == 1, 2, Y)),
        ValueError,
        "y must hold 0, 1 and ignore_index=255, got 2 in image",
    ),
    (
        lambda: (MASKS, np.where(Y == 1, 255, Y)),
        ValueError,
        "y holds no pixel labelled 1, and .* pass y == 255",
    ),
    (lambda: (MASKS, -Y.astype(int)), ValueError, "y must hold 0, 1 and ignore_index=255, got -"),
    (lambda: (MASKS[0], Y[0]), ValueError, r"masks must have shape .*; one image is masks\[None\]"),
    (
        lambda: (MASKS[:, None, None], Y[:, None, None]),
        ValueError,
        "masks of several classes, pass those of one",
    ),
    (lambda: (MASKS, Y[:29]), ValueError, r"y must have shape \(30, 11, 13\) to match masks"),
    (lambda: (list(MASKS), list(Y[:29])), ValueError, "masks has 30 images, y has 29"),
    (lambda: (MASKS, Y.swapaxes(1, 2)), ValueError, r"are H and W swapped\? Pass y\.swapaxes"),
    (lambda: (MASKS[:, :0], Y[:, :0]), ValueError, "masks is empty"),
    (lambda: (MASKS, None), TypeError, "y is missing"),
    (lambda: (np.ma.array(MASKS), Y), TypeError, "masks is a masked array"),
    (lambda: ("masks.npy", Y), TypeError, "masks must be an array"),
    (lambda: (MASKS.astype(object), Y), TypeError, "masks must hold integer labels, got dtype object"),
]


@pytest.mark.parametrize(("data", "error", "says"), BAD)
def test_what_is_no_mask(data: Callable[[], tuple[Any, Any]], error: type[Exception], says: str) -> None:
    fitted = pickled(KNOWN)
    for call in (fitted.fit, fitted.partial_fit, fitted.evaluate):
        with pytest.raises(error, match=says):
            call(*data())
    assert fitted.scores_.tolist() == KNOWN.scores_.tolist()


@pytest.mark.parametrize("nothing", [(MASKS[:0], Y[:0]), ([], []), (iter([]), None)])
def test_no_image_changes_nothing(nothing: tuple) -> None:
    fitted = pickled(KNOWN)
    for call in (fitted.fit, fitted.evaluate):
        with pytest.raises(ValueError, match="masks is empty: it holds no image"):
            call(*nothing)
    assert fitted.partial_fit(*nothing).scores_.tolist() == KNOWN.scores_.tolist()
    later = cm.MarginCalibrator(0.2).partial_fit(*nothing).partial_fit(MASKS, Y)
    assert later.margin_ == cm.MarginCalibrator(0.2).fit(MASKS, Y).margin_


# Workers, repeats, files


def test_workers_give_what_one_gives() -> None:
    for side in ("outer", "both"):
        known = cm.MarginCalibrator(0.2, side=side).fit(MASKS, Y)
        first = cm.MarginCalibrator(0.2, side=side).partial_fit(MASKS[:7], Y[:7])
        second = cm.MarginCalibrator(0.2, side=side).partial_fit(MASKS[7:], Y[7:])
        merged = first.partial_fit(MASKS[7:12], Y[7:12])
        merged = pickled(merged).merge(cm.MarginCalibrator(0.2, side=side).fit(MASKS[12:], Y[12:]))
        assert np.array_equal(merged.scores_, known.scores_)
        assert (merged.outer_margin_, merged.risk_) == (known.outer_margin_, known.risk_)
        assert cm.MarginCalibrator(0.2, side=side).merge(second).n_images_ == 23
    for other, error, says in [
        (KNOWN, ValueError, "cannot be merged with itself"),
        (cm.BinaryRiskCalibrator(), TypeError, "other must be a MarginCalibrator"),
        (
            cm.MarginCalibrator(0.2, min_coverage=0.9).fit(MASKS, Y),
            ValueError,
            "min_coverage differs: 1.0 here",
        ),
        (cm.MarginCalibrator(0.2, metric="cityblock").fit(MASKS, Y), ValueError, "metric differs"),
    ]:
        with pytest.raises(error, match=says):
            KNOWN.merge(other)
    assert KNOWN.n_images_ == 30


def test_images_that_come_twice() -> None:
    i = int(((MASKS != Y) & (Y != 255)).sum(axis=(1, 2)).argmax())
    masks, y = np.concatenate([MASKS, MASKS[i : i + 1]]), np.concatenate([Y, Y[i : i + 1]])
    says = f"images {i} and 30 of 31 are the same: they have identical masks and labels"
    with pytest.warns(cm.DuplicateImagesWarning, match=says):
        cm.MarginCalibrator(0.2).fit(masks, y)
    with pytest.warns(cm.DuplicateImagesWarning, match=says):
        pickled(KNOWN).partial_fit(masks[30:], y[30:])
    cm.MarginCalibrator(0.2).fit(masks, y, groups=[*range(30), i])  # a group counts once
    far_apart = np.ones((31, 2)) * (1 + np.arange(31)[:, np.newaxis])
    cm.MarginCalibrator(0.2).fit(masks, y, spacing=far_apart)  # another scanner, another image
    right = np.zeros((9, 6, 6), bool)
    right[:, 2:4, 2:4] = True
    assert cm.MarginCalibrator(0.1).fit(right, right).margin_ == 0  # good models have many that are alike


def test_recalibration_needs_no_masks() -> None:
    for alpha in (0.1, 0.3):
        known = cm.MarginCalibrator(alpha).fit(MASKS, Y)
        assert KNOWN.recalibrate(alpha=alpha).margin_ == known.margin_
    assert KNOWN.recalibrate(method=cm.PAC(0.3)).margin_ >= KNOWN.margin_
    assert SPACED.recalibrate(alpha=0.3).predict(MASKS, spacing=(0.5, 2)).shape == MASKS.shape


@pytest.mark.parametrize("side", ["outer", "inner", "both"])
def test_files_hold_what_prediction_needs(side: str, tmp_path: Path) -> None:
    fitted = cm.MarginCalibrator(0.2, side=side, min_coverage=0.9, max_background=0.01)
    fitted.fit(MASKS.astype(int), Y, classes=1, spacing=(0.5, 2)).save(tmp_path / "margins.json")
    loaded = cm.MarginCalibrator.load(tmp_path / "margins.json")
    assert loaded.classes_ == (1,)
    found, known = (each.predict(MASKS.astype(int), spacing=(0.5, 2)) for each in (loaded, fitted))
    assert np.array_equal(np.stack(found), np.stack(known))
    with pytest.raises(ValueError, match="spacing must be given"):
        loaded.predict(MASKS.astype(int))
    for ask in (lambda: loaded.scores_, lambda: loaded.recalibrate(alpha=0.3), lambda: fitted.merge(loaded)):
        with pytest.raises(
            ValueError, match="nothing was kept of the images: the calibrator was loaded from a file"
        ):
            ask()


def test_files_of_infinite_margins(tmp_path: Path) -> None:
    with pytest.warns(cm.InfeasibleRiskWarning):
        full = cm.MarginCalibrator(0.01, side="both", on_infeasible="full").fit(MASKS, Y)
    full.save(tmp_path / "full.json")
    document = json.loads((tmp_path / "full.json").read_text())
    assert document["results"]["outer_margin"] == document["results"]["inner_margin"] == "inf"
    loaded = cm.MarginCalibrator.load(tmp_path / "full.json")
    assert loaded.outer_margin_ == math.inf
    assert loaded.predict(MASKS).outer.all()
    for damage in (
        {"infeasible": False},
        {"inner_margin": None},
        {"outer_margin": -1},
        {"is_spaced": 1},
        {"risk": 2},
        {"n_eff": 31},
        {"classes": [255]},
    ):
        damaged = {**document, "results": document["results"] | damage}
        (tmp_path / "bad.json").write_text(json.dumps(damaged))
        with pytest.raises(ValueError, match=r"bad\.json is damaged"):
            cm.MarginCalibrator.load(tmp_path / "bad.json")


def test_classes_are_no_slices() -> None:
    """Masks of two classes, each pixel in one of them, pass for volumes of two slices."""
    rng = np.random.default_rng(0)
    masks = rng.random((20, 16, 16)) < 0.3
    one_hot = np.stack([masks, ~masks], axis=1)
    with pytest.raises(ValueError, match=r"like classes \(n, K, H, W\): pass masks\[:, k\] .* volumes=True"):
        cm.MarginCalibrator(alpha=0.2).fit(one_hot, one_hot)
    assert cm.MarginCalibrator(alpha=0.2, volumes=True).fit(one_hot, one_hot).margin_ == 0
    with pytest.raises(ValueError, match=r"sample_weight must be in \[0, 1\], got 2\.0 for image 0"):
        cm.MarginCalibrator(alpha=0.2).fit(masks, masks, sample_weight=[2.0] * 20)
