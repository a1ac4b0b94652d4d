"""The profiles of a dataset of MMSegmentation, by its config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmseg
from mmengine.config import Config
from mmengine.runner import Runner

from conformask.profiles import ScoreProfiles

__all__ = ["profile_dataset"]


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
        Where the dataset lies, if not where the config says.
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
    settings = config if isinstance(config, Config) else Config.fromfile(_config_file(config))
    settings = copy.deepcopy(settings)
    if cfg_options is not None:
        settings.merge_from_dict(dict(cfg_options))
    name = Path(settings.filename or "conformask").stem
    settings.work_dir = str(work_dir or settings.get("work_dir") or f"work_dirs/{name}")
    settings.load_from = None if checkpoint is None else str(checkpoint)
    settings.test_dataloader = settings.val_dataloader
    settings.test_cfg = {"type": "TestLoop"}
    settings.test_evaluator = {
        "type": "ConformalProfile",
        "conformity_score": conformity_score,
        "inputs": inputs,
        "activation": activation,
    }
    if data_root is not None:
        settings.test_dataloader.dataset.data_root = str(data_root)
    runner = Runner.from_cfg(settings)
    runner.test()
    found: ScoreProfiles = runner.test_evaluator.metrics[0].profiles_
    return found


def _config_file(config: str | Path) -> Path:
    if Path(config).is_file():
        return Path(config)
    shipped = Path(mmseg.__file__).parent / ".mim" / "configs"
    found = sorted(shipped.glob(f"*/{Path(config).stem if str(config).endswith('.py') else config}.py"))
    if not found:
        raise FileNotFoundError(f"{config} is no file, and no config that MMSegmentation ships in {shipped}")
    return found[0]
