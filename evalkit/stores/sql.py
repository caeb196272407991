"""The store over SQLAlchemy Core: everything in which SQLite and PostgreSQL are alike.

Rows come in through one statement that is compiled once; the driver gets a batch of tuples as they are. They
go out in pieces, each in a short transaction of its own: a slow reader holds nobody back, and a run of any
length is read in flat memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from decimal import Decimal
from operator import itemgetter
from typing import Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy import update as updating
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from evalkit.stores import codec, tables
from evalkit.stores.codec import loaded, original, plain
from evalkit.stores.statements import add_tags, insert, reach, upsert
from evalkit.stores.store import Kept, Run, RunGone, RunHeld, Tally, check_tags, damaged
from evalkit.trial import Trial
from guardrails.errors import ConfigError
from guardrails.record import NO_MONEY, total
from judges.judge import Answer

PIECE = 100
"""Rows that are read at a time, at most."""
AT_ONCE = 500
"""Values in one `IN (…)`."""
DIGITS = 12
"""Decimal places of a sum of money: what is beyond is the noise of adding."""

_IN_RUNS = tables.runs.c
_IN_TRIALS = tables.trials.c


class Locks(Protocol):
    """Who writes which run."""

    def claim(self, run: str, /) -> AbstractContextManager[None]:
        """Hold a run against other processes. Raises `RunHeld`."""

    def keep(self, run: str, /) -> None:
        """See that a claimed run still is ours; there is nothing to see of others. Raises `RunHeld`."""

    def held(self, run: str, /) -> bool:
        """Whether any process seems to hold the run."""


class SqlStore:
    """Runs in a database. `words` explains a driver's error."""

    def __init__(
        self,
        engine: Engine,
        place: str,
        locks: Locks,
        words: Callable[[SQLAlchemyError], ConfigError],
    ) -> None:
        self._engine = engine
        self._writer = engine.execution_options(writes=True)
        self._place = place
        self._locks = locks
        self._words = words
        self._keep = upsert(engine)
        self._reserved: dict[str, ExitStack] = {}
        # Whoever forgets a store has not closed it: its connections end with it, and not some time later.
        weakref.finalize(self, engine.dispose)

    def __repr__(self) -> str:
        return f"SqlStore({self._place})"

    @property
    def place(self) -> str:
        """Where it is, for people: a path or a URL without its password."""
        return self._place

    # --- runs

    def create(self, run: Run) -> Run:
        """Keep a new run; its id gets a number when it is taken."""
        made = insert(self._engine)(tables.runs).on_conflict_do_nothing().returning(_IN_RUNS.id)
        with self._writes() as connection:
            for number in range(1, 10_000):
                kept = run if number == 1 else replace(run, id=f"{run.id}-{number}")
                if connection.execute(made, codec.run_values(kept)).first() is not None:
                    add_tags(connection, kept.id, run.tags)
                    return kept
        raise ConfigError(f"{self._place} holds too many runs of this second")

    def find(self, name: str) -> Run:
        """By its id, `latest`, a tag that one run has, or a unique beginning of its id."""
        for found in self._named(name) if name else ():
            if len(found) == 1:
                return found[0]
            if found:
                several = ", ".join(run.id for run in found[:5]) + (", …" if len(found) > 5 else "")
                raise ConfigError(f"{name[:80]!r} may be any of several runs", hint=f"say which: {several}")
        known = ", ".join(run.id for run in self.runs(limit=5)) or "none"
        raise RunGone(f"there is no run {name[:80]!r} in {self._place}", hint=f"the latest are: {known}")

    def _named(self, name: str) -> Iterator[Sequence[Run]]:
        wanted = plain(name)
        yield self._runs(_IN_RUNS.id == wanted)
        if name == "latest":
            yield self.runs(limit=1)
        yield self.runs(tag=name, limit=6)
        yield self._runs(func.substr(_IN_RUNS.id, 1, len(wanted)) == wanted, limit=6)

    def runs(self, *, tag: str | None = None, digest: str | None = None, limit: int = 50) -> Sequence[Run]:
        """The newest first."""
        wanted: list[ColumnElement[bool]] = []
        if tag is not None:
            tagged = select(tables.tags.c.run).where(tables.tags.c.tag == plain(tag))
            wanted.append(_IN_RUNS.id.in_(tagged))
        if digest is not None:
            wanted.append(_IN_RUNS.digest == plain(digest))
        return self._runs(*wanted, limit=limit)

    def _runs(self, *wanted: ColumnElement[bool], limit: int = 1) -> list[Run]:
        rows = select(func.count()).where(_IN_TRIALS.run == _IN_RUNS.id).scalar_subquery()
        newest = select(tables.runs, rows).where(*wanted).limit(limit)
        newest = newest.order_by(_IN_RUNS.started_at.desc(), _IN_RUNS.id.desc())
        with self._reads() as connection:
            found = connection.execute(newest).all()
            given = select(tables.tags).where(tables.tags.c.run.in_([row[0] for row in found]))
            labels: dict[str, list[str]] = {}
            for run, tag in connection.execute(given.order_by(tables.tags.c.tag)):
                labels.setdefault(run, []).append(original(tag))
        with self._sound("its table of runs"):
            return [codec.run(row, row[-1], labels.get(row[0], ())) for row in found]

    def update(self, run: Run) -> None:
        """Write down its status, end, planned and info."""
        values = codec.run_values(run)
        changed = {name: values[name] for name in ("status", "ended_at", "planned", "info")}
        self._locks.keep(run.id)
        with self._writes() as connection:
            done = connection.execute(updating(tables.runs).where(_IN_RUNS.id == plain(run.id)), changed)
            if done.rowcount != 1:
                raise _gone(run.id)

    def tag(
        self, run: str, *, add: Sequence[str] = (), remove: Sequence[str] = (), move: bool = False
    ) -> None:
        """Give and take tags; see `Store.tag`."""
        check_tags(add)
        of_run = tables.tags.c
        with self._writes() as connection:
            if not _is_there(connection, run):
                raise _gone(run)
            if move:
                # Of two who move one tag, the second must see what the first has done. (In SQLite it does.)
                connection.execute(select(tables.versions).with_for_update())
                moved = of_run.tag.in_([plain(tag) for tag in add])
                connection.execute(delete(tables.tags).where(of_run.run != plain(run), moved))
            unwanted = [plain(tag) for tag in remove]
            connection.execute(delete(tables.tags).where(of_run.run == plain(run), of_run.tag.in_(unwanted)))
            add_tags(connection, run, add)

    def delete(self, run: str) -> None:
        """Forget a run and its rows. Raises `ConfigError` while somebody writes it."""
        with self._locks.claim(run), self._writes() as connection:
            for table in (tables.trials, tables.tags):
                connection.execute(delete(table).where(table.c.run == plain(run)))
            if connection.execute(delete(tables.runs).where(_IN_RUNS.id == plain(run))).rowcount != 1:
                raise _gone(run)

    def writing(self, run: str) -> AbstractContextManager[None]:
        """Hold a run for writing, against every other process. Raises `ConfigError` when it is held."""
        reserved = self._reserved.pop(run, None)
        return self._locks.claim(run) if reserved is None else _handed_over(reserved)

    def reserve(self, run: str) -> bool:
        """Hold a run from now on for the next `writing`; see `Store.reserve`."""
        with ExitStack() as claim:
            try:
                claim.enter_context(self._locks.claim(run))
            except RunHeld:
                return False
            self._reserved[run] = claim.pop_all()
        return True

    def held(self, run: str) -> bool:
        """Whether a process seems to hold a run for writing; see `Store.held`."""
        return self._locks.held(run)

    # --- rows

    def append(self, trials: Sequence[Trial]) -> None:
        """Keep rows, all or none; see `Store.append`."""
        if not trials:
            return
        # In one order for everybody, so that no two writers wait for each other's rows. The order is stable:
        # of two rows with one key the later one is kept, as if they had come one by one.
        rows = sorted(map(codec.values, trials), key=itemgetter(0, 1))
        for run in {trial.run for trial in trials}:
            self._locks.keep(run)
        with self._writes() as connection:
            try:
                connection.exec_driver_sql(self._keep, rows)
            except IntegrityError:
                raise self._stray(trials) from None

    def _stray(self, trials: Sequence[Trial]) -> ConfigError:
        with self._reads() as connection:
            known = set(map(original, connection.scalars(select(_IN_RUNS.id))))
        return _gone(next((trial.run for trial in trials if trial.run not in known), trials[0].run))

    def trials(self, run: str, *, failing: bool | None = None, limit: int | None = None) -> Iterator[Trial]:
        """A run's rows in the plan's order, read in pieces; see `Store.trials`."""
        wanted = select(*(_IN_TRIALS[name] for name in codec.READ)).where(_IN_TRIALS.run == plain(run))
        if failing is not None:
            passed = _IN_TRIALS.passed.is_(True)
            wanted = wanted.where(or_(~passed, _IN_TRIALS.passed.is_(None)) if failing else passed)
        wanted = wanted.order_by(_IN_TRIALS.place, _IN_TRIALS.key)
        at = tuple_(_IN_TRIALS.place, _IN_TRIALS.key)
        place, key = codec.READ.index("place"), codec.READ.index("key")
        after: ColumnElement[bool] = true()
        left, read = PIECE if limit is None else limit, 0
        while left > 0:
            with self._reads() as connection:
                until = reach(connection, wanted.where(after), min(left, PIECE))
                piece = [] if until is None else connection.execute(wanted.where(after, at <= until)).all()
                # Looked at once, where the rows end: there, a run that is gone looks like one that is over.
                if not piece and not _is_there(connection, run):
                    raise _gone(run) if read == 0 else _deleted(run, read)
            if not piece:
                return
            after = at > tuple_(piece[-1][place], piece[-1][key])
            left -= 0 if limit is None else len(piece)
            read += len(piece)
            with self._sound(f"rows of the run {run}"):
                found = list(map(codec.trial, piece))
            yield from found

    def done(self, run: str) -> frozenset[str]:
        """The keys of the rows that resume may leave as they are."""
        keys = select(_IN_TRIALS.key).where(_IN_TRIALS.run == plain(run), _IN_TRIALS.done)
        with self._reads() as connection:
            return frozenset(map(original, connection.scalars(keys)))

    def answers(self, asks: Sequence[str]) -> Mapping[str, Kept]:
        """Answers of earlier calls by `Trial.ask`, of any run; measured ones, never cached."""
        kept: dict[str, Kept] = {}
        wanted = select(_IN_TRIALS.ask, _IN_TRIALS.answer, _IN_TRIALS.record).where(_IN_TRIALS.measured)
        wanted = wanted.order_by(_IN_TRIALS.started_at)
        with self._reads() as connection:
            for start in range(0, len(asks), AT_ONCE):
                some = [plain(ask) for ask in asks[start : start + AT_ONCE] if ask]
                found = connection.execute(wanted.where(_IN_TRIALS.ask.in_(some)))
                newest = {ask: rest for ask, *rest in found}
                with self._sound("its answers"):
                    kept.update((original(ask), _kept(*rest)) for ask, rest in newest.items())
        return kept

    def measured(self, run: str, keys: Sequence[str]) -> Mapping[str, Kept]:
        """The answers of a run's own rows; see `Store.measured`."""
        kept: dict[str, Kept] = {}
        wanted = select(_IN_TRIALS.key, _IN_TRIALS.answer, _IN_TRIALS.record)
        wanted = wanted.where(_IN_TRIALS.run == plain(run), _IN_TRIALS.measured)
        with self._reads() as connection:
            for start in range(0, len(keys), AT_ONCE):
                some = [plain(key) for key in keys[start : start + AT_ONCE]]
                found = connection.execute(wanted.where(_IN_TRIALS.key.in_(some)))
                with self._sound(f"answers of the run {run}"):
                    kept.update((original(key), _kept(*rest, own=True)) for key, *rest in found)
        return kept

    def tallies(self, run: str, *, judging: bool = False) -> Sequence[Tally]:
        """What a run's rows say in a line or two; see `Store.tallies`."""
        t = _IN_TRIALS
        arm = (t.set, t.endpoint, t.prompt)
        each = (
            select(
                *(*arm, func.min(t.place).label("place"), func.max(t.weight).label("weight")),
                *(func.count(t.passed).label("judged"), func.count(case((t.passed, 1))).label("passed")),
                *(func.count().label("rows"), func.count(t.cost_usd).label("priced")),
                func.sum(t.cost_usd).label("cost_usd"),
                (func.sum(t.judging_usd) if judging else literal(0.0)).label("judging_usd"),
            )
            .where(t.run == plain(run))
            .group_by(*arm, t.sample)
            .subquery()
        )
        c = each.c
        alike = (c.set, c.endpoint, c.prompt, c.weight, c.judged, c.passed)
        sums = (func.sum(c.rows), func.sum(c.cost_usd), func.sum(c.priced), func.sum(c.judging_usd))
        counts = select(*alike, func.count(), *sums).group_by(*alike).order_by(func.min(c.place))
        with self._reads() as connection, self._sound(f"rows of the run {run}"):
            return [
                Tally(
                    *(original(row[0]), original(row[1]), original(row[2])),
                    weight=float(row.weight),
                    judged=row.judged,
                    passed=row.passed,
                    samples=row[6],
                    rows=int(row[7]),  # PostgreSQL adds up integers as decimals
                    cost_usd=row[8] or 0.0,
                    priced=int(row[9]),
                    judging_usd=row[10] or 0.0,
                )
                for row in connection.execute(counts)
            ]

    def replaced(self, run: str) -> Mapping[tuple[str, str], Decimal]:
        """What rows cost that are no longer there; see `Store.replaced`."""
        t = _IN_TRIALS
        arm = (t.set, t.endpoint, t.prompt)
        sums = select(*arm, func.sum(t.replaced_usd)).group_by(*arm)
        sums = sums.where(t.run == plain(run), t.replaced_usd.is_not(None))
        with self._reads() as connection:
            rows = connection.execute(sums).all()
        found: dict[tuple[str, str], Decimal] = {}
        for set_, endpoint, prompt, usd in rows:
            name = (original(set_), original(f"{endpoint}/{prompt}" if prompt else endpoint))
            found[name] = total([found.get(name, NO_MONEY), Decimal(str(round(usd, DIGITS)))])
        return found

    def close(self) -> None:
        """Free the connections, and the runs that were reserved."""
        while self._reserved:
            self._reserved.popitem()[1].close()
        self._engine.dispose()

    # --- connections

    @contextmanager
    def _writes(self) -> Iterator[Connection]:
        with self._told(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _reads(self) -> Iterator[Connection]:
        with self._told(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise self._words(error) from None

    @contextmanager
    def _sound(self, what: str) -> Iterator[None]:
        """What cannot be read back was not written like this: somebody changed it, or it broke."""
        try:
            yield
        except codec.UNREADABLE as error:
            raise damaged(self._place, f"{what} cannot be read ({type(error).__name__})") from None


@contextmanager
def _handed_over(claim: ExitStack) -> Iterator[None]:
    with claim:
        yield


def _kept(answer: str, record: str | None, *, own: bool = False) -> Kept:
    measured = codec.record(record)
    return Kept(Answer.from_dict(loaded(answer), measured), measured, own)


def _gone(run: str) -> ConfigError:
    return RunGone(f"there is no run {run[:80]}", hint="was it deleted? `evalkit runs list` shows them")


def _deleted(run: str, read: int) -> ConfigError:
    return RunGone(
        f"the run {run[:80]} was deleted while it was read",
        hint=f"the {read:,} rows that were read by then are not all of it",
    )


def _is_there(connection: Connection, run: str) -> bool:
    return connection.scalar(select(_IN_RUNS.id).where(_IN_RUNS.id == plain(run))) is not None
