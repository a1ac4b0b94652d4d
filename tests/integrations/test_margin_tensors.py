"""Margins of tensors are those of their arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import conformask as cm


def shapes() -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(0)
    far = np.hypot(*(np.mgrid[:12, :12] - 6)[:, None] + rng.uniform(-2, 2, (2, 30, 1, 1)))
    return far + rng.normal(0, 0.7, far.shape) < 3, (far < 3).astype(np.uint8)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_tensors_are_taken_as_arrays(dtype: torch.dtype) -> None:
    masks, y = shapes()
    known = cm.MarginCalibrator(0.2, side="both").fit(masks, y, spacing=(0.5, 0.75))
    given, labels = torch.from_numpy(masks).to(dtype), torch.from_numpy(y)
    spacing = torch.tensor([0.5, 0.75])
    fitted = cm.MarginCalibrator(0.2, side="both").fit(given, labels, spacing=spacing)
    assert np.array_equal(fitted.scores_, known.scores_)
    found = fitted.predict(given, spacing=spacing)
    assert np.array_equal(found.outer, known.predict(masks, spacing=(0.5, 0.75)).outer)
    by_image = cm.MarginCalibrator(0.2, side="both").fit(
        list(given), list(labels), spacing=[spacing.double()] * 30
    )
    assert np.array_equal(by_image.scores_, known.scores_)
    report = fitted.evaluate(given, labels, spacing=spacing)
    assert report.to_dict() == known.evaluate(masks, y, spacing=(0.5, 0.75)).to_dict()


def test_probabilities_are_refused() -> None:
    masks, y = shapes()
    for given in (torch.from_numpy(masks).float(), torch.from_numpy(masks).bfloat16()):
        with pytest.raises(
            TypeError, match=r"masks must be boolean or integer, got dtype torch\..*masks >= 0\.5"
        ):
            cm.MarginCalibrator().fit(given, torch.from_numpy(y))
