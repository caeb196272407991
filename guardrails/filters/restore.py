"""The layer that puts values back into an answer whose prompt went out with pseudonyms.

Where it stands matters::

    Record(), Restore(vaults), InputFilters(…, vaults=vaults.of), OutputFilters(…, vaults=vaults.of)

- outside of the input filters, so that the vault is kept from before the first token is made until the answer
  is closed;
- outside of the output filters: they see tokens, so what was restored is not taken for a leak, and an address
  that the model brings by itself still is;
- inside of `Record`, which keeps no text. A `Tape` inside of it holds tokens; one outside of it, values.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from guardrails.call import Call, Delta, Event, Finish, Reset
from guardrails.filters.pseudonyms import Lexicon, Restorer
from guardrails.filters.vaults import Vaults
from guardrails.handler import Handler, Stream


@dataclass(frozen=True, slots=True)
class Restore:
    """Put the values of the call's vault back into its answer, while it streams.

    Text waits only while it can still become a token; an event without one passes as the object that it is.
    Of a changed one the log-probabilities and the vendor's chunk are dropped: they spell another text. Each
    channel of each choice is read by itself, a tool call's arguments as JSON. Vendors' events (`Opaque`) are
    not read, and keep their tokens.
    """

    vaults: Vaults

    @asynccontextmanager
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner` and yield its stream with the values put back."""
        with self.vaults.lease(call) as vault:
            async with inner(call) as stream, aclosing(_restored(call, stream, vault.lexicon)) as restored:
                yield restored


async def _restored(call: Call, stream: Stream, lexicon: Lexicon) -> AsyncGenerator[Event]:
    answer = _Answer(call, lexicon)
    async for event in stream:
        for ready in answer.take(event):
            yield ready
    for ready in answer.finish():
        yield ready


class _Answer:
    """A restorer for each channel of each choice."""

    __slots__ = ("_call", "_current", "_lexicon", "_restorers")

    def __init__(self, call: Call, lexicon: Lexicon) -> None:
        self._call = call
        self._lexicon = lexicon
        self._restorers: dict[tuple[int, str], Restorer] = {}
        self._current: dict[int, str] = {}

    def take(self, event: Event) -> Iterator[Event]:
        """What can go on now that this event has come."""
        if isinstance(event, Delta):
            yield from self._text(event)
            return
        if isinstance(event, Reset):  # what was held is void with the rest
            self._restorers.clear()
            self._current.clear()
        if isinstance(event, Finish) and event.reason is not None:
            yield from self.finish(event.choice)
        yield event

    def finish(self, choice: int | None = None) -> Iterator[Event]:
        """What was held in the choice (None: in every one), which is at its end."""
        for number, channel in self._restorers:
            if choice is None or number == choice:
                yield from self._rest(number, channel)

    def _text(self, event: Delta) -> Iterator[Event]:
        is_tool = event.channel.startswith("tool:")
        if event.text or event.tool is not None:
            before = self._current.get(event.choice, event.channel)
            self._current[event.choice] = event.channel
            # Text that goes on as something else is at its end. Tool calls may take turns; JSON ends itself.
            if before != event.channel and not before.startswith("tool:"):
                yield from self._rest(event.choice, before)
        place = event.choice, event.channel
        restorer = self._restorers.get(place)
        if restorer is None:
            restorer = self._restorers[place] = Restorer(self._lexicon, arguments=is_tool)
        text = restorer.push(event.text)
        if text == event.text:
            yield event
            return
        if event.logprobs is not None:
            self._call.journal.note(self._call.clock.now(), "dropped", "output:logprobs")
        if text or event.tool is not None:
            yield replace(event, text=text, logprobs=None, origin=None)

    def _rest(self, choice: int, channel: str) -> Iterator[Event]:
        restorer = self._restorers.get((choice, channel))
        if restorer is not None and (text := restorer.finish()):
            yield Delta(text, channel=channel, choice=choice)
