"""COAT's tables: the splits, what is measured and said of it, folders of one's own."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone

import conformask as cm
from conformask.reproduction import coat
from conformask.reproduction.coat import (
    AdaptiveComparison,
    AdaptiveOutcome,
    BinaryMaps,
    compare_adaptive,
    methods_to_compare,
    read_folder,
    temperatures_to_compare,
)
from conformask.reproduction.coat.paper import ALPHAS, METHODS, N_SPLITS, TABLE_1, TABLE_2, published
from conformask.reproduction.coat.tables import document, table_1, table_2
from ctrl_c import stops

SIZE = 8
# Masks are made up without regard to the probabilities.
pytestmark = pytest.mark.filterwarnings("ignore:masks (of|hold):conformask.SuspiciousLabelsWarning")


def maps(n: int = 80, *, seed: int = 0, groups: Any = None, empty: int = 0, images: Any = None) -> BinaryMaps:
    """Two kinds of images, of one of which the object is hard to see; the first pixel tells which image it is."""
    rng = np.random.default_rng(seed)
    P = rng.beta(rng.choice([1.0, 4.0], (n, 1, 1)), 1, (n, SIZE, SIZE))
    y = np.ones(P.shape, np.uint8)
    y[:, :2] = 0
    y[:empty] = 0
    P[:, 0, 0] = np.arange(n) / 1024
    return BinaryMaps("two kinds", P, y, groups, images)


def which(P: Any) -> list[int]:
    return [round(1024 * float(p[0, 0])) for p in P]


class Spy(cm.BinaryRiskCalibrator):
    """Remembers what it was given."""

    seen: ClassVar[list[tuple[str, float, list[int], Any]]] = []

    def fit(self, P: Any, y: Any = None, *, groups: Any = None, sample_weight: Any = None) -> Spy:
        self.seen.append(("fit", self.alpha, which(P), groups))
        return super().fit(P, y, groups=groups, sample_weight=sample_weight)

    def evaluate(self, P: Any, y: Any = None, *, groups: Any = None) -> cm.BinaryReport:
        self.seen.append(("evaluate", self.alpha, which(P), groups))
        return super().evaluate(P, y, groups=groups)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, list[int], Any]]:
    found: list[tuple[str, float, list[int], Any]] = []
    monkeypatch.setattr(Spy, "seen", found)
    return found


# The protocol


def test_halves_are_random_disjoint_and_the_same_for_all(
    seen: list[tuple[str, float, list[int], Any]],
) -> None:
    found = compare_adaptive(
        maps(81, empty=2), {"one": Spy(), "other": Spy()}, n_splits=3, random_state=5, progress=False
    )
    kept = np.arange(2, 81)
    for split in range(3):
        calls = seen[8 * split : 8 * split + 8]
        order = np.random.default_rng([5, split]).permutation(79)
        calibration, test = np.sort(kept[order[:39]]).tolist(), np.sort(kept[order[39:]]).tolist()
        assert [call[0] for call in calls] == ["fit", "evaluate"] * 4
        assert [call[1] for call in calls] == [0.1] * 4 + [0.2] * 4
        assert [call[2] for call in calls] == [calibration, test] * 4
        assert not set(calibration) & set(test)
    assert {(each.n_calibration, each.n_test) for each in found.outcomes} == {(39, 40)}
    assert (found.unit, found.n_empty) == ("image", 2)
    assert len({tuple(call[2]) for call in seen if call[0] == "fit"}) == 3


def test_groups_are_not_parted(seen: list[tuple[str, float, list[int], Any]]) -> None:
    groups = np.repeat(np.arange(30), [1, 2, 3] * 10).tolist()
    found = compare_adaptive(
        maps(60, groups=groups), {"one": Spy()}, alphas=(0.2,), n_splits=4, progress=False
    )
    for (_, _, some, given), (_, _, others, rest) in zip(seen[::2], seen[1::2], strict=True):
        assert given == [groups[i] for i in some]
        assert rest == [groups[i] for i in others]
        assert len(set(given)) == len(set(rest)) == 15
        assert not set(given) & set(rest)
        assert sorted([*some, *others]) == list(range(60))
    assert found.unit == "group"
    assert "30 groups, 4 random splits into 15 that calibrate and 15 that test." in str(found)


class Trained:
    """A model of thresholds that remembers what trained it."""

    trained_on: ClassVar[list[list[int]]] = []
    photographs: ClassVar[list[list[int]]] = []

    def fit(self, P: Any, y: Any, *, alpha: float, images: Any) -> None:
        self.trained_on.append(which(P))
        if images is not None:
            self.photographs.append([int(image) for image in images])

    def predict(self, P: Any, images: Any = None) -> Any:
        if images is not None:
            assert [int(image) for image in images] == which(P)
        return np.full(len(P), 0.5)


def test_half_of_the_calibration_half_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[list[int]] = []
    photographs: list[list[int]] = []
    monkeypatch.setattr(Trained, "trained_on", trained)
    monkeypatch.setattr(Trained, "photographs", photographs)
    model: Any = Trained()
    methods = {"AT": cm.ATCalibrator(predictor=model), "COAT": cm.COATCalibrator(predictor=model)}
    found = compare_adaptive(
        maps(80, images=np.arange(80)), methods, alphas=(0.2,), n_splits=3, progress=False
    )
    calibration = [np.random.default_rng([0, split]).permutation(80)[:40] for split in range(3)]
    for split in range(3):
        one, other = trained[2 * split : 2 * split + 2]
        assert one == other  # the same part for all
        assert len(one) == 20
        assert set(one) < set(calibration[split].tolist())
    places = [
        tuple(np.searchsorted(np.sort(some), one))
        for some, one in zip(calibration, trained[::2], strict=True)
    ]
    assert len(set(places)) == 3  # drawn anew in each split
    assert photographs == trained
    assert {each.report.n_calibration for each in found.outcomes} == {20}


def test_measures_are_those_of_the_reports() -> None:
    source = maps(100)
    found = compare_adaptive(source, {"CRA": cm.CRACalibrator()}, alphas=(0.2,), n_splits=2, progress=False)
    for outcome in found.outcomes:
        order = np.random.default_rng([0, outcome.split]).permutation(100)
        some, others = np.sort(order[:50]), np.sort(order[50:])
        calibrator = cm.CRACalibrator(0.2).fit(source.probabilities[some], source.masks[some])
        report = calibrator.evaluate(source.probabilities[others], source.masks[others])
        assert outcome.report.coverages.tolist() == report.coverages.tolist()
        assert outcome.scatter == pytest.approx(report.coverages.std(ddof=1))
        assert outcome.expected_variance == pytest.approx(outcome.scatter**2 * (1 / 50 + 1 / 50))
    gaps = [outcome.report.coverage_gap for outcome in found.outcomes]
    assert found.mean("CRA", 0.2, "coverage_gap") == pytest.approx(np.mean(gaps))
    assert found.sd("CRA", 0.2, "coverage_gap") == pytest.approx(np.std(gaps, ddof=1))
    assert found.reports(0.2) == {"CRA": [outcome.report for outcome in found.outcomes]}
    with pytest.raises(
        ValueError, match=r"no outcomes of 'CRA' at alpha = 0\.1: there are \['CRA'\] at \[0\.2\]"
    ):
        found.mean("CRA", 0.1, "coverage")


def test_the_scatter_is_that_of_groups() -> None:
    """Images of a group are alike; the sd of the mean over splits is what their number explains."""
    single = maps(100)
    twice = BinaryMaps(
        "twice", np.repeat(single.probabilities, 2, axis=0), np.repeat(single.masks, 2, axis=0), None
    )
    rng = np.random.default_rng(0)
    noisy = np.clip(twice.probabilities + 1e-6 * rng.random(twice.probabilities.shape), 0, 1)
    grouped = BinaryMaps("twice", noisy, twice.masks, np.arange(200) // 2)
    one, other = (
        compare_adaptive(each, {"CRC": cm.BinaryRiskCalibrator()}, n_splits=1, progress=False)
        for each in (single, grouped)
    )
    for left, right in zip(one.outcomes, other.outcomes, strict=True):
        assert left.scatter == pytest.approx(right.scatter, rel=1e-3)


def test_same_numbers_again_and_others_with_another_seed() -> None:
    def coverages(seed: int) -> list[float]:
        methods = {name: methods_to_compare()[name] for name in ("AT", "CRC")}
        found = compare_adaptive(
            maps(60), methods, alphas=(0.2,), n_splits=2, random_state=seed, progress=False
        )
        return [each.report.coverage for each in found.outcomes]

    assert coverages(0) == coverages(0) != coverages(1)


def test_images_may_come_as_lists_of_any_size() -> None:
    array = maps(60)
    methods = {"CRC": cm.BinaryRiskCalibrator()}
    listed = BinaryMaps("two kinds", list(array.probabilities), list(array.masks))
    one, other = (compare_adaptive(each, methods, n_splits=2, progress=False) for each in (array, listed))
    assert [o.report.coverage for o in one.outcomes] == [o.report.coverage for o in other.outcomes]
    listed.probabilities[3], listed.masks[3] = np.full((3, 5), 0.5), np.ones((3, 5), bool)
    assert compare_adaptive(listed, methods, n_splits=1, progress=False).outcomes[0].n_test == 30


def test_the_methods() -> None:
    methods = methods_to_compare()
    assert [name for name in METHODS if name in methods] == [name for name in methods if name in METHODS]
    assert {"CRC", "AT", "COAT", "CRA"} <= methods.keys()
    fractions = {
        name: each.train_fraction for name, each in methods.items() if hasattr(each, "train_fraction")
    }
    assert set(fractions.values()) == {0.5}
    assert {each.on_empty for each in methods.values()} == {"skip"}
    temperatures = temperatures_to_compare()
    assert [each.temperature for each in temperatures.values()] == [100, 10, 1, 0.1, 0.05, 0.01, 0.001]
    assert (N_SPLITS, ALPHAS) == (20, (0.1, 0.2))
    assert all(clone(each) is not each for each in methods.values())


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        (maps(80), {"n_splits": 0}, "n_splits must be at least 1, got 0"),
        (maps(80), {"methods": {}}, "methods and alphas must hold one at least"),
        (maps(80), {"alphas": ()}, "methods and alphas must hold one at least"),
        (maps(3, empty=2), {}, "two kinds: 1 image with a foreground cannot be split in two"),
    ],
)
def test_what_cannot_be_compared(source: BinaryMaps, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_adaptive(source, **{"n_splits": 1, "progress": False, **changes})


def test_too_few_images_say_how_many_are_needed() -> None:
    with pytest.raises(cm.InfeasibleRiskError, match="Give at least 18 images in all"):
        compare_adaptive(maps(30), {"AT": cm.ATCalibrator()}, n_splits=1, progress=False)


def test_maps_must_fit() -> None:
    with pytest.raises(ValueError, match="two kinds: 80 probabilities, but 3 groups"):
        maps(80, groups=[1, 2, 3])


def test_ctrl_c() -> None:
    stops(
        "coat.compare_adaptive(maps, n_splits=10_000)",
        before=(
            "from conformask.reproduction import coat\n"
            "P = np.random.default_rng(0).random((120, 32, 32))\n"
            "maps = coat.BinaryMaps('noise', P, P > 0.3)\n"
        ),
    )


# What is said of it


def planted(
    coverages: list[float],
    *,
    method: str = "COAT",
    alpha: float = 0.1,
    scatter: float = 0.0,
    n: int = 50,
    gap: float = 0.1,
    sizes: tuple[float, ...] = (0.5,),
) -> tuple[AdaptiveOutcome, ...]:
    """Outcomes whose reports say what we want."""
    source = maps(40)
    report = (
        cm.BinaryRiskCalibrator(alpha)
        .fit(source.probabilities[:20], source.masks[:20])
        .evaluate(source.probabilities[20:], source.masks[20:])
    )
    return tuple(
        AdaptiveOutcome(
            method,
            alpha,
            split,
            n,
            n,
            0.25,
            scatter,
            replace(report, coverage=coverage, coverage_gap=gap, n_calibration=n, sizes=np.array(sizes)),
        )
        for split, coverage in enumerate(coverages)
    )


def test_too_little_coverage_is_told() -> None:
    """The standard error of three splits is 0.01 / sqrt(3) = 0.00577."""

    def said(*coverages: float, **more: Any) -> list[str]:
        return AdaptiveComparison("x", planted([*coverages], **more)).violations()

    assert said(0.879, 0.889, 0.899) == []  # 1.9 standard errors
    assert said(0.878, 0.888, 0.898) == [
        "COAT, alpha = 0.1: the mean coverage over splits is 0.8880, below 0.9 by more than two of its standard errors "
        "(0.0058)"
    ]
    assert said(0.778, 0.788, 0.798, alpha=0.2)[0].startswith(
        "COAT, alpha = 0.2: the mean coverage over splits is"
    )
    assert said(0.89, 0.89, 0.89) != []
    assert said(0.9, 0.9, 0.9) == said(0.95, 0.95) == []
    # Splits that happen to agree prove nothing if images scatter: 0.2 * sqrt(2 / 50) / sqrt(3) = 0.0231.
    assert said(0.86, 0.86, 0.86, scatter=0.2) == []
    assert said(0.85, 0.85, 0.85, scatter=0.2) != []
    # One split: 0.04.
    assert said(0.83, scatter=0.2) == []
    assert said(0.81, scatter=0.2) != []


def test_each_method_and_alpha_is_looked_at() -> None:
    outcomes = (
        *planted([0.9, 0.9], method="CRC"),
        *planted([0.9, 0.9]),
        *planted([0.8, 0.8], method="CRC", alpha=0.2),
        *planted([0.7, 0.7], alpha=0.2),
    )
    found = AdaptiveComparison("x", outcomes)
    assert (found.methods, found.alphas) == (["CRC", "COAT"], [0.1, 0.2])
    [sentence] = found.violations()
    assert sentence.startswith("COAT, alpha = 0.2: the mean coverage over splits is 0.7000, below 0.8")
    assert f"Does not hold: {sentence}." in str(found)


def test_the_order_of_gaps_is_told_and_no_requirement() -> None:
    def said(coat: float, at: float, crc: float) -> str:
        outcomes = [
            each
            for method, gap in {"CRC": crc, "AT": at, "COAT": coat}.items()
            for each in planted([0.95, 0.95], method=method, gap=gap)
        ]
        found = AdaptiveComparison("x", tuple(outcomes))
        assert found.violations() == []
        assert found.gap_order(0.1) in str(found)
        return found.gap_order(0.1)

    assert said(0.05, 0.06, 0.07) == (
        "Coverage gap at alpha = 0.1: COAT 0.050 < AT 0.060 < CRC 0.070. The paper's order, COAT < AT < CRC, holds "
        "here; the gap of COAT is smaller than that of CRC in 2 of 2 splits."
    )
    other = said(0.08, 0.06, 0.07)
    assert (
        "AT 0.060 < CRC 0.070 < COAT 0.080. The paper's order, COAT < AT < CRC, does not hold here" in other
    )
    assert "in 0 of 2 splits" in other
    alone = AdaptiveComparison("x", planted([0.95, 0.95])).gap_order(0.1)
    assert alone == "Coverage gap at alpha = 0.1: COAT 0.100."


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_it_prints_as_a_table() -> None:
    outcomes = planted([0.89, 0.91], gap=0.125, sizes=(0.5, 1.0, 0.25, 0.25))
    found = AdaptiveComparison("my images", outcomes, "image", 1)
    title, sizes, caption, table, notes = str(found).split("\n\n")
    assert title == "## my images"
    assert sizes == (
        "Source: not said. "
        "100 images, 2 random splits into 50 that calibrate and 50 that test; 1 image without a foreground left out."
    )
    assert caption == "**alpha = 0.1: mean (sd over splits)**"
    header, _, row = map(cells, table.splitlines())
    values = dict(zip(header, row, strict=True))
    assert values["method"] == "COAT"
    assert values["coverage"] == "0.900 (0.014)"
    assert values["coverage gap"] == "0.125 (0.000)"
    assert values["full masks"] == "0.250"
    assert values["seconds of fit"] == "0.25"
    assert {"images above alpha", "risk of the worst 10 %", "false positive rate", "size"} <= values.keys()
    assert "No mean coverage is below 1 - alpha by more than two of its standard errors" in notes
    assert found._repr_markdown_() == str(found)
    assert "(" not in str(AdaptiveComparison("x", outcomes[:1])).split("|")[-10]  # one split has no sd


def test_papers_rows_stand_below_ours() -> None:
    found = AdaptiveComparison(
        "mine",
        (*planted([0.9, 0.9], method="CRC"), *planted([0.9, 0.92], method="new")),
        origin="simulated",
    )
    table = table_1([found], 0.1)
    assert table.header == ("data", "source", *METHODS, "new")
    assert table.rows[0] == (
        "mine",
        "simulated",
        "0.900 (0.000) / 0.100 (0.000)",
        "-",
        "-",
        "-",
        "0.910 (0.014) / 0.100 (0.000)",
    )
    rows = {row[0]: row for row in table.rows[1:]}
    assert len(rows) == len(TABLE_1) == 12
    assert {row[1] for row in rows.values()} == {"the paper"}
    assert rows["Polyp, DeepLabv3+"][2:] == (
        "0.907 / 0.145",
        "0.900 / 0.122",
        "0.899 / -",
        "0.899 / 0.113",
        "-",
    )
    later = {row[0]: row for row in table_1([], 0.2).rows}
    assert later["Skin, SINet"][2:] == (
        "0.806 / 0.113",
        "0.805 / 0.075",
        "0.800 / 0.074",
        "0.800 / 0.071",
    )
    assert table_1([found], 0.3).rows == []


def test_what_the_paper_printed() -> None:
    """COAT has the smallest gap of its table wherever that is legible, but for one tie."""
    for data, figures in TABLE_1.items():
        assert len(figures) == 16
        for alpha in ALPHAS:
            pairs = {name: published(data, name, alpha) for name in METHODS}
            assert all(abs(coverage - (1 - alpha)) < 0.011 for coverage, _ in pairs.values())
            gaps = {name: gap for name, (_, gap) in pairs.items() if not math.isnan(gap)}
            assert gaps["COAT"] == min(gaps.values())
            assert gaps["CRC"] == max(gaps.values())
    for data, row in TABLE_2.items():
        assert row[4] == min(row) == published(data, "COAT", 0.1)[1]


def test_table_of_temperatures() -> None:
    found = AdaptiveComparison("mine", planted([0.9, 0.9], method="T = 0.05"))
    table = table_2([found])
    assert table.header == (
        *("data", "source"),
        *("T = 100", "T = 10", "T = 1", "T = 0.1", "T = 0.05", "T = 0.01", "T = 0.001"),
    )
    assert list(table.header) == ["data", "source", *temperatures_to_compare()]
    assert table.rows[0] == ("mine", "not said", *["-"] * 4, "0.900 (0.000) / 0.100 (0.000)", "-", "-")
    assert table.rows[1] == (
        *("Polyp, SINet", "the paper"),
        *("0.151", "0.153", "0.156", "0.114", "0.102", "0.148", "0.147"),
    )
    text = document([], [AdaptiveComparison("mine", planted([0.7, 0.7], method="T = 0.05"))])
    assert "- mine, temperatures: T = 0.05, alpha = 0.1: the mean coverage over splits is 0.7000" in text


# Sources


def test_rendered_scenes() -> None:
    cars, people = coat.rendered(12, size=(24, 40))
    scenes = cm.datasets.make_scenes(52, size=(24, 40), random_state=0)
    for source, name in ((cars, "car"), (people, "person")):
        labels = scenes.labels[40:]
        assert (source.masks[labels == 255] == 255).all()
        assert ((source.masks == 1) == (labels == scenes.class_names.index(name))).all()
        assert source.probabilities.shape == (12, 24, 40)
        assert source.groups is None
    inside, outside = (cars.probabilities[cars.masks == value].mean() for value in (1, 0))
    assert inside > outside + 0.2


def test_stored_predictions(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder was given"):
        coat.stored(None)
    with pytest.raises(FileNotFoundError, match="usgra-seg"):
        coat.stored(tmp_path)
    probs = np.random.default_rng(0).dirichlet(np.ones(3), (6, 4, 5)).transpose(0, 3, 1, 2).astype(np.float32)
    labels = np.random.default_rng(1).choice(np.array([0, 1, 2, 255], np.uint8), (6, 4, 5))
    (tmp_path / "usgra-seg").mkdir()
    np.savez(tmp_path / "usgra-seg" / "predictions.npz", probs=probs, labels=labels, group=np.arange(6) // 2)
    for k, source in enumerate(coat.stored(tmp_path), 1):
        assert source.name == f"usgra-seg: {['nerve', 'vessel'][k - 1]}"
        assert (source.probabilities == probs[:, k]).all()
        assert (source.masks == np.where(labels == 255, 255, labels == k)).all()
        assert [unit.tolist() for unit in source.units()] == [[0, 1], [2, 3], [4, 5]]


def test_real_images(data_folder: Path) -> None:
    try:
        nerve, vessel = coat.stored(data_folder)
    except FileNotFoundError as error:
        pytest.skip(f"{error} (CONFORMASK_DATA)")
    assert (len(nerve), len(nerve.with_foreground()), len(vessel.with_foreground())) == (244, 244, 219)
    methods = {"CRC": cm.BinaryRiskCalibrator(), "CRA": cm.CRACalibrator()}
    found = compare_adaptive(vessel, methods, n_splits=8, progress=False)
    assert found.violations() == []
    for alpha in ALPHAS:
        assert found.mean("CRA", alpha, "coverage_gap") < found.mean("CRC", alpha, "coverage_gap")


# A folder of one's own


def write(folder: Path, name: str, probabilities: np.ndarray, mask: np.ndarray) -> None:
    for kind, values in (("probabilities", probabilities), ("masks", mask)):
        (folder / kind).mkdir(exist_ok=True)
        np.save(folder / kind / f"{name}.npy", values)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three images, the last of another size."""
    rng = np.random.default_rng(0)
    for i in range(3):
        P = rng.random((4, 5 + (i == 2)), np.float32)
        write(tmp_path, f"image_{i}", P, P > 0.5)
    return tmp_path


