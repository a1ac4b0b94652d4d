"""The paper's tables, beside ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from conformask._tables import Table
from conformask._text import plural
from conformask.reproduction.selective.outcomes import UNCALIBRATED, ScalerComparison
from conformask.reproduction.selective.paper import METHODS, TABLE_1, TABLE_2, published

__all__ = ["beside", "document", "order", "table_of"]

_BEST = "Selective"
_PAPER = "the paper"
_CAPTIONS = (
    "Table 1. Images like those of calibration: mean IoU in percent, ECE of images",
    "Table 2. Images of another domain: mean IoU in percent, ECE of images",
)
_NOTES = (
    "ECE of images: the expected calibration error of each image (10 bins), mean over the test images. Ours are "
    "followed by the standard deviation over splits; the paper prints none.",
    "Uncal is the softmax. LogS, logistic scaling, is vector scaling. The paper's LTS is a network; LTS (light) here "
    "is a small model of local statistics. Meta-Cal* is the paper's variant. Ens: the mean of three models. SVS and "
    "SMS, structured scaling, were published later.",
    "-: not printed, not known to us, or not available. We have only three rows of the paper's Table 2, with two "
    "methods each.",
)


def document(
    alike: Sequence[ScalerComparison], shifted: Sequence[ScalerComparison] = (), row: str | None = None
) -> str:
    """All tables with their notes, as Markdown; `row` is what the paper calls the first comparison of its table."""
    parts = [
        "# SELECTIVE, Tables 1 and 2",
        'Scalers by the calibration error of single images, as in Wang, Gong, Wang, "On Calibrating Semantic '
        'Segmentation Models: Analyses and An Algorithm", CVPR 2023, arXiv:2212.12053. The column source says whether '
        "a row was printed in the paper, or computed here on simulated or on real data. The paper used other images "
        "and models, unless a table below says that they are the same. So its rows show what order of magnitude to "
        "expect. Splits follow from random_state 0, and are the same for all methods.",
    ]
    if row is not None:
        parts.append(beside((shifted if row in TABLE_2 else alike)[0], row).markdown())
    if alike:
        parts.append(table_of(_CAPTIONS[0], alike, TABLE_1).markdown())
    if shifted:
        parts.append(table_of(_CAPTIONS[1], shifted, TABLE_2).markdown())
    parts.append("\n".join(f"- {note}" for note in [*_NOTES, order([*alike, *shifted])]))
    parts.append("## All measures")
    parts += map(str, [*alike, *shifted])
    return "\n\n".join(parts) + "\n"


def order(comparisons: Sequence[ScalerComparison]) -> str:
    """In how many rows selective scaling has the smallest error of the paper's methods. Reported, not required."""
    first = []
    for each in comparisons:
        errors = {name: each.mean(name, "ece") for name in METHODS if name in each.methods}
        if errors and min(errors, key=errors.__getitem__) == _BEST:
            first.append(each.title)
    which = f" ({', '.join(first)})" if first else ""
    return (
        f"In the paper {_BEST} has the smallest error of each row. Here it has the smallest of the paper's methods in "
        f"{len(first)} of {plural(len(comparisons), 'row')}{which}."
    )


def table_of(caption: str, comparisons: Sequence[ScalerComparison], rows: Iterable[str]) -> Table:
    """Our rows, then those of the paper: mean IoU before calibration, and the ECE of images of each method."""
    methods = list(dict.fromkeys([*METHODS, *(name for each in comparisons for name in each.methods)]))
    cells = [
        (
            each.title,
            each.origin,
            f"{100 * each.mean(UNCALIBRATED, 'mean_iou'):.1f}",
            *(each.text(name, "ece", 3) if name in each.methods else "-" for name in methods),
        )
        for each in comparisons
    ]
    for row in rows:
        errors = published(row)
        iou = f"{TABLE_1[row][0]:.1f}" if row in TABLE_1 else "-"
        cells.append((row, _PAPER, iou, *(f"{errors[m]:.3f}" if m in errors else "-" for m in methods)))
    return Table(caption, ("data", "source", "mIoU", *methods), cells)


def beside(found: ScalerComparison, row: str) -> Table:
    """Our figures and the paper's for one row of its tables, method by method."""
    errors = published(row)
    cells = []
    for name in dict.fromkeys([*errors, *found.methods]):
        ours = found.mean(name, "ece") if name in found.methods else None
        theirs = errors.get(name)
        cells.append(
            (
                name,
                "-" if ours is None else found.text(name, "ece", 3),
                "-" if theirs is None else f"{theirs:.3f}",
                "-" if ours is None or theirs is None else f"{ours - theirs:+.3f}",
            )
        )
    if row in TABLE_1:
        iou = 100 * found.mean(UNCALIBRATED, "mean_iou")
        cells.append(("mIoU", f"{iou:.2f}", f"{TABLE_1[row][0]:.2f}", f"{iou - TABLE_1[row][0]:+.2f}"))
    caption = f"{row}: ECE of images; ours from {found.title}, {found.origin}"
    return Table(caption, ("method", "ours (sd)", _PAPER, "difference"), cells)
