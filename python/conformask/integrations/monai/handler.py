"""Calibration while an evaluator runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from conformask._text import shown
from conformask.adaptive import ChannelwiseCalibrator
from conformask.integrations._calibrator_files import KINDS
from conformask.integrations.monai._images import batches
from conformask.risk_control import ConformalRiskCalibrator

__all__ = ["ConformalCalibrationHandler"]


def _as_it_is(output: Any) -> Any:
    return output


class ConformalCalibrationHandler:
    """Calibrates during the run of an Ignite engine, such as MONAI's ``SupervisedEvaluator``.

    Each run starts anew and forgets the images of earlier runs. Validation after each epoch of training thus calibrates
    the model of that epoch.

    Parameters
    ----------
    calibrator : ConformalRiskCalibrator, ChannelwiseCalibrator, BinaryRiskCalibrator or CRACalibrator, or None
        The calibrator with its parameters; it is not changed. None is ``ConformalRiskCalibrator()``. Calibrators that
        train a model of thresholds on some of the images cannot add images batch by batch, and are refused.
    output_transform : callable, default=identity
        Turns ``engine.state.output`` into a pair of predictions and labels, as for MONAI's metrics:
        ``monai.handlers.from_engine(["pred", "label"])``. Each is a batch (B, C, H, W) or (B, C, D, H, W), or (after
        decollating) a list of (C, H, W) or (C, D, H, W) of any size.
    group_transform : callable or None, default=None
        Turns ``engine.state.batch`` into a list with the group of each image, an int or a str:
        ``from_engine("patient_id")``. The images of a patient then count once.
    save_path : path or None, default=None
        The JSON file for the calibrator, written at the end of each run, by the first rank alone.
    save_profiles : bool, default=False
        Whether to write profiles to the same folder, for ``recalibrate``; for a ConformalRiskCalibrator only.
    name : str, default="conformal"
        The prefix of the numbers in ``engine.state.metrics``: ``conformal_lambda_hat`` (for channels
        ``conformal_threshold_0`` and so on), ``conformal_risk``, ``conformal_corrected_risk``, ``conformal_n_images``.
        Of several lambdas or risks the largest is shown, of several numbers of images the smallest.

    Attributes
    ----------
    calibrator_ : calibrator
        After a run, on every rank.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong. During the run, if predictions and labels do not fit together; the message names the
        iteration. At the end of the run, InfeasibleRiskError if there were too few images.
    RuntimeError
        If there are several processes that do not communicate by torch.distributed.

    See Also
    --------
    ConformalSetd : Makes sets with this calibrator.

    Notes
    -----
    The channel axis of labels (1, ...) is removed, and whole numbers in floats (as ``LoadImaged`` gives them) are taken
    as labels. One-hot labels (K, ...), as ``AsDiscreted(to_onehot=K)`` makes them, are taken as classes, if exactly one
    channel is 1 at each voxel; masks of channels that overlap need a ChannelwiseCalibrator. Predictions are scores:
    they must not have gone through ``AsDiscreted(argmax=True)``. If they did not go through a softmax, give the
    calibrator ``inputs="logits"``.

    Several ranks are merged at the end: each sends what it kept of its images (``profile="binned"`` keeps a few MB).
    ``DistributedSampler(even_divisible=False)`` of MONAI gives each image to one rank. By default an image may be given
    to two ranks, so that all have equally many; a ``DuplicateImagesWarning`` then tells.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> import torch
    >>> import conformask as cm
    >>> from ignite.engine import Engine
    >>> from monai.handlers import from_engine
    >>> from conformask.integrations.monai import ConformalCalibrationHandler
    >>> rng = torch.Generator().manual_seed(0)
    >>> logits = torch.randn(30, 4, 8, 8, generator=rng)
    >>> labels = torch.distributions.Categorical(logits=logits.movedim(1, -1)).sample()[:, None]
    >>> loader = [{"pred": logits[i : i + 5], "label": labels[i : i + 5]} for i in range(0, 30, 5)]
    >>> evaluator = Engine(lambda engine, batch: batch)  # in MONAI: SupervisedEvaluator(val_handlers=[handler], ...)
    >>> handler = ConformalCalibrationHandler(
    ...     cm.ConformalRiskCalibrator(alpha=0.2, inputs="logits"), output_transform=from_engine(["pred", "label"])
    ... )
    >>> handler.attach(evaluator)
    >>> state = evaluator.run(loader)
    >>> sorted(state.metrics)
    ['conformal_corrected_risk', 'conformal_lambda_hat', 'conformal_n_images', 'conformal_risk']
    >>> handler.calibrator_.n_images_
    30
    """

    calibrator_: Any

    def __init__(
        self,
        calibrator: Any = None,
        *,
        output_transform: Callable[[Any], Any] = _as_it_is,
        group_transform: Callable[[Any], Any] | None = None,
        save_path: str | Path | None = None,
        save_profiles: bool = False,
        name: str = "conformal",
    ) -> None:
        calibrator = ConformalRiskCalibrator() if calibrator is None else calibrator
        if not isinstance(calibrator, tuple(KINDS.values())):
            raise TypeError(f"calibrator must be one of {list(KINDS)}, got {shown(calibrator)}")
        inner: Any = calibrator._template() if isinstance(calibrator, ChannelwiseCalibrator) else calibrator
        if hasattr(inner, "train_fraction"):
            raise TypeError(
                f"{type(inner).__name__} trains a model of thresholds on some of the images, and cannot add them "
                "batch by batch: fit it on predictions that you keep"
            )
        inner._configuration()  # refuses wrong parameters before the run
        for argument, value in (("output_transform", output_transform), ("group_transform", group_transform)):
            if not callable(value) and not (argument == "group_transform" and value is None):
                raise TypeError(f"{argument} must be callable, got {shown(value)}")
        if save_profiles and not isinstance(calibrator, ConformalRiskCalibrator):
            raise ValueError(f"save_profiles: {type(calibrator).__name__} saves none")
        self._template = clone(calibrator)
        self.output_transform, self.group_transform = output_transform, group_transform
        self.save_path = None if save_path is None else Path(save_path)
        self.save_profiles, self.name = save_profiles, name

    def attach(self, engine: Any) -> None:
        """Attaches the handler to an engine; MONAI's evaluators do this for ``val_handlers=[handler]``.

        Parameters
        ----------
        engine : ignite.engine.Engine
            The engine whose output has predictions and labels.

        Raises
        ------
        ImportError
            If PyTorch-Ignite is not there.
        """
        try:
            from ignite.engine import Events
        except ModuleNotFoundError as error:
            raise ImportError('handlers need PyTorch-Ignite: pip install "conformask[monai]"') from error
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    # Inside

    def _start(self, engine: Any) -> None:
        """Forgets what an earlier run saw."""
        self._seeing = clone(self._template)
        self._has_seen = False

    def _add(self, engine: Any) -> None:
        """Adds the images of an iteration."""
        with _naming(engine.state.iteration):
            found = list(batches(self.output_transform(engine.state.output), self._seeing))
            groups = self._groups(engine.state.batch, sum(len(scores) for scores, _ in found))
            for scores, labels in found:
                some, groups = (
                    (None, None) if groups is None else (groups[: len(scores)], groups[len(scores) :])
                )
                self._seeing.partial_fit(scores, labels, groups=some)
                self._has_seen = True

    def _groups(self, batch: Any, n_images: int) -> list[Any] | None:
        """The group of each image."""
        if self.group_transform is None:
            return None
        given = self.group_transform(batch)
        if isinstance(given, tuple) and len(given) == 1 and not isinstance(given[0], int | str):
            given = given[0]  # from_engine of one key gives a tuple of batches that were not decollated
        groups = [each.item() if hasattr(each, "item") else each for each in ([] if given is None else given)]
        if len(groups) != n_images:
            raise ValueError(f"group_transform gave {len(groups)} groups for {n_images} images")
        return groups

    def _finish(self, engine: Any) -> None:
        """Calibrates on all images, of all ranks."""
        import ignite.distributed as idist

        found = _merged(self._seeing if self._has_seen else None, idist.get_world_size(), idist.backend())
        numbers = _numbers(found)  # raises if there were too few images
        self.calibrator_ = found
        engine.state.metrics |= {f"{self.name}_{key}": value for key, value in numbers.items()}
        if self.save_path is not None and idist.get_rank() == 0:
            self.save_path.parent.mkdir(parents=True, exist_ok=True)
            more = {"profiles": True} if self.save_profiles else {}
            found.save(self.save_path, **more)


@contextmanager
def _naming(iteration: int) -> Iterator[None]:
    """Adds the iteration to errors, which count images within it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(f"iteration {iteration}: {error}") from error


