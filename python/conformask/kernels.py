"""The zero-copy functions, one per Rust kernel: arrays in, arrays out.

Scores `X` are softmax probabilities ``(n, K, H, W)`` or ``(n, K, D, H, W)``, float16, float32 or float64, with any
strides: C order and channel-last views are read where they lie. Labels `y` are ``(n, H, W)`` or ``(n, D, H, W)`` of any
integer type. All kernels release the GIL, use ``conformask.get_num_threads()`` threads, give the same bits for any
number of them, and stop on Ctrl-C.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conformask import _core
from conformask._arrays import (
    check_ignore_index,
    check_inputs,
    label_array,
    mask_array,
    matrix_array,
    score_array,
)
from conformask._exact import as_fraction, check_lambda
from conformask._images import check_labels
from conformask._random import RandomState, check_key
from conformask.losses import LossLike, as_loss, loss_values
from conformask.scores import ScoreLike, as_score, scored

__all__ = [
    "distinct_counts",
    "label_hits",
    "lambda_hat",
    "losses",
    "sample_masks",
    "set_size",
    "threshold",
    "true_label_scores",
    "truncated_svd",
]


def threshold(
    X: Any,
    lam: float,
    conformity_score: ScoreLike = "lac",
    *,
    inputs: str = "probabilities",
    first_image: int = 0,
) -> NDArray[np.bool_]:
    r"""Multi-labeled masks: the classes of each pixel whose score is at most lambda.

    .. math:: C_\lambda(p) = \{k : s_k(p) \le \lambda\}

    Parameters
    ----------
    X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64
        Softmax probabilities, or what `inputs` says.
    lam : float
        Lambda, at least 0. At the score's ``lambda_max`` and above, all sets are full.
    conformity_score : LAC, APS, RAPS, SACP, their names in lower case or a callable, default="lac"
        The score. A callable takes X and returns the critical values of all labels, an array like X in
        ``[0, lambda_max]`` (its attribute of that name, 1 if it has none).
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the numbers of X are: see :class:`~conformask.ConformalRiskCalibrator`.
    first_image : int, default=0
        What errors call the first image.

    Returns
    -------
    bool array like X, C-contiguous
        Whether the class is in the pixel's set.

    Raises
    ------
    TypeError
        If `X` is no array of floats.
    ValueError
        If `X` has another rank, is empty, has one class, or holds what is no probability vector.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.5, 0.3, 0.2], np.float32).reshape(1, 3, 1, 1)
    >>> cm.kernels.threshold(X, 0.75).ravel()
    array([ True,  True, False])
    """
    maps, score, inputs = scored(as_score(conformity_score), score_array(X), check_inputs(inputs))
    out = np.empty(maps.shape, np.bool_)
    _core.threshold(maps, check_lambda(lam), score, inputs, out.view(np.uint8), first_image)
    return out


def set_size(
    X: Any,
    lam: float,
    conformity_score: ScoreLike = "lac",
    *,
    inputs: str = "probabilities",
    first_image: int = 0,
) -> NDArray[np.uint16]:
    """Number of classes in each pixel's set, without building the masks.

    Parameters
    ----------
    X, lam, conformity_score, inputs, first_image
        As for :func:`threshold`.

    Returns
    -------
    uint16 array (n, H, W) or (n, D, H, W)
        Set sizes, from 0 (1 if the score includes the top-1) to K.

    Raises
    ------
    TypeError, ValueError
        As :func:`threshold`.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([0.5, 0.3, 0.2], np.float32).reshape(1, 3, 1, 1)
    >>> int(cm.kernels.set_size(X, 0.75)[0, 0, 0])
    2
    """
    maps, score, inputs = scored(as_score(conformity_score), score_array(X), check_inputs(inputs))
    out = np.empty(maps.shape[:1] + maps.shape[2:], np.uint16)
    _core.set_size(maps, check_lambda(lam), score, inputs, out, first_image)
    return out


def true_label_scores(
    X: Any,
    y: ArrayLike,
    conformity_score: ScoreLike = "lac",
    ignore_index: int | None = 255,
    *,
    inputs: str = "probabilities",
) -> NDArray[np.float64]:
    """The critical value of each pixel: the lambda at which its true label enters its set.

    Parameters
    ----------
    X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64
        Softmax probabilities, or what `inputs` says.
    y : integer array (n, H, W) or (n, D, H, W)
        Labels.
    conformity_score : LAC, APS, RAPS, SACP, their names in lower case or a callable, default="lac"
        The score.
    ignore_index : int or None, default=255
        The label of void pixels.
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the numbers of X are: see :class:`~conformask.ConformalRiskCalibrator`.

    Returns
    -------
    float64 array like y
        For LAC ``1.0 - float64(p)``, and 0 where the label is included as top-1; NaN at void pixels.

    Raises
    ------
    TypeError, ValueError
        As :func:`threshold`, and for labels that are no integers, of another shape, or neither a class nor void. What
        `X` holds at void pixels is not looked at, but by the windows of :class:`~conformask.SACP`.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([[0.5, 0.75, 0.5], [0.5, 0.25, 0.5]]).reshape(1, 2, 1, 3)
    >>> cm.kernels.true_label_scores(X, np.array([[[0, 1, 255]]]))
    array([[[0.  , 0.75,  nan]]])
    """
    maps, score, inputs = scored(as_score(conformity_score), score_array(X), check_inputs(inputs))
    labels, index = label_array(y), check_ignore_index(ignore_index)
    check_labels(maps, labels)
    out = np.empty(maps.shape[:1] + maps.shape[2:], np.float64)
    _core.true_label_scores(maps, labels, score, inputs, index, out, 0)
    return out


def sample_masks(
    masks: ArrayLike, n_samples: int, random_state: RandomState = None
) -> NDArray[np.unsignedinteger]:
    """Label maps drawn from multi-labeled masks: at each pixel one class of its set, uniformly and independently.

    What one does to compare pixel-wise sets with sets of whole segmentations.

    Parameters
    ----------
    masks : bool array (n, K, H, W) or (n, K, D, H, W)
        Multi-labeled masks without an empty set, as ``predict`` gives them.
    n_samples : int >= 1
        Number of label maps m of each image.
    random_state : int >= 0, numpy.random.Generator, numpy.random.RandomState or None, default=None
        The key of the random numbers: the same int gives the same samples, for any number of threads. None draws one.

    Returns
    -------
    array (n, m, H, W) or (n, m, D, H, W), uint8, or uint16 if K > 256
        Element t, in row-major order, takes the class at place ``floor(r_t * size / 2**64)`` of its set, where ``r_t``
        is the t-th number of ``numpy.random.Philox(key=random_state)``.

    Raises
    ------
    TypeError, ValueError
        If masks are not boolean, a set is empty, or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> masks = np.array([[[[1, 1, 0]], [[0, 1, 1]]]], bool)  # sets {0}, {0, 1} and {1}
    >>> samples = cm.kernels.sample_masks(masks, 1000, random_state=0)
    >>> samples[0, :, 0, 0].max(), samples[0, :, 0, 2].min()
    (np.uint8(0), np.uint8(1))
    >>> 0.45 < samples[0, :, 0, 1].mean() < 0.55
    np.True_
    """
    sets = mask_array(masks)
    if isinstance(n_samples, bool) or not isinstance(n_samples, int | np.integer):
        raise TypeError(f"n_samples must be an int, got {n_samples!r}")
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    key = check_key(random_state)
    if sets.ndim not in (4, 5):
        raise ValueError(f"masks must be (n, K, H, W) or (n, K, D, H, W), got {sets.shape}")
    dtype = np.uint8 if sets.shape[1] <= 256 else np.uint16
    out: NDArray[np.unsignedinteger] = np.empty((len(sets), n_samples, *sets.shape[2:]), dtype)
    _core.sample_masks(sets, key, out)
    return out


def losses(
    X: Any,
    y: ArrayLike,
    lam: float,
    loss: LossLike = "miscoverage",
    conformity_score: ScoreLike = "lac",
    ignore_index: int | None = 255,
    *,
    inputs: str = "probabilities",
) -> NDArray[np.float64]:
    """The loss of each image at lambda, without building the masks.

    Parameters
    ----------
    X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64
        Softmax probabilities, or what `inputs` says.
    y : integer array (n, H, W) or (n, D, H, W)
        Labels.
    lam : float
        Lambda.
    loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function, default="miscoverage"
        The loss.
    conformity_score : LAC, APS, RAPS, SACP, their names in lower case or a callable, default="lac"
        The score.
    ignore_index : int or None, default=255
        The label of void pixels.
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the numbers of X are: see :class:`~conformask.ConformalRiskCalibrator`.

    Returns
    -------
    float64 array (n,)
        Losses in [0, 1]; NaN where the loss is undefined (an image without labelled pixels).

    Raises
    ------
    TypeError, ValueError
        As :func:`true_label_scores`.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([[0.5, 0.75, 0.5], [0.5, 0.25, 0.5]]).reshape(1, 2, 1, 3)
    >>> y = np.array([[[0, 1, 255]]])
    >>> cm.kernels.losses(X, y, 0.5), cm.kernels.losses(X, y, 0.75)
    (array([0.5]), array([0.]))
    """
    maps, score, inputs = scored(as_score(conformity_score), score_array(X), check_inputs(inputs))
    labels, index = label_array(y), check_ignore_index(ignore_index)
    check_labels(maps, labels)
    missed, totals, _ = _core.coverage(maps, labels, check_lambda(lam), score, inputs, index, 0)
    return loss_values(as_loss(loss), missed, totals)


def lambda_hat(
    values: ArrayLike, weights: ArrayLike | None, budget: float, *, least: float = 0.0
) -> float | None:
    r"""The weighted quantile behind every lambda-hat, exact and without a sort.

    .. math:: \inf \Big\{ t \ge t_0 : \sum_i w_i \, 1[v_i > t] \le b \Big\}

    Conformal risk control takes critical values :math:`v`, what each adds to the summed loss as :math:`w`, and the
    budget :math:`b = \alpha (n + 1) - 1`.

    Parameters
    ----------
    values : array (m,), finite and >= least
        The values, taken as float64.
    weights : array (m,), finite and >= 0, or None
        Their weights, exactly the float64 numbers given; None: all 1.
    budget : float or fractions.Fraction
        The budget, as the decimal that it prints as.
    least : float, default=0.0
        The least quantile :math:`t_0`: -1 for a correction to thresholds, which may lower them.

    Returns
    -------
    float or None
        The quantile: `least` or one of `values`. None if the budget is negative.

    Raises
    ------
    ValueError
        If the arrays are not of one length, or hold NaN, infinite or negative numbers (values: less than `least`).

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024.

    Examples
    --------
    >>> import conformask as cm
    >>> critical_values = [0.1, 0.2, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0, 2.0]
    >>> cm.kernels.lambda_hat(critical_values, None, 0.2 * (9 + 1) - 1)
    1.0
    >>> cm.kernels.lambda_hat([-0.5, -0.25, 0.75], None, 1, least=-1.0)
    -0.25
    """
    if not np.isfinite(least):
        raise ValueError(f"least must be finite, got {least!r}")
    flat = np.ascontiguousarray(values, np.float64)
    ones = np.ones(flat.shape) if weights is None else np.ascontiguousarray(weights, np.float64)
    if flat.ndim != 1 or ones.ndim != 1:
        raise ValueError(f"values and weights must have one axis, got shapes {flat.shape} and {ones.shape}")
    return _core.weighted_quantile(flat, ones, as_fraction(budget, "budget"), float(least))


def truncated_svd(A: Any, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    r"""The largest singular values of a tall matrix and their vectors, without a copy of the matrix.

    .. math:: A \approx U \operatorname{diag}(s) V^\top, \quad U^\top U = V^\top V = I, \quad s_1 \ge s_2 \ge \dots

    The right singular vectors are those of a small square matrix, which LAPACK decomposes. In general it is the
    triangular factor to which blocks of rows are reduced (TSQR; gesdd). Of a tall matrix (64 rows or more for each of
    at most 512 columns) it is the Gram matrix :math:`A^\top A` (syev), which is much quicker, if all k singular values
    are at least ``s[0] / 32``: there that loses no digits that count. :math:`U = A V / s` is orthogonalised once
    more. Errors of `s` are some rounding errors of ``s[0]``, whatever the condition: less than ``1e-13 * s[0]``.
    Made for matrices with many rows and few columns, or the other way around: the work is m n times the smaller side,
    and the cube of the smaller side, which runs on one thread and hears Ctrl-C only at its end.

    Parameters
    ----------
    A : array (m, n), float16, float32 or float64, any strides
        The matrix; all computation is in float64. It is read in blocks: beside it and the result, memory grows with the
        square of the smaller side only.
    k : int, 1 to min(m, n)
        How many singular values are wanted.

    Returns
    -------
    U : float64 array (m, r)
        Left singular vectors, orthonormal. In each the entry of largest magnitude, the first if there are several, is
        positive. In Fortran order: ``U.T`` is C-contiguous, a row for each vector.
    s : float64 array (r,)
        Singular values, largest first.
    Vt : float64 array (r, n)
        Right singular vectors, orthonormal, one per row.

        r is k, or less where fewer singular values are above ``eps * s[0] * max(m, n)`` (`eps` of float64; the rule
        of ``numpy.linalg.matrix_rank``). Below that is what rounding makes of 0; it has no direction of its own and is
        left out. r is 0 for the zero matrix.

    Raises
    ------
    TypeError
        If `A` does not hold floats, or `k` is no int.
    ValueError
        If `A` has not two axes, is empty, holds NaN or infinity (the message says where), or numbers so large that a
        singular value overflows; if `k` is out of range.
    RuntimeError
        If LAPACK does not converge.

    References
    ----------
    Demmel, Grigori, Hoemmen, Langou, "Communication-optimal parallel and sequential QR and LU factorizations", SIAM
    Journal on Scientific Computing 34(1), 2012.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> A = np.array([[3.0, 0.0], [0.0, 2.0], [4.0, 0.0]])
    >>> U, s, Vt = cm.kernels.truncated_svd(A, 2)
    >>> s
    array([5., 2.])
    >>> U[:, 0]
    array([0.6, 0. , 0.8])
    >>> np.allclose((U * s) @ Vt, A)
    True
    >>> cm.kernels.truncated_svd(A[:, :1] * [1.0, 2.0], 2)[1]  # of rank 1
    array([11.18033989])
    """
    matrix = matrix_array(A)
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise TypeError(f"k must be an int, got {k!r}")
    if not 1 <= k <= min(matrix.shape):
        raise ValueError(f"k must be from 1 to {min(matrix.shape)}, A having shape {matrix.shape}, got {k}")
    left, values, right = _core.truncated_svd(matrix, int(k))
    return left.T, values, right


def distinct_counts(samples: Any) -> tuple[int, int, int]:
    """How many label maps are different, and how many of these occur just once and just twice.

    What estimates of the number of label maps never drawn start from: :func:`conformask.metrics.chao1`. Hashes put
    equal maps together, and maps of one hash are compared pixel by pixel: the counts are exact. Pixels at which all
    maps agree make no difference.

    Parameters
    ----------
    samples : integer array (m, H, W) or (m, D, H, W), any strides
        Label maps of one image.

    Returns
    -------
    (int, int, int)
        The number of different label maps, and of those that occur once and twice.

    Raises
    ------
    TypeError, ValueError
        If `samples` does not hold integers, has another rank, or is empty.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> samples = np.array([[[0, 0]], [[0, 1]], [[1, 1]], [[0, 1]], [[0, 0]], [[0, 0]]])
    >>> cm.kernels.distinct_counts(samples)
    (3, 1, 1)
    """
    return _core.distinct_counts(label_array(samples, "samples"))


def label_hits(
    y: ArrayLike, predictions: ArrayLike, ignore_index: int | None = 255
) -> tuple[NDArray[np.integer[Any]], NDArray[np.uint64], NDArray[np.uint64]]:
    """How many pixels of each label of an image are right in each of some label maps.

    Parameters
    ----------
    y : integer array (H, W) or (D, H, W)
        The labels of one image: any integers.
    predictions : integer array (m, H, W) or (m, D, H, W), of any integer type
        Label maps of the same image.
    ignore_index : int or None, default=255
        The label of void pixels, which do not count.

    Returns
    -------
    labels : array (L,), of the type of `y`
        The labels that occur, ascending, without the ignore index.
    totals : uint64 array (L,)
        Number of pixels of each.
    hits : uint64 array (m, L)
        Number of those pixels that the label map has right.

    Raises
    ------
    TypeError, ValueError
        If an array does not hold integers, is empty, or shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> y = np.array([[3, 3, 7, 255]])
    >>> labels, totals, hits = cm.kernels.label_hits(y, np.array([[[3, 7, 7, 7]], [[0, 3, 3, 3]]]))
    >>> labels.tolist(), totals.tolist(), hits.tolist()
    ([3, 7], [2, 1], [[1, 1], [1, 0]])
    """
    truth, maps = label_array(y), label_array(predictions, "predictions")
    index = check_ignore_index(ignore_index)
    if truth.ndim not in (2, 3) or not truth.size:
        raise ValueError(f"y must have shape (H, W) or (D, H, W) and not be empty, got {truth.shape}")
    if maps.shape[1:] != truth.shape:
        expected = ", ".join(["m", *map(str, truth.shape)])
        raise ValueError(f"predictions must have shape ({expected}) to match y, got {maps.shape}")
    labels, totals, hits = _core.label_hits(truth, maps, index)
    return np.array(labels, truth.dtype), totals, hits
