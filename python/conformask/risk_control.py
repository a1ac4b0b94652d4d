"""Risk-controlled multi-labeled masks: the calibrator of family 1."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np

from conformask import _backend
from conformask._arrays import INPUTS, Scores, check_ignore_index
from conformask._backend import Counts
from conformask._calibrator import Calibrator, Parameter, one_of
from conformask._documents import (
    check_sibling,
    document_text,
    finite_or_text,
    locked,
    read_document,
    reading,
    save_document,
)
from conformask._exact import as_plain, check_alpha, number_from_json
from conformask._images import SCORES, Volumes, map_images, walk
from conformask._units import OnEmpty, Units, check_groups, counted_images, group_mean
from conformask.control import Method, as_method, method_from_document, method_to_document
from conformask.exceptions import DroppedImagesWarning, InfeasibleRiskError, InfeasibleRiskWarning
from conformask.losses import Loss, LossLike, as_loss, loss_from_json, loss_to_json, loss_values
from conformask.metrics import covered_share, per_pixel
from conformask.profiles import BinnedProfiles, Profiles, ScoreProfiles, profile
from conformask.profiles.base import read_archive
from conformask.profiles.binned import check_collect
from conformask.report import RiskReport
from conformask.scores import (
    ConformityScore,
    ScoreLike,
    as_score,
    lambda_max,
    score_from_json,
    score_to_json,
)

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ConformalRiskCalibrator"]

_NAME = "ConformalRiskCalibrator"
_FORMAT_VERSION = 2  # 1: the sibling without a hash, corrected_risk under the name risk_bound
_RESULTS = ("lambda_hat", "risk", "corrected_risk", "n_images", "n_skipped", "n_classes")


@dataclass(frozen=True)
class _Configuration:
    """The parameters, resolved."""

    conformity_score: ConformityScore
    loss: Loss
    alpha: Fraction
    method: Method
    inputs: str
    ignore_index: int | None
    profile: str
    collect: tuple[Loss, ...]
    on_empty: OnEmpty
    on_infeasible: str
    volumes: Volumes
    progress: bool | str

    def __post_init__(self) -> None:
        self.method.check_loss(self.loss)
        if self.profile == "binned":
            check_collect([self.loss, *self.collect])

    def units(self, profiles: Profiles) -> Units:
        """Who counts."""
        return profiles._units(self.loss, self.on_empty)

    def budget(self, profiles: Profiles) -> Fraction:
        """What the losses may sum to."""
        return self.method.budget(self.units(profiles), self.alpha)

    def collected(self) -> list[Loss] | None:
        """The losses that bins collect; None where profiles are exact."""
        return [self.loss, *self.collect] if self.profile == "binned" else None


@dataclass(frozen=True)
class _Solution:
    """What calibration found."""

    lambda_hat: float
    risk: float
    corrected_risk: float
    n_images: int
    n_skipped: int
    n_classes: int
    configuration: _Configuration  # it was found for


@dataclass(frozen=True)
class _State:
    """What a calibrator knows: the profiles, unless they were not saved, and what was found for them."""

    profiles: Profiles | None
    solution: _Solution | None = None


class ConformalRiskCalibrator(Calibrator[_Configuration, _State]):
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
        treat each image by itself: what else is in the array must not matter.
    loss : MiscoverageLoss or another loss, "miscoverage", "binary" or a function, default="miscoverage"
        What a mask misses. A function is a loss of your own: it takes the shares of labelled pixels that are covered, a
        float64 array in [0, 1], and returns losses in [0, 1] that do not rise with the coverage.
    alpha : float in (0, 1), default=0.1
        The risk level, as the decimal that it prints as. At least ``ceil(1 / alpha) - 1`` images are needed.
    method : CRC, PAC, RCPS or "crc", default="crc"
        How the risk is controlled: in expectation (:class:`~conformask.CRC`), or with a confidence given the
        calibration images (:class:`~conformask.PAC` for losses that are 0 or 1, :class:`~conformask.RCPS`).
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the scores are. "probabilities" of a pixel sum to 1 within 1e-3; they are never renormalised. Of "logits"
        the kernels take the softmax as they read them, in the float that they compute with (float32, or float64 for
        float64), within 1e-6 of float64. "scores" are at least 0 and are divided by their sum.
    ignore_index : int or None, default=255
        The label of void pixels, which count nowhere. It must not be a class.
    profile : {"exact", "binned"}, default="exact"
        How profiles are kept. "exact" keeps the critical value of each mispredicted pixel (6 bytes; float64: 10).
        "binned" keeps a few MB however many images, for `loss` and the losses in `collect` alone; lambda-hat is then
        never too small, and by little more than 0.1 % of its distance to the largest lambda too large (see
        :class:`~conformask.BinnedProfiles`).
    collect : sequence of losses, default=()
        With ``profile="binned"``: the losses besides `loss` for which :meth:`recalibrate` shall work.
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
    lambda_hat_ : float
        The calibrated lambda.
    risk_ : float
        The empirical risk at `lambda_hat_`: the mean loss of the calibration images.
    corrected_risk_ : float
        What is kept at or below alpha: the empirical risk corrected for the image to come,
        ``(n * risk_ + 1) / (n + 1)`` with n images (groups; summed weights); by PAC and RCPS an upper confidence limit
        of the risk. Above alpha only for full sets by ``on_infeasible="full"``. By CRC it is no bound of the risk of
        new images, which is at most alpha in expectation over calibration sets.
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

    With ``sample_weight`` :math:`w_i \in [0, 1]`, fixed beforehand, the rule is
    :math:`(\sum_i w_i L_i + 1) / (\sum_i w_i + 1) \le \alpha`: the new image has weight 1, the largest. Under covariate
    shift with the density ratio :math:`w` of new to calibration images it is valid, and conservative, for the weights
    :math:`w(x_i) / \sup w`; not for ratios that were clipped. For images that are less and less like those to come
    (non-exchangeable conformal risk control) the risk exceeds alpha by at most a term that weighs how far each is from
    exchangeable. What must be large enough is the sum of the weights, not the number of images; ``n_eff_`` tells how
    many images of equal weight would vary as little.

    References
    ----------
    Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation: Post-hoc Quantification of Predictive Uncertainty",
    CVPR Workshops 2024. Angelopoulos, Bates, Fisch, Lei, Schuster, "Conformal Risk Control", ICLR 2024. For weights:
    Farinhas, Zerva, Ulmer, Martins, "Non-Exchangeable Conformal Risk Control", ICLR 2024.

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

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar = {
        "conformity_score": Parameter(as_score, stale="images"),
        "loss": Parameter(as_loss, stale="result"),
        "alpha": Parameter(check_alpha, stale="result"),
        "method": Parameter(as_method, stale="result"),
        "inputs": one_of("inputs", *INPUTS),
        "ignore_index": Parameter(check_ignore_index),
        "profile": one_of("profile", "exact", "binned"),
        "collect": Parameter(check_collect),
        "on_empty": one_of("on_empty", "skip", "raise", "zero_loss", stale="result"),
        "on_infeasible": one_of("on_infeasible", "raise", "full", stale="result"),
        "volumes": one_of("volumes", True, False, "auto"),
        "progress": one_of("progress", True, False, "auto"),
    }

    def __init__(
        self,
        conformity_score: ScoreLike = "lac",
        *,
        loss: LossLike = "miscoverage",
        alpha: float = 0.1,
        method: Method | str = "crc",
        inputs: str = "probabilities",
        ignore_index: int | None = 255,
        profile: str = "exact",
        collect: Sequence[LossLike] = (),
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
        self.ignore_index = ignore_index
        self.profile = profile
        self.collect = collect
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
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Calibrates on images, and forgets what it knew.

        Parameters
        ----------
        X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64; or a list of (K, H, W); or an iterable
            Softmax probabilities, or what `inputs` says. Without `y`: an iterable of ``(scores, labels)`` pairs, one
            image each.
        y : integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
            Labels.
        groups : sequence of n ints or strings, or None
            What each image belongs to: a group counts once.
        sample_weight : sequence of n floats in [0, 1], or None
            How relevant each image is to those to come.

        Returns
        -------
        self

        Raises
        ------
        InfeasibleRiskError
            If there are too few images. They are kept: ``recalibrate(alpha=...)`` works.
        TypeError, ValueError
            If the input is not as described; the message names argument, image and value. The object stays as it was.
        """
        configuration = self._configuration()
        return self._fit_profiles(self._profile(X, y, groups, sample_weight, configuration), configuration)

    def _fit_profiles(self, profiles: Profiles, configuration: _Configuration | None = None) -> Self:
        configuration = configuration or self._configuration()
        try:
            solution = _solve(profiles, configuration)
        except InfeasibleRiskError:
            self._update(lambda _: _State(profiles))
            raise
        self._update(lambda _: _State(profiles, solution))
        _warn(profiles, solution)
        return self

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Adds images. Lambda-hat is computed when it is asked for.

        Parameters
        ----------
        X, y, groups, sample_weight
            As for :meth:`fit`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As :meth:`fit`; what was collected before is kept.
        """
        configuration = self._configuration()
        known = self.profiles_ if self.__sklearn_is_fitted__() else None
        collect = known.losses if isinstance(known, BinnedProfiles) else None
        added = self._profile(X, y, groups, sample_weight, configuration, collect)
        self._add(added)
        return self

    def _add(self, profiles: Profiles) -> None:
        """Adds images. What was found is found again when it is asked for."""

        def add(state: _State | None) -> _State:
            return _State(profiles if state is None else _profiles_of(state).merge(profiles))

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
            If `other` is something else, has seen nothing, or its score, ignore index or K differ.
        """
        if not isinstance(other, ConformalRiskCalibrator):
            raise TypeError(f"other must be a ConformalRiskCalibrator, got {type(other).__name__}")
        if self.profile != other.profile:
            raise ValueError(f"profile differs: {self.profile!r} here, {other.profile!r} there")
        if self.ignore_index != other.ignore_index:
            raise ValueError(f"ignore_index differs: {self.ignore_index} here, {other.ignore_index} there")
        configuration, theirs = self._configuration(), other.profiles_
        if configuration.conformity_score != as_score(other.conformity_score):
            raise ValueError(
                f"conformity_score differs: {self.conformity_score} here, {other.conformity_score} there"
            )
        # Refuses now what it would refuse later.
        merged = type(theirs)._joined([self.profiles_, theirs]) if self.__sklearn_is_fitted__() else theirs
        configuration.budget(merged)
        self._add(theirs)
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
        profiles = self.profiles_
        fresh = type(self)(**parameters)
        configuration = fresh._configuration()
        solution = _solve(profiles, configuration)
        fresh._update(lambda _: _State(profiles, solution))
        _warn(profiles, solution)
        return fresh

    # Results

    @property
    def lambda_hat_(self) -> float:
        """The calibrated lambda."""
        return self._solved().lambda_hat

    @property
    def risk_(self) -> float:
        """The empirical risk at ``lambda_hat_``."""
        return self._solved().risk

    @property
    def corrected_risk_(self) -> float:
        """``(n * risk_ + 1) / (n + 1)``, or by PAC and RCPS an upper confidence limit; at most alpha."""
        return self._solved().corrected_risk

    @property
    def risk_bound_(self) -> float:
        """The old name of :attr:`corrected_risk_`, which bounds no risk. It goes with the next release."""
        warnings.warn("risk_bound_ is called corrected_risk_ now", FutureWarning, stacklevel=2)
        return self.corrected_risk_

    @property
    def n_images_(self) -> int:
        """Number of images (or groups) that count."""
        units = self._units()
        return self._solved().n_images if units is None else units.n

    @property
    def n_skipped_(self) -> int:
        """Number of images left out because the loss is undefined on them."""
        units = self._units()
        return self._solved().n_skipped if units is None else units.n_skipped

    @property
    def n_eff_(self) -> float:
        r"""The effective number of images, :math:`(\sum_i w_i)^2 / \sum_i w_i^2`; without weights that of images."""
        units = self._units()
        if units is None:
            raise ValueError(_WITHOUT_PROFILES)
        return units.n_eff

    @property
    def n_classes_(self) -> int:
        """K."""
        state = self._fitted()
        return self._solved().n_classes if state.profiles is None else state.profiles.n_classes

    @property
    def profiles_(self) -> Profiles:
        """What was kept of the images."""
        return _profiles_of(self._fitted())

    def risk_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The empirical risk on the calibration images as a function of lambda.

        Returns
        -------
        lambdas : float64 array (m,)
            Ascending, from 0 to ``lambda_max``; ``lambda_hat_`` is among them, and about 1000 of the jumps.
        risks : float64 array (m,)
            The risk at each lambda, exactly (binned profiles: from above).
        """
        configuration, solution = self._current()
        return self.profiles_.risk_curve(
            configuration.loss, at=solution.lambda_hat, on_empty=configuration.on_empty
        )

    def risk_limit(self, alpha: float | None = None) -> float:
        r"""The largest empirical risk at which alpha is kept: by CRC :math:`\alpha - (1 - \alpha) / n`.

        Parameters
        ----------
        alpha : float in (0, 1) or None, default=None
            The risk level; None is that of the calibrator.

        Returns
        -------
        float
            n counts images (groups); with weights it is their sum. Negative if n is too small, minus infinity if it is
            0.

        Raises
        ------
        ValueError
            If the profiles are not there because they were not saved.
        """
        level = check_alpha(self.alpha if alpha is None else alpha)
        units = self._units()
        if units is None:
            raise ValueError(_WITHOUT_PROFILES)
        method = self._configuration().method
        return float(method.budget(units, level) / units.total) if units.total else -math.inf

    # Prediction

    def predict(self, X: Any) -> Any:
        """Multi-labeled masks at ``lambda_hat_``.

        Parameters
        ----------
        X : array (n, K, H, W) or (n, K, D, H, W), a list of (K, H, W), or an iterable of them
            As for :meth:`fit`, without labels.

        Returns
        -------
        bool array like X; a list for a list, a generator for a generator
            Whether the class is in the pixel's set.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        TypeError, ValueError
            If X is not as described, or K is not that of calibration.
        """
        configuration, solution = self._current()

        def masks(scores: Any, first: int) -> NDArray[np.bool_]:
            checked = _checked(scores, solution)
            return _backend.masks(
                checked, solution.lambda_hat, configuration.conformity_score, configuration.inputs, first
            )

        return map_images(X, masks, configuration.progress, configuration.volumes)

    def set_size(self, X: Any) -> Any:
        """Number of classes in each pixel's set, without building the masks.

        Parameters
        ----------
        X
            As for :meth:`predict`.

        Returns
        -------
        uint16 array (n, H, W) or (n, D, H, W); a list for a list, a generator for a generator

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As :meth:`predict`.
        """
        configuration, solution = self._current()

        def sizes(scores: Any, first: int) -> NDArray[np.uint16]:
            return _sizes(scores, configuration, solution, first)

        return map_images(X, sizes, configuration.progress, configuration.volumes)

    def varisco(self, X: Any, normalize: str = "classes") -> Any:
        r"""Heatmap of uncertainty: set size over the number of classes.

        Parameters
        ----------
        X
            As for :meth:`predict`.
        normalize : {"classes", "max"}, default="classes"
            Divide by K, or by the largest set of the image.

        Returns
        -------
        float32 array (n, H, W) or (n, D, H, W) in [0, 1]; a list for a list, a generator for a generator

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As :meth:`predict`.

        References
        ----------
        Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, section 4.3.
        """
        if normalize not in ("classes", "max"):
            raise ValueError(f"normalize must be 'classes' or 'max', got {normalize!r}")

        configuration, solution = self._current()

        def heatmaps(scores: Scores, first: int) -> NDArray[np.float32]:
            sizes = _sizes(scores, configuration, solution, first)
            largest: Any = np.float32(scores.shape[1])
            if normalize == "max":
                largest = sizes.max(axis=tuple(range(1, sizes.ndim)), keepdims=True).clip(min=1)
            heatmap: NDArray[np.float32] = np.divide(sizes, largest, dtype=np.float32)
            return heatmap

        return map_images(X, heatmaps, configuration.progress, configuration.volumes)

    def evaluate(self, X: Any, y: Any = None, *, groups: ArrayLike | None = None) -> RiskReport:
        """Risk, activation ratio and coverage on labelled images.

        Parameters
        ----------
        X, y
            As for :meth:`fit`; images that did not calibrate.
        groups : sequence of n ints or strings, or None
            What each image belongs to. The images of a group then count once, as in calibration: the risk is the mean
            over groups of the mean loss of their images. Give it where :meth:`fit` got groups; the mean over images is
            another risk, which is not controlled.

        Returns
        -------
        RiskReport

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As :meth:`predict`, and for labels that do not fit.
        """
        configuration, solution = self._current()
        batches = walk(X, y, SCORES, configuration.progress, volumes=configuration.volumes)
        counts = [
            _counts(scores, labels, configuration, solution, first) for scores, labels, first in batches
        ]
        return self._report(counts, groups)

    def score(self, X: Any, y: Any = None, *, groups: ArrayLike | None = None) -> float:
        """One minus the empirical risk.

        Parameters
        ----------
        X, y, groups
            As for :meth:`evaluate`.

        Returns
        -------
        float in [0, 1]
        """
        return 1.0 - self.evaluate(X, y, groups=groups).empirical_risk

    # Files

    def save(self, path: str | Path, profiles: bool = False) -> None:
        """Writes configuration and results to a JSON file.

        Parameters
        ----------
        path : path
            The file.
        profiles : bool, default=False
            Whether to write the profiles too, so that :meth:`recalibrate` and :meth:`partial_fit` work after
            :meth:`load`. They lie beside the file, as ``NAME.HASH.npz``; the file tells this name. Its last sibling
            goes when it is saved again.

        Notes
        -----
        Files are written beside and renamed: whatever happens meanwhile, `path` holds what it held or the new, whole.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        """
        configuration, solution = self._current()
        kept = self.profiles_ if profiles else None
        parameters = {
            **self.get_params(deep=False),
            "conformity_score": json.loads(score_to_json(configuration.conformity_score)),
            "loss": json.loads(loss_to_json(configuration.loss)),
            "collect": [json.loads(loss_to_json(loss)) for loss in configuration.collect],
            "method": method_to_document(configuration.method),
            "alpha": as_plain(self.alpha, "alpha"),
            "ignore_index": configuration.ignore_index,
        }
        results = {name: finite_or_text(getattr(solution, name)) for name in _RESULTS}

        def text(sibling: dict[str, str] | None) -> str:
            return document_text(
                _NAME, _FORMAT_VERSION, parameters=parameters, results=results, profiles=sibling
            )

        text(None)  # refuses what cannot be saved before anything is written
        save_document(Path(path), text, None if kept is None else kept.save)

    @classmethod
    def load(cls, path: str | Path) -> ConformalRiskCalibrator:
        """Reads what :meth:`save` wrote. Nothing in the file is executed.

        Parameters
        ----------
        path : path
            The JSON file.

        Returns
        -------
        ConformalRiskCalibrator

        Raises
        ------
        FileNotFoundError
            If there is no such file, or not the profiles it names.
        ValueError
            If the file is damaged, foreign, or of a newer version.
        """
        path = Path(path)
        with locked(path.parent, shared=True):
            content = path.read_bytes()
            with reading(path):
                document = read_document(content, _NAME, _FORMAT_VERSION)
                calibrator, solution = cls._from_document(document)
                name, digest = _sibling(document["profiles"])
            profiles = None if name is None else _load_sibling(path, name, digest)
        if profiles is not None:
            _check_profiles(profiles, solution, f"the profiles in {name} are not those of {path}")
        calibrator._update(lambda _: _State(profiles, solution))
        return calibrator

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> tuple[ConformalRiskCalibrator, _Solution]:
        parameters = dict(document["parameters"])
        parameters["conformity_score"] = score_from_json(json.dumps(parameters["conformity_score"]))
        parameters["loss"] = loss_from_json(json.dumps(parameters["loss"]))
        parameters["collect"] = tuple(
            loss_from_json(json.dumps(loss)) for loss in parameters.get("collect", [])
        )
        parameters["method"] = method_from_document(parameters["method"])
        parameters["alpha"] = as_plain(number_from_json(parameters["alpha"]), "alpha")
        calibrator = cls(**parameters)
        return calibrator, _solution_from_json(document, calibrator._configuration())

    # Inside

    def _profile(
        self,
        X: Any,
        y: Any,
        groups: Any,
        sample_weight: Any,
        configuration: _Configuration,
        collect: Iterable[Loss] | None = None,
    ) -> Profiles:
        profiles = profile(
            X,
            y,
            configuration.conformity_score,
            inputs=configuration.inputs,
            ignore_index=configuration.ignore_index,
            groups=groups,
            sample_weight=sample_weight,
            collect=configuration.collected() if collect is None else collect,
            volumes=configuration.volumes,
            progress=configuration.progress,
        )
        # Refuses now what it would refuse later.
        configuration.budget(profiles)
        return profiles

    def _units(self) -> Units | None:
        """Who counts; None if the profiles were not saved."""
        configuration, profiles = self._configuration(), self._fitted().profiles
        return None if profiles is None else configuration.units(profiles)

    def _solved(self) -> _Solution:
        return self._current()[1]

    def _current(self) -> tuple[_Configuration, _Solution]:
        """The parameters, and what calibration finds for them."""
        state, configuration = self._fitted(), self._configuration()
        solution = state.solution
        if solution is not None:
            self._check_images(solution.configuration, configuration)
        # Not asked before, or by set_params for something else since.
        if solution is None or self._stale("result", solution.configuration, configuration):
            profiles = _profiles_of(state)
            solution = _solve(profiles, configuration)
            self._replace(state, _State(profiles, solution))
            _warn(profiles, solution)
        return configuration, solution

    def _counts_of(self, scores: Any, labels: Any, inputs: str, first: int = 0) -> Counts:
        """Missed and labelled pixels of each class (n, K), and labels in the sets of labelled pixels (n,)."""
        configuration, solution = self._current()
        configuration = replace(configuration, inputs=inputs)
        return _counts(scores, labels, configuration, solution, first)

    def _report(self, counts: Sequence[Counts], groups: ArrayLike | None = None) -> RiskReport:
        """What the counts of images say."""
        if not counts:
            raise ValueError("X is empty: it holds no image")
        configuration, solution = self._current()
        missed, totals, sizes = (np.concatenate(parts) for parts in zip(*counts, strict=True))
        losses = loss_values(configuration.loss, missed, totals)
        losses[np.isnan(losses) & counted_images(losses, configuration.on_empty)] = 0.0
        activation_ratios, coverages = per_pixel(sizes, totals), covered_share(missed, totals)
        names = check_groups(groups, len(losses))
        return RiskReport(
            empirical_risk=group_mean(losses, names),
            activation_ratio=group_mean(activation_ratios, names),
            coverage=group_mean(coverages, names),
            n_images=int((~np.isnan(losses)).sum()),
            n_skipped=int(np.isnan(losses).sum()),
            n_groups=None if names is None else len(set(np.array(names)[~np.isnan(losses)].tolist())),
            alpha=float(configuration.alpha),
            lambda_hat=solution.lambda_hat,
            loss=str(configuration.loss),
            losses=losses,
            activation_ratios=activation_ratios,
            coverages=coverages,
        )

    def _how_to_fit(self) -> str:
        return "call fit or partial_fit first"


_WITHOUT_PROFILES = "this calibrator was loaded without profiles; save it with profiles=True to keep them"


def _profiles_of(state: _State) -> Profiles:
    if state.profiles is None:
        raise ValueError(_WITHOUT_PROFILES)
    return state.profiles


def _solve(profiles: Profiles, configuration: _Configuration) -> _Solution:
    """The smallest lambda that controls the risk."""
    score, loss, alpha = configuration.conformity_score, configuration.loss, configuration.alpha
    if profiles.conformity_score != score:
        raise ValueError(
            f"the images were profiled by {profiles.conformity_score}: fit again to change the score"
        )
    units, bound = configuration.units(profiles), float(alpha)
    try:
        lam = profiles._controlled(loss, alpha, configuration.method, units)
    except InfeasibleRiskError:
        if configuration.on_infeasible != "full":
            raise
        lam, bound = lambda_max(score, profiles.n_classes), math.inf
    risk = profiles._risk(loss, lam, units)
    corrected = configuration.method.risk_bound(0.0 if math.isnan(risk) else risk, units)
    # The exact number is at most alpha, as was decided exactly; rounding must not lift it above.
    return _Solution(
        lambda_hat=lam,
        risk=risk,
        corrected_risk=min(corrected, bound),
        n_images=units.n,
        n_skipped=units.n_skipped,
        n_classes=profiles.n_classes,
        configuration=configuration,
    )


def _warn(profiles: Profiles, solution: _Solution) -> None:
    """Says of a solution what its user must know."""
    configuration = solution.configuration
    if configuration.budget(profiles) < 0:
        error = configuration.units(profiles).infeasible(configuration.alpha, configuration.method)
        warnings.warn(f"{error}: the sets are full", InfeasibleRiskWarning, stacklevel=4)
    if solution.n_skipped:
        share = f"{solution.n_skipped} of {len(profiles)} images"
        warnings.warn(
            f"the loss is undefined on {share} (no labelled pixel that counts): they are left out, "
            f"n = {solution.n_images}",
            DroppedImagesWarning,
            stacklevel=4,
        )


def _checked(scores: Any, solution: _Solution) -> Any:
    """Maps of as many classes as at calibration."""
    if scores.ndim in (4, 5) and scores.shape[1] != solution.n_classes:
        raise ValueError(f"X has K = {scores.shape[1]} classes, but calibration had K = {solution.n_classes}")
    return scores


def _sizes(scores: Any, configuration: _Configuration, solution: _Solution, first: int) -> NDArray[np.uint16]:
    score, inputs = configuration.conformity_score, configuration.inputs
    return _backend.set_sizes(_checked(scores, solution), solution.lambda_hat, score, inputs, first)


def _counts(
    scores: Any, labels: Any, configuration: _Configuration, solution: _Solution, first: int
) -> Counts:
    """Missed and labelled pixels of each class (n, K), and labels in the sets of labelled pixels (n,)."""
    score, inputs, index = configuration.conformity_score, configuration.inputs, configuration.ignore_index
    checked = _checked(scores, solution)
    return _backend.coverage(checked, labels, solution.lambda_hat, score, inputs, index, first)


def load_profiles(path: Path | BinaryIO) -> Profiles:
    """Profiles of either kind."""

    def make(arrays: dict[str, Any]) -> Profiles:
        kind = BinnedProfiles if "kind" in arrays else ScoreProfiles
        return kind._from_arrays(arrays)

    return read_archive(path, make)


def _sibling(found: Any) -> tuple[str | None, str | None]:
    """Name and hash of the profiles that a document names; documents of version 1 have no hash."""
    name, digest = (found["file"], found["sha256"]) if isinstance(found, dict) else (found, None)
    if not (isinstance(name, str | None) and isinstance(digest, str | None)):
        raise TypeError(f"profiles is {found!r}")
    return (None if name is None else Path(name).name), digest


def _load_sibling(path: Path, name: str, digest: str | None) -> Profiles:
    sibling = path.with_name(name)
    try:
        if digest is not None:
            check_sibling(sibling, digest)
        return load_profiles(sibling)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{name}, the profiles of {path}, is not beside it; to do without them, "
            'set "profiles" to null in the JSON file'
        ) from error


def _check_profiles(profiles: Profiles, known: _Solution, words: str) -> None:
    """Refuses profiles that give another result than the one that was saved with them."""
    try:
        found = _solve(profiles, known.configuration)
    except ValueError as error:
        raise ValueError(f"{words}: {error}") from error
    if any(getattr(found, name) != getattr(known, name) for name in ("lambda_hat", "n_images", "n_classes")):
        raise ValueError(f"{words}: they give another result")


def _solution_from_json(document: dict[str, Any], configuration: _Configuration) -> _Solution:
    """Results of a file; refuses what no calibration gives."""
    results = dict(document["results"])
    if document["format_version"] == 1:
        results["corrected_risk"] = results["risk_bound"]
    for name, least in {"n_images": 0, "n_skipped": 0, "n_classes": 2}.items():
        if type(results[name]) is not int or results[name] < least:
            raise ValueError(f"{name} is {results[name]!r}")
    solution = _Solution(
        lambda_hat=float(results["lambda_hat"]),
        risk=float(results["risk"]),
        corrected_risk=float(results["corrected_risk"]),
        n_images=results["n_images"],
        n_skipped=results["n_skipped"],
        n_classes=results["n_classes"],
        configuration=configuration,
    )
    if not 0 <= solution.lambda_hat <= lambda_max(configuration.conformity_score, solution.n_classes):
        raise ValueError(f"lambda_hat is {solution.lambda_hat!r}")
    for name in ("risk", "corrected_risk"):  # NaN, the risk of no image, is not beyond either
        if getattr(solution, name) < 0 or getattr(solution, name) > 1:
            raise ValueError(f"{name} is {getattr(solution, name)!r}")
    return solution
