"""Measures of calibration: the kernel against its twin, worked examples, other libraries as judges, the same bits."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn import metrics as judge

import calibration_twin as twin
import conformask as cm
from calibration_twin import VOID, Image
from conformask import _core
from conformask.metrics import CalibrationAccumulator, CalibrationReport, calibration_report
from conformask.metrics._bins import adaptive_bins, bins_of, jackknife, risk_coverage_areas, squared_error


def problem(
    seed: int = 0, n: int = 4, k: int = 4, shape: tuple[int, ...] = (13, 17), dtype: Any = np.float32
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Blocks of labels, a model that is often right, void pixels; the last image is all void."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, k, (n, *(-(-length // 5) for length in shape)))
    for axis, length in enumerate(shape, 1):
        blocks = np.take(blocks.repeat(5, axis), np.arange(length), axis)
    logits = rng.normal(size=(n, k, *shape))
    logits += 2.5 * (np.arange(k).reshape(1, k, *(1,) * len(shape)) == blocks[:, np.newaxis])
    y = blocks.astype(np.uint8)
    y[rng.random(y.shape) < 0.1] = VOID
    y[-1] = VOID
    return softmax(logits, axis=1).astype(dtype), y


X, Y = problem()


def as_bits(report: CalibrationReport) -> dict[str, Any]:
    """All numbers but those of single images, whose order is that of the images."""
    return report.to_dict(images=False)


# The kernel and its twin


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "width", "n_bins"), [((13, 17), 2, 15), ((5, 6, 7), 1, 10), ((3, 40), 7, 1)]
)
@pytest.mark.parametrize("last", [False, True])
def test_counts_are_those_of_the_twin(
    dtype: Any, shape: tuple[int, ...], width: int, n_bins: int, last: bool
) -> None:
    x, y = problem(1, 3, 3, shape, dtype)
    given = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1) if last else x
    report = calibration_report(y[:2], given[:2], n_bins=n_bins, boundary_width=width, class_threshold=0.05)
    images = [Image(*each, width) for each in zip(x[:2], y[:2], strict=True)]
    own = [twin.bins(image.confidence, image.right, n_bins) for image in images]
    together = np.sum(own, axis=0)
    near = {"close": 1e-12}

    def same(found: Any, expected: Any) -> None:
        np.testing.assert_allclose(found, expected, rtol=0, atol=near["close"])

    same(report.image_eces, [twin.ece(each) for each in own])
    same(report.ece, np.mean([twin.ece(each) for each in own]))
    same(report.pooled_ece, twin.ece(together))
    same(report.debiased_squared_ece, twin.debiased(together))
    gaps = [abs(hits - conf) / n for n, hits, conf in together if n]
    same(report.mce, max(gaps))
    share = together[together[:, 0] > 0, 0] / together[:, 0].sum()
    same(report.rms_ce, np.sqrt((share * np.square(gaps)).sum()))
    same((report.reliability, report.resolution, report.uncertainty), twin.brier_parts(together))
    same(report.curve.n_pixels, together[:, 0])
    nlls, briers = [image.nlls() for image in images], [image.briers() for image in images]
    same(report.image_nlls, [each.mean() for each in nlls])
    same((report.nll, report.brier), (np.concatenate(nlls).mean(), np.concatenate(briers).mean()))
    right = np.concatenate([image.right for image in images])
    confidence = np.concatenate([image.confidence for image in images]).astype(np.float64)
    same(report.accuracy, right.mean())
    same(report.right_confidence, confidence[right].mean())
    same(report.wrong_confidence, confidence[~right].mean())
    same(report.gap, np.mean([i.confidence.astype(np.float64).mean() - i.right.mean() for i in images]))
    confusion = sum(image.confusion() for image in images)
    same(report.mean_iou, twin.mean_iou(confusion))
    same(report.image_ious, [twin.mean_iou(image.confusion()) for image in images])
    for region, is_near in zip(report.regions, (True, False), strict=True):
        chosen = [image.near == is_near for image in images]
        parts = [
            twin.bins(i.confidence[where], i.right[where], n_bins)
            for i, where in zip(images, chosen, strict=True)
        ]
        same(region.ece, np.nanmean([twin.ece(part) for part in parts]) if region.n_pixels else np.nan)
        same(region.pooled_ece, twin.ece(np.sum(parts, axis=0)))
        assert region.n_pixels == sum(where.sum() for where in chosen)
    for row in report.classes:
        p = np.concatenate([image.p[row.label] for image in images])
        is_class = np.concatenate([image.y == row.label for image in images])
        kept = p.astype(np.float64) >= 0.05
        same(row.ece, twin.ece(twin.bins(p[kept], is_class[kept], n_bins)))
        assert row.n_pixels == is_class.sum()
    same(report.class_wise_ece, np.mean([row.ece for row in report.classes if row.n_pixels]))


def test_logits_scores_and_scalers_are_what_makes_their_probabilities() -> None:
    logits = np.log(X[:3].astype(np.float64)) * 1.7
    probabilities = softmax(logits, axis=1)
    expected = calibration_report(Y[:3], probabilities)
    found = calibration_report(Y[:3], logits, inputs="logits")
    np.testing.assert_allclose(found.ece, expected.ece, rtol=1e-12)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-12)
    scores = calibration_report(Y[:3], 7 * probabilities, inputs="scores")
    np.testing.assert_allclose(scores.nll, expected.nll, rtol=1e-12)
    scaler = cm.TemperatureScaler().fit(logits, Y[:3])
    scaled = calibration_report(Y[:3], logits, inputs="logits", transform=scaler)
    np.testing.assert_allclose(
        scaled.nll, calibration_report(Y[:3], scaler.transform(logits)).nll, rtol=1e-10
    )
    assert scaled.nll < found.nll


# Worked examples


def test_images_and_all_pixels_differ() -> None:
    x = np.full((2, 2, 10, 10), 0.1)
    x[:, 0] = 0.9
    y = np.zeros((2, 10, 10), int)
    y[1].flat[:20] = 1
    assert cm.metrics.expected_calibration_error(y, x) == pytest.approx(0.1, abs=1e-12)
    assert cm.metrics.expected_calibration_error(y, x, per_image=False) == pytest.approx(0, abs=1e-12)
    found = cm.metrics.expected_calibration_error(y, x, average=False)
    np.testing.assert_allclose(found, [0.1, 0.1], atol=1e-12)


def test_the_debiased_error_may_be_negative() -> None:
    x = np.array([0.9, 0.1]).reshape(1, 2, 1, 1) * np.ones((1, 2, 1, 4))
    report = calibration_report(np.array([[[0, 0, 0, 1]]]), x, n_bins=1)
    assert report.rms_ce**2 == pytest.approx(0.0225)
    assert report.debiased_squared_ece == pytest.approx(-0.04)
    assert np.isnan(report.squared_ece_standard_error)


def test_log_loss_and_brier_score_of_one_pixel() -> None:
    x, y = np.array([0.7, 0.2, 0.1]).reshape(1, 3, 1, 1), np.zeros((1, 1, 1), int)
    assert cm.metrics.negative_log_likelihood(y, x) == pytest.approx(-np.log(0.7), abs=1e-12)
    assert cm.metrics.brier_score(y, x) == pytest.approx(0.14, abs=1e-12)
    certain = np.array([0.0, 1.0]).reshape(1, 2, 1, 1)
    assert cm.metrics.negative_log_likelihood(y, certain) == pytest.approx(-np.log(1e-12))
    assert cm.metrics.brier_score(y, certain) == 2
    rounded = np.array([1.0005, 0.0], np.float32).reshape(1, 2, 1, 1)  # sums may be off by so much
    assert cm.metrics.negative_log_likelihood(y, rounded) == 0
    assert cm.metrics.brier_score(y, rounded) == pytest.approx(2.5e-7, rel=1e-3)


def test_parts_of_the_brier_score_add_up_to_that_of_the_bins() -> None:
    """Where each pixel has the mean confidence of its bin that is the Brier score; in fine bins it nearly is."""
    images = [Image(x, y) for x, y in zip(X[:3], Y[:3], strict=True)]
    confidence = np.concatenate([image.confidence for image in images]).astype(np.float64)
    right = np.concatenate([image.right for image in images])
    for n_bins, near in ((1, 1e-12), (7, 1e-12), (1000, 1e-12)):
        report = calibration_report(Y[:3], X[:3], n_bins=n_bins)
        bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
        means = (np.bincount(bins, confidence) / np.maximum(1, np.bincount(bins)))[bins]
        expected = ((means - right) ** 2).mean()
        total = report.reliability - report.resolution + report.uncertainty
        assert total == pytest.approx(expected, abs=near)
        assert f"{expected:.4f} = reliability {report.reliability:.4f} - resolution" in report.to_markdown()
        assert report.reliability == pytest.approx(report.rms_ce**2, abs=1e-15)
    assert total == pytest.approx(((confidence - right) ** 2).mean(), abs=1e-4)
    coin = calibration_report(np.array([[[0, 1, 0, 1]]]), np.full((1, 2, 1, 4), 0.5))
    assert (coin.reliability, coin.resolution, coin.uncertainty) == (0, 0, 0.25)


def test_confidences_at_the_ends_have_a_bin() -> None:
    x = np.array([[1.0, 0.5, 1.0005], [0.0, 0.5, 0.0]], np.float32).reshape(1, 2, 1, 3)
    curve = cm.metrics.reliability_curve(np.zeros((1, 1, 3), int), x, n_bins=10)
    assert curve.n_pixels.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 2]
    counts = _core.calibration_counts(
        x, np.zeros((1, 1, 3), int), "probabilities", None, 10, None, False, None, 0.0, False, 0
    )
    assert counts[5][1, 0, :2].tolist() == [2, 0]  # probabilities of 0, of the class that is not there


def test_a_perfect_model_in_one_bin_has_the_bias_that_chance_gives() -> None:
    """The mean of |share - 0.9| of 100 pixels is 0.0239; debiased and by jackknife nothing is left."""
    rng = np.random.default_rng(3)
    x = np.array([0.9, 0.1]).reshape(1, 2, 1, 1) * np.ones((400, 2, 10, 10))
    report = calibration_report((rng.random((400, 10, 10)) > 0.9).astype(int), x, boundary_width=None)
    assert report.ece == pytest.approx(0.0239, abs=0.003)
    assert report.ece_interval[0] < 0.0239 < report.ece_interval[1]
    assert abs(report.debiased_squared_ece) < 4 * report.squared_ece_standard_error < 1e-4
    assert report.gap_interval[0] < 0 < report.gap_interval[1]
    assert report.regions == ()


# Other libraries


def pixels(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Labelled pixels in rows."""
    rows = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]).astype(np.float64)
    labels = y.ravel().astype(np.int64)
    return rows[labels != VOID], labels[labels != VOID]


