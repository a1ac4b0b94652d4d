"""Losses that count false alarms, and so may rise as lambda grows: Learn then Test controls them.

They need the number of labelled pixels that have a class in their set, for each image and class. The critical values of
true labels do not tell it: it is counted while the maps are read, at the lambdas of a grid.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from conformask._exact import exact_sum, share_of
from conformask._text import plural
from conformask.losses.misses import Loss, class_flags, keep_classes, summed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask import _core

__all__ = ["CountedLoss", "CountsLoss", "JaccardLoss", "PrecisionLoss", "loss_values"]

_MOST_COUNTS = 1 << 22  # counts that are processed together

# A bound, for each image, of the error of a sum of float losses.
_NEAR = 1e-12

_NOT_COUNTED = (
    "it is not known how many pixels hold each class, which the loss {} needs: fit with method=LTT(delta, grid) and "
    "this loss, or make profiles by cm.profile(..., grid=grid)"
)


class CountedLoss(Loss):
    """What these losses have in common: they are functions of pixel counts, and need one labelled pixel at least."""

    _is_monotone: ClassVar[bool] = False

    @abstractmethod
    def _of_counts(
        self, covered: NDArray[np.uint64], totals: NDArray[np.uint64], held: NDArray[np.uint64]
    ) -> NDArray[np.float64]:
        """Losses (m,) of images with labelled pixels, from counts (m, K) for each class.

        `covered` counts the pixels of the class whose set holds it, `totals` all pixels of the class, and `held` all
        labelled pixels whose set holds the class.
        """

    def _exactly(self, covered: list[int], totals: list[int], held: list[int]) -> Fraction | None:
        """The loss of one image as a fraction; None if the float is the loss by definition."""
        return None

    def _kernel(self, n_classes: int) -> _core.Loss:
        raise TypeError(_NOT_COUNTED.format(self))

    def _is_defined(self, totals: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return np.asarray(totals.sum(axis=1) > 0)

    def _values(self, missed: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
        raise ValueError(_NOT_COUNTED.format(self))

    def _values_of(
        self, missed: NDArray[np.uint64], totals: NDArray[np.uint64], held: NDArray[np.uint64]
    ) -> NDArray[np.float64]:
        """Losses (n,) from counts (n, K); NaN where undefined."""
        found, known = np.full(len(totals), np.nan), self._is_defined(totals)
        if known.any():
            found[known] = self._of_counts((totals - missed)[known], totals[known], held[known])
        return found

    def _of_profile(self, profile: _core.ExactProfile, lambdas: NDArray[np.float64]) -> NDArray[np.float64]:
        grid = self._grid_of(profile)
        places = np.searchsorted(grid, lambdas).clip(max=len(grid) - 1)
        if not np.array_equal(grid[places], lambdas):
            other = lambdas[grid[places] != lambdas][0]
            raise ValueError(
                f"classes were counted at {plural(len(grid), 'lambda')} from {grid[0]:g} to {grid[-1]:g}, and "
                f"{float(other)!r} is none of them, which the loss {self} needs: fit again with this grid"
            )
        found = np.empty((len(profile), len(lambdas)))
        at_once = max(1, _MOST_COUNTS // (profile.n_classes * len(grid)))
        for first in range(0, len(profile), at_once):
            part = slice(first, first + at_once)
            some = profile.take([*range(len(profile))[part]])
            missed, totals, held = some.missed_of_classes(grid), some.totals(), some.held()
            assert held is not None
            for place in np.unique(places):
                losses = self._values_of(missed[..., place], totals, held[..., place])
                found[part, places == place] = losses[:, np.newaxis]
        return found

    def _grid_of(self, profile: _core.ExactProfile) -> NDArray[np.float64]:
        """The lambdas at which classes were counted."""
        grid = profile.grid()
        if grid is None:
            raise ValueError(_NOT_COUNTED.format(self))
        return grid

    def _sums_of_profile(
        self,
        profile: _core.ExactProfile,
        lambdas: NDArray[np.float64],
        shares: list[Fraction] | None,
        total: Fraction,
    ) -> NDArray[np.float64]:
        return summed(self._of_profile(profile, lambdas), shares, total)

    def _jumps(self, profile: _core.ExactProfile, limit: int) -> NDArray[np.float64]:
        return self._grid_of(profile)

    def _fits(
        self,
        profile: _core.ExactProfile,
        lambdas: NDArray[np.float64],
        budget: Fraction,
        shares: list[Fraction] | None,
    ) -> NDArray[np.bool_]:
        """At which of the ascending lambdas (L,) ``sum(share * loss)`` is at most the budget, decided exactly."""
        losses, found = np.nan_to_num(self._of_profile(profile, lambdas), nan=0.0), []
        for lam, column in zip(lambdas, losses.T, strict=True):
            total = exact_sum(column, shares)
            if abs(total - budget) <= _NEAR * max(1, len(profile)):
                total = self._exact_sum(profile, float(lam), column, shares)
            found.append(total <= budget)
        return np.array(found, bool)

    def _exact_sum(
        self,
        profile: _core.ExactProfile,
        lam: float,
        losses: NDArray[np.float64],
        shares: list[Fraction] | None,
    ) -> Fraction:
        place = int(np.searchsorted(self._grid_of(profile), lam))
        total = Fraction()
        for i, loss in enumerate(losses.tolist()):
            share = Fraction(1) if shares is None else shares[i]
            image = profile.take([i])
            totals, held = image.totals(), image.held()
            assert held is not None
            exact = None
            if totals.any():
                covered = totals - image.missed_of_classes(np.array([lam]))[..., 0]
                exact = self._exactly(covered[0].tolist(), totals[0].tolist(), held[0, :, place].tolist())
            total += share * (Fraction(loss) if exact is None else exact)
        return total

    def _correction(
        self,
        profile: _core.ExactProfile,
        budget: Fraction,
        offsets: NDArray[np.float64],
        shares: list[Fraction] | None,
    ) -> float | None:
        raise TypeError(f"the loss {self} may rise with lambda: no correction of lambdas controls it")


@dataclass(frozen=True)
class PrecisionLoss(CountedLoss):
    r"""One minus the precision of the sets: the share of their entries of the chosen classes that are wrong.

    Over the labelled pixels :math:`V` of an image and the chosen classes :math:`\Lambda`,

    .. math:: L = 1 - \frac{\sum_{k \in \Lambda} |\{p \in V : k \in C_\lambda(p), y_p = k\}|}
        {\sum_{k \in \Lambda} |\{p \in V : k \in C_\lambda(p)\}|},

    and 0 if no set holds any of these classes. This is the false discovery proportion of their pixels. It mostly rises
    with lambda, but not always: :class:`~conformask.LTT` controls it, on an ascending grid. On an image without
    labelled pixels the loss is undefined (see ``on_empty``).

    Parameters
    ----------
    classes : sequence of int
        The classes :math:`\Lambda`, whose pixels are pooled.

    See Also
    --------
    LTT : Controls this loss.
    FalseNegativeLoss : Measures what the sets miss.
    JaccardLoss : Measures both at once.

    References
    ----------
    Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test", 2021, arXiv:2110.01052.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[[0, 0, 1, 1]]])
    >>> masks = np.array([[[[1, 1, 1, 0]], [[0, 1, 1, 1]]]], bool)  # sets {0}, {0, 1}, {0, 1} and {1}
    >>> round(cm.metrics.empirical_risk(y, masks, cm.PrecisionLoss([1])), 4)
    0.3333
    """

    classes: Sequence[int]

    def __post_init__(self) -> None:
        keep_classes(self)

    def _of_counts(
        self, covered: NDArray[np.uint64], totals: NDArray[np.uint64], held: NDArray[np.uint64]
    ) -> NDArray[np.float64]:
        chosen = class_flags(self.classes, totals.shape[1])
        n_held = held[:, chosen].sum(axis=1)
        n_wrong = n_held - covered[:, chosen].sum(axis=1)
        return np.nan_to_num(share_of(n_wrong, n_held), nan=0.0)

    def _exactly(self, covered: list[int], totals: list[int], held: list[int]) -> Fraction:
        n_held = sum(held[k] for k in self.classes)
        n_right = sum(covered[k] for k in self.classes)
        return Fraction(n_held - n_right, n_held) if n_held else Fraction()


@dataclass(frozen=True)
class JaccardLoss(CountedLoss):
    r"""One minus the mean Jaccard index (intersection over union) of sets and labels, over chosen classes.

    With the labelled pixels :math:`S_k` whose set holds class k and :math:`T_k` whose label it is,

    .. math:: L = 1 - \frac{1}{|\Lambda'|} \sum_{k \in \Lambda'} \frac{|S_k \cap T_k|}{|S_k \cup T_k|}

    where :math:`\Lambda'` are the chosen classes that occur in the labels or in the sets of the image; the loss is 0 if
    there is none. As lambda grows it falls and then rises again: small sets miss the class, large ones hold all pixels.
    :class:`~conformask.LTT` controls it. The lambda of the smallest loss is not known beforehand, so
    ``correction="bonferroni"`` suits it well. On an image without labelled pixels the loss is undefined (see
    ``on_empty``).

    Parameters
    ----------
    classes : sequence of int
        The chosen classes, which all count alike.

    See Also
    --------
    LTT : Controls this loss.
    PrecisionLoss : Measures only what the sets hold in excess.
    FalseNegativeLoss : Measures only what the sets miss.

    References
    ----------
    Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test", 2021, arXiv:2110.01052.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[[0, 0, 1, 1]]])
    >>> masks = np.array([[[[1, 1, 1, 0]], [[0, 1, 1, 1]]]], bool)  # sets {0}, {0, 1}, {0, 1} and {1}
    >>> round(cm.metrics.empirical_risk(y, masks, cm.JaccardLoss([0, 1])), 4)
    0.3333
    """

    classes: Sequence[int]

    def __post_init__(self) -> None:
        keep_classes(self)

    def _of_counts(
        self, covered: NDArray[np.uint64], totals: NDArray[np.uint64], held: NDArray[np.uint64]
    ) -> NDArray[np.float64]:
        chosen = class_flags(self.classes, totals.shape[1])
        both = covered[:, chosen]
        either = totals[:, chosen] + held[:, chosen] - both
        apart = share_of(either - both, either)
        n_known = (either > 0).sum(axis=1)
        return np.nan_to_num(share_of(np.nan_to_num(apart, nan=0.0).sum(axis=1), n_known), nan=0.0)

    def _exactly(self, covered: list[int], totals: list[int], held: list[int]) -> Fraction:
        unions = {k: totals[k] + held[k] - covered[k] for k in self.classes}
        losses = [Fraction(union - covered[k], union) for k, union in unions.items() if union]
        return sum(losses, Fraction()) / len(losses) if losses else Fraction()


@dataclass(frozen=True)
class CountsLoss(CountedLoss):
    r"""A loss of your own: a function of how many pixels of each class the sets of an image hold.

    It may rise and fall with lambda; :class:`~conformask.LTT` controls it. On an image without labelled pixels the loss
    is undefined (see ``on_empty``). If your loss depends on the share of covered pixels alone, and does not rise with
    it, give :class:`~conformask.ConformalRiskCalibrator` a function of that share instead.

    Parameters
    ----------
    function : callable
        A function of three uint64 arrays (m, K), for m images with labelled pixels: for each class the number of its
        pixels whose set holds the class, the number of all its pixels, and the number of labelled pixels of any class
        whose set holds the class. It returns the losses (m,) in [0, 1]. The loss of an image must not depend on other
        images. The function must be fixed before looking at the labels.

    See Also
    --------
    PrecisionLoss, JaccardLoss : Losses of this kind.
    LTT : Controls this loss.

    References
    ----------
    Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test", 2021, arXiv:2110.01052.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> def share_of_false_alarms(covered, totals, held):  # of class 1, among the pixels of others
    ...     return (held - covered)[:, 1] / np.maximum(1, totals.sum(axis=1) - totals[:, 1])
    >>> y = np.array([[[0, 0, 1, 1]]])
    >>> masks = np.array([[[[1, 1, 1, 0]], [[0, 1, 1, 1]]]], bool)
    >>> cm.metrics.empirical_risk(y, masks, cm.CountsLoss(share_of_false_alarms))
    0.5
    """

    function: Callable[[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]], object]

    def __post_init__(self) -> None:
        if not callable(self.function) or isinstance(self.function, type):
            raise TypeError(
                f"function must be a function of three arrays of counts, got {type(self.function).__name__}"
            )

    def __str__(self) -> str:
        return str(getattr(self.function, "__name__", self.function))

    def _of_counts(
        self, covered: NDArray[np.uint64], totals: NDArray[np.uint64], held: NDArray[np.uint64]
    ) -> NDArray[np.float64]:
        losses = np.asarray(self.function(covered.copy(), totals.copy(), held.copy()))
        if losses.shape != (len(totals),) or losses.dtype.kind not in "biuf":
            raise TypeError(
                f"the loss {self} must return an array of floats, one for each of {plural(len(totals), 'image')}, "
                f"got {losses.dtype} {losses.shape}"
            )
        losses = losses.astype(np.float64)
        is_within = (losses >= 0) & (losses <= 1)
        if not is_within.all():
            raise ValueError(
                f"the loss {self} must lie in [0, 1], got {losses[int(np.argmin(is_within))]}: scale it"
            )
        return losses


def loss_values(
    loss: Loss,
    missed: NDArray[np.uint64],
    totals: NDArray[np.uint64],
    held: NDArray[np.uint64] | None = None,
) -> NDArray[np.float64]:
    """Losses (n,) from missed and labelled pixels of each class, both (n, K); NaN where undefined.

    Losses that may rise with lambda also need `held`, the number of labelled pixels whose set holds each class.
    """
    if isinstance(loss, CountedLoss) and held is not None:
        return loss._values_of(missed, totals, held)
    return loss._values(missed, totals)
