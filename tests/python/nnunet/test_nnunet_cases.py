"""Pairs of scores and labels, a case at a time; what the padding does; what is refused."""

from __future__ import annotations

import json
import re
import shutil
import weakref
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

import conformask as cm
from conformask.integrations.nnunet import Cases, Dataset, VoxelCounts
from nnunet_files import AFFINE, BOX, LABELS, SHAPE, padded, random_case, write_case, write_cases, write_nifti

N_VOXELS = int(np.prod(SHAPE))
N_INSIDE = int(np.prod([side.stop - side.start for side in BOX]))


def folders(folder: Path) -> tuple[Path, Path]:
    return folder / "predictions", folder / "labels"


def calibrator(**parameters: Any) -> cm.ConformalRiskCalibrator:
    return cm.ConformalRiskCalibrator(**{"alpha": 0.2, "volumes": True, **parameters})


# Pairs


def test_pairs_come_in_the_order_of_names(tmp_path: Path) -> None:
    inner = write_cases(tmp_path, 3)
    cases = Cases(*folders(tmp_path))
    assert len(cases) == 3
    assert cases.names == ("case_00", "case_01", "case_02")
    for (scores, labels), (known, truth), again in zip(
        cases, inner, [cases[0], cases[1], cases[-1]], strict=True
    ):
        np.testing.assert_array_equal(scores, padded(known))
        np.testing.assert_array_equal(labels[BOX], truth)
        assert (labels == 255).sum() == N_VOXELS - N_INSIDE
        np.testing.assert_array_equal(again[0], scores)
    assert cases.counts["case_01"] == VoxelCounts(N_VOXELS, N_VOXELS - N_INSIDE, 0)
    assert cases.boxes["case_02"] == BOX
    with pytest.raises(IndexError):
        cases[3]


def test_scores_alone_without_labels(tmp_path: Path) -> None:
    write_cases(tmp_path, 12)
    fitted = calibrator().fit(Cases(*folders(tmp_path)))
    alone = Cases(folders(tmp_path)[0])
    masks = [*fitted.predict(iter(alone))]
    assert [mask.shape for mask in masks] == [(3, *SHAPE)] * 12
    np.testing.assert_array_equal(masks[4], fitted.predict(alone[4][np.newaxis])[0])
    assert alone.counts["case_00"] == VoxelCounts(N_VOXELS, N_VOXELS - N_INSIDE, 0)


def test_a_part_is_a_sequence_of_its_own(tmp_path: Path) -> None:
    write_cases(tmp_path, 4)
    cases = Cases(*folders(tmp_path))
    part = cases[1:3]
    assert isinstance(part, Cases)
    assert part.names == ("case_01", "case_02")
    assert len([*part]) == 2
    assert (list(part.counts), list(cases.counts)) == (["case_01", "case_02"], [])


def test_nothing_is_kept_of_a_case(tmp_path: Path) -> None:
    write_cases(tmp_path, 3)
    for cases in (Cases(*folders(tmp_path)), Cases(*folders(tmp_path), region="organ")):
        pairs = iter(cases)
        scores, labels = next(pairs)
        known = [weakref.ref(scores), weakref.ref(labels)]
        del scores, labels
        assert [each() for each in known] == [None, None]
        assert next(pairs)


def test_files_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    write_cases(tmp_path, 3)
    cases = Cases(*folders(tmp_path))
    (tmp_path / "predictions" / "case_01.npz").write_bytes(b"no archive")
    assert cases[0]
    assert cases[2]
    with pytest.raises(ValueError, match=r"case_01\.npz cannot be read"):
        cases[1]


