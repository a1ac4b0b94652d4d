"""Tensors of labels as floats: each reader takes and refuses what the readers of arrays and files do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import conformask as cm
from conformask._torch_labels import whole_labels
from conformask.adaptive import ChannelwiseCalibrator
from conformask.integrations.local_temperature import LocalTemperature, fit_local_temperature
from float_labels import LARGE, WRONG, refusal, with_one

RNG = np.random.default_rng(0)
X = RNG.dirichlet(np.ones(3), (6, 5, 6)).transpose(0, 3, 1, 2).astype(np.float32)
Y = np.where(RNG.random((6, 5, 6)) < 0.7, X.argmax(axis=1), 2)
MAPS = torch.from_numpy(X)
BEFORE = cm.ConformalRiskCalibrator(alpha=0.3).fit(X, Y)

Reader = Callable[[torch.Tensor], Any]


def profiles(y: torch.Tensor) -> Any:
    return cm.profile(MAPS.bfloat16(), y, inputs="scores").losses("miscoverage", 0.5).tolist()


def coverage(y: torch.Tensor) -> Any:
    scored = cm.ConformalRiskCalibrator(alpha=0.3, inputs="scores").fit(MAPS.bfloat16(), Y)
    return scored.evaluate(MAPS.bfloat16(), y).empirical_risk


def local_temperature(y: torch.Tensor) -> Any:
    batches = [(MAPS[i : i + 1].log(), y[i : i + 1]) for i in range(len(y))]
    return fit_local_temperature(LocalTemperature(3, image_channels=0, random_state=0), batches, epochs=1)


def monai(y: torch.Tensor) -> Any:
    pytest.importorskip("monai")
    from conformask.integrations.monai._images import batches

    return [labels.tolist() for _, labels in batches((MAPS, y[:, None]), BEFORE)]


def monai_binary(y: torch.Tensor) -> Any:
    pytest.importorskip("monai")
    from conformask.integrations.monai._images import batches

    return [labels.tolist() for _, labels in batches((MAPS[:, :1], y[:, None]), cm.BinaryRiskCalibrator(0.3))]


def monai_channels(y: torch.Tensor) -> Any:
    pytest.importorskip("monai")
    from conformask.integrations.monai._images import batches

    channelwise = ChannelwiseCalibrator(cm.BinaryRiskCalibrator(0.3))
    return [labels.tolist() for _, labels in batches((MAPS[:, :1], y[:, None]), channelwise)]


READERS: list[Reader] = [profiles, coverage, local_temperature, monai, monai_binary, monai_channels]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_whole_numbers_are_labels(read: Reader) -> None:
    expected = read(torch.from_numpy(Y))
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        assert read(torch.from_numpy(Y).to(dtype)) == expected


@pytest.mark.parametrize("bad", WRONG)
@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_other_floats_are_refused_with_pixel_and_value(read: Reader, bad: float) -> None:
    y = torch.from_numpy(with_one(Y, bad, 4, 3, 2))
    with pytest.raises(TypeError, match=rf"must hold integer labels.*float64, {refusal(bad)}"):
        read(y)


def test_large_whole_numbers_are_labels() -> None:
    found = whole_labels(torch.from_numpy(with_one(Y, LARGE, 4, 3, 2)), "y")
    assert found[4, 3, 2] == int(LARGE)
    with pytest.raises(TypeError, match=refusal(1.5, 3, 2, between=" in image 11")):
        whole_labels(torch.from_numpy(with_one(Y, 1.5, 4, 3, 2)), "y", first=7)
