"""A small real job, which an installed package must do: from nothing but public names and the command line.

``make wheel`` and ``make sdist`` run it in a fresh environment, without the repository on the path.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

import conformask as cm


def check_where() -> None:
    """The package is the installed one, and knows its version."""
    home = Path(cm.__file__).resolve()
    assert Path(sysconfig.get_path("platlib")).resolve() in home.parents, f"{home} is not installed"
    assert cm.__version__ == metadata.version("conformask")
    assert (home.parent / "py.typed").is_file()


def problem(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of three classes, and labels that are drawn from them."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(3, 0.4), size=(n, 12, 16))
    y = (rng.random((n, 12, 16, 1)) > p.cumsum(-1)[..., :-1]).sum(-1)
    return p.transpose(0, 3, 1, 2).astype(np.float32), y.astype(np.uint8)


def check_calibration(folder: Path) -> None:
    """Fit, predict, save, load, evaluate; lambda-hat is what NumPy finds."""
    X, y = problem(0, 60)
    calibrator = cm.ConformalRiskCalibrator(alpha=0.1, progress=False).fit(X, y)
    scores = np.sort((1.0 - np.take_along_axis(X, y[:, None].astype(int), 1)[:, 0].astype(float)).ravel())
    # As many labels may be missed as (n + 1) alpha - 1 images could miss, all of them of one size.
    n_missed = int((61 * 0.1 - 1) * 12 * 16)
    assert calibrator.lambda_hat_ == scores[scores.size - 1 - n_missed]
    new, truth = problem(1, 40)
    sets = calibrator.predict(new)
    missed = 1 - np.take_along_axis(sets, truth[:, None].astype(int), 1).mean()
    assert 0.05 < missed < 0.15, missed
    assert np.array_equal(calibrator.set_size(new), sets.sum(1))
    calibrator.save(folder / "calibrator.json", profiles=True)
    loaded = cm.ConformalRiskCalibrator.load(folder / "calibrator.json")
    assert np.array_equal(loaded.predict(new), sets)
    assert loaded.recalibrate(alpha=0.2).lambda_hat_ < calibrator.lambda_hat_
    assert json.loads(loaded.evaluate(new, truth).to_json())


def check_algebra() -> None:
    """LAPACK answers, from whichever OpenBLAS came along."""
    A = np.random.default_rng(2).standard_normal((300, 20))
    assert np.allclose(cm.kernels.truncated_svd(A, 5)[1], np.linalg.svd(A, compute_uv=False)[:5])


def check_commands(folder: Path) -> None:
    """The script, and the module as a program."""
    X, y = problem(3, 30)
    for name, arrays in (("scores", X), ("labels", y)):
        (folder / name).mkdir()
        for i, array in enumerate(arrays):
            np.save(folder / name / f"{i:02}.npy", array)
    script = Path(sysconfig.get_path("scripts")) / "conformask"
    calibrate = ["--maps", "scores", "--labels", "labels", "--out", "cal.json"]
    for command in (
        [script, "--version"],
        [script, "--help"],
        [script, "calibrate", "--help"],
        [sys.executable, "-m", "conformask", "demo", "--help"],
        [script, "calibrate", *calibrate],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    expected = cm.ConformalRiskCalibrator(progress=False).fit(X, y).lambda_hat_
    assert cm.ConformalRiskCalibrator.load(folder / "cal.json").lambda_hat_ == expected


def main() -> None:
    check_where()
    with tempfile.TemporaryDirectory() as folder:
        check_calibration(Path(folder))
        check_algebra()
        check_commands(Path(folder))
    print(f"conformask {cm.__version__} works on Python {sys.version.split()[0]}: {Path(cm.__file__).parent}")


if __name__ == "__main__":
    main()
