"""Hard masks, predicted and true, and spacings, image by image, as callers pass them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from conformask._arrays import check_binary_index, is_void, label_array
from conformask._images import Layout, not_empty, walk
from conformask._tensors import is_tensor
from conformask._text import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask.margins._settings import Configuration
    from conformask.margins._spacing import Spacings

__all__ = ["MASKS", "Case", "cases", "predicted"]


def _labels(value: Any, name: str, where: str) -> Any:
    """Masks as whole numbers; refuses probabilities."""
    is_floating = (
        value.is_floating_point()
        if is_tensor(value)
        else getattr(getattr(value, "dtype", None), "kind", "") == "f"
    )
    if is_floating:
        raise TypeError(
            f"{name} must be boolean or integer{where}, got dtype {value.dtype}: if these are probabilities, pass "
            f"{name} >= 0.5, or calibrate them with BinaryRiskCalibrator; if they are masks of 0 and 1, pass {name} > 0"
        )
    return label_array(value, name, where)


MASKS = Layout("masks", (), "masks", _labels)


class Case(NamedTuple):
    """One image: the predicted mask, the truth, and the spacing of its pixels."""

    mask: NDArray[np.bool_]
    foreground: NDArray[np.bool_]
    background: NDArray[np.bool_]
    spacing: NDArray[np.float64]

    @property
    def n_void(self) -> int:
        """Number of void pixels."""
        return self.mask.size - int(np.count_nonzero(self.foreground | self.background))


def cases(masks: Any, y: Any, spacings: Spacings, configuration: Configuration) -> Iterator[Case]:
    """The images, one by one."""
    batches = walk(masks, y, MASKS, configuration.progress, volumes=configuration.volumes)
    for given, labels, first in not_empty(batches, MASKS.name):
        found = predicted(given, configuration, first)
        apart = spacings.next(len(found), found.ndim - 1)
        truth = label_array(labels)
        for i, mask in enumerate(found):
            yield Case(mask, *_truth(truth[i], configuration, first + i), apart[i])
    spacings.check_end()


def predicted(given: Any, configuration: Configuration, first: int) -> NDArray[np.bool_]:
    """Predicted masks (n, ...), from masks or from label maps."""
    if given.ndim not in (3, 4):
        hint = "; one image is masks[None]" if given.ndim == 2 else ""
        if given.ndim == 5:
            hint = "; if it holds masks of several classes, pass those of one of them, or label maps and classes="
        raise ValueError(f"masks must have shape {MASKS.shapes('n')}, got {tuple(given.shape)}{hint}")
    if not given.size:
        raise ValueError(f"masks is empty: its shape is {tuple(given.shape)}")
    if configuration.classes is None:
        _refuse_others(given, MASKS.name, None, first)
        return np.asarray(given != 0)
    ignored = is_void(given, configuration.ignore_index)
    if ignored.any():
        image, *pixel = (int(i) for i in np.argwhere(ignored)[0])
        raise ValueError(
            f"masks holds {given[(image, *pixel)]}, which is in ignore_index, in image {first + image}: a prediction "
            "has a class for every pixel"
        )
    return _of_classes(given, configuration, MASKS.name, first)


def _truth(
    labels: NDArray[Any], configuration: Configuration, image: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The foreground and the background of an image, as masks."""
    void, labels = configuration.ignore_index, labels[np.newaxis]
    ignored = is_void(labels, void)
    if configuration.classes is None:
        _refuse_others(labels, "y", check_binary_index(void), image)
        foreground = labels == 1
    else:
        foreground = _of_classes(np.where(ignored, 0, labels), configuration, "y", image) & ~ignored
    return foreground[0], ~(foreground | ignored)[0]


def _of_classes(
    labels: NDArray[Any], configuration: Configuration, name: str, first: int
) -> NDArray[np.bool_]:
    is_wrong = labels < 0
    if is_wrong.any():
        image, *pixel = (int(i) for i in np.argwhere(is_wrong)[0])
        raise ValueError(
            f"{name} must hold classes, or ignore_index={configuration.ignore_index}, got "
            f"{labels[(image, *pixel)]} in image {first + image} at pixel {tuple(pixel)}"
        )
    assert configuration.classes is not None
    return np.isin(labels, configuration.classes)


def _refuse_others(labels: NDArray[Any], name: str, void: int | tuple[int, ...] | None, first: int) -> None:
    """Refuses masks with other numbers than 0 and 1."""
    if labels.min() >= 0 and labels.max() <= 1:
        return
    is_wrong = (labels != 0) & (labels != 1) & ~is_void(labels, void)
    if not is_wrong.any():
        return
    image, *pixel = (int(i) for i in np.argwhere(is_wrong)[0])
    value = labels[(image, *pixel)]
    known = "0 and 1" if void is None else f"0, 1 and ignore_index={void}"
    if set(np.unique(labels).tolist()) <= {0, 255}:
        hint = f"if 255 marks the foreground, pass {name} > 0"
    else:
        hint = "for label maps of several classes pass classes="
    raise ValueError(
        f"{name} must hold {known}, got {shown(int(value))} in image {first + image} at pixel {tuple(pixel)}: {hint}"
    )