def test_the_ignore_label_becomes_that_of_calibrators(tmp_path: Path) -> None:
    scores, labels = random_case(np.random.default_rng(0))
    whole = np.zeros(SHAPE, np.uint8)
    whole[BOX] = labels
    whole[2] = LABELS["ignore"]
    write_case(tmp_path, "a", padded(scores), whole)
    dataset = Dataset.from_document({"labels": LABELS})
    _, found = Cases(*folders(tmp_path), dataset, outside="count")[0]
    np.testing.assert_array_equal(found, np.where(whole == 3, 255, whole))
    _, found = Cases(*folders(tmp_path), dataset, outside="count", ignore_index=-1)[0]
    np.testing.assert_array_equal(found, np.where(whole == 3, -1, whole.astype(int)))


# What the padding does


@pytest.mark.parametrize("score", [cm.LAC(), cm.APS(), cm.RAPS()], ids=str)
@pytest.mark.parametrize(
    "loss",
    ["miscoverage", "binary", cm.FalseNegativeLoss([1, 2]), cm.MiscoverageLoss(class_weights="balanced")],
    ids=str,
)
def test_lambda_is_that_without_padding(score: Any, loss: Any, tmp_path: Path) -> None:
    inner = write_cases(tmp_path, 20)
    alone = calibrator(conformity_score=score, loss=loss).fit(inner)
    for profile in ("exact", "binned"):
        found = calibrator(conformity_score=score, loss=loss, profile=profile).fit(Cases(*folders(tmp_path)))
        same = calibrator(conformity_score=score, loss=loss, profile=profile).fit(inner)
        assert found.lambda_hat_ == same.lambda_hat_
        assert found.risk_ == same.risk_
    assert 0 < alone.lambda_hat_ < 1.5


def test_padding_that_counts_dilutes_the_risk(tmp_path: Path) -> None:
    inner = write_cases(tmp_path, 20)
    alone = calibrator().fit(inner)
    cases = Cases(*folders(tmp_path), outside="count")
    diluted = calibrator().fit(cases)
    assert diluted.lambda_hat_ < 0.8 * alone.lambda_hat_
    # What the promise then hides: within the box far more is missed than alpha.
    assert calibrator().fit(inner).evaluate(Cases(*folders(tmp_path))[:5]).empirical_risk == pytest.approx(
        alone.evaluate(inner[:5]).empirical_risk
    )
    assert diluted.evaluate(inner[:5]).empirical_risk > 0.3
    assert sum(cases.counts.values(), VoxelCounts(0, 0, 0)).outside == 20 * (N_VOXELS - N_INSIDE)


def case_with_foreground_outside(folder: Path, name: str = "case_99") -> None:
    """Its only tumour lies outside of the box."""
    scores, labels = random_case(np.random.default_rng(9))
    whole = np.zeros(SHAPE, np.uint8)
    whole[BOX] = np.where(labels == 2, 0, labels)
    whole[0, 0, :2] = 2
    write_case(folder, name, padded(scores), whole)


@pytest.mark.filterwarnings("ignore:the loss is undefined on 1 of 20:conformask.DroppedImagesWarning")
def test_foreground_outside_is_said_and_left_out(tmp_path: Path) -> None:
    inner = write_cases(tmp_path, 19)
    case_with_foreground_outside(tmp_path)
    cases = Cases(*folders(tmp_path))
    loss = cm.FalseNegativeLoss([2])
    with pytest.warns(
        UserWarning, match=r"case case_99 has 2 foreground voxels outside of nnU-Net's crop box"
    ):
        found = calibrator(loss=loss, alpha=0.05).fit(cases)
    assert found.lambda_hat_ == calibrator(loss=loss, alpha=0.05).fit(inner).lambda_hat_
    assert found.n_skipped_ == 1  # within the box it has no tumour
    assert cases.counts["case_99"].foreground_outside == 2
    assert sum(each.foreground_outside for each in cases.counts.values()) == 2


