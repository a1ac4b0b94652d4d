"""Scenes larger than memory: rasters (K, H, W) that are read in bands of rows. Each scene is one image.

A scene is anything with a shape and slices, such as an array of zarr, h5py, xarray or Dask, or ``numpy.memmap``; or an
open dataset of rasterio, whose bands are the classes. A band of rows is read at a time, and the profiles of all bands
are joined to the profile of one image. Lambda-hat is therefore that of whole scenes, to the last bit. The unit of the
guarantee is the scene, not the band of rows: new scenes must be exchangeable with the calibration scenes.

Each band of rows is processed by itself: scores and scalers that look around a pixel, and thus beyond the border of a
band, are refused.

Large GeoTIFF files need ``pip install "conformask[geo]"``, and are never read as a whole::

    import rasterio
    from rasterio.windows import Window

    def scenes():
        for name in names:
            with rasterio.open(f"scores/{name}.tif") as X, rasterio.open(f"labels/{name}.tif") as y:
                yield X, y

    with rasterio.open(f"scores/{names[0]}.tif") as X:
        nodata = X.nodata  # None, a number, or NaN
    calibrator = rasters.fit(cm.ConformalRiskCalibrator(alpha=0.1), scenes(), nodata=nodata)

    with rasterio.open("new.tif") as X:
        profile = {**X.profile, "count": 1, "dtype": "uint16", "nodata": None}
        with rasterio.open("sizes.tif", "w", **profile) as out:
            for rows, sizes in rasters.predict(calibrator, X, nodata=nodata, what="set_size"):
                out.write(sizes, 1, window=Window(0, rows.start, X.width, len(sizes)))

If the scores of each class are in a file of their own, stack them lazily, with xarray or Dask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from conformask import _core
from conformask._arrays import ignored_labels, with_void
from conformask._images import NoImagesError, count, track
from conformask._known import holds_data
from conformask._tensors import to_array
from conformask._text import shown
from conformask._units import check_groups, check_sample_weight
from conformask._warnings import saying_once
from conformask.profiles import ScoreProfiles
from conformask.profiles.build import profiled
from conformask.scaling._scaler import Scaler
from conformask.scores import SACP, function_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from conformask.risk_control import ConformalRiskCalibrator
    from conformask.risk_control._solution import Configuration

__all__ = ["fit", "predict"]


def __dir__() -> list[str]:
    return sorted(__all__)


def fit(
    calibrator: ConformalRiskCalibrator,
    scenes: Iterable[Any],
    *,
    rows: int = 512,
    nodata: float | None = None,
    groups: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> ConformalRiskCalibrator:
    """Fits a calibrator on scenes that are read in bands of rows.

    Parameters
    ----------
    calibrator : ConformalRiskCalibrator
        It is fitted in place, and forgets the images of earlier fits. Its score and its scaler must look at each pixel
        alone, and it must keep exact profiles.
    scenes : iterable of pairs ``(X, y)``
        Scores (K, H, W) and labels (H, W) of each scene, as arrays, as stores that have a shape and slices, or as open
        datasets of rasterio (K bands, and one).
    rows : int >= 1, default=512
        How many rows are read at once.
    nodata : float or None, default=None
        The number that marks pixels without data in the scores of all classes; or NaN, in any class. Such pixels are
        void, whatever their label is; the calibrator then needs an `ignore_index`.
    groups : sequence of n ints or strings, or None
        The group of each scene: a group counts once.
    sample_weight : sequence of n floats >= 0, or None
        How much each scene counts.

    Returns
    -------
    ConformalRiskCalibrator
        The calibrator.

    Raises
    ------
    InfeasibleRiskError
        If there are too few scenes.
    TypeError, ValueError
        If the input is not as described; the message names the scene and the rows. Pixels in the message are counted
        from the first of these rows.

    Warns
    -----
    DuplicateImagesWarning, DroppedImagesWarning, InfeasibleRiskWarning, SuspiciousLabelsWarning
        As for :meth:`conformask.ConformalRiskCalibrator.fit`.

    See Also
    --------
    predict : Computes the sets of new scenes.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> from conformask import rasters
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(3), size=(20, 40, 30)).transpose(0, 3, 1, 2)
    >>> y = (X.cumsum(axis=1) < rng.random((20, 1, 40, 30))).sum(axis=1)  # labels drawn from the probabilities
    >>> X[:, :, 35:] = np.nan  # padding
    >>> fitted = rasters.fit(cm.ConformalRiskCalibrator(), zip(X, y), rows=16, nodata=np.nan)
    >>> y[:, 35:] = 255
    >>> fitted.lambda_hat_ == cm.ConformalRiskCalibrator().fit(X, y).lambda_hat_
    True
    >>> [band.shape for _, band in rasters.predict(fitted, X[0], rows=16, nodata=np.nan)]
    [(3, 16, 30), (3, 16, 30), (3, 8, 30)]
    """
    configuration = calibrator._configuration()
    _refuse_windows(configuration)
    if configuration.collected() is not None:
        raise ValueError("profile='binned' keeps no scene apart: rasters needs profile='exact'")
    rows = _checked_rows(rows)
    nodata = _checked_nodata(nodata)
    ignored = ignored_labels(configuration.ignore_index)
    if nodata is not None and not ignored:
        raise ValueError("nodata= makes pixels void: the calibrator needs an ignore_index")
    cores: list[_core.ExactProfile] = []
    said: set[str] = set()
    for index, scene in enumerate(track(scenes, configuration.progress, count(scenes), "scene")):
        if not isinstance(scene, tuple | list) or len(scene) != 2:
            raise TypeError(f"scenes must be pairs (X, y), scene {index} is {type(scene).__name__}")
        X, y = _opened(scene[0]), _opened(scene[1], labels=True)
        shape, given = _checked_shape(X, index), tuple(map(int, _shape_of(y, "y", index)))
        if given != shape[1:]:
            raise ValueError(f"y must have shape {shape[1:]} to match X in scene {index}, got {given}")
        parts = []
        for band in _bands(shape[1], rows):
            with _named(band, index), saying_once(said):
                scores, labels = _read(X[:, band], "X"), _read(y[band], "y")
                valid = None if nodata is None else holds_data(scores, nodata)
                if valid is not None:  # labels of nodata may be NaN
                    labels = with_void(labels, ~valid, ignored[0])
                part = profiled(
                    scores[np.newaxis],
                    labels[np.newaxis],
                    configuration.conformity_score,
                    inputs=configuration.given,
                    ignore_index=configuration.ignore_index,
                    grid=configuration.grid,
                    progress=False,
                    first_image=index,
                    valid=None if valid is None else valid[np.newaxis],
                )
            parts.append(cast("ScoreProfiles", part)._core)
        cores.append(_core.ExactProfile.concatenate(parts).joined())
    if not cores:
        raise NoImagesError("scenes is empty: it holds no scene")
    core, n = _core.ExactProfile.concatenate(cores), len(cores)
    weights = check_sample_weight(sample_weight, groups, n)
    profiles = ScoreProfiles(core, configuration.conformity_score, check_groups(groups, n), weights)
    profiles._warn_of_repeats()
    return calibrator._fit_profiles(profiles, configuration)


def predict(
    calibrator: ConformalRiskCalibrator,
    X: Any,
    *,
    rows: int = 512,
    nodata: float | None = None,
    what: Literal["masks", "set_size"] = "masks",
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """The sets of a scene, one band of rows at a time: each can be written before the next is read.

    Parameters
    ----------
    calibrator : ConformalRiskCalibrator
        A fitted calibrator (by :func:`fit` or in another way), with one lambda for all images or one for each class.
    X : array, store or open dataset of rasterio (K, H, W)
        Scores of one scene.
    rows : int >= 1, default=512
        How many rows are read at once.
    nodata : float or None, default=None
        As for :func:`fit`. The sets of such pixels are full.
    what : {"masks", "set_size"}, default="masks"
        The kind of result: ``calibrator.predict`` or ``calibrator.set_size`` of the band.

    Yields
    ------
    slice, bool array (K, rows, W) or uint16 array (rows, W)
        The rows, and their sets or set sizes.

    Raises
    ------
    sklearn.exceptions.NotFittedError, TypeError, ValueError
        As for :meth:`conformask.ConformalRiskCalibrator.predict`; the message names the rows.

    See Also
    --------
    fit : Calibrates on scenes that are read in bands.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(3), size=(20, 40, 30)).transpose(0, 3, 1, 2)
    >>> calibrator = cm.ConformalRiskCalibrator().fit(X, X.argmax(axis=1))
    >>> sizes = np.empty((40, 30), np.uint16)  # or a file
    >>> for band, found in cm.rasters.predict(calibrator, X[0], rows=16, what="set_size"):
    ...     sizes[band] = found
    >>> (sizes == calibrator.set_size(X[:1])[0]).all()
    np.True_
    """
    configuration, _ = calibrator._current()
    _refuse_windows(configuration)
    if what not in ("masks", "set_size"):
        raise ValueError(f"what must be 'masks' or 'set_size', got {shown(what)}")
    nodata = _checked_nodata(nodata)
    X = _opened(X)
    shape, rows = _checked_shape(X), _checked_rows(rows)
    find = calibrator.predict if what == "masks" else calibrator.set_size

    def found() -> Iterator[tuple[slice, NDArray[Any]]]:
        said: set[str] = set()
        for band in _bands(shape[1], rows):
            with _named(band), saying_once(said):
                scores = _read(X[:, band], "X")[np.newaxis]
                valid = None if nodata is None else holds_data(scores[0], nodata)[np.newaxis]
                sets = find(scores, valid=valid)[0]
            yield band, sets

    return found()


def _refuse_windows(configuration: Configuration) -> None:
    """Refuses scores, scalers and models that look at more than one pixel."""
    score, scaler = configuration.conformity_score, configuration.transform
    base = getattr(scaler, "scaler", scaler)
    if isinstance(score, SACP) or function_of(score) is not None:
        raise ValueError(
            f"conformity_score={score} may look around a pixel, beyond a band: take LAC, APS or RAPS"
        )
    if isinstance(base, Scaler) and base._looks_around(base._configuration()):
        raise ValueError(f"{type(base).__name__} looks around a pixel, beyond a band: take another scaler")
    if configuration.adaptive is not None:
        raise ValueError("a model of lambdas (adaptive=) looks at whole images, not at bands")


def _checked_rows(rows: object) -> int:
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer):
        raise TypeError(f"rows must be an int, got {shown(rows)}")
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    return int(rows)


def _checked_nodata(nodata: object) -> float | None:
    """A Python number, which NumPy compares with scores in the scores' own type."""
    is_number = isinstance(nodata, int | float | np.integer | np.floating) and not isinstance(nodata, bool)
    if nodata is not None and not is_number:
        raise TypeError(f"nodata must be a number, such as -9999 or np.nan, or None, got {shown(nodata)}")
    return None if nodata is None else float(cast("float", nodata))


