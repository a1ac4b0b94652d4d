"""Multi-labeled masks at the lambda of a calibrator of family 1, and their evaluation on labelled images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformask import _backend
from conformask._agreement import warn_of_sets
from conformask._arrays import Scores, warn_of_shares
from conformask._backend import Counts
from conformask._calibrator import State
from conformask._exact import check_alpha, share_of
from conformask._images import SCORES, axes_hint, count, each_of, map_images, not_empty, walk
from conformask._known import Known
from conformask._sequences import check_class_names, listed
from conformask._units import check_groups, warn_of_groups
from conformask._warnings import warn_caller
from conformask.profiles import Profiles, ScoreProfiles
from conformask.report import RiskReport
from conformask.risk_control._cuts import Cuts
from conformask.risk_control._masks import MaskBuffer
from conformask.risk_control._report import image_losses, risk_report
from conformask.risk_control._results import Results
from conformask.risk_control._solution import Configuration, Solution, profiles_of
from conformask.risk_control._solve import solve, warn

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Predictor"]

# If so many images agree with calibration images, this is no coincidence.
_LEAST_ALIKE = 10


class Predictor(Results):
    """A calibrator that predicts the sets of pixels at its lambda-hat."""

    def predict(
        self,
        X: Any,
        images: Any = None,
        *,
        strata: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        valid: Any = None,
        out: NDArray[Any] | None = None,
        packed: bool = False,
    ) -> Any:
        """Multi-labeled masks at ``lambda_hat_``.

        Parameters
        ----------
        X : array (n, K, H, W) or (n, K, D, H, W), a list of (K, H, W), or an iterable of them
            As for :meth:`fit`, without labels.
        images : array, sequence or iterable of n, or None
            Further inputs of the model of `adaptive`.
        strata : sequence of n ints or strings, or None
            The stratum of each image, if :meth:`fit` got strata.
        sample_weight : sequence of n floats >= 0, or None
            Under covariate shift: the weight of each image, from the same density ratio as the weights of calibration.
            Each image then has a lambda of its own, which is computed from the profiles. An image whose weight is too
            large gets full sets. None gives each image the weight 1.
        valid : bool array (n, H, W) or (n, D, H, W), a sequence or an iterable of n, or None
            True where X holds data, false in the padding and nodata of rasters. Where it is false X may hold anything,
            NaN too, and sets are full. Scores and scalers that look around a pixel, and models of `adaptive`, see equal
            probabilities there (numbers 1 / K). For the guarantee, calibration must treat such images in the same way:
            calibrate on images with padding as well, and pass ``fit(X, y, valid=)``.
        out : C-contiguous bool array like X (packed: uint8), a store of such a shape (of zarr or h5py), or None
            Where to write the masks of an array X; it may be memory-mapped. Most of the time goes into allocating
            memory, which a reused buffer saves. Masks are written to a store one image at a time.
        packed : bool, default=False
            Whether to write one bit for each class, in an eighth of the memory: class k is bit ``k % 8``, least
            significant first, of plane ``k // 8`` of a uint8 array (n, ceil(K / 8), H, W).
            ``np.unpackbits(masks, axis=1, count=K, bitorder="little")`` gives them back.

        Returns
        -------
        bool array like X, or packed as uint8; a list for a list, a generator for a generator
            Whether the class is in the pixel's set. `out`, if it is given.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        TypeError, ValueError
            If X is not as described, or K differs from calibration; if a stratum had no calibration image
            (`on_unseen`).

        Warns
        -----
        InfeasibleRiskWarning
            If the weights of some images are so large that their sets are full.
        """
        configuration, solution, cuts = self._cuts(X, images, strata, sample_weight)

        known, buffer = Known(valid), MaskBuffer(X, out, packed)

        def masks(scores: Any, first: int) -> NDArray[Any]:
            filled, void = known.fill(_checked(scores, solution), first)
            checked, (lam,) = cuts.of(filled, first)
            found = _backend.masks(
                checked,
                lam,
                configuration.conformity_score,
                configuration.given,
                first,
                buffer.part(tuple(checked.shape), first),
                buffer.packed,
            )
            _look_at(checked, configuration, first)
            if void is not None:
                buffer.fill(found, checked.shape[1], void)
            buffer.store(found, first)
            return found

        return known.all_used_by(_mapped(X, masks, cuts, buffer.whole, buffer.at_once))

    def predict_lambdas(
        self,
        X: Any,
        images: Any = None,
        *,
        strata: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        valid: Any = None,
    ) -> NDArray[np.float64]:
        """The lambda of each image: ``lambda_hat_``, or a lambda of its own.

        Images have lambdas of their own with `adaptive`, with strata, and with weights.

        Parameters
        ----------
        X, images, strata, sample_weight, valid
            As for :meth:`predict`.

        Returns
        -------
        float64 array (n,)
            Infinite for an image whose weight is too large; of shape (n, K) with ``conditional="class"``.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`.
        """
        configuration, solution, cuts = self._cuts(X, images, strata, sample_weight)
        found, known = [], Known(valid)
        for scores, _, first in not_empty(
            walk(X, None, SCORES, configuration.progress, labelled=False, volumes=configuration.volumes), "X"
        ):
            filled, _ = known.fill(_checked(scores, solution), first)
            found.append(cuts.lambdas(filled, first)[0])
        cuts.check_end()
        known.check_end()
        return np.concatenate(found)

    def set_size(
        self,
        X: Any,
        images: Any = None,
        *,
        strata: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        valid: Any = None,
    ) -> Any:
        """Number of classes in each pixel's set, without building the masks.

        Parameters
        ----------
        X, images, strata, sample_weight, valid
            As for :meth:`predict`.

        Returns
        -------
        uint16 array (n, H, W) or (n, D, H, W); a list for a list, a generator for a generator

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`.
        """
        _, solution, cuts = self._cuts(X, images, strata, sample_weight)

        known = Known(valid)

        def sizes(scores: Any, first: int) -> NDArray[np.uint16]:
            found, void = _sizes(scores, solution, cuts, known, first)
            if void is not None:
                found[void] = solution.n_classes
            return found

        return known.all_used_by(_mapped(X, sizes, cuts))

    def varisco(
        self,
        X: Any,
        normalize: str = "classes",
        images: Any = None,
        *,
        strata: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        valid: Any = None,
    ) -> Any:
        r"""Heatmap of uncertainty: set size over the number of classes.

        Parameters
        ----------
        X, images, strata, sample_weight, valid
            As for :meth:`predict`. Where X holds no data the heatmap is 1.
        normalize : {"classes", "max"}, default="classes"
            Divide by K, or by the size of the largest set of the image (among the pixels that hold data).

        Returns
        -------
        float32 array (n, H, W) or (n, D, H, W) in [0, 1]; a list for a list, a generator for a generator

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`.

        References
        ----------
        Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, section 4.3.
        """
        if normalize not in ("classes", "max"):
            raise ValueError(f"normalize must be 'classes' or 'max', got {normalize!r}")

        _, solution, cuts = self._cuts(X, images, strata, sample_weight)
        known = Known(valid)

        def heatmaps(scores: Scores, first: int) -> NDArray[np.float32]:
            sizes, void = _sizes(scores, solution, cuts, known, first)
            if void is not None:
                sizes[void] = 0
            largest: Any = np.float32(scores.shape[1])
            if normalize == "max":
                largest = sizes.max(axis=tuple(range(1, sizes.ndim)), keepdims=True).clip(min=1)
            heatmap: NDArray[np.float32] = np.divide(sizes, largest, dtype=np.float32)
            if void is not None:
                heatmap[void] = 1
            return heatmap

        return known.all_used_by(_mapped(X, heatmaps, cuts))

    def evaluate(
        self,
        X: Any,
        y: Any = None,
        *,
        images: Any = None,
        groups: ArrayLike | None = None,
        alphas: Iterable[float] | None = None,
        class_names: Iterable[str] | None = None,
        strata: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        valid: Any = None,
    ) -> RiskReport:
        """Risk, activation ratio and coverage on labelled images, with intervals, and the coverage of each class.

        Parameters
        ----------
        X, y, images
            As for :meth:`fit`, but other images than the calibration images.
        groups : sequence of n ints or strings, or None
            The group of each image. The images of a group then count once, as in calibration: the risk is the mean over
            groups of the mean loss of their images. Give groups if :meth:`fit` got groups; the mean over images is
            another risk, which is not controlled. With ``fit(sample_weight=)`` the images must come from the
            distribution that the weights aim at: here each image counts once.
        alphas : sequence of floats in (0, 1), or None
            Further risk levels to report on, in the same pass over the images: see ``sweep`` of the report. The
            guarantee of each level holds by itself, for a level that was chosen beforehand.
        class_names : sequence of K strings, or None
            The names of the classes; None takes their labels.
        strata, sample_weight
            As for :meth:`predict`. Weights determine the lambda of an image; in the means each image counts once.
        valid : bool array (n, H, W) or (n, D, H, W), a sequence or an iterable of n, or None
            True where X holds data, as for :meth:`fit`: elsewhere pixels are void.

        Returns
        -------
        RiskReport

        Raises
        ------
        InfeasibleRiskError
            If one of `alphas` needs more calibration images.
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`; also if labels do not fit, and for `alphas` without profiles.

        Warns
        -----
        SuspiciousLabelsWarning
            If the labels hardly belong to the scores.
        """
        configuration, state = self._settled()
        assert state.solution is not None
        others = _at_alphas(alphas, configuration, state)
        names = check_class_names(class_names, state.solution.n_classes)
        n = count(X)
        groups = check_groups(groups, n)
        warn_of_groups(state.solution.grouped, groups)  # before the images are read
        asked = [(configuration, state.solution), *others]
        cuts = Cuts(asked, n, images=images, strata=strata, sample_weight=sample_weight, profiles=state.kept)
        solutions = [solution for _, solution in asked]
        known = Known(valid, configuration.ignore_index, labelled=True)
        batches = walk(X, y, SCORES, configuration.progress, volumes=configuration.volumes)
        counts = [
            *each_of(
                batches, lambda scores, labels, first: _counts(scores, labels, solutions, cuts, first, known)
            )
        ]
        if not counts:
            raise ValueError("X is empty: it holds no image")
        cuts.check_end()
        known.check_end()
        report, *sweep = (
            risk_report(found, *each, groups, names, cuts.strata)
            for found, each in zip(zip(*counts, strict=True), asked, strict=True)
        )
        missed, totals, sizes = (np.concatenate([batch[0][i] for batch in counts]) for i in range(3))
        warn_of_sets(totals, missed, sizes)
        n_counted = report.n_images if report.n_groups is None else report.n_groups
        if n_counted == state.solution.n_images and math.isclose(
            report.empirical_risk, state.solution.risk, rel_tol=1e-12
        ):
            _warn_of_calibration_images(counts, state)
        return replace(report, sweep=tuple(sweep))

    def losses(
        self,
        X: Any,
        y: Any = None,
        *,
        images: Any = None,
        strata: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        valid: Any = None,
    ) -> NDArray[np.float64]:
        """The loss of each image at ``lambda_hat_``, or at its own lambda; :meth:`evaluate` averages them.

        Parameters
        ----------
        X, y, images, strata, sample_weight, valid
            As for :meth:`evaluate`; a single image suffices.

        Returns
        -------
        float64 array (n,) in [0, 1]
            NaN where the loss is undefined (`on_empty`).

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`evaluate`.

        See Also
        --------
        DriftAlarm : Watches these losses.
        """
        configuration, solution, cuts = self._cuts(X, images, strata, sample_weight)
        known = Known(valid, configuration.ignore_index, labelled=True)
        batches = walk(X, y, SCORES, configuration.progress, volumes=configuration.volumes)
        counts = [
            found
            for [found] in each_of(
                not_empty(batches, "X"),
                lambda scores, labels, first: _counts(scores, labels, [solution], cuts, first, known),
            )
        ]
        cuts.check_end()
        known.check_end()
        return image_losses(counts, configuration)

    def score(
        self,
        X: Any,
        y: Any = None,
        *,
        images: Any = None,
        groups: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        valid: Any = None,
    ) -> float:
        """One minus the empirical risk.

        Parameters
        ----------
        X, y, images, groups, strata, sample_weight, valid
            As for :meth:`evaluate`.

        Returns
        -------
        float in [0, 1]
        """
        report = self.evaluate(
            X, y, images=images, groups=groups, strata=strata, sample_weight=sample_weight, valid=valid
        )
        return 1.0 - report.empirical_risk

    # Inside

    def _cuts(
        self, X: Any, images: Any, strata: Any, sample_weight: Any
    ) -> tuple[Configuration, Solution, Cuts]:
        """The parameters, the solution, and the lambdas of these images."""
        configuration, state = self._settled()
        assert state.solution is not None
        cuts = Cuts(
            [(configuration, state.solution)],
            count(X),
            images=images,
            strata=strata,
            sample_weight=sample_weight,
            profiles=state.kept,
        )
        return configuration, state.solution, cuts

    def _counts_of(self, scores: Any, labels: Any, inputs: str, first: int = 0) -> Counts:
        """For each image and class (n, K): missed pixels, labelled pixels, and summed set sizes of the latter."""
        configuration, solution = self._current()
        cuts = Cuts([(replace(configuration, inputs=inputs), solution)], None)
        return _counts(scores, labels, [solution], cuts, first, Known(None))[0]

    def _report(
        self, counts: Sequence[Counts], groups: ArrayLike | None = None, class_names: Any = None
    ) -> RiskReport:
        """The report from the counts of images."""
        configuration, solution = self._current()
        names, known = check_class_names(class_names, solution.n_classes), check_groups(groups, len(counts))
        warn_of_groups(solution.grouped, known)
        return risk_report(counts, configuration, solution, known, names)


def _warn_of_calibration_images(counts: Sequence[Sequence[Counts]], state: State[Profiles, Solution]) -> None:
    """Warns if each image misses exactly the same share of pixels as one of the calibration images."""
    assert state.solution is not None
    if not isinstance(state.kept, ScoreProfiles) or math.isnan(state.solution.lambda_hat):
        return
    known = state.kept.losses("miscoverage", state.solution.lambda_hat)
    shares = np.concatenate(
        [share_of(missed.sum(axis=1), totals.sum(axis=1)) for (missed, totals, *_), *_ in counts]
    )
    known, shares = (each[(each > 0) & (each < 1)] for each in (known, shares))
    # If calibration images hardly ever agree with each other, new images do not all agree with them by chance.
    is_telling = len(shares) >= _LEAST_ALIKE and len(np.unique(known)) >= 0.9 * len(known)
    if is_telling and np.isin(shares, known).all():
        warn_caller(
            "these images seem to be those of calibration: each misses exactly the same share of pixels "
            "as one of them. Evaluate on other images: the risk on these tells nothing about new images",
            UserWarning,
        )


def _at_alphas(
    alphas: Iterable[float] | None, configuration: Configuration, state: State[Profiles, Solution]
) -> list[tuple[Configuration, Solution]]:
    """The solutions at other levels."""
    if alphas is None:
        return []
    profiles = profiles_of(state)
    levels = [check_alpha(alpha) for alpha in listed(alphas, "alphas")]
    others = [replace(configuration, alpha=level) for level in levels]
    found = [(other, solve(profiles, other)) for other in others]
    for _, solution in found:
        warn(profiles, solution)
    return found


def _checked(scores: Any, solution: Solution) -> Any:
    """The maps; refuses another K than at calibration."""
    if scores.ndim in (4, 5) and scores.shape[1] != solution.n_classes:
        hint = axes_hint(tuple(scores.shape), solution.n_classes)
        raise ValueError(
            f"X has K = {scores.shape[1]} classes, but calibration had K = {solution.n_classes}{hint}"
        )
    return scores


def _mapped(
    X: Any,
    kernel: Callable[[Any, int], NDArray[Any]],
    cuts: Cuts,
    out: NDArray[Any] | None = None,
    at_once: int | None = None,
) -> Any:
    configuration = cuts.configuration
    found = map_images(X, kernel, configuration.progress, configuration.volumes, out=out, at_once=at_once)
    return cuts.all_used_by(found)


def _sizes(
    scores: Any, solution: Solution, cuts: Cuts, known: Known, first: int
) -> tuple[NDArray[np.uint16], NDArray[np.bool_] | None]:
    """Sizes of the sets, and the mask of pixels without data."""
    configuration = cuts.configuration
    filled, void = known.fill(_checked(scores, solution), first)
    checked, (lam,) = cuts.of(filled, first)
    found = _backend.set_sizes(checked, lam, configuration.conformity_score, configuration.given, first)
    _look_at(checked, configuration, first)
    return found, void


def _counts(
    scores: Any, labels: Any, solutions: Sequence[Solution], cuts: Cuts, first: int, known: Known
) -> list[Counts]:
    """For each solution, the counts of the sets at labelled pixels."""
    configuration = cuts.configuration
    score, inputs, index = configuration.conformity_score, configuration.given, configuration.ignore_index
    filled, labels = known.fill_labelled(_checked(scores, solutions[0]), labels, first)
    checked, lams = cuts.of(filled, first)
    found = _backend.coverage(checked, labels, lams, score, inputs, index, first)
    if not configuration.loss._is_monotone:
        # A second pass, which few evaluations need, counts the pixels whose sets hold each class. It counts missed
        # pixels again: devices differ by rounding, and the covered pixels must be among those held.
        of_images = np.stack(cuts.lambdas(checked, first))
        grid, places = np.unique(of_images, return_inverse=True)
        profile = _backend.profile(checked, labels, score, inputs, index, False, first, grid)
        missed, held = profile.missed_of_classes(grid), profile.held()
        assert held is not None
        images = np.arange(len(checked))
        found = [
            (missed[images, :, place], totals, sizes, held[images, :, place])
            for (_, totals, sizes), place in zip(found, places.reshape(of_images.shape), strict=True)
        ]
    _look_at(checked, configuration, first)
    return found


def _look_at(scores: Any, configuration: Configuration, first: int) -> None:
    """Checks, on the first image, whether the numbers are what they are said to be."""
    if first == 0 and len(scores):
        warn_of_shares(scores[0], configuration.inputs)
