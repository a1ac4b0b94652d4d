"""Tensors of any kind and place give what arrays give; models of any output give probabilities."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from sklearn.exceptions import NotFittedError
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import conformask as cm
import twin
from conformask._torch_profile import profile_tensor
from conformask._torch_sets import coverage, prediction_sets
from conformask._torch_softmax import shares_of
from conformask.integrations.torch import ConformalModule, as_probabilities, as_scores
from conformask.scores import as_score, scored
from problems import Problem, problems, wide

PROBLEM = wide(n=12, n_classes=5, size=(9, 8), dtype="float32")
PIXEL_SCORES = [cm.LAC(), cm.LAC(include_top1=False), cm.APS(), cm.RAPS(0.1, k_reg=2)]
SCORES = [
    *PIXEL_SCORES,
    cm.RAPS(),
    cm.SACP(cm.LAC(), weight=0.4, window=5),
    cm.SACP(cm.APS(), window=21),
    cm.SACP(cm.LAC(), mode="probabilities"),
    cm.SACP(cm.LAC(), include_top1=False, mode="probabilities"),
    cm.SACP(cm.RAPS(), mode="probabilities", window=3),
]
NEEDS_CUDA = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU; the same operations run here on the CPU"
)


def as_inputs(X: np.ndarray, inputs: str) -> np.ndarray:
    if inputs == "logits":
        return (np.log(X.astype(float) + 1e-6) * 1.7 + 0.3).astype(X.dtype)
    return X * np.asarray(3.7, X.dtype) if inputs == "scores" else X


def by_array(
    X: np.ndarray, y: np.ndarray, score: Any, inputs: str, activation: bool = False
) -> tuple[Any, ...]:
    maps, kernel, numbers = scored(as_score(score), X, inputs)
    return cm._core.ExactProfile.build(maps, y, kernel, numbers, 255, activation, 0).to_arrays()


def by_tensor(
    X: torch.Tensor, y: torch.Tensor, score: Any, inputs: str, activation: bool = False
) -> tuple[Any, ...]:
    return profile_tensor(X, y, as_score(score), inputs, 255, activation, 0).to_arrays()


def assert_same(found: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_array_equal(ours, theirs)


# Profiles on the device


@given(problems())
def test_profiles_of_probabilities_have_the_bits_of_arrays(problem: Problem) -> None:
    X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)
    for score in PIXEL_SCORES:
        assert_same(
            by_tensor(X, y, score, "probabilities"), by_array(problem.X, problem.y, score, "probabilities")
        )


@given(problems())
def test_activations_have_the_bits_of_arrays(problem: Problem) -> None:
    X, y = torch.from_numpy(problem.X), torch.from_numpy(problem.y)
    for score in PIXEL_SCORES[:2]:
        assert_same(
            by_tensor(X, y, score, "probabilities", True),
            by_array(problem.X, problem.y, score, "probabilities", True),
        )


@pytest.mark.parametrize("score", PIXEL_SCORES, ids=str)
@pytest.mark.parametrize("inputs", ["logits", "scores"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_profiles_of_logits_are_hardly_larger(score: Any, inputs: str, dtype: str) -> None:
    X = as_inputs(PROBLEM.X.astype(dtype), inputs)
    found = by_tensor(torch.from_numpy(X), torch.from_numpy(PROBLEM.y), score, inputs)
    expected = by_array(X, PROBLEM.y, score, inputs)
    for i in (0, 1, 3):
        np.testing.assert_array_equal(found[i], expected[i])
    np.testing.assert_allclose(found[2], expected[2], rtol=0, atol=1e-5 if dtype == "float32" else 2e-14)
    critical = [1.0 - each[2] if isinstance(score, cm.LAC) else each[2] for each in (found, expected)]
    assert (critical[0] >= critical[1]).all()  # never smaller than elsewhere
    assert found[2].dtype == expected[2].dtype


def test_a_twin_agrees_on_bfloat16_logits() -> None:
    """Of rounded logits, in float64 and with the definition."""
    logits = torch.from_numpy(as_inputs(PROBLEM.X, "logits")).bfloat16()
    p = logits.double().softmax(dim=1).numpy()
    truth = np.take_along_axis(p, np.where(PROBLEM.y == 255, 0, PROBLEM.y)[:, None], axis=1)[:, 0]
    top = logits.float().numpy().argmax(axis=1)
    missed = (PROBLEM.y != 255) & (top != PROBLEM.y)
    found = cm.profile(logits, torch.from_numpy(PROBLEM.y), inputs="logits")._core.to_arrays()
    np.testing.assert_allclose(found[2], truth[missed], atol=1e-5)


def test_penalties_of_ranks_are_those_of_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    X = torch.tensor(PROBLEM.X)

    def found(score: cm.APS | cm.RAPS) -> tuple[list[float], list[bool]]:
        profile = profile_tensor(X, PROBLEM.y, score, "probabilities", 255, False, 0)
        return profile.to_arrays()[2].tolist(), prediction_sets(
            shares_of(X, "probabilities"), score, 0.7
        ).tolist()

    assert found(cm.RAPS(0.2)) != found(cm.APS())
    monkeypatch.setattr(
        "conformask._torch_profile.rank_penalties", lambda score, n_classes: [0.0] * n_classes
    )
    assert found(cm.RAPS(0.2)) == found(cm.APS())  # nothing else adds a penalty


def test_the_twin_agrees_on_probabilities() -> None:
    """A stranger to both: plain Python over the definition of LAC."""
    _, lengths, values, *_ = cm.profile(
        torch.from_numpy(PROBLEM.X), torch.from_numpy(PROBLEM.y)
    )._core.to_arrays()
    ours = np.split(1.0 - values.astype(float), np.cumsum(lengths)[:-1].astype(int))
    for found, image in zip(ours, twin.critical_values(PROBLEM.X, PROBLEM.y, True), strict=True):
        expected = [value for _, value in image if value > 0]
        assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_without_loss(dtype: torch.dtype) -> None:
    X = torch.from_numpy(as_inputs(PROBLEM.X, "logits")).to(dtype)
    y = torch.from_numpy(PROBLEM.y)
    assert_same(by_tensor(X, y, "lac", "logits"), by_tensor(X.float(), y, "lac", "logits"))


def test_bfloat16_probabilities_may_sum_to_almost_1() -> None:
    X, y = torch.from_numpy(PROBLEM.X).bfloat16(), torch.from_numpy(PROBLEM.y)
    assert ((X.double().sum(dim=1) - 1).abs() > 1e-3).any()  # else this shows nothing
    assert cm.ConformalRiskCalibrator().fit(X, y).lambda_hat_ > 0
    calibrator = cm.ConformalRiskCalibrator().fit(X, y)
    assert calibrator.predict(X).shape == PROBLEM.X.shape
    np.testing.assert_array_equal(calibrator.set_size(list(X))[2], calibrator.predict(X)[2].sum(axis=0))
    with pytest.raises(ValueError, match=r"not to 1 within 0\.01"):
        cm.ConformalRiskCalibrator().fit(X * 0.98, y)


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "channels last": lambda X: X.contiguous(memory_format=torch.channels_last),
    "a slice": lambda X: functional.pad(X, (1, 2, 3, 0))[..., 3:, 1:-2],
    "expanded": lambda X: X[:1].expand(4, -1, -1, -1),
    "with a gradient": lambda X: X.clone().requires_grad_(),
    "of a graph": lambda X: X.clone().requires_grad_() * 1,
    "of inference mode": lambda X: _in_inference_mode(X),
}


def _in_inference_mode(X: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return X * 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("on_device", [True, False])
def test_any_layout(layout: str, on_device: bool) -> None:
    X = LAYOUTS[layout](torch.from_numpy(PROBLEM.X))
    y = torch.from_numpy(PROBLEM.y[: len(X)])
    expected = by_array(np.ascontiguousarray(X.detach().numpy()), y.numpy(), "lac", "probabilities")
    found = by_tensor(X, y, "lac", "probabilities") if on_device else cm.profile(X, y)._core.to_arrays()
    assert_same(found, expected)


def test_volumes() -> None:
    X = torch.from_numpy(PROBLEM.X).reshape(4, 3, 5, 9, 8).transpose(1, 2)
    y = torch.from_numpy(PROBLEM.y).reshape(4, 3, 9, 8)
    for score in PIXEL_SCORES:
        assert_same(
            by_tensor(X, y, score, "probabilities"), by_array(X.numpy(), y.numpy(), score, "probabilities")
        )


def spoiled(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    X, y, options = PROBLEM.X.copy(), np.where(PROBLEM.y == 255, 0, PROBLEM.y), {}
    if name == "label":
        y[3, 2, 1] = 7
    elif name == "negative label":
        y[3, 2, 1] = -2
    elif name == "ignore index":
        options["ignore_index"] = 2
    elif name == "float labels":
        y = y.astype(np.float32)
    elif name == "NaN":
        X[4, 2, 7, 1] = np.nan
    elif name == "infinite logit":
        X[4, 0, 7, 1], X[4, 2, 7, 1] = -np.inf, np.inf
        options["inputs"] = "logits"
    elif name == "no finite logit":
        X[4, :, 7, 1] = -np.inf
        options["inputs"] = "logits"
    elif name == "negative":
        X[4, 2, 7, 1] = -0.25
    elif name == "negative score":
        X[4, 2, 7, 1] = -0.25
        options["inputs"] = "scores"
    elif name == "no score":
        X[4, :, 7, 1] = 0
        options["inputs"] = "scores"
    elif name == "shape":
        y = y[:, 1:]
    elif name == "number":
        y = y[1:]
    elif name == "rank":
        X = X[0]
    elif name == "one class":
        X = X[:, :1]
    elif name == "no image":
        X, y = X[:0], y[:0]
    return X, y, options


@pytest.mark.parametrize(
    "name",
    [
        *("label", "negative label", "ignore index", "NaN", "infinite logit", "negative", "negative score"),
        *("no finite logit", "no score", "shape", "number", "rank", "one class", "no image"),
    ],
)
def test_errors_say_what_those_of_arrays_say(name: str) -> None:
    X, y, options = spoiled(name)
    with pytest.raises(ValueError, match=r"\w") as of_arrays:
        cm.profile(X, y, **options)
    with pytest.raises(ValueError, match=r"\w") as of_tensors:
        cm.profile(torch.from_numpy(X).bfloat16(), torch.from_numpy(y), **options)
    assert str(of_tensors.value) == str(of_arrays.value)
    known = {"inputs": options.get("inputs", "probabilities")}
    fitted = cm.ConformalRiskCalibrator(**known).fit(as_inputs(PROBLEM.X, known["inputs"]), PROBLEM.y)
    fitted.set_params(**options)
    with pytest.raises(ValueError, match=r"\w") as of_arrays:
        fitted.evaluate(X, y)
    with pytest.raises(ValueError, match=r"\w") as of_tensors:
        fitted.evaluate(torch.from_numpy(X).bfloat16(), torch.from_numpy(y))
    assert str(of_tensors.value) == str(of_arrays.value)


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_true_may_be_any_byte_but_0(kind: str) -> None:
    """Some programs write 255 for true."""
    X = torch.from_numpy(PROBLEM.X[:, :2]).bfloat16() + 1
    truth = PROBLEM.y % 2 == 1
    written = (truth * np.uint8(255)).view(bool)
    labels = written if kind == "array" else torch.from_numpy(written)
    expected = by_tensor(X, torch.from_numpy(truth.astype(int)), "aps", "scores")
    assert_same(by_tensor(X, labels, "aps", "scores"), expected)


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf])
def test_float_labels_that_are_no_whole_numbers_are_refused(bad: float) -> None:
    X, y, _ = spoiled("float labels")
    whole = torch.from_numpy(y.copy())
    y[4, 7, 1] = bad
    found = "NaN" if np.isnan(bad) else f"{bad:g}"
    for maps in (torch.from_numpy(X).bfloat16(), torch.from_numpy(X)):
        says = rf"integer labels, got dtype .*float32, and {found} in image 4 at pixel \(7, 1\)"
        with pytest.raises(TypeError, match=says):
            cm.profile(maps, torch.from_numpy(y))
        found_of_whole = cm.profile(maps, whole).losses("miscoverage", 0.5)
        assert found_of_whole.tolist() == cm.profile(maps, whole.long()).losses("miscoverage", 0.5).tolist()


def test_sums_that_are_off_are_refused() -> None:
    X, y, _ = spoiled("")
    X[5, :, 8, 3] *= 1.25
    with pytest.raises(ValueError, match=r"probabilities of image 5 sum to 1\.2\d* at pixel \(8, 3\)"):
        by_tensor(torch.from_numpy(X), torch.from_numpy(y), "lac", "probabilities")


def test_void_pixels_are_not_looked_at() -> None:
    X, y, _ = spoiled("NaN")
    y[4, 7, 1] = 255
    assert (
        cm.ConformalRiskCalibrator().fit(torch.from_numpy(X).bfloat16(), torch.from_numpy(y)).lambda_hat_ >= 0
    )


def test_nothing_is_changed_in_place() -> None:
    X, y = torch.from_numpy(PROBLEM.X.copy()), torch.from_numpy(PROBLEM.y.copy())
    before, versions = (X.clone(), y.clone()), (X._version, y._version)
    for score in PIXEL_SCORES:
        for inputs in ("probabilities", "logits", "scores"):
            by_tensor(X, y, score, inputs)
            coverage(X, y, [0.7], score, inputs, 255, 0)
    by_tensor(X, y, "lac", "probabilities", activation=True)
    for score in SCORES:
        prediction_sets(shares_of(X, "probabilities"), score, 0.7)
    as_probabilities(X, "logits", size=(5, 5))
    assert torch.equal(X, before[0])
    assert torch.equal(y, before[1])
    assert (X._version, y._version) == versions


MEMORY = """
import resource, torch, conformask as cm
K, H, W = {K}, 512, 1024
X = torch.empty(K, H, W, dtype=torch.bfloat16).normal_()[None]
y = torch.randint(0, K, (1, H, W))
score = {score}
cm.profile(X[..., :64, :64].contiguous(), y[..., :64, :64], score, inputs="logits")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
{call}
print((peak() - before) * 1024 / (H * W * 4))
"""


@pytest.mark.parametrize("score", ["cm.LAC()", "cm.APS()", "cm.RAPS()"])
@pytest.mark.parametrize("shape", ["(1, K, H, W)", "(1, K, 1, H, W)"])
def test_memory_is_at_most_16_planes(score: str, shape: str) -> None:
    """Almost every pixel is mispredicted here, which costs most."""
    call = f"cm.profile(X.reshape{shape}, y.reshape{shape.replace('K, ', '')}, score, inputs='logits')"
    code = MEMORY.format(K=24, score=score, call=call)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200
    )
    planes = float(done.stdout)
    assert planes <= 16, f"{planes} planes"


# Calibrators take tensors


def same_results(found: cm.ConformalRiskCalibrator, expected: cm.ConformalRiskCalibrator) -> bool:
    names = ("lambda_hat_", "risk_", "corrected_risk_", "n_images_", "n_skipped_", "n_classes_")
    return all(getattr(found, name) == getattr(expected, name) for name in names)


TAKEN: dict[str, Callable[[torch.Tensor, torch.Tensor], tuple[Any, ...]]] = {
    "tensors": lambda X, y: (X, y),
    "labels as an array": lambda X, y: (X, y.numpy()),
    "lists": lambda X, y: (list(X), list(y)),
    "pairs": lambda X, y: (zip(X, y, strict=True),),
    "uint8 labels": lambda X, y: (X, y.to(torch.uint8)),
    "int32 labels": lambda X, y: (X, y.int()),
}


@pytest.mark.parametrize("how", TAKEN)
@pytest.mark.parametrize("kind", ["exact", "binned"])
@pytest.mark.parametrize("score", ["lac", "aps", "raps", "sacp"])
def test_fit(how: str, kind: str, score: str) -> None:
    calibrator = cm.ConformalRiskCalibrator(score, profile=kind, alpha=0.2)
    expected = cm.ConformalRiskCalibrator(score, profile=kind, alpha=0.2).fit(PROBLEM.X, PROBLEM.y)
    X, y = torch.from_numpy(PROBLEM.X), torch.from_numpy(PROBLEM.y)
    assert same_results(calibrator.fit(*TAKEN[how](X, y)), expected)


@pytest.mark.parametrize("how", TAKEN)
@pytest.mark.parametrize("kind", ["exact", "binned"])
@pytest.mark.parametrize("score", ["lac", "aps", "raps", "sacp"])
def test_fit_on_bfloat16_is_that_on_its_float32(how: str, kind: str, score: str) -> None:
    logits = torch.from_numpy(as_inputs(PROBLEM.X, "logits")).bfloat16()
    y = torch.from_numpy(PROBLEM.y)
    options = {"profile": kind, "alpha": 0.2, "inputs": "logits"}
    found = cm.ConformalRiskCalibrator(score, **options).fit(*TAKEN[how](logits, y))
    expected = cm.ConformalRiskCalibrator(score, **options).fit(logits.float().numpy(), PROBLEM.y)
    bin_width = 1e-3 * (1.3 - expected.lambda_hat_) if kind == "binned" else 0.0
    assert found.lambda_hat_ == pytest.approx(expected.lambda_hat_, abs=2e-5 + bin_width)
    assert found.lambda_hat_ >= expected.lambda_hat_
    assert (found.n_images_, found.n_classes_) == (expected.n_images_, expected.n_classes_)


def test_predictions_and_metrics_take_tensors() -> None:
    X, y = torch.from_numpy(PROBLEM.X), torch.from_numpy(PROBLEM.y)
    calibrator = cm.ConformalRiskCalibrator().fit(X, y)
    masks = calibrator.predict(PROBLEM.X)
    np.testing.assert_array_equal(calibrator.predict(X), masks)
    np.testing.assert_array_equal(calibrator.predict(X.clone().requires_grad_()), masks)
    np.testing.assert_array_equal(calibrator.set_size(list(X))[3], masks[3].sum(axis=0))
    np.testing.assert_array_equal(
        calibrator.varisco(X.half()), calibrator.varisco(PROBLEM.X.astype(np.float16))
    )
    np.testing.assert_array_equal(cm.kernels.threshold(X, 0.5), cm.kernels.threshold(PROBLEM.X, 0.5))
    np.testing.assert_array_equal(
        cm.kernels.true_label_scores(X, y), cm.kernels.true_label_scores(PROBLEM.X, PROBLEM.y)
    )
    assert cm.metrics.marginal_coverage(y, torch.from_numpy(masks)) == cm.metrics.marginal_coverage(
        PROBLEM.y, masks
    )


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("inputs", ["probabilities", "logits", "scores"])
def test_evaluate(score: Any, inputs: str) -> None:
    X, y = as_inputs(PROBLEM.X, inputs), PROBLEM.y
    calibrator = cm.ConformalRiskCalibrator(score, inputs=inputs, alpha=0.2).fit(X, y)
    expected = calibrator.evaluate(X, y)
    lams = [0.3, calibrator.lambda_hat_]
    _, there = coverage(torch.from_numpy(X), torch.from_numpy(y), lams, score, inputs, 255, 0)
    report = calibrator._report([there])
    # Never a smaller set, hardly a larger one.
    assert report.empirical_risk <= expected.empirical_risk
    assert report.empirical_risk == pytest.approx(expected.empirical_risk, abs=2e-3)
    assert report.activation_ratio == pytest.approx(expected.activation_ratio, abs=5e-3)
    assert report.n_images == expected.n_images


TABLE = torch.tensor([[2.0, 1.0, 0.1, -1.0], [0.3, 0.2, 0.25, -2.0], [-1.0, 3.0, 2.9, 0.0]]).bfloat16()


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("where", ["there", "here"])
def test_equal_logits_stay_together(score: Any, where: str) -> None:
    """Lambda-hat is the critical value of thousands of pixels: none may fall out of its set, wherever that is made."""
    generator = torch.Generator().manual_seed(0)
    logits = TABLE[torch.randint(0, 3, (60, 6, 7), generator=generator)].movedim(-1, 1)
    y = torch.multinomial(
        logits.float().softmax(1).movedim(1, -1).reshape(-1, 4), 1, generator=generator
    ).reshape(60, 6, 7)
    calibrator = cm.ConformalRiskCalibrator(score, inputs="logits", alpha=0.2)
    calibrator.fit(logits if where == "there" else logits.float(), y)
    bound = calibrator.risk_
    assert calibrator.evaluate(logits, y).empirical_risk <= bound
    assert calibrator.evaluate(logits.float(), y).empirical_risk <= bound

    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    module = ConformalModule(Same(), calibrator)
    for maps in (logits, logits.float()):
        for masks in (module(maps).masks, torch.from_numpy(calibrator.predict(maps))):
            missed = 1 - masks.gather(1, y[:, None]).float()
            assert float(missed.mean(dtype=torch.float64)) <= bound + 1e-12


def test_near_ties_are_never_taken_for_granted() -> None:
    """The second of two logits that differ by one unit may be the first elsewhere."""
    up = float(np.nextafter(np.float32(0.1), np.float32(1)))
    logits = torch.tensor([0.1, up, -1.0]).reshape(1, 3, 1, 1)
    y = torch.ones(1, 1, 1, dtype=torch.long)
    for score in PIXEL_SCORES:
        found = by_tensor(logits, y, score, "logits")[2]
        expected = by_array(logits.numpy(), y.numpy(), score, "logits")[2]
        assert len(found) == 1
        if isinstance(score, cm.LAC):
            assert (found <= expected).all()  # the probability: its critical value is not smaller
        else:
            assert (found >= expected).all()


def test_evaluate_on_bfloat16() -> None:
    X, y = torch.from_numpy(as_inputs(PROBLEM.X, "logits")).bfloat16(), torch.from_numpy(PROBLEM.y)
    calibrator = cm.ConformalRiskCalibrator(inputs="logits", alpha=0.2).fit(X.float(), y)
    found, expected = calibrator.evaluate(X, y), calibrator.evaluate(X.float(), y)
    assert found.activation_ratio == pytest.approx(expected.activation_ratio, abs=5e-3)
    with pytest.raises(ValueError, match=r"y holds label 9 in image 0"):
        calibrator.evaluate(X, torch.full_like(y, 9))


def test_tensors_without_data() -> None:
    with pytest.raises(ValueError, match="meta device"):
        cm.ConformalRiskCalibrator().fit(
            torch.empty(9, 2, 4, 4, device="meta"), torch.zeros(9, 4, 4, dtype=int)
        )
    with pytest.raises(TypeError, match="float16, float32 or float64"):
        cm.ConformalRiskCalibrator().fit(torch.zeros(9, 2, 4, 4, dtype=int), torch.zeros(9, 4, 4, dtype=int))


@NEEDS_CUDA
@pytest.mark.parametrize("score", PIXEL_SCORES, ids=str)
@pytest.mark.parametrize("inputs", ["probabilities", "logits"])
def test_cuda(score: Any, inputs: str) -> None:
    X, y = torch.from_numpy(as_inputs(PROBLEM.X, inputs)), torch.from_numpy(PROBLEM.y)
    found = cm.ConformalRiskCalibrator(score, inputs=inputs, alpha=0.2).fit(X.cuda(), y.cuda())
    expected = cm.ConformalRiskCalibrator(score, inputs=inputs, alpha=0.2).fit(X, y)
    if inputs == "probabilities":
        assert same_results(found, expected)
    else:
        assert found.lambda_hat_ == pytest.approx(expected.lambda_hat_, abs=2e-5)
    assert found.evaluate(X.cuda(), y.cuda()).n_images == 12


# What models give


@dataclass
class Output:
    logits: torch.Tensor


def test_where_the_scores_are() -> None:
    logits = torch.randn(2, 3, 4, 5)
    for output in (
        logits,
        {"out": logits, "aux": torch.zeros(2, 3, 4, 5)},
        {"logits": logits},
        Output(logits),
        (logits, torch.zeros(2, 7)),
        [logits],
    ):
        assert torch.equal(as_scores(output), logits)
        assert torch.allclose(as_probabilities(output), logits.softmax(dim=1))


def test_sizes_are_interpolated_before_the_softmax() -> None:
    logits = torch.randn(2, 3, 4, 5)
    expected = functional.interpolate(logits, (9, 11), mode="bilinear", align_corners=False).softmax(dim=1)
    assert torch.allclose(as_probabilities(logits, size=(9, 11)), expected)
    assert as_probabilities(torch.randn(1, 2, 3, 4, 5), size=(4, 4, 4)).shape == (1, 2, 4, 4, 4)
    assert as_probabilities(logits.half(), size=(9, 11)).dtype == torch.float32
    with pytest.raises(ValueError, match="size must have 2 numbers"):
        as_probabilities(logits, size=(9, 11, 2))


def test_binary_models_say_what_they_give() -> None:
    one = torch.randn(2, 1, 4, 5)
    with pytest.raises(ValueError, match="one class"):
        as_probabilities(one)
    with pytest.raises(ValueError, match="binary must be"):
        as_probabilities(one, binary="sigmoid")
    from_logit, from_probability = (
        as_probabilities(x, binary=binary) for x, binary in ((one, "logit"), (one.sigmoid(), "probability"))
    )
    assert torch.allclose(from_logit[:, 1], one[:, 0].sigmoid(), atol=1e-6)
    assert torch.allclose(from_logit, from_probability, atol=1e-6)
    two = torch.randn(2, 2, 4, 5)
    assert torch.allclose(
        as_probabilities(two, binary="probability"), two.softmax(dim=1)
    )  # not one map: no matter


def test_scores_are_divided_by_their_sum() -> None:
    scores = torch.rand(2, 3, 4, 5)
    assert torch.allclose(as_probabilities(scores, "scores"), scores / scores.sum(dim=1, keepdim=True))
    assert as_probabilities(scores.bfloat16(), "probabilities").dtype == torch.float32
    with pytest.raises(ValueError, match="inputs must be one of"):
        as_probabilities(scores, "probs")


class MaskClassifier:
    class_queries_logits = masks_queries_logits = torch.zeros(1, 2, 3)  # masks need height and width


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(2, 3, 4, dtype=torch.long), "label maps"),
        (torch.zeros(3, 4, 5), "one image is"),
        ({"masks": torch.zeros(1, 2, 3, 4)}, r"mapping with \['masks'\]"),
        (MaskClassifier(), r"masks_queries_logits must have shape \(B, Q, H, W\)"),
        (np.zeros((1, 2, 3, 4)), "got ndarray"),
        ((), "got tuple"),
        (None, "got NoneType"),
    ],
    ids=["labels", "rank", "mapping", "mask classifier", "array", "empty", "None"],
)
def test_what_is_no_map_of_scores(output: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        as_probabilities(output)


# Sets on the device


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("lam", [0.0, 0.4, 0.75, 0.9, 0.999, 1.0, 1.5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sets_are_those_of_the_kernels(score: Any, lam: float, dtype: str) -> None:
    X = PROBLEM.X.astype(dtype)
    found = prediction_sets(shares_of(torch.from_numpy(X), "probabilities"), score, lam)
    expected = cm.kernels.threshold(X, lam, score)
    if not isinstance(score, cm.SACP):
        np.testing.assert_array_equal(found.numpy(), expected)
    assert not (expected & ~found.numpy()).any()
    assert (expected != found.numpy()).mean() < 1e-3


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("inputs", ["probabilities", "logits"])
def test_sets_of_class_lambdas_are_those_of_each_class(score: Any, inputs: str) -> None:
    X = as_inputs(PROBLEM.X, inputs)
    lambdas = (0.0, 0.4, 0.9, 1.5, 0.75)
    shares = shares_of(torch.from_numpy(X), inputs)
    found = prediction_sets(shares, score, lambdas)
    for label, lam in enumerate(lambdas):
        assert torch.equal(found[:, label], prediction_sets(shares, score, lam)[:, label])
    counts, _ = coverage(
        torch.from_numpy(X), torch.from_numpy(PROBLEM.y), [lambdas, 0.5], score, inputs, 255, 0
    )
    valid = PROBLEM.y < 255
    sizes = [found.sum(dim=1).numpy()[valid & (PROBLEM.y == label)].sum() for label in range(5)]
    assert counts[2].sum(axis=0).tolist() == sizes


def test_sets_of_ties_and_volumes() -> None:
    X = np.round(PROBLEM.X * 4) / 4 + 1e-3
    X = (X / X.sum(axis=1, keepdims=True)).astype(np.float32)
    volume = np.ascontiguousarray(X.reshape(4, 3, 5, 9, 8).transpose(0, 2, 1, 3, 4))
    for score in SCORES:
        for lam in (0.3, 0.74, 0.76):
            for maps in (X, volume):
                found = prediction_sets(
                    shares_of(torch.from_numpy(maps), "probabilities"), score, lam
                ).numpy()
                differ = found != cm.kernels.threshold(maps, lam, score)
                # Float32 window means of equal numbers may end on either side.
                assert differ.mean() < (0.02 if isinstance(score, cm.SACP) else 1e-9), score


class Net(torch.nn.Module):
    """Logits of five classes, at half the size if asked to."""

    def __init__(self, shrink: int = 1, n_classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, n_classes, 3, padding=1)
        self.shrink = shrink

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": 4 * functional.avg_pool2d(self.layer(images), self.shrink)}


def fitted(
    score: Any = "lac", net: torch.nn.Module | None = None, **options: Any
) -> cm.ConformalRiskCalibrator:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(20, 3, 8, 12, generator=generator)
    labels = torch.randint(0, 5, (20, 8, 12), generator=generator)
    logits = as_scores((net or Net())(images), size=(8, 12))
    return cm.ConformalRiskCalibrator(score, inputs="logits", alpha=0.3, **options).fit(logits, labels)


IMAGES = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_module(score: Any) -> None:
    calibrator, net = fitted(score), Net()
    module = ConformalModule(net, calibrator).eval()
    output = module(IMAGES)
    logits = net(IMAGES)["out"]
    masks = calibrator.predict(logits)
    assert not (masks & ~output.masks.numpy()).any()  # never a smaller set, hardly a larger one
    assert (output.masks.numpy() != masks).mean() < 3e-3
    assert torch.equal(output.set_size, output.masks.sum(dim=1))
    np.testing.assert_allclose(output.varisco.numpy(), output.set_size.numpy() / 5, rtol=1e-6)
    assert torch.allclose(output.probabilities, logits.softmax(dim=1))
    assert not output.probabilities.requires_grad


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_module_is_exported(score: Any) -> None:
    module = ConformalModule(Net(shrink=2), fitted(score, Net(shrink=2)), size="input").eval()
    exported = torch.export.export(module, (IMAGES,)).module()
    for ours, theirs in zip(exported(IMAGES), module(IMAGES), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("score", ["lac", "aps", "sacp"])
def test_module_with_lambdas_of_classes(score: str) -> None:
    calibrator = fitted(score, conditional="class")
    module = ConformalModule(Net(), calibrator).eval()
    assert module.lambda_hat == tuple(calibrator.lambda_hat_)
    assert "lambda_hat=of each class" in repr(module)
    output, masks = module(IMAGES), calibrator.predict(Net()(IMAGES)["out"])
    assert not (masks & ~output.masks.numpy()).any()
    assert (output.masks.numpy() != masks).mean() < 3e-3
    exported = torch.export.export(module, (IMAGES,)).module()
    assert torch.equal(exported(IMAGES).masks, output.masks)


def test_module_knows_neither_strata_nor_weights() -> None:
    X, y = torch.from_numpy(PROBLEM.X), torch.from_numpy(PROBLEM.y)
    options = {"strata": ["a"] * len(X)}, {"sample_weight": [2.0] * len(X)}
    for option, word in zip(options, ("strata", "weights"), strict=True):
        calibrator = cm.ConformalRiskCalibrator(alpha=0.3).fit(X, y, **option)
        with pytest.raises(TypeError, match=f"the {word} of images are not known here"):
            ConformalModule(Net(), calibrator)


def test_bfloat16_with_lambdas_of_classes() -> None:
    logits = torch.from_numpy(as_inputs(PROBLEM.X, "logits")).bfloat16()
    calibrator = cm.ConformalRiskCalibrator(alpha=0.3, inputs="logits", conditional="class")
    calibrator.fit(logits, torch.from_numpy(PROBLEM.y))
    masks, sizes = calibrator.predict(logits), calibrator.set_size(logits)
    assert (sizes == masks.sum(axis=1)).all()
    assert not (calibrator.predict(logits.float().numpy()) & ~masks).any()
    assert calibrator.evaluate(logits, PROBLEM.y).by == "class"


def test_exported_module_is_saved() -> None:
    module, file = ConformalModule(Net(), fitted()).eval(), io.BytesIO()
    torch.export.save(torch.export.export(module, (IMAGES,)), file)
    file.seek(0)
    found = torch.export.load(file).module()(IMAGES)
    assert torch.equal(found.masks, module(IMAGES).masks)


def test_module_is_exported_for_any_batch() -> None:
    module = ConformalModule(Net(), fitted()).eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(module, (IMAGES,), dynamic_shapes=(({0: batch},),))
    more = torch.randn(7, 3, 8, 12)
    assert torch.equal(exported.module()(more).masks, module(more).masks)


def test_module_parameters() -> None:
    assert ConformalModule(Net(2), fitted(net=Net(2)), size=(4, 6))(IMAGES).set_size.shape == (2, 4, 6)
    assert ConformalModule(Net(2), fitted(net=Net(2)), size="input")(images=IMAGES).set_size.shape == (
        2,
        8,
        12,
    )
    module = ConformalModule(Net(), fitted())
    assert "lambda_hat=" in repr(module)
    assert module.lambda_hat == fitted().lambda_hat_
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in Net().parameters())
    with pytest.raises(ValueError, match="K = 4 classes, but calibration had K = 5"):
        ConformalModule(Net(n_classes=4), fitted())(IMAGES)
    with pytest.raises(ValueError, match="size must be 'input'"):
        ConformalModule(Net(), fitted(), size="output")
    with pytest.raises(NotFittedError):
        ConformalModule(Net(), cm.ConformalRiskCalibrator())


def test_module_looks_at_the_numbers() -> None:
    X, y = torch.from_numpy(PROBLEM.X), torch.from_numpy(PROBLEM.y)
    of_probabilities = cm.ConformalRiskCalibrator(alpha=0.2).fit(X, y)
    with pytest.raises(ValueError, match=r"negative probability in image 0.*inputs='logits'"):
        ConformalModule(Net(), of_probabilities)(IMAGES)
    assert ConformalModule(Net(), of_probabilities, inputs="logits")(IMAGES).masks.any()
    with pytest.raises(ValueError, match="the output is not finite in image 1"):
        ConformalModule(Net(), fitted())(torch.stack([IMAGES[0], IMAGES[1] * torch.nan]))
    with pytest.raises(ValueError, match="needs a tensor"):
        ConformalModule(torch.nn.Identity(), fitted(), size="input")({"out": IMAGES})


def own_score(maps: np.ndarray) -> np.ndarray:
    return 1.0 - maps.astype(np.float64)


def test_module_refuses_functions() -> None:
    X, y = torch.from_numpy(PROBLEM.X), torch.from_numpy(PROBLEM.y)
    calibrator = cm.ConformalRiskCalibrator(own_score, alpha=0.2).fit(X, y)
    with pytest.raises(TypeError, match="own_score is a function of arrays"):
        ConformalModule(Net(), calibrator)
    bfloat16 = cm.ConformalRiskCalibrator(own_score, alpha=0.2).fit(X.bfloat16(), y)  # goes to the CPU
    assert abs(bfloat16.lambda_hat_ - calibrator.lambda_hat_) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_functions_in_torch_treat_each_image_alone(dtype: torch.dtype) -> None:
    X, y = torch.tensor(PROBLEM.X).to(dtype), torch.tensor(PROBLEM.y)
    alone = cm.profile(X, y, lambda maps: 1 - torch.tensor(maps).softmax(dim=1))
    assert len(alone) == len(X)
    with pytest.raises(ValueError, match="must treat each image by itself"):
        cm.profile(X, y, lambda maps: 1 - torch.tensor(maps) / maps.max())


# PyTorch's processes and threads


class Calibrated(Dataset[torch.Tensor]):
    def __init__(self, calibrator: cm.ConformalRiskCalibrator) -> None:
        self.calibrator = calibrator

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.calibrator.set_size(PROBLEM.X[index : index + 1]).astype(np.int64))


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_workers_of_a_loader(context: str) -> None:
    calibrator = cm.ConformalRiskCalibrator().fit(PROBLEM.X, PROBLEM.y)  # used before the fork
    expected = calibrator.set_size(PROBLEM.X)[:8]
    loader = DataLoader(Calibrated(calibrator), num_workers=2, multiprocessing_context=context, timeout=100)
    found = torch.cat([batch[0] for batch in loader]).numpy()
    np.testing.assert_array_equal(found, expected)


def test_threads_are_not_shared(threads: None) -> None:
    of_torch, ours = torch.get_num_threads(), cm.get_num_threads()
    try:
        cm.set_num_threads(1)
        cm.ConformalRiskCalibrator().fit(PROBLEM.X, PROBLEM.y)
        assert torch.get_num_threads() == of_torch
        torch.set_num_threads(1)
        cm.set_num_threads(ours)
        assert cm.ConformalRiskCalibrator().fit(torch.from_numpy(PROBLEM.X), PROBLEM.y).n_images_ == 12
        assert (cm.get_num_threads(), torch.get_num_threads()) == (ours, 1)
    finally:
        torch.set_num_threads(of_torch)


def test_output_is_shown_by_its_shapes() -> None:
    """Not by all its numbers."""
    problem = wide()
    calibrator = cm.ConformalRiskCalibrator(alpha=0.3).fit(problem.X, problem.y)
    output = ConformalModule(torch.nn.Identity(), calibrator)(torch.from_numpy(problem.X))
    n, n_classes, *space = problem.X.shape
    text = repr(output)
    assert text.startswith("ConformalOutput(probabilities=float")
    assert f"masks=bool {(n, n_classes, *space)}, set_size=int16 {(n, *space)}" in text
    assert "<th" in output._repr_html_()
