"""Losses by name, and in files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeAlias

from conformask._calibrator import Parameter
from conformask._exact import number_from_json, number_to_json
from conformask.losses.counted import JaccardLoss, PrecisionLoss
from conformask.losses.misses import (
    BinaryLoss,
    CallableLoss,
    FalseNegativeLoss,
    LabelAccuracyLoss,
    Loss,
    MiscoverageLoss,
)
from conformask.losses.worst_class import WorstClassLoss

__all__ = ["LossLike", "as_loss", "loss_from_json", "loss_parameter", "loss_to_json"]

LossLike: TypeAlias = Loss | str | Callable[[Any], object]

_BY_NAME: dict[str, type[Loss]] = {
    "miscoverage": MiscoverageLoss,
    "binary": BinaryLoss,
    "false_negative": FalseNegativeLoss,
    "label_accuracy": LabelAccuracyLoss,
    "precision": PrecisionLoss,
    "jaccard": JaccardLoss,
    "worst_class": WorstClassLoss,
}
_WITH_DEFAULTS = ("miscoverage", "binary")


def as_loss(loss: object, name: str = "loss") -> Loss:
    """The loss of a name, the loss itself, or what makes a loss of a function."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss.lower() in _WITH_DEFAULTS:
        return _BY_NAME[loss.lower()]()
    if callable(loss) and not isinstance(loss, type):
        return CallableLoss(loss)
    raise ValueError(
        f"{name} must be one of {sorted(_WITH_DEFAULTS)}, a loss such as BinaryLoss(0.9), or a function of the "
        f"coverage, got {loss!r}"
    )


def loss_parameter(stale: str) -> Parameter:
    """The parameter `loss` of calibrators."""
    return Parameter(
        as_loss,
        stale,
        to_json=lambda loss: json.loads(loss_to_json(as_loss(loss))),
        from_json=lambda found: loss_from_json(json.dumps(found)),
    )


def loss_to_json(loss: Loss) -> str:
    """A loss as JSON."""
    if type(loss) not in _BY_NAME.values():
        raise TypeError(f"only built-in losses can be saved, got {loss!r}")
    name = next(name for name, kind in _BY_NAME.items() if kind is type(loss))
    if isinstance(loss, WorstClassLoss):
        return json.dumps({"name": name, "loss": json.loads(loss_to_json(loss.of_class))})
    fields: dict[str, Any] = asdict(loss)  # type: ignore[call-overload]  # losses are dataclasses
    return json.dumps({"name": name, **fields}, default=number_to_json)


def loss_from_json(text: str) -> Loss:
    """The inverse of :func:`loss_to_json`."""
    fields = json.loads(text, object_hook=number_from_json)
    if fields.get("name") == "worst_class":
        return WorstClassLoss(loss_from_json(json.dumps(fields["loss"], default=number_to_json)))
    return _BY_NAME[fields.pop("name")](**fields)
