"""Risk-controlled multi-labeled masks: the calibrator of family 1."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from conformask import _core, kernels
from conformask._arrays import (
    INPUTS,
    Scores,
    check_ignore_index,
    label_array,
    map_images,
    pairs,
    score_array,
)
from conformask._documents import document_text, finite_or_text, read_document, reading
from conformask._exact import as_plain, check_alpha, number_from_json
from conformask._tensors import is_tensor
from conformask.binned import BinnedProfiles, check_collect
from conformask.control import Method, as_method, method_from_document, method_to_document
from conformask.exceptions import DroppedImagesWarning, InfeasibleRiskError, InfeasibleRiskWarning
from conformask.losses import Loss, LossLike, as_loss, loss_from_json, loss_to_json, loss_values
from conformask.metrics import covered_share, exact_mean, per_pixel
from conformask.profiles import OnEmpty, Profiles, ScoreProfiles, Units, counted_images, profile, read_archive
from conformask.report import RiskReport
from conformask.scores import (
    SACP,
    CallableScore,
    ConformityScore,
    ScoreLike,
    as_score,
    lambda_max,
    score_from_json,
    score_to_json,
    scored,
)

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ConformalRiskCalibrator"]

Counts: TypeAlias = "tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]"

_NAME = "ConformalRiskCalibrator"
_FORMAT_VERSION = 1
_RESULTS = ("lambda_hat", "risk", "risk_bound", "n_images", "n_skipped", "n_classes")


@dataclass(frozen=True)
class _Solution:
    """What calibration found."""

    lambda_hat: float
    risk: float
    risk_bound: float
    n_images: int
    n_skipped: int
    n_classes: int
    of: tuple[Any, ...]  # the parameters it was found for


class ConformalRiskCalibrator(BaseEstimator):
    r"""Multi-labeled masks whose expected loss on a new image is at most alpha.

    From softmax scores and labels of calibration images, that the model was not trained on, :meth:`fit` finds the
    smallest :math:`\lambda` such that

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
        an array of that shape in ``[0, lambda_max]``, where `lambda_max` is its attribute of that name, or 1.
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
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over lists and generators of images.

    Attributes
    ----------
    lambda_hat_ : float
        The calibrated lambda.
    risk_ : float
        The empirical risk at `lambda_hat_`: the mean loss of the calibration images.
    risk_bound_ : float
        What is compared with alpha: ``(n * risk_ + 1) / (n + 1)``, with n images (groups; summed weights), or an upper
        confidence limit of the risk by PAC and RCPS. At most alpha, except for full sets by ``on_infeasible="full"``.
    profiles_ : ScoreProfiles or BinnedProfiles
        What was kept of the images.
    n_images_ : int
        Number of images (groups, if given) that counted.
    n_skipped_ : int
        Number of images left out.
    n_classes_ : int
        K.

    Notes
    -----
    With ``groups``, the images of a group count once, by the mean of their losses, and n is the number of groups: give
    the patient or the sequence of each image where images of one are alike.

    With ``sample_weight`` :math:`w_i \in [0, 1]`, fixed beforehand, the weighted rule
    :math:`(\sum_i w_i L_i + 1) / (\sum_i w_i + 1) \le \alpha` of non-exchangeable conformal risk control applies: the
    risk exceeds alpha by at most a term that weighs how far each image is from exchangeable.

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
        return self._fit_profiles(self._profile(X, y, groups, sample_weight))

    def _fit_profiles(self, profiles: Profiles) -> Self:
        self._check_parameters()
        try:
            solution = self._solve(profiles)
        except InfeasibleRiskError:
            self._adopt(profiles)
            raise
        self._adopt(profiles, solution)
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
        known = self.profiles_ if self.__sklearn_is_fitted__() else None
        collect = known.losses if isinstance(known, BinnedProfiles) else None
        added = self._profile(X, y, groups, sample_weight, collect)
        self._adopt(added if known is None else known.merge(added))
        return self

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
        if as_score(self.conformity_score) != as_score(other.conformity_score):
            raise ValueError(
                f"conformity_score differs: {self.conformity_score} here, {other.conformity_score} there"
            )
        known = self.profiles_ if self.__sklearn_is_fitted__() else None
        theirs = other.profiles_
        merged = theirs if known is None else known.merge(theirs)
        self._check_parameters()
        self._budget(merged)  # refuses now what it would refuse later
        self._adopt(merged)
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
        fresh = type(self)(**parameters)
        fresh._check_parameters()
        fresh._adopt(self.profiles_)
        fresh._solved()
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
    def risk_bound_(self) -> float:
        """What is compared with alpha: ``(n * risk_ + 1) / (n + 1)``, or by PAC and RCPS a confidence limit."""
        return self._solved().risk_bound

    @property
    def n_images_(self) -> int:
        """Number of images (or groups) that count."""
        return self._units().n if self._has_images() else self._solved().n_images

    @property
    def n_skipped_(self) -> int:
        """Number of images left out because the loss is undefined on them."""
        return self._units().n_skipped if self._has_images() else self._solved().n_skipped

    @property
    def n_classes_(self) -> int:
        """K."""
        return self._solved().n_classes if not self._has_images() else self.profiles_.n_classes

    @property
    def profiles_(self) -> Profiles:
        """What was kept of the images."""
        profiles: Profiles | None = self.__dict__.get("_profiles")
        if profiles is None:
            if self.__dict__.get("_solution") is not None:
                raise ValueError(
                    "this calibrator was loaded without profiles; save it with profiles=True to keep them"
                )
            raise self._not_fitted()
        return profiles

    def risk_curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The empirical risk on the calibration images as a function of lambda.

        Returns
        -------
        lambdas : float64 array (m,)
            Ascending, from 0 to ``lambda_max``; ``lambda_hat_`` is among them, and about 1000 of the jumps.
        risks : float64 array (m,)
            The risk at each lambda, exactly (binned profiles: from above).
        """
        solution = self._solved()
        return self.profiles_.risk_curve(self.loss, at=solution.lambda_hat, on_empty=self.on_empty)

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
        lam, score = self.lambda_hat_, as_score(self.conformity_score)

        def masks(scores: Any, first: int) -> NDArray[np.bool_]:
            checked = self._check_classes(scores)
            if _stays(checked, score):
                found: NDArray[np.bool_] = self._masks_there(checked, first).cpu().numpy()
                return found
            return kernels.threshold(checked, lam, score, inputs=self.inputs, first_image=first)

        return map_images(X, masks, self.progress)

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
        return map_images(X, self._set_sizes, self.progress)

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

        def heatmaps(scores: Scores, first: int) -> NDArray[np.float32]:
            sizes = self._set_sizes(scores, first)
            largest: Any = np.float32(scores.shape[1])
            if normalize == "max":
                largest = sizes.max(axis=tuple(range(1, sizes.ndim)), keepdims=True).clip(min=1)
            heatmap: NDArray[np.float32] = np.divide(sizes, largest, dtype=np.float32)
            return heatmap

        return map_images(X, heatmaps, self.progress)

    def evaluate(self, X: Any, y: Any = None) -> RiskReport:
        """Risk, activation ratio and coverage on labelled images.

        Parameters
        ----------
        X, y
            As for :meth:`fit`; images that did not calibrate.

        Returns
        -------
        RiskReport

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As :meth:`predict`, and for labels that do not fit.
        """
        counts = [
            self._counts_of(scores, labels, self.inputs, first)
            for scores, labels, first in pairs(X, y, self.progress, keep_tensors=True)
        ]
        return self._report(counts)

    def score(self, X: Any, y: Any = None) -> float:
        """One minus the empirical risk.

        Parameters
        ----------
        X, y
            As for :meth:`evaluate`.

        Returns
        -------
        float in [0, 1]
        """
        return 1.0 - self.evaluate(X, y).empirical_risk

    # Files

    def save(self, path: str | Path, profiles: bool = False) -> None:
        """Writes configuration and results to a JSON file.

        Parameters
        ----------
        path : path
            The file.
        profiles : bool, default=False
            Whether to write the profiles too, to a sibling ``.npz``, so that :meth:`recalibrate` and
            :meth:`partial_fit` work after :meth:`load`.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        """
        path = Path(path)
        # Names that differ keep profiles that differ, whatever their endings.
        sibling = (
            path.with_name((path.stem if path.suffix == ".json" else path.name) + ".npz")
            if profiles
            else None
        )
        text = document_text(
            _NAME,
            _FORMAT_VERSION,
            parameters={
                **self.get_params(deep=False),
                "conformity_score": json.loads(score_to_json(as_score(self.conformity_score))),
                "loss": json.loads(loss_to_json(as_loss(self.loss))),
                "collect": [json.loads(loss_to_json(as_loss(loss))) for loss in self.collect],
                "method": method_to_document(as_method(self.method)),
                "alpha": as_plain(self.alpha, "alpha"),
                "ignore_index": check_ignore_index(self.ignore_index),
            },
            results={name: finite_or_text(getattr(self._solved(), name)) for name in _RESULTS},
            profiles=sibling.name if sibling else None,
        )
        if sibling:
            self.profiles_.save(sibling)
        path.write_text(text, encoding="utf-8")

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
        content = path.read_bytes()
        with reading(path):
            document = read_document(content, _NAME, _FORMAT_VERSION)
            parameters = dict(document["parameters"])
            parameters["conformity_score"] = score_from_json(json.dumps(parameters["conformity_score"]))
            parameters["loss"] = loss_from_json(json.dumps(parameters["loss"]))
            parameters["collect"] = tuple(
                loss_from_json(json.dumps(loss)) for loss in parameters.get("collect", [])
            )
            parameters["method"] = method_from_document(parameters["method"])
            parameters["alpha"] = as_plain(number_from_json(parameters["alpha"]), "alpha")
            calibrator = cls(**parameters)
            calibrator._check_parameters()
            calibrator._solution = _solution_from_json(document["results"], calibrator._question())
            sibling = document["profiles"]
            if sibling is not None and not isinstance(sibling, str):
                raise TypeError(f"profiles is {sibling!r}")
        if sibling is not None:
            try:
                profiles = load_profiles(path.with_name(Path(sibling).name))
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f"{sibling}, the profiles of {path}, is not beside it; to do without them, "
                    'set "profiles" to null in the JSON file'
                ) from error
            try:
                found = calibrator._solve(profiles)
            except ValueError as error:
                raise ValueError(f"the profiles in {sibling} are not those of {path}: {error}") from error
            known = calibrator._solution
            if any(
                getattr(found, name) != getattr(known, name)
                for name in ("lambda_hat", "n_images", "n_classes")
            ):
                raise ValueError(
                    f"the profiles in {sibling} are not those of {path}: they give another result"
                )
            calibrator._profiles = profiles
        return calibrator

    # Inside

    def _check_parameters(self) -> None:
        check_alpha(self.alpha)
        as_score(self.conformity_score)
        as_method(self.method).check_loss(as_loss(self.loss))
        collected = check_collect(self.collect)
        if self.profile == "binned":
            check_collect([self.loss, *collected])
        check_ignore_index(self.ignore_index)
        allowed = {
            "inputs": INPUTS,
            "profile": ("exact", "binned"),
            "on_empty": ("skip", "raise", "zero_loss"),
            "on_infeasible": ("raise", "full"),
            "progress": (True, False, "auto"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {list(values)}, got {getattr(self, name)!r}")

    def _profile(
        self, X: Any, y: Any, groups: Any, sample_weight: Any, collect: Iterable[Loss] | None = None
    ) -> Profiles:
        self._check_parameters()
        profiles = profile(
            X,
            y,
            self.conformity_score,
            inputs=self.inputs,
            ignore_index=self.ignore_index,
            groups=groups,
            sample_weight=sample_weight,
            collect=self._collected() if collect is None else collect,
            progress=self.progress,
        )
        self._budget(profiles)  # refuses now what it would refuse later
        return profiles

    def _collected(self) -> list[LossLike] | None:
        """The losses that bins collect; None where profiles are exact."""
        return [self.loss, *self.collect] if self.profile == "binned" else None

    def _adopt(self, profiles: Profiles, solution: _Solution | None = None) -> None:
        self._profiles: Profiles | None = profiles
        self._solution = solution
        if solution is not None:
            self._warn(solution)

    def _units(self) -> Units:
        return self.profiles_._units(as_loss(self.loss), self.on_empty)

    def _budget(self, profiles: Profiles) -> Fraction:
        """What the losses may sum to."""
        units = profiles._units(as_loss(self.loss), self.on_empty)
        return as_method(self.method).budget(units, check_alpha(self.alpha))

    def _has_images(self) -> bool:
        return self.__dict__.get("_profiles") is not None

    def _solved(self) -> _Solution:
        solution: _Solution | None = self.__dict__.get("_solution")
        if solution is None and not self._has_images():
            raise self._not_fitted()
        if solution is None or solution.of != self._question():
            # Not asked before, or by set_params for something else since.
            solution = self._solution = self._solve(self.profiles_)
            self._warn(solution)
        return solution

    def _question(self) -> tuple[Any, ...]:
        """What a solution is the answer to, besides the images."""
        score, loss = as_score(self.conformity_score), as_loss(self.loss)
        alpha, method = check_alpha(self.alpha), as_method(self.method)
        return score, loss, alpha, self.on_empty, self.on_infeasible, method

    def _solve(self, profiles: Profiles) -> _Solution:
        loss, method = as_loss(self.loss), as_method(self.method)
        if profiles.conformity_score != as_score(self.conformity_score):
            raise ValueError(
                f"the images were profiled by {profiles.conformity_score}: fit again to change the score"
            )
        units, bound = profiles._units(loss, self.on_empty), float(check_alpha(self.alpha))
        try:
            lam = profiles._controlled(loss, self.alpha, method, units)
        except InfeasibleRiskError:
            if self.on_infeasible != "full":
                raise
            lam, bound = lambda_max(as_score(self.conformity_score), profiles.n_classes), math.inf
        risk = profiles._risk(loss, lam, units)
        corrected = method.risk_bound(0.0 if math.isnan(risk) else risk, units)
        # The exact bound is at most alpha, as was decided exactly; rounding must not lift it above.
        return _Solution(
            lambda_hat=lam,
            risk=risk,
            risk_bound=min(corrected, bound),
            n_images=units.n,
            n_skipped=units.n_skipped,
            n_classes=profiles.n_classes,
            of=self._question(),
        )

    def _warn(self, solution: _Solution) -> None:
        if self._budget(self.profiles_) < 0:
            error = self._units().infeasible(self.alpha, as_method(self.method))
            warnings.warn(f"{error}: the sets are full", InfeasibleRiskWarning, stacklevel=4)
        if solution.n_skipped:
            of = f"{solution.n_skipped} of {len(self.profiles_)} images"
            warnings.warn(
                f"the loss is undefined on {of} (no labelled pixel that counts): they are left out, "
                f"n = {solution.n_images}",
                DroppedImagesWarning,
                stacklevel=4,
            )

    def _counts_of(self, scores: Any, labels: Any, inputs: str, first: int = 0) -> Counts:
        """Missed and labelled pixels of each class (n, K), and labels in the sets of labelled pixels (n,)."""
        score, index = as_score(self.conformity_score), check_ignore_index(self.ignore_index)
        scores = self._check_classes(scores)
        if _stays(scores, score):
            from conformask.integrations._torch_sets import coverage

            counts: Counts = coverage(scores, labels, self.lambda_hat_, score, inputs, index, first)
            return counts
        maps, kernel, of = scored(score, score_array(scores), inputs)
        return _core.coverage(maps, label_array(labels), self.lambda_hat_, kernel, of, index, first)

    def _report(self, counts: Sequence[Counts]) -> RiskReport:
        """What the counts of images say."""
        if not counts:
            raise ValueError("X is empty: it holds no image")
        missed, totals, sizes = (np.concatenate(parts) for parts in zip(*counts, strict=True))
        loss = as_loss(self.loss)
        losses = loss_values(loss, missed, totals)
        losses[np.isnan(losses) & counted_images(losses, self.on_empty)] = 0.0
        activation_ratios, coverages = per_pixel(sizes, totals), covered_share(missed, totals)
        return RiskReport(
            empirical_risk=exact_mean(losses),
            activation_ratio=exact_mean(activation_ratios),
            coverage=exact_mean(coverages),
            n_images=int((~np.isnan(losses)).sum()),
            n_skipped=int(np.isnan(losses).sum()),
            alpha=float(self.alpha),
            lambda_hat=self.lambda_hat_,
            loss=str(loss),
            losses=losses,
            activation_ratios=activation_ratios,
            coverages=coverages,
        )

    def _set_sizes(self, scores: Any, first: int) -> NDArray[np.uint16]:
        lam, score = self.lambda_hat_, as_score(self.conformity_score)
        checked = self._check_classes(scores)
        if _stays(checked, score):
            found: NDArray[np.uint16] = self._masks_there(checked, first).sum(dim=1).cpu().numpy()
            return found.astype(np.uint16)
        return kernels.set_size(checked, lam, score, inputs=self.inputs, first_image=first)

    def _masks_there(self, scores: Any, first: int) -> Any:
        """Masks of a tensor, on its device."""
        from conformask.integrations._torch_sets import masks_of

        return masks_of(scores, as_score(self.conformity_score), self.lambda_hat_, self.inputs, first)

    def _check_classes(self, scores: Any) -> Any:
        if scores.ndim in (4, 5) and scores.shape[1] != self.n_classes_:
            raise ValueError(
                f"X has K = {scores.shape[1]} classes, but calibration had K = {self.n_classes_}"
            )
        return scores

    def _not_fitted(self) -> NotFittedError:
        return NotFittedError(
            f"this {type(self).__name__} has seen no images yet: call fit or partial_fit first"
        )

    def __sklearn_is_fitted__(self) -> bool:
        return self._has_images() or self.__dict__.get("_solution") is not None


def _stays(scores: object, score: ConformityScore) -> bool:
    """Whether these are maps that live elsewhere, and can be looked at there."""
    if not is_tensor(scores):
        return False
    from conformask.integrations._torch_profile import stays

    base = score.base if isinstance(score, SACP) else score
    return stays(scores) and not isinstance(base, CallableScore)


def load_profiles(path: Path | BinaryIO) -> Profiles:
    """Profiles of either kind."""

    def make(arrays: dict[str, Any]) -> Profiles:
        kind = BinnedProfiles if "kind" in arrays else ScoreProfiles
        return kind._from_arrays(arrays)

    return read_archive(path, make)


def _solution_from_json(results: dict[str, Any], of: tuple[Any, ...]) -> _Solution:
    """Results of a file; refuses what no calibration gives."""
    for name, least in {"n_images": 0, "n_skipped": 0, "n_classes": 2}.items():
        if type(results[name]) is not int or results[name] < least:
            raise ValueError(f"{name} is {results[name]!r}")
    solution = _Solution(
        lambda_hat=float(results["lambda_hat"]),
        risk=float(results["risk"]),
        risk_bound=float(results["risk_bound"]),
        n_images=results["n_images"],
        n_skipped=results["n_skipped"],
        n_classes=results["n_classes"],
        of=of,
    )
    if not 0 <= solution.lambda_hat <= lambda_max(of[0], solution.n_classes):
        raise ValueError(f"lambda_hat is {solution.lambda_hat!r}")
    for name in ("risk", "risk_bound"):  # NaN, the risk of no image, is not beyond either
        if getattr(solution, name) < 0 or getattr(solution, name) > 1:
            raise ValueError(f"{name} is {getattr(solution, name)!r}")
    return solution
