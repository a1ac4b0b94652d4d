"""Data: rendered street scenes and a pixel classifier to try conformask with, and stored predictions.

:func:`make_scenes` draws small street scenes whose labels are known, :class:`PixelClassifier` learns to segment them
within seconds and errs where real networks err (borders, small things, fog, darkness). :func:`load_predictions` reads
the predictions of your own model from NumPy files. :class:`PairedFolder` reads predictions and labels from folders, one
image at a time.

Examples
--------
>>> from conformask.datasets import PixelClassifier, make_scenes
>>> scenes = make_scenes(6, size=(24, 40), random_state=0)
>>> model = PixelClassifier(n_pixels=2000, random_state=0).fit(scenes.images[:4], scenes.labels[:4])
>>> model.predict_proba(scenes.images[4:]).shape
(2, 8, 24, 40)
"""

from conformask.datasets.classifier import PixelClassifier
from conformask.datasets.folders import MapFolder, PairedFolder
from conformask.datasets.predictions import Predictions, load_predictions
from conformask.datasets.scenes import Scenes, make_scenes

__all__ = [
    "MapFolder",
    "PairedFolder",
    "PixelClassifier",
    "Predictions",
    "Scenes",
    "load_predictions",
    "make_scenes",
]


def __dir__() -> list[str]:
    return sorted(__all__)
