"""How is one of several openings kept, and every other one closed, whoever is cancelled and when?"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from guardrails.call import Call
from guardrails.handler import Handler, Opening, Stream


async def _nothing() -> None:
    """What leaving no opening is."""


class Kept(AbstractAsyncContextManager[Stream]):
    """An opening that finds out while it is entered which other one it will be, and is that one from then on.

    `choose` is what entering does: it enters openings by `enter`, one at a time, and returns the stream of
    the last. The block's end closes that one, by whatever ends it. Cheaper than a generator around it, and
    next to nothing once the stream is open.
    """

    __slots__ = ("_choose", "_opening")

    def __init__(self, choose: Callable[[Kept], Coroutine[Any, Any, Stream]]) -> None:
        self._choose = choose
        self._opening: Opening | None = None

    async def enter(self, opening: Opening) -> Stream:
        """Enter and keep it."""
        stream = await opening.__aenter__()
        self._opening = opening
        return stream

    def keep(self, opening: Opening) -> None:
        """Keep one that is entered already."""
        self._opening = opening

    async def leave(self, error: BaseException | None = None) -> None:
        """Close it now, telling it why."""
        if error is None:
            await self.__aexit__(None, None, None)
        else:
            await self.__aexit__(type(error), error, error.__traceback__)

    async def __aenter__(self) -> Stream:
        try:
            return await self._choose(self)
        except BaseException as error:
            await self.leave(error)  # nobody else closes what was entered by then
            raise

    def __aexit__(  # type: ignore[override] # all that `async with` needs
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> Awaitable[bool | None]:
        opening, self._opening = self._opening, None
        return _nothing() if opening is None else opening.__aexit__(kind, error, tb)


class Entering:
    """An opening that is entered in a task of its own.

    Either it is `keep`-ed, and closed by who keeps it, or it is `drop`-ped: cancelled, and closed if it had
    opened nevertheless. After either, nothing of it is left.
    """

    __slots__ = ("_opening", "task")

    def __init__(self, handler: Handler, call: Call) -> None:
        self.task: asyncio.Task[Stream] = asyncio.ensure_future(self._enter(handler, call))

    async def _enter(self, handler: Handler, call: Call) -> Stream:
        self._opening = handler(call)
        return await self._opening.__aenter__()

    @property
    def opened(self) -> bool:
        """Whether the stream is there."""
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    def keep(self, opened: Kept) -> Stream:
        """The stream (or the error that entering raised); `opened` closes it."""
        stream = self.task.result()
        opened.keep(self._opening)
        return stream

    async def drop(self) -> None:
        """Cancel the entering and wait until nothing of it is left. Its errors are nobody's any more."""
        self.task.cancel()
        try:
            await over(self.task)
        finally:
            if self.opened:
                await self._opening.__aexit__(None, None, None)


async def over(*tasks: asyncio.Task[object]) -> None:
    """Wait until the tasks are over, even when we are cancelled meanwhile; then let that go on.

    The tasks have to have been cancelled before. Their errors are looked at, and forgotten.
    """
    cancelled: asyncio.CancelledError | None = None
    while left := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled = error
            for task in left:
                task.cancel()
    for task in tasks:
        if not task.cancelled():
            task.exception()
    if cancelled is not None:
        raise cancelled
