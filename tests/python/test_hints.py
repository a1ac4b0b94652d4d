"""Input that is nearly right: the error, or a warning, says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conformask as cm
from conformask._arrays import look_like_shares

RNG = np.random.default_rng(0)
N, K = 12, 3
X = RNG.dirichlet(np.ones(K), size=(N, 5, 4)).transpose(0, 3, 1, 2)
Y = RNG.integers(0, K, (N, 5, 4))
ONE_HOT = (Y[:, None] == np.arange(K)[:, None, None]).astype(int)
NOISE = np.exp(RNG.normal(0, 0.1, (N, 4, K, 5, 4)))
SAMPLES = X[:, None] * NOISE
SAMPLES /= SAMPLES.sum(axis=2, keepdims=True)  # 4 samples of each image


def new(*arguments: Any, **parameters: Any) -> cm.ConformalRiskCalibrator:
    return cm.ConformalRiskCalibrator(*arguments, **{"alpha": 0.2, **parameters})


def consign() -> cm.ConsignCalibrator:
    return cm.ConsignCalibrator(2, alpha=0.2, min_accuracy=0.2)


LABELS: dict[str, tuple[Any, str]] = {
    "floats": (np.where(Y == 0, 1.5, Y), r"got dtype float64, and 1\.5( in image 0)? at pixel \(\d+, \d+\)$"),
    "NaN": (np.where(Y == 0, np.nan, Y), r"got dtype float64, and NaN( in image 0)? at pixel \(\d+, \d+\)$"),
    "one-hot": (ONE_HOT, r"; if y is one-hot, pass y\.argmax\(axis=1\)$"),
    "one-hot, floats": (ONE_HOT.astype(np.float32), r"; if y is one-hot, pass y\.argmax\(axis=1\)$"),
    "one-hot, floats, classes last": (
        np.moveaxis(ONE_HOT, 1, -1).astype(float),
        r"; if y is one-hot, pass y\.argmax\(axis=-1\)$",
    ),
    "one-hot, classes last": (np.moveaxis(ONE_HOT, 1, -1), r"; if y is one-hot, pass y\.argmax\(axis=-1\)$"),
    "an axis of length 1": (Y[:, None], r"; pass y\[:, 0\], without the axis of length 1$"),
    "-1 is void": (
        np.where(Y == 0, -1, Y),
        r"label -1 .* index \(255\); if it marks void .* ignore_index=-1$",
    ),
    "from 1 to K": (Y + 1, r"label 3 .*; if the labels start at 1, pass y - 1; .* ignore_index=3$"),
    "K is void": (np.where(Y == 0, K, Y), r"label 3 .*; if it marks void pixels, pass ignore_index=3$"),
    "colours": (
        np.stack([50 * Y] * 3, axis=-1),
        r"got .*, 3\); if y holds colours, turn them into class indices$",
    ),
    "colours first": (np.stack([50 * Y] * 3, axis=1), r"; if y holds colours, turn them into class indices$"),
    "H and W swapped": (Y.swapaxes(1, 2), r"; are H and W swapped\? Pass y\.swapaxes\(-2, -1\)$"),
    "out of range": (np.where(Y == 0, 7, Y), r"label 7 .* index \(255\)$"),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels(name: str) -> None:
    y, says = LABELS[name]
    with pytest.raises((TypeError, ValueError), match=says):
        new().fit(X, y)
    shapes = {"one-hot", "one-hot, floats", "an axis of length 1"}
    listed = says.replace("axis=1", "axis=0").replace(r"y\[:, 0\]", r"y\[0\]") if name in shapes else says
    with pytest.raises((TypeError, ValueError), match=listed):
        new().fit(list(X), list(y))


def test_255_that_is_no_ignore_index() -> None:
    y = np.where(Y == 0, 255, Y)
    with pytest.raises(
        ValueError, match=r"label 255 .* \(None\); if it marks void pixels, pass ignore_index=255"
    ):
        new(ignore_index=None).fit(X, y)


def test_classes_that_come_first() -> None:
    with pytest.raises(ValueError, match=r"; are the classes of X first\? Pass np\.moveaxis\(X, 0, 1\)$"):
        new().fit(np.moveaxis(X, 1, 0), Y)


@pytest.mark.parametrize("path", ["a.npy", b"a.npy", Path("a.npy")])
def test_names_of_files(path: Any) -> None:
    for use, name in (
        (lambda: new().fit(path, Y), "X"),
        (lambda: new().fit(X, path), "y"),
        (lambda: new().fit([path] * N, list(Y)), "X must be an array in image 0"),
        (lambda: new().fit(list(X), path), "y"),
        (lambda: new().fit(X, Y).predict(path), "X"),
    ):
        with pytest.raises(TypeError, match=rf"^{name}.*got .*a\.npy.*: load it first, numpy\.load\("):
            use()


def test_bytes_for_scores() -> None:
    with pytest.raises(
        TypeError, match=r"got uint8; if .* scaled to 255, pass X / np\.float32\(255\) with inputs='scores'$"
    ):
        new().fit((X * 255).astype(np.uint8), Y)
    new(inputs="scores").fit((X * 255).astype(np.uint8) / np.float32(255), Y)
    with pytest.raises(
        TypeError, match=r"got uint16; .* pass X / np\.float32\(65535\) with inputs='scores'$"
    ):
        new().fit((X * 65535).astype(np.uint16), Y)
    with pytest.raises(TypeError, match=r"got int64$"):
        new().fit(X.astype(int), Y)
    masks = cm.BinaryRiskCalibrator()  # which knows no inputs=
    with pytest.raises(TypeError, match=r"^P must be .* got uint8; if .* pass P / np\.float32\(255\)$"):
        masks.fit((X[:, 1] * 255).astype(np.uint8), Y == 1)


def test_an_axis_of_classes_before_binary_masks() -> None:
    masks = cm.BinaryRiskCalibrator()
    for P, y, hint in (
        (X[:, 1:2], Y == 1, r"if P holds 1 class, pass that of the foreground, P\[:, 0\]$"),
        (X[:, :2], Y == 1, r"if P holds 2 classes, pass that of the foreground, P\[:, 1\]$"),
        (list(X[:, 1:2]), list(Y == 1), r"if P holds 1 class, pass that of the foreground, P\[0\]$"),
    ):
        with pytest.raises(ValueError, match=hint):
            masks.fit(P, y)


class Store:
    """A store, which is read by slices, and of which nobody may ask all."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        found: np.ndarray = self.values[index]
        assert len(found) == 1 or found.ndim == self.values.ndim - 1
        return found

    def __len__(self) -> int:
        return len(self.values)


