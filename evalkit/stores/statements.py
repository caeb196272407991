"""The statements of `SqlStore` that take more than a line, as SQLite and PostgreSQL both know them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, case, func, null, or_, tuple_

from evalkit.stores import tables
from evalkit.stores.codec import plain

HEAVY = 4_000_000
"""Characters that a piece holds at most, unless it is a single row."""

_IN_TRIALS = tables.trials.c


def reach(connection: Connection, wanted: Select[Any], most: int) -> ColumnElement[Any] | None:
    """Up to where the next piece goes: place and key of its last row; None when there are no more rows."""
    last: tuple[Any, ...] = ()
    total = 0
    sizes = wanted.with_only_columns(_IN_TRIALS.place, _IN_TRIALS.key, _IN_TRIALS.size).limit(most)
    for place, key, size in connection.execute(sizes):
        total += size
        if last and total > HEAVY:
            break
        last = (place, key)
    return tuple_(*last) if last else None


def insert(engine: Engine) -> Callable[..., Any]:
    """`INSERT`, as it knows of conflicts: SQLite and PostgreSQL word it alike."""
    made: Callable[..., Any] = importlib.import_module(f"sqlalchemy.dialects.{engine.dialect.name}").insert
    return made


def upsert(engine: Engine) -> str:
    """Keeps a row, in place of the one with its run and key; see `Store.append`."""
    made = insert(engine)(tables.trials)
    names = [column.name for column in tables.trials.primary_key]
    # The very same row comes again where its server broke off, and nobody knows whether it was kept. A call
    # that is only judged again is still paid by the row that has it now.
    same = (
        _IN_TRIALS[name].is_not_distinct_from(made.excluded[name])
        for name in ("started_at", "scores", "record")
    )
    gone = case(
        (and_(*same), null()),
        (_IN_TRIALS.record == made.excluded.record, _IN_TRIALS.judging_usd),
        else_=func.coalesce(_IN_TRIALS.cost_usd, _IN_TRIALS.known_usd, _IN_TRIALS.judging_usd),
    )
    before = _IN_TRIALS.replaced_usd
    statement = made.on_conflict_do_update(
        index_elements=names,
        set_={
            **{name: made.excluded[name] for name in tables.GIVEN if name not in names},
            "replaced_usd": func.coalesce(before + gone, before, gone),  # what is not known adds nothing
        },
        where=or_(made.excluded.done, ~_IN_TRIALS.done),
    )
    return str(statement.compile(dialect=engine.dialect, column_keys=tables.GIVEN))


def add_tags(connection: Connection, run: str, tags: Sequence[str]) -> None:
    """Give a run tags; those that it has stay."""
    rows = [{"run": plain(run), "tag": plain(tag)} for tag in tags]
    if rows:
        connection.execute(insert(connection.engine)(tables.tags).on_conflict_do_nothing(), rows)
