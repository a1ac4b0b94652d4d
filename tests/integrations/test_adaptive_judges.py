"""Thresholds of images beside those of MAPIE and lightning-uq-box, and a correction found by bisection.

MAPIE minimises the objective of AA-CRC by Adam for each new image. Ours is solved as a linear program; SciPy solves
it here once more, in another form, so that both can be judged by how far they are above the least value.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from mapie.risk_control import SemanticSegmentationController
from mapie.risk_control.adaptive_conformal_risk_control import ConditionalExpectedRiskController
from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix
from numpy.typing import NDArray
from scipy import optimize, sparse
from torchmetrics.functional.classification import binary_recall

import conformask as cm

SIDE, DENOMINATOR = 12, 1024


# Masks are made up without regard to the probabilities.
pytestmark = pytest.mark.filterwarnings("ignore:masks (of|hold):conformask.SuspiciousLabelsWarning")


def scenes(n: int, seed: int) -> tuple[NDArray, NDArray]:
    """Images of different difficulty, with probabilities that begin a bin of ours, so that nothing is cut down."""
    rng = np.random.default_rng(seed)
    a = rng.choice([0.5, 1.0, 2.0, 4.0], (n, 1, 1))
    P = np.floor(rng.beta(a, 1, (n, SIDE, SIDE)) * DENOMINATOR).clip(max=DENOMINATOR - 1) / DENOMINATOR
    return P.astype(np.float32), (rng.random(P.shape) < 0.5).astype(np.uint8)


def covered(masks: NDArray, y: NDArray) -> NDArray:
    """The share of each object (n,) that is in the mask."""
    return (masks & (y == 1)).sum(axis=(1, 2)) / (y == 1).sum(axis=(1, 2))


# AA-CRC beside MAPIE's

N_CALIBRATION, N_NEW = 30, 5
# Levels, numbers of features, seeds.
PROBLEMS = [(0.1, 1, 0), (0.1, 2, 1), (0.1, 2, 2), (0.2, 1, 1), (0.2, 2, 0), (0.2, 2, 3)]


@dataclass(frozen=True)
class Found:
    """What both found for new images."""

    thresholds: NDArray[np.float64]
    theirs: NDArray[np.float64]  # may be below 0
    coverages: NDArray[np.float64]
    their_coverages: NDArray[np.float64]
    design: NDArray[np.float64]  # of all images, the new ones last
    pixels: list[NDArray[np.float64]]  # probabilities of the foreground of calibration images


@functools.cache
def race(alpha: float, n_features: int, seed: int) -> Found:
    """Both on one split, without a penalty."""
    P, y = scenes(N_CALIBRATION + N_NEW, seed)
    first = slice(N_CALIBRATION)
    new = slice(N_CALIBRATION, None)

    def numbers(maps: Any, images: Any = None) -> NDArray:
        rows = np.asarray(maps, np.float64).reshape(-1, SIDE * SIDE)
        return np.column_stack([rows.mean(axis=1), rows.std(axis=1)])[:, :n_features]

    mean, scale = numbers(P[first]).mean(axis=0), numbers(P[first]).std(axis=0)

    def standard(maps: Any) -> NDArray:
        return (numbers(maps) - mean) / scale

    def predict(maps: Any, thresholds: Any = None) -> NDArray:
        return maps if thresholds is None else maps >= np.reshape(thresholds, (-1, 1, 1))

    ours = cm.AACRCCalibrator(
        alpha, guarantee="per_test", penalty=0.0, embedding=numbers, scale="probability"
    )
    ours.fit(P[first], y[first])
    np.random.seed(0)  # noqa: NPY002, it draws an image from the global state
    torch.manual_seed(0)
    # With its defaults, 102 steps of 1e-4, thresholds would hardly leave 0.
    mapie = ConditionalExpectedRiskController(predict, standard, alpha, "recall", learning_rate=1e-2)
    mapie.conformalize(P[first], y[first], n_epochs=100)
    their_masks = mapie.predict(P[new], n_epochs=60)
    return Found(
        ours.predict_thresholds(P[new]),
        mapie.best_predict_params_,
        covered(ours.predict(P[new]), y[new]),
        covered(their_masks, y[new]),
        np.column_stack([np.ones(len(P)), standard(P)]),
        [p[labels == 1].astype(np.float64) for p, labels in zip(P[first], y[first], strict=True)],
    )


def least_value(found: Found, alpha: float, new: int, interval: tuple[float, float] | None = None) -> float:
    """Of the objective by its exact integral, if the threshold of a new image lies in an interval; minus infinity if
    there is none.

    The variables are theta, and how far each threshold is above each probability.
    """
    design, x = found.design[:N_CALIBRATION], found.design[N_CALIBRATION + new]
    pixels, sizes = np.concatenate(found.pixels), [len(each) for each in found.pixels]
    rows = sparse.csr_array(np.repeat(design, sizes, axis=0))
    above = [sparse.hstack([rows, -sparse.eye_array(len(pixels))])]
    most = [pixels]
    if interval is not None:
        low, high = interval
        one = sparse.csr_array(np.append(x, np.zeros(len(pixels)))[np.newaxis])
        above, most = [*above, one], [*most, np.array([high])]
        if np.isfinite(low):
            above, most = [*above, -one], [*most, np.array([-low])]
    weights = np.repeat(1 / np.array(sizes), sizes)
    solution = optimize.linprog(
        np.concatenate([(1 - alpha) * x - alpha * design.sum(axis=0), weights]),
        A_ub=sparse.vstack(above).tocsr(),
        b_ub=np.concatenate(most),
        bounds=[(None, None)] * len(x) + [(0, None)] * len(pixels),
        method="highs",
    )
    if solution.status == 3:
        return -np.inf
    assert solution.status == 0, solution.message
    return float(solution.fun) / (N_CALIBRATION + 1)


@pytest.mark.parametrize(("alpha", "n_features", "seed"), PROBLEMS)
def test_thresholds_are_those_of_mapie(alpha: float, n_features: int, seed: int) -> None:
    """Up to two of its steps: the objective is flat where it ends, and its recall is smooth over some thousandths."""
    found = race(alpha, n_features, seed)
    assert abs(found.thresholds - found.theirs.clip(0, 1)).max() <= 0.02
    assert len(set(found.thresholds)) > 1


@pytest.mark.parametrize(("alpha", "n_features", "seed"), PROBLEMS)
def test_no_threshold_of_mapie_has_a_smaller_objective(alpha: float, n_features: int, seed: int) -> None:
    """Each threshold gets the best theta that gives it: ours are at the least value, MAPIE's hardly above it."""
    found = race(alpha, n_features, seed)
    for new, (threshold, theirs) in enumerate(zip(found.thresholds, found.theirs, strict=True)):
        least = least_value(found, alpha, new)
        # It is where the next bin begins, or 0 for all that are below.
        begins = threshold - 1 / DENOMINATOR if threshold > 0 else -np.inf
        ours = least_value(found, alpha, new, (begins, threshold))
        if np.isinf(least):
            assert np.isinf(ours)
            continue
        assert ours == pytest.approx(least, abs=1e-9)
        if theirs > 0:  # below, only the mask is the same
            of_mapie = least_value(found, alpha, new, (theirs, theirs))
            assert least - 1e-9 <= of_mapie <= least + 2e-5


