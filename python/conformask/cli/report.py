"""``conformask report``: what a calibrator is worth on labelled images, as one HTML file."""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask._arguments import file_to_write
from conformask._arrays import check_ignore_index, is_void
from conformask._files.folders import files_of, partner
from conformask._files.maps import PHOTOGRAPHS, read_photograph
from conformask._tables import Table, names_and_values
from conformask._text import lambda_text, plural
from conformask._units import unit_means
from conformask.cli import _page, _pictures
from conformask.cli._data import (
    EXIT_STATUS,
    Pairs,
    adapt,
    add_calibrator_file,
    add_labels,
    add_maps,
    loaded,
    naming_files,
    paired,
    strata_of,
)
from conformask.cli._pictures import import_figure, share_text
from conformask.cli._promise import condition, count_words, loss_words, needed, promise
from conformask.cli.evaluate import add_names_and_alphas, write_text
from conformask.datasets import PairedFolder
from conformask.losses import as_loss
from conformask.plotting._overview import OverviewRow, overview

__all__ = ["MORE", "SUMMARY", "add_arguments", "run"]

SUMMARY = "write one HTML file with risk, sets, classes and pictures, on labelled images"
MORE = f"""\
examples:
  conformask report --calibrator calibrator.json --maps softmax --labels masks --out report.html
  conformask report --calibrator calibrator.json --maps softmax --labels masks --images photographs

Take other images than those that calibrated. The file needs nothing else: pictures are inside. It needs Matplotlib:
pip install "conformask[cli]".

{EXIT_STATUS}"""

_ALPHAS = [0.01, 0.02, 0.05, 0.1, 0.2]
_PANEL = 2.55  # inches
_CSS_PIXELS = 94  # an inch
_WIDTH = round(7.5 * _CSS_PIXELS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add_calibrator_file(parser)
    files = add_maps(parser)
    add_labels(files)
    files.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="photographs (H, W) or (H, W, 3) to draw on, files of the same names: .png, .jpg, .npy, .npz",
    )
    add_names_and_alphas(parser, _ALPHAS)
    parser.add_argument(
        "--title", default="Conformal segmentation report", help="title of the page; default: %(default)s"
    )
    parser.add_argument(
        "--out",
        type=file_to_write,
        default=Path("report.html"),
        metavar="FILE",
        help="the page; default: %(default)s",
    )


class _Watched(Pairs):
    """The pairs of a folder, which are looked at while they are evaluated: sizes of sets, and who is right."""

    def __init__(
        self, folder: PairedFolder, calibrator: cm.ConformalRiskCalibrator, strata: list[str] | None
    ) -> None:
        super().__init__(folder)
        self.calibrator, self.strata = calibrator, strata
        self.shares: list[NDArray[np.float64]] = []  # of each image, of the sizes 0 to K
        self.wrong: list[float] = []  # share of pixels whose most probable class is wrong
        self.alone = self.right = 0  # pixels with one class, and those that are right among them

    def sizes(self, place: int, scores: NDArray[Any]) -> NDArray[Any]:
        """The set sizes of an image."""
        given = {} if self.strata is None else {"strata": self.strata[place : place + 1]}
        sizes: NDArray[Any] = self.calibrator.set_size(scores[np.newaxis], **given)[0]
        return sizes

    def look(self, place: int, scores: NDArray[Any], labels: NDArray[Any]) -> None:
        valid = ~is_void(labels, check_ignore_index(self.calibrator.ignore_index))
        sizes, n_valid = self.sizes(place, scores)[valid], np.count_nonzero(valid)
        hits = scores.argmax(axis=0)[valid] == labels[valid]
        counts = np.bincount(sizes, minlength=len(scores) + 1)
        self.shares.append(counts / n_valid if n_valid else np.full(len(counts), np.nan))
        self.wrong.append(float(1 - hits.mean()) if n_valid else math.nan)
        self.alone += int(counts[1])
        self.right += int(np.count_nonzero(hits & (sizes == 1)))

    def mean(self, values: Any) -> NDArray[np.float64]:
        """The mean over images, or over groups of the means over theirs, as evaluation takes it."""
        units = unit_means(np.asarray(values, np.float64).reshape(len(self), -1), self.folder.groups)
        known: NDArray[np.float64] = units[~np.isnan(units).any(axis=1)]
        return known.mean(axis=0) if len(known) else np.full(units.shape[1], np.nan)


