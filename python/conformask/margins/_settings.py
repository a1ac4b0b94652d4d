"""The parameters of a calibrator of margins, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from conformask._arrays import check_ignore_index
from conformask._calibrator import Parameter, number, one_of
from conformask._exact import as_fraction, check_alpha, check_share
from conformask._text import shown
from conformask.control import Method, check_by_budget, method_parameter
from conformask.losses import BinaryLoss
from conformask.margins._distances import METRICS

if TYPE_CHECKING:
    from conformask._images import Volumes
    from conformask._units import OnEmpty

__all__ = ["PARAMETERS", "Configuration"]

_SIDES: Mapping[str, tuple[str, ...]] = {"outer": ("outer",), "inner": ("inner",), "both": ("outer", "inner")}


def _check_background(share: object) -> Fraction:
    """The share of the background that may be in the mask. It must be below 1, which would require nothing."""
    fraction = as_fraction(share, "max_background")
    if not 0 <= fraction < 1:
        raise ValueError(f"max_background must be in [0, 1), got {shown(share)}")
    return fraction


PARAMETERS: Mapping[str, Parameter] = {
    "alpha": number("alpha", check_alpha, stale="result"),
    "side": one_of("side", *_SIDES, stale="images"),
    "min_coverage": number("min_coverage", lambda share: check_share(share, "min_coverage"), stale="images"),
    "max_background": number("max_background", _check_background, stale="images"),
    "metric": one_of("metric", *METRICS, stale="images"),
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
    side: str
    min_coverage: Fraction
    max_background: Fraction
    metric: str
    method: Method
    ignore_index: int | tuple[int, ...] | None
    on_empty: OnEmpty
    on_infeasible: str
    volumes: Volumes
    progress: bool | str
    # Arguments of `fit`: the classes that are the foreground of label maps, and whether images have a spacing.
    classes: tuple[int, ...] | None = None
    is_spaced: bool = False

    def __post_init__(self) -> None:
        check_by_budget(self.method, "margins are distances")
        self.method.check_loss(BinaryLoss())

    @property
    def sides(self) -> tuple[str, ...]:
        """The margins that are asked for."""
        return _SIDES[self.side]

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """The share of its pixels that each margin must bring to the right side."""
        of = {"outer": self.min_coverage, "inner": 1 - self.max_background}
        return tuple(of[side] for side in self.sides)

    @property
    def alpha_of_each(self) -> Fraction:
        """The level of each margin. With two margins each gets alpha / 2, so that both hold together (Bonferroni)."""
        return self.alpha / len(self.sides)

    @property
    def method_of_each(self) -> Method:
        """The method of each margin. With two margins and a method with confidence, each gets delta / 2 too."""
        return self.method.divided(len(self.sides))

    @property
    def lacks(self) -> str:
        """What an image on which the loss is undefined lacks: the words after "a pixel of"."""
        of = {
            "outer": "the foreground",
            "inner": "the background",
            "both": "the foreground or the background",
        }
        return of[self.side]

    @property
    def unit(self) -> str:
        """The unit of margins."""
        return "units of spacing" if self.is_spaced else "pixels"
