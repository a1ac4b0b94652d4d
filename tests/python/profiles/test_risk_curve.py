"""Risk curves and losses at many lambdas are summed jump by jump: the same bits as one lambda at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import conformask as cm

LOSSES = [
    "miscoverage",
    "binary",
    cm.BinaryLoss(0.7),
    cm.LabelAccuracyLoss(0.6),
    cm.FalseNegativeLoss([0, 2]),
    cm.MiscoverageLoss(class_weights="balanced"),
    cm.MiscoverageLoss(class_weights=[1.0, 0.3, 0.0]),
    # Some losses are next to nothing, and so are what they differ by.
    cm.MiscoverageLoss(class_weights=[1.0, 1e-20, 1e-300]),
    lambda covered: (1 - covered) ** 2,
]
N = 30


def profiled(conformity_score: str, **parameters: Any) -> cm.ScoreProfiles:
    rng = np.random.default_rng(7)
    X = rng.dirichlet(np.ones(3), size=(N, 5, 6)).transpose(0, 3, 1, 2)
    y = rng.integers(0, 3, (N, 5, 6))
    y[rng.random(y.shape) < 0.1] = 255
    y[3] = 255  # no loss is defined
    y[4][y[4] < 2] = 2  # few are
    return cm.profile(X, y, conformity_score, **parameters)


def units(kind: str) -> dict[str, Any]:
    rng = np.random.default_rng(8)
    if kind == "groups":
        return {"groups": rng.integers(0, 9, N)}
    return {"sample_weight": rng.random(N).round(3)} if kind == "weights" else {}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", str(loss)))
@pytest.mark.parametrize("kind", ["images", "groups", "weights"])
@pytest.mark.parametrize("on_empty", ["skip", "zero_loss"])
def test_points_of_a_curve_are_risks(loss: Any, kind: str, on_empty: Any) -> None:
    profiles = profiled("aps", **units(kind))
    lambdas, risks = profiles.risk_curve(loss, on_empty=on_empty, n_points=10**4)
    assert len(lambdas) > N / 2
    assert risks[::17].tolist() == [profiles.risk(loss, lam, on_empty=on_empty) for lam in lambdas[::17]]
    few, at_few = profiles.risk_curve(loss, on_empty=on_empty, n_points=7)
    assert at_few.tolist() == [profiles.risk(loss, lam, on_empty=on_empty) for lam in few]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", str(loss)))
@pytest.mark.parametrize("conformity_score", ["lac", "sacp"])
def test_losses_at_many_lambdas_are_those_at_each(loss: Any, conformity_score: str) -> None:
    profiles = profiled(conformity_score)
    rng = np.random.default_rng(9)
    lambdas = rng.permutation(
        np.concatenate([rng.random(50), profiles.risk_curve("miscoverage")[0], [0, 0, 2]])
    )
    found = profiles.losses(loss, lambdas)[:, ::7]
    lambdas = lambdas[::7]
    np.testing.assert_array_equal(found, np.stack([profiles.losses(loss, lam) for lam in lambdas], axis=1))


def test_a_curve_of_no_image_is_undefined() -> None:
    X, y = np.full((2, 2, 1, 1), 0.5), np.full((2, 1, 1), 255)
    lambdas, risks = cm.profile(X, y).risk_curve("miscoverage")
    assert lambdas.tolist() == [0, 1]
    assert np.isnan(risks).all()


@pytest.mark.parametrize("n_points", [10**30, 0, -1, 10**9 + 1])
@pytest.mark.parametrize("collect", [None, ["miscoverage"]])
def test_numbers_of_points_that_cannot_be(n_points: int, collect: Any) -> None:
    profiles = profiled("lac", collect=collect)
    with pytest.raises(ValueError, match="n_points must be from 1 to 1000000000"):
        profiles.risk_curve("miscoverage", n_points=n_points)
