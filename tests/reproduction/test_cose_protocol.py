"""The protocol against NumPy, and its pieces: settings, splits, the arithmetic of the original search, the checks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

import conformask as cm
from conformask.reproduction import (
    Row,
    Setting,
    Source,
    generic_settings,
    mesh_search,
    paper_settings,
    reproduce,
    violations,
)
from conformask.reproduction.paper import ALPHAS, DATASETS, PUBLISHED, SEEDS, calibration_ratio
from conformask.reproduction.simulate import simulate

N = 90


@pytest.fixture(scope="module")
def maps() -> tuple[np.ndarray, np.ndarray]:
    """Simulated maps of a quarter of the resolution, with void."""
    scores, labels = zip(*simulate("loveda", N), strict=True)
    return np.stack(scores)[:, :, ::4, ::4], np.stack(labels)[:, ::4, ::4]


@pytest.fixture(scope="module")
def profiles(maps: tuple[np.ndarray, np.ndarray]) -> cm.ScoreProfiles:
    return cm.profile(*maps, activation=True)


# The protocol


def in_numpy(
    X: np.ndarray, y: np.ndarray, setting: Setting, seed: int, groups: np.ndarray
) -> tuple[float, float, float]:
    """Lambda-hat, risk and activation ratio of one split, from the maps, with a sort and exact fractions."""
    units = np.unique(groups)
    calibrates = np.isin(
        groups, np.random.default_rng(seed).permutation(units)[: int(setting.ratio * len(units))]
    )
    values, sets = 1.0 - X.astype(float), np.zeros(X.shape, bool)
    np.put_along_axis(sets, X.argmax(axis=1)[:, np.newaxis], True, axis=1)
    values[sets] = 0
    critical = [
        np.array([v[label][i] for i, label in np.ndenumerate(labels) if label != 255 for v in [image]])
        for image, labels in zip(values, y, strict=True)
    ]

    def loss(image: np.ndarray, lam: float) -> Fraction:
        covered = int((image <= lam).sum())
        if setting.tau is None:
            return 1 - Fraction(covered, len(image))
        return Fraction(covered < Fraction(repr(setting.tau)) * len(image))

    def risk(chosen: np.ndarray, lam: float) -> Fraction:
        """Each group counts once, by the mean loss of its images."""
        means = [
            np.mean([loss(critical[i], lam) for i in np.flatnonzero(chosen & (groups == unit))])
            for unit in np.unique(groups[chosen])
        ]
        return sum(means, Fraction()) / len(means)

    n, alpha = len(np.unique(groups[calibrates])), Fraction(repr(setting.alpha))
    candidates = np.unique(np.concatenate([[0.0], *(critical[i] for i in np.flatnonzero(calibrates))]))
    low, high = 0, len(candidates) - 1  # the risk falls along them
    while low < high:
        middle = (low + high) // 2
        meets = (n * risk(calibrates, candidates[middle]) + 1) / (n + 1) <= alpha
        low, high = (low, middle) if meets else (middle + 1, high)
    lam = float(candidates[high])
    sizes = (values <= lam).sum(axis=1)
    ratios = [sizes[i][y[i] != 255].mean() for i in np.flatnonzero(~calibrates)]
    return lam, float(risk(~calibrates, lam)), float(np.mean(ratios))


@pytest.mark.parametrize("by_group", [False, True])
@pytest.mark.parametrize(
    "setting",
    [Setting(0.2), Setting(0.1, ratio=0.25), Setting(0.1, 0.75), Setting(0.1, 0.9, 0.249), Setting(0.45)],
    ids=lambda setting: f"{setting.alpha}-{setting.tau}-{setting.ratio}",
)
def test_numpy_twin(
    maps: tuple[np.ndarray, np.ndarray], profiles: cm.ScoreProfiles, setting: Setting, by_group: bool
) -> None:
    groups = np.arange(N) // 2 if by_group else np.arange(N)
    known = cm.profile(*maps, groups=groups, activation=True) if by_group else profiles
    source = Source("maps", "simulated", known, (setting,), groups if by_group else None)
    seeds = SEEDS[:2] if setting.alpha != 0.1 or not by_group else SEEDS[:1]
    [row] = reproduce(source, seeds=seeds)
    for seed, lam, risk, (lower, upper) in zip(seeds, row.lambdas, row.risks, row.activations, strict=True):
        expected = in_numpy(*maps, setting, seed, groups)
        assert lam == expected[0]
        assert risk == pytest.approx(expected[1], rel=1e-12)
        assert lower <= expected[2] * (1 + 1e-12)
        assert upper >= expected[2] * (1 - 1e-12)
    assert row.n_calibration == int(setting.ratio * len(np.unique(groups)))
    assert row.n_calibration + row.n_test == len(np.unique(groups))


def test_statistics_of_a_row() -> None:
    row = Row(
        "D",
        "simulated",
        Setting(0.1),
        "image",
        9,
        9,
        (0.0, 0.5),
        (0.1, 0.2),
        ((1.0, 1.0), (2.0, 2.5)),
    )
    assert row.risk == pytest.approx(0.15)
    assert row.risk_sd == pytest.approx(math.sqrt(0.005))
    assert row.standard_error == pytest.approx(0.05)
    assert row.activation == pytest.approx((1 + 2.25) / 2)
    assert row.activation_error == 0.25
    assert (row.argmax_splits, row.dagger) == (1, False)
    assert row.bounds == (0.0, pytest.approx(0.1 + 0.15))
    above = dataclasses.replace(row, lambdas=(0.4, 0.5))
    assert above.bounds == (pytest.approx(0.1 - 2 / 10 - 0.15), pytest.approx(0.1 + 0.15))
    binary = dataclasses.replace(
        above, setting=Setting(0.1, 0.9), n_calibration=15, n_test=30
    )  # k = ceil(14.4)
    law = stats.betabinom(30, 1, 15)
    margin = 3 * law.std() / 30 / math.sqrt(2)
    assert law.std() / 30 > row.risk_sd / 2
    assert binary.bounds == (pytest.approx(law.mean() / 30 - margin), pytest.approx(law.mean() / 30 + margin))
    assert law.mean() / 30 == pytest.approx(1 / 16)
    scattered = dataclasses.replace(binary, risks=(0.1, 0.3))
    assert scattered.bounds == (pytest.approx(1 / 16 - 0.3), pytest.approx(1 / 16 + 0.3))
    assert dataclasses.replace(scattered, unit="group").bounds[1] == pytest.approx(0.1 + 0.3)


def test_the_law_of_the_binary_loss() -> None:
    """The number of test images that lambda-hat fails, over many splits, is beta-binomial."""
    draws = np.random.default_rng(1).random((40, 1, 1, 1))
    X = np.concatenate([draws, 1 - draws], axis=1)
    profiles = cm.profile(X, np.zeros((40, 1, 1), int), cm.LAC(include_top1=False), activation=True)
    [row] = reproduce(Source("D", "simulated", profiles, (Setting(0.2, 0.9),)), seeds=range(2000))
    law = stats.betabinom(20, 4, 17)  # k = ceil(16.8) = 17 of 20; the 4-th largest
    counts = np.bincount(np.rint(np.array(row.risks) * 20).astype(int), minlength=21)
    assert (
        stats.chisquare(
            [*counts[:8], counts[8:].sum()], [*(2000 * law.pmf(range(8))), 2000 * law.sf(7)]
        ).pvalue
        > 1e-3
    )
    assert row.standard_error == pytest.approx(law.std() / 20 / math.sqrt(2000), rel=0.05)


def test_one_seed_gives_one_row(profiles: cm.ScoreProfiles) -> None:
    source = Source("maps", "simulated", profiles, (Setting(0.1), Setting(0.2, 0.9)))
    assert list(reproduce(source)) == list(reproduce(source))
    assert next(iter(reproduce(source, search=False))).forward_passes is None


def test_images_that_are_all_void_are_left_out(
    maps: tuple[np.ndarray, np.ndarray], profiles: cm.ScoreProfiles
) -> None:
    X, y = maps
    void = np.full_like(y[:1], 255)
    more = cm.profile(np.concatenate([X[:1], X]), np.concatenate([void, y]), activation=True)
    setting = (Setting(0.1), Setting(0.1, 0.9))
    assert list(reproduce(Source("maps", "simulated", more, setting))) == list(
        reproduce(Source("maps", "simulated", profiles, setting))
    )
    groups = np.arange(N + 1)
    grouped = cm.profile(
        np.concatenate([X[:1], X]), np.concatenate([void, y]), groups=groups, activation=True
    )
    [row] = reproduce(Source("maps", "simulated", grouped, setting[:1], groups))
    assert row.n_calibration + row.n_test == N


# The rows wanted


def test_the_printed_figures_are_sane() -> None:
    assert [sum(row.dataset == name for row in PUBLISHED) for name in DATASETS] == [7, 7, 11]
    assert sum(row.tau is not None for row in PUBLISHED) == 13
    assert round(sum(row.risk for row in PUBLISHED), 3) == 1.452
    assert round(sum(row.risk_sd for row in PUBLISHED), 4) == 0.2145
    assert round(sum(row.activation for row in PUBLISHED), 3) == 88.114
    for row in PUBLISHED:
        assert 0 < row.risk <= row.alpha + row.risk_sd
        assert row.dagger == (row.activation == 1)
        assert 1 <= row.activation <= DATASETS[row.dataset].n_classes
    swapped = [
        (looser.dataset, looser.alpha)
        for looser in PUBLISHED
        for stricter in PUBLISHED
        if looser.dataset == stricter.dataset
        and looser.alpha == stricter.alpha
        and None not in (looser.tau, stricter.tau)
        and looser.tau < stricter.tau
        and looser.activation >= stricter.activation
    ]
    assert swapped == [("cityscapes", 0.1)]  # what the note under Table 1 says


@pytest.mark.parametrize(
    ("dataset", "tau", "n_calibration"),
    [
        ("cityscapes", 0.95, 250),
        ("cityscapes", None, 250),
        ("ade20k", 0.9, 500),
        ("ade20k", None, 1000),
        ("loveda", 0.5, 417),
        ("loveda", 0.9, 415),
        ("loveda", None, 834),
        ("another", 0.9, None),
    ],
)
def test_calibration_ratios(dataset: str, tau: float | None, n_calibration: int | None) -> None:
    ratio = calibration_ratio(dataset, tau)
    if n_calibration is None:
        assert ratio == 0.5
    else:
        assert int(ratio * DATASETS[dataset].n_images) == n_calibration


def test_settings_of_the_paper() -> None:
    assert SEEDS == (101, 102, 103, 104, 105, 106, 107, 108, 109, 110)
    settings = [setting for name in DATASETS for setting in paper_settings(name)]
    assert len(settings) == len(PUBLISHED)
    assert {setting.published for setting in settings} == set(PUBLISHED)
    assert {setting.alpha for setting in settings} <= set(ALPHAS)
    assert {setting.tolerance for setting in settings if setting.tau is not None} == {1e-9}
    assert isinstance(settings[0].loss, cm.BinaryLoss)
    assert settings[0].loss.min_coverage == 0.99
    assert isinstance(settings[-1].loss, cm.MiscoverageLoss)


@pytest.mark.parametrize(
    ("n_images", "least"), [(2000, 0.005), (398, 0.005), (397, 0.01), (198, 0.01), (197, 0.05), (8, 0.2)]
)
def test_generic_settings_are_feasible(n_images: int, least: float) -> None:
    settings = generic_settings(n_images)
    assert min(setting.alpha for setting in settings) == least
    rng = np.random.default_rng(0)
    X = rng.dirichlet(np.ones(3), (n_images, 1, 3)).transpose(0, 3, 1, 2)
    y = (X.cumsum(axis=1) < rng.random((n_images, 1, 1, 3))).sum(axis=1).clip(max=2)
    profiles = cm.profile(X, y, activation=True)
    assert len(list(reproduce(Source("any", "real (any)", profiles, settings), seeds=(1,)))) == len(settings)


# The original search


@pytest.mark.parametrize(("tolerance", "looks"), [(1e-1, (2, 3)), (1e-5, (6, 7)), (1e-9, (10, 11))])
@pytest.mark.parametrize("setting", [Setting(0.2), Setting(0.1), Setting(0.1, 0.75), Setting(0.1, 0.9)])
def test_mesh_search_ends_just_above_lambda_hat(
    profiles: cm.ScoreProfiles, setting: Setting, tolerance: float, looks: tuple[int, int]
) -> None:
    """One look at 0, and one for each decimal of lambda; one more where rounding leaves the bracket a hair too wide."""
    exact = profiles.lambda_hat(setting.loss, setting.alpha)
    found, n_looks = mesh_search(profiles, setting.loss, setting.alpha, tolerance)
    assert 0 <= found - exact <= tolerance
    assert n_looks in looks


def test_mesh_search_stops_at_once_where_the_argmax_suffices(profiles: cm.ScoreProfiles) -> None:
    assert mesh_search(profiles, cm.MiscoverageLoss(), 0.5, 1e-9) == (0.0, 1)


def test_mesh_search_stops_after_so_many_rounds(profiles: cm.ScoreProfiles) -> None:
    assert mesh_search(profiles, cm.MiscoverageLoss(), 0.1, 0.0, n_rounds=3)[1] == 4
    assert mesh_search(profiles, cm.MiscoverageLoss(), 0.1, 1e-5, n_mesh=100)[1] in (4, 5)


def test_forward_passes_are_looks_at_all_images(profiles: cm.ScoreProfiles) -> None:
    setting = Setting(0.1, ratio=0.25, tolerance=1e-5)
    [row] = reproduce(Source("maps", "simulated", profiles, (setting,)), seeds=SEEDS[:1])
    calibration = profiles[np.random.default_rng(SEEDS[0]).permutation(N)[:22]]
    looks = mesh_search(calibration, setting.loss, 0.1, 1e-5)[1]
    assert row.forward_passes == looks * 22 + 68


# The checks notice faults


def _rows(profiles: cm.ScoreProfiles) -> list[Row]:
    settings = (*(Setting(a, t) for a in (0.2, 0.1) for t in (0.75, 0.9)), Setting(0.2), Setting(0.1))
    return list(reproduce(Source("maps", "simulated", profiles, settings)))


def test_nothing_is_wrong(profiles: cm.ScoreProfiles) -> None:
    assert violations(_rows(profiles)) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda row: dataclasses.replace(row, risks=tuple(r + 0.1 for r in row.risks)), "the mean risk is"),
        (lambda row: dataclasses.replace(row, risks=(0.0,) * 10), "the mean risk is"),
        (
            lambda row: dataclasses.replace(row, activations=((1.0, 1.0),) * 10),
            "does not rise as alpha falls",
        ),
        (lambda row: dataclasses.replace(row, activations=((1.0, 1.0),) * 10), "does not rise as tau rises"),
    ],
)
def test_faults_are_noticed(profiles: cm.ScoreProfiles, fault: Callable[[Row], Row], message: str) -> None:
    rows = _rows(profiles)
    found = violations([*rows[:3], fault(rows[3]), *rows[4:]])
    assert any(message in sentence and "alpha 0.1, tau 0.9" in sentence for sentence in found)


def test_rows_of_the_argmax_need_not_rise(profiles: cm.ScoreProfiles) -> None:
    rows = list(reproduce(Source("maps", "simulated", profiles, (Setting(0.6), Setting(0.5)))))
    assert all(row.dagger for row in rows)
    assert violations(rows) == []
    broken = dataclasses.replace(rows[0], risks=(0.7,) * 10)
    assert "alpha 0.6: the mean risk is 0.70000" in violations([broken])[0]
