"""Maps of all classes from transformers' models, with random weights, beside transformers' own post-processing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as hf
from torch.nn import functional

import conformask as cm
from conformask.integrations.torch import ConformalModule, as_foreground, as_probabilities, as_scores
from conformask.integrations.transformers import inputs_of, semantic_scores

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:::{library}")
    for library in ("torch.*", "torchvision.*", "transformers.*")
]

K, N_IMAGES = 4, 4
SIZE = (50, 70)  # of the labels, which is not that of the model's input
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def swin() -> hf.SwinConfig:
    return hf.SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], out_features=STAGES)


def resnet() -> hf.ResNetConfig:
    return hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=STAGES
    )


DETR = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "num_queries": 6,
}
VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 64}


def segformer() -> Any:
    config = hf.SegformerConfig(
        num_labels=K, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], decoder_hidden_size=16
    )
    return hf.SegformerForSemanticSegmentation(config), hf.SegformerImageProcessor()


def upernet() -> Any:
    config = hf.UperNetConfig(backbone_config=swin(), hidden_size=16, num_labels=K, use_auxiliary_head=False)
    return hf.UperNetForSemanticSegmentation(config), hf.SegformerImageProcessor()


def beit() -> Any:
    config = hf.BeitConfig(
        **VIT, intermediate_size=16, out_indices=[1, 2, 3, 4], num_labels=K, use_auxiliary_head=False
    )
    return hf.BeitForSemanticSegmentation(config), hf.BeitImageProcessor()


def dpt() -> Any:
    config = hf.DPTConfig(
        **VIT, intermediate_size=16, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, num_labels=K, use_auxiliary_head=False,
    )  # fmt: skip
    return hf.DPTForSemanticSegmentation(config), hf.DPTImageProcessor()


def maskformer() -> Any:
    config = hf.MaskFormerConfig(
        fpn_feature_size=32, mask_feature_size=16, num_labels=K, backbone_config=swin(),
        decoder_config=hf.DetrConfig(**DETR),
    )  # fmt: skip
    return hf.MaskFormerForInstanceSegmentation(config), hf.MaskFormerImageProcessor()


def mask2former() -> Any:
    config = hf.Mask2FormerConfig(
        num_labels=K, hidden_dim=32, feature_size=32, mask_feature_size=32, encoder_layers=1, decoder_layers=2,
        num_queries=5, num_attention_heads=2, dim_feedforward=16, encoder_feedforward_dim=16, backbone_config=swin(),
    )  # fmt: skip
    return hf.Mask2FormerForUniversalSegmentation(config), hf.Mask2FormerImageProcessor()


def oneformer() -> Any:
    config = hf.OneFormerConfig(
        backbone_config=swin(), num_labels=K, num_queries=5, hidden_dim=32, conv_dim=32, mask_dim=32,
        encoder_feedforward_dim=16, dim_feedforward=16, num_attention_heads=4, encoder_layers=1, decoder_layers=2,
        query_dec_layers=1, is_training=False, task_seq_len=4, text_encoder_width=16,
    )  # fmt: skip
    processor = (
        SimpleNamespace(  # to make one needs a file of class names from the network; this method needs none
            post_process_semantic_segmentation=lambda *args, **kwargs: (
                hf.OneFormerImageProcessor.post_process_semantic_segmentation(None, *args, **kwargs)
            )
        )
    )
    return hf.OneFormerForUniversalSegmentation(config), processor


def eomt() -> Any:
    config = hf.EomtConfig(
        **{**VIT, "num_hidden_layers": 2}, num_queries=6, num_labels=K, num_blocks=1, num_register_tokens=1
    )
    return hf.EomtForUniversalSegmentation(config), hf.EomtImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 64}
    )


def detr() -> Any:
    config = hf.DetrConfig(use_timm_backbone=False, backbone_config=resnet(), num_labels=K, **DETR)
    return hf.DetrForSegmentation(config), hf.DetrImageProcessor()


def conditional_detr() -> Any:
    config = hf.ConditionalDetrConfig(use_timm_backbone=False, backbone_config=resnet(), num_labels=K, **DETR)
    return hf.ConditionalDetrForSegmentation(config), hf.ConditionalDetrImageProcessor()


# What they give, and how large their masks are made before the sigmoid where the processor alone knows.
LOGITS = [segformer, upernet, beit, dpt]
QUERIES: Mapping[Callable[[], Any], Any] = {
    maskformer: None,
    mask2former: None,
    oneformer: None,
    eomt: (64, 64),
    detr: None,
    conditional_detr: None,
}
MODELS = [*LOGITS, *QUERIES]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LABELS = torch.randint(0, K, (N_IMAGES, *SIZE), generator=seeded(2))


def run(make: Callable[[], Any]) -> tuple[Any, Any, Any, tuple[Any, ...]]:
    """Model, processor, output and what the model got."""
    torch.manual_seed(0)
    model, processor = make()
    images = torch.randn(N_IMAGES, 3, 64, 64, generator=seeded(1))
    given = (images, torch.zeros(N_IMAGES, 4)) if make is oneformer else (images,)
    with torch.no_grad():
        return model.eval(), processor, model(*given), given


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_maps_are_those_of_the_processor(make: Callable[[], Any]) -> None:
    _, processor, output, _ = run(make)
    scores = semantic_scores(output, size=SIZE, mask_size=QUERIES.get(make))
    theirs = processor.post_process_semantic_segmentation(
        output, target_sizes=[SIZE] * N_IMAGES, return_segmentation_scores=True
    )
    for ours, each in zip(scores, theirs, strict=True):
        torch.testing.assert_close(ours, each["segmentation_scores"])
        assert torch.equal(ours.argmax(dim=0), each["segmentation"])
    assert scores.shape == (N_IMAGES, K, *SIZE)
    assert not scores.requires_grad
    assert inputs_of(output) == ("scores" if make in QUERIES else "logits")


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_one_way_to_maps(make: Callable[[], Any]) -> None:
    """as_scores, as_probabilities, as_foreground and the module know all families."""
    model, _, output, given = run(make)
    scores = as_scores(output, size=SIZE)
    assert torch.equal(scores, semantic_scores(output, size=SIZE))
    inputs = inputs_of(output)
    assert inputs is not None
    p = as_probabilities(output, size=SIZE)  # which says nothing of inputs
    assert torch.equal(p, as_probabilities(scores, inputs))
    torch.testing.assert_close(p.sum(dim=1), torch.ones(N_IMAGES, *SIZE))
    assert torch.equal(as_foreground(output, foreground=2, size=SIZE), p[:, 2])
    calibrator = cm.ConformalRiskCalibrator(alpha=0.3, inputs=inputs).fit(scores, LABELS)
    module = ConformalModule(model, calibrator, size=SIZE).eval()
    with torch.no_grad():
        found = module(*given).masks.numpy()
    least, lam = calibrator.predict(scores), float(calibrator.lambda_hat_)
    most = cm.kernels.threshold(
        p.numpy(), min(lam + 1e-4, 1), "lac"
    )  # another softmax: no smaller sets, hardly larger
    assert not (least & ~found).any()
    assert not (found & ~most).any()


def test_sizes_of_mask2former() -> None:
    """Its processor makes all masks 384 x 384 first, whatever the image: so do we, unless another size is said."""
    _, processor, output, _ = run(mask2former)
    assert semantic_scores(output).shape[2:] == (384, 384)
    theirs = processor.post_process_semantic_segmentation(output)
    assert torch.equal(semantic_scores(output).argmax(dim=1), torch.stack(theirs))
    own = semantic_scores(output, mask_size=(16, 16))
    classes, masks = output.class_queries_logits, output.masks_queries_logits
    assert masks.shape[2:] == (16, 16)
    expected = torch.einsum("bqc,bqhw->bchw", classes.softmax(dim=-1)[..., :-1], masks.sigmoid())
    torch.testing.assert_close(own, expected)


def test_scores_of_queries_are_no_probabilities() -> None:
    """Queries overlap, or leave a pixel alone."""
    sure, unsure = torch.tensor([9.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 20.0])  # class 0; no object
    output = {
        "class_queries_logits": torch.stack([sure, sure, unsure])[None],
        "masks_queries_logits": torch.tensor([9.0, -9.0]).expand(1, 3, 1, 2),
    }
    scores = semantic_scores(output)
    assert scores[0, :, 0, 0].sum() > 1.9
    assert scores[0, :, 0, 1].sum() < 0.001
    shares = as_probabilities(output)[0, :, 0]
    torch.testing.assert_close(shares[:, 0], shares[:, 1])  # as sure where no query claims the pixel


def test_whether_there_is_no_object() -> None:
    _, _, output, _ = run(detr)
    classes, masks = output.logits, output.pred_masks
    assert classes.shape[2] == K + 1
    plain = SimpleNamespace(logits=classes, pred_masks=masks)
    for unknown in (plain, {"logits": classes, "pred_masks": masks}):
        with pytest.raises(ValueError, match=r"call semantic_scores\(output, no_object=True\)"):
            as_scores(unknown)
        assert torch.equal(semantic_scores(unknown, no_object=True), semantic_scores(output))
        assert semantic_scores(unknown, no_object=False).shape[1] == K + 1
    kind = type(output)

    class Own(kind):
        """A subclass is what its base is."""

    assert torch.equal(as_scores(Own(logits=classes, pred_masks=masks)), semantic_scores(output))


def test_half_precision_is_combined_in_single() -> None:
    generator = seeded(3)
    output = SimpleNamespace(
        class_queries_logits=torch.randn(2, 5, 4, generator=generator),
        masks_queries_logits=torch.randn(2, 5, 6, 7, generator=generator),
    )
    half = SimpleNamespace(**{name: value.half() for name, value in vars(output).items()})
    found = semantic_scores(half, size=(12, 14))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, semantic_scores(output, size=(12, 14)), atol=3e-3, rtol=3e-3)
    double = SimpleNamespace(**{name: value.double() for name, value in vars(output).items()})
    assert semantic_scores(double).dtype == torch.float64


def sam3_output(**fields: Any) -> Any:
    from transformers.models.sam3.modeling_sam3 import Sam3ImageSegmentationOutput

    generator = seeded(4)
    return Sam3ImageSegmentationOutput(
        pred_masks=torch.randn(3, 5, 8, 8, generator=generator),
        pred_logits=torch.randn(3, 5, generator=generator),
        **fields,
    )


def test_semantic_seg() -> None:
    """SAM 3's map of what a prompt asks for: its sigmoid is interpolated, as its processor does."""
    output = sam3_output(semantic_seg=torch.randn(3, 1, 8, 8, generator=seeded(5)))
    p = as_scores(output, size=SIZE)
    assert p.shape == (3, 2, *SIZE)
    assert inputs_of(output) == "probabilities"
    processor = hf.Sam3ImageProcessor()
    theirs = processor.post_process_semantic_segmentation(
        output, target_sizes=[SIZE] * 3, return_segmentation_scores=True
    )
    for ours, each in zip(p, theirs, strict=True):
        torch.testing.assert_close(ours[1:], each["segmentation_scores"])
        assert torch.equal(ours.argmax(dim=0), each["segmentation"])
    assert torch.equal(as_foreground(output, size=SIZE), p[:, 1])
    assert torch.equal(as_scores(output, size=SIZE, binary="logit"), p)
    with pytest.raises(ValueError, match="semantic_seg holds logits"):
        as_scores(output, binary="probability")
    with pytest.raises(TypeError, match="pred_masks"):
        as_scores(sam3_output())


