"""The explorer in Jupyter, driven by its controls: what it shows is what the calibrator says at that level."""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.exceptions import NotFittedError

import conformask as cm

pytest.importorskip("ipywidgets", reason="the widgets of the extra `explore`")
pytest.importorskip("matplotlib", reason="the pictures of the extra `explore`")

from matplotlib import colors, image

NAMES = ["road", "car", "sky & sun", "<person>"]
K, H, W = 4, 6, 10
N, N_CALIBRATION = 60, 50


def problem(shape: tuple[int, ...] = (H, W), n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels that are drawn from them, with some void."""
    rng = np.random.default_rng(seed)
    X = np.moveaxis(rng.dirichlet(np.full(K, 0.4), (n, *shape)), -1, 1).astype(np.float32)
    y = (X.cumsum(axis=1) < rng.random((n, 1, *shape))).sum(axis=1).clip(max=K - 1)
    y[..., 0, :2] = 255
    return X, y


X, Y = problem()
NEW, NEW_Y = X[N_CALIBRATION:], Y[N_CALIBRATION:]
PHOTOS = np.random.default_rng(1).integers(0, 256, (len(NEW), H, W, 3), np.uint8)


def fitted(score: Any = "lac", **given: Any) -> cm.ConformalRiskCalibrator:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cm.InfeasibleRiskWarning)
        return cm.ConformalRiskCalibrator(score, **{"alpha": 0.1, **given}).fit(
            X[:N_CALIBRATION], Y[:N_CALIBRATION]
        )


CALIBRATOR = fitted()


def opened(calibrator: Any = CALIBRATOR, **given: Any) -> Any:
    return cm.explore(calibrator, NEW, PHOTOS, NEW_Y, **{"class_names": NAMES, **given})


def says(explorer: Any, name: str) -> str:
    return str(explorer.numbers[name])


def all_text(explorer: Any) -> str:
    """The HTML of the widget and of all below it."""
    found, left = [], [explorer]
    while left:
        widget = left.pop()
        left += getattr(widget, "children", ())
        found.append(getattr(widget, "value", ""))
    return "\n".join(text for text in found if isinstance(text, str))


def pixel_text(explorer: Any) -> str:
    """What is said of the pixel."""
    (found,) = (text for text in all_text(explorer).split("\n") if 'class="cm-pixel"' in text)
    return found


def drawn(png: bytes, shape: tuple[int, int] = (H, W)) -> np.ndarray:
    """The colours in the middle of each pixel of a map."""
    picture = image.imread(io.BytesIO(png), format="png")[..., :3]
    rows, columns = (
        ((np.arange(n) + 0.5) * size / n).astype(int)
        for n, size in zip(shape, picture.shape[:2], strict=True)
    )
    return picture[rows[:, None], columns]


def test_it_opens_at_the_calibrated_level() -> None:
    explorer = opened()
    assert explorer.lambda_ == CALIBRATOR.lambda_hat_ == explorer.lam.value
    assert explorer.alpha.value == 0.1
    np.testing.assert_array_equal(explorer.sets, CALIBRATOR.predict(NEW[:1])[0])
    np.testing.assert_array_equal(explorer.sizes, CALIBRATOR.set_size(NEW[:1])[0])
    assert says(explorer, "risk on calibration") == f"{CALIBRATOR.risk_:.4f}"
    assert says(explorer, "smallest alpha kept") == f"{CALIBRATOR.corrected_risk_:.4f}"
    assert explorer.lam.max == 1


def test_alpha_moves_lambda_as_recalibration_does() -> None:
    explorer = opened()
    for alpha in (0.05, 0.15, 0.2):
        explorer.alpha.value = alpha
        twin = CALIBRATOR.recalibrate(alpha=alpha)
        assert explorer.lambda_ == twin.lambda_hat_ == explorer.lam.value
        np.testing.assert_array_equal(explorer.sets, twin.predict(NEW[:1])[0])
        assert says(explorer, "risk on calibration") == f"{twin.risk_:.4f}"
        report = twin.evaluate(NEW[:1], NEW_Y[:1])
        assert says(explorer, "coverage, this image") == f"{100 * report.coverage:.1f} %"
        assert says(explorer, "set size, this image") == f"{report.activation_ratio:.2f}"


@pytest.mark.parametrize("score", ["lac", "aps", cm.SACP(window=3)])
def test_lambda_moves_alpha_to_the_smallest_that_it_keeps(score: Any) -> None:
    calibrator = fitted(score)
    explorer = opened(calibrator)
    n_inside = 0
    for lam in (0.0, 0.3, 0.777, 0.9, 1.0):
        explorer.lam.value = lam
        assert explorer.lambda_ == lam
        np.testing.assert_array_equal(explorer.sets, cm.kernels.threshold(NEW[:1], lam, score)[0])
        risk = calibrator.profiles_.risk("miscoverage", lam)
        kept = (N_CALIBRATION * risk + 1) / (N_CALIBRATION + 1)
        assert says(explorer, "risk on calibration") == f"{risk:.4f}"
        assert says(explorer, "smallest alpha kept") == f"{kept:.4f}"
        alpha, step = explorer.alpha.value, explorer.alpha.step
        if explorer.alpha.min < alpha < explorer.alpha.max:
            n_inside += 1
            assert kept <= alpha < kept + step
            # At this alpha calibration asks for no more; at one step less it does.
            assert calibrator.recalibrate(alpha=alpha).lambda_hat_ <= lam
            assert calibrator.recalibrate(alpha=alpha - step).lambda_hat_ > lam
    assert n_inside >= 2


def test_the_slider_of_alpha_ends_where_levels_end() -> None:
    """At the least alpha that 50 images allow, and where sets are the most probable class alone."""
    explorer = opened()
    assert explorer.alpha.min == 0.02  # 1 / 51, rounded up
    top1 = CALIBRATOR.profiles_.risk("miscoverage", 0.0)
    assert explorer.alpha.max == pytest.approx(min(0.5, (50 * top1 + 1) / 51), abs=0.001)
    explorer.alpha.value = explorer.alpha.min
    assert explorer.lambda_ == CALIBRATOR.recalibrate(alpha=0.02).lambda_hat_
    explorer.alpha.value = explorer.alpha.max
    assert explorer.lambda_ == CALIBRATOR.recalibrate(alpha=explorer.alpha.max).lambda_hat_


def test_it_goes_back_to_what_was_calibrated() -> None:
    explorer = opened()
    explorer.lam.value = 0.2
    explorer.as_calibrated.click()
    assert (explorer.lambda_, explorer.alpha.value) == (CALIBRATOR.lambda_hat_, 0.1)
    np.testing.assert_array_equal(explorer.sets, CALIBRATOR.predict(NEW[:1])[0])


def test_a_browser_that_rounds_to_steps_moves_nothing() -> None:
    """It says the step that is nearest to the lambda that it was told, which is not what was calibrated."""
    explorer = opened()
    step = explorer.lam.step
    rounded = round(CALIBRATOR.lambda_hat_ / step) * step
    assert rounded != CALIBRATOR.lambda_hat_
    explorer.lam.value = rounded
    assert explorer.lambda_ == CALIBRATOR.lambda_hat_
    explorer.lam.value = rounded + step
    assert explorer.lambda_ == rounded + step


# Maps


def test_missed_pixels_are_those_whose_set_lacks_the_label() -> None:
    explorer = opened()
    masks = CALIBRATOR.predict(NEW)
    for place in (0, 3):
        explorer.image.value = place
        known = np.where(NEW_Y[place] == 255, 0, NEW_Y[place])
        covered = np.take_along_axis(masks[place], known[None], axis=0)[0]
        np.testing.assert_array_equal(explorer.missed, ~covered & (NEW_Y[place] != 255))
        assert explorer.missed.any()
        red = np.abs(drawn(explorer.pictures["missed"]) - colors.to_rgb("#c0392b")).max(axis=-1) < 0.01
        np.testing.assert_array_equal(red, explorer.missed)


def test_maps_show_labels_and_the_most_probable_class() -> None:
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
    explorer = cm.explore(CALIBRATOR, NEW, y=NEW_Y, palette=palette)
    assert "image" not in explorer.pictures
    shown = drawn(explorer.pictures["predicted"])
    np.testing.assert_allclose(shown, palette[NEW[0].argmax(axis=0)] / 255, atol=0.01)
    void = NEW_Y[0] == 255
    labels = drawn(explorer.pictures["labels"])
    np.testing.assert_allclose(labels[~void], palette[NEW_Y[0][~void]] / 255, atol=0.01)
    np.testing.assert_allclose(labels[void], 0.62, atol=0.01)


def test_the_image_is_shown_as_it_is() -> None:
    explorer = opened()
    explorer.image.value = 2
    np.testing.assert_allclose(drawn(explorer.pictures["image"]), PHOTOS[2] / 255, atol=0.005)
    grey = cm.explore(CALIBRATOR, NEW, PHOTOS[..., 0])
    np.testing.assert_allclose(drawn(grey.pictures["image"])[..., 0], PHOTOS[0, ..., 0] / 255, atol=0.005)


def test_the_class_that_is_chosen_is_shown() -> None:
    """In its colour where it is alone in the set, lighter where it is not, else not."""
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
    explorer = cm.explore(CALIBRATOR, NEW, class_names=NAMES, palette=palette)
    before = explorer.pictures["may_be"]
    explorer.label.value = 2
    assert explorer.pictures["may_be"] != before
    shown, held = drawn(explorer.pictures["may_be"]), explorer.sets[2]
    alone = held & (explorer.sizes == 1)
    assert alone.any()
    assert (held & ~alone).any()
    np.testing.assert_allclose(shown[alone], np.tile([0, 0, 1], (alone.sum(), 1)), atol=0.01)
    np.testing.assert_allclose(shown[held & ~alone, 0], 0.6, atol=0.01)
    assert shown[~held].max() < 0.1
    assert "Where sky &amp; sun may be" in all_text(explorer)


def test_sizes_are_drawn_and_counted() -> None:
    explorer = cm.explore(CALIBRATOR, NEW)
    shown = drawn(explorer.pictures["sizes"])
    of_size = [shown[explorer.sizes == size] for size in range(1, K + 1)]
    means = [each.mean() for each in of_size if len(each)]
    assert means == sorted(means)  # the larger, the brighter
    assert len(means) >= 3
    before = explorer.pictures
    explorer.lam.value = 1.0
    assert (explorer.sizes == K).all()
    for name in ("sizes", "may_be", "shares", "curve"):
        assert explorer.pictures[name] != before[name]
    assert explorer.pictures["predicted"] == before["predicted"]


def test_empty_sets_are_named() -> None:
    calibrator = fitted(cm.LAC(include_top1=False))
    explorer = opened(calibrator)
    assert ">empty</span>" not in all_text(explorer)
    explorer.lam.value = 0.2
    assert ">empty</span>" in all_text(explorer)
    assert says(explorer, "set size, this image").startswith("0.")
    cyan = np.abs(drawn(explorer.pictures["sizes"]) - [0.35, 0.85, 0.9]).max(axis=-1) < 0.01
    np.testing.assert_array_equal(cyan, (explorer.sizes == 0) & (NEW_Y[0] != 255))


# The pixel


def test_the_set_of_a_pixel() -> None:
    explorer = opened()
    for row, column in ((0, 0), (3, 7), (H - 1, W - 1)):
        explorer.row.value, explorer.column.value = row, column
        order = np.argsort(-NEW[0, :, row, column])
        held = CALIBRATOR.predict(NEW[:1])[0, :, row, column]
        assert explorer.pixel_set == [NAMES[k] for k in order if held[k]]
        table = pixel_text(explorer)
        assert f"({row}, {column})" in table
        assert f"{held.sum()} of {K} classes" in table
        assert ("label is not known" in table) == (NEW_Y[0, row, column] == 255)
    rows, columns = np.nonzero(explorer.missed)
    explorer.row.value, explorer.column.value = int(rows[0]), int(columns[0])
    assert "The set lacks the label" in pixel_text(explorer)


@pytest.mark.parametrize("inputs", ["logits", "scores"])
def test_probabilities_of_a_pixel_are_those_that_the_score_sees(inputs: str) -> None:
    given = {"logits": np.log(X.clip(1e-6)) + 3, "scores": 7 * X}[inputs]
    calibrator = cm.ConformalRiskCalibrator(alpha=0.1, inputs=inputs).fit(given[:50], Y[:50])
    explorer = cm.explore(calibrator, given[50:])
    explorer.row.value, explorer.column.value = 2, 3
    there = given[50, :, 2, 3].astype(float)
    known = softmax(there) if inputs == "logits" else there / there.sum()
    assert known.min() > 0.001
    shares = re.findall(r'"cm-number">([^<]*)<', pixel_text(explorer))
    assert sorted(shares) == sorted(f"{100 * share:.1f} %" for share in known)


def test_a_scaler_is_looked_through() -> None:
    """It may move the most probable class: what is shown is that of the scaled probabilities."""
    skewed = np.where((Y[:20] == 1) & (np.arange(W) % 4 > 0), 0, Y[:20])
    scaler = cm.VectorScaler(inputs="probabilities").fit(X[:20], skewed)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.2, transform=scaler).fit(X[20:50], Y[20:50])
    palette = np.eye(4)[:, :3]
    explorer = cm.explore(calibrator, NEW, palette=palette)
    scaled = scaler.transform(NEW[:1])[0]
    assert (scaled.argmax(axis=0) != NEW[0].argmax(axis=0)).any()
    np.testing.assert_allclose(
        drawn(explorer.pictures["predicted"]), palette[scaled.argmax(axis=0)], atol=0.01
    )
    np.testing.assert_array_equal(explorer.sets, calibrator.predict(NEW[:1])[0])


def pointed(explorer: Any, kind: str, row: int, column: int, size: tuple[int, int] = (300, 500)) -> None:
    """A pointer over the middle of a pixel of a map that is so many pixels of the screen high and wide."""
    explorer._events[0]._handle_mouse_msg(
        None,
        {
            "type": kind,
            "relativeY": int((row + 0.5) * size[0] / H),
            "relativeX": int((column + 0.5) * size[1] / W),
            "boundingRectHeight": size[0],
            "boundingRectWidth": size[1],
        },
        None,
    )


def test_the_pointer_chooses_the_pixel_and_a_click_holds_it() -> None:
    pytest.importorskip("ipyevents", reason="what tells of the pointer")
    explorer = opened()
    assert len(explorer._events) == 6
    for row in range(H):
        for column in range(W):
            pointed(explorer, "mousemove", row, column, (97, 211))
            assert (explorer.row.value, explorer.column.value) == (row, column)
    pointed(explorer, "click", 4, 8)
    pointed(explorer, "mousemove", 1, 1)
    assert (explorer.row.value, explorer.column.value) == (4, 8)
    assert "(4, 8)" in pixel_text(explorer)
    pointed(explorer, "click", 2, 2)
    pointed(explorer, "mousemove", 1, 1)
    assert (explorer.row.value, explorer.column.value) == (1, 1)
    pointed(explorer, "mousemove", H, W)  # the edge belongs to the last pixel
    assert (explorer.row.value, explorer.column.value) == (H - 1, W - 1)


def test_without_what_tells_of_the_pointer_the_sliders_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipyevents", None)
    explorer = opened()
    assert explorer._events == [None] * 6
    assert "a click holds it" not in all_text(explorer)
    explorer.row.value = 5
    assert "(5, " in pixel_text(explorer)


# Images


class Counted(Sequence):
    """Images that count how often each is read."""

    def __init__(self, images: Sequence[Any]) -> None:
        self._images, self.read = images, []

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: Any) -> Any:
        self.read.append(place)
        return self._images[place]


def test_an_image_is_read_when_it_is_chosen_and_once() -> None:
    maps, labels, photos = Counted(list(NEW)), Counted(list(NEW_Y)), Counted(PHOTOS)
    explorer = cm.explore(CALIBRATOR, maps, photos, labels)
    explorer.alpha.value = 0.2
    explorer.lam.value = 0.5
    explorer.label.value = 1
    explorer.row.value = 4
    assert maps.read == labels.read == photos.read == [0]
    explorer.image.value = 7
    explorer.lam.value = 0.6
    assert maps.read == labels.read == photos.read == [0, 7]
    np.testing.assert_array_equal(explorer.sets, cm.kernels.threshold(NEW[7:8], 0.6)[0])


def test_stores_are_read_by_slices(tmp_path: Any) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        maps, labels = file.create_dataset("X", data=NEW), file.create_dataset("y", data=NEW_Y)
        explorer = cm.explore(CALIBRATOR, maps, y=labels)
        explorer.image.value = 9
        np.testing.assert_array_equal(explorer.sets, CALIBRATOR.predict(NEW[9:])[0])
        listed = cm.explore(CALIBRATOR, maps, y=[*NEW_Y])
        listed.image.value = 9
        np.testing.assert_array_equal(listed.missed, explorer.missed)


def test_images_of_different_sizes() -> None:
    large, large_y = problem((9, 5), 1)
    explorer = cm.explore(CALIBRATOR, [NEW[0], large[0]], y=[NEW_Y[0], large_y[0]])
    explorer.row.value, explorer.column.value = 5, 9
    explorer.image.value = 1
    assert (explorer.row.max, explorer.column.max) == (8, 4)
    assert explorer.row.value <= 8
    assert explorer.column.value <= 4
    np.testing.assert_array_equal(explorer.sizes, CALIBRATOR.set_size(large)[0])


def test_pairs_hold_their_labels() -> None:
    explorer = cm.explore(CALIBRATOR, [*zip(NEW, NEW_Y, strict=True)])
    explorer.image.value = 4
    np.testing.assert_array_equal(explorer.sets, CALIBRATOR.predict(NEW[4:5])[0])
    assert "coverage, this image" in explorer.numbers


def test_slices_of_volumes() -> None:
    V, V_y = problem((3, H, W), 30, seed=3)
    photos = np.random.default_rng(2).random((30, 3, H, W, 3))
    calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(V[:20], V_y[:20])
    explorer = cm.explore(calibrator, V[20:], photos[20:], V_y[20:])
    assert explorer.depth.max == 2
    assert explorer.depth.layout.display is None
    before = explorer.pictures
    explorer.depth.value = 2
    explorer.row.value, explorer.column.value = 1, 6
    assert explorer.pictures["predicted"] != before["predicted"]
    np.testing.assert_allclose(drawn(explorer.pictures["image"]), photos[20, 2], atol=0.005)
    masks = calibrator.predict(V[20:21])[0]
    np.testing.assert_array_equal(explorer.sets, masks)
    assert "(2, 1, 6)" in pixel_text(explorer)
    assert len(explorer.pixel_set) == masks[:, 2, 1, 6].sum()
    red = np.abs(drawn(explorer.pictures["missed"]) - colors.to_rgb("#c0392b")).max(axis=-1) < 0.01
    np.testing.assert_array_equal(red, explorer.missed[2])
    report = calibrator.evaluate(V[20:21], V_y[20:21])  # of the volume, not of the slice
    assert says(explorer, "coverage, this image") == f"{100 * report.coverage:.1f} %"
    assert opened().depth.layout.display == "none"


def test_what_cannot_be_read_is_said_and_what_was_shown_stays() -> None:
    broken = [NEW[0], NEW[1][:3], NEW[2]]
    explorer = cm.explore(CALIBRATOR, broken)
    explorer.image.value = 1
    assert "image 1 cannot be shown" in all_text(explorer)
    assert "K = 3" in all_text(explorer)
    np.testing.assert_array_equal(explorer.sets, CALIBRATOR.predict(NEW[:1])[0])
    explorer.image.value = 2
    assert "cannot be shown" not in all_text(explorer)
    np.testing.assert_array_equal(explorer.sets, CALIBRATOR.predict(NEW[2:3])[0])


@pytest.mark.parametrize("what", ["scores", "picture"])
def test_an_image_that_is_wrong_later_is_not_half_shown(what: str) -> None:
    maps, photos = [*NEW[:2]], [*(PHOTOS[:2] / 255)]
    if what == "scores":
        maps[1] = maps[1] * 2
    else:
        photos[1] = photos[1] * 255
    explorer = cm.explore(CALIBRATOR, maps, photos, NEW_Y[:2])
    before, numbers = explorer.pictures, explorer.numbers
    explorer.image.value = 1
    assert "image 1 cannot be shown" in all_text(explorer)
    assert (explorer.pictures, explorer.numbers) == (before, numbers)
    explorer.alpha.value = 0.2
    np.testing.assert_array_equal(explorer.sets, CALIBRATOR.recalibrate(alpha=0.2).predict(NEW[:1])[0])


def test_images_of_one_row_or_without_labels() -> None:
    thin, thin_y = problem((1, 7), 1)
    two, two_y = problem((2, 7), 1)
    explorer = cm.explore(
        CALIBRATOR, [two[0], thin[0], two[0]], y=[two_y[0], thin_y[0], np.full((2, 7), 255)]
    )
    explorer.row.value = 1
    explorer.image.value = 1
    assert explorer.row.value == 0
    assert explorer.row.disabled
    np.testing.assert_array_equal(explorer.sizes, CALIBRATOR.set_size(thin)[0])
    explorer.image.value = 2
    assert not explorer.missed.any()
    assert says(explorer, "coverage, this image") == says(explorer, "set size, this image") == "–"


def test_one_image_alone() -> None:
    explorer = cm.explore(CALIBRATOR, NEW[:1])
    assert explorer.image.disabled
    assert "coverage, this image" not in explorer.numbers
    assert "missed" not in explorer.pictures


# Calibrators of all kinds that have lambdas to move


def test_each_class_has_a_lambda() -> None:
    calibrator = fitted(conditional="class")
    explorer = opened(calibrator)
    np.testing.assert_array_equal(explorer.lambda_, calibrator.lambda_hat_)
    explorer.label.value = 2
    assert explorer.lam.value == calibrator.lambda_hat_[2]
    assert says(explorer, "risk on calibration") == f"{calibrator.risk_[2]:.4f}"
    explorer.lam.value = 0.5
    moved = calibrator.lambda_hat_
    moved[2] = 0.5
    np.testing.assert_array_equal(explorer.lambda_, moved)
    # Each class by its own lambda; LAC keeps the most probable class besides.
    held = 1.0 - NEW[0].astype(np.float64) <= moved[:, None, None]
    np.put_along_axis(held, NEW[0].argmax(axis=0)[None], True, axis=0)
    np.testing.assert_array_equal(explorer.sets, held)
    explorer.alpha.value = 0.15
    np.testing.assert_array_equal(explorer.lambda_, calibrator.recalibrate(alpha=0.15).lambda_hat_)
    np.testing.assert_array_equal(explorer.sets, calibrator.recalibrate(alpha=0.15).predict(NEW[:1])[0])


def test_promises_of_all_classes_together() -> None:
    calibrator = fitted(conditional="class", simultaneous="bonferroni", alpha=0.4)
    explorer = opened(calibrator)
    explorer.label.value = 1
    assert explorer.lam.value == calibrator.lambda_hat_[1]
    kept = float(says(explorer, "smallest alpha kept"))
    assert kept == pytest.approx(K * calibrator.corrected_risk_[1], abs=1e-4)
    explorer.alpha.value = 0.3
    np.testing.assert_array_equal(explorer.lambda_, calibrator.recalibrate(alpha=0.3).lambda_hat_)
    largest = fitted(conditional="class", simultaneous="max", alpha=0.3)
    explorer = opened(largest)
    assert explorer.lambda_ == largest.lambda_hat_[0]
    np.testing.assert_array_equal(explorer.sets, largest.predict(NEW[:1])[0])
    risk = largest.profiles_.risk(cm.WorstClassLoss(), explorer.lambda_)
    assert says(explorer, "risk on calibration") == f"{risk:.4f}"


@pytest.mark.parametrize(
    "given",
    [
        {"profile": "binned"},
        {"method": cm.RCPS(0.2), "alpha": 0.2},
        {"method": cm.RCPS(0.2, bound="wsr"), "alpha": 0.2},
        {"method": cm.PAC(0.2), "loss": cm.BinaryLoss(0.5), "alpha": 0.2},
        {"method": cm.LTT(0.2, np.linspace(1, 0, 101)), "alpha": 0.2},
        {"loss": cm.FalseNegativeLoss([1]), "alpha": 0.2},
        {"score": "raps"},
    ],
    ids=str,
)
def test_other_calibrators(given: dict[str, Any]) -> None:
    calibrator = fitted(**given)
    explorer = opened(calibrator)
    assert explorer.lambda_ == calibrator.lambda_hat_
    np.testing.assert_array_equal(explorer.sets, calibrator.predict(NEW[:1])[0])
    assert says(explorer, "risk on calibration") == f"{calibrator.risk_:.4f}"
    assert float(says(explorer, "smallest alpha kept")) <= calibrator.alpha + 5e-5
    middle = round((explorer.alpha.min + explorer.alpha.max) / 2, 3)
    explorer.alpha.value = middle
    assert explorer.lambda_ == calibrator.recalibrate(alpha=middle).lambda_hat_
    explorer.lam.value = explorer.lam.max
    assert (explorer.sizes == K).all()


def test_a_loss_that_may_rise_is_known_on_its_grid() -> None:
    method = cm.LTT(0.2, [0.05, 0.2, 0.5, 0.8])
    calibrator = fitted(loss=cm.PrecisionLoss([1]), method=method, alpha=0.7)
    explorer = opened(calibrator)
    explorer.lam.value = 0.61
    assert explorer.lambda_ == 0.5
    np.testing.assert_array_equal(explorer.sets, cm.kernels.threshold(NEW[:1], 0.5)[0])


def test_groups_and_weights_count_as_in_calibration() -> None:
    groups = np.arange(N_CALIBRATION) // 2
    calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(X[:50], Y[:50], groups=groups)
    explorer = opened(calibrator)
    assert explorer.alpha.min == 0.039  # 1 / 26, rounded up
    assert says(explorer, "risk on calibration") == f"{calibrator.risk_:.4f}"
    weighted = cm.ConformalRiskCalibrator(alpha=0.1).fit(
        X[:50], Y[:50], sample_weight=np.linspace(0.2, 1, 50)
    )
    assert says(opened(weighted), "risk on calibration") == f"{weighted.risk_:.4f}"


def test_too_few_images_for_a_level() -> None:
    with pytest.warns(cm.InfeasibleRiskWarning):
        calibrator = cm.ConformalRiskCalibrator(alpha=0.01, on_infeasible="full").fit(X[:50], Y[:50])
    explorer = opened(calibrator)
    assert explorer.lambda_ == 1
    explorer.alpha.value = 0.05
    assert explorer.lambda_ == CALIBRATOR.recalibrate(alpha=0.05).lambda_hat_
    explorer.alpha.value = 0.015
    assert "needs at least 66 calibration images" in all_text(explorer)
    assert explorer.lambda_ == CALIBRATOR.recalibrate(alpha=0.05).lambda_hat_


# What it leaves alone, says and refuses


def test_the_calibrator_is_not_changed(tmp_path: Any, threads: None) -> None:
    cm.set_num_threads(1)
    calibrator = fitted()
    calibrator.save(tmp_path / "before.json", profiles=True)
    state, parameters = calibrator._state, calibrator.get_params()
    explorer = opened(calibrator)
    explorer.alpha.value, explorer.lam.value, explorer.image.value = 0.2, 0.4, 3
    explorer.sets[:] = False  # a copy
    assert explorer.sets.any()
    assert calibrator._state is state
    assert calibrator.get_params() == parameters
    assert cm.get_num_threads() == 1
    calibrator.save(tmp_path / "after.json", profiles=True)
    before, after = ((tmp_path / name).read_text() for name in ("before.json", "after.json"))
    assert before.replace("before", "after") == after


def test_it_shows_the_calibrator_as_it_was() -> None:
    calibrator = fitted()
    explorer = opened(calibrator)
    calibrator.set_params(alpha=0.3)
    calibrator.partial_fit(NEW, NEW_Y)
    explorer.alpha.value = 0.2
    assert explorer.lambda_ == CALIBRATOR.recalibrate(alpha=0.2).lambda_hat_


def test_it_says_that_a_level_chosen_here_is_not_fixed_beforehand() -> None:
    text = all_text(opened())
    assert "no longer fixed beforehand" in text
    assert "calibrate and test at that level on others" in text


def test_names_are_text() -> None:
    explorer = opened()
    explorer.label.value = 3
    html = all_text(explorer)
    assert "&lt;person&gt;" in html
    assert "<person>" not in html
    assert [name for name, _ in explorer.label.options] == NAMES


def test_many_classes_are_named_where_they_occur() -> None:
    rng = np.random.default_rng(5)
    many = np.moveaxis(rng.dirichlet(np.full(30, 0.05), (25, 3, 3)), -1, 1)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.2).fit(many[:20], many[:20].argmax(axis=1))
    explorer = cm.explore(calibrator, many[20:])
    named = set(re.findall(r">class (\d+)</span>", all_text(explorer)))
    assert named == {str(k) for k in np.unique(many[20].argmax(axis=0))}
    explorer.lam.value = 1.0
    assert pixel_text(explorer).count("cm-row") == 10
    assert "and 20 more in the set" in pixel_text(explorer)


def binary() -> cm.BinaryRiskCalibrator:
    return cm.BinaryRiskCalibrator(alpha=0.2).fit(X[:50, 1], (Y[:50] == 1).astype(int))


@pytest.mark.parametrize(
    ("calibrator", "error", "words"),
    [
        (
            binary(),
            TypeError,
            r"BinaryRiskCalibrator: its masks are binary: draw one by plotting.plot_binary",
        ),
        (cm.ConsignCalibrator(2), TypeError, "plotting.plot_samples and plotting.plot_components"),
        (cm.OnlineRiskController(0.1), TypeError, "plotting.plot_online"),
        (cm.MarginCalibrator(), TypeError, "plotting.plot_margins"),
        (CALIBRATOR.profiles_, TypeError, "pass the calibrator"),
        (3, TypeError, "calibrator must be a fitted ConformalRiskCalibrator, got int"),
        (cm.ConformalRiskCalibrator(), NotFittedError, "call fit"),
    ],
)
def test_other_families_are_refused_with_what_shows_them(calibrator: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        opened(calibrator)


def test_lambdas_that_images_do_not_share_are_refused() -> None:
    by_stratum = cm.ConformalRiskCalibrator(alpha=0.2).fit(X[:50], Y[:50], strata=np.arange(50) % 2)
    with pytest.raises(
        ValueError, match=r"strata have lambdas of their own: fit a calibrator to the images of one"
    ):
        opened(by_stratum)
    adaptive = cm.ConformalRiskCalibrator(
        alpha=0.2, adaptive=lambda maps, images: np.full(len(maps), 0.5)
    ).fit(X[:50], Y[:50])
    with pytest.raises(
        ValueError, match=r"adaptive= gives each its own: explore a calibrator without adaptive="
    ):
        opened(adaptive)
    weighted = cm.ConformalRiskCalibrator(alpha=0.2).fit(X[:50], Y[:50], sample_weight=np.full(50, 2.0))
    with pytest.raises(ValueError, match="weights above 1 give each its own"):
        opened(weighted)


def test_without_profiles_there_is_no_other_level(tmp_path: Any) -> None:
    CALIBRATOR.save(tmp_path / "bare.json")
    with pytest.raises(ValueError, match="has no profiles"):
        opened(cm.ConformalRiskCalibrator.load(tmp_path / "bare.json"))
    CALIBRATOR.save(tmp_path / "whole.json", profiles=True)
    explorer = opened(cm.ConformalRiskCalibrator.load(tmp_path / "whole.json"))
    assert explorer.lambda_ == CALIBRATOR.lambda_hat_


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (
            {"X": (x for x in NEW)},
            TypeError,
            r"X must be an array, a list or a store .* got generator: pass list",
        ),
        ({"X": "maps.npy"}, TypeError, "load it first"),
        ({"X": []}, ValueError, "X is empty"),
        ({"X": NEW[0]}, ValueError, r"X\[None\]"),
        ({"X": NEW[:, :3]}, ValueError, "K = 3 classes in image 0, but calibration had K = 4"),
        ({"X": np.moveaxis(NEW, 1, -1)}, ValueError, "channel-last"),
        ({"y": NEW_Y[:3]}, ValueError, "X has 10 images, y has 3"),
        ({"y": NEW_Y[:, :3]}, ValueError, "y must have shape"),
        ({"y": np.full_like(NEW_Y, 9)}, ValueError, "y holds label 9 at pixel .0, 0. of image 0, but K = 4"),
        ({"images": PHOTOS[:2]}, ValueError, "X has 10 images, images has 2"),
        ({"images": PHOTOS[:, :3]}, ValueError, "image 0 of images must have shape"),
        ({"images": PHOTOS.astype(np.int32)}, ValueError, "image must be uint8 or floating"),
        ({"class_names": ["a", "b"]}, ValueError, "K = 4 classes, got 2 names"),
        ({"class_names": ["a", "b", "a", "c"]}, ValueError, "must differ"),
        ({"palette": [[0, 0, 0]]}, ValueError, "palette must have shape"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], error: type, words: str) -> None:
    asked = {"X": NEW, "images": PHOTOS, "y": NEW_Y, **given}
    if "X" in given:
        asked |= {"images": None, "y": None}
    with pytest.raises(error, match=words):
        cm.explore(CALIBRATOR, **asked)


def test_errors_name_the_image() -> None:
    explorer = cm.explore(CALIBRATOR, [*NEW], y=[*NEW_Y[:2], NEW_Y[2][:3], *NEW_Y[3:]])
    explorer.image.value = 2
    assert "in image 2" in all_text(explorer)


def test_other_objects_that_give_images_by_number() -> None:
    """A data set of pairs, as loaders have them."""

    class Data:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
            return NEW[place], NEW_Y[place]

    explorer = cm.explore(CALIBRATOR, Data())
    explorer.image.value = 1
    np.testing.assert_array_equal(explorer.sets, CALIBRATOR.predict(NEW[1:2])[0])
