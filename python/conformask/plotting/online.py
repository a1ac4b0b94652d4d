"""Plots of streams over time: lambda and the mean loss, and the evidence for a drift."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._text import plural
from conformask.online import DriftAlarm, OnlineRiskController
from conformask.plotting._arguments import alpha_text
from conformask.plotting._axes import flat_axes, import_pyplot, new_axes, say_empty
from conformask.plotting._legend import legend_below
from conformask.plotting._palette import LINES, RED
from conformask.plotting._titles import write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_alarm", "plot_online"]

_BLUE, _GREY, _DOTS = LINES[0], "#777777", "#5f5f5f"
_DASHED = (0, (5, 3))
_LOWEST = -12.0  # the lowest power of ten of the evidence that a picture shows
_MOST_POINTS = 500  # up to so many losses are drawn one by one
_N_BLOCKS = 100  # more losses are drawn as the means of about so many blocks
_MOST_ABOVE = 3  # single losses may make the picture so many times as high as the curves
_BOUND = LINES[2]
_NEAR, _FREE = 0.08, 0.3  # margins beyond lambda's path, as shares of its range, without and with a text


def plot_online(controller: OnlineRiskController, *, axes: ArrayLike | None = None) -> NDArray[Any]:
    r"""Draw lambda of online control over time, and the mean loss with its bound.

    The upper plot shows lambda after each update. Outside of the white area the sets do not change: below 0 they are
    the smallest, from the largest lambda on they are full. The lower plot shows the mean of all losses so far, which
    tends to alpha (dashed) or stays below it, and the bound that this mean cannot exceed. Points are single losses;
    triangles at the upper edge are losses beyond it. With more than 500 losses the points are the means of about 100
    blocks, the last of which may be shorter. Of a long stream only the last updates are drawn, as many as the
    controller keeps (`history`).

    Parameters
    ----------
    controller : OnlineRiskController
        The controller. If it has no update, the plot tells so.
    axes : array-like of matplotlib Axes, optional
        Two axes to draw on; by default one above the other in a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (2,)
        The axes of lambda and of the mean loss.

    Raises
    ------
    TypeError
        If ``controller`` is not an OnlineRiskController.
    ValueError
        If there are fewer than two axes.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_alarm : Shows the evidence for a drift.
    conformask.OnlineRiskController.risk_bound_ : Holds the bound.

    References
    ----------
    Gibbs, Candès, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021, arXiv:2106.00170.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> controller = cm.OnlineRiskController(initial=0.5)
    >>> for u in np.random.default_rng(0).random(200):
    ...     _ = controller.update(float(u < 0.8 - controller.lambda_hat_))
    >>> above, below = cm.plotting.plot_online(controller)
    >>> below.get_ylabel()
    'loss'
    """
    if not isinstance(controller, OnlineRiskController):
        raise TypeError(f"controller must be an OnlineRiskController, got a {type(controller).__name__}")
    pyplot = import_pyplot()
    if axes is None:
        figure = pyplot.figure(figsize=(6.4, 5.2), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.2))
    flat = flat_axes(axes)
    if len(flat) < 2:
        raise ValueError(f"axes must be two, for lambda and for the mean loss, got {len(flat)}")
    above, below = flat[:2]
    for ax in flat[:2]:
        ax.spines[["top", "right"]].set_visible(False)
    settings, track = controller._now()
    write_title(
        above, f"Lambda and mean loss over time\n{alpha_text(controller.alpha)}, {_step_text(controller)}"
    )
    above.set_ylabel(r"$\lambda$")
    below.set_ylabel("loss")
    below.set_xlabel("update")
    updates, lambdas, losses, means = controller.history_
    if not len(updates):
        for ax in flat[:2]:
            say_empty(ax, "no update yet")
        return flat[:2]
    first, last = int(updates[0]), int(updates[-1])
    before = [track.lambda_at(0)] if first == 1 else []
    path = np.concatenate([before, lambdas])
    above.step(np.arange(last - len(path) + 1, last + 1), path, where="post", color=_BLUE, lw=1.4)
    _shade(above, path, settings.largest(track.n_classes))
    bounds = track.bound(updates.astype(np.float64))
    # The first means and bounds are over few losses, and would flatten the rest.
    settled = len(updates) // 10
    highest = max(float(controller.alpha), float(means[settled:].max()), float(bounds[-1]))
    _draw_losses(below, updates, losses, highest)
    below.plot(updates, means, color=_BLUE, lw=1.8, label=f"mean of all losses, now {means[-1]:.3g}")
    below.axhline(float(controller.alpha), color=RED, lw=1.3, ls=_DASHED, label=alpha_text(controller.alpha))
    below.plot(updates, bounds, color=_BOUND, lw=1.4, ls="-.", label=f"bound, now {bounds[-1]:.3g}")
    for ax in flat[:2]:
        ax.set_xlim(first - len(before), max(last, first + 1))
        _count_updates(ax)
    legend_below(below, below.get_legend_handles_labels()[0])
    return flat[:2]


def plot_alarm(alarm: DriftAlarm, *, ax: Axes | None = None) -> Axes:
    r"""Draw the martingale of an alarm over time, and the level at which it alarms.

    The martingale is the wealth of a bet against the hypothesis, on a logarithmic axis. If the hypothesis is true, the
    probability that it ever reaches the dashed line, :math:`1 / \delta`, is at most :math:`\delta`.

    Parameters
    ----------
    alarm : DriftAlarm
        The alarm. If it has no update, the plot tells so.
    ax : matplotlib Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    TypeError
        If ``alarm`` is not a DriftAlarm.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_online : Shows lambda and losses of online control.

    References
    ----------
    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2nd edition 2022,
    doi:10.1007/978-3-031-06649-8.

    Examples
    --------
    >>> import conformask as cm
    >>> alarm = cm.DriftAlarm("risk", alpha=0.1, bet=1)
    >>> alarm.update([1.0] * 6)
    True
    >>> ax = cm.plotting.plot_alarm(alarm)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['martingale, now 47', '$1/\\delta$ = 20', 'alarm at update 5']
    """
    if not isinstance(alarm, DriftAlarm):
        raise TypeError(f"alarm must be a DriftAlarm, got a {type(alarm).__name__}")
    ax = new_axes(ax)
    settings, watch = alarm._now()
    against = (
        "exchangeability"
        if settings.kind == "exchangeability"
        else "a mean loss within " + alpha_text(alarm.alpha)
    )
    write_title(
        ax, f"Evidence against {against}\nfalse alarm with probability {float(settings.delta):g} at most"
    )
    ax.set_xlabel("update")
    ax.set_ylabel("martingale")
    ax.spines[["top", "right"]].set_visible(False)
    logs = alarm.path_
    if not len(logs):
        say_empty(ax, "no update yet")
        return ax
    last, decade = watch.n_updates, math.log(10)
    is_whole = len(logs) == last
    path = np.concatenate([[0.0] if is_whole else [], logs]) / decade
    times = np.arange(last - len(path) + 1, last + 1)
    level = settings.threshold / decade
    now = f"martingale, now {_power_text(path[-1])}"
    ax.plot(times, np.maximum(path, _LOWEST - 1), color=_BLUE, lw=1.6, label=now)
    ax.axhline(level, color=RED, lw=1.2, ls=_DASHED, label=rf"$1/\delta$ = {_power_text(level)}")
    if watch.alarm_time is not None:
        _mark_alarm(ax, watch.alarm_time, times, path)
    low, high = max(float(path.min()), _LOWEST), max(float(path.max()), level)
    margin = 0.06 * (high - low)
    ax.set_ylim(low - margin, high + 2 * margin)
    ax.set_xlim(float(times[0]), max(float(times[-1]), float(times[0]) + 1))
    _count_updates(ax)
    _tick_powers(ax)
    ax.axhline(0, color="0.85", lw=0.8, zorder=0)
    legend_below(ax, ax.get_legend_handles_labels()[0])
    return ax


def _step_text(controller: OnlineRiskController) -> str:
    step, decay = float(controller.step), float(controller.decay)
    return rf"$\gamma$ = {step:g}" + (rf"$\cdot\,t^{{-{decay:g}}}$" if decay else "")


def _mark_alarm(ax: Axes, at: int, times: NDArray[np.int64], path: NDArray[np.float64]) -> None:
    """Mark the update of an alarm on the path, or say in the legend when it was if the path begins later."""
    label = f"alarm at update {at}"
    if at >= times[0]:
        height = path[at - int(times[0])]
        ax.plot([at], [height], "o", color=RED, ms=6, zorder=3, label=label)
    else:
        ax.plot([], [], " ", label=f"{label}, {plural(int(times[-1]) - at, 'update')} ago")


def _tick_powers(ax: Axes) -> None:
    """Tick whole powers of ten on an axis of logarithms."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{value:.0f}}}$"))


