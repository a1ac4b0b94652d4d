"""Lambda follows the losses by its rule, and its sets and losses are those of a calibrator."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import conformask as cm
from problems import wide

Controller = cm.OnlineRiskController
PROBLEM = wide(n=60, n_classes=3, size=(5, 4))
X, Y = PROBLEM.X, PROBLEM.y
SCORES = ["lac", "aps", cm.RAPS(), cm.SACP(cm.APS())]


def sets(image: np.ndarray, lam: float) -> np.ndarray:
    """LAC's sets of an image (K, ...), with the most probable class."""
    image = image.astype(np.float64)
    return (1 - image <= lam) | (np.arange(len(image))[:, None, None] == image.argmax(axis=0))


def loss_of(image: np.ndarray, labels: np.ndarray, lam: float) -> float:
    valid = labels != 255
    held = np.take_along_axis(sets(image, lam), np.where(valid, labels, 0)[None], axis=0)[0]
    return float((valid & ~held).sum() / valid.sum())


def test_the_known_answer() -> None:
    controller, lambdas = Controller(alpha=0.1, step=0.05, initial=0.5), []
    for loss in (1, 0, 0):
        lambdas.append(controller.update(loss).lambda_)
    assert lambdas == pytest.approx([0.545, 0.54, 0.535], abs=1e-15)
    at_once = Controller(alpha=0.1, step=0.05, initial=0.5).update([1, 0, 0])
    assert at_once.lambda_ == lambdas[-1]
    assert at_once.mean_loss_ == 1 / 3
    assert at_once.history_.lambdas.tolist() == lambdas
    assert at_once.history_.mean_losses.tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert at_once.history_.updates.tolist() == [1, 2, 3]


@pytest.mark.parametrize("decay", [0, 0.6])
def test_image_by_image_by_the_twin(decay: float) -> None:
    controller, lam = Controller(alpha=0.15, step=0.1, decay=decay, initial=0.5), 0.5
    for k, (image, labels) in enumerate(zip(X, Y, strict=True), start=1):
        cut = min(max(lam, 0.0), 1.0)
        assert np.array_equal(controller.predict(image[None])[0], sets(image, cut))
        assert np.array_equal(controller.set_size(image[None])[0], sets(image, cut).sum(axis=0))
        loss = loss_of(image, labels, cut)
        lam += 0.1 * k**-decay * (loss - 0.15)
        lam = max(lam, 0.0) if decay else lam
        controller.update(image[None], labels[None])
        assert controller.history_.losses[-1] == pytest.approx(loss, abs=1e-15)
        assert controller.lambda_ == pytest.approx(lam, abs=1e-12)
    assert (controller.n_updates_, controller.n_skipped_) == (60, 0)
    assert controller.mean_loss_ == pytest.approx(controller.history_.losses.mean())


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    "loss", ["miscoverage", "binary", cm.FalseNegativeLoss([1, 2]), lambda c: (1 - c) ** 2]
)
def test_it_starts_where_a_calibrator_ends(score: Any, loss: Any) -> None:
    calibrator = cm.ConformalRiskCalibrator(score, loss=loss, alpha=0.3).fit(X[:30], Y[:30])
    controller = Controller.from_calibrator(calibrator, step=0.01)
    assert (controller.lambda_, controller.alpha) == (calibrator.lambda_hat_, 0.3)
    assert np.array_equal(controller.predict(X[30:]), calibrator.predict(X[30:]))
    assert np.array_equal(controller.set_size(X[30:]), calibrator.set_size(X[30:]))
    controller.update(X[30:], Y[30:])
    known = cm.kernels.losses(X[30:], Y[30:], calibrator.lambda_hat_, calibrator.loss, score)
    assert controller.history_.losses.tolist() == known.tolist()
    with pytest.raises(ValueError, match="X has K = 4 classes, but K = 3 before"):
        controller.predict(np.full((1, 4, 5, 4), 0.25))


