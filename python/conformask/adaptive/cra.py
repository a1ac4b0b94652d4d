"""Masks of the most probable pixels that make up a share of an image's summed probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformask import _core
from conformask._calibrator import Parameter
from conformask.adaptive._calibrator import BinaryCalibrator
from conformask.adaptive._settings import PARAMETERS, Configuration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._image_models import Images
    from conformask._images import Volumes
    from conformask._units import OnEmpty
    from conformask.adaptive._solution import Solution
    from conformask.control import Method

__all__ = ["CRACalibrator"]


@dataclass(frozen=True, kw_only=True)
class _Configuration(Configuration):
    """The parameters, resolved."""

    @property
    def half(self) -> str:
        return "masks of half of the probability of each image"


class CRACalibrator(BinaryCalibrator[_Configuration]):
    r"""Masks of the most probable pixels that make up a share of the summed probability (CRA).

    A pixel's score is the summed probability of all pixels that are more probable, as a share of the image's sum,

    .. math:: s_j = \frac{\sum_{k : p_k > p_j} p_k}{\sum_k p_k},

    and a mask holds the pixels of score at most :math:`\hat s`, the smallest at which the false negative rate of the
    calibration images is controlled, as in :class:`BinaryRiskCalibrator`. An image of which the model is unsure thus
    has a lower threshold: if the probabilities were right, each image would miss the same share in expectation. Nothing
    is trained. If calibration images and new images are exchangeable, a new image with a foreground has in expectation
    at most the share alpha of it outside its mask, whatever the model.

    Parameters
    ----------
    alpha : float in (0, 1), default=0.1
        The risk level, taken as the decimal that prints. At least ``ceil(1 / alpha) - 1`` images are needed.
    method, ignore_index, on_empty, on_infeasible, volumes, progress
        As for :class:`BinaryRiskCalibrator`.

    Attributes
    ----------
    mass_ : float
        The share :math:`\hat s` of the summed probability that masks hold, up to the least probable pixels in them: the
        largest score in a mask.
    threshold_ : numpy.float64
        One minus `mass_`: the share of the summed probability of all pixels that are at most as probable as the least
        probable pixel in a mask.
    risk_ : float
        The empirical risk: the mean false negative rate of the calibration images.
    corrected_risk_ : float
        The number that is kept at or below alpha, ``(n * risk_ + 1) / (n + 1)``; with RCPS an upper confidence limit of
        the risk.
    n_images_ : int
        Number of images (groups, if given) that counted.
    n_skipped_ : int
        Number of images left out.
    n_eff_ : float
        With weights the effective number of images; else `n_images_`.

    See Also
    --------
    BinaryRiskCalibrator : Finds one threshold for all images.
    COATCalibrator : Trains a model of thresholds.

    Notes
    -----
    In floats the score of a pixel is one minus the share of the pixels that are at most as probable; they are summed in
    float64 from the smallest probability up. If all probabilities of an image are 0, its pixels are in the mask only if
    the mask of every image is full. Void pixels are included in the sums, because it is not known in prediction which
    pixels are void.

    References
    ----------
    Luo, Zhou, arXiv:2504.07611. Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024,
    arXiv:2208.02814.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> spread = rng.choice([0.3, 3.0], (120, 1, 1))  # the model is unsure of some images
    >>> P = rng.beta(spread, 3 * spread, (120, 16, 16))
    >>> y = rng.random(P.shape) < P  # labels drawn with probability P
    >>> calibrator = cm.CRACalibrator(alpha=0.2).fit(P[:60], y[:60])
    >>> bool(0.7 < calibrator.mass_ < 0.9)
    True
    >>> one = cm.BinaryRiskCalibrator(alpha=0.2).fit(P[:60], y[:60])
    >>> gaps = [each.evaluate(P[60:], y[60:]).coverage_gap for each in (calibrator, one)]
    >>> gaps[0] < gaps[1]
    True
    """

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = PARAMETERS
    _FORMAT = ("CRACalibrator", 1)

    def __init__(
        self,
        alpha: float = 0.1,
        *,
        method: Method | str = "crc",
        ignore_index: int | tuple[int, ...] | None = 255,
        on_empty: OnEmpty = "skip",
        on_infeasible: str = "raise",
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.alpha = alpha
        self.method = method
        self.ignore_index = ignore_index
        self.on_empty = on_empty
        self.on_infeasible = on_infeasible
        self.volumes = volumes
        self.progress = progress

    @property
    def mass_(self) -> float:
        """The share of the summed probability that masks hold."""
        return 1.0 - float(self.threshold_)

    @property
    def threshold_(self) -> np.float64:
        """The threshold of the masks, as a share of the summed probability."""
        return self._current()[1].threshold

    def _maps(self, given: Any, first: int) -> NDArray[np.float64]:
        shares = np.empty(given.shape, np.float64)
        _core.mass_shares(given, shares, first)
        return shares

    def _cutoffs(self, given: Any, images: Images, solution: Solution, first: int) -> NDArray[np.float64]:
        # Masks of the most probable pixels need no map of shares, only where they begin.
        return _core.mass_cutoffs(given, float(solution.threshold), first)
