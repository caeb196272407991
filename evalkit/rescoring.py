"""Judge the answers of an earlier run again, without a call: other scorers, or the same after a repair.

The new run has the old one's answers and records, so its latencies and costs are those that were measured.
Rows without an answer stay as they are. What the judges need of the samples is read from the golden set as it
is now; a sample that is gone or has changed is an error row that says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from evalkit.asking import Asker
from evalkit.plan import Part, Plan, digest
from evalkit.runner import Control
from evalkit.sample import Sample
from evalkit.stores import Run, Status, Store, run_id
from evalkit.told import told
from evalkit.trial import Failure, Trial
from guardrails.clock import SYSTEM, Clock
from judges.judge import Answer

AT_ONCE = 64

GONE = Failure("sample_gone", "the golden set has no such sample any more", "run the suite instead")
CHANGED = Failure("sample_changed", "the sample is not the one that was answered", "run the suite instead")


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
        started = clock.wall()
        name, info = self.old.name, {**self.old.info, **self.plan.lineage(), "rescored": self.old.id}
        info["endpoints"] = told(self.old.info.get("endpoints", []))
        planned = self.old.planned or self.old.trials
        fresh = Run(
            run_id(name, started), name, self.plan.digest, "running", started, planned=planned, info=info
        )
        new = await asyncio.to_thread(self.store.create, fresh)
        status: Status = "stopped"
        try:
            with self.store.writing(new.id):
                through = await control.carry(self._judged(new.id, control))
            status = self._ended if through else "interrupted"
        finally:
            new = replace(new, status=status, ended_at=clock.wall())
            await asyncio.to_thread(self.store.update, new)
            await Asker(self.plan).aclose()  # what judges hold; nobody else is asked
        return new

    @property
    def _ended(self) -> Status:
        """How the old run ended: one that somebody is writing just now had not yet."""
        return "stopped" if self.old.status == "running" else self.old.status

    async def _judged(self, run: str, control: Control) -> bool:
        """Judge and keep one chunk after the other; whether all of them were."""
        rows: Iterator[Trial] = iter(self.store.trials(self.old.id))
        while not control.stopping:
            chunk = await asyncio.to_thread(list, islice(rows, AT_ONCE))
            if not chunk:
                return True
            made = await asyncio.gather(*(self._again(row, run) for row in chunk))
            await asyncio.to_thread(self.store.append, made)
        return False

    async def _again(self, row: Trial, run: str) -> Trial:
        part = next((part for part in self.plan.parts if part.golden.name == row.set), None)
        one = None if part is None else self._sample(part, row.sample)
        judged = "" if part is None or one is None else part.scoring.digest(one)
        moved = replace(row, run=run, key=digest([row.ask, judged, row.set, row.endpoint, row.prompt]))
        if row.answer is None:
            return moved
        if part is None or one is None:
            return replace(moved, answer=None, scores={}, error=GONE)
        if row.content and digest(one.plain()) != row.content:
            return replace(moved, answer=None, scores={}, error=CHANGED)
        answer: Answer = row.answer
        scores = await part.scoring.judges(one).score(one.question(), answer)
        return replace(moved, scores=scores)

    def _sample(self, part: Part, name: str) -> Sample | None:
        places = self._places.get(part.golden.name)
        if places is None:
            numbered = enumerate(part.golden.samples)
            places = self._places[part.golden.name] = {each.id: number for number, each in numbered}
        place = places.get(name)
        return None if place is None else part.golden.samples[place]
