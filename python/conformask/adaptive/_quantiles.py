r"""Linear quantile regression of the foreground's probabilities, by linear programming.

The thresholds :math:`u_i = \varphi_i^\top \theta` are such that images miss the share alpha on average, weighted by any
of the features :math:`\varphi`. The integral of the share that image i misses, up to a threshold u, is the mean of
:math:`(u - p)_+` over its foreground. So the thresholds minimise

.. math:: \sum_i s_i \big( \textstyle\sum_b h_{ib} (u_i - v_b)_+ \big) - r^\top \theta + \Lambda \|\theta_{1:}\|_1

where h are shares of the foreground by bins that begin at v, and :math:`r = \alpha \sum_i s_i \varphi_i` plus a term of
the new image (see :class:`conformask.adaptive._per_test.PerTest`). The dual has a bounded variable for each bin of an
image, and one equation for each feature; its multipliers are theta. Bins far from the threshold of their image are
taken to be full or empty, and are left out. The solution is checked for this, so it is the solution with all bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize

from conformask.adaptive._saved import arrays_from_json

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.float64]

__all__ = ["N_BINS", "Linear", "Standard", "check_width", "regress"]

N_BINS = 1024  # bins of equal width over [0, 1]

_COARSE = (16, 128)  # numbers of bins of coarser problems, whose solutions show which bins matter
_NEAR = 8  # bins on each side of a threshold that are variables at first
_WIDER = 2  # factor by which their number grows if they are not enough
_FARTHEST = 5.0  # features are clipped at so many standard deviations
_INFEASIBLE = 2  # SciPy's status of an infeasible problem


def check_width(features: Array, known: int) -> None:
    """Refuses features (n, F) of new images if their number differs from calibration."""
    if features.shape[1] != known:
        raise ValueError(f"embedding gives {features.shape[1]} features, but gave {known} in calibration")


@dataclass(frozen=True, eq=False)
class Standard:
    """Features in standard deviations from their mean."""

    mean: Array  # (F,)
    inverse: Array  # (F,) 1 over the standard deviation; 0 for a feature that is constant, and says nothing

    @classmethod
    def of(cls, features: Array, shares: Array) -> Standard:
        """The standardisation of features (n, F), whose rows count by their shares (n,)."""
        mean = shares @ features / shares.sum()
        scale = np.sqrt(shares @ (features - mean) ** 2 / shares.sum())
        varies = scale > 1e-9 * (1 + abs(mean))
        return cls(mean, np.divide(1, scale, out=np.zeros_like(scale), where=varies))

    def design(self, features: Array) -> Array:
        """A column of ones, and features (n, F) in standard deviations: (n, 1 + F)."""
        check_width(features, len(self.mean))
        z = np.clip((features - self.mean) * self.inverse, -_FARTHEST, _FARTHEST)
        return np.concatenate([np.ones((len(z), 1)), z], axis=1)


@dataclass(frozen=True, eq=False)
class Linear:
    """A threshold that is linear in standardised features, cut at 0 and 1."""

    standard: Standard
    theta: Array  # (1 + F,)

    @classmethod
    def fit(cls, features: Array, histograms: Array, alpha: float, penalty: float) -> Linear:
        """Fits to images with features (n, F) and shares of their foregrounds by bins (n, B)."""
        ones = np.ones(len(features))
        standard = Standard.of(features, ones)
        design = standard.design(features)
        theta = regress(design, histograms, alpha * design.sum(axis=0), penalty * len(design))
        if theta is None:
            raise ArithmeticError(
                "the quantile regression has no solution, though 0 misses nothing and 1 all"
            )
        return cls(standard, theta)

    def predict(self, features: Array) -> Array:
        """Thresholds (n,) for features (n, F). The order of sums does not depend on the other rows."""
        thresholds = np.zeros(len(features))
        for column, weight in zip(self.standard.design(features).T, self.theta, strict=True):
            thresholds += column * weight
        return np.clip(thresholds, 0, 1)

    def to_json(self) -> dict[str, list[float]]:
        """The content for a file."""
        return {
            "mean": self.standard.mean.tolist(),
            "inverse": self.standard.inverse.tolist(),
            "theta": self.theta.tolist(),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], n_features: int) -> Linear:
        """The inverse; refuses anything but a model of so many features."""
        sizes = {"mean": n_features, "inverse": n_features, "theta": 1 + n_features}
        arrays = arrays_from_json(document, sizes)
        if not (arrays["inverse"] >= 0).all():
            raise ValueError("inverse of the predictor is below 0")
        return cls(Standard(arrays["mean"], arrays["inverse"]), arrays["theta"])


def regress(
    design: Array, histograms: Array, right: Array, penalty: float, start: Array | None = None
) -> Array | None:
    """The theta (1 + F,) of least loss; None if the loss has no least value, because it falls as thresholds do.

    Parameters
    ----------
    design : float64 array (n, 1 + F)
        A column of ones, and features.
    histograms : float64 array (n, B)
        How much each image counts, times the share of its foreground in each bin.
    right : float64 array (1 + F,)
        r.
    penalty : float
        Lambda, at least 0.
    start : float64 array (n,) or None
        Thresholds near the solution.

    Returns
    -------
    float64 array (1 + F,) or None
    """
    n_bins = histograms.shape[1]
    for coarse in [] if start is not None else [n for n in _COARSE if n < n_bins and n_bins % n == 0]:
        theta = _regress(design, _merged(histograms, coarse), right, penalty, start)
        if theta is None:
            return None
        start = design @ theta
    return _regress(design, histograms, right, penalty, start)


def _regress(
    design: Array, histograms: Array, right: Array, penalty: float, start: Array | None
) -> Array | None:
    n, n_bins = histograms.shape
    first, end = np.zeros(n, np.intp), np.full(n, n_bins)
    if start is not None:
        first, end = _around(start, _NEAR, n_bins)
    width = _NEAR
    while True:
        theta = _restricted(design, histograms, right, penalty, first, end)
        if theta is None:
            is_all = bool((first == 0).all() and (end == n_bins).all())
            if is_all or not _has_least_value(design, histograms, right, penalty):
                return None
            width *= _WIDER
            centre = (first + end) / (2 * n_bins)
            near, far = _around(centre, width, n_bins)
        else:
            at = design @ theta * n_bins
            is_outside = ((at < first - 1) & (first > 0)) | ((at > end) & (end < n_bins))
            if not is_outside.any():
                return theta
            near, far = _around(at / n_bins, _NEAR, n_bins)
            near, far = np.where(is_outside, near, first), np.where(is_outside, far, end)
        first, end = np.minimum(first, near), np.maximum(end, far)


def _merged(histograms: Array, n_bins: int) -> Array:
    """Coarser histograms: a bin begins where the first of the bins that it joins begins."""
    merged: Array = histograms.reshape(len(histograms), n_bins, -1).sum(axis=2)
    return merged


def _has_least_value(design: Array, histograms: Array, right: Array, penalty: float) -> bool:
    """Whether the loss has a least value. This does not depend on where bins begin."""
    n = len(histograms)
    one_bin = np.zeros(n, np.intp), np.ones(n, np.intp)
    return _restricted(design, _merged(histograms, 1), right, penalty, *one_bin) is not None


def _around(thresholds: Array, width: int, n_bins: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The bins near thresholds: their first, and the one after their last."""
    centre = np.clip(thresholds * n_bins, 0, n_bins).astype(np.intp)
    return np.maximum(centre - width, 0), np.minimum(centre + width + 1, n_bins)


