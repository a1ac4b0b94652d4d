"""Samples and masks in a user's folder, a file for each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformask._files import arrays
from conformask._files.folders import needed_files, partner
from conformask._files.maps import LABELS, read_labels, voided

__all__ = ["SampleFolder"]


_VOID = 255  # as ConsignCalibrator has it


class SampleFolder(Sequence["NDArray[np.floating[Any]]"]):
    """Samples of a model, read one image at a time, and the masks that belong to them.

    The folder holds ``samples`` and ``masks``. Files whose names differ only in the suffix belong together::

        DIR/samples/0001.npy  floating (S, K, H, W), S samples of the probabilities of K classes; or .npz with one array
        DIR/masks/0001.png    class indices (H, W), 255 where void; or .npy, .npz, .nii, .nii.gz, .tif

    Parameters
    ----------
    folder : path
        DIR.

    Attributes
    ----------
    name : str
        The name of the folder.
    names : list of str
        The names of the images, in order.
    labels : list of integer arrays (H, W)
        Their masks.

    Raises
    ------
    FileNotFoundError
        If a folder is missing or empty, or an image has no mask.
    ValueError
        If a file cannot be read or holds something else, or there is a ``groups.csv``: the comparison splits images.

    See Also
    --------
    conformask.reproduction.consign.compare : Takes samples and labels.
    conformask.datasets.PairedFolder : The same for score maps.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from conformask.reproduction.consign import SampleFolder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, values in {"samples": np.full((6, 2, 4, 5), 0.5), "masks": np.ones((4, 5), int)}.items():
    ...         (Path(folder) / name).mkdir()
    ...         np.save(Path(folder) / name / "0001.npy", values)
    ...     samples = SampleFolder(folder)
    ...     samples.names, samples[0].shape, samples.labels[0].shape
    (['0001'], (6, 2, 4, 5), (4, 5))
    """

    def __init__(self, folder: str | Path) -> None:
        root = Path(folder)
        if not root.is_dir():
            raise FileNotFoundError(f"no folder {root}")
        if (root / "groups.csv").exists():
            raise ValueError(
                f"{root} holds groups.csv, but the comparison of CONSIGN splits images: keep one image of each group, "
                "and remove the file"
            )
        files = needed_files(root / "samples", arrays.SUFFIXES)
        truth = needed_files(root / "masks", LABELS)
        self.name, self.names = root.resolve().name, list(files)
        self._files = list(files.values())
        masks = [partner(truth, name, file, root / "masks") for name, file in files.items()]
        found = [read_labels(file) for file in masks]
        self.labels = [
            voided(each.values, each.valid, _VOID, file) for each, file in zip(found, masks, strict=True)
        ]
        for i, (file, label) in enumerate(zip(masks, self.labels, strict=True)):
            if label.shape != self[i].shape[2:]:
                raise ValueError(f"{file} has shape {label.shape}, but {self._files[i]} {self[i].shape}")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any) -> Any:
        file = self._files[index]
        values = arrays.read_array(file, mapped=True)
        if values.ndim != 4 or values.dtype.kind != "f" or values.shape[0] < 2 or values.shape[1] < 2:
            raise ValueError(
                f"{file} must hold floating samples (S, K, H, W), at least two samples of at least two classes, got "
                f"{values.dtype} of shape {values.shape}"
            )
        return values

    def __iter__(self) -> Iterator[NDArray[np.floating[Any]]]:
        return (self[i] for i in range(len(self)))
