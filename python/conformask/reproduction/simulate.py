"""Simulated predictions of segmentation networks, in the shape of the paper's data sets.

Images are made one at a time. The plane is cut into the cells around random points; these cells are the objects. Each
object has a class. Some objects are void, and a few are misread: the network sees another class, and nothing hints at
the true one. A field of scores prefers, in each pixel, the class of its object. The preference falls towards the border
with the next object, whose class gains what the first loses. Noise is added. Classes that no object has are less
plausible, each by an amount of its own. The strength of the preference is drawn for each image: most images are easy,
some are hard.

The label of a pixel is drawn from the softmax of the field of the true classes. The prediction is the softmax of the
field of the classes that the network sees, times a factor of overconfidence, which is drawn for each image too; so low
risks need large sets. Because of the noise no two critical values are equal, up to the precision of float32.

The settings were chosen by hand, so that the mean error of the argmax is near what the paper's tables imply. Nothing
else of the data sets is imitated: the other numbers do not estimate what a network would give.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask.reproduction.paper import DATASETS

__all__ = ["SIMULATIONS", "Simulation", "simulate", "simulated_profiles"]


def __dir__() -> list[str]:
    return sorted(__all__)


VOID = 255


@dataclass(frozen=True)
class Simulation:
    """What the simulated predictions of a data set are like.

    Attributes
    ----------
    size : tuple of int
        Height and width: about a sixteenth of those of the data set.
    void_share : float
        The mean share of void pixels. A plausible value, not a measured one.
    argmax_error : float
        The mean error of the argmax that is aimed at. The paper prints it (Cityscapes, ADE20K: the rows marked †), or
        its rows imply it (LoveDA: a risk of 0.199 needs sets).
    preference : float
        The strongest preference for the class of the object.
    ease, hardness : float
        The preference in an image is a share of the strongest, drawn from Beta(ease, hardness).
    overconfidence : tuple of float
        Smallest and largest factor between the field that labels are drawn from and the one that predicts.
    misread : float
        The probability that an object is taken for another class.
    implausibility : float
        The mean amount that is subtracted from the score of a class that no object has.

    See Also
    --------
    simulate : Draws the predictions.
    """

    size: tuple[int, int]
    void_share: float
    argmax_error: float
    preference: float
    ease: float
    hardness: float
    overconfidence: tuple[float, float]
    misread: float
    implausibility: float


SIMULATIONS = {
    "cityscapes": Simulation(
        size=(64, 128),
        void_share=0.12,
        argmax_error=0.041,
        preference=21.0,
        ease=5.0,
        hardness=2.0,
        overconfidence=(0.8, 1.4),
        misread=0.001,
        implausibility=8.0,
    ),
    "ade20k": Simulation(
        size=(32, 40),
        void_share=0.07,
        argmax_error=0.179,
        preference=16.0,
        ease=3.0,
        hardness=2.0,
        overconfidence=(0.8, 1.3),
        misread=0.012,
        implausibility=12.0,
    ),
    "loveda": Simulation(
        size=(64, 64),
        void_share=0.02,
        argmax_error=0.3,
        preference=11.0,
        ease=2.0,
        hardness=2.0,
        overconfidence=(0.8, 2.0),
        misread=0.08,
        implausibility=0.0,
    ),
}

_OBJECTS = (5, 14)  # in one image: at least, and less than


def simulate(
    dataset: str, n_images: int | None = None
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Draw the predictions of a data set and the labels, image by image.

    Parameters
    ----------
    dataset : {"cityscapes", "ade20k", "loveda"}
        The data set.
    n_images : int or None, default=None
        How many images; None for as many as the data set has. Image i is the same however many are drawn.

    Yields
    ------
    scores : float32 array (K, H, W)
        Probabilities.
    labels : uint8 array (H, W)
        True classes; 255 is void.

    See Also
    --------
    simulated_profiles : Their profiles.

    Examples
    --------
    >>> from conformask.reproduction.simulate import simulate
    >>> scores, labels = next(simulate("loveda"))
    >>> scores.shape, labels.shape
    ((7, 64, 64), (64, 64))
    """
    data, simulation = DATASETS[dataset], SIMULATIONS[dataset]
    for index in range(data.n_images if n_images is None else n_images):
        # A generator of its own: no image depends on those before it.
        rng = np.random.default_rng([data.n_classes, index])
        yield _image(rng, data.n_classes, simulation)


