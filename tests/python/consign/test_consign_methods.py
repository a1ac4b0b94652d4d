"""CONSIGN by methods of control: which order statistic they take, what they promise, what files and reports say."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import conformask as cm
from conformask.consign._images import units_of
from conformask.consign._solution import least_controlled
from conformask.control import Method

ROW = np.linspace(-1, 1, 12)


@cache
def images(n: int, seed: int = 0) -> tuple[NDArray, NDArray]:
    """Images of one edge, 6 samples each."""
    rng = np.random.default_rng(seed)
    edges = rng.normal(0, 0.3, (n, 7, 1, 1)) + rng.normal(0, 0.3, (n, 1, 1, 1))
    fields = 4 * (ROW - edges) * np.ones((8, 1))
    return np.stack([-fields[:, :6], fields[:, :6]], axis=2), (fields[:, 6] > 0).astype(np.uint8)


def calibrator(method: Method | str, alpha: float = 0.1, **parameters) -> cm.ConsignCalibrator:
    return cm.ConsignCalibrator(2, alpha=alpha, method=method, progress=False, **parameters)


@pytest.mark.parametrize(("method", "k"), [("crc", 91), (cm.PAC(0.1), 95), (cm.RCPS(0.1), 96)])
def test_the_order_statistic_of_each_method(method: Method | str, k: int) -> None:
    fitted = calibrator(method).fit(*images(100))
    lambdas = np.sort(fitted.image_lambdas_)  # what is not needed is larger, and NaN
    assert lambdas[k - 2] < lambdas[k - 1] == fitted.lambda_hat_


def test_too_few_images_name_the_number_of_the_method() -> None:
    X, y = images(100)
    with pytest.raises(
        cm.InfeasibleRiskError, match="with 21 calibration images: at least 22 are needed"
    ) as caught:
        calibrator(cm.PAC(0.1)).fit(X[:21], y[:21])
    assert caught.value.n_needed == cm.metrics.required_images(0.1, method=cm.PAC(0.1)) == 22
    fitted = calibrator(cm.PAC(0.1)).fit(X[:22], y[:22])
    assert fitted.lambda_hat_ == fitted.image_lambdas_.max()
    assert calibrator("crc").fit(X[:21], y[:21]).lambda_hat_ < np.inf


def test_images_that_cannot_be_matched_count_against_the_budget() -> None:
    """PAC allows 5 of 100, CRC 9; there are 6, whose labels no sample knows."""
    X, y = images(100)
    y = y.copy()
    y[:6] = np.arange(8)[:, np.newaxis] % 2
    assert calibrator("crc").fit(X, y).lambda_hat_ < np.inf
    with pytest.raises(
        cm.InfeasibleRiskError, match=r"6 images do not reach .*; at most 5 such images are allowed"
    ):
        calibrator(cm.PAC(0.1)).fit(X, y)
    assert calibrator(cm.PAC(0.1)).fit(X[1:], y[1:]).lambda_hat_ < np.inf


@pytest.mark.parametrize(("n", "alpha", "delta"), [(100, 0.1, 0.1), (60, 0.2, 0.05), (22, 0.1, 0.1)])
@pytest.mark.parametrize("kind", [cm.PAC, cm.RCPS])
def test_coverage_given_calibration(kind: type, n: int, alpha: float, delta: float) -> None:
    """Of lambdas of images that are uniform in (0, 1), the sets at lambda-hat cover the share lambda-hat."""
    repetitions, units = 2_000, units_of(n, None, 0)
    settings = calibrator(kind(delta), alpha)._configuration()
    draws, most = np.random.default_rng(n).random((repetitions, n)), settings.budget(units)
    coverages = np.array([least_controlled(lambdas, units, most) for lambdas in draws])
    exceeded = (coverages < 1 - alpha).mean()
    assert exceeded <= delta + 3 * np.sqrt(delta * (1 - delta) / repetitions)
    law = stats.binom(n, alpha).cdf(float(most))
    assert abs(exceeded - law) <= 4 * np.sqrt(law * (1 - law) / repetitions)
    on_average = np.array(
        [least_controlled(lambdas, units, cm.CRC().budget(units, Fraction(str(alpha)))) for lambdas in draws]
    )
    assert (on_average < 1 - alpha).mean() > delta + 0.1


def test_groups_count_by_shares() -> None:
    X, y = images(100)
    pairs = np.arange(100) // 2
    with pytest.raises(ValueError, match=r"a group of several images has their mean: .* or use RCPS"):
        calibrator(cm.PAC(0.1)).fit(X, y, groups=pairs)
    fitted = calibrator(cm.RCPS(0.1)).fit(X, y, groups=pairs)
    missed = ~(fitted.image_lambdas_ <= fitted.lambda_hat_)
    units = units_of(100, pairs.tolist(), 0)
    assert 0 < missed.reshape(50, 2).mean(axis=1).sum() <= cm.RCPS(0.1).budget(units, Fraction(1, 10))
    alone = calibrator(cm.PAC(0.1)).fit(X, y, groups=np.arange(100))
    assert alone.lambda_hat_ == calibrator(cm.PAC(0.1)).fit(X, y).lambda_hat_


def test_files_hold_the_method(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    fitted = calibrator(cm.PAC(Fraction(1, 10))).fit(*images(100))
    fitted.save(path)
    document = json.loads(path.read_text())
    assert document["format_version"] == 3
    assert document["parameters"]["method"] == {"name": "pac", "delta": {"fraction": "1/10"}}
    loaded = cm.ConsignCalibrator.load(path)
    assert loaded.method == fitted.method
    assert loaded.lambda_hat_ == fitted.lambda_hat_
    document["parameters"]["method"]["delta"] = 0.5
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="not that of the images"):
        cm.ConsignCalibrator.load(path)
    document["parameters"]["method"]["name"] = "apples"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="method is"):
        cm.ConsignCalibrator.load(path)


@pytest.mark.parametrize("version", [1, 2])
def test_older_files_are_of_crc(version: int, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    fitted = calibrator("crc").fit(*images(100))
    fitted.save(path)
    document = json.loads(path.read_text())
    document["format_version"] = version
    del document["parameters"]["method"]
    path.write_text(json.dumps(document))
    loaded = cm.ConsignCalibrator.load(path)
    assert loaded.method == "crc"
    assert loaded.lambda_hat_ == fitted.lambda_hat_
    document["format_version"] = 3
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="method"):
        cm.ConsignCalibrator.load(path)


@pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning")  # some are wrong here
def test_reports_tell_the_method_and_its_confidence() -> None:
    X, y = images(100)
    fitted = calibrator(cm.PAC(0.1)).fit(X, y)
    report = fitted.evaluate(*images(40, seed=1))
    assert report.method == str(cm.PAC(0.1)) == "PAC with confidence 0.9"
    assert "PAC with confidence 0.9" in str(report)
    assert json.loads(report.to_json())["method"] == report.method
    assert calibrator("crc").fit(X, y).evaluate(X, y).method == "conformal risk control"
    assert "PAC(delta=0.1)" in fitted._repr_html_()
    odd = np.broadcast_to(np.arange(8)[:, np.newaxis] % 2, (40, 8, 12))
    wrong = fitted.evaluate(images(40, seed=1)[0], odd)
    assert "this happens for at most 10 % of calibration sets" in wrong.verdict
    assert "on average" not in wrong.verdict


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"method must be 'crc', CRC\(\), PAC\(delta\), RCPS"):
        calibrator("apples").fit(*images(30))
    fitted = calibrator(cm.PAC(0.1)).fit(*images(30))
    fitted.set_params(method=cm.PAC(0.2))
    with pytest.raises(
        ValueError, match=r"method is PAC\(delta=0\.2\), but .* with PAC\(delta=0\.1\): fit again"
    ):
        fitted.predict(images(30)[0])


@pytest.mark.parametrize("method", [cm.RCPS(0.1, bound="wsr"), cm.LTT(0.1, [1.0, 0.5])])
def test_methods_that_look_at_a_grid_are_refused(method: object) -> None:
    X = np.random.default_rng(5).normal(size=(12, 3, 2, 4, 4))
    y = X[:, 0].argmax(axis=1)
    with pytest.raises(ValueError, match=r"looks at lambdas of a grid, but the lambdas of CONSIGN's boxes"):
        cm.ConsignCalibrator(2, method=method).fit(X, y)
    masks = y > 0
    with pytest.raises(ValueError, match="looks at lambdas of a grid, but margins are distances"):
        cm.MarginCalibrator(method=method).fit(masks, masks)
