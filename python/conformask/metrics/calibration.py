"""Measures of the calibration of probabilities, all from one pass over the maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conformask._images import Volumes
from conformask.metrics._counted import Asked, Counted, count, joined, paired
from conformask.metrics._evaluation import report_of
from conformask.metrics.reliability import CalibrationReport

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike

__all__ = ["CalibrationAccumulator", "calibration_report"]

# The settings that counts must share to be added.
_COMMON = (
    *("n_bins", "inputs", "transform", "ignore_index"),
    *("class_threshold", "boundary_width", "boundary", "object_classes"),
)


class CalibrationAccumulator:
    """Accumulates the counts behind measures of calibration, over batches and workers, and reports the measures.

    It keeps counts, 128 bytes for each image and bin, and about 1 MB more, but no maps. All counts are whole numbers:
    batches and merges in any order give the same report, bit for bit.

    Parameters
    ----------
    n_bins : int from 1 to 1000, default=15
        Number of bins of equal width.
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the numbers of X are: see :class:`~conformask.ConformalRiskCalibrator`.
    transform : fitted scaler or None, default=None
        A scaler that turns X into probabilities, such as a :class:`~conformask.TemperatureScaler`; `inputs` must be
        that of the scaler.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which do not count.
    class_threshold : float in [0, 1), default=0.001
        The smallest probability of a class that is binned. With many classes nearly all probabilities are near 0, and
        correct there: without a threshold they would hide the errors of the others. The mean over classes leaves out a
        class if none of its probabilities reaches the threshold.
    boundary_width : int or None, default=2
        A pixel belongs to the boundary if another label is within this many pixels along each axis; None counts no
        regions.
    boundary : {"labels", "prediction"}, default="labels"
        Whether the boundaries are those of the labels, or those of the predicted classes of the labelled pixels, which
        are known of new images, too.
    object_classes : sequence of ints or None, default=None
        Classes of objects. The interior is then only what lies in the bounding box of the pixels of one of them, by
        labels or by prediction as the boundary, and the rest a region of its own, as some papers count; None takes all
        that is no boundary for the interior.
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes: see :class:`~conformask.ConformalRiskCalibrator`.

    Attributes
    ----------
    n_images : int
        Number of images seen.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.

    See Also
    --------
    calibration_report : Does the same for images in one call.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(3), size=(4, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = rng.integers(0, 3, (4, 8, 8))
    >>> here, there = cm.metrics.CalibrationAccumulator(), cm.metrics.CalibrationAccumulator()
    >>> report = here.update(y[:2], X[:2]).merge(there.update(y[2:], X[2:])).report()
    >>> report.ece == cm.metrics.calibration_report(y, X).ece
    True
    """

    def __init__(
        self,
        n_bins: int = 15,
        *,
        inputs: str = "probabilities",
        transform: Any = None,
        ignore_index: int | tuple[int, ...] | None = 255,
        class_threshold: float = 0.001,
        boundary_width: int | None = 2,
        boundary: str = "labels",
        object_classes: Any = None,
        volumes: Volumes = "auto",
    ) -> None:
        self._asked = Asked(
            n_bins,
            inputs,
            transform,
            ignore_index,
            boundary_width,
            class_threshold,
            object_classes,
            volumes,
            boundary,
        )
        # Each has more images than the next, so that few are joined often.
        self._parts: list[Counted] = []

    @property
    def n_images(self) -> int:
        """Number of images seen.

        Examples
        --------
        >>> from conformask.metrics import CalibrationAccumulator
        >>> CalibrationAccumulator().n_images
        0
        """
        return sum(len(part.bins) for part in self._parts)

    def update(self, y: Any, X: Any = None, *, groups: ArrayLike | None = None) -> Self:
        """Counts images.

        Parameters
        ----------
        y : integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image; or None
            Labels. With None, X is an iterable of ``(scores, labels)`` pairs.
        X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64; or a list or iterable of (K, H, W)
            The maps, of the kind that `inputs` names.
        groups : sequence of n ints or strings, or None
            The group of each image (patient, sequence). Images of a group may be alike: intervals are then computed
            over groups.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If the input is not as described; the message names argument, image and value. The object is then unchanged.

        Examples
        --------
        >>> import numpy as np
        >>> from conformask.metrics import CalibrationAccumulator
        >>> CalibrationAccumulator(10).update(np.zeros((2, 1, 1), int), np.full((2, 2, 1, 1), 0.5))
        CalibrationAccumulator(n_bins=10, n_images=2)
        """
        counted = count(y, X, self._asked, groups, self.n_images, self._parts[0] if self._parts else None)
        self._parts = paired([*self._parts, counted])
        return self

    def merge(self, other: CalibrationAccumulator) -> Self:
        """Adds the counts of another accumulator, for example of another worker.

        Parameters
        ----------
        other : CalibrationAccumulator
            An accumulator with the same parameters.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If `other` is of another class or the same object, or its parameters or K differ.

        Examples
        --------
        >>> from conformask.metrics import CalibrationAccumulator
        >>> CalibrationAccumulator().merge(CalibrationAccumulator()).n_images
        0
        """
        if not isinstance(other, CalibrationAccumulator):
            raise TypeError(f"other must be a CalibrationAccumulator, got {type(other).__name__}")
        if other is self:
            raise ValueError("an accumulator cannot be merged with itself: every image would count twice")
        for name in _COMMON:
            here, there = getattr(self._asked, name), getattr(other._asked, name)
            if here != there:
                raise ValueError(f"{name} differs: {here!r} here, {there!r} there")
        if self._parts or other._parts:
            self._parts = [joined([*self._parts, *other._parts])]
        return self

    def report(self, class_names: Any = None) -> CalibrationReport:
        """The report of the images so far.

        Parameters
        ----------
        class_names : sequence of K strings or None
            Names of the classes, for tables.

        Returns
        -------
        CalibrationReport

        Raises
        ------
        ValueError
            If no image was counted.

        Warns
        -----
        DroppedImagesWarning
            If images have no labelled pixel.

        Examples
        --------
        >>> import numpy as np
        >>> from conformask.metrics import CalibrationAccumulator
        >>> seen = CalibrationAccumulator().update(np.zeros((2, 1, 1), int), np.full((2, 2, 1, 1), 0.5))
        >>> seen.report().ece
        0.5
        """
        if not self._parts:
            raise ValueError("no image was counted: call update first")
        counted = joined(self._parts)
        self._parts = [counted]
        counted.warn_of_void()
        return report_of(counted, self._asked, class_names)

    def __repr__(self) -> str:
        return f"CalibrationAccumulator(n_bins={self._asked.n_bins}, n_images={self.n_images})"


def calibration_report(
    y: Any,
    X: Any = None,
    *,
    inputs: str = "probabilities",
    transform: Any = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    n_bins: int = 15,
    groups: ArrayLike | None = None,
    class_names: Any = None,
    class_threshold: float = 0.001,
    boundary_width: int | None = 2,
    boundary: str = "labels",
    object_classes: Any = None,
    volumes: Volumes = "auto",
) -> CalibrationReport:
    """All measures of calibration, from one pass over the maps.

    Parameters
    ----------
    y : integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image; or None
        Labels. With None, X is an iterable of ``(scores, labels)`` pairs, one image each.
    X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64; or a list or iterable of (K, H, W)
        Softmax probabilities, or maps of the kind that `inputs` names.
    inputs, transform, ignore_index, n_bins, class_threshold, boundary_width, boundary, object_classes, volumes
        As for :class:`CalibrationAccumulator`.
    groups : sequence of n ints or strings, or None
        The group of each image (patient, sequence). Images of a group may be alike: intervals are then computed over
        groups.
    class_names : sequence of K strings or None
        Names of the classes, for tables.

    Returns
    -------
    CalibrationReport

    Raises
    ------
    TypeError, ValueError
        If the input is not as described; the message names argument, image and value.

    Warns
    -----
    DroppedImagesWarning, UserWarning
        If images have no labelled pixel; if numbers that are given as logits look like probabilities.

    See Also
    --------
    CalibrationAccumulator : Counts batch by batch.
    conformask.plotting.plot_reliability : Draws the report.
    expected_calibration_error, reliability_curve, negative_log_likelihood, brier_score, mean_iou : Compute one measure.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> logits = 2 * rng.normal(size=(20, 3, 16, 16))  # twice too large
    >>> y = (logits / 2 + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> report = cm.metrics.calibration_report(y, logits, inputs="logits")
    >>> report.verdict.split(": ")[1]
    'the model is over-confident.'
    >>> cm.metrics.calibration_report(y, logits / 2, inputs="logits").ece < report.ece
    True
    """
    accumulator = CalibrationAccumulator(
        n_bins,
        inputs=inputs,
        transform=transform,
        ignore_index=ignore_index,
        class_threshold=class_threshold,
        boundary_width=boundary_width,
        boundary=boundary,
        object_classes=object_classes,
        volumes=volumes,
    )
    return accumulator.update(y, X, groups=groups).report(class_names)
