"""Can the caller be spared a failure soon after the first token?"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from guardrails.call import Call, Delta, Event, Finish
from guardrails.errors import Interrupted, Refused
from guardrails.handler import Handler, Stream, opening


@dataclass(frozen=True, slots=True)
class Holdback:
    """Can the caller be spared a failure soon after the first token?

    Yes, for the price of time: entering succeeds only when `tokens` pieces of output (at least a token each)
    have arrived or the answer is at its end. What breaks before is `Transient`, since nobody has seen
    anything, so that retries and fallbacks go on as if nothing had been sent. Later failures are
    `Interrupted` as ever.

    With `refuses_filtered` an answer that the endpoint's own filter ends among them (`content_filter`) is
    `Refused`, kind `content_policy`, so that another route may be asked (`FirstOf`, reason `content_policy`).

    Stands inside of `Retry`, `FirstOf` and `Hedge`, outside of breakers and limiters: those measure the first
    token itself.
    """

    tokens: int
    refuses_filtered: bool = False

    @opening
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner` and yield its stream, its beginning all at once."""
        entered = False
        try:
            async with inner(call) as stream:
                head = await self._head(stream)
                async with aclosing(played(head, stream)) as whole:
                    entered = True
                    yield whole
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
            if self.refuses_filtered and filtered(event):
                raise Refused("its filter ended the answer at its beginning", kind="content_policy")
            head.append(event)
            left -= isinstance(event, Delta) and bool(event.text or event.tool)
        return head


def filtered(event: Event) -> bool:
    """Whether the endpoint's own filter ends the answer here."""
    return isinstance(event, Finish) and event.reason == "content_filter"


async def played(head: list[Event], stream: Stream) -> AsyncGenerator[Event]:
    """The events of a stream whose beginning has been read already."""
    for event in head:
        yield event
    async for event in stream:
        yield event
