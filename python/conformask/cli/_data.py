"""Folders of maps and labels, as options, and what reads them."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask._files.folders import read_groups, read_names
from conformask.datasets import MapFolder, PairedFolder

__all__ = [
    "EXIT_STATUS",
    "Pairs",
    "Seen",
    "adapt",
    "add_calibrator_file",
    "add_labels",
    "add_maps",
    "loaded",
    "maps_of",
    "naming_file",
    "naming_files",
    "paired",
    "strata_of",
]

EXIT_STATUS = (
    "exit status:\n"
    "  0  done\n"
    "  2  arguments, files or numbers cannot be used: one line says why\n"
    "  3  too few calibration images for alpha\n"
    "  130  stopped by Ctrl-C"
)
_KINDS = ".npy, .npz, .nii, .nii.gz, .tif"


def add_maps(parser: argparse.ArgumentParser) -> Any:
    """Adds the folder of score maps, and how they are read; returns the group of options."""
    group = parser.add_argument_group("files")
    group.add_argument(
        "--maps",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"score maps, a file for each image: {_KINDS}; (K, H, W) or (K, D, H, W), NIfTI with the classes on the "
        "last axis, GeoTIFF with a class in each band",
    )
    group.add_argument(
        "--names", type=Path, metavar="FILE", help="take these images alone: their names, one a line"
    )
    group.add_argument(
        "--ending",
        default="",
        metavar="TEXT",
        help="what the names of maps end with, before their suffix, such as _softmax",
    )
    group.add_argument(
        "--key",
        metavar="NAME",
        help="which array of .npz maps; default: the only one, or the one that is called probabilities, softmax, "
        "probs, scores or logits",
    )
    group.add_argument(
        "--class-axis",
        type=int,
        default=0,
        metavar="N",
        help="axis of the classes in .npy and .npz maps: -1 if it is the last; default: %(default)s",
    )
    group.add_argument(
        "--strata",
        type=Path,
        metavar="CSV",
        help="what kind each image is of, where each kind has a lambda of its own: two columns, name and kind",
    )
    group.add_argument("--quiet", action="store_true", help="show no progress bar")
    return group


def add_labels(group: Any) -> None:
    """Adds the folder of labels, and what belongs together."""
    group.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"labels, files of the same names: .png (class indices, not colours), {_KINDS}",
    )
    group.add_argument(
        "--label-ending",
        default="",
        metavar="TEXT",
        help="what the names of labels end with, before their suffix, such as _gtFine_labelTrainIds",
    )
    group.add_argument("--label-key", metavar="NAME", help="which array of .npz labels")
    group.add_argument(
        "--groups",
        type=Path,
        metavar="CSV",
        help="what each image belongs to, such as its patient: two columns without a head, name and group. A group "
        "counts once",
    )


def add_calibrator_file(parser: argparse.ArgumentParser) -> None:
    """Adds the file that ``calibrate`` wrote."""
    parser.add_argument(
        "--calibrator", type=Path, required=True, metavar="FILE", help="what conformask calibrate wrote"
    )


def loaded(args: argparse.Namespace) -> cm.ConformalRiskCalibrator:
    """The calibrator of a file."""
    if not args.calibrator.is_file():
        raise FileNotFoundError(f"no file {args.calibrator}")
    return cm.ConformalRiskCalibrator.load(args.calibrator)


def _names(args: argparse.Namespace) -> list[str] | None:
    return None if args.names is None else read_names(args.names)


def maps_of(args: argparse.Namespace) -> MapFolder:
    """The maps alone."""
    return MapFolder(
        args.maps, key=args.key, class_axis=args.class_axis, ending=args.ending, names=_names(args)
    )


def refuse_seen(
    calibrator: cm.ConformalRiskCalibrator, folder: PairedFolder, args: argparse.Namespace
) -> None:
    """Refuses images that calibrated."""
    if calibrator._origin is not None and not args.allow_seen:
        calibrator._origin.refuse_seen(full_names(folder), way_out="add --allow-seen")


def full_names(folder: PairedFolder) -> list[str]:
    """What the score maps of a folder are called, all the way."""
    return [str(file.resolve()) for file in folder.maps.files]


def paired(args: argparse.Namespace, ignore_index: int | Sequence[int] | None) -> PairedFolder:
    """Maps and labels."""
    return PairedFolder(
        args.maps,
        args.labels,
        ignore_index=ignore_index,
        key=args.key,
        label_key=args.label_key,
        class_axis=args.class_axis,
        ending=args.ending,
        label_ending=args.label_ending,
        names=_names(args),
        groups=args.groups,
    )


def strata_of(args: argparse.Namespace, names: Iterable[str]) -> list[str] | None:
    """The stratum of each image."""
    return None if args.strata is None else read_groups(args.strata, names)


def adapt(calibrator: cm.ConformalRiskCalibrator, maps: MapFolder, args: argparse.Namespace) -> None:
    """Says to a calibrator what its folder is like: a file is one image, never a batch."""
    calibrator.set_params(volumes=maps[0].ndim == 4, progress=False if args.quiet else "auto")


@contextmanager
def naming_file(file: Path) -> Iterator[None]:
    """Errors about the only image that there is say which file it is."""
    try:
        yield
    except (ValueError, TypeError) as error:
        said = re.sub(r" (in|of) image 0\b", "", str(error))
        raise ValueError(f"{file}: {said}") from error


@contextmanager
def naming_files(seen: Pairs) -> Iterator[None]:
    """Errors that count images, or that are about the image which was read last, say which file it is."""
    try:
        yield
    except (ValueError, TypeError) as error:
        is_of_labels = str(error).startswith("y ")
        files = seen.folder.label_files if is_of_labels else seen.folder.maps.files
        found = re.search(r"\bimage (\d+)\b", str(error))
        if isinstance(error, cm.InfeasibleRiskError):
            raise
        if found is not None and int(found[1]) < len(files):
            raise ValueError(f"{error} (image {found[1]} is {files[int(found[1])]})") from error
        if seen.place is None or seen.folder.names[seen.place] in str(error):
            raise
        raise ValueError(f"{files[seen.place]}: {error}") from error


class Pairs(Sequence[Any]):
    """The pairs of a folder, and which of them is being worked on."""

    def __init__(self, folder: PairedFolder) -> None:
        self.folder = folder
        self.place: int | None = None

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, index: Any) -> Any:
        return self.folder[index]

    def __iter__(self) -> Iterator[Any]:
        for place in range(len(self.folder)):
            self.place = place
            pair = self.folder[place]
            yield pair
            self.look(place, *pair)  # after it was checked by who asked for it
        self.place = None

    def look(self, place: int, scores: NDArray[Any], labels: NDArray[Any]) -> None:
        """Looks at a pair on the way."""


class Seen(Pairs):
    """The pairs of a folder, and how many pixels of each label were among them."""

    def __init__(self, folder: PairedFolder) -> None:
        super().__init__(folder)
        self.pixels: Counter[int] = Counter()

    def look(self, place: int, scores: NDArray[Any], labels: NDArray[Any]) -> None:
        if labels.dtype == np.uint8:  # faster than a sort
            counts = np.bincount(labels.ravel(), minlength=256)
            values = np.flatnonzero(counts)
            counts = counts[values]
        else:
            values, counts = np.unique(labels, return_counts=True)
        self.pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def doubts(self, n_classes: int, ignore_index: int | None) -> list[str]:
        """What looks wrong with the labels."""
        missing = [label for label in range(n_classes) if label not in self.pixels]
        said = []
        if missing == list(range(1, n_classes)) and ignore_index in self.pixels:
            said.append(
                f"the labels hold 0 and {ignore_index} alone, and {ignore_index} is void, which counts nowhere; if it "
                "is a class, write the indices of classes: 0, 1, ..."
            )
        elif missing:
            said.append(
                f"no pixel is labelled {_numbered(missing)}: these images cannot show how often it is missed"
            )
        return said


def _numbered(classes: list[int]) -> str:
    """Classes in a message, not too many."""
    shown = ", ".join(map(str, classes[:5]))
    more = f" and {len(classes) - 5} more" if len(classes) > 5 else ""
    return f"{'class' if len(classes) == 1 else 'classes'} {shown}{more}"
