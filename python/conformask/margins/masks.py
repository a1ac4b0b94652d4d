"""The two masks between which a contour lies."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Margins"]


def __dir__() -> list[str]:
    return sorted(__all__)


class Margins(NamedTuple):
    """An inner and an outer mask around each predicted contour.

    Attributes
    ----------
    inner : bool array (n, H, W) or (n, D, H, W); of an image in a list (H, W) or (D, H, W)
        The predicted mask without its inner margin.
    outer : bool array like inner
        The predicted mask with its outer margin.

    See Also
    --------
    MarginCalibrator.predict : Makes this object, with ``side="both"``.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask import Margins
    >>> margins = Margins(inner=np.array([[False, True, False]]), outer=np.array([[True, True, True]]))
    >>> margins.band
    array([[ True, False,  True]])
    """

    inner: Any
    outer: Any

    @property
    def band(self) -> Any:
        """The pixels in the outer mask but not in the inner one, where the contour may be."""
        return self.outer & ~self.inner
