"""PyTorch: probabilities from the outputs of models, and a module whose forward pass gives sets or binary masks.

It needs PyTorch (``pip install "conformask[torch]"``). Calibrators take tensors wherever they take arrays, on any
device:

- float16, float32 and float64 tensors on the CPU are read without a copy, as NumPy arrays are;
- tensors on a GPU, and tensors of bfloat16, are profiled on their device with LAC, APS and RAPS, class by class. This
  needs memory for at most 16 float32 planes (H, W) beside the maps, and only the values of mispredicted pixels go to
  the CPU. With other scores, and for activations with APS and RAPS, the maps are copied to the CPU. Lambda-hat from
  probabilities has the same bits as on the CPU. Lambda-hat from logits and scores is never smaller than on the CPU: a
  softmax differs from device to device by at most 64 + K units in the last place. Classes as close as this may change
  ranks: in calibration they count as before a label, in sets as behind it. This holds for the same numbers, not for the
  outputs of a model in two precisions: calibrate in the precision that you predict in. Probabilities in bfloat16 have a
  slack of one unit in their last place, 2^-7.

Calibrators of binary masks take the probability of one class, which :func:`as_foreground` gives. They copy it from a
GPU to the CPU, and bfloat16 to float32.

Calibrators return NumPy arrays, :class:`ConformalModule` returns tensors.

Tensors are not changed in place, and no gradient is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

try:
    import torch
    from torch import Tensor, nn
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs PyTorch: pip install "conformask[torch]"') from error

from conformask._arrays import check_inputs
from conformask._tensors import check_tensor
from conformask._torch_softmax import to_probabilities
from conformask.adaptive._calibrator import BinaryCalibrator
from conformask.integrations import transformers
from conformask.integrations._sizes import resized
from conformask.integrations._torch_masks import (
    BinaryOutput,
    ConformalOutput,
    LabelSets,
    foreground_of,
    strategy_of,
)
from conformask.risk_control import ConformalRiskCalibrator
from conformask.scores import ConformityScore

__all__ = [
    "BinaryOutput",
    "ConformalModule",
    "ConformalOutput",
    "as_foreground",
    "as_probabilities",
    "as_scores",
]


def __dir__() -> list[str]:
    return sorted(__all__)


_KEYS = ("out", "logits")  # torchvision, transformers


def as_scores(output: Any, *, size: Sequence[int] | None = None, binary: str | None = None) -> Tensor:
    """The score maps of all classes in the output of a segmentation model, at the size of the labels.

    Parameters
    ----------
    output : tensor (B, K, H, W) or (B, K, D, H, W), mapping, object or tuple
        A tensor; a mapping with ``"out"`` (torchvision) or ``"logits"``, or an object with the attribute ``logits``; a
        tuple or list that begins with a tensor (segmentation_models_pytorch with ``aux_params``). Outputs of
        transformers with queries (Mask2Former, DETR and others) or ``semantic_seg`` are taken, too: see
        :func:`conformask.integrations.transformers.semantic_scores`.
    size : sequence of ints, or None, default=None
        The size (H, W) or (D, H, W) of the labels. Maps of another size are interpolated linearly
        (``align_corners=False``), as the libraries do with logits before the softmax.
    binary : {"logit", "probability"} or None, default=None
        What the single map of a binary model holds: the logit of class 1 (segmentation_models_pytorch), which becomes
        logits of two classes, or its probability (MMSegmentation), which becomes two probabilities.

    Returns
    -------
    tensor (B, K, H, W) or (B, K, D, H, W)
        On the device of the output, without gradients, in its dtype; float32 if half precision had to be interpolated
        or turned into two classes. They are logits or probabilities, as the model gives them; for queries they are
        always scores, for ``semantic_seg`` always probabilities.

    Raises
    ------
    TypeError
        If the output holds no score maps, but for example labels, or masks of prompts such as those of SAM; or if it is
        a tensor of a kind that is not supported (float8, nested, sparse, quantized).
    ValueError
        If the tensor has another number of axes, or has one class while `binary` is None.

    See Also
    --------
    conformask.integrations.transformers.semantic_scores : How queries are combined, and what their scores mean.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.torch import as_scores
    >>> as_scores({"out": torch.zeros(1, 3, 4, 4), "aux": torch.zeros(1, 3, 4, 4)}, size=(8, 8)).shape
    torch.Size([1, 3, 8, 8])
    """
    if binary not in (None, "logit", "probability"):
        raise ValueError(f"binary must be 'logit', 'probability' or None, got {binary!r}")
    if _own_inputs(output) is not None:
        return _combined(output, size, binary)
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
    scores = resized(scores, size)
    if scores.shape[1] > 1:
        return scores
    if binary is None:
        raise ValueError(
            "the output has one class (K = 1): pass binary='logit' if it is the logit of class 1, or "
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
    """Probabilities of all classes from the output of a segmentation model.

    Parameters
    ----------
    output : tensor (B, K, H, W) or (B, K, D, H, W), mapping, object or tuple
        As for :func:`as_scores`.
    inputs : {"logits", "probabilities", "scores"}, default="logits"
        What the numbers are. For logits the softmax over the classes is taken, in float32 or wider. Scores are at least
        0, and are divided by their sum. The outputs of queries (Mask2Former and others) always count as scores, and
        ``semantic_seg`` always as probabilities, whatever `inputs` is.
    size : sequence of ints, or None, default=None
        The size of the labels, as for :func:`as_scores`: logits are interpolated before the softmax.
    binary : {"logit", "probability"} or None, default=None
        What the single map of a binary model holds, as for :func:`as_scores`. For a single map `binary` decides, not
        `inputs`.

    Returns
    -------
    float32 tensor (float64 if the output is) (B, K, H, W) or (B, K, D, H, W)
        On the device of the output, without gradients.

    Raises
    ------
    TypeError, ValueError
        As for :func:`as_scores`, and for an unknown `inputs`. The numbers themselves are not checked.

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


