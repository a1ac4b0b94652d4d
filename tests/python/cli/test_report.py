"""The report is one file, its numbers are those of evaluate, and its pictures open."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

import conformask as cm
from command_folders import CALIBRATION, TEST, Images, K, Run, fill
from conformask.__main__ import main
from conformask._tables import Table
from conformask.cli import _page, _pictures
from conformask.cli._useful import Watched
from conformask.datasets import PairedFolder

VOID = {"meta", "img"}


class Page(HTMLParser):
    """Tables, pictures and texts of a page; refuses tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.pictures: list[bytes] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        known = dict(attrs)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "action")]
        if tag == "img":
            assert known["alt"]
            head, _, data = str(known["src"]).partition(",")
            assert head == "data:image/png;base64"
            self.pictures.append(base64.b64decode(data, validate=True))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def value(self, name: str) -> str:
        """What stands beside a name."""
        [value] = {row[1] for row in self.rows if row[0] == name and len(row) == 2}
        return value

    def table(self, *header: str) -> list[list[str]]:
        """The rows below a header."""
        start = self.rows.index(list(header)) + 1
        return [row for row in self.rows[start:] if len(row) == len(header)]


def page(run: Run, *options: object) -> Page:
    done = run(
        "report", "--calibrator", "calibrator.json", *TEST, "--class-names", "a", "b", "c", "d", *options
    )
    assert done.status == 0
    return Page(Path("report.html").read_text(encoding="utf-8"))


def expected(images: Images, **options: object) -> cm.RiskReport:
    calibrator = cm.ConformalRiskCalibrator().fit(images[0][:40], images[1][:40])
    return calibrator.evaluate(images[0][40:], images[1][40:], class_names=["a", "b", "c", "d"], **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, images: Images) -> Path:
    """A folder that tests read, with the report of all that is by default."""
    root = tmp_path_factory.mktemp("report")
    fill(root / "calibration", images[0][:40], images[1][:40])
    fill(root / "test", images[0][40:], images[1][40:])
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.chdir(root)
        assert main(["calibrate", *CALIBRATION]) == 0
        names = ("--class-names", "a", "b", "c", "d")
        assert main(["report", "--calibrator", "calibrator.json", *TEST, *names]) == 0
    return root


