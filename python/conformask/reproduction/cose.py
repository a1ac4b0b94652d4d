"""The protocol of COSE's Tables 1 and 2, run on profiles.

The images are split at random, once for each of ten seeds. One part calibrates lambda by conformal risk control; on the
other part, risk and activation ratio are measured. The authors' scripts search lambda on a mesh that they refine, and
every step sends all calibration images through the network again. A profile gives the exact answer after one pass: here
every image is read once, for all seeds, risk levels and minimum coverages together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask.reproduction.paper import (
    ALPHAS,
    DATASETS,
    PUBLISHED,
    SEEDS,
    Published,
    calibration_ratio,
)

__all__ = [
    "Row",
    "Setting",
    "Source",
    "generic_settings",
    "mesh_search",
    "paper_settings",
    "reproduce",
    "violations",
]


def __dir__() -> list[str]:
    return sorted(__all__)


@dataclass(frozen=True)
class Setting:
    """What one row of the tables asks.

    Attributes
    ----------
    alpha : float
        The risk level.
    tau : float or None
        The minimum coverage of the binary loss; None for miscoverage.
    ratio : float
        The share of the images that calibrates.
    tolerance : float
        Width of the bracket of lambda at which the authors' search would stop.
    published : Published or None
        What the paper printed, if it printed this row.

    See Also
    --------
    paper_settings : The rows of the paper.
    generic_settings : Rows for other data sets.

    Examples
    --------
    >>> from conformask.reproduction import Setting
    >>> Setting(alpha=0.1, tau=0.9).loss
    BinaryLoss(min_coverage=0.9)
    """

    alpha: float
    tau: float | None = None
    ratio: float = 0.5
    tolerance: float = 1e-9
    published: Published | None = None

    @property
    def table(self) -> int:
        """1 for the binary loss, 2 for miscoverage."""
        return 2 if self.tau is None else 1

    @property
    def loss(self) -> cm.MiscoverageLoss | cm.BinaryLoss:
        """The loss."""
        return cm.MiscoverageLoss() if self.tau is None else cm.BinaryLoss(self.tau)


@dataclass(frozen=True)
class Source:
    """Profiles of one model on one data set, and the rows to compute from them.

    Attributes
    ----------
    dataset : str
        Its name, as printed.
    origin : str
        "simulated", or "real" with where the data come from.
    profiles : ScoreProfiles
        With activations counted; with groups, if the images were profiled with them.
    settings : tuple of Setting
        The rows.
    groups : integer array (n,) or None
        If given, whole groups are split, and a group counts once; the profiles must know the same groups.

    See Also
    --------
    conformask.reproduction.sources.choose : The sources that there are.

    Examples
    --------
    See :func:`reproduce`.
    """

    dataset: str
    origin: str
    profiles: cm.ScoreProfiles
    settings: tuple[Setting, ...]
    groups: NDArray[np.integer[Any]] | None = None


@dataclass(frozen=True)
class Row:
    """One row: what each split gave.

    Attributes
    ----------
    dataset, origin : str
        As in :class:`Source`.
    setting : Setting
        What was asked.
    unit : {"image", "group"}
        What was split and counts once.
    n_calibration, n_test : int
        Units that calibrate and that test.
    lambdas, risks : tuple of float
        Lambda-hat and the risk on the test part, split by split.
    activations : tuple of pairs of float
        The ends of the bracket of the activation ratio on the test part, split by split.
    forward_passes : int or None
        How often the authors' scripts would have sent an image through the network for this row, over all splits.

    See Also
    --------
    reproduce : Makes them.
    conformask.reproduction.tables.write_tables : Prints them.

    Examples
    --------
    >>> from conformask.reproduction import Row, Setting
    >>> row = Row("D", "simulated", Setting(0.2), "image", 9, 9, (0.4, 0.5), (0.1, 0.2), ((1.0, 1.5), (2.0, 2.5)))
    >>> print(row, row.risk, row.activation, row.activation_error, row.dagger)
    D, simulated: alpha 0.2 0.15 1.75 0.25 False
    """

    dataset: str
    origin: str
    setting: Setting
    unit: str
    n_calibration: int
    n_test: int
    lambdas: tuple[float, ...]
    risks: tuple[float, ...]
    activations: tuple[tuple[float, float], ...]
    forward_passes: int | None = None

    @property
    def risk(self) -> float:
        """The mean risk over the splits."""
        return math.fsum(self.risks) / len(self.risks)

    @property
    def risk_sd(self) -> float:
        """The standard deviation of the risk over the splits (n - 1 in the denominator)."""
        return float(np.std(self.risks, ddof=1))

    @property
    def standard_error(self) -> float:
        """The standard error of the mean risk.

        It is computed from the splits. Where losses are rare, ten splits may agree by chance; so for a binary loss on
        images it is at least the value that the exact law gives. The number of the m test images that fail at
        lambda-hat is the number of their critical values above the r-th largest of n others, ``r = n + 1 - k``. It is
        beta-binomial with parameters m, r and n + 1 - r.
        """
        observed = self.risk_sd
        if self.setting.tau is not None and self.unit == "image":
            n, m, p = self.n_calibration, self.n_test, float(self._binary_risk)
            observed = max(observed, math.sqrt(p * (1 - p) * (n + 1 + m) / (m * (n + 2))))
        return observed / math.sqrt(len(self.risks))

    @property
    def _binary_risk(self) -> Fraction:
        """``1 - k / (n + 1)`` with ``k = ceil((n + 1) (1 - alpha))``."""
        alpha, n = Fraction(repr(self.setting.alpha)), self.n_calibration
        return 1 - Fraction(math.ceil((n + 1) * (1 - alpha)), n + 1)

    @property
    def activation(self) -> float:
        """The mean activation ratio over the splits, each the middle of its bracket."""
        return math.fsum((lower + upper) / 2 for lower, upper in self.activations) / len(self.activations)

    @property
    def activation_error(self) -> float:
        """The largest possible error of a split's activation ratio: half the width of the widest bracket."""
        return max((upper - lower) / 2 for lower, upper in self.activations)

    @property
    def argmax_splits(self) -> int:
        """The number of splits in which the argmax alone met the risk: lambda-hat was 0."""
        return sum(lam == 0 for lam in self.lambdas)

    @property
    def dagger(self) -> bool:
        """Whether the argmax alone met the risk in all splits."""
        return self.argmax_splits == len(self.lambdas)

    @property
    def bounds(self) -> tuple[float, float]:
        """The range in which the mean risk must lie: that of its expectation, widened by three standard errors.

        A binary loss on images has the expected risk ``1 - k / (n + 1)`` with ``k = ceil((n + 1) (1 - alpha))``. The
        reason: lambda-hat is then the k-th smallest of n critical values, which are exchangeable with that of a test
        image and differ from it. Otherwise the expectation lies between ``alpha - 2 / (n + 1)`` and alpha. Where
        lambda-hat is 0 it cannot fall any further, and only the upper bound is left.

        The lower bounds assume that the losses of images do not jump at the same lambdas: that critical values have no
        ties. Probabilities in floating point hardly have any.
        """
        alpha, n, margin = Fraction(repr(self.setting.alpha)), self.n_calibration, 3 * self.standard_error
        if self.argmax_splits:
            return 0.0, float(alpha) + margin
        if self.setting.tau is not None and self.unit == "image":
            return float(self._binary_risk) - margin, float(self._binary_risk) + margin
        return float(alpha - Fraction(2, n + 1)) - margin, float(alpha) + margin

    def __str__(self) -> str:
        tau = "" if self.setting.tau is None else f", tau {self.setting.tau:g}"
        return f"{self.dataset}, {self.origin}: alpha {self.setting.alpha:g}{tau}"