def picture(array: np.ndarray, file: Path) -> None:
    Image.fromarray(array).save(file)


def test_a_folder_of_numpy_files(own: Path) -> None:
    (own / "masks" / "notes.txt").write_text("of no use")
    (own / "probabilities" / ".hidden.npy").write_text("of no use")
    found = read_folder(own)
    assert found.name == own.name
    assert [P.shape for P in found.probabilities] == [(4, 5), (4, 5), (4, 6)]
    for P, mask in zip(found.probabilities, found.masks, strict=True):
        assert P.dtype == np.float32
        assert (mask == (P > 0.5)).all()
    assert found.groups is None
    assert found.images is None


def test_masks_of_0_and_255(own: Path) -> None:
    expected = [mask.copy() for mask in read_folder(own).masks]
    for file, mask in zip(sorted((own / "masks").iterdir()), expected, strict=True):
        file.unlink()
        picture((mask * 255).astype(np.uint8), file.with_suffix(".png"))
    for mask, true in zip(read_folder(own).masks, expected, strict=True):
        assert mask.dtype == bool
        assert (mask == true).all()


def test_255_is_void_where_there_are_ones(own: Path) -> None:
    files = sorted((own / "masks").iterdir())
    np.save(files[0], np.array([[0, 1, 255, 0, 0]] * 4))
    np.save(files[1], np.array([[0, 0, 255, 0, 0]] * 4, np.uint8))
    with pytest.warns(
        UserWarning, match="1 mask holds 255, but no 1, and others a 1: 255 is void in all of them"
    ):
        first, second, third = read_folder(own).masks
    assert first.tolist() == [[0, 1, 255, 0, 0]] * 4
    assert second.tolist() == [[0, 0, 255, 0, 0]] * 4
    assert third.dtype == bool


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA"])
def test_modes_of_pictures(own: Path, mode: str) -> None:
    true = np.load(own / "masks" / "image_0.npy")
    (own / "masks" / "image_0.npy").unlink()
    grey = Image.fromarray((true * 255).astype(np.uint8))
    if mode == "P":
        made = Image.new("P", (5, 4))
        made.putpalette([0, 0, 0, 200, 0, 0])
        made.putdata(true.astype(np.uint8).ravel().tolist())
    else:
        made = grey.convert(mode)
    made.save(own / "masks" / "image_0.png")
    if mode == "LA":
        with pytest.raises(ValueError, match=r"image_0\.png must be boolean or integer \(H, W\), got uint8"):
            read_folder(own)
    else:
        assert (read_folder(own).masks[0] == true).all()


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_pictures_of_probabilities(own: Path, dtype: Any, white: int) -> None:
    (own / "probabilities" / "image_1.npy").unlink()
    levels = np.linspace(0, white, 20).astype(dtype).reshape(4, 5)
    picture(levels, own / "probabilities" / "image_1.png")
    found = read_folder(own).probabilities[1]
    assert found.dtype == np.float32
    assert np.allclose(found, levels / white)
    assert (found.min(), found.max()) == (0, 1)


