"""The protocol: random splits, one fit of each scaler, the measures of the test images."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.base import clone

import conformask as cm
from conformask._images import track
from conformask.reproduction._splits import random_split
from conformask.reproduction.selective.outcomes import UNCALIBRATED, ScalerComparison, ScalerOutcome
from conformask.reproduction.selective.sources import Logits

__all__ = ["compare_scalers", "scalers_to_compare"]

_ENSEMBLE = "Ens"
_BINS = 10  # as in the paper's code


def scalers_to_compare() -> dict[str, Any]:
    """Our scalers: those of SELECTIVE's Table 1, and structured scaling, which was published later.

    Returns
    -------
    dict of str to scaler
        Not fitted. The paper's scalers have the paper's names. LogS, logistic scaling, is vector scaling. The paper's
        LTS is a network; "LTS (light)" is :class:`~conformask.LocalTemperatureScaler`.

    See Also
    --------
    compare_scalers : Compares them.

    Examples
    --------
    >>> from conformask.reproduction.selective import scalers_to_compare
    >>> list(scalers_to_compare())[:2]
    ['TempS', 'LogS']
    """
    return {
        "TempS": cm.TemperatureScaler(),
        "LogS": cm.VectorScaler(),
        "DirS": cm.DirichletScaler(),
        "Meta-Cal*": cm.MetaCal(high=100.0),
        "LTS (light)": cm.LocalTemperatureScaler(),
        "Selective": cm.SelectiveScaler(),
        "SVS": cm.StructuredScaler("vector"),
        "SMS": cm.StructuredScaler("matrix"),
        "SMS, argmax kept": cm.StructuredScaler("matrix", decision="argmax"),
        "SMS, order kept": cm.StructuredScaler("matrix", decision="order"),
    }


def compare_scalers(
    source: Logits,
    scalers: Mapping[str, Any] | None = None,
    *,
    test: Logits | None = None,
    n_splits: int = 10,
    n_calibration: int | None = None,
    random_state: int = 0,
    progress: bool | str = "auto",
) -> ScalerComparison:
    """Fit scalers to random halves of images, and measure the calibration on the others.

    Parameters
    ----------
    source : Logits
        Images to split. If they have groups, whole groups are split.
    scalers : dict of str to scaler, or None
        By name; None for :func:`scalers_to_compare`. The softmax, "Uncal", is always compared too, and so is the mean
        of several models, "Ens", if `source` has their logits.
    test : Logits or None, default=None
        Images of another domain. All of them are test images, and none of `source` is.
    n_splits : int, default=10
        How many splits.
    n_calibration : int or None, default=None
        How many images (groups) scalers are fitted to; None for half of them.
    random_state : int >= 0, default=0
        Split s is ``default_rng([random_state, s]).permutation`` of the images (groups), of which the first calibrate.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over splits and methods.

    Returns
    -------
    ScalerComparison

    Raises
    ------
    ValueError
        If there are too few images.

    See Also
    --------
    conformask.metrics.calibration_report : The measures.

    References
    ----------
    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> from conformask.reproduction.selective import Logits, compare_scalers
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0, 2, (30, 3, 16, 16))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> source = Logits("too sure", 3 * logits, y)
    >>> found = compare_scalers(source, {"TempS": cm.TemperatureScaler()}, n_splits=2)
    >>> found.mean("TempS", "ece") < found.mean("Uncal", "ece")
    True
    """
    chosen = scalers_to_compare() if scalers is None else dict(scalers)
    units = source.units()
    n_calibration = len(units) // 2 if n_calibration is None else n_calibration
    most = len(units) - (test is None)  # one at least is left to test on
    if not 1 <= n_calibration <= most:
        raise ValueError(f"n_calibration must be in [1, {most}], got {n_calibration}")
    names = [UNCALIBRATED, *chosen, *([_ENSEMBLE] if source.members is not None else [])]
    jobs = [(split, name) for split in range(n_splits) for name in names]
    outcomes = []
    for split, name in track(jobs, progress, len(jobs), "fit"):
        some, others = random_split(units, n_calibration, random_state, split)
        tested = source.take(others) if test is None else test
        outcomes.append(_outcome(name, split, chosen.get(name), source.take(some), tested))
    title = source.name if test is None else f"{source.name} to {test.name}"
    ordered = sorted(outcomes, key=lambda each: names.index(each.method))
    return ScalerComparison(title, tuple(ordered), source.origin)


def compare_on_network(
    config: str, checkpoint: str, data_root: Path | None, chosen: Mapping[str, Any] | None = None
) -> ScalerComparison:
    """Compare scalers on a network of MMSegmentation: fitted to one half of its validation set, tested on the other."""
    from conformask.integrations.mmseg import scale_dataset

    scalers = {UNCALIBRATED: None, **(scalers_to_compare() if chosen is None else chosen)}
    reports = scale_dataset(config, checkpoint, scalers, data_root=data_root)
    outcomes = [
        _measured(name, 0, scalers[name], None, report.n_images, report, math.nan)
        for name, report in reports.items()
    ]
    name = Path(config).name.removesuffix(".py")
    return ScalerComparison(name, tuple(outcomes), f"real ({name})")


def _outcome(name: str, split: int, scaler: Any, calibration: Logits, test: Logits) -> ScalerOutcome:
    start = time.perf_counter()
    fitted = None
    if scaler is not None:
        fitted = clone(scaler).fit(calibration.logits, calibration.labels, groups=calibration.groups)
    seconds = time.perf_counter() - start if scaler is not None else 0.0
    logits: Any = test.logits
    inputs = "logits"
    if name == _ENSEMBLE:
        logits, inputs = cm.EnsembleAverager().transform(test.members), "probabilities"
    report = cm.metrics.calibration_report(
        test.labels, logits, inputs=inputs, transform=fitted, n_bins=_BINS, groups=test.groups
    )
    return _measured(name, split, scaler, len(calibration.labels), len(test.labels), report, seconds)


def _measured(
    name: str, split: int, scaler: Any, n_calibration: int | None, n_test: int, report: Any, seconds: float
) -> ScalerOutcome:
    return ScalerOutcome(
        name,
        split,
        n_calibration,
        n_test,
        report.ece,
        report.nll,
        report.mean_iou,
        report.accuracy,
        seconds,
        keeps_prediction=scaler is not None and scaler._keeps_prediction,
    )
