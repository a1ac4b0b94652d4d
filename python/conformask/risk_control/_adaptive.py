"""Lambdas that differ from image to image: those of a model, corrected by one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conformask._image_models import Images, is_model, numbers_of
from conformask._text import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["check_adaptive", "offsets_of", "refuse_images"]


def check_adaptive(model: Any) -> Any:
    """Refuses objects that cannot give lambdas."""
    if model is not None and not is_model(model):
        raise TypeError(
            "adaptive must be None, a function f(X, images) or an object with predict(X, images=), which is trained "
            f"already and gives each image a lambda, got {shown(model)}"
        )
    return model


def refuse_images(images: Any, model: Any) -> None:
    """Refuses photographs if there is no model that takes them."""
    if images is not None and model is None:
        raise ValueError("images= are for the model of adaptive=, which is None")


def offsets_of(model: Any, X: Any, images: Images, first: int, largest: float) -> NDArray[np.float64]:
    """The lambdas (n,) that a model gives to images before they are corrected."""
    some = images.next(len(X))
    return numbers_of(model, X, some, first, "adaptive must give", "lambda", largest)
