"""A small dataset in files, and MMSegmentation's loops over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from PIL import Image
from workspace import BASE, CLASSES, N_IMAGES, SIZE, Workspace, build_model

from conformask import datasets
from conformask.integrations.mmseg import ConformalProfile

# It writes to the stdout of the moment at which it is made: within an example that is the example's output.
MMLogger.get_current_instance()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Rendered scenes as PNG files, and a small network with random but fixed weights."""
    folder = tmp_path_factory.mktemp("mmseg")
    scenes = datasets.make_scenes(N_IMAGES, size=SIZE, random_state=0)
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for i, (image, labels) in enumerate(zip(scenes.images, scenes.labels, strict=True)):
        Image.fromarray(image).save(folder / "images" / f"{i:03}.png")
        Image.fromarray(labels.astype(np.uint8)).save(folder / "labels" / f"{i:03}.png")
    palette = [[(37 * k) % 256, (91 * k) % 256, (173 * k) % 256] for k in range(len(CLASSES))]
    base = BASE.format(n_classes=len(CLASSES), root=str(folder), classes=tuple(CLASSES), palette=palette)
    (folder / "base.py").write_text(base)
    model = build_model(Config.fromfile(folder / "base.py"))
    torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / "model.pth")
    return Workspace(folder)


@pytest.fixture
def run_config(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``Runner.test()`` or ``Runner.val()`` in this process."""

    def run(how: str = "test", **changes: Any) -> Any:
        from mmengine.runner import Runner

        config = Config.fromfile(workspace.folder / "base.py")
        config.merge_from_dict(changes)
        config.work_dir = str(workspace.folder / "work")
        config.experiment_name = f"{how}-{len(list(workspace.folder.glob('work/*')))}-{id(changes)}"
        config.load_from = str(workspace.folder / "model.pth")
        runner = Runner.from_cfg(config)
        metrics = runner.test() if how == "test" else runner.val()
        return runner, metrics

    return run


class _Everything(ConformalProfile):
    """Keeps what every metric sees, for those who calibrate by hand."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        for sample in data_samples:
            item = sample["seg_logits"]["data"].clone(), sample["gt_sem_seg"]["data"].clone()
            self.results.append(item)

    def compute_metrics(self, results: Any) -> dict[str, float]:
        self.images = results
        return {"seen": len(results)}


@pytest.fixture(scope="session")
def images(workspace: Workspace) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of the dataset, in its order."""
    from mmengine.runner import Runner

    config = Config.fromfile(workspace.folder / "base.py")
    config.work_dir, config.load_from = str(workspace.folder / "work"), str(workspace.folder / "model.pth")
    config.experiment_name = "everything"
    runner = Runner.from_cfg(config)
    runner.test_loop.evaluator.metrics = [_Everything()]
    runner.test()
    logits, labels = zip(*runner.test_loop.evaluator.metrics[0].images, strict=True)
    return torch.stack(logits).numpy(), torch.cat(labels).numpy()
