"""The command line: ``python -m conformask demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from conformask import __version__, demo


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m conformask", description="Risk-controlled segmentation masks."
    )
    parser.add_argument("--version", action="version", version=f"conformask {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    demo.add_arguments(commands.add_parser("demo", help=demo.SUMMARY, description=demo.SUMMARY))
    return demo.run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
