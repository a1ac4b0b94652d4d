"""The common part of all scalers: they draw pixels of images, fit a linear map, and give probabilities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformask import _core
from conformask._arrays import check_ignore_index, label_array, score_array, warn_of_shares
from conformask._blas import one_blas_thread
from conformask._calibrator import (
    Calibrator,
    Parameter,
    State,
    number,
    one_of,
    shown_value,
    warn_skipped,
    whole,
)
from conformask._exact import as_fraction
from conformask._images import NoImagesError, Volumes, axes_hint, map_images
from conformask._transforms import ScoreTransform, Transformer, refuse_coarse
from conformask._units import known_units
from conformask._warnings import warn_caller
from conformask.exceptions import SharedImagesWarning
from conformask.metrics.probabilities import negative_log_likelihood
from conformask.scaling._features import as_image
from conformask.scaling._fitted import Fitted, Shapes, Told, read_fitted
from conformask.scaling._pixels import PixelSample, draw
from conformask.scaling._temperature import warn_unbounded

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

__all__ = ["PARAMETERS", "Configuration", "Scaler", "penalty_weight"]

# The most classes that a warning names.
_MOST_NAMED = 5

PARAMETERS: Mapping[str, Parameter] = {
    "inputs": one_of("inputs", "logits", "probabilities", stale="images"),
    "ignore_index": Parameter(check_ignore_index, stale="images"),
    "n_pixels": whole("n_pixels", 1, 2**40, stale="images", hint="2**40 takes all"),
    "random_state": whole("random_state", 0, 2**64 - 1, stale="images"),
    "volumes": one_of("volumes", True, False, "auto"),
    "progress": one_of("progress", True, False, "auto"),
}


def penalty_weight(name: str) -> Parameter:
    """A parameter that weighs a penalty."""

    def check(value: object) -> float:
        if as_fraction(value, name) < 0:
            raise ValueError(f"{name} must be at least 0, got {value!r}")
        return float(as_fraction(value, name))

    return number(name, check, stale="result")


@dataclass(frozen=True)
class Configuration:
    """The parameters, resolved."""

    inputs: str
    ignore_index: int | tuple[int, ...] | None
    n_pixels: int
    random_state: int
    volumes: Volumes
    progress: bool | str


class Scaler(Calibrator[Any, PixelSample, Fitted], Transformer):
    """A map from logits to calibrated probabilities."""

    inputs: str
    ignore_index: int | tuple[int, ...] | None
    n_pixels: int
    random_state: int
    volumes: Volumes
    progress: bool | str

    _KIND = "scaler"
    _IS_CENTRED = False  # whether the map takes the logarithms of the softmax, not logits
    _TOLD: ClassVar[Told] = {}  # the results in `Fitted.more`
    _NOTHING_KEPT = "a scaler that was loaded has no pixels: fit again"

    # Fit

    def fit(self, X: Any, y: Any = None, *, groups: ArrayLike | None = None) -> Self:
        """Fits the map to images, and forgets those of earlier calls.

        Parameters
        ----------
        X : array (n, K, H, W) or (n, K, D, H, W), float16, float32 or float64; or a list of (K, H, W); or an iterable
            Logits, or the numbers that `inputs` names, of images that the model was not trained on. Without `y`: an
            iterable of ``(scores, labels)`` pairs, one image each. Numbers must be finite: a class that is masked out
            gets a large negative logit such as -1e4, not minus infinity.
        y : integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
            Labels.
        groups : sequence of n ints or strings, or None
            The group of each image. Standard errors are then computed over groups, whose images may be alike.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If the input is not as described; the message names argument, image and value. The object is then unchanged.
            Only the numbers of drawn pixels are checked: NaN elsewhere in X is not noticed, except by scalers that look
            at the surroundings of pixels.

        Warns
        -----
        DroppedImagesWarning, DuplicateImagesWarning
            If images have no labelled pixel; if images come twice.
        UserWarning
            If numbers that are given as logits look like probabilities or other scores; if the likelihood still rises
            at the end of the range of temperatures; if no drawn pixel has a class for which the map has parameters of
            its own: the map makes such a class less probable everywhere.
        """
        configuration = self._configuration()
        return self._fit_sample(self._draw(X, y, groups, configuration), configuration)

    def _fit_sample(self, sample: PixelSample, configuration: Any) -> Self:
        fitted = self._solve(sample, configuration)
        self._update(lambda _: State(sample, fitted, read=configuration))
        sample.warn_of_repeats()
        self._warn(sample, fitted)
        return self

    def partial_fit(self, X: Any, y: Any = None, *, groups: ArrayLike | None = None) -> Self:
        """Adds images. The map is fitted when it is needed; an empty batch changes nothing.

        Parameters
        ----------
        X, y, groups
            As for :meth:`fit`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As for :meth:`fit`; the images of earlier calls are kept.

        Warns
        -----
        DuplicateImagesWarning
            If images come twice, or were given in an earlier call.
        """
        configuration = self._configuration()
        try:
            sample = self._draw(X, y, groups, configuration)
        except NoImagesError:
            return self
        return self._add(sample, configuration)

    def merge(self, other: Self) -> Self:
        """Adds the images of another scaler, for example of another worker. The map is that of one fit to all images.

        Parameters
        ----------
        other : scaler of the same kind
            A scaler that has seen images and draws pixels in the same way. Parameters that only concern the fit, such
            as a penalty, may differ: those of this scaler are used.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If `other` is of another class or the same object, or if K or a parameter that concerns the drawn pixels
            differs.

        Warns
        -----
        DuplicateImagesWarning
            If `other` has images that were given here, too.
        """
        self._refuse_to_merge(other)
        configuration, state = self._configuration(), other._fitted()
        for name in self._stale("images", state.read_with, configuration):
            there = shown_value(getattr(state.read_with, name))
            raise ValueError(f"{name} differs: {getattr(self, name)!r} here, {there} there")
        if state.kept is None:
            raise ValueError(f"other has no pixels: {self._NOTHING_KEPT}")
        return self._add(state.kept, configuration, looked_at=True)

    def _draw(self, X: Any, y: Any, groups: ArrayLike | None, configuration: Any) -> PixelSample:
        return draw(
            X,
            y,
            inputs=configuration.inputs,
            ignore_index=configuration.ignore_index,
            n_pixels=configuration.n_pixels,
            seed=configuration.random_state,
            groups=groups,
            volumes=configuration.volumes,
            progress=configuration.progress,
            around=self._looks_around(configuration),
        )

    def _looks_around(self, configuration: Any) -> bool:
        """Whether a fit uses features of the surroundings of pixels."""
        return False

    def _knows_classes(self, configuration: Any) -> bool:
        """Whether a fit finds numbers for each class, which need labels of that class."""
        return False

    def _add(self, sample: PixelSample, configuration: Any, *, looked_at: bool = False) -> Self:
        def add(state: State[PixelSample, Fitted] | None) -> State[PixelSample, Fitted]:
            joined, n_before = sample, 0
            if state is not None:
                if state.kept is None:
                    raise ValueError(self._NOTHING_KEPT)
                self._check_images(state.read_with, configuration)
                joined, n_before = state.kept.merge(sample), len(state.kept.images)
            joined.warn_of_repeats(
                n_before, looked_at=looked_at
            )  # before anything has changed: it may be an error
            return State(joined, read=configuration)

        self._update(add)
        return self

    def _solve(self, kept: PixelSample, configuration: Any) -> Fitted:
        if not kept.images:
            raise ValueError(
                f"none of {kept.n_skipped} images has a labelled pixel: nothing can be fitted; check ignore_index"
            )
        hashes = frozenset(image.hash for image in kept.images) - {0}
        with one_blas_thread():
            found = self._find(kept, configuration)
        return replace(found, hashes=hashes)

    @abstractmethod
    def _find(self, kept: PixelSample, configuration: Any) -> Fitted:
        """The map with the least loss."""

    def _warn(self, kept: PixelSample, solution: Fitted) -> None:
        n_seen = len(kept.images) + kept.n_skipped
        counted = np.arange(n_seen) < len(kept.images)
        warn_skipped(kept.n_skipped, n_seen, known_units(counted, None, None), "{} have no labelled pixel")
        kept.warn_of_unrelated()
        base = getattr(solution, "base", None)  # the scaler that it builds on
        for which, found in {"": solution, " of its base": base and base._current()[1]}.items():
            if found is not None and found.more.get("unbounded"):
                warn_unbounded(found.more["temperature"], which)
        if self._knows_classes(solution.configuration):
            _warn_of_absent(kept.absent_classes())

    # Use

    def transform(self, X: Any) -> Any:
        """Calibrated probabilities.

        Parameters
        ----------
        X : array (n, K, H, W) or (n, K, D, H, W), a list of (K, H, W), or an iterable of them
            As for :meth:`fit`, without labels.

        Returns
        -------
        array like X, float32, or float64 for float64; a list for a list, a generator for a generator
            Probabilities, which sum to 1 over the classes.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        TypeError, ValueError
            If X is not as described, or K differs from the fit. Since there are no labels, every pixel is checked.

        Warns
        -----
        UserWarning
            If numbers that are given as logits look like probabilities or other scores in [0, 1].
        """
        return self._made(X, warns=True)

    def _made(self, X: Any, *, warns: bool) -> Any:
        configuration, transform = self._current()[0], self._transform()

        def probabilities(maps: Any, first: int) -> Any:
            found = transform.probabilities(maps, first)
            if warns and first == 0:
                warn_of_shares(maps[0], configuration.inputs)
            return found

        return map_images(X, probabilities, configuration.progress, configuration.volumes)

    def fit_transform(self, X: Any, y: Any = None, *, groups: ArrayLike | None = None) -> Any:
        """:meth:`fit`, then :meth:`transform` of the same images. Those of new images are usually worse than these.

        Parameters
        ----------
        X, y, groups
            As for :meth:`fit`.

        Returns
        -------
        array like X

        Warns
        -----
        SharedImagesWarning
            Always: a calibrator behind the scaler, for example in a pipeline, needs other images.
        """
        probabilities = self.fit(X, y, groups=groups)._made(X, warns=False)  # fit does
        warn_caller(
            "these are the probabilities of the images that the scaler was fitted to, which are better than those of "
            "new images. Give a calibrator others: in a pipeline let FrozenEstimator(scaler) hold a fitted scaler",
            SharedImagesWarning,
        )
        return probabilities

    def score(self, X: Any, y: Any = None) -> float:
        """The mean log-likelihood of the labelled pixels, which scikit-learn's parameter searches maximise.

        Parameters
        ----------
        X, y
            As for :meth:`fit`, but images that the scaler has not seen.

        Returns
        -------
        float, at most 0
            Mean over pixels of the logarithm of the label's probability.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        TypeError, ValueError
            If the input is not as described.
        """
        configuration = self._current()[0]
        loss = negative_log_likelihood(
            y,
            X,
            inputs=configuration.inputs,
            transform=self,
            ignore_index=configuration.ignore_index,
            volumes=configuration.volumes,
        )
        return -float(loss)

    def _kernel(
        self, configuration: Any, fitted: Fitted, scores: NDArray[Any], first: int
    ) -> _core.ScalerMap:
        """The map for a batch (n, K, ...); errors call its first image `first`."""
        centred = getattr(configuration, "center", self._IS_CENTRED)
        return _core.ScalerMap.affine(
            fitted.weight, fitted.bias, centred, configuration.inputs == "probabilities"
        )

    def _logits(self, kept: PixelSample, configuration: Any, fitted: Fitted) -> NDArray[np.float64]:
        """The logits (K, N) of the drawn pixels, up to a constant for each pixel."""
        image = as_image(kept.values().astype(np.float64))
        out = np.empty(image.shape)
        _core.probabilities(image, self._kernel(configuration, fitted, image, 0), out, 0)
        return np.log(np.maximum(out[0, :, 0], np.finfo(np.float64).tiny))

    @property
    def _keeps_prediction(self) -> bool:
        """Whether the most probable class of each pixel does not change."""
        return True

    # Results

    def _told(self, name: str) -> Any:
        return self._current()[1].more[name]

    @property
    def nll_(self) -> float:
        """Mean negative log-likelihood (natural logarithm) of the labelled pixels that were drawn."""
        return self._current()[1].nll

    @property
    def nll_before_(self) -> float:
        """The same for the softmax without a scaler."""
        return self._current()[1].nll_before

    @property
    def n_images_(self) -> int:
        """Number of images with labelled pixels."""
        return self._current()[1].n_images

    @property
    def n_skipped_(self) -> int:
        """Number of images that were left out because they have no labelled pixel."""
        return self._current()[1].n_skipped

    @property
    def n_classes_(self) -> int:
        """The number of classes K."""
        return self._current()[1].n_classes

    # Files

    def save(self, path: str | Path) -> None:
        """Writes parameters and the map to a JSON file.

        Parameters
        ----------
        path : path
            The file. A new file is written and then renamed, so that `path` never holds a part of it.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        """
        self._save(path)

    @classmethod
    def _solution_from_json(cls, document: dict[str, Any], configuration: Any) -> Fitted:
        found = read_fitted(
            document["results"], lambda k: cls._map_shapes(k, configuration), cls._TOLD, configuration
        )
        cls._check(found)
        return found

    @classmethod
    @abstractmethod
    def _map_shapes(cls, n_classes: int, configuration: Any) -> Shapes:
        """The shapes of weight and bias."""

    @classmethod
    def _check(cls, found: Fitted) -> None:
        """Refuses numbers from a file that do not belong together."""

    # In front of a score

    def _transform(self) -> ScoreTransform:
        configuration, fitted = self._current()
        alone = type(self)(**self.get_params(deep=False))
        alone._update(lambda _: State(None, fitted))
        return _FittedScaler(alone, configuration, fitted)

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> Self:
        scaler, fitted = cls._from_content(document)
        scaler._update(lambda _: State(None, fitted))
        return scaler


def _warn_of_absent(classes: list[int]) -> None:
    """Warns of classes without labels, and says what the map does to them."""
    if not classes:
        return
    named = ", ".join(map(str, classes[:_MOST_NAMED]))
    if len(classes) > _MOST_NAMED:
        named += f" and {len(classes) - _MOST_NAMED} more"
    noun, them = ("class", "it") if len(classes) == 1 else ("classes", "them")
    warn_caller(
        f"none of the drawn pixels is labelled with {noun} {named}: the map makes {them} less probable everywhere, "
        f"also in new images that hold {them}. Fit to images that hold all classes, or use TemperatureScaler",
        UserWarning,
    )


@dataclass(frozen=True, eq=False, repr=False)
class _FittedScaler(ScoreTransform):
    """A fitted scaler as an immutable copy."""

    scaler: Scaler
    configuration: Any
    fitted: Fitted

    @property
    def inputs(self) -> str:  # type: ignore[override]
        name: str = self.configuration.inputs
        return name

    @property
    def known(self) -> frozenset[int]:
        base = getattr(self.fitted, "base", None)  # the scaler that it builds on
        return self.fitted.hashes | (frozenset() if base is None else base._transform().known)

    def kernel(self, maps: Any, first: int) -> _core.ScalerMap:
        refuse_coarse(maps, self.inputs)
        array = score_array(maps)
        check_classes(array, self.fitted.n_classes)
        return self.scaler._kernel(self.configuration, self.fitted, array, first)

    def probabilities(self, maps: Any, first: int) -> NDArray[Any]:
        refuse_coarse(maps, self.inputs)
        array = score_array(maps)
        out = np.empty(array.shape, np.float64 if array.dtype == np.float64 else np.float32)
        _core.probabilities(array, self.kernel(array, first), out, first)
        return out

    def hashes(
        self, maps: Any, labels: Any, ignore_index: int | tuple[int, ...] | None, first: int
    ) -> list[int]:
        if ignore_index != self.configuration.ignore_index:
            return []
        found = _core.draw_pixels(score_array(maps), label_array(labels), ignore_index, 0, 0, first)
        return [label_hash for _, _, _, label_hash, _ in found]

    def to_json(self) -> dict[str, Any]:
        kind, version = self.scaler._FORMAT
        return {"kind": kind, "format_version": version, **self.scaler._content(self.scaler._fitted())}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _FittedScaler):
            return NotImplemented
        return self.fitted is other.fitted or self.to_json() == other.to_json()

    def __repr__(self) -> str:
        return repr(self.scaler)

    def __hash__(self) -> int:
        return hash((type(self.scaler), self.fitted.n_classes, self.fitted.nll))


def check_classes(maps: Any, n_classes: int) -> None:
    """Refuses maps with another K than in the fit."""
    if maps.ndim in (4, 5) and maps.shape[1] != n_classes:
        hint = axes_hint(tuple(maps.shape), n_classes)
        raise ValueError(
            f"X has K = {maps.shape[1]} classes, but the scaler was fitted with K = {n_classes}{hint}"
        )
