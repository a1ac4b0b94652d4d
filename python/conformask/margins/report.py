"""The report of an evaluation of margins."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from conformask._intervals import LEVEL
from conformask._reports import Report, counts_rows, interval_text
from conformask._tables import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MarginReport"]


def __dir__() -> list[str]:
    return sorted(__all__)


@dataclass(frozen=True, eq=False)  # comparing arrays gives no single truth value
class MarginReport(Report):
    """Evaluation of margins around masks on labelled images. Means are over images, or over groups if given.

    Attributes
    ----------
    side : {"outer", "inner", "both"}
        The margins that were calibrated. If only one was, the values of the other below are NaN.
    empirical_risk : float
        Share of the images on which a margin is too narrow: the outer mask holds less than `min_coverage` of the
        object, or the inner mask more than `max_background` of the background.
    interval : tuple of two floats
        A 95 % confidence interval of the probability that a margin is too narrow on a new image like these.
    interval_method : str
        The method, and what was averaged (see :class:`RiskReport`).
    verdict : str
        A sentence that compares risk and interval with alpha: whether random variation explains a risk above alpha.
    infeasible : bool
        Whether calibration found no finite margin, so that outer masks are full, or inner ones empty.
    outer_risk, inner_risk : float
        The share of the images on which the outer, and the inner, margin is too narrow.
    outer_margin, inner_margin : float
        The margins.
    unit : str
        The unit of the margins: "pixels", or "units of spacing".
    coverage : float
        Mean share of the object that outer masks hold.
    false_positive_rate : float
        Mean share of the background that inner masks hold.
    outer_size, inner_size : float
        Mean ratio of the number of pixels of outer, and inner, masks to that of the predicted mask: 1.5 means half as
        many more. Images whose predicted mask is empty are left out.
    band : float
        Mean share of the labelled pixels in the margins: pixels of the outer mask that are not in the inner mask. The
        predicted mask takes the place of one that was not calibrated.
    min_coverage, max_background : float
        The share of the object that outer masks must hold, and the share of the background that inner masks may hold.
    n_images : int
        Number of images on which the loss is defined.
    n_skipped : int
        Number of images that were left out because the loss is undefined on them.
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
    losses : float64 array (n,)
        1 for images on which a margin is too narrow, 0 for others; NaN where undefined.
    outer_scores, inner_scores : float64 array (n,)
        The margins that each image needs; NaN where undefined.
    coverages, false_positive_rates, bands : float64 array (n,)
        The values of each image; NaN where undefined.

    See Also
    --------
    MarginCalibrator.evaluate : Makes this report.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> rows, columns = np.mgrid[-20:20, -20:20]
    >>> far = np.hypot(rows - rng.uniform(-4, 4, (80, 1, 1)), columns)  # from the centre of each disk
    >>> radii = rng.uniform(8, 12, (80, 1, 1))
    >>> y, masks = far < radii, far < radii + rng.normal(0, 1, radii.shape)
    >>> report = cm.MarginCalibrator(alpha=0.2).fit(masks[:40], y[:40]).evaluate(masks[40:], y[40:])
    >>> report.interval[0] < 0.2 and report.coverage > 0.95 and 1 < report.outer_size < 1.5
    True
    """

    side: str
    empirical_risk: float
    interval: tuple[float, float]
    interval_method: str = field(repr=False)
    verdict: str = field(repr=False)
    infeasible: bool = field(repr=False)
    outer_risk: float = field(repr=False)
    inner_risk: float = field(repr=False)
    outer_margin: float
    inner_margin: float
    unit: str
    coverage: float
    false_positive_rate: float = field(repr=False)
    outer_size: float = field(repr=False)
    inner_size: float = field(repr=False)
    band: float
    min_coverage: float = field(repr=False)
    max_background: float = field(repr=False)
    n_images: int
    n_skipped: int
    n_groups: int | None = field(repr=False)
    n_calibration: int = field(repr=False)
    calibrated_on: str = field(repr=False)
    alpha: float
    method: str = field(repr=False)
    losses: NDArray[np.float64] = field(repr=False)
    outer_scores: NDArray[np.float64] = field(repr=False)
    inner_scores: NDArray[np.float64] = field(repr=False)
    coverages: NDArray[np.float64] = field(repr=False)
    false_positive_rates: NDArray[np.float64] = field(repr=False)
    bands: NDArray[np.float64] = field(repr=False)

    _CAPTION = "Report of margins"
    _ARRAYS = frozenset(
        {"losses", "outer_scores", "inner_scores", "coverages", "false_positive_rates", "bands"}
    )

    def _summary(self) -> list[tuple[str, str]]:
        rows = [
            ("alpha", f"{self.alpha:g}"),
            ("empirical risk (images outside a margin)", f"{self.empirical_risk:.4f}"),
            (f"{LEVEL * 100:g} % interval", interval_text(self.interval, self.interval_method)),
        ]
        if not math.isnan(self.outer_margin):
            rows += [
                ("outer margin", f"{self.outer_margin:.6g} {self.unit}"),
                (f"images less than {100 * self.min_coverage:g} % covered", f"{100 * self.outer_risk:.1f} %"),
                ("coverage of the object", f"{self.coverage:.4f}"),
                ("outer size (of the predicted mask)", f"{self.outer_size:.4f}"),
            ]
        if not math.isnan(self.inner_margin):
            rows += [
                ("inner margin", f"{self.inner_margin:.6g} {self.unit}"),
                (
                    f"images with more than {100 * self.max_background:g} % of the background inside",
                    f"{100 * self.inner_risk:.1f} %",
                ),
                ("false positive rate", f"{self.false_positive_rate:.6f}"),
                ("inner size (of the predicted mask)", f"{self.inner_size:.4f}"),
            ]
        return [
            *rows,
            ("band (share of the image)", f"{self.band:.4f}"),
            *counts_rows(self.n_images, self.n_skipped, self.n_groups),
            ("calibrated on", self.calibrated_on),
            ("method", self.method),
        ]

    def _class_table(self) -> Table:
        return Table("", (), ())  # there is one class
