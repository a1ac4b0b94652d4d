"""MONAI: sets as transforms, and calibration during the runs of its evaluators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice, from_engine
from monai.networks.nets import UNet
from monai.transforms import (
    Activationsd,
    AsDiscrete,
    Compose,
    ConvertToMultiChannelBasedOnBratsClasses,
    CopyItemsd,
    EnsureChannelFirstd,
    Flip,
    Invertd,
    LoadImaged,
    MapTransform,
    SaveImaged,
    Spacingd,
    Transform,
)
from monai.utils import TransformBackends
from numpy.typing import NDArray
from run_monai_ranks import images as images_of_ranks
from sklearn.exceptions import NotFittedError

import conformask as cm
from conformask.integrations.monai import (
    ChannelwiseCalibrator,
    ConformalCalibrationHandler,
    ConformalSet,
    ConformalSetd,
    ConformalSetDict,
)

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:::{library}") for library in ("torch.*", "monai.*", "ignite.*")
]

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

K = 4
PAIR = from_engine(["pred", "label"])


def maps(n: int = 40, size: tuple[int, ...] = (8, 9), seed: int = 0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    X = np.moveaxis(rng.dirichlet(np.full(K, 0.5), size=(n, *size)), -1, 1).astype(np.float32)
    return X, (X.cumsum(axis=1) < rng.random((n, 1, *size))).sum(axis=1).clip(max=K - 1)


def channels(n: int = 40, size: tuple[int, ...] = (8, 9), seed: int = 0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    P = rng.random((n, 3, *size)).astype(np.float32)
    return P, rng.random(P.shape) < P


def fitted(size: tuple[int, ...] = (8, 9), alpha: float = 0.2) -> cm.ConformalRiskCalibrator:
    return cm.ConformalRiskCalibrator(alpha=alpha).fit(*maps(size=size))


# Transforms


@pytest.mark.parametrize("size", [(8, 9), (4, 8, 9), (4, 4, 9)])  # of the last D = K
@pytest.mark.parametrize("output", ["masks", "set_size", "varisco"])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, MetaTensor])
def test_what_is_made(size: tuple[int, ...], output: str, kind: Callable[..., Any]) -> None:
    calibrator, (X, _) = fitted(size), maps(1, size, seed=1)
    expected = getattr(calibrator, output.replace("masks", "predict"))(X)
    found = ConformalSet(calibrator, output)(kind(X[0]))
    assert type(found) is (
        np.ndarray if kind is np.asarray else MetaTensor if kind is MetaTensor else torch.Tensor
    )
    np.testing.assert_array_equal(np.asarray(found), expected[0] if output == "masks" else expected)
    assert found.shape == ((K, *size) if output == "masks" else (1, *size))  # channels first, as MONAI has it
    dtypes = {"masks": "bool", "set_size": "uint16" if kind is np.asarray else "int16", "varisco": "float32"}
    assert str(found.dtype).removeprefix("torch.") == dtypes[output]


def test_meta_data_are_kept() -> None:
    X, _ = maps(1, (4, 8, 9))
    affine = torch.tensor([[2.0, 0, 0, 5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    given = MetaTensor(X[0], affine=affine, meta={"filename_or_obj": "case_7.nii.gz"})
    flip = Flip(spatial_axis=0)
    flipped = flip(given)
    found = ConformalSet(fitted((4, 8, 9)))(flipped)
    assert torch.equal(found.affine, flipped.affine)
    assert found.meta["filename_or_obj"] == "case_7.nii.gz"
    assert [each["class"] for each in found.applied_operations] == ["Flip"]
    back = flip.inverse(found)
    np.testing.assert_array_equal(np.asarray(back), fitted((4, 8, 9)).predict(X)[0])
    assert torch.equal(back.affine, affine)
    assert torch.equal(given.as_tensor(), torch.from_numpy(X[0]))  # nothing is changed in place


def test_they_are_transforms_of_monai() -> None:
    calibrator = fitted()
    single, mapped = ConformalSet(calibrator), ConformalSetd("pred", calibrator)
    assert isinstance(single, Transform)
    assert isinstance(mapped, MapTransform)
    assert ConformalSetDict is ConformalSetd
    assert single.backend == mapped.backend == [TransformBackends.TORCH, TransformBackends.NUMPY]


def test_dictionaries() -> None:
    X, _ = maps(3)
    calibrator = fitted()
    chain = Compose(
        [
            CopyItemsd(keys="pred", names=["sets", "sizes"], times=2),
            ConformalSetd(keys=("sets", "sizes"), calibrator=calibrator, output=["masks", "set_size"]),
        ]
    )
    batch = {"pred": MetaTensor(X), "name": ["a", "b", "c"]}
    found = [chain(each) for each in decollate_batch(batch)]
    np.testing.assert_array_equal(np.stack([each["sets"] for each in found]), calibrator.predict(X))
    np.testing.assert_array_equal(np.stack([each["sizes"] for each in found])[:, 0], calibrator.set_size(X))
    np.testing.assert_array_equal(np.stack([each["pred"] for each in found]), X)
    assert [each["name"] for each in found] == ["a", "b", "c"]
    given = {"pred": X[0]}
    with pytest.raises(KeyError, match="other"):
        ConformalSetd(["pred", "other"], calibrator)(given)
    lenient = ConformalSetd(["other", "pred"], calibrator, ["varisco", "masks"], allow_missing_keys=True)
    np.testing.assert_array_equal(lenient(given)["pred"], calibrator.predict(X[:1])[0])
    assert given["pred"] is not lenient(given)["pred"]


@pytest.mark.parametrize("kind", ["sets", "channels", "fnr", "cra", "at", "classes"])
def test_files_and_bundles(kind: str, tmp_path: Path) -> None:
    """A config names the file; what class it holds, the file says."""
    (X, labels), (P, y) = maps(), channels()
    calibrator: Any = {
        "sets": lambda: cm.ConformalRiskCalibrator(alpha=0.2).fit(X, labels),
        "channels": lambda: ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=0.2)).fit(P, y),
        "fnr": lambda: cm.BinaryRiskCalibrator(alpha=0.2).fit(P[:, 0], y[:, 0]),
        "cra": lambda: cm.CRACalibrator(alpha=0.2).fit(P[:, 0], y[:, 0]),
        "at": lambda: cm.ATCalibrator(alpha=0.2).fit(P[:, 0], y[:, 0]),
        "classes": lambda: cm.BinaryRiskCalibrator(alpha=0.2).fit(X, labels, classes=[1, 3]),
    }[kind]()
    calibrator.save(tmp_path / "calibrator.json")
    config = {
        "_target_": "conformask.integrations.monai.ConformalSetd",
        "keys": "pred",
        "calibrator": str(tmp_path / "calibrator.json"),
    }
    transform = ConfigParser({"set": config}).get_parsed_content("set")
    given, expected = {
        "sets": lambda: (X[0], calibrator.predict(X[:1])[0]),
        "channels": lambda: (P[0], calibrator.predict(P[:1])[0]),
        "classes": lambda: (X[0], calibrator.predict(X[:1])),
    }.get(kind, lambda: (P[0, :1], calibrator.predict(P[:1, 0])))()
    found = transform({"pred": torch.from_numpy(given)})["pred"]
    assert found.dtype == torch.bool
    np.testing.assert_array_equal(found.numpy(), expected)


def test_from_file_to_file(tmp_path: Path) -> None:
    """Read, resampled, predicted, brought back to the grid of the file, made to sets, written: with its geometry."""
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([-2.0, 3, 4, 1])
    affine[:3, 3] = [10, -20, 30]
    image = np.random.default_rng(0).normal(size=(10, 8, 6)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / "case.nii.gz")
    resample = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Spacingd("image", pixdim=(2, 2, 2)),
        ]
    )
    [batch] = DataLoader(Dataset([{"image": tmp_path / "case.nii.gz"}], resample), batch_size=1)
    assert batch["image"].shape[2:] != image.shape
    logits = torch.cat([batch["image"] * by for by in (0.5, -1.0, 2.0, 0.0)], dim=1)
    batch["pred"] = MetaTensor(
        logits.as_tensor(), affine=batch["image"].affine[0], meta=dict(batch["image"].meta)
    )
    back = Compose(
        [
            Invertd("pred", resample, orig_keys="image", nearest_interp=False, to_tensor=True),
            Activationsd("pred", softmax=True),
            CopyItemsd("pred", names="p"),
            ConformalSetd("pred", fitted((4, 8, 9))),
            SaveImaged(
                "pred", output_dir=tmp_path, output_postfix="sets", separate_folder=False, print_log=False
            ),
        ]
    )
    found = back(decollate_batch(batch)[0])
    assert found["pred"].shape == (K, *image.shape)
    np.testing.assert_array_equal(
        np.asarray(found["pred"]), fitted((4, 8, 9)).predict(found["p"].numpy()[None])[0]
    )
    written = nibabel.load(tmp_path / "case_sets.nii.gz")
    np.testing.assert_allclose(written.affine, affine)
    np.testing.assert_array_equal(np.moveaxis(written.get_fdata(), -1, 0), np.asarray(found["pred"]))


@NEEDS_CUDA
def test_on_a_gpu() -> None:
    X, y = maps()
    calibrator = fitted()
    given = MetaTensor(X[0], affine=np.diag([2.0, 2, 1, 1])).cuda()
    for output in ("masks", "set_size", "varisco"):
        found = ConformalSet(calibrator, output)(given)
        assert found.device.type == "cuda"
        assert torch.equal(found.cpu().as_tensor(), ConformalSet(calibrator, output)(given.cpu()).as_tensor())
    handler = ConformalCalibrationHandler(cm.ConformalRiskCalibrator(alpha=0.2), output_transform=PAIR)
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run([{"pred": torch.from_numpy(X).cuda(), "label": torch.from_numpy(y[:, None]).float().cuda()}])
    assert handler.calibrator_.lambda_hat_ == calibrator.lambda_hat_
    (P, masks), channelwise = channels(), ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=0.2))
    found = channelwise.fit(torch.from_numpy(P).cuda(), torch.from_numpy(masks).cuda())
    np.testing.assert_array_equal(found.predict(torch.from_numpy(P).cuda()), found.predict(P))


def test_what_transforms_refuse(tmp_path: Path) -> None:
    calibrator, (P, y), (X, _) = fitted(), channels(), maps(4)
    binary = cm.BinaryRiskCalibrator(alpha=0.2).fit(P[:, 0], y[:, 0])
    for unfitted in (cm.ConformalRiskCalibrator(), cm.BinaryRiskCalibrator(), ChannelwiseCalibrator()):
        with pytest.raises(NotFittedError):
            ConformalSet(unfitted)
    with pytest.raises(TypeError, match="calibrator must be a path or one of"):
        ConformalSet(cm.TemperatureScaler())
    with pytest.raises(FileNotFoundError):
        ConformalSet(tmp_path / "nowhere.json")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"other\.json is damaged or holds no calibrator"):
        ConformalSet(str(tmp_path / "other.json"))
    with pytest.raises(ValueError, match="output must be one of"):
        ConformalSet(calibrator, output="mask")
    with pytest.raises(ValueError, match="varisco' is of sets of classes: BinaryRiskCalibrator makes masks"):
        ConformalSetd("pred", binary, output="varisco")
    with pytest.raises(ValueError, match="decollate batches first"):
        ConformalSet(calibrator)(X[0, 0])
    with pytest.raises(ValueError, match="K = 3"):
        ConformalSet(calibrator)(X[0, :3])
    with pytest.raises(ValueError, match=r"img has 3 channels.*ChannelwiseCalibrator"):
        ConformalSet(binary)(P[0])
    with pytest.raises(TypeError, match="got list"):
        ConformalSet(calibrator)([1])


# The handler


class Passing(torch.nn.Module):
    """A model whose input is what it says."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


