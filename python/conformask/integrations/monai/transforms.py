"""Transforms that turn the prediction for one image (channels first) into its set."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, ensure_tuple_rep
from numpy.typing import NDArray

from conformask._text import shown
from conformask.adaptive import ChannelwiseCalibrator
from conformask.integrations._calibrator_files import load_calibrator
from conformask.risk_control import ConformalRiskCalibrator

__all__ = ["ConformalSet", "ConformalSetD", "ConformalSetDict", "ConformalSetd"]

_OUTPUTS = ("masks", "set_size", "varisco")


class ConformalSet(Transform):
    """The multi-labeled mask of an image, or how many classes each voxel's set holds.

    Parameters
    ----------
    calibrator : path, ConformalRiskCalibrator, ChannelwiseCalibrator or a calibrator of binary masks
        A fitted calibrator, or the JSON file that its ``save`` wrote (in bundles: a string).
    output : {"masks", "set_size", "varisco"}, default="masks"
        The kind of result. "masks": whether each class is in the voxel's set, or the mask of each channel. "set_size":
        the number of classes in the set. "varisco": the set size over the number of classes, in [0, 1]. The last two
        need a ConformalRiskCalibrator.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the calibrator is not fitted.
    TypeError, ValueError
        If a parameter is not as described.
    FileNotFoundError
        If there is no such file.

    See Also
    --------
    ConformalSetd : The same for dictionaries.
    ConformalCalibrationHandler : Calibrates during the run of an evaluator.

    Notes
    -----
    Apply the transform to the same scores as in calibration: after ``Activations(softmax=True)`` for
    ``inputs="probabilities"``, before it for ``inputs="logits"``, and after ``Invertd`` if calibration was on the grid
    of the original images. A calibrator object is not copied: fitting it again changes the result of the transform.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> from monai.data import MetaTensor
    >>> from conformask.integrations.monai import ConformalSet
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(40, 8, 8)).transpose(0, 3, 1, 2).astype(np.float32)
    >>> y = X.argmax(axis=1)
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(X[:30], y[:30])
    >>> pred = MetaTensor(X[30], affine=np.diag([2.0, 2.0, 1.0, 1.0]))  # of one image, (K, H, W)
    >>> masks = ConformalSet(calibrator)(pred)
    >>> masks.shape, masks.dtype, masks.affine[0, 0].item()
    (torch.Size([4, 8, 8]), torch.bool, 2.0)
    >>> ConformalSet(calibrator, output="varisco")(pred).shape
    torch.Size([1, 8, 8])
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]  # noqa: RUF012 - as MONAI's own declare it

    def __init__(self, calibrator: Any, output: str = "masks") -> None:
        self.calibrator = load_calibrator(calibrator)
        _ = self.calibrator.calibrators_ if _is_channelwise(self) else self.calibrator.n_images_  # fitted?
        self.output = _check_output(output, self.calibrator)

    def __call__(self, img: Any, output: str | None = None) -> Any:
        """The set, the set sizes or the heatmap of one image.

        Parameters
        ----------
        img : array or tensor (K, H, W) or (K, D, H, W)
            The prediction for an image: the same numbers of each class or channel as in calibration.
        output : {"masks", "set_size", "varisco"} or None, default=None
            The kind of result; None takes that of the transform.

        Returns
        -------
        bool, int16 or float32, like `img`
            Masks (K, H, W) or (K, D, H, W), with a calibrator of one channel (1, ...); set sizes and heatmaps (1, ...).
            A MetaTensor has the affine, the meta data and the applied operations of `img`, and a tensor is on the
            device of `img`. For NumPy arrays the result is a NumPy array, in which set sizes are uint16.

        Raises
        ------
        TypeError, ValueError
            If `img` is not as described.
        """
        output = self.output if output is None else _check_output(output, self.calibrator)
        given = img.as_tensor() if isinstance(img, MetaTensor) else img
        if not isinstance(given, np.ndarray | torch.Tensor):
            raise TypeError(f"img must be an array or a tensor, got {type(img).__name__}")
        if given.ndim not in (3, 4):
            raise ValueError(
                f"img must have shape (K, H, W) or (K, D, H, W), got {tuple(given.shape)}: a transform takes one "
                "image, decollate batches first"
            )
        found = self._made(given, output)
        if isinstance(img, np.ndarray):
            return found
        tensor = torch.from_numpy(found.astype(np.int16) if output == "set_size" else found)
        return convert_to_dst_type(tensor, img, dtype=tensor.dtype)[0]

    def _made(self, given: Any, output: str) -> NDArray[Any]:
        """The result for one image, channels first."""
        calibrator: Any = self.calibrator
        if output != "masks":
            how = calibrator.set_size if output == "set_size" else calibrator.varisco
            found: NDArray[Any] = how(given[None])
            return found
        takes_classes = isinstance(calibrator, ConformalRiskCalibrator | ChannelwiseCalibrator)
        if not takes_classes and calibrator.classes_ is None:
            if given.shape[0] != 1:
                raise ValueError(
                    f"img has {given.shape[0]} channels, but {type(calibrator).__name__} was calibrated on one: pass "
                    "that of the foreground, img[1:2], or calibrate each with a ChannelwiseCalibrator"
                )
            one: NDArray[Any] = calibrator.predict(given)  # the channel takes the place of n
            return one
        found = calibrator.predict(given[None])
        return found[0] if takes_classes else found


