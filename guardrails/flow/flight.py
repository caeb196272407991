"""How do several identical calls share one that is under way, without dying with whoever came first?

A flight is the inner call in a task of its own. All who want its answer, the one who started it included,
are passengers: they read what has arrived and wait for more. Whoever leaves, leaves alone; when the last one
has left before the end, the flight is cancelled and its inner stream closed.

The flight reads at the endpoint's pace, so it holds the whole answer while anyone reads.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Callable

from guardrails.call import Call, Event
from guardrails.clock import Expired, Watchdog
from guardrails.errors import DeadlineExceeded
from guardrails.handler import Handler


class Flight:
    """One inner call that is shared. `over` is called when nobody is to board any more.

    `kept` is for its owner to note that the answer was put away.
    """

    __slots__ = (
        "_call",
        "_error",
        "_events",
        "_over",
        "_passengers",
        "_task",
        "_told",
        "_waiting",
        "kept",
        "opened",
    )

    def __init__(self, call: Call, inner: Handler, over: Callable[[Flight], None]) -> None:
        self._call = call
        self._events: list[Event] = []
        self._error: BaseException | None = None
        self._over = False
        self._passengers = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self.opened = self.kept = False
        self._told = over
        self._task = asyncio.ensure_future(self._fly(inner))
        self._task.add_done_callback(self._landed)

    @property
    def events(self) -> list[Event] | None:
        """The whole answer, None while it is not complete."""
        return self._events if self._over and self._error is None else None

    @property
    def own_failure(self) -> bool:
        """Whether it failed for a reason that is its starter's own: another passenger may do better."""
        return isinstance(self._error, DeadlineExceeded | asyncio.CancelledError)

    async def _fly(self, inner: Handler) -> None:
        try:
            async with inner(self._call) as stream:
                self.opened = True
                self._wake()
                async for event in stream:
                    self._events.append(event)
                    self._wake()
        except asyncio.CancelledError as error:
            self._error = error
            raise
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._end()

    def _landed(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and not self._over:  # before it took its first step
            self._error = asyncio.CancelledError()
            self._end()

    def _end(self) -> None:
        self._over = True
        self._told(self)
        self._wake()

    def board(self) -> None:
        """One more passenger, who has to `leave`."""
        self._passengers += 1

    async def leave(self) -> None:
        """One passenger less; after the last one the flight is over, and its inner stream closed."""
        self._passengers -= 1
        if self._passengers or self._task.done():
            return
        self._told(self)  # nobody else is to board now
        self._task.cancel()
        await asyncio.wait([self._task])  # unlike awaiting it, this does not raise its cancellation as ours

    async def opening(self, call: Call) -> None:
        """Wait until the answer has begun. Raises what ended it before."""
        watchdog = _watchdog(call)
        try:
            while not self.opened:
                if self._over:
                    self._raise()
                await self._more(call, watchdog)
        finally:
            watchdog.close()

    async def stream(self, call: Call) -> AsyncGenerator[Event]:
        """All events from the first one, as they arrive."""
        at, watchdog = 0, _watchdog(call)
        try:
            while True:
                while at < len(self._events):
                    yield self._events[at]
                    at += 1
                if self._over:
                    if self._error is not None:
                        self._raise()
                    return
                await self._more(call, watchdog)
        finally:
            watchdog.close()

    async def _more(self, call: Call, watchdog: Watchdog) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            with watchdog.limit("", None):
                await future
        except Expired:
            raise DeadlineExceeded(
                "the call's deadline passed while it waited for the same answer as another"
            ) from None
        finally:
            self._waiting.discard(future)

    def _raise(self) -> None:
        if isinstance(self._error, asyncio.CancelledError):
            raise DeadlineExceeded("the call that this one waited for was cancelled", kind="flight_cancelled")
        assert self._error is not None, "a flight that is over without having begun has failed"
        raise copy.copy(self._error)  # each passenger gets an error, and a traceback, of its own

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


def _watchdog(call: Call) -> Watchdog:
    watchdog = Watchdog(call.clock)
    if call.deadline is not None:
        watchdog.total("deadline", call.deadline, call.deadline - call.arrived)
    return watchdog
