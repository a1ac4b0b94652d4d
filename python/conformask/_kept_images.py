"""The common part of calibrators that keep a few numbers of each image: another alpha or method needs no maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from conformask._calibrator import Calibrator, State, shown_value
from conformask._foreground import named
from conformask.exceptions import InfeasibleRiskError

if TYPE_CHECKING:
    from typing import Self

    from conformask._origin import Origin
    from conformask._units import OnEmpty, Units
    from conformask.control import Method

__all__ = ["KeepingCalibrator", "solution_rows"]


class _Kept(Protocol):
    """What is kept of images."""

    @property
    def configuration(self) -> Any:
        """The configuration with which they were read."""

    def __len__(self) -> int: ...

    def merge(self, other: Self) -> Self:
        """The images of both."""

    def units(self, on_empty: OnEmpty) -> Units:
        """The units that count."""

    def warn_of_repeats(self, n_before: int = 0) -> None:
        """Warns of images that came twice; with `n_before`, of later images that are among the first so many."""

    def warn_of_labels(self) -> None:
        """Says whether labels hardly belong to predictions."""


class _Solution(Protocol):
    """What calibration found."""

    @property
    def configuration(self) -> Any:
        """The configuration for which it was found."""

    @property
    def headline(self) -> dict[str, str]:
        """Names and values that are shown beside the parameters."""

    @property
    def risk(self) -> float:
        """The empirical risk."""

    @property
    def corrected_risk(self) -> float:
        """What is at most alpha."""

    @property
    def n_images(self) -> int:
        """Number of images or groups that count."""

    @property
    def n_skipped(self) -> int:
        """Number of images left out."""

    @property
    def n_eff(self) -> float:
        """Their effective number."""

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""

    def rows(self) -> list[tuple[str, str]]:
        """Names and values to display."""


C = TypeVar("C")
K = TypeVar("K", bound=_Kept)
S = TypeVar("S", bound=_Solution)


def solution_rows(solution: Any, headline: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Names and values of what calibration found, for people."""
    configuration, skipped = solution.configuration, f" ({solution.n_skipped} skipped)"
    classes = configuration.classes
    n_images = f"{solution.n_images}{' groups' if solution.grouped else ''}"
    return [
        ("alpha", f"{float(configuration.alpha):g}"),
        ("method", f"{configuration.method!r}"),
        *([] if classes is None else [("foreground", f"class {named(classes)}")]),
        *headline,
        ("risk_", f"{solution.risk:.4f}"),
        ("corrected_risk_", f"{solution.corrected_risk:.4f}"),
        ("n_images_", n_images + (skipped if solution.n_skipped else "")),
    ]


