"""Stands in for mmcv's compiled operators, which mmcv-lite lacks and MMSegmentation imports. Each raises when called.

For tests: models that use the operators need the full mmcv. Where that is installed this module does nothing.
"""

import importlib.machinery
import importlib.util
import sys
import types
from typing import Any, NoReturn


def _operator(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(f"{name} is a compiled operator of mmcv: install the full mmcv")

    return missing


if "mmcv._ext" not in sys.modules and importlib.util.find_spec("mmcv._ext") is None:
    _ext = types.ModuleType("mmcv._ext")
    _ext.__spec__ = importlib.machinery.ModuleSpec(
        "mmcv._ext", None
    )  # no loader: MMEngine sees that it is not there
    _ext.__getattr__ = _operator  # type: ignore[method-assign]
    sys.modules["mmcv._ext"] = _ext
