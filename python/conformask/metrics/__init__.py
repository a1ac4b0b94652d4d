"""Metrics, in scikit-learn's argument order.

Those of multi-labeled masks are means over images. Those of samples speak of label maps that were drawn from a set of
whole segmentations, or that a model gives.
"""

from conformask.metrics.accuracy import label_accuracy, sample_coverage
from conformask.metrics.agreement import pairwise_agreement, pairwise_correlation
from conformask.metrics.coverage import (
    SizeStratifiedCoverage,
    activation_ratio,
    class_set_sizes,
    empirical_risk,
    marginal_coverage,
    size_stratified_coverage,
)
from conformask.metrics.groups import GroupRisks, leave_one_group_out
from conformask.metrics.richness import chao1, log10_volume

__all__ = [
    "GroupRisks",
    "SizeStratifiedCoverage",
    "activation_ratio",
    "chao1",
    "class_set_sizes",
    "empirical_risk",
    "label_accuracy",
    "leave_one_group_out",
    "log10_volume",
    "marginal_coverage",
    "pairwise_agreement",
    "pairwise_correlation",
    "sample_coverage",
    "size_stratified_coverage",
]


def __dir__() -> list[str]:
    return sorted(__all__)
