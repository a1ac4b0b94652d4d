"""Pictures that commands write, as PNG. Their figures are made without pyplot, and leave its state alone."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask.plotting._size_shares import draw_size_shares, share_text

__all__ = [
    "CSS_PIXELS",
    "CSS_WIDTH",
    "alpha_sweep",
    "class_risks",
    "heatmap",
    "import_figure",
    "part_risks",
    "png_of",
    "risk_curve",
    "share_text",
    "size_shares",
    "telling_slice",
]

_DPI = 150
_MOST_COLOURS = 6  # colours of set sizes in a heatmap: larger sets are rare, and share the last one
_WIDTH = 7.5  # inches
CSS_PIXELS = 94  # pixels of a page for an inch of a figure
CSS_WIDTH = round(_WIDTH * CSS_PIXELS)


def import_figure() -> Any:
    """Matplotlib's class of figures; without it, an error that says how to get it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('pictures need Matplotlib: pip install "conformask[cli]"') from error
    return Figure


def png_of(figure: Any) -> bytes:
    """A figure as PNG: the same bytes for the same figure."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()


def telling_slice(sizes: NDArray[Any]) -> int:
    """The slice of a volume (D, H, W) in which sets are largest."""
    return int(sizes.mean(axis=(1, 2)).argmax())


def heatmap(
    sizes: NDArray[Any], valid: NDArray[np.bool_] | None, calibrator: cm.ConformalRiskCalibrator
) -> Any:
    """The set sizes of an image; for a volume, those of the slice where they are largest."""
    where = ""
    if sizes.ndim == 3:
        most = telling_slice(sizes)
        where = f", slice {most + 1} of {len(sizes)}"
        sizes, valid = sizes[most], None if valid is None else valid[most]
    height = min(6.4, max(1.6, 5.0 * sizes.shape[0] / sizes.shape[1] + 0.9))
    figure = import_figure()(figsize=(6.4, height), layout="constrained")
    void = None if valid is None else np.where(valid, 0, 255)
    n_classes = calibrator.n_classes_
    ax = cm.plotting.plot_varisco(
        sizes,
        n_classes=n_classes,
        vmax=min(n_classes, _MOST_COLOURS),  # the same colours for all images
        labels=void,
        calibrator=calibrator,
        ax=figure.subplots(),
    )
    first, *rest = ax.get_title().split("\n")
    ax.set_title("\n".join([f"{first}{where}", *rest]))
    return figure


def risk_curve(calibrator: cm.ConformalRiskCalibrator) -> Any:
    """The risk of the calibration images for each lambda."""
    figure = import_figure()(figsize=(_WIDTH, 4.4), layout="constrained")
    ax = cm.plotting.plot_risk_curve(calibrator, ax=figure.subplots())
    ax.set_title(r"Empirical risk of the calibration images for each $\lambda$")
    return figure


def class_risks(report: cm.RiskReport) -> Any:
    """The miss rate of each class."""
    rows = min(40, len(report.classes))
    figure = import_figure()(figsize=(_WIDTH, 0.3 * rows + 2.0), layout="constrained")
    cm.plotting.plot_class_risk(report, ax=figure.subplots())
    return figure


def part_risks(report: cm.RiskReport) -> Any:
    """The risk of each class or stratum that has a lambda of its own."""
    rows = min(40, len(report.parts))
    figure = import_figure()(figsize=(_WIDTH, 0.3 * rows + 2.0), layout="constrained")
    cm.plotting.plot_part_risk(report, ax=figure.subplots())
    return figure


def alpha_sweep(report: cm.RiskReport) -> Any:
    """Risk and set size for each alpha."""
    figure = import_figure()(figsize=(_WIDTH, 5.4), layout="constrained")
    cm.plotting.plot_alpha_sweep(report, axes=figure.subplots(2, sharex=True))
    return figure


def size_shares(shares: NDArray[np.float64]) -> Any:
    """How many pixels have sets of each size, from shares (K + 1,). Of many sizes, the last bar joins the largest."""
    figure = import_figure()(figsize=(_WIDTH, 3.0), layout="constrained")
    draw_size_shares(figure.subplots(), shares, "% of the labelled pixels")
    return figure
