"""The betting bound beside a slow twin; what it needs, and what it depends on."""

from __future__ import annotations

from fractions import Fraction
from math import log, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import conformask as cm
from conformask.control.wsr import log_capitals, wsr_lambdas, wsr_limit
from problems import wide

# Large ones are as exact as small ones, though they are probably slips.
pytestmark = pytest.mark.filterwarnings("ignore:delta=:UserWarning")

PROBLEM = wide(n=120)
WSR = cm.RCPS(0.1, bound="wsr")


# The twin: one image after the other, as Bates et al. write it


def capitals(losses: list[float], alpha: float, delta: float) -> list[float]:
    """The capital after each image."""
    n, capital, path, seen = len(losses), 1.0, [], []
    sum_of_losses, sum_of_squares = 0.0, 0.0
    for loss in losses:
        variance = (1 / 4 + sum_of_squares) / (1 + len(seen))
        stake = min(1.0, sqrt(2 * log(1 / delta) / (n * variance)))
        capital *= 1 - stake * (loss - alpha)
        path.append(capital)
        seen.append(loss)
        sum_of_losses += loss
        mean = (1 / 2 + sum_of_losses) / (1 + len(seen))
        sum_of_squares += (loss - mean) ** 2
    return path


def limit(losses: list[float], delta: float) -> float:
    """The smallest alpha that is rejected, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if max(capitals(losses, middle, delta)) >= 1 / delta else (middle, high)
    return high


def losses_of(profiles: cm.ScoreProfiles, lam: float) -> list[float]:
    return np.nan_to_num(profiles.losses("miscoverage", lam)).tolist()


def lambda_hat(profiles: cm.ScoreProfiles, alpha: float, delta: float) -> float | None:
    """The last lambda of the walk from the largest down that is rejected, and all before it."""
    found = None
    for lam in wsr_lambdas(1.0):
        if max(capitals(losses_of(profiles, lam), alpha, delta)) < 1 / delta:
            return found
        found = float(lam)
    return found


@settings(max_examples=60, deadline=None)
@given(
    losses=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    alpha=st.floats(0.01, 0.99),
    delta=st.floats(0.01, 0.9),
)
def test_capitals_are_those_of_the_twin(losses: list[float], alpha: float, delta: float) -> None:
    best = max(1.0, *capitals(losses, alpha, delta))
    assert log_capitals(np.array(losses), alpha, delta) == pytest.approx(log(best), abs=1e-9)
    assert wsr_limit(np.array(losses), delta) == pytest.approx(limit(losses, delta), abs=1e-6)


def test_lambda_hat_is_that_of_the_twin() -> None:
    profiles = cm.profile(PROBLEM.X[:60], PROBLEM.y[:60])
    for alpha, delta in [(0.2, 0.1), (0.3, 0.01)]:
        found = profiles.lambda_hat("miscoverage", alpha, method=cm.RCPS(delta, "wsr"))
        assert found == lambda_hat(profiles, alpha, delta)
        assert 0 < found < 1


def test_the_lambdas_are_fixed_and_fine() -> None:
    lambdas = wsr_lambdas(1.0)
    assert (lambdas[0], lambdas[-1]) == (1.0, 0.0)
    assert (np.diff(lambdas) < 0).all()
    distances = 1 - lambdas[1:]
    ratios = distances[1:] / distances[:-1]
    assert ratios[distances[1:] > 2.0**-12].max() <= 1 + 1 / 512
    assert ratios.max() <= 1 + 1 / 16
    assert wsr_lambdas(1.5).tolist() == (1.5 * lambdas).tolist()


def test_the_walk_does_not_step_over_a_lambda_that_is_not_rejected() -> None:
    """Where the first image loses as much as the others, losses vary less: the capital rises as lambda falls."""
    alpha, delta, n = 0.751, 0.8, 287
    losses = np.zeros((3, n))  # at the largest lambda, below 7/8, and below 5/8
    losses[1, 1:] = 3 / 4
    losses[2] = 3 / 4
    is_enough = log_capitals(losses, alpha, delta) >= log(1 / delta) + 1e-9
    assert is_enough.tolist() == [True, False, True]

    X = np.zeros((n, 2, 1, 4), np.float32)
    X[:, :, 0, 0] = (1, 0)
    X[:, :, 0, 1:] = np.array([[1 / 8], [7 / 8]])
    X[0, :, 0, 1:] = np.array([[3 / 8], [5 / 8]])
    profiles = cm.profile(X, np.zeros((n, 1, 4), np.uint8), cm.LAC(include_top1=False))
    assert profiles.losses("miscoverage", [1.0, 0.8, 0.6]).T.tolist() == losses.tolist()
    method = cm.RCPS(delta, "wsr")
    assert profiles.lambda_hat("miscoverage", alpha, method=method) == 7 / 8

    # Nor does a lambda keep an alpha that a larger one does not.
    loss = cm.MiscoverageLoss()
    units = profiles._units(loss, "skip")
    kept = method.kept(profiles, loss, 0.6, units, losses[2].mean())
    assert kept > alpha > method.limit(profiles, loss, 0.6, units, losses[2].mean())
    assert profiles.lambda_hat("miscoverage", kept + 1e-9, method=method) <= 0.6
    assert profiles.lambda_hat("miscoverage", kept - 1e-6, method=method) > 0.6


def test_the_smallest_alpha_that_a_lambda_keeps() -> None:
    profiles, loss, method = cm.profile(PROBLEM.X[:60], PROBLEM.y[:60]), cm.MiscoverageLoss(), WSR
    units = profiles._units(loss, "skip")
    for lam in (0.3, 0.7, 1.0):
        kept = method.kept(profiles, loss, lam, units, profiles.risk(loss, lam))
        assert profiles.lambda_hat(loss, kept + 1e-9, method=method) <= lam
        if lam < 1:
            assert profiles.lambda_hat(loss, kept - 1e-6, method=method) > lam


# What it needs


@pytest.mark.parametrize(("alpha", "delta"), [(0.1, 0.1), (0.05, 0.05), (0.2, 0.01), (0.01, 0.1), (0.5, 0.9)])
def test_images_needed(alpha: float, delta: float) -> None:
    """With losses of 0, which full sets have: one image fewer is not enough."""
    n = cm.RCPS(delta, "wsr").n_needed(alpha)
    assert max(capitals([0.0] * n, alpha, delta)) >= 1 / delta
    assert n == 1 or max(capitals([0.0] * (n - 1), alpha, delta)) < 1 / delta
    assert n >= log(1 / delta) / log(1 + alpha)
    assert n >= cm.RCPS(delta).n_needed(alpha)


def test_images_needed_of_tiny_levels() -> None:
    assert cm.RCPS(0.1, "wsr").n_needed(Fraction(1, 10**12)) >= 2.3e12


def test_too_few_images() -> None:
    n = WSR.n_needed(0.1)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.1, method=WSR)
    few = (PROBLEM.X[: n - 1], PROBLEM.y[: n - 1])
    with pytest.raises(cm.InfeasibleRiskError, match=f"at least {n} calibration images, there are {n - 1}"):
        calibrator.fit(*few)
    calibrator.set_params(on_infeasible="full")
    with pytest.warns(cm.InfeasibleRiskWarning, match=f"at least {n}"):
        calibrator.fit(*few)
    assert calibrator.lambda_hat_ == 1.0
    assert calibrator.risk_bound_ > 0.1
    assert calibrator.fit(PROBLEM.X[:n], PROBLEM.y[:n]).risk_bound_ <= 0.1
    with pytest.raises(cm.InfeasibleRiskError, match="there are none"):
        cm.profile(PROBLEM.X[:1], np.full_like(PROBLEM.y[:1], 255)).lambda_hat("miscoverage", 0.1, method=WSR)


# What it is good for, and what it depends on


def low_variance(n: int, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Images of many pixels, whose losses are all alike."""
    rng = np.random.default_rng(seed)
    first = rng.random((n, 1, 20, 20))
    return np.concatenate([1 - first, first], axis=1), np.zeros((n, 20, 20), int)


