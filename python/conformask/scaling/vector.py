"""Vector scaling: a factor and a shift for each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformask._calibrator import Parameter, one_of
from conformask.scaling._fitted import Fitted, Shapes, fitted
from conformask.scaling._likelihood import Likelihood, Penalty
from conformask.scaling._pixels import PixelSample
from conformask.scaling._scaler import PARAMETERS, Configuration, Scaler, penalty_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes

__all__ = ["VectorScaler"]


@dataclass(frozen=True)
class _Configuration(Configuration):
    center: bool
    ridge: float


class VectorScaler(Scaler):
    r"""Gives each class a factor and a shift: :math:`p = \mathrm{softmax}(w \odot u + b)`.

    Here :math:`u = z - \log \sum_k e^{z_k}` are the logarithms of the softmax, which do not change if a constant is
    added to all logits of a pixel. The papers map raw logits, as ``center=False`` does. The most probable class may
    change: check accuracy and mean IoU.

    Parameters
    ----------
    center : bool, default=True
        Whether the map takes u (True) or the logits themselves.
    ridge : float of at least 0, default=0.001
        The penalty ``ridge / n * (sum((w - 1)^2) + sum((b - mean(b))^2))``, with n images (groups), added to the mean
        negative log-likelihood. It keeps the parameters of a class finite that no calibration pixel has.
    inputs, ignore_index, n_pixels, random_state, volumes, progress
        As for :class:`TemperatureScaler`.

    Attributes
    ----------
    weight_ : float64 array (K,)
        The factors w.
    bias_ : float64 array (K,)
        The shifts b, which sum to 0.
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
    TemperatureScaler : Finds one factor for all classes.
    DirichletScaler : Finds a matrix.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.

    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053, where it is called logistic scaling.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0, 2, (30, 3, 32, 32))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # labels drawn from the softmax
    >>> shift = np.array([0, 1, -1]).reshape(3, 1, 1)
    >>> scaler = cm.VectorScaler().fit(logits + shift, y)
    >>> (scaler.weight_.round(1) + 0).tolist(), scaler.bias_.round().tolist()
    ([1.0, 1.0, 1.0], [0.0, -1.0, 1.0])
    """

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "center": one_of("center", True, False, stale="result"),
        "ridge": penalty_weight("ridge"),
        **PARAMETERS,
    }
    _FORMAT = ("VectorScaler", 1)

    def __init__(
        self,
        *,
        center: bool = True,
        ridge: float = 1e-3,
        inputs: str = "logits",
        ignore_index: int | tuple[int, ...] | None = 255,
        n_pixels: int = 4096,
        random_state: int = 0,
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.center = center
        self.ridge = ridge
        self.inputs = inputs
        self.ignore_index = ignore_index
        self.n_pixels = n_pixels
        self.random_state = random_state
        self.volumes = volumes
        self.progress = progress

    def _find(self, kept: PixelSample, configuration: _Configuration) -> Fitted:
        k = kept.n_classes
        pixels = kept.pixels(configuration.inputs, centred=configuration.center)
        identity = np.repeat([1.0, 0.0], k)
        ridge = configuration.ridge / len(pixels.ends)
        return fitted(
            kept, Likelihood(pixels, k), identity, Penalty(np.full(2 * k, ridge), identity), configuration
        )

    def _knows_classes(self, configuration: Any) -> bool:
        return True

    @property
    def _keeps_prediction(self) -> bool:
        return False

    @classmethod
    def _map_shapes(cls, n_classes: int, configuration: Any) -> Shapes:
        return (n_classes,), (n_classes,)

    @property
    def weight_(self) -> NDArray[np.float64]:
        """The factors w."""
        return self._current()[1].weight.copy()

    @property
    def bias_(self) -> NDArray[np.float64]:
        """The shifts b."""
        return self._current()[1].bias.copy()
