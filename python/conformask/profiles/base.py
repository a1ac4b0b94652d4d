"""The common part of exact and binned profiles: losses and alphas, merges, files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import numpy as np

from conformask import _core
from conformask._documents import write_whole
from conformask._exact import check_alpha, check_lambda
from conformask._tables import html_table
from conformask._text import shown
from conformask._units import OnEmpty, Units
from conformask.control import Method, as_method
from conformask.losses import Loss, LossLike, as_loss
from conformask.profiles.archive import Archive, write_arrays
from conformask.profiles.repeats import warn_of_repeats
from conformask.scores import ConformityScore

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from conformask._agreement import Start

__all__ = ["Profiles", "read_archive"]

T = TypeVar("T")

# Version 1 has names of groups as an array of strings, which loses NUL at their ends. Version 2 has no counts of
# classes at lambdas, no strata, and weights up to 1.
FORMAT_VERSION = 3
MOST_CLASSES = 2**16 - 1

_MOST_POINTS = 10**9  # points of a curve


class Profiles(ABC):
    """The common part of exact and binned profiles: they calibrate for losses and alphas, and they can be merged."""

    conformity_score: ConformityScore
    exact: bool

    @property
    @abstractmethod
    def n_classes(self) -> int:
        """The number of classes K."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _rows(self) -> list[tuple[str, str]]:
        """Names and values to display, besides those that both have."""

    def _repr_html_(self) -> str:
        rows = [("images", f"{len(self)}"), ("K", f"{self.n_classes}"), ("score", f"{self.conformity_score}")]
        return html_table(type(self).__name__, rows + self._rows())

    def merge(self, other: Self) -> Self:
        """The profiles of the images of both, those of `other` last.

        Parameters
        ----------
        other : ScoreProfiles or BinnedProfiles, as this is
            Profiles made by the same score, for the same K; binned ones for the same losses.

        Returns
        -------
        ScoreProfiles or BinnedProfiles, as this is

        Raises
        ------
        TypeError, ValueError
            If `other` is of another class or the same object; if K, the scores or the losses differ; or if only one has
            groups or weights.

        Warns
        -----
        DuplicateImagesWarning
            If `other` has images that were given here, too.
        """
        if other is self:
            raise ValueError("profiles cannot be merged with themselves: every image would count twice")
        merged = self._joined([self, other])
        pairs = _core.repeats_between(self._hashes(), other._hashes())
        merged._warn_of([(first, len(self) + again) for first, again in pairs])
        return merged

    def _warn_of_repeats(self) -> None:
        """Warns of images that come twice."""
        self._warn_of(_core.repeats_within(self._hashes()))

    def _warn_of(self, pairs: list[tuple[int, int]]) -> None:
        counted = [pair for pair in pairs if self._count_twice(*pair)]
        warn_of_repeats(counted, len(self), named=len(self._hashes()) == len(self))

    def _count_twice(self, first: int, again: int) -> bool:
        """Whether two images that are the same count as two."""
        return True

    def lambda_hat(
        self,
        loss: LossLike,
        alpha: float,
        *,
        method: Method | str = "crc",
        on_empty: OnEmpty = "skip",
        test_weight: float | None = None,
    ) -> float:
        r"""The smallest lambda that controls the risk: by default the smallest with a corrected risk of at most alpha.

        .. math:: \hat\lambda = \inf \Big\{ \lambda : \frac{\sum_i L_i(\lambda) + 1}{n + 1} \le \alpha \Big\}

        It is exact, without a grid or a tolerance; with binned profiles it may be a little larger (see
        :class:`BinnedProfiles`). It takes a few milliseconds, from the profiles alone. ``RCPS(delta, bound="wsr")`` and
        LTT try the lambdas of a fixed grid.

        Parameters
        ----------
        loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function
            The loss.
        alpha : float in (0, 1)
            The risk level.
        method : CRC, PAC, RCPS, LTT or "crc", default="crc"
            How the risk is controlled.
        on_empty : {"skip", "raise", "zero_loss"}, default="skip"
            What to do with images on which the loss is undefined.
        test_weight : float >= 0 or None, default=None
            Under covariate shift: the weight of the new image, from the same density ratio as the ``sample_weight`` of
            the calibration images (see :class:`~conformask.ConformalRiskCalibrator`). None is 1; it is allowed if the
            weights of the calibration images are at most 1.

        Returns
        -------
        float

        Raises
        ------
        InfeasibleRiskError
            If there are fewer images (groups; summed weights) than the method needs: ``ceil(1 / alpha) - 1`` for CRC.
        ValueError
            If a parameter is out of range.

        See Also
        --------
        risk : Computes the empirical risk at a lambda.
        risk_curve : Computes the empirical risk at all lambdas.

        References
        ----------
        Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814, theorem 1.
        """
        loss, units = as_loss(loss), self._units(as_loss(loss), on_empty)
        if test_weight is not None:
            units = units.beside(test_weight, "test_weight")
        return self._controlled(loss, alpha, as_method(method), units)

    def _controlled(self, loss: Loss, alpha: float | Fraction, method: Method, units: Units) -> float:
        method.check_loss(loss)
        level = check_alpha(alpha)
        lam = method.lambda_hat(self, loss, level, units)
        if lam is None:
            raise method.infeasible(units, level)
        return lam

    def risk(self, loss: LossLike, lam: float, *, on_empty: OnEmpty = "skip") -> float:
        """The empirical risk at lambda: the mean of the losses; binned profiles give an upper bound.

        Parameters
        ----------
        loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function
            The loss.
        lam : float
            Lambda.
        on_empty : {"skip", "raise", "zero_loss"}, default="skip"
            What to do with images on which the loss is undefined.

        Returns
        -------
        float
            In [0, 1]; NaN if no image counts.
        """
        return self._risk(as_loss(loss), check_lambda(lam), self._units(as_loss(loss), on_empty))

    @abstractmethod
    def risk_curve(
        self, loss: LossLike, *, at: float | None = None, on_empty: OnEmpty = "skip", n_points: int = 1000
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The empirical risk as a function of lambda."""

    @staticmethod
    def _check_points(n_points: object) -> int:
        if isinstance(n_points, bool) or not isinstance(n_points, int | np.integer):
            raise TypeError(f"n_points must be an int, got {shown(n_points)}")
        if not 1 <= n_points <= _MOST_POINTS:
            raise ValueError(f"n_points must be from 1 to {_MOST_POINTS}, got {shown(n_points)}")
        return int(n_points)

    def save(self, path: str | Path | BinaryIO) -> None:
        """Writes the profiles to an ``.npz`` file, without pickle.

        Parameters
        ----------
        path : path or binary file
            The file.
        """
        with write_whole(Path(path)) if isinstance(path, str | Path) else nullcontext(path) as file:
            write_arrays(file, {"format_version": np.int64(FORMAT_VERSION), **self._to_arrays()})

    @classmethod
    def load(cls, path: str | Path | BinaryIO) -> Self:
        """Reads what :meth:`save` wrote.

        Parameters
        ----------
        path : path or binary file
            The file.

        Returns
        -------
        ScoreProfiles or BinnedProfiles, as the class is

        Raises
        ------
        ValueError
            If the file is damaged, foreign, of the other kind, or of a newer version.
        """
        return read_archive(path, cls._from_archive)

    @abstractmethod
    def _to_arrays(self) -> dict[str, Any]:
        """The arrays that are saved."""

    @classmethod
    @abstractmethod
    def _from_archive(cls, archive: Archive) -> Self:
        """The inverse, from a file. Any error means that the file holds no such profiles."""

    @abstractmethod
    def _units(self, loss: Loss, on_empty: OnEmpty) -> Units:
        """The units that count for a loss."""

    @abstractmethod
    def _lambda_hat(self, loss: Loss, budget: Fraction, units: Units) -> float | None:
        """The smallest lambda whose summed loss is within the budget; None if the budget is negative."""

    def _passed(
        self, loss: Loss, lambdas: NDArray[np.float64], budget: Fraction, units: Units
    ) -> NDArray[np.bool_]:
        """At which lambdas (m,) the summed loss is within the budget."""
        # A loss that does not rise is within the budget from its exact lambda-hat on.
        least = self._lambda_hat(loss, budget, units) if budget >= 0 else None
        return np.asarray(lambdas >= (np.inf if least is None else least))

    @abstractmethod
    def _unit_losses(self, loss: Loss, lambdas: NDArray[np.float64], units: Units) -> NDArray[np.float64]:
        """The losses (m, L) of units in the order in which they came, if images are known one by one."""

    @abstractmethod
    def _risk(self, loss: Loss, lam: float, units: Units) -> float: ...

    @abstractmethod
    def _start(self) -> Start | None:
        """The counts of the images at lambda = 0; None if they are not known."""

    @abstractmethod
    def _hashes(self) -> NDArray[np.uint64]:
        """Hashes of the images, in order: equal for equal images, 0 for images with too few values to be told apart.

        There are fewer hashes than images if some are not known.
        """

    @classmethod
    @abstractmethod
    def _joined(cls, parts: Sequence[Self]) -> Self:
        """The images of all parts, in order; without warnings of images that come twice."""

    def _check_merge(self, other: object) -> None:
        if type(other) is not type(self):
            raise TypeError(
                f"{type(self).__name__} merge with {type(self).__name__} only, got {type(other).__name__}"
            )
        assert isinstance(other, Profiles)
        if self.conformity_score != other.conformity_score:
            raise ValueError(
                f"profiles by {self.conformity_score} and by {other.conformity_score} cannot be merged"
            )


def read_archive(path: str | Path | BinaryIO, make: Callable[[Archive], T]) -> T:
    """The result of `make` for the arrays in a file of profiles."""
    try:
        with Path(path).open("rb") if isinstance(path, str | Path) else nullcontext(path) as file:
            archive = Archive(file)
            version = archive.whole("format_version", 1, 2**62)
            if version > FORMAT_VERSION:
                raise ValueError(
                    f"format version {version} is newer than {FORMAT_VERSION}; update conformask"
                )
            return make(archive)
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{path} holds no profiles of conformask: {error}") from error
