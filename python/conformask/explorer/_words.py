"""The texts of the explorer, as HTML that follows the colours of the notebook."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colors as mpl_colors

from conformask.explorer._looked_at import Pixel
from conformask.plotting._palette import VOID_GREY

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CAUTION", "STYLE", "caption", "cards", "chips", "mark", "note", "pixel_table", "share"]

CAUTION = (
    "<b>For looking, not for choosing.</b> The promise holds for a level that was fixed before these images and the "
    "calibration labels were looked at. A level that you choose here is no longer fixed beforehand: no promise is "
    "made for it on these images. To use it, explore on images of their own, then calibrate and test at that level on "
    "others."
)

_MOST_ROWS = 10

STYLE = """
<style>
.cm-explorer { --cm-text: var(--jp-ui-font-color1, #1f2933); --cm-quiet: var(--jp-ui-font-color2, #667380);
  --cm-line: var(--jp-border-color2, #dfe3e8); --cm-soft: var(--jp-layout-color2, #f4f6f8); --cm-accent: #d27604;
  color: var(--cm-text); font-family: var(--jp-ui-font-family, system-ui, sans-serif); max-width: 1280px; }
.cm-explorer .widget-html-content { line-height: 1.4; overflow: visible; }
.cm-explorer .widget-html, .cm-explorer .jupyter-widgets.widget-html { height: auto; }
.cm-caution { border-left: 3px solid var(--cm-accent); background: var(--cm-soft); border-radius: 0 6px 6px 0;
  padding: 8px 14px; font-size: 12.5px; color: var(--cm-quiet); }
.cm-caution b { color: var(--cm-text); }
.cm-note { color: #b3261e; font-size: 12.5px; padding: 2px 0 4px; }
.cm-cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(112px, 1fr)); gap: 10px; }
.cm-card { border: 1px solid var(--cm-line); border-radius: 8px; padding: 8px 12px 9px; }
.cm-card small { display: block; font-size: 11.5px; color: var(--cm-quiet); }
.cm-card b { display: block; font-size: 20px; font-weight: 600; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.cm-section { padding-top: 8px; }
.cm-caption { font-size: 13px; font-weight: 600; padding: 0 0 4px; }
.cm-caption i { font-style: normal; font-weight: 400; color: var(--cm-quiet); }
.cm-chips { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 12px; color: var(--cm-quiet); }
.cm-chips span, .cm-swatch { display: inline-flex; align-items: center; gap: 6px; }
.cm-chips span::before, .cm-swatch::before { content: ""; width: 11px; height: 11px; border-radius: 3px;
  background: var(--cm-colour); box-shadow: inset 0 0 0 1px rgba(128, 128, 128, .35); }
.cm-pixel { font-size: 12.5px; padding-top: 8px; }
.cm-pixel header { display: flex; justify-content: space-between; font-weight: 600; font-size: 13px;
  padding-bottom: 6px; }
.cm-pixel header i { font-style: normal; font-weight: 400; color: var(--cm-quiet); }
.cm-row { display: grid; grid-template-columns: minmax(0, 1fr) 76px 54px; gap: 8px; align-items: center;
  padding: 3px 6px; border-radius: 5px; }
.cm-row.cm-held { background: var(--cm-soft); font-weight: 600; }
.cm-row:not(.cm-held) { color: var(--cm-quiet); opacity: .75; }
.cm-row .cm-swatch { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.cm-row em { font-style: normal; font-weight: 400; font-size: 11px; border: 1px solid currentColor;
  border-radius: 8px; padding: 0 6px; }
.cm-bar { height: 7px; border-radius: 4px; background: var(--cm-line); overflow: hidden; }
.cm-bar div { height: 100%; background: var(--cm-colour); }
.cm-row .cm-number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.cm-missed { color: #b3261e; font-weight: 600; padding-top: 4px; }
.cm-layer { grid-area: 1 / 1; margin: 0 !important; }
.cm-map img, img.cm-layer { border-radius: 6px; cursor: crosshair; display: block; }
.cm-marks { pointer-events: none; overflow: hidden; }
.cm-marks .widget-html-content { position: relative; width: 100%; height: 100%; }
.cm-mark { position: absolute; width: 12px; height: 12px; margin: -8px 0 0 -8px; border-radius: 50%;
  border: 2px solid #fff; box-shadow: 0 0 0 1.5px #000, inset 0 0 0 1px #000; }
.cm-plot { background: #fff; border-radius: 8px; }
</style>
"""


def cards(values: Iterable[tuple[str, str]]) -> str:
    """Names and numbers, side by side."""
    each = "".join(
        f'<div class="cm-card"><small>{escape(name)}</small><b>{escape(text)}</b></div>'
        for name, text in values
    )
    return f'<div class="cm-cards">{each}</div>'


def caption(title: str, more: str = "") -> str:
    """The text above a map."""
    return f'<div class="cm-caption">{escape(title)} <i>{escape(more)}</i></div>'


def note(text: str) -> str:
    """An error message; nothing for an empty text."""
    return f'<div class="cm-note">{escape(text)}</div>' if text else ""


def chips(names: Sequence[str], colours: Sequence[NDArray[np.float64]], void: bool) -> str:
    """A legend."""
    entries = [*zip(names, colours, strict=True)]
    if void:
        entries.append(("void", np.full(3, VOID_GREY)))
    each = "".join(
        f'<span style="--cm-colour: {_hex(colour)}">{escape(name)}</span>' for name, colour in entries
    )
    return f'<div class="cm-chips">{each}</div>'


def mark(row: int, column: int, shape: tuple[int, ...]) -> str:
    """A ring around a pixel of a map."""
    top, left = 100 * (row + 0.5) / shape[-2], 100 * (column + 0.5) / shape[-1]
    return f'<div class="cm-mark" style="top: {top:.3f}%; left: {left:.3f}%"></div>'


def pixel_table(pixel: Pixel, at: tuple[int, ...], names: Sequence[str], colours: NDArray[np.float64]) -> str:
    """The set of a pixel: its classes, the most probable first, then some that it lacks."""
    order = np.lexsort((-pixel.probabilities, ~pixel.held)).tolist()
    shown = order[:_MOST_ROWS]
    if pixel.label is not None and not pixel.is_void and pixel.label not in shown:
        shown[-1] = pixel.label
    rows = []
    for k in shown:
        tag = " <em>label</em>" if k == pixel.label and not pixel.is_void else ""
        rows.append(
            f'<div class="cm-row{" cm-held" if pixel.held[k] else ""}" style="--cm-colour: {_hex(colours[k])}">'
            f'<div class="cm-swatch">{escape(names[k])}{tag}</div>'
            f'<div class="cm-bar"><div style="width: {100 * pixel.probabilities[k]:.1f}%"></div></div>'
            f'<div class="cm-number">{escape(share(pixel.probabilities[k]))}</div></div>'
        )
    n_more = int(pixel.held.sum() - pixel.held[shown].sum())
    more = f'<div class="cm-chips">and {n_more} more in the set</div>' if n_more else ""
    lacks = pixel.label is not None and not pixel.is_void and not pixel.held[pixel.label]
    last = '<div class="cm-missed">The set lacks the label.</div>' if lacks else ""
    void = '<div class="cm-chips">void: the label is not known</div>' if pixel.is_void else ""
    n = int(pixel.held.sum())
    head = f"Set of pixel ({', '.join(map(str, at))})"
    count = f"{n} of {len(names)} classes"
    return (
        f'<div class="cm-pixel"><header><span>{head}</span><i>{count}</i></header>'
        f"{''.join(rows)}{more}{void}{last}</div>"
    )


def share(value: float) -> str:
    """A share in percent."""
    if math.isnan(value):
        return "–"
    if 0 < value < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= value < 1 else f"{100 * value:.1f} %"


def _hex(colour: NDArray[np.float64]) -> str:
    red, green, blue = colour.tolist()
    return mpl_colors.to_hex((red, green, blue))