def as_foreground(
    output: Any,
    *,
    foreground: int = 1,
    inputs: str = "logits",
    binary: str | None = None,
    size: Sequence[int] | None = None,
) -> Tensor:
    """The probability of one class from the output of a segmentation model, for calibrators of binary masks.

    Parameters
    ----------
    output : tensor (B, K, H, W) or (B, K, D, H, W), mapping, object or tuple
        As for :func:`as_scores`.
    foreground : int, default=1
        The class; the other classes are the background. With a single map, 1 is the class of the map, and 0 the
        background.
    inputs : {"logits", "probabilities", "scores"}, default="logits"
        What the numbers of several maps are, as for :func:`as_probabilities`. If classes may overlap and each has a
        sigmoid of its own, apply the sigmoids and pass "probabilities": the map of the class is then taken as it is.
    binary : {"logit", "probability"} or None, default=None
        What the single map of a binary model holds, as for :func:`as_scores`: segmentation_models_pytorch gives a
        "logit", MMSegmentation a "probability".
    size : sequence of ints, or None, default=None
        The size of the labels, as for :func:`as_scores`.

    Returns
    -------
    float32 tensor (float64 if the output is) (B, H, W) or (B, D, H, W)
        On the device of the output, without gradients.

    Raises
    ------
    TypeError, ValueError
        As for :func:`as_probabilities`, and if there is no such class. The numbers themselves are not checked.

    See Also
    --------
    BinaryRiskCalibrator, COATCalibrator, CRACalibrator : Calibrate on it, with the masks ``labels == foreground``.

    Examples
    --------
    >>> import torch
    >>> import conformask as cm
    >>> from conformask.integrations.torch import as_foreground
    >>> logits = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))  # of a binary model
    >>> P = as_foreground(logits, binary="logit")
    >>> P.shape
    torch.Size([40, 8, 8])
    >>> masks = torch.rand(P.shape, generator=torch.Generator().manual_seed(1)) < P
    >>> cm.BinaryRiskCalibrator(alpha=0.1).fit(P, masks).predict(P).shape
    (40, 8, 8)
    """
    check_inputs(inputs)
    scores = as_scores(output, size=size, binary=binary)
    return foreground_of(scores, inputs_of(output, inputs, binary), foreground)


