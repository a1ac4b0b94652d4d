"""Margins around predicted masks, between which the true contour lies. No probabilities are needed."""

from conformask.margins.calibrator import MarginCalibrator
from conformask.margins.masks import Margins
from conformask.margins.report import MarginReport

__all__ = ["MarginCalibrator", "MarginReport", "Margins"]


def __dir__() -> list[str]:
    return sorted(__all__)
