"""Methods of binary masks side by side: the coverage gap and the coverage of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._sequences import listed
from conformask.adaptive.report import BinaryReport
from conformask.plotting._arguments import alpha_text, common_alpha
from conformask.plotting._axes import flat_axes, import_pyplot, say_empty
from conformask.plotting._palette import LINES, RED
from conformask.plotting._titles import write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_gap"]

_SPREAD = 0.26  # the points of splits are spread by this share of a row to either side


def plot_gap(
    reports: BinaryReport | Sequence[BinaryReport] | Mapping[str, BinaryReport | Sequence[BinaryReport]],
    *,
    axes: ArrayLike | None = None,
) -> NDArray[Any]:
    """Draw the coverage gap of methods, and their coverage beside it: a row for each, a point for each split.

    On the left, a bar is the mean coverage gap: the mean distance of the coverage of an image from 1 - alpha. On the
    right, the diamond is the mean coverage, and the dashed line is 1 - alpha, which the coverage should reach. The
    small points are single reports, such as those of random splits: they show the random variation. A small gap alone
    is not enough: look at the size of the masks too.

    Parameters
    ----------
    reports : dict from name to BinaryReport or sequence of BinaryReport; or one of these alone
        What ``calibrator.evaluate(P, y)`` returns, at one alpha: once, or for each of several splits.
    axes : array-like of matplotlib Axes, optional
        Two axes to draw on; by default side by side in a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
        The axes of the gap and of the coverage.

    Raises
    ------
    ValueError
        If there is no report, alphas differ, or there are fewer than two axes.
    TypeError
        If one of the reports is not a BinaryReport.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_coverage_histogram : Shows the coverage of single images.
    conformask.metrics.coverage_gap : Computes the gap of masks.

    References
    ----------
    "Enhancing Image-Conditional Coverage in Segmentation: Adaptive Thresholding via Differentiable Miscoverage Loss",
    under review in 2026, compares methods by this gap.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> P = rng.beta(rng.choice([1.0, 4.0], (120, 1, 1)), 1, (120, 8, 8))
    >>> y = np.ones(P.shape, bool)
    >>> kinds = {"one threshold": cm.BinaryRiskCalibrator(0.2), "COAT": cm.COATCalibrator(0.2)}
    >>> splits = [rng.permutation(120) for _ in range(3)]
    >>> reports = {
    ...     name: [kind.fit(P[s[:60]], y[s[:60]]).evaluate(P[s[60:]], y[s[60:]]) for s in splits]
    ...     for name, kind in kinds.items()
    ... }
    >>> gap, coverage = cm.plotting.plot_gap(reports)
    >>> [label.get_text() for label in gap.get_yticklabels()]
    ['one threshold', 'COAT']
    """
    rows = {name: _listed(each) for name, each in _named(reports).items()}
    alpha = common_alpha([report for row in rows.values() for report in row])
    if axes is None:
        height = 0.5 * len(rows) + 1.5
        figure = import_pyplot().figure(figsize=(8.4, height), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
    flat = flat_axes(axes)
    if len(flat) < 2:
        raise ValueError(f"axes must be two, for the gap and for the coverage, got {len(flat)}")
    left, right = flat[:2]
    gaps = [np.array([report.coverage_gap for report in row]) for row in rows.values()]
    coverages = [np.array([report.coverage for report in row]) for row in rows.values()]
    left.set_xlabel("coverage gap")
    right.set_xlabel("coverage")
    write_title(left, f"Distance from the target\n{alpha_text(alpha)}")
    write_title(right, "Mean coverage\n ")
    for ax in flat[:2]:
        ax.spines[["top", "right", "left"]].set_visible(False)
    if not np.isfinite(np.concatenate(gaps)).any():
        for ax in flat[:2]:
            say_empty(ax, "no images that count")
        return flat[:2]
    for y, (gap, coverage) in enumerate(zip(gaps, coverages, strict=True)):
        colour = LINES[y % len(LINES)]
        left.barh(y, _mean(gap), height=0.62, color=colour, alpha=0.3)
        right.plot(_mean(coverage), y, "D", color=colour, ms=7, zorder=3, clip_on=False)
        for ax, values in ((left, gap), (right, coverage)):
            if len(values) > 1:
                places = y + _SPREAD * np.linspace(-1, 1, len(values))
                ax.plot(values, places, "o", color=colour, ms=3.2, alpha=0.55, mew=0, clip_on=False)
            _tell(ax, y, _mean(values))
    right.axvline(1 - alpha, color=RED, lw=1.2, ls=(0, (5, 3)))
    right.annotate(
        r"$1 - \alpha$",
        (1 - alpha, 1),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
        color=RED,
    )
    left.set_xlim(0, 1.05 * max(float(np.nanmax(np.concatenate(gaps))), 1e-3))
    known = np.concatenate([*coverages, [1 - alpha]])
    low, high = float(np.nanmin(known)), float(np.nanmax(known))
    margin = max(0.08 * (high - low), 0.02)
    right.set_xlim(max(0.0, low - margin), min(1.0, high + margin))
    for ax in flat[:2]:
        ax.set_ylim(len(rows) - 0.45, -0.55)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="0.9", lw=0.8)
        ax.locator_params(axis="x", nbins=4)  # more numbers would touch
        ax.set_axisbelow(True)
    right.tick_params(axis="y", labelleft=False)
    return flat[:2]


def _named(reports: Any) -> Mapping[str, Any]:
    return reports if isinstance(reports, Mapping) else {"masks": reports}


def _listed(reports: Any) -> list[Any]:
    """The reports of one method, one for each split."""
    row = [reports] if isinstance(reports, BinaryReport) else listed(reports, "reports")
    if not row:
        raise ValueError("reports must be at least one for each method, got none")
    return row


def _mean(values: NDArray[np.float64]) -> float:
    """The mean of the values that are defined."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan


def _tell(ax: Axes, y: int, value: float) -> None:
    """Write a number to the right of a row."""
    text = "" if np.isnan(value) else f"{value:.3f}"
    ax.annotate(
        text, (1, y), (5, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center"
    )
