"""What all metrics share: images that are reduced one by one, and parts of a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any, TypeAlias, TypeVar

import numpy as np
from mmengine.evaluator import BaseMetric
from torch import Tensor

from conformask._arrays import INPUTS
from conformask._calibrator import Calibrator
from conformask._exact import as_fraction
from conformask._origin import Origin
from conformask.integrations.mmseg.predictions import field_of, refuse_merged, scores_of

__all__ = ["ImageMetric", "Item"]

T = TypeVar("T")

Item: TypeAlias = tuple[str, int | str | None, T]  # name of the image, its group, what is kept of it

_PARTS = ("scaling", "calibration", "evaluation")


class ImageMetric(BaseMetric):
    """A metric of images that are reduced one by one, each to one small item."""

    def __init__(
        self,
        inputs: str | None,
        subset: Mapping[str, Any] | None,
        group_key: str | None,
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
        if not isinstance(group_key, str | None):
            raise TypeError(f"group_key must be the name of a field of the images or None, got {group_key!r}")
        self.group_key = group_key
        self._n_seen = 0

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Reduces the images of a batch.

        Parameters
        ----------
        data_batch : dict
            Not used.
        data_samples : sequence of dict
            Predictions with ``seg_logits``, ``pred_sem_seg`` and ``gt_sem_seg``.
        """
        for sample in data_samples:
            scores, labels, inputs = self._read(sample)
            # One item for each image, so that images which only pad a batch are dropped when ranks are gathered.
            item = self._reduce(scores[None], labels[None], inputs)
            self.results.append((str(sample.get("img_path", "")), self._group_of(sample), item))
            self._n_seen += 1

    def _reduce(self, scores: Tensor, labels: Tensor, inputs: str) -> Any:
        raise NotImplementedError

    def _group_of(self, sample: Mapping[str, Any]) -> int | str | None:
        """The group of an image."""
        if self.group_key is None:
            return None
        group = sample.get(self.group_key)
        if isinstance(group, bool) or not isinstance(group, int | str):
            raise ValueError(
                f"{sample.get('img_path', 'an image')} has {self.group_key} = {group!r}, but group_key needs an int or "
                "a str of every image: let the dataset set it, and name it in meta_keys of PackSegInputs"
            )
        if self.results and type(self.results[0][1]) is not type(group):
            raise ValueError(
                f"{sample.get('img_path', 'an image')} has {self.group_key} = {group!r}, others have "
                f"{self.results[0][1]!r}: groups must all be ints or all be strings"
            )
        return group

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
        """What the numbers of the maps are."""
        return self.inputs or "logits"

    def _look_at(self, given: Tensor, path: str) -> None:
        """Checks, on the first image, whether the numbers are what they are said to be."""
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
                "probabilities. Pass inputs='scores' or 'probabilities'; or 'logits', if they are logits"
            )

    def _chosen(self, results: list[Item[T]]) -> tuple[list[T], list[int | str] | None]:
        """The images of the subset and their groups; `results` are in the order of the dataset."""
        chosen = [results[i] for i in self._indices(results)]
        groups = [group for _, group, _ in chosen if group is not None]
        return [item for _, _, item in chosen], groups or None

    def _origin_of(self, results: list[Item[T]]) -> Origin | None:
        """The files of the subset, and how they were chosen, without the name of the part."""
        names, of = self._names(results)
        split: dict[str, Any] | None = None
        if self.subset is not None:
            (scaling, fraction), seed, _ = self.subset
            split = {"fraction": float(fraction), "seed": seed}
            if scaling:
                split["scaling"] = float(scaling)
            if self.group_key is not None:
                split["group_key"] = self.group_key
        return Origin.of(names, of=of, split=split)

    def _refuse_seen(
        self, calibrator: Calibrator[Any, Any, Any], results: list[Item[T]], allow_seen: bool
    ) -> None:
        """Refuses calibration images."""
        if calibrator._origin is not None and not allow_seen:
            names, of = self._names(results)
            calibrator._origin.refuse_seen(names, of=of, way_out="pass allow_seen=True")

    def _names(self, results: list[Item[T]]) -> tuple[list[str], list[str]]:
        """The names of the images of the subset, and those of all."""
        names = [name for name, _, _ in results]
        return [names[i] for i in self._indices(results)], names

    def _indices(self, results: list[Item[T]]) -> list[int]:
        """The indices of the images of the subset."""
        if self.subset is None:
            chosen = list(range(len(results)))
        else:
            fractions, seed, part = self.subset
            units = self._units(results)
            order = np.random.default_rng(seed).permutation(len(units))
            ends = [int(fraction * len(units)) for fraction in accumulate(fractions)]
            some = np.split(order, ends)[_PARTS.index(part)]
            chosen = sorted(index for unit in some for index in units[unit])
        if not chosen:
            of_part = "" if self.subset is None else f" in the part {self.subset[2]!r} of the dataset"
            raise ValueError(f"there is no image{of_part}: {len(results)} were tested")
        return chosen

    def _units(self, results: list[Item[T]]) -> list[list[int]]:
        """The units of a split: images, or the images of a group. They are sorted by name, as a loader may shuffle."""
        if self.group_key is None:
            return [[i] for i in sorted(range(len(results)), key=lambda i: results[i][0])]
        members: dict[Any, list[int]] = {}
        for index, (_, group, _) in enumerate(results):
            members.setdefault(group, []).append(index)
        return [members[group] for group in sorted(members)]


def _check_subset(
    fraction: float, seed: int, part: str, scaling: float = 0
) -> tuple[tuple[Fraction, Fraction], int, str]:
    """Shares of the images for a scaler and for calibration, the seed of the order, and the part that is meant."""
    share, before = as_fraction(fraction, "fraction"), as_fraction(scaling, "scaling")
    if not 0 < share < 1:
        raise ValueError(f"fraction must be in (0, 1), got {fraction!r}")
    if before < 0 or before + share >= 1:
        raise ValueError(f"scaling must be at least 0, and less than 1 with fraction, got {scaling!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be an int of at least 0, got {seed!r}")
    if part not in _PARTS:
        raise ValueError(f"part must be one of {list(_PARTS)}, got {part!r}")
    return (before, share), seed, part
