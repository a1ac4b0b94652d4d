"""Files hold everything, execute nothing, and a damaged one is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from problems import LOSSES, wide

PROBLEM, MORE = wide(), wide(seed=1)
Calibrator = cm.ConformalRiskCalibrator


def results(calibrator: Calibrator) -> tuple:
    return (
        calibrator.lambda_hat_,
        calibrator.risk_,
        calibrator.corrected_risk_,
        calibrator.n_images_,
        calibrator.n_skipped_,
        calibrator.n_classes_,
    )


def meaning(calibrator: Calibrator) -> dict:
    """The parameters, a name being the object it stands for."""
    names = {"lac": cm.LAC(), "miscoverage": cm.MiscoverageLoss(), "binary": cm.BinaryLoss(), "crc": cm.CRC()}
    return {
        name: names.get(value, value) if isinstance(value, str) else value
        for name, value in calibrator.get_params().items()
    }


def sibling_of(document: Path) -> Path:
    return document.with_name(json.loads(document.read_text())["profiles"]["file"])


@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize("profiles", [False, True])
def test_round_trip(loss_name: str, profiles: bool, tmp_path: Path) -> None:
    loss = LOSSES[loss_name](4)[0]
    saved = Calibrator(cm.LAC(include_top1=False), loss=loss, alpha=0.3, ignore_index=255).fit(
        PROBLEM.X, PROBLEM.y
    )
    saved.save(tmp_path / "calibrator.json", profiles=profiles)
    loaded = Calibrator.load(tmp_path / "calibrator.json")
    assert results(loaded) == results(saved)
    assert meaning(loaded) == meaning(saved)
    assert np.array_equal(loaded.predict(PROBLEM.X), saved.predict(PROBLEM.X))
    assert str(loaded.evaluate(PROBLEM.X, PROBLEM.y)) == str(saved.evaluate(PROBLEM.X, PROBLEM.y))
    assert len(list(tmp_path.glob("calibrator.json.*.npz"))) == profiles
    if profiles:
        assert loaded.recalibrate(alpha=0.1).lambda_hat_ == saved.recalibrate(alpha=0.1).lambda_hat_
        assert loaded.partial_fit(MORE.X, MORE.y).risk_ == saved.partial_fit(MORE.X, MORE.y).risk_


@pytest.mark.parametrize(
    "alpha", [0.1, 1 / 3, 0.7, 1e-2, 0.123456789012345678, np.float32(0.1), np.float64(0.3)]
)
def test_alpha_comes_back_as_the_same_decimal(alpha: float, tmp_path: Path) -> None:
    many = wide(n=120)
    saved = Calibrator(alpha=alpha, on_infeasible="full").fit(many.X, many.y)
    saved.save(tmp_path / "c.json", profiles=True)
    loaded = Calibrator.load(tmp_path / "c.json")
    assert repr(loaded.alpha) == str(alpha)
    assert loaded.recalibrate().lambda_hat_ == saved.lambda_hat_


@pytest.mark.parametrize(
    "parameters",
    [
        {"loss": cm.BinaryLoss(np.float32(0.7))},
        {"loss": cm.BinaryLoss(np.float64(0.7))},
        {"loss": cm.MiscoverageLoss(np.array([0.1, 0.2, 0.3, 0.4], np.float32))},
        {"loss": cm.MiscoverageLoss(classes=np.array([1, 2]))},
        {"ignore_index": np.int64(255)},
        {"ignore_index": np.uint8(255)},
        {"ignore_index": None},
        {"conformity_score": cm.LAC(include_top1=np.bool_(False))},
        {"progress": False},
    ],
    ids=str,
)
def test_numbers_of_numpy_can_be_saved(parameters: dict, tmp_path: Path) -> None:
    """What fit takes, save takes."""
    y = np.where(PROBLEM.y == 255, 0, PROBLEM.y)
    saved = Calibrator(**parameters).fit(PROBLEM.X, y)
    saved.save(tmp_path / "c.json", profiles=True)
    loaded = Calibrator.load(tmp_path / "c.json")
    assert results(loaded) == results(saved)
    assert results(loaded.recalibrate()) == results(saved)


def test_numbers_that_json_has_no_words_for(tmp_path: Path) -> None:
    """No image counts: the risk is NaN. Strict JSON all the same."""
    y = np.full_like(PROBLEM.y, 255)
    with pytest.warns(cm.InfeasibleRiskWarning), pytest.warns(cm.DroppedImagesWarning):
        saved = Calibrator(on_infeasible="full").fit(PROBLEM.X, y)
    assert np.isnan(saved.risk_)
    saved.save(tmp_path / "c.json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "c.json").read_text(), parse_constant=refuse)
    loaded = Calibrator.load(tmp_path / "c.json")
    assert np.isnan(loaded.risk_)
    assert loaded.lambda_hat_ == 1.0


def test_the_file_is_readable_and_says_what_it_is(tmp_path: Path) -> None:
    Calibrator(alpha=0.05).fit(PROBLEM.X, PROBLEM.y).save(tmp_path / "c.json")
    document = json.loads((tmp_path / "c.json").read_text())
    assert document["format"] == "conformask.ConformalRiskCalibrator"
    assert document["format_version"] == 5
    assert document["conformask_version"] == cm.__version__
    assert document["results"]["lambda_hat"]


def test_text_paths_will_do(tmp_path: Path) -> None:
    saved = Calibrator().fit(PROBLEM.X, PROBLEM.y)
    saved.save(str(tmp_path / "c.json"), profiles=True)
    assert results(Calibrator.load(str(tmp_path / "c.json"))) == results(saved)


def test_without_profiles_there_is_nothing_to_recalibrate(tmp_path: Path) -> None:
    saved = Calibrator().fit(PROBLEM.X, PROBLEM.y)
    saved.save(tmp_path / "c.json")
    loaded = Calibrator.load(tmp_path / "c.json")
    for ask in (
        lambda: loaded.recalibrate(alpha=0.2),
        lambda: loaded.profiles_,
        lambda: loaded.risk_curve(),
        lambda: loaded.save(tmp_path / "again.json", profiles=True),
        lambda: Calibrator().merge(loaded),
        lambda: Calibrator().fit(PROBLEM.X, PROBLEM.y).merge(loaded),
    ):
        with pytest.raises(
            ValueError,
            match=r"has no profiles: fit again, or load a file that was saved with profiles=True",
        ):
            ask()
    loaded.save(tmp_path / "again.json")
    assert results(Calibrator.load(tmp_path / "again.json")) == results(saved)


def test_partial_fit_needs_the_profiles_too(tmp_path: Path) -> None:
    """Else the images of before would be forgotten without a word."""
    Calibrator().fit(PROBLEM.X, PROBLEM.y).save(tmp_path / "c.json")
    loaded = Calibrator.load(tmp_path / "c.json")
    with pytest.raises(ValueError, match="has no profiles"):
        loaded.partial_fit(PROBLEM.X, PROBLEM.y)


class MyLoss(cm.BinaryLoss):
    """Of another module: to load it would mean to import it."""


class MyScore(cm.LAC):
    pass


@pytest.mark.parametrize(
    "parameters", [{"loss": MyLoss()}, {"conformity_score": MyScore()}], ids=["loss", "score"]
)
def test_foreign_code_is_not_saved(parameters: dict, tmp_path: Path) -> None:
    fitted = Calibrator(**parameters).fit(PROBLEM.X, PROBLEM.y)
    with pytest.raises(TypeError, match=r"only built-in (losses|scores) can be saved"):
        fitted.save(tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()


# Damage


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    Calibrator().fit(PROBLEM.X, PROBLEM.y).save(tmp_path / "c.json", profiles=True)
    return tmp_path / "c.json"


def change(path: Path, *keys: str, value: object) -> None:
    document = json.loads(path.read_text())
    place = document
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["format"], "another.Format"),
        (["format"], ...),
        (["format_version"], 99),
        (["format_version"], ...),
        (["format_version"], "1"),
        (["parameters"], ...),
        (["parameters"], 5),
        (["parameters", "alpha"], "2"),
        (["parameters", "alpha"], "1/0"),
        (["parameters", "alpha"], {"fraction": "1/0"}),
        (["parameters", "alpha"], {"fraction": "1e-30000000"}),
        (["parameters", "alpha"], {"fraction": "1/" + "9" * 10**6}),
        (["parameters", "alpha"], {"fraction": 0.5}),
        (["parameters", "method"], {"name": "pac", "delta": {"fraction": "1e-30000000"}}),
        (["parameters", "loss"], {"name": "binary", "min_coverage": {"fraction": "1e-30000000"}}),
        (["parameters", "alpha"], "one tenth"),
        (["parameters", "alpha"], None),
        (["parameters", "loss"], {"name": "apples"}),
        (["parameters", "loss"], {"name": "binary", "min_coverage": 5}),
        (["parameters", "loss"], {}),
        (["parameters", "loss"], None),
        (["parameters", "conformity_score"], {"name": "lac", "apples": 1}),
        (["parameters", "method"], "crc"),
        (["parameters", "method"], {"name": "apples"}),
        (["parameters", "ignore_index"], 0.5),
        (["parameters", "apples"], 1),
        (["results"], ...),
        (["results"], []),
        (["results", "lambda_hat"], "high"),
        (["results", "lambda_hat"], None),
        (["results", "lambda_hat"], -1.0),
        (["results", "lambda_hat"], 7.0),
        (["results", "lambda_hat"], "NaN"),
        (["results", "lambda_hat"], "nan"),
        (["results", "risk"], 2.0),
        (["results", "n_classes"], 1),
        (["results", "n_classes"], 2.5),
        (["results", "n_images"], -3),
        (["profiles"], ...),
        (["profiles"], 5),
    ],
    ids=lambda value: str(value)[:40],
)
def test_changed_documents_are_refused(saved: Path, keys: list[str], value: object) -> None:
    change(saved, *keys, value=value)
    with pytest.raises(ValueError, match=r"c\.json"):
        Calibrator.load(saved)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"3", b"\x93NUMPY\x01\x00", b"\xff\xfe\x00", b'{"format": NaN}'],
    ids=str,
)
def test_files_that_are_something_else(saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    with pytest.raises(ValueError, match=r"c\.json"):
        Calibrator.load(saved)


def test_half_a_file(saved: Path) -> None:
    whole = saved.read_bytes()
    for length in range(0, len(whole) - 2, 97):
        saved.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"c\.json"):
            Calibrator.load(saved)


def test_a_file_from_before_images_had_lambdas(saved: Path) -> None:
    known, document = Calibrator.load(saved), json.loads(saved.read_text())
    document["format_version"] = 3
    del document["parameters"]["adaptive"]
    saved.write_text(json.dumps(document))
    again = Calibrator.load(saved)
    assert again.adaptive is None
    assert again.lambda_hat_ == known.lambda_hat_


def test_a_newer_version_says_so(saved: Path) -> None:
    change(saved, "format_version", value=6)
    with pytest.raises(ValueError, match=r"version 6, which is newer: update conformask"):
        Calibrator.load(saved)


def test_no_file(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Calibrator.load(tmp_path / "nothing.json")


def test_without_the_file_of_profiles(saved: Path) -> None:
    known = Calibrator.load(saved)
    sibling_of(saved).unlink()
    with pytest.warns(UserWarning, match=r"^c\.json\..*\.npz, the profiles of .*c\.json, is not beside it: "):
        loaded = Calibrator.load(saved)
    assert results(loaded) == results(known)
    assert (loaded.predict(PROBLEM.X) == known.predict(PROBLEM.X)).all()
    with pytest.raises(ValueError, match=r"has no profiles: .* with the \.npz file beside it"):
        loaded.recalibrate(alpha=0.5)


@pytest.mark.parametrize("name", ["", "..", "a\0b", 3000 * "a"])
def test_names_that_no_file_of_profiles_has(saved: Path, name: str) -> None:
    change(saved, "profiles", "file", value=name)
    with pytest.raises(ValueError, match="damaged or holds no calibrator") as caught:
        Calibrator.load(saved)
    assert len(str(caught.value)) < 1000


def test_the_profiles_lie_beside_the_document(saved: Path) -> None:
    """A document cannot point elsewhere."""
    elsewhere = saved.parent / "elsewhere"
    elsewhere.mkdir()
    sibling_of(saved).rename(elsewhere / "c.npz")
    change(saved, "profiles", "file", value="elsewhere/c.npz")
    with pytest.warns(UserWarning, match="c.npz, the profiles of .*, is not beside it"):
        assert Calibrator.load(saved)._fitted().kept is None


# Profiles


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "data",
    [
        {},
        {"groups": [image // 3 for image in range(40)]},
        {"groups": ["a", "bc"] * 20},
        {"sample_weight": [0.1, 1.0] * 20},
    ],
    ids=["plain", "numbered groups", "named groups", "weights"],
)
def test_profiles_round_trip(dtype: str, data: dict, tmp_path: Path) -> None:
    saved = cm.profile(PROBLEM.X.astype(dtype), PROBLEM.y, cm.LAC(include_top1=False), **data)
    saved.save(tmp_path / "p.npz")
    loaded = cm.ScoreProfiles.load(tmp_path / "p.npz")
    assert (len(loaded), loaded.n_classes, loaded.conformity_score) == (40, 4, cm.LAC(include_top1=False))
    for loss in ("miscoverage", "binary", cm.MiscoverageLoss("balanced")):
        assert loaded.lambda_hat(loss, 0.4) == saved.lambda_hat(loss, 0.4)
        assert loaded.risk(loss, 0.4) == saved.risk(loss, 0.4)
    assert np.array_equal(loaded.losses("miscoverage", [0.1, 0.5]), saved.losses("miscoverage", [0.1, 0.5]))


def test_no_pickle_inside(tmp_path: Path) -> None:
    cm.profile(PROBLEM.X, PROBLEM.y, groups=["a"] * 40).save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


class Bomb:
    exploded = False

    def __reduce__(self) -> tuple:
        return (setattr, (Bomb, "exploded", True))


def test_a_pickle_inside_is_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", totals=np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"p\.npz holds no profiles"):
        cm.ScoreProfiles.load(tmp_path / "p.npz")
    assert not Bomb.exploded
    np.load(tmp_path / "p.npz", allow_pickle=True)["totals"]
    assert Bomb.exploded  # it would have


def parts(path: Path) -> dict[str, np.ndarray]:
    cm.profile(PROBLEM.X, PROBLEM.y).save(path)
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize(
    "fault",
    [
        lambda p: p.pop("totals"),
        lambda p: p.pop("format_version"),
        lambda p: p.update(format_version=np.int64(99)),
        lambda p: p.update(conformity_score=np.str_("{}")),
        lambda p: p.update(conformity_score=np.str_('{"name": "apples"}')),
        lambda p: p.update(totals=p["totals"][:-1]),
        lambda p: p.update(totals=p["totals"].astype(float)),
        lambda p: p.update(totals=np.zeros_like(p["totals"])),
        lambda p: p.update(lengths=p["lengths"] + np.uint64(1)),
        lambda p: p.update(lengths=np.full_like(p["lengths"], 2**63)),
        lambda p: p.update(values=p["values"][:-1]),
        lambda p: p.update(values=p["values"] * np.nan),
        lambda p: p.update(values=p["values"] - 2),
        lambda p: p.update(labels=np.full_like(p["labels"], 9)),
        lambda p: p.update(labels=p["labels"][:-1]),
    ],
)
def test_damaged_profiles_are_refused(fault: object, tmp_path: Path) -> None:
    arrays = parts(tmp_path / "p.npz")
    fault(arrays)
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(ValueError, match=r"p\.npz holds no profiles"):
        cm.ScoreProfiles.load(tmp_path / "p.npz")


def test_profiles_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    for content in (b"", b"PK\x03\x04", b"text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"p\.npz holds no profiles"):
            cm.ScoreProfiles.load(path)
    np.savez(path, X=np.zeros(3))
    with pytest.raises(ValueError, match=r"p\.npz holds no profiles"):
        cm.ScoreProfiles.load(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(ValueError, match=r"p\.npy holds no profiles"):
        cm.ScoreProfiles.load(path.with_suffix(".npy"))
    with pytest.raises(FileNotFoundError):
        cm.ScoreProfiles.load(tmp_path / "nothing.npz")


def test_profiles_of_others_are_refused(saved: Path) -> None:
    """The sibling must belong to the document."""
    other = wide(n_classes=3)
    cm.profile(other.X, other.y).save(sibling_of(saved))
    with pytest.raises(ValueError, match="is damaged, or not the file that was saved"):
        Calibrator.load(saved)
    change(saved, "profiles", value=sibling_of(saved).name)  # as version 1 had it, without a hash
    with pytest.raises(ValueError, match=r"the profiles in .* are not those of"):
        Calibrator.load(saved)


def test_files_of_version_1_are_read(saved: Path) -> None:
    known = Calibrator.load(saved)
    sibling_of(saved).rename(saved.with_suffix(".npz"))
    document = json.loads(saved.read_text())
    document |= {"format_version": 1, "profiles": "c.npz"}
    document["results"]["risk_bound"] = document["results"].pop("corrected_risk")
    del document["parameters"]["volumes"]
    saved.write_text(json.dumps(document))
    assert results(Calibrator.load(saved)) == results(known)
    assert (
        Calibrator.load(saved).recalibrate(alpha=0.4).lambda_hat_ == known.recalibrate(alpha=0.4).lambda_hat_
    )


def test_names_that_differ_keep_profiles_that_differ(tmp_path: Path) -> None:
    few = Calibrator(alpha=0.3).fit(PROBLEM.X[:12], PROBLEM.y[:12])
    many = Calibrator(alpha=0.3).fit(PROBLEM.X, PROBLEM.y)
    for name in ("alpha_0.1", "a.json", "a.txt", "x.npz"):
        few.save(tmp_path / name, profiles=True)
        many.save(tmp_path / f"{name}0", profiles=True)
        assert len(Calibrator.load(tmp_path / name).profiles_) == 12


@pytest.mark.parametrize(
    ("one", "other"), [("cal.json", "cal"), ("cal", "cal.npz"), ("a.json", "a.json.json")]
)
def test_names_that_are_alike_keep_profiles_of_their_own(one: str, other: str, tmp_path: Path) -> None:
    few = Calibrator(alpha=0.3).fit(PROBLEM.X[:12], PROBLEM.y[:12])
    many = Calibrator(alpha=0.3).fit(PROBLEM.X, PROBLEM.y)
    for first, second in ((one, other), (other, one)):
        few.save(tmp_path / first, profiles=True)
        many.save(tmp_path / second, profiles=True)
        few.save(tmp_path / first, profiles=True)
        assert len(Calibrator.load(tmp_path / first).profiles_) == 12
        assert len(Calibrator.load(tmp_path / second).profiles_) == 40
        assert len(list(tmp_path.iterdir())) == 4  # what was before is gone


def test_saving_without_profiles_removes_those_of_before(saved: Path) -> None:
    Calibrator.load(saved).save(saved)
    assert [path.name for path in saved.parent.iterdir()] == ["c.json"]


KINDS = {
    "json": lambda alpha: (Calibrator(alpha=alpha).fit(PROBLEM.X, PROBLEM.y), {}),
    "profiles": lambda alpha: (Calibrator(alpha=alpha).fit(PROBLEM.X, PROBLEM.y), {"profiles": True}),
    "npz": lambda alpha: (cm.profile(PROBLEM.X[: int(100 * alpha)], PROBLEM.y[: int(100 * alpha)]), {}),
    "consign": lambda alpha: (consign(alpha), {}),
}


def consign(alpha: float) -> cm.ConsignCalibrator:
    samples = np.stack([PROBLEM.X[:12], PROBLEM.X[12:24]], axis=1)
    return cm.ConsignCalibrator(1, min_accuracy=0.1, alpha=alpha).fit(samples, PROBLEM.y[:12])


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_full_keeps_the_old_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old, options), (new, _) = KINDS[kind](0.2), KINDS[kind](0.3)
    path = tmp_path / "file"
    old.save(path, **options)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        new.save(path, **options)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    monkeypatch.undo()
    new.save(path, **options)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} != before


KILLED = """
import itertools, sys
import numpy as np
import conformask as cm