def _merged(seeing: Any, n_ranks: int, backend: str | None) -> Any:
    """The calibrator of the images of all ranks; a rank that has seen no images passes None."""
    parts = [seeing]
    if n_ranks > 1:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            raise RuntimeError(
                f"there are {n_ranks} processes by {backend}: ranks are merged by torch.distributed (gloo, nccl). Run "
                "the evaluator in one process, or save each rank's calibrator and merge them"
            )
        parts = [None] * n_ranks
        torch.distributed.all_gather_object(parts, seeing)
    seen = [part for part in parts if part is not None]
    if not seen:
        raise ValueError("the run has seen no image: there is nothing to calibrate on")
    for other in seen[1:]:
        seen[0].merge(other)
    return seen[0]


def _numbers(calibrator: Any) -> dict[str, float]:
    """The numbers to log."""
    if isinstance(calibrator, ChannelwiseCalibrator):
        names = calibrator._names(calibrator.n_channels_)
        levels = {
            f"threshold_{name}": level for name, level in zip(names, calibrator.threshold_, strict=True)
        }
    elif isinstance(calibrator, ConformalRiskCalibrator):
        level = "correction_" if calibrator.adaptive is not None else "lambda_hat_"
        levels = {level.removesuffix("_"): np.max(getattr(calibrator, level))}
    else:
        levels = {"threshold": calibrator.threshold_}
    summary = {
        "risk": np.nanmax(calibrator.risk_),
        "corrected_risk": np.nanmax(calibrator.corrected_risk_),
        "n_images": np.min(calibrator.n_images_),
    }
    return {name: float(value) for name, value in (levels | summary).items()}
