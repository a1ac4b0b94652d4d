"""The same image twice counts twice: it is said, whichever way it comes; and nothing is said of images that differ."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import conformask as cm
import consign_twin
from conformask.integrations import dask as on_dask
from problems import Problem, probabilities, problems, wide

PROBLEM = wide(n=20, size=(9, 8))
X, Y = PROBLEM.X, PROBLEM.y
KINDS: dict[str, dict[str, Any]] = {"exact": {}, "binned": {"collect": ["miscoverage", "binary"]}}
both = pytest.mark.parametrize("kind", KINDS)


def profiles(kind: str, chosen: Any = slice(None), problem: Problem = PROBLEM, **options: Any) -> Any:
    return cm.profile(problem.X[chosen], problem.y[chosen], **KINDS[kind], **options)


def hashes(found: Any) -> NDArray[np.uint64]:
    return found._core.hashes()


def said(work: Callable[[], Any]) -> list[str]:
    """What is said of images that come twice."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", cm.SuspiciousLabelsWarning)  # some labels are random here
        work()
    assert {warning.category for warning in caught} <= {cm.DuplicateImagesWarning}
    # Whatever calls it, the line is the user's: here one of this file.
    assert {warning.filename for warning in caught} <= {__file__}
    return [str(warning.message) for warning in caught]


# The ways in which images come twice


@both
def test_within_one_call(kind: str) -> None:
    (message,) = said(lambda: profiles(kind, [3, 0, 4, 3, 0, 3]))
    assert message.startswith("images 0 and 3, 1 and 4, 0 and 5 of 6 are the same: ")
    (message,) = said(lambda: cm.profile([X[0], X[1], X[1]], [Y[0], Y[1], Y[1]], **KINDS[kind]))
    assert message.startswith("images 1 and 2 of 3 are the same: ")


@both
def test_merged_with_a_copy(kind: str) -> None:
    (message,) = said(lambda: profiles(kind).merge(profiles(kind)))
    assert message == (
        "images 0 and 20, 1 and 21, 2 and 22 (and 17 more pairs) of 40 are the same: they have identical labels and "
        "scores. They count twice, and the guarantee, which is for different images, does not hold. Give every "
        "image once; several epochs of a data loader and overlapping parts of workers repeat images"
    )


@both
def test_merged_with_itself(kind: str) -> None:
    """That is no accident of the data: it is refused."""
    found = profiles(kind)
    with pytest.raises(ValueError, match=r"cannot be merged with themselves: every image would count twice"):
        found.merge(found)
    calibrator = cm.ConformalRiskCalibrator(profile=kind, alpha=0.4).fit(X, Y)
    with pytest.raises(ValueError, match=r"cannot be merged with itself: every image would count twice"):
        calibrator.merge(calibrator)
    other = calibrator.recalibrate(alpha=0.3)  # which shares the profiles
    with pytest.raises(ValueError, match=r"cannot be merged with themselves"):
        calibrator.merge(other)
    assert (calibrator.n_images_, len(found)) == (20, 20)
    alike = cm.ConformalRiskCalibrator(profile=kind, alpha=0.4).fit(X, Y)
    assert len(said(lambda: calibrator.merge(alike))) == 1
    assert calibrator.n_images_ == 40


@both
def test_parts_that_overlap(kind: str) -> None:
    few, many = profiles(kind, slice(3)), profiles(kind, slice(2, 20))
    (message,) = said(lambda: few.merge(many))
    assert message.startswith("images 2 and 3 of 21 are the same")
    (message,) = said(lambda: many.merge(few))
    assert message.startswith("images 0 and 20 of 21 are the same")
    assert said(lambda: few.merge(profiles(kind, slice(3, 20)))) == []


@both
def test_four_pairs_are_not_all_named(kind: str) -> None:
    (message,) = said(lambda: profiles(kind, slice(4)).merge(profiles(kind, slice(4))))
    assert message.startswith("images 0 and 4, 1 and 5, 2 and 6 (and 1 more pair) of 8 are the same")


