"""``conformask nnunet``: calibrates, evaluates and applies, on the files of nnU-Net."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask._arrays import check_ignore_index, ignored_labels
from conformask._documents import reading, write_whole
from conformask._files.folders import read_groups
from conformask._images import track
from conformask._origin import Origin
from conformask._tables import names_and_values
from conformask._text import lambda_text, plural
from conformask.cli._data import (
    EXIT_STATUS,
    OF_NNUNET,
    add_calibrator_file,
    add_calibrator_out,
    add_folder_out,
    add_groups,
    add_json,
    add_quiet,
    naming_images,
    refuse_same_folder,
)
from conformask.cli._options import add_allow_seen, add_calibrator_options, calibrator_of
from conformask.cli._promise import condition, loss_words, promise
from conformask.integrations.nnunet import Cases, Dataset, VoxelCounts
from conformask.losses import as_loss

__all__ = ["MORE", "SUMMARY", "add_arguments", "run"]

SUMMARY = "calibrate, evaluate and apply, on nnU-Net's own files"
MORE = f"""\
examples:
  conformask nnunet calibrate --predictions fold_0/validation --labels labelsTr --loss fnr:2 --out calibrator.json
  conformask nnunet evaluate --calibrator calibrator.json --predictions predictionsTs --labels labelsTs
  conformask nnunet apply --calibrator calibrator.json --predictions predictionsTs --out sets

nnU-Net writes CASE.npz with nnUNetv2_train ... --npz (of validation cases; later: --val --npz) and with
nnUNetv2_predict --save_probabilities.

{EXIT_STATUS}"""

_CALIBRATE = """\
The promise is about new cases that are exchangeable with these, and about the model that made these predictions:
fold_0/validation calibrates the model of fold 0, not an ensemble. Calibrate what you deploy: for an ensemble, predict
cases that no fold was trained on. Choose alpha, loss and score before you look at the labels."""
_APPLY = """\
For each case:
  CASE_setsize.nii.gz      how many classes each voxel may have
  CASE_may_be_NAME.nii.gz  1 where a voxel may be of this class, for each class but the background
They are in the space of nnU-Net's own CASE.nii.gz: viewers show them as further segmentations of the scan. A voxel
that may be none of these classes is background. Set size 1 means that the set holds one class, not that it is right:
the guarantee limits what the sets miss. Outside of nnU-Net's crop box the sets hold the background alone, and the
guarantee does not include it (unless --outside count). For PNG images the files are .png, 255 where a pixel may be of
the class."""

_CALIBRATED = "conformask nnunet calibrate"
_PARTS = 2  # the last folders in the path of predictions, which become part of the names of cases
_VALIDATION = ("validation", "validation_raw")
_VOID, _LARGE_VOID = 255, 2**15 - 1
_STRANGE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class _Model:
    """The model that was calibrated, and how."""

    class_names: tuple[str, ...]
    outside: str
    fold: str | None

    @classmethod
    def of(cls, calibrator: cm.ConformalRiskCalibrator, path: Path) -> _Model | None:
        """The model that a calibrator's file names; None if it was fitted in Python. Refuses other commands' files."""
        if calibrator._origin is None:
            return None
        known = calibrator._origin.notes.get(OF_NNUNET)
        if known is None:
            raise ValueError(
                f"{path} was not calibrated by conformask nnunet: it gives no guarantee for nnU-Net's "
                f"files, because it does not know their crop box. Calibrate with conformask nnunet "
                f"calibrate"
            )
        with reading(path):
            names, outside, fold = known["class_names"], known["outside"], known["fold"]
            if outside not in ("void", "count") or not isinstance(names, list):
                raise ValueError(f"{OF_NNUNET} is {known!r}")
            return cls(tuple(map(str, names)), outside, fold)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the steps and their options."""
    steps = parser.add_subparsers(dest="step", required=True, metavar="step")

    def step(name: str, summary: str, more: str, do: Any) -> argparse.ArgumentParser:
        own = steps.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.set_defaults(do=do, parser=own, calibrating=steps.choices["calibrate"])
        return own

    calibrate = step("calibrate", "find the threshold of the sets", _CALIBRATE, _calibrate)
    group = _add_files(calibrate, labelled=True)
    _add_outside(group, "void")
    add_calibrator_options(calibrate, inputs="probabilities")
    add_calibrator_out(calibrate).add_argument(
        "--with-profiles",
        action="store_true",
        help="write a file of profiles, too, so that recalibrate works in Python",
    )

    evaluate = step(
        "evaluate", "print the risk, the size of the sets and the miss rate of each class", "", _evaluate
    )
    add_calibrator_file(evaluate, _CALIBRATED)
    _add_outside(_add_files(evaluate, labelled=True), None)
    add_allow_seen(evaluate)
    add_json(evaluate, "case")

    apply = step("apply", "write the sets of new cases, as NIfTI", _APPLY, _apply)
    add_calibrator_file(apply, _CALIBRATED)
    group = _add_files(apply, labelled=False)
    _add_outside(group, None)
    group.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="files CASE.nii.gz or CASE_0000.nii.gz, whose affine is copied; default: those of --predictions",
    )
    add_folder_out(apply).add_argument(
        "--classes",
        nargs="*",
        metavar="NAME",
        help="write CASE_may_be_NAME.nii.gz for these classes; without a NAME: set sizes alone; default: all classes "
        "but the background",
    )