def test_foreground_outside_that_counts_is_missed_at_any_lambda_below_1(tmp_path: Path) -> None:
    write_cases(tmp_path, 19)
    case_with_foreground_outside(tmp_path)
    cases = Cases(*folders(tmp_path), outside="count")
    found = calibrator(loss=cm.FalseNegativeLoss([2]), alpha=0.05).fit(cases)
    assert found.lambda_hat_ == 1
    assert cases.counts["case_99"].foreground_outside == 2
    # Of 20 cases one may be missed at this level.
    lenient = calibrator(loss=cm.FalseNegativeLoss([2]), alpha=0.2).fit(
        Cases(*folders(tmp_path), outside="count")
    )
    assert lenient.lambda_hat_ < 1


def test_it_is_said_once(tmp_path: Path) -> None:
    write_cases(tmp_path, 2)
    case_with_foreground_outside(tmp_path, "case_10")
    case_with_foreground_outside(tmp_path, "case_11")
    cases = Cases(*folders(tmp_path))
    with pytest.warns(UserWarning, match="foreground voxels") as said:
        assert len([*cases]) == 4
    assert len(said) == 1
    assert sum(each.foreground_outside for each in cases.counts.values()) == 4


def test_ignored_voxels_outside_are_no_foreground(tmp_path: Path) -> None:
    scores, labels = random_case(np.random.default_rng(0))
    whole = np.full(SHAPE, LABELS["ignore"], np.uint8)
    whole[BOX] = labels
    write_case(tmp_path, "a", padded(scores), whole)
    cases = Cases(*folders(tmp_path), Dataset.from_document({"labels": LABELS}))
    assert cases[0]
    assert cases.counts["a"] == VoxelCounts(N_VOXELS, N_VOXELS - N_INSIDE, 0)


# Shapes and axes


def test_flat_images_are_volumes_of_one_slice(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        scores = rng.dirichlet([1, 1], (1, 6, 7)).transpose(3, 0, 1, 2).astype(np.float32)
        labels = (rng.random((6, 7)) < scores[1, 0]).astype(np.uint8)
        write_case(tmp_path, f"flat_{i:02}", scores, labels)
        write_nifti(tmp_path / "predictions" / f"flat_{i:02}.nii.gz", labels, np.diag([2.0, 3.0, 1.0, 1.0]))
    cases = Cases(*folders(tmp_path), Dataset.from_document({"labels": {"background": 0, "cell": 1}}))
    scores, labels = cases[3]
    assert (scores.shape, labels.shape) == ((2, 1, 6, 7), (1, 6, 7))
    fitted = calibrator().fit(cases)
    flat = calibrator(volumes=False).fit([(scores[:, 0], labels[0]) for scores, labels in cases])
    assert fitted.lambda_hat_ == flat.lambda_hat_
    cases.save("flat_03", fitted.set_size(scores[np.newaxis])[0].astype(np.uint8), tmp_path / "size.nii.gz")
    written = nibabel.load(tmp_path / "size.nii.gz")
    assert written.shape == (7, 6)
    np.testing.assert_array_equal(written.affine, np.diag([2.0, 3.0, 1.0, 1.0]))


def test_pictures(tmp_path: Path) -> None:
    """nnU-Net's NaturalImage2DIO: labels and what is written are PNG."""
    rng = np.random.default_rng(0)
    scores = rng.dirichlet([1, 1, 1], (1, 6, 7)).transpose(3, 0, 1, 2).astype(np.float32)
    labels = rng.integers(0, 4, (6, 7)).astype(np.uint8)
    (tmp_path / "predictions").mkdir()
    (tmp_path / "labels").mkdir()
    np.savez_compressed(tmp_path / "predictions" / "a.npz", probabilities=scores)
    Image.fromarray(labels).save(tmp_path / "labels" / "a.png")
    cases = Cases(*folders(tmp_path), Dataset.from_document({"labels": LABELS, "file_ending": ".png"}))
    np.testing.assert_array_equal(cases[0][1], np.where(labels == 3, 255, labels)[np.newaxis])
    sizes = rng.integers(1, 4, (1, 6, 7)).astype(np.uint8)
    for values, known in ((sizes, sizes[0]), (sizes > 1, np.where(sizes[0] > 1, 255, 0))):
        cases.save("a", values, tmp_path / "map.png")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "map.png")), known)
    with pytest.raises(ValueError, match=r"map\.png must show one slice \(1, y, x\), got \(2, 6, 7\)"):
        cases.save("a", np.zeros((2, 6, 7), np.uint8), tmp_path / "map.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels", "map.png", "predictions"]


