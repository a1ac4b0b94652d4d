"""The results of the methods, and whether they keep what they promise."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from conformask._exact import check_alpha

__all__ = ["Comparison", "Outcome", "mean_and_sd"]

_CURVES = ("chao1", "sample_coverage", "correlation", "varying_correlation")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one method gave on one split.

    Attributes
    ----------
    method : str
        Its name.
    split : int
        The split, from 0.
    n_calibration, n_test : int
        Images that calibrate and that test.
    lambda_hat : float or None
        The calibrated lambda. None if no lambda controls the risk: the method abstains, and the other results are NaN
        or empty.
    reason : str
        Why it abstains.
    coverage, coverage_bound : float
        Bounds, from below and from above, of the share of the test images whose set holds a segmentation that is
        accurate enough. They are equal unless a search of CONSIGN was left undecided.
    log10_volume : float
        Decimal logarithm of the number of label maps in a set, mean over test images: exact for pixel-wise sets
        (:func:`~conformask.metrics.log10_volume`), an upper bound for CONSIGN
        (:meth:`~conformask.ConsignSet.log10_volume_upper`).
    statuses : dict of str to float
        Shares of the calibration images by how their search ended (``ConsignCalibrator.image_status_``); empty for
        pixel-wise sets.
    chao1 : tuple of float
        Chao's bias-corrected estimate from the first m draws, for each m: the median over test images. An estimate
        cannot exceed ``m (m + 1) / 2``, and every large set reaches that ceiling, however large it is. Such images
        would distort a mean; they do not change the median until they are half of the images.
    sample_coverage : tuple of float
        Share of the test images for which at least one of the first m draws is accurate enough.
    correlation, varying_correlation : tuple of float
        Mean pairwise correlation of the first m draws, over all pixels and over those at which not all of them agree,
        mean over test images; images without such pixels are left out of the second. NaN for ``m = 1``.

    See Also
    --------
    compare : Makes them.
    Comparison : All outcomes.

    Examples
    --------
    >>> from conformask.reproduction.consign import Outcome
    >>> Outcome("RAPS", 0, 40, 20, lambda_hat=None, reason="too few images").abstained
    True
    """

    method: str
    split: int
    n_calibration: int
    n_test: int
    lambda_hat: float | None
    reason: str = ""
    coverage: float = math.nan
    coverage_bound: float = math.nan
    log10_volume: float = math.nan
    statuses: Mapping[str, float] = field(default_factory=dict)
    chao1: tuple[float, ...] = ()
    sample_coverage: tuple[float, ...] = ()
    correlation: tuple[float, ...] = ()
    varying_correlation: tuple[float, ...] = ()

    @property
    def abstained(self) -> bool:
        """Whether no lambda controls the risk."""
        return self.lambda_hat is None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What all methods gave on all splits. It prints as a table, in Markdown.

    Attributes
    ----------
    alpha, min_accuracy : float
        What was asked of all methods.
    n_samples : tuple of int
        The numbers of draws m of the curves.
    outcomes : tuple of Outcome
        Method by method, split by split.

    See Also
    --------
    compare : Makes it.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN", ICLR 2026, arXiv:2505.14113.

    Examples
    --------
    See :func:`compare`.
    """

    alpha: float
    min_accuracy: float
    n_samples: tuple[int, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def methods(self) -> list[str]:
        """The methods, in order."""
        return list(dict.fromkeys(outcome.method for outcome in self.outcomes))

    def of(self, method: str) -> list[Outcome]:
        """The outcomes of a method.

        Parameters
        ----------
        method : str
            One of :attr:`methods`.

        Returns
        -------
        list of Outcome
            One for each split.

        Raises
        ------
        ValueError
            If there is no such method.
        """
        found = [outcome for outcome in self.outcomes if outcome.method == method]
        if not found:
            raise ValueError(f"method must be one of {self.methods}, got {method!r}")
        return found

    def curve(self, method: str, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A metric against the number of draws.

        Parameters
        ----------
        method : str
            One of :attr:`methods`.
        metric : {"chao1", "sample_coverage", "correlation", "varying_correlation"}
            As in :class:`Outcome`.

        Returns
        -------
        mean, sd : float64 arrays, one value for each of `n_samples`
            Over the splits on which the method does not abstain and the metric is defined. NaN without such a split;
            the standard deviation is NaN also for a single one.

        Raises
        ------
        ValueError
            If there is no such method or metric.
        """
        if metric not in _CURVES:
            raise ValueError(f"metric must be one of {list(_CURVES)}, got {metric!r}")
        rows = [getattr(outcome, metric) for outcome in self.of(method) if not outcome.abstained]
        columns = [mean_and_sd(row[i] for row in rows) for i in range(len(self.n_samples))]
        mean, sd = zip(*columns, strict=True)
        return np.array(mean), np.array(sd)

    def violations(self) -> list[str]:
        """Say which methods cover less than they must.

        Given the images, the splits are random, and the guarantee holds for them: the expectation of a method's mean
        coverage over splits is at least ``1 - alpha``, where abstaining counts as covering. The mean coverage must not
        be below ``1 - alpha`` by more than three standard errors. These follow from the law of a split: the number of
        the m test images that lie below the k-th smallest of n others is beta-binomial.

        Returns
        -------
        list of str
            One sentence each; empty if all holds.
        """
        found = []
        for method in self.methods:
            outcomes = self.of(method)
            covered = [1.0 if outcome.abstained else outcome.coverage for outcome in outcomes]
            mean, least = statistics.fmean(covered), 1 - float(self.alpha) - 3 * self._error(method)
            if mean < least:
                found.append(f"{method}: the mean coverage is {mean:.4f}, below {least:.4f}")
        return found

    def __str__(self) -> str:
        first = self.outcomes[0]
        m = self.n_samples[-1]
        header = [
            *(
                "method",
                "lambda-hat",
                "coverage",
                f"SEC({m})",
                f"Chao({m})",
                "corr.",
                "corr. var.",
                "log10 vol.",
            ),
            *("abstained", "calibration images"),
        ]
        rows = [header, *(self._row(method) for method in self.methods)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = [
            "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
            for row in rows
        ]
        lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
        n_splits = len(self.of(first.method))
        head = (
            f"alpha = {self.alpha:g}, min_accuracy = {self.min_accuracy:g}; {n_splits} splits into "
            f"{first.n_calibration} calibration and {first.n_test} test images; mean (sd)"
        )
        legend = (
            "coverage: share of test images whose set holds a segmentation that is accurate enough. "
            f"SEC({m}): share of test images for which at least one of {m} draws is accurate enough. "
            f"Chao({m}): estimated number of segmentations, at most {m * (m + 1) // 2}. corr.: correlation of pairs of "
            "draws, over all pixels and over those that vary. log10 vol.: logarithm of the number of segmentations. "
            "calibration images: how the search of each ended."
        )
        return "\n\n".join([head, "\n".join(lines), *self._reasons(), legend, self._verdict()])

    def _reasons(self) -> list[str]:
        """Why methods abstain, once each."""
        reasons = {outcome.method: outcome.reason for outcome in reversed(self.outcomes) if outcome.abstained}
        return [f"{method} abstains: {reason}" for method, reason in reversed(reasons.items())]

    def _verdict(self) -> str:
        below = self.violations()
        if below:
            return "; ".join(below)
        errors = sorted({f"{self._error(method):.3f}" for method in self.methods})
        return (
            f"The guaranteed coverage, {1 - self.alpha:g}, is an expected value. No mean coverage is below it by more "
            f"than three of its standard errors ({' to '.join(errors)})."
        )

    def _error(self, method: str) -> float:
        """The standard error of the mean coverage."""
        variances = [_variance(outcome, check_alpha(self.alpha)) for outcome in self.of(method)]
        return math.sqrt(math.fsum(variances)) / len(variances)

    def _repr_markdown_(self) -> str:
        return str(self)

    def _row(self, method: str) -> list[str]:
        outcomes = self.of(method)
        kept = [outcome for outcome in outcomes if not outcome.abstained]
        statuses: Counter[str] = Counter()
        for outcome in outcomes:
            statuses.update(outcome.statuses)
        low, high = (_spread([getattr(o, name) for o in kept]) for name in ("coverage", "coverage_bound"))
        return [
            method,
            _spread([float(o.lambda_hat) for o in kept if o.lambda_hat is not None], "#.3g"),
            low if low == high else f"{low} to {high}",
            _spread([o.sample_coverage[-1] for o in kept]),
            _spread([o.chao1[-1] for o in kept], ".4g"),
            _spread([o.correlation[-1] for o in kept]),
            _spread([o.varying_correlation[-1] for o in kept]),
            ("at most " if statuses and kept else "") + _spread([o.log10_volume for o in kept], ".1f"),
            f"{len(outcomes) - len(kept)} of {len(outcomes)}",
            ", ".join(f"{share / len(outcomes):.0%} {name}" for name, share in statuses.items()) or "-",
        ]


def mean_and_sd(values: Iterable[float]) -> tuple[float, float]:
    """The mean and the sample standard deviation of what is not NaN; NaN of no value, the latter also of one."""
    defined = [float(value) for value in values if not math.isnan(value)]
    return (
        math.fsum(defined) / len(defined) if defined else math.nan,
        statistics.stdev(defined) if len(defined) > 1 else math.nan,
    )


def _variance(outcome: Outcome, alpha: Fraction) -> float:
    """The variance of the coverage of a split, by the beta-binomial law."""
    n, m = outcome.n_calibration, outcome.n_test
    p = math.ceil((n + 1) * (1 - alpha)) / (n + 1)
    return p * (1 - p) * (n + 1 + m) / (m * (n + 2))


def _spread(values: Iterable[float], spec: str = ".3f") -> str:
    """Mean (sd), as text."""
    mean, sd = mean_and_sd(values)
    if math.isnan(mean):
        return "-"
    return f"{mean:{spec}}" + ("" if math.isnan(sd) else f" ({sd:{spec}})")