@pytest.mark.parametrize("kind", KINDS)
def test_epochs(kind: str) -> None:
    """Five images in two epochs are not ten."""
    calibrator = cm.ConformalRiskCalibrator(profile=kind, alpha=0.4)

    def epochs() -> None:
        for batch in [slice(0, 2), slice(2, 5)] * 2:
            calibrator.partial_fit(X[batch], Y[batch])

    first, second = said(epochs)
    assert first.startswith("images 0 and 5, 1 and 6 of 7 are the same")
    assert second.startswith("images 2 and 7, 3 and 8, 4 and 9 of 10 are the same")


@pytest.mark.parametrize("kind", KINDS)
def test_calibrators(kind: str) -> None:
    def fitted(chosen: Any) -> cm.ConformalRiskCalibrator:
        return cm.ConformalRiskCalibrator(profile=kind).fit(X[chosen], Y[chosen])

    whole = fitted(slice(None))
    (message,) = said(lambda: whole.merge(fitted(slice(10, 20))))
    assert message.startswith("images 10 and 20, 11 and 21, 12 and 22 (and 7 more pairs) of 30 are the same")
    (message,) = said(lambda: fitted([*range(12), 7]))
    assert message.startswith("images 7 and 12 of 13 are the same")
    assert said(lambda: fitted(slice(10)).merge(fitted(slice(10, 20))).recalibrate(alpha=0.2)) == []


@both
def test_workers_of_dask(kind: str) -> None:
    """All at once, and by the numbers that the images have in all of them, also those within a block."""
    order = [*range(10), 9, 0]
    blocks = [da.from_array(part[order], chunks=(4, *part.shape[1:])) for part in (X, Y)]
    with dask.config.set(scheduler="threads"):
        (message,) = said(lambda: on_dask.profile(*blocks, **KINDS[kind]))
    assert message.startswith("images 9 and 10, 0 and 11 of 12 are the same")


def test_groups_and_weights_do_not_hide_them() -> None:
    twice = [0, 1, 2, 1]
    for options in ({"groups": ["a", "a", "b", "c"]}, {"sample_weight": [1, 0.5, 1, 0.25]}):
        (message,) = said(lambda options=options: profiles("exact", twice, **options))
        assert message.startswith("images 1 and 3 of 4 are the same")


def test_a_bootstrap_sample_is_meant() -> None:
    """But merging is no resampling: what is shared is said, and what was repeated before is not."""
    whole, drawn = profiles("exact"), np.random.default_rng(0).integers(0, 10, 1000)
    assert said(lambda: whole[drawn]) == []
    assert said(lambda: whole[[1, 1, 1]].merge(whole[[2, 3, 3]])) == []
    (message,) = said(lambda: whole[:10].merge(whole[drawn]))
    assert "(and 997 more pairs) of 1010 are the same" in message
    (message,) = said(lambda: whole[[4, 1, 2, 2]].merge(whole[[3, 2]]))
    assert message.startswith("images 2 and 5 of 6 are the same")


def test_a_state_stays_where_the_warning_is_an_error() -> None:
    calibrator = cm.ConformalRiskCalibrator().fit(X, Y)
    with pytest.raises(cm.DuplicateImagesWarning):
        calibrator.partial_fit(X[:1], Y[:1])
    assert calibrator.n_images_ == 20


# What is the same


