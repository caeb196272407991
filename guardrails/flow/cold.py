"""Was this call slow because the endpoint had gone to sleep?

Servers that scale to zero, evict weights or drop connections answer the first call after a pause much later
than the next. `ColdStart` marks such calls (`cold` in the record, and `is_cold` for limiters and breakers,
which should not learn from them); `KeepWarm` sends a small request now and then so that there are none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Self

from guardrails.call import Call, Note, Request
from guardrails.clock import SYSTEM, Clock
from guardrails.errors import ConfigError, GuardrailsError
from guardrails.handler import Handler, Layer, Opening, Stream, collect, opening, stack

log = logging.getLogger("guardrails")


def is_cold(call: Call, endpoint: str = "") -> bool:
    """Whether the call was marked as cold: at this endpoint, or at any."""
    for _, entry in call.journal.log:
        if isinstance(entry, Note) and entry.what == "cold" and (not endpoint or entry.detail == endpoint):
            return True
    return False


@dataclass(slots=True)
class ColdStart:
    """Mark calls that find the endpoint without traffic for more than `after` seconds, or never used.

    Traffic is an open stream, its first event and its end. Those that arrive while the first one still waits
    for its first event are cold too: they wait for the same start. A call that fails warms nothing.
    """

    endpoint: str
    after: float = 300.0
    _open: int = field(default=0, repr=False)
    _last: float | None = field(default=None, repr=False)

    @opening
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Mark the call, open the inner stream, and note the traffic."""
        if self.idle(call.clock.now()) > self.after:
            call.journal.note(call.clock.now(), "cold", self.endpoint)
        async with inner(call) as stream:
            self._open += 1
            self._last = call.clock.now()
            try:
                yield stream
            finally:
                self._open -= 1
                self._last = call.clock.now()

    def idle(self, now: float) -> float:
        """Seconds without traffic; infinite before the first."""
        if self._open:
            return 0.0
        return float("inf") if self._last is None else now - self._last


class KeepWarm:
    """Send `request` to `handler` every `every` seconds, at bulk priority.

    A failure is never raised; the first of a row is logged.

    With `traffic` (the endpoint's `ColdStart`) only when there was none of its own for that long. Use it as
    `async with KeepWarm(…):`, or `start()` and `await aclose()`. Each probe is a call like any other: it
    costs what it costs, and carries the label `probe: keep_warm`.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        every: float,
        request: Request,
        traffic: ColdStart | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        if every <= 0:
            raise ConfigError(f"keep_warm: every is {every}", hint="give seconds above 0")
        self._handler = handler
        self._every = every
        self._request = request
        self._traffic = traffic
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self.sent = 0
        self.failed = 0

    def __repr__(self) -> str:
        return f"KeepWarm(every={self._every:g}, sent={self.sent}, failed={self.failed})"

    def start(self) -> None:
        """Begin, in the running event loop. Starting twice does nothing."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._run())

    async def aclose(self) -> None:
        """Stop; a probe that is under way is cancelled and its stream closed."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self) -> None:
        well = True
        wait = self._every
        while True:
            await self._clock.sleep(wait)
            idle = self._traffic.idle(self._clock.now()) if self._traffic is not None else self._every
            if idle < self._every:
                wait = self._every - idle
                continue
            wait = self._every
            failure = await self._probe()
            if failure and well:
                log.warning("keep-warm probes fail: %s", failure)
            well = not failure

    async def _probe(self) -> str:
        """Send one; the kind of its failure, empty when there was none."""
        self.sent += 1
        labels = {"probe": "keep_warm"}
        try:
            await collect(self._handler, Call(self._request, self._clock, priority="bulk", labels=labels))
        except Exception as error:
            self.failed += 1
            return error.kind if isinstance(error, GuardrailsError) else type(error).__name__
        return ""


class Warmth:
    """How does an endpoint stay warm without anybody having to start something?

    As a layer: the first call starts a `KeepWarm` for what is inside, and `aclose()` (of the `Llm`) ends it.
    `traffic` is a `ColdStart` among what is inside, if there is one. Probes go through `outer` first: a
    `Record` that leaves records of them, say.
    """

    def __init__(
        self, every: float, request: Request, traffic: ColdStart | None = None, outer: Sequence[Layer] = ()
    ) -> None:
        self._every = every
        self._request = request
        self._traffic = traffic or ColdStart("", after=float("inf"))
        self._watches = traffic is None
        self._outer = outer
        self._keeper: KeepWarm | None = None

    def __repr__(self) -> str:
        return f"Warmth({self._keeper or self._every!r})"

    def __call__(self, call: Call, inner: Handler, /) -> Opening:
        """Open `inner`."""
        if self._keeper is None:
            self._keeper = KeepWarm(
                stack(inner, *self._outer),
                every=self._every,
                request=self._request,
                traffic=self._traffic,
                clock=call.clock,
            )
        self._keeper.start()
        return self._traffic(call, inner) if self._watches else inner(call)

    async def aclose(self) -> None:
        """Stop the probes."""
        if self._keeper is not None:
            await self._keeper.aclose()
