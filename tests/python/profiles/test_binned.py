"""Binned profiles: never anti-conservative, close to the exact ones, the same bits in any order, and small."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conformask as cm
import twin
from problems import ALPHAS, LOSSES, Problem, problems, wide

Calibrator = cm.ConformalRiskCalibrator
PROBLEM, MORE = wide(n=60), wide(n=60, seed=1)
SCORES = {"lac": cm.LAC(), "aps": cm.APS(), "raps": cm.RAPS(0.3, 1), "sacp": cm.SACP(cm.LAC(), window=3)}
CLOSE = 2**-10  # of the distance to the largest lambda


def largest(score: object) -> float:
    return 1 + 0.3 * 3 if isinstance(score, cm.RAPS) else 1.0


def same_bits(first: cm.BinnedProfiles, second: cm.BinnedProfiles) -> bool:
    """Of all that is kept; one critical value of each image comes in the order of the images."""
    return len(first) == len(second) and all(
        first._core.part(i)[0] == second._core.part(i)[0]
        and np.array_equal(np.sort(first._core.part(i)[1], axis=0), np.sort(second._core.part(i)[1], axis=0))
        and (
            first._core.part(i)[1].ndim == 1
            or np.array_equal(first._core.part(i)[1], second._core.part(i)[1])
        )
        for i in range(len(first.losses))
    )


@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize("score", SCORES)
@given(alpha=st.floats(0.02, 0.6))
@settings(max_examples=10, deadline=None)
def test_lambda_hat_is_never_too_small_and_hardly_too_large(loss_name: str, score: str, alpha: float) -> None:
    loss = LOSSES[loss_name](4)[0]
    arguments = (PROBLEM.X, PROBLEM.y, SCORES[score])
    binned, exact = cm.profile(*arguments, collect=[loss]), cm.profile(*arguments)
    found, least = binned.lambda_hat(loss, alpha), exact.lambda_hat(loss, alpha)
    assert least <= found <= least + CLOSE * (largest(SCORES[score]) - least) + 1e-12
    if loss._kernel(4) is not None and isinstance(loss, cm.BinaryLoss | cm.LabelAccuracyLoss):
        assert found == least
    for lam in (0.0, found, least, 0.3, 0.9):
        assert exact.risk(loss, lam) <= binned.risk(loss, lam) + 1e-15
    assert binned.risk(loss, found) <= exact.risk(loss, found) + 60 * 2**-44


@given(problem=problems(min_images=2), alpha=ALPHAS, loss_name=st.sampled_from(sorted(LOSSES)))
@settings(max_examples=150, deadline=None)
def test_the_guarantee_never_suffers(problem: Problem, alpha: float, loss_name: str) -> None:
    """The twin's corrected risk at the binned lambda-hat is at most alpha; infeasible is said where it is."""
    ours, theirs = LOSSES[loss_name](problem.n_classes)
    images = problem.images()
    binned = cm.profile(problem.X, problem.y, collect=[ours])
    if twin.lambda_hat(images, theirs, alpha) is None:
        with pytest.raises(cm.InfeasibleRiskError):
            binned.lambda_hat(ours, alpha)
    else:
        assert twin.bound(images, theirs, binned.lambda_hat(ours, alpha)) <= twin.decimal(alpha)


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_order_batches_and_threads_change_no_bit(data: st.DataObject) -> None:
    losses = [make(4)[0] for make in LOSSES.values()]
    whole = cm.profile(PROBLEM.X, PROBLEM.y, collect=losses)
    order = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(60)
    cuts = sorted(data.draw(st.sets(st.integers(1, 59), max_size=5)))
    parts = [
        cm.profile(PROBLEM.X[chosen], PROBLEM.y[chosen], collect=losses) for chosen in np.split(order, cuts)
    ]
    merged = parts[0]
    for part in parts[1:]:
        merged = part.merge(merged)
    assert same_bits(whole, merged)
    try:
        cm.set_num_threads(data.draw(st.integers(1, 4)))
        assert same_bits(whole, cm.profile(list(PROBLEM.X), list(PROBLEM.y), collect=losses))
    finally:
        cm.set_num_threads(None)
    for loss in losses:
        assert merged.lambda_hat(loss, 0.1) == whole.lambda_hat(loss, 0.1)


