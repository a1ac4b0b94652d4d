"""CONSIGN: sets of whole segmentations that hold the truth with probability 1 - alpha. The calibrator of family 2."""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from conformask import _core
from conformask._arrays import check_ignore_index, is_array, label_array, track
from conformask._consign_reference import Problem, ReferenceSearch, solve
from conformask._decomposition import Decomposition, decompose
from conformask._documents import document_text, finite_or_text, read_document, reading
from conformask._exact import (
    as_fraction,
    as_plain,
    check_alpha,
    check_share,
    number_from_json,
    tolerated,
)
from conformask._random import RandomState, check_key
from conformask._samples import VOID, images, labels_of
from conformask.control import CRC
from conformask.exceptions import DroppedImagesWarning, InfeasibleRiskError
from conformask.metrics import log10_of_product
from conformask.report import CoverageReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TypeAlias

    from numpy.typing import ArrayLike, NDArray

    _Decomposer: TypeAlias = Callable[[NDArray[np.floating[Any]], int], Decomposition]

__all__ = ["ConsignCalibrator", "ConsignSet", "Membership", "ReferenceSearch"]

_NAME = "ConsignCalibrator"
_FORMAT_VERSION = 1
_MAX_COMPONENTS = 64
# Images between two looks at how large lambda-hat can still be: fixed, so that it does not matter how many run at once.
_WAVE = 32
# Decompositions that wait for their first bounds.
_WAITING_BYTES = 2**28
# Parameters that may change after calibration.
_FREE = ("on_empty", "progress", "random_state")
_STATUSES = ("exact", "upper_bound", "infeasible", "not_needed")


