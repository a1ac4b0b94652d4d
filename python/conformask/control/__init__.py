"""Methods that control the risk: in expectation, or with confidence given the calibration images."""

from conformask.control.base import Method, check_by_budget
from conformask.control.crc import CRC
from conformask.control.documents import (
    as_method,
    method_from_document,
    method_parameter,
    method_to_document,
)
from conformask.control.ltt import LTT
from conformask.control.pac import PAC
from conformask.control.rcps import RCPS

__all__ = [
    "CRC",
    "LTT",
    "PAC",
    "RCPS",
    "Method",
    "as_method",
    "check_by_budget",
    "method_from_document",
    "method_parameter",
    "method_to_document",
]


def __dir__() -> list[str]:
    return sorted(__all__)
