"""``conformask nnunet``: the job from files to files, and one line for whatever goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import conformask as cm
from conformask.__main__ import main
from conformask.integrations.nnunet import Cases, Dataset
from nnunet_files import AFFINE, BOX, LABELS, SHAPE, padded, random_case, write_case, write_cases

N = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that is calibrated, with its fold 0 and labels, and predictions of new cases."""
    folder = tmp_path_factory.mktemp("model")
    write_cases(folder, N)
    (folder / "fold_0").mkdir()
    shutil.move(folder / "predictions", folder / "fold_0" / "validation")
    shutil.move(folder / "labels", folder / "labelsTr")
    shutil.move(folder / "fold_0" / "validation" / "dataset.json", folder / "dataset.json")
    write_cases(folder / "new", 6, seed=1)
    (folder / "new" / "predictions" / "plans.json").write_text('{"image_reader_writer": "SimpleITKIO"}')
    assert main(["nnunet", *calibration(folder, folder / "calibrator.json")]) == 0
    return folder


def calibration(folder: Path, out: Path, *more: str) -> list[str]:
    files = ["--predictions", str(folder / "fold_0" / "validation"), "--labels", str(folder / "labelsTr")]
    return ["calibrate", *files, "--loss", "fnr:1,2", "--out", str(out), *more]


def new(folder: Path, step: str, *more: str) -> list[str]:
    return [
        step,
        "--calibrator",
        str(folder / "calibrator.json"),
        "--predictions",
        str(folder / "new/predictions"),
        *more,
    ]


