"""Runs in a file: SQLite with a write-ahead log, so that readers and a writer do not wait for each other.

What was appended outlives `kill -9` of the process; a loss of power may cost the last moments, but never the
file. Locks are files in a folder beside the database: the system frees them when their holder dies.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from evalkit.stores import tables
from evalkit.stores.sql import SqlStore
from guardrails.errors import ConfigError

PATIENCE = 60.0
"""Seconds that one writer waits for another's transaction."""

TRIES, PAUSE = 20, 0.005
"""How often a run is claimed, and after how many seconds again: a look at its lock holds it for a moment."""


_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "secure_delete = ON",  # a deleted answer is overwritten, not only unlinked
    "wal_autocheckpoint = 16000",  # pages, 64 MB: keys come in random order and touch the same pages again
)


def open_file(path: Path, *, create: bool = True) -> SqlStore:
    """The store in this file. Raises `ConfigError` when it cannot be used."""
    _make_room(path, create)

    def words(error: SQLAlchemyError) -> ConfigError:
        return _words(path, error)

    locks = path.with_name(path.name + ".locks")
    engine = create_engine(
        URL.create("sqlite", database=str(path)), hide_parameters=True, connect_args={"timeout": PATIENCE}
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    try:
        with _locked(locks / "schema"):
            while True:
                with engine.execution_options(writes=True).begin() as connection:
                    if tables.step_up(connection) is None:
                        break
    except SQLAlchemyError as error:
        engine.dispose()
        raise words(error) from None
    except ConfigError as error:
        engine.dispose()
        raise ConfigError(f"{path} cannot be used: {error.message}", hint=error.hint) from None
    except OSError as error:
        engine.dispose()
        raise _unwritable(path, error.strerror or type(error).__name__) from None

    def lock(run: str) -> Path:
        return locks / hashlib.sha256(run.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @contextmanager
    def claim(run: str) -> Iterator[None]:
        try:
            with _locked(lock(run), tries=TRIES):
                yield
        except _Held:
            raise ConfigError(
                f"the run {run} is being written by another process",
                hint="wait for it, or end it; `evalkit run --fresh` begins another run",
            ) from None

    def held(run: str) -> bool:
        try:
            return _seems_locked(lock(run))
        except OSError as error:
            raise _unwritable(locks, error.strerror or type(error).__name__) from None

    return SqlStore(engine, str(path), claim, held, words)


def _make_room(path: Path, create: bool) -> None:
    at = path
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder", hint=f"name a file in it: {path / 'runs.db'}")
        if path.exists():
            return
        if not create:
            raise ConfigError(f"no runs are kept in {path}", hint="evalkit run makes some; or name a --store")
        at = path.parent
        at.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # such as a name that is too long
        raise _unwritable(at, error.strerror or type(error).__name__) from None


def _unwritable(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{path} cannot be written: {reason}", hint="choose another place with --out or --store"
    )


def _set_up(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says, not where the driver thinks
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # A writer that began as a reader would be refused at once, instead of waiting, when another wrote since.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _words(path: Path, error: SQLAlchemyError) -> ConfigError:
    """What the driver says; it quotes names of tables and never a value."""
    reason = str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
    if "not a database" in reason or "malformed" in reason:
        return ConfigError(
            f"{path} is no SQLite database, or a damaged one: {reason}",
            hint="name another file with --store; `sqlite3 FILE .recover` may save a damaged one",
        )
    if "full" in reason:
        return ConfigError(f"{path} cannot be written: {reason}", hint="make room, then go on with --resume")
    if "locked" in reason:
        return ConfigError(f"{path} is held by another process: {reason}", hint="end it, then go on")
    if "readonly" in reason or "unable to open" in reason:
        return _unwritable(path, reason)
    return ConfigError(f"{path} cannot be used: {reason}", hint="name another file with --store")


# --- locks -------------------------------------------------------------------------------------------------


class _Held(Exception):
    """Somebody else has the lock."""


@contextmanager
def _locked(
    path: Path, *, tries: int | None = None, pause: Callable[[float], object] = sleep
) -> Iterator[None]:
    """Hold a lock file. With `tries`, raises `_Held` when it is held each time; without, it waits."""
    if sys.platform == "win32":  # no such locks: there, two runs of one id are not kept apart
        yield
        return
    import fcntl

    path.parent.mkdir(exist_ok=True)
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if tries is None else fcntl.LOCK_NB))
            except BlockingIOError:
                tries = tries and tries - 1
                if not tries:
                    raise _Held from None
                pause(PAUSE)
                continue
            if not _is_at(file, path):
                continue  # its last holder removed it between our opening and our locking
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(file)


def _seems_locked(path: Path) -> bool:
    """Whether somebody holds a lock file. Many may look at once."""
    if sys.platform == "win32":
        return False
    import fcntl

    while True:
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            if _is_at(file, path):
                return False  # what a killed process left behind
        finally:
            os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