def test_scikit_learn_agrees() -> None:
    x, y = problem(4, 5, 5, (20, 20), np.float64)
    rows, labels = pixels(x, y)
    report = calibration_report(y[:4], x[:4])
    assert report.nll == pytest.approx(judge.log_loss(labels, rows, labels=range(5)), abs=1e-12)
    assert report.accuracy == pytest.approx(judge.accuracy_score(labels, rows.argmax(axis=1)), abs=1e-12)
    expected = judge.confusion_matrix(labels, rows.argmax(axis=1), labels=range(5))
    assert report.mean_iou == pytest.approx(
        judge.jaccard_score(labels, rows.argmax(axis=1), labels=range(5), average="macro"), abs=1e-12
    )
    counts = _core.calibration_counts(x, y, "probabilities", VOID, 15, None, False, None, None, True, 0)
    assert (counts[4] == expected).all()
    right = rows.argmax(axis=1) == labels
    assert report.auroc == pytest.approx(judge.roc_auc_score(right, rows.max(axis=1)), abs=2e-5)
    ordered = ~right[np.argsort(-rows.max(axis=1), kind="stable")]
    n = len(ordered)
    assert report.aurc == pytest.approx((ordered.cumsum() / np.arange(1, n + 1)).mean(), abs=2e-4)
    assert report.augrc == pytest.approx(ordered.cumsum().mean() / n, abs=2e-5)


