"""An inference endpoint over HTTP, streamed as SSE or whole.

How bytes travel is in `guardrails.endpoints.transports`: over aiohttp by default, over any of httpx's
transports by choice. Their errors become ours here and nowhere else.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from guardrails.call import Attempt, Call, Event, Request
from guardrails.clock import Clock, Expired, Watchdog
from guardrails.dialects import Dialect, dialect
from guardrails.endpoints.address import Key, check_headers, check_variable, key_for, key_hint, target
from guardrails.endpoints.address import causes as root_causes
from guardrails.endpoints.opening import Batches, Timeouts, open_events
from guardrails.endpoints.ratelimits import reported
from guardrails.endpoints.transports import Httpx, Reply, Transport, decompressed, parsed, pool
from guardrails.errors import ConfigError, GuardrailsError, Interrupted, Refused, Transient
from guardrails.handler import Opening

if TYPE_CHECKING:
    import httpx

MAX_ERROR_BODY = 64 * 1024
DRAIN_SECONDS = 0.25
MAX_WHOLE_BODY = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Where an endpoint is and how to speak to it.

    `url` is the base (`https://api.openai.com/v1`); the dialect adds its path. `key` is a secret itself or a
    callable that gives it (asked at every call, so that keys can rotate); `key_env` names an environment
    variable. With neither, a known vendor's variable is used for that vendor's host only. `leniency` names
    departures from the dialect that are accepted (`dialect.leniencies`). `connect_timeout` in seconds.
    """

    url: str
    model: str = ""
    name: str = ""
    dialect: str = "openai_chat"
    key: Key = field(default=None, repr=False, compare=False)
    key_env: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeouts: Timeouts = Timeouts()
    connect_timeout: float = 10.0
    leniency: frozenset[str] = frozenset()
    transport: Literal["aiohttp", "httpx"] = "aiohttp"
    ask_usage: bool = True


