"""The loss of the worst class, and the losses of one class after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _core
from conformask._exact import exact_sum
from conformask.losses.misses import (
    BinaryLoss,
    CallableLoss,
    ImageLoss,
    Loss,
    MiscoverageLoss,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["WorstClassLoss", "check_of_any_class", "losses_by_class", "parted"]

_BY_NAME: dict[str, type[Loss]] = {"miscoverage": MiscoverageLoss, "binary": BinaryLoss}
_MOST_TOTALS = 1 << 22  # numbers of labelled pixels that are in memory at once
_MOST_VALUES = 1 << 24  # critical values that are in memory at once, if classes have equally many


@dataclass(frozen=True)
class WorstClassLoss(ImageLoss):
    r"""The loss of the worst class: the largest of the losses of the classes that occur in the image.

    The loss of a class is that of the image as if only the pixels of this class were labelled. For the share of missed
    pixels,

    .. math:: L = \max_{k \in \Lambda} \frac{\text{missed pixels of } k}{\text{pixels of } k}

    where :math:`\Lambda` are the classes with labelled pixels. On an image without such pixels the loss is undefined
    (see ``on_empty``). If it is controlled at alpha, the largest miss rate among the classes of an image is at most
    alpha, in expectation over all images. This guarantees nothing for one class by itself: if few images hold a class,
    the loss on these images may be larger. ``conditional="class"`` of :class:`~conformask.ConformalRiskCalibrator`
    gives a guarantee for each class.

    Parameters
    ----------
    loss : "miscoverage", "binary", BinaryLoss or a function of the coverage, default="miscoverage"
        The loss of one class. With :class:`BinaryLoss` the result is 1 if too few pixels of any class are covered.

    See Also
    --------
    MiscoverageLoss, FalseNegativeLoss : Means over pixels, and over classes.

    Notes
    -----
    The loss is a float64: the largest of shares that are each rounded to float64. Sums of shares are compared exactly.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[[0, 0, 0, 1, 1]]])
    >>> masks = np.ones((1, 2, 1, 5), bool)
    >>> masks[0, 1, 0, 3] = False  # one of two pixels of class 1 is missed
    >>> cm.metrics.empirical_risk(y, masks, cm.WorstClassLoss())
    0.5
    """

    loss: Loss | str = "miscoverage"

    def __post_init__(self) -> None:
        base: Any = _BY_NAME[self.loss]() if self.loss in ("miscoverage", "binary") else self.loss
        if callable(base) and not isinstance(base, type | Loss):
            base = CallableLoss(base)
        check_of_any_class(base, "WorstClassLoss")
        object.__setattr__(self, "loss", base)

    @property
    def _is_indicator(self) -> bool:  # type: ignore[override]  # that of its classes
        return self.of_class._is_indicator

    @property
    def of_class(self) -> Loss:
        """The loss of one class."""
        assert isinstance(self.loss, Loss)
        return self.loss

    def _kernel(self, n_classes: int) -> _core.Loss:
        """The kernel of miscoverage, which jumps wherever this loss does."""
        return _core.Loss.pooled([True] * n_classes)

    def _values(self, missed: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
        found = np.full(len(totals), np.nan)
        for of_class in losses_by_class(self.of_class, missed, totals):
            found = np.fmax(found, of_class)
        return found

    def _of_profile(self, profile: _core.ExactProfile, lambdas: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.full((len(profile), len(lambdas)), np.nan)
        for part in parted(profile):
            np.fmax(found, self.of_class._of_profile(part, lambdas), out=found)
        return found

    def _fits(
        self,
        profile: _core.ExactProfile,
        lam: float,
        losses: NDArray[np.float64],
        budget: Fraction,
        shares: list[Fraction] | None,
    ) -> bool:
        known = [Fraction(1)] * len(profile) if shares is None else shares
        near = max(known) * Fraction(len(profile) + 1, 2**51)  # a generous bound of the rounding error
        total = exact_sum(losses, shares)
        if isinstance(self.of_class, MiscoverageLoss) and abs(total - budget) <= near:
            worst = _shares_missed(profile, lam)
            total = sum((share * each for share, each in zip(known, worst, strict=True)), Fraction())
        return total <= budget


def _shares_missed(profile: _core.ExactProfile, lam: float) -> list[Fraction]:
    """For each image, the largest missed share of a class's pixels, as a fraction; 0 without labelled pixels."""
    worst = [Fraction(0)] * len(profile)
    for part in parted(profile):
        missed, totals = part.missed(np.array([lam]))[:, 0].tolist(), part.totals().sum(axis=1).tolist()
        for i, (count, total) in enumerate(zip(missed, totals, strict=True)):
            if count * worst[i].denominator > worst[i].numerator * total:
                worst[i] = Fraction(count, total)
    return worst


def check_of_any_class(loss: Loss, what: str) -> None:
    """Refuses a loss about several classes where the loss of one class at a time is needed."""
    plain = isinstance(loss, MiscoverageLoss) and loss == MiscoverageLoss()
    if not (plain or isinstance(loss, BinaryLoss | CallableLoss)):
        raise ValueError(
            f"{what} needs the loss of one class at a time: 'miscoverage', BinaryLoss(...) or a function of the "
            f"coverage, got {loss}"
        )


def parted(
    profile: _core.ExactProfile, parts: Sequence[Sequence[int]] | None = None
) -> Iterator[_core.ExactProfile]:
    """The images as if only the pixels of some classes were labelled: for each of disjoint parts, or for each class."""
    known = (
        [[label] for label in range(profile.n_classes)] if parts is None else [list(part) for part in parts]
    )
    # Each profile copies its values, and has the totals of all images. Making a few at a time saves memory.
    by_totals = _MOST_TOTALS // max(1, len(profile) * profile.n_classes)
    by_values = profile.n_classes * _MOST_VALUES // max(1, profile.n_values)
    at_once = max(1, min(by_totals, by_values))
    for first in range(0, len(known), at_once):
        yield from profile.parted(known[first : first + at_once])


def losses_by_class(
    loss: Loss, missed: NDArray[np.uint64], totals: NDArray[np.uint64]
) -> Iterator[NDArray[np.float64]]:
    """For each class, the losses (n,) of images as if only its pixels were labelled; NaN where there are none."""
    for label in range(totals.shape[1]):
        # The class is put first of two, because there is no loss with a single class.
        of_class = [np.zeros_like(each[:, :2]) for each in (missed, totals)]
        for own, each in zip(of_class, (missed, totals), strict=True):
            own[:, 0] = each[:, label]
        yield loss._values(*of_class)
