"""The mean log loss of a linear map of pixels' features, and the map that minimises it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import optimize

from conformask import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.scaling._pixels import Pixels

__all__ = ["Likelihood", "Penalty", "minimise"]

# Parts whose sums are formed apart, by any number of threads, and joined in order.
_PARTS = 64
_MOST_STEPS = 200


class Likelihood:
    """Mean log loss of ``softmax(W u + b)`` as a function of W (one number, K, or K x K) and b (K numbers, or none)."""

    def __init__(self, pixels: Pixels, n_weights: int, n_biases: int) -> None:
        self._pixels, self._n_weights, self._n_biases = pixels, n_weights, n_biases
        n = len(pixels.labels)
        self._parts = np.linspace(0, n, min(_PARTS, n) + 1)[1:].astype(np.uintp)

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
    likelihood: Likelihood,
    start: NDArray[np.float64],
    penalty: Penalty,
    tolerance: float = 1e-9,
    callback: Callable[[object], None] | None = None,
) -> NDArray[np.float64]:
    """The parameters of the least penalised loss, which is convex, by a Newton method with a trust region."""

    def value(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        (loss, slopes), (extra, more) = likelihood.gradient(parameters), penalty.gradient(parameters)
        return loss + extra, slopes + more

    found = optimize.minimize(
        value,
        start,
        jac=True,
        hessp=lambda parameters, direction: (
            likelihood.hessian_product(parameters, direction) + penalty.hessian_product(direction)
        ),
        method="trust-ncg",
        callback=callback,
        options={"gtol": tolerance, "maxiter": _MOST_STEPS},
    )
    parameters: NDArray[np.float64] = found.x
    return parameters
