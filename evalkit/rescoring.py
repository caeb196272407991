"""Judge the answers of an earlier run again, without a call: other scorers, or the same after a repair.

The new run has the old one's answers and records, so its latencies and costs are those that were measured.
Rows without an answer stay as they are. What the judges need of the samples is read from the golden set as it
is now; a sample that is gone or has changed is an error row that says so.

Judges that ask a model cost money: the suite's cap holds over them as it does in a run, and so does its
`concurrency`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from evalkit import config
from evalkit.asking import Asker
from evalkit.cap import Cap, Dearest
from evalkit.config import Suite
from evalkit.content import asks_the_same, content, digest
from evalkit.plan import Part, Plan
from evalkit.runner import LOST, Control, Lost
from evalkit.sample import Sample
from evalkit.scoring import Judges
from evalkit.stores import Run, Status, Store, run_id
from evalkit.told import is_whole, told
from evalkit.trial import Failure, Trial
from evalkit.worst import check_prices, judging_at_worst
from evalkit.writer import Writer, write_end
from guardrails.clock import SYSTEM, Clock
from guardrails.errors import BudgetExceeded, ConfigError
from guardrails.source import Loc, Source
from judges.judge import Answer

READ = 64
"""Rows that are read ahead."""

GONE = Failure("sample_gone", "the golden set has no such sample any more", "run the suite instead")
CHANGED = Failure("sample_changed", "the sample is not the one that was answered", "run the suite instead")
OTHERS = frozenset({GONE.kind, CHANGED.kind})
"""The kinds of failure of rows that belong to no sample as it is now."""


@dataclass(frozen=True, slots=True)
class Rescoring:
    """The answers of `old`, the scorers and sets of `plan`."""

    plan: Plan
    store: Store
    old: Run
    _places: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)

    async def run(self, control: Control, clock: Clock = SYSTEM) -> Run:
        """Make a new run of the old one's rows. `control` ends it early; what is judged by then is kept.

        It is as complete as the old one is.
        """
        check_prices(replace(self.plan, user=None))  # nobody plays a user here
        started = clock.wall()
        name, info = self.old.name, {**self.old.info, **self.plan.lineage(), "rescored": self.old.id}
        info["endpoints"] = told(self.old.info.get("endpoints", []))
        planned = self.old.planned or self.old.trials
        fresh = Run(
            run_id(name, started), name, self.plan.digest, "running", started, planned=planned, info=info
        )
        new = await asyncio.to_thread(self.store.create, fresh)
        try:
            through = await self._through(new, control, clock)
            status: Status = self._ended if through else "capped" if control.capped else "interrupted"
            new = replace(new, status=status, ended_at=clock.wall())
            await write_end(self.store, new, clock)
        finally:
            await Asker(self.plan).aclose()  # what judges hold; nobody else is asked
        return new

    async def _through(self, new: Run, control: Control, clock: Clock) -> bool | None:
        """Judge all rows; whether nothing ended it early. What stops it is written down of the run."""
        try:
            with self.store.writing(new.id):
                return await control.carry(self._judged(new.id, control))
        except BaseException:
            stopped = replace(new, status="stopped", ended_at=clock.wall())
            with suppress(ConfigError):  # such as a store that is gone: it is said already
                await asyncio.to_thread(self.store.update, stopped)
            raise

    @property
    def _ended(self) -> Status:
        """How the old run ended: one that somebody is writing just now had not yet."""
        return "stopped" if self.old.status == "running" else self.old.status

    async def _judged(self, run: str, control: Control) -> bool:
        """Judge and keep row after row; whether all of them were."""
        suite = self.plan.suite
        cap = None if suite.budget is None else Cap(suite.budget.max_usd)
        spending = _Spending(control, cap, Dearest(None if self.plan.judges else Decimal(0)))
        rows, kept = _Rows(self.store.trials(self.old.id)), 0
        async with Writer(self.store) as writer:

            async def work() -> None:
                nonlocal kept
                while not control.stopping and (row := await rows.next()) is not None:
                    made = await self._again(row, run, spending)
                    if made is None:
                        return
                    await writer.add(made)
                    kept += 1

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(suite.concurrency):
                        group.create_task(work())
            except* Exception as failed:
                raise failed.exceptions[0] from None
        if kept < rows.read and not control.stopping:
            raise Lost(f"{rows.read - kept:,} of {rows.read:,} rows were lost", hint=LOST)
        return not control.stopping

    async def _again(self, row: Trial, run: str, spending: _Spending) -> Trial | None:
        """The row as it is now; None when there is no money left for it, or a stop came before its turn."""
        part = next((part for part in self.plan.parts if part.golden.name == row.set), None)
        one = None if part is None else self._sample(part, row.sample)
        judges = None if part is None or one is None else part.scoring.judges(one)
        judged = "" if judges is None else judges.digest
        moved = replace(
            row, run=run, key=digest([row.ask or row.key, judged, row.set, row.endpoint, row.prompt])
        )
        if judges is None or one is None:
            return moved if row.answer is None else replace(moved, answer=None, scores={}, error=GONE)
        plain, tags = one.plain(), any(prompt.tagged for prompt in self.plan.prompts)
        if row.content and not asks_the_same(row.content, plain, tags=tags):
            return moved if row.answer is None else replace(moved, answer=None, scores={}, error=CHANGED)
        if row.content:  # what it is judged by now may be another, and a failed call counts by it too
            moved = replace(moved, content=content(plain), tags=one.tags, weight=one.weight)
        if row.answer is None:
            return moved
        least = judging_at_worst(self.plan, judges.made, one.question(), row.answer.text)
        return await spending.within(_judging(moved, row.answer, one, judges), least)

    def _sample(self, part: Part, name: str) -> Sample | None:
        places = self._places.get(part.golden.name)
        if places is None:
            numbered = enumerate(part.golden.samples)
            places = self._places[part.golden.name] = {each.id: number for number, each in numbered}
        place = places.get(name)
        return None if place is None else part.golden.samples[place]


def _judging(row: Trial, answer: Answer, one: Sample, judges: Judges) -> Callable[[], Awaitable[Trial]]:
    async def judge() -> Trial:
        return replace(row, scores=await judges.score(one.question(), answer))

    return judge


@dataclass(slots=True)
class _Rows:
    """Rows one by one, for whoever asks next; they are read a few at a time and off the event loop."""

    pending: Iterator[Trial]
    read: int = 0
    _ready: Iterator[Trial] = field(default_factory=lambda: iter(()))
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def next(self) -> Trial | None:
        """None when there are no more."""
        async with self._one:
            row = next(self._ready, None)
            if row is None:
                self._ready = iter(await asyncio.to_thread(list, islice(self.pending, READ)))
                row = next(self._ready, None)
            self.read += row is not None
            return row


@dataclass(frozen=True, slots=True)
class _Spending:
    """The suite's cap over what judges cost. What one costs shows only afterwards: see `evalkit.cap`."""

    control: Control
    cap: Cap | None
    judging: Dearest

    async def within(self, judge: Callable[[], Awaitable[Trial]], least: Decimal) -> Trial | None:
        """Do it if the cap allows; None, and the end of it all, where it is reached. `least` is set aside."""
        if self.cap is None:
            return await judge()
        try:
            async with self.judging.guess() as most, self.cap.hold(max(most, least)) as held:
                if self.control.stopping:
                    held.cost = Decimal(0)
                    return None
                made = await judge()
                held.cost = self._learnt(made)
        except BudgetExceeded:
            self.control.capped = True
            self.control.stop()
            return None
        return made

    def _learnt(self, made: Trial) -> Decimal:
        if made.scores:
            return self.judging.learn(made.judging_usd, whole=not made.unknown_judgings)
        self.judging.skip()
        return Decimal(0)


