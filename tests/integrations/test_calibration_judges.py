"""Measures of calibration beside those of torchmetrics and MONAI.

Both add in float32. Here all probabilities are whole numbers of 1/1024, and there are fewer than 2^14 pixels: such sums
are exact in it. What rounds are the shares of each bin, their difference, its product with the share of pixels, and the
sum over bins, each by at most 2^-24 of numbers that are at most 1. No confidence lies on an edge between bins, as the
number of bins is odd, nor is one 0 or 1: the judges put edges elsewhere.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics import CalibrationErrorMetric
from monai.metrics.calibration import calibration_binning
from numpy.typing import NDArray
from sklearn import metrics as scikit_learn
from torch.nn.functional import one_hot
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from conformask.metrics import calibration_report

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:::{library}") for library in ("torch.*", "torchmetrics.*", "monai.*")
]

K, VOID, DENOMINATOR = 4, 255, 1024


def tolerance(n_bins: int) -> float:
    """What rounding may do: each term by four roundings, and as many sums as there are bins."""
    return (4 + n_bins) * 2.0**-24


def problem(seed: int, shape: tuple[int, ...], n: int = 5) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """An over-confident model: whole numbers of 1/1024, none of them 0, which sum to 1; labels without void."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(K, 0.6), (n, *shape))
    counts = 1 + rng.multinomial(DENOMINATOR - K, shares)
    softer = (counts / DENOMINATOR) ** 0.7
    ends = (softer / softer.sum(axis=-1, keepdims=True)).cumsum(axis=-1)
    y = (rng.random((n, *shape, 1)) > ends[..., :-1]).sum(axis=-1)
    assert counts.sum() < 2**14 * DENOMINATOR
    return np.moveaxis(counts / np.float32(DENOMINATOR), -1, 1).astype(np.float32), y


