"""MONAI: sets as transforms, and calibration while an evaluator runs.

It needs MONAI 1.4, and PyTorch-Ignite for the handler (``pip install "conformask[monai]"``).

- :class:`ConformalSet` and :class:`ConformalSetd` are transforms. They turn the prediction for an image into its
  multi-labeled mask, set sizes or varisco heatmap, with the affine and the meta data of the image.
- :class:`ConformalCalibrationHandler` calibrates during the run of a ``SupervisedEvaluator``, on the output that the
  metrics of the evaluator get.

Both take classes that exclude one another (softmax; :class:`~conformask.ConformalRiskCalibrator`), one channel
(:class:`~conformask.BinaryRiskCalibrator` and others), or sigmoid channels that overlap
(:class:`~conformask.adaptive.ChannelwiseCalibrator`), such as the tumour core, whole tumour and enhancing tumour of
BraTS.

Calibrate on images that the model was not trained or chosen on, with the inferer and the postprocessing that will be
used; the unit is the image, or the patient (``group_transform=``), not the patch.
"""

try:
    from conformask.adaptive import ChannelwiseCalibrator
    from conformask.integrations.monai.handler import ConformalCalibrationHandler
    from conformask.integrations.monai.transforms import (
        ConformalSet,
        ConformalSetD,
        ConformalSetd,
        ConformalSetDict,
    )
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs MONAI ({error}): pip install "conformask[monai]"') from error

__all__ = [
    "ChannelwiseCalibrator",
    "ConformalCalibrationHandler",
    "ConformalSet",
    "ConformalSetD",
    "ConformalSetDict",
    "ConformalSetd",
]


def __dir__() -> list[str]:
    return sorted(__all__)
