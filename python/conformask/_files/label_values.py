"""Labels whose files hold other numbers than the indices of classes, such as grey levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._sequences import listed
from conformask._text import plural, shown

__all__ = ["LabelValues"]


@dataclass(frozen=True)
class LabelValues:
    """The numbers that files of labels hold, and what each of them means."""

    classes: tuple[int, ...]  # the numbers of class 0, 1, and so on
    void: tuple[int, ...]  # the numbers of void pixels, which become the first label of `ignored`
    ignored: tuple[int, ...]  # other labels of void pixels, which are kept

    @classmethod
    def of(
        cls,
        classes: Sequence[int] | None,
        void: int | Sequence[int] | None,
        ignored: tuple[int, ...],
    ) -> LabelValues | None:
        """The meaning of numbers as a user gives it; None if the numbers are the indices of classes."""
        if classes is None:
            if void is not None:
                raise ValueError(
                    "void_values are read with label_values: pass these too, or where the files hold the indices of "
                    "classes ignore_index= alone"
                )
            return None
        found = _whole_numbers(classes, "label_values", "whole numbers, of class 0, 1, ...")
        if void is None:
            empty: tuple[int, ...] = ()
        else:
            empty = _whole_numbers(
                [void] if isinstance(void, int | np.integer) else void, "void_values", "whole numbers"
            )
        if both := [number for number in empty if number in found]:
            raise ValueError(
                f"void_values holds {both[0]}, which label_values gives to class {found.index(both[0])}"
            )
        if empty and not ignored:
            raise ValueError(
                "void_values need a label that void pixels become: pass ignore_index, such as 255"
            )
        for label in ignored:
            if 0 <= label < len(found):
                void_ones = "" if label in found else f"void_values {label}, and "
                raise ValueError(
                    f"ignore_index {label} would be class {label} when label_values are read: pass {void_ones}"
                    f"as ignore_index a number that is {len(found)} or more, such as {max(255, len(found))}"
                )
        return cls(found, empty, ignored)

    def check_number(self, n_classes: int, file: Path) -> None:
        """Refuses more numbers than the maps have classes."""
        if len(self.classes) > n_classes:
            raise ValueError(
                f"label_values are {len(self.classes)} numbers, but the maps in {file} have "
                f"{plural(n_classes, 'class')}"
            )

    def indices(
        self, labels: NDArray[np.integer[Any]], file: Path, valid: NDArray[np.bool_] | None = None
    ) -> NDArray[np.integer[Any]]:
        """The class of each pixel; a label of `ignored` where it is void.

        Where pixels hold no data their number says nothing: they are 0 here, for the caller to make void.

        Raises
        ------
        ValueError
            If there are other numbers.
        """
        seen = np.ones(labels.shape, bool) if valid is None else valid
        found, places = np.unique(labels[seen], return_inverse=True)
        indices = np.array([self._index(label, file) for label in found.tolist()], np.int64)
        fits = (
            np.result_type(*(np.min_scalar_type(int(each)) for each in indices)) if len(indices) else np.uint8
        )
        whole = np.zeros(labels.shape, fits)
        whole[seen] = indices.astype(fits)[places]
        return whole

    def _index(self, label: int, file: Path) -> int:
        if label in self.classes:
            return self.classes.index(label)
        if label in self.void:
            return self.ignored[0]
        if label in self.ignored:
            return label
        raise ValueError(
            f"{file} holds the label {label}, which is none of label_values "
            f"({', '.join(map(str, self.classes))}); where it means that a pixel is void, pass void_values {label}"
        )


def _whole_numbers(values: Sequence[int], name: str, what: str) -> tuple[int, ...]:
    found = listed(values, name)
    if not found or not all(
        isinstance(each, int | np.integer) and not isinstance(each, bool) for each in found
    ):
        raise ValueError(f"{name} must be {what}, got {shown(values)}")
    if len(set(found)) < len(found):
        raise ValueError(f"{name} must differ, got {shown(values)}")
    return tuple(map(int, found))