def test_areas_with_ties_are_means_over_their_orders() -> None:
    """Of fine bins, by what is expected after each of their pixels; some lie beyond the sums of few pixels."""
    groups = [(3, 1), (4, 2), (100, 3), (1, 1), (2000, 77)]
    ranks = np.array([[n, n - wrong, 0, 0] for n, wrong in reversed(groups)], np.uint64)
    wrong = np.concatenate([np.full(n, wrong / n) for n, wrong in groups]).cumsum()
    expected = (wrong / np.arange(1, len(wrong) + 1)).mean(), wrong.mean() / len(wrong)
    np.testing.assert_allclose(risk_coverage_areas(ranks), expected, rtol=1e-13)


def test_adaptive_bins_hold_as_many_pixels() -> None:
    rng = np.random.default_rng(6)
    ranks = np.zeros((4096, 4), np.uint64)
    ranks[1000:3000, 0] = rng.integers(0, 20, 2000)
    n = bins_of(adaptive_bins(ranks, 12)).n
    assert n.sum() == ranks[:, 0].sum()
    assert np.ptp(n) <= 40
    assert adaptive_bins(np.zeros((4096, 4), np.uint64), 3).sum() == 0


def test_the_jackknife_is_that_of_the_textbook() -> None:
    counts = _core.calibration_counts(X, Y, "probabilities", VOID, 5, None, False, None, None, False, 0)[
        0
    ].sum(axis=1)
    own = counts[:3]
    others = np.array([squared_error(bins_of(np.delete(own, i, axis=0).sum(axis=0))) for i in range(3)])
    whole = float(squared_error(bins_of(own.sum(axis=0))))
    found = jackknife(counts, squared_error)
    assert found.estimate == pytest.approx(3 * whole - 2 * others.mean(), abs=1e-15)
    assert found.standard_error == pytest.approx(np.sqrt(2 / 3 * ((others - others.mean()) ** 2).sum()))


