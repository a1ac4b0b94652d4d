"""The JSON files of calibrators: how they begin, how numbers stand in them, what is said of those that are damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conformask import _core
from conformask._exact import number_to_json

__all__ = ["document_text", "finite_or_text", "read_document", "reading"]

_PACKAGE = "conformask."


def document_text(name: str, version: int, **content: Any) -> str:
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


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Whatever is wrong with what a file holds becomes a ValueError that names the file."""
    try:
        yield
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
            raise ValueError(f"it holds a {other}: read it with {other}.load")
        raise ValueError("it is not one of conformask's")
    version = document["format_version"]
    if type(version) is not int:
        raise ValueError(f"format_version is {version!r}")
    if version > newest:
        raise ValueError(f"format version {version} is newer; update conformask")
    return dict(document)
