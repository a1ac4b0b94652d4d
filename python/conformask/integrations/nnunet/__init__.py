"""nnU-Net's own files, calibrated: its softmax, its labels, its ``dataset.json``, its crop box.

NumPy reads the scores, nibabel the labels (``pip install "conformask[nnunet]"``); neither PyTorch nor nnU-Net is
needed, and no pickle is ever opened. On the command line: ``conformask nnunet calibrate``, ``evaluate`` and ``apply``.

>>> from conformask.integrations.nnunet import Cases
>>> cases = Cases("fold_0/validation", "labelsTr")  # doctest: +SKIP
>>> calibrator = cm.ConformalRiskCalibrator(loss=cm.FalseNegativeLoss([2]), volumes=True)  # doctest: +SKIP
>>> calibrator.fit(cases)  # doctest: +SKIP

**On what the promise is conditional.** That calibration cases and new cases are exchangeable, that the model was not
trained, chosen or tuned on the calibration cases, and that alpha, loss and score are fixed before their labels are
looked at. For nnU-Net this means:

- *Calibrate what you deploy.* ``fold_0/validation`` holds predictions of the model of fold 0 for cases that it was not
  trained on: they calibrate this model. The ensemble of five folds is another model, whose probabilities are averages;
  all cases of training helped to train it. Calibrate it on cases that no fold has seen: predict them with the ensemble
  (``nnUNetv2_predict --save_probabilities``), and give their labels. Predictions of five models, pooled over the folds,
  calibrate none of them. ``fold_all`` was trained on its own validation cases, which calibrate nothing.
- *Choices count.* Cases by which a configuration or a postprocessing was chosen (``nnUNetv2_find_best_configuration``)
  or a checkpoint (``--val_best``) are not held out. nnU-Net plans with the images of all folds (spacings, intensities).
  Strictly, these are not held out either; that choice depends on no single case by much.
- *The unit is the case*, and n counts cases, not voxels. Several scans of one patient are one unit: give ``groups=`` to
  ``fit`` and ``evaluate``, in the order of ``cases.names`` (on the command line ``--groups``).
- *Within the crop box*, by default: see ``outside`` of :class:`Cases`. Files of scores in float16, as nnU-Net v1 keeps
  them, must tell the box: see its notes.
- *On images where the loss is defined*: a miss rate of class 2 says nothing of images without it.

The five folds, used on cases that none of them has seen, are samples of a model for
:class:`conformask.ConsignCalibrator`: predict with one fold at a time (``-f 0``, ``-f 1``, ...), and stack what
:func:`read_scores` gives, (S, C, z, y, x).

Region-based training gives overlapping regions, a sigmoid each. ``Cases(..., region=NAME)`` looks at one, for
:class:`conformask.BinaryRiskCalibrator`; each keeps its own alpha, not all at once.
"""

from conformask.integrations.nnunet.cases import Cases, VoxelCounts
from conformask.integrations.nnunet.dataset import Dataset
from conformask.integrations.nnunet.predictions import crop_box, read_scores

__all__ = ["Cases", "Dataset", "VoxelCounts", "crop_box", "read_scores"]


def __dir__() -> list[str]:
    return sorted(__all__)
