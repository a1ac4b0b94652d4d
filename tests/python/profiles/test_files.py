"""Files of profiles: names of groups come back as they were, and what no profile holds is refused before it is read."""

from __future__ import annotations

import io
import json
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conformask as cm
from problems import wide

PROBLEM = wide(n=12, n_classes=3)
NAMES = ["a", "a\0", "a\0\0", "\0", "", "b ", "b", "\ud800", "ä", "ä", "\0a", "b"]


def exact(**options: Any) -> cm.ScoreProfiles:
    return cm.profile(PROBLEM.X, PROBLEM.y, activation=True, **options)


def binned() -> cm.BinnedProfiles:
    return cm.profile(PROBLEM.X, PROBLEM.y, collect=["miscoverage", "binary"])


def arrays_of(profiles: cm.ScoreProfiles | cm.BinnedProfiles) -> dict[str, Any]:
    file = io.BytesIO()
    profiles.save(file)
    file.seek(0)
    with np.load(file) as archive:
        return dict(archive)


# Groups


def test_names_that_end_in_nul_are_kept_apart(tmp_path: Path) -> None:
    profiles = exact(groups=NAMES)
    assert profiles._groups == NAMES
    profiles.save(tmp_path / "p.npz")
    assert cm.ScoreProfiles.load(tmp_path / "p.npz")._groups == NAMES
    parts = [profiles[i : i + 3] for i in range(0, 12, 3)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert merged._groups == NAMES
    calibrator = cm.ConformalRiskCalibrator(alpha=0.3).fit(PROBLEM.X, PROBLEM.y, groups=NAMES)
    assert calibrator.n_images_ == len(set(NAMES))
    calibrator.save(tmp_path / "c.json", profiles=True)
    loaded = cm.ConformalRiskCalibrator.load(tmp_path / "c.json")
    assert loaded.profiles_._groups == NAMES
    assert loaded.recalibrate(alpha=0.25).lambda_hat_ == calibrator.recalibrate(alpha=0.25).lambda_hat_
    assert calibrator.evaluate(PROBLEM.X, PROBLEM.y, groups=NAMES).n_groups == len(set(NAMES))


def test_names_of_consign_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = rng.random((12, 4, 3, 5, 6))
    y = samples.mean(axis=1).argmax(axis=1)
    fitted = cm.ConsignCalibrator(2, alpha=0.3).fit(samples, y, groups=NAMES)
    fitted.save(tmp_path / "c.json")
    loaded = cm.ConsignCalibrator.load(tmp_path / "c.json")
    assert loaded.n_images_ == fitted.n_images_ == len(set(NAMES))
    assert loaded._state.solution.groups == NAMES


@pytest.mark.parametrize(
    "names",
    [
        np.array(["a", "b"] * 6, object),  # a column of a table of pandas
        np.array([np.str_("a"), np.str_("b")] * 6, object),
        np.array([1, 2] * 6, object),
        np.array([np.int32(1), np.int64(2)] * 6, object),
        np.array(["a", "b"] * 6),
    ],
)
def test_columns_of_tables_are_taken(names: Any) -> None:
    calibrator = cm.ConformalRiskCalibrator(alpha=0.4, on_infeasible="full")
    assert calibrator.fit(PROBLEM.X, PROBLEM.y, groups=names).n_images_ == 2
    assert calibrator.evaluate(PROBLEM.X, PROBLEM.y, groups=names).n_groups == 2


def test_files_of_version_1_are_read() -> None:
    """Groups were an array of strings then."""
    arrays = arrays_of(exact(groups=["a", "b"] * 6))
    arrays |= {"format_version": np.int64(1), "groups": np.array(["a", "b"] * 6)}
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    assert cm.ScoreProfiles.load(file)._groups == ["a", "b"] * 6


# What is refused


def refused(arrays: dict[str, Any], says: str, kind: Any = cm.ScoreProfiles) -> None:
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.name = "that.npz"
    file.seek(0)
    with pytest.raises(ValueError, match=rf"holds no profiles of conformask: .*{says}"):
        kind.load(file)


def changed(array: Any, index: Any, value: Any) -> Any:
    array = np.array(array)
    array[index] = value
    return array


EXACT = {
    "K = 1": ({"totals": lambda a: a[:, :1]}, "K = 1"),
    "K = 10^5": ({"totals": lambda a: np.zeros((12, 10**5), np.uint64)}, "K = 100000"),
    "totals beyond 64 bits": ({"totals": lambda a: changed(a, 0, 2**63)}, "labelled pixels"),
    "many pixels": ({"totals": lambda a: changed(a, (0, 0), 2**50)}, "labelled pixels"),
    "totals of floats": ({"totals": lambda a: a.astype(float)}, "totals is an array of float64"),
    "negative totals": ({"totals": lambda a: -a.astype(np.int64)}, "totals is an array of int64"),
    "NaN activations": ({"activations": lambda a: a * np.nan}, "activations is an array of float64"),
    "negative activations": ({"activations": lambda a: -a.astype(np.int64)}, "activations is an array of int64"),
    "more activations": ({"activations": lambda a: changed(a, (0, 0), a[0, 0] + 1)}, "activations of an image"),
    "huge activations": ({"activations": lambda a: changed(a, 0, 2**63)}, "activations of an image"),
    "activations of fewer": ({"activations": lambda a: a[:5]}, "activations is an array of"),
    "fewer labels": (
        {"labels": lambda a: a[:-1]},
        r"labels is an array of uint16 \(\d+,\), but must be uint16 \(\d+,\)$",
    ),
    "labels of ints": (
        {"labels": lambda a: a.astype(np.int32)},
        r"labels is an array of int32 \(\d+,\), but must be uint16 \(\d+,\)$",
    ),
    "fewer lengths": ({"lengths": lambda a: a[:-1]}, "lengths is an array of"),
    "lengths": ({"lengths": lambda a: a + np.uint64(2**63)}, "do not agree"),
    "values of ints": ({"values": lambda a: a.astype(int)}, "values is an array of int64"),
    "a scalar": ({"values": lambda a: np.float32(1)}, r"values has shape \(\)"),
    "version -7": ({"format_version": lambda a: np.int64(-7)}, "format_version is -7"),
    "version 0": ({"format_version": lambda a: np.int64(0)}, "format_version is 0"),
    "version 99": ({"format_version": lambda a: np.int64(99)}, "newer"),
    "version 1.5": ({"format_version": lambda a: np.float64(1.5)}, "format_version is an array of float64"),
    "version text": ({"format_version": lambda a: np.str_("1")}, "format_version is an array of <U1"),
    "groups": ({"groups": lambda a: np.str_(json.dumps({"a": 1}))}, "groups must"),
    "groups of fewer": ({"groups": lambda a: np.str_(json.dumps(["a"]))}, "groups must"),
    "groups of floats": ({"groups": lambda a: np.ones(12)}, "groups is an array of float64"),
    "unknown": ({"more": lambda a: np.zeros(3)}, "'more', which profiles do not have"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_exact_profiles_that_are_none(name: str) -> None:
    changes, says = EXACT[name]
    arrays = arrays_of(exact(groups=NAMES))
    refused(arrays | {member: change(arrays.get(member)) for member, change in changes.items()}, says)


def test_members_that_are_missing() -> None:
    for kind, profiles in ((cm.ScoreProfiles, exact()), (cm.BinnedProfiles, binned())):
        arrays = arrays_of(profiles)
        for name in arrays.keys() - {"activations", "hashes", "kind", "bins_0", "bins_1"}:
            rest = {member: array for member, array in arrays.items() if member != name}
            refused(rest, f"it lacks {name}", kind)


BINNED = {
    "K = 10^8": ({"n_classes": lambda a: np.int64(10**8)}, "n_classes is 100000000"),
    "K = 1": ({"n_classes": lambda a: np.int64(1)}, "n_classes is 1"),
    "K < 0": ({"n_classes": lambda a: np.int64(-3)}, "n_classes is -3"),
    "2^64 - 1 images": ({"n_images": lambda a: np.uint64(2**64 - 1)}, "n_images is 18446744073709551615"),
    "no images": ({"n_images": lambda a: np.uint64(0)}, "hashes is an array of"),
    "n_defined": ({"n_defined": lambda a: a + np.uint64(2**63)}, "do not fit"),
    "a bin twice": ({"bins_1": lambda a: changed(a, 1, a[0])}, "not in order"),
    "negative bins": ({"bins_1": lambda a: -a.astype(np.int64)}, "bins_1 is an array of int64"),
    "a bin beyond": ({"bins_1": lambda a: changed(a, -1, 2**17)}, "not in order"),
    "fewer bins": ({"bins_1": lambda a: a[:-1]}, "part_1 is an array of"),
    "too much in a bin": ({"part_1": lambda a: changed(a, (0, 0), 2**63)}, "do not fit"),
    "beyond 128 bits": ({"part_1": lambda a: np.full_like(a, 2**64 - 1)}, "do not fit"),
    "a step beyond": ({"part_0": lambda a: changed(a, 0, 2.0)}, "do not fit"),
    "a step of NaN": ({"part_0": lambda a: changed(a, 0, np.nan)}, "do not fit"),
    "unknown": ({"part_7": lambda a: np.zeros(3)}, "'part_7', which profiles do not have"),
}  # fmt: skip


@pytest.mark.parametrize("name", BINNED)
def test_binned_profiles_that_are_none(name: str) -> None:
    changes, says = BINNED[name]
    arrays = arrays_of(binned())
    assert set(arrays) >= {"part_0", "bins_1", "part_1"}
    assert "bins_0" not in arrays  # of the binary loss
    refused(
        arrays | {member: change(arrays.get(member)) for member, change in changes.items()},
        says,
        cm.BinnedProfiles,
    )


@pytest.mark.parametrize("name", ["more", "totals", "values"])
def test_gigabytes_are_not_inflated(name: str, tmp_path: Path) -> None:
    """A member of half a GB of zeros takes half a MB in the file; it might be any number."""
    arrays = arrays_of(exact())
    np.savez_compressed(tmp_path / "p.npz", **{member: a for member, a in arrays.items() if member != name})
    header = io.BytesIO()
    shape = (4, 1 << 24) if name == "totals" else (1 << 26,)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8" if name == "values" else "<u8", "fortran_order": False, "shape": shape}
    )
    with (
        zipfile.ZipFile(tmp_path / "p.npz", "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        zeros = bytes(1 << 26)
        for _ in range(8):
            member.write(zeros)
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(ValueError, match=r"p\.npz holds no profiles of conformask: "):
            cm.ScoreProfiles.load(tmp_path / "p.npz")
        assert tracemalloc.get_traced_memory()[1] < 1 << 25
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < 1


def test_shapes_that_do_not_tell_the_size_are_refused(tmp_path: Path) -> None:
    """The header says more, or less, than there is."""
    file = tmp_path / "p.npz"
    for shape in [(10**12, 3), (2, 3), (2**62, 2**62)]:
        np.savez(file, **{member: a for member, a in arrays_of(exact()).items() if member != "totals"})
        with zipfile.ZipFile(file, "a") as archive, archive.open("totals.npy", "w") as member:
            header = {"descr": "<u8", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            member.write(bytes(8 * 36))
        with pytest.raises(ValueError, match="totals is no array of uint64"):
            cm.ScoreProfiles.load(file)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    exact().save(tmp_path / "p.npz")
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(tmp_path / "p.npz", "a") as archive,
        archive.open("totals.npy", "w") as member,
    ):
        np.lib.format.write_array(member, np.zeros((12, 3), np.uint64))
    with pytest.raises(ValueError, match="two arrays of one name"):
        cm.ScoreProfiles.load(tmp_path / "p.npz")
