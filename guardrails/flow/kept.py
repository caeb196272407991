"""Where do cached answers lie: in this process, in a file, or in Redis?

All three hold bytes under a hash, for a time. **The bytes are answers in the clear** (prompts are only in the
hash): keep the file, or the Redis, where such text may lie, and as long as it may.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from guardrails.clock import Clock
from guardrails.errors import ConfigError

if TYPE_CHECKING:
    import sqlite3

    from redis.asyncio import Redis


class Kept(Protocol):
    """Bytes by key. Errors that it raises cost a call its hit, never its answer."""

    async def get(self, key: str, clock: Clock) -> bytes | None:
        """What was put, unless its time is over."""

    async def put(self, key: str, value: bytes, ttl: float, clock: Clock) -> None:
        """Keep `value` for `ttl` seconds, if there is room."""

    async def aclose(self) -> None:
        """Let go of files and connections."""


class MemoryKept:
    """At most `max_bytes` in this process; what was not used for longest goes first."""

    __slots__ = ("_held", "_lock", "_max_bytes", "_size")

    def __init__(self, max_bytes: int = 64 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    async def get(self, key: str, clock: Clock) -> bytes | None:
        """Look it up."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return None
            if held[1] <= clock.now():
                self._drop(key)
                return None
            self._held.move_to_end(key)
            return held[0]

    async def put(self, key: str, value: bytes, ttl: float, clock: Clock) -> None:
        """Keep it; one larger than all the room is not kept."""
        with self._lock:
            self._drop(key)
            if len(value) > self._max_bytes:
                return
            self._held[key] = value, clock.now() + ttl
            self._size += len(value)
            while self._size > self._max_bytes:
                self._drop(next(iter(self._held)))

    def _drop(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._size -= len(held[0])

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    def __len__(self) -> int:
        return len(self._held)

    def __repr__(self) -> str:
        return f"MemoryKept(answers={len(self)}, bytes={self._size})"

    async def aclose(self) -> None:
        """Nothing is held open."""


_SCHEMA = """
create table if not exists kept
    (key text primary key, value blob not null, until real not null, used real not null);
create index if not exists kept_used on kept (used);
"""


class SqliteKept:
    """At most `max_bytes` in a SQLite file that survives restarts; several processes may share it.

    The file is made readable for its owner only. Times are wall times.
    """

    def __init__(self, path: str | Path, max_bytes: int = 1 << 30) -> None:
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    async def get(self, key: str, clock: Clock) -> bytes | None:
        """Look it up, in a thread."""
        return await asyncio.to_thread(self._get, key, clock.wall().timestamp())

    async def put(self, key: str, value: bytes, ttl: float, clock: Clock) -> None:
        """Keep it, in a thread."""
        await asyncio.to_thread(self._put, key, value, ttl, clock.wall().timestamp())

    async def aclose(self) -> None:
        """Close the file."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def __repr__(self) -> str:
        return f"SqliteKept({str(self.path)!r})"

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(self.path, timeout=1.0, check_same_thread=False)
            self._connection.execute("pragma journal_mode = wal")
            self._connection.executescript(_SCHEMA)
        return self._connection

    def _get(self, key: str, now: float) -> bytes | None:
        with self._lock, self._open() as connection:
            row = connection.execute("select value, until from kept where key = ?", (key,)).fetchone()
            if row is None or row[1] <= now:
                return None
            connection.execute("update kept set used = ? where key = ?", (now, key))
            return bytes(row[0])

    def _put(self, key: str, value: bytes, ttl: float, now: float) -> None:
        if len(value) > self._max_bytes:
            return
        with self._lock, self._open() as connection:
            connection.execute("delete from kept where until <= ?", (now,))
            connection.execute(
                "insert or replace into kept values (?, ?, ?, ?)", (key, value, now + ttl, now)
            )
            held = connection.execute("select coalesce(sum(length(value)), 0) from kept").fetchone()[0]
            while held > self._max_bytes:
                row = connection.execute(
                    "select key, length(value) from kept order by used limit 1"
                ).fetchone()
                connection.execute("delete from kept where key = ?", (row[0],))
                held -= row[1]


class RedisKept:
    """In Redis, which forgets by itself; set its `maxmemory` and an eviction policy for a bound on bytes."""

    def __init__(self, url: str, *, timeout: float = 0.25, max_answer: int = 2**20) -> None:
        self._url = url
        self._timeout = timeout
        self._max_answer = max_answer
        self._client: Redis | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def get(self, key: str, clock: Clock) -> bytes | None:
        """Look it up."""
        value = await self._pool().get(f"guardrails:cache:{key}")
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes, ttl: float, clock: Clock) -> None:
        """Keep it."""
        if len(value) <= self._max_answer:
            await self._pool().set(f"guardrails:cache:{key}", value, px=max(1, int(ttl * 1000)))

    def _pool(self) -> Redis:
        from guardrails.flow.redis_store import connect

        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = connect(self._url, self._timeout), loop
        return self._client

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    def __repr__(self) -> str:
        return "RedisKept()"  # a url may hold a password


def kept(spec: str) -> Kept:
    """The store for `memory`, a `redis://…` url, or a file's path."""
    if not spec:
        raise ConfigError("cache: store is empty", hint="use memory, a file's path or redis://HOST:PORT/DB")
    if spec == "memory":
        return MemoryKept()
    if not spec.startswith(("redis://", "rediss://", "unix://")):
        return SqliteKept(spec)
    from guardrails.flow.redis_store import check

    check(spec)
    return RedisKept(spec)
