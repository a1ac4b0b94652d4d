"""Learn then Test beside a slow twin and MAPIE, on grids that were fixed beforehand."""

from __future__ import annotations

import json
import warnings
from fractions import Fraction
from math import ceil, e, exp, log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import conformask as cm
import twin
from problems import LOSSES, wide

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own affair
    from mapie.risk_control.fwer_control import control_fwer
    from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value

# Large ones are as exact as small ones, though they are probably slips.
pytestmark = pytest.mark.filterwarnings("ignore:delta=:UserWarning")

PROBLEM = wide(n=120)
GRID = [1.0, 0.99, 0.97, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5, 0.2, 0.0]
CORRECTIONS = ["fixed_sequence", "bonferroni"]


# The twin


def p_value(total: Fraction, n: int, alpha: float) -> float:
    """Hoeffding-Bentkus of a sum of losses that is known exactly."""
    a = min(float(total / n), alpha)
    h = (a * log(a / alpha) if a else 0) + ((1 - a) * log((1 - a) / (1 - alpha)) if a < 1 else 0)
    return min(exp(-n * h), e * stats.binom.cdf(ceil(total), n, alpha))


def valid(
    sums: list[Fraction], grid: list[float], n: int, alpha: float, delta: float, correction: str
) -> list[float]:
    """One lambda after the other."""
    if correction == "bonferroni":
        found = zip(grid, sums, strict=True)
        return [lam for lam, total in found if p_value(total, n, alpha) <= delta / len(grid)]
    passed = []
    for lam, total in zip(grid, sums, strict=True):
        if p_value(total, n, alpha) > delta:
            break
        passed.append(lam)
    return passed


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_the_smallest_alpha_that_a_lambda_keeps(correction: str) -> None:
    """In a fixed sequence that of the riskiest lambda before it, if that is larger than its own."""
    profiles, loss = cm.profile(PROBLEM.X, PROBLEM.y), cm.MiscoverageLoss()
    units = profiles._units(loss, "skip")
    method = cm.LTT(0.1, [0.8, 0.9, 1.0], correction)
    for lam in method.grid:
        kept = method.kept(profiles, loss, lam, units, profiles.risk(loss, lam))
        assert lam in method.valid_lambdas(profiles, loss, Fraction(kept + 1e-9), units)
        assert lam not in method.valid_lambdas(profiles, loss, Fraction(kept - 1e-6), units)


@pytest.mark.parametrize(("total", "p"), [(8, 0.003773), (10, 0.021940), (12, 0.087111)])
def test_the_known_p_values(total: int, p: float) -> None:
    """Of 200 images so many have loss 1, where alpha = 0.1."""
    assert p_value(Fraction(total), 200, 0.1) == pytest.approx(p, abs=1e-6)
    y = np.zeros((200, 1, 1), int)
    X = np.tile([[[[1.0]], [[0.0]]]], (200, 1, 1, 1))
    X[:total] = X[:total, ::-1]
    for shift, passes in [(1e-6, True), (-1e-6, False)]:
        for m, correction in [(1, "fixed_sequence"), (1, "bonferroni"), (4, "bonferroni")]:
            grid = [0.5, 0.25, 0.125, 0.0][-m:]
            calibrator = cm.ConformalRiskCalibrator(
                loss="binary", alpha=0.1, method=cm.LTT(m * (p + shift), grid, correction)
            )
            if passes:
                assert calibrator.fit(X, y).valid_lambdas_.tolist() == grid
            else:
                with pytest.raises(cm.InfeasibleRiskError, match="no lambda of the grid"):
                    calibrator.fit(X, y)


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize("loss", ["miscoverage", "binary 0.7", "balanced", "false negatives of two"])
@pytest.mark.parametrize(("alpha", "delta"), [(0.1, 0.1), (0.3, 0.05), (0.25, 0.5)])
def test_valid_lambdas_are_those_of_the_twin(correction: str, loss: str, alpha: float, delta: float) -> None:
    ours, twins = LOSSES[loss](PROBLEM.n_classes)
    images, n = PROBLEM.images(), len(PROBLEM.X)
    sums = [n * twin.risk(images, twins, lam) for lam in GRID]
    expected = valid(sums, GRID, n, alpha, delta, correction)
    calibrator = cm.ConformalRiskCalibrator(loss=ours, alpha=alpha, method=cm.LTT(delta, GRID, correction))
    assert calibrator.fit(PROBLEM.X, PROBLEM.y).valid_lambdas_.tolist() == expected
    assert calibrator.lambda_hat_ == expected[-1]
    assert calibrator.risk_ <= calibrator.risk_bound_ == calibrator.corrected_risk_ <= alpha


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_mapie_finds_the_same_lambdas(correction: str) -> None:
    profiles = cm.profile(PROBLEM.X, PROBLEM.y)
    grid, n = np.linspace(1, 0, 201), len(PROBLEM.X)
    risks = np.array([profiles.risk("miscoverage", lam) for lam in grid])
    for alpha, delta in [(0.1, 0.1), (0.2, 0.02), (0.35, 0.3)]:
        p_values = compute_hoeffding_bentkus_p_value(risks, n, alpha)[:, 0]
        theirs = grid[control_fwer(p_values, delta, fwer_method=correction)]
        fitted = cm.ConformalRiskCalibrator(alpha=alpha, method=cm.LTT(delta, grid, correction))
        ours = fitted.fit(PROBLEM.X, PROBLEM.y).valid_lambdas_
        assert ours.tolist() == theirs.tolist()
        assert 1 < len(ours) < 200


