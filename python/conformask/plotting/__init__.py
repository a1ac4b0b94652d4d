"""Plots of calibrators and their results: where a model is unsure, which labels sets hold, how risk falls.

Matplotlib is imported when the first plot is drawn; ``pip install conformask[plot]`` installs it. Each function draws
on given axes, or on new ones, and returns them. No function shows or saves a figure.

Examples
--------
>>> import matplotlib
>>> matplotlib.use("Agg")
>>> import numpy as np
>>> from conformask.plotting import plot_varisco
>>> ax = plot_varisco(np.array([[1, 2], [3, 1]]), n_classes=3)
>>> ax.get_title()
'Classes in the set of each pixel'
"""

from conformask.plotting.binary import plot_binary, plot_coverage_histogram
from conformask.plotting.calibration import (
    plot_ece_map,
    plot_image_reliability,
    plot_regions,
    plot_reliability,
)
from conformask.plotting.curves import plot_risk_curve
from conformask.plotting.gaps import plot_gap
from conformask.plotting.heatmaps import plot_varisco
from conformask.plotting.margins import plot_margins
from conformask.plotting.masks import plot_mask_panels, plot_masks, plot_may_be
from conformask.plotting.online import plot_alarm, plot_online
from conformask.plotting.parts import plot_part_risk
from conformask.plotting.reports import plot_alpha_sweep, plot_class_risk
from conformask.plotting.segmentations import plot_components, plot_samples
from conformask.plotting.sizes import plot_required_images

__all__ = [
    "plot_alarm",
    "plot_alpha_sweep",
    "plot_binary",
    "plot_class_risk",
    "plot_components",
    "plot_coverage_histogram",
    "plot_ece_map",
    "plot_gap",
    "plot_image_reliability",
    "plot_margins",
    "plot_mask_panels",
    "plot_masks",
    "plot_may_be",
    "plot_online",
    "plot_part_risk",
    "plot_regions",
    "plot_reliability",
    "plot_required_images",
    "plot_risk_curve",
    "plot_samples",
    "plot_varisco",
]


def __dir__() -> list[str]:
    return sorted(__all__)
