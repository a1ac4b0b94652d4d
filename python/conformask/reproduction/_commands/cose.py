"""``python -m conformask.reproduction cose``."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm.auto import tqdm

from conformask.reproduction._commands._shared import (
    Written,
    add_common,
    add_folder,
    alone,
    left_out,
    n_splits,
)
from conformask.reproduction.cose import Row, reproduce, violations
from conformask.reproduction.paper import DATASETS, SEEDS
from conformask.reproduction.sources import STORED, choose

__all__ = ["MORE", "N_SPLITS", "SUMMARY", "TITLE", "add_arguments", "run"]

TITLE = "COSE, Tables 1 and 2"
SUMMARY = "risk and activation ratio by risk level, as in COSE's Tables 1 and 2: cose.md, CSV, LaTeX"
N_SPLITS = str(len(SEEDS))
MORE = """\
Without --folder and --checkpoint: predictions simulated in the shape of the paper's data sets, and usgra-seg.

examples:
  python -m conformask.reproduction cose --dataset loveda
  python -m conformask.reproduction cose --dataset cityscapes --data-root data/cityscapes --checkpoint pspnet.pth
  python -m conformask.reproduction cose --folder DIR
      DIR/probabilities/NAME.npy  floating (K, H, W), or .npz, .nii.gz, .tif;
      DIR/masks/NAME.png  class indices, 255 void
  python -m conformask.reproduction cose --folder DIR --dataset ade20k
      computes the rows of the paper for that data set, and shows its figures beside yours
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser, f"{N_SPLITS}, as in the paper")
    parser.add_argument(
        "--dataset",
        nargs="+",
        choices=[*DATASETS, STORED],
        metavar="NAME",
        help=f"which data sets: {', '.join([*DATASETS, STORED])} (default: all)",
    )
    add_folder(parser, "DIR/probabilities/NAME.npy")
    real = parser.add_argument_group("a network of MMSegmentation instead of the simulation")
    real.add_argument("--checkpoint", help="its weights, by path or URL")
    real.add_argument("--data-root", type=Path, help="folder of the images and labels")
    real.add_argument("--config", help="configuration, by path or name (default: the paper's)")


def run(args: argparse.Namespace) -> Written:
    from conformask.reproduction.tables import write_tables

    alone(args, "folder", "checkpoint", "data_root", "config")
    seeds = [SEEDS[0] + i for i in range(n_splits(args, len(SEEDS)))]
    chosen = choose(
        args.dataset or (),
        data=args.data,
        folder=args.folder,
        checkpoint=args.checkpoint,
        config=args.config,
        data_root=args.data_root,
    )
    rows: list[Row] = []
    for name, make in chosen.items():
        # Only one source's profiles are in memory at a time.
        try:
            source = make()
        except FileNotFoundError as error:
            if not name.startswith(STORED):
                raise
            left_out(name, error)
            continue
        found = reproduce(source, seeds=seeds)
        rows += tqdm(found, name, len(source.settings), unit="row", disable=None)
    if not rows:
        raise ValueError("there is nothing to write")
    return Written(write_tables(rows, args.out, seeds=seeds), violations(rows))
