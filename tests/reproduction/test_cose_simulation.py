"""Simulated predictions: what their documentation says of them."""

from __future__ import annotations

import numpy as np
import pytest

import conformask as cm
from conformask.reproduction.paper import DATASETS
from conformask.reproduction.simulate import SIMULATIONS, simulate, simulated_profiles

NAMES = list(DATASETS)


@pytest.mark.parametrize("name", NAMES)
def test_images_are_the_same_however_many_are_drawn(name: str) -> None:
    few, more = list(simulate(name, 3)), list(simulate(name, 5))
    for (scores, labels), (scores_again, labels_again) in zip(few, more[:3], strict=True):
        assert np.array_equal(scores, scores_again)
        assert np.array_equal(labels, labels_again)
    assert not np.array_equal(few[0][1], few[1][1])


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_probabilities_and_labels_classes(name: str) -> None:
    k, size = DATASETS[name].n_classes, SIMULATIONS[name].size
    for scores, labels in simulate(name, 20):
        assert (scores.shape, scores.dtype) == ((k, *size), np.float32)
        assert (labels.shape, labels.dtype) == (size, np.uint8)
        assert scores.min() >= 0
        assert np.abs(scores.sum(axis=0) - 1).max() < 1e-5
        known = labels[labels != 255]
        assert known.size > 0
        assert known.max() < k


@pytest.mark.parametrize("name", NAMES)
def test_void_share(name: str) -> None:
    shares = [(labels == 255).mean() for _, labels in simulate(name, 200)]
    error = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - SIMULATIONS[name].void_share) < 4 * error
    assert error < 0.02


@pytest.mark.parametrize("name", NAMES)
def test_critical_values_differ(name: str) -> None:
    """Hardly any is there twice: what the exact law of the binary loss and the lower bound of miscoverage ask for."""
    values = []
    for scores, labels in simulate(name, 20):
        errs = (labels != 255) & (scores.argmax(axis=0) != labels)
        values.append(1.0 - scores[:, errs][labels[errs], np.arange(errs.sum())].astype(float))
    together = np.concatenate(values)
    assert len(np.unique(together)) > 0.99 * len(together)
    assert together.max() < 1


def test_errors_vary_and_most_images_have_all_kinds() -> None:
    """Hard images: with a median error of a tenth, some of ADE20K err on more than half of their pixels."""
    errors = simulated_profiles("ade20k", 200, progress=False).losses("miscoverage", 0.0)
    assert np.median(errors) < 0.15
    assert errors.max() > 0.5


def test_profiles_are_those_of_the_maps() -> None:
    scores, labels = zip(*simulate("loveda", 6), strict=True)
    of_maps = cm.profile(np.stack(scores), np.stack(labels), activation=True)
    streamed = simulated_profiles("loveda", 6, progress=False)
    for lam in (0.0, 0.5, 0.99):
        assert np.array_equal(of_maps.losses("miscoverage", lam), streamed.losses("miscoverage", lam))
        assert of_maps.activation(lam) == streamed.activation(lam)


def test_unknown_data_set() -> None:
    with pytest.raises(KeyError, match="unknown"):
        next(simulate("unknown"))
