"""The risk of classes or strata that have lambdas of their own, against the level of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from conformask.plotting._arguments import alpha_text
from conformask.plotting._rows import (
    drawn_rows,
    lambda_column,
    left_out_text,
    row_axes,
    row_legend,
    write_column,
)
from conformask.plotting._titles import write_title
from conformask.plotting.reports import BLUE, RED, asked_of
from conformask.report import RiskReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_part_risk"]

_REACH = 12.4  # width of the columns, in widths of an m


def plot_part_risk(
    report: RiskReport,
    *,
    parts: Sequence[int | str] | None = None,
    order: Literal["risk", "given"] = "risk",
    ax: Axes | None = None,
) -> Axes:
    """Draw the risk of each class or stratum that has a lambda of its own, with its interval, against alpha.

    The dashed line is alpha (alpha / K with ``simultaneous="bonferroni"``). The expected risk of each class (stratum)
    is at most this level, on average over calibration sets or with confidence; the risks of one test set vary around
    their expectations. A hollow point is a class (stratum) that had too few calibration images: its guarantee is kept
    by full sets, or there is none. The columns on the right show the lambdas, with as many decimals as differ, and the
    numbers of calibration images.

    Parameters
    ----------
    report : RiskReport
        What ``evaluate`` of a calibrator with ``conditional="class"`` or ``fit(strata=)`` returns.
    parts : sequence of int or str, optional
        The classes or strata to draw, by index or name; by default all, or the 40 with the largest risks.
    order : {"risk", "given"}, default="risk"
        "risk" puts the largest risk first, and those without a test image last; "given" is the order of the report.
    ax : matplotlib Axes, optional
        Where to draw; by default, on a new figure that is as large as names and rows need. Among other axes they have
        room in a figure with ``layout="constrained"``.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If the report has no such parts, or an argument is out of range.
    TypeError
        If ``report`` is not a RiskReport, or parts are neither indices nor names.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_class_risk : Shows the miss rate of each class, whether it is controlled or not.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet([3, 1], size=(40, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (rng.random((40, 8, 8)) < X[:, 1]).astype(int)
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.2, conditional="class").fit(X[:20], y[:20])
    >>> ax = cm.plotting.plot_part_risk(calibrator.evaluate(X[20:], y[20:], class_names=["road", "pole"]))
    >>> ax.get_title()
    'Risk of each class'
    """
    known = asked_of(report, "parts")
    if order not in ("risk", "given"):
        raise ValueError(f"order must be 'risk' or 'given', got {order!r}")
    names, every = [row.name for row in known], [row.risk for row in known]
    rows = [known[k] for k in drawn_rows(parts, names, every, "parts", by_risk=order == "risk")]
    ax = row_axes(ax, [row.name for row in rows], _REACH)
    units = "images" if report.n_groups is None else "groups"
    risks, low, high = np.array([(row.risk, *row.interval) for row in rows], np.float64).T
    place, rare = np.arange(len(rows)), np.array([row.is_rare for row in rows])
    look: dict[str, Any] = {"ms": 5.5, "clip_on": False, "zorder": 3}
    ax.hlines(place, low, high, color=BLUE, lw=4, alpha=0.3)
    ax.plot(risks[~rare], place[~rare], "o", color=BLUE, **look)
    if rare.any():
        label = "rare: too few calibration images"
        ax.plot(risks[rare], place[rare], "o", color="white", mec=BLUE, label=label, **look)
    level = report.alpha if report.part_alpha is None else report.part_alpha
    label = alpha_text(level) if level == report.alpha else rf"$\alpha / K$ = {level:.3g}"
    ax.axvline(level, color=RED, lw=1.2, ls=(0, (5, 3)), label=label)
    ax.set_xlim(0, min(1.0, 1.05 * float(np.nanmax([*risks, *high, 1.2 * level]))))
    ax.set_xlabel(f"risk, mean over its {units}\n({100 * report.interval_level:g} % interval)")
    write_column(ax, 5.8, r"$\hat\lambda$", lambda_column([row.lambda_hat for row in rows]))
    counts = [f"{row.n_calibration}" + (f" of {row.n_needed}" if row.n_needed else "") for row in rows]
    write_column(ax, _REACH, f"calibration\n{units}", counts)
    for y in np.flatnonzero(np.isnan(risks)):
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        where: dict[str, Any] = {"ha": "center", "va": "center", "bbox": ground}
        where["xycoords"] = ("axes fraction", "data")
        ax.annotate("no test image", (0.5, y), **where)
    left_out = left_out_text(len(rows), len(known), parts, "with the largest risk")
    write_title(ax, f"Risk of each {report.by}{left_out}", pad=32)
    row_legend(ax, ax.get_legend_handles_labels()[0])
    return ax
