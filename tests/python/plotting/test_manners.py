"""What all plots keep: refusals, titles, Matplotlib left alone."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt
from sklearn.exceptions import NotFittedError

import conformask as cm
from conformask.plotting import (
    plot_alpha_sweep,
    plot_class_risk,
    plot_components,
    plot_margins,
    plot_mask_panels,
    plot_masks,
    plot_may_be,
    plot_required_images,
    plot_risk_curve,
    plot_samples,
    plot_varisco,
)
from drawn import IMAGE, LAMBDAS, MASK, RISKS, SAMPLES, SIZES, consign_set, legend_texts
from problems import wide


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: plot_components(cm.ConsignCalibrator()),
            "consign_set must be a ConsignSet, as calibrator.pred",
        ),
        (lambda: plot_samples(consign_set()), r"samples must be label maps, as sample\(m\) of a ConsignSet"),
        (lambda: plot_risk_curve(MASK), r"calibrator_or_curve must be .* got a ndarray"),
        (lambda: plot_varisco(SIZES, calibrator=0.1), "calibrator must be a fitted calibrator.* got a float"),
        (lambda: plot_masks(MASK, calibrator=MASK), "calibrator must be a fitted calibrator.* got a ndarray"),
        (lambda: plot_masks(MASK, class_names=["a", 1, "c"]), "class_names must be strings, got 1"),
        (lambda: plot_masks(MASK, class_names="abc"), "class_names must be a sequence"),
        (lambda: plot_masks(MASK, background=0.5), "background must be given by index or name"),
    ],
)
def test_what_is_not_of_its_kind_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_titles_tell_alpha_and_lambda_hat(calibrator: cm.ConformalRiskCalibrator) -> None:
    level = rf"$\alpha$ = 0.1, $\hat\lambda$ = {calibrator.lambda_hat_:.6g}"
    pictures = (
        plot_varisco(SIZES, calibrator=calibrator),
        plot_masks(MASK, calibrator=calibrator),
        plot_may_be(MASK, 1, calibrator=calibrator),
    )
    assert [ax.get_title().split("\n")[1] for ax in pictures] == [level] * 3
    plot_mask_panels(MASK, calibrator=calibrator)
    assert plt.gcf().get_suptitle().split("\n")[1] == level
    with pytest.raises(NotFittedError):
        plot_varisco(SIZES, calibrator=cm.ConformalRiskCalibrator())


@pytest.mark.parametrize(
    ("lam", "text"),
    [(0.5, "0.5"), (1.0, "1"), (0.9999995, "1 - 5.0e-07"), (1 - 2e-9, "1 - 2.0e-09"), (1.25, "1.25")],
)
def test_a_lambda_close_to_one_is_not_one(lam: float, text: str) -> None:
    title = plot_varisco(SIZES, calibrator=SimpleNamespace(alpha=0.1, lambda_hat_=lam)).get_title()
    assert title.endswith(f"= {text}")


def test_alpha_may_be_a_fraction() -> None:
    problem = wide(n=40)
    fitted = cm.ConformalRiskCalibrator(alpha=Fraction(1, 10)).fit(problem.X, problem.y)
    report = fitted.evaluate(problem.X, problem.y, alphas=[Fraction(1, 5), 0.1])
    pictures = (
        plot_varisco(SIZES, calibrator=fitted),
        plot_masks(MASK, calibrator=fitted),
        plot_may_be(MASK, 1, calibrator=fitted),
        plot_class_risk(report),
    )
    assert all(r"$\alpha$ = 0.1, " in ax.get_title() for ax in pictures)
    plot_mask_panels(MASK, calibrator=fitted)
    assert r"$\alpha$ = 0.1, " in plt.gcf().get_suptitle()
    assert plot_alpha_sweep(report)[0].get_lines()[1].get_xdata().tolist() == [0.1, 0.2]
    for alpha in (None, 0.1, Fraction(1, 10)):
        texts = legend_texts(plot_risk_curve(fitted, alpha=alpha))
        assert texts[1:3] == [r"$\alpha$ = 0.1", r"$\alpha - (1 - \alpha)/n$ = 0.0775, n = 40 images"]
        assert texts[3].startswith(r"$\hat\lambda$ = ")
    bare = plot_risk_curve((LAMBDAS, RISKS), alpha=Fraction(1, 10), n_images=40)
    assert legend_texts(bare)[1:] == [r"$\alpha$ = 0.1", r"$\alpha - (1 - \alpha)/n$ = 0.0775, n = 40"]


def test_plotting_leaves_matplotlibs_settings_alone() -> None:
    plt.figure()  # pyplot's own first use resolves the backend
    with mpl.rc_context():
        mpl.rcdefaults()
        before = mpl.rcParams.copy()
        plot_varisco(SIZES, IMAGE)
        plot_masks(MASK)
        plot_mask_panels(MASK)
        plot_may_be(MASK, 0)
        plot_margins(MASK[0], outer=MASK[0])
        plot_samples(SAMPLES)
        plot_components(consign_set())
        plot_risk_curve((LAMBDAS, RISKS), alpha=0.2, xscale="log")
        plot_required_images()
        assert mpl.rcParams.copy() == before


WITHOUT_MATPLOTLIB = """
import sys
from conformask import plotting
assert "matplotlib" not in sys.modules, "imported too early"
sys.modules["matplotlib"] = None
for call in (
    lambda: plotting.plot_varisco([[1]]),
    lambda: plotting.plot_masks([[[True]]]),
    lambda: plotting.plot_mask_panels([[[True]]]),
    lambda: plotting.plot_may_be([[[True]]], 0),
    lambda: plotting.plot_margins([[True]], outer=[[True]]),
    lambda: plotting.plot_may_be([[[True]]], 0, palette=[(0, 0, 0)]),
    lambda: plotting.plot_samples([[[1]]]),
    lambda: plotting.plot_risk_curve(([0.0], [0.0])),
    lambda: plotting.plot_required_images(),
):
    try:
        call()
    except ImportError as error:
        assert "pip install conformask[plot]" in str(error), error
    else:
        raise AssertionError("no ImportError")
"""


def test_matplotlib_is_asked_for_only_when_drawing() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_MATPLOTLIB], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
