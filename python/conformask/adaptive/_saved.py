"""Arrays of models of thresholds, as they are saved in files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["arrays_from_json"]


def arrays_from_json(document: dict[str, Any], sizes: Mapping[str, int]) -> dict[str, NDArray[np.float64]]:
    """Arrays by name, each of so many numbers; refuses others."""
    if set(document) != set(sizes):
        raise ValueError("the predictor was not saved by this version")
    arrays = {name: np.array(document[name], np.float64) for name in sizes}
    for name, size in sizes.items():
        if arrays[name].shape != (size,) or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} of the predictor does not hold {size} numbers")
    return arrays
