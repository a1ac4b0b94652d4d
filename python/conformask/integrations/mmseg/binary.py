"""Metrics of MMEngine for one class against the rest: they calibrate binary masks, and evaluate them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from mmengine.logging import print_log
from mmseg.registry import METRICS
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor

from conformask._arrays import check_ignore_index
from conformask._text import shown
from conformask._torch_profile import check_labels
from conformask.adaptive._calibrator import BinaryCalibrator
from conformask.adaptive._kept import Kept
from conformask.adaptive._kinds import BINARY
from conformask.integrations._calibrator_files import load_calibrator
from conformask.integrations._torch_masks import foreground_of
from conformask.integrations.mmseg._images import ImageMetric, Item
from conformask.integrations.mmseg.predictions import built

__all__ = ["BinaryConformalCalibration", "BinaryConformalEvaluation"]

Seen: TypeAlias = tuple[Kept, NDArray[np.float64]]
Counted: TypeAlias = tuple[NDArray[np.uint64], NDArray[np.float64], int]

_VOID = 255  # marks void pixels in masks, whatever the dataset uses
_FOUND = ("correction_", "mass_", "threshold_")  # the first of these that a calibrator has is reported


class _BinaryMetric(ImageMetric):
    """A metric of the probability of one class, and of masks of 0, 1 and void."""

    def __init__(
        self,
        foreground: int | str,
        ignore_index: int | tuple[int, ...] | None,
        inputs: str | None,
        subset: Mapping[str, Any] | None,
        group_key: str | None,
        collect_device: str,
        prefix: str | None,
        collect_dir: str | None,
        output_dir: str | None,
        keep_results: bool,
    ) -> None:
        super().__init__(
            inputs, subset, group_key, collect_device, prefix, collect_dir, output_dir, keep_results
        )
        if isinstance(foreground, bool) or not isinstance(foreground, int | str):
            raise TypeError(f"foreground must be the index or the name of a class, got {shown(foreground)}")
        if isinstance(foreground, int) and foreground < 0:
            raise ValueError(f"foreground must be at least 0, got {foreground}")
        self.foreground = foreground
        self.ignore_index = check_ignore_index(ignore_index)

    def _binary(self, scores: Tensor, labels: Tensor, inputs: str) -> tuple[Tensor, Tensor]:
        """Probabilities and masks (1, H, W) of scores (1, K, H, W) and labels (1, H, W), on their device."""
        foreground = self._index()
        p = foreground_of(scores, inputs, foreground)
        classes, is_labelled = check_labels(labels, self.ignore_index, scores.shape[1], 0)
        masks = torch.where(is_labelled, (classes == foreground).to(torch.uint8), _VOID)
        return p, masks.reshape(labels.shape)

    def _index(self) -> int:
        """The index of the class."""
        if isinstance(self.foreground, int):
            return self.foreground
        names = list((self.dataset_meta or {}).get("classes") or ())
        if names.count(self.foreground) != 1:
            raise ValueError(
                f"foreground={self.foreground!r} is not one of the classes of the dataset, {names}"
            )
        return names.index(self.foreground)


@METRICS.register_module()
class BinaryConformalCalibration(_BinaryMetric):
    """Calibrates binary masks of one class, such as lesion or road, while a model is tested.

    Parameters
    ----------
    foreground : int or str
        The class: its index, or its name in the dataset. The other classes are the background. With a binary model of
        one map (``out_channels=1``) 1 is the class of the map.
    calibrator : dict, calibrator or None, default=None
        The calibrator with its parameters: ``dict(type="CRACalibrator", alpha=0.05)``, or an object, which is not
        changed. None is ``dict(type="BinaryRiskCalibrator")``. ATCalibrator, COATCalibrator and AACRCCalibrator train
        their light model of thresholds on a part of the images; they cannot take a model of your own here.
    inputs : {"logits", "probabilities", "scores"} or None, default=None
        What ``seg_logits`` are, as for :class:`ConformalProfile`.
    ignore_index : int, sequence of ints, or None, default=255
        The label of void pixels in the dataset, or several. It replaces the `ignore_index` of `calibrator`.
    subset : dict(fraction, seed, part) or None, default=None
        The part of the images that is used, as for :class:`ConformalProfile`.
    group_key : str or None, default=None
        The field of the images that holds their group, as for :class:`ConformalProfile`.
    out_file : path or None, default=None
        The JSON file for the calibrator; ``load`` of its class reads it.
    collect_device, prefix, collect_dir, output_dir, keep_results
        As for :class:`ConformalProfile`.

    Attributes
    ----------
    calibrator_ : BinaryRiskCalibrator, ATCalibrator, COATCalibrator, AACRCCalibrator or CRACalibrator
        After evaluation, on the main rank.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong (before the test); if the model has no such class, or a label is not a class of the
        model.

    See Also
    --------
    BinaryConformalEvaluation : Evaluates the calibrator.
    ConformalCalibration : Calibrates sets of all classes.

    Notes
    -----
    Calibrate on images that the model was not trained or chosen on. The file does not hold the name of the class: use
    it for the same class of the same model. For each image the probabilities of its foreground (with ``risk="fpr"`` of
    its background) are gathered, 4 bytes a pixel (8 with CRACalibrator and with models in float64).

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.mmseg import BinaryConformalCalibration
    >>> metric = BinaryConformalCalibration(foreground=2, calibrator=dict(type="BinaryRiskCalibrator", alpha=0.2))
    >>> maps = torch.randn(9, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    >>> labels = torch.distributions.Categorical(logits=maps.movedim(1, -1)).sample()
    >>> samples = [
    ...     {
    ...         "seg_logits": {"data": logits},
    ...         "pred_sem_seg": {"data": logits.argmax(0, keepdim=True)},
    ...         "gt_sem_seg": {"data": truth[None]},
    ...     }
    ...     for logits, truth in zip(maps, labels)
    ... ]
    >>> metric.process({}, samples)
    >>> sorted(metric.evaluate(9))  # doctest: +NORMALIZE_WHITESPACE
    ['binary_conformal/corrected_risk', 'binary_conformal/n_images', 'binary_conformal/risk',
     'binary_conformal/threshold']
    """

    default_prefix = "binary_conformal"

    def __init__(
        self,
        foreground: int | str,
        calibrator: Any = None,
        *,
        inputs: str | None = None,
        ignore_index: int | tuple[int, ...] | None = 255,
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
            foreground,
            ignore_index,
            inputs,
            subset,
            group_key,
            collect_device,
            prefix,
            collect_dir,
            output_dir,
            keep_results,
        )
        own = built({"type": "BinaryRiskCalibrator"} if calibrator is None else calibrator, list(BINARY))
        if not isinstance(own, BinaryCalibrator):
            raise TypeError(
                f"calibrator must be dict(type=...) or one of {list(BINARY)}, got {shown(calibrator)}"
            )
        if any(getattr(own, name, None) is not None for name in ("predictor", "embedding")):
            raise TypeError(
                "a model of your own needs all images at once, and cannot be saved: here the light model "
                "(predictor=None) is trained. Calibrate with as_foreground and fit(P, y, images=)"
            )
        if check_ignore_index(own.ignore_index) not in (_VOID, self.ignore_index):
            raise ValueError(
                f"ignore_index of the calibrator is {own.ignore_index!r}: pass that of the dataset to the "
                f"metric, ignore_index=..."
            )
        void = None if self.ignore_index is None else _VOID
        self._calibrator = clone(own).set_params(ignore_index=void)
        # Parameters are checked before the test, not after. Images without a foreground are refused later, by number.
        self._seeing = replace(self._calibrator._configuration(), on_empty="skip")
        self.out_file = None if out_file is None else Path(out_file)

    def _reduce(self, scores: Tensor, labels: Tensor, inputs: str) -> Seen:
        seen: Seen = self._calibrator._see(*self._binary(scores, labels, inputs), self._seeing)
        return seen

    def compute_metrics(self, results: list[Item[Seen]]) -> dict[str, float]:
        """Calibrates on the images.

        Parameters
        ----------
        results : list of tuples
            Names, groups and what :meth:`process` kept of the images of all ranks, in the order of the dataset.

        Returns
        -------
        dict
            The threshold (with CRACalibrator the mass, with calibrators that train a model the correction), the
            empirical risk, the corrected risk, and the number of images.
        """
        found = self.calibrator_ = clone(self._calibrator)._fit_images(*self._chosen(results))
        found._come_from(self._origin_of(results))
        if self.out_file is not None:
            self.out_file.parent.mkdir(parents=True, exist_ok=True)
            found.save(self.out_file)
            print_log(f"the calibrator is in {self.out_file}", logger="current")
        name = next(each for each in _FOUND if hasattr(found, each))
        return {
            name.removesuffix("_"): float(getattr(found, name)),
            "risk": found.risk_,
            "corrected_risk": found.corrected_risk_,
            "n_images": found.n_images_,
        }


@METRICS.register_module()
class BinaryConformalEvaluation(_BinaryMetric):
    """Evaluates the masks of a saved calibrator of one class on the images that a model is tested on.

    Parameters
    ----------
    foreground : int or str
        The class, as for :class:`BinaryConformalCalibration`. It must be that of calibration.
    calibrator : path, BinaryRiskCalibrator, ATCalibrator, COATCalibrator, AACRCCalibrator or CRACalibrator
        The JSON file that :class:`BinaryConformalCalibration` wrote, or a fitted calibrator.
    inputs : {"logits", "probabilities", "scores"} or None, default=None
        What ``seg_logits`` are, as for :class:`ConformalProfile`.
    ignore_index : int, sequence of ints, or None, default=255
        The label of void pixels in the dataset, or several.
    subset : dict(fraction, seed, part) or None, default=None
        The part of the images that is used, as for :class:`ConformalProfile`: give the fraction and seed of the
        calibration, and ``part="evaluation"``.
    group_key : str or None, default=None
        As for :class:`ConformalProfile`. The images of a group then count once: give it if the calibration had it.
    allow_seen : bool, default=False
        Whether to evaluate even if calibration images had the same names: set it to True if they are other images.
    collect_device, prefix, collect_dir, output_dir, keep_results
        As for :class:`ConformalProfile`.

    Attributes
    ----------
    report_ : BinaryReport
        After evaluation, on the main rank; with the values of each image.

    Raises
    ------
    TypeError, ValueError
        As for :class:`BinaryConformalCalibration`; if the file holds no such calibrator; and after the test, if images
        have the names of calibration images (in the same dataset also those of another folder).

    See Also
    --------
    BinaryConformalCalibration : Writes the file of the calibrator.

    Examples
    --------
    >>> import torch
    >>> import conformask as cm
    >>> from conformask.integrations.mmseg import BinaryConformalEvaluation
    >>> from conformask.integrations.torch import as_foreground
    >>> maps = torch.randn(9, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    >>> labels = torch.distributions.Categorical(logits=maps.movedim(1, -1)).sample()
    >>> calibrator = cm.CRACalibrator(alpha=0.2).fit(as_foreground(maps, foreground=2), labels == 2)
    >>> metric = BinaryConformalEvaluation(2, calibrator)
    >>> sample = {
    ...     "seg_logits": {"data": maps[0]},
    ...     "pred_sem_seg": {"data": maps[0].argmax(0, keepdim=True)},
    ...     "gt_sem_seg": {"data": labels[:1]},
    ... }
    >>> metric.process({}, [sample])
    >>> found = metric.evaluate(1)
    >>> found["binary_conformal_test/coverage"] == metric.report_.coverage
    True
    """

    default_prefix = "binary_conformal_test"

    def __init__(
        self,
        foreground: int | str,
        calibrator: str | Path | BinaryCalibrator[Any],
        *,
        inputs: str | None = None,
        ignore_index: int | tuple[int, ...] | None = 255,
        subset: Mapping[str, Any] | None = None,
        group_key: str | None = None,
        allow_seen: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
        output_dir: str | None = None,
        keep_results: bool = False,
    ) -> None:
        super().__init__(
            foreground,
            ignore_index,
            inputs,
            subset,
            group_key,
            collect_device,
            prefix,
            collect_dir,
            output_dir,
            keep_results,
        )
        self.allow_seen = allow_seen
        # An unfitted calibrator is refused now, not after the first image. It may get more images meanwhile.
        known = load_calibrator(calibrator, BINARY)
        if known.classes_ is not None and isinstance(foreground, int) and known.classes_ != (foreground,):
            raise ValueError(
                f"foreground is {foreground}, but the calibrator was told classes={known.classes_}"
            )
        self._calibrator = known._without_images()
        self._calibrator.ignore_index = None if self.ignore_index is None else _VOID

    def _reduce(self, scores: Tensor, labels: Tensor, inputs: str) -> Counted:
        p, masks = self._binary(scores, labels, inputs)
        counted: list[Counted] = self._calibrator._counted(p, masks, None, self._calibrator._current())
        return counted[0]

    def compute_metrics(self, results: list[Item[Counted]]) -> dict[str, float]:
        """Means over the images.

        Parameters
        ----------
        results : list of tuples
            Names, groups and what :meth:`process` kept of the images of all ranks, in the order of the dataset.

        Returns
        -------
        dict
            Empirical risk and its interval, coverage, coverage gap, share of the images whose risk is above alpha, mean
            risk of the worst tenth, size of the masks, the number of images, and the alpha of the calibration. The log
            shows the whole report.
        """
        self._refuse_seen(self._calibrator, results, self.allow_seen)
        report = self.report_ = self._calibrator._report(*self._chosen(results), self._calibrator._current())
        print_log(f"binary conformal evaluation\n{report}", logger="current")
        return {
            "risk": report.empirical_risk,
            "risk_low": report.interval[0],
            "risk_high": report.interval[1],
            "coverage": report.coverage,
            "coverage_gap": report.coverage_gap,
            "exceedance": report.exceedance,
            "tail_risk": report.tail_risk,
            "size": report.size,
            "n_images": report.n_images,
            "alpha": report.alpha,
        }
