"""Sets of whole segmentations: their components, and samples of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask.plotting._arguments import (
    chosen_classes,
    class_index,
    grey_ground,
    opacity_over,
    plain_array,
    void_pixels,
)
from conformask.plotting._axes import colour_bar, fit_figure, frameless, panel_axes, panel_size
from conformask.plotting._legend import draw_legend, names_and_colours, names_of
from conformask.plotting._palette import VOID_GREY
from conformask.plotting._titles import write_title

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

__all__ = ["plot_components", "plot_samples"]


class _Components(Protocol):
    """The attributes of a set that a picture of components needs."""

    @property
    def components(self) -> NDArray[np.float64]: ...
    @property
    def singular_values(self) -> NDArray[np.float64]: ...


def plot_components(
    consign_set: _Components,
    *,
    classes: Sequence[int | str] | None = None,
    class_names: Sequence[str] | None = None,
    n_components: int | None = None,
    cmap: str | Colormap = "RdBu_r",
    colorbar: bool = True,
    axes: ArrayLike | None = None,
) -> NDArray[Any]:
    """Draw the components of a set of segmentations: how the labels of an image may change together.

    There is one row per component and one column per class. Where a panel is red, the class becomes more likely as the
    coefficient of the component grows; where it is blue, it becomes less likely; where it is white, nothing changes.
    Each row has a scale of its own beside it: the change of the scores for a coefficient of 1.

    Parameters
    ----------
    consign_set : ConsignSet
        The set of a two-dimensional image, as ``calibrator.predict(X)[i]``.
    classes : sequence of int or str, optional
        The classes to draw, by index or name, in this order; by default the four that change most, by ascending label.
    class_names : sequence of str, length K, optional
        Titles of the columns; by default "class 0", "class 1", ...
    n_components : int, optional
        The number of components to draw; by default all.
    cmap : str or Colormap, default="RdBu_r"
        A diverging colour map.
    colorbar : bool, default=True
        Whether to add a colour bar to each row.
    axes : array-like of matplotlib Axes, optional
        The axes to draw on, at least one per panel; by default those of a new figure.

    Returns
    -------
    ndarray of matplotlib.axes.Axes, shape (components, classes)
        The panels.

    Raises
    ------
    ValueError
        If an argument is out of range, the image is a volume, or the set has no components.
    TypeError
        If ``consign_set`` is not a ConsignSet, names are no strings, or classes are neither indices nor names.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_samples : Shows segmentations of the set.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN", ICLR 2026, arXiv:2505.14113.

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
    if not (hasattr(consign_set, "components") and hasattr(consign_set, "singular_values")):
        raise TypeError(
            "consign_set must be a ConsignSet, as calibrator.predict(X)[i] of a ConsignCalibrator, "
            f"got a {type(consign_set).__name__}"
        )
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
        # Ties go to the lower class.
        classes = sorted(np.argsort(-np.square(components).sum((0, 2, 3)), kind="stable")[:4].tolist())
    names = names_of(k, class_names)
    chosen = chosen_classes(classes, names)
    aspect = components.shape[3] / components.shape[2]
    panels = panel_axes(
        axes, n * len(chosen), len(chosen), aspect, "panel", beside=1.0 + 1.6 * colorbar
    ).reshape(n, len(chosen))
    room = panel_size(aspect)[0] if axes is None else None
    for row, (component, sigma) in enumerate(zip(components, consign_set.singular_values, strict=False)):
        largest = float(np.abs(component).max()) or 1.0
        for ax, c in zip(panels[row], chosen, strict=True):
            ax.imshow(component[c], cmap=cmap, vmin=-largest, vmax=largest, interpolation="nearest")
            if row == 0:
                write_title(ax, names[c], room)
            frameless(ax)
        label = f"component {row + 1}\nσ = {sigma:.3g}"
        panels[row, 0].set_ylabel(
            label, rotation=0, ha="right", va="center"
        )  # it may be longer than the row is high
        if colorbar:
            (drawn,) = panels[row, -1].get_images()
            ends = [f"{-largest:.2g} less likely", "0", f"{largest:+.2g} more likely"]
            colour_bar(panels[row, -1], drawn, None).set_yticks([-largest, 0.0, largest], ends)
    if axes is None:
        fit_figure(panels[0, 0])
    return panels


