"""One run from plan to verdict: do what is left, keep it, sum it up, decide the gates.

from evalkit.config import Suite
from evalkit.evaluate import evaluate

outcome = await evaluate(Suite(golden="short-facts", endpoints=[{"url": "http://…/v1", "model": "m"}]))
print(outcome.endpoints[0].pass_rate, outcome.verdict)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from evalkit.asking import Asker, Executor
from evalkit.cap import Dearest
from evalkit.config import Suite
from evalkit.keys import check_keys
from evalkit.plan import Job, Plan
from evalkit.runner import Control, Work, run
from evalkit.stores import Kept, Run, RunGone, Status, Store, open_store, run_id
from evalkit.trial import Trial, usd
from evalkit.worst import at_worst, check_prices
from evalkit.writer import Writer, write_end
from guardrails.clock import SYSTEM, Clock
from guardrails.errors import ConfigError
from guardrails.record import EXACT, NO_MONEY, total

if TYPE_CHECKING:
    from evalkit.columns import Columns
    from evalkit.compare import Comparison
    from evalkit.summary import Endpoint
    from evalkit.trouble import Trouble
    from evalkit.verdict import Decided

AGAINST = "against"
"""Where the lineage has the ids of the runs that a run is compared with, by their names in gates."""

PRESUMED = "presumed"
"""Where the lineage of a run that went on under a cap says what was booked for calls of unknown cost."""

Word = Literal["pass", "fail", "undecided", "errors"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to. Its rows are in `store`, under `run.id`."""

    plan: Plan
    store: Store
    run: Run
    columns: Columns
    endpoints: Sequence[Endpoint]
    comparisons: Sequence[Comparison]
    gates: Sequence[Decided]
    doubts: Sequence[str] = ()

    @property
    def status(self) -> Status:
        """How the run ended."""
        return self.run.status

    @property
    def trouble(self) -> Trouble | None:
        """Why no verdict counts, if so: too many calls or judges failed to say anything."""
        from evalkit.trouble import Trouble

        return Trouble.of(self.columns, self.plan.suite.max_error_rate)

    @property
    def verdict(self) -> Word:
        """`errors`: too many calls or judges failed to say anything. Only a complete run passes."""
        if self.trouble is not None:
            return "errors"
        said = {each.under(self.plan.suite.undecided) for each in self.gates}
        if "fail" in said:
            return "fail"
        return "undecided" if "undecided" in said or self.status != "complete" else "pass"

    @property
    def warnings(self) -> list[str]:
        """What is known against the judges (that they agree too little with people, or favour their kin) and
        against the runs that this one is compared with."""
        from evalkit.known_judges import digests, flags, known
        from judges.llm.families import relatives

        plan = self.plan
        judges = [name for each in self.endpoints for name in each.scorers]
        asked = [model for judge in plan.judges for model in judge.models]
        judged = [model for target in plan.targets for model in target.models]
        doubts = flags(judges, known(plan.suite.out), digests(self.run.info))
        return doubts + relatives(asked, judged) + list(self.doubts)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file: the lineage, the numbers, the verdicts; no answers."""
        from evalkit.ci.plain import plain

        head = {"run": self.run.id, "status": self.status, "verdict": self.verdict}
        return {**head, "info": dict(self.run.info), "warnings": self.warnings, **plain(self)}


async def evaluate(
    suite: Suite | Plan,
    *,
    store: Store | None = None,
    resume: Run | str | None = None,
    seen: Callable[[Trial], None] = lambda trial: None,
    control: Control | None = None,
    executor: Executor | None = None,
    clock: Clock = SYSTEM,
) -> Outcome:
    """Run a suite; with `resume`, an earlier run of `store` or its name, only what that one lacks.

    Each new row goes to `seen` once it is kept. `control.stop()` ends the run early, as `interrupted`, and
    `control.drop()` without what is in flight; a cancellation is passed on. Raises `ConfigError` before the
    first call for what cannot work, and `runner.Hopeless` when an endpoint's first calls all fail for good.
    """
    plan = suite if isinstance(suite, Plan) else Plan.of(suite)
    store = store or open_store(plan.suite.database)
    if isinstance(resume, str):
        resume = await asyncio.to_thread(store.find, resume)
    kept, earlier = await carry_out(
        plan, store, resume=resume, seen=seen, control=control, executor=executor, clock=clock
    )
    return await asyncio.to_thread(conclude, plan, store, kept, earlier)


async def carry_out(
    plan: Plan,
    store: Store,
    *,
    resume: Run | None = None,
    begun: Callable[[Run], None] = lambda run: None,
    seen: Callable[[Trial], None] = lambda trial: None,
    control: Control | None = None,
    executor: Executor | None = None,
    clock: Clock = SYSTEM,
) -> tuple[Run, Mapping[str, str]]:
    """The calls and the judging of `evaluate`: the run, and the runs to compare it with, for `conclude`.

    `begun` is told of the run before its first call, and so knows of one that an error ends.
    """
    control = control or Control()
    here = executor is None  # elsewhere the variables may be others
    executor = executor or Asker(plan, clock)
    try:
        # Before the first call: one that does not exist is found out now, and `latest` is not this run.
        earlier = await asyncio.to_thread(baselines, plan, store, resume)
        check_prices(plan)
        if here:
            check_keys(plan)
        with ExitStack() as held:
            if resume is not None:  # held before anything is written: it may be somebody else's just now
                held.enter_context(store.writing(resume.id))
                await asyncio.to_thread(check_rows, plan, store, resume)
            kept = await asyncio.to_thread(_begin, plan, store, resume, earlier, clock)
            if resume is None:
                held.enter_context(store.writing(kept.id))
            begun(kept)
            try:
                status = await _run(plan, store, kept, resume is not None, seen, control, executor)
            except BaseException:
                stopped = replace(kept, status="stopped", ended_at=clock.wall())
                with suppress(ConfigError):  # such as a store that is gone: it is said already
                    await asyncio.to_thread(store.update, stopped)
                raise
            kept = replace(kept, status=status, ended_at=clock.wall())
            await write_end(store, kept, clock)
    finally:
        await executor.aclose()
    return kept, earlier


async def _run(
    plan: Plan,
    store: Store,
    kept: Run,
    again: bool,
    seen: Callable[[Trial], None],
    control: Control,
    executor: Executor,
) -> Status:
    """Do what is left, and say how it ended."""
    done: frozenset[str] = frozenset()
    paid = Decimal(0)
    if again:
        done = await asyncio.to_thread(store.done, kept.id)
        if plan.suite.budget is not None:
            paid = await asyncio.to_thread(spent_before, store, kept)
    for target in plan.targets:  # or the first calls' TTFT would be that of an import
        await asyncio.to_thread(target.llm.warm)
    lookup = partial(answers, store, kept.id if again else None) if plan.suite.cache else None
    async with Writer(store, seen) as writer:
        await control.carry(run(plan, Work(kept.id, executor, writer, control, done, lookup, paid)))
    return "capped" if control.capped else "interrupted" if control.stopping else "complete"


def answers(store: Store, resumed: str | None, jobs: Sequence[Job]) -> Mapping[str, Kept]:
    """Answers that stand in for calls, by the jobs' keys: those of the run itself before others'.

    A row of its own that no judge could judge is judged again, and stays what the run has measured.
    """
    own = {} if resumed is None else store.measured(resumed, [job.key for job in jobs])
    others = store.answers([job.ask for job in jobs if job.key not in own])
    return {**{job.key: others[job.ask] for job in jobs if job.ask in others}, **own}


def check_rows(plan: Plan, store: Store, run: Run) -> None:
    """Raises `ConfigError` when a run holds rows that the plan does not ask for: they would count too.

    The rows' own keys are looked at, even where the plan is that of the run: what a scorer is may have
    changed with the version of evalkit.
    """
    strays = set(store.done(run.id))
    strays.update(row.key for row in store.trials(run.id, failing=True))  # what is not done has not passed
    before = run.info.get("prompts")
    if strays and before is not None and (len(before) > 1) != (len(plan.prompts) > 1):
        raise ConfigError(
            f"the run {run.id} has {_prompts(len(before))}, and the suite {_prompts(len(plan.prompts))}: the "
            "rows of a prompt that is the only one do not name it",
            hint="begin another run with --fresh; with `cache: true` it takes over what was answered",
        )
    for job in chain.from_iterable(plan.jobs(target) for target in plan.targets):
        if not strays:
            return
        strays.discard(job.key)
    if strays:
        raise ConfigError(
            f"{len(strays):,} rows of the run {run.id} are none of this suite's: its endpoints, prompts, "
            "sampling, scorers, samples, simulated user or `limit` are not what they were",
            hint="go on with the suite as it was, or begin another run: without --resume, or with --fresh",
        )


def _prompts(n: int) -> str:
    return "one prompt" if n == 1 else f"{n} prompts"


def _begin(plan: Plan, store: Store, resume: Run | None, earlier: Mapping[str, str], clock: Clock) -> Run:
    started = clock.wall()
    info = {**plan.lineage(), AGAINST: dict(earlier)}
    if resume is not None:
        info |= _booked(plan, store, resume, started)  # before a row gives way that is a part of it
        kept = replace(resume, status="running", ended_at=None, planned=plan.size, info=info)
        store.update(kept)
        return kept
    new = Run(
        run_id(plan.name, started), plan.name, plan.digest, "running", started, planned=plan.size, info=info
    )
    return store.create(new)


def _booked(plan: Plan, store: Store, resume: Run, now: datetime) -> dict[str, Any]:
    """What the lineage of a run that goes on says of the calls of unknown cost before."""
    if plan.suite.budget is None:
        return {PRESUMED: resume.info[PRESUMED]} if PRESUMED in resume.info else {}
    booked = presumed(plan, store, resume)
    return {PRESUMED: {"usd": str(booked), "until": now.isoformat(timespec="milliseconds")}} if booked else {}


def conclude(plan: Plan, store: Store, kept: Run, earlier: Mapping[str, str]) -> Outcome:
    """Sum up and decide; `earlier` are the ids of the runs that gates compare with, by their names there.

    The same rows give the same outcome: the generator's seed is fixed.
    """
    from evalkit import against, stats
    from evalkit.columns import Columns
    from evalkit.compare import compare, compare_runs
    from evalkit.gate import BASELINE
    from evalkit.summary import summarise
    from evalkit.tiers import Tiers
    from evalkit.verdict import decide_all

    tiers = Tiers()
    columns = Columns.of(tiers.watch(store.trials(kept.id)))
    if len(columns) == kept.planned and kept.status == "interrupted":
        kept = replace(kept, status="complete")  # asked to stop when nothing was left
        store.update(kept)
    if kept.info.get(AGAINST) != dict(earlier):
        kept = replace(kept, info={**kept.info, AGAINST: dict(earlier)})
        store.update(kept)
    rng = stats.seeded(0)
    others = against.found(store, earlier)
    runs = {name: others[name][1] if name in others else Columns.of(()) for name in earlier}
    gates = decide_all(plan.gates, columns, runs, rng)
    compared = compare(columns, rng)
    if BASELINE in others:
        compared += compare_runs(columns, runs[BASELINE], f"baseline {earlier[BASELINE]}", rng)
    summaries = summarise(columns, rng, tiers.found, store.replaced(kept.id))
    doubts = tuple(against.doubts(kept, others, earlier))
    return Outcome(plan, store, kept, columns, summaries, compared, gates, doubts)


def arms_of(run: Run) -> frozenset[str]:
    """What gates may call the endpoints of a run, by its lineage."""
    names = [str(each.get("name", "")) for each in run.info.get("endpoints") or ()]
    prompts = [str(each.get("name", "")) for each in run.info.get("prompts") or ()]
    return frozenset([*names, *(f"{name}/{prompt}" for name in names for prompt in prompts)])


def baselines(
    plan: Plan,
    store: Store,
    resume: Run | None = None,
    *,
    old: Run | None = None,
    arms: frozenset[str] = frozenset(),
) -> Mapping[str, str]:
    """The ids of the earlier runs that gates compare with, by the names that gates call them.

    What a run was held against when it began still holds when it goes on (`resume`) and when its answers are
    judged again (`old`): so it is not its own baseline. `arms` are endpoints that the plan does not have
    itself, because nobody is asked again. Raises `ConfigError` for a run that does not exist, unless it did
    when the run began and no gate needs it now.
    """
    from evalkit.gate import BASELINE

    arms = arms.union(plan.arm_names, (target.name for target in plan.targets))
    named = {each.against for each in plan.gates if each.against is not None} - arms - {BASELINE}
    wanted = {name: name for name in sorted(named)}
    if plan.suite.baseline is not None:
        wanted[BASELINE] = plan.suite.baseline
    before = resume or old
    began = {} if before is None else _began(plan, before)
    for name in sorted({each.against for each in plan.gates if each.against is not None} & began.keys()):
        _check_there(store, name, began[name])
    found = {name: began.get(name) or store.find(run).id for name, run in wanted.items()}
    if resume is None:
        return found
    found = as_begun(found, resume)
    if resume.id in found.values():
        raise ConfigError(
            f"the run {resume.id} would be compared with itself",
            hint="name another baseline by its id or its tag, or begin another run with --fresh",
        )
    return found


def _began(plan: Plan, run: Run) -> Mapping[str, str]:
    """What a run was compared with when it began, by the names that mean the same now: a tag may have moved
    since, and `latest` has."""
    from evalkit.gate import BASELINE

    suite = run.info.get("suite")
    same = isinstance(suite, Mapping) and suite.get("baseline") == plan.suite.baseline
    against = run.info.get(AGAINST) or {}
    return {name: str(at) for name, at in against.items() if name != BASELINE or same}


def _check_there(store: Store, name: str, run: str) -> None:
    """Raises `ConfigError` when a run that a gate needs was deleted."""
    with suppress(ConfigError):
        if store.find(run).id == run:  # and not another one, whose name begins like that
            return
    raise RunGone(
        f"{run}, which the run was held against as {name!r}, is not there any more",
        hint="name another run to compare with, by --baseline or in the gate",
    )


def as_begun(found: Mapping[str, str], run: Run) -> dict[str, str]:
    """Those runs, with what a run was held against when it began in place of itself."""
    began = run.info.get(AGAINST) or {}
    return {name: began.get(name, at) if at == run.id else at for name, at in found.items()}


def spent_before(store: Store, run: Run) -> Decimal:
    """What a run that goes on has paid, in USD, judges included, for rows that are no longer there too.

    Answers of other runs cost it nothing. A judging of unknown cost is taken for as dear as the dearest, and
    a call for as dear as it may be: so they were booked.
    """
    booked = usd((run.info.get(PRESUMED) or {}).get("usd"))
    judging, spent = Dearest(), total([booked, *store.replaced(run.id).values()])
    for row in store.trials(run.id):
        spent = EXACT.add(spent, row.known_usd)
        if row.scores:
            booked = judging.learn(row.judging_usd, whole=not row.unknown_judgings)
            spent = EXACT.add(spent, EXACT.subtract(booked, row.judging_usd))
    return spent


def presumed(plan: Plan, store: Store, run: Run) -> Decimal:
    """What a run booked beyond what is known for its calls of unknown cost, those of earlier tries too."""
    before = run.info.get(PRESUMED) or {}
    since = before.get("until", "")  # the earlier rows are in that sum, also those that gave way
    known = {
        row.key: EXACT.subtract(row.known_usd, row.judging_usd)
        for row in store.trials(run.id)
        if row.call_usd is None and row.started_at >= since
    }
    more = (
        max(NO_MONEY, EXACT.subtract(at_worst(plan, target, job), known[job.key]))
        for target in (plan.targets if known else ())
        for job in plan.jobs(target)
        if job.key in known
    )
    return total([usd(before.get("usd")), *more])
