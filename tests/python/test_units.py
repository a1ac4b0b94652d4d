"""Groups of images: read once, named in plain words, their means exact."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conformask._text import plural
from conformask._units import check_groups, unit_means


@pytest.mark.parametrize("names", [[3, 1, 3], ["b", "a", "b"]])
def test_groups_are_read_once(names: list) -> None:
    for given in (iter(names), (name for name in names), tuple(names), np.array(names)):
        found = check_groups(given, 3)
        assert found == check_groups(found, 3) == names
    assert check_groups(iter(names), None) == names


@pytest.mark.parametrize("given", ["aaa", b"aaa", 7, np.int64(7)])
def test_one_name_is_no_list_of_names(given: object) -> None:
    for n in (3, None):
        with pytest.raises(ValueError, match="groups must hold an int or string for each"):
            check_groups(given, n)
    with pytest.raises(ValueError, match="groups must hold an int or string for the image, got 2 ints"):
        check_groups([1, 2], 1)


@pytest.mark.parametrize("shape", [(40,), (40, 3), (40, 2, 3)])
def test_means_of_groups(shape: tuple[int, ...]) -> None:
    """To the last bit those of the values of each group in any order, NaN where a group has none."""
    rng = np.random.default_rng(0)
    values = rng.random(shape) * 10.0 ** rng.integers(-9, 9, shape)
    values[rng.random(shape) < 0.4] = np.nan
    names = [str(name) for name in rng.integers(0, 9, shape[0])]
    found = unit_means(values, names)
    distinct = list(dict.fromkeys(names))
    assert found.shape == (len(distinct), *shape[1:])
    for name, means in zip(distinct, found.reshape(len(distinct), -1), strict=True):
        own = values[[i for i, other in enumerate(names) if other == name]]
        for column, mean in zip(own.reshape(len(own), -1).T, means, strict=True):
            defined = [value for value in column[::-1] if not math.isnan(value)]
            twin = math.fsum(defined) / len(defined) if defined else math.nan
            assert mean == twin or (math.isnan(mean) and math.isnan(twin))
    assert unit_means(values, None) is values


def test_numbers_of_things() -> None:
    assert [plural(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [plural(n, "entry") for n in (1, 3)] == ["1 entry", "3 entries"]
    assert [plural(n, "class") for n in (1, 3)] == ["1 class", "3 classes"]
