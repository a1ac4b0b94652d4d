"""Kernels over score maps: sets, their sizes, critical values and losses."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask import _core
from conformask._arrays import Labels, Scores, check_ignore_index, check_inputs, label_array
from conformask._exact import check_lambda
from conformask._images import check_labels
from conformask.losses import LossLike, as_loss, loss_values
from conformask.scores import Scored, ScoreLike, as_score, scored

__all__ = ["losses", "set_size", "threshold", "true_label_scores"]


def threshold(
    X: Any,
    lam: float,
    conformity_score: ScoreLike = "lac",
    *,
    inputs: str = "probabilities",
) -> NDArray[np.bool_]:
    r"""Multi-labeled masks: the classes of each pixel whose score is at most lambda.

    .. math:: C_\lambda(p) = \{k : s_k(p) \le \lambda\}

    Parameters
    ----------
    X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64
        Softmax probabilities, or numbers of the kind that `inputs` names.
    lam : float
        Lambda, at least 0. At the score's ``lambda_max`` and above, all sets are full.
    conformity_score : LAC, APS, RAPS, SACP, their names in lower case or a callable, default="lac"
        The score. A callable takes X and returns the critical values of all labels, an array like X in
        ``[0, lambda_max]`` (its attribute of that name, 1 if it has none). It must treat each image by itself.
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the numbers of X are: see :class:`~conformask.ConformalRiskCalibrator`.

    Returns
    -------
    bool array like X, C-contiguous
        Whether the class is in the pixel's set.

    Raises
    ------
    TypeError
        If `X` is not an array of floats.
    ValueError
        If `X` has another number of axes, is empty, or has one class, or if the numbers of a pixel are not
        probabilities.

    See Also
    --------
    conformask.ConformalRiskCalibrator.predict : Computes the sets at a calibrated lambda.
    set_size : Computes only the sizes of the sets.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, arXiv:2405.05145,
    section 4.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.5, 0.3, 0.2], np.float32).reshape(1, 3, 1, 1)
    >>> cm.kernels.threshold(X, 0.75).ravel()
    array([ True,  True, False])
    """
    return sets_at(check_lambda(lam), _scored(X, conformity_score, inputs))


Lambda: TypeAlias = (
    "float | tuple[float, ...] | _core.Lambdas"  # one for all, one for each class, or as kernels take them
)


def of_kernels(lam: Lambda) -> float | _core.Lambdas:
    """Lambda as the kernels take it."""
    return _core.Lambdas.per_class(np.array(lam)) if isinstance(lam, tuple) else lam


def sets_at(
    lam: Lambda, given: Scored, first_image: int = 0, out: NDArray[Any] | None = None, packed: bool = False
) -> NDArray[Any]:
    """The sets of :func:`threshold`, perhaps packed, in `out` or a new array; errors call image 0 `first_image`."""
    maps, write = given.maps, _core.threshold_packed if packed else _core.threshold
    if out is None:
        out = np.empty(packed_shape(maps.shape) if packed else maps.shape, np.uint8 if packed else np.bool_)
    write(maps, of_kernels(lam), given.kernel, given.inputs, out.view(np.uint8), first_image)
    return out


def packed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of masks with a bit for each class, of the shape of masks."""
    return (*shape[:1], *(-(-n // 8) for n in shape[1:2]), *shape[2:])


def packed_masks(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Masks with a bit for each class, the lowest class as the least."""
    return np.packbits(masks, axis=1, bitorder="little")


def set_size(
    X: Any,
    lam: float,
    conformity_score: ScoreLike = "lac",
    *,
    inputs: str = "probabilities",
) -> NDArray[np.uint16]:
    """Number of classes in each pixel's set, without building the masks.

    Parameters
    ----------
    X, lam, conformity_score, inputs
        As for :func:`threshold`.

    Returns
    -------
    uint16 array (n, H, W) or (n, D, H, W)
        Set sizes, from 0 (1 if the score includes the top-1) to K.

    Raises
    ------
    TypeError, ValueError
        As for :func:`threshold`.

    See Also
    --------
    threshold : Computes the sets.
    conformask.ConformalRiskCalibrator.set_size : Computes the sizes at a calibrated lambda.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.5, 0.3, 0.2], np.float32).reshape(1, 3, 1, 1)
    >>> int(cm.kernels.set_size(X, 0.75)[0, 0, 0])
    2
    """
    return sizes_at(check_lambda(lam), _scored(X, conformity_score, inputs))


def sizes_at(lam: Lambda, given: Scored, first_image: int = 0) -> NDArray[np.uint16]:
    """The sizes of :func:`set_size`; errors call the first image `first_image`."""
    out = np.empty(given.maps.shape[:1] + given.maps.shape[2:], np.uint16)
    _core.set_size(given.maps, of_kernels(lam), given.kernel, given.inputs, out, first_image)
    return out


def true_label_scores(
    X: Any,
    y: ArrayLike,
    conformity_score: ScoreLike = "lac",
    ignore_index: int | tuple[int, ...] | None = 255,
    *,
    inputs: str = "probabilities",
) -> NDArray[np.float64]:
    """The critical value of each pixel: the lambda at which its true label enters its set.

    Parameters
    ----------
    y : integer array (n, H, W) or (n, D, H, W)
        Labels.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels.
    X, conformity_score, inputs
        As for :func:`threshold`.

    Returns
    -------
    float64 array like y
        For LAC ``1.0 - float64(p)``, and 0 if the label is included as the most probable one; NaN at void pixels.

    Raises
    ------
    TypeError, ValueError
        As for :func:`threshold`; also if labels are no integers, have another shape, or are neither a class nor void.
        Numbers of `X` at void pixels are not checked, except with :class:`~conformask.SACP`, whose windows use them.

    See Also
    --------
    conformask.profile : Keeps the critical values that are above 0.
    lambda_hat : Computes a quantile of critical values.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([[0.5, 0.75, 0.5], [0.5, 0.25, 0.5]]).reshape(1, 2, 1, 3)
    >>> cm.kernels.true_label_scores(X, np.array([[[0, 1, 255]]]))
    array([[[0.  , 0.75,  nan]]])
    """
    maps, score, numbers = _scored(X, conformity_score, inputs)
    labels, index = _labels_of(maps, y, ignore_index)
    out = np.empty(maps.shape[:1] + maps.shape[2:], np.float64)
    _core.true_label_scores(maps, labels, score, numbers, index, out, 0)
    return out


def losses(
    X: Any,
    y: ArrayLike,
    lam: float,
    loss: LossLike = "miscoverage",
    conformity_score: ScoreLike = "lac",
    ignore_index: int | tuple[int, ...] | None = 255,
    *,
    inputs: str = "probabilities",
) -> NDArray[np.float64]:
    """The loss of each image at lambda, without building the masks.

    Parameters
    ----------
    X, y, conformity_score, ignore_index, inputs
        As for :func:`true_label_scores`.
    lam : float
        Lambda.
    loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function, default="miscoverage"
        The loss.

    Returns
    -------
    float64 array (n,)
        Losses in [0, 1]; NaN where the loss is undefined (an image without labelled pixels).

    Raises
    ------
    TypeError, ValueError
        As for :func:`true_label_scores`.

    See Also
    --------
    conformask.metrics.empirical_risk : Computes the mean loss of masks.
    conformask.ScoreProfiles.losses : Computes the losses at many lambdas.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([[0.5, 0.75, 0.5], [0.5, 0.25, 0.5]]).reshape(1, 2, 1, 3)
    >>> y = np.array([[[0, 1, 255]]])
    >>> cm.kernels.losses(X, y, 0.5), cm.kernels.losses(X, y, 0.75)
    (array([0.5]), array([0.]))
    """
    maps, score, numbers = _scored(X, conformity_score, inputs)
    labels, index = _labels_of(maps, y, ignore_index)
    asked, at = as_loss(loss), check_lambda(lam)
    [(missed, totals, _)] = _core.coverage(maps, labels, [at], score, numbers, index, 0)
    if asked._is_monotone:
        return loss_values(asked, missed, totals)
    profile = _core.ExactProfile.build(maps, labels, score, numbers, index, False, 0, np.array([at]))
    held = profile.held()
    assert held is not None
    return loss_values(asked, missed, totals, held[..., 0])


def _scored(X: Any, conformity_score: ScoreLike, inputs: str) -> Scored:
    return scored(as_score(conformity_score), X, check_inputs(inputs))


def _labels_of(
    maps: Scores, y: ArrayLike, ignore_index: int | tuple[int, ...] | None
) -> tuple[Labels, int | tuple[int, ...] | None]:
    """The labels of maps, and the ignore index."""
    labels, index = label_array(y), check_ignore_index(ignore_index)
    check_labels(maps, labels)
    return labels, index
