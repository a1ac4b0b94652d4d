"""Labels and scores that do not belong together: a warning, and none where a model is merely poor."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit, softmax
from scipy.stats import norm

import conformask as cm

K, N, SIDE = 5, 12, 40
RNG = np.random.default_rng(8)


def scenes(n: int, shape: tuple[int, ...], seed: int, skill: float = 2.5) -> tuple[NDArray, NDArray]:
    """Logits (n, K, ...) of smooth images, in which class 0 is frequent, and labels drawn by their softmax."""
    rng = np.random.default_rng(seed)
    smooth = [gaussian_filter(rng.normal(size=shape), 1.5) for _ in range(n * K)]
    fields = np.array(smooth).reshape(n, K, *shape)
    fields /= fields.std()
    fields[:, 0] += 0.8
    logits = skill * fields
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return logits.astype(np.float32), y


FLAT, VOLUMES = scenes(N, (SIDE, SIDE), 1), scenes(8, (20, 20, 20), 2)


def calibrator(**options: Any) -> cm.ConformalRiskCalibrator:
    return cm.ConformalRiskCalibrator(alpha=0.3, inputs="logits", **options)


# What to do with labels, so that they are wrong, as the reports have it.
WRONG: dict[str, Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]] = {
    "shifted by one": lambda X, y: (X, np.where(y == 0, 255, y - 1)),
    "shifted in a circle": lambda X, y: (X, (y + 1) % K),
    "channels in another order": lambda X, y: (X[:, ::-1], y),
    "axes swapped": lambda X, y: (X, y.swapaxes(-2, -1)),
    "axes rotated": lambda X, y: (X, np.moveaxis(y, 1, -1)),
    "upside down": lambda X, y: (X, y[..., ::-1, :]),
    "images in another order": lambda X, y: (X, np.roll(y, 1, axis=0)),
}
SAYS = (
    r"labelled pixels; (always guessing class \d|the most).* at .*shifted by one.*channels.*axes.*same order"
)


@pytest.mark.filterwarnings("ignore:the likelihood still rises:UserWarning")
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("images", [FLAT, VOLUMES], ids=["flat", "volumes"])
def test_wrong_labels_are_noticed(images: tuple[NDArray, NDArray], name: str) -> None:
    X, y = WRONG[name](*images)
    for fit in (
        lambda: calibrator().fit(X, y),
        lambda: calibrator(conformity_score="aps").fit(list(X), list(y)),
        lambda: calibrator(profile="binned").fit(X, y),
        lambda: cm.profile(X, y, inputs="logits"),
        lambda: calibrator().partial_fit(X[:3], y[:3]).partial_fit(X[3:], y[3:]).lambda_hat_,
        lambda: cm.TemperatureScaler().fit(X, y),
    ):
        with pytest.warns(cm.SuspiciousLabelsWarning, match="the most probable class is the label .*" + SAYS):
            fit()
    fitted = calibrator().fit(*images)  # without a warning
    with pytest.warns(cm.SuspiciousLabelsWarning, match=r"sets of 1\.\d+ classes on average hold .*" + SAYS):
        fitted.evaluate(X, y)


def test_the_right_labels_raise_no_suspicion() -> None:
    """Nor do they where the model is poor: warnings are errors here."""
    for skill in (2.5, 1.0, 0.6):
        X, y = scenes(N, (SIDE, SIDE), 4, skill)
        fitted = calibrator().fit(X[:6], y[:6])
        assert fitted.evaluate(X[6:], y[6:]).empirical_risk < 0.5
        cm.TemperatureScaler().fit(X, y)


def lesions(found: float, false_alarms: float) -> tuple[NDArray, NDArray]:
    """Masks of a class that 1 % of the pixels have, of which some are found."""
    rng = np.random.default_rng(9)
    y = (rng.random((N, 40, 40)) < 0.01).astype(int)
    p = np.where(y == 1, rng.random(y.shape) < found, rng.random(y.shape) < false_alarms) * 0.8 + 0.1
    return np.stack([1 - p, p], axis=1), y


def test_models_of_rare_classes_are_not_suspected() -> None:
    """Whose false alarms are more than what they find, so that no alarm at all would be right more often."""
    X, y = lesions(found=0.6, false_alarms=0.02)
    assert (X.argmax(axis=1) == y).mean() < (y == 0).mean()
    calibrator = cm.ConformalRiskCalibrator(alpha=0.3).fit(X, y)
    calibrator.evaluate(X[::2], y[::2])
    with pytest.warns(
        cm.SuspiciousLabelsWarning, match=r"always guessing class 0 would be right at 9\d\.\d%"
    ):
        cm.profile(*lesions(found=0.05, false_alarms=0.05))


def test_few_images_or_pixels_raise_no_suspicion() -> None:
    X, y = WRONG["shifted in a circle"](*FLAT)
    cm.profile(X[:4], y[:4], inputs="logits")  # of more than 2,000 pixels
    cm.profile(X[..., :12, :12], y[..., :12, :12], inputs="logits")
    only = np.where(y == 1, y, 255)
    cm.profile(np.repeat(X, 4, axis=2), np.repeat(only, 4, axis=1), inputs="logits")  # labels of one class


def test_scores_that_may_leave_out_the_first_class_raise_no_suspicion() -> None:
    """At lambda = 0 their sets are empty, however good the model is."""
    for score in (cm.LAC(include_top1=False), cm.SACP(include_top1=False)):
        for images in (FLAT, WRONG["shifted in a circle"](*FLAT)):
            fitted = calibrator(conformity_score=score).fit(*images)
            fitted.evaluate(images[0][::2], images[1][::2])
    p = softmax(FLAT[0], axis=1)
    cm.profile(p, FLAT[1], lambda X: 1 - X)


# Bins, image by image


def test_binned_images_are_counted_over_calls_and_judged_once() -> None:
    X, y = WRONG["shifted in a circle"](*FLAT)
    one, parts = calibrator(profile="binned"), [calibrator(profile="binned") for _ in range(2)]
    for i in range(len(X)):  # without a word: an image alone tells nothing
        one.partial_fit(X[i : i + 1], y[i : i + 1])
        parts[i % 2].partial_fit(X[i : i + 1], y[i : i + 1])
    merged = pickle.loads(pickle.dumps(parts[0])).merge(parts[1])
    for fitted in (one, merged):
        with pytest.warns(cm.SuspiciousLabelsWarning, match=f"{N * SIDE * SIDE} labelled pixels") as found:
            lam = fitted.lambda_hat_
        assert len(found) == 1
        assert fitted.lambda_hat_ == lam  # without a warning
        fitted.predict(X)
    many = WRONG["shifted in a circle"](*scenes(40, (20, 20), 3))  # more than go into bins at once
    with pytest.warns(cm.SuspiciousLabelsWarning, match=f"{40 * 20 * 20} labelled pixels"):
        calibrator(profile="binned").fit(list(many[0]), list(many[1]))
    good = calibrator(profile="binned")
    for i in range(N):
        good.partial_fit(FLAT[0][i : i + 1], FLAT[1][i : i + 1])
    assert good.lambda_hat_ < 1


# Masks of one class


def objects(
    n: int, share: float, seed: int = 0, skill: float = 2.0, shift: float = 0.0
) -> tuple[NDArray, NDArray]:
    """Probabilities of smooth objects that so many pixels have, and these; `shift` makes the model too bold."""
    rng = np.random.default_rng(seed)
    truth, noise = (gaussian_filter(rng.normal(size=(n, 48, 48)), (0, 3, 3)) for _ in range(2))
    truth, noise = truth / truth.std(), noise / noise.std()
    far = skill * (truth - norm.isf(share)) + noise
    return expit(3 * (far + shift)).astype(np.float32), (truth > norm.isf(share)).astype(np.uint8)


# What to do with masks, so that they are wrong.
WRONG_MASKS: dict[str, Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]] = {
    "the background's probability": lambda P, y: (1 - P, y),
    "axes swapped": lambda P, y: (P, y.swapaxes(1, 2)),
    "upside down": lambda P, y: (P, y[:, ::-1]),
    "images in another order": lambda P, y: (P, np.roll(y, 1, axis=0)),
}
SAYS_OF_MASKS = (
    r"hold \d+\.\d% of \d+ foreground pixels, and .*hardly belong .* that (P|masks) and y .*opposite"
    r".* \1 and y hold the same"
)


def binary(**options: Any) -> cm.BinaryRiskCalibrator:
    return cm.BinaryRiskCalibrator(0.3, **options)


@pytest.mark.parametrize("name", WRONG_MASKS)
def test_wrong_masks_are_noticed(name: str) -> None:
    good = objects(20, 0.2)
    P, y = WRONG_MASKS[name](*good)
    both, channels = (np.stack(each, axis=1) for each in zip(good, (P, y), strict=True))
    channelwise = cm.adaptive.ChannelwiseCalibrator(binary(), names=["core", "whole"])
    for fit, says in (
        (lambda: binary().fit(P, y), "masks of probability 1/2 "),
        (lambda: binary(risk="fpr").fit(P, y), "masks of probability 1/2 "),
        (lambda: binary().fit(np.stack([1 - P, P], axis=1), y, classes=1), "masks of probability 1/2 "),
        (
            lambda: binary().partial_fit(P[:3], y[:3]).partial_fit(P[3:], y[3:]).threshold_,
            "masks of probability 1/2 ",
        ),
        (lambda: cm.CRACalibrator(0.3).fit(P, y), "masks of half of the probability of each image "),
        (
            lambda: cm.AACRCCalibrator(0.3, train_fraction=0.5, random_state=0).fit(P, y),
            "masks of probability 1/2 ",
        ),
        (lambda: channelwise.fit(both, channels), "^channel whole: masks of probability 1/2 "),
        (lambda: cm.MarginCalibrator(0.3, min_coverage=0.5).fit(P > 0.5, y), "^masks "),
    ):
        with pytest.warns(cm.SuspiciousLabelsWarning, match=says + SAYS_OF_MASKS):
            fit()
    # Without a warning.
    fitted, margins = binary().fit(*good), cm.MarginCalibrator(0.3).fit(good[0] > 0.5, good[1])
    if name != "the background's probability":  # at these thresholds nearly everything is in
        with pytest.warns(cm.SuspiciousLabelsWarning, match="masks " + SAYS_OF_MASKS):
            fitted.evaluate(P, y)
    with pytest.warns(cm.SuspiciousLabelsWarning, match="masks " + SAYS_OF_MASKS):
        margins.evaluate(P > 0.5, y)


@pytest.mark.parametrize("share", [0.3, 0.05, 0.01])
@pytest.mark.parametrize("shift", [0.0, 1.0, -1.0, -9.0])
def test_the_right_masks_raise_no_suspicion(share: float, shift: float) -> None:
    """Nor do rare objects, poor models, and those that say too much, too little or nothing: a warning is an error."""
    for skill in (2.0, 0.8):
        P, y = objects(30, share, seed=1, skill=skill, shift=shift)
        for calibrator in (binary(on_empty="zero_loss"), cm.CRACalibrator(0.3, on_empty="zero_loss")):
            calibrator.fit(P[:15], y[:15]).evaluate(P[15:], y[15:])
        options = {"on_empty": "zero_loss", "on_infeasible": "full", "min_coverage": 0.5}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cm.InfeasibleRiskWarning)
            margins = cm.MarginCalibrator(0.3, **options).fit(P[:15] > 0.5, y[:15])
        margins.evaluate(P[15:] > 0.5, y[15:])


def test_thin_lines_beside_their_masks_raise_no_suspicion() -> None:
    """Hardly a pixel is in the mask, but more than elsewhere: that is what margins are for."""
    rows, y = np.random.default_rng(3).permutation(60), np.zeros((20, 64, 64), np.uint8)
    masks = y.copy()
    for i in range(20):
        row = int(rows[i])
        y[i, row], masks[i, row + (2 if i % 5 else 0)] = 1, 1
    assert (masks[y == 1] == 1).mean() < 0.25
    cm.MarginCalibrator(0.3).fit(masks, y)


def test_wrong_masks_are_told_where_no_margin_is_enough() -> None:
    P, y = WRONG_MASKS["images in another order"](*objects(20, 0.2))
    masks = P > 0.5
    masks[:10] = 0
    with (
        pytest.warns(cm.SuspiciousLabelsWarning, match=SAYS_OF_MASKS),
        pytest.raises(cm.InfeasibleRiskError, match="no finite margin"),
    ):
        cm.MarginCalibrator(0.3).fit(masks, y)


def test_void_pixels_are_no_part_of_masks() -> None:
    """The numbers of the warning are those of labelled pixels."""
    P, y = WRONG_MASKS["upside down"](*objects(20, 0.2))
    y = np.where(np.random.default_rng(2).random(y.shape) < 0.3, 255, y)
    shares = [f"{(P[y == side] >= 0.5).mean():.1%} of {(y == side).sum()}" for side in (1, 0)]
    for risk in ("fnr", "fpr"):
        with pytest.warns(cm.SuspiciousLabelsWarning, match=" foreground pixels, and ".join(shares)):
            binary(risk=risk).fit(P, y)


# Samples


@pytest.mark.parametrize("name", ["channels in another order", "axes swapped", "images in another order"])
def test_wrong_labels_of_samples_are_noticed(name: str) -> None:
    logits, y = scenes(12, (24, 24), 5)
    samples = logits[:, np.newaxis] + np.random.default_rng(6).normal(size=(12, 4, K, 1, 1))
    consign = cm.ConsignCalibrator(2, alpha=0.3, min_accuracy=0.5).fit(samples, y)  # without a warning
    wrong = (
        (samples[:, :, ::-1], y)
        if name == "channels in another order"
        else (samples, WRONG[name](logits, y)[1])
    )
    with pytest.warns(cm.SuspiciousLabelsWarning, match="the most probable class is the label .*" + SAYS):
        consign.evaluate(*wrong)
    with pytest.warns(cm.SuspiciousLabelsWarning, match="the most probable class is the label .*" + SAYS):
        cm.ConsignCalibrator(2, alpha=0.3, min_accuracy=0.1).fit(*wrong)


# Streams


def stream(images: tuple[NDArray, NDArray], **options: Any) -> list[int]:
    """After which updates of a stream there was a warning."""
    controller, told = cm.OnlineRiskController(**{"alpha": 0.3, "inputs": "logits", **options}), []
    for t, (X, y) in enumerate(zip(*images, strict=True)):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            controller.update(X[np.newaxis], y[np.newaxis])
        told += [t + 1 for each in found if issubclass(each.category, cm.SuspiciousLabelsWarning)]
    return told


def test_wrong_labels_of_streams_are_noticed_once() -> None:
    good = scenes(30, (SIDE, SIDE), 7)
    for name in WRONG:
        assert stream(WRONG[name](*good), initial=0.3) == [10], name
    assert stream(good, initial=0.3) == stream(good) == []
    # Full sets tell nothing: the first images whose sets do are counted.
    late = stream(WRONG["shifted in a circle"](*good), alpha=0.7, initial=1.0, step=0.05)
    assert len(late) == 1
    assert late[0] > 10
    assert stream((good[0], np.concatenate([good[1][:12], (good[1][12:] + 1) % K])), initial=0.3) == []


def test_a_stream_that_was_loaded_goes_on(tmp_path: Path) -> None:
    X, y = WRONG["shifted in a circle"](*scenes(12, (SIDE, SIDE), 7))
    controller = cm.OnlineRiskController(alpha=0.3, inputs="logits", initial=0.3)
    controller.update(X[:6], y[:6]).save(tmp_path / "one.json")
    again = cm.OnlineRiskController.load(tmp_path / "one.json")
    again.update(X[6:], y[6:])  # six images, as far as it knows
    with pytest.warns(cm.SuspiciousLabelsWarning):
        controller.update(X[6:], y[6:])
    controller.reset().update(0.5)
