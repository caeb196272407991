"""How would another model answer my live traffic – without anybody noticing?"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from guardrails.call import Call, Response
from guardrails.errors import GuardrailsError
from guardrails.flow.entering import over
from guardrails.flow.hedge import never
from guardrails.handler import Handler, Stream, close_all, collect, opening, stack, warm_all
from guardrails.record import Meter
from guardrails.recorder import Record, Sink

log = logging.getLogger("guardrails")


@dataclass(frozen=True, slots=True)
class Shadow:
    """How would another model answer my live traffic – without anybody noticing?

    A copy of a `share` of the calls goes to `candidate` once the real call has its first token. The copy has
    a record of its own (label `shadow_of`: the real call's id) that goes to `sinks`; its whole answer goes to
    `answers`, if given, and nowhere else. Its failures are in its record alone.

    Its load goes first: it runs at priority `bulk`, at most `limit` copies at a time, none while
    `saturated()`; what is too much is left out, noted in the real call's record (`no_shadow`). The copy keeps
    no deadline but `seconds`. It holds the prompt until it ends. `aclose()` cancels what still runs.
    """

    candidate: Handler
    share: float = 1.0
    limit: int = 4
    seconds: float = 120.0
    sinks: tuple[Sink, ...] = ()
    answers: Callable[[Call, Response], None] | None = field(default=None, repr=False)
    saturated: Callable[[], bool] = never
    meter: Meter | None = field(default=None, repr=False)
    rng: random.Random = field(default_factory=random.Random, repr=False, compare=False)
    _running: set[asyncio.Task[None]] = field(default_factory=set, init=False, repr=False, compare=False)

    @opening
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner`, and start the copy."""
        async with inner(call) as stream:
            if self.rng.random() < self.share:
                self._start(call)
            yield stream

    @property
    def running(self) -> int:
        """How many copies are under way."""
        return len(self._running)

    def _start(self, call: Call) -> None:
        now = call.clock.now()
        if len(self._running) >= self.limit or self.saturated():
            call.journal.note(now, "flow", "no_shadow:full")
            return
        copy = Call(
            call.request,
            clock=call.clock,
            arrived=now,
            deadline=now + self.seconds,
            priority="bulk",
            tenant=call.tenant,
            conversation=call.conversation,
            labels={**call.labels, "shadow_of": call.id},
        )
        task = asyncio.ensure_future(self._run(copy))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, copy: Call) -> None:
        try:
            response = await collect(stack(self.candidate, Record(self.sinks, self.meter)), copy)
            if self.answers is not None:
                self.answers(copy, response)
        except GuardrailsError:
            pass  # it is in the record
        except Exception as error:
            # Without the error's own text, which may quote the prompt.
            log.warning("a shadow call broke with %s; the real call is not affected", type(error).__name__)

    def warm(self) -> None:
        """Load now what the first copy would wait for."""
        warm_all(self.candidate)

    async def aclose(self) -> None:
        """Cancel the copies that still run, and close the candidate."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await over(*running)
        await close_all(self.candidate)
