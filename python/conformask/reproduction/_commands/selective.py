"""``python -m conformask.reproduction selective``."""

from __future__ import annotations

import argparse
from pathlib import Path

from conformask.reproduction import selective
from conformask.reproduction._commands._shared import (
    Written,
    add_calibrate,
    add_common,
    add_folder,
    alone,
    check_calibrate,
    left_out,
    n_splits,
    save,
)
from conformask.reproduction.selective.paper import TABLE_1, TABLE_2
from conformask.reproduction.selective.tables import document
from conformask.reproduction.sources import STORED

__all__ = ["MORE", "N_SPLITS", "SUMMARY", "TITLE", "add_arguments", "run"]

TITLE = "SELECTIVE, Tables 1 and 2"
SUMMARY = "calibration errors of scalers, as in SELECTIVE's Tables 1 and 2: selective.md"
N_SPLITS = "5; 3 for scenes of another domain"
MORE = """\
Without --folder and --checkpoint: usgra-seg, and rendered scenes: as they are, dark, noisy, and of half the size.

examples:
  python -m conformask.reproduction selective --folder DIR
      DIR/logits/NAME.npy  floating (K, H, W), or .npz, .nii.gz, .tif; DIR/masks/NAME.png  class indices, 255 void;
      DIR/probabilities instead of DIR/logits: a softmax, such as nnU-Net's NAME.npz
  python -m conformask.reproduction selective --folder ade20k --calibrate 200 --paper-row "ADE20K, SegFormer-B5"
      shows the paper's figures of that row beside yours
  python -m conformask.reproduction selective --folder bdd --shifted-to cityscapes
      calibrates on the images of one folder, and tests on those of another
  python -m conformask.reproduction selective --config segformer.py --checkpoint segformer.pth --data-root data/ade
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser, N_SPLITS)
    add_folder(parser, "DIR/logits/NAME.npy (or DIR/probabilities)")
    own = parser.add_argument_group("with --folder")
    own.add_argument(
        "--shifted-to",
        type=Path,
        metavar="DIR",
        help="a folder of another domain, whose images are tested on",
    )
    add_calibrate(own)
    real = parser.add_argument_group("a network of MMSegmentation instead of the rendered scenes")
    real.add_argument("--checkpoint", help="its weights, by path or URL")
    real.add_argument("--config", help="its configuration, by path or name")
    real.add_argument("--data-root", type=Path, help="folder of the images and labels")
    parser.add_argument(
        "--paper-row",
        choices=[*TABLE_1, *TABLE_2],
        metavar="NAME",
        help="the row of the paper that the folder or the network belongs to; its figures are shown beside yours: "
        f"{'; '.join([*TABLE_1, *TABLE_2])}",
    )


def run(args: argparse.Namespace) -> Written:
    alone(args, "folder", "checkpoint", "config", "data_root")
    if (args.shifted_to or args.calibrate is not None) and args.folder is None:
        raise ValueError("--shifted-to and --calibrate go with --folder")
    splits = n_splits(args, 5)
    network = args.checkpoint or args.config or args.data_root
    if args.paper_row and not (args.folder or network):
        raise ValueError("--paper-row goes with --folder or a network")
    if (args.paper_row in TABLE_2) != bool(args.shifted_to) and args.paper_row:
        raise ValueError("--paper-row of Table 2 goes with --shifted-to, but --paper-row of Table 1 does not")
    if network:
        alike, shifted = _of_network(args)
    else:
        alike, shifted = _of_folder(args, splits) if args.folder else _at_hand(args, splits)
    text = document(alike, shifted, args.paper_row)
    broken = [f"{each.title}: {sentence}" for each in [*alike, *shifted] for sentence in each.violations()]
    return Written(save(args.out, "selective.md", text), broken)


_Comparisons = tuple[list[selective.ScalerComparison], list[selective.ScalerComparison]]


def _of_network(args: argparse.Namespace) -> _Comparisons:
    from conformask.reproduction.selective.protocol import compare_on_network

    if not (args.checkpoint and args.config):
        raise ValueError("a network needs --config and --checkpoint")
    if args.splits is not None:
        raise ValueError("--splits does not go with a network, whose images are split once")
    return [compare_on_network(args.config, args.checkpoint, args.data_root)], []


def _of_folder(args: argparse.Namespace, splits: int) -> _Comparisons:
    source = selective.read_logits(args.folder)
    # All images of the source may calibrate if those of another domain are tested on.
    n_most = len(source.units()) + (args.shifted_to is not None)
    n_calibration = check_calibrate(args.calibrate, n_most)
    if args.shifted_to is None:
        return [selective.compare_scalers(source, n_splits=splits, n_calibration=n_calibration)], []
    test = selective.read_logits(args.shifted_to)
    found = selective.compare_scalers(source, test=test, n_splits=splits, n_calibration=n_calibration)
    return [], [found]


def _at_hand(args: argparse.Namespace, splits: int) -> _Comparisons:
    scenes, others = selective.rendered()
    alike = [selective.compare_scalers(scenes, n_splits=splits)]
    n_shifted = 3 if args.splits is None else splits
    shifted = [selective.compare_scalers(scenes, test=each, n_splits=n_shifted) for each in others]
    try:
        alike.append(selective.compare_scalers(selective.stored(args.data), n_splits=splits))
    except FileNotFoundError as error:
        left_out(STORED, error)
    return alike, shifted
