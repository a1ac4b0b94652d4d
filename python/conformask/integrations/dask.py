"""Distributed calibration: the workers of Dask make profiles, which are merged in a tree.

It needs Dask (``pip install "conformask[dask]"``). Score maps stay where they are; only profiles are sent: some
kilobytes to megabytes for each block (``profile="binned"``: 1 MB for each loss, however many images there are). The
result is bit for bit that of a single process.

Each worker runs the kernels on threads of its own. If several workers share a machine, give each its share of the
cores, for example ``CONFORMASK_NUM_THREADS=1`` in their environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

try:
    import dask.array as da
    from dask.base import compute
    from dask.delayed import Delayed, delayed
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs Dask: pip install "conformask[dask]"') from error

from conformask._arrays import check_inputs
from conformask._transforms import checked_inputs, transform_of
from conformask.profiles import Profiles, ScoreProfiles
from conformask.profiles.binned import check_single_images
from conformask.profiles.build import checked_grid, profiled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from conformask.losses import LossLike
    from conformask.risk_control import ConformalRiskCalibrator
    from conformask.scores import ScoreLike

__all__ = ["fit", "profile"]


def __dir__() -> list[str]:
    return sorted(__all__)


_FAN_IN = 8  # profiles that one task merges


def fit(
    calibrator: ConformalRiskCalibrator,
    X: da.Array | Iterable[Any],
    y: da.Array | None = None,
    *,
    groups: Any = None,
    strata: Any = None,
    sample_weight: Any = None,
) -> ConformalRiskCalibrator:
    """Fits a calibrator on blocks of images, which may be on several machines.

    Parameters
    ----------
    calibrator : ConformalRiskCalibrator
        It is fitted in place, and forgets the images of earlier fits.
    X : dask array (n, K, H, W) or (n, K, D, H, W), or an iterable of delayed blocks
        Scores. Blocks without images are skipped. Without `y`: delayed ``(scores, labels)`` pairs of arrays
        ``(n_i, K, H, W)`` and ``(n_i, H, W)``.
    y : dask array (n, H, W) or (n, D, H, W), or None
        Labels.
    groups, strata, sample_weight : array or dask array (n,), or None
        As for :meth:`conformask.ConformalRiskCalibrator.fit`, in the order of the blocks.

    Returns
    -------
    ConformalRiskCalibrator
        The calibrator.

    Raises
    ------
    InfeasibleRiskError
        If there are too few images.
    TypeError, ValueError
        As for :meth:`conformask.ConformalRiskCalibrator.fit`; the message names the block, and the index of the image
        among all images.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import conformask as cm
    >>> from conformask.integrations.dask import fit
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(4), size=(40, 8, 8)).transpose(0, 3, 1, 2)
    >>> y = X.argmax(axis=1)
    >>> fitted = fit(cm.ConformalRiskCalibrator(), da.from_array(X, chunks=(10, -1, -1, -1)), da.from_array(y))
    >>> fitted.lambda_hat_ == cm.ConformalRiskCalibrator().fit(X, y).lambda_hat_
    True
    """
    configuration = calibrator._configuration()
    if configuration.adaptive is not None:
        raise ValueError(
            "lambdas of a model (adaptive=) are not found on a cluster: fit on arrays, and merge"
        )
    profiles = profile(
        X,
        y,
        configuration.conformity_score,
        inputs=configuration.inputs,
        transform=configuration.transform,
        ignore_index=configuration.ignore_index,
        groups=groups,
        sample_weight=sample_weight,
        grid=configuration.grid,
        collect=configuration.collected(),
    )
    if strata is not None:
        check_single_images(strata=None if isinstance(profiles, ScoreProfiles) else strata)
        assert isinstance(profiles, ScoreProfiles)
        [names] = compute(strata)
        profiles = profiles._counting(profiles._groups, profiles._sample_weight, names)
    return calibrator._fit_profiles(profiles, configuration)


def profile(
    X: da.Array | Iterable[Any],
    y: da.Array | None = None,
    conformity_score: ScoreLike = "lac",
    *,
    inputs: str = "probabilities",
    transform: Any = None,
    ignore_index: int | tuple[int, ...] | None = 255,
    groups: Any = None,
    sample_weight: Any = None,
    grid: ArrayLike | None = None,
    collect: Iterable[LossLike] | None = None,
) -> Profiles:
    """Profiles blocks of images on the workers, and merges the profiles in a tree, in the order of the images.

    Parameters
    ----------
    X, y
        As for :func:`fit`.
    conformity_score, inputs, transform, ignore_index, grid, collect
        As for :func:`conformask.profile`.
    groups, sample_weight : array or dask array (n,), or None
        As for :func:`conformask.profile`, in the order of the blocks.

    Returns
    -------
    ScoreProfiles, or BinnedProfiles if `collect` is given

    Raises
    ------
    TypeError, ValueError
        As for :func:`conformask.profile`; the message names the block, and the index of the image among all images.

    Warns
    -----
    DuplicateImagesWarning
        If the same image comes twice, in one block or in two.

    Examples
    --------
    >>> import dask
    >>> import numpy as np
    >>> from conformask.integrations.dask import profile
    >>> X, y = np.full((9, 2, 4, 4), 0.5), np.ones((9, 4, 4), int)
    >>> blocks = [dask.delayed((X[i : i + 3], y[i : i + 3])) for i in (0, 3, 6)]
    >>> profile(blocks).lambda_hat("miscoverage", alpha=0.1)
    0.5
    """
    if collect is not None:
        check_single_images(groups=groups, sample_weight=sample_weight)
    options = {
        "conformity_score": conformity_score,
        "inputs": checked_inputs(check_inputs(inputs), transform_of(transform)),
        "ignore_index": ignore_index,
        "grid": checked_grid(grid),
        "collect": None if collect is None else list(collect),
        "progress": False,
    }
    parts = [
        delayed(_profile_block)(block, index, first, options)
        for index, (block, first) in enumerate(_blocks(X, y))
    ]
    if not parts:
        raise ValueError("X is empty: it holds no block")
    while len(parts) > 1:
        parts = [delayed(_merge)(parts[i : i + _FAN_IN]) for i in range(0, len(parts), _FAN_IN)]
    merged, groups, sample_weight = compute(parts[0], groups, sample_weight)
    if merged is None:
        raise ValueError("X is empty: it holds no image")
    assert isinstance(merged, Profiles)
    found: Profiles = merged
    if isinstance(merged, ScoreProfiles):
        found = merged._counting(groups, sample_weight)
    found._warn_of_repeats()  # here, because warnings of workers are not shown
    return found


def _blocks(X: Any, y: Any) -> list[tuple[Any, int | None]]:
    """Delayed pairs of scores and labels, with the index of their first image, if it is known."""
    if not isinstance(X, da.Array):
        if y is not None:
            raise TypeError(f"y goes with a dask array X; X is {type(X).__name__}: let its blocks be pairs")
        blocks = list(X)
        for block in blocks:
            if not isinstance(block, Delayed):
                raise TypeError(f"X must hold delayed (scores, labels) pairs, got {type(block).__name__}")
        return [(block, None) for block in blocks]
    if not isinstance(y, da.Array):
        raise TypeError(f"y must be a dask array like X, got {type(y).__name__}")
    expected = X.shape[:1] + X.shape[2:]
    if X.ndim not in (4, 5) or not _fit(y.shape, expected):
        raise ValueError(f"y must have shape {expected} to match X {X.shape}, got {y.shape}")
    # Blocks must hold whole images: they are cut along n only.
    X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
    y = y.rechunk({0: X.chunks[0], **dict.fromkeys(range(1, y.ndim), -1)})
    firsts = np.cumsum([0, *X.chunks[0][:-1]])
    pairs = zip(X.to_delayed().ravel(), y.to_delayed().ravel(), strict=True)
    return [
        (pair, None if np.isnan(first) else int(first)) for pair, first in zip(pairs, firsts, strict=True)
    ]


def _fit(shape: tuple[float, ...], expected: tuple[float, ...]) -> bool:
    """Whether shapes agree where both are known."""
    if len(shape) != len(expected):
        return False
    return all(np.isnan(a) or np.isnan(b) or a == b for a, b in zip(shape, expected, strict=True))


def _profile_block(block: Any, index: int, first: int | None, options: dict[str, Any]) -> Profiles | None:
    """Profiles of a block; None for a block without images, which filters may leave."""
    if not isinstance(block, tuple | list) or len(block) != 2:
        raise TypeError(f"block {index} must be a (scores, labels) pair, got {type(block).__name__}")
    try:
        scores, labels = np.asanyarray(block[0]), np.asanyarray(block[1])
        if scores.shape[:1] == labels.shape[:1] == (0,):
            return None
        found: Profiles = profiled(scores, labels, first_image=first or 0, **options)
        return found
    except (TypeError, ValueError) as error:
        place = f"in block {index}" + (", from whose first image it is counted" if first is None else "")
        raise type(error)(f"{error} ({place})") from error


def _merge(parts: Sequence[Profiles | None]) -> Profiles | None:
    known = [part for part in parts if part is not None]
    return type(known[0])._joined(known) if known else None