@pytest.mark.parametrize("n", [100, 400])
def test_it_is_sharper_than_hoeffding_and_bentkus_where_losses_vary_little(n: int) -> None:
    profiles = cm.profile(*low_variance(n), cm.LAC(include_top1=False))
    betting, hb, crc = (
        profiles.lambda_hat("miscoverage", 0.1, method=method) for method in (WSR, cm.RCPS(0.1), "crc")
    )
    assert crc <= betting < hb  # the risk of lambda is 1 - lambda
    assert betting <= 0.9 + 0.6 * (hb - 0.9)


def test_it_depends_on_the_order_of_the_images() -> None:
    profiles = cm.profile(PROBLEM.X, PROBLEM.y)
    turned = profiles[::-1]
    lams = [each.lambda_hat("miscoverage", 0.2, method=WSR) for each in (profiles, turned)]
    assert lams[0] != lams[1]
    assert [each.lambda_hat("miscoverage", 0.2, method=cm.RCPS(0.1)) for each in (profiles, turned)] == [
        profiles.lambda_hat("miscoverage", 0.2, method=cm.RCPS(0.1))
    ] * 2
    merged = profiles[:50].merge(profiles[50:])
    assert merged.lambda_hat("miscoverage", 0.2, method=WSR) == lams[0]