class HttpEndpoint:
    """A `Handler` for one model at one URL. Connections are pooled per event loop; `aclose()` frees them."""

    def __init__(self, config: HttpConfig, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.config = config
        self._dialect: Dialect = dialect(config.dialect)
        self._url = target(config.url, self._dialect.path)
        check_headers(config.headers)
        check_variable(config.key_env)
        self.name = config.name or config.model or self._url.split("/")[2]
        unknown = sorted(config.leniency - set(self._dialect.leniencies))
        if unknown:
            allowed = ", ".join(sorted(self._dialect.leniencies)) or "none"
            raise ConfigError(
                f"{self.name}: unknown leniency {', '.join(unknown)}", hint=f"allowed: {allowed}"
            )
        for module in ("orjson", "httpx" if transport else config.transport):
            importlib.import_module(module)  # now, so that the first call's time is its own
        if config.transport == "httpx":
            parsed(self._url)
        self._given = None if transport is None else Httpx(transport, self._url, config.connect_timeout)
        self._headers = {name.lower(): value for name, value in config.headers.items()}
        self._transport: Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"HttpEndpoint({self.name!r}, {self.config.model!r})"

    def __call__(self, call: Call) -> Opening:
        """Open the stream for `call`."""
        return open_events(
            call,
            endpoint=self.name,
            model=call.request.model or self.config.model,
            source=lambda attempt: self._batches(call, attempt),
            timeouts=self.config.timeouts,
        )

    async def aclose(self) -> None:
        """Close the pooled connections. The endpoint can be used again afterwards."""
        transport, self._transport = self._transport, None
        if transport is not None and self._loop is asyncio.get_running_loop():
            await transport.aclose()

    async def _batches(self, call: Call, attempt: Attempt) -> Batches:
        entered = False
        posted = await self._request(call.request)
        transport = self._pool()
        try:
            async with self._respond(transport, posted, call, attempt) as reply:
                if _media_type(reply) == "application/json" or not call.request.stream:
                    yield await self._whole(reply, call, attempt)
                    return
                decoder = self._dialect.decoder(self.config.leniency)
                async with _reading(reply) as chunks:
                    async for data in chunks:
                        events = decoder.feed(data)
                        if events:
                            if not entered:
                                entered = True
                                attempt.note(
                                    call.clock.now(), "reported", (decoder.model, decoder.response_id)
                                )
                            yield events
                        if decoder.done:
                            break
                    if events := decoder.close():
                        yield events
                    if not reply.ended:
                        await _drain(chunks, call.clock)
        except GuardrailsError:
            raise
        except transport.errors as error:
            raise _network_error(error, self._url, entered=entered) from None

    @asynccontextmanager
    async def _respond(
        self, transport: Transport, posted: tuple[dict[str, str], bytes], call: Call, attempt: Attempt
    ) -> AsyncGenerator[Reply]:
        clock = call.clock
        reply = await transport.post(*posted, lambda: attempt.note(clock.now(), "connected"))
        try:
            told = reply.headers
            attempt.note(clock.now(), "headers", (reply.status, _request_id(told)))
            if _tells_limits(told) and (limits := reported(told, clock.wall())):
                attempt.note(clock.now(), "limits", limits)
            if reply.status != 200:
                raise await self._refusal(reply, transport.errors)
            if _media_type(reply) == "text/html":
                raise Refused(
                    "the server answered with a web page, not with an inference answer",
                    kind="not_inference",
                    hint="check the base URL: it usually ends in /v1",
                )
            yield reply
        finally:
            await reply.aclose()

    async def _request(self, request: Request) -> tuple[dict[str, str], bytes]:
        """What to post: headers and body."""
        import orjson

        config = self.config
        key = await key_for(config.key, config.key_env, self._url)
        if not request.model and config.model:
            request = replace(request, model=config.model)
        body = self._dialect.encode_request(request)
        if request.stream and config.ask_usage:
            body = self._dialect.ask_usage(body)
        headers = {
            **self._dialect.headers(key),
            "content-type": "application/json",
            "accept": "text/event-stream" if request.stream else "application/json",
            "accept-encoding": "identity",
            "user-agent": "evalkit-guardrails",
            **self._headers,
        }
        return headers, orjson.dumps(body)

    async def _whole(self, reply: Reply, call: Call, attempt: Attempt) -> list[Event]:
        import orjson

        raw = await _read(reply, MAX_WHOLE_BODY)
        try:
            body = orjson.loads(raw)
        except ValueError:
            raise Interrupted("the answer is not valid JSON", kind="malformed") from None
        if not isinstance(body, dict):
            raise Interrupted("the answer is JSON but not an object", kind="malformed")
        events, model, response_id = self._dialect.decode_response(body)
        attempt.note(call.clock.now(), "reported", (model, response_id))
        return events

    async def _refusal(self, reply: Reply, errors: tuple[type[Exception], ...]) -> GuardrailsError:
        status = reply.status
        if 300 <= status < 400:
            return Refused(
                f"the server redirects (HTTP {status})",
                kind="redirect",
                status=status,
                hint="use the final address as base URL; keys do not follow redirects",
            )
        body = b""
        with suppress(Interrupted, *errors):  # or the status alone has to do
            body = await _read(reply, MAX_ERROR_BODY)
        headers = {name.lower(): value for name, value in reply.headers.items()}
        error = self._dialect.decode_error(status, headers, body)
        if error.kind == "auth":
            error.hint = key_hint(self.config.key, self.config.key_env, self._url, error.hint)
        return error

    def _pool(self) -> Transport:
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if self._transport is None or self._loop is not loop:
            # Sockets belong to the loop that opened them; a second `asyncio.run` gets a pool of its own.
            self._transport = pool(self.config.transport, self._url, self.config.connect_timeout)
            self._loop = loop
        return self._transport


def _request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's name for the request, as text that can be written down."""
    told = headers.get("x-request-id") or headers.get("request-id")
    return None if told is None else told.encode("utf-8", "replace").decode()


def _tells_limits(headers: Mapping[str, str]) -> bool:
    """Whether to look for rate limits, each of which has a name of its own."""
    return any("ratelimit-remaining" in name.lower() for name in headers)


def _media_type(reply: Reply) -> str:
    return reply.headers.get("content-type", "").partition(";")[0].strip().lower()


@asynccontextmanager
async def _reading(reply: Reply) -> AsyncGenerator[AsyncIterator[bytes]]:
    """The body as it arrives; decompressed if the server compressed it although it was asked not to."""
    chunks = reply.chunks()
    if encodings := reply.encodings:
        chunks = decompressed(chunks, encodings)
    try:
        yield chunks
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


async def _drain(chunks: AsyncIterator[bytes], clock: Clock) -> None:
    """Read the end of a body whose answer is complete, so that its connection can be used again.

    A server that keeps the connection open instead loses it: the answer does not wait for that.
    """
    watchdog = Watchdog(clock)
    try:
        with watchdog.limit("drain", DRAIN_SECONDS):
            async for _ in chunks:
                pass
    except Expired:
        pass
    finally:
        watchdog.close()


async def _read(reply: Reply, limit: int) -> bytes:
    pieces, size = [], 0
    async with _reading(reply) as chunks:
        async for data in chunks:
            size += len(data)
            if size > limit:
                raise Interrupted(f"the answer is larger than {limit // 2**20 or 1} MiB", kind="oversized")
            pieces.append(data)
    return b"".join(pieces)


def _network_error(error: Exception, url: str, *, entered: bool) -> GuardrailsError:
    """A transport's (or the socket's) error as ours, told apart by what lies at its root."""
    host = url.split("/")[2]
    causes = list(root_causes(error))
    names = {type(cause).__name__ for cause in causes}
    if entered:
        return Interrupted("the connection broke in mid-answer", kind="reset")
    if any(isinstance(cause, socket.gaierror) for cause in causes) or "ClientConnectorDNSError" in names:
        return Transient(f"the name of {host} cannot be resolved", kind="dns", hint="check the URL and DNS")
    if any(map(_is_of_tls, causes)) or "ClientConnectorCertificateError" in names:
        return _insecure(host, causes)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return Transient(f"{host} refuses connections", kind="connect", hint="is the server running there?")
    # httpx-aiohttp, if one uses it, calls every lost connection a ConnectTimeout: what aiohttp said counts.
    told_by_aiohttp = any(type(cause).__module__.startswith("aiohttp") for cause in causes)
    if ("ConnectionTimeoutError" if told_by_aiohttp else "ConnectTimeout") in names:
        return Transient(f"connecting to {host} took too long", kind="connect_timeout")
    if "ConnectError" in names or "ClientConnectorError" in names:
        return Transient(f"cannot connect to {host}", kind="connect")
    if any(map(_is_no_http, causes)):
        return Refused(
            f"what {host} answers is no valid HTTP",
            kind="not_inference",
            hint="check the port; a server that speaks TLS has a url that begins with https://",
        )
    return Transient(f"{host} closed the connection before it answered", kind="reset")


def _is_no_http(cause: BaseException) -> bool:
    """Whether a parser, aiohttp's or httpx's (h11), met something else."""
    if type(cause).__module__.startswith("h11"):
        return str(cause).startswith(("illegal", "bad"))  # its other errors are of broken connections
    names = {base.__name__ for base in type(cause).__mro__}
    return "BadHttpMessage" in names and "PayloadEncodingError" not in names  # a body that was cut off


def _is_of_tls(cause: BaseException) -> bool:
    """Whether TLS failed, and does not just wait for bytes that never came."""
    return isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLWantReadError)


def _insecure(host: str, causes: list[BaseException]) -> Transient:
    """No TLS with that host: OpenSSL's own word on why, which quotes nothing but the host's name."""
    verdicts = [str(getattr(cause, "verify_message", "") or "").rstrip(".") for cause in causes]
    reasons = [str(getattr(cause, "reason", "") or "").replace("_", " ").lower() for cause in causes]
    said = next(filter(None, verdicts), "")
    if not said:
        said = next(filter(None, reasons), "")
        hint = "does it speak TLS there? if not, the url begins with http://"
    elif "mismatch" in said.lower():
        hint = "its certificate is for another name: check the host in the url"
    elif "expired" in said or "not yet valid" in said:
        hint = "renew its certificate, or set this machine's clock right"
    else:
        hint = "if you trust who signed it, name a file with that certificate in SSL_CERT_FILE"
    return Transient(f"no secure connection to {host}{f': {said}' if said else ''}", kind="tls", hint=hint)
