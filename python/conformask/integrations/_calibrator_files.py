"""Loads calibrators of masks from files, whatever their class."""

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
    """The calibrator that is given, or the one in a file, which names its class."""
    if isinstance(calibrator, tuple(kinds.values())):
        return calibrator
    if not isinstance(calibrator, str | Path):
        raise TypeError(f"calibrator must be a path or one of {list(kinds)}, got {shown(calibrator)}")
    with reading(calibrator):
        name = str(json.loads(Path(calibrator).read_bytes())["format"]).rpartition(".")[2]
    # A file without any of them is left to the first class to refuse.
    return kinds.get(name, next(iter(kinds.values()))).load(calibrator)
