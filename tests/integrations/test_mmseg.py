"""Calibration in MMSegmentation's own loops and scripts; what it hands over, with all its traps."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import mmcv_ext_shim  # noqa: F401 - before MMSegmentation
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.structures import PixelData
from mmseg.apis import MMSegInferencer, inference_model
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample
from PIL import Image
from workspace import (
    CLASSES,
    FOREIGN_WARNINGS,
    HALVES,
    IOU,
    N_IMAGES,
    SIZE,
    Workspace,
    binary_model,
    build_model,
    sample,
)

import conformask as cm
from conformask.integrations.mmseg import (
    ConformalCalibration,
    ConformalEvaluation,
    ConformalProfile,
    ScalerCalibration,
    attach,
    profile_dataset,
    scale_dataset,
)
from conformask.integrations.torch import ConformalModule
from conformask.reproduction.selective.protocol import compare_on_network

pytestmark = FOREIGN_WARNINGS

Run = Callable[..., Any]


def by_hand(images: tuple[np.ndarray, np.ndarray], **options: Any) -> cm.ConformalRiskCalibrator:
    parameters = {"inputs": "logits", "alpha": 0.2, "profile": "binned"} | options
    return cm.ConformalRiskCalibrator(**parameters).fit(*images)


def calibration(**options: Any) -> dict[str, Any]:
    return {"type": "ConformalCalibration", "alpha": 0.2} | options


# Calibration in the loops


@pytest.mark.parametrize("how", ["test", "val"])
@pytest.mark.parametrize("kind", ["binned", "exact"])
def test_loops(
    run_config: Run, images: tuple[np.ndarray, np.ndarray], how: str, kind: str, tmp_path: Path
) -> None:
    out_file = tmp_path / "new" / "calibrator.json"
    metric = calibration(profile=kind, out_file=str(out_file))
    runner, found = run_config(how, **{f"{how}_evaluator": [IOU, metric]})
    expected = by_hand(images, profile=kind)
    assert found["conformal/lambda_hat"] == expected.lambda_hat_
    assert found["conformal/risk"] == expected.risk_
    assert found["conformal/n_images"] == N_IMAGES
    loaded = cm.ConformalRiskCalibrator.load(out_file)
    assert loaded.lambda_hat_ == expected.lambda_hat_
    assert loaded.inputs == "logits"
    assert 0 < found["mIoU"] < 100
    loop = runner.test_loop if how == "test" else runner.val_loop
    assert loop.evaluator.metrics[1].calibrator_.lambda_hat_ == expected.lambda_hat_


def test_losses_that_rise(run_config: Run, images: tuple[np.ndarray, np.ndarray]) -> None:
    method = {"type": "LTT", "delta": 0.4, "grid": [0.0, 0.5, 1.0], "correction": "bonferroni"}
    loss = {"type": "PrecisionLoss", "classes": [0, 1]}
    metric = calibration(loss=loss, method=method, alpha=0.95, profile="exact")
    _, found = run_config(test_evaluator=[IOU, metric])
    options = {"loss": cm.PrecisionLoss([0, 1]), "method": cm.LTT(0.4, [0.0, 0.5, 1.0], "bonferroni")}
    assert (
        found["conformal/lambda_hat"] == by_hand(images, alpha=0.95, profile="exact", **options).lambda_hat_
    )


def test_lambdas_of_classes(run_config: Run, images: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    file, options = str(tmp_path / "calibrator.json"), {"conditional": "class", "profile": "exact"}
    _, found = run_config(test_evaluator=[IOU, calibration(out_file=file, **options)])
    expected = by_hand(images, **options)
    assert found["conformal/lambda_hat"] == expected.lambda_hat_.max()
    assert found["conformal/risk"] == expected.risk_.max()
    assert found["conformal/n_rare"] == 0
    SEEN.clear()
    hooks = [{"type": "ConformalHook", "calibrator": file}, {"type": "Watch"}]
    elsewhere = str(tmp_path / "by_hand.json")  # which does not know that these very images calibrated
    expected.save(elsewhere)
    evaluation = {"type": "ConformalEvaluation", "calibrator": elsewhere}
    runner, found = run_config(test_evaluator=[evaluation], custom_hooks=hooks)
    masks = np.stack([each.pred_set.data.numpy() for each in SEEN])
    np.testing.assert_array_equal(masks, expected.predict(images[0]))
    report = runner.test_loop.evaluator.metrics[0].report_
    assert report.by == "class"
    assert [part.risk for part in report.parts] == pytest.approx(expected.risk_)
    with pytest.raises(ValueError, match=r"conditional='class' needs .* profile='exact'"):
        ConformalCalibration(conditional="class")


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ({"conformity_score": "aps"}, {"conformity_score": cm.APS()}),
        ({"conformity_score": {"type": "RAPS", "penalty": 0.2}}, {"conformity_score": cm.RAPS(0.2)}),
        (
            {"conformity_score": {"type": "SACP", "base": {"type": "LAC"}, "window": 3}},
            {"conformity_score": cm.SACP(cm.LAC(), window=3)},
        ),
        ({"loss": {"type": "BinaryLoss", "min_coverage": 0.5}}, {"loss": cm.BinaryLoss(0.5)}),
        (
            {"loss": {"type": "MiscoverageLoss", "classes": [1, 2]}},
            {"loss": cm.MiscoverageLoss(classes=[1, 2])},
        ),
        ({"method": {"type": "CRC"}, "on_empty": "zero_loss"}, {"on_empty": "zero_loss"}),
    ],
    ids=["name", "RAPS", "SACP", "binary", "classes", "method"],
)
def test_configs_name_scores_and_losses(
    run_config: Run, images: tuple[np.ndarray, np.ndarray], spec: dict[str, Any], options: dict[str, Any]
) -> None:
    _, found = run_config(test_evaluator=[calibration(**spec)])
    assert found["conformal/lambda_hat"] == by_hand(images, **options).lambda_hat_


def test_other_metrics_see_what_they_saw(run_config: Run) -> None:
    _, alone = run_config(test_evaluator=[IOU])
    _, beside = run_config(test_evaluator=[calibration(), IOU])
    assert alone.items() <= beside.items()


def test_evaluation_on_the_other_half(
    run_config: Run, images: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    file = str(tmp_path / "calibrator.json")
    _, found = run_config(
        test_evaluator=[
            calibration(out_file=file, subset=HALVES | {"part": "calibration"}, save_profiles=True)
        ]
    )
    order = np.random.default_rng(0).permutation(N_IMAGES)
    X, y = images
    first, rest = sorted(order[: N_IMAGES // 2]), sorted(order[N_IMAGES // 2 :])
    expected = by_hand((X[first], y[first]))
    assert found["conformal/lambda_hat"] == expected.lambda_hat_
    assert found["conformal/n_images"] == 11
    runner, found = run_config(
        test_evaluator=[
            {"type": "ConformalEvaluation", "calibrator": file, "subset": HALVES | {"part": "evaluation"}}
        ]
    )
    report = expected.evaluate(X[rest], y[rest])
    assert found == {
        "conformal_test/risk": report.empirical_risk,
        "conformal_test/risk_low": report.interval[0],
        "conformal_test/risk_high": report.interval[1],
        "conformal_test/activation_ratio": report.activation_ratio,
        "conformal_test/coverage": report.coverage,
        "conformal_test/n_images": 12,
        "conformal_test/alpha": 0.2,
    }
    metric = runner.test_loop.evaluator.metrics[0]
    np.testing.assert_array_equal(metric.report_.losses, report.losses)
    assert (
        metric.report_.to_dict()
        == expected.evaluate(X[rest], y[rest], class_names=metric.dataset_meta["classes"]).to_dict()
    )
    assert cm.ConformalRiskCalibrator.load(file).recalibrate(alpha=0.3).lambda_hat_ < expected.lambda_hat_


def test_profiles_for_later(
    run_config: Run, images: tuple[np.ndarray, np.ndarray], tmp_path: Path, workspace: Workspace
) -> None:
    file = tmp_path / "profiles.npz"
    run_config(test_evaluator=[{"type": "ConformalProfile", "activation": True, "out_file": str(file)}])
    profiles = cm.ScoreProfiles.load(file)
    expected = cm.profile(*images, inputs="logits", activation=True)
    lam = expected.lambda_hat("miscoverage", 0.2)
    assert profiles.lambda_hat("miscoverage", 0.2) == lam
    assert profiles.activation(lam) == expected.activation(lam)
    of_dataset = profile_dataset(
        workspace.folder / "base.py",
        workspace.folder / "model.pth",
        data_root=workspace.folder,
        cfg_options={"experiment_name": "profile-dataset"},
        work_dir=tmp_path,
    )
    np.testing.assert_array_equal(of_dataset.losses("miscoverage", lam), expected.losses("miscoverage", lam))


def test_scalers_of_a_dataset(
    workspace: Workspace, images: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    reports = scale_dataset(
        workspace.folder / "base.py",
        workspace.folder / "model.pth",
        {"none": None, "temperature": cm.TemperatureScaler(), "vector": {"type": "VectorScaler"}},
        data_root=workspace.folder,
        cfg_options={"experiment_name": "scale-dataset"},
        seed=3,
        work_dir=tmp_path,
    )
    assert list(reports) == ["none", "temperature", "vector"]
    logits, labels = images
    order = np.random.default_rng(3).permutation(N_IMAGES)
    some, others = np.sort(order[: N_IMAGES // 2]), np.sort(order[N_IMAGES // 2 :])
    scaler = cm.VectorScaler().fit(logits[some], labels[some])
    expected = cm.metrics.calibration_report(
        labels[others], logits[others], inputs="logits", transform=scaler, n_bins=10
    )
    assert reports["vector"].nll == expected.nll
    assert reports["vector"].ece == expected.ece
    found = compare_on_network(
        str(workspace.folder / "base.py"),
        str(workspace.folder / "model.pth"),
        workspace.folder,
        {"TempS": cm.TemperatureScaler()},
    )
    assert found.methods == ["Uncal", "TempS"]
    assert found.violations() == []
    assert "base" in str(found)


# MMSegmentation's own script, one process and several


def metrics_in(output: str) -> dict[str, float]:
    """The metrics that MMEngine logs at the end."""
    line = next(line for line in output.splitlines() if "conformal" in line and "lambda_hat" in line)
    return {name: float(value) for name, value in re.findall(r"(conformal\S*/\w+): (\S+)", line)}


def test_script(workspace: Workspace, images: tuple[np.ndarray, np.ndarray]) -> None:
    config = workspace.config(
        "calibrate", test_evaluator=[IOU, calibration(out_file="one.json")], log_level="INFO"
    )
    found = metrics_in(workspace.run_test_script(config))
    expected = by_hand(images)
    assert found["conformal/lambda_hat"] == pytest.approx(expected.lambda_hat_, abs=1e-4)  # as it is logged
    saved = json.loads((workspace.folder / "one.json").read_text())
    assert saved["results"]["lambda_hat"] == expected.lambda_hat_
    options = ["--cfg-options", "test_evaluator.1.alpha=0.3", "test_evaluator.1.out_file=other.json"]
    workspace.run_test_script(config, *options)
    saved = json.loads((workspace.folder / "other.json").read_text())
    assert saved["results"]["lambda_hat"] == by_hand(images, alpha=0.3).lambda_hat_


PAGE = Path(__file__).parents[2] / "docs/integrations/mmsegmentation.md"


def test_configs_of_the_page(workspace: Workspace) -> None:
    """As they stand there: one calibrates, the other evaluates and draws."""
    blocks = re.findall(r"```python\n(_base_ = .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    (workspace.folder / "your_config.py").write_text("_base_ = ['./base.py']\nlog_level = 'INFO'\n")
    outputs = []
    for name, block in zip(("first", "second"), blocks, strict=True):
        config = workspace.folder / f"page_{name}.py"
        config.write_text(block)
        pictures = ["--show-dir", "pictures"] if name == "second" else []
        outputs.append(workspace.run_test_script(config, *pictures))
    calibrated, evaluated = outputs
    assert "conformal/n_images: 11" in calibrated
    assert cm.ConformalRiskCalibrator.load(workspace.folder / "calibrator.json").n_images_ == 11
    assert "conformal_test/n_images: 12" in evaluated
    assert re.search(r"^class +miss rate +95 % interval +set size +images +pixels$", evaluated, re.MULTILINE)
    assert "mIoU" in evaluated
    assert len(list(workspace.folder.glob("pictures/vis_data/vis_image/*.png"))) == N_IMAGES


def test_script_with_out(workspace: Workspace) -> None:
    """It hands its own arguments to the metric, if that is the only one."""
    config = workspace.config("out", test_evaluator=calibration(_delete_=True, out_file="out.json"))
    workspace.run_test_script(config, "--out", "predictions")
    assert (workspace.folder / "out.json").exists()


def test_two_ranks_give_the_bits_of_one(workspace: Workspace) -> None:
    """An odd number of images: one is given to both ranks, to fill up the last round."""
    evaluators = [
        calibration(out_file="{}.json", save_profiles=True),
        calibration(out_file="{}-half.json", subset=HALVES | {"part": "calibration"}, prefix="half"),
        calibration(out_file="{}-exact.json", profile="exact", save_profiles=True, prefix="exact"),
        {"type": "CalibrationError", "out_file": "{}-report.json"},
        {"type": "ScalerCalibration", "out_file": "{}-scaler.json"},
    ]

    def named(name: str) -> list[dict[str, Any]]:
        return [each | {"out_file": each["out_file"].format(name)} for each in evaluators]

    # The network's own sums depend on its threads: one for each rank.
    one_thread = Workspace(workspace.folder, workspace.environment | {"OMP_NUM_THREADS": "1"})
    one_thread.run_test_script(workspace.config("single", test_evaluator=named("single")))
    one_thread.run_test_script(
        workspace.config(
            "double",
            test_evaluator=named("double"),
            model_wrapper_cfg={"type": "MMDistributedDataParallel", "device_ids": None},
        ),
        ranks=2,
    )
    for kind in ("", "-half", "-exact"):
        single, double = (
            json.loads((workspace.folder / f"{name}{kind}.json").read_text()) for name in ("single", "double")
        )
        assert single["results"] == double["results"]
    assert single["results"]["n_images"] == N_IMAGES
    for kind in ("-report", "-scaler"):
        single, double = (
            json.loads((workspace.folder / f"{name}{kind}.json").read_text()) for name in ("single", "double")
        )
        assert single == double
    assert json.loads((workspace.folder / "double-report.json").read_text())["n_images"] == N_IMAGES
    for kind in ("", "-exact"):
        one, two = (
            np.load(next(workspace.folder.glob(f"{name}{kind}.json.*.npz"))) for name in ("single", "double")
        )
        assert set(one.files) == set(two.files)
        assert all(np.array_equal(one[name], two[name]) for name in one.files)


# What a metric refuses, and what it takes


LOGITS = torch.randn(12, 4, 6, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 4, (12, 1, 6, 7), generator=torch.Generator().manual_seed(1))


def test_items_are_small_and_picklable(images: tuple[np.ndarray, np.ndarray]) -> None:
    for metric in (ConformalCalibration(), ConformalCalibration(profile="exact"), ConformalProfile()):
        for logits, labels in zip(*map(torch.from_numpy, images), strict=True):
            metric.process({}, [sample(logits, labels[None])])
        assert len(metric.results) == N_IMAGES  # one for each image
        sizes = [len(pickle.dumps(item)) for item in metric.results]
        missed = [(x.argmax(0) != y).sum() for x, y in zip(*images, strict=True)]
        assert all(size < 5000 + 7 * n for size, n in zip(sizes, missed, strict=True))
    X = torch.randn(19, 512, 512, generator=torch.Generator().manual_seed(0))
    metric = ConformalCalibration()
    # 95 % of a quarter of a million are missed.
    metric.process({}, [sample(X, torch.zeros(1, 512, 512, dtype=int))])
    assert len(metric.results[0][2]) < 200_000


@pytest.mark.parametrize(
    ("flips", "message"),
    [
        ((0.0,), r"pred_sem_seg of .*000\.png is not what seg_logits say: with test-time"),
        ((0.0, 1.0), r"000\.png was flipped: with test-time"),
    ],
)
def test_augmentation_is_refused(
    run_config: Run, workspace: Workspace, flips: tuple[float, ...], message: str
) -> None:
    base = Config.fromfile(workspace.folder / "base.py")
    tta = {
        "type": "TestTimeAug",
        "transforms": [
            [{"type": "Resize", "scale_factor": ratio, "keep_ratio": True} for ratio in (0.5, 1.0, 1.75)],
            [{"type": "RandomFlip", "prob": prob, "direction": "horizontal"} for prob in flips],
            [{"type": "LoadAnnotations"}],
            [{"type": "PackSegInputs"}],
        ],
    }
    model = {"_delete_": True, "type": "SegTTAModel", "module": base.model.to_dict()}
    loader = {"test_dataloader": {"dataset": {"pipeline": [{"type": "LoadImageFromFile"}, tta]}}}
    with pytest.raises(ValueError, match=message):
        run_config(model=model, test_evaluator=[calibration()], **loader)


def test_one_output_channel() -> None:
    """MMSegmentation has taken the sigmoid; the prediction is a float."""
    config = Config({"model": binary_model()})
    model = build_model(config)
    raw = torch.randn(12, 1, 6, 7, generator=torch.Generator().manual_seed(3))
    labels = (torch.rand(12, 1, 6, 7, generator=torch.Generator().manual_seed(4)) < raw.sigmoid()).long()
    labels[:, :, 0] = 255
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=label), metainfo={"ori_shape": (6, 7)}) for label in labels
    ]
    given = [each.to_dict() for each in model.postprocess_result(raw, samples)]
    assert given[0]["seg_logits"]["data"].min() >= 0
    metric = ConformalCalibration(alpha=0.2)
    metric.process({}, given)
    found = metric.evaluate(12)
    p = raw.sigmoid().numpy()
    expected = cm.ConformalRiskCalibrator(alpha=0.2, profile="binned").fit(
        np.concatenate([1 - p, p], axis=1), labels[:, 0].numpy()
    )
    assert found["conformal/lambda_hat"] == expected.lambda_hat_
    assert metric.calibrator_.inputs == "probabilities"
    evaluation = ConformalEvaluation(metric.calibrator_)
    evaluation.process({}, given)
    report = expected.evaluate(np.concatenate([1 - p, p], axis=1), labels[:, 0].numpy())
    assert evaluation.evaluate(12)["conformal_test/risk"] == report.empirical_risk
    pickle.loads(pickle.dumps(attach(model, metric.calibrator_)))
    attached = model.postprocess_result(raw, samples)
    np.testing.assert_array_equal(
        torch.stack([each.pred_set.data for each in attached]).numpy(),
        expected.predict(np.concatenate([1 - p, p], axis=1)),
    )


def test_one_output_channel_augmented_is_refused() -> None:
    p = torch.rand(1, 6, 7, generator=torch.Generator().manual_seed(0))
    wrong = sample(p, LABELS[0] % 2, pred_sem_seg=(torch.rand(1, 6, 7) > 0.5).float())
    with pytest.raises(ValueError, match="one augmentation only"):
        ConformalCalibration().process({}, [wrong])


def test_scores_of_mask_classifiers() -> None:
    scores = LOGITS.softmax(dim=1) * 1.7
    given = [sample(each, labels) for each, labels in zip(scores, LABELS, strict=True)]
    with pytest.raises(ValueError, match="inputs='scores' or 'probabilities'; or 'logits', if"):
        ConformalCalibration().process({}, given)
    metric = ConformalCalibration(inputs="scores", alpha=0.2)
    metric.process({}, given)
    expected = cm.ConformalRiskCalibrator(inputs="scores", profile="binned", alpha=0.2).fit(
        scores, LABELS[:, 0]
    )
    assert metric.evaluate(12)["conformal/lambda_hat"] == expected.lambda_hat_
    trusted = ConformalCalibration(inputs="logits", alpha=0.2)
    trusted.process({}, given)
    assert trusted.evaluate(12)["conformal/n_images"] == 12


def test_not_a_number_is_said_to_be_that() -> None:
    broken = LOGITS[0].clone()
    broken[1, 2, 3] = torch.nan
    given = sample(broken, LABELS[0], pred_sem_seg=LOGITS[0].argmax(0, keepdim=True))
    with pytest.raises(ValueError, match="X is not finite in image 0: class 1 is NaN"):
        ConformalCalibration().process({}, [given])
    void = LABELS[0].clone()
    void[0, 2, 3] = 255
    ConformalCalibration().process({}, [given | {"gt_sem_seg": {"data": void}}])


def test_flipped_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.png was flipped"):
        ConformalCalibration().process({}, [sample(LOGITS[0], LABELS[0], img_path="a.png", flip=True)])


def test_parts_do_not_depend_on_the_order() -> None:
    """They share no image, though one loader shuffles."""
    names = [f"{i:02}.png" for i in range(12)]
    given = [sample(x, y, img_path=name) for x, y, name in zip(LOGITS, LABELS, names, strict=True)]
    halves = {"fraction": 0.5, "seed": 3}
    first = ConformalProfile(subset=halves | {"part": "calibration"})
    second = ConformalProfile(subset=halves | {"part": "evaluation"})
    everything = ConformalProfile()
    first.process({}, given)
    second.process({}, given[::-1])
    everything.process({}, given)
    for metric in (first, second, everything):
        metric.evaluate(12)
    lambdas = np.linspace(0.3, 0.95, 14)
    kept = [
        list(map(tuple, metric.profiles_.losses("miscoverage", lambdas)))
        for metric in (first, second, everything)
    ]
    assert sorted(kept[0] + kept[1]) == sorted(kept[2])
    assert len(set(kept[2])) == 12  # else this shows little


def test_all_metrics_in_one_run(run_config: Run, calibrated: tuple[cm.ConformalRiskCalibrator, str]) -> None:
    evaluators = [IOU, calibration(), {"type": "ConformalProfile"}]
    evaluators.append({"type": "ConformalEvaluation", "calibrator": calibrated[1]})
    _, found = run_config(test_evaluator=evaluators)
    assert {name.split("/")[0] for name in found if "/" in name} == {
        "conformal",
        "conformal_profile",
        "conformal_test",
    }


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of a\.png are \(6, 7\), gt_sem_seg is \(3, 7\).*LoadAnnotations"):
        ConformalCalibration().process({}, [sample(LOGITS[0], LABELS[0, :, :3], img_path="a.png")])


def test_missing_fields_are_named() -> None:
    given = sample(LOGITS[0], LABELS[0])
    del given["gt_sem_seg"]
    with pytest.raises(ValueError, match=r"no gt_sem_seg; is LoadAnnotations in the test pipeline\?"):
        ConformalCalibration().process({}, [given])


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="y holds label 17"):
        ConformalCalibration().process({}, [sample(LOGITS[0], torch.full_like(LABELS[0], 17))])


def test_several_labels_of_void_pixels() -> None:
    found = []
    for first, index in ((255, 255), (254, [254, 255])):
        labels = LABELS.clone()
        labels[:, :, 0], labels[:, :, 1] = first, 255
        metric = ConformalCalibration(alpha=0.3, ignore_index=index)
        metric.process({}, [sample(x, y) for x, y in zip(LOGITS, labels, strict=True)])
        metric.evaluate(len(LOGITS))
        found.append(metric.calibrator_.lambda_hat_)
    assert found[0] == found[1]


def test_half_precision_is_told(run_config: Run, images: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.warns(UserWarning, match=r"seg_logits are torch\.bfloat16"):
        _, found = run_config(test_evaluator=[calibration()], test_cfg={"type": "TestLoop", "fp16": True})
    assert found["conformal/lambda_hat"] == pytest.approx(by_hand(images).lambda_hat_, abs=0.01)


def test_bfloat16_is_reduced_where_it_is() -> None:
    metric = ConformalCalibration(alpha=0.2)
    given = [sample(each, labels) for each, labels in zip(LOGITS.bfloat16(), LABELS, strict=True)]
    with pytest.warns(UserWarning, match="bfloat16"):
        metric.process({}, given)
    expected = cm.ConformalRiskCalibrator(inputs="logits", alpha=0.2).fit(
        LOGITS.bfloat16().float(), LABELS[:, 0]
    )
    assert metric.evaluate(12)["conformal/lambda_hat"] == pytest.approx(expected.lambda_hat_, abs=0.001)


def test_nothing_is_changed_in_place() -> None:
    given = sample(LOGITS[0].clone(), LABELS[0].clone())
    before = {name: (field["data"].clone(), field["data"]._version) for name, field in given.items()}
    calibrator = cm.ConformalRiskCalibrator(inputs="logits", alpha=0.2).fit(LOGITS, LABELS[:, 0])
    for metric in (ConformalCalibration(), ConformalProfile("aps"), ConformalEvaluation(calibrator)):
        metric.process({}, [given])
    for name, (data, version) in before.items():
        assert torch.equal(given[name]["data"], data)
        assert given[name]["data"]._version == version


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": 1.2}, ValueError, "alpha"),
        ({"conformity_score": {"type": "Softmax"}}, ValueError, "type must be one of"),
        ({"conformity_score": "softmax"}, ValueError, "conformity_score must be one of"),
        ({"inputs": "probs"}, ValueError, "inputs must be one of"),
        ({"profile": "sparse"}, ValueError, "profile must be one of"),
        (
            {"subset": {"fraction": 1.5, "seed": 0, "part": "calibration"}},
            ValueError,
            r"fraction must be in \(0, 1\)",
        ),
        ({"subset": {"fraction": 0.5, "seed": 0, "part": "test"}}, ValueError, "part must be one of"),
        ({"subset": {"fraction": 0.5}}, TypeError, "seed"),
        ({"group_key": 3, "profile": "exact"}, TypeError, "group_key must be the name"),
        ({"group_key": "patient"}, ValueError, "group_key needs profile='exact'"),
        (
            {"subset": {"fraction": 0.5, "seed": None, "part": "calibration"}},
            ValueError,
            "seed must be an int",
        ),
        (
            {"subset": {"fraction": 0.5, "seed": "0", "part": "calibration"}},
            ValueError,
            "seed must be an int",
        ),
        ({"alhpa": 0.1}, TypeError, "alhpa"),
    ],
)
def test_settings_are_checked_before_the_test(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ConformalCalibration(**options)


def test_groups_count_once_and_stay_together() -> None:
    patients = [f"patient {i // 3}" for i in range(12)]
    given = [sample(*each) | {"patient": name} for *each, name in zip(LOGITS, LABELS, patients, strict=True)]
    whole = ConformalCalibration(alpha=0.4, profile="exact", group_key="patient")
    whole.process({}, given)
    found = whole.evaluate(12)
    by_hand = cm.ConformalRiskCalibrator(inputs="logits", alpha=0.4).fit(
        LOGITS, LABELS[:, 0], groups=patients
    )
    assert (found["conformal/lambda_hat"], found["conformal/n_images"]) == (by_hand.lambda_hat_, 4)

    halves = {"fraction": 0.5, "seed": 0}
    seen = []
    for part in ("calibration", "evaluation"):
        metric = ConformalEvaluation(by_hand, subset=halves | {"part": part}, group_key="patient")
        metric.process({}, given)
        _, groups = metric._chosen(metric.results)
        assert groups is not None
        seen.append(groups)
        metric.evaluate(12)
        chosen = [i for i in range(12) if patients[i] in groups]
        report = by_hand.evaluate(LOGITS[chosen], LABELS[chosen, 0], groups=groups)
        assert (metric.report_.empirical_risk, metric.report_.n_groups) == (report.empirical_risk, 2)
    without = ConformalEvaluation(by_hand)
    without.dataset_meta = {"classes": None}  # as datasets without names have it
    without.process({}, given)
    with pytest.warns(UserWarning, match="calibration was by groups, but evaluation counts images"):
        without.evaluate(12)
    assert sorted(seen[0] + seen[1]) == sorted(patients)
    assert not set(seen[0]) & set(seen[1])

    with pytest.raises(
        ValueError, match="sequence = None, but group_key needs an int or a str of every image"
    ):
        ConformalProfile(group_key="sequence").process({}, given)


def test_too_few_images() -> None:
    metric = ConformalCalibration(alpha=0.01)
    metric.process({}, [sample(LOGITS[0], LABELS[0])])
    with pytest.raises(cm.InfeasibleRiskError, match="99"):
        metric.evaluate(1)
    with pytest.raises(FileNotFoundError):
        ConformalEvaluation("no-such-file.json")


def test_a_scaler_in_front(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(24, 3, 6, 7, generator=rng)
    labels = torch.distributions.Categorical(logits=logits.movedim(1, -1) / 3).sample()
    scaler = cm.VectorScaler().fit(logits[:8], labels[:8])
    scaler.save(tmp_path / "scaler.json")
    metric = ConformalCalibration(
        alpha=0.2, scaler=tmp_path / "scaler.json", out_file=tmp_path / "calibrator.json"
    )
    metric.process({}, [sample(*each) for each in zip(logits[8:16], labels[8:16, None], strict=True)])
    found = metric.evaluate(8)
    expected = cm.ConformalRiskCalibrator(alpha=0.2, inputs="logits", transform=scaler, profile="binned")
    assert found["conformal/lambda_hat"] == expected.fit(logits[8:16], labels[8:16]).lambda_hat_
    evaluation = ConformalEvaluation(tmp_path / "calibrator.json")
    evaluation.process({}, [sample(*each) for each in zip(logits[16:], labels[16:, None], strict=True)])
    risk = expected.evaluate(logits[16:], labels[16:]).empirical_risk
    assert evaluation.evaluate(8)["conformal_test/risk"] == risk
    model = build_model(Config({"model": binary_model()}))
    attach(model, tmp_path / "calibrator.json")
    given = [SegDataSample(seg_logits=PixelData(data=each)) for each in logits[16:]]
    with mock.patch.object(type(model), "postprocess_result", return_value=given):
        sets = torch.stack([each.pred_set.data for each in model.postprocess_result(None)])
    np.testing.assert_array_equal(sets.numpy(), expected.predict(logits[16:]))
    with pytest.raises(TypeError, match="transform must be a fitted scaler"):
        ConformalCalibration(scaler=3)
    with pytest.raises(ValueError, match="ConformalRiskCalibrator, which is no scaler"):
        ConformalCalibration(scaler=tmp_path / "calibrator.json")
    with pytest.raises(TypeError, match=r"a scaler .* works on arrays"):
        ConformalModule(torch.nn.Identity(), expected)


def test_a_scaler_is_fitted_to_a_part_of_its_own(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(6)
    logits = 2 * torch.randn(20, 3, 6, 7, generator=rng)
    labels = torch.distributions.Categorical(logits=logits.movedim(1, -1) / 3).sample()
    labels[3, :3] = 255
    given = [
        sample(*each, img_path=f"{i:02}.png", patient=i // 2)
        for i, each in enumerate(zip(logits, labels[:, None], strict=True))
    ]
    parts = {"fraction": 0.5, "scaling": 0.3, "seed": 1}
    order = np.random.default_rng(1).permutation(20)
    first = ScalerCalibration(
        {"type": "VectorScaler", "ridge": 0.1},
        subset={"part": "scaling", **parts},
        out_file=tmp_path / "scaler.json",
    )
    second = ConformalCalibration(alpha=0.3, subset={"part": "calibration", **parts}, profile="exact")
    third = ConformalProfile(subset={"part": "evaluation", **parts})
    for metric in (first, second, third):
        metric.process({}, given)
    some = np.sort(order[:6])
    expected = cm.VectorScaler(ridge=0.1).fit(logits[some], labels[some])
    assert first.evaluate(20)["scaler/nll"] == expected.nll_
    assert cm.VectorScaler.load(tmp_path / "scaler.json").nll_ == expected.nll_
    second.evaluate(20)
    assert second.profiles_.lambda_hat("miscoverage", 0.3) == cm.profile(
        logits[np.sort(order[6:16])], labels[np.sort(order[6:16])], inputs="logits"
    ).lambda_hat("miscoverage", 0.3)
    third.evaluate(20)
    assert len(third.profiles_) == 4

    mine = cm.SelectiveScaler(hidden=(), base=cm.VectorScaler(ridge=9).fit(logits, labels), inputs="logits")
    same = ScalerCalibration(mine, inputs="logits")
    mine.inputs = "probabilities"  # the metric has its own, and its base is fitted
    same.process({}, given)
    same.evaluate(20)
    assert same.scaler_.nll_ == mine.set_params(inputs="logits").fit(logits, labels).nll_
    assert same.scaler is not mine
    grouped = ScalerCalibration(group_key="patient")
    grouped.process({}, given)
    grouped.evaluate(20)
    expected = cm.TemperatureScaler().fit(logits, labels, groups=np.arange(20) // 2)
    assert grouped.scaler_.standard_error_ == expected.standard_error_
    with pytest.raises(ValueError, match="scaling must be at least 0, and less than 1 with fraction"):
        ScalerCalibration(subset={"fraction": 0.5, "scaling": 0.5, "seed": 0, "part": "scaling"})
    with pytest.raises(TypeError, match="scaler must be a scaler or dict"):
        ScalerCalibration({"type": "LAC"})


# Inference


FIELDS = ("pred_set", "set_size", "varisco")


SEEN: list[SegDataSample] = []


@HOOKS.register_module()
class Watch(Hook):
    """Keeps what others see after a batch."""

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        SEEN.extend(outputs)


@pytest.fixture
def calibrated(
    images: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> tuple[cm.ConformalRiskCalibrator, str]:
    calibrator, file = by_hand(images), tmp_path / "calibrator.json"
    calibrator.save(file)
    return calibrator, str(file)


def test_hook(
    run_config: Run,
    images: tuple[np.ndarray, np.ndarray],
    calibrated: tuple[cm.ConformalRiskCalibrator, str],
) -> None:
    calibrator, file = calibrated
    SEEN.clear()
    hooks = [{"type": "ConformalHook", "calibrator": file}, {"type": "Watch"}]
    run_config(test_evaluator=[IOU], custom_hooks=hooks)
    seen = list(SEEN)
    masks = np.stack([each.pred_set.data.numpy() for each in seen])
    expected = calibrator.predict(images[0])
    np.testing.assert_array_equal(masks, expected)
    for each, mask in zip(seen, masks, strict=True):
        np.testing.assert_array_equal(each.set_size.data[0], mask.sum(axis=0))
        np.testing.assert_allclose(each.varisco.data[0], mask.sum(axis=0) / len(CLASSES), rtol=1e-6)


def test_hook_before_validation(run_config: Run, calibrated: tuple[cm.ConformalRiskCalibrator, str]) -> None:
    runner, _ = run_config(
        "val", val_evaluator=[IOU], custom_hooks=[{"type": "ConformalHook", "calibrator": calibrated[1]}]
    )
    found = runner.model.postprocess_result(torch.randn(2, len(CLASSES), 5, 6))
    assert all(field in found[0] for field in FIELDS)


def test_inference_apis(workspace: Workspace, calibrated: tuple[cm.ConformalRiskCalibrator, str]) -> None:
    config = Config.fromfile(workspace.folder / "base.py")
    path = str(workspace.folder / "images" / "003.png")
    inferencer = MMSegInferencer(
        model=str(workspace.folder / "base.py"), weights=str(workspace.folder / "model.pth"), device="cpu"
    )
    attach(inferencer.model, calibrated[1])
    by_inferencer = inferencer(path, return_datasamples=True, show=False)
    model = build_model(config)
    model.load_state_dict(torch.load(workspace.folder / "model.pth")["state_dict"])
    model.cfg = config
    attach(attach(model, calibrated[0].recalibrate(alpha=0.5)), calibrated[1])  # the last one counts
    by_model = inference_model(model, path)
    for found in (by_inferencer, by_model):
        assert found.pred_set.data.shape == (len(CLASSES), *SIZE)
        assert found.set_size.data.dtype == torch.int16
        assert 0 < float(found.varisco.data.max()) <= 1
    assert torch.equal(by_model.pred_set.data, by_inferencer.pred_set.data)


def test_attach_to_bfloat16(workspace: Workspace, calibrated: tuple[cm.ConformalRiskCalibrator, str]) -> None:
    model = attach(build_model(Config.fromfile(workspace.folder / "base.py")), calibrated[0])
    logits = torch.randn(2, len(CLASSES), 9, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = model.postprocess_result(logits)
    expected = calibrated[0].predict(logits.float())
    assert np.mean(torch.stack([each.pred_set.data for each in found]).numpy() != expected) < 1e-3


def test_attach_refuses(workspace: Workspace, calibrated: tuple[cm.ConformalRiskCalibrator, str]) -> None:
    from mmseg.models import SegTTAModel

    model = build_model(Config.fromfile(workspace.folder / "base.py"))
    with pytest.raises(TypeError, match="augmentation"):
        attach(SegTTAModel(module=model), calibrated[0])
    attach(model, calibrated[0])
    with pytest.raises(ValueError, match="K = 3 classes, but calibration had K = 8"):
        model.postprocess_result(torch.randn(1, 3, 4, 5))


def test_visualizer(workspace: Workspace, calibrated: tuple[cm.ConformalRiskCalibrator, str]) -> None:
    config = workspace.config(
        "draw",
        test_evaluator=[IOU, {"type": "ConformalEvaluation", "calibrator": calibrated[1]}],
        custom_hooks=[{"type": "ConformalHook", "calibrator": calibrated[1]}],
        visualizer={"type": "ConformalLocalVisualizer"},
    )
    workspace.run_test_script(config, "--show-dir", "drawn")
    pictures = sorted(workspace.folder.glob("drawn/vis_data/vis_image/*.png"))
    assert len(pictures) == N_IMAGES
    drawn = np.asarray(Image.open(pictures[0]))
    height, width = SIZE
    assert drawn.shape == (height, 3 * width, 3)
    assert drawn[:, 2 * width :].std() > 5  # a heatmap, not a plain area
    plain = workspace.config("plain", test_evaluator=[IOU], visualizer={"type": "ConformalLocalVisualizer"})
    workspace.run_test_script(plain, "--show-dir", "plainly")
    pictures = sorted(workspace.folder.glob("plainly/vis_data/vis_image/*.png"))
    assert np.asarray(Image.open(pictures[0])).shape == (height, 2 * width, 3)


# Configs and models that MMSegmentation ships


def test_configs_by_name() -> None:
    from conformask.integrations.mmseg.dataset import _config_file

    for name in (
        "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024",
        "segformer_mit-b5_8xb2-160k_ade20k-512x512",
        "pspnet_r50-d8_4xb4-80k_loveda-512x512.py",
    ):
        assert _config_file(name).stem == name.removesuffix(".py")
    with pytest.raises(FileNotFoundError, match="no-such-config is no file"):
        profile_dataset("no-such-config", None)


# Fewer channels than they have.
SHIPPED = {
    "pspnet_r50-d8": {
        "backbone": {"type": "ResNetV1c", "depth": 18},
        "decode_head": {"in_channels": 512, "channels": 16},
    },
    "deeplabv3plus_r50-d8": {
        "backbone": {"type": "ResNetV1c", "depth": 18},
        "decode_head": {"in_channels": 512, "channels": 16, "c1_in_channels": 64, "c1_channels": 8},
    },
    "segformer_mit-b0": {
        "backbone": {"embed_dims": 8},
        "decode_head": {"in_channels": [8, 16, 40, 64], "channels": 16},
    },
}


@pytest.mark.parametrize("name", SHIPPED)
def test_models(name: str) -> None:
    import mmseg

    configs = Path(mmseg.__file__).parent / ".mim" / "configs"
    config = Config.fromfile(configs / "_base_" / "models" / f"{name}.py")
    config.merge_from_dict({"model": SHIPPED[name] | {"pretrained": None, "auxiliary_head": None}})
    for part in (config.model.backbone, config.model.decode_head):
        if "norm_cfg" in part:
            part.norm_cfg = {"type": "BN"}
    model = build_model(config)
    torch.manual_seed(0)
    batch = {"inputs": torch.randint(0, 255, (9, 3, 64, 96), dtype=torch.uint8), "data_samples": [
        SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 19, (1, 60, 90))),
                      metainfo={"ori_shape": (60, 90), "img_shape": (64, 96), "pad_shape": (64, 96)})
        for _ in range(9)]}  # fmt: skip
    with torch.no_grad():
        found = model.test_step({"inputs": list(batch["inputs"]), "data_samples": batch["data_samples"]})
    metric = ConformalCalibration(alpha=0.1)
    metric.process({}, [each.to_dict() for each in found])
    metrics = metric.evaluate(9)
    assert 0 < metrics["conformal/lambda_hat"] <= 1
    assert metrics["conformal/corrected_risk"] <= 0.1
