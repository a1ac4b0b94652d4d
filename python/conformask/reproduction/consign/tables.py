"""CONSIGN's tables as Markdown: the printed rows and ours."""

from __future__ import annotations

import math
from collections.abc import Sequence

from conformask._tables import Table
from conformask.reproduction.consign.outcomes import Comparison, mean_and_sd
from conformask.reproduction.consign.paper import LAMBDAS, TABLE_1
from conformask.reproduction.consign.study import Study, reaches, shapes
from conformask.reproduction.consign.timings import Timing, machine

__all__ = ["document", "lambdas_of", "shapes_of", "table_1", "table_2"]

_FOLDS = 5  # up to so many folds have a column each
_PAPER = "the paper"


def document(studies: Sequence[Study], timings: Sequence[Timing] = ()) -> str:
    """All tables with their notes, as Markdown."""
    n_splits = len(studies[0].main.of(studies[0].main.methods[0]))
    parts = [
        "# CONSIGN, Tables 1 to 5",
        "Sets of whole segmentations compared with pixel-wise sets, as in Viti, Karabelas, Holler, "
        '"CONSIGN", ICLR 2026, arXiv:2505.14113. The column source says whether a row was printed in the paper, or '
        "computed here on simulated or on real data. The paper used other data sets and networks: nothing below "
        f"reproduces its numbers. There are {n_splits} random splits (folds; random_state 0), the same for all "
        "methods. The numbers in brackets are standard deviations over splits of the same images.",
        "## Table 1. Data",
        table_1(studies).markdown(),
        "k: components of CONSIGN. beta: the label-wise accuracy that a segmentation of the set must have.",
    ]
    if timings:
        parts += [
            "## Table 2. Time",
            table_2(timings).markdown(),
            f"The smallest of three measurements on {machine()}, on simulated images of two classes in which only one "
            "edge varies. They only show how time grows with the number of samples. We do not have the paper's "
            "figures.",
        ]
    parts += [
        "## Tables 3 to 5. Calibrated lambdas",
        paper_lambdas().markdown(),
        "We do not know which row of the paper belongs to which pair. Lambdas of CONSIGN have the scale of the "
        "samples' singular values: they grow as images and samples get fewer, and can be compared only within one data "
        "set.",
        *(lambdas_of(each).markdown() for each in studies),
        "0: the mean of the samples is accurate enough on enough images, so that no larger lambda is needed. "
        "abstains: no lambda controls the risk, because for too many calibration images there is no segmentation of "
        "that accuracy. coverage: share of the test images whose set holds such a segmentation. It must be at least "
        "1 - alpha on average, where abstaining counts as covering.",
        *(each.note for each in studies if each.note),
        "## What the paper's figures show",
    ]
    for each in studies:
        parts += [
            f"### {each.title}",
            f"Source: {each.origin}.",
            str(each.main),
            shapes_of(each).markdown(),
            _reached(each.main),
        ]
    parts.append("\n".join(f"- {note}" for note in _NOTES))
    return "\n\n".join(parts) + "\n"


_NOTES = (
    "as in the paper: the difference has the paper's sign, by more than two standard errors over splits. This must be "
    "so on simulated data, whose samples are drawn like the truth; if it is not, the command fails. On real data it is "
    "only reported.",
    "Chao's estimate from m draws cannot exceed m (m + 1) / 2. If both methods reach that ceiling, it does not "
    "distinguish them; the logarithms of the numbers of segmentations, log10 vol., do.",
    "SEC: share of the test images for which at least one of the draws is accurate enough. It cannot exceed the "
    "coverage of the sets, because an accurate segmentation in a set is not always drawn.",
    "The paper's mean correlation also pairs each draw with itself. For m draws of mean correlation r that gives "
    "((m - 1) r + 1) / m, which falls as m grows even if r does not. Here it is r.",
)


