"""The cases of `golden.json`: what is computed, on which input. Only public names are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from golden_input import DTYPES, INPUTS, SIZES, Numbers, fields, labels, maps, masks, problem

Results = dict[str, Any]


@dataclass(frozen=True)
class Near:
    """Numbers that rounding may change: each within a share of itself, or of the largest of them."""

    values: Any
    tolerance: float = 1e-9
    of_largest: bool = False


# Scores and losses


def gap_score(X: NDArray) -> NDArray[np.float64]:
    gap = X.max(axis=1, keepdims=True).astype(np.float64) - X
    return gap / (gap + 1.0)


def squared_loss(coverage: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1.0 - coverage) * (1.0 - coverage)


SCORES: dict[str, Any] = {
    "lac": cm.LAC(),
    "lac without top-1": cm.LAC(include_top1=False),
    "aps": cm.APS(),
    "raps": cm.RAPS(),
    "raps 0.2 from 1": cm.RAPS(0.2, k_reg=1),
    "raps 3 from 2": cm.RAPS(3.0, k_reg=2),
    "sacp": cm.SACP(),
    "sacp of lac": cm.SACP(cm.LAC(), weight=0.5, window=3),
    "sacp of lac without top-1": cm.SACP(cm.LAC(False), window=5, include_top1=False),
    "sacp of raps": cm.SACP(cm.RAPS(0.1, k_reg=2), weight=0.7, window=11),
    "sacp of lac, probabilities": cm.SACP(cm.LAC(), mode="probabilities"),
    "sacp of aps, probabilities": cm.SACP(cm.APS(), weight=0.6, window=5, mode="probabilities"),
    "sacp of raps, probabilities": cm.SACP(cm.RAPS(), window=3, mode="probabilities"),
    "function": gap_score,
    "sacp of function": cm.SACP(gap_score, window=3),
}
LOSSES: dict[str, Callable[[int], Any]] = {
    "miscoverage": lambda K: "miscoverage",
    "weighted": lambda K: cm.MiscoverageLoss([0.1 + 0.7 * k for k in range(K)]),
    "balanced": lambda K: cm.MiscoverageLoss("balanced"),
    "classes": lambda K: cm.MiscoverageLoss(classes=[0, K - 1]),
    "weighted classes": lambda K: cm.MiscoverageLoss([0.3] * K, classes=[1]),
    "binary": lambda K: "binary",
    "binary 0.9": lambda K: cm.BinaryLoss(0.9),
    "binary 2/3": lambda K: cm.BinaryLoss(2 / 3),
    "false negatives": lambda K: cm.FalseNegativeLoss([0, 1]),
    "label accuracy": lambda K: cm.LabelAccuracyLoss(0.7),
    "function": lambda K: squared_loss,
}
BUILT_IN = [loss for loss in LOSSES if loss != "function"]


# Risk control


def solution(calibrator: cm.ConformalRiskCalibrator) -> Results:
    corrected = "corrected_risk_" if hasattr(calibrator, "corrected_risk_") else "risk_bound_"
    return {
        "lambda": calibrator.lambda_hat_,
        "risk": calibrator.risk_,
        "corrected": getattr(calibrator, corrected),
        "counts": [calibrator.n_images_, calibrator.n_skipped_, calibrator.n_classes_],
    }


def short_curve(calibrator: cm.ConformalRiskCalibrator) -> list[NDArray]:
    return list(calibrator.profiles_.risk_curve(calibrator.loss, at=0.625, n_points=30))


def attempt(function: Callable[[], Any]) -> Any:
    """What it returns, or how it says that there are too few images."""
    try:
        return function()
    except cm.InfeasibleRiskError as error:
        return ["infeasible", error.n_images, error.n_needed]


def calibrated(name: str, score: str, loss: str) -> Results:
    """Everything that a calibrator answers."""
    numbers = Numbers(name)
    inputs, alpha = numbers.pick(INPUTS), numbers.pick((0.1, 0.15, 0.3, 1 / 7))
    X, y = problem(numbers, inputs=inputs)
    calibrator = cm.ConformalRiskCalibrator(
        SCORES[score],
        loss=LOSSES[loss](X.shape[1]),
        alpha=alpha,
        inputs=inputs,
        on_empty=numbers.pick(("skip", "zero_loss")),
        progress=False,
    ).fit(X[:24], y[:24])
    new, report = X[24:], calibrator.evaluate(X[20:], y[20:])
    return {
        **solution(calibrator),
        "predict": calibrator.predict(new),
        "set_size": calibrator.set_size(new),
        "varisco": [calibrator.varisco(new, normalize) for normalize in ("classes", "max")],
        "report": [report.empirical_risk, report.activation_ratio, report.coverage, report.n_images],
        "of images": [report.losses, report.activation_ratios, report.coverages],
        "curve": list(calibrator.risk_curve()),
        "losses": calibrator.profiles_.losses(calibrator.loss, [0.0, 0.1, 0.5, 0.75, 0.999, 1.0]),
        "stricter": attempt(lambda: calibrator.recalibrate(alpha=0.05).lambda_hat_),
        "looser": calibrator.recalibrate(alpha=0.5).lambda_hat_,
        "other loss": attempt(lambda: calibrator.recalibrate(loss="miscoverage").lambda_hat_),
    }


def unequal(name: str, score: str, loss: str) -> Results:
    """Groups of images, and images that weigh differently."""
    numbers = Numbers(name)
    X, y = problem(numbers)
    groups, weights = numbers.integers((len(X),), 17), numbers.integers((len(X),), 101) / 100
    found: Results = {}
    for kind, arguments in {
        "groups": {"groups": groups},
        "named groups": {"groups": [f"patient {group}" for group in groups]},
        "weights": {"sample_weight": weights},
    }.items():
        calibrator = cm.ConformalRiskCalibrator(
            SCORES[score], loss=LOSSES[loss](X.shape[1]), alpha=0.2, progress=False
        )
        calibrator.fit(X, y, **arguments)
        found |= {f"{kind}: {key}": value for key, value in solution(calibrator).items()}
        found[f"{kind}: curve"] = short_curve(calibrator)
    return found


def collected(name: str, score: str, loss: str, profile: str) -> Results:
    """The same images in parts, in several orders, as a list, and one by one."""
    numbers = Numbers(name)
    X, y = problem(numbers)
    other = LOSSES[numbers.pick(BUILT_IN)](X.shape[1])

    def fresh() -> cm.ConformalRiskCalibrator:
        return cm.ConformalRiskCalibrator(
            SCORES[score],
            loss=LOSSES[loss](X.shape[1]),
            profile=profile,
            collect=[other] if profile == "binned" else (),
            volumes=X.ndim == 5,
            progress=False,
        )

    parts = [slice(0, 5), slice(5, 6), slice(6, 21), slice(21, 30)]
    in_parts = fresh()
    for i in (2, 0, 3, 1):
        in_parts.partial_fit(X[parts[i]], y[parts[i]])
    workers = [fresh().partial_fit(X[part], y[part]) for part in parts]
    merged = workers[3].merge(workers[1]).merge(workers[0].merge(workers[2]))
    ways = {
        "parts": in_parts,
        "merged": merged,
        "list": fresh().fit(list(X), list(y)),
        "pairs": fresh().fit(zip(X, y, strict=True)),
    }
    whole = fresh().fit(X, y)
    found = solution(whole)
    found["curve"] = list(whole.risk_curve())
    found["short curve"] = short_curve(whole)
    found["other loss"] = attempt(lambda: whole.recalibrate(loss=other).lambda_hat_)
    found["looser"] = whole.recalibrate(alpha=0.35).lambda_hat_
    for way, calibrator in ways.items():
        found[f"{way}: same"] = solution(calibrator) == solution(whole)
        found[f"{way}: curve"] = short_curve(calibrator)
    return found


def extremes(name: str) -> Results:
    """Void of another number, policies, and too few images."""
    numbers = Numbers(name)
    X = maps(numbers, (20, 4, 6, 5), "probabilities", "float32", False)
    y = labels(numbers, X, void=-1)
    found: Results = {}
    for on_empty in ("skip", "zero_loss"):
        calibrator = cm.ConformalRiskCalibrator(ignore_index=-1, on_empty=on_empty, progress=False).fit(X, y)
        found |= {f"{on_empty}: {key}": value for key, value in solution(calibrator).items()}
    try:
        cm.ConformalRiskCalibrator(ignore_index=-1, on_empty="raise", progress=False).fit(X, y)
    except ValueError:
        found["raise"] = "refused"
    for score in ("lac", "raps 3 from 2"):
        few = cm.ConformalRiskCalibrator(SCORES[score], ignore_index=-1, alpha=0.01, progress=False)
        found[f"few, {score}"] = attempt(lambda few=few: few.fit(X, y))
        full = few.set_params(on_infeasible="full").fit(X, y)
        found |= {f"full, {score}: {key}": value for key, value in solution(full).items()}
        found[f"full, {score}: predict"] = full.predict(X)
    return found


def profiled(name: str, score: str) -> Results:
    """Profiles, their splits and their activation ratios."""
    numbers = Numbers(name)
    inputs = numbers.pick(INPUTS)
    X, y = problem(numbers, inputs=inputs)
    profiles = cm.profile(X, y, SCORES[score], inputs=inputs, activation=True, progress=False)
    split = profiles[numbers.integers((20,), 30)]
    lambdas = [0.0, 0.03125, 0.3, 0.75, 0.99, 1.0, 2.5]
    brackets = [profiles.activation(lam) for lam in lambdas]
    return {
        "counts": [len(profiles), len(split), len(profiles[::3]), profiles.n_classes],
        "activation": [[bracket.lower, bracket.upper] for bracket in brackets],
        "losses": [profiles.losses(LOSSES[loss](X.shape[1]), lambdas) for loss in LOSSES],
        "split": [split.lambda_hat(LOSSES[loss](X.shape[1]), 0.4) for loss in LOSSES],
        "risk": [split.risk("miscoverage", lam, on_empty="zero_loss") for lam in lambdas],
        "merged": profiles[:10].merge(split).lambda_hat("miscoverage", 0.1),
    }


# Kernels


def kernels(name: str, score: str, dtype: str) -> Results:
    """Masks, sizes and losses at some lambdas and at critical values, and the critical values."""
    numbers, found = Numbers(name), Results()
    for inputs in INPUTS:
        X, y = problem(numbers, 5, inputs=inputs, dtype=dtype)
        asked: Results = {"conformity_score": SCORES[score], "inputs": inputs}
        criticals = cm.kernels.true_label_scores(X, y, **asked)
        lambdas = [
            0.0,
            0.125,
            0.7,
            1.0,
            float(np.nanmax(criticals)),
            float(criticals[~np.isnan(criticals)][7]),
        ]
        found[f"{inputs}: critical values"] = criticals
        found[f"{inputs}: masks"] = [cm.kernels.threshold(X, lam, **asked) for lam in lambdas[1::2]]
        found[f"{inputs}: sizes"] = [cm.kernels.set_size(X, lam, **asked) for lam in lambdas]
        found[f"{inputs}: losses"] = [
            cm.kernels.losses(X, y, lam, LOSSES[numbers.pick(tuple(LOSSES))](X.shape[1]), **asked)
            for lam in lambdas
        ]
    return found


def many_classes(name: str) -> Results:
    """More classes than a tile or a byte holds."""
    numbers, found = Numbers(name), Results()
    for n_classes in (150, 300):
        for score in ("lac", "aps", "raps", "sacp"):
            X, _ = problem(numbers, 2, size=(6, 11), n_classes=n_classes)
            masks = cm.kernels.threshold(X, 0.9, SCORES[score])
            found[f"{n_classes}, {score}"] = [masks, cm.kernels.set_size(X, 0.9, SCORES[score])]
        found[f"{n_classes}: samples"] = cm.kernels.sample_masks(masks, 3, 1)
    return found


def quantiles(name: str) -> Results:
    """Weighted quantiles of values with ties."""
    numbers, found = Numbers(name), Results()
    for m, levels in ((1, 5), (9, 4), (100, 2**40), (1000, 50), (20_000, 2**30)):
        values = numbers.integers((m,), levels) / levels
        weights = numbers.integers((m,), 1000) / 999
        for share in (Fraction(0), Fraction(1, 3), Fraction(7, 10), Fraction(999, 1000), Fraction(2)):
            budget = share * m / 2
            found[f"{m}, {share}"] = [
                cm.kernels.lambda_hat(values, weights, budget),
                cm.kernels.lambda_hat(values, None, float(budget)),
            ]
    return {**found, "negative": cm.kernels.lambda_hat([0.5], None, -0.1)}


def sampled(name: str) -> Results:
    """Samples of masks, and how many are different and right."""
    numbers, found = Numbers(name), Results()
    for i, size in enumerate(SIZES):
        samples = cm.kernels.sample_masks(masks(numbers, 3, 4, size), 7, random_state=i)
        y = np.where(numbers.integers(size, 10) < 1, 255, numbers.integers(size, 4))
        few = numbers.integers((40, *size), 2) * (numbers.integers((40, *[1] * len(size)), 3) == 0)
        found[f"{size}: samples"] = samples
        found[f"{size}: distinct"] = [cm.kernels.distinct_counts(maps) for maps in (samples[0], few)]
        found[f"{size}: hits"] = list(cm.kernels.label_hits(y.astype(np.uint8), samples[1]))
    return found


def decomposed(name: str) -> Results:
    """Singular values, and projections of their vectors, which lie far enough apart."""
    numbers, found = Numbers(name), Results()
    for m, n, k, dtype in ((500, 4, 4, "float64"), (70, 30, 5, "float32"), (9, 40, 3, "float16")):
        A = ((numbers.integers((m, n), 2001) - 1000) / 2**10 / (1 + np.arange(n))).astype(dtype)
        for layout, matrix in {"C": A, "Fortran": np.asfortranarray(A), "scaled": A * 2.0**-40}.items():
            U, s, Vt = cm.kernels.truncated_svd(matrix, k)
            found[f"{m}, {n}, {layout}: s"] = Near(s, 1e-12, of_largest=True)
            found[f"{m}, {n}, {layout}: U"] = Near(U.T @ numbers.integers((m,), 9), of_largest=True)
            found[f"{m}, {n}, {layout}: Vt"] = Near(Vt @ numbers.integers((n,), 9), of_largest=True)
    return found


# Metrics


def measured(name: str, size: tuple[int, ...]) -> Results:
    numbers = Numbers(name)
    n, n_classes = 6, numbers.pick((2, 4, 7))
    sets = masks(numbers, n, n_classes, size, empty=True)
    y = labels(numbers, maps(numbers, sets.shape, "probabilities", "float64", True))
    samples = numbers.integers((n, 8, *size), 3) * numbers.integers((n, 1, *size), 2)
    truth = np.where(numbers.integers(y.shape, 9) < 1, y.astype(np.int64), samples[:, 0])
    losses = [LOSSES[loss](n_classes) for loss in LOSSES]
    by_size = cm.metrics.size_stratified_coverage(y, sets)
    full = masks(numbers, n, n_classes, size)
    m = cm.metrics
    return {
        "risks": [m.empirical_risk(y, sets, loss) for loss in losses],
        "risks of images": [m.empirical_risk(y, sets, loss, average=False) for loss in losses],
        "ratios": [m.activation_ratio(y, sets), m.activation_ratio(y, sets, average=False)],
        "coverages": [m.marginal_coverage(y, sets), m.marginal_coverage(y, sets, average=False)],
        "by size": list(by_size),
        "by class": [m.class_set_sizes(y, sets), m.class_set_sizes(y, sets, average=False)],
        "list": m.empirical_risk(list(y), list(sets)),
        "volume": Near([m.log10_volume(full), *m.log10_volume(full, average=False)], 1e-12),
        "no volume": m.log10_volume(sets),
        "accuracy": [
            m.label_accuracy(truth, samples[:, 0], average=False),
            m.label_accuracy(truth, samples[:, 1]),
        ],
        "sample coverage": [
            m.sample_coverage(truth, samples, least, accuracy=accuracy, average=False)
            for least in (0.5, 0.9)
            for accuracy in ("label", "pixel")
        ],
        "richness": [m.chao1(maps, corrected) for maps in samples for corrected in (True, False)],
        "agreement": [m.pairwise_agreement(maps) for maps in samples],
        "correlation": [
            m.pairwise_correlation(maps, varying) for maps in samples for varying in (True, False)
        ],
    }


# CONSIGN

CONSIGN: dict[str, dict[str, Any]] = {
    "1 component": {"n_components": 1, "min_accuracy": 0.7},
    "2 components": {"n_components": 2},
    "3 components": {"n_components": 3, "dtype": "float32"},
    "5 components": {"n_components": 5, "node_budget": 2000},
    "relative weight": {"n_components": 2, "weight": "relative", "dtype": "float16"},
    "no weight": {"n_components": 3, "weight": "none"},
    "strict": {"n_components": 2, "strict": True},
    "pixel accuracy": {"n_components": 3, "accuracy": "pixel", "min_accuracy": 0.85},
    "quantiles": {"n_components": 2, "quantile_level": 0.0, "lambda_max": 3.0, "dtype": "float16"},
    "volumes": {"n_components": 3, "shape": (4, 8, 2)},
    "infeasible": {"n_components": 2, "min_accuracy": 0.95},
}


def consign(name: str, dtype: str = "float64", shape: tuple[int, ...] = (8, 8), **parameters: Any) -> Results:
    X, y = fields(Numbers(name), 30, dtype)
    X, y = X.reshape(*X.shape[:3], *shape), y.reshape(-1, *shape)
    y[3] = 255
    calibrator = cm.ConsignCalibrator(**{"alpha": 0.2, "min_accuracy": 0.8, "progress": False, **parameters})
    infeasible = attempt(lambda: calibrator.fit(X[:24], y[:24]).lambda_hat_ and None)
    new = {"infeasible": infeasible} if infeasible else applied(calibrator, X[24:], y[24:])
    return {**searched(calibrator), **new}


def searched(calibrator: cm.ConsignCalibrator) -> Results:
    """What was found of the images that calibrated."""
    return {
        "lambdas": Near(calibrator.image_lambdas_),
        "lower bounds": Near(calibrator.image_lower_bounds_),
        "status": calibrator.image_status_.tolist(),
        "counts": [calibrator.n_images_, calibrator.n_skipped_, calibrator.n_classes_],
    }


def applied(calibrator: cm.ConsignCalibrator, X: NDArray, y: NDArray) -> Results:
    """What a calibrator says of new images."""
    sets = calibrator.predict(X)
    memberships = [one.contains(label) for one, label in zip(sets, y, strict=True)]
    report = calibrator.evaluate(X, y)
    patterns = [one.components.reshape(len(one.components), -1) for one in sets]
    return {
        "lambda": Near(calibrator.lambda_hat_),
        "singular values": Near([one.singular_values for one in sets], of_largest=True),
        "lower": Near([one.lower for one in sets], of_largest=True),
        "upper": Near([one.upper for one in sets], of_largest=True),
        "components": Near([pattern @ np.arange(pattern.shape[1]) for pattern in patterns], of_largest=True),
        "means": Near([float(one.mean.sum()) for one in sets], of_largest=True),
        "samples": [one.sample(4, random_state=i) for i, one in enumerate(sets)],
        "segmentations": [one.segmentation(one.upper).astype(np.uint8) for one in sets],
        "volumes": Near([one.log10_volume_upper() for one in sets]),
        "contains": [[one.contained, one.certified] for one in memberships],
        "report": [report.coverage, report.coverage_bound, report.n_images, report.n_skipped],
        "of images": [report.contained, report.certified],
    }


# Real images


@cache
def predictions(folder: Path) -> tuple[NDArray, NDArray, NDArray]:
    with np.load(folder / "predictions.npz") as file:
        return file["probs"][::4], file["labels"][::4], file["group"][::4]


def real_masks(folder: Path, score: str) -> Results:
    X, y, groups = predictions(folder)
    calibrator = cm.ConformalRiskCalibrator(SCORES[score], alpha=0.05, progress=False).fit(X[:45], y[:45])
    grouped = cm.ConformalRiskCalibrator(SCORES[score], loss=cm.BinaryLoss(0.9), progress=False)
    grouped.fit(X, y, groups=groups)
    report = calibrator.evaluate(X[45:], y[45:])
    return {
        **solution(calibrator),
        "grouped": list(solution(grouped).values()),
        "predict": calibrator.predict(X[45:]),
        "report": [report.empirical_risk, report.activation_ratio, report.coverage],
        "curve": list(calibrator.risk_curve()),
    }


def real_sets(folder: Path) -> Results:
    with np.load(folder / "samples.npz") as file:
        X, y = file["samples"][::2], file["labels"][::2]
    calibrator = cm.ConsignCalibrator(2, alpha=0.3, min_accuracy=0.7, progress=False).fit(X[:16], y[:16])
    return {**searched(calibrator), **applied(calibrator, X[16:], y[16:])}


# The table


def _cases() -> Iterator[tuple[str, Callable[..., Results], dict[str, Any]]]:
    for score in SCORES:
        for loss in LOSSES:
            yield f"calibrator: {score}; {loss}", calibrated, {"score": score, "loss": loss}
        for dtype in DTYPES:
            yield f"kernels: {score}; {dtype}", kernels, {"score": score, "dtype": dtype}
        yield f"profiles: {score}", profiled, {"score": score}
    scores = list(SCORES)
    for i, loss in enumerate(LOSSES):
        yield f"units: {loss}", unequal, {"score": scores[i], "loss": loss}
        yield f"parts: {loss}", collected, {"score": scores[-i], "loss": loss, "profile": "exact"}
        for j in range(3 * (loss in BUILT_IN)):
            score = scores[(i + 5 * j) % len(scores)]
            yield f"bins: {score}; {loss}", collected, {"score": score, "loss": loss, "profile": "binned"}
    for size in SIZES:
        yield f"metrics: {size}", measured, {"size": size}
    for what, parameters in CONSIGN.items():
        yield f"consign: {what}", consign, parameters
    for function in (extremes, many_classes, quantiles, sampled, decomposed):
        yield function.__name__, function, {}


CASES: dict[str, Callable[[], Results]] = {
    name: lambda name=name, function=function, given=given: function(name, **given)
    for name, function, given in _cases()
}
REAL_CASES: dict[str, Callable[[Path], Results]] = {
    **{f"real: {score}": lambda folder, score=score: real_masks(folder, score) for score in SCORES},
    "real: consign": real_sets,
}
