"""Conformity scores: the lambda at which a label enters the set of its pixel."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np

from conformask import _core

__all__ = ["LAC", "ConformityScore"]


@dataclass(frozen=True)
class LAC:
    r"""Least ambiguous set-valued classifier: one minus the label's probability.

    The score of label :math:`k` is :math:`s_k = 1 - p_k`, computed as the float64 value ``1.0 - float64(p)``. The set
    of a pixel at :math:`\lambda` is :math:`\{k : s_k \le \lambda\}`, and the most probable label if `include_top1`. At
    :math:`\lambda = 1` every set is full.

    Parameters
    ----------
    include_top1 : bool, default=True
        Whether the most probable label (the lowest of equals) is always in the set, so that no set is empty. Below
        ``lambda = 1 - 1/K`` this changes the sets; above, the most probable label is in the set anyway.

    References
    ----------
    Sadinle, Lei, Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", Journal of the
    American Statistical Association 114, 2019. For segmentation: Mossina, Dalmau, Andéol, "Conformal Semantic Image
    Segmentation", CVPR Workshops 2024, section 4.

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
        if not isinstance(self.include_top1, bool | np.bool_):
            raise TypeError(f"include_top1 must be True or False, got {self.include_top1!r}")
        object.__setattr__(self, "include_top1", bool(self.include_top1))

    @property
    def lambda_max(self) -> float:
        """The smallest lambda at which every set is full."""
        return 1.0

    def _kernel(self) -> _core.Lac:
        return _core.Lac(self.include_top1)


ConformityScore: TypeAlias = LAC

_BY_NAME: dict[str, type[ConformityScore]] = {"lac": LAC}


def as_score(conformity_score: object) -> ConformityScore:
    """The score of a name, or the score itself."""
    if isinstance(conformity_score, ConformityScore):
        return conformity_score
    if isinstance(conformity_score, str) and conformity_score.lower() in _BY_NAME:
        return _BY_NAME[conformity_score.lower()]()
    raise ValueError(
        f"conformity_score must be one of {sorted(_BY_NAME)} or a score such as LAC(), got {conformity_score!r}"
    )


def score_to_json(score: ConformityScore) -> str:
    """A score as JSON."""
    if type(score) not in _BY_NAME.values():
        raise TypeError(f"only built-in scores can be saved, got {score!r}")
    name = next(name for name, kind in _BY_NAME.items() if kind is type(score))
    return json.dumps({"name": name, **asdict(score)})


def score_from_json(text: str) -> ConformityScore:
    """The inverse of :func:`score_to_json`."""
    fields = json.loads(text)
    return _BY_NAME[fields.pop("name")](**fields)
