"""How many calibration images a risk level needs, before any are collected."""

from __future__ import annotations

from conformask._exact import as_fraction, check_alpha
from conformask._sample_sizes import images_allowing
from conformask._text import shown
from conformask.control import CRC, RCPS, Method, as_method

__all__ = ["required_images"]


def required_images(
    alpha: float,
    delta: float | None = None,
    expected_risk: float | None = None,
    *,
    method: Method | str | None = None,
) -> int:
    r"""How many calibration images a risk level needs: to be feasible, or to allow a given mean loss.

    Without `expected_risk` it is the smallest n with which some lambda can meet alpha if no image has any loss:
    :math:`\lceil 1 / \alpha \rceil - 1` with conformal risk control, and the smallest n with
    :math:`(1 - \alpha)^n \le \delta` with a confidence. With so few images sets are large: the mean loss of the
    calibration images must then be 0. With more images it may be closer to alpha.

    With `expected_risk` it is the n from which on a mean loss of that size is within the budget of the method. With
    conformal risk control these are all n with

    .. math:: \alpha - \frac{1 - \alpha}{n} \ge r, \quad \text{that is} \quad n \ge \frac{1 - \alpha}{\alpha - r}.

    With a confidence the gap to alpha shrinks as :math:`1 / \sqrt n`, and not as :math:`1 / n`: half the gap takes four
    times as many images. The mean loss that :class:`~conformask.PAC` and RCPS allow goes up and down a little as n
    grows, because a binomial law counts whole numbers. The number returned and *all larger* ones allow `expected_risk`;
    single smaller ones may do so, too. A calibration with more images than this number is therefore safe, even if a few
    of them turn out to have no labelled pixel. Fix n before you look at the losses.

    Parameters
    ----------
    alpha : float in (0, 1)
        The risk level, taken as the decimal that prints.
    delta : float in (0, 1) or None, default=None
        None is conformal risk control, whose guarantee is an average over calibration images. A number is
        ``RCPS(delta)``, whose guarantee holds with probability ``1 - delta`` over calibration images. Do not give it
        together with `method`.
    expected_risk : float in [0, alpha) or None, default=None
        The mean loss on the calibration images that the method must allow. None asks for feasibility alone, as 0 does.
    method : CRC, PAC, RCPS or "crc", or None, default=None
        How the risk is controlled, with its delta. None chooses by `delta`. For losses that are 0 or 1 (BinaryLoss,
        LabelAccuracyLoss, the sets of CONSIGN) ``PAC(delta)`` needs fewer images than RCPS.

    Returns
    -------
    int
        Number of images with a defined loss, or of groups if calibration uses groups. It is exact.

    Raises
    ------
    TypeError
        If a level is not a number.
    ValueError
        If a level is out of range; if `delta` is given with `method`; if `method` is another one, or does not depend on
        the mean loss alone while `expected_risk` is given; if a method with a confidence needs more than 10 million
        images.

    See Also
    --------
    conformask.plotting.plot_required_images : Draws the mean loss that n images allow.
    effective_sample_size : Computes how many images weighted images are worth.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814. Zubkov, Serov, "A
    Complete Proof of Universal Inequalities for the Distribution Function of the Binomial Law", Theory of Probability
    and Its Applications 57(3), 2013, doi:10.1137/S0040585X97986138, bounds where the search has to look.

    Examples
    --------
    >>> from conformask import PAC
    >>> from conformask.metrics import required_images
    >>> required_images(0.1), required_images(0.1, delta=0.1), required_images(0.05, delta=0.05)
    (9, 22, 59)
    >>> required_images(0.1, expected_risk=0.09)
    90
    >>> required_images(0.1, delta=0.1, expected_risk=0.09)
    3091
    >>> required_images(0.1, expected_risk=0.09, method=PAC(delta=0.1))
    1735
    """
    level = check_alpha(alpha)
    if method is None:
        asked: Method = CRC() if delta is None else RCPS(delta)
    elif delta is None:
        asked = as_method(method)
    else:
        raise ValueError(f"delta is part of the method: leave out delta={shown(delta)}, or method={method!r}")
    risk = as_fraction(0 if expected_risk is None else expected_risk, "expected_risk")
    if not 0 <= risk < level:
        raise ValueError(
            f"expected_risk must be in [0, alpha), alpha={float(level):g}, got {shown(expected_risk)}: on average a "
            "method keeps below alpha"
        )
    return images_allowing(asked, level, risk)
