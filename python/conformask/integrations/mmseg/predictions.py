"""The predictions of MMSegmentation: the fields that are read, and those that are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import conformask as cm
from conformask._transforms import Transformer, load_transformer
from conformask.integrations.torch import as_scores
from conformask.risk_control import ConformalRiskCalibrator

__all__ = ["built", "field_of", "loaded", "refuse_merged", "scaler_of", "scores_of"]


def field_of(sample: Mapping[str, Any], name: str) -> Tensor:
    """The tensor of a field of a prediction."""
    field = sample.get(name)
    if field is None:
        raise ValueError(
            f"the prediction of {sample.get('img_path', 'an image')} has no {name}"
            + ("; is LoadAnnotations in the test pipeline?" if name == "gt_sem_seg" else "")
        )
    tensor: Tensor = field["data"] if isinstance(field, Mapping) else field.data
    return tensor


def scores_of(given: Tensor, inputs: str) -> tuple[Tensor, str]:
    """Scores of all classes, and what they are: one output channel is the probability of class 1."""
    if len(given) > 1:
        return given, inputs
    return as_scores(given[None], binary="probability")[0], "probabilities"


def refuse_merged(scores: Tensor, prediction: Tensor, path: str) -> None:
    """Test-time augmentation merges the predictions, but leaves the logits of one augmentation."""
    prediction = prediction.reshape(1, *scores.shape[1:])
    if len(scores) > 1:
        differ = scores.gather(0, prediction.long())[0] != scores.amax(dim=0)
        # NaN differs from itself: later checks report it.
        agree = not differ.any() or not bool((differ & scores.isfinite().all(dim=0)).any())
    else:  # some threshold separates the two
        finite = scores.isfinite()
        above, below = scores[(prediction > 0) & finite], scores[~(prediction > 0) & finite]
        agree = not (len(above) and len(below)) or bool(above.min() >= below.max())
    if not agree:
        raise ValueError(
            f"pred_sem_seg of {path} is not what seg_logits say: with test-time augmentation (--tta) they are those of "
            "one augmentation only. Test without it"
        )


def loaded(calibrator: str | Path | ConformalRiskCalibrator) -> ConformalRiskCalibrator:
    """The calibrator itself, or that of a file."""
    if isinstance(calibrator, ConformalRiskCalibrator):
        return calibrator
    return ConformalRiskCalibrator.load(calibrator)


def scaler_of(scaler: Any) -> Any:
    """The scaler itself, or that of a file."""
    return load_transformer(scaler) if isinstance(scaler, str | Path) else scaler


def built(spec: Any, kinds: Sequence[str] | None = None) -> Any:
    """What a config says, as an object: ``dict(type="RAPS", penalty=0.1)`` as ``RAPS(penalty=0.1)``.

    Of some kinds, or of all that stand for scores, losses, methods and scalers, as do those inside.
    """
    if not isinstance(spec, Mapping):
        return spec
    options = {name: built(value) for name, value in spec.items()}
    kind = options.pop("type", None)
    allowed = kinds or (
        *("LAC", "APS", "RAPS", "SACP", "CRC", "PAC", "RCPS", "LTT"),
        *("MiscoverageLoss", "BinaryLoss", "FalseNegativeLoss", "LabelAccuracyLoss"),
        *("PrecisionLoss", "JaccardLoss"),
        *sorted(Transformer._KINDS),
    )
    if kind not in allowed:
        raise ValueError(f"type must be one of {list(allowed)}, got {kind!r}")
    return getattr(cm, kind)(**options)