def test_mapie_and_rcps_agree() -> None:
    """For a loss that falls with lambda, RCPS is Learn then Test in a sequence without gaps."""
    profiles, n = cm.profile(PROBLEM.X, PROBLEM.y), len(PROBLEM.X)
    for alpha, delta in [(0.1, 0.1), (0.2, 0.02), (0.35, 0.3)]:
        lam = profiles.lambda_hat("miscoverage", alpha, method=cm.RCPS(delta))
        risks = np.array([profiles.risk("miscoverage", at) for at in (lam, np.nextafter(lam, 0))])
        p_values = compute_hoeffding_bentkus_p_value(risks, n, alpha)[:, 0]
        assert p_values[0] <= delta < p_values[1]
        grid = np.linspace(1, 0, 1001)
        tested = profiles.lambda_hat("miscoverage", alpha, method=cm.LTT(delta, grid))
        assert lam <= tested <= lam + 0.001


@settings(max_examples=40, deadline=None)
@given(
    grid=st.lists(st.integers(0, 64), min_size=1, max_size=12, unique=True),
    descending=st.booleans(),
    delta=st.floats(0.01, 0.9),
    alpha=st.floats(0.05, 0.6),
)
def test_lambda_hat_is_the_last_that_passes(
    grid: list[int], descending: bool, delta: float, alpha: float
) -> None:
    lambdas = [each / 64 for each in sorted(grid, reverse=descending)]
    profiles = cm.profile(PROBLEM.X, PROBLEM.y)
    n = len(profiles)
    sums = [n * Fraction(profiles.risk("miscoverage", lam)) for lam in lambdas]
    expected = valid(sums, lambdas, n, alpha, delta, "fixed_sequence")
    try:
        found = profiles.lambda_hat("miscoverage", alpha, method=cm.LTT(delta, lambdas))
    except cm.InfeasibleRiskError:
        assert not expected
    else:
        assert found == expected[-1]


# Who counts, and what is kept of them


def test_groups_count_once_and_weights_are_refused() -> None:
    groups = np.arange(len(PROBLEM.X)) // 3
    method = cm.LTT(0.1, GRID)
    grouped = cm.ConformalRiskCalibrator(alpha=0.3, method=method)
    grouped.fit(PROBLEM.X, PROBLEM.y, groups=groups)
    profiles = cm.profile(PROBLEM.X, PROBLEM.y)
    means = [
        [float(profiles.losses("miscoverage", lam)[groups == group].mean()) for group in range(40)]
        for lam in GRID
    ]
    sums = [Fraction(sum(each)) for each in means]
    assert grouped.valid_lambdas_.tolist() == valid(sums, GRID, 40, 0.3, 0.1, "fixed_sequence")
    assert grouped.n_images_ == 40
    with pytest.raises(ValueError, match="cannot take sample_weight"):
        grouped.fit(PROBLEM.X, PROBLEM.y, sample_weight=np.full(len(PROBLEM.X), 0.5))


def test_binned_profiles_answer_for_losses_that_fall() -> None:
    grid = np.linspace(1, 0, 101)
    method = cm.LTT(0.1, grid)
    exact, binned = (
        cm.ConformalRiskCalibrator(alpha=0.2, method=method, profile=profile).fit(PROBLEM.X, PROBLEM.y)
        for profile in ("exact", "binned")
    )
    assert exact.lambda_hat_ <= binned.lambda_hat_ <= exact.lambda_hat_ + 0.011


def test_files_and_clones(tmp_path: Path) -> None:
    from sklearn.base import clone

    for method in (cm.LTT(0.1, np.array(GRID)), cm.LTT(Fraction(1, 7), GRID, "bonferroni")):
        fitted = cm.ConformalRiskCalibrator(method=method, alpha=0.3).fit(PROBLEM.X, PROBLEM.y)
        fitted.save(tmp_path / "c.json", profiles=True)
        loaded = cm.ConformalRiskCalibrator.load(tmp_path / "c.json")
        assert loaded.method == method == clone(loaded).method
        assert loaded.lambda_hat_ == fitted.lambda_hat_
        assert loaded.valid_lambdas_.tolist() == fitted.valid_lambdas_.tolist()
        assert json.loads((tmp_path / "c.json").read_text())["parameters"]["method"]["grid"] == GRID
        assert eval(repr(cm.LTT(0.1, GRID[:3])), {"LTT": cm.LTT}) == cm.LTT(0.1, GRID[:3])
        marginal = loaded.recalibrate(method="crc")
        with pytest.raises(AttributeError, match="tests no grid of lambdas"):
            _ = marginal.valid_lambdas_
        assert marginal.recalibrate(method=method).lambda_hat_ == fitted.lambda_hat_
    document = json.loads((tmp_path / "c.json").read_text())
    for grid in (None, 0.5, "1", [], [0.5, "1"], [[1.0]], [0.2, 0.1, 0.3], [-1.0], {"1": 2}):
        document["parameters"]["method"]["grid"] = grid
        (tmp_path / "bad.json").write_text(json.dumps(document))
        with pytest.raises(ValueError, match="is damaged"):
            cm.ConformalRiskCalibrator.load(tmp_path / "bad.json")


