"""Metrics of MMEngine that calibrate, and that evaluate a calibrator."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmseg.registry import METRICS
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor

from conformask._backend import Counts
from conformask._images import walk
from conformask._origin import Origin
from conformask._sequences import listed
from conformask._transforms import transform_of
from conformask.integrations.mmseg._images import ImageMetric, Item
from conformask.integrations.mmseg.predictions import built, loaded, scaler_of
from conformask.losses import as_loss
from conformask.profiles import Profiles, ScoreProfiles, load_profiles, profile
from conformask.risk_control import ConformalRiskCalibrator
from conformask.scores import as_score

__all__ = ["ConformalCalibration", "ConformalEvaluation", "ConformalProfile"]


@METRICS.register_module()
class ConformalProfile(ImageMetric):
    """Profiles the images that a model is tested on: profiles calibrate at any level, loss or method later.

    Parameters
    ----------
    conformity_score : str, dict or score, default="lac"
        The score: its name, ``dict(type="RAPS", penalty=0.1)``, or an object.
    inputs : {"logits", "probabilities", "scores"} or None, default=None
        What ``seg_logits`` are. None takes them for logits, and refuses them if none is negative. Mask classifiers
        (MaskFormer, Mask2Former) give "scores". The single map of a binary model (``out_channels=1``) is always the
        probability of class 1, whatever `inputs` is.
    scaler : path, fitted scaler such as TemperatureScaler, or None, default=None
        A scaler that turns ``seg_logits`` into probabilities: the JSON file that its ``save`` wrote, or the object. It
        must have been fitted to other images.
    ignore_index : int, sequence of ints, or None, default=255
        The label of void pixels, or several.
    activation : bool, default=False
        Whether to count all classes' critical values too (:func:`conformask.profile`).
    collect : sequence of losses, or None, default=None
        None keeps exact profiles. A sequence of losses (as in `loss` of :class:`ConformalCalibration`) keeps bins for
        these losses.
    subset : dict(fraction, seed, part, scaling=0) or None, default=None
        The part of the images that is used. The images are put into a random order by `seed`. The first
        ``int(scaling * n)`` are the part "scaling" (:class:`ScalerCalibration`), the next ``int(fraction * n)`` are
        "calibration", and the others are "evaluation". The parts are the same in all metrics and on every rank,
        whatever the order of the test (images are identified by the names of their files). With `group_key` whole
        groups are drawn, so that no group is split.
    group_key : str or None, default=None
        The field of the images that holds their group (patient, sequence), an int or a str: a group counts once. The
        dataset sets it in ``load_data_list``, and ``PackSegInputs(meta_keys=...)`` names it. It needs exact profiles.
    out_file : path or None, default=None
        The ``.npz`` file for the profiles.
    collect_device, prefix, collect_dir
        As for all metrics of MMEngine.
    output_dir, keep_results
        Accepted because ``tools/test.py --out`` passes them; nothing is written there.

    Attributes
    ----------
    profiles_ : ScoreProfiles or BinnedProfiles
        After evaluation, on the main rank.

    See Also
    --------
    ConformalCalibration : Calibrates on the profiles.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.mmseg import ConformalProfile
    >>> metric = ConformalProfile()
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
    >>> metric.evaluate(3)
    {'conformal_profile/n_images': 3}
    >>> metric.profiles_
    <ScoreProfiles of 3 images, K = 3, LAC(include_top1=True): 38 critical values above 0>
    """

    default_prefix = "conformal_profile"

    def __init__(
        self,
        conformity_score: Any = "lac",
        *,
        inputs: str | None = None,
        scaler: Any = None,
        ignore_index: int | tuple[int, ...] | None = 255,
        activation: bool = False,
        collect: Sequence[Any] | None = None,
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
        if group_key is not None and collect is not None:
            raise ValueError(
                "binned profiles do not know single images: group_key needs profile='exact' (collect=None)"
            )
        self.conformity_score = as_score(built(conformity_score))
        self.scaler = scaler_of(scaler)
        transform_of(self.scaler)  # before the test, not after
        self.ignore_index = ignore_index
        self.activation = activation
        self.collect = (
            None if collect is None else [as_loss(built(loss)) for loss in listed(collect, "collect")]
        )
        self.out_file = None if out_file is None else Path(out_file)

    @property
    def _grid(self) -> NDArray[np.float64] | None:
        """Lambdas at which classes are counted, if the loss needs it."""
        return None

    def _reduce(self, scores: Tensor, labels: Tensor, inputs: str) -> bytes:
        found: Profiles = profile(
            scores,
            labels,
            self.conformity_score,
            inputs=inputs,
            transform=self.scaler,
            ignore_index=self.ignore_index,
            activation=self.activation,
            grid=self._grid,
            collect=self.collect,
            progress=False,
        )
        buffer = io.BytesIO()
        found.save(buffer)
        return buffer.getvalue()

    def compute_metrics(self, results: list[Item[bytes]]) -> dict[str, float]:
        """Joins the profiles of the images.

        Parameters
        ----------
        results : list of tuples
            Names, groups and what :meth:`process` kept of the images of all ranks, in the order of the dataset.

        Returns
        -------
        dict
            The number of images.
        """
        images, groups = self._chosen(results)
        profiles = reduce(
            lambda left, right: left._joined([left, right]),
            (load_profiles(io.BytesIO(image)) for image in images),
        )
        self.profiles_ = profiles._counting(groups) if isinstance(profiles, ScoreProfiles) else profiles
        self.profiles_._warn_of_repeats()
        self._write(self._origin_of(results))
        return {"n_images": len(images)}

    def _write(self, origin: Origin | None) -> None:
        if self.out_file is not None:
            self.out_file.parent.mkdir(parents=True, exist_ok=True)
            self.profiles_.save(self.out_file)


@METRICS.register_module()
class ConformalCalibration(ConformalProfile):
    """Calibrates while a model is tested: lambda-hat appears among the metrics, the calibrator goes to a file.

    Parameters
    ----------
    conformity_score : str, dict or score, default="lac"
        As for :class:`ConformalProfile`.
    loss : str, dict or loss, default="miscoverage"
        The loss: its name, ``dict(type="BinaryLoss", min_coverage=0.9)``, or an object.
    alpha : float in (0, 1), default=0.1
        The risk level.
    method : str or CRC, default="crc"
        How the risk is controlled.
    profile : {"binned", "exact"}, default="binned"
        How profiles are kept: see :class:`conformask.ConformalRiskCalibrator`.
    collect : sequence of losses, default=()
        With ``profile="binned"``: the other losses for which ``recalibrate`` is to work.
    conditional, simultaneous, on_rare, on_empty, on_infeasible
        As for :class:`conformask.ConformalRiskCalibrator`: with ``conditional="class"``, which needs
        ``profile="exact"``, each class has a lambda of its own.
    out_file : path or None, default=None
        The JSON file for the calibrator (:meth:`conformask.ConformalRiskCalibrator.load`).
    save_profiles : bool, default=False
        Whether to write the profiles to the same folder, for ``recalibrate``.
    inputs, scaler, ignore_index, subset, group_key, collect_device, prefix, collect_dir, output_dir, keep_results
        As for :class:`ConformalProfile`.

    Attributes
    ----------
    calibrator_ : ConformalRiskCalibrator
        After evaluation, on the main rank.
    profiles_ : BinnedProfiles or ScoreProfiles
        After evaluation, on the main rank.

    See Also
    --------
    ConformalEvaluation : Evaluates the calibrator.

    Notes
    -----
    Calibrate on images that the model was not trained or chosen on. Most users have one labelled validation set:
    `subset` calibrates on a random part, and :class:`ConformalEvaluation` evaluates on the other.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.mmseg import ConformalCalibration
    >>> metric = ConformalCalibration(alpha=0.3)
    >>> maps = torch.randn(9, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    >>> samples = [
    ...     {
    ...         "seg_logits": {"data": logits},
    ...         "pred_sem_seg": {"data": logits.argmax(0, keepdim=True)},
    ...         "gt_sem_seg": {"data": torch.zeros(1, 4, 5, dtype=torch.long)},
    ...     }
    ...     for logits in maps
    ... ]
    >>> metric.process({}, samples)
    >>> sorted(metric.evaluate(9))
    ['conformal/corrected_risk', 'conformal/lambda_hat', 'conformal/n_images', 'conformal/risk']
    """

    default_prefix = "conformal"

    def __init__(
        self,
        conformity_score: Any = "lac",
        *,
        loss: Any = "miscoverage",
        alpha: float = 0.1,
        method: Any = "crc",
        profile: str = "binned",
        collect: Sequence[Any] = (),
        conditional: str | None = None,
        simultaneous: bool | str = False,
        on_rare: str = "full",
        on_empty: Any = "skip",
        on_infeasible: str = "raise",
        inputs: str | None = None,
        scaler: Any = None,
        ignore_index: int | tuple[int, ...] | None = 255,
        subset: Mapping[str, Any] | None = None,
        group_key: str | None = None,
        out_file: str | Path | None = None,
        save_profiles: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
        output_dir: str | None = None,
        keep_results: bool = False,
    ) -> None:
        loss = as_loss(built(loss))
        collect = [as_loss(built(each)) for each in listed(collect, "collect")]
        super().__init__(
            conformity_score,
            inputs=inputs,
            scaler=scaler,
            ignore_index=ignore_index,
            collect=[loss, *collect] if profile == "binned" else None,
            subset=subset,
            group_key=group_key,
            out_file=out_file,
            collect_device=collect_device,
            prefix=prefix,
            collect_dir=collect_dir,
            output_dir=output_dir,
            keep_results=keep_results,
        )
        self.save_profiles = save_profiles
        self._calibrator = ConformalRiskCalibrator(
            self.conformity_score,
            loss=loss,
            alpha=alpha,
            method=built(method),
            inputs="probabilities" if self.scaler is None else self.scaler.inputs,
            transform=self.scaler,
            ignore_index=ignore_index,
            profile=profile,
            collect=tuple(collect),
            conditional=conditional,
            simultaneous=simultaneous,
            on_rare=on_rare,
            on_empty=on_empty,
            on_infeasible=on_infeasible,
        )
        self._configuration = self._calibrator._configuration()  # before the test, not after

    def compute_metrics(self, results: list[Item[bytes]]) -> dict[str, float]:
        """Calibrates on the images.

        Parameters
        ----------
        results : list of tuples
            Names, groups and what :meth:`process` kept of the images of all ranks, in the order of the dataset.

        Returns
        -------
        dict
            Lambda-hat, the empirical risk, the corrected risk, and the number of images. If classes have lambdas of
            their own, the largest of each over the classes, and the number of rare classes.
        """
        super().compute_metrics(results)
        found = self.calibrator_
        values = {
            "lambda_hat": float(np.max(found.lambda_hat_)),
            "risk": float(np.nanmax(found.risk_)),
            "corrected_risk": float(np.nanmax(found.corrected_risk_)),
            "n_images": found.n_images_,
        }
        return values if found.conditional is None else values | {"n_rare": len(found.rare_)}

    @property
    def _grid(self) -> NDArray[np.float64] | None:
        return self._configuration.grid

    def _reduce(self, scores: Tensor, labels: Tensor, inputs: str) -> bytes:
        self._calibrator.inputs = inputs  # which the model decides where it is binary
        return super()._reduce(scores, labels, inputs)

    def _write(self, origin: Origin | None) -> None:
        self.calibrator_ = clone(self._calibrator)._fit_profiles(self.profiles_)
        self.calibrator_._come_from(origin)
        if self.out_file is not None:
            self.out_file.parent.mkdir(parents=True, exist_ok=True)
            self.calibrator_.save(self.out_file, profiles=self.save_profiles)
            print_log(f"the calibrator is in {self.out_file}", logger="current")


@METRICS.register_module()
class ConformalEvaluation(ImageMetric):
    """Evaluates the sets of a saved calibrator on the images that a model is tested on.

    Parameters
    ----------
    calibrator : path or ConformalRiskCalibrator
        The JSON file that :class:`ConformalCalibration` wrote.
    inputs : {"logits", "probabilities", "scores"} or None, default=None
        What ``seg_logits`` are; None takes the value of calibration.
    subset : dict(fraction, seed, part) or None, default=None
        The part of the images that is used, as for :class:`ConformalProfile`: give the fraction and seed of the
        calibration, and ``part="evaluation"``. The file of the calibrator holds the names of the calibration images.
    group_key : str or None, default=None
        As for :class:`ConformalProfile`. The risk is then the mean over groups of the mean loss of their images: give
        it if the calibration had it.
    allow_seen : bool, default=False
        Whether to evaluate even if calibration images had the same names: set it to True if they are other images.
    collect_device, prefix, collect_dir, output_dir, keep_results
        As for :class:`ConformalProfile`.

    Attributes
    ----------
    report_ : RiskReport
        After evaluation, on the main rank; with the values of each image.

    Raises
    ------
    ValueError
        After the test, if images have the names of calibration images (in the same dataset also those of another
        folder).

    See Also
    --------
    ConformalCalibration : Writes the file of the calibrator.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> import torch
    >>> from conformask.integrations.mmseg import ConformalEvaluation
    >>> maps = torch.randn(9, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    >>> labels = torch.zeros(9, 4, 5, dtype=torch.long)
    >>> calibrator = cm.ConformalRiskCalibrator(inputs="logits").fit(maps, labels)
    >>> metric = ConformalEvaluation(calibrator)
    >>> sample = {
    ...     "seg_logits": {"data": maps[0]},
    ...     "pred_sem_seg": {"data": maps[0].argmax(0, keepdim=True)},
    ...     "gt_sem_seg": {"data": labels[:1]},
    ... }
    >>> metric.process({}, [sample])
    >>> metric.evaluate(1)["conformal_test/risk"]
    0.0
    """

    default_prefix = "conformal_test"

    def __init__(
        self,
        calibrator: str | Path | ConformalRiskCalibrator,
        *,
        inputs: str | None = None,
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
            inputs, subset, group_key, collect_device, prefix, collect_dir, output_dir, keep_results
        )
        self.allow_seen = allow_seen
        self.calibrator = loaded(calibrator)
        self.calibrator._lambda_for_modules()  # refuses an unfitted one now, not after the first image

    @property
    def _inputs(self) -> str:
        return self.inputs or self.calibrator.inputs

    def _reduce(self, scores: Tensor, labels: Tensor, inputs: str) -> Counts:
        maps, targets, _ = next(walk(scores, labels))
        return self.calibrator._counts_of(maps, targets, inputs)

    def compute_metrics(self, results: list[Item[Counts]]) -> dict[str, float]:
        """Means over the images.

        Parameters
        ----------
        results : list of tuples
            Names, groups and what :meth:`process` kept of the images of all ranks, in the order of the dataset.

        Returns
        -------
        dict
            Empirical risk and its interval, activation ratio, coverage, the number of images, and the alpha of the
            calibration. The log shows the whole report, with a row for each class.
        """
        self._refuse_seen(self.calibrator, results, self.allow_seen)
        names = (self.dataset_meta or {}).get("classes") or ()
        known = names if len(set(names)) == len(names) == self.calibrator.n_classes_ else None
        self.report_ = self.calibrator._report(*self._chosen(results), class_names=known)
        print_log(f"conformal evaluation\n{self.report_}", logger="current")
        return {
            "risk": self.report_.empirical_risk,
            "risk_low": self.report_.interval[0],
            "risk_high": self.report_.interval[1],
            "activation_ratio": self.report_.activation_ratio,
            "coverage": self.report_.coverage,
            "n_images": self.report_.n_images,
            "alpha": self.report_.alpha,
        }