def test_images_that_were_turned_are_turned_back(tmp_path: Path) -> None:
    """By nnU-Net's readers ``...WithReorient`` scores are in RAS+, files are not."""
    scores, labels = random_case(np.random.default_rng(0))
    whole = np.zeros(SHAPE, np.uint8)
    whole[BOX] = labels  # in RAS+
    scores = padded(scores)
    # The file's first axis runs to the back, its second to the left, its third up.
    affine = np.array([[0, -1.0, 0, 5], [-1.5, 0, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1]])
    in_file = np.ascontiguousarray(whole[:, ::-1, ::-1].transpose(0, 2, 1))
    (tmp_path / "predictions").mkdir()
    (tmp_path / "labels").mkdir()
    np.savez_compressed(tmp_path / "predictions" / "a.npz", probabilities=scores)
    write_nifti(tmp_path / "predictions" / "a.nii.gz", in_file, affine)
    write_nifti(tmp_path / "labels" / "a.nii.gz", in_file, affine)
    document = {"labels": LABELS}
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"the scores are .* the labels .*: are axes permuted"):
        Cases(*folders(tmp_path))[0]
    (tmp_path / "predictions" / "plans.json").write_text('{"image_reader_writer": "NibabelIOWithReorient"}')
    cases = Cases(*folders(tmp_path))
    np.testing.assert_array_equal(cases[0][1][BOX], labels)
    cases.save("a", whole, tmp_path / "back.nii.gz")
    written = nibabel.load(tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, in_file)
    np.testing.assert_array_equal(written.affine, affine)
    by_dataset = Dataset.from_document(
        {**document, "overwrite_image_reader_writer": "SimpleITKIOWithReorient"}
    )
    (tmp_path / "predictions" / "plans.json").unlink()
    np.testing.assert_array_equal(Cases(*folders(tmp_path), by_dataset)[0][1][BOX], labels)


def test_the_first_version_whose_crop_was_the_whole_image(tmp_path: Path) -> None:
    """float16 rounds what is nearly sure to (1, 0, 0): that is no padding."""
    scores, labels = random_case(np.random.default_rng(0))
    scores[:, 0] = np.array([1, 0, 0], np.float32)[:, None, None]
    write_case(tmp_path, "a", scores.astype(np.float16), labels, key="softmax")
    cases = Cases(*folders(tmp_path), Dataset.from_document({"labels": LABELS}))
    found, truth = cases[0]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(truth, labels)
    assert cases.counts["a"].outside == 0


def test_the_first_version_with_a_crop_is_refused_with_a_recipe(tmp_path: Path) -> None:
    scores, _ = random_case(np.random.default_rng(0))
    write_case(tmp_path, "a", scores.astype(np.float16), np.zeros(SHAPE, np.uint8), key="softmax")
    cases = Cases(*folders(tmp_path), Dataset.from_document({"labels": LABELS}))
    with pytest.raises(
        ValueError, match=r"case a: .*nnU-Net v1 keeps the softmax of the cropped image: pad it"
    ):
        cases[0]
    # The recipe of the notes, with what stands in nnU-Net's own pickle.
    assert Cases.__doc__ is not None
    recipe = re.search(r"once::\n\n(.*?)\n\n", Cases.__doc__, re.DOTALL)
    assert recipe is not None
    properties = {
        "original_size_of_raw_data": np.array(SHAPE),
        "crop_bbox": [[side.start, side.stop] for side in BOX],
    }
    lines = [line.strip() for line in recipe[1].splitlines()]
    assert lines[0].startswith("properties = pickle.loads")
    saved = lines[-1].replace('"CASE.npz"', "path")
    names = {
        "np": np,
        "softmax": scores.astype(np.float16),
        "properties": properties,
        "path": tmp_path / "predictions" / "a.npz",
    }
    exec("\n".join([*lines[1:-1], saved]), names)
    np.testing.assert_array_equal(cases[0][0], padded(scores.astype(np.float16)))
    assert cases.boxes["a"] == BOX


