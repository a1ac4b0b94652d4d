"""PyTorch's tensors among arrays. PyTorch is not imported: whoever hands over a tensor has imported it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

__all__ = ["is_tensor", "lives_elsewhere", "to_array"]


def is_tensor(value: object) -> bool:
    """Whether `value` is a tensor of PyTorch."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def lives_elsewhere(value: Any) -> bool:
    """Whether `value` is a tensor of floats that NumPy cannot look at where it lies: on a GPU, or in bfloat16."""
    if not is_tensor(value) or not value.is_floating_point() or value.is_meta:
        return False
    torch: Any = sys.modules["torch"]
    return value.device.type != "cpu" or value.dtype not in (torch.float16, torch.float32, torch.float64)


def to_array(value: Any, name: str, where: str = "") -> Any:
    """What is no tensor as it is; a tensor as an array, copied only if it lives elsewhere; tensors in a list, too."""
    if isinstance(value, list | tuple) and any(map(is_tensor, value)):
        return [to_array(each, name, where) for each in value]
    if not is_tensor(value):
        return value
    if value.is_meta:
        raise ValueError(f"{name} is on the meta device{where}: it holds no data")
    tensor = value.detach()
    tensor = tensor.cpu()
    if lives_elsewhere(tensor):
        tensor = tensor.float()  # bfloat16, which NumPy does not know
    return np.asarray(tensor.resolve_conj().resolve_neg())
