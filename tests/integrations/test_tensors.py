"""Tensors of odd kinds and sizes: what works gives the same everywhere, and what does not says what would."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone

import conformask as cm
from conformask.integrations.torch import ConformalModule
from problems import wide

PROBLEM = wide(n=12, n_classes=5, size=(9, 8), dtype="float32")
X, Y = torch.from_numpy(PROBLEM.X), torch.from_numpy(PROBLEM.y)
SCORES = [
    cm.LAC(),
    cm.APS(),
    cm.RAPS(),
    cm.SACP(cm.LAC()),
    cm.SACP(cm.APS()),
    cm.SACP(cm.LAC(), mode="probabilities"),
]
FITTED = cm.ConformalRiskCalibrator(alpha=0.3).fit(PROBLEM.X, PROBLEM.y)


# Sums of what was rounded


@pytest.mark.parametrize("activation", [False, True])
@pytest.mark.parametrize("score", SCORES, ids=str)
def test_bfloat16_may_sum_to_1_within_a_hundredth(score: Any, activation: bool) -> None:
    """Whoever reads it: the code for tensors, or the kernels."""
    for total, is_taken in ((0.9922, True), (1.0078, True), (0.98, False), (1.02, False)):
        maps = torch.full((12, 2, 4, 4), 0.5, dtype=torch.float64)
        maps[:, 1] = total - 0.5
        maps, y = maps.bfloat16(), torch.zeros(12, 4, 4, dtype=torch.int64)
        calls = [
            lambda maps=maps, y=y: cm.profile(maps, y, score, activation=activation),
            lambda maps=maps, y=y: cm.profile(list(maps), list(y), score, activation=activation),
            lambda maps=maps: cm.kernels.threshold(maps, 0.5, score),
            lambda maps=maps: cm.kernels.set_size(list(maps), 0.5, score),
            lambda maps=maps, y=y: cm.kernels.losses(maps, y, 0.5, conformity_score=score),
        ]
        for call in calls:
            if is_taken:
                call()
                continue
            with pytest.raises(ValueError, match=r"not to 1 within 0\.01;"):
                call()
    with pytest.raises(ValueError, match=r"not to 1 within 0\.001;"):  # of float32 as ever
        cm.profile(maps.float() * 0 + 0.4961, y, score)


def test_sums_are_off_alike_to_both_sides() -> None:
    for dtype, device_dtype in ((torch.float32, torch.float32), (torch.float64, torch.float64)):
        for rest, is_taken in ((0.499, True), (0.501, True), (0.4985, False), (0.5015, False)):
            maps = torch.full((1, 2, 4, 4), 0.5, dtype=dtype)
            maps[:, 1] = rest
            module = ConformalModule(torch.nn.Identity(), two_classes())
            if is_taken:
                module(maps.to(device_dtype))
            else:
                with pytest.raises(ValueError, match=r"sum to (0\.9985|1\.0015) at pixel \(0, 0\), not to 1"):
                    module(maps.to(device_dtype))


def two_classes() -> cm.ConformalRiskCalibrator:
    halves = np.full((12, 2, 4, 4), 0.5)
    return cm.ConformalRiskCalibrator(alpha=0.3).fit(halves, np.zeros((12, 4, 4), int))


# Scores of any size


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_scores_as_large_as_floats_are(dtype: torch.dtype, score: Any) -> None:
    """Their sum is beyond the floats: calibration, kernels, the code for tensors and modules say the same."""
    rng = torch.Generator().manual_seed(0)
    scores = torch.rand(20, 4, 6, 6, generator=rng, dtype=torch.float64)
    scores = (scores / scores.amax(dim=1, keepdim=True) * (torch.finfo(dtype).max * 0.999)).to(dtype)
    assert scores.double().sum(dim=1).min() > torch.finfo(dtype).max
    y = scores.double().argmax(dim=1)
    y[:, :2] = (y[:, :2] + 1) % 4
    calibrator = cm.ConformalRiskCalibrator(score, alpha=0.2, inputs="scores").fit(scores, y)
    assert 0.1 < calibrator.risk_ < 0.2
    assert calibrator.evaluate(scores, y).empirical_risk <= calibrator.risk_ + 1e-12
    output = ConformalModule(torch.nn.Identity(), calibrator)(scores)
    assert output.probabilities.isfinite().all()
    covered = output.masks.gather(1, y[:, None]).double().mean(dim=(1, 2, 3))
    assert 1 - float(covered.mean()) <= calibrator.risk_ + 1e-12
    small = (scores.double() / torch.finfo(dtype).max).to(dtype)  # the same scores
    again = cm.ConformalRiskCalibrator(score, alpha=0.2, inputs="scores").fit(small, y)
    assert abs(again.lambda_hat_ - calibrator.lambda_hat_) < (0.02 if dtype == torch.bfloat16 else 0.002)


# Kinds that no kernel reads


def refused_everywhere(maps: Any, says: str) -> None:
    for call in (
        lambda: cm.profile(maps, Y),
        lambda: cm.kernels.threshold(maps, 0.5),
        lambda: FITTED.predict(maps),
        lambda: FITTED.set_size(maps),
        lambda: FITTED.evaluate(maps, Y),
    ):
        with pytest.raises(TypeError, match=f"^X {says}"):
            call()
    with pytest.raises(TypeError, match=f"^the output {says}"):
        ConformalModule(torch.nn.Identity(), FITTED)(maps)


FLOAT8 = [getattr(torch, name) for name in dir(torch) if name.startswith("float8_e")]


@pytest.mark.parametrize("dtype", FLOAT8, ids=str)
def test_float8_is_refused(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    says = f"is a tensor of {name}.*float16, bfloat16, float32 or float64"
    maps = torch.empty(X.shape, dtype=dtype)
    refused_everywhere(maps, says)
    with pytest.raises(TypeError, match=rf"^X is a tensor of {name} in image 0: "):
        cm.profile(list(maps), list(Y))
    with pytest.raises(TypeError, match=rf"^y is a tensor of {name}.*integers"):
        cm.profile(X.bfloat16(), torch.empty(Y.shape, dtype=dtype))


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_nested_tensors_are_refused(layout: torch.layout) -> None:
    says = "is a nested tensor: pass a list of its tensors, "
    refused_everywhere(torch.nested.nested_tensor(list(X), layout=layout), says)
    labels = torch.nested.nested_tensor(list(Y), layout=layout)
    for maps in (X, X.bfloat16(), PROBLEM.X):
        with pytest.raises(TypeError, match=re.escape(f"y {says}y.unbind()")):
            cm.profile(maps, labels)


@pytest.mark.filterwarnings("ignore:.*quantiz:Warning")
def test_sparse_and_quantized_tensors_are_refused() -> None:
    refused_everywhere(X.to_sparse(), r"is a sparse tensor: pass .*\.to_dense\(\)")
    quantized = torch.quantize_per_tensor(X, 0.01, 0, torch.quint8)
    refused_everywhere(quantized, r"is a quantized tensor: pass .*\.dequantize\(\)")
    with pytest.raises(TypeError, match=r"^y is a sparse tensor: pass y\.to_dense\(\)"):
        cm.profile(X.bfloat16(), (Y + 1).to_sparse())


@pytest.mark.parametrize("name", ["uint4", "int4", "bits8"])
def test_labels_of_parts_of_bytes_are_refused(name: str) -> None:
    if not hasattr(torch, name):
        pytest.skip(f"this PyTorch has no {name}")
    labels = torch.empty(Y.shape, dtype=getattr(torch, name))
    for maps in (X, X.bfloat16()):
        with pytest.raises(TypeError, match=f"^y is a tensor of {name}.*integers of 8 to 64 bits"):
            cm.profile(maps, labels)


# Measures of calibration, and scalers

LOGITS = 3 * torch.randn(6, 4, 20, 22, generator=torch.Generator().manual_seed(0))
TRUTH = (LOGITS / 3 + torch.randn(LOGITS.shape, generator=torch.Generator().manual_seed(1))).argmax(1)
TRUTH[torch.rand(TRUTH.shape, generator=torch.Generator().manual_seed(2)) < 0.1] = 255

KINDS: dict[str, Any] = {
    "float16": lambda maps: maps.half(),
    "bfloat16": lambda maps: maps.bfloat16(),
    "float32": lambda maps: maps,
    "float64": lambda maps: maps.double(),
    "channels last": lambda maps: maps.contiguous(memory_format=torch.channels_last),
    "every other": lambda maps: maps.repeat_interleave(2, dim=-1)[..., ::2],
    "with a gradient": lambda maps: maps.clone().requires_grad_(),
    "with a graph": lambda maps: maps.clone().requires_grad_() * 1,
    "negated view": lambda maps: torch._neg_view(-maps),
}
SCALERS = [
    cm.TemperatureScaler(),
    cm.VectorScaler(),
    cm.DirichletScaler(),
    cm.MetaCal(),
    cm.LocalTemperatureScaler(),
    cm.SelectiveScaler(),
    cm.StructuredScaler(),
]


def in_numpy(maps: torch.Tensor) -> NDArray[Any]:
    """The same numbers: bfloat16 as float32."""
    maps = maps.detach()
    return (maps.float() if maps.dtype == torch.bfloat16 else maps).resolve_neg().numpy().copy()


@pytest.mark.parametrize("labels", [torch.uint8, torch.int16, torch.int64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_calibration_of_tensors_is_that_of_arrays(kind: str, labels: torch.dtype) -> None:
    maps, y = KINDS[kind](LOGITS), TRUTH.to(labels)
    x, truth = in_numpy(maps), TRUTH.numpy()
    expected = cm.metrics.calibration_report(truth, x, inputs="logits").to_dict()
    assert expected["ece"] > 0.05
    report = cm.metrics.calibration_report
    assert report(y, maps, inputs="logits").to_dict() == expected
    assert report(list(y), list(maps), inputs="logits").to_dict() == expected
    assert report(None, zip(maps, y, strict=True), inputs="logits").to_dict() == expected
    assert report(truth, maps, inputs="logits").to_dict() == expected
    accumulator = cm.metrics.CalibrationAccumulator(inputs="logits").update(y[:2], maps[:2])
    assert accumulator.update(y[2:], maps[2:]).report().to_dict() == expected
    curve = cm.metrics.reliability_curve(y, maps, inputs="logits")
    assert curve.n_pixels.tolist() == expected["curve"]["n_pixels"]
    volumes = maps[:, :, None]
    flat = {"inputs": "logits", "boundary_width": None}
    assert report(y[:, None], volumes, **flat).to_dict() == report(truth, x, **flat).to_dict()


@pytest.mark.parametrize("inputs", ["logits", "probabilities"])
@pytest.mark.parametrize("scaler", SCALERS, ids=lambda scaler: type(scaler).__name__)
def test_scalers_of_tensors_are_those_of_arrays(scaler: Any, inputs: str) -> None:
    given = LOGITS if inputs == "logits" else LOGITS.softmax(dim=1)
    fitted: dict[str, Any] = {}
    for kind in ("float16", "bfloat16", "channels last", "with a graph", "negated view"):
        maps = KINDS[kind](given)
        if inputs == "probabilities" and maps.dtype == torch.bfloat16:
            continue
        x = in_numpy(maps)
        key = "bfloat16" if maps.dtype == torch.bfloat16 else x.dtype.name
        if key not in fitted:
            fitted[key] = clone(scaler).set_params(inputs=inputs).fit(x, TRUTH.numpy())
        expected = fitted[key]
        found = clone(scaler).set_params(inputs=inputs).fit(maps, TRUTH)
        assert found.nll_ == expected.nll_
        probabilities = found.transform(maps)
        assert type(probabilities) is np.ndarray
        np.testing.assert_array_equal(probabilities, expected.transform(x), strict=True)
        np.testing.assert_array_equal(found.transform(list(maps))[5], probabilities[5], strict=True)
        of_tensors = cm.metrics.calibration_report(TRUTH, maps, inputs=inputs, transform=found)
        of_arrays = cm.metrics.calibration_report(TRUTH.numpy(), x, inputs=inputs, transform=found)
        assert of_tensors.to_dict() == of_arrays.to_dict()


def test_probabilities_in_bfloat16_are_measured_but_not_scaled() -> None:
    """They sum to 1 within a hundredth: enough for bins, not for logarithms."""
    exact = LOGITS.softmax(dim=1)
    maps = exact.bfloat16()
    assert (maps.float().sum(dim=1) - 1).abs().max() > 0.002
    report = cm.metrics.calibration_report(TRUTH, maps)
    near = cm.metrics.calibration_report(TRUTH, exact)
    assert report.ece == pytest.approx(near.ece, abs=0.01)
    assert report.nll == pytest.approx(near.nll, abs=0.01)
    scaler = cm.TemperatureScaler(inputs="probabilities").fit(exact[:2], TRUTH[:2])
    calibrator = cm.ConformalRiskCalibrator(alpha=0.4, transform=scaler)
    fitted = clone(calibrator).fit(exact[2:], TRUTH[2:])
    for call in (
        lambda: scaler.transform(maps),
        lambda: scaler.transform(list(maps)),
        lambda: clone(scaler).fit(maps, TRUTH),
        lambda: clone(scaler).fit(list(maps), list(TRUTH)),
        lambda: cm.EnsembleAverager(inputs="probabilities").transform([exact, maps]),
        lambda: calibrator.fit(maps, TRUTH),
        lambda: fitted.predict(maps),
        lambda: fitted.evaluate(maps, TRUTH),
        lambda: cm.metrics.calibration_report(TRUTH, maps, transform=scaler),
    ):
        with pytest.raises(TypeError, match=r"^X holds probabilities in bfloat16, .*: pass logits, "):
            call()


@pytest.mark.filterwarnings("ignore:.*quantiz:Warning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_measures_and_scalers_refuse_what_others_refuse() -> None:
    for maps, says in (
        (torch.empty(LOGITS.shape, dtype=torch.float8_e4m3fn), "is a tensor of float8_e4m3fn"),
        (LOGITS.to_sparse(), "is a sparse tensor"),
        (torch.nested.nested_tensor(list(LOGITS)), "is a nested tensor"),
        (torch.quantize_per_tensor(LOGITS, 0.01, 0, torch.quint8), "is a quantized tensor"),
        ((100 * LOGITS).int(), "must be float16, float32 or float64"),
    ):
        for call in (
            lambda maps=maps: cm.metrics.calibration_report(TRUTH, maps, inputs="logits"),
            lambda maps=maps: cm.TemperatureScaler().fit(maps, TRUTH),
            lambda maps=maps: cm.TemperatureScaler().fit(LOGITS, TRUTH).transform(maps),
        ):
            with pytest.raises(TypeError, match=f"^X {says}"):
                call()
    for call in (
        lambda: cm.metrics.calibration_report(TRUTH + 0.5, LOGITS, inputs="logits"),
        lambda: cm.TemperatureScaler().fit(LOGITS, TRUTH + 0.5),
    ):
        with pytest.raises(
            TypeError, match=r"^y must hold integer labels, got dtype float32, and \d\.5 in image 0"
        ):
            call()
    as_floats = cm.TemperatureScaler().fit(LOGITS, TRUTH.float())
    assert as_floats.temperature_ == cm.TemperatureScaler().fit(LOGITS, TRUTH).temperature_


# Masked classes, void pixels, pixels without data


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("score", SCORES, ids=str)
def test_minus_infinity_masks_a_class(score: Any, dtype: torch.dtype) -> None:
    """Like a logit that is far below, in calibration, in evaluation and in the module."""
    logits, masked = PROBLEM.X.astype(np.float64), np.random.default_rng(2).random(PROBLEM.X.shape) < 0.4
    masked[:, 0] &= ~masked[:, 1:].all(axis=1)
    infinite, finite = (
        torch.from_numpy(np.where(masked, value, np.log(logits))).to(dtype) for value in (-np.inf, -1e30)
    )
    fitted, expected = (
        cm.ConformalRiskCalibrator(score, inputs="logits", alpha=0.3).fit(maps, Y)
        for maps in (infinite, finite)
    )
    assert fitted.lambda_hat_ == expected.lambda_hat_
    assert np.array_equal(fitted.predict(infinite), expected.predict(finite))
    assert fitted.evaluate(infinite, Y).empirical_risk == expected.evaluate(finite, Y).empirical_risk
    module = ConformalModule(torch.nn.Identity(), fitted)
    assert torch.equal(module(infinite).masks, module(finite).masks)
    infinite[5, :, 7, 3] = -torch.inf
    with pytest.raises(
        ValueError, match=r"image 5: class 0 is -inf at pixel \(7, 3\).* beside a finite one of the pixel"
    ):
        fitted.predict(infinite)


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_several_ignore_labels_of_tensors(score: Any) -> None:
    marks = torch.tensor([254, 255, -1])[
        torch.randint(3, Y.shape, generator=torch.Generator().manual_seed(0))
    ]
    void = (Y == 255) | (torch.arange(8) < 2)
    several, one = torch.where(void, marks, Y), Y.masked_fill(void, 255)
    for maps in (X, X.bfloat16()):
        expected = cm.ConformalRiskCalibrator(score, alpha=0.3).fit(maps, one)
        found = cm.ConformalRiskCalibrator(score, alpha=0.3, ignore_index=(254, 255, -1)).fit(maps, several)
        assert found.lambda_hat_ == expected.lambda_hat_
        assert found.evaluate(maps, several).empirical_risk == expected.evaluate(maps, one).empirical_risk
        for bad, says in (
            ((254, 255), "label -1 .*ignore index .254, 255."),
            ((2, 255), "ignore_index=2 is one of"),
        ):
            with pytest.raises(ValueError, match=says):
                cm.profile(maps, several, score, ignore_index=bad)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_pixels_without_data(dtype: torch.dtype) -> None:
    valid = torch.rand(Y.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    maps = X.to(dtype)
    fitted = cm.ConformalRiskCalibrator(alpha=0.3).fit(maps, Y)
    raster = maps.masked_fill(~valid[:, None], torch.nan)
    for mask in (valid, valid.numpy(), list(valid)):
        assert np.array_equal(
            fitted.predict(raster, valid=mask), fitted.predict(maps) | ~valid.numpy()[:, None]
        )
        sizes = np.where(valid.numpy(), fitted.set_size(maps), 5)
        assert np.array_equal(fitted.set_size(raster, valid=mask), sizes)
    assert raster.isnan().any()


# Pixels


@pytest.mark.parametrize("score", [cm.LAC(), cm.APS(), cm.SACP(cm.LAC())], ids=str)
@pytest.mark.parametrize(("size", "at"), [((9, 8), (7, 3)), ((4, 9, 8), (2, 7, 3)), ((1, 9, 8), (0, 7, 3))])
def test_pixels_are_named_by_row_and_column(score: Any, size: tuple[int, ...], at: tuple[int, ...]) -> None:
    maps, y = torch.full((12, 2, *size), 0.5), torch.zeros(12, *size, dtype=torch.int64)
    calibrator = cm.ConformalRiskCalibrator(score, alpha=0.3).fit(maps.bfloat16(), y)
    maps[(5, 1, *at)] = torch.nan
    place = re.escape(f" is not finite in image 5: class 1 is NaN at pixel ({', '.join(map(str, at))})")
    for name, call in (
        ("X", lambda: cm.profile(maps.bfloat16(), y, score)),
        ("X", lambda: calibrator.predict(maps.bfloat16())),
        ("X", lambda: calibrator.evaluate(maps.bfloat16(), y)),
        ("the output", lambda: ConformalModule(torch.nn.Identity(), calibrator)(maps)),
    ):
        with pytest.raises(ValueError, match=f"^{name}{place}"):
            call()


# Losses that may rise with lambda


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_classes_are_counted_of_tensors_as_of_arrays(dtype: torch.dtype) -> None:
    method = cm.LTT(0.3, [0.0, 0.5, 0.9, 1.0])
    calibrator = cm.ConformalRiskCalibrator(loss=cm.PrecisionLoss([1]), alpha=0.95, method=method)
    of_tensors, of_arrays = clone(calibrator), clone(calibrator)
    maps = X.to(dtype)
    of_tensors.fit(maps, Y)
    of_arrays.fit(maps.numpy(), Y.numpy())
    assert of_tensors.valid_lambdas_.tolist() == of_arrays.valid_lambdas_.tolist()
    assert of_tensors.risk_ == of_arrays.risk_
    reports = [of_arrays.evaluate(maps[:6], Y[:6]), of_arrays.evaluate(maps[:6].numpy(), Y[:6].numpy())]
    assert reports[0].empirical_risk == reports[1].empirical_risk
