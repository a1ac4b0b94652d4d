"""Folders of score maps and labels, and commands that are run in this process."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from command_folders import CALIBRATION, SIZE, Done, Images, K, N, Run, fill
from conformask.__main__ import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command with arguments of any type."""

    def command(*arguments: object) -> Done:
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)  # commands print them
            status = main([str(each) for each in arguments])
        captured = capsys.readouterr()
        return Done(status, captured.out, captured.err)

    return command


@pytest.fixture(scope="session")
def images() -> Images:
    """Score maps and labels of a model that is right at most pixels."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.repeat(rng.integers(0, K, (N, 3, 4)), 4, axis=1), 4, axis=2).astype(np.uint8)
    logits = rng.normal(0, 1, (N, K, *SIZE)) + 2.2 * (y[:, None] == np.arange(K)[:, None, None])
    X = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y[:, :2, :3] = 255
    return X.astype(np.float32), y


@pytest.fixture
def root(tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: 40 images in `calibration`, 20 in `test`, groups of two images in `groups.csv`."""
    X, y = images
    fill(tmp_path / "calibration", X[:40], y[:40])
    fill(tmp_path / "test", X[40:], y[40:])
    (tmp_path / "groups.csv").write_text("".join(f"image_{i:02},p{i // 2}\n" for i in range(40)))
    (tmp_path / "kinds.csv").write_text(
        "".join(f"image_{i:02},{'day' if i % 2 else 'night'}\n" for i in range(40))
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def calibrated(root: Path, run: Run) -> Path:
    """A calibrator at alpha = 0.1 in the working directory."""
    assert run("calibrate", *CALIBRATION, "--out", "calibrator.json").status == 0
    return root / "calibrator.json"
