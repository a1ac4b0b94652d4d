"""Rows as tables: Markdown to read, LaTeX to print, CSV for further work."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

try:
    from tabulate import tabulate
except ModuleNotFoundError as error:
    raise ImportError(f'{__name__} needs tabulate: pip install "conformask[reproduction]"') from error

from conformask.reproduction.cose import Row
from conformask.reproduction.paper import LOW_NOTE, PUBLISHED, SEEDS, SWAPPED_NOTE
from conformask.reproduction.sources import SIMULATED, STORED

__all__ = ["TITLES", "cost", "to_csv", "to_latex", "to_markdown", "write_tables"]


def __dir__() -> list[str]:
    return sorted(__all__)


TITLES = {
    1: "Table 1. Binary loss with minimum coverage τ",
    2: "Table 2. Miscoverage loss",
}

_COLUMNS = {
    "dataset": "dataset",
    "source": "source",
    "alpha": "α",
    "tau": "τ",
    "images": "n cal. / test",
    "risk": "risk (sd)",
    "bounds": "must lie in",
    "published_risk": "paper: risk (sd)",
    "activation": "AR",
    "published_activation": "paper: AR",
}

# The binary rows of ADE20K.
_LOW = [row for row in PUBLISHED if row.dataset == "ade20k" and row.tau is not None]


def to_markdown(rows: Sequence[Row], table: int) -> str:
    """One of the tables as Markdown, with its notes.

    Parameters
    ----------
    rows : sequence of Row
        All rows; those of the other table are passed over.
    table : {1, 2}
        Which table.

    Returns
    -------
    str

    See Also
    --------
    write_tables : Writes it to a file.

    Examples
    --------
    >>> from conformask.reproduction import Setting, Source, reproduce
    >>> from conformask.reproduction.simulate import simulated_profiles
    >>> source = Source("LoveDA", "simulated", simulated_profiles("loveda", 40), (Setting(0.1, tau=0.75),))
    >>> rows = list(reproduce(source))
    >>> from conformask.reproduction.tables import to_markdown
    >>> to_markdown(rows, 1).splitlines()[0]
    '## Table 1. Binary loss with minimum coverage τ'
    """
    cells = _cells(rows, table)
    text = tabulate(cells, headers="keys", tablefmt="github", disable_numparse=True)
    notes = "\n".join(f"- {note}" for note in _notes(rows, table))
    return f"## {TITLES[table]}\n\n{text}\n\n{notes}\n"


def to_latex(rows: Sequence[Row], table: int) -> str:
    r"""One of the tables as a LaTeX ``table``, for the packages booktabs and graphicx.

    Parameters
    ----------
    rows : sequence of Row
        All rows; those of the other table are passed over.
    table : {1, 2}
        Which table.

    Returns
    -------
    str

    See Also
    --------
    write_tables : Writes it to a file.

    Examples
    --------
    >>> from conformask.reproduction import Setting, Source, reproduce
    >>> from conformask.reproduction.simulate import simulated_profiles
    >>> source = Source("LoveDA", "simulated", simulated_profiles("loveda", 40), (Setting(0.1, tau=0.75),))
    >>> rows = list(reproduce(source))
    >>> from conformask.reproduction.tables import to_latex
    >>> print(to_latex(rows, 1).splitlines()[2])
    \caption{Binary loss with minimum coverage $\tau$}
    """
    # tabulate escapes LaTeX's special characters; `_symbols` replaces those beyond ASCII.
    text = tabulate(_cells(rows, table), headers="keys", tablefmt="latex_booktabs", disable_numparse=True)
    notes = "\\\\\n".join(_escaped(note) for note in _notes(rows, table))
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_symbols(TITLES[table].split('. ')[1])}}}\n"
        f"\\resizebox{{\\linewidth}}{{!}}{{%\n{_symbols(text)}}}\n\n"
        f"\\smallskip\n\\parbox{{\\linewidth}}{{\\footnotesize\n{notes}}}\n\\end{{table}}\n"
    )


def to_csv(rows: Sequence[Row]) -> str:
    """All rows as CSV, in full precision; a cell that does not apply is empty.

    Parameters
    ----------
    rows : sequence of Row
        The rows.

    Returns
    -------
    str

    See Also
    --------
    write_tables : Writes it to files.

    Examples
    --------
    >>> from conformask.reproduction import Setting, Source, reproduce
    >>> from conformask.reproduction.simulate import simulated_profiles
    >>> source = Source("LoveDA", "simulated", simulated_profiles("loveda", 40), (Setting(0.1, tau=0.75),))
    >>> rows = list(reproduce(source))
    >>> from conformask.reproduction.tables import to_csv
    >>> to_csv(rows).splitlines()[1].split(",")[:5]
    ['LoveDA', 'simulated', 'binary', '0.1', '0.75']
    """
    records = [_record(row) for row in rows]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def cost(rows: Sequence[Row]) -> str:
    """The number of forward passes that the rows took, and the number that the authors' search would have needed.

    Parameters
    ----------
    rows : sequence of Row
        The rows.

    Returns
    -------
    str
        One line per source whose search was counted, and one for all.

    See Also
    --------
    conformask.reproduction.mesh_search : Counts the passes of the authors' search.

    Examples
    --------
    >>> from conformask.reproduction import Setting, Source, reproduce
    >>> from conformask.reproduction.simulate import simulated_profiles
    >>> source = Source("LoveDA", "simulated", simulated_profiles("loveda", 40), (Setting(0.1, tau=0.75),))
    >>> rows = list(reproduce(source))
    >>> from conformask.reproduction.tables import cost
    >>> cost(rows).startswith("LoveDA, simulated: 40 forward passes here; the original search needs ")
    True
    """
    ours: dict[tuple[str, str], int] = {}
    theirs: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.forward_passes is not None:
            source = row.dataset, row.origin
            ours[source] = row.n_calibration + row.n_test
            theirs[source] = theirs.get(source, 0) + row.forward_passes
    if not ours:
        return "Forward passes: none counted."
    lines = [
        _cost(f"{dataset}, {origin}", ours[dataset, origin], passes)
        for (dataset, origin), passes in theirs.items()
    ]
    return "\n".join([*lines, _cost("All", sum(ours.values()), sum(theirs.values()))])


def write_tables(rows: Sequence[Row], folder: str | Path, *, seeds: Sequence[int] = SEEDS) -> list[Path]:
    """Write both tables as Markdown, CSV and LaTeX.

    Parameters
    ----------
    rows : sequence of Row
        The rows of all sources.
    folder : path
        The folder to write to; it is made if it is missing.
    seeds : sequence of int, default=101 to 110
        The seeds of the splits, which the introduction names.

    Returns
    -------
    list of Path
        The files: ``cose.md``, ``cose_table_1.csv``, ``cose_table_1.tex`` and the same for Table 2.

    See Also
    --------
    conformask.reproduction.reproduce : Makes the rows.

    Examples
    --------
    >>> from conformask.reproduction import Setting, Source, reproduce
    >>> from conformask.reproduction.simulate import simulated_profiles
    >>> source = Source("LoveDA", "simulated", simulated_profiles("loveda", 40), (Setting(0.1, tau=0.75),))
    >>> rows = list(reproduce(source))
    >>> import tempfile
    >>> from conformask.reproduction.tables import write_tables
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [file.name for file in write_tables(rows, folder)]
    ['cose.md', 'cose_table_1.csv', 'cose_table_1.tex']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = [table for table in TITLES if any(row.setting.table == table for row in rows)]
    intro = (
        f"# COSE, Tables 1 and 2\n\nRisk and activation ratio (AR) over {len(seeds)} random splits (seeds {seeds[0]} "
        f"to {seeds[-1]}), beside the figures of Mossina, Dalmau and Andéol, CVPR Workshops 2024, arXiv:2405.05145. "
        "The column source says what each row was computed from. The numbers in brackets are standard deviations over "
        "splits of the same images."
    )
    counted = "\n".join(f"- {line}" for line in cost(rows).splitlines())
    parts = [intro, *(to_markdown(rows, table) for table in tables), f"## Forward passes\n\n{counted}\n"]
    texts = {"cose.md": "\n\n".join(part.rstrip("\n") for part in parts) + "\n"}
    for table in tables:
        texts[f"cose_table_{table}.csv"] = to_csv([row for row in rows if row.setting.table == table])
        texts[f"cose_table_{table}.tex"] = to_latex(rows, table)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def _cost(name: str, ours: int, theirs: int) -> str:
    return f"{name}: {ours:,} forward passes here; the original search needs {theirs:,} ({theirs / ours:,.0f} times)."


