"""The demo does the whole job: a table with sane numbers, pictures that open, errors that help."""

import contextlib
import io
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import conformask as cm
from conformask import _arguments, demo
from conformask.__main__ import main as command_line
from conformask.datasets import make_scenes
from problems import wide

PICTURES = (
    *("varisco.png", "mask.png", "mask_panels.png"),
    *("risk_curve.png", "class_risk.png", "alpha_sweep.png"),
)
TINY = ["--train", "8", "--calibrate", "40", "--test", "60", "--size", "32", "56"]
ALPHAS = ["--alphas", "0.2", "0.1", "0.05", "0.01"]


@dataclass
class Run:
    status: int
    text: str
    out: Path

    def rows(self, loss: str) -> dict[float, tuple[float, float, float]]:
        """Return alpha -> (lambda-hat, test risk, activation ratio) of a loss."""
        block = re.split(r"\n(?=\S)", self.text[self.text.index(f"\n{loss}") + 1 :])[0]
        found = re.findall(r"^ +(0\.\d+) +([\d.]+) +([\d.]+) +([\d.]+)$", block, re.MULTILINE)
        return {float(alpha): (float(lam), float(risk), float(ratio)) for alpha, lam, risk, ratio in found}

    def argmax_risk(self, loss: str) -> float:
        match = re.search(rf"^{loss} +argmax +- +([\d.]+) +1\.000$", self.text, re.MULTILINE)
        assert match is not None
        return float(match[1])


def run(out: Path, *arguments: str) -> Run:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        status = command_line(["demo", "--out", str(out), *arguments])
    return Run(status, text.getvalue(), out)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("rendered"), *TINY, *ALPHAS)


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return predictions of 50 grey images in 5 groups, right about nine times in ten."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.repeat(rng.integers(0, 3, (50, 4, 5)), 6, axis=1), 6, axis=2)
    logits = rng.normal(0, 1, (50, 3, 24, 30)) + 2.6 * (labels[:, None] == np.arange(3)[:, None, None])
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels[:, :3] = 255
    stored = {"probs": probs.astype(np.float16), "labels": labels.astype(np.uint8)}
    np.savez(tmp_path / "predictions.npz", **stored, group=np.repeat(np.arange(5), 10))
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 255, (50, 24, 30), np.uint8))
    return tmp_path


# --- rendered scenes ------------------------------------------------------------------------


def test_the_pictures_open(rendered: Run) -> None:
    assert rendered.status == 0
    for name in PICTURES:
        assert str(rendered.out / name) in rendered.text
        pixels = imread(rendered.out / name)
        assert min(pixels.shape[:2]) > 200
        assert pixels[..., :3].std() > 0.05, "not a blank sheet"


def test_risk_keeps_to_alpha(rendered: Run) -> None:
    for loss in ("miscoverage", "binary, 90 %", "binary, 95 %"):
        rows = rendered.rows(loss)
        assert list(rows) == [0.2, 0.1, 0.05]
        for alpha, (_, risk, _) in rows.items():
            # Four standard errors of a mean of 60 losses, calibrated on 40.
            assert risk <= alpha + 4 * np.sqrt(alpha * (1 - alpha) * (1 / 40 + 1 / 60))
            assert risk <= rendered.argmax_risk(loss), "sets only add classes to the argmax"


def test_smaller_alpha_costs_more_classes(rendered: Run) -> None:
    for loss in ("miscoverage", "binary, 90 %", "binary, 95 %"):
        lams, risks, ratios = (np.array(column) for column in zip(*rendered.rows(loss).values(), strict=True))
        assert (np.diff(lams) >= 0).all()
        assert (np.diff(risks) <= 0).all()
        assert (np.diff(ratios) >= 0).all()
        assert ratios.min() >= 1
        assert ratios.max() <= 8
    ratio = [rendered.rows(loss)[0.1][2] for loss in ("binary, 90 %", "binary, 95 %")]
    assert ratio[0] < ratio[1], "the stricter coverage costs more"


def test_too_few_images_are_said_in_the_row(rendered: Run) -> None:
    assert len(re.findall(r"^ +0\.01 +needs 99 images, has 40$", rendered.text, re.MULTILINE)) == 3


