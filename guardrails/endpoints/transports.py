"""How do a request's bytes go out, and an answer's come in? One small interface, over aiohttp or over httpx.

aiohttp is spoken to directly: at 256 concurrent streams it needs a fortieth of the CPU of httpx's own pool,
and httpx's requests and responses around it would cost a quarter of a call. Any `httpx.AsyncBaseTransport`
does it by choice: for a proxy or a network of one's own, and for tests (`httpx.MockTransport`).

No cookies, no redirects (a key must not follow one), no second retry logic, no limit on open calls: how many
run at once is the flow layers' decision, and it is measured there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol
from urllib.request import getproxies_environment

from guardrails.errors import Interrupted

if TYPE_CHECKING:
    import aiohttp
    import httpx

SLICE = 4096
"""Compressed bytes that are unpacked at a time: a few make a thousand times as many, all at once."""

Told = Callable[[], None]
"""Called when a connection is ready."""


class Reply(Protocol):
    """An answer whose head has come. `headers` are looked up in any case; its body is as it was sent."""

    @property
    def status(self) -> int:
        """HTTP's status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What came before the body."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, perhaps still compressed."""

    async def aclose(self) -> None:
        """Give the connection back; one whose body was not read to its end is closed."""


class Transport(Protocol):
    """Posts to one address. `errors` are what it raises when the network fails."""

    errors: tuple[type[Exception], ...]

    async def post(self, headers: Mapping[str, str], body: bytes, connected: Told) -> Reply:
        """Send a request; the reply once its head is there."""

    async def aclose(self) -> None:
        """Free the connections."""


def pool(name: str, url: str, connect_timeout: float) -> Transport:
    """`aiohttp`, or `httpx` with its own pool, made in the loop that will use it. The time is in seconds."""
    if name == "aiohttp":
        return _Aiohttp(url, connect_timeout)
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return Httpx(httpx.AsyncHTTPTransport(limits=limits), url, connect_timeout)


# --- aiohttp -----------------------------------------------------------------------------------------------

_TOLD: ContextVar[Told | None] = ContextVar("guardrails.told", default=None)


class _Aiohttp:
    def __init__(self, url: str, connect_timeout: float) -> None:
        import aiohttp
        from yarl import URL

        self.errors: tuple[type[Exception], ...] = (aiohttp.ClientError, OSError)
        self._url = URL(url)  # parsed once: it takes as long as all else here
        self._session = aiohttp.ClientSession(
            connector=_connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
            auto_decompress=False,
            # It looks its proxy up in the environment at every request (0.4 ms), so only if there is one.
            trust_env=bool(getproxies_environment()),
        )

    async def post(self, headers: Mapping[str, str], body: bytes, connected: Told) -> Reply:
        told = _TOLD.set(connected)
        try:
            return _AiohttpReply(
                await self._session.post(self._url, headers=headers, data=body, allow_redirects=False)
            )
        finally:
            _TOLD.reset(told)

    async def aclose(self) -> None:
        await self._session.close()


def _connector() -> aiohttp.TCPConnector:
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        """Says when a connection is ready."""

        async def connect(self, *args: Any, **options: Any) -> Any:
            connection = await super().connect(*args, **options)
            if (connected := _TOLD.get()) is not None:
                connected()
            return connection

    return Connector(limit=0, limit_per_host=0)


class _AiohttpReply:
    __slots__ = ("_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    def chunks(self) -> AsyncIterator[bytes]:
        return self._response.content.iter_any()

    async def aclose(self) -> None:
        self._response.release()
        await self._response.wait_for_close()


# --- httpx -------------------------------------------------------------------------------------------------


class Httpx:
    """Any of httpx's transports."""

    def __init__(self, transport: httpx.AsyncBaseTransport, url: str, connect_timeout: float) -> None:
        import httpx

        self.errors: tuple[type[Exception], ...] = (httpx.HTTPError, httpx.StreamError, OSError)
        self._transport = transport
        self._url = httpx.URL(url)
        limits = {"connect": connect_timeout, "pool": None, "read": None, "write": None}
        self._extensions = {"timeout": limits}

    async def post(self, headers: Mapping[str, str], body: bytes, connected: Told) -> Reply:
        """Send a request. httpx does not say when a connection is ready."""
        import httpx

        request = httpx.Request(
            "POST", self._url, headers=dict(headers), content=body, extensions={**self._extensions}
        )
        return _HttpxReply(await self._transport.handle_async_request(request))

    async def aclose(self) -> None:
        """Free the connections."""
        await self._transport.aclose()


class _HttpxReply:
    __slots__ = ("_response", "headers", "status")

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def chunks(self) -> AsyncIterator[bytes]:
        return self._response.stream.__aiter__()  # type: ignore[union-attr] # transports here are async

    async def aclose(self) -> None:
        await self._response.aclose()


async def decompressed(chunks: AsyncIterator[bytes], encoding: str) -> AsyncGenerator[bytes]:
    """A body as it was before its server compressed it (`encoding` as HTTP calls it)."""
    import httpx

    async def sliced() -> AsyncGenerator[bytes]:
        async for data in chunks:
            for at in range(0, len(data), SLICE):
                yield data[at : at + SLICE]

    whole = httpx.Response(200, headers={"content-encoding": encoding}, content=sliced())
    try:
        async for data in whole.aiter_bytes():
            yield data
    except httpx.DecodingError:
        raise Interrupted("the answer is not compressed in the way it says", kind="malformed") from None
