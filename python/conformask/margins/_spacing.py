"""The spacing of pixels, as callers give it: once for all images, or image by image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._sequences import has_order
from conformask._text import plural, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Spacings"]

_AXES = {2: "(H, W)", 3: "(D, H, W)"}


class Spacings:
    """The spacing of each image, handed out in the order in which masks come."""

    def __init__(self, spacing: Any, *, isotropic: bool) -> None:
        """Spacings for masks whose metric may need the same spacing along all axes."""
        self._isotropic = isotropic
        self._all: list[float] | float | None = None  # the spacing of all images; None: 1
        self._rest: Iterator[Any] | None = None  # the spacings of the remaining images
        self._n = 0
        self.is_given = spacing is not None
        if spacing is None:
            return
        if hasattr(spacing, "detach"):
            spacing = spacing.detach().cpu()
        if hasattr(spacing, "__array__"):
            spacing = np.asarray(spacing).tolist()
        if _is_number(spacing):
            self._all = _checked(spacing, "")
            return
        if isinstance(spacing, str | bytes) or not isinstance(spacing, Iterable) or not has_order(spacing):
            raise TypeError(
                "spacing must be a number, one for each axis, or such numbers for each image, got "
                f"{shown(spacing)}"
            )
        if not isinstance(spacing, list | tuple):
            self._rest = iter(spacing)
        elif spacing and all(map(_is_number, spacing)):
            self._all = [_checked(each, "") for each in spacing]
        else:
            self._rest = iter(spacing)

    def next(self, n: int, n_axes: int) -> NDArray[np.float64]:
        """The spacings of the next n images, (n, axes of space)."""
        first, self._n = self._n, self._n + n
        if self._rest is None:
            return np.repeat(self._row(self._all, n_axes, "")[np.newaxis], n, axis=0)
        rows = []
        for image in range(first, first + n):
            given = next(self._rest, self)
            if given is self:
                raise ValueError(f"spacing has {plural(image, 'image')}, masks has more")
            where = f" for image {image}"
            rows.append(self._row(_listed(given, where), n_axes, where))
        return np.array(rows)

    def check_end(self) -> None:
        """Refuses spacings that are left over."""
        if self._rest is not None and next(self._rest, self) is not self:
            raise ValueError(f"masks has {plural(self._n, 'image')}, spacing has more")

    def _row(self, given: list[float] | float | None, n_axes: int, where: str) -> NDArray[np.float64]:
        if given is None:
            return np.ones(n_axes)
        if isinstance(given, float):
            return np.full(n_axes, given)
        if len(given) != n_axes:
            hint = "; one volume is masks[None]" if len(given) == 3 else ""
            raise ValueError(
                f"spacing must be a number for each of the {n_axes} axes {_AXES[n_axes]} of an image{where}, got "
                f"{plural(len(given), 'number')}{hint}"
            )
        if self._isotropic and len(set(given)) > 1:
            raise ValueError(
                f"spacing must be the same along all axes with this metric, got {given}{where}: take "
                "metric='euclidean', which knows anisotropic spacing"
            )
        return np.array(given)


def _is_number(value: object) -> bool:
    return isinstance(value, Real | np.floating) and not isinstance(value, bool | np.bool_)


def _listed(given: Any, where: str) -> list[float] | float:
    """The spacing of one image, as a list of numbers."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    if hasattr(given, "__array__"):
        given = np.asarray(given).tolist()
    if _is_number(given):
        return _checked(given, where)
    if isinstance(given, str | bytes) or not isinstance(given, Iterable) or not has_order(given):
        raise TypeError(f"spacing must be a number for each axis{where}, got {shown(given)}")
    return [_checked(each, where) for each in given]


def _checked(value: Any, where: str) -> float:
    if not _is_number(value):
        raise TypeError(f"spacing must hold numbers{where}, got {shown(value)}")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"spacing must be above 0 and finite{where}, got {shown(value)}")
    return float(value)