@pytest.fixture
def plain(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_numbers_of_the_report_are_those_of_evaluate(plain: Page, images: Images) -> None:
    report, found = expected(images, alphas=[0.05, 0.2]), plain
    for name, value in report._summary():
        assert found.value(name) == value
    assert report.verdict in found.text
    of_classes = report._class_table()
    assert found.table(*of_classes.header)[: len(of_classes.rows)] == [[*row] for row in of_classes.rows]
    rows = found.table("alpha", "images needed", "reached", "risk", "classes in a set")[:5]
    assert rows[:2] == [["0.01", "99", "no", "-", "-"], ["0.02", "49", "no", "-", "-"]]
    assert [row[:3] for row in rows[2:]] == [["0.05", "19", "yes"], ["0.1", "9", "yes"], ["0.2", "4", "yes"]]
    wanted = [report.sweep[0], report, report.sweep[1]]
    for row, each in zip(rows[2:], wanted, strict=True):
        assert row[3:] == [f"{each.empirical_risk:.4f}", f"{each.activation_ratio:.3f}"]


def test_is_it_useful(plain: Page, folder: Path, images: Images) -> None:
    found, (X, y) = plain, (images[0][40:], images[1][40:])
    sizes = cm.ConformalRiskCalibrator.load(folder / "calibrator.json").set_size(X)
    valid, hits = y != 255, X.argmax(axis=1) == y
    alone = (sizes == 1) & valid
    wrong = 1 - (hits & valid).sum((1, 2)) / valid.sum((1, 2))
    one = alone.sum((1, 2)) / valid.sum((1, 2))
    assert found.value("most probable class alone").startswith(f"wrong on {100 * wrong.mean():.1f} %")
    right = (hits & alone).sum() / alone.sum()
    assert (
        found.value("pixels with one class")
        == f"{100 * one.mean():.1f} %; of these, {100 * right:.1f} % are right"
    )
    assert found.value("classes in a set").startswith(f"{expected(images).activation_ratio:.3f} of 4")
    unsure = (~hits & valid & (sizes > 1)).sum() / (~hits & valid).sum()
    assert found.value("where it is wrong") == f"{100 * unsure:.1f} % lie where sets hold two classes or more"
    missed = 1 - expected(images).coverage
    assert found.value("missed by the sets") == f"{100 * missed:.1f} % of the labelled pixels"
    assert "Is it useful?" in found.text
    assert "Small classes" not in found.text, "all are nearly as large"
    assert "The smallest alpha that they reach is 0.0244." in found.text


def test_small_classes(calibrated: Path, run: Run, images: Images) -> None:
    """What is missed of classes that few pixels have, which means over all pixels hardly show."""
    X, y = images[0][40:], images[1][40:].copy()
    y[(y == 3) & (np.arange(16) % 4 > 0)] = 255  # a quarter of class 3 remains
    y[0][y[0] == 3] = 255  # and none of it in the first image
    for i, labels in enumerate(y):
        Image.fromarray(labels).save(f"test/labels/image_{i:02}.png")
    found, report = page(run), expected((images[0], np.concatenate([images[1][:40], y])))
    header = ("class", "of the labelled pixels", "missed by the most probable class", "missed by the sets")
    [row] = found.table(*header)[:1]
    of_class = [(labels == 3, scores.argmax(axis=0) != 3) for labels, scores in zip(y, X, strict=True)]
    wrong = np.mean([miss[there].mean() for there, miss in of_class if there.any()])
    share = (y == 3).sum() / (y != 255).sum()
    shown = (share, wrong, report.classes[3].miss_rate)
    assert row == ["d", *(f"{100 * each:.1f} %" for each in shown)]
    assert "Small classes, mean over the images that hold them" in found.text


def test_one_file_without_scripts_or_links(plain: Page, folder: Path) -> None:
    found, text = plain, (folder / "report.html").read_text()
    assert not found.tags & {"script", "link", "iframe", "object", "a", "style src"}
    assert all(link.startswith("data:image/png;base64,") for link in found.links)
    assert "http" not in re.sub(r'src="[^"]*"', "", text)
    assert "url(" not in text
    assert len(found.pictures) == 4 + 6  # bars, risk curve, sweep, classes; images
    for picture in found.pictures:
        pixels = imread(io.BytesIO(picture))
        assert min(pixels.shape[:2]) > 200
        assert pixels[..., :3].std() > 0.05, "not a blank sheet"


def test_images_from_the_largest_sets_to_the_smallest(plain: Page, images: Images) -> None:
    found, ratios = plain, expected(images).activation_ratios
    captions = re.findall(
        r"image_(\d\d): (\w+) sets\. ([\d.]+) classes in a set on average, loss ([\d.]+)\.", found.text
    )
    order = np.argsort(-ratios, kind="stable")
    assert [kind for _, kind, _, _ in captions] == ["largest"] * 2 + ["typical"] * 2 + ["smallest"] * 2
    shown = [ratios[int(place)] for place, *_ in captions]
    assert shown == [ratios[order[rank]] for rank in (0, 1, 9, 10, 18, 19)]
    for place, _, ratio, loss in captions:
        assert ratio == f"{ratios[int(place)]:.3f}"
        assert loss == f"{expected(images).losses[int(place)]:.4f}"


def test_names_in_the_report_are_escaped(calibrated: Path, run: Run) -> None:
    name = "<b>&\"'<script>alert(1)</script>"
    done = run(
        *("report", "--calibrator", calibrated, *TEST, "--class-names", name, "b", "c", "d"),
        *("--title", name, "--out", "own.html"),
    )
    assert done.status == 0
    text = Path("own.html").read_text(encoding="utf-8")
    found = Page(text)
    assert "<b>" not in text
    assert not found.tags & {"script", "b"}
    assert f"<title>{unescape(name)}" not in text
    assert name in found.text
    assert [row[0] for row in found.rows].count(name) == 1


def test_the_report_on_photographs(calibrated: Path, run: Run, plain: Page) -> None:
    Path("photos").mkdir()
    for i in range(20):
        colours = np.random.default_rng(i).integers(0, 255, (12, 16, 3), np.uint8)
        Image.fromarray(colours).save(f"photos/image_{i:02}.jpg")
    with_photos = page(run, "--images", "photos")
    assert with_photos.pictures[:4] == plain.pictures[:4], "the same numbers give the same bytes"
    wide = [imread(io.BytesIO(each.pictures[-1])).shape[1] for each in (plain, with_photos)]
    assert wide[1] == pytest.approx(wide[0] * 4 / 3, rel=0.05), "a panel more"
    Path("photos/image_07.jpg").unlink()
    done = run("report", "--calibrator", calibrated, *TEST, "--images", "photos")
    assert done.status == 2
    assert done.error.startswith("no file image_07 in photos, which would belong to")


def test_the_report_of_groups(root: Path, run: Run, images: Images) -> None:
    run("calibrate", *CALIBRATION, "--groups", "groups.csv")
    Path("of_test.csv").write_text("".join(f"image_{i:02},g{min(i, 4)}\n" for i in range(20)))
    found = page(run, "--groups", "of_test.csv", "--alphas", 0.1)
    groups = [f"g{min(i, 4)}" for i in range(20)]
    calibrator = cm.ConformalRiskCalibrator.load("calibrator.json")
    report = calibrator.evaluate(images[0][40:], images[1][40:], groups=groups)
    assert found.value("empirical risk") == f"{report.empirical_risk:.4f}"
    sizes, valid = calibrator.set_size(images[0][40:]), images[1][40:] != 255
    one = ((sizes == 1) & valid).sum((1, 2)) / valid.sum((1, 2))
    mean = np.mean([*one[:4], one[4:].mean()])
    assert found.value("pixels with one class").startswith(f"{100 * mean:.1f} %")
    assert "Which levels 20 calibration groups reach" in found.text


def test_labels_that_belong_to_other_scores_are_told_in_the_page(
    root: Path, run: Run, images: Images
) -> None:
    assert run("calibrate", *CALIBRATION).status == 0
    assert "hardly belong together" not in page(run).text
    for file in Path("test/labels").glob("*.png"):
        labels = np.asarray(Image.open(file)).astype(int)
        Image.fromarray(np.where(labels == 255, 255, (labels + 1) % K).astype(np.uint8)).save(file)
    done = run("report", "--calibrator", "calibrator.json", *TEST)
    assert "hardly belong together" in done.err
    assert "hardly belong together" in Path("report.html").read_text(encoding="utf-8")


def test_the_report_of_images_with_weights_speaks_of_them(root: Path, run: Run, images: Images) -> None:
    weights = np.linspace(0.2, 1, 40)
    calibrator = cm.ConformalRiskCalibrator()
    calibrator.fit(images[0][:40], images[1][:40], sample_weight=weights).save("calibrator.json")
    found = page(run)
    assert "It holds if the weights of the calibration images are the density ratio" in found.text
    assert "are exchangeable" not in found.text
    calibrator.fit(images[0][:40], images[1][:40], sample_weight=np.ones(40)).save("calibrator.json")
    assert "It holds if calibration images and new ones are exchangeable" in page(run).text


def test_the_report_of_a_lambda_for_each_class(root: Path, run: Run, images: Images) -> None:
    run("calibrate", *CALIBRATION, "--by-class")
    found = page(run)
    assert found.value("lambda-hat") == "one for each class"
    assert len(found.pictures) == 3 + 6  # the risks of parts in place of the risk curve and the miss rates
    assert " over all classes, which alpha does not limit" in found.value("empirical risk")
    assert "risk on these images over all classes" in found.text
    header = ("alpha", "images of each class needed", "reached", "risk over all classes", "classes in a set")
    levels = found.table(*header)
    held = (images[1][:40, None] == np.arange(K)[:, None, None]).any((2, 3)).sum(axis=0)
    enough = int((held >= 49).sum()), int((held >= 19).sum())
    assert [row[:3] for row in levels[1:3]] == [
        ["0.02", "49", "no" if not enough[0] else f"by {enough[0]} of {K}"],
        ["0.05", "19", "yes" if enough[1] == K else f"by {enough[1]} of {K}"],
    ]
    assert "Risk of each class, which alpha limits" in found.text
    assert len(found.table("class", "risk", "95 % interval", "lambda-hat", "images", "calibrated on")) >= K


def test_the_report_without_profiles(root: Path, run: Run, images: Images) -> None:
    run("calibrate", *CALIBRATION, "--no-profiles")
    found = page(run)
    assert found.value("empirical risk") == f"{expected(images).empirical_risk:.4f}"
    assert "The calibrator has no profiles" in found.text
    assert len(found.pictures) == 2 + 6


@pytest.mark.parametrize("options", [["--loss", "binary:0.8", "--method", "pac", "--delta", "0.1"],
                                     ["--method", "wsr", "--delta", "0.2"],
                                     ["--profile", "binned"]])  # fmt: skip
def test_the_report_of_all_kinds_of_calibrators(root: Path, run: Run, options: list[str]) -> None:
    assert run("calibrate", *CALIBRATION, *options).status == 0
    assert len(page(run).pictures) == 10


def test_the_report_of_full_sets(root: Path, run: Run) -> None:
    run("calibrate", *CALIBRATION, "--alpha", "0.01", "--on-infeasible", "full")
    found = page(run)
    assert "All sets are full: there were too few calibration images" in found.text
    assert found.value("pixels with one class") == "0.0 %; of these, there is none"


def test_the_report_of_few_images(calibrated: Path, run: Run, images: Images) -> None:
    Path("names.txt").write_text("image_03\nimage_04\nimage_05\n")
    Image.fromarray(np.full((12, 16), 255, np.uint8)).save("test/labels/image_04.png")
    done = run("report", "--calibrator", calibrated, *TEST, "--names", "names.txt")
    assert done.status == 0
    found = Page(Path("report.html").read_text())
    assert found.value("images") == "2 (1 skipped)"
    assert re.findall(r"image_(\d\d): \w+ sets\.", found.text) in (["03", "05"], ["05", "03"])
    Path("names.txt").write_text("image_04\n")
    done = run("report", "--calibrator", calibrated, *TEST, "--names", "names.txt")
    assert done.status == 0
    found = Page(Path("report.html").read_text())
    assert found.text.count("No image has a labelled pixel.") == 2
    assert "nan %" not in found.text


def test_the_report_of_volumes(root: Path, run: Run) -> None:
    rng = np.random.default_rng(0)
    for kind in ("volumes", "truth"):
        Path(kind).mkdir()
    for i in range(9):
        X = rng.dirichlet(np.full(3, 0.3), size=(16, 12, 5)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(X, np.eye(4)), f"volumes/case{i}.nii.gz")
        y = rng.integers(0, 3, (16, 12, 5)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(y, np.eye(4)), f"truth/case{i}.nii.gz")
    data = ("--maps", "volumes", "--labels", "truth")
    assert run("calibrate", *data).status == 0
    done = run("report", "--calibrator", "calibrator.json", *data, "--allow-seen")
    assert done.status == 0
    assert "seem to be those of calibration" not in done.out
    assert re.search(r"case\d, slice [1-5] of 5: largest sets\.", Page(Path("report.html").read_text()).text)
    done = run("report", "--calibrator", "calibrator.json", *data, "--allow-seen", "--images", "truth")
    assert (done.status, done.error) == (
        2,
        "--images goes with flat maps (K, H, W) only: for volumes slices are drawn",
    )


def test_without_matplotlib(calibrated: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for command in (
        ["report", *TEST],
        ["apply", "--maps", "test/maps", "--out", "sets", "--heatmaps"],
    ):
        done = run(command[0], "--calibrator", calibrated, *command[1:])
        assert (done.status, done.error) == (2, 'pictures need Matplotlib: pip install "conformask[cli]"')
        assert not Path("report.html").exists()
    assert run("apply", "--calibrator", calibrated, "--maps", "test/maps", "--out", "sets").status == 0


def test_all_text_of_a_page_is_escaped() -> None:
    text, shown = "<i>&", "&lt;i&gt;&amp;"
    made = [
        _page.page(text, text, [], text),
        _page.section(text),
        _page.paragraph(text),
        _page.cards([(text, text, text)]),
        _page.table(Table(text, (text, text), [(text, text)])),
        _page.figure(b"", text, text, 1),
    ]
    for html, n in zip(made, (4, 1, 1, 3, 5, 2), strict=True):
        assert "<i>" not in html
        assert html.count(shown) == n


def test_long_tables_are_folded() -> None:
    short, long = (_page.table(Table("", ("a",), [("1",)] * n)) for n in (30, 31))
    assert "<details>" not in short
    assert "<summary>Table of all 31</summary>" in long
    Page(long)


@pytest.mark.parametrize(
    ("shares", "names"),
    [
        ([0, 0.9, 0.1, 0, 0, 0], ["1", "2", "3"]),
        ([0.1, 0.9, 0, 0], ["0", "1", "2"]),
        ([0, 0, 0, 0, 1.0], ["1", "2", "3", "4"]),
        ([0, *[0.05] * 20], [*map(str, range(1, 12)), "≥ 12"]),
        ([0, 0.5, 0.5], ["1", "2"]),
    ],
)
def test_bars_are_of_sizes_that_occur(shares: list[float], names: list[str]) -> None:
    [ax] = _pictures.size_shares(np.array(shares)).axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == names
    heights = [bar.get_height() for bar in ax.patches]
    assert sum(heights) == pytest.approx(100 * sum(shares))


def test_the_most_probable_class_is_that_of_the_scaler(tmp_path: Path, images: Images) -> None:
    X, y = images
    logits = np.log(X) + np.array([4, 0, 0, 0], np.float32)[:, np.newaxis, np.newaxis]
    fill(tmp_path, logits[:20], y[:20])
    scaler = cm.VectorScaler().fit(logits[20:40], y[20:40])
    calibrator = cm.ConformalRiskCalibrator(alpha=0.2, transform=scaler, inputs="logits").fit(
        logits[40:], y[40:]
    )
    watched = Watched(PairedFolder(tmp_path / "maps", tmp_path / "labels"), calibrator, None)
    probable = scaler.transform(logits[:20]).argmax(axis=1)
    assert (probable != logits[:20].argmax(axis=1)).mean() > 0.2
    for place in range(20):
        assert (watched.guess(place, logits[place]) == probable[place]).all()