def paper_settings(dataset: str) -> tuple[Setting, ...]:
    """The rows that the paper prints for a data set.

    Parameters
    ----------
    dataset : {"cityscapes", "ade20k", "loveda"}
        Which.

    Returns
    -------
    tuple of Setting

    See Also
    --------
    generic_settings : Rows for a data set that is not in the paper.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145,
    tables 1 and 2.

    Examples
    --------
    >>> from conformask.reproduction import paper_settings
    >>> [(row.table, row.alpha, row.tau) for row in paper_settings("cityscapes")][-2:]
    [(2, 0.01, None), (2, 0.005, None)]
    """
    binary, miscoverage = DATASETS[dataset].tolerance
    return tuple(
        Setting(
            row.alpha,
            row.tau,
            calibration_ratio(dataset, row.tau),
            miscoverage if row.tau is None else binary,
            row,
        )
        for row in PUBLISHED
        if row.dataset == dataset
    )


def generic_settings(n_images: int) -> tuple[Setting, ...]:
    """Rows for a data set that is not in the paper: those for which half the images are enough.

    Parameters
    ----------
    n_images : int
        How many images there are.

    Returns
    -------
    tuple of Setting

    See Also
    --------
    paper_settings : The rows that the paper prints.

    Examples
    --------
    >>> from conformask.reproduction import generic_settings
    >>> sorted({row.alpha for row in generic_settings(100)})
    [0.05, 0.1, 0.2]
    """
    wanted = [
        *(Setting(alpha, tau) for alpha in (0.1, 0.01) for tau in (0.75, 0.9, 0.95, 0.99)),
        *map(Setting, ALPHAS),
    ]
    return tuple(row for row in wanted if (int(row.ratio * n_images) + 1) * Fraction(repr(row.alpha)) >= 1)


