"""The similarity of the samples of an image: means over all pairs of label maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask import _core
from conformask._arrays import label_array

__all__ = ["pairwise_agreement", "pairwise_correlation"]


def pairwise_correlation(samples: Any, varying_only: bool = False) -> float:
    r"""The mean Pearson correlation of all pairs of label maps, their labels taken as numbers.

    With :math:`v_i` the labels of map :math:`i` minus their mean, divided by the norm,

    .. math:: \frac{1}{m (m - 1)} \sum_{i \ne j} v_i \cdot v_j
              = \frac{\lVert \sum_i v_i \rVert^2 - \sum_i \lVert v_i \rVert^2}{m (m - 1)},

    which needs one pass over the maps instead of one for each pair. The correlation with a map whose labels are all the
    same is not defined and counts as 0, as in the experiments of CONSIGN. The mean of these experiments also includes
    the correlation of each map with itself.

    Pearson's correlation depends on the numbering of the labels, and on the pixels that do not vary: leaving these out
    changes it.

    Parameters
    ----------
    samples : integer array (m, H, W) or (m, D, H, W), m >= 2
        Label maps of one image, as for :func:`chao1`.
    varying_only : bool, default=False
        Whether to use only the pixels at which the maps do not all agree.

    Returns
    -------
    float
        In [-1 / (m - 1), 1], to some rounding errors: sums of labels and squares are exact. With `varying_only`, 0
        for maps that are all the same.

    Raises
    ------
    TypeError, ValueError
        If `samples` does not hold integers, has another number of axes, or holds less than two maps; or if the span of
        the labels times the number of pixels exceeds 2^53.

    See Also
    --------
    pairwise_agreement : Does not depend on the numbering of the labels.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN", ICLR 2026, arXiv:2505.14113.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> samples = np.array([[[1, 1, 1, 0]], [[1, 1, 0, 1]]])
    >>> cm.metrics.pairwise_correlation(samples)
    -0.33333333
    >>> cm.metrics.pairwise_correlation(samples, varying_only=True)
    -1.0
    """
    return _core.pairwise_correlation(_pairs_of_maps(samples), bool(varying_only))


def pairwise_agreement(samples: Any) -> float:
    r"""The share of pixels with the same label, averaged over all pairs of label maps.

    .. math:: \frac{1}{m (m - 1)} \sum_{i \ne j} \frac{|\{p : \hat y_{ip} = \hat y_{jp}\}|}{P}

    It does not depend on the numbering of the labels.

    Parameters
    ----------
    samples : integer array (m, H, W) or (m, D, H, W), m >= 2
        Label maps of one image, of P pixels, as for :func:`chao1`.

    Returns
    -------
    float
        In [0, 1], correctly rounded.

    Raises
    ------
    TypeError, ValueError
        If `samples` does not hold integers, has another rank, or holds less than two maps.

    See Also
    --------
    pairwise_correlation : Takes labels as numbers, as the experiments of CONSIGN do.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> cm.metrics.pairwise_agreement(np.array([[[1, 1, 1, 0]], [[1, 1, 0, 1]]]))
    0.5
    """
    maps = _pairs_of_maps(samples)
    return _core.agreeing_pixels(maps) / ((len(maps) - 1) * maps.size)


def _pairs_of_maps(samples: Any) -> NDArray[np.integer[Any]]:
    maps = label_array(samples, "samples")
    if maps.ndim not in (3, 4) or not maps.size:
        raise ValueError(
            f"samples must have shape (m, H, W) or (m, D, H, W) and not be empty, got {maps.shape}"
        )
    if len(maps) < 2:
        raise ValueError("samples must hold at least two label maps, got 1")
    return maps
