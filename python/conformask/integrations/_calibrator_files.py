"""Calibrators of masks from their files, whatever their class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformask._documents import reading
from conformask._text import shown
from conformask.adaptive import (
    AACRCCalibrator,
    ATCalibrator,
    BinaryRiskCalibrator,
    ChannelwiseCalibrator,
    COATCalibrator,
    CRACalibrator,
)
from conformask.risk_control import ConformalRiskCalibrator

__all__ = ["KINDS", "load_calibrator"]

KINDS: Mapping[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(ConformalRiskCalibrator, ChannelwiseCalibrator, BinaryRiskCalibrator),
        *(ATCalibrator, COATCalibrator, AACRCCalibrator, CRACalibrator),
    )
}


def load_calibrator(calibrator: Any) -> Any:
    """The calibrator itself, or that of a file, whose class it names."""
    if isinstance(calibrator, tuple(KINDS.values())):
        return calibrator
    if not isinstance(calibrator, str | Path):
        raise TypeError(f"calibrator must be a path or one of {list(KINDS)}, got {shown(calibrator)}")
    with reading(calibrator):
        name = str(json.loads(Path(calibrator).read_bytes())["format"]).rpartition(".")[2]
    # What holds none of them is for the first to refuse.
    return KINDS.get(name, ConformalRiskCalibrator).load(calibrator)
