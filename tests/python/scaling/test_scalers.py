"""Scalers against SciPy, known answers and a twin: drawn pixels, parameters, probabilities, files, workers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, special
from sklearn import exceptions
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

import conformask as cm
import scaling_twin
from conformask import _core
from conformask._blas import one_blas_thread
from conformask.scaling._pixels import LEAST

K, SHAPE = 4, (40, 50)
SCALERS = [cm.TemperatureScaler, cm.VectorScaler, cm.DirichletScaler]


def problem(
    n: int = 12, seed: int = 0, k: int = K, shape: tuple[int, ...] = SHAPE
) -> tuple[NDArray, NDArray]:
    """Logits whose softmax is the law of the labels, with some void."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, k, *shape))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    y[rng.random(y.shape) < 0.1] = 255
    return logits, y


LOGITS, Y = problem()


def flat(logits: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """All labelled pixels (N, K), and their labels."""
    pixels = np.moveaxis(logits, 1, -1)
    return pixels[y != 255].astype(np.float64), y[y != 255]


def log_loss(logits: NDArray, labels: NDArray) -> float:
    return float((special.logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]).mean())


# Pixels


def test_all_pixels_are_drawn_in_their_order() -> None:
    found = _core.draw_pixels(LOGITS, Y, 255, 2**40, 0, 0)
    for (values, labels, n_valid, *_), logits, y in zip(found, LOGITS, Y, strict=True):
        expected, expected_labels = flat(logits[None], y[None])
        assert (values == expected).all()
        assert (labels == expected_labels).all()
        assert n_valid == len(labels)


