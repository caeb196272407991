"""An endpoint is down: how do I stop asking it, and find out when it is well again?

`Circuit` is the rule, a state machine that is told the time; `Group` keeps a group of circuits from all
opening at once; `Breaker` is the layer around an endpoint.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from guardrails.call import Call
from guardrails.errors import EndpointError, Interrupted, Transient
from guardrails.flow.cold import is_cold
from guardrails.flow.recent import RecentCount
from guardrails.handler import Handler, Stream, opening

log = logging.getLogger("guardrails")

State = Literal["closed", "open", "half_open"]
HEALTHY = frozenset({"rate_limited", "circuit_open", "untranslatable"})
"""Kinds that say nothing about the endpoint's health: a 429 is a working server's word."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a circuit opens and closes. Times in seconds.

    It opens after `consecutive` failures in a row, or when of at least `minimum` calls in `window` a share of
    `ratio` failed. It stays open for `ejection`, doubled with each time it opens again soon after, up to
    `longest`; then it lets `probes` calls through at a time, and closes after as many successes. `hung` is
    how long a first token may be awaited before giving up (a deadline, a cancellation) counts as a failure.
    """

    consecutive: int = 5
    ratio: float = 0.5
    minimum: int = 20
    window: float = 30.0
    ejection: float = 5.0
    longest: float = 300.0
    probes: int = 1
    hung: float = 10.0

    def __post_init__(self) -> None:
        counts = self.consecutive >= 1 and self.minimum >= 1 and self.probes >= 1
        if not (counts and 0 < self.ratio <= 1 and 0 < self.ejection <= self.longest and self.window > 0):
            raise ValueError(f"no circuit can keep these rules: {self}")


class Pass(NamedTuple):
    """A call that was let through, in which of the circuit's states (they are numbered)."""

    era: int
    probe: bool


class Group:
    """How many endpoints of a group may be taken out at once?

    At most `share` of them, and always one: a group of one has a breaker, too, and a group of three in which
    all look sick has rather a sick network than no server.
    """

    __slots__ = ("_members", "share")

    def __init__(self, share: float = 0.5) -> None:
        self.share = share
        self._members: list[Circuit] = []

    def join(self, circuit: Circuit) -> None:
        """Add a member."""
        self._members.append(circuit)

    def may_open(self) -> bool:
        """Whether one more member may be taken out."""
        out = sum(member.state != "closed" for member in self._members)
        return out < max(1, int(self.share * len(self._members)))


class Circuit:
    """Is this endpoint well enough to be asked?

    Closed: every call passes. Open: none does. Half-open: a few probes do, and decide. Every call that passed
    is answered for by exactly one of `success`, `failure` and `ignored`; what belongs to an earlier state
    counts no more.
    """

    def __init__(self, rules: Rules = Rules(), group: Group | None = None) -> None:
        self.rules = rules
        self.state: State = "closed"
        self.ejections = 0
        self.cause = ""
        """The kind of the last failure that somebody named: why it is open."""
        self._group = group or Group()
        self._group.join(self)
        self._era = 0
        self._until = 0.0
        self._since = 0.0
        self._probing = 0
        self._well = 0
        self._row = 0
        self._good = RecentCount(rules.window)
        self._bad = RecentCount(rules.window)

    def enter(self, now: float) -> Pass | float:
        """A pass for one call, or the seconds after which to ask again."""
        if self.state == "open":
            if now < self._until:
                return self._until - now
            self._move("half_open", now)
        if self.state == "half_open":
            if self._probing >= self.rules.probes:
                return self.rules.ejection
            self._probing += 1
            return Pass(self._era, probe=True)
        return Pass(self._era, probe=False)

    def success(self, given: Pass, now: float) -> None:
        """The endpoint answered."""
        if not self._current(given):
            return
        if given.probe:
            self._well += 1
            if self._well >= self.rules.probes:
                self._move("closed", now)
            return
        self._row = 0
        self._good.add(now)

    def failure(self, given: Pass, now: float) -> None:
        """The endpoint failed."""
        if not self._current(given):
            return
        if given.probe:
            self._eject(now)
            return
        self._row += 1
        self._bad.add(now)
        bad = self._bad.total(now)
        volume = bad + self._good.total(now)
        rules = self.rules
        sick = volume >= rules.minimum and bad >= rules.ratio * volume
        if (self._row >= rules.consecutive or sick) and self._group.may_open():
            self._eject(now)

    def ignored(self, given: Pass) -> None:
        """The call says nothing about the endpoint."""
        self._current(given)

    def rest(self) -> Pass:
        """A pass for what is left of a probe's stream, after the verdict at its first token."""
        return Pass(self._era, probe=False)

    def _current(self, given: Pass) -> bool:
        if given.era != self._era:
            return False
        self._probing -= given.probe
        return True

    def _eject(self, now: float) -> None:
        rules = self.rules
        if self.state == "closed":
            # One earlier ejection is forgiven for each `longest` that the endpoint has been well.
            self.ejections = max(0, self.ejections - int((now - self._since) / rules.longest))
        length = min(rules.longest, rules.ejection * 2.0 ** min(self.ejections, 60))
        self.ejections += 1
        self._until = now + length
        self._move("open", now)

    def _move(self, state: State, now: float) -> None:
        self.state = state
        self._era += 1
        self._since = now
        self._probing = self._well = self._row = 0
        self._good.clear()
        self._bad.clear()


