"""Features of a pixel and of its surroundings: planes of numbers that say how sure a model is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "AGREEMENT",
    "DISTANCE",
    "ENTROPY",
    "MARGIN",
    "MEAN_ENTROPY",
    "NAMES",
    "as_image",
    "pixel_features",
]

NAMES = (
    "entropy",
    "margin",
    *(f"largest {rank}" for rank in range(1, 6)),
    "agreement",
    "distance",
    "mean entropy",
)
ENTROPY, MARGIN = 0, 1
_N_ALONE = 7
AGREEMENT, DISTANCE, MEAN_ENTROPY = 7, 8, 9


def pixel_features(scores: NDArray[Any], inputs: str, first: int, *, around: bool) -> NDArray[np.float32]:
    """Features (n, F, ...) of the pixels of images (n, K, ...): of the pixel alone, or of its surroundings, too."""
    n_features = len(NAMES) if around else _N_ALONE
    out = np.empty((len(scores), n_features, *scores.shape[2:]), np.float32)
    _core.pixel_features(scores, inputs, out, first)
    return out


def as_image(values: NDArray[Any]) -> NDArray[Any]:
    """Pixels (N, K) as an image (1, K, 1, N), for which a kernel gives the same bits as where they were drawn."""
    return values.T[np.newaxis, :, np.newaxis]
