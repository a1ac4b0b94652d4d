"""Losses of an image: what its multi-labeled mask misses of its labels. All lie in [0, 1] and fall as lambda grows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from conformask import _core
from conformask._exact import as_fraction, as_plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BinaryLoss", "Loss", "MiscoverageLoss"]


@dataclass(frozen=True)
class MiscoverageLoss:
    r"""The share of labelled pixels whose set misses their label.

    Over the labelled pixels :math:`V` of an image (COSE, eq. 15),

    .. math:: L = 1 - \frac{1}{|V|} \sum_{p \in V} 1[y_p \in C_\lambda(p)],

    or with `class_weights` :math:`w` a weighted mean over the classes :math:`k` that the image has (COSE, eq. 16),

    .. math:: L = 1 - \frac{1}{\sum_k w_k} \sum_k w_k \frac{\text{covered pixels of } k}{\text{pixels of } k}.

    Parameters
    ----------
    class_weights : sequence of K floats >= 0, "balanced" or None, default=None
        Weight of each class; ``"balanced"`` weighs all alike. Classes absent from an image drop out of both sums; an
        image whose classes all have weight 0 has no loss (see ``on_empty``). None: every pixel counts alike.
    classes : sequence of int or None, default=None
        Only the pixels of these (priority) classes count. An image without any has no loss.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024.

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

    class_weights: Sequence[float] | str | None = None
    classes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        # Tuples compare, hash and cannot change under a fitted calibrator.
        weights = self.class_weights
        if isinstance(weights, str):
            if weights != "balanced":
                raise ValueError(
                    f"class_weights must be 'balanced', None or a sequence of floats, got {weights!r}"
                )
        elif weights is not None:
            weights = _as_list(weights, "class_weights")
            fractions = [as_fraction(weight, "class_weights") for weight in weights]
            if min(fractions, default=0) < 0 or not any(fractions):
                raise ValueError(f"class_weights must be at least 0, and one above it, got {weights!r}")
            plain = tuple(as_plain(weight, "class_weights") for weight in weights)
            object.__setattr__(self, "class_weights", plain)
        if self.classes is not None:
            listed = _as_list(self.classes, "classes")
            if any(
                isinstance(label, bool | np.bool_) or not isinstance(label, int | np.integer)
                for label in listed
            ):
                raise TypeError(f"classes must hold class indices (ints), got {self.classes!r}")
            classes = tuple(int(label) for label in listed)
            if not classes or min(classes) < 0 or len(set(classes)) < len(classes):
                raise ValueError(
                    f"classes must be distinct class indices, at least one, got {self.classes!r}"
                )
            object.__setattr__(self, "classes", classes)

    def _kernel(self, n_classes: int) -> _core.Loss:
        chosen = _flags(self.classes, n_classes)
        if self.class_weights is None:
            return _core.Loss.pooled(chosen)
        if isinstance(self.class_weights, str):
            weights = [Fraction(1)] * n_classes
        else:
            weights = [as_fraction(weight, "class_weights") for weight in self.class_weights]
            if len(weights) != n_classes:
                raise ValueError(
                    f"class_weights has {len(weights)} entries, but there are K = {n_classes} classes"
                )
        return _core.Loss.per_class([weight * flag for weight, flag in zip(weights, chosen, strict=True)])


@dataclass(frozen=True)
class BinaryLoss:
    r"""1 if too few labelled pixels are covered, else 0.

    With the minimum coverage :math:`\tau` (COSE, eq. 14; for :math:`\tau = 1` eq. 13),

    .. math:: L = 1\Big[\sum_{p \in V} 1[y_p \in C_\lambda(p)] < \lceil \tau |V| \rceil\Big].

    Controlling it at ``alpha`` says: with probability at least ``1 - alpha``, a new image has at least the share
    :math:`\tau` of its pixels covered.

    Parameters
    ----------
    min_coverage : float in (0, 1], default=1.0
        The share :math:`\tau` of labelled pixels that must be covered.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024.

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

    min_coverage: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < as_fraction(self.min_coverage, "min_coverage") <= 1:
            raise ValueError(f"min_coverage must be in (0, 1], got {self.min_coverage!r}")
        object.__setattr__(self, "min_coverage", as_plain(self.min_coverage, "min_coverage"))

    def _kernel(self, n_classes: int) -> _core.Loss:
        tolerance = 1 - as_fraction(self.min_coverage, "min_coverage")
        return _core.Loss.pooled([True] * n_classes, tolerance)


Loss: TypeAlias = MiscoverageLoss | BinaryLoss

_BY_NAME: dict[str, type[Loss]] = {"miscoverage": MiscoverageLoss, "binary": BinaryLoss}


def as_loss(loss: object) -> Loss:
    """The loss of a name, or the loss itself."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss.lower() in _BY_NAME:
        return _BY_NAME[loss.lower()]()
    raise ValueError(
        f"loss must be one of {sorted(_BY_NAME)} or a loss such as BinaryLoss(0.9), got {loss!r}"
    )


def loss_values(loss: Loss, missed: NDArray[np.uint64], totals: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Losses (n,) from missed and labelled pixels of each class, both (n, K); NaN where undefined."""
    return loss._kernel(totals.shape[1]).values(missed, totals)


def _as_list(values: Any, name: str) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence, got {values!r}")
    return list(values)


def _flags(classes: Sequence[int] | None, n_classes: int) -> list[bool]:
    if classes is None:
        return [True] * n_classes
    if max(classes) >= n_classes:
        raise ValueError(
            f"classes={list(classes)} names class {max(classes)}, but there are K = {n_classes} classes"
        )
    return [label in classes for label in range(n_classes)]


def loss_to_json(loss: Loss) -> str:
    """A loss as JSON."""
    if type(loss) not in _BY_NAME.values():
        raise TypeError(f"only built-in losses can be saved, got {loss!r}")
    name = next(name for name, kind in _BY_NAME.items() if kind is type(loss))
    return json.dumps({"name": name, **asdict(loss)})


def loss_from_json(text: str) -> Loss:
    """The inverse of :func:`loss_to_json`."""
    fields = json.loads(text)
    return _BY_NAME[fields.pop("name")](**fields)
