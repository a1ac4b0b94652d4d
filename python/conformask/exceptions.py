"""What can be said besides numbers."""

from __future__ import annotations

from decimal import Decimal

from conformask._text import plural

__all__ = [
    "DroppedImagesWarning",
    "DuplicateImagesWarning",
    "InfeasibleRiskError",
    "InfeasibleRiskWarning",
    "SharedImagesWarning",
    "SuspiciousLabelsWarning",
]


def __dir__() -> list[str]:
    return sorted(__all__)


class InfeasibleRiskError(ValueError):
    """No lambda meets the risk level.

    Raised when there are too few images (``n_images < n_needed``). What was collected is kept:
    ``recalibrate(alpha=...)`` works, and so does adding images with ``partial_fit`` or ``merge``.
    :class:`~conformask.LTT` raises it also when no lambda of its grid passes, and
    :class:`~conformask.ConsignCalibrator` when too many images cannot be as accurate as asked for.

    Parameters
    ----------
    n_images : int or float
        Number of images on which the loss is defined (of groups, or the sum of their weights, where given).
    alpha : float
        The risk level asked for.
    n_needed : int
        The smallest number of images with which `alpha` can be met: ``ceil(1 / alpha) - 1``, and by PAC and RCPS
        ``log(delta) / log(1 - alpha)``; a little more by betting, and by LTT with Bonferroni.
    unit : str
        What `n_images` counts, as text.
    n_skipped : int
        Number of images left out because the loss is undefined on them.
    reason : str
        What to say instead of the usual text.
    n_infeasible : int
        Number of images that no lambda makes accurate enough.
    feasible_min_accuracy : float or None
        The largest `min_accuracy` that would have been feasible on these images. It is read off their labels: use it
        with new calibration images only, since on the same ones it keeps no promise.
    without : str
        What the images lack that were left out.
    """

    def __init__(
        self,
        n_images: float,
        alpha: float,
        n_needed: int,
        unit: str = "calibration images",
        n_skipped: int = 0,
        reason: str = "",
        n_infeasible: int = 0,
        feasible_min_accuracy: float | None = None,
        without: str = "a labelled pixel that counts",
    ) -> None:
        self.n_images = n_images
        self.alpha = alpha
        self.n_needed = n_needed
        self.unit = unit
        self.n_skipped = n_skipped
        self.reason = reason
        self.n_infeasible = n_infeasible
        self.feasible_min_accuracy = feasible_min_accuracy
        self.without = without
        super().__init__(
            n_images, alpha, n_needed, unit, n_skipped, reason, n_infeasible, feasible_min_accuracy, without
        )

    @property
    def finding(self) -> str:
        """What was found, without what to do about it."""
        if self.reason and self.n_images >= self.n_needed:
            return self.reason
        needed = str(self.n_needed) if self.n_needed < 10**15 else f"{Decimal(self.n_needed):.6g}"
        if self._by_weight:
            needs = f"calibration images whose weights sum to at least {needed}, but they sum to {self.n_images:g}"
        else:
            found = "there is 1" if self.n_images == 1 else f"there are {self.n_images or 'none'}"
            one = {
                "calibration images": "calibration image",
                "groups of calibration images": "group of calibration images",
            }
            unit = one.get(self.unit, self.unit) if self.n_needed == 1 else self.unit
            needs = f"at least {needed} {unit}, {found}"
        are = "is" if self.n_skipped == 1 else "are"
        left_out = f"{plural(self.n_skipped, 'image')} without {self.without} {are} left out"
        return f"alpha={self.alpha} needs {needs}{f' ({left_out})' if self.n_skipped else ''}"

    @property
    def _by_weight(self) -> bool:
        return self.unit.startswith("summed weight")

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        by_groups = self.unit.startswith("groups")
        void = "check that ignore_index is the label of void pixels alone, " if self.n_skipped else ""
        advice = (
            f"{self.finding}. Add {'groups' if by_groups else 'images'}, {void}take a larger alpha, or accept full "
            "sets with on_infeasible='full'"
        )
        diagnosis = (
            ". conformask.metrics.leave_one_group_out shows how much groups differ, but promises nothing"
        )
        return advice + (diagnosis if by_groups else "")


class InfeasibleRiskWarning(UserWarning):
    """No lambda meets the risk level, and ``on_infeasible="full"`` took the full sets instead."""


class DroppedImagesWarning(UserWarning):
    """Images on which the loss is undefined were left out: they do not count in ``n_images_``."""


class SharedImagesWarning(UserWarning):
    """A scaler and the calibrator behind it were fitted to the same images: the guarantee does not hold.

    Images are the same if all their labels are. Images of one label are not compared.
    """


class DuplicateImagesWarning(UserWarning):
    """The same images were given twice: they count twice, and the guarantee does not hold.

    Images are the same if the labels and the critical values of their pixels are, to the last bit. Images with fewer
    than eight different critical values are not compared: those of a model that is right everywhere are all alike.
    Scalers compare the pixels that they draw, and their labels, in the same way: their maps lean to such images, and
    standard errors are too small.
    """


class SuspiciousLabelsWarning(UserWarning):
    """Labels and scores hardly belong together: labels shifted by one, channels in another order, axes swapped.

    Said of at least 5 images with 2,000 labelled pixels, of two classes or more, if two things hold. The most probable
    class is the label of no more labelled pixels than the most frequent label is. And the mean over the K classes that
    occur, of the share of their pixels that is found, is at most a quarter of the way from guessing to 1: ``1 / K + (1
    - 1 / K) / 4``. The second spares honest models of rare classes, whose false alarms may outnumber what they find. A
    model that has learnt nothing, and says one class everywhere, is named as well.

    Calibration looks at the counts of its profiles, of scores by which the most probable class is in every set: not of
    ``LAC(include_top1=False)``, nor of a score of your own. Scalers look at the pixels that they draw, CONSIGN at the
    mean of the samples. Evaluation compares its sets with as many classes at every pixel, the most frequent ones (and
    ``1 / K`` above with their mean size over K), unless they hold more than half of the classes, or less than half of
    one; and so does online control, once, with the first 10 images whose sets are such. It costs no pass of its own.

    Of two classes a third thing must hold: the odds that a pixel is called the foreground are at most 3 times as large
    in the foreground as beside it. So nobody is suspected who finds little of what is rare, but finds it there. Masks
    of one class are judged by this: those of probability 1/2 in calibration
    (:class:`~conformask.CRACalibrator`: of half of the probability of an image), the given ones of
    :class:`~conformask.MarginCalibrator`, those of the thresholds in evaluation. At least 5 images must have both
    foreground and background. Masks tell nothing that hold, or leave out, less than a quarter as many pixels as the
    rarer of the two has; nor those that hold more than half of it, unless their odds are clearly (4 times) those of the
    opposite.

    No warning is no proof. Layouts that are alike when turned (the sky is above, the organ in the middle) may keep
    enough pixels right, and so may labels that are wrong in few images. Small objects may lie where they lie when
    turned, and of numbers of your own (:class:`~conformask.DriftAlarm`, ``OnlineRiskController.update(losses)``)
    nothing is known.
    """
