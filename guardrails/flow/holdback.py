"""Can the caller be spared a failure soon after the first token?"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from guardrails.call import Call, Delta, Event
from guardrails.errors import Interrupted
from guardrails.handler import Handler, Stream


@dataclass(frozen=True, slots=True)
class Holdback:
    """Can the caller be spared a failure soon after the first token?

    Yes, for the price of time: entering succeeds only when `tokens` pieces of output (at least a token each)
    have arrived or the answer is at its end. What breaks before is `Transient`, since nobody has seen
    anything, so that retries and fallbacks go on as if nothing had been sent. Later failures are
    `Interrupted` as ever.

    Stands inside of `Retry`, `FirstOf` and `Hedge`, outside of breakers and limiters: those measure the first
    token itself.
    """

    tokens: int

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner` and yield its stream, its beginning all at once."""
        entered = False
        try:
            async with inner(call) as stream:
                head = await self._head(stream)
                async with aclosing(_played(head, stream)) as played:
                    entered = True
                    yield played
        except Interrupted as error:
            if entered:
                raise
            raise error.undelivered() from None

    async def _head(self, stream: Stream) -> list[Event]:
        head: list[Event] = []
        left = self.tokens
        while left > 0:
            try:
                event = await anext(stream)
            except StopAsyncIteration:
                break
            head.append(event)
            left -= isinstance(event, Delta) and bool(event.text or event.tool)
        return head


async def _played(head: list[Event], stream: Stream) -> AsyncGenerator[Event]:
    for event in head:
        yield event
    async for event in stream:
        yield event