def evaluator(
    X: NDArray, y: NDArray, handler: Any, *, decollate: bool = True, batch_size: int = 6, **more: Any
) -> SupervisedEvaluator:
    """An evaluator of MONAI over predictions and labels with a channel axis."""
    images = [
        {"image": MetaTensor(x), "label": MetaTensor(labels), "patient": f"p{i // 2}"}
        for i, (x, labels) in enumerate(zip(X, y, strict=True))
    ]
    options: dict[str, Any] = {"network": Passing(), **more}
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(images), batch_size=batch_size),
        val_handlers=[handler],
        decollate=decollate,
        **options,
    )


@pytest.mark.parametrize("decollate", [True, False])
@pytest.mark.parametrize("size", [(8, 9), (4, 8, 9)])
def test_evaluators_calibrate(decollate: bool, size: tuple[int, ...]) -> None:
    X, y = maps(size=size)
    y[:, :2] = 255
    handler = ConformalCalibrationHandler(cm.ConformalRiskCalibrator(alpha=0.2), output_transform=PAIR)
    # Labels as LoadImaged gives them: with a channel axis, in float32.
    engine = evaluator(X, y[:, None].astype(np.float32), handler, decollate=decollate)
    engine.run()
    expected = cm.ConformalRiskCalibrator(alpha=0.2).fit(X, y)
    found = handler.calibrator_
    assert found.lambda_hat_ == expected.lambda_hat_
    assert engine.state.metrics == {
        "conformal_lambda_hat": expected.lambda_hat_,
        "conformal_risk": expected.risk_,
        "conformal_corrected_risk": expected.corrected_risk_,
        "conformal_n_images": 40,
    }
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))


