"""Thresholds that differ from image to image, compared with one threshold for all, as in COAT's Tables 1 and 2.

"Enhancing Image-Conditional Coverage in Segmentation: Adaptive Thresholding via Differentiable Miscoverage Loss" (COAT,
under review in 2026) compares calibrators of binary masks by their coverage and their coverage gap over random splits
(Table 1), and COAT at several temperatures (Table 2). :func:`compare_adaptive` does that with any probabilities and
masks. :func:`rendered` and :func:`stored` give some, and :func:`read_folder` reads your own.
"""

from conformask.reproduction.coat.folder import read_folder
from conformask.reproduction.coat.maps import BinaryMaps
from conformask.reproduction.coat.outcomes import AdaptiveComparison, AdaptiveOutcome
from conformask.reproduction.coat.protocol import (
    compare_adaptive,
    methods_to_compare,
    temperatures_to_compare,
)
from conformask.reproduction.coat.sources import rendered, stored

__all__ = [
    "AdaptiveComparison",
    "AdaptiveOutcome",
    "BinaryMaps",
    "compare_adaptive",
    "methods_to_compare",
    "read_folder",
    "rendered",
    "stored",
    "temperatures_to_compare",
]


def __dir__() -> list[str]:
    return sorted(__all__)
