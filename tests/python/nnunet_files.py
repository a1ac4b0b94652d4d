"""Files in nnU-Net's layout, as its own writers make them: scores padded where images were cropped, labels as NIfTI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AFFINE",
    "BOX",
    "LABELS",
    "SHAPE",
    "padded",
    "random_case",
    "write_case",
    "write_cases",
    "write_nifti",
]

SHAPE = (5, 8, 10)
BOX = (slice(1, 4), slice(2, 7), slice(3, 10))
LABELS: dict[str, Any] = {"background": 0, "organ": 1, "tumour": 2, "ignore": 3}
# Voxels of unequal sides; the first two axes run to the left and to the back, as those of most scanners do.
AFFINE = np.array([[-1.5, 0, 0, 20.0], [0, -1.25, 0, 7.0], [0, 0, 3.0, -40.0], [0, 0, 0, 1.0]])


def padded(inner: NDArray[Any], shape: tuple[int, ...] = SHAPE, box: tuple[slice, ...] = BOX) -> NDArray[Any]:
    """Scores of a crop in the whole image, which is sure background elsewhere."""
    scores = np.zeros((len(inner), *shape), inner.dtype)
    scores[0] = 1
    scores[(slice(None), *box)] = inner
    return scores


def random_case(rng: np.random.Generator, n_classes: int = 3) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scores (K, z, y, x) within the box, and labels as likely as they say."""
    space = tuple(side.stop - side.start for side in BOX)
    scores = np.moveaxis(rng.dirichlet(np.full(n_classes, 0.5), size=space), -1, 0).astype(np.float32)
    labels = (scores.cumsum(axis=0) < rng.random(space)).sum(axis=0).clip(max=n_classes - 1)
    return scores, labels.astype(np.uint8)


def write_nifti(path: Path, values: NDArray[Any], affine: NDArray[Any] = AFFINE) -> None:
    """An array (z, y, x) as NIfTI."""
    nibabel.save(nibabel.Nifti1Image(values.T, affine), path)


def write_case(
    folder: Path, name: str, scores: NDArray[Any], labels: NDArray[Any], key: str = "probabilities"
) -> None:
    """``folder/predictions/NAME.npz`` and the segmentation beside it, and ``folder/labels/NAME.nii.gz``."""
    for each in ("predictions", "labels"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "predictions" / f"{name}.npz", **{key: scores})
    if scores.shape[1:] == labels.shape:
        segmentation = scores.argmax(axis=0).astype(np.uint8)
        write_nifti(folder / "predictions" / f"{name}.nii.gz", segmentation)
    write_nifti(folder / "labels" / f"{name}.nii.gz", labels)


def write_cases(
    folder: Path, n: int, seed: int = 0, labels: dict[str, Any] = LABELS
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Cases `case_00`, ... with ``dataset.json``; returns what lies within the box of each."""
    rng = np.random.default_rng(seed)
    cases = [random_case(rng) for _ in range(n)]
    for i, (scores, truth) in enumerate(cases):
        whole = np.zeros(SHAPE, np.uint8)
        whole[BOX] = truth
        write_case(folder, f"case_{i:02}", padded(scores), whole)
    document = {"labels": labels, "file_ending": ".nii.gz"}
    (folder / "predictions" / "dataset.json").write_text(json.dumps(document))
    return cases