def test_beside_metrics_and_behind_postprocessing() -> None:
    """A real network, its softmax as postprocessing; Dice wants other transforms of the same output."""
    torch.manual_seed(0)
    network = UNet(2, 1, K, channels=(4, 8), strides=(2,)).eval()
    images = np.random.default_rng(0).normal(size=(20, 1, 16, 16)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, K, (20, 1, 16, 16))
    discrete = AsDiscrete(argmax=True, to_onehot=K), AsDiscrete(to_onehot=K)
    dice = MeanDice(
        output_transform=lambda output: tuple(
            [to(x) for x in part] for to, part in zip(discrete, PAIR(output), strict=True)
        )
    )
    handler = ConformalCalibrationHandler(
        cm.ConformalRiskCalibrator(alpha=0.2), output_transform=PAIR, name="crc"
    )
    engine = evaluator(
        images,
        labels,
        handler,
        network=network,
        postprocessing=Activationsd(keys="pred", softmax=True),
        key_val_metric={"dice": dice},
    )
    engine.run()
    with torch.no_grad():
        p = network(torch.from_numpy(images)).softmax(dim=1)
    expected = cm.ConformalRiskCalibrator(alpha=0.2).fit(p, labels[:, 0])
    assert handler.calibrator_.lambda_hat_ == pytest.approx(expected.lambda_hat_, abs=1e-5)
    assert {"dice", "crc_lambda_hat"} <= set(engine.state.metrics)


