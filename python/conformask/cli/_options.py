"""Options that several commands have: what is calibrated, and how."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any

import conformask as cm
from conformask._arguments import level, whole

__all__ = ["add_allow_seen", "add_calibrator_options", "add_ignore_option", "calibrator_of", "loss_of"]

_SCORES: dict[str, Callable[[], Any]] = {"lac": cm.LAC, "aps": cm.APS, "raps": cm.RAPS, "sacp": cm.SACP}
_METHODS: dict[str, Callable[[float], Any]] = {
    "pac": cm.PAC,
    "rcps": cm.RCPS,
    "wsr": lambda delta: cm.RCPS(delta, bound="wsr"),
}
_IGNORE = 255


def loss_of(text: str, names: Sequence[str] | None = None) -> Any:
    """The loss for a word, and for arguments after a colon: ``miscoverage:1,2``, ``binary:0.9``, ``fnr:car``.

    Without the `names` of the classes, a loss with names of classes is returned as text.
    """
    name, _, given = text.partition(":")
    try:
        if name in ("miscoverage", "fnr") and given:
            words = given.split(",")
            if names is None and not all(map(_is_number, words)):
                return text
            classes = [_class_of(word, names or ()) for word in words]
            return (
                cm.MiscoverageLoss(classes=classes)
                if name == "miscoverage"
                else cm.FalseNegativeLoss(classes)
            )
        if name == "miscoverage":
            return cm.MiscoverageLoss()
        if name == "binary":
            return cm.BinaryLoss(float(given) if given else 1.0)
        if name == "worst-class" and not given:
            return cm.WorstClassLoss()
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no loss: {error}") from error
    raise argparse.ArgumentTypeError(
        f"must be miscoverage, miscoverage:CLASSES, binary:SHARE, fnr:CLASSES or worst-class, got {text!r}"
    )


def _is_number(word: str) -> bool:
    return re.fullmatch(r"\s*-?\d+\s*", word) is not None


def _class_of(word: str, names: Sequence[str]) -> int:
    """The class of a name, or of a number."""
    if word.strip() in names:
        return list(names).index(word.strip())
    if _is_number(word):
        return int(word)
    raise ValueError(f"no class {word.strip()!r}: there are {', '.join(names)}")


def _named_loss(loss: Any, names: Sequence[str] | None) -> Any:
    """The loss of an option, whose classes may have names."""
    if not isinstance(loss, str):
        return loss
    if names is None:
        raise ValueError(
            f"--loss {loss} names classes, but no names are known: pass --class-names NAME NAME ..., class 0 first, or "
            "give the numbers of the classes"
        )
    try:
        return loss_of(loss, names)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"--loss: {error}") from error


def add_calibrator_options(parser: argparse.ArgumentParser, *, inputs: str | None = None) -> None:
    """Adds the options that :func:`calibrator_of` reads; none for `inputs` if these are known."""
    group = parser.add_argument_group("guarantee")
    group.add_argument(
        "--alpha", type=level, default=0.1, metavar="A", help="risk level, in (0, 1); default: %(default)s"
    )
    group.add_argument(
        "--loss",
        type=loss_of,
        default="miscoverage",
        metavar="LOSS",
        help="loss of an image: miscoverage (share of missed pixels; miscoverage:3,4 for these classes), fnr:2 (mean "
        "miss rate of these classes, in images that hold them; fnr:car if classes have names), "
        "binary:0.9 (1 if less than 90 %% is covered), worst-class (largest miss rate of the classes); "
        "default: %(default)s",
    )
    group.add_argument(
        "--score",
        choices=list(_SCORES),
        default="lac",
        help="conformity score; default: %(default)s",
    )
    group.add_argument(
        "--method",
        choices=["crc", *_METHODS],
        default="crc",
        help="the guarantee holds on average over calibration sets (crc), or with confidence 1 - DELTA: pac (losses of "
        "0 or 1), rcps, wsr (RCPS with the betting bound); default: %(default)s",
    )
    group.add_argument(
        "--delta", type=level, metavar="DELTA", help="with pac, rcps, wsr: 1 minus the confidence"
    )
    group.add_argument(
        "--by-class", action="store_true", help="a lambda for each class, with a guarantee for each class"
    )
    group.add_argument(
        "--on-infeasible",
        choices=["raise", "full"],
        default="raise",
        help="if there are too few images: an error, or full sets; default: %(default)s",
    )
    group.add_argument(
        "--on-rare",
        choices=["full", "pooled", "raise"],
        default="full",
        help="if classes or strata have lambdas of their own, and some have too few images: full sets, one lambda for "
        "these together (without a guarantee for each), or an error; default: %(default)s",
    )
    data = parser.add_argument_group("maps")
    if inputs is not None:
        parser.set_defaults(inputs=inputs)
    else:
        data.add_argument(
            "--inputs",
            choices=["probabilities", "logits", "scores"],
            default="probabilities",
            help="probabilities sum to 1; scores are divided by their sum; default: %(default)s",
        )
    data.add_argument(
        "--profile",
        choices=["exact", "binned"],
        default="exact",
        help="binned: a few MB, however many images there are; default: %(default)s",
    )


def add_ignore_option(parser: argparse.ArgumentParser) -> None:
    """Adds the labels of void pixels, for commands whose data do not define them."""
    parser.add_argument(
        "--ignore-index",
        type=whole(-(2**31)),
        nargs="+",
        default=_IGNORE,
        metavar="N",
        help="label of void pixels, which count nowhere, or several labels; default: %(default)s",
    )


def add_allow_seen(parser: argparse.ArgumentParser) -> None:
    """Adds the option to allow other images with the names of calibration images."""
    parser.add_argument(
        "--allow-seen",
        action="store_true",
        help="evaluate even if calibration images had the same names, because they are other images",
    )


def calibrator_of(
    args: argparse.Namespace, class_names: Sequence[str] | None, **others: Any
) -> cm.ConformalRiskCalibrator:
    """The calibrator that the options ask for; `others` are parameters that they do not give."""
    if (args.method == "crc") != (args.delta is None):
        needed = (
            "goes with --method pac, rcps or wsr" if args.method == "crc" else "is needed by this --method"
        )
        raise ValueError(f"--delta {needed}")
    return cm.ConformalRiskCalibrator(
        _SCORES[args.score](),
        loss=_named_loss(args.loss, class_names),
        alpha=args.alpha,
        method="crc" if args.method == "crc" else _METHODS[args.method](args.delta),
        inputs=args.inputs,
        profile=args.profile,
        conditional="class" if args.by_class else None,
        on_infeasible=args.on_infeasible,
        on_rare=args.on_rare,
        **others,
    )
