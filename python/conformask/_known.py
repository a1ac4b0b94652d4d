"""Which pixels of images hold data. The other pixels get full sets, and are not counted anywhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._arrays import clean_bools, ignored_labels, label_array, with_void
from conformask._image_models import Images, plain_array
from conformask._tensors import is_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Known", "holds_data"]


def holds_data(scores: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where at least one class of an image (K, ...) differs from `nodata`; if that is NaN, where no class is NaN."""
    if np.isnan(nodata):
        return np.asarray(~np.isnan(scores).any(axis=0), bool)
    return np.asarray((scores != nodata).any(axis=0), bool)


class Known:
    """Where images hold data, for images that come in order; everywhere, if `valid` is None.

    Calibration, evaluation and prediction all use the maps that :meth:`fill` returns. So the score of a labelled pixel
    is the same function of its image in all of them, even if it depends on the pixels around.

    Parameters
    ----------
    valid : bool array (n, ...), a sequence or an iterable of n, or None
        True where there are data, as the caller says.
    ignore_index : int, tuple of ints or None
        The label of void pixels, if the images have labels.
    labelled : bool
        Whether the images have labels; then `valid` needs an ignore index.
    """

    def __init__(
        self, valid: Any, ignore_index: int | tuple[int, ...] | None = None, *, labelled: bool = False
    ) -> None:
        self._images = None if valid is None else Images(valid, "X", "valid")
        self._mark = next(iter(ignored_labels(ignore_index)), None)
        if labelled and valid is not None and self._mark is None:
            raise ValueError("valid= makes pixels void, which needs an ignore_index")

    def fill(self, scores: Any, first: int) -> tuple[Any, NDArray[np.bool_] | None]:
        """Scores (n, K, ...), made equal over the classes where there are no data, and the mask (n, ...) of that."""
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
        # The same number for logits too: folders of files also fill it in, and do not know what their numbers are.
        equal = 1 / scores.shape[1]
        if is_tensor(scores):
            torch: Any = sys.modules["torch"]
            return scores.masked_fill(torch.from_numpy(void[:, np.newaxis]).to(scores.device), equal), void
        filled = np.array(scores)
        np.copyto(filled, equal, where=void[:, np.newaxis], casting="unsafe")
        return filled, void

    def fill_labelled(self, scores: Any, labels: Any, first: int) -> tuple[Any, Any]:
        """The scores of :meth:`fill`, and labels (n, ...) that are void where there are no data."""
        filled, void = self.fill(scores, first)
        if void is None or not void.any():
            return filled, labels
        assert self._mark is not None
        return filled, with_void(label_array(labels), void, self._mark)

    def all_used_by(self, found: Any) -> Any:
        """Returns `found`; refuses elements of `valid` that are left over, in the case of a generator at its end."""
        return found if self._images is None else self._images.all_used_by(found)

    def check_end(self) -> None:
        """Refuses elements of `valid` that are left over."""
        if self._images is not None:
            self._images.check_end()
