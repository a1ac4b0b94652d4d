"""Meta-Cal: pixels of high entropy are set apart, and the others get one temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from conformask import _core
from conformask._calibrator import Parameter, number, one_of
from conformask._exact import as_fraction, check_alpha
from conformask.scaling._features import ENTROPY
from conformask.scaling._fitted import Told, at_least_0, is_flag, is_positive, is_share
from conformask.scaling._scaler import PARAMETERS, Configuration
from conformask.scaling._temperature import best_temperature, tempered_losses
from conformask.scaling._tempered import (
    Tempered,
    TemperedScaler,
    tempered_solution,
    two_parts,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes
    from conformask.scaling._pixels import PixelSample

__all__ = ["MetaCal"]

# The share of the images that the threshold is found on; the others give the temperature.
_SHARE = 0.5


def _high(value: object) -> str | float:
    if isinstance(value, str):
        if value != "uniform":
            raise ValueError(f"high must be 'uniform' or a temperature, got {value!r}")
        return value
    temperature = as_fraction(value, "high")
    if not 1 <= temperature <= Fraction(10) ** 12:
        raise ValueError(f"high must be 'uniform' or a temperature from 1 to 1e12, got {value!r}")
    return float(temperature)


@dataclass(frozen=True)
class _Configuration(Configuration):
    mode: str
    alpha: Fraction
    high: str | float


class MetaCal(TemperedScaler):
    r"""Makes pixels of high entropy uniform, and divides the logits of the others by one temperature.

    :math:`p = \mathrm{softmax}(z / T)` where the entropy of :math:`\mathrm{softmax}(z)` is at most :math:`\gamma`, and
    :math:`1 / K`, or the softmax with a high temperature, above. The most probable class of a pixel does not change.
    With equal probabilities the classes before it get the next smaller number, so that it stays first. In use, also
    with `transform=`, the scaler computes the entropy of void pixels, too: NaN there is refused. A fit does not use
    void pixels.

    The seed divides the images into two halves. The first half gives the threshold. The pixels of the second half that
    are not above it give the temperature, by the highest likelihood.

    Parameters
    ----------
    mode : {"miscoverage", "accuracy"}, default="miscoverage"
        How the threshold is chosen. "miscoverage": the smallest threshold such that at most a share `alpha` of the
        correctly predicted pixels is above it. "accuracy": the largest threshold such that at least a share
        ``1 - alpha`` of the pixels that are not above it is predicted correctly.
    alpha : float in (0, 1), default=0.05
        The share that `mode` uses.
    high : "uniform" or float from 1 to 1e12, default="uniform"
        The map of pixels above the threshold: the same probability for all classes, as in the original; or a
        temperature, for example 100.
    inputs, ignore_index, n_pixels, random_state, volumes, progress
        As for :class:`TemperatureScaler`. The seed also decides which images give the threshold.

    Attributes
    ----------
    threshold_ : float
        The threshold :math:`\gamma` of the entropy, which uses the natural logarithm.
    temperature_ : float
        The temperature T, between 0.001 and 1000; 1 if no pixel is left for it.
    unbounded_ : bool
        Whether the likelihood still rises at the end of the range of T (see :class:`TemperatureScaler`).
    above_ : float
        The share of the drawn pixels whose entropy is above the threshold.
    nll_ : float
        Mean negative log-likelihood of the drawn pixels, with the map.
    nll_before_ : float
        The same without the map.
    n_images_ : int
        Number of images with labelled pixels.
    n_skipped_ : int
        Number of images that were left out because they have no labelled pixel.
    n_classes_ : int
        The number of classes K.

    See Also
    --------
    SelectiveScaler : Learns which pixels are wrong.

    Notes
    -----
    The property of the threshold holds on average for pixels like those of the first half, and not for a single image.
    The uniform distribution has a log loss of :math:`\log K` at each of its pixels: the loss may be higher than before.

    References
    ----------
    Ma, Blaschko, "Meta-Cal: Well-controlled Post-hoc Calibration by Ranking", ICML 2021, arXiv:2105.03662; there the
    threshold for an accuracy comes from an isotonic regression over 20 bins of entropy.

    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053, where a high temperature takes the place of the uniform distribution.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0, 2, (30, 3, 32, 32))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # labels drawn from the softmax
    >>> scaler = cm.MetaCal(alpha=0.1).fit(2.5 * logits, y)
    >>> probabilities = scaler.transform(2.5 * logits)
    >>> bool((probabilities.argmax(axis=1) == logits.argmax(axis=1)).all())
    True
    """

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "mode": one_of("mode", "miscoverage", "accuracy", stale="result"),
        "alpha": number("alpha", check_alpha, stale="result"),
        "high": Parameter(_high, stale="result"),
        **PARAMETERS,
    }
    _FORMAT = ("MetaCal", 1)
    _TOLD: ClassVar[Told] = {
        "threshold": at_least_0,
        "temperature": is_positive,
        "unbounded": is_flag,
        "above": is_share,
    }

    def __init__(
        self,
        *,
        mode: str = "miscoverage",
        alpha: float = 0.05,
        high: str | float = "uniform",
        inputs: str = "logits",
        ignore_index: int | tuple[int, ...] | None = 255,
        n_pixels: int = 4096,
        random_state: int = 0,
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.mode = mode
        self.alpha = alpha
        self.high = high
        self.inputs = inputs
        self.ignore_index = ignore_index
        self.n_pixels = n_pixels
        self.random_state = random_state
        self.volumes = volumes
        self.progress = progress

    def _find(self, kept: PixelSample, configuration: _Configuration) -> Tempered:
        pixels, values = kept.pixels(configuration.inputs, centred=True), kept.values()
        entropies = self._drawn_features(kept, configuration)[ENTROPY]
        right = values.argmax(axis=1) == pixels.labels
        first = two_parts(pixels, _SHARE, configuration.random_state, "MetaCal")
        threshold = _THRESHOLDS[configuration.mode](
            entropies[first].astype(np.float64), right[first], pixels.weights[first], configuration.alpha
        )
        low = entropies <= threshold
        factor, unbounded = 1.0, False
        if (low & ~first).any():
            found = best_temperature(pixels.only(low & ~first))
            factor, unbounded = found.inverse, found.unbounded
        more = {
            "threshold": threshold,
            "temperature": 1 / factor,
            "unbounded": unbounded,
            "above": float((pixels.weights * ~low).sum()),
        }
        factors = np.where(low, factor, _high_factor(configuration))
        after, before = (
            float((pixels.weights * tempered_losses(pixels, each)[:, 0]).sum())
            for each in (factors, np.ones(len(low)))
        )
        return tempered_solution(kept, configuration, after, before, more=more)

    def _factors(
        self, configuration: _Configuration, fitted: Tempered, features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        low = features[ENTROPY] <= fitted.more["threshold"]
        return np.where(low, 1 / fitted.more["temperature"], _high_factor(configuration)).astype(np.float32)

    @property
    def threshold_(self) -> float:
        """The entropy above which a pixel gets the uniform distribution, or the high temperature."""
        return float(self._told("threshold"))

    @property
    def temperature_(self) -> float:
        """The temperature T of the other pixels."""
        return float(self._told("temperature"))

    @property
    def unbounded_(self) -> bool:
        """Whether the temperature is at the end of its range."""
        return bool(self._told("unbounded"))

    @property
    def above_(self) -> float:
        """The share of the drawn pixels above the threshold."""
        return float(self._told("above"))


def _high_factor(configuration: _Configuration) -> float:
    high = configuration.high
    return 0.0 if isinstance(high, str) else 1 / high


def _by_miscoverage(
    entropies: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64], alpha: Fraction
) -> float:
    """The smallest threshold such that at most a given share of the right pixels is above it."""
    if not right.any():
        raise ValueError("the model gets none of the drawn pixels of half the images right: check X and y")
    budget = alpha * Fraction(float(weights[right].sum()) * (1 + _ROUNDING))
    found = _core.weighted_quantile(entropies[right], weights[right], budget, 0.0)
    assert found is not None  # no budget is below 0
    return found


def _by_accuracy(
    entropies: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64], alpha: Fraction
) -> float:
    """The largest threshold such that the pixels at or below it are right often enough."""
    levels, index = np.unique(entropies, return_inverse=True)
    total, hits = (np.cumsum(np.bincount(index, each, len(levels))) for each in (weights, weights * right))
    enough = np.flatnonzero(hits >= float(1 - alpha) * total * (1 - _ROUNDING))
    if not enough.size:
        best = (hits / total).max()
        raise ValueError(
            f"no threshold keeps pixels of which {float(1 - alpha):.6g} are right: the best has {best:.6g}; raise alpha"
        )
    return float(levels[enough[-1]])


_ROUNDING = 1e-12  # rounding error of summed weights: a share that is met exactly must count as met
_THRESHOLDS = {"miscoverage": _by_miscoverage, "accuracy": _by_accuracy}
