"""What the commands share: options, the note on a missing data set, and writing a document."""

# ruff: noqa: T201 -- commands print to the user
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from conformask.reproduction.sources import STORED

__all__ = [
    "Written",
    "add_calibrate",
    "add_common",
    "add_folder",
    "alone",
    "check_calibrate",
    "left_out",
    "n_splits",
    "save",
]


class Written(NamedTuple):
    """The files that a command wrote, the text first, and sentences about what must hold but does not."""

    files: list[Path]
    broken: list[str]


def add_common(parser: argparse.ArgumentParser, n_splits: str) -> None:
    """The options of all papers; `n_splits` says how many splits there are without --splits."""
    parser.add_argument(
        "--out", type=Path, default=Path("reproduction-output"), help="folder for the tables (%(default)s)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("CONFORMASK_DATA"),
        help=f"folder that holds {STORED} (default: CONFORMASK_DATA); without it, the rows of {STORED} are left out",
    )
    parser.add_argument(
        "--splits", type=int, metavar="N", help=f"random splits, 2 or more (default: {n_splits})"
    )


def add_folder(parser: argparse.ArgumentParser, what: str) -> None:
    """The option for the user's own data; `what` names the files in the folder besides the masks."""
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help=f"your own data, instead of the others: {what} and DIR/masks/NAME.png (or .npy, .npz), paired by name; "
        "also DIR/groups.csv (NAME,group) if images belong together",
    )


def add_calibrate(group: Any) -> None:
    """The option for the number of calibration images."""
    group.add_argument(
        "--calibrate",
        type=int,
        metavar="N",
        help="number of calibration images or groups (default: half of all)",
    )


def check_calibrate(n: int | None, n_all: int, said_by: str = "--calibrate") -> int | None:
    """The number of calibration images; refuses one that leaves none to test."""
    if n is not None and not 1 <= n < n_all:
        hint = "" if said_by == "--calibrate" else ": say --calibrate"
        raise ValueError(f"{said_by} must be in [1, {n_all - 1}], got {n}{hint}")
    return n


def n_splits(args: argparse.Namespace, default: int) -> int:
    """How many splits."""
    if args.splits is None:
        return default
    if args.splits < 2:
        raise ValueError(f"--splits must be at least 2, for standard deviations, got {args.splits}")
    return int(args.splits)


def alone(args: argparse.Namespace, option: str, *others: str) -> None:
    """Refuse an option that is given together with one of `others`."""
    if getattr(args, option) is not None:
        given = [name for name in others if getattr(args, name)]
        if given:
            raise ValueError(f"--{option} does not go with --{given[0].replace('_', '-')}")


def left_out(name: str, error: FileNotFoundError) -> None:
    """Say that a data set is missing."""
    print(f"{name} is left out: {error}", file=sys.stderr)


def save(folder: Path, name: str, text: str) -> list[Path]:
    """Write a document."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return [folder / name]
