"""The labels in nnU-Net's ``dataset.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformask._text import shown

__all__ = ["Dataset", "is_reoriented", "near"]

_FILE, _PLANS = "dataset.json", "plans.json"
_LONGEST = 100  # characters: file systems know names of 255
_DEPTH = 3  # predictions/, or fold_0/validation/ below the folder of the model


@dataclass(frozen=True)
class Dataset:
    """Labels of a dataset of nnU-Net.

    Parameters
    ----------
    names : tuple of str
        The channels of the network, in order: the classes, of which the first is the background; or, with region-based
        training, the regions, without the background.
    labels : tuple of tuples of ints
        The labels that each channel stands for: one for a class, one or more for a region.
    ignore_label : int or None
        The label of voxels that count nowhere, nnU-Net's highest plus 1.
    has_regions : bool
        Whether training was region-based: channels overlap, and each is a probability of its own (a sigmoid).
    file_ending : str
        The ending of the files of labels.
    reader : str or None
        The class by which nnU-Net reads images, if the file names one.

    See Also
    --------
    Cases : Predictions and labels of a dataset.

    Examples
    --------
    >>> from conformask.integrations.nnunet import Dataset
    >>> labels = {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}
    >>> dataset = Dataset.from_document({"labels": labels, "file_ending": ".nii.gz"})
    >>> dataset.names, dataset.ignore_label
    (('background', 'liver', 'tumour'), 3)
    """

    names: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    ignore_label: int | None = None
    has_regions: bool = False
    file_ending: str = ".nii.gz"
    reader: str | None = None

    @classmethod
    def from_json(cls, path: str | Path) -> Dataset:
        """Reads a ``dataset.json``, of nnU-Net v2 or v1.

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        Dataset

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not JSON, or its labels do not follow the rules of nnU-Net.
        """
        path = Path(path)
        document = _read(path)
        try:
            return cls.from_document(document)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Dataset:
        """Reads the content of a ``dataset.json``.

        Parameters
        ----------
        document : mapping
            It has "labels", and may have "file_ending", "regions_class_order" and "overwrite_image_reader_writer".

        Returns
        -------
        Dataset

        Raises
        ------
        ValueError
            If labels are missing, or do not follow the rules of nnU-Net.
        """
        found = document.get("labels")
        if not isinstance(found, Mapping) or not found:
            raise ValueError("it has no 'labels', as a dataset.json of nnU-Net does")
        if all(isinstance(value, str) for value in found.values()):  # nnU-Net v1: names by label
            found = {name: label for label, name in found.items()}
        labels = {str(name): _as_labels(name, value) for name, value in found.items()}
        ignored = labels.pop("ignore", None)
        if ignored is not None and len(ignored) != 1:
            raise ValueError(f"the label of 'ignore' must be one number, got {list(ignored)}")
        has_regions = any(len(each) > 1 for each in labels.values())
        if has_regions:
            if document.get("regions_class_order") is None:
                raise ValueError("labels that are lists (regions) need 'regions_class_order'")
            labels = {name: each for name, each in labels.items() if set(each) != {0}}
        else:
            labels = dict(sorted(labels.items(), key=lambda item: item[1]))
            numbers = [each[0] for each in labels.values()]
            if numbers != list(range(len(numbers))):
                raise ValueError(f"labels must be 0, 1, 2, ... without gaps, got {numbers}")
        if not labels:
            raise ValueError("'labels' name no class: 'background', 0, and the classes are missing")
        highest = max(label for each in labels.values() for label in each)
        if ignored is not None and ignored[0] != highest + 1:
            raise ValueError(
                f"the label of 'ignore' must be the highest + 1 = {highest + 1}, got {ignored[0]}"
            )
        ending = document.get("file_ending", ".nii.gz")
        if not isinstance(ending, str) or len(ending) > _LONGEST or {*"/\\\0"} & {*ending}:
            raise ValueError(
                f"'file_ending' must be how names of files end, such as .nii.gz, got {shown(ending)}"
            )
        reader = document.get("overwrite_image_reader_writer")
        return cls(
            names=tuple(labels),
            labels=tuple(labels.values()),
            ignore_label=None if ignored is None else ignored[0],
            has_regions=has_regions,
            file_ending=ending,
            reader=None if reader in (None, "None") else str(reader),
        )

    @classmethod
    def of_predictions(cls, folder: str | Path) -> Dataset:
        """Reads the ``dataset.json`` that nnU-Net keeps with its predictions, or with the model two folders above.

        Parameters
        ----------
        folder : path
            Predictions, such as ``fold_0/validation``.

        Returns
        -------
        Dataset

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            As for :meth:`from_json`.
        """
        path = near(Path(folder), _FILE)
        if path is None:
            raise FileNotFoundError(
                f"no {_FILE} in {folder} or in the two folders above: pass its path, dataset="
            )
        return cls.from_json(path)

    @property
    def known_labels(self) -> set[int]:
        """The labels that a voxel may have, the background and the ignore label among them."""
        ignored = set() if self.ignore_label is None else {self.ignore_label}
        return {0, *(label for each in self.labels for label in each)} | ignored

    def channel(self, name: str) -> int:
        """The channel of a class or region.

        Parameters
        ----------
        name : str
            One of `names`.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            If no channel has this name.
        """
        if name not in self.names:
            raise ValueError(
                f"no {'region' if self.has_regions else 'class'} {name!r}: {', '.join(self.names)}"
            )
        return self.names.index(name)


def _as_labels(name: object, value: object) -> tuple[int, ...]:
    values: Any = value if isinstance(value, list | tuple) else [value]
    try:
        labels = tuple(int(each) for each in values)  # of v1 they are strings
        is_whole = not any(
            isinstance(each, bool) or (isinstance(each, float) and not each.is_integer()) for each in values
        )
    except (TypeError, ValueError, OverflowError):
        is_whole = False
    if not is_whole:
        raise ValueError(
            f"the label of {name!r} must be a whole number or a list of them, got {shown(value)}"
        )
    if not labels or min(labels) < 0:
        raise ValueError(f"the label of {name!r} must be at least 0, got {shown(value)}")
    return labels


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} is no dataset.json of nnU-Net: it holds a {type(document).__name__}")
    return document


def near(folder: Path, name: str) -> Path | None:
    """A file in a folder, or in one of the two above."""
    folder = folder.absolute()
    places = [folder, *folder.parents][:_DEPTH]
    return next((each / name for each in places if (each / name).is_file()), None)


def is_reoriented(folder: Path, dataset: Dataset) -> bool:
    """Whether nnU-Net turned images to RAS+ when it read them: its scores stay turned, its segmentations do not."""
    plans = near(folder, _PLANS)
    reader = dataset.reader if plans is None else _read(plans).get("image_reader_writer", dataset.reader)
    return str(reader).endswith("WithReorient")
