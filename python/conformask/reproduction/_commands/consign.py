"""``python -m conformask.reproduction consign``."""

from __future__ import annotations

import argparse

from conformask.reproduction import consign
from conformask.reproduction._commands._shared import (
    Written,
    add_calibrate,
    add_common,
    add_folder,
    check_calibrate,
    left_out,
    n_splits,
    save,
)
from conformask.reproduction._own import origin_of
from conformask.reproduction.consign.paper import N_SPLITS as PAPER_SPLITS
from conformask.reproduction.consign.paper import TABLE_1
from conformask.reproduction.consign.study import Study, study
from conformask.reproduction.consign.tables import document
from conformask.reproduction.sources import SIMULATED, STORED

__all__ = ["MORE", "N_SPLITS", "SUMMARY", "TITLE", "add_arguments", "run"]

TITLE = "CONSIGN, Tables 1 to 5"
SUMMARY = "lambdas of CONSIGN, RAPS and SACP by fold, and times, as in CONSIGN's Tables 1 to 5: consign.md"
N_SPLITS = str(PAPER_SPLITS)
MORE = """\
Without --folder: simulated samples of an edge that moves, and the dropout samples of usgra-seg.

examples:
  python -m conformask.reproduction consign --splits 3
  python -m conformask.reproduction consign --folder DIR --pair 0.1 0.9 --pair 0.2 0.8
      DIR/samples/NAME.npy  floating (S, K, H, W), or .npz; DIR/masks/NAME.png  class indices, 255 void
  python -m conformask.reproduction consign --folder lidc --paper-row LIDC
      takes the paper's pair and number of calibration images for that data set
"""

_PAIRS = [(each.alpha, each.min_accuracy) for each in TABLE_1.values()]
# Two stricter pairs are added: on simulated images, the mean of the samples suffices for the paper's looser pairs.
_SIMULATED_PAIRS = [*_PAIRS[:2], (0.05, 0.9), (0.1, 0.95), *_PAIRS[2:]]
# On a quarter of the 40 images of usgra-seg the network's label-wise accuracy is below 0.7.
_STORED_PAIRS = [(0.2, 0.7), *_PAIRS[2:]]
_STORED_CALIBRATION = 26
_STORED_NOTE = (
    f"{STORED}: the pairs (0.1, 0.9) and (0.05, 0.8) are left out. For too few of the 40 images is there a "
    "segmentation of that accuracy, so that CONSIGN abstains on nearly all folds, after a long search."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser, f"{N_SPLITS}, as in the paper")
    add_folder(parser, "DIR/samples/NAME.npy")
    own = parser.add_argument_group("with --folder")
    own.add_argument(
        "--pair",
        nargs=2,
        type=float,
        action="append",
        metavar=("ALPHA", "BETA"),
        help="risk level and label-wise accuracy; repeat the option for more pairs (default: the five of the paper). "
        "Segmentations are drawn for the first pair only",
    )
    add_calibrate(own)
    own.add_argument(
        "--paper-row",
        choices=[*TABLE_1],
        metavar="NAME",
        help="the data set of the paper that the folder holds; its pair and number of calibration images are used: "
        f"{', '.join(TABLE_1)}",
    )


def run(args: argparse.Namespace) -> Written:
    splits = n_splits(args, PAPER_SPLITS)
    if args.folder is None:
        if args.pair or args.calibrate is not None or args.paper_row:
            raise ValueError("--pair, --calibrate and --paper-row go with --folder")
        found, timings = _at_hand(args, splits), consign.time_methods()
    else:
        found, timings = [_own(args, splits)], []
    text = document(found, timings)
    broken = [sentence for each in found for sentence in each.violations()]
    return Written(save(args.out, "consign.md", text), broken)


def _at_hand(args: argparse.Namespace, splits: int) -> list[Study]:
    edges = consign.moving_edges(200)
    title, samples_from = "an edge that moves", "drawn like the truth"
    found = [study(title, SIMULATED, samples_from, *edges, _SIMULATED_PAIRS, n_splits=splits)]
    try:
        samples, labels = consign.stored_samples(args.data)
    except FileNotFoundError as error:
        left_out(STORED, error)
        return found
    found.append(
        study(
            STORED,
            f"real ({STORED}, tmkand, CC BY 4.0)",
            "Monte-Carlo dropout",
            samples,
            labels,
            _STORED_PAIRS,
            n_splits=splits,
            n_calibration=_STORED_CALIBRATION,
            note=_STORED_NOTE,
        )
    )
    return found


def _own(args: argparse.Namespace, splits: int) -> Study:
    pairs = [tuple(pair) for pair in args.pair or ()]
    samples = consign.SampleFolder(args.folder)
    n_calibration = check_calibrate(args.calibrate, len(samples))
    if args.paper_row:
        row = TABLE_1[args.paper_row]
        pairs = pairs or [(row.alpha, row.min_accuracy)]
        if n_calibration is None:
            said_by = f"the calibration images of {args.paper_row}"
            n_calibration = check_calibrate(row.n_calibration, len(samples), said_by)
    return study(
        samples.name,
        origin_of(args.folder),
        "the folder",
        samples,
        samples.labels,
        pairs or _PAIRS,
        n_splits=splits,
        n_calibration=n_calibration,
    )
