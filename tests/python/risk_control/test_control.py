"""Methods of control: budgets by brute force and by SciPy, promises by simulation. Seeds are fixed."""

from __future__ import annotations

from fractions import Fraction
from math import comb, e, exp, inf, log, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import conformask as cm
import twin
from conformask._units import Units
from conformask.control import Method
from problems import wide

# Large ones are as exact as small ones, though they are probably slips.
pytestmark = pytest.mark.filterwarnings("ignore:delta=:UserWarning")

PROBLEM = wide(n=120)
BINARY = cm.BinaryLoss(0.8)
DECIMALS = st.one_of(
    st.sampled_from([0.1, 0.05, 0.2, 0.3, 0.5, 0.9, 0.01, 1 / 3]),
    st.floats(1e-6, 1 - 1e-6),
    st.floats(0.02, 0.5),
)


def budget(method: Method, n: int, alpha: float) -> Fraction:
    return method.budget(Units(Fraction(n), n, 0), twin.decimal(alpha))


def risk_bound(method: Method, risk: float, n: int) -> float:
    return method.risk_bound(risk, Units(Fraction(n), n, 0))


def binomial(n: int, p: Fraction, m: int) -> Fraction:
    return sum((comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(m + 1)), Fraction())


def p_value(total: float, n: int, alpha: float) -> float:
    """Hoeffding-Bentkus, as it is written."""
    a = min(total / n, alpha)
    h = (a * log(a / alpha) if a else 0) + ((1 - a) * log((1 - a) / (1 - alpha)) if a < 1 else 0)
    return min(exp(-n * h), e * stats.binom.cdf(np.ceil(total), n, alpha))


# Budgets


@pytest.mark.parametrize(
    ("n", "alpha", "delta", "k"),
    [
        (100, 0.1, 0.1, 95),
        (500, 0.05, 0.05, 484),
        (1000, 0.1, 0.05, 916),
        (59, 0.05, 0.05, 59),
        (58, 0.05, 0.05, None),
        (22, 0.1, 0.1, 22),
        (21, 0.1, 0.1, None),
    ],
)
def test_pac_takes_the_known_order_statistic(n: int, alpha: float, delta: float, k: int | None) -> None:
    """The smallest k with P(Beta(k, n + 1 - k) >= 1 - alpha) >= 1 - delta."""
    assert budget(cm.PAC(delta), n, alpha) == (-1 if k is None else n - k)
    if k is not None:
        assert stats.beta(k, n + 1 - k).sf(1 - alpha) >= 1 - delta
        assert k == 1 or stats.beta(k - 1, n + 2 - k).sf(1 - alpha) < 1 - delta


@settings(max_examples=150, deadline=None)
@given(n=st.integers(0, 40), alpha=DECIMALS, delta=DECIMALS)
def test_pac_is_exact(n: int, alpha: float, delta: float) -> None:
    m = budget(cm.PAC(delta), n, alpha)
    assert m.denominator == 1
    assert m == -1 or binomial(n, twin.decimal(alpha), int(m)) <= twin.decimal(delta)
    assert binomial(n, twin.decimal(alpha), int(m) + 1) > twin.decimal(delta)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("alpha", [0.9, 0.5, 0.3, 0.25])
def test_pac_takes_equality(n: int, alpha: float) -> None:
    """Where delta is the very probability, floats could not tell."""
    for m in range(n):
        delta = binomial(n, twin.decimal(alpha), m)
        assert budget(cm.PAC(delta), n, alpha) == m
        assert budget(cm.PAC(delta - Fraction(1, 10**40)), n, alpha) == m - 1
    assert cm.PAC(binomial(n, twin.decimal(alpha), 0)).n_needed(alpha) == n


@pytest.mark.parametrize("n", [1_000, 20_000])
def test_large_n_agrees_with_scipy(n: int) -> None:
    for alpha, delta in [(0.1, 0.05), (0.013, 0.1), (0.4, 1e-9)]:
        m = int(budget(cm.PAC(delta), n, alpha))
        assert stats.binom.cdf(m, n, alpha) <= delta < stats.binom.cdf(m + 1, n, alpha)


@pytest.mark.parametrize(("total", "p"), [(8, 0.003773), (10, 0.021940), (12, 0.087111)])
def test_rcps_turns_at_the_known_p_values(total: int, p: float) -> None:
    assert p_value(total, 200, 0.1) == pytest.approx(p, abs=1e-6)
    assert budget(cm.RCPS(p + 1e-6), 200, 0.1) >= total
    assert budget(cm.RCPS(p - 1e-6), 200, 0.1) < total


@settings(max_examples=150, deadline=None)
@given(n=st.integers(0, 400), alpha=DECIMALS, delta=DECIMALS)
def test_rcps_is_the_largest_sum_that_passes(n: int, alpha: float, delta: float) -> None:
    found = budget(cm.RCPS(delta), n, alpha)
    if found < 0:
        assert n < cm.RCPS(delta).n_needed(alpha)
        return
    assert p_value(float(found), n, alpha) <= delta * (1 + 1e-9)
    assert p_value(float(found + Fraction(1, 10**6)), n, alpha) > delta