def _of_strategy(name: str, doc: str) -> Any:
    """A property of a module that is an attribute of its strategy; it is missing if the strategy has none."""

    def read(module: Any) -> Any:
        return getattr(module._strategy, name)

    def write(module: Any, value: Any) -> None:
        read(module)
        setattr(module._strategy, name, value)

    return property(read, write, doc=doc)


class ConformalModule(nn.Module):
    """A segmentation model whose forward pass gives multi-labeled masks at the calibrated lambda, or binary masks.

    Everything runs on the device of the model's output, and ``torch.export`` can export it. There is one exception:
    thresholds that depend on the image (:class:`~conformask.ATCalibrator`, :class:`~conformask.COATCalibrator`,
    :class:`~conformask.AACRCCalibrator`, :class:`~conformask.CRACalibrator`) are computed on the CPU and cannot be
    exported.

    Parameters
    ----------
    model : nn.Module
        A segmentation model; its output goes through :func:`as_probabilities`, or :func:`as_foreground`.
    calibrator : ConformalRiskCalibrator, or BinaryRiskCalibrator or another one of binary masks
        A fitted calibrator. Its results are copied when the module is made.
    size : "input", sequence of ints, or None, default=None
        The size of the result: that of the model's first input ("input"), a given size, or that of the model's output
        (None).
    binary : {"logit", "probability"} or None, default=None
        What the single map of a binary model holds, as for :func:`as_scores`.
    inputs : {"logits", "probabilities", "scores"} or None, default=None
        What the model gives. None takes the `inputs` of a ConformalRiskCalibrator; for binary masks it means logits.
    foreground : int or None, default=None
        The class of binary masks, as for :func:`as_foreground`. It must be that of calibration. None is the class that
        the calibrator was fitted for (``fit(classes=)``), or 1.

    Attributes
    ----------
    lambda_hat : float, or a tuple of K where classes have lambdas of their own
        The lambda of the sets, with a ConformalRiskCalibrator.
    threshold : float or None
        The threshold of binary masks; None if images have thresholds of their own.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the calibrator is not fitted.
    TypeError
        If the calibrator is of another class, its conformity score is a function, or it has a scaler (``transform=``)
        or a model of lambdas (``adaptive=``).
    ValueError
        If `foreground` is negative, or given for sets of all classes.

    Notes
    -----
    A binary mask is equal to ``calibrator.predict(probability)``, pixel by pixel, for all dtypes. A predictor of your
    own is called as in ``predict``, without images.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import conformask as cm
    >>> from conformask.integrations.torch import ConformalModule, as_foreground
    >>> model = torch.nn.Conv2d(3, 4, kernel_size=1)
    >>> rng = torch.Generator().manual_seed(0)
    >>> images = torch.rand(20, 3, 8, 8, generator=rng)
    >>> labels = torch.randint(0, 4, (20, 8, 8), generator=rng)
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.1, inputs="logits").fit(model(images), labels)
    >>> output = ConformalModule(model, calibrator)(images)
    >>> output.masks.shape, output.set_size.shape
    (torch.Size([20, 4, 8, 8]), torch.Size([20, 8, 8]))

    Class 2 against the rest:

    >>> P = as_foreground(model(images), foreground=2)
    >>> calibrator = cm.BinaryRiskCalibrator(alpha=0.1).fit(P, labels == 2)
    >>> output = ConformalModule(model, calibrator, foreground=2)(images)
    >>> output.mask.shape, output.threshold.shape
    (torch.Size([20, 8, 8]), torch.Size([20]))
    >>> bool((output.mask.numpy() == calibrator.predict(P)).all())
    True
    """

    def __init__(
        self,
        model: nn.Module,
        calibrator: ConformalRiskCalibrator | BinaryCalibrator[Any],
        *,
        size: str | Sequence[int] | None = None,
        binary: str | None = None,
        inputs: str | None = None,
        foreground: int | None = None,
    ) -> None:
        super().__init__()
        self._strategy: Any = strategy_of(calibrator, foreground)
        self.model = model
        self.inputs = self._strategy.inputs if inputs is None else check_inputs(inputs)
        if isinstance(size, str) and size != "input":
            raise ValueError(f"size must be 'input', a size or None, got {size!r}")
        if binary not in (None, "logit", "probability"):
            raise ValueError(f"binary must be 'logit', 'probability' or None, got {binary!r}")
        self.size = size
        self.binary = binary

    lambda_hat: Any = _of_strategy("lambda_hat", "Where sets are cut.")
    n_classes: int = _of_strategy("n_classes", "K of calibration.")
    conformity_score: ConformityScore = _of_strategy("conformity_score", "The score of classes.")

    @property
    def threshold(self) -> float | None:
        """The threshold of binary masks; None if images have thresholds of their own."""
        found: float | None = self._strategy.threshold
        return found

    def forward(self, *args: Any, **kwargs: Any) -> ConformalOutput | BinaryOutput:
        """Sets or masks for the output of the model.

        Parameters
        ----------
        *args, **kwargs
            The arguments of the model. With ``size="input"``, the first tensor among them gives the size.

        Returns
        -------
        ConformalOutput or BinaryOutput
            Sets of classes, or masks of one class, by the calibrator.

        Raises
        ------
        TypeError, ValueError
            As for :func:`as_probabilities`; ValueError also if K differs from calibration, if there is no class
            `foreground`, if the output holds scores or probabilities but calibration took logits, and for numbers that
            do not fit `inputs` (an exported module does not check these).
        NotImplementedError
            If ``torch.export`` traces the module, and its thresholds depend on the image.
        """
        output = self.model(*args, **kwargs)
        size: Any = self.size
        if size == "input":
            tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
            if not tensors:
                raise ValueError("size='input' needs a tensor among the arguments of the module")
            size = tensors[0].shape[2:]
        scores = as_scores(output, size=size, binary=self.binary)
        inputs = inputs_of(output, self.inputs, self.binary)
        own = _own_inputs(output)
        if own is not None and self.inputs == "logits" and isinstance(self._strategy, LabelSets):
            of = "one of queries" if own == "scores" else "semantic_seg"
            raise ValueError(
                f"the output is {of}, whose numbers are {own}, but the calibrator took them for logits: "
                f"calibrate with inputs={own!r}"
            )
        found: ConformalOutput | BinaryOutput = self._strategy(scores, inputs)
        return found

    def extra_repr(self) -> str:
        """The text in the representation of the module.

        Returns
        -------
        str
        """
        return repr(self._strategy)


