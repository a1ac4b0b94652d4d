"""Structured scaling: vectors and matrices with a ridge, and maps that cannot change the prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import linalg

from conformask import _core
from conformask._calibrator import Parameter, one_of
from conformask._exact import as_fraction, as_plain, number_from_json
from conformask.scaling._experts import Gaps, Margins, Ridge
from conformask.scaling._fitted import Fitted, Shapes, Told, is_flag, is_positive
from conformask.scaling._likelihood import Likelihood, Penalty, minimise
from conformask.scaling._pixels import PixelSample
from conformask.scaling._scaler import PARAMETERS, Configuration, Scaler, penalty_weight
from conformask.scaling._temperature import best_temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._images import Volumes

__all__ = ["StructuredScaler"]

# Directions in which the loss curves less than this share of the largest curvature are left out.
_STRAIGHT = 1e-10
# The relative accuracy of the temperature, at which penalties are 0.
_TOLERANCE = 1e-8


_KIND = one_of("kind", "vector", "matrix")
_DECISIONS = ("free", "argmax", "order")


def _check_number(value: object) -> float | str:
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"n_eff must be 'auto' or a number, got {value!r}")
        return value
    if as_fraction(value, "n_eff") <= 0:
        raise ValueError(f"n_eff must be above 0, got {value!r}")
    return float(as_fraction(value, "n_eff"))


def _check_kind(value: Any) -> Any:
    if isinstance(value, str) and value in _DECISIONS:
        raise ValueError(f"kind must be one of ['vector', 'matrix'], got {value!r}: pass decision={value!r}")
    return _KIND.resolve(value)


def _number_to_json(value: Any) -> Any:
    return value if isinstance(value, str) else as_plain(value, name="n_eff")


def _number_from_json(value: Any) -> Any:
    return value if value == "auto" else number_from_json(value)


@dataclass(frozen=True)
class _Configuration(Configuration):
    kind: str
    decision: str
    intercept: float
    diagonal: float
    off_diagonal: float
    n_eff: float | str


def effective_number(likelihood: Likelihood, inverse: float) -> float:
    """How many independent pixels tell as much as those of a diagonal likelihood, at a temperature."""
    n_classes, n_pixels = likelihood.pixels.features.shape
    n_units = len(likelihood.pixels.ends)
    if n_units == 1:
        return 1.0  # the variation between images is unknown
    parameters = np.repeat([inverse, 0.0], n_classes)
    scores = likelihood.gradients_of_units(parameters)
    scores -= scores.mean(axis=0)
    values, vectors = linalg.eigh((likelihood.thinned or likelihood).hessian(parameters))
    bent = values > _STRAIGHT * max(values[-1], 0)
    if not bent.any():
        return float(n_units)
    scatter = n_units / (n_units - 1) * ((scores @ vectors[:, bent]) ** 2 / values[bent]).sum()
    if scatter * n_pixels <= bent.sum():  # images hardly differ, or not at all
        return float(n_pixels)
    return max(float(bent.sum() / scatter), float(n_units))


class StructuredScaler(Scaler):
    r"""A temperature, then a vector or a matrix near the identity, or a map that cannot change the prediction.

    With :math:`u = \log \mathrm{softmax}(z)` and the temperature T of :class:`TemperatureScaler`, the map is that of
    `decision`:

    - ``"free"``: :math:`\mathrm{softmax}((1 + v) \odot u / T + b)`, structured vector scaling, or, with
      ``kind="matrix"``, :math:`\mathrm{softmax}((I + V) u / T + b)`. The most probable class may change.
    - ``"argmax"``: the most probable class c of a pixel does not change. It chooses an expert, which maps the margins
      :math:`m_j = (u_c - u_j) / T \ge 0` to the new margins :math:`B_c m + \mu_c`, whose parameters are not negative.
    - ``"order"``: the order of all classes does not change, up to ties. The expert maps the gaps between adjacent
      ranks, :math:`d_r = (u_{(r)} - u_{(r+1)}) / T \ge 0`, to the new gaps :math:`B_c d + \mu_c`, which are summed.

    With ``kind="matrix"`` each expert has a matrix B of its own. With ``kind="vector"`` each has a diagonal of its own,
    and all share the off-diagonal.

    Parameters
    ----------
    kind : {"vector", "matrix"}, default="vector"
        The kind of the map, and thus its number of parameters (see above).
    decision : {"free", "argmax", "order"}, default="free"
        What the map preserves: nothing, the most probable class, or the order of all classes. Among classes with equal
        logits the lowest counts as the most probable.
    intercept, diagonal, off_diagonal : float of at least 0, default=0.1
        The penalty ``(intercept K |b|^2 + diagonal K |diag(V)|^2 + off_diagonal K (K - 1) |off(V)|^2) / n_eff``, added
        to the mean negative log-likelihood. With ``"argmax"`` and ``"order"`` mu takes the place of b. First the best
        map for all pixels is found, with this penalty on its deviation from the identity. Each expert then has the same
        penalty on its deviation from that map.
    n_eff : "auto" or float above 0, default="auto"
        The effective number of pixels: how many independent pixels carry as much information as the drawn ones. Pixels
        of an image are alike; with the number of drawn pixels the penalty would vanish. "auto" estimates it (see
        Notes).
    inputs, ignore_index, n_pixels, random_state, volumes, progress
        As for :class:`TemperatureScaler`.

    Attributes
    ----------
    temperature_ : float
        The temperature T.
    unbounded_ : bool
        Whether the likelihood still rises at the end of the range of T (see :class:`TemperatureScaler`).
    weight_ : float64 array
        The factor of u: ``(1 + v) / T`` (K,) or ``(I + V) / T`` (K, K). With ``"argmax"`` it is ``B / T`` of each
        expert, (K, K, K), in which row and column of the expert's own class are 0; with ``"order"`` (K, K - 1, K - 1).
    bias_ : float64 array
        The shifts b (K,), which sum to 0, or mu of each expert, (K, K) or (K, K - 1).
    n_eff_ : float
        The effective number of pixels in the penalty.
    nll_ : float
        Mean negative log-likelihood of the drawn pixels, with the map: never above that of the temperature alone.
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
    TemperatureScaler : The limit of this map for few images.
    VectorScaler : Has no temperature, and little penalty.

    Notes
    -----
    The penalty is that of structured scaling, with the effective number of pixels in place of the number of samples,
    and with weights of 0.1 in place of 1, which was better on held-out images. At the temperature, with H the Hessian
    of the mean loss by the factors and shifts of classes (2 K numbers) and :math:`g_i` what image (group) i adds to its
    gradient, :math:`n_\mathrm{eff} = \mathrm{tr}(H^{-1} H) / \mathrm{tr}(H^{-1} G)`, where G is the sum of
    :math:`(g_i - \bar g)(g_i - \bar g)^\top`, times :math:`n / (n - 1)`: the variance that independent pixels would
    have, over the variance of images. It is at least the number of images (groups), at most that of drawn pixels, and 1
    for one image.

    All problems are convex. Those with non-negative parameters are solved by L-BFGS-B, the others by a Newton method
    with a trust region. The parameters of a class that no pixel has stay finite; an expert without pixels is the best
    map for all pixels. Matrices of experts have :math:`K^3` parameters, 3.4 million for K = 150.

    References
    ----------
    Berta, Holzmüller, Jordan, Bach, "Structured Matrix Scaling for Multi-Class Calibration",
    arXiv:2511.03685: the vector, the matrix and the penalty.

    Class-conditional matrix scaling, arXiv:2607.01902: an expert for each most probable class, and non-negative maps.

    Rahimi, Shaban, Cheng, Hartley, Boots, "Intra Order-Preserving Functions for Calibration of Multi-Class Neural
    Networks", NeurIPS 2020, arXiv:2003.06820.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0, 2, (30, 3, 32, 32))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # labels drawn from the softmax
    >>> given = 2 * logits + np.array([0, 1, -1]).reshape(3, 1, 1)
    >>> cm.StructuredScaler().fit(given, y).bias_.round(1).tolist()
    [0.0, -0.5, 0.5]
    >>> keeper = cm.StructuredScaler(decision="argmax").fit(given, y)
    >>> bool((keeper.transform(given).argmax(axis=1) == given.argmax(axis=1)).all())
    True
    """

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "kind": Parameter(_check_kind, stale="result"),
        "decision": one_of("decision", *_DECISIONS, stale="result"),
        "intercept": penalty_weight("intercept"),
        "diagonal": penalty_weight("diagonal"),
        "off_diagonal": penalty_weight("off_diagonal"),
        "n_eff": Parameter(_check_number, "result", _number_to_json, _number_from_json),
        **PARAMETERS,
    }
    _FORMAT = ("StructuredScaler", 1)
    _IS_CENTRED = True
    _TOLD: ClassVar[Told] = {"temperature": is_positive, "unbounded": is_flag, "n_eff": is_positive}

    def __init__(
        self,
        kind: str = "vector",
        *,
        decision: str = "free",
        intercept: float = 0.1,
        diagonal: float = 0.1,
        off_diagonal: float = 0.1,
        n_eff: float | str = "auto",
        inputs: str = "logits",
        ignore_index: int | tuple[int, ...] | None = 255,
        n_pixels: int = 4096,
        random_state: int = 0,
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.kind = kind
        self.decision = decision
        self.intercept = intercept
        self.diagonal = diagonal
        self.off_diagonal = off_diagonal
        self.n_eff = n_eff
        self.inputs = inputs
        self.ignore_index = ignore_index
        self.n_pixels = n_pixels
        self.random_state = random_state
        self.volumes = volumes
        self.progress = progress

    def _find(self, kept: PixelSample, configuration: _Configuration) -> Fitted:
        k = kept.n_classes
        pixels = kept.pixels(configuration.inputs, centred=True)
        found = best_temperature(pixels, _TOLERANCE)
        diagonal = Likelihood(pixels, k)
        if isinstance(configuration.n_eff, str):
            n_eff = effective_number(diagonal, found.inverse)
        else:
            n_eff = configuration.n_eff
        # Deviations are T times those of the folded numbers.
        squared = found.inverse**-2
        ridge = Ridge(
            configuration.intercept * k / n_eff,
            configuration.diagonal * k / n_eff * squared,
            configuration.off_diagonal * k * (k - 1) / n_eff * squared,
        )
        if configuration.decision == "free":
            likelihood = diagonal if configuration.kind == "vector" else Likelihood(pixels, k * k)
            weight, bias, nll = _affine(likelihood, found.inverse, ridge)
        else:
            experts = {"argmax": Margins, "order": Gaps}[configuration.decision](pixels)
            weight, bias, nll = experts.fit(found.inverse, ridge, tied=configuration.kind == "vector")
        return Fitted(
            weight=weight.ravel(),
            bias=bias.ravel(),
            nll=nll,
            nll_before=found.before,
            n_images=len(kept.images),
            n_skipped=kept.n_skipped,
            n_classes=k,
            configuration=configuration,
            more={"temperature": 1 / found.inverse, "unbounded": found.unbounded, "n_eff": n_eff},
        )

    def _kernel(
        self, configuration: _Configuration, fitted: Fitted, scores: NDArray[Any], first: int
    ) -> _core.ScalerMap:
        if configuration.decision == "free":
            return super()._kernel(configuration, fitted, scores, first)
        return _core.ScalerMap.ordered(
            fitted.weight,
            fitted.bias,
            configuration.decision == "order",
            configuration.inputs == "probabilities",
        )

    def _knows_classes(self, configuration: Any) -> bool:
        return True  # maps that keep the prediction have numbers for each expert, which belongs to a class

    @property
    def _keeps_prediction(self) -> bool:
        return bool(self.decision != "free")

    @classmethod
    def _map_shapes(cls, n_classes: int, configuration: _Configuration) -> Shapes:
        if configuration.decision == "free":
            return (n_classes,) * (1 if configuration.kind == "vector" else 2), (n_classes,)
        width = n_classes - (configuration.decision == "order")
        return (n_classes, width, width), (n_classes, width)

    @classmethod
    def _check(cls, found: Fitted) -> None:
        if found.configuration.decision != "free" and min(found.weight.min(), found.bias.min()) < 0:
            raise ValueError("a number of an expert is negative")

    @property
    def temperature_(self) -> float:
        """The temperature T."""
        return float(self._told("temperature"))

    @property
    def unbounded_(self) -> bool:
        """Whether the temperature is at the end of its range."""
        return bool(self._told("unbounded"))

    @property
    def n_eff_(self) -> float:
        """The effective number of pixels."""
        return float(self._told("n_eff"))

    @property
    def weight_(self) -> NDArray[np.float64]:
        """The factors of the logarithms, margins or gaps."""
        configuration, fitted = self._current()
        return fitted.weight.reshape(self._map_shapes(fitted.n_classes, configuration)[0]).copy()

    @property
    def bias_(self) -> NDArray[np.float64]:
        """The shifts."""
        configuration, fitted = self._current()
        return fitted.bias.reshape(self._map_shapes(fitted.n_classes, configuration)[1]).copy()


def _affine(
    likelihood: Likelihood, factor: float, ridge: Ridge
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Weight and bias of the unconstrained map, and its loss."""
    k = len(likelihood.pixels.features)
    if likelihood.is_diagonal:
        weights, matrix = np.repeat([ridge.diagonal, ridge.intercept], k), np.full(k, factor)
    else:
        weights, matrix = ridge.weights(k), factor * np.eye(k)
    identity = np.append(matrix, np.zeros(k))
    parameters = minimise(likelihood, identity, Penalty(weights, identity))
    weight, bias = np.split(parameters, [matrix.size])
    return weight, bias - bias.mean(), likelihood.gradient(parameters)[0]
