"""A run at the command line: bar, Ctrl-C, table, files, exit code."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evalkit import progress, view
from evalkit.against import moved
from evalkit.config import Suite
from evalkit.evaluate import AGAINST, Outcome, arms_of, baselines, carry_out, check_rows, conclude
from evalkit.files import GONE, INTERRUPTED, NOTHING, Ended, Files, left, placed, sentence
from evalkit.fitting import doubts
from evalkit.gate import BASELINE
from evalkit.interrupt import interruptible, leaving
from evalkit.no_verdict import no_verdict
from evalkit.plan import Plan
from evalkit.repeat import going_on
from evalkit.report_end import capped
from evalkit.rescoring import Rescoring, kept_suite, resumable
from evalkit.runner import Control
from evalkit.stores import Run, Store, check_tags, open_store
from guardrails.errors import ConfigError, GuardrailsError

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.asking import Executor
    from evalkit.report import Content

CODES = {"pass": 0, "fail": 1, "undecided": 3}
SAID = {
    "capped": "the cost cap is reached: the numbers are of what was asked until then",
    "interrupted": "the run was interrupted: the numbers are of what was asked until then",
    "stopped": "the run stopped before it was complete",
}


@dataclass(frozen=True, slots=True)
class Session:
    """A plan, the run to go on with if any, and the consoles: results go to `out`, the rest to `err`."""

    plan: Plan
    store: Store
    resumed: Run | None
    out: Console
    err: Console

    @classmethod
    def of(
        cls,
        suite: Suite,
        folder: Path | None,
        *,
        consoles: tuple[Console, Console],
        resume: str | None = None,
        fresh: bool = False,
    ) -> Session:
        """Make the plan, and find the run to go on with: the one named, or the last of the same, unfinished.

        Nothing is left behind by a bad plan.
        """
        if resume is not None and fresh:
            raise ConfigError(
                "--resume goes on with a run and --fresh begins one", hint="leave one of them out"
            )
        plan = Plan.of(suite, folder=folder)
        store = open_store(suite.database, create=resume is None)
        found = None
        if resume is not None:
            found = resumable(store, resume)
            check_rows(plan, store, found)
        elif not fresh:
            found = _unfinished(plan, store)
        return cls(plan, store, found, *consoles)

    def run(
        self,
        files: Files = NOTHING,
        *,
        command: Sequence[str] = (),
        banner: str = "",
        executor: Literal["local", "ray"] = "local",
        tags: Sequence[str] = (),
    ) -> int:
        """Do it and show it; the exit code. `command` is the one that `--resume` can be added to, if any.

        `tags` are moved to a run that passes.
        """
        # What is loaded by now stays: collections, and the interpreter's own end, need not walk it.
        gc.freeze()
        outcome = None
        with leaving(partial(left, self.err, files, why=GONE)) as leaves, closing(self.store):
            try:
                with files.refusing():
                    check_tags(tags)
                    files.check()
                    files.clear()
                kept, earlier = self._carried_out(executor, files, banner, leaves)
                # Here no event loop stands between Ctrl-C and the summing up, which may take its time.
                with files.refusing():
                    outcome = conclude(self.plan, self.store, kept, earlier)
                interrupted = outcome.status == "interrupted"
                code = self.finish(outcome, files, banner=banner, interrupted=interrupted)
                self._tag(kept.id, tags, passed=code == 0)
                if command and (interrupted or outcome.status == "capped"):
                    self._go_on(command, kept.id, capped=not interrupted)
                return code
            except KeyboardInterrupt:
                return left(self.err, files, results=outcome is not None)

    def _go_on(self, command: Sequence[str], run: str, *, capped: bool) -> None:
        again, lacking = going_on(command, run, capped=capped)
        how = "Raise the cap, and go on with" if capped else "Go on with"
        self.err.print(f"{how}{lacking}:\n  {again}", markup=False, highlight=False, soft_wrap=True)

    def _carried_out(
        self, executor: str, files: Files, banner: str, leaves: Callable[[], None]
    ) -> tuple[Run, Mapping[str, str]]:
        """Make the calls. An error that ends them is said in the files too, with what there is by then."""
        begun: list[Run] = []  # one, if it got so far
        try:
            return asyncio.run(self._run(executor, begun.append, leaves))
        except Exception as error:
            self._told(begun, files, banner, sentence(error))
            raise

    def _told(self, begun: Sequence[Run], files: Files, banner: str, why: str) -> None:
        for run in begun:
            with suppress(GuardrailsError):  # such as a full disk, by which it may have ended
                kept = self.store.find(run.id)
                outcome = conclude(self.plan, self.store, kept, kept.info.get(AGAINST) or {})
                ended = replace(outcome.run, info={**outcome.run.info, "error": why})
                self._write(replace(outcome, run=ended), files, banner, Ended(why))
                return
        files.refuse(why)

    def _tag(self, run: str, tags: Sequence[str], *, passed: bool) -> None:
        if not tags:
            return
        if passed:
            self.store.tag(run, add=tags, move=True)
            self._say(f"tagged {', '.join(tags)}")
        else:
            self._warn(f"not tagged {', '.join(tags)}: only a run that passes (exit code 0) is")

    def finish(self, outcome: Outcome, files: Files, *, banner: str = "", interrupted: bool = False) -> int:
        """Show what a run came to, write its files; the exit code."""
        self.show(outcome)
        self._say(f"run: {outcome.run.id} in {self.store.place}")
        unwritten = self._write(outcome, files, banner, _ended(outcome, interrupted))
        if interrupted:
            planned = outcome.run.planned
            what = "rows" if outcome.run.info.get("rescored") else "calls"
            rest = planned - len(outcome.columns)
            self.err.print(f"interrupted with {rest:,} of {planned:,} {what} left.", highlight=False)
            return INTERRUPTED
        if said := capped(outcome) if outcome.status == "capped" else SAID.get(outcome.status):
            self.err.print(said, markup=False, highlight=False, soft_wrap=True)
        if (trouble := outcome.trouble) is not None:
            raise no_verdict(outcome, trouble)
        if unwritten is not None:
            raise unwritten
        return CODES[outcome.verdict]

    async def _run(
        self, executor: str, begun: Callable[[Run], None], leaves: Callable[[], None]
    ) -> tuple[Run, Mapping[str, str]]:
        control = Control()
        total = self.plan.size // len(self.plan.targets) // len(self.plan.prompts)
        done = 0 if self.resumed is None else len(await asyncio.to_thread(self.store.done, self.resumed.id))
        if self.resumed is not None:
            self._say(
                f"going on with {self.resumed.id}: {done:,} of {self.plan.size:,} calls are done already"
            )
        for doubt in doubts(self.plan):
            self._warn(doubt)
        totals = dict.fromkeys(self.plan.arm_names, total)
        if done:  # which arms they are of is not known before the rows are read
            totals = {"all": self.plan.size - done}
        suite = self.plan.suite
        cap = None if suite.budget is None else suite.budget.max_usd
        bar = progress.progress(self.err, totals, answers=suite.sampling.n, cap=cap)
        made = self._executor(executor)  # before the signals are ours: Ray would take SIGTERM for itself
        with bar as seen, interruptible(control, self.err.print, leaves):
            return await carry_out(
                self.plan,
                self.store,
                resume=self.resumed,
                begun=begun,
                seen=seen,
                control=control,
                executor=made,
            )

    def _executor(self, name: str) -> Executor | None:
        if name == "local":
            return None
        from evalkit.executors.ray import RayExecutor

        return RayExecutor.of(self.plan)

    def show(self, outcome: Outcome) -> None:
        """Print table, verdicts, gates and hints."""
        if not len(outcome.columns):
            return
        from evalkit.ci import plain

        view.table(self.out, outcome.endpoints, rescored=bool(outcome.run.info.get("rescored")))
        view.comparisons(self.out, outcome.comparisons)
        view.gates(self.out, plain.gates(outcome), plain.open_gates(outcome))
        view.hints(self.err, outcome.columns)
        for warning in outcome.warnings:
            self._warn(warning)

    def _write(self, outcome: Outcome, files: Files, banner: str, ended: Ended | None) -> ConfigError | None:
        """Write each file that can be written; what was wrong with the first one that could not."""
        run = outcome.run

        def html(path: Path) -> None:
            from evalkit import report

            report.write(path, content(outcome, banner))
            self._say(f"report: {path}")

        def xml(path: Path) -> None:
            from evalkit.ci import junit, plain

            sound = outcome.trouble is None  # else no gate counts, whatever it says
            said = self.plan.suite.undecided if sound else "report"
            several = any(e.repeats is not None for e in outcome.endpoints)
            told: dict[str, Any] = {"warnings": outcome.warnings, "undecided": said, "ended": ended}
            decided = outcome.gates if sound else plain.gates(outcome)
            junit.write(path, self.store.trials(run.id), decided, name=run.id, several=several, **told)

        def summary(path: Path) -> None:
            from evalkit.ci import markdown

            failing = self.store.trials(run.id, failing=True, limit=markdown.MAX_FAILING)
            write = markdown.append if files.adds else markdown.write
            write(path, outcome, failing, title=run.name)

        def numbers(path: Path) -> None:
            _write_json(path, outcome)

        wrong = None
        made = (files.html, html), (files.json, numbers), (files.junit, xml), (files.markdown, summary)
        for path, write in made:
            try:
                if path is not None:
                    write(path)
            except ConfigError as error:
                wrong = wrong or error
        return wrong

    def _warn(self, text: str) -> None:
        self.err.print(f"[yellow]warning:[/] {progress.escape(text)}", highlight=False, soft_wrap=True)

    def _say(self, text: str) -> None:
        self.err.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def rescored(
    name: str, suite: Path | None, options: Mapping[str, Any], files: Files, consoles: tuple[Console, Console]
) -> int:
    """Judge the answers of a run again, and show what that comes to; the exit code.

    `options` are fields of a suite that replace those of the run, or of the file `suite`.
    """
    from guardrails.clock import SYSTEM

    try:
        with files.refusing():
            store, old, plan = _rescoring(name, suite, options)
    except KeyboardInterrupt:
        return left(consoles[1], files)
    control, outcome = Control(), None

    async def again(leaves: Callable[[], None]) -> tuple[Run, Mapping[str, str]]:
        earlier = await asyncio.to_thread(baselines, plan, store, old=old, arms=arms_of(old))
        called = {**{name: name for name in earlier}, BASELINE: plan.suite.baseline or ""}
        for line in await asyncio.to_thread(lambda: list(moved(store, called, earlier))):
            consoles[1].print(line, markup=False, highlight=False, soft_wrap=True)
        with interruptible(control, consoles[1].print, leaves):
            return await Rescoring(plan, store, old).run(control, SYSTEM), earlier

    with leaving(partial(left, consoles[1], files, why=GONE)) as leaves, closing(store):
        try:
            with files.refusing():
                files.check()
                files.clear()
                outcome = conclude(plan, store, *asyncio.run(again(leaves)))
            interrupted = control.stopping and outcome.status == "interrupted"
            return Session(plan, store, None, *consoles).finish(outcome, files, interrupted=interrupted)
        except KeyboardInterrupt:
            return left(consoles[1], files, results=outcome is not None)


def _rescoring(name: str, suite: Path | None, options: Mapping[str, Any]) -> tuple[Store, Run, Plan]:
    """The store, the run that is judged again, and the plan of that."""
    from evalkit import config

    database = str(options.get("store") or Path(options["out"]) / "runs.db")
    store = open_store(database, create=False)
    old = store.find(name)
    if options.get("baseline"):  # what it means now, and not what the run was held against
        options = {**options, "baseline": store.find(str(options["baseline"])).id}
    if suite is not None:
        made, folder = config.load(suite, **options), suite.parent
    else:
        made, folder = kept_suite(old, options)
    return store, old, Plan.of(made, targets=(), folder=folder)


def _unfinished(plan: Plan, store: Store) -> Run | None:
    """The last run of the same plan, held from now on, unless it is complete, or cannot be gone on with."""
    found = next(iter(store.runs(digest=plan.digest, limit=1)), None)
    if found is None or found.status == "complete" or not store.reserve(found.id):
        return None  # another job may run the same suite just now: this is a run of its own
    try:
        found = store.find(found.id)  # that job may have come to its end in the meantime
        if found.status != "complete":
            check_rows(plan, store, found)
            return found
    except ConfigError:
        pass  # another version of evalkit judged otherwise; or it was deleted
    with store.writing(found.id):
        return None  # and free again


def _ended(outcome: Outcome, interrupted: bool) -> Ended | None:
    """What of a run's end is in none of its rows; None of one that is complete and sound."""
    if (trouble := outcome.trouble) is not None and not interrupted:
        return Ended(no_verdict(outcome, trouble).message)
    said = SAID.get(outcome.status)
    return None if said is None else Ended(said, failed=interrupted)


def content(outcome: Outcome, banner: str = "") -> Content:
    """What the report shows of an outcome."""
    from evalkit.ci import plain
    from evalkit.report import Content

    run = outcome.run
    info = {**run.info, "run": run.id, "status": run.status, "started_at": run.started_at.isoformat()}
    return Content(
        info=info,
        columns=outcome.columns,
        endpoints=outcome.endpoints,
        comparisons=outcome.comparisons,
        gates=plain.gates(outcome),
        rows=outcome.store.trials(run.id),
        asked=outcome.plan.asked,
        banner=banner,
        warnings=outcome.warnings,
        trouble=outcome.trouble,
    )


def _write_json(path: Path, outcome: Outcome) -> None:
    from evalkit.stores.codec import page

    numbers = page(outcome.as_dict())
    with placed(path) as file:
        file.write(numbers)
