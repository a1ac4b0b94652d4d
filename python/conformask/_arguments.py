"""Types of arguments of commands. Each refuses bad values, and says what it wants, before any work is done."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

__all__ = ["as_options", "file_to_write", "folder_to_write", "level", "options_of", "whole"]


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


def options_of(parser: argparse.ArgumentParser) -> frozenset[str]:
    """The options of a command."""
    return frozenset(re.findall(r"--[\w-]+", parser.format_usage()))


# Python parameters that messages mention and that are options of commands. Names without an underscore are recognised
# only before an equals sign.
_PARAMETERS = (
    *(
        "class_axis",
        "class_names",
        "dataset_json",
        "ignore_index",
        "label_ending",
        "label_key",
        "label_values",
        "void_values",
    ),
    *(
        "on_infeasible",
        "on_rare",
        "dataset",
        "ending",
        "groups",
        "inputs",
        "key",
        "names",
        "outside",
        "profile",
    ),
    *("reference", "strata"),
)
_CALLED = {"dataset": "dataset-json"}  # parameters whose option has another name
_OTHER_CLASSES = ("loss=MiscoverageLoss(classes=[...])", "--loss miscoverage:CLASSES")
_IN_MESSAGES = re.compile(
    rf"(?<![\w./\\-])(?:({'|'.join(_PARAMETERS)})=(?:'([\w-]+)'|(-?\w+))?"
    rf"|({'|'.join(name for name in _PARAMETERS if '_' in name)}))"
    r"(?![\w/\\=(]|\.\w)"  # no part of a path
)


def as_options(message: str, options: Collection[str], calibrating: Collection[str] = ()) -> str:
    """A message in which options of a command replace parameters of Python.

    `options` are those of the command. Options that only `calibrating` has are marked as options of calibration.
    """

    def option(found: re.Match[str]) -> str:
        parameter = found[1] or found[4]
        name = f"--{_CALLED.get(parameter, parameter).replace('_', '-')}"
        said = f"{name} {found[2] or found[3] or ''}".rstrip()
        if name in options:
            return said
        return f"{said} (when you calibrate)" if name in calibrating else found[0]

    return _IN_MESSAGES.sub(option, message.replace(*_OTHER_CLASSES))
