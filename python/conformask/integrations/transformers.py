"""Hugging Face transformers: full-size maps of all classes from the outputs of its segmentation models.

It needs PyTorch (``pip install "conformask[torch]"``). transformers itself is not imported: outputs are read by the
names of their fields. There are four families:

- ``logits`` (B, K, h, w): SegFormer, UPerNet, BEiT, DPT, MobileViT and others. These are logits, mostly at a quarter of
  the size.
- ``class_queries_logits`` and ``masks_queries_logits``: MaskFormer, Mask2Former, OneFormer, EoMT, VidEoMT. Each query
  has a mask and class probabilities.
- ``logits`` (B, Q, C) and ``pred_masks``: DETR and Conditional DETR for segmentation. They hold the same under other
  names.
- ``semantic_seg`` (B, 1, h, w): SAM 3. It is one map of the concept that the prompt names.

:func:`semantic_scores` turns all of them into maps, and :func:`conformask.integrations.torch.as_scores` calls it. Masks
without classes, such as the three alternatives that SAM gives for a prompt, are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs PyTorch: pip install "conformask[torch]"') from error

from conformask._tensors import check_tensor
from conformask._torch_softmax import widened
from conformask.integrations._sizes import resized

__all__ = ["inputs_of", "semantic_scores"]


def __dir__() -> list[str]:
    return sorted(__all__)


# The size to which a model's processor resizes masks before the sigmoid, whatever the size of the image.
_MASK_SIZES = {"Mask2FormerForUniversalSegmentationOutput": (384, 384)}

# Whether the last class of each query is "no object", for outputs whose fields do not tell.
_HAS_NO_OBJECT = {"DetrSegmentationOutput": True, "ConditionalDetrSegmentationOutput": False}

_QUERIES, _DETR = ("class_queries_logits", "masks_queries_logits"), ("logits", "pred_masks")

_MULTIMASK = (
    "and no classes: the masks of a prompt are alternatives, and none excludes another. Choose one of them by "
    "iou_scores, bring it to the size of the labels (post_process_masks(..., binarize=False) of the processor), and "
    "calibrate masks of one class: as_foreground(mask, binary='logit') of logits (B, 1, H, W) is the probability that "
    "BinaryRiskCalibrator takes"
)


def semantic_scores(
    output: Any,
    *,
    size: Sequence[int] | None = None,
    mask_size: Sequence[int] | None = None,
    no_object: bool | None = None,
) -> Tensor:
    r"""Maps of all classes in the output of a segmentation model of transformers.

    Parameters
    ----------
    output : object or mapping
        The output of the model: one of the four families (see the module), or a mapping with their fields.
    size : sequence of two ints, or None, default=None
        The size (H, W) of the labels, to which maps are interpolated linearly (``align_corners=False``); None leaves
        them as they are.
    mask_size : sequence of two ints, or None, default=None
        The size to which the masks of queries are interpolated before their sigmoid. None does what the processor of
        the model does by default: (384, 384) for Mask2Former, no interpolation for the others. The processor of EoMT
        uses its own ``size``: pass that size here to get the maps of its ``post_process_semantic_segmentation``.
    no_object : bool or None, default=None
        Whether the last class of each query is "no object", which is then left out. None is enough for the models in
        the list: all but Conditional DETR have this class. For other models with ``logits`` and ``pred_masks`` it must
        be given. It makes sense only if their class probabilities are a softmax: those of RF-DETR are not.

    Returns
    -------
    float tensor (B, K, H, W)
        On the device of the output, without gradients, in its dtype; float32 if half precision had to be interpolated
        or combined. From ``logits`` (B, K, h, w) they are logits. From queries they are scores, at least 0. From
        ``semantic_seg`` they are probabilities of two classes, the second of which is the concept of the prompt.
        :func:`inputs_of` tells which.

    Raises
    ------
    TypeError
        If there are no classes (SAM's masks of prompts), or no scores at all.
    ValueError
        If fields do not fit together, `no_object` is not known, or the images were cut into patches (EoMT).

    See Also
    --------
    conformask.integrations.torch.as_scores : The same, also for other libraries.

    Notes
    -----
    With Q queries, the score of class k at a pixel is

    .. math:: s_k = \sum_{q=1}^Q P(k \mid q) \, \sigma(m_q),

    the sum over the queries of the probability that query q has class k, times the probability that the pixel is in its
    mask. ``post_process_semantic_segmentation`` takes the argmax of this score. It is not a probability: queries
    overlap, so that the sum over the classes may be above 1, and the sum is near 0 where no query claims the pixel.
    Calibrators take such maps with ``inputs="scores"``, which divides them by their sum. Where hardly any query claims
    the pixel, the resulting shares carry little information. The guarantee does not depend on the meaning of the
    scores; the size of the sets does.

    References
    ----------
    Cheng, Schwing, Kirillov, "Per-Pixel Classification is Not All You Need for Semantic Segmentation", NeurIPS 2021,
    arXiv:2107.06278.

    Examples
    --------
    >>> import torch
    >>> import conformask as cm
    >>> from conformask.integrations.transformers import inputs_of, semantic_scores
    >>> rng = torch.Generator().manual_seed(0)
    >>> output = {
    ...     "class_queries_logits": torch.randn(20, 7, 4 + 1, generator=rng),  # four classes, and "no object"
    ...     "masks_queries_logits": torch.randn(20, 7, 4, 6, generator=rng),
    ... }
    >>> maps = semantic_scores(output, size=(16, 24))
    >>> maps.shape, inputs_of(output)
    (torch.Size([20, 4, 16, 24]), 'scores')
    >>> labels = torch.multinomial(maps.movedim(1, -1).reshape(-1, 4), 1, generator=rng).reshape(20, 16, 24)
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.2, inputs="scores").fit(maps, labels)
    >>> calibrator.predict(maps).shape
    (20, 4, 16, 24)
    """
    names = _query_fields(output)
    if names is not None:
        return _of_queries(output, names, size, mask_size, no_object)
    if mask_size is not None or no_object is not None:
        raise ValueError("mask_size and no_object are for outputs of queries: this one has none")
    maps = _field(output, "semantic_seg")
    if maps is not None:
        p = widened(_checked(maps, "semantic_seg", 4)).sigmoid()
        if p.shape[1] != 1:
            raise ValueError(f"semantic_seg must have shape (B, 1, H, W), got {tuple(p.shape)}")
        p = resized(p, size)  # after the sigmoid, as the processor does
        return torch.cat([1 - p, p], dim=1)
    refuse_multimasks(output)
    logits = _field(output, "logits")
    if logits is None:
        raise TypeError(
            f"the output is no segmentation of classes: {type(output).__name__} has none of logits, "
            "class_queries_logits and semantic_seg"
        )
    return resized(_checked(logits, "logits", 4), size)


def inputs_of(output: Any) -> str | None:
    """The kind of maps that :func:`semantic_scores` gives: the `inputs` that a calibrator needs for them.

    Parameters
    ----------
    output : object or mapping
        The output of the model.

    Returns
    -------
    {"scores", "probabilities", "logits"} or None
        "scores" for queries, "probabilities" for ``semantic_seg``, "logits" for ``logits`` (B, K, h, w); None for what
        is not an output of transformers.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.transformers import inputs_of
    >>> inputs_of({"logits": torch.zeros(1, 5, 4, 4)})
    'logits'
    """
    if _query_fields(output) is not None:
        return "scores"
    if _field(output, "semantic_seg") is not None:
        return "probabilities"
    return None if _field(output, "logits") is None else "logits"


def refuse_multimasks(output: Any) -> None:
    """Refuses masks of prompts, also in the tuples of SAM's own code, whose masks look like scores of classes."""
    if isinstance(output, tuple | list):
        shapes = [tuple(each.shape) if isinstance(each, Tensor) else () for each in output[:3]]
        # SAM's predictor gives (masks, predicted IoU, low-resolution masks), transformers the tuple (scores, masks).
        is_predictor = len(shapes) == 3 and len(shapes[0]) == len(shapes[2]) == 4
        if is_predictor and shapes[0][:2] == shapes[1] == shapes[2][:2]:
            raise TypeError(f"the output is (masks, predicted IoU, masks) as SAM gives them, {_MULTIMASK}")
        if len(shapes) > 1 and len(shapes[0]) == 3 and len(shapes[1]) == 5 and shapes[0] == shapes[1][:3]:
            raise TypeError(f"the output is (iou_scores, pred_masks) as SAM gives them, {_MULTIMASK}")
        if output and isinstance(output[0], Mapping) and "iou_predictions" in output[0]:
            raise TypeError(f"the output holds masks and iou_predictions as SAM gives them, {_MULTIMASK}")
    elif _field(output, "pred_masks") is not None and _field(output, "logits") is None:
        raise TypeError(
            f"the output holds pred_masks, as SAM and other models of prompts give them, {_MULTIMASK}"
        )


