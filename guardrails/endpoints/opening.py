"""How does every endpoint open a stream, keep time and write its log – in one place?

An endpoint only has to produce batches of events (one list per network read, say). `open_events` turns that
into an `Opening`: it waits for the first event, keeps the three timeouts, logs each event with its time, and
says in the log how the attempt ended. Errors that happen before the first event are made `Transient`, since
nothing has been delivered yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from guardrails.call import Attempt, Call, Delta, Event, Finish
from guardrails.clock import Clock, Expired, Watchdog
from guardrails.errors import DeadlineExceeded, EndpointError, GuardrailsError, Interrupted, Transient
from guardrails.handler import Stream

Batches = AsyncGenerator[list[Event]]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds, all on by default; None switches one off.

    `first_event`: from sending to the first token (or the finish). `between_events`: the longest silence
    after that. `whole`: from sending to the end. A slow consumer does not count as silence.
    """

    first_event: float | None = 60.0
    between_events: float | None = 30.0
    whole: float | None = 600.0


@asynccontextmanager
async def open_events(
    call: Call,
    *,
    endpoint: str,
    model: str,
    source: Callable[[Attempt], Batches],
    timeouts: Timeouts = Timeouts(),
) -> AsyncGenerator[Stream]:
    """Open `source` as a stream. Entering ends at the first `Delta` with output, or at a `Finish`.

    `source` gets the attempt's log, so that it can note `connected`, `headers` and what the endpoint says of
    itself. It yields non-empty lists of events, raises `EndpointError`s, and returns only after a complete
    answer. Events that carry no output (role chunks, pings) before the first token are kept and replayed.
    """
    clock = call.clock
    attempt = call.journal.attempt(endpoint, model)
    watchdog = Watchdog(clock)
    sent = clock.now()
    attempt.note(sent, "sent")
    if timeouts.whole is not None:
        watchdog.total("whole", sent + timeouts.whole, timeouts.whole)
    if call.deadline is not None:
        watchdog.total("deadline", call.deadline, call.deadline - call.arrived)
    run = _Run(attempt, source(attempt), watchdog, clock)
    try:
        async with aclosing(run.batches):
            head = await run.enter(timeouts.first_event)
            async with aclosing(run.stream(head, timeouts.between_events)) as stream:
                yield stream
    finally:
        watchdog.close()
        if not run.ended:
            run.end("abandoned")


@dataclass(slots=True)
class _Run:
    """One attempt while it is open."""

    attempt: Attempt
    batches: Batches
    watchdog: Watchdog
    clock: Clock
    ended: bool = False

    async def enter(self, first_event: float | None) -> list[Event]:
        head: list[Event] = []
        try:
            with self.watchdog.limit("first_event", first_event):
                while not _has_output(head):
                    head += self._log(await anext(self.batches))
        except BaseException as error:
            verdict = self._failed(error, entered=False)
            if verdict is error:
                raise
            raise verdict from verdict.__cause__
        return head

    async def stream(self, head: list[Event], between_events: float | None) -> AsyncGenerator[Event]:
        try:
            for event in head:
                yield event
            while True:
                with self.watchdog.limit("between_events", between_events):
                    batch = await anext(self.batches)
                for event in self._log(batch):
                    yield event
        except GeneratorExit:
            raise
        except StopAsyncIteration:
            self.end(None)
        except BaseException as error:
            verdict = self._failed(error, entered=True)
            if verdict is error:
                raise
            raise verdict from verdict.__cause__

    def end(self, how: str | None) -> None:
        self.ended = True
        self.attempt.note(self.clock.now(), "ended", how)

    def _log(self, batch: list[Event]) -> list[Event]:
        now, log = self.clock.now(), self.attempt.log
        for event in batch:
            log.append((now, event))
        return batch

    def _failed(self, error: BaseException, *, entered: bool) -> BaseException:
        """Log how the attempt ended; the error to raise instead (often the same)."""
        verdict = _verdict(error, self.attempt.endpoint, entered=entered)
        if isinstance(verdict, Interrupted):
            texts = [len(entry.text) for _, entry in self.attempt.log if isinstance(entry, Delta)]
            verdict.received_chars, verdict.received_events = sum(texts), sum(map(bool, texts))
        self.end("cancelled" if isinstance(verdict, asyncio.CancelledError) else _kind(verdict))
        return verdict


def _kind(error: BaseException) -> str:
    return error.kind if isinstance(error, GuardrailsError) else type(error).__name__


def _has_output(events: list[Event]) -> bool:
    return any(
        isinstance(event, Finish) or (isinstance(event, Delta) and bool(event.text or event.tool))
        for event in events
    )


def _verdict(error: BaseException, endpoint: str, *, entered: bool) -> BaseException:
    if isinstance(error, Expired):
        return _timed_out(error, endpoint, entered=entered)
    if isinstance(error, StopAsyncIteration):
        return Transient(f"{endpoint} ended its answer before it began", kind="empty", endpoint=endpoint)
    if isinstance(error, EndpointError):
        error = error.again()
        error.tell_from(endpoint)
    if isinstance(error, Interrupted) and not entered:
        return error.undelivered()
    return error


def _timed_out(expired: Expired, endpoint: str, *, entered: bool) -> GuardrailsError:
    if expired.limit == "deadline":
        return DeadlineExceeded(f"the call's deadline of {expired.seconds:g} s passed at {endpoint}")
    what = {
        "first_event": "sent no token",
        "between_events": "fell silent in mid-answer",
        "whole": "did not finish",
    }[expired.limit]
    broken = Interrupted if entered else Transient
    return broken(
        f"{endpoint} {what} for {expired.seconds:g} s",
        kind=f"timeout_{expired.limit}",
        hint=f"raise timeouts.{expired.limit} if this endpoint is known to be slow",
        endpoint=endpoint,
    )
