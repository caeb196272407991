"""A loopback server that behaves like an inference endpoint, with all its faults.

It speaks the OpenAI wire (`POST /v1/chat/completions`, `GET /v1/models`) and the Anthropic wire
(`POST /v1/messages`), written by the very dialects that `guardrails` reads with, on asyncio sockets alone.
`GET /stats` tells what happened so far. A `/v1` before the path may be left out.
"""

from __future__ import annotations

import asyncio
import hmac
import random
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from functools import partial

import orjson

from guardrails.call import Request
from guardrails.clock import SYSTEM, Clock
from guardrails.dialects import Dialect, dialect
from guardrails.errors import ConfigError, EndpointError
from guardrails.testing import answers
from guardrails.testing.compose import compose
from guardrails.testing.connection import Asked, Connection, Job
from guardrails.testing.engine import Batcher, Engine
from guardrails.testing.faults import NONE, Fault, choose
from guardrails.testing.profile import Profile, load
from guardrails.testing.replies import Reply, Writer, error_reply

FAULT_HEADER = "x-sim-fault"
MAX_CHOICES = 128
MEMO_SIZE, MEMO_BODY = 512, 16 * 1024

Memo = tuple[str, bytes, tuple[str, ...], int]
"""What decides a reply but for its id: dialect, request body, the choices' texts, and the second."""


@dataclass(slots=True)
class Stats:
    """What a server has seen. `aborted`: the client left first; `cut`: a fault ended the connection."""

    requests: int = 0
    active: int = 0
    peak: int = 0
    completed: int = 0
    aborted: int = 0
    cut: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def shown(self) -> dict[str, object]:
        """The counts as plain data."""
        plain: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self)}
        statuses = {str(status): count for status, count in sorted(self.statuses.items())}
        return plain | {"statuses": statuses, "faults": dict(self.faults)}


class Quota:
    """Requests per minute as a bucket that refills steadily."""

    def __init__(self, per_minute: float, clock: Clock) -> None:
        self._limit = self._left = per_minute
        self._clock = clock
        self._at = clock.now()

    def take(self) -> float:
        """Take one request; the seconds to wait if there is none, else 0."""
        now = self._clock.now()
        self._left = min(self._limit, self._left + (now - self._at) * self._limit / 60)
        self._at = now
        if self._left < 1:
            return (1 - self._left) * 60 / self._limit
        self._left -= 1
        return 0.0

    def headers(self, wire: str) -> dict[str, str]:
        """The vendor's headers: limit, what remains, and when it is full again."""
        until = (self._limit - self._left) * 60 / self._limit
        values = {"limit": f"{self._limit:.0f}", "remaining": f"{max(0, int(self._left))}"}
        if wire == "anthropic":
            values["reset"] = (self._clock.wall() + timedelta(seconds=until)).isoformat()
            return {f"anthropic-ratelimit-requests-{name}": value for name, value in values.items()}
        values["reset"] = f"{until:.3f}s"
        return {f"x-ratelimit-{name}-requests": value for name, value in values.items()}


