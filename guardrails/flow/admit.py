"""May this call start now, should it wait, or is it better told to come back later?

Without an answer to that, an overloaded endpoint gives every caller a late one. `Admit` holds a slot for each
call from before its opening until its stream is closed; how many slots there are, a `Limit` finds out
(`guardrails.flow.limits`), and who gets the next one, a `Queue` decides (`guardrails.flow.queue`). Whoever
would be late anyway is turned away at once with `Shed`, which says why and when to come back.

What is learned from is read in the call's journal, where the endpoint writes down the time of every event
anyway: watching the pace of a stream costs nothing per event.

Not covered: several processes in front of one endpoint. Each finds its own share of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

from guardrails.call import (
    Attempt,
    Call,
    Delta,
    Finish,
    Note,
    Part,
    Request,
    Text,
    ToolResult,
    ToolUse,
    Usage,
)
from guardrails.errors import ConfigError, DeadlineExceeded, Shed, Transient
from guardrails.flow.limiter import Limiter, Progress, Slot
from guardrails.flow.limits import Aimd, Fixed, Gradient2, Limit, Outcome, Slo, TwoSignal, Unlimited
from guardrails.flow.queue import PRIORITIES, Rules, Waiting
from guardrails.handler import Handler, Stream, opening

USUAL = 0.1  # weight of a new value in a running mean


class _Habits:
    """What the finished calls say about those to come: tokens per event, and the share of prompts cached."""

    __slots__ = ("_cached", "per_event")

    def __init__(self) -> None:
        self.per_event = 1.0
        self._cached = {False: 0.0, True: 0.0}

    def prompt(self, request: Request) -> int:
        """About how many prompt tokens the endpoint has to read, its cache left out as far as known."""
        return int(prompt_size(request) * (1 - self._cached[_goes_on(request)]))

    def learn(self, request: Request, attempt: Attempt) -> None:
        """Take in what one complete answer reported."""
        usage = _usage(attempt)
        if usage is None:
            return
        hidden = usage.reasoning_tokens
        streamed = usage.output_tokens - (hidden if hidden and not _reasoned(attempt) else 0)
        if streamed > 0:
            ratio = min(64.0, max(1.0, streamed / len(attempt.log)))
            self.per_event += USUAL * (ratio - self.per_event)
        if usage.input_tokens > 0:
            share = min(1.0, usage.cached_tokens / usage.input_tokens)
            goes_on = _goes_on(request)
            self._cached[goes_on] += USUAL * (share - self._cached[goes_on])


@dataclass(frozen=True, slots=True)
class Admit:
    """Hold a slot from before the opening until the stream is closed; `Shed` when there is none in time.

    One per endpoint. Put it above the filters, so that a call is shed before CPU goes into them, and below
    what tries again. A free slot is refused to nobody; only those who would have to wait are shed.
    The journal gets `queued` (how many wait), `admitted` (in flight, limit), `shed` (why) and `cold`, and its
    `flow` says `shed:NAME:WHY`.
    """

    limiter: Limiter = field(default_factory=Limiter)
    habits: _Habits = field(default_factory=_Habits, repr=False)
    name: str = "admit"

    @classmethod
    def of(
        cls,
        limit: str | int | Limit = "two_signal",
        *,
        slo: Slo | None = None,
        length: int = 1000,
        patience: Mapping[str, float] | None = None,
        weights: Mapping[str, float] | None = None,
        idle: float = 60.0,
        name: str = "admit",
    ) -> Admit:
        """From plain values. `limit`: `two_signal`, `aimd`, `gradient2`, `none`, or a number.

        `patience` (seconds per lane) is the TTFT objective for `interactive`, unless said, 5 times it for
        `standard`, and 60 times for `bulk`. Raises `ConfigError`.
        """
        slo = slo or Slo()
        usual = dict(zip(PRIORITIES, (slo.ttft, 5 * slo.ttft, 60 * slo.ttft), strict=True))
        if unknown := sorted(set(patience or {}) - set(PRIORITIES)):
            raise ConfigError(
                f"unknown priority {', '.join(unknown)}", hint=f"use some of: {', '.join(PRIORITIES)}"
            )
        for priority in PRIORITIES:
            usual[priority] = (patience or {}).get(priority, usual[priority])
        try:
            rules = Rules(length=length, patience=usual, weights=dict(weights or {}))
            return cls(Limiter(_named(limit, slo), rules, slo=slo, idle=idle), name=name)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def saturated(self) -> bool:
        """Whether a new call would have to wait: for a `Hedge` and a `Shadow`, whose load goes first."""
        return self.limiter.saturated

    @opening
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Wait for a slot, open the inner stream, and keep the slot until it is closed."""
        clock, limiter, attempts = call.clock, self.limiter, call.journal.attempts
        tokens_in = self.habits.prompt(call.request)
        slot = limiter.enter(call.priority, clock) or await self._wait(call, tokens_in)
        if slot.cold:
            call.journal.note(slot.sent, "cold")
        call.journal.note(slot.sent, "admitted", (limiter.in_flight, round(limiter.limit.limit, 1)))
        before, opened = len(attempts), False
        outcome: Outcome = "success"
        try:
            async with inner(call) as stream:
                opened = True
                seen = attempts[-1] if len(attempts) > before else None
                now = clock.now()
                ttft, progress = _ttft(seen, now - slot.sent), self._progress(seen, now)
                limiter.began(slot, clock, ttft=ttft, tokens_in=tokens_in, progress=progress)
                yield stream
        except BaseException as error:
            waited = not slot.cold and clock.now() - slot.sent > limiter.slo.ttft
            # After the opening an error may be the consumer's own: what the endpoint did is in the journal.
            outcome = "ignored" if opened else _outcome(error, waited=waited)
            raise
        finally:
            mine = attempts[before:]
            try:
                if any(map(_busy, mine)):
                    outcome = "dropped"
            finally:  # whatever a handler of somebody else's wrote into the journal
                limiter.release(slot, clock, outcome)
            if mine:
                self.habits.learn(call.request, mine[-1])

    async def _wait(self, call: Call, tokens_in: int) -> Slot:
        """A slot that was waited for. Raises `Shed`."""
        clock, journal = call.clock, call.journal
        waiting = Waiting(
            call.arrived, call.priority, call.tenant, 1.0 + tokens_in / 2000, deadline=call.deadline
        )
        settled: asyncio.Future[Shed | None] = asyncio.get_running_loop().create_future()
        slot = self.limiter.ask(waiting, _settler(settled), clock)
        if not settled.done():
            journal.note(clock.now(), "queued", self.limiter.queued)
        try:
            shed = await settled
        except BaseException:  # cancelled, or closed while it waits
            self.limiter.withdraw(slot, clock)
            raise
        if shed is not None:
            journal.note(clock.now(), "shed", shed.kind)
            journal.note(clock.now(), "flow", f"shed:{self.name}:{shed.kind}")
            shed.add(f"the gate is {self.name}")
            raise shed
        return slot

    def _progress(self, attempt: Attempt | None, began: float) -> Progress | None:
        if attempt is None:
            return None
        log, per_event = attempt.log, self.habits.per_event
        return lambda: (int(len(log) * per_event), log[-1][0] if log else began)


