"""Folders of maps and labels, as options, and what reads them."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask._arguments import file_to_write, folder_to_write
from conformask._arrays import check_ignore_index, ignored_labels
from conformask._files.folders import read_groups, read_names
from conformask.datasets import MapFolder, PairedFolder

__all__ = [
    "EXIT_STATUS",
    "OF_NNUNET",
    "Pairs",
    "Seen",
    "adapt",
    "add_calibrator_file",
    "add_calibrator_out",
    "add_class_names",
    "add_folder_out",
    "add_groups",
    "add_json",
    "add_labels",
    "add_maps",
    "add_quiet",
    "as_calibrated",
    "full_names",
    "loaded",
    "maps_of",
    "naming_file",
    "naming_files",
    "naming_images",
    "notes_of",
    "paired",
    "refuse_same_folder",
    "refuse_seen",
    "strata_of",
    "void_of",
    "warn_of",
]

EXIT_STATUS = (
    "exit status:\n"
    "  0  done\n"
    "  2  arguments, files or numbers cannot be used: one line says why\n"
    "  3  too few calibration images for alpha\n"
    "  130  stopped by Ctrl-C\n"
    "  141  nobody reads what is printed, as before | head"
)
_MOST_LABELS = 10  # in a message
# Keys of notes in files of calibrators: those of conformask nnunet, and how files were read.
OF_NNUNET = "nnunet"
_READ_AS = "read_as"
_OF_MAPS, _OF_LABELS = ("class_axis", "nodata"), ("label_values", "void_values")
# Advice of errors for Python, and the options that do the same.
_OPTIONS = {
    r"where X has no data, .*valid=~np\.isnan\(.*": "where there is no data, pass --nodata nan",
    r"pass y\.astype\(int\) - 1 and ignore_index=-1": "pass --label-values 1 2 ... --void-values 0",
    r"is X channel-last\?[^(]*(?=$| \()": "if the classes are on the last axis, pass --class-axis -1",
}
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
        "--names", type=Path, metavar="FILE", help="use only the images named in this file, one name per line"
    )
    group.add_argument(
        "--ending",
        default="",
        metavar="TEXT",
        help="ending of the file names of maps, before the suffix, such as _softmax",
    )
    group.add_argument(
        "--key",
        metavar="NAME",
        help="name of the array in .npz maps; default: the only one, or the one that is called probabilities, softmax, "
        "probs, scores or logits",
    )
    group.add_argument(
        "--class-axis",
        type=int,
        metavar="N",
        help="axis of the classes in .npy and .npz maps: -1 if it is the last; default: as calibrate was told, or 0",
    )
    group.add_argument(
        "--nodata",
        type=float,
        metavar="NUMBER",
        help="number that marks pixels without data, such as padding, in the maps of all classes; or nan (in any "
        "class). Such pixels are void where there are labels, and get full sets in new images. The nodata of GeoTIFF "
        "files is used, too; default: as calibrate was told",
    )
    group.add_argument(
        "--strata",
        type=Path,
        metavar="CSV",
        help="stratum of each image, if each stratum has a lambda of its own: two columns, name and stratum",
    )
    add_quiet(group)
    return group


def add_quiet(group: Any) -> None:
    """Adds the option that hides the progress bar."""
    group.add_argument("--quiet", action="store_true", help="show no progress bar")


def add_labels(group: Any) -> None:
    """Adds the folder of labels, and the options that belong to it."""
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
        help="ending of the file names of labels, before the suffix, such as _gtFine_labelTrainIds",
    )
    group.add_argument("--label-key", metavar="NAME", help="name of the array in .npz labels")
    group.add_argument(
        "--label-values",
        type=int,
        nargs="+",
        metavar="N",
        help="the numbers that stand for class 0, 1, ... in the files of labels, such as grey levels 0 127 254; "
        "default: as calibrate was told, or 0 1 ...",
    )
    group.add_argument(
        "--void-values",
        type=int,
        nargs="+",
        metavar="N",
        help="with --label-values: the numbers in the files of labels that stand for void pixels, such as 0 where "
        "classes begin at 1",
    )
    add_groups(
        group,
        "group of each image, such as its patient: two columns without a header, name and group. A",
    )


def add_class_names(group: Any) -> None:
    """Adds the names of classes."""
    group.add_argument(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="names of the classes, class 0 first",
    )


def add_groups(group: Any, what: str) -> None:
    """Adds the table of groups; `what` is its help text, up to the article of "group counts once"."""
    group.add_argument("--groups", type=Path, metavar="CSV", help=f"{what} group counts once")


def add_calibrator_file(parser: argparse.ArgumentParser, command: str = "conformask calibrate") -> None:
    """Adds the file that a command wrote."""
    parser.add_argument(
        "--calibrator", type=Path, required=True, metavar="FILE", help=f"the file that {command} wrote"
    )


def add_calibrator_out(parser: argparse.ArgumentParser) -> Any:
    """Adds the file that calibration writes; returns the group of options."""
    out = parser.add_argument_group("output")
    out.add_argument(
        "--out",
        type=file_to_write,
        default=Path("calibrator.json"),
        metavar="FILE",
        help="the calibrator, as JSON; default: %(default)s",
    )
    return out


def add_folder_out(parser: argparse.ArgumentParser) -> Any:
    """Adds the folder in which sets are written; returns the group of options."""
    out = parser.add_argument_group("output")
    out.add_argument("--out", type=folder_to_write, required=True, metavar="DIR", help="folder for the files")
    return out


def add_json(group: Any, image: str = "image") -> None:
    """Adds the file of a report."""
    group.add_argument(
        "--json", type=file_to_write, metavar="FILE", help=f"the report, with the values of each {image}"
    )


def refuse_same_folder(out: Path, folder: Path) -> None:
    """Refuses to write sets among the maps: next time they would be taken for maps."""
    if out.resolve() == folder.resolve():
        raise ValueError(
            f"--out must be another folder than {folder}, where the written files would be taken for maps"
        )


def loaded(args: argparse.Namespace) -> cm.ConformalRiskCalibrator:
    """The calibrator of a file."""
    if not args.calibrator.is_file():
        raise FileNotFoundError(f"no file {args.calibrator}")
    calibrator = cm.ConformalRiskCalibrator.load(args.calibrator)
    if calibrator._origin is not None and OF_NNUNET in calibrator._origin.notes:
        raise ValueError(
            f"{args.calibrator} was calibrated by conformask nnunet, whose promise is about nnU-Net's own files: use "
            "conformask nnunet evaluate or apply, or calibrate with conformask calibrate"
        )
    return calibrator


def _names(args: argparse.Namespace) -> list[str] | None:
    return None if args.names is None else read_names(args.names)


def maps_of(args: argparse.Namespace) -> MapFolder:
    """The maps alone."""
    return MapFolder(
        args.maps,
        key=args.key,
        class_axis=_class_axis(args),
        ending=args.ending,
        names=_names(args),
        nodata=args.nodata,
    )


def refuse_seen(
    calibrator: cm.ConformalRiskCalibrator, folder: PairedFolder, args: argparse.Namespace
) -> None:
    """Refuses images that calibrated."""
    if calibrator._origin is not None and not args.allow_seen:
        calibrator._origin.refuse_seen(full_names(folder), way_out="add --allow-seen")


def full_names(folder: PairedFolder) -> list[str]:
    """The absolute paths of the score maps of a folder."""
    return [str(file.resolve()) for file in folder.maps.files]


def notes_of(args: argparse.Namespace) -> dict[str, Any]:
    """How files were read, for the calibrator's file."""
    read_as = {name: getattr(args, name) for name in (*_OF_MAPS, *_OF_LABELS)}
    if args.nodata is not None:  # JSON has no NaN
        read_as["nodata"] = str(args.nodata)
    told = {name: value for name, value in read_as.items() if value is not None}
    return {_READ_AS: told} if told else {}


