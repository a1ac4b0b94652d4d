"""Conformity scores: the lambda at which a label enters the set of its pixel."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from conformask import _core
from conformask._arrays import Scores, score_array
from conformask._calibrator import Parameter
from conformask._exact import as_fraction
from conformask._tensors import bits_of, is_brain_float, is_coarse
from conformask._text import shown
from conformask._transforms import Inputs

__all__ = ["APS", "LAC", "RAPS", "SACP", "ConformityScore", "ScoreLike"]


def __dir__() -> list[str]:
    return sorted(__all__)


_LARGEST_PENALTY = 1_000_000  # without a penalty, critical values are at most 1
_LARGEST_WINDOW = 1023  # float32 means over larger windows are not accurate


@dataclass(frozen=True)
class LAC:
    r"""Least ambiguous set-valued classifier: one minus the label's probability.

    The score of label :math:`k` is :math:`s_k = 1 - p_k`, computed as the float64 value ``1.0 - float64(p)``. The set
    of a pixel at :math:`\lambda` is :math:`\{k : s_k \le \lambda\}`, and the most probable label if `include_top1`. At
    :math:`\lambda = 1` every set is full.

    Parameters
    ----------
    include_top1 : bool, default=True
        Whether the most probable label (of equal ones the lowest) is always in the set, so that no set is empty. Below
        ``lambda = 1 - 1/K`` this changes the sets; from there on the most probable label is in the set anyway.

    See Also
    --------
    APS, RAPS : Scores that adapt to how unsure a pixel is.
    SACP : Any of these scores, blended over a window.

    References
    ----------
    Sadinle, Lei, Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", Journal of the
    American Statistical Association 114(525), 2019, doi:10.1080/01621459.2017.1395341. For segmentation: Mossina,
    Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.5, 0.3, 0.2]).reshape(1, 3, 1, 1)
    >>> cm.kernels.threshold(X, 0.7, cm.LAC())[0, :, 0, 0]
    array([ True,  True, False])
    >>> cm.kernels.threshold(X, 0.4, cm.LAC())[0, :, 0, 0]
    array([ True, False, False])
    >>> cm.kernels.threshold(X, 0.4, cm.LAC(include_top1=False))[0, :, 0, 0]
    array([False, False, False])
    """

    include_top1: bool = True

    def __post_init__(self) -> None:
        _set_flag(self, "include_top1")

    def _kernel(self) -> _core.Score:
        return _core.Score.lac(self.include_top1)


@dataclass(frozen=True)
class APS:
    r"""Adaptive prediction sets: the summed probability of all labels that are more probable than this one.

    .. math:: s_k = \sum_j p_j \, 1[j \text{ before } k]

    where :math:`j` is before :math:`k` if :math:`p_j > p_k`, or if they are equal and :math:`j < k`. The most probable
    label has score 0 and is in every set; at :math:`\lambda = 1` every set is full. Each probability counts as the
    nearest multiple of :math:`2^{-53}`, and sums beyond 1 as 1, so that sums are exact and the same in any order.

    See Also
    --------
    RAPS : With a penalty for labels far down the ranking, which makes sets smaller.
    LAC : The smallest sets on average.

    References
    ----------
    Romano, Sesia, Candès, "Classification with Valid and Adaptive Coverage", NeurIPS 2020, arXiv:2006.02544; without
    randomisation.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.6, 0.3, 0.1]).reshape(1, 3, 1, 1)
    >>> cm.kernels.threshold(X, 0.6, cm.APS())[0, :, 0, 0]
    array([ True,  True, False])
    >>> cm.kernels.threshold(X, 0.59, cm.APS())[0, :, 0, 0]
    array([ True, False, False])
    """

    def _kernel(self) -> _core.Score:
        return _core.Score.raps(0.0, 1)


@dataclass(frozen=True)
class RAPS:
    r"""Regularised adaptive prediction sets: APS plus a penalty for labels far down the ranking.

    .. math:: s_k = \min(m_k + \theta \max(0, r_k - k_\text{reg}), \; \lambda_\max), \quad
              \lambda_\max = 1 + \theta \max(0, K - k_\text{reg})

    with the score :math:`m_k` of :class:`APS` and the rank :math:`r_k` of the label, 1 for the most probable.

    Parameters
    ----------
    penalty : float >= 0, default=0.05
        The penalty :math:`\theta` that is added for each rank beyond `k_reg`.
    k_reg : int >= 1 or None, default=None
        The rank up to which labels have no penalty; None is ``max(1, K // 2)``.

    See Also
    --------
    APS : Without the penalty.

    References
    ----------
    Angelopoulos, Bates, Malik, Jordan, "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR 2021,
    arXiv:2009.14193; without randomisation. A baseline of Viti, Karabelas, Holler, "CONSIGN", ICLR 2026,
    arXiv:2505.14113.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.6, 0.3, 0.1]).reshape(1, 3, 1, 1)
    >>> float(cm.kernels.true_label_scores(X, np.array([[[1]]]), cm.RAPS(0.05, k_reg=1))[0, 0, 0])
    0.65
    """

    penalty: float = 0.05
    k_reg: int | None = None

    def __post_init__(self) -> None:
        if as_fraction(self.penalty, "penalty") < 0:
            raise ValueError(f"penalty must be at least 0, got {self.penalty!r}")
        if as_fraction(self.penalty, "penalty") > _LARGEST_PENALTY:
            raise ValueError(f"penalty must be at most {_LARGEST_PENALTY}, got {self.penalty!r}")
        object.__setattr__(self, "penalty", float(self.penalty))
        if self.k_reg is not None:
            _set_int(self, "k_reg", 1)

    def _kernel(self) -> _core.Score:
        # No image has so many classes.
        return _core.Score.raps(self.penalty, None if self.k_reg is None else min(self.k_reg, 2**31))


@dataclass(frozen=True)
class CallableScore:
    """A score of the user's own: a function of maps that returns the critical values of all labels.

    Attributes
    ----------
    function : callable
        Takes an array (n, K, H, W) or (n, K, D, H, W) and returns an array like it in ``[0, lambda_max]``. It must
        treat each image by itself. This is checked: if an array holds two images or more, the first two are given to it
        again, each alone, and other values than before are refused.
    lambda_max : float > 0, default=1.0
        The largest critical value.
    """

    function: Callable[[Scores], object]
    lambda_max: float = 1.0

    def __str__(self) -> str:
        return str(getattr(self.function, "__name__", self.function))

    def _kernel(self) -> _core.Score:
        return _core.Score.given(self.lambda_max)


@dataclass(frozen=True)
class SACP:
    r"""Spatially aware conformal prediction: a score blended with its mean in a window around the pixel.

    .. math:: s'_k = (1 - w) \, s_k + w \, \operatorname{mean}_{N} s_k

    label by label, over the `window` x `window` pixels :math:`N` around the pixel, which are centred on it. Beyond the
    border the image is mirrored, beginning with the border pixel (SciPy's ``"reflect"``, NumPy's ``"symmetric"``). Void
    pixels count with their scores, in calibration as in prediction. In volumes the window lies in the slice.

    Parameters
    ----------
    base : LAC, APS, RAPS or a callable, default=APS()
        The score :math:`s`.
    weight : float in [0, 1], default=0.3
        The weight :math:`w` of the mean over the window.
    window : odd int from 1 to 1023, default=7
        The width of the window in pixels.
    include_top1 : bool, default=True
        Whether the label that the base score ranks first at the pixel is always in the set.
    mode : {"label_scores", "probabilities"}, default="label_scores"
        What is blended: the scores of the labels, or the probabilities, from which `base` then computes the scores.
        With "probabilities" `base` decides whether the most probable label is always in the set; for LAC the
        `include_top1` of SACP decides.

    See Also
    --------
    LAC, APS, RAPS : The scores that can be blended.

    References
    ----------
    Liu, Sun, Zeng, Zhang, Pun, Vong, "Spatial-Aware Conformal Prediction for Trustworthy Hyperspectral Image
    Classification", 2024, arXiv:2409.01236. A baseline of Viti, Karabelas, Holler, "CONSIGN", ICLR 2026,
    arXiv:2505.14113.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.full((1, 2, 1, 3), 0.5)
    >>> X[0, :, 0, 1] = 0.8, 0.2
    >>> score = cm.SACP(cm.LAC(), weight=0.5, window=3)
    >>> round(float(cm.kernels.true_label_scores(X, np.array([[[1, 1, 1]]]), score)[0, 0, 1]), 6)
    0.7
    """

    base: LAC | APS | RAPS | CallableScore = field(default_factory=APS)
    weight: float = 0.3
    window: int = 7
    include_top1: bool = True
    mode: str = "label_scores"

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", as_score(self.base))
        if isinstance(self.base, SACP):
            raise TypeError("base must be a score of single pixels, not SACP")
        if not 0 <= as_fraction(self.weight, "weight") <= 1:
            raise ValueError(f"weight must be in [0, 1], got {self.weight!r}")
        object.__setattr__(self, "weight", float(self.weight))
        _set_int(self, "window", 1)
        if self.window % 2 == 0 or self.window > _LARGEST_WINDOW:
            raise ValueError(f"window must be odd and at most {_LARGEST_WINDOW}, got {self.window}")
        _set_flag(self, "include_top1")
        if self.mode not in ("label_scores", "probabilities"):
            raise ValueError(f"mode must be 'label_scores' or 'probabilities', got {self.mode!r}")
        if self.mode == "probabilities" and isinstance(self.base, CallableScore):
            raise ValueError("mode='probabilities' needs a built-in base: blend in your own score instead")

    def _kernel(self) -> _core.Score:
        blends_probabilities = self.mode == "probabilities"
        base = LAC(self.include_top1) if blends_probabilities and isinstance(self.base, LAC) else self.base
        return _core.Score.sacp(
            base._kernel(), self.weight, self.window, self.include_top1, blends_probabilities
        )


ConformityScore: TypeAlias = LAC | APS | RAPS | SACP | CallableScore
ScoreLike: TypeAlias = ConformityScore | str | Callable[[Scores], object]

_BY_NAME: dict[str, type[LAC | APS | RAPS | SACP]] = {"lac": LAC, "aps": APS, "raps": RAPS, "sacp": SACP}


def as_score(conformity_score: object) -> ConformityScore:
    """The score of a name, the score itself, or what makes a score of a function."""
    if isinstance(conformity_score, ConformityScore):
        return conformity_score
    if isinstance(conformity_score, str) and conformity_score.lower() in _BY_NAME:
        return _BY_NAME[conformity_score.lower()]()
    if callable(conformity_score) and not isinstance(conformity_score, type):
        lambda_max = float(getattr(conformity_score, "lambda_max", 1.0))
        if not (math.isfinite(lambda_max) and lambda_max > 0):
            raise ValueError(f"the score's lambda_max must be finite and above 0, got {shown(lambda_max)}")
        return CallableScore(conformity_score, lambda_max)
    raise ValueError(
        f"conformity_score must be one of {sorted(_BY_NAME)}, a score such as LAC(), or a function, "
        f"got {conformity_score!r}"
    )


class Scored(NamedTuple):
    """What a kernel takes: maps, the score, and what the numbers of the maps are."""

    maps: Scores
    kernel: _core.Score
    inputs: str | _core.ScalerMap


def scored(conformity_score: ConformityScore, X: Any, inputs: Inputs, first_image: int = 0) -> Scored:
    """Maps as the kernel of a score wants them: as they are, or what a function makes of them.

    Of the first images of a call a function must make the same when it sees them one by one.
    """
    kernel, function = conformity_score._kernel(), function_of(conformity_score)
    by_bits = function is None and isinstance(inputs, str) and is_brain_float(X)
    maps = bits_of(X) if by_bits else score_array(X)
    if function is None:
        if not isinstance(inputs, str):
            return Scored(maps, kernel, inputs.kernel(X, first_image))
        is_rounded = inputs == "probabilities" and is_coarse(X)  # the array does not tell any more
        return Scored(maps, kernel, "bfloat16 probabilities" if is_rounded else inputs)
    if not isinstance(inputs, str):
        maps = inputs.probabilities(X, first_image)
    criticals = _criticals(function, maps)
    if first_image == 0 and maps.ndim in (4, 5) and len(maps) > 1:
        _check_alone(function, maps, criticals)
    return Scored(criticals, kernel, "critical values")


def function_of(conformity_score: ConformityScore) -> CallableScore | None:
    """The function of the user that gives the scores, if one does."""
    base = conformity_score.base if isinstance(conformity_score, SACP) else conformity_score
    return base if isinstance(base, CallableScore) else None


def check_each_alone(function: CallableScore, first: object, second: object) -> None:
    """Refuses a function whose values of two images, each (1, K, ...), depend on whether they come in one array.

    Of lists it sees one image at a time, in calibration; in prediction they may come in arrays.
    """
    maps = np.concatenate([score_array(first), score_array(second)])
    _check_alone(function, maps, _criticals(function, maps))


def _criticals(score: CallableScore, maps: Scores) -> Scores:
    """The result of a function for maps, an array of the same shape."""
    given = maps.view()
    given.flags.writeable = False  # it may be the caller's array
    criticals = score_array(score.function(given), name=f"what the conformity score {score} returns")
    if criticals.shape != maps.shape:
        raise ValueError(
            f"the conformity score {score} must return an array like X {maps.shape}, got {criticals.shape}"
        )
    return criticals


def _check_alone(score: CallableScore, maps: Scores, criticals: Scores) -> None:
    """Refuses a function that gives one of the first two images other values when it sees that image alone.

    Sums may be rounded differently in arrays of another length: some units in the last place are no difference.
    """
    tolerance = score.lambda_max * max(1e-6, 8 * float(np.finfo(criticals.dtype).eps))
    for image in range(2):
        alone, together = _criticals(score, maps[image : image + 1])[0], criticals[image]
        for k in range(len(alone)):  # class by class, to spare memory
            same = np.isclose(alone[k], together[k], rtol=0, atol=tolerance, equal_nan=True)
            if not same.all():
                at = np.unravel_index(same.argmin(), same.shape)
                raise ValueError(
                    f"the conformity_score {score} must treat each image by itself, but in image {image} its value of "
                    f"class {k} is {together[k][at]} in an array of {len(maps)} images and {alone[k][at]} where the "
                    "image is alone: it must not use the other images (a maximum over all of X) or chance"
                )


def lambda_max(conformity_score: ConformityScore, n_classes: int) -> float:
    """The smallest lambda at which every set is full."""
    return conformity_score._kernel().lambda_max(n_classes)


def rank_penalties(conformity_score: ConformityScore, n_classes: int) -> list[float]:
    """What each of K ranks, the first first, adds to a critical value."""
    penalties = conformity_score._kernel().rank_penalties(n_classes)
    assert penalties is not None, "APS and RAPS rank labels"
    return penalties


def score_parameter(stale: str) -> Parameter:
    """The parameter `conformity_score` of calibrators."""
    return Parameter(
        as_score,
        stale,
        to_json=lambda score: json.loads(score_to_json(as_score(score))),
        from_json=lambda found: score_from_json(json.dumps(found)),
    )


def score_to_json(score: ConformityScore) -> str:
    """A score as JSON."""
    return json.dumps(_to_plain(score))


def _to_plain(score: ConformityScore) -> dict[str, Any]:
    if isinstance(score, CallableScore) or type(score) not in _BY_NAME.values():
        raise TypeError(f"only built-in scores can be saved, got {score!r}")
    name = next(name for name, kind in _BY_NAME.items() if kind is type(score))
    values = {each.name: getattr(score, each.name) for each in fields(score)}
    if isinstance(score, SACP):
        values["base"] = _to_plain(score.base)
    return {"name": name, **values}


def score_from_json(text: str) -> ConformityScore:
    """The inverse of :func:`score_to_json`."""
    return _from_plain(json.loads(text))


def _from_plain(values: dict[str, Any]) -> ConformityScore:
    values = {name: _from_plain(value) if name == "base" else value for name, value in values.items()}
    return _BY_NAME[values.pop("name")](**values)


def _set_flag(score: object, name: str) -> None:
    value = getattr(score, name)
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    object.__setattr__(score, name, bool(value))


def _set_int(score: object, name: str, least: int) -> None:
    value = getattr(score, name)
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {shown(value)}")
    object.__setattr__(score, name, int(value))
