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

    :meth:`fit` takes softmax scores and labels of calibration images. The model must not have been trained, chosen,
    early-stopped or temperature-calibrated on these images. Calibration finds the smallest :math:`\lambda` such that

    .. math:: \frac{\sum_{i=1}^n L_i(\lambda) + 1}{n + 1} \le \alpha

    where :math:`L_i` is the loss of image :math:`i` when every pixel's set holds the classes of score at most
    :math:`\lambda`. If calibration images and new images are exchangeable, the expected loss of a new image is then at
    most alpha, whatever the model. The unit is the image: n counts images, not pixels. Choose alpha, loss and score
    before looking at the calibration labels.

    The result, lambda-hat, is exact (the infimum itself, without a grid or a tolerance). One pass over the maps finds
    it.

    Parameters
    ----------
    conformity_score : LAC, APS, RAPS, SACP, their names in lower case or a callable, default="lac"
        The conformity score: how strange a label is at a pixel. A callable is a score of your own. It takes an array of
        score maps (n, K, H, W) and returns the critical values of all labels, an array of that shape: the lambda at
        which each label enters the set of its pixel. Values lie in ``[0, lambda_max]``, where `lambda_max` is the
        attribute of the callable with that name, or 1. The callable must treat each image by itself. This is checked:
        two images of the first array are given to it again, each alone, and other values than before are refused.
    loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function, default="miscoverage"
        The loss of an image: how much a mask misses. With :class:`~conformask.LTT` it may also measure how much the
        mask holds in excess (:class:`~conformask.PrecisionLoss`, :class:`~conformask.JaccardLoss`,
        :class:`~conformask.CountsLoss`). A function is a loss of your own: it takes the shares of labelled pixels
        that are covered, a float64 array in [0, 1], and returns losses in [0, 1] that do not rise with the coverage.
    alpha : float in (0, 1), default=0.1
        The risk level, taken as the decimal that prints. At least ``ceil(1 / alpha) - 1`` images are needed.
    method : CRC, PAC, RCPS, LTT or "crc", default="crc"
        How the risk is controlled: in expectation (:class:`~conformask.CRC`), or with a confidence given the
        calibration images (:class:`~conformask.PAC` for losses that are 0 or 1, :class:`~conformask.RCPS`, and
        :class:`~conformask.LTT` for losses that need not fall as lambda grows).
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the numbers in X are. "probabilities" sum to 1 at each pixel within 1e-3; they are never renormalised. For
        "logits" the kernels take the softmax while they read them, in float32 (for float64 input in float64), within
        1e-6 of float64. A logit of minus infinity masks its class, whose probability is then 0, if another logit of the
        pixel is finite. "scores" are at least 0 and are divided by their sum.
    transform : fitted scaler such as TemperatureScaler, or None, default=None
        A scaler that turns the scores into probabilities, in place of the softmax; `inputs` must be that of the scaler.
        It must have been fitted to other images than the calibration images. It is used as it is when :meth:`fit` is
        called: fitting the scaler again makes this calibrator stale. ``sklearn.clone`` keeps it fitted.
    adaptive : callable, object or None, default=None
        A model that gives each image a lambda of its own: a function ``f(X, images) -> (n,)``, or an object with
        ``predict(X, images=)``, trained on other images; lambdas lie between 0 and the score's largest, 1 for LAC. The
        model gets X as it is given here. Calibration corrects all lambdas by one number t, ``correction_``: the sets of
        image i hold what :math:`\lambda_i + t` holds, exactly the labels of critical value s with
        :math:`\mathrm{fl}(s - \lambda_i) \le t`, where fl rounds to float64, and those of :math:`\lambda = 0`. The
        guarantee is the same, whatever the model; how evenly the losses spread over images depends on the model. There
        is no ``lambda_hat_`` then.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which count nowhere, or several such labels. It must not be a class. To leave out the
        pixels of a class, name the other classes: ``MiscoverageLoss(classes=...)``.
    profile : {"exact", "binned"}, default="exact"
        How profiles are kept. "exact" keeps the critical value of each mispredicted pixel (6 bytes; float64: 10).
        "binned" keeps a few MB, however many images there are, for `loss` and the losses in `collect` alone. Lambda-hat
        is then never too small; it may be too large by little more than 0.1 % of its distance to the largest lambda
        (see :class:`~conformask.BinnedProfiles`).
    collect : sequence of losses, default=()
        With ``profile="binned"``: the other losses for which :meth:`recalibrate` is to work.
    conditional : {"class"} or None, default=None
        "class" gives each class a lambda of its own, ``lambda_hat_`` (K,): a class is in a pixel's set where its
        critical value is at most its own lambda. The loss of a class is `loss` as if only its pixels were labelled
        (with "miscoverage" the share of these pixels that is missed). It is controlled at alpha on the images that hold
        the class: the guarantee is about new images that hold it. `loss` must be "miscoverage",
        :class:`~conformask.BinaryLoss` or a function, and `on_empty` must not be "zero_loss".
    simultaneous : {False, "bonferroni", "max"}, default=False
        With ``conditional="class"``: what holds for all classes at once. False: the guarantee of each class holds by
        itself. "bonferroni": each class is controlled at alpha / K, so that the expected largest loss of the classes of
        an image is at most alpha; with methods that have a confidence each class gets ``delta / K``, so that all
        guarantees hold together with confidence ``1 - delta``. "max" controls this largest loss itself
        (:class:`~conformask.WorstClassLoss`) with one lambda for all classes, in expectation over all images. If few
        images hold a class, the loss on these images may be larger.
    on_rare : {"full", "pooled", "raise"}, default="full"
        What to do with rare classes (strata): those with too few calibration images. "full" puts the class into every
        set (makes all sets of the stratum full), so that its guarantee holds. "pooled" gives the rare ones one common
        lambda, which is controlled for their pixels (images) together and guarantees nothing for each; the sets are
        full if the pooled images are too few, too. "raise" raises an error. So do "full" and "pooled" with a loss that
        may rise with lambda, where they would take full sets. If all classes (strata) are rare, `on_infeasible` decides
        between "raise" and "full". With ``simultaneous="max"`` no class is rare.
    on_unseen : {"raise", "full"}, default="raise"
        What to do with new images of a stratum without calibration images: raise an error, or give them full sets.
    on_empty : {"skip", "raise", "zero_loss"}, default="skip"
        What to do with images on which the loss is undefined (all void, or no pixel of the loss's classes). "skip"
        leaves them out with a warning: n gets smaller, and the guarantee is about images on which the loss is
        defined. "raise" raises an error. "zero_loss" counts them with loss 0.
    on_infeasible : {"raise", "full"}, default="raise"
        What to do if there are too few images. "raise" raises :class:`~conformask.InfeasibleRiskError`. "full" takes
        the full sets (``lambda_max``), whose loss is 0, and warns.
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (K, D, H, W) or flat (K, H, W). "auto" decides by the
        number of axes and refuses an image (K, D, H, W) with D = K, which may be a batch of K flat images. For arrays
        (n, ...) the number of axes always decides.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over lists and generators of images.

    Attributes
    ----------
    lambda_hat_ : float, or float64 array (K,) or (S,)
        The calibrated lambda, or one for each class or stratum, if these have lambdas of their own.
    strata_ : list of ints or strings
        With ``fit(strata=)``: the strata in the order of `lambda_hat_`.
    rare_ : dict
        The classes (strata) that have too few calibration images, and how many they need.
    correction_ : float
        With `adaptive`, in place of ``lambda_hat_``: the number that is added to the lambdas of images.
    risk_ : float, or float64 array (K,) or (S,)
        The empirical risk at `lambda_hat_`: the mean loss of the calibration images.
    corrected_risk_ : float, or float64 array (K,) or (S,)
        The number that is kept at or below alpha. With CRC it is the empirical risk corrected for the new image,
        ``(n * risk_ + 1) / (n + 1)`` with n images (groups; summed weights). With PAC, RCPS and LTT it is
        ``risk_bound_``. It is above alpha only if ``on_infeasible="full"`` made the sets full. With CRC it does not
        bound the risk of new images given this calibration set: that risk is at most alpha in expectation over
        calibration sets.
    risk_bound_ : float
        With PAC, RCPS and LTT: the upper confidence limit of the risk at `lambda_hat_`, given the calibration images.
    confidence_ : float or None
        With PAC, RCPS and LTT ``1 - delta``: with this probability over calibration images the risk is at most alpha.
        None with CRC.
    valid_lambdas_ : float64 array (m,)
        With LTT: the lambdas of its grid that pass, in the order of the grid.
    profiles_ : ScoreProfiles or BinnedProfiles
        The profiles of the calibration images: their critical values, or the bins of these.
    n_images_ : int
        Number of images (groups, if given) that counted.
    n_eff_ : float
        With weights the effective number of images, :math:`(\sum_i w_i)^2 / \sum_i w_i^2`; else `n_images_`.
    n_skipped_ : int
        Number of images that were left out because the loss is undefined on them.
    n_classes_ : int
        The number of classes K.

    See Also
    --------
    BinaryRiskCalibrator : Calibrates masks of one class.
    ConsignCalibrator : Calibrates sets of whole segmentations, from samples of a model.
    profile : Makes the profiles alone, for questions about many losses, levels and splits.

    Notes
    -----
    With ``groups``, the images of a group count once, by the mean of their losses, and n is the number of groups. Give
    the patient or the sequence of each image, if the images of one patient or sequence are alike.

    The guarantee is that of a random new image (with ``groups``: of a random image of a random new group), in
    expectation over calibration sets: the risk on the images to come exceeds alpha for about half of the calibration
    sets, by little if n is large. For a promise about nearly all calibration sets there is :class:`~conformask.PAC`.
    Levels, loss, score and the number of images must be fixed before the calibration labels are seen. If
    :meth:`recalibrate` is used for several losses or levels, each guarantee holds by itself, not all at once. A score
    or loss that is a function must treat each image by itself.

    With ``sample_weight`` :math:`w_i \ge 0` at calibration and :math:`w` of the new image (``predict(sample_weight=)``)
    the rule is

    .. math:: \frac{\sum_i w_i L_i(\lambda) + w}{\sum_i w_i + w} \le \alpha.

    Under covariate shift, new images come from another distribution, but their labels depend on them as before. The
    rule then keeps the expected loss of a new image at most alpha, if the weights are the density ratio of new to
    calibration images, up to a factor. The ratio must be known, or estimated on other images: an error of the ratio may
    cause an equal error of the risk. Each new image then has a lambda of its own; where
    :math:`w (1 - \alpha) > \alpha \sum_i w_i` no lambda keeps alpha, and the sets of the image are full. A weight that
    is not given is taken to be 1. This is conservative for ratios that were divided by the largest possible ratio. It
    guarantees nothing for ratios that were divided by the largest one of the calibration images, or that were clipped.
    With weights above 1 the weight of each new image must be given. Weights may also be fixed beforehand, for images
    that are less and less like the new ones (non-exchangeable conformal risk control): the risk then exceeds alpha by
    at most a weighted sum of how far each image is from exchangeable. The sum of the weights must be large enough, not
    the number of images; ``n_eff_`` is the number of images of equal weight that would vary as little.

    Classes and strata that have lambdas of their own have guarantees of their own, each about new images that hold the
    class, or belong to the stratum. Lambdas by class or stratum, weights above 1, and `adaptive` exclude one another. A
    group may span several strata: it counts once in each.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation: Post-hoc Quantification of Predictive Uncertainty",
    CVPR Workshops 2024, arXiv:2405.05145. Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR
    2024, arXiv:2208.02814. For weights: Tibshirani, Barber, Candès, Ramdas, "Conformal Prediction Under Covariate
    Shift", NeurIPS 2019, arXiv:1904.06019; Farinhas, Zerva, Ulmer, Martins, "Non-Exchangeable Conformal Risk Control",
    ICLR 2024, arXiv:2310.01262. For strata: Vovk, "Conditional Validity of Inductive Conformal Predictors", ACML 2012,
    arXiv:1209.2673.

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
        """Calibrates on images, and forgets those of earlier calls.

        Parameters
        ----------
        X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64; or a list of (K, H, W); or an iterable
            Softmax probabilities, or what `inputs` says. Without `y`: an iterable of ``(scores, labels)`` pairs, one
            image each. A store that has a shape and slices (of h5py, zarr, xarray, nibabel, Dask) is read an image at a
            time.
        y : integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
            Labels; floats where all are whole numbers. A store is read in the same way.
        images : array, sequence or iterable of n, or None
            Further inputs of the model of `adaptive`, such as photographs.
        groups : sequence of n ints or strings, or None
            The group of each image, such as its patient: a group counts once.
        strata : sequence of n ints or strings, or None
            The stratum of each image, such as its hospital or time of day, which must be known for new images, too.
            Each stratum gets a lambda of its own, whose guarantee is about its images alone.
        sample_weight : sequence of n floats >= 0, or None
            How much each image counts: its density ratio under covariate shift, or how relevant it is for new images.
        valid : bool array (n, H, W) or (n, D, H, W), a sequence or an iterable of n, or None
            True where X holds data. Elsewhere, in padding and nodata, X may hold anything, NaN too, and pixels are void
            whatever their label (they get the first `ignore_index`). If the labels are void there already, `valid` is
            only needed with scores, scalers and models of `adaptive` that look at other pixels than the labelled ones:
            they see equal probabilities there, as in ``predict(X, valid=)``, so that calibration images and new images
            are treated alike. Void pixels where `valid` is true stay as the model saw them.

        Returns
        -------
        self

        Raises
        ------
        InfeasibleRiskError
            If there are too few images. They are kept: ``recalibrate(alpha=...)`` works.
        TypeError, ValueError
            If the input is not as described; the message names argument, image and value. The calibrator is then
            unchanged.

        Warns
        -----
        DuplicateImagesWarning, DroppedImagesWarning, InfeasibleRiskWarning, SuspiciousLabelsWarning
            If an image comes twice; if one is left out because the loss is undefined on it; if there are too few images
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
        """Adds images. Lambda-hat is computed when it is needed. An empty batch, say of a worker, changes nothing.

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
            As for :meth:`fit`; what was collected before is kept.

        Warns
        -----
        DuplicateImagesWarning
            If an image comes twice, or was given in an earlier call.
        """
        configuration = self._configuration()
        known = self.profiles_ if self.__sklearn_is_fitted__() else None
        # The kind of profiles that are kept: `profile` may have been changed since.
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
        """Adds images, if all of them pass a check. Results are computed again when they are asked for."""

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
        """Adds the images of another calibrator, for example of another worker.

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
            If `other` is no ConformalRiskCalibrator, or the same object; if it has seen no images; or if its score,
            ignore index or K differs.

        Warns
        -----
        DuplicateImagesWarning
            If `other` has images that this calibrator has seen, too.
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
        # Refuse now what would be refused later.
        self._add(theirs, configuration, lambda merged: check(merged, configuration), state.origin)
        return self

    def recalibrate(
        self, alpha: float | None = None, loss: LossLike | None = None, method: Method | str | None = None
    ) -> ConformalRiskCalibrator:
        """A new fitted calibrator with another alpha, loss or method, from the profiles, in milliseconds.

        Parameters
        ----------
        alpha, loss, method
            The new parameters; None keeps the present one.

        Returns
        -------
        ConformalRiskCalibrator

        Raises
        ------
        InfeasibleRiskError
            If there are too few images.
        ValueError
            If a parameter is out of range, or there are no profiles because they were not saved.

        Notes
        -----
        The score maps are not needed. The guarantee holds for a choice that was made before looking at the
        calibration labels.
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
            ``predict(sample_weight=)`` work after :meth:`load`. They are written to the same folder, as
            ``NAME.HASH.npz``; the JSON file holds this name. Saving again deletes the previous one.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        ValueError
            If weights above 1 need the profiles, and `profiles` is false.

        Notes
        -----
        A new file is written and then renamed: if this is interrupted, `path` holds the old content or the new one,
        but never a part.
        """
        if not profiles and self._needs_kept(self._current()[1]):
            raise ValueError(
                "new images have lambdas by their weights, which are found from the profiles: save(path, profiles=True)"
            )
        self._save(path, (lambda state: profiles_of(state).save) if profiles else None)

    @classmethod
    def _solution_from_json(cls, document: dict[str, Any], configuration: Configuration) -> Solution:
        return solution_from_json(document, configuration)

    @classmethod
    def _needs_kept(cls, solution: Solution) -> bool:
        return solution.needs_weights

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
        check(profiles, configuration)  # refuse now what would be refused later
        return profiles

    def __sklearn_clone__(self) -> Self:
        fresh: Self = super().__sklearn_clone__()
        fresh.transform, fresh.adaptive = self.transform, self.adaptive  # fitted, as they are
        return fresh

    def _how_to_fit(self) -> str:
        return "call fit or partial_fit first"
