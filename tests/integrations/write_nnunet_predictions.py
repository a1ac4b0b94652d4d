"""A folder of nnU-Net's own files: a tiny dataset, planned, preprocessed, learnt for seconds, predicted by nnunetv2.

``python write_nnunet_predictions.py FOLDER [regions]`` writes ``raw``, ``preprocessed`` and ``results`` as nnU-Net does
on a CPU, and ``predictions`` of new images. It needs no network.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

N_TRAIN, N_TEST, SHAPE = 26, 6, (20, 28, 24)
NAME = "Dataset007_Blobs"
LABELS: dict[str, Any] = {"background": 0, "organ": 1, "tumour": 2, "ignore": 3}
REGIONS: dict[str, Any] = {"background": 0, "whole": [1, 2], "core": [2]}


def affine() -> np.ndarray:
    """Voxels of unequal sides, x to the left as most scanners write it, z downwards."""
    return np.array([[-1.5, 0, 0, 20.0], [0, 1.25, 0, -7.0], [0, 0, -2.0, 11.0], [0, 0, 0, 1.0]])


def case(rng: np.random.Generator, with_ignored: bool) -> tuple[np.ndarray, np.ndarray]:
    """An image (z, y, x) whose border is 0, so that nnU-Net crops it, and its labels."""
    low = rng.integers(2, 5, 3)
    high = np.array(SHAPE) - rng.integers(2, 6, 3)
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    z, y, x = np.mgrid[tuple(slice(n) for n in SHAPE)]
    centre = (low + high) / 2 + rng.uniform(-1.5, 1.5, 3)
    distance = np.sqrt(((np.stack([z, y, x], -1) - centre) ** 2 * [1.4, 0.9, 1.0]).sum(-1))
    labels = np.zeros(SHAPE, np.uint8)
    radius = rng.uniform(5, 7)
    labels[distance < radius] = 1
    labels[distance < radius / 2] = 2
    image = np.zeros(SHAPE, np.float32)
    image[inside] = (100 + 60 * labels + rng.normal(0, 30, SHAPE))[inside]
    image[inside][image[inside] == 0] = 1
    if with_ignored:
        labels[:, :, int(low[2]) : int(low[2]) + 3] = LABELS["ignore"]
    return image, labels


def write_raw(raw: Path, regions: bool) -> None:
    """imagesTr, labelsTr, imagesTs, labelsTs and dataset.json."""
    import nibabel

    rng = np.random.default_rng(0)
    for part, n in (("Tr", N_TRAIN), ("Ts", N_TEST)):
        for kind in ("images", "labels"):
            (raw / f"{kind}{part}").mkdir(parents=True)
        for i in range(n):
            image, labels = case(rng, not regions and i % 3 == 0)
            name = f"blob_{part.lower()}{i:02}"
            for values, path in (
                (image, raw / f"images{part}" / f"{name}_0000.nii.gz"),
                (labels, raw / f"labels{part}" / f"{name}.nii.gz"),
            ):
                nibabel.save(nibabel.Nifti1Image(values.T, affine()), path)
    document: dict[str, Any] = {
        "channel_names": {"0": "MRI"},
        "labels": REGIONS if regions else LABELS,
        "numTraining": N_TRAIN,
        "file_ending": ".nii.gz",
    }
    if regions:
        document["regions_class_order"] = [1, 2]
    (raw / "dataset.json").write_text(json.dumps(document, indent=1))


def shrink(plans: dict[str, Any]) -> None:
    """A network that learns on one core."""
    configuration = plans["configurations"]["3d_fullres"]
    kwargs = configuration["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [min(n, 8 * 2**i) for i, n in enumerate(kwargs["features_per_stage"])]


def main(folder: Path, regions: bool) -> None:
    """Everything that nnU-Net's own commands do, in this process."""
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "nnUNet_compile": "f"}
    write_raw(folder / "raw" / NAME, regions)

    forking = multiprocessing.get_context("fork")  # a new interpreter would import torch once more each time
    multiprocessing.get_context = lambda method=None: forking  # type: ignore[assignment,misc]

    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess_dataset,
    )
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - batchgenerators draws from it
    extract_fingerprints([7], num_processes=1, show_progress_bar=False)
    plan_experiments([7])
    plans_path = folder / "preprocessed" / NAME / "nnUNetPlans.json"
    plans = json.loads(plans_path.read_text())
    shrink(plans)
    plans_path.write_text(json.dumps(plans))
    preprocess_dataset(7, configurations=["3d_fullres"], num_processes=[1], show_progress_bar=False)

    names = [
        path.name.removesuffix(".nii.gz") for path in sorted((folder / "raw" / NAME / "labelsTr").iterdir())
    ]
    split = {"train": names[:10], "val": names[10:]}
    (folder / "preprocessed" / NAME / "splits_final.json").write_text(json.dumps([split] * 5))
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # the trainer loads in this process; the planner refuses 0
    dataset = json.loads((folder / "raw" / NAME / "dataset.json").read_text())
    plans["continue_training"] = False
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 60, 1
    trainer.initial_lr = 0.03
    trainer.initialize()
    trainer.run_training()
    trainer.perform_actual_validation(save_probabilities=True)

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, use_mirroring=False)
    predictor.initialize_from_trained_model_folder(str(trainer.output_folder_base), (0,))
    predictor.predict_from_files(
        str(folder / "raw" / NAME / "imagesTs"),
        str(folder / "predictions"),
        save_probabilities=True,
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2:] == ["regions"])
