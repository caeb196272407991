"""Where do rate limits and budgets live, so that no two calls can both take the last of them?

A layer puts each question as one `Decision`: a value that looks at some cells and changes them in one step.
`MemoryStore` takes the step in this process; `guardrails.flow.redis_store.RedisStore` takes the same step as
one Lua script, so that it holds across processes. There is no read followed by a write anywhere, and so
nothing to lock.

Decisions, their parts and their results are values like all others here; only they are not frozen. Each call
makes a dozen of them, and freezing makes one eight times as slow to make.

A decision of your own (a breaker's state, say) needs its step twice: `here` in Python and `script` in Lua.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, TypeVar

from guardrails.call import Call
from guardrails.clock import Clock

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

SHARED, LOCAL = "shared", "local"
"""Where a decision was taken: in the store itself, or in this process while the store was away."""


class Moment:
    """One time, told twice: `now` never goes backwards, `wall` is seconds since 1970 (UTC).

    Given a clock for `wall`, it asks that only once somebody wants to know: few decisions do.
    """

    __slots__ = ("_wall", "now")

    def __init__(self, now: float, wall: float | Clock) -> None:
        self.now = now
        self._wall = wall

    @classmethod
    def of(cls, call: Call) -> Self:
        """The call's own clock."""
        clock = call.clock
        return cls(clock.now(), clock)

    @property
    def wall(self) -> float:
        """Civil time."""
        wall = self._wall
        return wall if isinstance(wall, int | float) else wall.wall().timestamp()


class Cells:
    """Values by key that are forgotten once they mean nothing any more."""

    __slots__ = ("_held", "_prune_at")

    def __init__(self) -> None:
        self._held: dict[str, tuple[Any, float]] = {}
        self._prune_at = 1024

    def get(self, key: str) -> Any:
        """The value, None when there is none."""
        held = self._held.get(key)
        return None if held is None else held[0]

    def put(self, key: str, value: Any, until: float, now: float) -> None:
        """Set a value that nobody needs after `until` (on the clock of `now`)."""
        self._held[key] = (value, until)
        if len(self._held) >= self._prune_at:
            self._held = {name: kept for name, kept in self._held.items() if kept[1] > now}
            self._prune_at = max(1024, 2 * len(self._held))

    def __len__(self) -> int:
        return len(self._held)


class Decision(Protocol[T_co]):
    """One atomic step over the cells `keys`.

    `script` gets the keys and `args` and does in Lua, with the server's time, what `here` does with `at`;
    `read` turns its reply into the same result. `share(n)` is the decision for one of `n` replicas that
    cannot see each other.
    """

    script: ClassVar[str]

    @property
    def keys(self) -> Sequence[str]:
        """Its cells; all with the same `{…}` in their names, so that a cluster keeps them together."""

    @property
    def args(self) -> Sequence[str | int | float]:
        """What the script needs besides."""

    def here(self, cells: Cells, at: Moment) -> T_co:
        """Take the step in this process."""

    def read(self, reply: Any) -> T_co:
        """The result, from what the script returned."""

    def share(self, replicas: int) -> Decision[T_co]:
        """The same, with an equal part of every limit."""


class Store(Protocol):
    """Takes decisions, each in one step that no other can come between."""

    async def decide(self, decision: Decision[T], call: Call, /, where: str = "") -> tuple[T, str]:
        """The result, and where it was taken (`SHARED` or `LOCAL`).

        Give `where` back with a decision that undoes an earlier one, so that it meets the same cells. Raises
        `Shed` (kind `store_gone`) when the store is away and was told to be closed then.
        """

    def later(self, decision: Decision[Any], /) -> None:
        """The store was away: take this one, which may be sent twice without harm, when it is back."""

    async def aclose(self) -> None:
        """Let go of connections."""


@dataclass(slots=True)
class MemoryStore:
    """Decisions within this process, on the calls' own clocks. Tasks and threads may share it."""

    _cells: Cells = field(default_factory=Cells, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __reduce__(self) -> tuple[type[MemoryStore], tuple[()]]:
        return MemoryStore, ()

    async def decide(self, decision: Decision[T], call: Call, /, where: str = "") -> tuple[T, str]:
        """Take the step."""
        return self.at_once(decision, Moment.of(call)), where or SHARED

    def at_once(self, decision: Decision[T], at: Moment) -> T:
        """The same without a coroutine and without a call."""
        with self._lock:
            return decision.here(self._cells, at)

    def later(self, decision: Decision[Any], /) -> None:
        """It is never away."""

    async def aclose(self) -> None:
        """Nothing is held open."""


_finishing: set[asyncio.Task[Any]] = set()


def background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` in a task that is kept alive until it is done."""
    task = asyncio.ensure_future(work)
    _finishing.add(task)
    task.add_done_callback(_finishing.discard)
    return task


def see_through(store: Store, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
    """Do `work` at `store` to its end even if the caller is cancelled meanwhile."""
    if isinstance(store, MemoryStore):
        return work  # it never waits, so no cancellation can come in between
    return asyncio.shield(background(work))


async def reserve(
    store: Store,
    decision: Decision[T],
    call: Call,
    undo: Callable[[T, str], Coroutine[Any, Any, object]],
) -> tuple[T, str]:
    """Take a decision that reserves something; cancelled meanwhile, it is taken back with `undo`."""
    if isinstance(store, MemoryStore):
        return store.at_once(decision, Moment.of(call)), SHARED
    task = background(store.decide(decision, call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        background(_undone(task, undo))
        raise


async def _undone(
    task: asyncio.Task[tuple[T, str]], undo: Callable[[T, str], Coroutine[Any, Any, object]]
) -> None:
    with suppress(Exception):  # nothing was reserved then, and nobody waits for the error any more
        await undo(*await task)
