"""What must not change anything does not: order, batches, threads, containers. What must be monotone is."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import conformask as cm
import twin
from problems import ALPHAS, LOSSES, Problem, problems, wide

losses = pytest.mark.parametrize("loss_name", LOSSES)
Calibrator = cm.ConformalRiskCalibrator


# Small problems often have images without loss, or too few images.
pytestmark = [
    pytest.mark.filterwarnings("ignore::conformask.DroppedImagesWarning"),
    pytest.mark.filterwarnings("ignore::conformask.InfeasibleRiskWarning"),
]


def bits(fitted: Calibrator) -> tuple:
    """All results; NaN equals itself."""
    floats = (fitted.lambda_hat_, fitted.risk_, fitted.corrected_risk_)
    return (*(value.hex() for value in floats), fitted.n_images_, fitted.n_skipped_)


def calibrator(loss_name: str, n_classes: int, alpha: float = 0.3, **parameters: object) -> Calibrator:
    return Calibrator(loss=LOSSES[loss_name](n_classes)[0], alpha=alpha, on_infeasible="full", **parameters)


# Monotone


@losses
@settings(max_examples=15)
@given(problem=problems(), alphas=st.tuples(ALPHAS, ALPHAS))
def test_lambda_hat_falls_with_alpha(loss_name: str, problem: Problem, alphas: tuple[float, float]) -> None:
    strict, loose = (
        calibrator(loss_name, problem.n_classes, a).fit(problem.X, problem.y) for a in sorted(alphas)
    )
    assert strict.lambda_hat_ >= loose.lambda_hat_
    assert strict.risk_ <= loose.risk_ or np.isnan(strict.risk_)


@settings(max_examples=50)
@given(problem=problems(), include_top1=st.booleans())
def test_masks_are_nested_and_end_full(problem: Problem, include_top1: bool) -> None:
    score = cm.LAC(include_top1)
    lambdas = [0.0, *np.unique(twin.scores(problem.X).clip(0, 1)).tolist()[:20], 1.0]
    sets = [cm.kernels.threshold(problem.X, lam, score) for lam in sorted(set(lambdas))]
    for smaller, larger in pairwise(sets):
        assert not (smaller & ~larger).any()
    assert sets[-1].all()


@settings(max_examples=50)
@given(problem=problems(), lam=st.floats(0, 1))
def test_the_most_probable_class_is_always_in(problem: Problem, lam: float) -> None:
    """Of equals the lowest, and no other on its account."""
    sets = cm.kernels.threshold(problem.X, lam)
    assert np.array_equal(sets, twin.masks(problem.X, lam))
    assert sets[twin.top1(problem.X)].all()
    assert np.array_equal(sets.sum(axis=1), cm.kernels.set_size(problem.X, lam))


@losses
def test_risk_curve_falls_and_holds_the_risks(loss_name: str) -> None:
    problem = wide()
    fitted = calibrator(loss_name, problem.n_classes).fit(problem.X, problem.y)
    lambdas, risks = fitted.risk_curve()
    assert (np.diff(lambdas) > 0).all()
    assert (np.diff(risks) <= 0).all()
    assert risks[lambdas == fitted.lambda_hat_] == [fitted.risk_]
    ours = LOSSES[loss_name](problem.n_classes)[0]
    for lam, risk in list(zip(lambdas, risks, strict=True))[::100]:
        assert cm.metrics.empirical_risk(problem.y, cm.kernels.threshold(problem.X, lam), ours) == risk


# Batches, merges, order


@losses
@settings(max_examples=15)
@given(problem=problems(min_images=2), data=st.data())
def test_any_batches_and_any_merges_are_fit(loss_name: str, problem: Problem, data: st.DataObject) -> None:
    X, y, n = problem.X, problem.y, len(problem.X)
    whole = calibrator(loss_name, problem.n_classes).fit(X, y)

    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1))))
    parts = list(pairwise([0, *cuts, n]))
    batched = clone(whole)
    for start, stop in parts:
        batched.partial_fit(X[start:stop], y[start:stop])
    assert bits(batched) == bits(whole)

    workers = [clone(whole).partial_fit(X[start:stop], y[start:stop]) for start, stop in parts]
    merged = clone(whole)
    for worker in data.draw(st.permutations(workers)):
        merged.merge(worker)
    assert bits(merged) == bits(whole)


@losses
@settings(max_examples=15)
@given(problem=problems(), seed=st.integers(0, 99))
def test_the_order_of_images_and_pixels_is_nothing(loss_name: str, problem: Problem, seed: int) -> None:
    X, y = problem.X, problem.y
    whole = calibrator(loss_name, problem.n_classes).fit(X, y)
    images = np.random.default_rng(seed).permutation(len(X))
    pixels = np.random.default_rng(seed + 100).permutation(y[0].size)

    assert bits(clone(whole).fit(X[images], y[images])) == bits(whole)
    flat_X, flat_y = X.reshape(*X.shape[:2], 1, -1), y.reshape(len(y), 1, -1)
    assert bits(clone(whole).fit(flat_X[..., pixels], flat_y[..., pixels])) == bits(whole)


def test_merge_leaves_the_other_alone() -> None:
    problem = wide()
    one, other = (
        Calibrator().partial_fit(problem.X[part], problem.y[part]) for part in (slice(25), slice(25, None))
    )
    before = bits(other)
    one.merge(other)
    assert (len(one.profiles_), len(other.profiles_)) == (40, 15)
    assert bits(other) == before


def test_fit_forgets_and_partial_fit_does_not() -> None:
    problem = wide()
    fitted = Calibrator().fit(problem.X[:30], problem.y[:30])
    assert len(fitted.partial_fit(problem.X[30:], problem.y[30:]).profiles_) == 40
    assert bits(fitted) == bits(Calibrator().fit(problem.X, problem.y))
    assert len(fitted.fit(problem.X[:30], problem.y[:30]).profiles_) == 30


# Threads, shapes, containers


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_number_of_threads_is_nothing(dtype: str) -> None:
    """Maps of more than one band of pixels, so that an image is shared between threads."""
    problem = wide(n=12, n_classes=3, size=(203, 211), dtype=dtype)
    results = []
    for n_threads in (1, 2, 3):
        cm.set_num_threads(n_threads)
        assert cm.get_num_threads() == n_threads
        fitted = Calibrator(loss=cm.MiscoverageLoss("balanced")).fit(problem.X, problem.y)
        report = fitted.evaluate(problem.X, problem.y)
        results.append(
            (
                bits(fitted),
                fitted.predict(problem.X).tobytes(),
                report.empirical_risk,
                report.activation_ratio,
            )
        )
    assert results[0] == results[1] == results[2]
    assert float.fromhex(results[0][0][0]) > 0


@losses
def test_volumes_are_flat_images_of_as_many_pixels(loss_name: str) -> None:
    volume = wide(size=(3, 4, 5))
    X, y = volume.X.reshape(40, 4, 12, 5), volume.y.reshape(40, 12, 5)
    of_volumes = calibrator(loss_name, 4).fit(volume.X, volume.y)
    of_images = calibrator(loss_name, 4).fit(X, y)
    assert bits(of_volumes) == bits(of_images)
    assert np.array_equal(of_volumes.predict(volume.X), of_images.predict(X).reshape(volume.X.shape))
    assert np.array_equal(of_volumes.set_size(volume.X), of_images.set_size(X).reshape(volume.y.shape))
    reports = of_volumes.evaluate(volume.X, volume.y), of_images.evaluate(X, y)
    assert reports[0].activation_ratio == reports[1].activation_ratio


CONTAINERS: dict[str, Callable[[np.ndarray, np.ndarray], tuple]] = {
    "lists": lambda X, y: (list(X), list(y)),
    "tuples": lambda X, y: (tuple(X), tuple(y)),
    "list and array": lambda X, y: (list(X), y),
    "generators": lambda X, y: (iter(X), iter(y)),
    "generator of pairs": lambda X, y: (zip(X, y, strict=True),),
    "list of pairs": lambda X, y: ([(image, labels) for image, labels in zip(X, y, strict=True)],),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_any_container_will_do(container: str) -> None:
    problem, convert = wide(), CONTAINERS[container]
    whole = Calibrator().fit(problem.X, problem.y)
    assert bits(Calibrator().fit(*convert(problem.X, problem.y))) == bits(whole)
    report = whole.evaluate(*convert(problem.X, problem.y))
    expected = whole.evaluate(problem.X, problem.y)
    assert (report.empirical_risk, report.coverage) == (expected.empirical_risk, expected.coverage)


def test_a_container_comes_back_as_it_went_in() -> None:
    problem = wide()
    fitted = Calibrator().fit(problem.X, problem.y)
    for method, dtype in (
        (fitted.predict, np.bool_),
        (fitted.set_size, np.uint16),
        (fitted.varisco, np.float32),
    ):
        expected = method(problem.X)
        assert (type(expected), expected.dtype) == (np.ndarray, dtype)
        listed = method(list(problem.X))
        assert type(listed) is list
        assert np.array_equal(np.stack(listed), expected)
        generated = method(iter(problem.X))
        assert iter(generated) is generated
        assert np.array_equal(next(generated), expected[0])
        assert np.array_equal(np.stack(list(generated)), expected[1:])


def test_images_of_different_sizes() -> None:
    """The unit is the image: one of 6 pixels counts as much as one of 400."""
    sizes = [(2, 3), (20, 20), (1, 7)]
    images = [wide(seed, n=1, size=size) for seed, size in enumerate(sizes)]
    X, y = [image.X[0] for image in images], [image.y[0] for image in images]
    fitted = Calibrator(alpha=0.4).fit(X, y)
    of_all = [image for problem in images for image in problem.images()]
    assert fitted.lambda_hat_ == twin.lambda_hat(of_all, twin.miscoverage(), 0.4) > 0
    assert [mask.shape for mask in fitted.predict(X)] == [(4, *size) for size in sizes]


# Splits, groups, weights, recalibration


@pytest.mark.filterwarnings("ignore::conformask.DuplicateImagesWarning")  # an index may name an image twice
@losses
@pytest.mark.parametrize(
    "index", [slice(5, 30, 2), np.arange(39, 10, -1), np.arange(40) % 3 == 0, [3] * 9 + [4], -1], ids=str
)
def test_a_split_of_profiles_is_a_fresh_fit(loss_name: str, index: object) -> None:
    problem = wide()
    ours = LOSSES[loss_name](problem.n_classes)[0]
    part = cm.profile(problem.X, problem.y)[index]
    chosen = np.atleast_1d(np.arange(40)[index])
    fresh = Calibrator(loss=ours, alpha=0.6).fit(problem.X[chosen], problem.y[chosen])
    assert len(part) == len(chosen)
    assert part.lambda_hat(ours, 0.6) == fresh.lambda_hat_
    assert part.risk(ours, 0.5) == fresh.profiles_.risk(ours, 0.5)


@losses
@settings(max_examples=25)
@given(problem=problems(min_images=3), alpha=ALPHAS, seed=st.integers(0, 99))
def test_groups_count_once(loss_name: str, problem: Problem, alpha: float, seed: int) -> None:
    groups = np.random.default_rng(seed).integers(0, 5, len(problem.X))
    ours, theirs = LOSSES[loss_name](problem.n_classes)
    images = problem.images()
    expected = twin.lambda_hat(images, theirs, alpha, groups=groups.tolist())
    fitted = Calibrator(loss=ours, alpha=alpha)
    if expected is None:
        with pytest.raises(cm.InfeasibleRiskError):
            fitted.fit(problem.X, problem.y, groups=groups)
        return
    fitted.fit(problem.X, problem.y, groups=groups)
    assert fitted.lambda_hat_ == expected
    defined = [
        g for g, image in zip(groups, images, strict=True) if twin.loss_at(image, theirs, 0.0) is not None
    ]
    assert fitted.n_images_ == len(set(defined))
    assert fitted.risk_ == pytest.approx(
        float(twin.risk(images, theirs, expected, groups.tolist())), rel=1e-14, abs=0
    )
    assert fitted.corrected_risk_ <= alpha


@losses
@settings(max_examples=25)
@given(problem=problems(min_images=3), alpha=ALPHAS, data=st.data())
def test_sample_weight(loss_name: str, problem: Problem, alpha: float, data: st.DataObject) -> None:
    n = len(problem.X)
    weights = data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0, 1 / 3]), min_size=n, max_size=n))
    ours, theirs = LOSSES[loss_name](problem.n_classes)
    images = problem.images()
    expected = twin.lambda_hat(images, theirs, alpha, weights=weights)
    fitted = Calibrator(loss=ours, alpha=alpha)
    if expected is None:
        with pytest.raises(cm.InfeasibleRiskError):
            fitted.fit(problem.X, problem.y, sample_weight=weights)
        return
    fitted.fit(problem.X, problem.y, sample_weight=weights)
    assert fitted.lambda_hat_ == expected
    assert fitted.corrected_risk_ <= alpha


@losses
def test_own_groups_and_unit_weights_are_nothing(loss_name: str) -> None:
    problem = wide()
    plain = calibrator(loss_name, problem.n_classes).fit(problem.X, problem.y)
    grouped = clone(plain).fit(problem.X, problem.y, groups=[f"patient {i}" for i in range(40)])
    weighted = clone(plain).fit(problem.X, problem.y, sample_weight=np.ones(40))
    for same in (grouped, weighted):
        assert (same.lambda_hat_, same.n_images_) == (plain.lambda_hat_, plain.n_images_)
        assert same.risk_ == pytest.approx(plain.risk_, rel=1e-15)


@pytest.mark.parametrize("argument", ["groups", "sample_weight"])
def test_groups_and_weights_follow_their_images(argument: str) -> None:
    """Through batches, merges and splits."""
    problem, rng = wide(), np.random.default_rng(1)
    values = {"groups": rng.integers(0, 15, 40), "sample_weight": rng.integers(0, 11, 40) / 10}[argument]
    whole = Calibrator(alpha=0.3).fit(problem.X, problem.y, **{argument: values})
    parts = [
        Calibrator(alpha=0.3).partial_fit(problem.X[part], problem.y[part], **{argument: values[part]})
        for part in (slice(17), slice(17, None))
    ]
    assert bits(parts[1].merge(parts[0])) == bits(whole)
    index = rng.permutation(40)[:25]
    fresh = cm.profile(problem.X[index], problem.y[index], **{argument: values[index]})
    assert whole.profiles_[index].lambda_hat("miscoverage", 0.3) == fresh.lambda_hat("miscoverage", 0.3)


@losses
@settings(max_examples=15)
@given(problem=problems(), alpha=ALPHAS)
def test_recalibrate_is_a_fresh_fit(loss_name: str, problem: Problem, alpha: float) -> None:
    other = Calibrator(loss="binary", alpha=0.5, on_infeasible="full").fit(problem.X, problem.y)
    before = bits(other)
    fresh = calibrator(loss_name, problem.n_classes, alpha).fit(problem.X, problem.y)
    again = other.recalibrate(alpha=alpha, loss=fresh.loss)
    assert bits(again) == bits(fresh)
    assert again.get_params() == fresh.get_params()
    assert bits(other) == before


# Reports


@settings(max_examples=40)
@given(problem=problems(min_images=9))
def test_report_against_the_twin(problem: Problem) -> None:
    fitted = Calibrator(alpha=0.3, on_infeasible="full").fit(problem.X, problem.y)
    report, masks = fitted.evaluate(problem.X, problem.y), fitted.predict(problem.X)
    if not report.n_images:
        assert np.isnan(report.empirical_risk)
        return
    assert np.array_equal(masks, twin.masks(problem.X, fitted.lambda_hat_))
    assert report.activation_ratio == pytest.approx(float(twin.activation_ratio(masks, problem.y)), rel=1e-14)
    assert report.coverage == pytest.approx(float(twin.coverage(masks, problem.y)), rel=1e-14)
    assert report.empirical_risk == fitted.risk_ == pytest.approx(1 - report.coverage)
    assert fitted.score(problem.X, problem.y) == 1 - report.empirical_risk
    assert report.activation_ratio == cm.metrics.activation_ratio(problem.y, masks)
    assert report.coverage == cm.metrics.marginal_coverage(problem.y, masks)
    of_images = cm.metrics.empirical_risk(problem.y, masks, average=False)
    assert np.array_equal(of_images, report.losses, equal_nan=True)
    assert (report.n_images, report.n_skipped) == (fitted.n_images_, fitted.n_skipped_)


def test_varisco_is_set_size_over_classes_or_over_the_largest() -> None:
    problem = wide()
    fitted = Calibrator(alpha=0.2).fit(problem.X, problem.y)
    sizes = twin.masks(problem.X, fitted.lambda_hat_).sum(axis=1)
    assert np.array_equal(fitted.varisco(problem.X), (sizes / 4).astype(np.float32))
    largest = sizes.max(axis=(1, 2), keepdims=True)
    assert np.array_equal(fitted.varisco(problem.X, "max"), (sizes / largest).astype(np.float32))
    assert len(np.unique(largest)) > 1 or largest[0] < 4  # the two differ here


@pytest.mark.parametrize("scale", [1e308, 5e-324, Fraction(10**400), Fraction(1, 10**400)])
def test_class_weights_of_any_size_are_relative(scale: float | Fraction) -> None:
    problem = wide()
    fitted = Calibrator(loss=cm.MiscoverageLoss([scale] * 4)).fit(problem.X, problem.y)
    balanced = Calibrator(loss=cm.MiscoverageLoss("balanced")).fit(problem.X, problem.y)
    assert bits(fitted) == bits(balanced)


def test_a_class_that_weighs_almost_nothing_still_has_a_loss() -> None:
    y, masks = np.zeros((1, 1, 2), int), np.ones((1, 2, 1, 2), bool)
    masks[0, 0, 0, 0] = False
    weights = [Fraction(1, 10**400), 1]
    assert cm.metrics.empirical_risk(y, masks, cm.MiscoverageLoss(weights)) == 0.5


def test_parameters_set_after_fit_are_answered_for() -> None:
    problem = wide()
    fitted = Calibrator(alpha=0.3).fit(problem.X, problem.y)
    fitted.set_params(alpha=0.2)
    assert fitted.lambda_hat_ == Calibrator(alpha=0.2).fit(problem.X, problem.y).lambda_hat_
    fitted.set_params(conformity_score=cm.LAC(include_top1=False))
    with pytest.raises(ValueError, match=r"conformity_score is .* calibrated with .* fit again"):
        fitted.predict(problem.X)
