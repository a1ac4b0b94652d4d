"""How good the probabilities of scalers are, compared with fiducio and probmetrics, if they are installed.

All are fitted to the same pixels and judged on the same pixels of other images, over splits by group. The first data
are stored predictions (CONFORMASK_DATA, by default ../shared/data). The second are made here, by a small network that
was trained with equal weights of classes: it predicts rare classes too often, so that a map that may change the
prediction gains much.

    python benches/scaling_quality.py --splits 10 --markdown
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

import conformask as cm
from conformask.datasets import PixelClassifier, make_scenes

sys.path.insert(0, str(Path(__file__).parent))
from scaling_peers import fiducio, fiducio_map, probmetrics, probmetrics_map, torch

N_BINS = 15
LEAST = 1e-12


class Predictions(NamedTuple):
    """Logits (n, K, m) of m pixels of each image, their labels, and what each image belongs to."""

    name: str
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]

    def of(self, images: NDArray[np.bool_]) -> Predictions:
        return Predictions(self.name, self.logits[images], self.labels[images], self.groups[images])

    def flat(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Pixels (N, K) and labels."""
        return np.moveaxis(self.logits, 1, -1).reshape(-1, self.logits.shape[1]), self.labels.ravel()


Map: TypeAlias = Callable[[Predictions], NDArray[np.floating[Any]]]


def drawn(
    name: str, probabilities: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any], n_pixels: int
) -> Predictions:
    """So many labelled pixels of each image."""
    rng = np.random.default_rng(0)
    logits, truth = [], []
    for image, label in zip(probabilities, labels, strict=True):
        at = rng.choice(np.flatnonzero(label != 255), n_pixels)
        pixels = image.reshape(len(image), -1)[:, at].astype(np.float32)
        logits.append(np.log(pixels.clip(2.0**-24)))
        truth.append(label.ravel()[at].astype(np.int64))
    return Predictions(name, np.stack(logits), np.stack(truth), np.asarray(groups))


def stored(n_pixels: int) -> Predictions | None:
    path = Path(os.environ.get("CONFORMASK_DATA", "../shared/data")) / "usgra-seg" / "predictions.npz"
    if not path.exists():
        return None
    data = np.load(path)
    return drawn("ultrasound, K = 3", data["probs"], data["labels"], data["group"], n_pixels)


def class_weighted(n_pixels: int, n_images: int, seed: int) -> Predictions:
    """A network that was trained with equally many pixels of each class, however rare the class is."""
    training = make_scenes(60, size=(64, 96), random_state=seed)
    rng = np.random.default_rng(seed)
    labels = training.labels.copy()
    counts = np.bincount(labels[labels != 255], minlength=8)
    chances = np.append(counts.min() / counts, np.zeros(248))
    labels[rng.random(labels.shape) >= chances[labels]] = 255
    model = PixelClassifier(random_state=seed).fit(training.images, labels)
    scenes = make_scenes(n_images, size=(64, 96), random_state=seed + 1)
    probabilities = model.predict_proba(scenes.images)
    return drawn("class-weighted network, K = 8", probabilities, scenes.labels, np.arange(n_images), n_pixels)


# Contestants


def ours(scaler: Any) -> Callable[[Predictions], Map]:
    def fit(given: Predictions) -> Map:
        scaler.fit(given.logits[:, :, np.newaxis], given.labels[:, np.newaxis], groups=given.groups)
        return lambda other: scaler.transform(other.logits[:, :, np.newaxis])[:, :, 0]

    return fit


def of_pixels(fit_pixels: Callable[..., Any]) -> Callable[[Predictions], Map]:
    """The scaler of another package, which does not distinguish images."""

    def fit(given: Predictions) -> Map:
        predict = fit_pixels(*given.flat())

        def apply(other: Predictions) -> NDArray[np.floating[Any]]:
            n, k, m = other.logits.shape
            return np.moveaxis(predict(other.flat()[0]).reshape(n, m, k), -1, 1)

        return apply

    return fit


def contestants() -> Iterator[tuple[str, Callable[[Predictions], Map]]]:
    common: dict[str, Any] = {"n_pixels": 2**40, "progress": False}
    yield "none", lambda _: lambda other: special.softmax(other.logits, axis=1)
    yield "TemperatureScaler", ours(cm.TemperatureScaler(**common))
    yield "VectorScaler", ours(cm.VectorScaler(**common))
    yield "DirichletScaler", ours(cm.DirichletScaler(**common))
    for decision in ("free", "argmax", "order"):
        for kind in ("vector", "matrix"):
            scaler = cm.StructuredScaler(kind, decision=decision, **common)
            yield f"Structured {kind} {decision}", ours(scaler)
    if fiducio is not None:
        for name in ("TS", "VS", "CMS", "CMSap", "CMSop"):
            yield f"fiducio {name}", of_pixels(fiducio_map(name))
    if probmetrics is not None:
        for name in ("TS", "SVS", "SMS"):
            yield f"probmetrics {name}", of_pixels(probmetrics_map(name))