def test_the_argmax_error_is_that_of_the_table(rendered: Run) -> None:
    match = re.search(r"wrong on ([\d.]+) % of the pixels", rendered.text)
    assert match is not None
    assert float(match[1]) == pytest.approx(100 * rendered.argmax_risk("miscoverage"), abs=0.06)


def test_the_rows_of_varisco_share_one_scale_that_ends_where_their_sets_do() -> None:
    problem = wide(n=40, n_classes=6, size=(16, 24))
    problem.y[:3, :4] = 255
    calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(problem.X, problem.y)
    job = demo._Job(*[demo._Part(problem.X, problem.y)] * 2, "", "")
    figure = demo._varisco_figure(job, calibrator, job.test[:3])
    bars = [ax.child_axes[0] for ax in figure.axes if ax.child_axes]
    largest = calibrator.set_size(problem.X[:3])[problem.y[:3] != 255].max()
    expected = [str(size) for size in range(1, largest + 1)]
    assert [[tick.get_text() for tick in bar.get_yticklabels()] for bar in bars] == [expected] * 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"class {k}" for k in range(6)] + [
        "void"
    ]
    level = rf"$\alpha$ = 0.1, $\hat\lambda$ = {calibrator.lambda_hat_:.6g}"
    assert [ax.get_title() for ax in figure.axes] == [
        "truth",
        "most probable class",
        f"Classes in the set of each pixel\n{level}",
        *[""] * 6,
    ]


def test_the_picture_of_the_readme_is_in_full_colour() -> None:
    path = Path(__file__).parents[2] / "docs" / "varisco.png"
    assert path.stat().st_size < 400_000
    picture = np.rint(255 * imread(path)).astype(np.int64)
    colours = {*np.unique(picture[..., :3] @ [65536, 256, 1])}
    assert len(colours) > 256, "not quantised"
    assert colours >= {*(make_scenes(1, size=(16, 16)).palette.astype(np.int64) @ [65536, 256, 1])}


# --- stored predictions ---------------------------------------------------------------------


def test_stored_predictions_are_split_at_random(folder: Path) -> None:
    done = run(folder / "out", "--data", str(folder), "--alphas", "0.2", "0.05", "--background", "0")
    assert done.status == 0
    assert "50 images of 24 x 30 pixels, 3 classes, float16" in done.text
    assert "25 images calibrate, 25 test" in done.text
    assert "images drawn from this very\ncollection" in done.text
    assert all((folder / "out" / name).stat().st_size > 5000 for name in PICTURES)
    assert done.rows("miscoverage")[0.05][1] < 0.09


def test_without_images_there_is_no_column_for_them(folder: Path) -> None:
    """It would be black."""
    arguments = ["--data", str(folder), "--alphas", "0.2"]
    with_images = imread(run(folder / "out", *arguments).out / "varisco.png")[..., :3]
    (folder / "images.npz").unlink()
    without = imread(run(folder / "out", *arguments).out / "varisco.png")[..., :3]
    assert without.shape[1] < 0.85 * with_images.shape[1]
    assert (without.max(axis=-1) < 0.02).mean() < 0.05


@pytest.mark.usefixtures("no_matplotlib")
def test_files_of_any_names(folder: Path) -> None:
    with np.load(folder / "predictions.npz") as stored:
        np.save(folder / "softmax.npy", stored["probs"])
        np.save(folder / "truth.npy", stored["labels"])
        np.savez(folder / "all.npz", softmax=stored["probs"], truth=stored["labels"])
    known = run(folder / "out", "--data", str(folder), "--alphas", "0.1").rows("miscoverage")
    for names in (["softmax.npy", "truth.npy"], ["all.npz"]):
        paths = [str(folder / name) for name in names]
        found = run(folder / "out", "--data", *paths, "--alphas", "0.1")
        assert found.rows("miscoverage") == known
        assert f"Predictions from {', '.join(paths)}: 50 images" in found.text


@pytest.mark.usefixtures("no_matplotlib")
def test_the_table_needs_no_matplotlib(folder: Path) -> None:
    done = run(folder / "out", "--data", str(folder), "--alphas", "0.1")
    assert done.status == 0
    assert list(done.rows("miscoverage")) == [0.1]
    assert "pip install conformask[plot]" in done.text
    assert not (folder / "out").exists()