def simulated_profiles(
    dataset: str, n_images: int | None = None, *, progress: bool | str = "auto"
) -> cm.ScoreProfiles:
    """The LAC profiles of simulated predictions, activations counted.

    Parameters
    ----------
    dataset : {"cityscapes", "ade20k", "loveda"}
        The data set.
    n_images : int or None, default=None
        How many images; None for as many as the data set has.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar.

    Returns
    -------
    ScoreProfiles

    See Also
    --------
    simulate : The predictions.

    Examples
    --------
    >>> from conformask.reproduction.simulate import simulated_profiles
    >>> len(simulated_profiles("loveda", 3))
    3
    """
    return cm.profile(simulate(dataset, n_images), activation=True, progress=progress)


def _image(
    rng: np.random.Generator, n_classes: int, simulation: Simulation
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    height, width = simulation.size
    n_objects = int(rng.integers(*_OBJECTS))
    nearest, second, depth = _objects(rng, n_objects, height, width)
    # Few classes are frequent, many are rare.
    frequency = 1 / np.arange(2, n_classes + 2)
    classes = rng.choice(n_classes, n_objects, p=frequency / frequency.sum())
    others = rng.choice(n_classes, n_objects, p=frequency / frequency.sum())
    read = np.where(rng.random(n_objects) < simulation.misread, others, classes)
    preference = simulation.preference * rng.beta(simulation.ease, simulation.hardness)
    overconfidence = np.float32(rng.uniform(*simulation.overconfidence))

    noise = rng.standard_normal((n_classes, height, width), np.float32)
    implausible = simulation.implausibility * rng.standard_exponential(n_classes, np.float32)
    implausible[classes] = implausible[read] = 0
    noise -= implausible[:, np.newaxis, np.newaxis]

    gain = (0.5 * preference * np.sqrt(depth)).astype(np.float32)
    rows, columns = np.indices((height, width), sparse=True)

    def field(of_objects: NDArray[np.intp]) -> NDArray[np.float32]:
        scores = noise.copy()
        scores[of_objects[nearest], rows, columns] += np.float32(preference / 2) + gain
        scores[of_objects[second], rows, columns] += np.float32(preference / 2) - gain
        return scores

    cumulative = np.cumsum(_softmax(field(classes)), axis=0)
    drawn = rng.random((height, width), np.float32) * cumulative[-1]
    labels = np.minimum((cumulative <= drawn).sum(axis=0), n_classes - 1).astype(np.uint8)

    void = (rng.random(n_objects) < simulation.void_share)[nearest]
    if not void.all():  # all objects at once: rare, and of no use
        labels[void] = VOID
    return _softmax(field(read) * overconfidence), labels


def _objects(
    rng: np.random.Generator, n: int, height: int, width: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """The nearest and the second object of each pixel, and how deep inside the nearest it lies, in [0, 1]."""
    y, x = rng.uniform(0, height, n), rng.uniform(0, width, n)
    away = np.hypot(
        np.arange(height)[:, np.newaxis, np.newaxis] + 0.5 - y, np.arange(width)[:, np.newaxis] + 0.5 - x
    )
    order = np.argsort(away, axis=-1, kind="stable")[..., :2]
    near, far = np.moveaxis(np.take_along_axis(away, order, axis=-1), -1, 0)
    return order[..., 0], order[..., 1], (far - near) / (far + near)


def _softmax(field: NDArray[np.float32]) -> NDArray[np.float32]:
    odds: NDArray[np.float32] = np.exp(field - field.max(axis=0))
    odds /= odds.sum(axis=0)
    return odds
