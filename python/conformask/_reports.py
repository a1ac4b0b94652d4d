"""What reports have in common: how they are displayed."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from html import escape
from typing import Any, ClassVar

import numpy as np

from conformask import _core
from conformask._tables import Table, names_and_values

__all__ = ["Report", "counts_rows", "interval_text"]

# Classes that text shows; Markdown, HTML and JSON hold all.
_MOST_CLASSES = 25


class Report(ABC):
    """A report that is text, tables or JSON."""

    _CAPTION: ClassVar[str]
    _ARRAYS: ClassVar[frozenset[str]]  # the values of each image

    verdict: str
    interval_method: str

    @abstractmethod
    def _summary(self) -> list[tuple[str, str]]:
        """Names and values."""

    @abstractmethod
    def _class_table(self) -> Table:
        """A row for each class that images hold, the worst first."""

    def _more_tables(self) -> list[Table]:
        return []

    def to_dict(self, *, images: bool = True) -> dict[str, Any]:
        """The report as plain Python values, for JSON: NaN is None, and infinities are strings.

        Parameters
        ----------
        images : bool, default=True
            Whether to give the values of each image, too.

        Returns
        -------
        dict
            All attributes by their names, ``report`` (the kind) and ``conformask_version``.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        if not images:
            values = {name: value for name, value in values.items() if name not in self._ARRAYS}
        head = {"report": type(self).__name__, "conformask_version": _core.__version__}
        return {name: _plain(value, images) for name, value in (head | values).items()}

    def to_json(self, *, images: bool = True, indent: int | None = 2) -> str:
        """The report as JSON.

        Parameters
        ----------
        images : bool, default=True
            Whether to give the values of each image, too.
        indent : int or None, default=2
            As for :func:`json.dumps`.

        Returns
        -------
        str
        """
        return json.dumps(self.to_dict(images=images), indent=indent, allow_nan=False)

    def to_markdown(self) -> str:
        """The report as Markdown: a table, what it means, and a table of the classes.

        Returns
        -------
        str
        """
        tables = [table.markdown() for table in self._tables()]
        return "\n\n".join([self._summary_table().markdown(), self.verdict, *tables]) + "\n"

    def _summary_table(self) -> Table:
        return names_and_values(self._CAPTION, self._summary())

    def _tables(self) -> list[Table]:
        return [table for table in (self._class_table(), *self._more_tables()) if table.rows]

    def __str__(self) -> str:
        parts = [self._summary_table().plain(), self.verdict]
        for table in self._tables():
            hidden = len(table.rows) - _MOST_CLASSES
            shown = table._replace(rows=table.rows[:_MOST_CLASSES])
            parts.append(
                f"{table.caption}\n{shown.plain()}" + (f"\n({hidden} more in .classes)" if hidden > 0 else "")
            )
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        verdict = f"<p style='max-width:44em;margin:4px 0 10px'>{escape(self.verdict)}</p>"
        return f"<div>{self._summary_table().html()}{verdict}{''.join(table.html() for table in self._tables())}</div>"


def counts_rows(n_images: int, n_skipped: int, n_groups: int | None) -> list[tuple[str, str]]:
    """The units that count."""
    images = f"{n_images}{f' ({n_skipped} skipped)' if n_skipped else ''}"
    return [("images", images), *([] if n_groups is None else [("groups", f"{n_groups}")])]


def interval_text(interval: tuple[float, float], method: str = "") -> str:
    """Both ends, and how they were found; words if there is none."""
    if math.isnan(interval[0]):
        return "no interval"
    return f"{interval[0]:.4f} to {interval[1]:.4f}{method and f' ({method})'}"


def _plain(value: Any, images: bool) -> Any:
    if isinstance(value, Report):
        return value.to_dict(images=images)
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {name: _plain(each, images) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each, images) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
