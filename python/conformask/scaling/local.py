"""Local temperature scaling: a temperature that depends on a pixel and its surroundings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import optimize

from conformask._calibrator import Parameter
from conformask.scaling._features import AGREEMENT, DISTANCE, ENTROPY, MARGIN, MEAN_ENTROPY, NAMES
from conformask.scaling._fitted import Told, is_flag, is_positive
from conformask.scaling._likelihood import standard_errors
from conformask.scaling._scaler import PARAMETERS, Configuration, penalty_weight
from conformask.scaling._temperature import MOST, best_temperature, tempered_losses
from conformask.scaling._tempered import Tempered, TemperedScaler, tempered_solution

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes
    from conformask.scaling._pixels import Pixels, PixelSample

__all__ = ["LocalTemperatureScaler"]

_FEATURES = (ENTROPY, MARGIN, AGREEMENT, DISTANCE, MEAN_ENTROPY)
_ENTROPIES = (ENTROPY, MEAN_ENTROPY)
_MOST = math.log(MOST)
_MOST_STEPS = 200


@dataclass(frozen=True)
class _Configuration(Configuration):
    ridge: float


class LocalTemperatureScaler(TemperedScaler):
    r"""Gives each pixel a temperature that depends on the confidence of the model at and around the pixel.

    :math:`p = \mathrm{softmax}(z / T)` with :math:`\log T = \theta \cdot \varphi`, and six numbers :math:`\varphi` of a
    pixel, all within [0, 1]: a constant; the entropy of its softmax over :math:`\log K`; the margin between the two
    largest probabilities; the share of pixels in the 5 x 5 window around it that have its most probable class; the
    chessboard distance to the nearest pixel of another class, clipped at 8, over 8; and the mean entropy in the window
    over :math:`\log K`. Windows lie within the planes of a volume, and mirror the image at its borders. Void pixels are
    part of the surroundings: NaN there is refused, in a fit and with `transform=`. The most probable class of a pixel
    does not change.

    :math:`\theta` maximises the likelihood with a small penalty. The search begins at one temperature for all pixels,
    so that the fit to the drawn pixels is at least as good.

    Parameters
    ----------
    ridge : float of at least 0, default=0.001
        The penalty ``ridge / n * sum(theta[1:] ** 2)``, with n images (groups), added to the mean negative
        log-likelihood: it draws towards one temperature for all pixels.
    inputs, ignore_index, n_pixels, random_state, volumes, progress
        As for :class:`TemperatureScaler`.

    Attributes
    ----------
    theta_ : float64 array (6,)
        The weights :math:`\theta` of the features.
    standard_errors_ : float64 array (6,)
        The standard errors of :math:`\theta` over images (groups): the sandwich estimate from the Hessian and the
        squared gradients of each, times n / (n - 1). They are infinite if n is at most 6.
    feature_names_ : tuple of 6 strings
        The names of the features :math:`\varphi`.
    temperature_ : float
        The best single temperature for all pixels (highest likelihood), between 0.001 and 1000. The temperatures of
        pixels are in the same range.
    unbounded_ : bool
        Whether the likelihood still rises at the end of the range of `temperature_` (see :class:`TemperatureScaler`).
    nll_ : float
        Mean negative log-likelihood of the drawn pixels, with the map.
    nll_before_ : float
        The same without the map.
    n_images_ : int
        Number of images with labelled pixels.
    n_skipped_ : int
        Number of images that were left out because they have no labelled pixel.
    n_classes_ : int
        The number of classes K.

    See Also
    --------
    TemperatureScaler : Finds one temperature for all pixels.
    SelectiveScaler : Finds two temperatures; a classifier chooses between them.

    Notes
    -----
    In the paper a convolutional network that also sees the image computes the temperatures. This light variant has six
    parameters, so that some tens of images are enough.

    If images have padding or nodata, fit with equal numbers there, ``np.where(valid[:, np.newaxis], X, 1 / K)``, where
    `valid` is True at pixels with data, and with void labels. With this scaler as `transform`, ``fit(X, y, valid=)``
    and ``predict(X, valid=)`` of :class:`~conformask.ConformalRiskCalibrator` treat images in the same way.

    References
    ----------
    Ding, Han, Liu, Niethammer, "Local Temperature Scaling for Probability Calibration", ICCV 2021, arXiv:2008.05105.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0, 2, (30, 3, 32, 32))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # labels drawn from the softmax
    >>> scaler = cm.LocalTemperatureScaler().fit(2.5 * logits, y)  # too confident, everywhere alike
    >>> round(scaler.temperature_, 1)
    2.5
    >>> bool((abs(scaler.theta_[1:]) < 4 * scaler.standard_errors_[1:]).all())
    True
    """

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = {"ridge": penalty_weight("ridge"), **PARAMETERS}
    _FORMAT = ("LocalTemperatureScaler", 1)
    _INFINITE = frozenset({"standard_errors"})
    _TOLD: ClassVar[Told] = {"temperature": is_positive, "unbounded": is_flag}

    def __init__(
        self,
        *,
        ridge: float = 1e-3,
        inputs: str = "logits",
        ignore_index: int | tuple[int, ...] | None = 255,
        n_pixels: int = 4096,
        random_state: int = 0,
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.ridge = ridge
        self.inputs = inputs
        self.ignore_index = ignore_index
        self.n_pixels = n_pixels
        self.random_state = random_state
        self.volumes = volumes
        self.progress = progress

    def _looks_around(self, configuration: Any) -> bool:
        return True

    @classmethod
    def _shapes(cls, configuration: Any, n_classes: int) -> Mapping[str, tuple[int, ...]]:
        return {"theta": (1 + len(_FEATURES),), "standard_errors": (1 + len(_FEATURES),)}

    def _find(self, kept: PixelSample, configuration: _Configuration) -> Tempered:
        pixels = kept.pixels(configuration.inputs, centred=True)
        shared = best_temperature(pixels)
        objective = _Objective(
            pixels, kept.features(), kept.n_classes, configuration.ridge / len(pixels.ends)
        )
        start = np.zeros(1 + len(_FEATURES))
        start[0] = -math.log(shared.inverse)
        found = optimize.minimize(
            objective.value,
            start,
            jac=True,
            hess=objective.hessian,
            method="trust-exact",
            options={"gtol": 1e-9, "maxiter": _MOST_STEPS},
        )
        arrays = {"theta": found.x, "standard_errors": objective.standard_errors(found.x)}
        before = float((pixels.weights * tempered_losses(pixels, np.ones(len(pixels.labels)))[:, 0]).sum())
        return tempered_solution(
            *(kept, configuration, objective.loss(found.x), before),
            more={"temperature": 1 / shared.inverse, "unbounded": shared.unbounded},
            arrays=arrays,
        )

    def _factors(
        self, configuration: _Configuration, fitted: Tempered, features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        exponents = _exponents(fitted.arrays["theta"], _seen(features, fitted.n_classes))
        return np.exp(-np.clip(exponents, -_MOST, _MOST)).astype(np.float32)

    @property
    def theta_(self) -> NDArray[np.float64]:
        """The weights of the features."""
        return self._array("theta")

    @property
    def standard_errors_(self) -> NDArray[np.float64]:
        """The standard errors of the weights."""
        return self._array("standard_errors")

    @property
    def feature_names_(self) -> tuple[str, ...]:
        """The names of the features."""
        self._current()
        return ("constant", *(NAMES[each] for each in _FEATURES))

    @property
    def temperature_(self) -> float:
        """The best single temperature for all pixels."""
        return float(self._told("temperature"))

    @property
    def unbounded_(self) -> bool:
        """Whether the temperature is at the end of its range."""
        return bool(self._told("unbounded"))


def _seen(features: NDArray[np.float32], n_classes: int) -> list[NDArray[np.float64]]:
    """The features that determine the temperature of a pixel, without the constant."""
    units = {each: math.log(n_classes) for each in _ENTROPIES}
    return [features[each].astype(np.float64) / units.get(each, 1.0) for each in _FEATURES]


def _exponents(theta: NDArray[np.float64], seen: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The logarithms of temperatures, one product after another: a library's bits would depend on their number."""
    total = np.full(seen[0].shape, theta[0])
    for weight, each in zip(theta[1:], seen, strict=True):
        total += weight * each
    return total


