"""The risk curve: how risk falls as lambda grows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._text import lambda_text
from conformask.control import CRC, Method, as_method
from conformask.plotting._arguments import alpha_text
from conformask.plotting._axes import new_axes, say_empty
from conformask.plotting._legend import legend_below
from conformask.plotting._palette import LINES, RED
from conformask.plotting._titles import write_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from conformask._units import Units

__all__ = ["plot_risk_curve"]

_FORMULA = r"$\alpha - (1 - \alpha)/n$"


class _Fitted(Protocol):
    """What a risk curve needs of a calibrator."""

    @property
    def alpha(self) -> float: ...
    @property
    def method(self) -> Method | str: ...
    @property
    def lambda_hat_(self) -> float: ...
    @property
    def risk_(self) -> float: ...
    @property
    def n_images_(self) -> int: ...
    def risk_limit(self, alpha: float | None = None) -> float: ...
    def risk_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
    def _units(self) -> Units | None: ...


def plot_risk_curve(
    calibrator_or_curve: _Fitted | tuple[ArrayLike, ArrayLike],
    *,
    alpha: float | None = None,
    n_images: int | None = None,
    xscale: Literal["auto", "linear", "log"] = "auto",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw the empirical risk against lambda, and the lambda-hat of conformal risk control.

    The curve is a falling step function. Lambda-hat is the smallest lambda at which it is at or
    below :math:`\alpha - (1 - \alpha) / n`, which makes the expected risk of a new image at most
    :math:`\alpha`. With groups n counts groups, and with weights it is their sum. Where n is too small
    for :math:`\alpha`, no risk is low enough: the legend says so, and full sets are marked as such.

    Parameters
    ----------
    calibrator_or_curve : ConformalRiskCalibrator or (lambdas, risks)
        A fitted calibrator, or a curve such as its ``risk_curve()`` returns. Without a calibration
        image there is no curve: the picture says so.
    alpha : float, optional
        The risk level, in (0, 1); by default the calibrator's, whose lambda-hat is then marked.
    n_images : int, optional
        Number of calibration images, for the limit; by default the calibrator's.
    xscale : {"auto", "linear", "log"}, default="auto"
        "log" spreads the axis towards its right end, where the risk of a good model changes most:
        0, 0.9, 0.99 and 0.999 are then equally far apart, and the axis label tells that it is not
        linear. "auto" chooses "log" if it helps.
    ax : matplotlib Axes, optional
        The axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If the curve is not a pair of equally long arrays with ascending lambdas, or ``alpha`` or
        ``n_images`` is out of range.
    TypeError
        If ``calibrator_or_curve`` is of another type.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    conformask.ConformalRiskCalibrator.risk_curve : Computes the curve.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> from conformask.plotting import plot_risk_curve
    >>> ax = plot_risk_curve(([0.0, 0.5, 1.0], [0.2, 0.1, 0.0]), alpha=0.15, n_images=99)
    >>> [text.get_text() for text in ax.get_legend().get_texts()][1:]
    ['$\\alpha$ = 0.15', '$\\alpha - (1 - \\alpha)/n$ = 0.1414, n = 99']
    """
    if alpha is not None and not 0 < alpha < 1:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha}")
    if n_images is not None and n_images < 0:
        raise ValueError(f"n_images must be at least 0, got {n_images}")
    if xscale not in ("auto", "linear", "log"):
        raise ValueError(f"xscale must be 'auto', 'linear' or 'log', got {xscale!r}")
    lambdas, risks, marked = _curve(calibrator_or_curve, alpha)
    limit = None if alpha is None or not n_images else float(alpha - (1 - alpha) / n_images)
    words, count = _FORMULA, f"{n_images}"
    if not isinstance(calibrator_or_curve, tuple | list):
        alpha = calibrator_or_curve.alpha if alpha is None else alpha
        if n_images is None:
            n_images, limit, words, count = _limit(calibrator_or_curve, alpha)
    alpha = None if alpha is None else float(alpha)
    ax = new_axes(ax)
    write_title(ax, r"Empirical risk for each $\lambda$")
    ax.set_xlabel(r"$\lambda$")
    ax.set_ylabel("empirical risk")
    ax.spines[["top", "right"]].set_visible(False)
    if n_images == 0:
        say_empty(ax, "no calibration images")
        return ax
    ax.step(lambdas, risks, where="post", color="#1f4e79", lw=1.8, label="empirical risk")
    if alpha is not None:
        ax.axhline(alpha, color=RED, lw=1.3, ls=(0, (5, 3)), label=alpha_text(alpha))
    if limit is not None:
        text = f"{words} = {limit:.4g}, n = {count}"
        if limit >= 0:
            ax.axhline(limit, color=LINES[2], lw=1.4, ls="-.", label=text)
        else:
            ax.plot([], [], " ", label=f"infeasible: {text}")
    if marked is not None:
        lam, risk = marked
        ax.axvline(lam, color="#444444", lw=1, ls=":")
        full = " (full sets)" if limit is not None and limit < 0 else ""
        text = rf"$\hat\lambda$ = {lambda_text(lam)}{full}, risk {risk:.4g}"
        # The point is not clipped, because lambda-hat may lie at an end of the axis.
        ax.plot([lam], [risk], "o", color="#444444", ms=6, label=text, clip_on=False, zorder=3)
    _scale_lambda(ax, lambdas, risks, xscale)
    ax.set_ylim(0, 1.08 * max(float(risks.max()), alpha or 0, 1e-3))
    legend_below(ax, ax.get_legend_handles_labels()[0])
    return ax


