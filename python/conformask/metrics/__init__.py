"""Metrics, in scikit-learn's argument order.

Metrics of multi-labeled masks are means over images. Metrics of samples are about label maps that were drawn from a set
of whole segmentations, or that a model gives. Metrics of calibration take probabilities (or logits), and measure how
well these are calibrated. Two functions need no images: they tell how many images are enough, and how many images of
equal weight weighted images are worth.
"""

from conformask.metrics.accuracy import label_accuracy, sample_coverage
from conformask.metrics.agreement import pairwise_agreement, pairwise_correlation
from conformask.metrics.binary import coverage_gap
from conformask.metrics.calibration import CalibrationAccumulator, calibration_report
from conformask.metrics.coverage import (
    SizeStratifiedCoverage,
    activation_ratio,
    class_set_sizes,
    empirical_risk,
    marginal_coverage,
    size_stratified_coverage,
)
from conformask.metrics.groups import GroupRisks, leave_one_group_out
from conformask.metrics.planning import required_images
from conformask.metrics.probabilities import (
    brier_score,
    expected_calibration_error,
    mean_iou,
    negative_log_likelihood,
    reliability_curve,
)
from conformask.metrics.reliability import (
    CalibrationReport,
    ClassCalibration,
    RegionCalibration,
    ReliabilityCurve,
)
from conformask.metrics.richness import chao1, log10_volume
from conformask.metrics.weights import effective_sample_size

__all__ = [
    "CalibrationAccumulator",
    "CalibrationReport",
    "ClassCalibration",
    "GroupRisks",
    "RegionCalibration",
    "ReliabilityCurve",
    "SizeStratifiedCoverage",
    "activation_ratio",
    "brier_score",
    "calibration_report",
    "chao1",
    "class_set_sizes",
    "coverage_gap",
    "effective_sample_size",
    "empirical_risk",
    "expected_calibration_error",
    "label_accuracy",
    "leave_one_group_out",
    "log10_volume",
    "marginal_coverage",
    "mean_iou",
    "negative_log_likelihood",
    "pairwise_agreement",
    "pairwise_correlation",
    "reliability_curve",
    "required_images",
    "sample_coverage",
    "size_stratified_coverage",
]


def __dir__() -> list[str]:
    return sorted(__all__)