class _Objective:
    """The mean log loss as a function of theta, with its penalty."""

    def __init__(self, pixels: Pixels, features: NDArray[np.float32], n_classes: int, ridge: float) -> None:
        self._pixels, self._seen = pixels, _seen(features, n_classes)
        self._rows = np.stack([np.ones(len(pixels.labels)), *self._seen])
        self._penalty = np.array([0.0] + [ridge] * len(_FEATURES))

    def _derivatives(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """The weighted loss of each pixel, and its two derivatives by the logarithm of its temperature, (3, N)."""
        exponents = _exponents(theta, self._seen)
        inside = abs(exponents) < _MOST
        factors = np.exp(-np.clip(exponents, -_MOST, _MOST))
        losses, slopes, bends = tempered_losses(self._pixels, factors).T
        by_exponent = -factors * slopes * inside, (factors**2 * bends + factors * slopes) * inside
        weighted: NDArray[np.float64] = self._pixels.weights * np.stack([losses, *by_exponent])
        return weighted

    def loss(self, theta: NDArray[np.float64]) -> float:
        """The loss without the penalty."""
        return float(self._derivatives(theta)[0].sum())

    def value(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The loss with the penalty, and its gradient."""
        losses, slopes, _ = self._derivatives(theta)
        gradient = (self._rows * slopes).sum(axis=1) + 2 * self._penalty * theta
        return float(losses.sum() + (self._penalty * theta**2).sum()), gradient

    def hessian(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """The second derivatives."""
        bends = self._derivatives(theta)[2]
        products: NDArray[np.float64] = np.einsum("fn,gn->fg", self._rows * bends, self._rows)
        return products + np.diag(2 * self._penalty)

    def standard_errors(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard errors from the contributions of images (groups) to the gradient."""
        starts = np.append(0, self._pixels.ends[:-1].astype(np.intp))
        added = np.add.reduceat(self._rows * self._derivatives(theta)[1], starts, axis=1)
        return standard_errors(added, self.hessian(theta))
