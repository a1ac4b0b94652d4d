"""What a calibrator promises and on what condition, in words."""

from __future__ import annotations

import numpy as np

import conformask as cm
from conformask._text import plural
from conformask.control import as_method
from conformask.losses import Loss

__all__ = ["condition", "count_words", "loss_words", "needed", "promise", "unit_word"]


def _listed(classes: object) -> str:
    numbers = [str(each) for each in np.atleast_1d(np.asarray(classes))]
    return f"class {numbers[0]}" if len(numbers) == 1 else f"classes {', '.join(numbers)}"


def loss_words(loss: Loss) -> str:
    """What a loss measures of an image."""
    if isinstance(loss, cm.MiscoverageLoss) and loss.class_weights is None:
        of = "its labelled pixels" if loss.classes is None else f"its pixels of {_listed(loss.classes)}"
        return f"the share of {of} whose set lacks their label"
    if isinstance(loss, cm.BinaryLoss):
        share = f"{float(loss.min_coverage):.12g}"
        return f"1 if less than the share {share} of its labelled pixels has its label in the set, else 0"
    if isinstance(loss, cm.FalseNegativeLoss):
        return f"the share of its pixels of {_listed(loss.classes)} that the sets miss, the mean over these classes"
    if isinstance(loss, cm.WorstClassLoss):
        return "the largest share that the sets miss of any of its classes"
    return str(loss)


def unit_word(calibrator: cm.ConformalRiskCalibrator) -> str:
    """The unit that counts once: an image, or a group."""
    return "group" if calibrator._current()[1].grouped else "image"


def _of_whom(calibrator: cm.ConformalRiskCalibrator) -> str:
    new = "the images of a new group" if unit_word(calibrator) == "group" else "a new image"
    if calibrator.conditional == "class" and not calibrator.simultaneous:
        return f"for each class by itself, the expected loss of {new} that holds it"
    if calibrator._current()[1].by == "stratum":
        return f"for each stratum by itself, the expected loss of {new} of it"
    return f"the expected loss of {new}"


def promise(calibrator: cm.ConformalRiskCalibrator) -> str:
    """What holds of new images: a sentence or two."""
    alpha, confidence = float(calibrator.alpha), calibrator.confidence_
    if confidence is None:
        said = (
            f"On average over calibration sets, {_of_whom(calibrator)} is at most {alpha:g}. For a single calibration "
            "set, such as this one, it may lie above, by little if there are many images."
        )
    else:
        said = f"With confidence {confidence:g} over calibration sets, {_of_whom(calibrator)} is at most {alpha:g}."
    corrected = getattr(calibrator, "corrected_risk_", 0.0)  # there is none where new images have weights
    if np.ndim(corrected) == 0 and corrected > alpha * (1 + 1e-9):
        few = f"There were too few calibration {unit_word(calibrator)}s for it"
        said += f" {few}: all sets are full, which is why it holds."
    if calibrator.rare_:
        rare = ", ".join(map(str, calibrator.rare_))
        said += f" Too few {unit_word(calibrator)}s calibrated {rare}: --on-rare of calibrate decides then."
    return said


def condition(calibrator: cm.ConformalRiskCalibrator) -> str:
    """What the promise is conditional on."""
    units = f"{unit_word(calibrator)}s"
    if calibrator._current()[1].is_weighted:
        how = (
            "the weights of the calibration images are the density ratio of new images to calibration images, divided "
            "by the largest that it can be (new images count 1 here), and the ratio was known or was found on other "
            "images"
        )
    elif calibrator.confidence_ is None:
        how = f"calibration {units} and new ones are exchangeable (same sites, devices, seasons, labelling)"
    else:
        how = (
            f"calibration {units} and new ones are independent draws from one distribution (same sites, devices, "
            "seasons, labelling)"
        )
    defined = (
        ""
        if calibrator.on_empty == "zero_loss"
        else f" The promise is about {units} on which the loss is defined."
    )
    return (
        f"It holds if {how}, if the model was neither trained nor tuned on the calibration images, and if alpha, loss "
        f"and score were chosen before their labels were looked at.{defined}"
    )


def needed(calibrator: cm.ConformalRiskCalibrator, alpha: float) -> int:
    """The least number of calibration images (groups) that a level needs."""
    return cm.metrics.required_images(alpha, method=as_method(calibrator.method))


def count_words(calibrator: cm.ConformalRiskCalibrator) -> str:
    """The number of calibration images (groups), in words."""
    skipped = calibrator.n_skipped_
    left_out = f" ({plural(skipped, 'image')} left out: nothing that counts is labelled)" if skipped else ""
    return f"{plural(calibrator.n_images_, unit_word(calibrator))}{left_out}"