@pytest.mark.usefixtures("no_matplotlib")
def test_one_seed_gives_one_table(folder: Path) -> None:
    arguments = ["--data", str(folder), "--alphas", "0.1", "0.05", "--seed"]
    first, again, other = (run(folder / "out", *arguments, seed).rows("miscoverage") for seed in "001")
    assert first == again
    assert first != other


@pytest.mark.usefixtures("no_matplotlib")
def test_an_infeasible_first_alpha_costs_only_its_row(folder: Path) -> None:
    done = run(folder / "out", "--data", str(folder), "--alphas", "0.01", "0.1")
    assert done.status == 0
    assert list(done.rows("miscoverage")) == [0.1]


def test_nothing_is_drawn_when_no_alpha_is_feasible(folder: Path) -> None:
    done = run(folder / "out", "--data", str(folder), "--alphas", "0.01")
    assert done.status == 0
    assert "No pictures" in done.text
    assert not (folder / "out").exists()


@pytest.mark.usefixtures("no_matplotlib")
def test_groups_stay_together(folder: Path) -> None:
    done = run(folder / "out", "--data", str(folder), "--by-group", "--alphas", "0.45", "0.1")
    assert done.status == 0
    assert "20 images calibrate, 30 test" in done.text, "two of the five groups of ten"
    assert "guarantee speaks of a new group" in done.text
    assert re.search(r"0\.1 +needs 9 groups, has 2$", done.text, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class-names", "a", "b"], "--class-names must name 3 classes, got 2"),
        (["--background", "3"], "--background must be from 0 to 2"),
    ],
)
def test_unfit_options_end_with_status_2(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert command_line(["demo", "--data", str(folder), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_missing_data_ends_with_status_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["demo", "--data", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    with np.load(folder / "predictions.npz") as stored:
        arrays = {name: stored[name] for name in ("probs", "labels")}
    np.savez(folder / "predictions.npz", **arrays)
    assert command_line(["demo", "--data", str(folder), "--by-group"]) == 2
    assert "'group'" in capsys.readouterr().err


# --- the command line -----------------------------------------------------------------------


REFUSED = {
    "": "required: command",
    "nothing": "invalid choice: 'nothing'",
    "demo --alphas 1.5": r"--alphas: must be a number in \(0, 1\), got '1.5'",
    "demo --alphas ten": "--alphas: must be a number",
    "demo --size 3 3": "--size: must be a whole number, at least 16, got '3'",
    "demo --size 20.5 30": "--size: must be a whole number",
    "demo --seed -1": "--seed: must be a whole number, at least 0, got '-1'",
    "demo --train 0": "--train: must be a whole number, at least 1, got '0'",
    "demo --calibrate 0": "--calibrate: must",
    "demo --test many": "--test: must",
    "demo --background -1": "--background: must",
    "demo --class-names a b": "--class-names: goes with --data",
    "demo --background 0": "--background: goes with --data",
    "demo --by-group": "--by-group: goes with --data",
    "demo --out {file}": "--out: .* is a file, not a folder",
    "demo --out {file}/below/it": "--out: .* is a file, not a folder",
    "demo --out {locked}/below": "--out: .* cannot be written to",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_wrong_arguments_are_refused_first(
    arguments: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is rendered, as argparse does: with the usage and status 2."""
    monkeypatch.setattr(demo, "make_scenes", None)
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(
        _arguments.os, "access", lambda path, _: path.name != "locked"
    )  # root may write anywhere
    with pytest.raises(SystemExit) as stopped:
        command_line(arguments.format(file=tmp_path / "file", locked=tmp_path / "locked").split())
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "usage: conformask" in said
    assert re.search(REFUSED[arguments], said)


def test_the_smallest_size_is_that_of_the_scenes() -> None:
    smallest = (demo.SMALLEST, demo.SMALLEST)
    assert make_scenes(1, size=smallest).labels.shape[1:] == smallest
    with pytest.raises(ValueError, match="size must be at least"):
        make_scenes(1, size=(demo.SMALLEST - 1, demo.SMALLEST))


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command_line(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"conformask {cm.__version__}\n"


def test_the_module_is_a_program(folder: Path) -> None:
    command = [sys.executable, "-m", "conformask", "demo", "--data", str(folder), "--alphas", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "needs 99 images, has 25" in done.stdout
