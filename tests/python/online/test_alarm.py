"""Alarms: their numbers by slow twins, false ones as seldom as promised, and true ones soon."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

import conformask as cm
from conformask.online._bets import Adaptive, Fixed, Jumper, Power
from conformask.online._ranks import Seen, tie_breaks
from problems import wide

Alarm = cm.DriftAlarm


# Twins


def p_values(values: np.ndarray, seed: int) -> np.ndarray:
    """Smoothed conformal p-values by their definition."""
    found = []
    for i, value in enumerate(values):
        u = ((int(np.random.Philox(key=seed, counter=i).random_raw()) >> 11) + 1) / 2**53
        known = values[: i + 1]
        found.append(((known > value).sum() + u * (known == value).sum()) / (i + 1))
    return np.array(found)


def jumpers(p: np.ndarray) -> np.ndarray:
    """The martingale of each p-value, by the capitals of each rate and slope."""
    slopes, paths = np.array([-1.0, 0, 1]), []
    for rate in (1e-4, 1e-3, 1e-2, 1e-1):
        capital, path = np.full(3, 1 / 3), []
        for value in p:
            capital = ((1 - rate) * capital + rate / 3 * capital.sum()) * (1 + slopes * (value - 0.5))
            path.append(capital.sum())
        paths.append(path)
    return np.mean(paths, axis=0)


def powers(p: np.ndarray) -> np.ndarray:
    """The mixture of power martingales, by quadrature."""

    def product(epsilon: float, some: np.ndarray) -> float:
        return float(np.exp(len(some) * np.log(epsilon) + (epsilon - 1) * np.log(some).sum()))

    return np.array(
        [integrate.quad(product, 0, 1, args=(p[: i + 1],), limit=200, epsrel=1e-11)[0] for i in range(len(p))]
    )


def adaptive(losses: np.ndarray, alpha: float) -> np.ndarray:
    """The parts by losses that are known, with weights that forget."""
    wealth, path, mean, variance = 1.0, [], alpha, alpha * (1 - alpha)
    for t, loss in enumerate(losses):
        excess = max(mean - alpha, 0)
        wealth *= 1 + min(excess / (variance + excess**2), 0.5 / alpha) * (loss - alpha)
        path.append(wealth)
        weight = 1 / min(t + 2, 100)
        variance = (1 - weight) * (variance + weight * (loss - mean) ** 2)
        mean = (1 - weight) * mean + weight * loss
    return np.array(path)


VALUES = {
    "continuous": lambda rng, n: rng.normal(size=n),
    "ties": lambda rng, n: rng.integers(0, 4, n).astype(float),
    "equal": lambda rng, n: np.zeros(n),
    "rising": lambda rng, n: np.arange(n) + rng.normal(size=n),
    "falling": lambda rng, n: -np.arange(n) + rng.normal(size=n),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize(("bet", "twin"), [("jumper", jumpers), ("power", powers)])
def test_martingales_by_the_twin(kind: str, bet: str, twin: Callable[[np.ndarray], np.ndarray]) -> None:
    values = VALUES[kind](np.random.default_rng(1), 60)
    alarm = Alarm(bet=bet, random_state=5)
    for part in np.split(values, [1, 2, 20, 45]):
        alarm.update(part)
    expected = np.log(twin(p_values(values, 5)))
    np.testing.assert_allclose(alarm.path_, expected, rtol=1e-9, atol=1e-9)
    above = np.flatnonzero(expected >= math.log(20))
    assert alarm.alarm_time_ == (above[0] + 1 if len(above) else None)
    assert alarm.is_alarmed_ == bool(len(above))
    assert alarm.log_martingale_ == alarm.path_[-1]


def test_evidence_by_the_twin() -> None:
    losses = np.r_[np.random.default_rng(0).beta(1, 9, 150), np.random.default_rng(1).beta(3, 7, 60)]
    alarm = Alarm("risk", alpha=0.1)
    assert alarm.update(losses)
    np.testing.assert_allclose(alarm.path_, np.log(adaptive(losses, 0.1)), rtol=1e-9, atol=1e-12)
    constant = Alarm("risk", alpha=0.1, bet=2)
    constant.update(losses)
    np.testing.assert_allclose(
        constant.path_, np.cumsum(np.log(1 + 2 * (losses - 0.1))), rtol=1e-9, atol=1e-12
    )


def test_the_known_answer() -> None:
    alarm = Alarm("risk", alpha=0.1, delta=0.05, bet=1)
    assert [alarm.update(1.0) for _ in range(5)] == [False] * 4 + [True]
    assert math.exp(alarm.log_martingale_) == pytest.approx(24.76, abs=0.005)
    assert (alarm.alarm_time_, alarm.n_updates_) == (5, 5)
    alarm.update([0.0] * 100)
    assert alarm.log_martingale_ < 0
    assert alarm.is_alarmed_, "what was told stays told"
    assert alarm.reset() is alarm
    assert (alarm.is_alarmed_, alarm.alarm_time_, alarm.log_martingale_) == (False, None, 0)


def test_all_may_be_lost() -> None:
    alarm = Alarm("risk", alpha=0.1, bet=10)
    assert not alarm.update([0.0, 1.0])
    assert alarm.path_.tolist() == [-math.inf, -math.inf]


# The hypotheses


@pytest.mark.parametrize("n", [0, 1, 5, 40])
def test_bets_are_fair(n: int) -> None:
    """What the next bet makes of the wealth, on average over the hypothesis, is the wealth."""
    rng = np.random.default_rng(n)
    jumper, power = Jumper(), Power()
    for p in rng.random(n) ** 2:
        jumper, power = jumper.after(p), power.after(p)
    low, high = (math.exp(jumper.after(p).log_wealth) for p in (0.25, 0.75))  # it is linear in p
    assert (low + high) / 2 == pytest.approx(math.exp(jumper.log_wealth), rel=1e-12)
    # By x = -ln p up to 30: the wealth grows without end as p becomes small, and its tail is known.
    mean, _ = integrate.quad(lambda x: math.exp(power.after(math.exp(-x)).log_wealth - x), 0, 30, limit=200)
    tail, _ = integrate.quad(lambda e: e**n * math.exp(-power.log_sum * (1 - e) - 30 * e), 0, 1, limit=200)
    assert mean + tail == pytest.approx(math.exp(power.log_wealth), rel=1e-6)
    for start in (Fixed(0.1, 3.0), Adaptive.start(0.1)):
        bet = start
        for loss in rng.random(n) ** 2:
            bet = bet.after(loss)
        lost, won = (math.exp(bet.after(loss).log_wealth) for loss in (0.0, 1.0))
        assert 0.9 * lost + 0.1 * won == pytest.approx(math.exp(bet.log_wealth), rel=1e-12)
        assert 0.95 * lost + 0.05 * won <= math.exp(bet.log_wealth) * (1 + 1e-12)


def test_sums_of_many_p_values() -> None:
    """Where the integrand or the gamma function leave the range of floats."""
    for n, a in ((10, 1e-12), (500, 1.0), (10**5, 9e4), (10**5, 10**5 + 1.0), (10**5, 2e5), (1000, 1e5)):
        found = Power(n, -a).log_wealth
        peak = min(1.0, n / a)
        width = math.sqrt(peak / a) if peak < 1 else 1 / max(1.0, abs(n - a), math.sqrt(n))
        grid = np.linspace(max(1e-300, peak - 40 * width), min(1.0, peak + 40 * width), 400_001)
        logs = n * np.log(grid) + a * (1 - grid)
        expected = logs.max() + math.log(integrate.simpson(np.exp(logs - logs.max()), x=grid))
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_p_values_are_uniform() -> None:
    for i, kind in enumerate(("continuous", "ties", "equal")):
        values, seen, found = VALUES[kind](np.random.default_rng(i), 2000), Seen(), []
        for value, u in zip(values.tolist(), tie_breaks(7, 0, 2000).tolist(), strict=True):
            p, seen = seen.rank(value, u)
            found.append(p)
        assert stats.kstest(found, "uniform").pvalue > 0.01
        assert abs(stats.spearmanr(found[:-1], found[1:]).statistic) < 0.06
        assert 0 < min(found) <= max(found) <= 1


def test_ties_are_broken_alike_however_many_come_at_once() -> None:
    at_once = tie_breaks(3, 0, 10)
    assert np.array_equal(np.concatenate([tie_breaks(3, i, 1) for i in range(10)]), at_once)
    assert np.array_equal(tie_breaks(3, 4, 6), at_once[4:])
    assert not np.isin(tie_breaks(4, 0, 10), at_once).any()
    values = np.random.default_rng(0).integers(0, 3, 50)
    one, many, other = Alarm(random_state=3), Alarm(random_state=3), Alarm(random_state=4)
    for value in values:
        one.update(value)
    many.update(values)
    other.update(values)
    assert one.path_.tolist() == many.path_.tolist() != other.path_.tolist()


# Of all runs without a drift, at most delta alarm, ever. That is a share of 2,000, three standard errors allowed.
RUNS, STEPS, DELTA = 2000, 200, 0.05
MOST = DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / RUNS)


def share(make: Callable[[np.random.Generator], np.ndarray], runs: int = RUNS, **parameters: Any) -> float:
    rng = np.random.default_rng(11)
    alarms = (Alarm(delta=DELTA, history=1, random_state=i, **parameters) for i in range(runs))
    return sum(alarm.update(make(rng)) for alarm in alarms) / runs


def ordered(rng: np.random.Generator) -> np.ndarray:
    """Exchangeable, but far from independent: drawn without putting back, from few numbers."""
    return rng.permutation(np.arange(STEPS) // 20).astype(float)


@pytest.mark.parametrize("bet", ["jumper", "power"])
@pytest.mark.parametrize("make", [lambda rng: rng.normal(size=STEPS), ordered], ids=["draws", "permutations"])
def test_false_alarms_of_exchangeable_numbers(bet: str, make: Any) -> None:
    assert 0 < share(make, bet=bet) <= MOST


def paid_back(rng: np.random.Generator) -> np.ndarray:
    """Dependent losses, each of mean alpha given those before: their spread follows the last one."""
    losses, last = [], 0.0
    for u in rng.random(STEPS).tolist():
        high = 1.0 if last > 0.5 else 0.2
        last = high if u < 0.1 / high else 0.0
        losses.append(last)
    return np.array(losses)


@pytest.mark.parametrize("bet", [None, 0.5, 1, 5])
@pytest.mark.parametrize(
    "make", [lambda rng: (rng.random(STEPS) < 0.1).astype(float), paid_back], ids=["draws", "dependent"]
)
def test_false_alarms_at_the_level(bet: Any, make: Any) -> None:
    assert share(make, kind="risk", alpha=0.1, bet=bet) <= MOST


@pytest.mark.parametrize("bet", ["jumper", "power"])
def test_drift_is_told(bet: str) -> None:
    def drifting(rng: np.random.Generator) -> np.ndarray:
        return np.r_[rng.normal(size=150), rng.normal(1, 1, 150)]

    assert share(drifting, 200, bet=bet) > 0.95
    down = share(lambda rng: -drifting(rng), 200, bet=bet)
    assert down > 0.95 if bet == "jumper" else down <= MOST + 0.05, "power bets on numbers that rise alone"


def test_risk_above_alpha_is_told() -> None:
    assert share(lambda rng: (rng.random(300) < 0.2).astype(float), 200, kind="risk") > 0.9

    def late(rng: np.random.Generator) -> np.ndarray:
        return (rng.random(500) < np.repeat([0.05, 0.25], [300, 200])).astype(float)

    assert share(late, 200, kind="risk") > 0.9
    assert share(late, 200, kind="risk", bet=1) < 0.5, "a constant bet has lost too much before"


# Numbers of images


def test_critical_values_of_images() -> None:
    problem = wide(n=30)
    profiles = cm.profile(problem.X, problem.y)
    for loss, limit in (
        ("binary", 0),
        (cm.BinaryLoss(0.8), 0),
        ("miscoverage", 0.2),
        (lambda c: (1 - c) ** 2, 0.1),
    ):
        found = cm.online.image_lambdas(profiles, loss, limit)
        assert (np.diag(profiles.losses(loss, found)) <= limit).all()
        assert (np.diag(profiles.losses(loss, np.nextafter(found, 0))) > limit)[found > 0].all()
    k = math.ceil(31 * 0.8)
    lam = cm.ConformalRiskCalibrator(loss="binary", alpha=0.2).fit(problem.X, problem.y).lambda_hat_
    assert np.sort(cm.online.image_lambdas(profiles))[k - 1] == lam
    void = cm.profile(problem.X[:2], np.where(np.arange(2)[:, None, None] == 1, 255, problem.y[:2]))
    assert np.isnan(cm.online.image_lambdas(void)).tolist() == [False, True]
    with pytest.raises(ValueError, match=r"limit must be in \[0, 1\), got 1"):
        cm.online.image_lambdas(profiles, "binary", 1)
    with pytest.raises(TypeError, match="profiles must be ScoreProfiles"):
        cm.online.image_lambdas(problem.X)


@pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning")  # which are wrong here
def test_images_that_change_raise_the_alarm() -> None:
    problem = wide(n=300, size=(6, 6))
    calm, rng = cm.online.image_lambdas(cm.profile(problem.X, problem.y)), np.random.default_rng(0)
    wrong = rng.integers(0, 4, problem.y[:100].shape)
    changed = cm.online.image_lambdas(cm.profile(problem.X[:100], wrong, loss := "lac"))
    assert loss == "lac"
    alarm = Alarm(delta=0.01)
    assert not alarm.update(calm)
    assert alarm.update(changed)
    assert 300 < alarm.alarm_time_ <= 400


# Bad input


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("risk", 1.5, r"values must be losses in \[0, 1\] for kind='risk', got 1.5"),
        ("risk", [0.1, -0.5], r"values must be losses in \[0, 1\] for kind='risk', got -0.5"),
        ("risk", math.nan, "values must be finite, got nan"),
        ("exchangeability", [1.0, math.inf], "values must be finite, got inf"),
        ("exchangeability", [], "values is empty"),
        ("exchangeability", np.zeros((2, 2)), r"got an array of shape \(2, 2\)"),
        ("exchangeability", "high", "got 'high'"),
        ("exchangeability", True, "got True"),
        ("exchangeability", None, "got None"),
        ("exchangeability", [[1.0], [1.0, 2.0]], "values must be a number or a sequence of numbers"),
    ],
)
def test_an_update_that_fails_leaves_all_as_it_was(kind: str, values: Any, message: str) -> None:
    alarm = Alarm(kind)
    alarm.update([0.5, 0.25])
    state = alarm._state
    with pytest.raises((ValueError, TypeError), match=message):
        alarm.update(values)
    assert alarm._state is state


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"bet": "adaptive"},
            r"bet must be one of \['jumper', 'power'\] for kind='exchangeability', got 'adaptive'",
        ),
        ({"bet": 1.0}, r"bet must be one of \['jumper', 'power'\] for kind='exchangeability', got 1"),
        (
            {"kind": "risk", "bet": "jumper"},
            r"bet must be one of \['adaptive'\], or a number up to 1 / alpha",
        ),
        ({"kind": "risk", "bet": 0}, "bet must be above 0 and at most 1 / alpha = 10, got 0"),
        ({"kind": "risk", "bet": 10.1}, "bet must be above 0 and at most 1 / alpha = 10, got 10.1"),
    ],
)
def test_bets_that_do_not_fit(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Alarm(**parameters).update(0.5)


def test_ctrl_c_leaves_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(40)
    alarm, twin = Alarm(), Alarm()
    for each in (alarm, twin):
        each.update(values[:20])
    state, after, calls = alarm._state, Jumper.after, []

    def stopped(self: Jumper, value: float) -> Jumper:
        calls.append(value)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return after(self, value)

    monkeypatch.setattr(Jumper, "after", stopped)
    with pytest.raises(KeyboardInterrupt):
        alarm.update(np.full(10, 0.5))  # some of which are sorted in already
    monkeypatch.undo()
    assert alarm._state is state
    for each in (alarm, twin):
        each.update(values[20:])
    assert alarm.path_.tolist() == twin.path_.tolist()


def test_copies_go_on_by_themselves() -> None:
    values = np.random.default_rng(0).random(60)
    alarm = Alarm()
    alarm.update(values[:20])
    shallow = copy.copy(alarm)
    shallow.update(values[40:])
    alarm.update(values[20:40])
    shallow.update(values[20:40])
    for order, found in ((np.arange(40), alarm), (np.r_[0:20, 40:60, 20:40], shallow)):
        known = Alarm()
        known.update(values[order])
        assert found.path_.tolist() == known.path_.tolist()