class SimulatedServer:
    """A running simulator. `url` is its base URL, good for either SDK; `stats` its counts."""

    def __init__(
        self, profile: Profile, *, clock: Clock = SYSTEM, source: answers.Source | None = None
    ) -> None:
        self.profile = profile
        self.clock = clock
        self.stats = Stats()
        self.url = ""
        self.batcher = Batcher(Engine(profile.engine), clock) if profile.engine is not None else None
        self._source = source or answers.source(profile.answers, accuracy=profile.accuracy, seed=profile.seed)
        limit = profile.requests_per_minute
        self._quota = Quota(limit, clock) if limit is not None else None
        self._connections: set[Connection] = set()
        self._listening: asyncio.Server | None = None
        self._memo: dict[Memo, Reply] = {}

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises `ConfigError` when the port cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(partial(Connection, self), host, port, backlog=2048)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f"cannot listen on {host}:{port}: {reason}",
                kind="listen",
                hint="choose another --port, or 0 for a free one",
            ) from None
        bound = self._listening.sockets[0].getsockname()
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        self.url = f"http://{shown}:{bound[1]}"

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        listening = self._listening
        if listening is not None:
            # Accept no more, but stay open: Python 3.11 loses a connection that is made after `close()`.
            for bound in listening.sockets:
                asyncio.get_running_loop().remove_reader(bound.fileno())
        if self.batcher is not None:
            self.batcher.close()
        # A connection that was just accepted takes some turns until it is made, and one until it is lost.
        for _ in range(8):
            for connection in list(self._connections):
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)
        if listening is not None:
            listening.close()

    # --- what a connection asks for

    def opened(self, connection: Connection) -> None:
        """A connection was made."""
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)

    def ended(self, job: Job, how: str) -> None:
        """A reply is over."""
        if not job.counted:
            return
        stats = self.stats
        stats.active -= 1
        stats.statuses[job.reply.status] += 1
        if how == "completed":
            stats.completed += 1
        elif how == "cut":
            stats.cut += 1
        else:
            stats.aborted += 1

    def answer(self, asked: Asked) -> Job:
        """The job for a request: the one place where all is decided."""
        stats = self.stats
        if asked.path == "/stats":
            reply = Reply(200, (orjson.dumps(stats.shown()),))
            return Job(reply, reply.head({}), counted=False)
        stats.requests += 1
        number = stats.requests
        wire = _wire(asked)
        spoken = dialect(wire)
        headers = {_REQUEST_ID[wire]: f"req_sim{number:012d}"}
        try:
            job = self._decide(asked, spoken, number, headers)
        except _Refuse as refused:
            reply = error_reply(
                spoken, refused.status, refused.kind, refused.message, retry_after=refused.retry_after
            )
            job = _job(reply, headers)
        stats.active += 1
        stats.peak = max(stats.peak, stats.active)
        return job

    def full(self, asked: Asked) -> Job:
        """The job for a request that found the engine's queue full."""
        wire = _wire(asked)
        headers = {_REQUEST_ID[wire]: f"req_sim{self.stats.requests:012d}"}
        message = "the simulated engine's queue is full"
        return _job(error_reply(dialect(wire), 503, "overloaded", message, retry_after=1), headers)

    def _decide(self, asked: Asked, spoken: Dialect, number: int, headers: dict[str, str]) -> Job:
        profile = self.profile
        leaf = asked.path.rstrip("/").rpartition("/")[2]
        posts = leaf in ("completions", "messages")
        if not posts and leaf != "models":
            raise _Refuse(404, "not_found", f"no such path here: use {', '.join(_PATHS)}")
        if asked.method != ("POST" if posts else "GET"):
            raise _Refuse(405, "method", f"send {'POST' if posts else 'GET'} to this path")
        if profile.key is not None and not hmac.compare_digest(_key(asked).encode(), profile.key.encode()):
            raise _Refuse(401, "auth", "wrong or missing API key")
        if not posts:
            return _job(Reply(200, (orjson.dumps(_models(profile)),)), headers)
        if self._quota is not None:
            wait = self._quota.take()
            headers.update(self._quota.headers(spoken.name))
            if wait > 0:
                raise _Refuse(429, "rate_limited", "the simulated rate limit is reached", retry_after=wait)
        return self._post(asked, spoken, number, headers)

    def _post(self, asked: Asked, spoken: Dialect, number: int, headers: Mapping[str, str]) -> Job:
        profile = self.profile
        request = _read(asked, spoken)
        model, _, suffix = request.model.partition("+")
        request = replace(request, model=model)
        if profile.models and model not in profile.models:
            raise _Refuse(404, "not_found", f"no such model here: use {', '.join(profile.models)}")
        wanted = request.sampling
        if wanted.n is not None and not 1 <= wanted.n <= MAX_CHOICES:
            raise _Refuse(400, "bad_request", f"n must be from 1 to {MAX_CHOICES}")
        if wanted.max_tokens is not None and wanted.max_tokens < 1:
            raise _Refuse(400, "bad_request", "max_tokens must be 1 or more")
        rng = random.Random(f"{profile.seed}/{number}")  # noqa: S311 - reproducible, no secret
        fault = self._fault(suffix or asked.headers.get(FAULT_HEADER, ""), number, rng)
        texts = tuple(self._source(request, choice) for choice in range(wanted.n or 1))
        created = int(self.clock.wall().timestamp())
        name = f"{_ID_PREFIX[spoken.name]}sim"
        if fault is NONE and not profile.paced and len(asked.body) <= MEMO_BODY:
            key = (spoken.name, asked.body, texts, created)
            return _job(self._remembered(key, request, spoken, name, number), headers)
        composed = compose(request, profile, texts)
        reply = Writer(spoken, request, f"{name}{number:012d}", created, model or "sim").reply(
            composed, fault
        )
        if reply.status != 200 or reply.headless or not profile.paced:
            return _job(reply, headers)
        delay = 0.0
        if self.batcher is not None:
            delay = profile.pace(1, rng)[0]
            read = composed.usage.input_tokens - composed.usage.cached_tokens
            return _job(reply, headers, engine_tokens=read, delay=delay)
        return _job(reply, headers, pace=profile.pace(max(1, len(reply.ticks)), rng))

    def _remembered(self, key: Memo, request: Request, spoken: Dialect, name: str, number: int) -> Reply:
        """A reply that takes no time, written once for equal requests; only its id is ever new."""
        reply = self._memo.get(key)
        blank = f"{name}{0:012d}"
        if reply is None:
            writer = Writer(spoken, request, blank, key[3], request.model or "sim")
            reply = writer.reply(compose(request, self.profile, key[2]))
            reply = replace(reply, ticks=(b"".join(reply.ticks),))
            if len(self._memo) >= MEMO_SIZE:
                self._memo.clear()
            self._memo[key] = reply
        own = reply.ticks[0].replace(blank.encode(), f"{name}{number:012d}".encode())
        return replace(reply, ticks=(own,))

    def _fault(self, spec: str, number: int, rng: random.Random) -> Fault:
        try:
            asked_for = (Fault.parse(spec),) if spec else ()
        except ConfigError as error:
            raise _Refuse(400, "fault", str(error)) from None
        fault = choose((*asked_for, *self.profile.faults), number, rng)
        if fault is not NONE:
            self.stats.faults[fault.name] += 1
        return fault


