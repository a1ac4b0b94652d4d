"""The output of an engine in the form that calibrators take: scores and labels without MONAI's channel axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from conformask._torch_labels import whole_labels
from conformask.adaptive import ChannelwiseCalibrator
from conformask.risk_control import ConformalRiskCalibrator

__all__ = ["batches"]


def batches(output: Any, calibrator: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores and labels, as `calibrator` takes them: all together if they have one shape, else image by image."""
    if not isinstance(output, tuple | list) or len(output) != 2:
        raise TypeError(
            "output_transform must give a pair of predictions and labels, such as "
            f"monai.handlers.from_engine(['pred', 'label']); it gave {_kind(output)}"
        )
    given, truth = output
    predictions, labels = _images(given, "pred"), _images(truth, "label")
    if len(predictions) != len(labels):
        raise ValueError(f"there are {len(predictions)} predictions, but {len(labels)} labels")
    fit = _FITS[
        0
        if isinstance(calibrator, ConformalRiskCalibrator)
        else 1 + isinstance(calibrator, ChannelwiseCalibrator)
    ]
    pairs = [fit(*pair, index) for index, pair in enumerate(zip(predictions, labels, strict=True))]
    if len({(scores.shape, scores.dtype, y.shape) for scores, y in pairs}) > 1:
        for scores, y in pairs:
            yield scores[None], y[None]
    elif pairs:
        maps, masks = zip(*pairs, strict=True)
        yield _stacked(maps), _stacked(masks)


def _kind(value: Any) -> str:
    return (
        f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else str(type(value).__name__)
    )


def _images(given: Any, name: str) -> list[Tensor]:
    """Images (C, ...) of a batch (B, C, ...) or a list of images."""
    if not isinstance(given, list | tuple):
        given = [given] if getattr(given, "ndim", 0) == 0 else _plain(given)
    images = [_plain(each) for each in given]
    for index, image in enumerate(images):
        if image.ndim not in (3, 4):
            raise ValueError(
                f"{name} must be a batch (B, C, H, W) or (B, C, D, H, W), or a list of (C, H, W) or (C, D, H, W); "
                f"image {index} has shape {tuple(image.shape)}"
            )
    return images


def _plain(value: Any) -> Tensor:
    """A tensor without meta data and gradients."""
    if isinstance(value, MetaTensor):
        value = value.as_tensor()
    elif isinstance(value, np.ndarray):  # PyTorch takes neither negative strides nor read-only arrays
        value = np.require(value, requirements=["C", "W"])
    return torch.as_tensor(value).detach()


def _stacked(images: tuple[Tensor, ...]) -> Tensor:
    return images[0][None] if len(images) == 1 else torch.stack(images)


def _whole(label: Tensor, index: int) -> Tensor:
    """Labels as integers: MONAI loads them as float32."""
    try:
        return whole_labels(label, "label", f" in image {index}")
    except TypeError as error:
        raise TypeError(f"{error}: interpolate labels with mode='nearest'") from None


def _of_classes(scores: Tensor, label: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Scores (K, ...) of classes that exclude one another, and the index of the class (...)."""
    n_classes, space = scores.shape[0], tuple(scores.shape[1:])
    if n_classes == 1:
        raise ValueError(
            "pred has one channel: calibrate its mask with a BinaryRiskCalibrator, behind a sigmoid"
        )
    given, label = tuple(label.shape), _whole(label, index)
    if given == (1, *space):
        return scores, label[0]
    if given != (n_classes, *space):
        raise ValueError(
            f"label must have shape {(1, *space)}, or be one-hot of shape {(n_classes, *space)}, to match pred "
            f"{(n_classes, *space)} in image {index}, got {given}"
        )
    if not bool(((label == 0) | (label == 1)).all() & (label.sum(dim=0) == 1).all()):
        raise ValueError(
            f"label has K = {n_classes} channels, but not at every pixel of image {index} exactly one of them is 1: "
            "give class indices (1, ...); channels that overlap (sigmoids) are for a ChannelwiseCalibrator"
        )
    return scores, label.to(torch.uint8).argmax(dim=0)


def _of_one(scores: Tensor, label: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """The probability (...) of one channel, and its mask."""
    space = tuple(scores.shape[1:])
    if scores.shape[0] != 1 or tuple(label.shape) != (1, *space):
        raise ValueError(
            f"a calibrator of one channel needs pred and label of shape {(1, *space)}, got {tuple(scores.shape)} and "
            f"{tuple(label.shape)} in image {index}: for channels that overlap take a ChannelwiseCalibrator, for "
            "classes a ConformalRiskCalibrator, maybe with loss=FalseNegativeLoss([1])"
        )
    return scores[0], _whole(label, index)[0]


def _of_channels(scores: Tensor, label: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Probabilities (K, ...) of channels that may overlap, and their masks."""
    if scores.shape != label.shape:
        raise ValueError(
            f"label must have the shape of pred, {tuple(scores.shape)}, a mask of each channel, got "
            f"{tuple(label.shape)} in image {index}: AsDiscreted(to_onehot=K) makes masks of class indices, "
            "ConvertToMultiChannelBasedOnBratsClassesd those of BraTS"
        )
    return scores, _whole(label, index)


_FITS = (_of_classes, _of_one, _of_channels)
