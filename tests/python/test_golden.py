"""What the package computes, kept in `golden.json`: every later version must give the same.

The kernels promise the same bits on every processor and for any number of threads, except the SVD. So floats are kept
as `float.hex`, and arrays as dtype, shape and the first 16 digits of the SHA-256 of their bytes, in C order; arrays in
a list share one. What rests on the SVD (CONSIGN) or on the C library's logarithm is kept as decimals, and compared
within a tolerance.

    python tests/python/test_golden.py --write

writes the file anew (from the repository's root, with the package installed). A value changes only for a reason that
the changelog gives. Without the real data (`CONFORMASK_DATA`) what is kept of them stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden import CASES, REAL_CASES, Near, Results

KEPT = Path(__file__).with_name("golden.json")
REPOSITORY = Path(__file__).parents[2]


def digest(arrays: list[np.ndarray]) -> str:
    sha, kinds = hashlib.sha256(), []
    for array in arrays:
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)  # one NaN is like another
        kinds.append(f"{array.dtype.name} {'x'.join(map(str, array.shape))}")
        sha.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return f"{', '.join(dict.fromkeys(kinds))}: {sha.hexdigest()[:16]}"


def encoded(value: Any) -> Any:
    """As JSON holds it."""
    if isinstance(value, np.ndarray):
        return digest([value])
    if isinstance(value, Near):
        return [repr(float(number)) for number in flat(value.values)]
    if isinstance(value, float):
        return float(value).hex()
    if isinstance(value, list | tuple):
        arrays = value and all(isinstance(each, np.ndarray) for each in value)
        return digest(list(value)) if arrays else [encoded(each) for each in value]
    return value


def flat(values: Any) -> list[float]:
    parts = values if isinstance(values, list) else [values]
    return [float(number) for part in parts for number in np.ravel(part)]


def agrees(value: Any, kept: Any) -> bool:
    if not isinstance(value, Near):
        return bool(encoded(value) == kept)
    found, expected = np.array(flat(value.values)), np.array(kept, float)
    if found.shape != expected.shape:
        return False
    largest = np.abs(expected).max(initial=0.0) if value.of_largest else 0.0
    return np.allclose(found, expected, value.tolerance, value.tolerance * largest, equal_nan=True)


def differences(found: Results, kept: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {encoded(found.get(name))}, kept {kept.get(name)}"
        for name in {**found, **kept}
        if name not in found or name not in kept or not agrees(found[name], kept[name])
    ]


def quietly(case: Callable[..., Results], *arguments: Any) -> Results:
    """Warnings (images that are left out, full sets) are other tests' matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return case(*arguments)


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(KEPT.read_text())


@pytest.mark.parametrize("name", CASES)
def test_same_as_ever(name: str, golden: dict[str, Any]) -> None:
    assert differences(quietly(CASES[name]), golden[name]) == []


@pytest.mark.parametrize("name", REAL_CASES)
def test_same_as_ever_on_real_images(name: str, golden: dict[str, Any], data_folder: Path) -> None:
    folder = data_folder / "usgra-seg"
    if not folder.exists():
        pytest.skip(f"no real data at {folder} (CONFORMASK_DATA); the other cases have the same code to pass")
    assert differences(quietly(REAL_CASES[name], folder), golden[name]) == []


def test_nothing_else_is_kept(golden: dict[str, Any]) -> None:
    assert list(golden) == [*CASES, *REAL_CASES]


def test_one_bit_is_a_difference() -> None:
    X = np.array([[0.5, np.nan]], np.float32)
    found: Results = {
        "lambda": 0.7,
        "masks": [X],
        "svd": Near([np.array([3.0, 1e-3])], 1e-12, of_largest=True),
    }
    kept = json.loads(json.dumps({name: encoded(value) for name, value in found.items()}))
    assert differences(found, kept) == []
    assert differences({**found, "svd": Near([3.0, 1e-3 + 2e-12], 1e-12, of_largest=True)}, kept) == []
    for name, other in {
        "lambda": float(np.nextafter(0.7, 1)),
        "masks": [np.nextafter(X, np.float32(1))],
        "svd": Near([3.0, 1e-3 + 4e-12], 1e-12, of_largest=True),
        "more": 0,
    }.items():
        assert len(differences({**found, name: other}, kept)) == 1
    assert len(differences({**found, "masks": [X.T]}, kept)) == 1
    assert len(differences({**found, "masks": [X.astype(float)]}, kept)) == 1
    assert len(differences({"lambda": 0.7}, kept)) == 2


def write() -> None:
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    folder = Path(os.environ.get("CONFORMASK_DATA", REPOSITORY / "../shared/data")) / "usgra-seg"
    found = {name: quietly(case) for name, case in CASES.items()}
    if folder.exists():
        found |= {name: quietly(case, folder) for name, case in REAL_CASES.items()}
    fresh = {name: {key: encoded(value) for key, value in results.items()} for name, results in found.items()}
    # What still agrees stays as it is: numbers that rounding may change do not change for nothing.
    for name, results in fresh.items():
        for key in results.keys() & kept.get(name, {}).keys():
            if agrees(found[name][key], kept[name][key]):
                results[key] = kept[name][key]
    fresh |= {name: kept[name] for name in REAL_CASES if name in kept and name not in fresh}
    lines = [f"{json.dumps(name)}: {json.dumps(results)}" for name, results in fresh.items()]
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
