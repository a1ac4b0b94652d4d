"""What ``CASE.npz`` holds, and which part of it the network has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._files.arrays import DAMAGES

__all__ = ["case_names", "crop_box", "padded_scores", "read_scores"]

_V2, _V1 = "probabilities", "softmax"
_AXES = 4  # (C, z, y, x), also of flat images


def read_scores(path: str | Path) -> NDArray[np.floating[Any]]:
    """The scores of a case, as nnU-Net wrote them. Nothing is unpickled.

    Parameters
    ----------
    path : path
        ``CASE.npz``, of v2 (`probabilities`, with ``--save_probabilities`` or ``--npz``) or of v1 (`softmax`).

    Returns
    -------
    float array (C, z, y, x)
        float32; float16 of v1, whose crop is not reverted. Flat images have z = 1.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or none of predictions.

    Examples
    --------
    >>> import numpy as np
    >>> import tempfile, pathlib
    >>> from conformask.integrations.nnunet import read_scores
    >>> path = pathlib.Path(tempfile.mkdtemp(), "case.npz")
    >>> np.savez_compressed(path, probabilities=np.full((2, 3, 4, 5), 0.5, np.float32))
    >>> read_scores(path).shape
    (2, 3, 4, 5)
    """
    return padded_scores(Path(path))[0]


def padded_scores(path: Path) -> tuple[NDArray[np.floating[Any]], bool]:
    """The scores of a case, and whether nnU-Net padded them where it had cropped the image."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with path.open("rb") as file:  # which numpy.load leaves open where an archive is damaged
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds one array, no members")
            key = next((each for each in (_V2, _V1) if each in archive.files), None)
            scores = None if key is None else archive[key]
            held = ", ".join(archive.files) or "nothing"
    except DAMAGES as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if scores is None:
        hint = ": it is a preprocessed case, no prediction" if {"data", "seg"} & {*held.split(", ")} else ""
        raise ValueError(f"{path} holds {held}, not {_V2} (nnU-Net v2) or {_V1} (v1){hint}")
    if scores.dtype.kind != "f" or scores.ndim != _AXES:
        raise ValueError(f"{path} must hold floats (C, z, y, x), got {scores.dtype} {scores.shape}")
    return scores, key == _V2


def crop_box(scores: NDArray[np.floating[Any]], *, regions: bool = False) -> tuple[slice, slice, slice]:
    """The part of an image that the network has seen.

    nnU-Net crops images to the box of what is not zero, and puts its scores back into the whole image. Outside, every
    voxel is background exactly, (1, 0, ..., 0); in region-based training (0, ..., 0). The box is here the smallest one
    that holds all other voxels. Those within it count however sure the network is; a border of nnU-Net's box that says
    exactly the same as the padding, which takes a difference of about 100 between logits, is taken for outside. The box
    depends on the scores alone, whatever the labels, so that cases that are exchangeable stay so.

    Parameters
    ----------
    scores : float array (C, z, y, x)
        Scores of a case, padded as by nnU-Net v2.
    regions : bool, default=False
        Whether they are of region-based training.

    Returns
    -------
    tuple of three slices
        The box (z, y, x); the whole image if all voxels are like padding, since nnU-Net's box is never empty.

    Examples
    --------
    >>> import numpy as np
    >>> from conformask.integrations.nnunet import crop_box
    >>> scores = np.zeros((2, 4, 6, 6), np.float32)
    >>> scores[0] = 1
    >>> scores[:, 1:3, 2:5, 3:6] = 0.5
    >>> crop_box(scores)
    (slice(1, 3, None), slice(2, 5, None), slice(3, 6, None))
    """
    inside = scores[0] != (0 if regions else 1)
    for channel in scores[1:]:
        inside |= channel != 0
    sides = []
    for axis in range(inside.ndim):
        (found,) = np.nonzero(inside.any(axis=tuple(each for each in range(inside.ndim) if each != axis)))
        if not len(found):
            return (slice(0, scores.shape[1]), slice(0, scores.shape[2]), slice(0, scores.shape[3]))
        sides.append(slice(int(found[0]), int(found[-1]) + 1))
    return (sides[0], sides[1], sides[2])


def case_names(folder: Path) -> list[str]:
    """The cases of which a folder holds scores, in order; what is wrong with a folder that holds none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    names = sorted(path.stem for path in folder.glob("*.npz") if not path.name.startswith("."))
    if names:
        return names
    below = next(
        (each for each in ("validation", "validation_raw") if any((folder / each).glob("*.npz"))), None
    )
    if below is not None:
        raise FileNotFoundError(f"no CASE.npz in {folder}: did you mean {folder / below}?")
    if any(folder.glob("*.nii.gz")) or (folder / "summary.json").exists():
        raise FileNotFoundError(
            f"{folder} holds segmentations, but no CASE.npz: nnUNetv2_predict writes them with --save_probabilities, "
            "nnUNetv2_train with --val --npz"
        )
    raise FileNotFoundError(f"no CASE.npz in {folder}")
