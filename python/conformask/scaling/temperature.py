"""Temperature scaling: one number that makes the probabilities of a network less, or more, confident."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformask.scaling._fitted import Fitted, Shapes, Told, at_least_0, is_flag, is_positive
from conformask.scaling._pixels import PixelSample
from conformask.scaling._scaler import PARAMETERS, Configuration, Scaler
from conformask.scaling._temperature import best_temperature

if TYPE_CHECKING:
    from conformask._images import Volumes

__all__ = ["TemperatureScaler"]

_NO_BIAS = np.empty(0)


class TemperatureScaler(Scaler):
    r"""Divides logits by one temperature: :math:`p = \mathrm{softmax}(z / T)`.

    T is the temperature with the highest likelihood of the labels of the calibration pixels. Above 1 it makes the
    probabilities less confident, below 1 more confident. The most probable class of a pixel does not change.

    Parameters
    ----------
    inputs : {"logits", "probabilities"}, default="logits"
        The numbers in X. For probabilities the logarithm is taken, after clipping at 1e-12.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which must not be a class.
    n_pixels : int, default=4096
        The largest number of labelled pixels to draw from each image. The labelled pixels are divided into as many
        runs, and one pixel is drawn from each run, all with the same probability. Images differ more than the pixels of
        one image: more pixels hardly help. 2**40 takes all pixels.
    random_state : int, default=0
        The seed of the draw. The pixels drawn from an image do not depend on the other images.
    volumes : bool or "auto", default="auto"
        Whether the images of a list or an iterable are volumes (see :class:`~conformask.ConformalRiskCalibrator`).
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over images.

    Attributes
    ----------
    temperature_ : float
        The temperature T, between 0.001 and 1000.
    standard_error_ : float
        The standard error of T over images (groups): the sandwich estimate from the Hessian and the squared gradients
        of each, times n / (n - 1). It is infinite if n is 1, and too small for few images.
    unbounded_ : bool
        Whether the likelihood still rises at the end of that range: all pixels are right, or the model is most
        confident where it is wrong.
    nll_ : float
        Mean negative log-likelihood of the drawn pixels, with T.
    nll_before_ : float
        The same without the map.
    n_images_ : int
        Number of images with labelled pixels.
    n_skipped_ : int
        Number of images that were left out because they have no labelled pixel.
    n_classes_ : int
        The number of classes K.

    See Also
    --------
    VectorScaler : Finds a factor and a shift for each class.
    conformask.ConformalRiskCalibrator : Takes a scaler as `transform`, and reads logits once.

    Notes
    -----
    With :math:`s = 1/T` the mean loss :math:`f(s) = \sum_p w_p [\log \sum_k e^{s z_{pk}} - s z_{p y_p}]` is convex, and
    :math:`f'(s) = \sum_p w_p (E_{p(s)}[z_p] - z_{p y_p})` is zero at its minimum. Newton's method finds it in s, or a
    bracketing root finder if Newton's method fails.

    A scaler improves probabilities; it gives no guarantee for a new image.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.

    Wang, Gong, Wang, "On Calibrating Semantic Segmentation Models: Analyses and An Algorithm", CVPR 2023,
    arXiv:2212.12053.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0, 2, (30, 3, 32, 32))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # labels drawn from the softmax
    >>> scaler = cm.TemperatureScaler().fit(2.5 * logits, y)  # too confident
    >>> round(scaler.temperature_, 1)
    2.5
    >>> probabilities = scaler.transform(2.5 * logits)
    """

    _CONFIGURATION = Configuration
    _PARAMETERS = PARAMETERS
    _FORMAT = ("TemperatureScaler", 1)
    _TOLD: ClassVar[Told] = {
        "temperature": is_positive,
        "standard_error": at_least_0,
        "unbounded": is_flag,
    }

    def __init__(
        self,
        *,
        inputs: str = "logits",
        ignore_index: int | tuple[int, ...] | None = 255,
        n_pixels: int = 4096,
        random_state: int = 0,
        volumes: Volumes = "auto",
        progress: bool | str = "auto",
    ) -> None:
        self.inputs = inputs
        self.ignore_index = ignore_index
        self.n_pixels = n_pixels
        self.random_state = random_state
        self.volumes = volumes
        self.progress = progress

    def _find(self, kept: PixelSample, configuration: Configuration) -> Fitted:
        found = best_temperature(kept.pixels(configuration.inputs, centred=False))
        return Fitted(
            weight=np.array([found.inverse]),
            bias=_NO_BIAS,
            nll=found.loss,
            nll_before=found.before,
            n_images=len(kept.images),
            n_skipped=kept.n_skipped,
            n_classes=kept.n_classes,
            configuration=configuration,
            more={
                "temperature": 1 / found.inverse,
                "standard_error": found.standard_error,
                "unbounded": found.unbounded,
            },
        )

    @classmethod
    def _map_shapes(cls, n_classes: int, configuration: Any) -> Shapes:
        return (1,), (0,)

    @classmethod
    def _check(cls, found: Fitted) -> None:
        inverse = float(found.weight[0])
        if not inverse > 0 or 1 / inverse != found.more["temperature"]:
            raise ValueError(f"the weight is {inverse}, the temperature {found.more['temperature']}")

    @property
    def temperature_(self) -> float:
        """The temperature T."""
        return float(self._told("temperature"))

    @property
    def standard_error_(self) -> float:
        """The standard error of T."""
        return float(self._told("standard_error"))

    @property
    def unbounded_(self) -> bool:
        """Whether T is at the end of its range."""
        return bool(self._told("unbounded"))
