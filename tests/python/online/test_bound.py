"""The mean loss keeps to its bound, whatever comes: an adversary sees lambda and chooses the worst loss."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pytest

import conformask as cm
from conformask.online._recent import Recent

Controller = cm.OnlineRiskController


def worst(lam: float) -> float:
    """What an adversary makes of a prediction: all is missed, unless sets are full."""
    return float(lam < 1)


def played(
    controller: Controller, rounds: int, delay: int = 0, seed: int = 0
) -> tuple[list[float], list[float]]:
    """Mean losses and bounds after each update; labels come in the order of predictions, late by chance."""
    rng = np.random.default_rng(seed)
    waiting: deque[tuple[int, float]] = deque()
    means, bounds = [], []
    while len(means) < rounds:
        if not waiting or (len(waiting) <= delay and rng.random() < 0.7):
            waiting.append((controller.n_updates_, worst(controller.lambda_hat_)))
            continue
        t, loss = waiting.popleft()
        assert controller.lambda_at(t) >= 1 or loss == 1
        controller.update(loss, t=t)
        means.append(controller.mean_loss_)
        bounds.append(controller.risk_bound_)
    return means, bounds


@pytest.mark.parametrize("delay", [0, 1, 7])
@pytest.mark.parametrize("decay", [0, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(2))
def test_an_adversary_does_not_get_above_it(delay: int, decay: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    alpha, step = round(rng.uniform(0.02, 0.5), 3), round(10 ** rng.uniform(-0.3, 0.5), 3)
    controller = Controller(alpha=alpha, step=step, decay=decay, initial=round(rng.random(), 3))
    means, bounds = played(controller, 700, delay, seed)
    assert all(mean <= bound + 1e-12 for mean, bound in zip(means, bounds, strict=True))
    assert bounds[-1] < 1, "else this would say nothing"
    assert means[-1] > 0.5 * alpha, "it did play"


@pytest.mark.parametrize("decay", [0, 0.3, 0.6])
def test_random_losses_keep_to_it_too(decay: float) -> None:
    rng = np.random.default_rng(0)
    for floor in ("auto", None):
        controller = Controller(alpha=0.2, step=0.3, decay=decay, initial=0.5, floor=floor)
        for _ in range(300):
            loss = rng.random() if rng.random() < 0.3 else 0.0
            controller.update(0.0 if controller.lambda_hat_ >= 1 else loss)
            assert controller.mean_loss_ <= controller.risk_bound_ + 1e-12


def test_the_bound_is_the_formula() -> None:
    at_once = Controller(alpha=0.1, step=0.05, initial=0.5).update([0.0] * 20).update([0.0] * 180)
    assert at_once.risk_bound_ == pytest.approx(0.1 + (1 - 0.5 + 180 * 0.05 * 0.9) / (0.05 * 200))
    constant = Controller(alpha=0.1, step=0.05, initial=0.5)
    for _ in range(1000):
        constant.update(0.0)
    assert constant.risk_bound_ == pytest.approx(0.1 + (1 - 0.5 + 0.05 * 0.9) / (0.05 * 1000))
    decaying = Controller(alpha=0.1, step=0.5, decay=0.6, initial=0.5)
    for _ in range(1000):
        decaying.update(0.0)
    assert decaying.lambda_ == 0, "by a decay, the floor is 0"
    top = 1 + 0.5 * 0.9
    summed = top * 1000**0.6 / 0.5 - 0.5 / 0.5
    assert decaying.risk_bound_ == pytest.approx(0.1 + summed / 1000)
    assert Controller().risk_bound_ == 1.0
    of_ranks = Controller("raps", alpha=0.1, step=1.0)
    of_ranks.predict(np.full((1, 10, 2, 2), 0.1))
    largest = 1 + 0.05 * 5
    for _ in range(10):
        of_ranks.update(0.0)
    assert of_ranks.risk_bound_ == pytest.approx(0.1 + (largest - 1 + 0.9) / 10)


def test_it_is_nearly_reached() -> None:
    """A bound that is much too large would pass all tests but this one."""
    controller = Controller(alpha=0.1, step=0.05, initial=0.0)
    slack = []
    for _ in range(200):
        controller.update(worst(controller.lambda_hat_))
        slack.append((controller.risk_bound_ - controller.mean_loss_) * controller.n_updates_ * 0.05)
    assert 0 <= min(slack) <= 0.05
    # Predictions that are just below full sets, all of whose labels come late.
    late = Controller(alpha=0.1, step=0.05, initial=0.999).update([1.0] * 8)
    assert late.lambda_ == pytest.approx(0.999 + 8 * 0.045)
    top = 1 + 8 * 0.05 * 0.9
    assert top - late.lambda_ == pytest.approx(0.001)


def test_lambda_does_not_come_back_in_time_by_smaller_steps_without_a_floor() -> None:
    """The docstring's figure: losses of 0, then of 1, make the mean loss 1 - (1 - alpha)^(1 / (1 - p))."""
    means = {}
    for floor in (None, 0.0):
        controller = Controller(alpha=0.1, step=0.5, decay=0.5, initial=0.0, floor=floor)
        controller.update([0.0] * 4000, t=None)
        n = 0
        while controller.lambda_ < 0 or not n:
            controller.update(1.0)
            n += 1
        assert controller.mean_loss_ <= controller.risk_bound_
        means[floor] = controller.mean_loss_
    assert means[None] == pytest.approx(1 - 0.9**2, abs=0.005)
    assert means[0.0] < 0.001


def test_drift_is_reported() -> None:
    """All is right with the most probable class: lambda sinks, the mean stays below alpha, and losses are paid for."""
    controller = Controller(alpha=0.1, step=0.05, initial=0.0)
    for _ in range(100):
        controller.update(0.0)
    assert controller.drift_ == pytest.approx(100 * 0.05 * 0.1)
    assert (controller.lambda_hat_, controller.mean_loss_) == (0, 0)
    n = 0
    while controller.drift_:
        controller.update(1.0)
        n += 1
    assert n == math.ceil(0.5 / (0.05 * 0.9))
    assert controller.mean_loss_ <= controller.risk_bound_
    held = Controller(alpha=0.1, step=0.05, initial=0.5, floor=0.25)
    for _ in range(100):
        held.update(0.0)
    assert (held.lambda_, held.drift_) == (0.25, 0)


@pytest.mark.parametrize("most", [1, 3, None])
def test_the_last_numbers_by_a_list(most: int | None) -> None:
    rng = np.random.default_rng(0)
    recent, known, branches = Recent(most), [], []
    for i in range(50):
        recent, known = recent.add(float(i)), [*known, float(i)]
        branches.append((recent, known))
        if rng.random() < 0.3:  # going on from an older one leaves the newer one as it is
            recent, known = branches[rng.integers(len(branches))]
    for found, numbers in branches:
        kept = numbers if most is None else numbers[-most:]
        assert found.to_numpy().tolist() == kept
        assert [found[j] for j in range(len(found))] == kept
        assert found.at_most(2).to_numpy().tolist() == numbers[-2:] if most != 1 else True
    with pytest.raises(IndexError):
        recent[len(recent)]
