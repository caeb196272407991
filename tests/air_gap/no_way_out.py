"""The guard as a pytest plugin: the test during which something tried to leave fails. See `outside`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import outside
import pytest


def pytest_configure() -> None:
    """A file of this process's own, which what it starts inherits."""
    handle, path = tempfile.mkstemp(prefix="air-gap-")
    os.close(handle)
    os.environ[outside.VARIABLE] = path


def pytest_unconfigure() -> None:
    """Say nothing more."""
    Path(os.environ.pop(outside.VARIABLE)).unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Fail the test during which something tried to leave."""
    before = len(outside.attempts())
    result = yield
    if tried := outside.attempts()[before:]:
        pytest.fail("tried to leave this machine:\n" + "\n".join(tried), pytrace=False)
    return result
