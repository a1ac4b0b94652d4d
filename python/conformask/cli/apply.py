"""``conformask apply``: the sets of new images, as files."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from conformask._documents import write_whole
from conformask._files.written import write_masks, write_sizes
from conformask._images import track
from conformask._text import plural
from conformask.cli._data import (
    EXIT_STATUS,
    adapt,
    add_calibrator_file,
    add_folder_out,
    add_maps,
    as_calibrated,
    loaded,
    maps_of,
    naming_file,
    refuse_same_folder,
    strata_of,
)
from conformask.cli._pictures import heatmap, import_figure, png_of

__all__ = ["MORE", "SUMMARY", "add_arguments", "run"]

SUMMARY = "write the sets of new images: how many classes each pixel may have, and which"
MORE = f"""\
examples:
  conformask apply --calibrator calibrator.json --maps softmax --out sets
  conformask apply --calibrator calibrator.json --maps softmax --out sets --masks --heatmaps
  conformask apply --calibrator calibrator.json --maps softmax --out sets --png

For each image NAME of the maps:
  NAME_setsize   the number of classes in the set of each pixel, (H, W) or (D, H, W)
  NAME_mask      with --masks: which classes these are, 0 or 1 for each, (K, H, W) or (K, D, H, W)
  NAME_varisco   with --heatmaps: a picture of the set sizes
From GeoTIFF maps the files are GeoTIFF with the same transform and CRS, a class in each band; pixels without data are
nodata: 0 in set sizes, 255 in masks. From NIfTI maps they are .nii.gz with the same affine, the classes on the last
axis. From NumPy maps they are .npy; with --png the set sizes are grey levels of a PNG. In .nii.gz, .npy and PNG files
sets are full where there is no data (--nodata).

{EXIT_STATUS}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    add_calibrator_file(parser)
    add_maps(parser)
    out = add_folder_out(parser)
    out.add_argument("--masks", action="store_true", help="write the classes of each set, too")
    out.add_argument(
        "--heatmaps",
        action="store_true",
        help="draw the set sizes (needs Matplotlib); for a volume the slice where sets are largest",
    )
    out.add_argument(
        "--png", action="store_true", help="write the set sizes of .npy and .npz maps (H, W) as grey PNG"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command, and returns the exit status."""
    refuse_same_folder(args.out, args.maps)
    calibrator = loaded(args)
    as_calibrated(args, calibrator)
    maps = maps_of(args)
    if args.heatmaps:
        import_figure()
    adapt(calibrator, maps, args)
    calibrator.set_params(progress=False)  # images are predicted one at a time
    strata = strata_of(args, maps.names)
    args.out.mkdir(parents=True, exist_ok=True)
    n_written = 0
    for place in track(range(len(maps)), False if args.quiet else "auto", len(maps)):
        scores, valid = maps.read(place)
        given: dict[str, Any] = {} if strata is None else {"strata": strata[place : place + 1]}
        if valid is not None:
            given["valid"] = valid[np.newaxis]
        with naming_file(maps.files[place]):
            masks = calibrator.predict(scores[np.newaxis], **given)[0] if args.masks else None
            sizes = calibrator.set_size(scores[np.newaxis], **given)[0]
        source, name = maps.files[place], maps.names[place]
        write_sizes(args.out / f"{name}_setsize", sizes, source, valid, png=args.png)
        if masks is not None:
            write_masks(args.out / f"{name}_mask", masks, source, valid)
        if args.heatmaps:
            drawn = png_of(heatmap(sizes if valid is None else sizes * valid, valid, calibrator))
            with write_whole(args.out / f"{name}_varisco.png") as file:
                file.write(drawn)
        n_written += 1 + args.masks + args.heatmaps
    print(f"{plural(n_written, 'file')} of {plural(len(maps), 'image')} written to {args.out}.")
    return 0
