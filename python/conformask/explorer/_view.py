"""The widget: controls, maps, plots and texts, and the effect of each control."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from conformask._sequences import check_class_names
from conformask._text import lambda_text
from conformask.exceptions import InfeasibleRiskError
from conformask.explorer import _words
from conformask.explorer._levels import Levels
from conformask.explorer._looked_at import LookedAt, Sets
from conformask.explorer._pictures import CurvePicture, Maps, size_picture
from conformask.explorer._source import Source
from conformask.plotting._legend import names_and_colours
from conformask.plotting.heatmaps import EMPTY, count_shades

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Explorer"]

_MOST_COLOURS = 6  # colours of set sizes: larger sets are rare, and share the last one
_MOST_NAMES = 12  # names in the legend: if there are more classes, it has those that occur
_WAIT = 40  # milliseconds between two looks at the pointer
_WIDE = "300px"
_N_STEPS = 100_000  # steps of the slider of lambda: with a good model, all changes are near its end


class Explorer(widgets.VBox):
    """The widget that :func:`conformask.explore` returns."""

    def __init__(
        self,
        calibrator: Any,
        X: Any,
        images: Any = None,
        y: Any = None,
        *,
        class_names: Sequence[str] | None = None,
        palette: ArrayLike | None = None,
    ) -> None:
        self._levels = Levels(calibrator)
        n_classes = self._levels.n_classes
        if class_names is not None:
            class_names = check_class_names(class_names, n_classes)
        self._names, self._colours = names_and_colours(n_classes, class_names, palette)
        self._source = Source(X, images, y, n_classes, self._levels.configuration.volumes)
        self._lambdas, self._quiet, self._follows = self._levels.lambdas, False, True
        self._looked_at = self._read(0)  # refuses unreadable images now
        self._curves: dict[int | None, CurvePicture] = {}
        self._make_controls()
        self._make_panels()
        super().__init__(
            [
                widgets.HTML(_words.STYLE, layout=widgets.Layout(display="none")),
                widgets.HTML(f'<div class="cm-caution">{_words.CAUTION}</div>'),
                widgets.HBox([self._left(), self._right()], layout=widgets.Layout(grid_gap="24px")),
            ],
            layout=widgets.Layout(grid_gap="14px", padding="4px 6px"),
        )
        self.add_class("cm-explorer")
        self._show_image()
        for control in (self.image, self.depth, self.alpha, self.lam, self.label, self.row, self.column):
            control.observe(self._moved, "value")
        self.as_calibrated.on_click(lambda _: self._go_back())

    # What is shown, for code

    @property
    def lambda_(self) -> Any:
        """The lambda that is shown, a float; or those of classes (K,)."""
        return self._lambdas.copy() if self._levels.by_class else float(self._lambdas[0])

    @property
    def sets(self) -> NDArray[np.bool_]:
        """The multi-labeled mask of the image, bool (K, H, W) or (K, D, H, W)."""
        return self._found.masks.copy()

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many classes its sets hold, (H, W) or (D, H, W)."""
        return self._found.sizes.copy()

    @property
    def missed(self) -> NDArray[np.bool_]:
        """Labelled pixels whose set lacks the label, (H, W) or (D, H, W)."""
        return self._found.missed.copy()

    @property
    def pixel_set(self) -> list[str]:
        """The classes in the set of the pixel that is chosen, the most probable first."""
        pixel = self._looked_at.pixel(self._at, self._found)
        order = np.argsort(-pixel.probabilities, kind="stable")
        return [self._names[k] for k in order if pixel.held[k]]

    @property
    def numbers(self) -> dict[str, str]:
        """The numbers on the level and the image, as text."""
        return dict(self._said)

    @property
    def pictures(self) -> dict[str, bytes]:
        """What is drawn, as PNG: the maps, "shares" (of set sizes) and "curve"."""
        return {name: shown.value for name, shown in {**self._pictures, **self._plots}.items()}

    @property
    def _found(self) -> Sets:
        return self._looked_at.sets(self._lambdas)

    @property
    def _chosen(self) -> int | None:
        """The class whose lambda the slider moves; None if all classes share one."""
        return self.label.value if self._levels.by_class else None

    @property
    def _lam(self) -> float:
        return float(self._lambdas[self._chosen or 0])

    @property
    def _at(self) -> tuple[int, ...]:
        """The pixel: (row, column), or (slice, row, column)."""
        flat = (self.row.value, self.column.value)
        return flat if len(self._looked_at.shape) == 2 else (self.depth.value, *flat)

    # Making

    def _make_controls(self) -> None:
        levels, last = self._levels, self._source.n - 1
        least, most, step = levels.ends
        places = {"value": 0, "min": 0, "max": 1}
        self.image = _control(widgets.IntSlider, "image", value=0, min=0, max=max(last, 1))
        self.image.disabled = last == 0
        self.image.continuous_update = False  # images on the way of the slider are not read
        self.depth = _control(widgets.IntSlider, "slice", **places)
        self.alpha = _control(
            widgets.FloatSlider,
            "alpha",
            value=min(levels.alpha, most),
            min=least,
            max=most,
            step=step,
            readout_format=".4f" if step < 0.001 else ".3f",
        )
        self.lam = _control(
            widgets.FloatSlider,
            "lambda",
            value=levels.lambdas[0],
            min=0.0,
            max=levels.largest,
            step=levels.largest / _N_STEPS,
            readout_format=".5f",
        )
        classes = [(name, k) for k, name in enumerate(self._names)]
        self._known = {"alpha": self.alpha.value, "lam": self.lam.value}
        self.label = _control(widgets.Dropdown, "class", options=classes)
        self.row, self.column = (_control(widgets.IntSlider, name, **places) for name in ("row", "column"))
        self.as_calibrated = _control(widgets.Button, f"as calibrated: alpha = {levels.alpha:g}")
        self._note, self._pixel, self._numbers = (widgets.HTML() for _ in range(3))

    def _make_panels(self) -> None:
        with_y, with_images = self._looked_at.labels is not None, self._looked_at.picture is not None
        names = {"image": with_images, "labels": with_y, "predicted": True, "sizes": True, "may_be": True}
        self._maps_shown = [name for name, is_there in {**names, "missed": with_y}.items() if is_there]
        self._pictures = {name: _picture() for name in self._maps_shown}
        self._captions = {name: widgets.HTML() for name in self._maps_shown}
        self._marks = {name: widgets.HTML() for name in self._maps_shown}
        self._keys = {name: widgets.HTML() for name in self._maps_shown}
        self._plots = {name: _picture("cm-plot") for name in ("shares", "curve")}
        self._legend = widgets.HTML()
        self._events = [self._events_of(picture) for picture in self._pictures.values()]

    def _events_of(self, picture: Any) -> Any:
        """The events of the pointer over a picture; None without ipyevents."""
        try:
            from ipyevents import Event
        except ImportError:
            return None
        event = Event(source=picture, watched_events=["mousemove", "click"])
        event.throttle_or_debounce, event.wait = "throttle", _WAIT
        event.on_dom_event(self._pointed)
        return event

    def _left(self) -> Any:
        about_pixel = "under the pointer; a click holds it" if self._events[0] else ""
        children = [
            _section("Image"),
            self.image,
            self.depth,
            _section("Level"),
            self.alpha,
            self.lam,
            self.as_calibrated,
            self._note,
            _section("Class", "whose places are shown"),
            self.label,
            _section("Pixel", about_pixel),
            self.row,
            self.column,
            self._pixel,
        ]
        return widgets.VBox(children, layout=widgets.Layout(width="316px", flex="0 0 auto"))

    def _right(self) -> Any:
        maps = []
        for name, picture in self._pictures.items():
            picture.add_class("cm-layer")
            self._marks[name].add_class("cm-layer").add_class("cm-marks")
            layers = widgets.GridBox(
                [picture, self._marks[name]], layout=widgets.Layout(grid_template_columns="100%")
            )
            maps.append(
                widgets.VBox(
                    [self._captions[name], layers, self._keys[name]],
                    layout=widgets.Layout(overflow="hidden"),
                )
            )
        columns = "repeat(auto-fit, minmax(250px, 1fr))"
        grid = widgets.Layout(grid_template_columns=columns, grid_gap="16px 16px", width="100%")
        plots = widgets.Layout(
            grid_template_columns="repeat(auto-fit, minmax(260px, 1fr))", grid_gap="16px", width="100%"
        )
        return widgets.VBox(
            [
                self._numbers,
                widgets.GridBox(maps, layout=grid),
                self._legend,
                widgets.GridBox([*self._plots.values()], layout=plots),
            ],
            layout=widgets.Layout(flex="1 1 0", min_width="0", grid_gap="16px", overflow="hidden"),
        )

    # Moving

    def _moved(self, change: dict[str, Any]) -> None:
        control = change["owner"]
        if self._quiet or self._is_rounded(control):
            return
        if control is self.image:
            self._choose_image()
        elif control is self.depth:
            self._show_slice()
        elif control is self.alpha:
            self._choose_alpha()
        elif control is self.lam:
            self._choose_lambda()
        elif control is self.label:
            self._choose_label()
        else:
            self._show_pixel()

    def _put(self, **values: float) -> None:
        """Moves the sliders of the level to numbers that may lie between two steps."""
        self._known.update(values)
        with self._quietly():
            for name, value in values.items():
                getattr(self, name).value = value

    def _is_rounded(self, control: Any) -> bool:
        """Whether a slider reports the step nearest to the value that it was moved to, as browsers do."""
        name = next((name for name in self._known if getattr(self, name) is control), None)
        if name is None:
            return False
        steps = (control.value - control.min) / control.step
        is_near: bool = abs(control.value - self._known[name]) <= 0.5001 * control.step
        is_step = abs(steps - round(steps)) < 1e-6
        return is_near and is_step and control.value != self._known[name]

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Moves sliders without calling their observers."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _choose_image(self) -> None:
        before = self._looked_at
        try:
            self._looked_at = self._read(self.image.value)
            self._show_image()
        except (
            Exception
        ) as error:  # of any library that reads; a callback that raises says nothing to the user
            self._looked_at = before
            self._show_image()
            self._say(f"image {self.image.value} cannot be shown, the one before stays: {error}")
        else:
            self._say("")

    def _choose_alpha(self) -> None:
        try:
            self._lambdas = self._levels.lambdas_at(round(self.alpha.value, 10))
        except InfeasibleRiskError as error:
            self._say(f"lambda stays as it is: {error}")
            return
        self._say("")
        self._put(alpha=self.alpha.value, lam=self._lam)
        self._show_sets()

    def _choose_lambda(self) -> None:
        self._say("")
        self._lambdas[self._chosen or 0] = self._levels.snapped(self.lam.value)
        self._put(lam=self._lam)
        self._follow_lambda()
        self._show_sets()

    def _follow_lambda(self) -> None:
        """Moves the slider of alpha to the smallest level that the lambda keeps."""
        step = self.alpha.step
        kept = math.ceil(self._levels.kept(self._lam, self._chosen) / step - 1e-9) * step
        self._put(alpha=min(max(round(kept, 10), self.alpha.min), self.alpha.max))

    def _choose_label(self) -> None:
        if self._levels.by_class:
            self._put(lam=self._lam)
            self._follow_lambda()
            self._show_level()
        self._show_label()

    def _go_back(self) -> None:
        """Goes back to the calibrated level."""
        self._lambdas = self._levels.lambdas
        self._say("")
        self._put(alpha=min(self._levels.alpha, self.alpha.max), lam=self._lam)
        self._show_sets()

    def _pointed(self, event: dict[str, Any]) -> None:
        """The pointer is somewhere over a map, which may be drawn at any size."""
        if event["type"] == "click":
            self._follows = not self._follows
        elif not self._follows:
            return
        height, width = self._looked_at.shape[-2:]
        # The browser reports whole pixels of the screen: take their middle.
        row = int((event["relativeY"] + 0.5) / max(1, event["boundingRectHeight"]) * height)
        column = int((event["relativeX"] + 0.5) / max(1, event["boundingRectWidth"]) * width)
        with self._quietly():
            self.row.value = min(max(row, 0), height - 1)
            self.column.value = min(max(column, 0), width - 1)
        self._show_pixel()

    # Showing

    def _read(self, place: int) -> LookedAt:
        return LookedAt(self._source.read(place), self._levels.configuration, place)

    def _say(self, text: str) -> None:
        self._note.value = _words.note(text)

    def _show_image(self) -> None:
        """Shows another image, which may have another size."""
        *depth, height, width = self._looked_at.shape
        with self._quietly():
            for slider, length in (
                (self.row, height),
                (self.column, width),
                *((self.depth, d) for d in depth),
            ):
                is_new = slider.max != max(1, length - 1)
                slider.max = max(1, length - 1)
                slider.disabled = length == 1
                slider.value = length // 2 if is_new else min(slider.value, length - 1)
        self.depth.layout.display = None if depth else "none"
        self._show_slice()

    def _show_slice(self) -> None:
        """Shows a slice: first what does not depend on lambda, then what does."""
        here, at = self._looked_at, self._slice
        picture = None if here.picture is None else here.picture[at]
        self._maps = Maps(picture, here.void[at], self._colours)
        void = bool(here.void[at].any())
        self._set("predicted", self._maps.classes(here.predicted[at], with_void=False), "Most probable class")
        if here.picture is not None:
            self._set("image", self._maps.image(), "Image")
        shown = [here.predicted[at].ravel()]
        if here.labels is not None:
            self._set("labels", self._maps.classes(here.labels[at], with_void=True), "Labels")
            shown.append(here.labels[at][~here.void[at]])
        k = len(self._names)
        present = range(k) if k <= _MOST_NAMES else np.unique(np.concatenate(shown)).tolist()
        named = [self._names[i] for i in present]
        self._legend.value = _words.chips(named, [self._colours[i] for i in present], void)
        self._show_sets()

    def _show_sets(self) -> None:
        """Shows all that depends on lambda."""
        found, at, k = self._found, self._slice, len(self._names)
        vmax = min(k, _MOST_COLOURS)
        sizes = found.sizes[at]
        self._set("sizes", self._maps.sizes(sizes, k, vmax), "Set size", "where sets hold several classes")
        counts = [f"{'≥ ' if i == vmax < k else ''}{i}" for i in range(2, vmax + 1)]
        shades = [*count_shades(vmax)[:, :3]]
        if not sizes[self._looked_at.seen[at]].all():
            counts, shades = ["empty", *counts], [np.array(EMPTY[:3]), *shades]
        self._keys["sizes"].value = _words.chips(counts, shades, void=False)
        if self._looked_at.labels is not None:
            self._set("missed", self._maps.missed(found.missed[at]), "Missed", "labels that the set lacks")
        self._plots["shares"].value = size_picture(found.shares, self._looked_at.labels is not None)
        self._show_label()
        self._show_level()
        self._show_pixel()

    def _show_label(self) -> None:
        label, name = self.label.value, self._names[self.label.value]
        there: Any = (slice(None), *self._slice)
        masks = self._found.masks[there]
        self._set("may_be", self._maps.may_be(masks, label), f"Where {name} may be")
        colour = self._colours[label]
        shades = [colour, colour + 0.6 * (1 - colour)]
        self._keys["may_be"].value = _words.chips([f"only {name}", "or another class"], shades, void=False)

    def _show_level(self) -> None:
        """Shows lambda, its risk, and the numbers of the image."""
        label, lam = self._chosen, self._lam
        risk = self._levels.risk(lam, label)
        if label not in self._curves:
            name = None if label is None else self._names[label]
            self._curves[label] = CurvePicture(self._levels.curve(label), name)
        self._plots["curve"].value = self._curves[label].png(lam, risk)
        of = "" if label is None else f" of {self._names[label]}"
        found = self._found
        size = "–" if math.isnan(found.activation) else f"{found.activation:.2f}"
        self._said = {
            f"lambda{of}": lambda_text(lam),
            "risk on calibration": _number(risk),
            "smallest alpha kept": _number(self._levels.kept(lam, label)),
            "set size, this image": size,
        }
        if self._looked_at.labels is not None:
            self._said["coverage, this image"] = _words.share(found.coverage)
        self._numbers.value = _words.cards(self._said.items())

    def _show_pixel(self) -> None:
        ring = _words.mark(self.row.value, self.column.value, self._looked_at.shape)
        for each in self._marks.values():
            each.value = ring
        pixel = self._looked_at.pixel(self._at, self._found)
        self._pixel.value = _words.pixel_table(pixel, self._at, self._names, self._colours)

    def _set(self, name: str, png: bytes, title: str, more: str = "") -> None:
        self._pictures[name].value = png
        self._captions[name].value = _words.caption(title, more)

    @property
    def _slice(self) -> tuple[int, ...]:
        """The index of the flat image that is shown."""
        return () if len(self._looked_at.shape) == 2 else (self.depth.value,)


def _control(kind: Any, description: str, **given: Any) -> Any:
    found = kind(description=description, layout=widgets.Layout(width=_WIDE), **given)
    if hasattr(found.style, "description_width"):
        found.style.description_width = "58px"
    return found


def _section(title: str, more: str = "") -> Any:
    return widgets.HTML(_words.caption(title, more)).add_class("cm-section")


def _picture(name: str | None = None) -> Any:
    found = widgets.Image(format="png", layout=widgets.Layout(width="100%", height="auto"))
    return found if name is None else found.add_class(name)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