def as_calibrated(args: argparse.Namespace, calibrator: cm.ConformalRiskCalibrator) -> None:
    """Sets the options that say how files are read, and were not given, to what they were at calibration."""
    known = {} if calibrator._origin is None else calibrator._origin.notes.get(_READ_AS, {})
    if not isinstance(known, dict) or not isinstance(known.get("class_axis", 0), int):
        raise ValueError(f"{args.calibrator} is damaged: {_READ_AS} is {known!r}")
    taken = {name: known[name] for name in _OF_MAPS if name in known and getattr(args, name) is None}
    if "labels" in args and args.label_values is None:
        taken |= {name: known[name] for name in _OF_LABELS if name in known and getattr(args, name) is None}
    for name, value in taken.items():
        setattr(args, name, float(value) if name == "nodata" else value)
    if taken and not args.quiet:
        print(f"Files are read as at calibration: {_as_options(taken)}", file=sys.stderr)


def _as_options(given: dict[str, Any]) -> str:
    def words(value: Any) -> str:
        return " ".join(map(str, value)) if isinstance(value, list) else str(value)

    return " ".join(f"--{name.replace('_', '-')} {words(value)}" for name, value in given.items())


def paired(args: argparse.Namespace, ignore_index: int | Sequence[int] | None) -> PairedFolder:
    """Maps and labels."""
    return PairedFolder(
        args.maps,
        args.labels,
        ignore_index=ignore_index,
        key=args.key,
        label_key=args.label_key,
        class_axis=_class_axis(args),
        ending=args.ending,
        label_ending=args.label_ending,
        label_values=args.label_values,
        void_values=args.void_values,
        names=_names(args),
        groups=args.groups,
        nodata=args.nodata,
    )


def _class_axis(args: argparse.Namespace) -> int:
    return 0 if args.class_axis is None else args.class_axis


def strata_of(args: argparse.Namespace, names: Iterable[str]) -> list[str] | None:
    """The stratum of each image."""
    return None if args.strata is None else read_groups(args.strata, names)