def test_a_calibrator_with_bins() -> None:
    exact = Calibrator(alpha=0.1).fit(PROBLEM.X, PROBLEM.y)
    fitted = Calibrator(alpha=0.1, profile="binned", collect=["binary", cm.MiscoverageLoss("balanced")])
    for image in range(60):
        fitted.partial_fit(PROBLEM.X[image : image + 1], PROBLEM.y[image : image + 1])
    assert exact.lambda_hat_ <= fitted.lambda_hat_ <= exact.lambda_hat_ + CLOSE * (1 - exact.lambda_hat_)
    assert fitted.risk_ >= fitted.evaluate(PROBLEM.X, PROBLEM.y).empirical_risk
    assert fitted.corrected_risk_ <= 0.1
    assert (fitted.n_images_, fitted.n_classes_, fitted.profiles_.exact) == (60, 4, False)
    assert (fitted.predict(PROBLEM.X) >= exact.predict(PROBLEM.X)).all()
    assert (
        fitted.recalibrate(loss="binary", alpha=0.2).lambda_hat_
        == exact.recalibrate(0.2, "binary").lambda_hat_
    )
    assert fitted.recalibrate(loss=cm.MiscoverageLoss("balanced")).lambda_hat_ >= 0
    lambdas, risks = fitted.risk_curve()
    assert risks[lambdas == fitted.lambda_hat_] == fitted.risk_
    assert (np.diff(risks) <= 0).all()
    assert risks[-1] == 0
    other = Calibrator(alpha=0.1, profile="binned", collect=["binary", cm.MiscoverageLoss("balanced")])
    assert other.fit(MORE.X, MORE.y).merge(fitted).n_images_ == 120


def test_it_does_not_matter_which_loss_is_named_first() -> None:
    first = Calibrator(profile="binned", collect=["binary"], alpha=0.3).fit(PROBLEM.X, PROBLEM.y)
    third = wide(n=60, seed=2)
    second = Calibrator(profile="binned", loss="binary", collect=["miscoverage"]).fit(third.X, third.y)
    assert first.recalibrate(loss="binary").partial_fit(MORE.X, MORE.y).n_images_ == 120
    assert first.set_params(loss="binary", collect=()).partial_fit(MORE.X, MORE.y).n_images_ == 120
    assert second.merge(first).n_images_ == 180
    with pytest.raises(ValueError, match="profile differs: 'exact' here, 'binned' there"):
        Calibrator().merge(first)


@pytest.mark.parametrize("profile", ["exact", "binned"])
@pytest.mark.parametrize("collect", ["binary", None, 3])
def test_collect_is_a_sequence(profile: str, collect: object) -> None:
    with pytest.raises(TypeError, match="collect must be a sequence, got"):
        Calibrator(profile=profile, collect=collect).fit(PROBLEM.X, PROBLEM.y)


def test_a_budget_that_is_met_exactly_is_met_by_less() -> None:
    """Where rounding up tips the sum over, lambda-hat is the exact one of a slightly smaller budget."""
    X = np.tile(np.array([0.55, 0.45], np.float32).reshape(1, 2, 1, 1), (19, 1, 1, 3))
    y = np.zeros((19, 1, 3), int)
    for image, p in enumerate([0.1, 0.1, 0.1, 0.45]):
        X[image, :, 0, 0] = 1 - p, p
        y[image, 0, 0] = 1
    binned, exact = cm.profile(X, y, collect=["miscoverage"]), cm.profile(X, y)
    found = binned.lambda_hat("miscoverage", 0.1)
    assert exact.lambda_hat("miscoverage", 0.1) < found
    smaller = exact.lambda_hat("miscoverage", 0.1 - 1e-9)
    assert smaller <= found <= smaller + CLOSE * (1 - smaller)


def test_what_bins_do_not_know_is_refused() -> None:
    binned = cm.profile(PROBLEM.X, PROBLEM.y, collect=["miscoverage"])
    for call, error, says in [
        (lambda: binned[:3], ValueError, "splits need profile='exact'"),
        (
            lambda: binned.lambda_hat("binary", 0.1),
            ValueError,
            r"not BinaryLoss\(.*name it in collect=\[\.\.\.\]",
        ),
        (lambda: binned.merge(cm.profile(PROBLEM.X, PROBLEM.y)), TypeError, "got ScoreProfiles"),
        (lambda: cm.profile(PROBLEM.X, PROBLEM.y).merge(binned), TypeError, "got BinnedProfiles"),
        (
            lambda: binned.merge(cm.profile(PROBLEM.X, PROBLEM.y, collect=["binary"])),
            ValueError,
            "cannot be merged",
        ),
        (
            lambda: binned.merge(cm.profile(PROBLEM.X, PROBLEM.y, "aps", collect=["miscoverage"])),
            ValueError,
            "APS",
        ),
        (
            lambda: binned.merge(
                cm.profile(
                    PROBLEM.X[:, :3] / PROBLEM.X[:, :3].sum(1, keepdims=True),
                    PROBLEM.y.clip(max=2),
                    collect=["miscoverage"],
                )
            ),
            ValueError,
            "K = 3",
        ),
        (lambda: cm.profile(PROBLEM.X, PROBLEM.y, collect=[]), ValueError, "at least one loss"),
        (lambda: cm.profile(PROBLEM.X, PROBLEM.y, collect="binary"), TypeError, "collect must be a sequence"),
        (lambda: cm.profile(PROBLEM.X, PROBLEM.y, collect=[lambda c: 1 - c]), ValueError, "profile='exact'"),
        (
            lambda: Calibrator(profile="binned", loss=lambda c: 1 - c).fit(PROBLEM.X, PROBLEM.y),
            ValueError,
            "exact",
        ),
        (
            lambda: Calibrator(profile="binned").fit(PROBLEM.X, PROBLEM.y, groups=range(60)),
            ValueError,
            "groups needs",
        ),
        (
            lambda: Calibrator(profile="binned").fit(PROBLEM.X, PROBLEM.y).recalibrate(loss="binary"),
            ValueError,
            "collect",
        ),
        (lambda: cm.profile([], [], collect=["binary"]), ValueError, "X is empty"),
    ]:
        with pytest.raises(error, match=says):
            call()


