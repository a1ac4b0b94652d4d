"""The command line: ``conformask``, or ``python -m conformask``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from conformask import InfeasibleRiskError, __version__, demo
from conformask._arguments import as_options, options_of
from conformask.cli import apply, calibrate, evaluate, nnunet, report

_ERROR, _INFEASIBLE, _INTERRUPTED, _UNREAD = 2, 3, 130, 141


class _Command(NamedTuple):
    """What a module of a command holds."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    more: str = ""  # what stands below its options: examples, exit statuses


_COMMANDS = {
    "calibrate": _Command(calibrate.SUMMARY, calibrate.add_arguments, calibrate.run, calibrate.MORE),
    "evaluate": _Command(evaluate.SUMMARY, evaluate.add_arguments, evaluate.run, evaluate.MORE),
    "apply": _Command(apply.SUMMARY, apply.add_arguments, apply.run, apply.MORE),
    "report": _Command(report.SUMMARY, report.add_arguments, report.run, report.MORE),
    "nnunet": _Command(nnunet.SUMMARY, nnunet.add_arguments, nnunet.run, nnunet.MORE),
    "demo": _Command(demo.SUMMARY, demo.add_arguments, demo.run),
}
_FROM_FOLDERS = """\
from folders to masks:
  conformask calibrate --maps calibration/softmax --labels calibration/labels --out calibrator.json
  conformask evaluate --calibrator calibrator.json --maps test/softmax --labels test/labels
  conformask report --calibrator calibrator.json --maps test/softmax --labels test/labels --out report.html
  conformask apply --calibrator calibrator.json --maps new/softmax --out new/masks

conformask COMMAND --help shows the options of a command. @FILE stands for the arguments in a file, one per line.

exit status: 0 done; 2 arguments, files or numbers cannot be used; 3 too few images for alpha; 130 stopped by Ctrl-C;
141 the output is read no further, as with | head"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name.

    Parameters
    ----------
    argv : sequence of str, optional
        Command-line arguments, without the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status: 0 if done; 1 if a command returns it; 2 if data or arguments cannot be used; 3 if there are too few
        images for the level that is asked for; 130 after Ctrl-C; 141 if the output is read no further. Invalid
        arguments end the process with 2.
    """
    try:
        try:
            return _run(argv)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _UNREAD


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="conformask",
        description="Risk-controlled segmentation masks.",
        epilog=_FROM_FOLDERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"conformask {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where errors come from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in _COMMANDS.items():
        own = commands.add_parser(
            name,
            help=command.summary,
            description=command.summary,
            epilog=command.more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            fromfile_prefix_chars="@",
        )
        command.add_arguments(own)
        own.set_defaults(run=command.run, parser=own, calibrating=commands.choices["calibrate"])
    args = parser.parse_args(argv)

    def line(message: object) -> str:
        """A message in one line, in words of the command."""
        return as_options(
            " ".join(str(message).split()), options_of(args.parser), options_of(args.calibrating)
        )

    def say(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        """A warning as one line, without the place in our files, which says nothing to the user of a command."""
        print(f"warning: {line(message)}", file=sys.stderr)

    with warnings.catch_warnings():
        if not args.debug:
            warnings.showwarning = say
        try:
            return int(args.run(args))
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return _INTERRUPTED
        except BrokenPipeError:
            raise
        except (OSError, ValueError, TypeError, ImportError, MemoryError) as error:
            if args.debug:
                raise
            print(f"error: {line(error) or type(error).__name__}", file=sys.stderr)
            return _INFEASIBLE if isinstance(error, InfeasibleRiskError) else _ERROR


if __name__ == "__main__":
    sys.exit(main())
