"""How do I not pay twice for the same question?

Off unless you put the layer in. Same means the same to the letter: every field that shapes the answer, the
model, the tenant, and `version`. Not kept: answers that were cut, broken, refused or filtered to nothing, and
those with parts that we have no word for. A repeated answer comes in the pieces of the first, at once.

Who reads what: a key holds the tenant, so no tenant ever gets another's answer, unless `across_tenants` says
so. The layer keeps **answers as it releases them, in the clear**: put it outside of the output filters, and
it holds only what they let through; put the store where such text may lie. `version` belongs to what shapes
answers besides the request: give it another value when the policy changes.

Identical calls at the same time share one (`share`): the others follow its stream as it comes. They do not
die with the one that came first; if it fails before its answer begins because of its own deadline, they ask
for themselves. Calls of different priority do not wait for one another. The attempts of a shared call are in
the record of the one that came first; if that one leaves early, its record ends there.

A sampled answer (temperature above 0) becomes *the* answer: for several samples, leave the cache out.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from guardrails.call import Call, Delta, Event, Finish, Opaque, ToolHead, Usage, standing
from guardrails.endpoints.replay import fingerprint
from guardrails.flow.flight import Flight
from guardrails.flow.kept import Kept, MemoryKept
from guardrails.handler import Handler, Stream, opening
from guardrails.telling import Tally, whence

log = logging.getLogger("guardrails")

COMPLETE = frozenset({"stop", "tool_calls"})

_FlightKey = tuple[int, str, str]


@dataclass(slots=True)
class Cache:
    """Answer again what was answered before. `ttl` in seconds; `max_answer` in bytes as stored.

    The journal of a call that was answered so says `cached` (`store` or `shared`), and its record `cached`:
    leave such records out of latency statistics. A store that fails costs the hit; the journal says
    `cache_failed`, and the log hears of it once a minute.
    """

    kept: Kept = field(default_factory=MemoryKept)
    ttl: float = 3600.0
    across_tenants: bool = False
    share: bool = True
    version: str = ""
    max_answer: int = 2**20
    _flights: dict[_FlightKey, Flight] = field(default_factory=dict, repr=False)
    _failures: Tally = field(default_factory=Tally, repr=False, compare=False)

    @opening
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open the kept answer, a shared one, or the inner stream."""
        key = self.key(call)
        events = await self._look_up(call, key)
        if events is not None:
            call.journal.note(call.clock.now(), "cached", "store")
            async with aclosing(_replay(events)) as stream:
                yield stream
            return
        if not self.share:
            seen: list[Event] = []
            async with inner(call) as opened, aclosing(_noted(opened, seen)) as stream:
                yield stream
            await self._keep(call, key, seen)
            return
        flight = await self._board(call, inner, key)
        try:
            async with aclosing(flight.stream(call)) as stream:
                yield stream
        finally:
            await flight.leave()
        if flight.events is not None and not flight.kept:
            flight.kept = True
            await self._keep(call, key, flight.events)

    def key(self, call: Call) -> str:
        """What the answer depends on, as a hash."""
        tenant = "" if self.across_tenants else f"={call.tenant}"
        parts = fingerprint(call.request), call.request.model, tenant, self.version
        framed = "".join(f"{len(part)}:{part}" for part in parts)
        return hashlib.sha256(framed.encode("utf-8", "surrogatepass")).hexdigest()

    async def aclose(self) -> None:
        """Close the store."""
        await self.kept.aclose()

    # --- sharing

    async def _board(self, call: Call, inner: Handler, key: str) -> Flight:
        """A flight whose answer has begun, with one more passenger on it."""
        place = id(asyncio.get_running_loop()), call.priority, key
        while True:
            flight = self._flights.get(place)
            own = flight is None
            if flight is None:
                flight = self._flights[place] = Flight(call, inner, lambda over: self._gone(place, over))
            flight.board()
            try:
                await flight.opening(call)
            except BaseException as error:
                await flight.leave()
                # Whoever is cancelled is, even if the flight fails for its starter's reasons at that moment.
                cancelled = isinstance(error, asyncio.CancelledError)
                if cancelled or own or not flight.own_failure or _expired(call):
                    raise
                continue
            if not own:
                call.journal.note(call.clock.now(), "cached", "shared")
            return flight

    def _gone(self, place: _FlightKey, flight: Flight) -> None:
        if self._flights.get(place) is flight:
            del self._flights[place]

    # --- keeping

    async def _look_up(self, call: Call, key: str) -> list[Event] | None:
        try:
            data = await self.kept.get(key, call.clock)
            return None if data is None else unpack(data)
        except Exception as error:
            self._failed(call, error)
            return None

    async def _keep(self, call: Call, key: str, events: Sequence[Event]) -> None:
        data = pack(events)
        if data is None or len(data) > self.max_answer:
            return
        try:
            await self.kept.put(key, data, self.ttl, call.clock)
        except Exception as error:
            self._failed(call, error)

    def _failed(self, call: Call, error: Exception) -> None:
        now = call.clock.now()
        call.journal.note(now, "flow", "cache_failed")
        # Type and place, not what it says: the store's own error may hold its url, with a password.
        if times := self._failures.add(now):
            log.warning(
                "the cache's store failed (%r: %s), %d times since last said; calls go on without it",
                self.kept,
                whence(error),
                times,
            )


def _expired(call: Call) -> bool:
    return call.deadline is not None and call.clock.now() >= call.deadline


async def _replay(events: Iterable[Event]) -> AsyncGenerator[Event]:
    for event in events:
        yield event


async def _noted(stream: Stream, seen: list[Event]) -> AsyncGenerator[Event]:
    async for event in stream:
        seen.append(event)
        yield event


# --- answers as bytes --------------------------------------------------------------------------------------


def pack(events: Iterable[Event]) -> bytes | None:
    """A complete answer as bytes; None for one that is not to be kept."""
    import orjson

    rows: list[Any] = []
    choices, finished = {0}, set()
    for event in standing(events):
        if isinstance(event, Delta):
            choices.add(event.choice)
            tool = None if event.tool is None else (event.tool.id, event.tool.name)
            rows.append(("d", event.text, event.channel, event.choice, event.logprobs, tool))
        elif isinstance(event, Finish):
            if event.reason is not None:
                if event.reason not in COMPLETE:
                    return None
                finished.add(event.choice)
            rows.append(("f", event.reason, _usage(event.usage), event.choice))
        elif isinstance(event, Opaque) and not event.structural:
            return None
    if choices - finished or not any(row[0] == "d" for row in rows):
        return None
    try:
        return orjson.dumps(rows)
    except (TypeError, ValueError):
        return None


def unpack(data: bytes) -> list[Event]:
    """The events again, in the same pieces. Raises `ValueError`, `TypeError` or the like for other bytes."""
    import orjson

    return [_event(row) for row in orjson.loads(data)]


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return asdict(usage) | {"cost": None if usage.cost is None else str(usage.cost)}


def _event(row: Sequence[Any]) -> Event:
    if row[0] == "d":
        _, text, channel, choice, logprobs, tool = row
        return Delta(text, channel, choice, logprobs, None if tool is None else ToolHead(*tool))
    _, reason, usage, choice = row
    if usage is not None:
        cost = usage.pop("cost")
        usage = Usage(**usage, cost=None if cost is None else Decimal(cost))
    return Finish(reason, usage, choice)
