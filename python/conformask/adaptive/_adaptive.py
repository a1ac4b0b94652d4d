"""Calibrators with a threshold for each image: one part of the images trains a model, the other part corrects it."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from conformask import _core
from conformask._calibrator import Parameter, State, number, one_of, own_model, whole
from conformask._exact import as_fraction
from conformask._image_models import Images, are_same
from conformask._images import NoImagesError, count, in_memory, is_whole, walk
from conformask._text import plural
from conformask._warnings import warn_caller
from conformask.adaptive._calibrator import OTHER_MODEL, PROBABILITIES, BinaryCalibrator, check_foreground
from conformask.adaptive._kept import Kept
from conformask.adaptive._network import Network
from conformask.adaptive._predictors import (
    N_FEATURES,
    FeatureModel,
    LightPredictor,
    can_fit,
    check_predictor,
    features_of,
    thresholds_of,
)
from conformask.adaptive._scale import SCALES, Scale
from conformask.adaptive._settings import PARAMETERS, Configuration
from conformask.adaptive._solution import Solution, solution_from_json
from conformask.exceptions import DuplicateImagesWarning, InfeasibleRiskError

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from conformask.adaptive.report import BinaryReport

__all__ = ["ADAPTIVE", "AdaptiveCalibrator", "AdaptiveConfiguration"]

# The least number of images that a model is trained on.
_FEWEST = 2


def _check_fraction(value: Any) -> Fraction:
    fraction = as_fraction(value, "train_fraction")
    if not 0 < fraction < 1:
        raise ValueError(f"train_fraction must be in (0, 1), got {value!r}")
    return fraction


_PREDICTOR = own_model("a predictor of your own", check_predictor)

ADAPTIVE: Mapping[str, Parameter] = {
    "alpha": PARAMETERS["alpha"]._replace(stale="images"),
    "predictor": _PREDICTOR,
    "train_fraction": number("train_fraction", _check_fraction, stale="images"),
    "scale": one_of("scale", *SCALES, stale="images"),
    "random_state": whole("random_state", 0, 2**63 - 1, stale="images"),
    **{name: each for name, each in PARAMETERS.items() if name != "alpha"},
}


@dataclass(frozen=True, kw_only=True)
class AdaptiveConfiguration(Configuration):
    """The parameters, resolved."""

    train_fraction: Fraction
    scale: str
    random_state: int
    predictor: Any = None
    embedding: Any = None

    @property
    def is_adaptive(self) -> bool:
        """True: images have thresholds of their own."""
        return True

    @property
    def numbers(self) -> Scale:
        return SCALES[self.scale]

    @property
    def trains(self) -> bool:
        """Whether some of the images train the model."""
        return self.predictor is None or can_fit(self.predictor)

    def model_from_json(self, document: dict[str, Any]) -> FeatureModel:
        """The inverse of the light model's ``to_json``; refuses anything else."""
        return Network.from_json(document, N_FEATURES)


A = TypeVar("A", bound=AdaptiveConfiguration)


