"""Every conformity score against its definition, written as slow NumPy, and against SciPy and MAPIE."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

import conformask as cm
import twin
from conformask import _backend
from conformask.scores import as_score, rank_penalties
from problems import Problem, probabilities, problems, wide
from test_strangers import Softmax

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own affair
    from mapie.classification import SplitConformalClassifier

# Definitions


def ranked_before(X: NDArray) -> NDArray[np.bool_]:
    """(n, K, K, ...): whether label j comes before label k, more probable or equal and of a lower number."""
    P = np.asarray(X).astype(np.float64)
    j, k = P[:, :, np.newaxis], P[:, np.newaxis]
    lower = np.tri(P.shape[1], k=-1, dtype=bool).T.reshape(P.shape[1], P.shape[1], *[1] * (P.ndim - 2))
    return (j > k) | ((j == k) & lower)


def raps(X: NDArray, penalty: float = 0.0, k_reg: int = 1) -> NDArray[np.float64]:
    """In fixed point: probabilities in units of 2^-53 sum without error."""
    units = np.rint(np.ldexp(np.asarray(X).astype(np.float64), 53)).astype(np.int64)
    before = ranked_before(X)
    mass = np.ldexp((before * units[:, :, np.newaxis]).sum(axis=1).astype(np.float64), -53)
    rank = before.sum(axis=1) + 1
    lambda_max = 1.0 + penalty * max(0, X.shape[1] - k_reg)
    return np.minimum(np.minimum(mass, 1.0) + penalty * np.maximum(0, rank - k_reg), lambda_max)


def lac(X: NDArray, include_top1: bool) -> NDArray[np.float64]:
    scores = np.maximum(twin.scores(X), 0.0)
    return np.where(twin.top1(X) & include_top1, 0.0, scores)


def blended(scores: NDArray, weight: float, window: int) -> NDArray[np.float64]:
    """By loops: the window's mean, mirrored at the border, the border pixel first."""
    half = window // 2
    padded = np.pad(scores, [(0, 0), (0, 0), (half, half), (half, half)], mode="symmetric")
    height, width = scores.shape[2:]
    total = sum(padded[:, :, i : i + height, j : j + width] for i in range(window) for j in range(window))
    return (1 - weight) * scores + weight * total / window**2


