"""The canvas that scenes are painted on, and the camera that sees them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

__all__ = ["ALL", "VOID", "Canvas", "Field", "Label", "Mask", "Window"]

VOID = 255
"""The label of pixels that belong to no class, as in Cityscapes."""

Field: TypeAlias = NDArray[np.floating[Any]]
Mask: TypeAlias = NDArray[np.bool_]
Window: TypeAlias = tuple[slice, slice]

ALL = (slice(None), slice(None))


class Label(IntEnum):
    """The classes."""

    ROAD = 0
    SIDEWALK = 1
    BUILDING = 2
    VEGETATION = 3
    SKY = 4
    CAR = 5
    PERSON = 6
    POLE = 7


class Canvas:
    """A picture in the making: colour, class and depth of each pixel, and the camera.

    Metres: ``x`` to the right of the camera, ``y`` above the ground, ``z`` away from the camera.
    A point lands at column ``u = eye_u + focal * x / z`` and row
    ``v = horizon + focal * (camera - y) / z``, both in units of the picture's height.
    The canvas is twice as fine as the final picture, so that averaging smooths the edges.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.h, self.w = 2 * height, 2 * width
        self.aspect = width / height
        self.u = ((np.arange(self.w, dtype=np.float32) + 0.5) / self.h)[None, :]
        self.v = ((np.arange(self.h, dtype=np.float32) + 0.5) / self.h)[:, None]
        self.focal = rng.uniform(0.85, 1.15)
        self.camera = rng.uniform(1.3, 1.9)
        self.horizon = rng.uniform(0.38, 0.5)
        self.eye_u = self.aspect * rng.uniform(0.36, 0.64)
        self.rgb = np.zeros((self.h, self.w, 3), np.float32)
        self.label = np.full((self.h, self.w), VOID, np.uint8)
        self.depth = np.full((self.h, self.w), np.inf, np.float32)
        self.noise = _noise(rng, (self.h, self.w), (1.0, 2.5, 6.0))
        self.haze = _noise(rng, (self.h, self.w), (9.0, 22.0))

    def window(self, x: tuple[float, float], y: tuple[float, float], z: float) -> Window:
        """Return the pixels that may show the rectangle ``x`` times ``y`` at depth ``z``."""
        u0, u1 = (self.eye_u + self.focal * e / z for e in x)
        v1, v0 = (self.horizon + self.focal * (self.camera - e) / z for e in y)
        rows, cols = np.clip([v0, v1], 0, 1) * self.h, np.clip([u0, u1], 0, self.aspect) * self.h
        return (
            slice(int(rows[0]), int(np.ceil(rows[1]))),
            slice(int(cols[0]), int(np.ceil(cols[1]))),
        )

    def metres(self, at: Window, z: float) -> tuple[Field, Field]:
        """Return ``x`` (1, w) and ``y`` (h, 1) of the pixels ``at`` on the plane at depth ``z``."""
        x = (self.u[:, at[1]] - self.eye_u) * (z / self.focal)
        y = self.camera - (self.v[at[0]] - self.horizon) * (z / self.focal)
        return x, y

    def paint(self, at: Window, inside: Mask, colour: ArrayLike, label: int, depth: ArrayLike) -> None:
        """Give the pixels ``inside`` the window ``at`` a colour, a class and a depth."""
        np.copyto(self.rgb[at], np.asarray(colour, np.float32), where=inside[..., None])
        np.copyto(self.label[at], np.uint8(label), where=inside)
        np.copyto(self.depth[at], np.asarray(depth, np.float32), where=inside)

    def tint(self, at: Window, factor: ArrayLike) -> None:
        """Darken or brighten, and change no class."""
        self.rgb[at] *= np.asarray(factor, np.float32)[..., None]


def _noise(rng: np.random.Generator, shape: tuple[int, int], scales: tuple[float, ...]) -> Field:
    """Return smooth noise of mean 0 and deviation 1, one octave per scale (in pixels)."""
    squared = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.rfftfreq(shape[1])[None, :] ** 2
    power = sum(scale**2 * np.exp(-((2 * np.pi * scale) ** 2) * squared) for scale in scales)
    white = fft.rfft2(rng.standard_normal(shape, np.float32))
    smooth = np.asarray(fft.irfft2(white * np.sqrt(power).astype(np.float32), shape), np.float32)
    return np.asarray(smooth / smooth.std())