def test_channels_that_come_last_in_a_store() -> None:
    """NumPy's moveaxis would read all of it: what the message says reads an image at a time, and calibrates."""
    X_last = Store(np.ascontiguousarray(np.moveaxis(X, 1, -1)))
    with pytest.raises(
        ValueError,
        match=r"Pass \(np\.moveaxis\(image, -1, 0\) for image in X\), which reads an image at a time$",
    ):
        new().fit(X_last, Y)
    images = (np.moveaxis(image, -1, 0) for image in X_last)
    assert new().fit(images, Y).lambda_hat_ == new().fit(X, Y).lambda_hat_


LAST: list[tuple[Callable[[], object], str]] = [
    (lambda: new().fit(np.moveaxis(X, 1, -1), Y), r"Pass np\.moveaxis\(X, -1, 1\), which"),
    (
        lambda: new().fit(list(np.moveaxis(X, 1, -1)), list(Y)),
        r"Pass np\.moveaxis\(image, -1, 0\) for each image",
    ),
    (lambda: consign().fit(np.moveaxis(SAMPLES, 2, -1), Y), r"Pass np\.moveaxis\(X, -1, 2\), which"),
    (
        lambda: consign().fit(list(np.moveaxis(SAMPLES, 2, -1)), list(Y)),
        r"Pass np\.moveaxis\(image, -1, 1\) for",
    ),
    (lambda: new().fit(X, Y).predict(np.moveaxis(X, 1, -1)), r"had K = 3; is X channel-last\?"),
    (
        lambda: cm.TemperatureScaler().fit(np.log(X), Y).transform(np.moveaxis(X, 1, -1)),
        r"with K = 3; is X channel-last\?",
    ),
    (
        lambda: consign().fit(SAMPLES, Y).predict(np.moveaxis(SAMPLES, 2, -1)),
        r"had K = 3; is X channel-last\?",
    ),
]


@pytest.mark.parametrize("case", range(len(LAST)))
def test_channels_that_come_last(case: int) -> None:
    use, says = LAST[case]
    with pytest.raises(ValueError, match=says):
        use()


def test_batches_in_a_list() -> None:
    calibrator = new().fit(X, Y)
    for use in (calibrator.predict, calibrator.set_size):
        with pytest.raises(
            ValueError, match="had K = 3; an iterable yields one image at a time: pass batches"
        ):
            use([X[:4], X[4:8]])


# Samples


