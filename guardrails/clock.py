"""Time as a value that is passed in.

Everything in the call path that needs to know or wait for time takes a `Clock`. `SystemClock` is the real
one; `guardrails.testing.FakeClock` stands still until a test moves it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self


class Timer(Protocol):
    """A pending callback, as `call_later` returns it."""

    def cancel(self) -> None:
        """Forget the callback. Cancelling twice, or after it ran, does nothing."""


class Clock(Protocol):
    """Monotonic seconds, wall time, and waiting."""

    def now(self) -> float:
        """Seconds from an arbitrary origin that never go backwards."""

    def wall(self) -> datetime:
        """The civil time, timezone-aware, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait at least that long on this clock."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` once, `delay` seconds from now, in the running event loop."""


class SystemClock:
    """The machine's own clock (`time.perf_counter`)."""

    __slots__ = ()

    now = staticmethod(time.perf_counter)

    def wall(self) -> datetime:
        """The civil time in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """`asyncio.sleep`."""
        await asyncio.sleep(seconds)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """`loop.call_later`."""
        return asyncio.get_running_loop().call_later(max(0.0, delay), callback)

    def __repr__(self) -> str:
        return "SystemClock()"


SYSTEM = SystemClock()


class Expired(TimeoutError):
    """A `Watchdog` limit passed. Carries the name of the limit and its length in seconds."""

    def __init__(self, limit: str, seconds: float) -> None:
        super().__init__(f"{limit}: {seconds:g} s")
        self.limit = limit
        self.seconds = seconds


class Watchdog:
    """Cancels the waiting task when a limit passes, at next to no cost while nothing does.

    `asyncio.timeout` around each read of a stream would make and cancel one timer per chunk. A watchdog
    keeps a single timer: guarding a wait only writes down when it has to end, and the timer, when it fires
    early, sets itself again for what is left.

    Use it as `with watchdog.limit("between_events", 30.0): await something()`. Only one wait at a time is
    guarded, and time between waits (a slow consumer) does not count. `close()` drops the timer.
    """

    __slots__ = (
        "_cancelling",
        "_clock",
        "_due",
        "_fired",
        "_hard_due",
        "_hard_name",
        "_hard_seconds",
        "_name",
        "_seconds",
        "_task",
        "_timer",
        "_timer_due",
    )

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: float | None = None
        self._name = ""
        self._seconds = 0.0
        self._hard_due: float | None = None
        self._hard_name = ""
        self._hard_seconds = 0.0
        self._task: asyncio.Task[object] | None = None
        self._timer: Timer | None = None
        self._timer_due = 0.0
        self._fired = False
        self._cancelling = 0

    def total(self, name: str, due: float, seconds: float) -> None:
        """Also end every wait at `due` on the clock, under this name; the earliest such limit counts."""
        if self._hard_due is None or due < self._hard_due:
            self._hard_due, self._hard_name, self._hard_seconds = due, name, seconds

    def limit(self, name: str, seconds: float | None) -> Self:
        """Guard the wait in the `with` block; None leaves only the total."""
        self._name = name
        if seconds is None:
            self._due = None
        else:
            self._seconds = seconds
            self._due = self._clock.now() + seconds
        if self._hard_due is not None and (self._due is None or self._hard_due < self._due):
            self._due, self._name, self._seconds = self._hard_due, self._hard_name, self._hard_seconds
        return self

    def __enter__(self) -> Self:
        if self._due is not None:
            self._task = task = asyncio.current_task()
            self._cancelling = task.cancelling() if task is not None else 0
            if self._timer is None or self._timer_due > self._due:
                self._arm(self._due)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        due, task, self._due, self._task = self._due, self._task, None, None
        if self._fired:
            self._fired = False
            # Only our own cancellation becomes a timeout; somebody else's at the same moment stays theirs.
            if task is not None and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
                raise Expired(self._name, self._seconds) from None
        elif kind is None and due is not None and due == self._hard_due and due <= self._clock.now():
            # A wait that never really waits (data is always there) must not outlive the total.
            raise Expired(self._name, self._seconds)

    def close(self) -> None:
        """Drop the timer. The watchdog can be used again afterwards."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._clock.call_later(due - self._clock.now(), self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._due is None or self._task is None or self._fired:
            return
        if self._clock.now() < self._due:
            self._arm(self._due)
            return
        self._fired = True
        self._task.cancel()
