"""Ensembles: the mean of the probabilities of several models."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator

from conformask import _core
from conformask._arrays import score_array, warn_of_shares
from conformask._images import SCORES, Batch, Volumes, check_volumes, is_whole, walk
from conformask._sequences import listed
from conformask._text import plural, shown
from conformask._transforms import refuse_coarse

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

__all__ = ["EnsembleAverager"]


class EnsembleAverager(BaseEstimator):
    r"""The mean of the members' probabilities: :math:`p = \sum_m w_m \, \mathrm{softmax}(z_m)`.

    Probabilities are averaged, not logits. The most probable class may be one that few members prefer. There is nothing
    to learn: this is not a scaler. Apply it first, and give its probabilities to a scaler or a calibrator with
    ``inputs="probabilities"``.

    Parameters
    ----------
    inputs : {"logits", "probabilities"}, default="logits"
        The numbers in X.
    weights : sequence of numbers of at least 0, or None, default=None
        The weight of each member; they are divided by their sum. None gives all members the same weight.
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (see :class:`~conformask.ConformalRiskCalibrator`).
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over images.

    See Also
    --------
    TemperatureScaler : Calibrates one model, or the logarithms of an ensemble's probabilities.

    References
    ----------
    Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
    NeurIPS 2017, arXiv:1612.01474.

    Wang, Gong, Wang, Wu, Zhang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053, with three members.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> logits = np.random.default_rng(0).normal(0, 2, (3, 10, 4, 8, 8))  # three members, ten images
    >>> probabilities = cm.EnsembleAverager().transform(logits)
    >>> probabilities.shape
    (10, 4, 8, 8)
    """

    def __init__(
        self,
        *,
        inputs: str = "logits",
        weights: Any = None,
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.inputs = inputs
        self.weights = weights
        self.volumes = volumes
        self.progress = progress

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Does nothing: there is nothing to learn.

        Parameters
        ----------
        X, y
            Not used.

        Returns
        -------
        self
        """
        return self

    def transform(self, X: Any) -> Any:
        """The mean probabilities.

        Parameters
        ----------
        X : array (m, n, K, H, W) or (m, n, K, D, H, W), or a sequence of m arrays, lists or iterables of images
            Logits, or the numbers that `inputs` names, of m members, in float16, float32 or float64. Images are read
            one by one.

        Returns
        -------
        array (n, K, H, W) or (n, K, D, H, W), list or generator
            An array, a list or a generator like the first member; float32, or float64 if a member has float64.

        Raises
        ------
        TypeError, ValueError
            If X is not as described, or the members' images differ in number or shape.
        """
        if self.inputs not in ("logits", "probabilities"):
            raise ValueError(f"inputs must be one of ['logits', 'probabilities'], got {self.inputs!r}")
        check_volumes(self.volumes)
        members = _members(X)
        images = self._means(members, _shares(self.weights, len(members)))
        first = members[0]
        if is_whole(first):
            return _stacked(images, len(first))
        return list(images) if isinstance(first, Sequence) else images

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """The mean probabilities, as for :meth:`transform`.

        Parameters
        ----------
        X, y
            As for :meth:`transform`; y is not used.

        Returns
        -------
        array, list or generator
        """
        return self.transform(X)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _means(
        self, members: list[Any], shares: list[float]
    ) -> Generator[NDArray[np.floating[Any]], None, None]:
        """The mean of each image."""
        walks = [
            walk(
                member,
                None,
                SCORES,
                self.progress if m == 0 else False,
                labelled=False,
                at_once=1,
                volumes=self.volumes,
            )
            for m, member in enumerate(members)
        ]
        index = 0
        while True:
            found = [_next(each) for each in walks]
            ended = [m for m, image in enumerate(found) if image is None]
            if len(ended) == len(members):
                return
            if ended:
                raise ValueError(
                    f"the members of X must hold the same images: member {ended[0]} has {plural(index, 'image')}, "
                    "another has more"
                )
            for image in found:
                refuse_coarse(image, self.inputs)
            arrays = [score_array(image) for image in found]
            if index == 0:
                for array in arrays:
                    warn_of_shares(array[0], self.inputs)
            yield self._mean(arrays, shares, index)
            index += 1

    def _mean(self, arrays: list[NDArray[Any]], shares: list[float], index: int) -> NDArray[np.floating[Any]]:
        """The mean over members of their maps (1, K, ...) of an image."""
        total = np.zeros(arrays[0].shape)
        for m, (array, share) in enumerate(zip(arrays, shares, strict=True)):
            if array.shape != total.shape:
                raise ValueError(
                    f"the members of X must hold images of one shape: image {index} has {total.shape[1:]} in member 0, "
                    f"{array.shape[1:]} in member {m}"
                )
            out = np.empty(array.shape, np.float64 if array.dtype == np.float64 else np.float32)
            try:
                _core.probabilities(array, self.inputs, out, index)
            except ValueError as error:
                raise ValueError(f"in member {m} of the ensemble: {error}") from None
            total += share * out
        is_double = any(array.dtype == np.float64 for array in arrays)
        mean: NDArray[np.floating[Any]] = total[0].astype(np.float64 if is_double else np.float32)
        return mean


def _members(X: Any) -> list[Any]:
    """The maps of each member."""
    if is_whole(X):
        if len(X.shape) not in (5, 6):
            raise ValueError(
                f"X must have shape (members, n, K, H, W) or (members, n, K, D, H, W), got {tuple(X.shape)}"
            )
        members = [X[m] for m in range(len(X))]
    else:
        members = listed(X, "X")
    if not members:
        raise ValueError("X is empty: it holds no member")
    return members


def _shares(weights: Any, n: int) -> list[float]:
    """The weight of each member; they sum to 1."""
    if weights is None:
        return [1 / n] * n
    values = np.asarray(listed(weights, "weights"))
    is_number = values.dtype.kind in "fiu" and values.ndim == 1
    if (
        not is_number
        or len(values) != n
        or not (np.isfinite(values) & (values >= 0)).all()
        or not values.any()
    ):
        raise ValueError(
            f"weights must hold a number of at least 0 for each of {plural(n, 'member')}, not all 0, "
            f"got {shown(weights)}"
        )
    return [float(value) for value in values / values.sum(dtype=np.float64)]


def _next(images: Iterator[Batch]) -> Any:
    """The maps (1, K, ...) of the next image; None at the end."""
    for maps, _, _ in images:
        return maps
    return None


def _stacked(images: Iterator[NDArray[np.floating[Any]]], n: int) -> NDArray[np.floating[Any]]:
    """One array of n images."""
    out = None
    for index, image in enumerate(images):
        if out is None:
            out = np.empty((n, *image.shape), image.dtype)
        out[index] = image
    if out is None:
        raise ValueError("X is empty: it holds no image")
    return out
