"""Files hold everything, execute nothing, and a damaged one is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from problems import LOSSES, wide

PROBLEM = wide()
Calibrator = cm.ConformalRiskCalibrator


def results(calibrator: Calibrator) -> tuple:
    return (
        calibrator.lambda_hat_,
        calibrator.risk_,
        calibrator.risk_bound_,
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
    assert (tmp_path / "calibrator.npz").exists() == profiles
    if profiles:
        assert loaded.recalibrate(alpha=0.1).lambda_hat_ == saved.recalibrate(alpha=0.1).lambda_hat_
        assert loaded.partial_fit(PROBLEM.X, PROBLEM.y).risk_ == saved.partial_fit(PROBLEM.X, PROBLEM.y).risk_


@pytest.mark.parametrize(
    "alpha", [0.1, 1 / 3, 0.7, 1e-2, 0.123456789012345678, np.float32(0.1), np.float64(0.3)]
)
def test_alpha_comes_back_as_the_same_decimal(alpha: float, tmp_path: Path) -> None:
    saved = Calibrator(alpha=alpha, on_infeasible="full").fit(
        *(a.repeat(3, axis=0) for a in (PROBLEM.X, PROBLEM.y))
    )
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
    assert document["format_version"] == 1
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
        with pytest.raises(ValueError, match=r"loaded without profiles; save it with profiles=True"):
            ask()
    loaded.save(tmp_path / "again.json")
    assert results(Calibrator.load(tmp_path / "again.json")) == results(saved)


def test_partial_fit_needs_the_profiles_too(tmp_path: Path) -> None:
    """Else the images of before would be forgotten without a word."""
    Calibrator().fit(PROBLEM.X, PROBLEM.y).save(tmp_path / "c.json")
    loaded = Calibrator.load(tmp_path / "c.json")
    with pytest.raises(ValueError, match="without profiles"):
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
    ids=str,
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


def test_a_newer_version_says_so(saved: Path) -> None:
    change(saved, "format_version", value=2)
    with pytest.raises(ValueError, match=r"version 2 is newer; update conformask"):
        Calibrator.load(saved)


def test_no_file(tmp_path: Path, saved: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Calibrator.load(tmp_path / "nothing.json")
    saved.with_suffix(".npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"c\.npz, the profiles of .*c\.json, is not beside it"):
        Calibrator.load(saved)


def test_the_profiles_lie_beside_the_document(saved: Path) -> None:
    """A document cannot point elsewhere."""
    elsewhere = saved.parent / "elsewhere"
    elsewhere.mkdir()
    saved.with_suffix(".npz").rename(elsewhere / "c.npz")
    change(saved, "profiles", value="elsewhere/c.npz")
    with pytest.raises(FileNotFoundError):
        Calibrator.load(saved)


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
    cm.profile(other.X, other.y).save(saved.with_suffix(".npz"))
    with pytest.raises(ValueError, match="profiles"):
        Calibrator.load(saved).recalibrate(alpha=0.2)


def test_names_that_differ_keep_profiles_that_differ(tmp_path: Path) -> None:
    few = Calibrator(alpha=0.3).fit(PROBLEM.X[:12], PROBLEM.y[:12])
    many = Calibrator(alpha=0.3).fit(PROBLEM.X, PROBLEM.y)
    for name in ("alpha_0.1", "a.json", "a.txt", "x.npz"):
        few.save(tmp_path / name, profiles=True)
        many.save(tmp_path / f"{name}0", profiles=True)
        assert len(Calibrator.load(tmp_path / name).profiles_) == 12


def test_a_save_that_fails_writes_nothing(tmp_path: Path) -> None:
    fitted = Calibrator(loss=lambda coverage: 1 - coverage).fit(PROBLEM.X, PROBLEM.y)
    with pytest.raises(TypeError):
        fitted.save(tmp_path / "c.json", profiles=True)
    assert not list(tmp_path.iterdir())


def test_fractions_stay_what_they_are(tmp_path: Path) -> None:
    loss = cm.MiscoverageLoss([Fraction(1, 3), 2, 0.1, Fraction(1, 2)])
    fitted = Calibrator(alpha=Fraction(1, 3), loss=loss).fit(PROBLEM.X, PROBLEM.y)
    fitted.save(tmp_path / "c.json", profiles=True)
    again = Calibrator.load(tmp_path / "c.json")
    assert (again.alpha, again.loss, again.lambda_hat_) == (Fraction(1, 3), loss, fitted.lambda_hat_)