def _limit(calibrator: _Fitted, alpha: float) -> tuple[int, float | None, str, str]:
    """Return n, the limit of the calibration risk, the limit's name, and n in words."""
    n, units, method = calibrator.n_images_, calibrator._units(), as_method(calibrator.method)
    if method.needs_single_images:  # it does not use a mean
        return n, None, "", ""
    limit = calibrator.risk_limit(alpha)
    count = f"{n} groups" if units is not None and units.grouped else f"{n} images"
    if not isinstance(method, CRC):
        return n, limit, f"limit for the mean calibration risk by {type(method).__name__}", count
    by_formula = n > 0 and abs(limit - float(alpha - (1 - alpha) / n)) <= 1e-12
    return n, limit, _FORMULA if by_formula else "limit for the mean calibration risk", count


def _curve(
    source: _Fitted | tuple[ArrayLike, ArrayLike], alpha: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float] | None]:
    """Return lambdas, risks and the point (lambda-hat, risk) to mark, if it is known."""
    marked = None
    if isinstance(source, tuple | list):
        pair: Any = source
    elif not hasattr(source, "risk_curve"):
        raise TypeError(
            "calibrator_or_curve must be a fitted ConformalRiskCalibrator or a pair (lambdas, risks), "
            f"got a {type(source).__name__}"
        )
    else:
        pair = source.risk_curve()
        if alpha is None or float(alpha) == float(source.alpha):
            marked = (float(source.lambda_hat_), float(source.risk_))
    if len(pair) != 2:
        raise ValueError(f"calibrator_or_curve must be a pair (lambdas, risks), got {len(pair)} members")
    lambdas, risks = (np.asarray(values, np.float64) for values in pair)
    if lambdas.ndim != 1 or lambdas.shape != risks.shape or lambdas.size == 0:
        raise ValueError(
            "calibrator_or_curve must hold lambdas and risks of one length, "
            f"got shapes {lambdas.shape} and {risks.shape}"
        )
    if np.any(np.diff(lambdas) < 0):
        raise ValueError("calibrator_or_curve must hold ascending lambdas")
    return lambdas, risks, marked


def _scale_lambda(ax: Axes, lambdas: NDArray[np.float64], risks: NDArray[np.float64], xscale: str) -> None:
    """Choose the scale of lambda: linear, or logarithmic in the distance to the right end."""
    end = max(1.0, float(lambdas[-1]))
    halfway = float(lambdas[np.argmax(risks <= 0.5 * risks.max())])
    if xscale == "linear" or (xscale == "auto" and halfway < 0.75 * end):
        ax.set_xlim(min(0.0, float(lambdas[0])), end)
        return
    # The scale ends where the curve still has to fall by a fiftieth of its height, at the latest at 1e-6.
    high = lambdas[(risks > 0.02 * risks.max()) & (lambdas < end)]
    decades = int(np.clip(math.ceil(-math.log10(end - high[-1])), 2, 6)) if high.size else 2
    floor = 10.0**-decades

    def forward(lam: ArrayLike) -> NDArray[np.float64]:
        return -np.log10(np.maximum(end - np.asarray(lam, float), 0) + floor)

    def inverse(t: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(end + floor - 10.0 ** -np.asarray(t, float))

    ax.set_xscale("function", functions=(forward, inverse))
    ax.set_xlim(min(0.0, float(lambdas[0])), end)
    ax.set_xlabel(rf"$\lambda$ (not linear: spread towards {end:g})")
    nines = [end - 10.0**-d for d in range(1, decades + 1)]
    ticks = _apart(ax, [(tick, float(forward(tick)), f"{tick:.7g}") for tick in (0.0, end, *nines, 0.5)])
    ax.set_xticks(*zip(*sorted(ticks.items()), strict=True))
    ax.minorticks_off()


def _apart(ax: Axes, wished: list[tuple[float, float, str]]) -> dict[float, str]:
    """Return the ticks whose texts do not touch those before them, given values, places and texts."""
    figure = ax.get_figure()
    assert figure is not None
    size = ax.xaxis.get_ticklabels()[0].get_fontproperties().get_size_in_points()
    points = 72 * ax.get_window_extent().width / figure.dpi
    whole = wished[1][1] - wished[0][1]  # both ends come first
    taken: list[tuple[float, float]] = []
    chosen = {}
    for value, place, text in wished:
        middle, half = points * (place - wished[0][1]) / whole, size * (0.32 * len(text) + 0.4)
        if all(middle + half <= left or middle - half >= right for left, right in taken):
            taken.append((middle - half, middle + half))
            chosen[value] = text
    return chosen
