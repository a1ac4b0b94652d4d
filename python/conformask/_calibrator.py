"""What all calibrators have in common: declared parameters, a state that is replaced as a whole, warnings, files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from conformask._documents import (
    document_text,
    locked,
    named_sibling,
    open_sibling,
    read_document,
    reading,
    save_document,
)
from conformask._exact import as_plain, number_from_json
from conformask._image_models import are_same
from conformask._origin import Origin
from conformask._tables import html_table
from conformask._text import plural, shown
from conformask._warnings import warn_caller
from conformask.exceptions import DroppedImagesWarning

if TYPE_CHECKING:
    from typing import Self

    from conformask._units import Units

__all__ = [
    "Calibrator",
    "Estimator",
    "Parameter",
    "Solved",
    "State",
    "number",
    "one_of",
    "shown_value",
    "warn_skipped",
    "whole",
]


class Parameter(NamedTuple):
    """A parameter of an estimator: which values it may have, how it is saved, and what is stale once it is changed.

    One rule for `stale` holds for all families. A "nothing" parameter may change at any time: it says how data are
    read or how work is shown. A change of a "result" parameter changes the results: they are computed again, from what
    was kept of the images. After a change of an "images" parameter the images are needed again: until then, results
    are refused.
    """

    resolve: Callable[[Any], Any]
    stale: str = "nothing"
    to_json: Callable[[Any], Any] | None = None  # takes the value as given; None: saves the resolved one
    from_json: Callable[[Any], Any] | None = None  # None: takes the saved value as it is
    since: int = 1  # the first version of files that holds it; older files mean the default

    def written(self, value: Any) -> Any:
        """The value for a file."""
        return (self.to_json or self.resolve)(value)

    def read(self, value: Any) -> Any:
        """The value of a file."""
        return value if self.from_json is None else self.from_json(value)


def one_of(name: str, *choices: Any, stale: str = "nothing", since: int = 1) -> Parameter:
    """A parameter that is one of a few values."""

    def resolve(value: Any) -> Any:
        if not isinstance(value, Hashable) or value not in choices:  # an array's == gives an array
            raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}")
        return choices[choices.index(value)]  # True for NumPy's True

    return Parameter(resolve, stale, since=since)


def whole(name: str, least: int, most: int, stale: str, hint: str = "") -> Parameter:
    """A parameter that is a number of things, or another whole number."""
    more = f"; {hint}" if hint else ""

    def resolve(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} must be an int, got {shown(value)}{more}")
        if not least <= value <= most:
            raise ValueError(f"{name} must be in [{least}, {most}], got {shown(value)}{more}")
        return int(value)

    return Parameter(resolve, stale)


def number(name: str, check: Callable[[Any], Any], stale: str) -> Parameter:
    """A number, which means the decimal that it prints as."""
    return Parameter(check, stale, partial(as_plain, name=name), number_from_json)


def own_model(words: str, check: Callable[[Any], Any], since: int = 1) -> Parameter:
    """A parameter that is a model of the caller's, which no file can hold; `words` name it."""

    def to_json(value: Any) -> None:
        if value is not None:
            raise TypeError(f"{words} cannot be saved: {type(value).__name__}")

    return Parameter(check, "images", to_json, since=since)


class Solved(Protocol):
    """What calibration found."""

    @property
    def configuration(self) -> Any:
        """The configuration for which it was found."""

    @property
    def headline(self) -> dict[str, str]:
        """Names and values that are shown beside the parameters."""

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""

    def rows(self) -> list[tuple[str, str]]:
        """Names and values to display."""


# The most characters that are shown of a parameter's value.
_LONGEST = 120

C = TypeVar("C")
K = TypeVar("K")
S = TypeVar("S", bound=Solved)
V = TypeVar("V")


@dataclass(frozen=True)
class State(Generic[K, S]):
    """What a calibrator knows."""

    kept: K | None  # what is kept of the images; None if it was not saved, or nothing is kept
    solution: S | None = None
    origin: Origin | None = None  # the files of the images, if they are known
    read: Any = None  # the configuration with which images were read; None: that of the solution

    @property
    def read_with(self) -> Any:
        """The configuration with which the images were read; None if it is not known."""
        if self.read is not None:
            return self.read
        return None if self.solution is None else self.solution.configuration


class _Updates:
    """The lock under which states are replaced. A forked child gets a new one: the parent's may be held."""

    lock = threading.RLock()

    @classmethod
    def renew(cls) -> None:
        cls.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Updates.renew)


