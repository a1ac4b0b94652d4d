"""Where the profiles come from: simulated, stored, or a network of MMSegmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import conformask as cm
from conformask.datasets import load_predictions
from conformask.reproduction._own import origin_of, paired
from conformask.reproduction.cose import Setting, Source, generic_settings, paper_settings
from conformask.reproduction.paper import DATASETS
from conformask.reproduction.simulate import simulated_profiles

__all__ = ["SIMULATED", "STORED", "choose", "from_folder", "from_mmseg", "simulated", "stored"]


def __dir__() -> list[str]:
    return sorted(__all__)


SIMULATED = "simulated"
STORED = "usgra-seg"
"""The folder of stored predictions, and the name of the data set."""

# The argmax errs on 5.7 % of the pixels, and in half of the images on more than 5 %. So some of these levels need sets,
# and one does not.
_STORED_SETTINGS = (
    *(Setting(alpha, tau) for alpha in (0.1, 0.05) for tau in (0.95, 0.99)),
    *map(Setting, (0.1, 0.05, 0.02)),
)


def simulated(dataset: str, *, progress: bool | str = "auto") -> Source:
    """Simulated predictions in the shape of one of the paper's data sets.

    Parameters
    ----------
    dataset : {"cityscapes", "ade20k", "loveda"}
        Which.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over images.

    Returns
    -------
    Source

    See Also
    --------
    conformask.reproduction.simulate.simulate : The predictions.

    Examples
    --------
    >>> from conformask.reproduction.sources import simulated
    >>> simulated("loveda").profiles.n_classes
    7
    """
    profiles = simulated_profiles(dataset, progress=progress)
    return Source(DATASETS[dataset].name, SIMULATED, profiles, paper_settings(dataset))


def stored(folder: str | Path | None, *, by_group: bool = False) -> Source:
    """Real ultrasound images with out-of-sample predictions of a small network (usgra-seg).

    Split by image, calibration and test images are exchangeable draws from this collection, and the guarantee is about
    the collection. Split by group of look-alikes, it is about a new group, which is nearer to a new patient.

    Parameters
    ----------
    folder : path or None
        The folder that holds ``usgra-seg``.
    by_group : bool, default=False
        Whether to split groups of look-alike images, instead of images.

    Returns
    -------
    Source

    Raises
    ------
    FileNotFoundError
        If the folder has no such predictions.
    ValueError
        If they are damaged, or `by_group` is asked of predictions without groups.

    See Also
    --------
    conformask.datasets.load_predictions : Reads the predictions.

    Examples
    --------
    >>> from conformask.reproduction.sources import stored
    >>> stored("data", by_group=True).origin  # doctest: +SKIP
    'real (usgra-seg, tmkand, CC BY 4.0)'
    """
    if folder is None:
        raise FileNotFoundError(f"no folder was given that holds {STORED}")
    found = load_predictions(Path(folder) / STORED)
    groups = found.group if by_group else None
    if by_group and groups is None:
        raise ValueError(f"{folder} holds no groups: predictions.npz needs an array 'group'")
    return Source(
        f"{STORED} by group" if by_group else STORED,
        "real (usgra-seg, tmkand, CC BY 4.0)",
        cm.profile(found.probs, found.labels, groups=groups, activation=True, progress=False),
        _STORED_SETTINGS,
        groups,
    )


def from_mmseg(
    checkpoint: str | Path,
    *,
    dataset: str | None = None,
    config: str | Path | None = None,
    data_root: str | Path | None = None,
) -> Source:
    """Real images and a network of MMSegmentation, which sees each image once.

    Parameters
    ----------
    checkpoint : path or URL
        The weights.
    dataset : {"cityscapes", "ade20k", "loveda"} or None, default=None
        One of the paper's data sets, for its rows; None for rows that suit any data set.
    config : path or str or None, default=None
        A configuration, by path or name; None for the one that the paper used.
    data_root : path or None, default=None
        The folder of the data; None for the one that the configuration names.

    Returns
    -------
    Source

    Raises
    ------
    ValueError
        If neither a data set nor a configuration is given.

    See Also
    --------
    conformask.integrations.mmseg.profile_dataset : Does the work.

    Examples
    --------
    >>> from conformask.reproduction.sources import from_mmseg
    >>> from_mmseg("weights.pth", dataset="cityscapes", data_root="data/cityscapes").origin  # doctest: +SKIP
    'real (pspnet_r50-d8_4xb2-40k_cityscapes-512x1024)'
    """
    from conformask.integrations.mmseg import profile_dataset

    if config is None:
        if dataset is None:
            raise ValueError("give a data set of the paper or a configuration of MMSegmentation")
        config = DATASETS[dataset].config
    profiles = profile_dataset(
        str(config), str(checkpoint), data_root=None if data_root is None else str(data_root)
    )
    name = Path(config).name.removesuffix(".py")
    if dataset is None:
        return Source(name, f"real ({name})", profiles, generic_settings(len(profiles)))
    return Source(DATASETS[dataset].name, f"real ({name})", profiles, paper_settings(dataset))


def from_folder(folder: str | Path, *, dataset: str | None = None, progress: bool | str = "auto") -> Source:
    """Your own probabilities and masks, a file for each image.

    Parameters
    ----------
    folder : path
        DIR. It holds ``probabilities``, floating (K, H, W), and ``masks``, class indices with 255 where void, as
        :class:`~conformask.datasets.PairedFolder` reads them. If images belong together, it also holds ``groups.csv``
        (NAME,group), and whole groups are split.
    dataset : {"cityscapes", "ade20k", "loveda"} or None, default=None
        One of the paper's data sets, for its rows; None for rows that suit any data set.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar over images.

    Returns
    -------
    Source

    Raises
    ------
    FileNotFoundError
        If a folder, or the mask of an image, is missing.
    ValueError
        If a file cannot be read, or holds something else.

    See Also
    --------
    conformask.datasets.PairedFolder : Reads the files.

    Examples
    --------
    >>> from conformask.reproduction.sources import from_folder
    >>> from_folder("mine").origin  # doctest: +SKIP
    'real, as given (folder mine)'
    """
    images, _ = paired(folder, "probabilities")
    groups = None if images.groups is None else np.unique(images.groups, return_inverse=True)[1]
    profiles = cm.profile(images, groups=groups, activation=True, progress=progress)
    n_units = len(images) if groups is None else int(groups.max()) + 1
    return Source(
        Path(folder).resolve().name if dataset is None else DATASETS[dataset].name,
        origin_of(folder),
        profiles,
        generic_settings(n_units) if dataset is None else paper_settings(dataset),
        groups,
    )


def choose(
    datasets: Sequence[str] = (),
    *,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    checkpoint: str | Path | None = None,
    config: str | Path | None = None,
    data_root: str | Path | None = None,
) -> dict[str, Callable[[], Source]]:
    """The sources that the options of the command line, or of the tests, ask for.

    Parameters
    ----------
    datasets : sequence of {"cityscapes", "ade20k", "loveda", "usgra-seg"}, default=()
        Which data sets; empty for all.
    data : path or None, default=None
        The folder that holds ``usgra-seg``.
    folder : path or None, default=None
        Your own probabilities and masks instead, for one data set of the paper or another one: see :func:`from_folder`.
    checkpoint, config, data_root : path or None, default=None
        A network of MMSegmentation instead, for one data set of the paper or another one: see :func:`from_mmseg`.

    Returns
    -------
    dict of str to callable
        By name. Each makes its source when it is called, and raises FileNotFoundError if its data are missing.

    Raises
    ------
    ValueError
        If the options do not go together.

    See Also
    --------
    simulated, stored, from_folder, from_mmseg : The sources.

    Examples
    --------
    >>> from conformask.reproduction.sources import choose
    >>> list(choose(["loveda"]))
    ['loveda']
    >>> choose(["loveda"])["loveda"]().origin
    'simulated'
    """
    if unknown := set(datasets) - {*DATASETS, STORED}:
        raise ValueError(f"no data set {sorted(unknown)}: they are {[*DATASETS, STORED]}")
    if folder is not None:
        if len(datasets) > 1 or STORED in datasets:
            raise ValueError(f"a folder goes with one --dataset of {[*DATASETS]}, or with none")
        dataset = datasets[0] if datasets else None
        return {dataset or Path(folder).resolve().name: lambda: from_folder(folder, dataset=dataset)}
    if checkpoint or config or data_root:
        if not checkpoint:
            raise ValueError("a network of MMSegmentation needs --checkpoint")
        if len(datasets) > 1 or STORED in datasets or not (datasets or config):
            raise ValueError(
                f"a network of MMSegmentation goes with one --dataset of {[*DATASETS]}, or with --config"
            )
        dataset = datasets[0] if datasets else None
        name = dataset or Path(str(config)).name.removesuffix(".py")
        return {name: lambda: from_mmseg(checkpoint, dataset=dataset, config=config, data_root=data_root)}
    chosen: dict[str, Callable[[], Source]] = {
        name: partial(simulated, name) for name in DATASETS if not datasets or name in datasets
    }
    if not datasets or STORED in datasets:
        chosen[STORED] = lambda: stored(data)
        chosen[f"{STORED} by group"] = lambda: stored(data, by_group=True)
    return chosen