def test_logits_scalers_and_void_as_a_calibrator() -> None:
    logits = np.log(X.clip(1e-6))
    y = np.where(Y == 255, 7, Y)
    scaler = cm.TemperatureScaler(ignore_index=7).fit(logits[:20], y[:20])
    calibrator = cm.ConformalRiskCalibrator(inputs="logits", transform=scaler, ignore_index=7, alpha=0.2)
    controller = Controller.from_calibrator(calibrator.fit(logits[20:40], y[20:40]), alpha=0.1, history=5)
    assert (controller.alpha, controller.inputs, controller.ignore_index) == (0.1, "logits", 7)
    assert np.array_equal(controller.predict(logits[40:]), calibrator.predict(logits[40:]))
    controller.update(logits[40:], y[40:])
    risk = calibrator.evaluate(logits[40:], y[40:]).empirical_risk
    assert controller.mean_loss_ == pytest.approx(risk, abs=1e-15)
    with pytest.raises(ValueError, match="inputs='probabilities', but the scaler"):
        Controller(transform=scaler).predict(X)


def test_images_come_in_any_container() -> None:
    arrays, lists, streams = (Controller(initial=0.5, step=0.01) for _ in range(3))
    arrays.update(X, Y)
    lists.update(list(X), list(Y))
    streams.update(iter(X), iter(Y))
    assert arrays.lambda_ == lists.lambda_ == streams.lambda_
    assert isinstance(arrays.predict(list(X[:2])), list)
    stream = arrays.predict(iter(X[:2]))
    expected = arrays.predict(X[:2])
    arrays.update(1.0)  # what comes later is predicted at the lambda of the call
    assert np.array_equal(np.stack(list(stream)), expected)


# Time


def test_late_labels_count_with_the_lambda_of_their_prediction() -> None:
    controller = Controller(alpha=0.2, step=0.3, initial=0.3)
    tickets, cuts = [], []
    for i in range(10):  # labels of image i come when image i + 3 has been predicted
        tickets.append(controller.n_updates_)
        cuts.append(controller.lambda_hat_)
        if i >= 3:
            controller.update(X[i - 3 : i - 2], Y[i - 3 : i - 2], t=tickets[i - 3])
    assert tickets == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert controller.history_.losses.tolist() == pytest.approx(
        [loss_of(X[i], Y[i], cuts[i]) for i in range(7)], abs=1e-15
    )
    assert [controller.lambda_at(t) for t in tickets] == cuts
    rest = Controller(alpha=0.2, step=0.3, initial=0.3).update(X[:1], Y[:1], t=0)
    rest.update(X[1:7], Y[1:7], t=[0, 0, 0, 1, 1, 0])
    expected = [cuts[0]] * 3 + [rest.lambda_at(1)] * 2 + [cuts[0]]
    assert rest.history_.losses[1:].tolist() == pytest.approx(
        [loss_of(X[i], Y[i], lam) for i, lam in zip(range(1, 7), expected, strict=True)], abs=1e-15
    )
    as_list = Controller(alpha=0.2, step=0.3, initial=0.3).update(X[:1], Y[:1], t=0)
    as_list.update(list(X[1:7]), list(Y[1:7]), t=np.array([0, 0, 0, 1, 1, 0]))
    assert as_list.lambda_ == rest.lambda_


def test_a_batch_is_predicted_before_any_of_its_labels() -> None:
    controller = Controller(alpha=0.2, step=0.3, initial=0.3).update(X[:5], Y[:5])
    assert controller.history_.losses.tolist() == pytest.approx([loss_of(X[i], Y[i], 0.3) for i in range(5)])
    one_by_one = Controller(alpha=0.2, step=0.3, initial=0.3)
    for i in range(5):
        one_by_one.update(X[i : i + 1], Y[i : i + 1])
    assert one_by_one.risk_bound_ < controller.risk_bound_ or controller.risk_bound_ == 1


def test_lambdas_of_the_past_are_kept_as_long_as_told() -> None:
    controller = Controller(initial=0.5, history=3)
    for loss in np.linspace(0, 1, 10):
        controller.update(loss)
    history = controller.history_
    assert [len(each) for each in history] == [3] * 4
    assert history.updates.tolist() == [8, 9, 10]
    assert [controller.lambda_at(t) for t in (0, 8, 9, 10)] == [0.5, *history.lambdas]
    assert history.mean_losses[-1] == pytest.approx(controller.mean_loss_) == pytest.approx(0.5)
    for use in (controller.lambda_at, lambda t: controller.update(X[:1], Y[:1], t=t)):
        with pytest.raises(
            ValueError, match=r"t = 5 is not kept any more, those from t = 8 on are: history=3"
        ):
            use(5)
        with pytest.raises(ValueError, match="t must be from 0 to n_updates_ = 10, got 11"):
            use(11)
    longer = controller.set_params(history=5).update(0.5)
    assert longer.history_.updates.tolist() == [8, 9, 10, 11]
    assert Controller(history=None).update([0.0] * 20_001).history_.losses.shape == (20_001,)


