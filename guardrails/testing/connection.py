"""One HTTP/1.1 connection of the simulator: read requests, play replies. Faults need the bare socket.

Written on `asyncio.Protocol` and without a web framework, because a reset in mid-chunk, a stall after the
headers or a byte at a time is exactly what a framework prevents.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from guardrails.clock import Clock, Timer
from guardrails.testing.engine import Batcher, Ticket
from guardrails.testing.replies import Reply, chunk

MAX_HEAD = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
_EARLY = 1e-6  # seconds by which a timer may fire before its time


@dataclass(frozen=True, slots=True)
class Asked:
    """One HTTP request. `headers` have lower-case names."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Job:
    """A reply and its pace: seconds per tick (empty: at once), or so many prompt tokens for the engine.

    `delay` is in seconds, before the engine gets it. One that is not `counted` leaves the statistics alone.
    """

    reply: Reply
    head: bytes
    pace: list[float] = field(default_factory=list)
    engine_tokens: int | None = None
    delay: float = 0.0
    counted: bool = True


class Host(Protocol):
    """What a connection needs of its server."""

    clock: Clock
    batcher: Batcher | None

    def answer(self, asked: Asked) -> Job:
        """The job for a request."""

    def full(self, asked: Asked) -> Job:
        """The job for a request that found the engine's queue full."""

    def opened(self, connection: Connection) -> None:
        """A connection was made."""

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""

    def ended(self, job: Job, how: str) -> None:
        """A reply is over: `completed`, `cut` (by a fault) or `aborted` (by the client)."""


class Connection(asyncio.Protocol):
    """Requests on one connection, one after the other, kept alive between them."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._buffer = bytearray()
        self._needed = 0  # do not look at the buffer again before it is that long
        self._playing: Playing | None = None
        self._keep = True
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._host.opened(self)

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        self._buffer += data
        if len(self._buffer) >= self._needed:
            self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of `asyncio.Protocol`."""
        if self._playing is not None:
            self._playing.cancel("aborted")
            self._playing = None
        self._host.closed(self)

    def done(self) -> None:
        """The reply is written: look for the next request, or close."""
        assert self.transport is not None
        self._playing = None
        if not self._keep:
            self.transport.close()
        elif self._buffer:
            # In a turn of its own, or a thousand pipelined requests would nest a thousand calls deep.
            asyncio.get_running_loop().call_soon(self._read)

    def reset(self) -> None:
        """Close with a TCP reset. What was written before still arrives."""
        assert self.transport is not None
        self._playing = None
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _read(self) -> None:
        """Start the reply to the request in the buffer, if it is complete."""
        assert self.transport is not None
        if self._playing is not None or self.transport.is_closing():
            return
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                self._refuse("431 Request Header Fields Too Large")
            return
        method, path, headers = _parse_head(bytes(self._buffer[:end]))
        if (trouble := _trouble(method, headers)) is not None:
            self._refuse(trouble)
            return
        total = end + 4 + int(headers.get("content-length", 0))
        if len(self._buffer) < total:
            if self._needed != total and headers.get("expect", "").lower() == "100-continue":
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._needed = total
            return
        asked = Asked(method, path, headers, bytes(self._buffer[end + 4 : total]))
        del self._buffer[:total]
        self._needed = 0
        self._keep = headers.get("connection", "").lower() != "close"
        job = self._host.answer(asked)
        self._playing = playing = Playing(self, self._host, asked, job)
        playing.start()

    def _refuse(self, status: str) -> None:
        assert self.transport is not None
        head = f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode())
        self.transport.close()


def _parse_head(data: bytes) -> tuple[str, str, dict[str, str]]:
    """Method (empty when this is no HTTP/1 request), path without query, and headers."""
    first, *lines = data.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return "", "", {}
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return words[0], words[1].partition("?")[0], headers


def _trouble(method: str, headers: Mapping[str, str]) -> str | None:
    """Why a request cannot be read, as an HTTP status line."""
    length = headers.get("content-length", "0")
    if not method or not (length.isascii() and length.isdecimal()):
        return "400 Bad Request"
    if "transfer-encoding" in headers:
        return "411 Length Required"
    if len(length) > 9 or int(length) > MAX_BODY:
        return "413 Content Too Large"
    return None


