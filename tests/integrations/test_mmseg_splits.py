"""A calibrator's file knows the images that calibrated: another split of the same dataset is refused."""

import json
from pathlib import Path
from typing import Any

import mmcv_ext_shim  # noqa: F401 - before MMSegmentation
import numpy as np
import pytest
import torch

from conformask.integrations.mmseg import (
    BinaryConformalCalibration,
    BinaryConformalEvaluation,
    ConformalCalibration,
    ConformalEvaluation,
)

N = 24
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(N, 3, 6, 5)).astype(np.float32)
LABELS = (LOGITS + RNG.gumbel(size=LOGITS.shape)).argmax(1)
HALVES = {"fraction": 0.5, "seed": 1}
METRICS = {
    "all classes": (
        lambda **options: ConformalCalibration(alpha=0.4, **options),
        ConformalEvaluation,
    ),
    "one class": (
        lambda **options: BinaryConformalCalibration(
            1, {"type": "BinaryRiskCalibrator", "alpha": 0.4}, **options
        ),
        lambda file, **options: BinaryConformalEvaluation(1, file, **options),
    ),
}


def measured(metric: Any, folder: str = "data", chosen: Any = range(N)) -> dict[str, float]:
    samples = [
        {
            "seg_logits": {"data": torch.from_numpy(LOGITS[i])},
            "pred_sem_seg": {"data": torch.from_numpy(LOGITS[i].argmax(0)[None])},
            "gt_sem_seg": {"data": torch.from_numpy(LABELS[i][None])},
            "img_path": f"{folder}/{i:02}.png",
            "patient": f"patient {i // 2}",
        }
        for i in chosen
    ]
    metric.process({}, samples)
    found: dict[str, float] = metric.evaluate(len(samples))
    return found


@pytest.fixture(params=METRICS)
def metrics(request: pytest.FixtureRequest) -> Any:
    return METRICS[request.param]


@pytest.fixture
def file(metrics: Any, tmp_path: Path) -> Path:
    path = tmp_path / "calibrator.json"
    measured(metrics[0](subset=HALVES | {"part": "calibration"}, out_file=path))
    return path


def test_the_other_part_is_taken(metrics: Any, file: Path) -> None:
    found = measured(metrics[1](file, subset=HALVES | {"part": "evaluation"}))
    assert next(value for name, value in found.items() if name.endswith("n_images")) == N / 2
    # Of more parts it is another one.
    measured(metrics[1](file, subset=HALVES | {"part": "evaluation"}), folder="moved")


@pytest.mark.parametrize(
    "subset",
    [
        None,
        HALVES | {"part": "calibration"},
        HALVES | {"seed": 2, "part": "evaluation"},
        HALVES | {"fraction": 0.4, "part": "evaluation"},
    ],
    ids=["all", "the same part", "another seed", "another fraction"],
)
def test_images_that_calibrated_are_refused(metrics: Any, file: Path, subset: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"for calibration, data/\d\d\.png among them: .* Pass subset=dict\(fraction=0\.5, seed=1, part=.evalu",
    ):
        measured(metrics[1](file, subset=subset))


@pytest.mark.parametrize(
    "subset",
    [None, HALVES | {"part": "calibration"}, HALVES | {"seed": 2, "part": "evaluation"}],
    ids=["all", "the same part", "another seed"],
)
def test_images_of_a_moved_dataset_are_refused_too(metrics: Any, file: Path, subset: Any) -> None:
    with pytest.raises(ValueError, match=r"moved/\d\d\.png among them"):
        measured(metrics[1](file, subset=subset), folder="moved")
    # Where they are others of the same names.
    measured(metrics[1](file, subset=subset, allow_seen=True), folder="moved")


def test_some_images_of_the_dataset_are_known_again(metrics: Any, file: Path) -> None:
    """Though of these alone the split is another."""
    with pytest.raises(ValueError, match="images were used for calibration"):
        measured(metrics[1](file), chosen=range(10))


def test_other_datasets_are_taken(metrics: Any, file: Path) -> None:
    measured(metrics[1](file), folder="elsewhere", chosen=range(10))


@pytest.mark.parametrize("folder", ["data", "moved"])
def test_all_images_calibrated(metrics: Any, tmp_path: Path, folder: str) -> None:
    path = tmp_path / "all.json"
    measured(metrics[0](out_file=path))
    with pytest.raises(ValueError, match="Test on images that were not used for calibration"):
        measured(metrics[1](path), folder=folder)


def test_merged_calibrators_know_the_images_of_both(metrics: Any) -> None:
    options = {} if metrics is METRICS["one class"] else {"profile": "exact"}
    parts = [metrics[0](subset=HALVES | {"part": part}, **options) for part in ("calibration", "evaluation")]
    for part in parts:
        measured(part)
    merged = parts[0].calibrator_.merge(parts[1].calibrator_)
    with pytest.raises(ValueError, match="24 of 24 images were used for calibration"):
        measured(metrics[1](merged))


def test_groups_are_a_split_of_their_own(metrics: Any, tmp_path: Path) -> None:
    path = tmp_path / "patients.json"
    measured(
        metrics[0](
            subset=HALVES | {"part": "calibration"},
            group_key="patient",
            out_file=path,
            **({} if metrics is METRICS["one class"] else {"profile": "exact"}),
        )
    )
    measured(metrics[1](path, subset=HALVES | {"part": "evaluation"}, group_key="patient"))
    with pytest.raises(ValueError, match=r"part='evaluation'\) and group_key='patient'"):
        measured(metrics[1](path, subset=HALVES | {"part": "evaluation"}))


def test_other_levels_know_the_images_too(file: Path, tmp_path: Path) -> None:
    metric = ConformalCalibration(alpha=0.4, subset=HALVES | {"part": "calibration"})
    measured(metric)
    with pytest.raises(ValueError, match="images were used for calibration"):
        measured(ConformalEvaluation(metric.calibrator_.recalibrate(alpha=0.3)))


def test_files_without_names_and_of_older_versions(metrics: Any, file: Path) -> None:
    document = json.loads(file.read_bytes())
    assert document["origin"]["split"] == HALVES
    file.write_text(json.dumps({**document, "origin": document["origin"] | {"images": "AAA="}}))
    with pytest.raises(ValueError, match="damaged"):
        measured(metrics[1](file))
    del document["origin"]
    file.write_text(json.dumps(document))
    measured(metrics[1](file))