def test_mean_losses_are_exact() -> None:
    losses = np.random.default_rng(0).random(3000)
    controller = Controller(history=10, initial=0.5, step=0.0001)
    for part in np.split(losses, [1, 500, 501, 2000]):
        controller.update(part)
    assert controller.mean_loss_ == float(sum(map(Fraction, losses.tolist())) / 3000)
    assert np.isnan(Controller().mean_loss_)


# Void


def test_images_without_a_loss() -> None:
    void = np.full_like(Y[:1], 255)
    controller = Controller(initial=0.5)
    with pytest.warns(cm.DroppedImagesWarning, match="it is skipped, lambda stays"):
        controller.update(np.concatenate([X[:1], X[:1]]), np.concatenate([void, Y[:1]]))
    controller.update(X[:1], void)  # it has been said
    assert (controller.n_updates_, controller.n_skipped_) == (1, 2)
    assert controller.mean_loss_ == pytest.approx(loss_of(X[0], Y[0], 0.5))
    zero = Controller(initial=0.5, on_empty="zero_loss").update(X[:1], void)
    assert (zero.n_updates_, zero.mean_loss_, zero.n_skipped_) == (1, 0, 0)
    with pytest.raises(ValueError, match="the loss is undefined on image 1"):
        Controller(on_empty="raise").update(X[:2], np.concatenate([Y[:1], void]))


# Bad input


BAD: dict[str, tuple[Any, ...]] = {
    r"a loss must lie in \[0, 1\], got 1.5": (1.5,),
    r"a loss must lie in \[0, 1\], got -0.1": ([0.5, -0.1],),
    "a loss must be finite, got nan": (float("nan"),),
    "a loss must be finite, got inf": ([0.0, float("inf")],),
    "a loss is empty": ([],),
    "scores need their labels: update": (X,),
    "got 'high'; scores need": ("high",),
    "a loss must be a number .* got True": (True,),
    "a loss must be a number .* got None": (None,),
    "a loss must be a number .* got <generator": ((each for each in [0.5]),),
    "to match X": (X, Y[:, 1:]),
    "X has 60 images, y has 59|to match X": (X, Y[:59]),
    r"X has K = 2 classes, but K = 3 before": (X[:, :2] / X[:, :2].sum(axis=1, keepdims=True), Y),
    "image 3: class 1 is NaN": (
        np.where(np.arange(60)[:, None, None, None] == 3, np.nan, X)[:, [1, 1, 1]][:5],
        Y[:5],
    ),
    "y": (X, X),
}


@pytest.mark.parametrize("message", BAD)
def test_an_update_that_fails_leaves_all_as_it_was(message: str) -> None:
    controller = Controller(initial=0.5).update(X[:3], Y[:3])
    state = controller._state
    if message.startswith("image 3"):
        maps = X[:5].copy()
        maps[3, 1, 0, 0] = np.nan
        given: tuple[Any, ...] = (maps, Y[:5])
    else:
        given = BAD[message]
    with pytest.raises((ValueError, TypeError), match=message):
        controller.update(*given)
    assert controller._state is state


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (-1, "t must be from 0 to n_updates_ = 3, got -1"),
        (4, "t must be from 0 to n_updates_ = 3, got 4"),
        (1.0, "t must be an int or a sequence of n ints"),
        (True, "t must be an int or a sequence of n ints"),
        ([0, 1], "t must hold an int for each of 3 images, got 2"),
        ([0, 1, 2, 3], "t must hold an int for each of 3 images, got 4"),
        ([[0, 1, 2]], "t must be an int or a sequence of n ints"),
    ],
)
def test_times_that_cannot_be(t: Any, message: str) -> None:
    controller = Controller(initial=0.5).update(X[:3], Y[:3])
    state = controller._state
    for given in ((X[3:6], Y[3:6]), (list(X[3:6]), list(Y[3:6])), ([0.5, 0.5, 0.5],)):
        with pytest.raises((ValueError, TypeError), match=message):
            controller.update(*given, t=t)
    assert controller._state is state


