"""The exceptions and warnings of conformask."""

from __future__ import annotations

import inspect
from decimal import Decimal
from typing import Any

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

    It is raised when there are too few images (``n_images < n_needed``). The calibrator keeps what it has collected:
    ``recalibrate(alpha=...)`` works, and so does adding images with ``partial_fit`` or ``merge``. With
    :class:`~conformask.LTT` it is also raised when no lambda of the grid passes, and with
    :class:`~conformask.ConsignCalibrator` when too many images cannot reach `min_accuracy`.

    Parameters
    ----------
    n_images : int or float
        Number of images on which the loss is defined; with groups the number of groups, with weights their sum.
    alpha : float
        The risk level asked for.
    n_needed : int
        The smallest number of images with which `alpha` can be met: ``ceil(1 / alpha) - 1`` with CRC, and
        ``log(delta) / log(1 - alpha)`` with PAC and RCPS. RCPS with ``bound="wsr"`` and LTT with Bonferroni need a
        little more.
    unit : str
        The name of what `n_images` counts.
    n_skipped : int
        Number of images left out because the loss is undefined on them.
    reason : str
        The message, where it is not the usual one.
    n_infeasible : int
        Number of images that are not accurate enough at any lambda.
    feasible_min_accuracy : float or None
        The largest `min_accuracy` that would have been feasible on these images. It depends on their labels: use it
        with new calibration images only. With the same images there is no guarantee.
    without : str
        What is missing in the images that were left out.
    smallest_alpha : float or None
        The smallest risk level of three digits for which there are enough images; None where it is not known. It
        depends on their number alone. Where `n_needed` tells when there can be a lambda, not that there is one, as with
        LTT and RCPS(bound="wsr"), a level above it can still fail.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.random.default_rng(0).dirichlet(np.ones(3), size=(40, 8, 8)).transpose(0, 3, 1, 2)
    >>> try:
    ...     cm.ConformalRiskCalibrator(alpha=0.01).fit(X, X.argmax(axis=1))
    ... except cm.InfeasibleRiskError as error:
    ...     print(error.n_images, error.n_needed, error.smallest_alpha)
    40 99 0.0244
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
        smallest_alpha: float | None = None,
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
        self.smallest_alpha = smallest_alpha
        told = (
            n_images,
            alpha,
            n_needed,
            unit,
            n_skipped,
            reason,
            n_infeasible,
            feasible_min_accuracy,
            without,
        )
        super().__init__(*told, smallest_alpha)

    def _but(self, **changes: Any) -> InfeasibleRiskError:
        """The same error, except for some parameters."""
        told = {name: getattr(self, name) for name in inspect.signature(InfeasibleRiskError).parameters}
        return InfeasibleRiskError(**{**told, **changes})

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
    def way_out(self) -> str:
        """Which alpha would do."""
        least = "" if self.smallest_alpha is None else f" ({self.smallest_alpha:g} or more)"
        return f"take a larger alpha{least}"

    @property
    def _by_weight(self) -> bool:
        return self.unit.startswith("summed weight")

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        by_groups = self.unit.startswith("groups")
        void = "check that ignore_index is the label of void pixels alone, " if self.n_skipped else ""
        advice = (
            f"{self.finding}. Add {'groups' if by_groups else 'images'}, {void}{self.way_out}, or accept full sets "
            "with on_infeasible='full'"
        )
        diagnosis = (
            ". conformask.metrics.leave_one_group_out shows how much groups differ, but promises nothing"
        )
        return advice + (diagnosis if by_groups else "")


class InfeasibleRiskWarning(UserWarning):
    """No lambda meets the risk level, and the sets are full because of ``on_infeasible="full"``."""


class DroppedImagesWarning(UserWarning):
    """Images on which the loss is undefined were left out: they do not count in ``n_images_``."""


class SharedImagesWarning(UserWarning):
    """A scaler and the calibrator behind it were fitted to the same images: the guarantee does not hold.

    Two images count as the same if all their labels are equal. Images that hold a single label are not compared.
    """


class DuplicateImagesWarning(UserWarning):
    """The same images were given twice: they count twice, and the guarantee does not hold.

    Two images count as the same if the labels and the critical values of their pixels are equal, to the last bit.
    Images with fewer than eight different critical values are not compared: those of a model that is right everywhere
    are all alike. Scalers compare the pixels that they draw, and the labels of these, in the same way. A scaler that
    sees an image twice gives it too much weight, and its standard errors are too small.
    """


class SuspiciousLabelsWarning(UserWarning):
    """Labels and scores hardly belong together: labels shifted by one, channels in another order, axes swapped.

    The warning needs at least 5 images with 2,000 labelled pixels of two classes or more. It is given if two conditions
    hold. First, the most probable class agrees with the label at no more pixels than the most frequent label alone
    would. Second, the mean recall over the K classes that occur is at most ``1 / K + (1 - 1 / K) / 4``, a quarter of
    the way from guessing to 1. The second condition spares sound models of rare classes, whose false alarms may
    outnumber what they find. A model that predicts one class everywhere is warned of, too.

    Calibration looks at the counts in its profiles, if the score puts the most probable class into every set: this
    excludes ``LAC(include_top1=False)`` and a score of your own. Scalers look at the pixels that they draw, CONSIGN at
    the mean of the samples. Evaluation compares the sets with equally many classes at every pixel, the most frequent
    ones; ``1 / K`` above is then the mean set size over K. It compares nothing if the sets hold on average more than
    half of the classes, or less than half of one. Online control does the same once, with the first 10 images whose
    sets are within these limits. No extra pass over the maps is needed.

    With two classes a third condition must hold: the odds that a pixel is predicted as foreground are at most 3 times
    as large in the foreground as in the background. This spares a model that finds little of a rare class, but finds it
    in the right place. Binary masks are judged by this condition: in calibration the masks at probability 1/2 (for
    :class:`~conformask.CRACalibrator` at half of the probability of an image), for
    :class:`~conformask.MarginCalibrator` the given masks, and in evaluation the masks at the thresholds. At least 5
    images must have both foreground and background. Masks are not judged if they hold, or leave out, less than a
    quarter as many pixels as the rarer of the two has. Nor are they if they hold more than half of it, unless the odds
    clearly (4 times) favour the opposite.

    The absence of this warning is no proof that labels and scores belong together. If the layouts of images are alike
    (the sky is above, the organ in the middle), enough pixels may still be right when axes are swapped; and so they may
    if only a few images have wrong labels. Losses that you compute yourself (:class:`~conformask.DriftAlarm`,
    ``OnlineRiskController.update(losses)``) are not checked.
    """
