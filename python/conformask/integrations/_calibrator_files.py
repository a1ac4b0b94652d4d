"""Calibrators of masks from their files, whatever their class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformask._documents import reading
from conformask._text import shown
from conformask.adaptive import ChannelwiseCalibrator
from conformask.adaptive._kinds import BINARY
from conformask.risk_control import ConformalRiskCalibrator

__all__ = ["KINDS", "load_calibrator"]

KINDS: Mapping[str, Any] = {
    "ConformalRiskCalibrator": ConformalRiskCalibrator,
    "ChannelwiseCalibrator": ChannelwiseCalibrator,
    **BINARY,
}


def load_calibrator(calibrator: Any, kinds: Mapping[str, Any] = KINDS) -> Any:
    """The calibrator itself, or that of a file, which names its class: one of some."""
    if isinstance(calibrator, tuple(kinds.values())):
        return calibrator
    if not isinstance(calibrator, str | Path):
        raise TypeError(f"calibrator must be a path or one of {list(kinds)}, got {shown(calibrator)}")
    with reading(calibrator):
        name = str(json.loads(Path(calibrator).read_bytes())["format"]).rpartition(".")[2]
    # What holds none of them is for the first to refuse.
    return kinds.get(name, next(iter(kinds.values()))).load(calibrator)
