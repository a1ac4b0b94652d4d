"""calibrate, evaluate and apply do on folders what Python does on arrays."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
from matplotlib.image import imread
from PIL import Image

import conformask as cm
from command_folders import CALIBRATION, CALIBRATOR, SIZE, TEST, Images, K, Run, fill
from conformask.cli._levels import evaluated, smallest_alpha
from conformask.metrics import required_images

WHERE = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 500000, 0, -2, 4000000)}


def python(images: Images, **options: Any) -> cm.ConformalRiskCalibrator:
    return cm.ConformalRiskCalibrator(**options).fit(images[0][:40], images[1][:40])


def joined(text: str) -> str:
    """A text whose lines are broken anywhere."""
    return " ".join(text.split())


def shown(text: str, name: str) -> str:
    """What stands beside a name."""
    found = re.search(rf"^{name} {{2,}}(.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


# --- calibrate --------------------------------------------------------------------------------


def test_calibrate_is_fit(root: Path, run: Run, images: Images) -> None:
    done = run("calibrate", *CALIBRATION)
    assert (done.status, done.err) == (0, "")
    expected = python(images)
    loaded = cm.ConformalRiskCalibrator.load("calibrator.json")
    assert loaded.lambda_hat_ == expected.lambda_hat_
    assert loaded.recalibrate(alpha=0.05).lambda_hat_ == expected.recalibrate(alpha=0.05).lambda_hat_
    assert shown(done.out, "lambda-hat") == f"{expected.lambda_hat_:.6g}"
    assert shown(done.out, "risk").startswith(f"{expected.risk_:.4f}, the mean loss of these images")
    assert f"({expected.corrected_risk_:.4f} with the image to come" in done.out
    assert shown(done.out, "calibrated on") == "40 images, 4 classes"
    assert "On average over calibration sets, the expected loss of a new image is at most 0.1." in joined(
        done.out
    )
    assert "It holds if calibration images and new ones are exchangeable" in joined(done.out)
    assert "Written to calibrator.json and a file of profiles beside it (keep them together)." in done.out


OPTIONS: dict[str, tuple[list[str], dict[str, Any], str]] = {
    "alpha": (["--alpha", "0.05"], {"alpha": 0.05}, "is at most 0.05"),
    "score": (["--score", "aps"], {"conformity_score": cm.APS()}, "the share of its labelled pixels whose"),
    "classes": (
        ["--loss", "miscoverage:1,2"],
        {"loss": cm.MiscoverageLoss(classes=[1, 2])},
        "the share of its pixels of classes 1, 2 whose set lacks their label",
    ),
    "binary": (
        ["--loss", "binary:0.8", "--method", "pac", "--delta", "0.1"],
        {"loss": cm.BinaryLoss(0.8), "method": cm.PAC(0.1)},
        "1 if less than the share 0.8 of its labelled pixels has its label in the set, else 0",
    ),
    "fnr by name": (
        ["--loss", "fnr:road,3", "--class-names", "road", "sky", "car", "man"],
        {"loss": cm.FalseNegativeLoss([0, 3])},
        "the share of its pixels of classes 0, 3 that the sets miss",
    ),
    "several void": (["--ignore-index", "254", "255"], {"ignore_index": (254, 255)}, "lambda-hat"),
    "rare": (
        ["--by-class", "--on-rare", "raise"],
        {"conditional": "class", "on_rare": "raise"},
        "for each class",
    ),
    "fnr": (
        ["--loss", "fnr:0,3"],
        {"loss": cm.FalseNegativeLoss([0, 3])},
        "the share of its pixels of classes 0, 3 that the sets miss",
    ),
    "worst class": (
        ["--loss", "worst-class", "--alpha", "0.3"],
        {"loss": cm.WorstClassLoss(), "alpha": 0.3},
        "the largest share that the sets miss of any of its classes",
    ),
    "betting": (
        ["--method", "wsr", "--delta", "0.2"],
        {"method": cm.RCPS(0.2, bound="wsr")},
        "With confidence 0.8 over calibration sets, the expected loss of a new image is at most 0.1.",
    ),
    "binned": (["--profile", "binned"], {"profile": "binned"}, "lambda-hat"),
    "scores": (["--inputs", "scores"], {"inputs": "scores"}, "lambda-hat"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_parameters(root: Path, run: Run, images: Images, name: str) -> None:
    options, parameters, says = OPTIONS[name]
    done = run("calibrate", *CALIBRATION, *options)
    assert done.status == 0
    assert says in joined(done.out)
    loaded = cm.ConformalRiskCalibrator.load("calibrator.json")
    assert np.array_equal(loaded.lambda_hat_, python(images, **parameters).lambda_hat_)
    assert loaded.get_params()["on_rare"] == parameters.get("on_rare", "full")


def test_a_lambda_for_each_class(root: Path, run: Run, images: Images) -> None:
    done = run("calibrate", *CALIBRATION, "--by-class")
    expected = python(images, conditional="class")
    rows = dict(re.findall(r"^(\d) +([\d.]+) +[\d.]+$", done.out, re.MULTILINE))
    assert rows == {str(k): f"{lam:.6g}" for k, lam in enumerate(expected.lambda_hat_)}
    assert (
        "for each class by itself, the expected loss of a new image that holds it is at most 0.1"
        in joined(done.out)
    )


def test_groups_and_strata(root: Path, run: Run, images: Images) -> None:
    done = run("calibrate", *CALIBRATION, "--groups", "groups.csv")
    groups = [f"p{i // 2}" for i in range(40)]
    expected = cm.ConformalRiskCalibrator().fit(images[0][:40], images[1][:40], groups=groups)
    assert cm.ConformalRiskCalibrator.load("calibrator.json").lambda_hat_ == expected.lambda_hat_
    assert shown(done.out, "calibrated on") == "20 groups, 4 classes"
    assert re.search(
        r"the mean loss of these groups \([\d.]+ with the group to come", shown(done.out, "risk")
    )
    assert "image" not in shown(done.out, "risk")
    assert "the expected loss of the images of a new group" in joined(done.out)

    done = run("calibrate", *CALIBRATION, "--strata", "kinds.csv")
    kinds = ["day" if i % 2 else "night" for i in range(40)]
    by_kind = cm.ConformalRiskCalibrator().fit(images[0][:40], images[1][:40], strata=kinds)
    assert (cm.ConformalRiskCalibrator.load("calibrator.json").lambda_hat_ == by_kind.lambda_hat_).all()
    assert re.search(rf"^night +{by_kind.lambda_hat_[1]:.6g} ", done.out, re.MULTILINE)
    assert "for each stratum" in done.out
    kinds_of_test = ["day" if i % 3 else "night" for i in range(20)]
    Path("new.csv").write_text("".join(f"image_{i:02},{kind}\n" for i, kind in enumerate(kinds_of_test)))
    told = run(
        "evaluate", "--calibrator", "calibrator.json", *TEST, "--strata", "new.csv", "--json", "r.json"
    )
    assert told.status == 0
    report = by_kind.evaluate(images[0][40:], images[1][40:], strata=kinds_of_test)
    assert json.loads(Path("r.json").read_text())["empirical_risk"] == report.empirical_risk
    done = run(
        *("apply", "--calibrator", "calibrator.json", "--maps", "test/maps", "--strata", "new.csv"),
        *("--out", "sets"),
    )
    assert done.status == 0
    for i, sizes in enumerate(by_kind.set_size(images[0][40:], strata=kinds_of_test)):
        assert (np.load(f"sets/image_{i:02}_setsize.npy") == sizes).all()


def test_the_smallest_lambda_is_explained(root: Path, run: Run) -> None:
    done = run("calibrate", *CALIBRATION, "--alpha", "0.5")
    assert shown(done.out, "lambda-hat") == "0"
    assert "Lambda-hat is 0: the sets are as small as they can be" in joined(done.out)
    assert "Lambda-hat is 0" not in run("calibrate", *CALIBRATION).out


def test_names_pick_images(root: Path, run: Run, images: Images) -> None:
    Path("names.txt").write_text("".join(f"image_{i:02}\n" for i in range(0, 40, 2)) + "\n")
    assert run("calibrate", *CALIBRATION, "--names", "names.txt", "--alpha", "0.2").status == 0
    expected = cm.ConformalRiskCalibrator(alpha=0.2).fit(images[0][:40:2], images[1][:40:2])
    assert cm.ConformalRiskCalibrator.load("calibrator.json").lambda_hat_ == expected.lambda_hat_
    Path("names.txt").write_text("image_00\nimage_00\n")
    done = run("calibrate", *CALIBRATION, "--names", "names.txt")
    assert (done.status, done.error) == (2, "names.txt holds image_00 twice")


def test_without_profiles(root: Path, run: Run) -> None:
    done = run("calibrate", *CALIBRATION, "--no-profiles")
    assert "Written to calibrator.json.\n" in done.out
    assert [file.name for file in Path().glob("calibrator*")] == ["calibrator.json"]
    done = run("evaluate", "--calibrator", "calibrator.json", *TEST, "--alphas", "0.05")
    assert done.status == 2
    assert "profiles" in done.error


def test_grey_levels_stand_for_classes(root: Path, run: Run, images: Images) -> None:
    levels = np.array([127, 0, 254, 60], np.uint8)
    for i, labels in enumerate(images[1][:40]):
        grey = np.where(labels == 255, 255, levels[np.minimum(labels, 3)])
        Image.fromarray(grey.astype(np.uint8)).save(f"calibration/labels/image_{i:02}.png")
    assert run("calibrate", *CALIBRATION, "--label-values", *levels).status == 0
    assert cm.ConformalRiskCalibrator.load("calibrator.json").lambda_hat_ == python(images).lambda_hat_


def test_classes_that_begin_at_1(root: Path, run: Run, images: Images) -> None:
    values = ["--label-values", *range(1, K + 1), "--void-values", 0]
    for part in ("calibration", "test"):
        for file in Path(part, "labels").glob("*.png"):
            labels = np.asarray(Image.open(file)).astype(int)
            Image.fromarray(np.where(labels == 255, 0, labels + 1).astype(np.uint8)).save(file)
    assert run("calibrate", *CALIBRATION, *values).status == 0
    expected = python(images)
    assert cm.ConformalRiskCalibrator.load("calibrator.json").lambda_hat_ == expected.lambda_hat_
    report = expected.evaluate(images[0][40:], images[1][40:])
    for said in ([], values):  # the file of the calibrator remembers them
        done = run("evaluate", "--calibrator", "calibrator.json", *TEST, *said)
        assert f"{report.empirical_risk:.4f}" in done.out
        assert ("Files are read as at calibration: --label-values 1 2 " in done.err) == (said == [])
    void = run("evaluate", "--calibrator", "calibrator.json", *TEST, "--void-values", 0, 9)
    assert "Files are read as at calibration: --label-values 1 2 3 4\n" in void.err
    assert f"{report.empirical_risk:.4f}" in void.out
    others = ["--label-values", *range(K)]
    assert "holds the label 4" in run("evaluate", "--calibrator", "calibrator.json", *TEST, *others).error


@pytest.mark.parametrize("command", ["evaluate", "report", "apply"])
def test_how_maps_were_read_is_remembered(root: Path, run: Run, images: Images, command: str) -> None:
    X, y = images
    X = X.copy()
    X[:, :, :, -3:] = np.nan
    fill(root / "calibration", np.moveaxis(X[:40], 1, -1), y[:40])
    fill(root / "test", np.moveaxis(X[40:], 1, -1), y[40:])
    assert run("calibrate", *CALIBRATION, "--class-axis", -1, "--nodata", "nan").status == 0
    folders = ("--maps", "test/maps", "--out", "sets") if command == "apply" else TEST
    done = run(command, *CALIBRATOR, *folders)
    assert done.status == 0
    assert "Files are read as at calibration: --class-axis -1 --nodata nan\n" in done.err
    again = run(command, *CALIBRATOR, *folders, "--class-axis", -1, "--nodata", "nan")
    assert again.status == 0
    assert "Files are read" not in again.err
    assert again.out == done.out
    other = run(command, *CALIBRATOR, *folders, "--class-axis", 0, "--quiet")
    assert other.status == 2
    assert "--class-axis -1" in other.error
    Path("calibrator.json").write_text(
        Path("calibrator.json").read_text().replace('"class_axis": -1', '"class_axis": "last"')
    )
    assert run(command, *CALIBRATOR, *folders, "--quiet").error.startswith(
        "calibrator.json is damaged: read_as is"
    )


def test_another_label_of_void(root: Path, run: Run, images: Images) -> None:
    for i, labels in enumerate(images[1][:40]):
        Image.fromarray(np.where(labels == 255, 99, labels)).save(f"calibration/labels/image_{i:02}.png")
    assert run("calibrate", *CALIBRATION, "--ignore-index", "99").status == 0
    loaded = cm.ConformalRiskCalibrator.load("calibrator.json")
    assert (loaded.ignore_index, loaded.lambda_hat_) == (99, python(images).lambda_hat_)


def test_too_few_images(root: Path, run: Run) -> None:
    done = run("calibrate", *CALIBRATION, "--alpha", "0.01")
    assert done.status == 3
    assert done.error.startswith(
        "alpha=0.01 needs at least 99 calibration images, there are 40. Add images, take a larger alpha "
        "(0.0244 or more), or accept full sets"
    )
    assert "--on-infeasible full" in done.error
    assert not Path("calibrator.json").exists()
    done = run("calibrate", *CALIBRATION, "--alpha", "0.01", "--on-infeasible", "full")
    assert done.status == 0
    assert "too few calibration images for it: all sets are full" in joined(done.out)
    assert done.err.startswith("warning: ")


def test_labels_that_look_wrong(root: Path, run: Run, images: Images) -> None:
    X, y = images
    fill(root / "binary", X[:40], np.where(y[:40] == 1, 255, 0).astype(np.uint8))
    done = run("calibrate", "--maps", "binary/maps", "--labels", "binary/labels", "--quiet")
    assert "warning: the labels hold 0 and 255 alone, and 255 is void" in done.err
    for command in ("evaluate", "report"):
        folders = ("--maps", "binary/maps", "--labels", "binary/labels")
        told = run(command, "--calibrator", "calibrator.json", *folders, "--allow-seen", "--quiet")
        assert "255 is void, which counts nowhere; if it is a class, pass --label-values 0 255" in told.err
    for i, labels in enumerate(y[:40]):
        np.save(
            root / "binary" / "labels" / f"image_{i:02}.npy", np.where(labels == 3, 0, labels).astype(int)
        )
        (root / "binary" / "labels" / f"image_{i:02}.png").unlink()
    done = run("calibrate", "--maps", "binary/maps", "--labels", "binary/labels", "--quiet")
    assert (
        "warning: no pixel is labelled class 3: these images cannot show how often it is missed" in done.err
    )


# --- evaluate ---------------------------------------------------------------------------------


def test_evaluate_prints_the_report(calibrated: Path, run: Run, images: Images) -> None:
    Path("names.txt").write_text("road\nsky\ntall tree\ncar\n")
    done = run(
        *("evaluate", "--calibrator", calibrated, *TEST, "--class-names", "@names.txt"),
        *("--alphas", "0.2", "0.05", "--json", "report.json", "--markdown", "report.md"),
    )
    assert (done.status, done.err) == (0, "")
    report = python(images).evaluate(
        images[0][40:], images[1][40:], alphas=[0.2, 0.05], class_names=["road", "sky", "tall tree", "car"]
    )
    assert done.out == f"{report}\n"
    assert json.loads(Path("report.json").read_text()) == json.loads(report.to_json())
    assert Path("report.md").read_text() == report.to_markdown()


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_images_that_calibrated_are_refused(calibrated: Path, run: Run, command: str) -> None:
    """By their names, though no profiles were written that would know them."""
    data = ("--maps", "calibration/maps", "--labels", "calibration/labels")
    assert run("calibrate", *data, "--no-profiles", "--out", "alone.json").status == 0
    done = run(command, "--calibrator", "alone.json", *data)
    assert done.status == 2
    assert re.search(r"images were used for calibration, .* among them: .* add --allow-seen$", done.err)


def test_evaluate_by_groups(calibrated: Path, run: Run, images: Images) -> None:
    Path("of_test.csv").write_text("".join(f"image_{i:02},g{i // 5}\n" for i in range(20)))
    done = run("evaluate", "--calibrator", calibrated, *TEST, "--groups", "of_test.csv")
    assert done.status == 0
    assert shown(done.out, "groups") == "4"
    assert done.err.startswith("warning: calibration was by images, but evaluation counts groups")
    assert "Leave out --groups, or" in done.err


def test_levels_that_are_not_reached(calibrated: Path, run: Run, images: Images) -> None:
    alphas = ("--alphas", "0.01", "0.02", "0.2")
    done = run("evaluate", "--calibrator", calibrated, *TEST, *alphas, "--json", "report.json")
    assert (done.status, done.err) == (0, "")
    assert re.search(r"^0\.01 +- +- +- +- +not reached$", done.out, re.MULTILINE)
    assert re.search(r"^0\.2 +0\.\d{4} .* 0$", done.out, re.MULTILINE)
    assert (required_images(0.01), required_images(0.02), required_images(0.0244)) == (99, 49, 40)
    assert done.out.endswith(
        "\n\nNot reached by 40 calibration images: alpha 0.01 (needs 99), 0.02 (needs 49). The smallest alpha that "
        "they reach is 0.0244.\n"
    )
    sweep = json.loads(Path("report.json").read_text())["sweep"]
    assert [each["infeasible"] for each in sweep] == [True, True, False]
    expected = python(images).recalibrate(alpha=0.2).evaluate(images[0][40:], images[1][40:])
    assert sweep[2]["empirical_risk"] == expected.empirical_risk
    assert "Not reached" not in run("evaluate", "--calibrator", calibrated, *TEST, "--alphas", "0.2").out


def test_levels_that_no_class_reaches(root: Path, run: Run) -> None:
    assert run("calibrate", *CALIBRATION, "--by-class", "--groups", "groups.csv").status == 0
    done = run(
        "evaluate", "--calibrator", "calibrator.json", *TEST, "--groups", "groups.csv", "--alphas", "0.01"
    )
    assert re.search(r"^0\.01 .* not reached$", done.out, re.MULTILINE)
    assert done.out.endswith(
        "Not reached by 20 calibration groups of a class at most: alpha 0.01 (needs 99). The smallest alpha that they "
        "reach is 0.0477.\n"
    )
    failed = run("calibrate", *CALIBRATION, "--by-class", "--groups", "groups.csv", "--alpha", "0.01")
    assert failed.status == 3
    assert failed.error.endswith(
        "Add groups, take a larger alpha, or accept full sets with --on-infeasible full"
    )


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_the_smallest_alpha_that_is_reached(digits: int) -> None:
    """Of any number of images: it is reached, and the next smaller number of three digits is not."""
    rng = np.random.default_rng(digits)
    X = rng.dirichlet(np.ones(3), size=(10**digits // 2, 5, 5)).transpose(0, 3, 1, 2)
    y = X.argmax(axis=1)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.3).fit(X, y)
    report = evaluated(calibrator, zip(X[:3], y[:3], strict=True), [1e-6])
    smallest = smallest_alpha(calibrator, report, [1e-6])
    assert smallest is not None
    step = 10.0 ** (math.floor(math.log10(smallest)) - 2)
    assert required_images(smallest) <= len(X) < required_images(float(f"{smallest - step:.6g}"))


def test_losses_that_may_rise_have_no_full_sets(root: Path, run: Run, images: Images) -> None:
    """Where full sets may be the worst, levels that are not reached are named, and have no row."""
    loss, method = cm.PrecisionLoss([1]), cm.LTT(0.1, np.linspace(0, 1, 11))
    calibrator = cm.ConformalRiskCalibrator(loss=loss, alpha=0.5, method=method)
    calibrator.fit(images[0][:40], images[1][:40]).save("calibrator.json", profiles=True)
    done = run("evaluate", "--calibrator", "calibrator.json", *TEST, "--alphas", "0.001", "0.5")
    assert done.status == 0
    assert not re.search(r"^0\.001 ", done.out, re.MULTILINE)
    assert "Not reached by 40 calibration images: alpha 0.001" in done.out


def test_risks_that_alpha_does_not_limit_are_told(root: Path, run: Run) -> None:
    """With a lambda for each class alpha limits each of them, and tables count groups where groups count."""
    run("calibrate", *CALIBRATION, "--by-class", "--groups", "groups.csv")
    done = run(
        "evaluate", "--calibrator", "calibrator.json", *TEST, "--groups", "groups.csv", "--alphas", "0.2"
    )
    assert shown(done.out, "alpha") == "0.1 for each class"
    assert shown(done.out, "empirical risk").endswith(" over all classes, which alpha does not limit")
    assert "mean over the groups that hold it (alpha limits the risk of each class, below)" in done.out
    assert re.search(
        r"^class +risk +95 % interval +lambda-hat +groups +calibrated on$", done.out, re.MULTILINE
    )
    assert "the risk is over all classes, alpha limits each class)" in done.out
    run("calibrate", *CALIBRATION, "--strata", "kinds.csv")
    done = run("evaluate", "--calibrator", "calibrator.json", *TEST, "--strata", "kinds.csv")
    assert shown(done.out, "alpha") == "0.1"
    assert re.search(r"^stratum +risk +95 % interval +lambda-hat +images ", done.out, re.MULTILINE)


# --- apply ------------------------------------------------------------------------------------


def test_apply_is_predict(calibrated: Path, run: Run, images: Images) -> None:
    done = run("apply", "--calibrator", calibrated, "--maps", "test/maps", "--out", "a/b", "--masks")
    assert (done.status, done.out) == (0, "40 files of 20 images written to a/b.\n")
    assert len([*Path("a/b").iterdir()]) == 40
    calibrator = python(images)
    masks, sizes = calibrator.predict(images[0][40:]), calibrator.set_size(images[0][40:])
    for i in range(20):
        mask = np.load(f"a/b/image_{i:02}_mask.npy")
        assert mask.dtype == bool
        assert (mask == masks[i]).all()
        size = np.load(f"a/b/image_{i:02}_setsize.npy")
        assert size.dtype == np.uint8
        assert (size == sizes[i]).all()


def test_apply_writes_pictures(calibrated: Path, run: Run, images: Images) -> None:
    Path("one.txt").write_text("image_03\n")
    done = run(
        *("apply", "--calibrator", calibrated, "--maps", "test/maps", "--names", "one.txt"),
        *("--out", "sets", "--png", "--heatmaps"),
    )
    assert done.status == 0
    assert sorted(file.name for file in Path("sets").iterdir()) == [
        "image_03_setsize.png",
        "image_03_varisco.png",
    ]
    with Image.open("sets/image_03_setsize.png") as grey:
        assert grey.mode == "L"
        assert (np.asarray(grey) == python(images).set_size(images[0][43:44])[0]).all()
    pixels = imread("sets/image_03_varisco.png")
    assert min(pixels.shape[:2]) > 300
    assert pixels[..., :3].std() > 0.05, "not a blank sheet"


def test_rasters_keep_their_place(calibrated: Path, run: Run, images: Images) -> None:
    X = images[0][40].copy()
    X[:, 5] = -1
    Path("scenes").mkdir()
    profile = {"driver": "GTiff", "count": K, "height": 12, "width": 16, "dtype": "float32", "nodata": -1}
    with rasterio.open("scenes/scene.tif", "w", **profile, **WHERE) as raster:
        raster.write(X)
    done = run(
        *("apply", "--calibrator", calibrated, "--maps", "scenes", "--out", "sets", "--masks"),
        "--heatmaps",
    )
    assert (done.status, done.err) == (0, "")
    calibrator = python(images)
    with rasterio.open("sets/scene_setsize.tif") as sizes, rasterio.open("sets/scene_mask.tif") as mask:
        for raster in (sizes, mask):
            assert (raster.crs, raster.transform) == (WHERE["crs"], WHERE["transform"])
        assert (sizes.count, sizes.dtypes, sizes.nodata) == (1, ("uint8",), 0)
        assert (mask.count, mask.nodata) == (K, 255)
        found, which = sizes.read(1), mask.read()
    rows = np.arange(12) != 5
    assert (found[rows] == calibrator.set_size(images[0][40:41])[0][rows]).all()
    assert (found[5] == 0).all()
    assert (which[:, rows] == calibrator.predict(images[0][40:41])[0][:, rows]).all()
    assert (which[:, 5] == 255).all()
    assert imread("sets/scene_varisco.png").size


def test_volumes_keep_their_place(root: Path, run: Run) -> None:
    rng = np.random.default_rng(0)
    affine = np.array([[0, 2, 0, 5], [-3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    for kind in ("volumes", "truth"):
        Path(kind).mkdir()
    Xs, ys = [], []
    for i in range(9):
        X = rng.dirichlet(np.full(3, 0.3), size=(4, 5, 3)).astype(np.float32)  # as many slices as classes
        y = rng.integers(0, 3, (4, 5, 3)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(X, affine), f"volumes/case{i}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(y, affine), f"truth/case{i}.nii.gz")
        Xs.append(X.transpose(3, 2, 1, 0))
        ys.append(y.T)
    assert run("calibrate", "--maps", "volumes", "--labels", "truth").status == 0
    calibrator = cm.ConformalRiskCalibrator().fit(np.stack(Xs), np.stack(ys))
    assert cm.ConformalRiskCalibrator.load("calibrator.json").lambda_hat_ == calibrator.lambda_hat_
    done = run(
        *("apply", "--calibrator", "calibrator.json", "--maps", "volumes", "--out", "sets"),
        *("--masks", "--heatmaps"),
    )
    assert (done.status, done.err) == (0, "")
    sizes, masks = nibabel.load("sets/case3_setsize.nii.gz"), nibabel.load("sets/case3_mask.nii.gz")
    for image in (sizes, masks):
        assert (image.affine == affine).all()
        assert image.get_data_dtype() == np.uint8
    assert (calibrator.set_size(Xs[3][None])[0] == np.asarray(sizes.dataobj).T).all()
    assert (calibrator.predict(Xs[3][None])[0] == np.asarray(masks.dataobj).T).all()
    assert imread("sets/case3_varisco.png").size


# --- padding ----------------------------------------------------------------------------------


@pytest.fixture
def with_padding(root: Path, images: Images) -> np.ndarray:
    """NaN at the left of all maps; the labels there are classes. Returns where there is data."""
    valid = np.ones(SIZE, bool)
    valid[:, :5] = False
    for part in ("calibration", "test"):
        for file in sorted((root / part / "maps").iterdir()):
            np.save(file, np.where(valid, np.load(file), np.nan))
    return valid


@pytest.mark.parametrize("score", ["lac", "sacp"])
def test_padding_is_void_and_has_full_sets(
    score: str, with_padding: np.ndarray, run: Run, images: Images
) -> None:
    valid = with_padding
    X = np.where(valid, images[0], np.nan)
    nodata = ("--nodata", "nan")
    assert run("calibrate", *CALIBRATION, *nodata, "--score", score).status == 0
    masks = np.broadcast_to(valid, images[1].shape)
    expected = cm.ConformalRiskCalibrator(score).fit(X[:40], images[1][:40], valid=masks[:40])
    assert cm.ConformalRiskCalibrator.load("calibrator.json").lambda_hat_ == expected.lambda_hat_
    told = run("evaluate", "--calibrator", "calibrator.json", *TEST, *nodata, "--json", "report.json")
    assert told.status == 0
    report = expected.evaluate(X[40:], images[1][40:], valid=masks[40:])
    assert json.loads(Path("report.json").read_text())["empirical_risk"] == report.empirical_risk
    apply = ("apply", "--calibrator", "calibrator.json", "--maps", "test/maps", *nodata, "--out", "sets")
    assert run(*apply, "--masks", "--heatmaps").status == 0
    sets = expected.predict(X[43:44], valid=masks[43:44])[0]
    assert sets[:, ~valid].all()
    assert (np.load("sets/image_03_mask.npy") == sets).all()
    assert (np.load("sets/image_03_setsize.npy") == sets.sum(axis=0)).all()


def test_padding_that_is_not_told_is_refused_with_the_option(
    calibrated: Path, with_padding: np.ndarray, run: Run
) -> None:
    for done in (
        run("calibrate", *CALIBRATION),
        run("evaluate", "--calibrator", calibrated, *TEST),
        run("apply", "--calibrator", calibrated, "--maps", "test/maps", "--out", "sets"),
    ):
        assert done.status == 2
        assert "is NaN at pixel" in done.error
        assert "; where there is no data, pass --nodata nan" in done.error
        assert "valid=" not in done.error


def test_a_class_that_means_no_data_is_told(root: Path, run: Run, images: Images) -> None:
    profile = {"driver": "GTiff", "count": 1, "height": 12, "width": 16, "dtype": "uint8", "nodata": 0}
    for i in range(40):
        (root / "calibration" / "labels" / f"image_{i:02}.png").unlink()
        with rasterio.open(f"calibration/labels/image_{i:02}.tif", "w", **profile, **WHERE) as raster:
            raster.write(images[1][i], 1)
    done = run("calibrate", *CALIBRATION)
    assert done.status == 0
    assert done.err.count("says that 0 means no data: pixels of class 0 are void") == 1