def test_archives_hold_one_array(own: Path) -> None:
    P = np.load(own / "probabilities" / "image_0.npy")
    (own / "probabilities" / "image_0.npy").unlink()
    file = own / "probabilities" / "image_0.npz"
    np.savez(file, anything=P)
    assert (read_folder(own).probabilities[0] == P).all()
    np.savez(file, one=P, two=P)
    with pytest.raises(ValueError, match=r"image_0\.npz .* it holds 2 arrays, not one: \['one', 'two'\]"):
        read_folder(own)


def test_groups_and_photographs(own: Path) -> None:
    (own / "groups.csv").write_text("image_2,b\nimage_0, a\n\nimage_1,a\n")
    (own / "images").mkdir()
    picture(np.full((4, 5), 7, np.uint8), own / "images" / "image_0.png")
    picture(np.full((4, 5, 3), 9, np.uint8), own / "images" / "image_1.jpg")
    np.save(own / "images" / "image_2.npy", np.zeros(3))
    found = read_folder(own, images=True)
    assert found.groups == ["a", "a", "b"]
    assert [image.shape for image in found.images] == [(4, 5), (4, 5, 3), (3,)]
    assert read_folder(own).images is None
    (own / "images" / "image_1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="no file image_1 in"):
        read_folder(own, images=True)
    for text, says in [
        ("image_0,a\nimage_1,a\n", "has no group for image_2"),
        ("image_0,a\nimage_0,b\n", "gives image_0 two groups, a and b"),
        ("image_0\n", r"must have two columns, name and group, got \['image_0'\]"),
    ]:
        (own / "groups.csv").write_text(text)
        with pytest.raises(ValueError, match=says):
            read_folder(own)


def test_a_missing_mask_and_one_too_many(own: Path) -> None:
    extra = own / "masks" / "other.npy"
    np.save(extra, np.ones((4, 5), bool))
    with pytest.warns(UserWarning, match=r"1 mask of .*masks without probabilities left out, .* other"):
        assert len(read_folder(own)) == 3
    extra.unlink()
    (own / "masks" / "image_1.npy").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no file image_1 in .*masks, which would belong to .*image_1\.npy"
    ):
        read_folder(own)


