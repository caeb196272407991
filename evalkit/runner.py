"""Ask, judge, write down: the loop of a run.

A few workers per endpoint pull jobs from one iterator each, so that a run of a million samples makes no
million tasks. A failed call is a row like any other. Two things end a run early: somebody asks it to stop
(what is in flight is finished first), or an endpoint's first calls all fail in a way that no later call can
mend.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from evalkit.plan import Job, Plan, Target
from evalkit.store import Run
from evalkit.trial import Failure, Trial
from guardrails.call import Call, Response
from guardrails.clock import SYSTEM, Clock
from guardrails.errors import GuardrailsError
from guardrails.handler import collect
from judges.judge import Judge, Question, Score

FIRST = 5
"""So many first calls of an endpoint, all failed for good, end the run."""

HOPELESS = frozenset(
    {
        *("connect", "connect_timeout", "dns", "tls", "redirect", "not_inference"),
        *("auth", "forbidden", "quota", "not_found", "config"),
    }
)
"""Kinds of failure that say something of the endpoint's address or key, not of the sample."""


class Hopeless(GuardrailsError):
    """An endpoint's first calls all failed for good: its address or its key is wrong."""

    default_kind = "hopeless"


@dataclass(slots=True)
class Control:
    """How the outside talks to a run: `stop()` takes no new samples; what is in flight is finished."""

    stopping: bool = False

    def stop(self) -> None:
        """Ask for the end."""
        self.stopping = True


@dataclass(slots=True)
class _First:
    """What became of an endpoint's first calls."""

    needed: int
    kinds: Counter[str] = field(default_factory=Counter)
    example: Failure | None = None
    cleared: bool = False

    def see(self, trial: Trial) -> bool:
        """Whether this row makes the endpoint hopeless."""
        if self.cleared:
            return False
        if trial.error is None or trial.error.kind not in HOPELESS:
            self.cleared = True
            return False
        self.kinds[trial.error.kind] += 1
        self.example = trial.error
        return self.kinds.total() >= self.needed


async def run(
    plan: Plan,
    store: Run,
    *,
    seen: Callable[[Trial], None] = lambda trial: None,
    control: Control | None = None,
    clock: Clock = SYSTEM,
    done: frozenset[str] = frozenset(),
) -> None:
    """Do the plan's jobs whose keys are not in `done`; each row goes to `store`, then to `seen`.

    Returns when all is done or `control` stopped it. Raises `Hopeless` when an endpoint's first calls say
    that the others will fail too; their rows are stored. A cancellation drops what is in flight.
    """
    control = control or Control()
    queues: dict[str, list[Job]] = {target.name: [] for target in plan.targets}
    for job in plan.jobs(done):
        queues[job.target.name].append(job)
    try:
        async with asyncio.TaskGroup() as group:
            for jobs in queues.values():
                pending = iter(jobs)
                first = _First(min(FIRST, len(jobs)))
                for _ in range(min(plan.suite.concurrency, len(jobs))):
                    worker = _Worker(plan, store, seen, control, clock, first)
                    group.create_task(worker.work(pending))
    except* GuardrailsError as failed:
        raise failed.exceptions[0] from None


@dataclass(frozen=True, slots=True)
class _Worker:
    plan: Plan
    store: Run
    seen: Callable[[Trial], None]
    control: Control
    clock: Clock
    first: _First

    async def work(self, pending: Iterator[Job]) -> None:
        for job in pending:
            if self.control.stopping:
                return
            trial = await self._trial(job)
            self.store.add(trial)
            self.seen(trial)
            if self.first.see(trial):
                raise _hopeless(job.target, self.first)

    async def _trial(self, job: Job) -> Trial:
        suite, clock = self.plan.suite, self.clock
        started = clock.wall().isoformat(timespec="milliseconds")
        sampling = suite.sampling.model_dump(exclude_none=True)
        request = job.sample.request(system=suite.system, **sampling)
        labels = {"run": self.store.id, "sample": job.sample.id}
        call = Call(
            request, clock=clock, deadline=clock.now() + suite.timeout, priority="bulk", labels=labels
        )
        answer: str | None = None
        failure: Failure | None = None
        scores: dict[str, Score] = {}
        try:
            answer = _visible(await collect(job.target.llm, call))
        except Exception as error:
            failure = Failure.of(error)
        else:
            scores = await judged(job.judges, job.sample.question(), answer)
        record = call.journal.record
        return Trial(
            run=self.store.id,
            sample=job.sample.id,
            endpoint=job.target.name,
            key=job.key,
            started_at=started,
            tags=job.sample.tags,
            weight=job.sample.weight,
            answer=answer,
            scores=scores,
            record=None if record is None else record.as_dict(),
            error=failure,
        )


def _visible(response: Response) -> str:
    # Half a surrogate pair is legal in JSON and in no file.
    return response.text.encode("utf-8", "replace").decode()


async def judged(judges: Sequence[Judge], question: Question, answer: str) -> dict[str, Score]:
    """Every judge's score by its name, all at once. A judge that raises gives an error, never a zero."""
    scores = await asyncio.gather(*(_score(judge, question, answer) for judge in judges))
    return {judge.name: score for judge, score in zip(judges, scores, strict=True)}


async def _score(judge: Judge, question: Question, answer: str) -> Score:
    try:
        return await judge(question, answer)
    except Exception as error:  # its message may quote the answer
        return Score.unjudged("exception", f"the judge raised {type(error).__name__}")


def _hopeless(target: Target, first: _First) -> Hopeless:
    assert first.example is not None, "an endpoint is hopeless by its failures"
    count = first.kinds.total()
    calls = "the first call" if count == 1 else f"the first {count} calls"
    return Hopeless(
        f"{target.name}: {calls} failed ({first.example.kind}): {first.example.message}",
        hint=first.example.hint or HINTS.get(first.example.kind, ""),
    )


HINTS = {
    "connect": "is the server running, and are host and port right?",
    "connect_timeout": "is the host reachable from here, or is a firewall in between?",
    "dns": "check the host's name",
    "tls": "check https:// against http://, and the certificate",
    "auth": "set the key's environment variable, or name another one with --key-env",
    "forbidden": "this key may not use this model",
    "quota": "the account has no credit left",
    "not_found": "check the URL's path (most end in /v1) and the model's name",
    "not_inference": "the URL answers, but not as an inference server does: check its path and port",
    "redirect": "use the address that it redirects to",
    "rate_limited": "lower --concurrency",
    "timeout": "raise `timeouts` of the endpoint, or lower --concurrency",
    "deadline": "raise the suite's `timeout`, or lower --concurrency",
    "context_length": "these prompts are too long for the model",
    "truncated": "answers end without their terminal event: look at the server and at proxies in between",
    "blocked": "a filter said no: look at the findings",
    "internal": "a mistake in evalkit or in a plug-in: EVALKIT_DEBUG=1 shows where",
}
"""What to do about a kind of failure, for people."""
