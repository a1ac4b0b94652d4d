"""Threads share a calibrator: no image is lost, and what is read belongs to the images it was found for."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import conformask as cm
from problems import wide

PROBLEM = wide(n=200, n_classes=3, size=(4, 5))
Calibrator = cm.ConformalRiskCalibrator


@pytest.mark.parametrize("profile", ["exact", "binned"])
def test_threads_add_images_while_another_reads(profile: str) -> None:
    expected = Calibrator(profile=profile).fit(PROBLEM.X, PROBLEM.y).lambda_hat_
    for _ in range(10):
        calibrator = Calibrator(profile=profile).fit(PROBLEM.X[:40], PROBLEM.y[:40])
        done = threading.Event()

        def read(calibrator: Calibrator = calibrator, done: threading.Event = done) -> None:
            while not done.is_set():
                assert 0 <= calibrator.lambda_hat_ <= 1

        def add(i: int, calibrator: Calibrator = calibrator) -> None:
            calibrator.partial_fit(PROBLEM.X[i : i + 4], PROBLEM.y[i : i + 4])

        with ThreadPoolExecutor(10) as pool:
            reader = pool.submit(read)
            list(pool.map(add, range(40, 200, 4)))
            done.set()
            reader.result()
        assert len(calibrator.profiles_) == 200
        assert calibrator.lambda_hat_ == expected


def test_threads_merge_into_one() -> None:
    parts = [
        Calibrator().partial_fit(PROBLEM.X[i : i + 10], PROBLEM.y[i : i + 10]) for i in range(0, 200, 10)
    ]
    whole = Calibrator()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(whole.merge, parts))
    assert len(whole.profiles_) == 200
    assert whole.lambda_hat_ == Calibrator().fit(PROBLEM.X, PROBLEM.y).lambda_hat_


def test_a_slow_answer_does_not_replace_a_newer_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images come while lambda-hat is computed: it is not kept as that of all images."""
    import conformask.risk_control.calibrator as module

    calibrator = Calibrator().partial_fit(PROBLEM.X[:40], PROBLEM.y[:40])
    solve = module.solve

    def slow(profiles: object, configuration: object) -> object:
        found = solve(profiles, configuration)  # type: ignore[arg-type]
        monkeypatch.setattr(module, "solve", solve)
        calibrator.partial_fit(PROBLEM.X[40:], PROBLEM.y[40:])
        return found

    monkeypatch.setattr(module, "solve", slow)
    first = calibrator.lambda_hat_
    assert first == Calibrator().fit(PROBLEM.X[:40], PROBLEM.y[:40]).lambda_hat_
    assert calibrator.lambda_hat_ == Calibrator().fit(PROBLEM.X, PROBLEM.y).lambda_hat_


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_during_an_update_has_a_lock_of_its_own() -> None:
    from conformask._calibrator import _Updates

    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with _Updates.lock:
            taken.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(30)
    child = os.fork()
    if not child:
        os._exit(Calibrator().fit(PROBLEM.X, PROBLEM.y).n_images_ != 200)
    release.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_risk_by_groups_is_the_one_that_was_controlled() -> None:
    """The mean over groups, not over images."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(20), rng.integers(1, 19, 20))[:200]
    n = len(groups)
    fitted = Calibrator(alpha=0.2).fit(PROBLEM.X[:n], PROBLEM.y[:n], groups=groups)
    report = fitted.evaluate(PROBLEM.X[:n], PROBLEM.y[:n], groups=groups)
    assert report.empirical_risk == pytest.approx(fitted.risk_, rel=1e-14)
    by_hand = [report.losses[groups == group].mean() for group in np.unique(groups)]
    assert report.empirical_risk == pytest.approx(np.mean(by_hand), rel=1e-14)
    assert (report.n_groups, report.n_images) == (len(np.unique(groups)), n)
    assert "groups" in str(report)
    with pytest.warns(UserWarning, match="Give groups= here too"):
        ungrouped = fitted.evaluate(PROBLEM.X[:n], PROBLEM.y[:n])
    assert ungrouped.empirical_risk == pytest.approx(report.losses.mean(), rel=1e-14) != report.empirical_risk
    assert fitted.score(PROBLEM.X[:n], PROBLEM.y[:n], groups=groups) == 1 - report.empirical_risk
    with pytest.raises(ValueError, match="groups must hold an int or string for each"):
        fitted.evaluate(PROBLEM.X, PROBLEM.y, groups=[1, 2])


def test_effective_number_of_images() -> None:
    assert Calibrator().fit(PROBLEM.X, PROBLEM.y).n_eff_ == 200
    weights = np.linspace(0, 1, 200)
    weighted = Calibrator().fit(PROBLEM.X, PROBLEM.y, sample_weight=weights)
    assert weighted.n_eff_ == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    with pytest.raises(
        cm.InfeasibleRiskError, match="images whose weights sum to at least 9, but they sum to 2"
    ):
        Calibrator().fit(PROBLEM.X, PROBLEM.y, sample_weight=[0.01] * 200)


def test_the_bound_of_the_risk_is_that_of_methods_with_confidence() -> None:
    fitted = Calibrator().fit(PROBLEM.X, PROBLEM.y)
    assert fitted.confidence_ is None
    with pytest.raises(AttributeError, match=r"bounds no risk.*PAC\(delta\) or RCPS\(delta\)"):
        _ = fitted.risk_bound_
    assert "risk_bound_" not in fitted._repr_html_()
    for method in (cm.RCPS(0.3), cm.RCPS(0.3, "wsr"), cm.LTT(0.3, [1.0, 0.99, 0.95])):
        confident = fitted.recalibrate(method=method)
        assert confident.risk_ < confident.risk_bound_ == confident.corrected_risk_ <= 0.1
        assert confident.confidence_ == 0.7
        assert f"{confident.risk_bound_:.4f}" in confident._repr_html_()
        assert "confidence_" in confident._repr_html_()


def test_the_limit_of_the_risk_with_weights_and_groups() -> None:
    plotting = pytest.importorskip("conformask.plotting")
    pytest.importorskip("matplotlib").use("Agg")
    weights = np.linspace(0, 1, 200)
    plain = Calibrator(alpha=0.2).fit(PROBLEM.X, PROBLEM.y)
    weighted = Calibrator(alpha=0.2).fit(PROBLEM.X, PROBLEM.y, sample_weight=weights)
    assert plain.risk_limit() == pytest.approx(0.2 - 0.8 / 200)
    assert weighted.risk_limit() == pytest.approx(0.2 - 0.8 / weights.sum())
    assert weighted.risk_ <= weighted.risk_limit() < plain.risk_limit()
    assert weighted.risk_limit(0.1) == pytest.approx(0.1 - 0.9 / weights.sum())
    for fitted in (plain, weighted):
        lines = plotting.plot_risk_curve(fitted).get_lines()
        drawn = {round(float(line.get_ydata()[0]), 12) for line in lines}
        assert round(fitted.risk_limit(), 12) in drawn
