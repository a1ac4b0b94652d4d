"""A demonstration of the main task from end to end, in less than a minute and without a download.

``conformask demo`` renders street scenes, trains a small pixel classifier, calibrates it by conformal risk control,
prints the risk level beside the measured risk, and draws where the model is unsure. ``--data`` does the same with the
predictions of your own model.
"""

# ruff: noqa: T201 -- printing is what a demo does
from __future__ import annotations

import argparse
import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import conformask as cm
from conformask import plotting
from conformask._arguments import folder_to_write, level, whole
from conformask._text import lambda_text
from conformask.datasets import PixelClassifier, load_predictions, make_scenes
from conformask.plotting._arguments import at_level
from conformask.plotting._legend import key_to_panels
from conformask.plotting._overview import OverviewRow, overview

__all__ = ["SUMMARY", "add_arguments", "run"]


def __dir__() -> list[str]:
    return sorted(__all__)


SUMMARY = "calibrate a segmentation model and print lambda-hat, risk and activation ratio against alpha"
IGNORE = 255
SMALLEST = 16  # height or width of a scene
DPI = 110
LOSSES: tuple[tuple[str, cm.MiscoverageLoss | cm.BinaryLoss, float | None], ...] = (
    ("miscoverage", cm.MiscoverageLoss(), None),
    ("binary, 90 %", cm.BinaryLoss(min_coverage=0.9), 0.9),
    ("binary, 95 %", cm.BinaryLoss(min_coverage=0.95), 0.95),
)


