"""Which pixels of new images hold data. The others get full sets."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._arrays import clean_bools
from conformask._image_models import Images, plain_array
from conformask._tensors import is_tensor
from conformask._transforms import Inputs, name_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Known"]


class Known:
    """Where images that come in their order hold data: everywhere, if nothing is said."""

    def __init__(self, valid: Any) -> None:
        self._images = None if valid is None else Images(valid, "X", "valid")

    def fill(self, scores: Any, inputs: Inputs, first: int) -> tuple[Any, NDArray[np.bool_] | None]:
        """Scores (n, K, ...) that are equal for all classes where there are no data, and where that is (n, ...)."""
        if self._images is None:
            return scores, None
        given = [plain_array(image) for image in self._images.next(len(scores))]
        expected = tuple(scores.shape[2:])
        for i, image in enumerate(given):
            if image.dtype != bool:
                raise TypeError(f"valid must be boolean, got dtype {image.dtype} in image {first + i}")
            if image.shape != expected:
                raise ValueError(
                    f"valid must have shape {expected} in image {first + i} to match X, got {image.shape}"
                )
        void = ~clean_bools(np.stack(given))
        if not void.any():
            return scores, void
        equal = {"logits": 0.0, "scores": 1.0}.get(name_of(inputs), 1 / scores.shape[1])
        if is_tensor(scores):
            torch: Any = sys.modules["torch"]
            return scores.masked_fill(torch.from_numpy(void[:, np.newaxis]).to(scores.device), equal), void
        filled = np.array(scores)
        np.copyto(filled, equal, where=void[:, np.newaxis], casting="unsafe")
        return filled, void

    def all_used_by(self, found: Any) -> Any:
        """What was made of all maps; refuses what is left, of a generator when it is at its end."""
        return found if self._images is None else self._images.all_used_by(found)
