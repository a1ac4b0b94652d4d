"""``conformask evaluate``: evaluates the calibrated sets on labelled images."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformask._arguments import file_to_write, level
from conformask._documents import write_whole
from conformask.cli._data import (
    EXIT_STATUS,
    Seen,
    adapt,
    add_calibrator_file,
    add_class_names,
    add_json,
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
from conformask.cli._levels import evaluated, unreached_text
from conformask.cli._options import add_allow_seen

__all__ = ["MORE", "SUMMARY", "add_arguments", "add_names_and_alphas", "run", "write_text"]

SUMMARY = "print the risk, the size of the sets and the miss rate of each class, on labelled images"
MORE = f"""\
examples:
  conformask evaluate --calibrator calibrator.json --maps softmax --labels masks
  conformask evaluate --calibrator calibrator.json --maps softmax --labels masks --class-names road car person
  conformask evaluate --calibrator calibrator.json --maps softmax --labels masks --class-names @names.txt
  conformask evaluate --calibrator calibrator.json --maps softmax --labels masks --alphas 0.02 0.1 --json report.json

Take other images than the calibration images. @FILE stands for the arguments in a file, one per line.

{EXIT_STATUS}"""


def add_names_and_alphas(parser: argparse.ArgumentParser, alphas: list[float] | None) -> None:
    """Adds class names and further risk levels."""
    told = parser.add_argument_group("report")
    add_class_names(told)
    told.add_argument(
        "--alphas",
        type=level,
        nargs="+",
        default=alphas,
        metavar="A",
        help="further risk levels to report on" + ("; default: %(default)s" if alphas else ""),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add_calibrator_file(parser)
    add_labels(add_maps(parser))
    add_names_and_alphas(parser, None)
    add_allow_seen(parser)
    out = parser.add_argument_group("output, besides the text")
    add_json(out)
    out.add_argument("--markdown", type=file_to_write, metavar="FILE", help="the report as Markdown")


def run(args: argparse.Namespace) -> int:
    """Runs the command, and returns the exit status."""
    calibrator = loaded(args)
    as_calibrated(args, calibrator)
    folder = paired(args, calibrator.ignore_index)
    adapt(calibrator, folder.maps, args)
    refuse_seen(calibrator, folder, args)
    pairs = Seen(folder)
    with naming_files(pairs):
        report = evaluated(
            calibrator,
            pairs,
            args.alphas,
            groups=folder.groups,
            strata=strata_of(args, folder.names),
            class_names=args.class_names,
        )
    warn_of(pairs.void_doubts(calibrator.n_classes_, void_of(calibrator)))
    if args.json is not None:
        write_text(args.json, report.to_json() + "\n")
    if args.markdown is not None:
        write_text(args.markdown, report.to_markdown())
    print(report)
    if unreached := unreached_text(calibrator, report, args.alphas or []):
        print(f"\n{unreached}")
    return 0


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with write_whole(path) as file:
        file.write(text.encode("utf-8"))
