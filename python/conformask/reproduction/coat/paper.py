"""The figures that COAT printed, with their data sets, models and levels.

"Enhancing Image-Conditional Coverage in Segmentation: Adaptive Thresholding via Differentiable Miscoverage Loss", under
review in 2026: Tables 1 and 2, means over 20 random splits.
"""

from __future__ import annotations

import math

__all__ = ["ALPHAS", "METHODS", "N_SPLITS", "TABLE_1", "TABLE_2", "TEMPERATURES", "published"]


def __dir__() -> list[str]:
    return sorted(__all__)


ALPHAS = (0.1, 0.2)
"""The risk levels of Table 1; Table 2 has only the first."""

N_SPLITS = 20
"""The number of random splits."""

METHODS = ("CRC", "AA-CRC", "AT", "COAT")
"""The methods of Table 1."""

TEMPERATURES = (100, 10, 1, 0.1, 0.05, 0.01, 0.001)
"""The temperatures of Table 2."""

_ILLEGIBLE = math.nan

# By data set and model: for each of METHODS, marginal coverage and coverage gap at alpha 0.1, then at 0.2.
TABLE_1 = {
    "Polyp, DeepLabv3+": (
        *(0.907, 0.145, 0.796, 0.232, 0.900, 0.122, 0.797, 0.167),
        *(0.899, _ILLEGIBLE, 0.797, _ILLEGIBLE, 0.899, 0.113, 0.802, 0.162),
    ),
    "Polyp, UNet": (
        *(0.901, 0.135, 0.797, 0.256, 0.908, 0.131, 0.793, 0.217),
        *(0.903, 0.127, 0.805, 0.209, 0.904, 0.122, 0.803, 0.199),
    ),
    "Polyp, PSPNet": (
        *(0.906, 0.150, 0.804, 0.249, 0.908, 0.119, 0.796, 0.162),
        *(0.899, 0.119, 0.796, 0.166, 0.894, 0.110, 0.796, 0.144),
    ),
    "Polyp, SINet": (
        *(0.904, 0.149, 0.803, 0.255, 0.906, 0.126, 0.799, 0.182),
        *(0.899, 0.119, 0.809, 0.170, 0.896, 0.102, 0.800, 0.148),
    ),
    "Fire, DeepLabv3+": (
        *(0.901, 0.067, 0.803, 0.092, 0.903, 0.062, 0.804, 0.083),
        *(0.901, 0.061, 0.806, 0.086, 0.900, 0.058, 0.799, 0.076),
    ),
    "Fire, UNet": (
        *(0.899, 0.077, 0.802, 0.103, 0.902, 0.068, 0.804, 0.088),
        *(0.900, 0.063, 0.800, 0.085, 0.900, 0.061, 0.800, 0.079),
    ),
    "Fire, PSPNet": (
        *(0.901, 0.065, 0.801, 0.091, 0.904, 0.063, 0.808, 0.079),
        *(0.904, 0.065, 0.799, 0.089, 0.900, 0.060, 0.800, 0.077),
    ),
    "Fire, SINet": (
        *(0.901, 0.071, 0.800, 0.101, 0.903, 0.063, 0.803, 0.082),
        *(0.900, 0.065, 0.799, 0.090, 0.900, 0.059, 0.799, 0.080),
    ),
    "Skin, DeepLabv3+": (
        *(0.900, 0.072, 0.802, 0.107, 0.905, 0.057, 0.806, 0.079),
        *(0.904, 0.061, 0.809, 0.090, 0.899, 0.054, 0.800, 0.073),
    ),
    "Skin, UNet": (
        *(0.900, 0.062, 0.800, 0.097, 0.908, 0.056, 0.807, 0.081),
        *(0.899, 0.059, 0.800, 0.090, 0.899, 0.054, 0.800, 0.079),
    ),
    "Skin, PSPNet": (
        *(0.902, 0.069, 0.804, 0.103, 0.906, 0.057, 0.806, 0.071),
        *(0.903, 0.061, 0.809, 0.076, 0.899, 0.050, 0.799, 0.064),
    ),
    "Skin, SINet": (
        *(0.905, 0.078, 0.806, 0.113, 0.905, 0.063, 0.805, 0.075),
        *(0.906, 0.065, 0.800, 0.074, 0.899, 0.055, 0.800, 0.071),
    ),
}

# The coverage gap at alpha 0.1, for each of TEMPERATURES.
TABLE_2 = {
    "Polyp, SINet": (0.151, 0.153, 0.156, 0.114, 0.102, 0.148, 0.147),
    "Fire, SINet": (0.071, 0.070, 0.070, 0.062, 0.059, 0.060, 0.066),
    "Skin, SINet": (0.081, 0.081, 0.081, 0.056, 0.055, 0.056, 0.058),
}


def published(data: str, method: str, alpha: float) -> tuple[float, float]:
    """Coverage and coverage gap, as printed.

    Parameters
    ----------
    data : str
        A key of :data:`TABLE_1`.
    method : str
        One of :data:`METHODS`.
    alpha : float
        One of :data:`ALPHAS`.

    Returns
    -------
    tuple of float
        NaN where the figure is not legible.

    Examples
    --------
    >>> from conformask.reproduction.coat.paper import published
    >>> published("Polyp, SINet", "COAT", 0.1)
    (0.896, 0.102)
    """
    at = 4 * METHODS.index(method) + 2 * ALPHAS.index(alpha)
    coverage, gap = TABLE_1[data][at : at + 2]
    return coverage, gap
