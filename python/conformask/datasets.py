"""Data to try conformask on: rendered street scenes, a pixel classifier, and stored predictions.

:func:`make_scenes` draws small street scenes whose labels are known, :class:`PixelClassifier`
learns to segment them within seconds and errs where real networks err (borders, small things,
fog, darkness), and :func:`load_predictions` reads the predictions of a model of one's own.

Examples
--------
>>> from conformask.datasets import PixelClassifier, make_scenes
>>> scenes = make_scenes(6, size=(24, 40), random_state=0)
>>> model = PixelClassifier(n_pixels=2000, random_state=0).fit(scenes.images[:4], scenes.labels[:4])
>>> model.predict_proba(scenes.images[4:]).shape
(2, 8, 24, 40)
"""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

__all__ = ["PixelClassifier", "Predictions", "Scenes", "load_predictions", "make_scenes"]

VOID = 255
"""The label of pixels that belong to no class, as in Cityscapes."""

CLASS_NAMES = ("road", "sidewalk", "building", "vegetation", "sky", "car", "person", "pole")
ROAD, SIDEWALK, BUILDING, VEGETATION, SKY, CAR, PERSON, POLE = range(len(CLASS_NAMES))

PALETTE = (
    (112, 88, 128),  # road
    (226, 138, 196),  # sidewalk
    (158, 133, 112),  # building
    (96, 155, 63),  # vegetation
    (120, 190, 232),  # sky
    (28, 62, 178),  # car
    (222, 38, 58),  # person
    (246, 196, 40),  # pole
)

RandomState = int | np.random.Generator | np.random.RandomState | None
_Field = NDArray[np.floating[Any]]
_Mask = NDArray[np.bool_]
_Window = tuple[slice, slice]