def _count_updates(ax: Axes) -> None:
    """Tick whole numbers alone."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))


def _draw_losses(ax: Axes, updates: NDArray[np.int64], losses: NDArray[np.float64], highest: float) -> None:
    """Draw losses, or means of blocks of them, and choose an upper edge for them and for curves of a given height."""
    size = 1 if len(losses) <= _MOST_POINTS else math.ceil(len(losses) / _N_BLOCKS)
    starts = np.arange(0, len(losses), size)
    ends = np.append(starts[1:], len(losses))
    heights = np.add.reduceat(losses, starts) / (ends - starts)
    times = (updates[starts] + updates[ends - 1]) / 2
    most = float(heights.max())
    top = min(1.02, max(1.15 * highest, 1.05 * most if most <= _MOST_ABOVE * highest else 0.0))
    beyond = heights > top
    # Few points are drawn large and dark, many points small and faint, so that the curves are seen.
    size_of_dot, opacity = (
        (5.5, 0.9) if len(heights) <= 60 else (4.0, 0.8) if len(heights) <= 200 else (3.0, 0.5)
    )
    look: dict[str, Any] = {"color": _DOTS, "mew": 0, "alpha": opacity}
    look |= {"clip_on": False, "zorder": 2.6}  # 0 lies on the axis
    label = "loss of an image" if size == 1 else f"mean of {size} losses"
    ax.plot(times[~beyond], heights[~beyond], "o", ms=size_of_dot, label=label, **look)
    if beyond.any():
        edge = np.full(np.count_nonzero(beyond), top)
        ax.plot(times[beyond], edge, "^", ms=size_of_dot + 2, label=f"higher, up to {most:.3g}", **look)
    ax.set_ylim(0, top)


def _shade(ax: Axes, path: NDArray[np.float64], largest: float) -> None:
    """Shade the lambdas beyond which sets do not change, if lambda comes near, and say why."""
    low, high = float(path.min()), float(path.max())
    span = max(high - low, 0.02)
    # Leave room for the text beyond the path.
    low -= (_FREE if low < _NEAR * span else _NEAR) * span
    high += (_FREE if high > largest - _NEAR * span else _NEAR) * span
    ax.set_ylim(low, high)
    for start, stop, words, place in (
        (low, 0.0, "smallest sets", "bottom"),
        (largest, high, "full sets", "top"),
    ):
        if start < stop:
            ax.axhspan(start, stop, color="0.5", alpha=0.14, lw=0)
            y = 0.03 if place == "bottom" else 0.97
            ax.text(
                0.99, y, words, transform=ax.transAxes, ha="right", va=place, fontsize="small", color=_GREY
            )


def _power_text(decades: float) -> str:
    """A number by its decimal logarithm, which may be too large for a float."""
    if -3 <= decades <= 5:
        return f"{10**decades:.3g}"
    return "0" if math.isinf(decades) else rf"$10^{{{decades:.3g}}}$"
