"""How the risk differs between groups of images, for data with too few groups to calibrate with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._exact import check_alpha, exact_mean
from conformask._tables import Table
from conformask._text import lambda_text
from conformask._units import OnEmpty, check_groups
from conformask.control import Method, as_method
from conformask.exceptions import InfeasibleRiskError
from conformask.losses import LossLike, as_loss
from conformask.profiles import ScoreProfiles

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GroupRisks", "leave_one_group_out"]


@dataclass(frozen=True, eq=False)
class GroupRisks:
    """The risk of each group, calibrated on the images of the others.

    Attributes
    ----------
    alpha : float
        The risk level.
    groups : tuple of ints or strings (G,)
        The groups, in the order in which they came.
    risks : float64 array (G,)
        Mean loss of each group's images, in [0, 1]; NaN if none counts.
    lambda_hats : float64 array (G,)
        The lambda-hat of the images of the other groups.
    n_images : int64 array (G,)
        Number of the group's images that count.

    See Also
    --------
    leave_one_group_out : Computes these risks.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.metrics import GroupRisks
    >>> found = GroupRisks(0.1, ("a", "b"), np.array([0.05, 0.25]), np.array([0.8, 0.9]), np.array([40, 50]))
    >>> print(found)
    Each group left out of calibration, at alpha = 0.1
    group    risk  lambda-hat  images
    b      0.2500         0.9      50
    a      0.0500         0.8      40
    The mean risk of the groups is 0.1500. This is a diagnosis: it promises nothing about a new group.
    """

    alpha: float
    groups: tuple[int | str, ...]
    risks: NDArray[np.float64]
    lambda_hats: NDArray[np.float64]
    n_images: NDArray[np.int64]

    def _table(self) -> Table:
        found = zip(self.groups, self.risks, self.lambda_hats, self.n_images, strict=True)
        rows = [
            (str(group), f"{risk:.4f}", lambda_text(lam), f"{n}")
            for group, risk, lam, n in sorted(found, key=lambda row: -np.nan_to_num(row[1], nan=-1.0))
        ]
        return Table(f"Each group left out of calibration, at alpha = {self.alpha:g}", _HEADER, rows)

    def _conclusion(self) -> str:
        return (
            f"The mean risk of the groups is {exact_mean(self.risks):.4f}. This is a diagnosis: it promises nothing "
            "about a new group."
        )

    def __str__(self) -> str:
        table = self._table()
        return "\n".join([table.caption, table.plain(), self._conclusion()])

    def _repr_html_(self) -> str:
        return f"<div>{self._table().html()}<p>{self._conclusion()}</p></div>"


_HEADER = ("group", "risk", "lambda-hat", "images")


def leave_one_group_out(
    profiles: ScoreProfiles,
    groups: Any = None,
    *,
    alpha: float = 0.1,
    loss: LossLike = "miscoverage",
    method: Method | str = "crc",
    on_empty: OnEmpty = "skip",
) -> GroupRisks:
    r"""The risk of each group of images, after calibration on the images of all other groups.

    This is a diagnosis, for data with too few groups (sequences, patients, hospitals) to calibrate with ``groups=``.
    Images of one group are alike: a calibration on single images gives no guarantee for a new group. The distances of
    the risks of groups from alpha show how far off it would be. The result is not a guarantee.

    Parameters
    ----------
    profiles : ScoreProfiles
        The images: :func:`~conformask.profile`, or ``profiles_`` of a calibrator.
    groups : sequence of n ints or strings, or None
        The group of each image; None takes the groups of the profiles.
    alpha : float in (0, 1), default=0.1
        The risk level.
    loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function, default="miscoverage"
        The loss.
    method : CRC, PAC, RCPS, LTT or "crc", default="crc"
        How the risk is controlled.
    on_empty : {"skip", "raise", "zero_loss"}, default="skip"
        What to do with images on which the loss is undefined.

    Returns
    -------
    GroupRisks

    Raises
    ------
    InfeasibleRiskError
        If the other groups have too few images; the message names the group that is left out.
    TypeError, ValueError
        If the profiles are binned, and thus do not hold single images; if they have weights, which are about new images
        and not about a group that is left out; or if there are fewer than two groups.

    See Also
    --------
    conformask.ConformalRiskCalibrator.fit : Gives, with ``groups``, a guarantee for a new group.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(3), size=(60, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = rng.integers(0, 3, (60, 8, 8))
    >>> y[40:] = X[40:].argmax(axis=1)  # on the last sequence the model is right
    >>> found = cm.metrics.leave_one_group_out(cm.profile(X, y), np.arange(60) // 20, alpha=0.2)
    >>> found.risks.round(2).tolist()
    [0.39, 0.33, 0.0]
    """
    if not isinstance(profiles, ScoreProfiles):
        raise TypeError(
            f"profiles must be ScoreProfiles, which know each image, got {type(profiles).__name__}: "
            "cm.profile(X, y) makes them, and profiles_ of a calibrator with profile='exact' holds them"
        )
    names = profiles._groups if groups is None else check_groups(groups, len(profiles))
    if names is None:
        raise ValueError("groups must be given: the profiles were made without")
    distinct, level = list(dict.fromkeys(names)), check_alpha(alpha)
    if len(distinct) < 2:
        raise ValueError(f"groups must hold at least two different ones, got {distinct}")
    if profiles._sample_weight is not None:
        raise ValueError(
            "profiles must be without sample_weight, which says how near images are to those to come, not to a group "
            "that is left out: make them without"
        )
    images = profiles._counting(None)
    asked, controlled = as_loss(loss), as_method(method)
    lams, risks, counts = [], [], []
    for group in distinct:
        own = np.array([name == group for name in names])
        try:
            lam = images[~own].lambda_hat(asked, float(level), method=controlled, on_empty=on_empty)
        except InfeasibleRiskError as error:
            advice = "Take a larger alpha, or more images of the other groups"
            raise error._but(reason=f"without group {group!r}, {error.finding}. {advice}") from None
        tested = images[own]
        units = tested._units(asked, on_empty)
        lams.append(lam)
        risks.append(tested._risk(asked, lam, units))
        counts.append(units.n)
    return GroupRisks(float(level), tuple(distinct), np.array(risks), np.array(lams), np.array(counts))