@pytest.mark.parametrize("on_empty", ["skip", "zero_loss"])
def test_images_without_a_loss(on_empty: str) -> None:
    y = PROBLEM.y.copy()
    y[:7] = 255
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cm.DroppedImagesWarning)
        exact = Calibrator(on_empty=on_empty).fit(PROBLEM.X, y)
        fitted = Calibrator(on_empty=on_empty, profile="binned").fit(PROBLEM.X, y)
    assert (fitted.n_images_, fitted.n_skipped_) == (exact.n_images_, exact.n_skipped_)
    assert 0 <= fitted.lambda_hat_ - exact.lambda_hat_ < CLOSE
    with pytest.raises(ValueError, match="undefined on 7 images"):
        Calibrator(on_empty="raise", profile="binned").fit(PROBLEM.X, y)


@pytest.mark.parametrize("score", ["lac", "raps"])
def test_files(score: str, tmp_path: Path) -> None:
    fitted = Calibrator(score, profile="binned", collect=["binary"]).fit(PROBLEM.X, PROBLEM.y)
    fitted.save(tmp_path / "c.json", profiles=True)
    again = Calibrator.load(tmp_path / "c.json")
    assert same_bits(again.profiles_, fitted.profiles_)
    assert again.collect == (cm.BinaryLoss(),)
    assert again.recalibrate(loss="binary").lambda_hat_ == fitted.recalibrate(loss="binary").lambda_hat_
    again.partial_fit(MORE.X, MORE.y)
    (file,) = tmp_path.glob("c.json.*.npz")
    assert same_bits(cm.BinnedProfiles.load(file), fitted.profiles_)
    with pytest.raises(ValueError, match=r"read them with BinnedProfiles\.load"):
        cm.ScoreProfiles.load(file)
    cm.profile(PROBLEM.X, PROBLEM.y).save(tmp_path / "exact.npz")
    with pytest.raises(ValueError, match=r"no profiles of conformask"):
        cm.BinnedProfiles.load(tmp_path / "exact.npz")
    with np.load(file) as archive:
        arrays = dict(archive)
    for name, value in {
        "part_0": arrays["part_0"][:-1],
        "n_defined": arrays["n_defined"] + 1,
        "n_classes": 0,
    }.items():
        np.savez(tmp_path / "damaged.npz", **{**arrays, name: value})
        with pytest.raises(ValueError, match="holds no profiles of conformask"):
            cm.BinnedProfiles.load(tmp_path / "damaged.npz")


MEMORY = """
import sys
from pathlib import Path
import numpy as np
import conformask as cm

def images(n):
    rng = np.random.default_rng(0)
    for _ in range(n):
        X = rng.random((150, 512, 683), dtype=np.float32)
        X /= X.sum(axis=0)
        yield X, rng.integers(0, 150, (512, 683), dtype=np.uint8)

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

for X, y in images(2):  # what the generator needs by itself
    pass
del X, y
alone = peak()
losses = ["binary", cm.MiscoverageLoss("balanced"), cm.FalseNegativeLoss([1, 2])]
calibrator = cm.ConformalRiskCalibrator(profile="binned", collect=losses, alpha=0.2)
calibrator.fit(images(int(sys.argv[1])))
print((peak() - alone) / 1024)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux to measure the peak of memory"
)
def test_memory_does_not_grow_with_the_images() -> None:
    """Of ADE20K's size (210 MB), one at a time: hardly more than the generator needs, and nothing with n."""
    few, more = (
        float(
            subprocess.run(
                [sys.executable, "-c", MEMORY, n], check=True, capture_output=True, text=True
            ).stdout
        )
        for n in ("5", "15")
    )
    assert few < 60
    assert more - few < 8
