"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

ROUNDS = 32
"""Turns of the event loop that count as settled; a wake-up passed from task to task takes one or two each."""


class FakeTimer:
    """A pending callback of a `FakeClock`."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget the callback."""
        self.callback = None


class FakeClock:
    """A `Clock` for tests: no waiting, no flakiness, and a test that would hang fails instead.

    **When time advances:** only inside `advance`, `run_for` and `run`; never by itself, never because real
    time passes. Timers fire in the order of their due times, those due together in the order they were made,
    and `now()` inside a callback is exactly its due time.

    - `advance(s)` fires everything due within `s` at once, without giving the event loop a turn. Tasks in
      `sleep` are woken, but run only when the test awaits something; they then see the final time.
    - `await run_for(s)` does the same but settles the loop before the first and after every firing, so that
      each task runs at the very moment it asked for, and may set timers that fire in the same `run_for`.
    - `await run(coroutine)` jumps from timer to timer until the coroutine is done, and returns its result.

    Settling means `rounds` turns of the loop (`asyncio.sleep(0)`). It covers everything that wakes through
    futures, queues, events and locks; it does not wait for sockets, threads or the machine's own timers.
    """

    def __init__(
        self,
        now: float = 0.0,
        *,
        start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
        rounds: int = ROUNDS,
    ) -> None:
        self._now = self._origin = float(now)
        self._start = start
        self._rounds = rounds
        self._heap: list[tuple[float, int, FakeTimer]] = []
        self._order = itertools.count()

    # --- what Clock asks for

    def now(self) -> float:
        """Seconds; `now` of the constructor plus all advances."""
        return self._now

    def wall(self) -> datetime:
        """`start` of the constructor plus all advances."""
        return self._start + timedelta(seconds=self._now - self._origin)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has advanced that far. Zero or less only gives the loop a turn."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        """Run `callback` when the clock has advanced by `delay`; a negative delay counts as zero."""
        timer = FakeTimer(self._now + max(0.0, delay), callback)
        heapq.heappush(self._heap, (timer.due, next(self._order), timer))
        return timer

    # --- what a test asks for

    @property
    def next_due(self) -> float | None:
        """When the next timer fires, None when none is pending. One at infinity never fires."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap and self._heap[0][0] < math.inf else None

    @property
    def pending(self) -> int:
        """How many timers are set: 0 after a test that leaks none."""
        return sum(timer.callback is not None for _, _, timer in self._heap)

    def advance(self, seconds: float) -> None:
        """Move time and fire what is due, without a turn of the event loop."""
        end = self._end(seconds)
        while self._fire_next(end):
            pass
        self._now = end

    async def run_for(self, seconds: float) -> None:
        """Move time and let the loop settle before the first firing and after each."""
        end = self._end(seconds)
        await self.settle()
        while self._fire_next(end):
            await self.settle()
        self._now = end

    async def run(self, work: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
        """Jump from timer to timer until `work` is done, and return its result or raise its error.

        Raises `AssertionError` when `work` waits and no timer is left that could wake it.
        """
        task = asyncio.ensure_future(work)
        try:
            while True:
                await self.settle(task)
                if task.done():
                    return task.result()
                if not self._fire_next(math.inf):
                    raise AssertionError("the task waits, and no timer of this clock is left to wake it")
        finally:
            if not task.done():
                task.cancel()
                await self.settle(task)

    async def settle(self, until: asyncio.Future[Any] | None = None) -> None:
        """Give the loop its turns, fewer once `until` is done. Time stands still."""
        for _ in range(self._rounds):
            if until is not None and until.done():
                return
            await asyncio.sleep(0)

    def _end(self, seconds: float) -> float:
        if not 0 <= seconds < math.inf:
            raise ValueError(f"cannot advance by {seconds} seconds")
        return self._now + seconds

    def _fire_next(self, end: float) -> bool:
        due = self.next_due
        if due is None or due > end:
            return False
        timer = heapq.heappop(self._heap)[2]
        callback, timer.callback = timer.callback, None
        self._now = max(self._now, due)
        assert callback is not None  # next_due dropped the cancelled ones
        callback()
        return True

    def __repr__(self) -> str:
        return f"FakeClock({self._now:g}, pending={self.pending})"
