"""Training of a network of thresholds: losses of single images, batches, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from conformask._images import track
from conformask.integrations._threshold_images import Seen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformask._core import BinaryValues

__all__ = [
    "EPOCHS",
    "FEWEST",
    "History",
    "Seen",
    "TrainingSettings",
    "loss_of",
    "soft_rates",
    "split",
    "train",
]

# A function of thresholds (b,) and the indices (b,) of their images, which gives losses (b,).
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

EPOCHS = {"coat": 60, "at": 30}
FEWEST = 2  # the least images of a batch, which batch normalisation needs
_FEW = 10  # fewer images are all trained on
_N_BINS = 1024
_MOMENTUM = 0.1  # PyTorch's default


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The parameters of training, checked."""

    loss: str
    temperature: float
    epochs: int | None
    batch_size: int
    learning_rate: float
    size: tuple[int, int]
    validation_fraction: Fraction
    patience: int | None
    random_state: int
    ignore_index: int | tuple[int, ...] | None
    progress: bool | str


@dataclass(eq=False)
class History:
    """The course of training."""

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    best_epoch: int = 0


# Losses


def soft_rates(histograms: Tensor, thresholds: Tensor, temperature: float) -> Tensor:
    """True positive rates (b,), smoothed by a sigmoid, for rows of histograms (b, bins) of probabilities."""
    n_bins = histograms.shape[1]
    middles = (torch.arange(n_bins, dtype=histograms.dtype, device=histograms.device) + 0.5) / n_bins
    return (histograms * torch.sigmoid((middles - thresholds[:, None]) / temperature)).sum(dim=1)


def loss_of(
    core: BinaryValues,
    own: NDArray[np.float64],
    alpha: Fraction,
    settings: TrainingSettings,
    device: torch.device,
) -> Loss:
    """The training loss; `own` are the thresholds (n,) that are best for each image alone."""

    def tensor(values: NDArray[np.float64]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    if settings.loss == "at":
        targets = tensor(own)
        return lambda thresholds, indices: (thresholds - targets[indices]) ** 2
    histograms, level = tensor(core.histograms(_N_BINS)), float(1 - alpha)
    return lambda thresholds, indices: (
        (soft_rates(histograms[indices], thresholds, settings.temperature) - level) ** 2
    )


# Images


def split(n: int, settings: TrainingSettings) -> tuple[list[int], list[int]]:
    """The images that are trained on, and those that decide when to stop."""
    order = np.random.default_rng([settings.random_state, 0]).permutation(n)
    n_looked_at = math.floor(settings.validation_fraction * n) if n >= _FEW else 0
    return sorted(order[n_looked_at:].tolist()), sorted(order[:n_looked_at].tolist())


def batches(indices: NDArray[np.intp], batch_size: int) -> list[Tensor]:
    """Batches of nearly equal size, none with a single image."""
    n_batches = min(math.ceil(len(indices) / batch_size), len(indices) // FEWEST)
    return [torch.from_numpy(part) for part in np.array_split(indices, n_batches)]


# Training


def train(
    network: Any,
    seen: Seen,
    loss: Loss,
    settings: TrainingSettings,
    trained_on: list[int],
    looked_at: list[int],
) -> History:
    """Trains a network, and leaves it with the weights of its best epoch. The bias of its head is the first threshold.

    If no epoch beats the first threshold on the images `looked_at`, the network gives this threshold for all images.
    """
    history, start = History(), network.resnet.fc.bias.detach().clone()
    rng, indices = np.random.default_rng([settings.random_state, 1]), np.array(trained_on, np.intp)
    others = torch.tensor(looked_at, dtype=torch.long)
    steps = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    _reach_over_an_epoch(network, len(batches(indices, settings.batch_size)))
    best, least = None, math.inf
    if looked_at:
        least = float(loss(torch.sigmoid(start).expand(len(others)), others.to(start.device)).mean())
    n_epochs = EPOCHS[settings.loss] if settings.epochs is None else settings.epochs
    with _interruptible(network):
        for epoch in track(range(1, n_epochs + 1), settings.progress, n_epochs, "epoch"):
            network.train()
            history.losses.append(
                _pass(network, seen, loss, batches(rng.permutation(indices), settings.batch_size), steps)
            )
            network.eval()
            if not looked_at:
                history.best_epoch = epoch
                continue
            with torch.no_grad():
                found = _pass(network, seen, loss, list(others.split(settings.batch_size)), None)
            history.validation_losses.append(found)
            if found < least:
                least, history.best_epoch = found, epoch
                best = {name: value.detach().clone() for name, value in network.state_dict().items()}
            elif settings.patience is not None and epoch - history.best_epoch >= settings.patience:
                break
    if best is not None:
        network.load_state_dict(best)
    elif looked_at:
        nn.init.zeros_(network.resnet.fc.weight)
        with torch.no_grad():
            network.resnet.fc.bias.copy_(start)
    network.zero_grad(set_to_none=True)
    return history


def _pass(network: nn.Module, seen: Seen, loss: Loss, parts: list[Tensor], steps: Any) -> float:
    """The mean loss of images in batches. With an optimiser, each batch is followed by a step."""
    total, n = 0.0, 0
    for part in parts:
        thresholds = seen.thresholds(network, part)
        found = loss(thresholds, part.to(thresholds.device)).mean()
        if not torch.isfinite(found):
            raise ValueError("the loss is not finite: check images, weights and the learning rate")
        if steps is not None:
            steps.zero_grad(set_to_none=True)
            found.backward()
            steps.step()
        total, n = total + len(part) * float(found.detach()), n + len(part)
    return total / n


def _reach_over_an_epoch(network: nn.Module, n_batches: int) -> None:
    """Raises the momentum of batch normalisation if there are few batches, so that running means do not lag behind."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = max(_MOMENTUM, 1 / n_batches)


@contextmanager
def _interruptible(network: nn.Module) -> Iterator[None]:
    """Lets Ctrl-C stop a backward pass between two layers: it is one call, and may take a minute on a CPU."""

    def listen(module: nn.Module, given: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: None)  # Python handles signals when its own code runs

    hooks = [each.register_forward_hook(listen) for each in network.modules() if isinstance(each, nn.Conv2d)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