class ConformalSetd(MapTransform):
    """:class:`ConformalSet` for dictionaries.

    Parameters
    ----------
    keys : str or sequence of str
        The keys of the predictions. Each prediction is replaced; ``CopyItemsd`` keeps a copy under another key.
    calibrator : path or fitted calibrator
        As for :class:`ConformalSet`.
    output : {"masks", "set_size", "varisco"} or a sequence of them, default="masks"
        The kind of result, for all keys or for each key.
    allow_missing_keys : bool, default=False
        Whether keys may be missing.

    Raises
    ------
    sklearn.exceptions.NotFittedError, TypeError, ValueError
        As for :class:`ConformalSet`.

    See Also
    --------
    ConformalSet : For arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import conformask as cm
    >>> from monai.transforms import Compose, CopyItemsd
    >>> from conformask.integrations.monai import ConformalSetd
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(40, 8, 8)).transpose(0, 3, 1, 2).astype(np.float32)
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(X[:30], X[:30].argmax(axis=1))
    >>> postprocessing = Compose(
    ...     [
    ...         CopyItemsd(keys="pred", names=["sets", "heatmap"], times=2),
    ...         ConformalSetd(keys=["sets", "heatmap"], calibrator=calibrator, output=["masks", "varisco"]),
    ...     ]
    ... )
    >>> found = postprocessing({"pred": torch.from_numpy(X[30])})
    >>> found["pred"].dtype, found["sets"].dtype, found["heatmap"].shape
    (torch.float32, torch.bool, torch.Size([1, 8, 8]))
    """

    backend = ConformalSet.backend

    def __init__(
        self,
        keys: KeysCollection,
        calibrator: Any,
        output: Sequence[str] | str = "masks",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        outputs = ensure_tuple_rep(output, len(self.keys))
        self.converter = ConformalSet(calibrator)
        self.output = tuple(_check_output(each, self.converter.calibrator) for each in outputs)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replaces the predictions.

        Parameters
        ----------
        data : mapping
            With an image for each of the keys, as :class:`ConformalSet` takes it.

        Returns
        -------
        dict
            A copy, with the results in place of the predictions.

        Raises
        ------
        KeyError
            If a key is missing, and `allow_missing_keys` is false.
        TypeError, ValueError
            As for :class:`ConformalSet`.
        """
        found = dict(data)
        for key, output in self.key_iterator(found, self.output):
            found[key] = self.converter(found[key], output)
        return found


ConformalSetD = ConformalSetDict = ConformalSetd


def _is_channelwise(transform: ConformalSet) -> bool:
    return isinstance(transform.calibrator, ChannelwiseCalibrator)


def _check_output(output: Any, calibrator: Any) -> str:
    if output not in _OUTPUTS:
        raise ValueError(f"output must be one of {list(_OUTPUTS)}, got {shown(output)}")
    if output != "masks" and not isinstance(calibrator, ConformalRiskCalibrator):
        raise ValueError(f"output={output!r} is of sets of classes: {type(calibrator).__name__} makes masks")
    return str(output)