def table_1(studies: Sequence[Study]) -> Table:
    """Data sets: ours, then the paper's."""
    rows = [
        (
            each.title,
            each.origin,
            f"{each.main.outcomes[0].n_calibration} / {each.main.outcomes[0].n_test}",
            str(each.n_classes),
            each.samples_from,
            each.size,
            _pair(each.main.alpha, each.main.min_accuracy),
        )
        for each in studies
    ]
    rows += [
        (
            name,
            _PAPER,
            f"{each.n_calibration} / {each.n_test}",
            str(each.n_classes),
            each.samples,
            "-",
            _pair(each.alpha, each.min_accuracy),
        )
        for name, each in TABLE_1.items()
    ]
    header = (
        "data",
        "source",
        "calibration / test",
        "labels",
        "samples from",
        "S x L x H x W",
        "alpha, beta",
    )
    return Table("Data sets, split sizes, and the pair of each", header, rows)


def table_2(timings: Sequence[Timing]) -> Table:
    """Times, for growing numbers of samples."""
    rows = [
        (
            each.method,
            "measured, simulated data",
            str(each.n_samples),
            f"{each.offline:.3g}",
            f"{1000 * each.online:.1f}",
        )
        for each in timings
    ]
    header = ("method", "source", "samples S", "calibration, s", "a new image and its draws, ms")
    return Table("Time of calibration and of a new image", header, rows)


def paper_lambdas() -> Table:
    """What is known of the paper's lambdas."""
    header = ("data", "source", "CONSIGN, k = 2", "CONSIGN, k = 5", "RAPS and SACP")
    return Table(
        "The paper's lambdas, least to largest", header, [(row[0], _PAPER, *row[1:]) for row in LAMBDAS]
    )


def lambdas_of(found: Study) -> Table:
    """Lambda-hat of each fold, of each method for each pair."""
    n = len(found.main.of(found.main.methods[0]))
    folds = [f"fold {i + 1}" for i in range(n)] if n <= _FOLDS else ["folds"]
    rows = []
    for each in found.pairs:
        for method in each.methods:
            outcomes = each.of(method)
            lambdas = [None if o.lambda_hat is None else float(o.lambda_hat) for o in outcomes]
            known = [value for value in lambdas if value is not None]
            cells = ["abstains" if value is None else f"{value:#.3g}" for value in lambdas]
            if n > _FOLDS:
                some = f"{min(known):#.3g} to {max(known):#.3g}" if known else "-"
                cells = [
                    some + (f"; {n - len(known)} of {n} abstain" if len(known) < n else ""),
                ]
            covered = [o.coverage for o in outcomes if not o.abstained]
            rows.append(
                (
                    _pair(each.alpha, each.min_accuracy),
                    method,
                    _short(found.origin),
                    *cells,
                    _mean(known, "#.3g"),
                    _mean(covered, ".3f"),
                )
            )
    return Table(
        f"{found.title}: lambda-hat of each fold",
        ("alpha, beta", "method", "source", *folds, "mean (sd)", "coverage (sd)"),
        rows,
    )


def shapes_of(found: Study) -> Table:
    """The difference of CONSIGN and each pixel-wise method."""
    rows = []
    for shape in shapes(found.main):
        known = not math.isnan(shape.error)
        rows.append(
            (
                f"{shape.metric}, {shape.consign} less {shape.baseline}",
                _short(found.origin),
                f"{shape.difference:.4g} ({shape.error:.2g})" if known else "-",
                "smaller" if shape.sign < 0 else "larger",
                ("yes" if shape.holds else "no") if known else "-",
            )
        )
    header = ("metric", "source", "difference (standard error)", "in the paper", "as in the paper")
    return Table(f"{found.title}: CONSIGN less pixel-wise sets, mean over splits", header, rows)


def _reached(found: Comparison) -> str:
    """The number of draws that each method needs."""
    said = []
    for method in found.methods:
        m = reaches(found, method)
        said.append(f"{method}: {'none' if m is None else m}")
    listed = ", ".join(map(str, found.n_samples))
    return (
        f"The number of draws at which SEC reaches 1 - alpha = {1 - found.alpha:g}, among {listed}: "
        f"{'; '.join(said)}. The paper's baselines need more draws than CONSIGN, or do not reach it."
    )


def _pair(alpha: float, accuracy: float) -> str:
    return f"{alpha:g}, {accuracy:g}"


def _short(origin: str) -> str:
    return origin.split(" (")[0].split(",")[0]


def _mean(values: Sequence[float], spec: str) -> str:
    mean, sd = mean_and_sd(values)
    if math.isnan(mean):
        return "-"
    return f"{mean:{spec}}" + ("" if math.isnan(sd) else f" ({sd:{spec}})")
