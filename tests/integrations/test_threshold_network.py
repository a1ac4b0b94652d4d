"""The network of thresholds: what it is before training, what it learns, what training promises, bad input."""

from __future__ import annotations

import copy
import pickle
import signal
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn
from torchvision.models import resnet18

import conformask as cm
import ctrl_c
from conformask import _core
from conformask.adaptive._training import own_thresholds
from conformask.integrations._threshold_images import Seen
from conformask.integrations._threshold_training import batches, loss_of, soft_rates, split, train
from conformask.integrations.threshold_network import NetworkPredictor, ThresholdNetwork

# In half of the images the object is where it is improbable.
pytestmark = pytest.mark.filterwarnings("ignore:masks (of|hold):conformask.SuspiciousLabelsWarning")

SIDE, ALPHA = 32, 0.1
SMALL: dict[str, Any] = {"backbone": "resnet18", "size": (SIDE, SIDE), "device": "cpu"}


def problem(n: int, seed: int) -> tuple[NDArray, NDArray, NDArray]:
    """Maps that all look alike, and photographs: the object is the probable half if they are bright.

    There p is Beta(4, 1), in the other half uniform: alpha = .1 needs the thresholds .5623 and .1.
    """
    rng = np.random.default_rng(seed)
    is_bright = (np.arange(n) % 2 == 0)[:, None, None]
    is_probable = rng.random((n, SIDE, SIDE)) < 0.5
    P = np.where(is_probable, rng.beta(4, 1, is_probable.shape), rng.random(is_probable.shape))
    light = np.where(is_bright, 170, 80)[..., None]
    images = rng.normal(light, 30, (n, SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    return P.astype(np.float32), is_probable == is_bright, images


P, Y, PHOTOGRAPHS = problem(16, 1)


def tiny(**changes: Any) -> NetworkPredictor:
    return NetworkPredictor(**{**SMALL, "epochs": 1, "validation_fraction": 0, **changes})


def states(*models: nn.Module) -> bool:
    """Whether networks have the same bits."""
    first, *others = [model.state_dict() for model in models]
    return all(torch.equal(first[name], other[name]) for other in others for name in first)


# The network


@pytest.mark.parametrize("mode", [True, False])
def test_it_gives_a_threshold_for_each_image(mode: bool) -> None:
    network = ThresholdNetwork("resnet18").train(mode)
    generator = torch.Generator().manual_seed(0)
    images, maps = torch.randn(3, 3, 48, 40, generator=generator), torch.rand(3, 48, 40, generator=generator)
    thresholds = network(images, maps)
    assert thresholds.shape == (3,)
    assert ((thresholds >= 0) & (thresholds <= 1)).all()
    assert len(set(thresholds.tolist())) == 3
    network(images, maps.double())
    alone = ThresholdNetwork("resnet18", image_channels=0).train(mode)
    assert alone(None, maps).shape == (3,)


def test_the_fourth_kernels_are_the_mean_of_three() -> None:
    given = resnet18(weights=None).state_dict()
    kept = {name: value.clone() for name, value in given.items()}
    network = ThresholdNetwork("resnet18", weights=given)
    own, mean = network.resnet.state_dict(), kept["conv1.weight"].mean(dim=1)
    assert own["conv1.weight"].shape == (64, 4, 7, 7)
    assert torch.equal(own["conv1.weight"][:, :3], kept["conv1.weight"])
    assert torch.equal(own["conv1.weight"][:, 3], mean)
    others = [name for name in kept if not name.startswith(("conv1.", "fc."))]
    assert all(torch.equal(own[name], kept[name]) for name in others)
    assert all(torch.equal(given[name], kept[name]) for name in kept)
    alone = ThresholdNetwork("resnet18", weights=given, image_channels=0).resnet.conv1
    assert torch.equal(alone.weight[:, 0], mean)
    assert alone.weight.requires_grad
    assert [(each.stride, each.padding, each.bias) for each in (alone, network.resnet.conv1)] == [
        ((2, 2), (3, 3), None)
    ] * 2


def test_weights_come_without_a_head_and_in_any_arrays() -> None:
    given = resnet18(weights=None).state_dict()
    known = ThresholdNetwork("resnet18", weights=given)
    old = {
        name: value.numpy()
        for name, value in given.items()
        if "num_batches" not in name and "fc." not in name
    }
    assert states(known, ThresholdNetwork("resnet18", weights=old))
    other = {**given, "fc.weight": torch.full((7, 512), torch.nan), "fc.bias": torch.zeros(7)}
    assert states(known, ThresholdNetwork("resnet18", weights=other))


def test_the_last_layer_gives_one_number_near_the_start() -> None:
    network = ThresholdNetwork("resnet18", start=0.9).train()
    assert isinstance(network.resnet.fc, nn.Linear)
    assert (network.resnet.fc.in_features, network.resnet.fc.out_features) == (512, 1)
    generator = torch.Generator().manual_seed(1)
    images, maps = torch.randn(8, 3, 64, 64, generator=generator), torch.rand(8, 64, 64, generator=generator)
    thresholds = network(images, maps)
    assert (abs(thresholds - 0.9) < 0.05).all()
    assert thresholds.std() > 0
    logits = network.resnet(torch.cat([images, maps[:, None]], 1))
    assert torch.allclose(network(images, maps), torch.sigmoid(logits[:, 0]))


def test_the_seed_alone_gives_the_first_weights() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (ThresholdNetwork("resnet18", random_state=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert states(first, again)
    assert not states(first, other)


def test_photographs_are_standardised_and_grey_ones_repeated() -> None:
    network = ThresholdNetwork("resnet18").eval()
    bytes_ = torch.from_numpy(PHOTOGRAPHS).movedim(-1, 1)
    maps = torch.from_numpy(P)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    assert torch.allclose(network(bytes_, maps), network((bytes_ / 255 - mean) / deviation, maps), atol=1e-6)
    grey = bytes_[:, :1]
    assert torch.equal(network(grey, maps), network(grey.repeat(1, 3, 1, 1), maps))


def test_the_network_of_the_paper() -> None:
    network = ThresholdNetwork()
    assert network.resnet.fc.in_features == 2048
    assert sum(len(layer) for layer in (getattr(network.resnet, f"layer{i}") for i in (1, 2, 3, 4))) == 16
    predictor = NetworkPredictor(epochs=1, size=(64, 64), device="cpu")
    assert predictor.backbone == "resnet50"
    trained = predictor.fit(P[:4], Y[:4], alpha=0.1, images=PHOTOGRAPHS[:4])
    assert not torch.equal(trained.network_.resnet.conv1.weight, network.resnet.conv1.weight)
    assert trained.predict(P[:2], PHOTOGRAPHS[:2]).shape == (2,)


# The loss


def test_smooth_rates_are_those_of_the_core() -> None:
    rng = np.random.default_rng(0)
    histograms, u = rng.dirichlet(np.full(1024, 0.1), 20), rng.random(20)
    for temperature in (0.01, 0.05, 1.0):
        known = _core.smooth_rates(histograms, u, temperature)
        thresholds = torch.tensor(u, requires_grad=True)
        rates = soft_rates(torch.from_numpy(histograms), thresholds, temperature)
        rates.sum().backward()
        assert np.allclose(rates.detach(), known[:, 0], atol=1e-6)
        assert np.allclose(thresholds.grad, known[:, 1], atol=1e-6)
        assert torch.autograd.gradcheck(
            lambda u, T=temperature: soft_rates(torch.from_numpy(histograms), u, T), thresholds
        )


def test_losses_by_hand() -> None:
    """The own thresholds at alpha = .25 are .4 and .3; smooth rates by definition."""
    maps = np.array([[[0.9, 0.55, 0.4, 0.2]], [[1.0, 1.0, 0.3, 0.3]]])
    core = _core.BinaryValues.build(maps, np.ones(maps.shape, np.uint8), "foreground", None, 0)
    alpha, u, numbers = Fraction(1, 4), torch.tensor([0.3, 0.5]), torch.tensor([1, 0])
    settings = NetworkPredictor()._settings()
    own = own_thresholds(core, alpha)
    known = [1 / (1 + np.exp((u[k].item() - maps[i]) / 0.05)) for k, i in ((0, 1), (1, 0))]
    coat = loss_of(core, own, alpha, settings, torch.device("cpu"))(u, numbers)
    assert np.allclose(coat, [(rate.mean() - 0.75) ** 2 for rate in known], atol=1e-3)
    at = loss_of(core, own, alpha, NetworkPredictor(loss="at")._settings(), torch.device("cpu"))(u, numbers)
    assert np.allclose(at, [0.0, 0.01], atol=1e-6)


# Training


@pytest.fixture(scope="module", params=["coat", "at"])
def trained(request: pytest.FixtureRequest) -> Any:
    """A calibrator of photographs, by either loss."""
    maps, masks, photographs = problem(80, 2)
    kind = {"coat": cm.COATCalibrator, "at": cm.ATCalibrator}[request.param]
    predictor = NetworkPredictor(loss=request.param, epochs=15, batch_size=16, **SMALL)
    return kind(0.1, predictor=predictor).fit(maps, masks, images=photographs)


def test_photographs_tell_what_maps_do_not(trained: Any) -> None:
    maps, masks, photographs = problem(80, 3)
    one = cm.BinaryRiskCalibrator(0.1).fit(*problem(80, 2)[:2]).evaluate(maps, masks)
    report = trained.evaluate(maps, masks, images=photographs)
    assert one.coverage_gap > 0.07
    assert report.coverage_gap < 0.5 * one.coverage_gap
    assert report.coverage > 0.88
    model = trained.predictor_
    assert model is not trained.predictor  # a copy is trained
    assert not hasattr(trained.predictor, "network_")
    thresholds = model.predict(maps, photographs)
    assert thresholds.dtype == np.float64
    # COAT's are a little lower: probabilities near a threshold count less than whole.
    for group, known in ((thresholds[::2], ALPHA**0.25), (thresholds[1::2], ALPHA)):
        assert abs(group.mean() - known) < 0.1
        assert (abs(group - known) < 0.16).all()
    contrary = model.predict(maps, 255 - photographs)
    assert contrary[1::2].mean() > contrary[::2].mean() + 0.2


def test_the_mean_risk_of_new_images_is_at_most_alpha(trained: Any) -> None:
    """Over 400 calibrations by images drawn from a pool, of the others there: alpha = .1, n = 19."""
    maps, masks, photographs = problem(120, 4)
    thresholds = trained.predictor_.predict(maps, photographs)
    rng, risks = np.random.default_rng(5), []
    for _ in range(400):
        order = rng.permutation(120)
        some, others = order[:19], order[19:]
        fitted = cm.ATCalibrator(0.1, predictor=lambda P, images: images)
        fitted.fit(maps[some], masks[some], images=thresholds[some])
        hard = maps[others] >= (thresholds[others] - fitted.correction_)[:, None, None]
        risks.append(1 - ((hard & masks[others]).sum((1, 2)) / masks[others].sum((1, 2))).mean())
    error = np.std(risks) / 20
    assert 0.1 - 1 / 20 - 3 * error - 0.01 <= np.mean(risks) <= 0.1 + 2 * error


def test_maps_alone_tell_what_maps_tell() -> None:
    """p ~ Beta(a, 1) on the foreground, a in {1, 4}: AT finds alpha^(1 / a), which is .1 and .5623."""
    rng, a = np.random.default_rng(6), np.tile([1, 4], 40)
    maps = rng.beta(a[:, None, None], 1, (80, SIDE, SIDE)).astype(np.float32)
    model = NetworkPredictor(loss="at", epochs=15, batch_size=16, **SMALL).fit(
        maps, np.ones(maps.shape, bool), alpha=0.1
    )
    assert model.network_.image_channels == 0
    thresholds = model.predict(maps)
    for each in (1, 4):
        assert abs(thresholds[a == each].mean() - ALPHA ** (1 / each)) < 0.03
        assert (abs(thresholds[a == each] - ALPHA ** (1 / each)) < 0.12).all()


def test_the_same_seed_gives_the_same_network() -> None:
    torch.manual_seed(1)
    first = tiny(epochs=2, batch_size=4).fit(P, Y, alpha=0.1, images=PHOTOGRAPHS)
    torch.manual_seed(2)
    again = tiny(epochs=2, batch_size=4).fit(P, Y, alpha=0.1, images=PHOTOGRAPHS)
    other = tiny(epochs=2, batch_size=4, random_state=1).fit(P, Y, alpha=0.1, images=PHOTOGRAPHS)
    assert states(first.network_, again.network_)
    assert first.losses_ == again.losses_
    assert not states(first.network_, other.network_)


def test_it_stops_early_and_keeps_the_best() -> None:
    maps, masks, photographs = problem(14, 7)
    given = {"alpha": 0.1, "images": photographs}
    long = NetworkPredictor(**SMALL, patience=3, batch_size=8).fit(maps, masks, **given)
    best, losses = long.best_epoch_, long.validation_losses_
    assert 0 < best == 1 + int(np.argmin(losses))
    assert len(losses) == len(long.losses_) == best + 3 < 60
    short = NetworkPredictor(**SMALL, epochs=best, batch_size=8).fit(maps, masks, **given)
    assert states(long.network_, short.network_)
    assert not long.network_.training
    endless = NetworkPredictor(**SMALL, epochs=best + 4, patience=None, batch_size=8).fit(
        maps, masks, **given
    )
    assert len(endless.losses_) == best + 4


def test_where_nothing_is_better_all_have_one_threshold() -> None:
    """Of maps whose foreground is .9 and .1 elsewhere, pixel by pixel: not the .5 that resized maps show."""
    masks = np.indices((20, 64, 64)).sum(axis=0) % 2 == 0
    maps = np.where(masks, 0.9, 0.1)
    model = NetworkPredictor(**SMALL, loss="at", epochs=2).fit(maps, masks, alpha=0.1)
    assert model.best_epoch_ == 0
    assert np.allclose(model.predict(maps), 0.9, atol=1e-6)


def test_images_without_a_foreground_teach_nothing() -> None:
    maps, masks = (
        np.concatenate([P[:1], P, P[:1]]),
        np.concatenate([~Y[:1] * 255, Y, 0 * Y[:1]]).astype(np.uint8),
    )
    images = np.concatenate([PHOTOGRAPHS[:1], PHOTOGRAPHS, PHOTOGRAPHS[:1]])
    known = tiny().fit(P, Y, alpha=0.1, images=PHOTOGRAPHS)
    assert states(known.network_, tiny().fit(maps, masks, alpha=0.1, images=images).network_)
    masks[0][~Y[0]] = 77
    assert states(
        known.network_,
        tiny(ignore_index=77)
        .fit(maps[:-1], np.where(masks[:-1] == 255, 77, masks[:-1]), alpha=0.1, images=images[:-1])
        .network_,
    )


def test_no_batch_holds_a_single_image() -> None:
    for n in range(2, 70):
        for batch_size in (2, 3, 8, 64):
            parts = batches(np.arange(n), batch_size)
            assert torch.equal(torch.cat(parts), torch.arange(n))
            assert min(map(len, parts)) >= 2
            assert max(map(len, parts)) <= max(batch_size, 3)
    for n in (2, 3, 5):
        model = tiny(batch_size=2).fit(P[:n], Y[:n], alpha=0.1)
        assert np.isfinite(model.predict(P)).all()


def test_a_part_of_the_images_tells_when_to_stop() -> None:
    settings = NetworkPredictor(validation_fraction=0.2)._settings()
    assert split(9, settings) == (list(range(9)), [])
    trained_on, looked_at = split(50, settings)
    assert len(looked_at) == 10
    assert sorted(trained_on + looked_at) == list(range(50))
    assert len(split(100, NetworkPredictor(validation_fraction=0.29)._settings())[1]) == 29
    other = NetworkPredictor(validation_fraction=0.2, random_state=1)._settings()
    assert split(50, other) != (trained_on, looked_at)


def test_means_of_few_batches_do_not_lag_behind() -> None:
    """In evaluation mode a network of three steps says what it says of the whole batch in training mode."""
    model = tiny(epochs=3, learning_rate=1e-4).fit(P, Y, alpha=0.1, images=PHOTOGRAPHS)
    images, maps = torch.from_numpy(PHOTOGRAPHS).movedim(-1, 1), torch.from_numpy(P)
    network = copy.deepcopy(model.network_)
    with torch.no_grad():
        assert torch.allclose(network.train()(images, maps), model.network_(images, maps), atol=0.02)


def test_training_within_inference_mode() -> None:
    known = tiny().fit(P, Y, alpha=0.1)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert states(known.network_, tiny().fit(P, Y, alpha=0.1).network_)


def test_ctrl_c_stops_training() -> None:
    before = (
        "import torch\n"
        "from conformask.integrations.threshold_network import NetworkPredictor\n"
        "torch.set_num_threads(1)\n"
        "P = np.random.default_rng(0).random((64, 128, 128))\n"
        "model = NetworkPredictor(size=(64, 64), validation_fraction=0, device='cpu')\n"
    )
    ctrl_c.stops("model.fit(P, P > 0.5, alpha=0.1)", before=before, seconds=2)


def test_signals_are_heard_within_a_backward_pass() -> None:
    """A hundredth of a second after it began: the first layer, which comes last, has no gradient then."""
    network = ThresholdNetwork("resnet18", image_channels=0)
    seen = Seen(torch.rand(32, 64, 64, generator=torch.Generator().manual_seed(0)), None)

    def begin(gradient: torch.Tensor) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.01)

    def loss(thresholds: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        thresholds.register_hook(begin)
        return thresholds**2

    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(network, seen, loss, NetworkPredictor(epochs=1)._settings(), list(range(32)), [])
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert network.resnet.fc.weight.grad is not None
    assert network.resnet.conv1.weight.grad is None


# Images


@pytest.fixture(scope="module")
def seeing() -> NetworkPredictor:
    return tiny().fit(P, Y, alpha=0.1, images=PHOTOGRAPHS)


def test_no_threshold_depends_on_the_other_images(seeing: NetworkPredictor) -> None:
    known = seeing.predict(P, PHOTOGRAPHS)
    assert ((known >= 0) & (known <= 1)).all()
    assert len(set(known.tolist())) > 8
    assert seeing.predict(P[5:6], PHOTOGRAPHS[5:6])[0] == known[5]
    assert (copy.deepcopy(seeing).set_params(size=(9, 9)).predict(P, PHOTOGRAPHS) == known).all()
    assert (seeing.predict(P[::-1], PHOTOGRAPHS[::-1]) == known[::-1]).all()
    assert (seeing.predict(list(P), iter(PHOTOGRAPHS)) == known).all()


def test_any_size_goes_in(seeing: NetworkPredictor) -> None:
    rng = np.random.default_rng(8)
    shapes = [(20, 30), (64, 48), (31, 33), (1, 1), (200, 100)]
    maps = [rng.random(shape) for shape in shapes]
    masks = [rng.random(shape) < 0.5 for shape in shapes]
    masks[3][:] = True
    images = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    images[0] = rng.integers(0, 256, (77, 99, 3), np.uint8)  # larger than what the model of P saw
    thresholds = seeing.predict(maps, images)
    alone = [seeing.predict(p[None], image[None])[0] for p, image in zip(maps, images, strict=True)]
    assert thresholds.tolist() == alone
    fitted = tiny().fit(maps, masks, alpha=0.2, images=images)
    calibrator = cm.ATCalibrator(0.4, predictor=fitted.predict).fit(maps, masks, images=images)
    assert [mask.shape for mask in calibrator.predict(maps, images)] == shapes


def test_any_kind_of_images_goes_in(seeing: NetworkPredictor) -> None:
    known = seeing.predict(P, PHOTOGRAPHS)
    first = torch.from_numpy(PHOTOGRAPHS).movedim(-1, 1)
    frozen = PHOTOGRAPHS.copy()
    frozen.flags.writeable = False
    for images in (
        first,
        list(first),
        [Image.fromarray(each) for each in PHOTOGRAPHS],
        frozen,
        frozen[:, ::-1][:, ::-1],
    ):
        assert (seeing.predict(P, images) == known).all()
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    standard = (PHOTOGRAPHS / 255 - mean) / deviation
    for floats in (standard, standard.astype(">f4"), torch.from_numpy(standard).movedim(-1, 1)):
        assert np.allclose(seeing.predict(P, floats), known, atol=1e-6)
    grey = PHOTOGRAPHS[..., 0]
    expected = seeing.predict(P, np.stack([grey] * 3, axis=-1))
    for images in (grey, grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[:, None]):
        assert (seeing.predict(P, images) == expected).all()


def test_any_kind_of_probabilities_goes_in(seeing: NetworkPredictor) -> None:
    coarse = P.astype(np.float16)
    known = seeing.predict(coarse, PHOTOGRAPHS)
    kinds = [coarse.astype(np.float32), coarse.astype(np.float64), coarse.astype(">f8")]
    for maps in (
        *kinds,
        list(coarse),
        torch.from_numpy(coarse),
        list(torch.from_numpy(coarse)),
        coarse[:, :, ::-1][:, :, ::-1],
    ):
        assert (seeing.predict(maps, PHOTOGRAPHS) == known).all()
    bits = torch.from_numpy(coarse).bfloat16()
    assert (seeing.predict(bits, PHOTOGRAPHS) == seeing.predict(bits.float(), PHOTOGRAPHS)).all()
    masks = torch.from_numpy(Y)
    again = tiny().fit(
        torch.from_numpy(P), masks, alpha=0.1, images=torch.from_numpy(PHOTOGRAPHS).movedim(-1, 1)
    )
    assert again == tiny().fit(list(P), list(Y.astype(int)), alpha=0.1, images=list(PHOTOGRAPHS)) == seeing


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(seeing: NetworkPredictor) -> None:
    there = copy.deepcopy(seeing).set_params(device="cuda")
    assert np.allclose(there.predict(P, PHOTOGRAPHS), seeing.predict(P, PHOTOGRAPHS), atol=1e-3)
    assert next(there.network_.parameters()).is_cuda
    model = tiny(device="cuda", epochs=3, batch_size=4, validation_fraction=0.25).fit(
        P, Y, alpha=0.1, images=PHOTOGRAPHS
    )
    assert model.losses_[-1] < model.losses_[0]
    assert np.allclose(
        copy.deepcopy(model).set_params(device="cpu").predict(P, PHOTOGRAPHS),
        model.predict(P, PHOTOGRAPHS),
        atol=1e-3,
    )


# An estimator


def test_it_is_an_estimator(seeing: NetworkPredictor) -> None:
    weights = resnet18(weights=None).state_dict()
    model = tiny(weights=weights, loss="at")
    again = clone(model)
    assert again is not model
    assert again == model
    assert again != clone(model).set_params(epochs=2)
    assert again != clone(model).set_params(weights=None)
    assert again != clone(model).set_params(weights={**weights, "bn1.bias": weights["bn1.bias"] + 1})
    assert clone(model).set_params(device=None, progress=False) == model
    assert model != 1
    shown = repr(model)
    assert "weights=<122 tensors>" in shown
    assert "loss='at'" in shown
    assert len(shown) < 200
    assert "best epoch" in seeing._repr_html_()
    for copied in (copy.deepcopy(seeing), pickle.loads(pickle.dumps(seeing))):
        assert copied == seeing
        assert (copied.predict(P, PHOTOGRAPHS) == seeing.predict(P, PHOTOGRAPHS)).all()
    assert clone(seeing) != seeing
    with pytest.raises(NotFittedError, match="call fit first"):
        clone(seeing).predict(P, PHOTOGRAPHS)


def test_calibrators_of_one_trained_network_merge() -> None:
    maps, masks, photographs = problem(60, 9)
    fitted = cm.COATCalibrator(0.2, predictor=tiny()).fit(maps[:20], masks[:20], images=photographs[:20])
    worker = pickle.loads(pickle.dumps(fitted))
    assert worker.predictor_ is not fitted.predictor_
    with pytest.warns(cm.DuplicateImagesWarning):  # those that both have
        fitted.merge(worker)
    assert fitted.n_images_ == 20
    other = cm.COATCalibrator(0.2, predictor=tiny(random_state=5)).fit(
        maps[:20], masks[:20], images=photographs[:20]
    )
    with pytest.raises(ValueError, match="the models of thresholds differ"):
        fitted.merge(other)
    with pytest.raises(ValueError, match="fit again"):
        fitted.set_params(predictor=tiny(epochs=2)).predict_thresholds(maps, photographs)


def test_torchvision_is_asked_for_only_when_a_network_is_made() -> None:
    code = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'torchvision':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}')\n"
        "sys.meta_path.insert(0, Block())\n"
        "from conformask.integrations.threshold_network import NetworkPredictor, ThresholdNetwork\n"
        "for make in (ThresholdNetwork, lambda: NetworkPredictor().fit(None, None, alpha=0.1)):\n"
        "    try:\n"
        "        make()\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.count("pip install torchvision") == 2


# Bad input


def test_bad_networks_are_refused() -> None:
    given = resnet18(weights=None).state_dict()
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"backbone": "resnet19"}, ValueError, "backbone must be one of .*got 'resnet19'"),
        ({"image_channels": 1}, ValueError, "image_channels must be 3 or 0, got 1"),
        ({"start": 1}, ValueError, r"start must be in \(0, 1\), got 1"),
        ({"random_state": -1}, ValueError, "random_state must be in"),
        (
            {"weights": "imagenet"},
            TypeError,
            "weights must be the state dict of torchvision's resnet18, or None, got str",
        ),
        ({"weights": {}}, ValueError, "they lack 'conv1.weight' and 99 others"),
        (
            {"weights": {k: v for k, v in given.items() if k != "bn1.bias"}},
            ValueError,
            "they lack 'bn1.bias'$",
        ),
        ({"weights": {**given, "module.bias": given["bn1.bias"]}}, ValueError, "hold besides 'module.bias'"),
        (
            {"weights": {**given, "bn1.bias": torch.zeros(63)}},
            ValueError,
            r"bn1.bias is \(63,\), not \(64,\)",
        ),
        (
            {"weights": {**given, "bn1.bias": torch.full((64,), torch.nan)}},
            ValueError,
            "NaN or infinity in bn1.bias",
        ),
    ]
    for changes, kind, says in wrong:
        with pytest.raises(kind, match=says):
            ThresholdNetwork(**{"backbone": "resnet18", **changes})
    network = ThresholdNetwork("resnet18")
    images, maps = torch.zeros(2, 3, 32, 32), torch.zeros(2, 32, 32)
    calls: list[tuple[ThresholdNetwork, tuple[Any, Any], type[Exception], str]] = [
        (
            network,
            (images, maps[0]),
            ValueError,
            r"P must be a floating \(B, H, W\), got torch.float32 of shape \(32, 32\)",
        ),
        (network, (images, maps.long()), ValueError, "got torch.int64"),
        (network, (None, maps), ValueError, "images lack, though the network sees photographs"),
        (
            network,
            (images[:, :2], maps),
            ValueError,
            r"images must be \(B, 3, H, W\) or .*got \(2, 2, 32, 32\)",
        ),
        (network, (images[..., 1:], maps), ValueError, r"of the size of P \(2, 32, 32\)"),
        (network, (images.long(), maps), TypeError, "uint8, or floating and standardised, got int64"),
        (
            ThresholdNetwork("resnet18", image_channels=0),
            (images, maps),
            ValueError,
            "does not see photographs",
        ),
    ]
    for each, given_, kind, says in calls:
        with pytest.raises(kind, match=says):
            each(*given_)


