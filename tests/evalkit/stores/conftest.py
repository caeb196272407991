"""Both stores, empty, for every test that asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.stores import Store, open_store


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of one kind after the other."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.db'}"
    made: str = request.getfixturevalue("postgres").schema()
    return made


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    yield opened
    opened.close()
