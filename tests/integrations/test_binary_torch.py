"""Binary masks from PyTorch: one class of what models give, tensors in calibrators, masks in the forward pass."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from torch.nn import functional

import conformask as cm
from conformask.integrations.torch import BinaryOutput, ConformalModule, as_foreground, as_probabilities

pytestmark = [
    # The networks have learnt nothing.
    pytest.mark.filterwarnings("ignore:masks (of|hold):conformask.SuspiciousLabelsWarning"),
    *(
        pytest.mark.filterwarnings(f"ignore:::{library}")
        for library in ("torch.*", "segmentation_models_pytorch.*", "timm.*")
    ),
]

NEEDS_CUDA = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU; the same operations run here on the CPU"
)
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
CALIBRATORS = {
    "fnr": cm.BinaryRiskCalibrator(alpha=0.2),
    "fpr": cm.BinaryRiskCalibrator(alpha=0.2, risk="fpr"),
    "cra": cm.CRACalibrator(alpha=0.2),
    "at": cm.ATCalibrator(alpha=0.2),
    "coat": cm.COATCalibrator(alpha=0.2),
    "aacrc": cm.AACRCCalibrator(alpha=0.2),
}
OF_IMAGES = ("cra", "at", "coat", "aacrc")  # whose thresholds are those of images


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scenes(n: int = 40, steps: int | None = None, size: tuple[int, ...] = (9, 11)) -> tuple[Any, Any]:
    """Probabilities in float64, on a few steps if asked to, and masks."""
    p = torch.rand((n, *size), generator=seeded(0), dtype=torch.float64) ** 1.5
    if steps is not None:
        p = (p * steps).round() / steps
    return p, torch.rand(p.shape, generator=seeded(1)) < p


def fresh(name: str, **parameters: Any) -> Any:
    return type(CALIBRATORS[name])(**CALIBRATORS[name].get_params(deep=False) | parameters)


def as_array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


class Given(torch.nn.Module):
    """A model that gives what it is given, as the one map of a binary model."""

    def forward(self, p: torch.Tensor) -> torch.Tensor:
        return p[:, None]


class Net(torch.nn.Module):
    """Logits of four classes."""

    def __init__(self, n_classes: int = 4, shrink: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, n_classes, 3, padding=1)
        self.shrink = shrink

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": 4 * functional.avg_pool2d(self.layer(images), self.shrink)}


IMAGES = torch.randn(30, 3, 8, 12, generator=seeded(2))
LABELS = torch.randint(0, 4, (30, 8, 12), generator=seeded(3))


def of_net(name: str, net: torch.nn.Module | None = None, **parameters: Any) -> Any:
    P = as_foreground((net or Net())(IMAGES), foreground=2, size=(8, 12))
    return fresh(name, **parameters).fit(P, LABELS == 2)


# One class of what models give


def test_one_map() -> None:
    one = torch.randn(2, 1, 4, 5, generator=seeded(0))
    expected = one.sigmoid()[:, 0]
    assert torch.allclose(as_foreground(one, binary="logit"), expected, atol=1e-6)
    assert torch.equal(as_foreground(one.sigmoid(), binary="probability"), expected)  # to the bit
    assert torch.equal(as_foreground(one.sigmoid(), binary="probability", foreground=0), 1 - expected)
    with pytest.raises(ValueError, match="one class"):
        as_foreground(one)


def test_one_of_several_maps() -> None:
    maps = torch.randn(2, 4, 5, 6, generator=seeded(0))
    for foreground in range(4):
        found = as_foreground({"out": maps}, foreground=foreground)
        assert torch.equal(found, as_probabilities(maps)[:, foreground])
    assert torch.equal(as_foreground(maps), as_foreground(maps, foreground=np.int64(1)))
    scores = maps.exp()
    assert torch.allclose(
        as_foreground(scores, inputs="scores"), (scores / scores.sum(1, keepdim=True))[:, 1]
    )
    each = maps.sigmoid()  # of classes that overlap
    assert torch.equal(as_foreground(each, inputs="probabilities", foreground=3), each[:, 3])


def test_size_type_and_memory() -> None:
    maps = torch.randn(2, 4, 5, 6, generator=seeded(0)).requires_grad_()
    found = as_foreground(maps, size=(10, 12))
    expected = functional.interpolate(maps, (10, 12), mode="bilinear", align_corners=False).softmax(1)[:, 1]
    assert torch.allclose(found, expected)
    assert not found.requires_grad
    assert found.untyped_storage().nbytes() == 2 * 10 * 12 * 4  # the other classes are let go
    assert as_foreground(torch.randn(1, 3, 2, 4, 5)).shape == (1, 2, 4, 5)
    for dtype in DTYPES:
        expected = torch.float64 if dtype == torch.float64 else torch.float32
        assert as_foreground(maps.to(dtype)).dtype == expected
    given = torch.rand(1, 1, 3, 3)
    as_foreground(given, binary="probability").zero_()
    assert given.all()  # what the model gave is not changed


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"foreground": 4},
            ValueError,
            r"foreground must be in \[0, 3\], got 4: the output has K = 4 classes",
        ),
        ({"foreground": -1}, ValueError, "foreground must be at least 0, got -1"),
        ({"foreground": True}, TypeError, "foreground must be the index of a class, an int, got True"),
        ({"foreground": 1.0}, TypeError, r"foreground must be the index of a class, an int, got 1\.0"),
        ({"foreground": "lesion"}, TypeError, "got 'lesion'"),
        ({"inputs": "probs"}, ValueError, "inputs must be one of"),
        ({"binary": "sigmoid"}, ValueError, "binary must be"),
    ],
)
def test_what_is_no_class(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_foreground(torch.zeros(1, 4, 2, 2), **options)
    if "foreground" in options and error is ValueError:
        with pytest.raises(ValueError, match=r"in \[0, 1\], got 4|at least 0"):
            as_foreground(torch.zeros(1, 1, 2, 2), binary="logit", **options)
    with pytest.raises(TypeError, match="label maps"):
        as_foreground(torch.zeros(1, 4, 2, 2, dtype=int))


# Calibrators take tensors


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_give_what_arrays_give(name: str, dtype: torch.dtype) -> None:
    p, y = scenes()
    P = p.to(dtype)
    known = fresh(name).fit(as_array(P), y.numpy())
    masks, thresholds = known.predict(as_array(P)), known.predict_thresholds(as_array(P))
    report = known.evaluate(as_array(P), y.numpy()).to_dict()
    for data in ((P, y), (P, y.long()), (P.clone().requires_grad_(), y.to(torch.uint8)), (P, y.numpy())):
        found = fresh(name).fit(*data)
        np.testing.assert_array_equal(found.predict(data[0]), masks)
        np.testing.assert_array_equal(found.predict_thresholds(data[0]), thresholds)
        assert found.evaluate(*data).to_dict() == report
    for images in ((list(P), list(y)), (zip(P, y, strict=True),)):
        found = fresh(name).fit(*images)
        np.testing.assert_array_equal(np.stack(found.predict(list(P))), masks)
    strided = P.movedim(0, -1).contiguous().movedim(-1, 0)
    np.testing.assert_array_equal(fresh(name).fit(strided, y).predict(strided), masks)


@NEEDS_CUDA
@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cuda(name: str, dtype: torch.dtype) -> None:
    p, y = scenes()
    P = p.to(dtype)
    known, found = fresh(name).fit(P, y), fresh(name).fit(P.cuda(), y.cuda())
    np.testing.assert_array_equal(found.predict(P.cuda()), known.predict(P))
    output = ConformalModule(Given(), known, binary="probability")(P.cuda())
    assert output.mask.is_cuda
    assert output.threshold.is_cuda
    np.testing.assert_array_equal(output.mask.cpu(), known.predict(output.probability))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda P, y: (P[:, None], y),
            ValueError,
            r"P holds 1 class, pass that of the foreground, P\[:, 0\]",
        ),
        (lambda P, y: (P[:, None].expand(-1, 3, -1, -1), y), ValueError, r"holds 3 classes, .* P\[:, 1\]"),
        (
            lambda P, y: (P, y.float() - 0.5),
            TypeError,
            r"y must hold integer labels, got .*, and -?0\.5 in image 0",
        ),
        (lambda P, y: ((P * 255).byte(), y), TypeError, r"pass P / np\.float32\(255\)$"),
        (lambda P, y: (P.logit(), y), ValueError, "if these are logits"),
        (lambda P, y: (P.to("meta"), y), ValueError, "P is on the meta device"),
        (lambda P, y: (P, y.to("meta")), ValueError, "y is on the meta device"),
        (lambda P, y: (P.to_sparse(), y), TypeError, r"P is a sparse tensor: pass P\.to_dense\(\)"),
    ],
    ids=["one class", "classes", "float masks", "bytes", "logits", "meta", "masks on meta", "sparse"],
)
def test_errors_name_what_helps(change: Any, error: type[Exception], message: str) -> None:
    P, y = scenes()
    with pytest.raises(error, match=message):
        cm.BinaryRiskCalibrator(alpha=0.2).fit(*change(P * 0.98 + 0.01, y))


# Masks in the forward pass


def assert_same_masks(calibrator: Any, p: torch.Tensor) -> BinaryOutput:
    """Those of the calibrator, of the same numbers in the type that they come in and in that of the output."""
    output = ConformalModule(Given(), calibrator, binary="probability").eval()(p)
    assert isinstance(output, BinaryOutput)
    np.testing.assert_array_equal(output.mask, calibrator.predict(as_array(p)))
    np.testing.assert_array_equal(output.mask, calibrator.predict(output.probability))
    space = (-1, *[1] * (p.ndim - 1))
    assert torch.equal(output.mask, output.probability >= output.threshold.reshape(space))
    assert output.threshold.dtype == output.probability.dtype
    exact = calibrator.predict_thresholds(output.probability)
    assert (output.threshold.double().numpy() >= exact).all()
    below = torch.nextafter(output.threshold, torch.full_like(output.threshold, -1.0))
    assert (below.double().numpy() < exact).all()
    return output


@pytest.mark.parametrize("name", CALIBRATORS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("steps", [None, 10])
def test_masks_are_those_of_the_calibrator(name: str, dtype: torch.dtype, steps: int | None) -> None:
    """Calibrated in float64, whose thresholds no narrower type holds, and in the type itself; with ties and without."""
    p, y = scenes(steps=steps)
    for P in (p, p.to(dtype)):
        calibrator = fresh(name).fit(P, y)
        output = assert_same_masks(calibrator, p.to(dtype))
        assert 0 < output.mask.float().mean() < 1
        assert len(output.threshold.unique()) == 1 or name in OF_IMAGES


def at(threshold: float) -> cm.BinaryRiskCalibrator:
    """One pixel calibrates: at alpha = 0.5 it must be in the mask."""
    return cm.BinaryRiskCalibrator(alpha=0.5).fit(np.full((1, 1, 1), threshold), np.ones((1, 1, 1), bool))


@given(st.floats(0, 1), st.sampled_from(DTYPES))
def test_pixels_next_to_any_threshold(threshold: float, dtype: torch.dtype) -> None:
    """A threshold that is rounded to a narrower type would let in pixels, or out."""
    calibrator = at(threshold)
    assert calibrator.threshold_ == threshold
    rounded = torch.tensor([threshold], dtype=torch.float64).to(dtype)
    ends = torch.tensor([0.0, 1.0], dtype=dtype)
    near = torch.cat([torch.nextafter(rounded, ends[:1]), rounded, torch.nextafter(rounded, ends[1:])])
    output = assert_same_masks(calibrator, torch.cat([near, ends]).reshape(1, 1, 5))
    np.testing.assert_array_equal(output.mask[0, 0], torch.cat([near, ends]).double() >= threshold)


@given(st.floats(0, 1), st.sampled_from(DTYPES))
def test_pixels_next_to_the_threshold_of_inner_masks(threshold: float, dtype: torch.dtype) -> None:
    """They begin right above a probability of the background; at 1 they are empty."""
    calibrator = cm.BinaryRiskCalibrator(alpha=0.5, risk="fpr")
    calibrator.fit(np.full((1, 1, 1), threshold), np.zeros((1, 1, 1), bool))
    assert calibrator.threshold_ == np.nextafter(threshold, 2)
    rounded = torch.tensor([threshold], dtype=torch.float64).to(dtype)
    ends = torch.tensor([0.0, 1.0], dtype=dtype)
    near = torch.cat([torch.nextafter(rounded, ends[:1]), rounded, torch.nextafter(rounded, ends[1:])])
    output = assert_same_masks(calibrator, near.reshape(1, 1, 3))
    np.testing.assert_array_equal(output.mask[0, 0], near.double() > threshold)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_module(name: str) -> None:
    calibrator, net = of_net(name), Net()
    module = ConformalModule(net, calibrator, foreground=2).eval()
    P = as_foreground(net(IMAGES), foreground=2)
    output = module(IMAGES)
    assert torch.equal(output.probability, P)
    np.testing.assert_array_equal(output.mask, calibrator.predict(P))
    assert output.mask.dtype == torch.bool
    assert output.threshold.shape == (30,)
    assert not output.probability.requires_grad
    alone = torch.cat([module(image[None]).mask for image in IMAGES])  # the network's sums may end elsewhere
    assert (alone != output.mask).float().mean() < 1e-3
    assert f"foreground=2\n  (model): {type(net).__name__}" in repr(module)
    assert type(calibrator).__name__ in repr(module)
    with pytest.raises(AttributeError, match="lambda_hat"):
        module.lambda_hat  # noqa: B018
    with pytest.raises(AttributeError, match="lambda_hat"):
        module.lambda_hat = 0.5
    assert module.threshold == (None if name in OF_IMAGES else calibrator.threshold_)
    text = repr(output)
    assert text.startswith("BinaryOutput(probability=float32 (30, 8, 12), mask=bool (30, 8, 12), threshold=")
    assert "<th" in output._repr_html_()


def test_thresholds_that_are_found_anew_for_each_image() -> None:
    net = Net()
    P = as_foreground(net(IMAGES), foreground=2)
    calibrator = cm.AACRCCalibrator(
        alpha=0.3,
        guarantee="per_test",
        embedding=lambda P, images: P.reshape(len(P), -1).mean(axis=1)[:, np.newaxis],
    ).fit(P[:25], LABELS[:25] == 2)
    output = ConformalModule(net, calibrator, foreground=2).eval()(IMAGES[25:])
    np.testing.assert_array_equal(output.mask, calibrator.predict(P[25:]))
    assert 0 < output.mask.float().mean() < 1


@pytest.mark.parametrize("name", ["fnr", "coat"])
def test_a_calibrator_that_knows_its_class(name: str) -> None:
    net = Net()
    X = as_probabilities(net(IMAGES))
    calibrator = fresh(name).fit(X, LABELS, classes=2)
    module = ConformalModule(net, calibrator).eval()
    np.testing.assert_array_equal(module(IMAGES).mask, calibrator.predict(X))
    together = fresh(name).fit(X, LABELS, classes=[0, 2])
    with pytest.raises(ValueError, match="about the classes 0, 2 together, but a module is about one"):
        ConformalModule(net, together)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_module_of_another_size_and_of_volumes(name: str) -> None:
    net = Net(shrink=2)
    calibrator = of_net(name, net)
    output = ConformalModule(net, calibrator, foreground=2, size="input").eval()(IMAGES)
    P = as_foreground(net(IMAGES), foreground=2, size=(8, 12))
    np.testing.assert_array_equal(output.mask, calibrator.predict(P))
    p, y = scenes(size=(3, 4, 5))
    found = assert_same_masks(fresh(name).fit(p, y), p.float())
    assert found.mask.shape == (40, 3, 4, 5)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_what_was_found_is_taken_over(name: str) -> None:
    """Also where the calibrator learns or is told something else later; its images are not."""
    p, y = scenes(size=(40, 50))
    calibrator = fresh(name).fit(p, y)
    before = calibrator.predict(p)
    module = ConformalModule(Given(), calibrator, binary="probability")
    sizes = [len(pickle.dumps(each)) for each in (module, calibrator)]
    assert sizes[0] < sizes[1] / 10
    assert not np.array_equal(calibrator.fit(p**3, y).predict(p), before)
    calibrator.alpha = 0.4
    np.testing.assert_array_equal(module(p).mask, before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(module))(p).mask, before)


def by_mean(P: Any, images: Any = None) -> Any:
    """A model of thresholds that is trained already."""
    return P.reshape(len(P), -1).mean(axis=1, dtype=np.float64)


def test_a_predictor_of_ones_own() -> None:
    p, y = scenes()
    assert_same_masks(cm.ATCalibrator(alpha=0.2, predictor=by_mean).fit(p, y), p.float())


def test_a_calibrator_of_a_file(tmp_path: Any) -> None:
    p, y = scenes()
    for name in CALIBRATORS:
        calibrator = fresh(name).fit(p, y)
        calibrator.save(tmp_path / name)
        loaded = type(calibrator).load(tmp_path / name)
        found = ConformalModule(Given(), loaded, binary="probability")(p.float())
        np.testing.assert_array_equal(found.mask, calibrator.predict(p.float()))


# Export


@pytest.mark.parametrize("name", ["fnr", "fpr"])
@pytest.mark.parametrize("strict", [False, True])
def test_module_is_exported_and_saved(name: str, strict: bool) -> None:
    net = Net(shrink=2)
    module = ConformalModule(net, of_net(name, net), foreground=2, size="input").eval()
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(module, (IMAGES,), dynamic_shapes=(({0: batch},),), strict=strict)
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    found, expected = torch.export.load(file).module()(IMAGES[:7]), module(IMAGES[:7])
    assert isinstance(found, BinaryOutput)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert expected.mask.any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exported_masks_have_the_same_ties(dtype: torch.dtype) -> None:
    p, y = scenes(steps=10)
    calibrator = fresh("fnr").fit(p, y)
    module = ConformalModule(Given(), calibrator, binary="probability").eval()
    exported = torch.export.export(module, (p.to(dtype),)).module()
    np.testing.assert_array_equal(exported(p.to(dtype)).mask, calibrator.predict(as_array(p.to(dtype))))


@pytest.mark.parametrize("name", OF_IMAGES)
def test_thresholds_of_images_are_not_exported(name: str) -> None:
    module = ConformalModule(Net(), of_net(name), foreground=2).eval()
    kind = type(CALIBRATORS[name]).__name__
    with pytest.raises(NotImplementedError, match=f"thresholds of {kind} depend on the image"):
        torch.export.export(module, (IMAGES,))


@pytest.mark.parametrize("name", CALIBRATORS)
def test_module_is_compiled(name: str) -> None:
    """What is found on the CPU breaks the graph, no more."""
    module = ConformalModule(Net(), of_net(name), foreground=2).eval()
    torch._dynamo.reset()
    found, expected = torch.compile(module, backend="eager")(IMAGES), module(IMAGES)
    assert torch.equal(found.mask, expected.mask)
    assert torch.equal(found.threshold, expected.threshold)


# What a module refuses


@pytest.mark.parametrize("name", CALIBRATORS)
def test_an_unfitted_calibrator(name: str) -> None:
    with pytest.raises(NotFittedError, match="has seen no images yet"):
        ConformalModule(Net(), fresh(name))


@pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning")  # the network is not trained
def test_classes_that_are_not_there() -> None:
    calibrator = of_net("fnr")
    with pytest.raises(ValueError, match=r"foreground must be in \[0, 1\], got 2: the output has K = 2"):
        ConformalModule(Net(n_classes=2), calibrator, foreground=2)(IMAGES)
    with pytest.raises(ValueError, match="foreground must be at least 0"):
        ConformalModule(Net(), calibrator, foreground=-1)
    with pytest.raises(TypeError, match="foreground must be the index"):
        ConformalModule(Net(), calibrator, foreground="lesion")
    with pytest.raises(ValueError, match="one class"):
        ConformalModule(Net(n_classes=1), calibrator)(IMAGES)
    sets = cm.ConformalRiskCalibrator(inputs="logits", alpha=0.3).fit(Net()(IMAGES)["out"], LABELS)
    with pytest.raises(ValueError, match="foreground=2 is for calibrators of binary masks"):
        ConformalModule(Net(), sets, foreground=2)
    module = ConformalModule(Net(), sets)
    assert (module.lambda_hat, module.n_classes, module.conformity_score) == (sets.lambda_hat_, 4, cm.LAC())
    module.lambda_hat = 1.0
    assert module(IMAGES).masks.all()
    with pytest.raises(AttributeError, match="threshold"):
        module.threshold  # noqa: B018
    with pytest.raises(TypeError, match=r"another one of binary masks, got TemperatureScaler"):
        ConformalModule(Net(), cm.TemperatureScaler())


@pytest.mark.parametrize("name", CALIBRATORS)
def test_numbers_that_are_no_probabilities(name: str) -> None:
    calibrator = of_net(name)
    with pytest.raises(
        ValueError, match=r"the probability of class 2 in image 0 .*if these are logits, pass inputs="
    ):
        ConformalModule(Net(), calibrator, foreground=2, inputs="probabilities")(IMAGES)
    broken = IMAGES.clone()
    broken[3, 1, 4, 5] = torch.nan
    with pytest.raises(
        ValueError, match=r"makes nan the probability of class 2 in image 3 at pixel \(3, 4\)$"
    ):
        ConformalModule(Net(), calibrator, foreground=2)(broken)
    assert ConformalModule(Net(), calibrator, foreground=2)(IMAGES).mask.any()


# A model of segmentation_models_pytorch


@pytest.mark.parametrize("name", CALIBRATORS)
def test_segmentation_models_pytorch(name: str) -> None:
    """With one class it gives logits (B, 1, H, W); its masks are floats (B, 1, H, W)."""
    torch.manual_seed(0)
    model = smp.Unet("resnet18", encoder_weights=None, decoder_channels=(16, 8, 8, 4, 4), classes=1).eval()
    images = torch.randn(20, 3, 32, 64, generator=seeded(4))
    with torch.no_grad():
        logits = model(images)
    assert logits.shape == (20, 1, 32, 64)
    P = as_foreground(logits, binary="logit")
    truth = (torch.rand(logits.shape, generator=seeded(5)) < P[:, None]).float()
    calibrator = fresh(name).fit(P[:15], truth[:15, 0].int())
    module = ConformalModule(model, calibrator, binary="logit").eval()
    output = module(images)
    assert not output.mask.requires_grad
    np.testing.assert_array_equal(output.mask, calibrator.predict(output.probability))
    assert torch.allclose(output.probability, P, atol=1e-6)
    assert 0 < output.mask.float().mean() < 1
    report = calibrator.evaluate(output.probability[15:], truth[15:, 0].int())
    held = (output.mask[15:] & (truth[15:, 0] > 0)).sum(dim=(1, 2)) / truth[15:, 0].sum(dim=(1, 2))
    assert report.coverage == pytest.approx(held.double().mean().item())
