"""Pictures of what a calibrator says: where a model is unsure, which labels it holds, how risk falls.

Matplotlib is imported when the first picture is drawn; ``pip install conformask[plot]`` brings it.
Each function draws on given axes, or on new ones, and returns them; none shows or saves a figure.

Examples
--------
>>> import matplotlib
>>> matplotlib.use("Agg")
>>> import numpy as np
>>> from conformask.plotting import plot_varisco
>>> ax = plot_varisco(np.array([[1, 2], [3, 1]]), n_classes=3)
>>> ax.get_title()
'Classes in the set of each pixel'
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask._arrays import clean_bools
from conformask._sequences import listed, listed_by_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.patches import Patch

__all__ = [
    "plot_components",
    "plot_mask_panels",
    "plot_masks",
    "plot_risk_curve",
    "plot_samples",
    "plot_varisco",
]

_VOID_GREY = 0.62
_EMPTY = (0.35, 0.85, 0.9, 1.0)  # no sequential map holds cyan: an empty set is no small set


class _Fitted(Protocol):
    """What a risk curve needs of a calibrator."""

    @property
    def alpha(self) -> float: ...
    @property
    def lambda_hat_(self) -> float: ...
    @property
    def risk_(self) -> float: ...
    @property
    def n_images_(self) -> int: ...
    def risk_limit(self, alpha: float | None = None) -> float: ...
    def risk_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...


class _Components(Protocol):
    """What a picture of components needs of a set."""

    @property
    def components(self) -> NDArray[np.float64]: ...
    @property
    def singular_values(self) -> NDArray[np.float64]: ...


def plot_varisco(
    heatmap: ArrayLike,
    image: ArrayLike | None = None,
    *,
    n_classes: int | None = None,
    vmax: int | None = None,
    labels: ArrayLike | None = None,
    ignore_index: int | None = 255,
    opacity: float = 0.9,
    cmap: str | Colormap = "inferno",
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the varisco heatmap of one image: how many classes each pixel may have.

    Pixels whose set holds one class are left transparent, so that the image, in grey, shows where
    the model is sure. The brighter a pixel, the more classes its set holds.

    Parameters
    ----------
    heatmap : array-like, shape (H, W)
        Either integers, as ``calibrator.set_size(X)[i]``, or floats in [0, 1], as
        ``calibrator.varisco(X)[i]``.
    image : array-like, shape (H, W) or (H, W, 3), optional
        The image beneath, uint8 or floating in [0, 1]. Without it the ground is dark.
    n_classes : int, optional
        Number of classes K. It turns a heatmap normalised by K back into counts and is the end of
        the colour scale. Floats without it are drawn on a continuous scale, more opaque as they
        grow; leave it out for ``normalize="max"``.
    vmax : int, optional
        Largest count on the colour scale; by default ``n_classes``, else the largest count.
    labels : array-like of int, shape (H, W), optional
        True labels; pixels of ``ignore_index`` are drawn in flat grey.
    ignore_index : int or None, default=255
        The label of void pixels.
    opacity : float, default=0.9
        Opacity of the coloured pixels, in (0, 1].
    cmap : str or Colormap, default="inferno"
        A sequential colour map; its darkest part is left out, to stand out from the image.
    colorbar : bool, default=True
        Whether to draw a colour bar to the right.
    ax : matplotlib Axes, optional
        Where to draw; by default, on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If an argument has a wrong shape or range, or the heatmap holds no multiples of
        ``1 / n_classes``.
    ImportError
        If Matplotlib is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_varisco
    >>> ax = plot_varisco(np.array([[0.25, 0.5], [1.0, 0.25]]), n_classes=4)
    >>> [int(tick) for tick in ax.child_axes[0].get_yticks()]
    [1, 2, 3, 4]
    """
    heatmap = _array("heatmap", heatmap, 2)
    if not 0 < opacity <= 1:
        raise ValueError(f"opacity must lie in (0, 1], got {opacity}")
    counts = _counts(heatmap, n_classes)
    void = _void(labels, ignore_index, heatmap.shape)
    backdrop = _backdrop(image, heatmap.shape)
    ax = _axes(ax)
    ax.imshow(backdrop, cmap="gray", vmin=0, vmax=1)
    if counts is None:
        _draw_continuous(ax, heatmap, cmap, opacity, colorbar)
    else:
        _draw_counts(ax, counts, vmax or n_classes, cmap, opacity, colorbar)
    if void.any():
        ax.imshow(_flat(void, (_VOID_GREY,) * 3))
    return _frameless(ax)


