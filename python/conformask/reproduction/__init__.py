"""The tables of the papers, run again.

:mod:`~conformask.reproduction.cose` runs the protocol of COSE's Tables 1 and 2, and
:mod:`~conformask.reproduction.paper` holds the figures that the paper printed.
:mod:`~conformask.reproduction.sources` makes the profiles (simulated, stored, or from a network of MMSegmentation), and
:mod:`~conformask.reproduction.tables` writes Markdown, CSV and LaTeX. :mod:`~conformask.reproduction.consign` compares
CONSIGN with pixel-wise sets (its Tables 1 to 5), :mod:`~conformask.reproduction.selective` compares scalers, and
:mod:`~conformask.reproduction.coat` compares calibrators of binary masks (Tables 1 and 2 of each paper).
``python -m conformask.reproduction`` runs one paper or all of them, on simulated data, on stored predictions, or on a
folder of your own. It needs the extra ``conformask[reproduction]``.
"""

from conformask.reproduction.consign import Comparison, Outcome, compare
from conformask.reproduction.cose import (
    Row,
    Setting,
    Source,
    generic_settings,
    mesh_search,
    paper_settings,
    reproduce,
    violations,
)

__all__ = [
    "Comparison",
    "Outcome",
    "Row",
    "Setting",
    "Source",
    "compare",
    "generic_settings",
    "mesh_search",
    "paper_settings",
    "reproduce",
    "violations",
]


def __dir__() -> list[str]:
    return sorted(__all__)
