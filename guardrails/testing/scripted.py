"""An endpoint that says what a test wrote down."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from guardrails.call import Attempt, Call, Delta, Event, Finish, Note, Usage
from guardrails.endpoints.opening import Batches, Timeouts, open_events
from guardrails.errors import Interrupted, Transient
from guardrails.handler import Stream

NO_TIMEOUTS = Timeouts(first_event=None, between_events=None, whole=None)

_WORD = re.compile(r"\s*\S+|\s+$")


def words(text: str) -> list[str]:
    """Cut text into pieces, a word each with the space before it; joined they are the text again."""
    return _WORD.findall(text)


@dataclass(frozen=True, slots=True)
class Script:
    """One answer and how it arrives.

    `pieces` are texts or events; a plain string is cut into words. `ttft` and `tpot` are seconds on the
    call's clock: before the first event, and before each later one (`math.inf` hangs until cancelled).
    `finish` closes the stream together with `usage`; None leaves the stream without an end of its own.

    `fail_after` raises `error` after that many events (0: instead of entering). Without `error` it is
    `Transient` at 0 and `Interrupted` later. `error` alone is raised after all pieces, in place of the
    finish. `stall_after` hangs after that many events until cancelled.
    """

    pieces: str | Sequence[str | Event] = field(default="", repr=False)
    ttft: float = 0.0
    tpot: float = 0.0
    finish: str | None = "stop"
    usage: Usage | None = None
    fail_after: int | None = None
    error: BaseException | None = None
    stall_after: int | None = None

    def __post_init__(self) -> None:
        length = sum(1 for _ in self.events())
        for what in ("fail_after", "stall_after"):
            if (getattr(self, what) or 0) > length:
                raise ValueError(f"{what} would never happen: the script has {length} events")

    def events(self) -> Iterator[Event]:
        """All events of an undisturbed answer."""
        for piece in words(self.pieces) if isinstance(self.pieces, str) else self.pieces:
            yield Delta(piece) if isinstance(piece, str) else piece
        if self.finish is not None and not (self.error is not None and self.fail_after is None):
            yield Finish(self.finish, self.usage)

    def failure(self, events: int) -> BaseException | None:
        """The error that comes after that many events, if one does; `events` is -1 at the end."""
        if self.fail_after is None:
            return copy.copy(self.error) if events < 0 else None
        if events != self.fail_after:
            return None
        if self.error is not None:
            return copy.copy(self.error)
        kind = Transient if events == 0 else Interrupted
        return kind(f"the script fails after {events} events", kind="scripted")


Answer = str | Sequence[Event] | BaseException | Script
Scripted = Answer | Callable[[Call], Answer]


class ScriptedEndpoint:
    """A `Handler` that gives one answer per call, in order; the last one repeats.

    An answer is a string (one event per word, then a `stop`), a list of events (played as they are), an
    exception (entering raises a copy of it), a `Script`, or a function from the call to one of these.
    Entering succeeds at the first event, and the journal is kept as every endpoint keeps it. There are no
    timeouts unless the test gives some; the call's deadline always counts.

    `calls` are the calls it got, `opened` and `closed` count its streams, and `active` is the difference: 0
    after a test in which every stream was closed. Of the closed ones, `abandoned` were left before their end
    (an early `break`, an error of the consumer) and `cancelled` were cut while they waited.
    """

    def __init__(
        self, *answers: Scripted, name: str = "scripted", model: str = "", timeouts: Timeouts = NO_TIMEOUTS
    ) -> None:
        if not answers:
            raise ValueError("ScriptedEndpoint needs at least one answer")
        self._answers = answers
        self._timeouts = timeouts
        self.name = name
        self.model = model
        self.calls: list[Call] = []
        self.opened = 0
        self.closed = 0
        self.abandoned = 0
        self.cancelled = 0

    @property
    def active(self) -> int:
        """Streams that are open now, those still entering included."""
        return self.opened - self.closed

    @asynccontextmanager
    async def __call__(self, call: Call) -> AsyncGenerator[Stream]:
        """Open the next answer's stream."""
        script = self._next(call)
        attempts: list[Attempt] = []

        def source(attempt: Attempt) -> Batches:
            attempts.append(attempt)
            return _play(call, script)

        self.opened += 1
        try:
            async with open_events(
                call,
                endpoint=self.name,
                model=call.request.model or self.model,
                source=source,
                timeouts=self._timeouts,
            ) as stream:
                yield stream
        finally:
            self.closed += 1
            for attempt in attempts:
                self._count(attempt)

    def _next(self, call: Call) -> Script:
        answer = self._answers[min(len(self.calls), len(self._answers) - 1)]
        self.calls.append(call)
        if callable(answer):
            answer = answer(call)
        if isinstance(answer, Script):
            return answer
        if isinstance(answer, BaseException):
            return Script(fail_after=0, error=answer)
        return Script(answer, finish="stop" if isinstance(answer, str) else None)

    def _count(self, attempt: Attempt) -> None:
        last = attempt.log[-1][1]
        how = last.detail if isinstance(last, Note) and last.what == "ended" else None
        self.abandoned += how == "abandoned"
        self.cancelled += how == "cancelled"

    def __repr__(self) -> str:
        return f"ScriptedEndpoint({self.name!r}, calls={len(self.calls)}, active={self.active})"


async def _play(call: Call, script: Script) -> Batches:
    clock, sent = call.clock, 0
    for event in script.events():
        await _disturb(call, script, sent)
        delay = script.tpot if sent else script.ttft
        if delay > 0:
            await clock.sleep(delay)
        yield [event]
        sent += 1
    await _disturb(call, script, sent)
    if (error := script.failure(-1)) is not None:
        raise error


async def _disturb(call: Call, script: Script, sent: int) -> None:
    """Stall or fail if the script says so after `sent` events."""
    if sent == script.stall_after:
        await call.clock.sleep(math.inf)
    if (error := script.failure(sent)) is not None:
        if sent == 0 and script.ttft > 0:
            await call.clock.sleep(script.ttft)
        raise error