# Measures


def nll(p: NDArray[np.floating[Any]], given: Predictions) -> float:
    own = np.take_along_axis(p, given.labels[:, np.newaxis], axis=1)
    return float(-np.log(own.astype(np.float64).clip(LEAST)).mean())


def image_ece(p: NDArray[np.floating[Any]], given: Predictions) -> float:
    """Mean over images of the expected calibration error of each."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == given.labels
    found = []
    for sure, hit in zip(confidence, right, strict=True):
        bins = np.ceil(sure * N_BINS).astype(int).clip(1, N_BINS)
        gaps = np.bincount(bins, weights=hit - sure.astype(np.float64))
        found.append(abs(gaps).sum() / len(sure))
    return float(np.mean(found))


def splits(data: Predictions, n: int, first: int) -> Iterator[tuple[Predictions, Predictions]]:
    """Halves of the groups: to fit, to judge."""
    names = np.unique(data.groups)
    for seed in range(first, first + n):
        chosen = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
        here = np.isin(data.groups, chosen)
        yield data.of(here), data.of(~here)


class Row(NamedTuple):
    name: str
    nll: list[float]
    ece: list[float]
    accuracy: list[float]
    kept: list[float]  # share of pixels whose prediction does not change
    seconds: list[float]


def compare(data: Predictions, n: int, first: int, names: Iterable[tuple[str, Any]]) -> list[Row]:
    rows = [Row(name, [], [], [], [], []) for name, _ in names]
    for given, other in splits(data, n, first):
        before = other.logits.argmax(axis=1)
        for row, (_, fit) in zip(rows, names, strict=True):
            start = time.perf_counter()
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                predict = fit(given)
            row.seconds.append(time.perf_counter() - start)
            p = predict(other)
            row.nll.append(nll(p, other))
            row.ece.append(image_ece(p, other))
            row.accuracy.append(float((p.argmax(axis=1) == other.labels).mean()))
            row.kept.append(float((p.argmax(axis=1) == before).mean()))
    return rows


def table(rows: list[Row], markdown: bool) -> Iterator[str]:
    """Means over splits. The error of a loss is that of its difference from the least loss, split by split."""
    best = min(rows, key=lambda row: float(np.mean(row.nll)))
    header = [
        "scaler",
        "NLL",
        "more than the best",
        "image-wise ECE",
        "accuracy",
        "prediction kept",
        "fit, s",
    ]
    lines = [header]
    for row in rows:
        apart = np.subtract(row.nll, best.nll)
        error = apart.std(ddof=1) / len(apart) ** 0.5 if len(apart) > 1 else 0.0
        lines.append(
            [
                row.name,
                f"{np.mean(row.nll):.4f}",
                f"{apart.mean():.4f} ± {error:.4f}",
                f"{np.mean(row.ece):.4f}",
                f"{np.mean(row.accuracy):.4f}",
                f"{np.mean(row.kept):.4f}",
                f"{np.median(row.seconds):.2f}",
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for i, line in enumerate(lines):
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        yield "| " + " | ".join(cells) + " |" if markdown else "  ".join(cells)
        if markdown and i == 0:
            yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def main() -> None:
    parser = argparse.ArgumentParser(description="How good the probabilities of scalers are.")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument(
        "--first", type=int, default=0, help="seed of the first split: settings were chosen on others"
    )
    parser.add_argument("--pixels", type=int, default=512, help="pixels of each image")
    parser.add_argument("--images", type=int, default=120, help="images of the class-weighted network")
    parser.add_argument("--seed", type=int, default=0, help="of the class-weighted network")
    parser.add_argument("--data", choices=["stored", "made", "both"], default="both")
    parser.add_argument("--threads", type=int, default=2, help="threads of conformask and of torch")
    parser.add_argument("--only", default="", help="of the contestants, those with this in their name")
    parser.add_argument("--markdown", action="store_true")
    chosen = parser.parse_args()
    cm.set_num_threads(chosen.threads)
    both: dict[str, Callable[[], Predictions | None]] = {
        "stored": lambda: stored(chosen.pixels),
        "made": lambda: class_weighted(chosen.pixels, chosen.images, chosen.seed),
    }
    for name, read in both.items():
        data = read() if chosen.data in (name, "both") else None
        if data is None:
            print(f"no {name} predictions\n")
            continue
        names = [each for each in contestants() if chosen.only in each[0]]
        if torch is not None:
            torch.set_num_threads(chosen.threads)
        print(
            f"{data.name}: {len(data.logits)} images, {chosen.pixels} pixels of each, {chosen.splits} splits"
        )
        for line in table(compare(data, chosen.splits, chosen.first, names), chosen.markdown):
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
