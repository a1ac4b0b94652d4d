"""What calibration adds to inference: SegFormer-B0, 19 classes, 512 x 512, batches of 2, on one device.

The network is MMSegmentation's, with random weights; the metric is what ``tools/test.py`` calls after a batch. Labels
agree with the prediction on 85 % of the pixels, 5 % are void. Rounds are interleaved; medians are printed.

    python benches/torch_overhead.py --repeats 9
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integrations"))
warnings.simplefilter("ignore")

import torch  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402
from workspace import TOOLS, Config, build_model  # noqa: E402

from conformask.integrations.mmseg import ConformalCalibration, attach  # noqa: E402

K, SIZE, BATCH = 19, (512, 512), 2
METRICS = {
    "lac": {},
    "lac, exact profile": {"profile": "exact"},
    "aps": {"conformity_score": "aps"},
    "binary loss": {"loss": "binary"},
}


def model_on(device: str) -> torch.nn.Module:
    config = Config.fromfile(TOOLS.parent / "configs" / "_base_" / "models" / "segformer_mit-b0.py")
    config.model.decode_head.norm_cfg = {"type": "BN"}
    return build_model(config).to(device)


def batch_on(device: str) -> dict[str, Any]:
    metainfo = {"ori_shape": SIZE, "img_shape": SIZE, "pad_shape": SIZE}
    images = torch.randint(0, 255, (BATCH, 3, *SIZE), dtype=torch.uint8)
    samples = [SegDataSample(metainfo=dict(metainfo)) for _ in images]
    return {"inputs": list(images.to(device)), "data_samples": samples}


def labels_of(samples: list[Any]) -> None:
    for sample in samples:
        labels = sample.pred_sem_seg.data.clone()
        wrong, void = torch.rand(labels.shape) > 0.85, torch.rand(labels.shape) < 0.05
        other = torch.randint(0, K, labels.shape)
        labels = torch.where(wrong.to(labels.device), other.to(labels.device), labels)
        sample.gt_sem_seg = PixelData(data=torch.where(void.to(labels.device), 255, labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()

    def sync() -> None:
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()

    def seconds(call: Callable[[], Any]) -> float:
        sync()
        start = time.perf_counter()
        call()
        sync()
        return time.perf_counter() - start

    model, batch = model_on(options.device), batch_on(options.device)
    with torch.no_grad():
        samples = model.test_step(batch)
    labels_of(samples)
    given = [sample.to_dict() for sample in samples]
    metrics = {name: ConformalCalibration(**parameters) for name, parameters in METRICS.items()}
    halved = [each | {"seg_logits": {"data": each["seg_logits"]["data"].bfloat16()}} for each in given]
    for each in halved:  # rounded logits have another argmax
        each["pred_sem_seg"] = {"data": each["seg_logits"]["data"].argmax(0, keepdim=True)}
    calls: dict[str, Callable[[], None]] = {
        name: lambda metric=metric: metric.process({}, given) for name, metric in metrics.items()
    }
    metrics["lac, bfloat16"] = ConformalCalibration()
    calls["lac, bfloat16"] = lambda: metrics["lac, bfloat16"].process({}, halved)
    calibration = ConformalCalibration(alpha=0.3)
    calibration.process({}, given * 2)
    calibration.evaluate(4)

    def forward() -> Any:
        with torch.no_grad():
            return model.test_step(batch)

    times: dict[str, list[float]] = (
        {"forward pass": []} | {name: [] for name in calls} | {"sets at inference": []}
    )
    for _ in range(options.repeats):
        times["forward pass"].append(seconds(forward))
        for name, call in calls.items():
            times[name].append(seconds(call))
        attach(model, calibration.calibrator_)
        times["sets at inference"].append(seconds(forward) - times["forward pass"][-1])
        del model.postprocess_result
    base = statistics.median(times["forward pass"])
    print(
        f"{options.device}, {torch.get_num_threads()} threads, torch {torch.__version__}: ms for a batch of {BATCH}"
    )
    for name, values in times.items():
        median = statistics.median(values)
        print(f"  {name:20} {1e3 * median:8.1f}  {median / base:7.1%} of the forward pass")
    sizes = {name: len(metric.results[0][2]) for name, metric in metrics.items()}
    print(f"  bytes kept of an image: {sizes}")


if __name__ == "__main__":
    main()
