"""Files that nnunetv2 itself wrote: planned, preprocessed, trained and predicted from a tiny dataset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

import conformask as cm
from conformask.__main__ import main
from conformask.integrations.nnunet import Cases, Dataset, VoxelCounts, crop_box, read_scores

SCRIPT = Path(__file__).with_name("write_nnunet_predictions.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def written(folder: Path, *options: str) -> Path:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *options],
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("regions"), "regions")


def validation(folder: Path) -> Path:
    [found] = folder.glob("results/*/*/fold_0/validation")
    return found


def labels(folder: Path, part: str = "Tr") -> Path:
    [found] = folder.glob(f"raw/*/labels{part}")
    return found


def read_seg(path: Path, reader: str = "SimpleITKIO") -> NDArray[Any]:
    """What nnU-Net reads."""
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

    seg: NDArray[Any] = recursive_find_reader_writer_by_name(reader)().read_seg(str(path))[0][0]
    return seg


# What the files are


@pytest.mark.parametrize("where", ["classes", "regions"])
def test_the_box_is_that_of_nnunet(where: str, request: pytest.FixtureRequest) -> None:
    """Which stands in its pickles, that nnU-Net opens here."""
    from batchgenerators.utilities.file_and_folder_operations import load_pickle

    folder = request.getfixturevalue(where)
    names = sorted([*validation(folder).glob("*.npz"), *(folder / "predictions").glob("*.npz")])
    assert len(names) == 22
    for path in names:
        known = load_pickle(str(path.with_suffix(".pkl")))["bbox_used_for_cropping"]
        found = crop_box(read_scores(path), regions=where == "regions")
        assert [[side.start, side.stop] for side in found] == np.array(known).tolist()


def test_scores_are_those_whose_argmax_nnunet_wrote(classes: Path) -> None:
    for path in validation(classes).glob("*.npz"):
        scores = read_scores(path)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores.argmax(axis=0), read_seg(path.with_suffix(".nii.gz")))


@pytest.mark.parametrize(
    "reader", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient", "SimpleITKIOWithReorient"]
)
def test_labels_are_those_that_each_reader_of_nnunet_reads(reader: str, classes: Path) -> None:
    scores = read_scores(next(validation(classes).glob("*.npz")))
    dataset = Dataset.of_predictions(validation(classes))
    from conformask._files.nifti import read_labels

    is_turned = reader.endswith("WithReorient")
    for path in labels(classes).iterdir():
        found = read_labels(path, canonical=is_turned)
        np.testing.assert_array_equal(found, read_seg(path, reader))
    assert (read_seg(path, reader) != read_seg(path)).any() == is_turned
    assert scores.shape[1:] == found.shape
    assert dataset.ignore_label == 3


@pytest.mark.parametrize("writer", ["NibabelIOWithReorient", "SimpleITKIOWithReorient"])
def test_maps_of_images_that_were_turned_are_written_as_nnunet_does(
    writer: str, classes: Path, tmp_path: Path
) -> None:
    from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

    from conformask._files.nifti import write_like

    io = recursive_find_reader_writer_by_name(writer)()
    path = sorted(labels(classes).iterdir())[1]
    seg, properties = io.read_seg(str(path))
    io.write_seg(seg[0], str(tmp_path / "known.nii.gz"), properties)
    write_like(tmp_path / "found.nii.gz", seg[0].astype(np.uint8), path, canonical=True)
    known, found = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("known", "found"))
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(known.dataobj))
    np.testing.assert_allclose(found.affine, known.affine, atol=1e-5)


# Calibration on them


@pytest.mark.filterwarnings("ignore:case .* foreground voxel:UserWarning")
def test_lambda_is_that_of_the_crops(classes: Path) -> None:
    """Padding makes no part of it; where it counts, the promise is diluted."""
    cases = Cases(validation(classes), labels(classes))
    assert len(cases) == 16
    assert cases.dataset.names == ("background", "organ", "tumour")
    crops = []
    for name in cases.names:
        scores, truth = (
            read_scores(validation(classes) / f"{name}.npz"),
            read_seg(labels(classes) / f"{name}.nii.gz"),
        )
        box = crop_box(scores)
        truth = np.where(truth == 3, 255, truth).astype(np.int16)
        crops.append((scores[(slice(None), *box)], truth[box]))
    for loss in ("miscoverage", cm.FalseNegativeLoss([1, 2])):
        for score in ("lac", "aps"):
            parameters = {"loss": loss, "alpha": 0.1, "volumes": True}
            found = cm.ConformalRiskCalibrator(score, **parameters).fit(cases)
            assert found.lambda_hat_ == cm.ConformalRiskCalibrator(score, **parameters).fit(crops).lambda_hat_
    total = sum(cases.counts.values(), VoxelCounts(0, 0, 0))
    assert 0.5 < total.outside / total.total < 0.8


@pytest.mark.filterwarnings("ignore:case .* foreground voxel:UserWarning")
def test_padding_that_counts_dilutes_each_loss(classes: Path) -> None:
    """By the share of the labelled voxels that lie outside of the box, where all are background and covered."""
    void, counted = (
        Cases(validation(classes), labels(classes), outside=outside) for outside in ("void", "count")
    )
    fitted = cm.ConformalRiskCalibrator(alpha=0.2, volumes=True).fit(void)
    within, everywhere = fitted.losses(void), fitted.losses(counted)
    n_within, n_everywhere = (
        np.array([np.count_nonzero(truth != 255) for _, truth in cases]) for cases in (void, counted)
    )
    missed_outside = np.array([void.counts[name].foreground_outside for name in void.names])
    np.testing.assert_allclose(everywhere, (within * n_within + missed_outside) / n_everywhere, rtol=1e-12)
    assert np.mean(everywhere) < 0.7 * np.mean(within)


@pytest.mark.filterwarnings("default:case .* foreground voxel:UserWarning")
def test_the_command_line(classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrator = tmp_path / "calibrator.json"

    def run(*arguments: Any) -> str:
        assert main(["nnunet", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    loss = ("--alpha", "0.1", "--loss", "fnr:1,2")
    out = run(
        *("calibrate", "--predictions", validation(classes), "--labels", labels(classes)),
        *loss,
        "--out",
        calibrator,
    )
    assert "16 cases, fold 0" in out
    new = ("--calibrator", calibrator, "--predictions", classes / "predictions")
    assert "images            6" in run("evaluate", *new, "--labels", labels(classes, "Ts"))
    assert "18 files of 6 cases" in run("apply", *new, "--out", tmp_path / "sets")
    for path in (classes / "predictions").glob("*.npz"):
        own = nibabel.load(path.with_suffix(".nii.gz"))
        segmentation, sets = np.asarray(own.dataobj), {}
        for ending in ("setsize", "may_be_organ", "may_be_tumour"):
            image = nibabel.load(tmp_path / "sets" / f"{path.stem}_{ending}.nii.gz")
            np.testing.assert_array_equal(image.affine, own.affine)
            sets[ending] = np.asarray(image.dataobj)
        # The argmax is in every set: where nnU-Net says tumour, it may be tumour.
        for label, name in ((1, "organ"), (2, "tumour")):
            assert sets[f"may_be_{name}"][segmentation == label].all()
            assert sets[f"may_be_{name}"].sum() > (segmentation == label).sum()
        assert sets["setsize"].min() == 1


@pytest.mark.filterwarnings("ignore:case .* foreground voxel:UserWarning")
def test_each_region_by_itself(regions: Path) -> None:
    with pytest.raises(ValueError, match=r"region-based: its channels \(whole, core\)"):
        Cases(validation(regions), labels(regions))
    for region, among in (("whole", [1, 2]), ("core", [2])):
        cases = Cases(validation(regions), labels(regions), region=region)
        found = cm.BinaryRiskCalibrator(alpha=0.1, volumes=True).fit(cases)
        new = Cases(regions / "predictions", labels(regions, "Ts"), region=region)
        report = found.evaluate(new)
        assert report.empirical_risk < 0.5
        probability, mask = new[0]
        truth = read_seg(labels(regions, "Ts") / f"{new.names[0]}.nii.gz")
        box = new.boxes[new.names[0]]
        np.testing.assert_array_equal(mask[box], np.isin(truth, among)[box])
        assert probability.shape == truth.shape


def test_nnunet_says_what_it_says_here(classes: Path) -> None:
    """Classes and the ignore label, by its own manager of labels."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    folder = validation(classes).parents[1]
    document = json.loads((folder / "dataset.json").read_text())
    manager = PlansManager(str(folder / "plans.json")).get_label_manager(document)
    dataset = Dataset.from_json(folder / "dataset.json")
    assert manager.num_segmentation_heads == len(dataset.names)
    assert manager.ignore_label == dataset.ignore_label
    read: Callable[..., Any] = PlansManager(str(folder / "plans.json")).image_reader_writer_class
    assert read.__name__ == "SimpleITKIO"
