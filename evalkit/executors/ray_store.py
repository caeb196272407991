"""How do the workers of one run share its limits, without a Redis?

Rates, budgets and breakers are kept in one actor, `Limits`; the workers put their decisions to it through
`RayStore`. It takes them one by one, on its own clock, so that neither two workers nor two clocks disagree.

The actor lives on the driver's node and is never started again: one that has forgotten what was spent would
allow it once more. Should it be gone, every decision is refused (`Shed`, kind `store_gone`), and the run can
be gone on with afterwards. What a worker had reserved when it died stays booked: its calls may well have been
paid for.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeVar

from guardrails.call import Call
from guardrails.clock import SYSTEM, Clock
from guardrails.errors import Shed
from guardrails.flow.store import SHARED, Decision, MemoryStore, Moment

T = TypeVar("T")


@dataclass(slots=True)
class Limits:
    """The actor: what each endpoint of a run has used of its limits."""

    clock: Clock = SYSTEM
    _stores: defaultdict[str, MemoryStore] = field(default_factory=lambda: defaultdict(MemoryStore))

    async def decide(self, endpoint: str, decision: Decision[T]) -> T:
        """Take the step, here and now."""
        at = Moment(self.clock.now(), self.clock.wall().timestamp())
        return self._stores[endpoint].at_once(decision, at)


@dataclass(frozen=True, slots=True)
class RayStore:
    """A `guardrails.flow.store.Store` for one endpoint: its decisions are taken by the actor `limits`."""

    limits: Any = field(repr=False)
    endpoint: str = ""

    async def decide(self, decision: Decision[T], call: Call, /, where: str = "") -> tuple[T, str]:
        """Take the step there. Raises `Shed` (`store_gone`) when the actor is gone."""
        errors = import_module("ray.exceptions")
        try:
            return await self.limits.decide.remote(self.endpoint, decision), where or SHARED
        except errors.RayTaskError:
            raise  # a mistake of ours, not its absence
        except errors.RayError:
            call.journal.note(call.clock.now(), "flow", "store_gone:closed")
            raise Shed(
                "the store of the run's shared limits is gone",
                kind="store_gone",
                hint="go on with the run: the same command, or --resume",
            ) from None

    def later(self, decision: Decision[Any], /) -> None:
        """It does not come back, so there is nobody to tell."""

    async def aclose(self) -> None:
        """The actor is the run's own, which ends it."""
