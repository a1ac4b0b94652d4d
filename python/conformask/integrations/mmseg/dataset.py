"""Profiles of a dataset of MMSegmentation, and scalers measured on it, from a config."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmseg
from mmengine.config import Config
from mmengine.runner import Runner

from conformask.metrics import CalibrationReport
from conformask.profiles import ScoreProfiles

__all__ = ["profile_dataset", "scale_dataset"]


def profile_dataset(
    config: str | Path | Config,
    checkpoint: str | Path | None,
    *,
    data_root: str | Path | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    conformity_score: Any = "lac",
    inputs: str | None = None,
    activation: bool = True,
    work_dir: str | Path | None = None,
) -> ScoreProfiles:
    """Profiles the validation set of a config: one pass of the network over each image.

    Parameters
    ----------
    config : path, name or Config
        A config file, or the name of one that MMSegmentation ships, such as
        ``"pspnet_r50-d8_4xb2-40k_cityscapes-512x1024"``.
    checkpoint : path, URL or None
        The weights; None leaves them random.
    data_root : path or None, default=None
        The folder of the dataset; None is that of the config.
    cfg_options : mapping or None, default=None
        Other settings of the config to override, by dotted names.
    conformity_score, inputs, activation
        As for :class:`ConformalProfile`.
    work_dir : path or None, default=None
        Where MMEngine logs; None is the config's, or ``work_dirs/<name>``.

    Returns
    -------
    ScoreProfiles

    Raises
    ------
    FileNotFoundError
        If there is no such config.
    """
    metric = {
        "type": "ConformalProfile",
        "conformity_score": conformity_score,
        "inputs": inputs,
        "activation": activation,
    }
    [tested] = _tested([metric], config, checkpoint, data_root, cfg_options, work_dir)
    found: ScoreProfiles = tested.profiles_
    return found


def scale_dataset(
    config: str | Path | Config,
    checkpoint: str | Path | None,
    scalers: Mapping[str, Any],
    *,
    data_root: str | Path | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    inputs: str | None = None,
    fraction: float = 0.5,
    seed: int = 0,
    work_dir: str | Path | None = None,
) -> dict[str, CalibrationReport]:
    """Fits scalers to a part of the validation set of a config, and measures them on the other part.

    The network passes over the images twice, however many scalers there are.

    Parameters
    ----------
    config, checkpoint, data_root, cfg_options, work_dir
        As for :func:`profile_dataset`.
    scalers : dict of str to scaler, or to dict(type=...)
        The scalers by name. None in place of a scaler is the softmax alone.
    inputs : {"logits", "probabilities"} or None, default=None
        As for :class:`ConformalProfile`.
    fraction : float in (0, 1), default=0.5
        The share of the images that scalers are fitted to.
    seed : int >= 0, default=0
        The seed with which these images are drawn.

    Returns
    -------
    dict of str to CalibrationReport
        By the names of the scalers.

    Raises
    ------
    FileNotFoundError
        If there is no such config.

    See Also
    --------
    ScalerCalibration, CalibrationError : The metrics that this function uses.

    Examples
    --------
    >>> import conformask as cm
    >>> from conformask.integrations.mmseg import scale_dataset
    >>> reports = scale_dataset(
    ...     "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024",
    ...     "pspnet.pth",
    ...     {"none": None, "temperature": cm.TemperatureScaler()},
    ... )  # doctest: +SKIP
    """
    where = (config, checkpoint, data_root, cfg_options, work_dir)
    subset = {"fraction": fraction, "seed": seed}
    given = [scaler for scaler in scalers.values() if scaler is not None]
    fits = [
        {
            "type": "ScalerCalibration",
            "scaler": scaler,
            "inputs": inputs,
            "subset": {"part": "calibration", **subset},
            "prefix": f"scaler_{i}",
        }
        for i, scaler in enumerate(given)
    ]
    fitted = iter(_tested(fits, *where) if fits else [])
    measures = [
        {
            "type": "CalibrationError",
            "scaler": None if scaler is None else next(fitted).scaler_,
            "inputs": inputs,
            "n_bins": 10,
            "subset": {"part": "evaluation", **subset},
            "prefix": f"calibration_{i}",
        }
        for i, scaler in enumerate(scalers.values())
    ]
    tested = _tested(measures, *where)
    return {name: metric.report_ for name, metric in zip(scalers, tested, strict=True)}


def _tested(
    metrics: Sequence[Mapping[str, Any]],
    config: str | Path | Config,
    checkpoint: str | Path | None,
    data_root: str | Path | None,
    cfg_options: Mapping[str, Any] | None,
    work_dir: str | Path | None,
) -> list[Any]:
    """Metrics after a test of a network on its validation set."""
    settings = config if isinstance(config, Config) else Config.fromfile(_config_file(config))
    settings = copy.deepcopy(settings)
    if cfg_options is not None:
        settings.merge_from_dict(dict(cfg_options))
    name = Path(settings.filename or "conformask").stem
    settings.work_dir = str(work_dir or settings.get("work_dir") or f"work_dirs/{name}")
    settings.load_from = None if checkpoint is None else str(checkpoint)
    settings.test_dataloader = settings.val_dataloader
    settings.test_cfg = {"type": "TestLoop"}
    settings.test_evaluator = [dict(metric) for metric in metrics]
    if data_root is not None:
        settings.test_dataloader.dataset.data_root = str(data_root)
    runner = Runner.from_cfg(settings)
    runner.test()
    tested: list[Any] = runner.test_evaluator.metrics
    return tested


def _config_file(config: str | Path) -> Path:
    if Path(config).is_file():
        return Path(config)
    shipped = Path(mmseg.__file__).parent / ".mim" / "configs"
    found = sorted(shipped.glob(f"*/{Path(config).stem if str(config).endswith('.py') else config}.py"))
    if not found:
        raise FileNotFoundError(f"{config} is no file, and no config that MMSegmentation ships in {shipped}")
    return found[0]