def test_samples_and_classes_that_are_swapped() -> None:
    swapped, says = np.swapaxes(SAMPLES, 1, 2), r"are S and K swapped\?"
    with pytest.warns(
        UserWarning, match=rf"sums to 1 over its samples in image 0, not over its classes: {says}"
    ):
        consign().fit(swapped, Y)
    fields = np.log(swapped)[:, :, :2]  # 3 samples of 2 classes, but for labels of 3
    with pytest.raises(ValueError, match=rf"holds label 2 .*; X has S = 3 and K = 2: {says}"):
        consign().fit(fields, np.full_like(Y, 2))
    with pytest.raises(ValueError, match=r"holds label 7 [^?]*$"):  # there are no such samples either
        consign().fit(fields, np.full_like(Y, 7))
    with pytest.raises(ValueError, match=rf"K = 4 .* had K = 3; {says}"):
        consign().fit(SAMPLES, Y).predict(np.log(swapped))


# Logits


def test_probabilities_that_are_called_logits() -> None:
    for images, labels in ((X, Y), (list(X), list(Y)), (X.astype(np.float16), Y)):
        with pytest.warns(UserWarning, match="as probabilities do: .* pass inputs='probabilities'") as said:
            new(inputs="logits").fit(images, labels)
        assert len(said) == 1
    fitted = new(inputs="logits").fit(np.log(X), Y)  # and no word of these
    for work in (fitted.predict, fitted.set_size, fitted.varisco, lambda X: fitted.evaluate(X, Y)):
        with pytest.warns(UserWarning, match="as probabilities do: .* pass inputs='probabilities'") as said:
            work(X)
        assert len(said) == 1
        work(np.log(X))
    new(inputs="scores").fit(X, Y)


@pytest.mark.parametrize("shape", [(K, 5, 4), (K, 100, 3), (K, 40, 2, 70)])
def test_what_looks_like_shares(shape: tuple[int, ...]) -> None:
    maps = RNG.dirichlet(np.ones(K), size=shape[1:])
    maps = np.moveaxis(maps, -1, 0)
    assert look_like_shares(maps, 0, len(shape) - 1)
    assert not look_like_shares(maps, 1, len(shape) - 1)
    assert not look_like_shares(maps - 0.01, 0, len(shape) - 1)
    assert not look_like_shares(np.full(shape, 1 / K), 0, len(shape) - 1)  # says nothing


SIGMOIDS = 1 / (1 + np.exp(-RNG.normal(0, 2, (N, K, 5, 4))))


@pytest.mark.filterwarnings("ignore:the likelihood still rises")  # the labels are random
def test_outputs_of_a_sigmoid_that_are_called_logits() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        for images, labels in ((SIGMOIDS.astype(dtype), Y), (list(SIGMOIDS.astype(dtype)), list(Y))):
            for fit in (new(inputs="logits").fit, cm.TemperatureScaler().fit):
                with pytest.warns(
                    UserWarning, match=r"do not sum to 1 .* outputs of a sigmoid, .* inputs='proba"
                ) as said:
                    fit(images, labels)
                assert sum("sigmoid" in str(warning.message) for warning in said) == 1


@pytest.mark.parametrize(
    "logits",
    [
        RNG.normal(0, 2, (N, K, 5, 4)),
        RNG.random((N, K, 5, 4)) - 0.01 * np.eye(5, 4),  # one below 0
        0.3 * RNG.random((N, K, 5, 4)),  # of hardly different numbers nobody knows
        np.zeros((N, K, 5, 4)),
        RNG.random((N, K, 2, 1)),  # nor of few
    ],
)
def test_logits_that_are_no_outputs_of_a_sigmoid(logits: np.ndarray) -> None:
    new(inputs="logits").fit(logits, Y[:, : logits.shape[2], : logits.shape[3]])


def test_scalers_look_at_what_they_transform() -> None:
    logits = np.log(X)
    scaler = cm.TemperatureScaler().fit(logits, Y)
    for images in (X, list(X), SIGMOIDS):
        with pytest.warns(UserWarning, match=r"inputs='logits', but all numbers of X") as said:
            scaler.transform(images)
        assert len(said) == 1
    scaler.transform(logits)
    cm.TemperatureScaler(inputs="probabilities").fit(X, Y).transform(X)
    with pytest.warns(UserWarning, match="numbers of X|these are the probabilities") as said:
        cm.TemperatureScaler().fit_transform(X, Y)
    assert len(said) == 2  # of the numbers, and of the images, once each


# What is no images