class KeepingCalibrator(Calibrator[C, K, S], Generic[C, K, S]):
    """A calibrator that keeps what it needs of its images, of one class against the rest."""

    # The parameters with which images are read: those of merged calibrators must agree.
    _ALIKE: ClassVar[tuple[str, ...]]

    @staticmethod
    @abstractmethod
    def _as_told(configuration: Any, known: Any) -> Any:
        """A configuration with the further arguments of `fit` that belong to it, taken from a known one."""

    def _fit_kept(self, kept: K, configuration: C, *, told_of_repeats: bool = False) -> Self:
        """Calibrates on images. They are kept even if there are too few of them."""
        try:
            solution = self._solve(kept, configuration)
        except InfeasibleRiskError:
            self._update(lambda _: State(kept))
            kept.warn_of_labels()  # wrong labels may be the reason
            raise
        self._update(lambda _: State(kept, solution))
        if not told_of_repeats:
            kept.warn_of_repeats()
        self._warn(kept, solution)
        return self

    def _configuration_before(self, configuration: C, classes: Any) -> Any:
        """The configuration of the earlier images, or None; refuses `classes` that differ from the earlier ones."""
        if not self.__sklearn_is_fitted__():
            return None
        before = self._kept_of(self._fitted()).configuration
        here: Any = configuration
        if classes is not None and here.classes != before.classes:
            raise ValueError(f"classes was {named(before.classes)} before, and is {named(here.classes)} now")
        return before

    def _merge(self, other: Any) -> Self:
        """Adds the images of another calibrator of this class, if they were looked at as here."""
        self._refuse_to_merge(other)
        configuration, state = self._configuration(), other._fitted()
        theirs: K = other._kept_of(state)
        for name in self._ALIKE:
            here, there = getattr(configuration, name), getattr(theirs.configuration, name)
            if here != there:
                raise ValueError(f"{name} differs: {shown_value(here)} here, {shown_value(there)} there")
        self._add(theirs, configuration, state.origin)
        return self

    def _refuse_others(self, before: K, added: K) -> None:
        """Refuses images that cannot join those before."""
        here, there = before.configuration.classes, added.configuration.classes
        if here != there:
            raise ValueError(f"classes differ: {named(here)} here, {named(there)} there")

    def _add(self, added: K, configuration: C, origin: Origin | None = None) -> None:
        """Adds images, if all of them can be counted. Results are computed again when they are asked for."""
        asked: Any = configuration

        def add(state: State[K, S] | None) -> State[K, S]:
            merged = added
            if state is not None:
                before = self._kept_of(state)
                self._check_images(before.configuration, configuration)
                self._refuse_others(before, added)
                merged = before.merge(added)
                merged.warn_of_repeats(len(before))
            asked.method.check_units(merged.units(asked.on_empty))
            return State(merged, origin=self._origin_with(state, origin))

        self._update(add)

    def _how_to_fit(self) -> str:
        return "call fit or partial_fit first"

    def _kept_of(self, state: State[K, S]) -> K:
        if state.kept is None:
            raise ValueError(
                "nothing was kept of the images: the calibrator was loaded from a file, or has seen none; "
                "fit again"
            )
        return state.kept

    def _settled(self) -> tuple[C, State[K, S]]:
        state = self._fitted()
        if state.kept is not None:
            self._check_images(state.kept.configuration, self._configuration())
        configuration, settled = super()._settled()
        assert settled.solution is not None
        found: C = self._as_told(configuration, settled.solution.configuration)
        return found, settled

    def recalibrate(self, alpha: float | None = None, method: Method | str | None = None) -> Self:
        """A new fitted calibrator with another alpha or method, without the maps, in milliseconds.

        Parameters
        ----------
        alpha, method
            The new parameters; None keeps the present one.

        Returns
        -------
        calibrator

        Raises
        ------
        InfeasibleRiskError
            If there are too few images, or too many on which no mask is large enough.
        ValueError
            If a parameter is out of range, or the calibrator was loaded from a file, which holds no images.

        Notes
        -----
        The guarantee holds for a choice that was made before looking at the calibration labels.
        """
        changes = {"alpha": alpha, "method": method}
        parameters = self.get_params(deep=False)
        parameters.update({name: value for name, value in changes.items() if value is not None})
        state = self._fitted()
        kept = self._kept_of(state)
        self._check_images(kept.configuration, self._configuration())
        fresh = type(self)(**parameters)
        asked: C = self._as_told(fresh._configuration(), kept.configuration)
        kept = replace(kept, configuration=asked)  # type: ignore[type-var]  # what is kept is a dataclass
        solution = fresh._solve(kept, asked)
        fresh._update(lambda _: State(kept, solution, state.origin))
        fresh._warn(kept, solution)
        return fresh

    @property
    def risk_(self) -> float:
        """The empirical risk of the calibration images."""
        return self._current()[1].risk

    @property
    def corrected_risk_(self) -> float:
        """``(n * risk_ + 1) / (n + 1)``, or with PAC and RCPS an upper confidence limit; at most alpha."""
        return self._current()[1].corrected_risk

    @property
    def n_images_(self) -> int:
        """Number of images (or groups) that count."""
        return self._current()[1].n_images

    @property
    def n_skipped_(self) -> int:
        """Number of images left out because they have no pixel that the loss looks at."""
        return self._current()[1].n_skipped

    @property
    def n_eff_(self) -> float:
        r"""The effective number of images, :math:`(\sum_i w_i)^2 / \sum_i w_i^2`; without weights ``n_images_``."""
        return self._current()[1].n_eff

    @property
    def classes_(self) -> tuple[int, ...] | None:
        """The classes that are the foreground, if :meth:`fit` was told; else None."""
        found: tuple[int, ...] | None = self._current()[1].configuration.classes
        return found

    # Files

    def save(self, path: str | Path) -> None:
        """Writes configuration and results to a JSON file; what was kept of the images is not in it.

        Parameters
        ----------
        path : path
            The file.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        """
        self._save(path)
