"""The results of methods over random splits, and whether they keep what they promise."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import numpy as np

from conformask._tables import Table
from conformask._text import plural
from conformask.adaptive.report import BinaryReport

__all__ = ["AdaptiveComparison", "AdaptiveOutcome"]

_ERRORS = 2  # standard errors that a mean coverage may lie below its level
_ROUNDING = 1e-12
# Measures of a report, and what the tables call them.
_MEASURES = {
    "coverage": "coverage",
    "coverage_gap": "coverage gap",
    "exceedance": "images above alpha",
    "tail_risk": "risk of the worst 10 %",
    "false_positive_rate": "false positive rate",
    "size": "size",
}
_SMALLEST_FIRST = ("COAT", "AT", "CRC")  # the order of the paper's gaps, where they are legible


@dataclass(frozen=True, eq=False)
class AdaptiveOutcome:
    """What one method gave on one split.

    Attributes
    ----------
    method : str
        Its name.
    alpha : float
        The risk level.
    split : int
        The split, from 0.
    n_calibration, n_test : int
        Images (groups) of the two halves.
    seconds : float
        How long calibration took, with training.
    scatter : float
        The standard deviation of the coverage of test images (groups).
    report : BinaryReport
        The measures of its masks on the test half.

    See Also
    --------
    AdaptiveComparison : All outcomes.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.reproduction.coat import BinaryMaps, compare_adaptive
    >>> P = np.random.default_rng(0).random((80, 8, 8))
    >>> found = compare_adaptive(BinaryMaps("noise", P, P > 0.3), n_splits=1)
    >>> found.outcomes[0].method, found.outcomes[0].n_test, found.outcomes[0].report.n_images
    ('CRC', 40, 40)
    """

    method: str
    alpha: float
    split: int
    n_calibration: int
    n_test: int
    seconds: float
    scatter: float
    report: BinaryReport

    @property
    def expected_variance(self) -> float:
        r"""An estimate of the variance of the mean coverage over such splits, from the scatter of images.

        The difference of the means of two random parts of n and m images has the variance
        :math:`s^2 (1 / n + 1 / m)`; calibration keeps the mean of the first part at its level.
        """
        return self.scatter**2 * (1 / self.report.n_calibration + 1 / self.n_test)


@dataclass(frozen=True, eq=False, repr=False)
class AdaptiveComparison:
    """What all methods gave on all splits. It prints as tables, in Markdown.

    Attributes
    ----------
    title : str
        The data.
    outcomes : tuple of AdaptiveOutcome
        Alpha by alpha, method by method, split by split.
    unit : {"image", "group"}
        What was split and counts once.
    n_empty : int
        Images that were left out because they have no foreground.
    origin : str
        "simulated", or "real" with where the data come from.

    See Also
    --------
    compare_adaptive : Makes it.

    Examples
    --------
    See :func:`compare_adaptive`.
    """

    title: str
    outcomes: tuple[AdaptiveOutcome, ...]
    unit: str = "image"
    n_empty: int = 0
    origin: str = "not said"

    @property
    def methods(self) -> list[str]:
        """The methods, in order."""
        return list(dict.fromkeys(outcome.method for outcome in self.outcomes))

    @property
    def alphas(self) -> list[float]:
        """The risk levels, in order."""
        return list(dict.fromkeys(outcome.alpha for outcome in self.outcomes))

    def reports(self, alpha: float) -> dict[str, list[BinaryReport]]:
        """The reports of all splits.

        Parameters
        ----------
        alpha : float
            One of :attr:`alphas`.

        Returns
        -------
        dict of str to list of BinaryReport
            By method, as :func:`~conformask.plotting.plot_gap` takes them.

        Raises
        ------
        ValueError
            If there is no such alpha.
        """
        return {method: [outcome.report for outcome in self._of(method, alpha)] for method in self.methods}

    def mean(self, method: str, alpha: float, measure: str) -> float:
        """The mean over splits.

        Parameters
        ----------
        method : str
            One of :attr:`methods`.
        alpha : float
            One of :attr:`alphas`.
        measure : str
            A numeric attribute of :class:`~conformask.BinaryReport`, such as "coverage_gap".

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If there is no such method or alpha.
        """
        return statistics.fmean(self._values(method, alpha, measure))

    def sd(self, method: str, alpha: float, measure: str) -> float:
        """The standard deviation over splits (n - 1 in the denominator).

        Parameters
        ----------
        method, alpha, measure
            As for :meth:`mean`.

        Returns
        -------
        float
            NaN of a single split.

        Raises
        ------
        ValueError
            If there is no such method or alpha.
        """
        values = self._values(method, alpha, measure)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def text(self, method: str, alpha: float, measure: str) -> str:
        """Mean (sd), as tables print it.

        Parameters
        ----------
        method, alpha, measure
            As for :meth:`mean`.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If there is no such method or alpha.
        """
        mean, sd = self.mean(method, alpha, measure), self.sd(method, alpha, measure)
        return f"{mean:.3f}" + ("" if math.isnan(sd) else f" ({sd:.3f})")

    def full_masks(self, method: str, alpha: float) -> float:
        """The share of masks that hold the whole image. They miss nothing, but are of no use.

        Parameters
        ----------
        method, alpha
            As for :meth:`mean`.

        Returns
        -------
        float in [0, 1]
            Over the test images of all splits.

        Raises
        ------
        ValueError
            If there is no such method or alpha.
        """
        sizes = np.concatenate([outcome.report.sizes for outcome in self._of(method, alpha)])
        return float(np.mean(sizes == 1))

    def violations(self) -> list[str]:
        """List what must hold, but does not: a mean coverage of 1 - alpha, less two of its standard errors.

        The standard error is that of the mean over splits. It is computed from their standard deviation. A few splits
        may agree by chance, so it is at least the value that follows from the scatter of images. Given the images,
        splits are independent draws, and the guarantee holds for their mean. But they are splits of the same images: as
        evidence about other images they are not independent, and twenty of them are far less than twenty data sets.

        Returns
        -------
        list of str
            Sentences; empty if all holds.
        """
        found = []
        for alpha in self.alphas:
            for method in self.methods:
                mean, error = self.mean(method, alpha, "coverage"), self._error(method, alpha)
                if mean < 1 - alpha - _ERRORS * error - _ROUNDING:
                    found.append(
                        f"{method}, alpha = {alpha:g}: the mean coverage over splits is {mean:.4f}, below "
                        f"{1 - alpha:g} by more than two of its standard errors ({error:.4f})"
                    )
        return found

    def gap_order(self, alpha: float) -> str:
        """The order of the methods by mean coverage gap, and whether it is the paper's. It is reported, not required.

        Parameters
        ----------
        alpha : float
            One of :attr:`alphas`.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If there is no such alpha.
        """
        gaps = {method: self.mean(method, alpha, "coverage_gap") for method in self.methods}
        ordered = " < ".join(f"{method} {gaps[method]:.3f}" for method in sorted(gaps, key=gaps.__getitem__))
        text = f"Coverage gap at alpha = {alpha:g}: {ordered}."
        if not set(_SMALLEST_FIRST) <= gaps.keys():
            return text
        first, middle, last = (gaps[method] for method in _SMALLEST_FIRST)
        coat, crc = (self._values(method, alpha, "coverage_gap") for method in ("COAT", "CRC"))
        smaller = sum(one < other for one, other in zip(coat, crc, strict=True))
        holds = "holds" if first < middle < last else "does not hold"
        return (
            f"{text} The paper's order, {' < '.join(_SMALLEST_FIRST)}, {holds} here; the gap of COAT is smaller than "
            f"that of CRC in {smaller} of {plural(len(coat), 'split')}."
        )

    def _table(self, alpha: float) -> Table:
        """All measures of all methods at one alpha, mean (sd)."""
        rows = []
        for method in self.methods:
            seconds = statistics.fmean(outcome.seconds for outcome in self._of(method, alpha))
            cells = [self.text(method, alpha, measure) for measure in _MEASURES]
            rows.append((method, *cells, f"{self.full_masks(method, alpha):.3f}", f"{seconds:.2f}"))
        header = ("method", *_MEASURES.values(), "full masks", "seconds of fit")
        return Table(f"alpha = {alpha:g}: mean (sd over splits)", header, rows)

    def _of(self, method: str, alpha: float) -> list[AdaptiveOutcome]:
        found = [each for each in self.outcomes if (each.method, each.alpha) == (method, alpha)]
        if not found:
            raise ValueError(
                f"no outcomes of {method!r} at alpha = {alpha!r}: there are {self.methods} at {self.alphas}"
            )
        return found

    def _values(self, method: str, alpha: float, measure: str) -> list[float]:
        return [float(getattr(outcome.report, measure)) for outcome in self._of(method, alpha)]

    def _error(self, method: str, alpha: float) -> float:
        """The standard error of the mean coverage."""
        outcomes, sd = self._of(method, alpha), self.sd(method, alpha, "coverage")
        expected = statistics.fmean(outcome.expected_variance for outcome in outcomes)
        observed = 0.0 if math.isnan(sd) else sd**2
        return math.sqrt(max(expected, observed) / len(outcomes))

    def _sizes(self) -> str:
        """What was split, in words."""
        n_splits, some = len(self._of(self.methods[0], self.alphas[0])), self.outcomes[0]
        empty = f"; {plural(self.n_empty, 'image')} without a foreground left out" if self.n_empty else ""
        n = some.n_calibration + some.n_test
        return (
            f"Source: {self.origin}. {plural(n, self.unit)}, {plural(n_splits, 'random split')} into "
            f"{some.n_calibration} that calibrate and {some.n_test} that test{empty}."
        )

    def _verdict(self) -> str:
        broken = self.violations()
        if broken:
            return "Does not hold: " + "; ".join(broken) + "."
        errors = [self._error(method, alpha) for alpha in self.alphas for method in self.methods]
        return (
            "No mean coverage is below 1 - alpha by more than two of its standard errors over splits "
            f"({min(errors):.4f} to {max(errors):.4f})."
        )

    def __str__(self) -> str:
        tables = [self._table(alpha).markdown() for alpha in self.alphas]
        orders = [self.gap_order(alpha) for alpha in self.alphas]
        return "\n\n".join(
            [
                f"## {self.title}",
                self._sizes(),
                *tables,
                "\n".join(f"- {each}" for each in [*orders, self._verdict()]),
            ]
        )

    def __repr__(self) -> str:
        return f"AdaptiveComparison({self.title!r}, {self.methods} at {self.alphas}, {len(self.outcomes)} outcomes)"

    def _repr_markdown_(self) -> str:
        return str(self)