@dataclass(frozen=True, eq=False)
class Membership:
    """Whether a segmentation is in a set, as :meth:`ConsignSet.contains` answers. It is true if contained.

    Attributes
    ----------
    contained : bool
        Whether coefficients were found in the box that are accurate enough.
    certified : bool
        Whether the answer is sure. A yes always is: `coefficients` show it. A no is if the whole box was searched.
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


@dataclass(frozen=True)
class _Settings:
    """What a search is asked, besides images."""

    min_accuracy: Fraction
    strict: bool
    pixelwise: bool
    lambda_max: float
    node_budget: int
    ignore_index: int | None

    def search(self) -> _core.ConsignSearch:
        return _core.ConsignSearch(
            self.least_accuracy, self.strict, self.pixelwise, self.lambda_max, self.node_budget
        )

    @property
    def least_accuracy(self) -> Fraction:
        """What must be reached, or exceeded."""
        return self.min_accuracy if self.strict else tolerated(self.min_accuracy)


class ConsignSet:
    r"""A set of segmentations of one image: what the model holds possible, with its spatial patterns.

    .. math:: \Big\{ Y : \mathrm{acc}\big(\operatorname{argmax}_l (\mu + \textstyle\sum_k c_k u_k)_l,\; Y\big) \ge \beta
        \text{ for some } c \in [\text{lower}, \text{upper}] \Big\}

    Made by :meth:`ConsignCalibrator.predict`.

    Attributes
    ----------
    mean : float64 array (K, H, W) or (K, D, H, W)
        The mean of the samples.
    components : float64 array (k, K, H, W) or (k, K, D, H, W)
        The patterns in which the samples differ, orthonormal; the largest absolute entry of each is positive. Fewer
        than `n_components` if the samples are few or alike.
    singular_values : float64 array (k,)
        How much they differ in each, descending.
    lower, upper : float64 arrays (k,)
        The box of coefficients at lambda-hat.
    lambda_hat : float
        The calibrated lambda.

    Notes
    -----
    Scores are float64 sums from the left, ``mean + c[0] * components[0] + ...``, and the label of a pixel is the lowest
    with the largest score.

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
    >>> segmentations.contains(np.array([[1, 1]]))  # no sample says so of the second pixel
    Membership(contained=False, certified=True, coefficients=None)
    >>> segmentations.sample(100, random_state=0).shape
    (100, 1, 2)
    """

    def __init__(self, decomposition: Decomposition, lambda_hat: float, settings: _Settings) -> None:
        self._decomposition = decomposition
        self._settings = settings
        self.lambda_hat = lambda_hat
        self.mean = decomposition.mean
        self.components = decomposition.components
        self.singular_values = decomposition.singular_values
        # As the search computes coefficients, so that those at lambda-hat are not outside by a rounding.
        self.lower = decomposition.centre - decomposition.half * lambda_hat
        self.upper = decomposition.centre + decomposition.half * lambda_hat

    def sample(self, m: int, random_state: RandomState = None) -> NDArray[np.unsignedinteger]:
        """Segmentations of the set: coefficients uniform in the box, then the argmax.

        Parameters
        ----------
        m : int >= 1
            How many.
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
            raise TypeError(f"m must be an int, got {m!r}")
        if m < 1:
            raise ValueError(f"m must be at least 1, got {m}")
        n_classes, *shape = self.mean.shape
        out: NDArray[np.unsignedinteger] = np.empty(
            (m, math.prod(shape)), np.uint8 if n_classes <= 256 else np.uint16
        )
        mean, components = self._decomposition.flat()
        _core.consign_sample(mean, components, self.lower, self.upper, check_key(random_state), out)
        return out.reshape(m, *shape)

    def log10_volume_upper(self) -> float:
        r"""An upper bound of how many segmentations the box makes, as a logarithm.

        .. math:: \log_{10} \min\Big( \sum_{i \le k} \binom{M}{i},\; \prod_p |C_p| \Big)

        :math:`M` counts the hyperplanes, at all pixels, at which one possible label overtakes another somewhere in the
        box: they cut it into no more cells than that. :math:`C_p` are the labels that pixel :math:`p` may have. Compare
        with :func:`conformask.metrics.log10_volume` of pixel-wise sets, which is exact. The bound is that of exact
        coefficients: where classes tie but for rounding, floats may make more.

        Returns
        -------
        float
            At least 0.
        """
        n_pixels, n_hyperplanes = _core.consign_open(
            *self._decomposition.flat(), np.asarray(self.lower), np.asarray(self.upper)
        )
        n_moving = int((self.lower < self.upper).sum())
        n_cells = sum(math.comb(n_hyperplanes, i) for i in range(n_moving + 1))
        return min(math.log10(n_cells), log10_of_product(n_pixels))

    def segmentation(self, coefficients: ArrayLike) -> NDArray[np.intp]:
        """The segmentation of given coefficients.

        Parameters
        ----------
        coefficients : array (k,)
            Coefficients, in the box or not.

        Returns
        -------
        int array (H, W) or (D, H, W)
            Labels.

        Raises
        ------
        ValueError
            If there are not k of them.
        """
        c = np.asarray(coefficients, np.float64)
        if c.shape != (len(self.components),):
            raise ValueError(f"coefficients must have shape ({len(self.components)},), got {c.shape}")
        scores = self.mean.copy()
        for weight, component in zip(c, self.components, strict=True):
            scores += weight * component
        labels: NDArray[np.intp] = scores.argmax(axis=0)
        return labels

    def contains(self, y: ArrayLike) -> Membership:
        """Whether a segmentation is in the set.

        Parameters
        ----------
        y : integer array (H, W) or (D, H, W)
            Labels; void pixels do not count.

        Returns
        -------
        Membership
            The certified search is that of calibration: an image is contained if its own lambda, found in this way, is
            at most lambda-hat. That is what the guarantee speaks of. Of a calibrator with the reference search it
            speaks of what is contained or not certain.

        Raises
        ------
        TypeError, ValueError
            If `y` does not fit, or has no labelled pixel.
        """
        labels = labels_of(label_array(y), self.mean.shape, self._settings.ignore_index, "", of="the set")
        search = self._settings.search()
        if not search.add(*self._decomposition.asked(), labels):
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
        n_classes, *shape = self.mean.shape
        return (
            f"ConsignSet(K={n_classes}, shape={tuple(shape)}, components={len(self.components)}, "
            f"lambda_hat={self.lambda_hat:.6g})"
        )


@dataclass(frozen=True, eq=False)
class _Solution:
    """What calibration found; without `lambda_hat`, why it found none."""

    lambda_hat: float | None
    lambdas: NDArray[np.float64]
    lower_bounds: NDArray[np.float64]
    statuses: NDArray[np.str_]
    n_skipped: int
    kind: _Kind
    asked: dict[str, Any]  # the parameters that it answers
    failure: dict[str, Any] | None = None

    def error(self) -> InfeasibleRiskError:
        """A new one each time: an exception that is kept keeps what it passed through."""
        assert self.failure is not None
        return InfeasibleRiskError(**self.failure)


class _Kind(NamedTuple):
    """What all images have in common."""

    n_classes: int
    n_axes: int  # of space

    @classmethod
    def of(cls, samples: NDArray[Any]) -> _Kind:
        return cls(samples.shape[1], samples.ndim - 2)

    def check(self, samples: NDArray[Any], index: int, others: str) -> None:
        """Refuses an image of another kind."""
        if samples.ndim - 2 != self.n_axes:
            raise ValueError(
                f"X has {samples.ndim - 2} axes of space in image {index}, but {others} had {self.n_axes}: images are "
                "(S, K, H, W) or (S, K, D, H, W), one at a time"
            )
        if samples.shape[1] != self.n_classes:
            raise ValueError(
                f"X has K = {samples.shape[1]} classes in image {index}, but {others} had K = {self.n_classes}"
            )