def test_each_run_starts_anew() -> None:
    X, y = maps()
    scale = {"by": 1.0}

    class Training(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image * scale["by"]

    given = cm.ConformalRiskCalibrator(alpha=0.2, inputs="logits")
    handler = ConformalCalibrationHandler(given, output_transform=PAIR)
    engine = evaluator(np.log(X), y[:, None], handler, network=Training())
    engine.run()
    first = handler.calibrator_
    level = first.lambda_hat_
    scale["by"] = 2.0
    engine.run(global_epoch=2)
    second = handler.calibrator_
    assert (first.n_images_, second.n_images_) == (40, 40)
    assert first.lambda_hat_ == level != second.lambda_hat_
    assert (
        second.lambda_hat_
        == cm.ConformalRiskCalibrator(alpha=0.2, inputs="logits").fit(2 * np.log(X), y).lambda_hat_
    )
    with pytest.raises(NotFittedError):
        given.lambda_hat_  # noqa: B018 - it stays as it was
    # Several epochs of one run look at the same images: the last counts.
    plain = Engine(lambda engine, batch: batch)
    handler.attach(plain)
    plain.run([{"pred": np.log(X), "label": y[:, None]}], max_epochs=3)
    assert handler.calibrator_.n_images_ == 40


def test_a_run_that_fails_keeps_what_was_found() -> None:
    X, y = maps()
    handler = ConformalCalibrationHandler(cm.ConformalRiskCalibrator(alpha=0.2), output_transform=PAIR)
    engine = evaluator(X, y[:, None], handler)
    engine.run()
    before = handler.calibrator_
    wrong = X.copy()
    wrong[13, 0, 0, 0] = np.nan  # the second of the third batch of six
    with pytest.raises(ValueError, match=r"iteration 3: .*image 1"):
        evaluator(wrong, y[:, None], handler).run()
    assert handler.calibrator_ is before


def test_labels() -> None:
    """With and without a channel axis, one-hot, as floats and booleans: all mean the same."""
    X, y = maps()
    expected = cm.ConformalRiskCalibrator(alpha=0.2).fit(X, y).lambda_hat_
    one_hot = np.stack([AsDiscrete(to_onehot=K)(labels[None]) for labels in y])
    assert one_hot.shape == X.shape
    for labels in (
        y[:, None],
        y[:, None].astype(np.float64),
        y[:, None].astype(np.uint8),
        torch.from_numpy(y[:, None]),
        one_hot,
        one_hot.astype(bool),
        one_hot.astype(np.uint8),
        np.broadcast_to(y[:, None, ::-1], y[:, None].shape)[:, :, ::-1],  # negative strides, read-only
    ):
        handler = ConformalCalibrationHandler(cm.ConformalRiskCalibrator(alpha=0.2), output_transform=PAIR)
        engine = Engine(lambda engine, batch: batch)
        handler.attach(engine)
        engine.run([{"pred": X[:25], "label": labels[:25]}, {"pred": X[25:], "label": labels[25:]}])
        assert handler.calibrator_.lambda_hat_ == expected


@pytest.mark.parametrize("grouped", [False, True])
def test_images_of_different_sizes(grouped: bool) -> None:
    """After Invertd each image is on its own grid."""
    parts = [maps(1, (6 + i % 3, 7), seed=i) for i in range(24)]
    groups = [f"p{i // 3}" for i in range(24)] if grouped else None
    pairs = [
        {"pred": torch.from_numpy(X[0]), "label": torch.from_numpy(y), "patient": f"p{i // 3}"}
        for i, (X, y) in enumerate(parts)
    ]
    calibrator = cm.ConformalRiskCalibrator(alpha=0.2)
    handler = ConformalCalibrationHandler(
        calibrator, output_transform=PAIR, group_transform=from_engine("patient") if grouped else None
    )
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run([pairs[i : i + 4] for i in range(0, 24, 4)])
    expected = calibrator.fit([X[0] for X, _ in parts], [y[0] for _, y in parts], groups=groups)
    assert handler.calibrator_.lambda_hat_ == expected.lambda_hat_
    assert handler.calibrator_.n_images_ == (8 if grouped else 24)


@pytest.mark.parametrize("decollate", [True, False])
@pytest.mark.parametrize("kind", ["sets", "fnr", "channels"])
def test_patients_count_once(decollate: bool, kind: str) -> None:
    (X, labels), (P, y) = maps(), channels()
    groups = [f"p{i // 2}" for i in range(40)]
    given, truth, calibrator = {
        "sets": (X, labels[:, None], cm.ConformalRiskCalibrator(alpha=0.2)),
        "fnr": (P[:, :1], y[:, :1], cm.BinaryRiskCalibrator(alpha=0.2)),
        "channels": (P, y, ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=0.2))),
    }[kind]
    handler = ConformalCalibrationHandler(
        calibrator, output_transform=PAIR, group_transform=from_engine("patient")
    )
    evaluator(given, truth.astype(np.float32), handler, decollate=decollate, batch_size=7).run()
    if kind == "channels":
        calibrator.fit(P, y, groups=groups)
    else:
        calibrator.fit(X if kind == "sets" else P[:, 0], labels if kind == "sets" else y[:, 0], groups=groups)
    name = "lambda_hat_" if kind == "sets" else "threshold_"
    np.testing.assert_array_equal(getattr(handler.calibrator_, name), getattr(calibrator, name))
    assert np.max(handler.calibrator_.n_images_) == 20


