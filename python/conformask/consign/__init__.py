"""CONSIGN: sets of whole segmentations that hold the truth with probability 1 - alpha. The calibrator of family 2."""

from conformask.consign.calibrator import ConsignCalibrator
from conformask.consign.reference import ReferenceSearch
from conformask.consign.sets import ConsignSet, Membership

__all__ = ["ConsignCalibrator", "ConsignSet", "Membership", "ReferenceSearch"]
