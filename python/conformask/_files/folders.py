"""Folders with a file for each image. Files whose names differ only in the suffix belong together."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

__all__ = ["files_of", "needed_files", "partner", "read_groups", "read_names", "split_name", "suffixes_text"]

_OF_NNUNET = [
    {".npz", suffix} for suffix in (".nii.gz", ".png", ".tif")
]  # scores, and the segmentation beside them
_DOUBLE = ".gz"  # follows the suffix of the format


def split_name(file: Path) -> tuple[str, str]:
    """The name of a file without its suffix, and the suffix in lower case; ``.nii.gz`` is one."""
    name, suffix = file.stem, file.suffix.lower()
    if suffix == _DOUBLE and Path(name).suffix:
        name, suffix = Path(name).stem, Path(name).suffix.lower() + suffix
    return name, suffix


def suffixes_text(suffixes: Collection[str]) -> str:
    """Suffixes in a message."""
    first, last = list(suffixes)[:-1], list(suffixes)[-1]
    return f"{', '.join(first)} or {last}" if first else last


def files_of(folder: Path, suffixes: Collection[str], ending: str = "") -> dict[str, Path]:
    """The files of a folder, by their names without suffix, in order.

    Parameters
    ----------
    folder : Path
        The folder; those in it are not looked at.
    suffixes : collection of str
        What files end with, in lower case. Others are left out, and so are hidden ones.
    ending : str
        What names end with, besides. Others are left out; it is no part of the names that are returned.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If two files have one name.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        name, suffix = split_name(file)
        if suffix not in suffixes or file.name.startswith(".") or not name.endswith(ending):
            continue
        name = name.removesuffix(ending)
        if name in found:
            hint = ""
            if {split_name(each)[1] for each in (found[name], file)} in _OF_NNUNET:
                hint = (
                    "; of nnU-Net's folders, which hold both, take conformask nnunet calibrate, evaluate and apply (in "
                    "Python conformask.integrations.nnunet.Cases)"
                )
            raise ValueError(f"{found[name]} and {file.name} have the same name: keep one of them{hint}")
        found[name] = file
    return found


def needed_files(
    folder: Path, suffixes: Collection[str], ending: str = "", others: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """The files of a folder; fails if there are none. The error explains files of `others`, by their suffixes."""
    found = files_of(folder, suffixes, ending)
    if not found:
        named = f" named *{ending}" if ending else ""
        inside = sorted(folder.iterdir())
        hint = "; the folders in it are not looked at" if any(each.is_dir() for each in inside) else ""
        known = next((suffix for each in inside if (suffix := split_name(each)[1]) in (others or {})), None)
        if others is not None and known is not None:
            hint = f", which holds {known} files: {others[known]}"
        raise FileNotFoundError(f"no {suffixes_text(suffixes)} file{named} in {folder}{hint}")
    return found


def partner(files: Mapping[str, Path], name: str, of: Path, folder: Path, said_by: str = "") -> Path:
    """The file of a name, which belongs to the file `of`; `said_by` names the parameters for the endings of names."""
    if name not in files:
        alike = next((each for each in files if each.startswith(name) or name.startswith(each)), None)
        hint = "" if alike is None else f"; is {files[alike].name} meant, whose name ends otherwise?"
        hint += f" See {said_by}" if hint and said_by else ""
        raise FileNotFoundError(f"no file {name} in {folder}, which would belong to {of}{hint}")
    return files[name]


def read_groups(file: Path, names: Iterable[str]) -> list[str]:
    """The group of each image, from a CSV of two columns without a header: name and group. It may hold other names.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such table, gives a name two groups, or lacks an image.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    found: dict[str, str] = {}
    with file.open(newline="", encoding="utf-8-sig") as stream:
        try:
            for row in csv.reader(stream):
                if not row:
                    continue
                if len(row) != 2:
                    raise ValueError(f"{file} must have two columns, name and group, got {row}")
                name, group = (cell.strip() for cell in row)
                if found.setdefault(name, group) != group:
                    raise ValueError(f"{file} gives {name} two groups, {found[name]} and {group}")
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{file} is no CSV in UTF-8: {error}") from error
    names = list(names)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{file} has no group for {missing[0]}")
    return [found[name] for name in names]


def read_names(file: Path) -> list[str]:
    """The names in a text file, one a line; empty lines are skipped.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no name, a name twice, or something else than text.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{file} holds no name")
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise ValueError(f"{file} holds {twice} twice")
    return names
