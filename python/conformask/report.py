"""Reports of evaluation: as text, as a table in a notebook, as Markdown, as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from conformask._intervals import LEVEL
from conformask._reports import Report, counts_rows, interval_text
from conformask._tables import Table
from conformask._text import lambda_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClassCoverage", "ClassRisk", "CoverageReport", "PartRisk", "RiskReport"]


@dataclass(frozen=True)
class ClassRisk:
    """Miss rate and set size of one class, over the images (groups) that hold it.

    Attributes
    ----------
    label : int
        The class.
    name : str
        The name of the class; its label if no names were given.
    miss_rate : float
        Mean over images of the share of the class's pixels whose set lacks it, in [0, 1]. NaN if no image holds it.
    miss_rate_interval : tuple of two floats
        A 95 % confidence interval of the miss rate, by the method of the risk.
    set_size : float
        Mean over images of the mean number of classes in the sets of the class's pixels, in [0, K].
    n_images : int
        Number of images that hold the class.
    n_pixels : int
        Number of labelled pixels of the class.

    See Also
    --------
    RiskReport : Holds one such object for each class.

    Examples
    --------
    >>> from conformask.report import ClassRisk
    >>> ClassRisk(0, "road", 0.02, (0.01, 0.03), 1.2, 40, 9000).name
    'road'
    """

    label: int
    name: str
    miss_rate: float
    miss_rate_interval: tuple[float, float]
    set_size: float
    n_images: int
    n_pixels: int


@dataclass(frozen=True)
class PartRisk:
    """The risk of a class or a stratum that has a lambda of its own.

    Attributes
    ----------
    name : str
        The name of the class, or of the stratum.
    risk : float
        The mean of the controlled loss, in [0, 1], over the images that hold the class or belong to the stratum. NaN if
        there are none.
    interval : tuple of two floats
        A 95 % confidence interval of the risk, by the method of the whole risk.
    n_images : int
        Number of these images (groups).
    lambda_hat : float
        The lambda of the class or stratum.
    n_calibration : int
        Number of calibration images (groups) of the class or stratum.
    n_needed : int or None
        The number of calibration images that it needs, if it had too few; else None.
    is_rare : bool
        Whether no lambda of its own keeps alpha, so that `on_rare` decided.

    See Also
    --------
    RiskReport : Holds one such object for each class or stratum.

    Examples
    --------
    >>> from conformask.report import PartRisk
    >>> PartRisk("road", 0.08, (0.06, 0.11), 40, 0.93, 60, None).name
    'road'
    """

    name: str
    risk: float
    interval: tuple[float, float]
    n_images: int
    lambda_hat: float
    n_calibration: int
    n_needed: int | None
    is_rare: bool = False


def _calibrated(part: PartRisk) -> str:
    """The calibration data of a part, for a table."""
    if not part.is_rare:
        return f"{part.n_calibration}"
    few = "" if part.n_needed is None else f" of {part.n_needed}"
    return f"{part.n_calibration}{few}: rare"


@dataclass(frozen=True)
class ClassCoverage:
    """Coverage of the images that hold a class, by sets of segmentations.

    Attributes
    ----------
    label : int
        The class.
    name : str
        The name of the class; its label if no names were given.
    coverage : float
        Among the images that hold the class, the share whose labels are in the set, in [0, 1]. NaN if no image holds
        it.
    coverage_interval : tuple of two floats
        A 95 % confidence interval of this coverage, by the method of the whole coverage.
    n_images : int
        Number of images that hold the class.
    n_pixels : int
        Number of labelled pixels of the class.

    See Also
    --------
    CoverageReport : Holds one such object for each class.

    Examples
    --------
    >>> from conformask.report import ClassCoverage
    >>> ClassCoverage(0, "lesion", 0.9, (0.8, 0.96), 40, 9000).coverage
    0.9
    """

    label: int
    name: str
    coverage: float
    coverage_interval: tuple[float, float]
    n_images: int
    n_pixels: int


def __dir__() -> list[str]:
    return sorted(__all__)


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class RiskReport(Report):
    r"""Evaluation of the calibrated masks on labelled images. Means are over images, or over groups if given.

    Attributes
    ----------
    empirical_risk : float
        Mean loss, in [0, 1].
    interval : tuple of two floats
        A 95 % confidence interval of the expected loss of a new image like these, for these sets.
    interval_method : str
        The method, and what was averaged: images, or groups, whose images may be alike. "Clopper-Pearson" is the exact
        binomial interval, for losses that are all 0 or 1. "beta" extends it to losses between: its ends are quantiles
        of beta distributions (see Notes).
    verdict : str
        A sentence that compares risk and interval with alpha: whether random variation explains a risk above alpha.
    activation_ratio : float
        Mean number of classes in the sets of labelled pixels, in [0, K].
    coverage : float
        Mean share of labelled pixels whose set holds their label, in [0, 1].
    n_images : int
        Number of images on which the loss is defined.
    n_skipped : int
        Number of images that were left out because the loss is undefined on them.
    n_groups : int or None
        Number of groups, if given. Means are then over groups, of the means over their images.
    n_calibration : int
        Number of calibration images (groups).
    calibrated_on : str
        The calibration images in words.
    alpha : float
        The risk level of the calibration. The guarantee is about the expected loss of a new image: the risk of one test
        set varies around its expectation, and may be above it.
    method : str
        How the risk was controlled, as text.
    conformity_score : str
        The score, as text.
    lambda_hat : float
        The calibrated threshold of the score; NaN if images, classes or strata have lambdas of their own.
    loss : str
        The loss, as text.
    classes : tuple of ClassRisk
        Miss rate and set size of each class, by label.
    sweep : tuple of RiskReport
        A report for each level of ``evaluate(alphas=)``, in their order.
    losses, activation_ratios, coverages : float64 arrays (n,)
        The values of each image; NaN where undefined.
    by : {"class", "stratum"} or None
        Whether classes or strata have lambdas of their own; None if neither have.
    parts : tuple of PartRisk
        The risk of each class or stratum that has a lambda of its own.
    part_alpha : float or None
        The level of each class or stratum: `alpha`, or with ``simultaneous="bonferroni"`` alpha / K, which keeps the
        largest loss of an image's classes at alpha (with methods that have a confidence: `alpha`).
    infeasible : bool
        Whether the calibration images were too few for alpha, and the sets are full (``on_infeasible="full"``).
    risk_bound, confidence : float or None
        With PAC, RCPS and LTT: the upper confidence limit of the risk from the calibration images, and ``1 - delta``.
        None with CRC.
    interval_level : float
        The confidence of the intervals, 0.95.

    See Also
    --------
    ConformalRiskCalibrator.evaluate : Makes this report.
    conformask.plotting.plot_class_risk : Draws the classes.
    conformask.plotting.plot_alpha_sweep : Draws the reports of several alphas.
    conformask.metrics.leave_one_group_out : How the risk differs between groups of calibration images.

    Notes
    -----
    The interval is made for few images and rare large losses: it allows for losses of 1 that do not occur in these
    images. Its upper end is the 97.5 % quantile of the beta distribution that has the mean and the variance of
    :math:`\sum_i w_i x_i`, where x are the n losses and a 1, and w is drawn from Dirichlet(1, ..., 1); its lower end is
    the 2.5 % quantile with a 0 for the 1. The quantiles of the random mean itself are limits whose coverage is
    conjectured for every distribution on [0, 1] (Learned-Miller, Thomas 2019). For losses of 0 or 1 its distribution is
    the beta distribution of Clopper and Pearson.

    References
    ----------
    Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial",
    Biometrika 1934, doi:10.1093/biomet/26.4.404.

    Learned-Miller, Thomas, "A New Confidence Interval for the Mean of a Bounded Random Variable", 2019,
    arXiv:1905.06208.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(3), size=(60, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = rng.integers(0, 3, (60, 8, 8))
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.2).fit(X[:30], y[:30])
    >>> report = calibrator.evaluate(X[30:], y[30:], class_names=["sky", "road", "car"])
    >>> report.interval[0] < report.empirical_risk < report.interval[1]
    True
    >>> [row.name for row in report.classes]
    ['sky', 'road', 'car']
    >>> text = report.to_markdown()
    """

    empirical_risk: float
    interval: tuple[float, float]
    interval_method: str = field(repr=False)
    verdict: str = field(repr=False)
    activation_ratio: float
    coverage: float
    n_images: int
    n_skipped: int
    n_groups: int | None = field(repr=False)
    n_calibration: int = field(repr=False)
    calibrated_on: str = field(repr=False)
    alpha: float
    method: str = field(repr=False)
    conformity_score: str = field(repr=False)
    lambda_hat: float
    loss: str
    classes: tuple[ClassRisk, ...] = field(repr=False)
    losses: NDArray[np.float64] = field(repr=False)
    activation_ratios: NDArray[np.float64] = field(repr=False)
    coverages: NDArray[np.float64] = field(repr=False)
    by: str | None = field(default=None, repr=False)
    parts: tuple[PartRisk, ...] = field(default=(), repr=False)
    part_alpha: float | None = field(default=None, repr=False)
    infeasible: bool = field(default=False, repr=False)
    risk_bound: float | None = field(default=None, repr=False)
    confidence: float | None = field(default=None, repr=False)
    interval_level: float = field(default=LEVEL, repr=False)
    sweep: tuple[RiskReport, ...] = field(default=(), repr=False)

    _CAPTION = "Risk report"
    _ARRAYS = frozenset({"losses", "activation_ratios", "coverages"})

    def _summary(self) -> list[tuple[str, str]]:
        of_alpha, of_risk = (
            ("", "")
            if self._limits_mean
            else (" for each class", " over all classes, which alpha does not limit")
        )
        return [
            ("loss", self.loss),
            ("method", self.method),
            ("conformity score", self.conformity_score),
            ("alpha", f"{self.alpha:g}{of_alpha}"),
            ("empirical risk", f"{self.empirical_risk:.4f}{of_risk}"),
            (f"{LEVEL * 100:g} % interval", interval_text(self.interval, self.interval_method)),
            ("activation ratio", f"{self.activation_ratio:.3f}"),
            ("coverage", f"{self.coverage:.4f}"),
            ("lambda-hat", self._lambda_text()),
            *counts_rows(self.n_images, self.n_skipped, self.n_groups),
            ("calibrated on", self.calibrated_on),
            *self._bound_rows(),
        ]

    @property
    def _units(self) -> str:
        """The units over which means are taken."""
        return "images" if self.n_groups is None else "groups"

    @property
    def _limits_mean(self) -> bool:
        """Whether alpha limits the mean loss, rather than the loss of each class."""
        return self.by != "class" or self.part_alpha != self.alpha

    @property
    def _is_unreached(self) -> bool:
        """Whether there are too few calibration images for alpha; with parts, for every class or stratum."""
        return self.infeasible or (bool(self.parts) and all(part.is_rare for part in self.parts))

    def _figures(self) -> tuple[str, ...]:
        """What was measured, for a row of a table."""
        return (
            f"{self.empirical_risk:.4f}",
            interval_text(self.interval),
            f"{self.activation_ratio:.3f}",
            f"{self.coverage:.4f}",
        )

    def _lambda_text(self) -> str:
        """Lambda-hat, or words if there are several."""
        is_one = self.lambda_hat == self.lambda_hat
        return lambda_text(self.lambda_hat) if is_one else f"one for each {self.by or 'image'}"

    def _bound_rows(self) -> list[tuple[str, str]]:
        if self.risk_bound is None or self.confidence is None:
            return []
        return [("risk bound", f"{self.risk_bound:.4f} with confidence {self.confidence:g}")]

    def _class_table(self) -> Table:
        rows = [
            (
                row.name,
                f"{row.miss_rate:.4f}",
                interval_text(row.miss_rate_interval),
                f"{row.set_size:.2f}",
                f"{row.n_images}",
                f"{row.n_pixels:,}",
            )
            for row in sorted(self.classes, key=lambda row: -row.miss_rate)
            if row.n_images
        ]
        header = ("class", "miss rate", f"{LEVEL * 100:g} % interval", "set size", "images", "pixels")
        promise = "the risk of each class, below" if self.by == "class" else "the mean loss, not each class"
        caption = (
            f"Miss rate of each class, mean over the {self._units} that hold it (alpha limits {promise})"
        )
        return Table(caption, header, rows)

    def _part_table(self) -> Table:
        rows = [
            (
                part.name,
                f"{part.risk:.4f}",
                interval_text(part.interval),
                lambda_text(part.lambda_hat),
                f"{part.n_images}",
                _calibrated(part),
            )
            for part in sorted(self.parts, key=lambda part: -part.risk if part.risk == part.risk else 1.0)
        ]
        header = (
            str(self.by),
            "risk",
            f"{LEVEL * 100:g} % interval",
            "lambda-hat",
            self._units,
            "calibrated on",
        )
        level = "alpha" if self.part_alpha in (None, self.alpha) else f"alpha / K = {self.part_alpha:.3g}"
        return Table(f"Risk of each {self.by}, which {level} limits", header, rows)

    def _more_tables(self) -> list[Table]:
        return ([self._part_table()] if self.parts else []) + ([self._sweep_table()] if self.sweep else [])

    def _sweep_table(self) -> Table:
        rows = [
            (
                f"{each.alpha:g}",
                # Those of full sets tell nothing.
                *("-" if each._is_unreached else text for text in each._figures()),
                "not reached" if each._is_unreached else each._lambda_text(),
            )
            for each in self.sweep
        ]
        header = (
            "alpha",
            "risk",
            f"{LEVEL * 100:g} % interval",
            "activation ratio",
            "coverage",
            "lambda-hat",
        )
        caption = "Other alphas (the guarantee is about one alpha that was fixed before the labels were seen"
        caption += ")" if self._limits_mean else "; the risk is over all classes, alpha limits each class)"
        return Table(caption, header, rows)


@dataclass(frozen=True, eq=False)
class CoverageReport(Report):
    """Coverage of sets of segmentations on labelled images: how often a set holds an accurate segmentation.

    Attributes
    ----------
    coverage : float
        Share of the images whose set was shown to hold a segmentation that is accurate enough: a lower bound of the
        coverage.
    coverage_bound : float
        An upper bound of the coverage: images that the search could not decide count as covered.
    interval : tuple of two floats
        A 95 % confidence interval of the expected coverage of a new image like these, for these sets: its lower end for
        `coverage`, its upper end for `coverage_bound`.
    interval_method : str
        The method, and what was averaged: "Clopper-Pearson", the exact binomial interval, over images; over groups,
        whose images may be alike, also "beta" (see the Notes of :class:`RiskReport`).
    verdict : str
        A sentence that compares them with ``1 - alpha``: whether random variation explains a coverage below it.
    n_images : int
        Number of images that count.
    n_skipped : int
        Number of images left out because they have no labelled pixel.
    n_groups : int or None
        Number of groups, if given. Coverage is then the mean over groups of the share of their images.
    n_calibration : int
        Number of calibration images (groups).
    calibrated_on : str
        The calibration images in words.
    alpha : float
        The risk level of the calibration. The guarantee is about the expected coverage of a new image: the coverage of
        one test set varies around its expectation, and may be below ``1 - alpha``.
    method : str
        How the risk was controlled, as text.
    min_accuracy : float
        The label accuracy that a segmentation must have to count as accurate enough.
    n_components : int
        Number of components of the sets.
    lambda_hat : float
        The calibrated size of the sets, in the unit that `weight` of the calibrator sets.
    classes : tuple of ClassCoverage
        Coverage of the images that hold each class, by label.
    contained : bool array (n,)
        Whether each image was shown to be covered.
    certified : bool array (n,)
        Whether the answer in `contained` is certain.

    See Also
    --------
    ConsignCalibrator.evaluate : Makes this report.

    References
    ----------
    Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial",
    Biometrika 1934, doi:10.1093/biomet/26.4.404.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(size=(40, 5, 2, 8, 8))
    >>> y = (logits[:, 0, 1] > logits[:, 0, 0]).astype(int)  # the first sample is right
    >>> calibrator = cm.ConsignCalibrator(4, alpha=0.2, min_accuracy=0.6).fit(logits[:20], y[:20])
    >>> report = calibrator.evaluate(logits[20:], y[20:])
    >>> report.interval[0] <= report.coverage <= report.interval[1]
    True
    """

    coverage: float
    coverage_bound: float
    interval: tuple[float, float]
    interval_method: str = field(repr=False)
    verdict: str = field(repr=False)
    n_images: int
    n_skipped: int
    n_groups: int | None = field(repr=False)
    n_calibration: int = field(repr=False)
    calibrated_on: str = field(repr=False)
    alpha: float
    method: str = field(repr=False)
    min_accuracy: float
    n_components: int
    lambda_hat: float
    classes: tuple[ClassCoverage, ...] = field(repr=False)
    contained: NDArray[np.bool_] = field(repr=False)
    certified: NDArray[np.bool_] = field(repr=False)

    _CAPTION = "Coverage report"
    _ARRAYS = frozenset({"contained", "certified"})

    def _summary(self) -> list[tuple[str, str]]:
        unsure = f" to {self.coverage_bound:.4f}" if self.coverage_bound > self.coverage else ""
        return [
            ("method", self.method),
            ("alpha", f"{self.alpha:g}"),
            ("min_accuracy", f"{self.min_accuracy:g}"),
            ("n_components", f"{self.n_components}"),
            ("coverage", f"{self.coverage:.4f}{unsure}"),
            (f"{LEVEL * 100:g} % interval", interval_text(self.interval, self.interval_method)),
            ("lambda-hat", f"{self.lambda_hat:.6g}"),
            *counts_rows(self.n_images, self.n_skipped, self.n_groups),
            ("calibrated on", self.calibrated_on),
        ]

    def _class_table(self) -> Table:
        rows = [
            (
                row.name,
                f"{row.coverage:.4f}",
                interval_text(row.coverage_interval),
                f"{row.n_images}",
                f"{row.n_pixels:,}",
            )
            for row in sorted(self.classes, key=lambda row: row.coverage)
            if row.n_images
        ]
        header = ("class in the image", "coverage", f"{LEVEL * 100:g} % interval", "images", "pixels")
        return Table(
            "Coverage of the images that hold each class (alpha limits the misses among all images, not each class)",
            header,
            rows,
        )
