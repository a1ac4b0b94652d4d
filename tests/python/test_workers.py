"""Several processes calibrate together: Dask, joblib and multiprocessing give the bits of one process."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce

import dask
import dask.array as da
import joblib
import numpy as np
import pytest
from dask.distributed import Client, LocalCluster
from sklearn.base import clone

import conformask as cm
from conformask.integrations import dask as on_dask
from problems import wide

PROBLEM = wide(n=47, size=(9, 8))
CUTS = [(0, 10), (10, 11), (11, 30), (30, 47)]
CALIBRATORS = {
    "exact": cm.ConformalRiskCalibrator(alpha=0.1),
    "APS from logits": cm.ConformalRiskCalibrator(cm.APS(), inputs="logits", alpha=0.1),
    "binned": cm.ConformalRiskCalibrator(profile="binned", alpha=0.1, collect=["binary"]),
}


def data(calibrator: cm.ConformalRiskCalibrator) -> tuple[np.ndarray, np.ndarray]:
    return (np.log(PROBLEM.X) if calibrator.inputs == "logits" else PROBLEM.X), PROBLEM.y


def same(fitted: cm.ConformalRiskCalibrator, calibrator: cm.ConformalRiskCalibrator) -> bool:
    """The bits of one process: all results, and all of the profiles."""
    alone = clone(calibrator).fit(*data(calibrator))
    results = ("lambda_hat_", "risk_", "corrected_risk_", "n_images_", "n_classes_")
    if calibrator.profile == "binned":
        kept = [
            np.array_equal(fitted.profiles_._core.part(i)[1], alone.profiles_._core.part(i)[1])
            for i in (0, 1)
        ]
    else:
        pairs = zip(fitted.profiles_._core.to_arrays(), alone.profiles_._core.to_arrays(), strict=True)
        kept = [np.array_equal(ours, theirs) for ours, theirs in pairs if ours is not None]
    return all(kept) and all(getattr(fitted, name) == getattr(alone, name) for name in results)


def fit_part(calibrator: cm.ConformalRiskCalibrator, start: int, stop: int) -> cm.ConformalRiskCalibrator:
    X, y = data(calibrator)
    return clone(calibrator).partial_fit(X[start:stop], y[start:stop])


def make_block(start: int, stop: int, logits: bool) -> tuple[np.ndarray, np.ndarray]:
    """Made where it is used: nothing travels but the two numbers."""
    return (np.log(PROBLEM.X) if logits else PROBLEM.X)[start:stop], PROBLEM.y[start:stop]


# joblib and multiprocessing


@pytest.mark.parametrize("name", CALIBRATORS)
def test_joblib(name: str) -> None:
    calibrator = CALIBRATORS[name]
    parts = joblib.Parallel(n_jobs=2)(joblib.delayed(fit_part)(calibrator, *cut) for cut in CUTS)
    assert same(reduce(lambda left, right: left.merge(right), parts), calibrator)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_multiprocessing(name: str) -> None:
    calibrator = CALIBRATORS[name]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.starmap(fit_part, [(calibrator, *cut) for cut in CUTS])
    assert same(reduce(lambda left, right: left.merge(right), parts), calibrator)


# Dask


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two processes on this machine."""
    with (
        dask.config.set({"distributed.comm.retry.count": 0}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("chunks", [(10, -1, -1, -1), (20, 2, 5, 3), (47, -1, -1, -1), (1, -1, -1, -1)])
def test_dask_arrays(client: Client, name: str, chunks: tuple[int, ...]) -> None:
    calibrator = CALIBRATORS[name]
    X, y = data(calibrator)
    fitted = on_dask.fit(clone(calibrator), da.from_array(X, chunks), da.from_array(y, (13, 4, 8)))
    assert same(fitted, calibrator)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_dask_delayed_blocks(client: Client, name: str) -> None:
    calibrator = CALIBRATORS[name]
    blocks = [dask.delayed(make_block)(*cut, calibrator.inputs == "logits") for cut in CUTS]
    assert same(on_dask.fit(clone(calibrator), blocks), calibrator)
    assert len({worker["pid"] for worker in client.run(_process).values()}) == 2


def _process() -> dict[str, int]:
    import os

    return {"pid": os.getpid()}


def test_dask_profiles(client: Client) -> None:
    found = on_dask.profile(da.from_array(PROBLEM.X, (9, -1, -1, -1)), da.from_array(PROBLEM.y), "aps")
    assert isinstance(found, cm.ScoreProfiles)
    assert found[:5].lambda_hat("miscoverage", 0.3) == cm.profile(
        PROBLEM.X[:5], PROBLEM.y[:5], "aps"
    ).lambda_hat("miscoverage", 0.3)


def test_dask_refuses_what_does_not_fit() -> None:
    X, y = da.from_array(PROBLEM.X, (10, -1, -1, -1)), da.from_array(PROBLEM.y)
    bad = PROBLEM.X.copy()
    bad[25, 1, 2, 3] = np.nan
    labels = PROBLEM.y.copy()
    labels[25, 2, 3] = 0
    fit, calibrator = on_dask.fit, cm.ConformalRiskCalibrator()
    with dask.config.set(scheduler="synchronous"):
        for arguments, error, says in [
            ((X,), TypeError, "y must be a dask array like X, got NoneType"),
            ((X, PROBLEM.y), TypeError, "y must be a dask array like X, got ndarray"),
            ((X, y[1:]), ValueError, r"y must have shape \(47, 9, 8\).*got \(46, 9, 8\)"),
            (([dask.delayed((PROBLEM.X, PROBLEM.y))], y), TypeError, "let its blocks be pairs"),
            (([PROBLEM.X],), TypeError, "must hold delayed .* pairs, got ndarray"),
            (
                ([dask.delayed(PROBLEM.X)],),
                TypeError,
                r"block 0 must be a \(scores, labels\) pair, got ndarray",
            ),
            (([],), ValueError, "X is empty"),
            (
                (da.from_array(bad, (10, -1, -1, -1)), da.from_array(labels)),
                ValueError,
                r"not finite in image 25: .*\(in block 2\)",
            ),
        ]:
            with pytest.raises(error, match=says):
                fit(calibrator, *arguments)
        with pytest.raises(cm.InfeasibleRiskError):
            fit(cm.ConformalRiskCalibrator(alpha=0.01), X, y)
    with pytest.raises(Exception, match="has seen no images"):
        calibrator.predict(PROBLEM.X)


@pytest.mark.parametrize("profile", ["exact", "binned"])
def test_blocks_that_a_filter_left_empty_are_passed_over(profile: str) -> None:
    X, y = PROBLEM.X, PROBLEM.y
    options = {"profile": profile, "alpha": 0.3}
    for gone in (slice(0, 10), slice(10, 30), slice(40, 47)):
        keep = np.ones(len(X), bool)
        keep[gone] = False
        alone = cm.ConformalRiskCalibrator(**options).fit(X[keep], y[keep])
        kept = da.from_array(keep, chunks=10)
        arrays = [da.from_array(each, chunks=(10, *[-1] * (each.ndim - 1)))[kept] for each in (X, y)]
        blocks = [
            dask.delayed((X[i : i + 10][keep[i : i + 10]], y[i : i + 10][keep[i : i + 10]]))
            for i in range(0, 47, 10)
        ]
        for given in (arrays, [blocks]):
            found = on_dask.fit(cm.ConformalRiskCalibrator(**options), *given)
            assert (found.lambda_hat_, found.n_images_) == (alone.lambda_hat_, alone.n_images_)
        if profile == "exact":
            names = (np.arange(len(X)) // 2)[keep]
            found = on_dask.fit(cm.ConformalRiskCalibrator(**options), blocks, groups=names)
            expected = cm.ConformalRiskCalibrator(**options).fit(X[keep], y[keep], groups=names)
            assert (found.lambda_hat_, found.n_images_) == (expected.lambda_hat_, expected.n_images_)
    with pytest.raises(ValueError, match="X is empty: it holds no image"):
        on_dask.profile([dask.delayed((X[:0], y[:0]))] * 3)


def test_conformask_does_not_import_dask() -> None:
    code = "import sys, conformask; raise SystemExit('dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Groups, strata and weights


def test_strata_and_grids_through_dask() -> None:
    X, y = PROBLEM.X, PROBLEM.y
    strata = np.array(["day", "night", "night"])[np.arange(len(X)) % 3]
    blocks = da.from_array(X, chunks=(5, -1, -1, -1)), da.from_array(y)
    alone = cm.ConformalRiskCalibrator(alpha=0.4).fit(X, y, strata=strata)
    for given in (strata, strata.tolist(), da.from_array(strata, chunks=4)):
        found = on_dask.fit(cm.ConformalRiskCalibrator(alpha=0.4), *blocks, strata=given)
        assert (found.strata_, found.lambda_hat_.tolist()) == (alone.strata_, alone.lambda_hat_.tolist())
    with pytest.raises(ValueError, match="strata must hold"):
        on_dask.fit(cm.ConformalRiskCalibrator(), *blocks, strata=strata[:3])
    with pytest.raises(ValueError, match="strata needs profile='exact'"):
        on_dask.fit(cm.ConformalRiskCalibrator(profile="binned"), *blocks, strata=strata)
    asked = {"loss": cm.PrecisionLoss([0, 1]), "alpha": 0.9, "method": cm.LTT(0.3, [0.0, 0.5, 1.0])}
    precise = cm.ConformalRiskCalibrator(**asked).fit(X, y)
    assert on_dask.fit(cm.ConformalRiskCalibrator(**asked), *blocks).lambda_hat_ == precise.lambda_hat_


@pytest.mark.parametrize("n_blocks", [1, 4])
def test_groups_and_weights_through_dask(n_blocks: int) -> None:
    """They come for all images, as arrays or as arrays of Dask, and give the bits of one process."""
    X, y = PROBLEM.X, PROBLEM.y
    n = len(X)
    blocks = da.from_array(X, chunks=(-(-n // n_blocks), -1, -1, -1)), da.from_array(y)
    pairs = [dask.delayed((X[first:last], y[first:last])) for first, last in CUTS]
    groups, weights = np.arange(n) // 2, np.linspace(0.1, 1, n)
    for options in ({"groups": groups}, {"sample_weight": weights}):
        [(name, values)] = options.items()
        alone = cm.ConformalRiskCalibrator(alpha=0.2).fit(X, y, **options)
        for given in (values, values.tolist(), da.from_array(values, chunks=5)):
            for images in (blocks, (pairs,)):
                found = on_dask.fit(cm.ConformalRiskCalibrator(alpha=0.2), *images, **{name: given})
                assert (found.lambda_hat_, found.risk_, found.n_images_, found.n_eff_) == (
                    alone.lambda_hat_,
                    alone.risk_,
                    alone.n_images_,
                    alone.n_eff_,
                )
        with pytest.raises(ValueError, match=f"{name} must hold"):
            on_dask.fit(cm.ConformalRiskCalibrator(), *blocks, **{name: values[:3]})
        with pytest.raises(ValueError, match=f"{name} needs profile='exact'"):
            on_dask.fit(cm.ConformalRiskCalibrator(profile="binned"), *blocks, **options)


# Copies: what a worker sends


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("fitted_by", ["fit", "partial_fit"])
def test_copies_go_on_by_themselves(name: str, fitted_by: str) -> None:
    X, y = data(CALIBRATORS[name])
    fitted = getattr(clone(CALIBRATORS[name]), fitted_by)(X[:30], y[:30])
    for way in (copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c, protocol=2))):
        twin = way(fitted)
        assert (twin.lambda_hat_, twin.risk_) == (fitted.lambda_hat_, fitted.risk_)
        assert twin.recalibrate(alpha=0.2).lambda_hat_ == fitted.recalibrate(alpha=0.2).lambda_hat_
        assert twin.partial_fit(X[30:], y[30:]) is twin
        assert (len(twin.profiles_), len(fitted.profiles_)) == (47, 30)
        assert same(twin, CALIBRATORS[name])


def test_partial_fit_keeps_the_kind_of_profiles_that_are_there() -> None:
    """`profile` says how `fit` keeps images; it may be set later."""
    X, y = PROBLEM.X, PROBLEM.y
    for first, later in (("exact", "binned"), ("binned", "exact")):
        calibrator = cm.ConformalRiskCalibrator(profile=first, alpha=0.2).fit(X[:30], y[:30])
        calibrator.set_params(profile=later).partial_fit(X[30:], y[30:])
        whole = cm.ConformalRiskCalibrator(profile=first, alpha=0.2).fit(X, y)
        assert (calibrator.lambda_hat_, len(calibrator.profiles_)) == (whole.lambda_hat_, 47)