def _restricted(
    design: Array,
    histograms: Array,
    right: Array,
    penalty: float,
    first: NDArray[np.intp],
    end: NDArray[np.intp],
) -> Array | None:
    """The solution if all bins before the first are full, and those from the end on are empty."""
    n_bins = histograms.shape[1]
    bins = np.arange(n_bins)
    is_full = bins < first[:, np.newaxis]
    images, of_image = np.nonzero(~is_full & (bins < end[:, np.newaxis]) & (histograms > 0))
    most = histograms[images, of_image]
    n_features = design.shape[1] - 1
    # The penalty of each feature adds a bounded variable to its equation.
    slack = np.eye(1 + n_features)[:, 1:]
    found = optimize.linprog(
        np.concatenate([of_image / n_bins, np.zeros(n_features)]),
        A_eq=np.concatenate([design[images].T, slack], axis=1),
        b_eq=right - np.where(is_full, histograms, 0).sum(axis=1) @ design,
        bounds=np.concatenate(
            [np.column_stack([np.zeros(len(most)), most]), np.tile([-penalty, penalty], (n_features, 1))]
        ),
        method="highs",
        options={"presolve": False},  # for a dozen rows, presolving takes longer than it saves
    )
    if found.status == _INFEASIBLE:
        return None
    if found.status != 0:
        raise ArithmeticError(f"the quantile regression has no solution: {found.message}")
    theta: Array = found.eqlin.marginals
    return theta