Told = Callable[[str, State], None]


@dataclass(frozen=True, slots=True)
class Breaker:
    """An endpoint is down: how do I stop asking it, and find out when it is well again?

    While the circuit is open, calls fail at once with `Transient` (kind `circuit_open`, with `retry_after`),
    which `Retry` does not wait for and `FirstOf` falls back from for free. Failures are connections that
    break, timeouts, 5xx and broken streams; a 429, a refusal, a decision of ours and an early `break` are
    none. The verdict falls when the stream is closed, a probe's already at its first token. A first token
    that is late in a call that `ColdStart` marked under the same name is excused.

    One breaker per endpoint, inside of retries. `name` is the endpoint's in errors and records. `circuit` may
    belong to a `Group`. `told` hears of every change of state, for metrics; the log hears of it anyway.
    """

    name: str
    circuit: Circuit = field(default_factory=Circuit, repr=False, compare=False)
    told: Told | None = field(default=None, repr=False, compare=False)

    @property
    def state(self) -> State:
        """`closed`, `open` or `half_open`."""
        return self.circuit.state

    @opening
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner` if the circuit lets it. Raises `Transient` (`circuit_open`) if not."""
        clock, circuit = call.clock, self.circuit
        started = clock.now()
        before = circuit.state
        given = circuit.enter(started)
        self._tell(before)
        if not isinstance(given, Pass):
            call.journal.note(started, "flow", f"circuit_open:{self.name}")
            raise Transient(
                f"{self.name} is not asked: it failed too often{_because(circuit.cause)}",
                kind="circuit_open",
                hint=f"it is tried again in {given:.1f} s",
                endpoint=self.name,
                retry_after=given,
            )
        entered = False
        try:
            async with inner(call) as stream:
                entered = True
                if given.probe:
                    self._judge(circuit.success, given, clock.now())
                    given = circuit.rest()
                yield stream
        except BaseException as error:
            now = clock.now()
            waited = now - started
            excused = not entered and _is_late(error, waited, circuit.rules.hung) and is_cold(call, self.name)
            if _failed(error, entered, waited, circuit.rules.hung) and not excused:
                circuit.cause = error.short if isinstance(error, EndpointError) else "no first token in time"
                self._judge(circuit.failure, given, now)
            else:
                circuit.ignored(given)
            raise
        self._judge(circuit.success, given, clock.now())

    def _judge(self, verdict: Callable[[Pass, float], None], given: Pass, now: float) -> None:
        before = self.circuit.state
        verdict(given, now)
        self._tell(before)

    def _tell(self, before: State) -> None:
        now = self.circuit.state
        if now == before:
            return
        if now == "open":
            log.warning("circuit of %s: open%s", self.name, _because(self.circuit.cause))
        else:
            log.info("circuit of %s: %s", self.name, now)
        if self.told is not None:
            self.told(self.name, now)


def _because(cause: str) -> str:
    return f" (at last: {cause})" if cause else ""


def _failed(error: BaseException, entered: bool, waited: float, hung: float) -> bool:
    """Whether this is the endpoint's fault."""
    if isinstance(error, EndpointError):
        sick = isinstance(error, Interrupted if entered else Interrupted | Transient)
        return sick and error.kind not in HEALTHY
    return not entered and _is_late(error, waited, hung)


def _is_late(error: BaseException, waited: float, hung: float) -> bool:
    """Whether all that is wrong is that the first token took too long."""
    if isinstance(error, EndpointError):
        return error.kind == "timeout_first_event"
    return waited >= hung
