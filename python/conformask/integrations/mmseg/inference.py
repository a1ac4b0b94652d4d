"""Sets and heatmaps at every inference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.registry import HOOKS, VISUALIZERS
from mmseg.visualization import SegLocalVisualizer
from numpy.typing import NDArray
from torch import Tensor

from conformask._tensors import lives_elsewhere
from conformask._torch_sets import masks_of
from conformask._transforms import checked_inputs, transform_of
from conformask.integrations.mmseg.predictions import loaded, scores_of
from conformask.kernels.maps import sets_at
from conformask.risk_control import ConformalRiskCalibrator
from conformask.scores import as_score, scored

__all__ = ["ConformalHook", "ConformalLocalVisualizer", "attach"]

# White letters over black ones at a distance of one pixel: thick letters are wider in some versions of OpenCV.
_OUTLINE = ((-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1), (0, 0))
_FAINTEST = 60  # colour of the smallest sets of more than one class: the darkest of the map are not seen
_SMALLEST_LETTERS = 0.3  # the smallest that can be read


def attach(model: Any, calibrator: str | Path | ConformalRiskCalibrator, *, inputs: str | None = None) -> Any:
    """Makes a segmentor add the set to each of its predictions.

    Predictions (``SegDataSample``) of ``inference_model``, ``MMSegInferencer`` and the loops of the runner then carry

    - ``pred_set``: bool (K, H, W), the multi-labeled mask at lambda-hat;
    - ``set_size``: int16 (1, H, W), the number of classes in the set;
    - ``varisco``: float32 (1, H, W), the share of the classes that are in the set.

    Parameters
    ----------
    model : BaseSegmentor
        The model, or its wrapper; changed in place. A second call replaces the calibrator.
    calibrator : path or ConformalRiskCalibrator
        The JSON file that :class:`ConformalCalibration` wrote, or a fitted calibrator.
    inputs : {"logits", "probabilities", "scores"} or None, default=None
        What the model's ``seg_logits`` are; None takes the value of calibration.

    Returns
    -------
    model

    Raises
    ------
    TypeError
        If the model merges test-time augmentations: its logits are not those of its prediction.

    Examples
    --------
    >>> import torch
    >>> from mmengine.structures import PixelData
    >>> from mmseg.structures import SegDataSample
    >>> import conformask as cm
    >>> from conformask.integrations.mmseg import attach
    >>> logits = torch.randn(9, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    >>> calibrator = cm.ConformalRiskCalibrator(inputs="logits").fit(logits, logits.argmax(1))
    >>> class Model(torch.nn.Module):  # in place of a segmentor
    ...     def postprocess_result(self, seg_logits, data_samples=None):
    ...         return [SegDataSample(seg_logits=PixelData(data=each)) for each in seg_logits]
    >>> attach(Model(), calibrator).postprocess_result(logits)[0].pred_set.shape
    (4, 5)
    """
    model = model.module if is_model_wrapper(model) else model
    if isinstance(model, BaseTTAModel):
        raise TypeError(
            "sets of test-time augmentation are not defined: its seg_logits are those of one augmentation"
        )
    fitted = loaded(calibrator)
    model.postprocess_result = _WithSets(model, fitted, inputs)
    return model


class _WithSets:
    """Replaces ``postprocess_result`` of a model."""

    def __init__(self, model: Any, calibrator: ConformalRiskCalibrator, inputs: str | None) -> None:
        self.model = model
        self.inputs = calibrator.inputs if inputs is None else inputs
        self.score, self.lam = as_score(calibrator.conformity_score), calibrator._lambda_for_modules()
        self.transform = transform_of(calibrator.transform)
        self.n_classes = calibrator.n_classes_

    def __call__(self, seg_logits: Tensor, data_samples: Any = None) -> Any:
        samples = type(self.model).postprocess_result(self.model, seg_logits, data_samples)
        for sample in samples:
            given, inputs = scores_of(sample.seg_logits.data.detach(), self.inputs)
            if len(given) != self.n_classes:
                raise ValueError(
                    f"the model gives K = {len(given)} classes, but calibration had K = {self.n_classes}"
                )
            if lives_elsewhere(given) and self.transform is None:
                sets = masks_of(given[None], self.score, self.lam, inputs, 0)[0]
            else:
                known = scored(self.score, given[None], checked_inputs(inputs, self.transform))
                sets = torch.from_numpy(sets_at(self.lam, known)[0])
            sizes = sets.sum(dim=0, keepdim=True, dtype=torch.int16)
            sample.set_data(
                {
                    "pred_set": PixelData(data=sets),
                    "set_size": PixelData(data=sizes),
                    "varisco": PixelData(data=sizes / len(given)),
                }
            )
        return samples


@HOOKS.register_module()
class ConformalHook(Hook):
    """Adds sets to all predictions of a run, as :func:`attach` does, before validation and before the test.

    Parameters
    ----------
    calibrator : path or ConformalRiskCalibrator
        The JSON file that :class:`ConformalCalibration` wrote.
    inputs : {"logits", "probabilities", "scores"} or None, default=None
        As for :func:`attach`.

    Examples
    --------
    >>> from conformask.integrations.mmseg import ConformalHook
    >>> hook = ConformalHook("calibrator.json")  # in a config: custom_hooks = [dict(type="ConformalHook", ...)]
    """

    def __init__(
        self, calibrator: str | Path | ConformalRiskCalibrator, *, inputs: str | None = None
    ) -> None:
        self.calibrator = calibrator
        self.inputs = inputs

    def before_val(self, runner: Runner) -> None:
        """Calls :func:`attach` before validation.

        Parameters
        ----------
        runner : Runner
            Whose model it is.
        """
        attach(runner.model, self.calibrator, inputs=self.inputs)

    def before_test(self, runner: Runner) -> None:
        """Calls :func:`attach` before the test.

        Parameters
        ----------
        runner : Runner
            Whose model it is.
        """
        attach(runner.model, self.calibrator, inputs=self.inputs)


@VISUALIZERS.register_module()
class ConformalLocalVisualizer(SegLocalVisualizer):
    """Draws labels, prediction and the varisco heatmap: the sizes of the sets that :func:`attach` added.

    It takes the parameters of ``SegLocalVisualizer``. If a prediction has no set, it draws the same as that class.
    """

    @master_only
    def add_datasample(
        self,
        name: str,
        image: NDArray[np.uint8],
        data_sample: Any = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        with_labels: bool | None = True,
    ) -> None:
        """Draws a prediction, and saves or shows it.

        Parameters
        ----------
        name, image, data_sample, draw_gt, draw_pred, show, wait_time, out_file, step, with_labels
            As for ``SegLocalVisualizer.add_datasample``.
        """
        panels = self._panels(image, data_sample, draw_gt, draw_pred, with_labels)
        if not (draw_pred and data_sample is not None and "set_size" in data_sample):
            super().add_datasample(
                name, image, data_sample, draw_gt, draw_pred, show, wait_time, out_file, step, with_labels
            )
            return
        drawn = np.concatenate(
            [*panels, _heatmap(image, data_sample.set_size.data[0], len(data_sample.pred_set.data))], axis=1
        )
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(mmcv.rgb2bgr(drawn), str(out_file))
        else:
            self.add_image(name, drawn, step)

    def _panels(
        self, image: NDArray[np.uint8], sample: Any, draw_gt: bool, draw_pred: bool, with_labels: bool | None
    ) -> Iterator[NDArray[np.uint8]]:
        classes, palette = self.dataset_meta["classes"], self.dataset_meta["palette"]
        for field, wanted in {"gt_sem_seg": draw_gt, "pred_sem_seg": draw_pred}.items():
            if wanted and field in sample:
                yield self._draw_sem_seg(image, sample.get(field), classes, palette, with_labels)


def _heatmap(image: NDArray[np.uint8], sizes: Tensor, n_classes: int) -> NDArray[np.uint8]:
    """Set sizes over an image, which shows through where the size is 1; the scale ends at the largest size."""
    sizes_here = sizes.cpu().numpy().astype(np.float32)
    largest = int(sizes_here.max())
    share = ((sizes_here - 1) / max(1, largest - 1)).clip(0, 1)
    steps = np.where(share > 0, _FAINTEST + (255 - _FAINTEST) * share, 0).astype(np.uint8)
    colours = cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO)[..., ::-1]
    grey = image.mean(axis=2, keepdims=True)
    opacity = 0.35 + 0.5 * share[..., None]
    drawn = np.ascontiguousarray((grey * (1 - opacity) + colours * opacity).astype(np.uint8))
    text, font = f"set size: up to {largest} of {n_classes} classes", cv2.FONT_HERSHEY_SIMPLEX
    scale = min(1.0, 0.9 * drawn.shape[1] / cv2.getTextSize(text, font, 1.0, 1)[0][0])
    if scale > _SMALLEST_LETTERS:
        place = (round(6 * scale) + 2, drawn.shape[0] - round(10 * scale))
        for (x, y), colour in zip(_OUTLINE, (*[0] * 8, 255), strict=True):
            at = place[0] + x, place[1] + y
            cv2.putText(drawn, text, at, font, scale, (colour,) * 3, 1, cv2.LINE_AA)
    return drawn