def _add_files(parser: argparse.ArgumentParser, *, labelled: bool) -> Any:
    group = parser.add_argument_group("files")
    group.add_argument(
        "--predictions",
        type=Path,
        required=True,
        metavar="DIR",
        help="files CASE.npz that nnU-Net wrote, such as fold_0/validation",
    )
    if labelled:
        group.add_argument(
            "--labels", type=Path, required=True, metavar="DIR", help="files CASE.nii.gz, such as labelsTr"
        )
        add_groups(
            group,
            "group of each case, such as its patient: two columns without a header, case and group. A",
        )
    group.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="nnU-Net's dataset.json; default: the one in --predictions or in the two folders above",
    )
    add_quiet(group)
    return group


def _add_outside(group: Any, default: str | None) -> None:
    group.add_argument(
        "--outside",
        choices=["void", "count"],
        default=default,
        help="voxels outside of nnU-Net's crop box, which the network has not seen, are void (the guarantee is about "
        "the box alone) or counted as background; default: " + (default or "as in calibration"),
    )


def run(args: argparse.Namespace) -> int:
    """Runs a step, and returns the exit status."""
    return int(args.do(args))


# Steps


def _calibrate(args: argparse.Namespace) -> int:
    fold = _fold(args.predictions)
    dataset = _dataset(args)
    void = _VOID if len(dataset.names) <= _VOID else _LARGE_VOID
    calibrator = calibrator_of(args, dataset.names, volumes=True, ignore_index=void, progress=_progress(args))
    cases = Cases(args.predictions, args.labels, dataset, outside=args.outside, ignore_index=void)
    with naming_images(lambda _: cases.names):
        calibrator.fit(cases, groups=_groups(args, cases))
    names = _full_names(args.predictions, cases)
    model = _Model(dataset.names, args.outside, fold)
    calibrator._come_from(Origin.of(names, notes={OF_NNUNET: asdict(model)}))
    calibrator.save(args.out, profiles=args.with_profiles)
    print(names_and_values("", [*_found(calibrator, cases, fold), *_outside(cases, args.outside)]).plain())
    print(
        f"\n{promise(calibrator)}\n\n{_of_what(args.outside, fold)} {condition(calibrator)}\n\nWritten to {args.out}."
    )
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    calibrator, model = _loaded(args)
    dataset, outside = _dataset(args), _outside_of(args, model)
    _check(dataset, model, args)
    void = next(iter(ignored_labels(check_ignore_index(calibrator.ignore_index))), _VOID)
    cases = Cases(args.predictions, args.labels, dataset, outside=outside, ignore_index=void)
    if calibrator._origin is not None and not args.allow_seen:
        calibrator._origin.refuse_seen(_full_names(args.predictions, cases), way_out="add --allow-seen")
    with naming_images(lambda _: cases.names):
        report = calibrator.evaluate(cases, groups=_groups(args, cases), class_names=dataset.names)
    print(report)
    print(f"\n{names_and_values('', _outside(cases, outside)).plain()}")
    if args.json is not None:
        with write_whole(args.json) as file:
            file.write(f"{report.to_json()}\n".encode())
    return 0


