"""Scalers: from a network's logits to probabilities that mean what they say.

They are fitted on images that did not train the network, and stand in front of a calibrator, which wants images of its
own.
"""

from conformask.scaling.dirichlet import DirichletScaler
from conformask.scaling.structured import StructuredScaler
from conformask.scaling.temperature import TemperatureScaler
from conformask.scaling.vector import VectorScaler

__all__ = ["DirichletScaler", "StructuredScaler", "TemperatureScaler", "VectorScaler"]


def __dir__() -> list[str]:
    return sorted(__all__)