def test_missing_folders(tmp_path: Path, own: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        read_folder(tmp_path / "nowhere")
    for file in (own / "probabilities").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"no \.npy, \.npz or \.png in"):
        read_folder(own)


WRONG_PROBABILITIES = {
    "other size": (np.full((4, 6), 0.5), r"has shape \(4, 6\), its mask \(4, 5\)"),
    "above 1": (np.full((4, 5), 1.5), r"must hold probabilities in \[0, 1\], got numbers from 1\.5 to 1\.5"),
    "nan": (np.full((4, 5), np.nan), "must hold probabilities"),
    "integers": (np.ones((4, 5), int), r"must be floating \(H, W\), got int64 of shape \(4, 5\)"),
    "classes": (np.full((2, 4, 5), 0.5), r"must be floating \(H, W\), got float64 of shape \(2, 4, 5\)"),
    "nothing": (np.zeros((0, 5)), r"must be floating \(H, W\)"),
}
WRONG_MASKS = {
    "levels": (
        np.full((4, 5), 7, np.uint8),
        r"image_0\.npy must hold 0 and 255, or 0, 1 and 255 \(void\), got 7",
    ),
    "floats": (np.ones((4, 5)), r"must be boolean or integer \(H, W\), got float64"),
    "colours": (np.ones((4, 5, 3), np.uint8), r"must be boolean or integer \(H, W\), got uint8 of shape"),
}


