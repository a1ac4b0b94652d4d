"""The truncated singular value decomposition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask import _core
from conformask._arrays import matrix_array
from conformask._text import shown

__all__ = ["truncated_svd"]


def truncated_svd(A: Any, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    r"""The largest singular values of a tall matrix and their vectors, without a copy of the matrix.

    .. math:: A \approx U \operatorname{diag}(s) V^\top, \quad U^\top U = V^\top V = I, \quad s_1 \ge s_2 \ge \dots

    The right singular vectors are those of a small square matrix, which LAPACK decomposes. In general this is the
    triangular factor to which blocks of rows are reduced (TSQR; gesdd). For a tall matrix (64 rows or more for each of
    at most 512 columns) it is the Gram matrix :math:`A^\top A` (syev), which is much quicker, if all k singular values
    are at least ``s[0] / 32``: the loss of digits does not matter there. :math:`U = A V / s` is orthogonalised once
    more. Errors of `s` are a few rounding errors of ``s[0]``, whatever the condition number: less than
    ``1e-13 * s[0]``. The function is made for matrices with many rows and few columns, or the other way around: the
    work is m n times the smaller side, plus the cube of the smaller side. The cubic part runs on one thread and
    responds to Ctrl-C only at its end.

    Parameters
    ----------
    A : array (m, n), float16, float32 or float64, any strides
        The matrix; all computation is in float64. It is read in blocks: additional memory grows only with the square of
        the smaller side.
    k : int, 1 to min(m, n)
        The number of singular values.

    Returns
    -------
    U : float64 array (m, r)
        Left singular vectors, orthonormal. In each the entry of largest magnitude, the first if there are several, is
        positive. In Fortran order: ``U.T`` is C-contiguous, a row for each vector.
    s : float64 array (r,)
        Singular values, largest first.
    Vt : float64 array (r, n)
        Right singular vectors, orthonormal, one per row.

        r is k, or less if fewer singular values are above ``eps * s[0] * max(m, n)`` (`eps` of float64; the rule of
        ``numpy.linalg.matrix_rank``). Smaller singular values are 0 up to rounding, and are left out. r is 0 for the
        zero matrix.

    Raises
    ------
    TypeError
        If `A` does not hold floats, or `k` is not an int.
    ValueError
        If `A` does not have two axes, is empty, holds NaN or infinity (the message says where), or numbers so large
        that a singular value overflows; if `k` is out of range.
    RuntimeError
        If LAPACK does not converge.

    See Also
    --------
    numpy.linalg.svd : Computes all singular values.
    conformask.ConsignCalibrator : Decomposes samples of a model in this way.

    References
    ----------
    Demmel, Grigori, Hoemmen, Langou, "Communication-optimal parallel and sequential QR and LU factorizations", SIAM
    Journal on Scientific Computing 34(1), 2012, doi:10.1137/080731992.

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
        raise TypeError(f"k must be an int, got {shown(k)}")
    if not 1 <= k <= min(matrix.shape):
        raise ValueError(
            f"k must be from 1 to {min(matrix.shape)}, A having shape {matrix.shape}, got {shown(k)}"
        )
    left, values, right = _core.truncated_svd(matrix, int(k))
    return left.T, values, right
