"""Selective scaling: a classifier finds pixels that are probably wrong, which get another temperature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from scipy import special

from conformask import _core
from conformask._calibrator import Parameter, number, one_of
from conformask._exact import as_fraction
from conformask._text import shown
from conformask._warnings import warn_caller
from conformask.scaling._base_scaler import (
    base_document,
    base_from_document,
    check_base,
    fitted_base,
    keeps_prediction,
    knows_classes,
    looks_around,
)
from conformask.scaling._features import NAMES, as_image
from conformask.scaling._fitted import Told, is_positive, is_share
from conformask.scaling._pixels import LEAST
from conformask.scaling._scaler import PARAMETERS, Configuration, Scaler
from conformask.scaling._selector import layer_shapes, probabilities_of_right, train
from conformask.scaling._temperature import tempered_losses
from conformask.scaling._tempered import (
    Tempered,
    TemperedScaler,
    identity_map,
    tempered_solution,
    two_parts,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes
    from conformask.scaling._pixels import Pixels, PixelSample

__all__ = ["SelectiveScaler"]

# The share of the images that trains the classifier; the others choose the temperatures.
_SHARE = 2 / 3
# Temperatures to choose from; of equally good ones, the first is taken.
_HIGH = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 1e2, 1e4)
_LOW = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
# The meaning of the last of them.
_AT_THE_END = {
    "T1": "Pixels that are taken for wrong get almost the same probability for all classes",
    "T2": "The model may be less sure of the others than it should be by even more",
}
_N_BINS = 15


def _check_hidden(value: Any) -> tuple[int, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"hidden must be a sequence of whole numbers, got {shown(value)}")
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in value)
    if not whole or not all(1 <= n <= 4096 for n in value):
        raise ValueError(f"hidden must hold whole numbers from 1 to 4096, got {shown(value)}")
    return tuple(map(int, value))


def _temperature(name: str) -> Parameter:
    def check(value: Any) -> str | float:
        if isinstance(value, str):
            if value != "auto":
                raise ValueError(f"{name} must be 'auto' or a temperature, got {value!r}")
            return value
        if not 1e-3 <= as_fraction(value, name) <= 1e12:
            raise ValueError(f"{name} must be 'auto' or a temperature from 0.001 to 1e12, got {value!r}")
        return float(value)

    return Parameter(check, stale="result")


def _check_threshold(value: Any) -> float:
    if not 0 <= as_fraction(value, "threshold") <= 1:
        raise ValueError(f"threshold must be in [0, 1], got {shown(value)}")
    return float(value)


@dataclass(frozen=True)
class _Configuration(Configuration):
    features: str
    hidden: tuple[int, ...]
    T1: str | float
    T2: str | float
    threshold: float
    base: Any
    blend: bool
    objective: str


@dataclass(frozen=True, eq=False)
class _Selective(Tempered):
    """The results, with the scaler that they build on."""

    base: Scaler | None = None

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "base": base_document(self.base)}


class SelectiveScaler(TemperedScaler):
    r"""Smooths the pixels that a classifier takes for wrong, and sharpens the others or leaves them unchanged.

    A classifier, the selector, estimates for each pixel the probability r that its most probable class is right. Where
    r is below a threshold, :math:`p = \mathrm{softmax}(z / T_1)`; elsewhere :math:`\mathrm{softmax}(z / T_2)`. With
    `blend`, :math:`p = r \, \mathrm{softmax}(z / T_2) + (1 - r) \, \mathrm{softmax}(z / T_1)`. The most probable class
    of a pixel stays that of the `base`, or of the logits without one, also at temperatures at which float32 rounds all
    probabilities to equal ones. The bases "vector", "dirichlet" and a free :class:`StructuredScaler` may change it.

    Two thirds of the images (groups), drawn by the seed, train the selector. The other images are used to choose the
    temperatures, and to measure the selector's recall and precision and the losses.

    Parameters
    ----------
    features : {"shape", "probs"}, default="shape"
        The features of a pixel that the selector gets. "shape": ten numbers that do not depend on the order of the
        classes (entropy, margin, the five largest probabilities, agreement and mean entropy of the 5 x 5 window,
        distance to the nearest pixel of another class); void pixels are part of the surroundings. "probs": the
        logarithms of all probabilities, as in the paper. In use, also with `transform=`, NaN at void pixels is refused;
        with "shape" also in a fit.
    hidden : sequence of ints, default=(16,)
        Widths of the selector's hidden layers; () is logistic regression.
    T1 : "auto" or float from 0.001 to 1e12, default="auto"
        The temperature of pixels that are taken for wrong; "auto" chooses from 1, 1.25, 1.5, 2, 3, 5, 10, 100, 10000.
    T2 : "auto" or float from 0.001 to 1e12, default="auto"
        The temperature of the other pixels; "auto" chooses from 1, 0.9, 0.8, 0.7, 0.6, 0.5. The paper takes 1. If the
        last of the temperatures is the best, `fit` warns.
    threshold : float in [0, 1], default=0.5
        Pixels are taken for wrong if the probability r that they are right is below it.
    base : None, scaler or {"temperature", "vector", "dirichlet"}, default=None
        A scaler that is applied first: its logits are divided by the temperatures, while the selector sees the raw
        probabilities. A scaler that is already fitted, or was loaded, is used as it is; any other scaler, or one given
        by its name, is fitted to the same images.
    blend : bool, default=False
        Whether to blend both temperatures by r, instead of choosing one.
    objective : {"nll", "ece_image"}, default="nll"
        The criterion that "auto" temperatures minimise: the mean negative log-likelihood, or the mean over images
        (groups) of the expected calibration error in 15 bins.
    inputs, ignore_index, n_pixels, random_state, volumes, progress
        As for :class:`TemperatureScaler`. The seed also decides which images train the selector, and its first weights.

    Attributes
    ----------
    T1_ : float
        The temperature :math:`T_1`.
    T2_ : float
        The temperature :math:`T_2`.
    selector_recall_ : float
        The share of the wrong pixels that the selector takes for wrong, on images that it was not trained on; NaN if no
        pixel is wrong.
    selector_precision_ : float
        The share of the pixels taken for wrong that are wrong, on the same images; NaN if no pixel is taken for wrong.
    nll_ : float
        Mean negative log-likelihood of the drawn pixels of those images, with the map.
    nll_before_ : float
        The same without the map and without `base`.
    n_images_ : int
        Number of images with labelled pixels.
    n_skipped_ : int
        Number of images that were left out because they have no labelled pixel.
    n_classes_ : int
        The number of classes K.

    See Also
    --------
    MetaCal : Selects pixels by their entropy.
    LocalTemperatureScaler : Finds a temperature that changes smoothly.

    Notes
    -----
    If a share q of the pixels that are taken for wrong is wrong, their best confidence is :math:`1 - q`. A very high
    :math:`T_1` gives 1 / K, which helps only if :math:`1 - q` is near 1 / K. "auto" may choose 1, which changes
    nothing.

    If images have padding or nodata, fit with equal numbers there, ``np.where(valid[:, np.newaxis], X, 1 / K)``, where
    `valid` is True at pixels with data, and with void labels. With this scaler as `transform`, ``fit(X, y, valid=)``
    and ``predict(X, valid=)`` of :class:`~conformask.ConformalRiskCalibrator` treat images in the same way.

    References
    ----------
    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0, 2, (30, 3, 32, 32))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # labels drawn from the softmax
    >>> scaler = cm.SelectiveScaler(hidden=()).fit(2.5 * logits, y)  # too confident, most of all where it is wrong
    >>> scaler.nll_ < scaler.nll_before_
    True
    >>> probabilities = scaler.transform(2.5 * logits)
    """

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "features": one_of("features", "shape", "probs", stale="images"),
        "hidden": Parameter(_check_hidden, "result", from_json=lambda value: _check_hidden(value)),
        "T1": _temperature("T1"),
        "T2": _temperature("T2"),
        "threshold": number("threshold", _check_threshold, stale="result"),
        "base": Parameter(check_base, "images", base_document, base_from_document),
        "blend": one_of("blend", True, False, stale="result"),
        "objective": one_of("objective", "nll", "ece_image", stale="result"),
        **PARAMETERS,
    }
    _FORMAT = ("SelectiveScaler", 1)
    _TOLD: ClassVar[Told] = {
        "T1": is_positive,
        "T2": is_positive,
        "selector_recall": is_share,
        "selector_precision": is_share,
    }

    def __init__(
        self,
        *,
        features: str = "shape",
        hidden: Sequence[int] = (16,),
        T1: str | float = "auto",
        T2: str | float = "auto",
        threshold: float = 0.5,
        base: Any = None,
        blend: bool = False,
        objective: str = "nll",
        inputs: str = "logits",
        ignore_index: int | tuple[int, ...] | None = 255,
        n_pixels: int = 4096,
        random_state: int = 0,
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.features = features
        self.hidden = hidden
        self.T1 = T1
        self.T2 = T2
        self.threshold = threshold
        self.base = base
        self.blend = blend
        self.objective = objective
        self.inputs = inputs
        self.ignore_index = ignore_index
        self.n_pixels = n_pixels
        self.random_state = random_state
        self.volumes = volumes
        self.progress = progress

    def _looks_around(self, configuration: _Configuration) -> bool:
        return configuration.features == "shape" or looks_around(configuration.base)

    def _knows_classes(self, configuration: _Configuration) -> bool:
        return knows_classes(configuration.base)

    @property
    def _keeps_prediction(self) -> bool:
        return keeps_prediction(check_base(self.base))

    @classmethod
    def _shapes(cls, configuration: _Configuration, n_classes: int) -> Mapping[str, tuple[int, ...]]:
        n_features = len(NAMES) if configuration.features == "shape" else n_classes
        return layer_shapes(n_features, configuration.hidden)

    # Fit

    def _find(self, kept: PixelSample, configuration: _Configuration) -> _Selective:
        pixels, values = kept.pixels(configuration.inputs, centred=True), kept.values()
        base = fitted_base(configuration.base, kept, configuration)
        seen = self._drawn_features(kept, configuration)
        right = values.argmax(axis=1) == pixels.labels
        train_on = two_parts(pixels, _SHARE, configuration.random_state, "SelectiveScaler")
        arrays = train(
            *(seen[:, train_on], right[train_on], configuration.hidden, configuration.random_state)
        )
        held = ~train_on
        held_pixels, wrong = pixels.only(held), ~right[held]
        shares = probabilities_of_right(arrays, np.ascontiguousarray(seen[:, held]))
        weights = held_pixels.weights
        flagged = shares < configuration.threshold
        logits = pixels.features if base is None else base._logits(kept, *base._current())
        logits = np.ascontiguousarray(logits[:, held])
        choice = _choose(replace(held_pixels, features=logits, is_centred=False), shares, configuration)
        before = tempered_losses(held_pixels, np.ones(len(weights)))[:, 0]
        more = {
            "T1": choice.T1,
            "T2": choice.T2,
            "selector_recall": _ratio(weights[flagged & wrong].sum(), weights[wrong].sum()),
            "selector_precision": _ratio(weights[flagged & wrong].sum(), weights[flagged].sum()),
        }
        known = tempered_solution(
            *(kept, configuration, choice.nll, float((weights * before).sum())), more=more, arrays=arrays
        )
        return _with_base(known, base)

    def _warn(self, kept: PixelSample, solution: Any) -> None:
        super()._warn(kept, solution)
        if solution.base is not None and solution.base._current()[1].more.get("unbounded"):
            return  # the base has already warned: here no temperature is the best, either
        found = solution.configuration
        ends = [
            (name, choices[-1])
            for name, choices in {"T1": _HIGH, "T2": _LOW}.items()
            if isinstance(getattr(found, name), str) and solution.more[name] == choices[-1]
        ]
        if ends:
            _warn_of_ends(ends, has_base=solution.base is not None)

    # Use

    def _base(self, configuration: Any, fitted: Any, scores: NDArray[Any], first: int) -> _core.ScalerMap:
        base = fitted.base
        if base is None:
            return identity_map(configuration)
        found: _core.ScalerMap = base._kernel(*base._current(), scores, first)
        return found

    def _factors(self, configuration: Any, fitted: Any, features: NDArray[np.float32]) -> NDArray[np.float32]:
        flagged = probabilities_of_right(fitted.arrays, features) < configuration.threshold
        factors = np.where(flagged, 1 / fitted.more["T1"], 1 / fitted.more["T2"])
        single: NDArray[np.float32] = factors.astype(np.float32)
        return single

    def _seen(self, configuration: Any, image: NDArray[Any], index: int) -> NDArray[np.float32]:
        if configuration.features == "probs":
            return _log_probabilities(image, configuration.inputs, index)
        return super()._seen(configuration, image, index)

    def _drawn_features(self, kept: PixelSample, configuration: Any) -> NDArray[np.float32]:
        if configuration.features == "probs":
            found: NDArray[np.float32] = self._seen(configuration, as_image(kept.values()), 0)[0, :, 0]
            return found
        return super()._drawn_features(kept, configuration)

    def _logits(self, kept: PixelSample, configuration: Any, fitted: Any) -> NDArray[np.float64]:
        base, seen = fitted.base, self._drawn_features(kept, configuration)
        logits: NDArray[np.float64] = (
            kept.pixels(configuration.inputs, centred=True).features
            if base is None
            else base._logits(kept, *base._current())
        )
        if not configuration.blend:
            return logits * self._factors(configuration, fitted, seen)
        share = probabilities_of_right(fitted.arrays, seen)
        low, high = (special.softmax(logits / fitted.more[name], axis=0) for name in ("T2", "T1"))
        blend: NDArray[np.float64] = np.maximum(share * low + (1 - share) * high, np.finfo(np.float64).tiny)
        return np.log(blend)

    def _kernel(self, configuration: Any, fitted: Any, scores: NDArray[Any], first: int) -> _core.ScalerMap:
        if not configuration.blend:
            return super()._kernel(configuration, fitted, scores, first)
        shares = np.empty((len(scores), *scores.shape[2:]), np.float32)
        for i in range(len(scores)):
            seen = self._seen(configuration, scores[i : i + 1], first + i)
            shares[i] = probabilities_of_right(fitted.arrays, seen[0])
        factors = 1 / fitted.more["T2"], 1 / fitted.more["T1"]
        return _core.ScalerMap.blended(self._base(configuration, fitted, scores, first), factors, shares)

    # Results

    @property
    def T1_(self) -> float:
        """The temperature of pixels that are taken for wrong."""
        return float(self._told("T1"))

    @property
    def T2_(self) -> float:
        """The temperature of the other pixels."""
        return float(self._told("T2"))

    @property
    def selector_recall_(self) -> float:
        """The share of the wrong pixels that the selector finds."""
        return float(self._told("selector_recall"))

    @property
    def selector_precision_(self) -> float:
        """The share of the pixels taken for wrong that are wrong."""
        return float(self._told("selector_precision"))

    @classmethod
    def _solution_from_json(cls, document: dict[str, Any], configuration: Any) -> _Selective:
        known = super()._solution_from_json(document, configuration)
        base = base_from_document(document["results"]["base"])
        if base is not None and not (isinstance(base, Scaler) and base.n_classes_ == known.n_classes):
            raise ValueError("its base is not that of its classes")
        return _with_base(known, base)


def _warn_of_ends(ends: list[tuple[str, float]], *, has_base: bool) -> None:
    """Warns of temperatures at the end of those that are chosen from."""
    found = " and ".join(f"{name}_ = {temperature:g}" for name, temperature in ends)
    what = "; ".join(_AT_THE_END[name] for name, _ in ends)
    names = " and ".join(name for name, _ in ends)
    todo = "" if has_base else "Use base='temperature', which first fits one temperature to all pixels, or g"
    warn_caller(
        f"{found}: the end of what 'auto' chooses from. {what}. {todo or 'G'}ive {names} yourself if that is what you "
        "want",
        UserWarning,
    )


def _with_base(known: Tempered, base: Scaler | None) -> _Selective:
    return _Selective(**{each.name: getattr(known, each.name) for each in fields(known)}, base=base)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _log_probabilities(scores: NDArray[Any], inputs: str, first: int) -> NDArray[np.float32]:
    """The logarithms of the probabilities (n, K, ...)."""
    out = np.empty(scores.shape, np.float64 if scores.dtype == np.float64 else np.float32)
    _core.probabilities(scores, inputs, out, first)
    found: NDArray[np.float32] = np.log(np.maximum(out, LEAST)).astype(np.float32)
    return found


class _Choice(NamedTuple):
    """Temperatures, and their loss."""

    T1: float
    T2: float
    nll: float


def _choose(pixels: Pixels, shares: NDArray[np.float32], configuration: _Configuration) -> _Choice:
    """The temperatures with the least objective among those that are allowed."""
    T1s = _HIGH if isinstance(configuration.T1, str) else (configuration.T1,)
    T2s = _LOW if isinstance(configuration.T2, str) else (configuration.T2,)
    below = pixels.features - pixels.features.max(axis=0)
    # For each temperature: the probability of the label, and that of the most probable class.
    own = {T: np.exp(-tempered_losses(pixels, np.full(len(shares), 1 / T))[:, 0]) for T in {*T1s, *T2s}}
    surest = {T: 1 / np.exp(below / T).sum(axis=0) for T in {*T1s, *T2s}}
    share = shares.astype(np.float64) if configuration.blend else shares >= configuration.threshold
    right = pixels.features.argmax(axis=0) == pixels.labels

    def mixed(of: dict[float, NDArray[np.float64]], T1: float, T2: float) -> NDArray[np.float64]:
        return share * of[T2] + (1 - share.astype(np.float64)) * of[T1]

    def nll(T1: float, T2: float) -> float:
        least = np.finfo(np.float64).tiny
        return float(-(pixels.weights * np.log(np.maximum(mixed(own, T1, T2), least))).sum())

    def objective(pair: tuple[float, float]) -> float:
        if configuration.objective == "nll":
            return nll(*pair)
        return _calibration_error(mixed(surest, *pair), right, pixels)

    pairs = [(T1, T2) for T1 in T1s for T2 in T2s]
    T1, T2 = min(pairs, key=objective)
    return _Choice(T1, T2, nll(T1, T2))


def _calibration_error(confidences: NDArray[np.float64], right: NDArray[np.bool_], pixels: Pixels) -> float:
    """The mean over images (groups) of the expected calibration error, in bins that are closed on the right."""
    bins = np.clip(np.ceil(confidences * _N_BINS).astype(np.intp) - 1, 0, _N_BINS - 1)
    units, n_units = pixels.units(), len(pixels.ends)
    gaps = np.bincount(units * _N_BINS + bins, right - confidences, n_units * _N_BINS)
    sums = abs(gaps.reshape(n_units, _N_BINS)).sum(axis=1)
    return float((sums / np.bincount(units, minlength=n_units)).mean())