DEFINITIONS: dict[str, tuple[cm.LAC | cm.APS | cm.RAPS, Callable[[NDArray], NDArray]]] = {
    "LAC": (cm.LAC(), lambda X: lac(X, True)),
    "LAC without top-1": (cm.LAC(include_top1=False), lambda X: lac(X, False)),
    "APS": (cm.APS(), raps),
    "RAPS": (cm.RAPS(), lambda X: raps(X, 0.05, max(1, X.shape[1] // 2))),
    "RAPS from the first": (cm.RAPS(0.3, k_reg=1), lambda X: raps(X, 0.3, 1)),
    "RAPS without excess": (cm.RAPS(0.3, k_reg=50), lambda X: raps(X, 0.3, 50)),
}


def images_of(criticals: NDArray, y: NDArray) -> list[twin.Image]:
    """The label and the critical value of each labelled pixel."""
    return [
        [(int(label), float(image[int(label), j])) for j, label in enumerate(labels.ravel()) if label != 255]
        for image, labels in zip(criticals.reshape(*criticals.shape[:2], -1), y, strict=True)
    ]


@pytest.mark.parametrize("name", DEFINITIONS)
@given(problem=problems(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_scores_are_those_of_the_definition(name: str, problem: Problem, data: st.DataObject) -> None:
    score, definition = DEFINITIONS[name]
    criticals = definition(problem.X)
    found = cm.kernels.true_label_scores(problem.X, problem.y, score)
    for image, labels, expected in zip(found, problem.y, criticals, strict=True):
        assert np.isnan(image[labels == 255]).all()
        valid = labels != 255
        of_labels = np.take_along_axis(expected, np.where(valid, labels, 0)[np.newaxis], axis=0)[0]
        assert np.array_equal(image[valid], of_labels[valid])
    lam = data.draw(st.sampled_from([0.0, 1.0, *np.unique(criticals).tolist()]))
    for at in (lam, np.nextafter(lam, -1).clip(0), np.nextafter(lam, 9)):
        masks = cm.kernels.threshold(problem.X, at, score)
        full = at >= (criticals.max() if name.startswith("LAC") else 1.0 + 0.3 * problem.n_classes)
        assert np.array_equal(masks, criticals <= at) or (full and masks.all())
        assert np.array_equal(cm.kernels.set_size(problem.X, at, score), masks.sum(axis=1))


@pytest.mark.parametrize("name", DEFINITIONS)
@given(problem=problems(min_images=3), alpha=st.sampled_from([0.3, 0.5, 0.7]))
@settings(max_examples=25, deadline=None)
def test_lambda_hat_is_the_infimum(name: str, problem: Problem, alpha: float) -> None:
    """And thresholding there gives the very risk of the curve."""
    score, definition = DEFINITIONS[name]
    images = images_of(definition(problem.X), problem.y)
    if sum(map(bool, images)) < 3:
        return
    expected = twin.lambda_hat([image for image in images if image], twin.miscoverage(), alpha)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cm.DroppedImagesWarning)
        fitted = cm.ConformalRiskCalibrator(score, alpha=alpha).fit(problem.X, problem.y)
    assert fitted.lambda_hat_ == expected
    assert fitted.evaluate(problem.X, problem.y).empirical_risk == fitted.risk_
    lambdas, risks = fitted.risk_curve()
    assert risks[lambdas == fitted.lambda_hat_] == fitted.risk_
    assert lambdas[-1] >= fitted.lambda_hat_
    assert risks[-1] == 0


def test_examples_by_hand() -> None:
    """APS and RAPS of (.6, .3, .1); ties go to the lower label."""
    X = np.array([0.6, 0.3, 0.1]).reshape(1, 3, 1, 1)
    y = np.arange(3).reshape(3, 1, 1, 1)
    scores = [cm.kernels.true_label_scores(X, label, cm.APS()).item() for label in y]
    assert scores == pytest.approx([0, 0.6, 0.9], abs=1e-15)
    scores = [cm.kernels.true_label_scores(X, label, cm.RAPS(0.05, k_reg=1)).item() for label in y]
    assert scores == pytest.approx([0, 0.65, 1.0], abs=1e-15)
    assert cm.kernels.threshold(X, 0.6, cm.APS()).ravel().tolist() == [True, True, False]
    assert cm.kernels.threshold(X, 0.59, cm.APS()).ravel().tolist() == [True, False, False]
    even = np.full((1, 4, 1, 1), 0.25)
    assert [cm.kernels.true_label_scores(even, [[[k]]], cm.APS()).item() for k in range(4)] == [
        0,
        0.25,
        0.5,
        0.75,
    ]


@pytest.mark.parametrize("score", [cm.APS(), cm.RAPS(0.01, k_reg=2), cm.SACP(), cm.SACP(cm.LAC())], ids=str)
def test_sets_are_full_at_the_largest_lambda(score: object) -> None:
    """Float32 probabilities whose cumulative sum exceeds 1 before the last class."""
    X = (
        np.random.default_rng(0)
        .dirichlet(np.full(8, 0.05), (5, 40, 40))
        .transpose(0, 3, 1, 2)
        .astype(np.float32)
    )
    assert (X.cumsum(axis=1)[:, -2] > 1).any()
    assert (X[:, :7].sum(axis=1, dtype=np.float64) < 1).any()
    largest = 1 + 0.01 * 6 if isinstance(score, cm.RAPS) else 1.0
    assert cm.kernels.threshold(X, largest, score).all()
    assert (cm.kernels.set_size(X, largest, score) == 8).all()


def test_sets_are_never_empty() -> None:
    for score in (cm.LAC(), cm.APS(), cm.RAPS(), cm.SACP(), cm.SACP(cm.LAC())):
        masks = cm.kernels.threshold(wide().X, 0.0, score)
        assert (masks & twin.top1(wide().X)).sum(axis=1).all(), score


# SACP

SACP_BASES = {
    "LAC": (cm.LAC(), lambda X: lac(X, False)),  # top-1 is SACP's own affair
    "APS": (cm.APS(), raps),
    "RAPS": (cm.RAPS(0.1, k_reg=2), lambda X: raps(X, 0.1, 2)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("weight", "window"), [(0.3, 7), (1.0, 3), (0.5, 5), (0.25, 9), (0.7, 1), (0.0, 7)])
@pytest.mark.parametrize("base", SACP_BASES)
def test_sacp_is_the_blend_of_its_base(base: str, weight: float, window: int, dtype: str) -> None:
    problem = wide(n=3, size=(11, 70), dtype=dtype)
    score, definition = SACP_BASES[base]
    expected = blended(definition(problem.X), weight, window)
    sacp = cm.SACP(score, weight, window, include_top1=False)
    found = np.stack(
        [cm.kernels.true_label_scores(problem.X, np.full(problem.y.shape, k), sacp) for k in range(4)], axis=1
    )
    assert np.allclose(found, expected, rtol=0, atol=1e-14 if dtype == "float64" else 5e-7)
    first = cm.kernels.true_label_scores(problem.X, problem.X.argmax(axis=1), cm.SACP(score, weight, window))
    assert (first == 0).all()


def test_sacp_against_scipy() -> None:
    problem = wide(n=2, size=(13, 17), dtype="float64")
    scores = raps(problem.X)
    means = ndimage.uniform_filter(scores, (0, 0, 7, 7), mode="reflect")
    found = [
        cm.kernels.true_label_scores(problem.X, np.full(problem.y.shape, k), cm.SACP(include_top1=False))
        for k in range(4)
    ]
    assert np.allclose(np.stack(found, axis=1), 0.7 * scores + 0.3 * means, rtol=0, atol=1e-12)


def test_sacp_by_hand() -> None:
    """Own score .4, all others .8: .7 * .4 + .3 * (48 * .8 + .4) / 49."""
    X = np.full((1, 2, 21, 21), 0.2)
    X[0, 1] = 0.8
    X[0, :, 10, 10] = 0.6, 0.4
    sacp = cm.SACP(cm.LAC(), weight=0.3, window=7, include_top1=False)
    found = cm.kernels.true_label_scores(X, np.zeros((1, 21, 21), int), sacp)
    assert found[0, 10, 10] == pytest.approx(0.7 * 0.4 + 0.3 * (48 * 0.8 + 0.4) / 49, abs=1e-15)
    assert round(found[0, 10, 10], 4) == 0.5176


@pytest.mark.parametrize("base", SACP_BASES)
def test_sacp_of_blended_probabilities(base: str) -> None:
    problem = wide(n=2, size=(9, 20), dtype="float64")
    score, definition = SACP_BASES[base]
    expected = definition(blended(problem.X, 0.3, 7))
    sacp = cm.SACP(score, mode="probabilities", include_top1=False)
    found = [cm.kernels.true_label_scores(problem.X, np.full(problem.y.shape, k), sacp) for k in range(4)]
    assert np.allclose(np.stack(found, axis=1), expected, rtol=0, atol=1e-13)


def test_sacp_windows_lie_in_slices_and_beyond_small_images() -> None:
    problem = wide(n=2, size=(3, 4, 5), dtype="float64")
    sacp = cm.SACP(cm.LAC(), window=7)
    of_volume = cm.kernels.set_size(problem.X, 0.6, sacp)
    of_slices = [cm.kernels.set_size(problem.X[:, :, z], 0.6, sacp) for z in range(3)]
    assert np.array_equal(of_volume, np.stack(of_slices, axis=1))


def test_windows_larger_than_the_image() -> None:
    """Mirrored again and again."""
    problem = wide(n=2, size=(5, 4), dtype="float64")
    expected = lac(problem.X, False)
    half = 25
    padded = np.pad(expected, [(0, 0), (0, 0), (half, half), (half, half)], mode="symmetric")
    total = sum(padded[:, :, i : i + 5, j : j + 4] for i in range(51) for j in range(51))
    sacp = cm.SACP(cm.LAC(), weight=1.0, window=51, include_top1=False)
    found = [cm.kernels.true_label_scores(problem.X, np.full(problem.y.shape, k), sacp) for k in range(4)]
    assert np.allclose(np.stack(found, axis=1), total / 51**2, rtol=0, atol=1e-12)
    assert cm.kernels.set_size(problem.X, 1.0, cm.SACP(window=1023)).min() == 4


def test_blended_probabilities_are_not_refused_for_rounding() -> None:
    """Sums just within 1e-3 of 1 stay accepted whatever blending does to their last place."""
    X = np.empty((1, 2, 20, 20), np.float32)
    X[:, 0], X[:, 1] = np.float32(0.5005595), np.float32(0.5004405)
    for base in (cm.LAC(), cm.APS()):
        cm.kernels.set_size(X, 0.5, base)
        cm.kernels.set_size(X, 0.5, cm.SACP(base, mode="probabilities"))


def test_large_ranks_are_free() -> None:
    X = wide().X
    assert np.array_equal(
        cm.kernels.set_size(X, 0.5, cm.RAPS(1.0, 2**70)), cm.kernels.set_size(X, 0.5, cm.APS())
    )


def test_a_score_of_ones_own_cannot_change_the_maps() -> None:
    def careless(X: NDArray) -> NDArray:
        X *= 0
        return X

    with pytest.raises(ValueError, match="read-only"):
        cm.profile(wide().X, wide().y, careless)


def test_void_pixels_count_in_windows_as_the_model_saw_them() -> None:
    problem = wide(size=(9, 9))
    other = np.where(problem.y == 255, 255, problem.y)
    maps = problem.X.copy()
    maps[np.broadcast_to((problem.y == 255)[:, np.newaxis], maps.shape)] = 0.25
    lam = cm.profile(problem.X, other, "sacp").lambda_hat("miscoverage", 0.1)
    assert lam != cm.profile(maps, other, "sacp").lambda_hat("miscoverage", 0.1)


@pytest.mark.parametrize("k_reg", [None, 1, 3, 9])
def test_penalties_of_ranks(k_reg: int | None) -> None:
    for n_classes in range(1, 9):
        free = max(1, n_classes // 2) if k_reg is None else k_reg
        expected = [0.3 * max(0, rank - free) for rank in range(1, n_classes + 1)]
        assert rank_penalties(cm.RAPS(0.3, k_reg), n_classes) == expected
        assert rank_penalties(cm.APS(), n_classes) == [0.0] * n_classes
    assert cm.LAC()._kernel().rank_penalties(4) is None


# A score of one's own


class Margin:
    """What is missing to the largest probability, over two."""

    lambda_max = 0.5

    def __call__(self, X: NDArray) -> NDArray:
        return (X.max(axis=1, keepdims=True) - X) / 2


def test_a_score_of_ones_own() -> None:
    problem = wide()
    criticals = Margin()(problem.X).astype(np.float64)
    fitted = cm.ConformalRiskCalibrator(Margin(), alpha=0.1).fit(problem.X, problem.y)
    assert fitted.lambda_hat_ == twin.lambda_hat(images_of(criticals, problem.y), twin.miscoverage(), 0.1)
    assert np.array_equal(fitted.predict(problem.X), criticals <= fitted.lambda_hat_)
    assert fitted.risk_curve()[0][-1] == 0.5
    with pytest.raises(TypeError, match="only built-in scores can be saved"):
        fitted.save("nowhere.json")


def test_our_own_scores_as_ones_own() -> None:
    problem = wide(dtype="float64")
    for score, definition in (DEFINITIONS["LAC"], DEFINITIONS["APS"]):
        ours = cm.ConformalRiskCalibrator(score, alpha=0.1).fit(problem.X, problem.y)
        theirs = cm.ConformalRiskCalibrator(definition, alpha=0.1).fit(problem.X, problem.y)
        assert ours.lambda_hat_ == theirs.lambda_hat_
        assert np.array_equal(ours.predict(problem.X), theirs.predict(problem.X))


def test_a_window_over_a_score_of_ones_own() -> None:
    problem = wide(dtype="float64")
    ours = cm.profile(problem.X, problem.y, cm.SACP(cm.APS(), include_top1=False))
    theirs = cm.profile(problem.X, problem.y, cm.SACP(raps, include_top1=False))
    assert ours.lambda_hat("miscoverage", 0.1) == theirs.lambda_hat("miscoverage", 0.1)


# One for each way in which an image can matter to another.
NOT_ALONE = {
    "the largest of all": lambda X: 1 - X / X.max(),
    "the mean over images": lambda X: np.abs(X - X.mean(axis=0)),
    "the next image": lambda X: np.roll(X, 1, axis=0),
    "how many there are": lambda X: X / len(X),
    "the place among them": lambda X: X / (1 + np.arange(len(X), dtype=X.dtype)).reshape(-1, 1, 1, 1),
    "chance": lambda X: np.random.default_rng().random(X.shape),
    "the second image only": lambda X: np.concatenate([X[:1], X[1:] / X[1:].max()]) if len(X) > 1 else X,
}
ALONE = {
    "the largest of each": lambda X: 1 - X / X.max(axis=(1, 2, 3), keepdims=True),
    "the mean of each": lambda X: np.abs(X - X.mean(axis=(2, 3), keepdims=True)),
    "rounded sums": lambda X: np.cumsum(X, axis=1, dtype=np.float16).clip(0, 1),
    "NaN at some pixels": lambda X: np.where(X.max(axis=1, keepdims=True) > 0.99, np.nan, 1 - X),
}
CALLS = {
    "profile": lambda X, y, score: cm.profile(X, y, score),
    "window": lambda X, y, score: cm.profile(X, y, cm.SACP(score)),
    "threshold": lambda X, y, score: cm.kernels.threshold(X, 0.5, score),
    "set_size": lambda X, y, score: cm.kernels.set_size(X, 0.5, score),
    "true_label_scores": lambda X, y, score: cm.kernels.true_label_scores(X, y, score),
    "losses": lambda X, y, score: cm.kernels.losses(X, y, 0.5, conformity_score=score),
    "predict": lambda X, y, score: cm.ConformalRiskCalibrator(score).fit(list(X), list(y)).predict(X),
    "set_size of a calibrator": lambda X, y, score: (
        cm.ConformalRiskCalibrator(score).fit(list(X), list(y)).set_size(X)
    ),
    "evaluate": lambda X, y, score: cm.ConformalRiskCalibrator(score).fit(list(X), list(y)).evaluate(X, y),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_score_that_depends_on_other_images_is_refused(call: Callable) -> None:
    problem = wide()
    with pytest.raises(ValueError, match=r"conformity_score .*must treat each image by itself.*in image \d"):
        call(problem.X, problem.y, NOT_ALONE["how many there are"])
    call(problem.X, problem.y, Margin())


@pytest.mark.parametrize("score", NOT_ALONE.values(), ids=NOT_ALONE)
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_what_a_score_takes_from_other_images(score: Callable, dtype: str) -> None:
    problem = wide(dtype=dtype)
    with pytest.raises(ValueError, match="must treat each image by itself"):
        cm.profile(problem.X, problem.y, score)
    cm.kernels.set_size(problem.X[:1], 0.5, score)  # a single image has no other


@pytest.mark.parametrize("score", ALONE.values(), ids=ALONE)
def test_what_a_score_takes_from_its_own_image(score: Callable) -> None:
    problem = wide()
    found = cm.profile(problem.X, problem.y, score).lambda_hat("miscoverage", 0.3)
    alone = cm.profile(list(problem.X), list(problem.y), score).lambda_hat("miscoverage", 0.3)
    assert found == pytest.approx(alone, rel=1e-3)  # float16 has sums of its own


def test_a_score_of_ones_own_is_asked_for_little_more() -> None:
    asked: list[int] = []

    def score(X: NDArray) -> NDArray:
        asked.append(len(X))
        return 1 - X

    problem = wide()
    for call, expected in (
        (lambda: cm.profile(problem.X, problem.y, score), [40, 1, 1]),
        (lambda: cm.profile(list(problem.X), list(problem.y), score), [1, 2, 1, 1, *[1] * 39]),
        (lambda: cm.kernels.threshold(problem.X[:2], 0.5, score), [2, 1, 1]),
        (lambda: _backend.masks(problem.X[8:], 0.5, as_score(score), "probabilities", 8), [32]),
    ):
        asked.clear()
        call()
        assert asked == expected


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (lambda X: X[:, :2], r"must return an array like X \(40, 4, 9, 7\), got \(40, 2, 9, 7\)"),
        (
            lambda X: 2 * X + 1,
            r"gives .* to class \d of|gives .* to class \d at pixel \(\d+, \d+\) of image 0.*lambda_max",
        ),
        (lambda X: X - 1, "critical values must be in"),
        (lambda X: X * np.nan, "gives NaN"),
    ],
)
def test_what_is_no_score_is_refused(score: Callable, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        cm.profile(wide().X, wide().y, score)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: cm.RAPS(penalty=-0.1), ValueError, "penalty must be at least 0, got -0.1"),
        (lambda: cm.RAPS(k_reg=0), ValueError, "k_reg must be at least 1, got 0"),
        (lambda: cm.RAPS(k_reg=1.5), TypeError, "k_reg must be an int"),
        (lambda: cm.SACP(weight=1.5), ValueError, r"weight must be in \[0, 1\], got 1.5"),
        (lambda: cm.SACP(window=4), ValueError, "window must be odd and at most 1023, got 4"),
        (lambda: cm.SACP(window=2**40 + 1), ValueError, "at most 1023"),
        (lambda: cm.RAPS(penalty=10**400), ValueError, "penalty must be at most 1000000"),
        (lambda: cm.SACP(cm.SACP()), TypeError, "base must be a score of single pixels"),
        (lambda: cm.SACP(mode="maps"), ValueError, "mode must be"),
        (lambda: cm.SACP("apples"), ValueError, "conformity_score must be one of"),
    ],
)
def test_bad_parameters(make: Callable, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


# Strangers and closed forms


def test_mapie_randomises_between_our_score_and_the_next() -> None:
    """MAPIE's APS adds a random share of the label's own probability to the mass before it, which is our score."""
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(5), size=200)
    y = (p.cumsum(axis=1) < rng.random((200, 1))).sum(axis=1)
    mapie = SplitConformalClassifier(Softmax(5), confidence_level=0.8, conformity_score="aps", prefit=True)
    theirs = mapie.conformalize(p, y)._mapie_classifier.conformity_scores_.ravel()
    ours = cm.kernels.true_label_scores(p.reshape(200, 5, 1, 1), y.reshape(200, 1, 1), cm.APS()).ravel()
    assert (theirs >= ours - 1e-12).all()
    assert (theirs <= ours + p[np.arange(200), y] + 1e-12).all()


@pytest.mark.filterwarnings("ignore::conformask.DuplicateImagesWarning")  # its images are all alike
@pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning")  # class 0 is said everywhere
def test_aps_of_two_classes_has_a_closed_form() -> None:
    """Top probability c ~ U(1/2, 1), right with probability c: 9 of 10 pixels are covered at 1 - sqrt(1/10)."""
    m = 4_000
    c = 0.5 + (np.arange(m) + 0.5) / m / 2
    X = np.stack([c, 1 - c]).reshape(1, 2, 1, m)
    # Pixels of label 0 and of label 1 in the proportion c : 1 - c, by weights of whole copies.
    copies = np.rint(100 * c).astype(int)
    X = np.repeat(X, 100, axis=3)
    y = (np.arange(100)[np.newaxis] >= copies[:, np.newaxis]).astype(int).reshape(1, 1, -1)
    X, y = np.broadcast_to(X, (9, *X.shape[1:])), np.broadcast_to(y, (9, *y.shape[1:]))
    lam = cm.profile(X, y, cm.APS()).lambda_hat(cm.BinaryLoss(min_coverage=0.9), alpha=0.1)
    assert lam == pytest.approx(1 - np.sqrt(0.1), abs=2e-3)


@pytest.mark.parametrize("score", ["aps", "raps", "sacp"])
def test_expected_risk_of_a_new_image(score: str) -> None:
    """By simulation over random splits."""
    rng, n, alpha = np.random.default_rng(11), 19, 0.2
    X = probabilities(rng, (600, 3, 6, 6), None, "float64")
    y = (X.cumsum(axis=1) < rng.random((600, 1, 6, 6))).sum(axis=1).clip(max=2)
    pool, risks = cm.profile(X, y, score), []
    for _ in range(300):
        chosen = rng.permutation(600)[: n + 60]
        lam = pool[chosen[:n]].lambda_hat("miscoverage", alpha)
        risks.append(pool[chosen[n:]].risk("miscoverage", lam))
    margin = 4 * np.std(risks, ddof=1) / np.sqrt(len(risks))
    assert alpha - 2 / (n + 1) - margin <= np.mean(risks) <= alpha + margin


# Traps into which others fell


@pytest.mark.parametrize("score", [cm.LAC(), cm.APS(), cm.RAPS(), cm.SACP(), cm.SACP(cm.LAC())], ids=str)
def test_traps(score: object) -> None:
    problem = wide(n=10)
    X, y = problem.X, np.where(problem.y == 255, 0, problem.y)
    # No void anywhere, and no ignore index.
    plain = cm.ConformalRiskCalibrator(score, alpha=0.1, ignore_index=None).fit(X, y)
    assert plain.lambda_hat_ == cm.ConformalRiskCalibrator(score, alpha=0.1).fit(X, y).lambda_hat_
    # n just enough, and one too few.
    with pytest.raises(cm.InfeasibleRiskError, match="at least 9 calibration images, there are 8"):
        cm.ConformalRiskCalibrator(score, alpha=0.1).fit(X[:8], y[:8])
    assert cm.ConformalRiskCalibrator(score, alpha=0.1).fit(X[:9], y[:9]).risk_ == 0
    # An all-void image lowers n.
    y[9] = 255
    with pytest.warns(cm.DroppedImagesWarning, match="1 of 10 images"):
        fitted = cm.ConformalRiskCalibrator(score, alpha=0.1).fit(X, y)
    assert fitted.lambda_hat_ == cm.ConformalRiskCalibrator(score, alpha=0.1).fit(X[:9], y[:9]).lambda_hat_
    # Close to the largest lambda sets are as full as the scores say, at it they are full.
    last = cm.profile(X, y, score).risk_curve("miscoverage")[0][-1]
    for lam in (0.99999 * last, last):
        scores = np.stack(
            [cm.kernels.true_label_scores(X, np.full(y.shape, k), score, None) for k in range(4)], axis=1
        )
        assert np.array_equal(cm.kernels.threshold(X, lam, score), scores <= lam)
    assert cm.kernels.threshold(X, last, score).all()
