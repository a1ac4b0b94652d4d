"""Losses that count missed labels: they lie in [0, 1], and do not rise as lambda grows."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformask import _core
from conformask._exact import (
    as_fraction,
    as_plain,
    check_share,
    covered_share,
    exact_sum,
    share_of,
    tolerated,
)
from conformask._sequences import listed, listed_by_class
from conformask._text import plural, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BinaryLoss",
    "CallableLoss",
    "FalseNegativeLoss",
    "ImageLoss",
    "LabelAccuracyLoss",
    "Loss",
    "MiscoverageLoss",
    "class_flags",
    "keep_classes",
    "summed",
]


class Loss(ABC):
    """What the losses have in common: how they are asked. The built-in ones know a kernel that answers."""

    _is_indicator: ClassVar[bool] = False  # whether it is surely 0 or 1
    _is_monotone: ClassVar[bool] = True  # whether it surely does not rise with lambda

    @abstractmethod
    def _kernel(self, n_classes: int) -> _core.Loss:
        """The kernel for K classes."""

    def _values(self, missed: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Losses (n,) from missed and labelled pixels of each class, both (n, K); NaN where undefined."""
        return self._kernel(totals.shape[1]).values(missed, totals)

    def _is_defined(self, totals: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """On which images (n,) it is defined, by the labelled pixels of each class (n, K)."""
        return ~np.isnan(self._values(np.zeros_like(totals), totals))

    def _of_profile(self, profile: _core.ExactProfile, lambdas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Losses (n, L) at lambdas that do not descend."""
        return profile.losses(self._kernel(profile.n_classes), lambdas)

    def _sums_of_profile(
        self,
        profile: _core.ExactProfile,
        lambdas: NDArray[np.float64],
        shares: list[Fraction] | None,
        total: Fraction,
    ) -> NDArray[np.float64]:
        """``sum(share * loss) / total`` (L,) at lambdas that do not descend, correctly rounded."""
        return profile.loss_sums(self._kernel(profile.n_classes), lambdas, shares, total)

    def _jumps(self, profile: _core.ExactProfile, limit: int) -> NDArray[np.float64]:
        """At most `limit` of the lambdas at which the risk jumps."""
        return profile.jumps(self._kernel(profile.n_classes), limit)

    def _lambda_hat(
        self,
        profile: _core.ExactProfile,
        budget: Fraction,
        shares: list[Fraction] | None,
        lambda_max: float,
    ) -> float | None:
        """The smallest lambda at which ``sum(share * loss)`` is at most the budget; None if there is none."""
        return profile.lambda_hat(self._kernel(profile.n_classes), budget, shares)

    def _correction(
        self,
        profile: _core.ExactProfile,
        budget: Fraction,
        offsets: NDArray[np.float64],
        shares: list[Fraction] | None,
    ) -> float | None:
        """The smallest t, added to the lambdas `offsets` of images (n,), at which ``sum(share * loss)`` fits."""
        return profile.correction(self._kernel(profile.n_classes), budget, offsets, shares)


@dataclass(frozen=True)
class MiscoverageLoss(Loss):
    r"""The share of labelled pixels whose set misses their label.

    Over the labelled pixels :math:`V` of an image (COSE, eq. 15),

    .. math:: L = 1 - \frac{1}{|V|} \sum_{p \in V} 1[y_p \in C_\lambda(p)],

    or with `class_weights` :math:`w` a weighted mean over the classes :math:`k` that occur in the image (COSE, eq. 16),

    .. math:: L = 1 - \frac{1}{\sum_k w_k} \sum_k w_k \frac{\text{covered pixels of } k}{\text{pixels of } k}.

    Parameters
    ----------
    class_weights : sequence of K floats >= 0, dict from class to float, "balanced" or None, default=None
        Weight of each class; ``"balanced"`` gives all classes the same weight. A dict must hold all K classes. Classes
        absent from an image drop out of both sums; if all classes of an image have weight 0, its loss is undefined (see
        ``on_empty``). None: every pixel counts alike.
    classes : sequence of int or None, default=None
        Only the pixels of these (priority) classes count. On an image without such pixels the loss is undefined.

    See Also
    --------
    FalseNegativeLoss : A mean over classes, each of which counts alike.
    BinaryLoss : Tells only whether too few pixels are covered.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[[0, 0, 0, 1]]])
    >>> masks = np.ones((1, 2, 1, 4), bool)
    >>> masks[0, 0, 0, 0] = False  # one of three pixels of class 0 is missed
    >>> cm.metrics.empirical_risk(y, masks, cm.MiscoverageLoss())
    0.25
    >>> round(cm.metrics.empirical_risk(y, masks, cm.MiscoverageLoss(class_weights="balanced")), 4)
    0.1667
    >>> cm.metrics.empirical_risk(y, masks, cm.MiscoverageLoss(classes=[1]))
    0.0
    """

    class_weights: Sequence[float] | Mapping[int, float] | str | None = None
    classes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        # Tuples compare, hash and cannot change under a fitted calibrator.
        weights = self.class_weights
        if isinstance(weights, str):
            if weights != "balanced":
                raise ValueError(
                    f"class_weights must be 'balanced', None or a sequence of floats, got {shown(weights)}"
                )
        elif weights is not None:
            weights = listed_by_class(weights, "class_weights")
            fractions = [as_fraction(weight, "class_weights") for weight in weights]
            if min(fractions, default=0) < 0 or not any(fractions):
                raise ValueError(f"class_weights must be at least 0, and one above it, got {shown(weights)}")
            plain = tuple(as_plain(weight, "class_weights") for weight in weights)
            object.__setattr__(self, "class_weights", plain)
        if self.classes is not None:
            keep_classes(self)

    def _kernel(self, n_classes: int) -> _core.Loss:
        chosen = class_flags(self.classes, n_classes)
        if self.class_weights is None:
            return _core.Loss.pooled(chosen)
        if isinstance(self.class_weights, str):
            weights = [Fraction(1)] * n_classes
        else:
            weights = [
                as_fraction(weight, "class_weights") for weight in listed(self.class_weights, "class_weights")
            ]
            if len(weights) != n_classes:
                raise ValueError(
                    f"class_weights has {plural(len(weights), 'entry')}, but there are K = {n_classes} classes"
                )
        return _core.Loss.per_class([weight * flag for weight, flag in zip(weights, chosen, strict=True)])


@dataclass(frozen=True)
class BinaryLoss(Loss):
    r"""1 if too few labelled pixels are covered, else 0.

    With the minimum coverage :math:`\tau` (COSE, eq. 14; for :math:`\tau = 1` eq. 13),

    .. math:: L = 1\Big[\sum_{p \in V} 1[y_p \in C_\lambda(p)] < \lceil \tau |V| \rceil\Big].

    If it is controlled at ``alpha``, then with probability at least ``1 - alpha`` at least the share :math:`\tau` of
    the pixels of a new image is covered.

    Parameters
    ----------
    min_coverage : float in (0, 1], default=1.0
        The share :math:`\tau` of labelled pixels that must be covered.

    See Also
    --------
    LabelAccuracyLoss : The same for the mean over classes.
    PAC : Controls such losses with confidence.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.zeros((1, 1, 10), int)
    >>> masks = np.ones((1, 2, 1, 10), bool)
    >>> masks[0, 0, 0, :3] = False  # 7 of 10 pixels are covered
    >>> cm.metrics.empirical_risk(y, masks, cm.BinaryLoss(min_coverage=0.7))
    0.0
    >>> cm.metrics.empirical_risk(y, masks, cm.BinaryLoss(min_coverage=0.75))
    1.0
    """

    _is_indicator = True

    min_coverage: float = 1.0

    def __post_init__(self) -> None:
        _check_share(self, "min_coverage")

    def _kernel(self, n_classes: int) -> _core.Loss:
        tolerance = 1 - as_fraction(self.min_coverage, "min_coverage")
        return _core.Loss.pooled([True] * n_classes, tolerance)


@dataclass(frozen=True)
class FalseNegativeLoss(Loss):
    r"""The mean share of missed pixels, over the chosen classes that occur in the image.

    .. math:: L = \frac{1}{|\Lambda|} \sum_{k \in \Lambda} \frac{\text{missed pixels of } k}{\text{pixels of } k}

    where :math:`\Lambda` are the chosen classes with labelled pixels. On an image without such pixels the loss is
    undefined (see ``on_empty``). ``MiscoverageLoss(classes=)`` pools the pixels of the classes instead. For one class
    this is the false negative rate.

    Parameters
    ----------
    classes : sequence of int
        The classes whose pixels must not be missed.

    See Also
    --------
    MiscoverageLoss : Pools the pixels of classes.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[[0, 1, 1, 2]]])
    >>> masks = np.ones((1, 3, 1, 4), bool)
    >>> masks[0, 1, 0, 1] = False  # one of two pixels of class 1 is missed
    >>> cm.metrics.empirical_risk(y, masks, cm.FalseNegativeLoss([1]))
    0.5
    >>> cm.metrics.empirical_risk(y, masks, cm.FalseNegativeLoss([1, 2]))
    0.25
    """

    classes: Sequence[int]

    def __post_init__(self) -> None:
        keep_classes(self)

    def _kernel(self, n_classes: int) -> _core.Loss:
        return _core.Loss.per_class([Fraction(flag) for flag in class_flags(self.classes, n_classes)])


@dataclass(frozen=True)
class LabelAccuracyLoss(Loss):
    r"""1 if the label-wise accuracy is too low, else 0.

    The label-wise accuracy is the mean share of covered pixels, over the labels :math:`\Lambda` that occur in the
    image. With the minimum :math:`\beta`,

    .. math:: L = 1\Big[\frac{1}{|\Lambda|} \sum_{k \in \Lambda} \frac{\text{covered pixels of } k}{\text{pixels of } k}
              < \beta\Big].

    The CONSIGN paper uses this loss to compare with RAPS and SACP. Accuracies are compared as fractions; one that is
    below :math:`\beta` by 1e-12 or less counts as :math:`\beta`, as in :class:`~conformask.ConsignCalibrator`.

    Parameters
    ----------
    min_accuracy : float in (0, 1]
        The accuracy :math:`\beta` that the set must reach.

    See Also
    --------
    BinaryLoss : The same for the share of all pixels.
    conformask.metrics.label_accuracy : The accuracy of a label map.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN", ICLR 2026, arXiv:2505.14113.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[[0, 0, 0, 1]]])
    >>> masks = np.ones((1, 2, 1, 4), bool)
    >>> masks[0, 0, 0, 0] = False  # a third of class 0 is missed: accuracy 5/6
    >>> [cm.metrics.empirical_risk(y, masks, cm.LabelAccuracyLoss(beta)) for beta in (0.8, 0.9)]
    [0.0, 1.0]
    """

    _is_indicator = True

    min_accuracy: float

    def __post_init__(self) -> None:
        _check_share(self, "min_accuracy")

    def _kernel(self, n_classes: int) -> _core.Loss:
        return _core.Loss.per_class(
            [Fraction(1)] * n_classes, 1 - tolerated(as_fraction(self.min_accuracy, "min_accuracy"))
        )


class ImageLoss(Loss):
    """A loss that is computed image by image: no kernel sums it."""

    def _sums_of_profile(
        self,
        profile: _core.ExactProfile,
        lambdas: NDArray[np.float64],
        shares: list[Fraction] | None,
        total: Fraction,
    ) -> NDArray[np.float64]:
        found, at_once = np.empty(len(lambdas)), max(1, _MOST_NUMBERS // max(1, len(profile)))
        for first in range(0, len(lambdas), at_once):
            part = slice(first, first + at_once)
            found[part] = summed(self._of_profile(profile, lambdas[part]), shares, total)
        return found

    def _lambda_hat(
        self,
        profile: _core.ExactProfile,
        budget: Fraction,
        shares: list[Fraction] | None,
        lambda_max: float,
    ) -> float | None:
        if budget < 0:
            return None
        at_once = max(2, min(_LAMBDAS_AT_ONCE, _MOST_NUMBERS // max(1, len(profile))))
        # Non-negative floats are ordered like their bits, so a search over bits finds the smallest that fits exactly.
        # The largest lambda always fits.
        low, high = 0, _bits(lambda_max)
        while low < high:
            bits = range(low, high, max(1, -(-(high - low) // at_once)))
            lambdas = np.array([_float(each) for each in bits])
            losses = np.nan_to_num(self._of_profile(profile, lambdas), nan=0.0)

            def fits(i: int, lambdas: Any = lambdas, losses: Any = losses) -> bool:
                return self._fits(profile, lambdas[i], losses[:, i], budget, shares)

            first = bisect_left(range(len(bits)), True, key=fits)
            low, high = low if first == 0 else bits[first - 1] + 1, bits[first] if first < len(bits) else high
        return _float(high)

    def _fits(
        self,
        profile: _core.ExactProfile,
        lam: float,
        losses: NDArray[np.float64],
        budget: Fraction,
        shares: list[Fraction] | None,
    ) -> bool:
        """Whether the losses (n,) at a lambda sum to at most the budget."""
        return exact_sum(losses, shares) <= budget

    def _correction(
        self,
        profile: _core.ExactProfile,
        budget: Fraction,
        offsets: NDArray[np.float64],
        shares: list[Fraction] | None,
    ) -> float | None:
        raise TypeError(f"the loss {self} has no image-adaptive lambdas: take one that a kernel sums")


@dataclass(frozen=True)
class CallableLoss(ImageLoss):
    """A loss of the user's own: a function of the share of labelled pixels that is covered.

    Attributes
    ----------
    function : callable
        Takes a float64 array (n,) of shares in [0, 1] and returns the losses (n,) in [0, 1]. They must not rise with
        the share, and must be 0 where it is 1.
    """

    function: Callable[[NDArray[np.float64]], object]

    def __post_init__(self) -> None:
        losses = self._of_coverage(np.linspace(0.0, 1.0, _N_TRIED))
        if losses[-1] > 0:
            raise ValueError(f"the loss {self} must be 0 where all is covered, got {losses[-1]}")

    def __str__(self) -> str:
        return str(getattr(self.function, "__name__", self.function))

    def _kernel(self, n_classes: int) -> _core.Loss:
        """The kernel of what the function is applied to."""
        return _core.Loss.pooled([True] * n_classes)

    def _of_coverage(self, coverages: NDArray[np.float64]) -> NDArray[np.float64]:
        """The losses for coverages, NaN for NaN; refuses losses outside [0, 1], or that rise with the coverage."""
        known = np.unique(coverages[~np.isnan(coverages)])
        losses = np.asarray(self.function(known.copy()))
        if losses.shape != known.shape or losses.dtype.kind not in "biuf":
            raise TypeError(
                f"the loss {self} must return an array of floats like the coverages it gets, (n,), "
                f"got {losses.dtype} {losses.shape}"
            )
        losses = losses.astype(np.float64)
        if not ((losses >= 0) & (losses <= 1)).all():
            bad = int(np.argmin((losses >= 0) & (losses <= 1)))
            raise ValueError(
                f"the loss {self} must lie in [0, 1], got {losses[bad]} at the coverage {known[bad]}: scale it"
            )
        if (rises := np.diff(losses) > 0).any():
            i = int(rises.argmax())
            raise ValueError(
                f"the loss {self} must not rise with the coverage, but it is {losses[i]} at {known[i]} and "
                f"{losses[i + 1]} at {known[i + 1]}"
            )
        found = np.full(coverages.shape, np.nan)
        found[~np.isnan(coverages)] = losses[np.searchsorted(known, coverages[~np.isnan(coverages)])]
        return found

    def _values(self, missed: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
        return self._of_coverage(covered_share(missed, totals))

    def _of_profile(self, profile: _core.ExactProfile, lambdas: NDArray[np.float64]) -> NDArray[np.float64]:
        totals = profile.totals().sum(axis=1)[:, np.newaxis]
        return self._of_coverage(share_of(totals - profile.missed(lambdas), totals))


_N_TRIED = 1001  # coverages at which a function is tried first
_MOST_NUMBERS = 1 << 20  # losses that are in memory at once, if there are many lambdas
_LAMBDAS_AT_ONCE = 256  # lambdas for one pass over the values


def _bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _float(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])


def _check_share(loss: Loss, name: str) -> None:
    value = getattr(loss, name)
    check_share(value, name)
    object.__setattr__(loss, name, as_plain(value, name))


def summed(
    losses: NDArray[np.float64], shares: list[Fraction] | None, total: Fraction
) -> NDArray[np.float64]:
    """``sum(share * loss) / total`` (L,) of losses (n, L), correctly rounded; NaN counts as 0."""
    known = np.nan_to_num(losses, nan=0.0)
    return np.array([float(exact_sum(column, shares) / total) for column in known.T])


def keep_classes(loss: Any) -> None:
    """Makes `classes` of a loss a tuple: it compares, hashes and cannot change under a fitted calibrator."""
    object.__setattr__(loss, "classes", _class_indices(loss.classes))


def _class_indices(classes: Any) -> tuple[int, ...]:
    """Distinct labels, at least one."""
    labels = listed(classes, "classes")
    if any(isinstance(label, bool | np.bool_) or not isinstance(label, int | np.integer) for label in labels):
        raise TypeError(f"classes must hold class indices (ints), got {shown(classes)}")
    indices = tuple(int(label) for label in labels)
    if not indices or min(indices) < 0 or len(set(indices)) < len(indices):
        raise ValueError(f"classes must be distinct class indices, at least one, got {shown(classes)}")
    return indices


def class_flags(classes: Sequence[int] | None, n_classes: int) -> list[bool]:
    """Which of K classes are chosen; None chooses all."""
    if classes is None:
        return [True] * n_classes
    if max(classes) >= n_classes:
        raise ValueError(
            f"classes={list(classes)} names class {max(classes)}, but there are K = {n_classes} classes"
        )
    return [label in classes for label in range(n_classes)]
