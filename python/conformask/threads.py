"""How many threads the kernels use."""

from __future__ import annotations

import os

from conformask import _core
from conformask._text import shown
from conformask._warnings import warn_caller

__all__ = ["get_num_threads", "set_num_threads"]

_VARIABLE = "CONFORMASK_NUM_THREADS"


def __dir__() -> list[str]:
    return sorted(__all__)


def get_num_threads() -> int:
    """Number of threads that the kernels use.

    It is set by :func:`set_num_threads`, else by the environment variable ``CONFORMASK_NUM_THREADS``, else it is the
    number of processors that CPU affinity and cgroup allow. Results do not depend on it. A value of the environment
    variable that :func:`set_num_threads` would refuse is ignored, and the import of conformask warns of it.

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
    """Sets the number of threads that the kernels use, in a thread pool of their own.

    Parameters
    ----------
    n_threads : int >= 1 or None, default=None
        The number, at most 4 times the processors that affinity and cgroup allow, as they were when a process first
        used the kernels; None restores the default.

    Raises
    ------
    TypeError, ValueError
        If `n_threads` is not an int, or out of range.

    Examples
    --------
    >>> import conformask as cm
    >>> cm.set_num_threads(1)
    >>> cm.get_num_threads()
    1
    >>> cm.set_num_threads(None)
    """
    if n_threads is not None:
        if isinstance(n_threads, bool) or not isinstance(n_threads, int):
            raise TypeError(f"n_threads must be an int or None, got {shown(n_threads)}")
        if not 1 <= n_threads <= _core.most_threads():
            raise ValueError(f"n_threads must be {_range()}, got {shown(n_threads)}")
    _core.set_num_threads(n_threads)


def warn_of_environment() -> None:
    """Warns if the environment variable does not hold a valid number of threads."""
    text = os.environ.get(_VARIABLE, "").strip()
    if text and _core.environment_threads() is None:
        warn_caller(
            f"{_VARIABLE} must be {_range()}, got {shown(text)}: it is ignored, and there are "
            f"{get_num_threads()} threads",
            RuntimeWarning,
        )


def _range() -> str:
    return f"at least 1 and at most {_core.most_threads()}, 4 times the processors"
