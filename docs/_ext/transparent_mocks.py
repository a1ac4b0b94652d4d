"""Decorators of libraries that are not here give back what they get: ``@METRICS.register_module()`` hides no class."""

from __future__ import annotations

import inspect
from typing import Any

from sphinx.ext.autodoc.mock import _MockObject

_call = _MockObject.__call__


def _give_back(self: Any, *args: Any, **kwargs: Any) -> Any:
    is_decorated = len(args) == 1 and not kwargs and (inspect.isclass(args[0]) or inspect.isfunction(args[0]))
    return args[0] if is_decorated else _call(self, *args, **kwargs)


def setup(app: Any) -> dict[str, bool]:
    _MockObject.__call__ = _give_back
    return {"parallel_read_safe": True}
