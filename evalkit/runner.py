"""Ask, judge, write down: the loop of a run.

A few workers per endpoint pull jobs from one iterator each, so that a run of a million samples makes no
million tasks. A failed call is a row like any other. Three things end a run early: somebody asks it to stop
(what is in flight is finished first), its money is spent, or an endpoint's first calls all fail in a way that
no later call can mend.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar

from evalkit.asking import Executor
from evalkit.cap import Cap, Dearest, Hold
from evalkit.plan import Job, Plan, Target
from evalkit.stores import Kept
from evalkit.trial import Failure, Trial
from evalkit.worst import at_worst, judging_at_worst
from evalkit.writer import Writer
from guardrails.errors import BudgetExceeded, GuardrailsError
from guardrails.record import total

T = TypeVar("T")

LOST = "a plug-in raised CancelledError, or ended its task; give the same command again"

FIRST = 5
"""So many first calls of an endpoint, all failed for good, end the run."""

FIRST_JUDGED = 10
"""So many first answers that a judge could not ask its model about, for one and the same reason, end it."""

UNJUDGED = "mend the judge, and go on with `--resume` and `--cache`: the answers are kept"

TURNS = 3
"""So many turns of the event loop a worker has before the next one begins: what a call needs to be sent.

Workers that begin at once stay together: their answers come at once too, and each waits while the others are
read, which would be measured as the endpoint's time.
"""

HOPELESS = frozenset(
    {
        *("connect", "connect_timeout", "dns", "tls", "redirect", "not_inference"),
        *("auth", "forbidden", "quota", "not_found", "config"),
    }
)
"""Kinds of failure that say something of the endpoint's address or key, not of the sample."""


class Lost(GuardrailsError):
    """Calls ended without a row, though nobody stopped the run: what is left of it is not what was asked."""

    default_kind = "lost"


class Hopeless(GuardrailsError):
    """An endpoint's first calls all failed for good: its address or its key is wrong."""

    default_kind = "hopeless"


