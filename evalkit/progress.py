"""What a run looks like while it runs: a bar an arm on a terminal, else a plain line now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.markup import escape as _escape

from evalkit.stats import score_interval
from evalkit.trial import Trial
from guardrails.clock import SYSTEM, Clock
from guardrails.record import EXACT

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID
    from rich.table import Table

EVERY = 10.0
"""Seconds between two plain lines; a tenth of the run done brings one too, but see `LEAST`."""

LEAST = 1.0
"""Seconds that pass between two plain lines all the same, so that a quick run does not fill a log."""

FRAME = 0.1
"""Seconds between two changes of the bar: drawing each row would cost more than asking."""

ALL = "all"
"""The line of the whole run, which has the cap of its cost."""


def escape(text: str) -> str:
    """Text of others (a model's name, a message) as it may go to a terminal: no markup, no control codes."""
    return _escape(printable(text))


def printable(text: str) -> str:
    """Without control codes, and what no file can hold."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _usd(value: Decimal) -> str:
    from evalkit.words import usd

    return usd(float(value))


@dataclass(slots=True)
class Tally:
    """What has come in so far for one arm, which is asked every sample `answers` times.

    `judged` and `passed` count samples by their weights, whose squares `squared` adds up.
    What was asked before `since` (UTC, as a record has it) was paid and waited for then: such a row is only
    judged again now.
    """

    total: int
    answers: int = 1
    cap: Decimal | None = None
    since: str = ""
    done: int = 0
    judged: float = 0.0
    passed: float = 0.0
    squared: float = 0.0
    errors: int = 0
    tokens: float = 0.0
    cost: Decimal = Decimal(0)
    priced: bool = False
    unknown: bool = False

    def add(self, row: Trial) -> None:
        """Count a row."""
        passed = row.passed
        self.done += 1
        if passed is not None:
            self.judged += row.weight
            self.passed += row.weight * passed
            self.squared += row.weight * row.weight
        self.errors += row.error is not None
        self.unknown = self.unknown or row.unknown_judgings > 0
        asked = "" if row.record is None else str(row.record.get("at") or "")
        if row.cached or "" < asked < self.since:
            self.cost = EXACT.add(self.cost, row.judging_usd)
            self.priced = True  # it costs this run nothing but that, which is no unknown cost
            return
        self.cost = EXACT.add(self.cost, row.known_usd)
        self.tokens += row.number("output_tokens") or 0.0
        if row.record is not None:
            self.priced = self.priced or row.record.get("cost_usd") is not None
            self.unknown = self.unknown or row.call_usd is None

    def shown(self, seconds: float) -> dict[str, Any]:
        """The numbers of the bar. Several answers a sample make an interval no narrower than one would, and
        wider than the tables do, which know how alike they are."""
        rate = ""
        if self.judged:
            p = min(1.0, self.passed / self.judged)
            worth = self.judged**2 / self.squared  # answers of equal weight
            low, high = score_interval(p, max(1.0, worth / self.answers))
            rate = f"{100 * p:.0f}% [{100 * low:.0f},{100 * high:.0f}]"
        cost = "cost ?"
        if self.cost or (self.priced and not self.unknown):
            cost = _usd(self.cost) + (" + ?" if self.unknown else "")
        left = self.total - self.done
        return {
            "rate": rate,
            "speed": f"{self.tokens / seconds:,.0f} tok/s" if seconds > 0 else "",
            "cost": cost if self.cap is None else f"{cost} of {_usd(self.cap)}",
            "eta": f"ETA {_minutes(seconds * left / self.done)}" if self.done and left > 0 else "",
            "errors": f"{self.errors:,} err" if self.errors else "",
        }


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(slots=True)
class _Tallies:
    """All tallies. `whole` is there when the run has a cap."""

    arms: dict[str, Tally]
    answers: int
    whole: Tally | None
    since: str

    def add(self, row: Trial) -> None:
        """Count a row."""
        name = next((name for name in (row.arm, row.endpoint, ALL) if name in self.arms), row.arm)
        self.arms.setdefault(name, Tally(0, self.answers, since=self.since)).add(row)
        if self.whole is not None:
            self.whole.add(row)

    def lines(self) -> dict[str, Tally]:
        return self.arms if self.whole is None else {**self.arms, ALL: self.whole}


@contextmanager
def progress(
    console: Console,
    totals: Mapping[str, int],
    *,
    answers: int = 1,
    cap: Decimal | None = None,
    clock: Clock = SYSTEM,
) -> Iterator[Callable[[Trial], None]]:
    """Show a run as its rows come in: call what this gives with each.

    `totals`: calls by arm, or of `ALL`, each sample being asked `answers` times. `cap`: USD that the run may
    cost.
    """
    since = clock.wall().isoformat(timespec="milliseconds")
    tallies = _Tallies(
        {name: Tally(total, answers, since=since) for name, total in totals.items()},
        answers,
        None if cap is None else Tally(sum(totals.values()), answers, cap, since),
        since,
    )
    if console.is_terminal:
        with _bar(console) as bar:
            live = _Live(bar, tallies, clock)
            yield live.add
            live.draw()
    else:
        plain = _Plain(console, tallies, clock)
        yield plain.add
        plain.say()


_BLANK: dict[str, Any] = {"rate": "", "speed": "", "cost": "", "errors": "", "eta": ""}
_ORDER = ("name", "bar", "done", "rate", "errors", "speed", "cost", "eta")
_STYLES = {"rate": "green", "errors": "red"}
_DROPPED = ("bar", "speed", "eta", "cost", "errors")
"""What a narrow terminal loses, in this order: how many are done, and the pass rate, are always whole."""
_SHORT = 12
"""A name is cut to so many characters before anything is dropped for it."""
_LEAST_NAME = 4
_LEAST_BAR = 8


def _bar(console: Console) -> Progress:
    from rich.progress import Progress

    class Fitting(Progress):
        """Rich's own columns shrink together: there, what matters most would be cut first."""

        def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
            return _lines(list(tasks), console.width)

    return Fitting(console=console, expand=True)


def _lines(tasks: Sequence[Task], width: int) -> Table:
    """A line a task, no wider than `width`."""
    from rich.cells import cell_len
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    cells = [_cells(task) for task in tasks]
    texts = [name for name in _ORDER if name != "bar"]
    wide = {name: max((cell_len(each[name]) for each in cells), default=0) for name in texts}
    fitted = fitting(wide, width)
    grid = Table.grid(padding=(0, 1, 0, 0))
    for name, columns in fitted.items():
        right = name in ("done", "speed", "cost", "eta")
        justify: Literal["left", "right"] = "right" if right else "left"
        grid.add_column(width=columns, no_wrap=True, overflow="ellipsis", justify=justify)
    for task, each in zip(tasks, cells, strict=True):
        bar = ProgressBar(
            total=task.total, completed=task.completed, width=fitted.get("bar"), pulse=not task.total
        )
        said = {name: Text(text, style=_STYLES.get(name, "")) for name, text in each.items()}
        grid.add_row(*(bar if name == "bar" else said[name] for name in fitted))
    return grid


def _cells(task: Task) -> dict[str, str]:
    of = "?" if task.total is None else f"{int(task.total)}"
    return {"name": task.description, "done": f"{int(task.completed)}/{of}", **task.fields}


def fitting(wide: Mapping[str, int], width: int) -> dict[str, int]:
    """The columns that a terminal of `width` has room for, each with its own, from what each would take.

    Names are cut first, then columns are dropped; what is left over is a name's, and then the bar's.
    """
    least = {**wide, "name": min(wide["name"], _SHORT), "bar": _LEAST_BAR}
    kept = [name for name in _ORDER if least[name]]

    def taken() -> int:
        return sum(least[name] + 1 for name in kept)  # a space after each

    for name in _DROPPED:
        if taken() > width and name in kept:
            kept.remove(name)
    if (over := taken() - width) > 0 and "name" in kept:
        least["name"] -= over
        if least["name"] < _LEAST_NAME:
            kept.remove("name")
    spare = max(0, width - taken())
    found = {name: least[name] for name in kept}
    for name, most in (("name", wide["name"]), ("bar", width)):
        if name in found:
            more = min(spare, most - found[name])
            found[name] += more
            spare -= more
    return found


@dataclass(slots=True)
class _Live:
    bar: Progress
    tallies: _Tallies
    clock: Clock
    began: float = field(init=False)
    drawn: float = field(init=False)
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began = self.drawn = self.clock.now()
        for name, tally in self.tallies.lines().items():
            self._task(name, tally)

    def _task(self, name: str, tally: Tally) -> TaskID:
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(printable(name), total=tally.total or None, **_BLANK)
        return self.tasks[name]

    def add(self, row: Trial) -> None:
        self.tallies.add(row)
        if self.clock.now() - self.drawn >= FRAME:
            self.draw()

    def draw(self) -> None:
        self.drawn = self.clock.now()
        for name, tally in self.tallies.lines().items():
            shown = tally.shown(self.drawn - self.began)
            self.bar.update(self._task(name, tally), completed=tally.done, **shown)


@dataclass(slots=True)
class _Plain:
    console: Console
    tallies: _Tallies
    clock: Clock
    began: float = field(init=False)
    said: float = field(init=False)
    total: int = field(init=False)
    done: int = 0
    said_done: int = 0

    def __post_init__(self) -> None:
        self.began = self.said = self.clock.now()
        self.total = sum(tally.total for tally in self.tallies.arms.values())

    def add(self, row: Trial) -> None:
        self.tallies.add(row)
        self.done += 1
        since = self.clock.now() - self.said
        tenth = self.total >= 100 and (self.done - self.said_done) * 10 >= self.total
        if since >= EVERY or (tenth and since >= LEAST):
            self.say()

    def say(self) -> None:
        if self.done == self.said_done:
            return
        self.said, self.said_done = self.clock.now(), self.done
        for name, tally in self.tallies.lines().items():
            parts = [part for part in tally.shown(self.said - self.began).values() if part]
            of = f"/{tally.total}" if tally.total else ""
            line = f"{escape(name)}: {tally.done}{of}  {'  '.join(parts)}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
