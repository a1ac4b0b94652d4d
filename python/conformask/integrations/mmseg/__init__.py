"""MMSegmentation: calibration and evaluation as metrics, sets and heatmaps at every inference.

It needs MMSegmentation 1.2 (``pip install "conformask[mmseg]"``, and mmcv). In a config,
``custom_imports = dict(imports=["conformask.integrations.mmseg"])`` registers

- :class:`ConformalCalibration`, a metric that calibrates while ``tools/test.py`` (or ``Runner.val``) runs, and
  :class:`ConformalProfile`, which keeps the profiles for later questions;
- :class:`ScalerCalibration`, a metric that fits a scaler first, for ``ConformalCalibration(scaler=)``;
- :class:`ConformalEvaluation`, a metric that reports risk, activation ratio and coverage at a saved lambda;
- :class:`BinaryConformalCalibration` and :class:`BinaryConformalEvaluation`, the same for masks of one class against
  the rest;
- :class:`CalibrationError`, a metric of how well the probabilities are calibrated, beside ``IoUMetric``;
- :class:`ConformalHook`, which adds the set to every prediction (:func:`attach` does this for a single model);
- :class:`ConformalLocalVisualizer`, which draws the varisco heatmap beside labels and prediction.

MMSegmentation gives the metrics logits at the size of the labels, on the device of the model. There they are reduced to
what calibration needs, some kilobytes for each image. These are gathered over ranks, in the order of the dataset and
each image once.
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