X = np.full((20, 2, 64, 64), 0.5)
y = np.random.default_rng(0).integers(0, 2, (20, 64, 64))
calibrators = [cm.ConformalRiskCalibrator(alpha=alpha).fit(X, y) for alpha in (0.2, 0.3)]
print("ready", flush=True)
for calibrator in itertools.cycle(calibrators):
    calibrator.save(sys.argv[1], profiles=True)
"""


@pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning")  # labels are random here
def test_processes_that_save_at_once_or_are_killed_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    savers = [
        subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) for _ in range(2)
    ]
    try:
        assert all(saver.stdout is not None and saver.stdout.readline() for saver in savers)
        while not path.exists():
            time.sleep(0.01)
        for _ in range(30):
            assert Calibrator.load(path).recalibrate(alpha=0.4).n_images_ == 20
    finally:
        for saver in savers:
            saver.kill()
            saver.communicate()
    assert Calibrator.load(path).alpha in (0.2, 0.3)


def test_a_save_that_fails_writes_nothing(tmp_path: Path) -> None:
    fitted = Calibrator(loss=lambda coverage: 1 - coverage).fit(PROBLEM.X, PROBLEM.y)
    with pytest.raises(TypeError):
        fitted.save(tmp_path / "c.json", profiles=True)
    assert not list(tmp_path.iterdir())


def test_fractions_of_many_digits_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    fitted = Calibrator(alpha=Fraction(10**1200, 3 * 10**1200 + 1)).fit(PROBLEM.X, PROBLEM.y)
    with pytest.raises(ValueError, match="digits cannot be saved"):
        fitted.save(tmp_path / "c.json")
    assert not list(tmp_path.iterdir())


def test_fractions_stay_what_they_are(tmp_path: Path) -> None:
    loss = cm.MiscoverageLoss([Fraction(1, 3), 2, 0.1, Fraction(1, 2)])
    fitted = Calibrator(alpha=Fraction(1, 3), loss=loss).fit(PROBLEM.X, PROBLEM.y)
    fitted.save(tmp_path / "c.json", profiles=True)
    again = Calibrator.load(tmp_path / "c.json")
    assert (again.alpha, again.loss, again.lambda_hat_) == (Fraction(1, 3), loss, fitted.lambda_hat_)


def test_files_that_do_not_tell_of_groups_are_saved_again(tmp_path: Path) -> None:
    """Files of earlier versions."""
    problem = wide()
    path = tmp_path / "one.json"
    cm.ConformalRiskCalibrator().fit(problem.X, problem.y).save(path)
    document = json.loads(path.read_text())
    del document["results"]["grouped"]
    path.write_text(json.dumps(document))
    cm.ConformalRiskCalibrator.load(path).save(path)
    assert json.loads(path.read_text())["results"]["grouped"] is None