@pytest.mark.parametrize("listed", [False, True])
def test_scores_and_labels_that_are_swapped(listed: bool) -> None:
    scores, labels = (list(X), list(Y)) if listed else (X, Y)
    says = r"X holds whole numbers.* they look swapped. fit and evaluate take \(X, y\), .* metrics \(y, X\)"
    for use in (
        lambda: new().fit(labels, scores),
        lambda: cm.TemperatureScaler().fit(labels, scores),
        lambda: cm.metrics.calibration_report(scores, labels),
        lambda: new().fit(zip(labels, scores, strict=True)),
    ):
        with pytest.raises(TypeError, match=says):
            use()


def test_measures_without_scores() -> None:
    says = r"X is missing: give .* \(y, X\), or None and as X an iterable of \(scores, labels\) pairs"
    for use in (
        cm.metrics.calibration_report,
        cm.metrics.brier_score,
        cm.metrics.CalibrationAccumulator().update,
    ):
        for given in (Y, zip(X, Y, strict=True)):
            with pytest.raises(TypeError, match=says):
                use(given)
    assert cm.metrics.calibration_report(None, zip(X, Y, strict=True)).n_images == N


def test_scores_and_labels_in_one_argument() -> None:
    for use in (lambda: new().fit((X, Y)), lambda: cm.TemperatureScaler().fit((X, Y))):
        with pytest.raises(TypeError, match="X is a tuple of scores and labels: pass them as two arguments"):
            use()
    with pytest.raises(TypeError, match="got dict that holds 'scores': pass what it holds"):
        new().fit({"scores": X}, Y)


def test_booleans_of_more_classes_than_two() -> None:
    for images, labels, where in ((X, Y > 0, ""), (list(X), list(Y > 0), " in image 0")):
        says = f"y holds booleans{where}, but X has K = 3 classes: pass the index of the class of each pixel"
        for fit in (new().fit, cm.TemperatureScaler().fit):
            with pytest.raises(TypeError, match=says):
                fit(images, labels)
    with pytest.raises(TypeError, match="y holds booleans, but X has K = 3"):
        consign().fit(SAMPLES, Y > 0)
    two = X[:, :2] / X[:, :2].sum(axis=1, keepdims=True)
    assert new().fit(two, Y > 0).lambda_hat_ == new().fit(two, (Y > 0).astype(int)).lambda_hat_


def test_arrays_of_other_axes() -> None:
    wanted = r"X must have shape \(n, K, H, W\) or \(n, K, D, H, W\), got "
    scaler = cm.TemperatureScaler().fit(np.log(X), Y)
    for fit in (new().fit, cm.TemperatureScaler().fit):
        with pytest.raises(
            ValueError, match=wanted + r"\(12, 5, 4\); .* pass np\.stack\(\[1 - X, X\], axis=1\)$"
        ):
            fit(X[:, 0], Y)
        with pytest.raises(ValueError, match=wanted + r"\(3, 5, 4\); one image is X\[None\]$"):
            fit(X[0], Y[0])
        with pytest.raises(
            ValueError, match=wanted + r"\(5, 4\); .* pass X\.T\.reshape\(1, K, H, W\) of one image$"
        ):
            fit(X[0, 0], Y[0])
    with pytest.raises(ValueError, match=wanted + r"\(5, 4\); if it holds a pixel in each row"):
        scaler.transform(X[0, 0])
    with pytest.raises(ValueError, match=wanted + r"\(5,\)$"):
        scaler.transform(X[0, 0, :, 0])
    for maps, hint in (X[0], r"; one image is X\[None\]"), (X[0, 0], ""):
        shape = re.escape(str(maps.shape))
        with pytest.raises(ValueError, match=wanted + shape + hint + "$"):
            cm.kernels.set_size(maps, 0.5)
        samples = SAMPLES[0] if hint else SAMPLES[0, 0, 0]
        shape = re.escape(str(samples.shape))
        with pytest.raises(ValueError, match=rf"\(n, S, K, D, H, W\), got {shape}{hint}; for models without"):
            consign().fit(samples, Y[0])


def test_masked_classes_and_labels_that_start_at_1() -> None:
    logits = np.log(X)
    logits[3, 2, 1, 0] = -np.inf
    says = (
        r"class {} is -inf at pixel \(1, 0\)\. If it masks a class, .* -1e4 instead\. Minus infinity is only"
    )
    with pytest.raises(ValueError, match=says.format(2)):
        cm.TemperatureScaler().fit(logits, Y)
    logits[3, :, 1, 0] = -np.inf
    with pytest.raises(ValueError, match=says.format(0) + " taken as a logit, beside a finite one"):
        new(inputs="logits").fit(logits, Y)
    with pytest.raises(
        ValueError,
        match=r"outside \[0, 3\); if the labels start at 1 .* - 1 and ignore_index=-1; if pixels .*classes=",
    ):
        new(ignore_index=0).fit(X, Y + 1)