def _apply(args: argparse.Namespace) -> int:
    refuse_same_folder(args.out, args.predictions)
    calibrator, model = _loaded(args)
    dataset, outside = _dataset(args), _outside_of(args, model)
    _check(dataset, model, args)
    calibrator.set_params(progress=False)  # cases are predicted one at a time
    cases = Cases(args.predictions, None, dataset, outside=outside)
    chosen = dataset.names[1:] if args.classes is None else args.classes
    channels = {name: dataset.channel(name) for name in chosen}
    endings = _endings(channels)
    suffix = ".png" if dataset.file_ending == ".png" else ".nii.gz"  # NIfTI keeps the place of voxels
    args.out.mkdir(parents=True, exist_ok=True)
    written = 0
    for name in track(cases.names, _progress(args), len(cases), "case"):
        masks = _masks(calibrator, cases, name, outside)
        sizes = masks.sum(axis=0, dtype=np.uint16)
        maps = {"setsize": sizes.astype(np.uint8) if len(masks) < 2**8 else sizes}
        maps |= {ending: masks[channels[each]] for each, ending in endings.items()}
        for ending, values in maps.items():
            cases.save(name, values, args.out / f"{name}_{ending}{suffix}", args.reference)
            written += 1
    print(f"{plural(written, 'file')} of {plural(len(cases), 'case')} written to {args.out}.")
    if model is not None and model.fold is not None:
        print(
            f"The promise is about predictions of the model of fold {model.fold} alone, not of an ensemble."
        )
    return 0


def _masks(
    calibrator: cm.ConformalRiskCalibrator, cases: Cases, name: str, outside: str
) -> NDArray[np.bool_]:
    """The sets of a case. Outside the crop box they hold only the background, unless voxels there count."""
    scores = cases[cases.names.index(name)]
    try:
        masks: NDArray[np.bool_] = calibrator.predict(scores[np.newaxis])[0]
    except ValueError as error:
        raise ValueError(f"case {name}: {error}") from error
    if outside == "void":
        within = np.zeros(masks.shape[1:], bool)
        within[cases.boxes[name]] = True
        masks &= within
        masks[0] |= ~within
    return masks


# What is read


def _fold(predictions: Path) -> str | None:
    """The fold whose validation cases these are; refuses the fold "all", all of whose cases trained the model."""
    path = predictions.absolute()
    if path.name not in _VALIDATION or not path.parent.name.startswith("fold_"):
        return None
    fold = path.parent.name.removeprefix("fold_")
    if fold == "all":
        raise ValueError(
            f"{predictions}: the model of fold_all was trained on its validation cases, which therefore "
            f"cannot calibrate it; predict cases that it has not seen"
        )
    return fold


def _dataset(args: argparse.Namespace) -> Dataset:
    if not args.predictions.is_dir():
        raise FileNotFoundError(f"no folder {args.predictions}")
    path = args.dataset_json
    dataset = Dataset.of_predictions(args.predictions) if path is None else Dataset.from_json(path)
    if dataset.has_regions:
        raise ValueError(
            f"training was region-based: the channels ({', '.join(dataset.names)}) overlap, and each needs a threshold "
            "of its own. In Python, with Cases of conformask.integrations.nnunet: "
            "cm.BinaryRiskCalibrator(volumes=True).fit(Cases(predictions, labels, region=NAME))"
        )
    return dataset


def _loaded(args: argparse.Namespace) -> tuple[cm.ConformalRiskCalibrator, _Model | None]:
    if not args.calibrator.is_file():
        raise FileNotFoundError(f"no file {args.calibrator}")
    calibrator = cm.ConformalRiskCalibrator.load(args.calibrator)
    calibrator.set_params(volumes=True, progress=_progress(args))
    return calibrator, _Model.of(calibrator, args.calibrator)


def _outside_of(args: argparse.Namespace, model: _Model | None) -> str:
    """What to do with voxels outside the crop box: the same as at calibration."""
    if model is None:
        outside = str(args.outside or "void")
        warnings.warn(
            f"{args.calibrator} does not say on what it was calibrated, as files of conformask nnunet calibrate do: it "
            f"is taken for one of these classes, with --outside {outside}",
            stacklevel=2,
        )
        return outside
    if args.outside not in (None, model.outside):
        raise ValueError(f"{args.calibrator} was calibrated with --outside {model.outside}")
    return model.outside


