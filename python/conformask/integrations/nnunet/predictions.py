"""The content of ``CASE.npz``, and the part of it that the network has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from conformask._files.arrays import DAMAGES, open_arrays, read_member

__all__ = ["Box", "Prediction", "box_of", "case_names", "crop_box", "read_prediction", "read_scores"]

Box: TypeAlias = "tuple[slice, slice, slice]"  # (z, y, x)

_V2, _V1, _BOX = "probabilities", "softmax", "crop_bbox"
_AXES = 4  # (C, z, y, x), also of flat images
# If float16 holds so many different numbers between 0 and 1, this is no coincidence.
_TELLING = 8
_UNCERTAIN = (
    "are rounded to float16, in which voxels within nnU-Net's crop box may have exactly the scores of the "
    "padding, so that the box cannot be found"
)


class Prediction(NamedTuple):
    """The content of a case's file."""

    scores: NDArray[np.floating[Any]]  # (C, z, y, x)
    is_padded: bool  # whether the part that nnU-Net had cropped away is padded
    box: Box | None  # the crop box, if it is in the file


def read_scores(path: str | Path) -> NDArray[np.floating[Any]]:
    """The scores of a case, as nnU-Net wrote them. Nothing is unpickled.

    Parameters
    ----------
    path : path
        ``CASE.npz``, of v2 (`probabilities`, with ``--save_probabilities`` or ``--npz``) or of v1 (`softmax`).

    Returns
    -------
    float array (C, z, y, x)
        Of dtype float32; with v1 float16, and of the cropped image. Flat images have z = 1.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds no predictions.

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
    return read_prediction(Path(path)).scores


def read_prediction(path: Path) -> Prediction:
    """The scores of a case, and the crop box if the file has a member ``crop_bbox``, [[z0, z1], [y0, y1], [x0, x1]]."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        with path.open("rb") as file:  # numpy.load leaves a damaged archive open
            archive = open_arrays(file)
            if isinstance(archive, np.ndarray):
                raise ValueError("it holds one array, no members")
            key = next((each for each in (_V2, _V1) if each in archive.files), None)
            scores = None if key is None else read_member(archive, key)
            box = read_member(archive, _BOX) if _BOX in archive.files else None
            held = ", ".join(archive.files) or "nothing"
    except DAMAGES as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if scores is None:
        hint = ": it is a preprocessed case, no prediction" if {"data", "seg"} & {*held.split(", ")} else ""
        raise ValueError(f"{path} holds {held}, not {_V2} (nnU-Net v2) or {_V1} (v1){hint}")
    if scores.dtype.kind != "f" or scores.ndim != _AXES:
        raise ValueError(f"{path} must hold floats (C, z, y, x), got {scores.dtype} {scores.shape}")
    known = None if box is None else _checked_box(box, scores.shape[1:], path)
    return Prediction(scores, key == _V2 or known is not None, known)


def _checked_box(given: NDArray[Any], space: tuple[int, ...], path: Path) -> Box:
    box = given.tolist() if given.dtype.kind in "iu" and given.shape == (len(space), 2) else []
    if not box or not all(0 <= first < end <= n for (first, end), n in zip(box, space, strict=True)):
        shown = " ".join(str(given.tolist()).split())
        raise ValueError(
            f"{path}: {_BOX} must be [[z0, z1], [y0, y1], [x0, x1]] within {space}, got {shown[:60]}"
        )
    z, y, x = (slice(*side) for side in box)
    return (z, y, x)


def crop_box(scores: NDArray[np.floating[Any]], *, regions: bool = False) -> Box:
    """The part of an image that the network has seen.

    nnU-Net crops images to the box of voxels that are not zero, and puts its scores back into the whole image. Outside
    of the box every voxel has exactly the scores of background, (1, 0, ..., 0), or (0, ..., 0) with region-based
    training. This function returns the smallest box that holds all other voxels. Voxels within it count, however sure
    the network is. A border of nnU-Net's box whose scores are exactly those of the padding is taken as outside; this
    needs a difference of about 100 between logits. The box depends on the scores alone, not on the labels, so that
    exchangeable cases stay exchangeable.

    Scores that were rounded to float16 are exactly (1, 0, ..., 0) if logits differ by about 17 or more, also within the
    box, so that the box cannot be found. Such scores are refused, unless the box must be the whole image.

    Parameters
    ----------
    scores : float array (C, z, y, x)
        Scores of a case, padded as nnU-Net v2 does.
    regions : bool, default=False
        Whether the scores come from region-based training.

    Returns
    -------
    tuple of three slices
        The box (z, y, x); the whole image if all voxels are like padding, since nnU-Net's box is never empty.

    Raises
    ------
    ValueError
        If some voxels have the scores of padding, and the scores are float16 or were rounded to it.

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
    found = _smallest_box(scores, regions=regions)
    if not _is_certain(scores, found):
        raise ValueError(f"scores {_UNCERTAIN}")
    return found or _whole(scores)


def box_of(prediction: Prediction, path: Path, *, regions: bool = False, guess: bool = False) -> Box:
    """The crop box of a case: what its file tells, or what its scores do.

    Scores that are rounded to float16 tell it only as a guess, which may be too small; by default they are refused.
    """
    scores = prediction.scores
    if not prediction.is_padded:  # v1 does not pad, and float16 rounds scores that are nearly certain
        return _whole(scores)
    found = _smallest_box(scores, regions=regions)
    if prediction.box is not None:
        if not _holds(prediction.box, found):
            raise ValueError(f"{path}: {_BOX} leaves out voxels whose scores are not those of padding")
        return prediction.box
    if not guess and not _is_certain(scores, found):
        raise ValueError(
            f"{path}: its numbers {_UNCERTAIN}. Write the box into the file, numpy.savez_compressed(path, "
            f"{_V2}=scores, {_BOX}=[[z0, z1], [y0, y1], [x0, x1]]), or pass outside='count'"
        )
    return found or _whole(scores)


def _whole(scores: NDArray[np.floating[Any]]) -> Box:
    z, y, x = scores.shape[1:]
    return (slice(0, z), slice(0, y), slice(0, x))


def _holds(box: Box, part: Box | None) -> bool:
    return part is None or all(
        outer.start <= inner.start and inner.stop <= outer.stop
        for outer, inner in zip(box, part, strict=True)
    )


def _is_certain(scores: NDArray[np.floating[Any]], found: Box | None) -> bool:
    """Whether the smallest box surely is the crop box: not if numbers are rounded to float16 and it leaves some out."""
    return found == _whole(scores) or not _is_rounded(scores)


def _is_rounded(scores: NDArray[np.floating[Any]]) -> bool:
    """Whether numbers are float16, or are stored in a wider type but all fit float16."""
    if scores.dtype == np.float16:
        return True
    different: set[float] = set()
    for z in range(scores.shape[1]):
        part = scores[:, z]
        with np.errstate(over="ignore"):
            if (part.astype(np.float16) != part).any():
                return False
        if len(different) < _TELLING:
            different.update(np.unique(part[(part > 0) & (part < 1)])[:_TELLING].tolist())
    return len(different) >= _TELLING


def _smallest_box(scores: NDArray[np.floating[Any]], *, regions: bool = False) -> Box | None:
    """The smallest box that holds all voxels which do not look like padding; None if there is none."""
    inside = scores[0] != (0 if regions else 1)
    for channel in scores[1:]:
        inside |= channel != 0
    sides = []
    for axis in range(inside.ndim):
        (found,) = np.nonzero(inside.any(axis=tuple(each for each in range(inside.ndim) if each != axis)))
        if not len(found):
            return None
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
