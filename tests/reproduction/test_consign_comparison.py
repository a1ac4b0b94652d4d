"""The comparison of CONSIGN with pixel-wise sets: against the public pieces by hand, and what must hold on any data."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import conformask as cm
from conformask.reproduction import Comparison, Outcome, compare
from conformask.reproduction.consign import moving_edges, stored_samples

MS = (1, 2, 5, 20, 60)
METHODS = ["CONSIGN, k = 2", "CONSIGN, k = 5", "RAPS", "SACP"]
VOID = 9  # not the default, so that it must be handed on
CURVES = ("chao1", "sample_coverage", "correlation", "varying_correlation")


@cache
def edges() -> Comparison:
    return compare(*moving_edges(120, random_state=3), n_samples=MS, n_splits=4, progress=False)


def values(outcome: Outcome) -> tuple[object, ...]:
    return tuple(getattr(outcome, name) for name in Outcome.__dataclass_fields__)


def same(one: Comparison, other: Comparison) -> bool:
    """Equal, NaN to NaN."""
    return str([values(o) for o in one.outcomes]) == str([values(o) for o in other.outcomes])


# Against the pieces


@pytest.fixture(scope="module")
def odd() -> tuple[np.ndarray, np.ndarray]:
    """Images with void pixels, one without a label, one whose samples are all the same."""
    X, y = moving_edges(41, n_samples=5, size=12, random_state=1)
    y[:, :2] = VOID
    y[7] = VOID
    X[:, :, :, -1] = 0.5
    X[:, :, 0, -1, ::2] += 0.25
    X[:, :, 1, -1, ::2] -= 0.25
    X[11] = X[11, :1]
    return X, y


@pytest.mark.filterwarnings("ignore:all .* samples differ")
def test_one_split_by_hand(odd: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = odd
    alpha, beta, seed, ms = 0.2, 0.85, 5, (1, 3, 12)
    found = compare(
        X,
        y,
        alpha=alpha,
        min_accuracy=beta,
        n_components=(2,),
        baselines={"APS": cm.APS(), "SACP": cm.SACP(cm.RAPS(0.1, k_reg=1))},
        n_samples=ms,
        n_splits=2,
        n_calibration=25,
        ignore_index=VOID,
        random_state=seed,
        progress=False,
    )
    assert found.methods == ["CONSIGN, k = 2", "APS", "SACP"]
    split = 1
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(split,))).permutation(40)
    labelled = np.delete(np.arange(41), 7)
    calibration, test = labelled[np.sort(order[:25])], labelled[np.sort(order[25:])]
    assert 11 in test  # else the case is not there
    keys = [
        int.from_bytes(
            np.random.SeedSequence(seed, spawn_key=(split, i)).generate_state(4).tobytes(), "little"
        )
        for i in test.tolist()
    ]

    calibrator = cm.ConsignCalibrator(2, alpha=alpha, min_accuracy=beta, ignore_index=VOID)
    calibrator.fit(X[calibration], y[calibration])
    sets = calibrator.predict(X[test])
    report = calibrator.evaluate(X[test], y[test])
    outcome = found.of("CONSIGN, k = 2")[split]
    draws = [s.sample(12, key) for s, key in zip(sets, keys, strict=True)]
    assert outcome.lambda_hat == calibrator.lambda_hat_ > 0
    assert (outcome.coverage, outcome.coverage_bound) == (report.coverage, report.coverage_bound)
    assert outcome.log10_volume == pytest.approx(np.mean([s.log10_volume_upper() for s in sets]))
    assert outcome.statuses == {
        name: np.mean(calibrator.image_status_ == name) for name in np.unique(calibrator.image_status_)
    }
    check_curves(outcome, y[test], draws, beta, ms, some_alike=True)

    mean = X.mean(axis=1, dtype=np.float64)
    for name, score in (("APS", cm.APS()), ("SACP", cm.SACP(cm.RAPS(0.1, k_reg=1)))):
        loss = cm.LabelAccuracyLoss(beta)
        pixelwise = cm.ConformalRiskCalibrator(score, loss=loss, alpha=alpha, ignore_index=VOID)
        pixelwise.fit(mean[calibration], y[calibration])
        masks = pixelwise.predict(mean[test])
        outcome = found.of(name)[split]
        assert outcome.lambda_hat == pixelwise.lambda_hat_ > 0
        assert outcome.coverage == outcome.coverage_bound
        assert outcome.coverage == pixelwise.score(mean[test], y[test])
        assert outcome.log10_volume == pytest.approx(cm.metrics.log10_volume(masks))
        assert outcome.statuses == {}
        draws = [cm.kernels.sample_masks(m[None], 12, key)[0] for m, key in zip(masks, keys, strict=True)]
        check_curves(outcome, y[test], draws, beta, ms)


def check_curves(
    outcome: Outcome,
    labels: np.ndarray,
    draws: list[np.ndarray],
    beta: float,
    ms: tuple[int, ...],
    some_alike: bool = False,
) -> None:
    """If `some_alike`, there are images whose draws are all the same: no pixel varies."""
    for i, m in enumerate(ms):
        first = [maps[:m] for maps in draws]
        assert outcome.chao1[i] == np.median([cm.metrics.chao1(maps) for maps in first])
        assert outcome.sample_coverage[i] == pytest.approx(
            cm.metrics.sample_coverage(labels, first, beta, ignore_index=VOID)
        )
        if m == 1:
            assert math.isnan(outcome.correlation[i])
            assert math.isnan(outcome.varying_correlation[i])
            continue
        plain = [cm.metrics.pairwise_correlation(maps) for maps in first]
        varying = [
            cm.metrics.pairwise_correlation(maps, varying_only=True)
            for maps in first
            if len(np.unique(maps, axis=0)) > 1
        ]
        assert 0 < len(varying) < len(plain) + (not some_alike)
        assert outcome.correlation[i] == pytest.approx(np.mean(plain))
        assert outcome.varying_correlation[i] == pytest.approx(np.mean(varying))


def test_first_draws_do_not_depend_on_later_ones() -> None:
    X, y = moving_edges(40, random_state=2)
    few = compare(X, y, n_samples=(2, 5), n_splits=2, progress=False)
    many = compare(X, y, n_samples=(2, 3, 5, 30), n_splits=2, progress=False)
    for one, other in zip(few.outcomes, many.outcomes, strict=True):
        for curve in CURVES:
            assert getattr(one, curve) == tuple(getattr(other, curve)[i] for i in (0, 2))
    assert not same(few, compare(X, y, n_samples=(2, 5), n_splits=2, random_state=1, progress=False))


def test_draws_of_a_method_do_not_depend_on_the_others() -> None:
    X, y = moving_edges(40, random_state=2)
    both = compare(X, y, n_components=(1, 2), n_samples=(5,), n_splits=2, progress=False)
    one = compare(X, y, n_components=(2,), baselines={}, n_samples=(5,), n_splits=2, progress=False)
    assert [values(o) for o in one.outcomes] == [values(o) for o in both.of("CONSIGN, k = 2")]


def test_images_may_come_as_lists_of_any_size() -> None:
    X, y = moving_edges(30, random_state=4)
    array = compare(X, y, n_samples=(3,), n_splits=2, progress=False)
    assert same(array, compare(list(X), list(y), n_samples=(3,), n_splits=2, progress=False))
    wide, labels = moving_edges(30, size=20, random_state=5)
    mixed = compare([*X, *wide], [*y, *labels], n_samples=(3,), n_splits=2, progress=False)
    assert mixed.violations() == []
    assert mixed.outcomes[0].n_calibration == 30


# What holds on any data


def test_identities_of_the_curves() -> None:
    found = edges()
    assert found.methods == METHODS
    for outcome in found.outcomes:
        assert list(outcome.sample_coverage) == sorted(outcome.sample_coverage)
        assert outcome.sample_coverage[0] < outcome.sample_coverage[-1] <= outcome.coverage
        assert outcome.chao1[0] == 1
        assert all(1 <= chao <= m * (m + 1) / 2 for chao, m in zip(outcome.chao1, MS, strict=True))
        assert np.isnan([outcome.correlation[0], outcome.varying_correlation[0]]).all()
        assert all(-1 <= r <= 1 for curve in CURVES[2:] for r in getattr(outcome, curve)[1:])
    mean, sd = found.curve("RAPS", "sample_coverage")
    rows = np.array([outcome.sample_coverage for outcome in found.of("RAPS")])
    np.testing.assert_allclose(mean, rows.mean(axis=0))
    np.testing.assert_allclose(sd, rows.std(axis=0, ddof=1))


def test_coverage_is_what_was_promised() -> None:
    """By the law of a split: of m test images, beta-binomial many are among the k smallest of n others, or more."""
    n_splits, n, m, alpha = 25, 40, 80, 0.2
    found = compare(
        *moving_edges(n + m, size=10, random_state=8),
        alpha=alpha,
        min_accuracy=0.95,
        n_samples=(1,),
        n_splits=n_splits,
        n_calibration=n,
        progress=False,
    )
    p = math.ceil((n + 1) * (1 - alpha)) / (n + 1)
    error = math.sqrt(p * (1 - p) * (n + 1 + m) / (m * (n + 2)) / n_splits)
    for method in METHODS:
        outcomes = found.of(method)
        assert all(outcome.lambda_hat for outcome in outcomes)
        mean = np.mean([outcome.coverage for outcome in outcomes])
        # Many images share a lambda here, as there are few places for an edge: ties cover more.
        assert 1 - alpha - 3 * error < mean < 1 - alpha + 0.1
        assert mean > np.mean([outcome.sample_coverage[0] for outcome in outcomes])
    assert found.violations() == []


def test_shapes_of_the_papers_figures() -> None:
    """Where one structure moves, whole segmentations are few, alike, and soon hit the truth."""
    found = edges()
    last = {curve: {method: found.curve(method, curve)[0][-1] for method in METHODS} for curve in CURVES}
    for consign in METHODS[:2]:
        for baseline in METHODS[2:]:
            assert last["chao1"][consign] < 20
            assert last["chao1"][baseline] == MS[-1] * (MS[-1] + 1) / 2
            assert last["sample_coverage"][consign] > last["sample_coverage"][baseline] + 0.1
            assert last["varying_correlation"][consign] > last["varying_correlation"][baseline] + 0.1
        rising = found.curve(consign, "varying_correlation")[0][1:]
        assert list(rising) == sorted(rising)
        outcomes = found.of(consign)
        assert all(
            mine.log10_volume < other.log10_volume
            for mine, other in zip(outcomes, found.of("RAPS"), strict=True)
        )


def test_undecided_searches_widen_the_coverage(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = moving_edges(30)
    report = cm.ConsignCalibrator(1, alpha=0.2).fit(X[:15], y[:15]).evaluate(X[15:], y[15:])
    undecided = dataclasses.replace(report, coverage=0.5, coverage_bound=0.75)
    monkeypatch.setattr(cm.ConsignCalibrator, "evaluate", lambda self, pairs: undecided)
    [outcome] = compare(
        X, y, n_components=(1,), baselines={}, n_samples=(1,), n_splits=1, progress=False
    ).outcomes
    assert (outcome.coverage, outcome.coverage_bound) == (0.5, 0.75)


# Abstaining


def test_infeasible_splits_are_outcomes() -> None:
    """Where no sample doubts what is wrong, CONSIGN has no set, whatever lambda; pixel-wise sets may be full."""
    X, y = moving_edges(40, random_state=6)
    X[::3], y[::3] = X[::3, :1], 1 - y[::3]
    found = compare(X, y, n_components=(2,), n_samples=(1, 4), n_splits=3, progress=False)
    consign, raps = found.of("CONSIGN, k = 2"), found.of("RAPS")
    assert all(outcome.abstained for outcome in consign)
    assert not any(outcome.abstained for outcome in raps)
    for outcome in consign:
        assert outcome.lambda_hat is None
        assert "images do not reach min_accuracy for any lambda" in outcome.reason
        assert outcome.statuses["infeasible"] > 0.1
        assert math.isnan(outcome.coverage)
        assert outcome.chao1 == ()
    mean, sd = found.curve("CONSIGN, k = 2", "chao1")
    assert np.isnan(mean).all()
    assert np.isnan(sd).all()
    rows = {line.split("|")[1].strip(): line for line in str(found).splitlines() if line.startswith("| ")}
    assert "| 3 of 3 " in rows["CONSIGN, k = 2"]
    assert "% infeasible" in rows["CONSIGN, k = 2"]
    assert "nan" not in str(found)
    assert "| 0 of 3 " in rows["RAPS"]
    assert found.violations() == []


def test_too_few_images() -> None:
    found = compare(*moving_edges(20), n_calibration=8, n_samples=(1,), n_splits=2, progress=False)
    assert all(outcome.abstained for outcome in found.outcomes)
    assert all("at least 9" in outcome.reason for outcome in found.outcomes)
    assert str(found).count("2 of 2") == 4


def outcome_of(**changes: object) -> Outcome:
    fields = {
        "method": "A",
        "split": 0,
        "n_calibration": 19,
        "n_test": 50,
        "lambda_hat": 0.5,
        "coverage": 0.8,
        "coverage_bound": 0.85,
        "log10_volume": 12.3,
        "statuses": {"exact": 0.75, "upper_bound": 0.25},
        "chao1": (1.0, 28.0),
        "sample_coverage": (0.4, 0.5),
        "correlation": (math.nan, 0.9),
        "varying_correlation": (math.nan, math.nan),
    }
    return Outcome(**{**fields, **changes})  # type: ignore[arg-type]


def test_too_little_coverage_is_said() -> None:
    """The standard error of one split is sqrt(0.9 * 0.1 * 70 / (50 * 21)) = 0.0775."""

    def said(*coverages: float | None) -> list[str]:
        outcomes = [
            outcome_of(lambda_hat=None, coverage=math.nan) if c is None else outcome_of(coverage=c)
            for c in coverages
        ]
        return Comparison(0.1, 0.9, (1, 7), tuple(outcomes)).violations()

    assert said(0.67) == []
    assert said(0.66) == ["A: the mean coverage is 0.6600, below 0.6676"]
    assert said(*[0.78] * 4) == ["A: the mean coverage is 0.7800, below 0.7838"]
    # To abstain is to cover.
    assert said(*[0.78] * 3, None) == []
    assert said(*[0.5] * 3, None) == ["A: the mean coverage is 0.6250, below 0.7838"]


def test_the_table() -> None:
    abstained = Outcome("A", 2, 19, 50, None, "why", statuses={"infeasible": 1.0})
    found = Comparison(
        0.1,
        0.9,
        (1, 7),
        (outcome_of(), outcome_of(split=1, lambda_hat=0.7), abstained, outcome_of(method="B", statuses={})),
    )
    title, table, reason, legend, verdict = str(found).split("\n\n")
    header, rule, *rows = table.splitlines()
    assert (
        title == "alpha = 0.1, min_accuracy = 0.9; 3 splits into 19 calibration and 50 test images; mean (sd)"
    )
    assert {len(line) for line in (header, rule, *rows)} == {len(header)}
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)]
    assert cells[0][3:5] == ["SEC(7)", "Chao(7)"]
    assert cells[1] == [
        *("A", "0.600 (0.141)", "0.800 (0.000) to 0.850 (0.000)", "0.500 (0.000)", "28 (0)", "0.900 (0.000)"),
        *("-", "at most 12.3 (0.0)", "1 of 3", "50% exact, 17% upper_bound, 33% infeasible"),
    ]
    assert cells[2][-3:] == ["12.3", "0 of 1", "-"]
    assert found._repr_markdown_() == str(found)
    assert reason == "A abstains: why"
    assert "SEC(7): share of test images for which at least one of 7 draws is accurate enough." in legend
    assert "Chao(7): estimated number of segmentations, at most 28." in legend
    errors = [math.sqrt(0.9 * 0.1 * 70 / (50 * 21) / n_splits) for n_splits in (3, 1)]
    assert verdict.endswith(
        f"below it by more than three of its standard errors ({errors[0]:.3f} to {errors[1]:.3f})."
    )
    low = Comparison(0.1, 0.9, (1, 7), (outcome_of(coverage=0.5, coverage_bound=0.5),))
    assert str(low).endswith(low.violations()[0])
    assert low.violations()[0].startswith("A: the mean coverage is 0.5000, below 0.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_samples": (5, 2)}, r"n_samples must be ascending and at least 1, got \[5, 2\]"),
        ({"n_samples": (0, 2)}, "n_samples must be ascending and at least 1"),
        ({"n_samples": ()}, "n_samples must be ascending"),
        ({"n_splits": 0}, "n_splits must be at least 1"),
        ({"n_calibration": 10}, r"n_calibration must be in \[1, 9\], got 10"),
        ({"labels": np.zeros((9, 16, 16), int)}, "samples has 10 images, labels has 9"),
        ({"alpha": 1.5}, "alpha"),
        ({"min_accuracy": 0}, "min_accuracy"),
    ],
)
def test_bad_arguments(changes: dict[str, object], message: str) -> None:
    X, y = moving_edges(10)
    arguments = {"samples": X, "labels": y, "n_splits": 1, "progress": False, **changes}
    with pytest.raises(ValueError, match=message):
        compare(**arguments)  # type: ignore[arg-type]


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="metric must be one of"):
        edges().curve("RAPS", "chao")
    with pytest.raises(ValueError, match="method must be one of"):
        edges().curve("LAC", "chao1")


# Stored samples


def test_stored_samples(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder was given"):
        stored_samples(None)
    with pytest.raises(FileNotFoundError, match=r"samples\.npz"):
        stored_samples(tmp_path)
    (tmp_path / "usgra-seg").mkdir()
    for content in (b"", b"PK\x03\x04 and so on"):
        (tmp_path / "usgra-seg" / "samples.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"samples\.npz is damaged"):
            stored_samples(tmp_path)
    np.savez(tmp_path / "usgra-seg" / "samples.npz", labels=[0])
    with pytest.raises(ValueError, match="holds no samples"):
        stored_samples(tmp_path)


def test_real_images(data_folder: Path) -> None:
    try:
        X, y = stored_samples(data_folder)
    except FileNotFoundError as error:
        pytest.skip(f"{error} (CONFORMASK_DATA)")
    assert (X.shape, X.dtype, y.dtype) == ((40, 8, 3, 128, 128), np.float16, np.uint8)
    found = compare(
        X, y, alpha=0.2, min_accuracy=0.7, n_samples=(2, 40), n_splits=2, n_calibration=26, progress=False
    )
    assert found.violations() == []
    assert all(outcome.lambda_hat for outcome in found.outcomes)
    varying, volume = (
        {method: np.mean([value(outcome) for outcome in found.of(method)]) for method in METHODS}
        for value in (lambda o: o.varying_correlation[-1], lambda o: o.log10_volume)
    )
    for consign in METHODS[:2]:
        assert varying[consign] > varying["RAPS"] + 0.1
        assert volume[consign] < 0.2 * volume["RAPS"]