@settings(max_examples=100, deadline=None)
@given(alpha=st.floats(1e-3, 0.999), delta=st.floats(1e-6, 0.999))
def test_images_needed(alpha: float, delta: float) -> None:
    for method in (cm.CRC(), cm.PAC(delta), cm.RCPS(delta)):
        n = method.n_needed(alpha)
        assert budget(method, n, alpha) >= 0 > budget(method, n - 1, alpha)
    assert cm.CRC().n_needed(0.1) == 9


@settings(max_examples=100, deadline=None)
@given(n=st.integers(30, 300), alpha=st.floats(0.1, 0.6), delta=st.floats(0.05, 0.6))
def test_the_bound_meets_alpha_where_the_budget_ends(n: int, alpha: float, delta: float) -> None:
    for method in (cm.CRC(), cm.PAC(delta), cm.RCPS(delta)):
        if (most := budget(method, n, alpha)) < 0:
            continue
        assert risk_bound(method, float(most / n), n) <= alpha + 1e-9
        assert risk_bound(method, min(1.0, float(most + 1) / n), n) > alpha
    assert risk_bound(cm.PAC(0.05), 0.0, 100) == pytest.approx(0.02951, abs=1e-5)
    assert risk_bound(cm.PAC(0.025), 0.03, 100) == pytest.approx(0.08518, abs=1e-5)


# Calibrators


METHODS = [cm.PAC(0.1), cm.RCPS(0.1), cm.RCPS(Fraction(1, 7))]


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize("profile", ["exact", "binned"])
def test_calibrators_keep_the_budget(method: Method, profile: str, tmp_path: Path) -> None:
    fitted = cm.ConformalRiskCalibrator(loss=BINARY, alpha=0.2, method=method, profile=profile)
    fitted.fit(PROBLEM.X, PROBLEM.y)
    n, images, lam = fitted.n_images_, PROBLEM.images(), fitted.lambda_hat_
    smaller = [value for value in twin.candidates(images) if value < lam][-1]
    totals = [n * twin.risk(images, twin.binary(0.8), value) for value in (lam, smaller)]
    assert totals[0] <= budget(method, n, 0.2) < totals[1]
    assert fitted.risk_ <= fitted.corrected_risk_ <= 0.2
    marginal = fitted.recalibrate(method="crc")
    assert marginal.lambda_hat_ <= fitted.lambda_hat_
    assert marginal.recalibrate(method=method).lambda_hat_ == fitted.lambda_hat_

    fitted.save(tmp_path / "c.json", profiles=True)
    loaded = cm.ConformalRiskCalibrator.load(tmp_path / "c.json")
    assert loaded.method == method
    assert (loaded.lambda_hat_, loaded.corrected_risk_) == (fitted.lambda_hat_, fitted.corrected_risk_)
    assert loaded.recalibrate(alpha=0.3).lambda_hat_ == fitted.recalibrate(alpha=0.3).lambda_hat_


@pytest.mark.parametrize("loss", ["miscoverage", lambda coverage: 1 - coverage])
def test_rcps_of_rates(loss: object) -> None:
    exact = cm.profile(PROBLEM.X, PROBLEM.y)
    lam = exact.lambda_hat(loss, 0.2, method=cm.RCPS(0.1))
    most = budget(cm.RCPS(0.1), len(exact), 0.2)
    assert exact.risk(loss, lam) * len(exact) <= float(most) < exact.risk(loss, lam - 1e-12) * len(exact)
    if loss == "miscoverage":
        binned = cm.profile(PROBLEM.X, PROBLEM.y, collect=[loss])
        assert lam <= binned.lambda_hat(loss, 0.2, method=cm.RCPS(0.1)) <= lam + 0.001


def test_groups_count_once_and_weights_are_refused() -> None:
    data, groups, weights = (PROBLEM.X, PROBLEM.y), np.arange(120) // 2, np.full(120, 0.5)
    rcps = cm.ConformalRiskCalibrator(method=cm.RCPS(0.1), alpha=0.3)
    grouped = rcps.fit(*data, groups=groups)
    assert grouped.n_images_ == 60
    assert 60 * grouped.risk_ <= budget(cm.RCPS(0.1), 60, 0.3) + Fraction(1, 10**9)
    for method in (cm.PAC(0.1), cm.RCPS(0.1)):
        calibrator = cm.ConformalRiskCalibrator(method=method, loss=BINARY, alpha=0.3)
        for call in (calibrator.fit, calibrator.partial_fit):
            with pytest.raises(ValueError, match="cannot take sample_weight"):
                call(*data, sample_weight=weights)
    pac = cm.ConformalRiskCalibrator(method=cm.PAC(0.1), loss=BINARY, alpha=0.3)
    with pytest.raises(ValueError, match="a group of several images has their mean"):
        pac.fit(*data, groups=groups)
    alone = pac.fit(*data, groups=np.arange(120)).lambda_hat_
    assert alone == pac.fit(*data).lambda_hat_