def adapt(calibrator: cm.ConformalRiskCalibrator, maps: MapFolder, args: argparse.Namespace) -> None:
    """Tells a calibrator that each file of the folder is one image, never a batch."""
    calibrator.set_params(volumes=maps[0].ndim == 4, progress=False if args.quiet else "auto")


@contextmanager
def naming_file(file: Path) -> Iterator[None]:
    """Adds the file's name to errors about the only image."""
    try:
        yield
    except (ValueError, TypeError) as error:
        said = re.sub(r" (in|of) image 0\b", "", _said(error))
        raise ValueError(f"{file}: {said}") from error


@contextmanager
def naming_images(
    named: Callable[[bool], Sequence[object]], last: Callable[[], int | None] = lambda: None
) -> Iterator[None]:
    """Adds the name of the image to errors that give its number, or that are about the image which was read last.

    `named` returns the names of the images, in errors about labels (if its argument is true) or about scores.
    """
    try:
        yield
    except cm.InfeasibleRiskError:
        raise
    except (ValueError, TypeError) as error:
        said = _said(error)
        names = named(said.startswith("y "))
        found = re.search(r"\bimage (\d+)\b", said)
        if found is not None and int(found[1]) < len(names):
            raise ValueError(f"{said} (image {found[1]} is {names[int(found[1])]})") from error
        place = last()
        if place is None or any(str(each[place]) in said for each in (named(True), named(False))):
            raise
        raise ValueError(f"{names[place]}: {said}") from error


@contextmanager
def naming_files(seen: Pairs) -> Iterator[None]:
    """The same for files of a folder. Errors about wrong labels also list the labels that occur."""
    folder = seen.folder

    def of(labels: bool) -> list[Path]:
        return folder.label_files if labels else folder.maps.files

    with naming_images(of, lambda: seen.place):
        try:
            yield
        except (ValueError, TypeError) as error:
            strange = re.match(r"y holds label -?\d+ in image (\d+), outside \[0, ", str(error))
            if strange is None or int(strange[1]) >= len(folder):
                raise
            labels = np.unique(folder[int(strange[1])][1]).tolist()
            values = ", ".join(map(str, labels[:_MOST_LABELS])) + (
                ", ..." if len(labels) > _MOST_LABELS else ""
            )
            said = re.sub(r"; if the labels start at 1.*", "", str(error))
            raise ValueError(
                f"{said}; its labels are {values}: where other numbers stand for classes, pass --label-values and the "
                "number of class 0, 1, ...; if classes begin at 1 and 0 is void, --label-values 1 2 ... --void-values 0"
            ) from error


def _said(error: Exception) -> str:
    """The text of an error, with options of commands instead of Python's parameters."""
    said = str(error)
    for of_python, option in _OPTIONS.items():
        said = re.sub(of_python, option, said)
    return said


class Pairs(Sequence[Any]):
    """The pairs of a folder; it knows which of them is being processed."""

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
            self.look(place, *pair)  # after the consumer of the pair has checked it
        self.place = None

    def look(self, place: int, scores: NDArray[Any], labels: NDArray[Any]) -> None:
        """Called with each pair, for subclasses."""


class Seen(Pairs):
    """The pairs of a folder, and the number of pixels with each label in them."""

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

    def doubts(self, n_classes: int, ignored: Collection[int]) -> list[str]:
        """Sentences on what looks wrong with the labels."""
        missing = self._missing(n_classes)
        if said := self.void_doubts(n_classes, ignored):
            return said
        return (
            [f"no pixel is labelled {_numbered(missing)}: these images cannot show how often it is missed"]
            if missing
            else []
        )

    def void_doubts(self, n_classes: int, ignored: Collection[int]) -> list[str]:
        """Whether what looks like a class is void."""
        void = next((label for label in ignored if label in self.pixels), None)
        if void is None or self._missing(n_classes) != list(range(1, n_classes)):
            return []
        return [
            f"the labels hold 0 and {void} alone, and {void} is void, which counts nowhere; if it is a class, pass "
            f"--label-values 0 {void}, or write the indices of classes: 0, 1, ..."
        ]

    def _missing(self, n_classes: int) -> list[int]:
        return [label for label in range(n_classes) if label not in self.pixels]


def warn_of(doubts: Iterable[str]) -> None:
    """Warns of what looks wrong."""
    for doubt in doubts:
        print(f"warning: {doubt}", file=sys.stderr)


def void_of(calibrator: cm.ConformalRiskCalibrator) -> tuple[int, ...]:
    """The labels that count nowhere."""
    return ignored_labels(check_ignore_index(calibrator.ignore_index))


def _numbered(classes: list[int]) -> str:
    """Classes in a message, not too many."""
    shown = ", ".join(map(str, classes[:5]))
    more = f" and {len(classes) - 5} more" if len(classes) > 5 else ""
    return f"{'class' if len(classes) == 1 else 'classes'} {shown}{more}"
