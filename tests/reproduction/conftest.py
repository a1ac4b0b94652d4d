"""Which predictions the tables are made of: options for pytest, and rows that all tests share.

`pytest tests/reproduction` takes simulated predictions of all data sets, and usgra-seg if CONFORMASK_DATA holds it.
`--dataset loveda` takes one of them; with `--checkpoint` (and `--data-root`) its real images and the paper's network,
`--config` another one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from conformask.reproduction import Row, Source, reproduce
from conformask.reproduction.paper import DATASETS
from conformask.reproduction.sources import STORED, choose

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
CHOSEN = pytest.StashKey[dict[str, Callable[[], Source]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("reproduction", "the tables of COSE (tests/reproduction)")
    group.addoption("--dataset", choices=[*DATASETS, STORED], help="this data set alone")
    group.addoption(
        "--checkpoint", help="weights (path or URL) of a network of MMSegmentation, in place of simulation"
    )
    group.addoption("--data-root", type=Path, help="folder of its images and labels")
    group.addoption(
        "--config", help="its configuration, by path or name; default: the one that the paper used"
    )
    group.addoption("--out", type=Path, default=HERE / "out", help="folder for the tables")


def pytest_configure(config: pytest.Config) -> None:
    """Settles where the profiles come from; each source is asked once, when it is first needed."""
    # The options are unknown where this folder is found on the way (`pytest tests`).
    dataset, *network = (
        config.getoption(name, None) for name in ("dataset", "checkpoint", "config", "data_root")
    )
    try:
        chosen = choose(
            [dataset] if dataset else [],
            data=os.environ.get("CONFORMASK_DATA", REPOSITORY / "../shared/data"),
            **dict(zip(("checkpoint", "config", "data_root"), network, strict=True)),
        )
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[CHOSEN] = {name: cache(make) for name, make in chosen.items()}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "source_name" in metafunc.fixturenames:
        metafunc.parametrize("source_name", list(metafunc.config.stash[CHOSEN]), scope="session")


def pytest_collection_finish(session: pytest.Session) -> None:
    """A network may need hours for its images: they go through it before the tests, whose time is limited."""
    config = session.config
    if not config.getoption("checkpoint", None) or config.getoption("collectonly"):
        return
    with (
        config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")  # what the network's libraries warn of fails no test of ours
        for make in config.stash[CHOSEN].values():
            try:
                make()
            except (OSError, ValueError, ImportError) as error:
                raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def of_a_network(pytestconfig: pytest.Config) -> bool:
    """Whether the rows are those of a network of MMSegmentation."""
    return pytestconfig.getoption("checkpoint", None) is not None


@pytest.fixture(scope="session")
def out(pytestconfig: pytest.Config) -> Path:
    """Where the tables go."""
    return pytestconfig.getoption("out", HERE / "out")


@cache
def _rows(make: Callable[[], Source]) -> list[Row]:
    return list(reproduce(make()))


@pytest.fixture(scope="session")
def source(source_name: str, pytestconfig: pytest.Config) -> Source:
    """One of the sources, the tests of which are skipped if its data are missing."""
    try:
        return pytestconfig.stash[CHOSEN][source_name]()
    except FileNotFoundError as error:
        if not source_name.startswith(STORED):
            raise
        pytest.skip(f"{error} (CONFORMASK_DATA)")


@pytest.fixture(scope="session")
def rows(source: Source, source_name: str, pytestconfig: pytest.Config) -> list[Row]:
    """Its rows."""
    return _rows(pytestconfig.stash[CHOSEN][source_name])


@pytest.fixture(scope="session")
def all_of(pytestconfig: pytest.Config) -> dict[str, tuple[Source, list[Row]]]:
    """All sources whose data are there, by name, and their rows."""
    found = {}
    for name, make in pytestconfig.stash[CHOSEN].items():
        try:
            found[name] = make(), _rows(make)
        except FileNotFoundError:
            if not name.startswith(STORED):
                raise
    if not found:
        pytest.skip("no data (CONFORMASK_DATA)")
    return found
