"""PyTorch: what models give, as probabilities; and a module whose forward pass gives sets.

Needs PyTorch (``pip install "conformask[torch]"``). Calibrators take tensors wherever they take arrays, on any device:

- float16, float32 and float64 tensors on the CPU are read where they lie, as NumPy arrays are;
- tensors on a GPU, and bfloat16, are profiled on their device by LAC, APS and RAPS, class by class: that takes memory
  for at most 16 float32 planes (H, W) beside the maps, and only what mispredicted pixels say goes to the CPU. Other
  scores, and activations by APS and RAPS, take the maps to the CPU. Lambda-hat is that of the CPU path: of
  probabilities the same bits; of logits and scores never smaller, for a softmax differs from device to device, by at
  most 64 + K units in the last place. Classes that close may change ranks: at calibration they count as before a label,
  in sets as behind it. That holds for the same numbers, not for what a model gives in two precisions: calibrate in
  the one that you predict in. Probabilities in bfloat16 have a slack of one unit in their last place, 2^-7.

What calibrators return are NumPy arrays, :class:`ConformalModule` gives tensors.

Nothing is changed in place, and no gradient is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
    from torch.utils import _pytree
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs PyTorch: pip install "conformask[torch]"') from error

from conformask._arrays import check_inputs
from conformask._tables import html_table
from conformask._tensors import check_tensor
from conformask._torch_sets import check_maps, check_score, prediction_sets
from conformask._torch_softmax import shares_of, to_probabilities
from conformask.risk_control import ConformalRiskCalibrator
from conformask.scores import as_score

__all__ = ["ConformalModule", "ConformalOutput", "as_probabilities", "as_scores"]


def __dir__() -> list[str]:
    return sorted(__all__)


_KEYS = ("out", "logits")  # torchvision, transformers


def as_scores(output: Any, *, size: Sequence[int] | None = None, binary: str | None = None) -> Tensor:
    """The score maps in what a segmentation model returns, of all classes and of the size of the image.

    Parameters
    ----------
    output : tensor (B, K, H, W) or (B, K, D, H, W), mapping, object or tuple
        A tensor; a mapping with ``"out"`` (torchvision) or ``"logits"``, or an object with the attribute ``logits``
        (transformers); a tuple or list that begins with a tensor (segmentation_models_pytorch with ``aux_params``).
    size : sequence of ints, or None, default=None
        The size (H, W) or (D, H, W) of the labels. Maps of another size are interpolated linearly
        (``align_corners=False``), as the libraries do with logits before the softmax.
    binary : {"logit", "probability"} or None, default=None
        What the one map of a binary model is: the logit of class 1 (segmentation_models_pytorch), which becomes logits
        of two classes, or its probability (MMSegmentation), which becomes two probabilities.

    Returns
    -------
    tensor (B, K, H, W) or (B, K, D, H, W)
        On the device of the output, without gradients, in its type; float32 if half precision had to be interpolated
        or made to two classes.

    Raises
    ------
    TypeError
        If there is no map of scores: labels, say, or the parts of a mask classifier; or a tensor of a kind that nothing
        is computed with here (float8, nested, sparse, quantized).
    ValueError
        If the tensor has another rank, or one class and `binary` does not say what it is.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.torch import as_scores
    >>> as_scores({"out": torch.zeros(1, 3, 4, 4), "aux": torch.zeros(1, 3, 4, 4)}, size=(8, 8)).shape
    torch.Size([1, 3, 8, 8])
    """
    scores = _tensor_of(output).detach()
    check_tensor(scores, "the output")
    if not scores.is_floating_point():
        raise TypeError(
            f"the output is a {scores.dtype} tensor, as label maps are: give the scores, before the argmax"
        )
    if scores.ndim not in (4, 5):
        raise ValueError(
            f"the output must have shape (B, K, H, W) or (B, K, D, H, W), got {tuple(scores.shape)}; "
            "one image is x[None]"
        )
    if binary not in (None, "logit", "probability"):
        raise ValueError(f"binary must be 'logit', 'probability' or None, got {binary!r}")
    if size is not None and tuple(scores.shape[2:]) != (tuple(size) if isinstance(size, Sequence) else size):
        if not isinstance(size, Sequence) or len(size) != scores.ndim - 2:
            raise ValueError(
                f"size must have {scores.ndim - 2} numbers for {tuple(scores.shape)}, got {size!r}"
            )
        wide = scores if scores.element_size() > 2 else scores.float()
        mode = "bilinear" if len(size) == 2 else "trilinear"
        scores = functional.interpolate(wide, tuple(size), mode=mode, align_corners=False)
    if scores.shape[1] > 1:
        return scores
    if binary is None:
        raise ValueError(
            "the output has one class (K = 1): say binary='logit' if it is the logit of class 1, or "
            "binary='probability' if a sigmoid was taken"
        )
    scores = (
        scores if scores.element_size() > 2 else scores.float()
    )  # 1 - p must not be rounded to half precision
    return torch.cat([torch.zeros_like(scores) if binary == "logit" else 1 - scores, scores], dim=1)


def as_probabilities(
    output: Any,
    inputs: str = "logits",
    *,
    size: Sequence[int] | None = None,
    binary: str | None = None,
) -> Tensor:
    """Probabilities of all classes from what a segmentation model returns.

    Parameters
    ----------
    output : tensor (B, K, H, W) or (B, K, D, H, W), mapping, object or tuple
        As for :func:`as_scores`.
    inputs : {"logits", "probabilities", "scores"}, default="logits"
        What the numbers are. Of logits the softmax over the classes is taken, in float32 or wider. Scores (of mask
        classifiers such as Mask2Former) are at least 0, and are divided by their sum.
    size : sequence of ints, or None, default=None
        The size of the labels, as for :func:`as_scores`: logits are interpolated before the softmax.
    binary : {"logit", "probability"} or None, default=None
        What the one map of a binary model is, as for :func:`as_scores`. For one map it decides, and not `inputs`.

    Returns
    -------
    float32 tensor (float64 of float64) (B, K, H, W) or (B, K, D, H, W)
        On the device of the output, without gradients.

    Raises
    ------
    TypeError, ValueError
        As :func:`as_scores`, and for an unknown `inputs`. The numbers themselves are not looked at.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.torch import as_probabilities
    >>> as_probabilities(torch.tensor([[0.0, 0.0], [0.0, 3.0]]).log().mT.reshape(1, 2, 1, 2).nan_to_num(0.0)).shape
    torch.Size([1, 2, 1, 2])
    >>> as_probabilities(torch.zeros(1, 1, 1, 2), binary="logit")[0, :, 0, 0]
    tensor([0.5000, 0.5000])
    """
    check_inputs(inputs)
    scores = as_scores(output, size=size, binary=binary)
    return to_probabilities(scores, inputs_of(output, inputs, binary))


class ConformalOutput(NamedTuple):
    """What :class:`ConformalModule` gives.

    Attributes
    ----------
    probabilities : float tensor (B, K, H, W)
        Of the model.
    masks : bool tensor (B, K, H, W)
        Whether the class is in the pixel's set.
    set_size : int16 tensor (B, H, W)
        Number of classes in the set.
    varisco : float32 tensor (B, H, W)
        The heatmap: the share of the classes that are in the set.
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
        return f"ConformalOutput({', '.join(f'{name}={text}' for name, text in self._rows())})"

    def _repr_html_(self) -> str:
        return html_table("ConformalOutput", self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        shown = ((name, each.dtype, tuple(each.shape)) for name, each in self._asdict().items())
        return [(name, f"{str(dtype).removeprefix('torch.')} {shape}") for name, dtype, shape in shown]


# So that exported modules can be saved, the names of the fields with them.
_pytree._register_namedtuple(ConformalOutput, serialized_type_name=f"{__name__}.ConformalOutput")


class ConformalModule(nn.Module):
    """A segmentation model whose forward pass gives multi-labeled masks at the calibrated lambda.

    All of it runs on the device of the model's output, and ``torch.export`` takes it along.

    Parameters
    ----------
    model : nn.Module
        A segmentation model; its output goes through :func:`as_probabilities`.
    calibrator : ConformalRiskCalibrator
        A fitted calibrator. Its score, lambda-hat, K and `inputs` are taken over when the module is made.
    size : "input", sequence of ints, or None, default=None
        The size of the result: that of the model's first input ("input"), a given one, or that of its output.
    binary : {"logit", "probability"} or None, default=None
        What the one map of a binary model is, as for :func:`as_scores`.
    inputs : {"logits", "probabilities", "scores"} or None, default=None
        What the model gives; None takes it for what the calibrator was given.

    Attributes
    ----------
    lambda_hat : float
        Where sets are cut.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the calibrator is not fitted.
    TypeError
        If its conformity score is a function, or a scaler stands in front of it.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import conformask as cm
    >>> from conformask.integrations.torch import ConformalModule
    >>> model = torch.nn.Conv2d(3, 4, kernel_size=1)
    >>> rng = torch.Generator().manual_seed(0)
    >>> images = torch.rand(20, 3, 8, 8, generator=rng)
    >>> labels = torch.randint(0, 4, (20, 8, 8), generator=rng)
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.1, inputs="logits").fit(model(images), labels)
    >>> output = ConformalModule(model, calibrator)(images)
    >>> output.masks.shape, output.set_size.shape
    (torch.Size([20, 4, 8, 8]), torch.Size([20, 8, 8]))
    """

    def __init__(
        self,
        model: nn.Module,
        calibrator: ConformalRiskCalibrator,
        *,
        size: str | Sequence[int] | None = None,
        binary: str | None = None,
        inputs: str | None = None,
    ) -> None:
        super().__init__()
        if calibrator.transform is not None:
            raise TypeError(
                "a scaler (transform=) works on arrays: give what the model says to the calibrator's predict, or "
                "calibrate without a scaler"
            )
        self.model = model
        self.lambda_hat = calibrator.lambda_hat_
        self.n_classes = calibrator.n_classes_
        self.conformity_score = as_score(calibrator.conformity_score)
        self.inputs = calibrator.inputs if inputs is None else check_inputs(inputs)
        check_score(self.conformity_score)
        if isinstance(size, str) and size != "input":
            raise ValueError(f"size must be 'input', a size or None, got {size!r}")
        self.size = size
        self.binary = binary

    def forward(self, *args: Any, **kwargs: Any) -> ConformalOutput:
        """Sets for what the model says of its input.

        Parameters
        ----------
        *args, **kwargs
            What the model takes. With ``size="input"``, the first tensor tells the size.

        Returns
        -------
        ConformalOutput

        Raises
        ------
        TypeError, ValueError
            As :func:`as_probabilities`; ValueError also if K is not that of calibration, and for numbers that are not
            what `inputs` says (which an exported module does not look at).
        """
        output = self.model(*args, **kwargs)
        size: Any = self.size
        if size == "input":
            tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
            if not tensors:
                raise ValueError("size='input' needs a tensor among the arguments of the module")
            size = tensors[0].shape[2:]
        scores, inputs = as_scores(output, size=size, binary=self.binary), self._inputs_of(output)
        if scores.shape[1] != self.n_classes:
            raise ValueError(
                f"the model gives K = {scores.shape[1]} classes, but calibration had K = {self.n_classes}"
            )
        if not torch.compiler.is_compiling():  # an exported module looks at no number before it computes
            check_maps(scores, inputs, name="the output")
        shares = shares_of(scores, inputs)
        masks = prediction_sets(shares, self.conformity_score, self.lambda_hat)
        sizes = masks.sum(dim=1, dtype=torch.int16)
        return ConformalOutput(shares.p, masks, sizes, sizes / self.n_classes)

    def _inputs_of(self, output: Any) -> str:
        return inputs_of(output, self.inputs, self.binary)

    def extra_repr(self) -> str:
        """What is printed of it.

        Returns
        -------
        str
        """
        return f"{self.conformity_score}, lambda_hat={self.lambda_hat:g}, K={self.n_classes}"


def inputs_of(output: Any, inputs: str, binary: str | None) -> str:
    """What the numbers are that :func:`as_scores` makes: of one map `binary` says it."""
    if binary is None or _tensor_of(output).shape[1] > 1:
        return inputs
    return {"logit": "logits", "probability": "probabilities"}[binary]


def _tensor_of(output: Any) -> Tensor:
    """The tensor of scores in what a model returns."""
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "class_queries_logits"):
        raise TypeError(
            "the output is that of a mask classifier (class_queries_logits, masks_queries_logits): combine them first, "
            "torch.einsum('bqc,bqhw->bchw', classes.softmax(-1)[..., :-1], masks.sigmoid()), and say inputs='scores'"
        )
    if isinstance(output, Mapping):
        for key in _KEYS:
            if isinstance(output.get(key), Tensor):
                return output[key]
        raise TypeError(
            f"the output is a mapping with {sorted(map(str, output))}, but without 'out' or 'logits'"
        )
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, tuple | list) and output and isinstance(output[0], Tensor):
        return output[0]
    raise TypeError(
        "the output must be a tensor, a mapping with 'out' or 'logits', an object with logits, or a tuple that begins "
        f"with a tensor, got {type(output).__name__}"
    )
