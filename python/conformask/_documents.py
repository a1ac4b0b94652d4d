"""The JSON files of calibrators: what stands at their beginning."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["read_document"]

_PACKAGE = "conformask."


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
