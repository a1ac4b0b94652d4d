"""Losses of an image, in [0, 1]: what its multi-labeled mask misses of its labels, or holds too much."""

from conformask.losses.counted import CountedLoss, CountsLoss, JaccardLoss, PrecisionLoss, loss_values
from conformask.losses.documents import LossLike, as_loss, loss_from_json, loss_to_json
from conformask.losses.misses import (
    BinaryLoss,
    CallableLoss,
    FalseNegativeLoss,
    LabelAccuracyLoss,
    Loss,
    MiscoverageLoss,
)

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
    "as_loss",
    "loss_from_json",
    "loss_to_json",
    "loss_values",
]


def __dir__() -> list[str]:
    return sorted(__all__)
