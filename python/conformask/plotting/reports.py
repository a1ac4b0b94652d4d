"""Plots of reports: the risk of each class, and risk and set size for each alpha."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask.plotting._arguments import level_text
from conformask.plotting._axes import flat_axes, import_pyplot, say_empty
from conformask.plotting._legend import legend_below
from conformask.plotting._rows import drawn_rows, left_out_text, row_axes, row_legend, write_column
from conformask.plotting._titles import write_title
from conformask.report import RiskReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BLUE", "RED", "asked_of", "plot_alpha_sweep", "plot_class_risk"]

BLUE, RED = "#1f4e79", "#c0392b"
_REACH = 8.8  # width of the columns, in widths of an m


def plot_class_risk(
    report: RiskReport,
    *,
    classes: Sequence[int | str] | None = None,
    order: Literal["risk", "label"] = "risk",
    ax: Axes | None = None,
) -> Axes:
    """Draw which classes the sets miss: the miss rate of each, with its interval, and the mean size of its sets.

    Alpha limits the mean loss, not the miss rate of each class: rare and small classes may be missed far more often.
    Rates and sizes of a class are means over the images that contain it, or over their groups. The dashed line is the
    mean share of missed pixels of all classes, over all images (groups). The columns on the right show the mean number
    of classes in the sets of the class's pixels, and the number of images that contain the class.

    Parameters
    ----------
    report : RiskReport
        What ``calibrator.evaluate(X, y)`` returns.
    classes : sequence of int or str, optional
        The classes to draw, by index or name; by default all, or the 40 that are missed most.
    order : {"risk", "label"}, default="risk"
        "risk" puts the class first that is missed most, and classes without an image last; "label" is the order of
        labels.
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
        If the report has no classes, or an argument is out of range.
    TypeError
        If ``report`` is not a RiskReport, or classes are neither indices nor names.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_alpha_sweep : Shows risk and set size for each alpha.
    conformask.FalseNegativeLoss : Controls the miss rate of chosen classes.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet([3, 1], size=(40, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (rng.random((40, 8, 8)) < X[:, 1]).astype(int)
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.2).fit(X[:20], y[:20])
    >>> ax = cm.plotting.plot_class_risk(calibrator.evaluate(X[20:], y[20:], class_names=["road", "pole"]))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['pole', 'road']
    """
    known = asked_of(report, "classes")
    if order not in ("risk", "label"):
        raise ValueError(f"order must be 'risk' or 'label', got {order!r}")
    names, every = [row.name for row in known], [row.miss_rate for row in known]
    rows = [known[k] for k in drawn_rows(classes, names, every, "classes", by_risk=order == "risk")]
    ax = row_axes(ax, [row.name for row in rows], _REACH)
    rates, low, high = np.array([(row.miss_rate, *row.miss_rate_interval) for row in rows], np.float64).T
    place, overall = np.arange(len(rows)), 1 - report.coverage
    units = "images" if report.n_groups is None else "groups"
    ax.hlines(place, low, high, color=BLUE, lw=4, alpha=0.3)
    ax.plot(rates, place, "o", color=BLUE, ms=5.5, clip_on=False, zorder=3)
    ax.set_xlim(0, min(1.0, 1.05 * float(np.nanmax([*rates, *high, overall, 1e-3]))))
    ax.set_xlabel(f"miss rate, mean over its {units}\n({100 * report.interval_level:g} % interval)")
    write_column(
        ax, 4.4, "mean\nset size", ["" if np.isnan(row.set_size) else f"{row.set_size:.2f}" for row in rows]
    )
    write_column(ax, _REACH, "images\nwith it", [str(row.n_images) for row in rows])
    for y in np.flatnonzero(np.isnan(rates)):
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 2}
        ax.annotate(
            "in no image", (0.5, y), xycoords=("axes fraction", "data"), ha="center", va="center", bbox=ground
        )
    level = level_text(report.alpha, report.lambda_hat)
    left_out = left_out_text(len(rows), len(known), classes, "that are missed most")
    write_title(ax, f"Miss rate of each class{left_out}\n{level}", pad=32)
    if not np.isnan(overall):
        label = f"pixels of any class,\nmean over {units}: {overall:.3g}"
        ax.axvline(overall, color=RED, lw=1.2, ls=(0, (5, 3)), label=label)
    row_legend(ax, ax.get_legend_handles_labels()[0])
    return ax


def plot_alpha_sweep(report: RiskReport, *, axes: ArrayLike | None = None) -> NDArray[Any]:
    """Draw risk and set size for each alpha: the risk on the evaluated images, and the mean size of the sets.

    The dashed line is risk = alpha: the guarantee is that the expected risk lies on this line or below. The risk of one
    test set varies around its expectation, as its interval shows. A hollow point is an alpha with too few calibration
    images: its sets are full, and miss nothing. If no image counts, the plot tells so.

    Parameters
    ----------
    report : RiskReport
        What ``calibrator.evaluate(X, y, alphas=[...])`` returns.
    axes : array-like of matplotlib Axes, optional
        Two axes to draw on; by default one above the other in a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
        The axes of the risk and of the set size.

    Raises
    ------
    ValueError
        If the report has no sweep, or there are fewer than two axes.
    TypeError
        If ``report`` is not a RiskReport.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_risk_curve : Shows the risk for every lambda.
    plot_class_risk : Shows the miss rate of each class.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet([3, 1], size=(40, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (rng.random((40, 8, 8)) < X[:, 1]).astype(int)
    >>> calibrator = cm.ConformalRiskCalibrator().fit(X[:20], y[:20])
    >>> report = calibrator.evaluate(X[20:], y[20:], alphas=[0.2, 0.1])
    >>> above, below = cm.plotting.plot_alpha_sweep(report)
    >>> below.get_lines()[0].get_xdata().tolist()
    [0.1, 0.2]
    """
    points = sorted(asked_of(report, "sweep"), key=lambda point: point.alpha)
    if axes is None:
        figure = import_pyplot().figure(figsize=(6.4, 5.2), layout="constrained")
        axes = figure.subplots(2, sharex=True)
    flat = flat_axes(axes)
    if len(flat) < 2:
        raise ValueError(f"axes must be two, for the risk and for the set size, got {len(flat)}")
    above, below = flat[:2]
    alphas, risks, low, high, sizes = np.array(
        [(p.alpha, p.empirical_risk, *p.interval, p.activation_ratio) for p in points], np.float64
    ).T
    write_title(above, r"Risk and set size for each $\alpha$")
    above.set_ylabel("empirical risk")
    below.set_ylabel("mean set size")
    below.set_xlabel(r"$\alpha$")
    for ax in (above, below):
        ax.spines[["top", "right"]].set_visible(False)
    if np.isnan(risks).all():
        for ax in (above, below):
            say_empty(ax, "no images that count")
        return flat[:2]
    full = np.array([point.infeasible for point in points])
    # Many points, because the line is curved on a logarithmic axis.
    first, last = (alphas[0], alphas[-1]) if alphas[0] < alphas[-1] else (0.5 * alphas[0], 1.5 * alphas[0])
    limit = np.geomspace(first, last, 200)
    above.plot(limit, limit, color=RED, lw=1.2, ls=(0, (5, 3)), marker="none", label=r"risk = $\alpha$")
    if not full.all():
        interval = f"{100 * points[0].interval_level:g} % interval"
        above.vlines(alphas[~full], low[~full], high[~full], color=BLUE, lw=4, alpha=0.3, label=interval)
    look: dict[str, Any] = {"ms": 5, "clip_on": False, "zorder": 3}  # a risk of 0 lies on the axis
    above.plot(alphas, risks, "-o", color=BLUE, lw=1.4, label="risk", **look)
    below.plot(alphas, sizes, "-o", color=BLUE, lw=1.4, **look)
    if full.any():
        for ax, heights in ((above, risks), (below, sizes)):
            ax.plot(
                alphas[full],
                heights[full],
                "o",
                color="white",
                mec=BLUE,
                label="too few images: full sets",
                **look,
            )
    above.set_ylim(bottom=0)
    least, most = min(1.0, float(sizes.min())), float(sizes.max())
    margin = 0.06 * (most - least or 1.0)
    below.set_ylim(least - margin, most + margin)
    for ax in (above, below):
        _scale_alpha(ax, float(alphas[-1] / alphas[0]))
        ax.set_xticks(alphas, minor=True)
        ax.grid(color="0.9", lw=0.8)
        ax.set_axisbelow(True)
    legend_below(below, above.get_legend_handles_labels()[0])
    return flat[:2]


def _scale_alpha(ax: Axes, ratio: float) -> None:
    """Choose the scale of alpha: logarithmic over a decade or more; round numbers that do not touch are labelled."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    room = ax.xaxis.get_tick_space()
    if ratio < 9.99:
        ax.xaxis.set_major_locator(MaxNLocator(min(6, max(2, room // 2)), steps=[1, 2, 2.5, 5, 10]))
    else:
        ax.set_xscale("log")
        share = room / np.log10(ratio)  # how many labels have room in a decade
        subs = (1.0, 2.0, 5.0) if share > 4.5 else (1.0, 3.0) if share > 2.8 else (1.0,)
        ax.xaxis.set_major_locator(LogLocator(subs=subs))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda alpha, _: f"{alpha:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())


def asked_of(report: RiskReport, what: Literal["classes", "parts", "sweep"]) -> list[Any]:
    """The rows or the reports that a risk report holds."""
    if not isinstance(report, RiskReport):
        raise TypeError(
            f"report must be a RiskReport, as calibrator.evaluate(X, y) returns, got a {type(report).__name__}"
        )
    found = list(getattr(report, what))
    if not found:
        needed = {
            "sweep": "evaluate(X, y, alphas=[...]) gives one",
            "classes": "evaluate(X, y) gives them",
            "parts": "evaluate gives those of conditional='class' and of fit(strata=)",
        }
        raise ValueError(f"report has no {what}: {needed[what]}")
    return found
