"""The figures that SELECTIVE printed, with their data sets and models.

Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023, arXiv:2212.12053:
Tables 1 and 2, the expected calibration error of images (10 bins), means of 3 runs. No standard deviations are printed.
"""

from __future__ import annotations

__all__ = ["METHODS", "TABLE_1", "TABLE_2", "published"]


def __dir__() -> list[str]:
    return sorted(__all__)


METHODS = ("Uncal", "TempS", "LogS", "DirS", "Meta-Cal*", "LTS", "Ens", "Selective")
"""The methods of Table 1."""

# By data set and model: mean IoU in percent, then the ECE of each of METHODS.
TABLE_1 = {
    "ADE20K, SegFormer-B5": (49.13, 0.111, 0.109, 0.110, 0.110, 0.103, 0.105, 0.109, 0.086),
    "ADE20K, Segmenter-L": (51.65, 0.087, 0.086, 0.086, 0.087, 0.081, 0.094, 0.086, 0.069),
    "ADE20K, Knet-DeepLab": (45.06, 0.111, 0.105, 0.107, 0.106, 0.102, 0.118, 0.110, 0.095),
    "ADE20K, Knet-SWIN-L": (52.46, 0.098, 0.094, 0.093, 0.097, 0.089, 0.134, 0.096, 0.078),
    "ADE20K, ConvNeXt-L": (53.16, 0.097, 0.092, 0.094, 0.091, 0.088, 0.133, 0.094, 0.082),
    "COCO-164K, SegFormer-B5": (45.78, 0.151, 0.149, 0.141, 0.151, 0.132, 0.151, 0.149, 0.113),
    "COCO-164K, Segmenter-L": (47.09, 0.152, 0.149, 0.149, 0.151, 0.130, 0.155, 0.150, 0.109),
    "COCO-164K, Knet-DeepLab": (37.24, 0.170, 0.170, 0.168, 0.171, 0.149, 0.172, 0.169, 0.093),
    "COCO-164K, Knet-SWIN-L": (46.49, 0.161, 0.159, 0.161, 0.160, 0.142, 0.162, 0.160, 0.102),
    "COCO-164K, ConvNeXt-L": (46.48, 0.160, 0.157, 0.158, 0.159, 0.141, 0.162, 0.159, 0.108),
    "BDD100K, SegFormer-B5": (65.08, 0.064, 0.055, 0.054, 0.053, 0.049, 0.069, 0.059, 0.040),
    "BDD100K, Segmenter-L": (61.33, 0.055, 0.045, 0.043, 0.042, 0.037, 0.071, 0.052, 0.031),
    "BDD100K, Knet-DeepLab": (62.89, 0.060, 0.049, 0.047, 0.048, 0.041, 0.063, 0.057, 0.035),
    "BDD100K, Knet-SWIN-L": (67.59, 0.065, 0.055, 0.054, 0.054, 0.049, 0.067, 0.063, 0.040),
    "BDD100K, ConvNeXt-L": (67.26, 0.064, 0.054, 0.053, 0.056, 0.049, 0.065, 0.063, 0.038),
}

# Some rows, by the data sets of calibration and test, and the model: the ECE of Uncal and of Selective.
TABLE_2 = {
    "ADE20K to COCO-164K, SegFormer-B5": (0.467, 0.331),
    "BDD100K to Cityscapes, Segmenter-L": (0.062, 0.048),
    "SYNTHIA to Cityscapes, ConvNeXt-L": (0.287, 0.211),
}


def published(row: str) -> dict[str, float]:
    """The errors of a row of either table, by method.

    Parameters
    ----------
    row : str
        A key of :data:`TABLE_1` or :data:`TABLE_2`.

    Returns
    -------
    dict of str to float
        For a row of Table 2, only the two methods whose figures we have.

    Examples
    --------
    >>> from conformask.reproduction.selective.paper import published
    >>> published("ADE20K, SegFormer-B5")["Selective"]
    0.086
    """
    if row in TABLE_2:
        return dict(zip(("Uncal", "Selective"), TABLE_2[row], strict=True))
    return dict(zip(METHODS, TABLE_1[row][1:], strict=True))
