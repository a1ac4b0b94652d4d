"""The common part of both objects for streams: a state that each update continues, and its files."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from conformask._calibrator import Estimator
from conformask._documents import document_text, locked, read_document, reading, save_document
from conformask._tables import html_table
from conformask._text import shown

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

__all__ = ["Stream", "as_numbers"]


class Ongoing(Protocol):
    """The state of a stream."""

    @property
    def configuration(self) -> Any:
        """The configuration with which it continues."""

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has come yet, so that parameters may still be set."""

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""

    @property
    def headline(self) -> dict[str, str]:
        """Names and values that are shown beside the parameters."""


C = TypeVar("C")
V = TypeVar("V", bound=Ongoing)


class Stream(Estimator[C, V]):
    """An object that is updated in the order of time. It needs no fit: it starts with its parameters."""

    def _start(self, configuration: C, known: V | None) -> V:
        """The first state, given what is known before the first update."""
        raise NotImplementedError

    def _state_from_json(self, found: dict[str, Any], configuration: C) -> V:
        """The state in a file; refuses states that no stream reaches."""
        raise NotImplementedError

    def _now(self) -> tuple[C, V]:
        """The parameters, and the state."""
        configuration = self._configuration()
        return configuration, self._as_asked(self._known, configuration)

    def _as_asked(self, state: V | None, configuration: C) -> V:
        """The state, or the first one; refuses parameters that have changed since."""
        if state is None or state.is_fresh:
            return self._start(configuration, state)
        for name in self._stale("images", state.configuration, configuration):
            known = getattr(state.configuration, name)
            known = repr(float(known) if isinstance(known, Fraction) else known)
            raise ValueError(
                f"{name} is {getattr(self, name)!r}, but it was {known} when this began: set it back, or call reset()"
            )
        return state

    def _go_on(self, configuration: C, change: Callable[[V], V]) -> V:
        """Replaces the state by what comes next; a change that fails leaves it as it was."""
        return self._update(lambda state: change(self._as_asked(state, configuration)))

    def reset(self) -> Self:
        """Forgets all updates, and starts again.

        Returns
        -------
        self
        """
        configuration = self._configuration()
        self._update(lambda _: self._start(configuration, None))
        return self

    # Files

    def save(self, path: str | Path) -> None:
        """Writes parameters and state to a JSON file, so that :meth:`load` goes on from here, to the last bit.

        Parameters
        ----------
        path : path
            The file. A new file is written and then renamed, so that `path` never holds a part of it.

        Raises
        ------
        TypeError
            If a parameter is a function, which cannot be saved.
        """
        _, state = self._now()
        parameters = {name: each.written(getattr(self, name)) for name, each in self._PARAMETERS.items()}
        content = {"parameters": parameters, "state": state.to_json()}
        text = document_text(*self._FORMAT, content)
        save_document(Path(path), lambda _: text, None)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what :meth:`save` wrote. Nothing in the file is executed.

        Parameters
        ----------
        path : path
            The JSON file.

        Returns
        -------
        object
            The object as it was saved.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, foreign, or of a newer version.
        """
        path = Path(path)
        with locked(path.parent, shared=True):
            content = path.read_bytes()
        with reading(path):
            document = read_document(content, *cls._FORMAT)
            parameters = dict(document["parameters"])
            known = {name: each.read(parameters[name]) for name, each in cls._PARAMETERS.items()}
            fresh = cls(**{**parameters, **known})
            state = fresh._state_from_json(dict(document["state"]), fresh._configuration())
        fresh._update(lambda _: state)
        return fresh

    # Looks

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """As it is made, and where it is; scikit-learn asks for the parameter."""
        texts = self._set() | self._found(lambda state: state.headline)
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in texts.items())})"

    def _repr_html_(self) -> str:
        """A table for notebooks: the parameters that were set, and the state."""
        rows = self._set() | self._found(self._rows)
        return html_table(type(self).__name__, list(rows.items()))

    def _rows(self, state: V) -> dict[str, str]:
        """Names and values to display."""
        return state.headline

    def _found(self, look: Callable[[V], dict[str, str]]) -> dict[str, str]:
        """The values to show: none before the first update, and a note if the parameters no longer fit the state."""
        if self._known is None or self._known.is_fresh:
            return {}
        try:
            return look(self._now()[1])
        except (TypeError, ValueError):
            return {"state": "parameters were set since"}


def as_numbers(values: Any, name: str) -> NDArray[np.float64]:
    """One finite number, or a row of them in the order of time."""
    is_text = isinstance(values, str | bytes)
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # of different lengths
        array = np.empty(0, object)
    if is_text or array.dtype.kind not in "iuf" or array.ndim > 1:
        if array.dtype.kind in "fiu":
            got = f"an array of shape {array.shape}"
        else:
            got = shown(values)
        raise TypeError(f"{name} must be a number or a sequence of numbers (n,), got {got}")
    if not array.size:
        raise ValueError(f"{name} is empty: it holds no number")
    numbers = np.atleast_1d(array).astype(np.float64)
    if not np.isfinite(numbers).all():
        bad = numbers[~np.isfinite(numbers)][0]
        hint = ": leave out images on which the loss is undefined" if np.isnan(bad) else ""
        raise ValueError(f"{name} must be finite, got {bad}{hint}")
    return numbers
