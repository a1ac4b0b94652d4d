"""Sets of segmentations, and whether they hold a segmentation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from conformask import _core
from conformask._arrays import label_array
from conformask._random import RandomState, check_key
from conformask._tables import html_table
from conformask._text import shown
from conformask.consign._images import label_codes
from conformask.metrics.richness import log10_of_product

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from conformask.consign._settings import Settings

__all__ = ["ConsignSet", "Membership"]


@dataclass(frozen=True, eq=False)
class Membership:
    """Whether a segmentation is in a set: the answer of :meth:`ConsignSet.contains`. Its truth value is `contained`.

    Attributes
    ----------
    contained : bool
        Whether coefficients in the box were found whose segmentation is accurate enough.
    certified : bool
        Whether the answer is certain. True in `contained` always is: `coefficients` prove it. False is certain if the
        whole box was searched.
    coefficients : float64 array (k,) or None
        Coefficients in the box whose segmentation is accurate enough; None if not contained.

    Examples
    --------
    >>> import conformask as cm
    >>> bool(cm.Membership(contained=False, certified=True, coefficients=None))
    False
    """

    contained: bool
    certified: bool
    coefficients: NDArray[np.float64] | None

    def __bool__(self) -> bool:
        return self.contained

    def _repr_html_(self) -> str:
        found = "none" if self.coefficients is None else ", ".join(f"{c:.6g}" for c in self.coefficients)
        rows = [
            ("contained", f"{self.contained}"),
            ("certified", f"{self.certified}"),
            ("coefficients", found),
        ]
        return html_table("Membership", rows)


class ConsignSet:
    r"""A set of segmentations of one image, which vary in the spatial patterns of the model's uncertainty.

    .. math:: \Big\{ Y : \mathrm{acc}\big(\operatorname{argmax}_l (\mu + \textstyle\sum_k c_k u_k)_l,\; Y\big) \ge \beta
        \text{ for some } c \in [\text{lower}, \text{upper}] \Big\}

    :meth:`ConsignCalibrator.predict` makes it.

    Attributes
    ----------
    mean : float64 array (K, H, W) or (K, D, H, W)
        The mean of the samples.
    components : float64 array (k, K, H, W) or (k, K, D, H, W)
        The orthonormal patterns in which the samples differ; the largest absolute entry of each is positive. There are
        fewer than `n_components` if the samples are few or alike.
    singular_values : float64 array (k,)
        The singular values of the patterns, which tell how much the samples differ in each; descending.
    lower, upper : float64 arrays (k,)
        The box of coefficients at lambda-hat.
    lambda_hat : float
        The calibrated lambda.

    Notes
    -----
    Scores are float64 sums from left to right, ``mean + c[0] * components[0] + ...``. The label of a pixel is the class
    with the largest score, and the lowest one of several.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.array([[[0.61, 0.8]], [[0.51, 0.8]], [[0.41, 0.8]]])  # probability of class 0: 3 samples, 1 x 2 pixels
    >>> X = np.stack([X, 1 - X], axis=1)
    >>> y = np.array([[1, 0]])
    >>> calibrator = cm.ConsignCalibrator(1, alpha=0.5, quantile_level=0.25).fit([X], [y])
    >>> [segmentations] = calibrator.predict([X])
    >>> segmentations
    ConsignSet(K=2, shape=(1, 2), components=1, lambda_hat=1)
    >>> segmentations.contains(y).contained
    True
    >>> segmentations.contains(np.array([[1, 1]]))  # no sample has class 1 at the second pixel
    Membership(contained=False, certified=True, coefficients=None)
    >>> segmentations.sample(100, random_state=0).shape
    (100, 1, 2)
    """

    def __init__(
        self, decomposition: _core.ConsignDecomposition, lambda_hat: float, settings: Settings
    ) -> None:
        self._decomposition = decomposition
        self._settings = settings
        self.lambda_hat = lambda_hat
        self.singular_values = decomposition.singular_values
        # Computed as in the search, so that rounding puts no coefficients at lambda-hat outside.
        self.lower = decomposition.centre - decomposition.half * lambda_hat
        self.upper = decomposition.centre + decomposition.half * lambda_hat

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """The mean of the samples (K, H, W) or (K, D, H, W)."""
        return self._decomposition.mean

    @cached_property
    def components(self) -> NDArray[np.float64]:
        """The patterns in which the samples differ, (k, K, H, W) or (k, K, D, H, W)."""
        return self._decomposition.components

    def sample(self, m: int, random_state: RandomState = None) -> NDArray[np.unsignedinteger]:
        """Segmentations of the set: coefficients uniform in the box, then the argmax.

        Parameters
        ----------
        m : int >= 1
            The number of segmentations.
        random_state : int >= 0, numpy.random.Generator, numpy.random.RandomState or None, default=None
            The key of the random numbers: the same int gives the same samples, for any number of threads. None draws
            one.

        Returns
        -------
        array (m, H, W) or (m, D, H, W), uint8, or uint16 if K > 256
            Labels. The coefficients are those of
            ``np.random.Generator(np.random.Philox(key=random_state)).random((m, k))``, stretched to the box.

        Raises
        ------
        TypeError, ValueError
            If a parameter is out of range.
        """
        if isinstance(m, bool) or not isinstance(m, int | np.integer):
            raise TypeError(f"m must be an int, got {shown(m)}")
        if m < 1:
            raise ValueError(f"m must be at least 1, got {shown(m)}")
        n_classes, *shape = self._decomposition.shape
        out: NDArray[np.unsignedinteger] = np.empty(
            (m, math.prod(shape)), np.uint8 if n_classes <= 256 else np.uint16
        )
        self._decomposition.sample(self.lower, self.upper, check_key(random_state), out)
        return out.reshape(m, *shape)

    def log10_volume_upper(self) -> float:
        r"""The logarithm (base 10) of an upper bound of the number of segmentations of the box.

        .. math:: \log_{10} \min\Big( \sum_{i \le k} \binom{M}{i},\; \prod_p |C_p| \Big)

        :math:`M` counts the hyperplanes, at all pixels, at which one possible label overtakes another somewhere in the
        box: they cut it into at most the first number of cells. :math:`C_p` are the labels that pixel :math:`p` may
        have. Compare with :func:`conformask.metrics.log10_volume` of pixel-wise sets, which is exact. The bound holds
        for exact coefficients: if classes tie up to rounding, floats may give more segmentations.

        Returns
        -------
        float
            The logarithm, at least 0.
        """
        n_pixels, n_hyperplanes = self._decomposition.open(self.lower, self.upper)
        n_moving = int((self.lower < self.upper).sum())
        n_cells = sum(math.comb(n_hyperplanes, i) for i in range(n_moving + 1))
        return min(math.log10(n_cells), log10_of_product(n_pixels))

    def segmentation(self, coefficients: ArrayLike) -> NDArray[np.intp]:
        """The segmentation of given coefficients.

        Parameters
        ----------
        coefficients : array (k,)
            Coefficients, which may lie outside of the box.

        Returns
        -------
        int array (H, W) or (D, H, W)
            Labels.

        Raises
        ------
        ValueError
            If the number of coefficients is not k.
        """
        c = np.asarray(coefficients, np.float64)
        if c.shape != self.lower.shape:
            raise ValueError(f"coefficients must have shape {self.lower.shape}, got {c.shape}")
        return self._decomposition.label_map(c).astype(np.intp)

    def contains(self, y: ArrayLike) -> Membership:
        """Whether a segmentation is in the set.

        Parameters
        ----------
        y : integer array (H, W) or (D, H, W)
            Labels. Void pixels do not count.

        Returns
        -------
        Membership
            The answer of the certified search, which calibration uses, too: an image is contained if its own lambda,
            found in this way, is at most lambda-hat. The guarantee is about this answer. With the reference search, the
            guarantee is about images that are contained or not certain.

        Raises
        ------
        TypeError, ValueError
            If `y` does not fit, or has no labelled pixel.
        """
        labels = label_codes(label_array(y), self._decomposition, self._settings.ignore_index)
        search = self._settings.new_search()
        if not search.add(self._decomposition, labels):
            raise ValueError("y has no labelled pixel: whether it is in the set is undefined")
        search.warm_start(self.lambda_hat)
        search.refine(0, 1, math.inf, self.lambda_hat)
        return self._membership(search)

    def _membership(self, search: _core.ConsignSearch) -> Membership:
        (upper,), (lower,), _ = search.brackets()
        if upper <= self.lambda_hat:
            witness = search.witness(0)
            assert witness is not None  # an upper bound comes with one
            coefficients = self._decomposition.centre + self._decomposition.half * witness
            return Membership(True, True, coefficients)
        return Membership(False, bool(lower > self.lambda_hat), None)

    def __repr__(self) -> str:
        return f"ConsignSet({', '.join(f'{name}={text}' for name, text in self._rows())})"

    def _repr_html_(self) -> str:
        strengths = ", ".join(f"{value:.4g}" for value in self.singular_values)
        return html_table("ConsignSet", [*self._rows(), ("singular_values", strengths)])

    def _rows(self) -> list[tuple[str, str]]:
        n_classes, *shape = self._decomposition.shape
        return [
            ("K", f"{n_classes}"),
            ("shape", f"{tuple(shape)}"),
            ("components", f"{len(self.lower)}"),
            ("lambda_hat", f"{self.lambda_hat:.6g}"),
        ]
