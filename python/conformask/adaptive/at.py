"""Thresholds that are regressed towards the best threshold of each image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from conformask.adaptive._adaptive import AdaptiveCalibrator, AdaptiveConfiguration
from conformask.adaptive._network import Network, train
from conformask.adaptive._training import own_thresholds, squared_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes
    from conformask._units import OnEmpty
    from conformask.adaptive._kept import Kept
    from conformask.control import Method

__all__ = ["ATCalibrator"]

_RIDGE = 1e-4


class ATCalibrator(AdaptiveCalibrator[AdaptiveConfiguration]):
    r"""A threshold for each image, predicted by a regression (AT) and then corrected.

    An image's own threshold is :math:`\tau^* = \sup\{\tau : \mathrm{TPR}(\tau) \ge 1 - \alpha\}`, the
    :math:`\lceil (1 - \alpha) |Y| \rceil`-th largest probability of its foreground. A model :math:`\hat\tau` is trained
    on one part of the images to predict it with the least mean squared error. The other images correct the model by one
    number t,

    .. math:: t = \inf \Big\{ t \in [-1, 1] : \frac{\sum_i \mathrm{FNR}_i(\hat\tau_i - t) + 1}{n + 1} \le \alpha \Big\},

    and the mask of an image is :math:`\{p \ge \hat\tau - t\}`, or exactly :math:`\{\mathrm{fl}(\hat\tau - p) \le t\}`.
    By default all of this is done with log-odds in place of probabilities. If calibration images and new images are
    exchangeable, a new image with a foreground has in expectation at most the share alpha of it outside its mask,
    whatever the model. The model only decides how evenly the misses spread over images.

    Parameters
    ----------
    alpha : float in (0, 1), default=0.1
        The risk level, taken as the decimal that prints. The part for the correction needs at least
        ``ceil(1 / alpha) - 1`` images.
    predictor : object, callable or None, default=None
        The model. None is a small network with nine features of the map of probabilities. An object has
        ``fit(P, y, alpha=, images=)``, which trains a copy of it, and ``predict(P, images=)``, which gives thresholds
        (n,) in [0, 1]. A function ``f(P, images)``, or an object without ``fit``, must be trained already, on other
        images. The threshold of an image must not depend on the other images of the array. The model is called with
        arrays (n, H, W), for lists with one image at a time; ``fit`` gets a list if the calibrator got a list.
    train_fraction : float in (0, 1), default=0.5
        The share of the images (groups) that train the model, drawn at random.
    scale : {"log_odds", "probability"}, default="log_odds"
        The scale on which thresholds are trained and corrected. The paper uses probabilities. With these, one number
        that lowers all thresholds may take low ones to 0, so that their masks are full. The logarithms of odds from
        2^-16 to 2^16, mapped to [0, 1], give the same guarantee with masks that are smaller where thresholds are low.
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
    COATCalibrator : Trains for the coverage itself.
    CRACalibrator : Needs no training.

    Notes
    -----
    :meth:`recalibrate` corrects the same model for another alpha. This is valid, but the model was trained for the old
    alpha.

    References
    ----------
    Blot, Angelopoulos, Jordan, Brunel, "Automatically Adaptive Conformal Risk Control", arXiv:2406.17819, train an
    embedding in this way. Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024,
    arXiv:2208.02814: the correction is its theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> hardness = rng.choice([1.0, 4.0], (200, 1, 1))  # in some images the object is hard to see
    >>> P = rng.beta(hardness, 1, (200, 16, 16))
    >>> y = np.ones(P.shape, bool)
    >>> one = cm.BinaryRiskCalibrator(alpha=0.2).fit(P[:100], y[:100])
    >>> each = cm.ATCalibrator(alpha=0.2).fit(P[:100], y[:100])
    >>> one.evaluate(P[100:], y[100:]).coverage_gap > 0.1
    True
    >>> each.evaluate(P[100:], y[100:]).coverage_gap < 0.05
    True
    """

    _CONFIGURATION = AdaptiveConfiguration
    _FORMAT = ("ATCalibrator", 1)

    def __init__(
        self,
        alpha: float = 0.1,
        *,
        predictor: Any = None,
        train_fraction: float = 0.5,
        scale: str = "log_odds",
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
        self.train_fraction = train_fraction
        self.scale = scale
        self.random_state = random_state
        self.method = method
        self.ignore_index = ignore_index
        self.on_empty = on_empty
        self.on_infeasible = on_infeasible
        self.volumes = volumes
        self.progress = progress

    def _train(
        self, kept: Kept, features: NDArray[np.float64], configuration: AdaptiveConfiguration
    ) -> Network:
        targets = own_thresholds(kept.core, configuration.alpha)
        start = float(np.mean(targets))
        return train(features, squared_error(targets), start, _RIDGE, configuration.random_state, kept.groups)
