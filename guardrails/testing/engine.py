"""How does an inference server slow down under load?

Continuous batching: the server works in steps; in each step every running sequence gets one token, and new
prompts are read (prefilled) in chunks beside them. A step takes longer the more there is to do, and sequences
that find the batch full wait. From these three rules come the curves that one sees in production: TPOT grows
with the batch, TTFT with the queue, and long prompts of some slow down the tokens of all.

`plan` is the pure step; `Engine` holds who waits and who runs; `Batcher` plays the steps on a clock with one
timer per step, however many streams there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from guardrails.clock import Clock, Timer


@dataclass(frozen=True, slots=True)
class StepModel:
    """Milliseconds of a step: `base_ms + per_sequence_ms · decoding + per_prefill_token_ms · prefilled`.

    The defaults were fitted to a published curve of a 70B model (58.6 tokens/s for one user, 25.6 each for
    128). `max_batch` sequences run at once, `max_queue` wait, and a step prefills at most `prefill_chunk`
    tokens, less one for each decoding sequence.
    """

    base_ms: float = 17.0
    per_sequence_ms: float = 0.17
    per_prefill_token_ms: float = 0.07
    max_batch: int = 256
    max_queue: int = 512
    prefill_chunk: int = 2048

    def __post_init__(self) -> None:
        if min(self.base_ms, self.per_sequence_ms, self.per_prefill_token_ms, self.max_queue) < 0:
            raise ValueError("the engine's times and its queue cannot be negative")
        if min(self.max_batch, self.prefill_chunk) < 1:
            raise ValueError("the engine's max_batch and prefill_chunk must be 1 or more")


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step does: seconds it takes, and prompt tokens read per running sequence."""

    seconds: float
    prefill: tuple[int, ...]


def plan(model: StepModel, unread: Sequence[int]) -> Plan:
    """The next step, given the unread prompt tokens of each running sequence (0: it is decoding)."""
    decoding = sum(left == 0 for left in unread)
    budget = max(1, model.prefill_chunk - decoding)
    prefill = []
    for left in unread:
        take = min(left, budget)
        budget -= take
        prefill.append(take)
    ms = model.base_ms + model.per_sequence_ms * decoding + model.per_prefill_token_ms * sum(prefill)
    return Plan(ms / 1000.0, tuple(prefill))


class Ticket:
    """One sequence in the engine: `unread` prompt tokens, `left` tokens to write."""

    __slots__ = ("cancelled", "left", "on_token", "unread")

    def __init__(self, unread: int, left: int, on_token: Callable[[], None]) -> None:
        self.unread = unread
        self.left = left
        self.on_token = on_token
        self.cancelled = False

    def cancel(self) -> None:
        """Leave queue or batch before the next step."""
        self.cancelled = True


class Engine:
    """Who waits and who runs. No time of its own: `step` says how long the step takes."""

    __slots__ = ("model", "running", "waiting")

    def __init__(self, model: StepModel) -> None:
        self.model = model
        self.waiting: deque[Ticket] = deque()
        self.running: list[Ticket] = []

    def submit(self, prompt: int, output: int, on_token: Callable[[], None]) -> Ticket | None:
        """Queue a sequence of so many tokens; None when the queue is full."""
        # Between two steps a newcomer waits even if the batch has room for it: that is no queue.
        room = self.model.max_queue + self.model.max_batch - len(self.running)
        if len(self.waiting) >= room:
            self.waiting = deque(t for t in self.waiting if not t.cancelled)
            if len(self.waiting) >= room:
                return None
        ticket = Ticket(max(1, prompt), max(1, output), on_token)
        self.waiting.append(ticket)
        return ticket

    def step(self) -> tuple[float, list[Ticket]] | None:
        """Do one step: its seconds and those who get a token at its end; None when there is no work."""
        self._sweep()
        while self.waiting and len(self.running) < self.model.max_batch:
            ticket = self.waiting.popleft()
            if not ticket.cancelled:
                self.running.append(ticket)
        if not self.running:
            return None
        planned = plan(self.model, [t.unread for t in self.running])
        given = []
        for ticket, read in zip(self.running, planned.prefill, strict=True):
            ticket.unread -= read
            if ticket.unread == 0:  # reading the prompt's last token writes the answer's first
                ticket.left -= 1
                given.append(ticket)
        return planned.seconds, given

    def _sweep(self) -> None:
        self.running = [t for t in self.running if t.left > 0 and not t.cancelled]


class Batcher:
    """Plays an engine's steps on a clock: one timer, set only while there is work."""

    __slots__ = ("_clock", "_due", "_given", "_timer", "engine")

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self._clock = clock
        self._timer: Timer | None = None
        self._due = 0.0
        self._given: list[Ticket] = []

    def submit(self, prompt: int, output: int, on_token: Callable[[], None]) -> Ticket | None:
        """Queue a sequence; `on_token` is called `output` times. None when the queue is full."""
        ticket = self.engine.submit(prompt, output, on_token)
        if self._timer is None and ticket is not None:
            self._due = self._clock.now()
            self._next()
        return ticket

    def close(self) -> None:
        """Stop; nobody gets a token any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        step = self.engine.step()
        if step is None:
            self._timer = None
            return
        seconds, self._given = step
        # From due time to due time: a late timer does not stretch the steps after it.
        self._due += seconds
        self._timer = self._clock.call_later(self._due - self._clock.now(), self._deliver)

    def _deliver(self) -> None:
        for ticket in self._given:
            if not ticket.cancelled:
                ticket.on_token()
        self._next()
