"""``python -m conformask.reproduction coat``."""

from __future__ import annotations

import argparse

from conformask.reproduction import coat
from conformask.reproduction._commands._shared import (
    Written,
    add_common,
    add_folder,
    left_out,
    n_splits,
    save,
)
from conformask.reproduction.coat.paper import ALPHAS, TABLE_1
from conformask.reproduction.coat.paper import N_SPLITS as PAPER_SPLITS
from conformask.reproduction.coat.tables import document
from conformask.reproduction.sources import STORED

__all__ = ["MORE", "N_SPLITS", "SUMMARY", "TITLE", "add_arguments", "run"]

TITLE = "COAT, Tables 1 and 2"
SUMMARY = "coverage and coverage gap of binary masks, as in COAT's Tables 1 and 2: coat.md"
N_SPLITS = str(PAPER_SPLITS)
MORE = """\
Without --folder: cars and people of rendered scenes, nerves and vessels of usgra-seg.

examples:
  python -m conformask.reproduction coat --splits 5
  python -m conformask.reproduction coat --folder DIR
      DIR/probabilities/NAME.npy  floating (H, W) in [0, 1], or .npz, or .png in which white means 1;
      DIR/masks/NAME.png  0 and 255, or 0, 1 and 255 where void
  python -m conformask.reproduction coat --folder polyps --paper-row "Polyp, SINet"
      shows the paper's figures of that row beside yours
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser, f"{N_SPLITS}, as in the paper")
    add_folder(parser, "DIR/probabilities/NAME.npy")
    parser.add_argument(
        "--paper-row",
        choices=[*TABLE_1],
        metavar="NAME",
        help="the row of the paper that the folder belongs to; its figures are shown beside yours: "
        f"{'; '.join(TABLE_1)}",
    )


def run(args: argparse.Namespace) -> Written:
    splits = n_splits(args, PAPER_SPLITS)
    if args.paper_row and args.folder is None:
        raise ValueError("--paper-row goes with --folder")
    sources = _at_hand(args) if args.folder is None else [coat.read_folder(args.folder)]
    temperatures = coat.temperatures_to_compare()
    found, by_temperature = [], []
    for source in sources:
        found.append(coat.compare_adaptive(source, n_splits=splits))
        by_temperature.append(coat.compare_adaptive(source, temperatures, alphas=ALPHAS[:1], n_splits=splits))
    text = document(found, by_temperature, args.paper_row)
    broken = [
        f"{each.title}: {sentence}" for each in [*found, *by_temperature] for sentence in each.violations()
    ]
    return Written(save(args.out, "coat.md", text), broken)


def _at_hand(args: argparse.Namespace) -> list[coat.BinaryMaps]:
    sources = coat.rendered()
    try:
        sources += coat.stored(args.data)
    except FileNotFoundError as error:
        left_out(STORED, error)
    return sources