# Regions


def test_a_region_is_a_pair_for_binary_calibrators(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    dataset = Dataset.from_document({"labels": labels, "regions_class_order": [1, 2]})
    alone: list[Any] = []
    for i in range(20):
        inner = rng.random((2, *(side.stop - side.start for side in BOX)), np.float32)
        of_whole, of_core = rng.random(inner.shape, np.float32) < inner
        truth = np.where(of_core, 2, of_whole)
        scores, whole = np.zeros((2, *SHAPE), np.float32), np.zeros(SHAPE, np.uint8)
        scores[(slice(None), *BOX)], whole[BOX] = inner, truth
        write_case(tmp_path, f"case_{i:02}", scores, whole)
        alone.append((inner, truth))
    with pytest.raises(
        ValueError, match=r"region-based: its channels \(whole, core\) overlap. Control each by itself"
    ):
        Cases(*folders(tmp_path), dataset)
    for channel, (region, among) in enumerate({"whole": [1, 2], "core": [2]}.items()):
        cases = Cases(*folders(tmp_path), dataset, region=region)
        found = cm.BinaryRiskCalibrator(volumes=True).fit(cases)
        known = cm.BinaryRiskCalibrator(volumes=True).fit(
            [(scores[channel], np.isin(truth, among).astype(np.uint8)) for scores, truth in alone]
        )
        assert found.threshold_ == known.threshold_
        assert cases[0][0].shape == SHAPE
    with pytest.raises(ValueError, match="no region 'liver': whole, core"):
        Cases(*folders(tmp_path), dataset, region="liver")


def test_a_class_is_a_region_too(tmp_path: Path) -> None:
    write_cases(tmp_path, 3)
    scores, labels = Cases(*folders(tmp_path))[1]
    probability, mask = Cases(*folders(tmp_path), region="tumour")[1]
    np.testing.assert_array_equal(probability, scores[2])
    assert probability.base is None  # no view, which would keep the other channels
    np.testing.assert_array_equal(mask, np.where(labels == 255, 255, labels == 2))


# What is refused


def test_folders_that_are_wrong(tmp_path: Path) -> None:
    predictions, labels = folders(tmp_path)

    def refused(message: str, *arguments: Any) -> None:
        with pytest.raises(FileNotFoundError, match=message) as caught:
            Cases(*(arguments or (predictions, labels)))
        assert "\n" not in str(caught.value)

    refused("no folder .*predictions")
    write_cases(tmp_path, 5)
    refused("no folder .*elsewhere", predictions, tmp_path / "elsewhere")
    refused(r"no CASE\.npz in .*labels|holds segmentations, but no CASE", labels, labels)
    (labels / "case_01.nii.gz").unlink()
    refused("labels has no labels of 1 of 5 cases that were predicted: case_01$")
    for i in (0, 2, 3):
        (labels / f"case_0{i}.nii.gz").unlink()
    refused("has no labels of 4 of 5 cases that were predicted: case_00, case_01, case_02 and others")
    for path in predictions.glob("*.npz"):
        path.unlink()
    refused("holds segmentations, but no CASE.npz: .*--save_probabilities")
    (tmp_path / "fold_0").mkdir()
    write_cases(tmp_path / "fold_0" / "validation", 1)
    shutil.move(
        tmp_path / "fold_0" / "validation" / "predictions" / "case_00.npz", tmp_path / "fold_0" / "validation"
    )
    refused("did you mean .*fold_0/validation", tmp_path / "fold_0", labels)
    (tmp_path / "empty").mkdir()
    refused(r"no CASE\.npz in .*empty$", tmp_path / "empty", labels)


def test_labels_of_other_cases_may_lie_there(tmp_path: Path) -> None:
    write_cases(tmp_path, 2)
    write_nifti(tmp_path / "labels" / "case_77.nii.gz", np.zeros((2, 2, 2), np.uint8))
    assert Cases(*folders(tmp_path)).names == ("case_00", "case_01")


def test_cases_that_do_not_fit(tmp_path: Path) -> None:
    write_cases(tmp_path, 1)

    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            Cases(*folders(tmp_path))[0]
        assert "\n" not in str(caught.value)

    labels = tmp_path / "labels" / "case_00.nii.gz"
    write_nifti(labels, np.full(SHAPE, 7, np.uint8))
    refused(r"labels/case_00\.nii\.gz holds the label 7, but dataset\.json knows 0, 1, 2, 3")
    write_nifti(labels, np.full(SHAPE, -1, np.int16))
    refused(r"holds the label -1, but")
    write_nifti(labels, np.zeros((4, 8, 10), np.uint8))
    refused(
        r"case case_00: the scores are \(5, 8, 10\) \(z, y, x\), the labels \(4, 8, 10\) in .*case_00\.nii\.gz$"
    )
    write_nifti(labels, np.zeros((10, 8, 5), np.uint8))
    refused("are axes permuted, or is it another image")
    document = {"labels": {"background": 0, "organ": 1}}
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(document))
    refused(r"case_00\.npz has 3 channels, but dataset\.json 2: background, organ")


