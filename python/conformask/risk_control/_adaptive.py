"""Lambdas that differ from image to image: a model's, corrected by one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._image_models import Images, numbers_of
from conformask._text import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_adaptive", "corrected_lambdas", "offsets_of", "refuse_images", "refuse_to_save"]


def check_adaptive(model: Any) -> Any:
    """Refuses what gives no lambdas."""
    has_predict = callable(getattr(model, "predict", None))
    if model is not None and (isinstance(model, type) or not (has_predict or callable(model))):
        raise TypeError(
            "adaptive must be None, a function f(X, images) or an object with predict(X, images=), which is trained "
            f"already and gives each image a lambda, got {shown(model)}"
        )
    return model


def refuse_to_save(model: Any) -> None:
    """For files: none can hold a model."""
    if model is not None:
        raise TypeError(f"a model of your own (adaptive=) cannot be saved: {type(model).__name__}")


def refuse_images(images: Any, model: Any) -> None:
    """Refuses photographs that no model looks at."""
    if images is not None and model is None:
        raise ValueError("images= are for the model of adaptive=, which is None")


def offsets_of(model: Any, X: Any, images: Images, first: int, largest: float) -> NDArray[np.float64]:
    """The lambdas (n,) that a model gives to images before they are corrected."""
    some = images.next(len(X))
    return numbers_of(model, X, some, first, "adaptive must give", "lambda", largest)


def corrected_lambdas(offsets: NDArray[np.float64], correction: float, largest: float) -> NDArray[np.float64]:
    """Where the sets of images (n,) are cut."""
    return _core.corrected_lambdas(offsets, correction, largest)
