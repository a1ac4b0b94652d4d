"""Models of thresholds: those that a calibrator takes, the light one that it trains, and checks of their answers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from conformask import _core
from conformask._arrays import score_array
from conformask._image_models import are_same, check_alone, is_model, numbers_of, plain_array
from conformask._text import plural, shown
from conformask.adaptive._scale import SCALES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "N_FEATURES",
    "FeatureModel",
    "LightPredictor",
    "can_fit",
    "check_embedding",
    "check_predictor",
    "features_of",
    "thresholds_of",
]

# The number of features.
N_FEATURES = 9


class FeatureModel(Protocol):
    """A model from features to thresholds."""

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Thresholds (n,) in [0, 1] of features (n, F); those of an image do not depend on the other images."""

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""


@dataclass(frozen=True, eq=False)
class LightPredictor:
    """A small model of nine features of a map of probabilities; it needs no images.

    The features are the thresholds, as log-odds, of the masks that hold 50, 70, 80, 90, 95, 98 and 99 % of the summed
    probability, the mean entropy and the logarithm of the summed probability. An embedding of your own may replace
    them. Calibrators that train thresholds make it: their attribute ``predictor_`` holds it.

    Attributes
    ----------
    model : object
        The model from features (n, F) to thresholds (n,), on the scale of training.
    scale : {"probability", "log_odds"}
        The scale of the thresholds that the model was trained on.
    embedding : callable or None
        The function that gives the features in place of the nine.

    See Also
    --------
    conformask.ATCalibrator : Trains one by default.
    conformask.integrations.threshold_network.NetworkPredictor : Gives thresholds by a network of PyTorch.
    """

    model: FeatureModel
    scale: str = "probability"
    embedding: Any = None

    def predict(self, P: Any, images: Any = None) -> NDArray[np.float64]:
        """Thresholds of images.

        Parameters
        ----------
        P : array (n, H, W) or (n, D, H, W)
            Probability of the foreground.
        images
            Further inputs of an embedding.

        Returns
        -------
        float64 array (n,) in [0, 1]
        """
        return SCALES[self.scale].cutoffs(self.on_scale(score_array(P, "", "P"), images, 0))

    def on_scale(self, P: Any, images: Any, first: int) -> NDArray[np.float64]:
        """Thresholds (n,) of probabilities P (n, ...) on the scale of training; the first image is number `first`."""
        return self.model.predict(features_of(self.embedding, P, images, first))

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        return self.model.to_json()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LightPredictor):
            return NotImplemented
        own = [(each.to_json(), each.scale) for each in (self, other)]
        return own[0] == own[1] and are_same(self.embedding, other.embedding)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays


def can_fit(predictor: object) -> bool:
    """Whether a model is to be trained by the calibrator."""
    return hasattr(predictor, "fit")


def check_predictor(predictor: Any) -> Any:
    """Refuses objects that cannot give thresholds."""
    if predictor is not None and not is_model(predictor):
        raise TypeError(
            "predictor must be None, an object with fit(P, y, alpha=, images=) and predict(P, images=), or a function "
            f"f(P, images) that is trained already, got {shown(predictor)}"
        )
    if callable(getattr(predictor, "predict", None)) and can_fit(predictor):
        parameters = inspect.signature(predictor.fit).parameters.values()
        names = {each.name for each in parameters}
        if not {"alpha", "images"} <= names and all(each.kind != each.VAR_KEYWORD for each in parameters):
            raise TypeError(
                f"predictor.fit must take (P, y, alpha=, images=), but that of {type(predictor).__name__} takes "
                f"{sorted(names)}: wrap it in a class that makes features of P"
            )
    return predictor


def check_embedding(embedding: Any) -> Any:
    """Refuses objects that cannot give features."""
    if embedding is not None and (isinstance(embedding, type) or not callable(embedding)):
        raise TypeError(
            "embedding must be None or a function f(P, images) that gives features (n, F), trained on other images, "
            f"got {shown(embedding)}"
        )
    return embedding


def features_of(embedding: Any, P: Any, images: Any, first: int) -> NDArray[np.float64]:
    """Features of images (n, F), the first of which is number `first`; refuses results that are no features."""
    if embedding is None:
        return _core.binary_descriptions(P, first)

    def ask(P: Any, images: Any) -> NDArray[Any]:
        return plain_array(embedding(P, images))

    found = ask(P, images)
    if found.dtype.kind not in "fiu" or found.ndim != 2 or len(found) != len(P):
        raise ValueError(
            f"embedding must give features of {plural(len(P), 'image')}, an array of floats of shape ({len(P)}, F), "
            f"got {found.dtype} of shape {found.shape}"
        )
    features: NDArray[np.float64] = found.astype(np.float64)
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise ValueError(
            f"embedding must give finite numbers, but does not for image {first + int(bad.argmax())}"
        )
    if first == 0:
        largest = float(abs(features).max(initial=0)) or 1.0
        check_alone(ask, P, images, features, "embedding must give features of each image by itself", largest)
    return features


def thresholds_of(predictor: Any, P: Any, images: Any, first: int) -> NDArray[np.float64]:
    """Thresholds by the caller's own model, for images whose first is number `first`; refuses other results."""
    return numbers_of(predictor, P, images, first, "predictor must give", "threshold", 1.0)