def _cells(rows: Sequence[Row], table: int) -> list[dict[str, str]]:
    cells = []
    for row in rows:
        if row.setting.table != table:
            continue
        published, (lower, upper) = row.setting.published, row.bounds
        texts = {
            "dataset": row.dataset,
            "source": row.origin,
            "alpha": f"{row.setting.alpha:g}",
            "tau": f"{row.setting.tau:g}" if row.setting.tau is not None else "",
            "images": f"{row.n_calibration} / {row.n_test}",
            "risk": _mean(row.risk, row.risk_sd),
            "bounds": f"{max(lower, 0):.4f}–{upper:.4f}",
            "published_risk": "" if published is None else _mean(published.risk, published.risk_sd),
            "activation": _activation(row.activation, row.dagger),
            "published_activation": ""
            if published is None
            else _activation(published.activation, published.dagger),
        }
        cells.append(
            {title: texts[name] for name, title in _COLUMNS.items() if not (name == "tau" and table == 2)}
        )
    return cells


def _mean(mean: float, sd: float) -> str:
    return f"{mean:.3f} ({sd:.3f})" if sd >= 0.001 else f"{mean:.3f} ({sd:.4f})"


def _activation(activation: float, dagger: bool) -> str:
    return f"{activation:.3f}{'†' if dagger else ''}"


