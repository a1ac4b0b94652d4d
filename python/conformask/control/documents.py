"""Methods of risk control by name, as a parameter, and in files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from conformask._calibrator import Parameter
from conformask._exact import number_from_json
from conformask.control.base import Method
from conformask.control.crc import CRC
from conformask.control.ltt import LTT
from conformask.control.pac import PAC
from conformask.control.rcps import RCPS

__all__ = ["as_method", "method_from_document", "method_parameter", "method_to_document"]

_BY_NAME: dict[str, type[Method]] = {"crc": CRC, "pac": PAC, "rcps": RCPS, "ltt": LTT}


def as_method(method: object) -> Method:
    """The method of a name, or the method itself."""
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method.lower() == "crc":
        return CRC()
    raise ValueError(
        f"method must be 'crc', CRC(), PAC(delta), RCPS(delta) or LTT(delta, grid), got {method!r}"
    )


def method_parameter(stale: str = "result", since: int = 1) -> Parameter:
    """The parameter `method` of calibrators, which may also be the name of one."""
    return Parameter(
        as_method,
        stale,
        to_json=lambda method: method_to_document(as_method(method)),
        from_json=method_from_document,
        since=since,
    )


def method_to_document(method: Method) -> dict[str, Any]:
    """A method for a JSON file."""
    for name, kind in _BY_NAME.items():
        if type(method) is kind:
            return {"name": name, **asdict(method)}  # type: ignore[call-overload]  # methods are dataclasses
    raise TypeError(f"only built-in methods can be saved, got {method!r}")


def method_from_document(document: dict[str, Any]) -> Method:
    """The inverse of :func:`method_to_document`."""
    if not isinstance(document, dict) or document.get("name") not in _BY_NAME:
        raise ValueError(f"method is {document!r}")
    fields = {name: number_from_json(value) for name, value in document.items() if name != "name"}
    return _BY_NAME[document["name"]](**fields)