def inputs_of(output: Any, inputs: str, binary: str | None) -> str:
    """What the numbers of :func:`as_scores` are, where the output or `binary` tells."""
    known = _own_inputs(output)
    if known is not None:
        return known
    if binary is None or _tensor_of(output).shape[1] > 1:
        return inputs
    return {"logit": "logits", "probability": "probabilities"}[binary]


def _own_inputs(output: Any) -> str | None:
    """What the numbers of an output are, if its type says so."""
    known = None if isinstance(output, Tensor) else transformers.inputs_of(output)
    return None if known == "logits" else known


def _combined(output: Any, size: Any, binary: str | None) -> Tensor:
    """Scores of an output whose maps must first be computed from queries."""
    known = _own_inputs(output)
    if known == "probabilities" and binary == "probability":
        raise ValueError("binary is 'probability', but semantic_seg holds logits")
    scores = transformers.semantic_scores(output, size=size)
    if scores.shape[1] == 1:
        raise ValueError(
            "the queries of the output know one class (K = 1), whose score is no probability: calibrate masks of it, "
            "BinaryRiskCalibrator on semantic_scores(output)[:, 0].clamp(max=1)"
        )
    return scores


def _tensor_of(output: Any) -> Tensor:
    """The tensor of scores in a model's output."""
    if isinstance(output, Tensor):
        return output
    transformers.refuse_multimasks(output)
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
