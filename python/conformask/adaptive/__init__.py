"""Family 4: binary masks whose rate of wrong pixels is controlled, by thresholds that may differ between images."""

from conformask.adaptive.binary_risk import BinaryRiskCalibrator
from conformask.adaptive.report import BinaryReport

__all__ = ["BinaryReport", "BinaryRiskCalibrator"]


def __dir__() -> list[str]:
    return sorted(__all__)
