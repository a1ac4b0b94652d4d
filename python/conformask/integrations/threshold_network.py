"""Thresholds of images by a convolutional network, which sees the photograph beside the map of probabilities.

It needs PyTorch (``pip install "conformask[torch]"``) and torchvision. :class:`~conformask.COATCalibrator` and
:class:`~conformask.ATCalibrator` do not need them: by default they use nine features of the map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

try:
    import torch
    from torch import Tensor, nn
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs PyTorch: pip install "conformask[torch]"') from error

from conformask._arrays import check_ignore_index
from conformask._calibrator import Parameter, one_of, whole
from conformask._exact import as_fraction, as_plain, check_alpha
from conformask._tables import html_table
from conformask._text import plural, shown
from conformask.adaptive._training import own_thresholds
from conformask.integrations._threshold_images import WHOSE, Seen, read_labelled, read_maps, standardised
from conformask.integrations._threshold_training import (
    EPOCHS,
    FEWEST,
    TrainingSettings,
    loss_of,
    split,
    train,
)

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

__all__ = ["NetworkPredictor", "ThresholdNetwork"]


def __dir__() -> list[str]:
    return sorted(__all__)


_BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
# The scale of the last layer's weights before training, as a share of the usual one: all thresholds are near the first.
_SPREAD = 0.1
_END = 0.001  # the first threshold has at least this distance from 0 and 1
_SEED = whole("random_state", 0, 2**63 - 1, stale="nothing")


class ThresholdNetwork(nn.Module):
    r"""A residual network that computes one threshold for an image, from its photograph and its map of probabilities.

    It is a ResNet of torchvision whose first convolution takes four channels: red, green, blue and the probability of
    the foreground. The kernels of the fourth channel are the means of those of the other three. The last layer gives
    one number, which a sigmoid turns into a threshold in (0, 1).

    Parameters
    ----------
    backbone : {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"}, default="resnet50"
        Which ResNet.
    weights : mapping of tensors, or None, default=None
        The state dict of that ResNet with torchvision's names, such as one trained on ImageNet; its last layer (``fc``)
        is not used. None: random weights. Nothing is downloaded.
    image_channels : {3, 0}, default=3
        Channels of the photographs. With 0 the network sees the map alone: its first convolution takes one channel,
        with the mean kernels.
    start : float in (0, 1), default=0.5
        The threshold near which all images begin: it sets the bias of the last layer, whose weights begin small.
    random_state : int, default=42
        The seed of weights that are not given.

    See Also
    --------
    NetworkPredictor : Trains this network.

    Notes
    -----
    Four channels, mean kernels and the last layer follow the paper. `start`, and small weights of the last layer, are
    additions: far from a good threshold the smooth rate of COAT is flat, and its gradient vanishes.

    References
    ----------
    "Enhancing Image-Conditional Coverage in Segmentation: Adaptive Thresholding via Differentiable Miscoverage Loss",
    under review, 2026. He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
    arXiv:1512.03385.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.threshold_network import ThresholdNetwork
    >>> network = ThresholdNetwork("resnet18").eval()
    >>> network(torch.zeros(2, 3, 64, 64), torch.full((2, 64, 64), 0.5)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        *,
        weights: Mapping[str, Any] | None = None,
        image_channels: int = 3,
        start: float = 0.5,
        random_state: int = 42,
    ) -> None:
        super().__init__()
        make = _maker_of(backbone)
        if isinstance(image_channels, bool) or image_channels not in (0, 3):
            raise ValueError(f"image_channels must be 3 or 0, got {image_channels!r}")
        if not 0 < start < 1:
            raise ValueError(f"start must be in (0, 1), got {start!r}")
        seed = _SEED.resolve(random_state)
        self.backbone, self.image_channels = backbone, image_channels
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # of the CPU alone
            resnet = make(weights=None)
            if weights is not None:
                _load(resnet, weights, backbone)
            resnet.conv1 = _first_layer(resnet.conv1, image_channels)
            resnet.fc = nn.Linear(resnet.fc.in_features, 1)
            nn.init.normal_(resnet.fc.weight, std=_SPREAD * resnet.fc.in_features**-0.5)
        nn.init.constant_(resnet.fc.bias, math.log(start / (1 - start)))
        self.resnet = resnet

    def forward(self, images: Tensor | None, P: Tensor) -> Tensor:
        """Thresholds of images.

        Parameters
        ----------
        images : tensor (B, 3, H, W) or (B, 1, H, W), or None
            Photographs. Photographs of uint8 are divided by 255 and standardised with the means and standard deviations
            of ImageNet. Floating ones must be standardised already. Grey ones are repeated to three channels. None if
            `image_channels` is 0.
        P : tensor (B, H, W)
            Probability of the foreground.

        Returns
        -------
        tensor (B,) in [0, 1]

        Raises
        ------
        TypeError, ValueError
            If shapes or types are not as described.
        """
        if P.ndim != 3 or not P.is_floating_point():
            raise ValueError(f"P must be a floating (B, H, W), got {P.dtype} of shape {tuple(P.shape)}")
        _check_presence(images, self.image_channels)
        dtype = self.resnet.conv1.weight.dtype
        channels = P[:, None].to(dtype)
        if images is not None:
            if images.ndim != 4 or images.shape[1] not in (1, 3) or images[:, 0].shape != P.shape:
                raise ValueError(
                    f"images must be (B, 3, H, W) or (B, 1, H, W) of the size of P {tuple(P.shape)}, "
                    f"got {tuple(images.shape)}"
                )
            channels = torch.cat([standardised(images, dtype), channels], dim=1)
        thresholds: Tensor = torch.sigmoid(self.resnet(channels)[:, 0])
        return thresholds


def _maker_of(backbone: str) -> Callable[..., Any]:
    """The function of torchvision that makes a ResNet."""
    if backbone not in _BACKBONES:
        raise ValueError(f"backbone must be one of {list(_BACKBONES)}, got {shown(backbone)}")
    try:
        from torchvision.models import resnet
    except ModuleNotFoundError as error:
        raise ImportError("a ThresholdNetwork needs torchvision: pip install torchvision") from error
    make: Callable[..., Any] = getattr(resnet, backbone)
    return make


def _load(resnet: Any, weights: Any, backbone: str) -> None:
    """Copies weights, except those of the last layer; refuses the weights of another network."""
    wanted = f"weights must be the state dict of torchvision's {backbone}, or None"
    if not isinstance(weights, Mapping):
        raise TypeError(f"{wanted}, got {type(weights).__name__}")
    own = resnet.state_dict()
    given = {name: value for name, value in weights.items() if not str(name).startswith("fc.")}
    optional = ("fc.weight", "fc.bias", *(name for name in own if name.endswith("num_batches_tracked")))
    missing = [name for name in own if name not in given and name not in optional]
    unknown = [name for name in given if name not in own]
    for what, names in {"lack": missing, "hold besides": unknown}.items():
        if names:
            others = f" and {plural(len(names) - 1, 'other')}" if names[1:] else ""
            raise ValueError(f"{wanted}; they {what} {shown(names[0])}{others}")
    for name, value in given.items():
        tensor = torch.as_tensor(value)
        if tensor.shape != own[name].shape:
            raise ValueError(f"{wanted}; {name} is {tuple(tensor.shape)}, not {tuple(own[name].shape)}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"weights hold NaN or infinity in {name}")
        own[name] = tensor
    resnet.load_state_dict(own)


def _first_layer(first: nn.Conv2d, image_channels: int) -> nn.Conv2d:
    """A first layer for the photograph (if there is one) and the map, which gets the mean of the three kernels."""
    kernels = first.weight.detach()
    mean = kernels.mean(dim=1, keepdim=True)
    found = nn.Conv2d(
        image_channels + 1, first.out_channels, first.kernel_size, first.stride, first.padding, bias=False
    )
    found.weight = nn.Parameter(torch.cat([kernels, mean], dim=1) if image_channels else mean)
    return found


def _check_presence(images: Any, image_channels: int) -> None:
    """Refuses photographs for a network that takes none, and missing photographs for one that does."""
    if (images is None) != (image_channels == 0):
        problem = (
            "lack, though the network sees"
            if images is None
            else "are given, though the network does not see"
        )
        raise ValueError(f"images {problem} photographs (image_channels is {image_channels})")


# Parameters


def _positive(name: str) -> Parameter:
    def resolve(value: Any) -> float:
        found = float(as_plain(value, name))
        if not found > 0:
            raise ValueError(f"{name} must be above 0, got {shown(value)}")
        return found

    return Parameter(resolve)


def _check_fraction(value: Any) -> Fraction:
    fraction = as_fraction(value, "validation_fraction")
    if not 0 <= fraction < 1:
        raise ValueError(f"validation_fraction must be in [0, 1), got {shown(value)}")
    return fraction


def _check_size(value: Any) -> tuple[int, int]:
    try:
        height, width = value
    except (TypeError, ValueError):
        raise ValueError(f"size must be a height and a width, got {shown(value)}") from None
    side = whole("size", 1, 2**15, stale="nothing")
    return side.resolve(height), side.resolve(width)


def _optional(parameter: Parameter) -> Parameter:
    return Parameter(lambda value: None if value is None else parameter.resolve(value))


_COUNT = 2**31 - 1
_PARAMETERS: Mapping[str, Parameter] = {
    "loss": one_of("loss", *EPOCHS),
    "temperature": _positive("temperature"),
    "epochs": _optional(whole("epochs", 1, _COUNT, stale="nothing")),
    "batch_size": whole("batch_size", FEWEST, _COUNT, stale="nothing"),
    "learning_rate": _positive("learning_rate"),
    "size": Parameter(_check_size),
    "validation_fraction": Parameter(_check_fraction),
    "patience": _optional(whole("patience", 1, _COUNT, stale="nothing")),
    "random_state": _SEED,
    "ignore_index": Parameter(check_ignore_index),
    "progress": one_of("progress", True, False, "auto"),
}


class NetworkPredictor(BaseEstimator):
    r"""The threshold model of the COAT paper, a residual network, for ``predictor=`` of the calibrators.

    The calibrator hands over the images on which Adam trains the network. With the loss "coat" it minimises the mean of

    .. math:: \Big( \frac{1}{|Y_i|} \sum_{j \in Y_i} \sigma\Big( \frac{p_{ij} - \hat\tau_i}{T} \Big)
        - (1 - \alpha) \Big)^2,

    with "at" that of :math:`(\hat\tau_i - \tau_i^*)^2`, where :math:`\tau_i^*` is the largest threshold at which the
    image misses at most the share alpha of its foreground. The loss counts the probabilities of all pixels in 1024
    bins; the network itself sees resized maps. The calibrator then corrects the thresholds on other images. The
    guarantee comes from this correction alone, whatever the network computes: it holds in expectation for a new image
    with a foreground that is exchangeable with the images of the correction.

    Parameters
    ----------
    loss : {"coat", "at"}, default="coat"
        The training loss. Use "at" with an :class:`~conformask.ATCalibrator`.
    temperature : float above 0, default=0.05
        T, in units of probability; the loss "at" has none. This one is used, not the `temperature` of the calibrator.
    epochs : int or None, default=None
        The largest number of epochs; None: 60 with "coat", 30 with "at".
    batch_size : int, at least 2, default=64
        Images in a batch. Batches are of nearly equal size and hold at least two images; with ``batch_size=2`` one of
        them may hold three.
    learning_rate : float above 0, default=0.0005
        The learning rate of Adam.
    size : (int, int), default=(224, 224)
        Height and width to which photographs and maps are resized (bilinear, with antialiasing).
    validation_fraction : float in [0, 1), default=0.2
        The share of the images, drawn at random, that is left out of training and decides when to stop. With fewer than
        10 images all are trained on.
    patience : int or None, default=10
        The number of epochs without a smaller loss on these images after which training stops; None: it does not stop
        early.
    backbone, weights
        As for :class:`ThresholdNetwork`.
    random_state : int, default=42
        The seed of the first weights, of the images that are left out, and of the batches. On the CPU of one machine
        the same seed gives the same network; on a GPU sums have no fixed order.
    device : device, str or None, default=None
        Where to compute; None: on a CUDA device if there is one, else on the CPU.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels. It must be that of the calibrator.
    progress : bool or "auto", default="auto"
        A progress bar over epochs; "auto" shows it on a terminal or in a notebook if it takes a while.

    Attributes
    ----------
    network_ : ThresholdNetwork
        The network after the best epoch, in evaluation mode. If :meth:`fit` got `images` it sees them, else the map
        alone.
    losses_ : list of floats
        The mean loss of the training images in each epoch, while they were trained on.
    validation_losses_ : list of floats
        The mean loss of the images that were left out, after each epoch; empty if there are none.
    best_epoch_ : int
        The epoch of the smallest validation loss, counted from 1, or the last epoch if there is no validation. 0: no
        epoch was better than one threshold for all images, which the network then gives.

    See Also
    --------
    conformask.COATCalibrator, conformask.ATCalibrator : Take this object as their predictor.
    ThresholdNetwork : The network alone.

    Notes
    -----
    The network, its loss, T, batches of 64, 60 and 30 epochs, the learning rate and the seed 42 follow the paper. The
    paper starts from weights of ImageNet: pass them as `weights`. It states neither the optimiser nor the size of the
    images; Adam, 224 x 224, early stopping, and a start at the mean of the images' own thresholds are choices of this
    package. If images come in groups, such as patients, the images that decide when to stop may belong to groups that
    are trained on: training may then go on for too long. The guarantee does not depend on this.

    All resized images are held in memory, 0.8 MB each for 224 x 224. On the CPU images go through the trained network
    one by one: a threshold is the same bit for bit, whichever other images are in the call. On a GPU images go in
    batches, and thresholds are the same up to rounding. Two predictors are equal if their parameters (except `device`
    and `progress`) and their networks are equal. A trained predictor can be given as ``predictor=model.predict``. All
    calibration images then correct it; they must be other images than its training images.

    References
    ----------
    "Enhancing Image-Conditional Coverage in Segmentation: Adaptive Thresholding via Differentiable Miscoverage Loss",
    under review, 2026. Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv:1412.6980.

    Examples
    --------
    >>> import numpy as np
    >>> import conformask as cm
    >>> from conformask.integrations.threshold_network import NetworkPredictor
    >>> rng = np.random.default_rng(0)
    >>> P = rng.random((40, 24, 24))
    >>> y = rng.random(P.shape) < P
    >>> photographs = rng.integers(0, 256, (40, 24, 24, 3), np.uint8)
    >>> network = NetworkPredictor(backbone="resnet18", size=(32, 32), epochs=2)
    >>> calibrator = cm.COATCalibrator(alpha=0.2, predictor=network).fit(P[:30], y[:30], images=photographs[:30])
    >>> calibrator.predict(P[30:], images=photographs[30:]).shape
    (10, 24, 24)
    """

    def __init__(
        self,
        *,
        loss: str = "coat",
        temperature: float = 0.05,
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 5e-4,
        size: tuple[int, int] = (224, 224),
        validation_fraction: float = 0.2,
        patience: int | None = 10,
        backbone: str = "resnet50",
        weights: Mapping[str, Any] | None = None,
        random_state: int = 42,
        device: Any = None,
        ignore_index: int | tuple[int, ...] | None = 255,
        progress: bool | str = "auto",
    ) -> None:
        self.loss = loss
        self.temperature = temperature
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.size = size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.backbone = backbone
        self.weights = weights
        self.random_state = random_state
        self.device = device
        self.ignore_index = ignore_index
        self.progress = progress

    def fit(self, P: Any, y: Any, *, alpha: float, images: Any = None) -> Self:
        """Trains the network, beginning with its first weights.

        Parameters
        ----------
        P : array or tensor (n, H, W), floating, or a list of (H, W)
            Probability of the foreground, in [0, 1]; in a list each of its own size.
        y : bool or integer array (n, H, W), or a list of (H, W)
            Masks, as for :meth:`conformask.COATCalibrator.fit`. Images without a foreground are left out.
        alpha : float in (0, 1)
            The share of the foreground that may be missed.
        images : array or tensor, a list or iterable of n images, or None
            Photographs: (H, W, 3), (H, W, 1) or (H, W) in arrays, channels last; (3, H, W), (1, H, W) or (H, W) in
            tensors, channels first. Photographs of uint8 are divided by 255 and standardised with the means and
            standard deviations of ImageNet; floating ones must be standardised already. They may have any size, that of
            P or another one. None makes a network that sees P alone.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If torchvision is not there.
        TypeError, ValueError
            If parameters or input are not as described, or fewer than two images with a foreground are trained on. The
            predictor is then unchanged.
        """
        settings, exact = self._settings(), check_alpha(alpha)
        device = _device_of(self.device)
        _maker_of(self.backbone)  # refuses what cannot be made before images are read
        seen, core = read_labelled(P, y, images, settings.size, settings.ignore_index)
        trained_on, looked_at = split(len(core), settings)
        if len(trained_on) < FEWEST:
            raise ValueError(
                f"{plural(len(trained_on), 'image')} with a foreground cannot train a network: give more, "
                f"{plural(len(core), 'image')} have one and {len(looked_at)} of them tell when to stop"
            )
        own = own_thresholds(core, exact)
        start = float(np.mean(own[trained_on]))
        # The code that makes P may have switched gradients off around this call.
        with torch.inference_mode(False), torch.enable_grad():
            network = ThresholdNetwork(
                self.backbone,
                weights=self.weights,
                image_channels=0 if seen.images is None else 3,
                start=min(max(start, _END), 1 - _END),
                random_state=settings.random_state,
            ).to(device)
            loss = loss_of(core, own, exact, settings, device)
            history = train(network, seen, loss, settings, trained_on, looked_at)
        self.network_: ThresholdNetwork = network
        self._size = settings.size  # kept, even if the parameter changes later
        self.losses_, self.validation_losses_ = history.losses, history.validation_losses
        self.best_epoch_ = history.best_epoch
        return self

    def predict(self, P: Any, images: Any = None) -> NDArray[np.float64]:
        """Thresholds of images.

        Parameters
        ----------
        P, images
            As for :meth:`fit`; `images` are needed if :meth:`fit` got them.

        Returns
        -------
        float64 array (n,) in [0, 1]

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        TypeError, ValueError
            If the input is not as described.
        """
        if not self.__sklearn_is_fitted__():
            raise NotFittedError("this NetworkPredictor has seen no images yet: call fit first")
        _check_presence(images, self.network_.image_channels)
        device = _device_of(self.device)
        # Images go through the network one by one, so that no bit depends on the others.
        at_once = 1 if device.type == "cpu" else _PARAMETERS["batch_size"].resolve(self.batch_size)
        network, read, found = self.network_.to(device).eval(), read_maps(P, images, self._size), []
        with torch.inference_mode():
            while pairs := list(islice(read, at_once)):
                found.append(Seen.stacked(pairs).thresholds(network).cpu())
        thresholds: NDArray[np.float64] = torch.cat(found).numpy().astype(np.float64)
        bad = np.isnan(thresholds)
        if bad.any():
            raise ValueError(
                f"the network gives NaN for image {bad.argmax()} {WHOSE}: train it with a smaller learning_rate"
            )
        return thresholds

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def _settings(self) -> TrainingSettings:
        """The parameters of training, checked."""
        return TrainingSettings(
            **{name: each.resolve(getattr(self, name)) for name, each in _PARAMETERS.items()}
        )

    # Looks and equality

    def _told(self) -> dict[str, Any]:
        """The parameters, except the weights."""
        return {name: value for name, value in self.get_params(deep=False).items() if name != "weights"}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        if self is other:
            return True
        told = [
            {name: value for name, value in each._told().items() if name not in _OUTWARD}
            for each in (self, other)
        ]
        return told[0] == told[1] and all(
            _are_equal(one, another) for one, another in zip(self._tensors(), other._tensors(), strict=True)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes when it is fitted

    def _tensors(self) -> tuple[Any, Any]:
        """The weights that were given, and those that were learned; None where there are none."""
        return self.weights, self.network_.state_dict() if self.__sklearn_is_fitted__() else None

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """The parameters that are not as by default, weights by their number; scikit-learn asks for the other."""
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in self._set().items())})"

    def _set(self) -> dict[str, str]:
        usual = type(self)()._told()
        texts = {
            name: repr(value) for name, value in self._told().items() if repr(value) != repr(usual[name])
        }
        return (
            texts
            if self.weights is None
            else {**texts, "weights": f"<{plural(len(self.weights), 'tensor')}>"}
        )

    def _repr_html_(self) -> str:
        """A table for notebooks: the parameters that were set, and the course of training."""
        rows = self._set()
        if self.__sklearn_is_fitted__():
            rows |= {"epochs trained": str(len(self.losses_)), "best epoch": str(self.best_epoch_)}
        return html_table(type(self).__name__, list(rows.items()))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """The representations that Jupyter asks for first."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


# Parameters in which equal predictors may differ, because they change no threshold.
_OUTWARD = ("device", "progress")


def _are_equal(one: Any, other: Any) -> bool:
    """Whether mappings hold the same tensors."""
    if one is None or other is None or one is other:
        return one is other
    return one.keys() == other.keys() and all(
        torch.equal(torch.as_tensor(one[name]).cpu(), torch.as_tensor(other[name]).cpu()) for name in one
    )


def _device_of(device: Any) -> torch.device:
    """The device to compute on."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