def test_intervals_are_wider_where_images_are_alike_in_themselves() -> None:
    rng = np.random.default_rng(7)
    x = np.array([0.8, 0.2]).reshape(1, 2, 1, 1) * np.ones((40, 2, 8, 8))
    alone = (rng.random((40, 8, 8)) > 0.8).astype(int)
    alike = np.broadcast_to((rng.random((40, 1, 1)) > 0.8).astype(int), (40, 8, 8))
    width = [np.nanmax(np.ptp(cm.metrics.reliability_curve(y, x).interval, axis=1)) for y in (alone, alike)]
    assert width[1] > 4 * width[0]
    [share] = [value for value in cm.metrics.reliability_curve(alone, x).accuracy if value == value]
    by_hand = 2 * 1.96 * np.sqrt(share * (1 - share) / alone.size)
    assert width[0] == pytest.approx(by_hand, rel=0.3)
    right = cm.metrics.reliability_curve(np.zeros((10, 8, 8), int), x[:10]).interval
    np.testing.assert_allclose(right[11], [10 / (10 + 1.959964**2), 1], rtol=1e-6)


# The same bits


def test_batches_merges_and_threads_give_the_same_bits(threads: None) -> None:
    x, y = problem(8, 6, 3, (200, 300))
    whole = as_bits(calibration_report(y[:5], x[:5]))
    for n_threads in (1, 2, 3):
        cm.set_num_threads(n_threads)
        assert as_bits(calibration_report(y[:5], x[:5])) == whole
    one_by_one = CalibrationAccumulator()
    for image, labels in zip(x[4::-1], y[4::-1], strict=True):
        one_by_one.update(labels[None], image[None])
    assert as_bits(one_by_one.report()) == whole
    parts = [
        CalibrationAccumulator().update(y[part], x[part]) for part in (slice(0, 1), slice(1, 3), slice(3, 5))
    ]
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        merged = CalibrationAccumulator()
        for place in order:
            merged.merge(pickle.loads(pickle.dumps(parts[place])))
        assert as_bits(merged.report()) == whole
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    assert as_bits(calibration_report(y[:5], last[:5])) == whole
    assert as_bits(calibration_report(list(y[:5]), list(x[:5]))) == whole
    assert as_bits(calibration_report(None, zip(x[:5], y[:5], strict=True))) == whole