@pytest.mark.parametrize("layout", ["planes", "channels last", "strided", "float16", "volumes"])
def test_drawn_pixels_are_pixels_with_their_labels(layout: str) -> None:
    logits, y = LOGITS.astype(np.float32), Y
    if layout == "channels last":
        logits = np.ascontiguousarray(logits.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if layout == "strided":
        logits = np.repeat(logits, 2, axis=3)[..., ::2]
    if layout == "float16":
        logits = logits.astype(np.float16)
    expected = [
        {
            (*map(float, pixel), int(label))
            for pixel, label in zip(*flat(image[None], truth[None]), strict=True)
        }
        for image, truth in zip(logits, y, strict=True)
    ]
    if layout == "volumes":
        logits, y = logits.reshape(12, K, 4, 10, 50), y.reshape(12, 4, 10, 50)
    found = _core.draw_pixels(logits, y, 255, 100, 7, 0)
    for (values, labels, *_), pixels in zip(found, expected, strict=True):
        assert values.shape == (100, K)
        assert {(*map(float, v), int(label)) for v, label in zip(values, labels, strict=True)} <= pixels


def test_each_pixel_has_the_same_chance() -> None:
    n, m = 70, 9
    logits = np.zeros((1, 2, 1, n))
    logits[0, 0, 0] = np.arange(n)
    y = np.zeros((1, 1, n), np.uint8)
    counts = np.zeros(n)
    draws = 4000
    for seed in range(draws):
        [(values, *_)] = _core.draw_pixels(logits, y, None, m, seed, 0)
        places = values[:, 0].astype(int)
        assert (np.floor(places * m / n).astype(int) <= np.arange(m)).all()
        counts += np.bincount(places, minlength=n)
    expected = draws * m / n
    assert (abs(counts - expected) < 5 * math.sqrt(expected)).all()


def test_what_is_drawn_depends_on_the_image_alone() -> None:
    together = _core.draw_pixels(LOGITS, Y, 255, 50, 3, 0)
    for i in range(len(LOGITS)):
        [alone] = _core.draw_pixels(LOGITS[i : i + 1], Y[i : i + 1], 255, 50, 3, i)
        assert (alone[0] == together[i][0]).all()
    [other] = _core.draw_pixels(LOGITS[:1], Y[:1], 255, 50, 4, 0)
    assert (other[0] != together[0][0]).any()


def test_large_images_are_drawn_from_everywhere() -> None:
    """More pixels than a band of the parallel walk."""
    side = 300
    logits = np.zeros((1, 2, side, side), np.float32)
    logits[0, 0] = np.arange(side**2).reshape(side, side)
    y = np.where(np.random.default_rng(0).random((1, side, side)) < 0.5, 255, 1)
    [(values, _, n_valid, *_)] = _core.draw_pixels(logits, y, 255, 1000, 0, 0)
    places = values[:, 0].astype(int)
    assert (y.reshape(-1)[places] == 1).all()
    ranks = np.cumsum(y.reshape(-1) == 1)[places] - 1
    assert (np.diff(ranks) >= 0).all()
    assert (abs(ranks - np.arange(1000) * n_valid / 1000) <= n_valid / 1000).all()


def test_logits_that_are_not_finite_are_named_where_they_are_drawn() -> None:
    bad = LOGITS.copy()
    bad[3, 2, 5, 7] = math.inf
    y = Y.copy()
    y[3, 5, 7] = 0
    with pytest.raises(ValueError, match=r"X is not finite in image 3: class 2 is inf at pixel \(5, 7\)"):
        cm.TemperatureScaler(n_pixels=2**40).fit(bad, y)
    y[3, 5, 7] = 255  # nobody knows what is said there
    cm.TemperatureScaler(n_pixels=2**40).fit(bad, y)


# Gradients


@pytest.mark.parametrize("n_weights", [K, K * K])
def test_gradients_and_hessians_are_those_of_the_twin(n_weights: int) -> None:
    rng = np.random.default_rng(0)
    n = 9000  # several blocks
    features, labels = rng.normal(0, 3, (K, n)), rng.integers(0, K, n).astype(np.uint16)
    weights, ends = rng.random(n), np.array([10, 10, 4000, n], np.uintp)
    weights[::7] = 0

    def loss(parameters: NDArray, at: slice) -> float:
        w, b = np.split(parameters, [n_weights])
        matrix = w.reshape(K, K) if n_weights == K * K else np.diag(w)
        z = matrix @ features[:, at] + b[:, None]
        return float(weights[at] @ (special.logsumexp(z, axis=0) - z[labels[at], np.arange(z.shape[1])]))

    given = features, labels, weights, ends
    p, d = rng.normal(0, 0.5, (2, n_weights + K))
    found = _core.log_loss_gradients(*given, *np.split(p, [n_weights]))
    bent = _core.log_loss_hessian_products(*given, *np.split(p, [n_weights]), *np.split(d, [n_weights]))
    starts = [0, *ends[:-1]]
    for i, at in enumerate(map(slice, starts, ends)):
        assert found[i, 0] == pytest.approx(loss(p, at), rel=1e-12)
        for j in range(len(p)):
            step = np.eye(len(p))[j] * 1e-5
            slope = (loss(p + step, at) - loss(p - step, at)) / 2e-5
            assert found[i, 1 + j] == pytest.approx(slope, rel=1e-5, abs=1e-5)
    step = 1e-5
    up, down = (
        _core.log_loss_gradients(*given, *np.split(p + sign * step * d, [n_weights])) for sign in (1, -1)
    )
    assert bent == pytest.approx((up - down)[:, 1:] / (2 * step), rel=1e-5, abs=1e-4)


def test_threads_change_no_bit() -> None:
    found = []
    for n_threads in (1, 2, 5):
        cm.set_num_threads(n_threads)
        found.append([scaler(n_pixels=300).fit(LOGITS, Y).transform(LOGITS[:2]) for scaler in SCALERS])
    cm.set_num_threads(None)
    for each in found[1:]:
        assert all((a == b).all() for a, b in zip(each, found[0], strict=True))


@pytest.mark.parametrize("kind", [cm.VectorScaler, cm.StructuredScaler])
def test_threads_of_blas_change_no_bit(kind: Any) -> None:
    """Of many classes: products of small matrices are made by one thread anyway."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (6, 100, 16, 16))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    found = []
    for n_threads in (1, 2, 4):
        with threadpool_limits(limits=n_threads, user_api="blas"):
            allowed = [each["num_threads"] for each in threadpool_info()]
            scaler = kind().fit(2 * logits, y)
            assert [each["num_threads"] for each in threadpool_info()] == allowed
        found.append((scaler.weight_, scaler.bias_))
    for each in found[1:]:
        assert all((a == b).all() for a, b in zip(each, found[0], strict=True))


def test_blas_gets_its_threads_back_when_the_last_fit_ends() -> None:
    def threads() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert set(threads()) == {1}
        second.__exit__(None, None, None)
        assert threads() == before


# Parameters


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5, 20.0])
def test_temperatures_are_those_of_scipy(dtype: type, factor: float) -> None:
    logits = (factor * LOGITS).astype(dtype)
    scaler = cm.TemperatureScaler(n_pixels=2**40).fit(logits, Y)
    pixels, labels = flat(logits, Y)
    expected = optimize.minimize_scalar(
        lambda s: log_loss(s * pixels, labels), bounds=(1e-2, 10), method="bounded", options={"xatol": 1e-12}
    )
    assert 1 / scaler.temperature_ == pytest.approx(expected.x, rel=1e-6)
    assert scaler.nll_ == pytest.approx(expected.fun, rel=1e-9)
    assert scaler.nll_before_ == pytest.approx(log_loss(pixels, labels), rel=1e-9)
    assert abs(scaler.temperature_ - factor) < 4 * scaler.standard_error_


@pytest.mark.parametrize("every", [None, 16])
def test_maps_of_many_pixels_are_those_of_scipy(every: int | None) -> None:
    """Fewer pixels are fitted first; every 16th, which are those, may be of another kind than all."""
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, (2, 3, 280, 256))
    factors = np.full(280 * 256, 0.5)
    if every:
        factors[::every] = 3
    y = (logits * factors.reshape(280, 256) + rng.gumbel(size=logits.shape)).argmax(axis=1)
    pixels, labels = flat(logits, y)
    found = cm.TemperatureScaler(n_pixels=2**40).fit(logits, y)
    expected = optimize.minimize_scalar(
        lambda s: log_loss(s * pixels, labels), bounds=(1e-2, 10), method="bounded", options={"xatol": 1e-12}
    )
    assert 1 / found.temperature_ == pytest.approx(expected.x, rel=1e-6)
    vector = cm.VectorScaler(n_pixels=2**40, center=False, ridge=1e-9).fit(logits, y)
    loss = log_loss(pixels * vector.weight_ + vector.bias_, labels)
    assert vector.nll_ == pytest.approx(loss, rel=1e-12)
    for step in (*np.eye(6) * 1e-3, *np.eye(6) * -1e-3):  # the penalty is below it by far
        weight, bias = vector.weight_ + step[:3], vector.bias_ + step[3:]
        assert log_loss(pixels * weight + bias, labels) > loss


def test_standard_error_is_the_sandwich_of_images() -> None:
    scaler = cm.TemperatureScaler(n_pixels=2**40).fit(LOGITS, Y)
    s, step = 1 / scaler.temperature_, 1e-4
    u, t = flat(LOGITS, Y)
    slopes = np.array(
        [
            (log_loss((s + step) * u, t) - log_loss((s - step) * u, t)) / (2 * step) * len(t)
            for u, t in (flat(LOGITS[i : i + 1], Y[i : i + 1]) for i in range(len(Y)))
        ]
    )
    losses = [log_loss(each * u, t) for each in (s - step, s, s + step)]
    bend = (losses[0] - 2 * losses[1] + losses[2]) / step**2
    n = len(Y)
    expected = np.sqrt(n / (n - 1) * (slopes**2).sum()) / len(t) / bend / s**2
    assert scaler.standard_error_ == pytest.approx(expected, rel=1e-4)
    assert cm.TemperatureScaler().fit(LOGITS[:1], Y[:1]).standard_error_ == np.inf


@pytest.mark.parametrize("kind", SCALERS)
def test_scores_are_log_likelihoods_of_labelled_pixels(kind: Any) -> None:
    scaler = kind().fit(LOGITS[:6], Y[:6])
    pixels, labels = flat(scaler.transform(LOGITS[6:]), Y[6:])
    expected = np.log(pixels[np.arange(len(labels)), labels]).mean()
    assert scaler.score(LOGITS[6:], Y[6:]) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(exceptions.NotFittedError):
        kind().score(LOGITS, Y)


def test_temperature_of_two_classes_by_hand() -> None:
    """Of pixels of logits (2, 0) three of four are right: softmax must say 3/4."""
    logits = np.zeros((1, 2, 2, 2))
    logits[:, 0] = 2
    scaler = cm.TemperatureScaler().fit(logits, np.array([[[0, 0], [0, 1]]]))
    assert scaler.temperature_ == pytest.approx(2 / math.log(3), rel=1e-9)
    assert (scaler.nll_before_, scaler.nll_) == pytest.approx((0.62693, 0.56234), abs=5e-6)
    assert scaler.transform(logits)[:, 0] == pytest.approx(0.75)


@pytest.mark.parametrize(("label", "temperature"), [(0, 1e-3), (1, 1e3)])
def test_temperatures_that_have_no_end(label: int, temperature: float) -> None:
    """All pixels are right, or all are wrong."""
    logits = np.zeros((2, 2, 4, 4))
    logits[:, 0] = 2
    y = np.full((2, 4, 4), label)
    why = ["every drawn pixel .* is right", "X and y belong together"][label]
    with pytest.warns(UserWarning, match=f"likelihood still rises at T = {temperature:g}, .* {why}"):
        scaler = cm.TemperatureScaler().fit(logits, y)
    assert scaler.unbounded_
    assert scaler.temperature_ == pytest.approx(temperature)
    assert math.isinf(scaler.standard_error_)
    assert scaler.nll_ <= scaler.nll_before_


@pytest.mark.parametrize(
    "scaler",
    [
        cm.TemperatureScaler(),
        cm.StructuredScaler(),
        cm.StructuredScaler(decision="order"),
        cm.MetaCal(),
        cm.LocalTemperatureScaler(),
        cm.SelectiveScaler(base="temperature"),
    ],
)
def test_a_temperature_without_end_is_told_once_by_every_scaler(scaler: Any, tmp_path: Path) -> None:
    """The model is right everywhere, and as sure as a softmax is."""
    y = LOGITS.argmax(axis=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scaler.fit(LOGITS, y)
        assert np.isfinite(scaler.transform(LOGITS)).all()
    [warning] = caught
    assert "the likelihood still rises at T = 0.001" in str(warning.message)
    assert warning.filename == __file__
    if not isinstance(scaler, cm.SelectiveScaler):
        assert scaler.unbounded_
        scaler.save(tmp_path / "scaler.json")
        assert type(scaler).load(tmp_path / "scaler.json").unbounded_


def test_images_that_come_twice_are_told() -> None:
    twice = [0, 1, 2, 1]
    with pytest.warns(
        cm.DuplicateImagesWarning, match="images 1 and 3 of 4 are the same.*the map leans to them"
    ):
        cm.VectorScaler().fit(LOGITS[twice], Y[twice])
    scaler = cm.VectorScaler().partial_fit(LOGITS[:3], Y[:3])
    scaler.partial_fit(LOGITS[3:5], Y[3:5])
    with pytest.warns(cm.DuplicateImagesWarning, match="images 5 and 6, 1 and 7 of 8 are the same"):
        scaler.partial_fit(LOGITS[[5, 5, 1]], Y[[5, 5, 1]])
    other = cm.VectorScaler().partial_fit(LOGITS[4:7], Y[4:7])
    with pytest.warns(cm.DuplicateImagesWarning, match="images 4 and 8, 5 and 9 of 11 are the same"):
        scaler.merge(other)
    void = np.where(np.arange(4)[:, None, None] == 0, 255, Y[twice])
    with (
        pytest.warns(cm.DroppedImagesWarning),
        pytest.warns(cm.DuplicateImagesWarning, match="1 of 3 images came before"),
    ):
        cm.VectorScaler().fit(LOGITS[twice], void)


def test_images_have_not_come_where_a_warning_is_an_error() -> None:
    """Who handles the error may give them again."""
    scaler = cm.VectorScaler().partial_fit(LOGITS[:3], Y[:3])
    for add in (
        lambda: scaler.partial_fit(LOGITS[2:4], Y[2:4]),
        lambda: scaler.merge(cm.VectorScaler().partial_fit(LOGITS[2:4], Y[2:4])),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", cm.DuplicateImagesWarning)
            with pytest.raises(cm.DuplicateImagesWarning):
                add()
        assert scaler.n_images_ == 3


def test_images_join_only_those_that_were_read_alike() -> None:
    scaler = cm.TemperatureScaler().partial_fit(LOGITS[:3], Y[:3])
    scaler.set_params(random_state=1)
    with pytest.raises(
        ValueError, match=r"random_state is 1, but the images were calibrated with 0: fit again"
    ):
        scaler.partial_fit(LOGITS[3:5], Y[3:5])
    with pytest.raises(ValueError, match="random_state differs: 1 here, 0 there"):
        cm.TemperatureScaler(random_state=1).merge(
            scaler
        )  # not what it says now: what its pixels were drawn with
    with pytest.raises(ValueError, match=r"random_state is 1, .*: fit again"):
        scaler.merge(cm.TemperatureScaler(random_state=1).partial_fit(LOGITS[3:5], Y[3:5]))
    assert scaler.set_params(random_state=0).partial_fit(LOGITS[3:5], Y[3:5]).n_images_ == 5


def test_images_of_few_numbers_are_not_compared() -> None:
    """Those of a model that is sure are all alike; the same labels with other numbers are another image."""
    cm.TemperatureScaler().fit(4.0 * (LOGITS[[0, 0]] > 1), Y[[0, 0]])
    cm.TemperatureScaler().fit(np.stack([LOGITS[0], LOGITS[1]]), Y[[0, 0]])


def test_equal_logits_say_nothing_of_a_temperature() -> None:
    scaler = cm.TemperatureScaler().fit(np.zeros((2, 3, 4, 4)), np.zeros((2, 4, 4), int))
    assert (scaler.temperature_, scaler.unbounded_) == (1, False)


def test_standard_errors_are_those_of_images() -> None:
    """Each image has a temperature of its own: as many images as it takes, not pixels."""
    rng = np.random.default_rng(3)
    found, said = [], []
    for _ in range(60):
        logits, y = problem(16, int(rng.integers(2**30)), shape=(20, 20))
        logits *= np.exp(rng.normal(0, 0.3, (16, 1, 1, 1)))
        scaler = cm.TemperatureScaler().fit(logits, y)
        found.append(scaler.temperature_)
        said.append(scaler.standard_error_)
    assert np.mean(said) == pytest.approx(np.std(found), rel=0.35)


def test_groups_widen_the_error() -> None:
    logits, y = (np.repeat(array, 4, axis=0) for array in (LOGITS, Y))
    logits += np.arange(48).reshape(-1, 1, 1, 1)  # which makes images of one group others, and means nothing
    logits = logits * np.exp(np.random.default_rng(0).normal(0, 0.3, 12)).repeat(4)[:, None, None, None]
    alone = cm.TemperatureScaler().fit(logits, y)
    grouped = cm.TemperatureScaler().fit(logits, y, groups=np.arange(48) // 4)
    assert alone.temperature_ == pytest.approx(grouped.temperature_, rel=1e-12)
    by_size = np.sqrt((12 / 11) / (48 / 47))
    assert grouped.standard_error_ == pytest.approx(2 * by_size * alone.standard_error_, rel=1e-6)


@pytest.mark.parametrize("center", [True, False])
def test_vectors_are_those_of_scipy(center: bool) -> None:
    shift = np.array([0.5, -1, 0, 1]).reshape(K, 1, 1)
    logits = LOGITS * np.array([1, 2, 0.7, 1.5]).reshape(K, 1, 1) + shift
    scaler = cm.VectorScaler(center=center, ridge=0.1, n_pixels=2**40).fit(logits, Y)
    pixels, labels = flat(logits, Y)
    if center:
        pixels -= special.logsumexp(pixels, axis=1, keepdims=True)

    def value(parameters: NDArray) -> float:
        w, b = np.split(parameters, 2)
        penalty = 0.1 / len(LOGITS) * (((w - 1) ** 2).sum() + (b**2).sum())
        return log_loss(w * pixels + b, labels) + penalty

    start = np.repeat([1.0, 0.0], K)
    expected = optimize.minimize(value, start, method="BFGS", options={"gtol": 1e-9})
    w, b = np.split(expected.x, 2)
    assert scaler.weight_ == pytest.approx(w, abs=2e-6)
    assert scaler.bias_ == pytest.approx(b - b.mean(), abs=2e-6)


def test_a_matrix_is_that_of_scipy() -> None:
    logits, y = problem(4, k=3, shape=(20, 20))
    logits = np.einsum("ij,njhw->nihw", [[1, 0.4, 0], [0, 1.3, 0], [-0.3, 0, 0.8]], logits)
    scaler = cm.DirichletScaler(off_diagonal=0.2, intercept=0.1, ridge=0.3, n_pixels=2**40).fit(logits, y)
    pixels, labels = flat(logits, y)
    pixels -= special.logsumexp(pixels, axis=1, keepdims=True)

    def value(parameters: NDArray) -> float:
        matrix, b = parameters[:9].reshape(3, 3), parameters[9:]
        penalty = 0.2 / 6 * ((matrix * (1 - np.eye(3))) ** 2).sum() + 0.1 / 3 * (b**2).sum()
        penalty += 0.3 / 4 * ((np.diag(matrix) - 1) ** 2).sum()
        return log_loss(pixels @ matrix.T + b, labels) + penalty

    start = np.append(np.eye(3), np.zeros(3))
    expected = optimize.minimize(value, start, method="BFGS", options={"gtol": 1e-9})
    assert scaler.weight_ == pytest.approx(expected.x[:9].reshape(3, 3), abs=2e-5)
    assert scaler.bias_ == pytest.approx(expected.x[9:] - expected.x[9:].mean(), abs=2e-5)
    assert scaler.nll_ < scaler.nll_before_


@contextmanager
def told_of_absent(classes: str, told: bool = True) -> Iterator[None]:
    """One warning at the line that fits, which names the classes that no pixel has; or none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert len(caught) == told
    if told:
        [warning] = caught
        expected = f"none of the drawn pixels is labelled with {classes}: the map makes "
        assert str(warning.message).startswith(expected)
        assert str(warning.message).endswith("Fit to images that hold all classes, or use TemperatureScaler")
        assert (warning.category, warning.filename) == (UserWarning, __file__)


FITTED_BEFORE = cm.VectorScaler().fit(LOGITS, Y)


@pytest.mark.parametrize(
    ("scaler", "told"),
    [
        (cm.SelectiveScaler(base="vector"), True),
        (cm.SelectiveScaler(base="dirichlet"), True),
        (cm.SelectiveScaler(base=cm.StructuredScaler(decision="argmax")), True),
        (cm.SelectiveScaler(base=cm.SelectiveScaler(base="vector")), True),
        (cm.SelectiveScaler(base=FITTED_BEFORE), False),  # to images that hold the class
        (cm.SelectiveScaler(base="temperature"), False),
        (cm.SelectiveScaler(), False),
        (cm.LocalTemperatureScaler(), False),
        (cm.MetaCal(), False),
    ],
)
def test_a_class_that_no_pixel_has_is_told_where_the_map_has_numbers_for_it(scaler: Any, told: bool) -> None:
    with told_of_absent("class 2", told):
        scaler.set_params(n_pixels=200).fit(LOGITS, np.where(Y == 2, 255, Y))


def test_of_many_classes_that_no_pixel_has_some_are_named() -> None:
    logits, y = problem(3, k=12)
    with told_of_absent("classes 3, 4, 5, 6, 7 and 4 more"):
        cm.VectorScaler().fit(logits, np.where(y > 2, 255, y))
    with told_of_absent("classes 3, 5"):
        cm.VectorScaler().fit(logits, np.where((y == 3) | (y == 5), 255, y))


def test_classes_may_come_with_later_images() -> None:
    scaler = cm.VectorScaler().partial_fit(LOGITS[:6], np.where(Y[:6] == 2, 255, Y[:6]))
    scaler.partial_fit(LOGITS[6:], Y[6:])
    assert scaler.weight_.shape == (K,)
    scaler = cm.VectorScaler().partial_fit(LOGITS, np.where(Y == 2, 255, Y))
    with told_of_absent("class 2"):
        assert scaler.weight_.shape == (K,)


@pytest.mark.parametrize("kind", SCALERS)
def test_a_class_that_no_pixel_has_stays_finite(kind: Any) -> None:
    y = np.where(Y == 2, 1, Y)
    with told_of_absent("class 2", kind is not cm.TemperatureScaler):
        scaler = kind().fit(LOGITS, y)
    probabilities = scaler.transform(LOGITS)
    assert np.isfinite(probabilities).all()
    assert scaler.nll_ <= scaler.nll_before_


def test_a_class_that_no_pixel_has_stays_possible() -> None:
    """In new images, which have it; without a ridge its probability is 0 there."""
    logits, y = scaling_twin.problem(12, scale=1.5)
    new, new_y = scaling_twin.problem(12, 1, scale=1.5)
    without = np.where(y == 1, 255, y)
    with told_of_absent("class 1"):
        free = cm.DirichletScaler(ridge=0).fit(logits, without)
    with told_of_absent("class 1"):
        scaler = cm.DirichletScaler().fit(logits, without)
    with told_of_absent("class 1"):
        vector = cm.VectorScaler().fit(logits, without)
    assert free.weight_[1, 1] > 100
    assert abs(scaler.weight_).max() < 5
    loss, of_vector = (scaling_twin.log_loss(each.transform(new), new_y) for each in (scaler, vector))
    assert loss < 1.5 * of_vector
    assert scaler.nll_ == pytest.approx(free.nll_, rel=1e-3)


# Probabilities


def twin(scaler: Any, logits: NDArray) -> NDArray:
    u = logits.astype(np.float64)
    if not isinstance(scaler, cm.TemperatureScaler):
        u = special.log_softmax(u, axis=1)
    if isinstance(scaler, cm.TemperatureScaler):
        z = u / scaler.temperature_
    else:
        matrix = scaler.weight_ if scaler.weight_.ndim == 2 else np.diag(scaler.weight_)
        z = np.einsum("ij,njhw->nihw", matrix, u) + scaler.bias_[:, None, None]
    return special.softmax(z, axis=1)


@pytest.mark.parametrize("kind", SCALERS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_are_those_of_the_twin(kind: Any, dtype: type) -> None:
    logits = (3 * LOGITS).astype(dtype)
    scaler = kind().fit(logits, Y)
    found = scaler.transform(logits)
    assert found.dtype == (np.float64 if dtype == np.float64 else np.float32)
    tolerance = 1e-12 if dtype == np.float64 else 3e-5
    assert found == pytest.approx(twin(scaler, logits), abs=tolerance)
    views = np.ascontiguousarray(np.moveaxis(logits, 1, -1))
    assert scaler.transform(np.moveaxis(views, -1, 1)) == pytest.approx(found, abs=1e-6)
    assert [(a == b).all() for a, b in zip(scaler.transform(list(logits)), found, strict=True)] == [True] * 12


@pytest.mark.parametrize("kind", SCALERS)
def test_a_constant_that_is_added_changes_nothing(kind: Any) -> None:
    shift = np.random.default_rng(0).normal(0, 30, (12, 1, *SHAPE))
    scaler, shifted = kind().fit(LOGITS, Y), kind().fit(LOGITS + shift, Y)
    assert shifted.nll_ == pytest.approx(scaler.nll_, rel=1e-9)
    assert shifted.transform(LOGITS + shift) == pytest.approx(scaler.transform(LOGITS), abs=1e-6)


@pytest.mark.parametrize("kind", SCALERS)
def test_numbers_that_are_large_by_a_constant_lose_no_bits(kind: Any) -> None:
    """Numbers of 1/64 have the same differences in float32 when 8192 is added."""
    logits = (np.round(LOGITS * 64) / 64).astype(np.float32)
    scaler = kind().fit(logits, Y)
    assert scaler.transform(logits + 8192) == pytest.approx(scaler.transform(logits), abs=3e-7)


def test_a_temperature_keeps_the_most_probable_class() -> None:
    logits = (4 * LOGITS).astype(np.float32)
    scaler = cm.TemperatureScaler().fit(logits, Y)
    assert (scaler.transform(logits).argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("kind", SCALERS)
def test_probabilities_stand_for_their_logarithms(kind: Any) -> None:
    probabilities = special.softmax(LOGITS, axis=1)
    scaler = kind(inputs="probabilities").fit(probabilities, Y)
    expected = kind().fit(np.log(probabilities), Y)
    assert scaler.nll_ == pytest.approx(expected.nll_, rel=1e-9)
    assert scaler.transform(probabilities) == pytest.approx(
        expected.transform(np.log(probabilities)), abs=1e-7
    )
    one_hot = np.zeros((1, K, 1, 2))
    one_hot[:, 0] = 1
    assert scaler.transform(one_hot) == pytest.approx(twin(scaler, np.log(one_hot.clip(LEAST))), abs=1e-9)
    one_hot[0, 0, 0, 1] = 1.1
    with pytest.raises(ValueError, match=r"sum to 1\.1 .*|pixel \(0, 1\)"):
        scaler.transform(one_hot)


# Workers and files


@pytest.mark.parametrize("kind", SCALERS)
def test_any_split_over_workers_gives_the_bits_of_one(kind: Any) -> None:
    whole = kind(n_pixels=200).fit(LOGITS, Y)
    first, second = kind(n_pixels=200), kind(n_pixels=200)
    first.partial_fit(LOGITS[7:], Y[7:])
    second.partial_fit(LOGITS[:3], Y[:3]).partial_fit(LOGITS[3:7], Y[3:7])
    joined = first.merge(second)
    assert joined.nll_ == whole.nll_
    assert (joined.transform(LOGITS) == whole.transform(LOGITS)).all()


def test_merged_scalers_may_differ_in_how_the_map_is_found() -> None:
    whole = cm.VectorScaler(ridge=0.5, n_pixels=200).fit(LOGITS, Y)
    first = cm.VectorScaler(ridge=0.5, n_pixels=200).fit(LOGITS[:5], Y[:5])
    merged = first.merge(cm.VectorScaler(center=False, n_pixels=200).fit(LOGITS[5:], Y[5:]))
    assert (merged.weight_ == whole.weight_).all()
    for name, value in {
        "n_pixels": 100,
        "random_state": 1,
        "ignore_index": None,
        "inputs": "probabilities",
    }.items():
        with pytest.raises(ValueError, match=f"{name} differs"):
            merged.merge(cm.VectorScaler(**{"n_pixels": 200, name: value}).partial_fit(*given(name)))


def given(name: str) -> tuple[NDArray, NDArray]:
    """Other images, which a scaler with another parameter can read."""
    logits, y = problem(2, 5)
    if name == "ignore_index":
        y = np.where(y == 255, 0, y)
    return (special.softmax(logits, axis=1) if name == "inputs" else logits), y


@pytest.mark.parametrize("kind", SCALERS)
def test_files(kind: Any, tmp_path: Path) -> None:
    scaler = kind(n_pixels=100, random_state=3).fit(LOGITS, Y)
    scaler.save(tmp_path / "scaler.json")
    loaded = kind.load(tmp_path / "scaler.json")
    assert loaded.get_params() == scaler.get_params()
    assert (loaded.transform(LOGITS) == scaler.transform(LOGITS)).all()
    with pytest.raises(ValueError, match="has no pixels: fit again"):
        loaded.partial_fit(LOGITS, Y)
    other = next(each for each in SCALERS if each is not kind)
    with pytest.raises(ValueError, match=kind.__name__):
        other.load(tmp_path / "scaler.json")


# Bad input


@pytest.mark.parametrize("kind", SCALERS)
def test_bad_input_is_refused(kind: Any) -> None:
    with pytest.warns(UserWarning, match="as probabilities do"):
        kind().fit(special.softmax(LOGITS, axis=1), Y)
    with pytest.raises(ValueError, match="none of 12 images has a labelled pixel"):
        kind().fit(LOGITS, np.full(Y.shape, 255))
    scaler = kind().fit(LOGITS, Y)
    with pytest.raises(ValueError, match="X has K = 3 classes, but the scaler was fitted with K = 4"):
        scaler.transform(LOGITS[:, :3])
    bad = LOGITS.copy()
    bad[1, 0, 2, 3] = math.nan
    with pytest.raises(ValueError, match=r"not finite in image 1: class 0 is NaN at pixel \(2, 3\)"):
        scaler.transform(bad)
    for name, value in {"n_pixels": 0, "random_state": -1, "inputs": "scores"}.items():
        with pytest.raises(ValueError, match=name):
            kind(**{name: value}).fit(LOGITS, Y)
    with pytest.raises(TypeError, match=r"n_pixels must be an int, got 'all'; 2\*\*40 takes all"):
        kind(n_pixels="all").fit(LOGITS, Y)
    grouped, plain = kind().partial_fit(LOGITS, Y, groups=range(12)), kind().partial_fit(LOGITS, Y)
    with pytest.raises(ValueError, match="before have groups, these have none: groups must be given for all"):
        grouped.partial_fit(LOGITS, Y)
    with pytest.raises(ValueError, match="before have none, these have groups: groups must be given for all"):
        plain.merge(grouped)
    with pytest.warns(cm.DroppedImagesWarning, match="1 of 12 images have no labelled pixel"):
        kind().fit(LOGITS, np.where(np.arange(12)[:, None, None] == 4, 255, Y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_prediction_stays_where_rounding_makes_classes_equal(dtype: type) -> None:
    logits = np.random.default_rng(3).normal(0, 1e-5, (4, K, *SHAPE)).astype(dtype)
    coolest = _core.ScalerMap.affine(np.array([1e-3]), np.empty(0), True, False)
    p = np.empty(logits.shape, dtype)
    _core.probabilities(logits, coolest, p, 0)
    assert (p.argmax(axis=1) == logits.argmax(axis=1)).all()
    assert p == pytest.approx(0.25, abs=1e-7)


# Looks


def test_what_was_learnt_is_shown() -> None:
    fitted = cm.TemperatureScaler(n_pixels=30).fit(LOGITS, Y)
    found = f"temperature_={fitted.temperature_:.4g}, nll_={fitted.nll_:.4g}"
    assert repr(fitted) == f"TemperatureScaler(n_pixels=30, {found})"
    assert "temperature_=" in repr(cm.StructuredScaler().fit(LOGITS, Y))
    assert "T1_=" in repr(cm.SelectiveScaler(features="probs", hidden=()).fit(LOGITS, Y))
