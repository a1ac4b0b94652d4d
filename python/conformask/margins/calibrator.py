"""Margins around predicted masks: how far a mask must grow to hold the object, or shrink to hold nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformask._calibrator import Parameter
from conformask._foreground import check_foreground_classes, refuse_void_foreground
from conformask._image_models import ended
from conformask._images import NoImagesError, count, is_whole, map_images
from conformask._kept_images import KeepingCalibrator
from conformask._units import check_groups, warn_of_groups
from conformask._warnings import warn_caller
from conformask.margins._distances import grown, shrunk, signed_distances
from conformask.margins._kept import Kept
from conformask.margins._masks import MASKS, cases, predicted
from conformask.margins._report import margin_report, pixel_counts
from conformask.margins._settings import PARAMETERS, Configuration
from conformask.margins._solution import Solution, solution_from_json, solve, warn
from conformask.margins._spacing import Spacings
from conformask.margins.masks import Margins

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from conformask._images import Volumes
    from conformask._units import OnEmpty
    from conformask.control import Method
    from conformask.margins.report import MarginReport

__all__ = ["MarginCalibrator"]


class MarginCalibrator(KeepingCalibrator[Configuration, Kept, Solution]):
    r"""Margins around predicted masks, between which the true contour lies, at a level that you choose.

    Only masks are needed, no probabilities: it works with any model, and with annotators. The *outer* mask at margin m
    holds the pixels at most m away from the predicted mask :math:`\hat Y`. The *inner* mask holds the pixels of
    :math:`\hat Y` that are more than m away from the nearest pixel outside. The margin that image i needs is the
    smallest at which the outer mask holds the share `min_coverage` of its object :math:`Y_i`,

    .. math:: s_i = \min \big\{ m \ge 0 : |\{p \in Y_i : d(p, \hat Y_i) \le m\}| \ge \tau |Y_i| \big\},

    which is the :math:`\lceil \tau |Y_i| \rceil`-th smallest distance of a pixel of :math:`Y_i`. The calibrated margin
    is the k-th smallest score of n images, :math:`k = \lceil (n + 1)(1 - \alpha) \rceil`. If calibration images and new
    images are exchangeable, and the model has seen none of these, the outer mask of a new image with an object holds
    that share of it with probability at least ``1 - alpha``, on average over calibration images. The unit is the image:
    n counts images, not pixels.

    The inner margin is defined in the same way for the complements of the masks. It is the smallest at which the inner
    mask holds at most the share `max_background` of the background; by default none of it, so that the inner mask lies
    in the object.

    Parameters
    ----------
    alpha : float in (0, 1), default=0.1
        The risk level, taken as the decimal that prints. At least ``ceil(1 / alpha) - 1`` images are needed; with
        ``side="both"`` as many as for ``alpha / 2``.
    side : {"outer", "inner", "both"}, default="outer"
        The margins to calibrate. With "both", each has the level ``alpha / 2`` (with PAC and RCPS also ``delta / 2``),
        so that for a new image both masks are right at once with probability at least ``1 - alpha`` (Bonferroni). With
        "both" an image counts if it has a foreground and a background.
    min_coverage : float in (0, 1], default=1.0
        The share of the object that an outer mask must hold, compared exactly. 1 asks for every pixel; take a little
        less if annotations have stray pixels.
    max_background : float in [0, 1), default=0.0
        The share of the background that an inner mask may hold. It is a share of all background pixels of the image:
        choose a small one for small objects in large images.
    metric : {"euclidean", "cityblock", "chessboard"}, default="euclidean"
        The distance between pixel centres. A margin m with "cityblock" is m dilations with a cross, with "chessboard" m
        dilations with a full square (in volumes a cube), with "euclidean" a dilation with a disk of radius m (in
        volumes a ball).
    method : CRC, PAC, RCPS or "crc", default="crc"
        How the risk is controlled: on average over calibration images (:class:`~conformask.CRC`), or with a confidence
        given the calibration images (:class:`~conformask.PAC`, which is exact here, since the loss is 0 or 1).
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels in `y`, which count nowhere. It must not be 0 or 1, unless `classes` tells the
        foreground.
    on_empty : {"skip", "raise", "zero_loss"}, default="skip"
        What to do with images without an object (with "inner" without a background, with "both" without one of them),
        on which the loss is undefined. "skip" leaves them out with a warning: n gets smaller, and the guarantee is
        about images that have one. "zero_loss" counts them with loss 0: the guarantee is about all images, and weaker.
        "raise" raises an error.
    on_infeasible : {"raise", "full"}, default="raise"
        What to do if no finite margin keeps alpha, because there are too few images, or because too many images have an
        object and an empty predicted mask. "raise" raises :class:`~conformask.InfeasibleRiskError`; "full" takes an
        infinite margin and warns: outer masks hold every pixel, inner ones none.
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (D, H, W) or flat (H, W). "auto" goes by the number of
        axes.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over lists and generators of images.

    Attributes
    ----------
    margin_ : float
        The margin, if there is a single one: in pixels, or in the unit of `spacing`. It is infinite if
        ``on_infeasible="full"`` took full masks.
    outer_margin_, inner_margin_ : float
        The margins of the sides that `side` names.
    scores_ : float64 array (n,), or (n, 2) with ``side="both"``, outer and inner
        The margins that the calibration images need; NaN where undefined.
    risk_ : float
        The empirical risk: the share of the calibration images on which a margin is too narrow.
    corrected_risk_ : float
        The number that is kept at or below alpha, ``(n * risk + 1) / (n + 1)``; with PAC and RCPS an upper confidence
        limit. With ``side="both"`` it is the sum over the two sides.
    n_images_ : int
        Number of images (groups, if given) that counted.
    n_skipped_ : int
        Number of images left out.
    n_eff_ : float
        With weights the effective number of images; else `n_images_`.

    See Also
    --------
    BinaryRiskCalibrator : Calibrates a threshold of probabilities.

    Notes
    -----
    The inner margin controls a share of the background, and not a share of the inner mask. The latter, one minus the
    precision, may rise as the mask shrinks, because erosion may remove right pixels first; no smallest margin would
    control it. The share of the background cannot rise.

    The border of the image is no boundary: a mask that touches it is not eroded there. The predicted mask counts under
    void pixels, too, because it is not known in prediction which pixels are void. Distances are those of SciPy's exact
    transforms in float64. A pixel is in the outer mask if ``distance <= margin``, ties included, with the same
    distances as in calibration. Many equal scores, as with distances in whole pixels, only make masks hold more than
    guaranteed.

    All images have the same margin. Give `spacing` if pixel sizes differ between scanners, so that the margin is in
    millimetres; images together with their spacing must be exchangeable. Spacing matters: with 3 mm between slices a
    margin of 2 mm reaches no other slice.

    References
    ----------
    Mossina, Friedrich, "Conformal Prediction for Image Segmentation Using Morphological Prediction Sets", MICCAI 2025,
    arXiv:2503.05618: the outer margin, by dilations. Mossina, Friedrich, "Controlling False Positives in Image
    Segmentation via Conformal Prediction", arXiv:2511.15406: inner masks by erosion. Davenport, "Conformal Confidence
    Sets for Biomedical Image Segmentation", arXiv:2410.03406: inner and outer sets, by distances among other scores.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> rows, columns = np.mgrid[-20:20, -20:20]
    >>> far = np.hypot(rows - rng.uniform(-4, 4, (80, 1, 1)), columns)  # from the centre of each disk
    >>> radii = rng.uniform(8, 12, (80, 1, 1))
    >>> y, masks = far < radii, far < radii + rng.normal(0, 1, radii.shape)
    >>> calibrator = cm.MarginCalibrator(alpha=0.1, min_coverage=0.99).fit(masks[:40], y[:40])
    >>> outer = calibrator.predict(masks[40:])
    >>> 0.5 < calibrator.margin_ < 3
    True
    >>> both = cm.MarginCalibrator(alpha=0.1, side="both").fit(masks[:40], y[:40])
    >>> inner, outer = both.predict(masks[40:])
    >>> bool(np.mean([(i <= t).all() and (t <= o).all() for i, t, o in zip(inner, y[40:], outer)]) > 0.8)
    True
    """

    _CONFIGURATION = Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = PARAMETERS
    _FORMAT = ("MarginCalibrator", 1)
    _ALIKE = ("side", "min_coverage", "max_background", "metric", "ignore_index")

    def __init__(
        self,
        alpha: float = 0.1,
        *,
        side: str = "outer",
        min_coverage: float = 1.0,
        max_background: float = 0.0,
        metric: str = "euclidean",
        method: Method | str = "crc",
        ignore_index: int | tuple[int, ...] | None = 255,
        on_empty: OnEmpty = "skip",
        on_infeasible: str = "raise",
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.alpha = alpha
        self.side = side
        self.min_coverage = min_coverage
        self.max_background = max_background
        self.metric = metric
        self.method = method
        self.ignore_index = ignore_index
        self.on_empty = on_empty
        self.on_infeasible = on_infeasible
        self.volumes = volumes
        self.progress = progress

    # Calibration

    def fit(
        self,
        masks: Any,
        y: Any = None,
        *,
        classes: int | Iterable[int] | None = None,
        spacing: Any = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Calibrates on images, and forgets those of earlier calls.

        Parameters
        ----------
        masks : bool or integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
            Predicted masks: true or 1 for the foreground. One volume is ``masks[None]``. Without `y`: an iterable of
            ``(mask, labels)`` pairs, one image each.
        y : bool or integer array like masks, or a list or iterable of arrays, one per image
            True masks: true or 1 for the foreground, `ignore_index` where the truth is unknown.
        classes : int, several ints, or None
            The classes of the foreground; the other classes are the background. `masks` and `y` are then label maps,
            here and in all later calls. For margins of each class by itself, calibrate once for each class.
        spacing : float, sequence of floats, array (n, 2) or (n, 3), iterable of sequences, or None
            The distance of neighbouring pixels along each axis of an image, for example in millimetres, in the order of
            the axes, (H, W) or (D, H, W). This is the reverse of SimpleITK's ``GetSpacing()``. Give one number for all
            axes, a sequence for all images, or a row for each image. The margin is then in this unit, and prediction
            needs the spacing too. None measures in pixels. "cityblock" and "chessboard" need the same spacing along all
            axes.
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
            If there are too few images, or no finite margin keeps alpha. The margins that the images need are kept:
            ``recalibrate(alpha=...)`` works.
        TypeError, ValueError
            If the input is not as described; the message names argument, image and value. The object is then unchanged.

        Warns
        -----
        DuplicateImagesWarning, DroppedImagesWarning, InfeasibleRiskWarning, SuspiciousLabelsWarning
            If an image comes twice; if one is left out because the loss is undefined on it; if no finite margin keeps
            alpha and ``on_infeasible="full"`` takes full masks; if the labels hardly belong to the masks.
        """
        configuration = self._told(classes, spacing)
        kept = self._read(masks, y, spacing, configuration, groups, sample_weight)
        return self._fit_kept(kept, configuration)

    def partial_fit(
        self,
        masks: Any,
        y: Any = None,
        *,
        classes: int | Iterable[int] | None = None,
        spacing: Any = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Adds images. The margin is computed when it is needed; an empty batch changes nothing.

        Parameters
        ----------
        masks, y, classes, spacing, groups, sample_weight
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
        configuration = self._told(classes, spacing)
        before = self._configuration_before(configuration, classes)
        if before is not None:
            configuration = replace(configuration, classes=before.classes)
        try:
            added = self._read(masks, y, spacing, configuration, groups, sample_weight)
        except NoImagesError:
            return self
        added.warn_of_repeats()
        self._add(added, configuration)
        return self

    def merge(self, other: Self) -> Self:
        """Adds the images of another calibrator, for example of another worker.

        Parameters
        ----------
        other : MarginCalibrator
            A calibrator that has seen images.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If `other` is of another class or the same object, has seen no images, or measures margins in another way.

        Warns
        -----
        DuplicateImagesWarning
            If `other` has images that were given here, too.
        """
        return self._merge(other)

    # Results

    @property
    def margin_(self) -> float:
        """The margin, if there is a single one."""
        solution = self._current()[1]
        if len(solution.margins) > 1:
            raise AttributeError("there are two margins: outer_margin_ and inner_margin_")
        return solution.margins[0]

    @property
    def outer_margin_(self) -> float:
        """The outer margin."""
        return self._margin("outer")

    @property
    def inner_margin_(self) -> float:
        """The inner margin."""
        return self._margin("inner")

    def _margin(self, side: str) -> float:
        solution = self._current()[1]
        found = solution.margin(side)
        if found is None:
            raise AttributeError(f"side={solution.configuration.side!r} has no {side} margin")
        return found

    @property
    def scores_(self) -> NDArray[np.float64]:
        """The margins that the calibration images need, (n,), or (n, 2) of both sides; NaN where undefined."""
        _, state = self._settled()
        scores = self._kept_of(state).scores
        found: NDArray[np.float64] = scores[:, 0].copy() if scores.shape[1] == 1 else scores.copy()
        return found

    # Prediction

    def predict(self, masks: Any, *, spacing: Any = None) -> Any:
        """The outer masks, or the inner ones, or both.

        Parameters
        ----------
        masks : bool or integer array (n, H, W) or (n, D, H, W), a list of (H, W), or an iterable of them
            Predicted masks, as for :meth:`fit`.
        spacing
            As for :meth:`fit`. It must be given if, and only if, it was given there.

        Returns
        -------
        bool array like masks; a list for a list, a generator for a generator
            Whether the pixel is in the mask. With ``side="both"`` the result is :class:`Margins` of the inner and the
            outer masks; for a list or a generator there is one for each image.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        TypeError, ValueError
            If masks or spacing are not as described.
        """
        configuration, solution = self._current()
        cut = {"outer": grown, "inner": shrunk}
        sides = [
            (cut[side], margin) for side, margin in zip(configuration.sides, solution.margins, strict=True)
        ]

        def masks_of(mask: NDArray[np.bool_], apart: NDArray[np.float64]) -> NDArray[np.bool_]:
            return np.stack([side(mask, margin, configuration.metric, apart) for side, margin in sides])

        found = self._map(masks, spacing, masks_of, configuration)
        if len(sides) == 1:
            return _each(found, masks, lambda both: both[:, 0], lambda both: both[0])
        return _each(
            found, masks, lambda both: Margins(both[:, 1], both[:, 0]), lambda both: Margins(both[1], both[0])
        )

    def predict_distance(self, masks: Any, *, spacing: Any = None) -> Any:
        """The signed distance of each pixel from the predicted contour, negative inside.

        Parameters
        ----------
        masks, spacing
            As for :meth:`predict`.

        Returns
        -------
        float64 array like masks; a list for a list, a generator for a generator
            For pixels outside the mask the distance to the nearest pixel inside; for pixels inside minus the distance
            to the nearest pixel outside; infinite if there is none. The outer mask holds the pixels with a distance of
            at most ``outer_margin_``, the inner mask those with a distance below ``-inner_margin_``.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`.
        """
        configuration, _ = self._current()

        def distances(mask: NDArray[np.bool_], apart: NDArray[np.float64]) -> NDArray[np.float64]:
            return signed_distances(mask, configuration.metric, apart)

        return self._map(masks, spacing, distances, configuration)

    def evaluate(
        self, masks: Any, y: Any = None, *, spacing: Any = None, groups: ArrayLike | None = None
    ) -> MarginReport:
        """Risk, coverage and the size of margins on labelled images, with an interval.

        Parameters
        ----------
        masks, y, spacing
            As for :meth:`fit`, but other images than the calibration images.
        groups : sequence of n ints or strings, or None
            The group of each image. The images of a group then count once, as in calibration.

        Returns
        -------
        MarginReport

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`, and for masks that do not fit.
        """
        configuration, solution = self._current()
        groups = check_groups(groups, count(masks))
        spacings = self._spacings(spacing, configuration)
        counts: list[list[int]] = []

        def counted() -> Any:
            for case in cases(masks, y, spacings, configuration):
                counts.append(pixel_counts(case, solution))
                yield case

        kept = Kept.of(counted(), groups, None, configuration)
        warn_of_groups(solution.grouped, kept.groups)
        if len(kept) > 1:  # an image alone may well have no object
            refuse_void_foreground(
                kept.n_foreground, kept.n_void, configuration.classes, configuration.ignore_index
            )
        kept.warn_of_labels()
        report = margin_report(kept, counts, solution, kept.groups)
        _warn_of_calibration_images(self._fitted().kept, kept)
        return report

    def score(
        self, masks: Any, y: Any = None, *, spacing: Any = None, groups: ArrayLike | None = None
    ) -> float:
        """The share of images whose margins are wide enough: one minus the empirical risk.

        Parameters
        ----------
        masks, y, spacing, groups
            As for :meth:`evaluate`.

        Returns
        -------
        float in [0, 1]
        """
        return 1.0 - self.evaluate(masks, y, spacing=spacing, groups=groups).empirical_risk

    # Files

    @classmethod
    def _solution_from_json(cls, document: dict[str, Any], configuration: Configuration) -> Solution:
        return solution_from_json(document, configuration)

    # Inside

    def _told(self, classes: Any, spacing: Any) -> Configuration:
        """The parameters, and the arguments of `fit` that belong to them."""
        configuration = self._configuration()
        return replace(
            configuration,
            classes=check_foreground_classes(classes, configuration.ignore_index),
            is_spaced=spacing is not None,
        )

    def _read(
        self,
        masks: Any,
        y: Any,
        spacing: Any,
        configuration: Configuration,
        groups: Any,
        sample_weight: Any,
    ) -> Kept:
        groups = check_groups(groups, count(masks))
        spacings = self._spacings(spacing, configuration)
        kept = Kept.of(cases(masks, y, spacings, configuration), groups, sample_weight, configuration)
        # Refuse now what would be refused later.
        configuration.method.check_units(kept.units(configuration.on_empty))
        if len(kept) > 1:
            refuse_void_foreground(
                kept.n_foreground, kept.n_void, configuration.classes, configuration.ignore_index
            )
        return kept

    def _spacings(self, spacing: Any, configuration: Configuration) -> Spacings:
        found = Spacings(spacing, isotropic=configuration.metric != "euclidean")
        if found.is_given and not configuration.is_spaced:
            raise ValueError(
                "spacing is given, but calibration was without: its margin is in pixels. Leave it out, or fit with it"
            )
        if configuration.is_spaced and not found.is_given:
            raise ValueError("spacing must be given: it was in calibration, and the margin is in its unit")
        return found

    def _refuse_others(self, before: Kept, added: Kept) -> None:
        super()._refuse_others(before, added)
        if before.configuration.is_spaced != added.configuration.is_spaced:
            known, other = ("with", "without") if before.configuration.is_spaced else ("without", "with")
            raise ValueError(f"the images before came {known} spacing, these {other}: margins have one unit")

    @staticmethod
    def _as_told(configuration: Configuration, known: Configuration) -> Configuration:
        check_foreground_classes(known.classes, configuration.ignore_index)
        return replace(configuration, classes=known.classes, is_spaced=known.is_spaced)

    def _solve(self, kept: Kept, configuration: Configuration) -> Solution:
        return solve(kept, self._as_told(configuration, kept.configuration))

    def _warn(self, kept: Kept, solution: Solution) -> None:
        warn(kept, solution)

    def _map(
        self,
        masks: Any,
        spacing: Any,
        kernel: Callable[[NDArray[np.bool_], NDArray[np.float64]], NDArray[Any]],
        configuration: Configuration,
    ) -> Any:
        """The results of a kernel for each mask and its spacing; refuses spacings that are left over at the end."""
        spacings = self._spacings(spacing, configuration)

        def of_batch(given: Any, first: int) -> NDArray[Any]:
            found = predicted(given, configuration, first)
            apart = spacings.next(len(found), found.ndim - 1)
            return np.stack([kernel(mask, each) for mask, each in zip(found, apart, strict=True)])

        found = map_images(masks, of_batch, configuration.progress, configuration.volumes, MASKS)
        return ended(found, spacings.check_end)


def _each(found: Any, masks: Any, of_array: Callable[[Any], Any], of_image: Callable[[Any], Any]) -> Any:
    """The result for all images together, or for each."""
    if is_whole(masks):
        return of_array(found)
    images = (of_image(each) for each in found)
    return list(images) if isinstance(masks, Sequence) else images


def _warn_of_calibration_images(calibration: Kept | None, evaluated: Kept) -> None:
    """Warns if images have exactly the masks of some calibration images."""
    if calibration is None:
        return
    compared = evaluated.hashes[evaluated.hashes > 0]
    n_known = int(np.isin(compared, calibration.hashes).sum())
    if n_known:
        warn_caller(
            f"these images seem to be those of calibration: {n_known} of {len(evaluated)} have the masks "
            f"and labels of one of them. Evaluate on other images: the risk on these tells nothing about "
            f"new images",
            UserWarning,
        )
