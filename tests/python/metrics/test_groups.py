"""Groups that are left out of calibration: what is refused, and what is printed."""

from __future__ import annotations

import numpy as np
import pytest

import conformask as cm
from conformask.metrics import GroupRisks

_RNG = np.random.default_rng(0)
X = _RNG.dirichlet(np.ones(3), size=(12, 5, 5)).transpose(0, 3, 1, 2)
Y = _RNG.integers(0, 3, (12, 5, 5))
NAMES = ["north"] * 8 + ["south"] * 4


def test_weights_are_refused() -> None:
    profiles = cm.profile(X, Y, sample_weight=np.linspace(0, 1, 12))
    with pytest.raises(ValueError, match="profiles must be without sample_weight"):
        cm.metrics.leave_one_group_out(profiles, NAMES, alpha=0.3)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.5).fit(X, Y, sample_weight=np.ones(12))
    with pytest.raises(ValueError, match="make them without"):
        cm.metrics.leave_one_group_out(calibrator.profiles_, NAMES, alpha=0.3)


@pytest.mark.parametrize(("method", "needed"), [("crc", 6), (cm.PAC(delta=0.5), 5)])
def test_an_infeasible_group_is_named(method: object, needed: int) -> None:
    with pytest.raises(cm.InfeasibleRiskError) as caught:
        cm.metrics.leave_one_group_out(cm.profile(X, Y), NAMES, alpha=0.15, loss="binary", method=method)
    error = caught.value
    assert str(error) == (
        f"without group 'north', alpha=0.15 needs at least {needed} calibration images, there are 4. "
        "Take a larger alpha, or more images of the other groups"
    )
    assert (error.n_images, error.alpha, error.n_needed) == (4, 0.15, needed)


def test_what_is_printed() -> None:
    found = GroupRisks(
        0.1,
        ("<a>", "b", "void"),
        np.array([0.05, 0.25, np.nan]),
        np.array([0.9999997, 1.0, 0.123456789]),
        np.array([40, 50, 0]),
    )
    lines = [line.split() for line in str(found).splitlines()]
    assert lines[0][-3:] == ["alpha", "=", "0.1"]
    assert lines[2:5] == [
        ["b", "0.2500", "1", "50"],
        ["<a>", "0.0500", "1", "-", "3.0e-07", "40"],
        ["void", "nan", "0.123457", "0"],
    ]
    assert " ".join(lines[5]).startswith(
        "The mean risk of the groups is 0.1500. This is a diagnosis: it promises"
    )
    html = found._repr_html_()
    assert html.count("0.1<") == html.count("alpha") == html.count("0.1500") == 1
    assert "promises nothing" in html
    assert "&lt;a&gt;" in html