# What is refused, and what no lambda can


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([], "at least one lambda"),
        ([0.5, 0.5], "each lambda once, got 0.5 several times"),
        ([0.5, 0.1, 0.3], "in order, ascending or descending"),
        ([-0.1, 0.3], "at least 0, got -0.1"),
        ([0.1, float("nan")], "must be finite"),
        ([0.1, float("inf")], "must be finite"),
        (0.5, "grid must be a sequence"),
        ("0.5", "grid must be a sequence"),
        ([0.5, "0.6"], "each lambda of grid must be a number"),
        ([True], "each lambda of grid must be a number"),
        ({0.5, 0.6}, "grid must be a sequence, got a set"),
        (np.zeros((2, 2)), "grid must be a sequence of lambdas, got an array"),
        (np.array(0.5), "grid must be a sequence of lambdas, got an array"),
    ],
)
def test_grids_that_are_none(grid: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        cm.LTT(0.1, grid)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="correction must be 'fixed_sequence' or 'bonferroni', got 'holm'"):
        cm.LTT(0.1, GRID, correction="holm")
    for delta in (0, 1, 2):
        with pytest.raises(ValueError, match="delta must be in"):
            cm.LTT(delta, GRID)
    calibrator = cm.ConformalRiskCalibrator(method=cm.LTT(0.1, [1.2, 1.0]))
    with pytest.raises(ValueError, match=r"grid must lie in \[0, 1\].*got 1.2"):
        calibrator.fit(PROBLEM.X, PROBLEM.y)
    wider = cm.ConformalRiskCalibrator(cm.RAPS(0.2, 1), method=cm.LTT(0.1, [1.2, 1.0]), alpha=0.5)
    assert wider.fit(PROBLEM.X, PROBLEM.y).lambda_hat_ <= 1.2
    adaptive = cm.ConformalRiskCalibrator(
        method=cm.LTT(0.1, GRID), adaptive=lambda X, images: np.zeros(len(X))
    )
    with pytest.raises(ValueError, match="adaptive= gives each image its own"):
        adaptive.fit(PROBLEM.X, PROBLEM.y)
    with pytest.raises(ValueError, match="corrected by any number"):
        cm.BinaryRiskCalibrator(method=cm.LTT(0.1, GRID)).fit(PROBLEM.X[:, 0], PROBLEM.y == 0)


def test_too_few_images() -> None:
    for method, n in [(cm.LTT(0.1, GRID), 22), (cm.LTT(0.1, GRID, "bonferroni"), 45)]:
        assert method.n_needed(0.1) == n
        calibrator = cm.ConformalRiskCalibrator(method=method)
        with pytest.raises(
            cm.InfeasibleRiskError, match=f"at least {n} calibration images, there are {n - 1}"
        ):
            calibrator.fit(PROBLEM.X[: n - 1], PROBLEM.y[: n - 1])
        calibrator.fit(PROBLEM.X[:n], PROBLEM.y[:n])
        assert calibrator.lambda_hat_ == 1.0


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_grids_of_which_no_lambda_passes(correction: str) -> None:
    method = cm.LTT(0.1, [0.0, 0.1, 0.99], correction)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.1, method=method)
    if correction == "fixed_sequence":
        words = "the first that is tested, 0, does not pass"
    else:
        words = "none of the 3, from 0 to 0.99, passes its test at level 0.0333"
        method = cm.LTT(0.1, [0.0, 0.1, 0.2], correction)
        words = words.replace("0.99", "0.2")
        calibrator.set_params(method=method)
    with pytest.raises(cm.InfeasibleRiskError, match=words) as caught:
        calibrator.fit(PROBLEM.X, PROBLEM.y)
    assert caught.value.n_images == len(PROBLEM.X) >= caught.value.n_needed
    full = cm.ConformalRiskCalibrator(alpha=0.1, method=method, on_infeasible="full")
    with pytest.warns(cm.InfeasibleRiskWarning, match=f"{words}.*all sets hold every class"):
        full.fit(PROBLEM.X, PROBLEM.y)
    assert (full.lambda_hat_, full.risk_) == (1.0, 0.0)
    assert len(full.valid_lambdas_) == 0
    turned = cm.ConformalRiskCalibrator(alpha=0.1, method=cm.LTT(0.1, [0.99, 0.1, 0.0], correction))
    assert turned.fit(PROBLEM.X, PROBLEM.y).lambda_hat_ == 0.99
