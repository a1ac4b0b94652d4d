"""Control of a stream under calls in any order, beside its rule in plain Python."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

import conformask as cm
from machines import CountedMachine, failure_of, quietly, run
from problems import labels, probabilities

RNG = np.random.default_rng(21)
X = probabilities(RNG, (10, 3, 3, 4), None, "float32")
Y = labels(RNG, X, 0.6, 0.1)
Y[0] = 255

PARAMETERS = {
    "constant": {"step": 0.2},
    "decaying": {"step": 0.5, "decay": 0.6},
    "with a floor": {"step": 0.3, "floor": 0.0, "initial": 0.5},
    "aps": {"conformity_score": "aps", "loss": "binary", "alpha": 0.3},
    "short": {"step": 0.1, "history": 3},
}


@dataclass
class Model:
    """What the rule says."""

    step: float = 0.05
    decay: float = 0.0
    floor: float = -math.inf
    alpha: float = 0.1
    lambdas: list[float] = field(default_factory=lambda: [1.0])  # before any update, and after each
    losses: list[float] = field(default_factory=list)
    n_skipped: int = 0

    def clipped(self, t: int) -> float:
        return min(max(self.lambdas[t], 0.0), 1.0)

    def add(self, loss: float) -> None:
        if math.isnan(loss):
            self.n_skipped += 1
            return
        self.losses.append(loss)
        step = self.step * (len(self.losses) ** -self.decay if self.decay else 1.0)
        self.lambdas.append(max(self.floor, self.lambdas[-1] + step * (loss - self.alpha)))


class Online(CountedMachine):
    """A controller, and a copy of it that goes ways of its own."""

    @initialize(name=st.sampled_from(sorted(PARAMETERS)))
    def start(self, name: str) -> None:
        self.parameters = PARAMETERS[name]
        self.pair = [cm.OnlineRiskController(**self.parameters) for _ in range(2)]
        self.models = [self.new(), self.new()]

    def new(self) -> Model:
        found = Model(
            **{k: v for k, v in self.parameters.items() if k in ("step", "decay", "alpha", "floor")}
        )
        if found.decay and "floor" not in self.parameters:
            found.floor = 0.0
        found.lambdas = [self.parameters.get("initial", 1.0)]
        return found

    def check(self) -> None:
        self.counted["steps"] += 1
        for controller, model in zip(self.pair, self.models, strict=True):
            n = len(model.losses)
            assert (controller.n_updates_, controller.n_skipped_) == (n, model.n_skipped)
            assert controller.lambda_ == model.lambdas[-1]
            assert controller.lambda_hat_ == model.clipped(n)
            assert controller.drift_ == max(0.0, -model.lambdas[-1])
            kept = min(n, controller.history)
            history = controller.history_
            assert history.lambdas.tolist() == model.lambdas[n - kept + 1 : n + 1]
            assert history.losses.tolist() == model.losses[n - kept :]
            if n:
                assert controller.mean_loss_ == float(sum(map(Fraction, model.losses), Fraction()) / n)

    def loss(self, image: int, lam: float) -> float:
        asked = {"conformity_score": self.parameters.get("conformity_score", "lac")}
        with quietly():
            found = cm.kernels.losses(
                X[image : image + 1],
                Y[image : image + 1],
                lam,
                loss=self.parameters.get("loss", "miscoverage"),
                **asked,
            )
        return float(np.ravel(found)[0])

    @rule(
        which=st.integers(0, 1),
        losses=st.lists(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 1.0]), min_size=1, max_size=6),
    )
    def update_by_losses(self, which: int, losses: list[float]) -> None:
        with quietly():
            self.pair[which].update(losses)
        for loss in losses:
            self.models[which].add(loss)
        self.check()

    @rule(
        which=st.integers(0, 1),
        images=st.lists(st.integers(0, 9), min_size=1, max_size=4),
        back=st.integers(0, 4),
    )
    def update_by_images(self, which: int, images: list[int], back: int) -> None:
        """Labels may come late, by so many updates."""
        model, controller = self.models[which], self.pair[which]
        now = len(model.losses)
        t = max(0, now - back)
        is_known = t in (0, now) or t > now - min(now, controller.history)
        failure = failure_of(lambda: controller.update(X[images], Y[images], t=t))
        assert is_known == (failure is None), failure
        if failure is not None:
            self.check()
            return
        lam = model.clipped(t)
        for loss in [self.loss(image, lam) for image in images]:
            model.add(loss)
        self.check()

    @rule(which=st.integers(0, 1), image=st.integers(0, 9))
    def predict(self, which: int, image: int) -> None:
        controller, some = self.pair[which], X[image : image + 1]
        lam = self.models[which].clipped(len(self.models[which].losses))
        score = self.parameters.get("conformity_score", "lac")
        with quietly():
            masks = controller.predict(some)
            assert np.array_equal(masks, cm.kernels.threshold(some, lam, score))
            assert np.array_equal(controller.set_size(some), masks.sum(axis=1))
        self.check()

    @rule(
        which=st.integers(0, 1), way=st.sampled_from(["pickle", "deepcopy", "copy", "file", "one more file"])
    )
    def copies(self, which: int, way: str) -> None:
        """The copy becomes the other one; both go on by themselves."""
        ways: dict[str, Callable[[Any], Any]] = {
            "pickle": lambda one: pickle.loads(pickle.dumps(one)),
            "deepcopy": copy.deepcopy,
            "copy": copy.copy,
            "file": self.through_file,
            "one more file": lambda one: self.through_file(self.through_file(one)),
        }
        self.pair[1 - which] = ways[way](self.pair[which])
        self.models[1 - which] = copy.deepcopy(self.models[which])
        self.check()

    def through_file(self, controller: Any) -> Any:
        path = Path(self.folder.name) / "one.json"
        controller.save(path)
        loaded = cm.OnlineRiskController.load(path)
        known = path.read_bytes()
        loaded.save(path)
        assert path.read_bytes() == known
        return loaded

    @rule(which=st.integers(0, 1))
    def reset(self, which: int) -> None:
        self.pair[which].reset()
        self.models[which] = self.new()
        self.check()

    @rule(which=st.integers(0, 1), alpha=st.sampled_from([0.05, 0.7]))
    def set_alpha(self, which: int, alpha: float) -> None:
        """It may change before the first update; later it is refused until it is set back."""
        controller, model = self.pair[which], self.models[which]
        before = controller.alpha
        controller.set_params(alpha=alpha)
        if alpha != before and (model.losses or model.n_skipped):
            for call in (
                lambda: controller.lambda_,
                lambda: controller.update(0.5),
                lambda: controller.predict(X),
            ):
                with pytest.raises(ValueError, match="call reset"):
                    call()
        controller.set_params(alpha=before)
        self.check()

    @rule(which=st.integers(0, 1), how=st.integers(0, 5))
    def fail(self, which: int, how: int) -> None:
        controller, n = self.pair[which], len(self.models[which].losses)
        calls: list[Callable[[], Any]] = [
            lambda: controller.update([0.5, 1.5]),
            lambda: controller.update([0.5, math.nan]),
            lambda: controller.update(0.5, t=n + 1),
            lambda: controller.update(X[:2], Y[:1]),
            lambda: controller.update(X[:2] * 2, Y[:2]),
            lambda: controller.update(X[:2], Y[:2] + 0.5),
        ]
        with quietly(), pytest.raises((ValueError, TypeError)):
            calls[how]()
        self.check()

    @rule(which=st.integers(0, 1))
    def warnings_that_are_errors(self, which: int) -> None:
        """A first image without labels is warned of: where this is an error, nothing has come."""
        is_first = not self.models[which].n_skipped
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                self.pair[which].update(X[:1], Y[:1])
            except UserWarning:
                assert is_first
            else:
                assert not is_first
                self.models[which].add(math.nan)
        self.check()


def test_any_calls_of_online_control() -> None:
    run(Online)