def test_bad_parameters_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"loss": "mse"}, ValueError, r"loss must be one of \['coat', 'at'\], got 'mse'"),
        ({"temperature": 0}, ValueError, "temperature must be above 0, got 0"),
        ({"epochs": 0}, ValueError, "epochs must be in"),
        ({"batch_size": 1}, ValueError, r"batch_size must be in \[2,"),
        ({"learning_rate": -1}, ValueError, "learning_rate must be above 0"),
        ({"size": 224}, ValueError, "size must be a height and a width, got 224"),
        ({"size": (224, 0.5)}, TypeError, "size must be an int"),
        ({"validation_fraction": 1}, ValueError, r"validation_fraction must be in \[0, 1\), got 1"),
        ({"patience": 0}, ValueError, "patience must be in"),
        ({"random_state": None}, TypeError, "random_state must be an int"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index must be an int or None"),
        ({"progress": "yes"}, ValueError, "progress must be one of"),
        ({"backbone": "vgg"}, ValueError, "backbone must be one of"),
        ({"weights": {}}, ValueError, "they lack"),
        ({"learning_rate": 1e30, "epochs": 2}, ValueError, "the loss is not finite"),
    ]
    for changes, kind, says in wrong:
        model = tiny(**changes)
        with pytest.raises(kind, match=says):
            model.fit(P, Y, alpha=0.1)
        assert not hasattr(model, "network_")
    for alpha in (0, 1, 1.5):
        with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\)"):
            tiny().fit(P, Y, alpha=alpha)