@dataclass(frozen=True)
class _Dataset:
    """An open dataset of rasterio as a store (count, H, W), or (H, W) for labels."""

    dataset: Any
    labels: bool

    @property
    def shape(self) -> tuple[int, ...]:
        found = self.dataset
        flat = self.labels and found.count == 1
        return (found.height, found.width) if flat else (found.count, found.height, found.width)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        rows = index if self.labels else index[1]
        window = ((rows.start, rows.stop), (0, self.dataset.width))
        found: NDArray[Any] = self.dataset.read(1 if self.labels else None, window=window)
        return found


def _opened(values: Any, labels: bool = False) -> Any:
    """A dataset of rasterio, recognised by its methods, as a store; other values as they are."""
    is_dataset = callable(getattr(values, "read", None)) and hasattr(values, "count")
    return _Dataset(values, labels) if is_dataset and hasattr(values, "height") else values


def _shape_of(values: Any, name: str, index: int | None) -> tuple[Any, ...]:
    where = "" if index is None else f" in scene {index}"
    shape = getattr(values, "shape", None)
    if shape is None or not hasattr(values, "__getitem__"):
        raise TypeError(
            f"{name} must be an array or a store that has a shape and slices{where}, got {type(values).__name__}"
        )
    return tuple(shape)


def _checked_shape(X: Any, index: int | None = None) -> tuple[int, ...]:
    where = "" if index is None else f" in scene {index}"
    shape = _shape_of(X, "X", index)
    if len(shape) != 3:
        raise ValueError(f"X must have shape (K, H, W){where}, got {shape}")
    return tuple(map(int, shape))


def _bands(height: int, rows: int) -> Iterator[slice]:
    return (slice(first, min(first + rows, height)) for first in range(0, height, rows))


def _read(values: Any, name: str) -> NDArray[Any]:
    return np.asarray(to_array(values, name))


@contextmanager
def _named(band: slice, index: int | None = None) -> Iterator[None]:
    """Adds the rows, and the scene, to errors."""
    try:
        yield
    except (TypeError, ValueError) as error:
        of_scene = "" if index is None else f" of scene {index}"
        what = str(error).replace(_core.MISSING_HINT, "; where X has no data, pass nodata=np.nan")
        raise type(error)(f"in rows {band.start} to {band.stop - 1}{of_scene}: {what}") from error
