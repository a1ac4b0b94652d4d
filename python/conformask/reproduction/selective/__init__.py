"""Scalers side by side, as in the tables of SELECTIVE.

Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023, compare scalers
by the expected calibration error of single images: on images like those that they were fitted to (Table 1), and on
images of another domain (Table 2). :func:`compare_scalers` does that with any logits. :func:`rendered` and
:func:`stored` give some: scenes whose light, noise and size change, and predictions for real images.
"""

from conformask.reproduction.selective.outcomes import ScalerComparison, ScalerOutcome
from conformask.reproduction.selective.protocol import compare_scalers, scalers_to_compare
from conformask.reproduction.selective.sources import Logits, read_logits, rendered, stored

__all__ = [
    "Logits",
    "ScalerComparison",
    "ScalerOutcome",
    "compare_scalers",
    "read_logits",
    "rendered",
    "scalers_to_compare",
    "stored",
]


def __dir__() -> list[str]:
    return sorted(__all__)