@pytest.mark.parametrize("name", WRONG_PROBABILITIES)
def test_what_are_no_probabilities(own: Path, name: str) -> None:
    values, says = WRONG_PROBABILITIES[name]
    np.save(own / "probabilities" / "image_0.npy", values)
    with pytest.raises(ValueError, match=says):
        read_folder(own)


@pytest.mark.parametrize("name", WRONG_MASKS)
def test_what_are_no_masks(own: Path, name: str) -> None:
    values, says = WRONG_MASKS[name]
    np.save(own / "masks" / "image_0.npy", values)
    with pytest.raises(ValueError, match=says):
        read_folder(own)


def test_files_that_cannot_be_read(own: Path) -> None:
    file = own / "probabilities" / "image_0.npy"
    P = np.load(file)
    np.save(file, np.array([{"no": "pickles"}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"image_0\.npy cannot be read as NumPy's without pickles"):
        read_folder(own)
    file.write_bytes(b"\x93NUMPY and so on")
    with pytest.raises(ValueError, match=r"image_0\.npy cannot be read"):
        read_folder(own)
    file.unlink()
    file.with_suffix(".npz").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(ValueError, match=r"image_0\.npz cannot be read"):
        read_folder(own)
    file.with_suffix(".npz").unlink()
    png = file.with_suffix(".png")
    png.write_bytes(b"\x89PNG\r\n\x1a\n and so on")
    with pytest.raises(ValueError, match=r"image_0\.png cannot be read"):
        read_folder(own)
    picture((255 * np.stack([P] * 3, axis=-1)).astype(np.uint8), png)
    with pytest.raises(ValueError, match="must be grey of 8 or 16 bits, not of mode RGB"):
        read_folder(own)
    picture((255 * P).astype(np.uint8), png)
    assert len(read_folder(own)) == 3
    np.save(file, P)
    with pytest.raises(ValueError, match=r"image_0\.npy and image_0\.png have the same name"):
        read_folder(own)
    png.unlink()
    colours = np.zeros((4, 5, 3), np.uint8)
    colours[0, 0, 0] = 255
    (own / "masks" / "image_0.npy").unlink()
    picture(colours, own / "masks" / "image_0.png")
    with pytest.raises(ValueError, match="a mask must be grey, not of several colours"):
        read_folder(own)


def test_pictures_without_pillow(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert len(read_folder(own)) == 3
    (own / "masks" / "image_0.npy").unlink()
    (own / "masks" / "image_0.png").write_bytes(b"")
    with pytest.raises(ImportError, match=r'image_0\.png needs Pillow: pip install "conformask\[plot\]"'):
        read_folder(own)
