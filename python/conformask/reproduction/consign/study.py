"""The comparisons on one data set: one pair (alpha, accuracy) with draws, and the lambdas of more pairs."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conformask.reproduction.consign.outcomes import Comparison, Outcome, mean_and_sd
from conformask.reproduction.consign.paper import N_SPLITS
from conformask.reproduction.consign.protocol import DRAWS, compare

__all__ = ["Shape", "Study", "shapes", "study"]

_ERRORS = 2  # standard errors by which a difference must have the paper's sign
# Metrics, their names in tables, and whether in the paper CONSIGN's is larger (1) or smaller (-1) than that of others.
_SHAPES = {
    "chao1": ("Chao", -1),
    "sample_coverage": ("SEC", 1),
    "varying_correlation": ("corr. var.", 1),
}


@dataclass(frozen=True)
class Shape:
    """How CONSIGN and a pixel-wise method differ in a metric, at the largest number of draws.

    Attributes
    ----------
    metric : str
        Which, with the number of draws.
    consign, baseline : str
        The methods.
    difference, error : float
        CONSIGN's metric minus the other's: the mean over splits on which neither abstains, and its standard error,
        which is NaN for fewer than two such splits.
    sign : {-1, 1}
        The sign of the difference in the paper: -1 if CONSIGN's metric is smaller.

    See Also
    --------
    shapes : Makes them.

    Examples
    --------
    >>> from conformask.reproduction.consign.study import Shape
    >>> shape = Shape("SEC(100)", "CONSIGN, k = 2", "RAPS", 0.2, 0.05, sign=1)
    >>> shape.holds, str(shape)
    (True, 'SEC(100) of CONSIGN, k = 2 less that of RAPS: 0.2 (0.05)')
    """

    metric: str
    consign: str
    baseline: str
    difference: float
    error: float
    sign: int

    @property
    def holds(self) -> bool:
        """Whether it is as in the paper, by more than two standard errors."""
        return self.sign * self.difference > _ERRORS * self.error

    def __str__(self) -> str:
        return f"{self.metric} of {self.consign} less that of {self.baseline}: {self.difference:.4g} ({self.error:.2g})"


@dataclass(frozen=True, eq=False)
class Study:
    """What was found on one data set.

    Attributes
    ----------
    title : str
        Its name.
    origin : str
        "simulated", or "real" with where the data come from.
    samples_from : str
        The source of the samples.
    size : str
        Samples, classes, height and width.
    n_classes : int
        L.
    main : Comparison
        The comparison for the pair with draws.
    pairs : tuple of Comparison
        The comparisons for all pairs, `main` included. For the others, tables show only lambdas and coverages.
    note : str
        A further note on the lambdas.

    See Also
    --------
    study : Makes it.
    """

    title: str
    origin: str
    samples_from: str
    size: str
    n_classes: int
    main: Comparison
    pairs: tuple[Comparison, ...]
    note: str = ""

    @property
    def simulated(self) -> bool:
        """Whether the data are made up, so that the result is known beforehand."""
        return self.origin == "simulated"

    def violations(self) -> list[str]:
        """List what must hold, but does not: coverage, and on simulated data the shapes of the paper's figures.

        Returns
        -------
        list of str
            Sentences; empty if all holds.
        """
        found = [
            f"{self.title}, alpha = {each.alpha:g}, accuracy = {each.min_accuracy:g}: {sentence}"
            for each in self.pairs
            for sentence in each.violations()
        ]
        if self.simulated:
            found += [
                f"{self.title}: not as in the paper: {shape}"
                for shape in shapes(self.main)
                if not shape.holds
            ]
        return found


def study(
    title: str,
    origin: str,
    samples_from: str,
    samples: Any,
    labels: Any,
    pairs: Sequence[tuple[float, float]],
    *,
    n_splits: int = N_SPLITS,
    n_calibration: int | None = None,
    note: str = "",
    progress: bool | str = "auto",
) -> Study:
    """Compare CONSIGN and pixel-wise sets for several pairs; label maps are drawn for the first.

    Parameters
    ----------
    title, origin, samples_from, note : str
        As in :class:`Study`.
    samples, labels : sequences
        As :func:`compare` takes them.
    pairs : sequence of (alpha, min_accuracy)
        Risk levels and label-wise accuracies.
    n_splits, n_calibration, progress
        As :func:`compare` takes them.

    Returns
    -------
    Study

    See Also
    --------
    compare : Does the work.

    Examples
    --------
    >>> from conformask.reproduction.consign import moving_edges
    >>> from conformask.reproduction.consign.study import study
    >>> found = study("edges", "simulated", "drawn", *moving_edges(60), [(0.1, 0.9), (0.3, 0.7)], n_splits=2)
    >>> found.size, [each.alpha for each in found.pairs], found.violations()
    ('6 x 2 x 16 x 16', [0.1, 0.3], [])
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="lambda_hat_ is 0")  # the tables show it
        found = [
            compare(
                samples,
                labels,
                alpha=alpha,
                min_accuracy=accuracy,
                n_splits=n_splits,
                n_calibration=n_calibration,
                progress=progress,
                n_samples=(1,) if i else DRAWS,
            )
            for i, (alpha, accuracy) in enumerate(pairs)
        ]
    shape = samples[0].shape
    size = " x ".join(map(str, shape))
    return Study(title, origin, samples_from, size, int(shape[1]), found[0], tuple(found), note)


def shapes(found: Comparison) -> list[Shape]:
    """How CONSIGN differs from the pixel-wise methods in the metrics of the paper's figures.

    Parameters
    ----------
    found : Comparison
        With draws.

    Returns
    -------
    list of Shape
        For each metric, each k and each pixel-wise method.

    See Also
    --------
    compare : Makes the comparison.

    Notes
    -----
    All splits are of the same images: the standard errors are about these, not about other images.
    """
    m = found.n_samples[-1]
    ours = [method for method in found.methods if method.startswith("CONSIGN")]
    others = [method for method in found.methods if method not in ours]
    result = []
    for metric, (name, sign) in _SHAPES.items():
        for consign in ours:
            for baseline in others:
                differences = [
                    getattr(one, metric)[-1] - getattr(other, metric)[-1]
                    for one, other in zip(found.of(consign), found.of(baseline), strict=True)
                    if not one.abstained and not other.abstained
                ]
                mean, sd = mean_and_sd(differences)
                error = sd / math.sqrt(len(differences)) if differences else math.nan
                result.append(Shape(f"{name}({m})", consign, baseline, mean, error, sign))
    return result


def reaches(found: Comparison, method: str) -> int | None:
    """The least number of draws at which the mean sample coverage is 1 - alpha or more; None if none is."""
    kept: list[Outcome] = [outcome for outcome in found.of(method) if not outcome.abstained]
    if not kept:
        return None
    for i, m in enumerate(found.n_samples):
        if statistics.fmean(outcome.sample_coverage[i] for outcome in kept) >= 1 - found.alpha:
            return m
    return None
