"""The parameters of a calibrator of binary masks, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from conformask._arrays import check_ignore_index
from conformask._calibrator import Parameter, number, one_of
from conformask._exact import check_alpha
from conformask._foreground import void_of
from conformask.adaptive._scale import SCALES, Scale
from conformask.control import Method, check_by_budget, method_parameter
from conformask.losses import FalseNegativeLoss

if TYPE_CHECKING:
    from conformask._images import Volumes
    from conformask._units import OnEmpty

__all__ = ["PARAMETERS", "SIDES", "Configuration"]

# The pixels that count in a risk.
SIDES: Mapping[str, str] = {"fnr": "foreground", "fpr": "background"}

PARAMETERS: Mapping[str, Parameter] = {
    "alpha": number("alpha", check_alpha, stale="result"),
    "method": method_parameter(),
    "ignore_index": Parameter(check_ignore_index),
    "on_empty": one_of("on_empty", "skip", "raise", "zero_loss", stale="result"),
    "on_infeasible": one_of("on_infeasible", "raise", "full", stale="result"),
    "volumes": one_of("volumes", True, False, "auto"),
    "progress": one_of("progress", True, False, "auto"),
}


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The parameters, resolved."""

    alpha: Fraction
    method: Method
    ignore_index: int | tuple[int, ...] | None
    on_empty: OnEmpty
    on_infeasible: str
    volumes: Volumes
    progress: bool | str
    risk: str = "fnr"
    # Arguments of `fit`: the classes that are the foreground, and K; None if the maps are of one class.
    classes: tuple[int, ...] | None = None
    n_classes: int | None = None

    def __post_init__(self) -> None:
        check_by_budget(self.method, "the thresholds of binary masks are corrected by any number")
        try:
            self.method.check_loss(FalseNegativeLoss([1]))
        except ValueError:
            raise ValueError(
                f"method={self.method!r} needs a loss that is 0 or 1, but a share of pixels may be between; use RCPS"
            ) from None

    @property
    def is_adaptive(self) -> bool:
        """Whether images have thresholds of their own."""
        return False

    @property
    def numbers(self) -> Scale:
        """The scale of thresholds."""
        return SCALES["probability"]

    @property
    def half(self) -> str:
        """What messages call the masks of the pixels whose numbers, as calibration compares them, are at least 1/2."""
        return "masks of probability 1/2"

    @property
    def corrects(self) -> bool:
        """Whether one number corrects the thresholds of all images."""
        return True

    @property
    def void(self) -> int | tuple[int, ...] | None:
        """The label of void pixels in masks."""
        return self.ignore_index if self.classes is None else void_of(self.ignore_index)

    @property
    def side(self) -> str:
        """The pixels that count in the risk: "foreground" or "background"."""
        return SIDES[self.risk]