def test_many_images_are_merged_in_few_steps() -> None:
    accumulator = CalibrationAccumulator(n_bins=2)
    for i in range(70):
        accumulator.update(Y[i % 3][None], X[i % 3][None])
        assert len(accumulator._parts) <= 7
    assert accumulator.n_images == accumulator.report().n_images == 70
    assert repr(accumulator) == "CalibrationAccumulator(n_bins=2, n_images=70)"


def test_groups_are_the_units() -> None:
    report = calibration_report(Y[:3], X[:3], groups=["a", "a", "b"])
    eces = report.image_eces
    assert report.n_groups == 2
    assert report.ece == pytest.approx(((eces[0] + eces[1]) / 2 + eces[2]) / 2, abs=1e-15)
    assert "2 groups" in report.interval_method
    assert report.pooled_ece == calibration_report(Y[:3], X[:3]).pooled_ece
    with pytest.raises(ValueError, match="groups must be given for all images or for none"):
        CalibrationAccumulator().update(Y[:1], X[:1], groups=["a"]).update(Y[1:2], X[1:2])


def test_the_interior_of_objects_lies_in_their_boxes() -> None:
    y = np.zeros((2, 9, 12), int)
    y[0, 2, 3], y[0, 6, 8], y[1] = 1, 1, 2
    x = np.full((2, 3, 9, 12), 1 / 3)
    report = calibration_report(y, x, boundary_width=1, object_classes=[1])
    boundary, interior, outside = report.regions
    assert [each.name for each in report.regions] == ["boundary", "interior", "outside"]
    assert boundary.n_pixels == 18
    assert interior.n_pixels == 5 * 6 - 2 * 4
    assert outside.n_pixels == y.size - 18 - 22
    volume = calibration_report(
        y[:1, np.newaxis], x[:1, :, np.newaxis], boundary_width=1, object_classes=(1,)
    )
    assert [each.n_pixels for each in volume.regions] == [18, 22, 108 - 40]
    alone = calibration_report(y[1:], x[1:], boundary_width=1, object_classes=[0, 1])
    assert [each.n_pixels for each in alone.regions] == [0, 0, 108]
    with pytest.raises(ValueError, match="object_classes must be from 0 to 2, got 7"):
        calibration_report(y, x, object_classes=[7])
    with pytest.raises(ValueError, match="object_classes must be at least one class"):
        calibration_report(y, x, object_classes=[])


def test_boundaries_may_be_those_of_predictions() -> None:
    for shape in ((13, 17), (5, 6, 7)):
        x, y = problem(9, 3, 3, shape)
        x[:, :, 0] = np.where(y[:, None, 0] == VOID, np.nan, x[:, :, 0])
        predicted = np.where(y == VOID, VOID, np.nan_to_num(x).argmax(axis=1)).astype(np.uint8)
        report = calibration_report(y[:2], x[:2], boundary_width=1, boundary="prediction")
        near = np.stack([twin.near_boundary(each, 1) for each in predicted[:2]])
        right = predicted[:2] == y[:2]
        for region, chosen in zip(report.regions, (near, ~near & (y[:2] != VOID)), strict=True):
            assert region.n_pixels == chosen.sum()
            assert region.accuracy == pytest.approx(right[chosen].mean())
        assert (
            report.regions[0].n_pixels
            != calibration_report(y[:2], x[:2], boundary_width=1).regions[0].n_pixels
        )
        # All else is what it is; and so are the regions, were the predictions the labels.
        own = calibration_report(predicted[:2], x[:2], boundary_width=1)
        assert [each.n_pixels for each in own.regions] == [each.n_pixels for each in report.regions]
        assert report.pooled_ece == calibration_report(y[:2], x[:2]).pooled_ece
        assert "Near the boundaries of predictions (another prediction within 1" in report.to_markdown()
        objects = calibration_report(
            y[:2], x[:2], boundary_width=1, boundary="prediction", object_classes=[2]
        )
        expected = calibration_report(predicted[:2], x[:2], boundary_width=1, object_classes=[2])
        assert [each.n_pixels for each in objects.regions] == [each.n_pixels for each in expected.regions]
    assert json.loads(report.to_json())["boundary"] == "prediction"


