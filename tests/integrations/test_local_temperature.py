"""The network of local temperatures: what it is before training, what training does, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conformask.integrations.local_temperature import LocalTemperature, fit_local_temperature


def problem(n: int = 8, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, images and labels; where the image is bright, the logits are three times too large, elsewhere right."""
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(n, 4, 24, 24, generator=generator)
    image = torch.zeros(n, 3, 24, 24)
    image[:, :, :, 12:] = 1
    noise = -torch.log(-torch.log(torch.rand(z.shape, generator=generator)))
    labels = (z + noise).argmax(1)
    labels[:, :3] = 255
    return z * (1 + 2 * image[:, :1]), image, labels


@pytest.mark.parametrize("channels", [0, 3])
def test_the_temperature_is_near_2_before_training(channels: int) -> None:
    logits, image, _ = problem()
    module = LocalTemperature(4, channels)
    given = (logits, image) if channels else (logits,)
    temperatures = module.temperature(*given)
    assert torch.allclose(temperatures, torch.full((8, 1, 24, 24), 2.0), atol=0.2)
    assert torch.equal(module(*given), logits / temperatures)


def test_the_seed_alone_gives_the_first_weights() -> None:
    weights = [[leaf.weight for leaf in LocalTemperature(4, random_state=seed).leaves] for seed in (0, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))
    with pytest.raises(ValueError, match="random_state must be in"):
        LocalTemperature(4, random_state=-1)


def test_leaves_and_forks_learn_different_things() -> None:
    logits, image, labels = problem()
    module = LocalTemperature(4)
    fit_local_temperature(module, [(logits, image, labels)], epochs=3)
    leaves = [leaf.weight.detach() for leaf in module.leaves]
    assert not any(torch.equal(leaves[i], leaves[j]) for i in range(4) for j in range(i))
    assert all(float(fork.weight.detach().abs().max()) > 1e-4 for fork in (*module.forks, module.image_fork))


@pytest.mark.parametrize(("ignored", "dtype"), [(None, torch.uint8), (-1, torch.int64), (300, torch.int16)])
def test_any_label_may_be_that_of_void_pixels(ignored: int | None, dtype: torch.dtype) -> None:
    logits, _, labels = problem()
    module, expected = LocalTemperature(4, 0), LocalTemperature(4, 0)
    void = labels == 255
    if ignored is None:
        logits, labels, void = logits[:, :, 3:], labels[:, 3:], void[:, 3:]
    given = labels.masked_fill(void, ignored or 0).to(dtype)
    assert fit_local_temperature(
        module, [(logits, given)], epochs=2, ignore_index=ignored
    ) == fit_local_temperature(expected, [(logits, labels)], epochs=2)


def test_it_learns_where_the_model_is_too_sure() -> None:
    (logits, image, labels), (new, new_image, new_labels) = problem(64), problem(seed=1)
    module = LocalTemperature(4)
    batches = list(zip(logits.split(4), image.split(4), labels.split(4), strict=True))
    losses = fit_local_temperature(module, batches, epochs=4, learning_rate=0.003)
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert not module.training
    with torch.no_grad():
        found = module.temperature(new, new_image)
        after = functional.cross_entropy(module(new, new_image), new_labels, ignore_index=255)
    one = min(
        float(functional.cross_entropy(new / T, new_labels, ignore_index=255)) for T in (1, 1.5, 2, 2.5, 3)
    )
    assert float(after) < one
    assert found[..., 12:].mean() > 1.5 * found[..., :12].mean()
    assert (module(new, new_image).argmax(1) == new.argmax(1)).all()


def test_void_pixels_teach_nothing() -> None:
    logits, _, labels = problem()
    trained = []
    for filler in (0.0, 1e3):
        module = LocalTemperature(4, 0)
        other = logits.clone()
        other[:, :, :1] = filler  # beyond the windows of labelled pixels
        void = torch.where(torch.arange(24)[:, None] < 6, 255, labels)
        fit_local_temperature(module, [(other, void)], epochs=3)
        trained.append(module.state_dict())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_bad_input_is_refused() -> None:
    logits, image, labels = problem(2)
    module, blind = LocalTemperature(4), LocalTemperature(4, 0)
    wrong: list[tuple[LocalTemperature, tuple[Any, ...], str]] = [
        (blind, (logits[:, :3],), r"logits must be \(B, 4, H, W\) .* got \(2, 3, 24, 24\)"),
        (blind, (logits[..., :4],), "H and W of at least 5"),
        (blind, (logits, image), "image must be None, as image_channels is 0"),
        (module, (logits,), "image must be a tensor of 3 channels"),
        (module, (logits, image[..., 1:]), r"image must be \(B, 3, H, W\) of the size"),
    ]
    for each, given, says in wrong:
        with pytest.raises(ValueError, match=says):
            each(*given)
    with pytest.raises(ValueError, match="least must be above 0, got 0"):
        LocalTemperature(4, least=0)
    with pytest.raises(TypeError, match="read once only"):
        fit_local_temperature(blind, iter([(logits, labels)]))
    with pytest.raises(ValueError, match="no labelled pixel"):
        fit_local_temperature(blind, [(logits, torch.full_like(labels, 255))])
    with pytest.raises(ValueError, match="ignore_index is 2, which is one of the 4 classes"):
        fit_local_temperature(blind, [(logits, labels)], ignore_index=2)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 4\) or ignore_index, got 255"):
        fit_local_temperature(blind, [(logits, labels.byte())], ignore_index=-1)
    with pytest.raises(ValueError, match="not finite"):
        fit_local_temperature(blind, [(logits * torch.nan, labels)])
