"""Ensembles: the mean of probabilities, whatever holds the members; bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special
from sklearn.base import clone

import conformask as cm
import scaling_twin as twin

MEMBERS = np.stack([twin.problem(4, seed)[0] for seed in range(3)])
MEANS = special.softmax(MEMBERS, axis=2).mean(axis=0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_it_is_the_mean_of_probabilities(dtype: type) -> None:
    members = MEMBERS.astype(dtype)
    expected = special.softmax(members.astype(np.float64), axis=2).mean(axis=0)
    found = cm.EnsembleAverager().transform(members)
    assert found.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert twin.close(found, expected, 1e-15 if dtype == np.float64 else 2e-7)
    p = special.softmax(members.astype(np.float32), axis=2)
    found = cm.EnsembleAverager(inputs="probabilities").transform(p)
    assert found.dtype == np.float32
    assert twin.close(found, p.mean(axis=0, dtype=np.float64), 1e-7)


def test_members_count_by_their_weights() -> None:
    p = special.softmax(MEMBERS, axis=2)
    found = cm.EnsembleAverager(weights=(1, 0, 3)).transform(MEMBERS)
    assert twin.close(found, p[0] / 4 + 3 * p[2] / 4, 1e-12)
    assert (
        cm.EnsembleAverager(weights=np.ones(3)).transform(MEMBERS) == cm.EnsembleAverager().transform(MEMBERS)
    ).all()


def test_any_container_gives_the_same_bits() -> None:
    averager = cm.EnsembleAverager()
    known = averager.transform(MEMBERS)
    assert (averager.transform(list(MEMBERS)) == known).all()
    assert (averager.fit().fit_transform(tuple(MEMBERS)) == known).all()
    lists = averager.transform([list(member) for member in MEMBERS])
    assert isinstance(lists, list)
    assert all((a == b).all() for a, b in zip(lists, known, strict=True))
    stream = averager.transform([iter(member) for member in MEMBERS])
    assert iter(stream) is stream
    assert all((a == b).all() for a, b in zip(stream, known, strict=True))
    volumes = averager.transform(MEMBERS.reshape(3, 4, 4, 2, 12, 31))
    assert (volumes == known.reshape(4, 4, 2, 12, 31)).all()
    mixed = averager.transform([MEMBERS[0].astype(np.float32), *MEMBERS[1:]])
    assert mixed.dtype == np.float64
    assert twin.close(mixed, known, 1e-6)


def test_images_are_read_as_they_are_asked_for() -> None:
    read = []

    def images(m: int) -> Any:
        for i, image in enumerate(MEMBERS[m]):
            read.append((m, i))
            yield image

    stream = cm.EnsembleAverager().transform([images(m) for m in range(3)])
    next(stream)
    assert read == [(0, 0), (1, 0), (2, 0)]


def test_its_probabilities_can_be_scaled_and_calibrated() -> None:
    _, y = twin.problem(4)
    p = cm.EnsembleAverager().transform(MEMBERS)
    scaled = cm.TemperatureScaler(inputs="probabilities").fit(p, y).transform(p)
    assert cm.ConformalRiskCalibrator(alpha=0.4).fit(scaled, y).lambda_hat_ > 0


def test_it_is_an_estimator() -> None:
    averager = cm.EnsembleAverager(weights=[1, 2, 3], inputs="probabilities")
    assert clone(averager).get_params() == averager.get_params()
    assert "weights=[1, 2, 3]" in repr(averager)


def test_bad_input_is_refused() -> None:
    averager = cm.EnsembleAverager()
    wrong: dict[str, Any] = {
        r"X must have shape \(members, n, K, H, W\) or .*, got \(4, 4, 24, 31\)": MEMBERS[0],
        "holds no member": [],
        r"holds no image|is empty": MEMBERS[:, :0],
        "member 1 has 3 images, another has more": [MEMBERS[0], MEMBERS[1][:3]],
        r"image 0 has \(4, 24, 31\) in member 0, \(4, 24, 30\) in member 1": [
            MEMBERS[0],
            MEMBERS[1][..., :30],
        ],
        r"in member 1 of the ensemble: X is not finite in image 2: class 3 is NaN at pixel \(5, 7\)": [
            MEMBERS[0],
            np.where(
                np.arange(MEMBERS[0].size).reshape(MEMBERS[0].shape)
                == np.ravel_multi_index((2, 3, 5, 7), MEMBERS[0].shape),
                np.nan,
                MEMBERS[1],
            ),
        ],
    }
    for says, X in wrong.items():
        with pytest.raises(ValueError, match=says):
            averager.transform(X)
    negative = special.softmax(MEMBERS, axis=2)
    negative[2, 1, :2, 0, 0] += [1, -1]
    with pytest.raises(ValueError, match=r"in member 2 .* negative probability in image 1"):
        cm.EnsembleAverager(inputs="probabilities").transform(negative)
    for weights in ([1, 2], [1, 2, -1], [0, 0, 0], [1, 2, np.nan], ["a", "b", "c"]):
        with pytest.raises(
            ValueError, match="weights must hold a number of at least 0 for each of 3 members"
        ):
            cm.EnsembleAverager(weights=weights).transform(MEMBERS)
    with pytest.raises(ValueError, match="inputs must be"):
        cm.EnsembleAverager(inputs="scores").transform(MEMBERS)
    with pytest.raises(TypeError, match="X must be a sequence"):
        averager.transform(3)
    with pytest.warns(UserWarning, match="as probabilities do"):
        averager.transform(special.softmax(MEMBERS, axis=2))
