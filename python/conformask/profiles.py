"""Profiles: all that calibration needs to know of the images. They answer every loss, alpha and split without maps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, TypeVar, overload

import numpy as np

from conformask import _backend, _core
from conformask._arrays import check_ignore_index, check_inputs, clean_bools
from conformask._documents import write_whole
from conformask._exact import as_fraction, check_alpha, check_lambda, exact_mean
from conformask._images import SCORES, Volumes, check_volumes, walk
from conformask._sequences import check_ordered
from conformask.control import Method, as_method
from conformask.exceptions import InfeasibleRiskError
from conformask.losses import Loss, LossLike, as_loss, exact_sum, loss_values
from conformask.scores import (
    ConformityScore,
    ScoreLike,
    as_score,
    lambda_max,
    score_from_json,
    score_to_json,
)

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from conformask.binned import BinnedProfiles

T = TypeVar("T")

__all__ = ["OnEmpty", "ScoreProfiles", "profile"]

OnEmpty = Literal["skip", "raise", "zero_loss"]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Units:
    """Who counts: the images, or groups of them, whose losses are averaged."""

    total: Fraction
    n: int
    n_skipped: int
    name: str = "calibration images"
    n_eff: float = math.nan  # effective number of images

    def __post_init__(self) -> None:
        if math.isnan(self.n_eff):
            object.__setattr__(self, "n_eff", float(self.n))

    @property
    def whole(self) -> bool:
        """Whether each unit is one image, which counts once."""
        return True

    def infeasible(self, alpha: float | Fraction, method: Method) -> InfeasibleRiskError:
        """What to say if no lambda controls the risk."""
        size = self.n if self.total == self.n else float(self.total)
        return InfeasibleRiskError(
            size, float(alpha), method.n_needed(check_alpha(alpha)), self.name, self.n_skipped
        )


@dataclass(frozen=True)
class KnownUnits(Units):
    """And how much each of them counts, where the images are known one by one."""

    counted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    shares: list[Fraction] | None = None  # of each image; None: 1 each

    @property
    def whole(self) -> bool:
        return self.shares is None or all(share in (0, 1) for share in self.shares)

    def mean(self, losses: NDArray[np.float64]) -> float:
        """The mean loss, from exact sums; undefined losses that count are 0."""
        losses = np.nan_to_num(losses, nan=0.0)
        if self.shares is None:
            return exact_mean(losses[self.counted])
        return float(exact_sum(losses, self.shares) / self.total) if self.total else math.nan


def check_on_empty(on_empty: object) -> None:
    """Refuses what is no policy."""
    if on_empty not in ("skip", "raise", "zero_loss"):
        raise ValueError(f"on_empty must be 'skip', 'raise' or 'zero_loss', got {on_empty!r}")


def counted_images(losses: NDArray[np.float64], on_empty: OnEmpty) -> NDArray[np.bool_]:
    """Which images count, by `on_empty`, where the loss may be undefined (NaN)."""
    undefined = np.isnan(losses)
    if on_empty == "raise" and undefined.any():
        index = int(undefined.argmax())
        raise ValueError(f"the loss is undefined on image {index}: it has no labelled pixel that counts")
    check_on_empty(on_empty)
    return ~undefined if on_empty == "skip" else np.ones(len(losses), bool)


def group_mean(values: NDArray[np.float64], groups: Sequence[int | str] | None) -> float:
    """The mean over images of what is not NaN; or with groups the mean over these of the means of their images."""
    if groups is None:
        return exact_mean(values)
    members: dict[int | str, list[float]] = {}
    for group, value in zip(groups, values.tolist(), strict=True):
        members.setdefault(group, []).append(value)
    return exact_mean(np.array([exact_mean(np.array(each)) for each in members.values()]))


class Activation(NamedTuple):
    """An activation ratio that is known to lie between two numbers."""

    lower: float
    upper: float


class Profiles(ABC):
    """What exact and binned profiles have in common: they answer for losses and alphas, and they merge."""

    conformity_score: ConformityScore
    exact: bool

    @property
    @abstractmethod
    def n_classes(self) -> int:
        """K."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def merge(self, other: Any) -> Self:
        """The images of both."""

    def lambda_hat(
        self, loss: LossLike, alpha: float, *, method: Method | str = "crc", on_empty: OnEmpty = "skip"
    ) -> float:
        r"""The smallest lambda that controls the risk: by default, whose corrected empirical risk is at most alpha.

        .. math:: \hat\lambda = \inf \Big\{ \lambda : \frac{\sum_i L_i(\lambda) + 1}{n + 1} \le \alpha \Big\}

        Exact: no grid, no tolerance; binned profiles may give a little more (:class:`BinnedProfiles`). A few
        milliseconds, from the profiles alone.

        Parameters
        ----------
        loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function
            The loss.
        alpha : float in (0, 1)
            The risk level.
        method : CRC, PAC, RCPS or "crc", default="crc"
            How the risk is controlled.
        on_empty : {"skip", "raise", "zero_loss"}, default="skip"
            What becomes of images on which the loss is undefined.

        Returns
        -------
        float

        Raises
        ------
        InfeasibleRiskError
            If there are fewer images (groups; summed weights) than the method needs: ``ceil(1 / alpha) - 1`` for CRC.
        ValueError
            If a parameter is out of range.
        """
        loss = as_loss(loss)
        return self._controlled(loss, alpha, as_method(method), self._units(loss, on_empty))

    def _controlled(self, loss: Loss, alpha: float | Fraction, method: Method, units: Units) -> float:
        method.check_loss(loss)
        lam = self._lambda_hat(loss, method.budget(units, check_alpha(alpha)), units)
        if lam is None:
            raise units.infeasible(alpha, method)
        return lam

    def risk(self, loss: LossLike, lam: float, *, on_empty: OnEmpty = "skip") -> float:
        """The empirical risk at lambda: the mean of the losses; binned profiles know it from above.

        Parameters
        ----------
        loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function
            The loss.
        lam : float
            Lambda.
        on_empty : {"skip", "raise", "zero_loss"}, default="skip"
            What becomes of images on which the loss is undefined.

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

    def save(self, path: str | Path | BinaryIO) -> None:
        """Writes the profiles to an ``.npz`` file, without pickle.

        Parameters
        ----------
        path : path or binary file
            The file.
        """
        with write_whole(Path(path)) if isinstance(path, str | Path) else nullcontext(path) as file:
            np.savez_compressed(file, format_version=np.int64(FORMAT_VERSION), **self._to_arrays())

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
        return read_archive(path, cls._from_arrays)

    @abstractmethod
    def _to_arrays(self) -> dict[str, Any]:
        """All of it."""

    @classmethod
    @abstractmethod
    def _from_arrays(cls, arrays: dict[str, Any]) -> Self:
        """The inverse; whatever it raises says that the arrays are none of ours."""

    @abstractmethod
    def _units(self, loss: Loss, on_empty: OnEmpty) -> Units:
        """Who counts under a loss."""

    @abstractmethod
    def _lambda_hat(self, loss: Loss, budget: Fraction, units: Units) -> float | None:
        """The smallest lambda whose summed loss is within the budget; None if that is negative."""

    @abstractmethod
    def _risk(self, loss: Loss, lam: float, units: Units) -> float: ...

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


class ScoreProfiles(Profiles):
    """The critical values of the labelled pixels of many images.

    Made by :func:`profile`, or found as ``profiles_`` of a fitted :class:`~conformask.ConformalRiskCalibrator`.
    Indexing gives the profiles of some images (an array of indices, a boolean mask or a slice); images are shared, not
    copied, so random splits cost nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(60, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = rng.integers(0, 4, (60, 8, 8))
    >>> profiles = cm.profile(X, y)
    >>> split = rng.permutation(60)
    >>> calibration, test = profiles[split[:30]], profiles[split[30:]]
    >>> lam = calibration.lambda_hat(cm.MiscoverageLoss(), alpha=0.2)
    >>> abs(test.risk("miscoverage", lam) - 0.2) < 0.05
    True
    """

    exact = True

    def __init__(
        self,
        core: _core.ExactProfile,
        conformity_score: ConformityScore,
        groups: Sequence[int | str] | None = None,
        sample_weight: Sequence[float] | None = None,
    ) -> None:
        self._core = core
        self.conformity_score = conformity_score
        self._groups = None if groups is None else list(groups)
        self._sample_weight = None if sample_weight is None else list(sample_weight)

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        return (
            f"<ScoreProfiles of {len(self)} images, K = {self.n_classes}, {self.conformity_score}: "
            f"{self._core.n_values:,} critical values above 0>"
        )

    @property
    def n_classes(self) -> int:
        """K."""
        return self._core.n_classes

    def __getitem__(self, index: Any) -> ScoreProfiles:
        """The profiles of some images."""
        everything = np.arange(len(self))
        if isinstance(index, np.ndarray) and index.dtype == bool:
            index = clean_bools(index)
        # An empty list is an array of floats, which is no index.
        chosen = everything[index] if isinstance(index, slice) or np.size(index) else everything[:0]
        indices = [int(i) for i in np.atleast_1d(chosen)]
        return ScoreProfiles(
            self._core.take(indices),
            self.conformity_score,
            None if self._groups is None else [self._groups[i] for i in indices],
            None if self._sample_weight is None else [self._sample_weight[i] for i in indices],
        )

    def merge(self, other: ScoreProfiles) -> ScoreProfiles:
        """The images of both, those of `other` last.

        Parameters
        ----------
        other : ScoreProfiles
            Profiles made by the same score, for the same K.

        Returns
        -------
        ScoreProfiles

        Raises
        ------
        TypeError, ValueError
            If `other` is something else, or K, the scores, or the presence of groups or weights differ.
        """
        self._check_merge(other)
        if (self._groups is None) != (other._groups is None):
            raise ValueError("groups must be given for all images or for none")
        if self._groups and other._groups and type(self._groups[0]) is not type(other._groups[0]):
            raise ValueError("groups must all be ints or all be strings")
        if (self._sample_weight is None) != (other._sample_weight is None):
            raise ValueError("sample_weight must be given for all images or for none")
        return ScoreProfiles(
            _core.ExactProfile.concatenate([self._core, other._core]),
            self.conformity_score,
            None if self._groups is None else self._groups + (other._groups or []),
            None if self._sample_weight is None else self._sample_weight + (other._sample_weight or []),
        )

    def _risk(self, loss: Loss, lam: float, units: Units) -> float:
        assert isinstance(units, KnownUnits)
        return units.mean(self.losses(loss, lam))

    def _lambda_hat(self, loss: Loss, budget: Fraction, units: Units) -> float | None:
        assert isinstance(units, KnownUnits)
        largest = lambda_max(self.conformity_score, self.n_classes)
        return loss._lambda_hat(self._core, budget, units.shares, largest)

    def losses(self, loss: LossLike, lam: float | ArrayLike) -> NDArray[np.float64]:
        """The loss of each image at one or more lambdas.

        Parameters
        ----------
        loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function
            The loss.
        lam : float or array (L,)
            Lambda.

        Returns
        -------
        float64 array (n,) or (n, L)
            NaN where the loss is undefined.
        """
        lambdas = np.asarray(lam, np.float64)
        if not (lambdas >= 0).all():
            raise ValueError(f"lam must be at least 0, got {lam!r}")
        order = np.argsort(lambdas.ravel(), kind="stable")
        losses = np.empty((len(self), lambdas.size))
        losses[:, order] = as_loss(loss)._of_profile(self._core, np.ascontiguousarray(lambdas.ravel()[order]))
        return losses.reshape((len(self), *lambdas.shape))

    def activation(self, lam: float) -> Activation:
        """The activation ratio at lambda, to within a bracket, without the maps.

        Parameters
        ----------
        lam : float
            Lambda.

        Returns
        -------
        Activation
            ``lower <= activation ratio <= upper``: the mean over images of the mean set size on labelled pixels. The
            cells of the grid are 1/128 of a halving of the probability wide.

        Raises
        ------
        ValueError
            If activations were not counted: ``cm.profile(..., activation=True)`` does.
        """
        bracket = self._core.activation(check_lambda(lam))
        if bracket is None:
            raise ValueError(
                "activations were not counted; make the profiles with cm.profile(..., activation=True)"
            )
        return Activation(*(exact_mean(ends) for ends in bracket))

    def risk_curve(
        self, loss: LossLike, *, at: float | None = None, on_empty: OnEmpty = "skip", n_points: int = 1000
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The empirical risk as a function of lambda.

        Parameters
        ----------
        loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function
            The loss.
        at : float or None, default=None
            A lambda to be among the points.
        on_empty : {"skip", "raise", "zero_loss"}, default="skip"
            What becomes of images on which the loss is undefined.
        n_points : int, default=1000
            About how many of the jumps to return. Every point is exact.

        Returns
        -------
        lambdas : float64 array (m,)
            Ascending, from 0 to ``lambda_max``.
        risks : float64 array (m,)
            The risk from each lambda on, up to the next jump.
        """
        loss = as_loss(loss)
        if n_points < 1:
            raise ValueError(f"n_points must be at least 1, got {n_points}")
        jumps = loss._jumps(self._core, n_points)
        ends = [
            0.0,
            lambda_max(self.conformity_score, self.n_classes),
            *([] if at is None else [check_lambda(at)]),
        ]
        lambdas = np.unique(np.concatenate([jumps, ends]))
        units, losses = self._units(loss, on_empty), self.losses(loss, lambdas)
        return lambdas, np.array([units.mean(column) for column in losses.T])

    def _units(self, loss: Loss, on_empty: OnEmpty) -> KnownUnits:
        """Who counts under a loss."""
        totals = self._core.totals()
        counted = counted_images(loss_values(loss, np.zeros_like(totals), totals), on_empty)
        n_skipped = int((~counted).sum())
        if self._groups is not None:
            sizes: dict[int | str, int] = {}
            for group, counts in zip(self._groups, counted, strict=True):
                if counts:
                    sizes[group] = sizes.get(group, 0) + 1
            shares = [
                Fraction(int(counts), sizes.get(group, 1))
                for group, counts in zip(self._groups, counted, strict=True)
            ]
            total, name = Fraction(len(sizes)), "groups of calibration images"
            return KnownUnits(total, len(sizes), n_skipped, name, counted=counted, shares=shares)
        n = int(counted.sum())
        if self._sample_weight is not None:
            shares = [
                as_fraction(weight, "sample_weight") * int(counts)
                for weight, counts in zip(self._sample_weight, counted, strict=True)
            ]
            total, squares = sum(shares, Fraction()), sum((share**2 for share in shares), Fraction())
            name = "as the summed weight of the calibration images"
            n_eff = float(total**2 / squares) if squares else 0.0
            return KnownUnits(total, n, n_skipped, name, n_eff, counted, shares)
        return KnownUnits(Fraction(n), n, n_skipped, counted=counted)

    def _to_arrays(self) -> dict[str, Any]:
        totals, lengths, values, labels, activations = self._core.to_arrays()
        found: dict[str, Any] = {
            "conformity_score": np.str_(score_to_json(self.conformity_score)),
            "totals": totals,
            "lengths": lengths,
            "values": values,
            "labels": labels,
        }
        if activations is not None:
            found["activations"] = activations
        if self._groups is not None:
            found["groups"] = np.asarray(self._groups)
        if self._sample_weight is not None:
            found["sample_weight"] = np.asarray(self._sample_weight, np.float64)
        return found

    @classmethod
    def _from_arrays(cls, arrays: dict[str, Any]) -> Self:
        if "kind" in arrays:
            raise ValueError("it holds binned profiles: read them with BinnedProfiles.load")
        score = score_from_json(str(arrays["conformity_score"]))
        core = _core.ExactProfile.from_arrays(
            score._kernel(),
            arrays["totals"],
            arrays["lengths"],
            arrays["values"],
            arrays["labels"],
            None if (counts := arrays.get("activations")) is None else counts.astype(np.uint64),
        )
        groups = check_groups(arrays.get("groups"), len(core))
        return cls(core, score, groups, _check_sample_weight(arrays.get("sample_weight"), groups, len(core)))

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = self._core.to_arrays()
        return _rebuild, (self.conformity_score, arrays, self._groups, self._sample_weight)


def _rebuild(score: ConformityScore, arrays: tuple[Any, ...], groups: Any, weights: Any) -> ScoreProfiles:
    return ScoreProfiles(_core.ExactProfile.from_arrays(score._kernel(), *arrays), score, groups, weights)


def read_archive(path: str | Path | BinaryIO, make: Callable[[dict[str, Any]], T]) -> T:
    """What `make` makes of the arrays in a file of profiles."""
    try:
        with (
            Path(path).open("rb") if isinstance(path, str | Path) else nullcontext(path) as file,
            np.load(file, allow_pickle=False) as archive,
        ):
            arrays = {name: archive[name] for name in archive.files}
        version = int(arrays["format_version"])
        if version > FORMAT_VERSION:
            raise ValueError(f"format version {version} is newer than {FORMAT_VERSION}; update conformask")
        return make(arrays)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path} holds no profiles of conformask: {error}") from error


