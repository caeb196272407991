"""Redis is away: does the operator hear why, once, and never a password?"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from guardrails import Call, ConfigError, Request, Shed, build
from guardrails.flow.buckets import Take
from guardrails.flow.redis_away import place
from guardrails.flow.redis_store import RedisStore
from guardrails.testing import FakeClock

pytest.importorskip("redis", reason="the package redis is not installed: pip install redis")


async def failing(url: str, clock: FakeClock | None = None) -> Shed:
    store = RedisStore(url, timeout=0.5)
    with pytest.raises(Shed) as shed:
        await store.decide(Take((), 0), Call(Request.of("hi"), clock or FakeClock()))
    await store.aclose()
    assert shed.value.kind == "store_gone"
    return shed.value


@contextmanager
def password(server: Any) -> Iterator[None]:
    server.say("CONFIG SET requirepass open-sesame")
    try:
        yield
    finally:
        server.say('AUTH open-sesame\r\nCONFIG SET requirepass ""')


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:4711#abc@cache:6379/0", "the given url"),
        ("redis://hunter2?x@cache:6379/0", "the given url"),
        ("redis://hunter2#x@cache:6379/0", "the given url"),
        ("redis://:12/secret@cache:6379", "the given url"),
        ("redis://:secret@cache:99999", "the given url"),
        ("redis://user:secret@cache:6380/0", "cache:6380"),
        ("redis://cache", "cache:6379"),
        ("unix://user:secret@/run/redis.sock?db=1", "/run/redis.sock"),
    ],
)
def test_its_place_has_no_part_of_a_password(url: str, said: str) -> None:
    assert place(url) == said


@pytest.mark.asyncio
@pytest.mark.parametrize("given", ["", ":a-wrong-one@", "user:a-wrong-one@"])
async def test_a_password_that_is_missing_or_wrong_is_named_as_the_cause(
    redis_server: Any, given: str, caplog: pytest.LogCaptureFixture
) -> None:
    with password(redis_server):
        error = await failing(f"redis://{given}127.0.0.1:{redis_server.port}/0")
    said = f"{error} {caplog.text}"
    assert "password" in error.message
    assert f"127.0.0.1:{redis_server.port}" in error.message
    assert "a-wrong-one" not in said
    assert "open-sesame" not in said


@pytest.mark.asyncio
async def test_a_user_who_may_not_run_scripts_is_named_as_the_cause(redis_server: Any) -> None:
    redis_server.say("ACL SETUSER reader on >pw ~* +get")
    try:
        error = await failing(f"redis://reader:pw@127.0.0.1:{redis_server.port}/0")
    finally:
        redis_server.say("ACL DELUSER reader")
    assert "may not run scripts" in error.message


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("redis://:pw@127.0.0.1:1/0", "127.0.0.1:1 is away: it refuses connections"),
        ("redis://:pw@no-such-host.invalid/0", "no-such-host.invalid:6379 is away: its name cannot"),
        ("unix:///no/such/socket", "/no/such/socket is away"),
    ],
)
async def test_other_causes_are_told_apart(url: str, cause: str) -> None:
    error = await failing(url)
    assert cause in error.message
    assert "pw" not in str(error).replace("\n", "")


@pytest.mark.asyncio
async def test_one_that_does_not_answer_is_named_as_the_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and reads nothing
        error = await failing(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
    assert "did not answer in time" in error.message


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", ["closed", "local_share"])
async def test_the_log_hears_once_that_it_went_and_once_that_it_is_back(
    redis_process: Any, mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "guardrails")
    clock = FakeClock()
    store = RedisStore(redis_process.url, when_gone=mode, timeout=1.0, retry_every=1.0)

    async def ask() -> None:
        try:
            await store.decide(Take((), 0), Call(Request.of("hi"), clock))
        except Shed:
            assert mode == "closed"

    await ask()
    assert not caplog.records
    redis_process.stop()
    try:
        for _ in range(5):
            await ask()
            clock.advance(2.0)
    finally:
        redis_process.start()
    for _ in range(3):
        await ask()
    await store.aclose()
    went, back = [record.getMessage() for record in caplog.records]
    assert f"127.0.0.1:{redis_process.port} is away (it refuses connections)" in went
    assert f"when_gone: {mode}" in went
    assert "is back after 10 s" in back


def test_without_the_package_a_policy_is_refused_and_says_what_to_install() -> None:
    for part in ('"store": {"redis": "redis://h/0"}', '"cache": {"store": "redis://h/0"}'):
        program = (
            "import sys; sys.modules['redis'] = None\n"
            "import guardrails\n"
            f'try: guardrails.build({{"url": "http://a/v1", {part}}})\n'
            "except guardrails.ConfigError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert 'pip install "evalkit-guardrails[redis]"' in done.stdout


@pytest.mark.parametrize("part", [{"store": {"redis": "http://h"}}, {"store": {"redis": "h:6379"}}])
def test_a_url_that_is_none_is_refused_when_it_is_read(part: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="redis://HOST:PORT/DB"):
        build({"url": "http://a/v1", **part})
