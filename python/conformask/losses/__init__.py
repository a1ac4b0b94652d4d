"""Losses of an image, in [0, 1]: how much its multi-labeled mask misses, or holds in excess."""

from conformask.losses.counted import CountedLoss, CountsLoss, JaccardLoss, PrecisionLoss, loss_values
from conformask.losses.documents import LossLike, as_loss, loss_from_json, loss_parameter, loss_to_json
from conformask.losses.misses import (
    BinaryLoss,
    CallableLoss,
    FalseNegativeLoss,
    LabelAccuracyLoss,
    Loss,
    MiscoverageLoss,
)
from conformask.losses.worst_class import WorstClassLoss, check_of_any_class, losses_by_class, parted

__all__ = [
    "BinaryLoss",
    "CallableLoss",
    "CountedLoss",
    "CountsLoss",
    "FalseNegativeLoss",
    "JaccardLoss",
    "LabelAccuracyLoss",
    "Loss",
    "LossLike",
    "MiscoverageLoss",
    "PrecisionLoss",
    "WorstClassLoss",
    "as_loss",
    "check_of_any_class",
    "loss_from_json",
    "loss_parameter",
    "loss_to_json",
    "loss_values",
    "losses_by_class",
    "parted",
]


def __dir__() -> list[str]:
    return sorted(__all__)