def plot_masks(
    mask: ArrayLike,
    image: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    ignore_index: int | None = 255,
    background: int | None = None,
    opacity: float = 0.85,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw a multi-labeled mask as one map: stripes where a pixel may have several classes.

    A pixel with one class has the plain colour of the class. Diagonal stripes carry the colours of
    all classes in the set: pink and purple stripes read "sidewalk or road". Pixels with no class
    stay bare.

    Parameters
    ----------
    mask : array-like of bool, shape (K, H, W)
        Which classes each pixel holds, as ``calibrator.predict(X)[i]``.
    image : array-like, shape (H, W) or (H, W, 3), optional
        The image beneath, uint8 or floating in [0, 1].
    class_names : sequence of str, length K, optional
        Names for the legend; by default "class 0", "class 1", ...
    palette : array-like, shape (K, 3), optional
        Colours, uint8 or floating in [0, 1]; by default well-separated ones.
    labels : array-like of int, shape (H, W), optional
        True labels; pixels of ``ignore_index`` are drawn in flat grey.
    ignore_index : int or None, default=255
        The label of void pixels.
    background : int, optional
        A class to leave without colour, so that the image shows through.
    opacity : float, default=0.85
        Opacity of the classes over the image, in (0, 1].
    legend : bool, default=True
        Whether to name the classes that occur, to the right.
    ax : matplotlib Axes, optional
        Where to draw; by default, on a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        The axes drawn on.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, dtype or range.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_mask_panels : One panel per class.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_masks
    >>> mask = np.array([[[True, True]], [[False, True]]])  # the right pixel holds both classes
    >>> ax = plot_masks(mask, class_names=["road", "sidewalk"])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['road', 'sidewalk', 'several possible']
    """
    mask, names, colours = _classes(mask, class_names, palette)
    if not 0 < opacity <= 1:
        raise ValueError(f"opacity must lie in (0, 1], got {opacity}")
    if background is not None and not 0 <= background < len(mask):
        raise ValueError(f"background must be from 0 to {len(mask) - 1}, got {background}")
    shape = mask.shape[1:]
    void = _void(labels, ignore_index, shape)
    ground = np.repeat(_backdrop(image, shape)[..., None], 3, axis=2)
    enlarge = max(1, round(960 / max(shape)))
    fine = np.repeat(np.repeat(ground, enlarge, 0), enlarge, 1)
    held = _striped(mask, enlarge)
    painted = (held >= 0) & (held != background)
    fine[painted] += opacity * (colours[held[painted]] - fine[painted])
    fine[np.repeat(np.repeat(void, enlarge, 0), enlarge, 1)] = _VOID_GREY
    ax = _axes(ax)
    ax.imshow(fine, extent=(-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5))
    if legend:
        several = bool(((mask.sum(0) > 1) & ~void).any())
        present = (mask & ~void).any((1, 2)) & (np.arange(len(mask)) != background)
        _legend(ax, names, colours, present, several=several, void=bool(void.any()))
    ax.set_title("Labels in the set of each pixel")
    return _frameless(ax)


def plot_mask_panels(
    mask: ArrayLike,
    image: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
    classes: Sequence[int] | None = None,
    n_columns: int = 4,
    axes: ArrayLike | None = None,
) -> NDArray[Any]:
    """Draw a multi-labeled mask class by class: surely, possibly, surely not.

    In the panel of a class, its full colour marks the pixels whose set holds this class alone; a
    light tint, those whose set holds others as well. The bare image is where the class is
    excluded.

    Parameters
    ----------
    mask : array-like of bool, shape (K, H, W)
        Which classes each pixel holds, as ``calibrator.predict(X)[i]``.
    image : array-like, shape (H, W) or (H, W, 3), optional
        The image beneath, uint8 or floating in [0, 1].
    class_names : sequence of str, length K, optional
        Titles of the panels; by default "class 0", "class 1", ...
    palette : array-like, shape (K, 3), optional
        Colours, uint8 or floating in [0, 1]; by default well-separated ones.
    classes : sequence of int, optional
        The classes to draw, in this order; by default all.
    n_columns : int, default=4
        Panels in a row of a new figure.
    axes : array-like of matplotlib Axes, optional
        Where to draw, at least one per class; by default, on a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        One per class drawn.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, dtype or range.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_masks : All classes in one map.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_mask_panels
    >>> mask = np.array([[[True, True]], [[False, True]]])
    >>> [ax.get_title() for ax in plot_mask_panels(mask, class_names=["road", "sidewalk"])]
    ['road', 'sidewalk']
    """
    mask, names, colours = _classes(mask, class_names, palette)
    chosen = list(range(len(mask))) if classes is None else listed(classes, "classes")
    if not chosen or not all(0 <= k < len(mask) for k in chosen):
        raise ValueError(f"classes must be from 0 to {len(mask) - 1} and at least one, got {chosen}")
    if n_columns < 1:
        raise ValueError(f"n_columns must be at least 1, got {n_columns}")
    backdrop = _backdrop(image, mask.shape[1:])
    title = "full colour: this class alone; light: one of several"
    panels = _panel_axes(axes, len(chosen), n_columns, mask.shape[2] / mask.shape[1], title=title)
    alone = mask.sum(0) == 1
    for k, ax in zip(chosen, panels, strict=True):
        ax.imshow(backdrop, cmap="gray", vmin=0, vmax=1)
        ax.imshow(_flat(mask[k] & alone, colours[k], 0.9) + _flat(mask[k] & ~alone, colours[k], 0.45))
        ax.set_title(names[k])
        _frameless(ax)
    return panels


def plot_components(
    consign_set: _Components,
    *,
    classes: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    n_components: int | None = None,
    cmap: str | Colormap = "RdBu_r",
    colorbar: bool = True,
    axes: ArrayLike | None = None,
) -> NDArray[Any]:
    """Draw the components of a set of segmentations: how the labels of an image may change together.

    One row per component, one column per class. Where a panel is red, the class gains as the coefficient of the
    component grows; where it is blue, it loses; where it is white, it stays. The colours of a row share one scale.

    Parameters
    ----------
    consign_set : ConsignSet
        The set of a two-dimensional image, as ``calibrator.predict(X)[i]``.
    classes : sequence of int, optional
        The classes to draw, in this order; by default the four that move most, ascending.
    class_names : sequence of str, length K, optional
        Titles of the columns; by default "class 0", "class 1", ...
    n_components : int, optional
        How many components to draw; by default all.
    cmap : str or Colormap, default="RdBu_r"
        A diverging colour map.
    colorbar : bool, default=True
        Whether to add a colour bar that says which colour gains.
    axes : array-like of matplotlib Axes, optional
        Where to draw, at least one per panel; by default, on a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (components, classes)
        The panels.

    Raises
    ------
    ValueError
        If an argument is out of range, the image is a volume, or nothing moves in the set.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_samples : The segmentations themselves.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> from conformask.plotting import plot_components
    >>> p = np.array([[[0.61, 0.8]], [[0.51, 0.8]], [[0.41, 0.8]]])
    >>> X, y = np.stack([p, 1 - p], axis=1), np.array([[1, 0]])
    >>> [found] = cm.ConsignCalibrator(1, alpha=0.5).fit([X], [y]).predict([X])
    >>> [[ax.get_title() for ax in row] for row in plot_components(found)]
    [['class 0', 'class 1']]
    """
    components = np.asarray(consign_set.components, np.float64)
    if components.ndim != 4:
        raise ValueError(
            f"consign_set must be of a two-dimensional image, got components of shape {components.shape}"
        )
    if len(components) == 0:
        raise ValueError("consign_set has no components: the samples of the image are all alike")
    k = components.shape[1]
    n = len(components) if n_components is None else n_components
    if not 1 <= n <= len(components):
        raise ValueError(f"n_components must be from 1 to {len(components)}, got {n}")
    components = components[:n]
    if classes is None:
        # Ties to the lower class.
        chosen = sorted(np.argsort(-np.square(components).sum((0, 2, 3)), kind="stable")[:4].tolist())
    else:
        chosen = listed(classes, "classes")
    if not chosen or not all(0 <= c < k for c in chosen):
        raise ValueError(f"classes must be from 0 to {k - 1} and at least one, got {chosen}")
    names, _ = _names_and_colours(k, class_names, np.zeros((k, 3)))
    aspect = components.shape[3] / components.shape[2]
    panels = _panel_axes(axes, n * len(chosen), len(chosen), aspect, "panel").reshape(n, len(chosen))
    for row, (component, sigma) in enumerate(zip(components, consign_set.singular_values, strict=False)):
        largest = float(np.abs(component).max()) or 1.0
        for ax, c in zip(panels[row], chosen, strict=True):
            ax.imshow(component[c], cmap=cmap, vmin=-largest, vmax=largest, interpolation="nearest")
            if row == 0:
                ax.set_title(names[c])
            _frameless(ax)
        panels[row, 0].set_ylabel(f"component {row + 1}\nσ = {sigma:.3g}")
    if colorbar:
        # Without numbers: every row has its own scale.
        (drawn,) = panels[0, -1].get_images()
        bar = _colour_bar(panels[0, -1], drawn, None)
        bar.set_yticks([drawn.norm.vmin, 0.0, drawn.norm.vmax], ["loses", "stays", "gains"])
    return panels


def plot_samples(
    samples: ArrayLike,
    image: ArrayLike | None = None,
    *,
    n_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    ignore_index: int | None = 255,
    background: int | None = None,
    opacity: float = 0.85,
    n_columns: int = 4,
    axes: ArrayLike | None = None,
) -> NDArray[Any]:
    """Draw segmentations side by side, such as samples of a set.

    Parameters
    ----------
    samples : array-like of int, shape (m, H, W)
        Label maps, as ``consign_set.sample(m)``.
    image : array-like, shape (H, W) or (H, W, 3), optional
        The image beneath, uint8 or floating in [0, 1].
    n_classes : int, optional
        Number of classes K; by default that of `class_names` or `palette`, else what occurs.
    class_names : sequence of str, length K, optional
        Names for the legend; by default "class 0", "class 1", ...
    palette : array-like, shape (K, 3), optional
        Colours, uint8 or floating in [0, 1]; by default well-separated ones.
    labels : array-like of int, shape (H, W), optional
        True labels: drawn first, with void in flat grey.
    ignore_index : int or None, default=255
        The label of void pixels.
    background : int, optional
        A class to leave without colour, so that the image shows through.
    opacity : float, default=0.85
        Opacity of the classes over the image, in (0, 1].
    n_columns : int, default=4
        Panels in a row of a new figure.
    axes : array-like of matplotlib Axes, optional
        Where to draw, at least one per panel; by default, on a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes
        One per label map, that of the true labels first.

    Raises
    ------
    ValueError
        If an argument has a wrong shape, dtype or range.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_components : Why the samples differ as they do.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_samples
    >>> samples = np.array([[[0, 1]], [[1, 1]]])
    >>> [ax.get_title() for ax in plot_samples(samples, labels=np.array([[0, 1]]))]
    ['truth', 'sample 1', 'sample 2']
    """
    maps = _array("samples", samples, 3)
    if maps.dtype.kind not in "iu":
        raise ValueError(f"samples must hold integer labels, got dtype {maps.dtype}")
    if not 0 < opacity <= 1:
        raise ValueError(f"opacity must lie in (0, 1], got {opacity}")
    if n_columns < 1:
        raise ValueError(f"n_columns must be at least 1, got {n_columns}")
    titles = [f"sample {i + 1}" for i in range(len(maps))]
    void = _void(labels, ignore_index, maps.shape[1:])
    if labels is not None:
        truth = np.where(void, 0, np.asarray(labels))
        maps, titles = np.concatenate([truth[None], maps]), ["truth", *titles]
    for given in (class_names, palette):
        if n_classes is None and given is not None:
            n_classes = len(np.asarray(given))
    k = int(maps.max()) + 1 if n_classes is None else n_classes
    if not (maps.min() >= 0 and maps.max() < k):
        raise ValueError(f"samples and labels must be from 0 to {k - 1}, got {maps.min()} to {maps.max()}")
    if background is not None and not 0 <= background < k:
        raise ValueError(f"background must be from 0 to {k - 1}, got {background}")
    names, colours = _names_and_colours(k, class_names, palette)
    ground = np.repeat(_backdrop(image, maps.shape[1:])[..., None], 3, axis=2)
    panels = _panel_axes(axes, len(maps), n_columns, maps.shape[2] / maps.shape[1], "label map")
    for index, (ax, title, shown) in enumerate(zip(panels, titles, maps, strict=True)):
        painted = ground + opacity * (colours[shown] - ground)
        if background is not None:
            painted[shown == background] = ground[shown == background]
        if labels is not None and index == 0:
            painted[void] = _VOID_GREY
        ax.imshow(painted)
        ax.set_title(title)
        _frameless(ax)
    present = np.isin(np.arange(k), maps) & (np.arange(k) != background)
    boxes = [ax.get_position() for ax in panels]
    top_right = max(range(len(panels)), key=lambda i: (round(boxes[i].x1, 6), boxes[i].y1))
    _legend(panels[top_right], names, colours, present, several=False, void=bool(void.any()))
    return panels


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
        A fitted calibrator, or a curve such as its ``risk_curve()`` returns.
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
        If the curve is no pair of equally long arrays with ascending lambdas, or ``alpha`` lies
        outside (0, 1).
    ImportError
        If Matplotlib is missing.

    Examples
    --------
    >>> from conformask.plotting import plot_risk_curve
    >>> ax = plot_risk_curve(([0.0, 0.5, 1.0], [0.2, 0.1, 0.0]), alpha=0.15, n_images=99)
    >>> [text.get_text() for text in ax.get_legend().get_texts()][1:]
    ['$\\alpha$ = 0.15', '$\\alpha - (1 - \\alpha)/n$ = 0.1414, n = 99']
    """
    lambdas, risks, marked = _curve(calibrator_or_curve, alpha)
    weighted: float | None = None
    if not isinstance(calibrator_or_curve, tuple | list):
        alpha = calibrator_or_curve.alpha if alpha is None else alpha
        if n_images is None:
            n_images, weighted = calibrator_or_curve.n_images_, calibrator_or_curve.risk_limit(alpha)
    if alpha is not None and not 0 < alpha < 1:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha}")
    if xscale not in ("auto", "linear", "log"):
        raise ValueError(f"xscale must be 'auto', 'linear' or 'log', got {xscale!r}")
    ax = _axes(ax)
    ax.step(lambdas, risks, where="post", color="#1f4e79", lw=1.8, label="empirical risk")
    if alpha is not None:
        ax.axhline(alpha, color="#c0392b", lw=1.3, label=rf"$\alpha$ = {alpha:g}")
    if alpha is not None and n_images is not None:
        limit = alpha - (1 - alpha) / n_images
        text = rf"$\alpha - (1 - \alpha)/n$ = {limit:.4g}, n = {n_images}"
        if weighted is not None and abs(weighted - limit) > 1e-12:
            limit, text = weighted, f"risk allowed by the weights = {weighted:.4g}, n = {n_images}"
        ax.axhline(limit, color="#c0392b", lw=1.1, ls=(0, (5, 3)), label=text)
    if marked is not None:
        lam, risk = marked
        ax.axvline(lam, color="#444444", lw=1, ls=":")
        text = rf"$\hat\lambda$ = {lam:.6g}, risk {risk:.4g}"
        ax.plot([lam], [risk], "o", color="#444444", ms=6, label=text)
    _scale_lambda(ax, lambdas, risks, xscale)
    ax.set_ylim(0, 1.08 * max(float(risks.max()), alpha or 0, 1e-3))
    ax.set_xlabel(r"$\lambda$")
    ax.set_ylabel("empirical risk")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return ax


