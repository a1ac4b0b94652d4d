"""Half splits as in the papers' tables: simulated maps against plain NumPy, real images against a published table.

The real images are ultrasound scans with out-of-sample predictions of a small network (usgra-seg, tmkand, CC BY 4.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from problems import wide

ALPHAS = (0.10, 0.05, 0.02)
N_SPLITS = 10


@dataclass
class Row:
    """One number per split."""

    lambdas: list[float]
    risks: list[float]
    activations: list[float]

    def mean(self) -> tuple[float, float, float]:
        return tuple(float(np.mean(values)) for values in (self.lambdas, self.risks, self.activations))

    def deviation(self) -> tuple[float, float, float]:
        return tuple(float(np.std(values, ddof=1)) for values in (self.lambdas, self.risks, self.activations))


def half_splits(X: np.ndarray, y: np.ndarray, alpha: float) -> Row:
    """The protocol: n/2 random images calibrate, the others test. Maps are read once; splits are splits of profiles."""
    profiles, rng, row = cm.profile(X, y), np.random.default_rng(0), Row([], [], [])
    for _ in range(N_SPLITS):
        split = rng.permutation(len(X))
        calibration, test = split[: len(X) // 2], split[len(X) // 2 :]
        lam = profiles[calibration].lambda_hat("miscoverage", alpha)
        row.lambdas.append(lam)
        row.risks.append(profiles[test].risk("miscoverage", lam))
        row.activations.append(cm.metrics.activation_ratio(y[test], cm.kernels.threshold(X[test], lam)))
    return row


def half_splits_in_numpy(X: np.ndarray, y: np.ndarray, alpha: float) -> Row:
    """The same in a few lines of NumPy, in float64 and with a sort. No void."""
    p = np.take_along_axis(X, y[:, np.newaxis], axis=1)[:, 0].astype(float)
    critical = np.where(X.argmax(axis=1) == y, 0.0, 1.0 - p).reshape(len(X), -1)
    rng, row = np.random.default_rng(0), Row([], [], [])
    for _ in range(N_SPLITS):
        split = rng.permutation(len(X))
        calibration, test = split[: len(X) // 2], split[len(X) // 2 :]
        n, pixels = len(calibration), critical.shape[1]
        ascending = np.sort(critical[calibration], axis=None)
        allowed = int(
            np.floor((alpha * (n + 1) - 1) * pixels + 1e-9)
        )  # missed pixels, of all images together
        lam = ascending[len(ascending) - 1 - allowed]
        row.lambdas.append(float(lam))
        row.risks.append(float((critical[test] > lam).mean()))
        sizes = ((1.0 - X[test].astype(float)) <= lam).sum(axis=1)
        row.activations.append(float(np.maximum(sizes, 1).mean()))
    return row


@pytest.mark.parametrize("alpha", ALPHAS)
def test_simulated_maps(alpha: float) -> None:
    problem = wide(seed=2, n=120, n_classes=3, size=(12, 11), dtype="float16")
    y = np.where(problem.y == 255, 0, problem.y)
    ours, numpy = half_splits(problem.X, y, alpha), half_splits_in_numpy(problem.X, y, alpha)
    assert ours.lambdas == numpy.lambdas
    assert ours.risks == pytest.approx(numpy.risks, rel=1e-12)
    assert ours.activations == pytest.approx(numpy.activations, rel=1e-12)
    assert abs(np.mean(ours.risks) - alpha) < 0.02


@pytest.fixture(scope="module")
def predictions(data_folder: Path) -> tuple[np.ndarray, np.ndarray]:
    path = data_folder / "usgra-seg" / "predictions.npz"
    if not path.exists():
        pytest.skip(
            f"no real data at {path} (CONFORMASK_DATA); test_simulated_maps follows the same protocol"
        )
    with np.load(path) as file:
        return file["probs"], file["labels"]


# As published beside the data: mean and standard deviation over the splits, in the digits printed.
TABLE = {
    0.10: [("0.0000", "0.0000"), ("0.0576", "0.0022"), ("1.0000", "0.0000")],
    0.05: [("0.6633", "0.0199"), ("0.0430", "0.0036"), ("1.0333", "0.0042")],
    0.02: [("0.9424", "0.0050"), ("0.0127", "0.0014"), ("1.1580", "0.0063")],
}


@pytest.mark.parametrize("alpha", ALPHAS)
def test_ultrasound_table(alpha: float, predictions: tuple[np.ndarray, np.ndarray]) -> None:
    row = half_splits(*predictions, alpha)
    printed = [(f"{mean:.4f}", f"{sd:.4f}") for mean, sd in zip(row.mean(), row.deviation(), strict=True)]
    assert printed == TABLE[alpha]
    assert row.lambdas == half_splits_in_numpy(*predictions, alpha).lambdas


def test_ultrasound_images_of_look_alikes(
    predictions: tuple[np.ndarray, np.ndarray], data_folder: Path
) -> None:
    """Groups count once: fewer of them, so lambda-hat is no smaller than for as many independent images."""
    with np.load(data_folder / "usgra-seg" / "predictions.npz") as file:
        groups = file["group"]
    fitted = cm.ConformalRiskCalibrator(alpha=0.05).fit(*predictions, groups=groups)
    assert fitted.n_images_ == len(np.unique(groups)) == 177
    masks = fitted.predict(predictions[0])
    losses = cm.metrics.empirical_risk(predictions[1], masks, average=False)
    of_groups = [losses[groups == group].mean() for group in np.unique(groups)]
    assert fitted.risk_ == pytest.approx(np.mean(of_groups), rel=1e-12)
    assert (177 * np.mean(of_groups) + 1) / 178 <= 0.05
