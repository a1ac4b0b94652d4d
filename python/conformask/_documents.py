"""Files of calibrators and profiles. A new file is written and then renamed: a path holds the old file or the new one.

A calibrator is a JSON file. Data that are too large for it are in a second file, its sibling; the JSON file holds the
name and the hash of the sibling.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from conformask import _core
from conformask._exact import number_to_json
from conformask._text import shown
from conformask._warnings import warn_caller

__all__ = [
    "document_text",
    "finite_or_text",
    "locked",
    "named_sibling",
    "open_sibling",
    "read_document",
    "reading",
    "replaced",
    "save_document",
    "write_whole",
]

_PACKAGE = "conformask."
_LONGEST_NAME = 255  # bytes that file systems let a name have


def document_text(name: str, version: int, content: dict[str, Any]) -> str:
    """The text of a file that holds an object of a class."""
    header = {
        "format": _PACKAGE + name,
        "format_version": version,
        "conformask_version": _core.__version__,
    }
    return json.dumps({**header, **content}, indent=2, allow_nan=False, default=number_to_json) + "\n"


def finite_or_text(value: float) -> float | str:
    """JSON has no infinities and no NaN: they are strings."""
    return value if math.isfinite(value) else str(value)


class _OtherFile(ValueError):
    """A file that is sound, but for another class or version; says what it is."""


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turns any error about the content of a file into a ValueError that names the file."""
    try:
        yield
    except _OtherFile as error:
        raise ValueError(f"{path} {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is damaged or holds no calibrator: {reason}") from error


def read_document(content: bytes, name: str, newest: int) -> dict[str, Any]:
    """The document of a class; refuses those of others, and of versions that are newer."""
    document = json.loads(content.decode("utf-8"))
    found = document.get("format") if isinstance(document, dict) else None
    if found != _PACKAGE + name:
        if isinstance(found, str) and found.startswith(_PACKAGE):
            other = found.removeprefix(_PACKAGE)
            raise _OtherFile(f"holds a {other}: load it with {other}.load")
        raise ValueError("it is not one of conformask's")
    version = document["format_version"]
    if type(version) is not int or version < 1:
        raise ValueError(f"format_version is {version!r}")
    if version > newest:
        raise _OtherFile(f"has format version {version}, which is newer: update conformask")
    return dict(document)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary path. Its file replaces `path` at the end; if writing fails, it is deleted.

    Its name ends like that of `path`: some libraries choose the format by the suffix.
    """
    beside = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    if not path.parent.exists():
        raise FileNotFoundError(f"cannot write {path}: folder {str(path.parent)!r} does not exist")
    try:
        yield beside
        with beside.open("r+b") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """The same as a file, open to be written to."""
    with replaced(path) as beside, beside.open("xb") as file:
        yield file


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keeps other processes that save to a folder, or that load from it, from seeing one file without the other."""
    if sys.platform == "win32":  # it cannot lock folders
        yield
        return
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # reading or writing will say what is wrong
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def save_document(
    path: Path, text: Callable[[dict[str, str] | None], str], sibling: Callable[[BinaryIO], None] | None
) -> None:
    """Writes the sibling, if there is one, then the document, whose `text` gets the sibling's name and hash.

    The document's earlier sibling is deleted last.
    """
    with locked(path.parent):
        before, found = _sibling_of(path), None
        if sibling is not None:
            beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.npz")
            with write_whole(beside) as file:
                sibling(file)
            digest = _sha256(beside)
            # The full name of the document, and a part that differs between contents.
            found = {"file": f"{path.name}.{digest[:16]}.npz", "sha256": digest}
            beside.replace(path.with_name(found["file"]))
        with write_whole(path) as file:
            file.write(text(found).encode("utf-8"))
        if before is not None and (found is None or before != found["file"]):
            path.with_name(before).unlink(missing_ok=True)


def _sibling_of(path: Path) -> str | None:
    """The sibling that the document at `path` names, if it is one that no other document can have."""
    try:
        name = json.loads(path.read_bytes())["profiles"]["file"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    is_ours = isinstance(name, str) and name.startswith(f"{path.name}.") and "/" not in name
    return name if is_ours else None


def named_sibling(found: Any) -> tuple[str, str | None] | None:
    """Name and hash of the sibling that a document names; documents of version 1 have no hash."""
    name, digest = (found["file"], found["sha256"]) if isinstance(found, dict) else (found, None)
    if not (isinstance(name, str | None) and isinstance(digest, str | None)):
        raise TypeError(f"profiles is {found!r}")
    if name is None:
        return None
    if Path(name).name in ("", "..") or "\0" in name or len(name.encode("utf-8", "replace")) > _LONGEST_NAME:
        raise ValueError(f"profiles is {shown(found)}")
    return Path(name).name, digest


def open_sibling(path: Path, name: str, digest: str | None, *, is_needed: bool) -> Path | None:
    """The sibling of the document at `path`; refuses one that is not what was saved.

    If it is lost: None after a warning, or an error where nothing can be done without it.
    """
    sibling = path.with_name(name)
    try:
        found = _sha256(sibling)
    except FileNotFoundError as error:
        lost = f"{name}, the profiles of {path}, is not beside it"
        if is_needed:
            raise FileNotFoundError(
                f"{lost}, and new images have lambdas that are found from them"
            ) from error
        warn_caller(
            f"{lost}: the calibrator predicts without them, but it cannot recalibrate, take more images or draw its "
            "risk curve. Keep both files together",
            UserWarning,
        )
        return None
    if digest is not None and found != digest:
        raise ValueError(f"{name} is damaged, or not the file that was saved: its SHA-256 differs")
    return sibling


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
