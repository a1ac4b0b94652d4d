"""Segmentation models of other libraries, with random weights: their outputs calibrate as they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import monai.networks.nets
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision.models.segmentation as torchvision_models
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from torch.nn import functional
from transformers import SegformerConfig, SegformerForSemanticSegmentation

import conformask as cm
from conformask.integrations.torch import ConformalModule, as_probabilities, as_scores

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:::{library}")
    for library in (
        "torch.*",
        "torchvision.*",
        "transformers.*",
        "monai.*",
        "segmentation_models_pytorch.*",
        "timm.*",
    )
]

SIZE = (64, 96)


def torchvision_fcn() -> torch.nn.Module:
    return torchvision_models.fcn_resnet50(weights=None, weights_backbone=None, num_classes=4, aux_loss=True)


def torchvision_deeplab() -> torch.nn.Module:
    return torchvision_models.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)


def torchvision_lraspp() -> torch.nn.Module:
    return torchvision_models.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)


def smp_unet() -> torch.nn.Module:
    return smp.Unet("resnet18", encoder_weights=None, classes=4)


def smp_with_labels() -> torch.nn.Module:
    return smp.Unet("resnet18", encoder_weights=None, classes=4, aux_params={"classes": 2})


def smp_softmax() -> torch.nn.Module:
    return smp.Unet("resnet18", encoder_weights=None, classes=4, activation="softmax2d")


def segformer() -> torch.nn.Module:
    config = SegformerConfig(
        num_labels=4, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], decoder_hidden_size=16
    )
    return SegformerForSemanticSegmentation(config)


def monai_unet() -> torch.nn.Module:
    return monai.networks.nets.UNet(2, 3, 4, channels=(4, 8), strides=(2,))


MODELS: dict[Callable[[], torch.nn.Module], str] = {
    torchvision_fcn: "logits",
    torchvision_deeplab: "logits",
    torchvision_lraspp: "logits",
    smp_unet: "logits",
    smp_with_labels: "logits",
    smp_softmax: "probabilities",
    segformer: "logits",
    monai_unet: "logits",
}


def built(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    torch.manual_seed(0)
    return make().eval()


def assert_hardly_larger(found: torch.Tensor, expected: np.ndarray) -> None:
    """Sets of a module hold those of the kernels, and what another softmax might: random weights give near ties."""
    assert not (expected & ~found.numpy()).any()
    assert (expected != found.numpy()).mean() < 0.01


IMAGES = torch.randn(4, 3, *SIZE, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 4, (4, *SIZE), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_model(make: Callable[[], torch.nn.Module]) -> None:
    model, inputs = built(make), MODELS[make]
    with torch.no_grad():
        output = model(IMAGES)
    scores = as_scores(output, size=SIZE)
    assert scores.shape == (4, 4, *SIZE)
    calibrator = cm.ConformalRiskCalibrator(inputs=inputs, alpha=0.3).fit(scores, LABELS)
    p = as_probabilities(output, inputs, size=SIZE)
    assert torch.allclose(p.sum(dim=1), torch.ones(()), atol=1e-5)
    by_probabilities = cm.ConformalRiskCalibrator(alpha=0.3).fit(p, LABELS)
    assert calibrator.lambda_hat_ == pytest.approx(by_probabilities.lambda_hat_, abs=2e-6)
    module = ConformalModule(model, calibrator, size="input").eval()
    found = module(IMAGES)
    assert found.masks.shape == (4, 4, *SIZE)
    assert_hardly_larger(found.masks, calibrator.predict(scores))


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_binary_smp(activation: str | None) -> None:
    """Without an activation its one map is a logit; with a sigmoid it is not."""
    torch.manual_seed(0)
    model = smp.Unet("resnet18", encoder_weights=None, classes=1, activation=activation).eval()
    with torch.no_grad():
        output = model(IMAGES)
    with pytest.raises(ValueError, match="one class"):
        as_scores(output)
    binary = "logit" if activation is None else "probability"
    p = as_probabilities(output, binary=binary)
    expected = output.sigmoid() if activation is None else output
    assert torch.allclose(p[:, 1:], expected, atol=1e-6)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.3).fit(p, LABELS % 2)
    module = ConformalModule(model, calibrator, binary=binary).eval()
    assert_hardly_larger(module(IMAGES).masks, calibrator.predict(p))


def test_monai_volumes() -> None:
    torch.manual_seed(0)
    model = monai.networks.nets.UNet(3, 1, 3, channels=(4, 8), strides=(2,)).eval()
    volumes = MetaTensor(torch.randn(4, 1, 12, 20, 24))
    with torch.no_grad():
        logits = sliding_window_inference(volumes, (8, 16, 16), 2, model, overlap=0.25)
    assert isinstance(logits, MetaTensor)
    labels = MetaTensor(torch.randint(0, 3, (4, 12, 20, 24), generator=torch.Generator().manual_seed(1)))
    calibrator = cm.ConformalRiskCalibrator(inputs="logits", alpha=0.3).fit(logits, labels)
    plain = cm.ConformalRiskCalibrator(inputs="logits", alpha=0.3).fit(np.asarray(logits), np.asarray(labels))
    assert calibrator.lambda_hat_ == plain.lambda_hat_
    found = ConformalModule(model, calibrator).eval()(volumes.as_tensor()[:2, :, :8, :16, :16])
    assert found.masks.shape == (2, 3, 8, 16, 16)


def test_monai_one_hot_maps_are_probabilities_of_nothing() -> None:
    """After ``AsDiscrete`` every score is 0 or 1: sets are either the argmax or everything."""
    one_hot = functional.one_hot(LABELS, 4).movedim(-1, 1).float()
    wrong = (LABELS + (torch.rand(LABELS.shape, generator=torch.Generator().manual_seed(0)) < 0.5)) % 4
    calibrator = cm.ConformalRiskCalibrator(alpha=0.3).fit(one_hot, wrong)
    assert calibrator.lambda_hat_ == 1.0


def test_any_model_that_returns_labels_is_refused() -> None:
    class Labels(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return x.argmax(dim=1)

    calibrator = cm.ConformalRiskCalibrator(alpha=0.3).fit(
        torch.full((4, 3, 4, 4), 1 / 3), torch.zeros(4, 4, 4, dtype=int)
    )
    with pytest.raises(TypeError, match="label maps"):
        ConformalModule(Labels(), calibrator)(IMAGES)