@pytest.mark.parametrize("empty", [[], (), X[:0], iter([])])
def test_no_images(empty: Any) -> None:
    for fitted, inputs in (
        (new().fit(X, Y), "predict"),
        (cm.TemperatureScaler().fit(np.log(X), Y), "transform"),
    ):
        with pytest.raises(ValueError, match="X is empty"):
            list(getattr(fitted, inputs)(empty))


# Groups

PAIRS = np.arange(N) // 2
ALONE = np.arange(N)


def fitted(kind: type, **options: Any) -> Any:
    estimator = consign() if kind is cm.ConsignCalibrator else new()
    return estimator.fit(SAMPLES if kind is cm.ConsignCalibrator else X, Y, **options)


@pytest.mark.parametrize("kind", [cm.ConformalRiskCalibrator, cm.ConsignCalibrator])
def test_groups_of_one_side_alone(kind: type) -> None:
    images = SAMPLES if kind is cm.ConsignCalibrator else X
    grouped, plain = fitted(kind, groups=PAIRS), fitted(kind)
    with pytest.warns(
        UserWarning, match="calibration was by groups, .* counts images.* Give groups= here too"
    ):
        grouped.evaluate(images, Y)
    with pytest.warns(UserWarning, match="calibration was by images, .* counts groups.* Leave out groups="):
        plain.evaluate(images, Y, groups=PAIRS)
    grouped.evaluate(images, Y, groups=PAIRS)  # and no word of these
    plain.evaluate(images, Y, groups=ALONE)
    fitted(kind, groups=ALONE).evaluate(images, Y)


# Scores that are functions


def over_all(maps: np.ndarray) -> np.ndarray:
    """Depends on what else is in the array."""
    return 1 - maps / maps.max()


def of_each(maps: np.ndarray) -> np.ndarray:
    return 1 - maps / maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)


@pytest.mark.parametrize("profile", ["exact", "binned"])
def test_a_score_that_looks_at_its_neighbours_is_caught_in_lists(profile: str) -> None:
    for score in (over_all, cm.SACP(over_all, window=3)):
        with pytest.raises(ValueError, match="over_all must treat each image by itself"):
            new(score, profile=profile).fit(list(X), list(Y))
    smaller = X[0, :, 1:]
    mixed, labels = [smaller, *X], [Y[0, 1:], *Y]  # the first image has no other of its size
    new(of_each, profile=profile).fit(mixed, labels)
    with pytest.raises(ValueError, match="over_all must treat each image by itself"):
        new(over_all, profile=profile).fit([X[0], smaller, *X[1:]], [Y[0], Y[0, 1:], *Y[1:]])


# Words


def test_errors_of_numbers_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"^X: the probabilities of image 0 sum to 1\.5"):
        new().fit(X * 1.5, Y)
    with pytest.raises(ValueError, match=r"^X: the scores of image 0 sum to 0"):
        new(inputs="scores").fit(X * 0, Y)


def test_errors_name_parameters_where_they_are() -> None:
    """Not all that raise it have `on_infeasible`."""
    calibrator = new().fit(X, Y)
    for ask in (
        lambda: calibrator.recalibrate(alpha=0.01),
        lambda: calibrator.profiles_.lambda_hat("binary", 0.01),
    ):
        with pytest.raises(cm.InfeasibleRiskError, match=r"on_infeasible='full'"):
            ask()


@pytest.mark.parametrize("alpha", [[0.1], [0.1, 0.05], (0.1, 0.05), np.array([0.1, 0.05])])
def test_several_alphas(alpha: Any) -> None:
    """The message names what takes several: no list is one level."""
    says = r"^alpha must be a number, got .*recalibrate\(alpha=\.\.\.\).* evaluate\(alphas=\[\.\.\.\]\)"
    fitted = new().fit(X, Y)
    for use in (
        lambda: new(alpha=alpha).fit(X, Y),
        lambda: fitted.recalibrate(alpha=alpha),
        lambda: cm.BinaryRiskCalibrator(alpha).fit(X[:, 1], Y == 1),
        lambda: cm.MarginCalibrator(alpha).fit(X[:, 1] > 0.5, Y == 1),
        lambda: cm.ConsignCalibrator(2, alpha=alpha, min_accuracy=0.2).fit(SAMPLES, Y),
        lambda: fitted.profiles_.lambda_hat("miscoverage", alpha),
    ):
        with pytest.raises(TypeError, match=says):
            use()
    assert len(fitted.evaluate(X, Y, alphas=[0.3, 0.4]).sweep) == 2
