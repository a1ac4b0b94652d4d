"""The caller's models, which give a number for each image, and the further images that such a model takes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._text import plural, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Images", "Offsets", "are_same", "check_alone", "ended", "is_model", "numbers_of", "plain_array"]


def is_model(value: Any) -> bool:
    """Whether a value is such a model: an object with ``predict``, or a function."""
    has_predict = callable(getattr(value, "predict", None))
    return not isinstance(value, type) and (has_predict or callable(value))


def numbers_of(
    model: Any, maps: Any, images: Any, first: int, must: str, noun: str, most: float
) -> NDArray[np.float64]:
    """The numbers that a model gives for images, the first of which is number `first`; refuses any outside [0, most].

    The model is an object with ``predict(maps, images=)``, or a function of maps and images.
    """

    def ask(maps: Any, images: Any) -> NDArray[Any]:
        given = model.predict(maps, images=images) if hasattr(model, "predict") else model(maps, images)
        return plain_array(given)

    found = ask(maps, images)
    if found.dtype.kind not in "fiu" or found.shape != (len(maps),):
        raise ValueError(
            f"{must} a {noun} for each of {plural(len(maps), 'image')}, an array of floats of shape ({len(maps)},), "
            f"got {found.dtype} of shape {found.shape}"
        )
    numbers: NDArray[np.float64] = found.astype(np.float64)
    bad = ~((numbers >= 0) & (numbers <= most))
    if bad.any():
        i = int(bad.argmax())
        raise ValueError(f"{must} {noun}s in [0, {most:g}], got {numbers[i]:g} for image {first + i}")
    if first == 0:
        check_alone(ask, maps, images, numbers, f"{must} {noun}s of each image by itself", most)
    return numbers


# Allowed difference relative to the largest allowed number: sums are rounded differently in arrays of other lengths.
_TOLERANCE = 1e-4


def check_alone(
    ask: Callable[[Any, Any], NDArray[Any]],
    maps: Any,
    images: Any,
    together: NDArray[np.float64],
    must: str,
    most: float,
) -> None:
    """Refuses a model that gives the first image another number when it sees it alone: there would be no guarantee."""
    if len(maps) < 2:
        return
    alone = ask(maps[:1], None if images is None else images[:1]).astype(np.float64)[0]
    apart = float(np.max(abs(alone - together[0]), initial=0))
    if not apart <= _TOLERANCE * most:
        raise ValueError(
            f"{must}, but what it says of image 0 depends on the other images of the array: it is {shown(alone)} alone "
            f"and {shown(together[0])} among {len(maps)}. Normalise with fixed numbers, which were found "
            f"on other images"
        )


def are_same(one: Any, other: Any) -> bool:
    """Whether two models are the same, as far as one can know: methods of equal objects are."""
    if one is other:
        return True
    if isinstance(one, MethodType) and isinstance(other, MethodType):
        return one.__func__ is other.__func__ and are_same(one.__self__, other.__self__)
    try:
        return bool(one == other)
    except (TypeError, ValueError):  # arrays, say
        return False


@dataclass(frozen=True, eq=False)
class Offsets:
    """The numbers that a model gives for many images, which calibration then corrects."""

    values: NDArray[np.float64]  # (n,)
    model: Any

    def take(self, indices: Sequence[int]) -> Offsets:
        """The numbers of some images."""
        return Offsets(self.values[list(indices)], self.model)

    def is_of(self, model: Any) -> bool:
        """Whether this model gave the numbers, as far as one can know."""
        return are_same(self.model, model)

    @classmethod
    def joined(cls, parts: Sequence[Offsets | None]) -> Offsets | None:
        """The numbers of the images of several parts; refuses parts of different models."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        if len(known) < len(parts) or not all(part.is_of(known[0].model) for part in known):
            raise ValueError("adaptive differs: the lambdas of all images must be those of one model")
        return cls(np.concatenate([part.values for part in known]), known[0].model)


def plain_array(given: Any) -> NDArray[Any]:
    """An array of what a model gives, which may be a tensor."""
    return np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)


def ended(found: Any, check_end: Callable[[], None]) -> Any:
    """Returns `found`, what was made of all maps, after `check_end`; for a generator the check runs at its end."""
    if isinstance(found, Generator):
        return _to_the_end(found, check_end)
    check_end()
    return found


def _to_the_end(
    found: Generator[Any, None, None], check_end: Callable[[], None]
) -> Generator[Any, None, None]:
    yield from found
    check_end()


class Images:
    """Images that belong to maps, such as photographs, handed out in the order of the maps; errors name the maps."""

    def __init__(self, images: Any, name: str = "P", own_name: str = "images") -> None:
        self._images, self._name, self._own_name = images, name, own_name
        is_sequence = hasattr(images, "__getitem__") and hasattr(images, "__len__")
        self._rest: Iterator[Any] | None = None if images is None or is_sequence else iter(images)
        self._n = 0

    def next(self, n: int) -> Any:
        """The images of the next n maps; None if there are no images."""
        if self._images is None:
            return None
        first, self._n = self._n, self._n + n
        found = list(islice(self._rest, n)) if self._rest is not None else self._images[first : self._n]
        if len(found) < n:
            raise ValueError(
                f"{self._own_name} has {plural(first + len(found), 'image')}, {self._name} has more"
            )
        return found

    def all_used_by(self, found: Any) -> Any:
        """Returns `found`; refuses images that are left over, in the case of a generator at its end."""
        return ended(found, self.check_end)

    def check_end(self) -> None:
        """Refuses images that are left over."""
        if self._images is None:
            return
        is_left = (
            next(self._rest, self) is not self if self._rest is not None else len(self._images) > self._n
        )
        if is_left:
            raise ValueError(f"{self._name} has {plural(self._n, 'image')}, {self._own_name} has more")
