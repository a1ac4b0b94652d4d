"""Colours that can be told apart: CIEDE2000 under three kinds of vision, by an independent library."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from coloraide import Color

from conformask.datasets import make_scenes
from conformask.plotting._palette import VOID_GREY, default_palette

LEAST = 12.0
VOID = np.full((1, 3), VOID_GREY)


def as_seen(colours: np.ndarray, vision: str) -> list[Color]:
    """Return the colours as they look with a vision; a simulation outside sRGB is clipped, as a screen does."""
    seen = [Color("srgb", colour.tolist()) for colour in colours]
    if vision == "normal":
        return seen
    return [colour.filter(vision, 1.0, method="machado").clip("srgb") for colour in seen]


def least_distance(colours: np.ndarray, vision: str) -> float:
    return min(a.delta_e(b, method="2000") for a, b in combinations(as_seen(colours, vision), 2))


@pytest.mark.parametrize("vision", ["normal", "deutan", "protan"])
@pytest.mark.parametrize(
    "palette",
    [lambda: default_palette(12), lambda: make_scenes(1, size=(16, 16)).palette / 255],
    ids=["default", "scenes"],
)
def test_any_two_colours_and_void_differ(vision: str, palette: Callable[[], np.ndarray]) -> None:
    assert least_distance(np.concatenate([palette(), VOID]), vision) >= LEAST


def test_the_distance_is_that_of_the_standard() -> None:
    """Pairs 1 and 17 of Sharma, Wu, Dalal, Color Res. Appl. 30, 2005; red and green are alike to a deuteranope."""
    for one, other, distance in (
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ):
        found = Color("lab-d65", one).delta_e(Color("lab-d65", other), method="2000")
        assert found == pytest.approx(distance, abs=1e-4)
    red_and_green = np.array([[0.60, 0.35, 0.0], [0.36, 0.45, 0.0]])
    assert least_distance(red_and_green, "normal") > 25 > 12 > least_distance(red_and_green, "deutan")


@pytest.mark.parametrize("k", [1, 12, 13, 20, 21, 150])
def test_palettes_begin_alike_and_repeat_no_colour(k: int) -> None:
    colours = default_palette(k)
    assert colours.shape == (k, 3)
    assert len(np.unique(colours, axis=0)) == k
    np.testing.assert_array_equal(colours[:20], default_palette(300)[: min(k, 20)])
