"""Pictures of binary masks."""

from __future__ import annotations

import numpy as np
import pytest

import conformask as cm
from conformask.plotting import plot_binary, plot_coverage_histogram
from drawn import IMAGE, drawn_colours, legend_texts

HELD = np.array([[1, 1, 0], [0, 1, 0]], bool)
LABELS = np.array([[1, 0, 1], [0, 255, 0]], np.uint8)


def reports() -> dict[str, cm.BinaryReport]:
    rng = np.random.default_rng(0)
    P = rng.beta(rng.choice([1.0, 4.0], (100, 1, 1)), 1, (100, 8, 8))
    y = np.ones(P.shape, bool)
    kinds = {"one": cm.BinaryRiskCalibrator(0.2), "each": cm.CRACalibrator(0.2)}
    return {name: kind.fit(P[:60], y[:60]).evaluate(P[60:], y[60:]) for name, kind in kinds.items()}


REPORTS = reports()


def test_each_kind_of_pixel_has_its_colour() -> None:
    ax = plot_binary(HELD, LABELS)
    ground, *layers, void = (drawn_colours(ax, i) for i in range(5))
    assert (ground[..., :3] < 0.1).all()
    for layer, (row, column) in zip(layers, [(0, 0), (0, 2), (0, 1)], strict=True):
        assert np.argwhere(layer[..., 3] > 0).tolist() == [[row, column]]
    assert layers[0][0, 0].tolist() == [1, 1, 1, 1]
    assert np.argwhere(void[..., 3] > 0).tolist() == [[1, 1]]
    assert legend_texts(ax) == ["in mask and object", "missed", "mask alone", "void"]
    over = plot_binary(HELD, LABELS == 1, image=IMAGE, legend=False)
    assert over.get_legend() is None
    assert drawn_colours(over, 1)[0, 0, 3] == 0.75


def test_histograms_count_images() -> None:
    ax = plot_coverage_histogram(REPORTS, n_bins=10)
    lines = [each for each in ax.patches if not each.get_fill()]
    for line, report in zip(lines, REPORTS.values(), strict=True):
        counts = np.histogram(report.coverages, np.linspace(0, 1, 11))[0]
        assert line.get_data().values.tolist() == counts.tolist()
    assert ax.get_lines()[0].get_xdata() == [0.8, 0.8]
    assert [text.split(":")[0] for text in legend_texts(ax)] == ["one", "each", "1 - alpha"]
    assert legend_texts(plot_coverage_histogram(REPORTS["one"]))[0].startswith("masks: mean 0.")


def test_what_does_not_fit() -> None:
    for call, error, says in [
        (lambda: plot_binary(HELD * 1, LABELS), TypeError, "mask must be boolean"),
        (lambda: plot_binary(HELD[None], LABELS), ValueError, "mask must have 2 dimensions"),
        (lambda: plot_binary(HELD, LABELS[:, :2]), ValueError, "labels must have shape"),
        (lambda: plot_binary(HELD, LABELS, opacity=2), ValueError, "opacity must lie in"),
        (lambda: plot_coverage_histogram({}), ValueError, "at least one"),
        (lambda: plot_coverage_histogram(HELD), TypeError, "must be BinaryReports.* got a ndarray"),
        (lambda: plot_coverage_histogram(REPORTS, n_bins=0), ValueError, "n_bins must be at least 1"),
    ]:
        with pytest.raises(error, match=says):
            call()
    other = cm.BinaryRiskCalibrator(0.3).fit(
        np.random.default_rng(0).random((20, 4, 4)), np.ones((20, 4, 4), bool)
    )
    report = other.evaluate(np.random.default_rng(1).random((20, 4, 4)), np.ones((20, 4, 4), bool))
    with pytest.raises(ValueError, match=r"one alpha, got \[0\.2, 0\.3\]"):
        plot_coverage_histogram({**REPORTS, "other": report})