# --- arguments ------------------------------------------------------------------------------


def _array(name: str, values: ArrayLike, ndim: int) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must have {ndim} dimensions and not be empty, got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got dtype {array.dtype}")
    return clean_bools(array) if array.dtype == bool else array


def _counts(heatmap: NDArray[Any], n_classes: int | None) -> NDArray[np.int64] | None:
    """Return the set sizes that a heatmap stands for, or None if they cannot be known."""
    if n_classes is not None and n_classes < 1:
        raise ValueError(f"n_classes must be at least 1, got {n_classes}")
    if heatmap.dtype.kind != "f":
        counts = heatmap.astype(np.int64)
        if counts.min() < 0 or (n_classes is not None and counts.max() > n_classes):
            raise ValueError(
                f"heatmap of set sizes must lie in [0, n_classes], got {counts.min()} to {counts.max()}"
            )
        return counts
    if not (heatmap.min() >= 0 and heatmap.max() <= 1):  # so written, it also refuses NaN
        raise ValueError(f"heatmap must lie in [0, 1], got {heatmap.min()} to {heatmap.max()}")
    if n_classes is None:
        return None
    counts = np.asarray(np.rint(heatmap * n_classes), np.int64)
    if np.abs(heatmap * n_classes - counts).max() > 0.01:
        raise ValueError(
            f"heatmap holds values that are no multiples of 1/{n_classes}: "
            "leave n_classes out for a heatmap normalised by its maximum"
        )
    return counts