def _value(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _field(output: Any, name: str) -> Tensor | None:
    """The tensor of this name in an output; None if there is none."""
    value = _value(output, name)
    return value if isinstance(value, Tensor) else None


def _query_fields(output: Any) -> tuple[str, str] | None:
    """The names of the fields of queries' classes and masks, if the output has them."""
    if all(_field(output, name) is not None for name in _QUERIES):
        return _QUERIES
    classes, masks = (_field(output, name) for name in _DETR)
    return _DETR if masks is not None and classes is not None and classes.ndim == 3 else None


def _checked(maps: Tensor, name: str, ndim: int) -> Tensor:
    """A tensor of floats, detached from gradients; refuses other types and ranks."""
    check_tensor(maps, name)
    if not maps.is_floating_point():
        raise TypeError(f"{name} must hold floating numbers, got {maps.dtype}")
    if maps.ndim != ndim:
        shape = {3: "(B, Q, C)", 4: "(B, K, H, W)" if name in ("logits", "semantic_seg") else "(B, Q, H, W)"}[
            ndim
        ]
        raise ValueError(f"{name} must have shape {shape}, got {tuple(maps.shape)}")
    return maps.detach()


def _of_queries(
    output: Any, names: tuple[str, str], size: Any, mask_size: Any, no_object: bool | None
) -> Tensor:
    """Scores (B, K, H, W): the sum over queries."""
    classes, masks = (
        _checked(_value(output, name), name, ndim) for name, ndim in zip(names, (3, 4), strict=True)
    )
    if classes.shape[:2] != masks.shape[:2]:
        raise ValueError(
            f"{names[0]} has {tuple(classes.shape[:2])} images and queries, {names[1]} has {tuple(masks.shape[:2])}"
        )
    kinds = [kind.__name__ for kind in type(output).__mro__]
    if no_object is None:
        no_object = names == _QUERIES or next(
            (_HAS_NO_OBJECT[kind] for kind in kinds if kind in _HAS_NO_OBJECT), None
        )
    if no_object is None:
        raise ValueError(
            f"{type(output).__name__} does not tell whether the last class of its queries is 'no object': call "
            "semantic_scores(output, no_object=True) or False, if the probabilities of its classes are a softmax"
        )
    if _value(output, "patch_offsets"):
        raise ValueError(
            "the images were cut into patches (patch_offsets): let the processor join them, "
            "post_process_semantic_segmentation(..., return_segmentation_scores=True), and give segmentation_scores"
        )
    if mask_size is None:
        mask_size = next((_MASK_SIZES[kind] for kind in kinds if kind in _MASK_SIZES), None)
    p = widened(classes).softmax(dim=-1)
    masks = widened(resized(masks, mask_size, "mask_size"))
    scores = torch.einsum("bqc,bqhw->bchw", p[..., :-1] if no_object else p, masks.sigmoid())
    return resized(scores, size)
