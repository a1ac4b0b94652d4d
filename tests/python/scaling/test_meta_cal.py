"""Meta-Cal against a twin: threshold, temperature, what is above, most probable classes, files, workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, special

import conformask as cm
import scaling_twin as twin

LOGITS, Y = twin.problem()
ALL = 2**40


def twin_of(logits: NDArray, y: NDArray, first: NDArray, alpha: float, mode: str) -> tuple[float, float]:
    """Threshold and temperature, where `first` images give the threshold."""
    p = special.softmax(logits, axis=1)
    h, right, labelled = special.entr(p).sum(axis=1), p.argmax(axis=1) == y, y != 255
    here = labelled & first[:, None, None]
    if mode == "miscoverage":
        values = np.sort(h[here & right])
        threshold = values[int(np.ceil(round(len(values) * (1 - alpha), 9))) - 1]
    else:
        order = np.argsort(h[here])
        share = np.cumsum(right[here][order]) / np.arange(1, len(order) + 1)
        threshold = h[here][order][np.flatnonzero(share >= 1 - alpha)[-1]]
    rest = labelled & ~first[:, None, None] & (h <= threshold + 1e-6)
    z, labels = np.moveaxis(logits, 1, -1)[rest], y[rest]

    def loss(s: float) -> float:
        return float((special.logsumexp(s * z, axis=1) - s * z[np.arange(len(z)), labels]).mean())

    found = optimize.minimize_scalar(loss, bounds=(1e-3, 10), method="bounded", options={"xatol": 1e-10})
    return float(threshold), 1 / float(found.x)


@pytest.mark.parametrize(("mode", "alpha"), [("miscoverage", 0.1), ("miscoverage", 0.3), ("accuracy", 0.2)])
def test_it_is_what_the_twin_finds(mode: str, alpha: float) -> None:
    half = np.arange(12) // 6  # one of them gives the threshold: which, is the seed's to say
    scaler = cm.MetaCal(mode=mode, alpha=alpha, n_pixels=ALL).fit(LOGITS, Y, groups=half)
    found = [twin_of(LOGITS, Y, half == one, alpha, mode) for one in range(2)]
    assert min(
        abs(threshold - scaler.threshold_) + abs(temperature - scaler.temperature_)
        for threshold, temperature in found
    ) == pytest.approx(0, abs=2e-5)


@pytest.mark.parametrize("high", ["uniform", 100.0, 1e10])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_are_those_of_the_twin(high: Any, dtype: type) -> None:
    logits = LOGITS.astype(dtype)
    scaler = cm.MetaCal(high=high, alpha=0.2).fit(logits, Y)
    found = scaler.transform(logits)
    u = logits.astype(np.float64)
    h = special.entr(special.softmax(u, axis=1)).sum(axis=1)
    factors = np.where(h <= scaler.threshold_, 1 / scaler.temperature_, 0 if high == "uniform" else 1 / high)
    apart = abs(h - scaler.threshold_) > 1e-4
    expected = twin.tempered(u, factors)
    assert twin.close(np.moveaxis(found, 1, -1)[apart], np.moveaxis(expected, 1, -1)[apart], 1e-5)
    assert (found.argmax(axis=1) == logits.argmax(axis=1)).all()
    assert scaler.above_ == pytest.approx((h[Y != 255] > scaler.threshold_).mean(), abs=0.01)


def test_the_loss_is_that_of_its_probabilities() -> None:
    scaler = cm.MetaCal(high=50.0, n_pixels=ALL).fit(LOGITS, Y)
    assert scaler.nll_ == pytest.approx(twin.log_loss(scaler.transform(LOGITS), Y), rel=1e-6)
    assert scaler.nll_before_ == pytest.approx(twin.log_loss(special.softmax(LOGITS, axis=1), Y), rel=1e-6)


def test_probabilities_stand_for_their_logarithms() -> None:
    p = special.softmax(LOGITS, axis=1)
    scaler = cm.MetaCal(inputs="probabilities", high=20.0).fit(p, Y)
    low = special.entr(p).sum(axis=1) <= scaler.threshold_ + 1e-6  # which is a pixel's, in float32
    factors = np.where(low, 1 / scaler.temperature_, 1 / 20)
    assert twin.close(scaler.transform(p), twin.tempered(np.log(p.clip(1e-12)), factors), 1e-6)


def test_logits_are_no_probabilities() -> None:
    p = special.softmax(LOGITS, axis=1)
    p[5, 0, 3, 7], p[5, 1, 3, 7] = -1, 1
    y = Y.copy()
    y[5, 3, 7] = 0
    with pytest.raises(ValueError, match=r"but in image 5 they sum to .* at pixel \(3, 7\), the least is -1"):
        cm.MetaCal(inputs="probabilities", n_pixels=ALL).fit(p, y)


def test_the_share_of_right_pixels_above_is_kept_on_new_images() -> None:
    logits, y = twin.problem(60, 1)
    scaler = cm.MetaCal(alpha=0.1).fit(logits[:30], y[:30])
    p = special.softmax(logits[30:], axis=1)
    right = p.argmax(axis=1) == y[30:]
    above = special.entr(p).sum(axis=1) > scaler.threshold_
    assert above[right].mean() == pytest.approx(0.1, abs=0.02)
    accurate = cm.MetaCal(mode="accuracy", alpha=0.2).fit(logits[:30], y[:30])
    kept = (special.entr(p).sum(axis=1) <= accurate.threshold_) & (y[30:] != 255)
    assert right[kept].mean() == pytest.approx(0.8, abs=0.02)


def test_images_of_a_group_stay_together() -> None:
    with pytest.raises(ValueError, match=r"needs at least 2 images \(groups\) with labelled pixels, got 1"):
        cm.MetaCal().fit(LOGITS, Y, groups=[0] * 12)


def test_workers_and_files(tmp_path: Path) -> None:
    whole = cm.MetaCal(n_pixels=200).fit(LOGITS, Y)
    first = cm.MetaCal(n_pixels=200).partial_fit(LOGITS[7:], Y[7:])
    second = cm.MetaCal(n_pixels=200).partial_fit(LOGITS[:3], Y[:3]).partial_fit(LOGITS[3:7], Y[3:7])
    joined = first.merge(second)
    assert (joined.threshold_, joined.temperature_, joined.nll_) == (
        whole.threshold_,
        whole.temperature_,
        whole.nll_,
    )
    known = whole.transform(LOGITS)
    assert all((a == b).all() for a, b in zip(joined.transform(list(LOGITS)), known, strict=True))
    whole.save(tmp_path / "one.json")
    assert (cm.MetaCal.load(tmp_path / "one.json").transform(LOGITS) == known).all()


def test_what_cannot_be_fitted_is_refused() -> None:
    wrong = np.where(Y == 255, 255, (LOGITS.argmax(axis=1) + 1) % 4)
    with pytest.raises(ValueError, match="gets none of the drawn pixels of half the images right"):
        cm.MetaCal().fit(LOGITS, wrong)
    with pytest.raises(
        ValueError, match=r"no threshold keeps pixels of which 0\.95 are right: the best has 0;"
    ):
        cm.MetaCal(mode="accuracy").fit(LOGITS, wrong)
    with pytest.warns(UserWarning, match=r"likelihood still rises at T = 0\.001"):  # all are right
        sure = cm.MetaCal().fit(LOGITS, np.where(Y == 255, 255, LOGITS.argmax(axis=1)))
    assert sure.unbounded_
    assert sure.temperature_ == pytest.approx(1e-3)
    assert np.isfinite(sure.transform(LOGITS)).all()