class AdaptiveCalibrator(BinaryCalibrator[A]):
    """A calibrator that corrects the thresholds that a model predicts for images."""

    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = ADAPTIVE
    _NOTHING_KEPT = "nothing was kept of the images: fit again"
    _ALIKE: ClassVar[tuple[str, ...]] = ("risk", "ignore_index", "scale")

    @abstractmethod
    def _train(self, kept: Kept, features: NDArray[np.float64], configuration: A) -> FeatureModel:
        """Trains the light model on images that have a foreground."""

    # Calibration

    def fit(
        self,
        P: Any,
        y: Any = None,
        *,
        images: Any = None,
        classes: int | Iterable[int] | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Trains the model of thresholds on a part of the images, and corrects it on the others.

        If the model is a function, it is trained already, and all images are used for the correction.

        Parameters
        ----------
        P : array (n, H, W) or (n, D, H, W), float16, float32 or float64; or a list of (H, W); or an iterable
            Probability of the foreground, in [0, 1]. Without `y`: an iterable of ``(probabilities, masks)`` pairs, one
            image each (a batch would be taken for a volume). A model of your own that is trained here needs arrays or
            lists.
        y : bool or integer array (n, H, W) or (n, D, H, W), or a list or iterable of arrays, one per image
            Masks: true or 1 for the foreground, false or 0 for the background, `ignore_index` where the truth is
            unknown.
        images : array, sequence or iterable of n, or None
            Further inputs of a model of your own, such as photographs.
        classes : int, several ints, or None
            The classes of the foreground, as for :meth:`BinaryRiskCalibrator.fit`. A model of your own also gets the
            probability of the foreground and its masks, not K classes.
        groups : sequence of n ints or strings, or None
            The group of each image, such as its patient: a group counts once, by the mean of its images, and is never
            split.
        sample_weight : sequence of n floats in [0, 1], or None
            How relevant each image is for new images.

        Returns
        -------
        self

        Raises
        ------
        InfeasibleRiskError
            If the part for the correction has too few images; the message says how many are needed in all.
        TypeError, ValueError
            If the input is not as described; the message names argument, image and value. The object is then unchanged.

        Warns
        -----
        DuplicateImagesWarning, DroppedImagesWarning, InfeasibleRiskWarning, SuspiciousLabelsWarning
            If an image comes twice; if one is left out because it has no pixel that the risk looks at; if there are too
            few images and ``on_infeasible="full"`` takes full masks; if the labels hardly belong to the probabilities.
        """
        configuration = self._configured(classes)
        predictor = configuration.predictor
        if predictor is None:
            return self._fit_seen(
                *self._see(P, y, configuration, groups, sample_weight, images), configuration
            )
        if can_fit(predictor):
            return self._fit_own(P, y, images, configuration, groups, sample_weight)
        kept = self._read(P, y, configuration, groups, sample_weight, predictor, images)
        check_foreground(kept, configuration)
        return self._fit_kept(kept, configuration)

    def _fit_seen(self, kept: Kept, features: NDArray[np.float64], configuration: A) -> Self:
        """Fits with the light model, which needs only features."""
        trained_on, others, telling = _parts(kept, configuration)
        model = self._train(kept.take(telling), features[telling], configuration)
        predictor = LightPredictor(model, configuration.scale, configuration.embedding)
        offsets = model.predict(features[others])
        return self._fit_others(kept, trained_on, others, predictor, offsets, configuration)

    def _fit_own(
        self, P: Any, y: Any, photographs: Any, configuration: A, groups: Any, sample_weight: Any
    ) -> Self:
        """Fits with the caller's own model, a copy of which is trained."""
        _check_lengths(P, y, photographs)
        kept, _ = self._collect(
            P, y, configuration, groups, sample_weight, lambda maps, first: np.zeros((len(maps), 0))
        )
        trained_on, others, _ = _parts(kept, configuration)
        predictor: Any = copy.deepcopy(configuration.predictor)
        if configuration.classes is not None:
            P, y = self._foreground(P, y, configuration)
        predictor.fit(
            _some(P, trained_on),
            _some(y, trained_on),
            alpha=float(configuration.alpha),
            images=_some(photographs, trained_on),
        )
        offsets = self._offsets_of(_some(P, others), _some(photographs, others), predictor, configuration)
        return self._fit_others(kept, trained_on, others, predictor, offsets, configuration)

    def _fit_others(
        self,
        kept: Kept,
        trained_on: list[int],
        others: list[int],
        predictor: Any,
        offsets: NDArray[np.float64],
        configuration: A,
    ) -> Self:
        """Corrects a trained model on the images that did not train it."""
        correcting = replace(
            kept.take(others),
            offsets=offsets,
            predictor=predictor,
            trained_on=kept.core.take(trained_on).hashes(),
        )
        try:
            return self._fit_kept(correcting, configuration, told_of_repeats=True)
        except InfeasibleRiskError as error:
            raise _with_advice(error, configuration, len(trained_on)) from None

    def _describe(self, maps: Any, images: Images, first: int, configuration: A) -> NDArray[np.float64]:
        return features_of(configuration.embedding, maps, images.next(len(maps)), first)

    def _foreground(self, P: Any, y: Any, configuration: A) -> tuple[Any, Any]:
        """Probabilities and masks of the foreground: arrays for an array, lists for a list."""
        found = [(given, masks) for given, masks, *_ in self._batches(P, y, configuration)]
        if len(found) == 1 and is_whole(P):
            return found[0]
        return [given[0] for given, _ in found], [masks[0] for _, masks in found]

    def _offsets_of(self, P: Any, photographs: Any, predictor: Any, configuration: A) -> NDArray[np.float64]:
        """The thresholds that a model gives for images."""
        images = Images(photographs)
        batches = walk(P, None, PROBABILITIES, labelled=False, volumes=configuration.volumes)
        found = [self._offsets(given, predictor, images, first, configuration) for given, _, first in batches]
        return np.concatenate(found) if found else np.zeros(0)

    def partial_fit(
        self,
        P: Any,
        y: Any = None,
        *,
        images: Any = None,
        classes: int | Iterable[int] | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Adds images to the correction. The model of thresholds does not change; give it no training images.

        Parameters
        ----------
        P, y, images, classes, groups, sample_weight
            As for :meth:`fit`; `classes` is known after the first images.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As for :meth:`fit`, and if there is no trained model yet; what was collected before is kept.

        Warns
        -----
        DuplicateImagesWarning
            If an image comes twice, was given in an earlier call, or is a training image of the model.
        """
        configuration = self._configured_again(classes)
        predictor = self._predictor_now(configuration)
        try:
            added = self._read(P, y, configuration, groups, sample_weight, predictor, images)
        except NoImagesError:
            return self
        added.warn_of_repeats()
        _warn_of_training_images(self._known, added)
        self._add(added, configuration)
        return self

    def _predictor_now(self, configuration: A) -> Any:
        """The trained model."""
        if self.__sklearn_is_fitted__():
            return self._kept_of(self._fitted()).predictor
        if configuration.trains:
            raise ValueError("call fit first: it trains the model of thresholds that partial_fit corrects")
        return configuration.predictor

    def merge(self, other: Self) -> Self:
        """Adds the images of another calibrator, for example of another worker, with the same model of thresholds.

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
            If `other` is of another class or the same object, has seen no images, or has another model.

        Warns
        -----
        DuplicateImagesWarning
            If `other` has images that were given here, too.
        """
        own = self._configuration().predictor
        is_first = type(other) is type(self) and not self.__sklearn_is_fitted__()
        if is_first and own is not None and not are_same(own, other._kept_of(other._fitted()).predictor):
            raise ValueError(OTHER_MODEL)
        return super().merge(other)

    # Results

    @property
    def correction_(self) -> float:
        """The correction that is subtracted from the thresholds of the model."""
        return self._current()[1].correction

    @property
    def predictor_(self) -> Any:
        """The trained model of thresholds."""
        return self._current()[1].predictor

    # Prediction

    def predict(self, P: Any, images: Any = None) -> Any:
        """Masks.

        Parameters
        ----------
        P : array (n, H, W) or (n, D, H, W), a list of (H, W), or an iterable of them
            As for :meth:`fit`, without masks.
        images : array, sequence or iterable of n, or None
            As for :meth:`fit`.

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
        return self._predict(P, images)

    def predict_thresholds(self, P: Any, images: Any = None) -> NDArray[np.float64]:
        """The threshold of each image: that of the model minus the correction.

        Parameters
        ----------
        P, images
            As for :meth:`predict`.

        Returns
        -------
        float64 array (n,)
            The smallest probability in the mask, exactly.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As for :meth:`predict`.
        """
        return self._predict_thresholds(P, images)

    def evaluate(
        self, P: Any, y: Any = None, *, images: Any = None, groups: ArrayLike | None = None
    ) -> BinaryReport:
        """Risk, coverage, coverage gap and size on labelled images, with intervals.

        Parameters
        ----------
        P, y, images
            As for :meth:`fit`, but other images than those of training and calibration.
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
        return self._evaluate(P, y, images, groups)

    def score(self, P: Any, y: Any = None, *, images: Any = None, groups: ArrayLike | None = None) -> float:
        """One minus the empirical risk.

        Parameters
        ----------
        P, y, images, groups
            As for :meth:`evaluate`.

        Returns
        -------
        float in [0, 1]
        """
        return 1.0 - self.evaluate(P, y, images=images, groups=groups).empirical_risk

    # Inside

    def _offsets(
        self, maps: Any, predictor: Any, images: Images, first: int, configuration: A
    ) -> NDArray[np.float64]:
        some = images.next(len(maps))
        if isinstance(predictor, LightPredictor):
            return predictor.on_scale(maps, some, first)
        return configuration.numbers.of_thresholds(thresholds_of(predictor, maps, some, first))

    @classmethod
    def _solution_from_json(cls, document: dict[str, Any], configuration: A) -> Solution:
        return solution_from_json(document, configuration, configuration.model_from_json)

    def _content(self, state: State[Kept, Solution]) -> dict[str, Any]:
        assert state.solution is not None
        found = state.solution.predictor
        _PREDICTOR.written(None if isinstance(found, LightPredictor) else found)
        return super()._content(state)


def _parts(kept: Kept, configuration: AdaptiveConfiguration) -> tuple[list[int], list[int], list[int]]:
    """The images that train, those that correct, and the former with a foreground; refuses too few of the last."""
    check_foreground(kept, configuration)
    n = len(kept)
    kept.warn_of_repeats()
    trained_on, others = _split(kept.groups, n, configuration)
    pixels = kept.pixels()
    telling = [i for i in trained_on if pixels[i]]
    if len(telling) < _FEWEST:
        raise ValueError(
            f"{plural(len(telling), 'image')} with a foreground cannot train thresholds: of {plural(n, 'image')} "
            f"{len(trained_on)} are to do that (train_fraction={float(configuration.train_fraction):g}). Give more "
            "images"
        )
    return trained_on, others, telling


def _split(
    groups: Sequence[int | str] | None, n: int, configuration: AdaptiveConfiguration
) -> tuple[list[int], list[int]]:
    """The images that train, and those that correct; whole groups, if there are groups."""
    names: Sequence[int | str] = range(n) if groups is None else groups
    units = list(dict.fromkeys(names))
    order = np.random.default_rng(configuration.random_state).permutation(len(units))
    n_trained_on = math.floor(configuration.train_fraction * len(units))
    chosen = {units[i] for i in order[:n_trained_on]}
    is_chosen = np.array([name in chosen for name in names], bool)
    return np.flatnonzero(is_chosen).tolist(), np.flatnonzero(~is_chosen).tolist()


def _check_lengths(P: Any, y: Any, photographs: Any) -> None:
    """Refuses arguments that cannot be split, or that differ in length."""
    n = count(P)
    for name, value in {"P": P, "y": y, "images": photographs}.items():
        if value is None and name == "images":
            continue
        if count(value) is None or not hasattr(value, "__getitem__"):
            raise TypeError(
                "a predictor that is to be trained needs P, y and images as arrays or lists, which are "
                "split: "
                f"{name} is {type(value).__name__}. Or train it beforehand, and give it as a function"
            )
        if count(value) != n:
            raise ValueError(f"P has {plural(n or 0, 'image')}, {name} has {count(value)}")


def _warn_of_training_images(state: State[Kept, Solution] | None, added: Kept) -> None:
    """Warns if images that trained the model are to correct it."""
    if state is None or state.kept is None or state.kept.trained_on is None:
        return
    pairs = _core.repeats_between(state.kept.trained_on, added.core.hashes())
    if pairs:
        warn_caller(
            f"{plural(len(pairs), 'image')} of these trained the thresholds: they must not correct the "
            f"thresholds, too, and the guarantee does not hold. Give other images",
            DuplicateImagesWarning,
        )


def _some(values: Any, indices: list[int]) -> Any:
    """Some of the images of an array or a list."""
    if values is None:
        return None
    return values[indices] if in_memory(values) else [values[i] for i in indices]


def _with_advice(
    error: InfeasibleRiskError, configuration: AdaptiveConfiguration, n_trained_on: int
) -> InfeasibleRiskError:
    """The error, with how many images are needed in all."""
    needed = math.ceil(error.n_needed / (1 - configuration.train_fraction))
    reason = (
        f"{error.finding}: {plural(n_trained_on, 'image')} trained the thresholds, the others correct them. Give at "
        f"least {needed} {'groups' if error.unit.startswith('groups') else 'images'} in all, give a smaller "
        f"train_fraction, {error.way_out}, or accept full masks with on_infeasible='full'"
    )
    return error._but(reason=reason)
