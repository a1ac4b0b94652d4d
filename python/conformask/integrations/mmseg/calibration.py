"""A metric of MMEngine that measures how well the probabilities of a model are calibrated."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmseg.registry import METRICS
from torch import Tensor

from conformask._documents import write_whole
from conformask._transforms import transform_of
from conformask.integrations.mmseg._images import ImageMetric, Item
from conformask.integrations.mmseg.predictions import scaler_of
from conformask.metrics._counted import Asked, Counted, count, joined
from conformask.metrics._evaluation import report_of

__all__ = ["CalibrationError"]

_ARRAYS = tuple(each.name for each in fields(Counted) if each.name != "groups")


@METRICS.register_module()
class CalibrationError(ImageMetric):
    """Measures calibration while a model is tested: expected calibration errors, log loss, Brier score and more.

    Parameters
    ----------
    n_bins : int from 1 to 1000, default=15
        Number of bins of equal width.
    inputs : {"logits", "probabilities", "scores"} or None, default=None
        What ``seg_logits`` are, as for :class:`ConformalProfile`.
    scaler : path, fitted scaler such as TemperatureScaler, or None, default=None
        A scaler that turns ``seg_logits`` into probabilities, as for :class:`ConformalProfile`.
    ignore_index : int, sequence of ints, or None, default=255
        The label of void pixels, or several.
    class_threshold, boundary_width, boundary, object_classes
        As for :class:`conformask.metrics.CalibrationAccumulator`.
    subset : dict(fraction, seed, part) or None, default=None
        The part of the images that is used, as for :class:`ConformalProfile`. If a scaler was fitted to one part, use
        the other.
    group_key : str or None, default=None
        As for :class:`ConformalProfile`: means and intervals are then those of groups.
    out_file : path or None, default=None
        The JSON file for the report.
    collect_device, prefix, collect_dir, output_dir, keep_results
        As for :class:`ConformalProfile`.

    Attributes
    ----------
    report_ : CalibrationReport
        After evaluation, on the main rank; with the values of each image.

    See Also
    --------
    conformask.metrics.calibration_report : The same for arrays.

    References
    ----------
    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.mmseg import CalibrationError
    >>> metric = CalibrationError()
    >>> maps = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    >>> samples = [
    ...     {
    ...         "seg_logits": {"data": logits},
    ...         "pred_sem_seg": {"data": logits.argmax(0, keepdim=True)},
    ...         "gt_sem_seg": {"data": torch.zeros(1, 4, 5, dtype=torch.long)},
    ...     }
    ...     for logits in maps
    ... ]
    >>> metric.process({}, samples)
    >>> found = metric.evaluate(3)
    >>> found["calibration/ece"] == metric.report_.ece
    True
    """

    default_prefix = "calibration"

    def __init__(
        self,
        n_bins: int = 15,
        *,
        inputs: str | None = None,
        scaler: Any = None,
        ignore_index: int | tuple[int, ...] | None = 255,
        class_threshold: float = 0.001,
        boundary_width: int | None = 2,
        boundary: str = "labels",
        object_classes: Any = None,
        subset: Mapping[str, Any] | None = None,
        group_key: str | None = None,
        out_file: str | Path | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
        output_dir: str | None = None,
        keep_results: bool = False,
    ) -> None:
        super().__init__(
            inputs, subset, group_key, collect_device, prefix, collect_dir, output_dir, keep_results
        )
        known = transform_of(scaler_of(scaler))
        self.asked = Asked(
            n_bins,
            "logits" if known is None else known.inputs,
            known,
            ignore_index=ignore_index,
            boundary_width=boundary_width,
            boundary=boundary,
            class_threshold=class_threshold,
            object_classes=object_classes,
        )
        self.out_file = None if out_file is None else Path(out_file)

    def _reduce(self, scores: Tensor, labels: Tensor, inputs: str) -> bytes:
        counted = count(labels, scores, replace(self.asked, inputs=inputs))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: getattr(counted, name) for name in _ARRAYS})  # most counts are 0
        return buffer.getvalue()

    def compute_metrics(self, results: list[Item[bytes]]) -> dict[str, float]:
        """Computes the report of all images.

        Parameters
        ----------
        results : list of tuples
            Names, groups and what :meth:`process` kept of the images of all ranks, in the order of the dataset.

        Returns
        -------
        dict
            Calibration errors (image-wise with its interval, pooled, class-wise, near boundaries and inside), log loss,
            Brier score, accuracy and mean IoU in [0, 1], and the number of images. The log shows the whole report.
        """
        images, groups = self._chosen(results)
        counted = joined([_counted(image) for image in images])
        if groups is not None:
            counted = replace(counted, groups=tuple(groups))
        names = (self.dataset_meta or {}).get("classes") or ()
        known = names if len(set(names)) == len(names) == counted.n_classes else None
        report = self.report_ = report_of(counted, self.asked, known)
        print_log(f"calibration\n{report}", logger="current")
        if self.out_file is not None:
            self.out_file.parent.mkdir(parents=True, exist_ok=True)
            with write_whole(self.out_file) as file:
                file.write(report.to_json().encode())
        return {
            "ece": report.ece,
            "ece_low": report.ece_interval[0],
            "ece_high": report.ece_interval[1],
            "pooled_ece": report.pooled_ece,
            "class_wise_ece": report.class_wise_ece,
            **{f"{region.name}_ece": region.ece for region in report.regions},
            "nll": report.nll,
            "brier": report.brier,
            "accuracy": report.accuracy,
            "mean_iou": report.mean_iou,
            "n_images": report.n_images,
        }


def _counted(image: bytes) -> Counted:
    with np.load(io.BytesIO(image)) as arrays:
        return Counted(**arrays, groups=None)
