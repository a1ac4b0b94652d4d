"""Labels and scores that do not belong together: a warning, and none where a model is merely poor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import softmax

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
