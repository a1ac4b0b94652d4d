"""Pictures of the explorer: maps without frames, so that a pointer finds its pixel, and the two plots below."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.lines import Line2D

from conformask.explorer._levels import Curve
from conformask.plotting import plot_may_be, plot_risk_curve, plot_varisco
from conformask.plotting._arguments import grey_ground
from conformask.plotting._legend import legend_below
from conformask.plotting._palette import LINES, RED, VOID_GREY
from conformask.plotting._size_shares import draw_size_shares

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["CurvePicture", "Maps", "size_picture"]

_LONGEST = 720  # pixels of a picture; smaller maps are enlarged by whole numbers
_DPI = 100
_OPACITY = 0.85
_PLOT, _PLOT_DPI = (5.3, 3.7), 150  # inches; twice the pixels that a notebook shows it in
_FAST = {"compress_level": 1}  # pictures follow a slider: speed matters more than size
_NO_NAME: dict[str, Any] = {"Software": None}
_SHOWN = LINES[1]


class Maps:
    """PNG of the maps (H, W) of one image, or of a slice of a volume, all of one size."""

    def __init__(
        self, picture: NDArray[Any] | None, void: NDArray[np.bool_], colours: NDArray[np.float64]
    ) -> None:
        self._picture, self._void, self._colours = picture, void, colours
        self._ground = np.repeat(grey_ground(picture, void.shape)[..., np.newaxis], 3, axis=2)
        self._labels = np.where(void, 255, 0)  # tells the plots where void is

    def image(self) -> bytes:
        """The picture itself, in its colours."""
        if self._picture is None or self._picture.ndim == 2:
            return self._png(self._ground)
        return self._png(self._picture / 255 if self._picture.dtype == np.uint8 else self._picture)

    def classes(self, of: NDArray[np.integer[Any]], *, with_void: bool) -> bytes:
        """One class in each pixel; void pixels may hold any label."""
        colours = self._colours[np.where(self._void & with_void, 0, of)]
        opacity = 1.0 if self._picture is None else _OPACITY
        painted = self._ground + opacity * (colours - self._ground)
        if with_void:
            painted[self._void] = VOID_GREY
        return self._png(painted)

    def missed(self, where: NDArray[np.bool_]) -> bytes:
        """Where sets lack the label."""
        painted = self._ground.copy()
        painted[where] = to_rgb(RED)
        painted[self._void] = VOID_GREY
        return self._png(painted)

    def sizes(self, of: NDArray[np.integer[Any]], n_classes: int, vmax: int) -> bytes:
        """How many classes the sets hold."""
        return self._plotted(
            lambda ax: plot_varisco(
                of,
                self._picture,
                n_classes=n_classes,
                vmax=vmax,
                labels=self._labels,
                colorbar=False,
                legend=False,
                ax=ax,
            )
        )

    def may_be(self, masks: NDArray[np.bool_], label: int) -> bytes:
        """Where one class may be."""
        return self._plotted(
            lambda ax: plot_may_be(
                masks,
                label,
                self._picture,
                palette=self._colours,
                labels=self._labels,
                legend=False,
                ax=ax,
            )
        )

    def _plotted(self, draw: Callable[[Axes], object]) -> bytes:
        """The map as a plot draws it, from edge to edge, without anything around it."""
        height, width = (min(n, _LONGEST) for n in self._void.shape)
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        canvas = _canvas_of(figure)
        ax = figure.add_axes((0, 0, 1, 1))
        draw(ax)
        ax.set_title("")
        ax.set_axis_off()
        ax.set_aspect("auto")
        canvas.draw()
        return self._png(np.asarray(canvas.buffer_rgba())[..., :3])

    def _png(self, colours: NDArray[Any]) -> bytes:
        """A PNG of colours (h, w, 3), enlarged by a whole number, or thinned out if it is too large for a screen."""
        height, width = self._void.shape
        scale = _LONGEST / max(height, width)
        scale = int(scale) if scale >= 1 else scale
        rows, columns = (
            ((np.arange(max(1, round(n * scale))) + 0.5) * given / max(1, round(n * scale))).astype(int)
            for n, given in zip((height, width), colours.shape[:2], strict=True)
        )
        stream = io.BytesIO()
        shown = np.ascontiguousarray(colours[rows[:, np.newaxis], columns])
        imsave(stream, shown, format="png", metadata=_NO_NAME, pil_kwargs=_FAST)
        return stream.getvalue()


def size_picture(shares: NDArray[np.float64], labelled: bool) -> bytes:
    """How many pixels have sets of each size."""
    figure = Figure(figsize=_PLOT, dpi=_PLOT_DPI)
    ax = draw_size_shares(figure.subplots(), shares, f"% of the {'labelled ' if labelled else ''}pixels")
    ax.set_title("Set sizes on this image", y=1.02)  # finding a place for it would double the time
    figure.subplots_adjust(0.12, 0.15, 0.98, 0.9)  # a layout engine would double the time
    return _png_of(figure, _PLOT_DPI)


class CurvePicture:
    """The risk curve of a calibrator, drawn once, with the lambda that is shown."""

    def __init__(self, curve: Curve, name: str | None) -> None:
        figure = Figure(figsize=_PLOT, dpi=_PLOT_DPI, layout="constrained")
        self._canvas = _canvas_of(figure)
        self._ax = plot_risk_curve(curve, ax=figure.subplots())
        self._ax.set_title(f"Risk on calibration{f': {name}' if name else ''}")
        self._line = self._ax.axvline(curve.lambda_hat_, color=_SHOWN, lw=1.4, animated=True)
        look: dict[str, Any] = {"color": _SHOWN, "marker": "o", "ls": "", "mec": "white", "ms": 9}
        (self._dot,) = self._ax.plot([curve.lambda_hat_], [curve.risk_], animated=True, clip_on=False, **look)
        if curve.n_images_:
            lines = self._ax.get_legend_handles_labels()[0]
            legend_below(self._ax, [*lines, Line2D([], [], label="shown here", **look)])
        self._canvas.draw()
        self._ground = self._canvas.copy_from_bbox(figure.bbox)

    def png(self, lam: float, risk: float) -> bytes:
        """The curve, with a lambda and its risk."""
        self._canvas.restore_region(self._ground)
        self._line.set_xdata([lam, lam])
        self._dot.set_data([lam], [risk])
        self._ax.draw_artist(self._line)
        self._ax.draw_artist(self._dot)
        stream = io.BytesIO()
        imsave(stream, self._canvas.buffer_rgba(), format="png", metadata=_NO_NAME, pil_kwargs=_FAST)
        return stream.getvalue()


def _canvas_of(figure: Figure) -> Any:
    return FigureCanvasAgg(figure)


def _png_of(figure: Figure, dpi: int) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata=_NO_NAME, pil_kwargs=_FAST)
    return stream.getvalue()
