"""CONSIGN compared with pixel-wise sets: the same guarantee, the same images, one set of draws for all metrics.

Viti, Karabelas, Holler, "CONSIGN: Conformal Segmentation Informed by Spatial Groupings via Decomposition", ICLR 2026,
compare their sets of whole segmentations with RAPS and SACP on the mean softmax. All of them promise that with
probability at least ``1 - alpha`` the set holds a segmentation of label-wise accuracy ``min_accuracy`` or more. Here
the label maps drawn for an image serve all metrics, and correlations do not pair a map with itself. Coverage is that of
the sets themselves, not of samples: a search certifies it for CONSIGN, and it is exact for pixel-wise sets.
"""

from conformask.reproduction.consign.folder import SampleFolder
from conformask.reproduction.consign.outcomes import Comparison, Outcome
from conformask.reproduction.consign.protocol import compare
from conformask.reproduction.consign.samples import moving_edges, stored_samples
from conformask.reproduction.consign.timings import time_methods

__all__ = [
    "Comparison",
    "Outcome",
    "SampleFolder",
    "compare",
    "moving_edges",
    "stored_samples",
    "time_methods",
]


def __dir__() -> list[str]:
    return sorted(__all__)
