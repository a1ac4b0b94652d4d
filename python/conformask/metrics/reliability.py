"""The reports of the calibration of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from conformask._intervals import LEVEL
from conformask._reports import Report, counts_rows, interval_text
from conformask._tables import Table
from conformask._text import plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CalibrationReport", "ClassCalibration", "RegionCalibration", "ReliabilityCurve"]


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    r"""The accuracy of a model as a function of its confidence, in bins.

    Attributes
    ----------
    edges : float64 array (M + 1,)
        The ends of the bins, from 0 to 1. A bin includes its upper end; the first includes 0, too.
    confidence : float64 array (M,)
        Mean confidence of the pixels of each bin; NaN for an empty bin.
    accuracy : float64 array (M,)
        Share of correct pixels of each bin; NaN for an empty bin.
    interval : float64 array (M, 2)
        A 95 % confidence interval of the accuracy, by Wilson's formula. Pixels of one image (group) are alike: in the
        formula the number of pixels is replaced by the number of independent pixels whose accuracy would vary as much.
    n_pixels : int64 array (M,)
        Number of labelled pixels of each bin.
    n_images : int
        Number of images with labelled pixels.
    n_groups : int or None
        Number of their groups, if given.

    See Also
    --------
    reliability_curve : Computes this curve.
    conformask.plotting.plot_reliability : Draws this curve.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927,
    doi:10.1080/01621459.1927.10502953.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.full((2, 2, 1, 10), 0.1)
    >>> X[:, 0] = 0.9
    >>> y = np.array([[[0] * 10], [[0] * 8 + [1] * 2]])
    >>> curve = cm.metrics.reliability_curve(y, X, n_bins=10)
    >>> curve.accuracy[8].round(6), curve.n_pixels[8]
    (np.float64(0.9), np.int64(20))
    """

    edges: NDArray[np.float64] = field(repr=False)
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    interval: NDArray[np.float64] = field(repr=False)
    n_pixels: NDArray[np.int64]
    n_images: int
    n_groups: int | None = None


@dataclass(frozen=True)
class RegionCalibration:
    """The calibration of a model on a region: a part of the pixels of each image.

    Attributes
    ----------
    name : str
        "boundary": the labelled pixels that have another label (or prediction) near them; "interior": the others. If
        classes of objects were given, "interior" are only those in the box of an object, and "outside" are the rest.
    ece : float
        Mean over images of the expected calibration error of these pixels, in [0, 1].
    ece_interval : tuple of two floats
        A 95 % confidence interval of `ece`.
    pooled_ece : float
        The expected calibration error of these pixels of all images together.
    accuracy, confidence : float
        Share of correct pixels among these pixels of all images, and their mean confidence.
    n_images, n_pixels : int
        Number of images that have such pixels, and number of the pixels.

    See Also
    --------
    CalibrationReport : Holds one such object for each region.

    Examples
    --------
    >>> from conformask.metrics import RegionCalibration
    >>> RegionCalibration("boundary", 0.2, (0.15, 0.25), 0.18, 0.6, 0.8, 40, 9000).name
    'boundary'
    """

    name: str
    ece: float
    ece_interval: tuple[float, float]
    pooled_ece: float
    accuracy: float
    confidence: float
    n_images: int
    n_pixels: int


@dataclass(frozen=True)
class ClassCalibration:
    """The calibration of the probabilities of one class, over the pixels of all images.

    Attributes
    ----------
    label : int
        The class.
    name : str
        The name of the class; its label if no names were given.
    ece : float
        Expected calibration error of the probability of the class, over all pixels at which it is at least the
        threshold: the distance of the probability and the share of pixels of the class, averaged over bins.
    iou : float
        Intersection over union of the pixels of the class and the pixels predicted as the class, in [0, 1]; NaN if
        there are neither.
    accuracy : float
        The recall: share of the pixels of the class that are predicted as the class, in [0, 1]; NaN if it has no
        pixels.
    n_images, n_pixels : int
        Number of images that hold the class, and number of its labelled pixels.

    See Also
    --------
    CalibrationReport : Holds one such object for each class.

    Examples
    --------
    >>> from conformask.metrics import ClassCalibration
    >>> ClassCalibration(0, "road", 0.02, 0.9, 0.95, 40, 9000).iou
    0.9
    """

    label: int
    name: str
    ece: float
    iou: float
    accuracy: float
    n_images: int
    n_pixels: int


@dataclass(frozen=True, eq=False)
class CalibrationReport(Report):
    r"""The calibration of the probabilities of a model. Images (or groups) are the units of all intervals.

    The confidence of a pixel is its largest probability, :math:`c = \max_k p_k`. The pixel is correct, :math:`a = 1`,
    if this is the probability of its label. Bins are of equal width, except for the adaptive error.

    Attributes
    ----------
    ece : float
        Image-wise expected calibration error: mean over images of
        :math:`\sum_b \frac{n_b}{n} |\mathrm{acc}_b - \mathrm{conf}_b|`, in [0, 1]. It is above 0 even for a perfect
        model, by chance, because the bins of one image have few pixels; `debiased_squared_ece` is then about 0.
    ece_interval : tuple of two floats
        A 95 % confidence interval of the expectation of `ece`, for new images like these.
    interval_method : str
        The method of intervals of means over images (groups): Student's t, with their number.
    verdict : str
        Whether the model is too confident, or not confident enough, by more than chance explains.
    gap : float
        Mean over images of mean confidence minus accuracy; above 0 the model is too confident.
    gap_interval : tuple of two floats
        A 95 % confidence interval of `gap`.
    pooled_ece, mce, rms_ce : float
        Expected, largest and root mean square calibration error of the bins of the pixels of all images.
    mce_pixels : int
        Number of pixels of the bin with the largest error. With few pixels this error is large by chance.
    adaptive_ece : float
        Expected calibration error of bins with equal numbers of pixels.
    class_wise_ece : float
        Mean over the classes that images hold of :attr:`ClassCalibration.ece`.
    debiased_squared_ece : float
        :math:`\sum_b \frac{n_b}{n} \big[(\mathrm{acc}_b - \mathrm{conf}_b)^2 - \frac{\mathrm{acc}_b (1 -
        \mathrm{acc}_b)}{n_b - 1}\big]`, the square of `rms_ce` minus its bias for independent pixels; bins of one pixel
        are left out. It may be negative.
    jackknife_squared_ece : float
        The square of `rms_ce` minus its bias over images (groups), estimated by the jackknife. It may be negative.
    squared_ece_standard_error : float
        The jackknife standard error of `debiased_squared_ece`, leaving out one image (group) at a time.
    nll, brier : float
        Mean over the pixels of all images of :math:`-\ln p_y` (p at least 1e-12) and of
        :math:`\sum_k (p_k - 1[y = k])^2`.
    nll_standard_error, brier_standard_error : float
        The standard errors of `nll` and `brier`.
    reliability, resolution, uncertainty : float
        Murphy's parts of the Brier score of the confidence, the mean over pixels of :math:`(c - a)^2`:
        :math:`\sum_b \frac{n_b}{n} (\mathrm{conf}_b - \mathrm{acc}_b)^2`, the square of `rms_ce`;
        :math:`\sum_b \frac{n_b}{n} (\mathrm{acc}_b - \mathrm{acc})^2`, which should be large; and
        :math:`\mathrm{acc} (1 - \mathrm{acc})`. Reliability minus resolution plus uncertainty is this score if each
        pixel has the mean confidence of its bin. The score of the actual confidences differs a little, because their
        variation within bins is not counted (Stephenson et al.).
    accuracy, confidence : float
        Share of correct pixels of all images, and mean confidence of all pixels.
    right_confidence, wrong_confidence : float
        Mean confidence of the correct and of the wrong pixels.
    auroc : float
        The probability that a correct pixel is more confident than a wrong one; ties count half. Confidences are ranked
        in 4,096 fine bins, which are uniform in the log-odds near 1.
    aurc, augrc : float
        Area under the error rate of the most confident pixels, as a function of their share, and area under this rate
        times the share; smaller is better.
    mean_iou : float
        Mean over classes of the intersection over union, counted over the pixels of all images; classes that neither
        occur nor are predicted are left out.
    regions : tuple of RegionCalibration
        Calibration near the boundaries of labels (or predictions), and inside; empty if ``boundary_width=None``.
    classes : tuple of ClassCalibration
        Calibration of each class, by label.
    curve : ReliabilityCurve
        The bins.
    n_images, n_skipped : int
        Number of images with labelled pixels, and without.
    n_groups : int or None
        Number of groups, if given: means are then over groups, of the means over their images.
    n_pixels : int
        Number of labelled pixels.
    n_bins : int
        Number of bins.
    class_threshold : float
        The smallest probability of a class that is binned.
    boundary_width : int or None
        The largest distance in pixels to another label for a pixel of the boundary.
    boundary : {"labels", "prediction"}
        Whether regions follow the boundaries of labels or of predictions.
    image_eces, image_accuracies, image_confidences, image_nlls, image_briers, image_ious : float64 arrays (n,)
        The values of each image; NaN without labelled pixels.
    interval_level : float
        The confidence of the intervals, 0.95.

    See Also
    --------
    calibration_report : Makes this report.
    conformask.plotting.plot_reliability : Draws this report.

    References
    ----------
    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053.

    Kumar, Liang, Ma, "Verified Uncertainty Calibration", NeurIPS 2019, arXiv:1909.10155.

    Murphy, "A New Vector Partition of the Probability Score", Journal of Applied Meteorology 1973,
    doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2.

    Stephenson, Coelho, Jolliffe, "Two Extra Components in the Brier Score Decomposition", Weather and Forecasting 2008,
    doi:10.1175/2007WAF2006116.1.

    Traub, Bungert, Lüth, et al., "Overcoming Common Flaws in the Evaluation of Selective Classification Systems",
    NeurIPS 2024, arXiv:2407.01032.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.full((2, 2, 1, 10), 0.1)
    >>> X[:, 0] = 0.9
    >>> y = np.array([[[0] * 10], [[0] * 8 + [1] * 2]])  # right 10 times of 10, and 8 of 10
    >>> report = cm.metrics.calibration_report(y, X)
    >>> round(report.ece, 6), round(report.pooled_ece, 6)
    (0.1, 0.0)
    >>> text = report.to_markdown()
    """

    ece: float
    ece_interval: tuple[float, float]
    interval_method: str = field(repr=False)
    verdict: str = field(repr=False)
    gap: float
    gap_interval: tuple[float, float] = field(repr=False)
    pooled_ece: float
    mce: float = field(repr=False)
    mce_pixels: int = field(repr=False)
    rms_ce: float = field(repr=False)
    adaptive_ece: float = field(repr=False)
    class_wise_ece: float
    debiased_squared_ece: float = field(repr=False)
    jackknife_squared_ece: float = field(repr=False)
    squared_ece_standard_error: float = field(repr=False)
    nll: float
    nll_standard_error: float = field(repr=False)
    brier: float
    brier_standard_error: float = field(repr=False)
    reliability: float = field(repr=False)
    resolution: float = field(repr=False)
    uncertainty: float = field(repr=False)
    accuracy: float
    confidence: float
    right_confidence: float = field(repr=False)
    wrong_confidence: float = field(repr=False)
    auroc: float = field(repr=False)
    aurc: float = field(repr=False)
    augrc: float = field(repr=False)
    mean_iou: float
    regions: tuple[RegionCalibration, ...] = field(repr=False)
    classes: tuple[ClassCalibration, ...] = field(repr=False)
    curve: ReliabilityCurve = field(repr=False)
    n_images: int
    n_skipped: int
    n_groups: int | None = field(repr=False)
    n_pixels: int
    n_bins: int = field(repr=False)
    class_threshold: float = field(repr=False)
    boundary_width: int | None = field(repr=False)
    boundary: str = field(repr=False)
    image_eces: NDArray[np.float64] = field(repr=False)
    image_accuracies: NDArray[np.float64] = field(repr=False)
    image_confidences: NDArray[np.float64] = field(repr=False)
    image_nlls: NDArray[np.float64] = field(repr=False)
    image_briers: NDArray[np.float64] = field(repr=False)
    image_ious: NDArray[np.float64] = field(repr=False)
    interval_level: float = field(default=LEVEL, repr=False)

    _CAPTION = "Calibration report"
    _ARRAYS = frozenset(
        {
            "image_eces",
            "image_accuracies",
            "image_confidences",
            "image_nlls",
            "image_briers",
            "image_ious",
        }
    )

    def _summary(self) -> list[tuple[str, str]]:
        units, n = ("image", self.n_images) if self.n_groups is None else ("group", self.n_groups)
        interval = interval_text(self.ece_interval, self.interval_method)
        if n == 1:
            interval = f"no interval: one {units}"
        return [
            (f"ECE, mean over {units}s", f"{self.ece:.4f} (above 0 for a perfect model, too)"),
            (f"{LEVEL * 100:g} % interval", interval),
            ("ECE, pooled", f"{self.pooled_ece:.4f}"),
            ("ECE, adaptive", f"{self.adaptive_ece:.4f}"),
            ("ECE, class-wise", f"{self.class_wise_ece:.4f}"),
            ("largest error of a bin", f"{self.mce:.4f} (of {plural(self.mce_pixels, 'pixel')})"),
            ("root mean square error", f"{self.rms_ce:.4f}"),
            (
                "squared error, debiased",
                f"{self.debiased_squared_ece:.3g} (standard error {self.squared_ece_standard_error:.2g}; "
                "about 0 for a perfect model)",
            ),
            ("squared error, by jackknife", f"{self.jackknife_squared_ece:.3g}"),
            ("negative log-likelihood", _with_error(self.nll, self.nll_standard_error)),
            ("Brier score", _with_error(self.brier, self.brier_standard_error)),
            (
                "Brier score of the bins",
                f"{self.reliability - self.resolution + self.uncertainty:.4f} = reliability {self.reliability:.4f} "
                f"- resolution {self.resolution:.4f} + uncertainty {self.uncertainty:.4f}",
            ),
            ("accuracy", f"{self.accuracy:.4f}"),
            ("mean confidence", f"{self.confidence:.4f}"),
            ("of right pixels", f"{self.right_confidence:.4f}"),
            ("of wrong pixels", f"{self.wrong_confidence:.4f}"),
            ("AUROC of confidence", f"{self.auroc:.4f}"),
            ("AURC, AUGRC", f"{self.aurc:.4f}, {self.augrc:.4f}"),
            ("mean IoU", f"{self.mean_iou:.4f}"),
            ("bins", f"{self.n_bins}"),
            *counts_rows(self.n_images, self.n_skipped, self.n_groups),
            ("labelled pixels", f"{self.n_pixels:,}"),
        ]

    def _class_table(self) -> Table:
        rows = [
            (
                row.name,
                f"{row.ece:.4f}",
                f"{row.iou:.4f}",
                f"{row.accuracy:.4f}",
                f"{row.n_images}",
                f"{row.n_pixels:,}",
            )
            for row in sorted(self.classes, key=lambda row: math.inf if math.isnan(row.ece) else -row.ece)
            if row.n_pixels
        ]
        header = ("class", "ECE", "IoU", "recall", "images", "pixels")
        return Table(
            f"Calibration of the probability of each class, where it is at least {self.class_threshold:g}",
            header,
            rows,
        )

    def _more_tables(self) -> list[Table]:
        rows = [
            (
                row.name,
                f"{row.ece:.4f}",
                interval_text(row.ece_interval),
                f"{row.pooled_ece:.4f}",
                f"{row.confidence:.4f}",
                f"{row.accuracy:.4f}",
                f"{row.n_pixels:,}",
            )
            for row in self.regions
        ]
        header = (
            "region",
            "ECE",
            f"{LEVEL * 100:g} % interval",
            "pooled",
            "confidence",
            "accuracy",
            "pixels",
        )
        many, one = ("labels", "label") if self.boundary == "labels" else ("predictions", "prediction")
        return [
            Table(
                f"Near the boundaries of {many} (another {one} within {self.boundary_width} pixels) and inside",
                header,
                rows,
            )
        ]


def _with_error(value: float, standard_error: float) -> str:
    return f"{value:.4f} (standard error {standard_error:.2g})"
