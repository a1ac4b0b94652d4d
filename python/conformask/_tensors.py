"""PyTorch's tensors among arrays. PyTorch is not imported: whoever hands over a tensor has imported it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

__all__ = [
    "bits_of",
    "check_tensor",
    "is_brain_float",
    "is_coarse",
    "is_tensor",
    "lives_elsewhere",
    "to_array",
]

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_OTHERS = ("bool", "complex64", "complex128")  # left for later checks to accept or refuse


def is_tensor(value: object) -> bool:
    """Whether `value` is a tensor of PyTorch."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def check_tensor(value: Any, name: str, where: str = "") -> None:
    """Refuses tensors that are not plain arrays of numbers."""
    if not is_tensor(value):
        return
    torch: Any = sys.modules["torch"]
    if value.is_nested:
        raise TypeError(f"{name} is a nested tensor{where}: pass a list of its tensors, {name}.unbind()")
    if value.layout != torch.strided:
        raise TypeError(f"{name} is a sparse tensor{where}: pass {name}.to_dense()")
    if value.is_quantized:
        raise TypeError(f"{name} is a quantized tensor{where}: pass {name}.dequantize()")
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in _FLOATS + _INTEGERS + _OTHERS:
        raise TypeError(
            f"{name} is a tensor of {dtype}{where}: scores may be float16, bfloat16, float32 or float64, and labels "
            "integers of 8 to 64 bits"
        )


def is_coarse(value: Any) -> bool:
    """Whether numbers were rounded to bfloat16: those of a tensor, or of any in a list."""
    if isinstance(value, list | tuple):
        return any(map(is_coarse, value))
    return is_tensor(value) and value.dtype == sys.modules["torch"].bfloat16


def lives_elsewhere(value: Any) -> bool:
    """Whether `value` is a tensor of floats that NumPy cannot read without a copy: on a GPU, or in bfloat16."""
    if not is_tensor(value) or not value.is_floating_point() or value.is_meta:
        return False
    torch: Any = sys.modules["torch"]
    return value.device.type != "cpu" or value.dtype not in (torch.float16, torch.float32, torch.float64)


def is_brain_float(value: Any) -> bool:
    """Whether `value` is a tensor of bfloat16 on the CPU: NumPy can read its bits, but has no such numbers."""
    return is_tensor(value) and value.device.type == "cpu" and value.dtype == sys.modules["torch"].bfloat16


def bits_of(tensor: Any) -> Any:
    """The bits of a tensor of bfloat16, as uint16, without a copy: the kernels read them."""
    torch: Any = sys.modules["torch"]
    return tensor.detach().resolve_neg().view(torch.int16).numpy().view(np.uint16)


def to_array(value: Any, name: str, where: str = "") -> Any:
    """A tensor, or the tensors in a list, as arrays, copied only if NumPy cannot read them; other values unchanged."""
    if isinstance(value, list | tuple) and any(map(is_tensor, value)):
        return [to_array(each, name, where) for each in value]
    if not is_tensor(value):
        return value
    check_tensor(value, name, where)
    if value.is_meta:
        raise ValueError(f"{name} is on the meta device{where}: it holds no data")
    tensor = value.detach()
    tensor = tensor.cpu()
    if lives_elsewhere(tensor):
        tensor = tensor.float()  # it is bfloat16, which NumPy does not have
    return np.asarray(tensor.resolve_conj().resolve_neg())
