"""Probabilities and masks to compare methods on: rendered scenes, and stored predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask.datasets import PixelClassifier, load_predictions, make_scenes
from conformask.reproduction.coat.maps import BinaryMaps

__all__ = ["rendered", "stored"]

_N_TRAINING = 40  # scenes that the classifier learns from
_VOID = 255
_OBJECTS = {"cars": "car", "people": "person"}
_STRUCTURES = {"nerve": 1, "vessel": 2}  # the labels of usgra-seg


def rendered(
    n_images: int = 400, *, size: tuple[int, int] = (64, 64), random_state: int = 0
) -> list[BinaryMaps]:
    """Scenes whose weather, light and noise differ, and a small classifier's probabilities of cars and people.

    Parameters
    ----------
    n_images : int, default=400
        Number of scenes.
    size : tuple of int, default=(64, 64)
        Height and width.
    random_state : int, default=0
        Seed of the scenes and the classifier.

    Returns
    -------
    list of BinaryMaps
        First cars against the rest, then people against the rest, in the same scenes. Cars are often large, people are
        small, and not every scene has some.

    See Also
    --------
    conformask.datasets.make_scenes, conformask.datasets.PixelClassifier : What it is made with.

    Examples
    --------
    >>> from conformask.reproduction.coat import rendered
    >>> [(each.name, each.probabilities.shape) for each in rendered(3, size=(24, 32))]
    [('rendered scenes: cars', (3, 24, 32)), ('rendered scenes: people', (3, 24, 32))]
    """
    scenes = make_scenes(_N_TRAINING + n_images, size=size, random_state=random_state)
    model = PixelClassifier(n_pixels=20_000, random_state=random_state)
    model.fit(scenes.images[:_N_TRAINING], scenes.labels[:_N_TRAINING])
    probabilities, labels = model.predict_proba(scenes.images[_N_TRAINING:]), scenes.labels[_N_TRAINING:]
    found = []
    for name, class_name in _OBJECTS.items():
        k = scenes.class_names.index(class_name)
        maps = probabilities[:, k].copy(), _masks(labels, k)
        found.append(BinaryMaps(f"rendered scenes: {name}", *maps, origin="simulated"))
    return found


def stored(folder: str | Path | None) -> list[BinaryMaps]:
    """Real ultrasound images with out-of-sample predictions of a small network (usgra-seg), by group of look-alikes.

    Parameters
    ----------
    folder : path or None
        The folder that holds ``usgra-seg``.

    Returns
    -------
    list of BinaryMaps
        The nerve against the rest, and the vessel.

    Raises
    ------
    FileNotFoundError
        If the folder has no such predictions.

    See Also
    --------
    conformask.datasets.load_predictions : Reads the predictions.

    Examples
    --------
    >>> from conformask.reproduction.coat import stored
    >>> [each.name for each in stored("data")]  # doctest: +SKIP
    ['usgra-seg: nerve', 'usgra-seg: vessel']
    """
    if folder is None:
        raise FileNotFoundError("no folder was given that holds usgra-seg")
    found = load_predictions(Path(folder) / "usgra-seg")
    return [
        BinaryMaps(
            f"usgra-seg: {name}",
            found.probs[:, k].copy(),
            _masks(found.labels, k),
            found.group,
            origin="real (usgra-seg, tmkand, CC BY 4.0)",
        )
        for name, k in _STRUCTURES.items()
    ]


def _masks(labels: NDArray[Any], k: int) -> NDArray[np.uint8]:
    """Masks of class k against the rest."""
    return np.where(labels == _VOID, _VOID, labels == k).astype(np.uint8)
