"""A pixel classifier that learns within seconds."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from conformask._random import RandomState, as_generator
from conformask.datasets._canvas import VOID

__all__ = ["PixelClassifier"]


class PixelClassifier(BaseEstimator):
    """A small, fast segmentation model: image features per pixel, then a perceptron.

    Each pixel is described by its colour, by the mean and the spread of its surroundings at several scales, by
    gradients, and by its row and column. Such a simple model cannot match a deep network. Its purpose is to make
    natural errors after seconds of training.

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

    See Also
    --------
    make_scenes : Scenes to learn from.

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
        rng = as_generator(self.random_state)
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
            warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is intended
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
        """Return the most probable class of each pixel.

        Parameters
        ----------
        images : ndarray of uint8, shape (n, H, W, 3)
            Colour images.

        Returns
        -------
        ndarray of uint8, shape (n, H, W)
            Classes.
        """
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
