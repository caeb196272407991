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


def pytest_report_header() -> str:
    """Say that it looks on."""
    return "network: loopback only, for a test fails that tries to reach further"


def pytest_unconfigure() -> None:
    """Say nothing more."""
    Path(os.environ.pop(outside.VARIABLE)).unlink(missing_ok=True)


def _watched() -> Generator[None, object, object]:
    before = len(outside.attempts())
    result = yield
    if tried := outside.attempts()[before:]:
        pytest.fail("tried to leave this machine:\n" + "\n".join(tried), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    """Fail the test for which a fixture tried to leave."""
    return (yield from _watched())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Fail the test that tried to leave."""
    return (yield from _watched())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    """Fail the test after which something tried to leave."""
    return (yield from _watched())