def test_coverage_and_gap_are_no_worse_than_those_of_mapie() -> None:
    """By half a percent at most, which is less than one pixel in each image."""
    for alpha in (0.1, 0.2):
        splits = [race(*problem) for problem in PROBLEMS if problem[0] == alpha]
        ours = np.concatenate([each.coverages for each in splits])
        theirs = np.concatenate([each.their_coverages for each in splits])
        assert ours.mean() >= theirs.mean() - 0.005
        assert abs(ours - (1 - alpha)).mean() <= abs(theirs - (1 - alpha)).mean() + 0.005
        assert 1 - alpha - 0.05 < ours.mean() < 1
        assert (ours < 1).sum() > 3


# The correction of AT and COAT


def mean_coverage(P: NDArray, y: NDArray, thresholds: NDArray, t: float) -> Fraction:
    """Of masks that begin at the thresholds less t, cut at 0 and 1."""
    begins = np.clip(thresholds - t, 0, 1).reshape(-1, 1, 1)
    held = ((begins <= P.astype(np.float64)) & (y == 1)).sum(axis=(1, 2))
    sizes = (y == 1).sum(axis=(1, 2))
    shares = [Fraction(int(a), int(b)) for a, b in zip(held, sizes, strict=True)]
    return sum(shares, Fraction()) / len(shares)


