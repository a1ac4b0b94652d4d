"""The risk curve: how risk falls as lambda grows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask.control import CRC, Method, as_method
from conformask.plotting._arguments import lambda_text
from conformask.plotting._axes import new_axes
from conformask.plotting._legend import legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_risk_curve"]


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


def plot_risk_curve(
    calibrator_or_curve: _Fitted | tuple[ArrayLike, ArrayLike],
    *,
    alpha: float | None = None,
    n_images: int | None = None,
    xscale: Literal["auto", "linear", "log"] = "auto",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw the empirical risk against lambda, and where conformal risk control cuts it.

    The curve is a falling step function. Lambda-hat is the smallest lambda at which it is at or
    below :math:`\alpha - (1 - \alpha) / n`, which makes the expected risk of a new image at most
    :math:`\alpha`. With groups n counts groups, and with weights it is their sum.

    Parameters
    ----------
    calibrator_or_curve : ConformalRiskCalibrator or (lambdas, risks)
        A fitted calibrator, or a curve such as its ``risk_curve()`` returns. Without a calibration
        image there is no curve: the picture says so.
    alpha : float, optional
        The risk level, in (0, 1); by default the calibrator's, whose lambda-hat is then marked.
    n_images : int, optional
        Number of calibration images, for the bound; by default the calibrator's.
    xscale : {"auto", "linear", "log"}, default="auto"
        "log" spreads the axis towards its right end, where a good model has all its action:
        0, 0.9, 0.99 and 0.999 are then equally far apart. "auto" takes it if it helps.
    ax : matplotlib Axes, optional
        Where to draw; by default, on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If the curve is no pair of equally long arrays with ascending lambdas, or ``alpha`` or
        ``n_images`` is out of range.
    TypeError
        If ``calibrator_or_curve`` is neither.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    conformask.ConformalRiskCalibrator.risk_curve : The curve.

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
    weighted: float | None = None
    allowed_by = "the weights"
    if not isinstance(calibrator_or_curve, tuple | list):
        alpha = calibrator_or_curve.alpha if alpha is None else alpha
        if n_images is None:
            n_images, weighted = calibrator_or_curve.n_images_, calibrator_or_curve.risk_limit(alpha)
            method = as_method(calibrator_or_curve.method)
            allowed_by = allowed_by if isinstance(method, CRC) else type(method).__name__
    ax = new_axes(ax)
    ax.set_xlabel(r"$\lambda$")
    ax.set_ylabel("empirical risk")
    ax.spines[["top", "right"]].set_visible(False)
    if n_images == 0:
        ax.text(0.5, 0.5, "no calibration images", transform=ax.transAxes, ha="center", va="center")
        ax.set_xticks([])
        ax.set_yticks([])
        return ax
    ax.step(lambdas, risks, where="post", color="#1f4e79", lw=1.8, label="empirical risk")
    if alpha is not None:
        ax.axhline(alpha, color="#c0392b", lw=1.3, label=rf"$\alpha$ = {alpha:g}")
    if alpha is not None and n_images is not None:
        limit = alpha - (1 - alpha) / n_images
        text = rf"$\alpha - (1 - \alpha)/n$ = {limit:.4g}, n = {n_images}"
        if weighted is not None and abs(weighted - limit) > 1e-12:
            limit, text = weighted, f"risk allowed by {allowed_by} = {weighted:.4g}, n = {n_images}"
        ax.axhline(limit, color="#c0392b", lw=1.1, ls=(0, (5, 3)), label=text)
    if marked is not None:
        lam, risk = marked
        ax.axvline(lam, color="#444444", lw=1, ls=":")
        text = rf"$\hat\lambda$ = {lambda_text(lam)}, risk {risk:.4g}"
        ax.plot([lam], [risk], "o", color="#444444", ms=6, label=text)
    _scale_lambda(ax, lambdas, risks, xscale)
    ax.set_ylim(0, 1.08 * max(float(risks.max()), alpha or 0, 1e-3))
    legend_below(ax, ax.get_legend_handles_labels()[0], ncols=2)
    return ax


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
        if alpha is None or alpha == source.alpha:
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
    # As close to the end as the curve still has a fiftieth of its height to fall, at most to 1e-6.
    high = lambdas[(risks > 0.02 * risks.max()) & (lambdas < end)]
    decades = int(np.clip(math.ceil(-math.log10(end - high[-1])), 2, 6)) if high.size else 2
    floor = 10.0**-decades

    def forward(lam: ArrayLike) -> NDArray[np.float64]:
        return -np.log10(np.maximum(end - np.asarray(lam, float), 0) + floor)

    def inverse(t: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(end + floor - 10.0 ** -np.asarray(t, float))

    ax.set_xscale("function", functions=(forward, inverse))
    ax.set_xlim(min(0.0, float(lambdas[0])), end)
    ticks = [0.0, 0.5] + [end - 10.0**-d for d in range(1, decades + 1)] + [end]
    ax.set_xticks(ticks, [f"{tick:.7g}" for tick in ticks])
    ax.minorticks_off()