# --- what is judged again, and by whom ---------------------------------------------------------------------


def kept_suite(old: Run, options: Mapping[str, Any]) -> tuple[Suite, Path]:
    """The suite of a run as it was kept, and its folder; `options` replace fields of it.

    Keys and headers of the judges' models are never kept. Raises `ConfigError` where that is in the way.
    """
    folder = Path(str(old.info.get("folder", ".")))
    found = _listed(old.info.get("judges"))
    judges = {str(each.get("name")): {n: v for n, v in each.items() if n != "name"} for each in found}
    asked = [each["name"] for each in _listed(old.info.get("endpoints")) if each.get("name")]
    lacking = sorted(name for name, about in judges.items() if not is_whole(about))
    suite = old.info.get("suite")
    kept = {
        **(suite if isinstance(suite, Mapping) else {}),
        "judges": {name: about for name, about in judges.items() if name not in lacking},
        **options,
        "endpoints": [{"name": name, "url": "http://kept/v1"} for name in asked or ["kept"]],
    }
    lines: dict[Loc, int] = {("judges", name): 1 for name in judges}  # their files lie in its folder
    try:
        return config.check(Source(str(folder / f"the suite of {old.id}"), kept, lines), folder), folder
    except ConfigError as error:
        if not lacking and options.keys() & {"scorers", "gates"}:
            raise  # it is of those: the suite itself was sound
        way = f"name the suite: evalkit rescore {old.id} --suite FILE"
        why = f"keys and headers are not kept, such as those of {', '.join(lacking)}: " if lacking else ""
        raise ConfigError(error.message, hint=why + way) from None


def _listed(kept: Any) -> list[Mapping[str, Any]]:
    return [each for each in kept if isinstance(each, Mapping)] if isinstance(kept, list | tuple) else []


def origin(store: Store, run: Run) -> str:
    """The run that made the calls whose answers a run holds: the first in a row of rescorings."""
    seen = [run.id]
    while source := run.info.get("rescored"):
        if source in seen:
            break
        seen.append(str(source))
        try:
            run = store.find(seen[-1])
        except ConfigError:
            break  # it was deleted
        if run.id != seen[-1]:
            break  # another one, whose name begins like that
    return seen[-1]


def resumable(store: Store, name: str) -> Run:
    """The run of that name. Raises `ConfigError` for one that asked nobody: it cannot be gone on with."""
    found = store.find(name)
    if source := found.info.get("rescored"):
        raise ConfigError(
            f"the run {found.id} judged the answers of {source} again: it made no calls to go on with",
            hint=f"`evalkit run SUITE --resume {origin(store, found)}` asks again what failed, "
            f"`evalkit rescore {source}` judges again",
        )
    return found