# Extremes


@pytest.mark.parametrize("is_right", [True, False])
def test_all_right_and_all_wrong(is_right: bool) -> None:
    x = np.array([0.75, 0.25], np.float32).reshape(1, 2, 1, 1) * np.ones((3, 2, 4, 4), np.float32)
    report = calibration_report(np.full((3, 4, 4), int(not is_right)), x)
    assert report.accuracy == is_right
    assert report.ece == report.pooled_ece == report.mce == report.adaptive_ece
    assert report.ece == (0.25 if is_right else 0.75)
    assert np.isnan(report.auroc)
    assert np.isnan(report.wrong_confidence if is_right else report.right_confidence)
    assert report.aurc == report.augrc * 2 == (not is_right) or not is_right
    assert report.mean_iou == (1.0 if is_right else 0.0)
    assert ("under" if is_right else "over") in report.verdict
    text = json.loads(report.to_json())
    assert text["auroc"] is None


def test_void_images_are_left_out_and_counted() -> None:
    with pytest.warns(cm.DroppedImagesWarning, match="1 of 4 images have no labelled pixel.*, n = 3$"):
        report = calibration_report(Y, X)
    assert (report.n_images, report.n_skipped) == (3, 1)
    assert np.isnan([report.image_eces[3], report.image_ious[3]]).all()
    assert as_bits(report) | {"n_skipped": 0} == as_bits(calibration_report(Y[:3], X[:3]))
    with pytest.warns(cm.DroppedImagesWarning, match=", n = 0; check ignore_index$"):
        nothing = calibration_report(Y[3:], X[3:])
    assert np.isnan([nothing.reliability, nothing.resolution, nothing.uncertainty]).all()
    assert np.isnan([nothing.ece, nothing.pooled_ece, nothing.auroc, nothing.aurc, nothing.mean_iou]).all()
    assert "no image has a labelled pixel" in nothing.verdict
    assert "nan" in str(nothing)


MEASURES = ["expected_calibration_error", "negative_log_likelihood", "brier_score", "mean_iou"]


@pytest.mark.parametrize("name", [*MEASURES, "reliability_curve"])
def test_void_images_are_told_by_every_measure(name: str) -> None:
    measure = getattr(cm.metrics, name)
    options: list[dict[str, Any]] = [{}, {"per_image": True}] if name in MEASURES else [{}]
    for each in options:
        with pytest.warns(cm.DroppedImagesWarning, match="1 of 4 images have no labelled pixel"):
            found = measure(Y, X, **each)
        assert repr(found) == repr(measure(Y[:3], X[:3], **each))
    if name in MEASURES:
        assert np.isnan(measure(Y, X, per_image=True, average=False)[3])
        with pytest.warns(cm.DroppedImagesWarning):
            assert np.isnan(measure(Y[3:], X[3:]))


@pytest.mark.parametrize("what", [np.nan, np.inf, -np.inf, 1e30, -5])
def test_what_void_pixels_hold_does_not_matter(what: float) -> None:
    spoilt = X.copy()
    spoilt[np.broadcast_to((Y == VOID)[:, np.newaxis], X.shape)] = what
    assert as_bits(calibration_report(Y[:3], spoilt[:3])) == as_bits(calibration_report(Y[:3], X[:3]))


