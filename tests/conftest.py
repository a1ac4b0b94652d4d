"""Same examples in every run; no time limit per example, for the machine may be busy. Where real data may lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import conformask as cm
from slow_tests import SLOW

settings.register_profile(
    "conformask", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("conformask")

REPOSITORY = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the slow tests."""
    for item in items:
        if getattr(item, "originalname", item.name) in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data, CONFORMASK_DATA; tests skip what is not there."""
    return Path(os.environ.get("CONFORMASK_DATA", REPOSITORY / "../shared/data"))


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the default number of threads."""
    yield
    cm.set_num_threads(None)
