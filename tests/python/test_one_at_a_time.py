"""Images of a list, a generator or a folder are held one at a time: none while the next is read."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import conformask as cm
from problems import wide

PROBLEM = wide(n=12)


class Watched:
    """Images that are counted while they are there."""

    def __init__(self) -> None:
        self.alive: list[weakref.ref[Any]] = []
        self.most = 0

    def image(self, place: int) -> np.ndarray:
        self.most = max(self.most, sum(each() is not None for each in self.alive))
        image = PROBLEM.X[place].copy()
        self.alive.append(weakref.ref(image))
        return image

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for place in range(len(PROBLEM.X)):
            yield self.image(place), PROBLEM.y[place]

    def alone(self) -> Iterator[np.ndarray]:
        for place in range(len(PROBLEM.X)):
            yield self.image(place)


def used(images: Any) -> None:
    for _ in images:
        pass


CALIBRATOR = cm.ConformalRiskCalibrator(alpha=0.2).fit(PROBLEM.X, PROBLEM.y)
CALLS: dict[str, Callable[[Watched], object]] = {
    "fit": lambda watched: cm.ConformalRiskCalibrator(alpha=0.2).fit(watched.pairs()),
    "fit with a bar": lambda watched: cm.ConformalRiskCalibrator(alpha=0.2, progress=True).fit(
        watched.pairs()
    ),
    "fit, two iterables": lambda watched: cm.ConformalRiskCalibrator(alpha=0.2).fit(
        watched.alone(), iter(PROBLEM.y)
    ),
    "binned": lambda watched: cm.ConformalRiskCalibrator(alpha=0.2, profile="binned").fit(watched.pairs()),
    "evaluate": lambda watched: CALIBRATOR.evaluate(watched.pairs()),
    "losses": lambda watched: CALIBRATOR.losses(watched.pairs()),
    "predict": lambda watched: used(CALIBRATOR.predict(watched.alone())),
    "set_size": lambda watched: used(CALIBRATOR.set_size(watched.alone())),
}


@pytest.mark.parametrize("name", CALLS)
def test_none_is_held_while_the_next_is_read(name: str) -> None:
    watched = Watched()
    gc.collect()
    CALLS[name](watched)
    assert len(watched.alive) == len(PROBLEM.X)
    assert watched.most == 0