def plot_samples(
    samples: ArrayLike,
    image: ArrayLike | None = None,
    *,
    n_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    palette: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    background: int | str | None = None,
    opacity: float = 0.85,
    legend: bool = True,
    n_columns: int = 4,
    axes: ArrayLike | None = None,
) -> NDArray[Any]:
    """Draw segmentations side by side, such as samples of a set.

    Parameters
    ----------
    samples : array-like of int, shape (m, H, W)
        Label maps, as ``consign_set.sample(m)``.
    n_classes : int, optional
        Number of classes K; by default that of `class_names` or `palette`, else one more than the largest label.
    labels : array-like of int, shape (H, W), optional
        True labels: drawn first, with void in flat grey.
    image, class_names, palette, ignore_index, background, opacity
        As for :func:`plot_masks`.
    legend : bool, default=True
        Whether to name the classes that occur, and void, to the right of the last panel of the first row.
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
    TypeError
        If ``samples`` are no array, such as a ConsignSet, names are no strings, or ``background`` is neither index nor
        name.
    ImportError
        If Matplotlib is missing.

    See Also
    --------
    plot_components : Shows the components in which the samples differ.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.plotting import plot_samples
    >>> samples = np.array([[[0, 1]], [[1, 1]]])
    >>> [ax.get_title() for ax in plot_samples(samples, labels=np.array([[0, 1]]))]
    ['truth', 'sample 1', 'sample 2']
    """
    if hasattr(samples, "sample"):
        raise TypeError(f"samples must be label maps, as sample(m) of a {type(samples).__name__} returns")
    maps = plain_array("samples", samples, 3)
    if maps.dtype.kind not in "iu":
        raise ValueError(f"samples must hold integer labels, got dtype {maps.dtype}")
    opacity = opacity_over(image, opacity)
    titles = [f"sample {i + 1}" for i in range(len(maps))]
    void = void_pixels(labels, ignore_index, maps.shape[1:])
    if labels is not None:
        truth = np.where(void, maps.flat[0], np.asarray(labels))  # void is drawn over any class
        maps, titles = np.concatenate([truth[None], maps]), ["truth", *titles]
    for given in (class_names, palette):
        if n_classes is None and given is not None:
            n_classes = len(np.asarray(given))
    k = int(maps.max()) + 1 if n_classes is None else n_classes
    if not (maps.min() >= 0 and maps.max() < k):
        raise ValueError(f"samples and labels must be from 0 to {k - 1}, got {maps.min()} to {maps.max()}")
    names, colours = names_and_colours(k, class_names, palette)
    bare = None if background is None else class_index("background", background, names)
    ground = np.repeat(grey_ground(image, maps.shape[1:])[..., None], 3, axis=2)
    aspect = maps.shape[2] / maps.shape[1]
    panels = panel_axes(axes, len(maps), n_columns, aspect, "label map", beside=1.4 * legend)
    room = panel_size(aspect)[0] if axes is None else None
    for index, (ax, title, shown) in enumerate(zip(panels, titles, maps, strict=True)):
        painted = ground + opacity * (colours[shown] - ground)
        if bare is not None:
            painted[shown == bare] = ground[shown == bare]
        if labels is not None and index == 0:
            painted[void] = VOID_GREY
        ax.imshow(painted, interpolation="nearest")
        write_title(ax, title, room)
        frameless(ax)
    if legend:
        pixels = np.where(np.arange(k) != bare, np.bincount(maps.ravel(), minlength=k), 0)
        boxes = [ax.get_position() for ax in panels]
        top_right = max(range(len(panels)), key=lambda i: (round(boxes[i].x1, 6), boxes[i].y1))
        draw_legend(panels[top_right], names, colours, pixels, several=False, void=bool(void.any()))
    if axes is None:
        fit_figure(panels[0])
    return panels
