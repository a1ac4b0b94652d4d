"""Which risk levels the calibration images reach, and evaluation at several of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import conformask as cm
from conformask._text import plural
from conformask.cli._promise import needed, unit_word
from conformask.control.base import smallest_level
from conformask.losses import as_loss

__all__ = ["evaluated", "has_profiles", "smallest_alpha", "unreached_text"]


def _reaches(calibrator: cm.ConformalRiskCalibrator, alpha: float) -> bool:
    """Whether the calibration images are enough for a level, at least for some class or stratum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            solution = calibrator.recalibrate(alpha=alpha)._current()[1]
        except cm.InfeasibleRiskError:
            return False
    if solution.by is not None and solution.parts:
        return any(not part.is_rare for part in solution.parts)
    return not solution.corrected_risk > alpha


def has_profiles(calibrator: cm.ConformalRiskCalibrator) -> bool:
    """Whether the calibrator has the profiles of the calibration images."""
    try:
        return len(calibrator.profiles_) > 0
    except ValueError:
        return False


def evaluated(
    calibrator: cm.ConformalRiskCalibrator, pairs: Any, alphas: Sequence[float] | None, **given: Any
) -> cm.RiskReport:
    """The report. Alphas that the images do not reach get full sets, or are left out if full sets may be worse."""
    if alphas is not None and not as_loss(calibrator.loss)._is_monotone:  # full sets may be worse
        alphas = [alpha for alpha in alphas if _reaches(calibrator, alpha)]
    elif alphas is not None and not has_profiles(calibrator):
        raise ValueError(
            "--alphas needs the profiles of the calibration images: calibrate without --no-profiles (in Python "
            "calibrator.save(path, profiles=True))"
        )
    elif alphas is not None:
        calibrator.set_params(on_infeasible="full")
    with warnings.catch_warnings():
        # The printed text says at which levels sets are full.
        warnings.simplefilter("ignore", cm.InfeasibleRiskWarning)
        return calibrator.evaluate(pairs, alphas=alphas, **given)


def _unreached(report: cm.RiskReport, asked: Sequence[float]) -> list[float]:
    reached = {each.alpha for each in report.sweep if not each._is_unreached}
    return [alpha for alpha in asked if alpha not in reached]


def smallest_alpha(
    calibrator: cm.ConformalRiskCalibrator, report: cm.RiskReport, asked: Sequence[float]
) -> float | None:
    """The smallest level of three digits that is reached; None if all levels that were asked for are, or none is.

    It is also None for a loss that may rise with lambda. For such a loss the calibration labels decide which levels are
    reached, and a level that is chosen by them has no guarantee. For other losses only the number of images decides.
    """
    unreached = _unreached(report, asked)
    if not unreached or not as_loss(calibrator.loss)._is_monotone:
        return None
    return smallest_level(max(unreached), lambda alpha: _reaches(calibrator, alpha))


def unreached_text(
    calibrator: cm.ConformalRiskCalibrator, report: cm.RiskReport, asked: Sequence[float]
) -> str:
    """Which of the levels that were asked for are not reached, and which is the smallest level that is reached."""
    unit, parts = unit_word(calibrator), calibrator._current()[1].parts
    n = max((part.n_images for part in parts), default=calibrator.n_images_)
    named = []
    for alpha in _unreached(report, asked):
        level = next((each.part_alpha for each in report.sweep if each.alpha == alpha), None) or alpha
        least = needed(calibrator, level)
        named.append(f"{alpha:g} (needs {least})" if least > n else f"{alpha:g}")
    if not named:
        return ""
    smallest = smallest_alpha(calibrator, report, asked)
    is_said = "" if smallest is None else f" The smallest alpha that they reach is {smallest:g}."
    of_each = f" of a {report.by} at most" if report.parts else ""
    return f"Not reached by {plural(n, f'calibration {unit}')}{of_each}: alpha {', '.join(named)}.{is_said}"