class ConsignCalibrator(BaseEstimator):
    r"""Sets of whole segmentations that hold a new image's truth with probability at least ``1 - alpha``.

    From several samples of one model for each image (dropout, ensemble members, a probabilistic network) CONSIGN learns
    how the model's doubts hang together in space. The samples are decomposed by an SVD into their mean and a few
    components; moving their coefficients in a box, whose size grows with :math:`\lambda`, gives the segmentations that
    the set holds, up to a share ``1 - min_accuracy`` of wrong pixels:

    .. math:: C_\lambda = \Big\{ Y : \mathrm{acc}\big(\operatorname{argmax}_l (\mu + \textstyle\sum_k c_k u_k)_l,\;
        Y\big) \ge \beta, \; |c_k - m_k| \le \lambda\, \sigma_k \frac{b_k - a_k}{2} \Big\}

    where :math:`a_k, b_k` are quantiles of the samples' coefficients and :math:`m_k` is their middle. Each calibration
    image has a smallest :math:`\lambda_i` whose set holds its labels, and lambda-hat is the
    :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest of them. If calibration images and new images are
    exchangeable, the set of a new image holds its labels with probability at least ``1 - alpha``.

    The search is certified: branch and bound brackets each :math:`\lambda_i`, every upper bound is shown by
    coefficients whose argmax was counted, and where the search stops early its upper bound counts, which keeps the
    guarantee and makes the sets larger.

    Parameters
    ----------
    n_components : int in [1, 64], default=5
        Largest number of components k. With S samples at most ``S - 1`` exist. The search takes milliseconds with up to
        3, and may leave a bracket open with more.
    alpha : float in (0, 1), default=0.1
        The risk level, as the decimal that it prints as. At least ``ceil(1 / alpha) - 1`` images are needed.
    min_accuracy : float in (0, 1], default=0.9
        The accuracy :math:`\beta` that one segmentation of the set must have, as the decimal that it prints as. One
        that is below by 1e-12 or less will do, so that 5 of 6 reach ``5 / 6``.
    weight : {"sigma", "relative", "none"}, default="sigma"
        What scales the box besides lambda: the singular value :math:`\sigma_k`, its ratio to the largest, or nothing.
        With "sigma" lambda-hat depends on the size of images and on S: never use it for others.
    search : {"certified", "reference"} or ReferenceSearch, default="certified"
        How :math:`\lambda_i` is found. "reference" is the paper's grid of lambda with gradient descent from random
        points; it needs PyTorch, certifies nothing, and is there to compare with. Coverage is searched with the
        certified one all the same: what that leaves open may be covered (``coverage_bound``).
    lambda_max : float, default=1e4
        The largest lambda to search.
    quantile_level : float in [0, 0.5) or None, default=None
        The level of the quantiles :math:`a_k`, and one minus that of :math:`b_k`. None is ``alpha / 2``. It changes how
        large the sets are, not the guarantee.
    strict : bool, default=False
        Whether the accuracy must exceed `min_accuracy`, as in the paper. They differ only in ties.
    accuracy : {"label", "pixel"}, default="label"
        "label" is the mean, over the labels that an image has, of the share of their pixels that are right; "pixel" the
        share of right pixels.
    ignore_index : int or None, default=255
        The label of void pixels. They count in no accuracy; the samples there count in the SVD, as they will when
        nobody knows what is void.
    on_empty : {"skip", "raise", "zero_loss"}, default="skip"
        What becomes of images without labelled pixels. "skip" leaves them out: n gets smaller, a warning says so, and
        the guarantee speaks of images with labelled pixels. "raise" refuses them. "zero_loss" counts them with
        lambda 0.
    node_budget : int >= 1, default=20000
        About the largest number of boxes that a search looks at.
    random_state : int >= 0, numpy.random.Generator, numpy.random.RandomState or None, default=None
        The random numbers of the reference search. The certified search always gives the same result.
    progress : bool or "auto", default="auto"
        Whether to show progress bars.

    Attributes
    ----------
    lambda_hat_ : float
        The calibrated lambda.
    image_lambdas_ : float64 array (n_images_,)
        An upper bound of the smallest lambda of each image that counts, shown by coefficients; infinite if none were
        found, NaN if it is not needed.
    image_lower_bounds_ : float64 array (n_images_,)
        Lower bounds.
    image_status_ : array (n_images_,) of str
        "exact": the bounds are within ``max(1e-6, 1e-3 * image_lambdas_)``; "upper_bound": the budget was spent;
        "infeasible": surely no lambda up to `lambda_max`; "not_needed": surely larger than lambda-hat, and given up.
    n_images_ : int
        Number of images that count.
    n_skipped_ : int
        Number of images left out.
    n_classes_ : int
        K.

    Notes
    -----
    Any finite scores will do whose argmax is the prediction: probabilities or logits.

    A certified search finds smaller lambdas than sampling does. The segmentation that shows it may be a rare one among
    random samples of the set: coverage is about what the set holds, not about what a few draws from it show.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN: Conformal Segmentation Informed by Spatial Groupings via Decomposition", ICLR
    2026.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> row = np.linspace(-1, 1, 16)
    >>> edges = rng.normal(0, 0.3, (60, 7, 1, 1)) + rng.normal(0, 0.3, (60, 1, 1, 1))  # where the object begins
    >>> fields = 4 * (row - edges) * np.ones((16, 1))  # 60 images, 6 samples and the truth
    >>> X = np.stack([-fields[:, :6], fields[:, :6]], axis=2)  # (n, S, K, H, W)
    >>> y = (fields[:, 6] > 0).astype(np.uint8)
    >>> calibrator = cm.ConsignCalibrator(n_components=2).fit(X[:40], y[:40])
    >>> sets = calibrator.predict(X[40:])
    >>> sets[0].sample(5).shape
    (5, 16, 16)
    >>> calibrator.evaluate(X[40:], y[40:]).coverage >= 0.8
    True
    """

    def __init__(
        self,
        n_components: int = 5,
        *,
        alpha: float = 0.1,
        min_accuracy: float = 0.9,
        weight: str = "sigma",
        search: str | ReferenceSearch = "certified",
        lambda_max: float = 1e4,
        quantile_level: float | None = None,
        strict: bool = False,
        accuracy: str = "label",
        ignore_index: int | None = 255,
        on_empty: str = "skip",
        node_budget: int = 20_000,
        random_state: RandomState = None,
        progress: bool | str = "auto",
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.min_accuracy = min_accuracy
        self.weight = weight
        self.search = search
        self.lambda_max = lambda_max
        self.quantile_level = quantile_level
        self.strict = strict
        self.accuracy = accuracy
        self.ignore_index = ignore_index
        self.on_empty = on_empty
        self.node_budget = node_budget
        self.random_state = random_state
        self.progress = progress

    # Calibration

    def fit(self, X: Any, y: Any = None) -> Self:
        """Calibrates on images, and forgets what it knew.

        Parameters
        ----------
        X : array (n, S, K, H, W) or (n, S, K, D, H, W), float16, float32 or float64; or a list or iterable of
            (S, K, H, W), whose sizes may differ
            S samples of the model for each image. Without `y`: an iterable of ``(samples, labels)`` pairs.
        y : integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
            Labels.

        Returns
        -------
        self

        Raises
        ------
        InfeasibleRiskError
            If there are too few images, or too many that cannot be as accurate as `min_accuracy`; it names the largest
            that is feasible. ``image_lambdas_`` and ``image_status_`` say which.
        TypeError, ValueError
            If the input is not as described; the message names argument, image and value. The object stays as it was.
        """
        self._check_parameters()
        solution = self._referred(X, y) if self._reference() else self._certified(X, y)
        self._solution = solution
        if solution.n_skipped:
            of = f"{solution.n_skipped} of {solution.n_skipped + len(solution.lambdas)} images"
            warnings.warn(
                f"{of} have no labelled pixel: they are left out, n = {len(solution.lambdas)}",
                DroppedImagesWarning,
                stacklevel=2,
            )
        if solution.failure:
            raise solution.error()
        return self

    # Results

    @property
    def lambda_hat_(self) -> float:
        """The calibrated lambda."""
        solution = self._solved()
        if solution.lambda_hat is None:
            raise solution.error()
        return solution.lambda_hat

    @property
    def image_lambdas_(self) -> NDArray[np.float64]:
        """The smallest lambda of each image, from above."""
        return self._solved().lambdas

    @property
    def image_lower_bounds_(self) -> NDArray[np.float64]:
        """The smallest lambda of each image, from below."""
        return self._solved().lower_bounds

    @property
    def image_status_(self) -> NDArray[np.str_]:
        """How the search of each image ended."""
        return self._solved().statuses

    @property
    def n_images_(self) -> int:
        """Number of images that count."""
        return len(self._solved().lambdas)

    @property
    def n_skipped_(self) -> int:
        """Number of images left out because they have no labelled pixel."""
        return self._solved().n_skipped

    @property
    def n_classes_(self) -> int:
        """K."""
        return self._solved().kind.n_classes

    # Prediction

    def predict(self, X: Any) -> Any:
        """The sets of segmentations at ``lambda_hat_``.

        Parameters
        ----------
        X : array (n, S, K, H, W) or (n, S, K, D, H, W), a list of (S, K, H, W), or an iterable of them
            As for :meth:`fit`, without labels.

        Returns
        -------
        list of ConsignSet, one per image; a generator for a generator

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        TypeError, ValueError
            If X is not as described, or K is not that of calibration.
        """
        sets = self._sets(X, self.lambda_hat_, self._solved().kind, self._settings(), self._decomposer())
        return list(sets) if is_array(X) or isinstance(X, Sequence) else sets

    def evaluate(self, X: Any, y: Any = None) -> CoverageReport:
        """How often the sets hold the truth, certified by search.

        Parameters
        ----------
        X, y
            As for :meth:`fit`; images that did not calibrate.

        Returns
        -------
        CoverageReport

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As :meth:`predict`, and for labels that do not fit.
        """
        lam, settings = self.lambda_hat_, self._settings()
        search, found = settings.search(), _Found()
        places: list[int | None] = []

        def decide() -> None:
            nonlocal search
            search.warm_start(lam)
            search.refine(0, len(search), math.inf, lam)
            found.add(search, places)
            search = settings.search()
            places.clear()

        problems = self._problems(X, y, self._solved().kind)
        for problem in problems:
            places.append(_ask(search, problem))
            del problem
            if search.n_bytes_waiting() > _WAITING_BYTES:
                decide()
        decide()
        if not found.lambdas:
            raise ValueError(
                f"X holds no image with a labelled pixel: {problems.n_skipped} are void (on_empty='skip')"
            )
        contained = np.array(found.lambdas) <= lam
        certified = contained | (np.array(found.lower_bounds) > lam)
        return CoverageReport(
            coverage=float(contained.mean()),
            coverage_bound=float((contained | ~certified).mean()),
            n_images=len(contained),
            n_skipped=problems.n_skipped,
            alpha=float(self.alpha),
            lambda_hat=lam,
            contained=contained,
            certified=certified,
        )

    def score(self, X: Any, y: Any = None) -> float:
        """The share of images whose truth is in the set.

        Parameters
        ----------
        X, y
            As for :meth:`evaluate`.

        Returns
        -------
        float in [0, 1]
        """
        return self.evaluate(X, y).coverage

    # Files

    def save(self, path: str | Path) -> None:
        """Writes configuration and results to a JSON file.

        Parameters
        ----------
        path : path
            The file.

        Raises
        ------
        sklearn.exceptions.NotFittedError, InfeasibleRiskError
            If there is no lambda-hat.
        TypeError
            If `random_state` is a generator.
        """
        lambda_hat, solution = self.lambda_hat_, self._solved()
        if not isinstance(self.random_state, int | np.integer | None):
            raise TypeError(f"random_state can be saved as an int or None, got {self.random_state!r}")
        parameters = {
            **self.get_params(deep=False),
            **{name: as_plain(getattr(self, name), name) for name in ("alpha", "min_accuracy", "lambda_max")},
            "n_components": int(self.n_components),
            "node_budget": int(self.node_budget),
            "strict": bool(self.strict),
            "progress": self.progress if self.progress == "auto" else bool(self.progress),
            "ignore_index": check_ignore_index(self.ignore_index),
            "random_state": None if self.random_state is None else int(self.random_state),
            "search": asdict(self.search) if isinstance(self.search, ReferenceSearch) else self.search,
        }
        if self.quantile_level is not None:
            parameters["quantile_level"] = as_plain(self.quantile_level, "quantile_level")
        text = document_text(
            _NAME,
            _FORMAT_VERSION,
            parameters=parameters,
            results={
                "lambda_hat": lambda_hat,
                "image_lambdas": [finite_or_text(value) for value in solution.lambdas],
                "image_lower_bounds": [finite_or_text(value) for value in solution.lower_bounds],
                "image_status": solution.statuses.tolist(),
                "n_skipped": solution.n_skipped,
                "n_classes": solution.kind.n_classes,
                "n_axes": solution.kind.n_axes,
            },
        )
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> ConsignCalibrator:
        """Reads what :meth:`save` wrote. Nothing in the file is executed.

        Parameters
        ----------
        path : path
            The JSON file.

        Returns
        -------
        ConsignCalibrator

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, foreign, or of a newer version.
        """
        content = Path(path).read_bytes()
        with reading(path):
            document = read_document(content, _NAME, _FORMAT_VERSION)
            parameters = {name: number_from_json(value) for name, value in document["parameters"].items()}
            if isinstance(parameters["search"], dict):
                parameters["search"] = ReferenceSearch(**parameters["search"])
            calibrator = cls(**parameters)
            calibrator._check_parameters()
            calibrator._solution = calibrator._solution_from_json(document["results"])
        return calibrator

    def _solution_from_json(self, results: dict[str, Any]) -> _Solution:
        """Results of a file; refuses what no calibration gives."""
        lambdas, lower_bounds = (
            np.array([float(value) for value in results[name]])
            for name in ("image_lambdas", "image_lower_bounds")
        )
        statuses, n = np.array(results["image_status"], dtype=np.str_), len(lambdas)
        if not len(lower_bounds) == len(statuses) == n or not set(statuses) <= set(_STATUSES):
            raise ValueError("the results of the images do not fit each other")
        if (lambdas < 0).any() or not (lower_bounds >= 0).all() or (lambdas < lower_bounds).any():
            raise ValueError("image_lambdas and image_lower_bounds do not fit each other")
        ranges = {"n_skipped": (0, math.inf), "n_classes": (2, math.inf), "n_axes": (2, 3)}
        for name, (least, largest) in ranges.items():
            if type(results[name]) is not int or not least <= results[name] <= largest:
                raise ValueError(f"{name} is {results[name]!r}")
        lambda_hat = float(results["lambda_hat"])
        if lambda_hat != self._order_statistic(lambdas) or not math.isfinite(lambda_hat):
            raise ValueError(f"lambda_hat is {results['lambda_hat']!r}, not that of the images")
        kind = _Kind(results["n_classes"], results["n_axes"])
        return _Solution(
            lambda_hat, lambdas, lower_bounds, statuses, results["n_skipped"], kind, self._asked()
        )

    # Inside

    def _check_parameters(self) -> None:
        check_alpha(self.alpha)
        for name, largest in {"n_components": _MAX_COMPONENTS, "node_budget": 2**40}.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"{name} must be an int, got {value!r}")
            if not 1 <= value <= largest:
                raise ValueError(f"{name} must be in [1, {largest}], got {value}")
        beta = check_share(self.min_accuracy, "min_accuracy")
        allowed = {
            "weight": ("sigma", "relative", "none"),
            "strict": (True, False),
            "accuracy": ("label", "pixel"),
            "on_empty": ("skip", "raise", "zero_loss"),
            "progress": (True, False, "auto"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {list(values)}, got {getattr(self, name)!r}")
        if beta == 1 and self.strict:
            raise ValueError("no accuracy exceeds min_accuracy=1: say strict=False, or take less")
        if not as_plain(self.lambda_max, "lambda_max") > 0 or float(self.lambda_max) == 0:
            raise ValueError(f"lambda_max must be above 0, got {self.lambda_max!r}")
        if not 0 <= self._level() < 0.5:
            raise ValueError(f"quantile_level must be in [0, 0.5), got {self.quantile_level!r}")
        if not isinstance(self.search, ReferenceSearch) and self.search not in ("certified", "reference"):
            raise ValueError(
                f"search must be 'certified', 'reference' or a ReferenceSearch, got {self.search!r}"
            )
        check_ignore_index(self.ignore_index)
        if not isinstance(self.random_state, np.random.Generator | np.random.RandomState | None):
            check_key(self.random_state)

    def _level(self) -> Fraction:
        if self.quantile_level is None:
            return check_alpha(self.alpha) / 2
        return as_fraction(self.quantile_level, "quantile_level")

    def _settings(self) -> _Settings:
        return _Settings(
            min_accuracy=as_fraction(self.min_accuracy, "min_accuracy"),
            strict=bool(self.strict),
            pixelwise=self.accuracy == "pixel",
            lambda_max=float(self.lambda_max),
            node_budget=int(self.node_budget),
            ignore_index=check_ignore_index(self.ignore_index),
        )

    def _reference(self) -> ReferenceSearch | None:
        if isinstance(self.search, ReferenceSearch):
            return self.search
        return ReferenceSearch() if self.search == "reference" else None

    def _decomposer(self) -> _Decomposer:
        k, level, weight = int(self.n_components), float(self._level()), self.weight
        return lambda samples, index: decompose(samples, k, level, weight, index)

    def _problems(self, X: Any, y: Any, kind: _Kind | None = None) -> _Problems:
        ignore_index = check_ignore_index(self.ignore_index)
        return _Problems(images(X, y, self.progress), self._decomposer(), ignore_index, self.on_empty, kind)

    def _certified(self, X: Any, y: Any) -> _Solution:
        search, problems = self._settings().search(), self._problems(X, y)
        places: list[int | None] = []  # of each image that counts, where it is in the search
        for problem in problems:
            places.append(_ask(search, problem))
            del problem
            if search.n_bytes_waiting() > _WAITING_BYTES:
                search.warm_start()
        search.warm_start()
        zeros = [0.0] * places.count(None)
        k = _order(len(places), check_alpha(self.alpha))
        if k <= len(places):
            waves = range(0, len(search), _WAVE)
            for first in track(waves, self.progress, len(waves), f"{_WAVE} searches"):
                # No more than this can lambda-hat be, whatever the searches to come find.
                bound = np.sort([*search.brackets()[0], *zeros])[k - 1]
                search.refine(first, min(first + _WAVE, len(search)), float(bound))
        found = _Found()
        found.add(search, places)
        return self._conclude(found, problems)

    def _referred(self, X: Any, y: Any) -> _Solution:
        reference = self._reference()
        assert reference is not None
        problems = self._problems(X, y)
        asked = list(problems)
        settings = self._settings()
        k = _order(len(asked), check_alpha(self.alpha))
        found = _Found()
        found.lambdas = solve(
            asked,
            k,
            reference,
            settings.least_accuracy,
            strict=settings.strict,
            pixelwise=settings.pixelwise,
            lambda_max=settings.lambda_max,
            seed=check_key(self.random_state),
            progress=self.progress,
        )
        # Nothing is certified: there are no lower bounds, and what was not needed was not searched to the end.
        found.lower_bounds = [0.0] * len(found.lambdas)
        found.statuses = ["not_needed" if math.isnan(lam) else "upper_bound" for lam in found.lambdas]
        found.achieved = [Fraction(0)] * len(found.lambdas)
        return self._conclude(found, problems)

    def _order_statistic(self, lambdas: NDArray[np.float64]) -> float:
        k = _order(len(lambdas), check_alpha(self.alpha))
        if k > len(lambdas):
            return math.inf
        return float(np.sort(np.where(np.isnan(lambdas), math.inf, lambdas))[k - 1])

    def _conclude(self, found: _Found, problems: _Problems) -> _Solution:
        lambdas = np.array(found.lambdas, np.float64)
        lambda_hat = self._order_statistic(lambdas)
        is_found = math.isfinite(lambda_hat)
        return _Solution(
            lambda_hat if is_found else None,
            lambdas,
            np.array(found.lower_bounds, np.float64),
            np.array(found.statuses, np.str_),
            problems.n_skipped,
            problems.kind,
            self._asked(),
            None if is_found else self._infeasible(found, problems.n_skipped),
        )

    def _infeasible(self, found: _Found, n_skipped: int) -> dict[str, Any]:
        """What an InfeasibleRiskError says."""
        n, alpha = len(found.lambdas), check_alpha(self.alpha)
        n_needed, k = CRC().n_needed(alpha), _order(len(found.lambdas), alpha)
        left_out = f" ({n_skipped} images without a labelled pixel are left out)" if n_skipped else ""
        no_lambda = f"no lambda controls the risk at alpha={self.alpha} with {n} calibration images{left_out}"
        failure = {"n_images": n, "alpha": self.alpha, "n_needed": n_needed, "n_skipped": n_skipped}
        if k > n:
            reason = f"{no_lambda}: at least {n_needed} are needed. Add images, or take a larger alpha"
            return {**failure, "reason": reason}
        n_infeasible = found.statuses.count("infeasible")
        n_open = sum(math.isinf(lam) for lam in found.lambdas) - n_infeasible
        what = f"be as accurate for any lambda up to {float(self.lambda_max):g}"
        clauses = [
            *([f"{n_infeasible} images cannot {what}"] if n_infeasible else []),
            *([f"{n_open} {'more ' if n_infeasible else ''}were not shown to {what}"] if n_open else []),
        ]
        feasible = _round_down(sorted(found.achieved)[n - k], bool(self.strict))
        # A search whose budget ends may not meet again the accuracy that it met on its way to another.
        larger_budget = ", perhaps with a larger node_budget" if n_open else ""
        advice = (
            f"min_accuracy={feasible:g} is feasible at this alpha{larger_budget}"
            if feasible
            else "take a larger alpha"
        )
        all_fail = " If that is a surprise: X must be (n, S, K, H, W)." if n_infeasible == n else ""
        return {
            **failure,
            "reason": f"{no_lambda} and min_accuracy={self.min_accuracy}: {', '.join(clauses)}, and at most {n - k} "
            f"may. {advice}; more samples and components may help, or a larger lambda_max.{all_fail}",
            "n_infeasible": n_infeasible,
            "feasible_min_accuracy": feasible or None,
        }

    def _sets(
        self, X: Any, lam: float, kind: _Kind, settings: _Settings, decomposed: _Decomposer
    ) -> Generator[ConsignSet, None, None]:
        for samples, _, index in images(X, None, self.progress, with_labels=False):
            kind.check(samples, index, "calibration")
            yield ConsignSet(decomposed(samples, index), lam, settings)

    def _asked(self) -> dict[str, Any]:
        """The parameters that lambda-hat depends on."""
        return {name: value for name, value in self.get_params(deep=False).items() if name not in _FREE}

    def _solved(self) -> _Solution:
        solution: _Solution | None = self.__dict__.get("_solution")
        if solution is None:
            raise NotFittedError(f"this {type(self).__name__} has seen no images yet: call fit first")
        for name, value in self._asked().items():
            if value != solution.asked[name]:
                raise ValueError(
                    f"{name} is {value!r}, but images were calibrated with {solution.asked[name]!r}: fit again"
                )
        return solution

    def __sklearn_is_fitted__(self) -> bool:
        return self.__dict__.get("_solution") is not None


class _Problems:
    """What images ask of a search, one by one; None is one without labelled pixels that counts."""

    kind: _Kind

    def __init__(
        self,
        images: Iterable[tuple[NDArray[np.floating[Any]], NDArray[np.integer[Any]], int]],
        decomposed: _Decomposer,
        ignore_index: int | None,
        on_empty: str,
        kind: _Kind | None,
    ) -> None:
        self._images, self._decomposed = images, decomposed
        self._ignore_index, self._on_empty, self._known = ignore_index, on_empty, kind
        self.n_skipped = 0

    def __iter__(self) -> Iterator[Problem | None]:
        kind, others = self._known, "calibration" if self._known else "earlier images"
        index = None
        for samples, y, index in self._images:
            kind = kind or _Kind.of(samples)
            kind.check(samples, index, others)
            problem = self._problem(samples, y, index)
            if problem is None and self._on_empty == "raise":
                raise ValueError(f"image {index} has no labelled pixel (on_empty='raise')")
            if problem is None and self._on_empty == "skip":
                self.n_skipped += 1
                continue
            yield problem
            del problem  # it is large: before the next image is decomposed
        if kind is None or index is None:
            raise ValueError("X is empty: it holds no image")
        self.kind = kind

    def _problem(
        self, samples: NDArray[np.floating[Any]], y: NDArray[np.integer[Any]], index: int
    ) -> Problem | None:
        decomposition = self._decomposed(samples, index)
        labels = labels_of(y, decomposition.mean.shape, self._ignore_index, f" in image {index}")
        return Problem(*decomposition.asked(), labels) if (labels != VOID).any() else None


def _ask(search: _core.ConsignSearch, problem: Problem | None) -> int | None:
    """Hands an image over; where it is in the search."""
    if problem is None:
        return None
    search.add(*problem)
    return len(search) - 1


class _Found:
    """What searches found, image by image."""

    def __init__(self) -> None:
        self.lambdas: list[float] = []
        self.lower_bounds: list[float] = []
        self.statuses: list[str] = []
        self.achieved: list[Fraction] = []

    def add(self, search: _core.ConsignSearch, places: Iterable[int | None]) -> None:
        """Images of a search; None is an image without labelled pixels that counts."""
        uppers, lowers, statuses = search.brackets()
        for place in places:
            if place is None:
                self.lambdas.append(0.0)
                self.lower_bounds.append(0.0)
                self.statuses.append("exact")
                self.achieved.append(Fraction(1))
                continue
            is_needed = statuses[place] != "not_needed"
            self.lambdas.append(float(uppers[place]) if is_needed else math.nan)
            self.lower_bounds.append(float(lowers[place]))
            self.statuses.append(statuses[place])
            self.achieved.append(search.achieved(place))


def _order(n: int, alpha: Fraction) -> int:
    """Which smallest lambda of n is lambda-hat; more than n if none is."""
    return math.ceil((n + 1) * (1 - alpha))


def _round_down(accuracy: Fraction, strict: bool) -> float:
    """To four decimals; strictly below if the accuracy must be exceeded."""
    units = math.floor(accuracy * 10_000)
    return (units - (strict and accuracy * 10_000 == units)) / 10_000
