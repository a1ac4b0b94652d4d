"""Exact profiles: all critical values above 0, for every loss, alpha and split."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from conformask import _core
from conformask._arrays import clean_bools
from conformask._exact import check_lambda, exact_mean
from conformask._image_models import Offsets
from conformask._text import plural, shown
from conformask._units import (
    KnownUnits,
    OnEmpty,
    Units,
    check_groups,
    check_sample_weight,
    count_twice,
    counted_images,
    joined_names,
    joined_units,
    known_units,
)
from conformask.losses import CountedLoss, Loss, LossLike, as_loss, parted
from conformask.profiles.archive import Archive
from conformask.profiles.base import MOST_CLASSES, Profiles
from conformask.scores import ConformityScore, lambda_max, score_from_json, score_to_json

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from conformask._agreement import Start

__all__ = ["Activation", "ScoreProfiles"]

_MOST_NAME = 1 << 16  # the most bytes for each image that the names of groups may take in a file


class Activation(NamedTuple):
    """An activation ratio that is known to lie between two numbers.

    Attributes
    ----------
    lower, upper : float in [0, K]
        The two numbers. They are equal where the ratio is known exactly.

    See Also
    --------
    ScoreProfiles.activation : Gives it.
    """

    lower: float
    upper: float


class ScoreProfiles(Profiles):
    """The critical values of the labelled pixels of many images.

    :func:`profile` makes them, and ``profiles_`` of a fitted :class:`~conformask.ConformalRiskCalibrator` holds them.
    Indexing (with an array of indices, a boolean mask or a slice) gives the profiles of some images. Images are shared,
    not copied, so that random splits cost nothing.

    Attributes
    ----------
    conformity_score : LAC, APS, RAPS or SACP, or a callable
        The score.
    n_classes : int
        The number of classes K.
    exact : bool
        True: losses, risks and lambda-hat are exact.

    See Also
    --------
    BinnedProfiles : Profiles of a few MB, however many images there are, for losses that are named beforehand.
    profile : Makes profiles of images.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(60, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (X.cumsum(axis=1) < rng.random((60, 1, 8, 8))).sum(axis=1)  # labels drawn from the probabilities
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
        offsets: Offsets | None = None,
        strata: Sequence[int | str] | None = None,
    ) -> None:
        self._core = core
        self.conformity_score = conformity_score
        self._groups = None if groups is None else list(groups)
        self._sample_weight = None if sample_weight is None else list(sample_weight)
        self._offsets = offsets  # each image's own lambda before it is corrected
        self._strata = None if strata is None else list(strata)

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        return (
            f"<ScoreProfiles of {plural(len(self), 'image')}, K = {self.n_classes}, {self.conformity_score}: "
            f"{self._core.n_values:,} critical values above 0>"
        )

    def _rows(self) -> list[tuple[str, str]]:
        groups = [] if self._groups is None else [("groups", f"{len(set(self._groups))}")]
        weights = [] if self._sample_weight is None else [("summed weights", f"{sum(self._sample_weight):g}")]
        strata = [] if self._strata is None else [("strata", f"{len(set(self._strata))}")]
        return [*groups, *strata, *weights, ("critical values above 0", f"{self._core.n_values:,}")]

    @property
    def n_classes(self) -> int:
        """The number of classes K."""
        return self._core.n_classes

    def __getitem__(self, index: Any) -> ScoreProfiles:
        """The profiles of some images."""
        everything = np.arange(len(self))
        if isinstance(index, np.ndarray) and index.dtype == bool:
            index = clean_bools(index)
        # NumPy makes an empty list an array of floats, which is no index.
        chosen = everything[index] if isinstance(index, slice) or np.size(index) else everything[:0]
        indices = [int(i) for i in np.atleast_1d(chosen)]
        return ScoreProfiles(
            self._core.take(indices),
            self.conformity_score,
            None if self._groups is None else [self._groups[i] for i in indices],
            None if self._sample_weight is None else [self._sample_weight[i] for i in indices],
            None if self._offsets is None else self._offsets.take(indices),
            None if self._strata is None else [self._strata[i] for i in indices],
        )

    @classmethod
    def _joined(cls, parts: Sequence[Self]) -> Self:
        first, *others = parts
        for part in others:
            first._check_merge(part)
        groups, weights = joined_units([(part._groups, part._sample_weight) for part in parts])
        offsets = Offsets.joined([part._offsets for part in parts])
        strata = joined_names([part._strata for part in parts], "strata")
        core = _core.ExactProfile.concatenate([part._core for part in parts])
        return cls(core, first.conformity_score, groups, weights, offsets, strata)

    def _start(self) -> Start:
        return self._core.start()

    def _hashes(self) -> NDArray[np.uint64]:
        return self._core.hashes()

    def _count_twice(self, first: int, again: int) -> bool:
        return count_twice(self._groups, self._sample_weight, first, again)

    def _counting(self, groups: object, sample_weight: object = None, strata: object = None) -> ScoreProfiles:
        """The same images, in groups, with weights or in strata."""
        names = check_groups(groups, len(self))
        weights = check_sample_weight(sample_weight, names, len(self))
        kinds = self._strata if strata is None else check_groups(strata, len(self), "strata")
        return ScoreProfiles(self._core, self.conformity_score, names, weights, self._offsets, kinds)

    def _with_offsets(self, offsets: Offsets) -> ScoreProfiles:
        """The same images with lambdas of their own."""
        return ScoreProfiles(
            self._core, self.conformity_score, self._groups, self._sample_weight, offsets, self._strata
        )

    def _of_classes(self, parts: Sequence[Sequence[int]]) -> Iterator[ScoreProfiles]:
        """The same images as if only the pixels of some classes were labelled: for each of disjoint parts."""
        for core in parted(self._core, parts):
            yield ScoreProfiles(core, self.conformity_score, self._groups, self._sample_weight)

    def _correction(self, loss: Loss, budget: Fraction, units: Units) -> float | None:
        """The number to add to the lambdas of images; None if the budget is negative."""
        assert isinstance(units, KnownUnits)
        assert self._offsets is not None
        return loss._correction(self._core, budget, self._offsets.values, units.shares)

    def _risk_at(self, loss: Loss, lambdas: NDArray[np.float64], units: Units) -> float:
        """The empirical risk if each image has its own lambda (n,)."""
        assert isinstance(units, KnownUnits)
        each = [loss._of_profile(self._core.take([i]), lambdas[i : i + 1])[0, 0] for i in range(len(self))]
        return units.mean(np.array(each))

    def _risk(self, loss: Loss, lam: float, units: Units) -> float:
        assert isinstance(units, KnownUnits)
        return units.mean(self.losses(loss, lam))

    def _passed(
        self, loss: Loss, lambdas: NDArray[np.float64], budget: Fraction, units: Units
    ) -> NDArray[np.bool_]:
        if not isinstance(loss, CountedLoss):
            return super()._passed(loss, lambdas, budget, units)
        assert isinstance(units, KnownUnits)
        order = np.argsort(lambdas)
        found = np.empty(len(lambdas), bool)
        found[order] = loss._fits(self._core, lambdas[order], budget, units.shares)
        return found

    def _unit_losses(self, loss: Loss, lambdas: NDArray[np.float64], units: Units) -> NDArray[np.float64]:
        assert isinstance(units, KnownUnits)
        return units.of_units(self.losses(loss, lambdas))

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
            raise ValueError(f"lam must be at least 0, got {shown(lam)}")
        order = np.argsort(lambdas.ravel(), kind="stable")
        losses = as_loss(loss)._of_profile(self._core, np.ascontiguousarray(lambdas.ravel()[order]))
        if (np.diff(order) < 0).any():
            for row in losses:  # one by one: a row is short
                row[order] = row.copy()
        return losses.reshape((len(self), *lambdas.shape))

    def activation(self, lam: float) -> Activation:
        """Lower and upper bound of the activation ratio at lambda, without the maps.

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
            If activations were not counted: ``cm.profile(..., activation=True)`` counts them.
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
            A lambda that is included in the points.
        on_empty : {"skip", "raise", "zero_loss"}, default="skip"
            What to do with images on which the loss is undefined.
        n_points : int from 1 to 1e9, default=1000
            The approximate number of jumps to return. Every point is exact.

        Returns
        -------
        lambdas : float64 array (m,)
            Ascending, from 0 to ``lambda_max``.
        risks : float64 array (m,)
            The risk from each lambda on, up to the next jump. Losses that may rise with lambda are known at the lambdas
            of the grid alone.
        """
        loss = as_loss(loss)
        jumps = loss._jumps(self._core, self._check_points(n_points))
        ends = [
            0.0,
            lambda_max(self.conformity_score, self.n_classes),
            *([] if at is None else [check_lambda(at)]),
        ]
        ends = ends if loss._is_monotone else []
        lambdas = np.unique(np.concatenate([jumps, ends]))
        units = self._units(loss, on_empty)
        return lambdas, units.means(
            len(lambdas),
            lambda total: loss._sums_of_profile(self._core, lambdas, units.shares, total),
        )

    def _units(self, loss: Loss, on_empty: OnEmpty) -> KnownUnits:
        """Who counts under a loss."""
        undefined = np.where(loss._is_defined(self._core.totals()), 0.0, np.nan)
        counted = counted_images(undefined, on_empty)
        return known_units(counted, self._groups, self._sample_weight)

    def _to_arrays(self) -> dict[str, Any]:
        totals, lengths, values, labels, activations, grid, held = self._core.to_arrays()
        found: dict[str, Any] = {
            "conformity_score": np.str_(score_to_json(self.conformity_score)),
            "totals": totals,
            "lengths": lengths,
            "values": values,
            "labels": labels,
        }
        if activations is not None:
            found["activations"] = activations
        if grid is not None and held is not None:
            found |= {"grid": grid, "held": held}
        for name, names in {"groups": self._groups, "strata": self._strata}.items():
            if names is not None:
                # As JSON, because an array of strings loses NUL at their ends.
                is_text = not _are_ints(names)
                found[name] = np.str_(json.dumps(names)) if is_text else np.array(names, np.int64)
        if self._sample_weight is not None:
            found["sample_weight"] = np.asarray(self._sample_weight, np.float64)
        return found

    @classmethod
    def _from_archive(cls, archive: Archive) -> Self:
        if "kind" in archive:
            raise ValueError("it holds binned profiles: read them with BinnedProfiles.load")
        score = score_from_json(archive.text("conformity_score"))
        (n, n_classes), (n_values,) = archive.shape("totals", 2), archive.shape("values", 1)
        if not 2 <= n_classes <= MOST_CLASSES:
            raise ValueError(f"K = {n_classes}")
        archive.check("totals", np.uint64, (n, n_classes))
        archive.check("lengths", np.uint64, (n,))
        archive.check("values", (np.float32, np.float64), (n_values,))
        archive.check("labels", np.uint16, (n_values,))
        if "activations" in archive:
            archive.check("activations", np.uint64, (n, _core.ACTIVATION_CELLS + 1))
        if "grid" in archive:
            (n_lambdas,) = archive.shape("grid", 1)
            archive.check("grid", np.float64, (n_lambdas,))
            archive.check("held", np.uint64, (n, n_classes, n_lambdas))
        if "sample_weight" in archive:
            archive.check("sample_weight", np.float64, (n,))
        texts: dict[str, list[str]] = {}
        for name in ("groups", "strata"):
            if name in archive and archive.is_text(name):
                texts[name] = json.loads(archive.text(name, most_bytes=_MOST_NAME * (n + 1)))
            elif name in archive:
                archive.check(name, (np.int64, np.str_), (n,))
        arrays = archive.arrays()
        core = _core.ExactProfile.from_arrays(
            score._kernel(),
            arrays["totals"],
            arrays["lengths"],
            arrays["values"],
            arrays["labels"],
            arrays.get("activations"),
            arrays.get("grid"),
            arrays.get("held"),
        )
        groups, strata = (
            check_groups(texts.get(name, arrays.get(name)), n, name) for name in ("groups", "strata")
        )
        weights = check_sample_weight(arrays.get("sample_weight"), groups, n)
        return cls(core, score, groups, weights, strata=strata)

    def __reduce__(self) -> tuple[Any, ...]:
        arrays = self._core.to_arrays()
        images = (self._groups, self._sample_weight, self._offsets, self._strata)
        return _rebuild, (self.conformity_score, arrays, *images)


def _are_ints(groups: list[int | str]) -> bool:
    return bool(groups) and isinstance(groups[0], int)


def _rebuild(score: ConformityScore, arrays: tuple[Any, ...], *others: Any) -> ScoreProfiles:
    return ScoreProfiles(_core.ExactProfile.from_arrays(score._kernel(), *arrays), score, *others)