def _check(dataset: Dataset, model: _Model | None, args: argparse.Namespace) -> None:
    """Refuses predictions of other classes, or of another model; warns of what looks like an ensemble."""
    if model is None:
        return
    if model.class_names != dataset.names:
        raise ValueError(
            f"{args.calibrator} was calibrated for {', '.join(model.class_names)}; these predictions are of "
            f"{', '.join(dataset.names)}"
        )
    fold = _fold(args.predictions)
    if None not in (fold, model.fold) and fold != model.fold:
        raise ValueError(
            f"{args.calibrator} was calibrated for the model of fold {model.fold}, but {args.predictions} was "
            f"predicted by that of fold {fold}, for which it gives no guarantee"
        )
    # nnUNetv2_predict copies both files, nnUNetv2_ensemble only the first.
    if (
        model.fold
        and (args.predictions / "dataset.json").exists()
        and not (args.predictions / "plans.json").exists()
    ):
        warnings.warn(
            f"{args.predictions} looks like what nnUNetv2_ensemble wrote, but {args.calibrator} was calibrated for the "
            f"model of fold {model.fold} alone: it gives no guarantee for an ensemble",
            stacklevel=2,
        )


def _groups(args: argparse.Namespace, cases: Cases) -> list[str] | None:
    return None if args.groups is None else read_groups(args.groups, cases.names)


def _full_names(predictions: Path, cases: Cases) -> list[str]:
    """Names of cases with fold_0/validation in front, so that other data sets have other names."""
    parts = predictions.absolute().parts[-_PARTS:]
    return ["/".join((*parts, name)) for name in cases.names]


def _progress(args: argparse.Namespace) -> bool | str:
    return False if args.quiet else "auto"


def _endings(classes: Sequence[str] | dict[str, int]) -> dict[str, str]:
    """Endings of the files of classes, without characters that a file's name cannot have."""
    plain = {name: f"may_be_{_STRANGE.sub('_', name)}" for name in classes}
    if len({each.lower() for each in plain.values()}) == len(plain):
        return plain
    return {name: f"{ending}_{place}" for place, (name, ending) in enumerate(plain.items(), 1)}


# What is told


def _found(calibrator: cm.ConformalRiskCalibrator, cases: Cases, fold: str | None) -> list[tuple[str, str]]:
    n, skipped = calibrator.n_images_, calibrator.n_skipped_
    left_out = f" ({skipped} left out: the loss is undefined on them)" if skipped else ""
    by_group = calibrator._current()[1].grouped
    lambdas, risks = np.atleast_1d(calibrator.lambda_hat_), np.atleast_1d(calibrator.risk_)
    names = cases.dataset.names if len(lambdas) > 1 else ("",)
    return [
        (
            "calibrated on",
            f"{plural(n, 'group' if by_group else 'case')}{left_out}{f', fold {fold}' if fold else ''}",
        ),
        ("classes", ", ".join(cases.dataset.names)),
        ("loss of a case", loss_words(as_loss(calibrator.loss))),
        ("alpha", f"{calibrator.alpha:g}"),
        *[
            (f"lambda-hat {name}".rstrip(), lambda_text(float(lam)))
            for name, lam in zip(names, lambdas, strict=True)
        ],
        *[(f"risk {name}".rstrip(), f"{float(risk):.4f}") for name, risk in zip(names, risks, strict=True)],
    ]


def _outside(cases: Cases, outside: str) -> list[tuple[str, str]]:
    """How many voxels lie outside the crop box."""
    total = sum(cases.counts.values(), VoxelCounts(0, 0, 0))
    share = 100 * total.outside / max(total.total, 1)
    said = "void" if outside == "void" else "counted, which makes risks look smaller"
    rows = [("outside of the crop box", f"{share:.1f} % of the voxels: {said}")]
    n_cases = sum(each.foreground_outside > 0 for each in cases.counts.values())
    if total.foreground_outside:
        what = "no promise speaks of them" if outside == "void" else "missed by all sets that are not full"
        where = f"{plural(total.foreground_outside, 'voxel')} of {plural(n_cases, 'case')}"
        rows.append(("foreground among them", f"{where}: {what}"))
    return rows


def _of_what(cases_outside: str, fold: str | None) -> str:
    """Sentences on the loss and the model that the promise is about."""
    where = "The loss is that within the crop box. " if cases_outside == "void" else ""
    model = (
        f"the model of fold {fold}, not about an ensemble"
        if fold
        else "the model that made these predictions"
    )
    return f"{where}The promise is about {model}."