def _settler(settled: asyncio.Future[Shed | None]) -> Callable[[Shed | None], None]:
    return lambda shed: None if settled.done() else settled.set_result(shed)


def _named(limit: str | int | Limit, slo: Slo) -> Limit:
    if isinstance(limit, int):
        return Fixed(limit)
    if not isinstance(limit, str):
        return limit
    if limit not in _LIMITS:
        raise ConfigError(
            f"unknown limit {limit!r}", hint=f"use a number, or one of: {', '.join(sorted(_LIMITS))}"
        )
    return _LIMITS[limit](slo)


_LIMITS: Mapping[str, Callable[[Slo], Limit]] = {
    "two_signal": TwoSignal,
    "aimd": Aimd,
    "gradient2": lambda _: Gradient2(),
    "none": lambda _: Unlimited(),
}


# --- reading journals and errors ---------------------------------------------------------------------------

_BUSY_STATUS = frozenset({429, 503, 529})
_BUSY_KINDS = frozenset({"rate_limited", "overloaded", "unavailable", "timeout_first_event"})


def _outcome(error: BaseException, *, waited: bool) -> Outcome:
    """What a failed call says about load. `waited`: it ended after a long wait for a first token."""
    if isinstance(error, Transient) and (error.status in _BUSY_STATUS or error.kind in _BUSY_KINDS):
        return "dropped"
    if isinstance(error, asyncio.CancelledError | GeneratorExit | DeadlineExceeded) and waited:
        return "dropped"
    return "ignored"


def _busy(attempt: Attempt) -> bool:
    """Whether the endpoint turned this attempt away for load, before or after its first token."""
    if not attempt.log:  # opened by a handler that failed, or was cancelled, before it wrote anything
        return False
    last = attempt.log[-1][1]
    return isinstance(last, Note) and last.what == "ended" and last.detail in _BUSY_KINDS


def _ttft(attempt: Attempt | None, otherwise: float) -> float:
    """Sending to first output as the endpoint logged it: filters' time above it does not count."""
    if attempt is None:
        return otherwise
    for at, entry in attempt.log:
        if isinstance(entry, Finish) or (isinstance(entry, Delta) and (entry.text or entry.tool)):
            return at - attempt.log[0][0]
    return otherwise


def _usage(attempt: Attempt) -> Usage | None:
    """What a complete answer's end reported."""
    for _, entry in attempt.log[:-5:-1]:
        if isinstance(entry, Finish) and entry.usage is not None:
            return entry.usage
    return None


def _reasoned(attempt: Attempt) -> bool:
    """Whether reasoning was streamed: it comes before anything else."""
    for _, entry in attempt.log:
        if isinstance(entry, Delta) and entry.text:
            return entry.channel == "reasoning"
    return False


def _goes_on(request: Request) -> bool:
    """Whether the request continues a conversation: what came before is likely to be cached."""
    return "assistant" in [message.role for message in request.messages]


def prompt_size(request: Request) -> int:
    """The prompt in tokens, at four characters each: what an exact count costs is more than it would tell."""
    size = 0
    for message in request.messages:
        for part in message.parts:
            size += len(part.text) if type(part) is Text else _length(part)  # most are text
    return size // 4


def _length(part: Part) -> int:
    match part:
        case Text():
            return len(part.text)
        case ToolUse():
            return len(part.arguments)
        case ToolResult():
            return sum(_length(inner) for inner in part.parts)
        case _:
            return 0