def reproduce(source: Source, *, seeds: Sequence[int] = SEEDS, search: bool = True) -> Iterator[Row]:
    """Run the protocol.

    Images on which the loss is undefined (all void) are left out before the split.

    Parameters
    ----------
    source : Source
        The profiles and the rows wanted.
    seeds : sequence of int, default=101 to 110
        One split each: ``numpy.random.default_rng(seed).permutation``, of which the first
        ``int(ratio * n)`` calibrate.
    search : bool, default=True
        Whether to run the arithmetic of the authors' search too, to count its forward passes (not by group).

    Yields
    ------
    Row

    See Also
    --------
    violations : Compares the rows with theory.
    mesh_search : The authors' search, for comparison.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145.

    Examples
    --------
    >>> from conformask.reproduction import Setting, Source, reproduce
    >>> from conformask.reproduction.simulate import simulated_profiles
    >>> profiles = simulated_profiles("loveda", 100)
    >>> [row] = reproduce(Source("LoveDA", "simulated", profiles, (Setting(alpha=0.1),)))
    >>> abs(row.risk - 0.1) < 0.03
    True
    """
    defined = ~np.isnan(source.profiles.losses(cm.MiscoverageLoss(), 0.0))
    profiles = source.profiles if defined.all() else source.profiles[defined]
    groups = np.arange(len(profiles)) if source.groups is None else source.groups[defined]
    units = np.unique(groups)
    for setting in source.settings:
        n_calibration = int(setting.ratio * len(units))
        lambdas, risks, activations, passes = [], [], [], 0
        for seed in seeds:
            chosen = np.random.default_rng(seed).permutation(units)[:n_calibration]
            calibrates = np.isin(groups, chosen)
            calibration, test = profiles[calibrates], profiles[~calibrates]
            lam = calibration.lambda_hat(setting.loss, setting.alpha)
            lower, upper = test.activation(lam)
            lambdas.append(lam)
            risks.append(test.risk(setting.loss, lam))
            activations.append((lower, upper))
            if search and source.groups is None:
                _, rounds = mesh_search(calibration, setting.loss, setting.alpha, setting.tolerance)
                passes += rounds * len(calibration) + len(test)
        yield Row(
            source.dataset,
            source.origin,
            setting,
            "image" if source.groups is None else "group",
            n_calibration,
            len(units) - n_calibration,
            tuple(lambdas),
            tuple(risks),
            tuple(activations),
            passes if search and source.groups is None else None,
        )


