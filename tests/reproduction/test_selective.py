"""Scalers side by side, as in the tables of SELECTIVE: splits and measures."""

from __future__ import annotations

import numpy as np
import pytest

import conformask as cm
from conformask.reproduction.selective import Logits, ScalerComparison, ScalerOutcome, compare_scalers

FEW = {"TempS": cm.TemperatureScaler(n_pixels=200), "LogS": cm.VectorScaler(n_pixels=200)}


def source(n: int = 12, seed: int = 0, groups: list[int] | None = None, members: int = 0) -> Logits:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 3, 16, 20)).astype(np.float32)
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    y[:, :2] = 255
    others = np.stack([3 * logits] * members) if members else None
    return Logits("too sure", 3 * logits, y, groups, others)


def test_measures_are_those_of_the_test_images() -> None:
    given = source()
    found = compare_scalers(given, FEW, n_splits=2, n_calibration=5, random_state=4)
    assert found.methods == ["Uncal", "TempS", "LogS"]
    for split in range(2):
        order = np.random.default_rng([4, split]).permutation(12)
        some, others = np.sort(order[:5]), np.sort(order[5:])
        scaler = cm.TemperatureScaler(n_pixels=200).fit(given.logits[some], given.labels[some])
        report = cm.metrics.calibration_report(
            given.labels[others], scaler.transform(given.logits[others]), n_bins=10
        )
        [outcome] = [each for each in found.outcomes if (each.method, each.split) == ("TempS", split)]
        assert (outcome.n_calibration, outcome.n_test) == (5, 7)
        measured = (outcome.ece, outcome.nll, outcome.mean_iou, outcome.accuracy)
        assert measured == (report.ece, report.nll, report.mean_iou, report.accuracy)
    assert found.violations() == []
    assert "too sure" in str(found)
    assert found.mean("TempS", "ece") < found.mean("Uncal", "ece")
    with pytest.raises(ValueError, match="no method 'Ens'"):
        found.mean("Ens", "ece")


def test_groups_are_not_parted() -> None:
    found = compare_scalers(source(groups=[0] * 9 + [1] * 3), FEW, n_splits=8, n_calibration=1)
    assert {(each.n_calibration, each.n_test) for each in found.outcomes} == {(9, 3), (3, 9)}


def test_scalers_and_reports_know_the_groups() -> None:
    given = source(groups=[0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    [_, outcome] = compare_scalers(given, {"LogS": cm.VectorScaler(ridge=5.0)}, n_splits=1).outcomes
    order = np.random.default_rng([0, 0]).permutation(6)
    some, others = (np.flatnonzero(np.isin(given.groups, chosen)) for chosen in (order[:3], order[3:]))
    losses = []
    for groups in (np.asarray(given.groups)[some], None):
        scaler = cm.VectorScaler(ridge=5.0).fit(given.logits[some], given.labels[some], groups=groups)
        probabilities = scaler.transform(given.logits[others])
        losses.append(cm.metrics.negative_log_likelihood(given.labels[others], probabilities))
    assert outcome.nll == pytest.approx(losses[0], abs=1e-6)
    assert abs(outcome.nll - losses[1]) > 1e-4


def test_who_keeps_the_prediction_is_known() -> None:
    scalers = {
        "LTS": cm.LocalTemperatureScaler(),
        "SVS": cm.StructuredScaler(),
        "order": cm.StructuredScaler(decision="order"),
        "Selective": cm.SelectiveScaler(hidden=()),
        "on vector": cm.SelectiveScaler(hidden=(), base="vector"),
        "on dirichlet": cm.SelectiveScaler(hidden=(), base=cm.DirichletScaler()),
        "on order": cm.SelectiveScaler(hidden=(), base=cm.StructuredScaler(decision="order")),
    }
    found = compare_scalers(source(), scalers, n_splits=1)
    kept = [each.method for each in found.outcomes if each.keeps_prediction]
    assert kept == ["LTS", "order", "Selective", "on order"]
    assert found.violations() == []


def test_another_domain_tests_with_all_of_its_images() -> None:
    found = compare_scalers(source(), FEW, test=source(5, seed=1), n_splits=1)
    assert {each.n_test for each in found.outcomes} == {5}
    assert found.title == "too sure to too sure"


def test_a_prediction_that_moves_is_told() -> None:
    row = ScalerOutcome("Uncal", 0, 5, 5, 0.1, 0.3, 0.5, 0.9, 0.0, keeps_prediction=False)
    moved = ScalerOutcome("TempS", 0, 5, 5, 0.1, 0.3, 0.5, 0.8, 0.0, keeps_prediction=True)
    assert len(ScalerComparison("x", (row, moved)).violations()) == 1
    assert ScalerComparison("x", (row,)).violations() == []


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n_calibration must be in \[1, 11\], got 12"):
        compare_scalers(source(), FEW, n_calibration=12)
