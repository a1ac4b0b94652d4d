"""The protocol: random halves, the same for all methods. Methods that train do so on a part of the calibration half."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone

import conformask as cm
from conformask._images import track
from conformask._text import plural
from conformask._units import unit_means
from conformask.reproduction._splits import random_split
from conformask.reproduction.coat.maps import BinaryMaps
from conformask.reproduction.coat.outcomes import AdaptiveComparison, AdaptiveOutcome
from conformask.reproduction.coat.paper import ALPHAS, N_SPLITS, TEMPERATURES

__all__ = ["compare_adaptive", "methods_to_compare", "temperatures_to_compare"]


def methods_to_compare() -> dict[str, Any]:
    """The methods of COAT's Table 1, some of them on the scale of log-odds too, and CRA, which needs no training.

    Returns
    -------
    dict of str to calibrator
        Not fitted. Methods that train use half of the images that they get for it.

    See Also
    --------
    compare_adaptive : Compares them.
    temperatures_to_compare : Those of Table 2.

    Examples
    --------
    >>> from conformask.reproduction.coat import methods_to_compare
    >>> "COAT" in methods_to_compare()
    True
    """
    return {
        "CRC": cm.BinaryRiskCalibrator(),
        "AA-CRC": cm.AACRCCalibrator(train_fraction=0.5, scale="probability"),
        "AT": cm.ATCalibrator(train_fraction=0.5, scale="probability"),
        "COAT": cm.COATCalibrator(train_fraction=0.5),
        "AA-CRC, log-odds": cm.AACRCCalibrator(train_fraction=0.5),
        "AT, log-odds": cm.ATCalibrator(train_fraction=0.5),
        "CRA": cm.CRACalibrator(),
    }


def temperatures_to_compare() -> dict[str, Any]:
    """COAT at the temperatures of its Table 2.

    Returns
    -------
    dict of str to calibrator
        Not fitted.

    See Also
    --------
    compare_adaptive : Compares them.

    Examples
    --------
    >>> from conformask.reproduction.coat import temperatures_to_compare
    >>> list(temperatures_to_compare())[:2]
    ['T = 100', 'T = 10']
    """
    return {f"T = {t:g}": cm.COATCalibrator(temperature=t, train_fraction=0.5) for t in TEMPERATURES}


def compare_adaptive(
    source: BinaryMaps,
    methods: Mapping[str, Any] | None = None,
    *,
    alphas: Sequence[float] = ALPHAS,
    n_splits: int = N_SPLITS,
    random_state: int = 0,
    progress: bool | str = "auto",
) -> AdaptiveComparison:
    """Calibrate binary masks on random halves of images, and measure how they cover the objects of the others.

    Images without a foreground are left out before the split: coverage is undefined there, and the methods promise
    something only about images that have one. Plain CRC and CRA use the whole calibration half. AA-CRC, AT and COAT
    train on a part of it (`train_fraction`), the same for all three, and correct on the rest.

    Parameters
    ----------
    source : BinaryMaps
        Images to split. If they have groups, whole groups are split, and each group counts once.
    methods : dict of str to calibrator, or None
        Calibrators of binary masks, by name; None for :func:`methods_to_compare`. Their alpha and `random_state` are
        set here.
    alphas : sequence of float, default=(0.1, 0.2)
        Risk levels.
    n_splits : int, default=20
        How many splits.
    random_state : int >= 0, default=0
        Split s is ``default_rng([random_state, s]).permutation`` of the images (groups), of which the first half,
        rounded down, calibrates. The random numbers that a method draws itself follow from both numbers, too.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over splits, risk levels and methods.

    Returns
    -------
    AdaptiveComparison

    Raises
    ------
    InfeasibleRiskError
        If some method has too few images for some alpha.
    ValueError
        If there are too few images to split, or an argument is out of range.

    See Also
    --------
    conformask.plotting.plot_gap : Draws the result: ``plot_gap(found.reports(0.1))``.

    References
    ----------
    "Enhancing Image-Conditional Coverage in Segmentation: Adaptive Thresholding via Differentiable Miscoverage Loss",
    under review in 2026: appendix A.3.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.reproduction.coat import BinaryMaps, compare_adaptive
    >>> rng = np.random.default_rng(0)
    >>> hardness = rng.choice([1.0, 4.0], (200, 1, 1))  # in some images the object is hard to see
    >>> maps = BinaryMaps("two kinds", rng.beta(hardness, 1, (200, 12, 12)), np.ones((200, 12, 12), bool))
    >>> found = compare_adaptive(maps, alphas=(0.2,), n_splits=2)
    >>> found.mean("COAT", 0.2, "coverage_gap") < found.mean("CRC", 0.2, "coverage_gap")
    True
    >>> found.violations()
    []
    """
    chosen = methods_to_compare() if methods is None else dict(methods)
    levels = [float(alpha) for alpha in alphas]
    if not chosen or not levels:
        raise ValueError("methods and alphas must hold one at least")
    if n_splits < 1:
        raise ValueError(f"n_splits must be at least 1, got {n_splits}")
    kept = source.with_foreground()
    unit = "image" if source.groups is None else "group"
    if len(kept.units()) < 2:
        raise ValueError(
            f"{source.name}: {plural(len(kept.units()), unit)} with a foreground cannot be split in two"
        )
    total = n_splits * len(levels) * len(chosen)
    outcomes = track(_outcomes(kept, chosen, levels, n_splits, random_state), progress, total, "fit")
    ordered = sorted(outcomes, key=lambda each: (levels.index(each.alpha), [*chosen].index(each.method)))
    n_empty = len(source) - len(kept)
    return AdaptiveComparison(source.name, tuple(ordered), unit, n_empty, source.origin)


def _outcomes(
    source: BinaryMaps, methods: Mapping[str, Any], alphas: Sequence[float], n_splits: int, random_state: int
) -> Iterator[AdaptiveOutcome]:
    units = source.units()
    n_calibration = len(units) // 2
    for split in range(n_splits):
        some, others = random_split(units, n_calibration, random_state, split)
        calibration, test = source.take(some), source.take(others)
        seed = int(np.random.SeedSequence([random_state, split]).generate_state(1)[0])
        for alpha in alphas:
            for name, method in methods.items():
                calibrator = clone(method).set_params(alpha=alpha)
                if "random_state" in calibrator.get_params():
                    calibrator.set_params(random_state=seed)
                start = time.perf_counter()
                calibrator.fit(calibration.probabilities, calibration.masks, **_besides(calibration, method))
                seconds = time.perf_counter() - start
                report = calibrator.evaluate(test.probabilities, test.masks, **_besides(test, method))
                scatter = float(np.std(unit_means(report.coverages, test.groups), ddof=1))
                n_test = len(units) - n_calibration
                yield AdaptiveOutcome(name, alpha, split, n_calibration, n_test, seconds, scatter, report)


def _besides(maps: BinaryMaps, method: Any) -> dict[str, Any]:
    """The arguments that a method takes besides probabilities and masks."""
    found = {"groups": maps.groups}
    if maps.images is not None and "predictor" in method.get_params():
        found["images"] = maps.images
    return found
