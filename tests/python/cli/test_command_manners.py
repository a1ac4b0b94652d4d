"""Errors are one line with a status, help tells both and its examples run, and Ctrl-C leaves nothing half."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command_folders import CALIBRATION, CALIBRATOR, TEST, Run
from conformask.__main__ import main
from conformask._arguments import as_options
from conformask.datasets import MapFolder, PairedFolder

COMMANDS = ("calibrate", "evaluate", "apply", "report")


def help_of(*command: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as text, pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    return text.getvalue()


# --- help -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders and files that the examples speak of: 60 images of three classes."""
    root, rng = tmp_path_factory.mktemp("examples"), np.random.default_rng(0)
    y = np.repeat(rng.integers(0, 3, (60, 8, 2)), 4, axis=2).astype(np.uint8)
    logits = rng.normal(0, 1, (60, 3, 8, 8)) + 3 * (y[:, None] == np.arange(3)[:, None, None])
    X = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    maps = ["softmax", "calibration/softmax", "test/softmax", "new/softmax", "logits"]
    for folder in (*maps, "masks", "gtFine", "calibration/labels", "test/labels", "photographs"):
        (root / folder).mkdir(parents=True)
    for i in range(60):
        name = f"image_{i:02}"
        for folder in maps[:-1]:
            np.save(root / folder / f"{name}.npy", X[i])
        np.save(root / "logits" / f"{name}_logits.npy", logits[i])
        for folder, ending in (
            ("masks", ""),
            ("calibration/labels", ""),
            ("test/labels", ""),
            ("gtFine", "_labelTrainIds"),
        ):
            Image.fromarray(y[i]).save(root / folder / f"{name}{ending}.png")
        Image.fromarray(40 * y[i]).save(root / "photographs" / f"{name}.jpg")
    (root / "names.txt").write_text("road\ncar\nperson\n")
    (root / "val.txt").write_text("".join(f"image_{i:02}\n" for i in range(40)))
    (root / "patients.csv").write_text("".join(f"image_{i:02},p{i // 2}\n" for i in range(60)))
    return root


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_the_examples_of_help_run(
    command: tuple[str, ...], own: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own)
    monkeypatch.setattr("conformask.cli._pictures._DPI", 20)
    for folder in ("softmax", "masks"):
        shutil.copytree(folder, f"earlier/{folder}", dirs_exist_ok=True)
    assert run("calibrate", "--maps", "earlier/softmax", "--labels", "earlier/masks").status == 0
    examples = re.findall(r"^  (conformask .*)$", help_of(*command), re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        done = run(*shlex.split(example)[1:])
        assert done.status == 0, done.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_the_exit_statuses(command: str) -> None:
    text = help_of(command)
    statuses = {
        0: "done",
        2: "cannot be used",
        3: "too few calibration images",
        130: "stopped by Ctrl-C",
        141: "nobody reads",
    }
    for status, words in statuses.items():
        assert re.search(rf"^  {status}  .*{words}", text, re.MULTILINE)


def test_help_of_the_program() -> None:
    text = help_of()
    for command in (*COMMANDS, "demo"):
        assert re.search(rf"^    {command}\b", text, re.MULTILINE)
    assert "exit status: 0 done; 2 " in text


# --- errors ---------------------------------------------------------------------------------------


def replace(path: str, write: Callable[[Path], object]) -> None:
    """Another file in the place of one."""
    file = Path(path)
    for known in file.parent.glob(f"{file.stem}.*"):
        known.unlink()
    write(file)


def save(values: Any) -> Callable[[Path], object]:
    return lambda file: np.save(file, values, allow_pickle=True)


def swap(one: Path, other: Path) -> None:
    one.rename("elsewhere")
    other.rename(one)
    Path("elsewhere").rename(other)


def grey(file: Path) -> None:
    """A picture whose grey levels stand for classes."""
    labels = np.tile(np.arange(4, dtype=np.uint8), 48).reshape(12, 16) * 60
    labels[0] = 255
    Image.fromarray(labels).save(file)


MAPS, LABELS = "calibration/maps/image_03", "calibration/labels/image_03"
UNIT = np.full((4, 12, 16), 0.25, np.float32)
NONSENSE: dict[str, tuple[Callable[[], object], str]] = {
    "text": (
        lambda: replace(f"{MAPS}.npy", lambda file: file.write_text("some text")),
        r"calibration/maps/image_03\.npy cannot be read as NumPy's without pickles: ",
    ),
    "objects": (
        lambda: replace(f"{MAPS}.npy", save(np.array([{"no": "pickles"}], object))),
        r"calibration/maps/image_03\.npy cannot be read as NumPy's without pickles: ",
    ),
    "no image": (
        lambda: replace(f"{LABELS}.png", lambda file: file.write_text("some text")),
        r"calibration/labels/image_03\.png cannot be read: ",
    ),
    "no raster": (
        lambda: replace(f"{MAPS}.tif", lambda file: file.write_text("some text")),
        r"calibration/maps/image_03\.tif cannot be read as a raster: ",
    ),
    "no label map": (
        lambda: Path(f"{LABELS}.png").unlink(),
        r"no file image_03 in calibration/labels, which would belong to calibration/maps/image_03\.npy$",
    ),
    "two of one name": (
        lambda: np.savez(f"{MAPS}.npz", UNIT),
        r"calibration/maps/image_03\.npy and image_03\.npz have the same name: keep one of them$",
    ),
    "nnU-Net's folder": (
        lambda: [replace(f"{MAPS}.npz", lambda file: np.savez(file, UNIT)), Path(f"{MAPS}.nii.gz").touch()],
        r"image_03\.nii\.gz and image_03\.npz have the same name: .*conformask nnunet calibrate, evaluate and apply",
    ),
    "swapped folders": (
        lambda: swap(Path("calibration/maps"), Path("calibration/labels")),
        r"file in calibration/maps, which holds \.png files: pictures, which hold labels .*both folders swapped\?$",
    ),
    "labels as maps": (
        lambda: replace(f"{MAPS}.npy", save(np.zeros((12, 16), np.uint8))),
        r"image_03\.npy must hold score maps .*; they look like labels: are both folders swapped\?$",
    ),
    "maps as labels": (
        lambda: replace(f"{LABELS}.npy", save(UNIT)),
        r"image_03\.npy must hold integer labels .*; they look like score maps: are both folders swapped\?$",
    ),
    "grey levels": (
        lambda: replace(f"{LABELS}.png", grey),
        r"y holds label 60 in image 3, .*; its labels are 0, 60, 120, 180, 255: .* pass --label-values and the number "
        r"of class 0, 1, \.\.\.; if classes begin at 1 and 0 is void, --label-values 1 2 \.\.\. --void-values 0 "
        r"\(image 3 is calibration/labels/image_03\.png\)$",
    ),
    "names that end otherwise": (
        lambda: Path(f"{LABELS}.png").rename(f"{LABELS}_gt.png"),
        r"is image_03_gt\.png meant, whose name ends otherwise\? See --ending and --label-ending$",
    ),
    "label out of range": (
        lambda: replace(f"{LABELS}.npy", save(np.full((12, 16), 7))),
        r"y holds label 7 in image 3, outside \[0, 4\).* \(image 3 is calibration/labels/image_03\.npy\)$",
    ),
    "other shape": (
        lambda: replace(f"{LABELS}.npy", save(np.zeros((16, 12), int))),
        r"image_03\.npy has shape \(16, 12\), but its maps in .* \(4, 12, 16\); are height and width swapped\?$",
    ),
    "other classes": (
        lambda: replace(f"{MAPS}.npy", save(np.full((2, 12, 16), 0.5))),
        r"X has K = 2 classes in image 3, but K = 4 before \(image 3 is calibration/maps/image_03\.npy\)$",
    ),
    "no probabilities": (
        lambda: replace(f"{MAPS}.npy", save(255 * UNIT)),
        r"the probabilities of image 3 sum to 255 .* or pass --inputs logits.* \(image 3 is .*image_03\.npy\)$",
    ),
    "bytes": (
        lambda: replace(f"{MAPS}.npy", save((255 * UNIT).astype(np.uint8))),
        r"the probabilities of image 3 sum to 252 .*--inputs logits",
    ),
    "NaN": (
        lambda: replace(f"{MAPS}.npy", save(np.nan * UNIT)),
        r"X is not finite in image 3: class 0 is NaN at pixel \(0, 3\); .* \(image 3 is .*image_03\.npy\)$",
    ),
    "classes last": (
        lambda: [
            np.save(file, np.moveaxis(np.load(file), 0, -1)) for file in Path("calibration/maps").iterdir()
        ],
        r"if the classes of the maps are on the last axis, pass --class-axis -1$",
    ),
    "empty folder": (
        lambda: [file.unlink() for file in Path("calibration/maps").iterdir()],
        r"no \.npy, .* or \.tiff file in calibration/maps$",
    ),
    "no folder": (
        lambda: Path("calibration/labels").rename("elsewhere"),
        r"no folder calibration/labels$",
    ),
    "a file as folder": (
        lambda: [Path("calibration/labels").rename("elsewhere"), Path("calibration/labels").write_text("")],
        r"no folder calibration/labels$",
    ),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_one_line(root: Path, run: Run, name: str) -> None:
    spoil, says = NONSENSE[name]
    spoil()
    done = run("calibrate", *CALIBRATION)
    assert (done.status, done.out) == (2, "")
    assert re.search(says, done.error)
    assert not [*Path().glob("calibrator*")], "nothing was written"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--groups", "nowhere.csv"], "no file nowhere.csv"),
        (["--names", "nowhere.txt"], "no file nowhere.txt"),
        (["--groups", "calibration"], "no file calibration"),
        (["--method", "pac"], "--delta is needed by this --method"),
        (["--delta", "0.1"], "--delta goes with --method pac, rcps or wsr"),
        (["--method", "pac", "--delta", "0.1"], "PAC"),
        (["--by-class", "--profile", "binned"], "pass --profile exact"),
        (["--ignore-index", "77"], "y holds label 255 in image 0, outside [0, 4) and not the ignore index (77)"),
        (["--ending", "_x"], "no .npy, .npz, .nii, .nii.gz, .tif or .tiff file named *_x in calibration/maps"),
        (["--ignore-index", "255", "3"], "name the other classes: --loss miscoverage:CLASSES"),
        (["--loss", "fnr:car"], "--loss fnr:car names classes, but no names are known: pass --class-names NAME NAME"),
        (["--loss", "fnr:car", "--class-names", *"abcd"], "'fnr:car' is no loss: no class 'car': there are a, b, c, d"),
        (["--class-names", *"abc"], "--class-names must hold a string for each of K = 4 classes, got 3 names"),
        (["--label-values", "0", "1", "2"], "holds the label 3, which is none of --label-values (0, 1, 2)"),
        (["--label-values", "0", "1", "1"], "--label-values must differ"),
        (["--label-values", *"1234", "--ignore-index", "0"], "pass --void-values 0, and as --ignore-index a number"),
        (["--void-values", "0"], "--void-values are read with --label-values"),
        (["--class-axis", "9"], "image_00.npy has shape (4, 12, 16): it has no --class-axis 9"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(root: Path, run: Run, options: list[str], says: str) -> None:
    done = run("calibrate", *CALIBRATION, *options)
    assert (done.status, done.out) == (2, "")
    assert says in done.error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--alpha", "2"], r"argument --alpha: must be a number in \(0, 1\), got '2'"),
        (["--loss", "fnr"], "argument --loss: must be miscoverage, "),
        (["--loss", "binary:7"], "argument --loss: 'binary:7' is no loss: "),
        (["--score", "best"], "argument --score: invalid choice: 'best'"),
        (["--ignore-index", "x"], "argument --ignore-index: must be a whole number"),
        (["--out", "nowhere/c.json"], "argument --out: there is no folder nowhere"),
        (["--out", "calibration"], "argument --out: calibration is a folder, not a file"),
        (["@nowhere.txt"], r"No such file or directory: 'nowhere\.txt'"),
    ],
)
def test_arguments_that_cannot_be(
    root: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["calibrate", *CALIBRATION, *options])
    assert stopped.value.code == 2
    assert re.search(says, capsys.readouterr().err)


def test_calibrators_that_are_none(calibrated: Path, run: Run) -> None:
    for command in (
        ["evaluate", *TEST],
        ["report", *TEST],
        ["apply", "--maps", "test/maps", "--out", "sets"],
    ):
        done = run(*command, "--calibrator", "nowhere.json")
        assert (done.status, done.error) == (2, "no file nowhere.json")
        Path("text.json").write_text("some text")
        done = run(*command, "--calibrator", "text.json")
        assert done.status == 2
        assert done.error.startswith("text.json is damaged or holds no calibrator")


def test_a_lost_file_of_profiles(calibrated: Path, run: Run) -> None:
    known = {command: run(command, *CALIBRATOR, *TEST).out for command in ("evaluate", "report")}
    [beside] = Path().glob("calibrator.json.*.npz")
    beside.unlink()
    lost = f"warning: {beside.name}, the profiles of calibrator.json, is not beside it: "
    for command, out in known.items():
        done = run(command, *CALIBRATOR, *TEST)
        assert (done.status, done.out) == (0, out)
        assert lost in done.err
    done = run("apply", *CALIBRATOR, "--maps", "test/maps", "--out", "sets")
    assert done.status == 0
    assert lost in done.err
    done = run("evaluate", *CALIBRATOR, *TEST, "--alphas", "0.2")
    assert done.status == 2
    assert "--alphas needs the profiles of the calibration images" in done.error


def test_maps_of_another_model(calibrated: Path, run: Run) -> None:
    np.save("test/maps/image_02.npy", np.full((3, 12, 16), 1 / 3))
    done = run("apply", *CALIBRATOR, "--maps", "test/maps", "--out", "sets")
    assert done.status == 2
    assert done.error == "test/maps/image_02.npy: X has K = 3 classes, but calibration had K = 4"
    assert sorted(file.name for file in Path("sets").iterdir()) == [
        "image_00_setsize.npy",
        "image_01_setsize.npy",
    ]
    done = run("evaluate", *CALIBRATOR, *TEST)
    assert done.error == "test/maps/image_02.npy: X has K = 3 classes, but calibration had K = 4"
    np.save("test/maps/image_02.npy", np.full((4, 12, 16), np.nan))
    done = run("apply", *CALIBRATOR, "--maps", "test/maps", "--out", "sets")
    assert done.error.startswith("test/maps/image_02.npy: X is not finite: ")


def test_names_of_classes_must_be_as_many(calibrated: Path, run: Run) -> None:
    done = run("evaluate", *CALIBRATOR, *TEST, "--class-names", "a", "b")
    assert done.status == 2
    assert "each of K = 4 classes, got 2 names" in done.error


def test_folders_that_cannot_be_written(calibrated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("")
    for option in (["--out", "taken"], ["--out", "taken/deeper"]):
        with pytest.raises(SystemExit) as stopped:
            main(["apply", *CALIBRATOR, "--maps", "test/maps", *option])
        assert stopped.value.code == 2
        assert "taken is a file, not a folder" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_folders_without_permission(calibrated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("locked").mkdir(mode=0o500)
    with pytest.raises(SystemExit) as stopped:
        main(["apply", *CALIBRATOR, "--maps", "test/maps", "--out", "locked/sets"])
    assert stopped.value.code == 2
    assert "locked cannot be written to" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no folder in which nobody can make one")
def test_folders_that_cannot_be_made(calibrated: Path, run: Run) -> None:
    done = run("apply", *CALIBRATOR, "--maps", "test/maps", "--out", "/proc/sets")
    assert done.status == 2
    assert "/proc/sets" in done.error


@pytest.mark.parametrize("out", ["test/maps", "test/../test/maps"])
def test_sets_among_the_maps(calibrated: Path, run: Run, out: str) -> None:
    before = sorted(Path("test/maps").iterdir())
    done = run("apply", *CALIBRATOR, "--maps", "test/maps", "--out", out)
    assert done.status == 2
    assert done.error.startswith("--out must be another folder than test/maps, where ")
    assert sorted(Path("test/maps").iterdir()) == before


def test_a_disk_that_is_full(calibrated: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(file: Any, values: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", save)
    done = run("apply", *CALIBRATOR, "--maps", "test/maps", "--out", "sets")
    assert done.status == 2
    assert "No space left on device" in done.error
    assert [*Path("sets").iterdir()] == []


def test_debug_shows_where_errors_come_from(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file nowhere"):
        main(["--debug", "calibrate", *CALIBRATION, "--groups", "nowhere.csv"])


def test_memory_that_is_not_there(root: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PairedFolder, "_read", fail)
    done = run("calibrate", *CALIBRATION)
    assert (done.status, done.error) == (2, "MemoryError")


@pytest.mark.parametrize(
    ("message", "as_option"),
    [
        ("pass inputs='logits' or 'scores'", "pass --inputs logits or 'scores'"),
        ("with on_infeasible='full'", "with --on-infeasible full"),
        ("pass class_axis=-1", "pass --class-axis -1"),
        ("Leave out groups=, or", "Leave out --groups, or"),
        ("ignore_index=255 is", "--ignore-index 255 is"),
        ("which need an ignore_index.", "which need an --ignore-index."),
        ("choose one, label_key= one of", "choose one, --label-key one of"),
        ("See ending= and label_ending=", "See --ending and --label-ending"),
        ("alpha=0.1 needs 9", "alpha=0.1 needs 9"),
        ("sites/groups=3/a.npy is damaged", "sites/groups=3/a.npy is damaged"),
        ("no file my_class_names.txt, /data/class_names.txt", "no file my_class_names.txt, /data/class_names.txt"),
        ("of dataset.json, dataset=", "of dataset.json, dataset="),
        ("name the others: loss=MiscoverageLoss(classes=[...])", "name the others: --loss miscoverage:CLASSES"),
    ],
)  # fmt: skip
def test_parameters_are_options(message: str, as_option: str) -> None:
    assert as_options(message, options_of_command("calibrate")) == as_option


def options_of_command(*command: str) -> set[str]:
    return {*re.findall(r"--[\w-]+", help_of(*command))}


def test_options_that_another_command_has() -> None:
    known, calibrating = options_of_command("evaluate"), options_of_command("calibrate")
    assert as_options("pass inputs='logits', or", known, calibrating) == (
        "pass --inputs logits (when you calibrate), or"
    )
    assert as_options("with class_axis=-1", known, calibrating) == "with --class-axis -1"
    of_nnunet = options_of_command("nnunet", "calibrate")
    assert as_options("say where, dataset=", of_nnunet) == "say where, --dataset-json"
    assert as_options("pass inputs='logits'", of_nnunet, of_nnunet) == "pass inputs='logits'"


def test_a_command_names_its_own_options(calibrated: Path, run: Run) -> None:
    np.save("test/maps/image_00.npy", np.log(np.load("test/maps/image_00.npy")))
    done = run("evaluate", *CALIBRATOR, *TEST)
    assert "if these are logits, pass --inputs logits (when you calibrate)" in done.error
    done = run("calibrate", *TEST)
    assert "if these are logits, pass --inputs logits (image 0" in done.error


# --- Ctrl-C -----------------------------------------------------------------------------------


def test_ctrl_c(calibrated: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Any, place: int) -> Any:
        if place == 5:
            raise KeyboardInterrupt
        return known(self, place)

    calibrated.rename("c.json")
    for kind, known in ((PairedFolder, PairedFolder._read), (MapFolder, MapFolder.read)):
        with monkeypatch.context() as patch:
            patch.setattr(kind, known.__name__, interrupt)
            commands: list[list[str]] = [
                ["apply", "--calibrator", "c.json", "--maps", "test/maps", "--out", "s"]
            ]
            if kind is PairedFolder:
                commands = [
                    ["calibrate", *CALIBRATION],
                    ["evaluate", "--calibrator", "c.json", *TEST, "--json", "r.json"],
                    ["report", "--calibrator", "c.json", *TEST, "--out", "r.html"],
                ]
            before = {*Path().iterdir()}
            for command in commands:
                done = run(*command)
                assert (done.status, done.err) == (130, "stopped\n")
            assert {*Path().iterdir()} - before <= {Path("s")}
    assert len([*Path("s").iterdir()]) == 5, "what was done before is whole"


def test_a_command_as_a_process(root: Path) -> None:
    """The installed way: a process of its own, its status, its streams, and Ctrl-C from outside."""
    command = [sys.executable, "-m", "conformask", "calibrate", *CALIBRATION]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "lambda-hat" in done.stdout
    failed = subprocess.run([*command, "--alpha", "0.01"], capture_output=True, text=True, timeout=120)
    assert (failed.returncode, failed.stdout) == (3, "")
    assert failed.stderr.startswith("error: alpha=0.01 needs")
    assert failed.stderr.count("\n") == 1
    Path("calibrator.json").unlink()
    program = (
        "import signal, sys, time\n"
        "from conformask.__main__ import main\n"
        "from conformask.datasets import PairedFolder\n"
        # What a shell starts in the background inherits that Ctrl-C is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def read(self, place):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "PairedFolder._read = read\n"
        "sys.exit(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *command[3:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr.read() == "stopped\n"
    assert not Path("calibrator.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
@pytest.mark.parametrize(
    ("arguments", "statuses"),
    [
        (["--help"], {0, 141}),  # argparse swallows the error if it comes early
        (["evaluate", *CALIBRATOR, *TEST, "--quiet"], {141}),
    ],
)
def test_a_reader_that_is_gone(calibrated: Path, arguments: list[str], statuses: set[int]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "conformask", *arguments]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode in statuses
