"""A run at the command line: bar, Ctrl-C, table, files, exit code."""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit import report, view
from evalkit.config import Suite
from evalkit.evaluate import Outcome, evaluate
from evalkit.plan import Plan
from evalkit.runner import Control
from evalkit.store import Run
from guardrails.clock import SYSTEM
from guardrails.errors import ConfigError, GuardrailsError

if TYPE_CHECKING:
    from rich.console import Console


GATE_FAILED = 1
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Session:
    """A plan, the run that keeps its rows, and the consoles: results go to `out`, the rest to `err`."""

    plan: Plan
    store: Run
    out: Console
    err: Console

    @classmethod
    def of(
        cls, suite: Suite, folder: Path | None, *, resume: str | None, consoles: tuple[Console, Console]
    ) -> Session:
        """Make the plan, then a new run or the one to go on with. Nothing is left behind by a bad plan."""
        plan = Plan.of(suite, folder=folder)
        if resume is None:
            store = Run.create(suite.out, plan.golden.name, SYSTEM.wall())
        else:
            store = Run.find(suite.out, resume)
        return cls(plan, store, *consoles)

    def run(self, *, html: Path | None, json: Path | None, command: Sequence[str], banner: str = "") -> int:
        """Do it and show it; the exit code. `command` is the one that `--resume` can be added to, if any."""
        outcome = asyncio.run(self._run())
        self.show(outcome)
        if html is not None:
            report.write(html, content(outcome, banner))
            self._say(f"report: {html}")
        if json is not None:
            _write_json(json, outcome)
        self._say(f"rows: {self.store.trials_path}")
        if outcome.status == "interrupted":
            left = self.plan.size - len(outcome.rows)
            self.err.print(f"interrupted with {left:,} of {self.plan.size:,} calls left.", highlight=False)
            if command:
                again = shlex.join([*command, "--resume", self.store.id])
                self.err.print(f"Go on with:\n  {again}", markup=False, highlight=False, soft_wrap=True)
            return INTERRUPTED
        if all(row.error is not None for row in outcome.rows):
            raise GuardrailsError(
                "no call brought an answer", hint="see the failures above; nothing was measured"
            )
        return 0 if outcome.passed else GATE_FAILED

    async def _run(self) -> Outcome:
        control = Control()
        task = asyncio.current_task()
        assert task is not None
        kept = self.plan.current(self.store.trials())
        if done := sum(row.done for row in kept):
            self._say(f"going on: {done:,} of {self.plan.size:,} calls are done already")
        done_keys = frozenset(row.key for row in kept if row.done)
        totals = {target.name: 0 for target in self.plan.targets}
        for job in self.plan.jobs(done_keys):
            totals[job.target.name] += 1
        with view.progress(self.err, totals) as seen, self._interruptible(control, task):
            return await evaluate(self.plan, store=self.store, seen=seen, control=control)

    @contextmanager
    def _interruptible(self, control: Control, task: asyncio.Task[object]) -> Iterator[None]:
        """The first Ctrl-C finishes what is in flight, the second drops it."""

        def interrupt() -> None:
            if control.stopping:
                task.cancel()
                return
            control.stop()
            self.err.print("stopping: finishing what is in flight (Ctrl-C again to quit at once)")

        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGINT, interrupt)
        except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt there; stored rows stay
            yield
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def show(self, outcome: Outcome) -> None:
        """Print table, verdicts, gates and hints."""
        if not outcome.rows:
            return
        view.table(self.out, outcome.endpoints)
        view.comparisons(self.out, outcome.comparisons)
        view.gates(self.out, outcome.gates)
        view.hints(self.err, outcome.rows)

    def _say(self, text: str) -> None:
        self.err.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def content(outcome: Outcome, banner: str = "") -> report.Content:
    """What the report shows of an outcome."""
    return report.Content(
        info=outcome.store.info(),
        rows=outcome.rows,
        endpoints=outcome.endpoints,
        comparisons=outcome.comparisons,
        gates=outcome.gates,
        references={sample.id: sample.references for sample in outcome.plan.samples},
        banner=banner,
    )


def _write_json(path: Path, outcome: Outcome) -> None:
    import orjson

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            orjson.dumps(outcome.as_dict(), default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
        )
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
