"""Streams: risk control for video and drifting data, and alarms for a drift."""

from conformask.online._critical import image_lambdas
from conformask.online.alarm import DriftAlarm
from conformask.online.controller import OnlineRiskController

__all__ = ["DriftAlarm", "OnlineRiskController", "image_lambdas"]


def __dir__() -> list[str]:
    return sorted(__all__)
