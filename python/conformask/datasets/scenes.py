"""Rendered street scenes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from conformask._random import RandomState, as_generator
from conformask._text import plural, shown
from conformask.datasets._canvas import ALL, VOID, Canvas, Field, Label, Window
from conformask.datasets._street import COATS, row_of_houses, street_furniture, traffic

__all__ = ["Scenes", "make_scenes"]

# Any two colours, and the grey of void, differ by at least 12 (CIEDE2000) in normal, deuteranope and protanope vision.
_PALETTE = (
    (113, 89, 124),  # road
    (217, 109, 187),  # sidewalk
    (154, 130, 111),  # building
    (114, 173, 77),  # vegetation
    (88, 187, 255),  # sky
    (26, 62, 179),  # car
    (209, 24, 49),  # person
    (251, 200, 30),  # pole
)


@dataclass(frozen=True, repr=False)
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

    See Also
    --------
    make_scenes : Draws them.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    class_names: tuple[str, ...]
    palette: NDArray[np.uint8]

    def __repr__(self) -> str:
        n, height, width = self.labels.shape
        return f"{type(self).__name__}({plural(n, 'image')} of {height} x {width}, {len(self.class_names)} classes)"


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
    draws from one distribution. They are thus exchangeable, as conformal guarantees require.

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
        ``images`` uint8 (n, H, W, 3), ``labels`` uint8 (n, H, W) with 255 for void, ``class_names`` and ``palette``.
        The void pixels are the bonnet of the own car, thin seams between some objects, and a few objects that belong to
        no class.

    Raises
    ------
    ValueError
        If ``n_images`` or ``size`` is too small.

    See Also
    --------
    PixelClassifier : Learns to segment these scenes.

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
        raise ValueError(f"n_images must be at least 1, got {shown(n_images)}")
    height, width = size
    if min(height, width) < 16:
        raise ValueError(f"size must be at least (16, 16), got {tuple(size)}")
    rng = as_generator(random_state)
    images = np.empty((n_images, height, width, 3), np.uint8)
    labels = np.empty((n_images, height, width), np.uint8)
    for i in range(n_images):
        images[i], labels[i] = _render(rng, height, width)
    return Scenes(images, labels, tuple(label.name.lower() for label in Label), np.array(_PALETTE, np.uint8))


def _render(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    canvas = Canvas(rng, height, width)
    road = rng.uniform(3.2, 5.5)
    walk = rng.uniform(1.6, 3.2)
    sun = rng.choice([-1, 1])
    _paint_sky(canvas, rng)
    _paint_ground(canvas, rng, road, walk)
    things = street_furniture(canvas, rng, road, walk) + traffic(canvas, rng, road, walk)
    for side in (-1, 1):
        things += row_of_houses(canvas, rng, side, road + walk, sun)
    for _, painter in sorted(things, key=lambda thing: -thing[0]):
        painter()
    _void_seams(canvas, rng)
    _paint_bonnet(canvas, rng)
    return _expose(canvas, rng), np.ascontiguousarray(canvas.label[::2, ::2])


def _paint_sky(c: Canvas, rng: np.random.Generator) -> None:
    blue = np.array([0.42, 0.62, 0.9]) + rng.normal(0, 0.03, 3)
    grey = np.full(3, rng.uniform(0.68, 0.9))
    overcast = rng.uniform(0, 1) ** 1.5
    zenith = blue + overcast * (grey - blue)
    height = np.clip(c.v / c.horizon, 0, 1)[..., None]
    sky = zenith + (height**2) * (np.array([0.9, 0.91, 0.93]) - zenith) * 0.75
    cloud = np.clip(0.5 * c.haze + rng.uniform(-0.7, 0.7), 0, 1)[..., None] * (1 - overcast)
    c.paint(ALL, np.ones((c.h, c.w), bool), sky + cloud * (0.97 - sky), Label.SKY, np.inf)
    ridge = c.horizon - rng.uniform(0.01, 0.05) - 0.012 * c.haze[:1]
    green = np.array([0.26, 0.36, 0.2]) * (1 + 0.25 * c.noise[..., None])
    c.paint(ALL, (c.v > ridge) & (c.v < c.horizon + 0.03), green, Label.VEGETATION, 90.0)


def _paint_ground(c: Canvas, rng: np.random.Generator, road: float, walk: float) -> None:
    at = (slice(int(np.ceil((c.horizon + 0.002) * c.h)), c.h), slice(0, c.w))
    z = c.focal * c.camera / (c.v[at[0]] - c.horizon)
    x = (c.u - c.eye_u) * z / c.focal
    grain = 1 + 0.07 * c.noise[at][..., None] + 0.05 * c.haze[at][..., None]

    asphalt = np.float32(rng.uniform(0.27, 0.42) + rng.normal(0, 0.012, 3))
    stone = np.float32(rng.uniform(0.4, 0.58) + rng.normal((0.03, 0.01, -0.02), 0.015))
    grass = np.array([0.33, 0.42, 0.2], np.float32)
    c.paint(at, np.ones_like(x, bool), grass * grain, Label.VEGETATION, z)
    on_walk = np.abs(x) < road + walk
    c.paint(at, on_walk, stone * grain, Label.SIDEWALK, z)
    on_road = np.abs(x) < road
    # Joints far away would only cause aliasing.
    joint = on_walk & (z < 18) & (((z % 1.6) < 0.09) | ((np.abs(x) - road) % 0.8 < 0.05))
    c.tint(at, np.where(joint, 0.8, 1))
    c.paint(at, on_road, asphalt * grain, Label.ROAD, z)
    kerb = on_walk & ~on_road & (np.abs(x) < road + 0.16)
    c.tint(at, np.where(kerb, 1.2, 1))

    dashes = (np.abs(x - rng.normal(0, 0.3)) < 0.09) & ((z + rng.uniform(0, 6)) % 6 < 3)
    edge = (np.abs(np.abs(x) - road + 0.35) < 0.07) & (rng.uniform() < 0.5)
    zebra = (np.abs(z - rng.uniform(7, 18)) < 1.5) & (x % 1.0 < 0.5) & (rng.uniform() < 0.35)
    c.paint(at, on_road & (dashes | edge | zebra), 0.78 + 0.06 * c.noise[at][..., None], Label.ROAD, z)
    _cast_shadow(c, rng, at, x, z, road + walk)


def _cast_shadow(c: Canvas, rng: np.random.Generator, at: Window, x: Field, z: Field, kerb: float) -> None:
    """Let the houses of one side darken the ground, so that the light differs within a class."""
    side = rng.choice([-1, 1])
    reach = rng.uniform(-0.2, 1.1) * kerb + 0.8 * np.sin(z / rng.uniform(3, 7)) + 0.12 * c.noise[at]
    c.tint(at, np.where(side * x > kerb - reach, rng.uniform(0.5, 0.8), 1))


def _void_seams(c: Canvas, rng: np.random.Generator) -> None:
    """Leave some borders between classes unlabelled, as annotators do."""
    seam = np.zeros((c.h, c.w), bool)
    for axis in (0, 1):
        change = np.diff(c.label.astype(np.int16), axis=axis) != 0
        seam |= np.pad(change, [(0, 1) if a == axis else (0, 0) for a in (0, 1)])
        seam |= np.pad(change, [(1, 0) if a == axis else (0, 0) for a in (0, 1)])
    c.label[seam & (c.haze > rng.uniform(0.4, 1.1))] = VOID


def _paint_bonnet(c: Canvas, rng: np.random.Generator) -> None:
    middle, half = c.aspect * rng.uniform(0.46, 0.54), 0.52 * c.aspect
    rise = rng.uniform(0.05, 0.11)
    bend = 1 - np.abs((c.u - middle) / half) ** 3.5
    at = (slice(int(c.h * (1 - rise)), c.h), slice(0, c.w))
    top, v = 1 - rise * np.clip(bend, 0, 1), c.v[at[0]]
    coat = COATS[rng.integers(len(COATS))] * 0.55
    gloss = np.exp(-(((v - top - 0.25 * rise) / (0.12 * rise)) ** 2))[..., None]
    c.paint(at, v > top, coat + 0.3 * gloss, VOID, 1.0)


def _expose(c: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
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
