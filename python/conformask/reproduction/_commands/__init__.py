"""The commands of ``python -m conformask.reproduction``, a file for each paper.

Each has ``TITLE``, ``SUMMARY``, ``MORE`` (examples), ``N_SPLITS``, ``add_arguments`` and ``run``.
"""

__all__: list[str] = []


def __dir__() -> list[str]:
    return sorted(__all__)
