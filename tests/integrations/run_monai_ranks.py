"""Calibration on several CPU ranks: each runs an engine over its share of the images, and rank 0 says what was found.

python run_monai_ranks.py 2 FOLDER [idle]
"""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

N_IMAGES = 25


def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.dirichlet(np.ones(3), size=(N_IMAGES, 6, 7)).transpose(0, 3, 1, 2).astype(np.float32)
    return X, (X.cumsum(axis=1) < rng.random((N_IMAGES, 1, 6, 7))).sum(axis=1).clip(max=2)


def launch(n_ranks: str, arguments: list[str]) -> int:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_ranks}"]
    return subprocess.run([*command, __file__, "rank", *arguments], check=False).returncode


def rank(folder: str, *how: str) -> None:  # "idle": rank 0 has all images
    warnings.simplefilter("ignore")
    import torch
    import torch.distributed as dist
    from ignite.engine import Engine
    from monai.handlers import from_engine

    import conformask as cm
    from conformask.adaptive import ChannelwiseCalibrator
    from conformask.integrations.monai import ConformalCalibrationHandler

    dist.init_process_group("gloo")
    X, y = images()
    X, y = torch.from_numpy(X), torch.from_numpy(y)[:, None]
    is_idle = bool(how) and dist.get_rank() > 0
    mine = range(dist.get_rank(), N_IMAGES, 1 if how else dist.get_world_size())
    found = {}
    for name, calibrator, labels in (
        ("sets", cm.ConformalRiskCalibrator(alpha=0.2), y),
        (
            "channels",
            ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=0.2)),
            y == torch.arange(3)[:, None, None],
        ),
    ):
        handler = ConformalCalibrationHandler(
            calibrator,
            output_transform=from_engine(["pred", "label"]),
            save_path=Path(folder) / f"{name}.json",
        )
        engine = Engine(lambda engine, batch: batch)
        handler.attach(engine)
        loader = [{"pred": X[i : i + 1], "label": labels[i : i + 1]} for i in mine]
        engine.run([{"pred": [], "label": []}] if is_idle else loader)
        numbers = [None] * dist.get_world_size()
        dist.all_gather_object(numbers, np.ravel(_level(handler.calibrator_)).tolist())
        found[name] = numbers
    if dist.get_rank() == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def _level(calibrator: object) -> object:
    return getattr(calibrator, "lambda_hat_", None) or getattr(calibrator, "threshold_", None)


if __name__ == "__main__":
    if sys.argv[1] == "rank":
        rank(*sys.argv[2:])
    else:
        sys.exit(launch(sys.argv[1], sys.argv[2:]))