@dataclass(frozen=True)
class _Part:
    """Some images: scores, true labels, and perhaps pictures and groups."""

    probs: NDArray[Any]
    labels: NDArray[Any]
    images: NDArray[np.uint8] | None = None
    group: NDArray[Any] | None = None

    def __getitem__(self, index: Any) -> _Part:
        def pick(array: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if array is None else array[index]

        return _Part(self.probs[index], self.labels[index], pick(self.images), pick(self.group))


@dataclass(frozen=True)
class _Job:
    """The images to calibrate on and to test on, and the texts about them."""

    calibration: _Part
    test: _Part
    story: str
    promise: str
    class_names: tuple[str, ...] | None = None
    palette: NDArray[np.uint8] | None = None
    background: int | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the demo to a parser."""
    parser.set_defaults(refuse=parser.error)
    out = Path("demo-output")
    parser.add_argument(
        "--out", type=folder_to_write, default=out, metavar="FOLDER", help="folder for the pictures"
    )
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="seed of all random numbers")
    parser.add_argument(
        "--alphas",
        type=level,
        nargs="+",
        default=[0.1, 0.05, 0.02, 0.01, 0.005],
        metavar="ALPHA",
        help="risk levels, each in (0, 1)",
    )
    data = parser.add_argument_group("predictions of a model of your own")
    data.add_argument(
        "--data",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="folder with predictions.npz, an .npz file, or .npy files: arrays probs (n, K, H, W) and labels (n, H, W) "
        "and optionally images and group; arrays with other names are recognised by their shapes and types",
    )
    data.add_argument(
        "--by-group", action="store_true", default=None, help="keep the images of a group together"
    )
    data.add_argument("--class-names", nargs="+", metavar="NAME", help="one name per class")
    data.add_argument(
        "--background", type=whole(0), metavar="K", help="a class that pictures leave uncoloured"
    )
    scenes = parser.add_argument_group("rendered street scenes")
    at_least_1, pixels = whole(1), whole(SMALLEST)
    scenes.add_argument(
        "--size",
        type=pixels,
        nargs=2,
        default=[96, 160],
        metavar=("H", "W"),
        help=f"pixels, {SMALLEST} or more",
    )
    for name, n, what in (
        ("train", 40, "train the model"),
        ("calibrate", 100, "calibrate"),
        ("test", 100, "test"),
    ):
        scenes.add_argument(f"--{name}", type=at_least_1, default=n, metavar="N", help=f"images that {what}")


_SCATTER = (
    "It is a guarantee on average over calibration and test images: the risk of one split scatters around\n"
    "its expectation, and may lie above alpha."
)


def run(args: argparse.Namespace) -> int:
    """Run the demo with parsed arguments, and return the exit status."""
    start = time.perf_counter()
    for name in ("by_group", "class_names", "background"):
        if args.data is None and getattr(args, name) is not None:
            args.refuse(f"argument --{name.replace('_', '-')}: goes with --data")
    job = _stored(args) if args.data is not None else _rendered(args)
    print(job.story)
    errors = _argmax_errors(job.test)
    mean, least, most = (_percent(float(f(errors))) for f in (np.nanmean, np.nanmin, np.nanmax))
    print(
        f"Its most probable class is wrong on {mean} of the pixels of an image:\n"
        f"{least} in the easiest test image, {most} in the hardest.\n"
    )
    print(f"{job.promise}\n{_SCATTER}", end="\n\n")
    before = time.perf_counter()
    calibrator = _fit(job.calibration, args.alphas[0])
    _print_table(job, calibrator, args.alphas, time.perf_counter() - before)
    _write_pictures(job, calibrator, args.alphas, float(np.nanmean(errors)), args.out)
    print(f"\nDone in {time.perf_counter() - start:.0f} s.")
    return 0


# --- the data -------------------------------------------------------------------------------


def _rendered(args: argparse.Namespace) -> _Job:
    n_train, n_calibrate, n_test = args.train, args.calibrate, args.test
    height, width = args.size
    print(f"Rendering {n_train + n_calibrate + n_test} street scenes and training a pixel classifier ...\n")
    scenes = make_scenes(n_train + n_calibrate + n_test, size=(height, width), random_state=args.seed)
    model = PixelClassifier(random_state=args.seed).fit(scenes.images[:n_train], scenes.labels[:n_train])
    images, labels = scenes.images[n_train:], scenes.labels[n_train:]
    rest = _Part(model.predict_proba(images), labels, images)
    story = (
        f"Street scenes of {height} x {width} pixels, {rest.probs.shape[1]} classes, seed {args.seed}: "
        f"{n_train} images trained the model,\n{n_calibrate} calibrate it, {n_test} test the result."
    )
    promise = (
        "The guarantee: with alpha chosen beforehand, the expected loss of a new scene of this kind is at\n"
        "most alpha. For that, the calibration risk must be at most alpha - (1 - alpha) / n, for n images."
    )
    return _Job(rest[:n_calibrate], rest[n_calibrate:], story, promise, scenes.class_names, scenes.palette)


def _stored(args: argparse.Namespace) -> _Job:
    found = load_predictions(args.data[0] if len(args.data) == 1 else args.data)
    part, source = _Part(found.probs, found.labels, found.images, found.group), ", ".join(map(str, args.data))
    n, k, height, width = part.probs.shape
    if args.class_names is not None and len(args.class_names) != k:
        raise ValueError(f"--class-names must name {k} classes, got {len(args.class_names)}")
    if args.background is not None and args.background >= k:
        raise ValueError(f"--background must be from 0 to {k - 1}, got {args.background}")
    rng = np.random.default_rng(args.seed)
    if args.by_group:
        if part.group is None:
            raise ValueError("--by-group needs an array 'group': integers (n,)")
        calibrates = _split_groups(part.group, rng)
        promise = (
            "Whole groups went to one side, and a group counts once, by the mean loss of its images. The\n"
            "guarantee speaks of a new group like these: the expected loss of its images is at most alpha."
        )
    else:
        part = _Part(part.probs, part.labels, part.images)
        calibrates = np.zeros(n, bool)
        calibrates[rng.permutation(n)[: n // 2]] = True
        promise = (
            "The images were split at random. The guarantee speaks of images drawn from this very\n"
            "collection, not of new patients or places: --by-group is the stricter test of that."
        )
    calibration, test = part[calibrates], part[~calibrates]
    if min(len(calibration.probs), len(test.probs)) == 0:
        raise ValueError(f"{source} holds too few images to split: {n}")
    story = (
        f"Predictions from {source}: {n} images of {height} x {width} pixels, {k} classes, "
        f"{part.probs.dtype}.\n{len(calibration.probs)} images calibrate, {len(test.probs)} test the result "
        f"(seed {args.seed})."
    )
    names = None if args.class_names is None else tuple(args.class_names)
    return _Job(calibration, test, story, promise, names, background=args.background)


def _split_groups(group: NDArray[Any], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return the mask of the calibration images: those of a random half of the groups."""
    groups = rng.permutation(np.unique(group))
    return np.isin(group, groups[: len(groups) // 2])


# --- the table ------------------------------------------------------------------------------


def _fit(part: _Part, alpha: float) -> cm.ConformalRiskCalibrator:
    """Fit once. All other losses and alphas are computed from the profiles of this fit."""
    calibrator = cm.ConformalRiskCalibrator(
        "lac", loss=cm.MiscoverageLoss(), alpha=alpha, ignore_index=IGNORE
    )
    # If alpha needs more images, the profiles are kept, and the table says how many are missing.
    with contextlib.suppress(cm.InfeasibleRiskError):
        groups = None if part.group is None else part.group.tolist()
        calibrator.fit(part.probs, part.labels, groups=groups)
    return calibrator


def _print_table(
    job: _Job, calibrator: cm.ConformalRiskCalibrator, alphas: Sequence[float], fitting: float
) -> None:
    """Print risk and activation ratio for each loss and alpha; `fitting` is the time of the fit in s."""
    unit = "groups" if job.test.group is not None else "images"
    print("loss           alpha    lambda-hat   test risk   activation ratio")
    recalibrations = 0
    spent = 0.0
    for name, loss, min_coverage in LOSSES:
        argmax_risk = _mean(_argmax_losses(job.test, min_coverage), job.test.group)
        print(f"{name:<13}  argmax            -  {argmax_risk:>10.4f}  {1:>17.3f}")
        for alpha in alphas:
            start = time.perf_counter()
            try:
                asked = calibrator.recalibrate(alpha=alpha, loss=loss)
                lam = asked.lambda_hat_
            except cm.InfeasibleRiskError as error:
                print(f"{'':<13}  {alpha:<6g}  needs {error.n_needed} {unit}, has {error.n_images}")
                continue
            finally:
                spent += time.perf_counter() - start
                recalibrations += 1
            report = asked.evaluate(job.test.probs, job.test.labels, groups=job.test.group)
            risk, ratio = report.empirical_risk, report.activation_ratio
            print(f"{'':<13}  {alpha:<6g}  {lambda_text(lam):>11}  {risk:>10.4f}  {ratio:>17.3f}")
    print(
        "\nmiscoverage: the share of an image's pixels whose true class the mask leaves out.\n"
        "binary, 90 %: 1 for an image of which the mask covers less than 90 % of the pixels, else 0.\n"
        "activation ratio: the classes that the mask keeps per pixel, on average; argmax keeps one.\n"
        f"One fit in {1000 * fitting:.0f} ms, then {recalibrations} recalibrations in {1000 * spent:.0f} ms "
        "that need no maps."
    )


def _argmax_errors(part: _Part) -> NDArray[np.float64]:
    """Return the share of wrong labelled pixels of each image; NaN where none is labelled."""
    valid = part.labels != IGNORE
    wrong = ((part.probs.argmax(1) != part.labels) & valid).sum((1, 2))
    labelled = valid.sum((1, 2))
    return np.where(labelled > 0, wrong / np.maximum(labelled, 1), np.nan)


def _argmax_losses(part: _Part, min_coverage: float | None) -> NDArray[np.float64]:
    errors = _argmax_errors(part)
    if min_coverage is None:
        return errors
    return np.where(np.isnan(errors), np.nan, errors > 1 - min_coverage + 1e-12)


def _mean(values: NDArray[np.float64], group: NDArray[Any] | None) -> float:
    """Return the mean over images, or over groups of the mean over their images."""
    known = ~np.isnan(values)
    if group is None:
        return float(values[known].mean())
    _, index = np.unique(group[known], return_inverse=True)
    return float((np.bincount(index, values[known]) / np.bincount(index)).mean())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


# --- the pictures ---------------------------------------------------------------------------


def _telling_alpha(alphas: Sequence[float], argmax_risk: float) -> float:
    """Return a level well below the argmax's risk: above that risk, no pixel needs a second class."""
    telling = [alpha for alpha in alphas if alpha <= 0.6 * argmax_risk]
    return max(telling, default=min(alphas))


def _write_pictures(
    job: _Job, calibrator: cm.ConformalRiskCalibrator, alphas: Sequence[float], argmax_risk: float, out: Path
) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("\nNo pictures: they need Matplotlib (pip install conformask[plot]).")
        return
    alpha = _telling_alpha(alphas, argmax_risk)
    try:
        asked = calibrator.recalibrate(alpha=alpha, loss=cm.MiscoverageLoss())
        lam = asked.lambda_hat_
    except cm.InfeasibleRiskError as error:
        print(f"\nNo pictures: {error}.")
        return
    out.mkdir(parents=True, exist_ok=True)
    print(f"\nPictures (miscoverage at alpha = {alpha:g}, lambda-hat = {lambda_text(lam)}):")
    for name, figure in _figures(Figure, job, asked, alphas):
        path = out / name
        figure.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.1)
        print(f"  {path}")


def _figures(
    new: Callable[..., Any], job: _Job, calibrator: cm.ConformalRiskCalibrator, alphas: Sequence[float]
) -> Iterator[tuple[str, Any]]:
    """Yield file names and figures. These are made without pyplot, and leave its state alone."""
    test = job.test
    order = np.argsort(calibrator.set_size(test.probs).mean((1, 2)), kind="stable")
    chosen = order[[int(q * (len(order) - 1)) for q in (0.2, 0.6, 0.95)]]
    yield "varisco.png", _varisco_figure(job, calibrator, test[chosen])

    one = test[chosen[1:2]]
    mask, image = calibrator.predict(one.probs)[0], None if one.images is None else one.images[0]
    look: dict[str, Any] = {"class_names": job.class_names, "palette": job.palette}
    height, width = one.labels.shape[1:]
    figure = new(figsize=(9.5, 7.4 * height / width + 0.7), layout="constrained")
    look |= {"labels": one.labels[0], "calibrator": calibrator}
    plotting.plot_masks(mask, image, background=job.background, ax=figure.subplots(), **look)
    yield "mask.png", figure

    present = [k for k in np.flatnonzero(mask.any((1, 2))).tolist() if k != job.background] or [0]
    columns = min(4, len(present))
    rows = -(-len(present) // columns)
    figure = new(figsize=(3.2 * columns, (3.2 * height / width + 0.35) * rows + 0.5), layout="constrained")
    title = key_to_panels(image=image is not None, void=bool((one.labels == IGNORE).any()))
    figure.suptitle(at_level(title, calibrator), fontsize="medium")
    axes = figure.subplots(rows, columns, squeeze=False)
    plotting.plot_mask_panels(mask, image, classes=present, axes=axes, **look)
    yield "mask_panels.png", figure

    figure = new(figsize=(7.5, 4.6), layout="constrained")
    ax = plotting.plot_risk_curve(calibrator, ax=figure.subplots())
    ax.set_title("Miscoverage on the calibration images")
    yield "risk_curve.png", figure

    with (
        warnings.catch_warnings()
    ):  # the table has said which levels need more images: their points are hollow
        warnings.simplefilter("ignore")
        report = calibrator.set_params(on_infeasible="full").evaluate(
            test.probs, test.labels, groups=test.group, alphas=alphas, class_names=job.class_names
        )
    figure = new(figsize=(7.5, 0.3 * test.probs.shape[1] + 2.0), layout="constrained")
    plotting.plot_class_risk(report, ax=figure.subplots())
    yield "class_risk.png", figure

    figure = new(figsize=(7.5, 5.6), layout="constrained")
    plotting.plot_alpha_sweep(report, axes=figure.subplots(2, sharex=True))
    yield "alpha_sweep.png", figure


def _varisco_figure(job: _Job, calibrator: cm.ConformalRiskCalibrator, part: _Part) -> Any:
    """Draw a row per image: the image, the truth, the argmax, and where the model is unsure."""
    n, k, _, width = part.probs.shape
    images = [None] * n if part.images is None else part.images
    of_rows = zip(images, part.labels, part.probs.argmax(1), calibrator.set_size(part.probs), strict=True)
    zoom = round(440 / width) or 440 / width  # whole pixels of small images
    return overview(
        [OverviewRow(*row) for row in of_rows],
        k,
        zoom * width / DPI,
        class_names=job.class_names,
        palette=job.palette,
        background=job.background,
        ignore_index=IGNORE,
        calibrator=calibrator,
    )