@dataclass(frozen=True)
class Scenes:
    """Rendered street scenes with their labels.

    Attributes
    ----------
    images : ndarray of uint8, shape (n, H, W, 3)
        Colour images.
    labels : ndarray of uint8, shape (n, H, W)
        Class of each pixel, 0 to 7, or 255 where the pixel is void.
    class_names : tuple of str
        The eight names, in the order of the labels.
    palette : ndarray of uint8, shape (8, 3)
        One colour per class, for plots.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    class_names: tuple[str, ...]
    palette: NDArray[np.uint8]


@dataclass(frozen=True)
class Predictions:
    """Softmax scores of some model beside the true labels.

    Attributes
    ----------
    probs : ndarray of float16, float32 or float64, shape (n, K, H, W)
        Class probabilities, in the dtype in which they were stored.
    labels : ndarray of int, shape (n, H, W)
        True class of each pixel, or the ignore index.
    images : ndarray of uint8, shape (n, H, W) or (n, H, W, 3), or None
        The images, for overlays.
    group : ndarray of int, shape (n,), or None
        Images of one group (a patient, a video) belong together.
    """

    probs: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]
    images: NDArray[np.uint8] | None = None
    group: NDArray[np.integer[Any]] | None = None


# --- scenes ---------------------------------------------------------------------------------


def make_scenes(
    n_images: int = 100,
    *,
    size: tuple[int, int] = (96, 160),
    random_state: RandomState = None,
) -> Scenes:
    """Draw street scenes with known labels.

    Each scene is a street seen from a car: sky, road, sidewalks, rows of buildings, trees, cars,
    people, lamps and signs, in true perspective. Camera, weather, light, noise and focus vary from
    scene to scene, so some are much harder to segment than others. The scenes are independent
    draws from one distribution, hence exchangeable, which is what conformal guarantees ask for.

    Parameters
    ----------
    n_images : int, default=100
        Number of scenes, at least 1.
    size : tuple of int, default=(96, 160)
        Height and width in pixels, each at least 16.
    random_state : int, Generator, RandomState or None, default=None
        Seed, or source of random numbers. For one seed the first scenes are the same however many
        are drawn.

    Returns
    -------
    Scenes
        ``images`` uint8 (n, H, W, 3), ``labels`` uint8 (n, H, W) with 255 for void, ``class_names``
        and ``palette``. Void are the bonnet of the own car, thin seams between some objects, and
        now and then a thing that no class describes.

    Raises
    ------
    ValueError
        If ``n_images`` or ``size`` is too small.

    Examples
    --------
    >>> from conformask.datasets import make_scenes
    >>> scenes = make_scenes(2, size=(48, 80), random_state=0)
    >>> scenes.images.shape, scenes.labels.shape
    ((2, 48, 80, 3), (2, 48, 80))
    >>> scenes.class_names[4], bool((scenes.labels == 255).any())
    ('sky', True)
    """
    if n_images < 1:
        raise ValueError(f"n_images must be at least 1, got {n_images}")
    height, width = size
    if min(height, width) < 16:
        raise ValueError(f"size must be at least (16, 16), got {tuple(size)}")
    rng = _generator(random_state)
    images = np.empty((n_images, height, width, 3), np.uint8)
    labels = np.empty((n_images, height, width), np.uint8)
    for i in range(n_images):
        images[i], labels[i] = _render(rng, height, width)
    return Scenes(images, labels, CLASS_NAMES, np.array(PALETTE, np.uint8))


def _generator(random_state: RandomState) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31))
    return np.random.default_rng(random_state)


class _Canvas:
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

    def window(self, x: tuple[float, float], y: tuple[float, float], z: float) -> _Window:
        """Return the pixels that may show the rectangle ``x`` times ``y`` at depth ``z``."""
        u0, u1 = (self.eye_u + self.focal * e / z for e in x)
        v1, v0 = (self.horizon + self.focal * (self.camera - e) / z for e in y)
        rows, cols = np.clip([v0, v1], 0, 1) * self.h, np.clip([u0, u1], 0, self.aspect) * self.h
        return (
            slice(int(rows[0]), int(np.ceil(rows[1]))),
            slice(int(cols[0]), int(np.ceil(cols[1]))),
        )

    def metres(self, at: _Window, z: float) -> tuple[_Field, _Field]:
        """Return ``x`` (1, w) and ``y`` (h, 1) of the pixels ``at`` on the plane at depth ``z``."""
        x = (self.u[:, at[1]] - self.eye_u) * (z / self.focal)
        y = self.camera - (self.v[at[0]] - self.horizon) * (z / self.focal)
        return x, y

    def paint(self, at: _Window, inside: _Mask, colour: ArrayLike, label: int, depth: ArrayLike) -> None:
        """Give the pixels ``inside`` the window ``at`` a colour, a class and a depth."""
        np.copyto(self.rgb[at], np.asarray(colour, np.float32), where=inside[..., None])
        np.copyto(self.label[at], np.uint8(label), where=inside)
        np.copyto(self.depth[at], np.asarray(depth, np.float32), where=inside)

    def tint(self, at: _Window, factor: ArrayLike) -> None:
        """Darken or brighten, and change no class."""
        self.rgb[at] *= np.asarray(factor, np.float32)[..., None]


_ALL = (slice(None), slice(None))
_Thing = tuple[float, Callable[[], None]]  # depth, painter


def _noise(rng: np.random.Generator, shape: tuple[int, int], scales: tuple[float, ...]) -> _Field:
    """Return smooth noise of mean 0 and deviation 1, one octave per scale (in pixels)."""
    squared = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.rfftfreq(shape[1])[None, :] ** 2
    power = sum(scale**2 * np.exp(-((2 * np.pi * scale) ** 2) * squared) for scale in scales)
    white = fft.rfft2(rng.standard_normal(shape, np.float32))
    smooth = np.asarray(fft.irfft2(white * np.sqrt(power).astype(np.float32), shape), np.float32)
    return np.asarray(smooth / smooth.std())


def _render(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    canvas = _Canvas(rng, height, width)
    road = rng.uniform(3.2, 5.5)
    walk = rng.uniform(1.6, 3.2)
    sun = rng.choice([-1, 1])
    _paint_sky(canvas, rng)
    _paint_ground(canvas, rng, road, walk)
    things = _street_furniture(canvas, rng, road, walk) + _traffic(canvas, rng, road, walk)
    for side in (-1, 1):
        things += _row_of_houses(canvas, rng, side, road + walk, sun)
    for _, painter in sorted(things, key=lambda thing: -thing[0]):
        painter()
    _void_seams(canvas, rng)
    _paint_bonnet(canvas, rng)
    return _expose(canvas, rng), np.ascontiguousarray(canvas.label[::2, ::2])


def _paint_sky(c: _Canvas, rng: np.random.Generator) -> None:
    blue = np.array([0.42, 0.62, 0.9]) + rng.normal(0, 0.03, 3)
    grey = np.full(3, rng.uniform(0.68, 0.9))
    overcast = rng.uniform(0, 1) ** 1.5
    zenith = blue + overcast * (grey - blue)
    height = np.clip(c.v / c.horizon, 0, 1)[..., None]
    sky = zenith + (height**2) * (np.array([0.9, 0.91, 0.93]) - zenith) * 0.75
    cloud = np.clip(0.5 * c.haze + rng.uniform(-0.7, 0.7), 0, 1)[..., None] * (1 - overcast)
    c.paint(_ALL, np.ones((c.h, c.w), bool), sky + cloud * (0.97 - sky), SKY, np.inf)
    ridge = c.horizon - rng.uniform(0.01, 0.05) - 0.012 * c.haze[:1]
    green = np.array([0.26, 0.36, 0.2]) * (1 + 0.25 * c.noise[..., None])
    c.paint(_ALL, (c.v > ridge) & (c.v < c.horizon + 0.03), green, VEGETATION, 90.0)


def _paint_ground(c: _Canvas, rng: np.random.Generator, road: float, walk: float) -> None:
    at = (slice(int(np.ceil((c.horizon + 0.002) * c.h)), c.h), slice(0, c.w))
    z = c.focal * c.camera / (c.v[at[0]] - c.horizon)
    x = (c.u - c.eye_u) * z / c.focal
    grain = 1 + 0.07 * c.noise[at][..., None] + 0.05 * c.haze[at][..., None]

    asphalt = np.float32(rng.uniform(0.27, 0.42) + rng.normal(0, 0.012, 3))
    stone = np.float32(rng.uniform(0.4, 0.58) + rng.normal((0.03, 0.01, -0.02), 0.015))
    grass = np.array([0.33, 0.42, 0.2], np.float32)
    c.paint(at, np.ones_like(x, bool), grass * grain, VEGETATION, z)
    on_walk = np.abs(x) < road + walk
    c.paint(at, on_walk, stone * grain, SIDEWALK, z)
    on_road = np.abs(x) < road
    # Far away the joints would only alias.
    joint = on_walk & (z < 18) & (((z % 1.6) < 0.09) | ((np.abs(x) - road) % 0.8 < 0.05))
    c.tint(at, np.where(joint, 0.8, 1))
    c.paint(at, on_road, asphalt * grain, ROAD, z)
    kerb = on_walk & ~on_road & (np.abs(x) < road + 0.16)
    c.tint(at, np.where(kerb, 1.2, 1))

    dashes = (np.abs(x - rng.normal(0, 0.3)) < 0.09) & ((z + rng.uniform(0, 6)) % 6 < 3)
    edge = (np.abs(np.abs(x) - road + 0.35) < 0.07) & (rng.uniform() < 0.5)
    zebra = (np.abs(z - rng.uniform(7, 18)) < 1.5) & (x % 1.0 < 0.5) & (rng.uniform() < 0.35)
    c.paint(at, on_road & (dashes | edge | zebra), 0.78 + 0.06 * c.noise[at][..., None], ROAD, z)
    _cast_shadow(c, rng, at, x, z, road + walk)


def _cast_shadow(
    c: _Canvas, rng: np.random.Generator, at: _Window, x: _Field, z: _Field, kerb: float
) -> None:
    """Let the houses of one side darken the ground: light differs within one class."""
    side = rng.choice([-1, 1])
    reach = rng.uniform(-0.2, 1.1) * kerb + 0.8 * np.sin(z / rng.uniform(3, 7)) + 0.12 * c.noise[at]
    c.tint(at, np.where(side * x > kerb - reach, rng.uniform(0.5, 0.8), 1))


_WALLS = np.array(
    [
        [0.62, 0.5, 0.4],
        [0.55, 0.34, 0.27],
        [0.7, 0.66, 0.58],
        [0.5, 0.5, 0.52],
        [0.72, 0.6, 0.42],
        [0.42, 0.4, 0.42],
    ]
)
_COATS = np.array(
    [
        [0.75, 0.76, 0.78],
        [0.12, 0.12, 0.14],
        [0.62, 0.1, 0.1],
        [0.14, 0.25, 0.5],
        [0.42, 0.44, 0.46],
        [0.9, 0.9, 0.88],
        [0.2, 0.36, 0.3],
    ]
)
_SHIRTS = np.array(
    [
        [0.7, 0.22, 0.2],
        [0.22, 0.34, 0.55],
        [0.82, 0.8, 0.74],
        [0.16, 0.17, 0.2],
        [0.75, 0.58, 0.22],
        [0.4, 0.45, 0.36],
        [0.55, 0.4, 0.5],
    ]
)


def _row_of_houses(
    c: _Canvas, rng: np.random.Generator, side: int, distance: float, sun: int
) -> list[_Thing]:
    """Return the houses along one side of the street, with gaps where hedges grow."""
    ends = np.cumsum(np.concatenate([[1.2], rng.uniform(5, 15, 10)]))
    light = 1.08 if side == sun else 0.72
    things: list[_Thing] = []
    for near, far in pairwise(ends.tolist()):
        if rng.uniform() < 0.24:
            things.append((far, _hedge(c, rng, side, distance, near, far, light)))
        else:
            things.append((far, _house(c, rng, side, distance, near, far, light)))
    return things


def _facade(
    c: _Canvas, side: int, distance: float, near: float, far: float, top: float
) -> tuple[_Window, _Field, _Field]:
    """Return the window of a wall along the street, its depths (1, w) and heights (h, w)."""
    u = sorted(c.eye_u + side * c.focal * distance / z for z in (near, far))
    cols = np.clip(np.array(u) * c.h, 0, c.w)
    rows, _ = c.window((0, 0), (0, top), near)
    at = (rows, slice(int(np.ceil(cols[0])), int(np.ceil(cols[1]))))
    z = side * distance * c.focal / (c.u[:, at[1]] - c.eye_u)
    y = c.camera - (c.v[rows] - c.horizon) * z / c.focal
    return at, z, y


def _house(
    c: _Canvas, rng: np.random.Generator, side: int, distance: float, near: float, far: float, light: float
) -> Callable[[], None]:
    storeys = rng.integers(2, 6)
    top = 3.0 * storeys + rng.uniform(0.4, 1.2)
    wall = _WALLS[rng.integers(len(_WALLS))] * rng.uniform(0.85, 1.15) * light
    pane = np.array([0.2, 0.25, 0.32]) * rng.uniform(0.8, 1.6)
    bay, lit = rng.uniform(2.0, 3.4), rng.uniform() < 0.3
    shop = _COATS[rng.integers(len(_COATS))] * light

    def paint() -> None:
        # The end wall that faces the camera, seen beside a lower neighbour or a gap.
        x = sorted((side * distance, side * (distance + 9)))
        at = c.window((x[0], x[1]), (0, top), near)
        end = wall * 0.8 * (1 + 0.05 * c.noise[at][..., None])
        c.paint(at, np.ones(c.label[at].shape, bool), end, BUILDING, near)
        at, z, y = _facade(c, side, distance, near, far, top)
        inside = (y >= 0) & (y <= top)
        grain = 1 + 0.06 * c.noise[at][..., None] + 0.04 * c.haze[at][..., None]
        c.paint(at, inside, wall * grain, BUILDING, z)
        across, up = (z - near) % bay / bay, y % 3.0
        upstairs = inside & (y > 3) & (y < 3.0 * storeys)
        window = upstairs & (np.abs(across - 0.5) < 0.27) & (up > 0.8) & (up < 2.35)
        glow = np.array([0.85, 0.7, 0.4]) if lit else pane
        chosen = (np.floor((z - near) / bay) * 3 + np.floor(y / 3) * 5) % 4 == 0
        c.paint(at, window, np.where(chosen[..., None], glow, pane * light), BUILDING, z)
        front = inside & (y < 2.9) & (y > 0.3) & (np.abs(across - 0.5) < 0.4)
        c.paint(at, front, np.where((y < 2.3)[..., None], pane * light, shop), BUILDING, z)
        cornice = inside & ((y > top - 0.35) | (np.abs(y - 3.0) < 0.12))
        c.tint(at, np.where(cornice, 0.75, 1))

    return paint


def _hedge(
    c: _Canvas, rng: np.random.Generator, side: int, distance: float, near: float, far: float, light: float
) -> Callable[[], None]:
    top = rng.uniform(1.5, 5.5)
    green = np.array([0.28, 0.38, 0.17]) * rng.uniform(0.75, 1.2, 3) * light

    def paint() -> None:
        at, z, y = _facade(c, side, distance, near, far, 2 * top)
        inside = (y >= 0) & (y <= top + 0.5 * c.noise[at] + 0.4 * c.haze[at])
        c.paint(at, inside, green * (1 + 0.3 * c.noise[at][..., None]), VEGETATION, z)

    return paint


def _street_furniture(c: _Canvas, rng: np.random.Generator, road: float, walk: float) -> list[_Thing]:
    """Return trees, lamps, signs and the occasional nameless box, on both sidewalks."""
    things: list[_Thing] = []
    for side in (-1, 1):
        kerb = side * (road + 0.35)
        spacing = rng.uniform(7, 13)
        for z in np.arange(rng.uniform(3, 9), 55, spacing):
            kind = rng.choice(["tree", "lamp", "sign", "none"], p=[0.35, 0.25, 0.25, 0.15])
            place = (kerb + rng.normal(0, 0.1), float(z + rng.normal(0, 0.8)))
            if kind == "tree":
                things.append((place[1], _tree(c, rng, *place)))
            elif kind == "lamp":
                things.append((place[1], _lamp(c, rng, *place, towards=-side)))
            elif kind == "sign":
                things.append((place[1], _sign(c, rng, *place)))
        if rng.uniform() < 0.2:
            x, z = side * (road + rng.uniform(0.5, walk)), rng.uniform(4.5, 12)
            things.append((z, _box(c, rng, x, z)))
    return things


def _tree(c: _Canvas, rng: np.random.Generator, x: float, z: float) -> Callable[[], None]:
    trunk, crown = rng.uniform(1.8, 3.0), rng.uniform(1.2, 2.3)
    bark = np.array([0.3, 0.24, 0.18]) * rng.uniform(0.7, 1.2)
    leaf = np.array([0.3, 0.42, 0.16]) * rng.uniform(0.75, 1.25, 3)
    if rng.uniform() < 0.15:  # autumn
        leaf = np.array([0.6, 0.4, 0.14]) * rng.uniform(0.8, 1.1)

    def paint() -> None:
        at = c.window((x - 0.2, x + 0.2), (0, trunk + crown), z)
        xs, ys = c.metres(at, z)
        shade = 1 - 0.2 * np.sign(xs - x)[..., None]
        c.paint(at, (np.abs(xs - x) < 0.16) & (ys > 0), bark * shade, VEGETATION, z)
        reach = 1.4 * crown
        at = c.window((x - reach, x + reach), (trunk - 0.4 * crown, trunk + 2.4 * crown), z)
        xs, ys = c.metres(at, z)
        up = (ys - trunk - crown) / crown
        ragged = 1 + 0.22 * c.noise[at] + 0.15 * c.haze[at]
        inside = ((xs - x) / crown) ** 2 + up**2 < ragged
        shade = (1 + 0.28 * up - 0.18 * (xs - x) / crown + 0.25 * c.noise[at])[..., None]
        c.paint(at, inside, leaf * np.clip(shade, 0.3, 2), VEGETATION, z)

    return paint


def _lamp(c: _Canvas, rng: np.random.Generator, x: float, z: float, *, towards: int) -> Callable[[], None]:
    top, steel = rng.uniform(4.5, 6.5), rng.uniform(0.15, 0.5) + rng.normal(0, 0.02, 3)

    def paint() -> None:
        at = c.window((x - 1.7, x + 1.7), (0, top + 0.2), z)
        xs, ys = c.metres(at, z)
        shaft = (np.abs(xs - x) < 0.1) & (ys > 0) & (ys < top)
        out = (xs - x) * towards
        arm = (out > 0) & (out < 1.5) & (np.abs(ys - top) < 0.09)
        head = (out > 0.9) & (out < 1.5) & (np.abs(ys - top) < 0.14)
        c.paint(at, shaft | arm | head, steel, POLE, z)

    return paint


def _sign(c: _Canvas, rng: np.random.Generator, x: float, z: float) -> Callable[[], None]:
    top, radius = rng.uniform(2.2, 2.9), rng.uniform(0.34, 0.5)
    shape = rng.choice(["disc", "triangle", "square"])
    rim, face = {
        "disc": ((0.8, 0.1, 0.12), (0.92, 0.92, 0.92)),
        "triangle": ((0.8, 0.1, 0.12), (0.95, 0.93, 0.85)),
        "square": ((0.12, 0.25, 0.65), (0.2, 0.38, 0.8)),
    }[str(shape)]

    def paint() -> None:
        at = c.window((x - radius, x + radius), (0, top + radius), z)
        xs, ys = c.metres(at, z)
        across, up = np.abs(xs - x), ys - top
        c.paint(at, (across < 0.07) & (ys > 0) & (up < 0), (0.55, 0.56, 0.58), POLE, z)
        size = {
            "disc": np.sqrt(across**2 + up**2),
            "triangle": np.maximum(across * 1.5 + up * 0.8, -2.0 * up),
            "square": np.maximum(across, np.abs(up)),
        }[str(shape)]
        c.paint(at, size < radius, rim, POLE, z)
        c.paint(at, size < 0.7 * radius, face, POLE, z)

    return paint


def _box(c: _Canvas, rng: np.random.Generator, x: float, z: float) -> Callable[[], None]:
    """Return a container that belongs to no class: it is labelled void."""
    half, top = rng.uniform(0.35, 0.6), rng.uniform(0.8, 1.3)
    colour = rng.uniform(0.15, 0.6, 3)

    def paint() -> None:
        at = c.window((x - half, x + half), (0, top), z)
        xs, ys = c.metres(at, z)
        inside = (np.abs(xs - x) < half) & (ys > 0) & (ys < top)
        c.paint(at, inside, colour * np.where((ys > top - 0.15)[..., None], 0.7, 1.0), VOID, z)

    return paint


def _traffic(c: _Canvas, rng: np.random.Generator, road: float, walk: float) -> list[_Thing]:
    """Return parked and moving cars, and people on the sidewalks and on the road."""
    things: list[_Thing] = []
    for side in (-1, 1):
        parked = rng.uniform(0.15, 0.75)
        for z in np.arange(rng.uniform(5, 9), 45, 6.2):
            if rng.uniform() < parked:
                x, depth = side * (road - 1.1) + rng.normal(0, 0.08), float(z + rng.normal(0, 0.3))
                things.append((depth, _car(c, rng, x, depth)))
    for _ in range(rng.integers(0, 3)):
        x, depth = rng.choice([-1, 1]) * rng.uniform(0.8, 1.4), rng.uniform(8, 32)
        things.append((depth, _car(c, rng, x, depth)))
    for _ in range(rng.integers(2, 8)):
        x = rng.choice([-1, 1]) * (road + rng.uniform(0.4, walk - 0.3))
        if rng.uniform() < 0.25:
            x = rng.uniform(-road, road)
        depth = 5 + 20 * rng.uniform() ** 1.4
        things.append((depth, _person(c, rng, x, depth)))
    return things


def _car(c: _Canvas, rng: np.random.Generator, x: float, z: float) -> Callable[[], None]:
    """Return a car seen from behind: its outline swept from the far end to the near one."""
    coat = _COATS[rng.integers(len(_COATS))] * rng.uniform(0.85, 1.1)
    half, top, length = rng.uniform(0.82, 0.95), rng.uniform(1.35, 1.75), rng.uniform(3.6, 4.6)
    oncoming = x < -0.3
    dark = np.array([0.13, 0.15, 0.18])
    lights = np.array([0.95, 0.95, 0.85]) if oncoming else np.array([0.85, 0.12, 0.1])

    def outline(depth: float, cabin: float) -> tuple[_Window, _Field, _Field, _Mask, _Mask]:
        at = c.window((x - half, x + half), (0, top), depth)
        xs, ys = c.metres(at, depth)
        across = np.abs(xs - x) / half
        body = (across < 1 - 0.12 * np.clip(0.5 - ys, 0, 1)) & (ys > 0.22) & (ys < 0.92)
        rise = (ys - 0.92) / (top - 0.92)
        roof = (rise >= 0) & (rise < cabin) & (across < 0.93 - 0.22 * rise)
        return at, across, ys, body, roof

    def paint() -> None:
        at = c.window((x - 1.15 * half, x + 1.15 * half), (-0.25, 0.25), z)
        xs, ys = c.metres(at, z)
        c.tint(at, np.where(((xs - x) / (1.12 * half)) ** 2 + (ys / 0.22) ** 2 < 1, 0.4, 1))
        for t in np.linspace(1, 0, 11)[:-1].tolist():
            cabin = float(np.clip(min(t, 0.8 - t) * 5, 0, 1))  # low bonnet and boot, high middle
            at, across, ys, body, roof = outline(z + t * length, cabin)
            side = np.where((ys > top - 0.14)[..., None], coat * 0.87, dark)
            c.paint(at, body, coat * (0.62 + 0.25 * (ys[..., None] > 0.85)), CAR, z + t * length)
            c.paint(at, roof, side, CAR, z + t * length)
            axle = abs(abs(t - 0.5) - 0.32) < 0.1
            wheel = axle & (across > 0.8) & (across < 1) & (ys > 0) & (ys < 0.55)
            c.paint(at, wheel, (0.07, 0.07, 0.08), CAR, z + t * length)
        at, across, ys, body, roof = outline(z, 0.75)
        c.paint(at, body | roof, coat * (0.8 + 0.25 * np.clip(ys, 0, 1.2)[..., None]), CAR, z)
        glass = roof & (across < 0.74 - 0.2 * (ys - 0.92)) & (ys > 0.98)
        c.paint(at, glass, np.array([0.2, 0.23, 0.28]) * (1 + 0.5 * (ys[..., None] - 0.9)), CAR, z)
        c.paint(at, body & (across > 0.68) & (ys > 0.62) & (ys < 0.82), lights, CAR, z)
        c.paint(at, body & (across < 0.28) & (ys > 0.4) & (ys < 0.54), (0.88, 0.87, 0.75), CAR, z)
        c.tint(at, np.where(body & (ys < 0.36), 0.5, 1))
        tyre = (across > 0.62) & (across < 0.94) & (ys > 0) & (ys <= 0.24)
        c.paint(at, tyre, (0.06, 0.06, 0.07), CAR, z)

    return paint


def _person(c: _Canvas, rng: np.random.Generator, x: float, z: float) -> Callable[[], None]:
    tall, stride = rng.uniform(1.55, 1.9), rng.uniform(0.05, 0.16)
    shirt = _SHIRTS[rng.integers(len(_SHIRTS))] * rng.uniform(0.7, 1.1)
    trousers = rng.uniform(0.08, 0.4) * np.array([0.9, 0.95, 1.1])
    skin = np.array([0.85, 0.65, 0.52]) * rng.uniform(0.5, 1.1)

    def paint() -> None:
        at = c.window((x - 0.4, x + 0.4), (-0.1, tall), z)
        xs, ys = c.metres(at, z)
        dx, up = xs - x, ys / tall
        c.tint(at, np.where((dx / 0.38) ** 2 + (ys / 0.1) ** 2 < 1, 0.6, 1))
        spread = stride * (1 - up / 0.5)
        legs = (np.minimum(np.abs(dx - spread), np.abs(dx + spread)) < 0.085) & (up > 0) & (up <= 0.5)
        torso = (np.abs(dx) < 0.2 + 0.05 * (up - 0.6)) & (up > 0.46) & (up < 0.83)
        arms = (np.abs(np.abs(dx) - 0.23 - 0.06 * (0.8 - up)) < 0.05) & (up > 0.42) & (up < 0.8)
        head = (dx / 0.115) ** 2 + ((up - 0.925) * tall / 0.14) ** 2 < 1
        c.paint(at, legs, trousers, PERSON, z)
        shade = 1 - 0.35 * (dx > 0.1) + 0.35 * (dx < -0.1)
        c.paint(at, torso | arms, shirt * shade[..., None], PERSON, z)
        c.paint(at, head, np.where((up > 0.95)[..., None], skin * 0.35, skin), PERSON, z)

    return paint


def _void_seams(c: _Canvas, rng: np.random.Generator) -> None:
    """Leave some borders between classes unlabelled, as annotators do."""
    seam = np.zeros((c.h, c.w), bool)
    for axis in (0, 1):
        change = np.diff(c.label.astype(np.int16), axis=axis) != 0
        seam |= np.pad(change, [(0, 1) if a == axis else (0, 0) for a in (0, 1)])
        seam |= np.pad(change, [(1, 0) if a == axis else (0, 0) for a in (0, 1)])
    c.label[seam & (c.haze > rng.uniform(0.4, 1.1))] = VOID


def _paint_bonnet(c: _Canvas, rng: np.random.Generator) -> None:
    middle, half = c.aspect * rng.uniform(0.46, 0.54), 0.52 * c.aspect
    rise = rng.uniform(0.05, 0.11)
    bend = 1 - np.abs((c.u - middle) / half) ** 3.5
    at = (slice(int(c.h * (1 - rise)), c.h), slice(0, c.w))
    top, v = 1 - rise * np.clip(bend, 0, 1), c.v[at[0]]
    coat = _COATS[rng.integers(len(_COATS))] * 0.55
    gloss = np.exp(-(((v - top - 0.25 * rise) / (0.12 * rise)) ** 2))[..., None]
    c.paint(at, v > top, coat + 0.3 * gloss, VOID, 1.0)


def _expose(c: _Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn colours into a photograph: fog, light, focus, averaging, noise, eight bits."""
    hard = rng.beta(1.2, 2.6)  # 0: a clear day; 1: the worst weather
    sight = 25 * (400 / 25) ** (1 - hard * rng.uniform(0.4, 1))
    air = np.full(3, rng.uniform(0.7, 0.88)) + rng.normal(0, 0.015, 3)
    clear = np.exp(-np.minimum(c.depth, 150) / sight)[..., None]
    rgb = c.rgb * clear + air.astype(np.float32) * (1 - clear)

    exposure = np.exp(rng.normal(0.05, 0.16) - 1.3 * hard * rng.uniform(0, 1))
    warmth = 1 + rng.normal(0, 0.05) * np.array([1, 0, -1])
    rgb = rgb.reshape(c.h // 2, 2, c.w // 2, 2, 3).mean((1, 3)) * (exposure * warmth)
    blur = rng.uniform(0.2, 0.45) + 0.5 * hard
    rgb = ndimage.gaussian_filter(rgb, (blur, blur, 0))
    grain = 0.012 + 0.075 * hard * rng.uniform(0.5, 1)
    rgb += rng.standard_normal(rgb.shape, np.float32) * (grain * np.sqrt(0.3 + rgb.clip(0)))
    contrast = rng.uniform(0.85, 1.15)
    rgb = 0.5 + contrast * (rgb.clip(0, 1) ** 0.9 - 0.5)
    return np.asarray((255 * rgb.clip(0, 1)).round(), np.uint8)


# --- a pixel classifier ---------------------------------------------------------------------


class PixelClassifier(BaseEstimator):
    """A small, fast segmentation model: image features per pixel, then a perceptron.

    Each pixel is described by its colour, by the mean and the spread of its surroundings at
    several scales, by gradients, and by its row and column. A model this simple cannot match a
    deep network; it is meant to err in a natural way within seconds of training.

    Parameters
    ----------
    hidden : tuple of int, default=(48,)
        Widths of the hidden layers.
    n_pixels : int, default=60000
        Number of labelled pixels drawn for training, over all images.
    scales : tuple of int, default=(3, 7, 15)
        Sides of the square surroundings, in pixels.
    max_iter : int, default=25
        Passes over the drawn pixels.
    ignore_index : int, default=255
        Label of the pixels to leave out.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the draw and of the perceptron.

    Attributes
    ----------
    n_classes_ : int
        One more than the largest label seen in ``fit``.
    model_ : sklearn.pipeline.Pipeline
        The fitted scaler and perceptron.

    Examples
    --------
    >>> from conformask.datasets import PixelClassifier, make_scenes
    >>> scenes = make_scenes(5, size=(24, 40), random_state=1)
    >>> model = PixelClassifier(n_pixels=2000, random_state=0).fit(scenes.images, scenes.labels)
    >>> probs = model.predict_proba(scenes.images[:1])
    >>> probs.dtype, probs.shape, bool(abs(probs.sum(axis=1) - 1).max() < 1e-6)
    (dtype('float32'), (1, 8, 24, 40), True)
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (48,),
        *,
        n_pixels: int = 60_000,
        scales: tuple[int, ...] = (3, 7, 15),
        max_iter: int = 25,
        ignore_index: int = VOID,
        random_state: RandomState = None,
    ) -> None:
        self.hidden = hidden
        self.n_pixels = n_pixels
        self.scales = scales
        self.max_iter = max_iter
        self.ignore_index = ignore_index
        self.random_state = random_state

    def fit(self, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]]) -> PixelClassifier:
        """Learn from images and labels.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, H, W, 3)
            Colour images.
        labels : ndarray of int, shape (n, H, W)
            Class of each pixel; pixels of ``ignore_index`` are left out.

        Returns
        -------
        PixelClassifier
            The fitted object itself.

        Raises
        ------
        ValueError
            If shapes disagree or no pixel is labelled.
        """
        images, labels = _check_images(images), np.asarray(labels)
        if labels.shape != images.shape[:3]:
            raise ValueError(f"labels must have shape {images.shape[:3]} like images, got {labels.shape}")
        rng = _generator(self.random_state)
        labelled = np.flatnonzero(labels != self.ignore_index)
        if labelled.size == 0:
            raise ValueError(f"labels hold no pixel other than ignore_index={self.ignore_index}")
        drawn = np.sort(rng.choice(labelled, min(self.n_pixels, labelled.size), replace=False))
        pixels = images.shape[1] * images.shape[2]
        starts = np.searchsorted(drawn, pixels * np.arange(len(images) + 1))
        features = np.concatenate(
            [
                self._features(image)[drawn[a:b] - i * pixels]
                for i, (image, (a, b)) in enumerate(zip(images, pairwise(starts), strict=True))
            ]
        )
        perceptron = MLPClassifier(
            self.hidden,
            batch_size=min(256, len(drawn)),
            learning_rate_init=3e-3,
            max_iter=self.max_iter,
            random_state=int(rng.integers(2**31)),
            n_iter_no_change=self.max_iter + 1,  # train for exactly max_iter passes: a known cost
        )
        self.model_ = make_pipeline(StandardScaler(), perceptron)
        self.n_classes_ = int(labels.flat[labelled].max()) + 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # to stop early is the intention
            self.model_.fit(features, labels.flat[drawn])
        return self

    def predict_proba(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the class probabilities of each pixel.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, H, W, 3)
            Colour images.

        Returns
        -------
        ndarray of float32, shape (n, K, H, W)
            Probabilities; they sum to 1 over the classes.
        """
        check_is_fitted(self, "model_")
        images = _check_images(images)
        n, height, width = images.shape[:3]
        probs = np.zeros((n, self.n_classes_, height, width), np.float32)
        for image, out in zip(images, probs, strict=True):
            rows = self.model_.predict_proba(self._features(image)).astype(np.float64)
            rows /= rows.sum(1, keepdims=True)
            out[self.model_.classes_] = rows.T.reshape(-1, height, width)
        return probs

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the most probable class of each pixel, uint8 of shape (n, H, W)."""
        return np.asarray(self.predict_proba(images).argmax(axis=1), np.uint8)

    def _features(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features of one image's pixels, shape (H * W, n_features)."""
        colour = image.astype(np.float32) / 255
        grey = colour.mean(axis=2)
        height, width = grey.shape
        row, col = np.mgrid[:height, :width].astype(np.float32)
        row, col = row / height, col / width
        planes = [*np.moveaxis(colour, 2, 0), row, col, np.abs(col - 0.5)]
        for scale in self.scales:
            mean = ndimage.uniform_filter(colour, (scale, scale, 1))
            square = ndimage.uniform_filter(grey**2, scale)
            spread = np.sqrt(np.maximum(square - ndimage.uniform_filter(grey, scale) ** 2, 0))
            planes += [*np.moveaxis(mean, 2, 0), spread]
        for axis in (0, 1):
            slope = np.abs(ndimage.sobel(grey, axis))
            planes += [slope, ndimage.uniform_filter(slope, self.scales[-1])]
        return np.stack(planes, axis=-1).reshape(height * width, -1)


