"""Binned profiles: a few MB, however many images there are, for losses that are named beforehand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from conformask import _core
from conformask._agreement import Start, joined
from conformask._exact import check_lambda
from conformask._sequences import listed
from conformask._text import plural
from conformask._units import OnEmpty, Units, check_on_empty
from conformask.losses import (
    CallableLoss,
    Loss,
    LossLike,
    WorstClassLoss,
    as_loss,
    loss_from_json,
    loss_to_json,
)
from conformask.profiles.archive import Archive
from conformask.profiles.base import MOST_CLASSES, Profiles
from conformask.scores import ConformityScore, lambda_max, score_from_json, score_to_json

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

__all__ = ["BinnedProfiles", "check_collect", "check_single_images"]

_MOST_IMAGES = 2**48  # the most images that can be counted

# For a loss: the number of images on which it is defined, and the bins that are not empty with their contents; or None,
# and the critical value of each image.
_Part: TypeAlias = "tuple[int, NDArray[Any] | None, NDArray[Any]]"


class BinnedProfiles(Profiles):
    r"""Sums of the losses of many images on a grid of critical values, merged by addition.

    ``cm.profile(..., collect=[...])`` makes them, and ``profiles_`` of a :class:`~conformask.ConformalRiskCalibrator`
    with ``profile="binned"`` holds them.

    If the loss is a miss rate (miscoverage, weighted or of some classes; false negatives), the critical values fall
    into bins, 1024 for each halving of the distance to the largest lambda. A bin holds the sum over images of the
    contributions of its pixels to the rate, rounded up to a multiple of :math:`2^{-44}`. These are integers of 1 MB in
    all, which do not depend on the order of images, batches and merges. Lambda-hat is the end of a bin. It is never too
    small. It is at most 0.1 % of its distance to the largest lambda above the exact lambda-hat for a budget that is
    smaller by the rounding, less than 4e-9 for each image. If the loss is 0 or 1 (binary, label accuracy), one critical
    value of each image is kept (8 bytes), and lambda-hat is exact. A hash of each image (8 bytes) tells whether an
    image comes again.

    Risks are upper bounds: all pixels of the bin that a lambda falls into count as missed.

    Single images are not kept: there are no losses of single images, no splits, no groups and no weights.

    Attributes
    ----------
    conformity_score : LAC, APS, RAPS or SACP
        The score.
    losses : tuple of losses
        The losses that were collected.
    exact : bool
        False: risks are upper bounds.
    n_classes : int
        The number of classes K.

    See Also
    --------
    ScoreProfiles : Exact profiles, for every loss and split; their size grows with the images.
    profile : Makes profiles of images.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(60, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = (X.cumsum(axis=1) < rng.random((60, 1, 8, 8))).sum(axis=1)  # labels drawn from the probabilities
    >>> binned = cm.profile(X, y, collect=["miscoverage"])
    >>> exact = cm.profile(X, y).lambda_hat("miscoverage", alpha=0.2)
    >>> 0 <= binned.lambda_hat("miscoverage", alpha=0.2) - exact <= 0.001 * (1 - exact)
    True
    """

    exact = False

    def __init__(
        self, core: _core.BinnedProfile, conformity_score: ConformityScore, losses: Iterable[Loss]
    ) -> None:
        self._core = core
        self.conformity_score = conformity_score
        self.losses = tuple(losses)
        self._known_start: Start | None = None  # of images that came since a file was read, which holds none

    @classmethod
    def _empty(
        cls, conformity_score: ConformityScore, n_classes: int, losses: Sequence[Loss]
    ) -> BinnedProfiles:
        kernels = [loss._kernel(n_classes) for loss in losses]
        return cls(
            _core.BinnedProfile(conformity_score._kernel(), n_classes, kernels), conformity_score, losses
        )

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        losses = ", ".join(map(str, self.losses))
        images = plural(len(self), "image")
        return f"<BinnedProfiles of {images}, K = {self.n_classes}, {self.conformity_score}: {losses}>"

    def _rows(self) -> list[tuple[str, str]]:
        return [("losses", ", ".join(map(str, self.losses)))]

    @property
    def n_classes(self) -> int:
        """The number of classes K."""
        return self._core.n_classes

    @classmethod
    def _joined(cls, parts: Sequence[Self]) -> Self:
        first, *others = parts
        for part in others:
            first._check_merge(part)
            if first.losses != part.losses:
                raise ValueError(
                    f"binned profiles of {_names(first.losses)} and of {_names(part.losses)} cannot be merged"
                )
        core = _core.BinnedProfile.concatenate([part._core for part in parts])
        found = cls(core, first.conformity_score, first.losses)
        found._known_start = joined([part._known_start for part in parts])
        return found

    def _add(self, part: _core.ExactProfile) -> None:
        """Adds images."""
        self._core.add(part)
        self._known_start = joined([self._known_start, part.start()])

    def _start(self) -> Start | None:
        return self._known_start

    def _hashes(self) -> NDArray[np.uint64]:
        return self._core.hashes()

    def risk_curve(
        self, loss: LossLike, *, at: float | None = None, on_empty: OnEmpty = "skip", n_points: int = 1000
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """An upper bound of the empirical risk as a function of lambda.

        Parameters
        ----------
        loss : MiscoverageLoss or another loss, "miscoverage" or "binary"
            One of the losses that were collected.
        at : float or None, default=None
            A lambda that is included in the points.
        on_empty : {"skip", "raise", "zero_loss"}, default="skip"
            What to do with images on which the loss is undefined.
        n_points : int from 1 to 1e9, default=1000
            The approximate number of bins to return.

        Returns
        -------
        lambdas : float64 array (m,)
            Ascending, from 0 to ``lambda_max``.
        risks : float64 array (m,)
            The risk from each lambda on, up to the next.
        """
        loss, units = as_loss(loss), self._units(as_loss(loss), on_empty)
        n_points = self._check_points(n_points)
        jumps = self._core.jumps(self._index(loss))
        chosen = jumps[:: max(1, -(-len(jumps) // n_points))]
        ends = [
            0.0,
            lambda_max(self.conformity_score, self.n_classes),
            *([] if at is None else [check_lambda(at)]),
        ]
        lambdas = np.unique(np.concatenate([chosen, ends]))
        return lambdas, np.array([self._risk(loss, float(lam), units) for lam in lambdas])

    def __getitem__(self, index: Any) -> NoReturn:
        raise ValueError("binned profiles do not know single images: splits need profile='exact'")

    def _index(self, loss: Loss) -> int:
        if loss not in self.losses:
            raise ValueError(
                f"the binned profile collected {_names(self.losses)}, not {loss}: name it in collect=[...], "
                "or take profile='exact'"
            )
        return self.losses.index(loss)

    def _units(self, loss: Loss, on_empty: OnEmpty) -> Units:
        check_on_empty(on_empty)
        n_defined = self._core.n_defined(self._index(loss))
        n_undefined = len(self) - n_defined
        if on_empty == "raise" and n_undefined:
            raise ValueError(
                f"the loss is undefined on {plural(n_undefined, 'image')} without a labelled pixel that counts"
            )
        n = len(self) if on_empty == "zero_loss" else n_defined
        return Units(Fraction(n), n, len(self) - n)

    def _unit_losses(self, loss: Loss, lambdas: NDArray[np.float64], units: Units) -> NoReturn:
        raise ValueError(
            "binned profiles do not know the losses of single images, which RCPS(delta, bound='wsr') needs: pass "
            "profile='exact', or take bound='hb'"
        )

    def _lambda_hat(self, loss: Loss, budget: Fraction, units: Units) -> float | None:
        return self._core.lambda_hat(self._index(loss), budget)

    def _risk(self, loss: Loss, lam: float, units: Units) -> float:
        return self._core.loss_sum(self._index(loss), lam) / units.n if units.n else float("nan")

    def _to_arrays(self) -> dict[str, Any]:
        losses = [json.loads(loss_to_json(loss)) for loss in self.losses]
        parts = self._parts()
        found = {
            "kind": np.str_("binned"),
            "conformity_score": np.str_(score_to_json(self.conformity_score)),
            "losses": np.str_(json.dumps(losses)),
            "n_classes": np.int64(self.n_classes),
            "n_images": np.uint64(len(self)),
            "hashes": self._hashes(),
            "n_defined": np.array([n_defined for n_defined, *_ in parts], np.uint64),
        }
        for i, (_, places, array) in enumerate(parts):
            found |= {f"part_{i}": array} | ({} if places is None else {f"bins_{i}": places})
        return found

    @classmethod
    def _from_archive(cls, archive: Archive) -> Self:
        if "kind" not in archive or archive.text("kind") != "binned":
            raise ValueError("it holds exact profiles: read them with ScoreProfiles.load")
        score = score_from_json(archive.text("conformity_score"))
        n_classes = archive.whole("n_classes", 2, MOST_CLASSES)
        n_images = archive.whole("n_images", 0, _MOST_IMAGES)
        losses = [loss_from_json(json.dumps(loss)) for loss in json.loads(archive.text("losses"))]
        archive.check("n_defined", np.uint64, (len(losses),))
        # The first files had no hashes. Images without one are not recognised when they come again.
        if "hashes" in archive:
            (n_hashes,) = archive.shape("hashes", 1)
            archive.check("hashes", np.uint64, (min(n_hashes, n_images),))
        for i in range(len(losses)):
            if f"bins_{i}" in archive:
                (n_bins,) = archive.shape(f"bins_{i}", 1)
                archive.check(f"bins_{i}", np.uint32, (min(n_bins, _core.N_BINS),))
                archive.check(f"part_{i}", np.uint64, (n_bins, 2))
            else:
                (n_steps,) = archive.shape(f"part_{i}", 1)
                archive.check(f"part_{i}", np.float64, (min(n_steps, n_images),))
        arrays = archive.arrays()
        parts = [
            (n_defined, _ascending(arrays.get(f"bins_{i}")), arrays[f"part_{i}"])
            for i, n_defined in enumerate(arrays["n_defined"].tolist())
        ]
        hashes = arrays.get("hashes", np.zeros(0, np.uint64))
        return cls(*_core_of(score, losses, n_classes, n_images, hashes, parts))

    def __reduce__(self) -> tuple[Any, ...]:
        images = (len(self), self._hashes())
        parts = (self.conformity_score, self.losses, self.n_classes, *images, self._parts())
        return _rebuild, (self._known_start, *parts)

    def _parts(self) -> list[_Part]:
        """What is kept for each loss; only bins that are not empty."""
        return [_sparse(*self._core.part(i)) for i in range(len(self.losses))]


def _sparse(n_defined: int, array: NDArray[Any]) -> _Part:
    if array.ndim == 1:
        return n_defined, None, array
    places = np.flatnonzero(array.any(axis=1)).astype(np.uint32)
    return n_defined, places, array[places]


def _ascending(places: NDArray[Any] | None) -> NDArray[Any] | None:
    """The indices of bins; refuses others, and repeats."""
    if (
        places is not None
        and len(places)
        and ((places[1:] <= places[:-1]).any() or places[-1] >= _core.N_BINS)
    ):
        raise ValueError("its bins are not in order")
    return places


def _dense(places: NDArray[Any] | None, array: NDArray[Any]) -> NDArray[Any]:
    if places is None:
        return array
    bins = np.zeros((_core.N_BINS, *array.shape[1:]), array.dtype)
    bins[places] = array
    return bins


def _core_of(
    score: ConformityScore,
    losses: Sequence[Loss],
    n_classes: int,
    n_images: int,
    hashes: NDArray[np.uint64],
    parts: list[_Part],
) -> tuple[_core.BinnedProfile, ConformityScore, Sequence[Loss]]:
    kernels = [
        (loss._kernel(n_classes), n_defined, _dense(places, array))
        for loss, (n_defined, places, array) in zip(losses, parts, strict=True)
    ]
    core = _core.BinnedProfile.from_parts(score._kernel(), n_classes, n_images, hashes, kernels)
    return core, score, losses


def _rebuild(start: Start | None, *parts: Any) -> BinnedProfiles:
    found = BinnedProfiles(*_core_of(*parts))
    found._known_start = start
    return found


def _names(losses: Sequence[Loss]) -> str:
    return "[" + ", ".join(map(str, losses)) + "]"


def check_collect(losses: object) -> tuple[Loss, ...]:
    """Losses that bins can hold, each once, in an order of their own: it does not matter in which they are named."""
    found = {as_loss(loss, "each loss of collect") for loss in listed(losses, "collect")}
    for loss in found:
        if not loss._is_monotone:
            raise ValueError(
                f"bins cannot hold the loss {loss}, which may rise with lambda: pass profile='exact'"
            )
        if isinstance(loss, CallableLoss | WorstClassLoss):
            raise ValueError(
                f"bins cannot hold the loss {loss}: the losses of single images are needed, profile='exact'"
            )
    return tuple(sorted(found, key=loss_to_json))


def check_single_images(**given: object) -> None:
    """Refuses what needs the images one by one, by name."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"binned profiles do not know single images: {name} needs profile='exact' (collect=None)"
            )
