"""Dirichlet calibration: a matrix on the logarithms of probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformask._calibrator import Parameter
from conformask.scaling._fitted import Fitted, Shapes, fitted
from conformask.scaling._likelihood import Likelihood, Penalty
from conformask.scaling._pixels import PixelSample
from conformask.scaling._scaler import PARAMETERS, Configuration, Scaler, penalty_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes

__all__ = ["DirichletScaler"]


@dataclass(frozen=True)
class _Configuration(Configuration):
    off_diagonal: float
    intercept: float
    ridge: float


class DirichletScaler(Scaler):
    r"""A linear map of the logarithms of probabilities: :math:`q = \mathrm{softmax}(W \log p + b)`, p the softmax.

    The penalty is on the off-diagonal and the intercept (ODIR), with a small ridge that draws the diagonal to 1.
    Without a penalty, a matrix of so many parameters overfits the calibration images. The most probable class may
    change.

    If no calibration pixel has a class, the map makes this class less probable everywhere, as the calibration images
    suggest. The ridge limits this effect. Without it, ``W_jj`` of such a class grows without bound, and the class has
    probability 0 in new images.

    Parameters
    ----------
    off_diagonal, intercept : float of at least 0, default=0.01
        The penalty ``off_diagonal / (K (K - 1)) * sum_{i != j} W_ij^2 + intercept / K * sum_j b_j^2``, added to the
        mean negative log-likelihood.
    ridge : float of at least 0, default=0.001
        The penalty ``ridge / n * sum_j (W_jj - 1)^2``, with n images (groups), as in :class:`VectorScaler`.
    inputs, ignore_index, n_pixels, random_state, volumes, progress
        As for :class:`TemperatureScaler`.

    Attributes
    ----------
    weight_ : float64 array (K, K)
        The matrix W.
    bias_ : float64 array (K,)
        The intercept b, which sums to 0.
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
    VectorScaler : The same with a diagonal matrix.
    sklearn.model_selection.GridSearchCV : Chooses the penalties, on images (groups) that were left out.

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
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # labels drawn from the softmax
    >>> scaler = cm.DirichletScaler().fit(2 * logits, y)
    >>> scaler.nll_ < scaler.nll_before_
    True

    A search for the penalty that is best for groups that were left out; the true matrix is diagonal:

    >>> from sklearn.model_selection import GridSearchCV, GroupKFold
    >>> search = GridSearchCV(cm.DirichletScaler(), {"off_diagonal": [1e-3, 10]}, cv=GroupKFold(3))
    >>> patients = np.arange(30) // 5
    >>> search.fit(2 * logits, y, groups=patients).best_params_
    {'off_diagonal': 10}
    """

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "off_diagonal": penalty_weight("off_diagonal"),
        "intercept": penalty_weight("intercept"),
        "ridge": penalty_weight("ridge"),
        **PARAMETERS,
    }
    _FORMAT = ("DirichletScaler", 1)
    _IS_CENTRED = True

    def __init__(
        self,
        *,
        off_diagonal: float = 1e-2,
        intercept: float = 1e-2,
        ridge: float = 1e-3,
        inputs: str = "logits",
        ignore_index: int | tuple[int, ...] | None = 255,
        n_pixels: int = 4096,
        random_state: int = 0,
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.off_diagonal = off_diagonal
        self.intercept = intercept
        self.ridge = ridge
        self.inputs = inputs
        self.ignore_index = ignore_index
        self.n_pixels = n_pixels
        self.random_state = random_state
        self.volumes = volumes
        self.progress = progress

    def _find(self, kept: PixelSample, configuration: _Configuration) -> Fitted:
        k = kept.n_classes
        pixels = kept.pixels(configuration.inputs, centred=True)
        eye = np.eye(k)
        identity = np.append(eye, np.zeros(k))
        off_diagonal = configuration.off_diagonal / (k * (k - 1))
        ridge = configuration.ridge / len(pixels.ends)
        weights = np.append(
            off_diagonal * (1 - eye) + ridge * eye,
            np.full(k, configuration.intercept / k),
        )
        return fitted(kept, Likelihood(pixels, k * k), identity, Penalty(weights, identity), configuration)

    def _knows_classes(self, configuration: Any) -> bool:
        return True

    @property
    def _keeps_prediction(self) -> bool:
        return False

    @classmethod
    def _map_shapes(cls, n_classes: int, configuration: Any) -> Shapes:
        return (n_classes, n_classes), (n_classes,)

    @property
    def weight_(self) -> NDArray[np.float64]:
        """The matrix W."""
        k = self.n_classes_
        return self._current()[1].weight.reshape(k, k).copy()

    @property
    def bias_(self) -> NDArray[np.float64]:
        """The intercept b."""
        return self._current()[1].bias.copy()
