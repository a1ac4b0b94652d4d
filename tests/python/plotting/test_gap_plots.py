"""Methods of binary masks side by side."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib import pyplot as plt

import conformask as cm
from conformask.plotting import plot_gap

KINDS = {"one": cm.BinaryRiskCalibrator(0.2), "each": cm.CRACalibrator(0.2)}


def reports(n_splits: int) -> dict[str, list[cm.BinaryReport]]:
    rng = np.random.default_rng(0)
    P = rng.beta(rng.choice([1.0, 4.0], (100, 1, 1)), 1, (100, 8, 8))
    y = np.ones(P.shape, bool)
    splits = [rng.permutation(100) for _ in range(n_splits)]
    return {
        name: [kind.fit(P[s[:60]], y[s[:60]]).evaluate(P[s[60:]], y[s[60:]]) for s in splits]
        for name, kind in KINDS.items()
    }


REPORTS = reports(4)


def points(ax: plt.Axes, marker: str) -> list[list[float]]:
    return [np.asarray(line.get_xdata()).tolist() for line in ax.get_lines() if line.get_marker() == marker]


def texts(ax: plt.Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_a_row_for_each_method_and_a_point_for_each_split() -> None:
    gap, coverage = plot_gap(REPORTS)
    gaps = [[report.coverage_gap for report in row] for row in REPORTS.values()]
    coverages = [[report.coverage for report in row] for row in REPORTS.values()]
    assert points(gap, "o") == gaps
    assert [bar.get_width() for bar in gap.patches] == pytest.approx(np.mean(gaps, axis=1).tolist())
    assert points(coverage, "o") == coverages
    means = [each for (each,) in points(coverage, "D")]
    assert means == pytest.approx(np.mean(coverages, axis=1).tolist())
    assert points(coverage, "None") == [[0.8, 0.8]]
    assert texts(gap) == [f"{mean:.3f}" for mean in np.mean(gaps, axis=1)]
    assert texts(coverage) == [*(f"{mean:.3f}" for mean in means), r"$1 - \alpha$"]
    assert [label.get_text() for label in gap.get_yticklabels()] == ["one", "each"]
    assert gap.get_ylim()[0] > gap.get_ylim()[1]  # the first on top
    low, high = coverage.get_xlim()
    assert low < min(map(min, coverages)) < 0.8 < high
    assert gap.get_title().endswith(r"$\alpha$ = 0.2")


def test_one_report_has_no_scatter() -> None:
    gap, coverage = plot_gap({name: row[0] for name, row in REPORTS.items()})
    assert points(gap, "o") == points(coverage, "o") == []
    assert len(points(coverage, "D")) == 2
    for alone in (REPORTS["one"], REPORTS["one"][0]):
        gap, _ = plot_gap(alone)
        assert [label.get_text() for label in gap.get_yticklabels()] == ["masks"]


def test_on_given_axes() -> None:
    figure, axes = plt.subplots(2, 2)
    assert plot_gap(REPORTS, axes=axes).tolist() == axes.ravel()[:2].tolist()
    assert plt.get_fignums() == [figure.number]


def test_images_that_do_not_count() -> None:
    nothing = dataclasses.replace(REPORTS["one"][0], coverage=np.nan, coverage_gap=np.nan)
    gap, coverage = plot_gap({**REPORTS, "none": nothing})
    assert texts(gap)[-1] == ""
    assert np.isfinite([*gap.get_xlim(), *coverage.get_xlim()]).all()
    assert [text for ax in plot_gap(nothing) for text in texts(ax)] == ["no images that count"] * 2


def test_what_does_not_fit() -> None:
    inner = cm.BinaryRiskCalibrator(0.2, risk="fpr").fit(
        np.random.default_rng(0).random((20, 4, 4)), np.zeros((20, 4, 4), bool)
    )
    other = inner.evaluate(np.random.default_rng(1).random((20, 4, 4)), np.zeros((20, 4, 4), bool))
    far = dataclasses.replace(REPORTS["one"][0], alpha=0.3)
    for given, error, says in [
        ({}, ValueError, "at least one, got none"),
        ({"one": []}, ValueError, "at least one for each method"),
        ({"one": 3}, TypeError, "reports must be a sequence, got 3"),
        ({"one": [3]}, TypeError, "must be BinaryReports.* got a int"),
        ({"one": other}, ValueError, "coverage is controlled, risk='fnr', got 'fpr'"),
        ({**REPORTS, "far": far}, ValueError, r"one alpha, got \[0\.2, 0\.3\]"),
    ]:
        with pytest.raises(error, match=says):
            plot_gap(given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="axes must be two, for the gap and for the coverage, got 1"):
        plot_gap(REPORTS, axes=plt.subplots()[1])
