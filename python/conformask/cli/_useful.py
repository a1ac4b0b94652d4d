"""Whether the sets are of use: how many classes they hold, how often they are right, and which levels are reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask._arrays import check_ignore_index, is_void
from conformask._exact import exact_means, share_of
from conformask._tables import Table, names_and_values
from conformask._transforms import seen_by_scores
from conformask._units import unit_means
from conformask.cli import _page, _pictures
from conformask.cli._data import Seen
from conformask.cli._levels import unreached_text
from conformask.cli._pictures import share_text
from conformask.cli._promise import needed
from conformask.datasets import PairedFolder

__all__ = ["Watched", "usefulness"]

_SMALL, _MOST_SMALL = (
    0.5,
    5,
)  # classes with less than this share of an equal part are small; so many are shown


class Watched(Seen):
    """The pairs of a folder. During evaluation it collects set sizes, and where the most probable class is right."""

    def __init__(
        self, folder: PairedFolder, calibrator: cm.ConformalRiskCalibrator, strata: list[str] | None
    ) -> None:
        super().__init__(folder)
        self.calibrator, self.strata = calibrator, strata
        self.shares: list[NDArray[np.float64]] = []  # of each image, of the sizes 0 to K
        self.wrong: list[float] = []  # share of pixels whose most probable class is wrong
        self.alone = self.right = 0  # pixels with one class, and those that are right among them
        self.errors = self.unsure_errors = (
            0  # of the most probable class, and those in sets of two classes or more
        )
        self.wrong_of_classes: list[
            NDArray[np.float64]
        ] = []  # of each image, share of the pixels of each class

    def sizes(self, place: int, scores: NDArray[Any]) -> NDArray[Any]:
        """The set sizes of an image."""
        given = {} if self.strata is None else {"strata": self.strata[place : place + 1]}
        sizes: NDArray[Any] = self.calibrator.set_size(scores[np.newaxis], **given)[0]
        return sizes

    def guess(self, place: int, scores: NDArray[Any]) -> NDArray[np.intp]:
        """The most probable class of each pixel of an image, by the probabilities from which its sets are made."""
        given = self.calibrator._configuration().given
        guess: NDArray[np.intp] = seen_by_scores(given, scores[np.newaxis], place)[0].argmax(axis=0)
        return guess

    def look(self, place: int, scores: NDArray[Any], labels: NDArray[Any]) -> None:
        super().look(place, scores, labels)
        valid = ~is_void(labels, check_ignore_index(self.calibrator.ignore_index))
        sizes, n_valid = self.sizes(place, scores)[valid], np.count_nonzero(valid)
        truth = labels[valid].astype(np.intp)
        hits = self.guess(place, scores)[valid] == truth
        counts = np.bincount(sizes, minlength=len(scores) + 1)
        self.shares.append(counts / n_valid if n_valid else np.full(len(counts), np.nan))
        self.wrong.append(float(1 - hits.mean()) if n_valid else math.nan)
        self.alone += int(counts[1])
        self.right += int(np.count_nonzero(hits & (sizes == 1)))
        self.errors += int(np.count_nonzero(~hits))
        self.unsure_errors += int(np.count_nonzero(~hits & (sizes > 1)))
        n_pixels, n_wrong = (np.bincount(each, minlength=len(scores)) for each in (truth, truth[~hits]))
        self.wrong_of_classes.append(share_of(n_wrong, n_pixels))

    def mean(self, values: Any) -> NDArray[np.float64]:
        """The mean over images, or over groups of the means over their images, as in evaluation."""
        units = unit_means(np.asarray(values, np.float64).reshape(len(self), -1), self.folder.groups)
        known: NDArray[np.float64] = units[~np.isnan(units).any(axis=1)]
        return known.mean(axis=0) if len(known) else np.full(units.shape[1], np.nan)


def usefulness(
    calibrator: cm.ConformalRiskCalibrator, report: cm.RiskReport, watched: Watched, alphas: Sequence[float]
) -> list[str]:
    """What the sizes of sets show, as a sentence, a table, a figure, and a table for other levels."""
    shares, n_classes = watched.mean(watched.shares), calibrator.n_classes_
    if np.isnan(shares).any():
        return [_page.paragraph("No image has a labelled pixel.")]
    wrong = float(watched.mean(watched.wrong)[0])
    right = f"{share_text(watched.right / watched.alone)} are right" if watched.alone else "there is none"
    unsure = (
        f"{share_text(watched.unsure_errors / watched.errors)} lie" if watched.errors else "there is none"
    )
    rows = [
        ("most probable class alone", f"wrong on {share_text(wrong)} of the labelled pixels"),
        ("where it is wrong", f"{unsure} where sets hold two classes or more" if watched.errors else unsure),
        ("missed by the sets", f"{share_text(1 - report.coverage)} of the labelled pixels"),
        ("classes in a set", f"{report.activation_ratio:.3f} of {n_classes} on average"),
        ("pixels with one class", f"{share_text(float(shares[1]))}; of these, {right}"),
        ("pixels with all classes", share_text(float(shares[n_classes]))),
    ]
    if n_classes > 3:
        many = ("pixels with more than half of the classes", share_text(_of_many(shares)))
        rows.insert(3, many)
    parts = [
        _page.paragraph(_conclusion(report, shares, n_classes, watched)),
        _page.table(names_and_values("", rows)),
        *_small_classes(report, watched),
        _page.figure(
            _pictures.png_of(_pictures.size_shares(shares)),
            "Share of the pixels with sets of each size",
            "How many classes the sets hold: the mean over images of the shares of their labelled pixels"
            + (", over groups of the means of theirs." if report.n_groups else "."),
            _pictures.CSS_WIDTH,
        ),
    ]
    if report.sweep:
        parts.append(_page.table(_reachable(calibrator, report)))
    if unreached := unreached_text(calibrator, report, alphas):
        parts.append(_page.paragraph(unreached))
    return parts


def _small_classes(report: cm.RiskReport, watched: Watched) -> list[str]:
    """The results of classes that few pixels have: means over all pixels hardly depend on them."""
    there = sorted((row for row in report.classes if row.n_pixels), key=lambda row: row.n_pixels)
    total = sum(row.n_pixels for row in there)
    small = [row for row in there if row.n_pixels < total * _SMALL / len(there)][:_MOST_SMALL]
    if not small:
        return []
    alone = exact_means(unit_means(np.stack(watched.wrong_of_classes), watched.folder.groups))
    rows = [
        (
            row.name,
            share_text(row.n_pixels / total),
            share_text(float(alone[row.label])),
            share_text(row.miss_rate),
        )
        for row in small
    ]
    header = ("class", "of the labelled pixels", "missed by the most probable class", "missed by the sets")
    return [_page.table(Table(f"Small classes, mean over the {report._units} that hold them", header, rows))]


def _of_many(shares: NDArray[np.float64]) -> float:
    """The share of pixels whose sets hold more than half of the classes."""
    return float(shares[(len(shares) - 1) // 2 + 1 :].sum())


def _conclusion(report: cm.RiskReport, shares: NDArray[np.float64], n_classes: int, watched: Watched) -> str:
    """What the sizes of sets show, in a sentence."""
    one, many = float(shares[1]), _of_many(shares)
    if report.infeasible:
        return (
            "All sets are full: there were too few calibration images for this alpha. Full sets tell nothing."
        )
    if one >= 0.999:
        return (
            "Nearly every pixel has one class: at this alpha the sets tell no more than the most probable "
            "class. A smaller "
            "alpha would show where the model is unsure."
        )
    if n_classes > 3 and many >= 0.5:
        return (
            "Most pixels have more than half of the classes: the sets keep the guarantee, but tell "
            "little. A larger "
            "alpha, another score or a better model would make them smaller."
        )
    if one >= 0.8:
        seen = "these images hold no error of the most probable class"
        if watched.errors:
            share = share_text(watched.unsure_errors / watched.errors)
            seen = f"a person who looks there sees {share} of the errors of the most probable class"
        return (
            f"Most pixels have one class. The others, {share_text(1 - one)} of an image, are where the model is "
            "unsure. The heatmaps below show where they lie: "
            f"{seen}."
        )
    return (
        f"{share_text(1 - one)} of an image's pixels have several classes. The sets narrow the choice to "
        f"{report.activation_ratio:.2f} of {n_classes} classes on average, and leave the rest to a person or another "
        "model."
    )


def _reachable(calibrator: cm.ConformalRiskCalibrator, report: cm.RiskReport) -> Table:
    """A table of the levels that the calibration images reach, and of the set sizes there."""
    n = calibrator.n_images_
    rows = [
        (
            f"{each.alpha:g}",
            f"{needed(calibrator, each.part_alpha or each.alpha)}",
            _reached(each),
            *(
                ("-", "-")
                if each._is_unreached
                else (f"{each.empirical_risk:.4f}", f"{each.activation_ratio:.3f}")
            ),
        )
        for each in report.sweep
    ]
    unit = "groups" if calibrator._current()[1].grouped else "images"
    of_each = f" of each {report.by}" if report.parts else ""
    return Table(
        f"Which levels {n} calibration {unit} reach, and how large the sets then are on these images",
        (
            "alpha",
            f"{unit}{of_each} needed",
            "reached",
            "risk" if report._limits_mean else "risk over all classes",
            "classes in a set",
        ),
        rows,
    )


def _reached(report: cm.RiskReport) -> str:
    """Whether the calibration images were enough for a level, or for how many classes or strata."""
    if report._is_unreached:
        return "no"
    if not report.parts or not any(part.is_rare for part in report.parts):
        return "yes"
    n_reached = sum(not part.is_rare for part in report.parts)
    return f"by {n_reached} of {len(report.parts)}"
