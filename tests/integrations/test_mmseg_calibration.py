"""Calibration errors while MMSegmentation tests a model: those of the arrays, beside the mean IoU."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmcv_ext_shim  # noqa: F401 - before MMSegmentation
import pytest
import torch
from workspace import CLASSES, N_IMAGES

import conformask as cm
from conformask.integrations.mmseg import CalibrationError

# What these libraries warn of is theirs. Ours are errors, as everywhere.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:::{library}")
    for library in ("mmseg.*", "mmengine.*", "mmcv.*", "torch.*", "pkg_resources.*")
] + [
    pytest.mark.filterwarnings("ignore:.*instance named of visualizer has been created"),
    pytest.mark.filterwarnings("ignore:The draw is False"),
    pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning"),  # the networks are not trained
]

K, SIZE = 4, (12, 15)
_GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 2 * torch.randn(6, K, *SIZE, generator=_GENERATOR)
LABELS = torch.randint(0, K, (6, *SIZE), generator=_GENERATOR, dtype=torch.uint8)
LABELS[:, :2] = 255


def sample(logits: torch.Tensor, labels: torch.Tensor, **fields: Any) -> dict[str, Any]:
    """What a metric gets of an image."""
    maps = {"seg_logits": logits, "pred_sem_seg": logits.argmax(0, keepdim=True), "gt_sem_seg": labels[None]}
    return {name: {"data": value} for name, value in maps.items()} | fields


def processed(metric: CalibrationError, **fields: Any) -> CalibrationError:
    for i, (logits, labels) in enumerate(zip(LOGITS, LABELS, strict=True)):
        own = {name: values[i] for name, values in fields.items()}
        metric.process({}, [sample(logits, labels, img_path=f"{i}.png", **own)])
    return metric


def test_errors_are_those_of_the_arrays(tmp_path: Path) -> None:
    metric = processed(CalibrationError(9, out_file=tmp_path / "new" / "report.json"))
    metric.dataset_meta = {"classes": ("sky", "road", "car", "pole")}
    found = metric.evaluate(6)
    expected = cm.metrics.calibration_report(
        LABELS, LOGITS, inputs="logits", n_bins=9, class_names=["sky", "road", "car", "pole"]
    )
    assert metric.report_.to_dict() == expected.to_dict()
    assert found["calibration/ece"] == expected.ece
    assert found["calibration/ece_low"] == expected.ece_interval[0]
    assert found["calibration/boundary_ece"] == expected.regions[0].ece
    assert found["calibration/n_images"] == 6
    assert json.loads((tmp_path / "new" / "report.json").read_text())["ece"] == expected.ece


def test_ranks_are_joined() -> None:
    """What each rank has seen, in any order: the numbers are those of one."""
    metric = processed(CalibrationError())
    metric.compute_metrics(metric.results)
    expected = metric.report_.to_dict(images=False)
    metric.compute_metrics(pickle.loads(pickle.dumps(metric.results[::2] + metric.results[1::2])))
    assert metric.report_.to_dict(images=False) == expected
    assert max(len(pickle.dumps(item)) for item in metric.results) < 20_000


def test_groups_parts_and_binary_models() -> None:
    groups = ["a", "a", "b", "b", "c", "c"]
    metric = processed(CalibrationError(group_key="patient"), patient=groups)
    metric.evaluate(6)
    assert metric.report_.n_groups == 3
    assert (
        metric.report_.ece
        == cm.metrics.calibration_report(LABELS, LOGITS, inputs="logits", groups=groups).ece
    )
    part = processed(CalibrationError(subset={"fraction": 0.5, "seed": 0, "part": "evaluation"}))
    assert part.evaluate(6)["calibration/n_images"] == 3
    binary = CalibrationError()
    for foreground, labels in zip(torch.rand(6, 1, *SIZE, generator=_GENERATOR), LABELS, strict=True):
        one = sample(foreground, torch.where(labels == 255, labels, labels % 2))
        one["pred_sem_seg"] = {"data": (foreground > 0.3).to(foreground)}
        binary.process({}, [one])
    assert binary.evaluate(6)["calibration/n_images"] == 6
    with pytest.raises(ValueError, match="n_bins must be from 1"):
        CalibrationError(0)


def test_beside_the_mean_iou(run_config: Callable[..., Any]) -> None:
    metrics = [{"type": "IoUMetric", "iou_metrics": ["mIoU"]}, {"type": "CalibrationError"}]
    runner, found = run_config("test", test_evaluator=metrics)
    assert found["calibration/n_images"] == N_IMAGES
    assert 100 * found["calibration/mean_iou"] == pytest.approx(found["mIoU"], abs=0.006)
    assert 100 * found["calibration/accuracy"] == pytest.approx(found["aAcc"], abs=0.006)
    report = runner.test_loop.evaluator.metrics[1].report_
    assert [row.name for row in report.classes] == list(CLASSES)


def test_a_scaler_in_front(tmp_path: Path) -> None:
    scaler = cm.VectorScaler().fit(LOGITS[:3], LABELS[:3])
    scaler.save(tmp_path / "scaler.json")
    metric = processed(CalibrationError(scaler=tmp_path / "scaler.json"))
    metric.evaluate(6)
    expected = cm.metrics.calibration_report(LABELS, LOGITS, inputs="logits", transform=scaler)
    assert metric.report_.to_dict() == expected.to_dict()