def _notes(rows: Sequence[Row], table: int) -> list[str]:
    rows = [row for row in rows if row.setting.table == table]
    notes = [
        'Risk: mean (standard deviation) over the splits. "Must lie in": the range that theory gives for the expected '
        "risk, widened by three standard errors of the mean (from the splits, or from the exact law of the binary "
        "loss, whichever is larger)."
    ]
    error = max(row.activation_error for row in rows)
    notes.append(
        "AR is counted on a fine grid of probabilities. The table shows the middle of a bracket, which is at most "
        f"{error:.4f} from the truth."
    )
    if any(row.dagger or (row.setting.published and row.setting.published.dagger) for row in rows):
        notes.append("†: the argmax alone meets the risk, in all splits.")
    notes += [
        f"{row}: the argmax alone meets the risk in {row.argmax_splits} of {len(row.lambdas)} splits."
        for row in rows
        if row.argmax_splits and not row.dagger
    ]
    if any(row.origin == SIMULATED for row in rows):
        notes.append(
            "Simulated: predictions drawn from a model (conformask.reproduction.simulate) with the classes and the "
            "number of images of the data set, a sixteenth of its resolution, and about its argmax error. They show "
            "the protocol at work; their AR is no estimate of what the network would give."
        )
    if any(row.dataset.startswith(STORED) for row in rows):
        notes.append(
            "usgra-seg: 244 ultrasound images, 3 classes (tmkand, https://github.com/tmkand/usgra-seg, CC BY 4.0), "
            "with out-of-sample predictions of a small network; they are not in the paper. Split by image, the "
            "guarantee is about this collection; split by group of look-alikes, it is about a new group."
        )
    if table == 1 and any(row.setting.published in PUBLISHED[:2] for row in rows):
        notes.append(SWAPPED_NOTE)
    if table == 1 and any(row.setting.published in _LOW for row in rows):
        notes.append(LOW_NOTE)
    return notes


def _record(row: Row) -> dict[str, object]:
    published, (lower, upper) = row.setting.published, row.bounds
    return {
        "dataset": row.dataset,
        "source": row.origin,
        "loss": "miscoverage" if row.setting.tau is None else "binary",
        "alpha": row.setting.alpha,
        "tau": row.setting.tau,
        "unit": row.unit,
        "n_calibration": row.n_calibration,
        "n_test": row.n_test,
        "n_splits": len(row.risks),
        "risk": row.risk,
        "risk_sd": row.risk_sd,
        "risk_must_be_at_least": max(lower, 0.0),
        "risk_must_be_at_most": upper,
        "activation_ratio": row.activation,
        "activation_ratio_error": row.activation_error,
        "argmax_splits": row.argmax_splits,
        "lambda_hat_min": min(row.lambdas),
        "lambda_hat_max": max(row.lambdas),
        "paper_risk": None if published is None else published.risk,
        "paper_risk_sd": None if published is None else published.risk_sd,
        "paper_activation_ratio": None if published is None else published.activation,
        "paper_dagger": None if published is None else int(published.dagger),
        "forward_passes_of_original_search": row.forward_passes,
    }


_SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "&%$#_{}"})
_SYMBOLS = {"α": r"$\alpha$", "τ": r"$\tau$", "†": r"$^\dagger$", "–": "--", "é": r"\'e"}


def _escaped(text: str) -> str:
    return _symbols(text.translate(_SPECIAL))


def _symbols(text: str) -> str:
    for sign, command in _SYMBOLS.items():
        text = text.replace(sign, command)
    return text