_IMAGES_AT_ONCE = 16  # that are profiled exactly before they go into bins


@overload
def profile(
    X: Any,
    y: Any = ...,
    conformity_score: ScoreLike = ...,
    *,
    inputs: str = ...,
    ignore_index: int | None = ...,
    groups: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    activation: bool = ...,
    collect: None = ...,
    volumes: Volumes = ...,
    progress: bool | str = ...,
) -> ScoreProfiles: ...


@overload
def profile(
    X: Any,
    y: Any = ...,
    conformity_score: ScoreLike = ...,
    *,
    inputs: str = ...,
    ignore_index: int | None = ...,
    groups: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    activation: bool = ...,
    collect: Iterable[LossLike] | None,
    volumes: Volumes = ...,
    progress: bool | str = ...,
) -> ScoreProfiles | BinnedProfiles: ...


def profile(
    X: Any,
    y: Any = None,
    conformity_score: ScoreLike = "lac",
    *,
    inputs: str = "probabilities",
    ignore_index: int | None = 255,
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    activation: bool = False,
    collect: Iterable[LossLike] | None = None,
    volumes: Volumes = "auto",
    progress: bool | str = "auto",
) -> ScoreProfiles | BinnedProfiles:
    """Profiles images in one pass over their maps.

    Parameters
    ----------
    X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64; or a list of (K, H, W); or an iterable
        Softmax probabilities, or what `inputs` says. Without `y`: an iterable of ``(scores, labels)`` pairs, one image
        each.
    y : integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
        Labels.
    conformity_score : LAC, APS, RAPS, SACP, their names in lower case or a callable, default="lac"
        The score (a callable: see :class:`~conformask.ConformalRiskCalibrator`).
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the scores are: see :class:`~conformask.ConformalRiskCalibrator`.
    ignore_index : int or None, default=255
        The label of void pixels; an error if it is a class.
    groups : sequence of n ints or strings, or None, default=None
        What each image belongs to (patient, sequence): a group counts once, with the mean of its losses.
    sample_weight : sequence of n floats in [0, 1], or None, default=None
        How relevant each image is to those to come, fixed beforehand (see
        :class:`~conformask.ConformalRiskCalibrator`).
    activation : bool, default=False
        Whether to count all classes' critical values in the same pass (40 kB per image, and about five times the time),
        so that :meth:`ScoreProfiles.activation` works.
    collect : sequence of losses, or None, default=None
        None keeps exact profiles. With losses, profiles are binned: a few MB however many images, for these losses
        alone (see :class:`BinnedProfiles`).
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (see :class:`~conformask.ConformalRiskCalibrator`).
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over images.

    Returns
    -------
    ScoreProfiles, or BinnedProfiles if `collect` is given
        Exact: 6 bytes per mispredicted pixel (float64 input: 10) and 8 K bytes per image.

    Raises
    ------
    TypeError, ValueError
        If the input is not as described; the message names argument, image and value.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.full((9, 2, 4, 4), 0.5)
    >>> y = np.ones((9, 4, 4), int)  # ties go to class 0: class 1 enters at 0.5
    >>> cm.profile(X, y).lambda_hat("miscoverage", alpha=0.1)
    0.5
    """
    score, index = as_score(conformity_score), check_ignore_index(ignore_index)
    check_inputs(inputs)
    check_volumes(volumes)

    def exact_parts(at_once: int | None) -> Iterator[_core.ExactProfile]:
        n_classes = None
        for scores, labels, first in walk(X, y, SCORES, progress, at_once=at_once, volumes=volumes):
            if n_classes is not None and n_classes != scores.shape[1]:
                raise ValueError(
                    f"X has K = {scores.shape[1]} classes in image {first}, but K = {n_classes} before"
                )
            part = _backend.profile(scores, labels, score, inputs, index, bool(activation), first)
            n_classes = part.n_classes
            yield part

    if collect is not None:
        return _binned(score, collect, groups, sample_weight, activation, exact_parts(_IMAGES_AT_ONCE))
    parts = list(exact_parts(None))
    if not parts:
        raise ValueError("X is empty: it holds no image")
    core = parts[0] if len(parts) == 1 else _core.ExactProfile.concatenate(parts)
    return ScoreProfiles(
        core, score, check_groups(groups, len(core)), _check_sample_weight(sample_weight, groups, len(core))
    )


