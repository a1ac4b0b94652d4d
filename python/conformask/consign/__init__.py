"""CONSIGN: sets of whole segmentations.

With probability 1 - alpha, a set holds the truth or the calibrator abstains.
"""

from conformask.consign.calibrator import ConsignCalibrator
from conformask.consign.reference import ReferenceSearch
from conformask.consign.sets import ConsignSet, Membership

__all__ = ["ConsignCalibrator", "ConsignSet", "Membership", "ReferenceSearch"]


def __dir__() -> list[str]:
    return sorted(__all__)