def test_what_is_no_calibrator_of_one_lambda() -> None:
    with pytest.raises(TypeError, match="calibrator must be a fitted ConformalRiskCalibrator, got a LAC"):
        Controller.from_calibrator(cm.LAC())
    with pytest.raises(Exception, match="has seen no images yet"):
        Controller.from_calibrator(cm.ConformalRiskCalibrator())
    adaptive = cm.ConformalRiskCalibrator(adaptive=lambda X, images: np.full(len(X), 0.5)).fit(X, Y)
    with pytest.raises(TypeError, match="one lambda_hat_"):
        Controller.from_calibrator(adaptive)
    with pytest.raises(ValueError, match=r"step must be above 0, got 0"):
        Controller.from_calibrator(cm.ConformalRiskCalibrator().fit(X, Y), step=0)


def test_the_largest_lambda_of_ranks_needs_k() -> None:
    controller = Controller("raps").update(0.5)
    with pytest.raises(ValueError, match=r"depends on the number of classes.* call predict\(X\) first"):
        controller.risk_bound_  # noqa: B018
    assert controller.predict(X).shape == X.shape
    assert controller.risk_bound_ == 1


def test_wrong_numbers_are_warned_of() -> None:
    shares = wide(n=2, size=(16, 16)).X
    for use in (lambda c: c.predict(shares), lambda c: c.update(shares, shares.argmax(axis=1))):
        with pytest.warns(UserWarning, match="logits"):
            use(Controller(inputs="logits"))


def test_losses_of_full_sets_are_warned_of() -> None:
    controller = Controller(initial=0.99)
    controller.update([1.0, 0.0])  # both predicted below
    for given, t in ((0.5, None), ([0.0, 0.1], None), (0.5, 1)):
        with pytest.warns(UserWarning, match="a loss is above 0 although sets were full"):
            controller.update(given, t=t)
    controller.update(0.5, t=0).update(0.0).update(X, Y)


# Threads


def test_no_update_of_a_thread_is_lost() -> None:
    controller = Controller(alpha=0.1, step=0.01, initial=0.5, history=50)
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            history = controller.history_
            assert len(history.losses) == len(history.lambdas) <= 50
            assert 0 <= controller.lambda_hat_ <= 1

    def add(i: int) -> None:
        controller.update(X[i : i + 1], Y[i : i + 1]) if i % 2 else controller.update(0.25)

    with ThreadPoolExecutor(6) as pool:
        reader = pool.submit(read)
        list(pool.map(add, range(60)))
        done.set()
        reader.result()
    assert controller.n_updates_ == 60
    known = 0.5 + 0.01 * (60 * controller.mean_loss_ - 6)
    assert controller.lambda_ == pytest.approx(known, abs=1e-12)
    assert controller.mean_loss_ <= controller.risk_bound_


def test_ctrl_c_leaves_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    from conformask.online._track import Settings

    controller, twin = (Controller(initial=0.5).update([0.5] * 5) for _ in range(2))
    state, after, calls = controller._state, Settings.after, []

    def stopped(self: Settings, lam: float, loss: float, update: int) -> float:
        calls.append(update)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return after(self, lam, loss, update)

    monkeypatch.setattr(Settings, "after", stopped)
    with pytest.raises(KeyboardInterrupt):
        controller.update([1.0] * 5)
    monkeypatch.undo()
    assert controller._state is state
    for each in (controller, twin):
        each.update([0.0, 1.0])
    assert controller.history_.lambdas.tolist() == twin.history_.lambdas.tolist()


def test_losses_that_may_rise_are_refused() -> None:
    with pytest.raises(ValueError, match=r"loss must not rise as lambda grows, which PrecisionLoss"):
        cm.OnlineRiskController(loss=cm.PrecisionLoss([1])).update(0.5)
    with pytest.raises(ValueError, match=r"alpha=0.05 is the level of a mean loss, for kind='risk'"):
        cm.DriftAlarm(alpha=0.05).update(0.5)
    with pytest.raises(ValueError, match="leave out images on which the loss is undefined"):
        cm.DriftAlarm("risk", alpha=0.05).update(np.nan)
