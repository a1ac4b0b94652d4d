"""Thresholds that are linear in features of an image, by quantile regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformask._calibrator import Parameter, number, one_of, own_model
from conformask._exact import as_plain
from conformask._image_models import Images
from conformask._images import track
from conformask._text import shown
from conformask.adaptive._adaptive import ADAPTIVE, AdaptiveCalibrator, AdaptiveConfiguration
from conformask.adaptive._calibrator import check_foreground
from conformask.adaptive._per_test import PerTest
from conformask.adaptive._predictors import (
    N_FEATURES,
    FeatureModel,
    LightPredictor,
    check_embedding,
    features_of,
)
from conformask.adaptive._quantiles import N_BINS, Linear
from conformask.adaptive._solution import Solution, solution_at
from conformask.control import CRC

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from conformask._images import Volumes
    from conformask._units import OnEmpty
    from conformask.adaptive._kept import Kept
    from conformask.control import Method

__all__ = ["AACRCCalibrator"]


def _check_penalty(value: Any) -> float:
    penalty = float(as_plain(value, "penalty"))
    if not 0 <= penalty < np.inf:
        raise ValueError(f"penalty must be at least 0, got {shown(value)}")
    return penalty


@dataclass(frozen=True, kw_only=True)
class _Configuration(AdaptiveConfiguration):
    guarantee: str
    penalty: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.corrects and not isinstance(self.method, CRC):
            raise ValueError(
                f"guarantee='per_test' is one in expectation, but method is {self.method!r}: take method='crc', or "
                "guarantee='global'"
            )

    @property
    def corrects(self) -> bool:
        return self.guarantee == "global"

    @property
    def trains(self) -> bool:
        return self.corrects

    def model_from_json(self, document: dict[str, Any]) -> FeatureModel:
        if self.corrects:
            return Linear.from_json(document, N_FEATURES)
        return PerTest.from_json(document, N_FEATURES, self.alpha, self.penalty)


class AACRCCalibrator(AdaptiveCalibrator[_Configuration]):
    r"""A threshold for each image that is linear in features of the image, by quantile regression (AA-CRC).

    The threshold is :math:`u(x) = \varphi(x)^\top \theta` with features :math:`\varphi`, the first of which is 1. If
    theta minimises the mean of

    .. math:: \int_0^{u_i} (\mathrm{FNR}_i(s) - \alpha) \, ds
        = \frac{1}{|Y_i|} \sum_{j \in Y_i} (u_i - p_{ij})_+ - \alpha u_i ,

    no feature tells which images miss more than alpha. This is linear quantile regression, at level alpha, of the
    probabilities of foreground pixels with the weight :math:`1 / |Y_i|`. It is solved as a linear program.

    ``guarantee="global"`` fits the regression to one part of the images, and corrects the thresholds on the other part
    by one number, as :class:`ATCalibrator` does and with the same guarantee: if the images of the correction and new
    images are exchangeable, a new image with a foreground has in expectation at most the share alpha of it outside its
    mask, whatever the features.

    ``guarantee="per_test"`` follows the paper. The regression is fitted to all images, again for each new image, which
    takes part with the worst loss, 1. The same guarantee holds, if calibration images and new images are exchangeable
    and the embedding was trained on other images, up to the accuracy of the solver (about 1e-7). Without penalty it
    also holds for images that are weighted by any linear combination of the features, standardised and clipped at five
    standard deviations, that is nowhere negative. With nine features it takes tens of milliseconds for each image. A
    new image that is unlike all others gets a full mask. Groups enter by their means and weights by their shares; the
    new image counts as a group of one image with weight 1. It is not proved that the guarantee then holds with
    features.

    Parameters
    ----------
    alpha : float in (0, 1), default=0.1
        The risk level, taken as the decimal that prints. At least ``ceil(1 / alpha) - 1`` images are needed for the
        correction (with "per_test": in all).
    guarantee : {"global", "per_test"}, default="global"
        How the guarantee is obtained (see above).
    embedding : callable or None, default=None
        A function ``f(P, images) -> (n, F)`` that gives the features, trained on other images. None uses nine features
        of the map of probabilities. Features are standardised here.
    penalty : float at least 0, default=0.01
        The weight of the summed absolute coefficients (not of the constant), in units of the scale. It prevents
        overfitting of many features to few images. A large penalty leaves the same threshold for all images.
    train_fraction : float in (0, 1), default=0.5
        The share of the images (groups), drawn at random, to which the regression is fitted with
        ``guarantee="global"``.
    scale : {"log_odds", "probability"}, default="log_odds"
        The scale on which thresholds are regressed and corrected, as for :class:`ATCalibrator`. The paper uses
        "probability".
    random_state : int, default=0
        The seed of the random split.
    method, ignore_index, on_empty, on_infeasible, volumes, progress
        As for :class:`BinaryRiskCalibrator`. With "per_test" the method must be CRC.

    Attributes
    ----------
    correction_ : float
        The correction t in [-1, 1], which is subtracted from the thresholds, on the scale; 0 with "per_test".
    predictor_ : LightPredictor
        The model of thresholds.
    risk_ : float
        The empirical risk of the images of the correction; with "per_test" that of all images, beside a new image with
        average features.
    corrected_risk_ : float
        The number that is kept at or below alpha, ``(n * risk_ + 1) / (n + 1)``; with RCPS an upper confidence limit of
        the risk.
    n_images_ : int
        Number of images (groups, if given) that the correction is based on.
    n_skipped_ : int
        Number of images that were left out of the correction.
    n_eff_ : float
        With weights the effective number of images; else `n_images_`.

    See Also
    --------
    ATCalibrator, COATCalibrator : Predict thresholds with a network.
    CRACalibrator : Needs no training.

    Notes
    -----
    With "per_test" a saved file holds the features of all calibration images, and histograms of the probabilities of
    their foregrounds.

    In the regression probabilities are rounded down to multiples of 1 / 1,024. With "per_test" this is done in
    calibration and prediction alike, so that it does not affect the guarantee. The paper penalises squares of
    coefficients and integrates numerically; with absolute values the problem is a linear program, which is solved
    exactly. The paper chooses the penalty by the recall on the images of its evaluation; here you choose it beforehand.

    References
    ----------
    Blot, Angelopoulos, Jordan, Brunel, "Automatically Adaptive Conformal Risk Control", arXiv:2406.17819. Koenker,
    Bassett, "Regression Quantiles", Econometrica 46(1), 1978, doi:10.2307/1913643.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> hardness = rng.choice([1.0, 4.0], (200, 1, 1))  # in some images the object is hard to see
    >>> P = rng.beta(hardness, 1, (200, 16, 16))
    >>> y = np.ones(P.shape, bool)
    >>> calibrator = cm.AACRCCalibrator(alpha=0.2).fit(P[:100], y[:100])
    >>> calibrator.evaluate(P[100:], y[100:]).coverage_gap < 0.05
    True
    >>> each = cm.AACRCCalibrator(alpha=0.2, guarantee="per_test").fit(P[:100], y[:100])
    >>> each.predict_thresholds(P[100:103]).shape
    (3,)
    """

    _CONFIGURATION = _Configuration
    _PARAMETERS: ClassVar[Mapping[str, Parameter]] = {
        "alpha": ADAPTIVE["alpha"],
        "guarantee": one_of("guarantee", "global", "per_test", stale="images"),
        "embedding": own_model("an embedding of your own", check_embedding),
        "penalty": number("penalty", _check_penalty, stale="images"),
        **{name: each for name, each in ADAPTIVE.items() if name != "predictor"},
    }
    _FORMAT = ("AACRCCalibrator", 1)
    _ALIKE: ClassVar[tuple[str, ...]] = ("risk", "ignore_index", "scale", "guarantee", "embedding")

    def __init__(
        self,
        alpha: float = 0.1,
        *,
        guarantee: str = "global",
        embedding: Any = None,
        penalty: float = 0.01,
        train_fraction: float = 0.5,
        scale: str = "log_odds",
        random_state: int = 0,
        method: Method | str = "crc",
        ignore_index: int | tuple[int, ...] | None = 255,
        on_empty: OnEmpty = "skip",
        on_infeasible: str = "raise",
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.alpha = alpha
        self.guarantee = guarantee
        self.embedding = embedding
        self.penalty = penalty
        self.train_fraction = train_fraction
        self.scale = scale
        self.random_state = random_state
        self.method = method
        self.ignore_index = ignore_index
        self.on_empty = on_empty
        self.on_infeasible = on_infeasible
        self.volumes = volumes
        self.progress = progress

    def _train(self, kept: Kept, features: NDArray[np.float64], configuration: _Configuration) -> Linear:
        histograms = kept.core.histograms(N_BINS)
        return Linear.fit(features, histograms, float(configuration.alpha), configuration.penalty)

    def _fit_seen(self, kept: Kept, features: NDArray[np.float64], configuration: _Configuration) -> Self:
        if configuration.corrects:
            return super()._fit_seen(kept, features, configuration)
        check_foreground(kept, configuration)
        return self._fit_kept(replace(kept, features=features), configuration)

    def _read(
        self,
        P: Any,
        y: Any,
        configuration: _Configuration,
        groups: Any,
        sample_weight: Any,
        predictor: Any = None,
        photographs: Any = None,
    ) -> Kept:
        if configuration.corrects:
            return super()._read(P, y, configuration, groups, sample_weight, predictor, photographs)
        kept, features = self._see(P, y, configuration, groups, sample_weight, photographs)
        return replace(kept, features=features)

    def _find(self, kept: Kept, configuration: _Configuration) -> Solution:
        if configuration.corrects:
            return super()._find(kept, configuration)
        assert kept.features is not None
        units = kept.units(configuration.on_empty)
        if configuration.method.budget(units, configuration.alpha) < 0:
            return solution_at(None, self._full(kept, configuration), units, configuration)
        shares = units.counted.astype(float) if units.shares is None else np.array(units.shares, float)
        counts, histograms = shares > 0, kept.core.histograms(N_BINS)
        histograms[kept.pixels() == 0, -1] = 1  # an image without a foreground loses nothing below that
        model = PerTest(
            kept.features[counts],
            histograms[counts],
            shares[counts],
            configuration.alpha,
            configuration.penalty,
        )
        offsets = np.zeros(len(kept))
        offsets[counts] = model.own_thresholds()
        predictor = LightPredictor(model, configuration.scale, configuration.embedding)
        return solution_at(0.0, replace(kept, offsets=offsets, predictor=predictor), units, configuration)

    @staticmethod
    def _full(kept: Kept, configuration: _Configuration) -> Kept:
        """The kept images with a model that gives full masks, because there are too few images for another."""
        assert kept.features is not None
        model = PerTest(
            kept.features[:0], np.zeros((0, N_BINS)), np.zeros(0), configuration.alpha, configuration.penalty
        )
        predictor = LightPredictor(model, configuration.scale, configuration.embedding)
        return replace(kept, offsets=np.zeros(len(kept)), predictor=predictor)

    def _offsets(
        self, maps: Any, predictor: Any, images: Images, first: int, configuration: _Configuration
    ) -> NDArray[np.float64]:
        model = predictor.model
        if not isinstance(model, PerTest):
            return super()._offsets(maps, predictor, images, first, configuration)
        features = features_of(predictor.embedding, maps, images.next(len(maps)), first)
        # Images that come one by one have a progress bar already.
        progress = self.progress if len(maps) > 1 else False
        return model.predict(features, partial(track, progress=progress, total=len(maps)))
