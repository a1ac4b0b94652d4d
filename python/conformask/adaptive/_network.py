"""A small network from features of a map of probabilities to a threshold, trained by SciPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import optimize, special

from conformask._blas import one_blas_thread
from conformask.adaptive._saved import arrays_from_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float64]

__all__ = ["Network", "TrainingLoss", "train"]

# A function of thresholds (m,) and the indices of their images: losses, and their derivatives by the thresholds.
TrainingLoss: TypeAlias = "Callable[[Array, NDArray[np.intp]], tuple[Array, Array]]"

_HIDDEN = 16
_MOST_STEPS = 300
_LOOKED_AT = 0.2  # share of the images that are held out, to choose the best step
_FEW = 10  # fewer images are all trained on
_FARTHEST = 5.0  # features are clipped at so many standard deviations
_END = 0.001  # the first threshold has at least this distance from 0 and 1


@dataclass(frozen=True, eq=False)
class Network:
    r"""A threshold :math:`\sigma(w_2 \tanh(W_1 z + b_1) + b_2)` of standardised features z."""

    mean: Array  # (F,)
    scale: Array  # (F,)
    weights: Array  # all of W1 (F, 16), b1, w2, b2

    def predict(self, features: Array) -> Array:
        """Thresholds (n,) in [0, 1] of features (n, F)."""
        return _forward(self.weights, self.standardised(features), _product)[1]

    def standardised(self, features: Array) -> Array:
        """Standardised features, clipped."""
        z: Array = np.clip((features - self.mean) / self.scale, -_FARTHEST, _FARTHEST)
        return z

    def to_json(self) -> dict[str, list[float]]:
        """The content for a file."""
        return {name: getattr(self, name).tolist() for name in ("mean", "scale", "weights")}

    @classmethod
    def from_json(cls, document: dict[str, Any], n_features: int) -> Network:
        """The inverse; refuses anything but a network of so many features."""
        sizes = {"mean": n_features, "scale": n_features, "weights": _n_weights(n_features)}
        arrays = arrays_from_json(document, sizes)
        if not (arrays["scale"] > 0).all():
            raise ValueError("scale of the predictor is not above 0")
        return cls(**arrays)


def train(
    features: Array,
    loss: TrainingLoss,
    start: float,
    ridge: float,
    seed: int,
    groups: Sequence[int | str] | None = None,
) -> Network:
    """The network of the least mean loss. Training starts with one threshold, `start`, for all images.

    A fifth of the images (groups) is held out. The result is the step of L-BFGS with the least loss on these.
    """
    n, n_features = features.shape
    rng = np.random.default_rng(seed)
    # Groups are numbered by their first images, so that groups of one image each are drawn like images.
    number = {name: i for i, name in enumerate(dict.fromkeys(range(n) if groups is None else groups))}
    units = np.array([number[name] for name in (range(n) if groups is None else groups)])
    order = rng.permutation(len(number))
    n_looked_at = int(_LOOKED_AT * len(order)) if len(order) >= _FEW else 0
    is_looked_at = np.isin(units, order[:n_looked_at])
    looked_at, trained_on = np.flatnonzero(is_looked_at), np.flatnonzero(~is_looked_at)
    mean, scale = features[trained_on].mean(axis=0), features[trained_on].std(axis=0)
    scale[~(scale > 1e-9)] = 1.0
    weights = np.zeros(_n_weights(n_features))
    hidden, _, last, _ = _layers(weights, n_features)
    hidden[:] = rng.normal(0, n_features**-0.5, hidden.shape)
    last[:] = rng.normal(0, 0.1 * _HIDDEN**-0.5, last.shape)
    weights[-1] = special.logit(np.clip(start, _END, 1 - _END))
    z = Network(mean, scale, weights).standardised(features)

    def value(weights: Array) -> tuple[float, Array]:
        found, slopes = _backward(weights, z[trained_on], lambda u: loss(u, trained_on))
        is_ridged = _is_weight(n_features)
        return found + ridge * float(weights[is_ridged] @ weights[is_ridged]), (
            slopes + 2 * ridge * weights * is_ridged
        )

    def of_others(weights: Array) -> float:
        return float(loss(_forward(weights, z[looked_at])[1], looked_at)[0].mean())

    best, least = weights, of_others(weights) if n_looked_at else np.inf

    def look(weights: Array) -> None:
        nonlocal best, least
        found = of_others(weights) if n_looked_at else -np.inf
        if found < least or not n_looked_at:
            best, least = weights.copy(), found

    with one_blas_thread():
        optimize.minimize(
            value, weights, jac=True, method="L-BFGS-B", callback=look, options={"maxiter": _MOST_STEPS}
        )
    return Network(mean, scale, best)


def _n_weights(n_features: int) -> int:
    return (n_features + 2) * _HIDDEN + 1


def _layers(weights: Array, n_features: int) -> tuple[Array, Array, Array, Array]:
    """Views of W1 (F, 16), b1 (16,), w2 (16,) and b2 (1,)."""
    first, bias, last, end = np.split(weights, np.cumsum([n_features * _HIDDEN, _HIDDEN, _HIDDEN]))
    return first.reshape(n_features, _HIDDEN), bias, last, end


def _is_weight(n_features: int) -> NDArray[np.bool_]:
    """Which numbers are weights, and not biases."""
    marks = np.ones(_n_weights(n_features))
    _, bias, _, end = _layers(marks, n_features)
    bias[:] = end[:] = 0
    return marks > 0


def _forward(
    weights: Array, z: Array, product: Callable[[Array, Array], Array] = np.matmul
) -> tuple[Array, Array]:
    """The hidden layer (n, 16) and the thresholds (n,)."""
    first, bias, last, end = _layers(weights, z.shape[1])
    hidden = np.tanh(product(z, first) + bias)
    return hidden, special.expit(product(hidden, last[:, np.newaxis])[:, 0] + end)


def _product(rows: Array, matrix: Array) -> Array:
    """``rows @ matrix`` with one order of sums. BLAS may give a row other bits alone than among other rows."""
    product = np.zeros((len(rows), matrix.shape[1]))
    for column, weights in zip(rows.T, matrix, strict=True):
        product += column[:, np.newaxis] * weights
    return product


def _backward(weights: Array, z: Array, loss: Callable[[Array], tuple[Array, Array]]) -> tuple[float, Array]:
    """The mean loss and its gradient."""
    _, _, last, _ = _layers(weights, z.shape[1])
    hidden, thresholds = _forward(weights, z)
    values, slopes = loss(thresholds)
    of_end = slopes * thresholds * (1 - thresholds) / len(z)
    of_hidden = of_end[:, np.newaxis] * last * (1 - hidden**2)
    parts = [(z.T @ of_hidden).ravel(), of_hidden.sum(axis=0), hidden.T @ of_end, [of_end.sum()]]
    return float(values.mean()), np.concatenate(parts)
