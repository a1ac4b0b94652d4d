r"""The path of lambda: the parameters, the rule from one loss to the next, and the bound of the mean loss.

Let :math:`\theta_0 \le B` be the first lambda, B the smallest at which sets are full, :math:`\gamma_k = \gamma k^{-p}`
the steps and f the floor, if there is one. The k-th loss that is counted moves lambda by

    theta_k = max(f, theta_{k-1} + gamma_k (L_k - alpha)).

Its image was predicted at ``theta_{t_k}``, with a delay ``d_k = k - 1 - t_k`` of at most d. ``L_k = 0`` if
``theta_{t_k} >= B``.

1. ``theta_k <= B + (d + 1) gamma (1 - alpha)`` for all k. Lambda rises at k only if ``L_k > alpha > 0``. Then the image
   was predicted below B, and since then there were ``d_k + 1 <= d + 1`` moves, each by at most ``gamma (1 - alpha)``.
   The floor lies below B, and lifts lambda no higher than to itself. Call the bound U (or theta_0, if it is above).
2. A floor only lifts: ``L_k - alpha <= (theta_k - theta_{k-1}) / gamma_k``. Let m be the lowest lambda on the path.
   Summation by parts, where ``1 / gamma_k`` does not fall and ``theta_k >= m``, gives

       sum_{k<=T} (L_k - alpha) <= (theta_T - m) / gamma_T - (theta_0 - m) / gamma_1
                                <= [(U - theta_0) + (U - m) (T^p - 1)] / gamma.

Divided by T this is the bound. With a constant step, p = 0, m drops out. With p > 0 the bound tends to 0 if m is
bounded, as with a floor. Without a floor it need not: during T losses of 0, lambda falls by about
``alpha gamma T^(1-p) / (1 - p)``, and smaller steps take longer to make up for it. Losses of 1 until then make the mean
loss ``1 - (1 - alpha)^(1 / (1 - p))``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conformask._agreement import FirstImages
from conformask._arrays import INPUTS, check_ignore_index
from conformask._calibrator import Parameter, number, one_of, whole
from conformask._exact import as_fraction, check_alpha, number_from_json
from conformask._text import lambda_text, shown
from conformask._transforms import (
    Inputs,
    ScoreTransform,
    checked_inputs,
    transform_from_json,
    transform_of,
    transform_to_json,
)
from conformask._units import OnEmpty
from conformask.losses import Loss, loss_parameter
from conformask.online._recent import Recent
from conformask.scores import ConformityScore, lambda_max, score_parameter

if TYPE_CHECKING:
    from conformask._images import Volumes

__all__ = [
    "HISTORY",
    "PARAMETERS",
    "History",
    "Settings",
    "Track",
    "history_of",
    "mean_loss_bound",
    "track_from_json",
]

# Numbers of classes between which scores whose largest lambda depends on K differ.
_FEW, _MANY = 2, 1 << 16


def _check_step(step: object) -> Fraction:
    fraction = as_fraction(step, "step")
    if fraction <= 0:
        raise ValueError(f"step must be above 0, got {shown(step)}")
    return fraction


def _check_decay(decay: object) -> Fraction:
    fraction = as_fraction(decay, "decay")
    if not 0 <= fraction < 1:
        raise ValueError(f"decay must be in [0, 1), got {shown(decay)}")
    return fraction


def _check_initial(initial: object) -> Fraction:
    fraction = as_fraction(initial, "initial")
    if fraction < 0:
        raise ValueError(f"initial must be at least 0, got {shown(initial)}")
    return fraction


def _check_floor(floor: object) -> Fraction | str | None:
    if floor is None or (isinstance(floor, str) and floor == "auto"):
        return floor
    if isinstance(floor, str):
        raise ValueError(f"floor must be a number, None or 'auto', got {shown(floor)}")
    return as_fraction(floor, "floor")


def _floor_to_json(floor: Any) -> Any:
    return floor if floor is None or isinstance(floor, str) else _FLOOR_NUMBER.written(floor)


_FLOOR_NUMBER = number("floor", lambda floor: as_fraction(floor, "floor"), stale="images")
_HISTORY = whole("history", 1, 2**62, stale="nothing", hint="None keeps all")

HISTORY = Parameter(lambda value: None if value is None else _HISTORY.resolve(value))

PARAMETERS: Mapping[str, Parameter] = {
    "conformity_score": score_parameter(stale="images"),
    "loss": loss_parameter(stale="images"),
    "alpha": number("alpha", check_alpha, stale="images"),
    "step": number("step", _check_step, stale="images"),
    "decay": number("decay", _check_decay, stale="images"),
    "initial": number("initial", _check_initial, stale="images"),
    "floor": Parameter(_check_floor, "images", _floor_to_json, number_from_json),
    "inputs": one_of("inputs", *INPUTS),
    "transform": Parameter(
        transform_of, stale="images", to_json=transform_to_json, from_json=transform_from_json
    ),
    "ignore_index": Parameter(check_ignore_index),
    "on_empty": one_of("on_empty", "skip", "raise", "zero_loss"),
    "history": HISTORY,
    "volumes": one_of("volumes", True, False, "auto"),
}


@dataclass(frozen=True)
class Settings:
    """The parameters, resolved."""

    conformity_score: ConformityScore
    loss: Loss
    alpha: Fraction
    step: Fraction
    decay: Fraction
    initial: Fraction
    floor: Fraction | str | None
    inputs: str
    transform: ScoreTransform | None
    ignore_index: int | tuple[int, ...] | None
    on_empty: OnEmpty
    history: int | None
    volumes: Volumes

    def __post_init__(self) -> None:
        checked_inputs(self.inputs, self.transform)
        if not self.loss._is_monotone:
            raise ValueError(
                f"loss must not rise as lambda grows, which {self.loss} may: lambda would move away from alpha"
            )
        if isinstance(self.floor, Fraction) and self.floor > self.initial:
            raise ValueError(
                f"floor must be at most initial = {float(self.initial):g}, got {float(self.floor):g}"
            )

    @property
    def given(self) -> Inputs:
        """How probabilities are made of the model's numbers."""
        return checked_inputs(self.inputs, self.transform)

    @property
    def lowest(self) -> float:
        """The floor of lambda."""
        if self.floor == "auto":
            return 0.0 if self.decay else -math.inf
        return -math.inf if self.floor is None else float(self.floor)

    def step_of(self, update: int) -> float:
        """The step of an update, from 1 on."""
        return float(self.step) * (update ** -float(self.decay) if self.decay else 1.0)

    def after(self, lam: float, loss: float, update: int) -> float:
        """Lambda after an update."""
        return max(self.lowest, lam + self.step_of(update) * (loss - float(self.alpha)))

    def largest(self, n_classes: int | None) -> float:
        """The smallest lambda at which all sets are full."""
        if n_classes is not None:
            return lambda_max(self.conformity_score, n_classes)
        few, many = (lambda_max(self.conformity_score, k) for k in (_FEW, _MANY))
        if few != many:
            raise ValueError(
                f"the largest lambda of {self.conformity_score} depends on the number of classes, which is not known: "
                "call predict(X) first"
            )
        return few

    def clipped(self, lam: float, n_classes: int | None) -> float:
        """Lambda, limited to the range in which it changes sets."""
        return min(max(lam, 0.0), self.largest(n_classes))