def run(args: argparse.Namespace) -> int:
    """Runs the command, and returns the exit status."""
    import_figure()
    calibrator = loaded(args)
    folder = paired(args, calibrator.ignore_index)
    adapt(calibrator, folder.maps, args)
    photographs = None if args.images is None else files_of(args.images, PHOTOGRAPHS)
    if photographs is not None and calibrator.volumes:
        raise ValueError("--images goes with flat maps (K, H, W): of volumes slices are drawn")
    if photographs is not None:  # now, not after the images
        for name, file in zip(folder.names, folder.maps.files, strict=True):
            partner(photographs, name, file, args.images)
    watched = _Watched(folder, calibrator, strata_of(args, folder.names))
    with naming_files(watched):
        report = _evaluated(calibrator, watched, args)
    pictures = _of_images(watched, report, photographs, args.class_names)
    lead = (
        f"{plural(len(folder), 'image')} of {args.maps}, by the calibrator of {args.calibrator}. "
        "The numbers are those of conformask evaluate."
    )
    parts = [
        _head(calibrator, report, watched),
        _page.section("What is promised", *map(_page.paragraph, _promises(calibrator, report))),
        _page.section("Is it useful?", *_usefulness(calibrator, report, watched)),
        _page.section("Risk", *_risk(calibrator, report)),
        _page.section("Classes", *_classes(report)),
        _page.section("Images, from hard to easy", *pictures),
    ]
    foot = f"Written by conformask {cm.__version__}."
    write_text(args.out, _page.page(args.title, lead, parts, foot))
    print(
        f"Written to {args.out}: risk {report.empirical_risk:.4f} at alpha {report.alpha:g}, "
        f"{report.activation_ratio:.3f} classes a pixel on average."
    )
    return 0


def _has_profiles(calibrator: cm.ConformalRiskCalibrator) -> bool:
    try:
        return len(calibrator.profiles_) > 0
    except ValueError:
        return False


def _is_reached(calibrator: cm.ConformalRiskCalibrator, alpha: float) -> bool:
    try:
        calibrator.recalibrate(alpha=alpha)
    except cm.InfeasibleRiskError:
        return False
    return True


def _evaluated(
    calibrator: cm.ConformalRiskCalibrator, watched: _Watched, args: argparse.Namespace
) -> cm.RiskReport:
    """The report; of other alphas those that the profiles tell, with full sets where images are too few."""
    alphas = sorted({*args.alphas, float(calibrator.alpha)}) if _has_profiles(calibrator) else None
    if alphas is not None and not as_loss(calibrator.loss)._is_monotone:  # full sets may be worse
        alphas = [alpha for alpha in alphas if _is_reached(calibrator, alpha)]
    elif alphas is not None:
        calibrator.set_params(on_infeasible="full")
    with warnings.catch_warnings():
        # The page says at which levels sets are full.
        warnings.simplefilter("ignore", cm.InfeasibleRiskWarning)
        return calibrator.evaluate(
            watched,
            groups=watched.folder.groups,
            strata=watched.strata,
            alphas=alphas,
            class_names=args.class_names,
        )


def _head(calibrator: cm.ConformalRiskCalibrator, report: cm.RiskReport, watched: _Watched) -> str:
    low, high = report.interval
    of = "" if math.isnan(low) else f", 95 % interval {low:.4f} to {high:.4f}"
    shares = watched.mean(watched.shares)
    lam = report.lambda_hat
    return _page.cards(
        [
            ("risk on these images", f"{report.empirical_risk:.4f}", f"alpha {report.alpha:g}{of}"),
            ("classes in a set", f"{report.activation_ratio:.3f}", f"of {calibrator.n_classes_}, on average"),
            ("pixels with one class", share_text(float(shares[1])), "on average"),
            ("lambda-hat", "several" if math.isnan(lam) else lambda_text(lam), count_words(calibrator)),
        ]
    )


def _promises(calibrator: cm.ConformalRiskCalibrator, report: cm.RiskReport) -> list[str]:
    loss = f"The loss of an image is {loss_words(as_loss(calibrator.loss))}."
    return [f"{promise(calibrator)} {loss}", condition(calibrator), report.verdict]