@pytest.mark.parametrize("kind", ["fnr", "fpr", "cra"])
def test_one_channel(kind: str, tmp_path: Path) -> None:
    (P, y), calibrator = (
        channels(),
        {
            "fnr": cm.BinaryRiskCalibrator(alpha=0.2),
            "fpr": cm.BinaryRiskCalibrator(alpha=0.2, risk="fpr"),
            "cra": cm.CRACalibrator(alpha=0.2),
        }[kind],
    )
    path = tmp_path / "new" / "calibrator.json"
    handler = ConformalCalibrationHandler(calibrator, output_transform=PAIR, save_path=path)
    engine = evaluator(P[:, :1], y[:, :1].astype(np.float32), handler)
    engine.run()
    expected = calibrator.fit(P[:, 0], y[:, 0])
    assert engine.state.metrics["conformal_threshold"] == expected.threshold_
    np.testing.assert_array_equal(ConformalSet(path)(P[0, :1]), expected.predict(P[:1, 0]))


def test_channels_of_brats(tmp_path: Path) -> None:
    """Tumour core, whole tumour and enhancing tumour, as MONAI makes them of the labels of BraTS."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 4], size=(30, 1, 6, 7, 5), p=[0.4, 0.2, 0.2, 0.2])
    y = np.stack([ConvertToMultiChannelBasedOnBratsClasses()(torch.from_numpy(each)) for each in labels])
    assert y.shape == (30, 3, 6, 7, 5)
    assert (y.sum(axis=1) > 1).any()
    P = np.where(y, 1 - rng.random(y.shape) ** 2, rng.random(y.shape) ** 2).astype(np.float32)
    calibrator = ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=0.2), names=["TC", "WT", "ET"])
    handler = ConformalCalibrationHandler(
        calibrator, output_transform=PAIR, save_path=tmp_path / "brats.json"
    )
    engine = evaluator(P, y.astype(np.float32), handler, batch_size=1)
    engine.run()
    expected = calibrator.fit(P, y)
    for name, threshold in zip(["TC", "WT", "ET"], expected.threshold_, strict=True):
        assert engine.state.metrics[f"conformal_threshold_{name}"] == threshold
    assert engine.state.metrics["conformal_corrected_risk"] <= 0.2
    masks = ConformalSetd("pred", tmp_path / "brats.json")({"pred": MetaTensor(P[0])})["pred"]
    np.testing.assert_array_equal(np.asarray(masks), expected.predict(P[:1])[0])


def test_profiles_are_saved_if_asked(tmp_path: Path) -> None:
    X, y = maps()
    for save_profiles in (False, True):
        path = tmp_path / f"{save_profiles}.json"
        handler = ConformalCalibrationHandler(
            cm.ConformalRiskCalibrator(alpha=0.2),
            output_transform=PAIR,
            save_path=path,
            save_profiles=save_profiles,
        )
        evaluator(X, y[:, None], handler).run()
        same = cm.ConformalRiskCalibrator.load(path)
        assert same.lambda_hat_ == handler.calibrator_.lambda_hat_
        if save_profiles:
            assert same.recalibrate(alpha=0.3).n_images_ == 40
        else:
            with pytest.raises(ValueError, match="profiles"):
                same.recalibrate(alpha=0.3)


def test_too_few_images() -> None:
    X, y = maps(5)
    handler = ConformalCalibrationHandler(cm.ConformalRiskCalibrator(alpha=0.1), output_transform=PAIR)
    with pytest.raises(cm.InfeasibleRiskError, match="needs at least 9 calibration images, there are 5"):
        evaluator(X, y[:, None], handler).run()
    assert not hasattr(handler, "calibrator_")
    full = cm.ConformalRiskCalibrator(alpha=0.1, on_infeasible="full")
    handler = ConformalCalibrationHandler(full, output_transform=PAIR)
    with pytest.warns(cm.InfeasibleRiskWarning):
        evaluator(X, y[:, None], handler).run()
    assert handler.calibrator_.lambda_hat_ == 1


def test_adaptive_lambdas() -> None:
    X, y = maps()
    calibrator = cm.ConformalRiskCalibrator(alpha=0.2, adaptive=lambda X, images=None: np.full(len(X), 0.5))
    handler = ConformalCalibrationHandler(calibrator, output_transform=PAIR)
    engine = evaluator(X, y[:, None], handler)
    engine.run()
    assert engine.state.metrics["conformal_correction"] == calibrator.fit(X, y).correction_


def seen(pred: Any, label: Any, calibrator: Any = None, **options: Any) -> Any:
    handler = ConformalCalibrationHandler(calibrator, output_transform=PAIR, **options)
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run([{"pred": pred, "label": label}])
    return handler.calibrator_


X_, Y_ = maps(12)
P_, M_ = channels(12)
BINARY = cm.BinaryRiskCalibrator()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((X_, Y_), ValueError, r"label must be a batch \(B, C, H, W\).*image 0 has shape \(8, 9\)"),
        (
            (X_, Y_[:, None] + 0.5),
            TypeError,
            r"label must hold integer labels in image 0, .* [0-3]\.5 at pixel \(0, 0, 0\): .*nearest",
        ),
        (
            (X_, Y_[:, None, :, :7]),
            ValueError,
            r"label must have shape \(1, 8, 9\), or be one-hot.*\(1, 8, 7\)",
        ),
        ((X_, np.ones_like(X_)), ValueError, r"K = 4 channels.*exactly one.*ChannelwiseCalibrator"),
        ((X_, np.zeros_like(X_)), ValueError, "exactly one of them is 1"),
        ((X_[:, :1], Y_[:, None]), ValueError, "pred has one channel.*BinaryRiskCalibrator"),
        ((X_[:11], Y_[:, None]), ValueError, "there are 11 predictions, but 12 labels"),
        ((X_.argmax(1)[:, None], Y_[:, None]), ValueError, "pred has one channel"),
        ((X_, Y_[:, None] + 4), ValueError, "iteration 1: y holds label"),
        ((P_, M_, BINARY), ValueError, r"a calibrator of one channel needs .*ChannelwiseCalibrator"),
        ((P_[:, :1], M_[:, :2], BINARY), ValueError, r"got \(1, 8, 9\) and \(2, 8, 9\)"),
        ((P_[:, :1] * 9, M_[:, :1], BINARY), ValueError, "iteration 1: "),
        (
            (X_, Y_[:, None], ChannelwiseCalibrator()),
            ValueError,
            r"label must have the shape of pred.*to_onehot=K",
        ),
        (([], []), ValueError, "the run has seen no image"),
        ((1.5, 2), ValueError, "pred must be a batch"),
    ],
)
def test_what_the_handler_refuses(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        seen(*given)


def test_parameters_are_checked_before_the_run() -> None:
    with pytest.raises(TypeError, match="calibrator must be one of"):
        ConformalCalibrationHandler("lac")
    with pytest.raises(ValueError, match="alpha"):
        ConformalCalibrationHandler(cm.ConformalRiskCalibrator(alpha=2))
    for trained in (cm.ATCalibrator(), ChannelwiseCalibrator(cm.COATCalibrator())):
        with pytest.raises(TypeError, match="trains a model of thresholds"):
            ConformalCalibrationHandler(trained)
    with pytest.raises(TypeError, match="output_transform must be callable"):
        ConformalCalibrationHandler(output_transform=["pred", "label"])
    with pytest.raises(TypeError, match="group_transform must be callable"):
        ConformalCalibrationHandler(group_transform="patient")
    with pytest.raises(ValueError, match="BinaryRiskCalibrator saves none"):
        ConformalCalibrationHandler(cm.BinaryRiskCalibrator(), save_profiles=True)
    engine = Engine(lambda engine, batch: batch)
    ConformalCalibrationHandler().attach(engine)  # without output_transform
    with pytest.raises(TypeError, match=r"iteration 1: output_transform must give a pair.*it gave dict of 2"):
        engine.run([{"pred": X_, "label": Y_}])
    with pytest.raises(ValueError, match="group_transform gave 1 groups for 12 images"):
        seen(X_, Y_[:, None], group_transform=lambda batch: ["a"])


def test_the_order_of_handlers() -> None:
    """Its numbers are there for handlers that come after it."""
    logged = []
    X, y = maps()
    engine = evaluator(X, y[:, None], ConformalCalibrationHandler(output_transform=PAIR))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: logged.append(dict(engine.state.metrics)))
    engine.run()
    assert "conformal_lambda_hat" in logged[0]


@pytest.mark.parametrize("how", [[], ["idle"]])
def test_ranks_are_merged(how: list[str], tmp_path: Path) -> None:
    """Two processes by gloo, with 13 and 12 images, or one with none: the same as one process, on both."""
    script = Path(__file__).with_name("run_monai_ranks.py")
    paths = os.pathsep.join([str(Path(cm.__file__).parents[1]), str(script.parent)])
    done = subprocess.run(
        [sys.executable, str(script), "2", str(tmp_path), *how],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    X, y = images_of_ranks()
    sets = cm.ConformalRiskCalibrator(alpha=0.2).fit(X, y)
    binary = cm.BinaryRiskCalibrator(alpha=0.2)
    masks = y[:, None] == np.arange(3)[:, None, None]
    each = ChannelwiseCalibrator(binary).fit(X, masks)
    assert found == {"sets": [[sets.lambda_hat_]] * 2, "channels": [each.threshold_.tolist()] * 2}
    assert cm.ConformalRiskCalibrator.load(tmp_path / "sets.json").n_images_ == 25
    np.testing.assert_array_equal(
        ChannelwiseCalibrator.load(tmp_path / "channels.json").predict(X), each.predict(X)
    )
