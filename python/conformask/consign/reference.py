"""The parameters of the search of the CONSIGN paper, which serves for comparison."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from conformask._exact import as_plain
from conformask._text import shown

__all__ = ["ReferenceSearch"]


@dataclass(frozen=True)
class ReferenceSearch:
    """The search of the CONSIGN paper. It needs PyTorch.

    The search goes up a grid of lambda. At each lambda, and for each image that is not done, points of a Latin
    hypercube in the box of coefficients are ranked by a smooth accuracy: the mean over labels of the share of their
    softmax mass that is right. From the best points Adam continues, clamped to the box. An image is done if the argmax
    at the end of a run is accurate enough. The grid ends when enough images are done. A lambda that is found in this
    way is valid, but may be too large by an unknown amount.

    Parameters
    ----------
    first, step : float, default=0.01
        The first lambda of the grid, and its step.
    n_points : int, default=1000
        Points of the Latin hypercube.
    n_starts : int, default=10
        The number of points from which Adam starts.
    learning_rate : float, default=1.0
        The learning rate of Adam, in units of the coefficients.
    n_epochs : int, default=10000
        Largest number of steps of a run.
    patience : int, default=50
        Steps without improvement after which a run ends.
    temperature : float, default=1e-4
        The temperature of the softmax.
    smoothing : float, default=1e-6
        The number that is added to the mass and to the number of pixels of a label.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN: Conformal Segmentation Informed by Spatial Groupings via Decomposition", ICLR
    2026.

    Examples
    --------
    >>> from conformask.consign import ConsignCalibrator, ReferenceSearch
    >>> calibrator = ConsignCalibrator(search=ReferenceSearch(step=0.1))
    """

    first: float = 0.01
    step: float = 0.01
    n_points: int = 1000
    n_starts: int = 10
    learning_rate: float = 1.0
    n_epochs: int = 10_000
    patience: int = 50
    temperature: float = 1e-4
    smoothing: float = 1e-6

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            plain: float | int
            if isinstance(each.default, int):
                if isinstance(value, bool) or not isinstance(value, int | np.integer):
                    raise TypeError(f"{each.name} must be an int, got {shown(value)}")
                plain = int(value)
            else:
                plain = float(as_plain(value, each.name))
            if not plain > 0:
                raise ValueError(f"{each.name} must be above 0, got {shown(value)}")
            object.__setattr__(self, each.name, plain)  # a type that can be saved
