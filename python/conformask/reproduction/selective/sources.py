"""Logits to compare scalers on: rendered scenes of several domains, and stored predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask.datasets import PixelClassifier, load_predictions, make_scenes
from conformask.reproduction._own import origin_of, paired
from conformask.reproduction._splits import some_of, units_of

__all__ = ["Logits", "read_logits", "rendered", "stored"]

# A smaller probability gets the logarithm of this one.
_LEAST = 1e-12
_N_MODELS = 3  # of the ensemble, as in the paper


@dataclass(frozen=True, eq=False)
class Logits:
    """A model's logits for labelled images.

    Attributes
    ----------
    name : str
        What the images are.
    logits : array (n, K, H, W), or sequence of arrays (K, H, W)
        The logits.
    labels : integer array (n, H, W), or list of arrays (H, W)
        Labels, 255 where void.
    groups : sequence of n, or None
        What each image belongs to.
    members : array (M, n, K, H, W) or None
        Logits of the M models of an ensemble.
    origin : str
        "simulated", or "real" with where the data come from.

    See Also
    --------
    compare_scalers : Splits the images.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.reproduction.selective import Logits
    >>> len(Logits("zeros", np.zeros((4, 2, 3, 3)), np.zeros((4, 3, 3), int), groups=[0, 0, 1, 1]).units())
    2
    """

    name: str
    logits: Any
    labels: Any
    groups: Any = None
    members: NDArray[Any] | None = None
    origin: str = "not said"

    def units(self) -> list[NDArray[np.intp]]:
        """The images that a split keeps together.

        Returns
        -------
        list of arrays
            Their indices.
        """
        return units_of(len(self.labels), self.groups)

    def take(self, indices: NDArray[np.intp]) -> Logits:
        """Some of the images.

        Parameters
        ----------
        indices : integer array
            Which.

        Returns
        -------
        Logits
        """
        return Logits(
            self.name,
            some_of(self.logits, indices),
            some_of(self.labels, indices),
            None if self.groups is None else np.asarray(self.groups)[indices],
            None if self.members is None else self.members[:, indices],
            self.origin,
        )


def rendered(
    n_images: int = 60, *, size: tuple[int, int] = (96, 160), random_state: int = 0
) -> tuple[Logits, list[Logits]]:
    """Scenes with the logits of a small classifier, and scenes of domains that it was not trained for.

    Parameters
    ----------
    n_images : int, default=60
        Number of scenes to split, and number of scenes of each other domain.
    size : tuple of int, default=(96, 160)
        Height and width.
    random_state : int, default=0
        Seed of the scenes and the classifiers.

    Returns
    -------
    scenes : Logits
        Scenes like those that the three classifiers have learnt from.
    shifted : list of Logits
        Scenes in the dark, with noise, and of half the size.

    See Also
    --------
    conformask.datasets.make_scenes, conformask.datasets.PixelClassifier : What it is made with.

    Examples
    --------
    >>> from conformask.reproduction.selective import rendered
    >>> scenes, shifted = rendered(4, size=(24, 40))
    >>> scenes.logits.shape, [each.name for each in shifted]
    ((4, 8, 24, 40), ['dark scenes', 'noisy scenes', 'small scenes'])
    """
    rng = np.random.default_rng(random_state)
    training = make_scenes(n_images, size=size, random_state=int(rng.integers(2**31)))
    models = [
        PixelClassifier(n_pixels=20_000, random_state=seed).fit(training.images, training.labels)
        for seed in range(_N_MODELS)
    ]

    def seen(name: str, change: Callable[[NDArray[Any]], NDArray[Any]], size: tuple[int, int]) -> Logits:
        scenes = make_scenes(n_images, size=size, random_state=int(rng.integers(2**31)))
        images = np.clip(change(scenes.images.astype(np.float64)), 0, 255).astype(np.uint8)
        members = np.stack([_logits(model.predict_proba(images)) for model in models])
        return Logits(name, members[0], scenes.labels, members=members, origin="simulated")

    half = (size[0] // 2, size[1] // 2)
    return seen("rendered scenes", lambda image: image, size), [
        seen("dark scenes", lambda image: 0.4 * image, size),
        seen("noisy scenes", lambda image: image + rng.normal(0, 25, image.shape), size),
        seen("small scenes", lambda image: image, (max(half[0], 16), max(half[1], 16))),
    ]


def stored(folder: str | Path | None) -> Logits:
    """Real ultrasound images with out-of-sample predictions of a small network (usgra-seg), by group of look-alikes.

    Parameters
    ----------
    folder : path or None
        The folder that holds ``usgra-seg``.

    Returns
    -------
    Logits
        The logarithms of its probabilities.

    Raises
    ------
    FileNotFoundError
        If the folder has no such predictions.

    See Also
    --------
    conformask.datasets.load_predictions : Reads the predictions.

    Examples
    --------
    >>> from conformask.reproduction.selective import stored
    >>> stored("data").logits.shape[1]  # doctest: +SKIP
    3
    """
    if folder is None:
        raise FileNotFoundError("no folder was given that holds usgra-seg")
    found = load_predictions(Path(folder) / "usgra-seg")
    origin = "real (usgra-seg, tmkand, CC BY 4.0)"
    return Logits("usgra-seg", _logits(found.probs), found.labels, found.group, origin=origin)


def read_logits(folder: str | Path) -> Logits:
    """Your own logits, or probabilities, and masks: a file for each image.

    The folder holds ``logits`` or ``probabilities``, and ``masks``. Files whose names differ only in the suffix belong
    together. They are read as by :class:`~conformask.datasets.PairedFolder`::

        DIR/logits/0001.npy          floating (K, H, W) or (K, D, H, W); or .npz, .nii.gz, .tif
        DIR/probabilities/0001.npz   instead: the softmax, such as nnU-Net's; its logarithms serve as logits
        DIR/masks/0001.png           class indices, 255 where void; or .npy, .npz, .nii.gz, .tif
        DIR/groups.csv               (two columns without a header: name without suffix, group such as a patient)

    Parameters
    ----------
    folder : path
        DIR.

    Returns
    -------
    Logits
        In the order of the names. Images may differ in size. Maps are read each time that they are needed; ``.npy`` is
        fastest, because it is memory-mapped.

    Raises
    ------
    FileNotFoundError
        If a folder is missing or empty, or an image has no mask.
    ValueError
        If a file cannot be read, or holds something else.

    See Also
    --------
    compare_scalers : Compares scalers on them.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from conformask.reproduction.selective import read_logits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, values in {"logits": np.zeros((3, 4, 5)), "masks": np.ones((4, 5), int)}.items():
    ...         (Path(folder) / name).mkdir()
    ...         np.save(Path(folder) / name / "0001.npy", values)
    ...     source = read_logits(folder)
    ...     len(source.labels), source.logits[0].shape
    (1, (3, 4, 5))
    """
    images, kind = paired(folder, "logits", "probabilities")
    labels = [np.asarray(label) for _, label in images]
    logits: Any = images.maps if kind == "logits" else _LogMaps(images.maps)
    name = Path(folder).resolve().name
    return Logits(name, logits, labels, images.groups, origin=origin_of(folder))


class _LogMaps(Sequence["NDArray[np.float32]"]):
    """The logarithms of the probabilities of a folder, read one image at a time."""

    def __init__(self, maps: Any) -> None:
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: Any) -> Any:
        found = self._maps[index]
        if not isinstance(found, np.ndarray):
            return _LogMaps(found)
        if not ((found >= 0) & (found <= 1)).all():
            raise ValueError(
                f"{self._maps.files[index]} must hold probabilities in [0, 1]; call the folder logits if it holds them"
            )
        return _logits(found)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[i] for i in range(len(self)))


def _logits(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(np.log(np.maximum(probabilities, _LEAST, dtype=np.float32)))