def _void(labels: ArrayLike | None, ignore_index: int | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if labels is None:
        return np.zeros(shape, bool)
    array = _array("labels", labels, 2)
    if array.shape != shape:
        raise ValueError(f"labels must have shape {shape}, got {array.shape}")
    return np.zeros(shape, bool) if ignore_index is None else np.asarray(array == ignore_index)


def _backdrop(image: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the image as grey in [0, 1], so that its colours do not compete with ours."""
    if image is None:
        return np.full(shape, 0.25)
    array = np.asarray(image)
    if array.shape not in (shape, (*shape, 3)):
        raise ValueError(f"image must have shape {shape} or {(*shape, 3)}, got {array.shape}")
    if array.dtype == np.uint8:
        array = array / 255
    elif array.dtype.kind != "f" or not (array.min() >= 0 and array.max() <= 1):
        raise ValueError("image must be uint8 or floating in [0, 1]")
    grey = array @ [0.299, 0.587, 0.114] if array.ndim == 3 else array
    return np.asarray(grey, np.float64)


def _classes(
    mask: ArrayLike, class_names: Sequence[str] | None, palette: ArrayLike | None
) -> tuple[NDArray[np.bool_], list[str], NDArray[np.float64]]:
    mask = _array("mask", mask, 3)
    if mask.dtype != bool:
        raise ValueError(f"mask must be bool of shape (K, H, W), got dtype {mask.dtype}")
    return mask, *_names_and_colours(len(mask), class_names, palette)


def _names_and_colours(
    k: int, class_names: Sequence[str] | None, palette: ArrayLike | None
) -> tuple[list[str], NDArray[np.float64]]:
    names = (
        [f"class {i}" for i in range(k)]
        if class_names is None
        else listed_by_class(class_names, "class_names")
    )
    if len(names) != k:
        raise ValueError(f"class_names must have {k} entries, one per class, got {len(names)}")
    if palette is None:
        return names, _default_palette(k)
    colours = np.asarray(listed_by_class(palette, "palette"))
    if colours.shape != (k, 3):
        raise ValueError(f"palette must have shape {(k, 3)}, got {colours.shape}")
    colours = colours / 255 if colours.dtype.kind in "iu" else colours.astype(float)
    if not (colours.min() >= 0 and colours.max() <= 1):
        raise ValueError("palette must be integers from 0 to 255 or floating in [0, 1]")
    return names, colours


def _curve(
    source: _Fitted | tuple[ArrayLike, ArrayLike], alpha: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float] | None]:
    """Return lambdas, risks and the point (lambda-hat, risk) to mark, if it is known."""
    marked = None
    if isinstance(source, tuple | list):
        pair: Any = source
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


def class_patches(
    n_classes: int, class_names: Sequence[str] | None = None, palette: ArrayLike | None = None
) -> list[Patch]:
    """Return one legend handle per class, in the colours of :func:`plot_masks`."""
    from matplotlib.patches import Patch

    names, colours = _names_and_colours(n_classes, class_names, palette)
    return [Patch(color=colour, label=name) for colour, name in zip(colours, names, strict=True)]


# --- drawing --------------------------------------------------------------------------------


def _pyplot() -> ModuleType:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("plotting needs Matplotlib: pip install conformask[plot]") from error
    return pyplot


def _axes(ax: Axes | None) -> Axes:
    pyplot = _pyplot()  # before `ax` is touched, so that the message comes first
    if ax is None:
        ax = pyplot.subplots(layout="constrained")[1]
    return ax


def _panel_axes(
    axes: ArrayLike | None,
    n: int,
    n_columns: int,
    aspect: float,
    per: str = "class",
    title: str | None = None,
) -> NDArray[Any]:
    pyplot = _pyplot()
    if axes is None:
        columns = min(n, n_columns)
        rows = math.ceil(n / columns)
        size = (3.2 * columns, (3.2 / aspect + 0.35) * rows)
        figure, axes = pyplot.subplots(rows, columns, figsize=size, layout="compressed", squeeze=False)
        if title is not None:
            figure.suptitle(title, fontsize="medium")
    flat: NDArray[Any] = np.ravel(np.asarray(axes, dtype=object))
    if len(flat) < n:
        raise ValueError(f"axes must be at least {n}, one per {per}, got {len(flat)}")
    for unused in flat[n:]:
        unused.set_axis_off()
    return flat[:n]


def _frameless(ax: Axes) -> Axes:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return ax


def _flat(where: NDArray[np.bool_], colour: ArrayLike, opacity: float = 1.0) -> NDArray[np.float64]:
    """Return an RGBA image of one colour, transparent elsewhere."""
    rgba = np.zeros((*where.shape, 4))
    rgba[where] = [*np.asarray(colour, float), opacity]
    return rgba


def _upper_part(cmap: str | Colormap) -> Callable[[ArrayLike], NDArray[np.float64]]:
    from matplotlib import colormaps

    full = colormaps[cmap] if isinstance(cmap, str) else cmap
    return lambda t: np.asarray(full(0.4 + 0.6 * np.asarray(t)))


def _draw_counts(
    ax: Axes, counts: NDArray[np.int64], top: int | None, cmap: str | Colormap, opacity: float, colorbar: bool
) -> None:
    from matplotlib.colors import BoundaryNorm, ListedColormap

    top = max(int(counts.max()), 2) if top is None else max(top, 2)
    first = min(1, int(counts.min()))
    shades = _upper_part(cmap)(np.linspace(0, 1, top - 1) if top > 2 else [0.6])
    shades[:, 3] = opacity
    colours = np.vstack([[_EMPTY]] * (1 - first) + [[(0.0, 0.0, 0.0, 0.0)], shades])
    norm = BoundaryNorm(np.arange(first, top + 2) - 0.5, len(colours))
    shown = np.minimum(counts, top)
    drawn = ax.imshow(shown, cmap=ListedColormap(colours), norm=norm, interpolation="nearest")
    ax.set_title("Classes in the set of each pixel")
    if colorbar:
        step = max(1, math.ceil((top - first + 1) / 12))
        ticks = [*range(first, top + 1, step)]
        bar = _colour_bar(ax, drawn, ticks)
        if counts.max() > top:
            bar.set_yticks(ticks, [str(t) for t in ticks[:-1]] + [f"≥{ticks[-1]}"])
        bar.set_ylabel("classes in the set")


def _draw_continuous(
    ax: Axes, heatmap: NDArray[Any], cmap: str | Colormap, opacity: float, colorbar: bool
) -> None:
    from matplotlib.colors import ListedColormap

    t = np.linspace(0, 1, 256)
    shades = _upper_part(cmap)(t)
    shades[:, 3] = opacity * t
    drawn = ax.imshow(heatmap, cmap=ListedColormap(shades), vmin=0, vmax=1, interpolation="nearest")
    ax.set_title("Varisco heatmap")
    if colorbar:
        _colour_bar(ax, drawn, None).set_ylabel("relative size of the set")


def _colour_bar(ax: Axes, drawn: Any, ticks: Sequence[int] | None) -> Axes:
    bar = ax.inset_axes((1.02, 0, 0.035, 1))
    bar.set_facecolor("0.4")  # seen through the transparent end: the grey image
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(drawn, cax=bar, ticks=ticks)
    bar.minorticks_off()
    return bar


def _striped(mask: NDArray[np.bool_], enlarge: int) -> NDArray[np.int64]:
    """Return one held class per enlarged pixel, or -1 for none.

    The classes of a pixel take turns along the diagonal.
    """
    size = mask.sum(0)
    held = np.argsort(~mask, axis=0, kind="stable")  # the classes held, ascending, then the others
    height, width = size.shape
    rows, cols = np.arange(height * enlarge)[:, None], np.arange(width * enlarge)[None, :]
    stripe = (rows + cols) // max(1, max(height, width) * enlarge // 160)
    at_row, at_col = rows // enlarge, cols // enlarge
    here = size[at_row, at_col]
    turn = stripe % np.maximum(here, 1)
    return np.where(here > 0, held[turn, at_row, at_col], -1)


def _legend(
    ax: Axes,
    names: list[str],
    colours: NDArray[np.float64],
    present: NDArray[np.bool_],
    *,
    several: bool,
    void: bool,
) -> None:
    from matplotlib.patches import Patch

    patches = class_patches(len(names), names, colours)
    handles = [patches[k] for k in np.flatnonzero(present)]
    if several:
        handles.append(Patch(facecolor="white", edgecolor="0.25", hatch="////", label="several possible"))
    if void:
        handles.append(Patch(color=(_VOID_GREY,) * 3, label="void"))
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)


def _default_palette(n_classes: int) -> NDArray[np.float64]:
    """Return well-separated colours: Matplotlib's twenty, then hues a golden section apart."""
    _pyplot()
    from matplotlib import colormaps
    from matplotlib.colors import hsv_to_rgb

    if n_classes <= 10:
        return np.asarray(colormaps["tab10"].colors)[:n_classes]  # type: ignore[attr-defined]
    if n_classes <= 20:
        return np.asarray(colormaps["tab20"].colors)[:n_classes]  # type: ignore[attr-defined]
    i = np.arange(n_classes)
    hsv = np.stack([i * 0.618034 % 1, 0.5 + 0.4 * (i % 2), 0.95 - 0.12 * (i % 3)], axis=-1)
    return np.asarray(hsv_to_rgb(hsv))


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
