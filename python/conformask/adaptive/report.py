"""The report of an evaluation of binary masks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from conformask._intervals import LEVEL
from conformask._reports import Report, counts_rows, interval_text
from conformask._tables import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BinaryReport"]


def __dir__() -> list[str]:
    return sorted(__all__)


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class BinaryReport(Report):
    r"""Evaluation of binary masks on labelled images. Means are over images, or over groups if given.

    Attributes
    ----------
    risk : {"fnr", "fpr"}
        The controlled rate: the share of the foreground that a mask misses, or of the background that it holds.
    empirical_risk : float
        The mean of this rate, in [0, 1].
    interval : tuple of two floats
        A 95 % confidence interval of the expected risk of a new image like these, for these thresholds.
    interval_method : str
        The method, and what was averaged (see :class:`RiskReport`).
    verdict : str
        A sentence that compares risk and interval with alpha: whether random variation explains a risk above alpha.
    infeasible : bool
        Whether calibration had too few images, so that masks hold every pixel (with ``risk="fpr"``: no pixel).
    coverage : float
        Mean share of the foreground that masks hold: the true positive rate.
    coverage_gap : float
        Mean distance of an image's risk from alpha, :math:`|r_i - \alpha|`: masks that are larger than needed count as
        well as those that are smaller. A small gap alone is not enough: look at `exceedance` and `size` too.
    exceedance : float
        Share of the images whose risk is above alpha.
    tail_risk : float
        Mean risk of the worst 10 % of the images (CVaR): of n images the worst ``ceil(n / 10)``.
    false_positive_rate : float
        Mean share of the background that masks hold.
    size : float
        Mean share of the labelled pixels that masks hold.
    n_images : int
        Number of images on which the risk is defined.
    n_skipped : int
        Number of images that were left out because the risk is undefined on them.
    n_groups : int or None
        Number of groups, if given.
    n_calibration : int
        Number of calibration images (groups).
    calibrated_on : str
        The calibration images in words.
    alpha : float
        The risk level.
    method : str
        How the risk was controlled.
    risks, coverages, false_positive_rates, sizes : float64 array (n,)
        The values of each image; NaN where undefined.
    thresholds : float64 array (n,)
        The threshold of each image.

    See Also
    --------
    BinaryRiskCalibrator.evaluate : Makes this report.

    References
    ----------
    Rockafellar, Uryasev, "Optimization of Conditional Value-at-Risk", Journal of Risk 2(3), 2000,
    doi:10.21314/JOR.2000.038: the tail risk.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> P = rng.random((60, 16, 16))
    >>> y = rng.random(P.shape) < P
    >>> report = cm.BinaryRiskCalibrator(alpha=0.2).fit(P[:40], y[:40]).evaluate(P[40:], y[40:])
    >>> abs(report.coverage - 0.8) < 0.05 and report.exceedance < 1
    True
    """

    risk: str
    empirical_risk: float
    interval: tuple[float, float]
    interval_method: str = field(repr=False)
    verdict: str = field(repr=False)
    infeasible: bool = field(repr=False)
    coverage: float
    coverage_gap: float
    exceedance: float
    tail_risk: float = field(repr=False)
    false_positive_rate: float = field(repr=False)
    size: float
    n_images: int
    n_skipped: int
    n_groups: int | None = field(repr=False)
    n_calibration: int = field(repr=False)
    calibrated_on: str = field(repr=False)
    alpha: float
    method: str = field(repr=False)
    risks: NDArray[np.float64] = field(repr=False)
    coverages: NDArray[np.float64] = field(repr=False)
    false_positive_rates: NDArray[np.float64] = field(repr=False)
    sizes: NDArray[np.float64] = field(repr=False)
    thresholds: NDArray[np.float64] = field(repr=False)

    _CAPTION = "Report of binary masks"
    _ARRAYS = frozenset({"risks", "coverages", "false_positive_rates", "sizes", "thresholds"})

    def _summary(self) -> list[tuple[str, str]]:
        what = "false negative rate" if self.risk == "fnr" else "false positive rate"
        other = ("false positive rate", self.false_positive_rate)
        if self.risk == "fpr":
            other = ("coverage of the foreground", self.coverage)
        return [
            ("alpha", f"{self.alpha:g}"),
            (f"empirical risk ({what})", f"{self.empirical_risk:.4f}"),
            (f"{LEVEL * 100:g} % interval", interval_text(self.interval, self.interval_method)),
            ("coverage gap", f"{self.coverage_gap:.4f}"),
            ("images above alpha", f"{100 * self.exceedance:.1f} %"),
            ("risk of the worst 10 %", f"{self.tail_risk:.4f}"),
            (other[0], f"{other[1]:.4f}"),
            ("size (share of the image)", f"{self.size:.4f}"),
            *counts_rows(self.n_images, self.n_skipped, self.n_groups),
            ("calibrated on", self.calibrated_on),
            ("method", self.method),
        ]

    def _class_table(self) -> Table:
        return Table("", (), ())  # there is one class
