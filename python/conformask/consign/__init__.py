"""CONSIGN: sets of whole segmentations that hold the truth with probability 1 - alpha, unless it abstains."""

from conformask.consign.calibrator import ConsignCalibrator
from conformask.consign.reference import ReferenceSearch
from conformask.consign.sets import ConsignSet, Membership

__all__ = ["ConsignCalibrator", "ConsignSet", "Membership", "ReferenceSearch"]


def __dir__() -> list[str]:
    return sorted(__all__)