def test_one_class_only() -> None:
    y = np.where(Y == VOID, VOID, 2)
    report = calibration_report(y[:3], X[:3])
    assert [row.n_pixels > 0 for row in report.classes] == [False, False, True, False]
    assert report.class_wise_ece == report.classes[2].ece
    assert report.regions[0].n_pixels == 0
    assert np.isnan(report.regions[0].ece)


def test_counts_beyond_what_float32_holds_are_exact() -> None:
    """Of 2^24 + 1 pixels, added to what would be lost in a sum of float32."""
    x = np.broadcast_to(np.array([0.75, 0.25], np.float32).reshape(1, 2, 1, 1), (1, 2, 4096, 4097))
    y = np.zeros((1, 4096, 4097), np.uint8)
    curve = cm.metrics.reliability_curve(y, x)
    assert curve.n_pixels.sum() == 4096 * 4097 > 2**24
    assert np.nanmax(curve.confidence) == 0.75


# What is asked for


def test_measures_are_those_of_the_report() -> None:
    report = calibration_report(Y[:3], X[:3], n_bins=9)
    assert cm.metrics.expected_calibration_error(Y[:3], X[:3], 9) == report.ece
    assert cm.metrics.expected_calibration_error(Y[:3], X[:3], 9, False) == report.pooled_ece
    for measure, pooled, images in (
        (cm.metrics.negative_log_likelihood, report.nll, report.image_nlls),
        (cm.metrics.brier_score, report.brier, report.image_briers),
        (cm.metrics.mean_iou, report.mean_iou, report.image_ious),
    ):
        assert measure(Y[:3], X[:3]) == pooled
        assert measure(Y[:3], X[:3], per_image=True) == pytest.approx(images.mean(), abs=1e-15)
        np.testing.assert_array_equal(measure(Y[:3], X[:3], per_image=True, average=False), images)
        with pytest.raises(ValueError, match="pass per_image=True"):
            measure(Y[:3], X[:3], average=False)
    curve = cm.metrics.reliability_curve(Y[:3], X[:3], 9)
    np.testing.assert_array_equal(curve.accuracy, report.curve.accuracy)


def test_the_report_is_text_tables_and_json() -> None:
    report = calibration_report(Y[:3], X[:3], class_names=["sky", "road", "car", "pole"])
    for text in (str(report), report.to_markdown(), report._repr_html_()):
        for part in ("road", "boundary", f"{report.ece:.4f}"):
            assert part in text
    values = json.loads(report.to_json())
    assert values["report"] == "CalibrationReport"
    assert values["curve"]["n_pixels"] == report.curve.n_pixels.tolist()
    assert values["regions"][0]["name"] == "boundary"
    assert "image_eces" not in report.to_dict(images=False)
    assert "ece=" in repr(report)


def test_the_report_says_what_its_numbers_are_worth() -> None:
    report = calibration_report(Y[:3], X[:3])
    rows = dict(report._summary())
    worst = np.nanargmax(abs(report.curve.accuracy - report.curve.confidence))
    assert report.mce_pixels == report.to_dict()["mce_pixels"] == report.curve.n_pixels[worst]
    assert rows["largest error of a bin"] == f"{report.mce:.4f} (of {report.mce_pixels} pixels)"
    assert rows["ECE, mean over images"] == f"{report.ece:.4f} (above 0 for a perfect model, too)"
    assert rows["squared error, debiased"].endswith("; about 0 for a perfect model)")
    assert "recall" in str(report)
    void = np.full_like(Y[:1], 255)
    void[0, 0, 0] = 0
    alone = calibration_report(void, X[:1])
    assert alone.mce_pixels == 1
    for text in (str(alone), alone._repr_html_(), str(calibration_report(Y[:2], X[:2], groups=["a", "a"]))):
        assert "no interval: one " in text
        assert "nan to nan" not in text


def _refused(error: type[Exception], match: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=match):
        call()


