"""How do several replicas share one limit, and what happens when Redis is gone?

Each decision is one Lua script on the server, with the server's time, so that neither two processes nor two
clocks can disagree. When Redis does not answer, calls go on in the mode that was declared:

- `closed`: every decision is refused (`Shed`, kind `store_gone`) until Redis is back. For hard budgets.
- `local_share`: each replica decides alone with 1/`replicas` of every limit. What was booked in Redis is not
  known here, so a budget may be spent again up to that share; what was booked here never reaches Redis.

Either way the journal says so (`flow` note `store_gone:MODE`), Redis is asked again at most every
`retry_every` seconds, and a decision that undoes an earlier one goes where that one was made. The log hears
once that it went, why, and that it is back. What a budget has to book for calls that ended meanwhile is kept
(`later`) and sent with the first decision after.

Needs the extra `redis` (`pip install "evalkit-guardrails[redis]"`).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from guardrails.call import Call
from guardrails.errors import ConfigError, Shed
from guardrails.flow.redis_away import Why, is_gone, needed, place, why
from guardrails.flow.store import LOCAL, SHARED, Decision, MemoryStore, background
from guardrails.telling import Spell

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")
log = logging.getLogger("guardrails")

OWED = 10_000
"""How many decisions are kept while Redis is away; beyond that, what was reserved waits for its lease."""


def connect(url: str, timeout: float) -> Redis:
    """A client for this event loop. `timeout` in seconds, for connecting and for each answer."""
    needed()
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    # One retry covers a pooled connection that the server closed meanwhile.
    retry = Retry(NoBackoff(), 1)
    try:
        client: Redis = Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=retry
        )
    except ValueError:
        raise ConfigError("the Redis url cannot be read", hint="redis://HOST:PORT/DB") from None
    return client


def check(url: str) -> None:
    """Raises `ConfigError` for what no call could use: without the package, or with a url of another kind."""
    connect(url, 1.0)  # only made, nothing is opened


class RedisStore:
    """Decisions that hold across processes. `timeout` is in seconds and bounds what a decision may take."""

    def __init__(
        self,
        url: str,
        *,
        when_gone: Literal["closed", "local_share"] = "closed",
        replicas: int = 1,
        timeout: float = 0.25,
        retry_every: float = 1.0,
    ) -> None:
        if replicas < 1:
            raise ConfigError(f"redis: replicas is {replicas}", hint="how many processes share the limits?")
        self._url = url
        self._mode = when_gone
        self._replicas = replicas
        self._timeout = timeout
        self._retry_every = retry_every
        self._local = MemoryStore()
        self._client: Redis | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gone_until = float("-inf")
        self._why = Why("it did not answer", "is Redis running there?")
        self._spell = Spell()
        self._owed: list[Decision[Any]] = []

    def __repr__(self) -> str:
        return f"RedisStore(when_gone={self._mode!r}, replicas={self._replicas})"  # a url may hold a password

    async def decide(self, decision: Decision[T], call: Call, /, where: str = "") -> tuple[T, str]:
        """Take the step in Redis, or what `when_gone` says."""
        if where != LOCAL and call.clock.now() >= self._gone_until:
            try:
                reply = await self._ask(decision)
                if self._spell.told:
                    self._back(call.clock.now())
                if self._owed:
                    background(self._pay())
                return decision.read(reply), SHARED
            except Exception as error:
                if not is_gone(error):
                    raise
                self._away(why(error), call.clock.now())
        if where != LOCAL:
            call.journal.note(call.clock.now(), "flow", f"store_gone:{self._mode}")
        if where == SHARED or self._mode == "closed":
            raise Shed(
                f"the Redis of shared limits at {place(self._url)} is away: {self._why.cause}",
                kind="store_gone",
                hint=f"{self._why.hint}; when_gone: local_share would go on without it",
                retry_after=self._retry_every,
            )
        return await self._local.decide(decision.share(self._replicas), call, LOCAL)

    def _away(self, reason: Why, now: float) -> None:
        """Redis did not do its work: ask it again later, and tell the log, once."""
        self._why = reason
        self._gone_until = now + self._retry_every
        if self._spell.goes_on(reason.cause, now):
            log.warning(
                "the Redis of shared limits at %s is away (%s); until it is back calls go by when_gone: %s "
                "– %s",
                place(self._url),
                reason.cause,
                self._mode,
                reason.hint,
            )

    def _back(self, now: float) -> None:
        if self._spell.over():
            gone = now - self._spell.since
            log.warning("the Redis of shared limits at %s is back after %.0f s", place(self._url), gone)

    def later(self, decision: Decision[Any], /) -> None:
        """Send it when Redis answers again."""
        if len(self._owed) < OWED:
            self._owed.append(decision)

    async def _pay(self) -> None:
        """Send what is owed, in its order. What cannot be sent now is owed on."""
        owed, self._owed = self._owed, []
        for at, decision in enumerate(owed):
            try:
                await self._ask(decision)
            except Exception as error:
                if is_gone(error):
                    self._owed = owed[at:] + self._owed
                    return
                log.warning("Redis would not take what was owed to it (%s)", type(error).__name__)

    async def _ask(self, decision: Decision[Any]) -> Any:
        from redis.exceptions import NoScriptError

        client = self._pool()
        keys, args = decision.keys, decision.args
        try:
            return await client.evalsha(_digest(decision.script), len(keys), *keys, *args)
        except NoScriptError:
            return await client.eval(decision.script, len(keys), *keys, *args)

    def _pool(self) -> Redis:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = connect(self._url, self._timeout), loop
        return self._client

    async def aclose(self) -> None:
        """Send what is owed if Redis answers, and close the connections of this event loop.

        The store can be used again afterwards.
        """
        if self._owed:
            await self._pay()
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()


def _digest(script: str) -> str:
    import hashlib

    known = _digests.get(script)
    if known is None:
        known = _digests[script] = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    return known


_digests: dict[str, str] = {}
