"""The tables, and how a database of an earlier version becomes one of today.

A new database gets the tables as they stand here. An old one takes the numbered steps that it lacks, each in
a transaction of its own; a test walks a file of version 1 through all of them and compares the outcome with
the tables here. Whoever changes a table adds a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    event,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)

from evalkit.stores.codec import UNREADABLE, loaded
from guardrails.errors import ConfigError

VERSION = 3


class Damaged(ConfigError):
    """The tables hold what nothing here has written. The message says where."""


PIECE = 500
"""Rows that a step reads at a time."""

Step = Callable[[Connection], None]

_INDEX_OF_REPLACED = (
    'CREATE INDEX trials_replaced ON trials (run, "set", endpoint, prompt, replaced_usd) '
    "WHERE replaced_usd IS NOT NULL"
)


def _what_rows_cost_that_gave_way(connection: Connection) -> None:
    number = Double().compile(dialect=connection.dialect)
    for column in ("judging_usd", "replaced_usd"):
        connection.execute(text(f"ALTER TABLE trials ADD COLUMN {column} {number}"))
    connection.execute(text(_INDEX_OF_REPLACED))
    _what_judges_were_paid(connection)


def _what_judges_were_paid(connection: Connection) -> None:
    """Fill in `judging_usd` of the rows that are there: what each of their scores cost stands in its JSON."""
    some = text(
        'SELECT run, "key", scores FROM trials WHERE scores LIKE :wanted AND (run, "key") > (:run, :key) '
        'ORDER BY run, "key" LIMIT :most'
    )
    paid = text('UPDATE trials SET judging_usd = :usd WHERE run = :run AND "key" = :key')
    run = key = ""
    # In pieces, since a file may be larger than the memory.
    while rows := connection.execute(
        some, {"wanted": '%"cost_usd"%', "run": run, "key": key, "most": PIECE}
    ).all():
        costs = [sum(score.get("cost_usd") or 0.0 for score in loaded(each[2]).values()) for each in rows]
        given = [
            {"usd": usd, "run": row[0], "key": row[1]} for row, usd in zip(rows, costs, strict=True) if usd
        ]
        if given:
            connection.execute(paid, given)
        run, key, _ = rows[-1]


def _what_is_known_of_a_cost(connection: Connection) -> None:
    number = Double().compile(dialect=connection.dialect)
    connection.execute(text(f"ALTER TABLE trials ADD COLUMN known_usd {number}"))


STEPS: Mapping[int, Step] = {2: _what_rows_cost_that_gave_way, 3: _what_is_known_of_a_cost}
"""What makes version n of version n - 1, from n = 2 on."""

metadata = MetaData()

# Byte order on both, whatever the language of the server: `latest` and the order of rows depend on it.
_Name = Text().with_variant(Text(collation="C"), "postgresql")


def _run() -> Column[str]:
    return Column("run", _Name, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)


versions = Table("schema_version", metadata, Column("version", Integer, nullable=False))

runs = Table(
    "runs",
    metadata,
    Column("id", _Name, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False, index=True),
    Column("status", Text, nullable=False),
    Column(
        "started_at", _Name, nullable=False, index=True
    ),  # ISO 8601 in UTC: the order of text is that of time
    Column("ended_at", Text),
    Column("planned", BigInteger, nullable=False),
    Column("info", Text, nullable=False),
)

tags = Table("tags", metadata, _run(), Column("tag", _Name, primary_key=True, index=True))

trials = Table(
    "trials",
    metadata,
    _run(),
    Column("key", _Name, primary_key=True),
    Column("ask", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("set", Text, nullable=False),
    Column("sample", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("k", Integer, nullable=False),
    Column("place", BigInteger, nullable=False),
    Column("started_at", _Name, nullable=False),
    Column("weight", Double, nullable=False),
    Column("passed", Boolean),
    Column("done", Boolean, nullable=False),
    Column("measured", Boolean, nullable=False),  # an answer that a later run may use in place of a call
    Column("cost_usd", Double),  # `Trial.paid_usd`: what the run paid for it
    Column("size", BigInteger, nullable=False),  # characters of JSON, so that a reader knows before it reads
    # JSON as text: PostgreSQL's own JSON refuses NUL, and sorts keys. The large ones come last, so that a
    # query for the others need not read past them.
    Column("tags", Text, nullable=False),
    Column("error", Text),
    Column("scores", Text, nullable=False),
    Column("record", Text),
    Column("answer", Text),
    # Behind the large ones, since that is where an older database has to get them. They are read where a row
    # takes the place of another, and through an index that holds all that is asked for.
    Column("judging_usd", Double),  # what of `cost_usd` judges were paid
    Column("replaced_usd", Double),  # what the run paid for rows whose place this one took
    Column("known_usd", Double),  # what is known of `cost_usd` where that is not all
)

GIVEN = tuple(column.name for column in trials.c if column.name != "replaced_usd")
"""The columns that a row brings; what it replaced is known where it is kept."""

# With the size, so that a reader finds where a piece ends without a look at its rows.
Index("trials_in_order", trials.c.run, trials.c.place, trials.c.key, trials.c.size)
# In SQLite word for word as it is asked for, or it is not used. (An `Index` with a condition for PostgreSQL
# would load that dialect, its drivers' adapters and all, for everybody.)
for _dialect, _condition in (("sqlite", "measured = 1"), ("postgresql", "measured")):
    _by_ask = DDL(  # type: ignore[no-untyped-call] # its constructor carries no types
        f"CREATE INDEX trials_by_ask ON trials (ask) WHERE {_condition}"
    )
    event.listen(trials, "after_create", _by_ask.execute_if(dialect=_dialect))
_of_replaced = DDL(_INDEX_OF_REPLACED)  # type: ignore[no-untyped-call]
event.listen(trials, "after_create", _of_replaced)


def version_of(connection: Connection) -> int | None:
    """The version of what is there; None for a database without tables of ours. Raises `Damaged`."""
    if not inspect(connection).has_table(versions.name):
        return None
    found = connection.scalar(select(func.max(versions.c.version)))
    if not isinstance(found, int) or found < 1:
        raise Damaged("its schema_version is none of ours")
    return found


def too_new(version: int, target: int = VERSION) -> ConfigError:
    """What is said of a database that this version cannot read."""
    return ConfigError(
        f"it was written by a newer evalkit (its schema is {version}, the newest known here {target})",
        hint="pip install -U evalkit-guardrails",
    )


def check(connection: Connection) -> None:
    """Raises `ConfigError` for a database that cannot be read as it is."""
    version = version_of(connection)
    if version is None:
        raise ConfigError("it holds no runs, and cannot be written", hint="name another file with --store")
    if version > VERSION:
        raise too_new(version)
    if version < VERSION:
        raise ConfigError(
            "it was written by an older evalkit, and cannot be brought to today's schema where it lies",
            hint="copy it to a folder that can be written",
        )


def create(connection: Connection) -> None:
    """Make the tables. Raises `ConfigError` where tables of these names belong to somebody else."""
    taken = {runs.name, trials.name, tags.name} & set(inspect(connection).get_table_names())
    if taken:
        raise ConfigError(
            f"it holds other tables named {', '.join(sorted(taken))}",
            hint="give evalkit a database (or a schema) of its own with --store",
        )
    metadata.create_all(connection)
    connection.execute(insert(versions).values(version=VERSION))


def step_up(
    connection: Connection, *, steps: Mapping[int, Step] = STEPS, target: int = VERSION
) -> int | None:
    """Take one step towards `target`, or make the tables; the caller holds the transaction and a lock.

    Returns the version that it then has, None when nothing was to be done. Raises `ConfigError` when the
    database is newer than this.
    """
    version = version_of(connection)
    if version is None:
        create(connection)
        return VERSION
    if version > target:
        raise too_new(version, target)
    if version == target:
        return None
    try:
        steps[version + 1](connection)
    except UNREADABLE as error:
        raise Damaged(f"its rows cannot be read ({type(error).__name__})") from None
    connection.execute(update(versions).values(version=version + 1))
    return version + 1
