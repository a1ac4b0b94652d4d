"""Checks of the arguments of plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import NotFittedError

from conformask._arrays import check_ignore_index, clean_bools, is_void
from conformask._sequences import listed
from conformask._text import lambda_text
from conformask.adaptive.report import BinaryReport

__all__ = [
    "Calibrated",
    "alpha_text",
    "at_level",
    "chosen_classes",
    "class_index",
    "common_alpha",
    "grey_ground",
    "level_text",
    "opacity_over",
    "plain_array",
    "void_pixels",
]


_BARE = 0.03  # grey of the ground without an image: dark, but the darkest colour of a class still stands out


class Calibrated(Protocol):
    """What a title needs of a calibrator."""

    @property
    def alpha(self) -> float: ...
    @property
    def lambda_hat_(self) -> float: ...


def at_level(title: str, calibrator: Calibrated | None) -> str:
    """A title, with alpha and lambda-hat in a second line if the calibrator is known."""
    if calibrator is None:
        return title
    try:
        alpha, lam = calibrator.alpha, calibrator.lambda_hat_
    except NotFittedError:  # it is also an AttributeError
        raise
    except AttributeError:
        if hasattr(calibrator, "predict_lambdas"):  # lambdas differ between images
            return f"{title}\n{alpha_text(calibrator.alpha)}"
        raise TypeError(
            f"calibrator must be a fitted calibrator, with alpha and lambda_hat_, got a {type(calibrator).__name__}"
        ) from None
    return f"{title}\n{level_text(alpha, lam) if np.ndim(lam) == 0 else alpha_text(alpha)}"


def level_text(alpha: float, lam: float) -> str:
    """Alpha and lambda-hat, for titles; alpha alone if there are several lambdas."""
    if math.isnan(lam):
        return alpha_text(alpha)
    return rf"{alpha_text(alpha)}, $\hat\lambda$ = {lambda_text(lam)}"


def alpha_text(alpha: float) -> str:
    """Alpha, which may be a fraction, for titles and legends."""
    return rf"$\alpha$ = {float(alpha):g}"


def common_alpha(reports: Sequence[object]) -> float:
    """The alpha of reports of binary masks whose coverage is controlled: at least one, all at the same."""
    if not reports:
        raise ValueError("reports must be at least one, got none")
    alphas = set()
    for report in reports:
        if not isinstance(report, BinaryReport):
            raise TypeError(
                "reports must be BinaryReports, as calibrator.evaluate(P, y) of a calibrator of binary masks returns, "
                f"got a {type(report).__name__}"
            )
        if report.risk != "fnr":
            raise ValueError(
                f"reports must be of masks whose coverage is controlled, risk='fnr', got {report.risk!r}"
            )
        alphas.add(report.alpha)
    if len(alphas) > 1:
        raise ValueError(f"reports must have one alpha, got {sorted(alphas)}")
    return alphas.pop()


def plain_array(name: str, values: ArrayLike, ndim: int) -> NDArray[Any]:
    """An argument as an array of numbers."""
    array = np.asarray(values)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must have {ndim} dimensions and not be empty, got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got dtype {array.dtype}")
    return clean_bools(array) if array.dtype == bool else array


def void_pixels(
    labels: ArrayLike | None, ignore_index: int | tuple[int, ...] | None, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Where labels are void: nowhere without labels."""
    if labels is None:
        return np.zeros(shape, bool)
    array = plain_array("labels", labels, 2)
    if array.shape != shape:
        raise ValueError(f"labels must have shape {shape}, got {array.shape}")
    return is_void(array, check_ignore_index(ignore_index))


def grey_ground(image: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the image as grey in [0, 1], so that its colours do not compete with those of classes."""
    if image is None:
        return np.full(shape, _BARE)
    array = np.asarray(image)
    if array.shape not in (shape, (*shape, 3)):
        raise ValueError(f"image must have shape {shape} or {(*shape, 3)}, got {array.shape}")
    if array.dtype == np.uint8:
        array = array / 255
    elif array.dtype.kind != "f" or not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"image must be uint8 or floating in [0, 1], got {array.dtype} {_range_text(array)}. Scale it: "
            "np.clip((image - low) / (high - low), 0, 1) draws the value low black and high white"
        )
    grey = array @ [0.299, 0.587, 0.114] if array.ndim == 3 else array
    return np.asarray(grey, np.float64)


def _range_text(array: NDArray[Any]) -> str:
    """The range of the finite numbers of an array, as text."""
    if array.dtype.kind not in "biuf" or not array.size:
        return "values"
    if not np.isfinite(array).all():
        return "with values that are not finite"
    return f"from {array.min():g} to {array.max():g}"


def opacity_over(image: ArrayLike | None, opacity: float) -> float:
    """The opacity given, in (0, 1], over an image; 1 without an image, as nothing can show through."""
    if not 0 < opacity <= 1:
        raise ValueError(f"opacity must lie in (0, 1], got {opacity}")
    return 1.0 if image is None else opacity


def class_index(argument: str, given: int | str, names: list[str]) -> int:
    """The index of a class that is given by its index or its name."""
    if isinstance(given, str):
        if names.count(given) != 1:
            raise ValueError(f"{argument} must be the name of one class, got {given!r}; there are {names}")
        return names.index(given)
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise TypeError(f"{argument} must be given by index or name, got {given!r}")
    if not 0 <= given < len(names):
        raise ValueError(f"{argument} must be from 0 to {len(names) - 1}, got {given}")
    return int(given)


def chosen_classes(
    classes: Sequence[int | str] | None, names: list[str], argument: str = "classes"
) -> list[int]:
    """The classes to draw, at least one; by default all."""
    if classes is None:
        return list(range(len(names)))
    chosen = [class_index(argument, given, names) for given in listed(classes, argument)]
    if not chosen:
        raise ValueError(f"{argument} must be at least one, got none")
    return chosen