def test_bad_input_is_refused() -> None:
    report, x, y = calibration_report, X[:3], Y[:3]
    _refused(TypeError, "n_bins must be an int, got 2.5", lambda: report(y, x, n_bins=2.5))
    _refused(TypeError, "n_bins must be an int, got True", lambda: report(y, x, n_bins=True))
    _refused(ValueError, "n_bins must be from 1 to 1000, got 0", lambda: report(y, x, n_bins=0))
    _refused(ValueError, "boundary_width must be from 1", lambda: report(y, x, boundary_width=0))
    _refused(
        ValueError,
        "boundary must be 'labels' or 'prediction', got 'edges'",
        lambda: report(y, x, boundary="edges"),
    )
    _refused(
        ValueError, r"class_threshold must be in \[0, 1\), got 1", lambda: report(y, x, class_threshold=1)
    )
    _refused(ValueError, "inputs must be one of", lambda: report(y, x, inputs="probs"))
    _refused(TypeError, "transform must be a fitted scaler", lambda: report(y, x, transform="softmax"))
    _refused(ValueError, "negative", lambda: report(y, np.log(x)))
    _refused(
        ValueError, "image 1", lambda: report(y, np.where(np.arange(3).reshape(3, 1, 1, 1) == 1, np.nan, x))
    )
    _refused(
        ValueError,
        "y holds label 9 in image 2",
        lambda: report(np.where(np.arange(3)[:, None, None] == 2, 9, y), x),
    )
    _refused(ValueError, "y must have shape", lambda: report(y[:, :-1], x))
    _refused(TypeError, "y must hold integer labels", lambda: report(y + 0.5, x))
    _refused(TypeError, "y is missing", lambda: report(None, x))
    _refused(ValueError, "X is empty: it holds no image", lambda: report([], []))
    _refused(
        ValueError,
        "class_names must hold a string for each of K = 4",
        lambda: report(y, x, class_names=["a"]),
    )
    _refused(ValueError, "groups must hold", lambda: report(y, x, groups=[1, 2]))
    _refused(ValueError, "no image was counted", lambda: CalibrationAccumulator().report())
    here = CalibrationAccumulator().update(y, x)
    before = here.report()
    _refused(ValueError, "X has K = 3 classes in image 3, but K = 4", lambda: here.update(y % 3, x[:, :3]))
    _refused(ValueError, "cannot be merged with itself", lambda: here.merge(here))
    _refused(TypeError, "other must be", lambda: here.merge(before))
    scaler = cm.TemperatureScaler().fit(np.log(X[:3]), Y[:3])
    for options, says in (
        ({"n_bins": 9}, "n_bins differs: 15 here, 9 there"),
        ({"ignore_index": None}, "ignore_index differs: 255 here, None there"),
        ({"inputs": "logits"}, "inputs differs: 'probabilities' here, 'logits' there"),
        ({"inputs": "logits", "transform": scaler}, "inputs differs"),
        ({"boundary_width": None}, "boundary_width differs: 2 here, None there"),
        ({"boundary": "prediction"}, "boundary differs: 'labels' here, 'prediction' there"),
        ({"class_threshold": 0}, "class_threshold differs"),
        ({"object_classes": [1]}, "object_classes differs"),
    ):
        _refused(ValueError, says, lambda options=options: here.merge(CalibrationAccumulator(**options)))
    behind = CalibrationAccumulator(inputs="logits", transform=scaler)
    raw = CalibrationAccumulator(inputs="logits")
    _refused(ValueError, "transform differs: TemperatureScaler.* here, None there", lambda: behind.merge(raw))
    assert behind.merge(CalibrationAccumulator(inputs="logits", transform=scaler)).n_images == 0
    assert as_bits(here.report()) == as_bits(before)


def test_probabilities_that_are_said_to_be_logits_are_noticed() -> None:
    with pytest.warns(UserWarning, match="pass inputs='probabilities'"):
        calibration_report(Y[:3], X[:3], inputs="logits")
