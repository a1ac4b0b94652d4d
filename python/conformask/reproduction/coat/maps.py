"""What methods are compared on: probabilities of a foreground, and masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask.reproduction._splits import some_of, units_of

__all__ = ["BinaryMaps"]


@dataclass(frozen=True, eq=False)
class BinaryMaps:
    """A model's probabilities of one kind of object against the rest, and the true masks.

    Attributes
    ----------
    name : str
        What the images are.
    probabilities : float array (n, H, W), or list of arrays (H, W)
        Probability of the foreground, in [0, 1].
    masks : bool or integer array (n, H, W), or list of arrays (H, W)
        True or 1 for the foreground, false or 0 for the background, 255 where void.
    groups : sequence of n ints or strings, or None
        What each image belongs to, such as a patient.
    images : sequence of n, or None
        Further inputs of your own model of thresholds, such as photographs.
    origin : str
        "simulated", or "real" with where the data come from.

    See Also
    --------
    compare_adaptive : Splits the images.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.reproduction.coat import BinaryMaps
    >>> maps = BinaryMaps("flat", np.full((4, 2, 2), 0.5), np.arange(4).reshape(4, 1, 1) * np.ones((2, 2), int) > 0)
    >>> len(maps), len(maps.with_foreground())
    (4, 3)
    """

    name: str
    probabilities: Any = field(repr=False)
    masks: Any = field(repr=False)
    groups: Any = field(default=None, repr=False)
    images: Any = field(default=None, repr=False)
    origin: str = "not said"

    def __post_init__(self) -> None:
        for name in ("masks", "groups", "images"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self):
                raise ValueError(f"{self.name}: {len(self)} probabilities, but {len(value)} {name}")

    def __len__(self) -> int:
        return len(self.probabilities)

    def units(self) -> list[NDArray[np.intp]]:
        """The images that a split keeps together.

        Returns
        -------
        list of arrays
            Their indices.
        """
        return units_of(len(self), self.groups)

    def take(self, indices: Iterable[int] | NDArray[np.intp]) -> BinaryMaps:
        """Some of the images.

        Parameters
        ----------
        indices : integers
            Which.

        Returns
        -------
        BinaryMaps
        """
        chosen = np.asarray(indices, np.intp)
        names = ("probabilities", "masks", "groups", "images")
        return replace(self, **{name: some_of(getattr(self, name), chosen) for name in names})

    def with_foreground(self) -> BinaryMaps:
        """The images that have a foreground.

        Returns
        -------
        BinaryMaps
        """
        return self.take(np.flatnonzero([bool(np.any(np.asarray(mask) == 1)) for mask in self.masks]))
