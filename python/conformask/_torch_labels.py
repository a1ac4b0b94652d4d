"""Labels as tensors: integers, or whole numbers as floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from conformask._arrays import LARGEST_LABEL, not_whole

__all__ = ["labels_beside", "whole_labels"]


def labels_beside(X: Tensor, y: Any, first_image: int = 0) -> Tensor:
    """Labels of a batch on the device of its maps, as integers."""
    if isinstance(y, np.ndarray):  # torch takes only writable arrays without negative strides
        y = np.array(y) if not y.flags.writeable or min(y.strides, default=0) < 0 else y
    labels = torch.as_tensor(y, device=X.device)
    if labels.dtype == torch.bool:  # true may be written as any byte but 0
        labels = labels.view(torch.uint8) != 0
    if labels.is_complex():
        raise TypeError(f"y must hold integer labels, got dtype {labels.dtype}")
    return whole_labels(labels, "y", first=first_image)


def whole_labels(labels: Tensor, name: str, where: str = "", first: int = 0) -> Tensor:
    """Labels as integers, like `conformask._arrays.label_array`, but for a tensor on any device."""
    if not labels.is_floating_point():
        return labels
    wrong = ~((labels == labels.round()) & (labels.abs() < LARGEST_LABEL))  # NaN is
    if wrong.any():
        at = wrong.nonzero()[0].tolist()
        raise not_whole(name, where, labels.dtype, float(labels[tuple(at)]), at, first)
    return labels.long()
