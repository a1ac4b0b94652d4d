"""CONSIGN: sets of whole segmentations, each of which holds the truth with probability 1 - alpha, or is not given."""

from conformask.consign.calibrator import ConsignCalibrator
from conformask.consign.reference import ReferenceSearch
from conformask.consign.sets import ConsignSet, Membership

__all__ = ["ConsignCalibrator", "ConsignSet", "Membership", "ReferenceSearch"]


def __dir__() -> list[str]:
    return sorted(__all__)
