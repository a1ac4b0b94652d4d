"""One class against the rest in MMSegmentation's loops and scripts: what is found there is found by hand."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmcv_ext_shim  # noqa: F401 - before MMSegmentation
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from workspace import (
    CLASSES,
    FOREIGN_WARNINGS,
    HALVES,
    IOU,
    N_IMAGES,
    Workspace,
    binary_model,
    build_model,
    sample,
)

import conformask as cm
from conformask.integrations.mmseg import BinaryConformalCalibration, BinaryConformalEvaluation
from conformask.integrations.torch import ConformalModule, as_foreground

pytestmark = FOREIGN_WARNINGS

Run = Callable[..., Any]
CAR, PERSON = CLASSES.index("car"), CLASSES.index("person")  # on all images, and not on all

CALIBRATORS: dict[str, dict[str, Any]] = {
    "fnr": {"type": "BinaryRiskCalibrator", "alpha": 0.2},
    "fpr": {"type": "BinaryRiskCalibrator", "alpha": 0.2, "risk": "fpr"},
    "rcps": {"type": "BinaryRiskCalibrator", "alpha": 0.6, "method": {"type": "RCPS", "delta": 0.2}},
    "cra": {"type": "CRACalibrator", "alpha": 0.2},
    "at": {"type": "ATCalibrator", "alpha": 0.2, "random_state": 3},
    "coat": {"type": "COATCalibrator", "alpha": 0.2, "temperature": 0.1},
    "aacrc": {"type": "AACRCCalibrator", "alpha": 0.2, "guarantee": "per_test"},
}
FOUND = {"cra": "mass", "at": "correction", "coat": "correction", "aacrc": "correction"}
LOGITS = 2 * torch.randn(24, 4, 6, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.distributions.Categorical(logits=LOGITS.movedim(1, -1) / 2).sample()
LABELS[:, 0, :3] = 255
SAMPLES = [sample(x, y[None]) for x, y in zip(LOGITS, LABELS, strict=True)]


def made(name: str, **more: Any) -> Any:
    """The calibrator of a config, by hand."""
    options = CALIBRATORS[name] | more
    if "method" in options:
        options["method"] = cm.RCPS(options["method"]["delta"])
    return getattr(cm, options.pop("type"))(**options)


def foreground(logits: Any, k: int) -> torch.Tensor:
    """As the metric sees them: one by one, so that the softmax has the same bits."""
    return torch.cat([as_foreground(torch.as_tensor(each)[None], foreground=k) for each in logits])


def masks_of(labels: Any, k: int) -> np.ndarray:
    y = np.asarray(labels)
    return np.where(y == 255, 255, y == k).astype(np.uint8)


def calibration(name: str = "fnr", k: Any = CAR, **more: Any) -> dict[str, Any]:
    return {"type": "BinaryConformalCalibration", "foreground": k, "calibrator": CALIBRATORS[name]} | more


def assert_same(found: Any, expected: Any, P: Any) -> None:
    assert type(found) is type(expected)
    np.testing.assert_array_equal(found.predict_thresholds(P), expected.predict_thresholds(P))
    for name in ("risk_", "corrected_risk_", "n_images_", "n_skipped_", "n_eff_"):
        assert getattr(found, name) == getattr(expected, name)


# In the loops


@pytest.mark.parametrize("how", ["test", "val"])
def test_loops(run_config: Run, images: tuple[np.ndarray, np.ndarray], how: str, tmp_path: Path) -> None:
    """All calibrators in one run, each with a prefix of its own."""
    files = {name: tmp_path / "new" / f"{name}.json" for name in CALIBRATORS}
    metrics = [calibration(name, out_file=str(file), prefix=name) for name, file in files.items()]
    runner, found = run_config(how, **{f"{how}_evaluator": [IOU, *metrics]})
    loop = runner.test_loop if how == "test" else runner.val_loop
    P, y = foreground(images[0], CAR), masks_of(images[1], CAR)
    for (name, file), metric in zip(files.items(), loop.evaluator.metrics[1:], strict=True):
        expected, key = made(name).fit(P, y), FOUND.get(name, "threshold")
        assert {each: value for each, value in found.items() if each.startswith(f"{name}/")} == {
            f"{name}/{key}": getattr(expected, f"{key}_"),
            f"{name}/risk": expected.risk_,
            f"{name}/corrected_risk": expected.corrected_risk_,
            f"{name}/n_images": expected.n_images_,
        }
        for each in (metric.calibrator_, type(expected).load(file)):
            assert_same(each, expected, P)
    assert 0 < found["mIoU"] < 100


def test_a_class_by_name_that_is_not_on_all_images(
    run_config: Run, images: tuple[np.ndarray, np.ndarray]
) -> None:
    with pytest.warns(cm.DroppedImagesWarning, match=r"3 of 23 images have no pixel of the foreground"):
        runner, found = run_config(test_evaluator=[calibration("cra", "person")])
    P, y = foreground(images[0], PERSON), masks_of(images[1], PERSON)
    with pytest.warns(cm.DroppedImagesWarning):
        expected = made("cra").fit(P, y)
    assert_same(runner.test_loop.evaluator.metrics[0].calibrator_, expected, P)
    assert found["binary_conformal/n_images"] == 20
    refusing = CALIBRATORS["cra"] | {"on_empty": "raise"}
    first = int((y == 1).any(axis=(1, 2)).argmin())
    with pytest.raises(ValueError, match=f"image {first} has no pixel of the foreground"):
        run_config(test_evaluator=[calibration(k=PERSON, calibrator=refusing)])
    with pytest.raises(
        ValueError, match=r"foreground='lorry' is not one of the classes of the dataset, \['road'"
    ):
        run_config(test_evaluator=[calibration(k="lorry")])


@pytest.mark.parametrize("name", ["fnr", "cra", "coat", "aacrc"])
def test_evaluation_on_the_other_half(
    run_config: Run, images: tuple[np.ndarray, np.ndarray], name: str, tmp_path: Path
) -> None:
    file, half = str(tmp_path / "calibrator.json"), CALIBRATORS[name] | {"alpha": 0.4}
    part = {"subset": HALVES | {"part": "calibration"}}
    run_config(test_evaluator=[calibration(calibrator=half, out_file=file, **part)])
    order = np.random.default_rng(0).permutation(N_IMAGES)
    first, rest = sorted(order[: N_IMAGES // 2]), sorted(order[N_IMAGES // 2 :])
    P, y = foreground(images[0], CAR), masks_of(images[1], CAR)
    expected = made(name, alpha=0.4).fit(P[first], y[first])
    evaluation = {"type": "BinaryConformalEvaluation", "foreground": "car", "calibrator": file}
    runner, found = run_config(test_evaluator=[evaluation | {"subset": HALVES | {"part": "evaluation"}}])
    report = expected.evaluate(P[rest], y[rest])
    metric = runner.test_loop.evaluator.metrics[0]
    assert metric.report_.to_dict() == report.to_dict()
    assert found == {
        "binary_conformal_test/risk": report.empirical_risk,
        "binary_conformal_test/risk_low": report.interval[0],
        "binary_conformal_test/risk_high": report.interval[1],
        "binary_conformal_test/coverage": report.coverage,
        "binary_conformal_test/coverage_gap": report.coverage_gap,
        "binary_conformal_test/exceedance": report.exceedance,
        "binary_conformal_test/tail_risk": report.tail_risk,
        "binary_conformal_test/size": report.size,
        "binary_conformal_test/n_images": 12,
        "binary_conformal_test/alpha": 0.4,
    }


def test_beside_other_metrics(run_config: Run) -> None:
    """Two classes in one run need prefixes of their own; the others see what they saw."""
    _, alone = run_config(test_evaluator=[IOU])
    evaluators = [calibration(), {"type": "ConformalCalibration", "alpha": 0.2}, IOU]
    evaluators.append(calibration("cra", k="road", prefix="road"))
    _, found = run_config(test_evaluator=evaluators)
    assert alone.items() <= found.items()
    assert {"binary_conformal/threshold", "road/mass", "conformal/lambda_hat"} <= found.keys()


# MMSegmentation's own script


def test_two_ranks_give_the_bits_of_one(workspace: Workspace, images: tuple[np.ndarray, np.ndarray]) -> None:
    """An odd number of images: one is given to both ranks, to fill up the last round."""
    one_thread = Workspace(workspace.folder, workspace.environment | {"OMP_NUM_THREADS": "1"})
    names, outputs = ("fnr", "fpr", "cra", "at"), []
    for run, ranks in (("single", 1), ("double", 2)):
        evaluators = [calibration(name, out_file=f"{run}-{name}.json", prefix=name) for name in names]
        wrapper = {"type": "MMDistributedDataParallel", "device_ids": None} if ranks > 1 else None
        config = workspace.config(
            f"binary_{run}", test_evaluator=evaluators, model_wrapper_cfg=wrapper, log_level="INFO"
        )
        options = ["--cfg-options", "test_evaluator.2.calibrator.alpha=0.3"]
        outputs.append(one_thread.run_test_script(config, *options, ranks=ranks))
    for name in names:
        single, double = (
            json.loads((workspace.folder / f"{run}-{name}.json").read_text()) for run in ("single", "double")
        )
        assert single == double
    assert single["parameters"]["random_state"] == 3
    found = cm.CRACalibrator.load(workspace.folder / "double-cra.json")
    expected = made("cra", alpha=0.3).fit(foreground(images[0], CAR), masks_of(images[1], CAR))
    assert found.mass_ == pytest.approx(expected.mass_, abs=1e-4)  # the network has other threads
    assert (found.alpha, found.n_images_) == (0.3, N_IMAGES)
    for output in outputs:
        assert float(re.findall(r"cra/mass: (\S+)", output)[0]) == pytest.approx(found.mass_, abs=1e-4)


# What a metric makes of predictions


def calibrated(metric: Any, samples: Any = SAMPLES) -> tuple[Any, dict[str, float]]:
    metric.process({}, samples)
    found = metric.evaluate(len(samples))
    return metric.calibrator_, found


@pytest.mark.parametrize("name", CALIBRATORS)
def test_what_is_kept_of_images_is_picklable_and_small(name: str) -> None:
    metric = BinaryConformalCalibration(2, CALIBRATORS[name])
    metric.process({}, SAMPLES)
    metric.results = [pickle.loads(pickle.dumps(each)) for each in metric.results]
    assert len(metric.results) == len(SAMPLES)
    metric.evaluate(len(SAMPLES))
    P, y = foreground(LOGITS, 2), masks_of(LABELS, 2)
    assert_same(metric.calibrator_, made(name).fit(P, y), P)
    large = BinaryConformalCalibration(2, CALIBRATORS[name])
    X = torch.randn(4, 256, 256, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(1, 256, 256, dtype=torch.long)
    labels[0, :10] = 2
    large.process({}, [sample(X, labels)])
    n_looked_at = 246 * 256 if name == "fpr" else 10 * 256
    assert len(pickle.dumps(large.results[0])) < 4000 + n_looked_at * (8 if name == "cra" else 4)


@pytest.mark.parametrize("name", ["fnr", "cra"])
def test_one_output_channel(name: str) -> None:
    """MMSegmentation has taken the sigmoid: the map is the probability of class 1."""
    model = build_model(Config({"model": binary_model()}))
    raw = torch.randn(12, 1, 6, 7, generator=torch.Generator().manual_seed(3))
    labels = (torch.rand(12, 1, 6, 7, generator=torch.Generator().manual_seed(4)) < raw.sigmoid()).long()
    labels[:, :, 0] = 255
    data = [SegDataSample(gt_sem_seg=PixelData(data=y), metainfo={"ori_shape": (6, 7)}) for y in labels]
    given = [each.to_dict() for each in model.postprocess_result(raw, data)]
    found, _ = calibrated(BinaryConformalCalibration(1, CALIBRATORS[name]), given)
    P = torch.stack([each["seg_logits"]["data"][0] for each in given])
    assert torch.allclose(P, raw.sigmoid()[:, 0], atol=1e-6)
    expected = made(name).fit(P, labels[:, 0])
    assert_same(found, expected, P)
    evaluation = BinaryConformalEvaluation(1, found)
    evaluation.process({}, given)
    evaluation.evaluate(12)
    assert evaluation.report_.to_dict() == expected.evaluate(P, labels[:, 0]).to_dict()
    module = ConformalModule(torch.nn.Identity(), found, binary="probability")
    np.testing.assert_array_equal(module(P[:, None]).mask, expected.predict(P))


@pytest.mark.parametrize("inputs", ["probabilities", "scores"])
def test_other_numbers(inputs: str) -> None:
    maps = LOGITS.softmax(dim=1) * (1 if inputs == "probabilities" else 1.7)
    given = [sample(x, y[None]) for x, y in zip(maps, LABELS, strict=True)]
    with pytest.raises(ValueError, match=r"no seg_logits .* negative"):
        BinaryConformalCalibration(2).process({}, given)
    found, _ = calibrated(BinaryConformalCalibration(2, inputs=inputs), given)
    P = torch.cat([as_foreground(each[None], foreground=2, inputs=inputs) for each in maps])
    assert_same(found, cm.BinaryRiskCalibrator().fit(P, masks_of(LABELS, 2)), P)


def test_void_pixels_are_those_of_the_dataset() -> None:
    P, y = foreground(LOGITS, 2), masks_of(LABELS, 2)
    expected = made("fnr").fit(P, y)
    for index in (255, -1, 17):
        given = [sample(x, y[None].where(y != 255, index)) for x, y in zip(LOGITS, LABELS, strict=True)]
        found, _ = calibrated(BinaryConformalCalibration(2, CALIBRATORS["fnr"], ignore_index=index), given)
        assert_same(found, expected, P)
        evaluation = BinaryConformalEvaluation(2, found, ignore_index=index)
        evaluation.process({}, given)
        evaluation.evaluate(len(given))
        assert evaluation.report_.to_dict() == expected.evaluate(P, y).to_dict()
    given = [sample(x, y[None].clone()) for x, y in zip(LOGITS, LABELS, strict=True)]
    for each in given:
        each["gt_sem_seg"]["data"][0, 0, 0] = 254  # of the void pixels
    found, _ = calibrated(BinaryConformalCalibration(2, CALIBRATORS["fnr"], ignore_index=[254, 255]), given)
    assert_same(found, expected, P)
    with pytest.raises(ValueError, match=r"y holds label 255 .*ignore index \(None\)"):
        BinaryConformalCalibration(2, ignore_index=None).process({}, SAMPLES)
    with pytest.raises(ValueError, match="ignore_index=3 is one of the K = 4 classes"):
        BinaryConformalCalibration(2, ignore_index=3).process({}, SAMPLES)
    whole = [sample(x, y[None].where(y != 255, 0)) for x, y in zip(LOGITS, LABELS, strict=True)]
    found, _ = calibrated(BinaryConformalCalibration(2, CALIBRATORS["fnr"], ignore_index=None), whole)
    assert found.ignore_index is None
    assert_same(found, made("fnr").fit(P, LABELS == 2), P)


@pytest.mark.parametrize("name", ["fnr", "at"])
def test_groups_count_once(name: str) -> None:
    patients = [f"patient {i // 2}" for i in range(len(SAMPLES))]
    given = [each | {"patient": patient} for each, patient in zip(SAMPLES, patients, strict=True)]
    found, _ = calibrated(BinaryConformalCalibration(2, CALIBRATORS[name], group_key="patient"), given)
    P, y = foreground(LOGITS, 2), masks_of(LABELS, 2)
    expected = made(name).fit(P, y, groups=patients)
    assert_same(found, expected, P)
    evaluation = BinaryConformalEvaluation(2, found, group_key="patient")
    evaluation.process({}, given)
    evaluation.evaluate(len(given))
    assert evaluation.report_.to_dict() == expected.evaluate(P, y, groups=patients).to_dict()
    assert evaluation.report_.n_groups == 12
    without = BinaryConformalEvaluation(2, found)
    without.process({}, given)
    with pytest.warns(UserWarning, match="calibration was by groups, but evaluation counts images"):
        without.evaluate(len(given))


def test_nothing_of_the_caller_is_changed() -> None:
    mine = cm.CRACalibrator(alpha=0.2)
    found, _ = calibrated(BinaryConformalCalibration(2, mine, ignore_index=-1), [
        sample(x, y[None].where(y != 255, -1)) for x, y in zip(LOGITS, LABELS, strict=True)
    ])  # fmt: skip
    assert found is not mine
    assert (mine.ignore_index, found.ignore_index) == (255, 255)
    assert not mine.__sklearn_is_fitted__()
    before = [{name: field["data"].clone() for name, field in each.items()} for each in SAMPLES]
    fitted = made("fnr").fit(foreground(LOGITS, 2), masks_of(LABELS, 2))
    evaluation = BinaryConformalEvaluation(2, fitted, ignore_index=None)
    fitted.fit(foreground(LOGITS, 1), masks_of(LABELS, 1))  # in the middle of the test
    assert fitted.ignore_index == 255
    evaluation.process(
        {}, [sample(x, y[None].where(y != 255, 0)) for x, y in zip(LOGITS, LABELS, strict=True)]
    )
    evaluation.evaluate(len(SAMPLES))
    expected = made("fnr").fit(foreground(LOGITS, 2), masks_of(LABELS, 2))
    assert evaluation.report_.thresholds[0] == expected.threshold_
    assert all(
        torch.equal(each[name]["data"], data)
        for each, known in zip(SAMPLES, before, strict=True)
        for name, data in known.items()
    )


def test_bfloat16() -> None:
    given = [sample(x.bfloat16(), y[None]) for x, y in zip(LOGITS, LABELS, strict=True)]
    with pytest.warns(UserWarning, match="bfloat16"):
        found, _ = calibrated(BinaryConformalCalibration(2, CALIBRATORS["fnr"]), given)
    P = foreground(LOGITS.bfloat16(), 2)
    assert_same(found, made("fnr").fit(P, masks_of(LABELS, 2)), P)


# What is refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"foreground": True}, TypeError, "foreground must be the index or the name of a class, got True"),
        ({"foreground": 1.0}, TypeError, r"the index or the name of a class, got 1\.0"),
        ({"foreground": -1}, ValueError, "foreground must be at least 0"),
        ({"calibrator": {"type": "LAC"}}, ValueError, r"type must be one of \['BinaryRisk.*got 'LAC'"),
        ({"calibrator": {"type": "CRACalibrator", "alpha": 2}}, ValueError, "alpha"),
        ({"calibrator": {"type": "CRACalibrator", "alhpa": 0.1}}, TypeError, "alhpa"),
        ({"calibrator": "CRACalibrator"}, TypeError, r"calibrator must be dict\(type=...\) or one of"),
        ({"calibrator": cm.ConformalRiskCalibrator()}, TypeError, "calibrator must be dict"),
        ({"calibrator": cm.AACRCCalibrator(embedding=print)}, TypeError, "a model of your own needs all"),
        ({"calibrator": cm.ATCalibrator(predictor=print)}, TypeError, "a model of your own needs all"),
        ({"calibrator": {"type": "CRACalibrator", "ignore_index": 7}}, ValueError, "to the metric"),
        ({"ignore_index": "void"}, TypeError, "ignore_index must be an int"),
        ({"inputs": "probs"}, ValueError, "inputs must be one of"),
        ({"subset": {"fraction": 0.5, "seed": 0, "part": "test"}}, ValueError, "part must be one of"),
        ({"group_key": 3}, TypeError, "group_key must be the name"),
    ],
)
def test_settings_are_checked_before_the_test(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BinaryConformalCalibration(**{"foreground": 1} | options)


def test_images_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"foreground must be in \[0, 3\], got 4: the output has K = 4"):
        BinaryConformalCalibration(4).process({}, SAMPLES)
    wrong = sample(LOGITS[0], torch.full((1, 6, 7), 17))
    with pytest.raises(ValueError, match="y holds label 17"):
        BinaryConformalCalibration(2).process({}, [wrong])
    with pytest.raises(ValueError, match="foreground='car' is not one of the classes"):
        BinaryConformalCalibration("car").process({}, SAMPLES)
    logits = LOGITS[0].clone()
    logits[1, 2, 3] = torch.nan
    broken = sample(logits, LABELS[:1], pred_sem_seg=LOGITS[0].argmax(0, keepdim=True))
    with pytest.raises(ValueError, match="P holds NaN in image 0"):
        BinaryConformalCalibration(2).process({}, [broken])
    with pytest.raises(ValueError, match="was flipped"):
        BinaryConformalCalibration(2).process({}, [SAMPLES[0] | {"flip": True}])


def test_too_few_images() -> None:
    metric = BinaryConformalCalibration(2, {"type": "CRACalibrator", "alpha": 0.01})
    metric.process({}, SAMPLES)
    with pytest.raises(cm.InfeasibleRiskError, match="needs at least 99 calibration images, there are 24"):
        metric.evaluate(len(SAMPLES))
    trained = BinaryConformalCalibration(2, {"type": "ATCalibrator", "alpha": 0.01})
    trained.process({}, SAMPLES)
    with pytest.raises(cm.InfeasibleRiskError, match="12 images trained the thresholds"):
        trained.evaluate(len(SAMPLES))


def test_files_and_objects_that_are_no_calibrator_of_masks(tmp_path: Path) -> None:
    sets = cm.ConformalRiskCalibrator(inputs="logits", alpha=0.3).fit(LOGITS, LABELS)
    sets.save(tmp_path / "sets.json")
    (tmp_path / "other.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"sets\.json holds a ConformalRiskCalibrator: load it with"):
        BinaryConformalEvaluation(2, tmp_path / "sets.json")
    with pytest.raises(ValueError, match=r"other\.json is damaged or holds no calibrator"):
        BinaryConformalEvaluation(2, str(tmp_path / "other.json"))
    with pytest.raises(FileNotFoundError):
        BinaryConformalEvaluation(2, "no-such-file.json")
    with pytest.raises(
        TypeError, match=r"calibrator must be a path or one of .* got ConformalRiskCalibrator"
    ):
        BinaryConformalEvaluation(2, sets)
    with pytest.raises(ValueError, match="has seen no images yet"):  # NotFittedError
        BinaryConformalEvaluation(2, cm.CRACalibrator())
