"""Thresholds that are trained for the coverage itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformask._calibrator import Parameter, number
from conformask._exact import as_plain
from conformask._text import shown
from conformask.adaptive._adaptive import ADAPTIVE, AdaptiveCalibrator, AdaptiveConfiguration
from conformask.adaptive._network import Network, train
from conformask.adaptive._training import own_thresholds, soft_rate_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes
    from conformask._units import OnEmpty
    from conformask.adaptive._kept import Kept
    from conformask.control import Method

__all__ = ["COATCalibrator"]

_RIDGE = 1e-5  # the loss is smaller than that of AT
_N_BINS = 1024


def _check_temperature(value: Any) -> float:
    temperature = float(as_plain(value, "temperature"))
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {shown(value)}")
    return temperature


@dataclass(frozen=True, kw_only=True)
class _Configuration(AdaptiveConfiguration):
    temperature: float


class COATCalibrator(AdaptiveCalibrator[_Configuration]):
    r"""A threshold for each image, trained to cover the share 1 - alpha of its object (COAT) and then corrected.

    A model :math:`\hat\tau` is trained on one part of the images to minimise the mean of

    .. math:: \Big( \frac{1}{|Y_i|} \sum_{j \in Y_i} \sigma\Big( \frac{p_{ij} - \hat\tau_i}{T} \Big)
        - (1 - \alpha) \Big)^2,

    the squared distance of a smooth true positive rate from its target. The other images correct the model, as in
    :class:`ATCalibrator`, with the same guarantee: if they and new images are exchangeable, a new image with a
    foreground has in expectation at most the share alpha of it outside its mask, whatever the model. The model only
    decides how evenly the misses spread over images.

    Parameters
    ----------
    alpha : float in (0, 1), default=0.1
        The risk level, taken as the decimal that prints. The part for the correction needs at least
        ``ceil(1 / alpha) - 1`` images.
    predictor : object, callable or None, default=None
        The model, as for :class:`ATCalibrator`.
    temperature : float above 0, default=0.05
        The temperature T, which sets how smooth the rate is, in units of the scale.
    train_fraction : float in (0, 1), default=0.5
        The share of the images (groups) that train the model, drawn at random.
    scale : {"probability", "log_odds"}, default="probability"
        The scale on which thresholds are trained and corrected, as for :class:`ATCalibrator`. The paper's temperature
        is for probabilities; on log-odds the smooth rate is farther from the true one.
    random_state : int, default=0
        The seed of the random split.
    method, ignore_index, on_empty, on_infeasible, volumes, progress
        As for :class:`BinaryRiskCalibrator`.

    Attributes
    ----------
    correction_ : float
        The correction t in [-1, 1], which is subtracted from the thresholds of the model, on the scale.
    predictor_ : object or callable
        The trained model.
    risk_ : float
        The empirical risk of the images of the correction.
    corrected_risk_ : float
        The number that is kept at or below alpha, ``(n * risk_ + 1) / (n + 1)``; with RCPS an upper confidence limit of
        the risk.
    n_images_ : int
        Number of images (groups, if given) that the correction is based on.
    n_skipped_ : int
        Number of images that were left out of the correction.
    n_eff_ : float
        With weights the effective number of images; else `n_images_`.

    See Also
    --------
    ATCalibrator : Predicts each image's own threshold by a regression.
    CRACalibrator : Needs no training.

    Notes
    -----
    When the smooth rate is at its target, the true rate is not: in the smooth rate even probabilities near 1 count less
    than 1. The correction removes the mean of this error, but not its differences between images. A small temperature
    makes the error small, but is hard to train. A model of your own has its own training loss: `temperature` is for the
    light model only.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814: the correction is
    its theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> hardness = rng.choice([1.0, 4.0], (200, 1, 1))  # in some images the object is hard to see
    >>> P = rng.beta(hardness, 1, (200, 16, 16))
    >>> y = np.ones(P.shape, bool)
    >>> calibrator = cm.COATCalibrator(alpha=0.2).fit(P[:100], y[:100])
    >>> calibrator.predict_thresholds(P[100:]).shape
    (100,)
    >>> calibrator.evaluate(P[100:], y[100:]).coverage_gap < 0.05
    True
    """

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "alpha": ADAPTIVE["alpha"],
        "predictor": ADAPTIVE["predictor"],
        "temperature": number("temperature", _check_temperature, stale="images"),
        **ADAPTIVE,
    }
    _FORMAT = ("COATCalibrator", 1)

    def __init__(
        self,
        alpha: float = 0.1,
        *,
        predictor: Any = None,
        temperature: float = 0.05,
        train_fraction: float = 0.5,
        scale: str = "probability",
        random_state: int = 0,
        method: Method | str = "crc",
        ignore_index: int | tuple[int, ...] | None = 255,
        on_empty: OnEmpty = "skip",
        on_infeasible: str = "raise",
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.alpha = alpha
        self.predictor = predictor
        self.temperature = temperature
        self.train_fraction = train_fraction
        self.scale = scale
        self.random_state = random_state
        self.method = method
        self.ignore_index = ignore_index
        self.on_empty = on_empty
        self.on_infeasible = on_infeasible
        self.volumes = volumes
        self.progress = progress

    def _train(self, kept: Kept, features: NDArray[np.float64], configuration: _Configuration) -> Network:
        loss = soft_rate_loss(kept.core.histograms(_N_BINS), configuration.alpha, configuration.temperature)
        start = float(np.median(own_thresholds(kept.core, configuration.alpha)))
        return train(features, loss, start, _RIDGE, configuration.random_state, kept.groups)
