"""Profiles of images: one pass over their maps, or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import numpy as np

from conformask import _backend, _core
from conformask._agreement import warn_of_start
from conformask._arrays import check_ignore_index, check_inputs, warn_of_shares
from conformask._exact import check_lambda
from conformask._images import SCORES, Volumes, check_volumes, not_empty, walk
from conformask._known import Known
from conformask._sequences import listed
from conformask._transforms import (
    Inputs,
    checked_inputs,
    name_of,
    seen_by_scores,
    transform_of,
    warn_of_shared,
)
from conformask._units import check_groups, check_sample_weight
from conformask.losses import LossLike
from conformask.profiles.archive import Archive
from conformask.profiles.base import Profiles, read_archive
from conformask.profiles.binned import BinnedProfiles, check_collect, check_single_images
from conformask.profiles.exact import ScoreProfiles
from conformask.scores import (
    ConformityScore,
    ScoreLike,
    as_score,
    check_each_alone,
    function_of,
    lambda_max,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["checked_grid", "load_profiles", "profile", "profiled"]


_IMAGES_AT_ONCE = 16  # images that are profiled exactly before they go into bins


@overload
def profile(
    X: Any,
    y: Any = ...,
    conformity_score: ScoreLike = ...,
    *,
    inputs: str = ...,
    transform: Any = ...,
    ignore_index: int | tuple[int, ...] | None = ...,
    groups: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    activation: bool = ...,
    grid: ArrayLike | None = ...,
    collect: None = ...,
    volumes: Volumes = ...,
    progress: bool | str = ...,
    valid: Any = ...,
) -> ScoreProfiles: ...


@overload
def profile(
    X: Any,
    y: Any = ...,
    conformity_score: ScoreLike = ...,
    *,
    inputs: str = ...,
    transform: Any = ...,
    ignore_index: int | tuple[int, ...] | None = ...,
    groups: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    activation: bool = ...,
    grid: ArrayLike | None = ...,
    collect: Iterable[LossLike] | None,
    volumes: Volumes = ...,
    progress: bool | str = ...,
    valid: Any = ...,
) -> ScoreProfiles | BinnedProfiles: ...


def profile(
    X: Any,
    y: Any = None,
    conformity_score: ScoreLike = "lac",
    *,
    inputs: str = "probabilities",
    transform: Any = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    activation: bool = False,
    grid: ArrayLike | None = None,
    collect: Iterable[LossLike] | None = None,
    volumes: Volumes = "auto",
    progress: bool | str = "auto",
    valid: Any = None,
) -> ScoreProfiles | BinnedProfiles:
    """Profiles images in one pass over their maps.

    Parameters
    ----------
    X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64; or a list of (K, H, W); or an iterable
        Softmax probabilities, or numbers of the kind that `inputs` names. Without `y`: an iterable of
        ``(scores, labels)`` pairs, one image each.
    y : integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
        Labels.
    conformity_score : LAC, APS, RAPS, SACP, their names in lower case or a callable, default="lac"
        The score (a callable: see :class:`~conformask.ConformalRiskCalibrator`).
    inputs : {"probabilities", "logits", "scores"}, default="probabilities"
        What the numbers in X are: see :class:`~conformask.ConformalRiskCalibrator`.
    transform : fitted scaler or None, default=None
        A scaler that turns X into probabilities, as for :class:`~conformask.ConformalRiskCalibrator`.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, or several; it must not be a class.
    groups : sequence of n ints or strings, or None, default=None
        The group of each image (patient, sequence): a group counts once, with the mean of its losses.
    sample_weight : sequence of n floats >= 0, or None, default=None
        How much each image counts, fixed beforehand (see :class:`~conformask.ConformalRiskCalibrator`).
    activation : bool, default=False
        Whether to count the critical values of all classes in the same pass (40 kB per image, and about five times the
        time), so that :meth:`ScoreProfiles.activation` works.
    grid : sequence of lambdas in [0, lambda_max], or None, default=None
        Lambdas at which to count, in the same pass, how many labelled pixels have each class in their set (8 K bytes
        for each image and lambda). Losses that may rise with lambda (:class:`~conformask.PrecisionLoss`) are then known
        at these lambdas. Tensors on a GPU are copied to the CPU for this.
    collect : sequence of losses, or None, default=None
        None keeps exact profiles. With losses, profiles are binned: a few MB, however many images there are, for these
        losses alone (see :class:`BinnedProfiles`).
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (see :class:`~conformask.ConformalRiskCalibrator`).
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over images.
    valid : bool array (n, H, W) or (n, D, H, W), a sequence or an iterable of n, or None, default=None
        True where X holds data, as for :meth:`~conformask.ConformalRiskCalibrator.fit`: elsewhere pixels are void.

    Returns
    -------
    ScoreProfiles, or BinnedProfiles if `collect` is given
        Exact: 6 bytes per mispredicted pixel (float64 input: 10) and 8 K bytes per image.

    Raises
    ------
    TypeError, ValueError
        If the input is not as described; the message names argument, image and value.

    Warns
    -----
    DuplicateImagesWarning, SuspiciousLabelsWarning, UserWarning
        If the same image comes twice; if labels hardly belong to the scores; if numbers that are given as logits look
        like probabilities.

    See Also
    --------
    ScoreProfiles, BinnedProfiles : The objects that this function returns.
    ConformalRiskCalibrator : Keeps the profiles of its images as ``profiles_``.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> X = np.full((9, 2, 4, 4), 0.5)
    >>> y = np.ones((9, 4, 4), int)  # ties go to class 0: class 1 enters at 0.5
    >>> cm.profile(X, y).lambda_hat("miscoverage", alpha=0.1)
    0.5
    """
    profiles = profiled(
        X,
        y,
        conformity_score,
        inputs=checked_inputs(check_inputs(inputs), transform_of(transform)),
        ignore_index=ignore_index,
        groups=groups,
        sample_weight=sample_weight,
        activation=activation,
        grid=checked_grid(grid),
        collect=collect,
        volumes=volumes,
        progress=progress,
        valid=valid,
    )
    profiles._warn_of_repeats()
    warn_of_start(profiles._start(), profiles.conformity_score)
    return profiles


def profiled(
    X: Any,
    y: Any,
    conformity_score: ScoreLike,
    *,
    inputs: Inputs,
    ignore_index: int | tuple[int, ...] | None,
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    activation: bool = False,
    grid: NDArray[np.float64] | None = None,
    collect: Iterable[LossLike] | None = None,
    volumes: Volumes = "auto",
    progress: bool | str = "auto",
    first_image: int = 0,
    look: Callable[[Any, int], None] | None = None,
    strata: ArrayLike | None = None,
    valid: Any = None,
) -> ScoreProfiles | BinnedProfiles:
    """What :func:`profile` makes, of images that are a part of all: not a word about those that come twice.

    Errors count images from `first_image` on, the number of the first. `look` is called with the scores of each batch
    and the number of its first image.
    """
    score, index = as_score(conformity_score), check_ignore_index(ignore_index)
    transform = None if isinstance(inputs, str) else inputs
    known = frozenset() if transform is None else transform.known
    n_shared, where_data = 0, Known(valid, index, labelled=True)
    check_inputs(name_of(inputs))
    check_volumes(volumes)

    def exact_parts(at_once: int | None) -> Iterator[_core.ExactProfile]:
        nonlocal n_shared
        n_classes, function = None, function_of(score)
        waiting: list[Any] = []  # an image that waits to be checked in one array with another
        batches = walk(X, y, SCORES, progress, at_once=at_once, volumes=volumes)
        for scores, labels, place in not_empty(batches, "X"):
            first = first_image + place
            if n_classes is not None and n_classes != scores.shape[1]:
                raise ValueError(
                    f"X has K = {scores.shape[1]} classes in image {first}, but K = {n_classes} before"
                )
            scores, labels = where_data.fill_labelled(scores, labels, first)
            if function is not None and len(scores) == 1:
                seen = seen_by_scores(inputs, scores, first)
                if not waiting:
                    waiting.append(seen)
                elif waiting[0].shape == seen.shape:
                    check_each_alone(function, waiting.pop(), seen)
                    function = None
            if grid is not None and grid[-1] > (largest := lambda_max(score, scores.shape[1])):
                raise ValueError(
                    f"grid must lie in [0, {largest:g}], where {score} has its critical values, got {grid[-1]:g}"
                )
            part = _backend.profile(scores, labels, score, inputs, index, bool(activation), first, grid)
            if n_classes is None:
                warn_of_shares(scores[0], name_of(inputs))
            if transform is not None:
                hashes = transform.hashes(scores, labels, index, first)
                n_shared += sum(each in known for each in hashes)
            n_classes = part.n_classes
            if look is not None:
                look(scores, first)
            del scores, labels
            yield part
        where_data.check_end()

    if collect is not None:
        check_single_images(
            groups=groups,
            sample_weight=sample_weight,
            activation=activation or None,
            grid=grid,
            strata=strata,
        )
        binned = _binned(score, collect, exact_parts(_IMAGES_AT_ONCE))
        warn_of_shared(n_shared, len(binned))
        return binned
    parts = list(exact_parts(None))
    warn_of_shared(n_shared, sum(len(part) for part in parts))
    core = parts[0] if len(parts) == 1 else _core.ExactProfile.concatenate(parts)
    return ScoreProfiles(
        core,
        score,
        check_groups(groups, len(core)),
        check_sample_weight(sample_weight, groups, len(core)),
        strata=check_groups(strata, len(core), "strata"),
    )


def _binned(
    score: ConformityScore, collect: Iterable[LossLike], parts: Iterator[_core.ExactProfile]
) -> BinnedProfiles:
    losses = check_collect(collect)
    if not losses:
        raise ValueError("collect must name at least one loss")
    binned = None
    for part in parts:
        if binned is None:
            binned = BinnedProfiles._empty(score, part.n_classes, losses)
        binned._add(part)
    assert binned is not None, "no part is refused before"
    return binned


def checked_grid(grid: object) -> NDArray[np.float64] | None:
    """Lambdas to count at, ascending; the kernel checks that they lie within the score's."""
    if grid is None:
        return None
    lambdas = np.unique(np.array([check_lambda(lam) for lam in listed(grid, "grid")], np.float64))
    if not len(lambdas):
        raise ValueError("grid must hold at least one lambda")
    return lambdas


def load_profiles(path: Path | BinaryIO) -> Profiles:
    """Reads the profiles that ``save`` wrote, exact or binned. Nothing in the file is executed.

    Parameters
    ----------
    path : path or binary file
        The ``.npz`` file, or an open file that can seek.

    Returns
    -------
    ScoreProfiles or BinnedProfiles
        As they were saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, foreign, or of a newer version.

    See Also
    --------
    conformask.profile : Makes profiles of images.
    conformask.ConformalRiskCalibrator.load : Reads a calibrator, with the profiles beside it.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(30, 8, 8)).transpose(0, 3, 1, 2)
    >>> profiles = cm.profile(X, X.argmax(axis=1))
    >>> file = io.BytesIO()
    >>> profiles.save(file)
    >>> _ = file.seek(0)
    >>> len(cm.profiles.load_profiles(file))
    30
    """

    def make(archive: Archive) -> Profiles:
        kind = BinnedProfiles if "kind" in archive else ScoreProfiles
        return kind._from_archive(archive)

    return read_archive(path, make)
