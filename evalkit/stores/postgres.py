"""Runs in PostgreSQL, for many machines and many people.

A run that is written is held by an advisory lock of a connection that stays open meanwhile: the server frees
it when the process or its network dies. (Behind a pooler, that needs sessions, not transactions, to be
pooled.) Such a connection may be lost while the others live, so it is asked before rows are written: then the
run is held anew, or, when another process has taken it by now, given up. No message holds the password.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock

from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from evalkit.stores import tables
from evalkit.stores.codec import plain
from evalkit.stores.sql import SqlStore
from evalkit.stores.store import Unreachable, damaged, held_elsewhere
from guardrails.errors import ConfigError

_DEFAULTS = {
    "connect_timeout": "10",
    "application_name": "evalkit",
    # A network that is gone is noticed within two minutes; a server that is slow acknowledges what it gets.
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
    "tcp_user_timeout": "120000",
}

# Hashed with the schema, since two stores may share a database, each in a schema of its own.
_LOCK = "hashtextextended(current_schema() || ' evalkit ' || :name, 0)"
_TRY = text(f"SELECT pg_try_advisory_lock({_LOCK})")
_HOLD = text(f"SELECT pg_advisory_lock({_LOCK})")
_PATIENCE = text("SET lock_timeout = '2s'"), text("RESET lock_timeout")
_FREE = text(f"SELECT pg_advisory_unlock({_LOCK})")
# To take the lock for a look would be in the way of whoever begins to write. The server lists the number in
# two halves.
_NUMBER = text(f"SELECT {_LOCK}")
_LISTED = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND CAST(classid AS bigint) = :upper AND CAST(objid AS bigint) = :lower)"
)
_AWAY = ("08", "57P", "53300")
"""The SQLSTATEs of a connection that broke, of a server that ends or begins, and of one that has too many."""
_THERE = text("SELECT 1")
_WAIT = text(f"SELECT pg_advisory_xact_lock({_LOCK})")


def open_server(url: URL) -> SqlStore:
    """The store at this URL. Raises `ConfigError` when it cannot be reached or used."""
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError(
            "PostgreSQL needs its driver, which is not installed",
            hint="pip install 'evalkit-guardrails[postgres]'",
        )
    # Of the query nothing is shown: it may name a password too.
    place = url.set(query={}, password=None).render_as_string()
    named = {url.password, *(value for name, value in url.query.items() if "password" in name)}
    secrets = [word for word in named if isinstance(word, str) and word]

    def words(error: SQLAlchemyError) -> ConfigError:
        return _words(place, error, secrets)

    engine = _engine(url)
    try:
        _prepare(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        raise words(error) from None
    except tables.Damaged as error:
        engine.dispose()
        raise damaged(place, error.message) from None
    except ConfigError as error:
        engine.dispose()
        raise ConfigError(f"{place} cannot be used: {error.message}", hint=error.hint) from None

    return SqlStore(engine, place, _Server(engine, words), words)


@dataclass(frozen=True, slots=True)
class _Server:
    """An advisory lock for each run that is written, of a connection of its own."""

    engine: Engine
    words: Callable[[SQLAlchemyError], ConfigError]
    _holding: dict[str, Connection | None] = field(default_factory=dict)  # None: lost, and not ours again
    _one: Lock = field(default_factory=Lock)

    @contextmanager
    def claim(self, run: str, /) -> Iterator[None]:
        with self._one:
            self._hold(run)
        try:
            yield
        finally:
            with self._one:
                connection = self._holding.pop(run, None)
            if connection is not None:  # or another process has it
                with connection, suppress(SQLAlchemyError):  # one that was lost has freed it already
                    connection.execute(_FREE, _named(run))

    def keep(self, run: str, /) -> None:
        with self._one:
            if run not in self._holding:
                return
            connection = self._holding[run]
            if connection is not None:
                try:
                    connection.scalar(_THERE)
                    return
                except SQLAlchemyError:
                    self._holding[run] = None
                    connection.close()
            self._hold(run)

    def held(self, run: str, /) -> bool:
        try:
            with self.engine.connect() as connection:
                number: int = connection.execute(_NUMBER, _named(run)).scalar_one()
                halves = {"upper": number >> 32 & 0xFFFFFFFF, "lower": number & 0xFFFFFFFF}
                return bool(connection.scalar(_LISTED, halves))
        except SQLAlchemyError as error:
            raise self.words(error) from None

    def _hold(self, run: str) -> None:
        try:
            connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        except SQLAlchemyError as error:
            raise self.words(error) from None
        with ExitStack() as lost:
            lost.callback(connection.close)
            try:
                mine = _held(connection, _named(run))
            except SQLAlchemyError as error:
                raise self.words(error) from None
            if not mine:
                raise held_elsewhere(run)
            self._holding[run] = connection
            lost.pop_all()


def _named(run: str) -> dict[str, str]:
    return {"name": plain(run)}


def _held(connection: Connection, name: dict[str, str]) -> bool:
    """Whether the lock is ours now. The server may need a moment to see that a holder was killed."""
    if connection.scalar(_TRY, name):
        return True
    wait, again = _PATIENCE
    connection.execute(wait)
    try:
        connection.execute(_HOLD, name)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
            raise
        return False
    finally:
        connection.execute(again)
    return True


def _engine(url: URL) -> Engine:
    given = {name: value for name, value in _DEFAULTS.items() if name not in url.query}
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg").update_query_dict(given),
            hide_parameters=True,
            pool_pre_ping=True,
            paramstyle="format",
        )
    except ImportError as error:
        raise ConfigError(
            f"PostgreSQL's driver does not load: {type(error).__name__}",
            hint="pip install 'psycopg[binary]', or install libpq",
        ) from None


def _prepare(engine: Engine) -> None:
    with engine.connect() as connection:
        encoding = connection.scalar(text("SHOW server_encoding"))
        if encoding != "UTF8":
            raise ConfigError(
                f"its encoding is {encoding}",
                hint="create the database with ENCODING 'UTF8' TEMPLATE template0",
            )
        if connection.scalar(text("SELECT current_schema()")) is None:
            raise ConfigError("the search path names no schema that exists", hint="CREATE SCHEMA first")
    while True:
        with engine.begin() as connection:
            connection.execute(_WAIT, {"name": "schema"})
            if tables.step_up(connection) is None:
                return


def _words(place: str, error: SQLAlchemyError, secrets: list[str]) -> ConfigError:
    """What the server says of itself. What it says of rows may quote them: there, only the code is told."""
    state = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    if isinstance(error, OperationalError) and error.orig is not None:
        reason = " ".join(str(error.orig).split())[:400]
        for secret in secrets:
            reason = reason.replace(secret, "***")
        if state == "53100":
            return ConfigError(f"{place} is full: {reason}", hint="make room, then go on with --resume")
        hint = "is the server running, and are host, port, user, password and database right?"
        away = state is None or state.startswith(_AWAY)
        return (Unreachable if away else ConfigError)(f"{place} cannot be reached: {reason}", hint=hint)
    if state == "42501":
        return ConfigError(f"{place} cannot be used: its user lacks a right", hint="GRANT CREATE ON SCHEMA …")
    kind = type(error).__name__ + (f" ({state})" if state else "")
    return ConfigError(f"{place} cannot be used: {kind}", hint="the server's log says more")