def mean_loss_bound(
    updates: NDArray[np.float64], settings: Settings, largest: float, lowest: float, delay: int
) -> NDArray[np.float64]:
    """A bound of the mean of so many losses, whatever they are; `lowest` is the lowest lambda."""
    alpha, step, initial = float(settings.alpha), float(settings.step), float(settings.initial)
    top = max(initial, largest + (delay + 1) * step * (1 - alpha))
    growth = updates ** float(settings.decay) - 1 if settings.decay else 0.0
    summed = (top - initial) + (top - lowest) * growth
    return np.minimum(1.0, alpha + summed / (step * updates))


@dataclass(frozen=True)
class Track:
    """Lambda, and what is kept of its path."""

    configuration: Settings
    lam: float
    n_updates: int
    n_skipped: int
    loss_sum: Fraction
    lowest: float
    longest_delay: int
    n_classes: int | None
    lambdas: Recent  # after each of the last updates
    losses: Recent
    first: FirstImages = field(default=FirstImages(), compare=False)  # since it began or was loaded

    @classmethod
    def start(cls, settings: Settings, n_classes: int | None = None) -> Track:
        """The state before any update."""
        initial, none = float(settings.initial), Recent(settings.history)
        return cls(settings, initial, 0, 0, Fraction(), initial, 0, n_classes, none, none)

    def counting(self, settings: Settings, losses: Iterable[float], times: Iterable[int]) -> Track:
        """The state after some losses, each with the number of updates before its prediction; NaN is skipped."""
        lam, n, n_skipped, lowest = self.lam, self.n_updates, self.n_skipped, self.lowest
        added, delay = Fraction(), self.longest_delay
        lambdas, kept = self.lambdas.at_most(settings.history), self.losses.at_most(settings.history)
        for loss, time in zip(losses, times, strict=True):
            if math.isnan(loss):
                n_skipped += 1
                continue
            delay = max(delay, n - time)
            n += 1
            lam = settings.after(lam, loss, n)
            lowest = min(lowest, lam)
            added += Fraction(loss)
            lambdas, kept = lambdas.add(lam), kept.add(loss)
        return replace(
            self,
            configuration=settings,
            lam=lam,
            n_updates=n,
            n_skipped=n_skipped,
            loss_sum=self.loss_sum + added,
            lowest=lowest,
            longest_delay=delay,
            lambdas=lambdas,
            losses=kept,
        )

    def seeing(
        self, totals: NDArray[np.uint64], missed: NDArray[np.uint64], sizes: NDArray[np.uint64]
    ) -> Track:
        """The state after counts of labelled images; warns if their labels hardly belong to the sets."""
        return replace(self, first=self.first.and_then(totals, missed, sizes))

    def with_classes(self, n_classes: int | None) -> Track:
        """The same, with the number of classes if it becomes known."""
        return self if n_classes in (None, self.n_classes) else replace(self, n_classes=n_classes)

    def lambda_at(self, time: int) -> float:
        """Lambda after so many updates."""
        if time == self.n_updates:
            return self.lam
        if time == 0:
            return float(self.configuration.initial)
        first = self.n_updates - len(self.lambdas) + 1
        if not self.knows(time):
            known = f"those from t = {first} on are" if len(self.lambdas) else "none is"
            raise ValueError(
                f"the lambda of t = {time} is not kept any more, {known}: history={self.configuration.history} is too "
                "short for labels that come so late"
            )
        return self.lambdas[time - first]

    def knows(self, time: int) -> bool:
        """Whether lambda after so many updates is kept."""
        return time in (0, self.n_updates) or self.n_updates - len(self.lambdas) < time < self.n_updates

    @property
    def full_from(self) -> float | None:
        """The smallest lambda at which all sets are full; None if it depends on K, which is not known."""
        try:
            return self.configuration.largest(self.n_classes)
        except ValueError:
            return None

    def bound(self, updates: NDArray[np.float64]) -> NDArray[np.float64]:
        """The bounds of the mean loss after some numbers of updates, all above 0."""
        largest = self.configuration.largest(self.n_classes)
        return mean_loss_bound(updates, self.configuration, largest, self.lowest, self.longest_delay)

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has come yet."""
        return not self.n_updates and not self.n_skipped

    @property
    def mean_loss(self) -> float:
        """The mean of all losses; NaN of none."""
        return float(self.loss_sum / self.n_updates) if self.n_updates else math.nan

    @property
    def headline(self) -> dict[str, str]:
        """What its repr shows."""
        return {"lambda_": lambda_text(self.lam), "n_updates_": f"{self.n_updates}"}

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        # The history may have been made shorter since.
        lambdas, losses = (each.at_most(self.configuration.history) for each in (self.lambdas, self.losses))
        return {
            "lambda": self.lam,
            "n_updates": self.n_updates,
            "n_skipped": self.n_skipped,
            "loss_sum": self.loss_sum,
            "lowest": self.lowest,
            "longest_delay": self.longest_delay,
            "n_classes": self.n_classes,
            "lambdas": lambdas.to_numpy().tolist(),
            "losses": losses.to_numpy().tolist(),
        }


class History(NamedTuple):
    """The last updates, oldest first: their numbers, lambda after each, and losses."""

    updates: NDArray[np.int64]
    lambdas: NDArray[np.float64]
    losses: NDArray[np.float64]
    mean_losses: NDArray[np.float64]  # of all losses up to each


def history_of(track: Track) -> History:
    """The part of the path that is kept."""
    losses = track.losses.to_numpy()
    updates = np.arange(track.n_updates - len(losses) + 1, track.n_updates + 1, dtype=np.int64)
    before = float(track.loss_sum - sum(map(Fraction, losses.tolist()), Fraction()))
    return History(updates, track.lambdas.to_numpy(), losses, (before + np.cumsum(losses)) / updates)


def track_from_json(found: dict[str, Any], settings: Settings) -> Track:
    """The state in a file; refuses states that no losses lead to."""
    counts = {"n_updates": 0, "n_skipped": 0, "longest_delay": 0, "n_classes": 2}
    for name, least in counts.items():
        is_unknown = name == "n_classes" and found[name] is None
        if not is_unknown and (type(found[name]) is not int or found[name] < least):
            raise ValueError(f"{name} is {found[name]!r}")
    lambdas, losses = _row(found["lambdas"], "lambdas"), _row(found["losses"], "losses")
    lam, lowest = _finite(found["lambda"], "lambda"), _finite(found["lowest"], "lowest")
    loss_sum = as_fraction(number_from_json(found["loss_sum"]), "loss_sum")
    track = Track(
        settings,
        lam,
        *(
            found["n_updates"],
            found["n_skipped"],
            loss_sum,
            lowest,
            found["longest_delay"],
            found["n_classes"],
        ),
        Recent(settings.history, lambdas),
        Recent(settings.history, losses),
    )
    n, initial = track.n_updates, float(settings.initial)
    if len(lambdas) != len(losses) or len(losses) > n or any(not 0 <= loss <= 1 for loss in losses):
        raise ValueError("losses are not those of its updates")
    if (
        not sum(map(Fraction, losses), Fraction())
        <= loss_sum
        <= sum(map(Fraction, losses), Fraction()) + (n - len(losses))
    ):
        raise ValueError(f"loss_sum is {float(loss_sum):g}")
    if not lowest <= min([lam, initial, *lambdas]) or track.longest_delay > n:
        raise ValueError(f"lowest is {lowest!r} and longest_delay {track.longest_delay}")
    # From each kept update to the next, lambda moves by its rule; in all it moves by the sum, unless a floor holds it.
    path = [*([initial] if n == len(losses) else []), *lambdas]
    moves = zip(
        path[:-1],
        path[1:],
        losses[len(losses) - len(path) + 1 :],
        range(n - len(path) + 2, n + 1),
        strict=True,
    )
    follows = all(_is_close(settings.after(one, loss, k), other) for one, other, loss, k in moves)
    if not settings.decay and math.isinf(settings.lowest):
        follows &= _is_close(initial + float(settings.step * (loss_sum - settings.alpha * n)), lam)
    if not follows or (path and path[-1] != lam):
        raise ValueError("lambda does not follow from its losses")
    return track


def _is_close(one: float, other: float) -> bool:
    # Powers may differ by a bit from one machine to another, and many updates round.
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)


def _row(values: Any, name: str) -> list[float]:
    if not isinstance(values, list):
        raise TypeError(f"{name} is {shown(values)}")
    return [_finite(value, name) for value in values]


def _finite(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{name} is {shown(value)}")
    return float(value)
