"""How many images a level needs: known numbers, every n counted through, SciPy's laws, the ends of the range."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import conformask as cm
import twin
from conformask._units import Units
from conformask.control import Method
from conformask.metrics import required_images
from problems import wide

# Large ones are as exact as small ones, though they are probably slips.
pytestmark = pytest.mark.filterwarnings("ignore:delta=:UserWarning")


def allows(method: Method, n: int, alpha: float, risk: float) -> bool:
    return method.budget(Units(Fraction(n), n, 0), twin.decimal(alpha)) >= n * twin.decimal(risk)


def first_of_all_that_allow(method: Method, alpha: float, risk: float, end: int) -> int:
    return 1 + next((n for n in range(end - 1, 0, -1) if not allows(method, n, alpha, risk)), 0)


def test_known_numbers() -> None:
    assert required_images(0.1) == required_images(0.1, method="crc") == 9
    assert [required_images(alpha) for alpha in (0.05, 0.01, 0.3)] == [19, 99, 3]
    for alpha, delta, n in [(0.05, 0.05, 59), (0.1, 0.1, 22)]:
        assert required_images(alpha, delta) == n
        assert required_images(alpha, delta, 0) == n
        assert required_images(alpha, method=cm.PAC(delta)) == n
    assert required_images(0.1, expected_risk=0.09) == 90
    assert required_images(Fraction(1, 10), expected_risk=Fraction(9, 100)) == 90  # decided as fractions


def test_it_is_what_calibrators_ask_for() -> None:
    problem = wide(n=60)
    for method in (cm.CRC(), cm.RCPS(0.1)):
        calibrator = cm.ConformalRiskCalibrator(alpha=0.1, method=method, on_infeasible="raise")
        n = required_images(0.1, method=method)
        with pytest.raises(cm.InfeasibleRiskError) as caught:
            calibrator.fit(problem.X[: n - 1], problem.y[: n - 1])
        assert caught.value.n_needed == n
        assert calibrator.fit(problem.X[:n], problem.y[:n]).risk_ == 0


@settings(max_examples=60)
@given(alpha=st.floats(1e-6, 1 - 1e-6), share=st.floats(0, 0.999))
def test_crc_allows_it_from_there_on(alpha: float, share: float) -> None:
    risk = alpha * share
    n = required_images(alpha, expected_risk=risk)
    assert allows(cm.CRC(), n, alpha, risk)
    assert n == 0 or not allows(cm.CRC(), n - 1, alpha, risk)
    assert risk or n == required_images(alpha)


METHODS = [cm.PAC(0.1), cm.PAC(Fraction(3, 7)), cm.PAC(0.5), cm.RCPS(0.02), cm.RCPS(0.5)]
LEVELS = [
    (0.1, 0.05),
    (0.3, 0.25),
    (0.5, 0.4),
    (0.5, 0.1),
    (0.2, 0.01),
    (0.9, 0.85),
    (0.97, 0.9),
    (0.02, 0.001),
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_number_of_images_counted_through(method: Method) -> None:
    """Also where some fewer images allow it, but not all."""
    for alpha, risk in LEVELS:
        n = required_images(alpha, expected_risk=risk, method=method)
        assert n == first_of_all_that_allow(method, alpha, risk, n + 100)


def test_single_smaller_numbers_may_do() -> None:
    n = required_images(0.3, expected_risk=0.25, method=cm.PAC(0.1))
    fewer = [each for each in range(1, n) if allows(cm.PAC(0.1), each, 0.3, 0.25)]
    assert fewer
    assert n - 1 not in fewer


@settings(max_examples=40)
@given(
    alpha=st.floats(0.05, 0.95),
    delta=st.floats(0.01, 0.99),
    share=st.floats(0.01, 0.7),
    kind=st.sampled_from([cm.PAC, cm.RCPS]),
)
def test_any_levels_counted_through(alpha: float, delta: float, share: float, kind: type) -> None:
    n = required_images(alpha, expected_risk=alpha * share, method=kind(delta))
    assert n == first_of_all_that_allow(kind(delta), alpha, alpha * share, n + 40)


@pytest.mark.parametrize("risk", [0.0005, 0.0009])
@pytest.mark.parametrize("delta", [0.05, 0.9])
def test_many_images_by_the_law_of_scipy(risk: float, delta: float) -> None:
    """Around the answer, hundreds of thousands: the last that is refused, and what comes after."""
    n = required_images(0.001, expected_risk=risk, method=cm.PAC(delta))
    assert stats.binom.cdf(math.ceil(round((n - 1) * risk, 9)), n - 1, 0.001) > delta
    after = range(n, n + 5000)
    assert max(stats.binom.cdf([math.ceil(round(m * risk, 9)) for m in after], after, 0.001)) <= delta


def test_equality_is_enough() -> None:
    """Where delta is the very probability at the last number that is refused, which floats cannot tell."""
    for alpha, risk in LEVELS:
        n = required_images(alpha, expected_risk=risk, method=cm.PAC(0.3))
        p, last = twin.decimal(alpha), n - 1
        ways = range(math.ceil(last * twin.decimal(risk)) + 1)
        delta = sum((math.comb(last, i) * p**i * (1 - p) ** (last - i) for i in ways), Fraction())
        if delta < 1:
            assert required_images(alpha, expected_risk=risk, method=cm.PAC(delta)) < n
            barely = cm.PAC(delta - Fraction(1, 10**40))
            assert required_images(alpha, expected_risk=risk, method=barely) == n
    assert required_images(0.9, method=cm.PAC(Fraction(1, 10**5))) == 5
    assert required_images(0.9, method=cm.PAC(Fraction(1, 10**5) - Fraction(1, 10**40))) == 6


def test_a_smaller_gap_takes_four_times_as_many() -> None:
    for method in (cm.PAC(0.1), cm.RCPS(0.1)):
        wide_gap, narrow = (required_images(0.1, expected_risk=r, method=method) for r in (0.08, 0.09))
        assert 3 < narrow / wide_gap < 5
    for risk in (0.05, 0.08, 0.09):
        of_crc, of_pac, of_rcps = (
            required_images(0.1, expected_risk=risk, method=method)
            for method in (cm.CRC(), cm.PAC(0.1), cm.RCPS(0.1))
        )
        assert of_crc < of_pac < of_rcps
        assert required_images(0.1, 0.1, risk) == of_rcps


def test_what_is_refused() -> None:
    for bad in (0.1, 0.2, -0.01, 1):
        with pytest.raises(ValueError, match=rf"expected_risk must be in \[0, alpha\), alpha=0.1, got {bad}"):
            required_images(0.1, expected_risk=bad)
    for alpha in (0, 1, -1):
        with pytest.raises(ValueError, match="alpha must be in"):
            required_images(alpha)
    with pytest.raises(ValueError, match="delta must be in"):
        required_images(0.1, 0)
    with pytest.raises(TypeError, match="expected_risk must be a number"):
        required_images(0.1, expected_risk="0.05")
    with pytest.raises(ValueError, match=r"leave out delta=0\.1, or method=PAC\(delta=0\.2\)"):
        required_images(0.1, 0.1, method=cm.PAC(0.2))
    with pytest.raises(ValueError, match="method must be 'crc'"):
        required_images(0.1, method="apples")
    for method in (cm.PAC(0.1), cm.RCPS(0.1)):
        with pytest.raises(ValueError, match=r"further below alpha=0.1: 0.0999 needs more than 10,000,000"):
            required_images(0.1, expected_risk=0.0999, method=method)
    assert required_images(0.1, expected_risk=0.0999) == 9000


def test_levels_at_which_the_bound_is_flat() -> None:
    """Where a mean and alpha are as near as floats are, a divergence of less than 0 was the root of an error."""
    for alpha in (0.1, 0.2, 0.3, 0.37):
        for share in (0.3, 0.5, 0.7, 0.8, 0.9):
            assert required_images(alpha, expected_risk=alpha * share, method=cm.PAC(0.5)) >= 1
    assert required_images(0.2, expected_risk=0.2 * 0.8, method=cm.PAC(0.5)) >= 1
