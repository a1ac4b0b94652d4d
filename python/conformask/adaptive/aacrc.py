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
    r"""A threshold for each image that is linear in features of it, by quantile regression (AA-CRC).

    The threshold is :math:`u(x) = \varphi(x)^\top \theta` with features :math:`\varphi` that begin with 1. Where theta
    minimises the mean of

    .. math:: \int_0^{u_i} (\mathrm{FNR}_i(s) - \alpha) \, ds
        = \frac{1}{|Y_i|} \sum_{j \in Y_i} (u_i - p_{ij})_+ - \alpha u_i ,

    no feature tells which images miss more than alpha. This is linear quantile regression, at level alpha, of the
    probabilities of the foreground's pixels, each weighing :math:`1 / |Y_i|`. It is solved as a linear program.

    ``guarantee="global"`` regresses on a part of the images, and corrects the thresholds on the others by one number,
    as :class:`ATCalibrator` does and with its guarantee: if these and new images are exchangeable, a new image with a
    foreground has in expectation at most the share alpha of it outside its mask, whatever the features.

    ``guarantee="per_test"`` is the paper's. All images are regressed on, once more for each new image, which takes part
    with the worst loss, 1. The same guarantee holds, if calibration images and new images are exchangeable and the
    embedding was trained on others, up to the accuracy of the solver (about 1e-7). Without penalty it also holds for
    images that are weighted by any linear combination of the features, standardised and cut at five standard
    deviations, that is nowhere negative. With nine features it costs tens of milliseconds an image. A new image unlike
    all others gets a full mask. With groups and weights, which enter by their means and shares, the new image counts
    as a group of one of weight 1: that the guarantee then holds with features is not proved.

    Parameters
    ----------
    alpha : float in (0, 1), default=0.1
        The risk level, taken as the decimal that prints. The images that correct (of "per_test": all) must be at least
        ``ceil(1 / alpha) - 1``.
    guarantee : {"global", "per_test"}, default="global"
        How the guarantee is given.
    embedding : callable or None, default=None
        Gives the features: ``f(P, images) -> (n, F)``, trained on other images. None are nine numbers that describe the
        map of probabilities. Features are standardised here.
    penalty : float at least 0, default=0.01
        The weight of the summed absolute coefficients (not of the constant), in units of the scale: few images do not
        tell many features. A large one leaves the same threshold for all.
    train_fraction : float in (0, 1), default=0.5
        The share of the images (groups) that are regressed on, drawn at random, if the guarantee is "global".
    scale : {"log_odds", "probability"}, default="log_odds"
        On what thresholds are regressed and corrected, as for :class:`ATCalibrator`; the paper's is "probability".
    random_state : int, default=0
        The seed of the random split.
    method, ignore_index, on_empty, on_infeasible, volumes, progress
        As for :class:`BinaryRiskCalibrator`. The method of "per_test" is CRC.

    Attributes
    ----------
    correction_ : float
        t, in [-1, 1]: what is subtracted from the thresholds, on the scale; 0 for "per_test".
    predictor_ : LightPredictor
        What gives thresholds.
    risk_ : float
        The empirical risk of the images that corrected; of "per_test" that of all, beside a new image of average
        features.
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
    ATCalibrator, COATCalibrator : Thresholds by a network.
    CRACalibrator : Needs no training.

    Notes
    -----
    With "per_test" a file holds the features of all calibration images, and histograms of the probabilities of their
    foregrounds.

    In the regression probabilities are cut down to multiples of 1 / 1,024, of "per_test" in calibration and prediction
    alike, so that the guarantee is as it would be without. The paper penalises squares of coefficients and integrates
    numerically; absolute values leave a linear program, which is exact. It chooses the penalty by the recall on images
    that are then evaluated on; here it is a number that you choose beforehand.

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
        """With a model that gives full masks, where there are too few images for another."""
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
        # Images that come one by one have a bar already.
        progress = self.progress if len(maps) > 1 else False
        return model.predict(features, partial(track, progress=progress, total=len(maps)))
