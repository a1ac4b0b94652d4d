"""Margins around hard masks: against repeated dilations, all pairs of pixels, and closed forms."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

import conformask as cm
import margins_twin as twin

METRICS = ["euclidean", "cityblock", "chessboard"]


def problem(n: int = 24, seed: int = 0, shape: tuple[int, ...] = (11, 13)) -> tuple[NDArray, NDArray]:
    """Predicted blobs and true ones near them, with holes and stray pixels; masks that touch the border."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(
        rng.normal(size=(2, n, *shape)), (0, 0, *[1.5] * len(shape)), mode="nearest"
    )
    shared, own = smooth / smooth.std()
    masks = shared > 0.6
    y = (shared + 0.5 * own > 0.5).astype(np.uint8)
    y[rng.random(y.shape) < 0.1] = twin.VOID
    for each, one in ((masks, True), (y, 1)):  # none is without a foreground
        each.reshape(n, -1)[:, 5] = np.where(
            (each == 1).reshape(n, -1).any(axis=1), each.reshape(n, -1)[:, 5], one
        )
    return masks, y


def disks(
    n: int, seed: int = 0, size: int = 24
) -> tuple[NDArray[np.float64], NDArray[np.float64], np.random.Generator]:
    """How far pixels are from the centres of disks, and their radii."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] - size / 2
    shift = rng.uniform(-2, 2, (2, n, 1, 1))
    return np.hypot(rows - shift[0], columns - shift[1]), rng.uniform(4, 6, (n, 1, 1)), rng


def shares(side: str, share: str) -> dict[str, Fraction]:
    """The parameters that ask for a share."""
    return {"min_coverage": Fraction(share)} if side == "outer" else {"max_background": 1 - Fraction(share)}


# By definition


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("side", ["outer", "inner"])
@pytest.mark.parametrize("share", ["1", "0.9", "1/2"])
@pytest.mark.parametrize("shape", [(11, 13), (4, 6, 5)])
def test_margins_and_masks_are_those_of_the_twin(
    metric: str, side: str, share: str, shape: tuple[int, ...]
) -> None:
    masks, y = problem(shape=shape, seed=len(shape))
    one = (1.0,) * len(shape)
    calibrator = cm.MarginCalibrator(0.2, side=side, metric=metric, **shares(side, share)).fit(masks, y)
    known = [
        twin.need(mask, labels, side, Fraction(share), metric, one)
        for mask, labels in zip(masks, y, strict=True)
    ]
    assert calibrator.scores_.tolist() == known
    assert calibrator.margin_ == twin.margin(known, Fraction(1, 5))
    assert share != "1" or calibrator.margin_ > 0
    make = twin.outer_mask if side == "outer" else twin.inner_mask
    expected = np.stack([make(mask, calibrator.margin_, metric, one) for mask in masks])
    assert np.array_equal(calibrator.predict(masks), expected)
    n_wrong = sum(
        not twin.is_right(held, labels, side, Fraction(share))
        for held, labels in zip(expected, y, strict=True)
    )
    assert calibrator.risk_ == n_wrong / len(masks)
    assert calibrator.corrected_risk_ == pytest.approx((n_wrong + 1) / (len(masks) + 1), abs=1e-15)


@pytest.mark.parametrize("side", ["outer", "inner"])
@pytest.mark.parametrize(
    ("shape", "spacing"), [((9, 12), (0.3, 0.7)), ((4, 7, 6), (3.0, 0.7, 0.7)), ((5, 5, 5), (0.1, 2.5, 0.4))]
)
def test_anisotropic_spacing_by_all_pairs(
    side: str, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    masks, y = problem(shape=shape, seed=4)
    calibrator = cm.MarginCalibrator(0.2, side=side, **shares(side, "0.9")).fit(masks, y, spacing=spacing)
    known = [
        twin.need(m, labels, side, Fraction("0.9"), "euclidean", spacing)
        for m, labels in zip(masks, y, strict=True)
    ]
    assert np.allclose(calibrator.scores_, known, rtol=1e-12, atol=0)
    far = np.stack([twin.pair_distances(mask if side == "outer" else ~mask, spacing) for mask in masks])
    sign = 1 if side == "outer" else -1
    assert np.allclose((sign * calibrator.predict_distance(masks, spacing=spacing)).clip(0), far)
    for alpha in (0.05, 0.2, 0.6):
        again = calibrator.recalibrate(alpha=alpha)
        near = far <= again.margin_
        found = again.predict(masks, spacing=spacing) == (near if side == "outer" else ~near)
        assert found[abs(far - again.margin_) > 1e-9].all()  # there, sums are rounded in another order


@pytest.mark.parametrize(
    ("metric", "spacing"),
    [
        *[("euclidean", spacing) for spacing in (None, 0.7, (0.3, 0.4), (0.1, 0.1), (0.6, 0.8))],
        *[(metric, spacing) for metric in METRICS[1:] for spacing in (None, 0.7, (0.1, 0.1))],
    ],
)
@pytest.mark.parametrize("side", ["outer", "inner", "both"])
def test_the_masks_of_calibration_images_have_the_very_risk(metric: str, side: str, spacing: object) -> None:
    """Distances that tie but for rounding, as 4 * 0.3 and 3 * 0.4, must be the same floats in both."""
    masks, y = problem(n=60, seed=5, shape=(15, 17))
    calibrator = cm.MarginCalibrator(
        0.2, side=side, metric=metric, min_coverage=0.95, max_background=0.01
    ).fit(masks, y, spacing=spacing)
    scores = calibrator.scores_.reshape(60, -1)
    sides = ["outer", "inner"] if side == "both" else [side]
    wrong = np.zeros((60, len(sides)), bool)
    for i, each in enumerate(sides):
        asked = Fraction("0.95") if each == "outer" else Fraction("0.99")
        margin = getattr(calibrator, f"{each}_margin_")
        for alpha in (0.2, 0.3, 0.5, 0.7):  # at many margins, each of which is a distance of some image
            again = calibrator.recalibrate(alpha=alpha)
            found = again.predict(masks, spacing=spacing)
            held = getattr(found, each) if side == "both" else found
            wrong[:, i] = [not twin.is_right(h, t, each, asked) for h, t in zip(held, y, strict=True)]
            assert wrong[:, i].tolist() == (scores[:, i] > getattr(again, f"{each}_margin_")).tolist()
        found = calibrator.predict(masks, spacing=spacing)
        held = getattr(found, each) if side == "both" else found
        wrong[:, i] = [not twin.is_right(h, t, each, asked) for h, t in zip(held, y, strict=True)]
        assert margin > 0
    assert calibrator.risk_ == wrong.any(axis=1).mean()
    report = calibrator.evaluate(masks, y, spacing=spacing)
    assert report.empirical_risk == calibrator.risk_
    assert report.losses.tolist() == wrong.any(axis=1).tolist()


def test_shares_are_compared_exactly() -> None:
    """0.7 of 10 pixels are 7, though 0.7 * 10 rounds to another float in other shares."""
    mask = np.zeros((1, 30), bool)
    mask[0, 0] = True
    for percent in range(1, 101):
        y = np.zeros((1, 30), np.uint8)
        y[0, :25] = 1
        found = cm.MarginCalibrator(0.5, min_coverage=percent / 100).fit([mask], [y]).scores_
        assert found.tolist() == [math.ceil(Fraction(percent, 100) * 25) - 1.0]


@pytest.mark.parametrize(("radius", "delta"), [(5, 1), (6, 3), (9, 4.5), (12, 0)])
def test_a_disk_around_a_disk(radius: float, delta: float) -> None:
    """Of a disk of radius r + delta around one of r the margin is delta, up to a pixel."""
    far = np.hypot(*np.mgrid[-20:21, -20:21])
    both = [(far <= radius)[None], (far <= radius + delta)[None]]
    outer = cm.MarginCalibrator(0.5).fit(*both).margin_
    inner = cm.MarginCalibrator(0.5, side="inner").fit(both[1], both[0]).margin_
    assert abs(outer - delta) <= 1
    assert abs(inner - delta) <= 1
    coarse = cm.MarginCalibrator(0.5).fit(*both, spacing=0.5).margin_
    assert coarse == outer / 2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", ["1", "0.98"])
def test_inner_margins_are_outer_ones_of_the_complements(metric: str, share: str) -> None:
    masks, y = problem(seed=6)
    other = np.where(y == 255, 255, 1 - y)
    inner = cm.MarginCalibrator(0.2, side="inner", metric=metric, **shares("inner", share)).fit(masks, y)
    outer = cm.MarginCalibrator(0.2, metric=metric, **shares("outer", share)).fit(~masks, other)
    assert inner.scores_.tolist() == outer.scores_.tolist()
    assert inner.margin_ == outer.margin_ > 0
    assert np.array_equal(inner.predict(masks), ~outer.predict(~masks))
    assert np.array_equal(inner.predict_distance(masks), -outer.predict_distance(~masks))


def test_signed_distances_tell_both_masks() -> None:
    masks, y = problem(seed=7)
    both = cm.MarginCalibrator(0.4, side="both").fit(masks, y, spacing=(0.5, 2))
    found, far = both.predict(masks, spacing=(0.5, 2)), both.predict_distance(masks, spacing=(0.5, 2))
    assert np.array_equal(found.outer, far <= both.outer_margin_)
    assert np.array_equal(found.inner, far < -both.inner_margin_)
    assert np.array_equal(far < 0, masks)
    assert np.array_equal(found.band, found.outer & ~found.inner)
    assert (found.inner <= masks).all()
    assert (masks <= found.outer).all()


# The order statistic


@pytest.mark.parametrize("n", [9, 10, 19, 30, 57])
@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.7, 0.05])
def test_the_margin_is_the_order_statistic(n: int, alpha: float) -> None:
    """With the exact index: of 9 images at 0.7 the third, where floats would say the fourth."""
    rng = np.random.default_rng(n)
    mask, y = np.array([[1, 0]]), np.array([[1, 1]])
    spacing = rng.permutation(n)[:, np.newaxis] + [[1.0, 1.0]]  # the margin that each image needs
    k = math.ceil((n + 1) * (1 - Fraction(str(alpha))))
    calibrator = cm.MarginCalibrator(alpha)
    if k > n:
        with pytest.raises(cm.InfeasibleRiskError, match=rf"alpha={alpha} needs at least .* there are {n}"):
            calibrator.fit([mask] * n, [y] * n, spacing=spacing)
        return
    calibrator.fit([mask] * n, [y] * n, spacing=spacing)
    assert calibrator.margin_ == k
    assert calibrator.margin_ == cm.kernels.lambda_hat(
        calibrator.scores_, None, Fraction(str(alpha)) * (n + 1) - 1
    )


@pytest.mark.parametrize(
    ("n", "alpha", "delta", "k"), [(100, 0.1, 0.1, 95), (59, 0.05, 0.05, 59), (22, 0.1, 0.1, 22)]
)
def test_with_confidence_it_is_a_later_one(n: int, alpha: float, delta: float, k: int) -> None:
    mask, y = [np.array([[1, 0]])] * n, [np.array([[1, 1]])] * n
    spacing = np.arange(1, n + 1)[:, np.newaxis] * [[1.0, 1.0]]
    calibrator = cm.MarginCalibrator(alpha, method=cm.PAC(delta)).fit(mask, y, spacing=spacing)
    assert calibrator.margin_ == k
    assert calibrator.corrected_risk_ <= alpha
    with pytest.raises(cm.InfeasibleRiskError):
        cm.MarginCalibrator(alpha, method=cm.PAC(delta)).fit(mask[:21], y[:21], spacing=spacing[:21])


def test_both_sides_have_half_of_alpha_and_of_delta() -> None:
    masks, y = problem(n=100, seed=8)
    both = cm.MarginCalibrator(0.2, side="both").fit(masks, y)
    outer = cm.MarginCalibrator(0.1).fit(masks, y)
    inner = cm.MarginCalibrator(0.1, side="inner").fit(masks, y)
    assert (both.outer_margin_, both.inner_margin_) == (outer.margin_, inner.margin_)
    assert both.corrected_risk_ == pytest.approx(outer.corrected_risk_ + inner.corrected_risk_)
    assert max(outer.risk_, inner.risk_) <= both.risk_ <= outer.risk_ + inner.risk_ + 1e-12 <= 0.2
    confident = both.recalibrate(method=cm.PAC(0.2))
    assert confident.outer_margin_ == outer.recalibrate(method=cm.PAC(0.1)).margin_
    assert confident.inner_margin_ == inner.recalibrate(method=cm.PAC(0.1)).margin_
    with pytest.raises(AttributeError, match="two margins: outer_margin_ and inner_margin_"):
        both.margin_  # noqa: B018
    with pytest.raises(AttributeError, match="side='outer' has no inner margin"):
        outer.inner_margin_  # noqa: B018


def test_groups_and_weights_by_definition() -> None:
    masks, y = problem(n=40, seed=9)
    scores = cm.MarginCalibrator(0.3).fit(masks, y).scores_
    groups = [i // 4 for i in range(40)]
    grouped = cm.MarginCalibrator(0.3).fit(masks, y, groups=groups)
    weights = [(i % 5) / 4 for i in range(40)]
    weighted = cm.MarginCalibrator(0.3).fit(masks, y, sample_weight=weights)
    for fitted, each, total in (
        (grouped, [Fraction(1, 4)] * 40, 10),
        (weighted, [Fraction(weight) for weight in weights], 20),
    ):
        allowed = Fraction(3, 10) * (total + 1) - 1
        known = next(
            m
            for m in sorted({0.0, *scores})
            if sum((s for s, score in zip(each, scores, strict=True) if score > m), Fraction()) <= allowed
        )
        assert fitted.margin_ == known > 0
    assert grouped.n_images_ == 10
    assert weighted.n_eff_ == pytest.approx(20**2 / sum(weight**2 for weight in weights))
    with pytest.raises(ValueError, match="group of several images"):
        cm.MarginCalibrator(0.3, method=cm.PAC(0.1)).fit(masks, y, groups=groups)
    by_rcps = cm.MarginCalibrator(0.6, method=cm.RCPS(0.3)).fit(masks, y, groups=groups)
    assert by_rcps.margin_ >= cm.MarginCalibrator(0.6).fit(masks, y, groups=groups).margin_


# Masks that hold nothing, or everything


def test_empty_masks_and_empty_truths() -> None:
    far, radii, rng = disks(20)
    masks, y = far < radii + rng.normal(0, 1, radii.shape), far < radii
    masks[3], y[5], y[7], masks[7] = False, False, False, False
    with pytest.warns(cm.DroppedImagesWarning, match="2 of 20 images have no pixel of the foreground"):
        fitted = cm.MarginCalibrator(0.2).fit(masks, y)
    scores = fitted.scores_
    assert (scores[3], np.isnan(scores).nonzero()[0].tolist()) == (math.inf, [5, 7])
    assert (fitted.n_images_, fitted.n_skipped_) == (18, 2)
    assert fitted.margin_ == sorted(np.delete(scores, [5, 7]))[math.ceil(19 * 0.8) - 1]
    outer = fitted.predict(masks)
    assert not outer[3].any()  # no finite margin makes it right
    assert not outer[7].any()
    for_all = cm.MarginCalibrator(0.2, on_empty="zero_loss").fit(masks, y)
    assert for_all.margin_ == sorted(np.nan_to_num(scores, posinf=math.inf))[math.ceil(21 * 0.8) - 1]
    with pytest.raises(ValueError, match="image 5 has no pixel of the foreground"):
        cm.MarginCalibrator(0.2, on_empty="raise").fit(masks, y)
    inner = cm.MarginCalibrator(0.2, side="inner").fit(masks, y)
    assert inner.scores_[3] == inner.scores_[7] == 0  # nothing is held, nothing is wrong
    assert inner.scores_[5] == cm.MarginCalibrator(0.5).fit(~masks[5:6], ~y[5:6]).margin_ > 3
    with pytest.warns(cm.DroppedImagesWarning, match="have no pixel of the foreground or the background"):
        assert cm.MarginCalibrator(0.3, side="both").fit(masks, y).n_images_ == 18


def test_full_masks() -> None:
    far, radii, _ = disks(9)
    full, y = np.ones(far.shape, bool), far < radii
    outer = cm.MarginCalibrator(0.1).fit(full, y)
    assert (outer.margin_, outer.risk_) == (0, 0)
    assert outer.predict(full).all()
    with pytest.raises(cm.InfeasibleRiskError, match="of 9 images 9 need an infinite one, image 0 first"):
        cm.MarginCalibrator(0.1, side="inner").fit(full, y)
    some = cm.MarginCalibrator(0.2, side="both").fit(far < radii + 1, y)
    inner, outer = some.predict(full)  # there is no contour, and nothing outside from which to shrink
    assert inner.all()
    assert outer.all()
    assert (some.predict_distance(full) == -math.inf).all()
    assert (some.predict_distance(~full) == math.inf).all()
    assert not np.any(some.predict(~full))
    alike = np.ones((1, 6, 6), bool)
    assert cm.MarginCalibrator(0.5).fit(alike, alike).margin_ == 0
    with pytest.raises(cm.InfeasibleRiskError, match=r"there are none \(1 image without a pixel of the back"):
        cm.MarginCalibrator(0.5, side="inner").fit(alike, alike)


def test_no_finite_margin() -> None:
    """As many empty masks as may fail, and one more."""
    far, radii, _ = disks(19)
    y, masks = far < radii, far < radii - 1
    masks[:1] = False
    one = cm.MarginCalibrator(0.1).fit(masks, y)
    assert 0 < one.margin_ < 3
    masks[:2] = False
    with pytest.raises(
        cm.InfeasibleRiskError, match=r"alpha=0\.1 has no finite margin: of 19 images 2"
    ) as found:
        one.fit(masks, y)
    assert (found.value.n_infeasible, found.value.n_needed) == (2, 9)
    assert one.recalibrate(alpha=0.15).margin_ < 3  # what the images need was kept
    with pytest.warns(cm.InfeasibleRiskWarning, match="image 0 first.*outer masks hold every pixel$"):
        full = cm.MarginCalibrator(0.1, on_infeasible="full").fit(masks, y)
    assert (full.margin_, full.risk_) == (math.inf, 0)
    assert full.corrected_risk_ == 1 / 20
    assert full.predict(masks).all()
    report = full.evaluate(masks, y)
    assert report.infeasible
    assert report.verdict.startswith("There is no finite margin that keeps alpha with the 19 images")
    assert '"outer_margin": "inf"' in report.to_json()
    with pytest.warns(
        cm.InfeasibleRiskWarning, match="alpha=0.01 needs at least 199 .*, and inner masks are"
    ):
        both = cm.MarginCalibrator(0.01, side="both", on_infeasible="full").fit(masks, y)
    assert (both.outer_margin_, both.inner_margin_) == (math.inf, math.inf)
    inner, outer = both.predict(masks)
    assert outer.all()
    assert not inner.any()


def test_the_border_of_an_image_is_no_boundary() -> None:
    mask, y = np.zeros((1, 6, 9), bool), np.zeros((1, 6, 9), np.uint8)
    mask[:, :, :6], y[:, :, :4] = True, 1
    inner = cm.MarginCalibrator(0.5, side="inner").fit(mask, y)
    assert inner.margin_ == 2
    assert inner.predict(mask)[0].tolist() == [[True] * 4 + [False] * 5] * 6


def test_a_share_of_the_inner_mask_may_rise_with_the_margin_and_one_of_the_background_not() -> None:
    """Erosion takes away the right pixels first here: of seven pixels four are right, of the one that stays none."""
    mask = np.array([[1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1]], bool)
    y = np.array([[1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 1]])
    eroded = twin.eroded(mask, 1, "chessboard")
    assert [(each.sum(), (each & (y == 0)).sum()) for each in (mask, eroded)] == [(7, 3), (1, 1)]
    needs = [
        cm.MarginCalibrator(0.5, side="inner", max_background=Fraction(false, 7)).fit([mask], [y]).margin_
        for false in range(4)
    ]
    assert needs == [2, 1, 1, 0]


# Void


def test_what_is_labelled_void_changes_nothing() -> None:
    masks, y = problem(seed=10)
    fitted = cm.MarginCalibrator(0.2, side="both", ignore_index=-1)
    signed = np.where(y == 255, -1, y.astype(int))
    known = cm.MarginCalibrator(0.2, side="both").fit(masks, y)
    fitted.fit(masks, signed)
    assert np.array_equal(fitted.scores_, known.scores_)
    assert fitted.evaluate(masks, signed).to_dict() == known.evaluate(masks, y).to_dict()
    sure = cm.MarginCalibrator(0.2).fit(masks, np.where(y == 255, masks, y))
    assert (sure.scores_ <= known.scores_[:, 0]).all()  # as many pixels more, all of them right


# The report


def test_the_report_by_definition() -> None:
    masks, y = problem(n=60, seed=11)
    y[33:35][y[33:35] == 1] = 0
    fitted = cm.MarginCalibrator(
        0.3, side="both", min_coverage=0.9, max_background=0.02, on_empty="skip"
    ).fit(masks[:30], y[:30])
    report = fitted.evaluate(masks[30:], y[30:])
    inner, outer = fitted.predict(masks[30:])
    masks, y = masks[30:], y[30:]
    empty = ~(y == 1).any(axis=(1, 2))
    coverages = np.array(
        [o[t == 1].mean() if (t == 1).any() else np.nan for o, t in zip(outer, y, strict=True)]
    )
    rates = np.array([i[t == 0].mean() for i, t in zip(inner, y, strict=True)])
    wrong_outer, wrong_inner = coverages < 0.9, rates > 0.02
    bands = np.array([(o & ~i)[t != 255].mean() for i, o, t in zip(inner, outer, y, strict=True)])
    assert np.allclose(report.coverages, coverages, equal_nan=True)
    assert np.allclose(report.false_positive_rates, rates)
    assert np.allclose(report.bands, bands)
    losses = np.where(empty, np.nan, wrong_outer | wrong_inner)
    assert np.array_equal(report.losses, losses, equal_nan=True)
    assert report.empirical_risk == np.nanmean(losses)
    assert report.outer_risk == wrong_outer[~empty].mean()
    assert report.inner_risk == wrong_inner[~empty].mean()
    assert report.coverage == pytest.approx(np.nanmean(coverages))
    assert report.false_positive_rate == pytest.approx(rates.mean())
    assert report.band == pytest.approx(bands.mean())
    known = y != 255
    sizes = [[(m & k).sum() for m, k in zip(each, known, strict=True)] for each in (masks, outer, inner)]
    assert report.outer_size == pytest.approx(np.mean(np.divide(sizes[1], sizes[0])))
    assert report.inner_size == pytest.approx(np.mean(np.divide(sizes[2], sizes[0])))
    assert (report.n_images, report.n_skipped) == (28, 2)
    assert report.interval_method == "Clopper-Pearson over 28 images"
    assert report.interval[0] < report.empirical_risk < report.interval[1]
    assert fitted.score(masks, y) == 1 - report.empirical_risk
    text = str(report)
    for said in ("images less than 90 % covered", "images with more than 2 % of the background", "pixels"):
        assert said in text
    alone = cm.MarginCalibrator(0.3).fit(masks[~empty], y[~empty]).evaluate(masks[~empty], y[~empty])
    assert math.isnan(alone.inner_margin)
    assert math.isnan(alone.inner_size)
    assert "inner" not in str(alone)
    assert np.allclose(
        alone.bands,
        [
            ((twin.outer_mask(m, alone.outer_margin, "euclidean", (1, 1)) & ~m)[k]).mean()
            for m, k in zip(masks[~empty], known[~empty], strict=True)
        ],
    )


def test_evaluating_on_images_of_calibration_is_told() -> None:
    masks, y = problem(seed=12)
    fitted = cm.MarginCalibrator(0.2).fit(masks, y)
    mixed = [np.concatenate(pair) for pair in zip((masks[:3], y[:3]), problem(n=1, seed=13), strict=True)]
    with pytest.warns(UserWarning, match="these images seem to be those of calibration: 3 of 4 have"):
        fitted.evaluate(*mixed)
