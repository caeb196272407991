"""How do a request's bytes go out, and an answer's come in? One small interface, over aiohttp or over httpx.

aiohttp is spoken to directly: at 256 concurrent streams it needs a fortieth of the CPU of httpx's own pool,
and httpx's requests and responses around it would cost a quarter of a call. Any `httpx.AsyncBaseTransport`
does it by choice: for a proxy or a network of one's own, and for tests (`httpx.MockTransport`).

No cookies, no redirects (a key must not follow one), no second retry logic, no limit on open calls: how many
run at once is the flow layers' decision, and it is measured there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol
from urllib import request as environment

from guardrails.errors import ConfigError, Interrupted

if TYPE_CHECKING:
    import aiohttp
    import httpx
    from yarl import URL

MAX_LINE = 65_536
"""Bytes of a line before the body, at most."""

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

    @property
    def encodings(self) -> list[str]:
        """How the body is said to be compressed, in lower case; empty where it is as it is."""

    @property
    def ended(self) -> bool:
        """Whether the body is known to have been read to its end."""

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
        """Free the connections; whoever still reads from one is told that it broke."""


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
        self._proxy = proxy(self._url)
        self._open: set[aiohttp.ClientResponse] = set()
        self._session = aiohttp.ClientSession(
            connector=_connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
            auto_decompress=False,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            # It would send what ~/.netrc has for the host, and look its proxy up at every request (0.4 ms).
            trust_env=False,
        )

    async def post(self, headers: Mapping[str, str], body: bytes, connected: Told) -> Reply:
        told = _TOLD.set(connected)
        try:
            response = await self._session.post(
                self._url, headers=headers, data=body, allow_redirects=False, proxy=self._proxy
            )
            return _AiohttpReply(response, self._open)
        finally:
            _TOLD.reset(told)

    async def aclose(self) -> None:
        for response in list(self._open):
            response.close()
        await self._session.close()


def proxy(url: URL) -> URL | None:
    """The proxy that the environment names for an address. Raises `ConfigError` for one that is none."""
    from yarl import URL

    named = environment.getproxies_environment()
    given = named.get(url.scheme) or named.get("all")
    spares = environment.proxy_bypass_environment  # type: ignore[attr-defined] # typeshed does not know it
    if not given or any(spares(host, named) for host in (url.host, f"{url.host}:{url.port}")):
        return None
    try:
        found = URL(given)
    except ValueError:
        found = URL()
    if found.scheme not in ("http", "https") or not found.host:  # it may have a password: not quoted
        raise ConfigError(
            f"the proxy that the environment names for {url.scheme}:// cannot be used",
            hint="it must look like http://host:port; NO_PROXY names the hosts that need none",
        )
    return found


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
    __slots__ = ("_open", "_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, open_: set[aiohttp.ClientResponse]) -> None:
        self._response = response
        self._open = open_
        open_.add(response)
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    @property
    def encodings(self) -> list[str]:
        return _encodings(self._response.headers.getall("content-encoding", ()))

    @property
    def ended(self) -> bool:
        return self._response.content.at_eof()

    def chunks(self) -> AsyncIterator[bytes]:
        return self._response.content.iter_any()

    async def aclose(self) -> None:
        self._open.discard(self._response)
        self._response.release()
        await self._response.wait_for_close()


# --- httpx -------------------------------------------------------------------------------------------------


def parsed(url: str) -> httpx.URL:
    """An address as httpx has it. Raises `ConfigError` for one that it takes for none."""
    import httpx

    try:
        return httpx.URL(url)
    except httpx.InvalidURL:
        raise ConfigError(
            "httpx can make no address of an endpoint's url", hint="write its host as IDNA has it (xn--…)"
        ) from None


class Httpx:
    """Any of httpx's transports."""

    def __init__(self, transport: httpx.AsyncBaseTransport, url: str, connect_timeout: float) -> None:
        import httpx

        self.errors: tuple[type[Exception], ...] = (httpx.HTTPError, httpx.StreamError, OSError)
        self._transport = transport
        self._url = parsed(url)
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

    @property
    def encodings(self) -> list[str]:
        return _encodings(self._response.headers.get_list("content-encoding"))

    @property
    def ended(self) -> bool:
        return False

    def chunks(self) -> AsyncIterator[bytes]:
        return self._response.stream.__aiter__()  # type: ignore[union-attr] # transports here are async

    async def aclose(self) -> None:
        await self._response.aclose()


# --- compressed bodies, though nobody asked for them -------------------------------------------------------


def _encodings(told: Iterable[str]) -> list[str]:
    named = (word.strip().lower() for each in told for word in each.split(","))
    return [word for word in named if word not in ("", "identity")]


async def decompressed(chunks: AsyncIterator[bytes], encodings: Sequence[str]) -> AsyncGenerator[bytes]:
    """A body as it was before its server compressed it, once: twice, a page would become terabytes."""
    import httpx

    (encoding, *more) = encodings
    if more or not encoding.isascii():
        raise Interrupted("the answer is compressed in a way that is not read", kind="malformed")

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
