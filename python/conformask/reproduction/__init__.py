"""The tables of the papers, run again.

:mod:`~conformask.reproduction.cose` is the protocol of COSE's Tables 1 and 2, :mod:`~conformask.reproduction.paper`
what the paper printed, :mod:`~conformask.reproduction.sources` where profiles come from (simulated, stored, or a
network of MMSegmentation), :mod:`~conformask.reproduction.tables` writes Markdown, CSV and LaTeX.
``python -m conformask.reproduction`` does all of it; it needs the extra ``conformask[reproduction]``.
:mod:`~conformask.reproduction.consign` compares CONSIGN with pixel-wise sets, as ``--consign`` there,
:mod:`~conformask.reproduction.selective` scalers (``--calibration``), and :mod:`~conformask.reproduction.coat`
calibrators of binary masks (``--adaptive``).
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
