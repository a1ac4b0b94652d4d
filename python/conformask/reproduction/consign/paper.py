"""The figures that CONSIGN printed, with their data sets and levels.

Viti, Karabelas, Holler, "CONSIGN: Conformal Segmentation Informed by Spatial Groupings via Decomposition", ICLR 2026,
arXiv:2505.14113: Table 1, and the ranges of the calibrated lambdas in Tables 3 to 5. We do not have the figures of
Table 2, and the main results are printed as curves. Levels and accuracies are from the authors' configuration files.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LAMBDAS", "N_SPLITS", "TABLE_1", "PaperData"]


def __dir__() -> list[str]:
    return sorted(__all__)


N_SPLITS = 5
"""The number of random splits."""


@dataclass(frozen=True)
class PaperData:
    """A row of Table 1, and what was asked of that data set.

    Attributes
    ----------
    n_calibration, n_test : int
        Images that calibrate and that test.
    n_classes : int
        L, the number of labels.
    samples : str
        The source of the samples.
    alpha, min_accuracy : float
        The risk level and the label-wise accuracy beta.

    See Also
    --------
    conformask.reproduction.consign.compare : Takes such a pair.
    """

    n_calibration: int
    n_test: int
    n_classes: int
    samples: str
    alpha: float
    min_accuracy: float


TABLE_1 = {
    "M&Ms-2": PaperData(500, 179, 4, "Monte-Carlo dropout", 0.1, 0.9),
    "MS-CMR19": PaperData(500, 98, 4, "Monte-Carlo dropout", 0.05, 0.8),
    "LIDC": PaperData(700, 809, 2, "probabilistic U-Net", 0.2, 0.8),
    "COCO animals": PaperData(275, 39, 8, "ensemble of six DeepLabV3(+)", 0.25, 0.8),
    "COCO vehicles": PaperData(275, 46, 8, "ensemble of six DeepLabV3(+)", 0.3, 0.7),
}

LAMBDAS = (
    ("M&Ms-2, loosest pair", "0.06 to 0.09", "0.05 to 0.07", "-"),
    ("M&Ms-2, tightest pair", "1.8 to 4.2", "0.7 to 1.0", "-"),
    ("LIDC, all pairs", "0.01 to 0.06", "0.01 to 0.06", "-"),
    ("all data sets, all pairs", "-", "-", "0.58 to 0.96"),
)
"""Ranges of the calibrated lambdas of Tables 3 to 5: data, CONSIGN with k = 2, with k = 5, pixel-wise RAPS and SACP."""