def mesh_search(
    calibration: cm.ScoreProfiles,
    loss: cm.MiscoverageLoss | cm.BinaryLoss,
    alpha: float,
    tolerance: float,
    *,
    n_mesh: int = 10,
    n_rounds: int = 30,
) -> tuple[float, int]:
    """Search lambda as the authors' scripts do, and count the passes over all calibration images.

    First lambda = 0 is tried. Then the bracket, at first [0, 1], is cut into `n_mesh` parts, and the risk is measured
    at all their ends in one pass. The part in which the risk crosses the bound is the next bracket. The search stops
    when the bracket is narrower than `tolerance`. Each pass sends the images through the network again.

    Parameters
    ----------
    calibration : ScoreProfiles
        Images that calibrate.
    loss : MiscoverageLoss or BinaryLoss
        The loss.
    alpha : float
        The risk level.
    tolerance : float
        Width of the bracket at which to stop.
    n_mesh, n_rounds : int
        The number of parts of a bracket, and the largest number of brackets.

    Returns
    -------
    lam : float
        The upper end of the last bracket: at least lambda-hat, by no more than `tolerance`.
    looks : int
        The number of passes over all images.

    See Also
    --------
    conformask.ScoreProfiles.lambda_hat : The exact lambda-hat, without a search.

    Examples
    --------
    >>> import conformask as cm
    >>> from conformask.reproduction import mesh_search
    >>> from conformask.reproduction.simulate import simulated_profiles
    >>> profiles = simulated_profiles("loveda", 30)
    >>> lam, looks = mesh_search(profiles, cm.MiscoverageLoss(), 0.1, tolerance=1e-5)
    >>> 0 <= lam - profiles.lambda_hat("miscoverage", 0.1) <= 1e-5, looks in (6, 7)
    (True, True)
    """
    bound = alpha - (1 - alpha) / len(calibration)
    looks = 1
    if calibration.losses(loss, 0.0).mean() <= bound:
        return 0.0, looks
    low, high = 0.0, 1.0
    for _ in range(n_rounds):
        if high - low < tolerance:
            break
        nodes = np.linspace(low, high, n_mesh + 1)
        meets = calibration.losses(loss, nodes).mean(axis=0) <= bound
        looks += 1
        first = max(int(meets.argmax()), 1)
        low, high = float(nodes[first - 1]), float(nodes[first])
    return high, looks


def violations(rows: Iterable[Row]) -> list[str]:
    """List what must hold, but does not.

    Each mean risk must lie within :attr:`Row.bounds`. Among the rows of one source, the activation ratio must rise as
    alpha falls and as tau rises, unless the argmax suffices for both rows.

    Parameters
    ----------
    rows : iterable of Row
        Rows of any sources.

    Returns
    -------
    list of str
        One sentence each; empty if all holds.

    See Also
    --------
    Row.bounds : Where the mean risk must lie.

    Examples
    --------
    >>> from conformask.reproduction import Row, Setting, violations
    >>> violations([Row("D", "simulated", Setting(0.2), "image", 9, 9, (0.5, 0.5), (0.3, 0.3), ((1, 1), (1, 1)))])
    ['D, simulated: alpha 0.2: the mean risk is 0.30000, not in [0.00000, 0.20000]']
    """
    found, alike = [], defaultdict(list)
    for row in rows:
        lower, upper = row.bounds
        if not lower <= row.risk <= upper:
            found.append(f"{row}: the mean risk is {row.risk:.5f}, not in [{lower:.5f}, {upper:.5f}]")
        alpha, tau = row.setting.alpha, row.setting.tau
        alike[row.dataset, row.origin, "as alpha falls", tau].append((-alpha, row))
        if tau is not None:
            alike[row.dataset, row.origin, "as tau rises", alpha].append((tau, row))
    for (*_, what, _), members in alike.items():
        ordered = [row for _, row in sorted(members, key=lambda member: member[0])]
        found += [
            f"{stricter}: the activation ratio {stricter.activation:.4f} does not rise {what}, "
            f"it is {looser.activation:.4f} before"
            for looser, stricter in pairwise(ordered)
            if not stricter.activation > looser.activation and not (looser.dagger and stricter.dagger)
        ]
    return found
