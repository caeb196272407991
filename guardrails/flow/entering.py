"""How is one of several openings kept, and every other one closed, whoever is cancelled and when?"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from guardrails.call import Call
from guardrails.handler import Handler, Stream


class Entering:
    """An opening that is entered in a task of its own.

    Either it is `keep`-ed – then the exit stack closes it – or it is `drop`-ped: cancelled, and closed if it
    had opened nevertheless. After either, nothing of it is left.
    """

    __slots__ = ("_opening", "task")

    def __init__(self, handler: Handler, call: Call) -> None:
        self._opening = handler(call)
        self.task: asyncio.Task[Stream] = asyncio.ensure_future(self._enter())

    async def _enter(self) -> Stream:
        return await self._opening.__aenter__()

    @property
    def opened(self) -> bool:
        """Whether the stream is there."""
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    def keep(self, opened: AsyncExitStack) -> Stream:
        """The stream (or the error that entering raised); `opened` closes it."""
        stream = self.task.result()
        opened.push_async_exit(self._opening)
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
