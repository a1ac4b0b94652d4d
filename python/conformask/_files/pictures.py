"""Pictures, by Pillow: class indices, greys, photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._documents import write_whole

__all__ = [
    "PHOTOGRAPHS",
    "SUFFIXES",
    "indices",
    "read_photograph",
    "read_picture",
    "save_greys",
    "smallest_unsigned",
]

SUFFIXES = (".png",)
PHOTOGRAPHS = (*SUFFIXES, ".jpg", ".jpeg")


def _image(file: Path) -> Any:
    """Pillow's module of images."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ImportError(f'{file} needs Pillow: pip install "conformask[plot]"') from error
    return Image


def read_picture(file: Path, picture: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    """The result of a function for Pillow's image of a file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or the function refuses it.
    ImportError
        If Pillow is missing.
    """
    image = _image(file)
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        with image.open(file) as opened:
            return picture(opened)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow calls a broken PNG a syntax error
        raise ValueError(f"{file} cannot be read: {error}") from error


def indices(picture: Any) -> NDArray[Any]:
    """The numbers of a picture; one channel if its colours are all grey; bool if it is black and white."""
    if picture.mode == "1":
        return np.asarray(picture.convert("L")) > 0
    array = np.asarray(picture)
    if array.ndim == 3 and picture.mode in ("RGB", "RGBA"):
        red, green, blue = (array[..., i] for i in range(3))
        if not ((red == green) & (green == blue)).all():
            raise ValueError("a mask must be grey, not of several colours")
        return red
    return array


def read_photograph(file: Path) -> NDArray[np.uint8]:
    """A photograph, grey (H, W) or in colours (H, W, 3)."""
    return read_picture(
        file, lambda picture: np.asarray(picture if picture.mode == "L" else picture.convert("RGB"))
    )


def save_greys(file: Path, values: NDArray[Any]) -> None:
    """Writes whole numbers (H, W) as a grey PNG of 8 bits, or of 16 if they need it; whole, or not at all."""
    picture = _image(file).fromarray(smallest_unsigned(values))
    with write_whole(file) as opened:
        picture.save(opened, "PNG")


def smallest_unsigned(values: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """Whole numbers in 8 bits, or in 16 if they need them."""
    return values.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16)