def _check_images(images: ArrayLike) -> NDArray[np.uint8]:
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) == 0:
        raise ValueError(
            f"images must be uint8 of shape (n, H, W, 3), got {images.dtype} of shape {images.shape}"
        )
    return images


# --- stored predictions ---------------------------------------------------------------------


def load_predictions(path: str | Path) -> Predictions:
    """Read the predictions of a model from a folder of NumPy files.

    Parameters
    ----------
    path : str or Path
        Folder with ``predictions.npz``, which holds ``probs``, floating (n, K, H, W), and
        ``labels``, integer (n, H, W), and may hold ``group``, integer (n,). If ``images.npz``
        lies beside it, its ``images``, uint8 (n, H, W) or (n, H, W, 3), are read too.

    Returns
    -------
    Predictions
        The arrays, in the dtypes in which they were stored.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no ``predictions.npz`` in it.
    ValueError
        If a file is damaged, an array is missing, or shapes or dtypes do not fit together.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from conformask.datasets import load_predictions
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     probs, labels = np.full((2, 3, 4, 4), 1 / 3), np.zeros((2, 4, 4), np.uint8)
    ...     np.savez(Path(folder) / "predictions.npz", probs=probs, labels=labels)
    ...     load_predictions(folder).probs.shape
    (2, 3, 4, 4)
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    file = folder / "predictions.npz"
    if not file.is_file():
        raise FileNotFoundError(f"no predictions.npz in {folder}")
    arrays = _read_npz(file)
    for name in ("probs", "labels"):
        if name not in arrays:
            raise ValueError(f"{file} has no array '{name}', only {sorted(arrays)}")
    probs, labels, group = arrays["probs"], arrays["labels"], arrays.get("group")
    if probs.ndim != 4 or not np.issubdtype(probs.dtype, np.floating):
        raise ValueError(f"probs must be floating (n, K, H, W), got {probs.dtype} {probs.shape}")
    n, _, height, width = probs.shape
    _check_member("labels", labels, [(n, height, width)], np.integer)
    if group is not None:
        _check_member("group", group, [(n,)], np.integer)
    images = _read_npz(folder / "images.npz").get("images") if (folder / "images.npz").is_file() else None
    if images is not None:
        _check_member("images", images, [(n, height, width), (n, height, width, 3)], np.uint8)
    return Predictions(probs, labels, images, group)


def _read_npz(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds one unnamed array")
            # Text such as file names is of no use here and is left unread.
            return {name: archive[name] for name in ("probs", "labels", "group", "images") if name in archive}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} is not a readable NumPy archive without pickles: {error}") from error


def _check_member(name: str, array: NDArray[Any], shapes: list[tuple[int, ...]], kind: type[Any]) -> None:
    if array.shape not in shapes or not np.issubdtype(array.dtype, kind):
        expected = " or ".join(map(str, shapes))
        raise ValueError(
            f"{name} must be {kind.__name__} of shape {expected}, got {array.dtype} of shape {array.shape}"
        )
