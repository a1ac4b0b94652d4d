"""The command line: ``conformask``, or ``python -m conformask``."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from conformask import InfeasibleRiskError, __version__, demo
from conformask.cli import nnunet

_ERROR, _INFEASIBLE, _INTERRUPTED = 2, 3, 130


class _Command(NamedTuple):
    """What a module of a command holds."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


_COMMANDS = {
    "nnunet": _Command(nnunet.SUMMARY, nnunet.add_arguments, nnunet.run),
    "demo": _Command(demo.SUMMARY, demo.add_arguments, demo.run),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name.

    Parameters
    ----------
    argv : sequence of str, optional
        Command-line arguments, without the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status: 0; 1 if a command says so; 2 if data or arguments cannot be used; 3 if there are too few images for
        the level that is asked for; 130 after Ctrl-C. Arguments that cannot be end the process with 2.
    """
    parser = argparse.ArgumentParser(prog="conformask", description="Risk-controlled segmentation masks.")
    parser.add_argument("--version", action="version", version=f"conformask {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where errors come from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in _COMMANDS.items():
        own = commands.add_parser(
            name,
            help=command.summary,
            description=command.summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    args = parser.parse_args(argv)
    with warnings.catch_warnings():
        if not args.debug:
            warnings.showwarning = _say
        try:
            return int(args.run(args))
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return _INTERRUPTED
        except (OSError, ValueError, TypeError, ImportError) as error:
            if args.debug:
                raise
            print(f"error: {error}", file=sys.stderr)
            return _INFEASIBLE if isinstance(error, InfeasibleRiskError) else _ERROR


def _say(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """A warning as one line: whoever calls a command does not know our files."""
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
