"""Local temperature scaling by a convolutional network, which sees the logits around a pixel, and the image.

It needs PyTorch (``pip install "conformask[torch]"``). :class:`~conformask.LocalTemperatureScaler` does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs PyTorch: pip install "conformask[torch]"') from error

from conformask._arrays import check_ignore_index, ignored_labels
from conformask._calibrator import whole
from conformask._images import count
from conformask._torch_labels import whole_labels

__all__ = ["LocalTemperature", "fit_local_temperature"]


def __dir__() -> list[str]:
    return sorted(__all__)


_WIDTH, _DILATION = 5, 2
_MARGIN = _DILATION * (_WIDTH // 2)
# The spread of a leaf's output before training, as a share of the logits.
_SPREAD = 0.01
_SEED = whole("random_state", 0, 2**64 - 1, stale="nothing")
# A label that PyTorch's loss leaves out.
_VOID = -100


def _convolution(n_channels: int, generator: torch.Generator | None = None) -> nn.Conv2d:
    """A convolution to one number for each pixel. Before training it gives 0, or with a generator numbers near 0."""
    found = nn.Conv2d(n_channels, 1, _WIDTH, padding=_MARGIN, dilation=_DILATION, padding_mode="reflect")
    if generator is None:
        nn.init.zeros_(found.weight)
    else:
        nn.init.normal_(found.weight, std=_SPREAD / found.weight[0].numel() ** 0.5, generator=generator)
    if found.bias is not None:
        nn.init.zeros_(found.bias)
    return found


class LocalTemperature(nn.Module):
    r"""A network that gives each pixel a temperature, and divides its logits by it.

    Four convolutions of the logits, 1 added to each, are the leaves of a tree. Three more convolutions, each followed
    by a sigmoid, weigh the two sides of each fork. The result t is blended in the same way with a convolution of the
    image, if there is one, and :math:`T = \max(T_0, t + 1)`. All convolutions are 5 x 5 with dilation 2, and mirror the
    image at its borders. Their weights begin at 0, except those of the leaves, which begin with small random numbers:
    **T is near 2 before training, not 1**. The most probable class of a pixel does not change, except where float32
    rounds at high temperatures.

    Parameters
    ----------
    n_classes : int
        The number of classes K.
    image_channels : int, default=3
        Channels of the image; with 0 the network sees the logits alone.
    least : float above 0, default=0.1
        :math:`T_0`, the least temperature. The paper uses 1e-8; a pixel at that temperature may have a loss of
        millions, and no gradient to leave it.
    random_state : int, default=0
        The seed of the first weights of the leaves.

    See Also
    --------
    conformask.LocalTemperatureScaler : Six numbers in place of a network.

    Notes
    -----
    The tree, its dilation and T = 2 at the start follow the paper. Here a convolution of the logits weighs the image,
    as at the forks. In the paper all leaves begin at 0; they would stay equal, and no fork would learn. Eight
    convolutions have many parameters: with few images, or long training, they overfit. Look at the loss of other images
    after each epoch.

    References
    ----------
    Ding, Han, Liu, Niethammer, "Local Temperature Scaling for Probability Calibration", ICCV 2021, arXiv:2008.05105.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.local_temperature import LocalTemperature
    >>> module = LocalTemperature(4, image_channels=0)
    >>> round(module(torch.ones(1, 4, 16, 16)).mean().item(), 2)
    0.5
    """

    def __init__(
        self, n_classes: int, image_channels: int = 3, least: float = 0.1, random_state: int = 0
    ) -> None:
        super().__init__()
        if not least > 0:
            raise ValueError(f"least must be above 0, got {least!r}")
        self.n_classes, self.image_channels, self.least = n_classes, image_channels, least
        generator = torch.Generator().manual_seed(_SEED.resolve(random_state))
        self.leaves = nn.ModuleList(_convolution(n_classes, generator) for _ in range(4))
        self.forks = nn.ModuleList(_convolution(n_classes) for _ in range(3))
        if image_channels:
            self.image = _convolution(image_channels)
            self.image_fork = _convolution(n_classes)

    def temperature(self, logits: Tensor, image: Tensor | None = None) -> Tensor:
        """The temperature of each pixel.

        Parameters
        ----------
        logits : tensor (B, K, H, W)
            H and W of at least 5.
        image : tensor (B, C, H, W), or None
            None if `image_channels` is 0.

        Returns
        -------
        tensor (B, 1, H, W)

        Raises
        ------
        ValueError
            If shapes are not as described.
        """
        self._check(logits, image)
        first, second, third, fourth = (leaf(logits) + 1 for leaf in self.leaves)
        left, right, root = (torch.sigmoid(fork(logits)) for fork in self.forks)
        found: Tensor = torch.lerp(torch.lerp(second, first, left), torch.lerp(fourth, third, right), root)
        if image is not None:
            found = torch.lerp(self.image(image) + 1, found, torch.sigmoid(self.image_fork(logits)))
        return (found + 1).clamp(min=self.least)

    def forward(self, logits: Tensor, image: Tensor | None = None) -> Tensor:
        """The logits over the temperatures: softmax makes calibrated probabilities of them.

        Parameters
        ----------
        logits, image
            As for :meth:`temperature`.

        Returns
        -------
        tensor (B, K, H, W)
        """
        return logits / self.temperature(logits, image)

    def _check(self, logits: Tensor, image: Tensor | None) -> None:
        if logits.ndim != 4 or logits.shape[1] != self.n_classes or min(logits.shape[2:]) <= _MARGIN:
            raise ValueError(
                f"logits must be (B, {self.n_classes}, H, W) with H and W of at least {_MARGIN + 1}, "
                f"got {tuple(logits.shape)}"
            )
        if (image is None) != (self.image_channels == 0):
            wanted = "None" if image is not None else f"a tensor of {self.image_channels} channels"
            raise ValueError(f"image must be {wanted}, as image_channels is {self.image_channels}")
        if image is not None and image.shape != (
            len(logits),
            self.image_channels,
            *logits.shape[2:],
        ):
            raise ValueError(
                f"image must be (B, {self.image_channels}, H, W) of the size of logits {tuple(logits.shape)}, "
                f"got {tuple(image.shape)}"
            )


def fit_local_temperature(
    module: LocalTemperature,
    batches: Iterable[Any],
    *,
    epochs: int = 20,
    learning_rate: float = 1e-3,
    ignore_index: int | tuple[int, ...] | None = 255,
    device: Any = None,
    optimizer: Callable[..., Any] = torch.optim.Adam,
) -> list[float]:
    """Trains the network, on images that the segmentation model was not trained on.

    Parameters
    ----------
    module : LocalTemperature
        It is changed in place, and left in evaluation mode.
    batches : iterable of (logits, labels) or (logits, image, labels)
        A list or a loader, which is read once in each epoch; a generator is refused. Labels are integers (B, H, W).
    epochs : int, default=20
        How often all batches are seen.
    learning_rate : float, default=0.001
        The learning rate of the optimiser.
    ignore_index : int, tuple of ints or None, default=255
        The label of void pixels, which must not be a class; None: there are no void pixels.
    device : device, str or None, default=None
        Where to train; None: where the module is.
    optimizer : callable, default=torch.optim.Adam
        ``optimizer(parameters, lr=...)``.

    Returns
    -------
    list of floats
        The mean negative log-likelihood of the labelled pixels in each epoch, while they were trained on.

    Raises
    ------
    TypeError, ValueError
        If the batches can be read only once, hold no labelled pixel or a label that is not a class, or are not as
        described.

    Examples
    --------
    >>> import torch
    >>> from conformask.integrations.local_temperature import LocalTemperature, fit_local_temperature
    >>> logits = 4 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> module = LocalTemperature(3, image_channels=0)
    >>> losses = fit_local_temperature(module, [(logits, logits.argmax(1))], epochs=5)  # all are right
    >>> losses[-1] < losses[0]
    True
    """
    if iter(batches) is batches:
        raise TypeError("batches can be read once only: pass a list or a loader")
    ignored = check_ignore_index(ignore_index)
    for label in ignored_labels(ignored):
        if 0 <= label < module.n_classes:
            raise ValueError(f"ignore_index is {label}, which is one of the {module.n_classes} classes")
    module.train()
    if device is not None:
        module.to(device)
    where = next(module.parameters()).device
    steps = optimizer(module.parameters(), lr=learning_rate)
    losses = []
    for _ in range(epochs):
        total, n_pixels = 0.0, 0
        for batch in batches:
            logits, *image, labels = (each.to(where) for each in batch)
            targets = _targets(labels, ignored, module.n_classes)
            n = int((targets != _VOID).sum())
            if not n:
                continue
            steps.zero_grad()
            tempered = module(logits.float(), *(each.float() for each in image))
            loss = functional.cross_entropy(tempered, targets, ignore_index=_VOID)
            if not torch.isfinite(loss):
                raise ValueError("the loss is not finite: check logits, images and the learning rate")
            loss.backward()
            steps.step()
            total, n_pixels = total + n * float(loss.detach()), n_pixels + n
        if not n_pixels:
            raise ValueError(f"batches hold no labelled pixel ({count(batches)} batches): check ignore_index")
        losses.append(total / n_pixels)
    module.eval()
    return losses


def _targets(labels: Tensor, ignored: int | tuple[int, ...] | None, n_classes: int) -> Tensor:
    """The labels as PyTorch takes them; refuses labels that are no class."""
    codes = whole_labels(labels, "labels").long()  # before comparing: small types would wrap around
    void = torch.zeros_like(codes, dtype=torch.bool)
    for label in ignored_labels(ignored):
        void |= codes == label
    wrong = ~void & ((codes < 0) | (codes >= n_classes))
    if wrong.any():
        raise ValueError(f"labels must be in [0, {n_classes}) or ignore_index, got {int(codes[wrong][0])}")
    return codes.masked_fill(void, _VOID)
