"""One replica found out that an endpoint is down: why should each of the others, too?

`SharedBreaker` goes around a replica's own `Breaker`. When that one opens, it is written in the store, and no
replica asks the endpoint until the time is over. Then one call of all replicas is let through as a probe: its
first token closes the circuit for all, its failure keeps it open for twice as long.

A store that is away opens and closes nothing: each replica's own breaker goes on alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from guardrails.call import Call
from guardrails.errors import Interrupted, Shed, Transient
from guardrails.flow.breaker import HEALTHY, Breaker
from guardrails.flow.store import Cells, Decision, Moment, Store, see_through
from guardrails.handler import Handler, Stream, opening

_TIME = "local t = redis.call('TIME') local now = tonumber(t[1]) + tonumber(t[2]) / 1e6\n"


@dataclass(frozen=True, slots=True)
class Entered:
    """`wait`: seconds for which the endpoint is not asked; `probe`: this call decides for all."""

    wait: float = 0.0
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Enter:
    """May this call go? When the time is over, one call in `lease` seconds may, as a probe."""

    key: str
    lease: float

    script: ClassVar[str] = (
        _TIME
        + """
        local held = redis.call('HMGET', KEYS[1], 'until', 'probing')
        if not held[1] then return {'0', 0} end
        local until_, probing = tonumber(held[1]), tonumber(held[2])
        local wait = math.max(until_, probing) - now
        if wait > 0 then return {string.format('%.6f', wait), 0} end
        redis.call('HSET', KEYS[1], 'probing', string.format('%.6f', now + tonumber(ARGV[1])))
        return {'0', 1}
        """
    )

    @property
    def keys(self) -> Sequence[str]:
        """The circuit."""
        return (self.key,)

    @property
    def args(self) -> Sequence[str | int | float]:
        """The lease."""
        return (self.lease,)

    def here(self, cells: Cells, at: Moment) -> Entered:
        """In this process."""
        held = cells.get(self.key)
        if held is None:
            return Entered()
        until, probing, opened, forget = held
        if forget <= at.now:
            return Entered()
        wait = max(until, probing) - at.now
        if wait > 0:
            return Entered(wait)
        cells.put(self.key, (until, at.now + self.lease, opened, forget), forget, at.now)
        return Entered(probe=True)

    def read(self, reply: Any) -> Entered:
        """From the script's pair."""
        return Entered(float(reply[0]), bool(int(reply[1])))

    def share(self, replicas: int) -> Enter:
        """Each replica for itself."""
        return self


@dataclass(frozen=True, slots=True)
class Trip:
    """Open the circuit: for `ejection` seconds, doubled each time it opens again, up to `longest`.

    An open one stays as it is, so many calls that fail together open it once. It is forgotten `longest`
    seconds after its time is over.
    """

    key: str
    ejection: float
    longest: float

    script: ClassVar[str] = (
        _TIME
        + """
        local held = redis.call('HMGET', KEYS[1], 'until', 'opened')
        local until_, opened = tonumber(held[1] or '0'), tonumber(held[2] or '0')
        if now < until_ then return 0 end
        local longest = tonumber(ARGV[2])
        local long = math.min(longest, tonumber(ARGV[1]) * 2 ^ math.min(opened, 60))
        redis.call('HSET', KEYS[1], 'until', string.format('%.6f', now + long), 'probing', '0',
          'opened', opened + 1)
        redis.call('PEXPIRE', KEYS[1], math.ceil((long + longest) * 1000))
        return 1
        """
    )

    @property
    def keys(self) -> Sequence[str]:
        """The circuit."""
        return (self.key,)

    @property
    def args(self) -> Sequence[str | int | float]:
        """Ejection and the longest one."""
        return (self.ejection, self.longest)

    def here(self, cells: Cells, at: Moment) -> None:
        """In this process."""
        until, _, opened, forget = cells.get(self.key) or (0.0, 0.0, 0, 0.0)
        if forget <= at.now:
            until, opened = 0.0, 0
        if at.now < until:
            return
        long = min(self.longest, self.ejection * 2.0 ** min(opened, 60))
        forget = at.now + long + self.longest
        cells.put(self.key, (at.now + long, 0.0, opened + 1, forget), forget, at.now)

    def read(self, reply: Any) -> None:
        """Nothing to tell."""

    def share(self, replicas: int) -> Trip:
        """Each replica for itself."""
        return self


@dataclass(frozen=True, slots=True)
class Mend:
    """The endpoint is well: forget the circuit."""

    key: str

    script: ClassVar[str] = "return redis.call('DEL', KEYS[1])"

    @property
    def keys(self) -> Sequence[str]:
        """The circuit."""
        return (self.key,)

    @property
    def args(self) -> Sequence[str | int | float]:
        """None."""
        return ()

    def here(self, cells: Cells, at: Moment) -> None:
        """In this process."""
        cells.put(self.key, (0.0, 0.0, 0, 0.0), at.now, at.now)

    def read(self, reply: Any) -> None:
        """Nothing to tell."""

    def share(self, replicas: int) -> Mend:
        """Each replica for itself."""
        return self


@dataclass(frozen=True, slots=True)
class SharedBreaker:
    """Share what `breaker` finds out among all that use the same store, under the breaker's name."""

    breaker: Breaker
    store: Store

    @opening
    async def __call__(self, call: Call, inner: Handler, /) -> AsyncGenerator[Stream]:
        """Open `inner` through the breaker. Raises `Transient` (`circuit_open`) if any replica's is open."""
        rules = self.breaker.circuit.rules
        probe = await self._enter(call)
        was = self.breaker.state
        try:
            async with self.breaker(call, inner) as stream:
                if probe:
                    probe = False
                    await self._tell(call, Mend(self._key))
                yield stream
        except (Transient, Interrupted) as error:
            opened = was != "open" and self.breaker.state == "open"
            if error.kind not in HEALTHY and (probe or opened):
                await self._tell(call, Trip(self._key, rules.ejection, rules.longest))
            raise

    @property
    def _key(self) -> str:
        return f"guardrails:circuit:{{{quote(self.breaker.name, safe='')}}}"

    async def _enter(self, call: Call) -> bool:
        """Whether the call is a probe for all."""
        try:
            got, _ = await self.store.decide(Enter(self._key, self.breaker.circuit.rules.ejection), call)
        except Shed:
            return False
        if got.wait > 0:
            call.journal.note(call.clock.now(), "flow", f"circuit_open:{self.breaker.name}:shared")
            raise Transient(
                f"{self.breaker.name} is not asked: it failed too often, as another replica saw",
                kind="circuit_open",
                hint=f"it is tried again in {got.wait:.1f} s",
                endpoint=self.breaker.name,
                retry_after=got.wait,
            )
        return got.probe

    async def _tell(self, call: Call, decision: Decision[None]) -> None:
        async def told() -> None:
            with suppress(Shed):
                await self.store.decide(decision, call)

        await see_through(self.store, told())
