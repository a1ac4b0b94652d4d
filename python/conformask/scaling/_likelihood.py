"""The mean log loss of a linear map of pixels' features, and the map that minimises it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import linalg, optimize

from conformask import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.scaling._pixels import Pixels

__all__ = ["Likelihood", "Penalty", "minimise", "parts_of", "standard_errors"]

# The least numbers of a part. Parts are summed separately, by any number of threads, and joined in order.
_PART = 1 << 15
_MOST_PARTS = 64
# The most numbers in the Hessians of all parts.
_MOST_CELLS = 1 << 22
_MOST_STEPS = 200
# The factor by which slopes may be larger in a first fit on fewer pixels.
_ROUGH = 1e6
# Once slopes are below this, in coordinates in which that fit's Hessian is the identity, the Hessian is computed again.
_NEAR = 5e-3
# The most steps with one Hessian.
_MOST_NEAR_STEPS = 30


def parts_of(features: NDArray[np.float64], most: int = _MOST_PARTS) -> NDArray[np.uintp]:
    """The ends of the parts of pixels (K, N)."""
    n_parts = max(1, min(features.size // _PART, _MOST_PARTS, most))
    return np.linspace(0, features.shape[1], n_parts + 1)[1:].astype(np.uintp)


def standard_errors(gradients: NDArray[np.float64], hessian: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard errors of P parameters from the gradients of n images or groups (P, n): the sandwich, times n / (n - 1).

    They are infinite if there are no more images than parameters, because their variance is then unknown.
    """
    n_parameters, n = gradients.shape
    if n <= n_parameters:
        return np.full(n_parameters, np.inf)
    inverse = np.linalg.pinv(hessian, hermitian=True)
    variances = n / (n - 1) * np.diag(inverse @ (gradients @ gradients.T) @ inverse)
    errors: NDArray[np.float64] = np.sqrt(np.maximum(variances, 0.0))
    return errors


class Likelihood:
    """Mean log loss of ``softmax(W u + b)`` as a function of W (K numbers, or K x K) and b (K numbers)."""

    def __init__(self, pixels: Pixels, n_weights: int) -> None:
        self.pixels, self._n_weights = pixels, n_weights
        self._parts = parts_of(pixels.features)
        # The last parameters with the result: a solver starts at the point where another one has just ended.
        self._last: tuple[bytes, tuple[float, NDArray[np.float64]]] | None = None
        self._last_hessian: tuple[bytes, NDArray[np.float64]] | None = None

    @property
    def is_diagonal(self) -> bool:
        """Whether W has K numbers: the Hessian is then small."""
        return self._n_weights == len(self.pixels.features)

    @cached_property
    def thinned(self) -> Likelihood | None:
        """The likelihood of fewer pixels; None if these are too few."""
        fewer = self.pixels.fewer
        return None if fewer is None else Likelihood(fewer, self._n_weights)

    def _split(self, parameters: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return parameters[: self._n_weights], parameters[self._n_weights :]

    def _sums(self, parameters: NDArray[np.float64], ends: NDArray[np.uintp]) -> NDArray[np.float64]:
        pixels = self.pixels
        return _core.log_loss_gradients(
            pixels.features, pixels.labels, pixels.weights, ends, *self._split(parameters)
        )

    def gradient(self, parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The loss and its gradient."""
        key = parameters.tobytes()
        if self._last is None or self._last[0] != key:
            sums = self._sums(parameters, self._parts).sum(axis=0)
            self._last = key, (float(sums[0]), sums[1:])
        loss, slopes = self._last[1]
        return loss, slopes.copy()

    def before(self, identity: NDArray[np.float64]) -> float:
        """The loss of the parameters that do not change probabilities."""
        return self.pixels.own_loss() if self.pixels.is_centred else self.gradient(identity)[0]

    def gradients_of_units(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """The contribution of each image (group) to the gradient, (n, P)."""
        return self._sums(parameters, self.pixels.ends)[:, 1:]

    def hessian(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """The Hessian of a map with K weights and K biases."""
        key = parameters.tobytes()
        if self._last_hessian is None or self._last_hessian[0] != key:
            pixels = self.pixels
            parts = parts_of(pixels.features, _MOST_CELLS // len(parameters) ** 2)
            sums = _core.log_loss_hessians(
                pixels.features, pixels.labels, pixels.weights, parts, *self._split(parameters)
            )
            self._last_hessian = key, sums.sum(axis=0)
        return self._last_hessian[1].copy()

    def hessian_product(
        self, parameters: NDArray[np.float64], direction: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The Hessian times a direction."""
        pixels = self.pixels
        sums = _core.log_loss_hessian_products(
            *(pixels.features, pixels.labels, pixels.weights, self._parts),
            *self._split(parameters),
            *self._split(direction),
        )
        product: NDArray[np.float64] = sums.sum(axis=0)
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
    fewer = likelihood.thinned
    if fewer is not None:
        start = minimise(fewer, start, penalty, _ROUGH * tolerance)
        if likelihood.is_diagonal:
            # The Hessian is computed again once it hardly changes any more.
            for near in (_NEAR, tolerance):
                found = _minimum_near(start, likelihood, fewer, penalty, near)
                if found is None:
                    break
                start = found
            else:
                return start

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


def _minimum_near(
    start: NDArray[np.float64], likelihood: Likelihood, fewer: Likelihood, penalty: Penalty, tolerance: float
) -> NDArray[np.float64] | None:
    """The minimum by gradients alone, in coordinates in which the Hessian of fewer pixels is the identity."""
    try:
        root = linalg.cholesky(fewer.hessian(start) + np.diag(2 * penalty.weights), lower=True)
    except linalg.LinAlgError:  # without a penalty, there may be a direction in which nothing changes
        return None

    def moved(steps: NDArray[np.float64]) -> NDArray[np.float64]:
        shift: NDArray[np.float64] = linalg.solve_triangular(root, steps, lower=True, trans="T")
        return start + shift

    def slopes(steps: NDArray[np.float64]) -> NDArray[np.float64]:
        parameters = moved(steps)
        given = likelihood.gradient(parameters)[1] + penalty.gradient(parameters)[1]
        found: NDArray[np.float64] = linalg.solve_triangular(root, given, lower=True)
        return found

    options = {"fatol": tolerance, "maxiter": _MOST_NEAR_STEPS, "jac_options": {"alpha": -1.0}}
    found = optimize.root(slopes, np.zeros_like(start), method="broyden1", options=options)
    return moved(found.x) if found.success else None
