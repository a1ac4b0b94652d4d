"""The calibrator of CONSIGN."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._calibrator import Calibrator, State, warn_skipped
from conformask._images import Volumes, count, is_whole
from conformask._random import RandomState
from conformask._sequences import check_class_names
from conformask._units import check_groups, warn_of_groups
from conformask._warnings import warn_caller
from conformask.consign._agreement import agreements
from conformask.consign._images import Kind, Problems, images
from conformask.consign._report import coverage_report
from conformask.consign._search import certified, decided, referred
from conformask.consign._settings import PARAMETERS, Settings
from conformask.consign._solution import Solution
from conformask.consign.reference import ReferenceSearch
from conformask.consign.sets import ConsignSet
from conformask.control import Method
from conformask.report import CoverageReport

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ConsignCalibrator"]


class ConsignCalibrator(Calibrator[Settings, None, Solution]):
    r"""Sets of whole segmentations: with probability ``1 - alpha`` a set holds the truth, or the method abstains.

    CONSIGN takes several samples of one model for each image (dropout, ensemble members, a probabilistic network) and
    learns how the model's uncertainty is correlated in space. An SVD decomposes the samples into their mean and a few
    components. The coefficients of the components vary in a box, whose size grows with :math:`\lambda`. Each choice of
    coefficients gives a segmentation. The set holds all segmentations that one of these matches with a label-wise
    accuracy (the mean recall over the labels present) of at least ``min_accuracy``:

    .. math:: C_\lambda = \Big\{ Y : \mathrm{acc}\big(\operatorname{argmax}_l (\mu + \textstyle\sum_k c_k u_k)_l,\;
        Y\big) \ge \beta, \; |c_k - m_k| \le \lambda\, \sigma_k \frac{b_k - a_k}{2} \Big\}

    where :math:`a_k, b_k` are quantiles of the samples' coefficients and :math:`m_k` is their midpoint. Each
    calibration image has a smallest :math:`\lambda_i` whose set holds its labels, and lambda-hat is the
    :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest of them. If calibration images and new images are
    exchangeable, and all parameters were fixed before looking at labels, then with probability at least ``1 - alpha``
    the set of a new image holds its labels *or the calibrator abstains* (:exc:`InfeasibleRiskError`). Given that it
    does not abstain, coverage may be lower.

    This guarantee is an average over calibration sets. ``method=PAC(delta)`` gives one for the calibration set at hand:
    with probability at least ``1 - delta`` over calibration images that are independent draws from one distribution,
    the calibrator abstains, or its sets miss at most the share alpha of new images of this distribution, *given* these
    calibration images. A larger :math:`\lambda_i` is then taken, by the binomial law.

    The search is certified: branch and bound brackets each :math:`\lambda_i`, and every upper bound is proved by
    coefficients whose argmax was counted. If the search stops early, its upper bound is used: this keeps the guarantee
    and makes the sets larger.

    Parameters
    ----------
    n_components : int in [1, 64], default=5
        Largest number of components. With S samples at most ``S - 1`` exist. The search takes milliseconds with up to 3
        components; with more it may stop before a bracket is closed.
    alpha : float in (0, 1), default=0.1
        The risk level, taken as the decimal that prints. CRC needs at least ``ceil(1 / alpha) - 1`` images.
    method : CRC, PAC, RCPS or "crc", default="crc"
        How the risk is controlled: :class:`~conformask.CRC` on average, :class:`~conformask.PAC` with confidence
        ``1 - delta`` over calibration images, since an image is either missed or not. PAC takes no groups of several
        images, because the missed share of a group may be between 0 and 1. :class:`~conformask.RCPS` takes groups, with
        larger sets. :func:`conformask.metrics.required_images` tells how many images they need.
    min_accuracy : float in (0, 1], default=0.9
        The accuracy :math:`\beta` that one segmentation of the set must have, taken as the decimal that prints. An
        accuracy that is below by 1e-12 or less is enough, so that 5 of 6 reach ``5 / 6``. If it is too high for a
        model, the calibrator abstains; if it is too low, a single segmentation is enough. :meth:`accuracy_range` gives
        the useful range from samples.
    weight : {"sigma", "relative", "none"}, default="sigma"
        The factor of the box besides lambda: the singular value :math:`\sigma_k`, its ratio to the largest, or 1. With
        "sigma" lambda-hat depends on the size of images and on S: do not use it for images of other sizes. Another S is
        refused.
    search : {"certified", "reference"} or ReferenceSearch, default="certified"
        How :math:`\lambda_i` is found. "reference" is the paper's grid of lambda with gradient descent from random
        points; it needs PyTorch, certifies nothing, and serves for comparison. Evaluation always uses the certified
        search; images that it cannot decide may be covered (``coverage_bound``).
    lambda_max : float, default=1e4
        The largest lambda to search.
    quantile_level : float in [0, 0.5) or None, default=None
        The level of the quantiles :math:`a_k`, and one minus that of :math:`b_k`. None is ``alpha / 2``. It affects the
        size of the sets, not the guarantee.
    strict : bool, default=False
        Whether the accuracy must exceed `min_accuracy`, as in the paper, or may equal it. They differ only in ties.
    accuracy : {"label", "pixel"}, default="label"
        "label" is the mean share of correct pixels, over the labels that occur in an image; "pixel" is the share of all
        correct pixels.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels. They count in no accuracy. Their samples do count in the SVD, because it is not known
        in prediction which pixels are void.
    on_empty : {"skip", "raise", "zero_loss"}, default="skip"
        What to do with images without labelled pixels. "skip" leaves them out with a warning: n gets smaller, and the
        guarantee is about images with labelled pixels. "raise" raises an error. "zero_loss" counts them with lambda 0.
    node_budget : int >= 1, default=20000
        The approximate largest number of boxes in a search.
    random_state : int >= 0, numpy.random.Generator, numpy.random.RandomState or None, default=None
        The random numbers of the reference search. The certified search always gives the same result.
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (S, K, D, H, W) or flat (S, K, H, W). "auto" decides by
        the number of axes and refuses an image (S, K, D, H, W) with D = S, which may be a batch of S flat images.
    progress : bool or "auto", default="auto"
        Whether to show progress bars.

    Attributes
    ----------
    lambda_hat_ : float
        The calibrated lambda.
    image_lambdas_ : float64 array, one of each image that counts
        An upper bound of the smallest lambda of each image, proved by coefficients; infinite if none were found, NaN if
        the search was not needed.
    image_lower_bounds_ : float64 array, one of each image that counts
        A lower bound of the smallest lambda of each image.
    image_status_ : array of str, one of each image that counts
        The result of each search. "exact": the bounds are within ``max(1e-6, 1e-3 * image_lambdas_)``; "upper_bound":
        the budget was spent; "infeasible": certainly no lambda up to `lambda_max`; "not_needed": certainly larger than
        lambda-hat, so that the search was stopped.
    n_images_ : int
        Number of images (groups, if given) that count.
    n_skipped_ : int
        Number of images that were left out because they have no labelled pixel.
    n_classes_ : int
        The number of classes K.

    Notes
    -----
    X may hold any finite scores whose argmax is the prediction: probabilities or logits.

    With ``groups``, the images of a group (patient, sequence) count once, by the share of them that are missed, and n
    is the number of groups. The guarantee is then about a random image of a random new group.

    A guarantee with confidence also counts abstention as success: among the calibration sets on which the calibrator
    does not abstain, the share of those whose sets miss more than alpha may be above delta.

    A certified search finds smaller lambdas than sampling does. The segmentation that proves it may be rare among
    random samples of the set: coverage is about all segmentations in the set, not about a few draws from it.

    References
    ----------
    Viti, Karabelas, Holler, "CONSIGN: Conformal Segmentation Informed by Spatial Groupings via Decomposition", ICLR
    2026. Vovk, "Conditional Validity of Inductive Conformal Predictors", ACML 2012, arXiv:1209.2673, proposition 2b
    (PAC).

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
    >>> confident = cm.ConsignCalibrator(n_components=2, method=cm.PAC(delta=0.1)).fit(X[:40], y[:40])
    >>> confident.lambda_hat_ >= calibrator.lambda_hat_
    True
    """

    _CONFIGURATION = Settings
    _PARAMETERS = PARAMETERS
    _FORMAT = ("ConsignCalibrator", 3)  # 1: without groups; 2: without methods of control

    def __init__(
        self,
        n_components: int = 5,
        *,
        alpha: float = 0.1,
        method: Method | str = "crc",
        min_accuracy: float = 0.9,
        weight: str = "sigma",
        search: str | ReferenceSearch = "certified",
        lambda_max: float = 1e4,
        quantile_level: float | None = None,
        strict: bool = False,
        accuracy: str = "label",
        ignore_index: int | tuple[int, ...] | None = 255,
        on_empty: str = "skip",
        node_budget: int = 20_000,
        random_state: RandomState = None,
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.n_components = n_components
        self.alpha = alpha
        self.method = method
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
        self.volumes = volumes
        self.progress = progress

    # Calibration

    def fit(self, X: Any, y: Any = None, *, groups: ArrayLike | None = None) -> Self:
        """Calibrates on images, and forgets those of earlier calls.

        Parameters
        ----------
        X : array (n, S, K, H, W) or (n, S, K, D, H, W), float16, float32 or float64; or a list or iterable of
            (S, K, H, W), whose sizes may differ
            S samples of the model for each image. Without `y`: an iterable of ``(samples, labels)`` pairs.
        y : integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
            Labels.
        groups : sequence of n ints or strings, or None
            The group of each image, such as its patient: a group counts once, by the share of its images that are
            missed.

        Returns
        -------
        self

        Raises
        ------
        InfeasibleRiskError
            If there are too few images for the method, or too many that cannot reach `min_accuracy`: the calibrator
            abstains. ``image_lambdas_`` and ``image_status_`` tell which images.
        TypeError, ValueError
            If the input is not as described; the message names argument, image and value. The object is then unchanged.

        Warns
        -----
        DuplicateImagesWarning, DroppedImagesWarning, SuspiciousLabelsWarning, UserWarning
            If an image comes twice, or is left out because it has no labelled pixel; if the labels hardly belong to the
            mean of the samples; if lambda-hat is 0.
        """
        settings = self._configuration()
        problems = Problems(X, y, settings, groups=groups)
        search = settings.search
        if isinstance(search, ReferenceSearch):
            found = referred(problems, search, settings)
        else:
            found = certified(problems, settings)
        solution = Solution.of(found, problems, settings)
        self._update(lambda _: State(None, solution))
        problems.warn_of_repeats()
        problems.warn_of_labels()
        n_seen = solution.units.n_skipped + len(solution.lambdas)
        warn_skipped(solution.units.n_skipped, n_seen, solution.units, "{} have no labelled pixel")
        if solution.controlled == 0:  # which raises where there is no lambda-hat
            warn_caller(
                "lambda_hat_ is 0: on enough images a single segmentation, about that of the mean of the samples, "
                "already reaches min_accuracy. So each set is that of one coefficient vector, and its draws are all "
                "the same. For larger sets choose a higher min_accuracy and calibrate for it on new images; "
                "accuracy_range tells from samples alone which ones matter",
                UserWarning,
            )
        return self

    def accuracy_range(self, X: Any) -> tuple[float, float]:
        r"""The useful range of `min_accuracy`, from samples alone, without labels, search or calibration.

        For each image every sample (of the first 8) is taken as the truth once. The accuracy of the mean of the other
        samples, and that of the best of all these, are computed. Below the first number of the result hardly any set is
        needed: :math:`\hat\lambda` is near 0. Above the second the calibrator may well abstain. This holds as far as
        the truth differs from the samples as one sample differs from the others: with an overconfident model less is
        reached.

        Parameters
        ----------
        X : array (n, S, K, H, W) or (n, S, K, D, H, W), a list of (S, K, H, W), or an iterable of them
            Samples of images, without labels. Use images that are neither for calibration nor for tests, so that the
            choice of `min_accuracy` does not depend on those.

        Returns
        -------
        low, high : float in [0, 1]
            The accuracies that all but a share `alpha` of the left-out samples reach: by the mean of the other samples,
            and by the best among these samples and their mean.

        Raises
        ------
        TypeError, ValueError
            If X is not as described, an image has a single sample, or a number is NaN or infinite.

        See Also
        --------
        fit : Calibrates at the chosen `min_accuracy`.

        Examples
        --------
        >>> import numpy as np
        >>> import conformask as cm
        >>> rng = np.random.default_rng(0)
        >>> edges = rng.normal(0, 0.3, (60, 7, 1, 1)) + rng.normal(0, 0.3, (60, 1, 1, 1))
        >>> fields = 4 * (np.linspace(-1, 1, 16) - edges) * np.ones((16, 1))
        >>> low, high = cm.ConsignCalibrator().accuracy_range(np.stack([-fields, fields], axis=2))
        >>> 0.5 < low < high < 1
        True
        """
        settings = self._configuration()
        batches = images(X, None, settings.progress, with_labels=False, volumes=settings.volumes)
        pairs = [pair for samples, _, index in batches for pair in agreements(samples, settings, index)]
        if not pairs:
            raise ValueError("X is empty: it holds no image")
        lows, highs = zip(*pairs, strict=True)
        place = math.floor(settings.alpha * len(pairs))
        return sorted(lows)[place], sorted(highs)[place]

    # Results

    @property
    def lambda_hat_(self) -> float:
        """The calibrated lambda."""
        return self._current()[1].controlled

    @property
    def image_lambdas_(self) -> NDArray[np.float64]:
        """Upper bounds of the smallest lambda of each image."""
        return self._current()[1].lambdas

    @property
    def image_lower_bounds_(self) -> NDArray[np.float64]:
        """Lower bounds of the smallest lambda of each image."""
        return self._current()[1].lower_bounds

    @property
    def image_status_(self) -> NDArray[np.str_]:
        """The result of the search of each image."""
        return self._current()[1].statuses

    @property
    def n_images_(self) -> int:
        """Number of images (or groups) that count."""
        return self._current()[1].units.n

    @property
    def n_skipped_(self) -> int:
        """Number of images left out because they have no labelled pixel."""
        return self._current()[1].units.n_skipped

    @property
    def n_classes_(self) -> int:
        """The number of classes K."""
        return self._current()[1].kind.n_classes

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
            If X is not as described, or K differs from calibration.
        """
        settings, solution = self._current()
        sets = _sets(X, solution.controlled, solution.kind, settings)
        return list(sets) if is_whole(X) or isinstance(X, Sequence) else sets

    def evaluate(
        self,
        X: Any,
        y: Any = None,
        *,
        groups: ArrayLike | None = None,
        class_names: Iterable[str] | None = None,
    ) -> CoverageReport:
        """Coverage on labelled images: how often the sets hold the truth, certified by search.

        Parameters
        ----------
        X, y
            As for :meth:`fit`, but other images than the calibration images.
        groups : sequence of n ints or strings, or None
            The group of each image. Coverage is then the mean over groups of the share of their images that are
            covered. Give groups if :meth:`fit` got groups; the mean over images is another coverage.
        class_names : sequence of K strings, or None
            The names of the classes; None takes their labels.

        Returns
        -------
        CoverageReport

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`, and for labels that do not fit.
        """
        settings, solution = self._current()
        names = check_class_names(class_names, solution.kind.n_classes)
        known = check_groups(groups, count(X))
        warn_of_groups(solution.grouped, known)
        problems = Problems(X, y, settings, solution.kind, known)
        found = decided(problems, settings, solution.controlled)
        if not found.lambdas:
            raise ValueError(
                f"X holds no image with a labelled pixel: {problems.n_skipped} are void (on_empty='skip')"
            )
        problems.warn_of_labels()
        return coverage_report(found, problems, settings, solution, names)

    def score(self, X: Any, y: Any = None, *, groups: ArrayLike | None = None) -> float:
        """The share of images whose truth is in the set.

        Parameters
        ----------
        X, y, groups
            As for :meth:`evaluate`.

        Returns
        -------
        float in [0, 1]
        """
        return self.evaluate(X, y, groups=groups).coverage

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
        self._save(path)

    @classmethod
    def _solution_from_json(cls, document: dict[str, Any], configuration: Settings) -> Solution:
        return Solution.from_json(document, configuration)


def _sets(X: Any, lam: float, kind: Kind, settings: Settings) -> Generator[ConsignSet, None, None]:
    for samples, _, index in images(X, None, settings.progress, with_labels=False, volumes=settings.volumes):
        kind.check(samples, index, "calibration")
        yield ConsignSet(settings.decompose(samples, index), lam, settings)
