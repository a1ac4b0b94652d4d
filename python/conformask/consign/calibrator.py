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
    r"""Sets of whole segmentations that hold a new image's truth, or it abstains, with probability ``1 - alpha``.

    From several samples of one model for each image (dropout, ensemble members, a probabilistic network) CONSIGN learns
    how the model's doubts hang together in space. The samples are decomposed by an SVD into their mean and a few
    components; moving their coefficients in a box, whose size grows with :math:`\lambda`, gives the segmentations that
    the set holds, together with all that one of them agrees with to a label-wise accuracy (the mean recall over the
    labels present) of at least ``min_accuracy``:

    .. math:: C_\lambda = \Big\{ Y : \mathrm{acc}\big(\operatorname{argmax}_l (\mu + \textstyle\sum_k c_k u_k)_l,\;
        Y\big) \ge \beta, \; |c_k - m_k| \le \lambda\, \sigma_k \frac{b_k - a_k}{2} \Big\}

    where :math:`a_k, b_k` are quantiles of the samples' coefficients and :math:`m_k` is their middle. Each calibration
    image has a smallest :math:`\lambda_i` whose set holds its labels, and lambda-hat is the
    :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest of them. If calibration images and new images are
    exchangeable, and all parameters were fixed before looking at labels, then with probability at least ``1 - alpha``
    the set of a new image holds its labels *or the calibrator abstains* (:exc:`InfeasibleRiskError`). Given that it
    does not abstain, coverage may be lower.

    That is an average over calibration sets. ``method=PAC(delta)`` promises for the calibration set at hand: with
    probability at least ``1 - delta`` over calibration images that are independent draws from one law, the calibrator
    abstains, or at most the share alpha of new images of this law is missed by its sets, *given* these calibration
    images. A larger :math:`\lambda_i` is taken then, by the binomial law.

    The search is certified: branch and bound brackets each :math:`\lambda_i`, every upper bound is shown by
    coefficients whose argmax was counted, and where the search stops early its upper bound counts, which keeps the
    guarantee and makes the sets larger.

    Parameters
    ----------
    n_components : int in [1, 64], default=5
        Largest number of components k. With S samples at most ``S - 1`` exist. The search takes milliseconds with up to
        3, and may leave a bracket open with more.
    alpha : float in (0, 1), default=0.1
        The risk level, taken as the decimal that prints. At least ``ceil(1 / alpha) - 1`` images are needed by CRC.
    method : CRC, PAC, RCPS or "crc", default="crc"
        How the risk is controlled: :class:`~conformask.CRC` on average, :class:`~conformask.PAC` with confidence
        ``1 - delta`` over calibration images, as an image is missed or not. PAC takes no groups of several images,
        whose share that is missed may be between 0 and 1: :class:`~conformask.RCPS` does, with larger sets.
        :func:`conformask.metrics.required_images` tells how many images they need.
    min_accuracy : float in (0, 1], default=0.9
        The accuracy :math:`\beta` that one segmentation of the set must have, taken as the decimal that prints. One
        that is below by 1e-12 or less will do, so that 5 of 6 reach ``5 / 6``. Too high for a model, and it abstains;
        too low, and one segmentation is enough: :meth:`accuracy_range` tells from samples what lies between.
    weight : {"sigma", "relative", "none"}, default="sigma"
        What scales the box besides lambda: the singular value :math:`\sigma_k`, its ratio to the largest, or nothing.
        With "sigma" lambda-hat depends on the size of images and on S: never use it for others. Another S is refused.
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
    ignore_index : int, tuple of ints or None, default=255
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
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (S, K, D, H, W) or flat (S, K, H, W). "auto" goes by the
        number of axes and refuses an image (S, K, D, H, W) with D = S, which may be a batch of S flat images.
    progress : bool or "auto", default="auto"
        Whether to show progress bars.

    Attributes
    ----------
    lambda_hat_ : float
        The calibrated lambda.
    image_lambdas_ : float64 array, one of each image that counts
        An upper bound of the smallest lambda of each image, shown by coefficients; infinite if none were
        found, NaN if it is not needed.
    image_lower_bounds_ : float64 array, one of each image that counts
        Lower bounds.
    image_status_ : array of str, one of each image that counts
        "exact": the bounds are within ``max(1e-6, 1e-3 * image_lambdas_)``; "upper_bound": the budget was spent;
        "infeasible": surely no lambda up to `lambda_max`; "not_needed": surely larger than lambda-hat, and given up.
    n_images_ : int
        Number of images (groups, if given) that count.
    n_skipped_ : int
        Number of images left out.
    n_classes_ : int
        K.

    Notes
    -----
    Any finite scores will do whose argmax is the prediction: probabilities or logits.

    With ``groups``, the images of a group (patient, sequence) count once, by the share of them that are missed, and n
    is the number of groups. The promise is then about a random image of a random new group.

    With a confidence, too, abstention counts as kept: among the calibration sets on which it does not abstain, the
    share of those whose sets miss more than alpha may be above delta.

    A certified search finds smaller lambdas than sampling does. The segmentation that shows it may be a rare one among
    random samples of the set: coverage is about what the set holds, not about what a few draws from it show.

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
            If there are too few images for the method, or too many that cannot be as accurate as `min_accuracy`: it
            abstains. ``image_lambdas_`` and ``image_status_`` say which.
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
        r"""Between which `min_accuracy` makes sense, from samples alone: no labels, no search, no calibration.

        Of each image every sample (of the first 8) is once taken for the truth. How accurate is the mean of the other
        samples, and how accurate the best of all these? Below the first number of the result hardly any set is needed:
        :math:`\hat\lambda` is near 0. Above the second the calibrator may well abstain. That is so as far as the truth
        is to the samples what one of them is to the others: a model that is surer than it should be reaches less.

        Parameters
        ----------
        X : array (n, S, K, H, W) or (n, S, K, D, H, W), a list of (S, K, H, W), or an iterable of them
            Samples of images, without labels: of some that neither calibrate nor test, so that the choice of
            `min_accuracy` does not depend on those.

        Returns
        -------
        low, high : float in [0, 1]
            What all but a share `alpha` of the samples that were left out reach: by the mean of the others, and by the
            best of these and it.

        Raises
        ------
        TypeError, ValueError
            If X is not as described, an image has a single sample, or a number is NaN or infinite.

        See Also
        --------
        fit : Calibrates.

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
        """The smallest lambda of each image, from above."""
        return self._current()[1].lambdas

    @property
    def image_lower_bounds_(self) -> NDArray[np.float64]:
        """The smallest lambda of each image, from below."""
        return self._current()[1].lower_bounds

    @property
    def image_status_(self) -> NDArray[np.str_]:
        """How the search of each image ended."""
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
        """K."""
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
            If X is not as described, or K is not that of calibration.
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
        """How often the sets hold the truth, certified by search.

        Parameters
        ----------
        X, y
            As for :meth:`fit`, but other images than the calibration images.
        groups : sequence of n ints or strings, or None
            What each image belongs to. Coverage is then the mean over groups of the share of their images that are
            covered. Give it where :meth:`fit` got groups; the mean over images is another coverage.
        class_names : sequence of K strings, or None
            What to call the classes; None takes their labels.

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
