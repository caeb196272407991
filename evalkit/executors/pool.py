"""Who can be asked now: the workers of a run, as the driver sees them."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any

from evalkit.trial import Failure
from guardrails.clock import Clock
from guardrails.errors import GuardrailsError

PATIENCE = 120.0
"""Seconds for which a run without any worker waits for one."""


ON_EVERY_NODE = (
    "the same evalkit-guardrails, and what the suite imports, has to be installed on every node, and each "
    "worker needs enough memory"
)


UNKNOWN_HERE = (
    "Ray sends a token (~/.ray/auth_token, RAY_AUTH_TOKEN), and a cluster that was started without it drops "
    "every worker: set RAY_AUTH_MODE=disabled, or start the cluster with that token"
)


class NoWorkers(GuardrailsError):
    """No worker is left, or none came. What was written down stays; the run can be gone on with."""

    default_kind = "no_workers"


@dataclass(eq=False, slots=True)
class Member:
    """A worker, as the driver sees it."""

    actor: Any
    busy: int = 0


@dataclass(slots=True)
class Pool:
    """The workers that can be asked, and those that are about to come, or to come back."""

    errors: Any
    clock: Clock
    ready: list[Member] = field(default_factory=list)
    joining: dict[Member, asyncio.Task[None]] = field(default_factory=dict)
    refused: Failure | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def admit(self, member: Member) -> None:
        """Ask a worker in, be it new or started again."""
        if member in self.ready:
            self.ready.remove(member)
        if member not in self.joining:
            self.joining[member] = asyncio.ensure_future(self._join(member))

    async def _join(self, member: Member) -> None:
        try:
            # This call alone may be repeated by Ray: it waits until a dead worker is there again.
            self.refused = await member.actor.join.options(max_task_retries=-1).remote()
            if self.refused is None:
                self.ready.append(member)
        except self.errors.RayError as error:
            said = " ".join(str(error).split())[-500:]  # of a start: no prompt or answer is in it
            sends_token = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
            hint = UNKNOWN_HERE if sends_token and "cancelled before it started" in said else ON_EVERY_NODE
            self.refused = Failure("worker_lost", f"a worker cannot be started: {said}", hint)
        finally:
            del self.joining[member]
            self._news.set()

    async def least_busy(self) -> Member:
        """A worker to ask. Raises `NoWorkers` when there is none and none comes."""
        waited = False
        while not self.ready:
            if not self.joining or waited:
                raise self._nobody()
            self._news.clear()
            waited = not await self._told()
        return min(self.ready, key=lambda member: member.busy)

    async def _told(self) -> bool:
        """Wait for news of a worker; False when there is none for too long."""
        late = asyncio.Event()

        def ring() -> None:
            late.set()
            self._news.set()

        timer = self.clock.call_later(PATIENCE, ring)
        try:
            await self._news.wait()
        finally:
            timer.cancel()
        return not late.is_set() or bool(self.ready)

    def _nobody(self) -> NoWorkers:
        if self.refused is not None:
            return NoWorkers(f"no worker can do the run: {self.refused.message}", hint=self.refused.hint)
        return NoWorkers(
            f"the Ray cluster gave no worker for {PATIENCE:g} s",
            hint="look at `ray status`: a worker needs one free CPU",
        )
