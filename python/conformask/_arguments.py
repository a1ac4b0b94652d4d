"""Types of arguments of commands: each says what it wants, before any work is done."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

__all__ = ["as_options", "file_to_write", "folder_to_write", "level", "whole"]


def level(text: str) -> float:
    """A number in (0, 1)."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be a number in (0, 1), got {text!r}")


def whole(least: int) -> Callable[[str], int]:
    """A whole number that is not too small."""

    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if int(text) >= least:
                return int(text)
        raise argparse.ArgumentTypeError(f"must be a whole number, at least {least}, got {text!r}")

    return parse


def folder_to_write(text: str) -> Path:
    """A folder that is there or can be made."""
    path = Path(text)
    known = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not known.is_dir():
        raise argparse.ArgumentTypeError(f"{known} is a file, not a folder")
    if not os.access(known, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{known} cannot be written to")
    return path


def file_to_write(text: str) -> Path:
    """A file that can be written, in a folder that is there."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder, not a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{path.parent} cannot be written to")
    return path


def as_options(message: str) -> str:
    """A message in which parameters of Python are options of commands."""
    names = "inputs|on_infeasible|class_axis|ignore_index|profile|groups|strata|outside"
    return re.sub(
        rf"\b({names})=(?:'([\w-]+)'|(-?\w+))?",
        lambda found: f"--{found[1].replace('_', '-')} {found[2] or found[3] or ''}".rstrip(),
        message,
    )
