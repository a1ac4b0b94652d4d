"""The command line of all papers: what it writes, on data at hand and on folders of one's own, and what it refuses."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conformask as cm
from conformask.reproduction import Comparison, Source, coat, consign, generic_settings, selective
from conformask.reproduction.__main__ import main
from conformask.reproduction._commands import consign as consign_command
from conformask.reproduction._commands import cose as cose_command
from conformask.reproduction.coat import BinaryMaps, methods_to_compare
from conformask.reproduction.consign import moving_edges
from conformask.reproduction.selective.paper import TABLE_1, TABLE_2, published
from conformask.reproduction.selective.tables import order
from conformask.reproduction.simulate import simulated_profiles
from conformask.reproduction.sources import choose

# Masks are made up without regard to the probabilities.
pytestmark = pytest.mark.filterwarnings("ignore:masks (of|hold):conformask.SuspiciousLabelsWarning")

PAPERS = ("cose", "consign", "selective", "coat")
STORED = "real (usgra-seg, tmkand, CC BY 4.0)"

FEW = {
    "TempS": cm.TemperatureScaler(n_pixels=200),
    "LogS": cm.VectorScaler(n_pixels=200),
    "Selective": cm.SelectiveScaler(hidden=()),
    "SVS": cm.StructuredScaler("vector"),
}
edges = cache(moving_edges)


def two_kinds(n: int, seed: int = 0) -> BinaryMaps:
    """Images of some of which the object is hard to see."""
    rng = np.random.default_rng(seed)
    P = rng.beta(rng.choice([1.0, 4.0], (n, 1, 1)), 1, (n, 8, 8))
    y = np.ones(P.shape, np.uint8)
    y[:, :2] = 0
    return BinaryMaps("two kinds", P, y, origin="simulated")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less of what is at hand: seconds for all."""
    monkeypatch.delenv("CONFORMASK_DATA", raising=False)
    loveda = Source(
        "LoveDA", "simulated", simulated_profiles("loveda", 60, progress=False), generic_settings(60)
    )

    def missing() -> Source:
        raise FileNotFoundError("no folder was given that holds usgra-seg")

    monkeypatch.setattr(
        cose_command, "choose", lambda *rest, **options: {"loveda": lambda: loveda, "usgra-seg": missing}
    )
    time_methods = consign.time_methods
    monkeypatch.setattr(consign, "moving_edges", lambda n: edges(60))
    monkeypatch.setattr(consign, "time_methods", lambda: time_methods([4], n_images=20, size=12))
    logits, labels = draws(8)
    scenes, dark = (
        selective.Logits(name, logits, labels, members=np.stack([logits, logits / 2]), origin="simulated")
        for name in ("rendered scenes", "dark scenes")
    )
    monkeypatch.setattr(selective, "rendered", lambda: (scenes, [dark]))
    monkeypatch.setattr("conformask.reproduction.selective.protocol.scalers_to_compare", lambda: FEW)
    monkeypatch.setattr(consign_command, "_SIMULATED_PAIRS", [(0.1, 0.9), (0.3, 0.7)])
    monkeypatch.setattr(coat, "rendered", lambda: [two_kinds(80)])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer scalers."""
    monkeypatch.setattr("conformask.reproduction.selective.protocol.scalers_to_compare", lambda: FEW)


def cells(text: str) -> list[list[str]]:
    """The cells of all Markdown tables."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not re.match(r"\|[ -]*-", line)
    ]