def test_what_is_refused() -> None:
    for loss in ("miscoverage", cm.FalseNegativeLoss([1]), lambda coverage: 1.0 - coverage):
        with pytest.raises(ValueError, match="needs a loss that is 0 or 1"):
            cm.ConformalRiskCalibrator(loss=loss, method=cm.PAC(0.1)).fit(PROBLEM.X, PROBLEM.y)
    for kind in (cm.PAC, cm.RCPS):
        for delta in (0, 1, -0.1, inf):
            with pytest.raises(ValueError, match="delta must be"):
                kind(delta)
        with pytest.raises(TypeError, match="delta must be a number"):
            kind("0.1")
    with pytest.raises(ValueError, match="bound must be 'hb'"):
        cm.RCPS(0.1, bound="clt")


def test_too_few_images_name_the_number_of_the_method() -> None:
    few = (PROBLEM.X[:21], PROBLEM.y[:21])
    with pytest.raises(
        cm.InfeasibleRiskError, match="at least 22 calibration images, there are 21"
    ) as caught:
        cm.ConformalRiskCalibrator(loss=BINARY, method=cm.PAC(0.1)).fit(*few)
    assert caught.value.n_needed == 22
    full = cm.ConformalRiskCalibrator(loss=BINARY, method=cm.PAC(0.1), on_infeasible="full")
    with pytest.warns(cm.InfeasibleRiskWarning, match="at least 22"):
        full.fit(*few)
    assert full.lambda_hat_ == 1.0
    assert full.corrected_risk_ == pytest.approx(1 - 0.1 ** (1 / 21))  # above alpha, and it says so
    assert full.fit(PROBLEM.X[:22], PROBLEM.y[:22]).corrected_risk_ <= 0.1


# Promises


def risks_given_calibration(
    method: Method, n: int, alpha: float, repetitions: int, seed: int, n_pixels: int = 1
) -> np.ndarray:
    """Of pixels whose critical values are uniform in (0, 1): the risk of what n images calibrate is 1 - lambda-hat."""
    draws = np.random.default_rng(seed).random((repetitions, n * n_pixels))
    weights, most = np.full(n * n_pixels, 1 / n_pixels), budget(method, n, alpha)
    return np.array([1 - cm.kernels.lambda_hat(values, weights, most) for values in draws])


@pytest.mark.parametrize(("n", "alpha", "delta"), [(100, 0.1, 0.1), (60, 0.2, 0.05), (22, 0.1, 0.1)])
def test_pac_exceeds_alpha_with_probability_delta(n: int, alpha: float, delta: float) -> None:
    """And with the very probability that the binomial law says: one error more or less is told apart."""
    method, repetitions = cm.PAC(delta), 4_000
    exceeded = (risks_given_calibration(method, n, alpha, repetitions, seed=n) > alpha).mean()
    law = stats.binom(n, alpha).cdf(float(budget(method, n, alpha)))
    assert law <= delta
    assert abs(exceeded - law) <= 4 * sqrt(law * (1 - law) / repetitions)
    assert exceeded <= delta + 3 * sqrt(delta * (1 - delta) / repetitions)


@pytest.mark.parametrize("n_pixels", [1, 2, 4])
def test_rcps_exceeds_alpha_with_probability_delta_at_most(n_pixels: int) -> None:
    delta, repetitions = 0.2, 3_000
    risks = risks_given_calibration(cm.RCPS(delta), 80, 0.2, repetitions, seed=3, n_pixels=n_pixels)
    assert (risks > 0.2).mean() <= delta + 3 * sqrt(delta * (1 - delta) / repetitions)


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (50, 0.2)])
@pytest.mark.parametrize("n_pixels", [1, 4])
def test_crc_has_a_mean_risk_of_alpha_at_most(n: int, alpha: float, n_pixels: int) -> None:
    risks = risks_given_calibration(cm.CRC(), n, alpha, 4_000, seed=n, n_pixels=n_pixels)
    error = risks.std(ddof=1) / sqrt(len(risks))
    assert alpha - 2 / (n + 1) - 3 * error <= risks.mean() <= alpha + 3 * error
    if n_pixels == 1:  # given the calibration images it exceeds alpha often: what PAC and RCPS are for
        assert (risks > alpha).mean() > 0.25


def test_a_doubt_above_one_half_is_told() -> None:
    with pytest.warns(
        UserWarning,
        match=r"delta=0.95 is the probability that the guarantee fails, not the confidence, which is 0.05: did",
    ):
        cm.RCPS(0.95)
