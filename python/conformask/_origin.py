"""Which files were used for calibration, so that a test on the same data set takes other files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from conformask._text import plural

__all__ = ["Origin"]

_BYTES = 8  # length of the digest of a name


@dataclass(frozen=True)
class Origin:
    """The calibration images, by their names, and how they were chosen."""

    images: frozenset[bytes]  # digests of the images' names
    # For data sets that have moved: digests of the names without folders, and one digest of all names of a data set.
    alone: frozenset[bytes] = frozenset()
    data_sets: frozenset[bytes] = frozenset()
    split: Mapping[str, Any] | None = None  # how the images were chosen among those of a data set
    notes: Mapping[str, Any] = field(default_factory=dict)  # other data that a program stores for itself

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        *,
        of: Sequence[str] | None = None,
        split: Mapping[str, Any] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Origin | None:
        """The origin of images with names, perhaps out of all names `of` a data set; None if a name is empty."""
        if not all(names) or not all(of or ()):
            return None
        if of is None:
            return cls(_digests(names), notes=notes or {})
        return cls(
            _digests(names), _digests(map(_alone, names)), frozenset([_of_all(of)]), split, notes or {}
        )

    def joined(self, other: Origin | None) -> Origin:
        """The origin of the images of both."""
        if other is None:
            return self
        return Origin(
            self.images | other.images,
            self.alone | other.alone,
            self.data_sets | other.data_sets,
            self.split if self.split == other.split else None,
            {**other.notes, **self.notes},
        )

    def refuse_seen(self, names: Sequence[str], *, of: Sequence[str] | None = None, way_out: str) -> None:
        """Refuses calibration images. In a data set `of` known files they are recognised in other folders, too.

        Raises
        ------
        ValueError
            If calibration images are among them: the risk on them would be no estimate of the risk on new images.
            `way_out` says what to do if they are other images of the same name.
        """
        has_moved = of is not None and all(of) and _of_all(of) in self.data_sets
        seen = [
            name
            for name in names
            if _digest(name) in self.images or (has_moved and _digest(_alone(name)) in self.alone)
        ]
        if seen:
            raise ValueError(
                f"{len(seen)} of {plural(len(names), 'image')} {'was' if len(seen) == 1 else 'were'} used "
                f"for calibration, {seen[0]} among them: the risk on them tells nothing about new images. "
                f"{self._what_to_do()}. If these are other images with the same names, {way_out}"
            )

    def _what_to_do(self) -> str:
        if self.split is None:
            return "Test on images that were not used for calibration"
        given = ", ".join(f"{name}={value!r}" for name, value in self.split.items() if name != "group_key")
        group_key = self.split.get("group_key")
        along = "" if group_key is None else f" and group_key={group_key!r}"
        return f"Pass subset=dict({given}, part='evaluation'){along}"

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        return {
            "images": _to_text(self.images),
            "alone": _to_text(self.alone),
            "data_sets": _to_text(self.data_sets),
            "split": None if self.split is None else dict(self.split),
            "notes": dict(self.notes),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Origin:
        """The inverse of :meth:`to_json`."""
        split, notes = document["split"], document["notes"]
        if not isinstance(split, dict | None) or not isinstance(notes, dict):
            raise ValueError("origin is damaged")
        images, alone, data_sets = (_from_text(document[name]) for name in ("images", "alone", "data_sets"))
        return cls(images, alone, data_sets, split, notes)


def _alone(name: str) -> str:
    return PurePath(name).name


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=_BYTES).digest()


def _digests(names: Iterable[str]) -> frozenset[bytes]:
    return frozenset(map(_digest, names))


def _of_all(names: Sequence[str]) -> bytes:
    return _digest("\0".join(sorted(map(_alone, names))))


def _to_text(digests: frozenset[bytes]) -> str:
    return base64.b64encode(b"".join(sorted(digests))).decode("ascii")


def _from_text(text: str) -> frozenset[bytes]:
    joined = base64.b64decode(text, validate=True)
    if len(joined) % _BYTES:
        raise ValueError("origin is damaged")
    return frozenset(joined[i : i + _BYTES] for i in range(0, len(joined), _BYTES))