@asynccontextmanager
async def simulate(
    profile: Profile | str = "instant",
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Clock = SYSTEM,
    source: answers.Source | None = None,
) -> AsyncGenerator[SimulatedServer]:
    """Run a simulated endpoint in this event loop; port 0 takes a free one.

    `profile` is a `Profile`, a built-in one's name or a file's path. `source` replaces the profile's answers
    by any function of (request, choice). On leaving, all connections are dropped. Raises `ConfigError`.
    """
    server = SimulatedServer(
        load(profile) if isinstance(profile, str) else profile, clock=clock, source=source
    )
    await server.start(host, port)
    try:
        yield server
    finally:
        await server.close()


_PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/models", "/stats")
_REQUEST_ID = {"openai_chat": "x-request-id", "anthropic": "request-id"}
_ID_PREFIX = {"openai_chat": "chatcmpl-", "anthropic": "msg_"}


class _Refuse(Exception):
    """A request that gets an HTTP error; never leaves this module."""

    def __init__(self, status: int, kind: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after = retry_after


def _wire(asked: Asked) -> str:
    anthropic = asked.path.rstrip("/").endswith("/messages") or "anthropic-version" in asked.headers
    return "anthropic" if anthropic else "openai_chat"


def _key(asked: Asked) -> str:
    """The key that came with a request, in either vendor's header."""
    return asked.headers.get("x-api-key") or asked.headers.get("authorization", "").removeprefix("Bearer ")


def _read(asked: Asked, spoken: Dialect) -> Request:
    try:
        body = orjson.loads(asked.body)
    except orjson.JSONDecodeError:
        raise _Refuse(400, "bad_request", "the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise _Refuse(400, "bad_request", "the body is no JSON object")
    try:
        return spoken.decode_request(body)
    except EndpointError as error:
        raise _Refuse(error.status or 400, error.kind, error.message) from None


def _job(
    reply: Reply,
    headers: Mapping[str, str],
    *,
    pace: list[float] | None = None,
    engine_tokens: int | None = None,
    delay: float = 0.0,
) -> Job:
    head = b"" if reply.headless else reply.head(headers)
    return Job(reply, head, pace or [], engine_tokens, delay)


def _models(profile: Profile) -> dict[str, object]:
    """The list of models, in one shape that both vendors' SDKs read."""
    names = profile.models or ("sim",)
    day = "2026-01-01T00:00:00Z"
    return {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": 1767225600,
                "owned_by": "simulate",
                "type": "model",
                "display_name": name,
                "created_at": day,
            }
            for name in names
        ],
        "has_more": False,
        "first_id": names[0],
        "last_id": names[-1],
    }