def with_void(y: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    return np.where(np.random.default_rng(seed).random(y.shape) < 0.2, VOID, y)


SHAPES = [(23, 31), (6, 9, 11)]


@pytest.mark.parametrize("n_bins", [7, 15, 101])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torchmetrics_finds_the_errors_of_all_pixels(shape: tuple[int, ...], n_bins: int) -> None:
    x, y = problem(0, shape)
    y = with_void(y, 1)
    report = calibration_report(y, x, n_bins=n_bins, boundary_width=None)
    assert report.pooled_ece > 0.05
    assert report.mce > 1.2 * report.rms_ce > 1.2 * report.pooled_ece

    def judge(norm: Any, which: Any = slice(None)) -> float:
        maps, labels = torch.from_numpy(x[which]), torch.from_numpy(y[which])
        return float(multiclass_calibration_error(maps, labels, K, n_bins, norm, VOID))

    near = tolerance(n_bins)
    assert report.pooled_ece == pytest.approx(judge("l1"), abs=near)
    assert report.mce == pytest.approx(judge("max"), abs=near)
    assert report.rms_ce**2 == pytest.approx(judge("l2") ** 2, abs=2 * near)  # of a square, twice as much
    own = [judge("l1", slice(i, i + 1)) for i in range(len(x))]
    np.testing.assert_allclose(report.image_eces, own, rtol=0, atol=near)
    assert report.ece == pytest.approx(np.mean(own), abs=near)


def test_torchmetrics_finds_the_errors_of_classes() -> None:
    """Those of a class against the rest, of all pixels or of those where it has some probability."""
    x, y = problem(2, (23, 31))
    y = with_void(y, 3)
    for threshold in (0.0, 0.05):
        report = calibration_report(y, x, class_threshold=threshold)
        for row in report.classes:
            kept = (y != VOID) & (x[:, row.label] >= threshold)
            assert (kept.sum() < (y != VOID).sum()) == (threshold > 0)
            probabilities = torch.from_numpy(x[:, row.label][kept])
            expected = float(
                binary_calibration_error(probabilities, torch.from_numpy((y == row.label)[kept]).int(), 15)
            )
            assert row.ece == pytest.approx(expected, abs=tolerance(15))
        assert report.class_wise_ece == pytest.approx(np.mean([row.ece for row in report.classes]), abs=1e-15)


@pytest.mark.parametrize("n_bins", [7, 15, 101])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_monai_finds_the_same_bins(shape: tuple[int, ...], n_bins: int) -> None:
    """Of the confidence, whose only class is whether the prediction is right."""
    x, y = problem(4, shape)
    confidence = torch.from_numpy(x.max(axis=1)).unsqueeze(1)
    right = torch.from_numpy(x.argmax(axis=1) == y).unsqueeze(1).float()
    together = confidence.reshape(1, 1, -1), right.reshape(1, 1, -1)
    means, shares, counts = (part[0, 0].numpy() for part in calibration_binning(*together, n_bins))
    report = calibration_report(y, x, n_bins=n_bins)
    np.testing.assert_array_equal(report.curve.n_pixels, counts)
    np.testing.assert_allclose(report.curve.confidence, means, rtol=0, atol=2.0**-24)
    np.testing.assert_allclose(report.curve.accuracy, shares, rtol=0, atol=2.0**-24)
    metric = CalibrationErrorMetric(n_bins, metric_reduction="none")
    found = metric(confidence, right)[:, 0].numpy()
    np.testing.assert_allclose(report.image_eces, found, rtol=0, atol=tolerance(n_bins))
    largest = CalibrationErrorMetric(n_bins, calibration_reduction="maximum", metric_reduction="none")(
        *together
    )
    assert report.mce == pytest.approx(float(largest), abs=tolerance(n_bins))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_monai_finds_the_errors_of_the_classes_of_images(shape: tuple[int, ...]) -> None:
    x, y = problem(5, shape)
    truth = one_hot(torch.from_numpy(y), K).movedim(-1, 1).float()
    expected = CalibrationErrorMetric(15, metric_reduction="none")(torch.from_numpy(x), truth).numpy()
    for image, label in itertools.product(range(len(x)), range(K)):
        one = slice(image, image + 1)
        report = calibration_report(y[one], x[one], class_threshold=0)
        assert report.classes[label].ece == pytest.approx(expected[image, label], abs=tolerance(15))


def test_edges_belong_to_other_bins_in_torchmetrics() -> None:
    """A bin of ours holds its upper end, as in MONAI; one of theirs its lower end, and 1 has a bin for itself."""
    for on_edge, inside, ours, theirs in (
        (0.75, 0.7, 0.225, 0.5 * 0.25 + 0.5 * 0.7),  # (0.5, 0.75] holds both; [0.5, 0.75) only 0.7
        (1.0, 0.9, 0.45, 0.5 * 1.0 + 0.5 * 0.1),  # (0.75, 1] holds both
    ):
        x = np.array([[on_edge, inside], [1 - on_edge, 1 - inside]], np.float32).reshape(1, 2, 1, 2)
        y = np.array([[[0, 1]]]) if on_edge < 1 else np.array([[[1, 0]]])
        report = calibration_report(y, x, n_bins=4)
        assert report.pooled_ece == pytest.approx(ours, abs=1e-6)
        found = multiclass_calibration_error(torch.from_numpy(x), torch.from_numpy(y), 2, 4)
        assert float(found) == pytest.approx(theirs, abs=1e-6)
        confidence = torch.from_numpy(x[:, :1])
        right = torch.from_numpy(y == 0).unsqueeze(1).float()
        assert float(CalibrationErrorMetric(4)(confidence, right)) == pytest.approx(ours, abs=1e-6)


def test_scikit_learn_finds_the_scores_of_pixels_and_images() -> None:
    """The Brier score is the sum over classes of those of the class against the rest."""
    x, y = problem(6, (23, 31))
    y = with_void(y, 7)
    report = calibration_report(y, x)

    def judge(which: slice) -> tuple[float, float]:
        valid = y[which] != VOID
        rows, labels = np.moveaxis(x[which], 1, -1)[valid].astype(np.float64), y[which][valid]
        briers = [scikit_learn.brier_score_loss(labels == k, rows[:, k]) for k in range(K)]
        return scikit_learn.log_loss(labels, rows, labels=range(K)), sum(briers)

    assert (report.nll, report.brier) == pytest.approx(judge(slice(None)), abs=1e-12)
    own = [judge(slice(i, i + 1)) for i in range(len(x))]
    np.testing.assert_allclose(np.stack([report.image_nlls, report.image_briers], 1), own, rtol=0, atol=1e-12)
