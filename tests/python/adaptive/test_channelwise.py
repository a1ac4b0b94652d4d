"""Channels that may overlap: each is a binary task of its own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import conformask as cm
from conformask.adaptive import ChannelwiseCalibrator

K = 3
CALIBRATORS = {
    "fnr": cm.BinaryRiskCalibrator(alpha=0.2),
    "fpr": cm.BinaryRiskCalibrator(alpha=0.2, risk="fpr"),
    "cra": cm.CRACalibrator(alpha=0.2),
    "at": cm.ATCalibrator(alpha=0.2),
    "coat": cm.COATCalibrator(alpha=0.2),
    "aacrc": cm.AACRCCalibrator(alpha=0.2),
}


def channels(n: int = 40, size: tuple[int, ...] = (7, 6), seed: int = 0) -> tuple[NDArray, NDArray]:
    """Sigmoids, and masks that overlap: none excludes another."""
    rng = np.random.default_rng(seed)
    P = rng.random((n, K, *size)).astype(np.float32)
    P[:, 1] = np.maximum(P[:, 0], P[:, 1])  # whole tumour holds its core
    y = rng.random(P.shape) < P
    assert (y.sum(axis=1) > 1).any()
    assert (y.sum(axis=1) == 0).any()
    return P, y


@pytest.mark.parametrize("kind", CALIBRATORS)
def test_each_channel_is_a_task_of_its_own(kind: str) -> None:
    (P, y), template = channels(), CALIBRATORS[kind]
    found = ChannelwiseCalibrator(template).fit(P, y)
    masks, thresholds, reports = (
        found.predict(P),
        found.predict_thresholds(P),
        found.evaluate(*channels(seed=1)),
    )
    assert masks.shape == P.shape
    assert masks.dtype == np.bool_
    assert thresholds.shape == P.shape[:2]
    assert list(reports) == list(range(K))
    other, truth = channels(seed=1)
    for k in range(K):
        alone = clone(template).fit(P[:, k], y[:, k])
        np.testing.assert_array_equal(masks[:, k], alone.predict(P[:, k]))
        np.testing.assert_array_equal(thresholds[:, k], alone.predict_thresholds(P[:, k]))
        assert found.risk_[k] == alone.risk_
        assert found.corrected_risk_[k] == alone.corrected_risk_
        assert found.n_images_[k] == alone.n_images_
        assert reports[k].empirical_risk == alone.evaluate(other[:, k], truth[:, k]).empirical_risk
    assert found.n_channels_ == K
    assert not hasattr(template, "_state")  # it stays as it is


@pytest.mark.parametrize("kind", ["fnr", "cra"])
@pytest.mark.parametrize("size", [(7, 6), (3, 5, 4)])
def test_parts_workers_lists_and_stores_give_the_same(
    kind: str, size: tuple[int, ...], tmp_path: Path
) -> None:
    P, y = channels(size=size)
    template = CALIBRATORS[kind]
    whole = ChannelwiseCalibrator(template).fit(P, y)
    parts = ChannelwiseCalibrator(template)
    for some in (slice(0, 1), slice(1, 25), slice(25, None)):
        assert parts.partial_fit(P[some], y[some]) is parts
    first, second = (
        ChannelwiseCalibrator(template).partial_fit(P[some], y[some])
        for some in (slice(0, 15), slice(15, 40))
    )
    listed = ChannelwiseCalibrator(template).fit([*P], [*y])
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        file["P"], file["y"] = P, y.astype(np.uint8)
        stored = ChannelwiseCalibrator(template).fit(file["P"], file["y"])
        np.testing.assert_array_equal(stored.predict(file["P"]), whole.predict(P))
    for other in (parts, first.merge(second), listed, stored, pickle.loads(pickle.dumps(parts))):
        np.testing.assert_array_equal(other.threshold_, whole.threshold_)
        np.testing.assert_array_equal(other.risk_, whole.risk_)
    for ours, theirs in zip(whole.predict([*P]), whole.predict(P), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_first_merge_keeps_the_parameters(tmp_path: Path) -> None:
    """What a worker gives are images: alpha is that of the calibrator that they are merged into."""
    P, y = channels()
    worker = ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=0.4)).fit(P, y)
    strict = ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=0.1)).merge(worker)
    expected = ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=0.1)).fit(P, y)
    assert strict.threshold_.tolist() == expected.threshold_.tolist() != worker.threshold_.tolist()
    worker.save(tmp_path / "worker.json")
    loaded, fresh = ChannelwiseCalibrator.load(tmp_path / "worker.json"), ChannelwiseCalibrator()
    with pytest.raises(ValueError, match="channel 0: nothing was kept of the images"):
        fresh.merge(loaded)
    with pytest.raises(TypeError, match="channel 0: other must be a CRACalibrator"):
        ChannelwiseCalibrator(cm.CRACalibrator()).merge(worker)
    with pytest.raises(NotFittedError):
        _ = fresh.threshold_


def test_images_of_different_sizes() -> None:
    rng = np.random.default_rng(0)
    P = [rng.random((K, 4 + i % 3, 5)) for i in range(20)]
    y = [rng.random(each.shape) < each for each in P]
    found = ChannelwiseCalibrator(CALIBRATORS["fnr"]).fit(P, y)
    assert [each.shape for each in found.predict(P)] == [each.shape for each in P]
    alone = cm.BinaryRiskCalibrator(alpha=0.2).fit([each[1] for each in P], [each[1] for each in y])
    assert found.threshold_[1] == alone.threshold_


def test_groups_and_weights() -> None:
    P, y = channels()
    groups = [f"patient {i // 2}" for i in range(40)]
    found = ChannelwiseCalibrator(CALIBRATORS["fnr"]).fit(P, y, groups=groups)
    assert found.n_images_.tolist() == [20] * K
    parts = ChannelwiseCalibrator(CALIBRATORS["fnr"])
    parts.partial_fit(P[:20], y[:20], groups=groups[:20]).partial_fit(P[20:], y[20:], groups=groups[20:])
    np.testing.assert_array_equal(parts.threshold_, found.threshold_)
    reports = found.evaluate(*channels(seed=1), groups=groups)
    assert reports[0].n_groups == 20
    weighted = ChannelwiseCalibrator(CALIBRATORS["fnr"]).fit(P, y, sample_weight=np.linspace(0.5, 1, 40))
    alone = cm.BinaryRiskCalibrator(alpha=0.2).fit(P[:, 2], y[:, 2], sample_weight=np.linspace(0.5, 1, 40))
    assert weighted.threshold_[2] == alone.threshold_


@pytest.mark.parametrize("kind", CALIBRATORS)
def test_files(kind: str, tmp_path: Path) -> None:
    P, y = channels()
    found = ChannelwiseCalibrator(CALIBRATORS[kind], names=["TC", "WT", "ET"]).fit(P, y)
    found.save(tmp_path / "channels.json")
    same = ChannelwiseCalibrator.load(tmp_path / "channels.json")
    np.testing.assert_array_equal(same.predict(P), found.predict(P))
    assert same.names == ["TC", "WT", "ET"]
    assert type(same.calibrator) is type(CALIBRATORS[kind])
    assert same.calibrator.alpha == 0.2
    assert list(same.evaluate(*channels(seed=1))) == ["TC", "WT", "ET"]
    with pytest.raises(ValueError, match=r"channel TC: nothing was kept"):
        same.recalibrate(alpha=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.pop("channels"), "lacks 'channels'"),
        (lambda document: document.update(channels=[]), "holds no channel"),
        (lambda document: document.update(names=["a", "b"]), "K = 3 channels, but 2 names"),
        (lambda document: document.update(format_version=2), "newer"),
        (
            lambda document: document["channels"][1].update(format="conformask.DriftAlarm"),
            "DriftAlarm is no calibrator",
        ),
        (lambda document: document["channels"][1].update(format_version=99), "newer"),
        (lambda document: document["channels"][1]["results"].update(correction="many"), "damaged"),
    ],
)
def test_damaged_files(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "channels.json"
    ChannelwiseCalibrator(CALIBRATORS["fnr"]).fit(*channels()).save(path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        ChannelwiseCalibrator.load(path)


def test_a_file_of_one_calibrator_is_another() -> None:
    with pytest.raises(FileNotFoundError):
        ChannelwiseCalibrator.load("nowhere.json")


def test_recalibrate() -> None:
    P, y = channels()
    found = ChannelwiseCalibrator(CALIBRATORS["fnr"]).fit(P, y)
    stricter = found.recalibrate(alpha=0.2 / 3)
    expected = ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=0.2 / 3)).fit(P, y)
    np.testing.assert_array_equal(stricter.threshold_, expected.threshold_)
    assert (stricter.threshold_ < found.threshold_).all()
    assert stricter.calibrator.alpha == 0.2 / 3
    assert found.calibrator.alpha == 0.2
    assert found.recalibrate(method=cm.RCPS(0.2)).calibrator.method == cm.RCPS(0.2)


def test_a_channel_with_too_few_images_is_named_and_all_are_kept() -> None:
    P, y = channels()
    y[3:, 2] = False
    calibrator = ChannelwiseCalibrator(CALIBRATORS["fnr"], names=["TC", "WT", "ET"])
    message = r"channel ET: alpha=0\.2 needs at least 4 calibration images, there are 3"
    with pytest.raises(cm.InfeasibleRiskError, match=message) as error:
        calibrator.fit(P, y)
    assert (error.value.n_images, error.value.n_needed) == (3, 4)
    with pytest.raises(cm.InfeasibleRiskError, match="channel ET"):
        calibrator.predict(P)
    with pytest.warns(cm.DroppedImagesWarning):
        assert calibrator.recalibrate(alpha=0.5).n_images_.tolist() == [40, 40, 3]


def test_a_failure_leaves_it_as_it_was() -> None:
    P, y = channels()
    calibrator = ChannelwiseCalibrator(CALIBRATORS["fnr"]).fit(P, y)
    before = calibrator.threshold_
    wrong = P.copy()
    wrong[0, 2, 0, 0] = 1.5  # the last channel
    for call in (calibrator.fit, calibrator.partial_fit):
        with pytest.raises(ValueError, match=r"channel 2: .*image 0"):
            call(wrong, y)
        np.testing.assert_array_equal(calibrator.threshold_, before)
        assert calibrator.n_images_.tolist() == [40] * K
    with pytest.warns(cm.DuplicateImagesWarning):
        calibrator.partial_fit(P[:1], y[:1])


def test_what_was_taken_out_does_not_change() -> None:
    """Whoever predicts while another adds images sees all channels as they were, or all as they are now."""
    P, y = channels()
    calibrator = ChannelwiseCalibrator(CALIBRATORS["fnr"]).fit(P[:30], y[:30])
    before = calibrator.calibrators_
    calibrator.partial_fit(P[30:], y[30:])
    assert [each.n_images_ for each in before] == [30] * K
    assert calibrator.n_images_.tolist() == [40] * K
    other = ChannelwiseCalibrator(CALIBRATORS["fnr"]).merge(calibrator).partial_fit(*channels(5, seed=4))
    assert other.n_images_.tolist() == [45] * K
    assert calibrator.n_images_.tolist() == [40] * K


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda P, y: (P[0], y[0]), ValueError, r"P must have shape \(n, K, H, W\).*one image is P\[None\]"),
        (lambda P, y: (P, None), TypeError, "y is missing"),
        (lambda P, y: (P, y[:, :2]), ValueError, r"y must have the shape of P, \(40, 3, 7, 6\)"),
        (lambda P, y: (P, y.argmax(axis=1)), ValueError, r"labels of classes.*axis=1\)"),
        (lambda P, y: (P, y.argmax(axis=1)[:, None]), ValueError, "labels of classes"),
        (lambda P, y: ([*P], [*y.argmax(axis=1)]), ValueError, r"in image 0.*labels of classes.*axis=0\)"),
        (lambda P, y: ([*P], [*y[1:]]), ValueError, "P has 40 images, y has 39"),
        (
            lambda P, y: ([P[0], P[1, :2]], [y[0], y[1, :2]]),
            ValueError,
            "K = 2 channels in image 1, but K = 3",
        ),
        (lambda P, y: ([P[0, 0]], [y[0, 0]]), ValueError, "each image of P must have shape"),
        (lambda P, y: (iter(P), iter(y)), TypeError, "part by part"),
        (lambda P, y: (P, y.astype(int) + 1), ValueError, "channel 0: "),
    ],
)
def test_what_is_refused(change: Any, error: type[Exception], message: str) -> None:
    for call in ("fit", "partial_fit"):
        with pytest.raises(error, match=message):
            getattr(ChannelwiseCalibrator(), call)(*change(*channels()))


def test_other_numbers_of_channels_are_refused() -> None:
    P, y = channels()
    calibrator = ChannelwiseCalibrator(CALIBRATORS["fnr"]).fit(P, y)
    for call in (
        lambda: calibrator.partial_fit(P[:, :2], y[:, :2]),
        lambda: calibrator.predict(P[:, :2]),
        lambda: calibrator.predict_thresholds(P[:, :2]),
        lambda: calibrator.evaluate(P[:, :2], y[:, :2]),
    ):
        with pytest.raises(ValueError, match="P has K = 2 channels, but K = 3 in calibration"):
            call()
    two = ChannelwiseCalibrator(CALIBRATORS["fnr"]).fit(P[:, :2], y[:, :2])
    with pytest.raises(ValueError, match="K differs: 3 here, 2 there"):
        calibrator.merge(two)
    with pytest.raises(ValueError, match="merged with itself"):
        calibrator.merge(calibrator)
    with pytest.raises(TypeError, match="got BinaryRiskCalibrator"):
        calibrator.merge(CALIBRATORS["fnr"])


def test_parameters() -> None:
    P, y = channels()
    with pytest.raises(TypeError, match="calibrator must be one of"):
        ChannelwiseCalibrator(cm.ConformalRiskCalibrator()).fit(P, y)
    for names in (["a", "a", "b"], [1, 2, 3]):
        with pytest.raises(ValueError, match="names must be different strings"):
            ChannelwiseCalibrator(names=names).fit(P, y)
    with pytest.raises(ValueError, match="K = 3 channels, but 2 names"):
        ChannelwiseCalibrator(names=["a", "b"]).fit(P, y)
    with pytest.raises(TypeError, match="ATCalibrator trains a model"):
        ChannelwiseCalibrator(CALIBRATORS["at"]).partial_fit(P, y)
    with pytest.raises(NotFittedError, match="call fit or partial_fit"):
        ChannelwiseCalibrator().predict(P)
    assert ChannelwiseCalibrator().fit(P, y).calibrators_[0].alpha == 0.1
    copy = clone(ChannelwiseCalibrator(CALIBRATORS["fnr"], names=["a", "b", "c"]).fit(P, y))
    assert copy.get_params()["calibrator__alpha"] == 0.2
    with pytest.raises(NotFittedError):
        copy.predict(P)
    assert "threshold_" in ChannelwiseCalibrator(CALIBRATORS["fnr"]).fit(P, y)._repr_html_()


def test_the_largest_risk_of_all_channels() -> None:
    """At alpha / K its mean is at most alpha, as the notes say; at alpha it is not."""
    rng = np.random.default_rng(3)
    alpha, n, repetitions = 0.3, 40, 200
    largest = {level: np.empty(repetitions) for level in (alpha, alpha / K)}
    for i in range(repetitions):
        hard = rng.random((n + 20, 1, 1, 1))  # images that are hard are so in all channels
        P = rng.beta(1, 1 + 4 * hard, (n + 20, K, 5, 5))
        y = rng.random(P.shape) < 0.5
        for level in largest:
            found = ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=level)).fit(P[:n], y[:n])
            missed = (y[n:] & ~found.predict(P[n:])).sum(axis=(2, 3)) / y[n:].sum(axis=(2, 3))
            largest[level][i] = missed.max(axis=1).mean()
    error = {level: risks.std(ddof=1) / np.sqrt(repetitions) for level, risks in largest.items()}
    assert largest[alpha / K].mean() <= alpha + 3 * error[alpha / K]
    assert largest[alpha].mean() > alpha + 3 * error[alpha]


def test_no_images_of_a_worker_change_nothing() -> None:
    P, y = channels()
    calibrator = cm.adaptive.ChannelwiseCalibrator()
    for none in ((P[:0], y[:0]), ([], [])):
        with pytest.raises(ValueError, match="P is empty"):
            calibrator.fit(*none)
    assert calibrator.partial_fit(P[:0], y[:0]) is calibrator
    calibrator.partial_fit([], [])
    calibrator.partial_fit(P, y).partial_fit(P[:0], y[:0]).partial_fit([], [])
    expected = cm.adaptive.ChannelwiseCalibrator().fit(P, y)
    np.testing.assert_array_equal(calibrator.threshold_, expected.threshold_)
