"""Channels that may overlap, each with a calibrator of binary masks of its own."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from conformask._calibrator import Estimator, State
from conformask._documents import document_text, locked, read_document, reading, save_document
from conformask._images import NoImagesError, in_memory, is_whole
from conformask._sequences import has_order, listed
from conformask._tables import html_table
from conformask._tensors import to_array
from conformask._text import shown
from conformask._warnings import naming
from conformask.adaptive._calibrator import BinaryCalibrator
from conformask.adaptive._kinds import BINARY
from conformask.adaptive.binary_risk import BinaryRiskCalibrator
from conformask.exceptions import InfeasibleRiskError

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from conformask.adaptive.report import BinaryReport
    from conformask.control import Method

__all__ = ["ChannelwiseCalibrator"]


@dataclass(frozen=True)
class _Channel:
    """One channel of maps (n, K, ...) that are read by slices: it reads only what is asked for."""

    maps: Any
    index: int

    @property
    def shape(self) -> tuple[int, ...]:
        n, _, *space = self.maps.shape
        return n, *space

    def __len__(self) -> int:
        return int(self.maps.shape[0])

    def __getitem__(self, some: Any) -> Any:
        return self.maps[some, self.index]


class ChannelwiseCalibrator(Estimator[None, "tuple[BinaryCalibrator[Any], ...]"]):
    r"""Masks of K channels that may overlap, each with a guarantee of its own.

    Multi-label networks have a sigmoid for each channel: tumour core, whole tumour and enhancing tumour of BraTS, or
    the regions of nnU-Net. A pixel may be in all of them or in none, so that the probabilities need not sum to 1, and
    sets of classes that exclude one another do not apply. Here each channel is a binary task: a clone of `calibrator`
    is fitted to the probabilities and masks of the channel, and predicts its masks.

    If calibration images and new images are exchangeable, and levels were fixed before looking at their labels, each
    channel has the guarantee of its calibrator. With :class:`~conformask.BinaryRiskCalibrator` a new image that has an
    object in the channel has in expectation at most the share alpha of it outside the channel's mask.

    Parameters
    ----------
    calibrator : BinaryRiskCalibrator, CRACalibrator or another calibrator of binary masks, or None, default=None
        The calibrator of which a clone is fitted to each channel; it is not changed. None is
        ``BinaryRiskCalibrator()``.
    names : sequence of K different strings, or None, default=None
        The names of the channels in errors and reports; None takes their numbers.

    Attributes
    ----------
    calibrators_ : tuple of K calibrators
        The fitted calibrators of the channels.
    threshold_ : float64 array (K,)
        The threshold of each channel, if its calibrator has one threshold for all images.
    risk_, corrected_risk_ : float64 array (K,)
        The empirical risk of each channel on the calibration images, and the number that is kept at or below alpha.
    n_images_ : int64 array (K,)
        Number of images (groups, if given) that counted in each channel: those with an object there, unless `on_empty`
        of the calibrator decides otherwise.
    n_channels_ : int
        The number of channels K.

    See Also
    --------
    BinaryRiskCalibrator : Calibrates one channel.
    ConformalRiskCalibrator : Calibrates classes that exclude one another (softmax).

    Notes
    -----
    Each guarantee is about its own channel. For all channels at once use the levels ``alpha / K``: the largest of the K
    risks of an image is then in expectation at most alpha, since it is at most their sum, in which a channel without an
    object counts as 0.

    Masks may not be nested even if channels are: a voxel may be in the mask of the tumour core and not in that of the
    whole tumour. The union (``masks[:, 1] |= masks[:, 0]``) only makes masks larger. This keeps the guarantee for
    missed pixels, but not the one of ``risk="fpr"``.

    As with the meta-estimators of scikit-learn, a parameter of `calibrator` that is set after :meth:`fit` is that of
    the next fit. :meth:`recalibrate` gives the thresholds at another alpha.

    References
    ----------
    Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024, arXiv:2208.02814.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> P = rng.random((60, 3, 16, 16))  # sigmoids of three channels
    >>> y = rng.random(P.shape) < P  # which overlap
    >>> calibrator = cm.adaptive.ChannelwiseCalibrator(cm.BinaryRiskCalibrator(alpha=0.1), names=["TC", "WT", "ET"])
    >>> masks = calibrator.fit(P[:40], y[:40]).predict(P[40:])
    >>> masks.shape, calibrator.threshold_.shape
    ((20, 3, 16, 16), (3,))
    >>> reports = calibrator.evaluate(P[40:], y[40:])
    >>> max(report.empirical_risk for report in reports.values()) < 0.12
    True
    >>> stricter = calibrator.recalibrate(alpha=0.1 / 3)  # of the three risks the largest is at most 0.1
    """

    _FORMAT = ("ChannelwiseCalibrator", 1)

    def __init__(
        self, calibrator: BinaryCalibrator[Any] | None = None, *, names: Sequence[str] | None = None
    ) -> None:
        self.calibrator = calibrator
        self.names = names

    # Calibration

    def fit(
        self,
        P: Any,
        y: Any,
        *,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Calibrates on images, and forgets those of earlier calls.

        Parameters
        ----------
        P : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64; or a list of (K, H, W) or (K, D, H, W)
            Probability of each channel, in [0, 1]. A store (h5py, zarr) is read once for each channel.
        y : bool or integer array like P, or a list of arrays
            Masks of each channel: true or 1, false or 0, or `ignore_index` of the calibrator where nobody knows.
        groups, sample_weight
            As for :meth:`BinaryRiskCalibrator.fit`.

        Returns
        -------
        self

        Raises
        ------
        InfeasibleRiskError
            If too few images have an object in a channel, which the message names. They are kept:
            ``recalibrate(alpha=...)`` works.
        TypeError, ValueError
            If the input is not as described. The object is then unchanged.

        Warns
        -----
        DuplicateImagesWarning, DroppedImagesWarning, InfeasibleRiskWarning, SuspiciousLabelsWarning
            As for :meth:`BinaryRiskCalibrator.fit`, for each channel; the message names the channel.
        """
        template, n_channels = self._template(), _labelled(P, y)
        names, channels = self._names(n_channels), [clone(template) for _ in range(n_channels)]
        infeasible: InfeasibleRiskError | None = None
        for index, (name, channel) in enumerate(zip(names, channels, strict=True)):
            try:
                with _naming(name):
                    channel.fit(
                        _channel(P, index), _channel(y, index), groups=groups, sample_weight=sample_weight
                    )
            except InfeasibleRiskError as error:  # the images are kept
                infeasible = infeasible or error
        self._update(lambda _: tuple(channels))
        if infeasible is not None:
            raise infeasible
        return self

    def partial_fit(
        self,
        P: Any,
        y: Any,
        *,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Adds images; an empty batch changes nothing. Thresholds are computed when they are needed.

        Parameters
        ----------
        P, y, groups, sample_weight
            As for :meth:`fit`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As for :meth:`fit`, and if `calibrator` trains a model; what was collected before is kept.

        Warns
        -----
        DuplicateImagesWarning
            If an image comes twice, or was given in an earlier call.
        """
        template = self._template()
        try:
            n_channels = _labelled(P, y)
        except NoImagesError:
            return self
        if hasattr(template, "train_fraction"):
            raise TypeError(
                f"{type(template).__name__} trains a model of thresholds on a part of the images: fit all of them at "
                "once, or take BinaryRiskCalibrator or CRACalibrator"
            )
        names, before = self._names(n_channels), self._known
        if before is not None and len(before) != n_channels:
            raise ValueError(f"P has K = {n_channels} channels, but K = {len(before)} in calibration")
        parts = []
        for index, name in enumerate(names):
            with _naming(name):
                part = clone(template)
                part.partial_fit(
                    _channel(P, index), _channel(y, index), groups=groups, sample_weight=sample_weight
                )
            parts.append(part)
        self._add(parts, names)
        return self

    def merge(self, other: ChannelwiseCalibrator) -> Self:
        """Adds the images of another calibrator, for example of another worker.

        Levels and methods are those of this calibrator, also if it has seen nothing yet.

        Parameters
        ----------
        other : ChannelwiseCalibrator
            A calibrator that has seen images of as many channels.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If `other` is of another class or the same object, has seen no images, or its channels do not fit.

        Warns
        -----
        DuplicateImagesWarning
            If `other` has images that were given here, too.
        """
        self._refuse_to_merge(other, ChannelwiseCalibrator)
        parts = other._fitted()
        self._add(parts, self._names(len(parts)))
        return self

    def recalibrate(self, alpha: float | None = None, method: Method | str | None = None) -> Self:
        """A new fitted calibrator with another alpha or method for all channels, from what was kept of the images.

        Parameters
        ----------
        alpha, method
            The new parameters; None keeps the present one.

        Returns
        -------
        ChannelwiseCalibrator

        Raises
        ------
        InfeasibleRiskError
            If too few images have an object in a channel.
        ValueError
            If a parameter is out of range, or the calibrator was loaded from a file, which holds no images.

        Notes
        -----
        The guarantee holds for a choice that was made before looking at the calibration labels.
        """
        channels = self._fitted()
        changes = {"alpha": alpha, "method": method}
        given = {name: value for name, value in changes.items() if value is not None}
        fresh = type(self)(clone(self._template()).set_params(**given), names=self.names)
        found = []
        for name, channel in zip(self._names(len(channels)), channels, strict=True):
            with _naming(name):
                found.append(channel.recalibrate(alpha, method))
        fresh._update(lambda _: tuple(found))
        return fresh

    # Prediction

    def predict(self, P: Any) -> Any:
        """Masks of all channels.

        Parameters
        ----------
        P : array (n, K, H, W) or (n, K, D, H, W), a list of (K, H, W) or (K, D, H, W)
            As for :meth:`fit`.

        Returns
        -------
        bool array like P; a list for a list
            Whether the pixel is in the mask of the channel.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        TypeError, ValueError
            If P is not as described, or K differs from calibration.
        """
        channels = self._of(P)
        if not is_whole(P):
            return [self.predict(to_array(image, "P")[np.newaxis])[0] for image in P]
        found = np.empty(tuple(P.shape), np.bool_)
        for index, (name, channel) in enumerate(zip(self._names(len(channels)), channels, strict=True)):
            with _naming(name):
                found[:, index] = channel.predict(_channel(P, index))
        return found

    def predict_thresholds(self, P: Any) -> NDArray[np.float64]:
        """The threshold of each image and channel.

        Parameters
        ----------
        P
            As for :meth:`predict`.

        Returns
        -------
        float64 array (n, K)
            The smallest probability in the mask, exactly. It is above 1 if the mask is empty.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`.
        """
        channels, found = self._of(P), []
        for index, (name, channel) in enumerate(zip(self._names(len(channels)), channels, strict=True)):
            with _naming(name):
                found.append(channel.predict_thresholds(_channel(P, index)))
        return np.stack(found, axis=1)

    def evaluate(
        self, P: Any, y: Any, *, groups: ArrayLike | None = None
    ) -> dict[str, BinaryReport] | dict[int, BinaryReport]:
        """Risk, coverage and size of the masks of each channel on labelled images, with intervals.

        Parameters
        ----------
        P, y
            As for :meth:`fit`, but other images than the calibration images.
        groups : sequence of n ints or strings, or None
            The group of each image, as in calibration.

        Returns
        -------
        dict
            A :class:`BinaryReport` of each channel, by its name (without names, by its number).

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`, and for masks that do not fit.
        """
        channels, names = self._of(P), self._names(_labelled(P, y))
        found: dict[Any, BinaryReport] = {}
        for index, (name, channel) in enumerate(zip(names, channels, strict=True)):
            with _naming(name):
                found[name] = channel.evaluate(_channel(P, index), _channel(y, index), groups=groups)
        return found

    # What was found

    @property
    def calibrators_(self) -> tuple[BinaryCalibrator[Any], ...]:
        """The fitted calibrators of the channels."""
        return self._fitted()

    @property
    def n_channels_(self) -> int:
        """The number of channels K."""
        return len(self._fitted())

    @property
    def threshold_(self) -> NDArray[np.float64]:
        """The threshold of each channel."""
        return self._all("threshold_", np.float64)

    @property
    def risk_(self) -> NDArray[np.float64]:
        """The empirical risk of each channel."""
        return self._all("risk_", np.float64)

    @property
    def corrected_risk_(self) -> NDArray[np.float64]:
        """The corrected risk of each channel, which is at most alpha."""
        return self._all("corrected_risk_", np.float64)

    @property
    def n_images_(self) -> NDArray[np.int64]:
        """Number of images or groups that count in each channel."""
        return self._all("n_images_", np.int64)

    # Files

    def save(self, path: str | Path) -> None:
        """Writes the calibrators of all channels to one JSON file, without the probabilities that were kept.

        Parameters
        ----------
        path : path
            The file.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        """
        channels = self._fitted()
        names = self._names(len(channels))
        documents = []
        for name, channel in zip(names, channels, strict=True):
            with _naming(name):
                content = channel._content(channel._settled()[1])
            documents.append(json.loads(document_text(*channel._FORMAT, content)))
        content = {"names": None if self.names is None else names, "channels": documents}
        text = document_text(*self._FORMAT, content)
        save_document(Path(path), lambda _: text, None)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what :meth:`save` wrote. Nothing in the file is executed.

        Parameters
        ----------
        path : path
            The JSON file.

        Returns
        -------
        ChannelwiseCalibrator

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, foreign, or of a newer version.
        """
        path = Path(path)
        with locked(path.parent, shared=True):
            content = path.read_bytes()
        with reading(path):
            document = read_document(content, *cls._FORMAT)
            channels = tuple(_from_document(each) for each in document["channels"])
            if not channels:
                raise ValueError("it holds no channel")
            found = cls(clone(channels[0]), names=document["names"])
            found._names(len(channels))
        found._update(lambda _: channels)
        return found

    # Inside

    def _template(self) -> BinaryCalibrator[Any]:
        """The calibrator that is fitted to each channel."""
        if self.calibrator is None:
            return BinaryRiskCalibrator()
        if not isinstance(self.calibrator, BinaryCalibrator):
            raise TypeError(f"calibrator must be one of {list(BINARY)}, got {shown(self.calibrator)}")
        return self.calibrator

    def _names(self, n_channels: int) -> list[Any]:
        """The names of the channels."""
        if self.names is None:
            return list(range(n_channels))
        names = listed(self.names, "names")
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError(f"names must be different strings, got {shown(names)}")
        if len(names) != n_channels:
            raise ValueError(f"there are K = {n_channels} channels, but {len(names)} names: {shown(names)}")
        return names

    def _fitted(self) -> tuple[BinaryCalibrator[Any], ...]:
        known = self._known
        if known is None:
            raise NotFittedError(
                f"this {type(self).__name__} has seen no images yet: call fit or partial_fit first"
            )
        return known

    def _of(self, P: Any) -> tuple[BinaryCalibrator[Any], ...]:
        """The calibrators of the channels of maps."""
        channels, n_channels = self._fitted(), _channels_of(P)
        if n_channels != len(channels):
            raise ValueError(f"P has K = {n_channels} channels, but K = {len(channels)} in calibration")
        return channels

    def _add(self, parts: Sequence[BinaryCalibrator[Any]], names: Sequence[Any]) -> None:
        """Adds the images of calibrators of channels, if all of them fit."""
        template = self._template()

        def add(before: tuple[BinaryCalibrator[Any], ...] | None) -> tuple[BinaryCalibrator[Any], ...]:
            if before is None:  # this object's parameters are used, whatever those of the other are
                before = tuple(clone(template) for _ in parts)
            if len(before) != len(parts):
                raise ValueError(f"K differs: {len(before)} here, {len(parts)} there")
            merged = []
            for name, channel, part in zip(names, before, parts, strict=True):
                with _naming(name):
                    merged.append(copy.copy(channel).merge(part))
            return tuple(merged)

        self._update(add)

    def _all(self, name: str, dtype: Any) -> NDArray[Any]:
        found = []
        for channel_name, channel in zip(self._names(self.n_channels_), self._fitted(), strict=True):
            with _naming(channel_name):
                found.append(getattr(channel, name))
        return np.array(found, dtype)

    def __sklearn_is_fitted__(self) -> bool:
        return self._known is not None

    def _repr_html_(self) -> str:
        """A table for notebooks: what each channel found."""
        rows = [("calibrator", repr(self._template()))]
        channels = self._known or ()
        rows += [
            (f"channel {name}", repr(each))
            for name, each in zip(self._names(len(channels)), channels, strict=True)
        ]
        return html_table(type(self).__name__, rows)


@contextmanager
def _naming(name: Any) -> Iterator[None]:
    """Adds the channel to errors and warnings."""
    try:
        with naming(f"channel {name}"):
            yield
    except InfeasibleRiskError as error:
        raise error._but(reason=f"channel {name}: {error}") from error
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(f"channel {name}: {error}") from error


def _channels_of(P: Any, y: Any = None) -> int:
    """K of maps (n, K, ...) or of a list of (K, ...), whose masks have the same shape."""
    if is_whole(P):
        shape = tuple(P.shape)
        if len(shape) not in (4, 5):
            hint = "; one image is P[None]" if len(shape) == 3 else ""
            raise ValueError(f"P must have shape (n, K, H, W) or (n, K, D, H, W), got {shape}{hint}")
        _check_masks(shape, y)
        if not shape[0]:
            raise NoImagesError("P is empty: it holds no image")
        return int(shape[1])
    if not isinstance(P, Sequence) or not has_order(P):
        raise TypeError(
            f"P must be an array (n, K, H, W) or a list of (K, H, W), got {type(P).__name__}: pass an "
            f"iterable part by part, to partial_fit or predict"
        )
    if not len(P):
        raise NoImagesError("P is empty: it holds no image")
    if y is not None and len(P) != len(y):
        raise ValueError(f"P has {len(P)} images, y has {len(y)}")
    n_channels = int(np.shape(P[0])[0]) if np.ndim(P[0]) else 0
    for index, image in enumerate(P):
        shape = tuple(np.shape(image))
        if len(shape) not in (3, 4):
            raise ValueError(
                f"each image of P must have shape (K, H, W) or (K, D, H, W); image {index} has {shape}"
            )
        if shape[0] != n_channels:
            raise ValueError(
                f"P has K = {shape[0]} channels in image {index}, but K = {n_channels} in image 0"
            )
        _check_masks(shape, None if y is None else y[index], f" in image {index}", first=0)
    return n_channels


def _check_masks(shape: tuple[int, ...], y: Any, where: str = "", first: int = 1) -> None:
    """Refuses masks of another shape than that of maps, whose axis `first` is K."""
    if y is None or tuple(np.shape(y)) == shape:
        return
    given, hint = tuple(np.shape(y)), ""
    of_labels = shape[:first] + shape[first + 1 :]
    if given in (of_labels, (*shape[:first], 1, *shape[first + 1 :])):
        hint = (
            f"; if y holds labels of classes, give the mask of each channel, np.stack([np.isin(y, classes) for classes "
            f"in ...], axis={first})"
        )
    raise ValueError(f"y must have the shape of P, {shape}{where}, a mask of each channel, got {given}{hint}")


def _labelled(P: Any, y: Any) -> int:
    """K of maps, which must come with masks."""
    if y is None:
        raise TypeError("y is missing: give a mask of each channel, of the shape of P")
    return _channels_of(P, y)


def _channel(maps: Any, index: int) -> Any:
    """One channel of maps or masks."""
    if in_memory(maps):
        return maps[:, index]
    return _Channel(maps, index) if is_whole(maps) else [image[index] for image in maps]


def _from_document(document: Any) -> BinaryCalibrator[Any]:
    """The calibrator of a channel."""
    name = str(document["format"]).rpartition(".")[2]
    if name not in BINARY:
        raise ValueError(f"{name} is no calibrator of binary masks")
    kind = BINARY[name]
    checked = read_document(json.dumps(document).encode(), *kind._FORMAT)
    calibrator, solution = kind._from_content(checked)
    calibrator._update(lambda _: State(None, solution))
    found: BinaryCalibrator[Any] = calibrator
    return found
