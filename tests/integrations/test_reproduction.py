"""The papers' tables through MMSegmentation: the configs they name, on folders shaped like their datasets."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import mmcv_ext_shim  # noqa: F401 - before MMSegmentation
import numpy as np
import pytest
from PIL import Image
from workspace import N_IMAGES, PACKAGE, Workspace

from conformask.integrations.mmseg import profile_dataset
from conformask.reproduction.paper import DATASETS

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:::{library}")
    for library in ("mmseg.*", "mmengine.*", "mmcv.*", "torch.*", "pkg_resources.*")
] + [pytest.mark.filterwarnings("ignore:.*instance named of visualizer has been created")]

REPOSITORY = Path(__file__).parents[2]
# Where images and labels of the validation set lie, what they are called, and the share of labels that are void.
FOLDERS = {
    "cityscapes": ("leftImg8bit/val/a/{}_leftImg8bit.png", "gtFine/val/a/{}_gtFine_labelTrainIds.png"),
    "ade20k": ("images/validation/{}.jpg", "annotations/validation/{}.png"),
    "loveda": ("img_dir/val/{}.png", "ann_dir/val/{}.png"),
}
N = 3


@pytest.mark.parametrize("name", FOLDERS)
def test_configs_of_the_paper(name: str, tmp_path: Path) -> None:
    """Those very configs, with random weights and images that are not scaled up."""
    rng, n_classes = np.random.default_rng(0), {"cityscapes": 19, "ade20k": 150, "loveda": 7}[name]
    valid = 0
    for i in range(N):
        image, label = (tmp_path / pattern.format(i) for pattern in FOLDERS[name])
        image.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(image)
        # ADE20K and LoveDA count classes from 1: 0 is void.
        first = 0 if name == "cityscapes" else 1
        labels = rng.integers(first, first + n_classes, (64, 96))
        labels[:5] = 255 if name == "cityscapes" else 0
        valid += labels[5:].size
        Image.fromarray(labels.astype(np.uint8)).save(label)
    options = {
        "val_dataloader.num_workers": 0,
        "val_dataloader.persistent_workers": False,
        "val_dataloader.dataset.pipeline.1.scale": (96, 64),
        "model.pretrained": None,
        "model.backbone.init_cfg": None,
        "log_level": "ERROR",
        "experiment_name": f"paper-{name}",
    }
    profiles = profile_dataset(
        DATASETS[name].config, None, data_root=tmp_path, cfg_options=options, work_dir=tmp_path / "work"
    )
    assert (len(profiles), profiles.n_classes) == (N, n_classes)
    assert int(profiles._core.totals().sum()) == valid
    assert 1 <= profiles.activation(0.5).lower <= n_classes


def test_pytest_runs_the_protocol(workspace: Workspace, tmp_path: Path) -> None:
    """The command of the documentation, on a network and data that are at hand."""
    command = [
        *(sys.executable, "-m", "pytest", "-q", "tests/reproduction", "-k", "tables"),
        *("--config", str(workspace.folder / "base.py"), "--checkpoint", str(workspace.folder / "model.pth")),
        *("--data-root", str(workspace.folder), "--out", str(tmp_path), "-p", "mmcv_ext_shim"),
    ]
    path = os.pathsep.join([str(PACKAGE), str(Path(__file__).parent)])
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    tables = sorted(tmp_path.glob("*.csv"))
    assert tables
    rows = [row for table in tables for row in csv.DictReader(table.read_text("utf-8").splitlines())]
    assert all("real" in row["source"] for row in rows)
    assert {int(row["n_calibration"]) + int(row["n_test"]) for row in rows} == {N_IMAGES}
