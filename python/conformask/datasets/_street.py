"""What stands and moves along a street: houses and hedges, furniture, cars, people."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from conformask.datasets._canvas import VOID, Canvas, Field, Label, Mask, Window

__all__ = ["COATS", "Thing", "row_of_houses", "street_furniture", "traffic"]

Thing = tuple[float, Callable[[], None]]  # depth, painter

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
COATS = np.array(
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


def row_of_houses(c: Canvas, rng: np.random.Generator, side: int, distance: float, sun: int) -> list[Thing]:
    """Return the houses along one side of the street, with gaps where hedges grow."""
    ends = np.cumsum(np.concatenate([[1.2], rng.uniform(5, 15, 10)]))
    light = 1.08 if side == sun else 0.72
    things: list[Thing] = []
    for near, far in pairwise(ends.tolist()):
        if rng.uniform() < 0.24:
            things.append((far, _hedge(c, rng, side, distance, near, far, light)))
        else:
            things.append((far, _house(c, rng, side, distance, near, far, light)))
    return things


def _facade(
    c: Canvas, side: int, distance: float, near: float, far: float, top: float
) -> tuple[Window, Field, Field]:
    """Return the window of a wall along the street, its depths (1, w) and heights (h, w)."""
    u = sorted(c.eye_u + side * c.focal * distance / z for z in (near, far))
    cols = np.clip(np.array(u) * c.h, 0, c.w)
    rows, _ = c.window((0, 0), (0, top), near)
    at = (rows, slice(int(np.ceil(cols[0])), int(np.ceil(cols[1]))))
    z = side * distance * c.focal / (c.u[:, at[1]] - c.eye_u)
    y = c.camera - (c.v[rows] - c.horizon) * z / c.focal
    return at, z, y


def _house(
    c: Canvas, rng: np.random.Generator, side: int, distance: float, near: float, far: float, light: float
) -> Callable[[], None]:
    storeys = rng.integers(2, 6)
    top = 3.0 * storeys + rng.uniform(0.4, 1.2)
    wall = _WALLS[rng.integers(len(_WALLS))] * rng.uniform(0.85, 1.15) * light
    pane = np.array([0.2, 0.25, 0.32]) * rng.uniform(0.8, 1.6)
    bay, lit = rng.uniform(2.0, 3.4), rng.uniform() < 0.3
    shop = COATS[rng.integers(len(COATS))] * light

    def paint() -> None:
        # The end wall that faces the camera, seen beside a lower neighbour or a gap.
        x = sorted((side * distance, side * (distance + 9)))
        at = c.window((x[0], x[1]), (0, top), near)
        end = wall * 0.8 * (1 + 0.05 * c.noise[at][..., None])
        c.paint(at, np.ones(c.label[at].shape, bool), end, Label.BUILDING, near)
        at, z, y = _facade(c, side, distance, near, far, top)
        inside = (y >= 0) & (y <= top)
        grain = 1 + 0.06 * c.noise[at][..., None] + 0.04 * c.haze[at][..., None]
        c.paint(at, inside, wall * grain, Label.BUILDING, z)
        across, up = (z - near) % bay / bay, y % 3.0
        upstairs = inside & (y > 3) & (y < 3.0 * storeys)
        window = upstairs & (np.abs(across - 0.5) < 0.27) & (up > 0.8) & (up < 2.35)
        glow = np.array([0.85, 0.7, 0.4]) if lit else pane
        chosen = (np.floor((z - near) / bay) * 3 + np.floor(y / 3) * 5) % 4 == 0
        c.paint(at, window, np.where(chosen[..., None], glow, pane * light), Label.BUILDING, z)
        front = inside & (y < 2.9) & (y > 0.3) & (np.abs(across - 0.5) < 0.4)
        c.paint(at, front, np.where((y < 2.3)[..., None], pane * light, shop), Label.BUILDING, z)
        cornice = inside & ((y > top - 0.35) | (np.abs(y - 3.0) < 0.12))
        c.tint(at, np.where(cornice, 0.75, 1))

    return paint


def _hedge(
    c: Canvas, rng: np.random.Generator, side: int, distance: float, near: float, far: float, light: float
) -> Callable[[], None]:
    top = rng.uniform(1.5, 5.5)
    green = np.array([0.28, 0.38, 0.17]) * rng.uniform(0.75, 1.2, 3) * light

    def paint() -> None:
        at, z, y = _facade(c, side, distance, near, far, 2 * top)
        inside = (y >= 0) & (y <= top + 0.5 * c.noise[at] + 0.4 * c.haze[at])
        c.paint(at, inside, green * (1 + 0.3 * c.noise[at][..., None]), Label.VEGETATION, z)

    return paint


def street_furniture(c: Canvas, rng: np.random.Generator, road: float, walk: float) -> list[Thing]:
    """Return trees, lamps, signs and the occasional nameless box, on both sidewalks."""
    things: list[Thing] = []
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


def _tree(c: Canvas, rng: np.random.Generator, x: float, z: float) -> Callable[[], None]:
    trunk, crown = rng.uniform(1.8, 3.0), rng.uniform(1.2, 2.3)
    bark = np.array([0.3, 0.24, 0.18]) * rng.uniform(0.7, 1.2)
    leaf = np.array([0.3, 0.42, 0.16]) * rng.uniform(0.75, 1.25, 3)
    if rng.uniform() < 0.15:  # autumn
        leaf = np.array([0.6, 0.4, 0.14]) * rng.uniform(0.8, 1.1)

    def paint() -> None:
        at = c.window((x - 0.2, x + 0.2), (0, trunk + crown), z)
        xs, ys = c.metres(at, z)
        shade = 1 - 0.2 * np.sign(xs - x)[..., None]
        c.paint(at, (np.abs(xs - x) < 0.16) & (ys > 0), bark * shade, Label.VEGETATION, z)
        reach = 1.4 * crown
        at = c.window((x - reach, x + reach), (trunk - 0.4 * crown, trunk + 2.4 * crown), z)
        xs, ys = c.metres(at, z)
        up = (ys - trunk - crown) / crown
        ragged = 1 + 0.22 * c.noise[at] + 0.15 * c.haze[at]
        inside = ((xs - x) / crown) ** 2 + up**2 < ragged
        shade = (1 + 0.28 * up - 0.18 * (xs - x) / crown + 0.25 * c.noise[at])[..., None]
        c.paint(at, inside, leaf * np.clip(shade, 0.3, 2), Label.VEGETATION, z)

    return paint


def _lamp(c: Canvas, rng: np.random.Generator, x: float, z: float, *, towards: int) -> Callable[[], None]:
    top, steel = rng.uniform(4.5, 6.5), rng.uniform(0.15, 0.5) + rng.normal(0, 0.02, 3)

    def paint() -> None:
        at = c.window((x - 1.7, x + 1.7), (0, top + 0.2), z)
        xs, ys = c.metres(at, z)
        shaft = (np.abs(xs - x) < 0.1) & (ys > 0) & (ys < top)
        out = (xs - x) * towards
        arm = (out > 0) & (out < 1.5) & (np.abs(ys - top) < 0.09)
        head = (out > 0.9) & (out < 1.5) & (np.abs(ys - top) < 0.14)
        c.paint(at, shaft | arm | head, steel, Label.POLE, z)

    return paint


def _sign(c: Canvas, rng: np.random.Generator, x: float, z: float) -> Callable[[], None]:
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
        c.paint(at, (across < 0.07) & (ys > 0) & (up < 0), (0.55, 0.56, 0.58), Label.POLE, z)
        size = {
            "disc": np.sqrt(across**2 + up**2),
            "triangle": np.maximum(across * 1.5 + up * 0.8, -2.0 * up),
            "square": np.maximum(across, np.abs(up)),
        }[str(shape)]
        c.paint(at, size < radius, rim, Label.POLE, z)
        c.paint(at, size < 0.7 * radius, face, Label.POLE, z)

    return paint


def _box(c: Canvas, rng: np.random.Generator, x: float, z: float) -> Callable[[], None]:
    """Return a container that belongs to no class: it is labelled void."""
    half, top = rng.uniform(0.35, 0.6), rng.uniform(0.8, 1.3)
    colour = rng.uniform(0.15, 0.6, 3)

    def paint() -> None:
        at = c.window((x - half, x + half), (0, top), z)
        xs, ys = c.metres(at, z)
        inside = (np.abs(xs - x) < half) & (ys > 0) & (ys < top)
        c.paint(at, inside, colour * np.where((ys > top - 0.15)[..., None], 0.7, 1.0), VOID, z)

    return paint


def traffic(c: Canvas, rng: np.random.Generator, road: float, walk: float) -> list[Thing]:
    """Return parked and moving cars, and people on the sidewalks and on the road."""
    things: list[Thing] = []
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


def _car(c: Canvas, rng: np.random.Generator, x: float, z: float) -> Callable[[], None]:
    """Return a car seen from behind: its outline swept from the far end to the near one."""
    coat = COATS[rng.integers(len(COATS))] * rng.uniform(0.85, 1.1)
    half, top, length = rng.uniform(0.82, 0.95), rng.uniform(1.35, 1.75), rng.uniform(3.6, 4.6)
    oncoming = x < -0.3
    dark = np.array([0.13, 0.15, 0.18])
    lights = np.array([0.95, 0.95, 0.85]) if oncoming else np.array([0.85, 0.12, 0.1])

    def outline(depth: float, cabin: float) -> tuple[Window, Field, Field, Mask, Mask]:
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
            c.paint(at, body, coat * (0.62 + 0.25 * (ys[..., None] > 0.85)), Label.CAR, z + t * length)
            c.paint(at, roof, side, Label.CAR, z + t * length)
            axle = abs(abs(t - 0.5) - 0.32) < 0.1
            wheel = axle & (across > 0.8) & (across < 1) & (ys > 0) & (ys < 0.55)
            c.paint(at, wheel, (0.07, 0.07, 0.08), Label.CAR, z + t * length)
        at, across, ys, body, roof = outline(z, 0.75)
        c.paint(at, body | roof, coat * (0.8 + 0.25 * np.clip(ys, 0, 1.2)[..., None]), Label.CAR, z)
        glass = roof & (across < 0.74 - 0.2 * (ys - 0.92)) & (ys > 0.98)
        c.paint(at, glass, np.array([0.2, 0.23, 0.28]) * (1 + 0.5 * (ys[..., None] - 0.9)), Label.CAR, z)
        c.paint(at, body & (across > 0.68) & (ys > 0.62) & (ys < 0.82), lights, Label.CAR, z)
        c.paint(at, body & (across < 0.28) & (ys > 0.4) & (ys < 0.54), (0.88, 0.87, 0.75), Label.CAR, z)
        c.tint(at, np.where(body & (ys < 0.36), 0.5, 1))
        tyre = (across > 0.62) & (across < 0.94) & (ys > 0) & (ys <= 0.24)
        c.paint(at, tyre, (0.06, 0.06, 0.07), Label.CAR, z)

    return paint


def _person(c: Canvas, rng: np.random.Generator, x: float, z: float) -> Callable[[], None]:
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
        c.paint(at, legs, trousers, Label.PERSON, z)
        shade = 1 - 0.35 * (dx > 0.1) + 0.35 * (dx < -0.1)
        c.paint(at, torso | arms, shirt * shade[..., None], Label.PERSON, z)
        c.paint(at, head, np.where((up > 0.95)[..., None], skin * 0.35, skin), Label.PERSON, z)

    return paint
