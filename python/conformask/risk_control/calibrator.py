"""Risk-controlled multi-labeled masks: the calibrator of family 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask._arrays import check_ignore_index
from conformask._calibrator import State, shown_value
from conformask._image_models import Images, Offsets
from conformask._images import NoImagesError, Volumes
from conformask._origin import Origin
from conformask._units import OnEmpty
from conformask.control import Method
from conformask.exceptions import InfeasibleRiskError
from conformask.losses import Loss, LossLike
from conformask.profiles import BinnedProfiles, Profiles, ScoreProfiles, load_profiles
from conformask.profiles.build import profiled
from conformask.risk_control._adaptive import offsets_of, refuse_images
from conformask.risk_control._prediction import Predictor
from conformask.risk_control._solution import (
    PARAMETERS,
    WITHOUT_PROFILES,
    Configuration,
    Solution,
    profiles_of,
    solution_from_json,
)
from conformask.risk_control._solve import check, is_same, solve, warn
from conformask.scores import ScoreLike, lambda_max

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ConformalRiskCalibrator"]


class ConformalRiskCalibrator(Predictor):
    r"""Multi-labeled masks whose expected loss on a new image is at most alpha.

    From softmax scores and labels of calibration images, that the model was not trained, chosen, early-stopped or
    temperature-calibrated on, :meth:`fit` finds the smallest :math:`\lambda` such that

    .. math:: \frac{\sum_{i=1}^n L_i(\lambda) + 1}{n + 1} \le \alpha

    where :math:`L_i` is the loss of image :math:`i` when every pixel's set holds the classes of score at most
    :math:`\lambda`. If calibration images and new images are exchangeable, the expected loss of a new image is then at
    most alpha, whatever the model. The unit is the image: n counts images, not pixels. Choose alpha, loss and score
    before looking at the calibration labels.

    Lambda-hat is exact (the infimum itself: no grid, no tolerance) and is found in one pass over the maps.

    Parameters
    ----------
    conformity_score : LAC, APS, RAPS, SACP, their names in lower case or a callable, default="lac"
        How strange a label is at a pixel. A callable is a score of your own: it takes an array of score maps
        (n, K, H, W) and returns the critical values of all labels, the lambda at which each enters its pixel's set, as
        an array of that shape in ``[0, lambda_max]``, where `lambda_max` is its attribute of that name, or 1. It must
        treat each image by itself: what else is in the array must not matter. Of the first array, two images are given
        to it again, each alone; other values than before are refused.
    loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function, default="miscoverage"
        What a mask misses; with :class:`~conformask.LTT` also what it holds too much
        (:class:`~conformask.PrecisionLoss`, :class:`~conformask.JaccardLoss`, :class:`~conformask.CountsLoss`). A
        function is a loss of your own: it takes the shares of labelled pixels that are covered, a float64 array in
        [0, 1], and returns losses in [0, 1] that do not rise with the coverage.
    alpha : float in (0, 1), default=0.1
        The risk level, as the decimal that it prints as. At least ``ceil(1 / alpha) - 1`` images are needed.
    method : CRC, PAC, RCPS, LTT or "crc", default="crc"
        How the risk is controlled: in expectation (:class:`~conformask.CRC`), or with a confidence given the
        calibration images (:class:`~conformask.PAC` for losses that are 0 or 1, :class:`~conformask.RCPS`, and
        :class:`~conformask.LTT` for losses that need not fall as lambda grows).
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the scores are. "probabilities" of a pixel sum to 1 within 1e-3; they are never renormalised. Of "logits"
        the kernels take the softmax as they read them, in the float that they compute with (float32, or float64 for
        float64), within 1e-6 of float64; a logit of minus infinity masks its class, whose probability is then 0, if
        another of the pixel is finite. "scores" are at least 0 and are divided by their sum.
    transform : fitted scaler such as TemperatureScaler, or None, default=None
        What makes probabilities of the scores as they are read, in place of the softmax; `inputs` must be that of the
        scaler. It must have been fitted to other images than those that calibrate. It is taken as it is now: fitting it
        again makes this calibrator stale. ``sklearn.clone`` keeps it fitted.
    adaptive : callable, object or None, default=None
        A model that gives each image a lambda of its own: a function ``f(X, images) -> (n,)``, or an object with
        ``predict(X, images=)``, trained on other images; lambdas lie between 0 and the score's largest, 1 for LAC. It
        sees scores as they are given here. Calibration corrects all of them by one number t, ``correction_``: the sets
        of image i hold what :math:`\lambda_i + t` holds, exactly the labels of critical value s with
        :math:`\mathrm{fl}(s - \lambda_i) \le t`, and those of :math:`\lambda = 0`. The guarantee is the same,
        whatever the model; how evenly images are served is the model's merit. There is no ``lambda_hat_`` then.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which count nowhere, or several such labels. It must not be a class: pixels of a class
        are left out by ``MiscoverageLoss(classes=...)`` of the others.
    profile : {"exact", "binned"}, default="exact"
        How profiles are kept. "exact" keeps the critical value of each mispredicted pixel (6 bytes; float64: 10).
        "binned" keeps a few MB however many images, for `loss` and the losses in `collect` alone; lambda-hat is then
        never too small, and by little more than 0.1 % of its distance to the largest lambda too large (see
        :class:`~conformask.BinnedProfiles`).
    collect : sequence of losses, default=()
        With ``profile="binned"``: the losses besides `loss` for which :meth:`recalibrate` shall work.
    conditional : {"class"} or None, default=None
        "class" gives each class a lambda of its own, ``lambda_hat_`` (K,): a class is in a pixel's set where its
        critical value is at most its own lambda. The loss of a class is `loss` as if only its pixels were labelled
        (with "miscoverage" the share of them that is missed), and is controlled at alpha on the images that hold it:
        the promise is about new images that hold it. `loss` must be "miscoverage",
        :class:`~conformask.BinaryLoss` or a function, and `on_empty` not "zero_loss".
    simultaneous : {False, "bonferroni", "max"}, default=False
        With ``conditional="class"``: what holds for all classes at once. False: each class's promise by itself.
        "bonferroni": each keeps alpha / K, so that the expected largest loss of the classes of an image is at most
        alpha; by methods with confidence each keeps ``delta / K``, so that with confidence ``1 - delta`` all promises
        hold. "max" controls this largest loss itself (:class:`~conformask.WorstClassLoss`) by one lambda for all, in
        expectation over all images: of a class that few images hold, these may lose more.
    on_rare : {"full", "pooled", "raise"}, default="full"
        What becomes of classes (strata) that too few calibration images hold. "full" puts the class into every set
        (makes all sets of the stratum full), so that its promise holds. "pooled" gives those that are rare one lambda,
        which is controlled for their pixels (images) together and promises nothing for each; full if these are too few,
        too. "raise" refuses, and so do losses that may rise with lambda where others take full sets. Where all are
        rare, `on_infeasible` decides between "raise" and "full". ``simultaneous="max"`` knows no rare classes.
    on_unseen : {"raise", "full"}, default="raise"
        What becomes of new images of a stratum without calibration images: they are refused, or get full sets.
    on_empty : {"skip", "raise", "zero_loss"}, default="skip"
        What becomes of images on which the loss is undefined (all void, or no pixel of the loss's classes). "skip"
        leaves them out: n gets smaller, a warning says so, and the guarantee speaks of images on which the loss is
        defined. "raise" refuses them. "zero_loss" counts them with loss 0.
    on_infeasible : {"raise", "full"}, default="raise"
        What happens with too few images: "raise" raises :class:`InfeasibleRiskError`, "full" takes the full sets
        (``lambda_max``), whose loss is 0, and warns.
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (K, D, H, W) or flat (K, H, W). "auto" goes by the
        number of axes and refuses an image (K, D, H, W) with D = K, which may be a batch of K flat images. Of arrays
        (n, ...) the number of axes tells.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over lists and generators of images.

    Attributes
    ----------
    lambda_hat_ : float, or float64 array (K,) or (S,)
        The calibrated lambda; of each class or stratum, if these have lambdas of their own.
    strata_ : list of ints or strings
        With ``fit(strata=)``: the strata in the order of `lambda_hat_`.
    rare_ : dict
        The classes (strata) that have too few calibration images, and how many they need.
    correction_ : float
        With `adaptive`, in place of it: what is added to the lambdas of images.
    risk_ : float, or float64 array (K,) or (S,)
        The empirical risk at `lambda_hat_`: the mean loss of the calibration images.
    corrected_risk_ : float, or float64 array (K,) or (S,)
        What is kept at or below alpha: the empirical risk corrected for the image to come,
        ``(n * risk_ + 1) / (n + 1)`` with n images (groups; summed weights); by PAC, RCPS and LTT ``risk_bound_``.
        Above alpha only for full sets by ``on_infeasible="full"``. By CRC it is no bound of the risk of new images,
        which is at most alpha in expectation over calibration sets.
    risk_bound_ : float
        By PAC, RCPS and LTT: the upper confidence limit of the risk at `lambda_hat_`, given the calibration images.
    confidence_ : float or None
        By PAC, RCPS and LTT ``1 - delta``: with this probability over calibration images the risk is at most alpha.
        None by CRC.
    valid_lambdas_ : float64 array (m,)
        By LTT: the lambdas of its grid that pass, in their order.
    profiles_ : ScoreProfiles or BinnedProfiles
        What was kept of the images.
    n_images_ : int
        Number of images (groups, if given) that counted.
    n_eff_ : float
        With weights the effective number of images, :math:`(\sum_i w_i)^2 / \sum_i w_i^2`; else `n_images_`.
    n_skipped_ : int
        Number of images left out.
    n_classes_ : int
        K.

    Notes
    -----
    With ``groups``, the images of a group count once, by the mean of their losses, and n is the number of groups: give
    the patient or the sequence of each image where images of one are alike.

    The guarantee is that of a random new image (with ``groups``: of a random image of a random new group), in
    expectation over calibration sets: the risk on the images to come exceeds alpha for about half of the calibration
    sets, by little if n is large. For a promise about nearly all calibration sets there is :class:`~conformask.PAC`.
    Levels, loss, score and the number of images must be fixed before the calibration labels are seen; of several losses
    or levels that :meth:`recalibrate` answers each holds by itself, not all at once. A score or loss that is a function
    must treat each image by itself.

    With ``sample_weight`` :math:`w_i \ge 0` at calibration and :math:`w` of the new image (``predict(sample_weight=)``)
    the rule is

    .. math:: \frac{\sum_i w_i L_i(\lambda) + w}{\sum_i w_i + w} \le \alpha.

    Under covariate shift, where new images come from another distribution but their labels depend on them as before, it
    keeps the expected loss of a new image at most alpha, if weights are the density ratio of new to calibration images,
    up to a factor. The ratio must be known, or found on other images: what it is wrong by, the risk may be wrong by.
    Each new image then has a lambda of its own; where :math:`w (1 - \alpha) > \alpha \sum_i w_i` no lambda keeps alpha,
    and its sets are full. Of a new image whose weight is not given it is taken to be 1: this is conservative
    for ratios that were divided by the largest that there may be (not by the largest of the calibration images, and not
    clipped, which promises nothing); with weights above 1 it must be given. For
    weights of images that are less and less like those to come, fixed beforehand (non-exchangeable conformal risk
    control), the risk exceeds alpha by at most a term that weighs how far each is from exchangeable. What must be large
    enough is the sum of the weights, not the number of images; ``n_eff_`` tells how many images of equal weight would
    vary as little.

    Classes and strata that have lambdas of their own have promises of their own, each about new images that hold the
    class, or are of the stratum. They, weights above 1 and `adaptive` exclude one another. Groups may span strata: in
    each a group counts once.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation: Post-hoc Quantification of Predictive Uncertainty",
    CVPR Workshops 2024. Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024. For weights:
    Tibshirani, Barber, Candès, Ramdas, "Conformal Prediction Under Covariate Shift", NeurIPS 2019, arXiv:1904.06019;
    Farinhas, Zerva, Ulmer, Martins, "Non-Exchangeable Conformal Risk Control", ICLR 2024. For strata: Vovk,
    "Conditional Validity of Inductive Conformal Predictors", ACML 2012, arXiv:1209.2673.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(80, 16, 16)).transpose(0, 3, 1, 2)
    >>> draw = rng.random((80, 1, 16, 16))
    >>> y = (X.cumsum(axis=1) < draw).sum(axis=1)  # labels drawn from the probabilities
    >>> y[:, :2] = 255  # void
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.1).fit(X[:40], y[:40])
    >>> calibrator.predict(X[40:]).shape
    (40, 4, 16, 16)
    >>> report = calibrator.evaluate(X[40:], y[40:])
    >>> report.empirical_risk < 0.12 and 1 < report.activation_ratio < 4
    True
    >>> stricter = calibrator.recalibrate(alpha=0.05)  # from the profiles: no maps needed
    >>> stricter.lambda_hat_ > calibrator.lambda_hat_
    True
    """

    _CONFIGURATION = Configuration
    _PARAMETERS = PARAMETERS
    # 1: the sibling without a hash, corrected_risk under another name; 2: without transform; 3: without adaptive;
    # 4: one lambda for all
    _FORMAT = ("ConformalRiskCalibrator", 5)
    _HAS_SIBLING = True
    _NOTHING_KEPT = WITHOUT_PROFILES

    def __init__(
        self,
        conformity_score: ScoreLike = "lac",
        *,
        loss: LossLike = "miscoverage",
        alpha: float = 0.1,
        method: Method | str = "crc",
        inputs: str = "probabilities",
        transform: Any = None,
        adaptive: Any = None,
        ignore_index: int | tuple[int, ...] | None = 255,
        profile: str = "exact",
        collect: Sequence[LossLike] = (),
        conditional: str | None = None,
        simultaneous: bool | str = False,
        on_rare: str = "full",
        on_unseen: str = "raise",
        on_empty: OnEmpty = "skip",
        on_infeasible: str = "raise",
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.conformity_score = conformity_score
        self.loss = loss
        self.alpha = alpha
        self.method = method
        self.inputs = inputs
        self.transform = transform
        self.adaptive = adaptive
        self.ignore_index = ignore_index
        self.profile = profile
        self.collect = collect
        self.conditional = conditional
        self.simultaneous = simultaneous
        self.on_rare = on_rare
        self.on_unseen = on_unseen
        self.on_empty = on_empty
        self.on_infeasible = on_infeasible
        self.volumes = volumes
        self.progress = progress

    # Calibration

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        images: Any = None,
        groups: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        valid: Any = None,
    ) -> Self:
        """Calibrates on images, and forgets what it knew.

        Parameters
        ----------
        X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64; or a list of (K, H, W); or an iterable
            Softmax probabilities, or what `inputs` says. Without `y`: an iterable of ``(scores, labels)`` pairs, one
            image each. A store that has a shape and slices (of h5py, zarr, xarray, nibabel, Dask) is read an image at a
            time.
        y : integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
            Labels; floats where all are whole numbers. A store is read in the same way.
        images : array, sequence or iterable of n, or None
            What the model of `adaptive` looks at besides, such as photographs.
        groups : sequence of n ints or strings, or None
            What each image belongs to: a group counts once.
        strata : sequence of n ints or strings, or None
            What kind each image is of, such as its hospital or time of day, which is known of new images, too. Each
            stratum gets a lambda of its own, whose promise is about its images alone.
        sample_weight : sequence of n floats >= 0, or None
            How much each image counts: its density ratio under covariate shift, or how relevant it is to those to come.
        valid : bool array (n, H, W) or (n, D, H, W), a sequence or an iterable of n, or None
            Where X holds data; elsewhere, in padding and nodata, it may hold anything, NaN too, and pixels are void
            whatever their label (the first `ignore_index`). Where labels are void there already, only scores, scalers
            and models of `adaptive` that look at other pixels than the labelled ones need it: they see equal
            probabilities there, as in ``predict(X, valid=)``, so that images of calibration and new ones are treated
            alike. Void pixels within stay as the model saw them.

        Returns
        -------
        self

        Raises
        ------
        InfeasibleRiskError
            If there are too few images. They are kept: ``recalibrate(alpha=...)`` works.
        TypeError, ValueError
            If the input is not as described; the message names argument, image and value. The object stays as it was.

        Warns
        -----
        DuplicateImagesWarning, DroppedImagesWarning, InfeasibleRiskWarning, SuspiciousLabelsWarning
            If an image comes twice, or is left out because the loss is undefined on it, or if there are too few images
            and ``on_infeasible="full"`` takes the full sets; if the labels hardly belong to the scores.
        """
        configuration = self._configuration()
        collect = configuration.collected()
        units = (groups, strata, sample_weight)
        profiles = self._profile(X, y, images, units, configuration, collect, configuration.grid, valid)
        return self._fit_profiles(profiles, configuration)

    def _fit_profiles(self, profiles: Profiles, configuration: Configuration | None = None) -> Self:
        configuration = configuration or self._configuration()
        try:
            solution = solve(profiles, configuration)
        except InfeasibleRiskError:
            self._update(lambda _: State(profiles, read=configuration))
            raise
        self._update(lambda _: State(profiles, solution, read=configuration))
        warn(profiles, solution)
        return self

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        images: Any = None,
        groups: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        valid: Any = None,
    ) -> Self:
        """Adds images. Lambda-hat is computed when it is asked for; no images, say of a worker, change nothing.

        Parameters
        ----------
        X, y, images, groups, strata, sample_weight, valid
            As for :meth:`fit`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As :meth:`fit`; what was collected before is kept.

        Warns
        -----
        DuplicateImagesWarning
            If an image comes twice, also if it was there before.
        """
        configuration = self._configuration()
        known = self.profiles_ if self.__sklearn_is_fitted__() else None
        # As what is kept: `profile` may have been set otherwise since.
        collect, grid = configuration.collected(), configuration.grid
        if known is not None:
            collect = list(known.losses) if isinstance(known, BinnedProfiles) else None
            grid = known._core.grid() if isinstance(known, ScoreProfiles) else None
        units = (groups, strata, sample_weight)
        try:
            added = self._profile(X, y, images, units, configuration, collect, grid, valid)
        except NoImagesError:
            return self
        self._add(added, configuration)
        return self

    def _add(
        self,
        profiles: Profiles,
        configuration: Configuration,
        check: Callable[[Profiles], object] = len,
        origin: Origin | None = None,
    ) -> None:
        """Adds images, if all of them pass a check. What was found is found again when it is asked for."""

        def add(state: State[Profiles, Solution] | None) -> State[Profiles, Solution]:
            merged = profiles
            if state is not None:
                before = profiles_of(state)
                self._check_images(state.read_with, configuration)
                merged = before.merge(profiles)
            check(merged)
            return State(merged, origin=self._origin_with(state, origin), read=configuration)

        self._update(add)

    def merge(self, other: ConformalRiskCalibrator) -> Self:
        """Adds the images of another calibrator, say of another worker.

        Parameters
        ----------
        other : ConformalRiskCalibrator
            A calibrator that has seen images, with the same score.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If `other` is something else or the same object, has seen nothing, or its score, ignore index or K differ.

        Warns
        -----
        DuplicateImagesWarning
            If images of `other` are among those here.
        """
        self._refuse_to_merge(other, ConformalRiskCalibrator)
        if self.profile != other.profile:
            raise ValueError(f"profile differs: {self.profile!r} here, {other.profile!r} there")
        if check_ignore_index(self.ignore_index) != check_ignore_index(other.ignore_index):
            raise ValueError(f"ignore_index differs: {self.ignore_index} here, {other.ignore_index} there")
        configuration, state = self._configuration(), other._fitted()
        theirs, read = profiles_of(state), state.read_with
        for name in self._stale("images", read, configuration):
            there = shown_value(getattr(read, name))
            raise ValueError(f"{name} differs: {getattr(self, name)} here, {there} there")
        # Refuses now what it would refuse later.
        self._add(theirs, configuration, lambda merged: check(merged, configuration), state.origin)
        return self

    def recalibrate(
        self, alpha: float | None = None, loss: LossLike | None = None, method: Method | str | None = None
    ) -> ConformalRiskCalibrator:
        """A new fitted calibrator with another alpha, loss or method, from the profiles: no maps needed, milliseconds.

        Parameters
        ----------
        alpha, loss, method
            The new parameters; None keeps what is.

        Returns
        -------
        ConformalRiskCalibrator

        Raises
        ------
        InfeasibleRiskError
            If there are too few images.
        ValueError
            If a parameter is out of range, or the profiles are not there because they were not saved.

        Notes
        -----
        The guarantee holds for a choice that was made before looking at the calibration labels.
        """
        changes = {"alpha": alpha, "loss": loss, "method": method}
        parameters = self.get_params(deep=False)
        parameters.update({name: value for name, value in changes.items() if value is not None})
        state = self._fitted()
        profiles = profiles_of(state)
        fresh = type(self)(**parameters)
        configuration = fresh._configuration()
        self._check_images(state.read_with, configuration)
        solution = solve(profiles, configuration)
        fresh._update(lambda _: State(profiles, solution, state.origin, configuration))
        warn(profiles, solution)
        return fresh

    # Files

    def save(self, path: str | Path, profiles: bool = False) -> None:
        """Writes configuration and results to a JSON file.

        Parameters
        ----------
        path : path
            The file.
        profiles : bool, default=False
            Whether to write the profiles too, so that :meth:`recalibrate`, :meth:`partial_fit` and
            ``predict(sample_weight=)`` work after :meth:`load`. They lie beside the file, as ``NAME.HASH.npz``; the
            file tells this name. Its last sibling goes when it is saved again.

        Notes
        -----
        Files are written beside and renamed: whatever happens meanwhile, `path` holds what it held or the new, whole.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        ValueError
            If weights above 1 need the profiles, and `profiles` is false.
        """
        if not profiles and self._current()[1].needs_weights:
            raise ValueError(
                "new images have lambdas by their weights, which are found from the profiles: save(path, profiles=True)"
            )
        self._save(path, (lambda state: profiles_of(state).save) if profiles else None)

    @classmethod
    def _solution_from_json(cls, document: dict[str, Any], configuration: Configuration) -> Solution:
        return solution_from_json(document, configuration)

    def _read_kept(self, path: Path, solution: Solution) -> Profiles:
        profiles = load_profiles(path)
        words = f"the profiles in {path.name} are not those of the calibrator"
        try:
            found = solve(profiles, solution.configuration)
        except ValueError as error:
            raise ValueError(f"{words}: {error}") from error
        if not is_same(found, solution):
            raise ValueError(f"{words}: they give another result")
        return profiles

    # Inside

    def _solve(self, kept: Profiles, configuration: Configuration) -> Solution:
        return solve(kept, configuration)

    def _warn(self, kept: Profiles, solution: Solution) -> None:
        warn(kept, solution)

    def _profile(
        self,
        X: Any,
        y: Any,
        images: Any,
        units: tuple[Any, Any, Any],
        configuration: Configuration,
        collect: Iterable[Loss] | None,
        grid: NDArray[np.float64] | None,
        valid: Any = None,
    ) -> Profiles:
        refuse_images(images, configuration.adaptive)
        pictures, offsets = Images(images, "X"), []

        def look(scores: Any, first: int) -> None:
            largest = lambda_max(configuration.conformity_score, scores.shape[1])
            offsets.append(offsets_of(configuration.adaptive, scores, pictures, first, largest))

        groups, strata, sample_weight = units
        profiles = profiled(
            X,
            y,
            configuration.conformity_score,
            inputs=configuration.given,
            ignore_index=configuration.ignore_index,
            groups=groups,
            sample_weight=sample_weight,
            grid=grid,
            collect=collect,
            volumes=configuration.volumes,
            progress=configuration.progress,
            look=None if configuration.adaptive is None else look,
            strata=strata,
            valid=valid,
        )
        profiles._warn_of_repeats()
        if offsets:
            assert isinstance(profiles, ScoreProfiles)
            pictures.check_end()
            profiles = profiles._with_offsets(Offsets(np.concatenate(offsets), configuration.adaptive))
        check(profiles, configuration)  # refuses now what it would refuse later
        return profiles

    def __sklearn_clone__(self) -> Self:
        fresh: Self = super().__sklearn_clone__()
        fresh.transform, fresh.adaptive = self.transform, self.adaptive  # fitted, as they are
        return fresh

    def _how_to_fit(self) -> str:
        return "call fit or partial_fit first"
