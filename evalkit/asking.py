"""One job becomes one row: ask, judge. What runs in this process and on every other machine alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from evalkit.conversation import SimulatedUser, converse
from evalkit.plan import Job, Plan, Target
from evalkit.trial import Failure, Trial
from guardrails.call import Call
from guardrails.clock import SYSTEM, Clock
from guardrails.errors import Blocked
from guardrails.handler import Handler, close_all, collect
from judges.calling import ending
from judges.judge import Answer, Score

if TYPE_CHECKING:
    from evalkit.stores import Kept


class Executor(Protocol):
    """How a job becomes a row, here or elsewhere. Never raises on what an endpoint or a judge does."""

    async def __call__(self, job: Job, run: str, kept: Kept | None, /) -> Trial:
        """Do it; with an earlier answer `kept`, only judge that."""

    async def aclose(self) -> None:
        """Free what it holds."""


@dataclass(frozen=True, slots=True)
class Asker:
    """The executor of this process."""

    plan: Plan
    clock: Clock = SYSTEM
    targets: Mapping[str, Target] = field(init=False, repr=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", {target.name: target for target in self.plan.targets})

    async def __call__(self, job: Job, run: str, kept: Kept | None = None) -> Trial:
        """Ask the endpoint, or take what is kept, and judge the answer."""
        started = self.clock.wall().isoformat(timespec="milliseconds")
        if kept is not None:
            earlier = kept.record if kept.own else {**(kept.record or {}), "cached": True}
            answer = replace(kept.answer, record=earlier)
            return _row(job, run, started, earlier, answer, await self._scores(job, answer))
        try:
            answer, record = await self._asked(job, run)
        except _Failed as failed:
            if (blocked := _blocked(failed)) is None:
                return unanswered(job, run, started, Failure.of(failed.cause), failed.record)
            answer, record = blocked, failed.record
        return _row(job, run, started, record, answer, await self._scores(job, answer))

    async def _asked(self, job: Job, run: str) -> tuple[Answer, Mapping[str, Any] | None]:
        clock, one = self.clock, job.sample
        deadline = clock.now() + self.plan.suite.timeout
        labels = {"run": run, "sample": one.id}
        handler = self.targets[job.endpoint].llm
        call: Call | None = None
        try:
            request = self.plan.request(job)
            call = Call(request, clock=clock, deadline=deadline, priority="bulk", labels=labels)
            if one.turns or one.user is not None:
                return await self._conversed(handler, call, job)
            response = await collect(handler, call)
        except _Failed:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and ending():
                raise
            # A cancellation of nobody's would lose the row without a word, and an exit end the run.
            raise _Failed(error, None if call is None else _recorded(call)) from None
        record = _recorded(call)
        return Answer.of(response, record), record

    async def _conversed(
        self, handler: Handler, call: Call, job: Job
    ) -> tuple[Answer, Mapping[str, Any] | None]:
        player, described = self.plan.user, job.sample.user
        user = None
        if player is not None and described is not None:
            user = SimulatedUser.of(described, player.llm)
        talk = await converse(handler, call, job.sample.turns, user)
        if talk.error is not None:
            raise _Failed(talk.error, talk.record)
        return talk.answer(), talk.record

    async def _scores(self, job: Job, answer: Answer) -> Mapping[str, Score]:
        part = self.plan.part(job.set)
        return await part.scoring.judges(job.sample).score(job.sample.question(), answer)

    async def aclose(self) -> None:
        """Free the endpoints' connections and what judges hold."""
        plan = self.plan
        llms = [target.llm for target in (*plan.targets, *plan.judges, *filter(None, [plan.user]))]
        await close_all(*llms, *(part.scoring for part in plan.parts))


class _Failed(Exception):
    def __init__(self, cause: BaseException, record: Mapping[str, Any] | None) -> None:
        # Of what is no `Exception` the type is kept, as of any that is foreign.
        self.cause, self.record = cast(Exception, cause), record


def _blocked(failed: _Failed) -> Answer | None:
    """What the endpoint's own filters said no to is an outcome of the policy under test, and no failure: an
    answer that they refused, which `refusal` may expect. A filter that broke decided nothing."""
    cause = failed.cause
    if not isinstance(cause, Blocked) or cause.kind != Blocked.default_kind:
        return None
    return Answer(
        "", finish_reason="content_filter", refusal=f"blocked: {cause.message}", record=failed.record
    )


def _recorded(call: Call) -> Mapping[str, Any] | None:
    return None if call.journal.record is None else call.journal.record.as_dict()


def unanswered(
    job: Job, run: str, started: str, why: Failure, record: Mapping[str, Any] | None = None
) -> Trial:
    """The row of a job that brought no answer; `started` is the time in ISO 8601."""
    return _row(job, run, started, record, None, {}, why)


def _row(
    job: Job,
    run: str,
    started: str,
    record: Mapping[str, Any] | None,
    answer: Answer | None,
    scores: Mapping[str, Score],
    error: Failure | None = None,
) -> Trial:
    return Trial(
        run=run,
        sample=job.sample.id,
        endpoint=job.endpoint,
        key=job.key,
        started_at=started,
        set=job.set,
        prompt=job.prompt,
        k=job.k,
        place=job.place,
        ask=job.ask,
        content=job.content,
        tags=job.sample.tags,
        weight=job.sample.weight,
        answer=answer,
        scores=scores,
        record=record,
        error=error,
    )
