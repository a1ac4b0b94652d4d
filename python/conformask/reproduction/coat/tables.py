"""The paper's tables: our rows first, then the printed ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from conformask._tables import Table
from conformask.reproduction.coat.outcomes import AdaptiveComparison
from conformask.reproduction.coat.paper import ALPHAS, METHODS, TABLE_1, TABLE_2, TEMPERATURES, published

__all__ = ["beside", "document", "table_1", "table_2"]

_PAPER = "the paper"


def document(
    comparisons: Sequence[AdaptiveComparison],
    temperatures: Sequence[AdaptiveComparison],
    row: str | None = None,
) -> str:
    """All tables with their notes, as Markdown: methods on each data set, and temperatures on each.

    `row` is what the paper calls the first data set and its network.
    """
    alphas = list(dict.fromkeys(alpha for each in comparisons for alpha in each.alphas))
    parts = [
        "# COAT, Tables 1 and 2",
        "Binary masks with one threshold for all images (CRC) and with thresholds of their own, over random splits, "
        'beside the figures of "Enhancing Image-Conditional Coverage in Segmentation: Adaptive Thresholding via '
        'Differentiable Miscoverage Loss" (under review in 2026). The coverage of an image is the share of its object '
        "that the mask holds; its gap is the distance of the coverage from 1 - alpha. The column source says whether a "
        "row was printed in the paper, or computed here on simulated or on real data. The paper used other images and "
        "networks, unless a table below says that they are the same. So its rows show what order of magnitude to "
        "expect, not the values that ours should have. Splits follow from random_state 0, and are the same for all "
        "methods.",
        *([beside(comparisons[0], row).markdown()] if row else []),
        *(table_1(comparisons, alpha).markdown() for alpha in alphas),
        "\n".join(f"- {note}" for note in _NOTES_1),
        table_2(temperatures).markdown(),
        "\n".join(f"- {note}" for note in _NOTES_2),
        *map(str, comparisons),
    ]
    verdicts = [
        f"- {each.title}, temperatures: {sentence}" for each in temperatures for sentence in each.violations()
    ]
    return "\n\n".join([*parts, *(["\n".join(verdicts)] if verdicts else [])]) + "\n"


_NOTES_1 = (
    "The guarantee: for a random new image that has an object (of a random new group, where there are groups), and "
    "over random calibration sets, the mean coverage is at least 1 - alpha. It says nothing about single images, nor "
    "about images of another kind.",
    "Standard deviations are over splits of the same images. Given the images, splits are independent; as evidence "
    "about other images they are not.",
    "A small gap alone proves little: look below at the size, the false positive rate and the full masks. One number "
    "is subtracted from all thresholds of a trained model. If an image's threshold is smaller than that number, its "
    "mask holds everything.",
    "-: not legible, or not available.",
)
_NOTES_2 = (
    "The coverage of the paper's rows is 0.896 to 0.901 throughout.",
    "Our COAT trains a small network on nine numbers that describe the probabilities; the paper's network sees the "
    "image.",
)


def table_1(comparisons: Sequence[AdaptiveComparison], alpha: float) -> Table:
    """Coverage / coverage gap of each method at one alpha: our rows, then the paper's."""
    methods = list(dict.fromkeys([*METHODS, *(name for each in comparisons for name in each.methods)]))
    rows = [
        (
            each.title,
            each.origin,
            *(_cell(each, name, alpha) if name in each.methods else "-" for name in methods),
        )
        for each in comparisons
        if alpha in each.alphas
    ]
    if alpha in ALPHAS:
        for data in TABLE_1:
            figures = {name: published(data, name, alpha) for name in METHODS}
            cells = (" / ".join(map(_figure, figures[name])) if name in figures else "-" for name in methods)
            rows.append((data, _PAPER, *cells))
    caption = f"Table 1, alpha = {alpha:g}: coverage / coverage gap; ours with the sd over splits"
    return Table(caption, ("data", "source", *methods), rows)


def table_2(comparisons: Sequence[AdaptiveComparison]) -> Table:
    """Coverage / coverage gap of COAT at each temperature: our rows, then the paper's, which has gaps alone."""
    names = [f"T = {t:g}" for t in TEMPERATURES]
    rows = [
        (
            each.title,
            each.origin,
            *(_cell(each, name, ALPHAS[0]) if name in each.methods else "-" for name in names),
        )
        for each in comparisons
    ]
    rows += [(data, _PAPER, *(f"{gap:.3f}" for gap in gaps)) for data, gaps in TABLE_2.items()]
    caption = f"Table 2, COAT by temperature, alpha = {ALPHAS[0]:g}: coverage / coverage gap (the paper: only the gap)"
    return Table(caption, ("data", "source", *names), rows)


def beside(found: AdaptiveComparison, row: str) -> Table:
    """Our figures and the paper's for one row of its Table 1, method by method."""
    cells = []
    for alpha in found.alphas:
        for name in found.methods:
            known = name in METHODS and alpha in ALPHAS
            theirs = published(row, name, alpha) if known else (math.nan, math.nan)
            ours = [found.text(name, alpha, measure) for measure in ("coverage", "coverage_gap")]
            cells.append((name, f"{alpha:g}", ours[0], _figure(theirs[0]), ours[1], _figure(theirs[1])))
    header = (
        *("method", "alpha", "coverage (sd)", f"{_PAPER}: coverage"),
        *("coverage gap (sd)", f"{_PAPER}: coverage gap"),
    )
    return Table(f"{row}; ours from {found.title}, {found.origin}", header, cells)


def _cell(comparison: AdaptiveComparison, method: str, alpha: float) -> str:
    measures = ("coverage", "coverage_gap")
    return " / ".join(comparison.text(method, alpha, measure) for measure in measures)


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