def _risk(calibrator: cm.ConformalRiskCalibrator, report: cm.RiskReport) -> list[str]:
    parts = [_page.table(names_and_values("", report._summary()))]
    if not _has_profiles(calibrator):
        return [
            *parts,
            _page.paragraph(
                "The calibrator was saved without profiles: it has neither a risk curve nor other alphas."
            ),
        ]
    if not math.isnan(report.lambda_hat):
        parts.append(
            _page.figure(
                _pictures.png_of(_pictures.risk_curve(calibrator)),
                "Risk of the calibration images against lambda",
                "The larger lambda, the larger the sets, and the less they miss. Lambda-hat is the smallest lambda at "
                "which the risk of the calibration images is low enough.",
                _WIDTH,
            )
        )
    if report.sweep:
        parts.append(
            _page.figure(
                _pictures.png_of(_pictures.alpha_sweep(report)),
                "Risk and mean set size for each alpha",
                "What other levels would cost, on these images. The promise holds for an alpha that was fixed "
                "before the labels were seen, not for one that is picked here.",
                _WIDTH,
            )
        )
    return parts


def _classes(report: cm.RiskReport) -> list[str]:
    parts = []
    if report.parts:
        parts.append(
            _page.figure(
                _pictures.png_of(_pictures.part_risks(report)),
                f"Risk of each {report.by} against alpha",
                f"Each {report.by} has a lambda and a promise of its own.",
                _WIDTH,
            )
        )
    if report.by != "class":  # else it would show nearly the same again
        parts.append(
            _page.figure(
                _pictures.png_of(_pictures.class_risks(report)),
                "Miss rate of each class",
                "The share of each class's pixels whose set lacks it, the mean over the images that hold it.",
                _WIDTH,
            )
        )
    tables = [report._class_table(), *([report._part_table()] if report.parts else [])]
    return [*parts, *map(_page.table, tables)]


def _usefulness(
    calibrator: cm.ConformalRiskCalibrator, report: cm.RiskReport, watched: _Watched
) -> list[str]:
    shares, n_classes = watched.mean(watched.shares), calibrator.n_classes_
    if np.isnan(shares).any():
        return [_page.paragraph("No image has a labelled pixel.")]
    wrong = float(watched.mean(watched.wrong)[0])
    right = f"{share_text(watched.right / watched.alone)} are right" if watched.alone else "there is none"
    rows = [
        ("most probable class alone", f"wrong on {share_text(wrong)} of the labelled pixels"),
        ("classes in a set", f"{report.activation_ratio:.3f} of {n_classes} on average"),
        ("pixels with one class", f"{share_text(float(shares[1]))}; of these, {right}"),
        ("pixels with all classes", share_text(float(shares[n_classes]))),
    ]
    if n_classes > 3:
        many = ("pixels with more than half of the classes", share_text(_of_many(shares)))
        rows.insert(3, many)
    parts = [
        _page.paragraph(_conclusion(report, shares, n_classes)),
        _page.table(names_and_values("", rows)),
        _page.figure(
            _pictures.png_of(_pictures.size_shares(shares)),
            "Share of the pixels with sets of each size",
            "How many classes the sets hold: the mean over images of the shares of their labelled pixels.",
            _WIDTH,
        ),
    ]
    if report.sweep:
        parts.append(_page.table(_reachable(calibrator, report)))
    return parts


