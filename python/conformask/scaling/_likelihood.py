"""The mean log loss of a linear map of pixels' features, and the map that minimises it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import optimize

from conformask import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.scaling._pixels import Pixels

__all__ = ["Likelihood", "Penalty", "minimise", "parts_of"]

# Numbers of a part, at least: sums of parts are formed apart, by any number of threads, and joined in order.
_PART = 1 << 15
_MOST_PARTS = 64
# Numbers of the Hessians of all parts.
_MOST_CELLS = 1 << 22
_MOST_STEPS = 200
# A map is found on one of so many pixels first, if these are enough of them: from there few steps are left.
_THINNED, _ENOUGH = 16, 8192
# How much larger slopes may be there.
_ROUGH = 1e3


def parts_of(features: NDArray[np.float64], most: int = _MOST_PARTS) -> NDArray[np.uintp]:
    """Where the parts of pixels (K, N) end."""
    n_parts = max(1, min(features.size // _PART, _MOST_PARTS, most))
    return np.linspace(0, features.shape[1], n_parts + 1)[1:].astype(np.uintp)


class Likelihood:
    """Mean log loss of ``softmax(W u + b)`` as a function of W (one number, K, or K x K) and b (K numbers, or none)."""

    def __init__(self, pixels: Pixels, n_weights: int, n_biases: int) -> None:
        self._pixels, self._n_weights, self._n_biases = pixels, n_weights, n_biases
        self._parts = parts_of(pixels.features)

    @property
    def is_diagonal(self) -> bool:
        """Whether W has K numbers, and b too: the Hessian is then small."""
        return self._n_weights == self._n_biases

    def thinned(self) -> Likelihood | None:
        """That of every so many-th pixel; None if these are too few."""
        pixels = self._pixels
        if len(pixels.labels) < _THINNED * _ENOUGH:
            return None
        weights = np.ascontiguousarray(pixels.weights[::_THINNED])
        fewer = pixels._replace(
            features=np.ascontiguousarray(pixels.features[:, ::_THINNED]),
            labels=np.ascontiguousarray(pixels.labels[::_THINNED]),
            weights=weights / weights.sum(),
        )
        return Likelihood(fewer, self._n_weights, self._n_biases)

    def _split(self, parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return parameters[: self._n_weights], parameters[self._n_weights :]

    def _sums(self, parameters: NDArray[np.float64], ends: NDArray[np.uintp]) -> NDArray[np.float64]:
        pixels = self._pixels
        return _core.log_loss_gradients(
            pixels.features, pixels.labels, pixels.weights, ends, *self._split(parameters)
        )

    def gradient(self, parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The loss and its gradient."""
        sums = self._sums(parameters, self._parts).sum(axis=0)
        return float(sums[0]), sums[1:]

    def gradients_of_units(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each image (group) adds to the gradient, (n, P)."""
        return self._sums(parameters, self._pixels.ends)[:, 1:]

    def hessian(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """The Hessian of a map with K weights and K biases."""
        pixels = self._pixels
        parts = parts_of(pixels.features, _MOST_CELLS // len(parameters) ** 2)
        sums = _core.log_loss_hessians(
            pixels.features, pixels.labels, pixels.weights, parts, *self._split(parameters)
        )
        hessian: NDArray[np.float64] = sums.sum(axis=0)
        return hessian

    def hessian_product(
        self, parameters: NDArray[np.float64], direction: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The Hessian times a direction."""
        pixels = self._pixels
        sums = _core.log_loss_hessian_products(
            *(pixels.features, pixels.labels, pixels.weights, self._parts),
            *self._split(parameters),
            *self._split(direction),
        )
        product: NDArray[np.float64] = sums.sum(axis=0)[1:]
        return product


class Penalty(NamedTuple):
    """``sum(weights * (parameters - centre) ** 2)``."""

    weights: NDArray[np.float64]
    centre: NDArray[np.float64]

    def gradient(self, parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Its value and its gradient."""
        apart = parameters - self.centre
        slopes = self.weights * apart
        return float(slopes @ apart), 2 * slopes

    def hessian_product(self, direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its Hessian times a direction."""
        return 2 * self.weights * direction


def minimise(
    likelihood: Likelihood, start: NDArray[np.float64], penalty: Penalty, tolerance: float = 1e-9
) -> NDArray[np.float64]:
    """The parameters of the least penalised loss, which is convex, by a Newton method with a trust region."""
    fewer = likelihood.thinned()
    if fewer is not None:
        start = minimise(fewer, start, penalty, _ROUGH * tolerance)

    def value(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        (loss, slopes), (extra, more) = likelihood.gradient(parameters), penalty.gradient(parameters)
        return loss + extra, slopes + more

    if likelihood.is_diagonal:
        curvature: dict[str, Any] = {
            "method": "trust-exact",
            "hess": lambda parameters: likelihood.hessian(parameters) + np.diag(2 * penalty.weights),
        }
    else:
        curvature = {
            "method": "trust-ncg",
            "hessp": lambda parameters, direction: (
                likelihood.hessian_product(parameters, direction) + penalty.hessian_product(direction)
            ),
        }
    options = {"gtol": tolerance, "maxiter": _MOST_STEPS}
    parameters: NDArray[np.float64] = optimize.minimize(
        value, start, jac=True, options=options, **curvature
    ).x
    return parameters
