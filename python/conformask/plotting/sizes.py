"""The benefit of more calibration images: how close to alpha the mean loss may come."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from conformask._exact import as_fraction, check_alpha
from conformask._sample_sizes import MOST_IMAGES, allowed_risk, images_allowing
from conformask._text import shown
from conformask.control import CRC, PAC, RCPS, Method
from conformask.plotting._arguments import alpha_text
from conformask.plotting._axes import new_axes
from conformask.plotting._legend import legend_below
from conformask.plotting._palette import LINES, RED
from conformask.plotting._titles import write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_required_images"]

_LEAST_ALPHA = Fraction(1, 10**5)
_LAST = 1000  # the axis ends at 1000 / alpha images, where CRC loses a thousandth of alpha
_N_POINTS = 160


def plot_required_images(alpha: float = 0.1, delta: float = 0.1, *, ax: Axes | None = None) -> Axes:
    r"""Draw the mean loss on calibration images that is allowed, against their number.

    There is a curve for each method of control: with this number of images, *or more*, the mean loss on them may be
    this high. The closer it is to alpha, the smaller the sets. A curve begins with the smallest number of images that
    the method needs. With :class:`~conformask.CRC` the gap to alpha shrinks as :math:`1 / n`, with the methods that
    have the confidence :math:`1 - \delta` as :math:`1 / \sqrt n`. PAC is for losses that are 0 or 1, and is drawn in
    steps, because it allows a whole number of images with loss 1. The curves of PAC and RCPS are computed at 160
    losses.

    Parameters
    ----------
    alpha : float in [1e-5, 1), default=0.1
        The risk level.
    delta : float in (0, 1), default=0.1
        One minus the confidence of PAC and RCPS.
    ax : matplotlib Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    TypeError, ValueError
        If a level is not a number, or out of range.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    conformask.metrics.required_images : Computes these numbers.

    Examples
    --------
    >>> from conformask.plotting import plot_required_images
    >>> ax = plot_required_images(0.1, delta=0.1)
    >>> [text.get_text() for text in ax.get_legend().get_texts()][1:]
    ['CRC, on average: from 9 on', 'PAC, losses 0 or 1, confidence 90 %: from 22 on',
    'RCPS, confidence 90 %: from 22 on']
    """
    level = check_alpha(alpha)
    if level < _LEAST_ALPHA:
        raise ValueError(f"alpha must be at least {float(_LEAST_ALPHA):g}, got {shown(alpha)}")
    methods: list[Method] = [CRC(), PAC(delta), RCPS(delta)]
    confidence = f"confidence {100 * float(1 - as_fraction(delta, 'delta')):g} %"
    words = ["CRC, on average", f"PAC, losses 0 or 1, {confidence}", f"RCPS, {confidence}"]
    ax = new_axes(ax)
    end = min(int(_LAST / level), MOST_IMAGES)
    ax.axhline(float(level), color=RED, lw=1.3, ls=(0, (5, 3)), label=alpha_text(alpha))
    for method, name, colour in zip(methods, words, LINES, strict=False):
        sizes, risks = _curve(method, level, end)
        label = f"{name}: from {method.n_needed(level):,} on"
        ax.step(sizes, risks, where="post", color=colour, lw=1.8, label=label)
        # PAC and RCPS begin at the same point, which is drawn as a ring around a dot.
        look = {"mfc": "none", "mew": 1.8, "ms": 10.0} if isinstance(method, PAC) else {"ms": 5.0}
        ax.plot(sizes[:1], risks[:1], "o", color=colour, clip_on=False, zorder=3, **look)
    ax.set_xscale("log")
    ax.set_xlim(0.75 * methods[0].n_needed(level), end)  # the first point lies off the axis
    ax.set_ylim(0, 1.06 * float(level))
    ax.xaxis.set_major_formatter(lambda n, _: f"{n:,.0f}")
    write_title(ax, "What more images allow")
    ax.set_xlabel("calibration images")
    ax.set_ylabel("allowed mean calibration loss")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="0.9", lw=0.8)
    ax.set_axisbelow(True)
    legend_below(ax, ax.get_legend_handles_labels()[0])
    return ax


def _curve(method: Method, alpha: Fraction, end: int) -> tuple[list[int], list[float]]:
    """Numbers of images up to `end`, and which mean loss they allow from there on."""
    if isinstance(method, CRC):  # it allows more with every image
        sizes = np.unique(np.geomspace(method.n_needed(alpha), end, _N_POINTS).astype(int)).tolist()
        return sizes, [float(allowed_risk(method, n, alpha)) for n in sizes]
    # With little confidence more than alpha may be allowed, which is of no interest.
    most = min(allowed_risk(method, end, alpha), alpha * Fraction(_LAST - 1, _LAST))
    if most < 0:
        return [], []
    # The closer to alpha, the more images each step costs.
    shares = 1 - np.geomspace(1, 1 - float(most / alpha), _N_POINTS)
    risks = [min(Fraction(share) * alpha, most) for share in shares.tolist()]
    drawn = [(n, float(risk)) for risk in risks if (n := images_allowing(method, alpha, risk)) <= end]
    return [*(n for n, _ in drawn), end], [*(risk for _, risk in drawn), drawn[-1][1]]