def corrected_by_bisection(P: NDArray, y: NDArray, thresholds: NDArray, alpha: str) -> float:
    """An upper end of the smallest t at which the mean coverage reaches (n + 1) / n times 1 - alpha."""
    target = Fraction(len(P) + 1, len(P)) * (1 - Fraction(alpha))
    low, high = -1.0, 1.0
    assert mean_coverage(P, y, thresholds, low) < target <= mean_coverage(P, y, thresholds, high)
    while high - low > 1e-12:
        middle = (low + high) / 2
        is_reached = mean_coverage(P, y, thresholds, middle) >= target
        low, high = (low, middle) if is_reached else (middle, high)
    return high


MODELS = {
    "mean": lambda P, images=None: P.reshape(len(P), -1).mean(axis=1, dtype=np.float64),
    "contrary": lambda P, images=None: 1 - P.reshape(len(P), -1).mean(axis=1, dtype=np.float64),
    "corner": lambda P, images=None: P[:, 0, 0].astype(np.float64),
}


@pytest.mark.parametrize("kind", [cm.ATCalibrator, cm.COATCalibrator])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ties", [False, True])
def test_the_correction_is_that_of_a_bisection(kind: Any, model: str, ties: bool) -> None:
    P, y = scenes(28, seed=40 + ties)
    if ties:
        P = np.floor(P * 16) / 16
    thresholds = MODELS[model](P)
    for alpha in ("0.05", "0.1", "0.25"):
        fitted = kind(float(alpha), predictor=MODELS[model], scale="probability").fit(P, y)
        t = fitted.correction_
        assert corrected_by_bisection(P, y, thresholds, alpha) == pytest.approx(t, abs=1e-11)
        begins = np.clip(thresholds - t, 0, 1)
        assert fitted.predict_thresholds(P) == pytest.approx(begins, abs=1e-12)
        target = Fraction(29, 28) * (1 - Fraction(alpha))
        reached = mean_coverage(P, y, fitted.predict_thresholds(P), 0.0)
        assert reached >= target > mean_coverage(P, y, thresholds, t - 1e-11)
        assert 1 - fitted.risk_ == pytest.approx(float(reached), abs=1e-12)


def test_the_correction_by_hand() -> None:
    """The mean coverage of three images must reach 4/3 of .55."""
    values = [[0.875, 0.5625, 0.375, 0.1875], [0.8125, 0.6875], [0.875, 0.5, 0.3125, 0.25, 0.125]]
    P = np.zeros((3, 1, 5))
    y = np.zeros(P.shape, np.uint8)
    for image, labels, row in zip(P, y, values, strict=True):
        image[0, : len(row)], labels[0, : len(row)] = row, 1
    thresholds = np.array([0.5, 0.625, 0.375])
    fitted = cm.COATCalibrator(0.45, predictor=lambda P, images: thresholds[: len(P)]).fit(P, y)
    # At 0: 2/4, 2/2, 2/5. At .0625: 2/4, 1, 3/5 (.7). At .125: 3/4, 1, 4/5, above .7333.
    assert fitted.correction_ == 0.125
    assert corrected_by_bisection(P, y, thresholds, "0.45") == pytest.approx(0.125, abs=1e-11)
    assert fitted.risk_ == pytest.approx((1 / 4 + 1 / 5) / 3)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of what it imports
