"""``conformask calibrate``: from folders of score maps and labels to a file of a calibrator."""

from __future__ import annotations

import argparse
import textwrap

import numpy as np

import conformask as cm
from conformask._origin import Origin
from conformask._sequences import check_class_names
from conformask._tables import Table, names_and_values
from conformask._text import lambda_text
from conformask.cli._data import (
    EXIT_STATUS,
    Seen,
    adapt,
    add_calibrator_out,
    add_class_names,
    add_labels,
    add_maps,
    full_names,
    naming_files,
    notes_of,
    paired,
    strata_of,
    void_of,
    warn_of,
)
from conformask.cli._options import add_calibrator_options, add_ignore_option, calibrator_of
from conformask.cli._promise import condition, count_words, loss_words, promise, unit_word
from conformask.losses import as_loss

__all__ = ["MORE", "SUMMARY", "add_arguments", "run"]

SUMMARY = "find the threshold of the sets from folders of score maps and labels"
MORE = f"""\
examples:
  conformask calibrate --maps softmax --labels masks
  conformask calibrate --maps softmax --labels masks --alpha 0.05 --loss fnr:2 --groups patients.csv
  conformask calibrate --maps softmax --labels masks --loss fnr:car,person --class-names road car person
  conformask calibrate --maps logits --inputs logits --labels gtFine --ending _logits --label-ending _labelTrainIds
  conformask calibrate --maps softmax --labels masks --names val.txt --method rcps --delta 0.1 --out strict.json

The model must not have been trained, chosen or tuned on these images. Choose alpha, loss and score before you look at
the labels.

{EXIT_STATUS}"""

_LINE = 100  # characters
_OF_ZERO = (
    "Lambda-hat is 0: the sets are as small as they can be, and alpha would allow more misses. A smaller alpha, with "
    "new calibration images, would show where the model is unsure."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    files = add_maps(parser)
    add_labels(files)
    add_class_names(files)
    add_ignore_option(parser)
    add_calibrator_options(parser)
    out = add_calibrator_out(parser)
    out.add_argument(
        "--no-profiles",
        action="store_true",
        help="write no file of profiles: this saves space, but evaluate --alphas and the risk curve of report need it",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command, and returns the exit status."""
    calibrator = calibrator_of(args, args.class_names, ignore_index=args.ignore_index)
    folder = paired(args, args.ignore_index)
    class_names = check_class_names(args.class_names, len(folder.maps[0]))  # before all images are read
    adapt(calibrator, folder.maps, args)
    seen = Seen(folder)
    with naming_files(seen):
        calibrator.fit(seen, groups=folder.groups, strata=strata_of(args, folder.names))
    warn_of(seen.doubts(calibrator.n_classes_, void_of(calibrator)))
    calibrator._come_from(Origin.of(full_names(folder), notes=notes_of(args)))
    calibrator.save(args.out, profiles=not args.no_profiles)
    print(_found(calibrator, class_names))
    said_of_zero = [_OF_ZERO] if np.ndim(calibrator.lambda_hat_) == 0 and calibrator.lambda_hat_ == 0 else []
    for said in (*said_of_zero, promise(calibrator), condition(calibrator)):
        print("", *textwrap.wrap(said, _LINE), sep="\n")
    beside = "" if args.no_profiles else " and a file of profiles beside it (keep them together)"
    print(f"\nWritten to {args.out}{beside}.")
    return 0


def _found(calibrator: cm.ConformalRiskCalibrator, class_names: list[str]) -> str:
    """What calibration found."""
    loss = as_loss(calibrator.loss)
    rows = [
        ("calibrated on", f"{count_words(calibrator)}, {calibrator.n_classes_} classes"),
        ("loss of an image", loss_words(loss)),
        ("alpha", f"{float(calibrator.alpha):g}"),
    ]
    lambdas, risks, corrected = calibrator.lambda_hat_, calibrator.risk_, calibrator.corrected_risk_
    unit = unit_word(calibrator)
    limit = (
        f"with the {unit} to come counted as 1"
        if calibrator.confidence_ is None
        else "upper confidence limit"
    )
    if np.ndim(lambdas) == 0:
        rows += [
            ("lambda-hat", lambda_text(float(lambdas))),
            ("risk", f"{float(risks):.4f}, the mean loss of these {unit}s ({float(corrected):.4f} {limit})"),
        ]
        return names_and_values("", rows).plain()
    by_class = calibrator.conditional == "class"
    names = class_names if by_class else [*map(str, calibrator.strata_)]
    table = Table(
        "",
        ("class" if by_class else "stratum", "lambda-hat", "risk"),
        [
            (name, lambda_text(float(lam)), "-" if np.isnan(risk) else f"{float(risk):.4f}")
            for name, lam, risk in zip(names, lambdas, np.atleast_1d(risks), strict=True)
        ],
    )
    return f"{names_and_values('', rows).plain()}\n\n{table.plain()}"
