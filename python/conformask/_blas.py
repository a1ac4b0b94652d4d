"""Limits BLAS to one thread while a map is fitted: the bits of a product may depend on the number of threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # of scikit-learn

__all__ = ["one_blas_thread"]


class _Users:
    """The number of users of the limit: the number of BLAS threads belongs to the whole process."""

    lock: ClassVar[Any] = threading.Lock()
    n: ClassVar[int] = 0
    limits: ClassVar[Any] = None

    @classmethod
    def renew(cls) -> None:
        cls.lock, cls.n = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Users.renew)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limits BLAS to one thread until all users of the limit are done."""
    with _Users.lock:
        if not _Users.n:
            _Users.limits = threadpool_limits(limits=1, user_api="blas")
        _Users.n += 1
    try:
        yield
    finally:
        with _Users.lock:
            _Users.n -= 1
            if not _Users.n:
                _Users.limits.restore_original_limits()
