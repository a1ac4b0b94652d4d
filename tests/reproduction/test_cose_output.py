"""What is written, where it comes from, and the command line."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from conformask.reproduction import Row, Setting, Source, reproduce
from conformask.reproduction.__main__ import main
from conformask.reproduction.paper import DATASETS, PUBLISHED
from conformask.reproduction.simulate import simulated_profiles
from conformask.reproduction.sources import choose, from_mmseg, stored
from conformask.reproduction.tables import cost, to_csv, to_latex, to_markdown, write_tables

REAL = "real (usgra-seg, tmkand, CC BY 4.0)"


def row(**changes: object) -> Row:
    fields: dict[str, object] = {
        "dataset": "Cityscapes",
        "origin": "simulated",
        "setting": Setting(0.1, 0.99, published=PUBLISHED[0]),
        "unit": "image",
        "n_calibration": 250,
        "n_test": 250,
        "lambdas": (0.5, 0.75),
        "risks": (0.09, 0.11),
        "activations": ((1.25, 1.5), (2.0, 2.0)),
        "forward_passes": 25_000,
    }
    return Row(**{**fields, **changes})  # type: ignore[arg-type]


ROWS = [
    row(),
    row(dataset="usgra-seg", origin=REAL, setting=Setting(0.1, 0.95), n_calibration=122, n_test=122),
    row(setting=Setting(0.05, published=PUBLISHED[13]), lambdas=(0.0, 0.0), activations=((1, 1), (1, 1))),
    row(setting=Setting(0.01), risks=(0.0041, 0.0042), lambdas=(0.0, 0.1)),
]


def test_csv_comes_back() -> None:
    records = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert len(records) == len(ROWS)
    for record, line in zip(records, ROWS, strict=True):
        assert (record["dataset"], record["source"]) == (line.dataset, line.origin)
        assert float(record["alpha"]) == line.setting.alpha
        assert record["tau"] == ("" if line.setting.tau is None else str(line.setting.tau))
        assert float(record["risk"]) == line.risk
        assert float(record["risk_sd"]) == line.risk_sd
        assert float(record["activation_ratio"]) == line.activation
        assert int(record["forward_passes_of_original_search"]) == 25_000
    assert [record["paper_activation_ratio"] for record in records] == ["1.028", "", "1.0", ""]
    assert [record["argmax_splits"] for record in records] == ["0", "0", "2", "1"]
    assert to_csv([]).strip() == ""


def cells(text: str) -> list[list[str]]:
    """The cells of a Markdown table."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|-")
    ]


def test_markdown_of_table_1() -> None:
    text = to_markdown(ROWS, 1)
    header, *body = cells(text)
    assert header[:4] == ["dataset", "source", "α", "τ"]
    assert len(body) == 2
    assert body[0] == [
        *("Cityscapes", "simulated", "0.1", "0.99", "250 / 250", "0.100 (0.014)", "0.0430–0.1563"),
        *("0.106 (0.019)", "1.688", "1.028"),
    ]
    assert body[1][:2] == ["usgra-seg", REAL]
    assert [body[1][i] for i in (7, 9)] == ["", ""]
    assert "look swapped in tau" in text
    assert "https://github.com/tmkand/usgra-seg" in text
    assert "at most 0.1250 from the truth" in text


def test_markdown_of_table_2() -> None:
    text = to_markdown(ROWS, 2)
    header, *body = cells(text)
    assert "τ" not in header
    assert body[0][-2:] == ["1.000†", "1.000†"]
    assert body[1][4] == "0.004 (0.0001)"
    assert "†: the argmax alone meets the risk, in all splits." in text
    assert "Cityscapes, simulated: alpha 0.01: the argmax alone meets the risk in 1 of 2 splits." in text
    assert "swapped" not in text
    assert "usgra" not in text


@pytest.mark.parametrize("table", [1, 2])
def test_latex_is_plain_and_balanced(table: int) -> None:
    text = to_latex(ROWS, table)
    assert text.isascii()
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") == 1
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert text.count("$") % 2 == 0
    assert not re.search(r"(?<!\\)[&#_%](?! |\n)", text)  # & between cells, % before a line's end
    lines = text.splitlines()
    body = [line for line in lines[lines.index(r"\midrule") : lines.index(r"\bottomrule")] if " & " in line]
    assert len(body) == 2
    assert {line.count(" & ") for line in body} == {9 if table == 1 else 8}
    if table == 2:
        assert r"1.000$^\dagger$" in body[0]


def test_cost() -> None:
    assert cost(ROWS) == (
        "Cityscapes, simulated: 500 forward passes here; the original search needs 75,000 (150 times).\n"
        f"usgra-seg, {REAL}: 244 forward passes here; the original search needs 25,000 (102 times).\n"
        "All: 744 forward passes here; the original search needs 100,000 (134 times)."
    )
    assert cost([row(forward_passes=None)]) == "Forward passes: none counted."


