"""The command line: ``python -m conformask.reproduction``."""

# ruff: noqa: T201 -- the tables are printed too
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from types import ModuleType

from conformask.reproduction._commands import coat, consign, cose, selective
from conformask.reproduction._commands._shared import add_common

_PAPERS: dict[str, ModuleType] = {"cose": cose, "consign": consign, "selective": selective, "coat": coat}
_ALL = "all"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables of one paper, or of all.

    Parameters
    ----------
    argv : sequence of str, optional
        Command-line arguments, without the program's name; by default those of the process.

    Returns
    -------
    int
        Exit status: 0, 1 if something does not hold that must, 2 if the arguments or the data cannot be used.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    args = parser.parse_args(given)
    if args.paper != _ALL:
        return _make(args)
    # An error in one paper does not stop the others.
    options = given[given.index(_ALL) + 1 :]
    return max(_make(parser.parse_args([paper, *options]), brief=True) for paper in _PAPERS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformask.reproduction",
        description="The tables of four papers, run again: on simulated data, on usgra-seg if --data names its folder, "
        "and on your own data. Every row names its source. Each paper has its own options: see its --help.",
    )
    papers = parser.add_subparsers(dest="paper", required=True, metavar="paper")
    for name, paper in _PAPERS.items():
        command = papers.add_parser(
            name,
            help=paper.SUMMARY,
            description=f"{paper.TITLE}: {paper.SUMMARY}.",
            epilog=paper.MORE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        paper.add_arguments(command)
    together = papers.add_parser(_ALL, help="all four, one after the other", description="All four papers.")
    add_common(together, "those of each paper")
    return parser


def _make(args: argparse.Namespace, *, brief: bool = False) -> int:
    """Write the tables of a paper and print them; with `brief`, print only the names of the files."""
    paper = _PAPERS[args.paper]
    if brief:
        print(f"{paper.TITLE} ...", file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        files, broken = paper.run(args)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {args.paper}: {error}" if brief else f"error: {error}", file=sys.stderr)
        return 2
    if not brief:
        print(files[0].read_text(encoding="utf-8"))
    print(f"{paper.TITLE}, in {time.perf_counter() - start:.0f} s: {', '.join(map(str, files))}", flush=True)
    for sentence in broken:
        print(f"does not hold: {sentence}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