@both
@pytest.mark.parametrize("score", ["lac", cm.APS(), cm.RAPS(0.1), cm.SACP(window=3)], ids=str)
def test_neither_layout_nor_batches_nor_threads_matter(kind: str, score: Any) -> None:
    problem = wide(n=3, n_classes=3, size=(210, 320))  # more than one band for each image
    known = hashes(profiles(kind, problem=problem, conformity_score=score))
    assert 0 not in known
    assert len(set(known.tolist())) == 3
    layouts = [
        (np.asfortranarray(problem.X), np.asfortranarray(problem.y)),
        (problem.X[:, ::-1].copy()[:, ::-1], problem.y.astype(np.int16)),
        (list(problem.X), list(problem.y)),
    ]
    for maps, labels in layouts:
        assert (hashes(cm.profile(maps, labels, score, **KINDS[kind])) == known).all()
    try:
        for n_threads in (1, 2, 4):
            cm.set_num_threads(n_threads)
            assert (hashes(profiles(kind, problem=problem, conformity_score=score)) == known).all()
    finally:
        cm.set_num_threads(None)
    single = [profiles(kind, [i], problem, conformity_score=score) for i in range(3)]
    assert np.concatenate([hashes(each) for each in single]).tolist() == known.tolist()
    merged = single[0].merge(single[1]).merge(single[2])
    assert (hashes(merged) == known).all()
    assert (hashes(pickle.loads(pickle.dumps(merged))) == known).all()


def test_counts_of_activations_do_not_matter() -> None:
    assert (hashes(profiles("exact", activation=True)) == hashes(profiles("exact"))).all()


@both
def test_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    found = profiles(kind, slice(5))
    found.save(tmp_path / "p.npz")
    loaded = type(found).load(tmp_path / "p.npz")
    assert (hashes(loaded) == hashes(found)).all()
    (message,) = said(lambda: loaded.merge(profiles(kind, slice(4, 9))))
    assert message.startswith("images 4 and 5 of 10 are the same")


def test_float64_that_a_file_widens() -> None:
    """A file keeps all values as float64 if those of one image are."""
    double = wide(seed=1, n=2, dtype="float64")
    mixed = wide(n=3).X, wide(n=3).y
    found = cm.profile(*mixed).merge(cm.profile(double.X, double.y))
    assert (hashes(pickle.loads(pickle.dumps(found))) == hashes(found)).all()


def test_bins_of_an_older_file(tmp_path: Path) -> None:
    """They know no hashes. Then the number of images is said, since which they are is not known."""
    old, new = profiles("binned", slice(5)), profiles("binned", slice(5, 20))
    old.save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz") as archive:
        kept = {name: archive[name] for name in archive.files if name != "hashes"}
    np.savez(tmp_path / "old.npz", **kept)
    loaded = cm.BinnedProfiles.load(tmp_path / "old.npz")
    assert len(loaded) == 5
    assert said(lambda: loaded.merge(old)) == []  # not recognised
    merged = loaded.merge(new)
    assert merged.lambda_hat("binary", 0.2) == old.merge(new).lambda_hat("binary", 0.2)
    (message,) = said(lambda: merged.merge(profiles("binned", slice(3, 8))))
    assert message.startswith("3 of 25 images came before: ")
    np.savez(tmp_path / "bad.npz", **kept, hashes=np.ones(6, np.uint64))
    with pytest.raises(ValueError, match=r"hashes is an array of uint64 \(6,\)"):
        cm.BinnedProfiles.load(tmp_path / "bad.npz")


# What is not


@both
def test_images_that_hold_too_little_are_not_named(kind: str) -> None:
    alike = {
        "right everywhere": (X[:2], X[:2].argmax(axis=1)),
        "void": (X[:2], np.full_like(Y[:2], 255)),
        "one value": (np.full((2, 4, 9, 8), 0.25), np.full((2, 9, 8), 3)),
        "sure and wrong": (
            np.eye(4)[np.zeros((2, 9, 8), int)].transpose(0, 3, 1, 2),
            np.ones((2, 9, 8), int),
        ),
    }
    for maps, labels in alike.values():
        maps, labels = maps[[0, 0]], labels[[0, 0]]
        assert said(lambda maps=maps, labels=labels: cm.profile(maps, labels, **KINDS[kind])) == []


@both
@pytest.mark.parametrize("n_values", [7, 8])
def test_eight_values_tell_images_apart(kind: str, n_values: int) -> None:
    share = np.linspace(0.1, 0.4, n_values)[np.arange(72) % n_values].reshape(1, 9, 8)
    maps, labels = np.stack([1 - share, share], axis=1), np.ones((1, 9, 8), int)
    found, again = (cm.profile(maps, labels, **KINDS[kind]) for _ in range(2))
    assert len(said(lambda: found.merge(again))) == (n_values == 8)


