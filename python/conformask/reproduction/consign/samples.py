"""Samples of models: simulated ones, and those of a small network on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conformask._files.arrays import DAMAGES

__all__ = ["moving_edges", "stored_samples"]


def moving_edges(
    n_images: int, *, n_samples: int = 6, size: int = 16, random_state: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Make samples of images in which only the place of an object's edge is uncertain.

    The edge of an image is at a random place, and the edges of its samples and of its truth scatter around that place
    in the same way. So truth and samples are exchangeable, and neighbouring pixels change together.

    Parameters
    ----------
    n_images : int
        How many images.
    n_samples : int, default=6
        Number of samples of each image.
    size : int, default=16
        Height and width in pixels.
    random_state : int, default=0
        The seed.

    Returns
    -------
    samples : float32 array (n_images, n_samples, 2, size, size)
        Probabilities.
    labels : uint8 array (n_images, size, size)
        Labels.

    See Also
    --------
    stored_samples : Samples of a network on real images.

    Examples
    --------
    >>> from conformask.reproduction.consign import moving_edges
    >>> samples, labels = moving_edges(3)
    >>> samples.shape, labels.shape
    ((3, 6, 2, 16, 16), (3, 16, 16))
    """
    rng = np.random.default_rng(random_state)
    edges = rng.normal(0, 0.3, (n_images, n_samples + 1, 1, 1)) + rng.normal(0, 0.3, (n_images, 1, 1, 1))
    fields = 4 * (np.linspace(-1, 1, size) - edges) * np.ones((size, 1))
    share = 1 / (1 + np.exp(-2 * fields[:, :n_samples]))
    return np.stack([1 - share, share], axis=2).astype(np.float32), (fields[:, -1] > 0).astype(np.uint8)


def stored_samples(folder: str | Path | None) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Read dropout samples of a small network on real ultrasound images (usgra-seg).

    Parameters
    ----------
    folder : path or None
        The folder that holds ``usgra-seg/samples.npz``.

    Returns
    -------
    samples : float array (n, S, 3, H, W)
        Probabilities.
    labels : integer array (n, H, W)
        Labels: background, nerve, vessel.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged.

    See Also
    --------
    moving_edges : Simulated samples, which need no file.

    Examples
    --------
    >>> from conformask.reproduction.consign import stored_samples
    >>> samples, labels = stored_samples("data")  # doctest: +SKIP
    >>> samples.shape  # doctest: +SKIP
    (40, 8, 3, 128, 128)
    """
    if folder is None:
        raise FileNotFoundError("no folder was given that holds usgra-seg")
    file = Path(folder) / "usgra-seg" / "samples.npz"
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        with file.open("rb") as stream:  # np.load leaves a damaged archive open
            arrays = np.load(stream, allow_pickle=False)
            return arrays["samples"], arrays["labels"]
    except DAMAGES as error:
        raise ValueError(f"{file} is damaged, or holds no samples and labels: {error}") from error
