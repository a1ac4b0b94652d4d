"""The command line: ``python -m conformask.reproduction``."""

# ruff: noqa: T201 -- the tables are printed too
from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm.auto import tqdm

from conformask.reproduction import Row, compare, reproduce, violations
from conformask.reproduction.coat.paper import ALPHAS, N_SPLITS
from conformask.reproduction.consign import moving_edges, stored_samples
from conformask.reproduction.paper import DATASETS
from conformask.reproduction.sources import STORED, choose


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables.

    Parameters
    ----------
    argv : sequence of str, optional
        Command-line arguments, without the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status: 0, 1 if something does not hold that must, 2 if the arguments cannot be used.
    """
    args = _arguments(argv)
    start = time.perf_counter()
    try:
        if args.adaptive:
            return _adapt(args)
        if args.folder or args.splits is not None:
            raise ValueError("--folder and --splits go with --adaptive")
        if args.consign:
            return _compare(args)
        if args.calibration:
            return _calibrate(args)
        from conformask.reproduction.tables import write_tables

        rows = _rows(args)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files = write_tables(rows, args.out)
    print(files[0].read_text(encoding="utf-8"))
    print(f"Written in {time.perf_counter() - start:.0f} s: " + ", ".join(map(str, files)))
    broken = violations(rows)
    for sentence in broken:
        print(f"does not hold: {sentence}", file=sys.stderr)
    return 1 if broken else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m conformask.reproduction",
        description="COSE, Tables 1 and 2: on simulated predictions, on usgra-seg, or on a network of MMSegmentation. "
        "With --consign: CONSIGN beside pixel-wise sets, on simulated samples and on usgra-seg. With --calibration: "
        "scalers side by side, as in SELECTIVE, Tables 1 and 2, on rendered scenes, usgra-seg or a network. With "
        "--adaptive: thresholds of images beside one for all, as in COAT, Tables 1 and 2, on rendered scenes and "
        "usgra-seg, or on a folder of one's own.",
    )
    parser.add_argument(
        "--consign", action="store_true", help="compare CONSIGN with pixel-wise sets instead: consign.md"
    )
    parser.add_argument("--calibration", action="store_true", help="compare scalers instead: calibration.md")
    parser.add_argument("--adaptive", action="store_true", help="compare binary masks instead: adaptive.md")
    parser.add_argument(
        "--dataset", nargs="+", choices=[*DATASETS, STORED], help="which data sets (default: all)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("reproduction-output"), help="folder for the tables (%(default)s)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("CONFORMASK_DATA"),
        help=f"folder that holds {STORED} (default: CONFORMASK_DATA); without it its rows are left out",
    )
    own = parser.add_argument_group("with --adaptive")
    own.add_argument(
        "--folder",
        type=Path,
        help="one's own probabilities and masks, in place of the others: DIR/probabilities/NAME.npy (float, 0 to 1; or "
        ".npz, .png) and DIR/masks/NAME.png (0 and 255; or .npy, .npz); DIR/groups.csv (NAME,group) if images belong "
        "together",
    )
    own.add_argument("--splits", type=int, help=f"random splits (default: {N_SPLITS}, as in the paper)")
    real = parser.add_argument_group("a network of MMSegmentation in place of the simulation")
    real.add_argument("--checkpoint", help="its weights, by path or URL")
    real.add_argument("--data-root", type=Path, help="folder of the images and labels")
    real.add_argument("--config", help="configuration, by path or name (default: the paper's)")
    return parser.parse_args(argv)


def _compare(args: argparse.Namespace) -> int:
    if args.dataset or args.checkpoint or args.data_root or args.config:
        raise ValueError("--consign goes with --out and --data alone")
    found = {"Simulated: an edge that moves": compare(*moving_edges(200))}
    try:
        samples, labels = stored_samples(args.data)
    except FileNotFoundError as error:
        print(f"{STORED} is left out: {error}", file=sys.stderr)
    else:
        # 40 images, and a network whose label-wise accuracy is below 0.7 on a quarter of them.
        found[f"{STORED} (tmkand, CC BY 4.0)"] = compare(
            samples, labels, alpha=0.2, min_accuracy=0.7, n_calibration=26
        )
    text = "\n".join(f"## {title}\n\n{comparison}\n" for title, comparison in found.items())
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "consign.md").write_text(text, encoding="utf-8")
    broken = [
        f"{title}: {sentence}" for title, comparison in found.items() for sentence in comparison.violations()
    ]
    for sentence in broken:
        print(f"does not hold: {sentence}", file=sys.stderr)
    return 1 if broken else 0


def _calibrate(args: argparse.Namespace) -> int:
    from conformask.reproduction.selective import compare_scalers, rendered, stored
    from conformask.reproduction.selective.tables import TABLE_1, TABLE_2, table_of

    if args.dataset or args.consign:
        raise ValueError("--calibration goes with --out, --data and a network alone")
    if args.checkpoint or args.config or args.data_root:
        if not (args.checkpoint and args.config):
            raise ValueError("--calibration of a network needs --config and --checkpoint")
        from conformask.reproduction.selective.protocol import compare_on_network

        alike, shifted = [compare_on_network(args.config, args.checkpoint, args.data_root)], []
    else:
        scenes, others = rendered()
        alike = [compare_scalers(scenes, n_splits=5)]
        shifted = [compare_scalers(scenes, test=each, n_splits=3) for each in others]
        try:
            alike.append(compare_scalers(stored(args.data)))
        except FileNotFoundError as error:
            print(f"{STORED} is left out: {error}", file=sys.stderr)
    found = [*alike, *shifted]
    tables = [
        table_of("ECE of images like those of calibration (SELECTIVE, Table 1)", alike, TABLE_1),
        table_of("ECE of images of another domain (SELECTIVE, Table 2)", shifted, TABLE_2),
    ]
    text = "\n\n".join([*map(str, found), *(table.markdown() for table in tables)]) + "\n"
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "calibration.md").write_text(text, encoding="utf-8")
    broken = [f"{each.title}: {sentence}" for each in found for sentence in each.violations()]
    for sentence in broken:
        print(f"does not hold: {sentence}", file=sys.stderr)
    return 1 if broken else 0


def _adapt(args: argparse.Namespace) -> int:
    from conformask.reproduction import coat
    from conformask.reproduction.coat.tables import document

    others = (args.consign, args.calibration, args.dataset, args.checkpoint, args.config, args.data_root)
    if any(others):
        raise ValueError("--adaptive goes with --out, --data, --folder and --splits alone")
    n_splits = N_SPLITS if args.splits is None else args.splits
    if args.folder:
        sources = [coat.read_folder(args.folder)]
    else:
        sources = coat.rendered()
        try:
            sources += coat.stored(args.data)
        except FileNotFoundError as error:
            print(f"{STORED} is left out: {error}", file=sys.stderr)
    temperatures = coat.temperatures_to_compare()
    found, by_temperature = [], []
    for source in sources:
        found.append(coat.compare_adaptive(source, n_splits=n_splits))
        by_temperature.append(
            coat.compare_adaptive(source, temperatures, alphas=ALPHAS[:1], n_splits=n_splits)
        )
    text = document(found, by_temperature)
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "adaptive.md").write_text(text, encoding="utf-8")
    broken = [
        f"{each.title}: {sentence}" for each in [*found, *by_temperature] for sentence in each.violations()
    ]
    for sentence in broken:
        print(f"does not hold: {sentence}", file=sys.stderr)
    return 1 if broken else 0


def _rows(args: argparse.Namespace) -> list[Row]:
    chosen = choose(
        args.dataset or (),
        data=args.data,
        checkpoint=args.checkpoint,
        config=args.config,
        data_root=args.data_root,
    )
    rows: list[Row] = []
    for name, make in chosen.items():
        # The profiles of one source are in memory at a time.
        try:
            source = make()
        except FileNotFoundError as error:
            if not name.startswith(STORED):
                raise
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        rows += tqdm(reproduce(source), name, len(source.settings), unit="row", disable=None)
    if not rows:
        raise ValueError("there is nothing to write")
    return rows


if __name__ == "__main__":
    sys.exit(main())
