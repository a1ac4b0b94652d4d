"""What can be said besides numbers."""

from __future__ import annotations

__all__ = ["DroppedImagesWarning", "InfeasibleRiskError", "InfeasibleRiskWarning"]


class InfeasibleRiskError(ValueError):
    """No lambda meets the risk level.

    Raised when there are too few images (``n_images < n_needed``). What was collected is kept:
    ``recalibrate(alpha=...)`` works, and so does adding images with ``partial_fit`` or ``merge``.

    Parameters
    ----------
    n_images : int or float
        Number of images on which the loss is defined (of groups, or the sum of their weights, where given).
    alpha : float
        The risk level asked for.
    n_needed : int
        The smallest number of images with which `alpha` can be met, ``ceil(1 / alpha) - 1``.
    unit : str
        What `n_images` counts, as text.
    n_skipped : int
        Number of images left out because the loss is undefined on them.
    """

    def __init__(
        self,
        n_images: float,
        alpha: float,
        n_needed: int,
        unit: str = "calibration images",
        n_skipped: int = 0,
    ) -> None:
        self.n_images = n_images
        self.alpha = alpha
        self.n_needed = n_needed
        self.unit = unit
        self.n_skipped = n_skipped
        super().__init__(n_images, alpha, n_needed, unit, n_skipped)

    def __str__(self) -> str:
        skipped = f" ({self.n_skipped} images without a labelled pixel that counts are left out)"
        return (
            f"no lambda controls the risk at alpha={self.alpha} with {self.n_images:g} {self.unit}"
            f"{skipped if self.n_skipped else ''}: at least {self.n_needed} are needed. "
            "Add images, take a larger alpha, or accept full sets with on_infeasible='full'"
        )


class InfeasibleRiskWarning(UserWarning):
    """No lambda meets the risk level, and ``on_infeasible="full"`` took the full sets instead."""


class DroppedImagesWarning(UserWarning):
    """Images on which the loss is undefined were left out: they do not count in ``n_images_``."""
