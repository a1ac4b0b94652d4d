"""Score maps and masks in a user's folder, which the commands of all papers read in the same way.

DIR holds a folder of predictions, a folder ``masks``, and perhaps ``groups.csv``. Files whose names differ only in the
suffix belong together.
"""

from __future__ import annotations

from pathlib import Path

from conformask.datasets import PairedFolder

__all__ = ["origin_of", "paired"]


def paired(folder: str | Path, *kinds: str) -> tuple[PairedFolder, str]:
    """The score maps (K, H, W) and masks of a folder, read one at a time.

    Parameters
    ----------
    folder : path
        DIR. It holds one folder whose name is one of `kinds`, and ``masks``: see
        :class:`conformask.datasets.PairedFolder`.
    *kinds : str
        The kinds of score maps that are allowed, such as "logits".

    Returns
    -------
    images : PairedFolder
        With the groups of ``groups.csv``, if it is there.
    kind : str
        Which of `kinds` they are.

    Raises
    ------
    FileNotFoundError
        If a folder is missing or empty, or an image has no mask.
    ValueError
        If there are folders of several kinds, or an image has no group.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}")
    found = [kind for kind in kinds if (root / kind).is_dir()]
    if not found:
        raise FileNotFoundError(f"no folder {' or '.join(kinds)} in {root}")
    if len(found) > 1:
        raise ValueError(f"{root} holds {' and '.join(found)}: keep one of them")
    table = root / "groups.csv"
    images = PairedFolder(root / found[0], root / "masks", groups=table if table.is_file() else None)
    return images, found[0]


def origin_of(folder: str | Path) -> str:
    """How tables describe the data of a folder. Nobody checks here whether they are real; only the folder is known."""
    return f"real, as given (folder {Path(folder).resolve().name})"