class Estimator(BaseEstimator, Generic[C, V]):
    """An estimator with configurations of type C, whose parameters are data, and whose state V is one frozen value.

    The state is in ``_state``. Threads that read while another one writes see the old or the new.
    """

    _PARAMETERS: ClassVar[Mapping[str, Parameter]]
    _CONFIGURATION: ClassVar[type]
    _FORMAT: ClassVar[tuple[str, int]]  # name and newest version of its files

    # Parameters

    def _configuration(self) -> C:
        """The parameters, checked and resolved: what a call works with from its beginning to its end."""
        values = {name: each.resolve(getattr(self, name)) for name, each in self._PARAMETERS.items()}
        configuration: C = self._CONFIGURATION(**values)
        return configuration

    @classmethod
    def _stale(cls, kind: str, then: C, now: C) -> list[str]:
        """The parameters of a kind whose values have changed."""
        names = [name for name, each in cls._PARAMETERS.items() if each.stale == kind]
        return [name for name in names if not are_same(getattr(then, name), getattr(now, name))]

    # State

    @property
    def _known(self) -> V | None:
        return self.__dict__.get("_state")

    def _update(self, change: Callable[[V | None], V]) -> V:
        """Replaces the state by what a change makes of it; one that fails leaves it as it was."""
        with _Updates.lock:
            state = self._state = change(self._known)
        return state

    # Merges

    _KIND: ClassVar[str] = "calibrator"  # what people call it

    def _refuse_to_merge(self, other: Any, kind: type | None = None) -> None:
        """Refuses the object itself, and one that is not of `kind`, by default the class of this one."""
        kind = kind or type(self)
        if not isinstance(other, kind):
            raise TypeError(f"other must be a {kind.__name__}, got {type(other).__name__}")
        if other is self:
            raise ValueError(f"a {self._KIND} cannot be merged with itself: every image would count twice")

    # Looks

    def _set(self) -> dict[str, str]:
        """The parameters that differ from their defaults, and always alpha: nobody should need to know its default."""
        given = type(self)().get_params(deep=False)
        texts = {name: _brief(value) for name, value in self.get_params(deep=False).items()}
        return {name: text for name, text in texts.items() if name == "alpha" or text != _brief(given[name])}

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """The representations that Jupyter asks for first."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


class Calibrator(Estimator[C, "State[K, S]"], Generic[C, K, S]):
    """A calibrator with configurations of type C, which keeps K of the images, and finds S."""

    _HAS_SIBLING: ClassVar[bool] = False  # whether what is kept can be saved in a second file
    _NOTHING_KEPT: ClassVar[str] = "nothing was kept of the images: set it back, or fit again"

    def _check_images(self, then: C | None, now: C) -> None:
        """Refuses a change of parameters that needs the calibration images again; None means that none were read."""
        if then is None:
            return
        for name in self._stale("images", then, now):
            known = shown_value(getattr(then, name))
            raise ValueError(
                f"{name} is {getattr(self, name)!r}, but the images were calibrated with {known}: fit again"
            )

    # State

    @property
    def _origin(self) -> Origin | None:
        """The files of the calibration images, if they are known."""
        return self._fitted().origin

    def _origin_with(self, state: State[K, S] | None, other: Origin | None = None) -> Origin | None:
        """The files of a state's images, and of others that are added."""
        known = None if state is None else state.origin
        return other if known is None else known.joined(other)

    def _come_from(self, origin: Origin | None) -> None:
        """Stores the files of the calibration images."""
        with _Updates.lock:
            self._state = replace(self._fitted(), origin=origin)

    def _fitted(self) -> State[K, S]:
        state = self._known
        if state is None:
            raise NotFittedError(f"this {type(self).__name__} has seen no images yet: {self._how_to_fit()}")
        return state

    def _how_to_fit(self) -> str:
        return "call fit first"

    def _replace(self, old: State[K, S], new: State[K, S]) -> None:
        """Replaces a state, unless another thread has replaced it already."""
        with _Updates.lock:
            if self._known is old:
                self._state = new

    def __sklearn_is_fitted__(self) -> bool:
        return self._known is not None

    # Solution

    def _solve(self, kept: K, configuration: C) -> S:
        """The solution for other parameters, some of which make results stale."""
        raise NotImplementedError

    def _warn(self, kept: K, solution: S) -> None:
        """Warns of what the user of a solution must know."""

    def _settled(self) -> tuple[C, State[K, S]]:
        """The parameters, and a state with what calibration finds for them."""
        state, configuration = self._fitted(), self._configuration()
        stale: list[str] = []
        # This is checked even if there is no solution yet: parameters may have been set since the images were read.
        self._check_images(state.read_with, configuration)
        if state.solution is not None:
            stale = self._stale("result", state.solution.configuration, configuration)
            if not stale:
                return configuration, state
        # There is no solution yet, or set_params has made it stale.
        if state.kept is None:
            raise ValueError(f"{', '.join(stale)} was set after calibration, but {self._NOTHING_KEPT}")
        solution = self._solve(state.kept, configuration)
        settled = replace(state, solution=solution)
        self._replace(state, settled)
        self._warn(state.kept, solution)
        return configuration, settled

    def _current(self) -> tuple[C, S]:
        """The parameters, and what calibration finds for them."""
        configuration, state = self._settled()
        assert state.solution is not None
        return configuration, state.solution

    # Files

    def _save(
        self, path: str | Path, sibling_of: Callable[[State[K, S]], Callable[[BinaryIO], None]] | None = None
    ) -> None:
        _, state = self._settled()  # which document and sibling share
        content = self._content(state)
        write_sibling = None if sibling_of is None else sibling_of(state)

        def text(sibling: dict[str, str] | None) -> str:
            return document_text(
                *self._FORMAT, content | ({"profiles": sibling} if self._HAS_SIBLING else {})
            )

        text(None)  # refuses what cannot be saved before anything is written
        save_document(Path(path), text, write_sibling)

    def _content(self, state: State[K, S]) -> dict[str, Any]:
        """What a document holds: parameters and results."""
        assert state.solution is not None
        parameters = {name: each.written(getattr(self, name)) for name, each in self._PARAMETERS.items()}
        content = {"parameters": parameters, "results": state.solution.to_json()}
        return content if state.origin is None else {**content, "origin": state.origin.to_json()}

    @classmethod
    def _from_content(cls, document: dict[str, Any]) -> tuple[Self, S]:
        """A calibrator with the parameters of a document, and its results."""
        parameters = document["parameters"]
        known = {
            name: each.read(parameters[name])
            for name, each in cls._PARAMETERS.items()
            if name in parameters or document["format_version"] >= each.since
        }
        calibrator = cls(**{**parameters, **known})
        return calibrator, cls._solution_from_json(document, calibrator._configuration())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what :meth:`save` wrote. Nothing in the file is executed.

        Parameters
        ----------
        path : path
            The JSON file.

        Returns
        -------
        calibrator
            As it was saved.

        Raises
        ------
        FileNotFoundError
            If there is no such file; if the file of profiles beside it is lost, and weights above 1 need it.
        ValueError
            If the file is damaged, foreign, or of a newer version.

        Warns
        -----
        UserWarning
            If the file of profiles beside it is lost: the calibrator predicts without them.
        """
        path = Path(path)
        with locked(path.parent, shared=True):
            content = path.read_bytes()
            with reading(path):
                document = read_document(content, *cls._FORMAT)
                calibrator, solution = cls._from_content(document)
                sibling = named_sibling(document["profiles"]) if cls._HAS_SIBLING else None
                origin = Origin.from_json(document["origin"]) if "origin" in document else None
            is_needed = cls._needs_kept(solution)
            beside = None if sibling is None else open_sibling(path, *sibling, is_needed=is_needed)
            kept = None if beside is None else calibrator._read_kept(beside, solution)
        calibrator._update(lambda _: State(kept, solution, origin))
        return calibrator

    @classmethod
    def _solution_from_json(cls, document: dict[str, Any], configuration: C) -> S:
        """Results from a file; refuses results that no calibration gives."""
        raise NotImplementedError

    @classmethod
    def _needs_kept(cls, solution: S) -> bool:
        """Whether nothing can be predicted without what was kept."""
        return False

    def _read_kept(self, path: Path, solution: S) -> K:
        """What lies beside a file; refuses what does not give the solution that was saved with it."""
        raise NotImplementedError

    # Looks

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """As it is made, and what was found for this; scikit-learn asks for the parameter."""
        texts, state = self._set(), self._known
        if state is not None and state.solution is not None and self._is_as_asked(state.solution):
            texts |= state.solution.headline
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in texts.items())})"

    def _repr_html_(self) -> str:
        """A table for notebooks: the parameters that were set, and the results."""
        rows, state = self._set(), self._known
        if state is None:
            rows["state"] = "has seen no images"
        elif state.solution is None:
            rows["state"] = "has images, but no result yet"
        elif self._is_as_asked(state.solution):
            rows |= dict(state.solution.rows())
        else:
            rows["state"] = "parameters were set after calibration"
        return html_table(type(self).__name__, list(rows.items()))

    def _is_as_asked(self, solution: S) -> bool:
        """Whether the parameters are those that a solution was found for."""
        try:
            now = self._configuration()
        except (TypeError, ValueError):
            return False
        return not any(self._stale(kind, solution.configuration, now) for kind in ("images", "result"))


def _brief(value: Any) -> str:
    """A value as text, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def shown_value(value: Any) -> str:
    """A resolved parameter as text."""
    return repr(float(value) if isinstance(value, Fraction) else value)


def warn_skipped(n_skipped: int, n_seen: int, units: Units, words: str, hint: str = "") -> None:
    """Says that images were left out; `words` say why of ``{}``, the images, and a hint what to do."""
    if n_skipped:
        why = words.format(f"{n_skipped} of {plural(n_seen, 'image')}")
        n = plural(units.n, "group") if units.grouped else units.n
        they_are = "it is" if n_skipped == 1 else "they are"
        warn_caller(f"{why}: {they_are} left out, n = {n}{hint}", DroppedImagesWarning)
