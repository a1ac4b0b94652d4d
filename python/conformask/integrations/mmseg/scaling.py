"""Scalers, fitted while a model is tested."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from mmseg.registry import METRICS
from torch import Tensor

from conformask.integrations.mmseg._images import ImageMetric, Item
from conformask.integrations.mmseg.predictions import built
from conformask.scaling._pixels import PixelSample
from conformask.scaling._scaler import Scaler

__all__ = ["ScalerCalibration"]


@METRICS.register_module()
class ScalerCalibration(ImageMetric):
    """Fits a scaler to the images that a model is tested on: the first step before :class:`ConformalCalibration`.

    Parameters
    ----------
    scaler : dict or scaler, default=dict(type="TemperatureScaler")
        The scaler: ``dict(type="VectorScaler", ridge=0.01)``, or an object.
    inputs : {"logits", "probabilities"} or None, default=None
        What ``seg_logits`` are, as for :class:`ConformalProfile`.
    subset : dict(fraction, seed, part, scaling=0) or None, default=None
        The part of the images that is used, as for :class:`ConformalProfile`; here ``part="scaling"``.
    group_key : str or None, default=None
        The field of the images that holds their group, as for :class:`ConformalProfile`.
    out_file : path or None, default=None
        The JSON file for the scaler; ``ConformalCalibration(scaler=)`` takes it.
    collect_device, prefix, collect_dir, output_dir, keep_results
        As for :class:`ConformalProfile`.

    Attributes
    ----------
    scaler_ : scaler
        After evaluation, on the main rank.

    See Also
    --------
    ConformalCalibration : Its parameter `scaler` takes the file that this metric writes.

    Notes
    -----
    For each image the pixels that the scaler draws are gathered: 0.3 MB with 19 classes and 4096 pixels.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.mmseg import ScalerCalibration
    >>> logits = torch.randn(9, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    >>> labels = torch.distributions.Categorical(logits=logits.movedim(1, -1)).sample()
    >>> metric = ScalerCalibration(dict(type="VectorScaler"))
    >>> samples = [
    ...     {
    ...         "seg_logits": {"data": each},
    ...         "pred_sem_seg": {"data": each.argmax(0, keepdim=True)},
    ...         "gt_sem_seg": {"data": truth[None]},
    ...     }
    ...     for each, truth in zip(logits, labels)
    ... ]
    >>> metric.process({}, samples)
    >>> sorted(metric.evaluate(9))
    ['scaler/n_images', 'scaler/nll', 'scaler/nll_before']
    """

    default_prefix = "scaler"

    def __init__(
        self,
        scaler: Any = None,
        *,
        inputs: str | None = None,
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
        given = built({"type": "TemperatureScaler"} if scaler is None else scaler)
        if not isinstance(given, Scaler):
            raise TypeError(f"scaler must be a scaler or dict(type=...), got {scaler!r}")
        self.scaler = copy.copy(given)  # its inputs are set below; the caller's scaler stays as it is
        self.scaler._configuration()  # before the test, not after
        self.out_file = None if out_file is None else Path(out_file)

    def _reduce(self, scores: Tensor, labels: Tensor, inputs: str) -> PixelSample:
        self.scaler.inputs = inputs  # which the model decides where it is binary
        drawn: PixelSample = self.scaler._draw(scores, labels, None, self.scaler._configuration())
        return drawn

    def compute_metrics(self, results: list[Item[PixelSample]]) -> dict[str, float]:
        """Fits the scaler.

        Parameters
        ----------
        results : list of tuples
            Names, groups and what :meth:`process` kept of the images of all ranks, in the order of the dataset.

        Returns
        -------
        dict
            The negative log-likelihood with and without the scaler, and the number of images.
        """
        samples, groups = self._chosen(results)
        if groups is not None:
            samples = [_of_group(*each) for each in zip(samples, groups, strict=True)]
        sample = reduce(PixelSample.merge, samples)
        self.scaler_ = copy.copy(self.scaler)._fit_sample(sample, self.scaler._configuration())
        if self.out_file is not None:
            self.out_file.parent.mkdir(parents=True, exist_ok=True)
            self.scaler_.save(self.out_file)
        found = self.scaler_
        return {"nll": found.nll_, "nll_before": found.nll_before_, "n_images": found.n_images_}


def _of_group(sample: PixelSample, group: int | str) -> PixelSample:
    images = [replace(image, group=group) for image in sample.images]
    return PixelSample(images, sample.n_classes, sample.n_skipped)