def test_a_table_without_rows_is_not_written(tmp_path: Path) -> None:
    files = write_tables(ROWS[2:], tmp_path / "new" / "folder")
    assert [file.name for file in files] == ["cose.md", "cose_table_2.csv", "cose_table_2.tex"]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(
        file.name for file in files
    )


# Sources


def test_choice_of_sources(tmp_path: Path) -> None:
    assert list(choose()) == [*DATASETS, "usgra-seg", "usgra-seg by group"]
    assert list(choose(["loveda", "cityscapes"])) == ["cityscapes", "loveda"]
    assert list(choose(["usgra-seg"])) == ["usgra-seg", "usgra-seg by group"]
    assert list(choose(["ade20k"], checkpoint="w.pth")) == ["ade20k"]
    assert list(choose(checkpoint="w.pth", config="configs/my_net.py")) == ["my_net"]
    with pytest.raises(FileNotFoundError, match="no folder was given that holds usgra-seg"):
        choose(["usgra-seg"])["usgra-seg"]()
    with pytest.raises(FileNotFoundError, match="usgra-seg"):
        choose(["usgra-seg"], data=tmp_path)["usgra-seg by group"]()


@pytest.mark.parametrize(
    ("datasets", "options", "message"),
    [
        (["camvid"], {}, r"no data set \['camvid'\]"),
        (["loveda"], {"data_root": "data"}, "needs --checkpoint"),
        (["loveda"], {"config": "c.py"}, "needs --checkpoint"),
        ([], {"checkpoint": "w.pth"}, "goes with one --dataset"),
        (["loveda", "ade20k"], {"checkpoint": "w.pth"}, "goes with one --dataset"),
        (["usgra-seg"], {"checkpoint": "w.pth"}, "goes with one --dataset"),
    ],
)
def test_options_that_do_not_go_together(datasets: list[str], options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(datasets, **options)


@pytest.fixture
def mmseg_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What is asked of the integration, whose place a simulation of 40 images takes."""
    calls: list[tuple[object, ...]] = []

    def profile_dataset(config: str, checkpoint: str, *, data_root: str | None = None) -> cm.ScoreProfiles:
        calls.append((config, checkpoint, data_root))
        return simulated_profiles("loveda", 240, progress=False)

    module = types.ModuleType("conformask.integrations.mmseg")
    module.profile_dataset = profile_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "conformask.integrations.mmseg", module)
    return calls


def test_networks_of_the_paper_have_their_names(mmseg_calls: list[tuple[object, ...]]) -> None:
    for name in DATASETS:
        source = from_mmseg("w.pth", dataset=name, data_root=Path("data"))
        assert source.origin == f"real ({DATASETS[name].config})"
        assert all(setting.published is not None for setting in source.settings)
    assert mmseg_calls == [
        ("pspnet_r50-d8_4xb2-40k_cityscapes-512x1024", "w.pth", "data"),
        ("segformer_mit-b5_8xb2-160k_ade20k-512x512", "w.pth", "data"),
        ("pspnet_r50-d8_4xb4-80k_loveda-512x512", "w.pth", "data"),
    ]


def test_any_network(mmseg_calls: list[tuple[object, ...]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a data set of the paper or a configuration"):
        from_mmseg("w.pth")
    other = from_mmseg("w.pth", dataset="loveda", config="configs/other.py")
    assert (other.dataset, other.origin) == ("LoveDA", "real (other)")
    arguments = ["cose", "--config", "configs/my_net.py", "--checkpoint", "w.pth", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert mmseg_calls[-1] == ("configs/my_net.py", "w.pth", None)
    body = cells((tmp_path / "cose.md").read_text(encoding="utf-8"))
    assert all(line[:2] == ["my_net", "real (my_net)"] for line in body if line[0] != "dataset")


def test_stored_predictions(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(3), (120, 6, 6)).transpose(0, 3, 1, 2)
    draw = np.random.default_rng(1).random((120, 1, 6, 6))
    labels = (scores.cumsum(axis=1) < draw).sum(axis=1).clip(max=2).astype(np.uint8)
    (tmp_path / "usgra-seg").mkdir()
    file = tmp_path / "usgra-seg" / "predictions.npz"
    np.savez(file, probs=scores, labels=labels)
    source = stored(tmp_path)
    assert (source.dataset, source.origin, source.groups) == ("usgra-seg", REAL, None)
    with pytest.raises(ValueError, match="needs an array 'group'"):
        stored(tmp_path, by_group=True)
    np.savez(file, probs=scores, labels=labels, group=np.arange(120) // 2)
    source = stored(tmp_path, by_group=True)
    assert source.dataset == "usgra-seg by group"
    first = next(iter(reproduce(Source("x", "real (x)", source.profiles, (Setting(0.2),), source.groups))))
    assert (first.unit, first.n_calibration, first.n_test) == ("group", 30, 30)


# The command line


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cose", "--dataset", "cityscapes", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "| Cityscapes | simulated |" in re.sub(" +", " ", printed)
    assert re.search(
        r"Cityscapes, simulated: 500 forward passes here; the original search needs 1\d\d,", printed
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cose.md",
        *(f"cose_table_{table}.{kind}" for table in (1, 2) for kind in ("csv", "tex")),
    ]


def test_missing_data_and_wrong_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert main(["cose", "--dataset", "usgra-seg", "--data", str(tmp_path), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "usgra-seg is left out: no file or folder" in said
    assert "there is nothing to write" in said
    assert main(["cose", "--dataset", "loveda", "--data-root", "data", "--out", str(out)]) == 2
    assert "needs --checkpoint" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "conformask.integrations.mmseg", None)
    assert main(["cose", "--dataset", "loveda", "--checkpoint", "w.pth", "--out", str(out)]) == 2
    assert "conformask.integrations.mmseg" in capsys.readouterr().err
    assert not out.exists()


def test_what_does_not_hold_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = row(risks=(0.2, 0.2))
    monkeypatch.setattr(
        "conformask.reproduction._commands.cose.reproduce", lambda source, seeds: iter([broken])
    )
    assert main(["cose", "--dataset", "loveda", "--out", str(tmp_path)]) == 1
    assert "does not hold: Cityscapes, simulated: alpha 0.1, tau 0.99" in capsys.readouterr().err
    assert (tmp_path / "cose.md").exists()


def test_import_of_conformask_is_free_of_it() -> None:
    code = (
        "import sys, conformask; "
        "assert not [name for name in sys.modules if name.startswith(('tabulate', 'conformask.reproduction'))]; "
        "import conformask.reproduction; "
        "assert 'tabulate' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def run_pytest(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    here = str(Path(__file__).parent)
    command = [sys.executable, "-m", "pytest", here, "-q", "-p", "no:cacheprovider", "-k", "test_cose_tables"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [*command, "--out", str(tmp_path / "out"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_pytest_on_one_data_set(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--dataset", "cityscapes")
    assert done.returncode == 0, done.stdout
    body = cells((tmp_path / "out" / "cose.md").read_text(encoding="utf-8"))
    assert {tuple(line[:2]) for line in body} == {("dataset", "source"), ("Cityscapes", "simulated")}


def test_pytest_on_a_network(tmp_path: Path) -> None:
    """The integration's place is taken by a simulation; the tests and the tables are those of a real run."""
    (tmp_path / "network.py").write_text(
        "import sys, types\n"
        "from conformask.reproduction.simulate import simulated_profiles\n"
        "module = types.ModuleType('conformask.integrations.mmseg')\n"
        "def profile_dataset(config, checkpoint, *, data_root):\n"
        "    print('once:', config, checkpoint, data_root)\n"
        "    return simulated_profiles('cityscapes', progress=False)\n"
        "module.profile_dataset = profile_dataset\n"
        "sys.modules[module.__name__] = module\n"
    )
    network = ["-p", "network", "--checkpoint", "w.pth", "--data-root", "data"]
    done = run_pytest(tmp_path, *network, "--dataset", "cityscapes")
    assert done.returncode == 0, done.stdout
    name = "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024"
    assert re.findall("once: .*", done.stdout) == [f"once: {name} w.pth data"]
    body = cells((tmp_path / "out" / "cose.md").read_text(encoding="utf-8"))
    assert {tuple(line[:2]) for line in body[1:8] if line[0] != "dataset"} == {
        ("Cityscapes", f"real ({name})")
    }
    done = run_pytest(tmp_path, *network, "--config", "configs/my_net.py")
    assert done.returncode == 0, done.stdout
    assert "real (my_net)" in (tmp_path / "out" / "cose.md").read_text(encoding="utf-8")


def test_pytest_refuses_what_does_not_go_together(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--dataset", "loveda", "--config", "c.py")
    assert done.returncode == 4
    assert "needs --checkpoint" in done.stderr
    (tmp_path / "conformask_without_mmseg.py").write_text(
        "import sys\nsys.modules['conformask.integrations.mmseg'] = None\n"
    )
    done = run_pytest(
        tmp_path, "-p", "conformask_without_mmseg", "--dataset", "loveda", "--checkpoint", "w.pth"
    )
    assert done.returncode == 4
    assert "conformask.integrations.mmseg" in done.stderr
