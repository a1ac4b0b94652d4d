"""Family 1: multi-labeled masks whose risk is controlled."""

from conformask.risk_control.calibrator import ConformalRiskCalibrator

__all__ = ["ConformalRiskCalibrator"]


def __dir__() -> list[str]:
    return sorted(__all__)
