"""Libraries that are not here hide nothing of our classes.

Decorators of theirs give back what they get, as ``@METRICS.register_module()``. Classes of ours that derive from theirs
have the signatures of their own ``__init__``; those of the stand-ins would be ``(*args, **kwargs)``.
"""

from __future__ import annotations

import inspect
from typing import Any

from sphinx.ext.autodoc.mock import _MockObject

_call = _MockObject.__call__


def _give_back(self: Any, *args: Any, **kwargs: Any) -> Any:
    is_decorated = len(args) == 1 and not kwargs and (inspect.isclass(args[0]) or inspect.isfunction(args[0]))
    return args[0] if is_decorated else _call(self, *args, **kwargs)


def _own_signature(
    app: Any, what: str, name: str, value: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """The signature of the ``__init__`` of a class that derives from a stand-in; None for others."""
    if what != "class" or not any(issubclass(base, _MockObject) for base in value.__mro__[1:]):
        return None
    own = next((vars(each)["__init__"] for each in value.__mro__ if "__init__" in vars(each)), None)
    if not inspect.isfunction(own) or own.__module__ == _MockObject.__module__:
        return None
    found = inspect.signature(own)
    parameters = [
        each.replace(annotation=each.empty) for name, each in found.parameters.items() if name != "self"
    ]
    return str(inspect.Signature(parameters)), returned


def setup(app: Any) -> dict[str, bool]:
    _MockObject.__call__ = _give_back
    app.connect("autodoc-process-signature", _own_signature)
    return {"parallel_read_safe": True}
