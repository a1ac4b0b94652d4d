"""A classifier, as plain arrays, that says whether the most probable class of a pixel is right."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import special
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["layer_shapes", "probabilities_of_right", "train"]

_MOST_STEPS = 200
# A small classifier needs no more pixels.
_MOST_PIXELS = 1 << 17
# So many pixels fit in the cache.
_BLOCK = 1 << 13


def layer_shapes(n_features: int, hidden: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The names of the arrays of a classifier, and their shapes."""
    widths = [n_features, *hidden, 1]
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        shapes |= {f"weights_{i}": (n_out, n_in), f"bias_{i}": (n_out,)}
    return shapes


def train(
    features: NDArray[np.float32], right: NDArray[np.bool_], hidden: Sequence[int], seed: int
) -> dict[str, NDArray[np.float64]]:
    """A classifier trained on pixels (F, N): logistic regression without hidden layers, else a perceptron."""
    step = -(-len(right) // _MOST_PIXELS)
    given, right = features[:, ::step].T.astype(np.float64), right[::step]
    n_right = int(right.sum())
    if n_right in (0, len(right)):  # nothing to tell apart
        arrays = {name: np.zeros(shape) for name, shape in layer_shapes(len(features), hidden).items()}
        arrays[f"bias_{len(hidden)}"] += np.log((n_right + 0.5) / (len(right) - n_right + 0.5))
        return arrays
    mean, spread = given.mean(axis=0), given.std(axis=0)
    spread = np.where(spread > 1e-9 * (1 + abs(mean)), spread, 1.0)
    standardised = (given - mean) / spread
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is fixed on purpose
        if hidden:
            model = MLPClassifier(
                tuple(hidden), solver="lbfgs", max_iter=_MOST_STEPS, random_state=seed % 2**32
            ).fit(standardised, right)
            layers = [
                (weights.T, bias) for weights, bias in zip(model.coefs_, model.intercepts_, strict=True)
            ]
        else:
            model = LogisticRegression(max_iter=_MOST_STEPS).fit(standardised, right)
            layers = [(model.coef_, model.intercept_)]
    weights, bias = layers[0]
    layers[0] = weights / spread, bias - weights @ (mean / spread)
    return {
        name: np.asarray(array, np.float64)
        for i, (weights, bias) in enumerate(layers)
        for name, array in ((f"weights_{i}", weights), (f"bias_{i}", bias))
    }


def probabilities_of_right(
    arrays: Mapping[str, NDArray[np.float64]], features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The classifier's probabilities for pixels with features (F, ...)."""
    flat = features.reshape(len(features), -1)
    out = np.empty(flat.shape[1], np.float32)
    for first in range(0, len(out), _BLOCK):
        values = list(flat[:, first : first + _BLOCK].astype(np.float64))
        n_layers = len(arrays) // 2
        for i in range(n_layers):
            values = _layer(arrays[f"weights_{i}"], arrays[f"bias_{i}"], values)
            if i < n_layers - 1:
                values = [np.maximum(each, 0) for each in values]
        out[first : first + _BLOCK] = special.expit(values[0])
    return out.reshape(features.shape[1:])


def _layer(
    weights: NDArray[np.float64], bias: NDArray[np.float64], values: list[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """Adds one product after another. The bits of a library's matrix product would depend on the number of pixels."""
    found = []
    for row, shift in zip(weights, bias, strict=True):
        total = np.full(values[0].shape, shift)
        for weight, value in zip(row, values, strict=True):
            total += weight * value
        found.append(total)
    return found
