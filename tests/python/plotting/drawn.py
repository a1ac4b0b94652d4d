"""What tests of pictures draw, and how they read it back from the artists."""

import numpy as np
from matplotlib.axes import Axes

import conformask as cm

SIZES = np.array([[1, 2, 3], [4, 1, 1]], np.uint16)
IMAGE = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)
MASK = np.array([[[1, 1, 0], [0, 1, 1]], [[0, 1, 1], [0, 1, 0]], [[0, 0, 0], [0, 1, 0]]], bool)
PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
SAMPLES = np.array([[[0, 1, 2], [0, 0, 0]], [[0, 0, 2], [1, 0, 0]]], np.uint8)
LAMBDAS = np.array([0.0, 0.4, 0.6, 1.0])
RISKS = np.array([0.3, 0.2, 0.1, 0.0])


def drawn_colours(ax: Axes, layer: int) -> np.ndarray:
    """Return the RGBA that a layer of an axes shows, before resampling."""
    image = ax.get_images()[layer]
    return image.to_rgba(image.get_array(), norm=image.get_array().ndim == 2)


def tick_texts(bar: Axes) -> list[str]:
    return [label.get_text() for label in bar.get_yticklabels()]


def legend_texts(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def consign_set(n_components: int = 2) -> cm.ConsignSet:
    """The set of an image of 4 x 6 pixels, 3 classes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4, 3, 4, 6))
    y = X.mean(axis=0).argmax(axis=0)
    calibrator = cm.ConsignCalibrator(n_components, alpha=0.5, min_accuracy=0.3)
    (found,) = calibrator.fit([X], [y]).predict([X])
    return found
