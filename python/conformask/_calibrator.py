"""What all calibrators have in common: declared parameters, a state that is replaced as a whole, files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

__all__ = ["Calibrator", "Parameter", "one_of"]

C = TypeVar("C")
S = TypeVar("S")


class Parameter(NamedTuple):
    """A parameter of an estimator: what it may be, and what becomes stale when it is set after calibration.

    "nothing" may change at any time: it says how data are read or how work is shown. "result" changes what was found:
    it is found again, from what was kept of the images. "images" needs the images again; results are refused until
    then.
    """

    resolve: Callable[[Any], Any]
    stale: str = "nothing"


def one_of(name: str, *choices: Any, stale: str = "nothing") -> Parameter:
    """A parameter that is one of a few values."""

    def resolve(value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}")
        return value

    return Parameter(resolve, stale)


class _Updates:
    """The lock under which states are replaced. A forked child has one of its own: the parent's may be taken."""

    lock = threading.RLock()

    @classmethod
    def renew(cls) -> None:
        cls.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Updates.renew)


class Calibrator(BaseEstimator, Generic[C, S]):
    """A calibrator with configurations of type C and states of type S.

    The state is one frozen value in ``_state``. Threads that read while another one fits see the old or the new.
    """

    _PARAMETERS: ClassVar[dict[str, Parameter]]
    _CONFIGURATION: ClassVar[type]

    def _configuration(self) -> C:
        """The parameters, checked and resolved: what a call works with from its beginning to its end."""
        values = {name: each.resolve(getattr(self, name)) for name, each in self._PARAMETERS.items()}
        configuration: C = self._CONFIGURATION(**values)
        return configuration

    @classmethod
    def _stale(cls, kind: str, then: C, now: C) -> list[str]:
        """The parameters of a kind that are other than they were."""
        names = [name for name, each in cls._PARAMETERS.items() if each.stale == kind]
        return [name for name in names if getattr(then, name) != getattr(now, name)]

    def _check_images(self, then: C, now: C) -> None:
        """Refuses parameters that the calibration images would have to be looked at again for."""
        for name in self._stale("images", then, now):
            raise ValueError(
                f"{name} is {getattr(now, name)}, but the images were calibrated with {getattr(then, name)}: fit again"
            )

    # State

    @property
    def _known(self) -> S | None:
        return self.__dict__.get("_state")

    def _fitted(self) -> S:
        state = self._known
        if state is None:
            raise NotFittedError(f"this {type(self).__name__} has seen no images yet: {self._how_to_fit()}")
        return state

    def _how_to_fit(self) -> str:
        return "call fit first"

    def _update(self, change: Callable[[S | None], S]) -> S:
        """Replaces the state by what a change makes of it; one that fails leaves it as it was."""
        with _Updates.lock:
            state = self._state = change(self._known)
        return state

    def _replace(self, old: S, new: S) -> None:
        """Replaces a state, unless another thread has replaced it already."""
        with _Updates.lock:
            if self._known is old:
                self._state = new

    def __sklearn_is_fitted__(self) -> bool:
        return self._known is not None
