"""Family 4: binary masks with a controlled rate of wrong pixels, by thresholds that may differ between images."""

from conformask.adaptive._predictors import LightPredictor
from conformask.adaptive.aacrc import AACRCCalibrator
from conformask.adaptive.at import ATCalibrator
from conformask.adaptive.binary_risk import BinaryRiskCalibrator
from conformask.adaptive.channelwise import ChannelwiseCalibrator
from conformask.adaptive.coat import COATCalibrator
from conformask.adaptive.cra import CRACalibrator
from conformask.adaptive.report import BinaryReport

__all__ = [
    "AACRCCalibrator",
    "ATCalibrator",
    "BinaryReport",
    "BinaryRiskCalibrator",
    "COATCalibrator",
    "CRACalibrator",
    "ChannelwiseCalibrator",
    "LightPredictor",
]


def __dir__() -> list[str]:
    return sorted(__all__)
