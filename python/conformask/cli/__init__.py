"""The commands of ``conformask``: a file for each, with ``SUMMARY``, ``add_arguments`` and ``run``."""
