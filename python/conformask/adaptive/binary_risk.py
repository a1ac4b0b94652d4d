"""One threshold for all images: conformal risk control of a rate of wrong pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from conformask._calibrator import Parameter, one_of
from conformask.adaptive._calibrator import BinaryCalibrator
from conformask.adaptive._settings import PARAMETERS, SIDES, Configuration

if TYPE_CHECKING:
    from conformask._images import Volumes
    from conformask._units import OnEmpty
    from conformask.control import Method

__all__ = ["BinaryRiskCalibrator"]


class BinaryRiskCalibrator(BinaryCalibrator[Configuration]):
    r"""One threshold for all images. In expectation a mask misses at most the share alpha of an object.

    :meth:`fit` takes the probability p of the foreground, and the true masks, of calibration images. The model must not
    have been trained, chosen or early-stopped on these images. Calibration finds the largest threshold

    .. math:: \hat\tau = \sup \Big\{ \tau \in [0, 1] : \frac{\sum_{i=1}^n r_i(\tau) + 1}{n + 1} \le \alpha \Big\}, \quad
        r_i(\tau) = 1 - \frac{|\{p \ge \tau\} \cap Y_i|}{|Y_i|},

    where :math:`Y_i` is the foreground of image i. If calibration images and new images are exchangeable, a new image
    with a foreground has in expectation at most the share alpha of it outside the mask :math:`\{p \ge \hat\tau\}`,
    whatever the model. The unit is the image: n counts images, not pixels.

    The threshold is exact, without a grid or a tolerance: it is a weighted quantile of the probabilities of foreground
    pixels, in which a pixel of image i has the weight :math:`1 / |Y_i|`.

    Parameters
    ----------
    alpha : float in (0, 1), default=0.1
        The risk level, taken as the decimal that prints. At least ``ceil(1 / alpha) - 1`` images are needed.
    risk : {"fnr", "fpr"}, default="fnr"
        The rate that is controlled. "fnr": the share of the foreground that a mask misses. "fpr": the share of the
        background that a mask holds. The masks are then the largest *inner* ones, :math:`\{p > \tau\}` with the
        smallest feasible :math:`\tau`, and the guarantee is about images with a background.
    method : CRC, RCPS or "crc", default="crc"
        How the risk is controlled: in expectation (:class:`~conformask.CRC`), or with a confidence given the
        calibration images (:class:`~conformask.RCPS`).
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which count nowhere. It must not be 0 or 1.
    on_empty : {"skip", "raise", "zero_loss"}, default="skip"
        What to do with images without a foreground (with ``"fpr"``: without a background), on which the rate is
        undefined. "skip" leaves them out with a warning: n gets smaller, and the guarantee is about images that have
        one. "zero_loss" counts them with rate 0: the guarantee is about all images, and weaker, since images with an
        object may miss more of it than alpha. "raise" raises an error.
    on_infeasible : {"raise", "full"}, default="raise"
        What to do if there are too few images. "raise" raises :class:`~conformask.InfeasibleRiskError`. "full" takes
        masks that are never wrong, those that hold every pixel (with ``"fpr"``: no pixel), and warns.
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (D, H, W) or flat (H, W). "auto" goes by the number of
        axes.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over lists and generators of images.

    Attributes
    ----------
    threshold_ : numpy.float64
        The threshold: masks are ``P >= threshold_``, exactly, for float16, float32 and float64. It is above 1 if inner
        masks are empty.
    risk_ : float
        The empirical risk at the threshold: the mean rate of the calibration images.
    corrected_risk_ : float
        The number that is kept at or below alpha, ``(n * risk_ + 1) / (n + 1)`` with n images (groups; summed weights);
        with RCPS an upper confidence limit of the risk.
    n_images_ : int
        Number of images (groups, if given) that counted.
    n_skipped_ : int
        Number of images left out.
    n_eff_ : float
        With weights the effective number of images; else `n_images_`.

    See Also
    --------
    ConformalRiskCalibrator : Calibrates sets of several classes.

    Notes
    -----
    The guarantee is that of a random new image (with ``groups``: of a random image of a random new group), in
    expectation over calibration sets: the risk on the images to come exceeds alpha for about half of the calibration
    sets, by little if n is large. It is an average over images: hard images miss more, easy ones less. The calibrator
    keeps the probabilities of the foreground of each image (with ``"fpr"``: of the background), 4 bytes each (float64:
    8). If this is too much memory, bins of a few MB give the same threshold, or a slightly smaller one: one minus
    ``lambda_hat_`` of
    ``ConformalRiskCalibrator(LAC(include_top1=False), loss=FalseNegativeLoss([1]), profile="binned")`` on two classes,
    ``np.stack([1 - P, P], axis=1)``.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> P = rng.random((60, 16, 16))
    >>> y = rng.random(P.shape) < P  # labels drawn with probability P
    >>> calibrator = cm.BinaryRiskCalibrator(alpha=0.1).fit(P[:40], y[:40])
    >>> masks = calibrator.predict(P[40:])
    >>> bool((masks == (P[40:] >= calibrator.threshold_)).all())
    True
    >>> report = calibrator.evaluate(P[40:], y[40:])
    >>> report.empirical_risk < 0.12 and report.size < 0.8
    True
    >>> inner = cm.BinaryRiskCalibrator(alpha=0.1, risk="fpr").fit(P[:40], y[:40])
    >>> bool(inner.threshold_ > calibrator.threshold_)  # its masks hold at most a tenth of the background
    True
    """

    _CONFIGURATION = Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "alpha": PARAMETERS["alpha"],
        "risk": one_of("risk", *SIDES, stale="images"),
        **PARAMETERS,
    }
    _FORMAT = ("BinaryRiskCalibrator", 1)

    def __init__(
        self,
        alpha: float = 0.1,
        *,
        risk: str = "fnr",
        method: Method | str = "crc",
        ignore_index: int | tuple[int, ...] | None = 255,
        on_empty: OnEmpty = "skip",
        on_infeasible: str = "raise",
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.alpha = alpha
        self.risk = risk
        self.method = method
        self.ignore_index = ignore_index
        self.on_empty = on_empty
        self.on_infeasible = on_infeasible
        self.volumes = volumes
        self.progress = progress

    @property
    def threshold_(self) -> np.float64:
        """The threshold of the masks."""
        return self._current()[1].threshold
