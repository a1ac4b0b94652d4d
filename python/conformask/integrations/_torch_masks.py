"""The results of a calibrated module: sets of classes, or the mask of one class."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree

from conformask._tables import html_table
from conformask._text import shown
from conformask._torch_sets import Lambda, check_maps, check_score, prediction_sets
from conformask._torch_softmax import shares_of, to_probabilities
from conformask.adaptive import BinaryRiskCalibrator
from conformask.adaptive._calibrator import BinaryCalibrator
from conformask.risk_control import ConformalRiskCalibrator
from conformask.scores import as_score

__all__ = ["BinaryMasks", "BinaryOutput", "ConformalOutput", "LabelSets", "foreground_of", "strategy_of"]

_PUBLIC = "conformask.integrations.torch"  # the module under which exported modules know these classes


class ConformalOutput(NamedTuple):
    """The result of :class:`ConformalModule` with a :class:`~conformask.ConformalRiskCalibrator`.

    Attributes
    ----------
    probabilities : float tensor (B, K, H, W)
        The probabilities that the model predicts.
    masks : bool tensor (B, K, H, W)
        Whether the class is in the pixel's set.
    set_size : int16 tensor (B, H, W)
        Number of classes in the pixel's set.
    varisco : float32 tensor (B, H, W)
        The heatmap of uncertainty: set size over the number of classes, in [0, 1].
    """

    probabilities: Tensor
    masks: Tensor
    set_size: Tensor
    varisco: Tensor

    def __repr__(self) -> str:
        """The shapes, not the numbers.

        Returns
        -------
        str
        """
        return _shapes_text(self)

    def _repr_html_(self) -> str:
        return html_table("ConformalOutput", _shapes(self))


class BinaryOutput(NamedTuple):
    """The result of :class:`ConformalModule` with a calibrator of binary masks.

    Attributes
    ----------
    probability : float tensor (B, H, W)
        The probability of the foreground that the model predicts.
    mask : bool tensor (B, H, W)
        Whether the pixel is in the mask: ``probability >= threshold[:, None, None]``, exactly.
    threshold : float tensor (B,)
        The threshold of each image: the smallest number of the dtype of `probability` that is at least the threshold of
        the calibrator, which is float64.
    """

    probability: Tensor
    mask: Tensor
    threshold: Tensor

    def __repr__(self) -> str:
        """The shapes, not the numbers.

        Returns
        -------
        str
        """
        return _shapes_text(self)

    def _repr_html_(self) -> str:
        return html_table("BinaryOutput", _shapes(self))


# This allows exported modules to be saved, with the names of the fields.
for _output in (ConformalOutput, BinaryOutput):
    _pytree._register_namedtuple(_output, serialized_type_name=f"{_PUBLIC}.{_output.__name__}")


def _shapes(output: Any) -> list[tuple[str, str]]:
    parts = ((name, each.dtype, tuple(each.shape)) for name, each in output._asdict().items())
    return [(name, f"{str(dtype).removeprefix('torch.')} {shape}") for name, dtype, shape in parts]


def _shapes_text(output: Any) -> str:
    return f"{type(output).__name__}({', '.join(f'{name}={text}' for name, text in _shapes(output))})"


def foreground_of(scores: Tensor, inputs: str, foreground: Any) -> Tensor:
    """The probability (B, ...) of one class of scores (B, K, ...), which does not keep the others in memory."""
    n_classes = scores.shape[1]
    index = _class_index(foreground)
    if index >= n_classes:
        raise ValueError(
            f"foreground must be in [0, {n_classes - 1}], got {index}: the output has K = {n_classes} classes"
        )
    return to_probabilities(scores, inputs)[:, index].clone(memory_format=torch.contiguous_format)


def _class_index(foreground: Any) -> int:
    try:
        index = None if isinstance(foreground, bool) else operator.index(foreground)
    except TypeError:
        index = None
    if index is None:
        raise TypeError(f"foreground must be the index of a class, an int, got {shown(foreground)}")
    if index < 0:
        raise ValueError(f"foreground must be at least 0, got {index}")
    return index


class LabelSets:
    """The sets of a :class:`ConformalRiskCalibrator`, whose score, lambda-hat and K are copied."""

    def __init__(self, calibrator: ConformalRiskCalibrator) -> None:
        if calibrator.transform is not None:
            raise TypeError(
                "a scaler (transform=) works on arrays: give the output of the model to the calibrator's "
                "predict, or "
                "calibrate without a scaler"
            )
        if calibrator.adaptive is not None:
            raise TypeError(
                "the lambdas of a model (adaptive=) are computed on arrays: give the output of the model "
                "to the calibrator's predict"
            )
        self.lambda_hat: Lambda = calibrator._lambda_for_modules()
        self.n_classes = calibrator.n_classes_
        self.conformity_score = as_score(calibrator.conformity_score)
        self.inputs = calibrator.inputs
        check_score(self.conformity_score)

    def __call__(self, scores: Tensor, inputs: str) -> ConformalOutput:
        """Sets of scores (B, K, ...)."""
        if scores.shape[1] != self.n_classes:
            raise ValueError(
                f"the model gives K = {scores.shape[1]} classes, but calibration had K = {self.n_classes}"
            )
        if not torch.compiler.is_compiling():  # an exported module cannot branch on numbers
            check_maps(scores, inputs, name="the output")
        shares = shares_of(scores, inputs)
        masks = prediction_sets(shares, self.conformity_score, self.lambda_hat)
        sizes = masks.sum(dim=1, dtype=torch.int16)
        return ConformalOutput(shares.p, masks, sizes, sizes / self.n_classes)

    def __repr__(self) -> str:
        lam = "of each class" if isinstance(self.lambda_hat, tuple) else f"{self.lambda_hat:g}"
        return f"{self.conformity_score}, lambda_hat={lam}, K={self.n_classes}"


class BinaryMasks:
    """The masks of a calibrator of one class, in the state that it had when this object was made."""

    inputs = "logits"  # the default for the outputs of a model

    def __init__(self, calibrator: BinaryCalibrator[Any], foreground: int) -> None:
        self.calibrator = calibrator._without_images()
        self.foreground = _class_index(foreground)
        # One threshold for all images does not depend on them: it is computed here for each type of probabilities.
        self.threshold = (
            float(calibrator.threshold_) if isinstance(calibrator, BinaryRiskCalibrator) else None
        )
        self._cutoffs = {
            dtype: _smallest_from(
                torch.tensor(self.threshold, dtype=torch.float64, device="cpu"), dtype
            ).item()
            for dtype in (torch.float32, torch.float64)
            if self.threshold is not None
        }

    def __call__(self, scores: Tensor, inputs: str) -> BinaryOutput:
        """Masks of scores (B, K, ...)."""
        p = foreground_of(scores, inputs, self.foreground)
        if not torch.compiler.is_compiling():
            _check_probability(p, inputs, self.foreground)
        if self.threshold is not None:
            thresholds = p.new_full((p.shape[0],), self._cutoffs[p.dtype])
        else:
            thresholds = self._thresholds_found_on_the_cpu(p)
        return BinaryOutput(p, p >= thresholds.reshape(-1, *[1] * (p.ndim - 1)), thresholds)

    @torch.compiler.disable
    def _thresholds_found_on_the_cpu(self, p: Tensor) -> Tensor:
        if _is_exporting():
            raise NotImplementedError(
                f"the thresholds of {type(self.calibrator).__name__} depend on the image and are found on the CPU, "
                "which torch.export cannot take along (a BinaryRiskCalibrator it can): export the model alone, and "
                "give as_foreground(output) to the calibrator's predict"
            )
        found = torch.from_numpy(self.calibrator.predict_thresholds(p.cpu()))
        return _smallest_from(found, p.dtype).to(p.device)

    def __repr__(self) -> str:
        return f"{self.calibrator}, foreground={self.foreground}"


# PyTorch 2.6 has only the more general check.
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def _smallest_from(cutoffs: Tensor, dtype: torch.dtype) -> Tensor:
    """The smallest numbers of a type that are at least the float64 cutoffs: the same pixels are at or above both."""
    rounded = cutoffs.to(dtype)
    above = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
    return torch.where(rounded.double() < cutoffs, above, rounded)


def _check_probability(p: Tensor, inputs: str, foreground: int) -> None:
    """Refuses numbers that are no probabilities, at all pixels."""
    is_outside = ~((p >= 0) & (p <= 1))  # NaN is
    if not is_outside.any():
        return
    image, *pixel = is_outside.nonzero()[0].tolist()
    value = float(p[(image, *pixel)])
    hint = ""
    if inputs == "probabilities" and value == value:
        hint = ": probabilities are in [0, 1]; if these are logits, pass inputs='logits'"
    raise ValueError(
        f"the output makes {value:g} the probability of class {foreground} in image {image} at pixel "
        f"{tuple(pixel)}{hint}"
    )


def _foreground_class(calibrator: BinaryCalibrator[Any], foreground: int | None) -> int:
    """The class of the foreground: the one that is given, the calibrator's, or the one of a binary model's map."""
    classes = calibrator.classes_
    if classes is None:
        return 1 if foreground is None else foreground
    if len(classes) > 1:
        raise ValueError(
            f"the calibrator is about the classes {', '.join(map(str, classes))} together, but a module "
            f"is about one: give the output of the model to the calibrator's predict"
        )
    if foreground is not None and foreground != classes[0]:
        raise ValueError(
            f"foreground is {shown(foreground)}, but the calibrator was told classes={classes[0]}: leave foreground out"
        )
    return classes[0]


def strategy_of(calibrator: Any, foreground: int | None) -> LabelSets | BinaryMasks:
    """How a calibrator makes sets or masks of scores; refuses calibrators that make neither."""
    if isinstance(calibrator, BinaryCalibrator):
        return BinaryMasks(calibrator, _foreground_class(calibrator, foreground))
    if not isinstance(calibrator, ConformalRiskCalibrator):
        raise TypeError(
            "calibrator must be a ConformalRiskCalibrator, or BinaryRiskCalibrator or another one of binary masks, got "
            f"{type(calibrator).__name__}"
        )
    if foreground is not None:
        raise ValueError(
            f"foreground={shown(foreground)} is for calibrators of binary masks: a ConformalRiskCalibrator gives sets "
            "of all classes"
        )
    return LabelSets(calibrator)