def test_parameters_that_cannot_be(tmp_path: Path) -> None:
    write_cases(tmp_path, 1)
    with pytest.raises(ValueError, match="outside must be 'void' or 'count', got 'skip'"):
        Cases(*folders(tmp_path), outside="skip")
    for index in (2, None, 2**15):
        with pytest.raises(
            ValueError, match=r"ignore_index must be one label that is none of the dataset \(0 to 2\)"
        ):
            Cases(*folders(tmp_path), ignore_index=index)  # type: ignore[arg-type]
    (tmp_path / "predictions" / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no dataset\.json in"):
        Cases(*folders(tmp_path))


def test_labels_of_other_kinds(tmp_path: Path) -> None:
    write_cases(tmp_path, 1)
    dataset = Dataset.from_document({"labels": LABELS, "file_ending": ".nrrd"})
    (tmp_path / "labels" / "case_00.nrrd").write_bytes(b"")
    with pytest.raises(ValueError, match=r"case_00\.nrrd is neither NIfTI nor PNG"):
        Cases(*folders(tmp_path), dataset)


# Maps that are written


def test_maps_lie_where_the_case_does(tmp_path: Path) -> None:
    write_cases(tmp_path, 1)
    cases = Cases(*folders(tmp_path))
    mask = np.random.default_rng(0).random(SHAPE) < 0.5
    cases.save("case_00", mask, tmp_path / "mask.nii.gz")
    written = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, mask)
    np.testing.assert_array_equal(written.affine, AFFINE)
    assert written.get_data_dtype() == np.uint8


def test_a_reference_may_be_the_scan_itself(tmp_path: Path) -> None:
    write_cases(tmp_path, 1)
    cases = Cases(*folders(tmp_path))
    (tmp_path / "predictions" / "case_00.nii.gz").unlink()
    mask = np.zeros(SHAPE, bool)
    with pytest.raises(
        FileNotFoundError, match=r"no case_00\.nii\.gz in .*predictions tells where its voxels lie"
    ):
        cases.save("case_00", mask, tmp_path / "mask.nii.gz")
    (tmp_path / "images").mkdir()
    write_nifti(
        tmp_path / "images" / "case_00_0000.nii.gz", np.zeros(SHAPE, np.float32), np.diag([1.0, 2, 3, 1])
    )
    cases.save("case_00", mask, tmp_path / "mask.nii.gz", tmp_path / "images")
    np.testing.assert_array_equal(nibabel.load(tmp_path / "mask.nii.gz").affine, np.diag([1.0, 2, 3, 1]))


