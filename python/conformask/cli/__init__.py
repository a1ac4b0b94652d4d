"""The commands of ``conformask``: a file for each, with ``SUMMARY``, ``add_arguments`` and ``run``."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return sorted(__all__)
