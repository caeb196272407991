"""Functions of others are called with a limit, and nothing that they raise ends more than their own row."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from guardrails.testing import FakeClock
from judges import calling
from judges.calling import AT_ONCE, Overdue, Raised, blamed, called, ending


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Ends the threads that a test leaves behind."""
    made = threading.Event()
    yield made
    made.set()


@pytest.mark.asyncio
async def test_an_async_function_has_its_time_by_the_clock() -> None:
    clock, ended = FakeClock(), list[str]()

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(Overdue, match="did not return in 30 s"):
        await clock.run(called(hangs, within=30, clock=clock))
    await asyncio.sleep(0)
    assert clock.now() == 30
    assert ended == ["cancelled"]


def test_one_that_swallows_its_cancellation_keeps_no_loop_from_its_end() -> None:
    """`asyncio.run` cancels what is left, and waits for it."""
    clock = FakeClock()

    async def deaf() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def judged() -> None:
        with pytest.raises(Overdue):
            await clock.run(called(deaf, within=30, clock=clock))

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it says that a task was destroyed
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(judged())
    assert loop.is_closed()


class Weird(BaseException):
    """As those that pytest ends a test by."""


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [Weird, GeneratorExit, SystemExit, asyncio.CancelledError])
async def test_nothing_that_an_async_function_raises_ends_more_than_its_row(
    kind: type[BaseException],
) -> None:
    async def raises() -> None:
        raise kind("secret")

    with pytest.raises(Raised) as caught:
        await called(raises)
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.error, kind)


@pytest.mark.asyncio
async def test_what_a_plain_function_gives_to_await_has_a_limit_too() -> None:
    clock, began = FakeClock(), asyncio.Event()

    async def hangs() -> None:
        began.set()
        await asyncio.Event().wait()

    def gives() -> Awaitable[None]:
        return hangs()

    work = asyncio.ensure_future(called(gives, within=30, clock=clock))
    await began.wait()
    clock.advance(30)
    with pytest.raises(Overdue):
        await work


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_a_thread_raises_is_an_exception(error: type[BaseException]) -> None:
    def raises() -> None:
        raise error

    with pytest.raises(Raised) as caught:
        await called(raises)
    assert blamed(caught.value).startswith(f"{error.__name__} at test_calling.py:")


@pytest.mark.asyncio
async def test_a_cancellation_from_outside_is_passed_on_and_ends_the_function() -> None:
    began, seen = asyncio.Event(), list[bool]()

    async def hangs() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(ending())
            raise

    work = asyncio.ensure_future(called(hangs))
    await began.wait()
    assert not ending()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await asyncio.sleep(0)
    assert work.cancelled()
    assert seen == [True]


@pytest.mark.asyncio
async def test_only_so_many_plain_functions_run_at_once(over: threading.Event) -> None:
    lock, running, most = threading.Lock(), 0, 0
    full = threading.Semaphore(0)

    def works() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        full.release()
        over.wait()
        with lock:
            running -= 1

    calls = asyncio.gather(*(called(works) for _ in range(AT_ONCE + 3)))
    for _ in range(AT_ONCE):
        assert await asyncio.to_thread(full.acquire, timeout=10)
    over.set()
    await calls
    assert most == AT_ONCE


@pytest.mark.asyncio
async def test_threads_that_never_end_do_not_add_up(
    monkeypatch: pytest.MonkeyPatch, over: threading.Event
) -> None:
    behind: set[object] = set()
    monkeypatch.setattr(calling, "LEFT_BEHIND", 2)
    monkeypatch.setattr(calling, "_behind", behind)
    for _ in range(2):
        with pytest.raises(Overdue, match="did not return"):
            await called(over.wait, within=0.01)
    with pytest.raises(Overdue, match="2 earlier calls of functions have not returned yet"):
        await called(lambda: 1, within=10)
    over.set()
    for thread in threading.enumerate():
        if thread.name == "judge-function":
            await asyncio.to_thread(thread.join, 10)
    assert await called(lambda: 1, within=10) == 1


PROGRAM = """
import asyncio, threading
from judges.calling import Overdue, called

async def main():
    try:
        await called(threading.Event().wait, within=0.05)
    except Overdue:
        print("overdue")

asyncio.run(main())
"""


def test_a_function_that_never_returns_keeps_no_process_alive() -> None:
    done: Any = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "overdue\n")
