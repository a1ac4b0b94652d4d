"""Calibration on the files of nnU-Net: its softmax, labels, ``dataset.json`` and crop box.

NumPy reads the scores, nibabel the labels (``pip install "conformask[nnunet]"``). Neither PyTorch nor nnU-Net is
needed, and no pickle is opened. On the command line: ``conformask nnunet calibrate``, ``evaluate`` and ``apply``.

>>> from conformask.integrations.nnunet import Cases
>>> cases = Cases("fold_0/validation", "labelsTr")  # doctest: +SKIP
>>> calibrator = cm.ConformalRiskCalibrator(loss=cm.FalseNegativeLoss([2]), volumes=True)  # doctest: +SKIP
>>> calibrator.fit(cases)  # doctest: +SKIP

**The conditions of the guarantee.** Calibration cases and new cases must be exchangeable. The model must not have been
trained, chosen or tuned on the calibration cases. Alpha, loss and score must be fixed before looking at the labels of
these cases. For nnU-Net this means:

- *Calibrate what you deploy.* ``fold_0/validation`` holds predictions of the model of fold 0 for cases that it was not
  trained on: they calibrate this model. The ensemble of five folds is another model, whose probabilities are averages,
  and which was trained on all training cases. Calibrate it on cases that no fold has seen: predict them with the
  ensemble (``nnUNetv2_predict --save_probabilities``), and give their labels. Predictions of five models, pooled over
  the folds, calibrate none of them. ``fold_all`` was trained on its own validation cases, which calibrate nothing.
- *Choices count.* Cases are not held out if a configuration or a postprocessing
  (``nnUNetv2_find_best_configuration``) or a checkpoint (``--val_best``) was chosen with them. nnU-Net also plans with
  the images of all folds (spacings, intensities). Strictly, these images are not held out either, but no single case
  has much influence on the plan.
- *The unit is the case*, and n counts cases, not voxels. Several scans of one patient are one unit: give ``groups=`` to
  ``fit`` and ``evaluate``, in the order of ``cases.names`` (on the command line ``--groups``).
- *Only voxels within the crop box*, by default: see ``outside`` of :class:`Cases`. Score files in float16, as nnU-Net
  v1 writes them, must contain the box: see the notes of that class.
- *Only images on which the loss is defined*: a miss rate of class 2 says nothing about images without class 2.

The five folds, used on cases that none of them has seen, are samples of a model for
:class:`conformask.ConsignCalibrator`: predict with one fold at a time (``-f 0``, ``-f 1``, ...), and stack what
:func:`read_scores` gives, (S, C, z, y, x).

Region-based training gives overlapping regions, with a sigmoid each. ``Cases(..., region=NAME)`` reads one region, for
:class:`conformask.BinaryRiskCalibrator`. The guarantee then holds for each region by itself, not for all at once.
"""

from conformask.integrations.nnunet.cases import Cases, VoxelCounts
from conformask.integrations.nnunet.dataset import Dataset
from conformask.integrations.nnunet.predictions import crop_box, read_scores

__all__ = ["Cases", "Dataset", "VoxelCounts", "crop_box", "read_scores"]


def __dir__() -> list[str]:
    return sorted(__all__)