def test_the_correction_is_that_of_lightning_uq_box() -> None:
    """Its bisection ends 1e-4 above ours at most. It adds in float32; no sum here is so near its target."""
    pytest.importorskip("lightning_uq_box", reason="lightning-uq-box 0.4 needs Python 3.12")
    from lightning_uq_box.uq_methods.segmentation_conformal_utils import find_calibration_shift

    P, y = scenes(28, seed=42)
    for model in MODELS.values():
        given = [torch.from_numpy(np.asarray(each)) for each in (model(P), P.astype(np.float64), y)]
        for alpha in (0.05, 0.1, 0.25):
            fitted = cm.COATCalibrator(alpha, predictor=model).fit(P, y)
            theirs = find_calibration_shift(*given, target_coverage=1 - alpha)
            assert fitted.correction_ - 1e-12 <= theirs <= fitted.correction_ + 1e-4
            ours = fitted.evaluate(P, y)
            begins = np.clip(model(P) - theirs, 0, 1).reshape(-1, 1, 1)
            assert ours.coverage <= covered(begins <= P, y).mean() + 1e-12
    few = [each[:8] for each in given]
    assert find_calibration_shift(*few, target_coverage=0.9) == 1  # the whole image, without a word
    with pytest.raises(cm.InfeasibleRiskError):
        cm.COATCalibrator(0.1, predictor=MODELS["corner"]).fit(P[:8], y[:8])


# Images without an object, on which each library does something else


def test_what_others_make_of_empty_masks() -> None:
    P, y = scenes(20, seed=43)
    y[3] = 0
    mask = P >= 0.5
    maps, labels = torch.from_numpy(mask), torch.from_numpy(y)
    of_torchmetrics = binary_recall(maps.int(), labels, multidim_average="samplewise")
    assert of_torchmetrics[3] == 0
    given = maps.float().unsqueeze(1), labels.float().unsqueeze(1)
    of_monai = compute_confusion_matrix_metric("recall", get_confusion_matrix(*given))[:, 0]
    assert of_monai.isnan().tolist() == [i == 3 for i in range(20)]
    controller = SemanticSegmentationController(lambda X: X, risk="recall", method="crc", target_level=0.9)
    with pytest.raises(ValueError, match="at least one label"):
        controller.calibrate(P[:, np.newaxis], y[:, np.newaxis])
    with pytest.warns(cm.DroppedImagesWarning, match="1 of 20 images"):
        ours = cm.BinaryRiskCalibrator(0.1).fit(P, y)
    assert (ours.n_images_, ours.n_skipped_) == (19, 1)


def test_mapie_counts_an_empty_mask_as_the_worst_loss() -> None:
    """One threshold for all, with one of 20 masks empty: that of 19 others which may miss less."""
    P, y = scenes(20, seed=44)
    y[3] = 0
    others = np.arange(20) != 3

    def constant(maps: Any) -> NDArray:
        return np.ones((len(np.reshape(maps, (-1, SIDE, SIDE))), 1))

    def predict(maps: Any, thresholds: Any = None) -> NDArray:
        return maps if thresholds is None else maps >= np.reshape(thresholds, (-1, 1, 1))

    np.random.seed(0)  # noqa: NPY002, it draws an image from the global state
    torch.manual_seed(0)
    mapie = ConditionalExpectedRiskController(predict, constant, 0.2, "recall", learning_rate=1e-2)
    mapie.conformalize(P, y, n_epochs=200)
    mapie.predict(P[:1], n_epochs=100)
    # 19 losses, one of 1 for the empty mask and one of 1 for the new image sum to at most .2 * 21.
    alpha = (0.2 * 21 - 1) / 20
    expected = cm.BinaryRiskCalibrator(alpha).fit(P[others], y[others]).threshold_
    assert mapie.best_predict_params_[0] == pytest.approx(expected, abs=0.02)
    skipped = cm.BinaryRiskCalibrator(0.2).fit(P[others], y[others]).threshold_
    assert skipped > expected + 2 * 0.02
