"""Segmentation masks with a statistical guarantee.

A trained segmentation model gives softmax scores. conformask turns them into multi-labeled masks, without training the
model again. The expected loss of a mask on a new image is at most an ``alpha`` that you choose, if calibration images
and new images are exchangeable. The size of the sets shows where the model is unsure.

>>> import numpy as np
>>> import conformask as cm
>>> rng = np.random.default_rng(0)
>>> X = rng.dirichlet(np.ones(3), size=(40, 8, 8)).transpose(0, 3, 1, 2)  # softmax scores (n, K, H, W)
>>> y = X.argmax(axis=1)  # labels (n, H, W): here the model is right where it is sure
>>> y = np.where(X.max(axis=1) > 0.6, y, rng.integers(0, 3, y.shape))
>>> calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(X[:30], y[:30])
>>> masks = calibrator.predict(X[30:])  # bool (n, K, H, W)
>>> calibrator.corrected_risk_ <= 0.1
True
"""

from typing import TYPE_CHECKING, Any

from conformask import kernels, metrics
from conformask._core import __version__
from conformask.adaptive import (
    AACRCCalibrator,
    ATCalibrator,
    BinaryReport,
    BinaryRiskCalibrator,
    COATCalibrator,
    CRACalibrator,
)
from conformask.consign import ConsignCalibrator, ConsignSet, Membership
from conformask.control import CRC, LTT, PAC, RCPS
from conformask.exceptions import (
    DroppedImagesWarning,
    DuplicateImagesWarning,
    InfeasibleRiskError,
    InfeasibleRiskWarning,
    SharedImagesWarning,
    SuspiciousLabelsWarning,
)
from conformask.losses import (
    BinaryLoss,
    CountsLoss,
    FalseNegativeLoss,
    JaccardLoss,
    LabelAccuracyLoss,
    MiscoverageLoss,
    PrecisionLoss,
    WorstClassLoss,
)
from conformask.margins import MarginCalibrator, MarginReport, Margins
from conformask.online import DriftAlarm, OnlineRiskController
from conformask.profiles import BinnedProfiles, ScoreProfiles, profile
from conformask.report import CoverageReport, RiskReport
from conformask.risk_control import ConformalRiskCalibrator
from conformask.scaling import (
    DirichletScaler,
    EnsembleAverager,
    LocalTemperatureScaler,
    MetaCal,
    SelectiveScaler,
    StructuredScaler,
    TemperatureScaler,
    VectorScaler,
)
from conformask.scores import APS, LAC, RAPS, SACP
from conformask.threads import get_num_threads, set_num_threads, warn_of_environment

if TYPE_CHECKING:
    from conformask import datasets, plotting
    from conformask.explorer import explore

__all__ = [
    "APS",
    "CRC",
    "LAC",
    "LTT",
    "PAC",
    "RAPS",
    "RCPS",
    "SACP",
    "AACRCCalibrator",
    "ATCalibrator",
    "BinaryLoss",
    "BinaryReport",
    "BinaryRiskCalibrator",
    "BinnedProfiles",
    "COATCalibrator",
    "CRACalibrator",
    "ConformalRiskCalibrator",
    "ConsignCalibrator",
    "ConsignSet",
    "CountsLoss",
    "CoverageReport",
    "DirichletScaler",
    "DriftAlarm",
    "DroppedImagesWarning",
    "DuplicateImagesWarning",
    "EnsembleAverager",
    "FalseNegativeLoss",
    "InfeasibleRiskError",
    "InfeasibleRiskWarning",
    "JaccardLoss",
    "LabelAccuracyLoss",
    "LocalTemperatureScaler",
    "MarginCalibrator",
    "MarginReport",
    "Margins",
    "Membership",
    "MetaCal",
    "MiscoverageLoss",
    "OnlineRiskController",
    "PrecisionLoss",
    "RiskReport",
    "ScoreProfiles",
    "SelectiveScaler",
    "SharedImagesWarning",
    "StructuredScaler",
    "SuspiciousLabelsWarning",
    "TemperatureScaler",
    "VectorScaler",
    "WorstClassLoss",
    "__version__",
    "datasets",
    "explore",
    "get_num_threads",
    "kernels",
    "metrics",
    "plotting",
    "profile",
    "set_num_threads",
]

_LAZY = {"datasets", "plotting"}  # they import Matplotlib or SciPy, which not every user needs
_LAZY_FUNCTIONS = {"explore": "explorer"}


def __getattr__(name: str) -> Any:
    if name in _LAZY or name in _LAZY_FUNCTIONS:
        import importlib

        module = importlib.import_module(f"conformask.{_LAZY_FUNCTIONS.get(name, name)}")
        return module if name in _LAZY else getattr(module, name)
    raise AttributeError(f"module 'conformask' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


warn_of_environment()
