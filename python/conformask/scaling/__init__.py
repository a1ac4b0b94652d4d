"""Scalers: maps from the logits of a network to calibrated probabilities.

Fit them to images that the network was not trained on, and put them in front of a calibrator, which needs other images
again.
"""

from conformask.scaling.dirichlet import DirichletScaler
from conformask.scaling.ensemble import EnsembleAverager
from conformask.scaling.local import LocalTemperatureScaler
from conformask.scaling.meta_cal import MetaCal
from conformask.scaling.selective import SelectiveScaler
from conformask.scaling.structured import StructuredScaler
from conformask.scaling.temperature import TemperatureScaler
from conformask.scaling.vector import VectorScaler

__all__ = [
    "DirichletScaler",
    "EnsembleAverager",
    "LocalTemperatureScaler",
    "MetaCal",
    "SelectiveScaler",
    "StructuredScaler",
    "TemperatureScaler",
    "VectorScaler",
]


def __dir__() -> list[str]:
    return sorted(__all__)