# Crop boxes that files tell


def write_rounded(folder: Path, crop_bbox: Any = None, n: int = 1) -> Dataset:
    """Cases of float16, sure at a border of their crop, as v1 has them when they are padded; foreground there."""
    for i in range(n):
        inner, truth = random_case(np.random.default_rng(i))
        inner[:, 0] = np.array([1, 1e-9, 1e-9], np.float32)[:, None, None]
        whole = np.zeros(SHAPE, np.uint8)
        whole[BOX] = truth
        write_case(folder, f"case_{i:02}", padded(inner).astype(np.float16), whole)
        if crop_bbox is not None:
            path = folder / "predictions" / f"case_{i:02}.npz"
            np.savez_compressed(path, probabilities=np.load(path)["probabilities"], crop_bbox=crop_bbox)
    return Dataset.from_document({"labels": LABELS})


TRUE_BOX = [[side.start, side.stop] for side in BOX]


def test_rounded_scores_need_their_box(tmp_path: Path) -> None:
    dataset = write_rounded(tmp_path)
    for cases in (Cases(*folders(tmp_path), dataset), Cases(tmp_path / "predictions", None, dataset)):
        with pytest.raises(
            ValueError, match=r"case_00\.npz: its numbers are rounded .*crop_bbox=\[\[z0, z1\]"
        ):
            cases[0]
    counted = Cases(*folders(tmp_path), dataset, outside="count")
    scores, labels = counted[0]
    assert scores.dtype == np.float16
    assert not (labels == 255).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_box_in_the_file_is_the_box(dtype: Any, tmp_path: Path) -> None:
    dataset = write_rounded(tmp_path, np.array(TRUE_BOX, dtype))
    cases = Cases(*folders(tmp_path), dataset)
    _, labels = cases[0]
    assert cases.boxes["case_00"] == BOX
    outside = np.ones(SHAPE, bool)
    outside[BOX] = False
    np.testing.assert_array_equal(labels == 255, outside)
    alone = Cases(tmp_path / "predictions", None, dataset)
    assert alone[0].shape == (3, *SHAPE)
    assert alone.boxes["case_00"] == BOX


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([[0, 2], [2, 7], [3, 10]], "crop_bbox leaves out voxels whose scores are not those of padding"),
        ([[1, 4], [2, 9], [3, 10]], r"crop_bbox must be .* within \(5, 8, 10\), got \[\[1, 4\], \[2, 9\]"),
        ([[1, 4], [7, 2], [3, 10]], "crop_bbox must be"),
        ([[-4, 4], [2, 7], [3, 10]], "crop_bbox must be"),
        ([[1.0, 4.0], [2.0, 7.0], [3.0, 10.0]], "crop_bbox must be"),
        ([1, 4, 2, 7, 3, 10], "crop_bbox must be"),
    ],
)
def test_boxes_that_cannot_be(box: Any, message: str, tmp_path: Path) -> None:
    dataset = write_rounded(tmp_path, box)
    with pytest.raises(ValueError, match=rf"case_00\.npz: {message}"):
        Cases(*folders(tmp_path), dataset)[0]


def test_lambda_of_rounded_scores_is_that_of_crops(tmp_path: Path) -> None:
    dataset = write_rounded(tmp_path, TRUE_BOX, n=12)
    cases = Cases(*folders(tmp_path), dataset)
    crops = [(scores[(slice(None), *BOX)], labels[BOX]) for scores, labels in cases]
    calibrator = cm.ConformalRiskCalibrator(alpha=0.2, volumes=True)
    assert calibrator.fit(cases).lambda_hat_ == calibrator.fit(crops).lambda_hat_
