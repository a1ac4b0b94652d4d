"""Warnings that point at the line of the user's code."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["naming", "saying_once", "warn_caller"]

_PACKAGE = __name__.partition(".")[0]

_NAMES: ContextVar[str] = ContextVar("names", default="")
_SAID: ContextVar[set[str] | None] = ContextVar("said", default=None)


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warns at the line that called the package, however deep in it the warning comes from."""
    message, said = f"{_NAMES.get()}{message}", _SAID.get()
    if said is not None:
        if message in said:
            return
        said.add(message)
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Makes warnings name what they are about, for example one of several channels."""
    token = _NAMES.set(f"{what}: ")
    try:
        yield
    finally:
        _NAMES.reset(token)


@contextmanager
def saying_once(said: set[str]) -> Iterator[None]:
    """Leaves out warnings that are in `said`, and adds new ones to it: parts of a whole are processed one by one."""
    token = _SAID.set(said)
    try:
        yield
    finally:
        _SAID.reset(token)
