"""The critical value of an image: the smallest lambda at which its loss is small enough."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from conformask._exact import as_fraction
from conformask._text import shown
from conformask.losses import LossLike, as_loss, loss_values
from conformask.profiles import ScoreProfiles
from conformask.scores import lambda_max

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["image_lambdas"]


def image_lambdas(
    profiles: ScoreProfiles, loss: LossLike = "binary", limit: float | Fraction = 0
) -> NDArray[np.float64]:
    r"""The critical value of each image: the smallest lambda at which its loss is at most a limit.

    .. math:: \lambda_i^* = \inf \{ \lambda : L_i(\lambda) \le \text{limit} \}

    For losses of 0 or 1 and the limit 0, lambda-hat of a calibrator is a quantile of these values. They show a drift
    earlier than the risk does: give them to :class:`~conformask.DriftAlarm`.

    Parameters
    ----------
    profiles : ScoreProfiles
        The profiles of labelled images, by ``cm.profile(X, y)``, or ``profiles_`` of a calibrator.
    loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function, default="binary"
        The loss.
    limit : float in [0, 1), default=0
        The largest loss that is allowed, taken as the decimal that prints.

    Returns
    -------
    float64 array (n,)
        Exact values; NaN where the loss is undefined.

    Raises
    ------
    TypeError
        If `profiles` are not ScoreProfiles, but for example binned ones.
    ValueError
        If the limit is out of range.

    See Also
    --------
    conformask.DriftAlarm : Watches these values.
    conformask.ScoreProfiles.losses : Computes the losses at a lambda.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([[0.5, 0.75], [0.5, 0.25]]).reshape(1, 2, 1, 2)
    >>> profiles = cm.profile(X, np.array([[[1, 1]]]))
    >>> cm.online.image_lambdas(profiles), cm.online.image_lambdas(profiles, "miscoverage", 0.5)
    (array([0.75]), array([0.5]))
    """
    if not isinstance(profiles, ScoreProfiles):
        raise TypeError(
            f"profiles must be ScoreProfiles, as cm.profile(X, y) makes them, got {shown(profiles)}"
        )
    budget, weighed = as_fraction(limit, "limit"), as_loss(loss)
    if not 0 <= budget < 1:
        raise ValueError(f"limit must be in [0, 1), got {shown(limit)}")
    core, largest = profiles._core, lambda_max(profiles.conformity_score, profiles.n_classes)
    totals = core.totals()
    undefined = np.isnan(loss_values(weighed, np.zeros_like(totals), totals))
    found = np.full(len(profiles), np.nan)
    for i in np.flatnonzero(~undefined).tolist():
        lam = weighed._lambda_hat(core.take([i]), budget, None, largest)
        assert lam is not None, "at the largest lambda the loss is 0"
        found[i] = lam
    return found
