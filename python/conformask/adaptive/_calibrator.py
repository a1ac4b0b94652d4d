"""The common part of all calibrators of binary masks: corrected thresholds, masks, reports, files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from conformask import _core
from conformask._agreement import warn_of_masks
from conformask._arrays import label_array, score_array
from conformask._calibrator import State
from conformask._foreground import (
    check_foreground_classes,
    foreground_mask,
    foreground_probability,
    refuse_void_foreground,
)
from conformask._image_models import Images, are_same
from conformask._images import SCORES, Layout, NoImagesError, count, map_images, not_empty, walk
from conformask._kept_images import KeepingCalibrator
from conformask._units import check_groups, warn_of_groups
from conformask._warnings import warn_caller
from conformask.adaptive._kept import Kept
from conformask.adaptive._report import binary_report
from conformask.adaptive._settings import Configuration
from conformask.adaptive._solution import Solution, solution_from_json, solve, warn

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from conformask.adaptive.report import BinaryReport

__all__ = ["OTHER_MODEL", "PROBABILITIES", "BinaryCalibrator", "check_foreground"]

PROBABILITIES = Layout("P", (), "probabilities", lambda value, name, where: score_array(value, where, name))

# Probabilities of all classes, some of which are the foreground.
_OF_CLASSES = replace(SCORES, name="P", noun="probabilities of all classes")

OTHER_MODEL = "the models of thresholds differ: correct one model on all workers"

C = TypeVar("C", bound=Configuration)


class BinaryCalibrator(KeepingCalibrator[C, Kept, Solution]):
    """A calibrator of thresholds of the probability of one class. By default all images have one threshold."""

    _NOTHING_KEPT = "nothing was kept of the images: set it back, or fit again"
    _ALIKE: ClassVar[tuple[str, ...]] = ("risk", "ignore_index")

    # Calibration

    def fit(
        self,
        P: Any,
        y: Any = None,
        *,
        classes: int | Iterable[int] | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Calibrates on images, and forgets those of earlier calls.

        Parameters
        ----------
        P : array (n, H, W) or (n, D, H, W), float16, float32 or float64; or a list of (H, W); or an iterable
            Probability of the foreground, in [0, 1]. Without `y`: an iterable of ``(probabilities, masks)`` pairs, one
            image each (a batch would be taken for a volume).
        y : bool or integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
            Masks: true or 1 for the foreground, false or 0 for the background, `ignore_index` where the truth is
            unknown.
        classes : int, several ints, or None
            The classes of the foreground; the other classes are the background. `P` then holds probabilities of K
            classes, (n, K, H, W) or (n, K, D, H, W), here and in all later calls, and `y` their labels. The
            probabilities of several classes are summed. For a threshold of each class by itself, calibrate once for
            each class.
        groups : sequence of n ints or strings, or None
            The group of each image, such as its patient: a group counts once, by the mean of its images.
        sample_weight : sequence of n floats in [0, 1], or None
            How relevant each image is for new images.

        Returns
        -------
        self

        Raises
        ------
        InfeasibleRiskError
            If there are too few images. They are kept: ``recalibrate(alpha=...)`` works.
        TypeError, ValueError
            If the input is not as described; the message names argument, image and value. The object is then unchanged.

        Warns
        -----
        DuplicateImagesWarning, DroppedImagesWarning, InfeasibleRiskWarning, SuspiciousLabelsWarning
            If an image comes twice; if one is left out because it has no pixel that the risk looks at; if there are too
            few images and ``on_infeasible="full"`` takes full masks; if the labels hardly belong to the probabilities.
        """
        configuration = self._configured(classes)
        return self._fit_seen(*self._see(P, y, configuration, groups, sample_weight), configuration)

    def _configured(self, classes: Any) -> C:
        """The parameters, and which classes are the foreground."""
        configuration = self._configuration()
        found = check_foreground_classes(classes, configuration.ignore_index)
        return replace(configuration, classes=found)

    def _configured_again(self, classes: Any) -> C:
        """The same for images that are added: the classes are those of the first images."""
        configuration = self._configured(classes)
        before = self._configuration_before(configuration, classes)
        return configuration if before is None else self._as_told(configuration, before)

    def _see(
        self,
        P: Any,
        y: Any,
        configuration: C,
        groups: Any = None,
        sample_weight: Any = None,
        photographs: Any = None,
    ) -> tuple[Kept, NDArray[np.float64]]:
        """What is kept of images, and their features: calibration needs no more without a model of the caller's."""
        images = Images(photographs)

        def look(maps: Any, first: int) -> NDArray[np.float64]:
            return self._describe(maps, images, first, configuration)

        found = self._collect(P, y, configuration, groups, sample_weight, look)
        images.check_end()
        return found

    def _fit_seen(self, kept: Kept, features: NDArray[np.float64], configuration: C) -> Self:
        """Calibrates on images of which only the results of :meth:`_see` are known."""
        check_foreground(kept, configuration)
        return self._fit_kept(kept, configuration)

    def _fit_images(
        self, seen: Sequence[tuple[Kept, NDArray[np.float64]]], groups: list[int] | list[str] | None
    ) -> Self:
        """The same for images that were read one by one, perhaps in another process, in their order."""
        configuration = self._configuration()
        kept = Kept.of([each.core for each, _ in seen], groups, None, configuration)
        return self._fit_seen(kept, np.concatenate([each for _, each in seen]), configuration)

    def partial_fit(
        self,
        P: Any,
        y: Any = None,
        *,
        classes: int | Iterable[int] | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Adds images. The threshold is computed when it is needed; an empty batch changes nothing.

        Parameters
        ----------
        P, y, classes, groups, sample_weight
            As for :meth:`fit`; `classes` is known after the first images.

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
        configuration = self._configured_again(classes)
        try:
            added = self._read(P, y, configuration, groups, sample_weight)
        except NoImagesError:
            return self
        added.warn_of_repeats()
        self._add(added, configuration)
        return self

    def merge(self, other: Self) -> Self:
        """Adds the images of another calibrator, for example of another worker.

        Parameters
        ----------
        other : calibrator of the same class
            A calibrator that has seen images.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If `other` is of another class or the same object, has seen no images, or controls another rate.

        Warns
        -----
        DuplicateImagesWarning
            If `other` has images that were given here, too.
        """
        return self._merge(other)

    def _refuse_others(self, before: Kept, added: Kept) -> None:
        super()._refuse_others(before, added)
        here, there = before.configuration.n_classes, added.configuration.n_classes
        if here != there:
            raise ValueError(f"K differs: {here} here, {there} there")
        if not are_same(before.predictor, added.predictor):
            raise ValueError(OTHER_MODEL)

    # Prediction

    def predict(self, P: Any) -> Any:
        """Masks.

        Parameters
        ----------
        P : array (n, H, W) or (n, D, H, W), a list of (H, W), or an iterable of them
            As for :meth:`fit`, without masks.

        Returns
        -------
        bool array like P; a list for a list, a generator for a generator
            Whether the pixel is in the mask: ``P >= predict_thresholds(P)``, image by image.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        TypeError, ValueError
            If P is not as described.
        """
        return self._predict(P, None)

    def predict_thresholds(self, P: Any) -> NDArray[np.float64]:
        """The threshold of each image.

        Parameters
        ----------
        P
            As for :meth:`predict`.

        Returns
        -------
        float64 array (n,)
            The smallest probability in the mask, exactly. It is above 1 if the mask is empty.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`.
        """
        return self._predict_thresholds(P, None)

    def evaluate(self, P: Any, y: Any = None, *, groups: ArrayLike | None = None) -> BinaryReport:
        """Risk, coverage, coverage gap and size on labelled images, with intervals.

        Parameters
        ----------
        P, y
            As for :meth:`fit`, but other images than the calibration images.
        groups : sequence of n ints or strings, or None
            The group of each image. The images of a group then count once, as in calibration.

        Returns
        -------
        BinaryReport

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`, and for masks that do not fit.
        """
        return self._evaluate(P, y, None, groups)

    def score(self, P: Any, y: Any = None, *, groups: ArrayLike | None = None) -> float:
        """One minus the empirical risk.

        Parameters
        ----------
        P, y, groups
            As for :meth:`evaluate`.

        Returns
        -------
        float in [0, 1]
        """
        return 1.0 - self.evaluate(P, y, groups=groups).empirical_risk

    # Files

    @classmethod
    def _solution_from_json(cls, document: dict[str, Any], configuration: C) -> Solution:
        return solution_from_json(document, configuration)

    # Inside

    def _without_images(self) -> Self:
        """A copy with the present thresholds, which later changes of this object do not affect, and without the images.

        The copy takes the probability of the foreground, even if this object takes those of all classes.
        """
        origin, (_, solution) = self._origin, self._current()
        one = replace(solution.configuration, classes=None, n_classes=None)
        solution = replace(solution, configuration=one)
        found = copy.copy(self)
        found._update(lambda _: State(None, solution, origin))
        return found

    def _maps(self, given: Any, first: int) -> Any:
        """The numbers that calibration compares with thresholds, from the probabilities of images."""
        return given

    def _describe(self, maps: Any, images: Images, first: int, configuration: C) -> NDArray[np.float64]:
        """Features of images (n, F), on which a model of thresholds is trained; F = 0 if there is none."""
        return np.zeros((len(maps), 0))

    def _offsets(
        self, maps: Any, predictor: Any, images: Images, first: int, configuration: C
    ) -> NDArray[np.float64]:
        """Thresholds of images (n,) before they are corrected, on this object's scale; 0 for all if they share one."""
        return np.zeros(len(maps))

    def _cutoffs(self, given: Any, images: Images, solution: Solution, first: int) -> NDArray[np.float64]:
        """The threshold of each image."""
        configuration: Any = solution.configuration
        return solution.cutoffs(self._offsets(given, solution.predictor, images, first, configuration))

    def _batches(
        self, P: Any, y: Any, configuration: C, *, labelled: bool = True
    ) -> Iterator[tuple[Any, Any, int, int | None]]:
        """Probabilities, masks, index of the first image, and K of the maps (with `classes`) of each batch."""
        classes, layout = configuration.classes, _layout_of(configuration)
        found = walk(P, y, layout, configuration.progress, labelled=labelled, volumes=configuration.volumes)
        for given, labels, first in not_empty(found, layout.name):
            masks, p = label_array(labels) if labelled else None, _foreground_of(given, configuration, first)
            if classes is not None:
                # All images must have the K of the first ones.
                configuration = replace(configuration, n_classes=given.shape[1])
                if masks is not None:
                    masks = foreground_mask(masks, classes, given.shape[1], configuration.ignore_index, first)
            yield p, masks, first, configuration.n_classes

    def _collect(
        self,
        P: Any,
        y: Any,
        configuration: C,
        groups: Any,
        sample_weight: Any,
        look: Callable[[Any, int], NDArray[np.float64]],
    ) -> tuple[Kept, NDArray[np.float64]]:
        """What is kept of images before they have thresholds, and the result of `look` for each (n, ...)."""
        groups = check_groups(groups, count(P))
        parts, seen = [], []
        for given, labels, first, n_classes in self._batches(P, y, configuration):
            configuration = replace(configuration, n_classes=n_classes)
            maps = self._maps(given, first)
            core = _core.BinaryValues.build(maps, labels, configuration.side, configuration.void, first)
            parts.append(configuration.numbers.of_values(core))
            seen.append(look(maps, first))
        kept = Kept.of(parts, groups, sample_weight, configuration)
        # Refuse now what would be refused later.
        configuration.method.check_units(kept.units(configuration.on_empty))
        return kept, np.concatenate(seen)

    def _read(
        self,
        P: Any,
        y: Any,
        configuration: C,
        groups: Any,
        sample_weight: Any,
        predictor: Any = None,
        photographs: Any = None,
    ) -> Kept:
        images = Images(photographs)
        kept, offsets = self._collect(
            P,
            y,
            configuration,
            groups,
            sample_weight,
            lambda maps, first: self._offsets(maps, predictor, images, first, configuration),
        )
        images.check_end()
        return replace(kept, offsets=offsets, predictor=predictor)

    def _predict(self, P: Any, photographs: Any) -> Any:
        configuration, solution = self._current()
        images = Images(photographs)

        def masks(given: Any, first: int) -> NDArray[np.bool_]:
            p = _foreground_of(given, configuration, first)
            found = np.empty(p.shape, np.bool_)
            cutoffs = self._cutoffs(p, images, solution, first)
            _core.binary_masks(p, cutoffs, found.view(np.uint8), first)
            return found

        layout = _layout_of(configuration)
        found = map_images(P, masks, configuration.progress, configuration.volumes, layout)
        return images.all_used_by(found)

    def _predict_thresholds(self, P: Any, photographs: Any) -> NDArray[np.float64]:
        configuration, solution = self._current()
        images = Images(photographs)
        found = [
            self._cutoffs(given, images, solution, first)
            for given, _, first, _ in self._batches(P, None, configuration, labelled=False)
        ]
        images.check_end()
        return np.concatenate(found)

    def _evaluate(self, P: Any, y: Any, photographs: Any, groups: Any) -> BinaryReport:
        known, groups = self._current(), check_groups(groups, count(P))
        report = self._report(self._counted(P, y, photographs, known), groups, known)
        kept = self._fitted().kept
        if kept is not None and len(kept) == len(report.risks) > 1:
            _warn_of_calibration_images(kept.losses(known[1].correction), report.risks)
        return report

    def _counted(
        self, P: Any, y: Any, photographs: Any, known: tuple[C, Solution]
    ) -> list[tuple[NDArray[np.uint64], NDArray[np.float64], int]]:
        """For each batch: counts of pixels in its masks (n, 4), thresholds (n,), and the number of pixels."""
        (configuration, solution), images, found = known, Images(photographs), []
        for given, labels, first, _ in self._batches(P, y, configuration):
            cutoffs = self._cutoffs(given, images, solution, first)
            counts = _core.binary_counts(given, labels, cutoffs, configuration.void, first)
            found.append((counts, cutoffs, given.size))
        images.check_end()
        return found

    def _report(
        self,
        counted: Sequence[tuple[NDArray[np.uint64], NDArray[np.float64], int]],
        groups: Any,
        known: tuple[C, Solution],
    ) -> BinaryReport:
        """The report from the counts of all images."""
        configuration, solution = known
        warn_of_groups(solution.grouped, groups)
        counts, thresholds, n_pixels = zip(*counted, strict=True)
        table = np.concatenate(counts)
        n_void = sum(n_pixels) - int(table[:, :2].sum())
        if len(table) > 1:  # an image alone may well have no object
            classes, index = configuration.classes, configuration.ignore_index
            refuse_void_foreground(int(table[:, 1].sum()), n_void, classes, index)
        warn_of_masks(table[:, :2], table[:, 2:], "P", "masks")
        return binary_report(table, np.concatenate(thresholds), solution, check_groups(groups, len(table)))

    @staticmethod
    def _as_told(configuration: C, known: Configuration) -> C:
        check_foreground_classes(known.classes, configuration.ignore_index)
        return replace(configuration, classes=known.classes, n_classes=known.n_classes)

    def _solve(self, kept: Kept, configuration: C) -> Solution:
        # The classes are an argument of `fit`, not a parameter.
        return self._find(kept, self._as_told(configuration, kept.configuration))

    def _find(self, kept: Kept, configuration: C) -> Solution:
        return solve(kept, configuration)

    def _warn(self, kept: Kept, solution: Solution) -> None:
        warn(kept, solution)


def _warn_of_calibration_images(known: NDArray[np.float64], risks: NDArray[np.float64]) -> None:
    """Warns if images have exactly the losses of the calibration images, one by one, and these are not all alike."""
    if np.array_equal(known, risks, equal_nan=True) and len(np.unique(known[(known > 0) & (known < 1)])) > 1:
        warn_caller(
            "these images seem to be those of calibration: each misses exactly the same share as one of "
            "them. Evaluate on other images: the risk on these tells nothing about new images",
            UserWarning,
        )


def check_foreground(kept: Kept, configuration: Configuration) -> None:
    """Refuses images whose foreground seems to be labelled as void."""
    _, n_foreground, n_void = kept.core.totals().sum(axis=0).tolist()
    refuse_void_foreground(n_foreground, n_void, configuration.classes, configuration.ignore_index)


def _layout_of(configuration: Configuration) -> Layout:
    """The layout of maps."""
    return PROBABILITIES if configuration.classes is None else _OF_CLASSES


def _foreground_of(given: Any, configuration: Configuration, first: int) -> Any:
    """The probability of the foreground."""
    if configuration.classes is None:
        return given
    return foreground_probability(given, configuration.classes, configuration.n_classes, first)
