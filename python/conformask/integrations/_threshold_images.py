"""The inputs of a network of thresholds: the caller's photographs and maps of probabilities, resized."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from conformask import _core
from conformask._arrays import label_array
from conformask._image_models import Images
from conformask._images import not_empty, walk
from conformask._tensors import check_tensor, is_tensor
from conformask.adaptive._calibrator import PROBABILITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WHOSE", "Seen", "read_labelled", "read_maps", "standardised"]

# By channel, of the images on which the public weights of these networks were trained.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TYPES = "images must be uint8, or floating and standardised"
WHOSE = "of those handed to the predictor"  # a calibrator passes only some of its images


@dataclass(frozen=True, eq=False)
class Seen:
    """The inputs of a network for images, all of one size."""

    maps: Tensor  # (n, h, w)
    images: Tensor | None  # (n, 3, h, w)

    @classmethod
    def stacked(cls, pairs: list[tuple[Tensor, Tensor | None]]) -> Seen:
        """The inputs from a map and a photograph (or None) for each image."""
        photographs = [photograph for _, photograph in pairs if photograph is not None]
        return cls(
            torch.stack([map_ for map_, _ in pairs]), torch.stack(photographs) if photographs else None
        )

    def thresholds(self, network: nn.Module, indices: Tensor | slice = slice(None)) -> Tensor:
        """The network's thresholds for some of the images, on its device."""
        device = next(network.parameters()).device
        found: Tensor = network(
            None if self.images is None else self.images[indices].to(device), self.maps[indices].to(device)
        )
        return found


def read_labelled(
    P: Any, y: Any, images: Any, size: tuple[int, int], ignore_index: int | tuple[int, ...] | None
) -> tuple[Seen, _core.BinaryValues]:
    """The inputs of a network for images with a foreground, and the probabilities of the foreground."""
    pairs, parts, photographs = [], [], Images(images)
    for maps, labels, first in not_empty(walk(P, y, PROBABILITIES, at_once=1, volumes=False), "P"):
        _check_map(maps)
        part = _core.BinaryValues.build(maps, label_array(labels), "foreground", ignore_index, first)
        found = _pair(maps[0], photographs.next(1), size, first)
        if part.totals()[0, 1]:
            pairs.append(found)
            parts.append(part)
    photographs.check_end()
    if not parts:
        raise ValueError("no image has a foreground: thresholds cannot be trained")
    return Seen.stacked(pairs), _core.BinaryValues.concatenate(parts)


def read_maps(P: Any, images: Any, size: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The inputs of a network for each image."""
    photographs = Images(images)
    for maps, _, first in not_empty(
        walk(P, None, PROBABILITIES, labelled=False, at_once=1, volumes=False), "P"
    ):
        _check_map(maps)
        bad = ~((maps >= 0) & (maps <= 1))
        if bad.any():
            raise ValueError(
                f"P must hold probabilities in [0, 1], got {maps[bad][0]:g} in image {first} {WHOSE}"
            )
        yield _pair(maps[0], photographs.next(1), size, first)
    photographs.check_end()


def _check_map(maps: NDArray[np.floating[Any]]) -> None:
    if maps.ndim != 3 or not maps.size:
        raise ValueError(
            f"P must be (n, H, W), of images and not of volumes, got an image of shape {maps.shape[1:]}"
        )


def _pair(
    probabilities: NDArray[np.floating[Any]], photographs: Any, size: tuple[int, int], index: int
) -> tuple[Tensor, Tensor | None]:
    """A map and its photograph, if there is one, resized for the network."""
    tensor = torch.from_numpy(np.array(probabilities, np.float32))
    map_ = _resized(tensor[None], size)[0].clamp(0, 1)
    if photographs is None:
        return map_, None
    photograph = _photograph(photographs[0], index)
    given = tuple(photograph.shape[1:])
    if given == probabilities.shape[::-1] and given != probabilities.shape:
        raise ValueError(
            f"images and P have H and W swapped: {given} and {probabilities.shape} in image {index} {WHOSE}"
        )
    return map_, _resized(standardised(photograph[None], torch.float32)[0], size)


def _photograph(value: Any, index: int) -> Tensor:
    """A photograph (1 or 3, H, W), not resized; refuses other arrays."""
    where, is_array = f"image {index} {WHOSE}", not is_tensor(value)
    if is_array:
        array = np.asarray(value)  # or a picture of Pillow
        if array.dtype != np.uint8:
            if array.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
                raise TypeError(f"{_TYPES}, got {array.dtype} in {where}")
            array = array.astype(np.float32)
        found = torch.from_numpy(np.array(array))
    else:
        check_tensor(value, "images", f" in {where}")
        found = value.detach().cpu()
    shape = tuple(found.shape)
    if found.ndim == 2:
        found = found[None]
    elif found.ndim == 3 and is_array:
        found = found.movedim(-1, 0)
    if found.ndim != 3 or found.shape[0] not in (1, 3) or not found.numel():
        raise ValueError(
            "images must be (H, W, 3), (H, W, 1) or (H, W) as arrays, channels last, and (3, H, W), (1, H, W) or "
            f"(H, W) as tensors, channels first: got {'an array' if is_array else 'a tensor'} of shape {shape} in "
            f"{where}{_hint(shape, is_array)}"
        )
    if found.is_floating_point() and not torch.isfinite(found).all():
        raise ValueError(f"images hold NaN or infinity in {where}")
    return found


def _hint(shape: tuple[int, ...], is_array: bool) -> str:
    """Advice on a photograph of a wrong shape."""
    if len(shape) != 3:
        return ""
    channels, others = (shape[-1], shape[0]) if is_array else (shape[0], shape[-1])
    if others in (1, 3):
        return "; pass np.moveaxis(image, 0, -1)" if is_array else "; pass image.movedim(-1, 0)"
    if channels == 4:
        return "; leave out the fourth channel (transparency)"
    return ""


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (C, H, W) of another size."""
    if tuple(image.shape[1:]) == size:
        return image
    found: Tensor = functional.interpolate(
        image[None], size, mode="bilinear", antialias=True, align_corners=False
    )
    return found[0]


def standardised(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Photographs (B, 1 or 3, H, W) as the network takes them."""
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"{_TYPES}, got {str(images.dtype).removeprefix('torch.')}")
    found = images.expand(-1, 3, -1, -1).to(dtype)
    if images.dtype == torch.uint8:
        mean, deviation = (
            torch.tensor(values, dtype=dtype, device=found.device)[:, None, None]
            for values in (_MEAN, _DEVIATION)
        )
        found = (found / 255 - mean) / deviation
    return found