@both
def test_one_bit_makes_another_image(kind: str) -> None:
    """A critical value, or the number of pixels that are right."""
    best = X[0].argmax(axis=0)
    wrong = tuple(np.argwhere((best != Y[0]) & (Y[0] != 255))[0])
    right = tuple(np.argwhere(best == Y[0])[0])
    value, fewer = X[:1].copy(), Y[:1].copy()
    value[0, Y[0][wrong]][wrong] = np.nextafter(value[0, Y[0][wrong]][wrong], np.float32(0))
    fewer[0][right] = 255
    found = profiles(kind, [0])
    assert said(lambda: found.merge(cm.profile(value, Y[:1], **KINDS[kind]))) == []
    assert said(lambda: found.merge(cm.profile(X[:1], fewer, **KINDS[kind]))) == []
    assert len(said(lambda: found.merge(profiles(kind, [0])))) == 1


def test_values_that_changed_their_labels() -> None:
    """The same totals and the same values, each of another class."""
    share = np.linspace(0.05, 0.3, 40).reshape(1, 1, 5, 8)
    maps = np.concatenate([1 - 2 * share, share, share], axis=1)
    labels = np.arange(40).reshape(1, 5, 8) % 2 + 1
    found = cm.profile(maps, labels)
    assert said(lambda: found.merge(cm.profile(maps, 3 - labels))) == []
    assert len(said(lambda: found.merge(cm.profile(maps, labels)))) == 1


def test_no_false_alarm_among_many_images() -> None:
    """Scores of one byte, so that many values are shared; 3000 images make four million pairs."""
    rng = np.random.default_rng(0)
    raw = rng.integers(1, 256, (3000, 2, 4, 4))
    maps = raw / raw.sum(axis=1, keepdims=True)
    labels = rng.integers(0, 2, (3000, 4, 4))
    assert said(lambda: cm.profile(maps, labels)) == []


# Properties


WORD = 2**64 - 1
STEP = 0x9E3779B97F4A7C15


def mixed(bits: int) -> int:
    """The finaliser of SplitMix64."""
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & WORD
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & WORD
    return bits ^ bits >> 31


def twin_hash(values: NDArray[np.floating], labels: NDArray[np.uint16], totals: NDArray[np.uint64]) -> int:
    """A sum over pixels, then the totals; 0 if there are fewer than eight different values."""
    if len(set(values.tolist())) < 8:
        return 0
    bits = values.astype(np.float64).view(np.uint64).tolist()
    pixels = (
        mixed(b + (label + 1) * (STEP >> 32) & WORD) for b, label in zip(bits, labels.tolist(), strict=True)
    )
    found = mixed(sum(pixels) & WORD)
    for total in totals.tolist():
        found = mixed((found + STEP & WORD) ^ total)
    return found


@given(problem=problems(), score=st.sampled_from(["lac", "aps"]))
@settings(max_examples=100, deadline=None)
def test_hashes_are_those_of_the_twin(problem: Problem, score: str) -> None:
    """They are kept in files: those of tomorrow must be the same."""
    found = cm.profile(problem.X, problem.y, score)
    totals, lengths, values, labels, *_ = found._core.to_arrays()
    ends = np.cumsum(lengths).astype(int)[:-1]
    expected = [
        twin_hash(*image)
        for image in zip(np.split(values, ends), np.split(labels, ends), totals, strict=True)
    ]
    assert hashes(found).tolist() == expected
    assert hashes(cm.profile(problem.X, problem.y, score, collect=["binary"])).tolist() == expected


def twin_pairs(first: list[Any], later: list[Any]) -> list[tuple[int, int]]:
    """Of each of the later that is among the first: where it is, and its own place."""
    return [(first.index(each), i) for i, each in enumerate(later) if each and each in first]