@pytest.mark.parametrize("method", ["fit", "predict"])
def test_bad_images_are_refused(seeing: NetworkPredictor, method: str) -> None:
    infinite, bad, large = PHOTOGRAPHS.astype(np.float32), P.copy(), P.copy()
    infinite[3, 0, 0, 0] = np.inf
    bad[2, 1, 1], large[2, 1, 1] = np.nan, 1.5
    first = np.moveaxis(PHOTOGRAPHS, -1, 1)
    tall = np.zeros((16, SIDE, 20), np.float32)
    wrong: list[tuple[Any, Any, type[Exception], str]] = [
        (P, PHOTOGRAPHS[:15], ValueError, "images has 15 images, P has more"),
        (P[:15], PHOTOGRAPHS, ValueError, "P has 15 images, images has more"),
        (
            P,
            first,
            ValueError,
            r"channels last.* got an array of shape \(3, 32, 32\) in image 0 .*pass np.moveaxis",
        ),
        (
            P,
            torch.from_numpy(PHOTOGRAPHS),
            ValueError,
            r"got a tensor of shape \(32, 32, 3\) .*pass image.movedim",
        ),
        (P, np.zeros((16, 32, 32, 4), np.uint8), ValueError, "leave out the fourth channel"),
        (P, [*PHOTOGRAPHS[:5], *first[:11]], ValueError, "in image 5 of those handed to the predictor"),
        (P, np.zeros((16, 32)), ValueError, r"got an array of shape \(32,\)"),
        (P, PHOTOGRAPHS.astype(np.int64), TypeError, "uint8, or floating and standardised, got int64"),
        (P, torch.zeros(16, 3, 8, 8, dtype=torch.int32), TypeError, "got int32"),
        (P, np.array(["a"] * 16), TypeError, "got <U1"),
        (P, infinite, ValueError, "NaN or infinity in image 3"),
        (
            tall,
            np.zeros((16, 20, SIDE, 3), np.uint8),
            ValueError,
            r"H and W swapped: \(20, 32\) and \(32, 20\) in image 0",
        ),
        (bad, PHOTOGRAPHS, ValueError, "image 2"),
        (large, PHOTOGRAPHS, ValueError, "1.5"),
        (P[:, None], PHOTOGRAPHS, ValueError, "of images and not of volumes"),
        (P[0], PHOTOGRAPHS, ValueError, "P must have shape"),
        ((P * 255).astype(np.uint8), PHOTOGRAPHS, TypeError, "must be float16, float32 or float64"),
        (P[:0], PHOTOGRAPHS[:0], ValueError, "P is empty"),
    ]
    if method == "predict":
        wrong.append((P, None, ValueError, "images lack, though the network sees photographs"))
    for maps, images, kind, says in wrong:
        model = seeing if method == "predict" else tiny()
        labels = {"y": np.ones(np.shape(maps), bool), "alpha": 0.1} if method == "fit" else {}
        with pytest.raises(kind, match=says):
            getattr(model, method)(maps, images=images, **labels)
        assert hasattr(model, "network_") == (method == "predict")


def test_a_network_that_gives_no_numbers_says_so(seeing: NetworkPredictor) -> None:
    broken = copy.deepcopy(seeing)
    nn.init.constant_(broken.network_.resnet.fc.bias, torch.nan)
    with pytest.raises(ValueError, match="the network gives NaN for image 0 of those"):
        broken.predict(P, PHOTOGRAPHS)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="1 image with a foreground cannot train a network"):
        tiny().fit(P[:1], Y[:1], alpha=0.1)
    with pytest.raises(ValueError, match="no image has a foreground"):
        tiny().fit(P, 0 * Y, alpha=0.1)
    with pytest.raises(
        ValueError, match=r"1 image with a foreground .*16 images have one and 15 of them tell when"
    ):
        tiny(validation_fraction=0.95).fit(P, Y, alpha=0.1)
    with pytest.raises(ValueError, match="images are given, though the network does not see photographs"):
        tiny().fit(P, Y, alpha=0.1).predict(P, PHOTOGRAPHS)
    with pytest.raises(ValueError, match="255"):
        tiny(ignore_index=None).fit(P, np.where(Y, 1, 255), alpha=0.1)
