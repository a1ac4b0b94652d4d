"""What the tests of MMSegmentation work on: a small dataset in files, configs over it, its own scripts."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmcv_ext_shim  # noqa: F401 - before MMSegmentation
import pytest
import torch
from mmengine.config import Config

from conformask import datasets

with warnings.catch_warnings():  # what they warn of while they are imported
    warnings.simplefilter("ignore")
    import mmseg
    import mmseg.apis

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "python"
TOOLS = Path(mmseg.__file__).parent / ".mim" / "tools"
# For a config that does not import the stand-in itself: with the full mmcv nobody needs it.
WITH_STAND_IN = (
    "import mmcv_ext_shim, runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
N_IMAGES = 23
SIZE = (48, 64)

CLASSES = list(datasets.make_scenes(1, size=(48, 64), random_state=0).class_names)


@dataclass
class Workspace:
    """A folder with images, labels and configs."""

    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def config(self, name: str, **changes: Any) -> Path:
        """A config of its own, as a user writes one over the base."""
        body = "\n".join(f"{key} = {value!r}" for key, value in changes.items())
        path = self.folder / f"{name}.py"
        path.write_text(f"_base_ = ['./base.py']\n{body}\n")
        return path

    def run_test_script(self, config: Path, *options: str, ranks: int = 1) -> str:
        """MMSegmentation's own ``tools/test.py``, in processes of its own; what it prints."""
        script = [str(HERE / "run_ranks.py"), str(ranks)] if ranks > 1 else [str(TOOLS / "test.py")]
        if ranks == 1 and config.stem.startswith("page"):
            script = ["-c", WITH_STAND_IN, *script]
        command = [sys.executable, *script, str(config), str(self.folder / "model.pth"), *options]
        done = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
            env=self.environment | {"PYTHONPATH": os.pathsep.join([str(PACKAGE), str(HERE)])},
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        return done.stdout + done.stderr


# What these libraries warn of is theirs. Ours are errors, as everywhere.
FOREIGN_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore:::{library}")
    for library in ("mmseg.*", "mmengine.*", "mmcv.*", "torch.*", "pkg_resources.*")
] + [  # those that come again at the end of pytest.warns, from elsewhere
    pytest.mark.filterwarnings("ignore:.*instance named of visualizer has been created"),
    pytest.mark.filterwarnings("ignore:``build_loss`` would be deprecated"),
    pytest.mark.filterwarnings("ignore:Default ``avg_non_ignore`` is False"),
    pytest.mark.filterwarnings("ignore:`reduce_zero_label` will be deprecated"),
    pytest.mark.filterwarnings("ignore:The draw is False"),
    pytest.mark.filterwarnings("ignore::conformask.SuspiciousLabelsWarning"),  # the networks are not trained
]

IOU = {"type": "IoUMetric", "iou_metrics": ["mIoU"]}
HALVES = {"fraction": 0.5, "seed": 0}

BASE = """
default_scope = 'mmseg'
custom_imports = dict(imports=['mmcv_ext_shim', 'conformask.integrations.mmseg'], allow_failed_imports=False)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.] * 3, std=[60.] * 3, bgr_to_rgb=True, pad_val=0,
                           seg_pad_val=255),
    pretrained=None,
    backbone=dict(type='UNet', in_channels=3, base_channels=4, num_stages=3, strides=(1, 1, 1), enc_num_convs=(1, 1, 1),
                  dec_num_convs=(1, 1), downsamples=(True, True), enc_dilations=(1, 1, 1), dec_dilations=(1, 1),
                  norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU'), upsample_cfg=dict(type='InterpConv')),
    decode_head=dict(type='FCNHead', in_channels=4, in_index=2, channels=8, num_convs=1, concat_input=False,
                     dropout_ratio=0.1, num_classes={n_classes}, norm_cfg=dict(type='BN'), align_corners=False,
                     loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0)),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 72), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=False),
    dict(type='PackSegInputs'),
]
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='BaseSegDataset', data_root={root!r}, data_prefix=dict(img_path='images', seg_map_path='labels'),
                 img_suffix='.png', seg_map_suffix='.png', metainfo=dict(classes={classes!r}, palette={palette!r}),
                 pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
               dist_cfg=dict(backend='gloo'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
default_hooks = dict(timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=1000),
                     param_scheduler=dict(type='ParamSchedulerHook'), sampler_seed=dict(type='DistSamplerSeedHook'),
                     visualization=dict(type='SegVisualizationHook', interval=1))
log_level = 'WARNING'
"""


def build_model(config: Config) -> torch.nn.Module:
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    for parameter in model.decode_head.conv_seg.parameters():
        torch.nn.init.normal_(parameter, std=1.5)  # so that it prefers something
    return model.eval()


def binary_model() -> dict[str, Any]:
    """One map, whose sigmoid MMSegmentation takes."""
    return {
        "type": "EncoderDecoder",
        "backbone": {"type": "UNet", "base_channels": 4, "num_stages": 2, "strides": (1, 1), "enc_num_convs": (1, 1),
                     "dec_num_convs": (1,), "downsamples": (True,), "enc_dilations": (1, 1), "dec_dilations": (1,)},
        "decode_head": {"type": "FCNHead", "in_channels": 4, "in_index": 1, "channels": 4, "num_convs": 1,
                        "num_classes": 2, "out_channels": 1, "threshold": 0.4,
                        "loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": True}},
        "test_cfg": {"mode": "whole"},
    }  # fmt: skip


def sample(logits: torch.Tensor, labels: torch.Tensor, **fields: Any) -> dict[str, Any]:
    """What a metric gets of an image."""
    prediction = logits.argmax(0, keepdim=True) if len(logits) > 1 else (logits > 0.3).to(logits)
    found = {"seg_logits": logits, "pred_sem_seg": prediction, "gt_sem_seg": labels} | fields
    return {
        name: {"data": value} if isinstance(value, torch.Tensor) else value for name, value in found.items()
    }