class Playing:
    """One reply while it is written: at once, along a list of times, by the engine's steps, or dripping."""

    __slots__ = ("_asked", "_at", "_connection", "_head", "_host", "_job", "_started", "_ticket", "_timer")

    def __init__(self, connection: Connection, host: Host, asked: Asked, job: Job) -> None:
        self._asked = asked
        self._connection = connection
        self._host = host
        self._job = job
        self._head = b""
        self._at = 0
        self._started = 0.0
        self._timer: Timer | None = None
        self._ticket: Ticket | None = None

    def start(self) -> None:
        """Write what can be written now, and set a timer for the rest.

        The headers of a stream go out at once, as servers do; those of a whole answer come with its body.
        """
        job = self._job
        reply = job.reply
        self._head = job.head
        if job.engine_tokens is not None:
            self._later(job.delay, self._submit)
        elif reply.drip_ms > 0:
            self._flush()
            data = reply.body()
            self._later(0.0, lambda: self._drip(data))
        elif job.pace:
            self._started = self._host.clock.now()
            if reply.stream:
                self._flush()
            self._later(job.pace[0], self._tick)
        else:
            self._write(reply.body())
            self._finish()

    def cancel(self, how: str) -> None:
        """Stop in the middle."""
        if self._timer is not None:
            self._timer.cancel()
        if self._ticket is not None:
            self._ticket.cancel()
        self._host.ended(self._job, how)

    def _submit(self) -> None:
        job, batcher = self._job, self._host.batcher
        assert batcher is not None
        assert job.engine_tokens is not None
        self._ticket = batcher.submit(job.engine_tokens, len(job.reply.ticks), self._token)
        if self._ticket is None:
            self._job = self._host.full(self._asked)
            self.start()
        elif job.reply.stream:
            self._flush()

    def _token(self) -> None:
        """The engine's next token is there."""
        ticks = self._job.reply.ticks
        self._at += 1
        if self._at < len(ticks):
            self._write(self._framed(ticks[self._at - 1]))
        else:
            self._end(self._framed(ticks[-1]) if ticks else b"")

    def _tick(self) -> None:
        """Write all that is due."""
        pace, ticks, at = self._job.pace, self._job.reply.ticks, self._at
        now = self._host.clock.now() - self._started
        while at < len(pace) and pace[at] <= now + _EARLY:
            at += 1
        data = self._framed(b"".join(ticks[self._at : at]))
        self._at = at
        if at < len(pace):
            self._write(data)
            self._later(pace[at] - now, self._tick)
        else:
            self._end(data)

    def _drip(self, data: bytes) -> None:
        self._write(data[self._at : self._at + 1])
        self._at += 1
        if self._at < len(data):
            self._later(self._job.reply.drip_ms / 1000.0, lambda: self._drip(data))
        else:
            self._finish()

    def _end(self, data: bytes) -> None:
        """Write the last bytes and what ends the body."""
        reply = self._job.reply
        self._write(data + (b"0\r\n\r\n" if reply.stream and reply.ending == "done" else b""))
        self._finish()

    def _finish(self) -> None:
        self._flush()
        ending = self._job.reply.ending
        if ending == "stall":
            return  # until the client leaves: `cancel` ends it
        self._host.ended(self._job, "completed" if ending == "done" else "cut")
        if ending == "reset":
            self._connection.reset()
        else:
            self._connection.done()

    def _framed(self, data: bytes) -> bytes:
        return chunk(data) if self._job.reply.stream else data

    def _write(self, data: bytes) -> None:
        """Write data, and the head before it if it has not gone out yet."""
        if data:
            self._head += data
            self._flush()

    def _flush(self) -> None:
        data, self._head = self._head, b""
        transport = self._connection.transport
        if data and transport is not None and not transport.is_closing():
            transport.write(data)

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        if seconds > 0:
            self._timer = self._host.clock.call_later(seconds, callback)
        else:
            callback()
