"""Runs in a file: SQLite with a write-ahead log, so that readers and a writer do not wait for each other.

What was appended outlives `kill -9` of the process; a loss of power may cost the last moments, but never the
file. Locks are files in a folder beside the database: the system frees them when their holder dies.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from evalkit.stores import tables
from evalkit.stores.sql import SqlStore
from evalkit.stores.store import damaged, held_elsewhere
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
    """The store in this file. Raises `ConfigError` when it cannot be used.

    With `create` false, one that cannot be written, such as in a folder that is mounted to be read, can be
    read all the same; what would write to it says that it cannot.
    """
    _make_room(path, create)

    def words(error: SQLAlchemyError) -> ConfigError:
        return _words(path, error)

    folder = path.with_name(path.name + ".locks")
    engine = _opened(path, folder, create)
    locks = _Files(folder, path.absolute(), _identity(path))  # absolute: a scorer may change the folder
    return SqlStore(engine, str(path), locks, words)


def _opened(path: Path, locks: Path, create: bool) -> Engine:
    """The file's engine; without `create`, one that only reads where the file cannot be written."""
    engine = _engine(URL.create("sqlite", database=str(path)), _PRAGMAS)
    try:
        with _disposed(engine), _locked(locks / "schema"):
            while True:
                with engine.execution_options(writes=True).begin() as connection:
                    if tables.step_up(connection) is None:
                        return engine
    except SQLAlchemyError as error:
        if create or not _is_readonly(error):
            raise _words(path, error) from None
    except OSError as error:
        if create:
            raise _unwritable(path, error.strerror or type(error).__name__) from None
    except ConfigError as error:
        raise _unusable(path, error) from None
    return _reader(path)


def _reader(path: Path) -> Engine:
    """An engine that leaves the file and its folder as they are."""
    engine = _engine(_only_read(path), ())
    try:
        with _disposed(engine), engine.connect() as connection:
            tables.check(connection)
    except SQLAlchemyError as error:
        if not _is_readonly(error):
            raise _words(path, error) from None
        raise ConfigError(
            f"{path} cannot be read where it lies: {_reason(error)}",
            hint=f"copy it to a folder that can be written, with {path.name}-wal and {path.name}-shm",
        ) from None
    except ConfigError as error:
        raise _unusable(path, error) from None
    return engine


@contextmanager
def _disposed(engine: Engine) -> Iterator[None]:
    """Its connections end with an error."""
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


def _unusable(path: Path, error: ConfigError) -> ConfigError:
    if isinstance(error, tables.Damaged):
        return damaged(str(path), error.message)
    return ConfigError(f"{path} cannot be used: {error.message}", hint=error.hint)


def _engine(url: URL, pragmas: Sequence[str]) -> Engine:
    def set_up(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where `_begin` says, not the driver
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": PATIENCE})
    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _only_read(path: Path) -> URL:
    """The file for readers. In a folder that cannot be written, they can make no files beside it either.

    A log that lies there holds the last rows: then it is read too.
    """
    log = path.with_name(path.name + "-wal")
    logged = log.exists() and log.stat().st_size > 0
    still = not logged and not os.access(path.parent, os.W_OK)
    mode = {"mode": "ro", "immutable": "1"} if still else {"mode": "ro"}
    name = quote(os.fsencode(path.absolute()))
    return URL.create("sqlite", database=f"file:{name}", query={**mode, "uri": "true"})


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


def _begin(connection: Connection) -> None:
    # A writer that began as a reader would be refused at once, instead of waiting, when another wrote since.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _reason(error: SQLAlchemyError) -> str:
    """What the driver says; it quotes names of tables and never a value."""
    return str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__


def _is_readonly(error: SQLAlchemyError) -> bool:
    return any(word in _reason(error) for word in ("readonly", "unable to open"))


def _words(path: Path, error: SQLAlchemyError) -> ConfigError:
    reason = _reason(error)
    if "not a database" in reason or "malformed" in reason:
        return ConfigError(
            f"{path} is no SQLite database, or a damaged one: {reason}",
            hint="name another file with --store; `sqlite3 FILE .recover` may save a damaged one",
        )
    if "disk I/O" in reason:  # a limit on the size of files is one too
        hint = "make room, or mend the disk, then go on with --resume"
        return ConfigError(f"{path} cannot be written: {reason}", hint=hint)
    if "full" in reason:
        return ConfigError(f"{path} cannot be written: {reason}", hint="make room, then go on with --resume")
    if "locked" in reason:
        return ConfigError(f"{path} is held by another process: {reason}", hint="end it, then go on")
    if _is_readonly(error):
        return _unwritable(path, reason)
    return ConfigError(f"{path} cannot be used: {reason}", hint="name another file with --store")


# --- locks -------------------------------------------------------------------------------------------------


class _Held(Exception):
    """Somebody else has the lock."""


@dataclass(frozen=True, slots=True)
class _Files:
    """One file in `folder` for each run that is written. `store` is the database, `identity` its file's."""

    folder: Path
    store: Path
    identity: tuple[int, int] | None

    @contextmanager
    def claim(self, run: str, /) -> Iterator[None]:
        with ExitStack() as held:
            try:
                held.enter_context(_locked(self._of(run), tries=TRIES))
            except _Held:
                raise held_elsewhere(run) from None
            except OSError as error:
                raise _unwritable(self.folder, error.strerror or type(error).__name__) from None
            yield

    def keep(self, run: str, /) -> None:
        """The system takes no lock away from a process that lives. But what is written to a file that was
        removed is gone when its last reader is: raises `ConfigError` then."""
        if self.identity is not None and _identity(self.store) != self.identity:
            raise ConfigError(
                f"{self.store} was removed or replaced while runs were written to it",
                hint="what it held is lost, unless somebody has a copy; run the suite again",
            )

    def held(self, run: str, /) -> bool:
        try:
            return _seems_locked(self._of(run))
        except OSError as error:
            raise _unwritable(self.folder, error.strerror or type(error).__name__) from None

    def _of(self, run: str) -> Path:
        return self.folder / hashlib.sha256(run.encode("utf-8", "surrogatepass")).hexdigest()[:32]


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


def _identity(path: Path) -> tuple[int, int] | None:
    """By what a file is known from another with its name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