def tables(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables of a text, row by row, by the names of the columns."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        header, *body = cells(block)
        found.append([dict(zip(header, row, strict=True)) for row in body])
    return found


@pytest.mark.usefixtures("small")
def test_all_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "out"
    assert main(["all", "--splits", "2", "--out", str(out)]) == 0
    said = capsys.readouterr()
    for paper in PAPERS:
        assert str(out / f"{paper}.md") in said.out
        text = (out / f"{paper}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {paper.upper()}, Tables 1")
        assert "nan" not in text
        assert "2 random splits" in text or "2 splits" in text
        for table in tables(text):
            for row in table:
                if "source" in row:
                    assert row["source"].split(" (")[0] in (
                        "simulated",
                        "the paper",
                        "measured, simulated data",
                    ), row
    assert said.err.count("usgra-seg is left out: no folder was given") == 4
    assert said.err.count(" ...\n") == 4


@pytest.mark.usefixtures("small")
def test_an_error_of_one_paper_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise ValueError("no scenes")

    monkeypatch.setattr(coat, "rendered", broken)
    monkeypatch.setattr(selective, "rendered", broken)
    monkeypatch.setattr(Comparison, "violations", lambda self: ["RAPS: too little"])
    assert main(["all", "--splits", "2", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "error: coat: no scenes" in said
    assert "does not hold: an edge that moves, alpha = 0.1, accuracy = 0.9: RAPS: too little" in said
    assert sorted(file.stem for file in tmp_path.glob("*.md")) == ["consign", "cose"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("paper", PAPERS)
def test_what_does_not_hold_is_said(
    paper: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By status 1; the tables are written."""
    if paper == "cose":
        monkeypatch.setattr(cose_command, "violations", lambda rows: ["too little"])
    for kind in (Comparison, selective.ScalerComparison, coat.AdaptiveComparison):
        monkeypatch.setattr(kind, "violations", lambda self: ["too little"])
    assert main([paper, "--splits", "2", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert re.search("does not hold: .*too little", said.err)
    assert said.out.startswith(f"# {paper.upper()}, Tables 1")
    assert (tmp_path / f"{paper}.md").exists()


@pytest.mark.parametrize("paper", [*PAPERS, "all"])
def test_help_has_examples(paper: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([paper, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "--splits N" in said
    if paper != "all":
        assert f"  python -m conformask.reproduction {paper} --folder DIR" in said
        assert "DIR/masks/NAME.png" in said
        for option in re.findall(r"reproduction \w+ (.*)", said)[1:]:
            assert all(word in said.split("examples:")[0] for word in re.findall(r"--[a-z-]+", option))


def test_a_paper_must_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--out", "x"])
    assert ended.value.code == 2
    assert "paper" in capsys.readouterr().err


# Each paper


@pytest.mark.usefixtures("small")
def test_consign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    X, y = edges(40)
    (tmp_path / "usgra-seg").mkdir()
    np.savez(tmp_path / "usgra-seg" / "samples.npz", samples=X, labels=y)
    assert main(["consign", "--splits", "3", "--data", str(tmp_path), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "consign.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.startswith(text)
    data, times, ranges, first, second, *_ = tables(text)
    assert [row["data"] for row in data] == [
        *(
            "an edge that moves",
            "usgra-seg",
            "M&amp;Ms-2",
            "MS-CMR19",
            "LIDC",
            "COCO animals",
            "COCO vehicles",
        ),
    ]
    assert [row["source"] for row in data[:3]] == ["simulated", STORED, "the paper"]
    assert [row["calibration / test"] for row in data[:3]] == ["30 / 30", "26 / 14", "500 / 179"]
    assert data[4]["alpha, beta"] == "0.2, 0.8"
    assert {row["method"] for row in times} == {"CONSIGN, k = 2", "CONSIGN, k = 5", "RAPS"}
    assert all(float(row["calibration, s"]) > 0 for row in times)
    assert ranges[2]["CONSIGN, k = 2"] == "0.01 to 0.06"
    assert ranges[3]["RAPS and SACP"] == "0.58 to 0.96"
    methods = ["CONSIGN, k = 2", "CONSIGN, k = 5", "RAPS", "SACP"]
    assert [row["method"] for row in first] == 2 * methods
    assert [row["method"] for row in second] == 4 * methods
    assert "(0.1, 0.9) and (0.05, 0.8) are left out" in text
    assert {row["source"] for row in first} == {"simulated"}
    assert {row["source"] for row in second} == {"real"}
    # The lambdas are those of the calibrator on that fold.
    found = consign.compare(*edges(60), n_splits=3, n_samples=(1,), progress=False)
    for method, row in zip(methods, first, strict=False):
        lambdas = [float(outcome.lambda_hat or 0) for outcome in found.of(method)]
        assert [row[f"fold {i + 1}"] for i in range(3)] == [f"{lam:#.3g}" for lam in lambdas]
        assert row["mean (sd)"] == f"{np.mean(lambdas):#.3g} ({np.std(lambdas, ddof=1):#.3g})"


@pytest.mark.usefixtures("small")
def test_many_folds_are_told_by_least_and_largest(tmp_path: Path) -> None:
    assert main(["consign", "--splits", "6", "--out", str(tmp_path)]) == 0
    first = tables((tmp_path / "consign.md").read_text(encoding="utf-8"))[3]
    assert re.fullmatch(r"0\.\d+ to 0\.\d+", first[2]["folds"])


def test_shapes_of_the_paper_appear_on_simulated_data() -> None:
    """The whole comparison of the command, on as many images and folds: by two standard errors, as in the paper."""
    from conformask.reproduction.consign.study import reaches, shapes, study

    found = study("edges", "simulated", "drawn", *moving_edges(200), [(0.1, 0.9)], progress=False)
    assert found.violations() == []
    differences = {(s.metric, s.consign, s.baseline): (s.difference, s.error) for s in shapes(found.main)}
    assert len(differences) == 12
    for (metric, consign_, baseline), (difference, error) in differences.items():
        name = {"Chao(100)": "chao1", "SEC(100)": "sample_coverage"}.get(metric, "varying_correlation")
        one, other = (
            np.array([getattr(outcome, name)[-1] for outcome in found.main.of(method)])
            for method in (consign_, baseline)
        )
        assert difference == pytest.approx(np.mean(one - other))
        assert error == pytest.approx(np.std(one - other, ddof=1) / np.sqrt(5))
        assert (-difference if name == "chao1" else difference) > 2 * error
    for method in found.main.methods:
        mean, _ = found.main.curve(method, "sample_coverage")
        enough = [m for m, share in zip(found.main.n_samples, mean, strict=True) if share >= 0.9]
        assert reaches(found.main, method) == (enough[0] if enough else None)
    assert (reaches(found.main, "CONSIGN, k = 2") or 1000) < (reaches(found.main, "RAPS") or 1000)


@pytest.mark.filterwarnings("ignore:all .* samples differ")
def test_shapes_of_the_paper_are_asked_of_simulated_data() -> None:
    """Labels that have nothing to do with the samples are covered by no draw of few segmentations."""
    from conformask.reproduction.consign.study import shapes, study
    from conformask.reproduction.consign.tables import document

    X, y = edges(60)
    options: dict[str, Any] = {"pairs": [(0.3, 0.3)], "n_splits": 2, "progress": False}
    # All samples are alike: no method draws a second map, so that none differs from another.
    flat = np.repeat(X[:, :1], 6, axis=1)
    made_up = study("flat", "simulated", "drawn", flat, y, **options)
    real = replace(made_up, origin="real (mine)")
    assert [shape.holds for shape in shapes(made_up.main)][:4] == [False] * 4
    assert any("not as in the paper: Chao(100) of CONSIGN, k = 2" in each for each in made_up.violations())
    assert not any("not as in the paper" in each for each in real.violations())
    assert "| 0 (0) | smaller | no |" in document([real])


@pytest.mark.usefixtures("small")
def test_selective(tmp_path: Path) -> None:
    assert main(["selective", "--splits", "2", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "selective.md").read_text(encoding="utf-8")
    first, second, *measures = tables(text)
    assert [row["data"] for row in first][:2] == ["rendered scenes", "ADE20K, SegFormer-B5"]
    assert [row["data"] for row in second] == [
        *("rendered scenes to dark scenes", "ADE20K to COCO-164K, SegFormer-B5"),
        *("BDD100K to Cityscapes, Segmenter-L", "SYNTHIA to Cityscapes, ConvNeXt-L"),
    ]
    assert (first[0]["LTS"], first[1]["SVS"], first[1]["LTS"]) == ("-", "-", "0.105")
    assert re.fullmatch(r"0\.\d{3} \(0\.\d{3}\)", first[0]["Ens"])
    assert (first[1]["mIoU"], first[1]["TempS"], first[1]["Selective"]) == ("49.1", "0.109", "0.086")
    assert (second[1]["Uncal"], second[1]["TempS"], second[1]["Selective"]) == ("0.467", "-", "0.331")
    assert len(measures) == 2
    assert [row["method"] for row in measures[0]] == ["Uncal", *FEW, "Ens"]
    assert "rendered scenes, simulated: 2 splits, 4 calibrate, 4 test" in text
    lowest = [
        min(("Uncal", "TempS", "LogS", "Ens", "Selective"), key=lambda name: float(row[name][:5]))
        for row in (first[0], second[0])
    ]
    assert f"methods in {lowest.count('Selective')} of 2 rows" in text


def test_the_papers_order_of_scalers_is_told() -> None:
    def found(title: str, **errors: float) -> selective.ScalerComparison:
        rows = [
            selective.ScalerOutcome(name, 0, 5, 5, ece, 0.3, 0.5, 0.9, 0.0, keeps_prediction=True)
            for name, ece in errors.items()
        ]
        return selective.ScalerComparison(title, tuple(rows))

    alike = [found("a", Uncal=0.3, Selective=0.1, SVS=0.05), found("b", Uncal=0.1, Selective=0.2)]
    assert order(alike).endswith("the smallest of the paper's methods in 1 of 2 rows (a).")
    for row, figures in {**TABLE_1, **TABLE_2}.items():
        errors = published(row)
        assert min(errors, key=errors.__getitem__) == "Selective"
        assert tuple(errors.values()) == (figures[1:] if row in TABLE_1 else figures)


@pytest.mark.usefixtures("small")
def test_coat(tmp_path: Path) -> None:
    assert main(["coat", "--splits", "2", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "coat.md").read_text(encoding="utf-8")
    for words in (
        *("**Table 1, alpha = 0.1", "**Table 1, alpha = 0.2", "**Table 2, COAT by temperature, alpha = 0.1"),
        "## two kinds",
        "Source: simulated. 80 images, 2 random splits into 40 that calibrate and 40 that test.",
    ):
        assert text.count(words) == 1
    first, _, temperatures, *measures = tables(text)
    assert (first[0]["source"], first[1]["source"]) == ("simulated", "the paper")
    assert (temperatures[1]["data"], temperatures[1]["T = 0.05"]) == ("Polyp, SINet", "0.102")
    assert [[row["method"] for row in each] for each in measures] == 2 * [[*methods_to_compare()]]


# Folders of one's own


def write(folder: Path, **kinds: Any) -> Path:
    """A file for each image, in a folder for each kind."""
    for kind, images in kinds.items():
        (folder / kind).mkdir(parents=True)
        for i, image in enumerate(images):
            np.save(folder / kind / f"{i:03}.npy", image)
    return folder


def draws(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sure, of images whose labels follow from others."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (n, 3, 16, 20)).astype(np.float32)
    return 3 * logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def maker(paper: str) -> Callable[[Path], Path]:
    """Makes a folder for a paper."""
    logits, labels = draws()
    binary = two_kinds(60)
    samples, truth = edges(60)
    kinds: dict[str, dict[str, Any]] = {
        "cose": {"probabilities": softmax(logits / 3), "masks": labels},
        "consign": {"samples": samples, "masks": truth},
        "selective": {"logits": logits, "masks": labels},
        "coat": {"probabilities": binary.probabilities, "masks": binary.masks},
    }
    return lambda folder: write(folder, **kinds[paper])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("paper", PAPERS)
def test_a_folder_takes_the_place_of_what_is_at_hand(
    paper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cose_command, "choose", choose)
    folder = maker(paper)(tmp_path / "mine")
    arguments = [paper, "--splits", "2", "--out", str(tmp_path), "--folder", str(folder)]
    assert main(arguments) == 0
    text = (tmp_path / f"{paper}.md").read_text(encoding="utf-8")
    sources = {row["source"] for table in tables(text) for row in table if "source" in row}
    assert sources - {"the paper"} <= {"real, as given (folder mine)", "real"}
    assert "real, as given (folder mine)" in sources
    assert "usgra-seg" not in text
    assert "simulated:" not in text
    capsys.readouterr()
    (folder / "masks" / "007.npy").unlink()
    assert main(arguments) == 2
    assert re.fullmatch(r"error: no file 007 in .*masks, which would belong to .*\n", capsys.readouterr().err)
    assert main([*arguments[:-1], str(tmp_path / "nowhere")]) == 2
    assert re.fullmatch(r"error: no folder .*nowhere.*\n", capsys.readouterr().err)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("paper", ["cose", "selective"])
def test_groups_are_split(paper: str, tmp_path: Path) -> None:
    folder = maker(paper)(tmp_path / "mine")
    (folder / "groups.csv").write_text("".join(f"{i:03},p{i // 2}\n" for i in range(40)))
    assert main([paper, "--splits", "2", "--out", str(tmp_path), "--folder", str(folder)]) == 0
    text = (tmp_path / f"{paper}.md").read_text(encoding="utf-8")
    assert ("10 / 10" if paper == "cose" else "20 calibrate, 20 test") in text


def test_consign_refuses_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = maker("consign")(tmp_path / "mine")
    (folder / "groups.csv").write_text("000,a\n")
    assert main(["consign", "--out", str(tmp_path), "--folder", str(folder)]) == 2
    assert "the comparison of CONSIGN splits images" in capsys.readouterr().err


def test_probabilities_serve_as_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logits, labels = draws()
    of_logits = selective.read_logits(write(tmp_path / "a", logits=logits, masks=labels))
    of_softmax = selective.read_logits(write(tmp_path / "b", probabilities=softmax(logits), masks=labels))
    scalers = {"TempS": cm.TemperatureScaler(n_pixels=2000), "Selective": cm.SelectiveScaler(hidden=())}
    one, other = (
        selective.compare_scalers(source, scalers, n_splits=2, progress=False)
        for source in (of_logits, of_softmax)
    )
    for method in one.methods:
        assert other.mean(method, "ece") == pytest.approx(one.mean(method, "ece"), abs=2e-3)
    arrays = selective.compare_scalers(
        selective.Logits("arrays", logits, labels), scalers, n_splits=2, progress=False
    )
    assert [each.ece for each in arrays.outcomes] == [each.ece for each in one.outcomes]
    wrong = write(tmp_path / "c", probabilities=logits, masks=labels)
    assert main(["selective", "--out", str(tmp_path), "--folder", str(wrong)]) == 2
    assert re.fullmatch(
        r"error: .*\d\d\d\.npy must hold probabilities in \[0, 1\]; call .*\n", capsys.readouterr().err
    )
    write(tmp_path / "a", probabilities=softmax(logits))
    assert main(["selective", "--out", str(tmp_path), "--folder", str(tmp_path / "a")]) == 2
    assert "a holds logits and probabilities: keep one of them" in capsys.readouterr().err


@pytest.mark.usefixtures("few")
def test_images_of_another_domain(tmp_path: Path) -> None:
    folder = maker("selective")(tmp_path / "mine")
    logits, labels = draws(5)
    other = write(tmp_path / "theirs", logits=logits, masks=labels)
    arguments = ["--folder", str(folder), "--shifted-to", str(other), "--calibrate", "40", "--splits", "2"]
    row = "BDD100K to Cityscapes, Segmenter-L"
    assert main(["selective", *arguments, "--paper-row", row, "--out", str(tmp_path)]) == 0
    text = (tmp_path / "selective.md").read_text(encoding="utf-8")
    assert "mine to theirs, real, as given (folder mine): 2 splits, 40 calibrate, 5 test" in text
    beside, second, _ = tables(text)
    assert [row["the paper"] for row in beside if row["method"] in ("Uncal", "Selective")] == [
        "0.062",
        "0.048",
    ]
    assert second[0]["data"] == "mine to theirs"


@pytest.mark.usefixtures("few")
def test_the_papers_row_stands_beside(tmp_path: Path) -> None:
    folder = maker("selective")(tmp_path / "mine")
    arguments = ["--splits", "2", "--out", str(tmp_path), "--folder", str(folder)]
    assert main(["selective", *arguments, "--paper-row", "ADE20K, SegFormer-B5"]) == 0
    beside, first, measures = tables((tmp_path / "selective.md").read_text(encoding="utf-8"))
    rows = {row["method"]: row for row in beside}
    ours = {row["method"]: row["ECE of images"] for row in measures}
    assert (rows["TempS"]["the paper"], rows["SVS"]["the paper"], rows["mIoU"]["the paper"]) == (
        *("0.109", "-", "49.13"),
    )
    assert rows["TempS"]["ours (sd)"] == first[0]["TempS"]
    assert float(rows["TempS"]["difference"]) == pytest.approx(float(ours["TempS"][:6]) - 0.109, abs=6e-4)

    folder = maker("coat")(tmp_path / "binary")
    assert main(["coat", *arguments[:-1], str(folder), "--paper-row", "Polyp, SINet"]) == 0
    beside, first, *_ = tables((tmp_path / "coat.md").read_text(encoding="utf-8"))
    rows = {(row["method"], row["alpha"]): row for row in beside}
    assert rows["COAT", "0.1"]["the paper: coverage gap"] == "0.102"
    assert rows["CRC", "0.2"]["the paper: coverage"] == "0.803"
    assert rows["CRA", "0.1"]["the paper: coverage"] == "-"
    assert first[0]["COAT"].startswith(rows["COAT", "0.1"]["coverage (sd)"])


def test_the_papers_rows_of_cose(tmp_path: Path) -> None:
    folder = maker("cose")(tmp_path / "mine")
    arguments = ["cose", "--splits", "2", "--out", str(tmp_path), "--folder", str(folder)]
    assert main(arguments) == 0
    # 40 images are too few for the paper's rows at alpha 0.01.
    assert main([*arguments, "--dataset", "loveda"]) == 2


def test_pairs_and_sizes_of_consign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = maker("consign")(tmp_path / "mine")
    arguments = ["consign", "--splits", "2", "--out", str(tmp_path), "--folder", str(folder)]
    given = ["--pair", "0.1", "0.9", "--pair", "0.2", "0.95", "--calibrate", "40"]
    assert main([*arguments, *given]) == 0
    data, _, lambdas, *_ = tables((tmp_path / "consign.md").read_text(encoding="utf-8"))
    assert (data[0]["calibration / test"], data[0]["alpha, beta"]) == ("40 / 20", "0.1, 0.9")
    assert list(dict.fromkeys(row["alpha, beta"] for row in lambdas)) == ["0.1, 0.9", "0.2, 0.95"]
    capsys.readouterr()
    assert main([*arguments, "--paper-row", "LIDC"]) == 2
    assert capsys.readouterr().err == (
        "error: the calibration images of LIDC must be in [1, 59], got 700: say --calibrate\n"
    )
    assert main([*arguments, "--paper-row", "M&Ms-2", "--calibrate", "40"]) == 0
    data = tables((tmp_path / "consign.md").read_text(encoding="utf-8"))[0]
    assert (data[0]["calibration / test"], data[0]["alpha, beta"]) == ("40 / 20", "0.1, 0.9")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 4, 5), np.float32), r"samples \(S, K, H, W\).* got float32 of shape \(2, 4, 5\)"),
        (np.zeros((1, 2, 4, 5), np.float32), "at least two samples of at least two classes"),
        (np.zeros((6, 2, 4, 5), np.uint8), "floating samples"),
        (np.zeros((6, 2, 5, 4), np.float32), r"has shape \(4, 5\), but .*\(6, 2, 5, 4\)"),
    ],
)
def test_what_are_no_samples(
    values: np.ndarray, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "mine", samples=[values] * 2, masks=[np.zeros((4, 5), int)] * 2)
    assert main(["consign", "--folder", str(folder), "--out", str(tmp_path)]) == 2
    assert re.search(message, capsys.readouterr().err)


# What does not go together


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("cose --splits 1", "--splits must be at least 2, for standard deviations, got 1"),
        ("consign --splits 0", "--splits must be at least 2"),
        ("cose --folder x --checkpoint y", "--folder does not go with --checkpoint"),
        ("cose --folder x --dataset loveda ade20k", "a folder goes with one --dataset"),
        ("cose --folder x", "no folder x"),
        ("consign --pair 0.1 0.9", "--pair, --calibrate and --paper-row go with --folder"),
        ("consign --paper-row LIDC", "go with --folder"),
        ("selective --folder x --data-root y", "--folder does not go with --data-root"),
        ("selective --checkpoint x.pth", "a network needs --config and --checkpoint"),
        ("selective --checkpoint x --config y --splits 3", "--splits does not go with a network"),
        ("selective --calibrate 5", "--shifted-to and --calibrate go with --folder"),
        ("selective --shifted-to x", "--shifted-to and --calibrate go with --folder"),
        ("coat --folder nowhere", "no folder nowhere"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments.split(), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert says in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_rows_of_the_paper_need_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = str(maker("selective")(tmp_path / "mine")), str(tmp_path / "out")
    for arguments, says in (
        (["selective", "--paper-row", "ADE20K, SegFormer-B5"], "--paper-row goes with --folder or a network"),
        (
            ["selective", "--folder", folder, "--paper-row", "SYNTHIA to Cityscapes, ConvNeXt-L"],
            "--paper-row of Table 2 goes with --shifted-to",
        ),
        (["selective", "--folder", folder, "--calibrate", "40"], "--calibrate must be in [1, 39], got 40"),
        (["coat", "--paper-row", "Polyp, SINet"], "--paper-row goes with --folder"),
    ):
        assert main([*arguments, "--out", out]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.usefixtures("few")
def test_a_network_of_selective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The integration's place is taken by logits of a folder."""
    logits, labels = draws()
    calls = []

    def scale_dataset(config: str, checkpoint: str, scalers: Any, *, data_root: Path | None) -> Any:
        calls.append((config, checkpoint, data_root))
        return {
            name: cm.metrics.calibration_report(
                labels[20:],
                logits[20:],
                inputs="logits",
                transform=None if scaler is None else scaler.fit(logits[:20], labels[:20]),
            )
            for name, scaler in scalers.items()
        }

    module = types.ModuleType("conformask.integrations.mmseg")
    module.scale_dataset = scale_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "conformask.integrations.mmseg", module)
    network = ["--config", "configs/net.py", "--checkpoint", "w.pth"]
    row = ["--paper-row", "BDD100K, SegFormer-B5"]
    assert main(["selective", *network, *row, "--out", str(tmp_path)]) == 0
    assert calls == [("configs/net.py", "w.pth", None)]
    beside, first, _ = tables((tmp_path / "selective.md").read_text(encoding="utf-8"))
    assert (first[0]["data"], first[0]["source"]) == ("net", "real (net)")
    assert beside[0]["the paper"] == "0.064"