@given(st.lists(st.integers(0, 6), max_size=30), st.lists(st.integers(0, 6), max_size=30))
def test_the_pairs_are_those_of_the_twin(first: list[int], later: list[int]) -> None:
    others, hashed = np.array(first, np.uint64), np.array(later, np.uint64)
    assert cm._core.repeats_between(others, hashed) == twin_pairs(first, later)
    within = [(later.index(each), i) for i, each in enumerate(later) if each and each in later[:i]]
    assert cm._core.repeats_within(hashed) == within


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_planted_images_are_found_and_only_they(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, n_classes = data.draw(st.integers(1, 12)), data.draw(st.integers(2, 5))
    dtype, score = (
        data.draw(st.sampled_from(["float16", "float32", "float64"])),
        data.draw(st.sampled_from(["lac", "aps"])),
    )
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    maps = probabilities(rng, (n, n_classes, 8, 9), None, dtype)
    labels = (maps.argmax(axis=1) + rng.integers(0, 2, (n, 8, 9))) % n_classes
    # Which image stands at each place: some stand at several.
    places = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=25))
    cut = data.draw(st.integers(0, len(places)))
    expected = [(places.index(image), i) for i, image in enumerate(places) if image in places[:i]]
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        whole = cm.profile(maps[places], labels[places], score, **KINDS[kind])
        assert cm._core.repeats_within(hashes(whole)) == expected
        if 0 < cut < len(places):
            parts = [
                cm.profile(maps[chosen], labels[chosen], score, **KINDS[kind])
                for chosen in (places[:cut], places[cut:])
            ]
            shared = [
                (places.index(image), i) for i, image in enumerate(places[cut:]) if image in places[:cut]
            ]
            assert cm._core.repeats_between(hashes(parts[0]), hashes(parts[1])) == shared
            messages = said(lambda: parts[0].merge(parts[1]))
            assert len(messages) == bool(shared)


# Who counts twice


def test_repeats_within_a_group_and_without_weight_do_not_count() -> None:
    """A group counts once, whatever it holds."""
    twice = cm.profile(PROBLEM.X.repeat(2, axis=0), PROBLEM.y.repeat(2, axis=0), groups=np.arange(40) // 2)
    assert twice.lambda_hat("miscoverage", 0.2) == cm.profile(PROBLEM.X, PROBLEM.y).lambda_hat(
        "miscoverage", 0.2
    )
    weights = np.tile([1.0, 0.0], 20)
    cm.profile(PROBLEM.X.repeat(2, axis=0), PROBLEM.y.repeat(2, axis=0), sample_weight=weights)
    for options in ({"groups": np.arange(40)}, {"sample_weight": np.full(40, 0.5)}):
        with pytest.warns(cm.DuplicateImagesWarning, match="images 0 and 1, 2 and 3, 4 and 5"):
            cm.profile(PROBLEM.X.repeat(2, axis=0), PROBLEM.y.repeat(2, axis=0), **options)


def test_consign_names_repeats_too() -> None:
    X, y = consign_twin.fields(np.random.default_rng(5), 12, 8, 2, noise=0.05, modes=2)
    again = [*range(12), 3, 7]
    calibrator = cm.ConsignCalibrator(2, alpha=0.3, min_accuracy=0.8)
    with pytest.warns(cm.DuplicateImagesWarning, match="images 3 and 12, 7 and 13 of 14 are the same"):
        calibrator.fit(X[again], y[again])
    calibrator.fit(X[again], y[again], groups=again)  # a group counts once
    shifted = X + np.linspace(0, 0.01, 12).reshape(-1, 1, 1, 1, 1) * np.array([1, -1]).reshape(2, 1, 1)
    calibrator.fit(np.concatenate([X, shifted[1:]]), np.concatenate([y, y[1:]]))  # alike, but others
    with pytest.warns(cm.DuplicateImagesWarning):
        calibrator.fit([*X, X[0].copy(order="F")], [*y, y[0]])
