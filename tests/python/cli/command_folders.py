"""What tests of commands share: folders, options, what a command did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

K, SIZE, N = 4, (12, 16), 60
CALIBRATION = ("--maps", "calibration/maps", "--labels", "calibration/labels")
TEST = ("--maps", "test/maps", "--labels", "test/labels")
CALIBRATOR = ("--calibrator", "calibrator.json")
Images = tuple[np.ndarray, np.ndarray]


@dataclass
class Done:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The only line on stderr that is no warning."""
        [line] = [line for line in self.err.splitlines() if not line.startswith("warning: ")]
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


Run = Callable[..., Done]


def fill(folder: Path, X: np.ndarray, y: np.ndarray) -> None:
    """Writes maps as .npy and labels as .png."""
    for kind in ("maps", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i, (scores, labels) in enumerate(zip(X, y, strict=True)):
        np.save(folder / "maps" / f"image_{i:02}.npy", scores)
        Image.fromarray(labels).save(folder / "labels" / f"image_{i:02}.png")
