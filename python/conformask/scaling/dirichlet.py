"""Dirichlet calibration: a matrix on the logarithms of probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from conformask._calibrator import Parameter
from conformask.scaling._likelihood import Likelihood, Penalty
from conformask.scaling._pixels import PixelSample
from conformask.scaling._scaler import PARAMETERS, Configuration, Fitted, Scaler, fitted
from conformask.scaling.vector import penalty_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes

__all__ = ["DirichletScaler"]


@dataclass(frozen=True)
class _Configuration(Configuration):
    off_diagonal: float
    intercept: float


class DirichletScaler(Scaler):
    r"""A linear map of the logarithms of probabilities: :math:`q = \mathrm{softmax}(W \log p + b)`, p the softmax.

    The penalty is that of the off-diagonal and the intercept (ODIR): the diagonal is free. Without one, a matrix of so
    many numbers fits the calibration images and no others. The most probable class may become another.

    Parameters
    ----------
    off_diagonal, intercept : float of at least 0, default=0.01
        The penalty ``off_diagonal / (K (K - 1)) * sum_{i != j} W_ij^2 + intercept / K * sum_j b_j^2``, added to the
        mean negative log-likelihood.
    inputs, ignore_index, n_pixels, random_state, volumes, progress
        As for :class:`TemperatureScaler`.

    Attributes
    ----------
    weight_ : float64 array (K, K)
        W.
    bias_ : float64 array (K,)
        b, which sums to 0.
    nll_ : float
        Mean negative log-likelihood of the drawn pixels, with the map.
    nll_before_ : float
        The same without.
    n_images_ : int
        Number of images with labelled pixels.
    n_skipped_ : int
        Number of images without.
    n_classes_ : int
        K.

    See Also
    --------
    VectorScaler : Its diagonal.

    References
    ----------
    Kull, Perello-Nieto, Kängsepp, Silva Filho, Song, Flach, "Beyond temperature scaling: Obtaining well-calibrated
    multiclass probabilities with Dirichlet calibration", NeurIPS 2019, arXiv:1910.12656.

    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0, 2, (30, 3, 32, 32))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # as likely as softmax says
    >>> scaler = cm.DirichletScaler().fit(2 * logits, y)
    >>> scaler.nll_ < scaler.nll_before_
    True
    """

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "off_diagonal": penalty_weight("off_diagonal"),
        "intercept": penalty_weight("intercept"),
        **PARAMETERS,
    }
    _FORMAT = ("DirichletScaler", 1)
    _IS_CENTRED = True

    def __init__(
        self,
        *,
        off_diagonal: float = 1e-2,
        intercept: float = 1e-2,
        inputs: str = "logits",
        ignore_index: int | None = 255,
        n_pixels: int = 4096,
        random_state: int = 0,
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.off_diagonal = off_diagonal
        self.intercept = intercept
        self.inputs = inputs
        self.ignore_index = ignore_index
        self.n_pixels = n_pixels
        self.random_state = random_state
        self.volumes = volumes
        self.progress = progress

    def _find(self, kept: PixelSample, configuration: _Configuration) -> Fitted:
        k = kept.n_classes
        likelihood = Likelihood(kept.pixels(configuration.inputs, centred=True), k * k)
        identity = np.append(np.eye(k), np.zeros(k))
        weights = np.append(
            configuration.off_diagonal / (k * (k - 1)) * (1 - np.eye(k)),
            np.full(k, configuration.intercept / k),
        )
        return fitted(kept, likelihood, identity, Penalty(weights, np.zeros(k * k + k)), configuration)

    @property
    def weight_(self) -> NDArray[np.float64]:
        """W."""
        k = self.n_classes_
        return self._current()[1].weight.reshape(k, k).copy()

    @property
    def bias_(self) -> NDArray[np.float64]:
        """B."""
        return self._current()[1].bias.copy()
