"""How many threads the kernels use."""

from __future__ import annotations

from conformask import _core

__all__ = ["get_num_threads", "set_num_threads"]


def __dir__() -> list[str]:
    return sorted(__all__)


def get_num_threads() -> int:
    """Number of threads that the kernels use.

    As set by :func:`set_num_threads`, else by the environment variable ``CONFORMASK_NUM_THREADS``, else as many as CPU
    affinity and cgroup allow. The results do not depend on it.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> import conformask as cm
    >>> cm.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def set_num_threads(n_threads: int | None = None) -> None:
    """Sets the number of threads that the kernels use. They are a pool of our own.

    Parameters
    ----------
    n_threads : int >= 1 or None, default=None
        The number; None returns to the default.

    Raises
    ------
    TypeError, ValueError
        If it is no int, or below 1.

    Examples
    --------
    >>> import conformask as cm
    >>> cm.set_num_threads(1)
    >>> cm.get_num_threads()
    1
    >>> cm.set_num_threads(None)
    """
    if n_threads is not None and (isinstance(n_threads, bool) or not isinstance(n_threads, int)):
        raise TypeError(f"n_threads must be an int or None, got {n_threads!r}")
    if n_threads is not None and n_threads < 1:
        raise ValueError(f"n_threads must be at least 1, got {n_threads}")
    _core.set_num_threads(n_threads)
