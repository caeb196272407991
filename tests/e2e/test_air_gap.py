"""Nothing of ours leaves the machine by itself: no telemetry, no downloads, no look-ups."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

GUARD = Path(__file__).resolve().parents[1] / "air_gap"


def python(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run Python under the guard, in a home where nothing was ever cached; and what it tried."""
    log = folder / "tried.txt"
    dropped = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", "HF_HOME", "XDG_CACHE_HOME", "HF_HUB_OFFLINE")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment |= {
        "PYTHONPATH": str(GUARD),
        "EVALKIT_AIR_GAP": str(log),
        "HOME": str(folder),
        "COLUMNS": "110",
    }
    environment |= {"TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=110
    )
    return done, log.read_text().splitlines() if log.exists() else []


FETCH = """
import asyncio, socket, subprocess, sys, urllib.request
async def fetch(url):
    import aiohttp
    async with aiohttp.request("GET", url):
        raise SystemExit("it was reached")
"""


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('8.8.8.8', 53))",
        "socket.getaddrinfo('pypi.org', 443)",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53))",
        "urllib.request.urlopen('https://pypi.org/simple')",
        "asyncio.run(asyncio.open_connection('8.8.8.8', 53))",
        "asyncio.run(fetch('http://8.8.8.8'))",
        "subprocess.run([sys.executable, '-c', 'import socket; socket.gethostbyname(\"pypi.org\")'])",
    ],
)
def test_the_guard_sees_who_tries_to_leave(attempt: str, tmp_path: Path) -> None:
    code = f"{FETCH}\ntry: {attempt}\nexcept OSError: pass"
    done, tried = python(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert len(tried) == 1
    assert "8.8.8.8" in tried[0] or "pypi.org" in tried[0]


def test_the_guard_lets_loopback_pass_and_reserved_names_lead_nowhere(tmp_path: Path) -> None:
    code = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
    socket.create_connection(("localhost", server.getsockname()[1])).close()
for place in ("nowhere.invalid", "192.0.2.7"):
    try:
        socket.create_connection((place, 80))
    except OSError:
        continue
    raise SystemExit(f"{place} was reached")
"""
    done, tried = python(tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert not tried


def test_a_demonstration_calls_nobody(tmp_path: Path) -> None:
    done, tried = python(tmp_path, "-m", "evalkit", "demo", "--out", "out")
    assert not tried
    assert (tmp_path / "out").is_dir(), done.stderr


EVERYTHING = """
from guardrails.config import build
from guardrails.tokens import count
from judges.registry import JUDGES, judge
import guardrails.flow.redis_store, guardrails.prices, evalkit.lineage

llm = build({
    "url": "http://127.0.0.1:9/v1", "model": "gpt-4o", "budget": {"allow": [{"per": "day", "usd": 1}]},
    "rate_limit": {"tokens": 1000},
    "filters": {"input": ["pii", "secrets"], "output": ["pii"]},
})
llm.warm()
evalkit.lineage.lineage()
for name in JUDGES:
    try:
        judge(name)
    except Exception:
        continue
import asyncio
from guardrails.errors import GuardrailsError
try:
    asyncio.run(llm.ask("Write to jane@mail.co.uk, see https://www.some-bank.co.uk/a?b=c"))
except GuardrailsError as error:
    print(error.kind)
"""


def test_filters_tokens_prices_and_judges_load_and_work_without_a_network(tmp_path: Path) -> None:
    done, tried = python(tmp_path, "-c", EVERYTHING)
    assert not tried
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "connect"


def test_a_test_fails_that_tries_and_catches_the_error(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import contextlib, pytest, socket\n"
        "def leave():\n"
        "    with contextlib.suppress(OSError):\n"
        "        socket.getaddrinfo('pypi.org', 443)\n"
        "@pytest.fixture\n"
        "def loud(): leave()\n"
        "def test_quiet(): pass\n"
        "def test_loud(): leave()\n"
        "def test_with_a_loud_fixture(loud): pass\n"
    )
    done, _ = python(tmp_path, "-m", "pytest", "-p", "no_way_out", "-p", "no:cacheprovider", "test_it.py")
    assert done.returncode == 1, done.stdout
    assert "1 failed, 1 passed, 1 error" in done.stdout
    assert "tried to leave this machine" in done.stdout
    assert "network: loopback only" in done.stdout


ALONE = """
import errno, socket
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    with socket.socket(type=kind) as outward:
        assert outward.connect_ex(("8.8.8.8", 53)) == errno.ENETUNREACH
"""


def test_a_namespace_of_its_own_has_loopback_and_no_way_out() -> None:
    done = subprocess.run(
        [sys.executable, str(GUARD / "alone.py"), sys.executable, "-I", "-c", ALONE],  # -I: without the guard
        capture_output=True,
        text=True,
        timeout=110,
    )
    if "as it is" in done.stdout:
        pytest.skip(done.stdout.strip())
    assert done.stdout == "network: loopback only, in a namespace of its own\n"
    assert done.returncode == 0, done.stderr
