"""Bad input gets an error that names the argument, the image and the value, and changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import conformask as cm
from problems import Problem, wide

GOOD = wide(n=12, n_classes=3, size=(4, 5))
Calibrator = cm.ConformalRiskCalibrator


def with_score(value: float, image: int = 7, dtype: str = "float32") -> np.ndarray:
    X = GOOD.X.astype(dtype)
    X[image, 1, 2, 3] = value
    return X


def with_label(value: int, image: int = 7) -> np.ndarray:
    y = GOOD.y.copy()
    y[image, 2, 3] = value
    return y


def labelled() -> np.ndarray:
    """Labels without void, so that no bad value hides under it."""
    return np.where(GOOD.y == 255, 0, GOOD.y)


@dataclass
class Bad:
    """What is handed to fit, and what the error says of it."""

    name: str
    error: type[Exception]
    says: str
    X: object = field(default_factory=lambda: GOOD.X)
    y: object = field(default_factory=labelled)
    parameters: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def pairs_with(images: Problem, index: int, pair: object) -> Iterator:
    for i, (image, labels) in enumerate(zip(images.X, images.y, strict=True)):
        yield pair if i == index else (image, labels)


INPUT = [
    # Scores
    Bad(
        "NaN",
        ValueError,
        r"X is not finite in image 7: class 1 is NaN at pixel \(2, 3\)",
        X=with_score(np.nan),
    ),
    Bad(
        "infinity",
        ValueError,
        r"X is not finite in image 7: class 1 is inf at pixel \(2, 3\)",
        X=with_score(np.inf),
    ),
    Bad("-infinity", ValueError, r"X is not finite in image 7: class 1 is -inf", X=with_score(-np.inf)),
    Bad("NaN in float16", ValueError, r"not finite in image 7", X=with_score(np.nan, dtype="float16")),
    Bad("NaN in float64", ValueError, r"not finite in image 11", X=with_score(np.nan, 11, "float64")),
    Bad(
        "negative",
        ValueError,
        r"negative probability in image 7: class 1 is -0\.25 .*logits",
        X=with_score(-0.25),
    ),
    Bad("logits", ValueError, r"image 0.*if these are logits, pass inputs='logits'", X=np.log(GOOD.X)),
    Bad("positive logits", ValueError, r"image 0 sum to .* not to 1 within 0\.001", X=-np.log(GOOD.X)),
    Bad(
        "not normalised",
        ValueError,
        r"image 0 sum to 1\.0011 at pixel \(0, 0\), not to 1 within 0\.001",
        X=GOOD.X * 1.0011,
    ),
    Bad(
        "class axis last",
        ValueError,
        r"y must have shape \(12, 5, 3\) to match X \(12, 4, 5, 3\).*channel-last\? Pass np\.moveaxis\(X, -1, 1\)",
        X=np.moveaxis(GOOD.X, 1, -1),
    ),
    Bad(
        "one image without n",
        ValueError,
        r"X must have shape \(n, K, H, W\).*got \(3, 4, 5\).*X\[None\]",
        X=GOOD.X[0],
        y=GOOD.y[0],
    ),
    Bad("rank 2", ValueError, r"X must have shape \(n, K, H, W\)", X=GOOD.X[0, 0], y=GOOD.y[0, 0]),
    Bad("rank 6", ValueError, r"X must have shape", X=GOOD.X[..., None, None], y=GOOD.y[..., None, None]),
    Bad("a scalar", (TypeError, ValueError), r"X must", X=np.float32(0.5), y=np.int64(0)),
    Bad(
        "no pixel",
        ValueError,
        r"X is empty: its shape is \(12, 3, 4, 0\)",
        X=GOOD.X[..., :0],
        y=GOOD.y[..., :0],
    ),
    Bad("no class", ValueError, r"X is empty", X=GOOD.X[:, :0]),
    Bad("K = 1", ValueError, r"K = 1.*np\.concatenate\(\[1 - p, p\], axis=1\)", X=GOOD.X[:, :1]),
    Bad(
        "integers",
        TypeError,
        r"X must be float16, float32 or float64, got uint8",
        X=(GOOD.X * 255).astype(np.uint8),
    ),
    Bad("complex", TypeError, r"X must be float16.*complex64", X=GOOD.X.astype(np.complex64)),
    Bad("booleans", TypeError, r"X must be float16.*bool", X=GOOD.X > 0.5),
    Bad("long double", TypeError, r"X must be float16.*float128", X=GOOD.X.astype(np.longdouble)),
    Bad("objects", TypeError, r"X is an object array", X=GOOD.X.astype(object)),
    Bad("text", TypeError, r"X must be an array", X="predictions.npy"),
    Bad("None", TypeError, r"X must be an array.*NoneType", X=None),
    Bad("a number", TypeError, r"X must be an array.*int", X=3),
    Bad("a dict", TypeError, r"X must be an array.*dict", X={"X": GOOD.X}),
    # Labels
    Bad("label 3", ValueError, r"y holds label 3 in image 7, outside \[0, 3\).*255", y=with_label(3)),
    Bad("label -1", ValueError, r"y holds label -1 in image 7", y=with_label(-1)),
    Bad("label 2**40", ValueError, rf"y holds label {2**40} in image 7", y=with_label(2**40)),
    Bad(
        "the lowest bad label",
        ValueError,
        r"label 9 in image 2",
        y=np.where(np.arange(12)[:, None, None] >= 2, 9, labelled()),
    ),
    Bad(
        "float labels",
        TypeError,
        r"y must hold integer labels, got dtype float64, and 1\.5 in image 7 at pixel \(2, 3\)",
        y=np.where(with_label(9) == 9, 1.5, labelled()),
    ),
    Bad(
        "object labels",
        TypeError,
        r"y must hold integer labels, got dtype object",
        y=labelled().astype(object),
    ),
    Bad(
        "one-hot labels",
        ValueError,
        r"y must have shape \(12, 4, 5\) to match X .*got \(12, 3, 4, 5\)",
        y=np.zeros(GOOD.X.shape, int),
    ),
    Bad("fewer labels", ValueError, r"y must have shape \(12, 4, 5\).*got \(11, 4, 5\)", y=labelled()[1:]),
    Bad(
        "other size",
        ValueError,
        r"y must have shape \(12, 4, 5\).*got \(12, 5, 4\)",
        y=labelled().swapaxes(1, 2),
    ),
    Bad(
        "flat labels",
        ValueError,
        r"y must have shape \(12, 4, 5\).*got \(12, 20\)",
        y=labelled().reshape(12, 20),
    ),
    Bad("no labels", TypeError, r"y is missing", y=None),
    Bad("labels of another kind", TypeError, r"y must", X=list(GOOD.X), y=3),
    # Lists and generators
    Bad(
        "more images than labels",
        ValueError,
        r"X has 12 images, y has 11",
        X=list(GOOD.X),
        y=list(GOOD.y[1:]),
    ),
    Bad(
        "generators of unlike length",
        ValueError,
        r"X and y must hold the same number",
        X=iter(GOOD.X),
        y=iter(GOOD.y[1:]),
    ),
    Bad(
        "bad score in a list", ValueError, r"image 7: class 1", X=list(with_score(np.nan)), y=list(labelled())
    ),
    Bad("bad label in a list", ValueError, r"label 3 in image 7", X=list(GOOD.X), y=list(with_label(3))),
    Bad(
        "bad score in a generator",
        ValueError,
        r"image 7: class 1",
        X=iter(with_score(np.nan)),
        y=iter(labelled()),
    ),
    Bad(
        "rank in a list", ValueError, r"image 1 has \(4, 5\)", X=[GOOD.X[0], GOOD.X[1, 0]], y=list(GOOD.y[:2])
    ),
    Bad(
        "shape in a list",
        ValueError,
        r"(?=.*\bimage 1\b)y must have shape",
        X=[GOOD.X[0], GOOD.X[1, :, :2]],
        y=list(GOOD.y[:2]),
    ),
    Bad(
        "batches where images belong",
        ValueError,
        r"got \(4, 4, 5\); an iterable yields one image at a time: pass batches as arrays",
        X=[GOOD.X[:4], GOOD.X[4:8]],
        y=[GOOD.y[:4], GOOD.y[4:8]],
    ),
    Bad(
        "pairs and y",
        TypeError,
        r"image 0 is a tuple: leave out y if X yields pairs",
        X=zip(GOOD.X, labelled(), strict=True),
        y=GOOD.y,
    ),
    Bad(
        "K and labels differ in a list",
        ValueError,
        r"X has K = 2 classes in image 1, but K = 3 before",
        X=[GOOD.X[0], GOOD.X[1, :2]],
        y=[labelled()[0], np.full((4, 5), 2)],
    ),
    Bad(
        "dtype in a list",
        TypeError,
        r"(?=.*\bimage 1\b)X must be float16.*int64",
        X=[GOOD.X[0], GOOD.y[:3]],
        y=list(GOOD.y[:2]),
    ),
    Bad(
        "K differs in a list",
        ValueError,
        r"(?=.*\bimage 1\b).*K = 2 classes.*K = 3",
        X=[GOOD.X[0], GOOD.X[1, :2] / GOOD.X[1, :2].sum(0)],
        y=list(labelled()[:2] % 2),
    ),
    Bad(
        "no pairs",
        TypeError,
        r"without y, X must yield \(scores, labels\) pairs; image 3 is int",
        X=pairs_with(GOOD, 3, 5),
        y=None,
    ),
    Bad("arrays instead of pairs", TypeError, r"without y.*image 0 is ndarray", X=iter(GOOD.X), y=None),
    # Groups and weights
    Bad("groups of another length", ValueError, r"groups must hold .* 12 images", data={"groups": [1] * 11}),
    Bad("two groups", ValueError, r"each of 12 images, got 2 strings$", data={"groups": ["a", "b"]}),
    Bad(
        "one string of groups",
        ValueError,
        r"each of 12 images, got 'aaaaaaaaaaaa'$",
        data={"groups": "a" * 12},
    ),
    Bad("one group", ValueError, r"each of 12 images, got 7$", data={"groups": 7}),
    Bad("no groups", ValueError, r"each of 12 images, got none$", data={"groups": []}),
    Bad(
        "ints and strings",
        ValueError,
        r"each of 12 images, got 1 int and 11 strings$",
        data={"groups": [1, *"abcdefghijk"]},
    ),
    Bad(
        "large groups",
        ValueError,
        r"got 12 ints, of which 36893488147419103232 does not fit int64$",
        data={"groups": [2**65] * 12},
    ),
    Bad("groups of floats", ValueError, r"groups must hold an int or string", data={"groups": [0.5] * 12}),
    Bad(
        "weights of another length",
        ValueError,
        r"sample_weight must hold .* 12 images",
        data={"sample_weight": [1.0] * 11},
    ),
    Bad(
        "weight infinity",
        ValueError,
        r"sample_weight must be at least 0 and finite, got inf for image 2",
        data={"sample_weight": [1, 1, np.inf] + [1] * 9},
    ),
    Bad(
        "weight -1",
        ValueError,
        r"sample_weight must be at least 0 and finite, got -1\.0 for image 0",
        data={"sample_weight": [-1] + [1] * 11},
    ),
    Bad(
        "weight NaN",
        ValueError,
        r"sample_weight must be at least 0 and finite, got nan for image 11",
        data={"sample_weight": [1] * 11 + [np.nan]},
    ),
    Bad(
        "groups and weights",
        ValueError,
        r"groups and sample_weight",
        data={"groups": [1] * 12, "sample_weight": [1] * 12},
    ),
]


def parameters(
    name: str, values: Iterable[object], says: str, error: type[Exception] = ValueError
) -> list[Bad]:
    """Bad values of one parameter; "VALUE" in the message stands for each."""
    return [
        Bad(
            f"{name}={value!r}",
            error,
            f"{name}.*" + says.replace("VALUE", re.escape(repr(value))),
            parameters={name: value},
        )
        for value in values
    ]


PARAMETERS = [
    *parameters("alpha", [0, 1, 0.0, 1.0, -0.1, 1.5], r"must be in \(0, 1\), got VALUE"),
    *parameters("alpha", [np.nan, np.inf], "must be finite, got VALUE"),
    *parameters("alpha", ["x", "0.1", None, True, [0.1]], "must be a number, got VALUE", TypeError),
    *parameters("ignore_index", [0, 1, 2], "=VALUE is one of the K = 3 classes"),
    *parameters("ignore_index", [1.5, True, "255"], "must be an int or None, got VALUE", TypeError),
    *parameters("ignore_index", [2**63, -(2**63) - 1], "must fit int64, got VALUE"),
    *parameters("conformity_score", ["apples", None, cm.LAC, 3], r"must be one of.*, got VALUE"),
    *parameters(
        "loss", ["apples", None, cm.BinaryLoss, 0.9], "must be one of .*'binary', 'miscoverage'.*, got VALUE"
    ),
    *parameters("method", ["apples", None, cm.CRC], r"must be 'crc', CRC\(\), PAC.* got VALUE"),
    *parameters("inputs", ["apples", None], "must be one of .*'probabilities'.*, got VALUE"),
    *parameters("profile", ["apples", None], "must be one of .*'exact'.*, got VALUE"),
    *parameters("on_empty", ["apples", None], "must be one of .*'skip', 'raise', 'zero_loss'.*, got VALUE"),
    *parameters("on_infeasible", ["apples", None], "must be one of .*'raise', 'full'.*, got VALUE"),
    *parameters("progress", ["apples", None], "must be one of .*True, False, 'auto'.*, got VALUE"),
    Bad(
        "loss of K + 1 weights",
        ValueError,
        r"class_weights has 4 entries, but there are K = 3",
        parameters={"loss": cm.MiscoverageLoss([1] * 4)},
    ),
    Bad(
        "loss of class K",
        ValueError,
        r"classes=\[1, 3\] names class 3, but there are K = 3",
        parameters={"loss": cm.MiscoverageLoss(classes=[1, 3])},
    ),
]


def state(calibrator: Calibrator) -> tuple:
    return (
        calibrator.lambda_hat_,
        calibrator.risk_,
        calibrator.corrected_risk_,
        calibrator.n_images_,
        len(calibrator.profiles_),
        calibrator.risk_curve()[1].tolist(),
    )


@pytest.mark.parametrize("bad", INPUT, ids=str)
def test_bad_input_is_refused_and_changes_nothing(bad: Bad) -> None:
    """In fit and in partial_fit, of a calibrator that has seen images and of one that has not."""
    used_up = not hasattr(bad.X, "__len__") and hasattr(bad.X, "__next__")
    X = list(bad.X) if used_up else bad.X
    y = list(bad.y) if hasattr(bad.y, "__next__") else bad.y

    fitted, empty = Calibrator().fit(GOOD.X, GOOD.y), Calibrator()
    before = state(fitted)
    for calibrator in (fitted, empty):
        for method in (calibrator.fit, calibrator.partial_fit):
            again = (iter(X) if used_up else X, iter(y) if y is not bad.y else y)
            with pytest.raises(bad.error, match=bad.says):
                method(*again, **bad.data)
    assert state(fitted) == before
    with pytest.raises(NotFittedError):
        empty.predict(GOOD.X)


@pytest.mark.parametrize("nothing", [(GOOD.X[:0], GOOD.y[:0]), ([], []), (iter([]), None)])
def test_no_image_changes_nothing(nothing: tuple) -> None:
    """A worker without images: `partial_fit` goes on, and K is that of the first image; `fit` needs one."""
    fitted, empty = Calibrator().fit(GOOD.X, GOOD.y), Calibrator()
    before = state(fitted)
    for calibrator in (fitted, empty):
        with pytest.raises(ValueError, match="X is empty: it holds no image"):
            calibrator.fit(*nothing)
        assert calibrator.partial_fit(*nothing) is calibrator
    assert state(fitted) == before
    with pytest.raises(NotFittedError):
        empty.predict(GOOD.X)
    two = GOOD.X[:, :2] / GOOD.X[:, :2].sum(axis=1, keepdims=True)
    assert empty.partial_fit(two, np.minimum(labelled(), 1)).n_classes_ == 2
    with pytest.raises(ValueError, match="X is empty"):
        list(fitted.predict(nothing[0]))


@pytest.mark.parametrize("bad", PARAMETERS, ids=str)
def test_bad_parameters_are_refused_and_change_nothing(bad: Bad) -> None:
    """When images come, not before: __init__ and set_params only store."""
    fitted = Calibrator().fit(GOOD.X, GOOD.y)
    before, good = state(fitted), fitted.get_params()
    fitted.set_params(**bad.parameters)
    for calibrator in (fitted, Calibrator(**bad.parameters)):
        for method in (calibrator.fit, calibrator.partial_fit):
            with pytest.raises(bad.error, match=bad.says):
                method(GOOD.X, GOOD.y)
    assert state(fitted.set_params(**good)) == before


RECALIBRATION = [
    bad
    for bad in PARAMETERS
    for name, value in bad.parameters.items()
    if name in ("alpha", "loss", "method") and value is not None  # None keeps what is
]


@pytest.mark.parametrize("bad", RECALIBRATION, ids=str)
def test_recalibrate_refuses_the_same(bad: Bad) -> None:
    fitted = Calibrator().fit(GOOD.X, GOOD.y)
    before = state(fitted)
    with pytest.raises(bad.error, match=bad.says):
        fitted.recalibrate(**bad.parameters)
    assert state(fitted) == before


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: cm.BinaryLoss(0), r"min_coverage must be in \(0, 1\], got 0"),
        (lambda: cm.BinaryLoss(1.1), r"min_coverage must be in \(0, 1\], got 1\.1"),
        (lambda: cm.BinaryLoss(np.nan), r"min_coverage must be finite"),
        (lambda: cm.MiscoverageLoss("even"), r"class_weights must be 'balanced'.*'even'"),
        (lambda: cm.MiscoverageLoss([1, -1]), r"class_weights must be at least 0"),
        (lambda: cm.MiscoverageLoss([0, 0]), r"class_weights must be at least 0, and one above it"),
        (lambda: cm.MiscoverageLoss([]), r"class_weights must be"),
        (lambda: cm.MiscoverageLoss([np.inf, 1]), r"class_weights must be finite"),
        (lambda: cm.MiscoverageLoss(classes=[]), r"classes must be distinct"),
        (lambda: cm.MiscoverageLoss(classes=[1, 1]), r"classes must be distinct"),
        (lambda: cm.MiscoverageLoss(classes=[-1]), r"classes must be distinct"),
    ],
)
def test_bad_losses(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


# Prediction


@pytest.mark.parametrize("method", ["predict", "set_size", "varisco"])
def test_bad_maps_at_prediction(method: str) -> None:
    call = getattr(Calibrator().fit(GOOD.X, GOOD.y), method)
    for X, says in [
        (with_score(np.nan), r"X is not finite in image 7: class 1 is NaN at pixel \(2, 3\)"),
        (with_score(-0.5), r"negative probability in image 7"),
        (GOOD.X * 2, r"image 0 sum to"),
        (GOOD.X[0], r"X "),
        (GOOD.X[:0], r"X is empty"),
        (GOOD.X[:, :1], r"K = 1"),
        (GOOD.X[:, :2], r"X has K = 2 classes, but calibration had K = 3"),
    ]:
        with pytest.raises(ValueError, match=says):
            call(X)
    for X, says in [
        (GOOD.X.astype(object), "object"),
        (GOOD.y, "X must be float16"),
        (5, "X must be"),
        ("X", "X must be"),
    ]:
        with pytest.raises(TypeError, match=says):
            call(X)


@pytest.mark.parametrize("method", ["predict", "set_size", "varisco"])
def test_bad_image_of_a_list_or_generator(method: str) -> None:
    call = getattr(Calibrator().fit(GOOD.X, GOOD.y), method)
    with pytest.raises(ValueError, match="image 7: class 1"):
        call(list(with_score(np.nan)))
    images = call(iter(with_score(np.nan)))
    for _ in range(7):
        next(images)
    with pytest.raises(ValueError, match="image 7: class 1"):
        next(images)
    with pytest.raises(ValueError, match=r"image 1 has \(4, 5\)"):
        call([GOOD.X[0], GOOD.X[1, 0]])


def test_bad_input_of_evaluate() -> None:
    fitted = Calibrator().fit(GOOD.X, GOOD.y)
    for arguments, error, says in [
        ((with_score(np.nan), labelled()), ValueError, "image 7: class 1"),
        ((GOOD.X, with_label(3)), ValueError, "label 3 in image 7"),
        ((list(GOOD.X), list(with_label(3))), ValueError, "label 3 in image 7"),
        ((GOOD.X, labelled() + 0.5), TypeError, "y must hold integer labels"),
        ((GOOD.X, labelled()[1:]), ValueError, "y must have shape"),
        ((GOOD.X[:, :2], labelled()), ValueError, "K = 2"),
        (([], []), ValueError, "X is empty"),
        ((GOOD.X,), TypeError, "y is missing"),
    ]:
        with pytest.raises(error, match=says):
            fitted.evaluate(*arguments)


def test_one_image_without_n_at_prediction() -> None:
    with pytest.raises(ValueError, match=r"got \(3, 4, 5\); one image is X\[None\]"):
        Calibrator().fit(GOOD.X, GOOD.y).predict(GOOD.X[0])


def test_void_images_are_counted_in_the_error() -> None:
    y = labelled()
    y[:5] = 255
    with pytest.raises(
        cm.InfeasibleRiskError, match=r"there are 7 \(5 images without a labelled pixel that counts are left"
    ):
        Calibrator(alpha=0.1).fit(GOOD.X, y)


@pytest.mark.parametrize("lam", ["x", None, [0.1, 0.2]])
def test_lambda_is_a_number(lam: object) -> None:
    profiles = cm.profile(GOOD.X, GOOD.y)
    for call in (lambda: profiles.risk("miscoverage", lam), lambda: cm.kernels.threshold(GOOD.X, lam)):
        with pytest.raises(TypeError, match="lam must be a number"):
            call()


@pytest.mark.parametrize("n_threads", ["x", 1.5, True])
def test_number_of_threads_is_an_int(n_threads: object) -> None:
    with pytest.raises(TypeError, match="n_threads must be an int or None"):
        cm.set_num_threads(n_threads)


def test_bad_names_of_other_arguments() -> None:
    fitted = Calibrator().fit(GOOD.X, GOOD.y)
    with pytest.raises(ValueError, match=r"normalize must be 'classes' or 'max', got 'sum'"):
        fitted.varisco(GOOD.X, "sum")
    with pytest.raises(ValueError, match="lam must be at least 0, got nan"):
        cm.kernels.threshold(GOOD.X, np.nan)
    with pytest.raises(ValueError, match=r"conformity_score must be one of .*'softmax'"):
        cm.kernels.threshold(GOOD.X, 0.5, "softmax")
    with pytest.raises(ValueError, match=r"n_threads must be at least 1 and at most \d+, .*got 0"):
        cm.set_num_threads(0)
    with pytest.raises(TypeError, match="masks must be boolean"):
        cm.metrics.empirical_risk(GOOD.y, GOOD.X)
    with pytest.raises(ValueError, match="masks is empty"):
        cm.metrics.empirical_risk([], [])
    with pytest.raises(ValueError, match=r"budget must be finite"):
        cm.kernels.lambda_hat([1.0], None, np.inf)
    with pytest.raises(ValueError, match=r"values"):
        cm.kernels.lambda_hat([np.nan], None, 1)
    with pytest.raises(ValueError, match=r"values"):
        cm.kernels.lambda_hat([-1.0], None, 1)
    with pytest.raises(ValueError, match=r"weights"):
        cm.kernels.lambda_hat([1.0], [-1.0], 1)
    with pytest.raises(ValueError, match=r"one axis"):
        cm.kernels.lambda_hat([[1.0]], None, 1)


# Batches


def test_the_number_of_classes_must_not_change() -> None:
    fitted = Calibrator().fit(GOOD.X, GOOD.y)
    before, other = state(fitted), wide(n_classes=4, size=(4, 5))
    with pytest.raises(ValueError, match=r"K = 4 classes.* but earlier images have K = 3"):
        fitted.partial_fit(other.X, other.y)
    with pytest.raises(ValueError, match=r"K = 4 classes.* but earlier images have K = 3"):
        fitted.merge(Calibrator().partial_fit(other.X, other.y))
    assert state(fitted) == before


def test_groups_for_all_or_for_none() -> None:
    for argument, values in (("groups", range(12)), ("sample_weight", [1.0] * 12)):
        fitted = Calibrator().fit(GOOD.X, GOOD.y)
        before = state(fitted)
        with pytest.raises(ValueError, match=f"{argument} must be given for all images or for none"):
            fitted.partial_fit(GOOD.X, GOOD.y, **{argument: values})
        assert state(fitted) == before


def test_merge_refuses_strangers() -> None:
    fitted = Calibrator().fit(GOOD.X, GOOD.y)
    before = state(fitted)
    with pytest.raises(TypeError, match="other must be a ConformalRiskCalibrator, got dict"):
        fitted.merge({})
    with pytest.raises(NotFittedError):
        fitted.merge(Calibrator())
    with pytest.raises(ValueError, match="ignore_index differs: 255 here, -1 there"):
        fitted.merge(Calibrator(ignore_index=-1).partial_fit(GOOD.X, labelled()))
    with pytest.raises(ValueError, match="conformity_score differs"):
        fitted.merge(Calibrator(cm.LAC(include_top1=False)).partial_fit(GOOD.X, GOOD.y))
    assert state(fitted) == before


def test_before_fit() -> None:
    calibrator = Calibrator()
    for name in (
        "lambda_hat_",
        "risk_",
        "corrected_risk_",
        "profiles_",
        "n_images_",
        "n_skipped_",
        "n_classes_",
    ):
        with pytest.raises(NotFittedError, match="call fit or partial_fit first"):
            getattr(calibrator, name)
    for call in (
        lambda: calibrator.predict(GOOD.X),
        lambda: calibrator.set_size(GOOD.X),
        lambda: calibrator.varisco(GOOD.X),
        lambda: calibrator.evaluate(GOOD.X, GOOD.y),
        lambda: calibrator.score(GOOD.X, GOOD.y),
        lambda: calibrator.risk_curve(),
        lambda: calibrator.recalibrate(alpha=0.2),
        lambda: calibrator.save("nowhere.json"),
    ):
        with pytest.raises(NotFittedError, match="call fit or partial_fit first"):
            call()


# Empty images


@pytest.fixture
def with_void_images() -> tuple[np.ndarray, np.ndarray]:
    y = GOOD.y.copy()
    y[[3, 8]] = 255
    return GOOD.X, y


def test_void_images_are_skipped_with_a_warning(with_void_images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = with_void_images
    with pytest.warns(cm.DroppedImagesWarning, match=r"undefined on 2 of 12 images.*n = 10"):
        fitted = Calibrator(alpha=0.3).fit(X, y)
    assert (fitted.n_images_, fitted.n_skipped_) == (10, 2)
    kept = [i for i in range(12) if i not in (3, 8)]
    assert fitted.lambda_hat_ == Calibrator(alpha=0.3).fit(X[kept], y[kept]).lambda_hat_
    report = fitted.evaluate(X, y)
    assert (report.n_images, report.n_skipped) == (10, 2)
    assert np.isnan(report.losses).nonzero()[0].tolist() == [3, 8]


def test_void_images_are_refused(with_void_images: tuple[np.ndarray, np.ndarray]) -> None:
    fitted = Calibrator(on_empty="raise").fit(GOOD.X, GOOD.y)
    before = state(fitted)
    for method in (fitted.fit, fitted.partial_fit, fitted.evaluate):
        with pytest.raises(ValueError, match="image 3"):
            method(*with_void_images)
    assert state(fitted) == before


def test_void_images_count_with_loss_zero(with_void_images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = with_void_images
    fitted = Calibrator(alpha=0.3, on_empty="zero_loss").fit(X, y)
    assert (fitted.n_images_, fitted.n_skipped_) == (12, 0)
    report = fitted.evaluate(X, y)
    assert report.losses[[3, 8]].tolist() == [0, 0]
    assert report.empirical_risk == fitted.risk_


def test_nothing_but_void() -> None:
    y = np.full_like(GOOD.y, 255)
    with pytest.raises(
        cm.InfeasibleRiskError,
        match=r"9 calibration images, there are none \(12 images .* Add images, check that ignore_index is",
    ):
        Calibrator().fit(GOOD.X, y)
    with pytest.raises(ValueError, match="image 0"):
        Calibrator(on_empty="raise").fit(GOOD.X, y)
    assert Calibrator(on_empty="zero_loss").fit(GOOD.X, y).lambda_hat_ == 0