class Said:
    """What a run printed."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: Any) -> Said:
        status = main(["nnunet", *map(str, arguments)])
        return Said(status, *capsys.readouterr())

    return call


def refused(said: Said, message: str, status: int = 2) -> None:
    """One line, no traceback, nothing else."""
    assert said.status == status
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


# The job


def test_calibrate(model: Path, tmp_path: Path, run: Any) -> None:
    out = tmp_path / "calibrator.json"
    said = run(*calibration(model, out))
    assert said.status == 0
    assert said.err == ""
    cases = Cases(model / "fold_0" / "validation", model / "labelsTr")
    loss = cm.FalseNegativeLoss([1, 2])
    known = cm.ConformalRiskCalibrator(loss=loss, volumes=True).fit(cases)
    found = cm.ConformalRiskCalibrator.load(out)
    assert found.lambda_hat_ == known.lambda_hat_
    assert 0 < known.lambda_hat_ < 1
    assert found.get_params()["volumes"] is True
    for line in (
        f"calibrated on            {N} cases, fold 0",
        "classes                  background, organ, tumour",
        f"lambda-hat               {known.lambda_hat_:.6g}",
        "outside of the crop box  73.8 % of the voxels: void",
    ):
        assert line in said.out
    assert "the expected loss of a new image is at most 0.1." in said.out
    assert (
        "The loss is that within the crop box. The promise is about the model of fold 0, not about an ensemble."
        in said.out
    )
    assert said.out.endswith(f"Written to {out}.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["calibrator.json"]


def test_losses_of_classes_by_name(model: Path, tmp_path: Path, run: Any) -> None:
    said = run(*calibration(model, tmp_path / "c.json"), "--loss", "fnr:tumour,organ")
    assert said.status == 0
    found = cm.ConformalRiskCalibrator.load(tmp_path / "c.json")
    assert found.get_params()["loss"] == cm.FalseNegativeLoss([2, 1])
    assert found.lambda_hat_ == cm.ConformalRiskCalibrator.load(model / "calibrator.json").lambda_hat_
    refused(
        run(*calibration(model, tmp_path / "d.json"), "--loss", "fnr:kidney"),
        "no class 'kidney': there are background, organ, tumour",
    )


def test_padding_that_counts(model: Path, tmp_path: Path, run: Any) -> None:
    lambdas = {}
    for outside in ("void", "count"):
        path = tmp_path / f"{outside}.json"
        said = run(*calibration(model, path, "--outside", outside), "--loss", "miscoverage")
        assert said.status == 0
        lambdas[outside] = cm.ConformalRiskCalibrator.load(path).lambda_hat_
    assert "counted, which makes risks look smaller" in said.out
    assert "within the crop box" not in said.out
    assert lambdas["count"] < lambdas["void"]


@pytest.mark.filterwarnings("default:case case_77")
@pytest.mark.filterwarnings("ignore:the loss is undefined on 1 of 25:conformask.DroppedImagesWarning")
def test_foreground_outside_is_counted(model: Path, tmp_path: Path, run: Any) -> None:
    shutil.copytree(model / "fold_0", tmp_path / "fold_0")
    shutil.copytree(model / "labelsTr", tmp_path / "labelsTr")
    shutil.copy(model / "dataset.json", tmp_path)
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, :3] = 1
    write_case(tmp_path / "more", "case_77", padded(random_case(np.random.default_rng(0))[0]), labels)
    shutil.copy(tmp_path / "more/predictions/case_77.npz", tmp_path / "fold_0/validation")
    shutil.copy(tmp_path / "more/labels/case_77.nii.gz", tmp_path / "labelsTr")
    said = run(*calibration(tmp_path, tmp_path / "calibrator.json"))
    assert said.status == 0
    assert "foreground among them    3 voxels of 1 case: no promise speaks of them\n" in said.out
    assert f"{N} cases (1 left out: the loss is undefined on them)" in said.out
    assert "warning: case case_77 has 3 foreground voxels outside" in said.err
    counted = run(
        *calibration(tmp_path, tmp_path / "calibrator.json", "--outside", "count", "--alpha", "0.04")
    )
    assert "lambda-hat               1\n" in counted.out
    assert "3 voxels of 1 case: missed by all sets that are not full" in counted.out


def test_evaluate(model: Path, tmp_path: Path, run: Any) -> None:
    path = tmp_path / "report.json"
    said = run(*new(model, "evaluate", "--labels", model / "new/labels", "--json", path))
    assert said.status == 0
    cases = Cases(model / "new/predictions", model / "new/labels")
    report = cm.ConformalRiskCalibrator.load(model / "calibrator.json").evaluate(cases)
    assert json.loads(path.read_text())["empirical_risk"] == report.empirical_risk
    assert f"empirical risk    {report.empirical_risk:.4f}" in said.out
    assert "\ntumour " in said.out
    assert said.out.endswith("outside of the crop box  73.8 % of the voxels: void\n")


def test_apply(model: Path, tmp_path: Path, run: Any) -> None:
    said = run(*new(model, "apply", "--out", tmp_path / "sets"))
    assert said.status == 0
    assert said.out.startswith(f"18 files of 6 cases written to {tmp_path / 'sets'}.\n")
    assert "of the model of fold 0 alone, not of an ensemble" in said.out
    fitted = cm.ConformalRiskCalibrator.load(model / "calibrator.json")
    cases = Cases(model / "new/predictions")
    for name, scores in zip(cases.names, cases, strict=True):
        masks = fitted.predict(scores[np.newaxis])[0]
        maps = {"setsize": masks.sum(axis=0), "may_be_organ": masks[1], "may_be_tumour": masks[2]}
        for ending, known in maps.items():
            image = nibabel.load(tmp_path / "sets" / f"{name}_{ending}.nii.gz")
            np.testing.assert_array_equal(np.asarray(image.dataobj).T, known)
            np.testing.assert_array_equal(image.affine, AFFINE)
            assert image.get_data_dtype() == np.uint8
    assert len([*(tmp_path / "sets").iterdir()]) == 18


def test_classes_of_choice(model: Path, tmp_path: Path, run: Any) -> None:
    assert run(*new(model, "apply", "--out", tmp_path / "a", "--classes")).status == 0
    assert {path.name[8:] for path in (tmp_path / "a").iterdir()} == {"setsize.nii.gz"}
    assert run(*new(model, "apply", "--out", tmp_path / "b", "--classes", "tumour", "background")).status == 0
    endings = {"setsize.nii.gz", "may_be_tumour.nii.gz", "may_be_background.nii.gz"}
    assert {path.name[8:] for path in (tmp_path / "b").iterdir()} == endings
    refused(run(*new(model, "apply", "--out", tmp_path / "c", "--classes", "liver")), "no class 'liver'")


@pytest.mark.filterwarnings("ignore::conformask.InfeasibleRiskWarning")
def test_full_sets_end_at_the_crop_box(model: Path, tmp_path: Path, run: Any) -> None:
    for outside in ("void", "count"):
        out = tmp_path / f"{outside}.json"
        said = run(
            *calibration(model, out, "--alpha", "0.001", "--on-infeasible", "full", "--outside", outside)
        )
        assert said.status == 0
        predictions = ("--predictions", model / "new/predictions")
        assert run("apply", "--calibrator", out, *predictions, "--out", tmp_path / outside).status == 0
        sizes = np.asarray(nibabel.load(tmp_path / outside / "case_00_setsize.nii.gz").dataobj).T
        assert (sizes[BOX] == 3).all()
        assert set(np.delete(sizes, 2, axis=0)[[0, -1]].ravel()) == ({1} if outside == "void" else {3})


@pytest.mark.filterwarnings("default:.*does not say on what it was calibrated")
def test_names_that_no_file_can_have(model: Path, tmp_path: Path, run: Any) -> None:
    labels = {"background": 0, "left/right lung": 1, "left right lung": 2, "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    document = json.loads((model / "calibrator.json").read_text())
    del document["origin"]
    (tmp_path / "python.json").write_text(json.dumps(document))
    files = ("--predictions", model / "new/predictions", "--dataset-json", tmp_path / "dataset.json")
    assert (
        run("apply", "--calibrator", tmp_path / "python.json", *files, "--out", tmp_path / "sets").status == 0
    )
    endings = {"setsize.nii.gz", "may_be_left_right_lung_1.nii.gz", "may_be_left_right_lung_2.nii.gz"}
    assert {path.name[8:] for path in (tmp_path / "sets").iterdir()} == endings


def test_sets_of_pictures_are_pictures(model: Path, tmp_path: Path, run: Any) -> None:
    document = json.loads((model / "dataset.json").read_text()) | {"file_ending": ".png"}
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for name in ("plans.json", "case_00.npz"):
        shutil.copy(model / "new" / "predictions" / name, predictions)
    flat = np.load(predictions / "case_00.npz")["probabilities"][:, 2:3]
    np.savez_compressed(predictions / "case_00.npz", probabilities=flat)
    (predictions / "dataset.json").write_text(json.dumps(document))
    files = ("--calibrator", model / "calibrator.json", "--predictions", predictions)
    assert run("apply", *files, "--out", tmp_path / "sets").status == 0
    endings = {"setsize.png", "may_be_organ.png", "may_be_tumour.png"}
    assert {path.name[8:] for path in (tmp_path / "sets").iterdir()} == endings


def test_groups(model: Path, tmp_path: Path, run: Any) -> None:
    rows = [f"case_{i:02},patient_{i // 2}" for i in range(N)]
    (tmp_path / "groups.csv").write_text("\n".join(rows))
    said = run(*calibration(model, tmp_path / "c.json", "--groups", tmp_path / "groups.csv"))
    assert said.status == 0
    assert f"{N // 2} groups, fold 0" in said.out
    assert "the expected loss of the images of a new group" in said.out
    cases = Cases(model / "fold_0" / "validation", model / "labelsTr")
    known = cm.ConformalRiskCalibrator(loss=cm.FalseNegativeLoss([1, 2]), volumes=True)
    known.fit(cases, groups=[i // 2 for i in range(N)])
    assert cm.ConformalRiskCalibrator.load(tmp_path / "c.json").lambda_hat_ == known.lambda_hat_


def test_lambdas_of_classes_with_confidence(model: Path, tmp_path: Path, run: Any) -> None:
    options = ["--loss", "miscoverage", "--by-class", "--method", "rcps", "--delta", "0.2", "--alpha", "0.4"]
    said = run(*calibration(model, tmp_path / "c.json"), *options)
    assert said.status == 0
    lambdas = cm.ConformalRiskCalibrator.load(tmp_path / "c.json").lambda_hat_
    assert f"lambda-hat tumour        {lambdas[2]:.6g}\n" in said.out
    assert "With confidence 0.8 over calibration sets" in said.out


def test_profiles_on_request(model: Path, tmp_path: Path, run: Any) -> None:
    assert run(*calibration(model, tmp_path / "c.json", "--with-profiles")).status == 0
    loaded = cm.ConformalRiskCalibrator.load(tmp_path / "c.json")
    assert loaded.recalibrate(alpha=0.2).lambda_hat_ < loaded.lambda_hat_


# What goes wrong


def test_too_few_cases(model: Path, tmp_path: Path, run: Any) -> None:
    said = run(*calibration(model, tmp_path / "c.json", "--alpha", "0.01"))
    refused(said, f"alpha=0.01 needs at least 99 calibration images, there are {N}", status=3)
    assert not (tmp_path / "c.json").exists()


def test_wrong_folders_and_files(model: Path, tmp_path: Path, run: Any) -> None:
    out = ("--out", tmp_path / "c.json")
    predictions, labels = model / "fold_0" / "validation", model / "labelsTr"

    def calibrate(*arguments: Any) -> Said:
        said: Said = run("calibrate", *arguments, *out)
        return said

    refused(calibrate("--predictions", tmp_path / "no", "--labels", labels), f"no folder {tmp_path / 'no'}")
    refused(calibrate("--predictions", model / "fold_0", "--labels", labels), "did you mean")
    refused(
        calibrate("--predictions", predictions, "--labels", model / "new"),
        f"has no labels of {N} of {N} cases",
    )
    missing = ("--dataset-json", tmp_path / "dataset.json")
    refused(calibrate("--predictions", predictions, "--labels", labels, *missing), "no file")
    refused(run(*new(model, "apply", "--out", tmp_path, "--calibrator", tmp_path / "no.json")), "no file")
    (tmp_path / "other.json").write_text("{}")
    refused(
        run(*new(model, "apply", "--out", tmp_path, "--calibrator", tmp_path / "other.json")), "is damaged or"
    )
    refused(
        run(*new(model, "apply", "--out", tmp_path, "--reference", model)),
        "tells where its voxels lie: give a folder of images, --reference",
    )
    refused(
        run(*new(model, "apply", "--out", model / "new/predictions")),
        f"--out must be another folder than {model / 'new/predictions'}",
    )
    (tmp_path / "alone").mkdir()
    refused(
        calibrate("--predictions", tmp_path / "alone", "--labels", labels), "pass its path, --dataset-json"
    )
    (tmp_path / "groups.csv").write_text("case_00,a")
    refused(
        run(*calibration(model, tmp_path / "c.json", "--groups", tmp_path / "groups.csv")),
        "no group for case_01",
    )
    with pytest.raises(SystemExit, match="2"):
        run(
            "calibrate", "--predictions", predictions, "--labels", labels, "--out", tmp_path / "no" / "c.json"
        )


def test_a_case_is_named(model: Path, tmp_path: Path, run: Any) -> None:
    """Where the calibrator counts images."""
    shutil.copytree(model / "fold_0", tmp_path / "fold_0")
    shutil.copy(model / "dataset.json", tmp_path)
    scores = padded(random_case(np.random.default_rng(0))[0])
    scores[:, 2, 3, 4] = [0.5, 0.5, 0.5]
    np.savez_compressed(tmp_path / "fold_0" / "validation" / "case_05.npz", probabilities=scores)
    (tmp_path / "labelsTr").symlink_to(model / "labelsTr")
    said = run(*calibration(tmp_path, tmp_path / "c.json"))
    refused(said, "(image 5 is case_05)")


def test_regions_are_refused_with_a_recipe(tmp_path: Path, run: Any) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    write_cases(tmp_path, 1)
    document = {"labels": labels, "regions_class_order": [1, 2]}
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(document))
    files = ("--predictions", tmp_path / "predictions", "--labels", tmp_path / "labels")
    said = run("calibrate", *files, "--out", tmp_path / "c.json")
    refused(said, "cm.BinaryRiskCalibrator(volumes=True).fit(Cases(predictions, labels, region=NAME))")


def test_the_fold_that_saw_all_cases(model: Path, tmp_path: Path, run: Any) -> None:
    (tmp_path / "fold_all").symlink_to(model / "fold_0")
    files = ("--predictions", tmp_path / "fold_all" / "validation", "--labels", model / "labelsTr")
    said = run("calibrate", *files, "--out", tmp_path / "c.json")
    refused(said, "the model of fold_all was trained on its validation cases")


def test_predictions_of_another_model(model: Path, tmp_path: Path, run: Any) -> None:
    (tmp_path / "fold_1" / "validation").mkdir(parents=True)
    for path in (model / "new" / "predictions").iterdir():
        shutil.copy(path, tmp_path / "fold_1" / "validation")
    other = ("--calibrator", model / "calibrator.json", "--predictions", tmp_path / "fold_1" / "validation")
    refused(run("apply", *other, "--out", tmp_path / "sets"), "was calibrated for the model of fold 0, but")
    document = {"labels": {"background": 0, "liver": 1, "tumour": 2}}
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    said = run(*new(model, "apply", "--out", tmp_path / "sets", "--dataset-json", tmp_path / "dataset.json"))
    refused(
        said,
        "was calibrated for background, organ, tumour; these predictions are of background, liver, tumour",
    )
    refused(
        run(*new(model, "apply", "--out", tmp_path, "--outside", "count")),
        "was calibrated with --outside void",
    )
    assert not (tmp_path / "sets").exists()


@pytest.mark.filterwarnings("default:.*looks like what nnUNetv2_ensemble")
def test_an_ensemble_is_warned_of(model: Path, tmp_path: Path, run: Any) -> None:
    """nnUNetv2_ensemble writes ``dataset.json``, but no ``plans.json``."""
    shutil.copytree(model / "new" / "predictions", tmp_path / "ensemble")
    (tmp_path / "ensemble" / "plans.json").unlink()
    files = ("--calibrator", model / "calibrator.json", "--predictions", tmp_path / "ensemble")
    said = run("apply", *files, "--out", tmp_path / "sets", "--classes")
    assert said.status == 0
    assert "looks like what nnUNetv2_ensemble wrote" in said.err
    assert run(*new(model, "apply", "--out", tmp_path / "single", "--classes")).err == ""


@pytest.mark.filterwarnings("default:.*does not say on what it was calibrated")
def test_what_python_calibrated_can_be_applied(model: Path, tmp_path: Path, run: Any) -> None:
    cases = Cases(
        model / "fold_0" / "validation", model / "labelsTr", Dataset.from_document({"labels": LABELS})
    )
    cm.ConformalRiskCalibrator().set_params(volumes=True).fit(cases).save(tmp_path / "c.json")
    said = run(*new(model, "apply", "--calibrator", tmp_path / "c.json", "--out", tmp_path / "sets"))
    assert said.status == 0
    assert "fold" not in said.out
    assert said.err.startswith(f"warning: {tmp_path / 'c.json'} does not say on what it was calibrated")
    assert said.err.endswith("with --outside void\n")
    assert said.err.count("\n") == 1
    files = ("--predictions", model / "new/predictions", "--labels", model / "new/labels")
    said = run("evaluate", "--calibrator", tmp_path / "c.json", *files, "--outside", "count")
    assert said.status == 0
    assert said.err.endswith("with --outside count\n")


def test_calibrators_of_other_commands_are_refused(
    model: Path, tmp_path: Path, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Either way: conformask nnunet takes its own, and the commands on folders those of folders."""
    for i, (scores, labels) in enumerate([random_case(np.random.default_rng(i)) for i in range(12)]):
        for folder, values in (("maps", scores), ("labels", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            np.save(tmp_path / folder / f"case_{i:02}.npy", values)
    pairs = ["--maps", str(tmp_path / "maps"), "--labels", str(tmp_path / "labels")]
    general = ["--calibrator", str(tmp_path / "c.json")]
    assert main(["calibrate", *pairs, "--out", general[1]]) == 0
    capsys.readouterr()
    says = "c.json was not calibrated by conformask nnunet: it gives no guarantee for nnU-Net's files"
    files = ("--predictions", model / "new/predictions", "--labels", model / "new/labels")
    refused(run("evaluate", *general, *files), says)
    refused(run("apply", *general, *files[:2], "--out", tmp_path / "sets"), says)
    own = ["--calibrator", str(model / "calibrator.json")]
    for command in (
        ["evaluate", *own, *pairs],
        ["report", *own, *pairs, "--out", str(tmp_path / "report.html")],
        ["apply", *own, *pairs[:2], "--out", str(tmp_path / "sets")],
    ):
        status = main(command)
        refused(Said(status, *capsys.readouterr()), "calibrator.json was calibrated by conformask nnunet")
    assert not (tmp_path / "sets").exists()


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, shown in (
        (["--help"], "--predictions fold_0/validation"),
        (["apply", "--help"], "CASE_may_be_NAME"),
    ):
        with pytest.raises(SystemExit, match="0"):
            main(["nnunet", *arguments])
        assert shown in capsys.readouterr().out


def test_cases_that_calibrated_are_no_test(model: Path, run: Any) -> None:
    files = ("--predictions", model / "fold_0" / "validation", "--labels", model / "labelsTr")
    said = run("evaluate", "--calibrator", model / "calibrator.json", *files)
    refused(said, f"{N} of {N} images were used for calibration, fold_0/validation/case_00 among them")
