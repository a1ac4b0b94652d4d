"""The calibrators of binary masks, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformask.adaptive.aacrc import AACRCCalibrator
from conformask.adaptive.at import ATCalibrator
from conformask.adaptive.binary_risk import BinaryRiskCalibrator
from conformask.adaptive.coat import COATCalibrator
from conformask.adaptive.cra import CRACalibrator

__all__ = ["BINARY"]

BINARY: Mapping[str, Any] = {
    kind.__name__: kind
    for kind in (BinaryRiskCalibrator, ATCalibrator, COATCalibrator, AACRCCalibrator, CRACalibrator)
}
