"""What the metrics share: images that are reduced one by one, and parts of a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from mmengine.evaluator import BaseMetric
from torch import Tensor

from conformask._arrays import INPUTS
from conformask._exact import as_fraction
from conformask.integrations.mmseg.predictions import field_of, refuse_merged, scores_of

__all__ = ["ImageMetric"]

T = TypeVar("T")

_PARTS = ("calibration", "evaluation")


class ImageMetric(BaseMetric):
    """A metric of images that are reduced one by one, each to one small item."""

    def __init__(
        self,
        inputs: str | None,
        subset: Mapping[str, Any] | None,
        collect_device: str,
        prefix: str | None,
        collect_dir: str | None,
        output_dir: str | None,
        keep_results: bool,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if inputs is not None and inputs not in INPUTS:
            raise ValueError(f"inputs must be one of {list(INPUTS)} or None, got {inputs!r}")
        self.inputs = inputs
        self.subset = None if subset is None else _check_subset(**subset)
        self._n_seen = 0

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Reduces the images of a batch.

        Parameters
        ----------
        data_batch : dict
            Not looked at.
        data_samples : sequence of dict
            Predictions with ``seg_logits``, ``pred_sem_seg`` and ``gt_sem_seg``.
        """
        for sample in data_samples:
            scores, labels, inputs = self._read(sample)
            # One item for each image, so that gathering over ranks drops those that padded a batch.
            item = self._reduce(scores[None], labels[None], inputs)
            self.results.append((str(sample.get("img_path", "")), item))
            self._n_seen += 1

    def _reduce(self, scores: Tensor, labels: Tensor, inputs: str) -> Any:
        raise NotImplementedError

    def _read(self, sample: Mapping[str, Any]) -> tuple[Tensor, Tensor, str]:
        """Scores (K, H, W) and labels (H, W) of a prediction, and what the scores are."""
        given, labels = (field_of(sample, name) for name in ("seg_logits", "gt_sem_seg"))
        labels = labels.reshape(labels.shape[-2:])
        path = sample.get("img_path", "an image")
        if given.shape[-2:] != labels.shape:
            raise ValueError(
                f"seg_logits of {path} are {tuple(given.shape[-2:])}, gt_sem_seg is {tuple(labels.shape)}: in the test "
                "pipeline, LoadAnnotations must come after Resize"
            )
        if sample.get("flip"):
            raise ValueError(
                f"{path} was flipped: with test-time augmentation (--tta) seg_logits are those of "
                "one augmentation only. Test without it"
            )
        refuse_merged(given, field_of(sample, "pred_sem_seg"), path)
        if self._n_seen == 0:
            self._look_at(given, path)
        scores, inputs = scores_of(given, self._inputs)
        return scores, labels, inputs

    @property
    def _inputs(self) -> str:
        """What the numbers are."""
        return self.inputs or "logits"

    def _look_at(self, given: Tensor, path: str) -> None:
        """Of the first image: are the numbers what they are said to be?"""
        if given.element_size() < 4:
            warnings.warn(
                f"seg_logits are {given.dtype}: scores are computed in float32, but of rounded logits; for a finer "
                "calibration test in float32",
                UserWarning,
                stacklevel=4,
            )
        if self.inputs is None and self._inputs == "logits" and len(given) > 1 and bool((given >= 0).all()):
            raise ValueError(
                f"no seg_logits of {path} are negative: they look like scores of a mask classifier or like "
                "probabilities. Say inputs='scores' or 'probabilities'; or 'logits', if that is what they are"
            )

    def _chosen(self, results: list[tuple[str, T]]) -> list[T]:
        """The images of the subset; `results` are in the order of the dataset."""
        if self.subset is None:
            chosen = np.arange(len(results))
        else:
            # By name, so that a loader that shuffles gives the same parts.
            fraction, seed, part = self.subset
            by_name = sorted(range(len(results)), key=lambda i: results[i][0])
            order = np.random.default_rng(seed).permutation(by_name)
            n_calibration = int(fraction * len(results))
            chosen = np.sort(order[:n_calibration] if part == "calibration" else order[n_calibration:])
        if not len(chosen):
            where = "" if self.subset is None else f" in the part {self.subset[2]!r} of the dataset"
            raise ValueError(f"there is no image{where}: {len(results)} were tested")
        return [results[i][1] for i in chosen]


def _check_subset(fraction: float, seed: int, part: str) -> tuple[Any, int, str]:
    share = as_fraction(fraction, "fraction")
    if not 0 < share < 1:
        raise ValueError(f"fraction must be in (0, 1), got {fraction!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be an int of at least 0, got {seed!r}")
    if part not in _PARTS:
        raise ValueError(f"part must be one of {list(_PARTS)}, got {part!r}")
    return share, seed, part