def _binned(
    score: ConformityScore,
    collect: Iterable[LossLike],
    groups: object,
    sample_weight: object,
    activation: object,
    parts: Iterator[_core.ExactProfile],
) -> BinnedProfiles:
    from conformask.binned import BinnedProfiles, check_collect

    losses = check_collect(collect)
    if not losses:
        raise ValueError("collect must name at least one loss")
    for name, value in {
        "groups": groups,
        "sample_weight": sample_weight,
        "activation": activation or None,
    }.items():
        if value is not None:
            raise ValueError(f"binned profiles do not know single images: {name} needs profile='exact'")
    binned = None
    for part in parts:
        if binned is None:
            binned = BinnedProfiles._empty(score, part.n_classes, losses)
        binned._core.add(part)
    if binned is None:
        raise ValueError("X is empty: it holds no image")
    return binned


def check_groups(groups: Any, n: int) -> list[int | str] | None:
    """What each of n images belongs to, as ints or as strings."""
    if groups is None:
        return None
    check_ordered(groups, "groups")
    array = np.asarray(groups)
    mixed = array.dtype.kind == "U" and not all(isinstance(group, str) for group in groups)
    if array.shape != (n,) or array.dtype.kind not in "iuU" or mixed:
        raise ValueError(
            f"groups must hold an int or string for each of {n} images, got {array.dtype} {array.shape}"
        )
    values: list[int | str] = array.tolist()
    return values


def _check_sample_weight(sample_weight: Any, groups: Any, n: int) -> list[float] | None:
    if sample_weight is None:
        return None
    if groups is not None:
        raise ValueError("groups and sample_weight cannot be combined")
    check_ordered(sample_weight, "sample_weight")
    array = np.asarray(sample_weight, np.float64)
    if array.shape != (n,):
        raise ValueError(f"sample_weight must hold a number for each of {n} images, got shape {array.shape}")
    bad = ~((array >= 0) & (array <= 1))
    if bad.any():
        index = int(bad.argmax())
        raise ValueError(f"sample_weight must be in [0, 1], got {array[index]} for image {index}")
    values: list[float] = array.tolist()
    return values
