"""Models of thresholds: what a calibrator takes, the light one that it trains itself, and what they must answer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._arrays import score_array
from conformask._text import plural, shown
from conformask.adaptive._network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Images", "LightPredictor", "can_fit", "check_predictor", "same", "thresholds_of"]

# Numbers of a description.
_N_FEATURES = 9


@dataclass(frozen=True, eq=False)
class LightPredictor:
    """A small network over nine numbers that describe a map of probabilities; it needs no images.

    The numbers are the log-odds at which masks begin that hold 50, 70, 80, 90, 95, 98 and 99 % of the summed
    probability, the mean entropy and the logarithm of the summed probability.
    """

    network: Network

    def predict(self, P: Any, images: Any = None) -> NDArray[np.float64]:
        """Thresholds of images.

        Parameters
        ----------
        P : array (n, H, W) or (n, D, H, W)
            Probability of the foreground.
        images
            Ignored.

        Returns
        -------
        float64 array (n,) in [0, 1]
        """
        return self.network.predict(_core.binary_descriptions(score_array(P, "", "P"), 0))

    def to_json(self) -> dict[str, Any]:
        """What a file holds of it."""
        return self.network.to_json()

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> LightPredictor:
        """The inverse; refuses what is none."""
        return cls(Network.from_json(document, _N_FEATURES))


def can_fit(predictor: object) -> bool:
    """Whether a model is one that is trained here."""
    return hasattr(predictor, "fit")


def check_predictor(predictor: Any) -> Any:
    """Refuses what gives no thresholds."""
    has_predict = callable(getattr(predictor, "predict", None))
    if predictor is not None and (isinstance(predictor, type) or not (has_predict or callable(predictor))):
        raise TypeError(
            "predictor must be None, an object with fit(P, y, alpha=, images=) and predict(P, images=), or a function "
            f"f(P, images) that is trained already, got {shown(predictor)}"
        )
    if predictor is not None and has_predict and can_fit(predictor):
        parameters = inspect.signature(predictor.fit).parameters.values()
        names = {each.name for each in parameters}
        if not {"alpha", "images"} <= names and all(each.kind != each.VAR_KEYWORD for each in parameters):
            raise TypeError(
                f"predictor.fit must take (P, y, alpha=, images=), but that of {type(predictor).__name__} takes "
                f"{sorted(names)}: wrap it in a class that makes features of P"
            )
    return predictor


def thresholds_of(predictor: Any, P: Any, images: Any, first: int) -> NDArray[np.float64]:
    """What a model says of images, the first of which has the number `first`; refuses what are no thresholds."""
    if isinstance(predictor, LightPredictor):
        return predictor.network.predict(_core.binary_descriptions(P, first))
    given = predictor.predict(P, images=images) if hasattr(predictor, "predict") else predictor(P, images)
    if hasattr(given, "detach"):  # a tensor
        given = given.detach().cpu()
    found = np.asarray(given)
    if found.dtype.kind not in "fiu" or found.shape != (len(P),):
        raise ValueError(
            f"predictor must give a threshold for each of {plural(len(P), 'image')}, an array of floats of shape "
            f"({len(P)},), got {found.dtype} of shape {found.shape}"
        )
    thresholds: NDArray[np.float64] = found.astype(np.float64)
    bad = ~((thresholds >= 0) & (thresholds <= 1))
    if bad.any():
        i = int(bad.argmax())
        raise ValueError(
            f"predictor must give thresholds in [0, 1], got {thresholds[i]:g} for image {first + i}"
        )
    return thresholds


def same(one: Any, other: Any) -> bool:
    """Whether two models give the same thresholds, as far as one can know."""
    if isinstance(one, LightPredictor) and isinstance(other, LightPredictor):
        return one.to_json() == other.to_json()
    return one is other or bool(one == other)


class Images:
    """What belongs to probabilities, such as photographs, handed out in the order in which those come."""

    def __init__(self, images: Any) -> None:
        self._images = images
        is_sequence = hasattr(images, "__getitem__") and hasattr(images, "__len__")
        self._rest: Iterator[Any] | None = None if images is None or is_sequence else iter(images)
        self._n = 0

    def next(self, n: int) -> Any:
        """Those of the next n maps; None without images."""
        if self._images is None:
            return None
        first, self._n = self._n, self._n + n
        found = list(islice(self._rest, n)) if self._rest is not None else self._images[first : self._n]
        if len(found) < n:
            raise ValueError(f"images has {plural(first + len(found), 'image')}, P has more")
        return found

    def check_end(self) -> None:
        """Refuses images that are left."""
        if self._images is None:
            return
        is_left = (
            next(self._rest, self) is not self if self._rest is not None else len(self._images) > self._n
        )
        if is_left:
            raise ValueError(f"P has {plural(self._n, 'image')}, images has more")
