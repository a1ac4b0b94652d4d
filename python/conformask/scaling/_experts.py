"""Maps of margins or gaps that are never negative, one for each most probable class: the experts."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import optimize

from conformask import _core
from conformask.scaling._likelihood import parts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.scaling._pixels import Pixels

__all__ = ["Experts", "Gaps", "Margins", "Ridge"]

_TOLERANCES = {"ftol": 1e-13, "gtol": 1e-9, "maxiter": 1000, "maxcor": 20}


class Ridge(NamedTuple):
    """The weights of squared deviations, relative to the mean loss."""

    intercept: float
    diagonal: float
    off_diagonal: float

    def weights(self, width: int) -> NDArray[np.float64]:
        """The weight for each number of B (row by row) and mu."""
        eye = np.eye(width)
        matrix = self.diagonal * eye + self.off_diagonal * (1 - eye)
        return np.append(matrix, np.full(width, self.intercept))


class _Pixels(NamedTuple):
    """The pixels of one expert."""

    features: NDArray[np.float64]  # (K, N)
    labels: NDArray[np.uint16]
    weights: NDArray[np.float64]
    parts: NDArray[np.uintp]


class Experts:
    """The mean log loss of maps ``B x + mu`` of margins or gaps x, whose numbers are at least 0.

    The loss of such a map is that of a linear map ``W u + b`` of rearranged features, whose gradient goes back to B and
    mu by the chain rule.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.n_classes = len(pixels.features)
        top = pixels.features.argmax(axis=0)  # of equal classes the lowest
        self._pixels = []
        for expert in range(self.n_classes):
            own = np.flatnonzero(top == expert)
            features, labels = self._rearranged(pixels.features[:, own], pixels.labels[own], expert)
            rows = np.ascontiguousarray(features)
            self._pixels.append(_Pixels(rows, labels.astype(np.uint16), pixels.weights[own], parts_of(rows)))

    @property
    @abstractmethod
    def width(self) -> int:
        """The number of rows, and of columns, of B."""

    @abstractmethod
    def _rearranged(
        self, features: NDArray[np.float64], labels: NDArray[np.uint16], expert: int
    ) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
        """The features that the linear map takes, and the labels among them."""

    @abstractmethod
    def _linear(
        self, matrix: NDArray[np.float64], shift: NDArray[np.float64], expert: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """W and b for B and mu."""

    @abstractmethod
    def _back(
        self, weight: NDArray[np.float64], bias: NDArray[np.float64], expert: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The gradient by B and mu, from the gradient by W and b: the transpose of :meth:`_linear`."""

    def _loss(self, parameters: NDArray[np.float64], experts: range) -> tuple[float, NDArray[np.float64]]:
        """The contribution of some experts to the loss, all with the same map, and its gradient."""
        k, cut = self.n_classes, self.width**2
        loss, slopes = 0.0, np.zeros(len(parameters))
        matrix = parameters[:cut].reshape(self.width, self.width)
        for expert in experts:
            features, labels, weights, parts = self._pixels[expert]
            if len(labels):
                weight, bias = self._linear(matrix, parameters[cut:], expert)
                sums = _core.log_loss_gradients(features, labels, weights, parts, weight.ravel(), bias).sum(
                    axis=0
                )
                loss += float(sums[0])
                back = self._back(sums[1 : 1 + k * k].reshape(k, k), sums[1 + k * k :], expert)
                slopes += np.concatenate([each.ravel() for each in back])
        return loss, slopes

    def _curvature(self, expert: int, factor: float) -> NDArray[np.float64]:
        """The diagonal of the Hessian at B = factor times the identity, mu = 0."""
        features, _, weights, _ = self._pixels[expert]
        weight, bias = self._linear(factor * np.eye(self.width), np.zeros(self.width), expert)
        z = weight @ features + bias[:, np.newaxis]
        p = np.exp(z - z.max(axis=0, initial=-np.inf))
        p /= p.sum(axis=0)
        shares = self._moved(p)
        spread = weights * shares * (1 - shares)
        x = features[: self.width]
        return np.append(spread @ (x * x).T, spread.sum(axis=1))

    @abstractmethod
    def _moved(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability that changes with each row of B."""

    def fit(
        self, factor: float, ridge: Ridge, *, tied: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """B (K, w, w) and mu (K, w) of all experts, and the loss.

        First, one map is fitted to all pixels, with a ridge towards the identity times `factor`. Then each expert's map
        is fitted, with a ridge towards the first. If `tied`, all have the off-diagonal of the first.
        """
        width, experts = self.width, range(self.n_classes)
        weights = ridge.weights(width)
        identity = np.append(factor * np.eye(width), np.zeros(width))
        curvatures = [self._curvature(expert, factor) for expert in experts]
        everything = np.ones(len(identity), bool)
        pooled = self._minimise(identity, experts, weights, np.sum(curvatures, axis=0), everything)
        free = np.append(np.eye(width, dtype=bool), np.ones(width, bool)) if tied else everything
        found = [
            self._minimise(pooled, range(expert, expert + 1), weights, curvatures[expert], free)
            if len(self._pixels[expert].labels)
            else pooled
            for expert in experts
        ]
        loss = sum(self._loss(each, range(c, c + 1))[0] for c, each in enumerate(found))
        matrices, shifts = np.split(np.stack(found), [width**2], axis=1)
        return matrices.reshape(-1, width, width), shifts, loss

    def _minimise(
        self,
        centre: NDArray[np.float64],
        experts: range,
        weights: NDArray[np.float64],
        curvature: NDArray[np.float64],
        free: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """The map with the least penalised loss for some experts; numbers that are not free are those of the centre."""
        # The numbers are scaled so that all of them change the loss alike.
        bends = (curvature + 2 * weights)[free]
        scale = 1 / np.sqrt(np.maximum(bends, np.finfo(float).tiny + 1e-12 * bends.max()))

        def at(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
            parameters = centre.copy()
            parameters[free] = scaled * scale
            return parameters

        def value(scaled: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            parameters = at(scaled)
            loss, slopes = self._loss(parameters, experts)
            apart = weights * (parameters - centre)
            total = loss + float(apart @ (parameters - centre))
            return total, (slopes + 2 * apart)[free] * scale

        found = optimize.minimize(
            value,
            centre[free] / scale,
            jac=True,
            method="L-BFGS-B",
            bounds=optimize.Bounds(0, np.inf),
            options=_TOLERANCES,
        )
        return at(np.maximum(found.x, 0))


class Margins(Experts):
    """Margins of the most probable class over each other class."""

    @property
    def width(self) -> int:
        """K: there is a row for each class; the row and column of the expert's own class are not used."""
        return self.n_classes

    def _rearranged(
        self, features: NDArray[np.float64], labels: NDArray[np.uint16], expert: int
    ) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
        return features[expert] - features, labels

    def _linear(
        self, matrix: NDArray[np.float64], shift: NDArray[np.float64], expert: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weight, bias = -matrix, -shift
        weight[expert], bias[expert] = 0, 0
        return weight, bias

    def _back(
        self, weight: NDArray[np.float64], bias: NDArray[np.float64], expert: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._linear(weight, bias, expert)

    def _moved(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        return p

    def fit(
        self, factor: float, ridge: Ridge, *, tied: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """As for all experts; the numbers for an expert's own class, whose margin is 0, are set to 0."""
        matrices, shifts, loss = super().fit(factor, ridge, tied=tied)
        own = np.arange(self.n_classes)
        matrices[own, own, :] = matrices[own, :, own] = shifts[own, own] = 0
        return matrices, shifts, loss


class Gaps(Experts):
    """Gaps between a rank and the next."""

    @property
    def width(self) -> int:
        """One less than there are ranks."""
        return self.n_classes - 1

    def _rearranged(
        self, features: NDArray[np.float64], labels: NDArray[np.uint16], expert: int
    ) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
        order = np.argsort(-features, axis=0, kind="stable")
        falling = np.take_along_axis(features, order, axis=0)
        gaps = np.zeros_like(falling)
        gaps[:-1] = falling[:-1] - falling[1:]
        return gaps, np.argmax(order == labels, axis=0)

    def _linear(
        self, matrix: NDArray[np.float64], shift: NDArray[np.float64], expert: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weight, bias = np.zeros((self.n_classes, self.n_classes)), np.zeros(self.n_classes)
        weight[1:, :-1], bias[1:] = -np.cumsum(matrix, axis=0), -np.cumsum(shift)
        return weight, bias

    def _back(
        self, weight: NDArray[np.float64], bias: NDArray[np.float64], expert: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # A change of a gap shifts all ranks after it.
        return -np.cumsum(weight[:0:-1, :-1], axis=0)[::-1], -np.cumsum(bias[:0:-1])[::-1]

    def _moved(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.cumsum(p[:0:-1], axis=0)[::-1]
