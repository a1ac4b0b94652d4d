"""MMSegmentation: calibration and evaluation as metrics, sets and heatmaps at every inference.

Needs MMSegmentation 1.2 (``pip install "conformask[mmseg]"``, and mmcv). In a config,
``custom_imports = dict(imports=["conformask.integrations.mmseg"])`` registers

- :class:`ConformalCalibration`, a metric that calibrates while ``tools/test.py`` (or ``Runner.val``) runs, and
  :class:`ConformalProfile`, which keeps the profiles for later questions;
- :class:`ScalerCalibration`, a metric that fits a scaler first, for ``ConformalCalibration(scaler=)``;
- :class:`ConformalEvaluation`, a metric that tells risk, activation ratio and coverage at a saved lambda;
- :class:`BinaryConformalCalibration` and :class:`BinaryConformalEvaluation`, the same for masks of one class against
  the rest;
- :class:`CalibrationError`, a metric that tells how far probabilities can be trusted, beside ``IoUMetric``;
- :class:`ConformalHook`, after which every prediction carries its set (:func:`attach` does it to a model);
- :class:`ConformalLocalVisualizer`, which draws the varisco heatmap beside labels and prediction.

Metrics see the logits as MMSegmentation hands them over: of the size of the labels, on the device of the model, where
they are reduced to what calibration needs of an image, some kilobytes. Those are gathered over ranks, in the order of
the dataset and each image once.
"""

try:
    from conformask.integrations.mmseg.binary import BinaryConformalCalibration, BinaryConformalEvaluation
    from conformask.integrations.mmseg.calibration import CalibrationError
    from conformask.integrations.mmseg.dataset import profile_dataset, scale_dataset
    from conformask.integrations.mmseg.inference import ConformalHook, ConformalLocalVisualizer, attach
    from conformask.integrations.mmseg.metrics import (
        ConformalCalibration,
        ConformalEvaluation,
        ConformalProfile,
    )
    from conformask.integrations.mmseg.scaling import ScalerCalibration
except ModuleNotFoundError as error:
    raise ImportError(
        f'{__name__} needs MMSegmentation and mmcv ({error}): pip install "conformask[mmseg]", and mmcv as its '
        "documentation says"
    ) from error

__all__ = [
    "BinaryConformalCalibration",
    "BinaryConformalEvaluation",
    "CalibrationError",
    "ConformalCalibration",
    "ConformalEvaluation",
    "ConformalHook",
    "ConformalLocalVisualizer",
    "ConformalProfile",
    "ScalerCalibration",
    "attach",
    "profile_dataset",
    "scale_dataset",
]


def __dir__() -> list[str]:
    return sorted(__all__)
