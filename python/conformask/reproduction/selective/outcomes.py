"""The results of scalers on test images."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from conformask._tables import Table
from conformask._text import plural

__all__ = ["UNCALIBRATED", "ScalerComparison", "ScalerOutcome"]

UNCALIBRATED = "Uncal"


@dataclass(frozen=True)
class ScalerOutcome:
    """The result of one scaler on the test images of one split.

    Attributes
    ----------
    method : str
        Its name; "Uncal" is the softmax.
    split : int
        The split, from 0.
    n_calibration : int or None
        Number of images that it was fitted to; None if they were not counted.
    n_test : int
        Number of test images.
    ece : float
        Mean over test images of their expected calibration errors, in [0, 1].
    nll : float
        Mean negative log-likelihood of the pixels.
    mean_iou : float
        Mean intersection over union of the classes, in [0, 1].
    accuracy : float
        Share of correctly predicted pixels.
    seconds : float
        How long the fit took.
    keeps_prediction : bool
        Whether the method promises not to change the most probable class of any pixel.

    See Also
    --------
    ScalerComparison : All outcomes.

    Examples
    --------
    >>> from conformask.reproduction.selective import ScalerOutcome
    >>> ScalerOutcome("TempS", 0, 20, 20, 0.05, 0.3, 0.6, 0.9, 0.01, True).ece
    0.05
    """

    method: str
    split: int
    n_calibration: int | None
    n_test: int
    ece: float
    nll: float
    mean_iou: float
    accuracy: float
    seconds: float
    keeps_prediction: bool


@dataclass(frozen=True)
class ScalerComparison:
    """What all scalers gave on all splits. It prints as a table, in Markdown.

    Attributes
    ----------
    title : str
        The data.
    outcomes : tuple of ScalerOutcome
        Method by method, split by split.
    origin : str
        "simulated", or "real" with where the data come from.

    See Also
    --------
    compare_scalers : Makes it.

    Examples
    --------
    See :func:`compare_scalers`.
    """

    title: str
    outcomes: tuple[ScalerOutcome, ...]
    origin: str = "not said"

    @property
    def methods(self) -> list[str]:
        """The methods, in order."""
        return list(dict.fromkeys(outcome.method for outcome in self.outcomes))

    def mean(self, method: str, measure: str) -> float:
        """The mean over splits.

        Parameters
        ----------
        method : str
            One of :attr:`methods`.
        measure : str
            A numeric attribute of :class:`ScalerOutcome`.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If there is no such method.
        """
        values = [getattr(outcome, measure) for outcome in self.outcomes if outcome.method == method]
        if not values:
            raise ValueError(f"no method {method!r}: they are {self.methods}")
        return statistics.fmean(values)

    def text(self, method: str, measure: str, digits: int = 4) -> str:
        """Mean (sd over splits), as tables print it; for a single split without the sd.

        Parameters
        ----------
        method : str
            One of :attr:`methods`.
        measure : str
            A numeric attribute of :class:`ScalerOutcome`.
        digits : int, default=4
            Number of decimals.

        Returns
        -------
        str
        """
        values = [getattr(outcome, measure) for outcome in self.outcomes if outcome.method == method]
        sd = f" ({statistics.stdev(values):.{digits}f})" if len(values) > 1 else ""
        return f"{self.mean(method, measure):.{digits}f}{sd}"

    def violations(self) -> list[str]:
        """List what must hold, but does not: a method that keeps the prediction keeps the accuracy.

        Returns
        -------
        list of str
            Sentences; empty if all holds.
        """
        raw = {each.split: each.accuracy for each in self.outcomes if each.method == UNCALIBRATED}
        return [
            f"{each.method} keeps the prediction, but its accuracy in split {each.split} is {each.accuracy}, not "
            f"{raw[each.split]}"
            for each in self.outcomes
            if each.keeps_prediction and each.accuracy != raw[each.split]
        ]

    def _table(self) -> Table:
        measures = ("ece", "nll", "mean_iou", "accuracy", "seconds")
        rows = [(method, *(self.text(method, measure) for measure in measures)) for method in self.methods]
        header = ("method", "ECE of images", "NLL", "mIoU", "accuracy", "seconds")
        return Table(f"{self.title}, {self.origin}: {self._splits()}mean (sd over splits)", header, rows)

    def _splits(self) -> str:
        """How the images were split, in words."""
        some = self.outcomes[0]
        n_splits = len({outcome.split for outcome in self.outcomes})
        if some.n_calibration is None:
            return f"{plural(some.n_test, 'image')} test; "
        return f"{plural(n_splits, 'split')}, {some.n_calibration} calibrate, {some.n_test} test; "

    def __str__(self) -> str:
        return self._table().markdown()

    def _repr_html_(self) -> str:
        return self._table().html()