def _of_many(shares: NDArray[np.float64]) -> float:
    """The share of pixels whose sets hold more than half of the classes."""
    return float(shares[(len(shares) - 1) // 2 + 1 :].sum())


def _conclusion(report: cm.RiskReport, shares: NDArray[np.float64], n_classes: int) -> str:
    """What the sizes of sets say, in a sentence."""
    one, many = float(shares[1]), _of_many(shares)
    if report.infeasible:
        return "All sets are full: there were too few calibration images for this alpha. They tell nothing."
    if one >= 0.999:
        return (
            "Nearly every pixel has one class: at this alpha the sets say what the most probable class says. A smaller "
            "alpha would show where the model is unsure."
        )
    if n_classes > 3 and many >= 0.5:
        return (
            "Most pixels have more than half of the classes: the sets keep their promise, but say little. A larger "
            "alpha, another score or a better model would make them smaller."
        )
    if one >= 0.8:
        return (
            f"Most pixels have one class. The others, {share_text(1 - one)} of an image, are where the model is "
            "unsure. The heatmaps below show where they lie: a person's look is well spent there."
        )
    return (
        f"{share_text(1 - one)} of an image's pixels have several classes. The sets narrow the choice to "
        f"{report.activation_ratio:.2f} of {n_classes} classes on average, and leave the rest to a person or another "
        "model."
    )


def _reachable(calibrator: cm.ConformalRiskCalibrator, report: cm.RiskReport) -> Table:
    """Which levels the calibration images are enough for, and what they cost."""
    n = calibrator.n_images_
    rows = [
        (
            f"{each.alpha:g}",
            f"{needed(calibrator, each.part_alpha or each.alpha)}",
            _reached(each),
            f"{each.empirical_risk:.4f}",
            f"{each.activation_ratio:.3f}",
        )
        for each in report.sweep
    ]
    unit = "groups" if calibrator._current()[1].grouped else "images"
    of_each = f" of each {report.by}" if report.parts else ""
    return Table(
        f"Which levels {n} calibration {unit} reach, and how large the sets then are on these images",
        ("alpha", f"{unit}{of_each} needed", "reached", "risk", "classes in a set"),
        rows,
    )


def _reached(report: cm.RiskReport) -> str:
    """Whether the calibration images were enough for a level, or for how many classes or strata."""
    if report.infeasible:
        return "no"
    if not report.parts or not any(part.is_rare for part in report.parts):
        return "yes"
    n_reached = sum(not part.is_rare for part in report.parts)
    if not n_reached:
        return "no"
    return f"by {n_reached} of {len(report.parts)}"


def _of_images(
    watched: _Watched,
    report: cm.RiskReport,
    photographs: dict[str, Path] | None,
    class_names: Sequence[str] | None,
) -> list[str]:
    """Pictures of images, by the mean size of their sets."""
    order = np.lexsort(
        (np.nan_to_num(report.losses), report.activation_ratios)
    )  # where sizes are equal, by loss
    order = order[~np.isnan(report.activation_ratios[order])][::-1]  # the hardest first
    if not len(order):
        return [_page.paragraph("No image has a labelled pixel.")]
    n = len(order)
    wished = {
        0: "hardest",
        1: "hardest",
        n // 2: "typical",
        (n - 1) // 2: "typical",
        n - 2: "easiest",
        n - 1: "easiest",
    }
    kinds = {rank: kind for rank, kind in wished.items() if rank >= 0}
    parts = [
        _page.paragraph(
            "The hardest images are those whose sets hold the most classes on average. The brighter a pixel in the "
            "heatmap, the more classes its set holds; where it is dark or grey, it holds one."
        )
    ]
    largest, rows = 2, {}
    for rank in kinds:
        place = int(order[rank])
        scores, labels = watched.folder[place]
        photograph = None
        if photographs is not None:
            photograph = read_photograph(photographs[watched.folder.names[place]])
        rows[rank] = _row(watched.sizes(place, scores), scores, labels, photograph)
        void = is_void(rows[rank][0].labels, check_ignore_index(watched.calibrator.ignore_index))
        largest = max(largest, int(np.where(void, 1, rows[rank][0].sizes).max()))
    for rank, kind in sorted(kinds.items()):
        place, (row, where) = int(order[rank]), rows[rank]
        drawn = overview(
            [row],
            watched.calibrator.n_classes_,
            _PANEL,
            largest=largest,
            class_names=class_names,
            ignore_index=check_ignore_index(watched.calibrator.ignore_index),
        )
        name, loss = watched.folder.names[place], report.losses[place]
        parts.append(
            _page.figure(
                _pictures.png_of(drawn),
                f"{name}: labels, most probable class and heatmap of the set sizes",
                f"{name}{where}: {kind}. {report.activation_ratios[place]:.3f} classes in a set on average, "
                + ("loss undefined." if math.isnan(loss) else f"loss {loss:.4f}."),
                round(drawn.get_figwidth() * _CSS_PIXELS),
            )
        )
    return parts


def _row(
    sizes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], photograph: NDArray[Any] | None
) -> tuple[OverviewRow, str]:
    """What is drawn of an image, and of which slice of a volume."""
    guess = scores.argmax(axis=0)
    if sizes.ndim == 2:
        return OverviewRow(photograph, labels, guess, sizes), ""
    most = _pictures.telling_slice(sizes)
    row = OverviewRow(None, labels[most], guess[most], sizes[most])
    return row, f", slice {most + 1} of {len(sizes)}"