@dataclass(slots=True)
class Control:
    """How the outside talks to a run: `stop()` takes no new samples; what is in flight is finished.

    `drop()` gives up what is in flight too. `capped` is set by the run itself, when its money is spent.
    """

    stopping: bool = False
    dropping: bool = False
    capped: bool = False
    _work: asyncio.Task[Any] | None = field(default=None, repr=False, compare=False)

    def stop(self) -> None:
        """Ask for the end."""
        self.stopping = True

    def drop(self) -> None:
        """Ask for the end at once. What is finished is kept all the same, however often this is called."""
        self.stopping = self.dropping = True
        if self._work is not None:
            self._work.cancel()

    async def carry(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do `work`, which `drop()` ends: None then. A cancellation from elsewhere ends it and passes on."""
        self._work = asyncio.ensure_future(work)
        try:
            result: T = await self._work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self.dropping or (task is not None and task.cancelling()):
                raise  # somebody else's cancellation: it is theirs to see
            return None
        finally:
            self._work = None
        return result


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


Lookup = Callable[[Sequence[Job]], Mapping[str, Kept]]
"""Earlier answers by the key of the job that may take them; blocks."""

LOOKED_UP = 64


@dataclass(slots=True)
class _Jobs:
    """An endpoint's jobs, each with the answer that is kept of it, if any."""

    pending: Iterator[Job]
    lookup: Lookup | None
    ready: deque[tuple[Job, Kept | None]] = field(default_factory=deque)
    kept: int = 0
    """How many have a row."""
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def next(self) -> tuple[Job, Kept | None] | None:
        """The next one; None when there are no more."""
        if self.lookup is None:
            job = next(self.pending, None)
            return None if job is None else (job, None)
        async with self._one:
            if not self.ready:
                chunk = list(islice(self.pending, LOOKED_UP))
                kept = await asyncio.to_thread(self.lookup, chunk) if chunk else {}
                self.ready.extend((job, kept.get(job.key)) for job in chunk)
            return self.ready.popleft() if self.ready else None


@dataclass(frozen=True, slots=True)
class Work:
    """What the loop needs besides the plan. `done`: keys that are left out; `spent`: by this run before."""

    run: str
    executor: Executor
    writer: Writer
    control: Control = field(default_factory=Control)
    done: frozenset[str] = frozenset()
    lookup: Lookup | None = None
    spent: Decimal = Decimal(0)


async def run(plan: Plan, work: Work) -> None:
    """Do the plan's jobs that are not done; each row goes to the writer.

    Returns when all is done, or `work.control` stopped it or says that it was capped. Raises `Hopeless` when
    an endpoint's first calls say that the others will fail too; their rows are kept. Raises `Lost` when a job
    brought no row and nobody stopped the run: such a run is not complete. A cancellation drops what is in
    flight.
    """
    budget = plan.suite.budget
    cap = None if budget is None else Cap(budget.max_usd, work.spent)
    judging = Dearest(None if plan.judges else Decimal(0))
    workers = []
    for target in plan.targets:
        jobs = _Jobs(plan.jobs(target, work.done), work.lookup)
        first = _First(min(FIRST, plan.size // len(plan.targets)))
        judged = _FirstJudged(FIRST_JUDGED)
        workers.append(_Worker(plan, target, work, jobs, first, judged, cap, judging))
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(plan.suite.concurrency, plan.size)):
                for worker in workers:
                    group.create_task(worker.work())
                for _turn in range(TURNS):
                    await asyncio.sleep(0)
    except* Exception as failed:
        raise failed.exceptions[0] from None
    wanted, kept = plan.size - len(work.done), sum(worker.jobs.kept for worker in workers)
    if kept < wanted and not work.control.stopping:
        # Where a worker ended by a cancellation that was nobody's, no error says so: a group ignores it.
        raise Lost(f"{wanted - kept:,} of {wanted:,} rows were lost", hint=LOST)


@dataclass(slots=True)
class _FirstJudged:
    """What the judges of an endpoint's first answers said of themselves."""

    needed: int
    lost: Mapping[str, str] | None = None
    seen: int = 0

    def see(self, trial: Trial) -> str | None:
        """A judge that could ask its model about none of them, always for the same reason, and that."""
        if self.lost == {} or trial.error is not None or not trial.scores:
            return None
        lost = {name: each.reason for name, each in trial.scores.items() if each.error == "judge_call"}
        lost = {name: said for name, said in lost.items() if any(f"({kind})" in said for kind in HOPELESS)}
        self.lost = dict(lost.items() if self.lost is None else lost.items() & self.lost.items())
        self.seen += 1
        if self.seen < self.needed:
            return None
        return next((f"{name}: {reason}" for name, reason in self.lost.items()), None)


@dataclass(frozen=True, slots=True)
class _Worker:
    plan: Plan
    target: Target
    work_: Work
    jobs: _Jobs
    first: _First
    judged: _FirstJudged
    cap: Cap | None
    judging: Dearest

    async def work(self) -> None:
        control = self.work_.control
        while not control.stopping and (taken := await self.jobs.next()) is not None:
            trial = await self._trial(*taken)
            if trial is None:
                return
            await self.work_.writer.add(trial)
            self.jobs.kept += 1
            if self.first.see(trial):
                raise _hopeless(self.target, self.first)
            if (said := self.judged.see(trial)) is not None:
                raise Hopeless(f"no judging of the first {self.judged.seen} answers: {said}", hint=UNJUDGED)

    async def _trial(self, job: Job, kept: Kept | None) -> Trial | None:
        """The row; None when there is no money left for it, or a stop came before its turn did."""
        work = self.work_
        if self.cap is None:
            return await work.executor(job, work.run, kept)
        call = at_worst(self.plan, self.target, job) if kept is None else Decimal(0)
        try:
            judges = self.plan.part(job.set).scoring.judges(job.sample).made
            least = judging_at_worst(self.plan, judges, job.sample.question())
            async with self.judging.guess() as seen, self.cap.hold(call + max(seen, least)) as held:
                if work.control.stopping:
                    held.cost = Decimal(0)
                    return None
                trial = await work.executor(job, work.run, kept)
                self._book(held, call, trial, kept)
        except BudgetExceeded:
            work.control.capped = True
            work.control.stop()
            return None
        return trial

    def _book(self, held: Hold, call: Decimal, trial: Trial, kept: Kept | None) -> None:
        judging = Decimal(0)
        if trial.scores:
            judging = self.judging.learn(trial.judging_usd, whole=not trial.unknown_judgings)
        else:
            self.judging.skip()
        if kept is not None and kept.own:  # its call was booked when it was made
            held.cost = judging
        else:
            paid = trial.call_usd
            held.cost = total([call if paid is None else paid, judging])


def _hopeless(target: Target, first: _First) -> Hopeless:
    assert first.example is not None, "an endpoint is hopeless by its failures"
    count = first.kinds.total()
    calls = "the first call" if count == 1 else f"the first {count} calls"
    return Hopeless(
        f"{target.name}: {calls} failed ({first.example.kind}): {first.example.message}",
        hint=advice(first.example.kind, first.example.hint),
    )


def advice(kind: str, hint: str) -> str:
    """What to do about a kind of failure, for people; `hint` is what the call itself was told."""
    return IN_A_RUN.get(kind) or hint or HINTS.get(kind, "")


IN_A_RUN = {
    "rate_limited": "lower --concurrency, or give the endpoint `retry` and `rate_limit`",
    "timeout": "raise `timeouts` of the endpoint, or lower --concurrency",
    "deadline": "raise the suite's `timeout`, or lower --concurrency",
    "too_late": "lower --concurrency, or raise `patience: {bulk: …}` of the endpoint's `admit`",
    "queue_full": "lower --concurrency, or raise `length` of the endpoint's `admit`",
}
"""Where a run has other means than an application, whose users do not wait."""

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
    "context_length": "these prompts are too long for the model",
    "truncated": "answers end without their terminal event: look at the server and at proxies in between",
    "blocked": "a filter said no: look at the findings",
    "internal": "a mistake in evalkit or in a plug-in: EVALKIT_DEBUG=1 shows where",
}
"""What to do about the others, where the call was told nothing."""
