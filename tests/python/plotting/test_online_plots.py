"""Pictures of streams show the very numbers, where sets do not change, and what was promised."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

import conformask as cm
from conformask.plotting import plot_alarm, plot_online
from conformask.plotting._palette import RED
from drawn import legend_texts

RNG = np.random.default_rng(0)


def controller(n: int = 120, **parameters: object) -> cm.OnlineRiskController:
    fed = cm.OnlineRiskController(**{"initial": 0.5, "alpha": 0.2, **parameters})
    rng = np.random.default_rng(1)
    for _ in range(n):
        fed.update(float(rng.random() < 0.9 - fed.lambda_hat_))
    return fed


def alarm(n: int = 50, **parameters: object) -> cm.DriftAlarm:
    fed = cm.DriftAlarm("risk", **parameters)
    fed.update([0.0] * n + [1.0] * 20)
    return fed


def test_lambda_and_losses_are_those_of_the_history() -> None:
    fed = controller()
    history = fed.history_
    above, below = plot_online(fed)
    (path,) = above.get_lines()
    assert path.get_drawstyle() == "steps-post", "lambda is in force until the next update"
    assert path.get_xdata().tolist() == list(range(121))
    assert path.get_ydata().tolist() == [0.5, *history.lambdas]
    points, means, alpha, bound = below.get_lines()
    assert points.get_ydata().tolist() == history.losses.tolist()
    assert alpha.is_dashed()
    assert alpha.get_color() == RED != bound.get_color()
    assert means.get_ydata().tolist() == history.mean_losses.tolist()
    assert alpha.get_ydata()[0] == 0.2
    assert bound.get_ydata()[-1] == fed.risk_bound_
    assert (np.diff(bound.get_ydata()) <= 0).all()
    assert (means.get_ydata() <= bound.get_ydata()).all()
    assert above.get_xlim() == below.get_xlim() == (0, 120)
    assert above.get_title().endswith("$\\alpha$ = 0.2, $\\gamma$ = 0.05")
    assert legend_texts(below) == [
        "loss of an image",
        f"mean of all losses, now {fed.mean_loss_:.3g}",
        "$\\alpha$ = 0.2",
        f"bound, now {fed.risk_bound_:.3g}",
    ]


def test_the_bound_on_the_way_is_that_of_then() -> None:
    fed, known = cm.OnlineRiskController(initial=0.5, step=2.0), []
    for _ in range(60):
        known.append(fed.update(0.0).risk_bound_)
    assert plot_online(fed)[1].get_lines()[-1].get_ydata().tolist() == pytest.approx(known)


def test_losses_beyond_the_picture_are_seen_at_its_edge() -> None:
    fed = controller(300, alpha=0.05)
    history = fed.history_
    _, below = plot_online(fed)
    points, higher, *_ = below.get_lines()
    is_one = history.losses == 1
    assert points.get_xydata().tolist() == [[t, 0] for t in history.updates[~is_one]]
    assert higher.get_xdata().tolist() == history.updates[is_one].tolist()
    assert set(higher.get_ydata()) == {below.get_ylim()[1]}
    assert higher.get_marker() == "^"
    assert not points.get_clip_on(), "0 lies on the axis"
    assert not higher.get_clip_on()
    assert legend_texts(below)[:2] == ["loss of an image", "higher, up to 1"]


def test_losses_that_the_picture_can_hold_are_not_cut() -> None:
    fed = cm.OnlineRiskController(initial=0.5, alpha=0.2).update(np.tile([0.1, 0.4], 30))
    _, below = plot_online(fed)
    assert below.get_lines()[0].get_ydata().tolist() == 30 * [0.1, 0.4]
    assert below.get_ylim()[1] > 0.4
    assert not any("higher" in text for text in legend_texts(below))


def test_of_many_losses_the_means_of_blocks_are_drawn() -> None:
    losses = np.random.default_rng(0).random(1234)
    _, below = plot_online(cm.OnlineRiskController(initial=0.5).update(losses))
    assert legend_texts(below)[0] == "mean of 13 losses"
    blocks = [losses[i : i + 13] for i in range(0, 1234, 13)]
    points = below.get_lines()[0]
    np.testing.assert_allclose(points.get_ydata(), [block.mean() for block in blocks])
    assert points.get_xdata()[0] == 7
    assert points.get_xdata()[-1] == 1234 - (len(blocks[-1]) - 1) / 2


def test_words_of_shades_touch_no_path() -> None:
    for losses in (np.tile([1.0, 0.0], 30), np.zeros(300), np.ones(8)):
        for size in ((6.4, 5.2), (4.0, 4.0)):
            fed = cm.OnlineRiskController(initial=0.3, alpha=0.3, step=0.2).update(losses)
            figure, axes = plt.subplots(2, figsize=size, layout="constrained")
            above, _ = plot_online(fed, axes=axes)
            figure.canvas.draw()
            (path,) = above.get_lines()
            _, low, _, high = path.get_window_extent().extents
            assert above.texts
            for text in above.texts:
                box = text.get_window_extent()
                assert box.y1 < low or box.y0 > high
                assert above.bbox.y0 <= box.y0 < box.y1 <= above.bbox.y1


def test_updates_are_whole_numbers() -> None:
    for n in (1, 2, 3, 7):
        watch = cm.DriftAlarm("risk")
        watch.update([0.0] * n)
        fed = cm.OnlineRiskController(initial=0.5).update(np.zeros(n))
        for ax in (*plot_online(fed), plot_alarm(watch)):
            ticks = ax.get_xticks()
            assert np.array_equal(ticks, np.round(ticks))


def test_it_is_shaded_where_sets_do_not_change() -> None:
    def words(fed: cm.OnlineRiskController) -> list[str]:
        above, _ = plot_online(fed)
        assert len(above.patches) == len(above.texts)
        return [text.get_text() for text in above.texts]

    assert words(controller(5)) == []
    sunk = controller(5)
    for _ in range(400):
        sunk.update(0.0)
    assert sunk.drift_ > 1
    assert words(sunk) == ["smallest sets"]
    assert words(cm.OnlineRiskController(initial=0.99).update(1.0)) == ["full sets"]
    assert words(cm.OnlineRiskController(initial=0.01, step=2.0).update([0.0, 1.0])) == [
        "smallest sets",
        "full sets",
    ]


def test_of_a_long_stream_the_last_updates_are_drawn() -> None:
    fed = controller(120, history=30, decay=0.6, step=1)
    above, below = plot_online(fed)
    assert above.get_lines()[0].get_xdata().tolist() == list(range(91, 121))
    assert above.get_xlim() == (91, 120)
    assert "t^{-0.6}" in above.get_title()
    many = cm.OnlineRiskController(initial=0.5).update(np.zeros(3000))
    assert "loss of an image" not in legend_texts(plot_online(many)[1]), "points would be a blot"
    (means,) = (line for line in below.get_lines() if str(line.get_label()).startswith("mean of all losses"))
    assert means.get_ydata()[-1] == pytest.approx(fed.mean_loss_)


def test_the_martingale_is_that_of_the_path() -> None:
    fed = alarm(bet=1)
    ax = plot_alarm(fed)
    line, level, point, *_ = ax.get_lines()
    np.testing.assert_allclose(line.get_ydata(), np.r_[0, fed.path_] / math.log(10))
    assert line.get_xdata().tolist() == list(range(71))
    assert level.get_ydata()[0] == pytest.approx(math.log10(20))
    assert point.get_xdata().tolist() == [fed.alarm_time_]
    assert line.get_ydata()[fed.alarm_time_] == point.get_ydata()[0] >= level.get_ydata()[0]
    assert legend_texts(ax)[1:] == [r"$1/\delta$ = 20", f"alarm at update {fed.alarm_time_}"]
    assert ax.get_title() == (
        "Evidence against a mean loss within $\\alpha$ = 0.1\nfalse alarm with probability 0.05 at most"
    )
    ax.figure.canvas.draw()
    assert "$10^{0}$" in [label.get_text() for label in ax.get_yticklabels()]


def test_alarms_that_are_silent_or_long_ago() -> None:
    silent = cm.DriftAlarm()
    silent.update(RNG.random(40))
    assert legend_texts(plot_alarm(silent))[1:] == [r"$1/\delta$ = 20"]
    fed = alarm(0, bet=1, history=10)
    assert plot_alarm(fed).get_lines()[0].get_xdata().tolist() == list(range(11, 21))
    assert legend_texts(plot_alarm(fed))[2] == "alarm at update 5, 15 updates ago"
    lost = cm.DriftAlarm("risk", bet=10)
    lost.update([0.0, 0.0])
    ax = plot_alarm(lost)
    assert legend_texts(ax)[0] == "martingale, now 0"
    assert np.isfinite(ax.get_ylim()).all()
    large = cm.DriftAlarm("risk", bet=10)
    large.update([1.0] * 1000)
    assert legend_texts(plot_alarm(large))[0] == "martingale, now $10^{1e+03}$"


def test_nothing_yet_is_said() -> None:
    for axes in (plot_online(cm.OnlineRiskController()), [plot_alarm(cm.DriftAlarm())]):
        for ax in axes:
            assert [text.get_text() for text in ax.texts] == ["no update yet"]
            assert not ax.get_lines()


def test_given_axes_are_drawn_on() -> None:
    figure, axes = plt.subplots(3, 1, figsize=(3.5, 6), layout="constrained")
    assert [*plot_online(controller(), axes=axes)] == [*axes[:2]]
    assert plot_alarm(alarm(), ax=axes[2]) is axes[2]
    figure.canvas.draw()
    for ax in axes[1:]:
        legend = ax.get_legend().get_window_extent()
        assert legend.y1 < ax.xaxis.label.get_window_extent().y0
    with pytest.raises(ValueError, match="axes must be two, for lambda and for the mean loss, got 1"):
        plot_online(controller(), axes=axes[:1])


def test_what_is_not_of_its_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="controller must be an OnlineRiskController, got a DriftAlarm"):
        plot_online(cm.DriftAlarm())
    with pytest.raises(TypeError, match="alarm must be a DriftAlarm, got a ndarray"):
        plot_alarm(np.zeros(3))
    with pytest.raises(TypeError, match="axes must hold matplotlib Axes"):
        plot_online(controller(), axes=[1, 2])


def test_settings_are_left_alone() -> None:
    plt.figure()
    with mpl.rc_context():
        mpl.rcdefaults()
        before = mpl.rcParams.copy()
        plot_online(controller(5))
        plot_alarm(alarm(5))
        assert mpl.rcParams.copy() == before
