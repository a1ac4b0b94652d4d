"""``conformask report``: the evaluation of a calibrator on labelled images, as one HTML file."""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import conformask as cm
from conformask._arguments import file_to_write
from conformask._files.folders import files_of, partner
from conformask._files.maps import PHOTOGRAPHS
from conformask._tables import names_and_values
from conformask._text import lambda_text, plural
from conformask.cli import _page, _pictures
from conformask.cli._data import (
    EXIT_STATUS,
    adapt,
    add_calibrator_file,
    add_labels,
    add_maps,
    as_calibrated,
    loaded,
    naming_files,
    paired,
    refuse_seen,
    strata_of,
    void_of,
    warn_of,
)
from conformask.cli._examples import of_images
from conformask.cli._levels import evaluated, has_profiles
from conformask.cli._options import add_allow_seen
from conformask.cli._pictures import import_figure, share_text
from conformask.cli._promise import condition, count_words, loss_words, promise
from conformask.cli._useful import Watched, usefulness
from conformask.cli.evaluate import add_names_and_alphas, write_text
from conformask.losses import as_loss

__all__ = ["MORE", "SUMMARY", "add_arguments", "run"]

SUMMARY = "write one HTML file with risk, sets, classes and pictures, on labelled images"
MORE = f"""\
examples:
  conformask report --calibrator calibrator.json --maps softmax --labels masks --out report.html
  conformask report --calibrator calibrator.json --maps softmax --labels masks --images photographs

Take other images than the calibration images. The HTML file contains its pictures. The command needs Matplotlib:
pip install "conformask[cli]".

{EXIT_STATUS}"""

_ALPHAS = [0.01, 0.02, 0.05, 0.1, 0.2]


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
    add_allow_seen(parser)
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


def run(args: argparse.Namespace) -> int:
    """Runs the command, and returns the exit status."""
    import_figure()
    calibrator = loaded(args)
    as_calibrated(args, calibrator)
    folder = paired(args, calibrator.ignore_index)
    adapt(calibrator, folder.maps, args)
    refuse_seen(calibrator, folder, args)
    photographs = None if args.images is None else files_of(args.images, PHOTOGRAPHS)
    if photographs is not None and calibrator.volumes:
        raise ValueError("--images goes with flat maps (K, H, W) only: for volumes slices are drawn")
    if photographs is not None:  # checked before the images are read
        for name, file in zip(folder.names, folder.maps.files, strict=True):
            partner(photographs, name, file, args.images)
    watched = Watched(folder, calibrator, strata_of(args, folder.names))
    alphas = sorted({*args.alphas, float(calibrator.alpha)}) if has_profiles(calibrator) else None
    with naming_files(watched), _suspicions() as suspicions:
        report = evaluated(
            calibrator,
            watched,
            alphas,
            groups=folder.groups,
            strata=watched.strata,
            class_names=args.class_names,
        )
    warn_of(watched.void_doubts(calibrator.n_classes_, void_of(calibrator)))
    pictures = of_images(watched, report, photographs, args.class_names)
    lead = (
        f"{plural(len(folder), 'image')} of {args.maps}, by the calibrator of {args.calibrator}. "
        "The numbers are those of conformask evaluate."
    )
    parts = [
        _head(calibrator, report, watched),
        _page.section("What is promised", *map(_page.paragraph, _promises(calibrator, report))),
        _page.section(
            "Is it useful?",
            *map(_page.paragraph, suspicions),
            *usefulness(calibrator, report, watched, alphas or []),
        ),
        _page.section("Risk", *_risk(calibrator, report)),
        _page.section("Classes", *_classes(report)),
        _page.section("Images, from the largest sets to the smallest", *pictures),
    ]
    foot = f"Written by conformask {cm.__version__}."
    write_text(args.out, _page.page(args.title, lead, parts, foot))
    risk, level = f"{report.empirical_risk:.4f}{_of_all(report)}", f"{report.alpha:g}{_of_each(report)}"
    print(
        f"Written to {args.out}: risk {risk} at alpha {level}, "
        f"{report.activation_ratio:.3f} classes a pixel on average."
    )
    return 0


@contextmanager
def _suspicions() -> Iterator[list[str]]:
    """Collects the warnings of labels that seem to belong to other scores: the page shows them, too."""
    found: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield found
    finally:
        for each in caught:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
            if issubclass(each.category, cm.SuspiciousLabelsWarning):
                found.append(str(each.message))


def _of_all(report: cm.RiskReport) -> str:
    """Words after a risk that alpha does not limit."""
    return "" if report._limits_mean else " over all classes"


def _of_each(report: cm.RiskReport) -> str:
    """Words after an alpha that limits another risk."""
    return "" if report._limits_mean else " of each class"


def _head(calibrator: cm.ConformalRiskCalibrator, report: cm.RiskReport, watched: Watched) -> str:
    low, high = report.interval
    of = "" if math.isnan(low) else f", 95 % interval {low:.4f} to {high:.4f}"
    shares = watched.mean(watched.shares)
    lam = report.lambda_hat
    return _page.cards(
        [
            (
                f"risk on these images{_of_all(report)}",
                f"{report.empirical_risk:.4f}",
                f"alpha {report.alpha:g}{_of_each(report)}{of}",
            ),
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
    if not has_profiles(calibrator):
        return [
            *parts,
            _page.paragraph("The calibrator has no profiles: it has neither a risk curve nor other alphas."),
        ]
    if not math.isnan(report.lambda_hat):
        parts.append(
            _page.figure(
                _pictures.png_of(_pictures.risk_curve(calibrator)),
                "Risk of the calibration images against lambda",
                "The larger lambda, the larger the sets, and the less they miss. Lambda-hat is the smallest lambda at "
                "which the risk of the calibration images is low enough.",
                _pictures.CSS_WIDTH,
            )
        )
    if report.sweep:
        parts.append(
            _page.figure(
                _pictures.png_of(_pictures.alpha_sweep(report)),
                "Risk and mean set size for each alpha",
                "What other levels would cost, on these images. The promise holds for an alpha that was fixed "
                "before the labels were seen, not for one that is picked here."
                + (
                    ""
                    if report._limits_mean
                    else " The risk is that over all classes; alpha limits each class."
                ),
                _pictures.CSS_WIDTH,
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
                _pictures.CSS_WIDTH,
            )
        )
    if report.by != "class":  # for classes it would show nearly the same again
        parts.append(
            _page.figure(
                _pictures.png_of(_pictures.class_risks(report)),
                "Miss rate of each class",
                f"The share of each class's pixels whose set lacks it, the mean over the {report._units} that hold it.",
                _pictures.CSS_WIDTH,
            )
        )
    tables = [report._class_table(), *([report._part_table()] if report.parts else [])]
    return [*parts, *map(_page.table, tables)]
