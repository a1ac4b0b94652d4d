"""Predictions beside labels, one case at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from conformask._arrays import check_ignore_index
from conformask._files import nifti, pictures
from conformask._text import plural
from conformask._warnings import warn_caller
from conformask.integrations.nnunet.dataset import Dataset, is_reoriented
from conformask.integrations.nnunet.predictions import box_of, case_names, read_prediction

__all__ = ["Cases", "VoxelCounts"]

_OUTSIDE = ("void", "count")
_BACKGROUND = 0
_SPACE, _WHITE = 3, 255
_NAMED = 3  # the most cases that a message names
_MOST_CLASSES = 2**15 - 1  # labels are kept in 16 bits


@dataclass(frozen=True)
class VoxelCounts:
    """Numbers of voxels of a case, inside and outside of the crop box.

    Parameters
    ----------
    total : int
        Voxels of the image.
    outside : int
        Voxels outside of nnU-Net's crop box.
    foreground_outside : int
        Voxels outside of the box whose label is neither background nor the ignore label; 0 without labels.

    Examples
    --------
    >>> from conformask.integrations.nnunet import VoxelCounts
    >>> VoxelCounts(100, 40, 0) + VoxelCounts(50, 10, 2)
    VoxelCounts(total=150, outside=50, foreground_outside=2)
    """

    total: int
    outside: int
    foreground_outside: int

    def __add__(self, other: VoxelCounts) -> VoxelCounts:
        return VoxelCounts(
            self.total + other.total,
            self.outside + other.outside,
            self.foreground_outside + other.foreground_outside,
        )


class Cases(Sequence[Any]):
    """Scores that nnU-Net wrote, with labels or without: a sequence that reads one case at a time.

    With labels, each item is a pair of scores (C, z, y, x) and labels (z, y, x): what
    :meth:`conformask.ConformalRiskCalibrator.fit` and ``evaluate`` take in place of X and y. Without labels it is the
    scores alone, for ``predict(iter(cases))``, which yields the masks one by one. Flat images stay volumes of one
    slice, (C, 1, y, x), as nnU-Net keeps them; so always give calibrators ``volumes=True``. Of a case that was read,
    only `counts` and `boxes` are kept.

    Parameters
    ----------
    predictions : path
        A folder of ``CASE.npz``, such as ``fold_0/validation`` (``nnUNetv2_train ... --npz``) or what
        ``nnUNetv2_predict --save_probabilities`` wrote.
    labels : path or None, default=None
        A folder of ``CASE.nii.gz`` (or ``.nii``, ``.png``) with labels, such as ``labelsTr``; it may hold other cases.
    dataset : Dataset, path or None, default=None
        The content of ``dataset.json``, or its path; None looks for the file in `predictions` and the two folders
        above.
    outside : {"void", "count"}, default="void"
        What to do with voxels outside of nnU-Net's crop box, which the network has not seen. The box is that of
        :func:`crop_box`, or the one in the file of a case. "void" makes their labels void: losses and guarantees are
        about the voxels within the box. "count" counts them: nnU-Net predicts background there, which is right nearly
        everywhere, so that padding dilutes the risk of an image. Foreground outside of the box is missed at any lambda
        below the largest.
    region : str or None, default=None
        A single region (or class) to read, for :class:`conformask.BinaryRiskCalibrator`: items are its probability (z,
        y, x) and labels that are 1 in the region, 0 elsewhere, or void. Datasets of region-based training need it,
        since their channels overlap.
    ignore_index : int, default=255
        The label that void voxels get; calibrators must have the same one. The dataset's own ignore label is replaced
        by it. It must not be a label of the dataset.

    Attributes
    ----------
    names : tuple of str
        The cases, sorted.
    dataset : Dataset
        The labels of the dataset. ``dataset.names`` can be passed as ``class_names`` of ``evaluate``.
    counts : dict of str to VoxelCounts
        For each case that was read so far: the numbers of voxels, and of foreground voxels, outside of the crop box.
    boxes : dict of str to tuples of slices
        For each case that was read so far: the crop box (z, y, x).

    Raises
    ------
    FileNotFoundError
        If a folder is not there, holds no predictions, or lacks the labels of a case.
    ValueError
        If `dataset` has regions and `region` is None. When a case is read: if a file is damaged, shapes differ, a label
        is not in the dataset, or the scores are rounded to float16 and the file holds no crop box (see the notes).

    Warns
    -----
    UserWarning
        At the first case with foreground outside of the box, with ``outside="void"``: the guarantee excludes it.

    See Also
    --------
    conformask.ConformalRiskCalibrator : Calibrates on the pairs.

    Notes
    -----
    A foreground voxel outside of the box is missed by nnU-Net's segmentation and by every set that is not full: the
    image is zero there, and the network does not see it. "void" leaves such voxels out of the guarantee, which then
    reads: the expected loss *within the crop box* of a new case is at most alpha. `counts` holds their number. If they
    matter, use ``outside="count"`` with :class:`conformask.FalseNegativeLoss`: this controls the miss rate in the whole
    image, since background does not dilute that loss. Both rules treat each case by itself, so that exchangeable cases
    stay exchangeable. With "void", lambda-hat is exactly that of scores without padding, unless windows of
    :class:`conformask.SACP` reach beyond the box.

    nnU-Net v1 keeps the `softmax` of the cropped image (float16). If its shape differs from that of the labels it is
    refused: the crop is in ``CASE.pkl``, and pickles, which can run any code, are never opened. If you trust your
    pickles, pad the scores and store the box with them, once::

        properties = pickle.loads(Path("CASE.pkl").read_bytes())
        whole = np.zeros((len(softmax), *properties["original_size_of_raw_data"]), softmax.dtype)
        whole[0] = 1
        whole[(slice(None), *(slice(*side) for side in properties["crop_bbox"]))] = softmax
        np.savez_compressed("CASE.npz", probabilities=whole, crop_bbox=properties["crop_bbox"])

    If a file holds ``crop_bbox``, integers [[z0, z1], [y0, y1], [x0, x1]], this is the crop box of the case. Scores
    that are rounded to float16 need it, whatever dtype they are stored in: voxels within the box may be rounded to
    exactly the values of the padding, and a box that is computed from the scores would be too small. With
    ``outside="count"`` the box only appears in `counts` and `boxes`, and may be such an estimate.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import nibabel
    >>> import numpy as np
    >>> import conformask as cm
    >>> from conformask.integrations.nnunet import Cases, Dataset
    >>> folder, rng = pathlib.Path(tempfile.mkdtemp()), np.random.default_rng(0)
    >>> for i in range(12):  # as nnU-Net would write them: half of each image was cropped
    ...     scores = np.zeros((2, 4, 8, 16), np.float32)
    ...     scores[0] = 1
    ...     scores[:, :, :, 8:] = rng.dirichlet([1, 1], size=(4, 8, 8)).transpose(3, 0, 1, 2)
    ...     labels = rng.random((4, 8, 16)) < scores[1]
    ...     np.savez_compressed(folder / f"case_{i:02}.npz", probabilities=scores)
    ...     image = nibabel.Nifti1Image(labels.astype(np.uint8).T, np.eye(4))
    ...     nibabel.save(image, folder / f"case_{i:02}.nii.gz")
    >>> dataset = Dataset.from_document({"labels": {"background": 0, "organ": 1}})
    >>> cases = Cases(folder, folder, dataset)
    >>> calibrator = cm.ConformalRiskCalibrator(alpha=0.1, volumes=True).fit(cases)
    >>> sum(each.outside for each in cases.counts.values()) / sum(each.total for each in cases.counts.values())
    0.5
    >>> diluted = Cases(folder, folder, dataset, outside="count")
    >>> cm.ConformalRiskCalibrator(alpha=0.1, volumes=True).fit(diluted).lambda_hat_ < calibrator.lambda_hat_
    True
    """

    def __init__(
        self,
        predictions: str | Path,
        labels: str | Path | None = None,
        dataset: Dataset | str | Path | None = None,
        *,
        outside: str = "void",
        region: str | None = None,
        ignore_index: int = 255,
    ) -> None:
        if outside not in _OUTSIDE:
            raise ValueError(f"outside must be 'void' or 'count', got {outside!r}")
        self._folder = Path(predictions)
        names = case_names(self._folder)
        if dataset is None:
            dataset = Dataset.of_predictions(self._folder)
        self.dataset = dataset if isinstance(dataset, Dataset) else Dataset.from_json(dataset)
        if region is None and self.dataset.has_regions:
            raise ValueError(
                f"training was region-based: its channels ({', '.join(self.dataset.names)}) overlap. Control each by "
                "itself: BinaryRiskCalibrator(volumes=True).fit(Cases(..., region=NAME))"
            )
        self._channel = None if region is None else self.dataset.channel(region)
        index = check_ignore_index(ignore_index)
        highest = max(label for each in self.dataset.labels for label in each)
        if not isinstance(index, int) or 0 <= index <= highest or abs(index) > _MOST_CLASSES:
            raise ValueError(
                f"ignore_index must be one label that is none of the dataset (0 to {highest}), and fit 16 bits, got "
                f"{ignore_index}"
            )
        self._ignore_index = index
        self._outside = outside
        self._is_reoriented = is_reoriented(self._folder, self.dataset)
        self._labels = None if labels is None else _label_files(Path(labels), names, self.dataset)
        self.names = tuple(names)
        self.counts: dict[str, VoxelCounts] = {}
        self.boxes: dict[str, tuple[slice, slice, slice]] = {}

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Cases: ...
    def __getitem__(self, index: int | slice) -> Any:
        if not isinstance(index, slice):
            return self._read(self.names[index])
        part = copy.copy(self)
        part.names, part.counts, part.boxes = self.names[index], {}, {}
        return part

    def __iter__(self) -> Iterator[Any]:
        for name in self.names:
            yield self._read(name)  # without a variable, which would keep it while the next one is read

    def __repr__(self) -> str:
        return f"Cases({str(self._folder)!r}, {plural(len(self), 'case')} of {', '.join(self.dataset.names)})"

    def save(
        self, name: str, values: NDArray[Any], path: str | Path, reference: str | Path | None = None
    ) -> None:
        """Writes a map of a case as NIfTI in the space of the case, or a map of a flat image as PNG.

        Parameters
        ----------
        name : str
            The case.
        values : array (z, y, x)
            Set sizes or one class of a mask, for example; bool is written as 0 and 1, in a PNG as 0 and 255.
        path : path
            The file to write, ``.nii.gz`` or ``.nii``; for one slice also ``.png``.
        reference : path or None, default=None
            A folder of ``CASE.nii.gz`` or ``CASE_0000.nii.gz``, whose affine is copied. None is the folder of the
            predictions, to which nnU-Net writes its segmentations.

        Raises
        ------
        FileNotFoundError
            If there is no file of the case in the folder.
        ValueError
            If `values` has another shape than the case, or more than one slice for a PNG.
        """
        path, values = Path(path), np.asarray(values)
        if path.name.endswith(pictures.SUFFIXES):
            _save_picture(path, values)
            return
        folder = self._folder if reference is None else Path(reference)
        endings = [f"{part}{ending}" for part in ("", "_0000") for ending in nifti.SUFFIXES]
        source = next(
            (folder / f"{name}{each}" for each in endings if (folder / f"{name}{each}").is_file()), None
        )
        if source is None:
            raise FileNotFoundError(
                f"no {name}.nii.gz in {folder} tells where its voxels lie: give a folder of images, reference="
            )
        nifti.write_like(path, values, source, canonical=self._is_reoriented)

    def _read(self, name: str) -> Any:
        path = self._folder / f"{name}.npz"
        prediction = read_prediction(path)
        scores = prediction.scores
        names = self.dataset.names
        if len(scores) != len(names):
            raise ValueError(
                f"{path} has {plural(len(scores), 'channel')}, but dataset.json {len(names)}: {', '.join(names)}"
            )
        given = (
            None if self._labels is None else self._read_labels(name, scores.shape[1:], prediction.is_padded)
        )
        # If voxels outside count, the box is only reported, and a guess will do.
        self.boxes[name] = box_of(
            prediction, path, regions=self.dataset.has_regions, guess=self._outside == "count"
        )
        del prediction
        outside = np.ones(scores.shape[1:], bool)
        outside[self.boxes[name]] = False
        if self._channel is not None:
            scores = scores[self._channel].copy()  # a copy frees the other channels
        n_outside = int(np.count_nonzero(outside))
        if given is None:
            self.counts[name] = VoxelCounts(outside.size, n_outside, 0)
            return scores
        ignored = self.dataset.ignore_label
        is_void = np.zeros(given.shape, bool) if ignored is None else given == ignored
        missed = np.count_nonzero(outside & (given != _BACKGROUND) & ~is_void)
        self._count(name, VoxelCounts(outside.size, n_outside, int(missed)))
        if self._channel is None:
            labels = given.astype(np.int16)
        else:
            labels = np.isin(given, self.dataset.labels[self._channel]).astype(np.int16)
        labels[is_void | outside if self._outside == "void" else is_void] = self._ignore_index
        return scores, labels

    def _read_labels(self, name: str, space: tuple[int, ...], is_padded: bool) -> NDArray[np.integer[Any]]:
        """The labels of a case as in its file, (z, y, x); refuses other shapes and classes."""
        assert self._labels is not None
        path = self._labels[name]
        if path.name.endswith(pictures.SUFFIXES):
            labels = pictures.read_picture(path, pictures.indices)
        else:
            labels = nifti.read_labels(path, canonical=self._is_reoriented)
        if labels.ndim < len(space):
            labels = labels[None]
        if labels.shape != space:
            hint = ""
            if not is_padded:
                hint = (
                    ". nnU-Net v1 keeps the softmax of the cropped image: pad it as the notes of "
                    "conformask.integrations.nnunet.Cases say"
                )
            elif sorted(labels.shape) == sorted(space):
                hint = ": are axes permuted, or is it another image?"
            raise ValueError(
                f"case {name}: the scores are {space} (z, y, x), the labels {labels.shape} in {path}{hint}"
            )
        known = self.dataset.known_labels
        ends = {int(labels.min(initial=0)), int(labels.max(initial=0))}
        # Labels without gaps are checked by their range.
        found = ends if known == {*range(len(known))} else {*np.unique(labels).tolist()}
        if not found <= known:
            said = ", ".join(map(str, sorted(known)))
            raise ValueError(f"{path} holds the label {min(found - known)}, but dataset.json knows {said}")
        return labels

    def _count(self, name: str, counts: VoxelCounts) -> None:
        is_first = not any(each.foreground_outside for each in self.counts.values())
        self.counts[name] = counts
        if self._outside == "void" and counts.foreground_outside and is_first:
            warn_caller(
                f"case {name} has {plural(counts.foreground_outside, 'foreground voxel')} outside of nnU-Net's crop "
                "box, where its segmentation is background: the guarantee does not include them "
                "(outside='count' counts them)",
                UserWarning,
            )


def _save_picture(path: Path, values: NDArray[Any]) -> None:
    if len(values) != 1 or values.ndim != _SPACE:
        raise ValueError(f"{path} must show one slice (1, y, x), got {values.shape}: write .nii.gz")
    grey = np.where(values[0], _WHITE, 0) if values.dtype == bool else values[0]
    pictures.save_greys(path, grey)


def _label_files(folder: Path, names: Sequence[str], dataset: Dataset) -> dict[str, Path]:
    """The label file of each case; refuses a folder that lacks some."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    endings = [dataset.file_ending, *nifti.SUFFIXES]
    files = {
        name: next(
            (folder / f"{name}{each}" for each in endings if (folder / f"{name}{each}").is_file()), None
        )
        for name in names
    }
    missing = [name for name, path in files.items() if path is None]
    if missing:
        some = ", ".join(missing[:_NAMED]) + (" and others" if len(missing) > _NAMED else "")
        raise FileNotFoundError(
            f"{folder} has no labels of {len(missing)} of {plural(len(names), 'case')} that were predicted: {some}"
        )
    found = {name: path for name, path in files.items() if path is not None}
    for path in found.values():
        if not path.name.endswith((*nifti.SUFFIXES, *pictures.SUFFIXES)):
            raise ValueError(f"{path} is neither NIfTI nor PNG, of which labels are read here")
    return found