def test_groups_count_at_their_first_image() -> None:
    groups = np.array([2, 0, 0, 1, 2, 1] * 20) + 3 * np.repeat(np.arange(20), 6)
    profiles = cm.profile(PROBLEM.X, PROBLEM.y, groups=groups)
    lam = profiles.lambda_hat("miscoverage", 0.3, method=WSR)
    single = profiles.losses("miscoverage", lam)
    names = list(dict.fromkeys(groups.tolist()))
    means = [float(single[groups == name].mean()) for name in names]
    fitted = cm.ConformalRiskCalibrator(alpha=0.3, method=WSR).fit(PROBLEM.X, PROBLEM.y, groups=groups)
    assert fitted.lambda_hat_ == lam
    assert fitted.n_images_ == len(names)
    assert fitted.risk_bound_ == pytest.approx(limit(means, 0.1), abs=1e-6)
    below = wsr_lambdas(1.0)[list(wsr_lambdas(1.0)).index(lam) + 1]
    single = profiles.losses("miscoverage", below)
    means = [float(single[groups == name].mean()) for name in names]
    assert limit(means, 0.1) > 0.3


def test_images_that_are_left_out_leave_no_trace() -> None:
    y = PROBLEM.y.copy()
    y[5:9] = 255
    some = np.r_[0:5, 9:120]
    for groups in (None, np.arange(120)):
        left = cm.profile(PROBLEM.X, y, groups=groups)
        chosen = cm.profile(PROBLEM.X[some], y[some])
        assert left.lambda_hat("miscoverage", 0.2, method=WSR) == chosen.lambda_hat(
            "miscoverage", 0.2, method=WSR
        )
    zero = left.lambda_hat("miscoverage", 0.2, method=WSR, on_empty="zero_loss")
    assert zero < left.lambda_hat("miscoverage", 0.2, method=WSR)


def test_losses_that_are_functions() -> None:
    profiles = cm.profile(PROBLEM.X, PROBLEM.y)
    assert profiles.lambda_hat(lambda coverage: 1 - coverage, 0.2, method=WSR) == profiles.lambda_hat(
        "miscoverage", 0.2, method=WSR
    )


# Refusals, files


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bound must be 'hb'.*or 'wsr'"):
        cm.RCPS(0.1, bound="clt")
    calibrator = cm.ConformalRiskCalibrator(method=WSR)
    with pytest.raises(ValueError, match="cannot take sample_weight"):
        calibrator.fit(PROBLEM.X, PROBLEM.y, sample_weight=np.full(120, 0.5))
    with pytest.raises(ValueError, match="profile='exact'"):
        cm.ConformalRiskCalibrator(method=WSR, profile="binned").fit(PROBLEM.X, PROBLEM.y)
    binned = cm.profile(PROBLEM.X, PROBLEM.y, collect=["miscoverage"])
    with pytest.raises(ValueError, match="binned profiles do not know the losses of single images"):
        binned.lambda_hat("miscoverage", 0.2, method=WSR)
    adaptive = cm.ConformalRiskCalibrator(method=WSR, adaptive=lambda X, images: np.zeros(len(X)))
    with pytest.raises(ValueError, match=r"adaptive= gives each image its own: take CRC\(\), PAC"):
        adaptive.fit(PROBLEM.X, PROBLEM.y)
    with pytest.raises(ValueError, match="corrected by any number"):
        cm.BinaryRiskCalibrator(method=WSR).fit(PROBLEM.X[:, 0], PROBLEM.y == 0)
    with pytest.raises(ValueError, match="goes by the losses of single images"):
        calibrator.fit(PROBLEM.X, PROBLEM.y).risk_limit()


def test_files(tmp_path: Path) -> None:
    fitted = cm.ConformalRiskCalibrator(method=WSR, alpha=0.2).fit(PROBLEM.X, PROBLEM.y)
    fitted.save(tmp_path / "c.json", profiles=True)
    loaded = cm.ConformalRiskCalibrator.load(tmp_path / "c.json")
    assert loaded.method == WSR
    assert (loaded.lambda_hat_, loaded.risk_bound_, loaded.confidence_) == (
        fitted.lambda_hat_,
        fitted.risk_bound_,
        0.9,
    )


def test_reports_tell_the_bound() -> None:
    fitted = cm.ConformalRiskCalibrator(method=WSR, alpha=0.3).fit(PROBLEM.X[:60], PROBLEM.y[:60])
    report = fitted.evaluate(PROBLEM.X[60:], PROBLEM.y[60:])
    assert (report.risk_bound, report.confidence) == (fitted.risk_bound_, 0.9)
    assert f"{fitted.risk_bound_:.4f} with confidence 0.9" in str(report)
    plain = fitted.recalibrate(method="crc").evaluate(PROBLEM.X[60:], PROBLEM.y[60:])
    assert (plain.risk_bound, plain.confidence) == (None, None)
    assert "confidence" not in str(plain)
