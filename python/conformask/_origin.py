"""Which files of a data set calibrated, so that who tests on the same data set takes the others."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from conformask._text import plural

__all__ = ["Origin"]

_BYTES = 8  # of the digest of a name


@dataclass(frozen=True)
class Origin:
    """The images that calibrated, by their names, and how they were chosen.

    A data set is known again by the names of its files, wherever its folders lie.
    """

    images: frozenset[bytes]  # digests of the names of those that calibrated
    data_set: bytes  # digest of the names of all files, without their folders
    split: Mapping[str, Any] | None  # what chose the former among the latter

    @classmethod
    def of(cls, names: Sequence[str], of: Sequence[str], split: Mapping[str, Any] | None) -> Origin | None:
        """That of images with names, among those `of` a data set; None if one has no name."""
        if not all(of):
            return None
        return cls(frozenset(map(_digest, names)), _digest_of_all(of), split)

    def refuse_seen(self, names: Sequence[str], of: Sequence[str], split: Mapping[str, Any] | None) -> None:
        """Refuses images that calibrated, and another split of the same data set.

        Raises
        ------
        ValueError
            If the risk on the images would be no estimate of that of new ones.
        """
        seen = [name for name in names if _digest(name) in self.images]
        if seen:
            raise ValueError(
                f"{len(seen)} of {plural(len(names), 'image')} calibrated, {seen[0]} among them: the risk on them says "
                f"nothing about new images. {self._what_to_do()}"
            )
        if _digest_of_all(of) == self.data_set and split != self.split:
            raise ValueError(
                "the calibrator is of another split of the same data set, so that images may count here that "
                f"calibrated. {self._what_to_do()}"
            )

    def _what_to_do(self) -> str:
        if self.split is None:
            return "It was calibrated on all images of its data set: test on another"
        given = ", ".join(f"{name}={value!r}" for name, value in self.split.items() if name != "group_key")
        group_key = self.split.get("group_key")
        along = "" if group_key is None else f" and group_key={group_key!r}"
        return f"Say subset=dict({given}, part='evaluation'){along}"

    def to_json(self) -> dict[str, Any]:
        """What a file holds of it."""
        digests = b"".join(sorted(self.images))
        return {
            "images": base64.b64encode(digests).decode("ascii"),
            "data_set": self.data_set.hex(),
            "split": None if self.split is None else dict(self.split),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Origin:
        """The inverse of :meth:`to_json`."""
        digests, split = base64.b64decode(document["images"], validate=True), document["split"]
        if len(digests) % _BYTES or not isinstance(split, dict | None):
            raise ValueError("origin is damaged")
        images = (digests[i : i + _BYTES] for i in range(0, len(digests), _BYTES))
        return cls(frozenset(images), bytes.fromhex(document["data_set"]), split)


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=_BYTES).digest()


def _digest_of_all(names: Sequence[str]) -> bytes:
    alone = sorted(PurePath(name).name for name in names)
    return hashlib.blake2b("\0".join(alone).encode(), digest_size=_BYTES).digest()