def sam() -> Any:
    sizes = {"hidden_size": 16, "image_size": 64}
    torch.manual_seed(0)
    config = hf.SamConfig(
        vision_config={
            **sizes, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16,
            "global_attn_indexes": [0], "window_size": 2, "num_pos_feats": 8,
        },
        prompt_encoder_config=sizes,
        mask_decoder_config={
            "hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    return hf.SamModel(config).eval()


def test_masks_of_prompts_are_no_classes() -> None:
    model = sam()
    images, points = torch.randn(12, 3, 64, 64, generator=seeded(1)), torch.full((12, 1, 1, 2), 30.0)
    with torch.no_grad():
        output = model(images, input_points=points)
        as_tuple = model(images, input_points=points, return_dict=False)
    assert output.pred_masks.shape == (12, 1, 3, 16, 16)
    masks = output.pred_masks[:, 0]
    of_meta = (masks, output.iou_scores[:, 0], masks)  # what predict_torch of SAM's own code gives
    listed = [{"masks": masks[0], "iou_predictions": output.iou_scores[0, 0]}]
    for given in (output, as_tuple, of_meta, listed):
        for ask in (as_scores, as_probabilities, as_foreground):
            with pytest.raises(
                TypeError, match=r"alternatives.*iou_scores.*binary='logit'.*BinaryRiskCalibrator"
            ):
                ask(given)
    with pytest.raises(TypeError, match="alternatives"):
        semantic_scores(output)

    # What the message says to do.
    best = output.iou_scores.argmax(dim=2)[..., None, None, None]
    chosen = output.pred_masks.take_along_dim(best, dim=2)[:, 0]
    p = as_foreground(chosen, binary="logit", size=(32, 32))
    truth = torch.rand(p.shape, generator=seeded(6)) < p
    assert cm.BinaryRiskCalibrator(alpha=0.2).fit(p, truth).predict(p).shape == (12, 32, 32)


def test_labels_of_images_beside_maps_are_not_taken_for_sam() -> None:
    """segmentation_models_pytorch gives two tensors, the second of any number of classes."""
    maps = torch.randn(2, 3, 8, 8)
    assert torch.equal(as_scores((maps, torch.zeros(2, 3))), maps)
    assert torch.equal(as_scores((maps, torch.zeros(2, 5), torch.zeros(2, 3, 4, 4))), maps)


def test_a_calibrator_of_logits_is_not_for_queries() -> None:
    model, _, output, given = run(maskformer)
    scores = as_scores(output, size=SIZE)
    with pytest.warns(UserWarning, match="inputs='logits', but"):
        calibrator = cm.ConformalRiskCalibrator(alpha=0.3, inputs="logits").fit(scores, LABELS)
    with pytest.raises(ValueError, match=r"numbers are scores.*calibrate with inputs='scores'"):
        ConformalModule(model, calibrator, size=SIZE).eval()(*given)
    p = as_probabilities(output, size=SIZE)
    for fitted in (
        cm.ConformalRiskCalibrator(alpha=0.3).fit(p, LABELS),
        cm.BinaryRiskCalibrator(alpha=0.3).fit(p[:, 1], LABELS == 1),  # whose module takes logits, else
    ):
        output_sets = ConformalModule(model, fitted, size=SIZE).eval()(*given)
        found = output_sets.masks if hasattr(output_sets, "masks") else output_sets.mask
        expected = fitted.predict(p if hasattr(output_sets, "masks") else p[:, 1])
        assert (found.numpy() != expected).mean() < 0.02


def test_one_class_of_queries() -> None:
    output = {
        "class_queries_logits": torch.randn(2, 5, 2, generator=seeded(0)),
        "masks_queries_logits": torch.randn(2, 5, 6, 7, generator=seeded(1)),
    }
    assert semantic_scores(output).shape == (2, 1, 6, 7)
    for binary in (None, "logit", "probability"):
        with pytest.raises(ValueError, match=r"one class \(K = 1\).*BinaryRiskCalibrator"):
            as_scores(output, binary=binary)


QUERY_FIELDS = {
    "class_queries_logits": torch.zeros(2, 5, 4),
    "masks_queries_logits": torch.zeros(2, 5, 6, 7),
}


@pytest.mark.parametrize(
    ("output", "options", "error", "message"),
    [
        (
            {**QUERY_FIELDS, "masks_queries_logits": torch.zeros(2, 6, 6, 7)},
            {},
            ValueError,
            r"class_queries_logits has \(2, 5\) images and queries, masks_queries_logits has \(2, 6\)",
        ),
        (
            {**QUERY_FIELDS, "masks_queries_logits": torch.zeros(2, 5, 6)},
            {},
            ValueError,
            r"masks_queries_logits must have shape \(B, Q, H, W\), got \(2, 5, 6\)",
        ),
        (
            {**QUERY_FIELDS, "class_queries_logits": torch.zeros(2, 5)},
            {},
            ValueError,
            r"class_queries_logits must have shape \(B, Q, C\), got \(2, 5\)",
        ),
        (
            {**QUERY_FIELDS, "masks_queries_logits": torch.zeros(2, 5, 6, 7, dtype=torch.bool)},
            {},
            TypeError,
            r"masks_queries_logits must hold floating numbers, got torch\.bool",
        ),
        ({**QUERY_FIELDS, "patch_offsets": [torch.zeros(3)]}, {}, ValueError, "patches.*segmentation_scores"),
        (QUERY_FIELDS, {"size": (8, 8, 8)}, ValueError, r"size must have 2 numbers for \(2, 3, 6, 7\)"),
        (QUERY_FIELDS, {"mask_size": 8}, ValueError, r"mask_size must have 2 numbers for \(2, 5, 6, 7\)"),
        ({"logits": torch.zeros(1, 3, 4, 4)}, {"no_object": True}, ValueError, "this one has none"),
        ({"logits": torch.zeros(1, 3, 4)}, {}, ValueError, r"logits must have shape \(B, K, H, W\)"),
        ({"semantic_seg": torch.zeros(1, 2, 4, 4)}, {}, ValueError, r"\(B, 1, H, W\), got \(1, 2, 4, 4\)"),
        ({"pred_masks": torch.zeros(1, 3, 4, 4)}, {}, TypeError, "pred_masks, as SAM and other models"),
        ({"predicted_depth": torch.zeros(1, 4, 4)}, {}, TypeError, "no segmentation of classes"),
        (torch.zeros(1, 3, 4, 4), {}, TypeError, "Tensor has none of logits"),
    ],
)
def test_what_is_refused(output: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        semantic_scores(output, **options)


def test_nothing_is_changed() -> None:
    output = {name: torch.randn(value.shape, generator=seeded(0)) for name, value in QUERY_FIELDS.items()}
    before = {name: value.clone() for name, value in output.items()}
    semantic_scores(output, size=(6, 7), mask_size=(6, 7)).zero_()
    assert all(torch.equal(output[name], before[name]) for name in output)
    segment = {"semantic_seg": torch.ones(1, 1, 4, 4)}
    as_scores(segment).zero_()
    assert segment["semantic_seg"].all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("make", [mask2former, conditional_detr], ids=lambda make: make.__name__)
def test_on_a_gpu(make: Callable[[], Any]) -> None:
    _, _, output, _ = run(make)
    on_gpu = type(output)(
        **{name: value.cuda() for name, value in output.items() if isinstance(value, torch.Tensor)}
    )
    found, expected = as_scores(on_gpu, size=SIZE), as_scores(output, size=SIZE)
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-3)
    sets = cm.ConformalRiskCalibrator(alpha=0.3, inputs="scores").fit(found, LABELS.cuda())
    assert sets.predict(found).shape == tuple(expected.shape)


def test_logits_are_interpolated_before_the_softmax() -> None:
    _, _, output, _ = run(segformer)
    expected = functional.interpolate(output.logits, SIZE, mode="bilinear", align_corners=False)
    assert torch.equal(as_scores(output, size=SIZE), expected)
    assert torch.allclose(as_probabilities(output, size=SIZE), expected.softmax(dim=1))


def test_a_module_refuses_outputs_that_are_not_what_calibration_took_them_for() -> None:
    """Calibration took the softmax of probabilities; the module would take them as they are, and miss more."""
    output = sam3_output(semantic_seg=torch.randn(12, 1, 8, 8, generator=seeded(5)))
    p, truth = as_scores(output), torch.randint(0, 2, (12, 8, 8), generator=seeded(6))
    with pytest.warns(UserWarning, match="logits"):
        as_logits = cm.ConformalRiskCalibrator(alpha=0.2, inputs="logits").fit(p, truth)
    module = ConformalModule(lambda _: output, as_logits)
    with pytest.raises(
        ValueError, match=r"semantic_seg, whose numbers are probabilities, .* inputs='probabilities'"
    ):
        module(torch.zeros(12, 1, 8, 8))


@pytest.mark.parametrize("make", [segformer, mask2former])
def test_outputs_that_were_not_made_to_maps(make: Callable[[], Any]) -> None:
    """Calibrators say what makes maps of them."""
    torch.manual_seed(0)
    with torch.no_grad():
        output = make()[0].eval()(pixel_values=torch.zeros(N_IMAGES, 3, 64, 64))
    labels = torch.zeros((N_IMAGES, *SIZE), dtype=torch.int64)
    for X, y in ((output, labels), ([output], list(labels[:1]))):
        with pytest.raises(TypeError, match=r"integrations\.torch\.as_scores\(X, size=y\.shape\[-2:\]\)"):
            cm.ConformalRiskCalibrator(inputs="logits").fit(X, y)
